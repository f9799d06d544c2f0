"""The forms of pictures that models are trained in: MNIST's, EMNIST's, and none."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .morphology import Bytes, Mask, blurred, box_of, longest, resized, widened

__all__ = ["fit", "has_form", "whole"]

Shape = tuple[int, int]

_WIDTH = 0.1  # least width of a stroke over the digit's longest side; MNIST's are 0.08 to 0.19 (5 % and 95 %)
_SOFT = 0.01  # deviation of EMNIST's blur over the digit's longest side: 1 pixel of a digit of about 100


class _Form(NamedTuple):
    box: float  # the longest side of the ink, over that of the picture
    by_mass: bool  # whether the centre of mass is in the middle, or that of the box


_FORMS = {"mnist": _Form(20 / 28, True), "emnist": _Form(24 / 28, False)}


def has_form(grey: Bytes, form: str, shape: Shape) -> Bytes | None:
    """The picture itself, white on black, if it has the form: the size, the box, the centre, the full ink."""
    if grey.shape != shape:
        return None
    image = grey if np.median(grey) < 128 else 255 - grey
    if image.max() < 200 or np.median(image) > 16:
        return None
    ends = [(a[0], a[-1] + 1) for a in (np.flatnonzero((image > 64).any(axis)) for axis in (1, 0))]
    share = max((stop - start) / side for (start, stop), side in zip(ends, shape, strict=True))
    if _FORMS[form].by_mass:
        off = [(c - side // 2) / side for c, side in zip(_centre(image), shape, strict=True)]
    else:
        off = [((start + stop) / 2 - side / 2) / side for (start, stop), side in zip(ends, shape, strict=True)]
    near = 28 * max(map(abs, off)) < (1 if _FORMS[form].by_mass else 1.25)
    return image.copy() if near and 28 * abs(share - _FORMS[form].box) < 2.01 else None


def fit(digit: Mask, form: str, shape: Shape) -> Bytes:
    """Ink as a form has it: no thinner strokes than MNIST's, its box filled, the centre in the middle.

    digit : which pixels are ink, the longest side some 200 pixels.
    """
    side = int(longest(box_of(digit)))
    digit = np.pad(digit, side // 5)
    soft = blurred(digit.astype(np.float32))
    # A long strip's area is width times length, and its perimeter twice its length.
    width = 2 * float(soft.sum()) / float(np.hypot(*np.gradient(soft)).sum())
    missing = _WIDTH * side - width
    digit = widened(digit, round(missing / (2 * (1 - _WIDTH))))
    top, bottom, left, right = box_of(digit)
    ink = 255 * digit[top:bottom, left:right].astype(np.uint8)
    scale = min(_FORMS[form].box * side / own for side, own in zip(shape, ink.shape, strict=True))
    if _FORMS[form].by_mass:
        small = resized(ink, scale)
        small *= 255 / small.max()
        return _laid(np.rint(small).astype(np.uint8), _centre(small), shape)
    return _of_emnist(ink, scale, shape)


def _laid(small: Bytes, centre: list[float], shape: Shape) -> Bytes:
    """Ink on black, its centre in the middle. What is heavy on one side may reach over the edge, and is cut off."""
    page = np.zeros([side + 2 * own for side, own in zip(shape, small.shape, strict=True)], np.uint8)
    y, x = (own + round(side // 2 - middle) for side, own, middle in zip(shape, small.shape, centre, strict=True))
    page[y : y + small.shape[0], x : x + small.shape[1]] = small
    (height, width), (above, before) = shape, small.shape
    cut: Bytes = page[above : above + height, before : before + width]
    return cut


def _centre(image: NDArray[Any]) -> list[float]:
    """The centre of mass, (y, x), in pixels."""
    weights = image.astype(np.float64) / image.sum(dtype=np.float64)
    return [float(weights.sum(axis=1 - axis) @ np.arange(n)) for axis, n in enumerate(image.shape)]


def _of_emnist(ink: Bytes, scale: float, shape: Shape) -> Bytes:
    """Blurred, cropped, padded to the picture's aspect with a border, and resized bicubically.

    Source: Cohen, Afshar, Tapson and van Schaik 2017, "EMNIST: extending MNIST to handwritten letters", section II.
    """
    from PIL import Image, ImageFilter

    canvas = np.zeros([max(own, round(side / scale)) for side, own in zip(shape, ink.shape, strict=True)], np.uint8)
    y, x = ((side - own) // 2 for side, own in zip(canvas.shape, ink.shape, strict=True))
    canvas[y : y + ink.shape[0], x : x + ink.shape[1]] = ink
    soft = Image.fromarray(canvas).filter(ImageFilter.GaussianBlur(_SOFT * max(ink.shape)))
    small = np.asarray(soft.resize(shape[::-1], Image.Resampling.BICUBIC), np.float32)
    full: Bytes = np.rint(small * (255 / small.max())).clip(0, 255).astype(np.uint8)
    return full


def whole(grey: Bytes, shape: Shape) -> Bytes:
    """A picture as it is if it has the shape, else resized to lie within it, its aspect kept, on its border's grey.

    One whose border is light is inverted then: in the sets that have no form, Fashion-MNIST first, ground is black.
    """
    if grey.shape == shape:
        return grey.copy()
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ground = int(np.median(border))
    if ground >= 128:
        grey, ground = 255 - grey, 255 - ground
    scale = min(side / own for side, own in zip(shape, grey.shape, strict=True))
    small = np.rint(resized(grey, scale)).clip(0, 255).astype(np.uint8)
    page = np.full(shape, ground, np.uint8)
    y, x = ((side - own) // 2 for side, own in zip(shape, small.shape, strict=True))
    page[y : y + small.shape[0], x : x + small.shape[1]] = small
    return page
