"""The interface that every backend implements."""

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from xpnet.display import html_table
from xpnet.errors import DeviceError
from xpnet.platforms import usable_cpus

from .arrays import home_of, to_numpy

if TYPE_CHECKING:
    from xpnet.optim import Update

# a user who has said how many threads there shall be gets them
THREAD_SETTINGS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")

_FLOPS_WORTH_A_THREAD = 16e6
"""Below it a product runs on one BLAS thread.

A second thread saves at most half of the product, but has to fetch what the first one wrote between two products: the
parameters. Measured on two virtual cores at 784-128-10 and batch 64 (12.8 Mflop): 461 us a step on one thread; on two
390 us or 717 to 838 us, depending on how near to each other the host has put them, and several milliseconds where other
work takes one of them now and then.
"""

Step = TypeVar("Step", bound=Callable[..., Any])
T = TypeVar("T")
Exchange = Callable[..., Any]


class Peers(Protocol):
    """What is asked here of the processes that train together: a part of xpnet.distributed's Team, whose terms hold."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def exchange(self, array: np.ndarray, peer: int, both: bool = False) -> np.ndarray: ...
    def gather(self, value: Any) -> list[Any]: ...
    def told(self, value: Any) -> Any: ...
    def together(self, what: Callable[[], T]) -> T: ...


class Backend:
    """One array library on one device; made by `select`.

    name : the library, one of `LIBRARIES`.   version : its version.
    device : "cpu", "cuda:0", "cuda:1", ... or "device1".
    description : the device in words, such as "2 CPU threads" or "NVIDIA H200, 139.8 GiB".
    reason : why this device was chosen, one short clause.
    tf32 : whether matrix products round their float32 factors to 10 bits of mantissa; on CUDA devices only.
    graph : whether compile may capture a step as a CUDA graph.
    xp : the library's Python Array API namespace.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    """The kinds of device the library can have, the one that always works first."""

    version: str
    description: str
    xp: Any

    def __init__(
        self, kind: str, index: int = 0, reason: str = "as asked", *, tf32: bool = False, graph: bool = True
    ) -> None:
        self.device = kind
        self.reason = reason
        self.tf32, self.graph = tf32 and kind == "cuda", graph
        if kind == "cuda":
            self.device = f"cuda:{index}"
            count = self.cuda_count()
            if index >= count:
                raise DeviceError(f"there is no cuda:{index}", f"{self.title} finds {_cuda_devices(count)}")
        self._open(index)
        if kind == "cuda":
            self._try_out()

    def __repr__(self) -> str:
        return f"<{self.name} {self.version} on {self.device}: {self.description}>"

    def _repr_html_(self) -> str:
        rows = {"device": self.device, "description": self.description, "chosen": self.reason}
        return html_table(f"Backend {self.name} {self.version}", rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy and pickle: the library is opened again."""
        kind, _, index = self.device.partition(":")
        options = {"tf32": self.tf32, "graph": self.graph}
        return functools.partial(type(self), kind, int(index or 0), self.reason, **options), ()

    @classmethod
    def installed_version(cls) -> str | None:
        """Version of the installed library without importing it; None where it is not installed."""
        from importlib import metadata  # takes half as long to import as NumPy

        try:
            return metadata.version(cls.name)
        except metadata.PackageNotFoundError:
            return None

    @classmethod
    def cuda_count(cls) -> int:
        """Number of CUDA devices the library can see, at least 1.

        Raises DeviceError where there is none, with the reason.
        """
        raise NotImplementedError

    def _open(self, index: int) -> None:
        """Import the library and set version, description and xp; changes nothing else in the process."""
        raise NotImplementedError

    def _try_out(self) -> None:
        """One elementwise operation and one matrix product, since a visible device may still lack its libraries."""
        try:
            x = self.to_device(np.ones((2, 2), np.float32))
            self.to_host(self.xp.matmul(x, x + 1))
        except Exception as error:
            raise DeviceError(f"{self.device} failed its first operation ({first_line(error)})") from error

    def activate(self) -> None:
        """Make the process-wide settings this backend needs; `select` calls it once per choice."""

    def active(self) -> AbstractContextManager[object]:
        """A context in which arrays are made on this backend's device, also where another one was selected since."""
        return nullcontext()

    def to_device(self, host_array: np.ndarray) -> Any:
        """Copy a NumPy array to the device.

        host_array : any shape; any dtype the library has, kept as it is.
        Returns the library's array, C-contiguous and writable, sharing no memory with host_array.
        """
        raise NotImplementedError

    def adopt(self, array: Any, *, fresh: bool = False) -> Any:
        """An array of any library that xpnet knows on this device: itself where it lies on this GPU, else a copy.

        fresh : whether nobody else has the array; then NumPy takes a host array itself, too.
        """
        there = self.device != "cpu" and home_of(array) == (self.name, self.device)
        return array if there else self.to_device(to_numpy(array))

    def to_host(self, array: Any) -> np.ndarray:
        """Copy an array of this backend to NumPy, the only way back; waits until the array is computed.

        Returns a writable NumPy array of the same shape and dtype that no later training step changes.
        """
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until the device has finished all work given to it so far."""

    def free_memory(self) -> int | None:
        """Bytes that arrays on the device may still take; None where they share the computer's memory."""
        return None

    @property
    def compiling_seconds(self) -> float | None:
        """Seconds that this process has spent on compiling so far; None where nothing is compiled."""
        return None

    def feed(self) -> "Feed":
        """A new Feed to the device."""
        return Feed(self.to_device)

    def link(self, team: Peers) -> AbstractContextManager[Exchange]:
        """A context in which this process exchanges arrays of its device with the others of its team.

        team : the processes; all of them enter the context, and leave it.
        Yields exchange(array, peer, both=False), which sends a C-contiguous array to the process of that rank, and
            returns a new one: the array of the same shape and dtype that it sends or, of both, of one axis, the lower
            rank's and the other's as one. Of two processes each must call it for the other.
        Raises DeviceError where the engine between the devices fails.
        """
        return nullcontext(
            lambda array, peer, both=False: self.to_device(team.exchange(self.to_host(array), peer, both))
        )

    def threads_for(self, flops: int) -> AbstractContextManager[object]:
        """A context in which matrix products up to a size run on as many threads as pay.

        flops : floating-point operations of the largest product to come, 2 n k m for (n, k) times (k, m).
        Returns a context manager; only libraries whose threads can cost more than they bring do anything in it.
        """
        return nullcontext()

    def fuse(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let a function's elementwise operations be computed together, where the library would do them one by one.

        function : of arrays, and of lists and tuples of them; it computes through xp and the operators, and writes into
            arrays by augmented assignment only, and into none that shares its memory with another argument or a view.
        Returns a function that does the same with positional arguments; where nothing is to be gained, the function
            itself.
        """
        return function

    def blockwise(self, update: "Update") -> "Update":
        """Let an update rule, whose operations are elementwise, pass over its arrays in the way that is fastest here.

        update : of optim; it consumes its first two arguments.
        Returns a rule of the same signature, and of the same bits.
        """
        return update

    def apart(self, function: Step, *, consumes: bool = False) -> Step:
        """Make a part of a step a program of its own, whose rounding does not depend on what else the step computes.

        function : of arrays, lists of them and numbers.   consumes : whether it consumes its first argument.
        Returns a function of the same signature; only where a library compiles is it another one.
        """
        return function

    def compile(self, step: Step, times: int = 1) -> Step:
        """Make a repeated step as fast as the library can.

        step : step(state, *arrays) -> state; it consumes its first argument, so the caller continues with the
            returned state and never uses the one passed in.
        times : how often a call does the step, each time with the state of the time before and the same arrays.
        Returns a function of the same signature; where the library compiles nothing, it is the step itself, or a loop.
        A backend that captures addresses may have to copy what lies elsewhere than at the call before; a Feed's arrays
        stay where they are.
        """
        return self.repeat(step, times)

    def repeat(self, step: Step, times: int) -> Step:
        """What compile returns where nothing is compiled: for a step of parts that are apart."""
        if times == 1:
            return step

        def repeated(state: Any, *arrays: Any) -> Any:
            for _ in range(times):
                state = step(state, *arrays)
            return state

        return repeated  # type: ignore[return-value]


class Feed:
    """Moves arrays that take each other's place to a device: a set is pushed ahead, while its predecessor is in use.

    Made by Backend.feed. Pushes and pulls take turns; a thread may push while another one uses what was pulled.
    """

    def __init__(self, to_device: Callable[[np.ndarray], Any]) -> None:
        self._to_device = to_device
        self._pushed: tuple[np.ndarray | None, ...] = ()

    def push(self, *arrays: np.ndarray | None) -> None:
        """Begin to move host arrays; they must not be written into before they have been pulled."""
        self._pushed = arrays

    def pull(self) -> tuple[Any, ...]:
        """What was pushed, on the device, where it lies until the next pull; None stays None."""
        pushed, self._pushed = self._pushed, ()
        return tuple(None if array is None else self._to_device(array) for array in pushed)


def load(module: str, title: str, remedy: str) -> Any:
    """Import a module by name. Raises DeviceError where it is missing or broken."""
    try:
        return import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            raise DeviceError(f"{title} is not installed", remedy) from None
        raise DeviceError(f"{title} is installed but cannot be imported ({first_line(error)})", remedy) from error


def first_line(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip()}" if lines else type(error).__name__


def cpu_threads() -> str:
    """The number of CPU threads this process may run on, in words."""
    count = usable_cpus()
    return f"{count} CPU thread{'s' if count > 1 else ''}"


def worth_threads(flops: int) -> bool:
    """Whether a product of so many floating-point operations is to run on as many threads as there are."""
    return flops >= _FLOPS_WORTH_A_THREAD or any(os.environ.get(name) for name in THREAD_SETTINGS)


def human_bytes(size: int) -> str:
    """A number of bytes as "139.8 GiB" or "64 MiB"."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _cuda_devices(count: int) -> str:
    return "one CUDA device, cuda:0" if count == 1 else f"{count} CUDA devices, cuda:0 to cuda:{count - 1}"
