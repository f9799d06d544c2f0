"""The scripts in examples/: each runs in an empty directory, without a warning, and prints what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a script prints."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / name)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert not list(folder.iterdir())
    return ran.stdout


def percentages(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+) ?%", text)]


def test_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *searched, best = run("sklearn_pipeline.py", tmp_path, monkeypatch).splitlines()
    assert [line.split(":")[0] for line in searched] == [
        f"hidden_layer_sizes={hidden}, dropout={dropout}" for dropout in (0.0, 0.3) for hidden in ("(10,)", "(100,)")
    ]
    small, large, small_dropped, large_dropped = (percentages(line)[0] for line in searched)
    assert min(large, large_dropped) > max(small, small_dropped)
    assert percentages(best)[0] > 96


def test_imbalanced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run("sklearn_imbalanced.py", tmp_path, monkeypatch).splitlines()
    (_, recall), (_, weighted_recall) = percentages(lines[1]), percentages(lines[3])
    (balanced, _), (weighted_balanced, _) = percentages(lines[1]), percentages(lines[3])
    assert weighted_recall > recall + 20
    assert weighted_balanced > balanced + 10
    for line in (lines[2], lines[4]):
        first, lowest = map(float, re.findall(r"\d\.\d{3}", line))
        assert lowest < first


def test_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no GPU: with torch."""
    pytest.importorskip("torch", reason="torch, of the extra [torch], is not installed")
    out = run("sklearn_gpu.py", tmp_path, monkeypatch)
    *_, X, coefs, predicted, accuracy = out.splitlines()
    place = X.removeprefix("X: ").split()
    assert place[0] in ("cupy", "torch")
    assert coefs.split()[1:] == place
    assert predicted.split()[1::2] == [place[0], "on"]
    assert predicted.split()[-1] == place[-1]
    assert ("cuda" in out.lower()) != ("no GPU" in out)
    assert percentages(accuracy)[0] > 95
