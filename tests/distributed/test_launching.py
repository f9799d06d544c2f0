"""The harness: what hangs and what is left behind is found, and ended."""

from collections.abc import Iterator

import pytest

from .launching import launch, left_behind, needs_mpi

pytestmark = needs_mpi


def test_what_a_program_prints_and_its_exit_code() -> None:
    program = "import os, sys; print(os.environ['PMI_RANK']); print('e', file=sys.stderr); sys.exit(3)"
    status, out, err = launch(2, program)
    assert (status, sorted(out.split()), err) == (3, ["0", "1"], "e\ne\n")


@pytest.fixture(autouse=True)
def marks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The marks of the launches, none of which leaves anything behind."""
    found: list[str] = []

    def seen(mark: str) -> list[int]:
        found.append(mark)
        return left_behind(mark)

    monkeypatch.setattr("tests.distributed.launching.left_behind", seen)
    monkeypatch.setattr("tests.distributed.launching.DYING", 0.5)
    yield found
    assert found
    assert not left_behind(found[0])


def test_a_hang_is_found_and_ended() -> None:
    program = "import os, time; os.environ['PMI_RANK'] == '1' and print('still here', flush=True); time.sleep(600)"
    with pytest.raises(pytest.fail.Exception, match=r"2 processes hang: .*\nstill here\n"):
        launch(2, program, limit=2)


def test_a_process_that_is_left_behind_is_found_and_ended() -> None:
    program = """
import subprocess
subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""
    with pytest.raises(pytest.fail.Exception, match="1 processes were left behind"):
        launch(1, program)
