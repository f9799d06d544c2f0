"""Hostile files: whatever is fed to a reader ends in data or in its one error, soon and in bounded memory.

tests/fuzz/readers.py says what a file may lead to, for these tests and for the fuzzer alike; tests/fuzz/corpus holds
small hostile files, those that the fuzzer found among them, and the large ones are made here.
"""

import contextlib
import functools
import gzip
import importlib.util
import io
import json
import os
import pickle
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("resource", reason="Windows does not tell how much memory a process took")


from tests.fuzz import fuzzer, readers
from tests.fuzz.readers import READERS, Finding, Reader, judged, mat_element, mat_file, mat_matrix, outcome, warm_up
from xpnet.data import DataError, download, packed, read_idx, read_picture
from xpnet.data.formats import idx
from xpnet.files import read_up_to
from xpnet.model.storage import MAX_HEADER
from xpnet.training import history

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
HANG = 20  # seconds: slow machines are slow, and the fuzzer holds the readers to two


class Hang(BaseException):
    """Raised into a reader that does not come back; no reader catches it."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Raise Hang after HANG seconds, where the system has an alarm."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def needs(name: str) -> None:
    """Skip what needs a package that is not installed."""
    if name == "arrow":
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xpnet[tables]'")
    if name == "onnx":
        pytest.importorskip("onnx", reason="needs onnx, of the extra onnx")
    if name == "hdf5":
        pytest.importorskip("h5py", reason="needs h5py, which comes with keras, of the extra keras")


@pytest.fixture(params=READERS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    needs(name)
    seeds(name)
    return name


@functools.cache
def seeds(name: str) -> list[bytes]:
    """A reader's valid inputs, each read once, unwatched."""
    with tempfile.TemporaryDirectory() as folder:
        return warm_up(READERS[name], Path(folder))


# --- that the checks can fail ----------------------------------------------------------------------------------------


def takes_time(_path: Path) -> None:
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass


def takes_memory(_path: Path) -> None:
    np.ones(1 << 28, np.uint8)


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (lambda path: int("x"), "ValueError: invalid literal"),
        (lambda path: (_ for _ in ()).throw(DataError("two\nlines")), None),
        (lambda path: (_ for _ in ()).throw(OSError("two\nlines")), "OSError"),
        (lambda path: path.with_name("y").write_bytes(b""), "did what no reader may: open"),
        (lambda path: path.unlink(), "did what no reader may: os.remove"),
        (lambda path: Path("/etc/hostname").read_bytes(), "did what no reader may: open"),
        (lambda path: os.system("true"), "did what no reader may: os.system"),
        (lambda path: subprocess.run(["true"], check=True), "did what no reader may"),
        (lambda path: eval("1"), "did what no reader may: compile"),
        (lambda path: socket.socket(), "did what no reader may: socket"),
        (
            lambda path: contextlib.suppress(PermissionError).__enter__() or os.system("true"),
            "no reader may: os.system",
        ),
        (takes_time, "took"),
        (lambda path: __import__("warnings").warn("odd", stacklevel=1), "UserWarning"),
        (takes_memory, "MiB"),
    ],
)
def test_the_oracle_finds(tmp_path: Path, read: Callable[[Path], object], found: str | None) -> None:
    reader = Reader(read, ("x",), DataError, list, memory=1 << 20)
    if found is None:
        assert outcome(reader, b"", tmp_path) == "refused"
        return
    if read is takes_memory:  # which shows only where no more was ever taken
        code = "from tests.promises.test_hostile import *; "
        code += "outcome(Reader(takes_memory, ('x',), DataError, list, memory=1 << 20), b'', Path(sys.argv[1]))"
        said = subprocess.run(
            [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "Finding: took 25" in said.stderr
        return
    with pytest.raises(Finding, match=found):
        outcome(reader, b"", tmp_path, limit=0.2)


def test_an_error_of_two_lines_is_found(tmp_path: Path) -> None:
    def raises(_path: Path) -> None:
        raise KeyError("two\nlines", "\x1b")

    class LinesError(Exception):
        def __str__(self) -> str:
            return "two\nlines"

    def lines(_path: Path) -> None:
        raise LinesError

    for read, errors in ((raises, DataError), (lines, LinesError)):
        with pytest.raises(Finding):
            outcome(Reader(read, ("x",), errors, list), b"", tmp_path)


def test_what_an_error_quotes_is_made_short_and_printable() -> None:
    assert str(DataError("a  b: é\x1b[2J\n\udc80")) == "a  b: é\\x1b[2J\\n\\udc80"
    for text in ("\x83" * 1600, "\n" * 10**6, "\U000e0001" * 1000):
        assert str(DataError(text)).isprintable()
        assert len(str(DataError(text))) < 1700


def test_a_reader_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not hasattr(signal, "SIGALRM"):
        pytest.skip("this system has no alarm")
    monkeypatch.setattr(sys.modules[__name__], "HANG", 1)
    with pytest.raises(Hang), watched():
        outcome(Reader(lambda path: time.sleep(60), ("x",), DataError, list), b"", tmp_path)


# --- damage ----------------------------------------------------------------------------------------------------------


def damaged(draw: Callable[..., int], seeds: list[bytes], junk: bytes) -> bytes:
    """A valid file cut, flipped, spliced, lengthened or swapped."""
    whole, other = (seeds[draw(st.integers(0, len(seeds) - 1))] for _ in range(2))
    at, end = sorted(draw(st.integers(0, len(whole))) for _ in range(2))
    way = draw(st.integers(0, 6))
    return [
        whole[:at],
        whole[:at] + bytes(byte ^ 1 << (at % 8) for byte in whole[at : at + 1]) + whole[at + 1 :],
        whole[:at] + other[at:],
        whole[:end] + junk + whole[end:],
        whole[:at] + junk + whole[at + len(junk) :],
        whole[:at] + whole[end:] + whole[at:end],
        whole[:at] + 50 * whole[at:end][:100] + whole[end:],
    ][way]


@given(data=st.data())
def test_damaged_files(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    junk = data.draw(st.one_of(st.binary(max_size=12), st.sampled_from(READERS[kind].tokens or (b"",))))
    content = damaged(data.draw, seeds(kind), junk)
    with watched():
        outcome(READERS[kind], content, tmp_path, limit=HANG)


@given(content=st.binary(max_size=200))
@example(b"")
def test_arbitrary_bytes(kind: str, tmp_path: Path, content: bytes) -> None:
    with watched():
        outcome(READERS[kind], content, tmp_path, limit=HANG)


def test_changes_with_right_sums(kind: str, tmp_path: Path) -> None:
    """Such as the fuzzer makes, where it is not installed."""
    rng = np.random.default_rng(0)

    def flip(part: bytes) -> bytes:
        flipped = bytearray(part)
        for at in rng.integers(0, max(1, len(part)), 2):
            flipped[at : at + 1] = rng.bytes(1)
        return bytes(flipped)

    valid = seeds(kind)
    for change in range(2 * settings().max_examples):
        random.seed(change)
        content = READERS[kind].reshape(valid[change % len(valid)], flip)
        with watched():
            outcome(READERS[kind], content, tmp_path, limit=HANG)


def test_the_corpus(kind: str, tmp_path: Path) -> None:
    for path in sorted((CORPUS / kind).glob("*")):
        with watched():
            assert outcome(READERS[kind], path.read_bytes(), tmp_path, limit=HANG), path.name


def test_the_corpus_is_small_and_of_known_readers() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(READERS)
    assert all(path.stat().st_size < 10_000 for path in CORPUS.glob("*/*"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", READERS)
def test_a_bounded_run_of_the_fuzzer(name: str, tmp_path: Path) -> None:
    result = fuzzer.fuzz(name, 5_000 if name in ("png", "jpeg", "webp", "gif", "bmp", "tiff") else 20_000, 0, tmp_path)
    assert result["findings"] == []
    assert result["inputs"] >= 5_000
    assert 0 < result["data"] < result["inputs"]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_the_fuzzer_s_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["history", "--runs", "300", "--corpus", str(tmp_path / "found"), "--json", str(tmp_path / "fuzz.json")]
    assert fuzzer.main(arguments) == 0
    report = json.loads((tmp_path / "fuzz.json").read_text())
    assert report["readers"]["history"]["inputs"] == 300
    assert report["readers"]["history"]["findings"] == []
    assert report["machine"]["versions"]["atheris"]
    assert "history           300" in capsys.readouterr().out
    for wrong in (["nothing"], ["--runs", "0"]):
        with pytest.raises(SystemExit, match="2"):
            fuzzer.main(wrong)


# --- bombs -----------------------------------------------------------------------------------------------------------

GIB = 1 << 30


def deflated(size: int, byte: bytes = b"\0") -> bytes:
    """So many MiB of a byte, raw deflate without its end, made in no time."""
    packer = zlib.compressobj(9, wbits=-15)
    return (packer.compress(byte * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * size


def gzipped(size: int, start: bytes = b"", byte: bytes = b"\0") -> bytes:
    """Gzip of a start and so many MiB of a byte; its end is missing, but nobody should get there."""
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) + deflated(size, byte)


def parquet(columns: dict[str, Any]) -> bytes:
    pa, file = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xpnet[tables]'"), io.BytesIO()
    import_module("pyarrow.parquet").write_table(pa.table(columns), file, compression="zstd")
    return file.getvalue()


def zipped(size: int, names: tuple[str, ...], *, claims: int | None = None) -> bytes:
    """A zip in which all names share one bomb of so many MiB."""
    content, size_in_bytes = deflated(size) + b"\3\0", size << 20
    sums = zlib.crc32(bytes(0)), len(content), size_in_bytes if claims is None else claims
    name = names[0].encode()
    start = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, *sums, len(name), 0) + name + content
    listed = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sums, len(each), 0, 0, 0, 0, 0, 0) + each.encode()
        for each in names
    )
    count = len(names) & 0xFFFF  # a field of 16 bits, which readers need not believe
    return start + listed + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(listed), len(start), 0)


def npz_of(shape: bytes, descr: bytes = b"|u1", content: bytes = b"") -> bytes:
    header = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr, shape)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("X.npy", "y.npy"):
            archive.writestr(name, b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content)
    return file.getvalue()


HEAD = mat_file({})
NUMBERS = list(range(1000))


def packed_variable(zeros: bytes) -> bytes:
    return mat_element(15, b"\x78\xda" + zeros, padded=False)


def nested_cells(depth: int) -> bytes:
    """Each but the innermost is a cell whose head is followed by the next."""
    head = mat_matrix("", 1, (1, 1))[8:]
    sizes = range(len(head), depth * (len(head) + 8), len(head) + 8)
    return b"".join(struct.pack("<II", 14, size) + head for size in reversed(sizes))


def pickled_array(content: bytes, shape: bytes) -> bytes:
    head = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n)C\1b\x87R(K\1" + shape
    return head + b"cnumpy\ndtype\nX\2\0\0\0u1\x85R\x89" + content + b"tb"


def png(width: int, height: int, colour: int, depth: int, *chunks: bytes, data: bytes = b"") -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    size = height * (1 + width * channels * depth // 8)
    packed = zlib.compressobj(9)
    content = packed.compress(b"") + packed.flush(zlib.Z_FULL_FLUSH) + deflated(size >> 20) + deflated(1)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + palette
        + b"".join(chunks)
        + chunk(b"IDAT", data or content)
        + chunk(b"IEND", b"")
    )


def webp_canvas(width: int, height: int, chunks: bytes = b"") -> bytes:
    """An animation's head, and what follows it."""
    canvas = (
        b"VP8X" + struct.pack("<IB3x", 10, 2) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    canvas += b"ANIM" + struct.pack("<IIH", 6, 0, 0) + chunks
    return b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas


def gif(width: int, height: int, blocks: bytes = b"", sides: tuple[int, int] | None = None) -> bytes:
    """A black GIF of one picture, and blocks before it."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + blocks + struct.pack("<sHHHHB", b",", 0, 0, *(sides or (width, height)), 0) + b"\2\2\x44\1\0;"


def bmp(width: int, height: int, packing: int = 0) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 8, packing, 0, 0, 0, 0, 0)


def tiff(
    numbers: dict[int, int], arrays: dict[int, tuple[int, int]] | None = None, claims: int = 0, behind: bytes = b""
) -> bytes:
    """A grey TIFF: numbers and arrays (type, count) by tag, and tags that each claim all that is behind."""
    told = {256: 28, 257: 28, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 279: 784} | numbers
    told = {tag: value for tag, value in told.items() if tag not in (arrays or {})}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in told.items()]
    at = 8 + 2 + 12 * (len(entries) + len(arrays or {}) + claims) + 4
    entries += [struct.pack("<HHII", tag, kind, count, at) for tag, (kind, count) in (arrays or {}).items()]
    entries += [struct.pack("<HHII", 40_000 + i % 20_000, 7, len(behind), at) for i in range(claims)]
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + behind


def jpeg(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan, of no matter which size it is declared to have."""
    content = readers._picture("JPEG", "RGB", progressive=True)
    at = content.index(b"\xff\xc2") + 5
    content = content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]
    return content[:-2] + content[content.rindex(b"\xff\xda") : -2] * scans + content[-2:]


def exif_bomb(size: int) -> bytes:
    """EXIF of so many bytes, half of it entries that each claim the other half."""
    n = min(size // 24, 65_535)
    entries = b"".join(struct.pack(">HHII", tag, 7, size // 2 - 100, size // 2) for tag in range(n))
    return (b"MM\0*\0\0\0\x08" + struct.pack(">H", n) + entries).ljust(size, b"\0")


def exif_jpeg(size: int) -> bytes:
    """A JPEG with so many bytes of EXIF, in as many segments as it takes."""
    exif = exif_bomb(size)
    parts = [exif[i : i + 65_000] for i in range(0, size, 65_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
    return b"\xff\xd8" + segments + jpeg(28, 28, 0)[20:]


def exif_png(name: bytes, exif: bytes) -> bytes:
    content = struct.pack(">I", len(exif)) + name + exif
    return png(28, 28, 0, 8, content + struct.pack(">I", zlib.crc32(content[4:])))


def profile(size: int) -> bytes:
    """EXIF as some programs have it in a PNG, as text."""
    text = b"\nexif\n%d\n" % size + exif_bomb(size).hex().encode()
    return b"Raw profile type exif\0\0" + zlib.compress(text)


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def of_layers(count: int) -> bytes:
    """A well-formed model file of very many layers of one unit, the sum left out."""
    names = [f"{i}.{part}" for i in range(count) for part in ("weight", "bias")]
    table = {
        name: {"dtype": "F32", "shape": [1] * (1 + (i % 2 == 0)), "data_offsets": [4 * i, 4 * i + 4]}
        for i, name in enumerate(names)
    }
    description = {
        "format": "xpnet model 1",
        "network": {"sizes": [1] * (count + 1)},
        "data": "",
        "image_shape": [],
        "sha256": "",
    }
    return safetensors(
        json.dumps({"__metadata__": {"xpnet": json.dumps(description)}, **table}).encode(), bytes(8 * count)
    )


NPZ = tuple(f"{name}.npy" for name in ("x_train", "y_train", "x_test", "y_test"))
IDX = b"\0\0\x08\1" + struct.pack(">I", GIB)
MANY = 0x1FFFFE0  # labels, or images of a pixel: just below what any file may unpack to
MIB = struct.pack("<I", 1 << 20) + bytes(1 << 20)
TEXT_CHUNK = b"\0\0\0\4tEXta\0bc" + struct.pack(">I", zlib.crc32(b"tEXta\0bc"))
HISTORY = ",".join(history._columns("accuracy")).encode() + b"\n"
EPOCH = b"1,1,1,,,,,1,1,1\n"
SIZES = json.dumps({"format": "xpnet model 1", "network": {"sizes": [1] * 250_000}})
SIDES = json.dumps({"format": "xpnet model 1", "network": {"sizes": [1, 1]}, "data": "", "image_shape": [9] * 240_000})
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
LAYERS = b"[hidden]\nlayers = {choices = [" + b"1000," * 5_000 + b"]}\nwidth = {choices = [" + b"1," * 5_000 + b"]}"


def tar_header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    number = b"%011o\0" % size if size >= 0 else b"\xff" * 12
    header = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number + b"0" * 11 + b"\0"
    rest = kind + bytes(100) + b"ustar\00000" + bytes(247)
    return header + b"%06o\0 " % (sum(header + rest) + 256) + rest


def images_and_labels() -> bytes:
    images = b"\0\0\x08\3" + struct.pack(">III", MANY, 1, 1) + bytes(MANY)
    labels = b"\0\0\x08\1" + struct.pack(">I", MANY) + bytes(MANY)
    return gzip.compress(images, 6) + readers.SEPARATOR + gzip.compress(labels, 6)


def two_classes(n: int) -> np.ndarray:
    return np.tile(np.arange(2, dtype=np.uint8), n // 2 + 1)[:n]


def packed_npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def packed_pickle() -> bytes:
    pair = np.zeros((1, MANY // 9)), np.zeros(1, int)
    return gzip.compress(pickle.dumps([pair] * 3, 2), 6)


DATA = ("idx", "parts", "npz", "mat", "zip", "archive", "tar", "pickle", "csv", "arrow")
PICTURES = ("png", "jpeg", "webp", "gif", "bmp", "tiff")
BOMBS: dict[str, dict[str, Callable[[], bytes]]] = {
    "idx": {
        "a gigabyte": lambda: gzipped(1024, IDX),
        "half a gigabyte that ends early": lambda: gzipped(31, IDX) + deflated(480),
        "200,000 parts": lambda: gzip.compress(b"") * 200_000,
        "50 MB of zeros behind": lambda: gzip.compress(IDX) + bytes(50_000_000),
        "a name of 50 MB": lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\3" + b"n" * 50_000_000,
        "the most labels": lambda: gzip.compress(b"\0\0\x08\1" + struct.pack(">I", MANY) + bytes(MANY), 6),
    },
    "parts": {
        "five million lists": lambda: b"[" + b"[]," * 5_000_000 + b"[]]",
        "five million objects": lambda: b'{"format": "xpnet-parts-1", "train": [' + b"{}," * 5_000_000 + b"{}]}",
    },
    "npz": {
        "four gigabytes": lambda: zipped(1000, NPZ),
        "four hundred megabytes": lambda: zipped(100, NPZ),
        "a gigabyte that claims to be a byte": lambda: zipped(1000, NPZ, claims=1),
        "thirty-two megabytes": lambda: zipped(8, NPZ),
        "60,000 names": lambda: zipped(1, tuple(f"{i}.npy" for i in range(60_000))),
        "17,000 arrays": lambda: zipped(1, tuple(f"{i}.npy" for i in range(17_000))),
        "a header of digits": lambda: npz_of(b"(" + b"1" * 9_000 + b";"),
        "a shape of digits": lambda: npz_of(b"(" + b"9" * 9_000 + b")"),
        "two million texts": lambda: npz_of(b"(2000000,)", b"<U2", os.urandom(16_000_000)),
    },
    "mat": {
        "a gigabyte": lambda: HEAD + packed_variable(deflated(1024)),
        "thirty megabytes of nothing": lambda: HEAD + packed_variable(deflated(30)),
        "cells within cells": lambda: HEAD + nested_cells(200_000),
        "a cell of eight gigabytes": lambda: HEAD + mat_matrix("x", 1, (1 << 15, 1 << 15)),
        "an array of eight gigabytes": lambda: HEAD + mat_matrix("x", 6, (1 << 15, 1 << 15)),
        "300,000 cells": lambda: HEAD + mat_matrix("y", 1, (300_000, 1), mat_element(14, b"") * 300_000),
        "99,000 cells of text": lambda: mat_file({"X": np.zeros((99_000, 1)), "y": ["ab"] * 99_000}),
        "rows of text": lambda: HEAD + mat_matrix("y", 4, (500_000, 1), mat_element(2, bytes(500_000))),
        "99,000 structures": lambda: HEAD + mat_matrix("y", 2, (1, 1)) * 99_000,
    },
    "archive": {
        "a gigabyte": lambda: zipped(1024, ("train.csv",)),
        "many names of a bomb": lambda: zipped(20, tuple(f"{i}/train.csv" for i in range(60_000))),
        "names of many slashes": lambda: zipped(1, tuple("a/" * 90 + str(i) for i in range(4300))),
        "100,000 names": lambda: zipped(0, tuple(f"{i:x}" for i in range(100_000))),
        "folders within folders": lambda: zipped(0, tuple("a/" * 14 + f"{i}/b" for i in range(20_000))),
    },
    "tar": {
        "a gigabyte": lambda: gzipped(1024, tar_header(b"train.csv", GIB)),
        "100,000 files": lambda: tar_header(b"train.csv", 0) * 100_000,
        "300,000 files": lambda: gzip.compress(tar_header(b"train.csv", 0) * 60_000, 9) * 5,
        "a name of 20 MB": lambda: tar_header(b"x", 20 << 20, b"L") + b"a/" * (10 << 20),
        "records of no length": lambda: tar_header(b"x", 65_536, b"x") + b"0 path=" * 9362 + bytes(2),
        "records that go back": lambda: tar_header(b"x", 65_536, b"x") + b"1 a=b\n" * 9362 + bytes(4),
        "a size beyond all": lambda: tar_header(b"train.csv", -1),
    },
    "zip": {
        "names of many slashes": lambda: zipped(1, tuple("gzip/" + "a/" * 90 + str(i) for i in range(4300))),
        "long names of slashes": lambda: zipped(1, tuple("a/" * 30_000 + str(i) for i in range(16))),
    },
    "pickle": {
        "a gigabyte": lambda: gzipped(1024, b"\x80\2]"),
        "30 million opcodes": lambda: gzip.compress(b"\x80\2" + b"]" * 30_000_000, 6),
        "a list of 590,000 numbers": lambda: pickle.dumps({"X": [[1]] * 2, "y": list(range(590_000))}),
        "NumPy's numbers": lambda: pickle.dumps({"X": np.zeros((65_000, 2)), "y": list(np.arange(65_000))}),
        "dictionaries": lambda: b"\x80\4" + b"}" * 590_000 + b".",
        "keys": lambda: pickle.dumps({f"x{i}": [i] for i in range(80_000)}),
        "long texts": lambda: pickle.dumps(
            {"X": np.zeros((9_000, 2)), "y": ["a" * 190 + str(i) for i in range(9_000)]}
        ),
        "lists of the same list": lambda: pickle.dumps({f"x{i}": [NUMBERS] * 9 + [[i]] for i in range(9_000)}),
        "9,000 marks": lambda: b"\x80\2" + b"(" * 9_000 + b"l" * 900 + b".",
        "a string as many arrays": lambda: (
            b"\x80\3B" + MIB + b"q\0" + pickled_array(b"h\0", b"J\0\0\x10\0\x85") * 200 + b"."
        ),
        "a text encoded many times": lambda: (
            b"\x80\3X" + MIB + b"q\0c_codecs\nencode\nq\1" + b"h\1h\0\x85R" * 2_000 + b"."
        ),
        "an array of thousands of huge sides": lambda: (
            b"\x80\3"
            + pickled_array(b"C\0", b"(" + (b"\x8a\xff" + b"\x7f" * 255) * 9_000 + b"t")
            + b"q\0h\0\x86q\1h\1h\1\x87."
        ),
    },
    "csv": {
        "a line of 50 MB": lambda: b"1," * 25_000_000,
        "NULs": lambda: bytes(20_000_000),
        "columns without end": lambda: b",".join([b"1"] * 500_000) + b"\n",
        "digits without end": lambda: b"1," + b"9" * 1_000_000 + b"\n",
        "a fault at the end": lambda: b"1,2\n" * 200_000 + b"1,2,3\n",
        "half a million texts": lambda: b"a,label\n" + b"".join(b"%x,g%x\n" % (i, i) for i in range(500_000)),
        "a text as long as a line, and a million short ones": lambda: b"1," + b"x" * 1_000_000 + b"\n1,y" * 1_000_000,
        "a hundred thousand classes": lambda: b"".join(b"%d,%d,5\n" % (i // 2, i) for i in range(200_000)),
        "gigabytes of blank lines": lambda: gzipped(1024, b"a,label\n1,2\n", b"\n"),
    },
    "arrow": {
        "one text of a megabyte in all rows": lambda: parquet({"a": ["x" * 1_000_000] * 5000, "label": [0, 1] * 2500}),
        "one picture of a megabyte in all rows": lambda: parquet(
            {"a": [bytes(1_000_000)] * 5000, "label": [0, 1] * 2500}
        ),
        "a list of a million zeros in all rows": lambda: parquet({"a": [[0] * 1_000_000] * 40, "label": [0, 1] * 20}),
        "a hundred million zeros": lambda: parquet({"a": np.zeros(100_000_000, np.int8)}),
        "a million texts": lambda: parquet({"a": [f"{i:x}" for i in range(1_000_000)], "label": [0, 1] * 500_000}),
    },
    "png": {
        "sixteen deep transparent megapixels": lambda: png(4080, 4080, 6, 16),
        "fifty megapixels of a palette": lambda: png(7000, 7000, 3, 8),
        "half a gigapixel": lambda: png(30_000, 20_000, 0, 1),
        "a million chunks": lambda: png(28, 28, 0, 8, TEXT_CHUNK * 1_000_000),
        "EXIF of a megabyte": lambda: exif_png(b"eXIf", exif_bomb(1 << 20)),
        "EXIF of 64 KB": lambda: exif_png(b"eXIf", exif_bomb(1 << 16)),
        "EXIF of half a megabyte as text": lambda: exif_png(b"zTXt", profile(500_000)),
    },
    "jpeg": {
        "fifty megapixels of a thousand scans": lambda: jpeg(7000, 7000, 1000),
        "a megapixel of seven hundred scans": lambda: jpeg(1000, 1000, 730),
        "EXIF of a megabyte": lambda: exif_jpeg(1 << 20),
        "EXIF of 64 KB": lambda: exif_jpeg(64_000),
        "filled with 20 MB": lambda: b"\xff\xd8" + b"\xff" * 20_000_000 + jpeg(28, 28, 0)[2:],
        "junk of 20 MB": lambda: b"\xff\xd8\xff" + bytes(20_000_000) + jpeg(28, 28, 0)[2:],
        "a million segments": lambda: b"\xff\xd8" + b"\xff\xe5\0\2" * 1_000_000 + jpeg(28, 28, 0)[2:],
        "a million segments behind bare markers": lambda: b"\xff\xd8" + b"\xff\xd0" * 9 + b"\xff\xe5\0\2" * 1_000_000,
    },
    "webp": {
        "a canvas of 16,000 by 16,000": lambda: webp_canvas(16_000, 16_000),
        "a canvas of 16 million by 16 million": lambda: webp_canvas(1 << 24, 1 << 24),
        "a million chunks": lambda: webp_canvas(28, 28, b"XYZW\0\0\0\0" * 1_000_000),
    },
    "gif": {
        "a screen of 65,535 by 65,535": lambda: gif(65_535, 65_535),
        "a picture beyond its screen": lambda: gif(28, 28, sides=(65_535, 65_535)),
        "a cleared screen of fifty megapixels": lambda: gif(7000, 7000, b"!\xf9\4\x09\0\0\0\0"),
        "ten million blocks of comment": lambda: gif(28, 28, b"!\xfe" + b"\1a" * 10_000_000 + b"\0"),
        "a million comments": lambda: gif(28, 28, b"!\xfe\1a\0" * 1_000_000),
        "junk of 20 MB": lambda: gif(28, 28, b"a" * 20_000_000),
    },
    "bmp": {
        "a gigapixel": lambda: bmp(32_000, 32_000),
        "fifty megapixels that are not there": lambda: bmp(7000, 7000),
        "fifty packed megapixels": lambda: bmp(7000, 7000, 1),
    },
    "tiff": {
        "a gigapixel": lambda: tiff({256: 32_000, 257: 32_000}),
        "fifty megapixels that are not there": lambda: tiff({256: 7000, 257: 7000, 277: 3}),
        "tiles of a gigapixel": lambda: tiff({322: 32_000, 323: 32_000, 324: 8, 325: 8}),
        "fifty megapixels of tiles of one": lambda: tiff({256: 7000, 257: 7000, 322: 1, 323: 1, 324: 8, 325: 8}),
        "a row in each strip": lambda: tiff({256: 1000, 257: 50_000, 278: 1}),
        "a thousand channels": lambda: tiff({277: 1000}),
        "tags that claim all of it": lambda: tiff({}, claims=60_000, behind=bytes(20_000_000)),
        "tags of the pixels that claim all of it": lambda: tiff({}, {320: (1, 20_000_000)}, behind=bytes(20_000_000)),
        "strips that claim all of it": lambda: tiff(
            {256: 1000, 257: 15_000, 259: 8, 278: 1}, {279: (4, 15_000)}, behind=b"\xff" * 60_000
        ),
    },
    "model": {
        "a header of 90 MB": lambda: safetensors(b"{" + b" " * 90_000_000 + b"}"),
        "a header of nested lists": lambda: safetensors(b'{"a":' + b"[" * (MAX_HEADER - 10)),
        "a header of objects": lambda: safetensors(b'{"__metadata__":[' + b"{}," * (MAX_HEADER // 3 - 20) + b"{}]}"),
        "as many layers as a header holds": lambda: of_layers(6_500),
        "an image of thousands of sides": lambda: safetensors(
            json.dumps({"__metadata__": {"xpnet": SIDES}, "a": EMPTY}).encode()
        ),
        "a quarter of a million sizes": lambda: safetensors(json.dumps({"__metadata__": {"xpnet": SIZES}}).encode()),
    },
    "history": {
        "half a million epochs": lambda: HISTORY + EPOCH * 524_000,
        "quotes of 8 MB": lambda: HISTORY + b'"' * 8_000_000,
        "fields of 100 KB": lambda: HISTORY + (b"1" * 100_000 + b",") * 70,
        "nine megabytes": lambda: HISTORY + EPOCH * 600_000,
    },
    "records": {
        "lists": lambda: b'{"runs":[' + b"[]," * 1_398_000 + b"[]]}",
        "tables": lambda: b'{"runs":[' + b'{"a":{}},' * 466_000 + b"{}]}",
        "numbers": lambda: b'{"runs":[' + b"0," * 2_097_000 + b"0]}",
        "five megabytes": lambda: b'{"runs":[' + b"0," * 2_500_000 + b"0]}",
    },
    "recipe": {
        "a list of 64 KB": lambda: b"hidden = [" + b"1," * 32_000 + b"1]",
        "keys below one of a hundred parts": lambda: (
            b"[" + b".".join([b"a"] * 100) + b"]\n" + b"".join(b"a%d=1\n" % i for i in range(7000))
        ),
        "a key of ten thousand parts": lambda: b".".join([b"a"] * 10_000) + b" = 1",
        "a number of 60,000 digits": lambda: b"seed = 0x" + b"f" * 60_000,
        "a fraction of 60,000 digits": lambda: b"lr = 0." + b"9" * 60_000,
        "a string of 30,000 escapes": lambda: b'data = "' + b"\\n" * 30_000 + b'"',
        "66 KB": lambda: b"#" * 66_000,
    },
    "space": {
        "choices of 64 KB": lambda: b"lr = {choices = [" + b"0.1,\n" * 13_000 + b"]}",
        "a billion layers": lambda: b"[hidden]\nlayers = {low = 1, high = 1000000000}\nwidth = {low = 1, high = 2}",
        "many choices of a thousand layers": lambda: LAYERS,
    },
}


# Good files, as large as they may be, some seconds' work.
LARGE: dict[str, dict[str, Callable[[], bytes]]] = {
    "idx": {"the most floats": lambda: gzip.compress(b"\0\0\x0e\1" + struct.pack(">I", MANY // 8) + bytes(MANY), 6)},
    "pair": {"the most images and labels": images_and_labels},
    "any": {
        "the most one-hot labels": lambda: packed_npz(
            X=np.zeros((MANY // 4, 1, 1), "u1"), y=np.eye(2, dtype="u1")[two_classes(MANY // 4)]
        ),
        "the most signs": lambda: packed_npz(X=np.full((MANY // 3, 1), -1, "i1"), y=two_classes(MANY // 3)),
        "the most texts": lambda: packed_npz(X=np.zeros((2_000_000, 1), "u1"), y=two_classes(2_000_000).astype("U3")),
    },
    "pickle": {"the most floats": packed_pickle},
    "png": {
        "fifty grey megapixels": lambda: png(7000, 7000, 0, 8),
        "thirty-three megapixels": lambda: png(5700, 5700, 2, 8),
        "sixteen transparent megapixels": lambda: png(4080, 4080, 6, 8),
        "fifty deep grey megapixels": lambda: png(7000, 7000, 0, 16),
        "thirty-three megapixels of a palette": lambda: png(5700, 5700, 3, 8),
    },
    "jpeg": {"fifty megapixels of fourteen scans": lambda: jpeg(7000, 7000, 4)},
    "webp": {
        "twenty-five megapixels": lambda: as_a("WEBP", "RGBA", 5000, lossless=True),
        "twenty-five megapixels of an animation": lambda: as_a("WEBP", "RGBA", 5000, lossless=True, save_all=True),
    },
    "gif": {
        "thirty-three megapixels": lambda: as_a("GIF", "P", 5700),
        "sixteen transparent megapixels": lambda: as_a("GIF", "P", 4080, transparency=0, disposal=2),
    },
    "tiff": {
        "fifty deep grey megapixels": lambda: as_a("TIFF", "I;16", 7000, compression="tiff_deflate"),
        "twenty-five megapixels of fractions": lambda: as_a("TIFF", "F", 5000, compression="tiff_deflate"),
        "thirty-three megapixels": lambda: as_a("TIFF", "RGB", 5700, compression="tiff_lzw"),
        "fifty megapixels of CCITT": lambda: as_a("TIFF", "1", 7000, compression="group4"),
    },
}


def as_a(form: str, mode: str, side: int, **options: Any) -> bytes:
    """A picture in which there is nothing."""
    from PIL import Image

    Image.new(mode, (side, side)).save(file := io.BytesIO(), form, **options)
    return file.getvalue()


# Each is read in a process of its own, whose peak of memory is its own.
REPLAY = f"""
import os
from pathlib import Path
from tests.fuzz.readers import READERS, Finding, outcome, warm_up
work = Path("work").absolute()
for folder in sorted(Path("bombs").iterdir()):
    reader = READERS[folder.name]
    warm_up(reader, work)
    for path in sorted(folder.iterdir()):
        if not os.fork():
            try:
                print(path, outcome(reader, path.read_bytes(), work, limit={HANG}), sep=": ", flush=True)
            except Finding as finding:
                print(path, finding, sep=": ", flush=True)
            os._exit(0)
        os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    "bombs",
    [
        *({name: BOMBS[name] for name in names} for names in (DATA, PICTURES, BOMBS.keys() - {*DATA, *PICTURES})),
        pytest.param(LARGE, marks=pytest.mark.slow),
    ],
    ids=["data", "pictures", "own files", "large files"],
)
def test_bombs(bombs: dict[str, dict[str, Callable[[], bytes]]], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    for name, makers in bombs.items():
        (tmp_path / "bombs" / name).mkdir(parents=True)
        for bomb, make in makers.items():
            (tmp_path / "bombs" / name / bomb).write_bytes(make())
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", REPLAY],
        cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout.splitlines()
    assert len(said) == sum(map(len, bombs.values())), done.stderr
    assert [line for line in said if not line.endswith((": data", ": refused"))] == []


def test_a_sparse_terabyte_of_images_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "x.idx"
    path.write_bytes(b"\0\0\x08\3" + struct.pack(">III", 1 << 30, 32, 32))
    os.truncate(path, 16 + (1 << 40))
    with watched():
        images = read_idx(path)
    assert isinstance(images, np.memmap)
    assert not images[-1].any()
    for dtype, ndim in ((8, 1), (0xE, 1), (0xE, 3)):
        path.write_bytes(bytes([0, 0, dtype, ndim]) + struct.pack(">I", 1 << 30) + struct.pack(">I", 32) * (ndim - 1))
        os.truncate(path, 1 << 40)
        with pytest.raises(DataError):
            read_idx(path)


def test_content_of_any_size_is_read_where_it_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).bytes(3 << 20)
    (tmp_path / "x").write_bytes(gzip.compress(b"\0\0\x08\1" + struct.pack(">I", 3 << 20) + noise, 1))
    monkeypatch.setattr(packed, "FREE_BYTES", 1 << 20)
    assert read_idx(tmp_path / "x").tobytes() == noise
    (tmp_path / "x").write_bytes(gzip.compress(b"\0\0\x08\1" + struct.pack(">I", 3 << 20) + bytes(3 << 20), 1))
    with pytest.raises(DataError, match="decompression bomb"):
        read_idx(tmp_path / "x")


def test_gzip_in_parts_and_with_zeros_behind(tmp_path: Path) -> None:
    whole = b"\0\0\x08\1" + struct.pack(">I", 200_000) + np.random.default_rng(0).bytes(200_000)
    parts = [gzip.compress(whole[i : i + 30_000]) for i in range(0, len(whole), 30_000)]
    for content in (
        b"".join(parts),
        b"".join(parts) + bytes(100_000),
        (gzip.compress(b"") + bytes(70_000)).join(parts),
    ):
        (tmp_path / "x").write_bytes(content)
        assert read_idx(tmp_path / "x").tobytes() == whole[8:]
        assert gzip.decompress(content) == whole


def test_a_zip_s_members_are_held_to_the_same(tmp_path: Path) -> None:
    """As EMNIST's archive is read: gzip within zip."""
    name = "emnist-x-train-images-idx3-ubyte.gz"
    for how, content, says in (
        (zipfile.ZIP_STORED, gzipped(100, IDX), "decompression bomb"),
        (zipfile.ZIP_DEFLATED, zlib.compress(bytes(1 << 28)), "not an IDX file"),
        (zipfile.ZIP_LZMA, bytes(100), "unusual way"),
    ):
        with zipfile.ZipFile(tmp_path / "x.zip", "w", how) as archive:
            archive.writestr(name, content)
        with pytest.raises(DataError, match=says), packed.open_archive(tmp_path / "x.zip") as root:
            idx._read_idx(root / name)
    (tmp_path / "x.zip").write_bytes((tmp_path / "x.zip").read_bytes().replace(b"PK\1\2", b"PK\1\3"))
    with pytest.raises(DataError, match="damaged zip archive"), packed.open_zip(tmp_path / "x.zip"):
        pass


@pytest.mark.slow
def test_a_photograph_of_48_megapixels_is_read(tmp_path: Path) -> None:
    from PIL import Image

    page = Image.new("RGB", (8000, 6000), (230, 228, 220))
    page.paste((30, 30, 40), (3800, 1500, 4300, 4500))
    for name, progressive in (("x.jpg", False), ("y.jpg", True)):
        page.save(tmp_path / name, quality=90, progressive=progressive)
        ink = read_picture(tmp_path / name)
        assert ink[14, 14] > 200
        assert 20 < (ink > 128).sum() < 150


# --- paths that are no files -----------------------------------------------------------------------------------------


def odd_paths(folder: Path) -> Iterator[Path]:
    (folder / "folder").mkdir()
    yield folder / "folder"
    yield folder / "nothing"
    yield folder / "nothing" / "x"
    yield folder / ("n" * 300)
    yield folder / "/".join(["n" * 200] * 30)
    yield folder / "nul\0"
    yield folder / "two\nlines\x1b[2J"
    yield folder / "\udc80"
    yield folder / "\ud800"
    (folder / "loop").symlink_to("loop")
    yield folder / "loop"
    (folder / "dangling").symlink_to("nowhere")
    yield folder / "dangling"
    (folder / "file").write_bytes(b"")
    yield folder / "file" / "x"
    os.mkfifo(folder / "pipe")
    yield folder / "pipe"
    (folder / "link").symlink_to("pipe")
    yield folder / "link"
    with socket.socket(socket.AF_UNIX) as server:
        with contextlib.chdir(folder):  # the name of a socket may not be long
            server.bind("socket")
        yield folder / "socket"
    for device in ("/dev/zero", "/dev/null", "/dev/tty"):
        yield Path(device)
    (folder / "unreadable").write_bytes(b"x")
    if os.geteuid():
        (folder / "unreadable").chmod(0)
        yield folder / "unreadable"
    for name in ("x.toml", "x.npz", "x.csv", "x.pkl", "history.csv", "model.safetensors", "train-images-idx3-ubyte"):
        os.mkfifo(folder / "folder" / name)
        yield folder / "folder" / name
    yield folder / "folder"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", READERS)
def test_paths_that_are_no_files(name: str, tmp_path: Path) -> None:
    needs(name)
    reader, work = READERS[name], tmp_path / "work"
    work.mkdir()
    warm_up(reader, work)
    missing_is_no_error = name == "records"
    for path in odd_paths(tmp_path):
        with watched():
            said = judged(reader, path, 0, limit=HANG)
        assert said == "refused" or (missing_is_no_error and not os.path.lexists(path)), path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_the_place_of_a_download(tmp_path: Path) -> None:
    (tmp_path / "qmnist").mkdir()
    os.mkfifo(tmp_path / "qmnist" / "qmnist-train-images-idx3-ubyte.gz")
    with watched(), pytest.raises(DataError, match="neither a regular file nor a folder"):
        download("qmnist", data_dir=tmp_path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """What was there is judged, and no more is waited for."""
    path = tmp_path / "x"
    path.write_bytes(b"\0\0\x08\1" + struct.pack(">I", 1 << 21) + bytes(1 << 21))
    with packed.unpacked(path) as stream:
        assert len(stream.read(8)) == 8
        os.truncate(path, 1 << 20)
        assert len(read_up_to(stream, 1 << 21)) <= 1 << 20
