"""Matrix products that call cuBLAS directly.

cuBLAS can be called while a graph is captured, but CuPy refuses to call it then. Here it is called through ctypes, in
the library that CuPy's own loader finds: a package of bindings would be one more thing to install, for four functions.
"""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["Gemm", "operand"]

# cublas_api.h, library_types.h
_OP_N, _OP_T = 0, 1
_FLOAT, _DOUBLE = 0, 1
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32F_FAST_TF32 = 68, 70, 77
_DEFAULT_ALGORITHM = -1
_STATUS = {
    1: "not initialized",
    3: "memory allocation failed",
    7: "invalid value",
    8: "architecture mismatch",
    13: "execution failed",
    14: "internal error",
    15: "not supported",
}


def operand(shape: tuple[int, int], strides: tuple[int, int]) -> tuple[int, int] | None:
    """How BLAS, which takes matrices column by column, reads a matrix that lies row by row: as its transpose.

    shape, strides : of the matrix, both in elements.
    Returns the operation that makes the transpose of it, and the leading dimension; None where the elements lie in
    neither order, so that they must be copied first.
    """
    (rows, columns), (down, right) = shape, strides
    if (right == 1 or columns == 1) and down >= columns:
        return _OP_N, down
    if (down == 1 or rows == 1) and right >= rows:
        return _OP_T, right
    return None


class Gemm:
    """matmul of 2-D float32 or float64 arrays on one device, which may be captured.

    A captured product must have run once before on the capturing stream: that binds the stream, which cuBLAS answers by
    forgetting its workspace, so that it is given it anew.

    cupy : the module.   otherwise : the matmul for all other arrays.
    Raises ImportError or RuntimeError where cuBLAS cannot be loaded.
    """

    def __init__(self, cupy: Any, otherwise: Callable[[Any, Any], Any]) -> None:
        self._cupy, self._otherwise = cupy, otherwise
        self._cublas = _load()
        self._handle = ctypes.c_void_p()
        self._check(self._cublas.cublasCreate_v2(ctypes.byref(self._handle)), "cublasCreate")
        weakref.finalize(self, _destroy, self._cublas, cupy.cuda.Device(), self._handle).atexit = False
        # What NVIDIA recommends; of its own accord cuBLAS would allocate inside the captured graph.
        newest = int(cupy.cuda.Device().compute_capability) >= 90
        self._workspace_bytes = 2**25 if newest else 2**22
        self._workspace = cupy.cuda.alloc(self._workspace_bytes)
        self._bound: int | None = None
        self._scale = {
            _FLOAT: (ctypes.c_float(1), ctypes.c_float(0)),
            _DOUBLE: (ctypes.c_double(1), ctypes.c_double(0)),
        }

    def __call__(self, a: Any, b: Any, tf32: bool = False) -> Any:
        """The product of a (m, k) and b (k, n).   tf32 : round float32 factors to 10 bits of mantissa, for speed."""
        fits = a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] and a.size and b.size
        if not fits or a.dtype != b.dtype or a.dtype.char not in "fd":
            return self._otherwise(a, b)
        self._bind(self._cupy.cuda.get_current_stream())
        (m, k), n = a.shape, b.shape[1]
        a, (op_a, ld_a) = self._operand(a)
        b, (op_b, ld_b) = self._operand(b)
        product = self._cupy.empty((m, n), a.dtype)
        kind = _FLOAT if a.dtype.char == "f" else _DOUBLE
        compute = _COMPUTE_64F if kind == _DOUBLE else _COMPUTE_32F_FAST_TF32 if tf32 else _COMPUTE_32F
        one, zero = map(ctypes.addressof, self._scale[kind])
        # The transposed product is that of the transposed factors in the other order.
        status = self._cublas.cublasGemmEx(
            *(self._handle, op_b, op_a, n, m, k, one, b.data.ptr, kind, ld_b, a.data.ptr, kind, ld_a),
            *(zero, product.data.ptr, kind, n, compute, _DEFAULT_ALGORITHM),
        )
        self._check(status, f"the product of {a.shape} and {b.shape}")
        return product

    def _operand(self, x: Any) -> tuple[Any, tuple[int, int]]:
        found = operand(x.shape, tuple(stride // x.itemsize for stride in x.strides))
        if found is None:
            return self._cupy.ascontiguousarray(x), (_OP_N, x.shape[1])
        return x, found

    def _bind(self, stream: Any) -> None:
        if stream.ptr == self._bound:
            return
        if stream.is_capturing():
            raise RuntimeError("a matrix product is captured on a stream where none has run before")
        self._check(self._cublas.cublasSetStream_v2(self._handle, stream.ptr), "cublasSetStream")
        workspace = self._workspace.ptr, self._workspace_bytes
        self._check(self._cublas.cublasSetWorkspace_v2(self._handle, *workspace), "cublasSetWorkspace")
        self._bound = stream.ptr

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status:
            raise RuntimeError(f"cuBLAS: {what}: {_STATUS.get(status, 'status')} ({status})")


def _destroy(cublas: Any, device: Any, handle: Any) -> None:
    with device:
        cublas.cublasDestroy_v2(handle)


def _load() -> Any:
    from cuda import pathfinder  # comes with CuPy

    pathfinder.load_nvidia_dynamic_lib("cublasLt")
    found = pathfinder.load_nvidia_dynamic_lib("cublas").abs_path
    if found is None:
        raise ImportError("cuda.pathfinder does not say where cuBLAS is")
    cublas = ctypes.CDLL(found)
    pointer: Any = ctypes.c_void_p
    number: Any = ctypes.c_int
    cublas.cublasCreate_v2.argtypes = cublas.cublasDestroy_v2.argtypes = [pointer]
    cublas.cublasSetStream_v2.argtypes = [pointer, pointer]
    cublas.cublasSetWorkspace_v2.argtypes = [pointer, pointer, ctypes.c_size_t]
    matrix = [pointer, number, number]
    sizes = [number] * 3
    cublas.cublasGemmEx.argtypes = [
        *[pointer, number, number, *sizes, pointer],
        *[*matrix, *matrix, pointer, *matrix, number, number],
    ]
    return cublas
