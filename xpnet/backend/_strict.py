"""array-api-strict: NumPy behind the letter of the standard, for tests."""

from typing import Any

import numpy as np

from ._base import Backend, cpu_threads, load


class StrictBackend(Backend):
    """array-api-strict, which refuses all that the Array API standard does not promise.

    On "device1" NumPy cannot read its arrays, just as it cannot read a GPU's: the stand-in for one.
    """

    name, title = "array-api-strict", "array-api-strict"
    devices = ("cpu", "device1")

    def _open(self, index: int) -> None:
        self.xp = load("array_api_strict", self.title, "pip install array-api-strict")
        self.version = self.xp.__version__
        self.description = cpu_threads()
        self._cpu = self.xp.Device("CPU_DEVICE")
        self._device = self._cpu if self.device == "cpu" else self.xp.Device(self.device)

    def to_device(self, host_array: np.ndarray) -> Any:
        return self.xp.asarray(np.array(host_array, order="C"), device=self._device)

    def to_host(self, array: Any) -> np.ndarray:
        return np.array(array.to_device(self._cpu), order="C")
