"""NumPy's own files: npz, archives of arrays, in which Keras publishes MNIST, and npy, one array to a file."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.data.packed import Location, listed, located, open_member, open_zip, refuse_bomb, size_of, unpacked
from xpnet.errors import DataError
from xpnet.files import Stream, read_up_to

from .named import Role, role_of, roles_in, splits_in_order, splits_of
from .shared import MAX_BYTES, NUMBERS, shaped

if TYPE_CHECKING:
    import zipfile

__all__ = ["TEXT", "array_sets", "read_array_files", "read_npy", "read_npz", "read_npz_arrays"]

_HEADER = re.compile(
    r"\{(?:'(?:descr':'(?P<descr>[^']*)'|fortran_order':(?P<order>True|False)|shape':\((?P<shape>[\dL,]*)\)),?)*\}"
)
_MAX_HEADER = 10_000
_MAGIC = [b"\x93NUMPY" + bytes([version, 0]) for version in (1, 2, 3)]
TEXT = re.compile(r"[<>=|]?[US][1-9]\d{0,2}")
_MAX_ARRAYS = 1000
_ONE_ARRAY = re.compile(r"(?P<stem>.+)(\.npy(\.gz)?|\.npz)", re.IGNORECASE)


class _Header(NamedTuple):
    descr: str
    shape: tuple[int, ...]
    order: str


def read_npz(path: str | os.PathLike[str] | Location) -> dict[str, Split]:
    """Read an npz archive of arrays that are called x_train and y_train, train_images and train_labels, X and y, ...

    path : the file. An archive of a single array, as KMNIST's four files are, is read with those beside it.
    Returns train and, where they are there, test and validation, as they are in the file.
    Raises DataError if it is damaged, holds no such pair, or is too large, or holds objects instead of numbers or text.
    """
    path = located(path)
    with open_zip(path) as archive:
        if len(members := _members(archive)) > _MAX_ARRAYS:
            raise DataError(f"{path}: holds {len(members)} arrays; the cap is {_MAX_ARRAYS}, so stack them")
        headers = {name: _header_of(archive, member, path) for name, member in members.items()}
        if len(headers) == 1 and role_of(next(iter(headers))) is None:
            return read_npy(path)
        in_order = [f"arr_{i}" for i in range(len(headers))]  # as np.savez calls arrays without names
        if headers and headers.keys() == set(in_order):
            return splits_in_order(_read_members(archive, path, in_order), str(path))
        parts = roles_in({name: header.shape for name, header in headers.items()}, str(path))
        names = [name for pair in parts.values() for name in pair]
        arrays = _read_members(archive, path, names)
    return splits_of(dict(zip(names, arrays, strict=True)), str(path))


def read_npz_arrays(path: str | os.PathLike[str] | Location, names: Sequence[str]) -> list[NDArray[Any]]:
    """Read some arrays of numbers or text from an npz archive.

    path : the file.   names : of the arrays.
    Returns them in that order and in native byte order.   Raises DataError as read_npz does.
    """
    path = located(path)
    with open_zip(path) as archive:
        return _read_members(archive, path, names)


def read_npy(path: str | os.PathLike[str] | Location) -> dict[str, Split]:
    """Read the set of npy files, or npz files of one array each, that a file is one of, as x_train.npy and y_train.npy.

    path : one of the files, of any part and kind.
    Returns the splits as read_npz does.   Raises DataError as it does, and if the file's partner is missing.
    """
    path = located(path)
    if (role := _role(path)) is None:
        raise DataError(
            f"{path}: a single array, and its name does not say of what; name a pair, as x_train.npy and y_train.npy"
        )
    files = _array_files(path.parent).get(role.prefix, {})
    if not _has_pair(map(role_of, files)):
        missing = "images" if role.kind == "labels" else "labels"
        raise DataError(f"{path}: its {missing} are missing beside it; name both alike, as x_train.npy and y_train.npy")
    return read_array_files(path.parent, files)


def array_sets(folder: Location) -> dict[str, dict[str, Location]]:
    """The sets in a folder or zip of files that hold one array each: prefix -> name of the array -> file."""
    return {prefix: files for prefix, files in _array_files(folder).items() if _has_pair(map(role_of, files))}


def read_array_files(folder: Location, files: Mapping[str, Location]) -> dict[str, Split]:
    """The splits that files of one array each are.

    folder : in which they are, named in errors.   files : a value of array_sets' result.   Raises DataError.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, file in files.items():
        if file.name.lower().endswith(".npz"):
            with open_zip(file) as archive:
                if len(members := _members(archive)) != 1:
                    raise DataError(f"{file}: holds {len(members)} arrays, but those beside it are of one array each")
                (arrays[name],) = _read_members(archive, file, list(members))
        else:
            with unpacked(file) as stream:
                arrays[name] = _content(stream, "it", _header(stream, "it"))
        if sum(array.nbytes for array in arrays.values()) > MAX_BYTES:
            raise DataError(f"{folder}: its arrays take more than {MAX_BYTES} bytes, the cap")
    return splits_of(arrays, str(folder))


def _array_files(folder: Location) -> dict[str, dict[str, Location]]:
    found: dict[str, dict[str, Location]] = {}
    for file in listed(folder):
        if (role := _role(file)) and file.is_file():
            stem = _ONE_ARRAY.fullmatch(file.name)["stem"]  # type: ignore[index]
            found.setdefault(role.prefix, {}).setdefault(stem, file)
    return found


def _role(file: Location) -> Role | None:
    match = _ONE_ARRAY.fullmatch(file.name)
    return role_of(match["stem"]) if match else None


def _has_pair(roles: Iterable[Role | None]) -> bool:
    kinds = {role.kind for role in roles if role and role.part == "train"}
    return kinds == {"features", "labels"}


def _members(archive: "zipfile.ZipFile") -> dict[str, "zipfile.ZipInfo"]:
    members = archive.infolist()
    return {name.removesuffix(".npy"): member for member in members if (name := member.filename).endswith(".npy")}


def _read_members(archive: "zipfile.ZipFile", path: Location, names: Sequence[str]) -> list[NDArray[Any]]:
    members = _members(archive)
    if missing := [name for name in names if name not in members]:
        raise DataError(f"{path}: no array {missing[0]}; {', '.join(names)} {'are' if len(names) > 1 else 'is'} needed")
    total = sum(members[name].file_size for name in names)
    if total > MAX_BYTES:
        raise DataError(f"{path}: its arrays unpack to {total} bytes; the cap is {MAX_BYTES}")
    try:
        refuse_bomb(total, size_of(path))
        return [_read_member(archive, members[name], name) for name in names]
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _header_of(archive: "zipfile.ZipFile", member: "zipfile.ZipInfo", path: Location) -> _Header:
    try:
        with open_member(archive, member) as stream:
            return _header(stream, member.filename.removesuffix(".npy"))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _read_member(archive: "zipfile.ZipFile", member: "zipfile.ZipInfo", name: str) -> NDArray[Any]:
    with open_member(archive, member) as stream:
        return _content(stream, name, _header(stream, name), member.file_size)


def _header(stream: Stream, name: str) -> _Header:
    """What stands before an array; NumPy's own reader of it lets Python's parser loose on it."""
    magic = bytes(read_up_to(stream, 8))
    size = int.from_bytes(read_up_to(stream, 2 if magic[6:7] == b"\1" else 4), "little")
    header = "".join(read_up_to(stream, min(size, _MAX_HEADER)).decode("latin1").split())
    known = _HEADER.fullmatch(header)
    if magic not in _MAGIC or not known or None in known.groups():
        fault = "is a table of fields; numbers are needed" if "'descr':[" in header else "has no NumPy header"
        raise DataError(f"{name} {fault}")
    sides = [side for side in known["shape"].replace("L", "").split(",") if side]
    if len(sides) > 32 or any(len(side) > 19 for side in sides):
        raise DataError(f"{name} declares a shape that no array can have")
    return _Header(known["descr"], tuple(map(int, sides)), "F" if known["order"] == "True" else "C")


def _content(stream: Stream, name: str, header: _Header, there: int = MAX_BYTES) -> NDArray[Any]:
    """The array behind its header.   there : the most bytes that it may have."""
    if not NUMBERS.fullmatch(header.descr) and not TEXT.fullmatch(header.descr):
        raise DataError(
            f"{name} has dtype {header.descr[:40]}, which is refused; numbers are needed, or text as y.astype(str)"
        )
    dtype = np.dtype(header.descr)
    size = math.prod(header.shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise DataError(f"{name} declares shape {header.shape} of {dtype}: {size} bytes; the cap is {MAX_BYTES}")
    content = read_up_to(stream, min(size, there) + 1)
    if len(content) != size:
        raise DataError(f"{name} declares shape {header.shape} of {dtype} but holds {len(content)} bytes")
    return shaped(content, dtype, header.shape, header.order)
