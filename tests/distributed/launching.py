"""Programs started as several processes, as a user starts them, and watched so that none hangs or is left behind."""

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["Finished", "launch", "left_behind", "needs_mpi"]

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
# In the environment of every process that a launch starts, however deep.
MARK = "XPNET_TEST_LAUNCH"

needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="mpiexec, of the extra [mpi], is not installed")


class Finished(NamedTuple):
    """What came of a launch."""

    status: int
    out: str
    err: str


def launch(
    n: int, program: str | Sequence[str], *, env: Mapping[str, str | None] | None = None, limit: float = 120
) -> Finished:
    """Run `mpiexec -n N python ...` in a process group of its own, and see that nothing of it is left.

    program : the source of a program, or the arguments of Python, such as ["-m", "xpnet", "info"].
    env : variables to change; None removes one.   limit : seconds after which it counts as a hang.
    """
    assert MPIEXEC is not None
    mark = uuid.uuid4().hex
    # Unbuffered, a line is written in two pieces, between which another process's may come.
    own = {"OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": None, MARK: mark}
    variables = {**os.environ, **own, **(env or {})}
    arguments = ["-c", program] if isinstance(program, str) else list(program)
    process = subprocess.Popen(
        [MPIEXEC, "-n", str(n), sys.executable, *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        for pid in left_behind(mark):
            os.kill(pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{n} processes hang: {arguments}\n{out}\n{err}")
    remaining = left_behind(mark)
    for pid in remaining:
        os.kill(pid, signal.SIGKILL)
    assert not remaining, f"{len(remaining)} processes were left behind: {arguments}\n{out}\n{err}"
    return Finished(process.returncode, out, err)


def left_behind(mark: str) -> list[int]:
    """The living processes of a launch."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found
