"""A stand-in for CuPy 14.2 that computes with NumPy, and springs CuPy's traps.

`install` puts it in CuPy's place. Memory is handed out by CuPy's pools, so that freed blocks are reused and
overwritten; streams run late, so that a missing synchronisation shows; a captured stream records its operations and
leaves garbage behind, so that what relies on values there fails. The array is no subclass of NumPy's: `np.asarray`
would take its memory without asking, and array-api-compat would take it for NumPy's. Messages are those of the wheel.
"""

import atexit
import ctypes
import gc
import importlib.metadata
import math
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NoReturn

import array_api_compat
import numpy as np
import pytest

_Scalar = bool | int | float | complex | np.generic


def _words(text: str) -> list[str]:
    return text.split()


# What NumPy has and CuPy 14.2 has not, as far as one might use it; RandomState and the like are left out as well.
_ABSENT = _words("""
    asmatrix block bmat bytes_ einsum_path errstate frompyfunc geomspace insert longdouble matrix matvec memmap
    ndenumerate nditer object_ record recarray seterr str_ test timedelta64 datetime64 unstack vecdot vecmat void
    asarray asanyarray array ascontiguousarray asfortranarray copy empty empty_like ndarray take frombuffer fromfile
    fromiter fromstring load loads save savez savetxt loadtxt genfromtxt nested_iters show_config show_runtime info
    """)
_VIEWS = _words("""
    reshape transpose permute_dims swapaxes moveaxis rollaxis matrix_transpose expand_dims squeeze broadcast_to
    broadcast_arrays ravel diagonal split array_split hsplit vsplit dsplit atleast_1d atleast_2d atleast_3d flip fliplr
    flipud rot90 real""")
_LIBM = _words("exp expm1 log log1p tanh sin cos")
_CUBLAS = _words("matmul dot inner vdot tensordot einsum")
_READ_BACK = _words("nonzero argwhere flatnonzero unique unique_all unique_counts unique_inverse unique_values")
_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "lshift": "left_shift", "rshift": "right_shift", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "matmul": "matmul",
}  # fmt: skip
_COMPARISONS = {
    "lt": "less", "le": "less_equal", "eq": "equal", "ne": "not_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
_METHODS = _words("""all any argmax argmin argpartition argsort clip conj cumprod cumsum dot max mean min nonzero
    prod ptp repeat round searchsorted std sum take trace var reshape transpose swapaxes squeeze ravel diagonal""")

_ERRORS = {  # CUDA's own words, as the wheel prints them
    1: "cudaErrorInvalidValue: invalid argument",
    2: "cudaErrorMemoryAllocation: out of memory",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    401: "cudaErrorIllegalState: the operation cannot be performed in the present state",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    900: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    901: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
    903: "cudaErrorStreamCaptureUnmatched: capture was not ended in the same stream as it began",
    904: "cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work",
    905: "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another stream",
    906: "cudaErrorStreamCaptureImplicit: operation would make the legacy stream depend on a capturing blocking stream",
    907: "cudaErrorCapturedEvent: operation not permitted on an event last recorded in a capturing stream",
}


class CUDARuntimeError(RuntimeError):
    """CuPy's error of the CUDA runtime."""

    def __init__(self, status: int) -> None:
        super().__init__(_ERRORS.get(status, f"cudaError {status}"))
        self.status = status


class OutOfMemoryError(MemoryError):
    """CuPy's, with its message."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


class CompileException(Exception):  # noqa: N818, CuPy's name
    """What a kernel that does not compile raises."""

    def __init__(self, msg: str, source: str, name: str, options: Any, backend: str = "nvrtc") -> None:
        super().__init__(msg)
        self.source, self.name, self.options, self.backend = source, name, options, backend


def garbage(dtype: Any) -> Any:
    """What uninitialised memory holds: a value that spoils every result."""
    dtype = np.dtype(dtype)
    return np.nan if dtype.kind in "fc" else True if dtype.kind == "b" else np.iinfo(dtype).max - 7


# Memory --------------------------------------------------------------------------------------------------------------


class Memory:
    """An allocation of the device: host memory that the fake keeps until it is released."""

    def __init__(self, fake: "Fake", size: int) -> None:
        fake.note("cudaMalloc")
        for stream in fake.streams.values():
            if stream.capture is not None and stream.capture.mode != 2:
                stream.capture.refuse(900)
        if fake.allocated + size > fake.total_memory:
            raise CUDARuntimeError(2)
        self.fake, self.size, self.freed = fake, size, False
        self.raw = np.full(size + 512, 0xFF, np.uint8)
        self.ptr = -(-self.raw.ctypes.data // 512) * 512
        fake.memories.append(self)
        fake.allocated += size

    def release(self) -> None:
        """Give it back to the device, when all that was issued has run; whoever still reads it reads garbage."""
        self.fake.doomed.append(self)
        self.fake.settle()

    def bury(self) -> None:
        self.freed = True
        self.raw[...] = 0xFF
        self.fake.memories.remove(self)
        self.fake.allocated -= self.size

    def view(self, ptr: int, shape: Any, dtype: Any, strides: Any = None, order: Any = "C") -> np.ndarray:
        """The host's view of what lies at an address; it keeps the host memory, not the device's block."""
        return np.ndarray(shape, dtype, self.raw, ptr - self.raw.ctypes.data, strides, order)


class Chunk:
    """A part of an allocation, which a pool hands out; pool is None for memory outside of any pool."""

    def __init__(self, memory: Memory, offset: int, size: int, pool: "MemoryPool | None", arena: int) -> None:
        self.memory, self.offset, self.size, self.arena = memory, offset, size, arena
        self.pool = (lambda: None) if pool is None else pool.weakly


class PooledMemory:
    """A chunk in use, which returns to its pool with the last array on it."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk, self.memory = chunk, chunk.memory
        self.ptr, self.size = chunk.memory.ptr + chunk.offset, chunk.size

    def __del__(self) -> None:
        pool = self.chunk.pool()
        if pool is not None:
            pool.give_back(self.chunk)
        elif self.chunk.size == self.memory.size:  # what a pool had that is gone is the device's again, unless split
            self.memory.release()


class MemoryPointer:
    """An address, and the block it keeps alive."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset

    def __int__(self) -> int:
        return int(self.ptr)

    def __add__(self, offset: int) -> "MemoryPointer":
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)


class MemoryPool:
    """CuPy's pool: a free list per stream, best fit, split and merged, in units of 512 bytes."""

    fake: ClassVar["Fake"]

    def __init__(self, allocator: Any = None) -> None:
        self._arenas: dict[int, list[Chunk]] = {}
        self._freed: list[Chunk] = []
        self.weakly = weakref.ref(self)  # one, held here: Python clears a weak reference that is garbage itself
        self._total = self._used = 0

    def malloc(self, size: int) -> MemoryPointer:
        size = -(-size // 512) * 512
        if size == 0:
            return MemoryPointer(SimpleNamespace(ptr=0, memory=None), 0)
        arena = self.fake.current_stream().ptr
        with self.fake.lock:
            return MemoryPointer(PooledMemory(self._chunk(size, arena)), 0)

    def _chunk(self, size: int, arena: int) -> Chunk:
        self._collect()
        free = self._arenas.setdefault(arena, [])
        fitting = [chunk for chunk in free if chunk.size >= size]
        if fitting:
            chunk = min(fitting, key=lambda chunk: chunk.size)
            free.remove(chunk)
            if chunk.size > size:
                free.append(Chunk(chunk.memory, chunk.offset + size, chunk.size - size, self, arena))
                chunk.size = size
        else:
            chunk = Chunk(self._allocate(size), 0, size, self, arena)
            self._total += size
        self._used += size
        return chunk

    def _allocate(self, size: int) -> Memory:
        for _ in range(2):
            try:
                return Memory(self.fake, size)
            except CUDARuntimeError as error:
                if error.status != 2:
                    raise
                gc.collect()
                self.free_all_blocks()
        try:
            return Memory(self.fake, size)
        except CUDARuntimeError:
            raise OutOfMemoryError(size, self._total) from None

    def give_back(self, chunk: Chunk) -> None:
        """Called by a destructor, so anywhere in the midst of the methods below: they put it in its place."""
        self._freed.append(chunk)

    def _collect(self) -> None:
        while self._freed:
            chunk = self._freed.pop()
            self._used -= chunk.size
            free = self._arenas[chunk.arena]
            for other in [other for other in free if other.memory is chunk.memory]:
                if other.offset + other.size == chunk.offset or chunk.offset + chunk.size == other.offset:
                    free.remove(other)
                    chunk.offset, chunk.size = min(chunk.offset, other.offset), chunk.size + other.size
            free.append(chunk)

    def free_all_blocks(self, stream: Any = None) -> None:
        with self.fake.lock:
            self._collect()
            for arena, free in self._arenas.items():
                if stream is None or arena == stream.ptr:
                    for chunk in [chunk for chunk in free if chunk.size == chunk.memory.size]:
                        free.remove(chunk)
                        self._total -= chunk.size
                        chunk.memory.release()

    def n_free_blocks(self) -> int:
        with self.fake.lock:
            self._collect()
            return sum(map(len, self._arenas.values()))

    def total_bytes(self) -> int:
        return self._total

    def used_bytes(self) -> int:
        with self.fake.lock:
            self._collect()
            return self._used

    def free_bytes(self) -> int:
        return self._total - self.used_bytes()


# Streams and graphs --------------------------------------------------------------------------------------------------


class Capture:
    """What a stream records instead of running it."""

    def __init__(self, origin: "Stream", mode: int) -> None:
        self.origin, self.mode = origin, mode
        self.operations: list[tuple[str, Callable[[], None], list[tuple[np.ndarray, Memory]]]] = []
        self.valid = True
        self.unjoined: set[Stream] = set()

    def refuse(self, status: int) -> NoReturn:
        """Raise for what may not be captured; CUDA then gives up the whole capture."""
        self.valid = False
        raise CUDARuntimeError(status)


class Stream:
    """A queue of work. Nothing waits in it until a copy from the host does, and then all that follows waits too."""

    fake: ClassVar["Fake"]
    null: ClassVar["Stream"]

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        self.fake.note("Stream")
        self.is_non_blocking = non_blocking
        self.device_id = -1 if null else self.fake.local.device
        self.ptr = 0 if null else 0x1000 + 16 * len(self.fake.streams)
        self.capture: Capture | None = None
        self._queue: deque[tuple[int, Callable[[], None]]] = deque()
        self._submitted = 0
        self.fake.streams[self.ptr] = self

    def __repr__(self) -> str:
        return f"<Stream {self.ptr} (device {self.device_id})>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __enter__(self) -> "Stream":
        self._check_device()
        self.fake.local.stack.append((self.fake.local.device, self.fake.current_stream()))
        return self.use()

    def __exit__(self, *error: object) -> None:
        device, stream = self.fake.local.stack.pop()
        self.fake.local.streams[device] = stream

    def use(self) -> "Stream":
        self._check_device()
        self.fake.local.streams[self.fake.local.device] = self
        return self

    def _check_device(self) -> None:
        current = self.fake.local.device
        if self.device_id not in (-1, current):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with the current device "
                f"({current})"
            )

    # Work

    def submit(
        self, name: str, run: Callable[[], None], outputs: list[tuple[np.ndarray, Memory]], late: bool = False
    ) -> None:
        """Run an operation, or record it, or queue it behind what waits; late ones always wait."""
        self.fake.note(name)
        if self.capture is not None:
            if not self.capture.valid:
                raise CUDARuntimeError(901)
            self.capture.operations.append((name, run, outputs))
            return
        with self.fake.lock:
            self.meet()
            self._submitted += 1
            if self._queue or (late and (self.ptr != 0 or self.fake.lazy_null)):
                self._queue.append((self._submitted, run))
            else:
                self.fake.run(run)

    def meet(self) -> None:
        """The legacy stream and the blocking ones wait for each other."""
        for other in self.fake.streams.values():
            if other is not self and 0 in (self.ptr, other.ptr) and not (self._apart or other._apart):
                if other.capture is not None:
                    other.capture.refuse(906)
                other.drain()

    @property
    def _apart(self) -> bool:
        return self.ptr != 0 and self.is_non_blocking

    @property
    def late(self) -> bool:
        """Whether what is submitted now will not have run on return."""
        return bool(self._queue) or self.capture is not None

    def drain(self, until: float = math.inf) -> None:
        with self.fake.lock:
            while self._queue and self._queue[0][0] <= until:
                self.fake.run(self._queue.popleft()[1])

    def synchronize(self) -> None:
        self.fake.note("synchronize")
        if self.capture is not None:
            self.capture.refuse(900)
        self.drain()

    @property
    def done(self) -> bool:
        if self.capture is not None:
            self.capture.valid = False
        return not self.late

    def record(self, event: "Event | None" = None) -> "Event":
        event = self.fake.cupy.cuda.Event() if event is None else event
        event.mark = (self, self._submitted, self.capture)
        return event

    def wait_event(self, event: "Event") -> None:
        if event.mark is None:
            return
        stream, until, capture = event.mark
        if capture is not None:
            if capture.origin.capture is not capture:
                raise CUDARuntimeError(907)
            if self.capture is None:  # the fork of a capture: this stream belongs to it from now on
                self.capture = capture
                capture.unjoined.add(self)
            elif stream is not self:
                capture.unjoined.discard(stream)
        elif self.capture is not None:
            self.capture.refuse(905)
        elif stream is not self and stream._queue and stream._queue[0][0] <= until:
            self.submit("wait_event", lambda: stream.drain(until), [], late=True)

    def launch_host_func(self, callback: Callable[[Any], None], arg: Any) -> None:
        self.submit("host_func", lambda: callback(arg), [])

    # Capture

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr in (0, 1):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.fake.note("begin_capture")
        if self.capture is not None:
            raise CUDARuntimeError(401)
        self.drain()  # CUDA would not, but what is waiting comes first in any case
        self.capture = Capture(self, 2 if mode is None else mode)

    def is_capturing(self) -> bool:
        if self.capture is not None and not self.capture.valid:
            raise RuntimeError("the stream was capturing, but an error has invalidated the capture sequence")
        if self.ptr == 0 and any(other.capture and not other._apart for other in self.fake.streams.values()):
            raise CUDARuntimeError(906)
        return self.capture is not None

    def end_capture(self) -> "Graph":
        capture = self.capture
        if capture is None:
            raise CUDARuntimeError(401)
        if capture.origin is not self:
            capture.refuse(903)
        for stream in self.fake.streams.values():
            if stream.capture is capture:
                stream.capture = None
        self.fake.note("end_capture")
        if not capture.valid:
            raise CUDARuntimeError(901)
        if capture.unjoined:
            raise CUDARuntimeError(904)
        graph: Graph = object.__new__(self.fake.cupy.cuda.Graph)
        graph.operations = capture.operations
        return graph


class Event:
    """A point in a stream's queue."""

    fake: ClassVar["Fake"]

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.mark: tuple[Stream, int, Capture | None] | None = None

    def record(self, stream: Stream | None = None) -> None:
        (stream or self.fake.current_stream()).record(self)

    def _waiting(self) -> tuple[Stream, int] | None:
        if self.mark is None:
            return None
        stream, until, capture = self.mark
        if capture is not None:
            capture.refuse(907)
        return stream, until

    @property
    def done(self) -> bool:
        waiting = self._waiting()
        return waiting is None or not waiting[0]._queue or waiting[0]._queue[0][0] > waiting[1]

    def synchronize(self) -> None:
        self.fake.note("synchronize")
        if waiting := self._waiting():
            waiting[0].drain(waiting[1])


class Graph:
    """Recorded operations, which know addresses and nothing else."""

    fake: ClassVar["Fake"]
    operations: list[tuple[str, Callable[[], None], list[tuple[np.ndarray, Memory]]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "currently this class cannot be initiated by the user and must be created via stream capture"
        )

    def launch(self, stream: Stream | None = None) -> None:
        (stream or self.fake.current_stream()).submit("graph_launch", self._run, [])

    def _run(self) -> None:
        for _, run, outputs in self.operations:
            run()
            for out, memory in outputs:
                if memory.freed:  # CUDA would report an illegal address, at the next synchronisation
                    self.fake.note("illegal_address")
                    out[...] = garbage(out.dtype)

    def upload(self, stream: Stream | None = None) -> None:
        self.fake.note("upload")

    def debug_dot_str(self, flags: int = 0) -> str:
        nodes = [
            f'"graph_1_node_{i}"[style="bold" shape="octagon" label="{i}\ncupy_{name}\\<\\<\\<1,128,0\\>\\>\\>"];'
            for i, (name, _, _) in enumerate(self.operations)
        ]
        edges = [f'"graph_1_node_{i}" -> "graph_1_node_{i + 1}";' for i in range(len(nodes) - 1)]
        lines = [
            'digraph dot {\nsubgraph cluster_1 {\nlabel="graph_1" graph[style="dashed"];',
            *nodes,
            *edges,
            "}\n}\n",
        ]
        return "\n".join(lines)


class Device:
    """A CUDA device; the current one is the thread's."""

    fake: ClassVar["Fake"]
    compute_capability = "80"

    def __init__(self, device: Any = None) -> None:
        self.id = self.fake.local.device if device is None else int(device)

    def __int__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __enter__(self) -> "Device":
        self.fake.local.devices.append(self.fake.local.device)
        return self.use()

    def __exit__(self, *error: object) -> None:
        self.fake.local.device = self.fake.local.devices.pop()

    def use(self) -> "Device":
        self.fake.set_device(self.id)
        return self

    def synchronize(self) -> None:
        self.fake.note("synchronize")
        for stream in self.fake.streams.values():
            if stream.capture is not None:
                stream.capture.refuse(900)
        for stream in self.fake.streams.values():
            stream.drain()

    @property
    def mem_info(self) -> tuple[int, int]:
        return self.fake.memory_info()


# Arrays --------------------------------------------------------------------------------------------------------------


class Array:
    """cupy.ndarray: a NumPy view of a block of the pool, and the block."""

    fake: ClassVar["Fake"]
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: Any = "C"
    ) -> None:
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(shape) * dtype.itemsize
        pointer = self.fake.alloc(size) if memptr is None else memptr
        self.mem = pointer.mem  # keeps the block alive; views share it
        self.device_id = self.fake.local.device
        memory = self.mem.memory
        self.host = (
            np.empty(shape, dtype, order) if memory is None else memory.view(pointer.ptr, shape, dtype, strides, order)
        )
        if memptr is None and self.fake.current_stream().capture is not None:
            self.host[...] = garbage(dtype)

    def _view(self, host: np.ndarray) -> "Array":
        new: Array = object.__new__(type(self))
        new.host, new.mem, new.device_id = host, self.mem, self.device_id
        return new

    # What it is

    shape = property(lambda self: self.host.shape)
    strides = property(lambda self: self.host.strides)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    flags = property(lambda self: self.host.flags)
    T = property(lambda self: self._view(self.host.T))
    mT = property(lambda self: self._view(np.swapaxes(self.host, -1, -2)))  # noqa: N815
    real = property(lambda self: self._view(self.host.real))
    device = property(lambda self: self.fake.cupy.cuda.Device(self.device_id))

    @property
    def data(self) -> MemoryPointer:
        address = self.host.__array_interface__["data"][0]
        return MemoryPointer(self.mem, address - self.mem.ptr if self.mem.ptr else 0)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self.host)

    def __iter__(self) -> Iterator["Array"]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # To and from the host

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(
        self, stream: Stream | None = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        stream = stream or self.fake.current_stream()
        if stream.is_capturing():
            raise RuntimeError("the current stream is capturing, so D2H transfers are disallowed")
        if out is not None and (out.dtype, out.shape) != (self.dtype, self.shape):
            raise ValueError(f"Shape mismatch. Expected shape: {out.shape}, actual shape: {self.shape}")
        target = np.empty(self.shape, self.dtype, order="F" if order == "F" else "C") if out is None else out
        source = self.host
        stream.submit("d2h", lambda: np.copyto(target, source), [], late=True)
        if blocking:
            stream.synchronize()
        return target

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        arr = np.ascontiguousarray(arr) if self.flags.c_contiguous else np.asfortranarray(arr)
        self._upload(arr, stream or self.fake.current_stream())

    def _upload(self, source: np.ndarray, stream: Stream) -> None:
        if stream.is_capturing():
            raise RuntimeError("the current stream is capturing, so H2D transfers are disallowed")
        # Pageable memory is staged before the call returns; pinned memory is read when its turn comes.
        source, target = source if self.fake.is_pinned(source) else source.copy(), self.host
        stream.submit("h2d", lambda: np.copyto(target, source), self._outputs(), late=True)

    def _outputs(self) -> list[tuple[np.ndarray, Memory]]:
        return [] if self.mem.memory is None else [(self.host, self.mem.memory)]

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __deepcopy__(self, memo: Any) -> "Array":
        return self.copy()

    # Elements

    def _key(self, key: Any) -> tuple[Any, list["Array"]]:
        """The key with device arrays for lists, and those arrays; integers out of range wrap around in them."""
        keys = list(key) if isinstance(key, tuple) else [key]
        ndarray = self.fake.cupy.ndarray
        keys = [self.fake.asarray(k) if isinstance(k, list | np.ndarray) else k for k in keys]
        arrays = [k for k in keys if isinstance(k, ndarray)]
        if any(k.dtype.kind == "b" for k in arrays):
            self.fake.read_back()  # the number of elements
        return tuple(keys), arrays

    def _index(self, key: tuple[Any, ...]) -> Callable[[], Any]:
        """NumPy's key, made anew whenever it is called, since the indices in it may have changed."""
        hosts = [k.host if isinstance(k, Array) else k for k in key]
        width = [k.ndim if isinstance(k, np.ndarray) and k.dtype.kind == "b" else int(k is not None) for k in hosts]
        rest = next((i for i, k in enumerate(hosts) if k is Ellipsis), len(hosts))
        if rest < len(hosts):
            width[rest] = self.ndim - sum(width) + 1
        lengths = [self.shape[sum(width[:i])] if sum(width[:i]) < self.ndim else 1 for i in range(len(hosts))]

        def index() -> Any:
            wraps = [isinstance(k, np.ndarray) and k.dtype.kind != "b" for k in hosts]
            return tuple(k % n if wrap else k for k, n, wrap in zip(hosts, lengths, wraps, strict=True))

        return index

    def _part(self, key: tuple[Any, ...]) -> np.ndarray:
        return np.asarray(self.host[key if any(k is Ellipsis for k in key) else (*key, ...)])

    def __getitem__(self, key: Any) -> "Array":
        key, arrays = self._key(key)
        if not arrays:
            return self._view(self._part(key))
        index = self._index(key)
        found: Array = self.fake.launch("take", lambda host, *_: host[index()], [self, *arrays])
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        key, arrays = self._key(key)
        if not isinstance(value, Array | _Scalar):
            if not isinstance(value, np.ndarray) or value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value[()]
        self.fake.check([self, *arrays, *([value] if isinstance(value, Array) else [])])
        source = value.host if isinstance(value, Array) else np.asarray(value, self.dtype)
        if arrays:
            index, host = self._index(key), self.host

            def run() -> None:
                host[index()] = source
        else:
            target = self._part(key)
            if isinstance(value, Array):
                np.broadcast_to(source, target.shape)
                same = [(a.__array_interface__["data"], a.shape, a.strides) for a in (source, target)]
                if same[0] == same[1]:  # x[...] = x, as in x[0] += 1
                    return

            def run() -> None:
                with np.errstate(all="ignore"):
                    np.copyto(target, source, casting="unsafe")

        self.fake.current_stream().submit("copy" if isinstance(value, Array) else "fill", run, self._outputs())

    def fill(self, value: Any) -> None:
        self[...] = value

    def copy(self, order: str = "C") -> "Array":
        copied: Array = self.fake.launch("copy", lambda host: host.copy(order=order), [self])
        return copied

    __copy__ = copy

    def flatten(self, order: str = "C") -> "Array":
        return self.copy().reshape(-1)  # type: ignore[attr-defined, no-any-return]

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> "Array":
        if not copy and self.dtype == np.dtype(dtype):
            return self
        cast: Array = self.fake.launch("astype", lambda host: host.astype(dtype), [self])
        return cast

    def view(self, dtype: Any = None) -> "Array":
        return self._view(self.host.view() if dtype is None else self.host.view(dtype))

    # Operators and NumPy's protocols

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or not hasattr(self.fake.cupy, ufunc.__name__):
            return NotImplemented
        if "out" in kwargs:
            kwargs["out"] = kwargs["out"][0]
        return getattr(self.fake.cupy, ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not hasattr(self.fake.cupy, func.__name__):
            return NotImplemented
        return getattr(self.fake.cupy, func.__name__)(*args, **kwargs)


def _add_operators() -> None:
    """Operators and methods are the functions of the same meaning."""

    def unary(name: str) -> Any:
        return lambda self: getattr(self.fake.cupy, name)(self)

    def binary(name: str, swap: bool = False) -> Any:
        def operator(self: Array, other: Any) -> Any:
            if other is None or isinstance(other, str) or getattr(type(other), "__array_ufunc__", self) is None:
                return NotImplemented
            return getattr(self.fake.cupy, name)(*((other, self) if swap else (self, other)))

        return operator

    def in_place(name: str) -> Any:
        return lambda self, other: getattr(self.fake.cupy, name)(self, other, out=self)

    def method(name: str) -> Any:
        if name in ("reshape", "transpose"):  # their shape may come as several arguments

            def spread(self: Array, *shape: Any, **kwargs: Any) -> Any:
                shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
                return getattr(self.fake.cupy, name)(self, *((shape,) if shape or name == "reshape" else ()), **kwargs)

            return spread
        return lambda self, *args, **kwargs: getattr(self.fake.cupy, name)(self, *args, **kwargs)

    for name, function in {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "invert"}.items():
        setattr(Array, f"__{name}__", unary(function))
    for name, function in (_OPERATORS | _COMPARISONS).items():
        setattr(Array, f"__{name}__", binary(function))
    for name, function in _OPERATORS.items():
        setattr(Array, f"__r{name}__", binary(function, swap=True))
        setattr(Array, f"__i{name}__", in_place(function))
    for name in _METHODS:
        setattr(Array, name, method(name))


_add_operators()


# Kernels written in C++ ----------------------------------------------------------------------------------------------

_C_TYPES = {
    "float64": "double", "float32": "float", "int64": "long long", "int32": "int", "int16": "short",
    "int8": "signed char", "uint64": "unsigned long long", "uint32": "unsigned int", "uint16": "unsigned short",
    "uint8": "unsigned char", "bool": "bool",
}  # fmt: skip
_HEADER = r"""
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>
#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __noinline__
namespace cuda_math {  // CUDA's max and min of floating-point numbers are fmax and fmin
template <class A, class B> inline auto max(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>) return (C)::fmax((C)a, (C)b); else return (C)a > (C)b ? (C)a : (C)b;
}
template <class A, class B> inline auto min(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>) return (C)::fmin((C)a, (C)b); else return (C)a < (C)b ? (C)a : (C)b;
}
// what is volatile is merged with no other operation
inline float __fadd_rn(float x, float y) { volatile float z = x + y; return z; }
inline float __fsub_rn(float x, float y) { volatile float z = x - y; return z; }
inline float __fmul_rn(float x, float y) { volatile float z = x * y; return z; }
inline double __dadd_rn(double x, double y) { volatile double z = x + y; return z; }
inline double __dsub_rn(double x, double y) { volatile double z = x - y; return z; }
inline double __dmul_rn(double x, double y) { volatile double z = x * y; return z; }
inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrtf(float x) { return rsqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline unsigned int __float_as_uint(float x) { unsigned int y; memcpy(&y, &x, 4); return y; }
inline float __uint_as_float(unsigned int x) { float y; memcpy(&y, &x, 4); return y; }
}
using namespace cuda_math;
struct Header { char* data; ptrdiff_t ndim; ptrdiff_t shape[16]; ptrdiff_t strides[16]; };
template <class T> struct CArray : Header {  // elements in C order of the logical array, wherever they lie
  ptrdiff_t size() const { ptrdiff_t n = 1; for (int d = 0; d < ndim; ++d) n *= shape[d]; return n; }
  T& operator[](ptrdiff_t i) const {
    char* p = data;
    for (ptrdiff_t d = ndim; --d >= 0; i /= shape[d]) p += (i % shape[d]) * strides[d];
    return *reinterpret_cast<T*>(p);
  }
};
"""


class _Header(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("ndim", ctypes.c_ssize_t),
        ("shape", ctypes.c_ssize_t * 16),
        ("strides", ctypes.c_ssize_t * 16),
    )


_compiled: dict[str, Any] = {}
_folder: list[Path] = []


def compile_kernel(source: str, name: str, options: Any) -> Any:
    """The function in a C++ source, which g++ compiles once per process."""
    if source not in _compiled:
        # As NVIDIA's compiler does by default, it may merge a product and a sum.
        # Of constants, g++ itself would compute exp and the like, and round otherwise than the C library: not so here.
        flags = "-std=c++17 -O2 -march=native -ffp-contract=fast -frounding-math -fno-builtin -fwrapv -fPIC"
        compiler = ["g++", *_words(flags)]
        if not _folder:
            _folder.append(Path(tempfile.mkdtemp(prefix="fake_cupy_")))
            atexit.register(shutil.rmtree, _folder[0], ignore_errors=True)
            (_folder[0] / "header.hpp").write_text(_HEADER)  # compiled once, which halves the time of each kernel
            subprocess.run([*compiler, "-x", "c++-header", "header.hpp"], cwd=_folder[0], check=False)
        code = _folder[0] / f"{name}_{len(_compiled)}.cpp"
        code.write_text(source.replace(_HEADER, '#include "header.hpp"\n', 1))
        library = code.with_suffix(".so")
        done = subprocess.run(
            [*compiler, "-shared", "-o", str(library), str(code)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CompileException(done.stderr, source, name, options)
        _compiled[source] = getattr(ctypes.CDLL(str(library)), name)
    return _compiled[source]


def _of_libm(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy, its floats computed as the kernels do, by the C library: NumPy's own round otherwise."""
    if name not in _LIBM:
        return function
    types = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}

    def compute(x: Any, **options: Any) -> Any:
        x = np.asarray(x)
        if options or x.dtype not in types:
            return function(x, **options)
        c = types[x.dtype]
        loop = f"for (long i = 0; i < n; ++i) y[i] = std::{name}(x[i]);"
        source = f'#include <cmath>\nextern "C" void {name}_all(const {c}* x, {c}* y, long n) {{ {loop} }}\n'
        given = np.ascontiguousarray(x)
        result = np.empty_like(given)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (given, result)]
        compile_kernel(source, f"{name}_all", ())(*pointers, ctypes.c_long(x.size))
        return result.reshape(x.shape)

    return compute


class Parameter:
    """One of a kernel's parameters, as "raw T x" declares it."""

    def __init__(self, declaration: str, const: bool) -> None:
        words = declaration.split()
        if len(words) < 2:
            raise Exception(f"Syntax error: {declaration}")
        *keywords, kind, self.name = words
        for keyword in keywords:
            if keyword not in ("raw", "_non_const"):
                raise Exception(f'Unknown keyword "{keyword}"')
        self.raw, self.const = "raw" in keywords, const and "_non_const" not in keywords
        self.dtype = None if len(kind) == 1 else np.dtype(kind)
        self.letter = kind


class ElementwiseKernel:
    """A C++ body that g++ compiles and that runs for i = 0, 1, ...

    To find elements that depend on each other, which a GPU does in any order, it runs forwards and backwards.
    """

    fake: ClassVar["Fake"]

    def __init__(
        self,
        in_params: str,
        out_params: str,
        operation: str,
        name: str = "kernel",
        reduce_dims: bool = True,
        preamble: str = "",
        no_return: bool = False,
        return_tuple: bool = False,
        **kwargs: Any,
    ) -> None:
        if not name.isidentifier():
            raise ValueError(f'Invalid kernel name: "{name}"')
        self.inputs = [Parameter(p, True) for p in in_params.split(",") if in_params]
        self.outputs = [Parameter(p, False) for p in out_params.split(",") if out_params]
        self.params = self.inputs + self.outputs
        if any(p.name == "i" for p in self.params):
            raise ValueError("Can not use 'i' as a parameter name")
        self.operation, self.name, self.__name__, self.preamble = operation, name, name, preamble
        self.no_return, self.return_tuple, self.kwargs = no_return, return_tuple, kwargs

    def __call__(self, *args: Any, size: int = -1, stream: Any = None, block_size: int = 128, **wrong: Any) -> Any:
        if wrong:
            raise TypeError(f"Wrong arguments {wrong}")
        if len(args) not in (len(self.inputs), len(self.params)):
            raise TypeError(
                f"Wrong number of arguments for {self.name!r}. It must be either {len(self.inputs)} or "
                f"{len(self.params)} (with outputs), but given {len(args)}."
            )
        for arg in args:
            if not isinstance(arg, Array | _Scalar):
                raise TypeError(f"Unsupported type {type(arg)}")
        self.fake.check([arg for arg in args if isinstance(arg, Array)])
        if any(not isinstance(arg, Array) for arg in args[len(self.inputs) :]):
            raise TypeError("Output arguments type must be cupy.ndarray")
        pairs = list(zip(self.params, args, strict=False))
        shape = self._loop([a.shape for p, a in pairs if isinstance(a, Array) and not p.raw], size)
        types = self._types(pairs)
        outs = list(args[len(self.inputs) :])
        if not outs:
            if size == -1 and any(p.raw for p in self.outputs):
                raise ValueError("Output array size is Undecided")
            outs = [self.fake.cupy.empty(shape, p.dtype or types[p.letter]) for p in self.outputs]
        for p, out in zip(self.outputs, outs, strict=True):
            if not p.raw and out.shape != shape:
                raise ValueError("Out shape is mismatched")
        if math.prod(shape):
            self._launch(list(zip(self.params, [*args[: len(self.inputs)], *outs], strict=True)), shape, types, stream)
        if self.no_return:
            return None
        return outs[0] if len(outs) == 1 and not self.return_tuple else tuple(outs)

    @staticmethod
    def _loop(shapes: list[tuple[int, ...]], size: int) -> tuple[int, ...]:
        if size != -1 and shapes:
            raise ValueError("Specified 'size' can be used only if all of the ndarray are 'raw'.")
        if size == -1 and not shapes:
            raise ValueError("Loop size is undecided.")
        return (size,) if size != -1 else np.broadcast_shapes(*shapes)

    def _types(self, pairs: list[tuple[Parameter, Any]]) -> dict[str, np.dtype[Any]]:
        types: dict[str, np.dtype[Any]] = {}
        for p, arg in reversed(pairs):  # outputs decide first
            if isinstance(arg, Array):
                expected = p.dtype or types.setdefault(p.letter, arg.dtype)
                if expected != arg.dtype:
                    raise TypeError(f"Type is mismatched. {p.name} {arg.dtype} {expected} {p.letter}")
        return types

    def _launch(
        self, pairs: list[tuple[Parameter, Any]], shape: tuple[int, ...], types: dict[str, Any], stream: Any
    ) -> None:
        declared, headers, keep = [], [], []
        for number, (p, arg) in enumerate(pairs):
            dtype = p.dtype or types[p.letter]
            kind = f"{'const ' if p.const else ''}{_C_TYPES[dtype.name]}"
            if isinstance(arg, Array):
                host = arg.host if p.raw else np.broadcast_to(arg.host, shape)
                header = _Header(host.__array_interface__["data"][0], host.ndim, host.shape, host.strides)
                headers.append(ctypes.addressof(header))
                keep += [host, header]
                inner = p.name if p.raw else f"_raw_{p.name}"
                declared.append(f"CArray<{kind}>& {inner} = *(CArray<{kind}>*)_args[{number}];")
            else:
                scalar = np.array(arg, dtype)
                keep.append(scalar)
                headers.append(scalar.ctypes.data)
                declared.append(f"{kind}& {p.name} = *({kind}*)_args[{number}];")
        elements = [
            f"{'const ' if p.const else ''}{_C_TYPES[(p.dtype or types[p.letter]).name]}& {p.name} = _raw_{p.name}[i];"
            for p, arg in pairs
            if isinstance(arg, Array) and not p.raw
        ]
        typedefs = [f"typedef {_C_TYPES[dtype.name]} {letter};" for letter, dtype in sorted(types.items())]
        options = self.kwargs.get("options", ())
        hash(options)  # CuPy looks kernels up by them, so that a list of options fails
        # The body is a function of its own, so that `return` ends one element and not the loop.
        source = "\n".join(
            [
                *(_HEADER, *typedefs, self.preamble),
                f'extern "C" void {self.name}(ptrdiff_t _size, void** _args, bool _backwards) {{',
                *(*declared, self.kwargs.get("loop_prep", ""), ";"),
                "auto _body = [&](ptrdiff_t i) { do {",
                *(*elements, self.operation, ";"),
                "} while (false); };",
                "for (ptrdiff_t _k = 0; _k < _size; ++_k) _body(_backwards ? _size - 1 - _k : _k);",
                *(self.kwargs.get("after_loop", ""), ";", "}"),
            ]
        )
        function, size = compile_kernel(source, self.name, options), math.prod(shape)
        pointers = (ctypes.c_void_p * len(headers))(*headers)
        outs = [arg.host for p, arg in pairs if isinstance(arg, Array) and not p.const]

        def run() -> None:
            assert keep
            before = [out.copy() for out in outs]
            function(ctypes.c_ssize_t(size), pointers, ctypes.c_bool(True))
            backwards = [out.tobytes() for out in outs]
            for out, old in zip(outs, before, strict=True):
                out[...] = old
            function(ctypes.c_ssize_t(size), pointers, ctypes.c_bool(False))
            assert backwards == [out.tobytes() for out in outs], f"{self.name}: its elements depend on their order"

        memories = [o for p, arg in pairs if isinstance(arg, Array) and not p.const for o in arg._outputs()]
        (stream or self.fake.current_stream()).submit(self.name, run, memories)


# cuBLAS --------------------------------------------------------------------------------------------------------------


class Symbol:
    """A function of a library that ctypes has loaded."""

    def __init__(self, function: Callable[..., int]) -> None:
        self._function, self.restype = function, ctypes.c_int
        self.argtypes: list[Any] | None = None

    def __call__(self, *args: Any) -> int:
        if self.argtypes is None:  # ctypes then passes numbers as 32-bit ones
            if any(isinstance(arg, int) and abs(arg) >= 2**31 for arg in args):
                raise OverflowError("an address is cut to 32 bits: set argtypes")
        else:
            if len(args) < len(self.argtypes):
                raise TypeError(f"this function takes at least {len(self.argtypes)} arguments ({len(args)} given)")
            for kind, arg in zip(self.argtypes, args, strict=True):
                kind.from_param(arg)
        return self._function(*(getattr(arg, "value", arg) or 0 for arg in args))


class FakeCublas:
    """libcublas as ctypes loads it, on addresses in the fake's memory.

    status : names of functions that fail, and the status with which.
    """

    cublasCreate_v2: Symbol  # noqa: N815
    cublasDestroy_v2: Symbol  # noqa: N815
    cublasSetStream_v2: Symbol  # noqa: N815
    cublasSetWorkspace_v2: Symbol  # noqa: N815
    cublasGetVersion_v2: Symbol  # noqa: N815
    cublasGemmEx: Symbol  # noqa: N815

    def __init__(self, fake: "Fake") -> None:
        self._fake = fake
        self._handles: dict[int, dict[str, int]] = {}
        self._created = 0
        self.status: dict[str, int] = {}
        for name in ("Create_v2", "Destroy_v2", "SetStream_v2", "SetWorkspace_v2", "GetVersion_v2", "GemmEx"):
            setattr(self, f"cublas{name}", Symbol(self._guarded(f"cublas{name}", getattr(self, f"_{name.lower()}"))))

    def _guarded(self, name: str, function: Callable[..., int]) -> Callable[..., int]:
        def call(*args: Any) -> int:
            self._fake.count[name] += 1
            if name in self.status:
                return self.status[name]
            if name != "cublasCreate_v2" and args[0] not in self._handles:
                return 1
            return function(*args)

        return call

    def _create_v2(self, pointer: Any) -> int:
        self._created += 1  # no handle is given twice
        handle = 0x7F0000000000 + self._created
        pointer._obj.value = handle
        self._handles[handle] = {"stream": 0, "workspace": 0}
        return 0

    def _destroy_v2(self, handle: int) -> int:
        del self._handles[handle]
        try:
            self._fake.cupy.cuda.Device().synchronize()  # as cuBLAS does
        except CUDARuntimeError:
            return 14
        return 0

    def _setstream_v2(self, handle: int, stream: int) -> int:
        self._handles[handle] = {"stream": stream, "workspace": 0}
        return 0

    def _setworkspace_v2(self, handle: int, pointer: int, size: int) -> int:
        if pointer % 256 or (size and not pointer):
            return 7
        self._handles[handle]["workspace"] = size
        return 0

    def _getversion_v2(self, handle: int, pointer: Any) -> int:
        pointer._obj.value = 130200
        return 0

    def _gemmex(
        self, handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, a_type: int, lda: int,
        b: int, b_type: int, ldb: int, beta: int, c: int, c_type: int, ldc: int, compute: int, algorithm: int,
    ) -> int:  # fmt: skip
        if min(m, n, k) < 0 or ta not in (0, 1, 2) or tb not in (0, 1, 2) or not alpha or not beta:
            return 7
        if lda < max(1, k if ta else m) or ldb < max(1, n if tb else k) or ldc < max(1, m):
            return 7
        kind = {0: ctypes.c_float, 1: ctypes.c_double}.get(a_type)
        if (
            kind is None
            or not a_type == b_type == c_type
            or compute not in ((70, 71) if a_type else (68, 69, 74, 75, 77))
        ):
            return 15
        if not m or not n:
            return 0
        x, y = kind.from_address(alpha).value, kind.from_address(beta).value
        stream, dtype = self._fake.streams[self._handles[handle]["stream"]], np.dtype(kind)
        if stream.capture is not None and not self._handles[handle]["workspace"]:
            self._fake.count["captured without workspace"] += 1
            return 14
        # Column by column: element (i, j) lies at i + j ld. The views are transposed, which makes NumPy's product and
        # its rounding that of the row-major matrices which a caller in Python has.
        left, _ = self._matrix(a, (m, k) if not ta else (k, m), lda, dtype)
        right, _ = self._matrix(b, (k, n) if not tb else (n, k), ldb, dtype)
        out, memory = self._matrix(c, (m, n), ldc, dtype)
        bits = {74: 10, 75: 7, 77: 10}.get(compute)

        def run() -> None:
            factors = [right if tb else right.T, left if ta else left.T]
            factors = [f if bits is None else round_mantissa(f, bits) for f in factors]
            with np.errstate(all="ignore"):
                product = np.matmul(*factors) if x == 1.0 else np.matmul(*factors) * dtype.type(x)
                out.T[...] = product if y == 0.0 else product + dtype.type(y) * out.T

        stream.submit("gemm", run, [(out, memory)])
        return 0

    def _matrix(self, ptr: int, shape: tuple[int, int], ld: int, dtype: Any) -> tuple[np.ndarray, Memory]:
        rows, columns = shape
        memory = self._fake.find(ptr, ((columns - 1) * ld + rows) * dtype.itemsize if rows and columns else 0)
        return memory.view(ptr, shape, dtype, (dtype.itemsize, ld * dtype.itemsize)), memory


def round_mantissa(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 rounded to so many bits of mantissa, ties to even: what tensor cores are given."""
    drop = 23 - bits
    pattern = np.ascontiguousarray(x).view(np.uint32)
    rounded = pattern + np.uint32((1 << (drop - 1)) - 1) + ((pattern >> np.uint32(drop)) & np.uint32(1))
    return (rounded & np.uint32(2**32 - (1 << drop))).view(np.float32)


# The modules ---------------------------------------------------------------------------------------------------------


class Local(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.device = 0
        self.devices: list[int] = []
        self.streams: dict[int, Stream] = {}
        self.stack: list[tuple[int, Stream]] = []
        self.allocator: Any = None


class Fake:
    """The fake's state, and the test's handles on it.

    count : how often each operation was issued: "add", "gemm", "h2d", "graph_launch", "synchronize", "cudaMalloc", ...
        "illegal_address" counts the replayed operations that wrote into memory given back to the device.
    fail : names of operations that fail, as in count, and the exception they raise.
    total_memory, allocated : bytes of the device.   devices : how many there are.
    lazy_null : whether copies from the host wait on the null stream too, as they do on a device.
    cupy, cublas : the module, and the library that ctypes loads.
    """

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.fail: dict[str, Exception] = {}
        self.total_memory, self.allocated, self.devices, self.lazy_null = 80 * 2**30, 0, 2, False
        self.memories: list[Memory] = []
        self.doomed: list[Memory] = []
        self.busy = 0
        self.streams: dict[int, Stream] = {}
        self.pinned: list[weakref.ref[np.ndarray]] = []
        self.local, self.lock = Local(), threading.RLock()
        self.cupy, self.modules = _modules(self)
        self.pool = self.cupy.get_default_memory_pool()
        self.allocator = self.pool.malloc
        self.cublas = FakeCublas(self)

    def note(self, name: str) -> None:
        self.count[name] += 1
        if name in self.fail:
            raise self.fail[name]

    def current_stream(self) -> Stream:
        return self.local.streams.get(self.local.device) or self.streams[0]

    def set_device(self, index: int) -> None:
        if not 0 <= index < self.devices:
            raise CUDARuntimeError(101)
        self.local.device = index

    def alloc(self, size: int) -> MemoryPointer:
        pointer: MemoryPointer = (self.local.allocator or self.allocator)(size)
        return pointer

    def malloc(self, size: int) -> MemoryPointer:
        """Without a pool."""
        return MemoryPointer(PooledMemory(Chunk(Memory(self, size), 0, size, None, 0)), 0)

    def memory_info(self) -> tuple[int, int]:
        return self.total_memory - self.allocated, self.total_memory

    def find(self, ptr: int, size: int) -> Memory:
        """The allocation in which addresses lie."""
        for memory in self.memories:
            if memory.ptr <= ptr and ptr + size <= memory.ptr + memory.size:
                return memory
        raise CUDARuntimeError(700)

    def is_pinned(self, array: np.ndarray) -> bool:
        alive = [pinned for pinned in (ref() for ref in self.pinned) if pinned is not None]
        return any(np.may_share_memory(array, pinned) for pinned in alive)

    def empty_pinned(self, shape: Any, dtype: Any = float, order: Any = "C") -> np.ndarray:
        array = np.full(shape, garbage(dtype), dtype, order)
        self.pinned.append(weakref.ref(array))
        return array

    def peek(self, array: Array) -> np.ndarray:
        """What an array's memory holds now, without synchronising."""
        return array.host.copy()

    def run(self, operation: Callable[[], None]) -> None:
        """An operation's turn has come."""
        self.busy += 1
        try:
            operation()
        finally:
            self.busy -= 1
            self.settle()

    def settle(self) -> None:
        """Free memory, for which CUDA waits until the device is idle; a collector may ask in an operation's midst."""
        while self.doomed and not self.busy:
            memory = self.doomed.pop()
            for stream in self.streams.values():
                stream.drain()
            memory.bury()

    def read_back(self) -> None:
        """What CuPy does in functions that need a value on the host."""
        if self.current_stream().is_capturing():
            raise RuntimeError("the current stream is capturing, so D2H transfers are disallowed")
        self.current_stream().synchronize()

    def check(self, arrays: list[Array]) -> None:
        for array in arrays:
            if array.device_id != self.local.device:
                raise ValueError(
                    f"The device where the array resides ({array.device_id}) is different from the current device "
                    f"({self.local.device}). Peer access is unavailable between these devices."
                )

    def launch(self, name: str, compute: Callable[..., Any], inputs: list[Array], out: Array | None = None) -> Any:
        """Issue a kernel, which computes from its inputs' memory into the pool's, whenever the stream gets to it.

        It runs here in any case, for its result's shape and type. It must not refer to the arrays themselves: a
        kernel knows addresses, and keeps no memory from being reused.
        """
        stream = self.current_stream()
        self.check([*inputs, *([] if out is None else [out])])
        late, hosts = stream.late, [array.host for array in inputs]

        def quietly() -> Any:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                return compute(*hosts)

        if stream.capture is None:
            stream.meet()
        first = quietly()
        if isinstance(first, tuple):
            return tuple(self.launch(name, lambda *hosts, i=i: compute(*hosts)[i], inputs) for i in range(len(first)))
        first = np.asarray(first)
        if out is None:
            order = "F" if first.flags.f_contiguous and not first.flags.c_contiguous else "C"
            out = self.cupy.ndarray(first.shape, first.dtype, order=order)
        elif out.shape != first.shape:
            raise ValueError("Out shape is mismatched")
        target = out.host
        done = None if late else first

        def run() -> None:
            with np.errstate(all="ignore"):
                np.copyto(target, quietly() if done is None else done, casting="unsafe")

        stream.submit(name, run, out._outputs())
        return out

    def asarray(self, a: Any, dtype: Any = None, order: Any = None, copy: Any = None, blocking: bool = False) -> Any:
        if isinstance(a, Array):
            target = a.dtype if dtype is None else np.dtype(dtype)
            fits = order in (None, "K", "A") or (a.flags.f_contiguous if order == "F" else a.flags.c_contiguous)
            if not copy and fits and target == a.dtype:
                return a
            if copy is False:
                raise ValueError("Unable to avoid copy while creating an array as requested.")
            wanted = "K" if order is None else order
            return self.launch("copy", lambda host: host.astype(target, order=wanted), [a])
        flat = list(a) if isinstance(a, list | tuple) else []
        if any(isinstance(item, Array) for item in flat):
            return self.cupy.stack([self.asarray(item, dtype) for item in flat])
        given = np.asarray(a, dtype, order="F" if order == "F" else "C")
        new = self.cupy.ndarray(given.shape, given.dtype, order="F" if order == "F" else "C")
        if given.ndim == 0:
            new.fill(given[()])  # a kernel with the value baked in: it may be captured
        else:
            new._upload(given, self.current_stream())
            if blocking:
                self.current_stream().synchronize()
        return new


def _function(fake: Fake, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy's as CuPy has it."""

    def lower(value: Any, used: list[Array]) -> Any:
        if isinstance(value, Array):
            used.append(value)
            return value.host
        if isinstance(value, list | tuple) and any(isinstance(item, Array) for item in value):
            return [lower(item, used) for item in value]
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}")
        return value

    def call(*args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        used: list[Array] = []
        if isinstance(function, np.ufunc) and len(args) == function.nin + 1:
            *args, out = args  # type: ignore[assignment]
        lowered = [lower(arg, used) for arg in args]
        options = {key: lower(value, used) for key, value in kwargs.items()}
        if name in _CUBLAS and any(a.dtype.kind in "fc" for a in used) and fake.current_stream().is_capturing():
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        if name in _READ_BACK or (name == "where" and len(args) == 1):
            fake.read_back()
        if name in _VIEWS:
            fake.check(used)
            made = function(*lowered, **options)
            parts: Any = made if isinstance(made, list | tuple) else [made]
            owners = [next((a for a in used if np.may_share_memory(part, a.host)), None) for part in parts]
            if all(a is not None for a in owners):
                views = [a._view(part) for a, part in zip(owners, parts, strict=True) if a is not None]
                return views if made is parts else views[0]
        if isinstance(function, np.ufunc) and out is not None:
            options["casting"] = "same_kind"
            resolved = function.resolve_dtypes(
                (*(getattr(v, "dtype", type(v)) for v in lowered), None)[: function.nin] + (None,) * function.nout
            )
            if not np.can_cast(resolved[-1], out.dtype, "same_kind"):
                raise TypeError(
                    f"output (typecode '{resolved[-1].char}') could not be coerced to provided output parameter "
                    f"(typecode '{out.dtype.char}') according to the casting rule \"same_kind\""
                )
        return fake.launch(name, lambda *_: compute(*lowered, **options), used, out)

    compute = _of_libm(name, function)
    call.__name__ = call.__qualname__ = name
    return call


def _modules(fake: Fake) -> tuple[Any, dict[str, ModuleType]]:
    """The modules, by name, with classes of their own, because array-api-compat remembers classes."""

    def bound(cls: type, name: str | None = None) -> Any:
        return type(name or cls.__name__, (cls,), {"fake": fake, "__module__": "cupy"})

    names = _words(
        """cupy cupy.cuda cupy.cuda.device cupy.cuda.stream cupy.cuda.graph cupy.cuda.memory cupy.cuda.runtime
        cupy.cuda.compiler cupy.linalg cupy.fft cupyx"""
    )
    modules = {name: ModuleType(name) for name in [*names, "cuda", "cuda.pathfinder"]}
    cupy: Any = modules["cupy"]
    cuda: Any = modules["cupy.cuda"]
    runtime: Any = modules["cupy.cuda.runtime"]
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)

    # cupy
    for name in dir(np):
        value = getattr(np, name)
        if name.startswith("_") or name in _ABSENT or isinstance(value, ModuleType):
            continue
        plain = isinstance(value, type | int | float | type(None)) or not callable(value)
        keep = plain or name in ("result_type", "can_cast", "finfo", "iinfo", "issubdtype", "isdtype", "promote_types")
        setattr(cupy, name, value if keep or name == "broadcast_shapes" else _function(fake, name, value))
    cupy.__version__ = "14.2.0"
    cupy.ndarray = bound(Array, "ndarray")
    cupy.ElementwiseKernel = bound(ElementwiseKernel)
    for module, space in ((modules["cupy.linalg"], np.linalg), (modules["cupy.fft"], np.fft)):
        for name in space.__all__:
            vars(module)[name] = _function(fake, name, getattr(space, name))

    def array(
        obj: Any, dtype: Any = None, copy: Any = True, order: Any = "K", subok: Any = False, ndmin: int = 0, *,
        blocking: bool = False,
    ) -> Any:  # fmt: skip
        return fake.asarray(obj, dtype, order, copy, blocking)

    def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> Any:
        return fake.asarray(a, dtype, order, copy, blocking)

    def ascontiguousarray(a: Any, dtype: Any = None) -> Any:
        return fake.asarray(a, dtype, "C")

    def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
        return a.get(stream, order, out, blocking) if isinstance(a, Array) else np.asarray(a, order=order)  # type: ignore[call-overload]

    def empty(shape: Any, dtype: Any = float, order: Any = "C") -> Any:
        return cupy.ndarray(shape, dtype, order=order)

    def empty_like(prototype: Any, dtype: Any = None, order: Any = "K", subok: Any = None, shape: Any = None) -> Any:
        like = np.empty_like(prototype.host, dtype, order, True, shape)
        return cupy.ndarray(like.shape, like.dtype, strides=like.strides)

    def take(a: Any, indices: Any, axis: int | None = None, out: Any = None) -> Any:
        def gather(host: np.ndarray, rows: Any) -> Any:
            return np.take(host, rows % (host.size if axis is None else host.shape[axis]), axis)

        if isinstance(indices, int | np.integer):
            return fake.launch("take", lambda host: gather(host, indices), [a], out)
        return fake.launch("take", gather, [a, fake.asarray(indices)], out)

    def copy(a: Any, order: str = "K") -> Any:
        return a.copy(order)

    def copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = None) -> None:
        dst[...] = src

    def get_array_module(*args: Any) -> Any:
        return cupy if any(isinstance(arg, Array) for arg in args) else np

    cupy.bool = np.bool_
    cupy.asanyarray, cupy.asfortranarray = asarray, lambda a, dtype=None: fake.asarray(a, dtype, "F")
    for function in (
        array,
        asarray,
        ascontiguousarray,
        asnumpy,
        empty,
        empty_like,
        take,
        copy,
        copyto,
        get_array_module,
    ):
        setattr(cupy, function.__name__, function)
    cupy.is_available = cuda.is_available = lambda: fake.devices > 0

    # cupy.cuda
    for cls in (MemoryPool, Stream, Event, Graph, Device):
        setattr(cuda, cls.__name__, bound(cls))
    cuda.Stream.null = cuda.Stream(null=True)
    cuda.MemoryPointer, cuda.alloc = MemoryPointer, fake.alloc
    cuda.memory.OutOfMemoryError, cuda.memory.MemoryPool = OutOfMemoryError, cuda.MemoryPool
    cuda.device.Device, cuda.graph.Graph = cuda.Device, cuda.Graph
    cuda.compiler.CompileException = CompileException
    pool = cuda.MemoryPool()
    cupy.get_default_memory_pool = lambda: pool

    @contextmanager
    def using_allocator(allocator: Any = None) -> Iterator[None]:
        previous = fake.local.allocator
        fake.local.allocator = fake.malloc if allocator is None else allocator
        try:
            yield
        finally:
            fake.local.allocator = previous

    def get_current_stream(device_id: int = -1) -> Stream:
        return fake.local.streams.get(fake.local.device if device_id < 0 else device_id) or fake.streams[0]

    def set_allocator(allocator: Any = None) -> None:
        fake.allocator = allocator or fake.malloc

    cuda.using_allocator, cuda.get_current_stream, cuda.set_allocator = (
        using_allocator,
        get_current_stream,
        set_allocator,
    )
    cuda.stream.Stream, cuda.stream.Event, cuda.stream.get_current_stream = cuda.Stream, cuda.Event, get_current_stream
    cuda.get_allocator = lambda: fake.local.allocator or fake.allocator
    vars(runtime).update(
        CUDARuntimeError=CUDARuntimeError,
        streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1,
        streamCaptureModeRelaxed=2,
        getDeviceCount=lambda: fake.devices,
        getDevice=lambda: fake.local.device,
        setDevice=fake.set_device,
        getDeviceProperties=lambda device: {"name": b"NVIDIA Fake", "totalGlobalMem": fake.total_memory},
        driverGetVersion=lambda: 13020,
        runtimeGetVersion=lambda: 13020,
        memGetInfo=fake.memory_info,
        deviceSynchronize=lambda: cuda.Device().synchronize(),
    )

    # cupyx, and the loader of NVIDIA's libraries
    def zeros_pinned(shape: Any, dtype: Any = float, order: Any = "C") -> np.ndarray:
        pinned = fake.empty_pinned(shape, dtype, order)
        pinned[...] = 0
        return pinned

    cupyx: Any = modules["cupyx"]
    cupyx.empty_pinned, cupyx.zeros_pinned = fake.empty_pinned, zeros_pinned
    pathfinder: Any = modules["cuda.pathfinder"]
    pathfinder.load_nvidia_dynamic_lib = lambda name: SimpleNamespace(abs_path=f"/fake/lib{name}.so.13")
    return cupy, modules


def fake_cublas(fake: Fake) -> FakeCublas:
    """The cuBLAS library that belongs to a fake, as ctypes.CDLL would give it."""
    return fake.cublas


def install(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put the fake in CuPy's place for one test, and array-api-compat's namespace on top of it."""
    if shutil.which("g++") is None:
        pytest.skip("without a GPU, a stand-in for CuPy is tested, which needs g++")
    fake = Fake()
    for name in [*sys.modules]:
        if name.split(".")[0] in ("cupy", "cupyx", "cuda") or name.startswith("array_api_compat.cupy"):
            monkeypatch.delitem(sys.modules, name)
    for name, module in fake.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("", "._aliases", "._info", "._typing", ".linalg", ".fft"):
        monkeypatch.setitem(sys.modules, f"array_api_compat.cupy{name}", ModuleType("gone"))  # undone after the test
        del sys.modules[f"array_api_compat.cupy{name}"]
    monkeypatch.setattr(array_api_compat, "cupy", None, raising=False)
    del array_api_compat.cupy  # `from array_api_compat import cupy` would take it from here
    importlib.import_module("array_api_compat.cupy")
    load = ctypes.CDLL

    def cdll(name: Any, *args: Any, **kwargs: Any) -> Any:
        return fake.cublas if str(name) == "/fake/libcublas.so.13" else load(name, *args, **kwargs)

    monkeypatch.setattr(ctypes, "CDLL", cdll)
    distributions = importlib.metadata.distributions
    ours = SimpleNamespace(name="cupy-cuda13x", version="14.2.0")
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [*distributions(), ours])
    return fake


# Tracebacks name the module that raises: CuPy's files, for those who leave such frames out.
__name__ = "cupy.fake"
