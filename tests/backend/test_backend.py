"""The backend room: choosing a library and a device, moving arrays, and saying why a device is unusable."""

import importlib.metadata
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tests import fake_cupy
from tests.conftest import DEMANDED, ArrayLibrary, open_backend
from tests.team_of_threads import ThreadTeam, on_threads
from xpnet.backend import LIBRARIES, Backend, DeviceError, available, blocks, select, select_for
from xpnet.backend._torch import TorchBackend
from xpnet.backend.cupy import gemm
from xpnet.distributed import Team
from xpnet.errors import ConfigError
from xpnet.optim import OPTIMIZERS, init_state

MODULES = {"cupy": "cupy", "torch": "torch", "jax": "jax", "array-api-strict": "array_api_strict", "numpy": "numpy"}
HOST = [
    ("numpy", "cpu"),
    ("torch", "cpu"),
    ("jax", "cpu"),
    ("array-api-strict", "cpu"),
    ("array-api-strict", "device1"),
]
ARRAYS: dict[str, np.ndarray] = {
    "uint8": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "int32": np.arange(-6, 6, dtype=np.int32).reshape(3, 4),
    "float32": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "float64": np.linspace(-1, 1, 12).reshape(3, 4),
    "bool": np.array([True, False, True]),
    "0-d": np.array(1 / 3),
    "empty": np.zeros((0, 4), np.float32),
    "transposed": np.arange(12.0).reshape(3, 4).T,
    "reversed": np.arange(4, dtype=np.float32)[::-1],
}


def need(library: str) -> None:
    """Skip where the library is missing, unless XPNET_TEST_LIBRARIES demands it."""
    if find_spec(MODULES[library]) is None and library not in DEMANDED:
        pytest.skip(f"{library} is not installed")


@pytest.fixture(params=HOST, ids=" on ".join)
def backend(request: pytest.FixtureRequest) -> Backend:
    library, device = request.param
    need(library)
    return select(device, library)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Choosing


def test_selects_the_library_and_device_named(backend: Backend, request: pytest.FixtureRequest) -> None:
    library, device = request.node.callspec.params["backend"]
    assert (backend.name, backend.device, backend.reason) == (library, device, "as asked")
    assert backend.version
    assert "CPU thread" in backend.description


def test_numpy_is_the_library_of_the_cpu() -> None:
    backend = select("cpu")
    assert backend.name == "numpy"
    assert backend.xp.matmul is np.matmul
    assert backend.version == np.__version__


def test_device1_needs_no_library_name() -> None:
    need("array-api-strict")
    assert select("device1").name == "array-api-strict"


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "array-api-strict"])
def test_namespace_computes_where_to_device_put_the_array(library: str) -> None:
    need(library)
    chosen = select("cpu", library)
    x = chosen.to_device(np.ones((2, 3), np.float64))
    product = chosen.xp.matmul(x, chosen.xp.permute_dims(x, (1, 0)))
    np.testing.assert_array_equal(chosen.to_host(product), np.full((2, 2), 3.0))


@pytest.mark.parametrize(
    ("device", "suggested"),
    [("gpu", "cuda"), ("gpu:1", "cuda"), ("CUDA", "cuda"), ("cuda:x", "cuda"), ("cuda:-1", "cuda"), ("cuda:", "cuda"),
     ("CPU", "cpu"), ("cpu:0", "cpu"), ("atuo", "auto")],
)  # fmt: skip
def test_unknown_device_names_the_nearest(device: str, suggested: str) -> None:
    with pytest.raises(DeviceError, match=f"unknown device '{device}': did you mean '{suggested}'"):
        select(device)


def test_nonsense_device_lists_what_is_known() -> None:
    with pytest.raises(DeviceError, match=r"unknown device 'toaster': the choices are cpu, cuda, cuda:N, auto$"):
        select("toaster")
    with pytest.raises(ConfigError):  # wrong use, by which the command line ends with 2
        select("toaster")


@pytest.mark.parametrize(("library", "suggested"), [("nunpy", "numpy"), ("pytorch", "torch"), ("JAX", "jax")])
def test_unknown_library_names_the_nearest(library: str, suggested: str) -> None:
    with pytest.raises(DeviceError, match=f"unknown library '{library}': did you mean '{suggested}'"):
        select("cpu", library)
    with pytest.raises(ConfigError):
        select("cpu", library)


@pytest.mark.parametrize(
    ("device", "library", "message"),
    [
        ("cuda", "numpy", "NumPy has no device 'cuda': use cpu, or library cupy, torch or jax"),
        ("cpu", "cupy", "CuPy has no device 'cpu': use cuda, or library numpy, torch, jax or array-api-strict"),
        ("device1", "torch", "PyTorch has no device 'device1': use cpu or cuda, or library array-api-strict"),
    ],
)
def test_library_without_that_device_says_which_to_name(device: str, library: str, message: str) -> None:
    with pytest.raises(DeviceError) as caught:
        select(device, library)
    assert str(caught.value) == message


def test_room_imports_no_library_that_was_not_asked_for() -> None:
    code = """
import sys, xpnet.backend
xpnet.backend.select("cpu")
print(sorted({"cupy", "torch", "jax", "array_api_strict", "array_api_compat"} & set(sys.modules)))
"""
    assert run_python(code) == "[]"


# Moving arrays


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_return_as_they_left(backend: Backend, kind: str) -> None:
    array = ARRAYS[kind]
    back = backend.to_host(backend.to_device(array))
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array)


def test_arrays_are_copied_in_both_directions(backend: Backend) -> None:
    memory = np.zeros(1024 + 8)
    start = -memory.ctypes.data % 64 // 8
    host = memory[start : start + 1024]  # at a multiple of 64 bytes, where JAX would share it
    there = backend.to_device(host)
    back = backend.to_host(there)
    host[...] = 1
    assert not backend.to_host(there).any(), "the device array shares memory with what was moved"
    back[...] = 2
    assert not backend.to_host(there).any(), "the host array shares memory with the device's"


def test_read_only_arrays_become_writable(backend: Backend) -> None:
    host = np.ones(3, np.float32)
    host.flags.writeable = False
    there = backend.to_device(host)
    there += 1  # JAX rebinds
    np.testing.assert_array_equal(backend.to_host(there), [2, 2, 2])


def test_a_link_exchanges_what_lies_on_the_device(backend: Backend) -> None:
    def exchanged(team: ThreadTeam) -> tuple[np.ndarray, np.ndarray]:
        own = backend.to_device(np.arange(8.0)[4 * team.rank :][:4])
        with backend.link(team) as exchange:
            theirs = exchange(own, 1 - team.rank)
            both = exchange(own, 1 - team.rank, both=True)
        np.testing.assert_array_equal(backend.to_host(both), np.arange(8.0))
        assert type(theirs) is type(own)
        theirs += 10  # new on both sides
        return backend.to_host(own), backend.to_host(theirs)

    (first, of_second), (second, of_first) = on_threads(2, exchanged)
    assert (first.tolist(), second.tolist()) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert (of_first.tolist(), of_second.tolist()) == ([10, 11, 12, 13], [14, 15, 16, 17])


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_nothing_is_copied_for_a_team_that_takes_the_same_memory(library: str) -> None:
    class Mirror(Team):
        def exchange(self, array: np.ndarray, peer: int, both: bool = False) -> np.ndarray:
            return array

    need(library)
    cpu = select("cpu", library)
    own = cpu.to_device(np.ones(3))
    with cpu.link(Mirror()) as exchange:
        assert np.shares_memory(np.asarray(exchange(own, 1)), np.asarray(own))


def test_device1_refuses_every_other_door() -> None:
    need("array-api-strict")
    there = select("device1").to_device(np.ones(3))
    with pytest.raises(RuntimeError, match="device1"):
        np.asarray(there)


def test_synchronize_returns_once_all_is_computed(backend: Backend) -> None:
    x = backend.to_device(np.ones((200, 200)))
    backend.xp.matmul(x, x)
    backend.synchronize()


# Compiling


def momentum_step(state: list[Any], g: Any) -> list[Any]:
    p, v = state
    v = 0.9 * v + g
    return [p - 0.1 * v, v]


@pytest.mark.parametrize("times", [1, 2])
def test_compiled_step_computes_the_same(backend: Backend, times: int) -> None:
    step = backend.compile(momentum_step, times)
    state = [backend.to_device(np.ones(4)), backend.to_device(np.zeros(4))]
    for _ in range(2 // times):
        state = step(state, backend.to_device(np.full(4, 0.5)))
    backend.synchronize()
    p, v = (backend.to_host(each) for each in state)
    np.testing.assert_allclose(v, 0.95, rtol=1e-15)
    np.testing.assert_allclose(p, 0.855, rtol=1e-15)


@pytest.mark.parametrize("library", ["numpy", "torch", "array-api-strict"])
def test_compile_is_the_identity_but_on_jax(library: str) -> None:
    need(library)
    assert select("cpu", library).compile(momentum_step) is momentum_step


def test_jax_donates_the_state_and_nothing_else() -> None:
    need("jax")
    jax = select("cpu", "jax")
    state, g = [jax.to_device(np.ones(4)), jax.to_device(np.zeros(4))], jax.to_device(np.ones(4))
    jax.compile(momentum_step)(state, g)
    assert [each.is_deleted() for each in (*state, g)] == [True, True, False]


# Process-wide settings


def is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):
        return False


@pytest.mark.skipif(not is_glibc(), reason="only glibc has these settings")
def test_temporaries_cost_no_page_faults_on_glibc() -> None:
    code = """
import resource
import numpy as np
from xpnet.backend import select
select("cpu")
def temporaries():
    return [np.ones(2**17) for _ in range(16)]
for _ in range(3):
    temporaries()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    temporaries()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    assert int(run_python(code)) < 1000, "16 MiB of temporaries are 4096 pages, ten times over 40960"


def test_available_changes_no_setting_and_select_does() -> None:
    need("jax")
    import jax

    jax.config.update("jax_enable_x64", False)
    available()
    assert not jax.config.jax_enable_x64
    assert select("cpu", "jax").to_device(np.ones(2)).dtype == np.float64


# Unusable GPUs


class CudaError(RuntimeError):
    def __init__(self, status: int, message: str = "cudaError: it failed") -> None:
        super().__init__(message)
        self.status = status


class Broken:
    """The stand-in for CuPy, of which each test breaks one thing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.fake = fake_cupy.install(monkeypatch)
        self.module = self.fake.cupy
        self.runtime = self.module.cuda.runtime
        self.installed("cupy-cuda13x")

    def installed(self, *names: str) -> None:
        found = [SimpleNamespace(name=name, version="14.2.0") for name in ("numpy", *names, "cupyx-plugin")]
        self.monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)

    def fail(self, owner: Any, name: str, error: Exception) -> None:
        def failing(*args: object, **keywords: object) -> None:
            raise error

        self.monkeypatch.setattr(owner, name, failing)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(monkeypatch)


def refusal(device: str = "cuda", library: str | None = None) -> str:
    """The message with which the device is refused; "auto" must then not raise, and give the same reason."""
    with pytest.raises(DeviceError) as caught:
        select(device, library)
    message = str(caught.value)
    assert "\n" not in message
    if device == "cuda":
        chosen = select("auto", library)
        assert chosen.device == "cpu"
        assert chosen.reason == f"auto: {caught.value.what}"
    return message


def test_usable_gpu_is_chosen(cupy: Broken) -> None:
    chosen = select("auto")
    assert (chosen.name, chosen.device, chosen.reason) == ("cupy", "cuda:0", "auto: CuPy can use the GPU")
    assert (chosen.version, chosen.description) == ("14.2.0", "NVIDIA Fake, 80.0 GiB")
    assert (chosen.tf32, chosen.graph) == (False, True)
    asked = select("cuda", tf32=True, graph=False)
    assert (asked.tf32, asked.graph) == (True, False)


def test_chosen_gpu_becomes_the_current_one(cupy: Broken) -> None:
    assert select("cuda:1").device == "cuda:1"
    assert cupy.runtime.getDevice() == 1
    assert select("cuda").device == "cuda:0"
    assert cupy.runtime.getDevice() == 0


def test_gpus_are_dealt_out_to_the_processes_of_a_machine(cupy: Broken) -> None:
    cupy.fake.devices = 3
    for device in ("cuda", "auto"):
        assert [select(device, local_rank=i).device for i in range(5)] == [f"cuda:{i}" for i in (0, 1, 2, 0, 1)]
    assert select("cuda:1", local_rank=2).device == "cuda:1"
    assert select("cpu", local_rank=2).device == "cpu"
    cupy.fail(cupy.runtime, "getDeviceCount", CudaError(100))
    with pytest.raises(DeviceError, match="no CUDA device"):
        select("cuda", local_rank=2)
    assert select("auto", local_rank=2).device == "cpu"


def test_available_lists_every_gpu_and_uses_none(cupy: Broken) -> None:
    cupy.fake.set_device(1)
    rows = [row for row in available() if row.library == "cupy"]
    assert [(row.device, row.usable, row.detail) for row in rows] == [
        ("cuda:0", True, "NVIDIA Fake, 80.0 GiB"),
        ("cuda:1", True, "NVIDIA Fake, 80.0 GiB"),
    ]
    assert cupy.runtime.getDevice() == 1


def test_cupy_not_installed(cupy: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy.installed()
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert refusal() == (
        'CuPy is not installed: pip install "xpnet[cuda13]", or "xpnet[cuda12]" for an NVIDIA driver older than 580'
    )


def test_two_cupy_distributions(cupy: Broken) -> None:
    cupy.installed("cupy-cuda13x", "cupy-cuda12x")
    assert refusal().startswith(
        "2 CuPy distributions overwrite each other (cupy-cuda12x, cupy-cuda13x): "
        'pip uninstall cupy-cuda12x cupy-cuda13x, then pip install "xpnet[cuda13]"'
    )


def test_no_driver(cupy: Broken) -> None:
    cupy.fail(cupy.runtime, "getDeviceCount", CudaError(35))
    cupy.runtime.driverGetVersion = lambda: 0
    assert refusal() == "CuPy finds no NVIDIA driver: install one, or use device cpu"


def test_driver_too_old(cupy: Broken) -> None:
    cupy.fail(cupy.runtime, "getDeviceCount", CudaError(35))
    cupy.runtime.driverGetVersion = lambda: 12040
    assert refusal() == (
        "the NVIDIA driver is too old (it supports CUDA 12.4, this CuPy needs 13.2): "
        'update the driver, or pip install "xpnet[cuda12]" in place of this CuPy'
    )


@pytest.mark.parametrize("raises", [True, False])
def test_no_gpu(cupy: Broken, raises: bool) -> None:
    if raises:
        cupy.fail(cupy.runtime, "getDeviceCount", CudaError(100))
    else:
        cupy.runtime.getDeviceCount = lambda: 0
    assert refusal().startswith("CuPy finds no CUDA device: ")


def test_other_failures_of_the_driver_are_quoted(cupy: Broken) -> None:
    cupy.fail(cupy.runtime, "getDeviceCount", CudaError(804, "cudaErrorCompatNotSupportedOnDevice: forward\nmore"))
    assert refusal() == (
        "CUDA does not start (CudaError: cudaErrorCompatNotSupportedOnDevice: forward): see what nvidia-smi says"
    )


@pytest.mark.parametrize(
    ("count", "device", "found"),
    [(1, "cuda:1", "one CUDA device, cuda:0"), (4, "cuda:12", "4 CUDA devices, cuda:0 to cuda:3")],
)
def test_device_number_out_of_range(cupy: Broken, count: int, device: str, found: str) -> None:
    cupy.runtime.getDeviceCount = lambda: count
    assert refusal(device) == f"there is no {device}: CuPy finds {found}"


@pytest.mark.parametrize("where", ["array", "_load", "asnumpy"])
def test_cuda_libraries_missing(cupy: Broken, where: str) -> None:
    cupy.fail(
        gemm if where == "_load" else cupy.module,
        where,
        ImportError("libcublas.so.13: cannot open shared object file\nNo such file"),
    )
    assert refusal() == (
        "CUDA libraries are missing (ImportError: libcublas.so.13: cannot open shared object file): "
        'pip install "cupy-cuda13x[ctk]"'
    )


class CompileException(Exception): ...  # noqa: N818, CuPy's name


@pytest.mark.parametrize("error", [RuntimeError("no libnvrtc.so.13"), CompileException("cannot open cuda_fp16.h")])
def test_nvrtc_or_headers_missing(cupy: Broken, error: Exception) -> None:
    cupy.fail(cupy.module, "array", error)
    assert refusal().startswith(f"CUDA libraries are missing ({type(error).__name__}: {error}): ")


@pytest.mark.parametrize(
    "error", [CudaError(209, "no kernel image is available"), MemoryError("out of memory"), TypeError("a bug")]
)
def test_other_failures_of_the_first_operation_are_quoted(cupy: Broken, error: Exception) -> None:
    cupy.fail(gemm, "_load", error)
    assert refusal() == f"cuda:0 failed its first operation ({type(error).__name__}: {error})"


def test_broken_cupy_is_not_called_missing(cupy: Broken, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "cupy.py").write_text("raise ImportError('numpy.core is gone\\nlong story')\n")
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    assert refusal().startswith("CuPy is installed but cannot be imported (ImportError: numpy.core is gone): ")


def test_auto_hands_cupy_over_to_numpy(cupy: Broken) -> None:
    cupy.runtime.getDeviceCount = lambda: 0
    chosen = select("auto")
    assert (chosen.name, chosen.reason) == ("numpy", "auto: CuPy finds no CUDA device")
    with pytest.raises(DeviceError, match="CuPy finds no CUDA device"):
        select("auto", "cupy")  # a library that is named is not replaced


def test_auto_keeps_a_library_without_cuda() -> None:
    chosen = select("auto", "numpy")
    assert (chosen.device, chosen.reason) == ("cpu", "auto: NumPy runs on the CPU only")


def test_real_cupy_without_a_driver() -> None:
    need("cupy")
    import cupy as real

    if real.cuda.runtime.driverGetVersion():
        pytest.skip("this machine has an NVIDIA driver")
    assert refusal() == "CuPy finds no NVIDIA driver: install one, or use device cpu"


@pytest.mark.parametrize(("library", "extra"), [("torch", "xpnet[torch]"), ("jax", "xpnet[jax]")])
@pytest.mark.parametrize("device", ["cpu", "cuda", "auto"])
def test_library_not_installed(monkeypatch: pytest.MonkeyPatch, library: str, extra: str, device: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DeviceError, match=r'^\w+ is not installed: pip install "') as caught:
        select(device, library)
    assert extra in str(caught.value)


def test_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    need("torch")
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    assert refusal("cuda", "torch").startswith(f"PyTorch {torch.__version__} was built without CUDA: ")


def test_torch_with_an_unusable_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    need("torch")
    import torch

    def is_available() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver is too old\n(found 11040)", UserWarning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    assert refusal("cuda", "torch") == (
        "PyTorch finds no CUDA device (CUDA initialization: The NVIDIA driver is too old): see what nvidia-smi says"
    )


def test_torch_whose_gpu_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    need("torch")
    import torch

    monkeypatch.setattr(TorchBackend, "cuda_count", classmethod(lambda cls: 1))
    properties = SimpleNamespace(name="NVIDIA Fake", total_memory=2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(TorchBackend, "to_device", lambda self, array: 1 / 0)
    assert refusal("cuda", "torch") == "cuda:0 failed its first operation (ZeroDivisionError: division by zero)"


def test_jax_without_cuda() -> None:
    need("jax")
    import jax

    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("JAX has a GPU here")
    assert refusal("cuda", "jax").startswith("JAX finds no CUDA device: pip install")


def test_jax_whose_cuda_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    need("jax")
    import jax

    usual = jax.devices

    def devices(platform: str) -> Any:
        if platform == "gpu":
            raise RuntimeError("Unable to initialize backend 'cuda': no driver\nmore")
        return usual(platform)

    monkeypatch.setattr(jax, "devices", devices)
    message = "JAX finds no CUDA device (RuntimeError: Unable to initialize backend 'cuda': no driver): "
    assert refusal("cuda", "jax").startswith(message)


# What there is


def test_available_has_a_row_for_each_library_and_device() -> None:
    rows = available()
    assert {row.library for row in rows} == set(LIBRARIES)
    assert len({(row.library, row.device) for row in rows}) == len(rows)
    by_place = {(row.library, row.device): row for row in rows}
    assert by_place["numpy", "cpu"] == ("numpy", np.__version__, "cpu", True, select("cpu").description)
    for row in rows:
        assert row.detail
        assert "\n" not in row.detail
        if row.usable:
            chosen = select(row.device, row.library)
            assert (chosen.version, chosen.description) == (row.version, row.detail)
        else:
            with pytest.raises(DeviceError):
                select(row.device, row.library)


def test_available_never_raises(cupy: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy.fail(cupy.runtime, "getDeviceProperties", KeyError("surprise"))
    for missing in ("torch", "jax", "array_api_strict"):
        monkeypatch.setitem(sys.modules, missing, None)
    rows = available()
    assert {(row.library, row.device) for row in rows if row.usable} == {("numpy", "cpu")}
    details = {row.detail for row in rows if row.library == "cupy"}
    assert details == {"KeyError: 'surprise'"}


@pytest.mark.cuda
def test_arrays_on_a_gpu_return_as_they_left() -> None:
    chosen = select("cuda")
    for array in ARRAYS.values():
        there = chosen.to_device(array)
        back = chosen.to_host(there)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back, array)
    chosen.synchronize()
    assert chosen.description.startswith("NVIDIA")


def blas_threads() -> int:
    # scipy's own BLAS multiplies nothing here, and may have been loaded since NumPy's was looked for.
    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return max(int(library["num_threads"]) for library in blas if "scipy.libs" not in library["filepath"])


def test_small_products_run_on_one_thread_and_large_ones_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    numpy, small, large = select("cpu"), 2 * 64 * 784 * 128, 2 * 512 * 784 * 1024
    with threadpool_limits(2, user_api="blas"):
        with numpy.threads_for(small):
            assert blas_threads() == 1
        assert blas_threads() == 2
        with numpy.threads_for(large):
            assert blas_threads() == 2
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
        with numpy.threads_for(small):
            assert blas_threads() == 2
        with select("device1").threads_for(small):
            assert blas_threads() == 2


def test_torch_does_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    backend = open_backend("torch")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with backend.threads_for(2 * 512 * 784 * 1024):
            assert torch.get_num_threads() == 2
        with backend.threads_for(2 * 64 * 784 * 128):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# An update in blocks


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_in_blocks_has_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    monkeypatch.setattr(blocks, "ENOUGH", 3000)
    backend, rng = select("cpu"), np.random.default_rng(0)
    shapes = [(50, 70), (70,), (70, 10), (10,)]
    calls = 0

    def update(*args: Any, **options: Any) -> tuple[list[Any], list[Any]]:
        nonlocal calls
        calls += 1
        return OPTIMIZERS[name].update(*args, **options)

    first = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    results = []
    for rule in (update, backend.blockwise(update)):
        params, draws = [p.copy() for p in first], np.random.default_rng(1)
        state = init_state(name, params)
        kept = [id(array) for array in params + state]
        calls = 0
        for _ in range(3):
            grads = [draws.standard_normal(shape).astype(np.float32) for shape in shapes]
            params, state = rule(params, state, grads, lr=np.array([0.01], np.float32), weight_decay=0.001, xp=np)
        assert [id(array) for array in params + state] == kept
        results.append((calls, [array.tobytes() for array in params + state]))
    assert [calls for calls, _ in results] == [3, 3 * 5]
    assert results[0][1] == results[1][1]


# NumPy's functions without their wrappers


@pytest.mark.parametrize("name", ["sum", "max", "argmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.bool_])
def test_lean_reductions_are_numpys(name: str, axis: int | None, keepdims: bool, dtype: type) -> None:
    x: np.ndarray = np.array([[3, 1, 2], [5, 9, 7]]).astype(dtype)
    lean = getattr(select("cpu").xp, name)(x, axis=axis, keepdims=keepdims)
    own = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    assert np.array_equal(lean, own)
    assert (lean.dtype, lean.shape) == (own.dtype, own.shape)


@pytest.mark.parametrize("shape", [(200, 1), (200, 10), (3, 32), (3, 33), (0, 10)])
def test_the_maxima_of_rows_are_numpys(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x[1:2, -1] = np.nan
    before = x.copy()
    for array in (x, np.asfortranarray(x), x[::-1, ::-1]):
        assert np.array_equal(select("cpu").xp.max(array, axis=1), np.max(array, axis=1), equal_nan=True)
    assert np.array_equal(x, before, equal_nan=True)
    with pytest.raises(ValueError, match="no identity"):
        select("cpu").xp.max(x[:, :0], axis=1)


def test_lean_take_and_astype_are_numpys() -> None:
    xp, x = select("cpu").xp, np.arange(12.0).reshape(3, 4)
    assert np.array_equal(xp.take(x, np.array([2, 0]), axis=0), x[[2, 0]])
    assert np.array_equal(xp.take(x, np.array([3]), axis=1), x[:, [3]])
    with pytest.raises(IndexError):
        xp.take(x, np.array([3]), axis=0)
    assert xp.astype(x, np.float32).dtype == np.float32
    assert xp.astype(x, np.float64) is not x
    assert xp.astype(x, np.float64, copy=False) is x
    assert np.array_equal(xp.sum(x, axis=1, dtype=np.float32), x.sum(axis=1))


def test_the_backend_of_an_array(xp: ArrayLibrary) -> None:
    """An array's own library, on the device where it lies; what no library made is refused in one line."""
    backend = select_for(xp(np.ones(2)))
    assert (backend.name, backend.device) == (xp.backend.name, xp.backend.device)
    with pytest.raises(DeviceError, match=r"builtins\.list is not an array of a library that xpnet knows: these are"):
        select_for([1.0])
