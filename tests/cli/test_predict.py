"""xpnet predict: by index, from files, and at the prompt, piped and on a terminal."""

import csv
import importlib.util
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

import xpnet
from xpnet.cli import main
from xpnet.cli.terminal import Bar, draw_bars
from xpnet.data import Scaling, Schema, read_picture
from xpnet.model import UNSURE

QUICK = ["--device", "cpu", "--epochs", "1", "--hidden", "none", "--lr", "0.02", "--batch-size", "110"]
COLOUR = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
# A process that does not answer within this time is ended, and fails its test.
PATIENCE = 60.0


pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.fixture
def trained(patterns: str, capsys: pytest.CaptureFixture[str]) -> xpnet.Model:
    """The model in the run directory run, trained so little that it reads some images wrongly."""
    assert main(["train", "--data", patterns, *QUICK, "--out", "run"]) == 0
    capsys.readouterr()
    return xpnet.load("run", "cpu")


@pytest.fixture
def wrong(trained: xpnet.Model, small_data: xpnet.Dataset) -> list[int]:
    """Indices of the test images that the model reads wrongly."""
    assert small_data.test is not None
    images, labels = small_data.test
    found = np.flatnonzero(trained.predict(images) != labels).tolist()
    assert 3 <= len(found) <= 50
    return found


def save_model(path: str, weights: np.ndarray, bias: np.ndarray, **description: Any) -> None:
    """Write the model of a network without hidden layers."""
    network = xpnet.MLP(weights.shape, loss=description.pop("loss", "cross-entropy"))
    params = [weights.astype(np.float32), bias.astype(np.float32)]
    xpnet.Model(network, params, [], xpnet.select("cpu"), Schema(**description)).save(path)


@pytest.fixture
def pictures() -> str:
    """ink.safetensors, which reads images of 28x28, and two pictures: one stroke.png, a 1, and a ring.png, a 0."""
    from PIL import Image, ImageDraw

    from xpnet.data.pictures import read_picture

    for name in ("one stroke", "ring"):
        paper = Image.new("L", (200, 200), 255)
        pen = ImageDraw.Draw(paper)
        if name == "ring":
            pen.ellipse((50, 30, 150, 170), outline=0, width=16)
        else:
            pen.line((100, 30, 100, 170), fill=0, width=16)
        paper.save(f"{name}.png")
    weights = np.full((784, 10), -0.01)
    for k, name in enumerate(("ring", "one stroke")):
        image = read_picture(f"{name}.png").reshape(-1) / 255
        weights[:, k] = 10 * image / np.linalg.norm(image)
    save_model("ink.safetensors", weights, np.zeros(10), data="nowhere/gone.npz", image_shape=(28, 28))
    return "ink.safetensors"


def pipe(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    """Let a text be what is piped in."""
    raw = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))


# --- by index --------------------------------------------------------------------------------------------------------


def test_images_by_index_agree_with_the_model(
    trained: xpnet.Model, small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, chosen in (("test", [3, 59, 0]), ("train", [329])):
        images, labels = getattr(small_data, split)
        assert main(["predict", "run", "--split", split, "--json", "--index", *map(str, chosen)]) == 0
        found = json.loads(capsys.readouterr().out)
        outputs = trained.outputs(images[chosen])
        assert [row["source"] for row in found] == [{"split": split, "index": i} for i in chosen]
        assert [row["label"] for row in found] == labels[chosen].tolist()
        assert [row["prediction"] for row in found] == outputs.argmax(axis=1).tolist()
        assert [row["class"] for row in found] == [str(k) for k in outputs.argmax(axis=1)]
        np.testing.assert_allclose([row["probabilities"] for row in found], outputs, rtol=1e-5)


@pytest.mark.parametrize("words", [["0-9,20", "3"], ["0-9", "20", "3"], ["0-4,5-9,20,3"]])
def test_ranges_of_indices(trained: xpnet.Model, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "--csv", "--index", *words]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))
    assert [int(row["index"]) for row in rows] == [*range(10), 20, 3]


def test_an_image_is_drawn_beside_its_bars(
    trained: xpnet.Model, small_data: xpnet.Dataset, wrong: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_data.test is not None
    images, labels = small_data.test
    right = next(i for i in range(60) if i not in wrong)
    assert main(["predict", "run", "--index", str(right), str(wrong[0])]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    for i, block in zip((right, wrong[0]), out.split("\n\n"), strict=False):
        heading, *lines = block.splitlines()
        outputs = trained.outputs(images[i : i + 1])[0]
        k = int(outputs.argmax())
        verdict = "right" if i == right else f"WRONG: it is {labels[i]}"
        unsure = "unsure, perhaps " if outputs[k] < UNSURE else ""
        assert heading == f"test {i}: {unsure}{k} ({100 * outputs[k]:.1f} %), {verdict}"
        assert len(lines) == 3
        assert all(re.fullmatch(r"[ .:\-=+*#%@]{6}", line[:6]) for line in lines)
        for j, line in enumerate(lines):
            match = re.fullmatch(r"  ([ ▸]) (\d) (█*[▏▎▍▌▋▊▉]?) +(\d+\.\d) %", line[6:].rstrip())
            assert match, line
            assert (match[1] == "▸", int(match[2])) == (j == k, j)
            assert float(match[4]) == pytest.approx(100 * outputs[j], abs=0.051)
            assert abs(len(match[3]) - 40 * outputs[j]) <= 1
    assert len(out.split("\n\n")) == 3  # an empty line behind each


def test_a_narrow_terminal_has_the_bars_below(
    trained: xpnet.Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert main(["predict", "run", "--index", "0"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 30
    assert [line[:4].strip(" ▸") for line in lines[3:6]] == ["0", "1", "2"]
    assert lines[6:] == [""]


def test_of_many_classes_the_ten_most_probable_have_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = np.zeros((1240, 2, 2), np.uint8), np.tile(np.arange(62), 20)
    np.savez("many.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    bias = np.arange(62) * 0.5
    bias[7] = 99.0
    description = {"data": str(Path("many.npz").absolute()), "image_shape": (2, 2)}
    save_model("many.safetensors", np.zeros((4, 62)), bias, **description)
    assert main(["predict", "many.safetensors", "--index", "7", "--device", "cpu"]) == 0
    rows = [line.strip(" ▸").split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]]
    shown = [name for name in rows if name.isdecimal()]
    assert shown == ["7", *(str(k) for k in range(61, 52, -1))]


@pytest.mark.parametrize(
    ("loss", "outputs", "shown", "key"),
    [
        ("cross-entropy", [0.0, 1.0, 0.0], "1 (57.6 %)", "probabilities"),
        ("mse-softmax", [0.0, 1.0, 0.0], "1 (57.6 %)", "probabilities"),
        ("mse", [-0.5, 1.25, 2000.0], "2 (output 2.00e+03)", "outputs"),
        ("mse-sigmoid", [0.0, 1.0, -1.0], "1 (output 0.731)", "outputs"),
    ],
)
def test_outputs_are_probabilities_only_where_the_loss_makes_them_such(
    trained: xpnet.Model, loss: str, outputs: list[float], shown: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model("mine.safetensors", np.zeros((36, 3)), np.array(outputs), loss=loss, data=trained.data)
    arguments = ["predict", "mine.safetensors", "--index", "0", "--device", "cpu"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert shown in out.splitlines()[0]
    assert ("%" in out) == (key == "probabilities")
    assert main([*arguments, "--json"]) == 0
    text = capsys.readouterr().out
    assert "NaN" not in text
    assert len(json.loads(text)[0][key]) == 3
    assert main([*arguments, "--csv"]) == 0
    assert ("probability" if key == "probabilities" else "output") in capsys.readouterr().out.splitlines()[0].split(",")


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_outputs_that_are_not_numbers_name_no_class(
    trained: xpnet.Model, loss: str, form: list[str], fails: Callable[..., str]
) -> None:
    save_model("mine.safetensors", np.zeros((36, 3)), np.array([0.0, np.nan, 1.0]), loss=loss, data=trained.data)
    message = fails(1, "predict", "mine.safetensors", "--index", "4", "--device", "cpu", *form)
    assert message.endswith(
        "the network's outputs for row 4 are not numbers: its features are too large, or the parameters are not finite"
    )


def test_classes_have_names_where_the_set_is_known(
    small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = xpnet.Dataset("fashion-mnist", small_data.train, small_data.test, n_classes=10)
    monkeypatch.setattr("xpnet.cli.datasets.load_data", lambda *_, **__: drawn)
    save_model("mine.safetensors", np.zeros((36, 10)), np.eye(10)[9] * 9, data="fashion-mnist", image_shape=(6, 6))
    assert main(["predict", "mine.safetensors", "--index", "0", "--device", "cpu"]) == 0
    heading, *bars = capsys.readouterr().out.splitlines()
    assert heading.startswith("test 0: ankle boot (99.9 %), WRONG: it is ")
    assert sum("T-shirt/top" in line for line in bars) == 1


def given_data(monkeypatch: pytest.MonkeyPatch, X: Any, y: Any, test: tuple[Any, Any], **options: Any) -> None:
    """Let arrays be the data of every model."""
    data = xpnet.Dataset.from_arrays(X, y, test=test, name="digits", **options)
    monkeypatch.setattr("xpnet.cli.datasets.load_data", lambda *_, **__: data)


@pytest.mark.parametrize("classes", [("cat", "dog", "an eel"), (1, 3, 8)])
def test_classes_are_called_as_in_training(
    classes: tuple[Any, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = np.zeros((6, 2, 2), np.uint8), [classes[k] for k in (0, 1, 2, 2, 1, 0)]
    given_data(monkeypatch, X, y, (X[:3], y[:3]))
    save_model("mine.safetensors", np.zeros((4, 3)), 9 * np.eye(3)[2], data="digits", classes=classes)
    use = ["predict", "mine.safetensors", "--device", "cpu", "--index", "0", "2"]
    assert main([*use, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["label"], row["prediction"], row["class"]) for row in found] == [
        (classes[0], classes[2], str(classes[2])),
        (classes[2], classes[2], str(classes[2])),
    ]
    assert main([*use, "--csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[1], row[2], row[4]) for row in rows] == [
        (str(classes[0]), str(classes[2]), "false"),
        (str(classes[2]), str(classes[2]), "true"),
    ]
    assert main(use) == 0
    out = capsys.readouterr().out
    assert f"test 0: {classes[2]} (100.0 %), WRONG: it is {classes[0]}\n" in out
    assert f"test 2: {classes[2]} (100.0 %), right\n" in out
    assert re.search(rf"▸ +{classes[2]} █", out)


def test_a_label_that_is_no_class_of_the_model(monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]) -> None:
    X = np.zeros((4, 2, 2), np.uint8)
    given_data(monkeypatch, X, ["cat", "dog"] * 2, (X, ["cow", "dog"] * 2), classes=("cat", "dog", "cow"))
    save_model("mine.safetensors", np.zeros((4, 3)), np.zeros(3), data="digits", classes=("cat", "dog", "eel"))
    for command in (["predict", "--csv"], ["evaluate"]):
        assert "'cow'" in fails(1, command[0], "mine.safetensors", *command[1:])


def test_several_labels_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = np.zeros((3, 2, 2), np.uint8), np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]])
    given_data(monkeypatch, X, y, (X, y))
    bias = np.array([2.0, -2.0, 1.0])
    description = {"loss": "binary-cross-entropy", "data": "digits", "classes": ("red", "round", "ripe")}
    save_model("mine.safetensors", np.zeros((4, 3)), bias, **description)
    use = ["predict", "mine.safetensors", "--device", "cpu", "--index", "0-2"]
    assert main([*use, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in found] == [["red", "round"], [], ["red", "ripe"]]
    assert [row["prediction"] for row in found] == [["red", "ripe"]] * 3
    np.testing.assert_allclose(found[0]["probabilities"], 1 / (1 + np.exp(-bias)), rtol=1e-5)
    assert main([*use, "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "0,red round,red ripe,false,",
        "1,,red ripe,false,",
        "2,red ripe,red ripe,true,",
    ]
    assert main(use) == 0
    out = capsys.readouterr().out
    for heading in ("0: red, ripe, WRONG: it is red, round", "1: red, ripe, WRONG: it is none", "2: red, ripe, right"):
        assert f"test {heading}\n" in out
    assert out.count("▸") == 6


@pytest.mark.parametrize("n", [1, 2])
def test_predictions_that_are_numbers(
    n: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = np.arange(6.0).reshape(3, 2), np.array([[1.5, -1.0], [2.0, 3.0], [4.25, 0.0]])[:, :n]
    given_data(monkeypatch, X, y, (X, y), task="regression", scale=None)
    description = {"loss": "squared-error", "data": "digits", "image_shape": (2,), "features": Scaling()}
    save_model("mine.safetensors", np.eye(2)[:, :n], np.zeros(n), **description)
    use = ["predict", "mine.safetensors", "--device", "cpu", "--index", "2"]
    assert main([*use, "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found == {
        "source": {"split": "test", "index": 2},
        "label": [4.25, 0.0] if n == 2 else 4.25,
        "prediction": [4.0, 5.0] if n == 2 else 4.0,
    }
    assert main([*use, "--csv"]) == 0
    heads, cells = capsys.readouterr().out.splitlines()
    if n == 1:
        assert (heads, cells) == ("index,label,prediction,right,file", "2,4.25,4.0,,")
    else:
        assert heads == "index,label 0,label 1,prediction 0,prediction 1,right,file"
        assert cells == "2,4.25,0.0,4.0,5.0,,"
    assert main(use) == 0
    found, known = ("4, 5", "4.25, 0") if n == 2 else ("4", "4.25")
    assert capsys.readouterr().out == f"test 2: {found}, it is {known}\n\n"
    weights, zeros = 1e6 * np.eye(2)[:, :n], np.zeros(n)
    save_model("houses.safetensors", weights, zeros, **description)
    assert main(["predict", "houses.safetensors", *use[2:]]) == 0
    found = "4000000, 5000000" if n == 2 else "4000000"
    assert capsys.readouterr().out == f"test 2: {found}, it is {known}\n\n"


@pytest.mark.parametrize(("bound", "unsure"), [("0.5", False), ("0.6", True), ("0", False), ("1", True)])
def test_what_is_less_probable_than_the_bound_is_unsure(
    trained: xpnet.Model, bound: str, unsure: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model("mine.safetensors", np.zeros((36, 3)), np.array([0.0, 1.0, 0.0]), data=trained.data)
    use = ["predict", "mine.safetensors", "--index", "0", "--device", "cpu", "--unsure", bound]
    assert main(use) == 0
    assert capsys.readouterr().out.startswith(f"test 0: {'unsure, perhaps ' * unsure}1 (57.6 %), ")
    assert main([*use, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["unsure"] == unsure
    assert main([*use, "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(f",{str(unsure).lower()}")


def test_csv_of_a_whole_split(
    trained: xpnet.Model, small_data: xpnet.Dataset, wrong: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_data.test is not None
    images, labels = small_data.test
    assert main(["predict", "run", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    outputs = trained.outputs(images)
    assert [int(row["index"]) for row in rows] == list(range(60))
    assert [int(row["label"]) for row in rows] == labels.tolist()
    assert [int(row["prediction"]) for row in rows] == outputs.argmax(axis=1).tolist()
    np.testing.assert_allclose([float(row["probability"]) for row in rows], outputs.max(axis=1), rtol=1e-5)
    assert [int(row["index"]) for row in rows if row["right"] == "false"] == wrong
    assert {row["right"] for row in rows} == {"true", "false"}
    assert main(["predict", "run", "--csv", "--index", "5", "2"]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == ["index", "5", "2"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--index", "60"], 2, "index 60 is out of range: the test split of patterns.npz has indices 0 to 59"),
        (["--index", "0", "-1"], 2, "index -1 is out of range"),
        (["--index", "9" * 200], 2, f"index {'9' * 57}... is out of range"),
        (["--index", "330", "--split", "train", "--json"], 2, "the train split of patterns.npz has indices 0 to 329"),
        (["--index", "60", "--csv"], 2, "index 60 is out of range"),
        (["--index", "1.5"], 2, "--index: '1.5' is not a whole number"),
        (["--index", ","], 2, "--index: no index is given; write 7, or 0-9,20"),
        (["--index", "x"], 2, "--index: 'x' is not a whole number, nor a range such as 0-9"),
        (["--index", "5-60"], 2, "index 60 is out of range"),
        (["--index", "3-" + "9" * 200], 2, f"index {'9' * 57}... is out of range"),
        (["--index", "9-0"], 2, "--index: 9-0 is no range: its last index comes first; write 0-9"),
        (["--index", "3-5-7"], 2, "--index: '3-5-7' is not a whole number, nor a range such as 0-9"),
        (["17"], 2, "there is no file 17: did you mean --index 17?"),
        (["any.png", "0-9"], 2, "there is no file 0-9: did you mean --index 0-9?"),
        (["--split", "validation", "--csv"], 2, "has no validation split, only train and test; use --split train"),
        (["--unsure", "50"], 2, "--unsure must be in [0, 1], not 50"),
        (["--header", "a"], 2, "--header must name 2 columns, such as ImageId,Label, not 'a'"),
        (["--header", "a,"], 2, "--header must name 2 columns"),
        (["--header", "a,b", "--json"], 2, "--show, --json and --csv exclude one another"),
        (["--json", "--csv"], 2, "--show, --json and --csv exclude one another"),
        (["--json", "--show"], 2, "--show, --json and --csv exclude one another"),
        (["--index", "0", "--data", "mnits"], 1, "did you mean 'mnist'?"),
        (["--index", "0", "--device", "cuda", "--library", "numpy"], 1, "NumPy has no device 'cuda'"),
    ],
)
def test_wrong_use(
    trained: xpnet.Model, fails: Callable[..., str], arguments: list[str], code: int, message: str
) -> None:
    assert message in fails(code, "predict", "run", *arguments)


def test_a_model_that_is_none(fails: Callable[..., str]) -> None:
    assert "nothere: no such file" in fails(1, "predict", "nothere", "--index", "1")
    assert "nothere.safetensors: no such file" in fails(1, "predict", "nothere.safetensors")
    assert "nothere.png: no such file" in fails(1, "predict", "nothere.png")


# --- the newest run --------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(trained: xpnet.Model) -> str:
    """The newer of two runs, which has the older name and the older folder."""
    Path("runs").mkdir()
    for name in ("1-newer", "2-older"):
        shutil.copytree("run", Path("runs", name))
    Path("runs", "3-empty").mkdir()
    for name, seconds in (("1-newer", 2e9), ("2-older", 1e9)):
        os.utime(Path("runs", name, "model.safetensors"), (seconds, seconds))
    return os.path.join("runs", "1-newer")


HAS_PLOTS = importlib.util.find_spec("matplotlib") is not None
PLOT = pytest.param(
    ["plot"], marks=pytest.mark.skipif(not HAS_PLOTS, reason="needs the extra: pip install 'xpnet[plot]'")
)


@pytest.mark.parametrize(
    "arguments",
    [["predict", "--index", "3"], ["predict", "--csv"], ["evaluate", "--json"], PLOT, ["summary", "--json"]],
    ids=" ".join,
)
def test_without_a_run_the_newest_is_used(runs: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command, *rest = arguments
    assert main([command, runs, *rest]) == 0
    out, err = capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr() == (out, f"using {runs}\n{err}")


def test_a_picture_without_a_run_is_read_by_the_newest(pictures: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs", "only").mkdir(parents=True)
    shutil.copy(pictures, "runs/only/model.safetensors")
    assert main(["predict", "one stroke.png", "ring.png"]) == 0
    out, err = capsys.readouterr()
    assert [block.partition(" (")[0] for block in out.split("\n\n")] == ["one stroke.png: 1", "ring.png: 0", ""]
    assert err == f"using {Path('runs', 'only')}\n"


@pytest.mark.parametrize("command", ["predict", "evaluate", *["plot"] * HAS_PLOTS, "summary"])
def test_without_a_run_and_without_any_there(command: str, fails: Callable[..., str]) -> None:
    assert fails(2, command) == ("no run is named and there is none in runs: name one, or train one with xpnet train")


# --- data without labels ---------------------------------------------------------------------------------------------


@pytest.fixture
def unlabelled(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """digits.safetensors, whose data has no labels; what it predicts."""
    X = np.random.default_rng(0).integers(0, 256, (70, 2, 2), np.uint8)
    data = xpnet.Dataset.from_arrays(X, None, name="digits")
    monkeypatch.setattr("xpnet.cli.datasets.load_data", lambda *_, **__: data)
    save_model("digits.safetensors", np.eye(4)[:, :3], np.zeros(3), data="digits", classes=("a", "b", "c"))
    return xpnet.load("digits.safetensors", "cpu").predict(X)


@pytest.mark.parametrize(
    ("flags", "header"),
    [(["--csv"], "ImageId,Label"), (["--csv", "--header", "id,label"], "id,label"), (["--header", "N, L"], "N,L")],
)
def test_a_submission_of_data_without_labels(
    unlabelled: np.ndarray, flags: list[str], header: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "digits.safetensors", *flags]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first == header
    assert rows == [f"{i + 1},{name}" for i, name in enumerate(unlabelled)]
    assert set(unlabelled) == {"a", "b", "c"}
    if "--header" in flags:
        assert main(["predict", "digits.safetensors", *flags, "--index", "3"]) == 0
        assert capsys.readouterr().out.splitlines() == [header, f"4,{unlabelled[3]}"]


def test_a_submission_calls_images_as_their_file_does(trained: xpnet.Model, capsys: pytest.CaptureFixture[str]) -> None:
    X = np.random.default_rng(0).integers(0, 256, (9, 36))
    names = ",".join(f"pixel{i}" for i in range(36))
    for column, ids in (("id", np.arange(9)), ("image_id", [f"img-{i}.png" for i in range(9)])):
        lines = [f"{name},{','.join(map(str, row))}" for name, row in zip(ids, X, strict=True)]
        Path("test.csv").write_text("\n".join([f"{column},{names}", *lines]) + "\n", encoding="utf-8")
        assert main(["predict", "run", "--data", "test.csv", "--csv", "--header", f"{column},label"]) == 0
        first, *rows = capsys.readouterr().out.splitlines()
        assert first == f"{column},label"
        predicted = trained.predict(X.reshape(-1, 6, 6).astype(np.uint8))
        assert rows == [f"{name},{k}" for name, k in zip(ids, predicted, strict=True)]


@pytest.mark.parametrize("label", [[], ["--label", "stars"]])
def test_a_table_without_its_label(label: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Its last column could be taken for one; that the model takes as many tells that it is none."""
    rows = [(100 + i, 0.5 * i, i % 3, i % 2) for i in range(12)]
    for name, header, k in (("stars", "Id,size,rooms,stars", 4), ("new", "Id,size,rooms", 3)):
        lines = [header, *(",".join(map(str, row[:k])) for row in rows)]
        Path(f"{name}.csv").write_text("\n".join(lines))
    options = label or ["--label", "-1"]
    assert main(["train", "--data", "stars.csv", *options, *QUICK, "--out", "table"]) == 0
    capsys.readouterr()
    assert main(["predict", "table", "--data", "new.csv", "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ImageId,Label"
    assert [line.split(",")[0] for line in lines[1:]] == [str(row[0]) for row in rows]


def test_a_submission_of_numbers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = xpnet.Dataset.from_arrays(np.arange(6.0).reshape(3, 2), None, name="digits", task="regression", scale=None)
    monkeypatch.setattr("xpnet.cli.datasets.load_data", lambda *_, **__: data)
    description = {"loss": "squared-error", "data": "digits", "image_shape": (2,), "features": Scaling()}
    save_model("mine.safetensors", np.eye(2)[:, :1], np.zeros(1), **description)
    assert main(["predict", "mine.safetensors", "--csv", "--header", "Id,SalePrice", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines() == ["Id,SalePrice", "1,0.0", "2,2.0", "3,4.0"]


def test_images_without_labels_one_by_one(
    unlabelled: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use = ["predict", "digits.safetensors", "--index", "3"]
    assert main([*use, "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["label"], found["prediction"]) == (None, unlabelled[3])
    assert main([*use, "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"3,,{unlabelled[3]},")
    assert main(use) == 0
    assert re.match(rf"test 3: (unsure, perhaps )?{unlabelled[3]} \(\d+\.\d %\)\n", capsys.readouterr().out)
    pipe(monkeypatch, "w\n")
    assert main(["predict", "digits.safetensors"]) == 1
    assert "no image of the test split has a class" in capsys.readouterr().err


# --- from files ------------------------------------------------------------------------------------------------------


def test_pictures_need_no_data(pictures: str, capsys: pytest.CaptureFixture[str], fails: Callable[..., str]) -> None:
    Path("5").write_bytes(Path("ring.png").read_bytes())
    assert main(["predict", pictures, "5"]) == 0  # a file, since there is one
    assert capsys.readouterr().out.startswith("5: 0 (")
    assert main(["predict", pictures, "ring.png", "one stroke.png"]) == 0
    out, err = capsys.readouterr()
    assert not err
    blocks = out.split("\n\n")
    assert re.match(r"ring\.png: 0 \(\d+\.\d %\)\n", blocks[0])
    assert re.match(r"one stroke\.png: 1 \(\d+\.\d %\)\n", blocks[1])
    assert [len(block.splitlines()) for block in blocks[:2]] == [11, 11]
    assert "WRONG" not in out
    message = fails(2, "predict", pictures, "--index", "3")
    assert "nowhere/gone.npz', which was not found" in message


def test_show_draws_what_the_network_sees(pictures: str, capsys: pytest.CaptureFixture[str]) -> None:
    from xpnet.cli.terminal import draw
    from xpnet.data.pictures import read_picture

    assert main(["predict", pictures, "ring.png", "--show"]) == 0
    drawn = [line[:28].rstrip() for line in capsys.readouterr().out.splitlines()[1:15]]
    expected = draw(read_picture("ring.png"), Console(file=io.StringIO(), width=80)).plain.splitlines()
    assert drawn == [line.rstrip() for line in expected]
    assert any("@" in line for line in drawn)


def test_one_bad_picture_does_not_keep_the_others(pictures: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.png").touch()
    files = ["ring.png", "nothere.png", "empty.png", "one stroke.png"]
    assert main(["predict", pictures, *files]) == 1
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines() if ":" in line] == ["ring.png", "one stroke.png"]
    first, second = err.splitlines()
    assert first.startswith("xpnet: error: ")
    assert "nothere.png" in first
    assert "empty.png" in second
    assert main(["predict", pictures, *files, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(row["source"], row["label"], row["prediction"]) for row in found] == [
        ({"file": "ring.png"}, None, 0),
        ({"file": "one stroke.png"}, None, 1),
    ]
    assert main(["predict", pictures, *files, "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    assert [(row["index"], row["label"], row["prediction"], row["right"], row["file"]) for row in rows] == [
        ("", "", "0", "", "ring.png"),
        ("", "", "1", "", "one stroke.png"),
    ]


def test_a_model_of_784_inputs_reads_pictures(pictures: str, capsys: pytest.CaptureFixture[str]) -> None:
    for shape in ((784,), ()):
        save_model("flat.safetensors", np.zeros((784, 3)), 9 * np.eye(3)[2], data="flat.csv", image_shape=shape)
        assert main(["predict", "flat.safetensors", "ring.png"]) == 0
        assert capsys.readouterr().out.startswith("ring.png: 2 (")
    save_model("table.safetensors", np.zeros((6, 3)), np.zeros(3), image_shape=(6,), form="as-is")
    assert main(["predict", "table.safetensors", "ring.png"]) == 2
    assert "the model takes 6 features, not pictures: use --index" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["mnist", "emnist", "as-is"])
@pytest.mark.parametrize("shape", [(28, 28), (16, 20)])
def test_pictures_take_the_form_of_the_model(
    form: str, shape: tuple[int, int], pictures: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = np.random.default_rng(0).normal(0, 0.1, (shape[0] * shape[1], 3))
    for white in (255.0, 16.0):
        described = {"form": form, "image_shape": shape, "features": Scaling("pixels", None, white)}
        save_model("mine.safetensors", weights, np.zeros(3), **described)
        assert main(["predict", "mine.safetensors", "ring.png", "--json"]) == 0
        [found] = json.loads(capsys.readouterr().out)
        logits = read_picture("ring.png", form, shape).reshape(-1) / 255 @ weights
        np.testing.assert_allclose(found["probabilities"], np.exp(logits) / np.exp(logits).sum(), rtol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_names_that_no_encoding_holds(pictures: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff.png")
    Path("ring.png").rename(name)
    for flag, first in (("--show", r"\udcff.png: 0"), ("--csv", "index,"), ("--json", "[")):
        assert main(["predict", pictures, name, flag]) == 0
        assert capsys.readouterr().out.startswith(first)


# --- bars ------------------------------------------------------------------------------------------------------------


def console(encoding: str = "utf-8", **options: Any) -> Console:
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=80, **options)


def test_bars_are_as_long_as_their_share_to_an_eighth() -> None:
    shares = [0.0, 1 / 320, 0.5, 0.5 + 3 / 320, 1.0]
    bars = [Bar("k", share, "x") for share in shares]
    lines = draw_bars(bars, console(), 46).plain.splitlines()
    assert [line[4:-2].rstrip() for line in lines] == ["", "▏", "█" * 20, "█" * 20 + "▍", "█" * 40]
    assert {len(line) for line in lines} == {46}


def test_bars_of_what_is_no_share() -> None:
    bars = [Bar("k", share, "x") for share in (float("nan"), -3.0, 7.0, float("inf"), float("-inf"))]
    lines = draw_bars(bars, console(), 16).plain.splitlines()
    assert [line[4:-2].strip() for line in lines] == ["", "", "█" * 10, "█" * 10, ""]
    assert len(draw_bars(bars, console(), 3).plain.splitlines()[0]) == 10  # no room is room for four


def test_names_of_bars_leave_room_for_them() -> None:
    bars = [Bar("a" * 75, 0.5, "50.0 %"), Bar("猫" * 50, 0.2, "20.0 %"), Bar("🙂", 0.3, "30.0 %")]
    first, second, third = draw_bars(bars, console(), 60).plain.splitlines()
    assert [cell_len(line) for line in (first, second, third)] == [60, 60, 60]
    assert first == f"  {'a' * 45}… ██   50.0 %"
    assert second.startswith(f"  {'猫' * 22} … ")
    assert third.startswith(f"  {' ' * 44}🙂 ")


@pytest.mark.parametrize(
    "plain",
    [
        console("latin-1"),
        console("ascii", force_terminal=True, _environ={"TERM": "xterm"}),
        console(force_terminal=True, _environ={"TERM": "dumb"}),
    ],
)
def test_bars_in_ascii_where_there_may_be_no_blocks(plain: Console) -> None:
    bars = [Bar("a", 0.5, "50 %"), Bar("bc", 1.0, "100 %", marked=True)]
    assert draw_bars(bars, plain, 21).plain.splitlines() == ["   a #####       50 %", "> bc ########## 100 %"]


# --- the prompt, piped -----------------------------------------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Pipe lines to a model; the sources of what is answered, and what is said on stderr."""

    def run(code: int, text: str | bytes, *arguments: str) -> tuple[list[tuple[Any, ...]], list[str]]:
        pipe(monkeypatch, text)
        assert main(["predict", *(arguments or ["run"]), "--json", "--device", "cpu"]) == code
        out, err = capsys.readouterr()
        found = [tuple(json.loads(line)["source"].values()) for line in out.splitlines()]
        return found, [line for line in err.splitlines() if not line.startswith("reading ")]

    return run


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("5\n", [5]),
        ("5", [5]),
        ("5\r\n7\r\nq\r\n8\r\n", [5, 7]),
        ("3 4,5, 06\t7\n", [3, 4, 5, 6, 7]),
        ("3-5,9 0-1\n\n", [3, 4, 5, 9, 0, 1, 2]),
        ("  5  \nQ\n8\n", [5]),
        ("5\nquit\n8\n", [5]),
        ("5\n exit \n8\n", [5]),
        ("\n\n58\n\n\n\n", [0, 1, 58, 59, 0, 1]),
        ("", []),
        ("q\n", []),
    ],
)
def test_lines_of_indices(trained: xpnet.Model, answers: Callable[..., Any], text: str, indices: list[int]) -> None:
    found, said = answers(0, text)
    assert found == [("test", i) for i in indices]
    assert not said


def test_lines_that_choose_the_split(trained: xpnet.Model, answers: Callable[..., Any]) -> None:
    found, said = answers(0, "7\ntrain 17 18\n300\n\nTest\n\n9\ntrain\n0\n")
    train = [("train", i) for i in (17, 18, 300, 301)]
    assert found == [("test", 7), *train, ("test", 0), ("test", 9), ("train", 0)]
    assert not said
    found, _ = answers(0, "300\n", "run", "--split", "train")
    assert found == [("train", 300)]


def test_lines_that_ask_for_the_next_mistake(
    trained: xpnet.Model, answers: Callable[..., Any], wrong: list[int]
) -> None:
    found, _ = answers(0, "w\n" * (len(wrong) + 1) + f"{wrong[1]}\nW\n{wrong[1] - 1}\nw\n")
    expected = [*wrong, wrong[0], wrong[1], wrong[2], wrong[1] - 1, wrong[1]]
    assert [i for _, i in found] == expected
    found, said = answers(1, "train\nw\n5\n", "run", "--data", right_data(trained))
    assert found == [("train", 5)]
    assert said == ["xpnet: error: every image of the train split is classified correctly"]


def right_data(model: xpnet.Model) -> str:
    """A set that a model reads without a mistake."""
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), np.uint8)
    labels = model.predict(images)
    np.savez("right.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return "right.npz"


def test_lines_that_ask_for_one_at_random(trained: xpnet.Model, answers: Callable[..., Any]) -> None:
    found, _ = answers(0, "r\n" * 200)
    drawn = [i for _, i in found]
    assert 0 <= min(drawn) < 20
    assert 40 < max(drawn) < 60
    assert len(set(drawn)) > 20


@pytest.mark.parametrize("word", ["h", "?", "help", "H"])
def test_a_line_that_asks_for_help(trained: xpnet.Model, answers: Callable[..., Any], word: str) -> None:
    found, said = answers(0, f"{word}\n5\n")
    assert found == [("test", 5)]
    assert said[-1].split() == ["q", "quit"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("abc", "'abc' is neither an index nor a file; type h for help"),
        ("0\nabc", "'abc' is neither an index nor a file; type 0 to 59, or h for help"),
        ("60", "index 60 is out of range: the test split of patterns.npz has indices 0 to 59"),
        ("-1", "index -1 is out of range: the test split of patterns.npz has indices 0 to 59"),
        ("9" * 3000, f"index {'9' * 57}... is out of range: the test split of patterns.npz has indices 0 to 59"),
        ("9" * 9000, f"'{'9' * 57}...' is neither an index nor a file"),
        ("5-60", "index 60 is out of range: the test split of patterns.npz has indices 0 to 59"),
        ("9-0", "9-0 is no range: its last index comes first; write 0-9"),
        ("1e3", "'1e3' is neither an index nor a file"),
        ("5.0", "'5.0' is neither an index nor a file"),
        ("+5", "'+5' is neither an index nor a file"),
        ("٣", "'٣' is neither an index nor a file"),
        ("validation 3", "patterns.npz has no validation split, only train and test"),
        (",", "',' is neither an index nor a file"),
        ("'5", '"\'5" is neither an index nor a file'),
        ("a\0b", r"'a\x00b' is neither an index nor a file"),
        (b"\xff\xfe", r"'\udcff\udcfe' is neither an index nor a file"),
    ],
)
def test_a_line_without_an_answer_is_met_with_one_line(
    trained: xpnet.Model, pictures: str, answers: Callable[..., Any], line: str | bytes, answer: str
) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    found, said = answers(1, raw + b"\n7\n")
    assert found[-1] == ("test", 7)
    assert len(said) == 1
    assert said[0].startswith(f"xpnet: error: {answer}")


def test_lines_that_name_files(pictures: str, answers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a,b.png").write_bytes(Path("ring.png").read_bytes())
    Path("5").write_bytes(Path("ring.png").read_bytes())
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("USERPROFILE", str(Path.cwd()))
    one, ring = ("one stroke.png",), ("ring.png",)
    for line, sources in (
        ("ring.png", [ring]),
        (" one stroke.png ", [one]),
        ("'one stroke.png'", [one]),
        ('"one stroke.png" ring.png', [one, ring]),
        (r"one\ stroke.png", [one]),
        ("ring.png,ring.png, ring.png", [ring] * 3),
        ("a,b.png", [("a,b.png",)]),
        ("'a,b.png' ring.png", [("a,b.png",), ring]),
        ("~/ring.png", [(str(Path.cwd() / "ring.png"),)]),
        ("./5", [("./5",)]),
    ):
        assert answers(0, f"{line}\n", pictures) == (sources, []), line
    found, said = answers(1, "5\nring.png nothere.png one stroke.png\nring.png\n", pictures)
    assert found == [ring, ring]
    assert "nowhere/gone.npz', which was not found" in said[0]
    assert "'nothere.png' is neither an index nor a file" in said[1]


def test_lines_that_name_what_is_no_picture(pictures: str, answers: Callable[..., Any]) -> None:
    Path("empty.png").touch()
    Path("folder").mkdir()
    found, said = answers(1, "empty.png ring.png\nfolder\nring.png\n", pictures)
    assert found == [("ring.png",)] * 2
    assert len(said) == 2
    assert "empty.png" in said[0]
    assert "folder" in said[1]


def test_answers_to_piped_lines_are_drawn_without_a_prompt(
    trained: xpnet.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(monkeypatch, "5\n\nq\n")
    assert main(["predict", "run"]) == 0
    asked = capsys.readouterr().out
    assert main(["predict", "run", "--index", "5", "6"]) == 0
    assert capsys.readouterr().out == asked


def test_the_data_is_read_when_it_is_needed(
    trained: xpnet.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(monkeypatch, "abc\nq\n")
    assert main(["predict", "run"]) == 1
    assert "reading" not in capsys.readouterr().err
    pipe(monkeypatch, "1\n2\nw\nw\n")
    assert main(["predict", "run"]) == 0
    assert capsys.readouterr().err.count("reading") == 1


def test_stdin_that_is_closed_asks_nothing(
    trained: xpnet.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["predict", "run"]) == 0
    assert capsys.readouterr() == ("", "")


# --- the prompt, on a terminal ---------------------------------------------------------------------------------------


class Typist:
    """A pseudo-terminal with xpnet predict at its other end; what does not come in time ends the process and the test.

    seen : all that the terminal showed, without colours and the like; raw : with them.
    """

    def __init__(self, *arguments: str, columns: int = 80, **options: Any) -> None:
        import pty
        import termios

        self.terminal, other = pty.openpty()
        termios.tcsetwinsize(other, (50, columns))
        environment = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parent.parent), "TERM": "xterm-256color"}
        environment.pop("COLUMNS")
        environment.update(PYTHONIOENCODING="utf-8", INPUTRC=os.devnull)
        # A session of its own, whose terminal this is: only then does Ctrl-C become a signal.
        code = (
            "import fcntl, runpy, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "runpy.run_module('xpnet', run_name='__main__', alter_sys=True)"
        )
        command = [sys.executable, "-c", code, "predict", *arguments, "--device", "cpu"]
        streams: dict[str, Any] = {"stdin": other, "stdout": other, "stderr": other, **options}
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)
        os.close(other)
        self.raw = b""

    @property
    def seen(self) -> str:
        return COLOUR.sub("", self.raw.decode("utf-8", "replace")).replace("\r", "")

    def type(self, text: str) -> None:
        self.begin = len(self.seen)
        os.write(self.terminal, text.encode())

    def interrupt(self) -> None:
        """Type Ctrl-C, again and again: Python's readline sleeps through one that comes right behind another key."""
        self.begin = len(self.seen)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not self.seen[self.begin :].endswith(PROMPT):
            os.write(self.terminal, b"\x03")
            while not self.seen[self.begin :].endswith(PROMPT) and self._read_some(3):
                pass
        self.read(PROMPT)

    def read(self, until: str) -> str:
        """What the terminal shows from what was typed last on, as soon as that ends so."""
        deadline = time.monotonic() + PATIENCE
        while not self.seen[self.begin :].endswith(until):
            if not self._read_some(deadline - time.monotonic()):
                self.end()
                pytest.fail(f"{until!r} did not come in {PATIENCE:g} s, but {self.seen!r}")
        return self.seen[self.begin :]

    def leave(self) -> int:
        """The exit code, after what the terminal still shows."""
        deadline = time.monotonic() + PATIENCE
        while self._read_some(deadline - time.monotonic()):
            pass
        self.process.wait(max(1.0, deadline - time.monotonic()))
        return self.process.returncode

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read_some(self, seconds: float) -> bool:
        if seconds <= 0 or not select.select([self.terminal], [], [], seconds)[0]:
            return False
        try:
            some = os.read(self.terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            some = b""
        self.raw += some
        return bool(some)


PROMPT = "test 0 to 59, a file, or q: "


@pytest.fixture
def sit_down() -> Iterator[Callable[..., Typist]]:
    """Start xpnet predict on a terminal of its own, and wait for its prompt."""
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals in Python's library")
    sat: list[Typist] = []

    def start(*arguments: str, prompt: str = PROMPT, **options: Any) -> Typist:
        typist = Typist(*arguments, **options)
        sat.append(typist)
        typist.begin = 0
        typist.read(prompt)
        return typist

    yield start
    for typist in sat:
        typist.end()
        os.close(typist.terminal)
        for stream in (typist.process.stdout, typist.process.stderr):
            if stream:
                stream.close()


def test_a_conversation(trained: xpnet.Model, sit_down: Callable[..., Typist], wrong: list[int]) -> None:
    typist = sit_down("run")
    assert "type h for help" in typist.seen
    typist.type("5\n")
    answer = typist.read(PROMPT)
    assert re.match(r"5\ntest 5: \d \(\d+\.\d %\), (right|WRONG: it is \d)\n", answer)
    assert answer.count("▀▀▀▀▀▀  ") == 3
    assert b"\x1b[38;5;" in typist.raw
    typist.type("\n")
    assert "test 6: " in typist.read(PROMPT)
    typist.type("w\n")
    found = next(i for i in [*wrong, *wrong] if i > 6)
    assert f"test {found}: " in (answer := typist.read(PROMPT))
    assert "WRONG: it is" in answer
    typist.type("?\n")
    assert "a random image" in typist.read(PROMPT)
    typist.type("train 17\n")
    assert "train 17: " in typist.read("train 0 to 329, a file, or q: ")
    typist.type("q\n")
    assert typist.leave() == 0


def test_nonsense_is_answered_and_asked_again(trained: xpnet.Model, sit_down: Callable[..., Typist]) -> None:
    typist = sit_down("run")
    for line, answer in (
        ("abc", "'abc' is neither an index nor a file; type 0 to 59, or h for help"),
        ("60", "index 60 is out of range: the test split of patterns.npz has indices 0 to 59"),
    ):
        typist.type(f"{line}\n")
        assert typist.read(PROMPT) == f"{line}\n{answer}\n{PROMPT}"
    typist.type("q\n")
    assert typist.leave() == 0


def test_a_split_that_is_not_there_is_wrong_use(trained: xpnet.Model, sit_down: Callable[..., Typist]) -> None:
    typist = sit_down("run", "--split", "validation", prompt="only train and test\n")  # no flag, where words are typed
    assert typist.leave() == 2
    assert typist.seen.count("xpnet: error: patterns.npz has no validation split") == 1


def test_the_end_of_the_file_leaves(trained: xpnet.Model, sit_down: Callable[..., Typist]) -> None:
    typist = sit_down("run")
    typist.type("\x04")
    assert typist.leave() == 0
    assert typist.seen.endswith(f"{PROMPT}\n")


def test_an_interrupt_abandons_the_line(trained: xpnet.Model, sit_down: Callable[..., Typist]) -> None:
    typist = sit_down("run")
    typist.type("5")
    typist.read("5")
    typist.interrupt()
    typist.interrupt()
    typist.type("7\n")
    assert "test 7: " in (answer := typist.read(PROMPT))
    assert "test 57" not in answer
    assert "Traceback" not in typist.seen
    typist.type("\x04")
    assert typist.leave() == 0


def test_an_interrupt_of_piped_lines_ends(trained: xpnet.Model) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no SIGINT to send to another process")
    environment = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parent.parent)}
    command = [sys.executable, "-m", "xpnet", "predict", "run", "--json", "--device", "cpu"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"5\n")
        process.stdin.flush()
        # The answer comes at once, not only at the end.
        assert select.select([process.stdout], [], [], PATIENCE)[0]
        assert json.loads(process.stdout.readline())["source"] == {"split": "test", "index": 5}
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == 130
        assert err.decode().splitlines()[-1] == "xpnet: interrupted"


def test_the_arrow_brings_earlier_lines_back(trained: xpnet.Model, sit_down: Callable[..., Typist]) -> None:
    pytest.importorskip("readline", reason="this Python has no readline")
    typist = sit_down("run")
    typist.type("5\n")
    typist.read(PROMPT)
    typist.type("1\n")
    typist.read(PROMPT)
    typist.type("\x1b[A\x1b[A\n")
    assert "test 5: " in typist.read(PROMPT)
    typist.type("\x1b[A\x1b[D7\n")
    assert "'75' is" not in (answer := typist.read(PROMPT))
    assert "index 75 is out of range" in answer


def test_the_tabulator_completes_the_name_of_a_file(pictures: str, sit_down: Callable[..., Typist]) -> None:
    pytest.importorskip("readline", reason="this Python has no readline")
    Path("some-folder").mkdir()
    Path("ring.png").rename("some-folder/ring.png")
    typist = sit_down(pictures, prompt="a file, or q: ")
    assert "which was not found" in typist.seen
    typist.type("some-folder/ri\t\n")
    answer = typist.read("a file, or q: ")
    assert "some-folder/ring.png: 0 (" in answer
    assert answer.count("▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀") == 14


def test_the_prompt_is_no_part_of_what_goes_elsewhere(trained: xpnet.Model, sit_down: Callable[..., Typist]) -> None:
    typist = sit_down("run", "--json", stdout=subprocess.PIPE)
    typist.type("5\n")
    typist.read(PROMPT)
    typist.type("q\n")
    assert typist.leave() == 0
    assert typist.process.stdout is not None
    assert json.loads(typist.process.stdout.read())["source"] == {"split": "test", "index": 5}


def test_forty_columns_and_no_colour(
    trained: xpnet.Model, sit_down: Callable[..., Typist], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    typist = sit_down("run", columns=36)
    typist.type("5\n")
    lines = typist.read(PROMPT).splitlines()
    assert max(map(len, lines[2:])) <= 36
    assert "▀" not in typist.seen
    assert re.fullmatch(r"[ ▸] 2 .* %", lines[-3])
