"""The stand-in and the fused kernels beside the real CuPy, which needs no GPU to be imported, nor for its compiler.

pip install cupy-cuda13x nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-nccl-cu13
"""

import importlib
import inspect
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import xpnet
from tests.backend.test_graph import TECHNIQUES, trained
from tests.fake_cupy import Fake, install
from tests.fake_cupy import nccl as stand_in
from tests.fake_cupy.kernels import ElementwiseKernel
from xpnet.backend.cupy import nccl as link
from xpnet.distributed import Team

# What the stand-in's classes have for their own sake.
MACHINERY = {"drain", "fake", "give_back", "host", "issue", "late", "meet", "submit"}
ARCHITECTURE = "90"


@pytest.fixture
def wheel() -> Any:
    """The real CuPy."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        pytest.skip(f"CuPy's wheel is not installed ({error}): pip install cupy-cuda13x")


@pytest.fixture
def nccl(wheel: Any) -> Any:
    """The real NCCL, as CuPy has it."""
    try:
        with warnings.catch_warnings():  # CuPy's way of saying that there is none
            warnings.simplefilter("ignore")
            module = importlib.import_module("cupy.cuda.nccl")
    except ImportError as error:
        pytest.skip(f"CuPy's NCCL cannot be imported ({error})")
    if not module.available:
        pytest.skip("NCCL is not installed: pip install nvidia-nccl-cu13")
    return module


def parameters(function: Any) -> list[str] | None:
    """Names of a function's parameters; None where a compiled one does not say."""
    try:
        found = [*inspect.signature(function).parameters]
    except (TypeError, ValueError):
        heading = re.match(r"[\w.]+\((.*?)\)( ->.*)?$", (function.__doc__ or "").partition("\n")[0])
        if heading is None:
            return None
        found = [part.partition("=")[0].split()[-1] for part in heading[1].split(", ") if part.strip("/*")]
    return [name for name in found if name != "self"]


def test_the_stand_in_has_nothing_that_cupy_has_not(wheel: Any, nccl: Any) -> None:
    """Names, and for what it defines itself the parameters."""
    assert wheel.__version__.split(".")[:2] == Fake().cupy.__version__.split(".")[:2]
    unknown, other_parameters = [], []
    for module_name, module in Fake().modules.items():
        real = importlib.import_module(module_name)
        for name, value in vars(module).items():
            if name.startswith("__"):
                continue
            if not hasattr(real, name):
                unknown.append(f"{module_name}.{name}")
                continue
            # The stand-in's own classes and functions; those of NumPy have NumPy's parameters.
            pairs = [(name, value, getattr(real, name))]
            if isinstance(value, type) and hasattr(value, "fake"):
                public = [each for each in dir(value) if not each.startswith("_") and each not in MACHINERY]
                unknown += [f"{module_name}.{name}.{each}" for each in public if not hasattr(pairs[0][2], each)]
                pairs = [(f"{name}.{each}", getattr(value, each), getattr(pairs[0][2], each, None)) for each in public]
            for label, own, theirs in pairs:
                if inspect.isfunction(own) and callable(theirs) and "kwargs" not in (parameters(own) or []):
                    expected = parameters(theirs)
                    if expected is not None and parameters(own) != expected[: len(parameters(own) or [])]:
                        other_parameters.append(f"{module_name}.{label}: {parameters(own)}, not {expected}")
    assert not unknown, unknown
    assert not other_parameters, other_parameters


def test_nccl_is_as_the_exchange_takes_it(nccl: Any) -> None:
    assert nccl.get_version() >= nccl.get_build_version() >= 22707
    constants = {name: value for name, value in vars(nccl).items() if name in stand_in.CONSTANTS}
    assert constants == stand_in.CONSTANTS
    send, receive = (inspect.getdoc(getattr(nccl.NcclCommunicator, name)) for name in ("send", "recv"))
    assert (
        send == "NcclCommunicator.send(self, intptr_t sendbuf, size_t count, int datatype, int peer, intptr_t stream)"
    )
    assert receive == send.replace("send(", "recv(").replace("sendbuf", "recvbuf")
    nccl.groupStart()
    nccl.groupEnd()
    for status in (1, 2, 4, 5):
        real, own = nccl.NcclError(status), stand_in.NcclError(status)
        assert (str(real), real.status) == (str(own), own.status)
        assert str(pickle.loads(pickle.dumps(real))) == str(real)  # as all processes learn of it
    with pytest.raises(nccl.NcclError, match="INVALID_USAGE"):
        nccl.groupEnd()
    with pytest.raises(ValueError, match="commId length 5 != 128"):
        nccl.NcclCommunicator(2, b"short", 0)


def test_nccl_names_a_team_and_says_what_it_lacks(nccl: Any) -> None:
    """In a process of its own, since NCCL starts threads."""
    code = """
from cupy.cuda import nccl
name = nccl.get_unique_id()
assert type(name) is bytes and len(name) == 128 and name != nccl.get_unique_id()
try:
    nccl.NcclCommunicator(2, name, 0)
except nccl.NcclError as error:
    print(error.status)
"""
    if importlib.import_module("cupy").cuda.is_available():
        pytest.skip("a communicator would wait for the second process")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_the_wheel_without_nccl_is_named(
    wheel: Any, nccl: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the words of CuPy's warning."""
    environment = importlib.import_module("cupy._environment")

    def missing(library: str) -> None:
        raise ImportError("libnccl.so.2: cannot open shared object file")

    monkeypatch.setattr(environment, "_preload_library", missing)
    monkeypatch.delitem(sys.modules, "cupy.cuda.nccl")
    monkeypatch.delattr(wheel.cuda, "nccl")

    class Twins(Team):
        size = 2

        def gather(self, value: Any) -> list[Any]:
            return [value, value]

    assert link.chosen(SimpleNamespace(pci_bus_id="0000:3B:00.0"), "nvidia-nccl-cu13", Twins()) is None
    assert (
        "CuPy finds no NCCL (ImportError (libnccl.so.2: cannot open shared object file)): pip install nvidia-nccl-cu13"
        in caplog.text
    )


def test_nvrtc_compiles_the_kernels_of_training(
    wheel: Any, small_data: xpnet.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a GPU that is not there: of steps with every technique, in both precisions, and of short sums."""
    compiler = wheel.cuda.compiler
    try:
        compiler._get_nvrtc_version()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"NVRTC is not installed ({error}): pip install nvidia-cuda-nvrtc nvidia-cuda-runtime")
    launched: dict[str, tuple[ElementwiseKernel, list[Any], list[bool]]] = {}
    function = ElementwiseKernel._function

    def record(self: ElementwiseKernel, dtypes: list[Any], arrays: list[bool]) -> Any:
        launched[f"{self.name} {dtypes[0]}" if "short_sum" in self.name else self.name] = self, dtypes, arrays
        return function(self, dtypes, arrays)

    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        patch.setattr(ElementwiseKernel, "_function", record)
        for settings in ({}, TECHNIQUES, {**TECHNIQUES, "dtype": "float64"}):
            trained(small_data, graph=True, **{**settings, "epochs": 1})
    sources = {label: code(wheel, *kernel) for label, kernel in launched.items()}
    together = [source for label, source in sources.items() if "short_sum" not in label]
    assert len(together) > 20

    compiled: list[bytes] = []

    class NotLoaded(wheel.cuda.function.Module):  # type: ignore[misc]
        def load(self, code: bytes) -> None:
            compiled.append(code)

    monkeypatch.setattr(compiler, "_get_arch_for_options_for_nvrtc", lambda _: (f"-arch=compute_{ARCHITECTURE}", "ptx"))
    monkeypatch.setattr(compiler.function, "Module", NotLoaded)
    core = importlib.import_module("cupy._core.core")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    apart = [source for label, source in sources.items() if "short_sum" in label]
    for source in ["\n".join(together), *apart]:
        core.compile_with_cache(source, (), ARCHITECTURE)
    entries = re.findall(rb"\.entry (\w+)", b"".join(compiled))
    assert sorted(name.decode() for name in entries) == sorted(kernel.name for kernel, _, _ in launched.values())


def code(wheel: Any, kernel: ElementwiseKernel, dtypes: list[Any], arrays: list[bool]) -> str:
    """The source that CuPy makes of a kernel, for arrays of one dimension."""
    private = importlib.import_module("cupy._core._kernel")
    indexer = importlib.import_module("cupy._core._carray").Indexer
    ndarray_kind, indexer_kind, scalar_kind = 1, 2, 3
    real = wheel.ElementwiseKernel(*kernel.declared, kernel.operation, kernel.name)
    arguments = [
        private._ArgInfo(ndarray_kind, wheel.ndarray, dtype.type, 1, True, True)
        if array
        else private._ArgInfo(scalar_kind, dtype.type, dtype.type, 0, True, True)
        for dtype, array in zip(dtypes, arrays, strict=True)
    ]
    arguments.append(private._ArgInfo(indexer_kind, indexer, None, 1, True, True))
    letters = {p.letter: dtype.type for p, dtype in zip(kernel.params, dtypes, strict=True) if p.dtype is None}
    types = private._TypeMap(tuple(letters.items()))
    source: str = private._get_elementwise_kernel_code(
        tuple(arguments), types, real.params, real.operation, real.name, real.preamble
    )
    return source
