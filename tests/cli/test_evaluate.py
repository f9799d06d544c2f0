"""What xpnet evaluate prints: its figures, by class and by output, and how they fit terminals and pipes."""

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

import xpnet
from tests.cli.test_terminal import Terminal, lines_of
from xpnet.cli import main
from xpnet.data import Scaling, Schema

pytestmark = pytest.mark.usefixtures("own_directory")

LOSSES = {"classification": "cross-entropy", "multilabel": "binary-cross-entropy", "regression": "squared-error"}
DIGITS = tuple("0123456789")
LONG = tuple(f"kind of thing number {i} of all" for i in range(5))
USE = ["evaluate", "m.safetensors", "--data", "some", "--device", "cpu"]


def arrange(
    monkeypatch: pytest.MonkeyPatch, outputs: np.ndarray, y: Any, task: str, classes: tuple[Any, ...] = ()
) -> None:
    """Save a model with such logits for a test set with these targets, and give it to evaluate."""
    n, k = outputs.shape
    X = np.eye(n)
    data = xpnet.Dataset(
        "some",
        xpnet.Split(X, y),
        test=xpnet.Split(X, y),
        classes=classes if task == "classification" else (),
        task=task,
    )
    monkeypatch.setattr("xpnet.cli.datasets.load_data", lambda *_, **__: data)
    network = xpnet.MLP((n, k), loss=LOSSES[task])
    arrays = [np.asarray(outputs, np.float32), np.zeros(k, np.float32)]
    schema = Schema("some", (n,), features=Scaling(), classes=classes)
    xpnet.Model(network, arrays, [], xpnet.select("cpu"), schema).save("m.safetensors")


def piped(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(USE) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    assert main([*USE, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    return found


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream := Terminal())
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", "xterm")
        assert main(USE) == 0
    return lines_of(stream)


def draw(task: str, k: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if task == "classification":
        y = rng.integers(0, k, n)
        return 2 * np.eye(k)[y] + rng.normal(size=(n, k)), y
    if task == "multilabel":
        y = rng.integers(0, 2, (n, k))
        return 2.0 * y - 1 + rng.normal(size=(n, k)), y
    numbers = 1e4 * rng.normal(size=(n, k))
    return numbers + 1e3 * rng.normal(size=(n, k)), numbers


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize(
    ("task", "k", "classes"),
    [
        ("classification", 10, DIGITS),
        ("classification", 5, LONG),
        ("classification", 3, ("漢字" * 3, "kana", "é")),
        ("classification", 60, ()),
        ("multilabel", 5, LONG),
        ("regression", 1, ()),
        ("regression", 4, LONG[:4]),
    ],
)
def test_no_word_and_no_number_is_broken(
    task: str,
    k: int,
    classes: tuple[str, ...],
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrange(
        monkeypatch,
        *draw(task, k, 2000 if classes == DIGITS else 200),
        task,
        classes or (tuple(range(k)) if task == "classification" else ()),
    )
    words = {*piped(capsys).split(), "(--json", "prints", "complete", "matrix)"}
    capsys.readouterr()
    lines = on_terminal(monkeypatch, columns)
    assert max(map(cell_len, lines)) <= columns
    for word in " ".join(lines).split():
        assert {word, word.removesuffix(",")} & words, word
    if classes == DIGITS:
        assert any(line.split() == list(DIGITS) for line in lines) == (columns == 80)
    if classes == LONG:  # too long for 40 columns, where they stand above their figures
        kind, *figures = ["class", "precision", "recall", "F1"]
        if task == "multilabel":
            kind, figures = "label", ["right", *figures]
        at = next(i for i, line in enumerate(lines) if line.startswith(kind))
        if columns == 80:
            assert lines[at].split() == [kind, "n", *figures]
        else:
            assert lines[at : at + 3] == [kind, "  precision, recall, F1", LONG[0]]
            assert re.fullmatch(r"  [\d.]+ %, [\d.]+ %, [\d.]+ %", lines[at + 3])


def test_through_a_pipe_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tuple(f"{'a long name ' * 9}{i}" for i in range(3))
    arrange(monkeypatch, *draw("classification", 3), "classification", names)
    monkeypatch.setenv("COLUMNS", "40")
    out = piped(capsys)
    for name in names:
        assert re.search(rf"^{name} +\d+ +[\d.]+ % +[\d.]+ % +[\d.]+ %$", out, re.MULTILINE)


def test_all_figures_of_classes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    y = np.repeat([0, 1, 2], [6, 3, 1])
    read = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0, 0])  # the last class is never predicted, and one more never occurs
    arrange(monkeypatch, 9.0 * np.eye(4)[read], y, "classification", ("a", "b", "c", "d"))
    found = as_json(capsys)
    assert set(found) == {
        *("model", "network", "device", "library", "data", "source", "split", "images"),
        *("loss", "accuracy", "accuracy_interval", "top_k", "top_k_accuracy", "macro_f1", "calibration_error"),
        *("classes", "confusion", "confusions"),
    }
    assert found["accuracy"] == 0.7
    assert found["accuracy_interval"] == pytest.approx([0.39677, 0.89221], abs=1e-5)
    assert (found["top_k"], found["top_k_accuracy"]) == (3, 1.0)
    rows = [[row[key] for key in ("class", "images", "precision", "recall", "f1")] for row in found["classes"]]
    assert rows == [
        ["a", 6, 5 / 7, 5 / 6, 10 / 13],
        ["b", 3, 2 / 3, 2 / 3, 2 / 3],
        ["c", 1, None, 0.0, 0.0],
        ["d", 0, None, None, None],
    ]
    assert found["macro_f1"] == pytest.approx((10 / 13 + 2 / 3) / 3)
    assert found["confusions"] == [
        {"label": "a", "predicted": "b", "times": 1},
        {"label": "b", "predicted": "a", "times": 1},
        {"label": "c", "predicted": "a", "times": 1},
    ]
    out = piped(capsys)
    assert "accuracy  70.00 % (95 % interval: 39.68 to 89.22 %)\ntop-3     100.00 %\nmacro F1  47.86 %\nloss " in out
    assert "\nc      1          -   0.00 %   0.00 %\nd      0          -        -        -\n" in out
    assert out.endswith("the most frequent confusions\na taken for b: once\nb taken for a: once\nc taken for a: once\n")


def test_figures_of_two_classes_and_of_no_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    y = np.array([0, 1, 1])
    arrange(monkeypatch, 9.0 * np.eye(2)[y], y, "classification", ("no", "yes"))
    found = as_json(capsys)
    assert (found["top_k"], found["top_k_accuracy"], found["confusions"]) == (None, None, [])
    assert (out := piped(capsys)).endswith("\nno confusion\n")
    assert "top-" not in out


def test_figures_of_labels_and_of_numbers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    y = np.array([[1, 0], [1, 1], [0, 0], [1, 1]])
    arrange(monkeypatch, np.array([[1, -1], [1, -1], [1, -1], [1, 1]]), y, "multilabel", ("red", "ripe"))
    found = as_json(capsys)
    assert (found["accuracy"], found["macro_f1"]) == (0.5, pytest.approx((6 / 7 + 2 / 3) / 2))
    assert [(row["precision"], row["recall"], row["accuracy"]) for row in found["classes"]] == [
        (0.75, 1.0, 0.75),
        (1.0, 0.5, 0.75),
    ]
    assert "confusion" not in found
    assert "accuracy  50.00 % (all labels right; 95 % interval: 15.00 to 85.00 %)\n" in piped(capsys)
    numbers = np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]])
    errors = np.array([[0, 3], [0, 0], [0, -4]])
    arrange(monkeypatch, numbers + errors, numbers, "regression", ("width", "height"))
    found = as_json(capsys)
    assert [(row["output"], row["mae"]) for row in found["outputs"]] == [
        ("width", 0.0),
        ("height", pytest.approx(7 / 3)),
    ]
    assert found["rmse"] == pytest.approx(np.sqrt(25 / 6))
    assert found["r2"] == pytest.approx(np.mean([row["r2"] for row in found["outputs"]]))
    out = piped(capsys)
    assert f"RMSE      {np.sqrt(25 / 6):.5g} (root mean square error over 2 outputs)\n" in out
    assert re.search(r"^height +0\.8750  2\.3333  2\.8868$", out, re.MULTILINE)


def test_a_network_that_ran_away(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arrange(monkeypatch, np.full((4, 3), np.nan), np.array([0, 1, 2, 2]), "classification", ("a", "b", "c"))
    found = as_json(capsys)
    assert (found["loss"], found["calibration_error"]) == (None, None)
    assert "loss      nan\n" in piped(capsys)


def test_names_are_kept_as_they_are_and_shown_printable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("caf\xe9\xa0noir", "th\xe9\t\x1b[2J")
    y = np.array(names)[np.arange(6) % 2]
    arrange(monkeypatch, np.eye(2)[np.arange(6) % 2], y, "classification", names)
    model = xpnet.load("m.safetensors", "cpu")
    assert model.classes == names
    assert model.predict(np.eye(6)).tolist() == y.tolist()
    shown = piped(capsys)
    assert "caf\xe9\\xa0noir" in shown
    assert "th\xe9\\t\\x1b[2J" in shown
    columns = Schema("some", (2,), features=Scaling(), columns=("height\n(cm)", "\u200bweight"))
    dataclasses.replace(model, network=xpnet.MLP((2, 2)), params=[np.eye(2), np.zeros(2)], schema=columns).save("m")
    assert xpnet.load("m", "cpu").schema.columns == columns.columns


def test_rows_of_one_class_are_enough_for_a_model(
    capsys: pytest.CaptureFixture[str], fails: Callable[..., str]
) -> None:
    """Which knows the others; to train on, they are too few."""
    rows = [(i, -i if i % 2 else i, "odd" if i % 2 else "even") for i in range(40)]
    for name, chosen in (("all.csv", rows), ("odd.csv", rows[1::2]), ("one.csv", rows[:1])):
        lines = ["a,b,label", *(",".join(map(str, row)) for row in chosen)]
        Path(name).write_text("\n".join(lines), encoding="utf-8")
    assert main(["train", "--data", "all.csv", "--out", "run", "--quiet"]) == 0
    for name, n in (("odd.csv", 20), ("one.csv", 1)):
        capsys.readouterr()
        assert main(["evaluate", "run", "--data", name, "--split", "train", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["images"] == n
        assert main(["predict", "run", "--data", name, "--split", "train", "--csv"]) == 0
    capsys.readouterr()
    message = fails(1, "train", "--data", "odd.csv", "--out", "other")
    assert "every label is 'odd'; at least two classes are needed" in message
