"""CuPy's traps, and that its stand-in springs them.

What is said of CuPy itself is tried on the GPU where there is one, since a stand-in is worth what its likeness is.
Tests that ask for `fake` are about its own machinery, or look where no program can: they run on it everywhere.
"""

import ctypes
import functools
import gc
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import array_api_compat
import numpy as np
import pytest

from tests.fake_cupy import Fake, compiler, install

pytestmark = pytest.mark.cuda


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return install(monkeypatch)


@pytest.fixture
def cp(request: pytest.FixtureRequest) -> Any:
    """CuPy; the stand-in where there is no GPU, and for tests that ask for fake."""
    if "fake" in request.fixturenames:
        return request.getfixturevalue("fake").cupy
    return importlib.import_module("cupy")


@pytest.fixture
def stream(cp: Any) -> Any:
    return cp.cuda.Stream(non_blocking=True)


def capture(stream: Any, step: Any) -> tuple[Any, Any]:
    with stream:
        stream.begin_capture()
        try:
            out = step()
        except BaseException:
            stream.end_capture()
            raise
        return stream.end_capture(), out


# The namespace


def test_array_api_compat_takes_it_for_cupy(cp: Any) -> None:
    import array_api_compat.cupy as xp
    import cupy

    assert cupy is cp
    x = xp.asarray(np.arange(6.0, dtype=np.float32).reshape(2, 3))
    assert array_api_compat.array_namespace(x) is xp
    assert array_api_compat.device(x) == cp.cuda.Device(0)
    y = xp.reshape(xp.astype(x, xp.float64), (3, 2), copy=True)
    assert y.dtype == xp.float64
    assert xp.zeros((2,), dtype=xp.int64, device=x.device).shape == (2,)
    assert not hasattr(cp, "vecdot")


def test_host_arrays_stay_out(cp: Any) -> None:
    x = cp.asarray([1.0, 2.0])
    with pytest.raises(TypeError, match=r"Implicit conversion to a NumPy array"):
        np.asarray(x)
    mixtures: list[Any] = [lambda: x + np.ones(2), lambda: np.ones(2) * x, lambda: cp.maximum(x, np.ones(2))]
    for mixed in mixtures:
        with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
            mixed()
    with pytest.raises(ValueError, match="non-scalar"):
        x[...] = np.ones(2)
    assert isinstance(x.get(), np.ndarray)
    assert (float(x[1]), int(x[0]), bool(x[0] > 0), x[1].item()) == (2.0, 1, True, 2.0)


def test_types_promote_as_in_cupy(cp: Any) -> None:
    x = cp.ones(3, dtype=cp.float32)
    assert (x * 2.0).dtype == (x + 1).dtype == cp.where(x > 0, x, 0.0).dtype == np.float32
    assert (x * np.float64(2)).dtype == (np.float64(2) * x).dtype == np.float64
    total = cp.sum(x)
    assert (type(total), total.shape, total.dtype) == (cp.ndarray, (), np.float32)
    assert cp.count_nonzero(x).shape == cp.argmax(x).shape == ()
    with pytest.raises(TypeError, match="same_kind"):
        x += np.float64(1) * cp.ones(3, dtype=cp.complex128)


def test_out_of_range_indices_wrap(cp: Any) -> None:
    x = cp.arange(5)
    assert cp.take(x, cp.asarray([4, 5, -1, 12])).tolist() == [4, 0, 4, 2]
    assert x[cp.asarray([7])].tolist() == [2]
    matrix = cp.asarray(np.arange(6).reshape(2, 3))
    assert matrix[:, cp.asarray([3, 4])].tolist() == [[0, 1], [3, 4]]
    x[[6]] = 10
    assert x.tolist() == [0, 10, 2, 3, 4]


def test_views_share_and_operators_write_in_place(cp: Any) -> None:
    x = cp.zeros((2, 3))
    row, address = x[1], x.data.ptr
    row += 1.0
    x.T[2] *= 5.0
    x.reshape(-1)[0] = 7.0
    assert x.tolist() == [[7, 0, 0], [1, 1, 5]]
    assert x.data.ptr == address
    assert row.data.ptr == address + 24


def test_arrays_belong_to_a_device(fake: Fake, cp: Any) -> None:
    """Of two GPUs without access to each other's memory."""
    with cp.cuda.Device(1):
        x = cp.ones(2)
        assert (x + 1).device == cp.cuda.Device(1)
    with pytest.raises(ValueError, match="different from the current device"):
        x + 1
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorInvalidDevice"):
        cp.cuda.Device(2).use()
    stream = cp.cuda.Stream()
    with cp.cuda.Device(1), pytest.raises(RuntimeError, match="does not match with the current device"):
        stream.use()


# Capture


def test_a_graph_replays_on_the_same_memory(cp: Any, stream: Any) -> None:
    x, factor = cp.ones(3), 2.0
    graph, y = capture(stream, lambda: x * factor + 1)
    factor = 100.0  # frozen
    x[...] = 5.0
    for _ in range(2):
        graph.launch(stream)
    stream.synchronize()
    assert y.tolist() == [11, 11, 11]
    assert graph.debug_dot_str().count("shape=") == 2


def test_captured_work_is_not_done(fake: Fake, cp: Any, stream: Any) -> None:
    x = cp.ones(3, dtype=cp.float32)

    def step() -> Any:
        x.__iadd__(1.0)
        return x * 1.0, cp.argmax(x), cp.empty(2, cp.int64)

    graph, (y, index, empty) = capture(stream, step)
    assert fake.peek(x).tolist() == [1, 1, 1]
    assert np.isnan(fake.peek(y)).all()
    assert fake.peek(index) > 2**62
    assert (fake.peek(empty) > 2**62).all()
    graph.launch(stream)
    assert (x.tolist(), y.tolist(), int(index)) == ([2, 2, 2], [2, 2, 2], 0)


def test_state_moves_on_with_each_replay(cp: Any, stream: Any) -> None:
    table, i, total = cp.asarray([1.0, 10.0, 100.0]), cp.zeros(1, cp.int64), cp.zeros(1)

    def step() -> None:
        total.__iadd__(cp.take(table, i, axis=0))
        total[...] = cp.where(total > 1000.0, 0.0, total)
        i.__iadd__(1)

    cp.cuda.Device().synchronize()
    graph, _ = capture(stream, step)
    for _ in range(5):
        graph.launch(stream)
    stream.synchronize()
    assert total.tolist() == [122.0]  # the fourth and the fifth wrap around


def test_what_capture_refuses(cp: Any, stream: Any) -> None:
    import cupyx

    x, pinned = cp.ones((2, 2)), cupyx.empty_pinned((2, 2))
    h2d, d2h = "H2D transfers are disallowed", "D2H transfers are disallowed"
    refusals: list[tuple[Any, type[Exception], str]] = [
        (lambda: cp.matmul(x, x), NotImplementedError, "calling cuBLAS API during stream capture"),
        (lambda: x @ x, NotImplementedError, "calling cuBLAS API during stream capture"),
        (lambda: cp.asarray([1.0]), RuntimeError, h2d),
        (lambda: cp.array(np.ones(2)), RuntimeError, h2d),
        (lambda: x.set(pinned), RuntimeError, h2d),
        (lambda: x[[0]], RuntimeError, h2d),
        (lambda: float(x[0, 0]), RuntimeError, d2h),
        (lambda: bool(x[0, 0] > 0), RuntimeError, d2h),
        (x.get, RuntimeError, d2h),
        (lambda: cp.asnumpy(x), RuntimeError, d2h),
        (lambda: x[x > 0], RuntimeError, d2h),
        (lambda: x.__setitem__(x > 0, 0.0), RuntimeError, d2h),
        (lambda: cp.nonzero(x), RuntimeError, d2h),
        (lambda: cp.where(x > 0), RuntimeError, d2h),
    ]
    with stream:
        stream.begin_capture()
        for call, error, message in refusals:
            with pytest.raises(error, match=message):
                call()
        scalar = cp.asarray(3.0)  # a kernel, not a copy
        graph = stream.end_capture()  # refusals leave the capture valid
        graph.launch()
        assert float(scalar) == 3.0


@pytest.mark.parametrize("what", ["stream", "device", "event", "done", "get_of_uncaptured_event"])
def test_synchronising_spoils_the_capture(cp: Any, stream: Any, what: str) -> None:
    event = cp.cuda.Event()
    with stream:
        stream.begin_capture()
        if what == "done":
            assert not stream.done
        elif what == "get_of_uncaptured_event":
            other = cp.cuda.Stream(non_blocking=True)
            with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureIsolation"):
                stream.wait_event(other.record())
        else:
            event.record(stream)
            waits = {"stream": stream, "device": cp.cuda.Device(), "event": event}[what]
            with pytest.raises(
                cp.cuda.runtime.CUDARuntimeError, match=r"StreamCaptureUnsupported|cudaErrorCapturedEvent"
            ):
                waits.synchronize()
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            cp.zeros(2)
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
    assert not stream.is_capturing()
    stream.synchronize()


def test_other_streams_go_on_during_a_capture(cp: Any, stream: Any) -> None:
    x, other = cp.ones(2), cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with other:
            y = x + 1
            assert y.tolist() == [2, 2]
        z = x + 2
        graph = stream.end_capture()
    graph.launch(other)
    other.synchronize()
    assert z.tolist() == [3, 3]
    with pytest.raises(RuntimeError, match=r"cannot capture on the default \(legacy\) stream"):
        cp.cuda.Stream.null.begin_capture()


def test_streams_fork_and_join_within_a_capture(cp: Any, stream: Any) -> None:
    x, other = cp.ones(2), cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        y = x * 2
        other.wait_event(stream.record())
        with other:
            z = y + 1
        stream.wait_event(other.record())
        graph = stream.end_capture()
        graph.launch()
        assert z.tolist() == [3, 3]
        stream.begin_capture()
        other.wait_event(stream.record())
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureUnjoined"):
            stream.end_capture()


def test_a_blocking_stream_cannot_capture_beside_the_null_stream(cp: Any) -> None:
    blocking = cp.cuda.Stream()
    blocking.begin_capture()
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureImplicit"):
        cp.ones(2)
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
        blocking.end_capture()


def test_failures_to_order(fake: Fake, cp: Any, stream: Any) -> None:
    fake.fail["end_capture"] = RuntimeError("no graph today")
    with pytest.raises(RuntimeError, match="no graph today"):
        capture(stream, lambda: cp.ones(2))
    assert not stream.is_capturing()
    assert fake.count["end_capture"] >= 1


# Memory


def test_scratch_memory_of_a_graph_is_overwritten(cp: Any, stream: Any) -> None:
    x, pool = cp.ones(100), cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc):
        graph, total = capture(stream, lambda: cp.sum(x * 3.0))
        with stream:
            mine = cp.full(100, 7.0)  # takes the block of x * 3.0, which is free again
    stream.synchronize()
    assert mine.get(stream)[0] == 7.0
    graph.launch(stream)
    assert mine.get(stream)[0] == 3.0
    assert total.get(stream) == 300.0


def test_private_pool_protects(cp: Any, stream: Any) -> None:
    x, pool = cp.ones(100), cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc):
        graph, total = capture(stream, lambda: cp.sum(x * 3.0))
    with stream:
        mine = cp.full(100, 7.0)
        graph.launch()
    assert (mine.get(stream)[0], total.get(stream)) == (7.0, 300.0)


def test_graphs_keep_no_memory(fake: Fake, cp: Any, stream: Any) -> None:
    pool, x = cp.cuda.MemoryPool(), cp.ones(100)
    with cp.cuda.using_allocator(pool.malloc):
        graph, total = capture(stream, lambda: cp.take(x.astype(cp.float32).copy()[1:], cp.arange(3)).sum())
        assert pool.used_bytes() == 512
        graph.launch(stream)
        assert float(total.get(stream)) == 3.0
        del total
        assert (pool.used_bytes(), pool.free_bytes()) == (0, pool.total_bytes())
        pool.free_all_blocks()
    assert (pool.total_bytes(), pool.n_free_blocks()) == (0, 0)
    graph.launch(stream)
    stream.synchronize()
    assert fake.count["illegal_address"] > 0


def test_freed_memory_is_spoiled(cp: Any, stream: Any) -> None:
    pool = cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc):
        x = cp.ones(100)
    graph, y = capture(stream, functools.partial(cp.add, x, 1))
    del x
    pool.free_all_blocks()
    graph.launch(stream)
    assert np.isnan(y.get(stream)).all()


def test_pool_reuses_splits_and_merges(cp: Any) -> None:
    pool = cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc):
        x = cp.empty(1024, cp.uint8)
        view, address = x[3:], x.data.ptr
        del x
        assert pool.used_bytes() == 1024
        del view
        a, b = cp.empty(10, cp.uint8), cp.empty(10, cp.uint8)
        assert {a.data.ptr, b.data.ptr} == {address, address + 512}
        with cp.cuda.Stream(non_blocking=True):
            assert cp.empty(10).data.ptr not in (address, address + 512)
        pool.free_all_blocks()
        assert pool.total_bytes() == 1024
        del a, b
        assert cp.empty(1000, cp.uint8).data.ptr == address


def test_out_of_memory(fake: Fake, cp: Any) -> None:
    fake.total_memory = 4096
    x = cp.zeros(2048, cp.uint8)
    assert cp.cuda.runtime.memGetInfo() == (2048, 4096)
    with pytest.raises(
        cp.cuda.memory.OutOfMemoryError, match=r"Out of memory allocating 4,096 bytes \(allocated so far: 2,048 bytes\)"
    ):
        cp.zeros(4096, cp.uint8)
    assert issubclass(cp.cuda.memory.OutOfMemoryError, MemoryError)
    del x
    assert cp.zeros(4096, cp.uint8).size == 4096  # the pool gives up what it keeps
    with (
        cp.cuda.using_allocator(None),
        pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorMemoryAllocation"),
    ):
        cp.zeros(8192, cp.uint8)


def test_to_free_memory_is_to_wait(cp: Any, stream: Any) -> None:
    import cupyx

    pool, x, pinned = cp.cuda.MemoryPool(), cp.zeros(100), cupyx.zeros_pinned(100)
    pinned[...] = 1.0
    with cp.cuda.using_allocator(pool.malloc):
        graph, _ = capture(stream, lambda: x.__iadd__(x * 2.0 + 1.0))
    x.set(pinned, stream)
    graph.launch(stream)
    pool.free_all_blocks()
    assert x.get()[0] == 4.0


def test_memory_of_a_pool_that_is_gone(fake: Fake, cp: Any) -> None:
    pool, held = cp.cuda.MemoryPool(), fake.allocated
    with cp.cuda.using_allocator(pool.malloc):
        x, y = cp.empty(100), cp.empty(200)
    del x, pool
    assert fake.allocated == held + 1024 + 2048
    del y
    assert fake.allocated == held + 1024  # what had come back to the pool is lost


# Streams


def test_copies_from_pinned_memory_come_late(fake: Fake, cp: Any, stream: Any) -> None:
    import cupyx

    x, pinned = cp.zeros(2), cupyx.empty_pinned(2)
    pinned[...] = 1.0
    x.set(pinned, stream=stream)
    copied = stream.record()
    assert not copied.done
    assert x.get().tolist() == [0, 0]  # the null stream does not wait
    pinned[...] = 2.0  # too early
    copied.synchronize()
    assert x.get().tolist() == [2, 2]
    x.set(np.full(2, 3.0), stream)  # pageable memory is staged at once
    stream.synchronize()
    assert fake.peek(x).tolist() == [3, 3]


def test_a_stream_waits_for_an_event(cp: Any, stream: Any) -> None:
    import cupyx

    compute, pinned, x = cp.cuda.Stream(non_blocking=True), cupyx.zeros_pinned(2), cp.full(2, -1.0)
    pinned[...] = 1.0
    x.set(pinned, stream=stream)
    with compute:
        wrong = x + 0
        compute.wait_event(stream.record())
        right = x + 0
        pinned[...] = 9.0  # nothing has been synchronised yet
        assert right.get().tolist() == [9, 9]
        assert wrong.get().tolist() == [-1, -1]
    assert cp.cuda.get_current_stream() == cp.cuda.Stream.null


def test_a_graph_waits_for_the_copies_of_its_stream(cp: Any, stream: Any) -> None:
    import cupyx

    x, pinned = cp.zeros(2), cupyx.zeros_pinned(2)
    graph, y = capture(stream, lambda: x * 2)
    pinned[...] = 4.0
    x.set(pinned, stream)
    graph.launch(stream)
    cp.cuda.Device().synchronize()
    assert y.get().tolist() == [8, 8]


def test_null_stream_is_late_when_asked(fake: Fake, cp: Any, stream: Any) -> None:
    fake.lazy_null = True
    x = cp.asarray(np.ones(2))
    with stream:
        early = x + 0
        assert not (early.get() == 1.0).all()
    assert (x + 0).tolist() == [1, 1]


# Kernels


def test_raw_kernel(cp: Any) -> None:
    kernel = cp.ElementwiseKernel(
        "raw float32 x, raw int64 rows, float32 scale, int32 columns",
        "raw float32 y",
        "y[i] = half(x[rows[i / columns] * columns + i % columns]) * scale;",
        "gather",
        preamble="__device__ inline float half(float v) { return v * 0.5f; }",
        options=("--fmad=false",),
    )
    host = np.arange(12, dtype=np.float32).reshape(4, 3)
    x, rows, y = cp.asarray(host), cp.asarray([3, 0]), cp.zeros((3, 2), cp.float32).T  # out, which is not contiguous
    kernel(x, rows, 4.0, 3, y, size=6)
    np.testing.assert_array_equal(y.get(), host[[3, 0]] * 2)
    assert kernel(x, rows, 4.0, 3, size=6).shape == (6,)
    with pytest.raises(TypeError, match="Type is mismatched"):
        kernel(x.astype(cp.float64), rows, 4.0, 3, y, size=6)
    with pytest.raises(ValueError, match="Loop size is undecided"):
        kernel(x, rows, 4.0, 3, y)
    with pytest.raises(TypeError, match="Wrong number of arguments"):
        kernel(x, size=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_broadcast_kernel_agrees_with_numpy(cp: Any, dtype: str) -> None:
    kernel = cp.ElementwiseKernel(
        "T x, T b, bool on",
        "T y, int8 finite",
        "T v = max(x, b); y = on ? tanh(v) + (T)sqrt(fabs(x)) : min(x, b); finite = isfinite(x) && !isnan(x);",
        "both",
    )
    rng = np.random.default_rng(0)
    x, b = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal(3).astype(dtype)
    x[0, 0] = np.nan
    y, finite = kernel(cp.asarray(x), cp.asarray(b), True)
    np.testing.assert_allclose(y.get(), np.tanh(np.fmax(x, b)) + np.sqrt(np.abs(x)), rtol=1e-6, equal_nan=True)
    assert finite.get().tolist() == np.isfinite(x).astype(int).tolist()
    np.testing.assert_array_equal(kernel(cp.asarray(x), cp.asarray(b), False)[0].get(), np.fmin(x, b))


def test_kernels_are_captured(cp: Any, stream: Any) -> None:
    kernel = cp.ElementwiseKernel("raw int32 step", "raw int32 y", "if (i == 1) return; y[i] += step[0] * (int)i;", "k")
    step, y = cp.ones(1, cp.int32), cp.zeros(3, cp.int32)
    graph, _ = capture(stream, lambda: kernel(step, y, size=3))
    assert y.tolist() == [0, 0, 0]
    step[...] = 10
    graph.launch(stream)
    graph.launch(stream)
    stream.synchronize()
    assert y.tolist() == [0, 0, 40]


def test_faults_in_kernels(cp: Any) -> None:
    y = cp.zeros(3)
    with pytest.raises(cp.cuda.compiler.CompileException, match="undeclared"):
        cp.ElementwiseKernel("", "raw T y", "y[i] = undeclared;")(y, size=3)
    with pytest.raises(cp.cuda.compiler.CompileException):
        cp.ElementwiseKernel("raw T x", "raw T y", "x[i] = 1;")(y, y, size=3)
    with pytest.raises(ValueError, match="Can not use 'i'"):
        cp.ElementwiseKernel("T i", "T y", "")


def test_elements_that_depend_on_each_other_are_found(fake: Fake, cp: Any) -> None:
    with pytest.raises(AssertionError, match="depend on their order"):
        cp.ElementwiseKernel("", "raw T y", "y[i] = i ? y[i - 1] + 1 : 1;")(cp.zeros(3), size=3)


@pytest.mark.parametrize(("dtype", "p"), [(np.float32, "f"), (np.float64, "d")])
def test_products_and_sums_are_merged(cp: Any, dtype: Any, p: str) -> None:
    """Into an operation that rounds once, where the kernel does not say otherwise: the results are others."""
    x = cp.asarray(np.array([1 + np.finfo(dtype).eps, 3], dtype))
    square = x * x
    merges = cp.ElementwiseKernel("T x, T square", "T rest", "T y = x * x; rest = y - square;", "merges")
    apart = cp.ElementwiseKernel("T x, T square", "T rest", f"T y = __{p}mul_rn(x, x); rest = y - square;", "apart")
    assert apart(x, square).tolist() == [0, 0]
    # g++ merges them where the processor has such an operation
    merging = not hasattr(cp.ndarray, "fake") or b"__FP_FAST_FMAF " in compiler.identity()
    assert merges(x, square).tolist() == [float(np.finfo(dtype).eps) ** 2 if merging else 0, 0]


def test_a_kernel_is_compiled_once_for_all_processes(
    fake: Fake, cp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "CACHE", tmp_path)
    monkeypatch.setattr(compiler, "_libraries", {})
    compiler.identity()
    commands: list[Any] = []
    run = subprocess.run

    def count(command: Any, **options: Any) -> Any:
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", count)
    for _ in range(2):
        for factor in (2.0, 2.0, 3.0):
            kernel = cp.ElementwiseKernel("T x", "T y", f"y = {factor} * x;", "scaled")
            assert kernel(cp.ones(1)).tolist() == [factor]
        compiler._libraries.clear()  # as another process has it
    assert len(commands) == 2
    assert len(list(tmp_path.iterdir())) == 2


# cuBLAS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
def test_gemm(fake: Fake, cp: Any, ta: int, tb: int, dtype: Any) -> None:
    m, n, k, ld = 3, 4, 5, 7
    rng = np.random.default_rng(0)
    shapes = [(k, m) if ta else (m, k), (n, k) if tb else (k, n), (m, n)]
    hosts = [rng.standard_normal((columns, ld)).astype(dtype) for _, columns in shapes]  # columns that lie apart
    a, b, c = (cp.asarray(host) for host in hosts)
    left, right, old = (host[:, :rows].T for host, (rows, _) in zip(hosts, shapes, strict=True))
    expected = 2.0 * (left.T if ta else left) @ (right.T if tb else right) - old
    scalar = ctypes.c_float if dtype is np.float32 else ctypes.c_double
    alpha, beta = scalar(2.0), scalar(-1.0)
    handle, cublas = ctypes.c_void_p(), fake.cublas
    assert cublas.cublasCreate_v2(ctypes.byref(handle)) == 0
    cublas.cublasGemmEx.argtypes = [
        ctypes.c_void_p, *[ctypes.c_int] * 5, *[ctypes.c_void_p] * 2, *[ctypes.c_int] * 2,
        ctypes.c_void_p, *[ctypes.c_int] * 2, *[ctypes.c_void_p] * 2, *[ctypes.c_int] * 4,
    ]  # fmt: skip
    kind, compute = (0, 68) if dtype is np.float32 else (1, 70)

    def gemm(lda: int = ld, compute: int = compute, a_type: int = kind) -> int:
        at_alpha, at_beta = ctypes.addressof(alpha), ctypes.addressof(beta)
        return int(
            cublas.cublasGemmEx(
                *(handle, ta, tb, m, n, k, at_alpha, a.data.ptr, a_type, lda, b.data.ptr, kind, ld),
                *(at_beta, c.data.ptr, kind, ld, compute, -1),
            )
        )

    assert gemm() == 0
    np.testing.assert_allclose(c.get()[:, :m].T, expected, rtol=1e-5)
    np.testing.assert_array_equal(c.get()[:, m:], hosts[2][:, m:])
    assert gemm(lda=(k if ta else m) - 1) == 7
    assert gemm(compute=70 - kind) == 15
    assert gemm(a_type=1 - kind) == 15
    if dtype is np.float32:
        c.set(hosts[2])
        assert gemm(compute=77) == 0
        error = np.abs(c.get()[:, :m].T - expected).max()
        assert 1e-5 < error < 1e-2
    cublas.status["cublasGemmEx"] = 13
    assert gemm() == 13
    assert cublas.cublasDestroy_v2(handle) == 0
    assert cublas.cublasDestroy_v2(handle) == 1


def test_gemm_in_capture(fake: Fake, cp: Any, stream: Any) -> None:
    from cuda import pathfinder

    cublas: Any = ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
    assert cublas is fake.cublas
    a = cp.asarray(np.eye(2, dtype=np.float32))
    out, handle, workspace = cp.zeros((2, 2), cp.float32), ctypes.c_void_p(), cp.cuda.alloc(1024)
    alpha, beta = ctypes.c_float(1.0), ctypes.c_float(0.0)
    pointer = ctypes.c_void_p
    assert cublas.cublasCreate_v2(ctypes.byref(handle)) == 0

    def gemm(scale: Any = alpha) -> int:
        addresses = [pointer(x) for x in (ctypes.addressof(scale), ctypes.addressof(beta), a.data.ptr, out.data.ptr)]
        s, zero, x, y = addresses
        return int(cublas.cublasGemmEx(handle, 0, 0, 2, 2, 2, s, x, 0, 2, x, 0, 2, zero, y, 0, 2, 68, -1))

    with pytest.raises(OverflowError, match="set argtypes"):
        cublas.cublasSetWorkspace_v2(handle, 2**47, 1024)  # a GPU's addresses are large; the stand-in's need not be
    assert cublas.cublasSetWorkspace_v2(handle, pointer(workspace.ptr), ctypes.c_size_t(1024)) == 0
    assert cublas.cublasSetStream_v2(handle, pointer(stream.ptr)) == 0  # forgets the workspace
    assert capture(stream, gemm)[1] == 14
    assert fake.count["captured without workspace"] == 1
    assert cublas.cublasSetWorkspace_v2(handle, pointer(workspace.ptr), ctypes.c_size_t(1024)) == 0
    graph, status = capture(stream, gemm)
    assert status == 0
    alpha.value = 100.0  # read when gemm was called
    assert out.get().sum() == 0
    a *= 3.0
    graph.launch(stream)
    assert out.get(stream).tolist() == [[9, 0], [0, 9]]
    other = cp.cuda.Stream(non_blocking=True)
    assert cublas.cublasSetStream_v2(handle, pointer(other.ptr)) == 0
    graph, status = capture(stream, gemm)  # bound to a stream that does not capture
    assert (status, out.get(other)[0, 0], graph.debug_dot_str().count("shape=")) == (0, 900, 0)


def test_nothing_stays_behind() -> None:
    def there() -> list[Any]:
        names = ["cupy", "cupyx", "cupy.cuda", "array_api_compat.cupy", "array_api_compat.cupy._aliases"]
        return [*map(sys.modules.get, names), getattr(array_api_compat, "cupy", None), ctypes.CDLL]

    before = there()
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        import array_api_compat.cupy as xp

        assert xp.ones(2).shape == (2,)
        assert all(one is not other for one, other in zip(there(), before, strict=True))
    gc.collect()
    assert all(one is other for one, other in zip(there(), before, strict=True))
