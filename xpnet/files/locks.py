"""Locks that keep two processes from writing to the same place."""

import contextlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from xpnet.errors import ConfigError, InUseError
from xpnet.platforms import close_and_remove, is_running, open_descriptor, try_lock

from .reading import open_regular

__all__ = ["holder_of", "locked"]

logger = logging.getLogger("xpnet")

_MOST = 1000  # bytes of a lock's file that are read


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[str], None] | None = None, *, required: bool = False) -> Iterator[None]:
    """Hold a lock, which the system releases when this process ends, however it ends, so that none is ever stale.

    path : of the lock's file, which names its holder; it is removed at the end.
    waiting : called once with a description of the holder, if another process holds it; that process is waited for.
    required : whether a file system without locks is an error, because processes share work by this one; else a line
        says that there is no lock, and that one process is trusted to be alone.
    Raises InUseError if another process holds it and waiting is None; ConfigError if it is required and cannot be had;
    OSError if the file cannot be written.
    """
    reported = False
    while (descriptor := _hold(path, required)) is None:
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
        close_and_remove(descriptor, path)


def holder_of(path: Path) -> str | None:
    """A description of the living process that holds a lock; None if none does. Nothing is written.

    path : of the lock's file.
    """
    try:
        with open_regular(path) as file:
            about = json.loads(file.read(_MOST))
            if about["host"] == platform.node() and not is_running(int(about["pid"])):
                return None  # a killed process leaves its file
            if try_lock(file.fileno(), shared=True):
                return None  # nor does its number tell, which another process may have by now
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return _holder(path)


def _hold(path: Path, required: bool) -> int | None:
    """The descriptor of a lock's file, locked and with this process's name in it; None if another one has it."""
    while True:
        descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT)
        try:
            try:
                free = try_lock(descriptor)
            except OSError as error:
                if required:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                    raise ConfigError(
                        f"{path.parent} is on a file system without locks ({error.strerror or error}), by which "
                        "processes share the work: name a folder on another one"
                    ) from None
                logger.info("no lock on this file system (%s); continuing without one", error.strerror)
                free = True
            if not free:
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
            about = json.loads(file.read(_MOST))
        return f"process {int(about['pid'])} on {str(about['host'])[:80]}, since {str(about['since'])[:30]}"
    return "another process"
