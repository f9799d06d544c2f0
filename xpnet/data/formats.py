"""Readers for the files that digits come in: IDX, Keras' npz, the theano pickle and CSV.

Files are taken for hostile: sizes are checked before memory is asked for, nothing in a file is ever executed, and
whatever is wrong with one ends in a DataError of one line that begins with its path. Reading takes no more memory than
64 MiB and 8 bytes for each byte of content, which is at most MAX_BYTES and, where it is packed, at most FREE_BYTES or
MAX_RATIO times its packed size (packed.py); a raw IDX file of images beyond that is mapped.
"""

import gzip
import hashlib
import logging
import math
import os
import pickle  # nosec B403
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.errors import DataError
from xpnet.files import open_regular, read_up_to

from .dataset import Dataset, Split
from .packed import Gunzip, open_member, open_zip, refuse_bomb, unpacked

if TYPE_CHECKING:
    import zipfile

    from .packed import Location

MAX_BYTES = 1 << 30
"""No file may unpack to more than 1 GiB; the largest known set, EMNIST by class, takes 0.55 GB."""

MAPPED_SHARE = 1 / 8
"""A raw IDX file of images larger than this share of the memory, or than MAX_BYTES, is not read but mapped."""

MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux tells a container how much memory it may use."""

MAX_CLASSES = 1000

_LABELS_AT_ONCE = 1 << 20

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

_MAX_LINE = 1 << 20
"""Characters in a line of CSV: a quarter of a million pixels."""

_NUMBERS = re.compile(r"[<>=|]?([ui][1248]|f[248])")
"""How NumPy calls the types that pixels and labels may have."""

_NPY_HEADER = re.compile(
    r"\{(?:'(?:descr':'(?P<descr>[^']*)'|fortran_order':(?P<order>True|False)|shape':\((?P<shape>[\dL,]*)\)),?)*\}"
)
_MAX_NPY_HEADER = 10_000
_NPY_MAGIC = [b"\x93NUMPY" + bytes([version, 0]) for version in (1, 2, 3)]

IDX_NAME = re.compile(
    r"(?P<set>(.*[^a-zA-Z0-9])?)(?P<part>train|t10k|test)-(?P<kind>images|labels)"
    r"([-.]idx\d-(ubyte|byte|short|int|float|double)|\.idx)(\.gz)?"
)
IDX_PAIR_NAME = re.compile(r"(?P<set>.+-)(?P<kind>images|labels)\.idx(\.gz)?")
_LABEL_NAMES = ("label", "class", "digit", "target", "y")
_LOOKED_FOR = (
    "IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte and their t10k- or test- siblings, or NAME-images.idx "
    "and NAME-labels.idx, raw or .gz), "
    ".npz, .pkl, .pkl.gz and .csv"
)
logger = logging.getLogger("xpnet")


# --- what all formats share ------------------------------------------------------------------------------------------


def _pixels(images: NDArray[Any], where: str, entry: Callable[[int], str]) -> NDArray[Any]:
    if images.dtype.kind not in "uif" or images.ndim not in (2, 3):
        raise DataError(f"{where}: images must be numbers of shape (n, ...), not {images.dtype} of {images.shape}")
    if images.ndim == 2 and (side := math.isqrt(images.shape[1])) ** 2 == images.shape[1]:
        images = images.reshape(-1, side, side)
    if images.dtype == np.uint8 or images.size == 0:
        return images.astype(np.uint8, copy=False)
    fine = np.isfinite(images)
    if fine.all():  # one NaN must not make whole numbers look like fractions
        whole = images.dtype.kind != "f" or bool(images.max() > 1 and (np.rint(images) == images).all())
        fine = (images >= 0) & (images <= (255 if whole else 1))
    if not fine.all():
        first = np.argwhere(~fine)[0]
        raise DataError(
            f"{where}: pixel value {images[tuple(first)]} in {entry(int(first[0]))}, at {tuple(map(int, first[1:]))}; "
            "pixels must be whole numbers in 0..255 or floats in [0, 1]"
        )
    if whole:
        return images.astype(np.uint8)
    return images.astype(np.float32 if images.itemsize <= 4 else np.float64, copy=False)


def _classes(labels: NDArray[Any], where: str, entry: Callable[[int], str]) -> NDArray[np.int32]:
    if labels.dtype.kind not in "uif" or labels.ndim != 1:
        raise DataError(f"{where}: labels must be numbers of shape (n,), not {labels.dtype} of {labels.shape}")
    fine = (labels >= 0) & (labels < MAX_CLASSES)
    if labels.dtype.kind == "f":
        fine &= np.rint(labels) == labels
    if not fine.all():
        first = int(np.flatnonzero(~fine)[0])
        raise DataError(
            f"{where}: label {labels[first]} of {entry(first)}; labels must be whole numbers in 0..{MAX_CLASSES - 1}"
        )
    return labels.astype(np.int32)


def _split(images: ArrayLike, labels: ArrayLike, where: str, entry: Callable[[int], str] = "image {}".format) -> Split:
    with np.errstate(all="ignore"):  # a NaN is refused, whatever NumPy has to say of it
        pixels = _pixels(np.asanyarray(images), where, entry)
        if not isinstance(pixels, np.memmap):
            pixels = np.ascontiguousarray(pixels)
        return Split(pixels, _classes(np.asarray(labels), where, entry))


def _dataset(path: Path, train: Split, test: Split | None = None, validation: Split | None = None) -> Dataset:
    _check_stray(path, train.labels)
    n_classes = max(2, int(train.labels.max(initial=0)) + 1)
    return Dataset(path.name, train, test, validation, n_classes, str(path.resolve()))


def _check_stray(path: Path, labels: NDArray[np.int32]) -> None:
    """Take the few highest labels for damage if hardly any image has them: a file says nowhere how many classes it has.

    Behind a number that never occurs, a twentieth of the usual count is too few; without such a gap, a thousandth.
    """
    if not len(labels):
        return
    # In parts, since bincount takes a copy of eight bytes for each label.
    parts = np.array_split(labels, 1 + len(labels) // _LABELS_AT_ONCE)
    counts = np.sum([np.bincount(part, minlength=MAX_CLASSES) for part in parts], axis=0)[: labels.max() + 1]
    gaps = np.flatnonzero(counts == 0)
    start, few = (int(gaps[-1]) + 1, 20) if gaps.size else (len(counts) - 1, 1000)
    if few * np.mean(counts[start:]) < np.mean(counts[counts > 0]):
        first = int(np.flatnonzero(labels >= start)[0])
        times = int(counts[labels[first]])
        raise DataError(
            f"{path}: label {labels[first]} of training image {first} seems to be outside the classes: it occurs "
            f"{times} time{'s'[: times > 1]} among {len(labels)}; correct it, or take those images out"
        )


# --- IDX -------------------------------------------------------------------------------------------------------------


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, raw or gzip-compressed (told by its content, not its name).

    path : the file.
    Returns the array, 1 to 4 dimensions, in native byte order: uint8, int8, int16, int32, float32 or float64. Raw
    images (uint8, 2 dimensions or more) that would take more than MAPPED_SHARE of the memory, or than MAX_BYTES, are an
    np.memmap, which cannot be written to.
    Raises DataError if the file is no IDX file, is damaged, or holds fewer or more bytes than its header declares.
    Source: LeCun, Cortes and Burges, "The MNIST database", section "The IDX file format".
    """
    return _read_idx(Path(path))


def _read_idx(path: "Location") -> NDArray[Any]:
    with unpacked(path) as stream:
        magic = stream.read(4)
        if not magic:
            raise DataError(f"{path}: the file is empty")
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or not 1 <= magic[3] <= 4:
            raise DataError(f"{path}: not an IDX file, it begins with 0x{magic.hex()} instead of an IDX magic number")
        dtype, header = np.dtype(IDX_TYPES[magic[2]]), stream.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            raise DataError(f"{path}: truncated within its header; fetch the file again")
        shape = np.frombuffer(header, ">u4").tolist()
        size = math.prod(shape) * dtype.itemsize
        packed = isinstance(stream, Gunzip)
        pixels = dtype == np.uint8 and len(shape) > 1
        if not packed and isinstance(path, Path):
            file, offset = cast(IO[bytes], stream), 4 + len(header)
            there = os.fstat(file.fileno()).st_size - offset
            if pixels and size > min(MAX_BYTES, MAPPED_SHARE * _memory()):
                _check_size(path, size, there)
                return np.memmap(file, np.dtype(np.uint8), "r", offset, tuple(shape))
            if size <= MAX_BYTES:  # before any of it is read
                _check_size(path, size, there)
        if size > MAX_BYTES:
            hint = " for a packed file, so unpack it" if pixels and packed else ""
            raise DataError(
                f"{path}: its header declares {size} bytes of shape {tuple(shape)}; the cap is {MAX_BYTES}{hint}"
            )
        content = read_up_to(stream, size + 1)
    _check_size(path, size, len(content))
    try:
        return _shaped(content, dtype, shape)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _memory() -> float:
    """Bytes of memory that this process may use: the machine's, or less where a container is limited."""
    limits = [math.inf]
    with suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # "max" is none
            limits.append(int(Path(limit).read_text()))
    return min(limits)


def _check_size(path: "Location", declared: int, found: int) -> None:
    if found != declared:
        wrong = f"only {found} bytes: truncated" if found < declared else "more bytes: over-long"
        raise DataError(f"{path}: its header declares {declared} bytes, it holds {wrong}; fetch the file again")


def _idx_header(array: NDArray[Any]) -> bytes:
    codes = {dtype: code for code, dtype in IDX_TYPES.items()}
    code = codes.get(f">{array.dtype.kind}{array.dtype.itemsize}")
    if code is None or not 1 <= array.ndim <= 4:
        raise ValueError(f"IDX cannot hold {array.dtype} of shape {array.shape}")
    return bytes([0, 0, code, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()


def _big_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, array.dtype.newbyteorder(">"))


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file, gzip-compressed if the name ends in .gz.

    path : the file, replaced if it exists.
    array : 1 to 4 dimensions; uint8, int8, int16, int32, float32 or float64.
    Raises ValueError if IDX has no such type or number of dimensions.
    """
    content = _idx_header(array) + _big_endian(array).tobytes()
    Path(path).write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def idx_sha256(array: NDArray[Any]) -> str:
    """SHA-256 of the raw IDX file that would hold array, whatever format it came in."""
    digest = hashlib.sha256(_idx_header(array))
    digest.update(_big_endian(array).data)
    return digest.hexdigest()


def idx_files(folder: "Location") -> dict[str, dict[tuple[str, str], "Location"]]:
    """Find the IDX files in a folder or zip: set prefix -> (train or test, images or labels) -> file, raw before gz."""
    found: dict[str, dict[tuple[str, str], Location]] = {}
    files: list[Location] = [*folder.iterdir()]
    for file in sorted(files, key=lambda file: file.name):
        if (name := _idx_name(file.name)) and file.is_file():
            prefix, part, kind = name
            found.setdefault(prefix, {}).setdefault((part, kind), file)
    return found


def _idx_name(name: str) -> tuple[str, str, str] | None:
    """The set's prefix, train or test, and images or labels, by a file's name; None if it is called otherwise."""
    if match := IDX_NAME.fullmatch(name):
        return match["set"], "train" if match["part"] == "train" else "test", match["kind"]
    match = IDX_PAIR_NAME.fullmatch(name)
    return match and (match["set"], "train", match["kind"])


def read_idx_split(files: Mapping[tuple[str, str], "Location"], part: str) -> Split:
    """Read the images and labels of one part, setting right what EMNIST and QMNIST do differently from MNIST.

    files : a value of what idx_files returns.   part : "train" or "test".
    Returns the Split.   Raises DataError if a file is missing or unreadable.
    """
    for kind in ("images", "labels"):
        if (part, kind) not in files:
            there = next(iter(files.values()))
            raise DataError(f"{there}: the {part} {kind} are missing beside it")
    path = files[part, "images"]
    images, labels = _read_idx(path), _read_idx(files[part, "labels"])
    if path.name.startswith("qmnist-") and labels.ndim == 2:
        labels = labels[:, 0]
    if path.name.startswith("emnist-") and images.ndim == 3:
        if images.nbytes > MAX_BYTES:
            raise DataError(f"{path}: EMNIST's images must be turned in memory, and {images.nbytes} bytes are too many")
        images = np.ascontiguousarray(images.swapaxes(1, 2))
        if path.name.startswith("emnist-letters-"):
            labels = labels.astype(np.int32) - 1
    if len(images) != len(labels):
        raise DataError(f"{path}: {len(images)} images, but {files[part, 'labels'].name} has {len(labels)} labels")
    return _split(images, labels, str(path))


# --- npz -------------------------------------------------------------------------------------------------------------


def read_npz(path: str | os.PathLike[str]) -> tuple[Split, Split]:
    """Read an npz archive with the arrays x_train, y_train, x_test and y_test, as Keras' mnist.npz has them.

    path : the file.
    Returns (train, test).
    Raises DataError if it is damaged, an array is missing or too large, or holds objects instead of numbers.
    """
    x_train, y_train, x_test, y_test = read_npz_arrays(path, ("x_train", "y_train", "x_test", "y_test"))
    return _split(x_train, y_train, f"{path}: train split"), _split(x_test, y_test, f"{path}: test split")


def read_npz_arrays(path: str | os.PathLike[str], names: Sequence[str]) -> list[NDArray[Any]]:
    """Read some arrays of numbers from an npz archive.

    path : the file.   names : of the arrays.
    Returns them in that order and in native byte order.   Raises DataError as read_npz does.
    """
    path = Path(path)
    with open_zip(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if missing := [name for name in names if f"{name}.npy" not in members]:
            raise DataError(f"{path}: no array {missing[0]}; {', '.join(names)} are needed")
        wanted = [members[f"{name}.npy"] for name in names]
        total = sum(member.file_size for member in wanted)
        if total > MAX_BYTES:
            raise DataError(f"{path}: its arrays unpack to {total} bytes; the cap is {MAX_BYTES}")
        try:
            refuse_bomb(total, os.stat(path).st_size)
            return [_read_npy(archive, member) for member in wanted]
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def _read_npy(archive: "zipfile.ZipFile", member: "zipfile.ZipInfo") -> NDArray[Any]:
    key = member.filename.removesuffix(".npy")
    with open_member(archive, member) as stream:
        # NumPy's own reader of the header lets Python's parser loose on it.
        magic = stream.read(8)
        size = int.from_bytes(stream.read(2 if magic[6:7] == b"\1" else 4), "little")
        header = stream.read(min(size, _MAX_NPY_HEADER)).decode("latin1")
        known = _NPY_HEADER.fullmatch("".join(header.split()))
        if magic not in _NPY_MAGIC or not known or None in known.groups():
            raise DataError(f"{key} has no header as NumPy writes it")
        descr, order, sides = known.groups()
        if not _NUMBERS.fullmatch(descr):
            raise DataError(f"{key} has dtype {descr}, which is refused; numbers are needed")
        dtype, shape = np.dtype(descr), tuple(int(side) for side in sides.replace("L", "").split(",") if side)
        size = math.prod(shape) * dtype.itemsize
        content = read_up_to(stream, min(size, member.file_size) + 1)
    if len(content) != size:
        raise DataError(f"{key} declares shape {shape} of {dtype} but holds {len(content)} bytes")
    return _shaped(content, dtype, shape, "F" if order == "True" else "C")


def _shaped(content: bytes | bytearray, dtype: np.dtype[Any], shape: Sequence[int], order: str = "C") -> NDArray[Any]:
    """The array that content is, in native byte order."""
    try:
        array = np.frombuffer(content, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
    except ValueError:  # no bytes, but a shape that is beyond NumPy
        raise DataError(f"no array can have the shape {tuple(shape)}") from None
    native: NDArray[Any] = array.astype(dtype.newbyteorder("="), copy=False)
    return native


# --- pickle ----------------------------------------------------------------------------------------------------------


class _PickledDType:
    """Stands in for numpy.dtype while unpickling, since the real one can be driven into reading foreign memory."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            named = code if isinstance(code, str) else type(code).__name__
            raise pickle.UnpicklingError(f"an array of {named} is not an array of numbers")
        self.plain = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in (">", "<"):
            self.plain = self.plain.newbyteorder(state[1])


class _Latin1:
    """Stands in for the bytes that Python 3 pickles as text; they are made once they are known to be needed."""

    def __init__(self, text: str, _encoding: object = None) -> None:
        self.text = text


class _PickledArray:
    """Stands in for numpy.ndarray while unpickling: keeps what the pickle says of an array until it can be checked."""

    def __init__(self, *_: object) -> None:
        self.fill(b"", _PickledDType("u1"), (0,), "C")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, fortran, content = state
        self.fill(content, dtype, shape, "F" if fortran is True or fortran == 1 else "C")

    def fill(self, content: Any, dtype: _PickledDType, shape: Any, order: Any) -> "_PickledArray":
        self.content, self.dtype, self.shape, self.order = content, dtype.plain, shape, order
        # Few and small, since their product is taken.
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and 0 <= side < 2**63 for side in shape[:5]):
            raise pickle.UnpicklingError("the shape of an array must be whole numbers")
        if len(shape) > 4:
            raise pickle.UnpicklingError(f"an array of {len(shape)} dimensions is none of images or labels")
        return self

    @property
    def nbytes(self) -> int:
        size: int = math.prod(self.shape) * self.dtype.itemsize
        return size

    def array(self) -> NDArray[Any]:
        content = self.content.text if isinstance(self.content, _Latin1) else self.content
        content = content.encode("latin1") if isinstance(content, str) else content
        if len(content) != self.nbytes:
            raise pickle.UnpicklingError(f"an array of shape {self.shape} and {self.dtype} has {len(content)} bytes")
        return _shaped(content, self.dtype, self.shape, "F" if self.order == "F" else "C")


def _from_buffer(content: Any, dtype: _PickledDType, shape: Any, order: Any, *_: object) -> _PickledArray:
    return _PickledArray().fill(content, dtype, shape, order)


_PICKLED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDType,
    ("_codecs", "encode"): _Latin1,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _PickledArray),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


_OPCODES = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BYTEARRAY8 GLOBAL STACK_GLOBAL REDUCE "
    "BUILD EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS PUT BINPUT LONG_BINPUT MEMOIZE GET "
    "BINGET LONG_BINGET"
)
"""What arrays within tuples and lists take in protocols 0 to 5; not dictionaries, whose keys may be slow to hash."""

_DONE_BY: dict[int, Any] = {
    opcode: pickle._Unpickler.dispatch[opcode] for opcode in (getattr(pickle, name)[0] for name in _OPCODES.split())
}

MAX_OPCODES = 10_000
"""Six arrays take about two hundred."""


class _Opcodes(dict[int, Any]):
    """What does each opcode, so many times in all."""

    left = MAX_OPCODES

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if opcode not in self or self.left < 0:
            wrong = "is too long" if opcode in self else f"has the opcode 0x{opcode:02x}"
            raise pickle.UnpicklingError(f"it {wrong}, and only NumPy arrays are allowed")
        return super().__getitem__(opcode)


# Python's own implementation: the one in C can be made to allocate its memo table at any size.
class _ArraysOnly(pickle._Unpickler):
    """Unpickles NumPy arrays of numbers within tuples and lists; any other global is refused before it is imported."""

    read: Callable[[int], bytes]
    append: Callable[[object], None]

    def __init__(self, content: bytearray) -> None:
        super().__init__(BytesIO(content), encoding="latin1")
        self.dispatch = _Opcodes(_DONE_BY | {pickle.BYTEARRAY8[0]: _ArraysOnly.load_bytearray8})  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        """Python's own would allocate whatever size is declared."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(min(size, MAX_BYTES))))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only NumPy arrays are allowed")
        return _PICKLED[module, name]


def read_pickle(path: str | os.PathLike[str]) -> tuple[Split, Split, Split]:
    """Read a pickle of three (images, labels) pairs, as theano's and Nielsen's mnist.pkl.gz is, Python 2's included.

    Nothing in the file is executed: it can build arrays of numbers and nothing else.

    path : the file, gzip-compressed or not.
    Returns (train, validation, test).
    Raises DataError if it is damaged, has another form, or asks for any other global (which is named).
    """
    path = Path(path)
    with unpacked(path) as stream:
        content = read_up_to(stream, MAX_BYTES + 1)
    size = len(content)
    if size > MAX_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_BYTES} bytes, the cap")
    parts = ("train", "validation", "test")
    try:
        unpickler = _ArraysOnly(content)
        del content  # the unpickler has its own copy
        pairs = unpickler.load()
        if not isinstance(pairs, tuple | list) or len(pairs) != 3 or not all(map(_is_pair, pairs)):
            raise DataError(f"{path}: this pickle must hold three (images, labels) pairs of arrays: {', '.join(parts)}")
        entries = {id(entry): entry for pair in pairs for entry in pair}
        if sum(entry.nbytes for entry in entries.values()) > size:
            raise pickle.UnpicklingError("its arrays claim more bytes than it has")
        arrays = {key: entry.array() for key, entry in entries.items()}
        splits = [[arrays[id(entry)] for entry in pair] for pair in pairs]
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: this pickle is refused: {error}") from None
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can make the unpickler raise nearly anything
        raise DataError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from None
    del unpickler, pairs, entries, arrays
    train, validation, test = (
        _split(images, labels, f"{path}: {part} split") for part, (images, labels) in zip(parts, splits, strict=True)
    )
    return train, validation, test


def _is_pair(pair: object) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(entry, _PickledArray) for entry in pair)


# --- CSV -------------------------------------------------------------------------------------------------------------


def read_csv(path: str | os.PathLike[str]) -> Split:
    """Read comma-separated rows of a label and its pixels, with or without a header line (told by looking).

    path : the file, uncompressed.
    Returns the Split; pixels are 0..255 (uint8) or floats in [0, 1] (float32), as square images if their number allows.
    Raises DataError, naming the line, if a row has another number of columns or a value that can't be used.
    """
    path = Path(path)
    names, first, columns = _csv_head(path)
    if names and not _is_labelled(names):
        raise DataError(f"{path}: its first column is {names[0]!r}; it must be the label")
    if columns < 2:
        raise DataError(f"{path}: line {first} has {columns} column; a label and pixels, comma-separated, are needed")
    try:
        try:
            table = _csv_table(path, np.int16, first)
        except DataError:
            raise
        except (ValueError, DeprecationWarning):
            table = _csv_table(path, np.float32, first)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(_csv_fault(path, first, columns) or f"{path}: {error}") from None
    if table.shape[1] != columns:
        raise DataError(_csv_fault(path, first, columns) or f"{path}: it has changed while it was read")
    return _split(table[:, 1:], table[:, 0], str(path), lambda row: f"line {_csv_line(path, first, row)}")


@contextmanager
def _csv_text(path: Path) -> Iterator[TextIOWrapper]:
    """Open a file for reading as text, once its lines are known to be short enough to be split."""
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
                raise DataError(f"{path}: it holds {size} bytes; the cap is {MAX_BYTES}")
            block = file.read(_MAX_LINE)
            if block.startswith(b"\x1f\x8b"):
                raise DataError(f"{path}: gzip-compressed CSV; unpack it first")
            while len(block) == _MAX_LINE:
                if b"\n" not in block and b"\r" not in block:
                    raise DataError(f"{path}: a line has more than {_MAX_LINE} characters")
                block = file.read(_MAX_LINE)
            file.seek(0)
            yield TextIOWrapper(file, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _csv_table(path: Path, dtype: type[np.generic], first: int) -> NDArray[Any]:
    with _csv_text(path) as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.3 cuts 0.5 to the integer 0 and only warns
        return np.loadtxt(lines, dtype, comments=None, delimiter=",", skiprows=first - 1, ndmin=2)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the fields of each line that is not blank."""
    with _csv_text(path) as lines:
        for number, line in enumerate(lines, 1):
            if row := line.strip(" \t\r\n"):
                yield number, row.split(",")


def _csv_head(path: Path) -> tuple[list[str], int, int]:
    """The header's names (none if there is no header), the line number of the first data row, the number of columns."""
    rows = _csv_rows(path)
    number, fields = next(rows, (0, []))
    if not fields:
        raise DataError(f"{path}: the file is empty")
    if all(map(_is_number, fields)):
        return [], number, len(fields)
    names = [field.strip(" \"'") for field in fields]
    if any(map(_is_number, names)) and names[0].lower() not in _LABEL_NAMES:
        return [], number, len(fields)
    number, fields = next(rows, (0, []))
    if not fields:
        raise DataError(f"{path}: line 1 holds no numbers, and nothing follows it")
    return names, number, len(names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python's numbers may hold, and loadtxt's may not


def _is_labelled(names: list[str]) -> bool:
    return re.fullmatch(r"pixel_?\d+|\d+x\d+", names[0].lower()) is None


def _csv_fault(path: Path, first: int, columns: int) -> str | None:
    for number, fields in _csv_rows(path):
        if number < first:
            continue
        if len(fields) != columns:
            return f"{path}: line {number} has {len(fields)} columns, but {columns} are expected"
        for column, field in enumerate(fields, 1):
            if not _is_number(field):
                return f"{path}: line {number}, column {column}: {field[:40]!r} is not a number"
    return None


def _csv_line(path: Path, first: int, row: int) -> int:
    numbers = (number for number, _ in _csv_rows(path) if number >= first)
    return next(number for index, number in enumerate(numbers) if index == row)


# --- any of them -----------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> Dataset:
    """Read a data set from a file or a folder, in whichever of the known formats it is.

    path : a folder; or one file: IDX images (labels and the test pair are found beside it), npz, pickle, or CSV (its
        test sibling is found beside it).
    Returns the Dataset, with the number of classes that its labels show.
    Raises DataError if there is nothing readable, or what is there is damaged.
    """
    try:
        return _read(Path(path))
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror or error}") from None


def _read(path: Path) -> Dataset:
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; looked for {_LOOKED_FOR}")
    if not path.is_file():
        raise DataError(f"{path}: neither a regular file nor a folder")
    kind = _kind(path)
    logger.info("reading %s (%s)", path, kind)
    if kind == "idx":
        return _read_beside(path)
    if kind == "npz":
        return _dataset(path, *read_npz(path))
    if kind == "pickle":
        train, validation, test = read_pickle(path)
        return _dataset(path, train, test, validation)
    return _dataset(path, read_csv(path), _csv_test(path))


def _kind(path: Path) -> str:
    """Tell the format by the file's name, else by its content."""
    name = path.name.lower()
    for pattern, kind in (
        (r"idx\d|ubyte|\.idx$", "idx"),
        (r"\.npz$", "npz"),
        (r"\.(pkl|pickle)(\.gz)?$", "pickle"),
        (r"\.csv$", "csv"),
    ):
        if re.search(pattern, name):
            return kind
    with unpacked(path) as stream:
        magic = stream.read(4)
    if not magic:
        raise DataError(f"{path}: the file is empty; looked for {_LOOKED_FOR}")
    for start, kind in ((b"PK\3\4", "npz"), (b"\0\0", "idx"), (b"\x80", "pickle")):
        if magic.startswith(start):
            return kind
    raise DataError(f"{path}: neither its name nor its content tells a known format; looked for {_LOOKED_FOR}")


def _read_beside(path: Path) -> Dataset:
    name = _idx_name(path.name)
    if name is None or name[2] != "images":
        raise DataError(
            f"{path}: to find the labels too, name the images file, called like train-images-idx3-ubyte or "
            "NAME-images.idx"
        )
    prefix, part, _ = name
    files = idx_files(path.parent)[prefix]
    files[part, "images"] = path
    test = read_idx_split(files, "test") if part == "train" and ("test", "images") in files else None
    return _dataset(path, read_idx_split(files, part), test)


def _csv_test(path: Path) -> Split | None:
    sibling = path.with_name(path.name.replace("train", "test").replace("Train", "Test"))
    if sibling == path or not sibling.is_file():
        return None
    if not _is_labelled(_csv_head(sibling)[0] or ["label"]):
        logger.warning("%s has no column of labels; going on without a test split", sibling)
        return None
    return read_csv(sibling)


def _read_folder(path: Path) -> Dataset:
    sets = idx_files(path)
    if len(sets) > 1:
        raise DataError(f"{path}: holds several sets ({', '.join(sorted(sets))}); name one of the images files")
    for files in sets.values():
        logger.info("reading %s (idx)", path)
        test = read_idx_split(files, "test") if ("test", "images") in files else None
        return _dataset(path, read_idx_split(files, "train"), test)
    candidates = sorted(file for file in path.iterdir() if file.is_file())
    for pattern in (r"\.npz$", r"\.(pkl|pickle)(\.gz)?$", r"train.*\.csv$", r"\.csv$"):
        found = [file for file in candidates if re.search(pattern, file.name.lower())]
        if len(found) > 1:
            raise DataError(f"{path}: holds several sets ({', '.join(file.name for file in found)}); name one of them")
        if found:
            return _read(found[0])
    raise DataError(f"{path}: nothing readable in this folder; looked for {_LOOKED_FOR}")
