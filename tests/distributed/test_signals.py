"""Signals to some processes of a team, and kills at any moment: all end, nothing is lost, and the run continues."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import xpnet
from tests.promises.resuming import result
from xpnet.cli import main
from xpnet.training.checkpoint import checkpoints

from .launching import Finished, begin, finished, launch, left_behind, needs_mpi, training
from .runs import RUN, SCRIPT, SHARDS, assert_goes_on, assert_line

pytestmark = [needs_mpi, pytest.mark.usefixtures("patterns", "no_picture")]

# Seconds after which processes that are to end count as hanging.
PATIENCE = 120

# Each process says that it is there, and waits until the signals have been sent, where it begins or within epoch 2.
WAIT = """
import pathlib, time
def wait(whether=True):
    pathlib.Path(f"{rank}.pid").write_text(str(os.getpid()))
    while whether and not pathlib.Path("sent").exists():
        time.sleep(0.01)
"""
STEPPING = f"""
{WAIT}
from xpnet.training.loop import Loop
epoch = Loop.epoch
def slowly(self, number, done=0):
    for done in epoch(self, number, done):
        if number == 2:
            wait()
        yield done
Loop.epoch = slowly
"""
OPENING = f"""
{WAIT}
import xpnet.cli.train as train
opened = train.opened
def slowly(*arguments, **options):
    wait(rank == %d)
    return opened(*arguments, **options)
train.opened = slowly
"""


def interrupted(n: int, arguments: list[str], target: int | None, signals: list[int]) -> Finished:
    """What comes of processes that wait as above, if one of them, or mpiexec, receives signals then."""
    process, mark = begin(n, arguments)
    files = [Path(f"{rank}.pid") for rank in range(n)]
    end = time.monotonic() + PATIENCE
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)
    for number in signals:
        os.kill(process.pid if target is None else int(files[target].read_text()), number)
    if target is None:
        time.sleep(0.5)  # it passes them on
    Path("sent").touch()
    return ended(process, mark)


def ended(process: subprocess.Popen[str], mark: str) -> Finished:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        for pid in left_behind(mark):
            os.kill(pid, signal.SIGKILL)
        pytest.fail(f"the processes hang\n{process.communicate()}")
    return finished(process.returncode, out, err, mark)


@pytest.mark.parametrize(
    ("n", "target", "number"),
    [
        (2, None, signal.SIGINT),
        (4, 1, signal.SIGTERM),
        pytest.param(2, None, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(2, 0, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(2, 0, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(4, 3, signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_all_after_the_same_step(
    n: int, target: int | None, number: signal.Signals, whole: dict[str, Any]
) -> None:
    """Which of them received it makes no difference: the first one saves the state, in which the run continues."""
    found = interrupted(n, training(*RUN, *SHARDS, "--out", "run", before=STEPPING), target, [number])
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert_line(found, 128 + number, f"xpnet: {what}; the parameters of epoch [12] are saved in run; xpnet train .*")
    assert found.out == "" or (target, number) == (None, signal.SIGINT), "mpiexec itself reports that one"
    assert (Path("run", "checkpoints", "step-000000033")).exists() is False
    assert_goes_on(whole)


@pytest.mark.parametrize("target", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_second_signal_ends_all_at_once(target: int, whole: dict[str, Any]) -> None:
    arguments = training(*RUN, *SHARDS, "--out", "run", before=STEPPING)
    found = interrupted(2, arguments, target, [signal.SIGTERM, signal.SIGINT])
    assert found.status in (130, 143), found
    assert re.fullmatch("xpnet: (interrupted|terminated)(; .*)?\n", found.err), found
    assert_goes_on(whole)


@pytest.mark.parametrize(
    ("target", "slow", "signals"),
    [
        (1, 1, [signal.SIGTERM]),
        (0, 1, [signal.SIGTERM]),
        pytest.param(0, 0, [signal.SIGINT, signal.SIGTERM], marks=pytest.mark.slow),
        pytest.param(None, 0, [signal.SIGTERM], marks=pytest.mark.slow),
        pytest.param(None, 1, [signal.SIGINT, signal.SIGTERM], marks=pytest.mark.slow),
    ],
)
def test_signals_before_the_training_begins(target: int | None, slow: int, signals: list[signal.Signals]) -> None:
    """To a process that is busy, or one that waits for it."""
    found = interrupted(2, training(*RUN, *SHARDS, "--out", "run", before=OPENING % slow), target, list(signals))
    assert found.status in {128 + number for number in signals}, found
    assert re.fullmatch("xpnet: (interrupted|terminated)(; nothing was trained yet)?\n", found.err), found
    assert not Path("run").exists()


def test_a_program_that_is_interrupted() -> None:
    """By Ctrl-C: one traceback, and what was trained is there."""
    program = f"import os\nrank = int(os.environ['PMI_RANK'])\n{WAIT}\n{SCRIPT.format('wait()')}"
    found = interrupted(2, ["-c", program], None, [signal.SIGINT])
    assert found.status == 130
    assert found.err.count("Traceback") == 1, found.err
    assert found.err.endswith("\nKeyboardInterrupt\n")
    assert xpnet.load("run", device="cpu").network.sizes == (5, 8, 2)


# --- killed at any moment --------------------------------------------------------------------------------------------

TECHNIQUES = [
    *["--data", "patterns.npz", "--hidden", "12", "7", "--batch-size", "33", "--epochs", "12", "--device", "cpu"],
    *["--optimizer", "adam", "--lr", "0.01", "--batch-norm", "--dropout", "0.2", "--average", "0.9", "--shards", "4"],
    *["--clip-norm", "1", "--augment", "rotation=5", "--validation", "0.2", "--early-stopping", "9"],
    *["--schedule", "one-cycle", "--checkpoint-every", "3"],
]


def killed_and_resumed(number: int) -> str:
    """Kill a random rank at a random moment, and resume with a random number of processes; what happened."""
    rng = random.Random(number)
    n, then = rng.choice([2, 4]), rng.choice([1, 2, 4])
    rank, step, delay = rng.randrange(n), rng.randrange(-15, 80), rng.random()
    run = Path(f"run-{number}")
    process, mark = begin(n, training(*TECHNIQUES, "--quiet", "--out", str(run)))
    # Of 96 steps, or before the first.
    while step > max(checkpoints(run / "checkpoints"), default=0) and process.poll() is None:
        time.sleep(0.001)
    time.sleep(0.01 * delay if step > 0 else 0.2 + 0.6 * delay)
    while (victim := rank_of(mark, rank)) is None and process.poll() is None:
        time.sleep(0.001)
    assert victim is not None, f"{n} processes are done before the moment comes"
    os.kill(victim, signal.SIGKILL)
    found = ended(process, mark)
    assert found.status != 0
    begun = (run / "config.toml").exists()
    died_at = max(checkpoints(run / "checkpoints"), default=0)
    arguments = ["--resume", str(run)] if begun else [*TECHNIQUES, "--out", str(run)]
    found = launch(then, training(*arguments, "--quiet"))
    assert (found.status, found.err) == (0, ""), found
    return f"{n} processes, {rank} killed after step {died_at}, then {then}"


def rank_of(mark: str, rank: int) -> int | None:
    """The living process of a launch that has a rank."""
    for pid in left_behind(mark):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"PMI_RANK={rank}".encode() in variables:
            return pid
    return None


@pytest.fixture
def unharmed() -> dict[str, Any]:
    assert main(["train", *TECHNIQUES, "--quiet", "--out", "unharmed"]) == 0
    return result(Path("unharmed"))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_killed_at_any_moment(number: int, unharmed: dict[str, Any]) -> None:
    said = killed_and_resumed(number)
    assert result(Path(f"run-{number}")) == unharmed, said
