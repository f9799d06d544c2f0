"""Writing files so that nothing is lost.

A file has a temporary name until its content has been flushed to the disk, and only then gets its own. Whenever a
process is killed or the power fails, either the old or the new content is there, never a part of it.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from xpnet.platforms import flush_content, flush_names, open_descriptor, replace

__all__ = ["flush", "move_into_place", "remove", "sweep", "write_atomically", "write_folder"]


def write_atomically(path: Path, *contents: bytes | memoryview) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.   Raises OSError.

    contents : what it is to hold, one behind the other.
    """
    with _beside(path) as temporary:
        _write(temporary, *contents)


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a new folder of files, completely or not at all, in place of one of that name.   Raises OSError."""
    with _beside(path) as temporary:
        os.mkdir(temporary)
        for name, content in contents.items():
            _write(temporary / name, content)
        flush_names(temporary)
        if path.exists():
            remove(path)


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a file or folder that is flushed its name, and flush the name.   Raises OSError."""
    replace(temporary, path)
    flush_names(path.parent)


def remove(folder: Path) -> None:
    """Remove a folder of files, completely or not at all; a missing one is ignored.   Raises OSError."""
    temporary = _temporary(folder)
    try:
        replace(folder, temporary)
    except FileNotFoundError:
        return
    _delete(temporary)


def sweep(folder: Path, names: str) -> None:
    """Remove what killed processes left half-written in a folder in which no other process writes.

    names : a regular expression of the names that xpnet writes there; everything else in the folder is somebody else's.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if re.fullmatch(rf"\.({names})\.[0-9a-f]{{8}}\.tmp", path.name):
                _delete(path)


def flush(path: Path) -> None:
    """Flush the content of a file to the disk.   Raises OSError."""
    descriptor = open_descriptor(path, os.O_RDWR)
    try:
        flush_content(descriptor)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    """Remove a file or folder as far as possible."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary path whose content gets its name at the end, and is removed if that fails."""
    temporary = _temporary(path)
    try:
        yield temporary
        move_into_place(temporary, path)
    except OSError as error:
        # Whoever reads the message knows the file by its own name.
        error.filename = str(path)
        del error.filename2  # None would be shown
        raise
    finally:
        _delete(temporary)


def _temporary(path: Path) -> Path:
    """The name of something that is not complete yet, or no longer."""
    if not path.name:  # ".", for example
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _write(path: Path, *contents: bytes | memoryview) -> None:
    """A new file with these contents, on the disk when this returns."""
    descriptor = open_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        for content in contents:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        flush_content(descriptor)
    finally:
        os.close(descriptor)
