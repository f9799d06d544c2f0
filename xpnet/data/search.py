"""Finding named data sets, on the disk or else on the network, and verifying them by their checksums."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np

from xpnet.checks import nearest
from xpnet.errors import DataError
from xpnet.platforms import user_cache

from . import toys
from .dataset import Dataset, Split
from .download import Progress, fetch
from .formats import (
    idx_files,
    idx_name,
    idx_sha256,
    read,
    read_idx_split,
    read_npz,
    read_pickle,
    read_split,
)
from .packed import Location, open_archive
from .sets import SETS, SetInfo

__all__ = ["download", "load_data", "locate", "places"]

logger = logging.getLogger("xpnet")


# --- loading ---------------------------------------------------------------------------------------------------------


def load_data(
    name_or_path: str | os.PathLike[str] = "auto",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    label: str | None = None,
    test: str | os.PathLike[str] | None = None,
    validation: str | os.PathLike[str] | None = None,
    size: int | tuple[int, int] | None = None,
    task: str = "auto",
    scale: str = "auto",
    features: Sequence[str] | int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set by name or path.

    name_or_path : a name in SETS; "auto", which is mnist, or digits where mnist is not available; or a file or folder.
    data_dir : folder searched before $XPNET_DATA_DIR, ./data and the user's cache, and preferred for downloads.
    download : whether a named set that is not on disk may be downloaded.
    label, test, validation, size, task, scale, features : as in read.
    progress : called with (description, bytes done, bytes in all or None) during a download, and as in read.
    Returns the Dataset; a named set is verified by its SHA-256 sums where they are known.
    Raises DataError if the name is unknown, the set is not available, or its content is wrong.
    """
    text = os.fspath(name_or_path)
    if not isinstance(name_or_path, str) or (text != "auto" and text not in SETS):
        if not _is_path(name_or_path):
            raise _unknown(text)
        about: dict[str, Any] = {"label": label, "task": task, "scale": scale, "features": features}
        return read(text, test=test, validation=validation, size=size, progress=progress, **about)
    if label is not None or task not in ("auto", "classification"):
        what = "images" if text == "auto" else SETS[text].examples
        raise DataError(f"{text} is a set of {what} and their classes: it has no other labels, and no other task")
    if text == "auto":
        data = _load_auto(data_dir, download, progress)
    elif not (info := SETS[text]).files:
        data = _drawn(info, progress)
    else:
        data = _read_set(info, _locate(info, data_dir) or _obtain(info, data_dir, download, progress))
    parts = {"test": test, "validation": validation}
    if len(data.image_shape) == 2:
        size = size or data.image_shape
    given: dict[str, Any] = {
        part: read_split(path, size=size, columns=data.columns, progress=progress)
        for part, path in parts.items()
        if path is not None
    }
    return replace(data, scale=scale, **given) if given or scale != "auto" else data


def locate(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Find a named set on disk, without downloading it or reading all of it.

    name : a name in SETS.   data_dir : folder searched first.
    Returns the folder or file that holds it, or None; None too for a set that xpnet draws.
    Raises DataError if the name is unknown.
    """
    return _locate(_info(name), data_dir)


def download(name: str, *, data_dir: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> Path:
    """Download a named set, or its missing files, and verify the checksums; one that is on disk is verified alone.

    name : a name in SETS.
    data_dir : folder to keep it in; by default, or if it cannot be written, $XPNET_DATA_DIR or the user's cache.
        Elsewhere the set is not looked for if a folder is named.
    progress : called with (description, bytes done, bytes in all or None).
    Returns the folder or file that holds it.
    Raises DataError if the name is unknown, no source has the right content, or there is no network.
    """
    info = _info(name)
    try:
        searched = places() if data_dir is None else [Path(data_dir).expanduser()]
        there = next(chain.from_iterable(_found(info, place) for place in searched), None)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None
    if there is None:
        return fetch(info, _folders(data_dir), progress)
    _read_set(info, there)
    return there


def _info(name: str) -> SetInfo:
    if name not in SETS:
        raise _unknown(name)
    return SETS[name]


def _unknown(name: str) -> DataError:
    hint = nearest(name, SETS)
    return DataError(f"unknown data {name!r}: {hint}it is neither a file nor a named set; see xpnet data list")


def _is_path(name: str | os.PathLike[str]) -> bool:
    text = os.fspath(name)
    if not text:
        return False
    shown = os.sep in text or "/" in text or text.startswith("~") or text.endswith("ubyte") or Path(text).suffix
    return not isinstance(name, str) or bool(shown) or Path(text).exists()


def _load_auto(data_dir: str | os.PathLike[str] | None, download: bool, progress: Progress | None) -> Dataset:
    mnist = SETS["mnist"]
    for path in _located(mnist, data_dir):
        try:
            return _read_set(mnist, path)
        except DataError as error:
            if path.is_dir():  # its own four files, but damaged
                raise
            logger.warning("passing over what is no MNIST: %s", error)
    try:
        return _read_set(mnist, _obtain(mnist, data_dir, download, progress))
    except DataError as error:
        logger.warning(
            "MNIST is not available: %s\n"
            "Using `digits` instead, which xpnet draws itself; it is harder: expect nine in ten to be read correctly.\n"
            "To use MNIST, name the folder that holds its files with --data-dir or XPNET_DATA_DIR.",
            error,
        )
        return _drawn(SETS["digits"], progress)


def _obtain(info: SetInfo, data_dir: str | os.PathLike[str] | None, allowed: bool, progress: Progress | None) -> Path:
    if not allowed:
        searched = ", ".join(map(str, places(data_dir)))
        raise DataError(f"{info.name} is in none of {searched}, and downloading is switched off")
    return fetch(info, _folders(data_dir), progress)


def _drawn(info: SetInfo, progress: Progress | None) -> Dataset:
    splits: Sequence[tuple[Any, Any]]
    if info.columns:
        splits = toys.load_splits(info.name)
    else:
        from . import digits

        splits = digits.load_splits(_cache() / info.folder, progress)
    train, test = (Split(*split, is_table=bool(info.columns)) for split in splits)
    return Dataset(info.name, train, test, None, info.n_classes, "drawn by xpnet", columns=info.columns)


def _read_set(info: SetInfo, path: Path) -> Dataset:
    logger.info("reading %s from %s", info.name, path)
    files: Mapping[tuple[str, str], Location] = {}
    validation = None
    if path.is_dir():
        files = idx_files(path)[info.prefix]
        train, test = read_idx_split(files, "train"), read_idx_split(files, "test")
    elif path.suffix == ".zip":
        train, test = _read_zip(info, path)
    else:
        splits = read_npz(path) if path.suffix == ".npz" else read_pickle(path)
        if "test" not in splits:
            raise DataError(f"{path}: holds no test split, so it is not {info.name}; name its path to use it")
        train, test, validation = splits["train"], splits["test"], splits.get("validation")
    data = Dataset(info.name, train, test, validation, info.n_classes, str(path))
    if validation is None:
        _prove(info, path, files, {"train": data.train, "test": cast(Split, data.test)})
    else:  # theano's and Nielsen's, who took it from the training images, and divided all by 256
        for part, n, count in (("train", len(train) + len(validation), info.n_train), ("test", len(test), info.n_test)):
            if n != count:
                raise DataError(f"{path}: {n} {part} images, but {info.name} has {count}; name its path to use it")
        logger.warning("%s: no checksum is known for a pickle of %s, so its content is not verified", path, info.name)
    return data


def _read_zip(info: SetInfo, path: Path) -> tuple[Split, Split]:
    with open_archive(path) as root:
        files = idx_files(root / "gzip").get(info.prefix, {})
        if len(files) < 4:
            raise DataError(f"{path}: does not hold the four files of {info.name}; delete it to download it again")
        return read_idx_split(files, "train"), read_idx_split(files, "test")


def _prove(info: SetInfo, path: Path, files: Mapping[tuple[str, str], Location], splits: Mapping[str, Split]) -> None:
    """Compare the arrays, in the form of raw IDX, with the checksums, which are the same for every format."""
    remedy = "delete it, or name its path instead of the set, to use it unchanged"
    for part, count in (("train", info.n_train), ("test", info.n_test)):
        if (found := len(splits[part].labels)) != count:
            where = files.get((part, "images"), path)
            raise DataError(f"{where}: {found} {part} images, but {info.name} has {count}; {remedy}")
    for file in info.files:
        if "raw" in file.sums and (name := idx_name(file.name)):
            _, part, kind = name
            array = splits[part].images if kind == "images" else splits[part].labels.astype(np.uint8)
            if (found_sum := idx_sha256(array)) != file.sums["raw"]:
                raise DataError(
                    f"{files.get((part, kind), path)}: not the {part} {kind} of {info.name}: the SHA-256 of the raw "
                    f"content is {found_sum}, expected {file.sums['raw']}; {remedy}"
                )


# --- searching -------------------------------------------------------------------------------------------------------


def _cache() -> Path:
    return user_cache()


def _named_places(data_dir: str | os.PathLike[str] | None) -> list[tuple[Path, str]]:
    given = ((data_dir, "data_dir"), (os.environ.get("XPNET_DATA_DIR"), "$XPNET_DATA_DIR"))
    return [(Path(place).expanduser(), by) for place, by in given if place]


def _folders(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """The folders in which a download may be kept, the best first."""
    return [*(place for place, _ in _named_places(data_dir)), _cache()]


def places(data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """The folders in which a named set is searched, in their order."""
    return [*(place for place, _ in _named_places(data_dir)), Path("data"), _cache()]


def _locate(info: SetInfo, data_dir: str | os.PathLike[str] | None) -> Path | None:
    return next(_located(info, data_dir), None)


def _located(info: SetInfo, data_dir: str | os.PathLike[str] | None) -> Iterator[Path]:
    """What by its name is this set, the best first."""
    try:
        for place, by in _named_places(data_dir):
            if not place.is_dir():
                logger.warning("%s names %s, which is not a folder", by, place)
        for place in places(data_dir):
            yield from _found(info, place)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None


def _found(info: SetInfo, place: Path) -> Iterator[Path]:
    for folder in dict.fromkeys((place / info.name, place / info.folder, place / info.torchvision / "raw", place)):
        if not info.files or not folder.is_dir():
            continue
        files = idx_files(folder).get(info.prefix, {})
        if len(files) == 4:
            if folder != place or info.prefix or _is_set(info, files["train", "labels"]):
                yield folder
        elif files and folder != place:
            logger.warning("%s: only %d of the four files of %s; searching further", folder, len(files), info.name)
        for archive in info.archives:
            if (folder / archive).is_file():
                yield folder / archive


def _is_set(info: SetInfo, labels: Location) -> bool:
    """Decide by its training labels whether a folder of any name holds this set; other sets use the same file names."""
    file = next(file for file in info.files if file.name.startswith("train-labels"))
    return isinstance(labels, Path) and file.fault(labels) is None
