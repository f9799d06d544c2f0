"""Shared by all formats: the bytes of an array, and the data set that splits are."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Dataset, Split
from xpnet.data.mapped import is_mapped
from xpnet.data.packed import MAX_BYTES
from xpnet.errors import DataError

__all__ = ["MAX_BYTES", "NUMBERS", "dataset_of", "shaped"]

NUMBERS = re.compile(r"[<>=|]?(b1|[ui][1248]|f[248])")
"""How NumPy calls the types that pixels and labels may have."""

_LABELS_AT_ONCE = 1 << 20
_FEW = 20
"""A class with less than this part of the mean number of examples is warned of."""

_SHOWN = 5
logger = logging.getLogger("xpnet")


def dataset_of(
    path: Path, train: Split, test: Split | None = None, validation: Split | None = None, **about: Any
) -> Dataset:
    """The data set that the splits of a file or folder are, as they are in it; its classes are those that occur.

    path : where it was read.   about : name, task, scale, classes or form, as in Dataset.
    Warns of a class that hardly any training example has: a few of it are an error, or too few to be learned.
    Raises DataError as Dataset does.
    """
    data = Dataset(
        **{"name": path.name, "source": str(path.resolve())} | about, train=train, test=test, validation=validation
    )
    if data.task == "classification" and not is_mapped(data.train.targets):
        _warn_of_few(path, data)
    return data


def shaped(
    content: bytes | bytearray | memoryview, dtype: np.dtype[Any], shape: Sequence[int], order: str = "C"
) -> NDArray[Any]:
    """The array that content is, in native byte order."""
    try:
        array = np.frombuffer(content, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
    except ValueError:  # no bytes, but a shape that is beyond NumPy
        raise DataError(f"no array can have the shape {tuple(shape)}") from None
    native: NDArray[Any] = array.astype(dtype.newbyteorder("="), copy=False)
    return native


def _warn_of_few(path: Path, data: Dataset) -> None:
    labels = data.train.targets
    # In parts, since bincount takes a copy of eight bytes for each label.
    parts = np.array_split(labels, 1 + len(labels) // _LABELS_AT_ONCE)
    counts = np.sum([np.bincount(part, minlength=data.n_classes) for part in parts], axis=0)
    rare = np.flatnonzero((counts > 0) & (counts * _FEW < len(labels) / np.count_nonzero(counts)))
    if len(rare):
        shown = ", ".join(f"{data.classes[i]!r} ({counts[i]})" for i in rare[:_SHOWN])
        logger.warning(
            "%s: few training examples of the label%s %s%s; more are needed to learn %s, unless it is an error",
            path,
            "s"[: len(rare) > 1],
            shown,
            " ..."[: 4 * (len(rare) > _SHOWN)],
            "them" if len(rare) > 1 else "it",
        )
