"""xpnet runs and xpnet compare: what came of the runs, which is best, and whether the difference means anything."""

import dataclasses
import io
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.conftest import write_npz
from tests.promises.resuming import Train
from xpnet.cli import main
from xpnet.files import locked
from xpnet.model import Measured
from xpnet.studies.compare import compare_errors, compare_right, mcnemar
from xpnet.studies.runs import best_of, read_run, read_runs

pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnet.training.directory.RunDirectory._draw", lambda *_: None)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The lines that a command shows on a terminal of so many columns, without colours."""

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    def run(columns: int, *arguments: str) -> list[str]:
        screen = Screen()
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(sys, "stdout", screen)
            assert main(arguments) == 0
        return re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue()).splitlines()

    return run


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["runs", *arguments, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_every_state_of_a_run(train: Train) -> None:
    assert train(Path("runs/20200102-030405-whole")).history
    train(Path("runs/stopped"), stop=(3, 2))
    train(Path("runs/kept-nothing"), stop=(3, 2), keep=0)
    train(Path("runs/early"), stop=2)
    train(Path("runs/patient"), validation=0.2, early_stopping=1, epochs=60)
    (Path("runs") / "not a run").mkdir()
    Path("runs/file").write_text("")
    result = train(None)
    Path("runs/imported").mkdir()
    result.model.save("runs/imported/model.safetensors")
    found = {run.path.name: run for run in read_runs(Path("runs"))}
    states = {name: (run.state, run.epochs, run.planned) for name, run in found.items() if name != "patient"}
    assert states == {
        "20200102-030405-whole": ("finished", 4, 4),
        "stopped": ("interrupted", 2, 4),
        "kept-nothing": ("interrupted", 2, 4),
        "early": ("finished", 2, 4),
        "imported": ("imported", 0, None),
    }
    whole, patient = found["20200102-030405-whole"], found["patient"]
    assert whole.began == time.mktime((2020, 1, 2, 3, 4, 5, 0, 0, -1))
    assert (whole.network, whole.data, whole.split) == ("36-7-3 relu", "patterns", "test")
    assert whole.accuracy == result.history[-1].test_accuracy
    assert whole.seconds == sum(epoch.seconds for epoch in whole.history)
    assert found["stopped"].split == "train"
    assert found["imported"].network == "36-7-3 relu"
    assert (patient.state, patient.split, patient.model_epoch) == ("finished", "test", patient.epochs - 1)
    with locked(Path("runs/stopped/.lock")):
        assert read_run(Path("runs/stopped")).state == "running"
    assert read_run(Path("runs/stopped")).state == "interrupted"
    assert [run.path for run in read_runs(Path("runs/early"))] == [Path("runs/early")]


def test_runs_of_several_seeds_are_in_a_folder_of_their_own(
    train: Train, terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        train(Path(f"runs/seeds/seed-{seed}"), seed=seed)
    train(Path("runs/deeper/one/two"))
    train(Path("runs/alone"))
    assert sorted(run["path"] for run in listed(capsys)) == ["runs/alone", "runs/seeds/seed-0", "runs/seeds/seed-1"]
    lines = terminal(80, "runs", "--sort", "name")
    assert [line.split()[0] for line in lines[1:4]] == ["alone", "seeds/seed-0", "seeds/seed-1"]
    assert terminal(80, "runs", "runs/alone")[1].startswith("runs/alone ")


def test_an_early_stop_without_a_test_split_is_no_interruption(train: Train, small_data: xpnet.Dataset) -> None:
    data = xpnet.Dataset("patterns", small_data.train, n_classes=3)
    result = train(Path("run"), data=data, validation=0.2, early_stopping=1, epochs=60)
    run = read_run(Path("run"))
    assert len(result.history) < 60
    assert (run.state, run.split, run.model_epoch) == ("finished", "validation", result.model_epoch)
    assert run.accuracy == result.history[result.model_epoch - 1].validation_accuracy


def write_run(name: str, *, accuracy: float, epochs: int = 1, seconds: float = 2.0, data: str = "mnist") -> Path:
    """The files of a run that was never trained."""
    path = Path("runs", name)
    path.mkdir(parents=True)
    (path / "config.toml").write_text(f'data = "{data}"\nhidden = [128]\nepochs = {epochs}\nlr = 0.1\n')
    head = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,test_loss,test_accuracy,"
    lines = [f"{e + 1},1.0,0.5,,,,,0.1,{seconds},9.0" for e in range(epochs - 1)]
    lines.append(f"{epochs},1.0,0.5,,,0.2,{accuracy},0.1,{seconds},9.0")
    (path / "history.csv").write_text("\n".join([f"{head}learning_rate,seconds,samples_per_second", *lines, ""]))
    return path


def test_the_best_of_those_that_can_be_compared_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    for name, accuracy, data in (
        ("a", 0.97, "mnist"),
        ("b", 0.98, "mnist"),
        ("c", 0.99, "digits"),
        ("d", 0.98, "mnist"),
    ):
        write_run(name, accuracy=accuracy, data=data)
    runs = read_runs(Path("runs"))
    assert {path.name for path in best_of(runs)} == {"b", "d"}
    assert best_of([run for run in runs if run.path.name in "ac"]) == set(), "one of each data is not the best of any"
    assert {run["path"]: run["best"] for run in listed(capsys)} == {f"runs/{n}": n in "bd" for n in "abcd"}
    assert main(["runs"]) == 0
    marked = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "*" in line]
    assert sorted(marked) == ["b", "d"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [("date", "cba"), ("name", "abc"), ("accuracy", "acb"), ("time", "cab"), ("epochs", "acb"), ("state", "abc")],
)
def test_runs_are_sorted_and_the_last_is_the_most(
    order: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("20260103-000000-a", accuracy=0.5, epochs=1, seconds=4)
    write_run("20260102-000000-b", accuracy=0.9, epochs=3, seconds=3)
    write_run("20260101-000000-c", accuracy=0.7, epochs=2, seconds=1)
    for path in Path("runs").iterdir():
        if order in ("name", "state"):
            path.rename(path.with_name(path.name[-1]))
            os.utime(path.with_name(path.name[-1]) / "config.toml", (0, 0))
    assert "".join(run["path"][-1] for run in listed(capsys, "--sort", order)) == expected


HOSTILE: dict[str, tuple[str, bytes | None, str]] = {
    "settings": ("config.toml", b"epochs = [", "config.toml is not valid TOML"),
    "unknown": ("config.toml", b"cunning = 3", "unknown setting 'cunning'"),
    "large": ("config.toml", b"#" * 70_000, "larger than the"),
    "history": ("history.csv", b"epoch\n1", "history.csv is not the history of a run"),
    "binary": ("history.csv", b"\xff\x00", "cannot read history.csv"),
    "times": ("history.csv", b"1e300", "impossible lengths of time"),
    "nan": ("history.csv", b"nan", "impossible lengths of time"),
    "model": ("model.safetensors", b"\xff" * 40, "model.safetensors is damaged or not a model"),
    "short": ("model.safetensors", b"\x02", "model.safetensors is damaged or not a model"),
    "pipe": ("config.toml", None, "neither a regular file nor a folder"),
    "folder": ("history.csv", b"", "cannot read history.csv"),
    "result": ("result.json", b"{}", "result.json is damaged"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pipes among the files")
def test_whatever_a_folder_holds_costs_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name, (file, content, _) in HOSTILE.items():
        path = write_run(f"{name}\x1b[31m", accuracy=0.9) / file
        if name == "pipe":
            path.unlink()
            os.mkfifo(path)
        elif name == "folder":
            path.unlink()
            path.mkdir()
        elif name in ("times", "nan"):
            path.write_text(path.read_text().replace(",2.0,", f",{content.decode()},"))  # type: ignore[union-attr]
        else:
            path.write_bytes(content or b"")
    Path("runs/loop").symlink_to("loop")
    Path("runs/gone").symlink_to("/nowhere")
    write_run("fine", accuracy=0.9)
    found = {Path(run["path"]).name.removesuffix("\x1b[31m"): run for run in listed(capsys)}
    assert {name: run["state"] for name, run in found.items()} == {
        **dict.fromkeys(HOSTILE, "unreadable"),
        "fine": "finished",
    }
    for name, (_, _, reason) in HOSTILE.items():
        assert reason in found[name]["reason"], name
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 + 13
    assert "\x1b" not in out + err
    assert len(err.splitlines()) == 12


def test_a_table_on_a_terminal_and_through_a_pipe(
    terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("20260102-030405-mnist", accuracy=0.9876, epochs=6)
    write_run("20260102-040000-mnist", accuracy=0.9832, epochs=6, seconds=700.0)
    assert main(["runs"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "date", "data", "network", "epochs", "score", "time", "state"]
    assert re.split(" {2,}", first) == [
        *("20260102-030405-mnist", "2026-01-02 03:04", "mnist", "128 relu", "6", "98.76 % *", "12 s", "finished"),
    ]
    assert "98.32 %" in second
    assert "1 h 10 min" in second
    for columns in (200, 80, 60, 40, 33):
        lines = terminal(columns, "runs")
        assert max(map(len, lines)) <= columns
        assert lines[1].startswith("20260102-030405-mnist ")
        assert "98.76 % *" in lines[1]
        assert "* best of its data and split; next: xpnet compare runs/20260102" in " ".join(lines)
    assert "date" not in terminal(80, "runs")[0]
    narrow = terminal(21, "runs")
    assert narrow[2:4] == ["20260102-030405-mnist", "  98.76 % *"], "one below the other, and unbroken"


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [([10], "10"), ([10, 10], "10-10"), ([10, 10, 20], "10-10-20"), ([10, 10, 10], "3x10"), ([9, 9, 9, 10], "3x9-10")],
)
def test_equal_widths_are_counted_from_three_on(
    hidden: list[int], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run("run", accuracy=0.9)
    config = Path("runs", "run", "config.toml")
    config.write_text(config.read_text(encoding="utf-8").replace("[128]", str(hidden)), encoding="utf-8")
    assert main(["runs"]) == 0
    assert f" {shown} relu " in capsys.readouterr().out


def test_what_comes_next(train: Train, terminal: Callable[..., list[str]]) -> None:
    assert terminal(80, "runs", ".") == ["no runs in .; xpnet train makes one"]
    assert terminal(80, "runs") == ["no runs in runs; xpnet train makes one"]
    train(Path("runs/mine"))
    assert not any("next" in line for line in terminal(80, "runs"))
    train(Path("runs/stopped"), stop=(3, 2))
    assert terminal(80, "runs")[-1] == "next: xpnet train --resume runs/stopped"


def test_runs_where_there_is_no_folder(fails: Callable[..., str]) -> None:
    assert fails(2, "runs", "nothere") == "cannot read the folder nothere: No such file or directory"
    Path("file").write_text("")
    assert "cannot read the folder file: " in fails(2, "runs", "file")
    assert "Choose from" in fails(2, "runs", "--sort", "beauty")


def test_a_result_of_reproduce_has_its_score(capsys: pytest.CaptureFixture[str], patterns: str) -> None:
    Path("one.toml").write_text("hidden = [6]\nepochs = 2\nbatch_size = 50\n")
    assert main(["reproduce", "one.toml", "--data", patterns, "--device", "cpu", "--runs", "r", "--quiet"]) == 0
    (record,) = json.loads(Path("r/results.json").read_text())["runs"]
    capsys.readouterr()
    (directory,) = {path.parent for path in Path("r").rglob("config.toml")}
    (run,) = listed(capsys, str(directory))
    assert (run["state"], run["split"]) == ("finished", "test")
    assert run["accuracy"] == pytest.approx(1 - len(record["wrong"]) / record["n_test"])
    assert main(["compare", str(directory), str(directory), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"][0]["scores"]["test_accuracy"] == run["accuracy"]
    assert found["test_examples"][0]["both"] == record["n_test"] - len(record["wrong"])


# --- compare ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(patterns: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Two runs on patterns, and one on other data."""
    quick = ["--device", "cpu", "--epochs", "1", "--quiet"]
    for name, more in (("one", ["--hidden", "2"]), ("two", ["--hidden", "16", "--lr", "0.05"])):
        assert main(["train", *quick, "--data", patterns, *more, "--out", name]) == 0
    assert main(["train", *quick, "--data", "moons", "--out", "moons"]) == 0
    capsys.readouterr()
    return ["one", "two"]


def test_runs_are_compared_example_by_example(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *two, "moons", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["hidden"] == [[2], [16], [128]]
    assert "seed" not in found["settings"]
    test = xpnet.load_data("patterns.npz").test
    assert test is not None
    one, other = (xpnet.load(path, "cpu").predict(test.images) == test.labels for path in two)
    first, second = found["test_examples"]
    assert (first["both"], first["neither"]) == (np.sum(one & other), np.sum(~one & ~other))
    assert (first["only_first"], first["only_second"]) == (np.sum(one & ~other), np.sum(~one & other))
    assert first["p"] == mcnemar(first["only_first"], first["only_second"])
    assert "different test examples" in second["reason"]
    assert [run["scores"]["test_accuracy"] for run in found["runs"]][:2] == [one.mean(), other.mean()]


def test_compare_prints_what_differs(
    two: list[str], terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *two, "moons"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {re.split(" {2,}", line)[0]: re.split(" {2,}", line)[1:] for line in lines}
    assert cells["A"] == ["one: 36-2-3 relu"]
    assert cells["hidden"] == ["2", "16", "128"]
    assert len(cells["test accuracy"]) == 4, "no difference between scores on different data"
    assert "optimizer" not in cells
    assert any(re.match(r"on the same 60 test examples, only A is right on \d+, only B on \d+: p = ", x) for x in lines)
    for columns in (80, 40, 24):
        lines = terminal(columns, "compare", *two)
        assert max(map(len, lines)) <= columns
        text = " ".join(" ".join(lines).split())
        assert "p = " in text
        assert "next: xpnet plot one two" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [((0.0367, 0.0298), "-0.01 s"), ((0.0298, 0.0367), "+0.01 s"), ((0.031, 0.03), "+0.00 s"), ((90, 30), "-1 min")],
)
def test_the_faster_of_two_runs(
    two: list[str],
    seconds: tuple[float, float],
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = dict(zip(two, seconds, strict=True))
    monkeypatch.setattr(
        "xpnet.cli.compare.read_run", lambda path: dataclasses.replace(read_run(path), seconds=times[str(path)])
    )
    assert main(["compare", *two]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("training")]
    assert line.endswith(f"  {shown}")


def test_compare_without_the_data_compares_the_histories(
    two: list[str], patterns: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(patterns).unlink()
    assert main(["compare", *two]) == 0
    out = capsys.readouterr().out
    assert "test accuracy" in out
    assert "no comparison example by example: the model was trained on" in out


def test_compare_a_model_without_settings_and_a_run_with_itself(
    two: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bare").mkdir()
    shutil.copy("one/model.safetensors", "bare")
    assert main(["compare", "bare", "one/model.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "A  bare: 36-2-3 relu, imported" in out
    assert "A holds no settings" in out
    assert "hidden" not in out
    assert "only A is right on 0, only B on 0: p = 1 (McNemar's exact test), which chance may explain" in out
    assert main(["compare", "one", "one"]) == 0
    assert "the settings are the same" in capsys.readouterr().out


def test_compare_regressions(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(200, 3))
    for part, rows in (("a", slice(150)), ("t", slice(150, None))):
        table = np.column_stack([X[rows], X[rows] @ [100, 20, 3]])
        np.savetxt(f"{part}.csv", table, delimiter=",", header="u,v,w,target", comments="")
    common = ["--data", "a.csv", "--test", "t.csv", "--task", "regression", "--device", "cpu", "--quiet"]
    for name, epochs in (("one", "1"), ("two", "30")):
        assert main(["train", *common, "--epochs", epochs, "--out", name]) == 0
    capsys.readouterr()
    assert main(["compare", "one", "two", "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["test_examples"]
    assert pair["examples"] == 50
    assert pair["difference"] == pytest.approx(pair["second"] - pair["first"])
    assert pair["low"] < pair["difference"] < pair["high"] < 0
    assert main(["compare", "one", "two"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"mean absolute error is \d\S* of A and \S+ of B: -\S+, with a 95 % interval", out)
    assert "more than chance explains" in out
    assert "test R2" in out


def test_compare_what_cannot_be_compared(two: list[str], fails: Callable[..., str]) -> None:
    assert fails(2, "compare").startswith("name two runs or more")
    assert fails(2, "compare", "one").startswith("name two runs or more")
    assert fails(1, "compare", "one", "nothere") == "nothere is no run directory"
    Path("empty").mkdir()
    assert fails(1, "compare", "one", "empty") == "empty holds no run"
    Path("two/config.toml").write_text("epochs = [")
    assert fails(1, "compare", "one", "two").startswith("two: config.toml is not valid TOML")


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [(0, 0, 1.0), (3, 3, 1.0), (0, 1, 1.0), (0, 5, 2 / 32), (1, 8, 2 * 10 / 512), (8, 1, 2 * 10 / 512)],
)
def test_mcnemar_by_hand(b: int, c: int, p: float) -> None:
    assert mcnemar(b, c) == pytest.approx(p, rel=1e-12)


def test_mcnemar_of_many_disagreements_agrees_with_whole_numbers() -> None:
    exact = 2 * sum(math.comb(5000, k) for k in range(2401)) / 2**5000
    assert mcnemar(2600, 2400) == pytest.approx(exact, rel=1e-9)
    assert mcnemar(0, 100_000) == 0.0


def test_measures_of_different_examples_are_refused() -> None:
    def measured(targets: list[Any]) -> Measured:
        found = np.array(targets)
        return Measured(None, np.zeros((len(found), 2)), found)

    with pytest.raises(xpnet.ModelError, match="not measured on the same examples"):
        compare_right(measured([0, 1]), measured([1, 1]))
    with pytest.raises(xpnet.ModelError, match="no examples"):
        compare_right(measured([]), measured([]))
    one = compare_errors(measured([[1.0, 2.0]]), measured([[1.0, 2.0]]))
    assert (one.first, one.difference, one.high) == (1.5, 0.0, math.inf)


def test_several_labels_must_all_be_right() -> None:
    targets = np.array([[0.0, 1.0], [1.0, 1.0]])
    right = Measured(None, np.array([[0.1, 0.9], [0.9, 0.9]]), targets)
    half = Measured(None, np.array([[0.1, 0.9], [0.1, 0.9]]), targets)
    assert compare_right(right, half)[:5] == (2, 1, 0, 1, 0)


def test_an_index_of_other_examples_is_no_comparison(
    two: list[str], small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same number of examples and the same labels, but other pictures."""
    assert small_data.test is not None
    other = xpnet.Split(255 - small_data.test.images, small_data.test.labels)
    write_npz("other.npz", xpnet.Dataset("other", small_data.train, other, n_classes=3))
    assert main(["train", "--data", "other.npz", "--device", "cpu", "--epochs", "1", "--quiet", "--out", "three"]) == 0
    capsys.readouterr()
    assert main(["compare", "one", "three"]) == 0
    assert "the runs have different test examples" in capsys.readouterr().out
