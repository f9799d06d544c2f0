"""NumPy's functions, as CuPy has them.

The trap: those that call cuBLAS are not captured, those whose result's size depends on values wait for the device, and
the mathematical ones round as kernels do, not as NumPy does.
"""

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Array
from .compiler import C_TYPES, compile_kernel

if TYPE_CHECKING:
    from .state import Fake


_VIEWS = [
    "reshape", "transpose", "permute_dims", "swapaxes", "moveaxis", "rollaxis", "matrix_transpose", "expand_dims",
    "squeeze", "broadcast_to", "broadcast_arrays", "ravel", "diagonal", "split", "array_split", "hsplit", "vsplit",
    "dsplit", "atleast_1d", "atleast_2d", "atleast_3d", "flip", "fliplr", "flipud", "rot90", "real",
]  # fmt: skip
_LIBM = ["exp", "expm1", "log", "log1p", "tanh", "sin", "cos"]
_LOOPS = "\n".join(
    f'extern "C" void {name}_{dtype}(const {C_TYPES[dtype]}* x, {C_TYPES[dtype]}* y, ptrdiff_t n) '
    f"{{ for (ptrdiff_t i = 0; i < n; ++i) y[i] = {name}(x[i]); }}"
    for name in _LIBM
    for dtype in ("float32", "float64")
)
_CUBLAS = ["matmul", "dot", "inner", "vdot", "tensordot", "einsum"]
_READ_BACK = [
    "nonzero", "argwhere", "flatnonzero", "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values",
]  # fmt: skip


def _of_libm(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy, its floats computed as the kernels do, by the C library: NumPy's own round otherwise."""
    if name not in _LIBM:
        return function

    def compute(x: Any, **options: Any) -> Any:
        x = np.asarray(x)
        if options or x.dtype not in (np.float32, np.float64):
            return function(x, **options)
        given = np.ascontiguousarray(x)
        result = np.empty_like(given)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (given, result)]
        compile_kernel(_LOOPS, f"{name}_{x.dtype}", ())(*pointers, ctypes.c_ssize_t(x.size))
        return result.reshape(x.shape)

    return compute


def as_in_cupy(fake: "Fake", name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy's as CuPy has it."""

    def lower(value: Any, used: list[Array]) -> Any:
        if isinstance(value, Array):
            used.append(value)
            return value.host
        if isinstance(value, list | tuple) and any(isinstance(item, Array) for item in value):
            return [lower(item, used) for item in value]
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}")
        return value

    def call(*args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        used: list[Array] = []
        if isinstance(function, np.ufunc) and len(args) == function.nin + 1:
            *args, out = args  # type: ignore[assignment]
        lowered = [lower(arg, used) for arg in args]
        options = {key: lower(value, used) for key, value in kwargs.items()}
        if name in _CUBLAS and any(a.dtype.kind in "fc" for a in used) and fake.current_stream().is_capturing():
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        if name in _READ_BACK or (name == "where" and len(args) == 1):
            fake.read_back()
        if name in _VIEWS:
            fake.check(used)
            made = function(*lowered, **options)
            parts: Any = made if isinstance(made, list | tuple) else [made]
            owners = [next((a for a in used if np.may_share_memory(part, a.host)), None) for part in parts]
            if all(a is not None for a in owners):
                views = [a._view(part) for a, part in zip(owners, parts, strict=True) if a is not None]
                return views if made is parts else views[0]
        if isinstance(function, np.ufunc) and out is not None:
            options["casting"] = "same_kind"
            resolved = function.resolve_dtypes(
                (*(getattr(v, "dtype", type(v)) for v in lowered), None)[: function.nin] + (None,) * function.nout
            )
            if not np.can_cast(resolved[-1], out.dtype, "same_kind"):
                raise TypeError(
                    f"output (typecode '{resolved[-1].char}') could not be coerced to provided output parameter "
                    f"(typecode '{out.dtype.char}') according to the casting rule \"same_kind\""
                )
        return fake.launch(name, lambda *_: compute(*lowered, **options), used, out)

    compute = _of_libm(name, function)
    call.__name__ = call.__qualname__ = name
    return call
