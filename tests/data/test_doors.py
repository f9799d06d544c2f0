"""The door of all files: folders, archives and parts in files of their own, and what is passed over beside them."""

import gzip
import io
import logging
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.data import DataError, load_data, packed, read, write_idx
from xpnet.data.packed import open_archive

from .examples import keras_arrays, refused, small, write_quartet

X, Y = small(12, (8, 8))
MAC = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60)


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xpnet")


def csv_of(images: np.ndarray = X, labels: np.ndarray = Y, header: bool = False) -> bytes:
    file = io.BytesIO()
    names = ",".join(["label", *(f"pixel{i}" for i in range(64))]) if header else ""
    np.savetxt(file, np.c_[labels, images.reshape(len(images), -1)], "%d", delimiter=",", header=names, comments="")
    return file.getvalue()


def idx_of(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def npz_of(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zipped(path: Path, files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


KINDS = {
    "idx": {"train-images.idx3-ubyte": idx_of(X), "train-labels.idx1-ubyte": idx_of(Y)},
    "idx.gz": {
        "train-images-idx3-ubyte.gz": gzip.compress(idx_of(X)),
        "train-labels-idx1-ubyte.gz": gzip.compress(idx_of(Y)),
    },
    "csv": {"train.csv": csv_of()},
    "csv.gz": {"train.csv.gz": gzip.compress(csv_of())},
    "npz": {"mnist.npz": npz_of(x_train=X, y_train=Y)},
    "npy": {"x_train.npy": b"", "y_train.npy": b""},
    "pickle": {"mnist.pkl": pickle.dumps({"train_img": X, "train_label": Y})},
}
for key, array in (("x_train.npy", X), ("y_train.npy", Y)):
    npy = io.BytesIO()
    np.save(npy, array)
    KINDS["npy"][key] = npy.getvalue()

JUNK = {
    "__MACOSX/._train.csv": MAC,
    "._train-images.idx3-ubyte": MAC,
    ".DS_Store": MAC,
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "desktop.ini": b"[.ShellClassInfo]",
    "README.md": b"# of 1, 2\n",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", ["", "set/", "archive/set/of mine/"])
def test_archives_of_any_kind_are_read_in_place(tmp_path: Path, kind: str, folder: str) -> None:
    files = {folder + name: content for name, content in (JUNK | KINDS[kind]).items()}
    (tmp_path / "plain").mkdir()
    for name, content in files.items():
        (tmp_path / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / name).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    paths = [
        zipped(tmp_path / "archive.zip", files),
        tarred(tmp_path / "archive.tar", files),
        tarred(tmp_path / "archive.tar.gz", {"./" + name: content for name, content in files.items()}),
        tarred(tmp_path / "archive.tgz", files, tarfile.GNU_FORMAT),
        zipped(tmp_path / "no suffix", files),
        tarred(tmp_path / "nor here", files),
    ]
    for path in [tmp_path / "plain", *paths]:
        data = read(path)
        assert (data.train.images == X).all()
        assert data.train.labels.tolist() == Y.tolist()
        assert (data.name, data.source) == (path.name, str(path))
    assert sorted(tmp_path.rglob("*")) == sorted([*before, *paths])


def test_one_packed_file(tmp_path: Path) -> None:
    (tmp_path / "mine.csv.gz").write_bytes(gzip.compress(csv_of()))
    (tmp_path / "x.npz.gz").write_bytes(gzip.compress(npz_of(x=X, y=Y)))
    zipped(tmp_path / "mine.csv.zip", {"mine.csv": csv_of()})
    for name in ("mine.csv.gz", "x.npz.gz", "mine.csv.zip"):
        assert (read(tmp_path / name).train.images == X).all()


def test_parts_beside_each_other(tmp_path: Path) -> None:
    test = csv_of(X[:4], Y[:4])
    for folder, names in {
        "plain": ("mnist_train.csv", "mnist_test.csv"),
        "packed": ("train.csv.gz", "test.csv.gz"),
        "uci": ("optdigits.tra", "optdigits.tes"),
        "capital": ("MNIST-Training.csv", "MNIST-Testing.csv"),
    }.items():
        (tmp_path / folder).mkdir()
        for name, content in zip(names, (csv_of(), test), strict=True):
            (tmp_path / folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        data = read(tmp_path / folder / names[0])
        assert data.test is not None
        assert len(data.test) == 4
    zipped(tmp_path / "train.csv.zip", {"train.csv": csv_of()})
    zipped(tmp_path / "test.csv.zip", {"test.csv": test})
    zipped(tmp_path / "both.zip", {"train.csv": csv_of(), "test.csv": test, "val.csv": csv_of(X[:5], Y[:5])})
    for name in ("train.csv.zip", "both.zip"):
        assert len(read(tmp_path / name).test or ()) == 4
    assert len(read(tmp_path / "both.zip").validation or ()) == 5


def test_an_unlabelled_sibling_is_passed_over_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"pixel{i}" for i in range(64)]
    (tmp_path / "train.csv").write_bytes(csv_of(header=True))
    rows = "\n".join(",".join(map(str, [i, *x.ravel()])) for i, x in enumerate(X))
    (tmp_path / "test.csv").write_text(",".join(["id", *names]) + "\n" + rows + "\n")
    assert read(tmp_path).test is None
    assert "test.csv has no label column; continuing without a test split" in caplog.text


# --- parts that are named --------------------------------------------------------------------------------------------


def test_test_and_validation_may_be_any_files(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(csv_of())
    (tmp_path / "other.npz").write_bytes(npz_of(images=X[:3], labels=Y[:3]))
    (tmp_path / "more").mkdir()
    write_idx(tmp_path / "more" / "t10k-images-idx3-ubyte", X[:5])
    write_idx(tmp_path / "more" / "t10k-labels-idx1-ubyte", Y[:5])
    images = tmp_path / "more" / "t10k-images-idx3-ubyte"
    for function in (read, load_data):
        data = function(tmp_path / "mine.csv", test=tmp_path / "other.npz", validation=images)
        assert data.test is not None
        assert data.validation is not None
        assert [len(split) for split in (data, data.test, data.validation)] == [12, 3, 5]


def test_a_named_test_table_is_read_as_the_training_table_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("width,kind,height\n" + "".join(f"{i},{'xy'[i % 2]},{i * i}\n" for i in range(9)))
    (tmp_path / "b.csv").write_text("height,width,kind\n4,2,x\n9,3,y\n")
    data = read(tmp_path / "a.csv", label="kind", test=tmp_path / "b.csv", scale="minmax")
    assert data.test is not None
    assert data.test.images.tolist() == [[2, 4], [3, 9]]
    assert data.test.labels.tolist() == ["x", "y"]
    assert (data.task, data.scale) == ("classification", "minmax")
    (tmp_path / "c.csv").write_text("width,kind,height\n3,z,9\n")
    with pytest.raises(DataError, match=r"c\.csv: label 'z' of line 2 is not a class of the training split"):
        read(tmp_path / "a.csv", label="kind", validation=tmp_path / "c.csv")


def test_a_label_is_for_tables(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz_of(x=X, y=Y))
    with pytest.raises(DataError, match=r"x\.npz: a label column can be named for a table only"):
        read(tmp_path / "x.npz", label="y")


def test_a_named_part_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(csv_of())
    with pytest.raises(DataError, match="none: no such file or folder"):
        read(tmp_path / "mine.csv", test=tmp_path / "none")


# --- folders ---------------------------------------------------------------------------------------------------------


def test_torchvision_s_root_and_the_folders_in_it(tmp_path: Path) -> None:
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    write_quartet(raw)
    write_quartet(raw, "{}-{}-idx{}-ubyte.gz")
    for path in (raw, raw.parent, raw.parent.parent):
        data = read(path)
        assert data.test is not None
        assert len(data) == len(data.test) == 6
    other = tmp_path / "root" / "FashionMNIST" / "raw"
    other.mkdir(parents=True)
    write_quartet(other)
    assert "several sets (FashionMNIST, MNIST); name one of them" in refused(read, tmp_path / "root")


def test_files_that_were_unpacked_to_a_folder_each(tmp_path: Path) -> None:
    write_quartet(tmp_path)
    for file in sorted(tmp_path.iterdir()):
        content = file.read_bytes()
        file.unlink()
        file.mkdir()
        (file / file.name.replace("-idx", ".idx")).write_bytes(content)
    data = read(tmp_path)
    assert data.test is not None
    assert (data.train.images == small(6, seed=1)[0]).all()


def test_a_user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "mine.csv").write_bytes(csv_of())
    for function in (read, load_data):
        data = function("~/mine.csv", test="~/mine.csv")
        assert len(data) == 12
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "mine.csv").write_bytes(csv_of(X[:6], Y[:6]))
    assert len(read("~/mine.csv")) == 6
    assert "no such file" in refused(read, Path("~nobody-of-that-name/x.csv"))


def test_a_name_that_is_no_utf_8_is_found_by_how_settings_have_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "xpnet")  # what pytest shows must be UTF-8
    path = tmp_path / os.fsdecode(b"latin-\xe9.csv")
    try:
        path.write_bytes(csv_of())
    except OSError:
        pytest.skip("this file system has no such names")
    escaped = str(path).encode(errors="backslashreplace").decode()
    assert escaped.endswith(r"latin-\udce9.csv")
    assert len(read(escaped)) == 12
    Path(escaped).write_bytes(csv_of(X[:6], Y[:6]))
    assert len(read(escaped)) == 6


def test_a_folder_called_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    write_quartet(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    for name in ("data", "data/", "./data", "."):
        data = load_data(name)
        assert (data.name, len(data)) == (tmp_path.name if name == "." else "data", 6)


@pytest.mark.parametrize("name", ["größe ü", "два файла", "a b\tc", "latin-\\xe9"])
def test_names_of_any_kind(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "xpnet")  # what pytest shows must be UTF-8
    name = os.fsdecode(name.encode().replace(b"\\xe9", b"\xe9"))
    try:
        (tmp_path / name).mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    (tmp_path / name / f"{name}.csv").write_bytes(csv_of())
    for path in (tmp_path / name, tmp_path / name / f"{name}.csv"):
        data = read(path)
        assert len(data) == 12
    zipped(tmp_path / name / f"{name}.zip", {"größe ü/два.csv": csv_of()})
    assert len(read(tmp_path / name / f"{name}.zip")) == 12
    (tmp_path / name / f"{name}.csv").write_bytes(b"1,2\n1,2,3\n")
    with pytest.raises(DataError, match="line 2 has 3 columns") as caught:
        read(tmp_path / name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file; save its arrays by np.savez"),
        (b"BZh91AY", "unpack it first"),
        (b"\xfd7zXZ\0", "unpack it first"),
        (b"7z\xbc\xaf\x27\x1c", "unpack it first"),
        (b"\x89PNG\r\n\x1a\n", "a single picture; a set is a folder of pictures for each class"),
        (b"\xd0\xcf\x11\xe0", "save it as CSV"),
        (b"plain words, and commas", "neither its name nor its content"),
        (b"", "empty"),
    ],
)
def test_contents_that_are_not_read_say_what_to_do(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert says in refused(read, tmp_path / "x")


@pytest.mark.parametrize(("name", "says"), [("x.xlsx", "a spreadsheet; save it as CSV"), ("training.pt", "np.savez")])
def test_names_that_are_not_read_say_what_to_do(tmp_path: Path, name: str, says: str) -> None:
    assert says in refused(read, zipped(tmp_path / name, {"xl/workbook.xml": b"<xml>1,2</xml>"}))


# --- archives that are hostile, damaged or odd -----------------------------------------------------------------------


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "nothing readable"),
        ({"a/b/readme": b"words"}, "nothing readable"),
        ({"../train.csv": csv_of()}, "odd name"),
        ({"/etc/train.csv": csv_of()}, "odd name"),
        ({"a//train.csv": csv_of()}, "odd name"),
        ({"a/" * 17 + "train.csv": csv_of()}, "odd name"),
        ({"a" * 200 + ".csv": csv_of()}, "odd name"),
        ({"a.csv": csv_of(), "b.csv": csv_of()}, "several sets (a.csv, b.csv)"),
        ({"in.zip": b"PK\3\4"}, "in.zip: an archive within an archive; unpack it"),
    ],
)
def test_odd_archives(tmp_path: Path, pack: Callable[..., Path], files: dict[str, bytes], says: str) -> None:
    assert says in refused(read, pack(tmp_path / ("x.zip" if pack is zipped else "x.tar"), files))


def test_a_tar_s_links_and_devices_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_bytes(csv_of())
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in (("a.csv", tarfile.SYMTYPE), ("b.csv", tarfile.LNKTYPE), ("c.csv", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.csv")
            archive.addfile(info)
        info = tarfile.TarInfo("d")
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    assert "nothing readable" in refused(read, tmp_path / "x.tar")


@given(
    files=st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "ü" * 30, "c" * 60]), min_size=1, max_size=3).map("/".join),
        st.binary(max_size=1100),
        max_size=4,
    ),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    packed_by=st.sampled_from(["x.tar", "x.tar.gz"]),
)
def test_tars_of_every_kind_hold_what_was_put_in(
    tmp_path: Path, files: dict[str, bytes], form: int, packed_by: str
) -> None:
    files = {name: content for name, content in files.items() if len(name.encode()) < 100 or form}
    files = {name: files[name] for name in files if not any(other.startswith(f"{name}/") for other in files)}
    tarred(tmp_path / packed_by, files, form)
    with open_archive(tmp_path / packed_by) as root:
        assert {name: (root / name).open().read() for name in files} == files
        assert all((root / name).is_file() and (root / name).parent.is_dir() for name in files)
        assert root.archive.files.keys() == files.keys()


@given(at=st.integers(0, 3000), content=st.binary(min_size=1, max_size=6), kind=st.sampled_from([zipped, tarred]))
def test_damaged_archives_give_data_errors_only(
    tmp_path: Path, at: int, content: bytes, kind: Callable[..., Path]
) -> None:
    path = kind(tmp_path / "x", {"in/train.csv": csv_of(), "in/a" + "b" * 120: b"words"})
    whole = path.read_bytes()
    for damaged in (whole[: at % len(whole)], whole[:at] + content + whole[at + len(content) :]):
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError as error:
            assert str(error).startswith(str(path))  # noqa: PT017 - a changed pixel can't be seen
            assert "\n" not in str(error)  # noqa: PT017


def test_an_archive_is_held_to_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "x.zip", {f"{i}.csv": bytes(9_000_000) for i in range(4)})
    assert "decompression bomb" in refused(read, path)
    path = tarred(tmp_path / "x.tgz", {f"{i}.csv": bytes(9_000_000) for i in range(4)})
    assert "decompression bomb" in refused(read, path)
    monkeypatch.setattr(packed, "MAX_BYTES", 1000)
    for path in (zipped(tmp_path / "y.zip", KINDS["csv"]), tarred(tmp_path / "y.tar", KINDS["csv"])):
        assert "holds more than 1000 bytes, the cap; unpack it" in refused(read, path)
    monkeypatch.setattr(packed, "_MAX_FILES", 2)
    path = tarred(tmp_path / "z.tar", {"a": b"", "b": b"", "c": b""})
    monkeypatch.setattr(packed, "MAX_BYTES", 1 << 20)
    assert "holds more than 2 files" in refused(read, path)


def test_an_npz_within_a_zip_is_held_to_both_sizes(tmp_path: Path) -> None:
    bomb = npz_of(x=np.zeros((1000, 64_000), np.uint8), y=np.zeros(1000, np.uint8))
    path = zipped(tmp_path / "x.zip", {"in.npz": bomb})
    assert "decompression bomb" in refused(read, path)
    path = zipped(tmp_path / "y.zip", {"in.npz": npz_of(**keras_arrays())})
    assert read(path).test is not None
