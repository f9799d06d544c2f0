"""Content packed by gzip or zip, which may be hostile: it is bounded by the size of its file.

A few bytes can stand for a thousand times as many. Python's gzip module is not used, because it walks through some
headers and paddings byte by byte.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from xpnet.errors import DataError
from xpnet.files import Stream, open_regular

if TYPE_CHECKING:
    import zipfile

    Location = Path | zipfile.Path

__all__ = ["FREE_BYTES", "MAX_RATIO", "Gunzip", "open_member", "open_zip", "refuse_bomb", "unpacked"]

FREE_BYTES = 32 << 20
MAX_RATIO = 50
"""What unpacks to more than FREE_BYTES and to more than MAX_RATIO times its packed size is refused.

MNIST's images unpack to 5 times their size; blank ones, or sorted labels, to a thousand times, but then they are few.
"""

_MAX_MEMBERS = 10_000  # of a gzip file: some writers begin a new one every 64 KiB
_MAX_DIRECTORY = 1 << 20  # bytes of a zip's list of files: some ten thousand of them
_MAX_PADDING = 16  # blocks of zeros behind a gzip file, where tapes and disks are rounded up
_BLOCK = 1 << 20


@contextmanager
def unpacked(path: "Location") -> Iterator[Stream]:
    """Open a file, or one in a zip, for reading, through a Gunzip if its content begins like gzip.

    Raises DataError for what cannot be opened or read, damaged gzip and decompression bombs.
    """
    try:
        with open_regular(path) if isinstance(path, Path) else _open_zipped(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield Gunzip(file) if packed else file
    except DataError as error:
        raise error if str(error).startswith(str(path)) else DataError(f"{path}: {error}") from None
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip content ({error}); download the file again") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except Exception as error:
        if isinstance(path, Path):
            raise
        # A damaged archive can make zipfile raise nearly anything.
        raise DataError(f"{path}: damaged zip archive ({error}); download it again") from None


class Gunzip:
    """A gzip file's content, of one member or several, as a stream that ends in an error where a bomb shows.

    file : of the packed content.
    Its read raises zlib.error for damage, EOFError for a truncated file, DataError for a bomb.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._packed = file, b""
        self._member: Any = zlib.decompressobj(wbits=31)
        self._members, self._consumed, self._produced = 1, 0, 0
        self._size = 0
        with suppress(AttributeError, OSError):  # a member of a zip has no number; what was read of it so far counts
            self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int, /) -> bytes:
        """At most size bytes, and at least one except at the end."""
        while not self._member.eof or self._begin_member():
            if not self._packed:
                self._packed = self._file.read(1 << 16)
                self._consumed += len(self._packed)
            if not self._packed:
                raise EOFError("it is truncated")
            content: bytes = self._member.decompress(self._packed, size)
            self._packed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if content:
                self._produced += len(content)
                refuse_bomb(self._produced, max(self._size, self._consumed))
                return content
        return b""

    def _begin_member(self) -> bool:
        """Whether another member follows; after the last one there may be zeros."""
        self._packed, padding = self._packed.lstrip(b"\0"), 0
        while not self._packed and (block := self._file.read(_BLOCK)):
            self._packed, padding = block.lstrip(b"\0"), padding + 1
            if padding > _MAX_PADDING:
                raise zlib.error("too many zeros after it")
        if not self._packed:
            return False
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise zlib.error("too many parts")
        self._member = zlib.decompressobj(wbits=31)
        return True


def refuse_bomb(unpacked: int, packed: int) -> None:
    """Raise DataError if content unpacks to far more than so many packed bytes should hold."""
    if unpacked > max(FREE_BYTES, MAX_RATIO * packed):
        raise DataError(
            f"it unpacks to more than {MAX_RATIO} times its size, as a decompression bomb does; if it is not one, "
            "unpack it yourself"
        )


@contextmanager
def open_zip(path: Path) -> "Iterator[zipfile.ZipFile]":
    """Open a zip archive for reading.

    Raises DataError, here and for whatever is raised by the use of the archive within the context, if it is damaged,
    lists too many files, or is not a regular file.
    """
    import zipfile

    try:
        with open_regular(path) as file:
            # Its list is read in one piece and into a Python object for each file, before anything can be checked.
            end: Any = zipfile._EndRecData(file)  # type: ignore[attr-defined]
            if end and end[5] > _MAX_DIRECTORY:
                raise DataError(f"{path}: its list of files takes {end[5]} bytes; the cap is {_MAX_DIRECTORY}")
            with zipfile.ZipFile(file) as archive:
                # zipfile.Path makes a text of each part of a name up to its slashes, and is caught in a loop by "//x".
                if any(len(name) > 200 or name.startswith("/") or "//" in name for name in archive.namelist()):
                    raise DataError(f"{path}: a file in it has an odd name; pack it again")
                yield archive
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # a damaged archive can make zipfile raise nearly anything
        raise DataError(f"{path}: damaged zip archive ({type(error).__name__}: {error}); download it again") from None


def open_member(archive: "zipfile.ZipFile", member: "zipfile.ZipInfo") -> IO[bytes]:
    """Open a file in an archive.   Raises DataError for a bomb, or a compression method that does not limit bombs."""
    if member.compress_type not in (0, 8) or member.flag_bits & 1:
        raise DataError(f"{member.filename} is encrypted or packed in an unusual way; pack it again")
    # What the archive says of the packed size may lie; zipfile itself unpacks no more than it says of the other.
    refuse_bomb(member.file_size, os.fstat(cast(Any, archive.fp).fileno()).st_size)
    return archive.open(member)


def _open_zipped(path: "zipfile.Path") -> IO[bytes]:
    archive: zipfile.ZipFile = cast(Any, path).root
    return open_member(archive, archive.getinfo(cast(Any, path).at))
