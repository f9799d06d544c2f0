"""xpnet predict with pictures of several digits, and in the forms that models are trained in."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from rich.console import Console

import xpnet
from xpnet.cli import main
from xpnet.cli.pages import Mark, draw_page, lines_of, save_page
from xpnet.data import Schema, read_picture

pytestmark = pytest.mark.usefixtures("own_directory")


def page(path: str, *places: tuple[str, int, int], size: tuple[int, int] = (900, 300)) -> None:
    """Draw rings and strokes, each in a box of 100x160 whose left upper corner is given."""
    paper = Image.new("L", size, 255)
    pen = ImageDraw.Draw(paper)
    for what, x, y in places:
        if what == "0":
            pen.ellipse((x, y, x + 99, y + 159), outline=0, width=16)
        else:
            pen.line((x + 50, y, x + 50, y + 159), fill=0, width=16)
    paper.save(path)


@pytest.fixture
def model() -> str:
    """A model that knows rings and strokes, and is sure."""
    weights = np.full((784, 10), -0.01)
    for k in (0, 1):
        page("one.png", (str(k), 50, 20), size=(200, 200))
        image = read_picture("one.png").reshape(-1) / 255
        weights[:, k] = 10 * image / np.linalg.norm(image)
    save("ink.safetensors", weights)
    return "ink.safetensors"


def save(path: str, weights: np.ndarray, **schema: Any) -> None:
    """Write the model of a network without hidden layers."""
    params = [weights.astype(np.float32), np.zeros(weights.shape[1], np.float32)]
    described = Schema(**{"data": "gone.npz", "image_shape": (28, 28), **schema})
    xpnet.Model(xpnet.MLP(weights.shape), params, [], xpnet.select("cpu"), described).save(path)


THREE = (("0", 60, 60), ("1", 360, 60), ("0", 660, 60))


def test_all_digits_of_a_page_are_listed_with_their_boxes(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    page("page.png", *THREE)
    assert main(["predict", model, "page.png", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["prediction"] for row in found] == [0, 1, 0]
    assert {row["source"]["file"] for row in found} == {"page.png"}
    assert all(len(row["probabilities"]) == 10 and not row["wide"] for row in found)
    for row, (left, right) in zip(found, ((60, 160), (402, 418), (660, 760)), strict=True):
        assert row["box"] == pytest.approx({"top": 60, "bottom": 220, "left": left, "right": right}, abs=8)
    assert main(["predict", model, "page.png", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["file"], row["prediction"]) for row in rows] == [("page.png", k) for k in "010"]


def test_a_page_is_drawn_with_its_boxes(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    page("page.png", *THREE)
    page("two lines.png", *THREE, ("1", 60, 360), ("1", 360, 360), size=(900, 600))
    assert main(["predict", model, "page.png"]) == 0
    out = capsys.readouterr().out
    heading, *lines = out.splitlines()
    assert heading == "page.png: 0 1 0"
    assert max(map(len, lines)) <= 80
    [top] = [line for line in lines if "┌" in line]
    assert [part[0] for part in top.split("┌")[1:]] == ["0", "1", "0"]
    assert sum(line.count("└") for line in lines) == 3
    assert [line.split()[0] for line in lines[-4:-1]] == ["0", "1", "0"]
    assert all(line.endswith(" %") for line in lines[-4:-1])
    assert main(["predict", model, "page.png", "--show"]) == 0
    assert re.findall(r"^page\.png: (\d) \(", capsys.readouterr().out, re.MULTILINE) == ["0", "1", "0"]
    assert main(["predict", model, "two lines.png"]) == 0
    assert capsys.readouterr().out.startswith("two lines.png: 0 1 0 / 1 1\n")


def test_a_box_that_is_too_wide_for_one(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    page("touching.png", ("0", 60, 60), ("0", 150, 60), ("0", 240, 60), ("0", 600, 60))
    assert main(["predict", model, "touching.png"]) == 0
    assert capsys.readouterr().out.count("may be more than one") == 1
    assert main(["predict", model, "touching.png", "--json"]) == 0
    assert [row["wide"] for row in json.loads(capsys.readouterr().out)] == [True, False]


def test_a_picture_explains_one_of_a_page(model: str, fails: Callable[..., str]) -> None:
    pytest.importorskip("matplotlib", reason="the pictures are matplotlib's: pip install '.[plot]'")
    page("page.png", *THREE)
    assert fails(2, "explain", model, "page.png", "--out", "why.png") == (
        "--out draws one example, and these are 3: cut one out of the picture"
    )


def test_the_picture_with_its_boxes_is_saved(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    page("page.png", *THREE)
    assert main(["predict", model, "page.png", "--out", "out.png", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "saved out.png\n"
    with Image.open("out.png") as image:
        assert image.size == (900, 300)
        blue = (np.asarray(image) == (0, 90, 200)).all(axis=2)
    for row in json.loads(out):
        top, bottom, left, right = row["box"].values()
        for line in (blue[top:bottom, left - 2 : left], blue[top:bottom, right : right + 2].T):
            assert line.any(axis=1 if line.shape[0] > 2 else 0).mean() > 0.9
        assert blue[top - 30 : top - 4, left : left + 60].any()  # the text


def test_what_cannot_be_saved(model: str, fails: Callable[..., str]) -> None:
    page("page.png", *THREE)
    assert "--out must name a .png file, not 'out.jpg'" in fails(2, "predict", model, "page.png", "--out", "out.jpg")
    for names in (["page.png", "page.png"], [], ["page.png", "--index", "1"]):
        assert "--out draws on one picture" in fails(2, "predict", model, *names, "--out", "out.png")
    assert "No such file" in fails(1, "predict", model, "page.png", "--out", str(Path("no", "out.png")), "--json")


# --- drawing ---------------------------------------------------------------------------------------------------------


def test_boxes_stand_in_lines() -> None:
    boxes = [(0, 5, 0, 5), (1, 5, 9, 12), (0, 4, 30, 33), (20, 25, 2, 5), (20, 25, 8, 9), (40, 44, 0, 3)]
    assert [list(line) for line in lines_of(boxes)] == [[0, 1, 2], [3, 4], [5]]
    assert list(lines_of([])) == []


def console(**options: Any) -> Console:
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding=options.pop("encoding", "utf-8")), **options)


def test_frames_and_names_in_text() -> None:
    white = np.full((20, 40), 255, np.uint8)
    white[8:16, 10:14] = 0
    lines = draw_page(white, [Mark((8, 16, 10, 14), "7", "7 99 %")], console(width=80)).plain.splitlines()
    assert [line.rstrip() for line in lines[4:10]] == [
        *[" " * 10 + "┌7───┐"],
        *[" " * 10 + "│@@@@│"] * 4,
        *[" " * 10 + "└────┘"],
    ]
    plain = draw_page(white, [Mark((8, 16, 10, 14), "7", "7 99 %")], console(width=80, encoding="ascii")).plain
    assert "+7---+" in plain


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (2000, 3), (2000, 1500)])
@pytest.mark.parametrize("width", [20, 200])
def test_pages_of_every_shape_fit(shape: tuple[int, int], width: int) -> None:
    paper = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    marks = [Mark((0, shape[0], 0, shape[1]), "a long name", "a long name 1 %", sure=False)]
    lines = draw_page(paper, marks, console(width=width)).plain.splitlines()
    assert max(map(len, lines)) <= min(width, 102)
    assert len(lines) <= 43
    save_page(Path("out.png"), paper, marks)
    with Image.open("out.png") as image:
        assert image.size == (shape[1], shape[0])


def test_ink_is_light_whichever_it_is_on_the_page() -> None:
    page = np.full((8, 8), 200, np.uint8)
    page[2:6, 2:6] = 30
    for grey in (page, 255 - page):
        lines = draw_page(grey, [], console(width=80)).plain.splitlines()
        assert [line.rstrip() for line in lines[2:4]] == ["   @@@@"] * 2
        assert not "".join(lines[:2]).strip()
