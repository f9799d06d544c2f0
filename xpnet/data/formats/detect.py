"""Recognises the format of a file by its name or, failing that, by its content."""

import logging
import os
import re
from pathlib import Path

from xpnet.data.dataset import Dataset
from xpnet.data.packed import unpacked
from xpnet.errors import DataError

from .idx import idx_files, idx_name, read_idx_split
from .mat import read_mat
from .npz import array_sets, read_array_files, read_npy, read_npz
from .pickles import read_pickle  # nosec B403
from .shared import dataset_of
from .tables import read_beside, read_table, table_sibling

__all__ = ["read"]

_LOOKED_FOR = (
    "IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte and their t10k- or test- siblings, or NAME-images.idx "
    "and NAME-labels.idx, raw or .gz), "
    ".npz, .npy, .pkl, .pkl.gz, .mat and .csv"
)
logger = logging.getLogger("xpnet")


def read(path: str | os.PathLike[str]) -> Dataset:
    """Read a data set from a file or a folder, in any of the known formats.

    path : a folder; or one file: IDX images (labels and the test pair are found beside it), npz, pickle, or CSV (its
        test sibling is found beside it).
    Returns the Dataset, with the number of classes found in its labels.
    Raises DataError if there is nothing readable, or it is damaged.
    """
    try:
        return _read(Path(path))
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror or error}") from None


def _read(path: Path) -> Dataset:
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; looked for {_LOOKED_FOR}")
    if not path.is_file():
        raise DataError(f"{path}: neither a regular file nor a folder")
    kind = _kind(path)
    logger.info("reading %s (%s)", path, kind)
    if kind == "idx":
        return _read_beside(path)
    for name, reader in (("npz", read_npz), ("npy", read_npy), ("pickle", read_pickle), ("mat", read_mat)):
        if kind == name:
            return dataset_of(path, **reader(path))
    return _read_table(path)


def _read_table(path: Path) -> Dataset:
    train, sibling = read_table(path), table_sibling(path)
    test = None if sibling is None else read_beside(sibling, train, optional=True)
    return dataset_of(path, train.split, None if test is None else test.split)


def _kind(path: Path) -> str:
    """Determine the format by the file's name, else by its content."""
    name = path.name.lower()
    for pattern, kind in (
        (r"idx\d|ubyte|\.idx$", "idx"),
        (r"\.npz$", "npz"),
        (r"\.npy(\.gz)?$", "npy"),
        (r"\.mat$", "mat"),
        (r"\.(pkl|pickle)(\.gz)?$", "pickle"),
        (r"\.csv$", "csv"),
    ):
        if re.search(pattern, name):
            return kind
    with unpacked(path) as stream:
        magic = stream.read(4)
    if not magic:
        raise DataError(f"{path}: the file is empty; looked for {_LOOKED_FOR}")
    for start, kind in ((b"PK\3\4", "npz"), (b"\0\0", "idx"), (b"\x80", "pickle"), (b"MATL", "mat")):
        if magic.startswith(start):
            return kind
    raise DataError(f"{path}: neither its name nor its content shows a known format; looked for {_LOOKED_FOR}")


def _read_beside(path: Path) -> Dataset:
    name = idx_name(path.name)
    if name is None or name[2] != "images":
        raise DataError(
            f"{path}: to find the labels too, name the images file, such as train-images-idx3-ubyte or NAME-images.idx"
        )
    prefix, part, _ = name
    files = idx_files(path.parent)[prefix]
    files[part, "images"] = path
    test = read_idx_split(files, "test") if part == "train" and ("test", "images") in files else None
    return dataset_of(path, read_idx_split(files, part), test)


def _read_folder(path: Path) -> Dataset:
    sets = idx_files(path)
    if len(sets) > 1:
        raise DataError(f"{path}: holds several sets ({', '.join(sorted(sets))}); name the images file of one")
    for files in sets.values():
        logger.info("reading %s (idx)", path)
        test = read_idx_split(files, "test") if ("test", "images") in files else None
        return dataset_of(path, read_idx_split(files, "train"), test)
    arrays = array_sets(path)
    if len(arrays) > 1:
        raise DataError(f"{path}: holds several sets ({', '.join(sorted(map(repr, arrays)))}); name a file of one")
    for named in arrays.values():
        logger.info("reading %s (npy)", path)
        return dataset_of(path, **read_array_files(path, named))
    candidates = sorted(file for file in path.iterdir() if file.is_file())
    for pattern in (r"\.npz$", r"\.(pkl|pickle)(\.gz)?$", r"\.mat$", r"train.*\.csv$", r"\.csv$"):
        found = [file for file in candidates if re.search(pattern, file.name.lower())]
        if len(found) > 1:
            raise DataError(f"{path}: holds several sets ({', '.join(file.name for file in found)}); name one of them")
        if found:
            return _read(found[0])
    raise DataError(f"{path}: nothing readable in this folder; looked for {_LOOKED_FOR}")
