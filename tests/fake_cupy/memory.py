"""Memory, handed out by CuPy's pools.

The trap: freed blocks are reused and overwritten, and nothing that was allocated is zero.
"""

import gc
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import CUDARuntimeError, OutOfMemoryError

if TYPE_CHECKING:
    from .state import Fake


def garbage(dtype: Any) -> Any:
    """What uninitialised memory holds: a value that spoils every result."""
    dtype = np.dtype(dtype)
    return np.nan if dtype.kind in "fc" else True if dtype.kind == "b" else np.iinfo(dtype).max - 7


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
