"""What differs between Linux, macOS and Windows: here, and in no other file.

Every function asks anew which system it is on, so that the tests can play each of them on one machine; a test also sees
that nothing which one of the systems lacks is used elsewhere, and so does mypy, which checks the package for all three.
"""

import contextlib
import ctypes
import errno
import functools
import os
import shlex
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = [
    "MEMORY_LIMITS",
    "close_and_remove",
    "cpus",
    "discard",
    "ending_signals",
    "flush_content",
    "flush_names",
    "has_windows",
    "is_running",
    "keep_freed_memory",
    "line_editor",
    "open_descriptor",
    "physical_memory",
    "quoted",
    "replace",
    "split_line",
    "try_lock",
    "unread",
    "usable_cpus",
    "user_cache",
    "yield_cpu",
]

MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says what a container may use, a number of bytes; files that other systems don't have."""

# The byte that is locked, beyond the content of every lock's file: on Windows nobody else can read a locked byte.
_LOCKED_BYTE = 1 << 30

_PATIENCE, _PAUSE = 10.0, 0.02  # seconds

# parameter numbers of mallopt, <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


# Files ----------------------------------------------------------------------------------------------------------------


def open_descriptor(path: str | os.PathLike[str], flags: int) -> int:
    """os.open that never waits for a pipe, and on Windows leaves the ends of lines as they are.   Raises OSError."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0), 0o666)


def flush_content(descriptor: int) -> None:
    """Flush the content of an open file to the disk.   Raises OSError.

    On macOS, fsync leaves it in the drive's own cache, which a power failure empties.
    Source: fsync(2) and fcntl(2) of macOS.
    """
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # file systems of networks lack it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def flush_names(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system supports it: Windows does not.   Raises OSError."""
    if sys.platform != "win32":
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except PermissionError:  # one may write into it, but not list it
            return
        try:
            flush_content(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have nothing to flush there
                raise
        finally:
            os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Give a file or folder another name, in place of what has that name.   Raises OSError.

    Windows refuses as long as anyone, such as a virus scanner, has the old content open: that is waited for.
    """
    end = time.monotonic() + (_PATIENCE if sys.platform == "win32" else 0.0)
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if time.monotonic() >= end:
                raise
        time.sleep(_PAUSE)


def user_cache() -> Path:
    """The folder in which xpnet keeps what can be had again."""
    import platformdirs

    return platformdirs.user_cache_path("xpnet", appauthor=False)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file, without waiting, until it is closed, or its process ends; whether nobody else has locked it.

    shared : whether others may do so too; Windows has no such locks.
    Raises OSError where the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            place = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, place, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def close_and_remove(descriptor: int, path: Path) -> None:
    """Close the file of a lock and remove it, so that it is never another one's; what cannot be removed stays.

    It is removed while it is still held; but Windows removes no open file, not even for others who wait for it.
    """
    ends: list[Callable[[], None]] = [functools.partial(os.unlink, path), functools.partial(os.close, descriptor)]
    for end in reversed(ends) if sys.platform == "win32" else ends:
        with contextlib.suppress(OSError):
            end()


# Processes, memory and CPUs -------------------------------------------------------------------------------------------


def is_running(pid: int) -> bool:
    """Whether there may be a process of that number on this machine."""
    if sys.platform != "win32":  # where a signal of any number ends the process
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        except OSError:
            return False
    return True


def ending_signals() -> dict[int, Any]:
    """The signals by which users and systems ask a process to end, each with the handler that it has by default.

    On Windows also the one of Ctrl-Break, of a console that is closed, and of a shutdown.
    """
    found: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if sys.platform == "win32":
        found[signal.SIGBREAK] = signal.SIG_DFL
    return found


def cpus() -> set[int]:
    """The numbers of the CPUs that this process may run on; macOS and Windows tell only how many there are."""
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    else:
        return set(range(os.cpu_count() or 1))


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    return len(cpus())


def yield_cpu() -> None:
    """Let another process run that waits for this CPU; return at once if none does."""
    if sys.platform != "win32":
        os.sched_yield()
    else:
        time.sleep(0)


def discard(descriptor: int) -> None:
    """Let whatever is written to a descriptor from now on go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def unread(descriptor: int) -> int:
    """How many bytes nobody has read yet of those written to a pipe; 0 where that is not known."""
    if sys.platform != "win32":
        import fcntl
        import termios

        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
    return 0


def physical_memory() -> int | None:
    """Bytes of memory that the machine has; None if it doesn't tell."""
    if sys.platform == "win32":
        # MEMORYSTATUSEX: its size and the load in percent, 4 bytes each, and seven sizes, of which the first is meant.
        status = (ctypes.c_uint64 * 8)(64)
        return status[1] if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    else:
        with contextlib.suppress(OSError, ValueError):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return None


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep freed blocks instead of handing them back to the system.

    A training step frees and allocates the same large temporaries again and again, and each one that was handed back
    costs a page fault for every 4 KiB when it returns: 507 a step at 784-128-10 and batch 256, and 2.2 ms where 1.3
    would do. Each of the two settings alone changes nothing. Blocks above 32 MiB, the most that glibc takes, are
    still handed back; 128 MiB of freed memory is twice what a step of batch 4096 at 784-512-10 leaves behind.
    Other C libraries have no such settings and are left alone.
    """
    if sys.platform == "linux":
        try:
            glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
        except (OSError, ValueError):  # musl
            glibc = False
        if glibc:
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
            libc.mallopt(_M_TRIM_THRESHOLD, 128 * 2**20)


# Terminals and desktops -----------------------------------------------------------------------------------------------


def quoted(word: str | os.PathLike[str]) -> str:
    """A word as the user's shell takes it, with quotes where it needs them."""
    if sys.platform == "win32":
        import subprocess  # nosec B404

        return subprocess.list2cmdline([os.fspath(word)])
    else:
        return shlex.quote(os.fspath(word))


def split_line(line: str) -> list[str]:
    """The words of a line, of which quotes keep blanks together; on Windows a backslash is a part of its path.

    Raises ValueError for an odd quote.
    """
    if sys.platform == "win32":
        return [word.strip("\"'") for word in shlex.split(line, posix=False)]
    else:
        return shlex.split(line)


def line_editor() -> ModuleType | None:
    """Python's module readline; None on Windows, whose console edits lines itself, and in a Python without it."""
    if sys.platform != "win32":
        with contextlib.suppress(ImportError):
            import readline

            return readline
    return None


def has_windows() -> bool:
    """Whether there is a desktop, on which a browser can open a page."""
    if sys.platform in ("win32", "darwin"):
        return True
    else:
        return any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
