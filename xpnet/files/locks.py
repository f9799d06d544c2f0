"""Locks that keep two processes from writing to the same place."""

import contextlib
import functools
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from xpnet.errors import InUseError

from .reading import open_regular

__all__ = ["locked"]

logger = logging.getLogger("xpnet")


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock, which the system releases when this process ends, however it ends, so that none is ever stale.

    path : of the lock's file, which names its holder; it is removed at the end.
    waiting : called once with a description of the holder, if another process holds it; that process is waited for.
    Raises InUseError if another process holds it and waiting is None; OSError if the file cannot be written.
    """
    reported = False
    while (descriptor := _hold(path)) is None:
        holder = _holder(path)
        if waiting is None:
            raise InUseError(holder)
        if not reported:
            reported = True
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
    """A description of a lock's holder."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        with open_regular(path) as file:
            about = json.loads(file.read(1000))
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
        logger.info("no lock on this file system (%s); continuing without one", error.strerror)
    return True
