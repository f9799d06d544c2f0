"""The modules of CuPy, and NVIDIA's loader of libraries."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Array
from .capture import Graph
from .errors import CompileException, CUDARuntimeError, OutOfMemoryError
from .functions import as_in_cupy
from .kernels import ElementwiseKernel
from .memory import MemoryPointer, MemoryPool
from .nccl import NcclCommunicator, functions
from .streams import Device, Event, Stream

if TYPE_CHECKING:
    from .state import Fake


# What NumPy has and CuPy 14.2 has not, as far as one might use it; RandomState and the like are left out as well.
_ABSENT = [
    "asmatrix", "block", "bmat", "bytes_", "einsum_path", "errstate", "frompyfunc", "geomspace", "insert", "longdouble",
    "matrix", "matvec", "memmap", "ndenumerate", "nditer", "object_", "record", "recarray", "seterr", "str_", "test",
    "timedelta64", "datetime64", "unstack", "vecdot", "vecmat", "void", "asarray", "asanyarray", "array",
    "ascontiguousarray", "asfortranarray", "copy", "empty", "empty_like", "ndarray", "take", "frombuffer", "fromfile",
    "fromiter", "fromstring", "load", "loads", "save", "savez", "savetxt", "loadtxt", "genfromtxt", "nested_iters",
    "show_config", "show_runtime", "info", "False_", "True_", "ScalarType", "busday_count", "busday_offset",
    "busdaycalendar", "character", "clongdouble", "complex256", "datetime_as_string", "datetime_data", "flexible",
    "float128", "fromregex", "get_include", "getbufsize", "geterr", "geterrcall", "histogram_bin_edges", "is_busday",
    "isnat", "little_endian", "nanpercentile", "nanquantile", "polyder", "polydiv", "polyint", "sctypeDict",
    "setbufsize", "seterrcall", "spacing", "typecodes",
]  # fmt: skip
_ABSENT_LINALG = [
    "svdvals", "multi_dot", "trace", "diagonal", "outer", "tensordot", "matrix_norm", "vector_norm", "vecdot",
]  # fmt: skip


def build(fake: "Fake") -> tuple[Any, dict[str, ModuleType]]:
    """The modules, by name, with classes of their own, because array-api-compat remembers classes."""

    def bound(cls: type, name: str | None = None) -> Any:
        return type(name or cls.__name__, (cls,), {"fake": fake, "__module__": "cupy"})

    names = [
        "cupy", "cupy.cuda", "cupy.cuda.device", "cupy.cuda.stream", "cupy.cuda.graph", "cupy.cuda.memory",
        "cupy.cuda.runtime", "cupy.cuda.compiler", "cupy.cuda.nccl", "cupy.linalg", "cupy.fft", "cupyx",
    ]  # fmt: skip
    modules = {name: ModuleType(name) for name in [*names, "cuda", "cuda.pathfinder"]}
    cupy: Any = modules["cupy"]
    cuda: Any = modules["cupy.cuda"]
    runtime: Any = modules["cupy.cuda.runtime"]
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        parent, _, child = name.rpartition(".")
        if parent and child != "nccl":  # which is imported when it is asked for
            setattr(modules[parent], child, module)

    # cupy
    for name in dir(np):
        value = getattr(np, name)
        if name.startswith("_") or name in _ABSENT or isinstance(value, ModuleType):
            continue
        plain = isinstance(value, type | int | float | type(None)) or not callable(value)
        keep = plain or name in ("result_type", "can_cast", "finfo", "iinfo", "issubdtype", "isdtype", "promote_types")
        setattr(cupy, name, value if keep or name == "broadcast_shapes" else as_in_cupy(fake, name, value))
    cupy.__version__ = "14.2.0"
    cupy.ndarray = bound(Array, "ndarray")
    cupy.ElementwiseKernel = bound(ElementwiseKernel)
    for module, space in ((modules["cupy.linalg"], np.linalg), (modules["cupy.fft"], np.fft)):
        for name in set(space.__all__) - set(_ABSENT_LINALG):
            vars(module)[name] = as_in_cupy(fake, name, getattr(space, name))

    def array(
        obj: Any, dtype: Any = None, copy: Any = True, order: Any = "K", subok: Any = False, ndmin: int = 0, *,
        blocking: bool = False,
    ) -> Any:  # fmt: skip
        return fake.asarray(obj, dtype, order, copy, blocking)

    def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> Any:
        return fake.asarray(a, dtype, order, copy, blocking)

    def ascontiguousarray(a: Any, dtype: Any = None) -> Any:
        return fake.asarray(a, dtype, "C")

    def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
        return a.get(stream, order, out, blocking) if isinstance(a, Array) else np.asarray(a, order=order)  # type: ignore[call-overload]

    def empty(shape: Any, dtype: Any = float, order: Any = "C") -> Any:
        return cupy.ndarray(shape, dtype, order=order)

    def empty_like(prototype: Any, dtype: Any = None, order: Any = "K", subok: Any = None, shape: Any = None) -> Any:
        like = np.empty_like(prototype.host, dtype, order, True, shape)
        return cupy.ndarray(like.shape, like.dtype, strides=like.strides)

    def take(a: Any, indices: Any, axis: int | None = None, out: Any = None) -> Any:
        def gather(host: np.ndarray, rows: Any) -> Any:
            return np.take(host, rows % (host.size if axis is None else host.shape[axis]), axis)

        if isinstance(indices, int | np.integer):
            return fake.launch("take", lambda host: gather(host, indices), [a], out)
        return fake.launch("take", gather, [a, fake.asarray(indices)], out)

    def copy(a: Any, order: str = "K") -> Any:
        return a.copy(order)

    def copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = None) -> None:
        dst[...] = src

    def get_array_module(*args: Any) -> Any:
        return cupy if any(isinstance(arg, Array) for arg in args) else np

    cupy.bool = np.bool_
    cupy.asanyarray, cupy.asfortranarray = asarray, lambda a, dtype=None: fake.asarray(a, dtype, "F")
    for function in (
        array,
        asarray,
        ascontiguousarray,
        asnumpy,
        empty,
        empty_like,
        take,
        copy,
        copyto,
        get_array_module,
    ):
        setattr(cupy, function.__name__, function)
    cupy.is_available = cuda.is_available = lambda: fake.devices > 0

    # cupy.cuda
    for cls in (MemoryPool, Stream, Event, Graph, Device):
        setattr(cuda, cls.__name__, bound(cls))
    cuda.Stream.null = cuda.Stream(null=True)
    cuda.MemoryPointer, cuda.alloc = MemoryPointer, fake.alloc
    cuda.memory.OutOfMemoryError, cuda.memory.MemoryPool = OutOfMemoryError, cuda.MemoryPool
    cuda.device.Device, cuda.graph.Graph = cuda.Device, cuda.Graph
    cuda.compiler.CompileException = CompileException
    pool = cuda.MemoryPool()
    cupy.get_default_memory_pool = lambda: pool

    @contextmanager
    def using_allocator(allocator: Any = None) -> Iterator[None]:
        previous = fake.local.allocator
        fake.local.allocator = fake.malloc if allocator is None else allocator
        try:
            yield
        finally:
            fake.local.allocator = previous

    def get_current_stream(device_id: int = -1) -> Stream:
        return fake.local.streams.get(fake.local.device if device_id < 0 else device_id) or fake.streams[0]

    def set_allocator(allocator: Any = None) -> None:
        fake.allocator = allocator or fake.malloc

    cuda.using_allocator, cuda.get_current_stream, cuda.set_allocator = (
        using_allocator,
        get_current_stream,
        set_allocator,
    )
    cuda.stream.Stream, cuda.stream.Event, cuda.stream.get_current_stream = cuda.Stream, cuda.Event, get_current_stream
    cuda.get_allocator = lambda: fake.local.allocator or fake.allocator
    vars(runtime).update(
        CUDARuntimeError=CUDARuntimeError,
        streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1,
        streamCaptureModeRelaxed=2,
        getDeviceCount=lambda: fake.devices,
        getDevice=lambda: fake.local.device,
        setDevice=fake.set_device,
        getDeviceProperties=lambda device: {"name": b"NVIDIA Fake", "totalGlobalMem": fake.total_memory},
        driverGetVersion=lambda: 13020,
        runtimeGetVersion=lambda: 13020,
        memGetInfo=fake.memory_info,
        deviceSynchronize=lambda: cuda.Device().synchronize(),
    )

    vars(modules["cupy.cuda.nccl"]).update(functions(fake), NcclCommunicator=bound(NcclCommunicator))

    # cupyx, and the loader of NVIDIA's libraries
    def zeros_pinned(shape: Any, dtype: Any = float, order: Any = "C") -> np.ndarray:
        pinned = fake.empty_pinned(shape, dtype, order)
        pinned[...] = 0
        return pinned

    cupyx: Any = modules["cupyx"]
    cupyx.empty_pinned, cupyx.zeros_pinned = fake.empty_pinned, zeros_pinned
    pathfinder: Any = modules["cuda.pathfinder"]
    pathfinder.load_nvidia_dynamic_lib = lambda libname: SimpleNamespace(abs_path=f"/fake/lib{libname}.so.13")
    return cupy, modules
