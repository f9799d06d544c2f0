"""cuBLAS, as ctypes loads it.

The trap: addresses that do not fit, a workspace that a stream has made it forget, and TF32's rounding.
"""

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CUDARuntimeError
from .memory import Memory

if TYPE_CHECKING:
    from .state import Fake


class Symbol:
    """A function of a library that ctypes has loaded."""

    def __init__(self, function: Callable[..., int]) -> None:
        self._function, self.restype = function, ctypes.c_int
        self.argtypes: list[Any] | None = None

    def __call__(self, *args: Any) -> int:
        if self.argtypes is None:  # ctypes then passes numbers as 32-bit ones
            if any(isinstance(arg, int) and abs(arg) >= 2**31 for arg in args):
                raise OverflowError("an address is cut to 32 bits: set argtypes")
        else:
            if len(args) < len(self.argtypes):
                raise TypeError(f"this function takes at least {len(self.argtypes)} arguments ({len(args)} given)")
            for kind, arg in zip(self.argtypes, args, strict=True):
                kind.from_param(arg)
        return self._function(*(getattr(arg, "value", arg) or 0 for arg in args))


class FakeCublas:
    """libcublas as ctypes loads it, on addresses in the fake's memory.

    status : names of functions that fail, and the status with which.
    """

    cublasCreate_v2: Symbol  # noqa: N815
    cublasDestroy_v2: Symbol  # noqa: N815
    cublasSetStream_v2: Symbol  # noqa: N815
    cublasSetWorkspace_v2: Symbol  # noqa: N815
    cublasGetVersion_v2: Symbol  # noqa: N815
    cublasGemmEx: Symbol  # noqa: N815

    def __init__(self, fake: "Fake") -> None:
        self._fake = fake
        self._handles: dict[int, dict[str, int]] = {}
        self._created = 0
        self.status: dict[str, int] = {}
        for name in ("Create_v2", "Destroy_v2", "SetStream_v2", "SetWorkspace_v2", "GetVersion_v2", "GemmEx"):
            setattr(self, f"cublas{name}", Symbol(self._guarded(f"cublas{name}", getattr(self, f"_{name.lower()}"))))

    def _guarded(self, name: str, function: Callable[..., int]) -> Callable[..., int]:
        def call(*args: Any) -> int:
            self._fake.count[name] += 1
            if name in self.status:
                return self.status[name]
            if name != "cublasCreate_v2" and args[0] not in self._handles:
                return 1
            return function(*args)

        return call

    def _create_v2(self, pointer: Any) -> int:
        self._created += 1  # no handle is given twice
        handle = 0x7F0000000000 + self._created
        pointer._obj.value = handle
        self._handles[handle] = {"stream": 0, "workspace": 0}
        return 0

    def _destroy_v2(self, handle: int) -> int:
        del self._handles[handle]
        try:
            self._fake.cupy.cuda.Device().synchronize()  # as cuBLAS does
        except CUDARuntimeError:
            return 14
        return 0

    def _setstream_v2(self, handle: int, stream: int) -> int:
        self._handles[handle] = {"stream": stream, "workspace": 0}
        return 0

    def _setworkspace_v2(self, handle: int, pointer: int, size: int) -> int:
        if pointer % 256 or (size and not pointer):
            return 7
        self._handles[handle]["workspace"] = size
        return 0

    def _getversion_v2(self, handle: int, pointer: Any) -> int:
        pointer._obj.value = 130200
        return 0

    def _gemmex(
        self, handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, a_type: int, lda: int,
        b: int, b_type: int, ldb: int, beta: int, c: int, c_type: int, ldc: int, compute: int, algorithm: int,
    ) -> int:  # fmt: skip
        if min(m, n, k) < 0 or ta not in (0, 1, 2) or tb not in (0, 1, 2) or not alpha or not beta:
            return 7
        if lda < max(1, k if ta else m) or ldb < max(1, n if tb else k) or ldc < max(1, m):
            return 7
        kind = {0: ctypes.c_float, 1: ctypes.c_double}.get(a_type)
        if (
            kind is None
            or not a_type == b_type == c_type
            or compute not in ((70, 71) if a_type else (68, 69, 74, 75, 77))
        ):
            return 15
        if not m or not n:
            return 0
        x, y = kind.from_address(alpha).value, kind.from_address(beta).value
        stream, dtype = self._fake.streams[self._handles[handle]["stream"]], np.dtype(kind)
        if stream.capture is not None and not self._handles[handle]["workspace"]:
            self._fake.count["captured without workspace"] += 1
            return 14
        # Column by column: element (i, j) lies at i + j ld. The views are transposed, which makes NumPy's product and
        # its rounding that of the row-major matrices which a caller in Python has.
        left, _ = self._matrix(a, (m, k) if not ta else (k, m), lda, dtype)
        right, _ = self._matrix(b, (k, n) if not tb else (n, k), ldb, dtype)
        out, memory = self._matrix(c, (m, n), ldc, dtype)
        bits = {74: 10, 75: 7, 77: 10}.get(compute)

        def run() -> None:
            factors = [right if tb else right.T, left if ta else left.T]
            factors = [f if bits is None else round_mantissa(f, bits) for f in factors]
            with np.errstate(all="ignore"):
                product = np.matmul(*factors) if x == 1.0 else np.matmul(*factors) * dtype.type(x)
                out.T[...] = product if y == 0.0 else product + dtype.type(y) * out.T

        stream.submit("gemm", run, [(out, memory)])
        return 0

    def _matrix(self, ptr: int, shape: tuple[int, int], ld: int, dtype: Any) -> tuple[np.ndarray, Memory]:
        rows, columns = shape
        memory = self._fake.find(ptr, ((columns - 1) * ld + rows) * dtype.itemsize if rows and columns else 0)
        return memory.view(ptr, shape, dtype, (dtype.itemsize, ld * dtype.itemsize)), memory


def round_mantissa(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 rounded to so many bits of mantissa, ties to even: what tensor cores are given."""
    drop = 23 - bits
    pattern = np.ascontiguousarray(x).view(np.uint32)
    rounded = pattern + np.uint32((1 << (drop - 1)) - 1) + ((pattern >> np.uint32(drop)) & np.uint32(1))
    return (rounded & np.uint32(2**32 - (1 << drop))).view(np.float32)
