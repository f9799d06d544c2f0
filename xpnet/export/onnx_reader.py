"""ONNX files read back: those of xpnet, and plain MLPs of torch.onnx, skl2onnx and others.

The file is parsed, and its operators are followed from the input to the output; no engine runs it, nothing but the file
itself is read, and whatever a plain MLP does not have is refused by its name.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import required
from xpnet.errors import ModelError, XpnetError
from xpnet.export.tracing import Tracer, Value
from xpnet.files import read_whole
from xpnet.model import Model

__all__ = ["from_onnx"]

MAX_BYTES = 1 << 31  # a protocol buffer's own limit
MAX_NODES = 10_000

Array = NDArray[Any]

# Operators of one unit: how many inputs they take, and the attributes that they may have.
_OPERATORS: dict[str, tuple[int, dict[str, tuple[Any, ...]]]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu"), (2, {})),
    **dict.fromkeys(("Neg", "Exp", "Tanh", "Relu", "Sigmoid", "LeakyRelu"), (1, {})),
    "Gelu": (1, {"approximate": (b"tanh",)}),
    "Softmax": (1, {"axis": (None, 1, -1)}),
    "LogSoftmax": (1, {"axis": (None, 1, -1)}),
}
_OF_SIDES = (
    "ArrayFeatureExtractor",
    "Cast",
    "Concat",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Unsqueeze",
)


class _Side:
    """What is computed beside the outputs: a shape, or the class that is the most probable."""


def from_onnx(path: str | Path, *, loss: str | None = None) -> Model:
    """The model of an ONNX file, on the CPU with NumPy: a plain MLP, with the same outputs.

    path : of a graph of Gemm, or MatMul and Add, with activations of xpnet, in any decomposition, between them; before
        them Cast, Flatten and a scaling by constants, after them Softmax, Sigmoid, Exp or nothing. Batch normalisation
        is folded into the weights.
    loss : a key of functional.LOSSES; by default the one that the file names or its output belongs to. A network that
        ends with logits is a classifier with loss="cross-entropy": its outputs then are their softmax.
    Raises ModelError for any other file, naming the first operator that is not a plain MLP's; MissingPackageError
    without onnx; OSError where the file cannot be read.
    """
    onnx = required("onnx", "An ONNX file", "onnx")
    content = read_whole(path, MAX_BYTES)
    try:
        file = onnx.load_model_from_string(content)
    except Exception as error:  # of protobuf, which has several implementations with errors of their own
        raise ModelError(f"{path}: damaged, or not an ONNX file ({type(error).__name__})") from None
    try:
        with np.errstate(all="ignore"):  # numbers may be anything
            return _Reader(onnx, file, len(content)).model(loss)
    except XpnetError as error:
        raise ModelError(f"{path}: {error}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError, MemoryError) as error:
        raise ModelError(f"{path}: damaged, or beyond what is read here ({error})") from None


class _Reader:
    """Follows the nodes of a graph.   size : bytes of the file, which limits what constants may become."""

    def __init__(self, onnx: Any, file: Any, size: int) -> None:
        self._onnx, self._graph = onnx, file.graph
        self._left = 8 * size + (1 << 20)
        # What is no UTF-8 comes as bytes.
        self._text = _text({each.key: each.value for each in file.metadata_props if isinstance(each.value, str)})
        self._trace = Tracer()
        self._known: dict[str, Any] = {}
        if not self._graph.node:
            raise ModelError("it holds no network")
        if len(self._graph.node) > MAX_NODES:
            raise ModelError(f"it has {len(self._graph.node)} operators; the cap is {MAX_NODES}")
        if self._graph.sparse_initializer:
            raise ModelError("it has sparse constants, which are not read")
        if self._text.get("models", 1) != 1:
            raise ModelError(
                f"it holds {self._text['models']} models whose outputs are averaged: export and import them one by one"
            )
        for tensor in self._graph.initializer:
            self._keep(tensor.name, self._array(tensor))
        inputs = [each for each in self._graph.input if each.name not in self._known]
        if len(inputs) != 1:
            raise ModelError(f"it takes {len(inputs)} inputs, but a plain MLP takes one")
        self._keep(inputs[0].name, self._trace.input)
        sides = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim[1:]]
        while len(sides) > 1 and sides[0] == 1:  # one channel
            sides = sides[1:]
        self._text.setdefault("image_shape", sides)

    def model(self, loss: str | None) -> Model:
        """The model of the graph."""
        for node in self._graph.node:
            outputs = self._followed(node)
            for name, value in zip(node.output, outputs, strict=False):
                if name:
                    self._keep(name, value)
        ends = [self._known.get(each.name) for each in self._graph.output]
        values = [end for end in ends if isinstance(end, Value)]
        if not values:
            raise ModelError("none of its outputs comes from its input")
        if len(self._text["image_shape"]) > 4 or min(self._text["image_shape"], default=0) < 1:
            del self._text["image_shape"]
        model = self._trace.model(max(values, key=lambda value: value.order), loss=loss, text=self._text)
        shape = model.image_shape
        if math.prod(shape) != model.network.sizes[0]:
            raise ModelError(f"its input has the shape {shape}, but its first layer takes {model.network.sizes[0]}")
        return model

    def _keep(self, name: str, value: Any) -> None:
        if name in self._known:
            raise ModelError(f"the tensor {name!r} is made twice")
        if isinstance(value, np.ndarray):
            self._left -= value.nbytes
            if self._left < 0:
                raise ModelError("its constants become far larger than the file")
        self._known[name] = value

    def _array(self, tensor: Any) -> Array:
        """The array of a constant, which must lie in the file itself."""
        if tensor.data_location == self._onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"the constant {tensor.name!r} lies in another file, which is not read: write one file alone "
                "(torch.onnx.export(..., external_data=False))"
            )
        if len(tensor.dims) > 8 or not all(0 <= side < 1 << 40 for side in tensor.dims):
            raise ModelError(f"the constant {tensor.name!r} has a shape that no array has")
        return _checked(self._onnx.numpy_helper.to_array(tensor))

    def _followed(self, node: Any) -> Sequence[Any]:
        """What a node gives."""
        name = f"{node.op_type} {node.name!r}" if node.name else node.op_type
        if node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
            raise ModelError(f"a network of xpnet has no {node.domain}.{name}")
        if missing := [each for each in node.input if each and each not in self._known]:
            raise ModelError(f"{name} takes {missing[0]!r}, which nothing before it makes")
        given = [self._known[each] if each else None for each in node.input]
        options = {each.name: self._onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant":
            return [self._constant(options, name)]
        if any(isinstance(each, _Side) for each in given[:2]):
            return [self._beside(node.op_type, given, name)]
        if not any(isinstance(each, Value) for each in given):
            return [self._folded(node.op_type, given, options, name)]
        return [self._computed(node.op_type, given, options, name)]

    def _constant(self, options: Mapping[str, Any], name: str) -> Array:
        ((kind, value),) = options.items()
        if kind == "value":
            return self._array(value)
        if kind in ("value_float", "value_floats", "value_int", "value_ints"):
            return np.asarray(value, np.float32 if "float" in kind else np.int64)
        raise ModelError(f"{name} is no array of numbers")

    def _beside(self, op: str, given: Sequence[Any], name: str) -> Any:
        """Labels and shapes lead nowhere but to an output, or into a Reshape."""
        if op == "Reshape" and isinstance(given[0], Value):
            return given[0]
        if op == "ArrayFeatureExtractor" and isinstance(given[0], np.ndarray):
            self._name_classes(given[0].reshape(-1).tolist())
        if op in _OF_SIDES:
            return _Side()
        raise ModelError(f"a network of xpnet has no {name}, which computes with shapes or classes")

    def _folded(self, op: str, given: Sequence[Any], options: Mapping[str, Any], name: str) -> Any:
        """A constant made of others."""
        x = given[0] if given else None
        match op:
            case "Identity" if x is not None:
                return x
            case "Cast" if x is not None:
                return _checked(x.astype(self._onnx.helper.tensor_dtype_to_np_dtype(options["to"])))
            case "Transpose" if x is not None:
                return np.transpose(x, options.get("perm"))
            case "Reshape" | "Unsqueeze" | "Squeeze" if x is not None:
                return x.reshape(-1) if op != "Reshape" else x.reshape([int(side) for side in given[1]])
            case "DequantizeLinear" if x is not None:
                shape = [1] * x.ndim
                if given[1].size > 1:
                    shape[options.get("axis", 1)] = given[1].size
                zero = 0.0 if len(given) < 3 else given[2].astype(np.float32).reshape(shape)
                return (x.astype(np.float32) - zero) * given[1].reshape(shape)
        raise ModelError(f"a network of xpnet has no {name} of constants")

    def _computed(self, op: str, given: Sequence[Any], options: Mapping[str, Any], name: str) -> Any:
        """What is computed from the input."""
        x = given[0]
        if op in ("Shape", "ArgMax", "Binarizer"):
            return _Side()
        if self._same(op, given, options, name):
            return x
        if op in ("MatMul", "Gemm") and isinstance(x, Value) and isinstance(given[1], np.ndarray):
            return self._product(op, given, options, name)
        if op in ("BatchNormalization", "Scaler", "ZipMap", "Concat"):
            return self._of_library(op, given, options, name)
        return self._bent(op, given, options, name)

    def _bent(self, op: str, given: Sequence[Any], options: Mapping[str, Any], name: str) -> Value:
        """An operator of one unit, or softmax."""
        n_inputs, usual = _OPERATORS.get(op, (0, {}))
        for key, expected in usual.items():
            if options.get(key) not in expected:
                raise ModelError(f"a network of xpnet has no {name} with the {key} {options.get(key)}")
        if len(given) != n_inputs:
            raise ModelError(f"a network of xpnet has no {name}")
        if op == "PRelu":
            return self._trace.op("LeakyRelu", *given, name=name)
        if op == "LeakyRelu":
            slope = options.get("alpha", 0.01)
            return self._trace.op(op, *given, np.asarray(slope), name=f"{name} of the slope {slope:g}")
        return self._trace.op(op, *given, name=name)

    def _same(self, op: str, given: Sequence[Any], options: Mapping[str, Any], name: str) -> bool:
        """Whether an operator changes no number, and no order of them."""
        x = given[0]
        if op in ("Reshape", "Squeeze", "Unsqueeze") and isinstance(x, Value):
            last = int(given[1].reshape(-1)[-1]) if op == "Reshape" else -1
            if x.base and last not in (-1, self._trace.width(x)):
                raise ModelError(f"{name} mixes examples")
            return True
        return op in ("Identity", "Cast", "Dropout") or (op == "Flatten" and options.get("axis", 1) == 1)

    def _of_library(self, op: str, given: Sequence[Any], options: Mapping[str, Any], name: str) -> Value:
        """Normalisation, and what skl2onnx puts before and behind a network."""
        x: Value = given[0]
        if op == "ZipMap":
            found = options.get("classlabels_strings") or options.get("classlabels_int64s") or []
            self._name_classes([each.decode() if isinstance(each, bytes) else each for each in found])
            return x
        if op == "Scaler":
            offset, factor = (np.asarray(options[key], np.float32) for key in ("offset", "scale"))
            return self._trace.op("Mul", self._trace.op("Sub", x, offset, name=name), factor, name=name)
        if op == "BatchNormalization" and not options.get("training_mode"):
            scale, shift, mean, var = (np.asarray(each, np.float64) for each in given[1:5])
            r = scale / np.sqrt(var + options.get("epsilon", 1e-5))
            return self._trace.op("Add", self._trace.op("Mul", x, r, name=name), shift - mean * r, name=name)
        other = given[1] if op == "Concat" and len(given) == 2 else None
        if isinstance(x, Value) and x.op == "Sub" and x.inputs[1] is other and np.all(x.inputs[0] == 1):
            return self._trace.op("TwoClasses", other, name=name)
        raise ModelError(f"a network of xpnet has no {name}")

    def _product(self, op: str, given: Sequence[Any], options: Mapping[str, Any], name: str) -> Value:
        if op == "MatMul":
            return self._trace.matmul(given[0], given[1], name)
        if options.get("transA"):
            raise ModelError(f"{name} transposes its input")
        W = given[1].T if options.get("transB") else given[1]
        y = self._trace.matmul(given[0], W, name)
        if (alpha := options.get("alpha", 1.0)) != 1.0:
            y = self._trace.op("Mul", y, np.asarray(alpha), name=name)
        if len(given) > 2 and given[2] is not None:
            if not isinstance(given[2], np.ndarray):
                raise ModelError(f"{name} adds what is no constant")
            bias, beta = given[2], options.get("beta", 1.0)
            y = self._trace.op("Add", y, bias if beta == 1.0 else bias * np.asarray(beta, bias.dtype), name=name)
        return y

    def _name_classes(self, classes: list[Any]) -> None:
        if classes and "labels" not in self._text:
            self._text["labels"] = [] if classes == list(range(len(classes))) else classes


def _checked(array: Any) -> Array:
    """An array of numbers or texts that NumPy has: smaller floats as float32."""
    found = np.asarray(array)
    if found.dtype.kind == "V" or found.dtype == np.float16 or found.dtype.name == "bfloat16":
        return found.astype(np.float32)
    return found


def _text(said: Mapping[str, str]) -> dict[str, Any]:
    """What a file of xpnet says of itself; nothing of any other."""
    if "xpnet" not in said:
        return {}
    found: dict[str, Any] = {key: said[key] for key in ("data", "form", "loss") if key in said}
    for key in ("image_shape", "labels", "columns", "models", "white"):
        try:
            found[key] = json.loads(said[key])
        except (KeyError, ValueError, RecursionError):
            continue
    if not isinstance(found.get("white"), float):
        found.pop("white", None)
    if not isinstance(found.get("image_shape"), list):
        found.pop("image_shape", None)
    return found
