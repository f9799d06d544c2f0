"""xpnet train, killed at any moment and resumed until it is done: the result is that of a run that was never killed.

Two ways of dying: at a moment of the clock, and at a call by which a file is written, made half where that can be.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpnet
from tests.conftest import write_npz
from tests.promises.doomed import ROOT, Doomed, serve
from tests.promises.resuming import result
from xpnet.training.checkpoint import checkpoints, newest_checkpoint, read_checkpoint, write_checkpoint
from xpnet.training.history import read_history

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
    pytest.mark.usefixtures("own_directory"),
]

PLAIN = ["--hidden", "16", "--batch-size", "20", "--epochs", "60", "--device", "cpu"]
TECHNIQUES = [
    *["--hidden", "12", "7", "--batch-size", "30", "--epochs", "30", "--device", "cpu", "--optimizer", "adam"],
    *["--lr", "0.01", "--batch-norm", "--dropout", "0.2", "--average", "0.9", "--augment", "rotation=5", "alpha=3"],
    *["--validation", "0.2", "--early-stopping", "25", "--schedule", "one-cycle", "--clip-norm", "1"],
]
RUNS: dict[str, list[str]] = {
    "plain": PLAIN,
    "every 3 steps": [*PLAIN, "--checkpoint-every", "3", "--keep", "1"],
    "every 10 ms": [*PLAIN, "--checkpoint-every", "0.01s", "--optimizer", "nesterov", "--dropout", "0.3"],
    "techniques": TECHNIQUES,
    "techniques, every 4 steps": [*TECHNIQUES, "--checkpoint-every", "4"],
}

# Kills of each run: by the clock, and at a call.
BY_CLOCK, AT_CALL = 20, 24


@pytest.fixture(autouse=True, scope="module")
def server() -> None:
    serve()


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """The program, as a process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "xpnet", "train", *arguments]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment)


def to_its_end(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.splitlines()[0]


def survive(run: Path, arguments: list[str], die: Callable[[list[str]], Doomed], kills: int) -> str:
    """Train, die so many times, and train on to the end; what the program says then.

    die : starts the program with its arguments, and kills it if it does not do so itself.
    """
    died = 0
    while True:
        begun = (run / "config.toml").exists()
        todo = ["--resume", str(run)] if begun else [*arguments, "--out", str(run)]
        if died == kills:
            return to_its_end(start(todo))
        code, err = die(todo).end()
        if code == 0:  # it was done before it could die: once more, from nothing
            assert_whole(run)
            run.rename(run.with_name(f"{run.name}-{died}-{time.monotonic_ns()}"))
            continue
        assert code == -signal.SIGKILL, err
        assert "Traceback" not in err
        died += 1
        assert_whole(run)


def assert_whole(run: Path) -> None:
    """Whatever lies there under its own name is whole."""
    for folder in checkpoints(run / "checkpoints").values():
        read_checkpoint(folder)
    if (run / "model.safetensors").exists():
        xpnet.load(run, device="cpu")
    if (run / "history.csv").exists():
        read_history(run)


@pytest.mark.parametrize("name", RUNS)
def test_killed_by_the_clock(patterns: str, name: str) -> None:
    arguments, rng = ["--data", patterns, *RUNS[name]], random.Random(name)
    said = to_its_end(start([*arguments, "--out", "whole"]))
    begin = time.monotonic()
    assert Doomed([*arguments, "--out", "another"]).end()[0] == 0
    took = time.monotonic() - begin

    def die(todo: list[str]) -> Doomed:
        """Within the time that a whole run takes; in two cases of three not before it trains."""
        process = Doomed(todo)
        if rng.random() < 2 / 3:
            process.wait_for("epoch")  # the head of the table, above its first line
            time.sleep(rng.random() ** 2 * 0.3 * took)
        else:
            time.sleep(rng.random() * took)
        process.kill()
        return process

    assert survive(Path("run"), arguments, die, BY_CLOCK) == said
    assert result(Path("run")) == result(Path("whole"))


@pytest.mark.parametrize("name", RUNS)
def test_killed_at_a_call(patterns: str, name: str) -> None:
    """Every one of the first calls of a run, and others at random."""
    arguments, rng = ["--data", patterns, *RUNS[name]], random.Random(name)
    said = to_its_end(start([*arguments, "--out", "whole"]))
    offset = list(RUNS).index(name)
    numbers = [*range(offset, 60, len(RUNS)), *(rng.randrange(60, 400) for _ in range(AT_CALL))][:AT_CALL]
    rng.shuffle(numbers)
    assert len(set(numbers)) > AT_CALL / 2

    def die(todo: list[str]) -> Doomed:
        return Doomed(todo, numbers.pop() if numbers else 5)

    assert survive(Path("run"), arguments, die, AT_CALL) == said
    assert result(Path("run")) == result(Path("whole"))


def test_killed_while_training_mnist(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    """A network of 636,010 parameters on the real images, at moments that fall where they fall."""
    write_npz("mnist.npz", mnist)
    arguments = ["--data", "mnist.npz", "--hidden", "800", "--epochs", "2", "--batch-size", "500", "--device", "cpu"]
    arguments += ["--checkpoint-every", "25", "--dropout", "0.2", "--seed", "5"]
    said = to_its_end(start([*arguments, "--out", "whole"]))
    rng = random.Random(0)

    def die(todo: list[str]) -> Doomed:
        process = Doomed(todo)
        process.wait_for("epoch")
        time.sleep(0.5 + 2 * rng.random())
        process.kill()
        return process

    assert survive(Path("run"), arguments, die, 6) == said
    assert result(Path("run")) == result(Path("whole"))


def test_a_difference_would_be_seen(patterns: str) -> None:
    """The comparison fails where a run lost anything: one bit of a weight, an epoch, a draw."""
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        to_its_end(start(["--data", patterns, *PLAIN, "--seed", seed, "--out", name]))
    assert result(Path("a")) == result(Path("b"))
    assert result(Path("a")) != result(Path("c"))
    state = newest_checkpoint(Path("b/checkpoints"))[0]
    assert state is not None
    folder = checkpoints(Path("b/checkpoints"))[state.step]
    changed = {**state.arrays, "params.0": np.nextafter(state.arrays["params.0"], 1)}
    write_checkpoint(folder.parent, state._replace(arrays=changed))
    assert result(Path("a")) != result(Path("b"))
