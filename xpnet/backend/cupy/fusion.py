"""Elementwise operations on CuPy, fused into few kernels.

On CuPy, a step of a small network takes about eighty operations, each a kernel that runs for a microsecond and does
next to nothing. Here, a function runs on Deferred arrays: an elementwise operation on them only records the
computation. When something else needs an array (a matrix product, a reduction over many elements), the entire
expression that leads to it becomes one kernel. Writes into the function's arguments are carried out at its end, most of
them by a single kernel.

The kernels round each operation separately, as CuPy's own do, so the results are the same to the last bit. An
expression that is needed twice is computed twice, unless it has become an array in between: arithmetic costs less than
memory. Short rows (the classes) are reduced within the expression, by a loop.

A deferred function may do everything that a function on arrays may do, except write into them other than by augmented
assignment. Its writes do not show in views that it made earlier, nor in arguments that overlap.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from .kernels import BOOL_CODE, C_TYPES, FLOAT_CODE, INTEGER_CODE, Group, Kernel, Node, Store

__all__ = ["Deferred", "Fusion", "is_short", "leaves", "map_tree"]

SHORT = 32
"""The longest row that is reduced by a loop in the expression."""

# The launch of a kernel takes at most 4 kB of arguments, an array of one dimension 32 bytes of them.
MOST_ARRAYS = 96

# What expressions may become: Python's recursion is to write them, and one store is to fit in a kernel.
DEEPEST, WIDEST = 100, 64

# fmt: off
_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "mod": "remainder",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift", "pow": "pow", "floordiv": "floor_divide",
}
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}
# fmt: on


class Deferred:
    """An array that may not have been computed yet; it has the operators, and otherwise whatever a CuPy array has.

    node : what it is made of.   home : the array that its elements belong in at the end, where there is one.
    """

    __array_ufunc__ = None  # NumPy's and CuPy's arrays leave mixed operations to it
    __array_priority__ = 1000
    __hash__ = None  # type: ignore[assignment]  # as of every array

    def __init__(self, fusion: "Fusion", node: Node, home: Any = None) -> None:
        self._fusion, self.node, self.home = fusion, node, home

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def dtype(self) -> Any:
        return self.node.dtype

    @property
    def ndim(self) -> int:
        return len(self.node.shape)

    @property
    def size(self) -> int:
        return self.node.size

    @property
    def device(self) -> Any:
        return self._fusion.cupy.cuda.Device()

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        whole = sum(isinstance(k, slice) and k == slice(None) for k in keys)
        if whole == self.ndim and whole + sum(k is None for k in keys) == len(keys):
            axes = iter(self.shape)
            return self._fusion.reshape(self, tuple(1 if k is None else next(axes) for k in keys))
        return self._fusion.through(lambda array, key: array[key], (self, key), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("an assignment to elements cannot be fused")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._fusion.value(self), name)

    @property
    def T(self) -> "Deferred":  # noqa: N802, the standard's name
        return self._fusion.through(lambda array: array.T, (self,), {})  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator["Deferred"]:
        return (self[i] for i in range(len(self)))


def _operator(name: str, reflected: bool) -> Callable[..., Any]:
    def operate(self: Deferred, other: Any) -> Any:
        operands = (other, self) if reflected else (self, other)
        return self._fusion.call(name, *operands)

    return operate


def _unary(name: str) -> Callable[..., Any]:
    return lambda self: self._fusion.call(name, self)


def _augmented(name: str) -> Callable[..., Any]:
    def assign(self: Deferred, other: Any) -> Deferred:
        self._fusion.assign(self, self._fusion.call(name, self, other))
        return self

    return assign


def _read(convert: type) -> Callable[..., Any]:
    return lambda self: convert(self._fusion.value(self))


for _name, _function in _OPERATORS.items():
    setattr(Deferred, f"__{_name}__", _operator(_function, False))
    setattr(Deferred, f"__r{_name}__", _operator(_function, True))
    setattr(Deferred, f"__i{_name}__", _augmented(_function))
for _name, _function in _COMPARISONS.items():
    setattr(Deferred, f"__{_name}__", _operator(_function, False))
for _name, _function in (("neg", "negative"), ("pos", "positive"), ("abs", "abs"), ("invert", "bitwise_invert")):
    setattr(Deferred, f"__{_name}__", _unary(_function))
for _name, _type in (("bool", bool), ("int", int), ("index", int), ("float", float)):
    setattr(Deferred, f"__{_name}__", _read(_type))


class Fusion:
    """Defers what functions do with CuPy.

    cupy : the module.   functions : the namespace's functions and types by name.
    xp : the namespace through which a function must go to be deferred; outside of one it is that of functions.
    """

    def __init__(self, cupy: Any, functions: dict[str, Any]) -> None:
        self.cupy = cupy
        self._functions = functions
        self._special: dict[str, Callable[..., Any]] = {
            "arange": self._arange,
            "argmax": self._argmax,
            "astype": self._astype,
            "full": self._full,
            "max": self._max,
            "reshape": self._reshape,
            "sum": self._sum,
            "take": self._take,
            "where": self._where,
            "zeros": self._zeros,
            "zeros_like": self._zeros_like,
        }
        self._kernels: dict[str, Any] = {}
        self._running = threading.local()
        plain = {name: f for name, f in functions.items() if not callable(f) or isinstance(f, type)}
        self.xp = SimpleNamespace(**plain, **{n: self._entrance(n) for n in functions.keys() - plain.keys()})

    def fuse(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its elementwise operations gathered into few kernels.

        function : of arrays and of lists and tuples of them, pure but for augmented assignments to its arguments; those
            that it assigns to share no memory with others.
        """

        def fused(*arguments: Any) -> Any:
            if getattr(self._running, "now", False):
                return function(*arguments)
            entered: dict[int, Deferred] = {}

            def enter(argument: Any) -> Any:
                if not isinstance(argument, self.cupy.ndarray):
                    return argument
                return entered.setdefault(id(argument), Deferred(self, self._leaf(argument), argument))

            with self._deferring():
                results = map_tree(function(*map_tree(arguments, enter)), self._as_deferred)
                self._finish(list(entered.values()), results)
            return map_tree(results, _bare)

        return fused

    # What happens to a call in a deferred function

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Call one of the namespace's functions: note it if it is elementwise, else do it on computed arrays."""
        result = NotImplemented
        arrays = (x for x in arguments if isinstance(x, Deferred | self.cupy.ndarray))
        if any(x.dtype not in C_TYPES for x in arrays):
            pass  # float16 and complex numbers are CuPy's
        elif name in self._special:
            result = self._special[name](*arguments, **keywords)
        elif name in INTEGER_CODE.keys() | FLOAT_CODE.keys() and not keywords:
            result = self._elementwise(name, *arguments)
        return self.through(self._functions[name], arguments, keywords) if result is NotImplemented else result

    def through(self, function: Callable[..., Any], arguments: Any, keywords: dict[str, Any]) -> Any:
        """Call a function that needs its arrays computed."""
        given = leaves((arguments, tuple(keywords.values())))
        self._compute([each.node for each in given if _is_deferred(each)])
        computed = map_tree(arguments, self._computed)
        results = function(*computed, **{name: self._computed(value) for name, value in keywords.items()})
        return map_tree(results, self._as_deferred)

    def value(self, deferred: Deferred) -> Any:
        """Its array, computed now if it has not been."""
        self._compute([deferred.node])
        return deferred.node.array

    def assign(self, target: Deferred, value: Deferred) -> None:
        """Augmented assignment: target becomes value, in its own dtype and shape."""
        if value.shape != target.shape or not np.can_cast(value.dtype, target.dtype, "same_kind"):
            raise TypeError(f"{value.dtype} {value.shape} cannot be assigned to {target.dtype} {target.shape}")
        target.node = self._node(self.call("astype", value, target.dtype, copy=False))

    def replace(self, old: list[Deferred], new: list[Any]) -> None:
        """Let arrays become others.   Raises TypeError where a shape, a dtype or the number of them differs."""
        nodes = [self._node(each) for each in new]
        if [(each.shape, each.dtype) for each in old] != [(node.shape, node.dtype) for node in nodes]:
            raise TypeError("the new state has other shapes or dtypes than the old one")
        for target, node in zip(old, nodes, strict=True):
            target.node = node

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Deferred:
        node = self._node(x)
        return Deferred(self, Node("same", node.dtype, shape, (node,)))

    def _entrance(self, name: str) -> Callable[..., Any]:
        function = self._functions[name]

        def enter(*arguments: Any, **keywords: Any) -> Any:
            if getattr(self._running, "now", False):
                return self.call(name, *arguments, **keywords)
            return function(*arguments, **keywords)

        return enter

    @contextmanager
    def _deferring(self) -> Iterator[None]:
        self._running.now = True
        try:
            yield
        finally:
            self._running.now = False

    def _as_deferred(self, result: Any) -> Any:
        return Deferred(self, self._leaf(result)) if isinstance(result, self.cupy.ndarray) else result

    def _computed(self, argument: Any) -> Any:
        return map_tree(argument, lambda a: a.node.array if _is_deferred(a) else a)

    # Expressions: each method of these returns NotImplemented for what it leaves to CuPy

    def _leaf(self, array: Any) -> Node:
        node = Node("array", array.dtype, array.shape)
        node.array = array
        return node

    def _node(self, x: Any, dtype: Any = None) -> Node:
        """The node of an array, a Deferred or a number; a Python number takes the dtype."""
        if _is_deferred(x):
            return x.node  # type: ignore[no-any-return]
        if isinstance(x, self.cupy.ndarray):
            return self._leaf(x)
        return Node(
            "number", dtype if isinstance(x, bool | int | float) and dtype else np.asarray(x).dtype, (), extra=x
        )

    def _cast(self, node: Node, dtype: Any) -> Node:
        if node.dtype == dtype:
            return node
        if node.kind == "number":
            return Node("number", dtype, (), extra=node.extra)
        code = "{0} != 0" if dtype == np.bool_ else "({t}){0}"
        return Node("operation", dtype, node.shape, (node,), code)

    def _elementwise(self, name: str, *operands: Any) -> Any:
        types = [type(x) if type(x) in (int, float) else self._node(x).dtype for x in operands]
        try:
            *loop, result = getattr(np, name).resolve_dtypes((*types, None))
        except TypeError:
            return NotImplemented  # CuPy's own message
        code = {"f": FLOAT_CODE, "b": BOOL_CODE}.get(loop[0].kind, INTEGER_CODE).get(name)
        if code is None or any(dtype not in C_TYPES for dtype in (*loop, result)):
            return NotImplemented
        return self._operation(
            code, result, [self._cast(self._node(x, d), d) for x, d in zip(operands, loop, strict=True)]
        )

    def _operation(self, code: str, dtype: Any, args: list[Node]) -> Deferred:
        shape = np.broadcast_shapes(*(arg.shape for arg in args))
        node = Node("operation", dtype, shape, tuple(args), code)
        if node.depth > DEEPEST or len(node.leaves) > WIDEST:
            self._compute([arg for arg in args if arg.kind != "number"])
            node = Node("operation", dtype, shape, tuple(args), code)
        return Deferred(self, node)

    def _where(self, condition: Any, x: Any, y: Any) -> Any:
        dtype = np.result_type(*(each if type(each) in (int, float) else self._node(each).dtype for each in (x, y)))
        args = [self._cast(self._node(each, dtype), dtype) for each in (x, y)]
        return self._operation("{0} ? {1} : {2}", dtype, [self._cast(self._node(condition), np.dtype(bool)), *args])

    def _astype(self, x: Any, dtype: Any, *, copy: bool = True, device: Any = None) -> Any:
        dtype, node = np.dtype(dtype), self._node(x)
        if dtype not in C_TYPES:
            return NotImplemented
        if dtype == node.dtype and copy:  # an array of its own, since the other one may become something else
            return Deferred(self, Node("operation", dtype, node.shape, (node,), "{0}"))
        return Deferred(self, self._cast(node, dtype))

    def _reshape(self, x: Any, shape: Any, *, copy: Any = None) -> Any:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        return NotImplemented if -1 in shape or math.prod(shape) != x.size else self.reshape(x, shape)

    def _take(self, x: Any, indices: Any, *, axis: int | None = None) -> Any:
        table, rows = self._node(x), self._node(indices)
        of_rows = axis == 0 or (axis is None and len(table.shape) == 1)
        if not of_rows or len(rows.shape) != 1 or rows.dtype.kind != "i":
            return NotImplemented
        if not table.size or table.dtype not in C_TYPES:
            return NotImplemented
        return Deferred(self, Node("take", table.dtype, (*rows.shape, *table.shape[1:]), (table, rows)))

    def _full(self, shape: Any, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if dtype is None or not isinstance(value, bool | int | float) or np.dtype(dtype) not in C_TYPES:
            return NotImplemented
        return Deferred(self, Node("spread", dtype, shape, (Node("number", dtype, (), extra=value),)))

    def _zeros(self, shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
        return self._full(shape, 0, dtype=dtype)

    def _zeros_like(self, x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
        return self._full(x.shape, 0, dtype=dtype or x.dtype)

    def _arange(self, start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Any:
        start, stop = (0, start) if stop is None else (start, stop)
        if step != 1 or dtype is None or np.dtype(dtype).kind != "i" or {type(start), type(stop)} != {int}:
            return NotImplemented
        return Deferred(self, Node("range", dtype, (max(stop - start, 0),), extra=start))

    def _reduction(self, kind: str, x: Any, axis: Any, keepdims: bool, dtype: Any = None) -> Any:
        node = self._node(x)
        if not is_short(node, axis) or node.dtype.char not in "fd":
            return NotImplemented
        shape = (node.shape[0], 1) if keepdims else node.shape[:1]
        return Deferred(self, Node("reduction", dtype or node.dtype, shape, (node,), kind))

    def _sum(self, x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        return NotImplemented if dtype is not None else self._reduction("sum", x, axis, keepdims)

    def _max(self, x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduction("max", x, axis, keepdims)

    def _argmax(self, x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduction("argmax", x, axis, keepdims, np.int64)

    # Kernels

    def _compute(self, nodes: list[Node], fresh: bool = False) -> None:
        """Give each node its array; with fresh=True one of its own."""
        wanted = {}
        for node in nodes:
            if not fresh and node.array is None and node.kind == "same" and node.args[0].array is not None:
                node.array = node.args[0].array.reshape(node.shape)
            elif fresh or node.array is None:
                wanted[id(node)] = node
        stores = [Store(self.cupy.empty(node.shape, node.dtype), node) for node in wanted.values()]
        self._launch([Group(store) for store in stores])
        for store in stores:
            store.node.array = store.array

    def _finish(self, entered: list[Deferred], results: Any) -> None:
        """Compute the results, then write into the arguments what they have become."""
        self._compute([each.node for each in leaves(results) if _is_deferred(each) and each.home is None])
        changed = [Store(each.home, each.node) for each in entered if each.node.array is not each.home]
        pending: list[Group] = []
        for store in changed:
            group = Group(store)
            together = [each for each in pending if each.needs(group) or group.needs(each)]
            pending = [each for each in pending if each not in together]
            pending.append(Group(*(s for each in together for s in each.stores), store))
        while pending:
            # What others still read must not be overwritten: those go first that write what nobody else reads.
            ready = [each for each in pending if not any(each.disturbs(other) for other in pending)]
            if not ready:  # they read each other's: all values are put aside
                stores = [store for group in pending for store in group.stores]
                self._compute([store.node for store in stores], fresh=True)
                ready = [Group(store) for store in stores]
                pending = []
            self._launch(ready)
            pending = [each for each in pending if each not in ready]

    def _launch(self, groups: list[Group]) -> None:
        """Compute and store, all in one kernel if it can take so many arrays."""
        groups = [group for group in groups if group.size]
        while groups:
            kernel = Kernel()
            while groups and (not kernel.size or kernel.arrays + len(groups[0].reads) + 4 <= MOST_ARRAYS):
                kernel.add(groups.pop(0))
            inputs, outputs, code = kernel.source()
            name = f"xpnet_{hashlib.blake2s(code.encode(), digest_size=6).hexdigest()}"
            key = f"{inputs}; {outputs}; {code}"
            if key not in self._kernels:
                self._kernels[key] = self.cupy.ElementwiseKernel(inputs, outputs, code, name)
            self._kernels[key](*kernel.inputs, *kernel.outputs, size=kernel.size)


def is_short(x: Any, axis: Any) -> bool:
    """Whether rows are reduced that are short enough for a loop."""
    return len(x.shape) == 2 and axis in (1, -1) and 0 < x.shape[1] <= SHORT


def map_tree(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Lists and tuples of what function makes of the leaves; None stays."""
    if tree is None:
        return None
    if isinstance(tree, list):
        return [map_tree(each, function) for each in tree]
    if isinstance(tree, tuple):
        mapped = [map_tree(each, function) for each in tree]
        return type(tree)(*mapped) if hasattr(tree, "_fields") else tuple(mapped)
    return function(tree)


def leaves(tree: Any) -> list[Any]:
    """What is in lists and tuples, in its order, but for None."""
    found: list[Any] = []
    map_tree(tree, found.append)
    return found


def _is_deferred(x: Any) -> bool:
    return isinstance(x, Deferred)


def _bare(result: Any) -> Any:
    """The array of a result; what is none stays as it is."""
    if not _is_deferred(result):
        return result
    return result.node.array if result.home is None else result.home
