"""A team whose processes are threads of this one: what is asked of many processes, without any."""

import pickle
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from xpnet.distributed import Team

T = TypeVar("T")

PATIENCE = 60.0


class _Failed(NamedTuple):
    error: BaseException


class ThreadTeam(Team):
    """One of the threads that share some mail boxes."""

    def __init__(self, rank: int, size: int, mail: dict[tuple[int, int], "queue.Queue[Any]"]) -> None:
        self.rank = self.local_rank = rank
        self.size, self._mail = size, mail

    def exchange(self, array: np.ndarray, peer: int, both: bool = False) -> np.ndarray:
        self._mail[self.rank, peer].put(array.copy())
        theirs: np.ndarray = self._next_of(peer)
        return np.concatenate([array, theirs] if self.rank < peer else [theirs, array]) if both else theirs

    def gather(self, value: Any) -> list[Any]:
        sent = pickle.dumps(value)  # to each process its own
        for peer in range(self.size):
            self._mail[self.rank, peer].put(sent)
        return [pickle.loads(self._next_of(peer)) for peer in range(self.size)]

    def told(self, value: Any) -> Any:
        return self.gather(value)[0]

    def together(self, what: Callable[[], T]) -> T:
        own: Exception | None = None
        try:
            result = what()
        except Exception as error:
            own = error
        for each in self.gather(own):
            if each is not None:
                raise each
        return result

    def fail(self, error: BaseException) -> None:
        """Let the others end, instead of waiting."""
        for peer in range(self.size):
            self._mail[self.rank, peer].put(_Failed(error))

    def _next_of(self, peer: int) -> Any:
        value = self._mail[peer, self.rank].get(timeout=PATIENCE)
        if isinstance(value, _Failed):
            raise RuntimeError(f"process {peer} failed") from value.error
        return value


def on_threads(size: int, what: Callable[[ThreadTeam], T]) -> list[T]:
    """What a function returns for each member of a team; raises the first error, if any has one."""
    mail: dict[tuple[int, int], queue.Queue[Any]] = {(a, b): queue.Queue() for a in range(size) for b in range(size)}
    results: list[Any] = [None] * size
    errors: dict[int, BaseException] = {}

    def run(rank: int) -> None:
        team = ThreadTeam(rank, size, mail)
        # Before 2.2 all threads but the first one promote scalars as NumPy 1 did.
        getattr(np, "_set_promotion_state", str)("weak")
        try:
            results[rank] = what(team)
        except BaseException as error:  # raised by the caller's thread, where the test sees it
            errors[rank] = error
            team.fail(error)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    # Each process of a team limits its BLAS while it trains; of these, which share one, the first to end would lift the
    # limit of all.
    with threadpool_limits(limits=1, user_api="blas"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for error in errors.values():
        raise error
    return results
