"""Devices, streams and events.

The trap: streams run late, so that a missing synchronisation shows.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .capture import Capture, Graph
from .errors import CUDARuntimeError
from .memory import Memory

if TYPE_CHECKING:
    from .state import Fake


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
    def pci_bus_id(self) -> str:
        return f"0000:{self.id:02X}:00.0"

    @property
    def mem_info(self) -> tuple[int, int]:
        return self.fake.memory_info()


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
