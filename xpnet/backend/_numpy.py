"""NumPy on the CPU: the default backend."""

import functools
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.platforms import keep_freed_memory

from ._base import Backend, Exchange, Peers, cpu_threads, worth_threads
from .blocks import in_blocks

if TYPE_CHECKING:
    from xpnet.optim import Update

_SHORT = 32
"""The longest row of which a copy to transpose costs less than a loop of its own."""


class NumpyBackend(Backend):
    """NumPy on the CPU.

    xp is numpy's main namespace, a standard one since NumPy 2.1, with less around some functions. (Importing
    array_api_compat.numpy, which would add nothing, costs as much as importing NumPy.)
    """

    name, title = "numpy", "NumPy"
    devices = ("cpu",)

    def _open(self, index: int) -> None:
        self.xp = _lean_numpy()
        self.version = np.__version__
        self.description = cpu_threads()

    def activate(self) -> None:
        keep_freed_memory()

    def threads_for(self, flops: int) -> AbstractContextManager[object]:
        if worth_threads(flops):
            return nullcontext()
        limits: AbstractContextManager[object] = _thread_pools().limit(limits=1, user_api="blas")
        return limits

    def blockwise(self, update: "Update") -> "Update":
        return in_blocks(update)

    def link(self, team: Peers) -> AbstractContextManager[Exchange]:
        return nullcontext(team.exchange)

    def adopt(self, array: Any, *, fresh: bool = False) -> Any:
        return np.ascontiguousarray(array) if fresh and isinstance(array, np.ndarray) else super().adopt(array)

    def to_device(self, host_array: np.ndarray) -> Any:
        return np.array(host_array, order="C")

    def to_host(self, array: Any) -> np.ndarray:
        # a copy, since the optimizer writes into its arrays
        return np.array(array, order="C")


@functools.cache
def _lean_numpy() -> SimpleNamespace:
    """NumPy's namespace, with the methods and reductions that some of its functions are Python wrappers of.

    A wrapper costs 0.3 to 1.3 us, all of them together a twentieth of a step at 784-128-10 and batch 64. The maxima of
    short rows are taken down the columns of a transposed copy: one row at a time, those of (200, 10) logits take 9.8 us
    instead of 2.8, and those of (10000, 10) 430 instead of 50.
    """

    def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
        return x.astype(dtype, copy=copy)

    def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Any:
        return x.take(indices, axis)

    def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Any:
        return x.argmax(axis, keepdims=keepdims)

    def maximum(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Any:
        if axis == 1 and x.ndim == 2 and x.shape[1] <= _SHORT:
            return np.maximum.reduce(x.T.copy(), 0, keepdims=keepdims).T
        return np.maximum.reduce(x, axis, keepdims=keepdims)

    def total(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Any:
        return np.add.reduce(x, axis, dtype, keepdims=keepdims)

    def isdtype(dtype: Any, kind: Any) -> bool:
        return dtype.kind == "f" if kind == "real floating" and isinstance(dtype, np.dtype) else np.isdtype(dtype, kind)

    lean = {"argmax": argmax, "astype": astype, "isdtype": isdtype, "max": maximum, "sum": total, "take": take}
    return SimpleNamespace(**{**vars(np), **lean})


@functools.cache
def _thread_pools() -> Any:
    """The pools of threads of the libraries that are loaded, NumPy's among them: finding them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
