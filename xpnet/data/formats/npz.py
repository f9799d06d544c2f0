"""npz, NumPy's archives of arrays, in which Keras publishes MNIST."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.data.packed import open_member, open_zip, refuse_bomb
from xpnet.errors import DataError
from xpnet.files import read_up_to

from .shared import MAX_BYTES, NUMBERS, shaped, split_of

if TYPE_CHECKING:
    import zipfile

__all__ = ["read_npz", "read_npz_arrays"]

_HEADER = re.compile(
    r"\{(?:'(?:descr':'(?P<descr>[^']*)'|fortran_order':(?P<order>True|False)|shape':\((?P<shape>[\dL,]*)\)),?)*\}"
)
_MAX_HEADER = 10_000
_MAGIC = [b"\x93NUMPY" + bytes([version, 0]) for version in (1, 2, 3)]


def read_npz(path: str | os.PathLike[str]) -> tuple[Split, Split]:
    """Read an npz archive with the arrays x_train, y_train, x_test and y_test, as Keras' mnist.npz has them.

    path : the file.
    Returns (train, test).
    Raises DataError if it is damaged, an array is missing or too large, or holds objects instead of numbers.
    """
    x_train, y_train, x_test, y_test = read_npz_arrays(path, ("x_train", "y_train", "x_test", "y_test"))
    return split_of(x_train, y_train, f"{path}: train split"), split_of(x_test, y_test, f"{path}: test split")


def read_npz_arrays(path: str | os.PathLike[str], names: Sequence[str]) -> list[NDArray[Any]]:
    """Read some arrays of numbers from an npz archive.

    path : the file.   names : of the arrays.
    Returns them in that order and in native byte order.   Raises DataError as read_npz does.
    """
    path = Path(path)
    with open_zip(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if missing := [name for name in names if f"{name}.npy" not in members]:
            raise DataError(f"{path}: no array {missing[0]}; {', '.join(names)} are needed")
        wanted = [members[f"{name}.npy"] for name in names]
        total = sum(member.file_size for member in wanted)
        if total > MAX_BYTES:
            raise DataError(f"{path}: its arrays unpack to {total} bytes; the cap is {MAX_BYTES}")
        try:
            refuse_bomb(total, os.stat(path).st_size)
            return [_read_npy(archive, member) for member in wanted]
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def _read_npy(archive: "zipfile.ZipFile", member: "zipfile.ZipInfo") -> NDArray[Any]:
    key = member.filename.removesuffix(".npy")
    with open_member(archive, member) as stream:
        # NumPy's own reader of the header lets Python's parser loose on it.
        magic = stream.read(8)
        size = int.from_bytes(stream.read(2 if magic[6:7] == b"\1" else 4), "little")
        header = stream.read(min(size, _MAX_HEADER)).decode("latin1")
        known = _HEADER.fullmatch("".join(header.split()))
        if magic not in _MAGIC or not known or None in known.groups():
            raise DataError(f"{key} has no NumPy header")
        descr, order, sides = known.groups()
        if not NUMBERS.fullmatch(descr):
            raise DataError(f"{key} has dtype {descr}, which is refused; numbers are needed")
        dtype, shape = np.dtype(descr), tuple(int(side) for side in sides.replace("L", "").split(",") if side)
        size = math.prod(shape) * dtype.itemsize
        content = read_up_to(stream, min(size, member.file_size) + 1)
    if len(content) != size:
        raise DataError(f"{key} declares shape {shape} of {dtype} but holds {len(content)} bytes")
    return shaped(content, dtype, shape, "F" if order == "True" else "C")
