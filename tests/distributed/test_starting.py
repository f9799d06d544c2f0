"""Whether a process belongs to a team, by what its launcher left in the environment; and what stands in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet
from xpnet.distributed import Team, abandon, engine, launched, started
from xpnet.distributed.starting import launcher
from xpnet.errors import MissingPackageError, TeamError

from .launching import launch, needs_mpi

LAUNCHERS = {
    "hydra": "PMI_SIZE=4 PMI_RANK=3 MPI_LOCALNRANKS=4",
    "Open MPI": "OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=3 PMIX_RANK=3",
    "srun": "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 SLURM_NTASKS=4",
    "srun --mpi=pmi2": "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 PMI_SIZE=4 PMI_RANK=3",
    "srun --mpi=pmix": "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 PMIX_RANK=3",
    # Where mpiexec has started a helper on each of four nodes by srun.
    "hydra in a batch script": "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=1 PMI_SIZE=8 PMI_RANK=3 MPI_LOCALNRANKS=2",
    "Open MPI in a batch script": "SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=1 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_RANK=3",
    "nothing": "",
    "one": "PMI_SIZE=1 PMI_RANK=0 SLURM_STEP_NUM_TASKS=1 OMPI_COMM_WORLD_SIZE=1",
    "a batch script": "SLURM_NTASKS=4 SLURM_NPROCS=4 SLURM_PROCID=0 SLURM_JOB_ID=7",
    "the shell of salloc": "SLURM_NTASKS=4 SLURM_NPROCS=4 SLURM_JOB_ID=7",
    "nonsense": "PMI_SIZE=many SLURM_STEP_NUM_TASKS=",
}


@pytest.fixture(autouse=True)
def _started_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in {each.partition("=")[0] for variables in LAUNCHERS.values() for each in variables.split()}:
        monkeypatch.delenv(variable, raising=False)


def started_by(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in LAUNCHERS[name].split():
        variable, _, value = each.partition("=")
        monkeypatch.setenv(variable, value)


@pytest.mark.parametrize(
    ("name", "program", "rank_and_size"),
    [
        ("hydra", "mpiexec", (3, 4)),
        ("Open MPI", "mpiexec", (3, 4)),
        ("srun", "srun", (3, 4)),
        ("srun --mpi=pmi2", "srun", (3, 4)),
        ("srun --mpi=pmix", "srun", (3, 4)),
        ("hydra in a batch script", "mpiexec", (3, 8)),
        ("Open MPI in a batch script", "mpiexec", (3, 8)),
        ("nothing", "", (0, 1)),
        ("one", "", (0, 1)),
        ("a batch script", "", (0, 1)),
        ("the shell of salloc", "", (0, 1)),
        ("nonsense", "", (0, 1)),
    ],
)
def test_a_launcher_is_known_by_the_environment(
    name: str, program: str, rank_and_size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    started_by(name, monkeypatch)
    assert (launcher(), launched()) == (program, rank_and_size)


def test_one_process_starts_no_engine() -> None:
    assert run("t = started(); print(type(t).__name__, 'mpi4py' in sys.modules)") == (0, "Team False\n", "")


def test_asking_for_the_rank_imports_no_array_library() -> None:
    assert run("launched(); print('numpy' in sys.modules)") == (0, "False\n", "")


def test_one_process_is_a_team_alone() -> None:
    team = started()
    assert type(team) is Team
    assert (team.rank, team.size, team.local_rank, team.library) == (0, 1, 0, "")
    assert team.where.startswith("process 0 on ")
    assert team.gather(3) == [3]
    assert team.told("a") == "a"
    assert team.together(lambda: 5) == 5
    assert team.shared(ValueError())
    with pytest.raises(ZeroDivisionError):
        team.together(lambda: 1 // 0)
    with pytest.raises(ValueError, match="no process 1"):
        team.exchange(None, 1)  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match="3"):
        team.abort(3)


@pytest.mark.parametrize(("name", "program"), [("hydra", "mpiexec"), ("Open MPI", "mpiexec"), ("srun", "srun")])
def test_mpi4py_is_missing(name: str, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(MissingPackageError, match=r'^mpi4py, .*, is not installed: pip install "xpnet\[mpi\]", or'):
        engine()
    started_by(name, monkeypatch)
    with pytest.raises(MissingPackageError, match=rf"^{program} started 4 processes, but mpi4py, "):
        started()


@pytest.mark.parametrize(
    ("name", "library", "remedy"),
    [
        ("Open MPI", "MPICH 5.0.2", "the mpiexec that belongs to it"),
        ("Open MPI", "Intel MPI 2021.18.1", "the mpiexec that belongs to it"),
        ("hydra", "Open MPI 5.0.11", "the mpiexec that belongs to it"),
        ("hydra in a batch script", "Open MPI 5.0.11", "the mpiexec that belongs to it"),
    ],
)
def test_a_launcher_of_another_library_is_known_beforehand(
    name: str, library: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py, of the extra [mpi], is not installed")
    monkeypatch.setattr("xpnet.distributed.starting.engine", lambda: library)
    started_by(name, monkeypatch)
    size = launched()[1]
    message = f"^mpiexec started {size} processes, of which {library} knows nothing: start them by {remedy}$"
    with pytest.raises(TeamError, match=message):
        started()


@needs_mpi
def test_a_library_that_knows_nothing_of_the_launcher() -> None:
    """As by srun --mpi=none: each process would be alone, and all would train."""
    status, out, err = run("started()", SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="0")
    assert (status, out) == (1, "")
    message = err.splitlines()[-1]
    assert message.startswith("xpnet.errors.TeamError: srun started 2 processes, of which MPICH ")
    assert message.endswith(" knows nothing: start them by srun --mpi=pmi2, or the mpiexec that belongs to it")


@needs_mpi
def test_no_library() -> None:
    status, _, err = run("started()", PMI_SIZE="2", MPI4PY_LIBMPI="/nowhere/libmpi.so")
    message = 'mpiexec started 2 processes, but mpi4py finds no MPI library: pip install "xpnet[mpi]", or load'
    assert status == 1
    assert err.splitlines()[-1].startswith(f"xpnet.errors.TeamError: {message}")


@needs_mpi
def test_three_processes() -> None:
    status, out, err = launch(3, ["-m", "xpnet", "info"])
    message = "xpnet: error: mpiexec started 3 processes, which is not a power of two: start 2 or 4\n"
    assert (status, out, err) == (2, "", message)


@needs_mpi
def test_a_wrong_flag_of_all_processes() -> None:
    message = "xpnet: error: Unknown option: --jso. Did you mean --json?\n"
    assert launch(2, ["-m", "xpnet", "info", "--jso"]) == (2, "", message)


MISSING = """
import sys
from xpnet.distributed import abandon, launched, started
if launched()[0] in {ranks}:
    sys.modules["mpi4py"] = None
try:
    started()
except ImportError as error:
    abandon("missing", 4, title="program: ")
"""


@needs_mpi
@pytest.mark.parametrize(
    ("ranks", "message"), [([0], "missing"), ([1], "process 1 on HOST: missing"), ([0, 1], "missing")]
)
def test_a_process_that_cannot_join_ends_the_others(ranks: list[int], message: str) -> None:
    status, out, err = launch(2, MISSING.format(ranks=ranks))
    assert (status, out, err) == (4, "", f"program: {message.replace('HOST', os.uname().nodename)}\n")


def test_a_process_that_cannot_join_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        abandon("of no use", 2)
    assert capsys.readouterr().err == "of no use\n"


def run(program: str, **variables: str) -> tuple[int, str, str]:
    """One process without a launcher, whatever its environment says."""
    source = f"import sys\nfrom xpnet.distributed import launched, started\n{program}"
    environment = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parent.parent), **variables}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr
