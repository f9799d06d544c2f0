"""xpnet explain: what it prints, with colours and without, what it draws, and what it refuses."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.cli import main
from xpnet.data import Scaling, Schema

QUICK = ["--device", "cpu", "--epochs", "2", "--lr", "0.02", "--batch-size", "90", "--quiet", "--hidden"]
RED, BLUE = "\x1b[91m", "\x1b[94m"

pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.fixture
def trained(patterns: str, capsys: pytest.CaptureFixture[str]) -> xpnet.Model:
    """The model in the run directory run."""
    assert main(["train", "--data", patterns, *QUICK, "9", "--out", "run"]) == 0
    capsys.readouterr()
    return xpnet.load("run", "cpu")


@pytest.fixture
def rows(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """rows.csv, of a house's size and age and its price, and the flags to train on it."""
    X = np.random.default_rng(0).normal(size=(90, 2)) * [40, 9] + [120, 30]
    y = 2000 * X[:, 0] - 900 * X[:, 1]
    np.savetxt("rows.csv", np.c_[X, y], delimiter=",", header="size,age,price", comments="", fmt="%.6g")
    return ["--data", "rows.csv", "--label", "price", "--loss", "squared-error"]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What xpnet explain prints on stdout."""
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


# --- in the terminal -------------------------------------------------------------------------------------------------


def test_json_is_what_the_model_explains(
    trained: xpnet.Model, small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(shown(capsys, "run", "--json", "--index", "3", "7", "--nearest", "2"))
    assert small_data.test is not None
    expected = trained.explain(small_data.test.images[[3, 7]], examples=small_data.train, nearest=2)
    for each, index, explanation in zip(found, (3, 7), expected, strict=True):
        assert each["source"] == {"split": "test", "index": index}
        assert each["prediction"] == explanation.prediction
        assert each["explained"] == f"logit of {explanation.of}"
        assert each["value"] == pytest.approx(explanation.value, rel=1e-5)
        assert each["for"] + each["against"] + each["rest"] == pytest.approx(each["value"])
        np.testing.assert_allclose(each["contributions"], explanation.contributions, rtol=1e-4, atol=1e-6)
        (layer,) = each["layers"]
        np.testing.assert_allclose(layer["activations"], explanation.layers[0].activations, rtol=1e-4, atol=1e-6)
        assert len(layer["contributions"]) == 9
        near = explanation.neighbours
        assert near is not None
        assert [row["index"] for row in each["nearest"]] == near.indices.tolist()
        assert [row["label"] for row in each["nearest"]] == list(near.labels)


def test_without_colours_there_are_signs(trained: xpnet.Model, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "--index", "3"]) == 0
    heading = capsys.readouterr().out.splitlines()[0]
    out = shown(capsys, "run", "--index", "3")
    assert "\x1b" not in out
    first, equation, *lines, last = out.splitlines()
    assert re.fullmatch(re.escape(heading) + r"; next is \d \(\d+\.\d %\)", first)
    number = r"\d+\.\d+"
    match = re.fullmatch(
        rf"logit of (\d): (-?{number}) = ({number}) for - ({number}) against ([+-]) ({number}) biases "
        r"\(\+ and # for, - and = against\)",
        equation,
    )
    assert match, equation
    rest = float(f"{match[5]}{match[6]}")
    assert float(match[3]) - float(match[4]) + rest == pytest.approx(float(match[2]), abs=0.002)
    picture, unit = r"[ .:\-=+*#%@]{6}  [-+=# ]{0,6}", r"  +unit \d [█▏▎▍▌▋▊▉]* +\d+\.\d\d +[-+]\d\.\d+"
    assert all(re.match(picture, line) for line in lines[:3])
    assert "hidden units that fire most: activation, contribution" in "\n".join(lines)
    assert sum(bool(re.search(unit, line)) for line in lines) == 8
    assert sum("unit " in line for line in lines) == 8
    where = next(i for i, line in enumerate(lines) if line.startswith("most similar training examples"))
    assert len(lines[where + 1].split()) == 5
    assert len(re.findall(r"\d+\.\d\d, \d+", lines[-1])) == 5
    assert last == ""


def test_colours_are_red_and_blue_and_no_colour_is_respected(
    trained: xpnet.Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    out = shown(capsys, "run", "--index", "3")
    assert re.search(re.escape(RED) + r"\d+\.\d+ for\x1b", out)
    assert re.search(re.escape(BLUE) + r"\d+\.\d+ against\x1b", out)
    assert "(+ and #" not in out
    (each,) = json.loads(shown(capsys, "run", "--index", "3", "--json"))
    # The strongest pixel has its colour at full strength.
    strongest = max((abs(c), c) for row in each["contributions"] for c in row)[1]
    assert ("240;80;60" if strongest > 0 else "80;150;255") in out
    for sign, colour in ((1, RED), (-1, BLUE)):
        units = each["layers"][0]
        for i in np.argsort(-np.array(units["activations"]))[:8]:
            if sign * units["contributions"][i] > 0:
                assert re.search(re.escape(colour) + rf" +unit {i} ", out)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(capsys, "run", "--index", "3")
    assert not re.search(r"\x1b\[[\d;]*(38|48|9\d)", plain)
    assert "(+ and # for" in plain


@pytest.mark.parametrize(("columns", "beside"), [("30", False), ("80", True), ("120", True)])
def test_it_is_as_wide_as_the_terminal(
    trained: xpnet.Model,
    columns: str,
    beside: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    _, _, *lines = shown(capsys, "run", "--index", "3").splitlines()
    assert max(len(line) for line in lines if "similar" not in line and "hidden" not in line) <= int(columns)
    assert any(re.match(r".{14} +unit \d", line) for line in lines) == beside


def test_why_it_is_not_another_class(trained: xpnet.Model, capsys: pytest.CaptureFixture[str]) -> None:
    (answer,) = json.loads(shown(capsys, "run", "--index", "3", "--json"))
    given = answer["prediction"]
    other, third = (k for k in range(3) if k != given)
    (each,) = json.loads(shown(capsys, "run", "--index", "3", "--against", str(other), "--json"))
    assert each["explained"] == f"logit of {given} less that of {other}"
    (its,) = json.loads(shown(capsys, "run", "--index", "3", "--of", str(other), "--json"))
    assert its["explained"] == f"logit of {other}"
    assert each["value"] == pytest.approx(answer["value"] - its["value"], rel=1e-5)
    np.testing.assert_allclose(
        each["contributions"], np.subtract(answer["contributions"], its["contributions"]), rtol=1e-4, atol=1e-6
    )
    out = shown(capsys, "run", "--index", "3", "--of", str(other), "--against", str(third))
    assert f"logit of {other} less that of {third}: " in out
    assert out.splitlines()[0] == shown(capsys, "run", "--index", "3").splitlines()[0]


def test_pictures_are_explained_too(trained: xpnet.Model, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image, ImageDraw

    paper = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(paper).ellipse((50, 30, 150, 170), outline=0, width=16)
    paper.save("ring.png")
    both = json.loads(shown(capsys, "run", "ring.png", "--index", "3", "--json"))
    assert [each["source"] for each in both] == [{"split": "test", "index": 3}, {"file": "ring.png"}]
    image = xpnet.read_picture("ring.png", form=trained.schema.form, shape=(6, 6))
    (expected,) = trained.explain(image[None] / np.float32(255))
    np.testing.assert_allclose(both[1]["contributions"], expected.contributions, rtol=1e-4, atol=1e-6)
    assert shown(capsys, "run", "ring.png").startswith("ring.png: ")


def test_a_picture_s_ink_is_1_whatever_it_was_in_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    Image.fromarray(np.kron(255 - 255 * np.eye(4), np.ones((9, 9))).astype(np.uint8)).save("line.png")
    weights = np.zeros((16, 2), np.float32)
    weights[:, 0] = 1.0
    schema = Schema("gone.npz", (4, 4), features=Scaling("pixels", None, 16.0), form="as-is")
    xpnet.Model(xpnet.MLP((16, 2)), [weights, weights[0]], [], xpnet.select("cpu"), schema).save("own.safetensors")
    image = xpnet.read_picture("line.png", form="as-is", shape=(4, 4))
    (each,) = json.loads(shown(capsys, "own.safetensors", "line.png", "--json"))
    np.testing.assert_allclose(each["contributions"], image / 255, rtol=1e-6)
    assert np.max(each["contributions"]) == pytest.approx(1.0)


def test_a_table_s_features_have_bars_with_names_and_values(
    rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *rows, *QUICK, "9", "--validation", "0.2", "--out", "run"]) == 0
    capsys.readouterr()
    out = shown(capsys, "run", "--split", "validation", "--index", "4", "--nearest", "3")
    (each,) = json.loads(shown(capsys, "run", "--split", "validation", "--index", "4", "--nearest", "3", "--json"))
    first, equation, title, *lines = out.splitlines()
    assert first.startswith("validation 4: ")
    assert "next is" not in first
    match = re.fullmatch(r"output: (-?\d+) = (\d+) up - (\d+) down ([+-]) (\d+) biases", equation)
    assert match, equation
    assert float(match[1]) == pytest.approx(each["value"], abs=1)
    assert each["value"] == pytest.approx(each["prediction"], rel=1e-5)
    assert title == "what the features contribute"
    order = np.argsort(-np.abs(each["contributions"]))
    for line, i in zip(lines, order, strict=False):
        name = ("size", "age")[i]
        assert re.fullmatch(rf"  +{name} = [\d.]+ █* *[▏▎▍▌▋▊▉]? *[-+]\d+", line), line
        assert float(line.split()[-1]) == pytest.approx(each["contributions"][i], abs=1)
    assert [float(line.split()[2]) for line in lines[-4:-1]] == [float(row["label"]) for row in each["nearest"]]


def test_without_hidden_layers_there_are_no_units(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", patterns, *QUICK, "none", "--out", "run"]) == 0
    capsys.readouterr()
    out = shown(capsys, "run", "--index", "0")
    assert "unit" not in out
    assert "most similar training examples, by the scaled features: distance and index" in out
    assert json.loads(shown(capsys, "run", "--index", "0", "--json"))[0]["layers"] == []


def test_texts_of_a_model_file_cannot_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("data.npz", x_train=np.eye(3), y_train=np.arange(3), x_test=np.eye(3), y_test=np.arange(3))
    evil = "\x1b[2J[bold]evil\n" + "x" * 300
    weights = np.eye(3, dtype=np.float32)
    schema = Schema(
        str(Path("data.npz").absolute()),
        (3,),
        (f"0{evil}", f"1{evil}", f"2{evil}"),
        Scaling(),
        columns=("a", evil, "c"),
    )
    xpnet.Model(xpnet.MLP((3, 3)), [weights, weights[0]], [], xpnet.select("cpu"), schema).save("evil.safetensors")
    for more in ([], ["--json"]):
        assert main(["explain", "evil.safetensors", "--data", "data.npz", "--index", "1", *more]) == 0
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert all(len(line) <= 80 for line in out.splitlines()[2:] if not more)


# --- where the training examples are ---------------------------------------------------------------------------------


def test_similar_examples_are_those_that_it_was_trained_on(
    patterns: str, small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", patterns, *QUICK, "9", "--validation", "0.5", "--out", "run"]) == 0
    capsys.readouterr()
    (each,) = json.loads(shown(capsys, "run", "--split", "train", "--index", "5", "--json"))
    assert len(each["nearest"]) == 5
    assert min(row["distance"] for row in each["nearest"]) > 1e-3, "not itself"
    # Also where another set is explained.
    assert small_data.test is not None
    np.savez("new.npz", x_train=small_data.test.images, y_train=small_data.test.labels)
    other = json.loads(shown(capsys, "run", "--data", "new.npz", "--split", "train", "--index", "0", "--json"))
    trained = xpnet.load("run", "cpu")
    from xpnet.training.prepare import held_out

    kept, _ = held_out(330, xpnet.TrainConfig(validation=0.5))
    near = trained.explain(small_data.test.images[:1], examples=small_data.train[kept])[0].neighbours
    assert near is not None
    assert [row["index"] for row in other[0]["nearest"]] == near.indices.tolist()


def test_where_they_are_lost_a_line_says_so(
    trained: xpnet.Model, patterns: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    Image.fromarray(np.kron(np.eye(6, dtype=np.uint8) * 255, np.ones((9, 9), np.uint8))).save("line.png")
    Path(patterns).rename("moved.npz")
    assert main(["explain", "run", "line.png"]) == 0
    out, err = capsys.readouterr()
    assert "similar" not in out
    (line,) = [line for line in err.splitlines() if "left out" in line]
    assert line.startswith("similar training examples are left out: the model was trained on ")
    assert "was not found" in line
    assert main(["explain", "run", "line.png", "--nearest", "0"]) == 0
    out, err = capsys.readouterr()
    assert "similar" not in out + err
    assert "most similar" in shown(capsys, "run", "--index", "0", "--data", "moved.npz")


# --- as a picture, and what is refused -------------------------------------------------------------------------------


def test_a_picture_is_drawn(trained: xpnet.Model, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the pictures are matplotlib's: pip install '.[plot]'")
    from PIL import Image

    for name in ("why.png", "why.svg", "why.pdf"):
        assert main(["explain", "run", "--index", "3", "--out", name]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("test 3: ")
        assert err.splitlines()[-1] == f"saved {name}"
        assert Path(name).stat().st_size > 1000
    assert main(["explain", "run", "--index", "3", "--out", "dark.png", "--dark"]) == 0
    for name, ground in (("why.png", (255, 255, 255)), ("dark.png", (21, 24, 28))):
        with Image.open(name) as picture:
            assert min(picture.size) > 400
            assert picture.convert("RGB").getpixel((0, 0)) == ground


def test_what_it_refuses(trained: xpnet.Model, fails: Callable[..., str]) -> None:
    assert fails(2, "explain", "run") == "name what is to be explained: a picture, or --index N"
    for flag in ("--of", "--against"):
        assert (
            fails(2, "explain", "run", "--index", "0", flag, "nine")
            == f"{flag}: the model has no output 'nine'; the choices are 0, 1, 2"
        )
    assert (
        fails(2, "explain", "run", "--index", "0", "--of", "1", "--against", "1")
        == "against: 1 is itself what is explained: choose another class"
    )
    assert fails(2, "explain", "run", "--index", "60").startswith("index 60 is out of range")
    assert "there is no file 3: did you mean --index 3?" in fails(2, "explain", "run", "3")
    assert "--nearest must be" in fails(2, "explain", "run", "--index", "0", "--nearest", "-1")
    if importlib.util.find_spec("matplotlib"):
        assert "--out draws one example, and these are 2: name one" in fails(
            2, "explain", "run", "--index", "0", "1", "--out", "why.png"
        )
        assert "pictures are written as .png, .svg or .pdf" in fails(
            2, "explain", "run", "--index", "0", "--out", "why.gif"
        )
    assert not list(Path().glob("why.*"))


def test_a_file_that_is_no_picture_is_reported_and_the_others_explained(
    trained: xpnet.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("no.png").write_text("no picture")
    assert main(["explain", "run", "no.png", "--index", "0"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("test 0: ")
    assert "xpnet: error: no.png" in err
