"""The fixture xp: every numerics test runs over every array library that is installed.

XPNET_TEST_LIBRARIES names the libraries that must take part ("numpy,array-api-strict,torch,jax,cupy"); one that is
named and missing is an error. Unset, those that are installed take part, and a test says which it skipped and why.

Tests that are marked cuda run on the GPU where there is one, and elsewhere on a stand-in for CuPy that has its traps.
"""

import dataclasses
import functools
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import HealthCheck, settings

import xpnet
from xpnet.backend import LIBRARIES, Backend, DeviceError, select
from xpnet.cli import main
from xpnet.studies import gradcheck

from . import fake_cupy
from .promises.resuming import StopAt, Train

# Else the tests would fill the user's cache, and share it between processes of which some are killed.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "off"

DEMANDED = os.environ.get("XPNET_TEST_LIBRARIES", "").replace(",", " ").split()
if unknown := set(DEMANDED) - set(LIBRARIES):
    raise ValueError(f"XPNET_TEST_LIBRARIES names {', '.join(unknown)}; the choices are {', '.join(LIBRARIES)}")


# Few examples in everybody's run, many in CI's: --hypothesis-profile=thorough. Examples may share their test's folder,
# since each writes what it reads; how long one takes says more of the machine than of the code.
for profile, examples in (("quick", 25), ("thorough", 150)):
    settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
settings.load_profile("quick")


@dataclass(frozen=True)
class Variant:
    """One way to run the numerics: a library, a device, a precision, and how strictly."""

    library: str
    device: str
    dtype: str
    mode: str = ""

    @property
    def id(self) -> str:
        return "-".join(part for part in (self.library, self.device, self.dtype, self.mode) if part)


VARIANTS = [
    Variant("numpy", "cpu", "float64"),
    Variant("numpy", "cpu", "float32"),
    Variant("numpy", "cpu", "float64", "readonly"),
    Variant("array-api-strict", "cpu", "float64"),
    Variant("array-api-strict", "device1", "float32"),
    Variant("array-api-strict", "device1", "float64", "strictest"),
    Variant("torch", "cpu", "float64"),
    Variant("torch", "cpu", "float32"),
    Variant("jax", "cpu", "float64"),
    Variant("jax", "cpu", "float64", "jit"),
    pytest.param(Variant("cupy", "cuda", "float64"), marks=pytest.mark.cuda),
    pytest.param(Variant("cupy", "cuda", "float32"), marks=pytest.mark.cuda),
    pytest.param(Variant("cupy", "cuda", "float64", "fused"), marks=pytest.mark.cuda),
    pytest.param(Variant("cupy", "cuda", "float32", "fused"), marks=pytest.mark.cuda),
]


class ArrayLibrary:
    """What a numerics test needs of a variant: its namespace, and the ways in and out.

    xp : the namespace.   dtype : the variant's floating dtype, as NumPy names it.   tolerance : relative, for results
    that differ by rounding only.
    """

    def __init__(self, variant: Variant, backend: Backend) -> None:
        self.variant, self.backend, self.xp = variant, backend, backend.xp
        self.dtype = variant.dtype
        self.tolerance = {"float64": 1e-12, "float32": 1e-5}[variant.dtype]

    def __call__(self, host: Any, dtype: str | None = None) -> Any:
        """A host array on the device: floats in the variant's dtype, other kinds as they are."""
        host = np.asarray(host)
        if dtype is not None or host.dtype.kind == "f":
            host = host.astype(dtype or self.dtype)
        array = self.backend.to_device(host)
        if self.variant.mode == "readonly":
            array.flags.writeable = False
        return array

    def numpy(self, array: Any) -> np.ndarray:
        return self.backend.to_host(array)

    def run(self, function: Any, *arrays: Any) -> Any:
        """Call a function of arrays, compiled where the variant compiles."""
        if self.variant.mode == "jit":
            import jax

            return jax.jit(function)(*arrays)
        if self.variant.mode == "fused":
            return self.backend.fuse(function)(*arrays)
        return function(*arrays)

    def assert_close(self, actual: Any, desired: Any, tolerance: float | None = None) -> None:
        """Actual is an array of this library, device and dtype, and its values differ from desired's by rounding."""
        desired = np.asarray(desired)
        assert array_namespace(actual) is array_namespace(self(desired)), f"{type(actual)} is not {self.variant.id}'s"
        host = self.numpy(actual)
        assert host.dtype == self.dtype, f"dtype {host.dtype}, not {self.dtype}"
        assert host.shape == desired.shape, f"shape {host.shape}, not {desired.shape}"
        assert relative_error(host, desired) <= (tolerance or self.tolerance)


def relative_error(actual: Any, desired: Any) -> float:
    """Norm of the difference over the norm of desired; NaN anywhere is an infinite error."""
    return gradcheck.relative_error([np.asarray(actual)], [np.asarray(desired)])


def open_backend(library: str, device: str = "cpu") -> Backend:
    """A backend for a test; where it cannot be had, an error if XPNET_TEST_LIBRARIES names it, else a skip."""
    if DEMANDED and library not in DEMANDED and library != "cupy":
        pytest.skip(f"{library} is not among XPNET_TEST_LIBRARIES")
    try:
        return select(device, library)
    except DeviceError as error:
        if library in DEMANDED:
            raise
        pytest.skip(str(error))


@functools.cache
def has_gpu() -> bool:
    """Whether CuPy can use a GPU here; an error where XPNET_TEST_LIBRARIES demands it."""
    try:
        select("cuda", "cupy")
    except DeviceError:
        if "cupy" in DEMANDED:
            raise
        return False
    return True


def pytest_report_header() -> str:
    return f"cuda: tested on {'the GPU' if has_gpu() else 'a stand-in for CuPy'}"


def pytest_collection_finish() -> None:
    """Leave out of all later collections what is there for good: modules and tests, half a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def gpu_or_fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in in CuPy's place for a test that is marked cuda, where there is no GPU."""
    if request.node.get_closest_marker("cuda") is not None and not has_gpu():
        fake_cupy.install(monkeypatch)


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.id)
def xp(request: pytest.FixtureRequest) -> Iterator[ArrayLibrary]:
    variant: Variant = request.param
    backend = open_backend(variant.library, variant.device)
    if variant.mode == "strictest":
        with backend.xp.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()):
            yield ArrayLibrary(variant, backend)
    else:
        yield ArrayLibrary(variant, backend)


@pytest.fixture(scope="session")
def mnist() -> xpnet.Dataset:
    """The real MNIST, where XPNET_DATA_DIR has it."""
    directory = os.environ.get("XPNET_DATA_DIR")
    if not directory or not (Path(directory) / "mnist").exists():
        pytest.skip("needs the real MNIST: set XPNET_DATA_DIR to a folder that holds mnist/")
    return xpnet.load_data("mnist", data_dir=directory, download=False)


@pytest.fixture
def small_data() -> xpnet.Dataset:
    """A learnable set in seconds: 3 classes of 6x6 noisy images, 330 to train on and 60 to test."""
    rng = np.random.default_rng(7)
    patterns = rng.random((3, 6, 6))

    def split(n: int) -> xpnet.Split:
        labels = rng.integers(0, 3, n).astype(np.int32)
        noisy = 0.75 * patterns[labels] + 0.25 * rng.random((n, 6, 6))
        return xpnet.Split((255 * noisy).astype(np.uint8), labels)

    return xpnet.Dataset("patterns", split(330), split(60), n_classes=3, source="drawn by the test")


@pytest.fixture
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of the test's own, a narrow terminal, and nobody's data or colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("XPNET_DATA_DIR", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def patterns(own_directory: None, small_data: xpnet.Dataset) -> str:
    """The path of small_data in the form of Keras' mnist.npz."""
    return write_npz("patterns.npz", small_data)


def write_npz(path: str, data: xpnet.Dataset) -> str:
    """Write a set in the form of Keras' mnist.npz, and return its path."""
    assert data.test is not None
    (x_train, y_train), (x_test, y_test) = data.train, data.test
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture
def fails(own_directory: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail with an exit code and one line, which is returned without its beginning."""

    def run(code: int, *arguments: str) -> str:
        assert main(arguments) == code
        out, err = capsys.readouterr()
        errors = [line for line in err.splitlines() if line.startswith("xpnet: error: ")]
        assert len(errors) == 1, err
        assert err.endswith(f"{errors[0]}\n")
        assert "Traceback" not in err
        assert not out
        return errors[0].removeprefix("xpnet: error: ")

    return run


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch is written, however short it is."""
    monkeypatch.setattr("xpnet.training.directory.RunDirectory._is_due", lambda _: True)


@pytest.fixture
def train(small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train in a directory, going on with what it holds; stop : an epoch, or an epoch and steps of it."""
    monkeypatch.setattr("xpnet.training.epochs.STEPS_PER_CALL", 1)
    # It takes longer than all the rest.
    monkeypatch.setattr("xpnet.training.directory.RunDirectory._draw", lambda *_: None)

    def run(
        out: Path | None = None, stop: int | tuple[int, int] = 0, data: xpnet.Dataset = small_data, **settings: Any
    ) -> xpnet.Result:
        names = {field.name for field in dataclasses.fields(xpnet.TrainConfig)}
        described: dict[str, Any] = {"hidden": (7,), "epochs": 4, "batch_size": 20, "device": "cpu"}
        described |= {name: value for name, value in settings.items() if name in names}
        config = xpnet.TrainConfig(**described)
        options = {"callbacks": []} | {name: value for name, value in settings.items() if name not in names}
        options["callbacks"] = [*options["callbacks"], StopAt(*stop) if isinstance(stop, tuple) else StopAt(stop)]
        return xpnet.fit(config.network(36, 3), data, config, out=out, resume=out is not None, **options)

    return run
