"""A team on GPUs, or on their stand-ins: the bits do not depend on how many there are, or on how they exchange."""

import functools
from pathlib import Path

import pytest

from tests.conftest import has_gpu

from .launching import Finished, launch, needs_mpi

pytestmark = [needs_mpi, pytest.mark.cuda]


@functools.cache
def alone() -> str:
    return outcome(1)[0]


def run(n: int, *arguments: str) -> Finished:
    root = str(Path(__file__).parents[2])
    return launch(n, ["-m", "tests.distributed.on_gpus", *arguments], env={"PYTHONPATH": root})


def outcome(n: int, *arguments: str) -> tuple[str, str]:
    """The digest of the network that n processes have trained, and what they say beside it."""
    status, out, err = run(n, *arguments)
    assert status == 0, err
    digests = out.split()
    assert digests == digests[:1] * n
    return digests[0], err


@pytest.mark.parametrize("n", [2, 4])
def test_several_gpus_have_the_bits_of_one(n: int) -> None:
    digest, said = outcome(n)
    assert digest == alone()
    assert has_gpu() or said == ""


def test_processes_that_share_a_gpu_have_them_too() -> None:
    digest, said = outcome(2, "shared")
    assert digest == alone()
    assert "the processes 0 and 1 share the GPU " in said


@pytest.mark.skipif(has_gpu(), reason="it is the stand-in that can be broken")
def test_where_nccl_does_not_start_on_one_process_all_end() -> None:
    status, out, err = run(2, "broken")
    assert status != 0
    assert not out
    assert err.count("xpnet.errors.DeviceError: NCCL fails to start (NcclError: NCCL_ERROR_UNHANDLED_CUDA_ERROR") == 1
    assert "for ever" not in err
