"""A program: trains with a process on each GPU, or on each of four stand-ins, and prints a digest of the network.

    mpiexec -n 2 python -m tests.distributed.on_gpus [shared | broken]

shared : one GPU for all processes.   broken : NCCL does not start on process 1 of the stand-in.
"""

import hashlib
import logging
import sys
import time
from typing import Any

import numpy as np
import pytest

import xpnet
from tests import fake_cupy
from tests.conftest import has_gpu
from tests.fake_cupy import Fake, nccl
from xpnet.backend import select
from xpnet.distributed import Team, started


class MpiWire:
    """Carries what NCCL sends."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._world, self._sent = MPI.COMM_WORLD.Dup(), [MPI.REQUEST_NULL]

    def put(self, name: bytes, source: int, target: int, tag: str, message: Any) -> None:
        self._sent.append(self._world.isend((name, message), target, self._number(tag)))

    def get(self, name: bytes, source: int, target: int, tag: str) -> Any:
        end = time.monotonic() + nccl.PATIENCE
        while not self._world.iprobe(source, self._number(tag)):
            if time.monotonic() > end:
                raise TimeoutError(f"rank {target} waits for the {tag} of rank {source}, as a GPU would for ever")
            time.sleep(0.0001)
        of, message = self._world.recv(source=source, tag=self._number(tag))
        assert of == name
        return message

    @staticmethod
    def _number(tag: str) -> int:
        return ("greeting", "message", "receipt").index(tag)


def running_on(team: Team, fake: Fake) -> None:
    """Let the device come to what its streams have, whenever this process waits for the others, as a GPU would."""

    def waiting(name: str) -> None:
        method = getattr(team, name)

        def drained(*arguments: Any, **options: Any) -> Any:
            fake.cupy.cuda.Device().synchronize()
            return method(*arguments, **options)

        setattr(team, name, drained)

    for name in ("gather", "told", "exchange"):
        waiting(name)


def main(how: str) -> None:
    logging.basicConfig(format="%(message)s")
    team = started()
    with pytest.MonkeyPatch.context() as patch:
        fake = None if has_gpu() else fake_cupy.install(patch)
        if fake is not None:
            fake.devices, fake.lazy_null = 4, True
            if how == "broken" and team.rank == 1:
                fake.fail["ncclCommInitRank"] = nccl.NcclError(1)
            if team.size > 1:
                fake.wire = MpiWire()
                running_on(team, fake)
        draws = np.random.default_rng(0)
        images, labels = draws.integers(0, 256, (150, 4, 5), np.uint8), draws.integers(0, 3, 150)
        backend = select("cuda:0") if how == "shared" else select("cuda", local_rank=team.local_rank)
        result = xpnet.fit(
            xpnet.MLP((20, 9, 3), dropout=0.2, batch_norm=True), xpnet.Dataset.from_arrays(images, labels),
            team=team, backend=backend, epochs=2, batch_size=32, shards=4,
            optimizer="adamw", lr=0.01, clip_norm=1.0, average=0.9, progress=False,
        )  # fmt: skip
        digest = hashlib.blake2b(digest_size=8)
        for array in result.model.params + result.model.running:
            digest.update(backend.to_host(array).tobytes())
        print(digest.hexdigest(), flush=True)
        if fake is not None and team.size > 1 and how != "shared":
            assert fake.count["nccl"], "nothing went over NCCL"


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
