"""A network that some other program describes, traced from operator to operator, as a model.

Whatever stands between two matrix products is a function of one unit, however many operators it takes. It is known by
its values: if they are those of an activation of xpnet, it is that, however another program decomposes it. Constants
before and after it are folded into the layers.
"""

import dataclasses
import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import check_one_of
from xpnet.data import Scaling
from xpnet.errors import ModelError
from xpnet.export.layers import output_of
from xpnet.export.models import model_of
from xpnet.model import Model
from xpnet.numerics.functional import ACTIVATIONS, LOSSES, exponential, sigmoid
from xpnet.numerics.network import MLP

__all__ = ["LOSS_OF", "Tracer", "Value"]

Array = NDArray[Any]

# What a network's output says of its loss, where nobody else does.
LOSS_OF = {
    "softmax": "cross-entropy",
    "sigmoid": "binary-cross-entropy",
    "exponential": "poisson",
    "identity": "squared-error",
}

MOST_OPERATORS = 64  # between two matrix products
_GRID = np.linspace(-8.0, 8.0, 321)
_TOLERANCE = 2e-6  # constants may be float32

_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Neg": np.negative,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
    "Exp": np.exp,
    "Tanh": np.tanh,
    "Relu": lambda z: np.maximum(z, 0.0),
    "LeakyRelu": lambda z, slope: np.where(z > 0.0, z, slope * z),
    "Sigmoid": lambda z: sigmoid(z, xp=np)[0],
    "Gelu": lambda z: ACTIVATIONS["gelu"](z, xp=np)[0],
}
_OF_ALL_UNITS = ("Softmax", "LogSoftmax", "TwoClasses")


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What a network computes, unit by unit, from what one of its matrix products gives, or from its input.

    base : the number of that product, 0 for the input.   order : rises from each value to those computed from it.
    op : an operator, "" for the base itself.   inputs : its operands, values or constants.
    name : how an error names the operator.
    """

    base: int
    order: int
    op: str = ""
    inputs: tuple[Any, ...] = ()
    name: str = ""


@dataclasses.dataclass
class _Affine:
    """y = z scale + shift, in float64; None for 1 and 0."""

    scale: Any = None
    shift: Any = None

    def then(self, op: str, constant: Any, *, first: bool) -> None:
        """Apply an operator with one constant, which is its first operand or not."""
        c: Any = None if constant is None else np.asarray(constant, np.float64).reshape(-1)
        if op == "Neg" or (op == "Sub" and first):
            self.then("Mul", -1.0, first=False)
        if op in ("Add", "Sub"):
            c = -c if op == "Sub" and not first else c
            self.shift = c if self.shift is None else self.shift + c
        elif op in ("Mul", "Div"):
            c = 1.0 / c if op == "Div" else c
            self.scale = c if self.scale is None else self.scale * c
            self.shift = None if self.shift is None else self.shift * c


class Tracer:
    """Collects a network's matrix products and what stands between them."""

    def __init__(self) -> None:
        self._order = 0
        self._layers: list[tuple[Value, Array]] = []  # what each matrix product takes, and its weights
        self.input = self._value(0)

    def op(self, op: str, *inputs: Any, name: str = "") -> Value:
        """Apply an operator to values and constants.   Raises ModelError for one that no plain MLP has."""
        if op not in _FUNCTIONS and op not in _OF_ALL_UNITS:
            raise ModelError(f"a network of xpnet has no {name or op}")
        bases = {each.base for each in inputs if isinstance(each, Value)}
        if len(bases) > 1:
            raise ModelError(f"{name or op} joins branches, but the layers of a plain MLP stand in one row")
        return self._value(bases.pop(), op, inputs, name or op)

    def matmul(self, x: Value, W: Array, name: str = "MatMul") -> Value:
        """Multiply by weights (n_in, n_out)."""
        if x.base != len(self._layers):
            raise ModelError(f"{name} begins a branch, but the layers of a plain MLP stand in one row")
        if W.ndim != 2 or 0 in W.shape:
            raise ModelError(f"{name} has weights of shape {W.shape}, but those of a layer are a matrix")
        if self._layers and self._layers[-1][1].shape[1] != W.shape[0]:
            raise ModelError(f"{name} takes {W.shape[0]} units, but the layer before it has {self.width(x)}")
        self._layers.append((x, W if W.dtype == np.float64 else W.astype(np.float32)))
        return self._value(len(self._layers))

    def width(self, x: Value) -> int | None:
        """How many units a value has; None if it is not known yet."""
        return self._layers[x.base - 1][1].shape[1] if x.base else None

    def model(self, end: Value, *, loss: str | None = None, text: Mapping[str, Any] | None = None) -> Model:
        """The model whose output is a value.

        loss : a key of LOSSES; by default the one of text, or the one that the output belongs to.
        text : what the file says of itself, as layers.description has it.
        Raises ModelError if the network is no plain MLP, or contradicts the loss.
        """
        text = dict(text or {})
        if not self._layers or end.base != len(self._layers):
            raise ModelError("its output does not come from its last layer")
        if len({W.dtype for _, W in self._layers}) > 1:
            raise ModelError("its weights must be all float32, or all float64")
        inputs, *between = [self._chain(x) for x, _ in self._layers]
        features, before = _features(inputs, len(self._layers[0][1]), text.get("white"))
        params: list[Array] = []
        names = []
        for pieces, (_, W) in zip(between, self._layers, strict=False):
            head, name, tail = _parts(pieces, ACTIVATIONS)
            params += _layer(before, W, _affine(head, W.shape[1]))
            names.append(name)
            before = _affine(tail, W.shape[1])
        if len(set(names)) > 1:
            raise ModelError(
                f"its hidden layers must all have the same activation, not {', '.join(dict.fromkeys(names))}"
            )
        W = self._layers[-1][1]
        last = _output(self._chain(end), W.shape[1], loss, text)
        W, b = _layer(before, W, _affine(last.head, W.shape[1]))
        if last.two_classes:  # p = 1 / (1 + e^-z), which is softmax's for -z/2 and z/2
            W, b = np.concatenate([-W / 2, W / 2], axis=1), np.concatenate([-b / 2, b / 2])
        params += [W, b]
        sizes = (len(params[0]), *(len(b) for b in params[1::2]))
        network = MLP(sizes, names[0] if names else "relu", last.loss)
        constants = [np.asarray(c) for (node,) in last.tail for c in node.inputs if not isinstance(c, Value)]
        dtype = np.result_type(W.dtype, *(c.dtype for c in constants))  # targets may need more digits than weights
        targets = _scaling(_affine(last.tail, len(b)), len(b), dtype)
        return model_of(network, params, features=features, targets=targets, temperature=last.temperature, text=text)

    def _value(self, base: int, *rest: Any) -> Value:
        self._order += 1
        return Value(base, self._order, *rest)

    def _chain(self, end: Value) -> list[list[Value]]:
        """The operators from a value's base to it, in pieces of one input and one output; without the base."""
        pieces: list[list[Value]] = []
        heap, seen = [(-end.order, end)], {end.order}
        piece: list[Value] = []
        count = 0
        while heap:
            alone = len(heap) == 1
            _, node = heapq.heappop(heap)
            if alone and piece:
                pieces.append(piece[::-1])
                piece = []
            if node.op:
                piece.append(node)
                if (count := count + 1) > MOST_OPERATORS:
                    raise ModelError(f"more than {MOST_OPERATORS} operators between two layers, such as {node.name}")
            for each in node.inputs:
                if isinstance(each, Value) and each.order not in seen:
                    seen.add(each.order)
                    heapq.heappush(heap, (-each.order, each))
        return pieces[::-1]


def _is_affine(piece: Sequence[Value]) -> bool:
    (node, *more), constants = piece, [each for each in piece[0].inputs if not isinstance(each, Value)]
    if more or node.op not in ("Add", "Sub", "Mul", "Div", "Neg") or len(node.inputs) - len(constants) != 1:
        return False
    return node.op != "Div" or isinstance(node.inputs[0], Value)


def _affine(pieces: Sequence[Sequence[Value]], width: int) -> _Affine:
    """What some affine pieces do together.   Raises ModelError for a constant that is not one for each unit."""
    found = _Affine()
    for (node,) in pieces:
        first = not isinstance(node.inputs[0], Value)
        constants = [each for each in node.inputs if not isinstance(each, Value)]
        for constant in constants:
            if np.size(constant) not in (1, width):
                raise ModelError(f"{node.name} has {np.size(constant)} numbers for {width} units")
        with np.errstate(all="ignore"):
            found.then(node.op, constants[0] if constants else None, first=first)
    return found


def _values(pieces: Sequence[Sequence[Value]]) -> Array | None:
    """What some pieces make of _GRID; None where they are no function of one unit."""
    nodes = [node for piece in pieces for node in piece]
    found: dict[int, Any] = {}
    inside = {node.order for node in nodes}
    for node in nodes:
        if node.op not in _FUNCTIONS or any(np.size(c) != 1 for c in node.inputs if not isinstance(c, Value)):
            return None
        operands = [
            (found[each.order] if each.order in inside else _GRID)
            if isinstance(each, Value)
            else np.asarray(each, np.float64).reshape(())
            for each in node.inputs
        ]
        with np.errstate(all="ignore"):
            found[node.order] = _FUNCTIONS[node.op](*operands)
    return np.asarray(found[nodes[-1].order])


def _named(pieces: Sequence[Sequence[Value]], known: Mapping[str, Any]) -> str | None:
    """Which of some functions the pieces are together."""
    values = _values(pieces)
    if values is None:
        return None
    for name, function in known.items():
        expected, _ = function(_GRID, xp=np)
        if np.allclose(values, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            return name
    return None


def _parts(pieces: Sequence[Sequence[Value]], known: Mapping[str, Any]) -> tuple[Sequence[Any], str, Sequence[Any]]:
    """Pieces as an affine head, one of some known functions, and an affine tail; "identity" if all are affine.

    Raises ModelError, naming an operator, if they are not.
    """
    bent = [i for i, piece in enumerate(pieces) if not _is_affine(piece)]
    if not bent:
        return pieces, "identity", []
    for start in range(bent[0] + 1):
        for stop in range(len(pieces), bent[-1], -1):
            if (name := _named(pieces[start:stop], known)) is not None:
                return pieces[:start], name, pieces[stop:]
    (node, *_) = [node for node in pieces[bent[0]] if node.op not in ("Add", "Sub", "Mul", "Div")] or pieces[bent[0]]
    raise ModelError(f"{node.name} is none of what may stand there: {', '.join(known)}")


def _layer(before: _Affine, W: Array, after: _Affine) -> list[Array]:
    """Weights and bias of a layer, with what its inputs go through before it and its units after it."""
    wide, b = W.astype(np.float64), np.zeros(W.shape[1])
    if before.shift is not None:
        b = b + np.matmul(np.broadcast_to(before.shift, len(W)), wide)
    if before.scale is not None:
        wide = wide * np.reshape(before.scale, (-1, 1))
    if after.scale is not None:
        wide, b = wide * after.scale, b * after.scale
    if after.shift is not None:
        b = b + after.shift
    with np.errstate(over="ignore"):
        return [wide.astype(W.dtype), b.astype(W.dtype)]


def _features(pieces: Sequence[Sequence[Value]], n: int, white: Any) -> tuple[Scaling, _Affine]:
    """The scaling that the input goes through; what cannot be one is for the first layer.

    white : the largest value of pixels, where the file says so.
    """
    if bent := [piece for piece in pieces if not _is_affine(piece)]:
        raise ModelError(f"{bent[0][0].name} bends the input, but before the first layer it can only be scaled")
    found = _affine(pieces, n)
    if found.scale is not None and not (np.isfinite(found.scale) & (np.asarray(found.scale) > 0)).all():
        return Scaling(), found
    plain = [(piece[0].op, piece[0].inputs[-1]) for piece in pieces if isinstance(piece[0].inputs[0], Value)]
    shift = None if found.shift is None else -found.shift / (1.0 if found.scale is None else found.scale)
    scale = None if found.scale is None else 1.0 / found.scale
    if [op for op, _ in plain] in (["Sub"], ["Div"], ["Sub", "Div"]) and len(plain) == len(pieces):
        exact = dict(plain)  # without a rounding, and in the precision of the file
        shift, scale = (None if (c := exact.get(op)) is None else _floats(c) for op in ("Sub", "Div"))
    if shift is None and scale is not None and np.size(scale) == 1:
        known = 255.0 if white is None else white
        number = float(np.reshape(scale, ()))
        pixels = math.isclose(number, known, rel_tol=1e-6)
        return (Scaling("pixels", None, known) if pixels else Scaling("standard", None, number)), _Affine()
    if shift is None and scale is None:
        return Scaling(), _Affine()
    shift, scale = (None if a is None else np.broadcast_to(a, n).copy() for a in (shift, scale))
    return Scaling("standard", shift, scale), _Affine()


def _floats(constant: Array) -> Array:
    """A constant in one dimension, as float32 or float64."""
    flat = np.reshape(constant, -1)
    return flat if flat.dtype in (np.float32, np.float64) else flat.astype(np.float64)


def _scaling(found: _Affine, n: int, dtype: Any) -> Scaling:
    """The scaling of a regression's targets that some numbers are scaled back by."""
    shift, scale = (None if a is None else np.broadcast_to(a, n).astype(dtype) for a in (found.shift, found.scale))
    return Scaling("none" if shift is None and scale is None else "standard", shift, scale)


class _End(NamedTuple):
    """What stands behind the last matrix product.

    head : affine pieces, before the temperature.   tail : affine pieces after the output.
    two_classes : whether the one output is the second of two probabilities.
    """

    head: Sequence[Any]
    tail: Sequence[Any]
    loss: str
    temperature: float = 1.0
    two_classes: bool = False


def _output(pieces: Sequence[Any], width: int, asked: str | None, text: Mapping[str, Any]) -> _End:
    """What the pieces behind the last matrix product are.   Arguments as in Tracer.model."""
    two_classes = bool(pieces) and pieces[-1][-1].op == "TwoClasses"
    pieces = pieces[:-1] if two_classes else pieces
    over_all = [i for i, piece in enumerate(pieces) if piece[0].op in ("Softmax", "LogSoftmax")]
    if over_all:
        i = over_all[0]
        head, name, tail = pieces[:i], {"Softmax": "softmax"}.get(pieces[i][0].op, "log-softmax"), pieces[i + 1 :]
    else:
        head, name, tail = _parts(pieces, {"sigmoid": sigmoid, "exponential": exponential})
    if two_classes:
        if name != "sigmoid" or tail or width != 1 or asked not in (None, "cross-entropy"):
            raise ModelError("its two classes do not come from one sigmoid, as those of cross-entropy")
        return _End(head, [], "cross-entropy", two_classes=True)
    loss = asked or text.get("loss")
    if asked is None and not (loss in LOSSES and output_of(str(loss)) == name):
        loss = LOSS_OF.get(name, "cross-entropy")
    check_one_of("loss", str(loss), LOSSES)
    loss = str(loss)
    expected, regression = output_of(loss), LOSSES[loss].task == "regression"
    if name == "log-softmax" and (asked is None or expected != "softmax"):
        raise ModelError("it ends with LogSoftmax: with the loss cross-entropy (--loss) it gives probabilities instead")
    if name not in ("identity", "log-softmax", expected):
        raise ModelError(f"it ends with {name}, but the loss {loss} with {expected}")
    if regression and name == "identity" and len(head) > 1 and head[0][0].op == "Add":
        back = _affine(head[1:], width).scale
        if back is None or (back > 0).all():
            head, tail = head[:1], head[1:]
    temperature = 1.0
    if name != "identity" and head and head[-1][0].op == "Div" and np.size(head[-1][0].inputs[1]) == 1:
        temperature, head = float(np.reshape(head[-1][0].inputs[1], ())), head[:-1]
    if tail and not regression:
        raise ModelError(f"{tail[0][0].name} changes the outputs, which only those of a regression may be")
    return _End(head, tail, loss, temperature)
