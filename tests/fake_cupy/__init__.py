"""A stand-in for CuPy 14.2 that computes with NumPy, and springs CuPy's traps.

`install` puts it in CuPy's place. Each file is about one trap: memory, streams, capture, arrays, functions, kernels,
cublas, nccl. `tests/backend/test_fake_cupy.py` holds it to CuPy: where there is a GPU, the real one runs the same
tests.
"""

import ctypes
import importlib
import importlib.metadata
import shutil
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import array_api_compat
import pytest

from . import arrays, capture, compiler, cublas, errors, functions, kernels, memory, modules, nccl, state, streams
from .errors import CompileException, CUDARuntimeError, OutOfMemoryError
from .state import Fake

__all__ = ["CUDARuntimeError", "CompileException", "Fake", "OutOfMemoryError", "install"]


def install(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put the stand-in in CuPy's place for one test, and array-api-compat's namespace on top of it."""
    if shutil.which("g++") is None:
        pytest.skip("without a GPU, a stand-in for CuPy is tested, which needs g++")
    fake = Fake()
    for name in [*sys.modules]:
        if name.split(".")[0] in ("cupy", "cupyx", "cuda") or name.startswith("array_api_compat.cupy"):
            monkeypatch.delitem(sys.modules, name)
    for name, module in fake.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("", "._aliases", "._info", "._typing", ".linalg", ".fft"):
        monkeypatch.setitem(sys.modules, f"array_api_compat.cupy{name}", ModuleType("gone"))  # undone after the test
        del sys.modules[f"array_api_compat.cupy{name}"]
    monkeypatch.setattr(array_api_compat, "cupy", None, raising=False)
    del array_api_compat.cupy  # `from array_api_compat import cupy` would take it from here
    importlib.import_module("array_api_compat.cupy")
    load = ctypes.CDLL

    def cdll(name: Any, *args: Any, **kwargs: Any) -> Any:
        return fake.cublas if str(name) == "/fake/libcublas.so.13" else load(name, *args, **kwargs)

    monkeypatch.setattr(ctypes, "CDLL", cdll)
    # Those that are really there take longer to read than most tests take to run.
    only = SimpleNamespace(name="cupy-cuda13x", version="14.2.0", _normalized_name="cupy_cuda13x", entry_points=())
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [only])
    return fake


def _disguise() -> None:
    """Let tracebacks name modules of CuPy, as they do when CuPy raises, for those who leave such frames out."""
    own = (arrays, capture, compiler, cublas, errors, functions, kernels, memory, modules, nccl, state, streams)
    for module in own:
        module.__name__ = f"cupy.{module.__name__.rpartition('.')[2]}"


_disguise()
