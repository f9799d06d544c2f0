"""Shared by all formats: arrays are made into splits, or refused if they cannot be images and labels."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.data.dataset import Dataset, Split
from xpnet.errors import DataError

__all__ = ["MAX_BYTES", "NUMBERS", "dataset_of", "shaped", "split_of"]

MAX_BYTES = 1 << 30
"""No file may unpack to more than 1 GiB; the largest known set, EMNIST by class, takes 0.55 GB."""

MAX_CLASSES = 1000

NUMBERS = re.compile(r"[<>=|]?(b1|[ui][1248]|f[248])")
"""How NumPy calls the types that pixels and labels may have."""

_LABELS_AT_ONCE = 1 << 20


def split_of(
    images: ArrayLike, labels: ArrayLike, where: str, entry: Callable[[int], str] = "image {}".format
) -> Split:
    """The split that some arrays form.

    images : numbers, (n, height, width) or (n, n_features), whole in 0..255 or floats in [0, 1]; rows of a square
        number of pixels become squares.   labels : (n,) whole numbers in 0..MAX_CLASSES - 1.
    where : the beginning of an error message.   entry : names the image of an index in it.
    Raises DataError for anything else.
    """
    with np.errstate(all="ignore"):  # a NaN is refused, whatever NumPy has to say of it
        pixels = _pixels(np.asanyarray(images), where, entry)
        if not isinstance(pixels, np.memmap):
            pixels = np.ascontiguousarray(pixels)
        return Split(pixels, _classes(np.asarray(labels), where, entry))


def dataset_of(path: Path, train: Split, test: Split | None = None, validation: Split | None = None) -> Dataset:
    """The data set that a file's splits are, with as many classes as the training labels show.   Raises DataError."""
    labels, n_classes = np.asarray(train.labels), 0
    if (
        labels.ndim == 1
        and labels.dtype.kind in "iu"
        and 0 <= labels.min(initial=0) <= labels.max(initial=0) < MAX_CLASSES
    ):
        _check_stray(path, labels.astype(np.int32))
        n_classes = max(2, int(labels.max(initial=0)) + 1)
    return Dataset(path.name, train, test, validation, n_classes, str(path.resolve()))


def shaped(
    content: bytes | bytearray | memoryview, dtype: np.dtype[Any], shape: Sequence[int], order: str = "C"
) -> NDArray[Any]:
    """The array that content is, in native byte order."""
    try:
        array = np.frombuffer(content, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
    except ValueError:  # no bytes, but a shape that is beyond NumPy
        raise DataError(f"no array can have the shape {tuple(shape)}") from None
    if dtype.kind == "b":  # whose bytes a hostile file may set to more than 0 and 1
        array = array.view(np.uint8) != 0
    native: NDArray[Any] = array.astype(dtype.newbyteorder("="), copy=False)
    return native


def _pixels(images: NDArray[Any], where: str, entry: Callable[[int], str]) -> NDArray[Any]:
    if images.dtype.kind not in "uif" or images.ndim not in (2, 3):
        raise DataError(f"{where}: images must be numbers of shape (n, ...), not {images.dtype} of {images.shape}")
    if images.ndim == 2 and (side := math.isqrt(images.shape[1])) ** 2 == images.shape[1]:
        images = images.reshape(len(images), side, side)
    if images.dtype == np.uint8 or images.size == 0:
        return images.astype(np.uint8, copy=False)
    fine = np.isfinite(images)
    if fine.all():  # one NaN must not make whole numbers look like fractions
        whole = images.dtype.kind != "f" or bool(images.max() > 1 and (np.rint(images) == images).all())
        fine = (images >= 0) & (images <= (255 if whole else 1))
    if not fine.all():
        first = np.argwhere(~fine)[0]
        raise DataError(
            f"{where}: pixel value {images[tuple(first)]} in {entry(int(first[0]))}, at {tuple(map(int, first[1:]))}; "
            "pixels must be whole numbers in 0..255 or floats in [0, 1]"
        )
    if whole:
        return images.astype(np.uint8)
    return images.astype(np.float32 if images.itemsize <= 4 else np.float64, copy=False)


def _classes(labels: NDArray[Any], where: str, entry: Callable[[int], str]) -> NDArray[np.int32]:
    if labels.dtype.kind not in "uif" or labels.ndim != 1:
        raise DataError(f"{where}: labels must be numbers of shape (n,), not {labels.dtype} of {labels.shape}")
    fine = (labels >= 0) & (labels < MAX_CLASSES)
    if labels.dtype.kind == "f":
        fine &= np.rint(labels) == labels
    if not fine.all():
        first = int(np.flatnonzero(~fine)[0])
        raise DataError(
            f"{where}: label {labels[first]} of {entry(first)}; labels must be whole numbers in 0..{MAX_CLASSES - 1}"
        )
    return labels.astype(np.int32)


def _check_stray(path: Path, labels: NDArray[np.int32]) -> None:
    """Take the few highest labels for damage if hardly any image has them: a file says nowhere how many classes it has.

    Behind a number that never occurs, a twentieth of the usual count is too few; without such a gap, a thousandth.
    """
    if not len(labels):
        return
    # In parts, since bincount takes a copy of eight bytes for each label.
    parts = np.array_split(labels, 1 + len(labels) // _LABELS_AT_ONCE)
    counts = np.sum([np.bincount(part, minlength=MAX_CLASSES) for part in parts], axis=0)[: labels.max() + 1]
    gaps = np.flatnonzero(counts == 0)
    start, few = (int(gaps[-1]) + 1, 20) if gaps.size else (len(counts) - 1, 1000)
    if few * np.mean(counts[start:]) < np.mean(counts[counts > 0]):
        first = int(np.flatnonzero(labels >= start)[0])
        times = int(counts[labels[first]])
        raise DataError(
            f"{path}: label {labels[first]} of training image {first} looks like an error: it occurs "
            f"{times} time{'s'[: times > 1]} among {len(labels)}; correct it, or remove those images"
        )
