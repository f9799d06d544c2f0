"""The state of the stand-in, and the test's handles on it."""

import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array
from .cublas import FakeCublas
from .errors import CUDARuntimeError
from .memory import Chunk, Memory, MemoryPointer, PooledMemory, garbage
from .modules import build
from .nccl import MAIL, Group, Wire, issue
from .streams import Stream


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
    cupy, cublas : the module, and the library that ctypes loads.   wire : what carries NCCL's messages.
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
        self.wire: Wire = MAIL
        self.group = Group()
        self.cupy, self.modules = build(self)
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

    def end_group(self) -> None:
        calls, self.group.calls = self.group.calls, []
        issue(calls)

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
