"""The readers: what they read, and that whatever else is fed to them ends in a DataError of one line."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.data.examples import keras_arrays, refused, small
from xpnet.data import read, write_idx

# --- pixels and any format -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "dtype"),
    [
        (np.array([[[0, 255]], [[1, 2]]], np.int64), np.uint8),
        (np.array([[[0, 1]], [[1, 1]]], np.int8), np.uint8),
        (np.array([[[0, 255]], [[1, 2]]], np.float64), np.uint8),
        (np.array([[[0, 1]], [[1, 1]]], np.float32), np.float32),
        (np.array([[[0, 0.5]], [[1, 0]]], np.float16), np.float32),
        (np.array([[[0, 0.5]], [[1, 0]]], np.float64), np.float64),
    ],
)
def test_pixel_types(tmp_path: Path, pixels: np.ndarray, dtype: type[np.generic]) -> None:
    np.savez(tmp_path / "x.npz", x_train=pixels, y_train=np.arange(2))
    images = read(tmp_path).train.images
    assert images.dtype == dtype
    assert images.tolist() == pixels.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_refused_with_their_place(tmp_path: Path, value: float) -> None:
    images = np.full((3, 2, 3), 200.0)
    images[1, 0, 2] = value
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(3))
    message = refused(read, tmp_path / "x.npz")
    assert f"x.npz: train split: {np.float64(value)} at image 1, pixel (0, 2)" in message


def test_every_reader_returns_arrays_of_ones_own_in_native_order(tmp_path: Path) -> None:
    features = np.asfortranarray(np.random.default_rng(0).random((4, 3)).astype(">f4"))
    labels = np.arange(4, dtype=">i8")
    write_idx(tmp_path / "train-images-idx2-float", features.astype(np.float32))
    write_idx(tmp_path / "train-labels-idx1-int", labels.astype(np.int32))
    np.savez(tmp_path / "x.npz", x_train=features, y_train=labels, x_test=features, y_test=labels)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([(features, labels)] * 3))
    np.savetxt(tmp_path / "x.csv", np.column_stack([labels, features]), "%.9g", ",", header="label,a,b,c", comments="")
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
    (tmp_path / "b").write_bytes(pickle.dumps([small()] * 3))
    assert read(tmp_path / "a").n_classes == 3
    assert read(tmp_path / "b").n_classes == 3
    (tmp_path / "c").write_bytes(b"plain words")
    assert "neither its name nor its content" in refused(read, tmp_path / "c")
    (tmp_path / "d").write_bytes(b"")
    assert "empty" in refused(read, tmp_path / "d")


def test_nothing_to_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        message = refused(read, path)
        assert all(name in message for name in ("looked for", "idx3-ubyte", ".npz", ".pkl", ".csv", "pictures", ".zip"))


def test_several_files_of_one_format(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, **keras_arrays())
    assert "several sets (a.npz, b.npz)" in refused(read, tmp_path)


@pytest.mark.parametrize(("n", "stray"), [(200, 255), (5000, 3)])
def test_a_class_that_hardly_any_image_has_is_warned_of(
    tmp_path: Path, n: int, stray: int, caplog: pytest.LogCaptureFixture
) -> None:
    images, labels = np.zeros((n, 2, 3), np.uint8), (np.arange(n) % 3).astype(np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    assert read(tmp_path).n_classes == 3
    assert "few" not in caplog.text
    labels[137] = stray
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    data = read(tmp_path)
    assert data.classes == (0, 1, 2, stray)
    assert data.train.targets[137] == 3
    assert f"few training examples of the label {stray} (1); more are needed to learn it, unless it is" in caplog.text


def test_many_rare_classes_are_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.r_[np.repeat([0, 1, 2], 1000), [*range(10, 17)] * 2].astype(np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((len(labels), 2, 3), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    assert read(tmp_path).n_classes == 10
    assert "of the labels 10 (2), 11 (2), 12 (2), 13 (2), 14 (2) ...; more" in caplog.text


def test_a_test_label_that_training_does_not_know(tmp_path: Path) -> None:
    for part, labels in (("train", [0, 1, 2, 1]), ("t10k", [0, 2, 3, 1])):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((4, 2, 3), np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.array(labels, np.uint8))
    message = refused(read, tmp_path)
    assert "t10k-labels-idx1-ubyte: label 3 of image 2 is not a class of the training split; " in message


def test_the_classes_are_those_that_occur(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((40, 2, 3), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([3, 8] * 20, np.uint8))
    data = read(tmp_path)
    assert data.classes == (3, 8)
    assert data.train.targets.tolist() == [0, 1] * 20
    assert data.train.labels.tolist() == [3, 8] * 20
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(40, 3, np.uint8))
    assert "every label is 3; at least two classes are needed" in refused(read, tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    assert "neither a regular file nor a folder" in refused(read, tmp_path / "pipe.npz")
