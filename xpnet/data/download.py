"""Downloading the files of a set from sources that fail in every way they can.

Downloads are resumed, verified by their checksums, and only then given their names.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.errors import DataError
from xpnet.files import flush, locked, move_into_place

from .formats import MAX_BYTES
from .sets import SetFile, SetInfo

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Progress", "fetch"]

Progress = Callable[[str, int, int | None], None]

OFFLINE_SECONDS = 9.0
"""How long, in all, to wait for any source to answer at all before the machine counts as offline."""

ANSWER_SECONDS = 10.0
"""How long to wait for one source to answer once the network is known to work."""

STALL_SECONDS = 30.0
"""How long a source that has answered may go without sending anything."""

ATTEMPTS = 4
"""How often one source is asked for a file, as long as each time brings more of it."""

logger = logging.getLogger("xpnet")


def fetch(info: SetInfo, folders: Sequence[Path], progress: Progress | None) -> Path:
    """Download a set, or its missing files, and verify the checksums.

    info : which set.   folders : the set is kept in the first that can be written, in a folder of its own.
    progress : called with (description, bytes done, bytes in all or None).
    Returns the folder or file that holds it.
    Raises DataError if no source has the right content, there is no network, or no folder can be written.
    """
    if not info.files:
        raise DataError(f"{info.name} is drawn by xpnet itself; there is nothing to download")
    folder = _writable(folders) / info.folder

    def tell(holder: str) -> None:
        logger.info("waiting for %s, which is downloading to %s", holder, folder)

    try:
        folder.mkdir(exist_ok=True)
        with locked(folder / ".lock", waiting=tell):
            network = _Network(progress)
            for file in info.files:
                _fetch_file(info, file, folder / file.name, network)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}") from None
    return next((folder / file.name for file in info.files if file.name in info.archives), folder)


def _writable(folders: Sequence[Path]) -> Path:
    import tempfile

    for place in folders:
        try:
            place.mkdir(parents=True, exist_ok=True)
            if not place.stat().st_mode & 0o222:  # root could write here all the same
                raise PermissionError(errno.EACCES, "it is marked read-only")
            with tempfile.TemporaryFile(dir=place):
                return place
        except OSError as error:
            logger.info("cannot write in %s (%s); trying the next folder", place, error.strerror)
    raise DataError(f"cannot write in any of {', '.join(map(str, folders))}; name another folder with $XPNET_DATA_DIR")


def _fetch_file(info: SetInfo, file: SetFile, target: Path, network: _Network) -> None:
    if target.exists():
        if fault := file.fault(target):
            raise DataError(f"{target}: not the file of {info.name}: {fault}; delete it to download it again")
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
        raise DataError(f"{info.name}: {file.name} is not available from any source: {'; '.join(failures)}")
    raise DataError(
        f"{info.name} is not on disk and there is no network: put its files in data/{info.folder}, or name the folder "
        "that holds them with --data-dir (data_dir=) or $XPNET_DATA_DIR"
    )


def _receive_proven(url: str, file: SetFile, part: Path, network: _Network) -> None:
    """Complete part with the right content; if it was begun elsewhere and turns out wrong, start over, once."""
    begun = _size(part) > 0
    _receive_all(url, file, part, network)
    fault = file.fault(part)
    if fault and begun:
        part.unlink()
        _receive_all(url, file, part, network)
        fault = file.fault(part)
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
                raise _SourceError("sent another range than requested")
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


# --- the network -----------------------------------------------------------------------------------------------------


class _SourceError(Exception):
    """A source failed; the message gives the reason."""


class _Network:
    """The state of the network during a download: little patience until a source has answered, so that being offline is
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


def _ask(answer: Future[Any], url: str, start: int) -> None:
    from urllib.request import Request, urlopen

    try:
        if not url.startswith(("https://", "http://")):  # urllib would open files as well
            raise ValueError("not an HTTP address")
        headers = {"User-Agent": "xpnet", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        answer.set_result(urlopen(Request(url, headers=headers), timeout=STALL_SECONDS))  # nosec B310
    except BaseException as error:
        answer.set_exception(error)


def _close(answer: Future[Any]) -> None:
    outcome = answer.exception() or answer.result()
    if hasattr(outcome, "close"):
        outcome.close()
