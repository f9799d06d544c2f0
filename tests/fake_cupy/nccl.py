"""NCCL: messages between the devices of several processes.

The trap: a message goes when its stream gets to it, and only if the peer takes it. What lets GPUs wait for ever is an
error after PATIENCE seconds, and what they would read wrongly is one at once.
"""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from .memory import Memory

if TYPE_CHECKING:
    from .state import Fake

PATIENCE = 10.0

CONSTANTS = {
    "NCCL_INT8": 0, "NCCL_UINT8": 1, "NCCL_INT32": 2, "NCCL_INT64": 4, "NCCL_FLOAT32": 7, "NCCL_FLOAT64": 8,
}  # fmt: skip
_DTYPES = {0: "int8", 1: "uint8", 2: "int32", 4: "int64", 7: "float32", 8: "float64"}
_STATUS = {
    1: "NCCL_ERROR_UNHANDLED_CUDA_ERROR: unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
    2: "NCCL_ERROR_SYSTEM_ERROR: unhandled system error (run with NCCL_DEBUG=INFO for details)",
    4: "NCCL_ERROR_INVALID_ARGUMENT: invalid argument (run with NCCL_DEBUG=WARN for details)",
    5: "NCCL_ERROR_INVALID_USAGE: invalid usage (run with NCCL_DEBUG=WARN for details)",
}


class NcclError(RuntimeError):
    """CuPy's error of NCCL."""

    def __init__(self, status: int) -> None:
        super().__init__(_STATUS[status])
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status,)


class Wire(Protocol):
    """What carries messages from one rank to another; get raises TimeoutError after PATIENCE seconds."""

    def put(self, name: bytes, source: int, target: int, tag: str, message: Any) -> None: ...
    def get(self, name: bytes, source: int, target: int, tag: str) -> Any: ...


class Mail:
    """Between threads that stand for processes."""

    def __init__(self) -> None:
        self._boxes: dict[Any, queue.Queue[Any]] = defaultdict(queue.Queue)
        self._lock = threading.Lock()

    def _box(self, *address: Any) -> "queue.Queue[Any]":
        with self._lock:
            return self._boxes[address]

    def put(self, name: bytes, source: int, target: int, tag: str, message: Any) -> None:
        self._box(name, source, target, tag).put(message)

    def get(self, name: bytes, source: int, target: int, tag: str) -> Any:
        try:
            return self._box(name, source, target, tag).get(timeout=PATIENCE)
        except queue.Empty:
            raise TimeoutError(f"rank {target} waits for the {tag} of rank {source}, as a GPU would for ever") from None


class Message(NamedTuple):
    """What is to be sent or received: the view of it, and the block in which it lies."""

    sent: bool
    peer: int
    host: np.ndarray
    memory: Memory | None


class Group(threading.local):
    """The calls of a thread since its groupStart."""

    def __init__(self) -> None:
        self.depth = 0
        self.calls: list[tuple[NcclCommunicator, int, Message]] = []


class NcclCommunicator:
    """One process's end of the connections between all."""

    fake: ClassVar["Fake"]

    def __init__(self, ndev: int, commId: bytes, rank: int, config: Any = None) -> None:
        fake = self.fake
        fake.note("ncclCommInitRank")
        if len(commId) != 128:
            raise ValueError(f"commId length {len(commId)} != 128.")
        self._name, self._rank, self._size, self._device = commId, rank, ndev, fake.local.device
        self._connected: set[int] = set()
        self._alive, self._aborted = True, False
        for peer in range(ndev):
            fake.wire.put(commId, rank, peer, "greeting", (ndev, self._device))
        greetings = [fake.wire.get(commId, peer, rank, "greeting") for peer in range(ndev)]
        if len(set(greetings)) < ndev or any(size != ndev for size, _ in greetings):
            raise NcclError(5)  # duplicate GPU detected

    def send(self, sendbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self.fake.note("ncclSend")
        self._call(True, sendbuf, count, datatype, peer, stream)

    def recv(self, recvbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self.fake.note("ncclRecv")
        self._call(False, recvbuf, count, datatype, peer, stream)

    def _call(self, sent: bool, ptr: int, count: int, datatype: int, peer: int, stream: int) -> None:
        if not self._alive or not 0 <= peer < self._size or datatype not in _DTYPES:
            raise NcclError(4)
        dtype = np.dtype(_DTYPES[datatype])
        memory = self.fake.find(ptr, count * dtype.itemsize) if count else None
        host = memory.view(ptr, (count,), dtype) if memory else np.empty(0, dtype)
        group = self.fake.group
        group.calls.append((self, stream, Message(sent, peer, host, memory)))
        if not group.depth:
            self.fake.end_group()

    def issue(self, stream_ptr: int, messages: list[Message]) -> None:
        """Give a stream the messages of a group, which wait for each other in no order."""
        stream = self.fake.streams[stream_ptr]
        if stream.capture is not None and not {message.peer for message in messages} <= self._connected:
            stream.capture.valid = False  # to connect is to allocate, and to wait for the peer
            raise NcclError(1)
        self._connected |= {message.peer for message in messages}
        outputs = [(m.host, m.memory) for m in messages if not m.sent and m.memory is not None]
        stream.submit("nccl", self._run(messages), outputs, late=True)

    def _run(self, messages: list[Message]) -> Callable[[], None]:
        wire, name, rank = self.fake.wire, self._name, self._rank

        def run() -> None:
            if self._aborted:
                return
            for _, peer, host, _ in (message for message in messages if message.sent):
                wire.put(name, rank, peer, "message", host.copy())
            for _, peer, host, _ in (message for message in messages if not message.sent):
                theirs = wire.get(name, peer, rank, "message")
                if (theirs.size, theirs.dtype) != (host.size, host.dtype):
                    raise RuntimeError(
                        f"rank {peer} sends {theirs.size} {theirs.dtype}, rank {rank} expects {host.size} {host.dtype}"
                    )
                host[...] = theirs
                wire.put(name, rank, peer, "receipt", None)
            for message in messages:  # a send ends when it has been received: that of many elements has no other way
                if message.sent:
                    wire.get(name, message.peer, rank, "receipt")

        return run

    def rank_id(self) -> int:
        return self._rank

    def size(self) -> int:
        return self._size

    def device_id(self) -> int:
        return self._device

    def destroy(self) -> None:
        if self._alive:
            self.fake.note("ncclCommDestroy")
        self._alive = False

    def abort(self) -> None:
        if self._alive:
            self.fake.note("ncclCommAbort")
            self._aborted = True
        self._alive = False


def functions(fake: "Fake") -> dict[str, Any]:
    """Those of the module."""

    def get_version() -> int:
        return 23203

    def get_unique_id() -> bytes:
        fake.note("ncclGetUniqueId")
        return np.random.default_rng().bytes(128)

    def groupStart() -> None:  # noqa: N802
        fake.group.depth += 1

    def groupEnd() -> None:  # noqa: N802
        if not fake.group.depth:
            raise NcclError(5)
        fake.group.depth -= 1
        if not fake.group.depth:
            fake.end_group()

    return {
        "available": True, "get_version": get_version, "get_build_version": lambda: 22707,
        "get_unique_id": get_unique_id, "groupStart": groupStart, "groupEnd": groupEnd, "NcclError": NcclError,
        **CONSTANTS,
    }  # fmt: skip


def issue(calls: list[tuple[NcclCommunicator, int, Message]]) -> None:
    """What a group's end does with its calls."""
    places: dict[tuple[NcclCommunicator, int], list[Message]] = {}
    for communicator, stream, message in calls:
        places.setdefault((communicator, stream), []).append(message)
    for (communicator, stream), messages in places.items():
        communicator.issue(stream, messages)


MAIL = Mail()
