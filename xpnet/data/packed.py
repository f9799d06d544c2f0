"""Content packed by gzip, zip or tar, which may be hostile: it is bounded by the size of its file.

A few bytes can stand for a thousand times as many. Python's gzip module is not used, because it walks through some
headers and paddings byte by byte, nor is tarfile, which can be made to loop for ever.
"""

import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from xpnet.errors import DataError
from xpnet.files import Stream, open_regular, read_up_to, read_whole

if TYPE_CHECKING:
    import zipfile

__all__ = [
    "FREE_BYTES",
    "MAX_BYTES",
    "MAX_RATIO",
    "ArchivePath",
    "Gunzip",
    "Location",
    "content_of",
    "expanded",
    "is_junk",
    "listed",
    "located",
    "open_archive",
    "open_member",
    "open_zip",
    "refuse_bomb",
    "size_of",
    "unpacked",
]

MAX_BYTES = 1 << 30
"""No file may unpack to more than 1 GiB; the largest known set, EMNIST by class, takes 0.55 GB."""

FREE_BYTES = 32 << 20
MAX_RATIO = 50
"""What unpacks to more than FREE_BYTES and to more than MAX_RATIO times its packed size is refused.

MNIST's images unpack to 5 times their size; blank ones, or sorted labels, to a thousand times, but then they are few.
"""

_MAX_MEMBERS = 10_000  # of a gzip file: some writers begin a new one every 64 KiB
_MAX_DIRECTORY = 10 << 20  # bytes of a zip's list of files: some hundred thousand of them
_MAX_FILES = 250_000  # in a tar
_MAX_NAME = 200
_MAX_DEPTH = 16  # folders within folders
_MAX_EXTENSION = 1 << 16  # bytes of a tar's entry that says more of the next one, such as a long name
_MAX_PADDING = 16  # blocks of zeros behind a gzip file, where tapes and disks are rounded up
_BLOCK = 1 << 20


# --- places ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Archive:
    """An open archive.

    path : of its file.   files : name -> size in bytes, and what opens it.   folders : name -> names of what is in it.
    """

    path: "Path | ArchivePath"
    files: dict[str, tuple[int, Callable[[], IO[bytes]]]]
    folders: dict[str, list[str]]


@dataclass(frozen=True)
class ArchivePath:
    """A file or folder in an archive, with what readers use of Path; at : its name there, "" for all of the archive."""

    archive: _Archive
    at: str = ""

    def __str__(self) -> str:
        return f"{self.archive.path}/{self.at}" if self.at else str(self.archive.path)

    @property
    def name(self) -> str:
        """The last part of its name."""
        return self.at.rpartition("/")[2] or self.archive.path.name

    @property
    def parent(self) -> "ArchivePath":
        """The folder that it is in."""
        return ArchivePath(self.archive, self.at.rpartition("/")[0])

    @property
    def size(self) -> int:
        """Bytes that it says it has."""
        return self.archive.files[self.at][0] if self.is_file() else 0

    def __truediv__(self, name: str) -> "ArchivePath":
        return ArchivePath(self.archive, f"{self.at}/{name}" if self.at else name)

    def with_name(self, name: str) -> "ArchivePath":
        """Another file or folder beside it."""
        return self.parent / name

    def is_file(self) -> bool:
        """Whether it is a file that is there."""
        return self.at in self.archive.files

    def is_dir(self) -> bool:
        """Whether it is a folder that is there."""
        return self.at in self.archive.folders

    def iterdir(self) -> "Iterator[ArchivePath]":
        """What is in the folder."""
        return (self / name for name in self.archive.folders.get(self.at, []))

    def open(self) -> IO[bytes]:
        """Open the file for reading, as open_member does."""
        if not self.is_file():
            raise DataError(f"{self}: no such file in the archive")
        return self.archive.files[self.at][1]()


Location = Path | ArchivePath


def located(path: str | os.PathLike[str] | ArchivePath) -> Location:
    """A path as a Location, a user's folder (~) expanded."""
    return path if isinstance(path, ArchivePath) else expanded(Path(path))


def expanded(path: Path) -> Path:
    """The path with a user's folder for a leading ~, and bytes that are not UTF-8 as TOML and JSON have them escaped.

    What is called as it is written comes first.
    """
    if os.path.lexists(path):
        return path
    unescaped = re.sub(r"\\udc([89a-f][0-9a-f])", lambda match: chr(0xDC00 + int(match[1], 16)), str(path))
    if unescaped != str(path) and os.path.lexists(unescaped):
        return Path(unescaped)
    with suppress(RuntimeError):  # no such user
        return path.expanduser()
    return path


def size_of(path: Location) -> int:
    """Bytes that a file has.   Raises OSError."""
    return path.size if isinstance(path, ArchivePath) else os.stat(path).st_size


def content_of(path: Location, limit: int) -> bytes:
    """The content of a file of at most limit bytes.   Raises OSError, DataError."""
    if isinstance(path, Path):
        return read_whole(path, limit)
    if path.size > limit:
        raise DataError(f"larger than the {limit:,} bytes that such a file may have")
    with unpacked(path) as stream:
        return bytes(read_up_to(stream, limit))


def is_junk(name: str) -> bool:
    """Whether a file or folder of that name is none of the user's: macOS, Windows and editors leave such behind."""
    return name.startswith(".") or name.lower() in _JUNK


_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"}


def listed(folder: Location) -> list[Any]:
    """What is in a folder, by name, without junk.   Raises OSError."""
    return sorted((file for file in folder.iterdir() if not is_junk(file.name)), key=lambda file: file.name)


# --- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def unpacked(path: Location) -> Iterator[Stream]:
    """Open a file, or one in an archive, for reading, through a Gunzip if its content begins like gzip.

    Raises DataError for what cannot be opened or read, damaged gzip and decompression bombs.
    """
    try:
        with open_regular(path) if isinstance(path, Path) else path.open() as file:
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


# --- archives --------------------------------------------------------------------------------------------------------


@contextmanager
def open_archive(path: Location) -> Iterator[ArchivePath]:
    """Open a zip or tar archive, the tar packed by gzip or not; its files are read where they are.

    Links and devices in it are passed over, and so is junk.
    Raises DataError, here and within the context, if it is damaged, holds too much or too many files, or odd names.
    """
    if isinstance(path, ArchivePath):
        raise DataError(f"{path}: an archive within an archive; unpack it")
    with unpacked(path) as stream:
        is_zip = stream.read(2) == b"PK"
    if not is_zip:
        with unpacked(path) as stream:
            content = read_up_to(stream, MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DataError(f"{path}: holds more than {MAX_BYTES} bytes, the cap; unpack it")
        try:
            members = [(name, size, partial(_slice, content, at, size)) for name, at, size in _tar_files(content)]
            yield ArchivePath(_tree(path, members))
        except DataError as error:
            raise error if str(error).startswith(str(path)) else DataError(f"{path}: {error}") from None
        return
    with open_zip(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        if sum(info.file_size for info in infos) > MAX_BYTES:
            raise DataError(f"{path}: holds more than {MAX_BYTES} bytes, the cap; unpack it")
        try:
            refuse_bomb(sum(info.file_size for info in infos), _size(archive))
            # Windows writes backslashes.
            yield ArchivePath(
                _tree(
                    path,
                    [
                        (info.filename.replace("\\", "/"), info.file_size, partial(open_member, archive, info))
                        for info in infos
                    ],
                )
            )
        except DataError as error:
            raise error if str(error).startswith(str(path)) else DataError(f"{path}: {error}") from None


def _slice(content: bytearray, at: int, size: int) -> IO[bytes]:
    return BytesIO(content[at : at + size])


def _tree(path: Path, members: Iterable[tuple[str, int, Callable[[], IO[bytes]]]]) -> _Archive:
    files: dict[str, tuple[int, Callable[[], IO[bytes]]]] = {}
    folders: dict[str, list[str]] = {"": []}
    for name, size, opens in members:
        parts = [part for part in name.split("/", _MAX_DEPTH + 1) if part != "."]
        if len(name) > _MAX_NAME or len(parts) > _MAX_DEPTH or "" in parts or ".." in parts or "\0" in name:
            raise DataError("a file in it has an odd name; pack it again")
        if any(map(is_junk, parts)) or (at := "/".join(parts)) in files:
            continue
        files[at] = size, opens
        for i, part in enumerate(parts):
            folder = "/".join(parts[:i])
            if i and folder not in folders:
                folders[folder] = []
                folders["/".join(parts[: i - 1])].append(parts[i - 1])
            if i == len(parts) - 1:
                folders[folder].append(part)
    return _Archive(path, files, folders)


def _tar_files(content: bytearray) -> Iterator[tuple[str, int, int]]:
    """The name, the place and the size of each file in a tar; links and devices are passed over.

    Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".
    """
    at, longer = 0, ""
    for _ in range(_MAX_FILES):
        header = bytes(content[at : at + 512])
        if not header.strip(b"\0"):
            return
        if len(header) < 512 or _number(header[148:156]) != sum(header[:148]) + 8 * 0x20 + sum(header[156:]):
            raise DataError("damaged tar archive; download it again")
        kind, size = header[156:157], _number(header[124:136])
        start = at + 512
        at = start + -(-size // 512) * 512
        if start + size > len(content):
            raise DataError("damaged tar archive (it is truncated); download it again")
        if kind in (b"L", b"x"):
            longer = _long_name(bytes(content[start : start + min(size, _MAX_EXTENSION)]), kind) or longer
            continue
        name = _text(header[:100])
        if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
            name = f"{prefix}/{name}"
        if kind in (b"0", b"\0", b"7") and not name.endswith("/"):
            yield longer or name, start, size
        if kind != b"g":
            longer = ""
    raise DataError(f"it holds more than {_MAX_FILES} files; unpack it")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU's way for what octal digits cannot hold
        return int.from_bytes(field, "big") - (field[0] << 8 * (len(field) - 1))
    digits = field.strip(b" \0") or b"0"
    if not re.fullmatch(rb"[0-7]+", digits):
        raise DataError("damaged tar archive; download it again")
    return int(digits, 8)


def _long_name(extension: bytes, kind: bytes) -> str:
    if kind == b"L":
        return _text(extension)
    while record := re.match(rb"(\d{1,5}) ", extension):  # pax: length, key=value, newline
        size = int(record[1])
        if extension[record.end() : size].startswith(b"path="):
            return _text(extension[record.end() + 5 : size - 1])
        extension = extension[max(size, 1) :]
    return ""


def _text(field: bytes) -> str:
    return os.fsdecode(field.partition(b"\0")[0])


@contextmanager
def open_zip(path: Location) -> "Iterator[zipfile.ZipFile]":
    """Open a zip archive, or one in an archive, for reading.

    Raises DataError, here and for whatever is raised by the use of the archive within the context, if it is damaged,
    lists too many files, or is not a regular file.
    """
    import zipfile

    try:
        with _opened(path) as file:
            # Its list is read in one piece and into a Python object for each file, before anything can be checked.
            end: Any = zipfile._EndRecData(file)  # type: ignore[attr-defined]
            if end and end[5] > _MAX_DIRECTORY:
                raise DataError(f"{path}: its list of files takes {end[5]} bytes; the cap is {_MAX_DIRECTORY}")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # a damaged archive can make zipfile raise nearly anything
        raise DataError(f"{path}: damaged zip archive ({type(error).__name__}: {error}); download it again") from None


def _opened(path: Location) -> IO[bytes]:
    """A file in which one can go to and fro: in memory, if it is packed or in an archive."""
    with unpacked(path) as stream:
        if isinstance(path, Path) and not isinstance(stream, Gunzip):
            return open_regular(path)
        content = read_up_to(stream, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: holds more than {MAX_BYTES} bytes, the cap; unpack it")
    return BytesIO(content)


def open_member(archive: "zipfile.ZipFile", member: "zipfile.ZipInfo") -> IO[bytes]:
    """Open a file in an archive.   Raises DataError for a bomb, or a compression method that does not limit bombs."""
    if member.compress_type not in (0, 8) or member.flag_bits & 1:
        raise DataError(f"{member.filename} is encrypted or packed in an unusual way; pack it again")
    # What the archive says of the packed size may lie; zipfile itself unpacks no more than it says of the other.
    refuse_bomb(member.file_size, _size(archive))
    return archive.open(member)


def _size(archive: "zipfile.ZipFile") -> int:
    file: Any = archive.fp
    return len(file.getbuffer()) if isinstance(file, BytesIO) else os.fstat(file.fileno()).st_size
