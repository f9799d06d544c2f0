"""What may go wrong in a team: one line, one exit code, nothing that hangs or is left behind, and nothing lost."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xpnet
from tests.promises.resuming import result
from xpnet.cli import main
from xpnet.files import locked

from .launching import Finished, launch, needs_mpi, training
from .runs import RUN, SCRIPT, SHARDS, assert_goes_on, assert_line

pytestmark = [needs_mpi, pytest.mark.usefixtures("patterns", "no_picture")]

# What a process does at the end of its second epoch's steps.
IN_EPOCH_2 = """
from xpnet.training.loop import Loop
epoch = Loop.epoch
def changed(self, number, done=0):
    yield from epoch(self, number, done)
    if number == 2 and rank == 1:
        {}
Loop.epoch = changed
"""

# The disk of the first process fails at a call by which files are written, and some more.
FULL_DISK = """
if rank == 0:
    from tests.promises.faults import Faults
    disk = Faults().failing({}, "ENOSPC", {})
    disk.__enter__()
"""


# --- before the training ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "arguments", "before", "status", "line"),
    [
        (2, ["--hiden", "3"], "", 2, r"Unknown option: --hiden\. Did you mean --hidden\?"),
        (2, [], "sys.argv += ['--hiden'] * (rank == 0)", 2, r"Unknown option: --hiden\. Did you mean --hidden\?"),
        (2, [], "sys.argv += ['--hiden'] * rank", 2, r"process 1 on HOST: Unknown option: --hiden\. Did you .*"),
        (2, [], "sys.argv[1] = ['train', 'trian'][rank]", 2, "process 1 on HOST: unknown command 'trian'; did you .*"),
        (2, ["--optimizer", "sdg"], "", 2, "--optimizer: unknown value 'sdg'; did you mean 'sgd'?.*"),
        (4, ["--shards", "2"], "", 2, r"--shards 2 cannot be dealt to 4 processes: start 1 or 2"),
        (3, SHARDS, "", 2, "mpiexec started 3 processes, which is not a power of two: start 2 or 4"),
        (2, SHARDS, "os.chdir('/') if rank else None", 1, "process 1 on HOST: patterns.npz: no such file or folder.*"),
        (
            2,
            SHARDS,
            "sys.modules['mpi4py'] = None",
            1,
            "mpiexec started 2 processes, but mpi4py.* not installed: .*",
        ),
        (2, SHARDS, FULL_DISK.format(0, 10**9), 2, "cannot write the run directory run: No space left on device; .*"),
        (2, ["--log", "tensorboard"], "sys.modules['tensorboardX'] = None", 1, "the TensorBoard log needs .*"),
    ],
    ids=[
        "flag",
        "flag of the first",
        "flag of another",
        "command",
        "value",
        "shards",
        "three",
        "data",
        "mpi4py",
        "disk",
        "log",
    ],
)
def test_refused(n: int, arguments: list[str], before: str, status: int, line: str) -> None:
    found = launch(n, training(*RUN, *arguments, "--out", "run", before=before))
    assert_line(found, status, f"xpnet: error: {line}")
    assert found.out == ""
    assert not Path("run").exists() or not any(Path("run").iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out", "run", "--lr", "0.3"], "--lr than process 0 on HOST: 0.3 and none"),
        (["--out", "run", "--from", "model"], "--from than process 0 on HOST: model and none"),
        (["--out", "run", "--seeds", "2"], "--seeds than process 0 on HOST: 2 and none"),
        (["--out", "run", "--dry-run"], "--dry-run than process 0 on HOST: True and False"),
        (["--out", "elsewhere"], "--out than process 0 on HOST: elsewhere and run"),
    ],
    ids=lambda value: value[-2] if isinstance(value, list) else "",
)
def test_flags_that_one_process_has_alone(flags: list[str], said: str) -> None:
    found = launch(2, training(*RUN, *SHARDS, before=f"sys.argv += {flags} if rank else ['--out', 'run']"))
    assert_line(
        found, 1, f"xpnet: error: process 1 on HOST has another {said}; start all processes with the same flags"
    )
    assert found.out == ""
    assert not Path("run").exists()


def test_data_that_one_process_has_elsewhere(whole: dict[str, Any]) -> None:
    before = (
        f"if rank: os.chdir('/'); sys.argv[sys.argv.index('--data') + 1] = {str(Path('patterns.npz').absolute())!r}"
    )
    found = launch(2, training(*RUN, *SHARDS, "--out", "run", before=before))
    assert (found.status, found.err) == (0, "")
    assert result(Path("run")) == whole


@pytest.mark.parametrize("resumed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_directory_in_use(resumed: bool) -> None:
    if resumed:
        assert main(["train", *RUN, *SHARDS, "--out", "run"]) == 0
    Path("run").mkdir(exist_ok=True)
    with locked(Path("run", ".lock")):
        found = launch(2, training("--resume", "run") if resumed else training(*RUN, *SHARDS, "--out", "run"))
    assert found.err.count("xpnet: error") == 1
    last = Finished(found.status, found.out, found.err.splitlines(keepends=True)[-1])
    assert_line(last, 2, rf"xpnet: error: run is in use: process {os.getpid()} on HOST, since .* is training there; .*")


def test_processes_that_do_not_know_each_other() -> None:
    """As srun starts them for a library that it does not know: each of them would train alone."""
    variables = {**os.environ, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}
    command = [sys.executable, "-m", "xpnet", "train", *RUN, "--out", "run"]
    found = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    line = "xpnet: error: srun started 2 processes, of which MPICH .* knows nothing: start them by srun --mpi=pmi2, .*"
    assert_line(Finished(found.returncode, found.stdout, found.stderr), 2, line)
    assert not Path("run").exists()


EARLY = """
import signal, threading
import xpnet.cli
def stop(*_):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    raise {}
if rank == 1:
    xpnet.cli._app = stop
"""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ("KeyboardInterrupt", 130, "xpnet: process 1 on HOST: interrupted"),
        ("KeyError", 1, "process 1 on HOST: Trace.*"),
    ],
)
def test_a_process_that_ends_before_it_joins_the_others(error: str, status: int, said: str) -> None:
    """They would wait for it where MPI starts, for ever under this launcher. Another signal comes too late."""
    found = launch(2, training(*RUN, *SHARDS, "--out", "run", before=EARLY.format(error)))
    assert_line(Finished(found.status, found.out, found.err.splitlines(keepends=True)[0]), status, said)
    assert found.err.count("\n") == 1 or found.err.endswith("\nKeyError\n")
    assert not Path("run").exists()


UNLIKE = """
import dataclasses, logging, os, sys
import numpy as np
import xpnet
from xpnet.training import fit as fitting
rank = int(os.environ["PMI_RANK"])
team = xpnet.distributed.started()
data = xpnet.load_data("patterns.npz")
images, labels = data.train
other = images.copy()
other[150, 3, 3] ^= 1
ends = images.copy()
ends[-1, 3, 3] ^= 1
there = lambda images: dataclasses.replace(data, train=xpnet.Split(images, labels)) if rank else data
network = xpnet.MLP((36, 8, 3))
weights = np.ones(330)
weights[7] += rank
versions = fitting.versions
newer = lambda backend: versions(backend) | {"numpy": f"2.{rank}"}
for name, arguments in {
    "settings": {"lr": 0.1 * (rank + 1)},
    "network": {"network": xpnet.MLP((36, 8 + rank, 3))},
    "pace": {"checkpoint_every": 5 + rank},
    "stopping": {"early_stopping": 3 if rank else None},
    "data": {"data": there(ends)},
    "fewer": {"data": dataclasses.replace(data, train=data.train[: 330 - 30 * rank])},
    "weights": {"sample_weight": weights},
    "version": {},
    "data within": {"data": there(other), "out": "run"},
}.items():
    fitting.versions = newer if name == "version" else versions
    given = {"network": network, "data": data} | arguments
    try:
        xpnet.fit(epochs=1, device="cpu", team=team, progress=False, **given)
    except xpnet.errors.TeamError as error:
        print(f"{rank} {name}: {error}")
"""


def test_processes_that_would_train_something_else() -> None:
    """Each difference is found, on all processes, and named; data that differ within at the first checkpoint."""
    found = launch(2, UNLIKE)
    assert (found.status, found.err) == (0, "")
    for rank in range(2):
        said = [line[2:] for line in found.out.splitlines() if line.startswith(f"{rank} ")]
        said = [re.sub(r"process (\d) on \S+(?= has|:)", r"process \1", line) for line in said]
        assert said[:4] == [
            "settings: process 1 has another lr than process 0: 0.2 and 0.1",
            "network: process 1 has another hidden than process 0: (9,) and (8,)",
            "pace: process 1 has another checkpoint_every than process 0: 6 and 5",
            "stopping: process 1 has another early_stopping than process 0: 3 and none",
        ]
        assert re.fullmatch("data: process 1 has another data set than process 0: patterns.npz .* and .*", said[4])
        assert re.fullmatch("fewer: process 1 has another data set than process 0: patterns.npz .* and .*", said[5])
        assert re.fullmatch("weights: process 1 has another sample_weight than process 0: .* and .*", said[6])
        assert said[7] == "version: process 1 has another numpy than process 0: 2.1 and 2.0"
        assert re.fullmatch("data within: process 1 has another data set than process 0: .* and .*", said[8])
    assert not Path("run", "checkpoints").exists()


def test_another_number_of_threads() -> None:
    """It is a warning, and kept: a run that is continued with another number says so as well."""
    before = "os.environ['OPENBLAS_NUM_THREADS'] = str(1 + rank)"
    found = launch(2, training(*RUN, *SHARDS, "--out", "run", before=before))
    line = "warning: process 1 on HOST has another number of BLAS threads than process 0 on HOST: 2 and 1; .*"
    assert_line(found, 0, line)
    resumed = training("--resume", "run", "--quiet", "--epochs", "4")
    found = launch(2, resumed, env={"OPENBLAS_NUM_THREADS": "2"})
    line = "warning: this process has another number of BLAS threads than the checkpoint: 2 and 1: .* may differ .*"
    assert_line(found, 0, line)
    assert main(["train", "--resume", "run", "--quiet", "--epochs", "5"]) == 0


# --- while it trains -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "happens", "status", "line"),
    [
        (
            2,
            "self.state.params[0][0, 0] += 1e-6",
            1,
            "process 1 on HOST has another network after epoch 2 than process 0 on HOST: .* and .*; one of them .*",
        ),
        (2, "raise MemoryError", 1, "process 1 on HOST: out of memory"),
        (2, "raise OSError(5, 'Input/output error', '/data/x')", 1, "process 1 on HOST: /data/x: Input/output error"),
        (2, "sys.exit(0)", 1, r"process 1 on HOST: left early \(0\)"),
        pytest.param(4, "sys.exit(7)", 7, r"process 1 on HOST: left early \(7\)", marks=pytest.mark.slow),
    ],
    ids=["drift", "memory", "system", "exit", "exit code"],
)
def test_what_one_process_raises_ends_all(n: int, happens: str, status: int, line: str, whole: dict[str, Any]) -> None:
    found = launch(n, training(*RUN, *SHARDS, "--out", "run", before=IN_EPOCH_2.format(happens)))
    assert_line(found, status, f"xpnet: error: {line}")
    assert found.out == ""
    assert_goes_on(whole)


def test_a_fault_of_the_program_shows_its_traceback() -> None:
    found = launch(2, training(*RUN, *SHARDS, "--out", "run", before=IN_EPOCH_2.format("raise KeyError('oh')")))
    assert (found.status, found.out) == (1, "")
    assert found.err.count("Traceback") == 1
    assert found.err.endswith(f"KeyError: 'oh'\nxpnet: error: process 1 on {platform.node()}: KeyError: 'oh'\n")


def test_numbers_that_are_not_finite() -> None:
    """All processes find it, and the first one says so; nothing is rolled back without a word."""
    found = launch(2, training(*RUN, *SHARDS, "--lr", "1e30", "--out", "run"))
    assert_line(found, 1, "xpnet: error: the loss stopped being finite in epoch 1 at step 2 of 11, .* are saved in run")
    assert found.out == ""


@pytest.mark.parametrize(("times", "status"), [(10**9, 1), (4, 0)], ids=["for good", "for a while"])
def test_a_full_disk_of_the_first_process(times: int, status: int, whole: dict[str, Any]) -> None:
    """The training continues; in the end it says what is missing, or all is there."""
    found = launch(2, training(*RUN, *SHARDS, "--out", "run", before=FULL_DISK.format(40, times)))
    warning = "warning: cannot write run/.*: No space left on device; training continues, .* are intact"
    error = "\nxpnet: error: the model was trained, but could not be saved: run/.*: No space left on device"
    assert_line(found, status, warning + (error if status else ""))
    assert found.out.startswith("test accuracy 100.00 %")
    assert_goes_on(whole)


def test_a_process_that_is_killed(whole: dict[str, Any]) -> None:
    """What is printed is mpiexec's."""
    before = IN_EPOCH_2.format("os.kill(os.getpid(), 9)")
    found = launch(4, training(*RUN, *SHARDS, "--out", "run", before=before))
    assert (found.status, found.err) == (9, "")
    assert_goes_on(whole)


# --- programs of users -----------------------------------------------------------------------------------------------


def test_a_program_of_arrays() -> None:
    found = launch(2, SCRIPT.format("pass"))
    assert (found.status, found.err) == (0, "")
    losses = found.out.splitlines()
    assert len(losses) == 2
    assert losses[0] == losses[1]
    assert xpnet.load("run", device="cpu").network.sizes == (5, 8, 2)


@pytest.mark.parametrize(
    ("happens", "last"),
    [
        ("if team.rank == 1: raise ValueError('alone')", "ValueError: alone"),
        ("sys.exit(0) if team.rank == 1 else None", "xpnet.errors.TeamError: process 1 has ended, although process .*"),
        ("run.params[0][:] = np.nan; team.together(lambda: 1 // 0)", "ZeroDivisionError: .*"),
    ],
    ids=["raises", "exits", "all"],
)
def test_an_uncaught_error_ends_all_with_one_traceback(happens: str, last: str) -> None:
    found = launch(4, SCRIPT.format(happens))
    assert (found.status, found.out) == (1, "")
    assert found.err.count("Traceback") == 1, found.err
    assert re.fullmatch(last, found.err.splitlines()[-1]), found.err
