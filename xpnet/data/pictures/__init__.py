"""Pictures of digits, or of anything else, brought into the form that a model was trained in.

MNIST's digits are black-and-white scans, shrunk with anti-aliasing into a box of 20x20 pixels and placed in 28x28 with
their centre of mass in the middle; EMNIST's fill 24 of 28 pixels and are centred by their box. Other sets have no form:
their pictures are taken as they are.
"""

import os
from typing import NamedTuple

import numpy as np

from xpnet.checks import check_one_of
from xpnet.data.schema import FORMS
from xpnet.errors import ConfigError, DataError

from .decoding import decode
from .forms import fit, has_form, whole
from .locating import Located, ink_of, locate
from .morphology import Bytes, Floats, Mask
from .paging import digits_on, is_wide

__all__ = ["Found", "from_ink", "read_page", "read_picture", "to_form"]

MAX_SIDE = 2048
"""Of an image, in pixels: as long as what is kept of a photograph."""


def read_picture(path: str | os.PathLike[str], form: str = "mnist", shape: tuple[int, int] = (28, 28)) -> Bytes:
    """Read a picture in the form that a model was trained in.

    path : a PNG, JPEG, WebP, BMP or TIFF (its first page), GIF (its first frame) or, with pillow-heif installed, HEIC:
        up to 50 megapixels, fewer where the format cannot be read in a smaller size (see headers.py); any colours,
        upright or as its EXIF orientation says; strokes may lie on transparent ground.
    form : "mnist" or "emnist" for a picture of one digit, dark on light or light on dark; "as-is" for one that is
        wanted whole, its colours as grey.
    shape : (height, width) of the result.
    Returns (height, width) uint8, white (255) on black (0) but for "as-is": see to_form.
    Raises DataError, one line, if there is no such file, it cannot be read as a picture, is too large, or shows no
    digit; ConfigError for another form or shape.
    """
    _check(form, shape)
    grey = decode(path, luminance=form == "as-is").grey
    try:
        return to_form(grey, form, shape)
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from None


class Found(NamedTuple):
    """A digit that was found on a page.

    image : (height, width) uint8, in the form that was asked for.
    box : (top, bottom, left, right) in pixels of the picture, upright; bottom and right exclusive.
    wide : whether the box is too wide for one digit: two may touch each other.
    """

    image: Bytes
    box: tuple[int, int, int, int]
    wide: bool


def read_page(path: str | os.PathLike[str], form: str = "mnist", shape: tuple[int, int] = (28, 28)) -> list[Found]:
    """Read all digits of a picture, line by line, each from left to right.

    Digits may be written in several parts, on slightly slanted lines, in frames and in the cells of a table; frames,
    ruled lines and the edges of the sheet are no ink. A single digit is what read_picture makes of it.

    path, form, shape : as read_picture takes them; "as-is" finds one image, the whole picture.
    Returns at least one Found.
    Raises DataError and ConfigError as read_picture does.
    """
    _check(form, shape)
    grey, (height, width), _ = decode(path, luminance=form == "as-is")
    try:
        found = _page_of(grey, form, shape)
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from None
    scale = np.repeat((height / grey.shape[0], width / grey.shape[1]), 2)
    most = np.repeat((height, width), 2)
    boxes = [np.rint(box * scale).clip(0, most).astype(int).tolist() for _, box, _ in found]
    return [
        Found(image, (box[0], box[1], box[2], box[3]), wide) for (image, _, wide), box in zip(found, boxes, strict=True)
    ]


def _page_of(grey: Bytes, form: str, shape: tuple[int, int]) -> list[tuple[Bytes, Floats, bool]]:
    """Images, boxes in pixels of this grey, and whether they are wide."""
    everything: Floats = np.array([0, grey.shape[0], 0, grey.shape[1]], np.float64)
    if form == "as-is":
        return [(whole(grey, shape), everything, False)]
    if (image := has_form(grey, form, shape)) is not None:
        return [(image, everything, False)]
    one, found = locate(grey), []
    for digit in digits_on(grey):
        ink = ink_of(digit.located, digit.own)
        if ink.any():
            found.append((fit(ink, form, shape), digit.located.box, digit.wide))
    if len(found) > 1 and (one is None or not _alone(one.box, np.stack([box for _, box, _ in found]))):
        return found
    located, ink = _one(one)
    return [(fit(ink, form, shape), located.box, is_wide(located.box))]


def _alone(one: Floats, others: Floats) -> bool:
    """Whether the digit that stands out most is the only one: the others are far smaller, and none is where it is."""
    middles = (others[:, ::2] + others[:, 1::2]) / 2
    inside = ((middles > one[::2]) & (middles < one[1::2])).all(axis=1)
    tall, height = others[:, 1] - others[:, 0], float(one[1] - one[0])
    same = inside & (tall > 0.8 * height)
    return bool((inside == same).all() and inside.sum() <= 1 and np.median(tall[~same]) < 0.6 * height)


def to_form(grey: Bytes, form: str = "mnist", shape: tuple[int, int] = (28, 28)) -> Bytes:
    """Bring a grey picture into a form; one that has it stays unchanged.

    "mnist" : the digit is found, its strokes are made no thinner than MNIST's, and it is shrunk into a box of 20/28 of
        the shape, its centre of mass in the middle.
    "emnist" : the same, but blurred, into 24/28 of the shape, the centre of its box in the middle.
    "as-is" : one of another shape is resized to lie within it on its border's grey, and inverted if that is light.

    grey : (height, width) uint8, a digit dark on light or light on dark, or anything as-is.
    shape : (height, width) of the result.
    Returns (height, width) uint8: white ink (255) on black (0), except as-is.
    Raises DataError if the array is not such a picture, or shows no digit; ConfigError for another form or shape.
    Source: LeCun, Cortes and Burges, "The MNIST database"; Cohen et al. 2017, "EMNIST: extending MNIST to handwritten
    letters", section II.
    """
    _check(form, shape)
    if grey.dtype != np.uint8 or grey.ndim != 2 or not grey.size:
        raise DataError(f"a picture must be (height, width) uint8, not {grey.dtype} of shape {grey.shape}")
    if form == "as-is":
        return whole(grey, shape)
    if (image := has_form(grey, form, shape)) is not None:
        return image
    return fit(_one(locate(grey))[1], form, shape)


def from_ink(mask: Mask, form: str = "mnist", shape: tuple[int, int] = (28, 28)) -> Bytes:
    """Bring ink into a form: what read_picture ends in, once the ink is separated from the paper.

    mask : (height, width) bool, which pixels are ink, the digit's longest side some 200 of them.
    form, shape : as to_form takes them; "as-is" shrinks the complete mask to the shape.
    Returns (height, width) uint8, white ink (255) on black (0).
    Raises DataError if the array is not such a mask, or without ink; ConfigError for another form or shape.
    """
    _check(form, shape)
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise DataError(f"ink must be (height, width) bool, not {mask.dtype} of shape {mask.shape}")
    if not mask.any():
        raise DataError("there is no ink")
    return fit(mask, form, shape)


def _one(located: Located | None) -> tuple[Located, Mask]:
    if located is None or not (ink := ink_of(located)).any():
        raise DataError("it shows no digit; write one with a strong pen, alone on plain paper, in even light")
    return located, ink


def _check(form: str, shape: tuple[int, int]) -> None:
    check_one_of("form", form, FORMS)
    if len(shape) != 2 or not all(1 <= side <= MAX_SIDE for side in shape):
        raise ConfigError(f"shape must be (height, width), each from 1 to {MAX_SIDE}, not {shape}", setting="shape")
