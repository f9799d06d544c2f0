"""Sets of any size: a folder of many IDX files, and a manifest of their lengths and SHA-256.

    train-00000-of-04096-images.idx   train-00000-of-04096-labels.idx   ...   test-00001-of-00002-labels.idx
    manifest.json

An IDX file has less than 2^32 rows, and one file of terabytes is awkward to copy and to check. The manifest is JSON,
which any program writes, and which Python reads forty times as fast as TOML. It names no files: their names follow from
their numbers, so that it can lead neither out of the folder nor twice to one file.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.arrays import features_of
from xpnet.data.dataset import Split
from xpnet.data.mapped import Part, Parts, check_size
from xpnet.data.packed import MAX_BYTES, Location
from xpnet.data.schema import form_of
from xpnet.errors import DataError
from xpnet.files import read_whole, write_atomically

from .idx import big_endian, idx_header

if TYPE_CHECKING:
    from xpnet.data.download import Progress

__all__ = ["MANIFEST", "has_parts", "read_parts", "write_parts"]

MANIFEST = "manifest.json"
FORMAT = "xpnet-parts-1"

_SPLITS = ("train", "test", "validation")
_NAME = re.compile(rf"({'|'.join(_SPLITS)})-\d{{5}}-of-\d{{5}}-(images|labels)\.idx")
_PIXELS: np.dtype[Any] = np.dtype(np.uint8)
_LABELS: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "int32": np.dtype(">i4")}

_Entry = tuple[int, dict[str, str]]

_MOST_BYTES = 1 << 25  # of a manifest
_MOST_PARTS = 99_999
_MOST_MARKS = 5 * _MOST_PARTS  # braces, brackets and commas: four for each part, and one for each name of a class
_MOST_CLASSES = 1 << 16
_MOST_ROWS = (1 << 32) - 1


def has_parts(files: Iterable[Location]) -> bool:
    """Whether some files are parts, by the name of one."""
    return any(_NAME.fullmatch(file.name) for file in files)


def read_parts(folder: Location) -> tuple[dict[str, Split], dict[str, Any]]:
    """The splits of a folder of parts, which stay in their files, and the task, classes and form of the Dataset.

    Only the first part is read; the others have to be there, and to have their size.
    Raises DataError if the manifest is missing or damaged, or a file is missing or has another size.
    """
    if not isinstance(folder, Path):
        raise DataError(f"{folder}: holds a set in parts, which are read from a folder only; unpack it")
    path = folder / MANIFEST
    try:
        content = read_whole(path, _MOST_BYTES)
        if sum(map(content.count, (b"{", b"[", b","))) > _MOST_MARKS:  # each may become an object of Python's
            raise DataError(f"{path}: has too many entries; a set has at most {_MOST_PARTS} parts")
        table = json.loads(content.decode())
    except FileNotFoundError:
        raise DataError(f"{path}: missing, so that this set in parts is not complete; write it again") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise DataError(f"{path}: not a manifest of parts: its format is not {FORMAT!r}")
    classes = _classes(path, table.get("classes"))
    stored = table.get("labels")
    if not isinstance(stored, str) or stored not in _LABELS:
        raise DataError(f"{path}: labels must be {' or '.join(_LABELS)}, not {str(stored)[:60]}")
    shape = table.get("shape")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 3 or not all(_is_whole(k, 1, MAX_BYTES) for k in shape):
        raise DataError(f"{path}: shape must be a list of one to three numbers, that of an image")
    if math.prod(shape) > MAX_BYTES:
        raise DataError(f"{path}: an image of {math.prod(shape)} bytes; the cap is {MAX_BYTES}")
    row = features_of(np.broadcast_to(np.uint8(0), (1, *shape)), str(path)).shape[1:]
    splits: dict[str, Split] = {}
    for split in _SPLITS:
        if split in table or split == "train":
            entries = _entries(path, split, table.get(split))
            images = Parts(_files(folder, split, "images", entries, _PIXELS, shape), _PIXELS, row)
            files = _files(folder, split, "labels", entries, _LABELS[stored], [])
            targets = Parts(files, _LABELS[stored], dtype=np.int32, n_classes=len(classes))
            splits[split] = Split(images, targets, targets=targets, checked=True)
    first = splits["train"].images[: _entries(path, "train", table["train"])[0][0]]
    return splits, {"task": "classification", "classes": classes, "form": form_of(first)}


def write_parts(
    folder: str | os.PathLike[str],
    part: Callable[[str, int], tuple[NDArray[Any], NDArray[Any]]],
    *,
    train: int,
    test: int = 0,
    validation: int = 0,
    classes: int | Sequence[str],
    progress: "Progress | None" = None,
) -> None:
    """Write a set in parts, of which one at a time is in memory; the folder's path is then the name of the set.

    folder : made where it is missing. Each file is written completely or not at all, and the manifest last.
    part : part(split, i) -> (images, labels) makes part i of a split: (n, height, width) or (n, k) uint8, of one shape
        in all parts, and (n,) whole numbers, the positions among the classes; n at least 1.
    train, test, validation : numbers of parts of the splits, together at most 99,999.
    classes : how many there are, or their names.   progress : called with (description, parts done, parts in all).
    Raises DataError for a folder that holds a set already, and for parts that cannot be used; OSError.
    """
    folder, counts = Path(folder), {"train": train, "test": test, "validation": validation}
    path = folder / MANIFEST
    names = _classes(path, classes if isinstance(classes, int) else [*classes])
    if train < 1 or min(counts.values()) < 0 or sum(counts.values()) > _MOST_PARTS:
        raise DataError(f"{folder}: a set has at most {_MOST_PARTS} parts, and at least one to train on")
    if os.path.lexists(path):
        raise DataError(f"{folder}: holds a set in parts already; name another folder")
    stored = "uint8" if len(names) <= 256 else "int32"
    table: dict[str, Any] = {"format": FORMAT, "shape": [], "labels": stored}
    table["classes"] = classes if isinstance(classes, int) else [*names]
    done = 0
    for split, count in counts.items():
        for i in range(count):
            images, labels = map(np.asarray, part(split, i))
            table["shape"] = table["shape"] or [*images.shape[1:]]
            where = f"{folder}: part {i} of {split}"
            _check_part(where, images, labels, table["shape"], len(names))
            folder.mkdir(parents=True, exist_ok=True)
            entry: dict[str, Any] = {"n": len(images)}
            for kind, array in (("images", images), ("labels", labels.astype(stored))):
                contents = idx_header(array.dtype, array.shape), big_endian(array).reshape(-1).view(np.uint8).data
                digest = hashlib.sha256(contents[0])
                digest.update(contents[1])
                write_atomically(folder / _name(split, i, count, kind), *contents)
                entry[kind] = digest.hexdigest()
            table.setdefault(split, []).append(entry)
            done += 1
            if progress is not None:
                progress(f"writing {folder.name}", done, sum(counts.values()))
    write_atomically(path, _as_json(table).encode())


def _check_part(where: str, images: NDArray[Any], labels: NDArray[Any], shape: list[int], n_classes: int) -> None:
    if images.dtype != np.uint8 or not 2 <= images.ndim <= 4 or not images.size:
        raise DataError(f"{where}: images must be bytes, (n, height, width) or (n, k), not {_described(images)}")
    features_of(images[:1], where)
    if [*images.shape[1:]] != shape:
        raise DataError(f"{where}: images of shape {images.shape[1:]}, but those of the first part are {tuple(shape)}")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(f"{where}: labels must be a whole number for each of {len(images)}, not {_described(labels)}")
    if len(images) > _MOST_ROWS:
        raise DataError(f"{where}: {len(images)} images; a part has at most {_MOST_ROWS}")
    if not 0 <= labels.min() <= labels.max() < n_classes:
        bad = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"{where}: label {bad} is not one of the {n_classes} classes")


def _described(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _as_json(table: dict[str, Any]) -> str:
    """A manifest with a line for each part."""
    lines = []
    for key, value in table.items():
        text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n]" if key in _SPLITS else json.dumps(value)
        lines.append(f"{json.dumps(key)}: {text}")
    return "{" + ",\n".join(lines) + "}\n"


def _name(split: str, i: int, count: int, kind: str) -> str:
    return f"{split}-{i:05}-of-{count:05}-{kind}.idx"


def _is_whole(number: Any, low: int, high: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and low <= number <= high


def _classes(path: Path, given: Any) -> tuple[Any, ...]:
    """The classes by their number or their names.   Raises DataError."""
    if _is_whole(given, 2, _MOST_CLASSES):
        return tuple(range(given))
    words = isinstance(given, list) and all(isinstance(name, str) for name in given)
    if words and 2 <= len(given) == len(set(given)) <= _MOST_CLASSES:
        return tuple(given)
    raise DataError(f"{path}: classes must be their number, 2 to {_MOST_CLASSES}, or a list of as many different names")


def _entries(path: Path, split: str, given: Any) -> list[_Entry]:
    """The length and the digests of each part of a split.   Raises DataError."""
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_PARTS:
        raise DataError(f"{path}: {split} must be a list of 1 to {_MOST_PARTS} parts")
    entries: list[_Entry] = []
    for i, entry in enumerate(given):
        if not isinstance(entry, dict) or not _is_whole(entry.get("n"), 1, _MOST_ROWS):
            raise DataError(f"{path}: part {i} of {split} must have a length n, from 1 to {_MOST_ROWS}")
        sums: dict[str, Any] = {kind: entry.get(kind) for kind in ("images", "labels")}
        for kind, digest in sums.items():
            if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
                raise DataError(f"{path}: part {i} of {split} has no SHA-256 of its {kind} in 64 hexadecimal digits")
        entries.append((entry["n"], sums))
    return entries


def _files(
    folder: Path,
    split: str,
    kind: str,
    entries: list[tuple[int, dict[str, str]]],
    stored: np.dtype[Any],
    row: list[int],
) -> list[Part]:
    """The files of the images or the labels of a split.   Raises DataError if one is missing or of another size."""
    parts = []
    for i, (n, sums) in enumerate(entries):
        part = Part(folder / _name(split, i, len(entries), kind), idx_header(stored, (n, *row)), n, sums[kind])
        try:
            found = os.stat(part.path).st_size
        except OSError as error:
            raise DataError(
                f"{part.path}: {error.strerror or error}, but it is in the manifest; copy it again"
            ) from None
        check_size(part.path, len(part.header) + n * math.prod(row) * stored.itemsize, found)
        parts.append(part)
    return parts
