"""A team whose processes talk by MPI. Importing this file loads the library; the team starts it."""

from __future__ import annotations

import os
import pickle  # nosec B403
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import mpi4py
import numpy as np

from xpnet.errors import TeamError
from xpnet.platforms import cpus, discard, yield_cpu

from .failures import Failure
from .starting import flush
from .team import Team

mpi4py.rc(initialize=False, finalize=True)
from mpi4py import MPI  # noqa: E402

__all__ = ["MpiTeam", "library", "start"]

T = TypeVar("T")

# MPI counts in 32 bits.
CHUNK = 1 << 30


def library() -> str:
    """The MPI library, as in "MPICH 5.0.2"; it need not have started."""
    name, version = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"


def start() -> int:
    """Start MPI unless it has started, and return how many processes it connects."""
    if not MPI.Is_initialized():
        MPI.Init_thread(MPI.THREAD_SERIALIZED)
    size: int = MPI.COMM_WORLD.Get_size()
    return size


class MpiTeam(Team):
    """All processes that MPI connects. Each method but exchange is called by all of them, in the same order."""

    def __init__(self) -> None:
        self._world = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        neighbours = self._world.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank = neighbours.Get_rank()
        own_cores = neighbours.Get_size() <= len(set().union(*neighbours.allgather(cpus())))
        self._yielding = 1e-3 if own_cores else 0.0
        self.library = library()
        self._error: BaseException | None = None
        # A process that leaves says how often it has exchanged with each other one, and in the own place how many calls
        # of all it has joined. Who waits for one more sees by that that it will never come.
        self._calls = np.zeros(self.size, np.int64)
        self._exits = MPI.COMM_WORLD.Dup()
        self._last_calls = np.zeros((self.size, self.size), np.int64)
        self._left = {
            rank: self._exits.Irecv(self._last_calls[rank], rank) for rank in range(self.size) if rank != self.rank
        }

    def exchange(self, array: np.ndarray, peer: int, both: bool = False) -> np.ndarray:
        if both:  # received where it stays: a copy of a large array takes as long as its way here
            received = np.empty((2, *array.shape), array.dtype)
            own, other = received if self.rank < peer else received[::-1]
            own[...] = array
        else:
            other = received = np.empty(array.shape, array.dtype)
        ours, theirs = _memory(np.ascontiguousarray(array)), _memory(other)
        chunks = [slice(start, start + CHUNK) for start in range(0, ours.size, CHUNK)]
        receiving = [self._world.Irecv(theirs[chunk], peer) for chunk in chunks]
        self._wait(receiving + [self._world.Isend(ours[chunk], peer) for chunk in chunks], peer)
        return received.reshape(-1) if both else received

    def gather(self, value: Any) -> list[Any]:
        ours = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.empty(self.size, np.int32)
        self._wait([self._world.Iallgather(np.array([ours.size], np.int32), sizes)])
        every = np.empty(sizes.sum(dtype=np.int64), np.uint8)
        self._wait([self._world.Iallgatherv(ours, [every, sizes])])
        return [pickle.loads(part.data) for part in np.split(every, np.cumsum(sizes)[:-1])]  # nosec B301

    def told(self, value: Any) -> Any:
        parts: list[Any] = []  # the value without the memory of its arrays, and that, sent from where it is
        if self.rank == 0:
            arrays: list[pickle.PickleBuffer] = []
            head = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
            parts = [np.frombuffer(head, np.uint8), *(_memory(np.asarray(each.raw())) for each in arrays)]
        (number,) = self._told(np.array([len(parts)]))
        sizes = self._told(np.array([part.size for part in parts] or [0] * number))
        parts = [self._told(part) for part in parts or [np.empty(size, np.uint8) for size in sizes]]
        return value if self.rank == 0 else pickle.loads(parts[0], buffers=parts[1:])  # nosec B301

    def _told(self, array: np.ndarray) -> np.ndarray:
        memory = _memory(array)
        for start in range(0, memory.size, CHUNK):
            self._wait([self._world.Ibcast(memory[start : start + CHUNK])])
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
        flush()
        # What has been said is enough; MPICH would add a line of its own.
        discard(2)
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)  # an abort may return before it comes into effect

    def leave(self) -> None:
        """Wait for the others at the exit of the interpreter, where MPI's own waiting would take a whole core.

        An uncaught error that they do not share ends them instead.
        """
        error = getattr(sys, "last_value", None)
        if error is not None and not self.shared(error):
            self.abort(130 if isinstance(error, KeyboardInterrupt) else 1)
        goodbyes = [self._exits.Isend(self._calls, rank) for rank in self._left]
        try:
            self._poll([*goodbyes, *self._left.values()])
        except KeyboardInterrupt:  # the rest may take long; a traceback would be of no use
            self.abort(130)

    def _wait(self, requests: list[Any], peer: int | None = None) -> None:
        """Wait for an exchange with a peer, or for a call that all processes join."""
        own = self.rank if peer is None else peer
        self._calls[own] += 1

        def look_for_leavers() -> None:
            for rank, left in self._left.items():
                theirs = rank if peer is None else self.rank
                if peer in (None, rank) and left.Test() and self._last_calls[rank, theirs] < self._calls[own]:
                    raise TeamError(f"process {rank} has ended, although {self.where} waits for it")

        self._poll(requests, look_for_leavers)

    def _poll(self, requests: list[Any], now_and_then: Callable[[], None] = lambda: None) -> None:
        """Wait without holding a core: MPI's own waiting spins, and hinders the processes for which it waits.

        A message takes microseconds, and moves on only while it is looked at; a step takes milliseconds, a checkpoint
        or an evaluation seconds. Yielding the core costs nothing where nobody else wants it; but others do where there
        are fewer cores than processes.
        """
        began, waited = time.perf_counter(), 0.0
        while not MPI.Request.Testall(requests):
            if waited < self._yielding:
                yield_cpu()
            else:
                time.sleep(min(max(50e-6, waited / 10), 1e-3))
            waited = time.perf_counter() - began
            if waited > 0.2:
                now_and_then()


def _memory(array: np.ndarray) -> np.ndarray:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8)
