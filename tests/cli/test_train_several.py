"""xpnet train --seeds and --dry-run."""

import re
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.cli import main
from xpnet.training.estimate import estimate
from xpnet.training.history import read_history
from xpnet.training.prepare import prepare

QUICK = ["--device", "cpu", "--epochs", "2", "--hidden", "5", "--lr", "0.01", "--batch-size", "64"]

pytestmark = pytest.mark.usefixtures("own_directory")


def test_several_seeds(patterns: str, small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", patterns, *QUICK, "--seed", "3", "--seeds", "3", "--out", "runs"]) == 0
    out, err = capsys.readouterr()
    assert [line for line in err.splitlines() if line.startswith("seed ")] == ["seed 3", "seed 4", "seed 5"]
    accuracies = []
    for seed in (3, 4, 5):
        last = read_history(f"runs/seed-{seed}")[-1]
        accuracies.append(100 * float(last.test_accuracy or 0))
        assert f"seed {seed}: test accuracy {accuracies[-1]:.2f} %, loss {last.test_loss:.4f}\n" in out
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert (
        f"test accuracy {mean:.2f} +- {spread:.2f} % on patterns.npz: mean and standard deviation of 3 seeds\n" in out
    )
    assert small_data.test is not None
    together = xpnet.Ensemble([xpnet.load(f"runs/seed-{seed}", "cpu") for seed in (3, 4, 5)]).evaluate(*small_data.test)
    assert f"test accuracy {100 * together.accuracy:.2f} % with the outputs of all of them averaged\n" in out
    assert main(["train", "--data", patterns, *QUICK, "--seed", "4", "--out", "alone", "--quiet"]) == 0
    alone, one = (xpnet.load(path, "cpu").params for path in ("alone", "runs/seed-4"))
    assert all(np.array_equal(a, b) for a, b in zip(alone, one, strict=True))


def test_several_seeds_of_a_regression(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.linspace(0, 1, 90)
    rows = "".join(f"{a:.4f},{2 * a + 1:.4f}\n" for a in x)
    Path("line.csv").write_text(f"x,y\n{rows}", encoding="utf-8")
    assert (
        main(["train", "--data", "line.csv", "--label", "y", *QUICK, "--seeds", "2", "--out", "runs", "--quiet"]) == 0
    )
    assert re.search(r"^train R2 -?[\d.]+ \+- [\d.]+ on line.csv", capsys.readouterr().out, re.M)


@pytest.mark.parametrize("epoch", [1, 2])
def test_interrupted_seeds_are_continued(
    epoch: int, patterns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient(xpnet.Callback):
        def on_steps(self, run: xpnet.Run) -> None:
            if run.config.seed == 1 and run.epoch == epoch:
                signal.raise_signal(signal.SIGINT)

    train = ["train", "--data", patterns, *QUICK, "--seeds", "3", "--out"]
    with monkeypatch.context() as patched:
        patched.setattr("xpnet.training.fit.Progress", Impatient)
        assert main([*train, "parts"]) == 130
    assert "; xpnet train --resume parts --seeds 3 continues after epoch " in capsys.readouterr().err
    assert not Path("parts/seed-2").exists()
    assert main(["train", "--resume", "parts", "--seeds", "3"]) == 0
    parts = capsys.readouterr().out.replace("parts", "whole")
    assert main([*train, "whole"]) == 0
    assert parts == capsys.readouterr().out
    for seed in range(3):
        one, other = (Path(folder, f"seed-{seed}/model.safetensors").read_bytes() for folder in ("parts", "whole"))
        assert one == other


def test_a_seed_that_could_not_be_saved_is_an_error(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = xpnet.fit

    def unsaved(*arguments: Any, **options: Any) -> xpnet.Result:
        seed = arguments[2].seed
        return fit(*arguments, **options)._replace(unsaved="model.safetensors: No space left" if seed == 1 else None)

    monkeypatch.setattr("xpnet.cli.train.fit", unsaved)
    assert main(["train", "--data", patterns, *QUICK, "--seeds", "2", "--out", "runs", "--quiet"]) == 1
    message = "seed 1 was trained, but could not be saved: model.safetensors: No space left"
    assert capsys.readouterr().err.endswith(f"xpnet: error: {message}\n")


def test_wrong_uses_of_seeds(patterns: str, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """Before the data are read, which are nowhere."""
    assert fails(2, "train", "--data", "nothere", "--seeds", "1") == "--seeds must be at least 2, not 1"
    assert main(["train", "--data", patterns, *QUICK, "--seeds", "2", "--out", "runs", "--quiet"]) == 0
    capsys.readouterr()
    message = "runs already holds runs: name another directory, or continue them (--resume)"
    assert fails(2, "train", "--data", "nothere", "--seeds", "2", "--out", "runs") == message
    assert fails(1, "train", "--resume", "runs") == "runs holds the runs of several seeds: add --seeds 2"
    Path("empty").mkdir()
    message = "empty holds no runs of several seeds to continue: leave out --seeds, or --resume"
    assert fails(2, "train", "--resume", "empty", "--seeds", "2") == message


def test_a_dry_run_trains_nothing_and_prints_a_recipe(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    assert main(["train", "--data", patterns, *QUICK, "--dropout", "0.25", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert sorted(Path().rglob("*")) == before
    assert re.search(r"^steps    6 an epoch, 12 in all$", err, re.M)
    assert re.search(r"^memory   about \d+ MB", err, re.M)
    assert re.search(r"^time     about \d+ s, by the speed", err, re.M)
    Path("mine.toml").write_text(out, encoding="utf-8")
    assert main(["train", "--recipe", "mine.toml", "--out", "run", "--quiet"]) == 0
    assert Path("run/config.toml").read_text(encoding="utf-8") == out
    assert main(["train", "--data", patterns, *QUICK, "--dry-run", "--seeds", "4"]) == 0
    assert "12 in all for each of 4 seeds\n" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [1, 64, "full"])
def test_an_estimate_is_measured_and_changes_nothing(small_data: xpnet.Dataset, batch_size: int | str) -> None:
    config = xpnet.TrainConfig(batch_size=batch_size, epochs=3, device="cpu")  # type: ignore[arg-type]
    run, splits = prepare(config.network(36, 3), small_data, config, config.backend())
    params = [p.copy() for p in run.params]
    found = estimate(run, splits, seconds=0.01)
    assert found.steps == 3 * run.n_steps
    assert found.seconds > 0
    assert found.bytes > sum(p.nbytes for p in params) + small_data.train.images.nbytes
    assert all(np.array_equal(a, b) for a, b in zip(params, run.params, strict=True))
