"""JAX on the CPU or CUDA."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnet.errors import DeviceError

from . import _programs
from ._base import Backend, Step, cpu_threads, first_line, human_bytes, load

_EXTRA = 'pip install "xpnet[jax]"'


class JaxBackend(Backend):
    """JAX on the CPU or one NVIDIA GPU; its autograd is not used.

    xp is JAX's namespace, with a take that does not look for indices out of bounds.
    """

    name, title = "jax", "JAX"
    devices = ("cpu", "cuda")

    @classmethod
    def cuda_count(cls) -> int:
        jax = load("jax", cls.title, _EXTRA)
        try:
            return len(jax.devices("gpu"))
        except RuntimeError as error:
            # "Unknown backend" only says again that there is none; other messages say why CUDA did not start
            said = "" if "Unknown backend" in str(error) else f" ({first_line(error)})"
            raise DeviceError(
                f"JAX finds no CUDA device{said}", 'pip install "jax[cuda13]", or see what nvidia-smi says'
            ) from None

    def _open(self, index: int) -> None:
        self._jax = load("jax", self.title, _EXTRA)
        self.xp = SimpleNamespace(**vars(self._jax.numpy))
        self.xp.take = _take
        self.version = self._jax.__version__
        self.description = cpu_threads()
        if self.device == "cpu":
            try:
                self._device = self._jax.devices("cpu")[0]
            except RuntimeError as error:
                raise DeviceError(f"JAX cannot use the CPU ({first_line(error)})", "see JAX_PLATFORMS") from None
        else:
            self._device = self._jax.devices("gpu")[index]
            limit = (self._device.memory_stats() or {}).get("bytes_limit", 0)
            self.description = f"{self._device.device_kind}, {human_bytes(limit)} given to JAX"

    def activate(self) -> None:
        # without it JAX makes every float64 a float32 without a word, explicit dtypes included
        self._jax.config.update("jax_enable_x64", True)
        _programs.count(self._jax)
        if self.device == "cpu":
            _programs.keep(self._jax)
        if self.device != "cpu":  # where its default is TF32
            self._jax.config.update("jax_default_matmul_precision", "tensorfloat32" if self.tf32 else "highest")

    def to_device(self, host_array: np.ndarray) -> Any:
        # on the CPU device_put may share the memory of what it is given, so it is given a copy of its own
        return self._jax.device_put(np.array(host_array, order="C"), self._device)

    def to_host(self, array: Any) -> np.ndarray:
        # a copy: a view would keep the buffer from being donated
        return np.array(array, order="C")

    def synchronize(self) -> None:
        # JAX waits for arrays, not for devices
        for array in self._jax.live_arrays():
            if self._device in array.devices():
                array.block_until_ready()

    def apart(self, function: Step, *, consumes: bool = False) -> Step:
        part: Step = self._jax.jit(function, donate_argnums=(0,) if consumes else ())
        return part

    def compile(self, step: Step, times: int = 1) -> Step:
        def repeated(state: Any, *arrays: Any) -> Any:
            # a call costs as much as a small step, so that many steps should share one
            return self._jax.lax.fori_loop(0, times, lambda _, state: step(state, *arrays), state)

        compiled: Step = self._jax.jit(step if times == 1 else repeated, donate_argnums=0)
        return compiled

    @property
    def compiling_seconds(self) -> float:
        return _programs.seconds()


def _take(x: Any, indices: Any, /, *, axis: int | None = None) -> Any:
    # jnp.take makes NaN of what is out of bounds, which is one more choice for every element of a batch
    return x[(*(slice(None),) * ((axis or 0) % x.ndim), indices)]
