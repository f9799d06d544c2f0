"""IDX, the format in which MNIST and its relatives are published: one array to a file, found by name."""

import gzip
import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.data.packed import Gunzip, Location, listed, located, unpacked
from xpnet.errors import DataError
from xpnet.files import open_regular, read_up_to, write_atomically
from xpnet.platforms import MEMORY_LIMITS, physical_memory

from .shared import MAX_BYTES, shaped

__all__ = [
    "big_endian",
    "idx_files",
    "idx_header",
    "idx_name",
    "idx_sha256",
    "read_idx",
    "read_idx_split",
    "write_idx",
]

MAPPED_SHARE = 1 / 8
"""A raw IDX file of images larger than this share of the memory, or than MAX_BYTES, is not read but mapped."""


_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

_NAME = re.compile(
    r"(?P<set>(.*[^a-zA-Z0-9])?)(?P<part>train|t10k|test)-(?P<kind>images|labels)"
    r"([-.]idx\d-(ubyte|byte|short|int|float|double)|\.idx)(\.gz)?"
)
_PAIR_NAME = re.compile(r"(?P<set>.+-)(?P<kind>images|labels)\.idx(\.gz)?")


def read_idx(path: str | os.PathLike[str] | Location) -> NDArray[Any]:
    """Read an IDX file, raw or gzip-compressed (recognised by its content, not its name).

    path : the file.
    Returns the array, 1 to 4 dimensions, in native byte order: uint8, int8, int16, int32, float32 or float64. Raw
    images (uint8, 2 dimensions or more) that would take more than MAPPED_SHARE of the memory, or than MAX_BYTES, are an
    np.memmap, which cannot be written to.
    Raises DataError if the file is not an IDX file, is damaged, or holds fewer or more bytes than its header declares.
    Source: LeCun, Cortes and Burges, "The MNIST database", section "The IDX file format".
    """
    return _read_idx(located(path))


def _read_idx(path: Location) -> NDArray[Any]:
    with unpacked(path) as stream:
        magic = stream.read(4)
        if not magic:
            raise DataError(f"{path}: the file is empty")
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 4:
            raise DataError(f"{path}: not an IDX file, it begins with 0x{magic.hex()} instead of an IDX magic number")
        dtype, header = np.dtype(_TYPES[magic[2]]), stream.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            raise DataError(f"{path}: truncated within its header; download the file again")
        shape = np.frombuffer(header, ">u4").tolist()
        size = math.prod(shape) * dtype.itemsize
        packed = isinstance(stream, Gunzip)
        pixels = dtype == np.uint8 and len(shape) > 1
        if not packed and isinstance(path, Path):
            file, offset = cast(IO[bytes], stream), 4 + len(header)
            there = os.fstat(file.fileno()).st_size - offset
            if pixels and size > min(MAX_BYTES, MAPPED_SHARE * _memory()):
                _check_size(path, size, there)
                return np.memmap(file, np.dtype(np.uint8), "r", offset, tuple(shape))
            if size <= MAX_BYTES:  # before any of it is read
                _check_size(path, size, there)
        if size > MAX_BYTES:
            hint = " for a packed file, so unpack it" if pixels and packed else ""
            raise DataError(
                f"{path}: its header declares {size} bytes of shape {tuple(shape)}; the cap is {MAX_BYTES}{hint}"
            )
        content = read_up_to(stream, size + 1)
    _check_size(path, size, len(content))
    try:
        return shaped(content, dtype, shape)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _memory() -> float:
    """Bytes of memory that this process may use: the machine's, or less where a container is limited."""
    limits: list[float] = [physical_memory() or math.inf]
    for limit in MEMORY_LIMITS:
        with suppress(OSError, ValueError), open_regular(limit) as file:
            limits.append(int(file.read(32)))  # "max" is not a number
    return min(limits)


def _check_size(path: Location, declared: int, found: int) -> None:
    if found != declared:
        wrong = f"only {found}" if found < declared else "more"
        raise DataError(f"{path}: its header declares {declared} bytes, but it holds {wrong}; download the file again")


def idx_header(dtype: np.dtype[Any], shape: Sequence[int]) -> bytes:
    """The bytes that an IDX file of such an array begins with.   Raises ValueError if IDX cannot hold it."""
    codes = {dtype: code for code, dtype in _TYPES.items()}
    code = codes.get(f">{dtype.kind}{dtype.itemsize}")
    if code is None or not 1 <= len(shape) <= 4:
        raise ValueError(f"IDX cannot hold {dtype} of shape {tuple(shape)}")
    return bytes([0, 0, code, len(shape)]) + np.asarray(shape, ">u4").tobytes()


def big_endian(array: NDArray[Any]) -> NDArray[Any]:
    """An array as IDX has it, without a copy where it is so."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder(">"))


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file, gzip-compressed if the name ends in .gz.

    path : the file, replaced if it exists, completely or not at all.
    array : 1 to 4 dimensions; uint8, int8, int16, int32, float32 or float64.
    Raises ValueError if IDX lacks the type or number of dimensions; OSError.
    """
    content = idx_header(array.dtype, array.shape) + big_endian(array).tobytes()
    write_atomically(Path(path), gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def idx_sha256(array: NDArray[Any]) -> str:
    """SHA-256 of the raw IDX file that would hold array, whatever format it came in."""
    digest = hashlib.sha256(idx_header(array.dtype, array.shape))
    digest.update(big_endian(array).data)
    return digest.hexdigest()


def idx_files(folder: Location) -> dict[str, dict[tuple[str, str], Location]]:
    """Find the IDX files in a folder or zip: set prefix -> (train or test, images or labels) -> file, raw before gz."""
    found: dict[str, dict[tuple[str, str], Location]] = {}
    for file in listed(folder):
        if (name := idx_name(file.name)) and file.is_file():
            prefix, part, kind = name
            found.setdefault(prefix, {}).setdefault((part, kind), file)
    return found


def idx_name(name: str) -> tuple[str, str, str] | None:
    """The set's prefix, train or test, and images or labels, by a file's name; None for any other name."""
    if match := _NAME.fullmatch(name):
        return match["set"], "train" if match["part"] == "train" else "test", match["kind"]
    match = _PAIR_NAME.fullmatch(name)
    return match and (match["set"], "train", match["kind"])


def read_idx_split(files: Mapping[tuple[str, str], Location], part: str) -> Split:
    """Read the images and labels of one part, correcting the differences of EMNIST and QMNIST from MNIST.

    files : a value of idx_files' result.   part : "train" or "test".
    Returns the Split as it is in the files.   Raises DataError if a file is missing, unreadable or the other's.
    """
    for kind in ("images", "labels"):
        if (part, kind) not in files:
            there = next(iter(files.values()))
            raise DataError(f"{there}: the {part} {kind} are missing beside it")
    path, labels_path = files[part, "images"], files[part, "labels"]
    images, labels = _read_idx(path), _read_idx(labels_path)
    if images.ndim == 1:
        raise DataError(f"{path}: holds one number for each image, as labels do")
    if labels.ndim > 2:
        raise DataError(f"{labels_path}: holds an array of shape {labels.shape}, as images do, not labels")
    if path.name.startswith("qmnist-") and labels.ndim == 2 and labels.shape[1]:
        labels = labels[:, 0]
    if path.name.startswith("emnist-") and images.ndim == 3:
        if images.nbytes > MAX_BYTES:
            raise DataError(
                f"{path}: EMNIST's images must be transposed in memory, and {images.nbytes} bytes are too many"
            )
        images = np.ascontiguousarray(images.swapaxes(1, 2))
        if path.name.startswith("emnist-letters-"):
            labels = labels.astype(np.int32) - 1
    if images.dtype.kind == "i" and images.ndim == 3 and images.size and not 0 <= images.min() <= images.max() <= 255:
        at = np.argwhere((images < 0) | (images > 255))[0]
        place = f"image {at[0]}, pixel {tuple(map(int, at[1:]))}"
        raise DataError(
            f"{path}: {images[tuple(at)]} at {place}; the pixels of an IDX file are whole numbers in 0..255"
        )
    if len(images) != len(labels):
        raise DataError(f"{path}: {len(images)} images, but {labels_path.name} has {len(labels)} labels")
    return Split(images, labels, where=str(path), labels_where=str(labels_path), entry="image {}".format)
