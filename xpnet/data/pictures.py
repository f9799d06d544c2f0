"""A photograph or drawing of a digit, brought into MNIST's form: white ink on black, 28x28 pixels.

MNIST's digits are black-and-white scans, shrunk with anti-aliasing into a box of 20x20 pixels and placed in 28x28 with
their centre of mass in the middle. A picture is examined twice. At low resolution, the digit is located: ink stands out
against its surroundings, is narrower than they are, and has edges all round, whereas shadows do not. At the original's
full resolution, the ink is separated, given a stroke of MNIST's width, shrunk and centred.
"""

import contextlib
import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError
from xpnet.files import read_whole

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["read_picture", "to_mnist_form"]

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.floating[Any]]
_Mask = NDArray[np.bool_]
_Ints = NDArray[np.int64]

MAX_PIXELS = 50_000_000
"""Larger pictures are refused by what their header declares: 48 megapixels are what a telephone takes."""

MAX_PNG_BYTES = 100_000_000
"""Nor may a PNG take more, which unlike a JPEG cannot be read in a smaller size: 33 megapixels of colour, 16 where some
are transparent, 50 of grey."""

MAX_SCANNED = 750_000_000
"""Pixels times scans of a JPEG: a progressive one has ten or so, and a file of no size may have thousands."""

MAX_FILE_BYTES = 200_000_000
MAX_PARTS = 20_000
"""Chunks of a PNG, or segments before the first scan of a JPEG."""

MAX_EXIF = 1 << 16
"""Bytes of EXIF: as many as a JPEG's segment may have. Each of its entries may claim all of it, and gets a copy."""

_BOX, _SIZE = 20, 28  # pixels, MNIST's
_KEPT = 2048  # longest side, in pixels, of what is kept of a photograph
_FAR, _NEAR = 640, 200  # longest side of the picture from afar, and of the digit from close by
_SURROUNDINGS = 0.25  # of the longest side: wider than any stroke
_FAINTEST = 0.12  # least contrast of ink with its paper, in 0..1
_SMALLEST = 0.03  # least digit, as a share of the picture's longest side
_WIDTH = 0.1  # least width of a stroke over the digit's longest side; MNIST's are 0.08 to 0.19 (5 % and 95 %)


def read_picture(path: str | os.PathLike[str]) -> _Bytes:
    """Read a picture of one digit, PNG or JPEG, as an image of MNIST's form.

    path : the file: up to 50 megapixels, a PNG in colour less (see MAX_PNG_BYTES), any colours, dark on light or
        light on dark, upright or as its EXIF orientation says; strokes may lie on transparent ground; of an animation
        the first picture is read.
    Returns (28, 28) uint8: white ink (255) on black (0).
    Raises DataError, one line, if there is no such file, it cannot be read as a PNG or JPEG picture, is too large, or
    shows no digit.
    """
    path = Path(path)
    try:
        return to_mnist_form(_decode(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def to_mnist_form(grey: _Bytes) -> _Bytes:
    """Find the digit in a grey picture and bring it into MNIST's form; a picture of that form stays unchanged.

    grey : (height, width) uint8, dark on light or light on dark.
    Returns (28, 28) uint8: white ink (255) on black (0).
    Raises DataError if the array is not such a picture, or shows no digit.
    Source: LeCun, Cortes and Burges, "The MNIST database".
    """
    if grey.dtype != np.uint8 or grey.ndim != 2 or not grey.size:
        raise DataError(f"a picture must be (height, width) uint8, not {grey.dtype} of shape {grey.shape}")
    if (form := _as_it_is(grey)) is not None:
        return form
    found = _find(grey)
    digit = None if found is None else _ink(found)
    if digit is None or not digit.any():
        raise DataError("it shows no digit; write one with a strong pen, alone on plain paper, in even light")
    return _fit(digit)


# --- from a file to grey ---------------------------------------------------------------------------------------------


def _decode(path: Path) -> _Bytes:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        content = read_whole(path, MAX_FILE_BYTES)
        if not content:
            raise DataError("the file is empty; save the picture again")
        _check_parts(content)
        # Pillow warns of large pictures and of odd metadata; the size is checked here, the rest does not matter.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(BytesIO(content), formats=("PNG", "JPEG"))
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if image.format == "PNG" and image.width * image.height * _channels(image) > MAX_PNG_BYTES:
                raise DataError(f"as a PNG it unpacks to more than {MAX_PNG_BYTES // 10**6} MB; shrink it")
            if image.width * image.height * content.count(b"\xff\xda") > MAX_SCANNED and image.format != "PNG":
                raise DataError("a JPEG of that size with too many scans; save the picture again")
            image.draft(None, (_KEPT, _KEPT))  # decodes no more of a JPEG than is kept
            image.load()
            with contextlib.suppress(Exception):  # EXIF may be damaged where the picture is not
                for key, most in (("exif", MAX_EXIF), ("Raw profile type exif", 3 * MAX_EXIF)):
                    if len(image.info.get(key, "")) > most:
                        raise ValueError
                ImageOps.exif_transpose(image, in_place=True)
            image = _plain(image)
            image.thumbnail((_KEPT, _KEPT))
            return _grey(np.asarray(image))
    except DataError:
        raise
    except IsADirectoryError:
        raise DataError("a folder, not a picture; name a PNG or JPEG file") from None
    except FileNotFoundError:
        raise DataError("no such file; name a PNG or JPEG file") from None
    except UnidentifiedImageError:
        raise DataError("not a PNG or JPEG picture; save it as one of them") from None
    except Image.DecompressionBombError:
        raise DataError(f"larger than {MAX_PIXELS // 10**6} megapixels; shrink it, or crop it to the digit") from None
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"cannot be read ({reason}); save the picture again") from None


def _check_parts(content: bytes) -> None:
    """Refuse a file of very many parts, on each of which Pillow spends far more time than it has bytes."""
    from PIL import UnidentifiedImageError

    png = content.startswith(b"\x89PNG")
    if not png and not content.startswith(b"\xff\xd8"):
        raise UnidentifiedImageError
    at, exif = 8 if png else 2, 0
    for _ in range(MAX_PARTS):
        part = content[at : at + 4]
        if len(part) < 4 or (not png and part[1] == 0xDA):
            return
        if png:
            at += 12 + int.from_bytes(part, "big")
        elif part[0] != 0xFF or part[1] in (0x00, 0xFF):  # junk, which is skipped one byte after the other
            at += 1
        elif part[1] == 0xC8 or 0xD0 <= part[1] <= 0xD9 or 0xF0 <= part[1] <= 0xFD:  # markers without a segment
            at += 2
        else:
            size = int.from_bytes(part[2:], "big")
            exif += size * (content[at + 4 : at + 8] == b"Exif")
            if exif > MAX_EXIF:
                raise DataError(f"more than {MAX_EXIF} bytes of EXIF; save the picture again")
            at += 2 + size
    raise DataError(f"made of more than {MAX_PARTS} parts; save the picture again")


def _channels(image: "Image.Image") -> int:
    """Bytes that a pixel takes, while it is made smaller."""
    if image.has_transparency_data:
        return 6
    return {"1": 1, "L": 1, "I": 4, "I;16": 2}.get(image.mode, 3)


def _plain(image: "Image.Image") -> "Image.Image":
    """Any of Pillow's modes as RGB or RGBA, 8 bits each, no larger than need be."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which convert would cut off at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    # Before it takes four bytes for each pixel, and so that little is left to the filter of thumbnail.
    factor = max(image.size) // _KEPT
    if factor > 2 and image.mode in ("L", "RGB", "RGBA"):
        image = image.reduce(factor)
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _grey(colours: _Bytes) -> _Bytes:
    """The mixture of (height, width, 3 or 4) channels in which what stands out, the ink, stands out most."""
    pixels = colours[..., :3].astype(np.float32)
    if colours.shape[2] == 4:
        pixels = _on_paper(pixels, colours[..., 3:].astype(np.float32) / 255)
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2]):
        return np.rint(pixels[..., 0]).astype(np.uint8)
    # The first principal axis of the colours' distances from the paper's, the far ones counting most. A channel that
    # falls where the others rise goes in inverted, so that the mixture stays in 0..255.
    stride = 1 + max(pixels.shape) // _FAR
    off = pixels[::stride, ::stride].reshape(-1, 3).astype(np.float64)
    off -= np.median(off, axis=0)
    off *= np.linalg.norm(off, axis=1, keepdims=True)
    axis = np.linalg.eigh(off.T @ off)[1][:, -1]
    axis /= np.abs(axis).sum() * (1 if axis.sum() >= 0 else -1)
    mixed: _Floats = pixels @ axis + 255 * np.maximum(-axis, 0).sum()
    return mixed.round().clip(0, 255).astype(np.uint8)


def _on_paper(pixels: _Floats, alpha: _Floats) -> _Floats:
    """Lay a transparent picture on white paper, or on black where what is seen of it is light."""
    seen = pixels[alpha[..., 0] > 0.1]
    return alpha * pixels + (1 - alpha) * (255 if seen.size and seen.mean() < 128 else 0)


# --- from grey to ink ------------------------------------------------------------------------------------------------


def _as_it_is(grey: _Bytes) -> _Bytes | None:
    """The picture itself, white on black, if it has MNIST's form: the size, the box, the centre, the full ink."""
    if grey.shape != (_SIZE, _SIZE):
        return None
    form = grey if np.median(grey) < 128 else 255 - grey
    rows, columns = (np.flatnonzero((form > 64).any(axis)) for axis in (1, 0))
    if form.max() < 200 or np.median(form) > 16:
        return None
    side = 1 + max(np.ptp(rows), np.ptp(columns))
    fits = abs(side - _BOX) <= 2 and all(abs(c - _SIZE // 2) < 1 for c in _centre(form))
    return form.copy() if fits else None


class _Found(NamedTuple):
    grey: _Bytes  # dark on light, whatever it was
    box: _Floats  # top, bottom, left, right of the digit
    contrast: float  # of its darkest part, in 0..1


def _find(grey: _Bytes) -> _Found | None:
    """Look from afar: where the digit is, and how dark; None where there is none."""
    scale = _FAR / max(grey.shape)
    far = _blurred(_resized(grey, scale))
    size = round(_SURROUNDINGS * _FAR)
    paper, board = _closed(far, size), 255 - _closed(255 - far, size)
    if _is_light_on_dark(far, paper - far, far - board):
        grey, far, paper = 255 - grey, 255 - far, 255 - board
    # A share of the paper's brightness is the same in the light and in the shade. The darkest thing of a digit's size
    # tells how dark the ink is, and half of that is where its edges are: shadows and ruled lines are fainter.
    contrast = _contrast(far, paper)
    level = 0.95
    while _longest(_boxes(_components(contrast > level))).max(initial=0) < _SMALLEST * _FAR:
        level *= 0.85
        if level < _FAINTEST:
            return None
    box = _digit_box(far, contrast > level / 2)
    return None if box is None else _Found(grey, box / scale, level)


def _digit_box(far: _Floats, mask: _Mask) -> _Ints | None:
    """The box of the largest thing with clear edges, and of the parts that belong to it, among all that may be ink."""
    height, width = far.shape
    labels = _components(_widened(mask, _FAR // 100)) * mask
    boxes, relief = _boxes(labels), _relief(far, mask, labels)
    sizes = _longest(boxes)
    top, bottom, left, right = boxes.T
    rim = 0.05 * _FAR  # what lies in there whole is the table beside the sheet
    aside = (bottom < rim) | (top > height - rim) | (right < rim) | (left > width - rim)
    relief *= np.where(aside, 0.3, 1)
    likely = sizes * relief * (relief >= _FAINTEST) * (sizes >= _SMALLEST * _FAR)
    main = np.argmax(likely)
    if not likely[main]:
        return None
    # A digit may be written in several parts, the bar of a 5 apart from its body.
    part = (sizes > 0.12 * sizes[main]) & (relief > 0.5 * relief[main])
    part &= (top > 0) & (left > 0) & (bottom < height) & (right < width)
    part[main] = True
    box: _Ints = boxes[main]
    for _ in range(3):
        low, high = box[::2] - 0.2 * _longest(box), box[1::2] + 0.2 * _longest(box)
        near = part & (boxes[:, ::2] < high).all(axis=1) & (boxes[:, 1::2] > low).all(axis=1)
        box = np.array([top[near].min(), bottom[near].max(), left[near].min(), right[near].max()])
    return box


def _is_light_on_dark(far: _Floats, dark: _Floats, light: _Floats) -> bool:
    """Whether what stands out most, both from its surroundings and from most of the picture around it, is the lighter.

    far : the picture.   dark, light : how much darker and lighter than its surroundings each pixel is.
    The first alone would take the eye of a 0 for ink, the second alone the lit part of a page in the shade.
    """
    lighter = 0.0
    for n in (1, 2, 4):
        sums = np.full(2, 1e-9)
        for strips in zip(*(np.array_split(a, n) for a in (far, dark, light)), strict=True):
            for tile, below, above in zip(*(np.array_split(a, n, axis=1) for a in strips), strict=True):
                if tile.size:
                    off = tile - np.median(tile)
                    squares = (np.square(np.clip(d, 0, most)) for d, most in ((-off, below), (off, above)))
                    sums += [float(np.square(square).sum()) for square in squares]
        lighter += sums[1] / sums.sum() - 0.5
    return lighter > 0


def _relief(far: _Floats, mask: _Mask, labels: _Ints) -> _Floats:
    """How much the grey changes, in 0..1, across each component's edge, on average, above what is usual in the picture.

    It is small for the shade's bays, since their edges are partly drawn by _closed, and for soft shadows.
    """
    reach = _FAR // 160
    padded, size = np.pad(far, reach, mode="edge"), 2 * reach + 1
    change = _running(np.maximum, padded, size) - _running(np.minimum, padded, size)
    change = (change - np.median(change)) / 255
    edge, n = mask & _widened(~mask, 1), labels.max() + 1
    total = np.bincount(labels[edge], change[edge], minlength=n)[1:]
    return total / np.maximum(np.bincount(labels[edge], minlength=n)[1:], 1)


def _ink(found: _Found) -> _Mask:
    """Look from close by: which pixels are ink of the digit, whose box is some _NEAR pixels long."""
    longest = float(_longest(found.box))
    scale, room = _NEAR / longest, 0.3 * longest
    y, x = (max(0, int(start - room)) for start in found.box[::2])
    stop = np.ceil(found.box[1::2] + room).astype(int)
    near = _blurred(_resized(found.grey[y : stop[0], x : stop[1]], scale))
    contrast = _contrast(near, _closed(near, round(0.4 * _NEAR)))
    threshold = found.contrast / 2
    for _ in range(3):
        if (ink := contrast[contrast > threshold]).size:
            threshold = float(ink.mean()) / 2
    mask = contrast > threshold
    labels = _components(_widened(mask, _NEAR // 50)) * mask
    top, bottom, left, right = np.rint((found.box - (y, y, x, x)) * scale).astype(int)
    n = labels.max() + 1
    inside = np.bincount(labels[top:bottom, left:right].ravel(), minlength=n)
    inside[0] = 0
    keep: _Mask = (inside > 0.5 * np.bincount(labels.ravel(), minlength=n)) & (inside > 0.01 * inside.sum())
    return keep[labels]


# --- from ink to MNIST's form ----------------------------------------------------------------------------------------


def _fit(digit: _Mask) -> _Bytes:
    """Ink as MNIST has it: no thinner strokes, the longest side 20 pixels, the centre of mass in the middle."""
    digit = np.pad(digit, _NEAR // 5)
    soft = _blurred(digit.astype(np.float32))
    # A long strip's area is width times length, and its perimeter twice its length.
    width = 2 * float(soft.sum()) / float(np.hypot(*np.gradient(soft)).sum())
    missing = _WIDTH * float(_longest(_box(digit))) - width
    digit = _widened(digit, round(missing / (2 * (1 - _WIDTH))))
    top, bottom, left, right = _box(digit)
    ink = 255 * digit[top:bottom, left:right].astype(np.uint8)
    small = _resized(ink, _BOX / max(ink.shape))
    small *= 255 / small.max()
    # Laid onto a larger page and cut out, since a digit that is heavy on one side may reach over the edge.
    page = np.zeros((_SIZE + 2 * _BOX, _SIZE + 2 * _BOX), np.uint8)
    y, x = (_BOX + round(_SIZE // 2 - centre) for centre in _centre(small))
    page[y : y + small.shape[0], x : x + small.shape[1]] = np.rint(small)
    return page[_BOX:-_BOX, _BOX:-_BOX]


def _centre(image: NDArray[Any]) -> list[float]:
    """The centre of mass, (y, x), in pixels."""
    weights = image.astype(np.float64) / image.sum(dtype=np.float64)
    return [float(weights.sum(axis=1 - axis) @ np.arange(n)) for axis, n in enumerate(image.shape)]


# --- what the steps are made of --------------------------------------------------------------------------------------


def _contrast(grey: _Floats, paper: _Floats) -> _Floats:
    """How much darker than its paper each pixel is, as a share of the paper's brightness, above what is usual."""
    contrast = (paper - grey) / np.maximum(paper, 16)
    return contrast - float(np.median(contrast))


def _resized(grey: _Bytes, scale: float) -> _Floats:
    from PIL import Image

    height, width = (max(1, round(side * scale)) for side in grey.shape)
    how = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize((width, height), how), np.float32)


def _blurred(image: _Floats) -> _Floats:
    """Smoothed with [1 2 1] / 4 along both axes."""
    for _ in range(2):
        padded: _Floats = np.pad(image, ((1, 1), (0, 0)), mode="edge")
        image = ((padded[:-2] + padded[2:]) / 4 + image / 2).T
    return image


def _closed(grey: _Floats, size: int) -> _Floats:
    """The paper without its ink: what is dark and has no room for a square of that size takes its surroundings' grey.

    This is the morphological closing. Unlike any smoothing it keeps the edges of shadows and of tables. The picture
    continues beyond its border as it ends there: a dark rim is taken for wide, a stroke that is cut off stays narrow.
    """
    grown = np.pad(grey, size - 1, mode="edge")
    for extreme in (np.maximum, np.minimum):
        grown = _running(extreme, grown, size)
    return grown


def _running(extreme: np.ufunc, image: _Floats, size: int) -> _Floats:
    """The maximum or minimum of every size x size square in an image, in steps that double what is covered."""
    for _ in range(2):
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            image = extreme(image[:-step], image[step:])
            covered += step
        image = image.T
    return image


def _widened(mask: _Mask, radius: int) -> _Mask:
    """The mask and all within radius pixels of it: crosses and squares in turn make an octagon."""
    for i in range(radius):
        p = np.pad(mask, 1)
        mask = p[:-2, 1:-1] | p[2:, 1:-1] | p[1:-1, :-2] | p[1:-1, 2:] | mask
        if i % 2:
            mask |= p[:-2, :-2] | p[2:, 2:] | p[:-2, 2:] | p[2:, :-2]
    return mask


def _components(mask: _Mask) -> _Ints:
    """Number what is connected, diagonals included, from 1 on; 0 is outside the mask."""
    stride = mask.shape[1] + 2
    change = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8).ravel(), prepend=0)
    starts, ends = np.flatnonzero(change > 0), np.flatnonzero(change < 0)
    # Runs of a row, each with the first of the next row's that it touches, and how many it touches.
    first = np.searchsorted(ends, starts + stride)
    touched = np.searchsorted(starts, ends + stride, side="right") - first
    above = np.repeat(np.arange(len(starts)), touched)
    below = np.arange(len(above)) + np.repeat(first - np.cumsum(touched) + touched, touched)
    root = np.arange(len(starts))
    while (root[above] != root[below]).any():
        high, low = np.maximum(root[above], root[below]), np.minimum(root[above], root[below])
        np.minimum.at(root, high, low)
        while (root[root] != root).any():
            root = root[root]
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.repeat(np.unique(root, return_inverse=True)[1] + 1, ends - starts)
    return labels


def _boxes(labels: _Ints) -> _Ints:
    """(n, 4): top, bottom, left and right of each component, the second and the last exclusive."""
    y, x = np.nonzero(labels)
    boxes = np.tile(np.array([labels.shape[0], 0, labels.shape[1], 0]), (labels.max(initial=0), 1))
    for side, (at, extreme) in enumerate(((y, np.minimum), (y + 1, np.maximum), (x, np.minimum), (x + 1, np.maximum))):
        extreme.at(boxes[:, side], labels[y, x] - 1, at)
    return boxes


def _box(mask: _Mask) -> _Ints:
    box: _Ints = _boxes(mask.astype(np.int64))[0]
    return box


def _longest(boxes: NDArray[Any]) -> NDArray[Any]:
    """The longer side of each box, (..., 4)."""
    sides = boxes[..., 1::2] - boxes[..., ::2]
    longest: NDArray[Any] = sides.max(axis=-1)
    return longest
