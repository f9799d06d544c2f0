"""bench sklearn: its table, and the goals that it holds the numbers against."""

import json
from pathlib import Path

import pytest

from bench import sklearn as bench
from bench.sklearn import OWN, PEER, Row

pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")

QUICK = ["--iterations", "2", "--rounds", "1", "--seeds", "1", "--json", "table.json"]


@pytest.mark.slow
def test_the_table(patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SHORT": 1, "LARGE": ("sgd",), "DTYPES": ("float32",), "WALL": 1e9, "CPU": 1e9}.items():
        monkeypatch.setattr(bench, name, value)
    for name, value in {"SMALL_FIT": 1e9, "PREDICT": {10_000: 1e9, 1: 0.0}, "ACCURACY": -100, "SCORE": -100}.items():
        monkeypatch.setattr(bench, name, value)
    sets = ["--sets", "wine", "diabetes, scaled"]
    assert bench.main(["--data", patterns, *QUICK, *sets]) == 1
    out = capsys.readouterr().out
    assert out.endswith(f"NOT REACHED: predict 1 of {patterns}, float32\n")
    table = json.loads(Path("table.json").read_text())
    assert {"cpu", "cores", "cpus", "environment", "versions", "iterations", "rounds", "seeds"} <= set(table)
    assert table["faults"] == []
    rows = {row["name"]: row for row in table["rows"]}
    large = f"fit {patterns}, sgd, float32"
    assert list(rows) == [
        *(f"{large}: wall", f"{large}, 1 thread: CPU", f"{large}: accuracy"),
        *("fit iris, adam", "fit iris, sgd", "fit iris, lbfgs", "fit iris, lbfgs: iterations"),
        *(f"predict 60 of {patterns}, float32", f"predict 1 of {patterns}, float32"),
        *("wine: accuracy", "diabetes, scaled: R2"),
    ]
    assert [name for name in rows if name not in out] == []
    for row in rows.values():
        assert len(row["numbers"][OWN]) == len(row["numbers"][PEER]) >= 1
        assert min(row["numbers"][OWN] + row["numbers"][PEER]) > 0
    for system in (OWN, PEER):
        assert sum(rows["wine: accuracy"]["numbers"][system]) / 5 > 90
        assert sum(rows["diabetes, scaled: R2"]["numbers"][system]) / 5 > 30


def test_what_failed_is_said(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--data", patterns, *QUICK, "--parts", "fit", "--device", "cuda:99"]) == 1
    assert "\nfit failed: DeviceError: " in capsys.readouterr().out
    assert len(json.loads(Path("table.json").read_text())["faults"]) == 1


@pytest.mark.parametrize(
    ("unit", "goal", "own", "compared", "reached"),
    [
        ("s", 0.6, [1.0, 1.2, 9.0], 0.6, True),  # a ratio of medians
        ("s", 0.6, [1.3, 1.2, 1.3], 0.65, False),
        ("s", None, [9.0, 9.0, 9.0], 4.5, True),
        ("%", -0.2, [1.9, 1.9, 1.9], -0.1, True),  # a difference of means
        ("%", -0.2, [1.9, 1.9, 0.0], -0.7333, False),
    ],
)
def test_goals(unit: str, goal: float | None, own: list[float], compared: float, reached: bool) -> None:
    row = Row("a row", unit, goal, {OWN: own, PEER: [2.0, 2.0, 2.0]})
    assert row.compared == pytest.approx(compared, abs=1e-4)
    assert row.reached == reached


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parts", "rhubarb"], "unknown part 'rhubarb'; the choices are fit, small, predict, scores"),
        (["--sets", "rhubarb"], "unknown set 'rhubarb'; the choices are digits, wine"),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--json", "nowhere/table.json"], "nowhere/table.json: there is no folder nowhere"),
    ],
)
def test_wrong_options(
    own_directory: None, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(arguments)
    err = capsys.readouterr().err
    assert err.startswith(f"python -m bench sklearn: error: {said}")
    assert err.count("\n") == 1
