"""CuPy on CUDA: the device, the namespace, and the errors of both."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xpnet.errors import DeviceError

from .._base import Backend, Exchange, Feed, Peers, Step, first_line, human_bytes, load

_EXTRAS = 'pip install "xpnet[cuda13]", or "xpnet[cuda12]" for an NVIDIA driver older than 580'

# cudaError_t
_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100


class CupyBackend(Backend):
    """CuPy on one NVIDIA GPU.

    xp is array_api_compat's namespace, with matrix products that a graph can hold and sums that fusing does not change.
    """

    name, title = "cupy", "CuPy"
    devices = ("cuda",)

    @classmethod
    def installed_version(cls) -> str | None:
        return next(iter(_distributions().values()), None)

    @classmethod
    def cuda_count(cls) -> int:
        distributions = sorted(_distributions())
        if len(distributions) > 1:
            raise DeviceError(
                f"{len(distributions)} CuPy distributions overwrite each other ({', '.join(distributions)})",
                f"pip uninstall {' '.join(distributions)}, then {_EXTRAS}",
            )
        runtime = load("cupy", cls.title, _EXTRAS).cuda.runtime
        try:
            count = int(runtime.getDeviceCount())
        except Exception as error:
            status = getattr(error, "status", None)
            if status == _INSUFFICIENT_DRIVER:
                raise _driver_error(runtime) from None
            if status != _NO_DEVICE:
                raise DeviceError(f"CUDA does not start ({first_line(error)})", "see what nvidia-smi says") from error
            count = 0
        if count == 0:
            raise DeviceError("CuPy finds no CUDA device", "see what nvidia-smi and CUDA_VISIBLE_DEVICES say")
        return count

    def _open(self, index: int) -> None:
        from .fusion import Fusion

        self._cupy = load("cupy", self.title, _EXTRAS)
        functions = dict(vars(load("array_api_compat.cupy", "array-api-compat", "pip install array-api-compat")))
        self.version = self._cupy.__version__
        self._device = self._cupy.cuda.Device(index)
        properties = self._cupy.cuda.runtime.getDeviceProperties(index)
        self.description = f"{properties['name'].decode()}, {human_bytes(properties['totalGlobalMem'])}"
        self._gemm: Any = None
        self._matmul = functions["matmul"]
        self._capture_stream: Any = None
        del functions["clip"]  # which reads its limits on the host
        functions["matmul"], functions["sum"] = self._product, _sum_in_order(self._cupy, functions["sum"])
        self._fusion = Fusion(self._cupy, functions)
        self.xp = self._fusion.xp
        self.xp.clip = self._clip

    def _try_out(self) -> None:
        try:
            with self._device:
                super()._try_out()
        except DeviceError as error:
            cause = error.__cause__
            # CUDA's own failures carry a status; a CompileException means headers that were not found
            loading = isinstance(cause, ImportError | OSError | RuntimeError) and not hasattr(cause, "status")
            if cause is None or not (loading or type(cause).__name__ == "CompileException"):
                raise
            distribution = next(iter(_distributions()), "cupy-cuda13x")
            raise DeviceError(
                f"CUDA libraries are missing ({first_line(cause)})", f'pip install "{distribution}[ctk]"'
            ) from cause

    def activate(self) -> None:
        self._device.use()

    @contextmanager
    def active(self) -> Iterator[None]:
        # CuPy's creation functions and kernels go by the thread's current device, whatever their arguments lie on
        with self._device, self._reporting_memory():
            yield

    def to_device(self, host_array: np.ndarray) -> Any:
        with self.active():
            return self._cupy.array(np.asarray(host_array), order="C")

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(self._cupy.asnumpy(array, order="C"))

    def synchronize(self) -> None:
        self._device.synchronize()

    def free_memory(self) -> int:
        with self._device:
            free, _ = self._cupy.cuda.runtime.memGetInfo()
            return int(free + self._cupy.get_default_memory_pool().free_bytes())

    def feed(self) -> Feed:
        from .feed import PinnedFeed

        return PinnedFeed(self._cupy, self.active)

    @contextmanager
    def link(self, team: Peers) -> Iterator[Exchange]:
        from . import nccl

        cuda = re.search(r"cuda\d+", next(iter(_distributions()), ""))
        wheel = f"nvidia-nccl-{cuda[0].replace('cuda', 'cu')}" if cuda else "NCCL"
        module = nccl.chosen(self._device, wheel, team) if team.size > 1 else None
        by_host = super().link(team)
        with by_host if module is None else nccl.linked(self._cupy, module, team, self.active) as exchange:
            yield exchange

    def fuse(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self._fusion.fuse(function)

    def compile(self, step: Step, times: int = 1) -> Step:
        if not self.graph:
            return super().compile(step, times)
        from .graph import CapturedStep

        with self._device:
            self._capture_stream = self._capture_stream or self._cupy.cuda.Stream(non_blocking=True)
        captured: Any = CapturedStep(self._cupy, self._device, self._capture_stream, self._fusion, step, times)
        return captured  # type: ignore[no-any-return]

    def _clip(self, x: Any, /, min: Any = None, max: Any = None) -> Any:
        x = x if min is None else self.xp.maximum(x, min)
        return x if max is None else self.xp.minimum(x, max)

    def _product(self, a: Any, b: Any) -> Any:
        if self._gemm is None:
            from .gemm import Gemm

            self._gemm = Gemm(self._cupy, self._matmul)
        return self._gemm(a, b, self.tf32)

    @contextmanager
    def _reporting_memory(self) -> Iterator[None]:
        """A context in which running out of memory is reported in full."""
        try:
            yield
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            asked = re.search(r"allocating ([\d,]+) bytes", str(error))
            free, total = self._cupy.cuda.runtime.memGetInfo()
            what = f"{human_bytes(int(asked[1].replace(',', '')))} more" if asked else "more"
            raise MemoryError(
                f"{self.device} cannot allocate {what}, with {human_bytes(free)} of its {human_bytes(total)} free: "
                "choose a smaller batch or network, or see what else is running there"
            ) from error


def _sum_in_order(cupy: Any, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """The sum, that of a short row from its first element to its last, as a fused kernel adds it."""
    from .fusion import is_short

    kernel = cupy.ElementwiseKernel(
        "raw T x, int32 n",
        "T total",
        "total = 0; for (int k = 0; k < n; ++k) total += x[(size_t)i * n + k];",
        "xpnet_short_sum",
    )

    def total(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        if dtype is not None or x.dtype.char not in "fd" or not is_short(x, axis) or not x.shape[0]:
            return otherwise(x, axis=axis, dtype=dtype, keepdims=keepdims)
        totals = kernel(x, x.shape[1], cupy.empty(x.shape[0], x.dtype))
        return totals[:, None] if keepdims else totals

    return total


def _distributions() -> dict[str, str]:
    """Installed CuPy distributions and their versions; all hold the same package, so more than one is a fault."""
    from importlib import metadata, util

    # Reading the names of all distributions takes longer than importing NumPy: only where there is a package at all.
    if "cupy" not in sys.modules and util.find_spec("cupy") is None:
        return {}
    found = ((each.name or "", each.version) for each in metadata.distributions())
    return {name: version for name, version in found if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm"))}


def _driver_error(runtime: Any) -> DeviceError:
    """Distinguish a missing driver from one too old for the CUDA runtime; CUDA has one status for both."""
    driver = runtime.driverGetVersion()
    if driver == 0:
        return DeviceError("CuPy finds no NVIDIA driver", "install one, or use device cpu")
    supported, needed = (f"{v // 1000}.{v % 1000 // 10}" for v in (driver, runtime.runtimeGetVersion()))
    return DeviceError(
        f"the NVIDIA driver is too old (it supports CUDA {supported}, this CuPy needs {needed})",
        'update the driver, or pip install "xpnet[cuda12]" in place of this CuPy',
    )
