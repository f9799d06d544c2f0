"""Elementwise kernels.

The trap: their C++ is compiled, products and sums are merged where CUDA's compiler may merge them, and elements that
depend on their order are found.
"""

import ctypes
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .arrays import Array, Scalar
from .compiler import C_TYPES, compile_kernel

if TYPE_CHECKING:
    from .state import Fake


class Parameter:
    """One of a kernel's parameters, as "raw T x" declares it."""

    def __init__(self, declaration: str, const: bool) -> None:
        words = declaration.split()
        if len(words) < 2:
            raise Exception(f"Syntax error: {declaration}")
        *keywords, kind, self.name = words
        for keyword in keywords:
            if keyword not in ("raw", "_non_const"):
                raise Exception(f'Unknown keyword "{keyword}"')
        self.raw, self.const = "raw" in keywords, const and "_non_const" not in keywords
        self.dtype = None if len(kind) == 1 else np.dtype(kind)
        self.letter = kind


class ElementwiseKernel:
    """A C++ body that g++ compiles and that runs for i = 0, 1, ...

    To find elements that depend on each other, which a GPU does in any order, it runs forwards and backwards.
    """

    fake: ClassVar["Fake"]

    def __init__(
        self,
        in_params: str,
        out_params: str,
        operation: str,
        name: str = "kernel",
        reduce_dims: bool = True,
        preamble: str = "",
        no_return: bool = False,
        return_tuple: bool = False,
        **kwargs: Any,
    ) -> None:
        if not name.isidentifier():
            raise ValueError(f'Invalid kernel name: "{name}"')
        self.declared = in_params, out_params
        self.inputs = [Parameter(p, True) for p in in_params.split(",") if in_params]
        self.outputs = [Parameter(p, False) for p in out_params.split(",") if out_params]
        self.params = self.inputs + self.outputs
        if any(p.name == "i" for p in self.params):
            raise ValueError("Can not use 'i' as a parameter name")
        self.operation, self.name, self.__name__, self.preamble = operation, name, name, preamble
        self.no_return, self.return_tuple, self.kwargs = no_return, return_tuple, kwargs
        self._functions: dict[Any, Any] = {}

    def __call__(self, *args: Any, size: int = -1, stream: Any = None, block_size: int = 128, **wrong: Any) -> Any:
        if wrong:
            raise TypeError(f"Wrong arguments {wrong}")
        if len(args) not in (len(self.inputs), len(self.params)):
            raise TypeError(
                f"Wrong number of arguments for {self.name!r}. It must be either {len(self.inputs)} or "
                f"{len(self.params)} (with outputs), but given {len(args)}."
            )
        for arg in args:
            if not isinstance(arg, Array | Scalar):
                raise TypeError(f"Unsupported type {type(arg)}")
        self.fake.check([arg for arg in args if isinstance(arg, Array)])
        if any(not isinstance(arg, Array) for arg in args[len(self.inputs) :]):
            raise TypeError("Output arguments type must be cupy.ndarray")
        pairs = list(zip(self.params, args, strict=False))
        shape = self._loop([a.shape for p, a in pairs if isinstance(a, Array) and not p.raw], size)
        types = self._types(pairs)
        outs = list(args[len(self.inputs) :])
        if not outs:
            if size == -1 and any(p.raw for p in self.outputs):
                raise ValueError("Output array size is Undecided")
            outs = [self.fake.cupy.empty(shape, p.dtype or types[p.letter]) for p in self.outputs]
        for p, out in zip(self.outputs, outs, strict=True):
            if not p.raw and out.shape != shape:
                raise ValueError("Out shape is mismatched")
        if math.prod(shape):
            self._launch(list(zip(self.params, [*args[: len(self.inputs)], *outs], strict=True)), shape, types, stream)
        if self.no_return:
            return None
        return outs[0] if len(outs) == 1 and not self.return_tuple else tuple(outs)

    @staticmethod
    def _loop(shapes: list[tuple[int, ...]], size: int) -> tuple[int, ...]:
        if size != -1 and shapes:
            raise ValueError("Specified 'size' can be used only if all of the ndarray are 'raw'.")
        if size == -1 and not shapes:
            raise ValueError("Loop size is undecided.")
        return (size,) if size != -1 else np.broadcast_shapes(*shapes)

    def _types(self, pairs: list[tuple[Parameter, Any]]) -> dict[str, np.dtype[Any]]:
        types: dict[str, np.dtype[Any]] = {}
        for p, arg in reversed(pairs):  # outputs decide first
            if isinstance(arg, Array):
                expected = p.dtype or types.setdefault(p.letter, arg.dtype)
                if expected != arg.dtype:
                    raise TypeError(f"Type is mismatched. {p.name} {arg.dtype} {expected} {p.letter}")
        return types

    def _launch(
        self, pairs: list[tuple[Parameter, Any]], shape: tuple[int, ...], types: dict[str, Any], stream: Any
    ) -> None:
        dtypes = [p.dtype or types[p.letter] for p, _ in pairs]
        function, size = self._function(dtypes, [isinstance(arg, Array) for _, arg in pairs]), math.prod(shape)
        given: list[Any] = []
        for (p, arg), dtype in zip(pairs, dtypes, strict=True):
            if isinstance(arg, Array):
                host = arg.host if p.raw else np.broadcast_to(arg.host, shape)
                given.append(_Header(host.__array_interface__["data"][0], host.ndim, host.shape, host.strides))
            else:
                given.append(np.ctypeslib.as_ctypes(np.array(arg, dtype)))
        pointers = (ctypes.c_void_p * len(given))(*map(ctypes.addressof, given))
        outs = [arg for p, arg in pairs if isinstance(arg, Array) and not p.const]
        keep = [given, *(arg.host for _, arg in pairs if isinstance(arg, Array))]  # for as long as the kernel may run
        targets = [out.host for out in outs]

        def run() -> None:
            assert keep
            before = [target.copy() for target in targets]
            function(ctypes.c_ssize_t(size), pointers, ctypes.c_bool(True))
            backwards = [target.tobytes() for target in targets]
            for target, old in zip(targets, before, strict=True):
                target[...] = old
            function(ctypes.c_ssize_t(size), pointers, ctypes.c_bool(False))
            forwards = [target.tobytes() for target in targets]
            assert backwards == forwards, f"{self.name}: its elements depend on their order"

        memories = [output for out in outs for output in out._outputs()]
        (stream or self.fake.current_stream()).submit(self.name, run, memories)

    def _function(self, dtypes: list[np.dtype[Any]], arrays: list[bool]) -> Any:
        """The compiled kernel, for parameters of these types, each an array or a number."""
        options = self.kwargs.get("options", ())
        hash(options)  # CuPy looks kernels up by them, so that a list of options fails
        key = (*dtypes, *arrays)
        if key not in self._functions:
            self._functions[key] = compile_kernel(self._source(dtypes, arrays), self.name, options)
        return self._functions[key]

    def _source(self, dtypes: list[np.dtype[Any]], arrays: list[bool]) -> str:
        types, declared, elements = {}, [], []
        for i, (p, dtype, array) in enumerate(zip(self.params, dtypes, arrays, strict=True)):
            kind = f"const {C_TYPES[dtype.name]}" if p.const else C_TYPES[dtype.name]
            if p.dtype is None:
                types[p.letter] = C_TYPES[dtype.name]
            if not array:
                declared.append(f"{kind}& {p.name} = *({kind}*)_args[{i}];")
            elif p.raw:
                declared.append(f"CArray<{kind}>& {p.name} = *(CArray<{kind}>*)_args[{i}];")
            else:
                declared.append(f"CArray<{kind}>& _raw_{p.name} = *(CArray<{kind}>*)_args[{i}];")
                elements.append(f"{kind}& {p.name} = _raw_{p.name}[i];")
        # The body is a function of its own, so that `return` ends one element and not the loop.
        return "\n".join(
            [
                *(*(f"typedef {c_type} {letter};" for letter, c_type in sorted(types.items())), self.preamble),
                f'extern "C" void {self.name}(ptrdiff_t _size, void** _args, bool _backwards) {{',
                *(*declared, self.kwargs.get("loop_prep", ""), ";"),
                "auto _body = [&](ptrdiff_t i) { do {",
                *(*elements, self.operation, ";"),
                "} while (false); };",
                "for (ptrdiff_t _k = 0; _k < _size; ++_k) _body(_backwards ? _size - 1 - _k : _k);",
                *(self.kwargs.get("after_loop", ""), ";", "}"),
            ]
        )


class _Header(ctypes.Structure):
    """As the header of the sources declares it."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("ndim", ctypes.c_ssize_t),
        ("shape", ctypes.c_ssize_t * 16),
        ("strides", ctypes.c_ssize_t * 16),
    )
