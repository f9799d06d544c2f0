"""Finding the data sets known by name: searching the disk, downloading, and proving by sums what was found."""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.checks import nearest
from xpnet.errors import DataError
from xpnet.files import flush, locked, move_into_place

from .dataset import Dataset, Split
from .formats import (
    IDX_NAME,
    MAX_BYTES,
    idx_files,
    idx_sha256,
    read,
    read_idx,
    read_idx_split,
    read_npz,
    read_pickle,
)
from .packed import open_zip
from .sets import SETS, SetFile, SetInfo

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .packed import Location

Progress = Callable[[str, int, int | None], None]

OFFLINE_SECONDS = 9.0
"""How long, in all, to wait for any source to answer at all before the machine counts as offline."""

ANSWER_SECONDS = 10.0
"""How long to wait for one source to answer once the network is known to be there."""

STALL_SECONDS = 30.0
"""How long a source that has answered may go without sending anything."""

ATTEMPTS = 4
"""How often one source is asked for a file, as long as each time brings more of it."""

logger = logging.getLogger("xpnet")


# --- loading ---------------------------------------------------------------------------------------------------------


def load_data(
    name_or_path: str | os.PathLike[str] = "auto",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load a set by its name, or whatever lies at a path.

    name_or_path : a name in SETS; "auto", which is mnist, or digits where mnist can't be had; or a file or folder.
    data_dir : folder searched before $XPNET_DATA_DIR, ./data and the user's cache, and preferred for downloads.
    download : whether a named set that is nowhere on disk may be downloaded.
    progress : called with (description, bytes done, bytes in all or None) during a download.
    Returns the Dataset; a named set is proven by its SHA-256 sums where they are known.
    Raises DataError if the name is unknown, the set can't be had, or its content is not what it should be.
    """
    text = os.fspath(name_or_path)
    if name_or_path == "auto":
        return _load_auto(data_dir, download, progress)
    if not (isinstance(name_or_path, str) and text in SETS):
        if _is_path(name_or_path):
            return read(text)
        raise _unknown(text)
    if text == "digits":
        return _load_digits()
    info = SETS[text]
    return _read_set(info, _locate(info, data_dir) or _obtain(info, data_dir, download, progress))


def locate(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Find a named set on disk, without downloading and without reading it all.

    name : a name in SETS.   data_dir : folder searched first.
    Returns the folder or file that holds it, or None; None for digits too, which is drawn wherever it is missing.
    Raises DataError if the name is unknown.
    """
    return _locate(_info(name), data_dir)


def download(name: str, *, data_dir: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> Path:
    """Download a named set, or what is missing of it, and prove it by its sums.

    name : a name in SETS.
    data_dir : folder to keep it in; by default, or if it can't be written, $XPNET_DATA_DIR or the user's cache.
    progress : called with (description, bytes done, bytes in all or None).
    Returns the folder or file that holds it.
    Raises DataError if the name is unknown, no source has the right content, or there is no network.
    """
    return _download(_info(name), data_dir, progress)


def _info(name: str) -> SetInfo:
    if name not in SETS:
        raise _unknown(name)
    return SETS[name]


def _unknown(name: str) -> DataError:
    hint = nearest(name, SETS)
    return DataError(f"unknown data {name!r}: {hint}it is neither a file nor a set; see xpnet data list")


def _is_path(name: str | os.PathLike[str]) -> bool:
    text = os.fspath(name)
    if not text:
        return False
    suffixes = (".gz", ".npz", ".pkl", ".pickle", ".csv", "ubyte", ".idx")
    return not isinstance(name, str) or os.sep in text or "/" in text or text.endswith(suffixes) or Path(text).exists()


def _load_auto(data_dir: str | os.PathLike[str] | None, download: bool, progress: Progress | None) -> Dataset:
    mnist = SETS["mnist"]
    path = _locate(mnist, data_dir)
    if path is None:
        try:
            path = _obtain(mnist, data_dir, download, progress)
        except DataError as error:
            logger.warning(
                "MNIST CANNOT BE HAD (%s): USING `digits`, THE SET THAT XPNET DRAWS ITSELF, INSTEAD; it is the harder "
                "one, so expect some 90 %% of it to be read",
                error,
            )
            return _load_digits()
    return _read_set(mnist, path)


def _obtain(info: SetInfo, data_dir: str | os.PathLike[str] | None, allowed: bool, progress: Progress | None) -> Path:
    if not allowed:
        searched = ", ".join(map(str, places(data_dir)))
        raise DataError(f"{info.name} is in none of {searched}, and downloading is switched off")
    return _download(info, data_dir, progress)


def _load_digits() -> Dataset:
    from . import digits

    train, test = digits.load_splits(_cache() / "digits")
    return Dataset("digits", Split(*train), Split(*test), None, 10, "drawn by xpnet")


def _read_set(info: SetInfo, path: Path) -> Dataset:
    logger.info("reading %s from %s", info.name, path)
    files: Mapping[tuple[str, str], Location] = {}
    validation = None
    if path.is_dir():
        files = idx_files(path)[info.prefix]
        train, test = read_idx_split(files, "train"), read_idx_split(files, "test")
    elif path.suffix == ".zip":
        train, test = _read_zip(info, path)
    elif path.suffix == ".npz":
        train, test = read_npz(path)
    else:
        train, validation, test = read_pickle(path)
        logger.warning("%s: no sum is known for a pickle of %s, so its content is not proven", path, info.name)
    if validation is None:
        _prove(info, path, files, {"train": train, "test": test})
    return Dataset(info.name, train, test, validation, info.n_classes, str(path))


def _read_zip(info: SetInfo, path: Path) -> tuple[Split, Split]:
    import zipfile

    with open_zip(path) as archive:
        files = idx_files(zipfile.Path(archive, "gzip/")).get(info.prefix, {})
        if len(files) < 4:
            raise DataError(f"{path}: does not hold the four files of {info.name}; delete it to have it fetched again")
        return read_idx_split(files, "train"), read_idx_split(files, "test")


def _prove(info: SetInfo, path: Path, files: Mapping[tuple[str, str], "Location"], splits: Mapping[str, Split]) -> None:
    """Compare what was read, in the form of raw IDX, with the sums: the same whichever format it came in."""
    remedy = "delete it, or name its path instead of the set to use it as it is"
    for part, count in (("train", info.n_train), ("test", info.n_test)):
        if (found := len(splits[part].labels)) != count:
            where = files.get((part, "images"), path)
            raise DataError(f"{where}: {found} {part} images, but {info.name} has {count}; {remedy}")
    for file in info.files:
        if "raw" in file.sums and (match := IDX_NAME.fullmatch(file.name)):
            part, kind = "train" if match["part"] == "train" else "test", match["kind"]
            array = splits[part].images if kind == "images" else splits[part].labels.astype(np.uint8)
            if (found_sum := idx_sha256(array)) != file.sums["raw"]:
                raise DataError(
                    f"{files.get((part, kind), path)}: not the {part} {kind} of {info.name}: the SHA-256 of the raw "
                    f"content is {found_sum}, expected {file.sums['raw']}; {remedy}"
                )


# --- searching -------------------------------------------------------------------------------------------------------


def _cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("xpnet", appauthor=False)


def _named_places(data_dir: str | os.PathLike[str] | None) -> list[tuple[Path, str]]:
    given = ((data_dir, "data_dir"), (os.environ.get("XPNET_DATA_DIR"), "$XPNET_DATA_DIR"))
    return [(Path(place).expanduser(), by) for place, by in given if place]


def places(data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """The folders in which a named set is searched, in their order."""
    return [*(place for place, _ in _named_places(data_dir)), Path("data"), _cache()]


def _locate(info: SetInfo, data_dir: str | os.PathLike[str] | None) -> Path | None:
    try:
        for place, by in _named_places(data_dir):
            if not place.is_dir():
                logger.warning("%s names %s, which is no folder", by, place)
        return next(filter(None, (_find(info, place) for place in places(data_dir))), None)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None


def _find(info: SetInfo, place: Path) -> Path | None:
    for folder in dict.fromkeys((place / info.name, place / info.folder, place / info.torchvision / "raw", place)):
        if not info.files or not folder.is_dir():
            continue
        files = idx_files(folder).get(info.prefix, {})
        if len(files) == 4:
            if folder != place or info.prefix or _is_set(info, files["train", "labels"]):
                return folder
        elif files and folder != place:
            logger.warning("%s: only %d of the four files of %s; searching on", folder, len(files), info.name)
        for archive in info.archives:
            if (folder / archive).is_file():
                return folder / archive
    return None


def _is_set(info: SetInfo, labels: "Location") -> bool:
    """Tell by its training labels whether a folder of any name holds this set; other sets use the same file names."""
    file = next(file for file in info.files if file.name.startswith("train-labels"))
    return isinstance(labels, Path) and _fault(file, labels) is None


def _fault(file: SetFile, path: Path) -> str | None:
    """What is wrong with the content of a file, in words; None if one of its sums agrees."""
    faults = []
    for algorithm, expected in file.sums.items():
        if algorithm == "raw":
            try:
                found = idx_sha256(read_idx(path))
            except DataError as error:
                return str(error)
        else:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, partial(hashlib.new, algorithm, usedforsecurity=False)).hexdigest()
        if found == expected:
            return None
        name = {"raw": "SHA-256 of the raw content", "sha256": "SHA-256", "md5": "MD5"}[algorithm]
        faults.append(f"{name} is {found}, expected {expected}")
    return "; ".join(faults)


# --- downloading -----------------------------------------------------------------------------------------------------


class _SourceError(Exception):
    """A source failed; the message says how."""


class _Network:
    """What one download knows of the network: little patience until a source has answered, so that being offline is
    noticed within OFFLINE_SECONDS over all files and sources.
    """

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.deadline = time.monotonic() + OFFLINE_SECONDS
        self.answered = False
        self.sources_left = 1

    def open(self, url: str, start: int) -> Any:
        """Ask for a file from byte start on; returns the response, raises _SourceError."""
        from concurrent.futures import Future
        from http.client import HTTPException
        from threading import Thread
        from urllib.error import HTTPError

        seconds = ANSWER_SECONDS
        if not self.answered:
            seconds = max(0.0, self.deadline - time.monotonic()) / self.sources_left
        # The look-up of the host's name knows no time-out, so it happens in a thread that can be left behind.
        answer: Future[Any] = Future()
        Thread(target=_ask, args=(answer, url, start), daemon=True).start()
        try:
            response = answer.result(seconds)
        except HTTPError as error:
            error.close()
            self.answered = True
            raise _SourceError(f"HTTP {error.code} {error.reason}") from error
        except (OSError, ValueError, HTTPException) as error:
            answer.add_done_callback(_close)
            if isinstance(error, TimeoutError):
                raise _SourceError(f"no answer within {seconds:.1f} s") from None
            reason = getattr(error, "reason", error)
            raise _SourceError(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__) from None
        self.answered = True
        return response


def _ask(answer: "Future[Any]", url: str, start: int) -> None:
    from urllib.request import Request, urlopen

    try:
        if not url.startswith(("https://", "http://")):  # urllib would open files as well
            raise ValueError("not an address of HTTP")
        headers = {"User-Agent": "xpnet", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        answer.set_result(urlopen(Request(url, headers=headers), timeout=STALL_SECONDS))  # nosec B310
    except BaseException as error:
        answer.set_exception(error)


def _close(answer: "Future[Any]") -> None:
    outcome = answer.exception() or answer.result()
    if hasattr(outcome, "close"):
        outcome.close()


def _writable(data_dir: str | os.PathLike[str] | None) -> Path:
    import tempfile

    tried = [*(place for place, _ in _named_places(data_dir)), _cache()]
    for place in tried:
        try:
            place.mkdir(parents=True, exist_ok=True)
            if not place.stat().st_mode & 0o222:  # root could write here all the same
                raise PermissionError(errno.EACCES, "it is marked read-only")
            with tempfile.TemporaryFile(dir=place):
                return place
        except OSError as error:
            logger.info("%s can't be written (%s); trying the next place", place, error.strerror)
    raise DataError(f"nothing can be written in {', '.join(map(str, tried))}; name another place with $XPNET_DATA_DIR")


def _download(info: SetInfo, data_dir: str | os.PathLike[str] | None, progress: Progress | None) -> Path:
    if not info.files:
        raise DataError(f"{info.name} is drawn by xpnet itself; there is nothing to download")
    folder = _writable(data_dir) / info.folder

    def tell(holder: str) -> None:
        logger.info("waiting for %s, which is downloading to %s", holder, folder)

    try:
        folder.mkdir(exist_ok=True)
        with locked(folder / ".lock", waiting=tell):
            network = _Network(progress)
            for file in info.files:
                _fetch(info, file, folder / file.name, network)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}") from None
    return next((folder / file.name for file in info.files if file.name in info.archives), folder)


def _fetch(info: SetInfo, file: SetFile, target: Path, network: _Network) -> None:
    if target.exists():
        if fault := _fault(file, target):
            raise DataError(f"{target}: not the file of {info.name}: {fault}; delete it to have it fetched again")
        return
    part = target.with_name(f"{target.name}.part")
    mirror = os.environ.get("XPNET_DATA_MIRROR")
    urls = [f"{mirror.rstrip('/')}/{info.folder}/{file.name}", *file.urls] if mirror else file.urls
    failures = []
    for network.sources_left, url in zip(range(len(urls), 0, -1), urls, strict=True):
        try:
            _receive_proven(url, file, part, network)
        except _SourceError as error:
            failures.append(f"{url.removesuffix(file.name)}: {error}")
            logger.warning("%s: %s%s", url, error, "; trying the next source" if network.sources_left > 1 else "")
        else:
            flush(part)
            move_into_place(part, target)
            return
    if network.answered:
        raise DataError(f"{info.name}: {file.name} could be had from no source: {'; '.join(failures)}")
    raise DataError(
        f"{info.name} is not on disk and there is no network: lay its files in data/{info.folder}, or name the folder "
        "that holds them by --data-dir (data_dir=) or $XPNET_DATA_DIR"
    )


def _receive_proven(url: str, file: SetFile, part: Path, network: _Network) -> None:
    """Bring part to the right content; one that was begun elsewhere and turns out wrong is fetched anew, once."""
    begun = _size(part) > 0
    _receive_all(url, file, part, network)
    fault = _fault(file, part)
    if fault and begun:
        part.unlink()
        _receive_all(url, file, part, network)
        fault = _fault(file, part)
    if fault:
        part.unlink()
        raise _SourceError(f"wrong content ({fault.removeprefix(f'{part}: ')})")


def _receive_all(url: str, file: SetFile, part: Path, network: _Network) -> None:
    for attempts_left in range(ATTEMPTS - 1, -1, -1):
        before = _size(part)
        try:
            _receive(url, file, part, network)
            return
        except _SourceError as error:
            if attempts_left == 0 or _size(part) == before:
                raise
            logger.info("%s: %s; resuming", url, error)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, file: SetFile, part: Path, network: _Network) -> None:
    """Ask once for what part lacks and append it; a source that can't resume starts over."""
    from http.client import HTTPException

    done = _size(part)
    if done and done == file.size:
        return
    logger.info("downloading %s%s", url, f" from byte {done} on" if done else "")
    try:
        response = network.open(url, done)
    except _SourceError as error:
        if done and getattr(error.__cause__, "code", None) == 416:
            part.unlink()
        raise
    with response, part.open("ab") as output:
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if not (response.status == 206 and resumed):
            output.truncate(0)
            done = 0
            if response.status == 206:
                raise _SourceError("sent another range than was asked for")
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else file.size
        while True:
            try:
                block = response.read(1 << 16)
            except (OSError, HTTPException) as error:
                raise _SourceError(f"cut off after {done} bytes ({error or type(error).__name__})") from None
            if not block:
                break
            output.write(block)
            done += len(block)
            if done > MAX_BYTES:
                output.truncate(0)
                raise _SourceError(f"sends more than {MAX_BYTES} bytes")
            if network.progress is not None:
                network.progress(file.name, done, total)
    if total is not None and done < total:
        raise _SourceError(f"cut off after {done} of {total} bytes")
