"""The readers: what they read, and that whatever else is fed to them ends in a DataError of one line."""

import errno
import gzip
import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xpnet.data import DataError, Dataset, read, read_csv, read_idx, read_npz, read_pickle, write_idx
from xpnet.data.formats import idx, npz, pickles
from xpnet.files import Stream, read_up_to

Pair = tuple[np.ndarray, np.ndarray]

IDX_TYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]


def refused(call: Callable[[Path], object], path: Path) -> str:
    """Call a reader on a path that it must refuse; returns what it says, which must be one line that names the path."""
    with pytest.raises(DataError) as caught:
        call(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def small(n: int = 6, shape: tuple[int, ...] = (4, 4), seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), (np.arange(n) % 3).astype(np.uint8)


def write_quartet(
    folder: Path, names: str = "{}-{}-idx{}-ubyte", test_part: str = "t10k", prefix: str = "", n: int = 6
) -> None:
    for part, seed in (("train", 1), (test_part, 2)):
        images, labels = small(n, seed=seed)
        write_idx(folder / (prefix + names.format(part, "images", 3)), images)
        write_idx(folder / (prefix + names.format(part, "labels", 1)), labels)


# --- IDX -------------------------------------------------------------------------------------------------------------


@given(
    array=st.sampled_from(IDX_TYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    ),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_idx_round_trip(tmp_path: Path, array: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"array{suffix}"
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype
    assert back.dtype.isnative
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == bool(suffix)


def test_idx_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    write_idx(tmp_path / "i2", np.array([[1, -2]], np.int16))
    assert (tmp_path / "i2").read_bytes() == b"\0\0\x0b\2" + b"\0\0\0\1" + b"\0\0\0\2" + b"\0\1" + b"\xff\xfe"


def test_gzip_is_told_by_content(tmp_path: Path) -> None:
    array = np.arange(5, dtype=np.int32)
    write_idx(tmp_path / "a.gz", array)
    (tmp_path / "a.gz").rename(tmp_path / "a")
    assert read_idx(tmp_path / "a").tolist() == [0, 1, 2, 3, 4]
    assert read_idx(tmp_path / "a").flags.writeable


def test_write_idx_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "a", np.zeros(3, np.uint8))
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            write_idx(tmp_path / "a", np.ones(5, np.uint8))
    assert read_idx(tmp_path / "a").tolist() == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_write_idx_refuses_what_idx_cannot_hold(tmp_path: Path) -> None:
    for array in (np.zeros(3, np.uint16), np.zeros(3, bool), np.float32(1), np.zeros((1,) * 5, np.uint8)):
        with pytest.raises(ValueError, match="IDX cannot hold"):
            write_idx(tmp_path / "x", array)  # type: ignore[arg-type]


HEADER = b"\0\0\x08\2" + struct.pack(">II", 2, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\0\0", "not an IDX file"),
        (b"\0\1\x08\1", "0x00010801"),
        (b"\0\0\x07\1", "not an IDX file"),
        (b"\0\0\x08\0", "not an IDX file"),
        (b"\0\0\x08\5" + b"\0\0\0\1" * 5, "not an IDX file"),
        (HEADER[:9], "truncated within its header"),
        (HEADER + b"12345", "but it holds only 5;"),
        (HEADER + b"1234567", "but it holds more;"),
        (b"\0\0\x0e\4" + b"\xff" * 16, "the cap is 1073741824"),
        (b"\0\0\x08\1" + struct.pack(">I", 900_000_000) + b"few", "only 3;"),
        (gzip.compress(HEADER + b"123456", mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(HEADER + b"123456", mtime=0)[:-8] + b"\0" * 8, "damaged gzip.*data check"),
        (gzip.compress(HEADER + b"123456", mtime=0) + b"junk", "damaged gzip"),
        (b"\x1f\x8b", "damaged gzip"),
        (b"\x1f\x8bnothing of the kind", "damaged gzip"),
    ],
)
def test_bad_idx(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    message = refused(read_idx, path)
    assert any(part in message for part in says.split(".*"))
    assert all(part in message for part in says.split(".*"))


def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(HEADER + bytes(20_000_000)))
    unpacked: list[bytearray] = []

    def recorded(stream: Stream, size: int) -> bytearray:
        unpacked.append(read_up_to(stream, size))
        return unpacked[-1]

    monkeypatch.setattr(idx, "read_up_to", recorded)
    assert "but it holds more" in refused(read_idx, path)
    assert len(unpacked[0]) == 7


@given(content=st.binary(max_size=64), cut=st.integers(0, 80), at=st.integers(0, 79), packed=st.booleans())
def test_damaged_idx_gives_data_errors_only(tmp_path: Path, content: bytes, cut: int, at: int, packed: bool) -> None:
    write_idx(tmp_path / "whole", np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    whole = (tmp_path / "whole").read_bytes()
    whole = gzip.compress(whole) if packed else whole
    for number, damaged in enumerate(
        (content, whole[:cut], whole[:at] + content[:3] + whole[at + 3 :], whole + content)
    ):
        path = tmp_path / f"damaged{number}"
        path.write_bytes(damaged)
        try:
            read_idx(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most damage is refused, but a changed pixel can't be seen


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    assert "No such file" in refused(read_idx, tmp_path / "none")
    assert "directory" in refused(read_idx, tmp_path)


# --- sets of IDX files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte", "{}-{}-idx{}-ubyte.gz"])
@pytest.mark.parametrize("test_part", ["t10k", "test"])
def test_folder_of_four(tmp_path: Path, names: str, test_part: str) -> None:
    write_quartet(tmp_path, names, test_part)
    data = read(tmp_path)
    assert (data.train.images == small(seed=1)[0]).all()
    assert data.test is not None
    assert (data.test.images == small(seed=2)[0]).all()
    assert data.train.labels.dtype == np.int32
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert (data.n_classes, data.source, data.validation) == (3, str(tmp_path), None)


def test_a_pair_of_any_name_beside_a_quartet(tmp_path: Path) -> None:
    """NAME-images.idx is a set of its own; what only looks like it is no part of any."""
    write_quartet(tmp_path)
    images, labels = small(9, seed=3)
    for name in ("images.idx", "val-images-idx3-ubyte"):
        write_idx(tmp_path / name, images)
    write_idx(tmp_path / "labels.idx", labels)
    assert (read(tmp_path).train.images == small(seed=1)[0]).all()
    for name in ("latest", "my-test", "a b"):
        write_idx(tmp_path / f"{name}-images.idx", images)
        write_idx(tmp_path / f"{name}-labels.idx", labels)
        assert (read(tmp_path / f"{name}-images.idx").train.images == images).all()
    assert len(read(tmp_path / "train-images-idx3-ubyte").train.labels) == 6
    refused(read, tmp_path / "images.idx")
    assert "latest-, my-" in refused(read, tmp_path)


def test_emnist_that_is_too_large_to_be_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_quartet(tmp_path, prefix="emnist-digits-", test_part="test")
    monkeypatch.setattr(idx, "MAPPED_SHARE", 0.0)
    assert (read(tmp_path).train.images == small(seed=1)[0].transpose(0, 2, 1)).all()
    monkeypatch.setattr(idx, "MAX_BYTES", 50)
    assert "must be transposed in memory" in refused(read_folder_part, tmp_path)


def read_folder_part(path: Path) -> Dataset:
    return read(path / "emnist-digits-train-images-idx3-ubyte")


def test_one_images_file_finds_the_rest(tmp_path: Path) -> None:
    write_quartet(tmp_path)
    data = read(tmp_path / "train-images-idx3-ubyte")
    assert data.test is not None
    assert (data.test.images == small(seed=2)[0]).all()
    alone = read(tmp_path / "t10k-images-idx3-ubyte")
    assert (alone.train.images == small(seed=2)[0]).all()
    assert alone.test is None
    assert "name the images file" in refused(read, tmp_path / "train-labels-idx1-ubyte")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train labels are missing"):
        read(tmp_path / "train-images-idx3-ubyte")


def test_counts_that_differ(tmp_path: Path) -> None:
    write_quartet(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(5, np.uint8))
    with pytest.raises(DataError, match="6 images, but train-labels-idx1-ubyte has 5 labels"):
        read(tmp_path)


def test_emnist_is_turned_upright_and_its_letters_count_from_zero(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_idx(tmp_path / f"emnist-letters-{part}-images-idx3-ubyte", small(3, (2, 3))[0])
        write_idx(tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte", np.array([1, 26, 13], np.uint8))
    data = read(tmp_path)
    assert (data.train.images == small(3, (2, 3))[0].transpose(0, 2, 1)).all()
    assert data.train.labels.tolist() == [0, 25, 12]
    assert data.n_classes == 26


def test_qmnist_labels_are_the_first_of_eight_columns(tmp_path: Path) -> None:
    write_idx(tmp_path / "qmnist-train-images-idx3-ubyte.gz", small()[0])
    labels = np.full((6, 8), 99, np.int32)
    labels[:, 0] = [3, 1, 4, 1, 5, 9]
    write_idx(tmp_path / "qmnist-train-labels-idx2-int.gz", labels)
    assert read(tmp_path).train.labels.tolist() == [3, 1, 4, 1, 5, 9]


def test_two_sets_in_one_folder(tmp_path: Path) -> None:
    write_quartet(tmp_path, prefix="emnist-digits-")
    write_quartet(tmp_path, prefix="emnist-letters-")
    assert "several sets (emnist-digits-, emnist-letters-)" in refused(read, tmp_path)


# --- npz -------------------------------------------------------------------------------------------------------------


def keras_arrays(n: int = 6) -> dict[str, Any]:
    (x_train, y_train), (x_test, y_test) = small(n, seed=1), small(n, seed=2)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Callable[..., None]) -> None:
    arrays = keras_arrays() | {
        "y_train": np.array([0, 1, 2, 0, 1, 2], ">i8"),
        "x_test": np.asfortranarray(small(seed=2)[0]),
    }
    save(tmp_path / "mnist.npz", **arrays)
    train, test = read_npz(tmp_path / "mnist.npz")
    assert (train.images == arrays["x_train"]).all()
    assert (test.images == arrays["x_test"]).all()
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert read(tmp_path).n_classes == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x_train": np.array([{}, {}], object)}, "x_train has dtype |O"),
        ({"x_train": np.zeros((6, 2), "U3")}, "x_train has dtype"),
        ({"x_train": np.zeros((6, 2), bool)}, "x_train has dtype |b1"),
        ({"x_train": np.zeros(6)}, "train split: images must be"),
        ({"x_train": np.zeros((6, 2, 2, 1))}, "train split: images must be"),
        ({"y_train": np.zeros((6, 10))}, "train split: labels must be"),
        ({"y_test": np.array([0.0, 1.5])}, "test split: label 1.5 of image 1"),
        ({"y_test": np.array([0, -1])}, "test split: label -1 of image 1"),
        ({"y_test": np.array([0, 70_000])}, "test split: label 70000 of image 1"),
        ({"y_test": np.array([np.nan])}, "test split: label nan of image 0"),
        ({"y_train": np.zeros(5, np.uint8)}, "6 images but 5 labels"),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict[str, np.ndarray], says: str) -> None:
    np.savez(tmp_path / "bad.npz", **(keras_arrays() | changes))
    assert says in refused(read, tmp_path / "bad.npz")


def test_npz_without_one_of_its_arrays(tmp_path: Path) -> None:
    arrays = keras_arrays()
    del arrays["y_test"]
    np.savez(tmp_path / "bad.npz", **arrays)
    assert "no array y_test" in refused(read, tmp_path / "bad.npz")


def test_npz_that_claims_or_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "giant.npz", "w") as archive:
        for key in keras_arrays():
            archive.writestr(f"{key}.npy", header.getvalue())
    assert "declares shape (1000000000000,)" in refused(read_npz, tmp_path / "giant.npz")
    monkeypatch.setattr(npz, "MAX_BYTES", 100)
    np.savez(tmp_path / "large.npz", **keras_arrays())
    assert "the cap is 100" in refused(read_npz, tmp_path / "large.npz")


@given(cut=st.integers(0, 1500), at=st.integers(0, 1500), content=st.binary(max_size=40))
def test_damaged_npz_gives_data_errors_only(tmp_path: Path, cut: int, at: int, content: bytes) -> None:
    whole = io.BytesIO()
    np.savez(whole, **keras_arrays())
    path = tmp_path / "damaged.npz"
    for damaged in (
        content,
        whole.getvalue()[:cut],
        whole.getvalue()[:at] + content + whole.getvalue()[at + len(content) :],
    ):
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


# --- pickle ----------------------------------------------------------------------------------------------------------


def theano_pairs(dtype: type[np.floating] = np.float32) -> tuple[Pair, ...]:
    rng = np.random.default_rng(0)
    return tuple((rng.random((n, 16)).astype(dtype), np.arange(n) % 4) for n in (8, 5, 4))


def python2_pickle(pairs: tuple[Pair, ...]) -> bytes:
    """The bytes that Python 2 and an old NumPy wrote: protocol 2, byte strings, numpy.core."""

    def string(text: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(text)) + text

    def array(values: np.ndarray) -> bytes:
        kind = values.dtype.str[1:].encode()
        dtype = (
            b"cnumpy\ndtype\n"
            + string(kind)
            + b"K\0K\1\x87R(K\3"
            + string(b"<")
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        )
        shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in values.shape) + b"t"
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + string(b"b") + b"\x87R"
        return empty + b"(K\1" + shape + dtype + b"\x89" + string(values.tobytes()) + b"tb"

    return b"\x80\2" + b"".join(array(x) + array(y) + b"\x86" for x, y in pairs) + b"\x87."


@pytest.mark.parametrize("suffix", [".pkl", ".pkl.gz"])
@pytest.mark.parametrize("protocol", ["python2", "numpy.core", *range(6)])
def test_pickle_of_any_protocol(tmp_path: Path, suffix: str, protocol: str | int) -> None:
    pairs = theano_pairs()
    if protocol == "python2":
        content = python2_pickle(pairs)
    elif protocol == "numpy.core":
        content = pickle.dumps(pairs, 2).replace(b"numpy._core", b"numpy.core")
        assert b"numpy._core" not in content
    else:
        assert isinstance(protocol, int)
        content = pickle.dumps(pairs, protocol)
    path = tmp_path / f"mnist{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    splits = read_pickle(path)
    for split, (images, labels) in zip(splits, pairs, strict=True):
        assert (split.images.reshape(-1, 16) == images).all()
        assert split.images.dtype == np.float32
        assert split.labels.tolist() == labels.tolist()
    data = read(path)
    assert [len(part.labels) for part in (data.train, data.validation, data.test) if part] == [8, 5, 4]


class Asks:
    """Pickles as a call of whatever it is given."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (Asks(os.system, "touch {canary}"), "system"),
        (Asks(eval, "open('{canary}', 'w')"), "eval"),
        (Asks(exec, "open('{canary}', 'w')"), "exec"),
        (Asks(np.load, "{canary}"), "load"),
        (Asks(np.fromfile, "{canary}"), "fromfile"),
        (Asks(getattr, np, "load"), "getattr"),
        (Asks(Path, "{canary}"), "Path"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_are_refused_by_the_name_of_what_they_ask(
    tmp_path: Path, payload: Asks, named: str, protocol: int
) -> None:
    canary = tmp_path / "canary"
    function, arguments = payload.call
    arguments = tuple(a.format(canary=canary) if isinstance(a, str) else "numpy" for a in arguments)
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps((*theano_pairs()[:2], (Asks(function, *arguments), 0)), protocol))
    message = refused(read, path)
    assert "it asks for" in message
    assert named in message
    assert not canary.exists()


def test_a_global_by_dotted_name_or_extension_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\4\x8c\x05numpy\x8c\x0ef2py.os.system\x93.")
    assert "numpy.f2py.os.system" in refused(read_pickle, path)
    path.write_bytes(b"\x80\2\x82\1.")
    assert "it has the opcode 0x82" in refused(read_pickle, path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1, "three (images, labels) pairs"),
        (theano_pairs()[:2], "three (images, labels) pairs"),
        ([(1, 2)] * 3, "three (images, labels) pairs"),
        ([(np.zeros((2, 4)), np.array(["a", "b"]))] * 3, "not an array of numbers"),
        ([(np.zeros((2, 4)), np.array([{}, None]))] * 3, "not an array of numbers"),
        ([(np.zeros((2, 4), [("a", "f4")]), np.zeros(2))] * 3, "not an array of numbers"),
        ([(np.full((2, 4), 1.5), np.zeros(2, int))] * 3, "train split: pixel value 1.5"),
        ([(np.zeros((2, 4)), np.zeros(3, int))] * 3, "2 images but 3 labels"),
    ],
)
def test_pickles_of_another_form(tmp_path: Path, value: object, says: str) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(value, 2))
    assert says in refused(read, path)


def test_a_pickle_with_a_giant_memo_index_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "giant.pkl"
    path.write_bytes(b"\x80\2K\1r\xff\xff\xff\xff.")
    assert "pairs" in refused(read_pickle, path)


def test_pickle_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_BYTES", 1000)
    path = tmp_path / "bomb.pkl.gz"
    path.write_bytes(gzip.compress(bytes(100_000)))
    assert "unpacks to more than 1000 bytes" in refused(read_pickle, path)


@given(data=st.data())
def test_damaged_pickles_give_data_errors_only(tmp_path: Path, data: st.DataObject) -> None:
    whole = pickle.dumps(theano_pairs(), 2)
    starts = [position for _, _, position in pickletools.genops(whole) if position is not None]
    at = data.draw(st.one_of(st.sampled_from(starts), st.integers(0, len(whole))))
    content = data.draw(st.binary(max_size=6))
    for damaged in (
        content,
        whole[:at],
        whole[:at] + content + whole[at + len(content) :],
        whole[:at] + content + b".",
    ):
        path = tmp_path / "damaged.pkl"
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


# --- CSV -------------------------------------------------------------------------------------------------------------


def write_csv(path: Path, rows: Iterable[Iterable[object]], header: str | None = None) -> None:
    lines = [header] if header else []
    path.write_text("\n".join([*lines, *(",".join(map(str, row)) for row in rows)]) + "\n")


@pytest.mark.parametrize("header", [None, "label,a,b,c,d", "label,pixel0,pixel1,pixel2,pixel3", '"label",0,1,2,3'])
def test_csv_of_bytes(tmp_path: Path, header: str | None) -> None:
    write_csv(tmp_path / "x.csv", [(7, 0, 255, 3, 4), (2, 1, 2, 3, 4)], header)
    images, labels = read_csv(tmp_path / "x.csv")
    assert images.dtype == np.uint8
    assert images.tolist() == [[[0, 255], [3, 4]], [[1, 2], [3, 4]]]
    assert labels.tolist() == [7, 2]


def test_csv_of_floats_and_of_no_square(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", [(1, 0, 1), (0, 0.5, 0.25)])
    images, labels = read_csv(tmp_path / "x.csv")
    assert images.dtype == np.float32
    assert images.tolist() == [[0, 1], [0.5, 0.25]]
    assert labels.tolist() == [1, 0]
    write_csv(tmp_path / "y.csv", [(1, "0.0", "255.0", "3.0")])
    assert read_csv(tmp_path / "y.csv").images.dtype == np.uint8


def test_csv_with_blank_lines_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf\r\n3,1,2\r\n\r\n4,5,6\r\n")
    images, labels = read_csv(tmp_path / "x.csv")
    assert images.tolist() == [[1, 2], [5, 6]]
    assert labels.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("label,a,b\n", "line 1 holds no numbers"),
        ("1,2,3\n1,2\n", "line 2 has 2 columns, but 3 are expected"),
        ("label,a,b\n1,2,3\n\n1,2,3,4\n", "line 4 has 4 columns, but 3 are expected"),
        ("label,a,b\n1,2,3,4\n", "line 2 has 4 columns, but 3 are expected"),
        ("1,2,3\n1,x,3\n", "line 2, column 2: 'x' is not a number"),
        ("1,2,3\n1,,3\n", "line 2, column 2: '' is not a number"),
        ("label,a\n\n1,2\n1,256\n", "pixel value 256 in line 4"),
        ("1,2\n1,-1\n", "pixel value -1 in line 2"),
        ("1,0.5\n1,1.5\n", "pixel value 1.5 in line 2"),
        ("1,0.5\n1,nan\n", "pixel value nan in line 2"),
        ("1,0\n1.5,1\n", "label 1.5 of line 2"),
        ("1,0\n-1,1\n", "label -1 of line 2"),
        ("1,0\n1000,1\n", "label 1000 of line 2"),
        ("1\n2\n", "has 1 column"),
        ("pixel0,pixel1\n1,2\n", "first column is 'pixel0'; it must be the label"),
        ("a;b\n1;2\n", "1 column"),
        ("\0\0\0", "holds no numbers"),
    ],
)
def test_bad_csv_names_the_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    assert says in refused(read, tmp_path / "bad.csv")


def test_gzipped_csv_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(gzip.compress(b"1,2\n"))
    assert "unpack it first" in refused(read_csv, tmp_path / "x.csv")


def test_csv_finds_its_test_sibling(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_csv(tmp_path / "mnist_train.csv", [(0, 1, 2), (1, 3, 4)])
    assert read(tmp_path / "mnist_train.csv").test is None
    write_csv(tmp_path / "mnist_test.csv", [(1, 5, 6)])
    for path in (tmp_path, tmp_path / "mnist_train.csv"):
        data = read(path)
        assert data.test is not None
        assert data.test.labels.tolist() == [1]
        assert data.n_classes == 2
    write_csv(tmp_path / "mnist_test.csv", [(5, 6, 7)], "pixel0,pixel1,pixel2")
    assert read(tmp_path).test is None
    assert "mnist_test.csv has no label column" in caplog.text


@given(text=st.text(alphabet='0123456789.,-+einfa\n\r "#_\0é', max_size=60), content=st.binary(max_size=40))
def test_random_csv_gives_data_errors_only(tmp_path: Path, text: str, content: bytes) -> None:
    for damaged in (text.encode(), content):
        (tmp_path / "x.csv").write_bytes(damaged)
        try:
            read(tmp_path / "x.csv")
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


# --- pixels and any format -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "dtype"),
    [
        (np.array([[0, 255]], np.int64), np.uint8),
        (np.array([[0, 1]], np.int8), np.uint8),
        (np.array([[0, 255]], np.float64), np.uint8),
        (np.array([[0, 1]], np.float32), np.float32),
        (np.array([[0, 0.5]], np.float16), np.float32),
        (np.array([[0, 0.5]], np.float64), np.float64),
    ],
)
def test_pixel_types(tmp_path: Path, pixels: np.ndarray, dtype: type[np.generic]) -> None:
    labels = np.zeros(1, np.uint8)
    np.savez(tmp_path / "x.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    images = read(tmp_path).train.images
    assert images.dtype == dtype
    assert images.tolist() == pixels.tolist()


@pytest.mark.parametrize("value", [-1, 256, 0.5, -0.5, 1e9, np.nan, np.inf, -np.inf])
def test_pixels_that_are_refused_with_their_place(tmp_path: Path, value: float) -> None:
    images, labels = np.full((3, 2, 3), 200.0), np.zeros(3)
    images[1, 0, 2] = value
    np.savez(tmp_path / "x.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    message = refused(read, tmp_path / "x.npz")
    told = not np.isfinite(value) or value == int(value)  # a fraction makes all of the whole numbers suspicious
    assert (
        f"pixel value {np.float64(value)} in image 1, at (0, 2)" if told else "pixel value 200.0 in image 0"
    ) in message


def test_every_reader_returns_arrays_of_ones_own_in_native_order(tmp_path: Path) -> None:
    features = np.asfortranarray(np.random.default_rng(0).random((4, 3)).astype(">f4"))
    labels = np.arange(4, dtype=">i8")
    write_idx(tmp_path / "train-images-idx2-float", features.astype(np.float32))
    write_idx(tmp_path / "train-labels-idx1-int", labels.astype(np.int32))
    np.savez(tmp_path / "x.npz", x_train=features, y_train=labels, x_test=features, y_test=labels)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([(features, labels)] * 3))
    write_csv(tmp_path / "x.csv", np.column_stack([labels, features]))
    for name in ("train-images-idx2-float", "x.npz", "x.pkl", "x.csv"):
        split = read(tmp_path / name).train
        assert (split.images == features).all(), name
        for array, dtype in zip(split, (np.float32, np.int32), strict=True):
            assert array.dtype == dtype, name
            assert array.dtype.isnative, name
            assert array.flags.writeable, name
            assert array.flags.c_contiguous, name


def test_read_tells_formats_by_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **keras_arrays())
    (tmp_path / "a.npz").rename(tmp_path / "a")
    (tmp_path / "b").write_bytes(pickle.dumps(theano_pairs()))
    assert read(tmp_path / "a").n_classes == 3
    assert read(tmp_path / "b").n_classes == 4
    (tmp_path / "c").write_bytes(b"plain words")
    assert "neither its name nor its content" in refused(read, tmp_path / "c")
    (tmp_path / "d").write_bytes(b"")
    assert "empty" in refused(read, tmp_path / "d")


def test_nothing_to_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        message = refused(read, path)
        assert all(name in message for name in ("looked for", "idx3-ubyte", ".npz", ".pkl.gz", ".csv"))


def test_several_files_of_one_format(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, **keras_arrays())
    assert "several sets (a.npz, b.npz)" in refused(read, tmp_path)


def test_a_stray_label_is_outside_the_classes(tmp_path: Path) -> None:
    images, labels = np.zeros((200, 2, 3), np.uint8), (np.arange(200) % 3).astype(np.uint8)
    labels[137] = 255
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    assert "label 255 of training image 137 looks like an error" in refused(read, tmp_path)


def test_a_single_label_above_thousands_is_outside_the_classes(tmp_path: Path) -> None:
    images, labels = np.zeros((5000, 1, 2), np.uint8), (np.arange(5000) % 3).astype(np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    assert read(tmp_path).n_classes == 3
    labels[4321] = 3
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    assert "label 3 of training image 4321 looks like an error" in refused(read, tmp_path)


def test_a_test_label_that_training_does_not_know(tmp_path: Path) -> None:
    for part, labels in (("train", [0, 1, 2, 1]), ("t10k", [0, 2, 3, 1])):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((4, 2, 3), np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.array(labels, np.uint8))
    assert "test split: label 3 of row 2 is not a class of the training split; " in refused(read, tmp_path)


def test_two_digits_of_ten_are_classes(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((40, 2, 3), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([3, 8] * 20, np.uint8))
    assert read(tmp_path).n_classes == 9


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    assert "neither a regular file nor a folder" in refused(read, tmp_path / "pipe.npz")


def test_csv_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("étiquette,pixel\n1,2\n".encode("latin1"))
    assert "save it as UTF-8" in refused(read, tmp_path / "latin.csv")
    (tmp_path / "grouped.csv").write_text("1,2\n1,1_0\n")
    assert "line 2, column 2: '1_0' is not a number" in refused(read, tmp_path / "grouped.csv")
