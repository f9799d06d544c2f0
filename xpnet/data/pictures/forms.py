"""The forms of pictures that models are trained in: MNIST's, EMNIST's, and none."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .morphology import Bytes, Floats, Mask, blurred, box_of, longest, resized, widened

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
    """Ink as a form has it: no thinner strokes than MNIST's, its box filled, the centre in the middle; as-is, shrunk.

    Every sum is one of whole numbers below 2^53, every other step a single operation of float64, so that a page's
    JavaScript, which repeats them (xpnet/export/page/forms.js), finds the same bits.

    digit : which pixels are ink, at least one, the longest side some 200 pixels.
    """
    if form == "as-is":
        share = _shrunk(digit, [_shares(n, own) for n, own in zip(shape, digit.shape, strict=True)])
        full: Bytes = np.rint(255 * share / digit.size).astype(np.uint8)
        return full
    side = int(longest(box_of(digit)))
    digit = np.pad(digit, side // 5 + 3)
    # A long strip's area is width times length, and its perimeter twice its length.
    missing = _WIDTH * side - 2 * int(digit.sum()) / _perimeter(digit)
    digit = widened(digit, round(missing / (2 * (1 - _WIDTH))))
    top, bottom, left, right = box_of(digit)
    ink = digit[top:bottom, left:right]
    scale = min(_FORMS[form].box * side / own for side, own in zip(shape, ink.shape, strict=True))
    if not _FORMS[form].by_mass:
        return _of_emnist(ink, scale, shape)
    small = _shrunk(ink, [_shares(max(1, round(own * scale)), own) for own in ink.shape])
    return _laid(_full(small), _centre(small), shape)


def _perimeter(mask: Mask) -> float:
    """The length of the outline of a mask, whose border is empty: how much its blurred picture changes, all in all."""
    dy, dx = np.gradient(blurred(mask.astype(np.float64)))
    # In whole millionths of a pixel, whose sum is the same in any order.
    return float(np.floor(2.0**20 * np.sqrt(dx * dx + dy * dy) + 0.5).sum()) / 2.0**20


def _shares(n: int, size: int) -> Floats:
    """(n, size) whole numbers: how much of each of size pixels lies in each of n equal parts; size in each row."""
    parts, pixels = size * np.arange(n + 1.0), n * np.arange(size + 1.0)
    low, high = np.maximum(parts[:-1, None], pixels[:-1]), np.minimum(parts[1:, None], pixels[1:])
    overlaps: Floats = (high - low).clip(0)
    return overlaps


def _shrunk(ink: Mask, weights: list[Floats]) -> Floats:
    """The sums of ink with some weights of its rows, and of its columns."""
    rows, columns = weights
    small: Floats = rows @ ink.astype(np.float64) @ columns.T
    return small


def _full(small: Floats) -> Bytes:
    """Sums of ink as bytes, of which the largest is 255."""
    full: Bytes = np.rint(255 * small / small.max()).astype(np.uint8)
    return full


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
    total = float(image.sum(dtype=np.float64))
    sums = (image.sum(axis=1 - axis, dtype=np.float64) for axis in (0, 1))
    return [float(along @ np.arange(len(along))) / total for along in sums]


def _of_emnist(ink: Mask, scale: float, shape: Shape) -> Bytes:
    """Blurred, padded to the picture's aspect with a border, and resized bicubically.

    Source: Cohen, Afshar, Tapson and van Schaik 2017, "EMNIST: extending MNIST to handwritten letters", section II.
    """
    blurs = round(2 * (_SOFT * max(ink.shape)) ** 2)  # each of them has a variance of half a pixel
    weights = []
    for side, own in zip(shape, ink.shape, strict=True):
        size = max(own, round(side / scale))
        before = (size - own) // 2
        weights.append(_cubic(side, size, blurs)[:, before : before + own])
    # The filter overshoots at edges; ink is no whiter than white.
    return _full(_shrunk(ink, weights).clip(0, 2.0**40))


def _cubic(n: int, size: int, blurs: int) -> Floats:
    """(n, size) weights with which size pixels, blurred by [1 2 1] / 4 so often, are resized to n with bicubic filter.

    They are whole numbers, about 2^20 in each row.
    Source: Keys 1981, "Cubic convolution interpolation for digital image processing", a = -1/2; widened to shrink.
    """
    scale = max(1.0, size / n)
    x = np.abs((np.arange(size) + 0.5 - (np.arange(n)[:, None] + 0.5) * (size / n)) / scale)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights: Floats = np.rint(2.0**20 * np.where(x < 1, near, np.where(x < 2, far, 0)))
    weights = 2.0**20 * weights / weights.sum(axis=1, keepdims=True)
    for _ in range(blurs):
        padded = np.pad(weights, ((0, 0), (1, 1)))
        weights = (padded[:, :-2] + padded[:, 2:]) / 4 + weights / 2
    rounded: Floats = np.rint(weights)
    return rounded


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
