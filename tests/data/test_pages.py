"""Pages of several digits: all are found, in the order in which they are read, and what is no ink is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw

import xpnet
from tests.data.test_pictures import CAMERA, encoded, enlarged, laid, likeness, photograph, sized
from xpnet.data import digits, read_picture
from xpnet.data.pictures import Found, morphology, paging, read_page

Box = tuple[int, int, int, int]


def page_of(
    images: np.ndarray,
    rng: np.random.Generator,
    size: float,
    columns: int,
    *,
    gap: float = 0.45,
    pitch: float = 1.7,
    tilt: float = 0.0,
    frame: bool = False,
    cells: bool = False,
    margin: float = 0.8,
) -> tuple[np.ndarray, list[Box]]:
    """Digits as ink on a sheet, in lines of so many columns, and where they are.

    size : of a digit, in pixels; gap, pitch, margin in its lengths.   tilt : of the lines, in degrees, upwards.
    """
    rows, wide, slope = -(-len(images) // columns), (1 + gap) * size, np.tan(np.deg2rad(tilt))
    edge = int(margin * size)
    width = int(columns * wide) + 2 * edge
    height = int((rows - 1) * pitch * size + size + abs(slope) * width) + 2 * edge
    page, boxes = np.zeros((height, width), np.float32), []
    for i, image in enumerate(images):
        ink = enlarged(image, size * rng.uniform(0.9, 1.1))
        x = edge + (i % columns + 0.5) * wide + 0.03 * size * rng.standard_normal()
        y = edge + (i // columns * pitch + 0.5 + 0.05 * rng.standard_normal()) * size - slope * x
        y += slope * width if slope > 0 else 0
        top, left = (max(0, int(at - side / 2)) for at, side in zip((y, x), ink.shape, strict=True))
        page[top : top + ink.shape[0], left : left + ink.shape[1]] = ink[: height - top, : width - left]
        seen = [np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0)]
        boxes.append((top + seen[0][0], top + seen[0][-1] + 1, left + seen[1][0], left + seen[1][-1] + 1))
    drawn = Image.fromarray((255 * page).astype(np.uint8))
    pen, thick = ImageDraw.Draw(drawn), max(1, round(0.05 * size))
    if frame:
        pen.rectangle((0.3 * edge, 0.3 * edge, width - 0.3 * edge, height - 0.3 * edge), outline=255, width=thick)
    for i in range(len(images) if cells else 0):
        x, y = edge + i % columns * wide, edge + (i // columns * pitch - 0.2) * size
        pen.rectangle((x, y, x + wide, y + 1.4 * size), outline=255, width=thick)
    return np.asarray(drawn, np.float32) / 255, boxes


def overlap(a: Box, b: Box) -> float:
    """Of two boxes, the common area over that of both."""
    high, wide = (max(0, min(a[i + 1], b[i + 1]) - max(a[i], b[i])) for i in (0, 2))
    areas = [(box[1] - box[0]) * (box[3] - box[2]) for box in (a, b)]
    return high * wide / (sum(areas) - high * wide)


def in_order(found: list[Found], boxes: list[Box]) -> bool:
    """Whether each was found, and 97 % of them whole."""
    if len(found) != len(boxes):
        return False
    shares = np.array([overlap(f.box, box) for f, box in zip(found, boxes, strict=True)])
    return bool((shares > 0.2).all() and (shares > 0.6).mean() >= 0.97)


def whole(images: np.ndarray) -> np.ndarray:
    """Those of one piece and not very wide, so that each is a digit for sure."""
    pieces = np.array([morphology.components(image > 127).max() for image in images])
    alone: np.ndarray = images[pieces == 1]
    return alone


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return whole(digits.draw(400, seed=21)[0])


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def run(picture: np.ndarray, form: str = "PNG", *arguments: Any, **options: Any) -> list[Found]:
        (tmp_path / "page").write_bytes(encoded(picture, form, **options))
        return read_page(tmp_path / "page", *arguments)

    return run


LAYING = ("tilt", "pitch", "gap", "frame", "cells", "margin")
PAGES: dict[str, dict[str, Any]] = {
    "three": {"n": 3, "columns": 3, "size": 160},
    "a long line": {"n": 16, "columns": 16, "size": 50},
    "small ones": {"n": 80, "columns": 40, "size": 30},
    "rising lines": {"n": 24, "columns": 12, "size": 60, "tilt": 5, "pitch": 1.9},
    "falling lines": {"n": 24, "columns": 12, "size": 60, "tilt": -5, "pitch": 1.9},
    "framed": {"n": 6, "columns": 3, "size": 80, "frame": True},
    "in cells": {"n": 8, "columns": 4, "size": 80, "cells": True, "pitch": 1.4, "gap": 0.8},
    "soft shadow": {"n": 8, "columns": 4, "size": 80, "shadow": "soft", "depth": 0.5, "light": 0.4},
    "hard shadow": {"n": 8, "columns": 4, "size": 80, "shadow": "hard", "depth": 0.5},
    "noise": {"n": 8, "columns": 4, "size": 80, "noise": 0.06, "texture": 0.02},
    "ruled": {"n": 8, "columns": 4, "size": 80, "lines": 0.5},
    "squared": {"n": 8, "columns": 4, "size": 80, "lines": 0.5, "squared": True},
    "on a table": {"n": 8, "columns": 4, "size": 80, "table": True, "margin": 1.6},
    "pencil": {"n": 8, "columns": 4, "size": 80, "ink": (0.5, 0.5, 0.5), "noise": 0.015},
    "board": {"n": 8, "columns": 4, "size": 80, "dark": True, "texture": 0.03, "light": 0.6},
    "specks": {"n": 8, "columns": 4, "size": 80, "specks": 20},
}


@pytest.mark.parametrize("kind", PAGES)
def test_all_are_found_in_order(read: Any, drawn: np.ndarray, kind: str) -> None:
    options = dict(PAGES[kind])
    n, columns, size = (options.pop(name) for name in ("n", "columns", "size"))
    laying = {name: options.pop(name) for name in LAYING if name in options}
    rng = np.random.default_rng(3)
    images = drawn[rng.permutation(len(drawn))[:n]]
    ink, boxes = page_of(images, rng, size, columns, **laying)
    found = read(photograph(ink, rng, **options), "JPEG", quality=80)
    assert in_order(found, boxes)
    alike = [likeness(f.image, image) for f, image in zip(found, images, strict=True)]
    assert np.median(alike) > (0.8 if size < 40 else 0.9)


def test_a_sheet_full_of_digits(read: Any) -> None:
    """Thirty lines of forty 0s, as dense as they are printed."""
    page = Image.new("L", (1640, 1240), 255)
    for y, x in np.ndindex(30, 40):
        ImageDraw.Draw(page).ellipse((30 + 40 * x, 25 + 40 * y, 50 + 40 * x, 55 + 40 * y), outline=0, width=4)
    found = read(np.asarray(page))
    middles = np.array([(f.box[0] + f.box[1], f.box[2] + f.box[3]) for f in found]) / 2
    assert np.array_equal(np.rint((middles - 40) / 40), np.array(list(np.ndindex(30, 40))))


def test_a_page_with_too_many_things_is_said_to_have_them(
    read: Any, drawn: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(3)
    ink, boxes = page_of(drawn[:5], rng, 80, 5)
    page = photograph(ink, rng)
    assert len(read(page)) == len(boxes)
    assert not caplog.messages
    monkeypatch.setattr(paging, "_THINGS", 3)
    assert 0 < len(read(page)) < len(boxes)
    assert caplog.messages[0].endswith("things; only the 3 largest are looked at: cut it into parts")


def test_a_single_digit_is_what_read_picture_makes_of_it(tmp_path: Path, drawn: np.ndarray) -> None:
    path = tmp_path / "one.jpg"
    for i, conditions in enumerate(CAMERA.values()):
        rng = np.random.default_rng(i)
        size = sized(rng)
        ink = laid(np.pad(enlarged(drawn[i], 0.5 * min(size)), min(size) // 10), size, rng=rng)
        path.write_bytes(encoded(photograph(ink, rng, **conditions), "JPEG"))
        for form in ("mnist", "emnist"):
            (found,) = read_page(path, form)
            assert np.array_equal(found.image, read_picture(path, form))
        rows, columns = (np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0))
        assert overlap(found.box, (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)) > 0.75


@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_a_frame_round_a_digit_is_no_ink(tmp_path: Path, drawn: np.ndarray, shape: str) -> None:
    for image in drawn[:12]:
        page = Image.fromarray((255 * laid(enlarged(image, 150), (300, 300), (75, 75))).astype(np.uint8))
        getattr(ImageDraw.Draw(page), shape)((12, 12, 288, 288), outline=255, width=6)
        Image.fromarray(255 - np.asarray(page)).save(tmp_path / "framed.png")
        (found,) = read_page(tmp_path / "framed.png")
        assert likeness(found.image, image) > 0.9
        assert np.array_equal(read_picture(tmp_path / "framed.png"), found.image)


def test_digits_that_touch_a_frame_are_not_lost(read: Any) -> None:
    """7s in four cells, one of which reaches to the line below it."""
    page = Image.new("L", (700, 240), 255)
    ink = ImageDraw.Draw(page)
    for i in range(4):
        left = 30 + 160 * i
        ink.rectangle((left, 40, left + 160, 190), outline=0, width=5)
        ink.line((left + 50, 75, left + 110, 75, left + 80, 188 if i == 1 else 160), 0, 8)
    found = read(np.asarray(page))
    assert [round((f.box[2] - 30) / 160 - 0.3) for f in found] == [0, 1, 2, 3]
    assert all(80 < f.box[1] - f.box[0] < 125 for f in found)


def test_boxes_are_those_of_the_picture(tmp_path: Path, drawn: np.ndarray) -> None:
    """Turned as its EXIF says, and not as much smaller as what is kept of it."""
    rng = np.random.default_rng(5)
    ink, boxes = page_of(drawn[:3], rng, 900, 3)
    assert max(ink.shape) > 4000
    picture = Image.fromarray((255 * (1 - ink)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 8
    picture.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.jpg", exif=exif)
    found = read_page(tmp_path / "turned.jpg")
    assert all(overlap(f.box, box) > 0.9 for f, box in zip(found, boxes, strict=True))


def test_touching_digits_are_said_to_be_wide(read: Any, drawn: np.ndarray) -> None:
    ink, _ = page_of(drawn[:5], np.random.default_rng(1), 80, 5)
    assert not any(f.wide for f in read((255 * (1 - ink)).astype(np.uint8)))
    for rings in (2, 3):
        page = Image.new("L", (500, 240), 255)
        for left in (*(50 + 55 * i for i in range(rings)), 350):
            ImageDraw.Draw(page).ellipse((left, 80, left + 60, 160), outline=0, width=8)
        assert [f.wide for f in read(np.asarray(page))] == [True, False]


def test_parts_of_a_digit_stay_together(read: Any) -> None:
    """Two 5s whose bars are apart from their bodies, one below the other, beside a 1."""
    page = Image.new("L", (520, 760), 255)
    ink = ImageDraw.Draw(page)
    for y in (40, 420):
        ink.line((70, y, 200, y), 0, 18)
        ink.line((50, y + 28, 50, y + 120, 170, y + 130, 190, y + 210, 150, y + 270, 50, y + 270), 0, 18)
        ink.line((380, y, 380, y + 280), 0, 18)
    found = read(np.asarray(page))
    assert [f.box[2] < 100 for f in found] == [True, False, True, False]
    assert all(260 < f.box[1] - f.box[0] < 310 for f in found)


def test_as_is_finds_the_whole_picture(read: Any) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    (found,) = read(picture, "PNG", "as-is", (28, 28))
    assert (found.box, found.wide) == ((0, 40, 0, 30), False)
    (found,) = read(picture[:28, :28], "PNG", "as-is", (28, 28))
    assert np.array_equal(found.image, picture[:28, :28])


def test_other_forms_and_shapes(read: Any, drawn: np.ndarray) -> None:
    ink, boxes = page_of(drawn[:4], np.random.default_rng(2), 80, 2)
    found = read((255 * (1 - ink)).astype(np.uint8), "PNG", "emnist", (32, 40))
    assert in_order(found, boxes)
    assert all(f.image.shape == (32, 40) for f in found)


def test_what_has_mnists_form_is_one_digit(read: Any, drawn: np.ndarray) -> None:
    (found,) = read(drawn[0])
    assert np.array_equal(found.image, drawn[0])


def test_empty_pages_are_refused(read: Any) -> None:
    with pytest.raises(xpnet.DataError, match="page: it shows no digit"):
        read(np.full((300, 400), 240, np.uint8))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        conditions: dict[str, Any] = {
            "light": rng.uniform(0, 1),
            "vignette": rng.uniform(0, 0.6),
            "dark": seed % 4 == 3,
        }
        conditions |= {"shadow": (None, "soft", "hard")[seed % 3], "noise": rng.uniform(0, 0.05)}
        empty = photograph(np.zeros((480, 640), np.float32), rng, texture=rng.uniform(0, 0.03), **conditions)
        with pytest.raises(xpnet.DataError, match="page: it shows no digit"):
            read(empty, "JPEG", quality=70)


@given(grey=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_array_is_a_page(grey: np.ndarray) -> None:
    for digit in paging.digits_on(grey):
        top, bottom, left, right = digit.located.box
        assert -1 <= top < bottom <= grey.shape[0] + 1
        assert -1 <= left < right <= grey.shape[1] + 1


def test_lines_are_read_one_after_the_other() -> None:
    """Of digits at the places of a slanted grid, whatever order they come in."""
    rng = np.random.default_rng(0)
    for slant in (-0.1, -0.03, 0, 0.05, 0.1):
        places = [(row * 90 + slant * column * 50, column * 50) for row in range(4) for column in range(20)]
        boxes = np.array([(y, y + 50, x, x + 35) for y, x in places]).round().astype(np.int64)
        boxes[:, :2] += rng.integers(-6, 7, (len(boxes), 1))
        mixed = rng.permutation(len(boxes))
        order = list(paging._reading_order(boxes[mixed], np.arange(len(boxes)), 50))
        assert mixed[order].tolist() == list(range(len(boxes)))


# --- what a network reads --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pages_of_mnist_are_read(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    """Nearly all digits in the right order, hardly anything else, and read nearly as well as the digits themselves."""
    assert mnist.test is not None
    config = xpnet.TrainConfig()
    network = config.network(mnist.n_features, mnist.n_classes)
    model = xpnet.fit(network, mnist, config, device="cpu", seed=0, progress=False).model
    digits_there, found_in_order, others, right = 0, 0, 0, 0
    for seed, kind in enumerate([*PAGES] * 2):
        options, rng = dict(PAGES[kind]), np.random.default_rng((14, seed))
        n, columns, size = (options.pop(name) for name in ("n", "columns", "size"))
        laying = {name: options.pop(name) for name in LAYING if name in options}
        chosen = rng.integers(0, 10_000, n)
        ink, boxes = page_of(mnist.test.images[chosen], rng, size, columns, **laying)
        (tmp_path / "page").write_bytes(encoded(photograph(ink, rng, **options), "JPEG", quality=80))
        found, last = read_page(tmp_path / "page"), -1
        said = model.predict(np.stack([f.image for f in found]))
        digits_there += n
        for f, digit in zip(found, said, strict=True):
            shares = [overlap(f.box, box) for box in boxes]
            which = int(np.argmax(shares))
            if shares[which] <= 0.5:
                others += 1
            elif which > last:
                found_in_order, last = found_in_order + 1, which
                right += digit == mnist.test.labels[chosen[which]]
    assert found_in_order >= 0.97 * digits_there
    assert others <= 0.02 * digits_there
    assert right >= 0.94 * digits_there
