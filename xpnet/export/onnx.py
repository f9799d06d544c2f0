"""ONNX files, built with onnx.helper: one graph from the raw input to probabilities and class.

Opset 13 and IR version 7, of 2020, which hold all that is used and which nearly every engine reads.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xpnet._version import __version__
from xpnet.checks import required
from xpnet.errors import ConfigError
from xpnet.export.layers import Layers, described, description, input_dtype, int8_of
from xpnet.model import Ensemble, Model

__all__ = ["IR_VERSION", "OPSET", "Graph", "activation", "content"]

OPSET, IR_VERSION = 13, 7
_OUTPUTS = {"softmax": "Softmax", "sigmoid": "Sigmoid", "exponential": "Exp"}
MAX_BYTES = (1 << 31) - (1 << 20)  # a protocol buffer's own limit, less some room for the nodes


class Graph:
    """The nodes and constants of a graph under construction; a tensor is its name."""

    def __init__(self) -> None:
        self._onnx = required("onnx", "an ONNX file", "onnx")
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add an operator.   name : of its output; by default a new one.   Returns that name."""
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: NDArray[Any], name: str | None = None) -> str:
        """Add an array.   Returns its name."""
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def cast(self, x: str, dtype: np.dtype[Any]) -> str:
        """Add a conversion to another dtype."""
        return self.op("Cast", x, to=self._onnx.helper.np_dtype_to_tensor_dtype(dtype))


def activation(graph: Graph, name: str, z: str, dtype: np.dtype[Any]) -> str:
    """Add an activation, with the arithmetic of functional.py.

    name : a key of functional.ACTIVATIONS.   z : what it is applied to, of dtype.   Returns the result's name.
    """

    def number(value: float) -> str:
        return graph.constant(np.asarray(value, dtype))

    match name:
        case "identity":
            return z
        case "relu" | "sigmoid" | "tanh":
            return graph.op(name.capitalize(), z)
        case "leaky-relu" if dtype == np.float32:
            return graph.op("LeakyRelu", z, alpha=0.01)
        case "leaky-relu":  # the operator's alpha is a float32
            return graph.op("Max", z, graph.op("Mul", z, number(0.01)))
        case "scaled-tanh":
            return graph.op("Mul", graph.op("Tanh", graph.op("Mul", z, number(2.0 / 3.0))), number(1.7159))
        case "gelu":
            square = graph.op("Mul", z, z)
            rest = graph.op("Add", graph.op("Mul", square, number(0.044715)), number(1.0))
            t = graph.op("Tanh", graph.op("Mul", graph.op("Mul", z, number(math.sqrt(2.0 / math.pi))), rest))
            return graph.op("Mul", z, graph.op("Mul", graph.op("Add", t, number(1.0)), number(0.5)))
    raise ConfigError(f"the activation {name} cannot be written as ONNX")


def content(
    model: Model | Ensemble,
    *,
    input: Literal["uint8", "float32"] | None = None,
    quantize: Literal["int8"] | None = None,
    about: Mapping[str, Any] | None = None,
) -> bytes:
    """The content of an ONNX file, checked by onnx's own checker.

    The file's input is called "input", (n, *image_shape) or (n, n_in) for any n, 0 included. Its outputs are
    "probabilities", (n, n_out), or "outputs" where they are none, and of a classification "class", (n,) int64: an
    index into the names of the classes, which stand in the metadata with the network, the data and xpnet's version.
    The outputs have the network's dtype, or float64 where float32 lacks the digits of a regression's targets.

    Arguments and errors as in export, and ConfigError for a model too large for the format.
    """
    onnx = required("onnx", "an ONNX file", "onnx")
    members = described(model)
    first = members[0]
    takes = input_dtype(members, input)
    if sum(a.nbytes for each in members for a in each.weights) > MAX_BYTES:
        raise ConfigError("the model is larger than the 2 GB that an ONNX file can hold")
    graph = Graph()
    flat = graph.op("Flatten", "input", axis=1) if len(first.input_shape) > 1 else "input"
    outputs = []
    for i, each in enumerate(members):
        prefix = f"member_{i}." if len(members) > 1 else ""
        outputs.append(_member(graph, each, flat, np.dtype(takes), prefix, quantize))
    dtype = max((its for _, its in outputs), key=lambda d: d.itemsize)
    found = [y if its == dtype else graph.cast(y, dtype) for y, its in outputs]
    name = "probabilities" if first.output in ("softmax", "sigmoid") else "outputs"
    if len(found) == 1:
        graph.op("Identity", found[0], name=name)
    else:
        graph.op("Div", graph.op("Sum", *found), graph.constant(np.asarray(len(found), dtype)), name=name)
    helper = onnx.helper
    results = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), ["n", first.sizes[-1]])]
    if first.task == "classification":
        graph.op("ArgMax", name, axis=1, keepdims=0, name="class")
        results.append(helper.make_tensor_value_info("class", onnx.TensorProto.INT64, ["n"]))
    shape = ["n", *first.input_shape]
    given = helper.make_tensor_value_info("input", helper.np_dtype_to_tensor_dtype(np.dtype(takes)), shape)
    body = helper.make_graph(graph.nodes, "xpnet", [given], results, list(graph.constants.values()))
    file = helper.make_model(
        body,
        producer_name="xpnet",
        producer_version=__version__,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(file, _metadata(members, takes, quantize, about))
    onnx.checker.check_model(file, full_check=True)
    written: bytes = file.SerializeToString(deterministic=True)
    return written


def _member(
    graph: Graph, layers: Layers, x: str, given: np.dtype[Any], prefix: str, quantize: str | None
) -> tuple[str, np.dtype[Any]]:
    """Add one network, from the flat input to its output; returns the output's name and dtype."""
    dtype = np.dtype(np.float32) if quantize else layers.dtype
    arrays = [a for a in (layers.shift, layers.scale) if isinstance(a, np.ndarray)]
    scaled_in = arrays[0].dtype if arrays else dtype
    if given != scaled_in:
        x = graph.cast(x, scaled_in)
    for kind, part in (("Sub", layers.shift), ("Div", layers.scale)):
        if part is not None:
            x = graph.op(kind, x, graph.constant(np.asarray(part, scaled_in), f"{prefix}features.{kind.lower()}"))
    h = x if scaled_in == dtype else graph.cast(x, dtype)
    last = len(layers.weights) - 1
    for i, (W, b) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        bias = graph.constant(b.astype(dtype), f"{prefix}{i}.bias")
        if quantize:
            h = graph.op("Gemm", h, _as_bytes(graph, W, f"{prefix}{i}.weight"), bias, transB=1)
        else:
            h = graph.op("Gemm", h, graph.constant(W, f"{prefix}{i}.weight"), bias)
        if i < last:
            h = activation(graph, layers.activation, h, dtype)
    if layers.temperature != 1.0:
        h = graph.op("Div", h, graph.constant(np.asarray(layers.temperature, dtype), f"{prefix}temperature"))
    if layers.output != "identity":
        h = graph.op(_OUTPUTS[layers.output], h)
    back_in = np.dtype(np.float64) if _needs_double(layers) else dtype
    if back_in != dtype:
        h = graph.cast(h, back_in)
    for kind, part in (("Mul", layers.target_scale), ("Add", layers.target_shift)):
        if part is not None:
            h = graph.op(kind, h, graph.constant(part.astype(back_in), f"{prefix}targets.{kind.lower()}"))
    return h, back_in


def _needs_double(layers: Layers) -> bool:
    """Whether float32 lacks the digits of a regression's targets: it rounds Unix times by a minute."""
    if layers.target_shift is None:
        return False
    scale = 1.0 if layers.target_scale is None else layers.target_scale
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.spacing(np.abs(layers.target_shift).astype(np.float32))
        return not bool((step <= 1e-3 * scale).all())  # beyond float32 it is NaN


def _as_bytes(graph: Graph, W: NDArray[Any], name: str) -> str:
    """Weights as bytes with a scale for each unit, a row for each unit.

    Were it a column, onnxruntime 1.32 would round the layer's inputs to bytes as well, which costs far more accuracy.
    """
    q, scale = int8_of(W)
    parts: dict[str, NDArray[Any]] = {"int8": q.T, "scale": scale, "zero": np.zeros(len(scale), np.int8)}
    constants = [graph.constant(part, f"{name}.{suffix}") for suffix, part in parts.items()]
    return graph.op("DequantizeLinear", *constants, axis=0)


def _metadata(
    members: Sequence[Layers], takes: str, quantize: str | None, about: Mapping[str, Any] | None
) -> dict[str, str]:
    """What the file says of itself: texts, and JSON for whatever is none."""
    first = members[0]
    white = "" if first.white is None else f", pixels from 0 to {first.white:g}, as they come"
    own = {"input": f"{takes}{white}", "weights": quantize or str(first.dtype)}
    found = description(members, {**own, **(about or {})})
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
