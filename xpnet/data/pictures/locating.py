"""Where the ink of a digit is in a grey picture, and which pixels are ink.

A picture is examined twice. At low resolution, the digit is located: ink stands out against its surroundings, is
narrower than they are, and has edges all round, whereas shadows do not. At the original's full resolution, the ink is
separated.
"""

from typing import NamedTuple

import numpy as np

from .morphology import (
    Bytes,
    Floats,
    Ints,
    Mask,
    blurred,
    boxes_of,
    closed,
    components,
    longest,
    resized,
    running,
    widened,
)

__all__ = [
    "FAINTEST",
    "Located",
    "contrast_of",
    "dark_on_light",
    "enclosing",
    "ink_of",
    "locate",
    "relief_of",
]

_FAR, _NEAR = 640, 200  # longest side of the picture from afar, and of the digit from close by
_SURROUNDINGS = 0.25  # of the longest side: wider than any stroke
FAINTEST = 0.12  # least contrast of ink with its paper, in 0..1
_SMALLEST = 0.03  # least digit, as a share of the picture's longest side


class Located(NamedTuple):
    """A digit in a picture."""

    grey: Bytes  # dark on light, whatever it was
    box: Floats  # top, bottom, left, right of the digit
    contrast: float  # of its darkest part, in 0..1


def locate(grey: Bytes) -> Located | None:
    """Look from afar: where the digit is, and how dark; None where there is none."""
    grey, far, paper = dark_on_light(grey)
    # A share of the paper's brightness is the same in the light and in the shade. The darkest thing of a digit's size
    # tells how dark the ink is, and half of that is where its edges are: shadows and ruled lines are fainter.
    contrast = contrast_of(far, paper)
    level = 0.95
    while longest(boxes_of(components(contrast > level))).max(initial=0) < _SMALLEST * _FAR:
        level *= 0.85
        if level < FAINTEST:
            return None
    box = _digit_box(far, contrast > level / 2)
    return None if box is None else Located(grey, box * (max(grey.shape) / _FAR), level)


def dark_on_light(grey: Bytes) -> tuple[Bytes, Floats, Floats]:
    """A picture whose ink is dark, whatever it was; the same from afar, and its paper."""
    far = blurred(resized(grey, _FAR / max(grey.shape)))
    size = round(_SURROUNDINGS * _FAR)
    paper, board = closed(far, size), 255 - closed(255 - far, size)
    if _is_light_on_dark(far, paper - far, far - board):
        return 255 - grey, 255 - far, 255 - board
    return grey, far, paper


def _digit_box(far: Floats, mask: Mask) -> Ints | None:
    """The box of the largest thing with clear edges, and of the parts that belong to it, among all that may be ink."""
    height, width = far.shape
    labels = components(widened(mask, _FAR // 100)) * mask
    boxes, relief = boxes_of(labels), relief_of(far, mask, labels)
    sizes = longest(boxes)
    top, bottom, left, right = boxes.T
    rim = 0.05 * _FAR  # what lies in there whole is the table beside the sheet
    aside = (bottom < rim) | (top > height - rim) | (right < rim) | (left > width - rim)
    relief *= np.where(aside, 0.3, 1) * ~enclosing(labels)
    likely = sizes * relief * (relief >= FAINTEST) * (sizes >= _SMALLEST * _FAR)
    main = np.argmax(likely)
    if not likely[main]:
        return None
    # A digit may be written in several parts, the bar of a 5 apart from its body.
    part = (sizes > 0.12 * sizes[main]) & (relief > 0.5 * relief[main])
    part &= (top > 0) & (left > 0) & (bottom < height) & (right < width)
    part[main] = True
    box: Ints = boxes[main]
    for _ in range(3):
        low, high = box[::2] - 0.2 * longest(box), box[1::2] + 0.2 * longest(box)
        near = part & (boxes[:, ::2] < high).all(axis=1) & (boxes[:, 1::2] > low).all(axis=1)
        box = np.array([top[near].min(), bottom[near].max(), left[near].min(), right[near].max()])
    return box


def _is_light_on_dark(far: Floats, dark: Floats, light: Floats) -> bool:
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


def relief_of(far: Floats, mask: Mask, labels: Ints, usual: float = 0.5) -> Floats:
    """How much the grey changes, in 0..1, across each component's edge, on average, above what is usual in the picture.

    It is small for the shade's bays, since their edges are partly drawn by closed, and for soft shadows.

    usual : the share of the picture that changes less than is usual: less of it is paper where there is much writing.
    """
    reach = _FAR // 160
    padded, size = np.pad(far, reach, mode="edge"), 2 * reach + 1
    change = running(np.maximum, padded, size) - running(np.minimum, padded, size)
    change = (change - np.quantile(change, usual)) / 255
    edge, n = mask & widened(~mask, 1), labels.max() + 1
    total = np.bincount(labels[edge], change[edge], minlength=n)[1:]
    return total / np.maximum(np.bincount(labels[edge], minlength=n)[1:], 1)


def enclosing(labels: Ints) -> Mask:
    """Which components are drawn round others, on all four sides of them, and so are frames."""
    boxes = boxes_of(labels)
    sizes = longest(boxes)
    frames = np.zeros(len(boxes), bool)
    for i in np.flatnonzero(sizes >= 2 * _SMALLEST * max(labels.shape)):
        within = (boxes[:, ::2] > boxes[i, ::2]).all(axis=1) & (boxes[:, 1::2] < boxes[i, 1::2]).all(axis=1)
        within &= sizes >= 0.04 * sizes[i]
        if sizes[within].sum() < 0.3 * sizes[i]:
            continue
        (y, stop, x, end), inside = boxes[i], 0
        mask = labels[y:stop, x:end] == i + 1
        for top, bottom, left, right in boxes[within] - (y, y, x, x):
            sides = mask[top:bottom, :left].any(1), mask[top:bottom, right:].any(1)
            ends = mask[:top, left:right].any(0), mask[bottom:, left:right].any(0)
            inside += max(bottom - top, right - left) * all(part.mean() > 0.8 for part in (*sides, *ends))
        frames[i] = inside >= 0.3 * sizes[i]
    return frames


def ink_of(found: Located, own: tuple[Ints, int] | None = None) -> Mask:
    """Look from close by: which pixels are ink of the digit, whose box is some _NEAR pixels long.

    own : the picture's components, at another scale, and which of them the digit is; where None, any ink is its own.
    """
    side = float(longest(found.box))
    scale, room = _NEAR / side, 0.3 * side
    y, x = (max(0, int(start - room)) for start in found.box[::2])
    stop = np.ceil(found.box[1::2] + room).astype(int)
    cut = [y, min(stop[0], found.grey.shape[0]), x, min(stop[1], found.grey.shape[1])]
    near = blurred(resized(found.grey[y : stop[0], x : stop[1]], scale))
    contrast = contrast_of(near, closed(near, round(0.4 * _NEAR)))
    threshold = found.contrast / 2
    for _ in range(3):
        if (ink := contrast[contrast > threshold]).size:
            threshold = float(ink.mean()) / 2
    mask = contrast > threshold
    if own is not None:
        mask &= _near(own, max(own[0].shape) / max(found.grey.shape), cut, (near.shape[0], near.shape[1]))
    labels = components(widened(mask, _NEAR // 50)) * mask
    top, bottom, left, right = np.rint((found.box - (y, y, x, x)) * scale).astype(int)
    n = labels.max() + 1
    inside = np.bincount(labels[top:bottom, left:right].ravel(), minlength=n)
    inside[0] = 0
    keep: Mask = (inside > 0.5 * np.bincount(labels.ravel(), minlength=n)) & (inside > 0.01 * inside.sum())
    return keep[labels]


def _near(own: tuple[Ints, int], scale: float, cut: list[float], shape: tuple[int, int]) -> Mask:
    """One component of a picture, and a little around it, cut as the picture was, and of the cut's shape.

    scale : of the components' picture.
    """
    from PIL import Image

    labels, number = own
    low = [int(start * scale) for start in cut[::2]]
    part = labels[low[0] : int(cut[1] * scale) + 2, low[1] : int(cut[3] * scale) + 2] == number
    top, left = (start * scale - first for start, first in zip(cut[::2], low, strict=True))
    bottom, right = (
        min(stop * scale - first, side) for stop, first, side in zip(cut[1::2], low, part.shape, strict=True)
    )
    whole = Image.fromarray(part.astype(np.float32))
    near = whole.resize(shape[::-1], Image.Resampling.BILINEAR, (left, top, right, bottom))
    return widened(np.asarray(near) > 0.3, _NEAR // 50)


def contrast_of(grey: Floats, paper: Floats) -> Floats:
    """How much darker than its paper each pixel is, as a share of the paper's brightness, above what is usual."""
    contrast = (paper - grey) / np.maximum(paper, 16)
    return contrast - float(np.median(contrast))
