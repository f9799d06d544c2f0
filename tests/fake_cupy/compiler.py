"""C++ by g++, in place of CUDA's compiler.

A kernel costs some forty milliseconds, most of which it takes to start g++. So what has been compiled stays in the
user's cache directory, for all processes and for later runs.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import subprocess
import sys
import time
from typing import Any

from platformdirs import user_cache_path

from .errors import CompileException

C_TYPES = {
    "float64": "double", "float32": "float", "int64": "long long", "int32": "int", "int16": "short",
    "int8": "signed char", "uint64": "unsigned long long", "uint32": "unsigned int", "uint16": "unsigned short",
    "uint8": "unsigned char", "bool": "bool",
}  # fmt: skip

# No header of the system's, which take longer to read than a kernel takes to compile; no exceptions or libraries. As
# NVIDIA's compiler does by default, g++ may merge a product and a sum, which it only does with expensive optimizations.
# Of constants, it would compute exp and the like itself, and round otherwise than the C library: not so here.
_COMPILER = [
    "g++", "-std=c++17", "-O1", "-fexpensive-optimizations", "-march=native", "-ffp-contract=fast", "-frounding-math",
    "-fno-builtin", "-fwrapv", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables", "-shared",
]  # fmt: skip
if sys.platform == "linux":
    _COMPILER.append("-nostdlib")  # Python has loaded the C library

# What is not inline is merged with no other operation.
_HEADER = r"""
#define __device__
#define __forceinline__ inline
#define APART __attribute__((noinline)) inline
using size_t = decltype(sizeof 0);
using ptrdiff_t = decltype((char*)0 - (char*)0);
#define OF_LIBM(name) \
  extern "C" double name(double); \
  extern "C" float name##f(float); \
  inline float name(float x) { return name##f(x); }
OF_LIBM(ceil) OF_LIBM(cos) OF_LIBM(exp) OF_LIBM(expm1) OF_LIBM(fabs) OF_LIBM(floor) OF_LIBM(log) OF_LIBM(log1p)
OF_LIBM(sin) OF_LIBM(sqrt) OF_LIBM(tanh)
template <class T> inline bool isnan(T x) { return x != x; }
template <class T> inline bool isfinite(T x) { return x - x == 0; }
// CUDA's max and min of floating-point numbers are fmax and fmin.
template <class A, class B> inline auto max(A a, B b) {
  using C = decltype(true ? A() : B());
  return (C)b != (C)b || (C)a > (C)b ? (C)a : (C)b;
}
template <class A, class B> inline auto min(A a, B b) {
  using C = decltype(true ? A() : B());
  return (C)b != (C)b || (C)a < (C)b ? (C)a : (C)b;
}
APART float __fadd_rn(float x, float y) { return x + y; }
APART float __fsub_rn(float x, float y) { return x - y; }
APART float __fmul_rn(float x, float y) { return x * y; }
APART double __dadd_rn(double x, double y) { return x + y; }
APART double __dsub_rn(double x, double y) { return x - y; }
APART double __dmul_rn(double x, double y) { return x * y; }
struct Header {
  char* data;
  ptrdiff_t ndim, shape[16], strides[16];
  APART char* at(ptrdiff_t i) const {  // elements in C order of the logical array, wherever they lie
    char* p = data;
    for (ptrdiff_t d = ndim; --d >= 0; i /= shape[d]) p += (i % shape[d]) * strides[d];
    return p;
  }
};
template <class T> struct CArray : Header {
  T& operator[](ptrdiff_t i) const { return *(T*)at(i); }
};
"""

CACHE = user_cache_path("xpnet") / "kernels"
_A_MONTH = 30 * 24 * 3600

_libraries: dict[str, Any] = {}


def compile_kernel(source: str, name: str, options: Any) -> Any:
    """The function of that name in a C++ source. Raises CompileException with g++'s words."""
    if source not in _libraries:
        key = hashlib.sha256(identity() + source.encode()).hexdigest()
        library = CACHE / f"{key}.so"
        if not library.exists():
            own = CACHE / f"{key}.{os.getpid()}.so"  # nobody loads half a library
            done = subprocess.run(
                [*_COMPILER, "-o", str(own), "-x", "c++", "-"],
                input=_HEADER + source, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise CompileException(done.stderr, source, name, options)
            own.replace(library)
        _libraries[source] = ctypes.CDLL(str(library))
    return getattr(_libraries[source], name)


@functools.cache
def identity() -> bytes:
    """All but the source that decides what comes of it: compiler, processor, flags and header."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has given it its name, or removed it
            if old.stat().st_mtime < time.time() - _A_MONTH:
                old.unlink()
    macros = subprocess.run(
        [*_COMPILER, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, text=True, check=True
    )
    return "\n".join([*_COMPILER, _HEADER, macros.stdout]).encode()
