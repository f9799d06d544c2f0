"""A team whose processes are threads of this one: what is asked of many processes, without any."""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from xpnet.distributed import Team

T = TypeVar("T")

PATIENCE = 60.0


class ThreadTeam(Team):
    """One of the threads that share some mail boxes."""

    def __init__(self, rank: int, size: int, mail: dict[tuple[int, int], "queue.Queue[Any]"]) -> None:
        self.rank = self.local_rank = rank
        self.size, self._mail = size, mail

    def exchange(self, array: np.ndarray, peer: int) -> np.ndarray:
        self._mail[self.rank, peer].put(array.copy())
        theirs: np.ndarray = self._mail[peer, self.rank].get(timeout=PATIENCE)
        return theirs

    def gather(self, value: Any) -> list[Any]:
        for peer in range(self.size):
            self._mail[self.rank, peer].put(value)
        return [self._mail[peer, self.rank].get(timeout=PATIENCE) for peer in range(self.size)]

    def told(self, value: Any) -> Any:
        return self.gather(value)[0]


def on_threads(size: int, what: Callable[[ThreadTeam], T]) -> list[T]:
    """What a function returns for each member of a team; raises the error of the lowest rank that has one."""
    mail: dict[tuple[int, int], queue.Queue[Any]] = {(a, b): queue.Queue() for a in range(size) for b in range(size)}
    results: list[Any] = [None] * size
    errors: dict[int, BaseException] = {}

    def run(rank: int) -> None:
        try:
            results[rank] = what(ThreadTeam(rank, size, mail))
        except BaseException as error:  # raised by the caller's thread, where the test sees it
            errors[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return results
