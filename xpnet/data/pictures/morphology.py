"""What locating is made of: resizing, blurring, morphology, components and their boxes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bytes",
    "Floats",
    "Ints",
    "Mask",
    "blurred",
    "box_of",
    "boxes_of",
    "closed",
    "components",
    "longest",
    "resized",
    "running",
    "widened",
]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]


def resized(grey: Bytes, scale: float) -> Floats:
    """A picture with sides of so many times the length, at least one pixel each."""
    from PIL import Image

    height, width = (max(1, round(side * scale)) for side in grey.shape)
    how = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize((width, height), how), np.float32)


def blurred(image: Floats) -> Floats:
    """Smoothed with [1 2 1] / 4 along both axes."""
    for _ in range(2):
        padded: Floats = np.pad(image, ((1, 1), (0, 0)), mode="edge")
        image = ((padded[:-2] + padded[2:]) / 4 + image / 2).T
    return image


def closed(grey: Floats, size: int) -> Floats:
    """The paper without its ink: what is dark and has no room for a square of that size takes its surroundings' grey.

    This is the morphological closing. Unlike any smoothing it keeps the edges of shadows and of tables. The picture
    continues beyond its border as it ends there: a dark rim is taken for wide, a stroke that is cut off stays narrow.
    """
    grown = np.pad(grey, size - 1, mode="edge")
    for extreme in (np.maximum, np.minimum):
        grown = running(extreme, grown, size)
    return grown


def running(extreme: np.ufunc, image: Floats, size: int) -> Floats:
    """The maximum or minimum of every size x size square in an image, in steps that double what is covered."""
    for _ in range(2):
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            image = extreme(image[:-step], image[step:])
            covered += step
        image = image.T
    return image


def widened(mask: Mask, radius: int) -> Mask:
    """The mask and all within radius pixels of it: crosses and squares in turn make an octagon."""
    for i in range(radius):
        p = np.pad(mask, 1)
        mask = p[:-2, 1:-1] | p[2:, 1:-1] | p[1:-1, :-2] | p[1:-1, 2:] | mask
        if i % 2:
            mask |= p[:-2, :-2] | p[2:, 2:] | p[:-2, 2:] | p[2:, :-2]
    return mask


def components(mask: Mask) -> Ints:
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


def boxes_of(labels: Ints) -> Ints:
    """(n, 4): top, bottom, left and right of each component, the second and the last exclusive."""
    y, x = np.nonzero(labels)
    boxes = np.tile(np.array([labels.shape[0], 0, labels.shape[1], 0]), (labels.max(initial=0), 1))
    for side, (at, extreme) in enumerate(((y, np.minimum), (y + 1, np.maximum), (x, np.minimum), (x + 1, np.maximum))):
        extreme.at(boxes[:, side], labels[y, x] - 1, at)
    return boxes


def box_of(mask: Mask) -> Ints:
    """The box around all that a mask has, as boxes_of gives those of its parts."""
    box: Ints = boxes_of(mask.astype(np.int64))[0]
    return box


def longest(boxes: NDArray[Any]) -> NDArray[Any]:
    """The longer side of each box, (..., 4)."""
    sides = boxes[..., 1::2] - boxes[..., ::2]
    longer: NDArray[Any] = sides.max(axis=-1)
    return longer
