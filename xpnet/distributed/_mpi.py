"""A team whose processes talk by MPI. Importing this file starts MPI."""

from __future__ import annotations

import atexit
import pickle  # nosec B403
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import mpi4py
import numpy as np

from .failures import Failure
from .team import Team

mpi4py.rc.thread_level = "serialized"
from mpi4py import MPI  # noqa: E402

__all__ = ["MpiTeam"]

T = TypeVar("T")

# One message at most; counts in MPI are 32 bits.
CHUNK = 1 << 30


class MpiTeam(Team):
    """All processes of MPI's world. Host arrays only; every method but exchange is called by all of them, in the same
    order.
    """

    def __init__(self) -> None:
        if not MPI.Is_initialized():
            MPI.Init_thread(MPI.THREAD_SERIALIZED)
        self._world = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        self.local_rank = self._world.Split_type(MPI.COMM_TYPE_SHARED).Get_rank()
        name, version = MPI.get_vendor()
        self.library = f"{name} {'.'.join(map(str, version))}"
        self._error: BaseException | None = None
        atexit.register(self._leave)

    def exchange(self, array: np.ndarray, peer: int) -> np.ndarray:
        received = np.empty(array.shape, array.dtype)
        ours, theirs = _bytes(np.ascontiguousarray(array)), _bytes(received)
        chunks = [slice(start, start + CHUNK) for start in range(0, ours.size, CHUNK)]
        _wait(
            [self._world.Irecv(theirs[chunk], peer) for chunk in chunks]
            + [self._world.Isend(ours[chunk], peer) for chunk in chunks]
        )
        return received

    def gather(self, value: Any) -> list[Any]:
        ours = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.empty(self.size, np.int32)
        _wait([self._world.Iallgather(np.array([ours.size], np.int32), sizes)])
        every = np.empty(sizes.sum(dtype=np.int64), np.uint8)
        _wait([self._world.Iallgatherv(ours, [every, sizes])])
        return [pickle.loads(part.data) for part in np.split(every, np.cumsum(sizes)[:-1])]  # nosec B301

    def told(self, value: Any) -> Any:
        parts: list[Any] = []  # the value without its arrays, and those, which are sent from where they are
        if self.rank == 0:
            buffers: list[pickle.PickleBuffer] = []
            head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
            parts = [np.frombuffer(part, np.uint8) for part in (memoryview(head), *(each.raw() for each in buffers))]
        sizes = np.zeros(self._told(np.array([len(parts)]))[0], np.int64)
        sizes[:] = [part.size for part in parts] or 0
        self._told(sizes)
        parts = [self._told(part) for part in parts or [np.empty(size, np.uint8) for size in sizes]]
        return value if self.rank == 0 else pickle.loads(parts[0], buffers=parts[1:])  # nosec B301

    def _told(self, array: np.ndarray) -> np.ndarray:
        """Fill an array with rank 0's."""
        raw = _bytes(array)
        for start in range(0, raw.size, CHUNK):
            _wait([self._world.Ibcast(raw[start : start + CHUNK])])
        return array

    def together(self, what: Callable[[], T]) -> T:
        own: BaseException | None = None
        try:
            result = what()
        except BaseException as error:
            own = error
        failures = self.gather(own and Failure.of(own, self.where if self.rank else ""))
        for rank, failure in enumerate(failures):
            if failure is not None:
                self._error = own if own is not None and rank == self.rank else failure.error()
                raise self._error
        return result

    def shared(self, error: BaseException) -> bool:
        return error is self._error

    def abort(self, status: int) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(status)
        raise SystemExit(status)

    def _leave(self) -> None:
        """Wait for the others, since MPI's own waiting at exit takes a whole core; an uncaught error ends them."""
        error = getattr(sys, "last_value", None)
        if error is not None and not self.shared(error):
            self.abort(1)
        if not MPI.Is_finalized():
            _wait([self._world.Ibarrier()])
            MPI.Finalize()


def _bytes(array: np.ndarray) -> np.ndarray:
    """The memory of a contiguous array, for messages without types."""
    return array.reshape(-1).view(np.uint8)


def _wait(requests: list[Any]) -> None:
    """Wait without holding a core: MPICH's own waiting spins, and keeps the others from what it waits for."""
    polls = 0
    while not MPI.Request.Testall(requests):
        time.sleep(0 if polls < 100 else 50e-6)
        polls += 1
