"""Recognises what a file or folder holds, by names or, failing that, by content, and reads it."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.data.dataset import Dataset, Split
from xpnet.data.packed import Location, expanded, listed, open_archive, open_zip, unpacked
from xpnet.errors import DataError

from .folders import Classes, picture_classes, picture_parts, read_pictures, stray_pictures
from .idx import idx_files, idx_name, read_idx_split
from .mat import read_mat
from .npz import array_sets, read_array_files, read_npy, read_npz
from .parts import has_parts, read_parts
from .pickles import read_pickle  # nosec B403
from .shared import dataset_of
from .tables import Table, ordered, read_beside, read_table

if TYPE_CHECKING:
    from xpnet.data.download import Progress

__all__ = ["read", "read_split"]

_LOOKED_FOR = (
    "IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, ...), .npz, .npy, .pkl, .mat, .csv, .parquet, "
    "pictures in a folder for each class, and .zip, .tar or .gz of these"
)
_NAMES = (
    (r".*(idx\d|ubyte).*|.*\.idx", "idx"),
    (r".*\.npz", "npz"),
    (r".*\.npy", "npy"),
    (r".*\.mat", "mat"),
    (r".*\.(pkl|pickle)", "pickle"),
    (r".*\.(csv|tsv|parquet|arrow|feather)", "table"),
    (r".*\.(zip|tar|tgz)", "archive"),
    (r".*\.(txt|dat|data|tra|tes)", "text"),
)
_CONTENTS = (
    (b"\0\0", "idx"),
    (b"\x93NUMPY", "npy"),
    (b"\x80", "pickle"),
    (b"MATL", "mat"),
    (b"PAR1", "table"),
    (b"ARROW1", "table"),
)
_REFUSED = (
    (rb"\x89HDF", "an HDF5 file; save its arrays by np.savez(path, X=X, y=y)"),
    (rb"BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "packed in a way that is not read; unpack it first"),
    (
        rb"\x89PNG|\xff\xd8\xff|GIF8|BM|RIFF|II\*\0|MM\0\*",
        "a single picture; a set is a folder of pictures for each class",
    ),
    (rb"\xd0\xcf\x11\xe0", "a spreadsheet; save it as CSV"),
)
_REFUSED_NAMES = (
    (r".*\.(xlsx?|ods)", "a spreadsheet; save it as CSV"),
    (r".*\.(pth?|ckpt)", "a file of PyTorch's; save its arrays by np.savez(path, X=X, y=y)"),
)
_IN_FOLDERS: tuple[str | Callable[[Location], dict[str, Classes]], ...] = (
    r"\.npz",
    r"\.(pkl|pickle)",
    r"\.mat",
    picture_parts,
    r"(train.*\.(csv|tsv|txt)|\.tra)",
    r"(train(?!-\d+-of-).*|train-0+-of-.*)\.parquet",
    r"\.(csv|tsv|data|parquet|arrow|feather)",
    picture_classes,
    r"train.*\.(zip|tar|tgz)",
    r"\.(zip|tar|tgz)",
)
"""What is looked for in a folder, one after the other: names of files, or pictures."""

_MAX_DEPTH = 3
"""Folders within folders that are searched: torchvision keeps its files in MNIST/raw."""

_SIBLINGS = {
    "test": (("train", "test"), ("Train", "Test"), ("TRAIN", "TEST"), (".tra", ".tes")),
    "validation": (("train", "val"), ("train", "valid"), ("training", "validation"), ("train", "validation")),
}
"""What stands in the name of a training file, and in the names of those beside it."""

logger = logging.getLogger("xpnet")


@dataclass(frozen=True)
class _How:
    """What a reader is told: the arguments of read."""

    label: str | None = None
    size: int | tuple[int, int] | None = None
    progress: "Progress | None" = None
    features: Sequence[str] | int | None = None


@dataclass(frozen=True)
class _Found:
    """What was read: the splits of each part, as they are in the files; of a table also what its columns are.

    about : what the Dataset is told of a set in parts, whose labels are not read to find it.
    """

    splits: dict[str, Split]
    table: Table | None = None
    about: dict[str, Any] = field(default_factory=dict)


_Reader = Callable[[_How], _Found]


def read(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    test: str | os.PathLike[str] | None = None,
    validation: str | os.PathLike[str] | None = None,
    size: int | tuple[int, int] | None = None,
    task: str = "auto",
    scale: str = "auto",
    features: Sequence[str] | int | None = None,
    progress: "Progress | None" = None,
) -> Dataset:
    """Read a data set from a file, a folder or an archive, in any of the known formats.

    path : a folder; or one file: IDX images (labels and the test pair are found beside it), npz, npy (its partners are
        found beside it), pickle, MATLAB's .mat, or a table (a file with test for train in its name is its test split);
        or a zip, tar or gz of these, which is read where it is.
    label : the name or index of a table's label column; None to find it.
    test, validation : other files or folders, whose training or only split becomes that split.
    size : (height, width), or one number for both, to which pictures in folders are brought; None for their common
        size or, if they differ, 28.
    task, scale : as in Dataset.
    features : of the model that a table's rows are for, where known, their names or their number.
    progress : called with (description, bytes done, bytes in all) while pictures are read.
    Returns the Dataset; its classes are those that the file names, or else the labels that occur.
    Raises DataError if there is nothing readable, or it is damaged.
    """
    where, how = expanded(Path(path)), _How(label, size, progress, features)
    try:
        found = _read(where, how)
        if label is not None and found.table is None:
            raise DataError(f"{where}: a label column can be named for a table only, and this is none")
        splits = dict(found.splits)
        for part, beside in (("test", test), ("validation", validation)):
            if beside is not None:
                splits[part] = _beside(expanded(Path(beside)), found, how)
        name = where.name or where.resolve().name  # "." has none of its own
        if found.about and task not in ("auto", found.about["task"]):
            raise DataError(f"{where}: the labels of a set in parts are classes: its task cannot be {task}")
        about = {"task": task, "classes": () if found.table is None else found.table.classes} | found.about
        return dataset_of(where, **splits, name=name, scale=scale, **about)
    except OSError as error:
        raise DataError(f"{error.filename or where}: {error.strerror or error}") from None


def read_split(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    columns: tuple[str, ...] = (),
    progress: "Progress | None" = None,
) -> Split:
    """The training or only split of a file or folder; arguments and errors as in read.

    columns : names of the features in the order in which they are needed; () for as they are there.
    """
    where = expanded(Path(path))
    try:
        return ordered(_alone(_read(where, _How(size=size, progress=progress))), columns, where)
    except OSError as error:
        raise DataError(f"{error.filename or where}: {error.strerror or error}") from None


def _beside(path: Path, found: _Found, how: _How) -> Split:
    """The training or only split of another file, which is to go with what was found."""
    train = found.splits["train"]
    shape = tuple(getattr(train.images, "shape", ()))
    if len(shape) == 3 and how.size is None:
        how = replace(how, size=(shape[1], shape[2]))
    return _alone(_read(path, how, found.table))


def _alone(found: _Found) -> Split:
    """The training or only split, for another set, whose classes its labels have to be compared with."""
    return replace(found.splits["train"], targets=None, checked=False)


def _read(path: Location, how: _How, like: Table | None = None, optional: bool = False) -> _Found:
    """Read a file or folder.   like, optional : of a table, those of read_beside."""
    if path.is_dir():
        return _read_folder(path, how, like, optional)
    if isinstance(path, Path) and not path.is_file():
        if os.path.lexists(path):
            raise DataError(f"{path}: neither a regular file nor a folder")
        raise DataError(f"{path}: no such file or folder; looked for {_LOOKED_FOR}")
    kind = _kind(path)
    logger.info("reading %s (%s)", path, kind)
    if kind == "table":
        return _read_table(path, how, like, optional)
    if kind == "archive":
        with open_archive(path) as root:
            return _with_siblings(path, _read_folder(root, how, like, optional), how, like)
    if kind == "idx":
        return _read_idx(path)
    readers = {"npz": read_npz, "npy": read_npy, "pickle": read_pickle, "mat": read_mat}
    return _Found(readers[kind](path))


def _read_table(path: Location, how: _How, like: Table | None, optional: bool) -> _Found:
    if like is None:
        table = read_table(path, how.label, features=how.features)
        return _with_siblings(path, _Found({"train": table.split}, table), how, None)
    found = read_beside(path, like, optional=optional)
    return _Found({} if found is None else {"train": found.split}, found)


def _with_siblings(path: Location, found: _Found, how: _How, like: Table | None) -> _Found:
    """What was found, and the other parts of it in files whose names differ by train, test or val alone."""
    splits = dict(found.splits)
    if like is None:
        for part, names in _SIBLINGS.items():
            for own, other in names:
                sibling = path.with_name(path.name.replace(own, other))
                if part not in splits and sibling.name != path.name and sibling.is_file():
                    beside = _read(sibling, how, found.table, optional=True).splits
                    splits |= {part: beside["train"]} if beside else {}
    return replace(found, splits=splits)


def _kind(path: Location) -> str:
    """Determine the format by the file's name, else by its content."""
    name = re.sub(r"\.(gz|gzip)$", "", path.name.lower())
    kind = next((kind for pattern, kind in _NAMES if re.fullmatch(pattern, name)), "")
    for ending, what in _REFUSED_NAMES:
        if re.fullmatch(ending, name):
            raise DataError(f"{path}: {what}")
    if kind not in ("", "text", "archive") or (kind == "archive" and not isinstance(path, Path)):
        return kind
    with unpacked(path) as stream:
        start = bytes(_head(stream.read))
    if not start:
        raise DataError(f"{path}: the file is empty; looked for {_LOOKED_FOR}")
    if start.startswith(b"PK\3\4"):
        with open_zip(path) as archive:
            return "npz" if all(name.endswith(".npy") for name in archive.namelist()) else "archive"
    if kind == "archive" or start[257:262] == b"ustar":
        return "archive"
    for magic, kind_ in _CONTENTS:
        if start.startswith(magic):
            return kind_
    for pattern, what in _REFUSED:
        if re.match(pattern, start):
            raise DataError(f"{path}: {what}")
    # Text in columns, of which some are numbers.
    if b"\0" not in start and re.search(rb"\d[\"']?[,;|\t ]+[\"']?[-+.\w]|[,;|\t][\"']?[-+.]?\d", start):
        return "table"
    raise DataError(f"{path}: neither its name nor its content shows a known format; looked for {_LOOKED_FOR}")


def _head(read: Callable[[int], bytes]) -> bytes:
    start = b""
    while len(start) < 512 and (block := read(512 - len(start))):
        start += block
    return start


def _read_idx(path: Location) -> _Found:
    """A set of IDX files, of which one is named."""
    name = idx_name(re.sub(r"\.gzip$", ".gz", path.name))
    if name is None or name[2] != "images":
        raise DataError(
            f"{path}: to find the labels too, name the images file, such as train-images-idx3-ubyte or NAME-images.idx"
        )
    prefix, part, _ = name
    files = idx_files(path.parent).get(prefix, {})
    files[part, "images"] = path
    return _Found({"train": read_idx_split(files, part)} | (_idx_test(files) if part == "train" else {}))


def _idx_test(files: dict[tuple[str, str], Location]) -> dict[str, Split]:
    return {"test": read_idx_split(files, "test")} if ("test", "images") in files else {}


# --- folders ---------------------------------------------------------------------------------------------------------


def _read_folder(folder: Location, how: _How, like: Table | None, optional: bool) -> _Found:
    sets = _sets(folder, like, optional)
    if len(sets) > 1:
        names = ", ".join(sorted(sets)[:8]) + " ..." * (len(sets) > 8)
        raise DataError(f"{folder}: holds several sets ({names}); name one of them")
    for reader in sets.values():
        return reader(how)
    if picture := stray_pictures(folder):
        raise DataError(
            f"{folder}: holds pictures, such as {picture.name}, but not in a folder for each of two classes or more, "
            "named after it"
        )
    raise DataError(f"{folder}: nothing readable in this folder; looked for {_LOOKED_FOR}")


def _sets(folder: Location, like: Table | None, optional: bool, depth: int = 0) -> dict[str, _Reader]:
    """The sets in a folder, by name, or else in the folders in it; what reads each."""
    inside = listed(folder)
    files = [file for file in inside if file.is_file()]
    if has_parts(files):
        return {folder.name: _parts_reader(folder)}
    if sets := idx_files(folder) or _idx_apart(inside):
        return {_named(files): _idx_reader(folder, files) for files in sets.values()}
    if arrays := array_sets(folder):
        return {min(file.name for file in files.values()): _arrays_reader(folder, files) for files in arrays.values()}
    for step in _IN_FOLDERS:
        if not isinstance(step, str):
            if parts := step(folder):
                return {folder.name: _pictures_reader(folder, parts)}
        elif found := [file for file in files if re.search(rf"{step}(\.gz)?$", file.name.lower())]:
            return {file.name: _file_reader(file, like, optional) for file in found}
    sets_below: dict[str, _Reader] = {}
    for sub in (file for file in inside if file.is_dir() and depth < _MAX_DEPTH):
        below = _sets(sub, like, optional, depth + 1)
        sets_below |= {f"{sub.name}/{name}" if len(below) > 1 else sub.name: reader for name, reader in below.items()}
    return sets_below


def _idx_apart(inside: list[Location]) -> dict[str, dict[tuple[str, str], Location]]:
    """Sets of IDX files each of which was unpacked to a folder of its own, as 7-Zip does."""
    found: dict[str, dict[tuple[str, str], Location]] = {}
    for sub in (file for file in inside if file.is_dir()):
        for prefix, files in idx_files(sub).items():
            if len(files) == 1:
                found[prefix] = files | found.get(prefix, {})
    return {
        prefix: files for prefix, files in found.items() if {("train", "images"), ("train", "labels")} <= files.keys()
    }


def _named(files: dict[tuple[str, str], Location]) -> str:
    return next((files[part, "images"].name for part in ("train", "test") if (part, "images") in files), "labels alone")


def _idx_reader(folder: Location, files: dict[tuple[str, str], Location]) -> _Reader:
    def read_files(how: _How) -> _Found:
        logger.info("reading %s (idx)", folder)
        return _Found({"train": read_idx_split(files, "train")} | _idx_test(files))

    return read_files


def _parts_reader(folder: Location) -> _Reader:
    def read_files(how: _How) -> _Found:
        logger.info("reading %s (parts)", folder)
        splits, about = read_parts(folder)
        return _Found(splits, about=about)

    return read_files


def _arrays_reader(folder: Location, files: dict[str, Any]) -> _Reader:
    def read_files(how: _How) -> _Found:
        logger.info("reading %s (npy)", folder)
        return _Found(read_array_files(folder, files))

    return read_files


def _pictures_reader(folder: Location, parts: dict[str, Classes]) -> _Reader:
    def read_files(how: _How) -> _Found:
        logger.info("reading %s (pictures in folders)", folder)
        return _Found(read_pictures(folder, parts, how.size, how.progress))

    return read_files


def _file_reader(file: Location, like: Table | None, optional: bool) -> _Reader:
    return lambda how: _read(file, how, like, optional)
