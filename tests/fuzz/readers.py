"""What is fuzzed: each reader of files, valid files to begin with, and what a file may lead to.

A file may lead to data, or to the reader's own error of one printable line. All else is a finding: another exception, a
warning, more than LIMIT seconds or more memory than the file answers for, a file written, another file read, code run.
"""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load as deserialize

import xpnet
from xpnet import export
from xpnet.cli.runs import as_dict, score_of, time_of
from xpnet.data import (
    Schema,
    read,
    read_idx,
    read_mat,
    read_npy,
    read_npz,
    read_pickle,
    read_table,
    rows_of,
    write_idx,
    write_parts,
)
from xpnet.data.formats import idx_files, read_idx_split
from xpnet.data.formats.parts import MANIFEST
from xpnet.data.packed import FREE_BYTES, MAX_RATIO, open_archive
from xpnet.data.pictures import to_form
from xpnet.data.pictures.decoding import decode
from xpnet.export.hdf5 import read_hdf5
from xpnet.files import read_whole
from xpnet.model import Stored, save, storage
from xpnet.platforms import MEMORY_LIMITS
from xpnet.recipes import read_recipe, recipe_names, recipe_text
from xpnet.studies import records, tune
from xpnet.studies.runs import read_run
from xpnet.training import checkpoint, history
from xpnet.training.initializers import init_params, init_running

LIMIT = 2.0
"""Seconds of this process's time."""

MEMORY = (64 << 20) + 8 * FREE_BYTES
PER_BYTE = 8 * MAX_RATIO
"""Bytes that a small file may cost, and each byte of a larger one: see xpnet/data/formats."""

PICTURE_MEMORY = 500 << 20

SEPARATOR = b"\n=====\n"
"""Between the files of an input that is several."""

_CHECKPOINT = (checkpoint.MANIFEST, checkpoint.STATE, checkpoint.ARRAYS)

Mutate = Callable[[bytes], bytes]


def as_it_is(content: bytes, mutate: Mutate) -> bytes:
    """The change alone, where a format has no sums."""
    return mutate(content)


class Finding(Exception):  # noqa: N818 - not the reader's error, but what is told of it
    """What no file may lead to."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader and what it is fuzzed with.

    read : takes the path of the first file.   names : of the files that an input is, parted by SEPARATOR.
    errors : that it may raise.   seeds : makes valid inputs.
    reshape : changes an input so that its sums still hold, given one that changes bytes.
    tokens : words of the format, for the fuzzer to put in.   memory : bytes that a small file may cost.
    """

    read: Callable[[Path], object]
    names: tuple[str, ...]
    errors: type[Exception]
    seeds: Callable[[], Iterable[bytes]]
    reshape: Callable[[bytes, Mutate], bytes] = as_it_is
    tokens: tuple[bytes, ...] = ()
    memory: int = MEMORY


# --- what a file may lead to -----------------------------------------------------------------------------------------

_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "os.putenv",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "code.",
    "marshal.",
    "compile",
    "exec",
    "import",
)
_seen: list[str] | None = None  # what happened since a reader began; None while none reads
_folder = ""
_hooked = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "import" and arguments[0] == "faulthandler":  # the fuzzer shows where a slow reader is; time is judged
        return
    if event == "open":
        path, _mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        expected = isinstance(path, int) or str(path).startswith(_folder) or path in MEMORY_LIMITS
        if not writes and expected:
            return
    elif not event.startswith(_FORBIDDEN):
        return
    _seen.append(f"{event} {arguments[:2]!r}"[:200])
    raise PermissionError(f"a reader may not: {event}")


def outcome(reader: Reader, content: bytes, folder: Path, *, limit: float = LIMIT) -> str:
    """Write an input into a folder and read it: "data" or "refused".   Raises Finding for anything else.

    limit : seconds.
    """
    write(reader, content, folder)
    return judged(reader, folder / reader.names[0], len(content), limit=limit)


def write(reader: Reader, content: bytes, folder: Path) -> None:
    """Write an input's files; those that it has no part for are not there."""
    parts = content.split(SEPARATOR, len(reader.names) - 1)
    for name, part in zip(reader.names, parts, strict=False):
        file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(file, part)
        os.close(file)
    for name in reader.names[len(parts) :]:
        (folder / name).unlink(missing_ok=True)


def warm_up(reader: Reader, folder: Path) -> list[bytes]:
    """Read the valid inputs unwatched, so that what is imported at first use is there.   Returns them."""
    # By the median of some pictures, by the metadata of others, by pickles of protocol 0, and by tables of UTF-16,
    # which may lie in every archive.
    for module in ("numpy.ma", "PIL.MpoImagePlugin", "PIL.TiffImagePlugin"):
        import_module(module)
    for codec in ("raw_unicode_escape", "utf_16"):
        import_module(f"encodings.{codec}")
    seeds = list(reader.seeds())
    for seed in seeds:
        write(reader, seed, folder)
        reader.read(folder / reader.names[0])
    return seeds


def judged(reader: Reader, path: Path, size: int, *, limit: float = LIMIT) -> str:
    """What a path leads to, as outcome says it.   size : of its content."""
    global _seen, _folder, _hooked  # noqa: PLW0603 - an audit hook stays for good, and has no other place
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    _folder, before, start = os.path.dirname(path), _resident(), time.process_time()
    raised: type[Exception] | None = None
    said = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen: list[str] = []
        _seen = seen
        try:
            reader.read(path)
        except Exception as error:  # which is not kept, since it keeps the reader's memory
            raised, said = type(error), str(error)
        finally:
            _seen = None
    seconds, peak = time.process_time() - start, _peak()
    if seen:
        raise Finding(f"did what no reader may: {seen[0]}")
    if seconds > limit:
        raise Finding(f"took {seconds:.1f} s")
    if peak > before.peak and peak - before.now > reader.memory + PER_BYTE * size:
        raise Finding(f"took {(peak - before.now) >> 20} MiB")
    if raised is None:
        return "data"
    if not issubclass(raised, reader.errors) and not issubclass(raised, xpnet.MissingPackageError):
        raise Finding(f"{raised.__name__}: {said}"[:300])
    if not said.isprintable() or not 0 < len(said) < 2000:
        raise Finding(f"not one line: {said!r}"[:300])
    return "refused"


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
# Linux counts the memory of the process that started this one in this one's peak.
_INHERITED = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
# Only Linux tells what is taken now.
_STATM = os.open("/proc/self/statm", os.O_RDONLY) if os.path.exists("/proc/self/statm") else None


@dataclasses.dataclass(frozen=True)
class _Memory:
    now: int
    peak: int


def _peak() -> int:
    """The most memory that this process ever took."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
    if peak > _INHERITED or _STATM is None:
        return peak
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def _resident() -> _Memory:
    peak = _peak()
    if _STATM is None:
        return _Memory(peak, peak)
    return _Memory(int(os.pread(_STATM, 64, 0).split()[1]) * resource.getpagesize(), peak)


# --- valid inputs ----------------------------------------------------------------------------------------------------


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)


def _written(write: Callable[[Path], object], name: str = "x") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def _arrays(dtype: Any = np.uint8) -> tuple[NDArray[Any], NDArray[Any]]:
    images = np.arange(24).reshape(6, 2, 2) * 10
    return (images / 255 if np.dtype(dtype).kind == "f" else images).astype(dtype), np.arange(6) % 3


def _idx(array: NDArray[Any]) -> bytes:
    return _written(lambda path: write_idx(path, array))


def _idx_seeds() -> Iterator[bytes]:
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        images, labels = _arrays(dtype)
        for one, other in (
            (_idx(images), _idx(labels.astype(np.int32))),
            (_idx(images[:, 0]), _idx(labels.astype("u1"))),
        ):
            yield one + SEPARATOR + other
            yield _packed(one) + SEPARATOR + _packed(other)


_IN_PARTS = (MANIFEST, "train-00000-of-00001-images.idx", "train-00000-of-00001-labels.idx")


def _parts_seeds() -> Iterator[bytes]:
    images, labels = _arrays()
    for pictures, classes in ((images, 3), (images.reshape(6, 4), ["a", "b", "c"])):
        with tempfile.TemporaryDirectory() as folder:
            write_parts(folder, lambda *_, x=pictures: (x, labels), train=1, classes=classes)
            yield SEPARATOR.join((Path(folder) / name).read_bytes() for name in _IN_PARTS)


def _all_of_parts(path: Path) -> object:
    """All rows of a set in parts, each of which is checked when it is read."""
    train = read(path.parent if path.name == MANIFEST else path).train
    return [rows_of(array, np.arange(len(array))) for array in train]


def _recounted(content: bytes, mutate: Mutate) -> bytes:
    """Change a file of a set in parts, whose manifest has the digest, or the manifest, whose parts have theirs."""
    files = content.split(SEPARATOR, 2)
    at = random.randrange(len(files))
    files[at] = mutate(files[at])
    with contextlib.suppress(Exception):  # what was changed before may be no manifest any more
        table = json.loads(files[0])
        for kind, file in zip(("images", "labels"), files[1:], strict=True):
            table["train"][0][kind] = hashlib.sha256(file).hexdigest()
        files[0] = json.dumps(table).encode()
    return SEPARATOR.join(files)


def _npz(dtype: Any, save: Callable[..., None]) -> bytes:
    (images, labels), file = _arrays(dtype), io.BytesIO()
    save(file, x_train=images, y_train=labels, x_test=images[:3], y_test=labels[:3])
    return file.getvalue()


def _npz_seeds() -> Iterator[bytes]:
    for dtype in (np.uint8, ">f4", np.float16, np.float64):
        yield from (_npz(dtype, save) for save in (np.savez, np.savez_compressed))
    yield _npz(np.asfortranarray(_arrays()[0]).dtype, np.savez)
    (images, labels), file = _arrays(), io.BytesIO()
    np.savez(file, X=images, y=np.array(["a", "b", "c"])[labels], z=labels.astype("S1"))
    yield file.getvalue()
    file = io.BytesIO()
    np.savez(file, images, images[:3], labels, labels[:3])
    yield file.getvalue()


def _npy_seeds() -> Iterator[bytes]:
    images, labels = _arrays()
    for form in (np.asarray, np.asfortranarray):
        for texts in (labels, labels.astype(str), np.eye(3)[labels]):
            contents = []
            for array in (form(images), texts):
                np.save(file := io.BytesIO(), array)
                contents.append(file.getvalue())
            yield SEPARATOR.join(contents)
            yield SEPARATOR.join(map(_packed, contents))


def mat_element(kind: int, content: bytes, order: str = "<", *, padded: bool = True) -> bytes:
    """An element of a MATLAB file; a short one lies within its tag."""
    if 0 < len(content) <= 4:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8 if padded else 0)


def mat_matrix(name: str, kind: int, shape: tuple[int, ...], content: bytes = b"", order: str = "<") -> bytes:
    """A variable of a MATLAB file.   kind : its class.   content : the elements behind its name."""
    head = mat_element(6, struct.pack(f"{order}II", kind, 0), order)
    head += mat_element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return mat_element(14, head + mat_element(1, name.encode(), order) + content, order)


def mat_file(variables: dict[str, Any], order: str = "<", packed: bool = False) -> bytes:
    """A MATLAB file of arrays, texts in lists (as cells) and dictionaries (as structures).   order : of its bytes."""

    def variable(name: str, value: Any) -> bytes:
        if isinstance(value, str):
            return mat_matrix(name, 4, (1, len(value)), mat_element(4, value.encode(f"utf-16-{ends}"), order), order)
        if isinstance(value, list):
            return mat_matrix(name, 1, (len(value), 1), b"".join(variable("", entry) for entry in value), order)
        if isinstance(value, dict):
            names = b"".join(key.encode().ljust(32, b"\0") for key in value)
            content = mat_element(5, struct.pack(f"{order}i", 32), order) + mat_element(1, names, order)
            content += b"".join(variable("", entry) for entry in value.values())
            return mat_matrix(name, 2, (1, 1), content, order)
        kind, stored = {"u1": (9, 2), "i2": (10, 3), "i8": (14, 12), "f4": (7, 7), "f8": (6, 9)}[value.dtype.str[1:]]
        content = value.astype(value.dtype.newbyteorder(order)).tobytes("F")
        return mat_matrix(name, kind, value.shape, mat_element(stored, content, order), order)

    ends = "le" if order == "<" else "be"
    written = [variable(name, value) for name, value in variables.items()]
    if packed:
        written = [mat_element(15, zlib.compress(each), order, padded=False) for each in written]
    mark = struct.pack(f"{order}HH", 0x0100, 0x4D49)
    return b"MATLAB 5.0 MAT-file".ljust(124) + mark + b"".join(written)


def _mat_seeds() -> Iterator[bytes]:
    images, labels = _arrays()
    rows, column = images.reshape(6, -1), labels[:, None].astype("u1")
    for order in "<>":
        for packed in (False, True):
            yield mat_file({"data": rows.T, "label": column.T.astype("f8")}, order, packed)
            yield mat_file({"X": rows / 9, "y": ["a", "bc"] * 3}, order, packed)
            part = {"images": rows, "labels": column}
            yield mat_file({"dataset": {"train": part, "test": part, "mapping": rows}}, order, packed)


def _zip_seeds() -> Iterator[bytes]:
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", how) as archive:
            for part in ("train", "test"):
                for name, array in zip(("images-idx3", "labels-idx1"), _arrays(), strict=True):
                    content = _packed(_idx(array.astype(np.uint8)))
                    archive.writestr(zipfile.ZipInfo(f"gzip/emnist-x-{part}-{name}-ubyte.gz"), content, how)
        yield file.getvalue()


def _archived() -> Iterator[dict[str, bytes]]:
    images, labels = (array.astype(np.uint8) for array in _arrays())
    yield {"in/train-images-idx3-ubyte": _idx(images), "in/train-labels-idx1-ubyte.gz": _packed(_idx(labels))}
    rows = "".join(f"{i % 2},{i},3,0.5\n" for i in range(8)).encode()
    yield {"train.csv": rows, "test.csv": rows, "__MACOSX/._train.csv": b"\0"}


def _archive_seeds() -> Iterator[bytes]:
    for files in _archived():
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        yield file.getvalue()


def _tar_seeds() -> Iterator[bytes]:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for files in _archived():
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode="w", format=form) as archive:
                for name, content in files.items():
                    info = tarfile.TarInfo(f"{'a' * 60}/{'b' * 60}/{name}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
            yield file.getvalue().rstrip(b"\0") + bytes(1024)


def _resummed_headers(content: bytes, mutate: Mutate) -> bytes:
    """A tar that is changed, the sums of its headers made right."""
    changed = bytearray(mutate(content))
    for at in range(0, len(changed) - 511, 512):
        if changed[at + 257 : at + 262] == b"ustar":
            changed[at + 148 : at + 156] = b" " * 8
            changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
    return bytes(changed)


def _pickle_seeds() -> Iterator[bytes]:
    for dtype in (np.uint8, np.float32):
        pairs = [_arrays(dtype)] * 3
        for protocol in range(6):
            content = pickle.dumps([tuple(a.copy() for a in pair) for pair in pairs], protocol)
            yield content
            yield _packed(content)
        for value in (
            {"data": pairs[0][0], b"labels": list(map(int, pairs[0][1]))},
            {"train": {"images": list(pairs[0][0]), "labels": list(pairs[0][1])}, "note": "x"},
            [(image, "ab"[label % 2]) for image, label in zip(*pairs[0], strict=True)] * 2,
        ):
            yield from (pickle.dumps(value, protocol) for protocol in (0, 2, 4))
    yield pickle.dumps(pairs, 2).replace(b"numpy._core", b"numpy.core")
    yield python2_pickle([_arrays(np.float32)] * 3)


def python2_pickle(pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> bytes:
    """The bytes that Python 2 and an old NumPy wrote of arrays: protocol 2, byte strings, numpy.core."""

    def string(text: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(text)) + text

    def array(values: NDArray[Any]) -> bytes:
        dtype = b"cnumpy\ndtype\n" + string(values.dtype.str[1:].encode()) + b"K\0K\1\x87R(K\3" + string(b"<")
        dtype += b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\0tb"
        shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in values.shape) + b"t"
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + string(b"b") + b"\x87R"
        return empty + b"(K\1" + shape + dtype + b"\x89" + string(values.tobytes()) + b"tb"

    return b"\x80\2" + b"".join(array(x) + array(y) + b"\x86" for x, y in pairs) + b"\x87."


def _csv_seeds() -> Iterator[bytes]:
    yield b"label,a,b,c,d\n1,0,255,3,4\n0,1,2,3,4\n"
    yield b"\xef\xbb\xbf1,0.5,0.25\r\n\r\n0,1e-3,1\r\n"
    yield b'"label",0,1\n2,7.0,200\n1,0,9\n'
    yield b"0,1,7\n1,2,8\n5,0,9\n" * 20
    yield b"Id;size;is_old;Species\n1;0,5;True;cat\n2;1,5;False;dog\n"
    yield b"0,0.1,0.2,0.3,7\n1,2,3,4,5\n0,3,4,5,6\n"
    yield b"# a class\n0.5 'x'\n1.5 \"y\"\n"
    yield b"a\tclass_0\tclass_1\n7\t0\t1\n8\t1\t0\n".decode().encode("utf-16")
    yield b"".join(b"%d,%d,0,0,0,1\n" % (i, i % 3) for i in range(9))
    yield b"id,pixel0,pixel1\n007,5,255\n008,1,0\n"


def _arrow_seeds() -> Iterator[bytes]:
    parquet, feather, ipc = (import_module(f"pyarrow.{name}") for name in ("parquet", "feather", "ipc"))
    pa = import_module("pyarrow")
    pictures = [{"bytes": _picture("PNG", "L"), "path": None}] * 4
    about = {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    for columns in (
        {"image": pictures, "label": [0, 1, 0, 1]},
        {"size": [0.5, 1.5, 2.5, 3.5], "class": ["x", "y", "x", "y"], "is_old": [True, False, True, False]},
        {"pixels": [[1, 2, 3, 4]] * 4, "y": [0, 1, 2, 1]},
        {"pixel0": [1, 200, 3, 4], "pixel1": [5, 6, 7, 8]},
    ):
        table = pa.table(columns)
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": about}})})
        yield _written(lambda path, table=table: parquet.write_table(table, path))  # type: ignore[misc]
        yield _written(lambda path, table=table: parquet.write_table(table, path, compression="none"))  # type: ignore[misc]
        yield _written(lambda path, table=table: feather.write_feather(table, path))  # type: ignore[misc]
        with io.BytesIO() as file, ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
            writer.close()
            yield file.getvalue()


def _picture(form: str, mode: str, size: int = 28, **options: Any) -> bytes:
    file, ink = io.BytesIO(), np.zeros((size, size), np.uint8)
    ink[size // 7 : -size // 7, size // 2 - 1 : size // 2 + 2] = 255
    image = Image.fromarray(ink)
    image = image.point(lambda value: value * 257, "I").convert("I;16") if mode == "I;16" else image.convert(mode)
    image.save(file, form, **options)
    return file.getvalue()


def _png_seeds() -> Iterator[bytes]:
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
        yield _picture("PNG", mode)
    yield _picture(
        "PNG", "P", transparency=0, icc_profile=b"none", exif=b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    )
    yield _picture("PNG", "L", 40)


def _jpeg_seeds() -> Iterator[bytes]:
    for mode in ("L", "RGB", "CMYK"):
        for options in ({}, {"progressive": True}, {"subsampling": 2, "comment": b"a digit", "dpi": (72, 72)}):
            yield _picture("JPEG", mode, **options)


def _webp_seeds() -> Iterator[bytes]:
    for mode in ("L", "RGB", "RGBA"):
        for options in ({}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}):
            yield _picture("WEBP", mode, **options)
    yield _picture("WEBP", "RGB", save_all=True, append_images=[Image.new("RGB", (28, 28))], lossless=True)


def _gif_seeds() -> Iterator[bytes]:
    for options in ({}, {"transparency": 0, "disposal": 2}, {"comment": b"a digit", "interlace": False}):
        yield _picture("GIF", "L", **options)
    yield _picture("GIF", "P", save_all=True, append_images=[Image.new("P", (28, 28))])


def _bmp_seeds() -> Iterator[bytes]:
    yield from (_picture("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA"))


def _tiff_seeds() -> Iterator[bytes]:
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"):
        yield from (_picture("TIFF", mode, compression=packing) for packing in (None, "tiff_lzw", "tiff_adobe_deflate"))
    yield _picture("TIFF", "1", compression="group4")
    yield _picture("TIFF", "RGB", compression="jpeg", exif=b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    yield _picture("TIFF", "L", save_all=True, append_images=[Image.new("L", (28, 28))])


def _model_seeds() -> Iterator[bytes]:
    for network in (
        xpnet.MLP((4, 3)),
        xpnet.MLP((4, 3, 2), activation="tanh", loss="mse"),
        xpnet.MLP((4, 3, 2, 2), batch_norm=True),
    ):
        for dtype in ("float32", "float64"):
            params, running = init_params(network, dtype=dtype), init_running(network, dtype)
            stored = Stored(network, params, running, Schema("digits", (2, 2)))
            yield _written(lambda path, stored=stored: save(path, stored))  # type: ignore[misc]


def _exported(suffix: str) -> Iterator[bytes]:
    for activation, loss in (("gelu", "cross-entropy"), ("relu", "squared-error")):
        network = xpnet.MLP((4, 3, 2), activation, loss)
        model = xpnet.Model(network, init_params(network), [], xpnet.select("cpu"), Schema("digits", (2, 2)))
        yield _written(lambda path, model=model: export.export(model, path, force=True), f"x{suffix}")  # type: ignore[misc]


def _hdf5_seeds() -> Iterator[bytes]:
    h5py = import_module("h5py")
    for shapes in ([(3, 4)], [(2,), (), (1, 1)]):
        file = io.BytesIO()
        with h5py.File(file, "w") as weights:
            for i, shape in enumerate(shapes):
                weights[f"layers/dense_{i}/vars/0"] = np.ones(shape, np.float32)
        yield file.getvalue()


def _checkpoint_seeds() -> Iterator[bytes]:
    figures = {"train_loss": 0.5, "train_accuracy": 0.9, "learning_rate": 0.1, "seconds": 1.5}
    epoch = history.Epoch(epoch=1, samples_per_second=9.0, **figures)
    for done, best in ((0, {}), (2, {"best.0": np.ones((2, 3), np.float32)})):
        arrays = {"params.0": np.zeros((2, 3), np.float32), "step": np.array([3 + done]), **best}
        data = {"name": "digits", "sha256": "0" * 64, "examples": 60}
        settings = xpnet.TrainConfig().to_toml()
        found = checkpoint.Checkpoint(settings, data, False, [epoch], done, 0.5, [1], arrays, {"xpnet": "0"})
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.write_checkpoint(Path(folder), found)
            (written,) = Path(folder).iterdir()
            yield SEPARATOR.join((written / name).read_bytes() for name in _CHECKPOINT)


def _resummed(content: bytes, mutate: Mutate) -> bytes:
    """Change the state or the arrays of a checkpoint, whose manifest knows the change."""
    parts = content.split(SEPARATOR, 2)
    if len(parts) < 3:
        return mutate(content)
    at = random.choice((1, 2))
    parts[at] = mutate(parts[at])
    sums = {
        name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in zip(_CHECKPOINT[1:], parts[1:], strict=True)
    }
    return SEPARATOR.join((json.dumps({"format": checkpoint.FORMAT, "files": sums}).encode(), *parts[1:]))


def _history_seeds() -> Iterator[bytes]:
    epoch = history.Epoch(
        epoch=1, train_loss=0.5, train_accuracy=0.9, learning_rate=0.1, seconds=1.5, samples_per_second=9.0
    )
    later = dataclasses.replace(
        epoch, epoch=2, test_loss=0.25, test_accuracy=1.0, validation_loss=1e-5, validation_accuracy=0.5
    )
    yield _written(lambda path: history.write_history(path, [epoch, later]))


def _run_seeds() -> Iterator[bytes]:
    settings = xpnet.TrainConfig(hidden=(5,), epochs=2, early_stopping=1).to_toml().encode()
    yield from (SEPARATOR.join((settings, seed)) for seed in _history_seeds())


def _told(folder: Path) -> object:
    """What xpnet runs prints of a directory, whatever it holds."""
    run = read_run(folder)
    if run.state == "unreadable" or run.config is None:
        raise xpnet.ModelError(run.reason or "it has no settings")
    json.dumps(as_dict(run), allow_nan=False)
    if not (score_of(run) + time_of(run.seconds or 0.0) + run.reason + run.network + run.data).isprintable():
        raise AssertionError("it is not printable")
    return run


def _records_seeds() -> Iterator[bytes]:
    record = records.Record(
        recipe="fast", source="here", published=1.5, members=0, settings={"hidden": [5]}, seeds=[0], data="mnist",
        network="4-5-2", wrong=[1, 7], n_test=100, epochs=2, seconds=1.5, device="cpu", library="numpy", machine="a",
    )  # fmt: skip
    failed = dataclasses.replace(record, seeds=[1], wrong=[], failure="not finite", published=None)
    yield _written(lambda path: records.write_records(path, [record, failed]))


def _recipe_seeds() -> Iterator[bytes]:
    yield from (recipe_text(name).encode() for name in recipe_names())
    yield xpnet.TrainConfig(augment=xpnet.Distortion()).to_toml().encode()


def _space_seeds() -> Iterator[bytes]:
    yield b'lr = { low = 0.1, high = 10, log = true, relative = true }\nbatch_size = { choices = [32, "full"] }\n'
    yield b"[hidden]\nlayers = { low = 1, high = 3 }\nwidth = { choices = [8, 9] }\n[dropout]\nlow = 0.0\nhigh = 0.5\n"
    yield b'optimizer = { choices = ["adam", "sgd"] }\nhidden = { choices = [[], [128], [64, 64]] }\n'


# --- changes after which sums still hold -----------------------------------------------------------------------------


def _repacked(content: bytes, mutate: Mutate) -> bytes:
    """In half of the cases what is packed is changed, and packed again."""
    parts = content.split(SEPARATOR)
    i = random.randrange(len(parts))
    if parts[i].startswith(b"\x1f\x8b") and random.random() < 0.5:
        with contextlib.suppress(zlib.error):
            parts[i] = _packed(mutate(zlib.decompressobj(wbits=31).decompress(parts[i], 1 << 16)))
            return SEPARATOR.join(parts)
    return mutate(content)


def _rezipped(content: bytes, mutate: Mutate) -> bytes:
    if random.random() < 0.3:
        return mutate(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [
                (info.filename, archive.open(info).read(1 << 16), info.compress_type) for info in archive.infolist()
            ]
        i, file = random.randrange(len(members)), io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that come twice
            for j, (name, part, how) in enumerate(members):
                archive.writestr(zipfile.ZipInfo(name), mutate(part) if i == j else part, how if how == 8 else 0)
        return file.getvalue()
    except Exception:  # what was changed before is no zip any more
        return mutate(content)


def _repacked_variable(content: bytes, mutate: Mutate) -> bytes:
    """A MATLAB file of which a packed variable is changed, and packed again."""
    order = "<" if content[126:128] == b"IM" else ">"
    elements, at = [], 128
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        elements.append((kind, content[at + 8 : at + 8 + size]))
        at += 8 + size
    packed = [i for i, (kind, _) in enumerate(elements) if kind == 15]
    if not packed or random.random() < 0.2:
        return mutate(content)
    i = random.choice(packed)
    with contextlib.suppress(zlib.error):
        elements[i] = 15, zlib.compress(mutate(zlib.decompressobj().decompress(elements[i][1], 1 << 16)))
    return content[:128] + b"".join(mat_element(kind, part, order, padded=False) for kind, part in elements)


def _rechunked(content: bytes, mutate: Mutate) -> bytes:
    """A PNG of which a chunk is changed and its CRC made right."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks or random.random() < 0.2:
        return mutate(content)
    i = random.randrange(len(chunks))
    kind, data = chunks[i]
    if kind == b"IDAT" and random.random() < 0.7:
        with contextlib.suppress(zlib.error):
            data = zlib.compress(mutate(zlib.decompressobj().decompress(data, 1 << 16)))
    elif random.random() < 0.1:
        kind = random.choice([b"tRNS", b"PLTE", b"iCCP", b"eXIf", b"tEXt", b"iTXt", b"zTXt", b"acTL", b"fcTL", b"IDAT"])
    else:
        data = mutate(data)
    chunks[i] = kind, data
    if random.random() < 0.1:
        chunks.insert(random.randrange(len(chunks)), random.choice(chunks))
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _sized(content: bytes, mutate: Mutate) -> bytes:
    """A picture that is changed, but mostly not declared to be so large that a hundred others could be read instead."""
    changed = bytearray(_rechunked(content, mutate) if content.startswith(b"\x89PNG") else mutate(content))
    if random.random() < 0.02:
        return bytes(changed)
    if changed.startswith(b"\x89PNG") and len(changed) > 33:
        changed[16:24] = struct.pack(">II", *(side % 300 for side in struct.unpack(">II", changed[16:24])))
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
    for frame in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2", b"\xff\xc9"):
        at = changed.find(frame) + 5
        if 5 <= at < len(changed) - 4:
            changed[at : at + 4] = struct.pack(
                ">HH", *(side % 300 for side in struct.unpack(">HH", changed[at : at + 4]))
            )
    return bytes(changed)


def _redescribed(content: bytes, mutate: Mutate) -> bytes:
    """A model whose header, or the description in it, is changed, the length and the checksum made right."""
    if random.random() < 0.2:
        return mutate(content)
    size = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + size], content[8 + size :]
    if random.random() < 0.3:
        header = mutate(header)
    else:
        with contextlib.suppress(Exception):  # what was changed before may be no model any more
            table = json.loads(header)
            changed = mutate(table["__metadata__"]["xpnet"].encode())
            with contextlib.suppress(Exception):
                description = json.loads(changed)
                del description["sha256"]
                names = [name for name in table if name != "__metadata__"]
                names.sort(
                    key=lambda name: (
                        name.endswith(("mean", "var")),
                        int(name.partition(".")[0]),
                        _PARTS.index(name.partition(".")[2]),
                    )
                )
                arrays = deserialize(content)
                changed = json.dumps(
                    description | {"sha256": storage._digest(description, [arrays[name] for name in names])}
                ).encode()
            table["__metadata__"]["xpnet"] = changed.decode("latin1")
            header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + data


_PARTS = ("weight", "bias", "scale", "shift", "mean", "var")

_IDX_TOKENS = (b"\0\0\x08\1", b"\0\0\x0e\4", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x1f\x8b\x08\0")
_NPZ_TOKENS = (
    *(b"'descr': '|O'", b"'shape': (4294967295,)", b"'fortran_order': True", b"\x93NUMPY\2\0"),
    *(b"PK\1\2", b"PK\5\6", b"PK\6\6"),
)
_TAR_TOKENS = (b"ustar\00000", b"ustar  \0", b"99999 path=", b"11 path=a/b\n", b"77777777777\0", b"\x80" + b"\xff" * 11)
_PICKLE_TOKENS = (
    *(opcode.encode("latin1") for opcode in "(.02Rb]}tlsudea\x85\x86\x87\x93\x94"),
    *(b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"c_codecs\nencode\n", b"cos\nsystem\n", b"K\1", b"N", b"h\0", b"q\0"),
    *(b"cnumpy.core.multiarray\n_reconstruct\n", b"\x96" + b"\xff" * 7 + b"\x7f", b"r\xff\xff\xff\xff", b"\x8c\1a"),
    b"\x95" + b"\xff" * 8,
)
_MAT_TOKENS = (
    *(struct.pack("<II", kind, size) for kind in (1, 5, 6, 9, 14, 15) for size in (0, 8, 1 << 31)),
    *(struct.pack("<II", kind, 0) for kind in (1, 2, 3, 4, 16, 17)),
    *(b"\xff\xff\xff\x7f", b"MI", b"labels\0\0"),
)
_JPEG_TOKENS = (*(b"\xff" + bytes([mark]) for mark in b"\xda\xc2\xe1\xe2\xdb\xc4\xd9\xff"), b"Exif\0\0", b"MPF\0")
_WEBP_TOKENS = (b"VP8 ", b"VP8L", b"VP8X", b"ANMF", b"ANIM", b"ALPH", b"EXIF", b"\xff\xff\xff\x7f")
_GIF_TOKENS = (
    b"!\xf9\4\x09\0\0\0\0",
    b"!\xfe",
    b"!\xff\x0bNETSCAPE2.0",
    b",\0\0\0\0\xff\xff\xff\xff\0",
    b"\xff" * 4,
    b";",
)
_TIFF_TOKENS = (
    *(struct.pack("<HHI", tag, 4, 1) for tag in (256, 257, 259, 273, 277, 278, 279, 284, 322, 323, 324, 325, 34665)),
    *(struct.pack("<I", number) for number in (0, 1, 7, 8, 50_000, 0x7FFFFFFF, 0xFFFFFFFF)),
)
_TOML_TOKENS = tuple(
    b"""[a]\n|[[a]]\n| = |{ low = 1, high = 2 }|{ choices = [1] }|'''|\"\"\"|nan|inf|0xfffffffffffffffffff|1e400
    |1979-05-27|a.b.c|\\u0000|true|[[[[|hidden|about|augment|log|relative|layers|width""".split(b"|")
)
_JSON_TOKENS = tuple(b'null|true|NaN|Infinity|1e999|[[[[|{"a":|99999999999999999999|\\ud800|-1|[]|{}|""'.split(b"|"))
_NUMBER_TOKENS = tuple(
    b'nan|inf|1e999|-1|0x1|1_0|99999999999|"|,|\r|\0|\xef\xbb\xbf|\xc2\x85|256|0.5|1e-400'.split(b"|")
)
_ARROW_TOKENS = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"huggingface", b"bytes", b"label", b"\x15\0", b"\x89PNG")
_TABLE_TOKENS = (*_NUMBER_TOKENS, *b"label \t ; id pixel1 class_1 True sep=; ? NA # 0.1 \xff\xfe".split(b" "))


def _space(path: Path) -> object:
    return tune.space.parse(tune.space.read_space(path), xpnet.TrainConfig())


def _table(path: Path) -> object:
    table = read_table(path)
    return xpnet.Dataset("x", table.split)


def _zipped(path: Path) -> object:
    """As EMNIST's archive is read."""
    with open_archive(path) as root:
        files = idx_files(root / "gzip").get("emnist-x-", {})
        if not files:
            raise xpnet.DataError("nothing of the set is in it")
        return read_idx_split(files, "train"), read_idx_split(files, "test")


def _weights(path: Path) -> object:
    try:
        content = read_whole(path, 1 << 30)
    except OSError as error:
        raise xpnet.ModelError(str(error)) from None
    return read_hdf5(content)


def _picture_of(path: Path) -> object:
    """One picture in 256 is looked at as well, which takes longer than to decode all others of them."""
    grey = decode(path).grey
    return to_form(grey) if zlib.crc32(grey.tobytes()) % 256 == 0 else grey


# A reader of several files has all their names; one of a folder reads the parent of the path that it is given.
READERS: dict[str, Reader] = {
    "idx": Reader(
        read_idx,
        ("x.idx",),
        xpnet.DataError,
        lambda: [idx for pair in _idx_seeds() for idx in pair.split(SEPARATOR)],
        _repacked,
        _IDX_TOKENS,
    ),
    "pair": Reader(
        read,
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        xpnet.DataError,
        _idx_seeds,
        _repacked,
        _IDX_TOKENS,
    ),
    "parts": Reader(_all_of_parts, _IN_PARTS, xpnet.DataError, _parts_seeds, _recounted, _JSON_TOKENS),
    "npz": Reader(read_npz, ("x.npz",), xpnet.DataError, _npz_seeds, _rezipped, _NPZ_TOKENS),
    "npy": Reader(read_npy, ("x_train.npy", "y_train.npy"), xpnet.DataError, _npy_seeds, _repacked, _NPZ_TOKENS),
    "mat": Reader(read_mat, ("x.mat",), xpnet.DataError, _mat_seeds, _repacked_variable, _MAT_TOKENS),
    "zip": Reader(_zipped, ("x.zip",), xpnet.DataError, _zip_seeds, _rezipped, _NPZ_TOKENS),
    "archive": Reader(read, ("x.zip",), xpnet.DataError, _archive_seeds, _rezipped, _NPZ_TOKENS),
    "tar": Reader(read, ("x.tar",), xpnet.DataError, _tar_seeds, _resummed_headers, _TAR_TOKENS),
    "pickle": Reader(read_pickle, ("x.pkl",), xpnet.DataError, _pickle_seeds, _repacked, _PICKLE_TOKENS),
    "csv": Reader(_table, ("x.csv",), xpnet.DataError, _csv_seeds, tokens=_TABLE_TOKENS),
    "arrow": Reader(_table, ("x.arrow",), xpnet.DataError, _arrow_seeds, tokens=_ARROW_TOKENS),
    "any": Reader(
        read,
        ("x",),
        xpnet.DataError,
        lambda: [*_npz_seeds(), *(seed for seed in _pickle_seeds() if seed.startswith(b"\x80"))],
        _repacked,
    ),
    "png": Reader(_picture_of, ("x.png",), xpnet.DataError, _png_seeds, _sized, memory=PICTURE_MEMORY),
    "jpeg": Reader(
        _picture_of,
        ("x.jpg",),
        xpnet.DataError,
        _jpeg_seeds,
        _sized,
        _JPEG_TOKENS,
        memory=PICTURE_MEMORY,
    ),
    "webp": Reader(_picture_of, ("x.webp",), xpnet.DataError, _webp_seeds, tokens=_WEBP_TOKENS, memory=PICTURE_MEMORY),
    "gif": Reader(_picture_of, ("x.gif",), xpnet.DataError, _gif_seeds, tokens=_GIF_TOKENS, memory=PICTURE_MEMORY),
    "bmp": Reader(_picture_of, ("x.bmp",), xpnet.DataError, _bmp_seeds, memory=PICTURE_MEMORY),
    "tiff": Reader(_picture_of, ("x.tif",), xpnet.DataError, _tiff_seeds, tokens=_TIFF_TOKENS, memory=PICTURE_MEMORY),
    "model": Reader(
        lambda path: xpnet.load(path, device="cpu"),
        ("x.safetensors",),
        xpnet.ModelError,
        _model_seeds,
        _redescribed,
        _JSON_TOKENS,
    ),
    "header": Reader(
        storage.network_of, ("x.safetensors",), xpnet.ModelError, _model_seeds, _redescribed, _JSON_TOKENS
    ),
    "run": Reader(
        lambda path: _told(path.parent),
        ("config.toml", "history.csv"),
        xpnet.ModelError,
        _run_seeds,
        tokens=(*_TOML_TOKENS, *_NUMBER_TOKENS),
    ),
    "checkpoint": Reader(
        lambda path: checkpoint.read_checkpoint(path.parent),
        _CHECKPOINT,
        xpnet.ModelError,
        _checkpoint_seeds,
        _resummed,
        _JSON_TOKENS,
    ),
    "network-json": Reader(export.read, ("x.json",), xpnet.XpnetError, lambda: _exported(".json"), tokens=_JSON_TOKENS),
    "network-npz": Reader(
        export.read, ("x.npz",), xpnet.XpnetError, lambda: _exported(".npz"), _rezipped, _JSON_TOKENS
    ),
    "onnx": Reader(export.read, ("x.onnx",), xpnet.XpnetError, lambda: _exported(".onnx")),
    "hdf5": Reader(_weights, ("x.h5",), xpnet.ModelError, _hdf5_seeds),
    "history": Reader(history.read_history, ("history.csv",), xpnet.ModelError, _history_seeds, tokens=_NUMBER_TOKENS),
    "records": Reader(records.read_records, ("records.json",), xpnet.ModelError, _records_seeds, tokens=_JSON_TOKENS),
    "recipe": Reader(read_recipe, ("x.toml",), xpnet.ConfigError, _recipe_seeds, tokens=_TOML_TOKENS),
    "space": Reader(_space, ("space.toml",), xpnet.ConfigError, _space_seeds, tokens=_TOML_TOKENS),
}
