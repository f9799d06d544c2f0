"""Matrix products through cuBLAS: what is passed for which arrays, on a cuBLAS that computes with NumPy."""

import gc
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests import fake_cupy
from xpnet.backend import select
from xpnet.backend.cupy.gemm import operand

SHAPES = [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (1, 4, 1), (1, 1, 5), (7, 7, 7), (64, 78, 32)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> fake_cupy.Fake:
    return fake_cupy.install(monkeypatch)


def as_it_is(host: np.ndarray, move: Callable[[np.ndarray], Any]) -> Any:
    return move(host)


def transposed(host: np.ndarray, move: Callable[[np.ndarray], Any]) -> Any:
    return move(np.ascontiguousarray(host.T)).T


def part_of_rows(host: np.ndarray, move: Callable[[np.ndarray], Any]) -> Any:
    return move(np.pad(host, ((0, 0), (1, 2))))[:, 1:-2]


def part_of_columns(host: np.ndarray, move: Callable[[np.ndarray], Any]) -> Any:
    return move(np.ascontiguousarray(np.pad(host, ((2, 1), (0, 0))).T)).T[2:-1, :]


def every_other(host: np.ndarray, move: Callable[[np.ndarray], Any]) -> Any:
    return move(np.repeat(np.repeat(host, 2, axis=0), 2, axis=1))[::2, ::2]


def backwards(host: np.ndarray, move: Callable[[np.ndarray], Any]) -> Any:
    return move(np.ascontiguousarray(host[::-1]))[::-1]


LAYOUTS = [as_it_is, transposed, part_of_rows, part_of_columns, every_other, backwards]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_all_layouts(fake: fake_cupy.Fake, shape: tuple[int, int, int], dtype: str) -> None:
    m, k, n = shape
    rng = np.random.default_rng(0)
    cuda = select("cuda")
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    for layout_a, layout_b in itertools.product(LAYOUTS, LAYOUTS):
        before = fake.count["gemm"]
        product = cuda.xp.matmul(layout_a(a, cuda.to_device), layout_b(b, cuda.to_device))
        assert fake.count["gemm"] == before + 1
        assert product.dtype == dtype
        names = f"{layout_a.__name__} times {layout_b.__name__}"
        np.testing.assert_allclose(cuda.to_host(product), a @ b, rtol=1e-5, atol=1e-5, err_msg=names)


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((3, 4), (4, 1), (0, 4)),
        ((3, 4), (1, 3), (1, 3)),
        ((3, 4), (9, 1), (0, 9)),
        ((3, 4), (1, 8), (1, 8)),
        ((3, 1), (5, 7), (0, 5)),
        ((1, 4), (4, 1), (0, 4)),
        ((1, 4), (7, 6), (1, 6)),
        ((3, 4), (8, 2), None),
        ((3, 4), (-4, 1), None),
        ((3, 4), (0, 1), None),
    ],
)
def test_operand(shape: tuple[int, int], strides: tuple[int, int], expected: Any) -> None:
    assert operand(shape, strides) == expected


def test_what_is_no_product_of_matrices_is_left_to_cupy(fake: fake_cupy.Fake) -> None:
    cuda = select("cuda")
    before = fake.count["gemm"]
    for a, b in (
        (np.ones((2, 3, 4)), np.ones((2, 4, 5))),
        (np.ones((3, 4)), np.ones(4)),
        (np.ones((3, 4), np.int64), np.ones((4, 5), np.int64)),
        (np.ones((3, 0)), np.ones((0, 5))),
        (np.ones((3, 4), np.float32), np.ones((4, 5))),
    ):
        product = cuda.to_host(cuda.xp.matmul(cuda.to_device(a), cuda.to_device(b)))
        np.testing.assert_array_equal(product, np.matmul(a, b))
    with pytest.raises(ValueError, match="mismatch"):
        cuda.xp.matmul(cuda.to_device(np.ones((3, 4))), cuda.to_device(np.ones((3, 4))))
    assert fake.count["gemm"] == before


def test_float32_is_exact_unless_tf32_is_asked_for(fake: fake_cupy.Fake) -> None:
    host = np.full((1, 1), 1 + 2.0**-20, np.float32)
    for tf32, expected in ((False, 1 + 2.0**-19 + 2.0**-40), (True, 1.0)):
        cuda = select("cuda", tf32=tf32)
        product = cuda.to_host(cuda.xp.matmul(cuda.to_device(host), cuda.to_device(host)))
        assert product[0, 0] == np.float32(expected)
        double = cuda.to_device(host.astype(np.float64))
        assert cuda.to_host(cuda.xp.matmul(double, double))[0, 0] == (1 + 2.0**-20) ** 2


def test_failures_are_told(fake: fake_cupy.Fake) -> None:
    cuda = select("cuda")
    x = cuda.to_device(np.ones((2, 3)))
    y = cuda.to_device(np.ones((3, 4)))
    fake.cublas.status["cublasGemmEx"] = 13
    with pytest.raises(RuntimeError, match=r"^cuBLAS: the product of \(2, 3\) and \(3, 4\): execution failed \(13\)$"):
        cuda.xp.matmul(x, y)
    fake.cublas.status["cublasGemmEx"] = 99
    with pytest.raises(RuntimeError, match=r"status \(99\)$"):
        cuda.xp.matmul(x, y)


def test_every_stream_is_given_the_workspace(fake: fake_cupy.Fake) -> None:
    """Without it, cuBLAS would allocate within a captured graph; setting the stream takes it away."""
    cuda = select("cuda")
    x = cuda.to_device(np.eye(3))
    other = fake.cupy.cuda.Stream(non_blocking=True)
    before = fake.count["cublasSetWorkspace_v2"]
    cuda.synchronize()
    for _ in range(2):
        with other:
            product = cuda.xp.matmul(x, x)
        other.synchronize()
        np.testing.assert_array_equal(cuda.to_host(product), np.eye(3))
    assert fake.count["cublasSetWorkspace_v2"] == before + 1


def test_a_product_is_not_captured_on_a_stream_that_is_not_bound(fake: fake_cupy.Fake) -> None:
    cuda = select("cuda")
    x = cuda.to_device(np.eye(3))
    cuda.synchronize()
    stream = fake.cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="captured on a stream where none has run before"):
            cuda.xp.matmul(x, x)
        stream.end_capture()


def test_a_handle_goes_with_its_backend(fake: fake_cupy.Fake) -> None:
    for _ in range(3):
        select("cuda")
    gc.collect()
    assert fake.count["cublasCreate_v2"] - fake.count["cublasDestroy_v2"] <= 1
