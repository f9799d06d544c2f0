"""The code of fused kernels: the parts of an array expression, and their form in CUDA's C++."""

import math
from typing import Any, NamedTuple

import numpy as np

__all__ = ["BOOL_CODE", "C_TYPES", "FLOAT_CODE", "INTEGER_CODE", "Group", "Kernel", "Node", "Store"]

# fmt: off
C_TYPES = {
    np.dtype(name): c_type
    for name, c_type in {
        "bool": "bool", "float32": "float", "float64": "double",
        "int8": "signed char", "int16": "short", "int32": "int", "int64": "long long",
        "uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int", "uint64": "unsigned long long",
    }.items()
}
_CALLS = ("ceil", "cos", "exp", "expm1", "floor", "log", "log1p", "sin", "sqrt", "tanh", "isfinite", "isnan")
# On the operands {0}, {1}, ... of the C type {t}; {u} is the unsigned one, in which integers wrap around. The functions
# that end in _rn are CUDA's, for float or double by {p}: the compiler would merge a * b + c into one operation.
FLOAT_CODE = {
    **{name: f"{name}({{0}})" for name in _CALLS},
    "add": "__{p}add_rn({0}, {1})", "subtract": "__{p}sub_rn({0}, {1})", "multiply": "__{p}mul_rn({0}, {1})",
    "square": "__{p}mul_rn({0}, {0})", "divide": "{0} / {1}",
    "equal": "{0} == {1}", "not_equal": "{0} != {1}", "less": "{0} < {1}", "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}", "greater_equal": "{0} >= {1}",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}", "bitwise_invert": "~{0}",
    "logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "logical_not": "!{0}",
    "negative": "-{0}", "positive": "{0}", "abs": "fabs({0})",
    "maximum": "isnan({0}) || {0} > {1} ? {0} : {1}",
    "minimum": "isnan({0}) || {0} < {1} ? {0} : {1}",
}
INTEGER_CODE = {
    **{name: code for name, code in FLOAT_CODE.items() if name not in _CALLS},
    **{f: f"({{t}})(({{u}}){{0}} {op} ({{u}}){{1}})" for f, op in (("add", "+"), ("subtract", "-"), ("multiply", "*"))},
    "square": "({t})(({u}){0} * ({u}){0})", "negative": "({t})(0 - ({u}){0})", "abs": "{0} < 0 ? -{0} : {0}",
    "maximum": "{0} > {1} ? {0} : {1}", "minimum": "{0} < {1} ? {0} : {1}",
    "bitwise_left_shift": "({t})(({u}){0} << {1})", "bitwise_right_shift": "{0} >> {1}",
    # Of the divisor's sign, as in Python, and 0 where that is 0, as in CuPy.
    "remainder": "{1} == 0 ? 0 : {0} % {1} + ({0} % {1} != 0 && ({0} < 0) != ({1} < 0) ? {1} : 0)",
}
BOOL_CODE = {
    **{
        name: code
        for name, code in FLOAT_CODE.items()
        if name.startswith(("bitwise_", "logical_")) or name.endswith("equal")
    },
    "add": "{0} || {1}", "multiply": "{0} && {1}", "bitwise_invert": "!{0}",
}
# fmt: on


class Node:
    """What an array is made of.

    kind : how; a method of Kernel by that name writes the code.   args : the nodes it is made from.
    extra : what else there is to say of it.   array : its elements, once they have been computed.
    depth, leaves : of the expression, the operations one on top of the other, and the nodes that are arrays.
    """

    __slots__ = ("args", "array", "depth", "dtype", "extra", "kind", "leaves", "shape", "size")

    def __init__(
        self, kind: str, dtype: Any, shape: tuple[int, ...], args: "tuple[Node, ...]" = (), extra: Any = None
    ) -> None:
        self.kind, self.dtype, self.shape, self.args, self.extra = kind, np.dtype(dtype), tuple(shape), args, extra
        self.size = math.prod(shape)
        self.array: Any = None
        self.depth: int = 1 + max((arg.depth for arg in args if arg.array is None), default=0)
        self.leaves: frozenset[Node] = frozenset().union(*(arg.leaves if arg.array is None else {arg} for arg in args))


class Store(NamedTuple):
    """An array, and the node whose elements go into it."""

    array: Any
    node: Node


class _Index(NamedTuple):
    """A C variable, or 0, that counts elements.   size : how many.   depth : of the loop that it belongs to."""

    name: str
    size: int
    depth: int = 0


_FIRST = _Index("0", 1)


class _Scope:
    """A body of C code: its lines, and the variables that hold what it has computed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.known: dict[Any, Any] = {}


class Kernel:
    """The code of a kernel, whose threads each compute one element of each array of a group."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.size = 0
        self._names: dict[Any, str] = {}
        self._bodies: list[str] = []
        self._count = 0

    @property
    def arrays(self) -> int:
        return len(self.inputs) + len(self.outputs)

    def add(self, group: "Group") -> None:
        self._scopes = [_Scope()]
        j = _Index("j", group.size)
        values = [self._emit(node, j) for _, node in group.stores]
        lines = [f"const {_integer(group.size)} j = i - {self.size};", *self._scopes[0].lines]
        for (array, _), value in zip(group.stores, values, strict=True):
            lines.append(f"o{len(self.outputs)}[j] = {value};")
            self.outputs.append(_flat(array))
        self.size += group.size
        self._bodies.append(f"if (i < {self.size}) {{\n" + "\n".join(lines) + "\n}")

    def source(self) -> tuple[str, str, str]:
        inputs = ", ".join(f"raw {array.dtype} a{i}" for i, array in enumerate(self.inputs))
        outputs = ", ".join(f"raw {array.dtype} o{i}" for i, array in enumerate(self.outputs))
        return inputs, outputs, "\nelse ".join(self._bodies)

    def _emit(self, node: Node, index: _Index) -> str:
        """The C expression, a variable or a number, that holds the node's element at an index."""
        if node.kind == "number":
            return _literal(node.extra, node.dtype)
        scope = self._scopes[index.depth]
        key = node, index.name
        if key not in scope.known:
            code = (
                f"{self._input(node.array)}[{index.name}]"
                if node.array is not None
                else getattr(self, f"_{node.kind}")(node, index)
            )
            scope.known[key] = self._variable(C_TYPES[node.dtype], code, index.depth)
        name: str = scope.known[key]
        return name

    def _variable(self, c_type: str, code: str, depth: int) -> str:
        self._count += 1
        self._scopes[depth].lines.append(f"const {c_type} t{self._count} = {code};")
        return f"t{self._count}"

    def _input(self, array: Any) -> str:
        key = array.data.ptr, array.strides, array.shape, array.dtype
        if key not in self._names:
            self._names[key] = f"a{len(self.inputs)}"
            self.inputs.append(_flat(array))
        return self._names[key]

    # Kinds of nodes

    def _operation(self, node: Node, index: _Index) -> str:
        operands = [self._emit(arg, self._broadcast(arg.shape, node.shape, index)) for arg in node.args]
        t = C_TYPES[node.dtype]
        u = t if t.startswith("unsigned") else f"unsigned {t.removeprefix('signed ')}"
        code: str = node.extra
        return code.format(*operands, t=t, u=u, p=t[0])

    def _same(self, node: Node, index: _Index) -> str:
        return self._emit(node.args[0], index)

    def _spread(self, node: Node, index: _Index) -> str:
        return self._emit(node.args[0], _FIRST)

    def _range(self, node: Node, index: _Index) -> str:
        return f"({C_TYPES[node.dtype]}){index.name} + {_literal(node.extra, node.dtype)}"

    def _take(self, node: Node, index: _Index) -> str:
        table, rows = node.args
        n, width = table.shape[0], table.size // table.shape[0]
        row, column = self._divided(index, width)
        # An index beyond the end begins anew, as in CuPy's take.
        at = self._variable("long long", f"({self._emit(rows, row)} % {n}LL + {n}LL) % {n}LL", row.depth)
        position = at if width == 1 else f"{at} * {width} + {column.name}"
        position = self._variable(_integer(table.size), position, index.depth)
        return self._emit(table, _Index(position, table.size, index.depth))

    def _reduction(self, node: Node, index: _Index) -> str:
        (child,) = node.args
        width, depth = child.shape[1], index.depth + 1
        self._count += 1
        r, q, best, at = (f"{name}{self._count}" for name in "rqbp")
        deeper, self._scopes = self._scopes[depth:], [*self._scopes[:depth], _Scope()]
        element = _Index(q, child.size, depth)
        self._scopes[depth].known["divided", q, width] = index, _Index(r, width, depth)
        value = self._emit(child, element)
        body = self._scopes[depth].lines
        self._scopes = [*self._scopes[:depth], *deeper]
        t = C_TYPES[child.dtype]
        sum_of = FLOAT_CODE["add"].format(best, value, p=t[0])
        start, update = {
            "sum": ("0", f"{best} = {sum_of};"),
            "max": ("-1.0 / 0.0", f"if ({value} > {best} || isnan({value})) {best} = {value};"),
            "argmax": (
                "-1.0 / 0.0",
                f"if ({value} > {best} || (isnan({value}) && !isnan({best}))) {{ {best} = {value}; {at} = {r}; }}",
            ),
        }[node.extra]
        self._scopes[index.depth].lines += [
            f"{t} {best} = {start}; int {at} = 0;",
            f"for (int {r} = 0; {r} < {width}; ++{r}) {{",
            f"const {_integer(child.size)} {q} = ({_integer(child.size)}){index.name} * {width} + {r};",
            *body,
            update,
            "}",
        ]
        return at if node.extra == "argmax" else best

    # Indices

    def _divided(self, index: _Index, width: int) -> tuple[_Index, _Index]:
        """The index of a row, and that within the row, where rows are width long."""
        if width == 1:
            return index, _FIRST
        if index.size <= width:
            return _FIRST, index
        known = self._scopes[index.depth].known
        key = "divided", index.name, width
        if key not in known:
            row = self._variable(_integer(index.size), f"{index.name} / {width}", index.depth)
            column = self._variable("int", f"{index.name} % {width}", index.depth)
            known[key] = (
                _Index(row, index.size // width, index.depth),
                _Index(column, width, index.depth),
            )
        found: tuple[_Index, _Index] = known[key]
        return found

    def _broadcast(self, shape: tuple[int, ...], target: tuple[int, ...], index: _Index) -> _Index:
        """Where an array of some shape, broadcast to the target's, has the element that the target has at an index."""
        size = math.prod(shape)
        if size == 1:
            return _FIRST
        if size == math.prod(target):
            return index
        terms: list[tuple[_Index, int]] = []
        rest, stride = index, 1
        for own, whole in zip(shape[::-1], target[::-1], strict=False):
            rest, coordinate = self._divided(rest, whole)
            if own != 1:
                terms.append((coordinate, stride))
                stride *= own
        if len(terms) == 1:
            return terms[0][0]
        depth = max(term.depth for term, _ in terms)
        position = " + ".join(f"(long long){term.name} * {factor}" for term, factor in terms)
        return _Index(self._variable(_integer(size), position, depth), size, depth)


def _integer(size: int) -> str:
    return "int" if size < 2**31 else "long long"


def _literal(value: Any, dtype: np.dtype[Any]) -> str:
    """A number in C, of a dtype."""
    if dtype.kind == "f":
        number = float(dtype.type(value))
        if not math.isfinite(number):
            return "(0.0 / 0.0)" if math.isnan(number) else f"({'-' if number < 0 else ''}1.0 / 0.0)"
        text = repr(number) + ("f" if dtype == np.float32 else "")
        return f"({text})"
    number = int(dtype.type(value))
    if dtype.itemsize < 8:
        return f"(({C_TYPES[dtype]}){number})" if number != -(2**31) else "(-2147483647 - 1)"
    return f"({number}{'ULL' if dtype.kind == 'u' else 'LL'})" if number != -(2**63) else "(-9223372036854775807LL - 1)"


def _flat(array: Any) -> Any:
    """Its elements in one dimension, where that is no copy: a kernel's argument of fewer bytes."""
    return array.reshape(-1) if array.flags.c_contiguous else array


class _Place(NamedTuple):
    """The addresses between which an array lies, and how; of one layout, element after element lies alike."""

    start: int
    end: int
    layout: Any


def _place(array: Any) -> _Place:
    start = end = array.data.ptr
    for length, stride in zip(array.shape, array.strides, strict=True):
        start += min(0, (length - 1) * stride)
        end += max(0, (length - 1) * stride)
    layout = array.itemsize if array.flags.c_contiguous else (array.shape, array.strides)
    return _Place(start, end + array.itemsize, layout)


class Group:
    """Stores of the same size that are computed together: a thread computes one element of each, then stores them.

    reads : where the arrays lie that they are computed from, each with whether every element needs its own alone.
    writes : where the arrays lie that they go into.
    """

    def __init__(self, *stores: Store) -> None:
        self.stores = list(stores)
        self.size = stores[0].node.size
        self.reads = set().union(*(_reads(store.node, self.size) for store in stores))
        self.writes = {_place(store.array) for store in stores}

    def needs(self, other: "Group") -> bool:
        """Whether it must be computed with the other, since it needs elements at places where the other stores its."""
        return self.size == other.size and any(place in other.writes for place, aligned in self.reads if aligned)

    def disturbs(self, other: "Group") -> bool:
        """Whether its stores change what the other is yet to be computed from."""
        for place, aligned in other.reads:
            own = other is self and aligned and place in self.writes
            if not own and any(place.start < each.end and each.start < place.end for each in self.writes):
                return True
        return False


def _reads(node: Node, size: int) -> set[tuple[_Place, bool]]:
    found: set[tuple[_Place, bool]] = set()
    seen: set[tuple[Node, bool]] = set()
    ahead = [(node, node.size == size)]
    while ahead:
        node, aligned = ahead.pop()
        if (node, aligned) in seen:
            continue
        seen.add((node, aligned))
        if node.array is not None:
            found.add((_place(node.array), aligned))
            continue
        elementwise = aligned and node.kind in ("operation", "same")
        ahead += [(arg, elementwise and arg.size == size) for arg in node.args]
    return found
