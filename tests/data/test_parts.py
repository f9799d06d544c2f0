"""Sets in parts: what is read of which file and when, what is checked, and that training from them changes nothing."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.cli import main
from xpnet.data import (
    DataError,
    Dataset,
    Parts,
    Split,
    is_mapped,
    load_data,
    mapped,
    read,
    rows_of,
    write_idx,
    write_parts,
)
from xpnet.data.formats import idx, parts
from xpnet.files import open_regular
from xpnet.training import loader
from xpnet.training.fit import fit
from xpnet.training.prepare import fingerprint, glimpse

N, K = 203, 3
LENGTHS = (70, 1, 100, 32)
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 6, 6), dtype=np.uint8)
LABELS = np.arange(N) % K
IMAGES[:, 3:, :] = 80 * LABELS[:, None, None]


def piece(split: str, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Four parts to train on; to test on, the second half in one."""
    ends = np.cumsum((0, *LENGTHS))
    rows = slice(ends[i], ends[i + 1]) if split == "train" else slice(100, N)
    return IMAGES[rows], LABELS[rows]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_parts(tmp_path / "set", piece, train=4, test=1, classes=K)
    return tmp_path / "set"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened, one at a time."""
    names: list[str] = []
    files: list[Any] = []

    def counted(path: Any) -> Any:
        assert all(file.closed for file in files), "one is open at a time"
        names.append(Path(path).name)
        files.append(open_regular(path))
        return files[-1]

    monkeypatch.setattr(mapped, "open_regular", counted)
    return names


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    table = json.loads((folder / "manifest.json").read_text())
    change(table)
    (folder / "manifest.json").write_text(json.dumps(table))


def rewritten(folder: Path, i: int, kind: str, content: bytes) -> None:
    """Other content for a file, whose digest the manifest has."""
    (folder / f"train-{i:05}-of-00004-{kind}.idx").write_bytes(content)
    changed(folder, lambda table: table["train"][i].update({kind: hashlib.sha256(content).hexdigest()}))


def header(array: np.ndarray) -> bytes:
    return idx.idx_header(array.dtype, array.shape)


# As an array ---------------------------------------------------------------------------------------------------------


def test_parts_are_an_array(folder: Path) -> None:
    data = load_data(folder)
    images, labels = data.train
    assert repr(data) == "<Dataset set: 203 train, 103 test; 6x6 uint8, 3 classes>"
    assert repr(images) == "<Parts of uint8 (203, 6, 6) in 4 files>"
    assert (data.task, data.classes, data.source) == ("classification", (0, 1, 2), str(folder.resolve()))
    assert (images.shape, images.dtype, images.ndim, len(images)) == (IMAGES.shape, np.uint8, 3, N)
    assert (labels.shape, labels.dtype, labels.nbytes) == ((N,), np.int32, 4 * N)
    assert data.train.targets is labels
    assert is_mapped(images)
    assert is_mapped(labels[5:])
    assert np.array_equal(np.asarray(images), IMAGES)
    assert np.array_equal(data.test.images, IMAGES[100:])  # type: ignore[union-attr]
    for array, whole in ((images, IMAGES), (labels, LABELS)):
        for key in (
            *(0, -1, 202, np.int64(70), slice(69, 72), slice(None, None, 50), slice(100, 50), slice(-40, None)),
            *([5, 70, 71, 5, -1], np.arange(N)[::-1], np.array([], int), LABELS == 1, (slice(3, 9), ...), ...),
        ):
            assert np.array_equal(np.asarray(array[key]), whole[key])
        part = array[60:180]
        assert isinstance(part, Parts)
        assert np.array_equal(rows_of(part[11:], np.array([0, 99, 3])), whole[71:][[0, 99, 3]])
    assert np.array_equal(images[:, 3], IMAGES[:, 3])
    assert np.array_equal(np.asarray(images.reshape(N, -1)[7:80]), IMAGES.reshape(N, -1)[7:80])
    assert images.reshape((-1, 4, 9)).shape == (N, 4, 9)
    assert int((labels != LABELS).sum()) == int((labels != LABELS).sum()) == 0
    for wrong in (N, -N - 1, [0, N], 0.5, "a", [[1]]):
        with pytest.raises(IndexError):
            images[wrong]
    for shape in ((-1, 5), (36, N), (N, 6, 7)):
        with pytest.raises(ValueError, match="cannot become"):
            images.reshape(shape)
    some = data.train[np.array([200, 3])]
    assert np.array_equal(some.images, IMAGES[[200, 3]])
    assert np.array_equal(some.targets, LABELS[[200, 3]])
    assert len(data.take(80).train) == 80


@pytest.mark.parametrize("seed", range(5))
def test_any_rows_in_any_order(folder: Path, seed: int, opened: list[str]) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, N, int(rng.integers(0, 300)))
    images, labels = load_data(folder).train
    assert np.array_equal(rows_of(images, rows), IMAGES[rows])
    assert np.array_equal(rows_of(labels, rows), LABELS[rows])
    opened.clear()
    rows_of(images, rows)
    assert len(opened) == len(set(opened)), "each file is opened once"


def test_what_is_too_much_for_the_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = load_data(folder).train
    monkeypatch.setattr(mapped, "MAX_BYTES", 36 * 100)
    assert len(np.asarray(images[3:103])) == 100
    with pytest.raises(DataError, match="set: this would take all 203 examples into memory"):
        np.asarray(images)


# What is checked, and when -------------------------------------------------------------------------------------------


def test_a_file_is_checked_when_it_is_first_read(folder: Path, opened: list[str]) -> None:
    images, labels = load_data(folder).train
    assert set(opened) == {"train-00000-of-00004-images.idx"}, "whose pictures' form is that of all"
    opened.clear()
    assert images[171:].shape == (32, 6, 6)
    assert not opened
    for _ in range(2):
        rows_of(images, np.array([171, 180, 190]))
    assert opened == 3 * ["train-00003-of-00004-images.idx"]
    opened.clear()
    assert labels[70] == 1
    assert set(opened) == {"train-00001-of-00004-labels.idx"}
    fingerprint(load_data(folder))
    glimpse(load_data(folder))
    assert "train-00002-of-00004-images.idx" not in opened


def test_a_damaged_part_is_named_when_it_is_read(folder: Path) -> None:
    path = folder / "train-00002-of-00004-images.idx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    data = load_data(folder)
    assert np.array_equal(data.train.images[:71], IMAGES[:71])
    for _ in range(2):
        with pytest.raises(DataError, match=r"train-00002-of-00004-images\.idx: damaged: its SHA-256 is .* copy it"):
            rows_of(data.train.images, np.array([0, 100]))
    with pytest.raises(DataError, match="damaged"):
        fit(xpnet.MLP((36, 5, K)), data, epochs=1, progress=False)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_missing_short_or_long_part_is_named_before_the_run(folder: Path, kind: str) -> None:
    path = folder / f"train-00002-of-00004-{kind}.idx"
    content = path.read_bytes()
    for other, message in (
        (content[:-1], rf"{kind}\.idx: {len(content) - 1} bytes, but {len(content)} by the manifest; copy it again"),
        (content + b"x", rf"{kind}\.idx: {len(content) + 1} bytes, but"),
        (None, rf"{kind}\.idx: No such file or directory, but it is in the manifest"),
    ):
        path.unlink() if other is None else path.write_bytes(other)
        with pytest.raises(DataError, match=message):
            load_data(folder)


def test_a_part_with_its_digest_that_is_no_such_array(folder: Path) -> None:
    images = np.ascontiguousarray(IMAGES[70:71])
    rewritten(folder, 1, "images", header(images.reshape(1, 4, 9)) + images.tobytes())
    labels = np.array([*LABELS[171:-1], 3], np.uint8)
    rewritten(folder, 3, "labels", header(labels) + labels.tobytes())
    data = load_data(folder)
    with pytest.raises(DataError, match=r"00001-of-00004-images\.idx: its header is not that of an IDX file of 1 such"):
        data.train.images[70]
    with pytest.raises(DataError, match=r"00003-of-00004-labels\.idx: label 3 of row 31 is not one of the 3 classes"):
        data.train.labels[190]


def test_a_part_that_changes_while_in_use(folder: Path) -> None:
    images, _ = load_data(folder).train
    path = folder / "train-00000-of-00004-images.idx"
    images[3]
    content = path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match=r"images\.idx: changed while in use \(it was written to\); leave it unchanged"):
        images[3]
    path.unlink()
    with pytest.raises(DataError, match=r"images\.idx: changed while in use \(No such file or directory\)"):
        images[3]


def test_links_are_followed_to_files_only(folder: Path, tmp_path: Path) -> None:
    """Parts may lie on several disks; what a link leads to has to have the digest."""
    path = folder / "train-00003-of-00004-images.idx"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert np.array_equal(load_data(folder).train.images[171:], IMAGES[171:])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"00003-of-00004-images\.idx: 0 bytes, but"):
        load_data(folder)


# The manifest --------------------------------------------------------------------------------------------------------


def deep(n: int) -> str:
    return "[" * n + "]" * n


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["train"][1].update(n=-1), "part 1 of train must have a length n, from 1 to 4294967295"),
        (lambda t: t["train"][1].update(n=0), "part 1 of train must have a length n"),
        (lambda t: t["train"][1].update(n=True), "part 1 of train must have a length n"),
        (lambda t: t["train"][1].update(n=1.0), "part 1 of train must have a length n"),
        (lambda t: t["train"][1].update(n=2**32), "part 1 of train must have a length n"),
        (lambda t: t["train"][1].update(n=2**32 - 1), "52 bytes, but 154618822636 by the manifest"),
        (lambda t: t["train"][1].update(n=10**4000), "part 1 of train must have a length n"),
        (lambda t: t["train"][1].update(images="../../etc/passwd"), "part 1 of train has no SHA-256 of its images"),
        (lambda t: t["train"][1].update(labels="A" * 64), "part 1 of train has no SHA-256 of its labels"),
        (lambda t: t["train"][1].pop("labels"), "part 1 of train has no SHA-256 of its labels"),
        (lambda t: t["train"].append(t["train"][0]), "train-00000-of-00005-images.idx: No such file"),
        (lambda t: t["train"].pop(), "train-00000-of-00003-images.idx: No such file"),
        (lambda t: t.update(train=[]), "train must be a list of 1 to 99999 parts"),
        (lambda t: t.update(train={"n": 1}), "train must be a list"),
        (lambda t: t.update(train=[1]), "part 0 of train must have a length n"),
        (lambda t: t.pop("train"), "train must be a list"),
        (lambda t: t.update(test=None), "test must be a list"),
        (lambda t: t.update(train=[{}] * 100_000), "train must be a list of 1 to 99999 parts"),
        (lambda t: t.update(shape=[]), "shape must be a list of one to three numbers"),
        (lambda t: t.update(shape=[6, -6]), "shape must be a list of one to three numbers"),
        (lambda t: t.update(shape=[2**31, 2**31]), "shape must be a list of one to three numbers"),
        (lambda t: t.update(shape=[2**20, 2**20]), "an image of 1099511627776 bytes; the cap is 1073741824"),
        (lambda t: t.update(shape=[6, 6, 3]), "pictures in colour"),
        (lambda t: t.update(shape=[6, 7]), "2536 bytes, but 2956 by the manifest"),
        (lambda t: t.update(labels="float64"), "labels must be uint8 or int32, not float64"),
        (lambda t: t.update(labels=[]), "labels must be uint8 or int32"),
        (lambda t: t.update(classes=1), "classes must be their number, 2 to 65536"),
        (lambda t: t.update(classes=10**9), "classes must be their number, 2 to 65536"),
        (lambda t: t.update(classes=["a", "a"]), "classes must be their number"),
        (lambda t: t.update(classes=["a", 3]), "classes must be their number"),
        (lambda t: t.update(format="other"), "not a manifest of parts: its format is not 'xpnet-parts-1'"),
    ],
)
def test_a_manifest_that_cannot_be_true(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    changed(folder, change)
    with pytest.raises(DataError, match="set/") as raised:
        load_data(folder)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"manifest\.json: not JSON"),
        (b"\xff\xfe", r"manifest\.json: not JSON"),
        (b"[1, 2]", "not a manifest of parts"),
        (b'{"format": ' + b"9" * 10_000 + b"}", "not JSON"),
        (deep(100_000).encode(), r"manifest\.json: not JSON"),
        (b" " * ((1 << 25) + 1), r"manifest\.json: larger than the 33,554,432 bytes"),
        (b"[" + b"[]," * 300_000 + b"[]]", r"manifest\.json: has too many entries; a set has at most 99999 parts"),
        (None, r"manifest\.json: missing, so that this set in parts is not complete; write it again"),
    ],
)
def test_a_manifest_that_is_none(folder: Path, content: bytes | None, message: str) -> None:
    path = folder / "manifest.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_data(folder)


def test_another_manifest_beside_other_data_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    np.savez(tmp_path / "x.npz", X=IMAGES, y=LABELS)
    assert len(load_data(tmp_path)) == N


def test_parts_are_found_in_a_folder_below_but_not_in_an_archive(folder: Path, tmp_path: Path) -> None:
    assert isinstance(read(tmp_path).train.images, Parts)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    with pytest.raises(DataError, match="holds a set in parts, which are read from a folder only; unpack it"):
        read(tmp_path / "set.zip")
    alone = read(folder / "train-00002-of-00004-images.idx")
    assert np.array_equal(alone.train.images, IMAGES[71:171]), "a part is an IDX file like any other"


# Writing -------------------------------------------------------------------------------------------------------------


def test_a_set_is_complete_or_is_none(tmp_path: Path) -> None:
    def broken(split: str, i: int) -> tuple[np.ndarray, np.ndarray]:
        if i == 2:
            raise KeyboardInterrupt
        return piece(split, i)

    with pytest.raises(KeyboardInterrupt):
        write_parts(tmp_path / "set", broken, train=4, classes=K)
    assert not [path for path in (tmp_path / "set").iterdir() if path.name.startswith(".")]
    with pytest.raises(DataError, match="not complete; write it again"):
        load_data(tmp_path / "set")
    seen: list[Any] = []
    write_parts(tmp_path / "set", piece, train=4, classes=K, progress=lambda *what: seen.append(what))
    assert seen == [("writing set", i, 4) for i in (1, 2, 3, 4)]
    assert np.array_equal(load_data(tmp_path / "set").train.images, IMAGES)
    with pytest.raises(DataError, match="set: holds a set in parts already; name another folder"):
        write_parts(tmp_path / "set", piece, train=4, classes=K)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:5] / 255, LABELS[:5], "images must be bytes, .* not float64 of shape"),
        (IMAGES[:5, 0, 0], LABELS[:5], "images must be bytes"),
        (IMAGES[:5, :, :, None].repeat(3, axis=3), LABELS[:5], "pictures in colour"),
        (IMAGES[:0], LABELS[:0], "images must be bytes"),
        (IMAGES[:5, :5], LABELS[:5], r"images of shape \(5, 6\), but those of the first part are \(6, 6\)"),
        (IMAGES[:5], LABELS[:4], "labels must be a whole number for each of 5, not int64"),
        (IMAGES[:5], LABELS[:5] / 1.0, "labels must be a whole number"),
        (IMAGES[:5], LABELS[:5] - 1, "label -1 is not one of the 3 classes"),
        (IMAGES[:5], LABELS[:5] + 1, "label 3 is not one of the 3 classes"),
    ],
)
def test_parts_that_cannot_be_written(tmp_path: Path, images: np.ndarray, labels: np.ndarray, message: str) -> None:
    def second(split: str, i: int) -> tuple[np.ndarray, np.ndarray]:
        return (images, labels) if i else piece(split, i)

    with pytest.raises(DataError, match=f"set: part 1 of train: {message}"):
        write_parts(tmp_path / "set", second, train=2, classes=K)
    for train, test in ((0, 0), (100_000, 0), (50_000, 50_000), (1, -1)):
        with pytest.raises(DataError, match="a set has at most 99999 parts, and at least one to train on"):
            write_parts(tmp_path / "set", piece, train=train, test=test, classes=K)


def test_names_of_classes_and_labels_beyond_bytes(tmp_path: Path) -> None:
    write_parts(tmp_path / "named", piece, train=4, classes=["ant", "bee", "cat"])
    data = load_data(tmp_path / "named")
    assert data.classes == ("ant", "bee", "cat")
    model = fit(xpnet.MLP((36, 9, K)), data, epochs=9, batch_size=8, progress=False).model
    assert set(model.predict(IMAGES)) <= {"ant", "bee", "cat"}
    assert model.evaluate(*data.train).accuracy > 0.9
    labels = np.arange(N) + 300
    write_parts(tmp_path / "many", lambda split, i: (IMAGES, labels), train=1, validation=1, classes=1000)
    data = load_data(tmp_path / "many")
    assert np.array_equal(data.train.labels, labels)
    assert data.validation is not None
    assert idx.read_idx(tmp_path / "many" / "train-00000-of-00001-labels.idx").dtype == np.int32


def test_rows_of_pixels_become_pictures_as_in_one_file(tmp_path: Path) -> None:
    write_parts(tmp_path / "set", lambda split, i: (IMAGES.reshape(N, 36), LABELS), train=1, classes=K)
    assert load_data(tmp_path / "set").image_shape == (6, 6)


# Training ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The same set in one mapped file; windows of 40 images, in chunks of 8."""
    monkeypatch.setattr(idx, "MAPPED_SHARE", 0.0)
    monkeypatch.setattr(loader, "CHUNK_BYTES", 36 * 8)
    monkeypatch.setattr(loader, "WINDOW_BYTES", 36 * 40)
    write_idx(tmp_path / "one-images.idx", IMAGES)
    write_idx(tmp_path / "one-labels.idx", LABELS.astype(np.uint8))
    data = read(tmp_path / "one-images.idx")
    return dataclasses.replace(data, test=Split(IMAGES[100:], LABELS[100:]))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"validation": 0.2, "early_stopping": 2, "class_weight": "balanced", "augment": True, "dropout": 0.2},
        {"test_each_epoch": True, "batch_norm": True, "validation": 20},
        {"library": "torch", "optimizer": "adamw"},
    ],
)
def test_training_from_parts_has_the_bits_of_one_file(
    folder: Path, one_file: Dataset, settings: dict[str, Any]
) -> None:
    if library := settings.get("library"):
        pytest.importorskip(library, reason=f"{library} is one of the libraries")
        settings = {**settings, "backend": xpnet.select("cpu", library)}
        del settings["library"]
    if settings.get("augment"):
        settings["augment"] = xpnet.Distortion()
    options: dict[str, Any] = {"batch_size": 8, "epochs": 2, "progress": False}
    described = {name: settings.pop(name) for name in ("dropout", "batch_norm") if name in settings}
    found, expected = (
        fit(xpnet.MLP((36, 9, K), **described), data, **options, **settings) for data in (load_data(folder), one_file)
    )
    for mine, other in zip(found.model.params, expected.model.params, strict=True):
        assert np.array_equal(np.asarray(mine), np.asarray(other))
    for epoch, same in zip(found.history, expected.history, strict=True):
        assert (epoch.train_loss, epoch.validation_loss) == (same.train_loss, same.validation_loss)
        assert epoch.test_accuracy == same.test_accuracy


def test_a_run_is_resumed_with_the_same_parts_only(folder: Path, one_file: Dataset, tmp_path: Path) -> None:
    network = xpnet.MLP((36, 9, K))
    options: dict[str, Any] = {"batch_size": 8, "progress": False, "checkpoint_every": 7, "schedule": "constant"}
    whole = fit(network, load_data(folder), epochs=3, **options).model.params
    run = tmp_path / "run"
    for epochs in (1, 3):
        resumed = fit(network, load_data(folder), epochs=epochs, out=run, resume=True, **options)
    assert all(np.array_equal(a, b) for a, b in zip(whole, resumed.model.params, strict=True))
    images = IMAGES[70:71] ^ 1
    rewritten(folder, 1, "images", header(images) + images.tobytes())
    with pytest.raises(xpnet.ConfigError, match="data"):
        fit(network, load_data(folder), epochs=4, out=run, resume=True, **options)


MEMORY = """
import resource, sys
import numpy as np, xpnet
from xpnet.data import load_data
from xpnet.training import loader
loader.WINDOW_BYTES, loader.CHUNK_BYTES = 2**20, 2**15
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
xpnet.fit(xpnet.MLP((784, 3)), load_data("small"), epochs=1, batch_size=500, progress=False)
before = peak()
xpnet.fit(xpnet.MLP((784, 3)), load_data("large"), epochs=1, batch_size=500, progress=False)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_the_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    """78 MB go through windows of 1 MB, and nothing of them stays, neither what was checked nor what was read."""
    images, labels = np.zeros((20_000, 784), np.uint8), np.arange(20_000) % 3
    write_parts(tmp_path / "small", lambda split, i: (images[:1000], labels[:1000]), train=2, classes=3)
    write_parts(tmp_path / "large", lambda split, i: (images, labels), train=5, classes=3)
    grown = float(subprocess.check_output([sys.executable, "-c", MEMORY], cwd=tmp_path, text=True))
    assert grown < 20


def test_what_makes_a_fingerprint(folder: Path) -> None:
    def found() -> Iterator[str]:
        data = load_data(folder)
        yield fingerprint(data)
        yield glimpse(data)
        yield fingerprint(data.take(100))
        yield fingerprint(dataclasses.replace(data, train=data.train[3:103]))
        yield fingerprint(data, np.ones(N))

    before = list(found())
    assert len(set(before)) == 5
    assert list(found()) == before
    labels = np.array([2], np.uint8)
    rewritten(folder, 1, "labels", header(labels) + labels.tobytes())
    assert not set(found()) & set(before)


def test_other_splits_beside_parts(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", X=IMAGES, y=LABELS)
    data = read(folder, test=tmp_path / "other.npz", validation=folder)
    assert np.array_equal(data.test.images, IMAGES)  # type: ignore[union-attr]
    assert isinstance(data.validation.images, Parts)  # type: ignore[union-attr]
    data = read(tmp_path / "other.npz", test=folder)
    assert np.array_equal(data.test.images, IMAGES)  # type: ignore[union-attr]
    assert np.array_equal(data.test.labels, LABELS)  # type: ignore[union-attr]
    np.savez(tmp_path / "five.npz", X=IMAGES, y=np.arange(N) % 5)
    with pytest.raises(DataError, match=r"label 3 of .* is not a class of the training split"):
        read(folder, test=tmp_path / "five.npz")
    write_parts(tmp_path / "fifths", lambda split, i: (IMAGES, np.arange(N) % 5), train=1, classes=5)
    with pytest.raises(DataError, match="label 3 of row 3 is not a class of the training split"):
        read(tmp_path / "other.npz", test=tmp_path / "fifths", task="classification")
    np.savez(tmp_path / "floats.npz", X=IMAGES / 7.0, y=LABELS)
    for first, second in ((folder, tmp_path / "floats.npz"), (tmp_path / "floats.npz", folder)):
        with pytest.raises(DataError, match="split is in parts and stays as it is: images of bytes, unlike"):
            read(first, test=second)
    with pytest.raises(DataError, match="the labels of a set in parts are classes: its task cannot be regression"):
        read(folder, task="regression")
    with pytest.raises(DataError, match="a label column can be named for a table only"):
        read(folder, label="y")


def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    train = ["train", "--data", "set", "--epochs", "1", "--validation", "0.2"]
    assert main([*train, "--out", "run"]) == 0
    assert "162 training, 41 validation, 103 test images of 6x6 streamed from the files" in capsys.readouterr().err
    for arguments in (["evaluate", "run"], ["predict", "run", "--index", "3", "102"], ["data", "show", "set"]):
        assert main(arguments) == 0
    assert main(["data", "split", "set", "again", "--parts", "5"]) == 0
    assert "set is in again: 5 parts of train and 3 parts of test" in capsys.readouterr().out
    again = load_data("again")
    assert np.array_equal(again.train.images, IMAGES)
    assert np.array_equal(again.train.labels, LABELS)
    assert np.array_equal(again.test.labels, LABELS[100:])  # type: ignore[union-attr]
    np.savez("named.npz", X=IMAGES, y=np.array(["ant", "bee", "cat"])[LABELS])
    assert main(["data", "split", "named.npz", "named"]) == 0
    assert load_data("named").classes == ("ant", "bee", "cat")
    capsys.readouterr()
    np.savez("numbers.npz", X=IMAGES, y=LABELS + 0.5)
    np.savez("nothing.npz", X=IMAGES)
    for arguments, message in (
        (["set", "again"], "again: holds a set in parts already"),
        (["set", "other", "--parts", "204"], "--parts must be 1 to 203, not 204"),
        (["numbers.npz", "other"], "numbers.npz is for regression: only sets of images and their classes"),
        (["moons", "other"], "part 0 of train: images must be bytes"),
        (["nothing.npz", "other"], "nothing.npz"),
    ):
        assert main(["data", "split", *arguments]) in (1, 2)
        assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("other").exists()


def test_the_manifest_has_a_line_for_each_part(folder: Path) -> None:
    lines = (folder / parts.MANIFEST).read_text().splitlines()
    assert sum('"n": ' in line for line in lines) == 5
    assert max(map(len, lines)) < 200
