"""The log of bench: what a run leaves in it, how runs are compared, and the picture over time."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import xpnet
from bench import __main__, _log, compare, over_time
from bench._log import Entry, Figure, begin, note, read_log, write_line

MACHINE = {
    "cpu": "a CPU",
    "cores": 2,
    "system": "Linux",
    "python": "3.11.7",
    "versions": {"xpnet": "0", "numpy": "2.4"},
}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(_log.ENVIRONMENT, str(tmp_path / "log.jsonl"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "log.jsonl"


def run(commit: str, step: Sequence[float], products: Sequence[float] = (), *, time: str = "2026-11-29") -> Entry:
    """A run of a measurement of steps, in turns with products if there are any."""
    figures = {"step": Figure(list(step), "us", "products" if products else "")}
    if products:
        figures["products"] = Figure(list(products), "us")
    return Entry("step", [], f"{time}T00:00:00Z", commit, False, MACHINE, 1.0, 0, figures)


def runs(factor: float, seed: int, n: int = 3, *, drift: float = 0.3) -> list[Entry]:
    """Runs of steps that take factor times as long as products, on a machine that is slower for whole stretches."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        machine = 100 * np.exp(drift * np.cumsum(rng.normal(size=50)) / 7) * rng.uniform(0.7, 1.5)
        steps = factor * machine * np.exp(0.03 * rng.normal(size=50))
        found.append(run("c" * 40, steps.tolist(), (machine * np.exp(0.03 * rng.normal(size=50))).tolist()))
    return found


def verdict(a: list[Entry], b: list[Entry], least: float = 0.03) -> str:
    (change,) = compare.compare(a, b)
    return change.verdict(least)


# The line -------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_line(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["bench", "step", "--rounds", "2", "--hidden", "4"])
        assert __main__.main() == 0
    assert capsys.readouterr().err == "logged in log.jsonl\n" * 2
    first, second = read_log(log)
    assert (first.measurement, first.arguments, first.status) == ("step", ["--rounds", "2", "--hidden", "4"], 0)
    assert first.machine["versions"]["xpnet"] == xpnet.__version__
    assert first.time <= second.time
    assert 0 < first.seconds < 600
    name = "784-4-10@64 momentum"
    assert list(first.figures) == [f"{name}: step", f"{name}: products"]
    assert first.figures[f"{name}: step"].against == f"{name}: products"
    assert len(first.figures[f"{name}: step"].rounds) == 2


def test_a_log_that_cannot_be_written_loses_no_result(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(_log.ENVIRONMENT, str(log / "none" / "log.jsonl"))
    monkeypatch.setattr(sys, "argv", ["bench", "step", "--rounds", "2", "--hidden", "4"])
    assert __main__.main() == 0
    out, err = capsys.readouterr()
    assert "step / products" in out
    assert err == f"bench: not logged: {log / 'none' / 'log.jsonl'}: No such file or directory\n"


def test_the_line_has_the_commit_of_what_was_measured(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        about = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        return subprocess.run(["git", *about, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "repository" / "xpnet"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(xpnet, "__file__", str(package / "__init__.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(package)
    for when in ("no repository", "committed", "changed"):
        if when == "committed":
            git("init", "--quiet")
            git("add", ".")
            git("commit", "--quiet", "-m", "first")
        if when == "changed":
            (package / "__init__.py").write_text("changed")
        start = begin()
        note("figure", [1.0], "s")
        write_line("step", [], start, 0)
    commit = git("rev-parse", "HEAD")
    assert [(entry.commit, entry.changed) for entry in read_log(log)] == [("", False), (commit, False), (commit, True)]


def test_what_was_not_measured_leaves_none(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note("of an earlier run", [1.0], "s")
    start = begin()
    note("none", [], "s")
    note("not a number", [float("nan")], "MB")
    assert write_line("step", [], start, 0) is None
    note("figure", [1.23456789, float("nan"), 2], "s")
    monkeypatch.setenv(_log.ENVIRONMENT, "")
    assert write_line("step", [], start, 0) is None
    monkeypatch.setenv(_log.ENVIRONMENT, str(log))
    assert write_line("step", [], start, 0) == log
    assert read_log(log)[0].figures == {"figure": Figure([1.2346, 2.0], "s")}


def test_git_ignores_the_log_but_not_the_history() -> None:
    folder = _log.RESULTS
    if subprocess.run(["git", "rev-parse"], cwd=folder, check=False, capture_output=True).returncode:
        pytest.skip("this is no repository")
    ignored = subprocess.run(
        ["git", "check-ignore", _log.LOG, _log.HISTORY], cwd=folder, check=False, capture_output=True
    )
    assert ignored.stdout.decode().splitlines() == [str(_log.LOG)]


@pytest.mark.parametrize(
    "line", ["x", "[]", "{}", '{"figures": 3}', json.dumps(run("c", [])._asdict() | {"figures": {"a": {"rounds": []}}})]
)
def test_a_damaged_log_is_an_error_of_one_line(line: str, log: Path) -> None:
    log.write_text(line + "\n")
    with pytest.raises(xpnet.DataError, match=r"log.jsonl is not a log of bench \(\w+: "):
        read_log(log)


# Comparing ------------------------------------------------------------------------------------------------------------


def test_what_became_slower_is_found_through_a_machine_s_moods() -> None:
    """By the ratio to what took turns with it; the raw times differ by half from run to run."""
    before = runs(1.5, 0)
    assert verdict(before, runs(1.5 * 1.15, 1)) == "SLOWER"
    assert verdict(before, runs(1.5 / 1.15, 2)) == "faster"
    assert verdict(before, runs(1.5, 3)) == "as before"
    (change,) = compare.compare(before, runs(1.5 * 1.15, 1))
    assert change.name == "step: step / products"
    assert (change.rounds, change.runs) == ((150, 150), (3, 3))
    assert change.low < 1.15 < change.high


def test_a_row_is_named_once() -> None:
    row = {"row: a": Figure([2.0], "us", "row: b"), "row: b": Figure([1.0], "us")}
    found = compare.figures_of([run("c", [1])._replace(figures={**row, "alone": Figure([3.0], "s", "row")})])
    assert [(name, *figure.runs) for name, figure in found.items()] == [("step: row: a / b", 2), ("step: alone", 3)]


def test_the_raw_times_of_such_a_machine_tell_nothing() -> None:
    def raw(entries: list[Entry]) -> list[Entry]:
        return [run(entry.commit, entry.figures["step"].rounds) for entry in entries]

    assert verdict(raw(runs(1.5, 0)), raw(runs(1.5 * 1.15, 1))) == "cannot be told"


def test_false_alarms_are_rare() -> None:
    found = [verdict(runs(1.5, 2 * seed), runs(1.5, 2 * seed + 1)) for seed in range(10)]
    assert set(found) <= {"as before", "cannot be told"}


def test_a_single_run_proves_nothing() -> None:
    assert verdict(runs(1.5, 0, n=1), runs(1.5 * 1.3, 1, n=1)) == "perhaps slower"
    assert verdict(runs(1.5, 0), runs(1.5 / 1.3, 1, n=2)) == "perhaps faster"


def test_a_change_that_is_smaller_than_what_counts() -> None:
    assert verdict(runs(1.5, 0), runs(1.5 * 1.05, 1), least=0.1) == "as before"


def test_errors_are_worse_rather_than_slower() -> None:
    def errors(percent: float) -> list[Entry]:
        figures = {"errors": Figure([percent, percent + 0.01], "%")}
        return [run("c", [1])._replace(figures=figures)] * 3

    assert verdict(errors(2), errors(3)) == "WORSE"
    assert verdict(errors(3), errors(2)) == "better"


def written(path: Path, entries: list[Entry]) -> str:
    lines = [entry._asdict() | {"figures": {n: f._asdict() for n, f in entry.figures.items()}} for entry in entries]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_the_command(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = MACHINE | {"cpu": "another", "versions": {"numpy": "2.5"}}
    a, b = runs(1.5, 0), [entry._replace(machine=other) for entry in runs(1.8, 1)]
    assert compare.main([written(Path("a.jsonl"), a), written(Path("b.jsonl"), b)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("cpu differs: a CPU, then another\nnumpy differs: 2.4, then 2.5\n")
    assert out.endswith("150 in 3 and 150 in 3: SLOWER\n")
    assert compare.main(["a.jsonl", "a.jsonl"]) == 0
    assert compare.main(["a.jsonl", written(Path("b.jsonl"), b[:1])]) == 0
    assert "perhaps slower\nfewer than 3 runs of a side" in capsys.readouterr().out


def test_commits_are_looked_up_in_the_logs(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "LOG", log)
    monkeypatch.setattr(compare, "HISTORY", log.with_name("none.jsonl"))
    changed = run("a" * 40, [3])._replace(changed=True)
    written(log, [run("a" * 40, [1]), changed, run("b" * 40, [2])])
    assert compare.runs_of("aaaaaaa") == [run("a" * 40, [1])]
    for unknown in ("bbbbbbb1", "b", "HEAD"):
        with pytest.raises(xpnet.DataError, match=f"no run of {unknown} is logged: run python -m bench step"):
            compare.runs_of(unknown)


def test_runs_of_other_things_are_not_compared(log: Path) -> None:
    other = [entry._replace(measurement="cpu") for entry in runs(1.5, 0)]
    with pytest.raises(xpnet.DataError, match="have no figure in common"):
        compare.main([written(Path("a.jsonl"), runs(1.5, 0)), written(Path("b.jsonl"), other)])


# Over time ------------------------------------------------------------------------------------------------------------


def test_the_picture_over_time(log: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra [plot], is not installed")
    first = [entry._replace(commit="a" * 40, time="2026-11-02T10:00:00Z") for entry in runs(1.5, 0)]
    second = [entry._replace(commit="b" * 40, time="2026-11-01T10:00:00Z") for entry in runs(2.0, 1)]
    elsewhere = [entry._replace(machine=MACHINE | {"cpu": "another"}) for entry in first]
    lost = [entry._replace(commit=""), entry._replace(changed=True)] if (entry := first[0]) else []
    lines, commits = over_time.lines_of([*first, *elsewhere, *second, *lost])
    assert commits == {"b" * 40: "2026-11-01", "a" * 40: "2026-11-02"}
    (by_machine,) = lines.values()
    assert [[point.commit[0] for point in points] for points in by_machine.values()] == [["b", "a"], ["a"]]
    assert [round(point.median, 1) for point in next(iter(by_machine.values()))] == [2.0, 1.5]
    written(log, [*first, *second])
    for name in ("over-time.svg", "again.svg"):
        assert over_time.main([str(log), "--out", name]) == 0
    assert Path("over-time.svg").read_bytes() == Path("again.svg").read_bytes()
    written(log, [run("a" * 40, [1])])
    with pytest.raises(xpnet.DataError, match="nothing to draw"):
        over_time.main([str(log), "--out", "none.svg"])
