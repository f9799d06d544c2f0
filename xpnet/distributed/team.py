"""A team of processes, as the training sees it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Team"]

T = TypeVar("T")


class Team:
    """Processes that train one network together; this one is alone.

    rank : this process's number, from 0.   size : how many there are.   local_rank : its number among those of its
        machine.   library : the engine that connects them, with its version; "" if alone.
    """

    rank = 0
    size = 1
    local_rank = 0
    library = ""

    @property
    def where(self) -> str:
        """This process in a message, as in "process 1 on node17"."""
        return f"process {self.rank} on {platform.node()}"

    def exchange(self, array: np.ndarray, peer: int, both: bool = False) -> np.ndarray:
        """Send an array to another process, and return the one of the same shape and dtype that it sends.

        both : return the two of them, of one axis, as one array, the lower rank's in front.
        """
        raise ValueError(f"there is no process {peer} to exchange with")

    def gather(self, value: Any) -> list[Any]:
        """What every process passes, in the order of their ranks, on all of them; small, and fit for pickle."""
        return [value]

    def told(self, value: Any) -> Any:
        """What rank 0 passes, on all processes; fit for pickle."""
        return value

    def together(self, what: Callable[[], T]) -> T:
        """The result of a function that every process calls; if it raises on any, all raise the first one's error.

        On the other processes it is an error of the same type, whose message begins with the place unless that is rank
        0. KeyboardInterrupt and SystemExit are shared like any error, so that all clean up and leave in the same way.
        """
        return what()

    def shared(self, error: BaseException) -> bool:
        """Whether all processes raise this error; if not, the others wait for this one until it aborts."""
        return True

    def abort(self, status: int) -> NoReturn:
        """End all processes at once, with an exit code; what this one has printed is shown."""
        raise SystemExit(status)
