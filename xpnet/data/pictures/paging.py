"""All digits of a page, in the order in which they are read: line by line, each from left to right."""

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .locating import FAINTEST, Located, contrast_of, dark_on_light, enclosing, relief_of
from .morphology import Bytes, Floats, Ints, Mask, blurred, boxes_of, closed, components, longest, resized, widened

__all__ = ["Digit", "digits_on", "is_wide"]

_LEAST, _MOST = 640, 1600  # longest side of the page as it is looked at: its own, within these
_SURROUNDINGS = 0.25  # of the longest side, as in locating
_SPECK = 0.003  # largest thing that is no ink, over the longest side
_PAPER = 0.2  # of the page, at least, is bare
_THINGS = 2000  # as many are looked at, the largest
_LONG = 2.2  # of digits' heights: longer things are frames and lines, or several digits
_SLANTS = np.tan(np.deg2rad(np.arange(-7, 7.5, 1)))  # of lines that are drawn
_WIDE = 1.35  # width over height of two digits, and of one in fifty of MNIST's


logger = logging.getLogger("xpnet")


class Digit(NamedTuple):
    """A digit on a page.

    located : where it is.   own : the page's components, at another scale, and which of them is its ink.
    wide : whether it is too wide for one digit.
    """

    located: Located
    own: tuple[Ints, int]
    wide: bool


def is_wide(box: Floats | Ints, height: float = 0) -> bool:
    """Whether a box is too wide for one digit.   height : of the digits around it."""
    return bool(box[3] - box[2] > _WIDE * max(box[1] - box[0], 0.8 * height))


def digits_on(grey: Bytes) -> list[Digit]:
    """The digits of a page in reading order.   grey : (height, width) uint8, dark on light or light on dark."""
    grey = dark_on_light(grey)[0]
    scale = min(max(*grey.shape, _LEAST), _MOST) / max(grey.shape)
    page = np.rint(blurred(resized(grey, scale)))
    side = max(page.shape)
    paper = closed(page.astype(np.uint8), round(_SURROUNDINGS * side)).astype(np.float32)
    contrast = contrast_of(page, paper)
    mask = _ink(contrast)
    labels = components(mask)
    labels = _kept(labels, _things(page, mask, labels))
    if not labels.any():
        return []
    frames = enclosing(labels)
    drawn, labels = _kept(labels, frames), _kept(labels, ~frames)
    # The darkest thing tells how dark the ink is: ruled lines are fainter.
    peaks, sizes = _peaks(labels, contrast), longest(boxes_of(labels))
    labels = _kept(labels, peaks > 0.5 * peaks[sizes > 3 * _SPECK * side].max(initial=0))
    height = _height(boxes_of(labels))
    if not height:
        return []
    labels = _without_lines(labels, drawn, height)
    labels = components(widened(labels > 0, max(1, round(0.02 * height)))) * (labels > 0)
    labels = _merged(labels, height)
    boxes, peaks = boxes_of(labels), _peaks(labels, contrast)
    tall = boxes[:, 1] - boxes[:, 0]
    relief = relief_of(page, labels > 0, labels, _PAPER)
    light = np.bincount(labels.ravel(), paper.ravel())[1:] / np.bincount(labels.ravel())[1:]
    good = (tall >= 0.45 * height) & (tall <= _LONG * height)
    if not good.any():
        return []
    good &= (peaks >= 0.35 * np.median(peaks[good])) & (relief >= 0.4 * np.median(relief[good]))
    inner = (boxes[:, ::2] > 0).all(axis=1) & (boxes[:, 1::2] < page.shape).all(axis=1)
    good &= inner | ~(good & inner).any()
    # The table beside a sheet is darker than the shade on it.
    good &= light >= 0.58 * np.max(light[good], initial=0)
    order = _reading_order(boxes, np.flatnonzero(good), height)
    return [
        Digit(Located(grey, boxes[i] / scale, float(peaks[i])), (labels, i + 1), is_wide(boxes[i], height))
        for i in order
    ]


def _ink(contrast: Floats) -> Mask:
    """What is darker than its paper by 0.4 as much as the darkest of what it is connected with."""
    noise = 1.5 * float(np.median(np.abs(contrast)))
    labels = components(contrast > max(FAINTEST, 5 * noise))
    peaks = np.append(np.inf, _peaks(labels, contrast))
    mask: Mask = contrast > 0.4 * peaks[labels]
    return mask


def _peaks(labels: Ints, contrast: Floats) -> Floats:
    """The largest contrast of each component."""
    peaks = np.zeros(labels.max(initial=0) + 1, np.float32)
    inside = labels > 0
    np.maximum.at(peaks, labels[inside], contrast[inside])
    return peaks[1:]


def _kept(labels: Ints, keep: Mask) -> Ints:
    """The components that are kept, numbered anew."""
    numbers = np.append(0, np.cumsum(keep) * keep)
    kept: Ints = numbers[labels]
    return kept


def _things(page: Floats, mask: Mask, labels: Ints) -> Mask:
    """Which components have clear edges, and are no specks nor lines; the largest, if there are very many."""
    boxes = boxes_of(labels)
    sizes, (tall, wide) = longest(boxes), (boxes[:, 1::2] - boxes[:, ::2]).T
    side = max(page.shape)
    lines = (8 * tall < wide) & (wide > 0.2 * side) | (8 * wide < tall) & (tall > 0.5 * side)
    keep: Mask = ~lines & (sizes > max(4, _SPECK * side)) & (relief_of(page, mask, labels, _PAPER) >= FAINTEST)
    if (n := int(keep.sum())) > _THINGS:
        logger.warning("a page of %d things; only the %d largest are looked at: cut it into parts", n, _THINGS)
        keep &= np.argsort(np.argsort(-sizes * keep)) < _THINGS
    return keep


def _height(boxes: Ints) -> float:
    """The usual height of a digit: that of the things that weigh most, those of about one height together."""
    if not boxes.size:
        return 0
    tall = boxes[:, 1] - boxes[:, 0]
    ratio = tall[None, :] / tall[:, None]
    alike = (ratio > 0.55) & (ratio < 1.4)
    main = np.argmax(alike @ tall**1.25)
    return float(np.median(tall[alike[main]]))


def _without_lines(labels: Ints, frames: Ints, height: float) -> Ints:
    """Lines taken out of the things that are longer than digits, and out of frames, whose digits may touch them."""
    long = longest(boxes_of(labels)) > _LONG * height
    mask = np.append(False, long)[labels] | (frames > 0)
    if not mask.any():
        return labels
    lines = np.zeros_like(mask)
    for slant in _SLANTS:
        lines |= _straight(mask, slant, round(1.6 * height))
        lines |= _straight(mask.T, slant, round(1.6 * height)).T
    n = labels.max() + 1
    drawn = np.bincount(labels[lines], minlength=n) > 0.2 * np.bincount(labels.ravel(), minlength=n)
    drawn[0] = False
    rest = components((drawn[labels] | (frames > 0)) & ~widened(lines, 1))
    sizes, areas = longest(boxes_of(rest)), np.bincount(rest.ravel())[1:]
    of_frame = np.bincount(rest[frames > 0], minlength=len(sizes) + 1)[1:] > 0
    keep = (sizes > 0.25 * height) & (areas > 0.02 * height**2) & ~(of_frame & (sizes > 1.4 * height))
    rest = _kept(rest, keep)
    return np.where(rest > 0, rest + n, labels * ~drawn[labels])


def _straight(mask: Mask, slant: float, length: int) -> Mask:
    """The pixels of a mask that lie on a line of a length, nearly all of which is in the mask; slant : dy / dx."""
    height, width = mask.shape
    reach = int(np.ceil(abs(slant) * width)) + 1
    shift = np.rint(slant * np.arange(width)).astype(int) % (height + reach)
    rows = (np.arange(height + reach)[:, None] + shift) % (height + reach)
    padded = np.pad(mask, ((0, reach), (0, 0)))
    sheared = np.take_along_axis(padded, rows, 0)
    sums = np.cumsum(np.pad(sheared, ((0, 0), (length, length))), axis=1, dtype=np.int32)
    full = (sums[:, length:] - sums[:, :-length]) >= 0.95 * length  # the windows that end at each place
    counts = np.cumsum(np.pad(full, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
    covered = (counts[:, length : length + width] - counts[:, :width]) > 0
    found = np.zeros_like(padded)
    np.put_along_axis(found, rows, covered & sheared, 0)
    return found[:height]


def _merged(labels: Ints, height: float) -> Ints:
    """The parts of a digit as one: the bar of a 5 with its body."""
    boxes = boxes_of(labels).astype(np.float64)
    into = np.arange(len(boxes))
    for part in np.argsort(longest(boxes)):
        size = float(longest(boxes[part]))
        if size > 0.8 * height:
            break
        if size < 0.1 * height:
            continue
        union = np.concatenate(
            [np.minimum(boxes, boxes[part])[:, ::2], np.maximum(boxes, boxes[part])[:, 1::2]], axis=1
        )
        tall, wide = union[:, 2] - union[:, 0], union[:, 3] - union[:, 1]
        sides = boxes[:, 1::2] - boxes[:, ::2]
        gaps = np.stack([tall, wide], 1) - sides - sides[part]  # below 0 where they overlap
        overlap = -gaps / np.maximum(np.minimum(sides, sides[part]), 1)
        above = (overlap[:, 1] > 0.5) & (gaps[:, 0] < 0.25 * height)
        near = (gaps < 0.15 * height).all(axis=1) & ((size < 0.5 * height) | (sides[part, 0] < 0.35 * height))
        beside = (overlap[:, 0] > 0.5) & (gaps[:, 1] < 0.12 * height) & (size < 0.6 * height)
        fits = (above | beside | near) & (tall < 1.3 * height) & (wide < 1.15 * height)
        fits &= (sides[part, 0] < 0.65 * height) | (sides[:, 0] < 0.65 * height)
        fits |= (overlap[:, 1] > 0.5) & (overlap[:, 0] > 0) & (tall < 1.6 * height) & (wide < 1.15 * height)
        fits[into == part] = False
        fits &= into == np.arange(len(boxes))
        if fits.any():
            distance = np.where(fits, gaps.clip(0).sum(axis=1) - 0.01 * overlap.max(axis=1), np.inf)
            body = int(np.argmin(distance))
            boxes[body] = union[body][[0, 2, 1, 3]]
            into[into == part] = body
    numbers = np.append(0, np.unique(into, return_inverse=True)[1] + 1)
    merged: Ints = numbers[labels]
    return merged


def _reading_order(boxes: Ints, digits: Ints, height: float) -> Iterator[int]:
    """Line by line, each from left to right; lines may be slanted, and are so alike."""
    y = (boxes[:, 0] + boxes[:, 1]) / 2
    x = (boxes[:, 2] + boxes[:, 3]) / 2
    slant = 0.0
    for _ in range(3):
        lines: list[list[int]] = []
        for i in digits[np.argsort(x[digits])].tolist():
            off = [abs(y[i] - y[line[-1]] - slant * (x[i] - x[line[-1]])) for line in lines]
            nearest = int(np.argmin(off)) if off else -1
            if off and off[nearest] < 0.6 * height:
                lines[nearest].append(i)
            else:
                lines.append([i])
        pairs = [(a, b) for line in lines for a, b in zip(line, line[2:] + line[-1:] * 2, strict=False) if x[b] > x[a]]
        if pairs:
            a, b = np.array(pairs).T
            slant = float(np.median((y[b] - y[a]) / (x[b] - x[a])))
    for line in sorted(lines, key=lambda line: float(np.mean(y[line] - slant * x[line]))):
        yield from line
