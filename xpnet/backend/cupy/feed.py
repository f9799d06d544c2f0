"""Host arrays on their way to the GPU, through pinned memory and on a stream of their own."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from .._base import Feed

__all__ = ["PinnedFeed"]


class PinnedFeed(Feed):
    """Moves arrays on a stream of its own, through two buffers that the device reads without the CPU's help.

    What was pushed waits beside what the steps read, and takes its place when it is pulled: at the same addresses, for
    the sake of captured graphs.
    """

    def __init__(self, cupy: Any, active: Callable[[], AbstractContextManager[None]]) -> None:
        import cupyx

        self._cupy, self._active, self._empty_pinned = cupy, active, cupyx.empty_pinned
        with active():
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self._copied = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
            self._taken = cupy.cuda.Event(disable_timing=True)
        self._pinned: tuple[dict[int, Any], ...] = ({}, {})
        self._waiting: dict[int, Any] = {}
        self._lying: dict[int, Any] = {}
        self._coming: list[Any] = []
        self._turn = 0
        # What was pushed and not pulled may still be moving when its buffers become somebody else's.
        weakref.finalize(self, self._stream.synchronize).atexit = False

    def push(self, *arrays: np.ndarray | None) -> None:
        with self._active():
            self._turn = 1 - self._turn
            self._copied[self._turn].synchronize()  # this buffer's last contents are on the device
            self._stream.wait_event(self._taken)  # and what waited there has been taken away
            self._coming = [None] * len(arrays)
            for i, array in enumerate(arrays):
                if array is not None:
                    pinned = self._place(self._pinned[self._turn], i, array, self._empty_pinned)
                    pinned[...] = array
                    self._coming[i] = self._place(self._waiting, i, array, self._cupy.empty)
                    self._coming[i].set(pinned, stream=self._stream)
            self._copied[self._turn].record(self._stream)

    def pull(self) -> tuple[Any, ...]:
        with self._active():
            self._cupy.cuda.get_current_stream().wait_event(self._copied[self._turn])
            moved: list[Any] = [None] * len(self._coming)
            for i, waiting in enumerate(self._coming):
                if waiting is not None:
                    moved[i] = self._place(self._lying, i, waiting, self._cupy.empty)
                    moved[i][...] = waiting
            self._taken.record()
            return tuple(moved)

    def _place(self, buffers: dict[int, Any], i: int, like: Any, empty: Callable[..., Any]) -> Any:
        """An array like another one, in the buffer of its position."""
        if i not in buffers or buffers[i].nbytes < like.nbytes:
            # Only this stream is waited for: a step may be being captured, and then the device must not be.
            self._stream.synchronize()  # nothing is on its way from the smaller one, nor to it
            buffers[i] = empty((like.nbytes,), np.uint8)
            # The steps may have freed the larger one just now, and not be through with it.
            self._stream.wait_event(self._cupy.cuda.get_current_stream().record())
        return buffers[i][: like.nbytes].view(like.dtype).reshape(like.shape)
