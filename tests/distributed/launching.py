"""Programs started as several processes, as a user starts them, and watched so that none hangs or is left behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import xpnet

__all__ = ["Finished", "begin", "finished", "launch", "left_behind", "needs_mpi", "training"]

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
# In the environment of every process that a launch starts, however indirectly.
MARK = "XPNET_TEST_LAUNCH"

# Seconds that a process which has been killed may take to die.
DYING = 5.0

needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="mpiexec, of the extra [mpi], is not installed")


class Finished(NamedTuple):
    """What came of a launch."""

    status: int
    out: str
    err: str


def launch(
    n: int,
    program: str | Sequence[str],
    *,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    limit: float = 120,
) -> Finished:
    """Run `mpiexec -n N python ...` in a session of its own, and see that nothing of it is left.

    program : the source of a program, or the arguments of Python, such as ["-m", "xpnet", "info"].
    env : variables to change; None removes one.   limit : seconds after which it counts as a hang.
    """
    process, mark = begin(n, program, env=env, cwd=cwd)
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _end(mark)
        out, err = process.communicate()
        pytest.fail(f"{n} processes hang: {program}\n{out}\n{err}")
    return finished(process.returncode, out, err, mark)


def begin(
    n: int, program: str | Sequence[str], *, env: Mapping[str, str | None] | None = None, cwd: Path | None = None
) -> tuple[subprocess.Popen[str], str]:
    """Start what `launch` runs to its end; returns mpiexec, and the mark by which `left_behind` knows its processes."""
    assert MPIEXEC is not None
    mark = uuid.uuid4().hex
    own = {
        "PYTHONPATH": str(Path(xpnet.__file__).parent.parent),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": None,  # or a line would be written in two pieces, with another process's between them
        MARK: mark,
    }
    variables = {**os.environ, **own, **(env or {})}
    process = subprocess.Popen(
        [MPIEXEC, "-n", str(n), sys.executable, *(["-c", program] if isinstance(program, str) else program)],
        env={name: value for name, value in variables.items() if value is not None},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process, mark


def finished(status: int, out: str, err: str, mark: str) -> Finished:
    """What came of a launch that has ended, of which no process may live on."""
    end = time.monotonic() + DYING
    while remaining := left_behind(mark):
        if time.monotonic() > end:
            _end(mark)
            pytest.fail(f"{len(remaining)} processes were left behind\n{out}\n{err}")
        time.sleep(0.05)
    return Finished(status, out, err)


def training(*arguments: str, before: str = "") -> list[str]:
    """The arguments of Python for `xpnet train ...`, without curves.png, which takes longer than a short run.

    before : what each process does first; it knows its rank.
    """
    program = f"""
import os, sys
rank = int(os.environ.get("PMI_RANK", 0))
sys.modules["matplotlib"] = None
{before}
from xpnet.__main__ import main
sys.exit(main())
"""
    return ["-c", program, "train", *arguments]


def left_behind(mark: str) -> list[int]:
    """The living processes of a launch."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def _end(mark: str) -> None:
    while pids := left_behind(mark):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
