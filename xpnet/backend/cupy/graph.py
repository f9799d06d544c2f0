"""A step captured as a CUDA graph, and replayed.

A graph repeats the kernels of the captured step, on the same addresses and with the same numbers. A captured step
therefore writes its new state into the arrays of the old one, and every call checks that the graph still matches its
arguments:

- The state is normally where the graph left it; otherwise it is copied there.
- Any other array is read where it lies. If it lies elsewhere in a later call, the step is captured once more with a
  copy of its own, which is renewed at every call from then on.
- A different shape or dtype, or a different number among the arguments, needs another graph.

The memory of intermediate values belongs to the graph alone, since a replay writes to it no matter who owns it by then.
"""

import contextlib
import gc
import linecache
import logging
import traceback
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from .._base import first_line
from .fusion import Fusion, leaves, map_tree

__all__ = ["CapturedStep"]

# The first run compiles kernels and fills the memory pool, the second runs as all others will.
WARM_UPS = 2

# Of a step that is given ever other shapes, the newest graphs are kept.
MOST_GRAPHS = 8

# Packages whose own lines are not the step's.
_PACKAGES = ("xpnet.backend", "cupy", "cupyx", "cupy_backends", "array_api_compat")


class CapturedStep:
    """A step that is run as a CUDA graph, or, where it cannot be captured, as it is.

    cupy : the module.   device : that it runs on.   stream : to capture on.   step, times : as in Backend.compile.
    fusion : gathers its operations into kernels.
    """

    def __init__(
        self, cupy: Any, device: Any, stream: Any, fusion: Fusion, step: Callable[..., Any], times: int
    ) -> None:
        self._cupy, self._device, self._stream, self._fusion = cupy, device, stream, fusion
        self._step, self._times = step, times
        self._graphs: OrderedDict[Any, _Graph | None] = OrderedDict()
        self._refused = False

    @property
    def nodes(self) -> int | None:
        """Nodes of the newest graph, each a kernel, a copy or a filling of memory; None without a graph."""
        graphs = [graph for graph in self._graphs.values() if graph is not None]
        return graphs[-1].nodes() if graphs else None

    def __call__(self, state: Any, *arrays: Any) -> Any:
        """The state after step, as many times as it is compiled for; the state that is given is consumed."""
        given, layout = leaves((state, arrays)), self._layout((state, arrays))
        graph = self._graphs.get(layout)
        if graph is None and layout in self._graphs:
            return self._eagerly(state, arrays)
        with self._device:
            if graph is None or (moved := graph.moved(given)):
                apart = set() if graph is None else graph.apart | moved
                try:
                    graph = self._captured(state, arrays, apart)
                except _NotCapturedError as refusal:
                    self._graphs[layout] = None
                    state = self._eagerly(state, arrays)  # raises what is wrong with the step itself
                    self._tell(refusal)
                    return state
                self._keep(layout, graph)
            self._graphs.move_to_end(layout)
            graph.receive(given)
            graph.launch()
        return graph.state

    def _layout(self, tree: Any) -> Any:
        """All that a graph cannot change about its arguments."""
        if isinstance(tree, list | tuple):
            return tuple(map(self._layout, tree))
        # 1, 1.0 and True are equal, but make other steps.
        return (tree.shape, tree.dtype.str) if isinstance(tree, self._cupy.ndarray) else (type(tree), tree)

    def _eagerly(self, state: Any, arrays: Any) -> Any:
        for _ in range(self._times):
            state = self._step(state, *arrays)
        return state

    def _in_place(self, state: Any, arrays: Any) -> None:
        """The step, with the new state written over the old."""
        old = leaves(state)
        self._fusion.replace(old, leaves(self._step(state, *arrays)))

    def _captured(self, state: Any, arrays: Any, apart: set[int]) -> "_Graph":
        """Warm up, restore the state, and capture.   Raises _NotCapturedError where that cannot be done."""
        cupy, body = self._cupy, self._fusion.fuse(self._in_place)
        graph = _Graph(cupy, self._device, state, arrays, apart)
        backup = [leaf.copy() for leaf in leaves(state)]
        self._device.synchronize()
        with cupy.cuda.using_allocator(graph.pool.malloc), self._stream:
            try:
                for _ in range(WARM_UPS):
                    body(graph.state, graph.arrays)
            except MemoryError:
                raise
            except Exception as error:
                raise _NotCapturedError(error) from error
            finally:
                for leaf, old in zip(leaves(state), backup, strict=True):
                    leaf[...] = old
                self._stream.synchronize()
            graph.capture(self._stream, lambda: body(graph.state, graph.arrays), self._times)
        return graph

    def _keep(self, layout: Any, graph: "_Graph") -> None:
        self._graphs[layout] = graph
        if len(self._graphs) > MOST_GRAPHS:
            self._graphs.popitem(last=False)

    def _tell(self, refusal: "_NotCapturedError") -> None:
        if not self._refused:
            self._refused = True
            logging.getLogger("xpnet").warning(
                "the step is not captured as a CUDA graph, but run operation by operation, which is slower: %s", refusal
            )


class _NotCapturedError(Exception):
    """A step that cannot be captured; it names the operation, and says what is wrong with it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{_operation(error)}: {first_line(error)}")


class _Graph:
    """A captured step, the arrays that it is about, and its memory.

    device : that it runs on.
    state, arrays : its arguments; the arrays at the positions in apart, among all leaves, are replaced by copies.
    """

    def __init__(self, cupy: Any, device: Any, state: Any, arrays: Any, apart: set[int]) -> None:
        position = iter(range(len(leaves((state, arrays)))))

        def own(leaf: Any) -> Any:
            return leaf.copy() if next(position) in apart else leaf

        self.apart = apart
        self.state, self.arrays = map_tree((state, arrays), own)
        self._leaves = leaves((self.state, self.arrays))
        self._n_state = len(leaves(state))
        self._cupy = cupy
        self._graph: Any = None
        self.pool = cupy.cuda.MemoryPool()
        # A pool that goes keeps its memory unless asked to free it. What was launched last may still be running,
        # but to free memory is to wait for that.
        weakref.finalize(self, _free, device, self.pool).atexit = False

    def capture(self, stream: Any, body: Callable[[], None], times: int) -> None:
        """Capture a body, a number of times in a row.   Raises _NotCapturedError where that cannot be done."""
        collecting = gc.isenabled()
        gc.disable()  # what is collected may free memory, and so end the capture
        try:
            stream.begin_capture()
            try:
                for _ in range(times):
                    body()
            except BaseException:
                with contextlib.suppress(Exception):
                    stream.end_capture()
                raise
            self._graph = stream.end_capture()
            self._graph.upload(stream)
            stream.synchronize()
        except MemoryError:
            raise
        except Exception as error:
            raise _NotCapturedError(error) from error
        finally:
            if collecting:
                gc.enable()

    def moved(self, given: list[Any]) -> set[int]:
        """Positions of the arrays, the state's apart, that lie elsewhere than those that the graph reads."""
        own = self._leaves
        return {i for i in range(self._n_state, len(own)) if i not in self.apart and not self._is(own[i], given[i])}

    def receive(self, given: list[Any]) -> None:
        """Copy into the graph's arrays what does not lie there."""
        for i, (own, leaf) in enumerate(zip(self._leaves, given, strict=True)):
            if i in self.apart or (i < self._n_state and not self._is(own, leaf)):
                own[...] = leaf

    def launch(self) -> None:
        """Replay on the current stream, after all that it was given before."""
        self._graph.launch()

    def nodes(self) -> int:
        """How many nodes it has."""
        return int(self._graph.debug_dot_str().count("shape="))

    def _is(self, own: Any, leaf: Any) -> bool:
        """Whether two arguments of the same shape and dtype are the same memory, or the same number."""
        if own is leaf or not isinstance(own, self._cupy.ndarray):
            return True
        return bool(own.data.ptr == leaf.data.ptr and own.strides == leaf.strides)


def _free(device: Any, pool: Any) -> None:
    with device:  # a pool frees what it has on the current one
        pool.free_all_blocks()


def _operation(error: BaseException) -> str:
    """The line of the step that an error comes from: the innermost outside of the libraries and of this room."""
    lines = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_of_step(frame)]
    if not lines:
        return "the step as a whole"
    frame, number = lines[-1]
    code = frame.f_code
    line = linecache.getline(code.co_filename, number).strip()
    return f"{line or code.co_name!r} in {Path(code.co_filename).name}, line {number}"


def _is_of_step(frame: FrameType) -> bool:
    # By the module's name: a folder may be called as it likes, and compiled modules of CuPy have no path.
    module = str(frame.f_globals.get("__name__", ""))
    return not any(module == package or module.startswith(f"{package}.") for package in _PACKAGES)
