"""Fused functions return and write what the functions do by themselves, to the last bit: random programs, and corners.

On the stand-in, every kernel is compiled by g++: that is what limits how many programs are run.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import fake_cupy
from xpnet.backend import Backend, select
from xpnet.backend.cupy.kernels import Group, Kernel, Node, Store
from xpnet.numerics.augment import Distortion, distort

pytestmark = pytest.mark.cuda

# fmt: off
DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool"]
SHAPES = ["", "n", "1", "n1", "nk", "k", "0", "0k"]
LAYOUTS = ["plain", "transposed", "backwards", "every other"]

BINARY = [
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "equal", "not_equal", "less", "greater_equal",
    "logical_and", "logical_or", "bitwise_and", "bitwise_xor",
]
UNARY = [
    "negative", "abs", "square", "sqrt", "exp", "tanh", "log1p", "expm1", "isnan", "isfinite", "logical_not",
    "positive", "floor",
]
SCALARS: dict[str, list[Any]] = {
    "f": [0.0, 1.0, -1.5, 2.0**-24, 3, -1, math.inf, math.nan, True],
    "i": [0, 1, 3, -1, 0.5, 0x7FEB352D, True],
    "u": [0, 1, 3, 255, 0.5],
    "b": [0, 1, 2.5, True],
}
REDUCTIONS = ["sum", "max", "argmax"]
AXES = [1, -1, 1, 0, None]
OPERATIONS = [
    "binary", "binary", "scalar", "scalar", "unary", "where", "where_scalar", "astype", "take", "reduce", "reduce",
    "short", "matmul", "reshape", "newaxis", "create", "arange", "remainder", "shift", "slice", "augment",
    "augment", "augment", "augment_scalar", "operator",
]
# fmt: on


@dataclasses.dataclass(frozen=True)
class Program:
    """What a random function does, for any arrays: each operation says how, and on which values made so far.

    n, k : sizes of the arguments, each of which is a dtype, a shape in these letters, and a layout in memory.
    """

    n: int
    k: int
    arguments: tuple[tuple[str, str, str], ...]
    operations: tuple[tuple[str, int, int, int], ...]

    def hosts(self) -> list[np.ndarray]:
        """The arguments, from a generator of their own, with what is special among numbers."""
        rng = np.random.default_rng(len(self.operations))
        return [self._host(rng, dtype, shape) for dtype, shape, _ in self.arguments]

    def moved(self, backend: Backend) -> list[Any]:
        """The arguments on the device, in their layouts."""
        return [move(backend, host, way) for host, (_, _, way) in zip(self.hosts(), self.arguments, strict=True)]

    def _host(self, rng: np.random.Generator, dtype: str, name: str) -> np.ndarray:
        shape = tuple({"n": self.n, "k": self.k}.get(letter, int(letter.isdigit() and letter)) for letter in name)
        if dtype == "bool":
            return rng.random(shape) < 0.5
        if dtype[0] in "iu":
            info = np.iinfo(dtype)
            return np.asarray(rng.choice([info.min, -7, 0, 1, 5, 100, info.max][dtype == "uint8" :], shape)).astype(
                dtype
            )
        special = rng.choice([0.0, 1.0, -1.0, math.inf, -math.inf, math.nan], shape)
        return np.where(rng.random(shape) < 0.1, special, rng.normal(size=shape)).astype(dtype)

    def __call__(self, xp: Any, arguments: list[Any]) -> list[Any]:
        """Do it; what the functions refuse is left out, and is None among the results."""
        run = _Run(self, xp, arguments)
        for operation, *numbers in self.operations:
            try:
                run.results.append(getattr(run, operation)(*numbers))
            except (TypeError, ValueError, IndexError):
                run.results.append(None)
        return [*arguments[::2], *run.results[-5:]]


class _Run:
    """The operations of a program, one a method, on values that numbers choose.

    An array that something else is a view of, or that is one, is not written into: where a function does that, what it
    means is not what it means in every array library.
    """

    def __init__(self, program: Program, xp: Any, arguments: list[Any]) -> None:
        self.program, self.xp, self.arguments = program, xp, arguments
        self.results: list[Any] = []
        self.viewed: list[Any] = []

    def pick(self, i: int) -> Any:
        values = [*self.arguments, *(each for each in self.results if each is not None)]
        return values[i % len(values)]

    def view(self, source: Any, result: Any) -> Any:
        self.viewed += [source, result]
        return result

    def target(self, i: int) -> Any:
        target = self.arguments[i % len(self.arguments)] if i % 4 else self.pick(i)
        if any(target is each for each in self.viewed):
            raise TypeError("viewed")
        return target

    def constant(self, like: Any, s: int) -> Any:
        kind = "b" if like.dtype == self.xp.bool else np.dtype(like.dtype).kind
        return SCALARS[kind][s % len(SCALARS[kind])]

    def exact(self, x: Any) -> Any:
        """Floats the sum and product of which are the same in every order."""
        dtype = x.dtype if np.dtype(x.dtype).kind == "f" else self.xp.float32
        return self.xp.astype(self.xp.where(x > 1, 1.5, 0.25), dtype)

    # Operations

    def binary(self, i: int, j: int, s: int) -> Any:
        return getattr(self.xp, BINARY[s % len(BINARY)])(self.pick(i), self.pick(j))

    def operator(self, i: int, j: int, s: int) -> Any:
        x, y = self.pick(i), self.pick(j)
        return [x + y, x * y, x - y][s % 3] if s % 4 else x < y

    def scalar(self, i: int, j: int, s: int) -> Any:
        x = self.pick(i)
        operands = (x, self.constant(x, s)) if j % 2 else (self.constant(x, s), x)
        return getattr(self.xp, BINARY[j % 6])(*operands) if j % 3 else operands[0] * operands[1]

    def unary(self, i: int, j: int, s: int) -> Any:
        x = self.pick(i)  # CuPy and the stand-in compute integers' functions in other precisions
        x = x if np.dtype(x.dtype).kind == "f" else self.xp.astype(x, self.xp.float32)
        return getattr(self.xp, UNARY[s % len(UNARY)])(x)

    def where(self, i: int, j: int, s: int) -> Any:
        return self.xp.where(self.pick(s) > 0, self.pick(i), self.pick(j))

    def where_scalar(self, i: int, j: int, s: int) -> Any:
        x = self.pick(j)
        return self.xp.where(self.pick(i) > 0, x, self.constant(x, s))

    def astype(self, i: int, j: int, s: int) -> Any:
        x, dtype = self.pick(i), DTYPES[s % len(DTYPES)]
        if dtype[0] in "iu" and np.dtype(x.dtype).kind == "f":  # C leaves open what becomes of other floats
            x = self.xp.where(self.xp.abs(x) < 100, self.xp.abs(x), 3.0)
        return self.xp.astype(x, getattr(self.xp, dtype))

    def take(self, i: int, j: int, s: int) -> Any:
        rows = self.pick(j)
        if rows.ndim != 1 or np.dtype(rows.dtype).kind == "f":
            rows = self.xp.arange(s, s + 4, dtype=self.xp.int32)
        table = self.pick(i)
        if not table.ndim or not table.size:
            raise ValueError("nothing to take")
        return self.xp.take(table, self.xp.astype(rows, self.xp.int64) - s, axis=0)

    def reduce(self, i: int, j: int, s: int) -> Any:
        x, axis, name = self.pick(i), AXES[j % len(AXES)], REDUCTIONS[s % 3]
        short = x.ndim == 2 and axis in (1, -1) and x.shape[1] <= 32
        x = self.exact(x) if name == "sum" and not short else x
        return getattr(self.xp, name)(x, axis=axis, keepdims=s % 2 == 0)

    def short(self, i: int, j: int, s: int) -> Any:
        """A sum within the elements of what follows, as in softmax."""
        x = self.pick(i)
        x = x if x.ndim == 2 else self.xp.astype(self.xp.reshape(x, (-1, 1)), self.xp.float32)
        return x - getattr(self.xp, REDUCTIONS[s % 2])(x, axis=1, keepdims=True)

    def matmul(self, i: int, j: int, s: int) -> Any:
        x, y = self.exact(self.pick(i)), self.exact(self.pick(j))
        return self.xp.matmul(x, self.xp.astype(y.T if s % 2 else y, x.dtype))

    def reshape(self, i: int, j: int, s: int) -> Any:
        x = self.pick(i)
        return self.view(x, self.xp.reshape(x, ((-1,), (1, x.size), (x.size, 1))[s % 3]))

    def newaxis(self, i: int, j: int, s: int) -> Any:
        x = self.pick(i)
        return self.view(x, x[:, None] if s % 2 and x.ndim == 1 else x[None, :])

    def slice(self, i: int, j: int, s: int) -> Any:
        x = self.pick(i)
        return self.view(x, x[:1] if s % 2 else x[..., 1:])

    def create(self, i: int, j: int, s: int) -> Any:
        x = self.pick(i)
        values: list[Any] = [0, 1, 2, True]
        made = self.xp.full(x.shape, values[j % 4], dtype=getattr(self.xp, DTYPES[s % len(DTYPES)]))
        return made if j % 3 else self.xp.zeros_like(x)

    def arange(self, i: int, j: int, s: int) -> Any:
        return self.xp.arange(j, j + self.program.n, dtype=self.xp.int64 if s % 2 else self.xp.int32)

    def remainder(self, i: int, j: int, s: int) -> Any:
        x = self.pick(i)
        return x % ([3, 7, 1, 100][s % 4] * (-1 if j % 2 and np.dtype(x.dtype).kind == "i" else 1))

    def shift(self, i: int, j: int, s: int) -> Any:
        return self.pick(i) >> s % 8 if j % 2 else self.pick(i) << s % 8

    def augment(self, i: int, j: int, s: int) -> Any:
        x = self.target(i)
        if s % 3 == 0:
            x += self.pick(j)
        elif s % 3 == 1:
            x -= self.pick(j)
        else:
            x *= self.pick(j)
        return None

    def augment_scalar(self, i: int, j: int, s: int) -> Any:
        x = self.target(i)
        constant = self.constant(x, s)
        if constant is True:  # the stand-in refuses it
            return None
        if j % 2:
            x *= constant
        else:
            x += constant
        return None


NUMBERS = st.integers(0, 23)
PROGRAMS = st.builds(
    Program,
    st.sampled_from([1, 2, 5]),
    st.sampled_from([1, 3, 10, 40]),
    st.lists(
        st.tuples(st.sampled_from(DTYPES), st.sampled_from(SHAPES), st.sampled_from(LAYOUTS)), min_size=1, max_size=5
    ).map(tuple),
    st.lists(st.tuples(st.sampled_from(OPERATIONS), NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=14).map(tuple),
)


def move(backend: Backend, host: np.ndarray, way: str = "plain") -> Any:
    """A host array on the device, of a layout."""
    if way == "transposed":
        return backend.to_device(np.ascontiguousarray(host.T)).T
    if way == "backwards" and host.ndim:
        return backend.to_device(np.ascontiguousarray(host[::-1]))[::-1]
    if way == "every other" and host.ndim:
        return backend.to_device(np.repeat(host, 2, axis=-1))[..., ::2]
    return backend.to_device(host)


def assert_same(one: np.ndarray, other: np.ndarray, what: str) -> None:
    """The same dtype, shape and bits, but for those of NaNs."""
    assert (one.dtype, one.shape) == (other.dtype, other.shape), what
    if one.dtype.kind == "f":
        one, other = (np.where(np.isnan(each), np.nan, each).astype(each.dtype) for each in (one, other))
    if one.tobytes() != other.tobytes():
        np.testing.assert_array_equal(one, other, err_msg=what)
        raise AssertionError(f"{what}: {one} and {other} differ in the signs of zeros")


def assert_fuses(backend: Backend, function: Callable[..., Any], *hosts: Any) -> Any:
    """Call a function on host arrays, fused and not, which must return and write the same; returns the results."""

    def numpy(tree: Any) -> list[np.ndarray | None]:
        return [None if leaf is None else backend.to_host(leaf) for leaf in tree]

    outcomes = []
    for called in (function, backend.fuse(function)):
        arguments = [move(backend, np.asarray(host)) for host in hosts]
        results = called(*arguments)
        results = results if isinstance(results, list | tuple) else [results]
        outcomes.append((numpy(results), numpy(arguments)))
    (results, written), (fused_results, fused_written) = outcomes
    for kind, ones, others in (("result", results, fused_results), ("argument", written, fused_written)):
        for i, (one, other) in enumerate(zip(ones, others, strict=True)):
            assert (one is None) == (other is None), f"{kind} {i}"
            if one is not None and other is not None:
                assert_same(one, other, f"{kind} {i}")
    return fused_results


def check(program: Program) -> None:
    backend = select("cuda")
    outcomes = []
    for fused in (False, True):
        arguments = program.moved(backend)

        def function(*arguments: Any) -> list[Any]:
            return program(backend.xp, list(arguments))

        results = (backend.fuse(function) if fused else function)(*arguments)
        places: list[int | None] = [
            next((i for i, a in enumerate(arguments) if a is result), None) for result in results
        ]
        outcomes.append((places, [None if r is None else backend.to_host(r) for r in (*results, *arguments)]))
    (places, plain), (fused_places, with_fusing) = outcomes
    assert places == fused_places, "which results are arguments"
    for i, (one, other) in enumerate(zip(plain, with_fusing, strict=True)):
        assert (one is None) == (other is None), f"value {i}"
        if one is not None and other is not None:
            assert_same(one, other, f"value {i}")


@settings(max_examples=40, derandomize=True)  # so that the kernels are those of the last run, which the stand-in keeps
@given(program=PROGRAMS)
def test_programs(program: Program) -> None:
    check(program)


# Corners


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> fake_cupy.Fake:
    return fake_cupy.install(monkeypatch)


X = np.arange(6, dtype=np.float32) - 2
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan])


def kernels(fake: fake_cupy.Fake) -> int:
    """How many of the fused ones have been launched."""
    return sum(count for name, count in fake.count.items() if name.startswith("xpnet_"))


def test_how_many_kernels_there_are(fake: fake_cupy.Fake) -> None:
    cuda = select("cuda")
    xp = cuda.xp

    def chain(x: Any, y: Any) -> Any:
        return xp.tanh(x * 2.0 + y) / (1.0 + xp.exp(-y)), xp.sqrt(xp.abs(x))

    def softmax(x: Any) -> Any:
        shifted = xp.exp(x - xp.max(x, axis=1, keepdims=True))
        return shifted / xp.sum(shifted, axis=1, keepdims=True)

    def layer(x: Any, y: Any) -> Any:
        return xp.maximum(xp.matmul(x + 1.0, y * 2.0) + 1.0, 0.0)

    def update(*arrays: Any) -> Any:
        for i in range(len(arrays)):
            arrays[i].__isub__(0.5 * arrays[i])
        return arrays

    def nothing(x: Any) -> Any:
        return x

    rows, square = np.outer(X, X), np.ones((3, 3))
    cases: list[tuple[Callable[..., Any], tuple[np.ndarray, ...], int]] = [
        (chain, (X, X), 1),
        (softmax, (rows,), 1),
        (layer, (square, square), 2),
        (update, (X, rows, square), 1),
        (nothing, (X,), 0),
    ]
    for function, hosts, expected in cases:
        before = kernels(fake)
        cuda.fuse(function)(*map(cuda.to_device, hosts))
        assert kernels(fake) - before == expected, function.__name__
        assert_fuses(cuda, function, *hosts)


def test_the_same_kernel_is_compiled_once(fake: fake_cupy.Fake) -> None:
    cuda = select("cuda")
    fused = cuda.fuse(lambda x: x * 2.0 + 1.0)
    for host in (X, X, X + 1):
        fused(cuda.to_device(host))
    assert len(cuda._fusion._kernels) == 1  # type: ignore[attr-defined]


def test_nested() -> None:
    cuda = select("cuda")

    @cuda.fuse
    def inner(x: Any, y: Any) -> Any:
        x += y
        return x * y, [x]

    @cuda.fuse
    def outer(x: Any, y: Any) -> Any:
        y *= 2.0
        product, (same,) = inner(x, y)
        assert same is x
        return product, inner(y, product)[0]

    def plainly(x: Any, y: Any) -> Any:
        y *= 2.0
        x += y
        product = x * y
        y += product
        return product, y * product

    x, y = cuda.to_device(X), cuda.to_device(X + 1)
    plain_x, plain_y = cuda.to_device(X), cuda.to_device(X + 1)
    for one, other in zip([*outer(x, y), x, y], [*plainly(plain_x, plain_y), plain_x, plain_y], strict=True):
        assert_same(cuda.to_host(one), cuda.to_host(other), "nested")


def test_a_function_that_fails_leaves_nothing_behind() -> None:
    cuda = select("cuda")

    def fails(x: Any) -> None:
        x += 1.0
        raise ZeroDivisionError

    x = cuda.to_device(X)
    with pytest.raises(ZeroDivisionError):
        cuda.fuse(fails)(x)
    assert_same(cuda.to_host(x), X, "the argument")
    assert isinstance(cuda.xp.exp(x), type(x))  # nothing is deferred any more
    assert_fuses(cuda, lambda x: x + 1.0, X)


def test_more_arrays_than_a_kernel_takes() -> None:
    """A kernel's arguments are 4 kB at most, and an array of one dimension takes 32 bytes of them."""
    cuda = select("cuda")
    most: list[int] = []
    launch = Kernel.source

    def source(self: Kernel) -> tuple[str, str, str]:
        most.append(self.arrays)
        return launch(self)

    def total(*arrays: Any) -> Any:
        found = arrays[0]
        for each in arrays[1:]:
            found = found + each
        return found

    def add_up(*arrays: Any) -> Any:
        """A tree of sums, and every array written."""
        level = list(arrays)
        while len(level) > 1:
            level = [sum(level[i + 1 : i + 2], level[i]) for i in range(0, len(level), 2)]
        for i in range(len(arrays)):
            arrays[i].__imul__(level[0][:1])
        return level[0]

    hosts = [np.full(3, float(i)) for i in range(150)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "source", source)
        for function in (total, add_up):
            assert_fuses(cuda, function, *hosts)
    assert max(most) * 32 < 4096 - 512


def test_deep_expressions() -> None:
    cuda = select("cuda")

    def function(x: Any) -> Any:
        for _ in range(1500):
            x = x + 1.0
        return x

    assert_fuses(cuda, function, X)


def test_astype_makes_an_array_of_its_own() -> None:
    cuda = select("cuda")
    xp = cuda.xp

    def function(x: Any) -> Any:
        before = xp.astype(x, xp.float32)
        x += 1.0
        return before, x, xp.astype(x, xp.float32, copy=False)

    assert_fuses(cuda, function, X)
    x = cuda.to_device(X)
    copied = cuda.fuse(lambda x: xp.astype(x, xp.float32))(x)
    copied += 1.0
    assert_same(cuda.to_host(x), X, "the argument")


def test_what_is_read_in_another_order_than_it_is_written() -> None:
    cuda = select("cuda")

    def transposes(x: Any, y: Any) -> Any:
        x += x.T
        y += x[::-1, :]
        return x

    def turns(x: Any) -> Any:
        x -= 2.0 * x[::-1]
        return x

    assert_fuses(cuda, transposes, np.arange(49.0).reshape(7, 7), np.arange(49.0).reshape(7, 7))
    assert_fuses(cuda, turns, X)


def test_bits_of_another_dtype() -> None:
    cuda = select("cuda")
    xp = cuda.xp
    assert_fuses(cuda, lambda x: x + xp.astype(x.view(np.int32), xp.float32), X)


def test_arguments_that_read_each_other() -> None:
    cuda = select("cuda")

    def around(x: Any, y: Any, z: Any) -> Any:
        x += y
        y -= z
        z *= x
        x += z[::-1]
        return x, y * z

    def swap(x: Any, y: Any) -> Any:
        x += y
        y -= x
        y *= -1.0
        x -= y
        return y, x

    assert_fuses(cuda, around, X, X + 1, X + 2)
    assert_fuses(cuda, swap, X, X + 1)
    x = cuda.to_device(X)
    (result,) = cuda.fuse(lambda x, same: [x.__iadd__(same)])(x, x)
    assert result is x
    assert_same(cuda.to_host(x), 2 * X, "an argument that is passed twice")


def test_special_numbers() -> None:
    cuda = select("cuda")
    xp = cuda.xp
    grid = np.stack(np.meshgrid(SPECIAL, SPECIAL, SPECIAL), -1).reshape(-1, 3)
    everything = ["max", "argmax", "sum"]
    for dtype in (np.float32, np.float64):
        cases = grid.astype(dtype)

        def reductions(x: Any) -> Any:
            return [getattr(xp, name)(x, axis=axis) for name in everything for axis in (1, -1)]

        def elementwise(x: Any) -> Any:
            y, z = x[:, :1], x[:, 1:]
            pairs = [xp.maximum, xp.minimum, xp.equal, xp.less, xp.greater_equal, xp.multiply, xp.divide]
            return [f(y, z) for f in pairs] + [f(x) for f in (xp.isnan, xp.isfinite, xp.abs, xp.sqrt, xp.negative)]

        # CuPy does not say which zero is the largest, nor, on a real GPU, which of two NaNs.
        told = cases[np.isnan(cases).sum(axis=1) < 2] + 0
        maxima, *_ = assert_fuses(cuda, reductions, told)
        assert np.isnan(maxima[np.isnan(told).any(axis=1)]).all()
        assert_fuses(cuda, elementwise, cases)
    literals = (math.inf, -math.inf, math.nan, -0.0, 5e-324, 1e308, 1e-45, 2**53 + 1)
    assert_fuses(cuda, lambda x: [x * value for value in literals], SPECIAL)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integers(dtype: str) -> None:
    """They wrap around; a remainder has the sign of the divisor, however large that is, and is 0 if that is 0."""
    cuda = select("cuda")
    xp, info = cuda.xp, np.iinfo(dtype)
    signed = dtype[0] == "i"
    divisors = [1, 3, info.max, 0, *([-3, info.min] if signed else [])]  # by -1, the smallest stops the stand-in

    def function(x: Any) -> Any:
        results = [x + x, x - 3, x * x, x * info.max, 1 - x, x >> 2, x << 3, ~x, x & 6, x | 1, x ^ x, abs(x), -x]
        return results + [x % divisor for divisor in divisors] + [xp.square(x), x > 3, x == info.max]

    assert_fuses(cuda, function, np.array([info.min, info.min + 1, 0, 1, 2, 5, 100, info.max], dtype))


def test_mixed_dtypes() -> None:
    cuda = select("cuda")
    xp = cuda.xp
    dtypes = ["bool", "uint8", "int32", "int64", "float32", "float64"]

    def function(*arrays: Any) -> Any:
        pairs = [(x, y) for x in arrays for y in arrays]
        return [x * y for x, y in pairs] + [xp.where(x > 0, x, y) for x, y in pairs]

    assert_fuses(cuda, function, *(np.array([0, 1, 1]).astype(dtype) for dtype in dtypes))


def test_float16_is_left_to_cupy() -> None:
    cuda = select("cuda")
    xp = cuda.xp

    def function(x: Any, y: Any) -> Any:
        half = x / 3
        y += half
        return half, y + half, xp.where(half > 0, half, half), xp.astype(half, xp.float32), xp.sqrt(half) * 2.0

    assert_fuses(cuda, function, X.astype(np.float16), X)


def test_what_is_no_index_is_refused() -> None:
    cuda = select("cuda")
    for function in (lambda x: x[:, :1], lambda x: x[0, None, 0]):
        with pytest.raises(IndexError):
            cuda.fuse(function)(cuda.to_device(X))


def test_ranges_and_empty_arrays() -> None:
    cuda = select("cuda")
    xp = cuda.xp

    def function(x: Any) -> Any:
        made = [xp.arange(3.5, dtype=xp.int64), xp.arange(5, 2, dtype=xp.int32), xp.arange(-2, 3, dtype=xp.int32) * 2]
        return [*made, xp.sum(x, axis=1), xp.zeros((0, 3), dtype=xp.float32) + x[:0, :], x * 2.0]

    assert_fuses(cuda, function, np.zeros((0, 3), np.float32))
    assert_fuses(cuda, function, np.ones((2, 3), np.float32))


def test_tables_that_an_int_cannot_index() -> None:
    """3 million rows of 784 pixels, gathered: positions in the table are 64 bits wide, others are not."""

    class Lying:
        """What a kernel's code is written from, without the memory."""

        def __init__(self, shape: tuple[int, ...], dtype: str, ptr: int) -> None:
            self.shape, self.dtype, self.itemsize = shape, np.dtype(dtype), np.dtype(dtype).itemsize
            self.strides = tuple(self.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))
            self.data = type("Pointer", (), {"ptr": ptr})
            self.flags = type("Flags", (), {"c_contiguous": True})

        def reshape(self, _: int) -> "Lying":
            return self

    def leaf(*of: Any) -> Node:
        node = Node("array", of[1], of[0])
        node.array = Lying(*of)
        return node

    n, width, batch = 3_000_000, 784, 64
    table, rows = leaf((n, width), "uint8", 2**40), leaf((batch,), "int64", 2**41)
    gathered = Node("take", "uint8", (batch, width), (table, rows))
    kernel = Kernel()
    kernel.add(Group(Store(Lying((batch, width), "uint8", 2**42), gathered)))
    _, _, code = kernel.source()
    lines = code.splitlines()
    (row,) = (line for line in lines if "% 3000000LL" in line)
    (position,) = (line for line in lines if "* 784 +" in line)
    assert row.startswith("const long long ")
    assert position.startswith("const long long ")
    assert "const int j = i - 0;" in code

    image = Node("operation", "uint8", (n, width), (table, leaf((width,), "uint8", 2**43)), "{0} + {1}")
    kernel = Kernel()
    kernel.add(Group(Store(Lying((n, width), "uint8", 2**44), image)))
    _, _, code = kernel.source()
    assert "const long long j = i - 0;" in code
    assert [line for line in code.splitlines() if line.startswith("const int ")] == ["const int t3 = j % 784;"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_distortions(dtype: str) -> None:
    """Affine and elastic, the draws included."""
    cuda = select("cuda")
    bent = Distortion(rotation=20.0, scaling=0.2, shear=10.0, shift=1.0, alpha=5.0, sigma=2.0)
    images = np.random.default_rng(0).random((3, 35)).astype(dtype)
    assert_fuses(cuda, lambda x, step: distort(x, (7, 5), bent, step, xp=cuda.xp), images, np.array([4]))


@pytest.mark.parametrize("width", [1, 3, 10, 32])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_short_rows_are_added_in_order(width: int, dtype: str) -> None:
    """Fused or not, from the first element to the last: the order decides the last bits."""
    cuda = select("cuda")
    host = np.random.default_rng(0).standard_normal((50, width)).astype(dtype)
    expected = np.zeros(50, dtype)
    for column in host.T:
        expected += column
    x = cuda.to_device(host)
    fused = cuda.fuse(lambda x: cuda.xp.sum(x, axis=1))
    for total in (cuda.xp.sum(x, axis=1), fused(x)):
        np.testing.assert_array_equal(cuda.to_host(total), expected)
