"""The scripts in examples/: each runs in an empty directory, without a warning, and prints what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet

ROOT = Path(__file__).parents[2]


def run(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, launcher: tuple[str, ...] = ()
) -> str:
    """What a script prints."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [*launcher, sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert not list(folder.iterdir())
    return ran.stdout


def percentages(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+) ?%", text)]


@pytest.mark.slow
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_from_scratch(library: str, mnist: xpnet.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In at most 60 lines: 97 % on any library."""
    pytest.importorskip(library, reason=f"{library}, of the extra [{library}], is not installed")
    assert len((ROOT / "examples" / "from_scratch.py").read_text().splitlines()) <= 60
    assert percentages(run("from_scratch.py", tmp_path, monkeypatch, "cpu", library))[-1] >= 97.0


def test_own_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert percentages(run("own_optimizer.py", tmp_path, monkeypatch))[-1] > 96


def test_many_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone and as two, the same bits."""
    alone = run("many_processes.py", tmp_path, monkeypatch)
    assert percentages(alone)[-1] > 97
    pytest.importorskip("mpi4py", reason="mpi4py, of the extra [mpi], is not installed")
    mpiexec = Path(sys.executable).parent / "mpiexec"
    if mpiexec.exists():
        assert run("many_processes.py", tmp_path, monkeypatch, launcher=(str(mpiexec), "-n", "2")) == alone


def test_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")
    *searched, best = run("sklearn_pipeline.py", tmp_path, monkeypatch).splitlines()
    assert [line.split(":")[0] for line in searched] == [
        f"hidden_layer_sizes={hidden}, dropout={dropout}" for dropout in (0.0, 0.3) for hidden in ("(10,)", "(100,)")
    ]
    small, large, small_dropped, large_dropped = (percentages(line)[0] for line in searched)
    assert min(large, large_dropped) > max(small, small_dropped)
    assert percentages(best)[0] > 96


def test_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no GPU: with torch."""
    pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")
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
