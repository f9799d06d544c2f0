"""Pictures in folders, one for each class: found, read, brought to one size, left out, kept."""

import io
import logging
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xpnet.data import DataError, read, read_picture
from xpnet.data.formats import folders

from .examples import refused

RNG = np.random.default_rng(5)
PICTURES = RNG.integers(0, 256, (12, 9, 7), dtype=np.uint8)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    monkeypatch.setattr(folders, "user_cache", lambda: tmp_path / "cache")
    caplog.set_level(logging.INFO, "xpnet")
    return tmp_path / "cache"


def lay(folder: Path, classes: dict[str, int], form: str = "png", pictures: np.ndarray = PICTURES) -> Path:
    """Write so many pictures of each class, counted through."""
    i = 0
    for name, n in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for _ in range(n):
            Image.fromarray(pictures[i % len(pictures)]).save(folder / name / f"{i:03}.{form}")
            i += 1
    return folder


@pytest.mark.parametrize(
    ("train", "test", "validation"),
    [("train", "test", "val"), ("Training", "testing", "valid"), ("train_set", "TEST", "")],
)
def test_train_and_test_of_folders(tmp_path: Path, train: str, test: str, validation: str) -> None:
    top = tmp_path / "mnist_png"
    lay(top / train, {"3": 2, "10": 1, "0": 2})
    lay(top / test, {"10": 1, "3": 1})
    if validation:
        lay(top / validation, {"0": 1})
    for path in (top, tmp_path):
        data = read(path)
        assert data.classes == (0, 3, 10)
        assert data.train.labels.tolist() == [0, 3, 10, 0, 3]
        assert (data.train.images == PICTURES[[3, 0, 2, 4, 1]]).all()
        assert data.test is not None
        assert data.test.labels.tolist() == [3, 10]
        assert (data.validation is not None) == bool(validation)
        assert data.train.images.dtype == np.uint8


def test_classes_directly_below_and_called_by_words(tmp_path: Path) -> None:
    lay(tmp_path / "pets", {"dog": 2, "cat": 3, "Тигр": 1})
    (tmp_path / "pets" / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "pets" / "cat" / "._000.png").write_bytes(b"x")
    (tmp_path / "pets" / "cat" / "notes.txt").write_bytes(b"x")
    (tmp_path / "pets" / ".ipynb_checkpoints").mkdir()
    data = read(tmp_path / "pets")
    assert data.classes == ("cat", "dog", "Тигр")
    assert data.train.labels.tolist() == ["cat", "dog", "Тигр", "cat", "dog", "cat"]
    assert read(tmp_path / "pets", test=tmp_path / "pets").test is not None


def test_numbers_that_are_not_all_different_stay_words(tmp_path: Path) -> None:
    lay(tmp_path, {"1": 1, "01": 1})
    assert read(tmp_path).classes == ("01", "1")
    lay(tmp_path / "b", {"08": 1, "-1": 1})
    assert read(tmp_path / "b").classes == (-1, 8)


@pytest.mark.parametrize("form", ["png", "jpg", "JPEG", "webp", "bmp", "tif", "gif"])
def test_formats(tmp_path: Path, form: str) -> None:
    flat = np.repeat(np.array([0, 90, 255], np.uint8), 64).reshape(3, 8, 8)
    lay(tmp_path, {"a": 2, "b": 1}, form, flat)
    images = read(tmp_path).train.images
    assert images.shape == (3, 8, 8)
    assert np.abs(images[[0, 2, 1]].astype(int) - flat).max() <= 2


def test_colours_are_read_as_bright_as_they_are(tmp_path: Path) -> None:
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 255, 0))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (5, 5), colour).save(tmp_path / name / "x.png")
    images = read(tmp_path).train.images
    assert images[:, 2, 2].tolist() == [150, 76]


@pytest.mark.parametrize(("brightest", "warned"), [(65535, False), (4095, True)])
def test_pictures_that_are_not_equally_bright(
    tmp_path: Path, brightest: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each deep picture decides by itself what is white; those of 8 bits beside them are as they are."""
    for name, white, kind in (("a", 65535, np.uint16), ("b", brightest, np.uint16), ("c", 9, np.uint8)):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(np.array([[0, white]], kind)).save(tmp_path / "set" / name / "1.png")
    data = read(tmp_path / "set")
    assert data.train.images[:, 0, 1].tolist() == [255, 255, 9]
    found = [message for message in caplog.messages if "white is 4095 in one and 65535 in another" in message]
    assert len(found) == warned


@pytest.mark.parametrize(("kind", "suffix", "brightest"), [(np.uint16, "png", 60_000), (np.float32, "tiff", 200)])
def test_a_black_picture_does_not_show_what_is_white(
    tmp_path: Path, kind: type, suffix: str, brightest: float, caplog: pytest.LogCaptureFixture
) -> None:
    for name, white in (("a", brightest), ("b", 0)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.array([[0, white]], kind)).save(tmp_path / name / f"1.{suffix}")
    assert read(tmp_path).train.images[:, 0, 1].tolist() == [234 if suffix == "png" else 200, 0]
    assert "white is" not in caplog.text


def test_sizes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay(tmp_path / "one", {"a": 2, "b": 1})
    assert read(tmp_path / "one").image_shape == (9, 7)
    assert "are brought to" not in caplog.text
    data = read(tmp_path / "one", size=12)
    assert data.image_shape == (12, 12)
    expected = read_picture(tmp_path / "one" / "a" / "000.png", "as-is", (12, 12))
    assert (data.train.images[0] == expected).all()
    assert read(tmp_path / "one", size=(4, 6)).image_shape == (4, 6)
    lay(tmp_path / "two", {"a": 2, "b": 1})
    lay(tmp_path / "two", {"c": 1}, pictures=PICTURES[:, :8])
    assert read(tmp_path / "two").image_shape == (28, 28)
    assert "two: pictures of several sizes are brought to 28x28; --size names another" in caplog.text
    lay(tmp_path / "large", {"a": 1, "b": 1}, pictures=np.zeros((2, 9, 300), np.uint8))
    assert read(tmp_path / "large").image_shape == (28, 28)
    assert "large: pictures of 9x300 are brought to 28x28" in caplog.text
    assert read(tmp_path / "two", test=tmp_path / "one").test is not None


def test_pictures_that_cannot_be_read_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay(tmp_path / "x", {"a": 7, "b": 4})
    for i in range(5):
        (tmp_path / "x" / "a" / f"00{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing" if i else b"")
    data = read(tmp_path / "x")
    assert data.train.labels.tolist() == ["b", "b", "b", "b", "a", "a"]
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 4
    assert "x/a/000.png: the file is empty; save the picture again; it is left out" in lines[0]
    assert "x: 2 more pictures cannot be read; they are left out" in lines[3]
    (tmp_path / "x" / "b").rename(tmp_path / "b")
    lay(tmp_path / "x", {"c": 1})
    (tmp_path / "x" / "c" / "000.png").write_bytes(b"")
    for name in ("005", "006"):
        (tmp_path / "x" / "a" / f"{name}.png").write_bytes(b"words")
    message = refused(read, tmp_path / "x")
    assert "nor can any other picture be read" in message


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({".": 2}, "but not in a folder for each of two classes or more"),
        ({"only": 2}, "but not in a folder for each of two classes or more"),
        ({"train": 2}, "but not in a folder for each of two classes or more"),
        ({"train/a": 2, "test/a": 1}, "every label is 'a'; at least two classes are needed"),
        ({"train/a": 2, "train/b": 1, "test/c": 1}, "test/c/002.png is not a class of the training split"),
        ({"train/a": 2, "training/b": 1}, "train and training may each hold the train pictures; rename all but one"),
    ],
)
def test_folders_that_are_no_classes(tmp_path: Path, classes: dict[str, int], says: str) -> None:
    lay(tmp_path, classes)
    if "test/c" in classes:
        (tmp_path / "test" / "c" / "003.png").rename(tmp_path / "test" / "c" / "002.png")
    assert says in refused(read, tmp_path)


def test_a_part_without_classes_and_a_class_without_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay(tmp_path / "train", {"a": 1, "b": 1})
    lay(tmp_path / "test", {".": 2})
    (tmp_path / "train" / "c").mkdir()
    data = read(tmp_path)
    assert (data.test, data.classes) == (None, ("a", "b"))
    assert "test: pictures without a folder for each class; continuing without" in caplog.text
    assert "train/c holds no pictures; it is no class" in caplog.text


def test_folders_within_the_folder_of_a_class_and_tables_beside(tmp_path: Path) -> None:
    lay(tmp_path / "train", {"a/2024/may": 1, "a": 1, "b/2025": 2})
    (tmp_path / "labels.csv").write_text("id,breed\n000bec,boston\n001513,dingo\n")
    assert read(tmp_path).train.labels.tolist() == ["a", "b", "a", "b"]
    rows = "".join(f"{i % 2},{i},{i * i}\n" for i in range(9))
    for name in ("curves", "figures"):
        lay(tmp_path / "mine" / name, {".": 1})
    (tmp_path / "mine" / "train.csv").write_text("label,u,v\n" + rows)
    assert read(tmp_path / "mine").image_shape == (2,)


def test_several_sets_of_folders(tmp_path: Path) -> None:
    for name in ("mnist_png", "fashion_png"):
        lay(tmp_path / name / "train", {"0": 1, "1": 1})
    assert "several sets (fashion_png, mnist_png); name one of them" in refused(read, tmp_path)


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_archives_of_folders(tmp_path: Path, suffix: str) -> None:
    top = lay(tmp_path / "set" / "train", {"3": 2, "5": 2}).parent
    path = tmp_path / f"set.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in top.rglob("*"):
                archive.write(file, file.relative_to(tmp_path))
    else:
        with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as tar:
            tar.add(top, "set")
    plain, packed = read(top), read(path)
    assert (plain.train.images == packed.train.images).all()
    assert plain.train.labels.tolist() == packed.train.labels.tolist()


def test_progress_is_in_bytes(tmp_path: Path) -> None:
    lay(tmp_path, {"a": 3, "b": 2})
    told: list[tuple[str, int, int | None]] = []
    read(tmp_path, progress=lambda *now: told.append(now))
    sizes = sum(file.stat().st_size for file in tmp_path.rglob("*.png"))
    assert told[-1] == ("reading pictures", sizes, sizes)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


# --- the cache -------------------------------------------------------------------------------------------------------


def test_what_took_long_is_kept_until_something_changes(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    top = lay(tmp_path / "set", {"a": 3, "b": 2})
    (top / "a" / "001.png").write_bytes(b"words")
    read(top)
    assert not elsewhere.exists()
    monkeypatch.setattr(folders, "WORTH_KEEPING", 0.0)
    first = read(top)
    assert len(list((elsewhere / "pictures").iterdir())) == 1
    monkeypatch.setattr(folders, "decode", None)
    caplog.clear()
    again = read(top)
    assert (first.train.images == again.train.images).all()
    assert first.train.labels.tolist() == again.train.labels.tolist()
    assert "taken from" in caplog.text
    assert "set/a/001.png: cannot be read; it is left out" in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(folders, "user_cache", lambda: elsewhere)
    monkeypatch.setattr(folders, "WORTH_KEEPING", 0.0)
    assert read(top, size=5).image_shape == (5, 5)
    Image.fromarray(255 - PICTURES[0]).save(top / "a" / "000.png")
    os.utime(top / "a" / "000.png", ns=(1, 1))
    assert (read(top).train.images[0] == 255 - PICTURES[0]).all()
    Image.fromarray(PICTURES[7]).save(top / "b" / "more.png")
    assert len(read(top)) == 5
    assert len(list((elsewhere / "pictures").iterdir())) == 2


@pytest.mark.parametrize("damage", ["words", "other", "empty", "beyond"])
def test_a_damaged_cache_is_read_anew(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    top = lay(tmp_path / "set", {"a": 3, "b": 2})
    monkeypatch.setattr(folders, "WORTH_KEEPING", 0.0)
    first = read(top)
    (kept,) = (elsewhere / "pictures").iterdir()
    with np.load(kept) as arrays:
        whole = dict(arrays)
    changed = {
        "other": whole | {"images": whole["images"].astype(np.float32)},
        "empty": whole | {"images": whole["images"][:0], "good": whole["good"][:0]},
        "beyond": whole | {"good": whole["good"] + 1},
    }
    content = io.BytesIO()
    np.savez(content, **changed.get(damage, {}))
    kept.write_bytes(b"words" if damage == "words" else content.getvalue())
    assert (read(top).train.images == first.train.images).all()


def test_a_cache_that_cannot_be_written_does_no_harm(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere.write_bytes(b"a file")
    monkeypatch.setattr(folders, "WORTH_KEEPING", 0.0)
    assert len(read(lay(tmp_path / "set", {"a": 1, "b": 1}))) == 2
    assert "the pictures are not kept for the next time" in caplog.text


def test_more_pictures_than_the_memory_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, {"a": 1, "b": 1})
    monkeypatch.setattr(folders, "MAX_BYTES", 100)
    assert "2 pictures of 9x7 take more than 100 bytes" in refused(read, tmp_path)


@given(contents=st.lists(st.binary(max_size=40), min_size=2, max_size=4), starts=st.booleans())
def test_whatever_lies_in_the_folders(tmp_path: Path, contents: list[bytes], starts: bool) -> None:
    for i, content in enumerate(contents):
        (tmp_path / "set" / str(i)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / str(i) / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" * starts + content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "set")
    assert "\n" not in str(caught.value)
