"""Examples of a model's data, as a page has them, and the ranges of features."""

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data import Split
from xpnet.errors import one_line
from xpnet.export.layers import Layers

__all__ = ["first_of_each_class", "pictures", "ranges", "rows"]

MOST, ROOM = 20, 12_000
"""Examples on a page, and their bytes."""


def first_of_each_class(targets: NDArray[Any] | None, n: int, task: str) -> NDArray[np.intp]:
    """Indices of at most 20 of n examples, in order: the first of each class, then the second of each, and so on."""
    if targets is None or task != "classification":
        return np.arange(min(n, MOST))
    nth = np.zeros(n, np.intp)  # how many of its class come before each example
    for k in np.unique(targets):
        (own,) = np.nonzero(targets == k)
        nth[own] = np.arange(len(own))
    return np.sort(np.argsort(nth, kind="stable")[:MOST])


def pictures(images: NDArray[Any], white: float | None) -> dict[str, Any] | None:
    """Pictures as drawing.js unpacks them: runs of zeros and of other bytes; None if they cannot be bytes.

    white : the largest value of pixels, None where they are not scaled as such.
    """
    if images.dtype != np.uint8:
        top = float(images.max(initial=0))
        if white is None or images.min(initial=0) < 0:
            return None
        images = np.rint(images * (255 / (white if top > 1 else 1))).clip(0, 255).astype(np.uint8)
        white = 255.0
    runs, n = bytearray(), 0
    for image in images:
        packed = _runs(image.ravel())
        if len(runs) + len(packed) > ROOM:
            break
        runs += packed
        n += 1
    return {"n": n, "white": white or 255.0, "pixels": base64.b64encode(runs).decode("ascii")} if n else None


def _runs(pixels: NDArray[np.uint8]) -> bytes:
    """How many zeros, how many other values, these values, and so on, each number a byte."""
    found, at = bytearray(), 0
    while at < len(pixels):
        rest = pixels[at : at + 255]
        zeros = int((rest > 0).argmax()) if rest.any() else len(rest)
        rest = pixels[at + zeros :][:255]
        others = int((rest == 0).argmax()) if not rest.all() else len(rest)
        found += bytes([zeros, others]) + rest[:others].tobytes()
        at += zeros + others
    return bytes(found)


def rows(features: NDArray[Any]) -> dict[str, Any]:
    """Rows of features."""
    return {"n": len(features), "rows": features.reshape(len(features), -1).tolist()}


def ranges(layers: Layers, examples: Split | None) -> list[dict[str, Any]]:
    """For each feature its name, range, step and what it is at first, as table.js takes them.

    Ranges are those of the examples; where there are none, what scaling tells: three standard deviations on both sides
    of the mean, or least and largest.
    """
    n = layers.sizes[0]
    columns = layers.schema.columns or tuple(f"feature {i}" for i in range(n))
    if examples is not None:
        values = np.asarray(examples.images).reshape(-1, n).astype(np.float64)
        low, high, start = values.min(axis=0), values.max(axis=0), np.median(values, axis=0)
        whole = (values == np.rint(values)).all(axis=0)
    else:
        low, high, start = _scaled_range(layers, n)
        whole = np.zeros(n, bool)
    return [
        {"name": one_line(str(name)), **_nice(float(a), float(b), float(at), bool(counts))}
        for name, a, b, at, counts in zip(columns, low, high, start, whole, strict=True)
    ]


def _scaled_range(layers: Layers, n: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    shift = np.broadcast_to(0.0 if layers.shift is None else layers.shift, n).astype(np.float64)
    scale = np.broadcast_to(1.0 if layers.scale is None else layers.scale, n).astype(np.float64)
    if layers.white is not None or layers.schema.features.kind == "minmax":
        return shift, shift + scale, shift + scale / 2
    return shift - 3 * scale, shift + 3 * scale, shift


def _nice(low: float, high: float, start: float, whole: bool) -> dict[str, float]:
    """A range with ends that are multiples of its step, a power of ten below a hundredth of it; 1 for whole numbers."""
    if not low < high:
        return {"low": low, "high": high, "step": 1, "start": start}
    exponent = 0 if whole else math.floor(math.log10((high - low) / 100))
    step = 10.0**exponent
    ends = [round(way(end / step) * step, max(0, -exponent)) for way, end in ((math.floor, low), (math.ceil, high))]
    return {"low": ends[0], "high": ends[1], "step": step, "start": round(start, max(0, -exponent))}
