"""IDX files, one by one and by sets."""

import errno
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.examples import refused, small, write_quartet
from xpnet.data import DataError, Dataset, read, read_idx, write_idx
from xpnet.data.formats import idx
from xpnet.files import Stream, read_up_to

IDX_TYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]


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
    assert "latest-images.idx, my-test-images.idx" in refused(read, tmp_path)


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
    assert data.classes == (0, 12, 25)


def test_qmnist_labels_are_the_first_of_eight_columns(tmp_path: Path) -> None:
    write_idx(tmp_path / "qmnist-train-images-idx3-ubyte.gz", small()[0])
    labels = np.full((6, 8), 99, np.int32)
    labels[:, 0] = [3, 1, 4, 1, 5, 9]
    write_idx(tmp_path / "qmnist-train-labels-idx2-int.gz", labels)
    assert read(tmp_path).train.labels.tolist() == [3, 1, 4, 1, 5, 9]


@pytest.mark.parametrize("value", [-1, 256])
def test_whole_numbers_that_are_no_pixels(tmp_path: Path, value: int) -> None:
    images = small()[0].astype(np.int16)
    write_idx(tmp_path / "train-images-idx3-short", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", small()[1])
    assert read(tmp_path).train.images.dtype == np.uint8
    images[4, 1, 2] = value
    write_idx(tmp_path / "train-images-idx3-short", images)
    with pytest.raises(DataError, match=rf"idx3-short: {value} at image 4, pixel \(1, 2\); the pixels"):
        read(tmp_path)


def test_two_sets_in_one_folder(tmp_path: Path) -> None:
    write_quartet(tmp_path, prefix="emnist-digits-")
    write_quartet(tmp_path, prefix="emnist-letters-")
    names = [f"emnist-{name}-train-images-idx3-ubyte" for name in ("digits", "letters")]
    message = refused(read, tmp_path)
    assert f"several sets ({', '.join(names)}); name one of them" in message
    for name in names:
        assert read(tmp_path / name).test is not None


def test_labels_in_a_column(tmp_path: Path) -> None:
    images, labels = small()
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx2-ubyte", labels[:, None])
    data = read(tmp_path)
    assert data.train.labels.tolist() == labels.tolist()
    assert data.n_classes == 3


def test_labels_that_are_one_hot(tmp_path: Path) -> None:
    images, labels = small()
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx2-ubyte", np.eye(4, dtype=np.uint8)[labels])
    assert read(tmp_path).train.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (small()[0], "holds an array of shape (6, 4, 4), as images do"),
        (np.full(6, np.nan, np.float32), "the label of image 0 is missing"),
    ],
)
def test_a_fault_of_the_labels_names_their_file(tmp_path: Path, labels: np.ndarray, says: str) -> None:
    write_idx(tmp_path / "own-images.idx", small()[0])
    write_idx(tmp_path / "own-labels.idx", labels)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "own-images.idx")
    assert str(caught.value).startswith(f"{tmp_path / 'own-labels.idx'}: {says}")


def test_labels_in_the_place_of_the_images(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        write_idx(tmp_path / f"own-{kind}.idx", small()[1])
    assert "one number for each image, as labels do" in refused(read, tmp_path / "own-images.idx")
