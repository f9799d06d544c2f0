"""cupy.ndarray.

The trap: it is no subclass of NumPy's, mixes with no host array, and its indices wrap around. `np.asarray` would take a
subclass's memory without asking, and array-api-compat would take it for NumPy's.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from .memory import Memory, MemoryPointer, garbage
from .streams import Stream

if TYPE_CHECKING:
    from .state import Fake


Scalar = bool | int | float | complex | np.generic

_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "lshift": "left_shift", "rshift": "right_shift", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "matmul": "matmul",
}  # fmt: skip
_COMPARISONS = {
    "lt": "less", "le": "less_equal", "eq": "equal", "ne": "not_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
_METHODS = [
    "all", "any", "argmax", "argmin", "argpartition", "argsort", "clip", "conj", "cumprod", "cumsum", "dot", "max",
    "mean", "min", "nonzero", "prod", "ptp", "repeat", "round", "searchsorted", "std", "sum", "take", "trace", "var",
    "reshape", "transpose", "swapaxes", "squeeze", "ravel", "diagonal",
]  # fmt: skip


class Array:
    """cupy.ndarray: a NumPy view of a block of the pool, and the block."""

    fake: ClassVar["Fake"]
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: Any = "C"
    ) -> None:
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(shape) * dtype.itemsize
        pointer = self.fake.alloc(size) if memptr is None else memptr
        self.mem = pointer.mem  # keeps the block alive; views share it
        self.device_id = self.fake.local.device
        memory = self.mem.memory
        self.host = (
            np.empty(shape, dtype, order) if memory is None else memory.view(pointer.ptr, shape, dtype, strides, order)
        )
        if memptr is None and self.fake.current_stream().capture is not None:
            self.host[...] = garbage(dtype)

    def _view(self, host: np.ndarray) -> "Array":
        new: Array = object.__new__(type(self))
        new.host, new.mem, new.device_id = host, self.mem, self.device_id
        return new

    # What it is

    shape = property(lambda self: self.host.shape)
    strides = property(lambda self: self.host.strides)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    flags = property(lambda self: self.host.flags)
    T = property(lambda self: self._view(self.host.T))
    mT = property(lambda self: self._view(np.swapaxes(self.host, -1, -2)))  # noqa: N815
    real = property(lambda self: self._view(self.host.real))
    device = property(lambda self: self.fake.cupy.cuda.Device(self.device_id))

    @property
    def data(self) -> MemoryPointer:
        address = self.host.__array_interface__["data"][0]
        return MemoryPointer(self.mem, address - self.mem.ptr if self.mem.ptr else 0)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self.host)

    def __iter__(self) -> Iterator["Array"]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # To and from the host

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(
        self, stream: Stream | None = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        stream = stream or self.fake.current_stream()
        if stream.is_capturing():
            raise RuntimeError("the current stream is capturing, so D2H transfers are disallowed")
        if out is not None and (out.dtype, out.shape) != (self.dtype, self.shape):
            raise ValueError(f"Shape mismatch. Expected shape: {out.shape}, actual shape: {self.shape}")
        target = np.empty(self.shape, self.dtype, order="F" if order == "F" else "C") if out is None else out
        source = self.host
        stream.submit("d2h", lambda: np.copyto(target, source), [], late=True)
        if blocking:
            stream.synchronize()
        return target

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        arr = np.ascontiguousarray(arr) if self.flags.c_contiguous else np.asfortranarray(arr)
        self._upload(arr, stream or self.fake.current_stream())

    def _upload(self, source: np.ndarray, stream: Stream) -> None:
        if stream.is_capturing():
            raise RuntimeError("the current stream is capturing, so H2D transfers are disallowed")
        # Pageable memory is staged before the call returns; pinned memory is read when its turn comes.
        source, target = source if self.fake.is_pinned(source) else source.copy(), self.host
        stream.submit("h2d", lambda: np.copyto(target, source), self._outputs(), late=True)

    def _outputs(self) -> list[tuple[np.ndarray, Memory]]:
        return [] if self.mem.memory is None else [(self.host, self.mem.memory)]

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __deepcopy__(self, memo: Any) -> "Array":
        return self.copy()

    # Elements

    def _key(self, key: Any) -> tuple[Any, list["Array"]]:
        """The key with device arrays for lists, and those arrays; integers out of range wrap around in them."""
        keys = list(key) if isinstance(key, tuple) else [key]
        ndarray = self.fake.cupy.ndarray
        keys = [self.fake.asarray(k) if isinstance(k, list | np.ndarray) else k for k in keys]
        arrays = [k for k in keys if isinstance(k, ndarray)]
        if any(k.dtype.kind == "b" for k in arrays):
            self.fake.read_back()  # the number of elements
        return tuple(keys), arrays

    def _index(self, key: tuple[Any, ...]) -> Callable[[], Any]:
        """NumPy's key, made anew whenever it is called, since the indices in it may have changed."""
        hosts = [k.host if isinstance(k, Array) else k for k in key]
        width = [k.ndim if isinstance(k, np.ndarray) and k.dtype.kind == "b" else int(k is not None) for k in hosts]
        rest = next((i for i, k in enumerate(hosts) if k is Ellipsis), len(hosts))
        if rest < len(hosts):
            width[rest] = self.ndim - sum(width) + 1
        lengths = [self.shape[sum(width[:i])] if sum(width[:i]) < self.ndim else 1 for i in range(len(hosts))]

        def index() -> Any:
            wraps = [isinstance(k, np.ndarray) and k.dtype.kind != "b" for k in hosts]
            return tuple(k % n if wrap else k for k, n, wrap in zip(hosts, lengths, wraps, strict=True))

        return index

    def _part(self, key: tuple[Any, ...]) -> np.ndarray:
        return np.asarray(self.host[key if any(k is Ellipsis for k in key) else (*key, ...)])

    def __getitem__(self, key: Any) -> "Array":
        key, arrays = self._key(key)
        if not arrays:
            return self._view(self._part(key))
        index = self._index(key)
        found: Array = self.fake.launch("take", lambda host, *_: host[index()], [self, *arrays])
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        key, arrays = self._key(key)
        if not isinstance(value, Array | Scalar):
            if not isinstance(value, np.ndarray) or value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value[()]
        self.fake.check([self, *arrays, *([value] if isinstance(value, Array) else [])])
        source = value.host if isinstance(value, Array) else np.asarray(value, self.dtype)
        if arrays:
            index, host = self._index(key), self.host

            def run() -> None:
                host[index()] = source
        else:
            target = self._part(key)
            if isinstance(value, Array):
                np.broadcast_to(source, target.shape)
                same = [(a.__array_interface__["data"], a.shape, a.strides) for a in (source, target)]
                if same[0] == same[1]:  # x[...] = x, as in x[0] += 1
                    return

            def run() -> None:
                with np.errstate(all="ignore"):
                    np.copyto(target, source, casting="unsafe")

        self.fake.current_stream().submit("copy" if isinstance(value, Array) else "fill", run, self._outputs())

    def fill(self, value: Any) -> None:
        self[...] = value

    def copy(self, order: str = "C") -> "Array":
        copied: Array = self.fake.launch("copy", lambda host: host.copy(order=order), [self])
        return copied

    __copy__ = copy

    def flatten(self, order: str = "C") -> "Array":
        return self.copy().reshape(-1)  # type: ignore[attr-defined, no-any-return]

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> "Array":
        if not copy and self.dtype == np.dtype(dtype):
            return self
        cast: Array = self.fake.launch("astype", lambda host: host.astype(dtype), [self])
        return cast

    def view(self, dtype: Any = None) -> "Array":
        return self._view(self.host.view() if dtype is None else self.host.view(dtype))

    # Operators and NumPy's protocols

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or not hasattr(self.fake.cupy, ufunc.__name__):
            return NotImplemented
        if "out" in kwargs:
            kwargs["out"] = kwargs["out"][0]
        return getattr(self.fake.cupy, ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not hasattr(self.fake.cupy, func.__name__):
            return NotImplemented
        return getattr(self.fake.cupy, func.__name__)(*args, **kwargs)


def _add_operators() -> None:
    """Operators and methods are the functions of the same meaning."""

    def unary(name: str) -> Any:
        return lambda self: getattr(self.fake.cupy, name)(self)

    def binary(name: str, swap: bool = False) -> Any:
        def operator(self: Array, other: Any) -> Any:
            if other is None or isinstance(other, str) or getattr(type(other), "__array_ufunc__", self) is None:
                return NotImplemented
            return getattr(self.fake.cupy, name)(*((other, self) if swap else (self, other)))

        return operator

    def in_place(name: str) -> Any:
        return lambda self, other: getattr(self.fake.cupy, name)(self, other, out=self)

    def method(name: str) -> Any:
        if name in ("reshape", "transpose"):  # their shape may come as several arguments

            def spread(self: Array, *shape: Any, **kwargs: Any) -> Any:
                shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
                return getattr(self.fake.cupy, name)(self, *((shape,) if shape or name == "reshape" else ()), **kwargs)

            return spread
        return lambda self, *args, **kwargs: getattr(self.fake.cupy, name)(self, *args, **kwargs)

    for name, function in {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "invert"}.items():
        setattr(Array, f"__{name}__", unary(function))
    for name, function in (_OPERATORS | _COMPARISONS).items():
        setattr(Array, f"__{name}__", binary(function))
    for name, function in _OPERATORS.items():
        setattr(Array, f"__r{name}__", binary(function, swap=True))
        setattr(Array, f"__i{name}__", in_place(function))
    for name in _METHODS:
        setattr(Array, name, method(name))


_add_operators()
