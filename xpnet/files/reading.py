"""Reading files that may be hostile: only regular ones, and never more than the caller has room for.

A pipe or a device could block forever.
"""

import errno
import os
import stat
from importlib import resources
from io import BufferedReader
from typing import Protocol

from xpnet.platforms import open_descriptor

__all__ = ["Stream", "open_regular", "package_text", "read_up_to", "read_whole"]

_BLOCK = 1 << 20


class Stream(Protocol):
    """Anything that can be read forwards."""

    def read(self, size: int, /) -> bytes:
        """At most size bytes; none at the end."""


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading, without ever waiting for another kind of file.

    Raises OSError, with a reason in its strerror, for anything that is not a regular file or cannot be opened.
    """
    try:
        file = open(os.fspath(path), "rb", opener=open_descriptor)  # noqa: SIM115
    except ValueError:  # a NUL, or a surrogate that the file system's encoding lacks
        raise OSError(errno.EINVAL, "no file can have such a name", os.fspath(path)) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "neither a regular file nor a folder", os.fspath(path))
    return file


def read_whole(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a regular file of at most limit bytes.   Raises OSError, also if it is larger."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > limit else file.read(size)
    if size > limit:
        raise OSError(errno.EFBIG, f"larger than the {limit:,} bytes that such a file may have", os.fspath(path))
    return content


def read_up_to(stream: Stream, size: int) -> bytearray:
    """Read at most size bytes; memory grows with what is there, not with what a header claims."""
    content = bytearray()
    while len(content) < size and (block := stream.read(min(_BLOCK, size - len(content)))):
        content += block
    return content


def package_text(package: str, name: str) -> str:
    """The text of a file that comes with xpnet.   package : the room that it lies in, such as "xpnet.data"."""
    return (resources.files(package) / name).read_text(encoding="utf-8")
