"""Teams of processes: what the environment says of them, and what they say to each other."""

import pytest

from xpnet.distributed import Team, launched, started

from .launching import launch, needs_mpi


@pytest.fixture(autouse=True)
def _started_by_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "rank_and_size"),
    [
        ({}, (0, 1)),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, (0, 1)),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, (3, 4)),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, (1, 2)),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}, (5, 8)),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, (0, 1)),  # a batch script
        ({"PMI_SIZE": "many"}, (0, 1)),
    ],
)
def test_a_launcher_is_known_by_the_environment(
    variables: dict[str, str], rank_and_size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() == rank_and_size


def test_alone() -> None:
    team = started()
    assert type(team) is Team
    assert (team.rank, team.size, team.local_rank) == (0, 1, 0)
    assert team.gather(3) == [3]
    assert team.told("a") == "a"
    assert team.together(lambda: 5) == 5


@needs_mpi
def test_two_processes_make_a_team() -> None:
    status, out, err = launch(
        2, "from xpnet.distributed import started; t = started(); print(t.gather(t.rank) == [0, 1])"
    )
    assert (status, out, err) == (0, "True\nTrue\n", "")
