"""Writing files so that nothing is lost, and locks so that two processes do not write to one place.

What is written lies under a temporary name until it is flushed to the disk, and only then gets its own: whenever a
process is killed or the power fails, the old content is there or the new, never a part of it.
"""

import contextlib
import errno
import functools
import json
import logging
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

__all__ = [
    "InUseError",
    "flush",
    "flush_names",
    "locked",
    "move_into_place",
    "remove",
    "sweep",
    "write_atomically",
    "write_folder",
]

logger = logging.getLogger("xpnet")


class InUseError(RuntimeError):
    """A place that another process has locked; the message says which process, in words."""


# --- writing ---------------------------------------------------------------------------------------------------------


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.   Raises OSError."""
    with _beside(path) as temporary:
        _write(temporary, content)


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a new folder of files, whole or not at all, in place of one of that name.   Raises OSError."""
    with _beside(path) as temporary:
        os.mkdir(temporary)
        for name, content in contents.items():
            _write(temporary / name, content)
        flush_names(temporary)
        if path.exists():
            remove(path)


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a file or folder that is flushed its name, and flush the name.   Raises OSError."""
    os.replace(temporary, path)
    flush_names(path.parent)


def remove(folder: Path) -> None:
    """Remove a folder of files, whole or not at all; one that is not there is none.   Raises OSError."""
    temporary = _temporary(folder)
    try:
        os.replace(folder, temporary)
    except FileNotFoundError:
        return
    _delete(temporary)


def sweep(folder: Path, names: str) -> None:
    """Remove what killed processes left half-written in a folder in which no other process writes.

    names : a regular expression of the names that xpnet writes there; all else in the folder is somebody else's.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if re.fullmatch(rf"\.({names})\.[0-9a-f]{{8}}\.tmp", path.name):
                _delete(path)


def flush(path: Path) -> None:
    """Have the content of a file on the disk when this returns.   Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_names(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can be told to: Windows cannot.   Raises OSError."""
    if sys.platform == "win32":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one may write into it, but not list it
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have nothing to flush there
            raise
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    """Remove a file or folder as far as that can be done."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path at which something can be made that gets its name at the end; what is left of it otherwise is removed."""
    temporary = _temporary(path)
    try:
        yield temporary
        move_into_place(temporary, path)
    except OSError as error:
        # Whoever reads the message knows the file by its own name.
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        _delete(temporary)


def _temporary(path: Path) -> Path:
    """How something is called that is not complete yet, or not any more."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _write(path: Path, content: bytes) -> None:
    """A new file with this content, on the disk when this returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- locks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock, which the system releases when this process ends, however it ends: so that none is ever stale.

    path : of the lock's file, which says who holds it; it is removed at the end.
    waiting : called once with who holds it, in words, if another process does, whose end is then waited for.
    Raises InUseError if another process holds it and waiting is None; OSError if the file cannot be written.
    """
    told = False
    while (descriptor := _hold(path)) is None:
        holder = _holder(path)
        if waiting is None:
            raise InUseError(holder)
        if not told:
            told = True
            waiting(holder)
        time.sleep(0.2)
    try:
        yield
    finally:
        # While it is held, so that it is not another one's; Windows keeps it as long as somebody waits.
        for end in (functools.partial(os.unlink, path), functools.partial(os.close, descriptor)):
            with contextlib.suppress(OSError):
                end()


def _hold(path: Path) -> int | None:
    """The descriptor of a lock's file, locked and with this process's name in it; None if another one has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(descriptor):
                os.close(descriptor)
                return None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                    about = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%F %T")}
                    os.truncate(descriptor, 0)
                    os.write(descriptor, json.dumps(about).encode())
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it has removed it: this is a lock on nothing


def _holder(path: Path) -> str:
    """Who holds a lock, in words."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        about = json.loads(path.read_bytes()[:1000])
        return f"process {int(about['pid'])} on {str(about['host'])[:80]}, since {str(about['since'])[:30]}"
    return "another process"


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.info("no lock on this file system (%s); going on without one", error.strerror)
    return True
