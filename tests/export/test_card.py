"""The model card: true figures, a head that YAML reads, and no markup but its own, whatever the model's texts are."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from markdown_it import MarkdownIt

import xpnet
from tests.export.models import made, rows_for
from xpnet.cli import main
from xpnet.data.schema import PIXELS
from xpnet.errors import ConfigError, one_line
from xpnet.export.card import Evidence, card
from xpnet.model import interval

pytestmark = pytest.mark.usefixtures("own_directory")

QUICK = ["--device", "cpu", "--epochs", "2", "--hidden", "16", "--lr", "0.05", "--batch-size", "64"]


def head_of(text: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML, which pre-commit brings, is not installed")
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def body_of(text: str) -> str:
    body = text.split("---\n", 2)[2]
    return str(MarkdownIt("commonmark").enable("table").render(body))


def evidence_for(model: Any, n: int = 200, data: str = "points") -> tuple[Evidence, np.ndarray]:
    rng = np.random.default_rng(3)
    k = model.network.sizes[-1]
    y: Any = rng.integers(0, k, n) if model.task == "classification" else rng.integers(0, 2, (n, k)).astype(np.float64)
    if model.task == "classification" and model.schema.classes:
        y = np.array(model.schema.classes, object)[y]
    return Evidence(model.measure(rows_for(model, n), y), "", data), y


def test_the_figures_are_those_that_were_measured() -> None:
    model = made(classes=("a", "b", "c"), features=PIXELS, image_shape=(2, 3))
    evidence, y = evidence_for(model)
    text = card(
        model, "my.onnx", use="run(rows)", evidence=evidence, settings={"lr": "0.1"}, license="MIT", unsure=0.35
    )
    right = model.predict(rows_for(model, 200)) == y
    low, high = interval(int(right.sum()), 200)
    assert f"**{100 * right.mean():.2f} %**" in text
    assert f"{100 * low:.2f} % to {100 * high:.2f} %" in text
    counts = model.confusion_matrix(rows_for(model, 200), y)
    assert f"| a | {counts[0].sum()} | {100 * counts[0, 0] / counts[0].sum():.2f} % |" in text
    wrong = counts - np.diag(np.diagonal(counts))
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    assert (
        f"| is | was classified as | times |\n| --- | --- | --- |\n| {'abc'[i]} | {'abc'[j]} | {wrong.max()} |" in text
    )
    error = xpnet.model.calibration_error(model.outputs(rows_for(model, 200)), evidence.measured.targets)  # type: ignore[union-attr]
    assert f"calibration error on the test split is {error:.4f}" in text
    assert "divided by 1.7" in text
    sure = model.outputs(rows_for(model, 200)).max(axis=1) >= 0.35
    assert f"| at least 35 % | {100 * sure.mean():.2f} % | {100 * right[sure].mean():.2f} % |" in text
    assert "    run(rows)\n" in text
    assert "| lr | 0.1 |" in text
    head = head_of(text)
    assert (head["license"], head["pipeline_tag"], head["library_name"]) == ("mit", "image-classification", "onnx")
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": right.mean()}]
    assert result["dataset"] == {"type": "points", "name": "points", "split": "test"}


@pytest.mark.parametrize("loss", ["squared-error", "poisson", "binary-cross-entropy", "mse"])
def test_other_tasks_have_their_own_figures(loss: str) -> None:
    model = made(loss=loss)
    evidence, _ = evidence_for(model)
    text = card(model, "my.json", use="", evidence=evidence)
    assert "outputs are no probabilities of classes" in text
    head = head_of(text)
    if model.task == "regression":
        measured = evidence.measured
        assert measured is not None
        assert f"| R2 | {measured.scores.r2:.4f} |" in text
        assert f"| RMSE | {np.sqrt(np.mean((measured.outputs - measured.targets) ** 2)):.5g} |" in text
        assert head["pipeline_tag"] == "tabular-regression"
        assert head["metrics"] == ["r_squared", "mae"]
    else:
        assert head["pipeline_tag"] == "tabular-classification"
        assert "interval, Wilson" in text


def test_what_was_not_measured_has_no_figure() -> None:
    text = card(xpnet.Ensemble([made(), made(seed=2)]), "my.npz", use="", evidence=Evidence(None, "it is <gone>"))
    assert "It was not measured: it is &#60;gone&#62;." in text
    assert "An ensemble of 2 multilayer perceptrons" in text
    assert "None was chosen for this model" in text
    assert "not known: the model lies in no run directory" in text
    assert not {"model-index", "metrics", "license"} & head_of(text).keys()


HOSTILE = [
    "<script>alert(1)</script>",
    "a|b\\|c",
    "x\n\n# heading\n---\n```",
    "![x](http://y) [z]: http://w <http://v>",
    '"}: *&! - {yaml: [1]} # "',
    "__b__ *i* ~~s~~ `c` $m$ :e: @u #1 www.x.org https://x.org",
    "\u202e\x1b[31m\ud800\u2028\x85é😀",
    "&lt;b&gt; &amp;",
    "'; DROP",
    " | |",
    "- 1. > + =",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_the_model_are_shown_and_do_nothing(text: str) -> None:
    def described(text: str) -> tuple[str, Any]:
        columns = tuple(f"{text}{i}" for i in range(6))
        model = made(classes=(text, text + "*", text + "/"), columns=columns, data=text)
        evidence, _ = evidence_for(model, data=text)
        found = card(model, text.replace("/", "") + ".onnx", use=text, evidence=evidence, settings={text: text})
        return body_of(found), head_of(found)

    (html, head), (plain, plain_head) = described(text), described("name")
    tags = [[token.split(">")[0] for token in page.split("<")[1:]] for page in (html, plain)]
    assert tags[0] == tags[1]
    shown = (
        one_line(text).lstrip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    )
    assert f"<td>{shown}*</td>" in html
    assert structure(head) == structure(plain_head)
    assert head["model-index"][0]["results"][0]["dataset"]["type"] in one_line(text)


def structure(value: Any) -> Any:
    """A tree without its texts."""
    if isinstance(value, dict):
        return {name: structure(entry) for name, entry in value.items()}
    return [structure(entry) for entry in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(
    ("file", "takes"),
    [
        ("my.onnx", "an array of uint8 of shape (n, 2, 3), pixels from 0 to 255, as they come"),
        ("my.pt", "a tensor of any dtype, of shape (n, 2, 3), pixels from 0 to 255, as they come"),
        ("my.keras", "an array of shape (n, 2, 3), pixels from 0 to 255, as they come"),
        ("my.h", "6 pixels, row by row, from 0 to 255, as they come"),
    ],
)
def test_it_says_what_the_file_takes(file: str, takes: str) -> None:
    text = card(made(features=PIXELS, image_shape=(2, 3)), file, use="")
    assert f"It takes {takes}; they are scaled inside." in text


def test_an_onnx_file_takes_what_its_card_says(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra onnx")
    inputs: tuple[Literal["uint8", "float32"] | None, ...] = (None, "float32")
    for model in (made(features=PIXELS, image_shape=(2, 3)), made()):
        for input in inputs:
            file = tmp_path / "my.onnx"
            xpnet.export.export(model, file, input=input, force=True)
            text = card(model, file.name, use="", input=input)
            ((dtype, shape),) = re.findall(r"takes an array of (\w+) of shape \(n, ([\d, ]+)\)", text)
            rows = rows_for(model, 5).reshape(5, *map(int, shape.split(", "))).astype(dtype)
            found = onnxruntime.InferenceSession(file).run(None, {"input": rows})[0]
            np.testing.assert_allclose(found, model.outputs(rows), rtol=0, atol=2e-6)


def test_a_path_is_nobody_s_business() -> None:
    text = card(made(data="/home/anna/secret/points.csv"), "my.onnx", use="")
    assert "points.csv" in text
    assert "anna" not in text


@pytest.mark.parametrize("license", ["MIT\nx: y", "", "a b", "<b>", "x" * 65])
def test_a_license_is_an_identifier(license: str) -> None:
    with pytest.raises(ConfigError, match="--license must be an identifier such as mit"):
        card(made(), "my.onnx", use="", license=license)


def test_from_the_command_line(patterns: str, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    augment = ["--augment", "rotation=10"]
    assert main(["train", "--data", patterns, *QUICK, *augment, "--out", "runs/first"]) == 0
    Path("out").mkdir()
    capsys.readouterr()
    assert main(["export", "runs/first", "out/model.json", "--card", "--license", "apache-2.0"]) == 0
    out = capsys.readouterr().out
    assert "out/README.md: its model card\n" in out.replace("\\", "/")
    text = Path("out/README.md").read_text(encoding="utf-8")
    assert "| hidden | 16 |" in text
    assert "| lr | 0.05 |" in text
    assert "| augment | rotation=10 " in text
    assert all(f"| {name}" not in text for name in ("beta1", "teach", "decay"))
    accuracy = out.splitlines()[1].split("accuracy ")[1].split(" on")[0]
    assert f"**{accuracy}**" in text
    assert "test split of patterns.npz" in text
    assert str(Path.cwd()) not in text
    Path("out/README.md").write_text("mine")
    assert "README.md exists: move it away" in fails(2, "export", "runs/first", "out/model.npz", "--card")
    assert "add --card" in fails(2, "export", "runs/first", "out/model.npz", "--license", "mit")
    assert "must be an identifier" in fails(
        2, "export", "runs/first", "out/model.npz", "--card", "--license", "a b", "--force"
    )
    assert [path.name for path in sorted(Path("out").iterdir())] == ["README.md", "model.json"]
    assert Path("out/README.md").read_text() == "mine"
    assert main(["export", "runs/first", "out/model.json", "--card", "--force"]) == 0
    assert "without a licence: --license names one" in capsys.readouterr().out
    assert Path("out/README.md").read_text(encoding="utf-8").startswith("---\n")
