"""Features and labels that stay on the disk because of their size, in one file that is mapped or in a set's many parts.

They are read row by row where they are needed, and never through a mapping, whose pages would stay in memory.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.arrays import is_on_host, namespace_of
from xpnet.data.packed import MAX_BYTES
from xpnet.errors import DataError
from xpnet.files import open_regular

__all__ = ["Part", "Parts", "check_size", "is_mapped", "rows_of"]

_BLOCK = 1 << 20


def is_mapped(array: Any) -> bool:
    """Whether an array lies on the disk, from where rows_of reads; copies of a mapping, np.memmap too, do not."""
    return isinstance(array, Parts) or (
        isinstance(array, np.memmap)
        and isinstance(array.filename, str | os.PathLike)
        and array.mode != "c"
        and array.flags.c_contiguous
    )


def rows_of(array: Any, rows: NDArray[np.intp]) -> Any:
    """Copy some rows of an array; those on the disk are read from there.

    array : (n, ...).   rows : (k,) integers in 0..n-1; runs of neighbours are read at once.
    Returns (k, ...), where the array is.   Raises DataError if a file has become shorter, was removed or is damaged.
    """
    if isinstance(array, Parts):
        return array.take(rows)
    if not is_on_host(array):
        from array_api_compat import device

        xp = namespace_of(array)
        return xp.take(array, xp.asarray(rows, device=device(array)), axis=0)
    if not is_mapped(array) or not len(rows):
        return np.take(np.asarray(array), rows, axis=0)
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    # A part of a mapping calls the whole one's offset its own.
    offset = root.offset + array.ctypes.data - root.ctypes.data
    taken = np.empty((len(rows), *array.shape[1:]), array.dtype)
    try:
        with open_regular(root.filename) as file:
            for start, end in _runs(rows):
                _read_run(file, offset, rows, taken, start, end)
    except OSError as error:
        raise _changed(root.filename, error.strerror or error) from None
    return taken


class Part(NamedTuple):
    """A file of the rows of an array.

    header : the bytes that it begins with; the rows follow.   n : of rows.   sha256 : of all of the file, hexadecimal.
    """

    path: Path
    header: bytes
    n: int
    sha256: str


class Parts:
    """The rows of several files, one after the other, as an array that is read where it is needed.

    A slice of neighbours is such an array again, and nothing is read for it; other rows are read, into an array of
    NumPy's, and so is everything by numpy.asarray, unless it is more than MAX_BYTES.
    A file is checked when it is first read: its size, its header, its SHA-256, and that labels are those of classes.
    From then on it must not change. A DataError names a file that is wrong.

    parts : the files.   stored : the dtype of the numbers in them.   shape : of a row.
    dtype : of the array.   n_classes : of labels, which are in 0..n_classes-1; None for features.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        stored: np.dtype[Any],
        shape: tuple[int, ...] = (),
        *,
        dtype: Any = None,
        n_classes: int | None = None,
    ) -> None:
        self._files = _Files(parts, stored, math.prod(shape) * stored.itemsize, n_classes)
        self._start, self.dtype = 0, np.dtype(stored if dtype is None else dtype)
        self.shape = (int(self._files.ends[-1]), *shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that it would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def sha256(self) -> str:
        """A digest of what it holds, made of the digests of its files, none of which is read."""
        about = (str(self.dtype), self.shape, self._start, [(part.n, part.sha256) for part in self._files.parts])
        return hashlib.sha256(repr(about).encode()).hexdigest()

    def take(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """The rows (k,) in 0..n-1, read from their files, one of which is open at a time: (k, ...)."""
        files, rows = self._files, np.asarray(rows, np.int64) + self._start
        which = np.searchsorted(files.ends, rows, side="right")
        runs = [*_runs(rows, which)]
        for i in np.unique(which).tolist():  # before memory is taken for what a file may not have
            files.check(i)
        taken = np.empty((len(rows), *self.shape[1:]), files.stored)
        of_run = which[[start for start, _ in runs]] if runs else which
        for i in np.unique(of_run).tolist():
            first, part = int(files.ends[i]) - files.parts[i].n, files.parts[i]
            with files.open(i) as file:
                for at in np.flatnonzero(of_run == i).tolist():
                    _read_run(file, len(part.header) - first * files.row_bytes, rows, taken, *runs[at])
        return taken.astype(self.dtype, copy=False)

    def reshape(self, *shape: Any, order: str = "C") -> Self:
        """The same rows, each of another shape; one length may be -1."""
        wanted = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        k = math.prod(self.shape[1:])
        rest = tuple(-k // math.prod(wanted[1:]) if length == -1 else length for length in wanted[1:])
        if order != "C" or wanted[:1] not in ((len(self),), (-1,)) or math.prod(rest) != k:
            raise ValueError(f"rows of shape {self.shape[1:]} cannot become {wanted} where they are")
        return self._like(self._start, (len(self), *rest))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        rows, *rest = key if isinstance(key, tuple) and key else (key,)
        if rows is Ellipsis or not all(each is Ellipsis or _is_all(each) for each in rest):
            return np.asarray(self)[key]
        n = len(self)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(n)
            if step == 1:
                return self._like(self._start + start, (max(stop - start, 0), *self.shape[1:]))
            return self.take(np.arange(start, stop, step))
        wanted = np.asarray(rows)
        wanted = np.flatnonzero(wanted) if wanted.dtype == bool and wanted.shape == (n,) else wanted
        if wanted.ndim > 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise IndexError(f"rows are chosen by integers, not by {wanted.dtype} of shape {wanted.shape}")
        if wanted.size and not -n <= wanted.min() <= wanted.max() < n:
            raise IndexError(f"of {n} rows there is no {wanted.max() if wanted.max() >= n else wanted.min()}")
        wanted = wanted.astype(np.int64)
        found = self.take(np.atleast_1d(np.where(wanted < 0, wanted + n, wanted)))
        return found if wanted.ndim else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self.nbytes > MAX_BYTES:
            raise DataError(
                f"{self._files.parts[0].path.parent}: this would take all {len(self):,} examples into memory, "
                f"{self.nbytes / 1e9:.1f} GB; use fewer of them"
            )
        return self.take(np.arange(len(self))).astype(self.dtype if dtype is None else dtype, copy=False)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return np

    def __repr__(self) -> str:
        return f"<Parts of {self.dtype} {self.shape} in {len(self._files.parts)} files>"

    def _like(self, start: int, shape: tuple[int, ...]) -> Self:
        other = object.__new__(type(self))
        other._files, other._start, other.dtype, other.shape = self._files, start, self.dtype, shape
        return other


class _Files:
    """The files of an array, and which of them have been checked."""

    def __init__(self, parts: Sequence[Part], stored: np.dtype[Any], row_bytes: int, n_classes: int | None) -> None:
        self.parts, self.stored, self.row_bytes, self.n_classes = parts, stored, row_bytes, n_classes
        self.ends = np.cumsum([part.n for part in parts])
        self._stamps: dict[int, tuple[int, int, int]] = {}

    @contextmanager
    def open(self, i: int) -> Iterator[BufferedReader]:
        """Open file i.   Raises DataError, also within the context, if it is not as it was."""
        path = self.parts[i].path
        try:
            with open_regular(path) as file:
                if _stamp(file) != self._stamps[i]:
                    raise _changed(path, "it was written to")
                yield file
        except OSError as error:
            raise _changed(path, error.strerror or error) from None

    def check(self, i: int) -> None:
        """Read all of file i, if that has not been done.   Raises DataError if it is not what it is to be."""
        if i in self._stamps:
            return
        path, header, n, expected = self.parts[i]
        size = len(header) + n * self.row_bytes
        try:
            with open_regular(path) as file:
                stamp = _stamp(file)
                check_size(path, size, stamp[1])
                if file.read(len(header)) != header:
                    raise DataError(f"{path}: its header is not that of an IDX file of {n} such rows; write it again")
                digest, block, done, wrong = hashlib.sha256(header), memoryview(bytearray(_BLOCK)), 0, ""
                while count := file.readinto(block):
                    digest.update(block[:count])
                    wrong = wrong or self._wrong_label(block[:count], done)
                    done += count
                if _stamp(file) != stamp or done + len(header) != size:
                    raise _changed(path, "it was written to")
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from None
        if digest.hexdigest() != expected:
            raise DataError(
                f"{path}: damaged: its SHA-256 is {digest.hexdigest()}, but in the manifest {expected}; copy it again"
            )
        if wrong:
            raise DataError(f"{path}: {wrong}")
        self._stamps[i] = stamp

    def _wrong_label(self, content: memoryview, start: int) -> str:
        """What is wrong with the labels that lie in a file from a byte on: one is not in 0..n_classes-1; "" if none."""
        if self.n_classes is None or len(content) % self.stored.itemsize:
            return ""
        labels = np.frombuffer(content, self.stored)
        for i in np.flatnonzero((labels < 0) | (labels >= self.n_classes))[:1].tolist():
            row = start // self.stored.itemsize + i
            return f"label {labels[i]} of row {row} is not one of the {self.n_classes} classes"
        return ""


def check_size(path: Path, declared: int, found: int) -> None:
    """Raise DataError if a part has another number of bytes than the manifest says."""
    if found != declared:
        raise DataError(f"{path}: {found} bytes, but {declared} by the manifest; copy it again")


def _stamp(file: BufferedReader) -> tuple[int, int, int]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def _changed(path: str | os.PathLike[str], why: object) -> DataError:
    return DataError(f"{path}: changed while in use ({why}); leave it unchanged")


def _is_all(key: Any) -> bool:
    return isinstance(key, slice) and key == slice(None)


def _runs(rows: NDArray[np.intp], which: NDArray[np.intp] | None = None) -> Iterator[tuple[int, int]]:
    """Where runs of neighbours in the same file begin and end among some rows."""
    if not len(rows):
        return iter(())
    cut = np.diff(rows) != 1
    if which is not None:
        cut |= np.diff(which) != 0
    ends = (np.flatnonzero(cut) + 1).tolist()
    return zip([0, *ends], [*ends, len(rows)], strict=True)


def _read_run(
    file: BufferedReader, offset: int, rows: NDArray[np.intp], taken: NDArray[Any], start: int, end: int
) -> None:
    """Read the rows start to end - 1 of those wanted, neighbours, into their place in an array.

    offset : of the file's row 0.   Raises OSError if they are not there.
    """
    flat, size = taken.reshape(-1).view(np.uint8).data, taken.nbytes // len(taken)
    file.seek(offset + int(rows[start]) * size)
    if file.readinto(flat[start * size : end * size]) != (end - start) * size:
        raise OSError("it is shorter than it was")
