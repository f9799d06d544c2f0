"""CuPy on CUDA."""

import sys
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ._base import Backend, DeviceError, first_line, gibibytes, load

_EXTRAS = 'pip install "xpnet[cuda13]", or "xpnet[cuda12]" for an NVIDIA driver older than 580'

# cudaError_t
_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100


class CupyBackend(Backend):
    """CuPy on one NVIDIA GPU."""

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
        self._cupy = load("cupy", self.title, _EXTRAS)
        self.xp = load("array_api_compat.cupy", "array-api-compat", "pip install array-api-compat")
        self.version = self._cupy.__version__
        self._device = self._cupy.cuda.Device(index)
        properties = self._cupy.cuda.runtime.getDeviceProperties(index)
        self.description = f"{properties['name'].decode()}, {gibibytes(properties['totalGlobalMem'])}"

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

    def active(self) -> AbstractContextManager[object]:
        # CuPy's creation functions and kernels go by the thread's current device, whatever their arguments lie on
        device: AbstractContextManager[object] = self._device
        return device

    def to_device(self, host_array: np.ndarray) -> Any:
        with self._device:
            return self._cupy.array(np.asarray(host_array), order="C")

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(self._cupy.asnumpy(array, order="C"))

    def synchronize(self) -> None:
        self._device.synchronize()


def _distributions() -> dict[str, str]:
    """Installed CuPy distributions and their versions; all hold the same package, so more than one is a fault."""
    from importlib import metadata, util

    # Reading the names of all distributions takes longer than importing NumPy: only where there is a package at all.
    if "cupy" not in sys.modules and util.find_spec("cupy") is None:
        return {}
    found = ((each.name or "", each.version) for each in metadata.distributions())
    return {name: version for name, version in found if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm"))}


def _driver_error(runtime: Any) -> DeviceError:
    """Tell a missing driver from one too old for the CUDA runtime; CUDA has one status for both."""
    driver = runtime.driverGetVersion()
    if driver == 0:
        return DeviceError("CuPy finds no NVIDIA driver", "install one, or use device cpu")
    supported, needed = (f"{v // 1000}.{v % 1000 // 10}" for v in (driver, runtime.runtimeGetVersion()))
    return DeviceError(
        f"the NVIDIA driver is too old (it supports CUDA {supported}, this CuPy needs {needed})",
        'update the driver, or pip install "xpnet[cuda12]" in place of this CuPy',
    )
