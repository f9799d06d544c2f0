"""CuPy's errors, in the words of CUDA and of the wheel."""

from typing import Any

_ERRORS = {  # CUDA's own words, as the wheel prints them
    1: "cudaErrorInvalidValue: invalid argument",
    2: "cudaErrorMemoryAllocation: out of memory",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    401: "cudaErrorIllegalState: the operation cannot be performed in the present state",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    900: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    901: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
    903: "cudaErrorStreamCaptureUnmatched: capture was not ended in the same stream as it began",
    904: "cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work",
    905: "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another stream",
    906: "cudaErrorStreamCaptureImplicit: operation would make the legacy stream depend on a capturing blocking stream",
    907: "cudaErrorCapturedEvent: operation not permitted on an event last recorded in a capturing stream",
}


class CUDARuntimeError(RuntimeError):
    """CuPy's error of the CUDA runtime."""

    def __init__(self, status: int) -> None:
        super().__init__(_ERRORS.get(status, f"cudaError {status}"))
        self.status = status


class OutOfMemoryError(MemoryError):
    """CuPy's, with its message."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


class CompileException(Exception):  # noqa: N818, CuPy's name
    """What a kernel that does not compile raises."""

    def __init__(self, msg: str, source: str, name: str, options: Any, backend: str = "nvrtc") -> None:
        super().__init__(msg)
        self.source, self.name, self.options, self.backend = source, name, options, backend
