"""MATLAB's files of version 5 (-v6, -v7), as mnist-original.mat and EMNIST's are.

SciPy's reader trusts the sizes in a file: 200 bytes make it take 8 GiB, and cells within cells end the process.
Source: MathWorks, "MAT-File Format", chapter 1, "Level 5 MAT-Files".
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.data.packed import Location, located, refuse_bomb, unpacked
from xpnet.errors import DataError
from xpnet.files import read_up_to

from .named import splits_of
from .shared import MAX_BYTES, shaped

__all__ = ["read_mat"]

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_MATRIX, _PACKED = 14, 15
_CELLS, _STRUCTURE, _TEXT = 1, 2, 4
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800

_MAX_DEPTH = 6
_MAX_MATRICES = 100_000
"""EMNIST's take eight; where labels are cells of text, each is one."""

_MAX_TEXT = 1 << 19
"""Characters, each of which may become an object."""

_BLOCK = 1 << 16


def read_mat(path: str | os.PathLike[str] | Location) -> dict[str, Split]:
    """Read a MATLAB file of variables such as data and label, X and y, or of a structure of them, as EMNIST's is.

    The examples are the rows or the columns, whichever are as many as the labels. Labels are numbers, one-hot, rows of
    characters or cells of text. EMNIST's pictures, which lie on their side, are turned upright.

    path : the file, of MATLAB 5 to 7.2.
    Returns train and, where they are there, test and validation, as they are in the file.
    Raises DataError if it is damaged, holds no such pair (its arrays are listed), or is of another version.
    """
    path = located(path)
    with unpacked(path) as stream:
        content = read_up_to(stream, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: holds more than {MAX_BYTES} bytes, the cap")
    if content.startswith(b"MATLAB 7.3 ") or b"\x89HDF" in (content[:4], content[512:516]):
        raise DataError(f"{path}: saved as v7.3; save it with -v7, or its arrays by NumPy's savez")
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
    if order is None:
        raise DataError(f"{path}: not a MATLAB file of version 5 to 7.2; save it with -v7")
    try:
        arrays = dict(_Reader(order, len(content)).arrays(content))
    except (struct.error, zlib.error, UnicodeError, ValueError) as error:
        why = f"damaged MATLAB file ({error}); save or download it again"
        raise DataError(f"{path}: {error if isinstance(error, DataError) else why}") from None
    splits = splits_of(arrays, str(path), by_columns=True)
    return {part: _upright(split) for part, split in splits.items()} if "dataset_train_images" in arrays else splits


def _upright(split: Split) -> Split:
    """EMNIST's pictures, whose pixels are read column by column."""
    n, side = len(split.images), math.isqrt(math.prod(split.images.shape[1:]))
    if split.images.ndim != 2 or side**2 != split.images.shape[1]:
        return split
    return replace(split, images=np.ascontiguousarray(split.images.reshape(n, side, side).swapaxes(1, 2)))


class _Reader:
    """Takes a file apart.   order : of its bytes.   size : of the file."""

    def __init__(self, order: str, size: int) -> None:
        self._order, self._size = order, size
        self._unpacked, self._matrices, self._text = 0, 0, 0

    def arrays(self, content: bytearray) -> Iterator[tuple[str, NDArray[Any]]]:
        """The numbers and texts in a file by their names; those within structures as "structure_field"."""
        at = 128
        while at < len(content):
            kind, body, at = self._element(memoryview(content), at, padded=False)
            if kind == _PACKED:
                kind, body, _ = self._element(memoryview(self._unpack(body)), 0)
            if kind == _MATRIX:
                yield from _flat(*self._matrix(body))

    def _unpack(self, packed: memoryview) -> bytearray:
        packer, content = zlib.decompressobj(), bytearray()
        for start in range(0, len(packed), _BLOCK):
            block: Any = packed[start : start + _BLOCK]
            while block:
                content += (found := packer.decompress(block, _BLOCK))
                self._unpacked += len(found)
                refuse_bomb(self._unpacked, self._size)
                if self._unpacked > MAX_BYTES:
                    raise DataError(f"unpacks to more than {MAX_BYTES} bytes, the cap")
                block = packer.unconsumed_tail
        return content

    def _element(self, content: memoryview, at: int, padded: bool = True) -> tuple[int, memoryview, int]:
        """The kind and content of the element at a place, and the place of the next."""
        kind, size = struct.unpack_from(f"{self._order}II", content, at)
        start = at + 8
        if small := kind >> 16:  # it lies within its tag
            kind, size, start = kind & 0xFFFF, small, at + 4
        body = content[start : start + size]
        if len(body) < size or (small and small > 4):
            raise DataError("it ends in the middle of a variable; save or download it again")
        end = start + size
        return kind, body, end + (-end % 8 if padded or small else 0)

    def _matrix(self, content: memoryview, depth: int = 0) -> tuple[str, Any]:
        """The name of a variable and what it is: numbers, text (n,), a dictionary; None for anything else."""
        self._matrices += 1
        if self._matrices > _MAX_MATRICES or depth > _MAX_DEPTH:
            raise DataError("too many variables, or too deep in each other; save the images and labels alone")
        if not content:
            return "", None
        _, flags, at = self._element(content, 0)
        (flag,) = struct.unpack_from(f"{self._order}I", flags)
        kind = flag & 0xFF
        if flag & _COMPLEX or kind not in (_CELLS, _STRUCTURE, _TEXT, *_NUMERIC):
            return "", None
        _, sides, at = self._element(content, at)
        shape = np.frombuffer(sides, f"{self._order}i4").tolist()
        if not 2 <= len(shape) <= 8 or min(shape) < 0:
            raise DataError("no array can have the shape of a variable; save or download it again")
        _, title, at = self._element(content, at)
        name = bytes(title[:64]).decode("latin1")
        if kind == _CELLS:
            return name, self._cells(content, at, math.prod(shape), depth)
        if kind == _STRUCTURE:
            return name, self._fields(content, at, depth) if math.prod(shape) == 1 else None
        stored, body, _ = self._element(content, at)
        if kind == _TEXT:
            return name, self._rows_of_text(stored, body, shape)
        if stored not in _NUMBERS:
            raise DataError(f"{name} is stored as a type {stored} that is no number")
        dtype = np.dtype(self._order + _NUMBERS[stored])
        if math.prod(shape) * dtype.itemsize != len(body):
            raise DataError(f"{name} declares shape {tuple(shape)} of {dtype} but holds {len(body)} bytes")
        return name, shaped(body, dtype, shape, "F")

    def _cells(self, content: memoryview, at: int, n: int, depth: int) -> NDArray[Any] | None:
        """Cells of text as (n,); None for other cells."""
        found: list[str] = []
        while at < len(content) and len(found) < n:
            _, body, at = self._element(content, at)
            _, text = self._matrix(body, depth + 1)
            if not isinstance(text, np.ndarray) or text.dtype.kind != "O" or len(text) != 1:
                return None
            found.append(text[0])
        return _objects(found) if found and len(found) == n else None

    def _fields(self, content: memoryview, at: int, depth: int) -> dict[str, Any]:
        _, width, at = self._element(content, at)
        (size,) = struct.unpack_from(f"{self._order}i", width)
        _, names, at = self._element(content, at)
        if not 1 <= size <= 64:
            raise DataError("a structure has names of no length")
        fields = {}
        for start in range(0, len(names), size):
            _, body, at = self._element(content, at)
            name = bytes(names[start : start + size]).partition(b"\0")[0].decode("latin1")
            _, fields[name] = self._matrix(body, depth + 1)
        return fields

    def _rows_of_text(self, stored: int, content: memoryview, shape: list[int]) -> NDArray[Any] | None:
        self._text += len(content)
        if stored not in _TEXTS or len(shape) != 2 or self._text > _MAX_TEXT:
            return None
        code = _TEXTS[stored] + ({"<": "-le", ">": "-be"}[self._order] if _TEXTS[stored] == "utf-16" else "")
        text, n = bytes(content).decode(code), shape[0]
        if len(text) != math.prod(shape) or not n:
            return None
        return _objects([text[i::n].rstrip() for i in range(n)])


def _objects(texts: list[str]) -> NDArray[Any]:
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


def _flat(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _flat(f"{name}_{key}", entry)
    elif value is not None and name:
        yield name, value
