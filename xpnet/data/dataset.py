"""The result of every reader: images and labels in splits, checked once, when they are put together."""

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError
from xpnet.files import open_regular

__all__ = ["Dataset", "Split", "is_mapped", "rows_of"]


class Split(NamedTuple):
    """Images and their labels.

    images : (n, height, width) or (n, n_features), uint8 in 0..255 or float32/float64 in [0, 1]; an np.memmap if
        they are too large for the memory, to be read by rows_of.
    labels : (n,) int32, the class of each image.
    """

    images: NDArray[Any]
    labels: NDArray[np.int32]


def is_mapped(images: NDArray[Any]) -> bool:
    """Whether images lie in a file, from which rows_of reads; copies of a mapping, which are np.memmap too, do not."""
    return (
        isinstance(images, np.memmap)
        and isinstance(images.filename, str | os.PathLike)
        and images.mode != "c"
        and images.flags.c_contiguous
    )


def rows_of(images: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Copy some images; those of a mapped file are read from the file, since pages of a mapping stay in memory.

    images : (n, ...).   rows : (k,) integers in 0..n-1; runs of neighbours are read at once.
    Returns (k, ...).   Raises DataError if the file has become shorter or was removed.
    """
    if not is_mapped(images) or not len(rows):
        return np.take(np.asarray(images), rows, axis=0)
    root: Any = images
    while isinstance(root.base, np.ndarray):
        root = root.base
    # A part of a mapping calls the whole one's offset its own.
    offset = root.offset + images.ctypes.data - root.ctypes.data
    taken = np.empty((len(rows), *images.shape[1:]), images.dtype)
    flat, size = taken.data.cast("B"), images.nbytes // len(images)
    ends = np.append(np.flatnonzero(np.diff(rows) != 1) + 1, len(rows)).tolist()
    try:
        with open_regular(root.filename) as file:
            start = 0
            for end in ends:
                file.seek(offset + int(rows[start]) * size)
                if file.readinto(flat[start * size : end * size]) != (end - start) * size:
                    raise OSError("it is shorter than it was")
                start = end
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{root.filename}: changed while in use ({why}); leave it unchanged") from None
    return taken


@dataclass(frozen=True, eq=False)
class Dataset:
    """A set of labelled images, checked when it is created.

    name : of the set in headers, configurations and model files.
    train, test, validation : the splits; test and validation may be absent (None).
    n_classes : number of classes; every label lies in 0..n_classes-1.
    source : the path it was read from, or another origin.
    Raises DataError, naming the split, if a split is empty, images and labels differ in number, image shapes differ
    between splits, a pixel is not finite, or a label is not a class.
    """

    name: str
    train: Split
    test: Split | None = None
    validation: Split | None = None
    n_classes: int = 10
    source: str = "memory"

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("test", self.test), ("validation", self.validation)):
            if split is not None:
                self._check(f"{self.source}: {part} split", *split)

    def _check(self, where: str, images: NDArray[Any], labels: NDArray[Any]) -> None:
        if images.dtype not in (np.uint8, np.float32, np.float64) or images.ndim not in (2, 3):
            raise DataError(
                f"{where}: images must be (n, height, width) or (n, n_features), uint8 or float32 or float64, "
                f"not {images.dtype} of shape {images.shape}"
            )
        if labels.dtype != np.int32 or labels.ndim != 1:
            raise DataError(f"{where}: labels must be (n,) int32, not {labels.dtype} of shape {labels.shape}")
        if len(images) != len(labels):
            raise DataError(f"{where}: {len(images)} images but {len(labels)} labels; they must come in pairs")
        if images.size == 0:
            raise DataError(f"{where}: its images have no pixels (shape {images.shape}); at least one is needed")
        if images.shape[1:] != self.image_shape:
            raise DataError(
                f"{where}: images of shape {images.shape[1:]}, but those of the train split are {self.image_shape}"
            )
        bad = np.flatnonzero((labels < 0) | (labels >= self.n_classes))
        if bad.size:
            raise DataError(
                f"{where}: label {labels[bad[0]]} at index {bad[0]} is not a class; classes are 0..{self.n_classes - 1}"
            )
        if images.dtype != np.uint8 and not (fine := (images >= 0) & (images <= 1)).all():
            raise DataError(
                f"{where}: image {np.argwhere(~fine)[0][0]} has a pixel outside [0, 1]; scale floats to that range"
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image: (height, width), or (n_features,) where the pixels do not form a square."""
        return self.train.images.shape[1:]

    @property
    def n_features(self) -> int:
        """Number of pixels of one image: the network's input size."""
        return int(np.prod(self.image_shape))
