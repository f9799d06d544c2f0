"""PyTorch on the CPU or CUDA."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from xpnet.errors import DeviceError

from ._base import Backend, Exchange, Peers, cpu_threads, human_bytes, load, worth_threads

_EXTRA = 'pip install "xpnet[torch]"'


class TorchBackend(Backend):
    """PyTorch on the CPU or one NVIDIA GPU; its autograd is not used."""

    name, title = "torch", "PyTorch"
    devices = ("cpu", "cuda")

    @classmethod
    def cuda_count(cls) -> int:
        torch = load("torch", cls.title, _EXTRA)
        if torch.version.cuda is None:
            raise DeviceError(
                f"PyTorch {torch.__version__} was built without CUDA", "install a CUDA build, see pytorch.org"
            )
        with warnings.catch_warnings(record=True) as caught:  # torch warns of an unusable driver and answers 0
            warnings.simplefilter("always")
            count = int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
        if count == 0:
            said = f" ({str(caught[0].message).splitlines()[0]})" if caught else ""
            raise DeviceError(f"PyTorch finds no CUDA device{said}", "see what nvidia-smi says")
        return count

    def _open(self, index: int) -> None:
        self._torch = load("torch", self.title, _EXTRA)
        self.xp = load("array_api_compat.torch", "array-api-compat", "pip install array-api-compat")
        self.version = self._torch.__version__
        self.description = cpu_threads()
        if self.device != "cpu":
            properties = self._torch.cuda.get_device_properties(index)
            self.description = f"{properties.name}, {human_bytes(properties.total_memory)}"

    def activate(self) -> None:
        if self.device != "cpu":
            self._torch.set_float32_matmul_precision("high" if self.tf32 else "highest")

    def threads_for(self, flops: int) -> AbstractContextManager[object]:
        return nullcontext() if self.device != "cpu" or worth_threads(flops) else self._one_thread()

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(1)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)

    def link(self, team: Peers) -> AbstractContextManager[Exchange]:
        if self.device != "cpu":
            return super().link(team)
        # the same memory for both libraries: two copies of 16 MB take three times as long as the exchange
        return nullcontext(
            lambda array, peer, both=False: self._torch.from_numpy(team.exchange(array.numpy(), peer, both))
        )

    def to_device(self, host_array: np.ndarray) -> Any:
        # the copy is NumPy's: torch refuses read-only memory and negative strides
        return self._torch.from_numpy(np.array(host_array, order="C")).to(self.device)

    def to_host(self, array: Any) -> np.ndarray:
        return np.array(array.detach().cpu().numpy(), order="C")

    def synchronize(self) -> None:
        if self.device != "cpu":
            self._torch.cuda.synchronize(self.device)
