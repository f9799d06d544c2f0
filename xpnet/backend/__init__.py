"""Array libraries and devices: the only room that knows which ones exist.

A library is imported when it is selected, never before.
"""

import contextlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from xpnet.checks import nearest
from xpnet.errors import ConfigError, DeviceError

from ._base import Backend, Feed, first_line
from ._jax import JaxBackend
from ._numpy import NumpyBackend
from ._strict import StrictBackend
from ._torch import TorchBackend
from .arrays import home_of
from .cupy.backend import CupyBackend

__all__ = ["LIBRARIES", "Availability", "Backend", "DeviceError", "Feed", "available", "select", "select_for"]

_BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend for backend in (NumpyBackend, CupyBackend, TorchBackend, JaxBackend, StrictBackend)
}
_DEFAULT_LIBRARY = {"auto": "cupy", "cpu": "numpy", "cuda": "cupy", "device1": "array-api-strict"}

LIBRARIES: tuple[str, ...] = tuple(_BACKENDS)


class _UnknownNameError(DeviceError, ConfigError):
    """A library or a device that no machine has: wrong use, as is an unknown value of any other setting."""


class Availability(NamedTuple):
    """Whether one library can be used on one device; detail describes the device, or gives the reason."""

    library: str
    version: str | None
    device: str
    usable: bool
    detail: str


def select(
    device: str = "auto", library: str | None = None, *, tf32: bool = False, graph: bool = True, local_rank: int = 0
) -> Backend:
    """Choose an array library and the device it computes on.

    device : "cpu", "cuda" (the same as "cuda:0"), "cuda:N", or "auto": CUDA if the library can really use it, else the
        CPU. array-api-strict has "device1" besides.
    library : one of `LIBRARIES`; None means numpy on the CPU and cupy on CUDA.
    tf32 : let matrix products round their float32 factors to 10 bits of mantissa, which tensor cores multiply faster;
        of no effect where "auto" takes the CPU.
    graph : let CuPy capture repeated steps as CUDA graphs.
    local_rank : this process's number among those of its team on this machine: "cuda" and "auto" deal its GPUs out.
    Returns the backend; its reason explains the choice of "auto".
    Choosing a library also makes the settings that it needs, for all of the process and until something else sets them:
        JAX computes with 64 bits (jax_enable_x64), and on the CPU keeps what it compiles in the user's cache, unless it
        was told another folder or none (jax_compilation_cache_dir, jax_enable_compilation_cache); PyTorch and JAX on
        CUDA multiply at the precision that tf32 names, CuPy's current device becomes this one, and with NumPy on glibc
        malloc keeps the memory that was freed.
    Raises DeviceError where the library or the device cannot be used, which is a ConfigError, too, where there is none
        of that name. "auto" raises none for an unusable GPU, unless the library is cupy, which has no CPU; and no other
        device is ever replaced by a different one.
    """
    kind, index = _parse(str(device))
    if library is not None and library not in _BACKENDS:
        raise _UnknownNameError(f"unknown library {library!r}", _known(library, LIBRARIES))
    chosen = _BACKENDS[library or _DEFAULT_LIBRARY[kind]]
    if kind == "auto":
        backend = _automatic(chosen, chosen if library else NumpyBackend, tf32, graph, local_rank)
    elif kind in chosen.devices:
        if tf32 and kind != "cuda":
            raise DeviceError("TF32 needs a CUDA device", f"leave out tf32, or use cuda, not {device}")
        index = _dealt(chosen, local_rank) if device == "cuda" else index
        backend = chosen(kind, index, tf32=tf32, graph=graph)
    else:
        able = [name for name, each in _BACKENDS.items() if kind in each.devices]
        raise DeviceError(
            f"{chosen.title} has no device {device!r}", f"use {_either(chosen.devices)}, or library {_either(able)}"
        )
    backend.activate()
    return backend


def select_for(array: Any) -> Backend:
    """The backend of an array: its own library, on the device where it lies.

    Raises DeviceError for anything that is not an array of one of `LIBRARIES`.
    """
    home = home_of(array)
    if home is None:
        raise DeviceError(
            f"{type(array).__module__}.{type(array).__name__} is not an array of a library that xpnet knows",
            f"these are {', '.join(LIBRARIES)}",
        )
    library, device = home
    return select(device, library)


def available() -> list[Availability]:
    """Try every library on every device it may have; imports them all, so it takes seconds.

    Returns one row for each library and device. Never raises.
    """
    return [_try(backend, kind, index) for backend in _BACKENDS.values() for kind, index in _candidates(backend)]


def _automatic(backend: type[Backend], fallback: type[Backend], tf32: bool, graph: bool, local_rank: int) -> Backend:
    """CUDA where backend can use it, the CPU with fallback elsewhere; raises DeviceError if fallback has no CPU."""
    reason = f"{backend.title} runs on the CPU only"
    if "cuda" in backend.devices:
        try:
            reason = f"auto: {backend.title} can use the GPU"
            return backend("cuda", _dealt(backend, local_rank), reason, tf32=tf32, graph=graph)
        except DeviceError as error:
            if "cpu" not in fallback.devices:
                raise
            reason = error.what
    return fallback("cpu", reason=f"auto: {reason}", graph=graph)


def _dealt(backend: type[Backend], local_rank: int) -> int:
    """The number of a process's GPU, where each of a machine's processes is to have one in turn."""
    return local_rank % backend.cuda_count() if local_rank else 0


def _parse(device: str) -> tuple[str, int]:
    if match := re.fullmatch(r"cuda(?::([0-9]+))?", device):
        return "cuda", int(match[1] or 0)
    if device not in _DEFAULT_LIBRARY:
        word = "cuda" if device.lower().startswith(("gpu", "cuda", "nvidia")) else device
        raise _UnknownNameError(f"unknown device {device!r}", _known(word, ("cpu", "cuda", "cuda:N", "auto")))
    return device, 0


def _known(word: str, names: Iterable[str]) -> str:
    return f"{nearest(word, names)}the choices are {', '.join(names)}"


def _either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _candidates(backend: type[Backend]) -> list[tuple[str, int]]:
    candidates = [(kind, 0) for kind in backend.devices]
    if "cuda" in backend.devices:
        with contextlib.suppress(Exception):  # the row of the first device says why
            candidates += [("cuda", index) for index in range(1, backend.cuda_count())]
    return candidates


def _try(backend: type[Backend], kind: str, index: int) -> Availability:
    try:
        found = backend(kind, index)
    except Exception as error:
        device = f"cuda:{index}" if index else kind
        detail = str(error) if isinstance(error, DeviceError) else first_line(error)
        return Availability(backend.name, backend.installed_version(), device, False, detail)
    return Availability(found.name, found.version, found.device, True, found.description)
