"""NumPy's npz and npy."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.examples import keras_arrays, refused, small
from xpnet.data import DataError, read, read_npz
from xpnet.data.formats import named, npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Callable[..., None]) -> None:
    arrays = keras_arrays() | {
        "y_train": np.array([0, 1, 2, 0, 1, 2], ">i8"),
        "x_test": np.asfortranarray(small(seed=2)[0]),
    }
    save(tmp_path / "mnist.npz", **arrays)
    splits = read_npz(tmp_path / "mnist.npz")
    assert list(splits) == ["train", "test"]
    train, test = splits["train"], splits["test"]
    assert (train.images == arrays["x_train"]).all()
    assert (test.images == arrays["x_test"]).all()
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert read(tmp_path).n_classes == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x_train": np.array([{}, {}], object)}, "x_train has dtype |O"),
        ({"x_train": np.zeros((6, 2), "U3")}, "train split: x_train holds text"),
        ({"x_train": np.zeros((6, 2), complex)}, "x_train has dtype <c16"),
        ({"x_train": np.zeros(6, [("a", "i4"), ("b", "f4")])}, "x_train is a table of fields"),
        ({"x_train": np.float64(1)}, "train split: the arrays x_train (), y_train (6,) are no images and labels"),
        ({"x_train": np.zeros(6)}, "train split: features must be"),
        ({"x_train": np.zeros((6, 4, 4, 3))}, "train split: pictures in colour"),
        ({"y_train": np.array([0, 1, 2, 0, 1, np.nan])}, "train split: the label of image 5 is missing"),
        ({"y_train": np.array(["a", "b", "c", "a", "b", "\ud800"])}, "train split: labels that are not Unicode text"),
        ({"y_train": np.array([b"a", b"b", b"c", b"a", b"b", b"\xff"])}, "labels that are not Unicode text"),
        ({"y_test": np.array([0, 1, 2, 3, 2, 1])}, "test split: label 3 of image 3 is not a class"),
        ({"y_train": np.zeros(5, np.uint8)}, "6 examples but 5 labels (the arrays x_train (6, 4, 4), y_train (5,))"),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "bad.npz", **(keras_arrays() | changes))
    assert says in refused(read, tmp_path / "bad.npz")


def test_npz_with_unlabelled_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = keras_arrays()
    del arrays["y_test"]
    np.savez(tmp_path / "x.npz", **arrays)
    assert read(tmp_path / "x.npz").test is None
    assert "x_test has no labels; continuing without" in caplog.text


X, Y = small(12, (8, 8))


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"x_train": X, "y_train": Y}, ["train"]),
        ({"x_train": X[..., None], "y_train": Y[:, None]}, ["train"]),
        ({"x_train": X, "y_train": np.eye(3)[Y]}, ["train"]),
        (
            {
                f"{part}_{kind}": a
                for part in ("train", "val", "test")
                for kind, a in (("images", X), ("labels", Y[:, None]))
            },
            ["train", "test", "validation"],
        ),
        ({"X": X.reshape(12, -1), "y": Y}, ["train"]),
        ({"X": X.reshape(12, -1).T, "Y": Y[None]}, ["train"]),
        ({"data": X, "target": Y, "target_names": np.array(["a", "b", "c"])}, ["train"]),
        ({"data": X.reshape(12, -1), "images": X, "target": Y}, ["train"]),
        ({"Features": X, "Targets": Y, "X_test": X, "y_test": Y}, ["train", "test"]),
        ({"trainX": X, "trainY": Y, "testX": X, "testY": Y}, ["train", "test"]),
        ({"training_images": X, "training_labels": Y, "t10k_images": X, "t10k_labels": Y}, ["train", "test"]),
        ({"x_train": X, "y_train": Y, "classes": np.arange(3)}, ["train"]),
        ({"train": X, "train_labels": Y, "valid": X, "valid_labels": Y}, ["train", "validation"]),
        ({"mnist_x_train": X, "mnist_y_train": Y, "n_train": np.int64(12)}, ["train"]),
        ({"images": X, "digit_labels": Y}, ["train"]),
        ({"train_dataset": X, "train_labels": Y, "valid_dataset": X, "valid_labels": Y}, ["train", "validation"]),
        ({"fea": X, "gnd": Y[:, None]}, ["train"]),
        ({"arr_0": X, "arr_1": Y}, ["train"]),
        ({"arr_0": X, "arr_1": X[:4], "arr_2": Y, "arr_3": Y[:4]}, ["train", "test"]),
        ({"arr_0": X, "arr_1": Y, "arr_2": X[:4], "arr_3": Y[:4]}, ["train", "test"]),
    ],
)
def test_names_of_arrays(tmp_path: Path, arrays: dict[str, Any], parts: list[str]) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    assert list(read_npz(tmp_path / "own.npz")) == parts
    data = read(tmp_path / "own.npz")
    assert (data.train.images == X).all()
    assert data.train.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": X, "b": Y}, "holds the arrays a (12, 8, 8), b (12,): name a pair x, y or x_train, y_train"),
        ({}, "holds no arrays: name a pair"),
        ({"x_test": X, "y_test": Y}, "holds the arrays x_test (12, 8, 8), y_test (12,), but no part to train on"),
        ({"images": X, "data": X[:, :3], "y": Y}, "images and data could both be its images; keep one of them"),
        ({"x": X, "labels": Y, "targets": Y}, "labels and targets could both be its labels; keep one of them"),
        ({"data": X, "fine_labels": Y, "coarse_labels": Y}, "fine_labels and coarse_labels could both be its labels"),
        ({"a_x": X, "a_y": Y, "b_x": X, "b_y": Y}, "holds several sets (a_x, b_x); keep one of them"),
        ({"arr_0": X, "arr_1": Y, "arr_2": X}, "must hold one to three (images, labels) pairs"),
        ({f"x{i}": np.zeros(1) for i in range(1001)}, "holds 1001 arrays; the cap is 1000"),
    ],
)
def test_arrays_that_are_no_set_are_listed(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    assert f"own.npz: {says}" in refused(read, tmp_path / "own.npz")


@pytest.mark.parametrize("dtype", ["U", "S", ">U7", "S9"])
def test_labels_of_text(tmp_path: Path, dtype: str) -> None:
    labels = np.array(["cat", "dog", "emu"])[Y]
    np.savez_compressed(tmp_path / "own.npz", X=X, y=labels.astype(dtype))
    data = read(tmp_path / "own.npz")
    assert data.classes == ("cat", "dog", "emu")
    assert data.train.labels.tolist() == labels.tolist()


def test_truths_are_0_and_1(tmp_path: Path) -> None:
    """Whatever their bytes are, which only a crafted file sets to anything else."""
    np.savez(tmp_path / "own.npz", X=X.view(bool), y=Y)
    assert (read(tmp_path / "own.npz").train.images == (X > 0)).all()


def test_text_beyond_unicode(tmp_path: Path) -> None:
    labels = np.array([0x110000 + i for i in range(12)], np.uint32).view("U1")
    np.savez(tmp_path / "own.npz", X=X, y=labels)
    assert "labels that are not Unicode text" in refused(read, tmp_path / "own.npz")


def test_too_many_texts_for_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "own.npz", X=X, y=np.arange(12).astype(str))
    monkeypatch.setattr(named, "_MAX_TEXTS", 11)
    assert "12 different texts are no classes" in refused(read, tmp_path / "own.npz")
    monkeypatch.setattr(named, "_MAX_ROWS_OF_TEXT", 11)
    assert "12 labels of text; the cap is 11" in refused(read, tmp_path / "own.npz")


def test_labels_of_objects_say_how_to_save_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", X=X, y=np.array(["a", "b", "c"], object)[Y])
    assert "y has dtype |O, which is refused; numbers are needed, or text as y.astype(str)" in refused(
        read, tmp_path / "own.npz"
    )


def test_kmnist_of_four_npz(tmp_path: Path) -> None:
    for name, array in (("train-imgs", X), ("train-labels", Y), ("test-imgs", X[:5]), ("test-labels", Y[:5])):
        np.savez_compressed(tmp_path / f"kmnist-{name}.npz", array)
    for path in (tmp_path, tmp_path / "kmnist-train-imgs.npz", tmp_path / "kmnist-test-labels.npz"):
        data = read(path)
        assert (data.train.images == X).all()
        assert data.test is not None
        assert data.test.labels.tolist() == Y[:5].tolist()


@pytest.mark.parametrize("names", ["{}_train", "{}", "own-train-{}", "train{}"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_npy_pairs(tmp_path: Path, names: str, suffix: str) -> None:
    for name, array in (("x", X), ("y", Y)):
        write_npy(tmp_path / f"{names.format(name)}.npy{suffix}", array)
    np.save(tmp_path / "weights.npy", X)
    np.save(tmp_path / "._x_train.npy", X)
    for path in (tmp_path, *(path for path in tmp_path.iterdir() if names.format("x") in path.name[:-4])):
        if not path.name.startswith("._"):
            assert (read(path).train.images == X).all()
            assert read(path).train.labels.tolist() == Y.tolist()


def write_npy(path: Path, array: np.ndarray) -> None:
    with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as file:
        np.save(file, array)


def test_npy_without_its_partner(tmp_path: Path) -> None:
    np.save(tmp_path / "y_train.npy", Y)
    assert "its images are missing beside it" in refused(read, tmp_path / "y_train.npy")
    np.save(tmp_path / "weights.npy", X)
    assert "its name does not say of what" in refused(read, tmp_path / "weights.npy")
    assert "nothing readable" in refused(read, tmp_path)
    np.savez(tmp_path / "x_train.npz", a=X, b=Y)
    with pytest.raises(DataError, match=r"x_train\.npz: holds 2 arrays, but those beside it are of one array each"):
        read(tmp_path / "y_train.npy")


def test_two_sets_of_npy_in_a_folder(tmp_path: Path) -> None:
    for prefix in ("a", "b"):
        np.save(tmp_path / f"{prefix}_x.npy", X)
        np.save(tmp_path / f"{prefix}_y.npy", Y)
    assert "several sets (a_x.npy, b_x.npy); name one of them" in refused(read, tmp_path)
    assert len(read(tmp_path / "a_x.npy")) == 12


def test_npy_files_that_are_too_large_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    monkeypatch.setattr(npz, "MAX_BYTES", X.nbytes)
    assert f"its arrays take more than {X.nbytes} bytes, the cap" in refused(read, tmp_path)
    monkeypatch.setattr(npz, "MAX_BYTES", 100)
    assert "768 bytes; the cap is 100" in refused(read, tmp_path / "x.npy")


@given(
    images=hnp.arrays(
        st.sampled_from(["u1", ">i2", "<f4", ">f8", "?"]),
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=5),
    ),
    fortran=st.booleans(),
    data=st.data(),
)
def test_npz_round_trip(tmp_path: Path, images: np.ndarray, fortran: bool, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["i8", "U3", "S3"]))
    labels = np.array([data.draw(st.sampled_from([1, 5, 7])) for _ in images]).astype(kind)
    np.savez(tmp_path / "x.npz", images=np.asfortranarray(images) if fortran else images, label=labels)
    split = read_npz(tmp_path / "x.npz")["train"]
    assert split.images.dtype == images.dtype.newbyteorder("=")
    assert split.images.tobytes() == images.astype(images.dtype.newbyteorder("=")).tobytes()
    assert [str(label) for label in split.labels] == [str(label) for label in labels.astype(str)]


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
