"""MATLAB's files, as SciPy writes them and, byte by byte, as MATLAB does."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.examples import refused, small
from tests.fuzz.readers import mat_element, mat_file, mat_matrix
from xpnet.data import DataError, read, read_mat
from xpnet.data.formats import mat

X, Y = small(12, (8, 8))
ROWS = X.reshape(12, -1)
BY_COLUMNS = X.swapaxes(1, 2).reshape(12, -1)
WORDS = np.array(["cat", "horse", "emu"])


def savemat(path: Path, variables: dict[str, Any], **options: Any) -> None:
    pytest.importorskip("scipy.io", reason="writes the files, and is not installed").savemat(path, variables, **options)


def emnist(kind: str = "dataset") -> dict[str, Any]:
    part = {"images": BY_COLUMNS, "labels": Y[:, None], "writers": Y[:, None]}
    return {kind: {"train": part, "test": part, "mapping": np.arange(6).reshape(3, 2)}}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "variables",
    [
        {"data": ROWS.T, "label": Y[None].astype(float), "mldata_descr_ordering": np.array(["label", "data"], object)},
        {"X": ROWS, "y": Y[:, None]},
        {"X": ROWS, "y": Y},
        {"X": np.moveaxis(X, 0, -1), "y": Y[:, None]},
        {"x": ROWS.T, "t": np.eye(3)[Y].T},
        {"images": X, "labels": np.eye(3, dtype=bool)[Y]},
        {"training": {"images": np.moveaxis(X, 0, -1), "labels": Y[:, None], "count": 12, "height": 8, "width": 8}},
        {"mnist": {"X_train": ROWS, "y_train": Y[:, None]}, "note": "of digits", "f": 1j},
        emnist(),
    ],
)
def test_variables(tmp_path: Path, variables: dict[str, Any], packed: bool) -> None:
    savemat(tmp_path / "own.mat", variables, do_compression=packed)
    for path in (tmp_path, tmp_path / "own.mat"):
        data = read(path)
        assert (data.train.images == X).all()
        assert data.train.labels.tolist() == Y.tolist()
    assert list(read_mat(tmp_path / "own.mat")) == (["train", "test"] if "dataset" in variables else ["train"])


@pytest.mark.parametrize("labels", [WORDS[Y], WORDS[Y].astype(object), WORDS[Y].astype(object)[:, None]])
def test_labels_of_text(tmp_path: Path, labels: np.ndarray) -> None:
    savemat(tmp_path / "own.mat", {"X": ROWS, "y": labels})
    data = read(tmp_path / "own.mat")
    assert data.classes == ("cat", "emu", "horse")
    assert data.train.labels.tolist() == WORDS[Y].tolist()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_either_byte_order(tmp_path: Path, order: str, packed: bool) -> None:
    path = tmp_path / "digits"
    path.write_bytes(mat_file({"X": ROWS.astype("i2"), "y": Y[:, None]}, order, packed))
    data = read(path)  # by its content
    assert (data.train.images == X).all()
    assert data.train.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"a": ROWS, "b": Y}, "own.mat: holds the arrays a (12, 64), b (1, 12): name a pair x, y"),
        ({"X": ROWS, "y": Y[:-1]}, "12 examples but 11 labels"),
        ({"X": ROWS * 1j, "y": Y}, "holds the arrays y (1, 12): name a pair"),
        ({"X": ROWS, "y": np.array([1, "a", 2], object)}, "holds the arrays X (12, 64): name a pair"),
        ({"X": np.moveaxis(np.stack([X] * 3, axis=-1), 0, -1), "y": Y[:, None]}, "train split: pictures in colour"),
    ],
)
def test_variables_that_are_no_set(tmp_path: Path, variables: dict[str, Any], says: str) -> None:
    savemat(tmp_path / "own.mat", variables)
    assert says in refused(read, tmp_path / "own.mat")


def test_other_versions_say_how_to_save(tmp_path: Path) -> None:
    path = tmp_path / "own.mat"
    savemat(path, {"X": ROWS, "y": Y}, format="4")
    assert "not a MATLAB file of version 5 to 7.2; save it with -v7" in refused(read, path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    assert "saved as v7.3; save it with -v7" in refused(read, path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "saved as v7.3; save it with -v7" in refused(read, path)
    path.write_bytes(b"# Created by Octave 9")
    assert "not a MATLAB file" in refused(read, path)


HEAD = mat_file({})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (mat_element(14, b"")[:-1], "damaged MATLAB file"),
        (struct.pack("<II", 14, 1 << 31), "it ends in the middle of a variable"),
        (struct.pack("<II", 5 << 16 | 1, 0), "it ends in the middle of a variable"),
        (mat_element(15, b"not zlib"), "damaged MATLAB file"),
        (
            mat_matrix("x", 6, (1 << 15, 1 << 15), mat_element(9, bytes(8))),
            "x declares shape (32768, 32768) of float64",
        ),
        (mat_matrix("x", 6, (-1, 1), mat_element(9, bytes(8))), "no array can have the shape of a variable"),
        (mat_matrix("x", 6, (1,) * 9, mat_element(9, bytes(8))), "no array can have the shape of a variable"),
        (mat_matrix("x", 6, (1, 1), mat_element(8, bytes(8))), "x is stored as a type 8 that is no number"),
        (mat_matrix("x", 1, (1 << 15, 1 << 15)), "holds no arrays"),
        (mat_matrix("x", 2, (1, 1), mat_element(5, bytes(4)) + mat_element(1, b"")), "names of no length"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.mat").write_bytes(HEAD + content)
    assert says in refused(read, tmp_path / "x.mat")


def test_variables_within_variables(tmp_path: Path) -> None:
    """200,000 such cells end the process in SciPy's reader."""
    content = b""
    for _ in range(100):
        content = mat_matrix("x", 1, (1, 1), content)
    (tmp_path / "x.mat").write_bytes(HEAD + content)
    assert "too deep in each other" in refused(read, tmp_path / "x.mat")


def test_caps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"X": ROWS, "y": WORDS[Y].astype(object)}, do_compression=True)
    for name, cap, says in (
        ("_MAX_MATRICES", 5, "too many variables"),
        ("_MAX_TEXT", 5, "holds the arrays X (12, 64): name a pair"),
        ("MAX_BYTES", path.stat().st_size, "unpacks to more than"),
        ("MAX_BYTES", 100, "holds more than 100 bytes, the cap"),
    ):
        with monkeypatch.context() as capped:
            capped.setattr(mat, name, cap)
            assert says in refused(read, path)
    path.write_bytes(HEAD + mat_element(15, zlib.compress(bytes(40_000_000)), padded=False))
    assert "as a decompression bomb does" in refused(read, path)


@given(
    images=hnp.arrays(
        st.sampled_from(["u1", "i2", "f4", "f8", "?"]), hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=5)
    ),
    packed=st.booleans(),
)
def test_mat_round_trip(tmp_path: Path, images: np.ndarray, packed: bool) -> None:
    labels = np.arange(len(images))[:, None]
    savemat(tmp_path / "x.mat", {"images": images, "labels": labels}, do_compression=packed)
    split = read_mat(tmp_path / "x.mat")["train"]
    assert split.images.tobytes() == images.tobytes()
    assert split.labels.tolist() == labels.tolist()


@given(cut=st.integers(0, 900), at=st.integers(124, 900), content=st.binary(max_size=12), packed=st.booleans())
def test_damaged_mat_gives_data_errors_only(tmp_path: Path, cut: int, at: int, content: bytes, packed: bool) -> None:
    whole = mat_file({"X": X[:4, 0], "y": Y[:4, None], "c": ["a", "bc"], "s": {"z": Y}}, packed=packed)
    path = tmp_path / "damaged.mat"
    for damaged in (whole[:cut], whole[:at] + content + whole[at + len(content) :], whole[:128] + content):
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
