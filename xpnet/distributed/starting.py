"""Whether a launcher started this process as one of several, and the team that they make."""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NoReturn

from xpnet.errors import MissingPackageError, TeamError, XpnetError
from xpnet.platforms import unread

from .team import Team

__all__ = ["abandon", "engine", "flush", "launched", "launcher", "started"]

# Where a launcher says how many processes it started, and which of them this is. What an outer launcher has set remains
# in the environment of an inner one, so the more special come first: mpiexec starts its helpers on other nodes by srun.
# Slurm states it in steps, which srun starts, and neither in a batch script nor in the shell of salloc. PMIx states no
# number; Open MPI and Slurm, which use it, do so themselves.
VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)


def launched() -> tuple[int, int]:
    """This process's rank, and the number of processes that a launcher started, according to the environment alone.

    (0, 1) where none did. Imports nothing.
    """
    for size, rank in VARIABLES:
        if _number(size) > 1:
            return _number(rank), _number(size)
    return 0, 1


def launcher() -> str:
    """The program that started this process as one of several: "mpiexec" or "srun"; "" where none did."""
    if launched() == (0, 1):
        return ""
    return "mpiexec" if _by_open_mpi() or _by_hydra() or _number("SLURM_STEP_NUM_TASKS") <= 1 else "srun"


def started() -> Team:
    """The team of the processes that a launcher, such as mpiexec or srun, started together; alone where none did.

    Imports mpi4py only if there are several. A program calls it once, a library never: at the exit of the interpreter
    the processes wait for each other, and an uncaught error of one, which is reported once, ends all.

    Raises MissingPackageError without mpi4py; TeamError if it finds no MPI library, if that library does not belong to
    the launcher, so that each process would train alone, or if the number of processes is not a power of two.
    """
    _, size = launched()
    if size == 1:
        return Team()
    begun = f"{launcher()} started {size} processes"
    try:
        library = engine()
    except XpnetError as error:
        raise type(error)(f"{begun}, but {error}") from error
    from ._mpi import MpiTeam, start

    by_srun = f"srun --mpi={'pmix' if library.startswith('Open MPI') else 'pmi2'}, or "
    remedy = f"start them by {by_srun * (launcher() == 'srun')}the mpiexec that belongs to it"
    stranger = TeamError(f"{begun}, of which {library} knows nothing: {remedy}")
    # Known beforehand, it is said here: in such a place these libraries fail to start, or say much while they do.
    if (_by_open_mpi() and library.startswith(("MPICH", "Intel MPI"))) or (
        _by_hydra() and not _by_open_mpi() and library.startswith("Open MPI")
    ):
        raise stranger
    size = start()
    if size == 1:
        raise stranger
    if size & (size - 1):
        fewer = 1 << size.bit_length() - 1
        raise TeamError(f"{begun}, which is not a power of two: start {fewer} or {2 * fewer}")
    team = MpiTeam()
    atexit.register(team.leave)
    sys.excepthook = partial(_report, team, sys.excepthook)
    return team


def _report(team: Team, usual: Callable[..., Any], kind: type, error: BaseException, trace: Any) -> None:
    """Report an uncaught error as usual, unless the first process, which has it too, reports it."""
    if isinstance(error, KeyboardInterrupt | TeamError):
        # Most likely others have it, too, and the first to report it ends this one; before that, rank 0 saves a run.
        time.sleep(min(team.rank, 4) / 2)
    if team.rank == 0 or not team.shared(error):
        usual(kind, error, trace)


def abandon(message: str, status: int, *, title: str = "") -> NoReturn:
    """Report why this process, one of several, cannot join the others, and end them all with an exit code.

    If none of them can, rank 0 reports it and the others are ended while they give it the time to.

    title : what stands before the message, and before the place if that is not rank 0.
    """
    rank, _ = launched()
    if rank > 0:
        time.sleep(1)
        message = f"process {rank} on {platform.node()}: {message}"
    print(f"{title}{message}", file=sys.stderr)
    flush()
    if _by_hydra():
        # Other launchers end the others when a process fails; this one not, if that has not started MPI yet.
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.write(int(os.environ["PMI_FD"]), f"cmd=abort exitcode={status}\n".encode())
    raise SystemExit(status)


def flush() -> None:
    """Have what was printed read by the launcher, which loses the rest when it ends a process; for a second at most."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    end = time.monotonic() + 1
    for descriptor in (1, 2):
        while unread(descriptor) and time.monotonic() < end:
            time.sleep(1e-3)


def engine() -> str:
    """The library that connects processes, as in "MPICH 5.0.2", loaded but not started.

    Raises MissingPackageError without mpi4py, and TeamError if that finds no MPI library.
    """
    if find_spec("mpi4py") is None:
        remedy = 'pip install "xpnet[mpi]", or on a cluster pip install mpi4py and load its MPI module'
        raise MissingPackageError(f"mpi4py, which connects processes, is not installed: {remedy}")
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")
    try:
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of a launcher of another library
            from ._mpi import library
    except (ImportError, RuntimeError) as error:
        remedy = 'pip install "xpnet[mpi]", or load the machine\'s MPI module, or name the library in MPI4PY_LIBMPI'
        raise TeamError(f"mpi4py finds no MPI library: {remedy}") from error
    return library()


def _by_open_mpi() -> bool:
    return _number("OMPI_COMM_WORLD_SIZE") > 1


def _by_hydra() -> bool:
    """Whether by the mpiexec of MPICH or of a library made from it."""
    return _number("PMI_SIZE") > 1 and "MPI_LOCALNRANKS" in os.environ


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 0
