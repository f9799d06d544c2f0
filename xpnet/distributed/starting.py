"""Whether a launcher started this process as one of several, and the team that they make."""

from __future__ import annotations

import os

from xpnet.errors import MissingPackageError, TeamError

from .team import Team

__all__ = ["launched", "started"]

# Where a launcher says how many processes it started, and which of them this is. An inner launcher leaves the variables
# of an outer one as they are, so the more special come first: mpiexec starts its own helpers by srun where it can.
# Slurm sets its number in steps, which srun starts, and not in a batch script or in the shell of salloc. PMIx says no
# number, but both that use it do.
VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)


def launched() -> tuple[int, int]:
    """This process's rank, and the number of processes that a launcher started it with, by the environment alone.

    (0, 1) where none did. The launcher may be wrong about the library: `started` asks that as well.
    """
    _, rank, size = _launcher()
    return rank, size


def started() -> Team:
    """The team of the processes that a launcher, such as mpiexec or srun, started together; alone where none did.

    Imports mpi4py only if there are several. To be called once, by a program rather than by a library: at the exit of
    the interpreter, processes wait for each other, and an uncaught error ends them all.

    Raises MissingPackageError without mpi4py; TeamError if it finds no MPI library, if that library does not belong to
    the launcher, or if the number of processes is no power of two.
    """
    launcher, _, size = _launcher()
    if size == 1:
        return Team()
    # MPICH's own lines about an abort would follow ours.
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")
    from importlib import metadata  # which takes as long to import as all of this file

    begun = f"{launcher} started {size} processes"
    try:
        metadata.version("mpi4py")
    except metadata.PackageNotFoundError:
        remedy = 'pip install "xpnet[mpi]"; on a cluster, pip install mpi4py and load its MPI module'
        raise MissingPackageError(f"{begun}, which need mpi4py to train together: {remedy}") from None
    try:
        from ._mpi import MpiTeam
    except (ImportError, RuntimeError) as error:
        remedy = 'load the machine\'s MPI module, name the library in MPI4PY_LIBMPI, or pip install "xpnet[mpi]"'
        raise TeamError(f"{begun}, but mpi4py finds no MPI library: {remedy}") from error
    team = MpiTeam()
    if team.size == 1:
        own = f"the mpiexec that belongs to {team.library}"
        remedy = (
            f"srun --mpi={'pmix' if 'Open MPI' in team.library else 'pmi2'}, or {own}" if launcher == "srun" else own
        )
        raise TeamError(f"{begun}, of which {team.library} knows nothing: start them by {remedy}")
    if team.size & (team.size - 1):
        fewer = 1 << team.size.bit_length() - 1
        raise TeamError(f"{team.size} processes are no power of two: start {fewer} or {2 * fewer}")
    return team


def _launcher() -> tuple[str, int, int]:
    """The launcher's name, the rank that it gave this process, and how many it started."""
    for name, rank in VARIABLES:
        size = _number(name)
        if size > 1:
            by_srun = _number("SLURM_STEP_NUM_TASKS") == size and not name.startswith("OMPI")
            return "srun" if by_srun else "mpiexec", _number(rank), size
    return "", 0, 1


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 0
