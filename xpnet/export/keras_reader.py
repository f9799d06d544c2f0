"""Keras's .keras files read back: those of xpnet, and plain MLPs of others. Keras itself is not needed for it.

The archive holds the layers as JSON and the weights as HDF5. The layers are followed from the input to the output by
their names; nothing in the file is executed.
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ModelError, XpnetError
from xpnet.export.hdf5 import read_hdf5
from xpnet.export.keras import DESCRIPTION, MAX_BYTES
from xpnet.export.tracing import Tracer, Value
from xpnet.files import read_whole
from xpnet.model import Model

__all__ = ["read"]

MAX_LAYERS = 1000
MAX_CONFIG = 1 << 24

Config = Mapping[str, Any]
Arrays = Sequence[NDArray[Any]]

_ACTIVATIONS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "exponential": "Exp",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
}
_NOTHING = ("Cast", "Flatten", "Dropout", "GaussianDropout", "GaussianNoise", "Identity", "InputLayer")


def read(path: Path, *, loss: str | None = None) -> Model:
    """The model of a .keras file, on the CPU with NumPy.

    loss : as in from_onnx.
    Raises ModelError for a file that is damaged, or a network that is no plain MLP, naming the layer;
    OSError where the file cannot be read.
    """
    content = read_whole(path, MAX_BYTES)
    try:
        config, weights, text = _unpacked(content)
        with np.errstate(all="ignore"):  # numbers may be anything
            return _traced(config["config"], read_hdf5(weights), loss, text)
    except XpnetError as error:
        raise ModelError(f"{path}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: damaged, or beyond what is read here ({type(error).__name__}: {error})") from None


def _unpacked(content: bytes) -> tuple[Config, bytes, dict[str, Any]]:
    """The layers, the weights, and what a file of xpnet says of itself."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            large = sum(sizes.values()) > len(content) or sizes["config.json"] + sizes.get(DESCRIPTION, 0) > MAX_CONFIG
            if not large:
                config = json.loads(archive.read("config.json").decode())
                text = json.loads(archive.read(DESCRIPTION).decode()) if DESCRIPTION in sizes else {}
                return config, archive.read("model.weights.h5"), text if isinstance(text, dict) else {}
    except (zipfile.BadZipFile, LookupError, ValueError, OSError, NotImplementedError, RecursionError) as error:
        raise ModelError(f"damaged, or not what Keras 3 saves ({error})") from None
    raise ModelError("it unpacks to more than its own size, which nothing that Keras saves does")


def _traced(config: Config, arrays: Mapping[str, Any], loss: str | None, text: dict[str, Any]) -> Model:
    layers = config["layers"]
    if not 0 < len(layers) <= MAX_LAYERS:
        raise ModelError(f"it has {len(layers)} layers; the cap is {MAX_LAYERS}")
    if text.get("models", 1) != 1:
        raise ModelError(
            f"it holds {text['models']} models whose outputs are averaged: export and import them one by one"
        )
    trace = Tracer()
    known: dict[str, Value] = {}
    counts: dict[str, int] = {}
    last = trace.input
    for layer in layers:
        kind, its = layer["class_name"], layer["config"]
        name = str(layer.get("name") or its["name"])
        if kind == "InputLayer" and known:
            raise ModelError("it takes more than one input, but a plain MLP takes one")
        if kind == "InputLayer" and isinstance(shape := its.get("batch_shape"), list):
            text.setdefault("image_shape", shape[1:-1] if len(shape) > 2 and shape[-1] == 1 else shape[1:])
        given = [known[each] for each in _sources(layer)] if layer.get("inbound_nodes") else [last]
        last = known[name] = _computed(trace, kind, given, its, _weights(arrays, kind, counts), name)
    if isinstance(shape := text.get("image_shape"), list) and not all(isinstance(n, int) and n > 0 for n in shape):
        del text["image_shape"]
    return trace.model(last, loss=loss, text=text)


def _weights(arrays: Mapping[str, Any], kind: str, counts: dict[str, int]) -> list[NDArray[Any]]:
    """The arrays of the next layer of a kind, which the file names by it and a number."""
    number = counts[kind] = counts.get(kind, -1) + 1
    snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", kind)).lower()
    place = f"layers/{snake}{f'_{number}' if number else ''}/vars"
    found: list[NDArray[Any]] = []
    while (array := arrays.get(f"{place}/{len(found)}")) is not None:
        found.append(array if array.dtype.itemsize >= 4 else array.astype(np.float32))
    return found


def _sources(layer: Config) -> list[str]:
    """The names of the layers that one takes its input from."""
    ((node),) = layer["inbound_nodes"]
    found = node["args"][0]
    return [each["config"]["keras_history"][0] for each in (found if isinstance(found, list) else [found])]


def _computed(trace: Tracer, kind: str, given: Sequence[Value], its: Config, weights: Arrays, layer: str) -> Value:
    """What a layer gives."""
    name, x = f"{kind} {layer!r}", given[0]
    if kind in _NOTHING:
        return x
    if kind == "Dense":
        if not weights:
            raise ModelError(f"it has no weights of {name}")
        W, *b = weights
        y = trace.matmul(x, W, name)
        x = trace.op("Add", y, b[0], name=name) if b else y
    if kind in ("Dense", "Activation"):
        return _activated(trace, x, its["activation"], name)
    if kind in ("Normalization", "BatchNormalization", "Rescaling"):
        return _scaled(trace, kind, x, its, weights, layer)
    if kind in ("Multiply", "Add") and len(given) > 1:
        for other in given[1:]:
            x = trace.op("Mul" if kind == "Multiply" else kind, x, other, name=name)
        return x
    return _rectified(trace, kind, x, its, name)


def _rectified(trace: Tracer, kind: str, x: Value, its: Config, name: str) -> Value:
    """A layer that is an activation."""
    slope = its.get("negative_slope", its.get("alpha"))
    if kind == "ReLU" and its.get("max_value") is None and not its.get("threshold") and not slope:
        return trace.op("Relu", x, name=name)
    if kind == "LeakyReLU":
        return trace.op("LeakyRelu", x, np.asarray(slope, np.float64), name=f"{name} of the slope {slope:g}")
    if kind == "Softmax" and its.get("axis", -1) in (-1, 1):
        return trace.op("Softmax", x, name=name)
    raise ModelError(f"a network of xpnet has no {name}")


def _activated(trace: Tracer, z: Value, activation: Any, name: str) -> Value:
    if activation in ("linear", None):
        return z
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        shown = activation if isinstance(activation, str) else type(activation).__name__
        raise ModelError(f"a network of xpnet has no {name} with the activation {shown!r}")
    return trace.op(_ACTIVATIONS[activation], z, name=f"{name} with the activation {activation!r}")


def _scaled(trace: Tracer, kind: str, x: Value, its: Config, weights: Arrays, layer: str) -> Value:
    """A layer that subtracts, divides, multiplies and adds constants."""
    name = f"{kind} {layer!r}"
    if kind == "Rescaling":
        y = trace.op("Mul", x, np.asarray(its["scale"], np.float64), name=name)
        return y if its["offset"] == 0.0 else trace.op("Add", y, np.asarray(its["offset"], np.float64), name=name)
    if its.get("axis") not in (-1, [-1], 1, [1]) or its.get("invert"):
        raise ModelError(f"a network of xpnet has no {name} along the axis {its.get('axis')}")
    if kind == "Normalization":
        stored = its.get("mean") is None
        mean, var = weights[:2] if stored else (np.asarray(its[key], np.float32) for key in ("mean", "variance"))
        y = trace.op("Sub", x, mean.reshape(-1), name=name)
        scale = np.maximum(np.sqrt(var.reshape(-1)), np.asarray(1e-7, var.dtype))
        return y if (scale == 1.0).all() else trace.op("Div", y, scale, name=name)
    arrays = [each.astype(np.float64) for each in weights]
    gamma = arrays.pop(0) if its.get("scale", True) else np.ones(1)
    beta = arrays.pop(0) if its.get("center", True) else np.zeros(1)
    mean, var = arrays
    r = gamma / np.sqrt(var + its["epsilon"])
    return trace.op("Add", trace.op("Mul", x, r, name=name), beta - mean * r, name=name)
