"""Pictures in folders: one for each class, named after it, within train and test or directly below."""

import hashlib
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.data.packed import MAX_BYTES, ArchivePath, Location, listed, size_of
from xpnet.data.pictures import to_form
from xpnet.data.pictures.decoding import Decoded, decode, warn_of_whites
from xpnet.errors import DataError
from xpnet.files import write_atomically
from xpnet.platforms import user_cache

from .npz import read_npz_arrays

if TYPE_CHECKING:
    from xpnet.data.download import Progress

__all__ = ["picture_classes", "picture_parts", "read_pictures", "stray_pictures"]

Classes = Mapping[str, Sequence[Location]]
Shape = tuple[int, int]

_SUFFIXES = re.compile(r".*\.(png|jpe?g|jfif|webp|bmp|tiff?|gif|heic|heif)", re.IGNORECASE)
_PARTS = {"train": "train|training", "test": "test|testing", "validation": "val|valid|validation|dev"}
_PART = re.compile(
    "(?:" + "|".join(f"(?P<{part}>{names})" for part, names in _PARTS.items()) + ")([-_ ]?(set|data|images|imgs))?",
    re.IGNORECASE,
)
_MAX_DEPTH = 3
"""Folders within the folder of a class."""

SIDE = 28
"""Of pictures whose sizes differ, unless another is asked for: MNIST's."""

_MAX_COMMON = 256
"""The longest side that pictures keep by default if all have one size."""

_WORKERS = 4
_AT_ONCE = 256
_SHOWN = 3
WORTH_KEEPING = 1.0
"""Seconds of reading from which the result is kept in the user's cache."""

logger = logging.getLogger("xpnet")


# --- finding ---------------------------------------------------------------------------------------------------------


def picture_parts(folder: Location) -> dict[str, Classes]:
    """The pictures of each class in each part of a folder: in train/CLASS (or training), and in test/CLASS, testing,
    val, valid or validation if there are any; empty if it holds no such folders.
    """
    found: dict[str, list[Location]] = {}
    for sub in listed(folder):
        if sub.is_dir() and (match := _PART.fullmatch(sub.name)):
            found.setdefault(next(part for part in _PARTS if match[part]), []).append(sub)
    parts = {}
    for part, folders in found.items() if "train" in found else ():
        if len(folders) > 1:
            both = " and ".join(sub.name for sub in folders)
            raise DataError(f"{folder}: {both} may each hold the {part} pictures; rename all but one")
        if classes := _classes(folders[0], _MAX_DEPTH):
            parts[part] = classes
        elif part != "train" and _pictures(folders[0]):
            logger.warning("%s: pictures without a folder for each class; continuing without", folders[0])
    return parts if "train" in parts else {}


def picture_classes(folder: Location) -> dict[str, Classes]:
    """The pictures of each class where they lie in CLASS directly below a folder, and there are at least two."""
    classes = _classes(folder)
    return {"train": classes} if len(classes) > 1 else {}


def _classes(folder: Location, depth: int = 0) -> Classes:
    pictures = {sub.name: _pictures(sub, depth) for sub in listed(folder) if sub.is_dir()}
    if any(pictures.values()):
        for name in (name for name, files in pictures.items() if not files):
            logger.warning("%s/%s holds no pictures; it is no class", folder, name)
    return {name: files for name, files in pictures.items() if files}


def _pictures(folder: Location, depth: int = 0) -> list[Location]:
    """The pictures in a folder, and in so many levels of folders below it."""
    inside = listed(folder)
    below = (_pictures(sub, depth - 1) for sub in inside if depth and sub.is_dir())
    own = (file for file in inside if _SUFFIXES.fullmatch(file.name) and file.is_file())
    return [*own, *chain.from_iterable(below)]


def stray_pictures(folder: Location) -> Location | None:
    """A picture in a folder or one below, which has no class; None if there is none."""
    below = (file for sub in listed(folder) if sub.is_dir() for file in _pictures(sub))
    return next(chain(_pictures(folder), below), None)


# --- reading ---------------------------------------------------------------------------------------------------------


def read_pictures(
    folder: Location, parts: Mapping[str, Classes], size: int | Shape | None = None, progress: "Progress | None" = None
) -> dict[str, Split]:
    """Read the pictures of picture_parts or picture_classes, each as grey, in parallel.

    folder : where they are.   size : (height, width), or one number for both, that each is brought to as read_picture
        does as-is; None for their common size up to 256 x 256 or, if they differ, 28 x 28.
    progress : called with (description, bytes done, bytes in all).
    Returns the splits: (n, height, width) uint8, and the names of the folders, as whole numbers if all of them are. The
    classes take turns, in their order, so that the first examples are of all of them.
    A picture that cannot be read is left out, with a warning. What took long is kept in the user's cache, and used as
    long as no name, size or time of change differs.
    Raises DataError if no picture can be read, or all take more than MAX_BYTES.
    """
    shape = (size, size) if isinstance(size, int) else size
    labels = _labels({name for classes in parts.values() for name in classes})
    rows = [(part, label, file) for part, classes in parts.items() for label, file in _in_turn(classes, labels)]
    files = [file for _, _, file in rows]
    kept = _Kept(folder, files, shape)
    if (found := kept.read()) is None:
        start = time.monotonic()
        images, faults = _read_all(folder, files, shape, progress)
        good = np.array([i for i in range(len(files)) if i not in faults], np.int64)
        images = images if len(good) == len(files) else images[good]
        if time.monotonic() - start > WORTH_KEEPING:
            kept.write(images, good)
    else:
        images, good = found
        faults = {i: f"{files[i]}: cannot be read" for i in sorted(set(range(len(files))) - set(good.tolist()))}
    for fault in list(faults.values())[:_SHOWN]:
        logger.warning("%s; it is left out", fault)
    if len(faults) > _SHOWN:
        logger.warning("%s: %d more pictures cannot be read; they are left out", folder, len(faults) - _SHOWN)
    splits = {}
    for part in parts:
        own = np.array([rows[i][0] == part for i in good], bool)
        if own.any():
            at = good[own]
            values = np.array([rows[i][1] for i in at], object if isinstance(rows[at[0]][1], str) else np.int64)
            splits[part] = Split(images[own], values, where=f"{folder}: {part} split", entry=partial(_entry, files, at))
    if "train" not in splits:
        raise DataError(f"{next(iter(faults.values()))}; nor can any other picture of the train split")
    return splits


def _entry(files: Sequence[Location], at: NDArray[np.int64], row: int) -> str:
    return str(files[at[row]])


def _labels(names: set[str]) -> Mapping[str, Any]:
    """The label that each folder's name is."""
    whole = {name: int(name) for name in names if re.fullmatch(r"-?[0-9]{1,9}", name)}
    return whole if len(set(whole.values())) == len(names) else {name: name for name in names}


def _in_turn(classes: Classes, labels: Mapping[str, Any]) -> Iterator[tuple[Any, Location]]:
    """A picture of each class, then another of each, to the end."""
    turns = zip_longest(
        *([(labels[name], file) for file in classes[name]] for name in sorted(classes, key=labels.__getitem__))
    )
    return (entry for entry in chain.from_iterable(turns) if entry is not None)


class _OtherSizeError(Exception):
    """A picture is not of the size of the first."""


def _read_all(
    folder: Location, files: Sequence[Location], shape: Shape | None, progress: "Progress | None"
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """The pictures, (n, height, width), and what is wrong with those that cannot be read, whose places hold nothing."""
    if shape is not None:
        return _read_as(folder, files, shape, progress)
    first = next((found.grey for file in files if not isinstance(found := _grey(file), str)), None)
    if first is None:
        raise DataError(f"{_grey(files[0])}; nor can any other picture be read")
    side = f"{SIDE}x{SIDE}; --size names another"
    if max(first.shape) > _MAX_COMMON:
        logger.info("%s: pictures of %dx%d are brought to %s", folder, *first.shape, side)
    else:
        try:
            return _read_as(folder, files, (first.shape[0], first.shape[1]), progress, exact=True)
        except _OtherSizeError:
            logger.info("%s: pictures of several sizes are brought to %s", folder, side)
    return _read_as(folder, files, (SIDE, SIDE), progress)


def _read_as(
    folder: Location, files: Sequence[Location], shape: Shape, progress: "Progress | None", exact: bool = False
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    if len(files) * shape[0] * shape[1] > MAX_BYTES:
        raise DataError(
            f"{folder}: {len(files)} pictures of {shape[0]}x{shape[1]} take more than {MAX_BYTES} bytes, the cap"
        )
    images, faults, whites = np.zeros((len(files), *shape), np.uint8), {}, set()
    sizes = [size_of(file) for file in files]
    done, total = 0, sum(sizes)
    with warnings.catch_warnings(), ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # what each thread sets and resets is the same for all of them
        for start in range(0, len(files), _AT_ONCE):
            block = files[start : start + _AT_ONCE]
            for i, found in enumerate(pool.map(partial(_grey, shape=shape, exact=exact), block), start):
                if isinstance(found, str):
                    faults[i] = found
                else:
                    images[i] = found.grey
                    whites.add(found.white)
                done += sizes[i]
                if progress is not None:
                    progress("reading pictures", done, total)
    warn_of_whites(folder, whites)
    return images, faults


def _grey(file: Location, shape: Shape | None = None, exact: bool = False) -> Decoded | str:
    """A picture as grey, of a shape; or why it cannot be read."""
    try:
        picture = decode(file, luminance=True)
        if exact and picture.grey.shape != shape:
            raise _OtherSizeError
        return picture if shape is None else picture._replace(grey=to_form(picture.grey, "as-is", shape))
    except DataError as error:
        return str(error)


# --- keeping ---------------------------------------------------------------------------------------------------------


class _Kept:
    """The place in the user's cache of the pictures of a folder in one size."""

    def __init__(self, folder: Location, files: Sequence[Location], shape: Shape | None) -> None:
        where = str(folder) if isinstance(folder, ArchivePath) else str(folder.resolve())
        name = hashlib.sha256(os.fsencode(f"{where} {shape}")).hexdigest()[:24]
        self.path = user_cache() / "pictures" / f"{name}.npz"
        self.n = len(files)
        digest = hashlib.sha256(b"1")  # the way in which pictures are read
        for file in files:
            on_disk = file.archive.path if isinstance(file, ArchivePath) else file
            about = os.stat(str(on_disk))
            digest.update(os.fsencode(f"{file}\0{size_of(file)}\0{about.st_size}\0{about.st_mtime_ns}\0"))
        self.key = digest.hexdigest()

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
        """The images and which of the files they are; None if they are not kept, or of other files."""
        if not self.path.is_file():
            return None
        try:
            key, images, good = read_npz_arrays(self.path, ("key", "images", "good"))
        except DataError:
            return None
        fits = key.tolist() == [self.key] and images.ndim == 3 and images.dtype == np.uint8
        fits = fits and good.shape == images.shape[:1] and good.dtype == np.int64 and (np.diff(good) > 0).all()
        if not fits or not len(good) or good[0] < 0 or good[-1] >= self.n:
            return None
        logger.info("the pictures are as they were when they were read before: taken from %s", self.path)
        return images, good

    def write(self, images: NDArray[Any], good: NDArray[np.int64]) -> None:
        """Keep them, if the cache can be written."""
        content = BytesIO()
        np.savez(content, key=np.array([self.key]), images=images, good=good)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, content.getvalue())
        except OSError as error:
            logger.info("the pictures are not kept for the next time: %s (%s)", self.path, error.strerror or error)
