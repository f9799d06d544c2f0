"""What has to be equal on all processes, and what is said where it is not."""

import logging
from typing import Any

import numpy as np
import pytest

from xpnet.distributed import Team, about, agree, computes_with
from xpnet.errors import TeamError


class Beside(Team):
    """One of two processes, the other of which has passed another value."""

    size = 2

    def __init__(self, rank: int, theirs: Any) -> None:
        self.rank, self.theirs = rank, theirs

    def gather(self, value: Any) -> list[Any]:
        return [value, self.theirs] if self.rank == 0 else [self.theirs, value]


@pytest.mark.parametrize("rank", [0, 1])
def test_another_version_is_an_error(rank: int) -> None:
    """Each of two processes, beside another one of the other version, says the same."""
    facts = [{"xpnet": "1", "NumPy": "2.4.6"}, {"xpnet": "1", "NumPy": "2.1.0"}]
    other = 1 - rank
    team = Beside(rank, (f"process {other} on node{other}", facts[other], {}))
    expected = r"process 1 on .* has another NumPy than process 0 on .*: 2\.1\.0 and 2\.4\.6$"
    with pytest.raises(TeamError, match=expected):
        agree(team, facts[rank])


def test_what_only_one_has_and_what_is_long() -> None:
    team = Beside(0, ("process 1 on b", {"setting clip": None, "data set": "x" * 500}, {}))
    with pytest.raises(TeamError, match=r"another setting clip than process 0 on .*: none and 2\.0$"):
        agree(team, {"setting clip": 2.0, "data set": "x" * 500})
    with pytest.raises(TeamError, match=r"another data set .*: x{60} \.\.\. x{30} and none$"):
        agree(team, {"setting clip": None})


def test_another_cpu_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    theirs = ("process 1 on b", {"NumPy": "2"}, {"BLAS kernel": "Zen", "GPU": ""})
    with caplog.at_level(logging.WARNING, "xpnet"):
        agree(Beside(0, theirs), {"NumPy": "2"}, {"BLAS kernel": "Haswell", "GPU": ""})
        agree(Beside(1, theirs), {"NumPy": "2"}, {"BLAS kernel": "Haswell", "GPU": ""})
    (message,) = caplog.messages  # of rank 0
    assert message.startswith("process 1 on b has another BLAS kernel than process 0 on ")
    assert message.endswith(": Zen and Haswell; the bits of a result depend on which process computes it")


def test_one_process_agrees_with_itself() -> None:
    agree(Team(), {"NumPy": np.__version__}, computes_with())


def test_about_one_process() -> None:
    found = about(Team(), GPU="H200")
    (process,) = found["processes"]
    assert process["NumPy"] == np.__version__
    assert process["GPU"] == "H200"
    assert process["cores"] >= 1
    assert found["library"] == found["launcher"] == found["mpi4py"] == ""
    assert found["warnings"] == []


def test_about_two_unlike_processes() -> None:
    theirs = ({"rank": 1}, "process 1 on b", {"NumPy": np.__version__, **computes_with(), "BLAS kernel": "Zen"})
    (warning,) = about(Beside(0, theirs))["warnings"]
    assert warning.startswith("process 1 on b has another BLAS kernel than")
