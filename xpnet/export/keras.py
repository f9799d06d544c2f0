"""Keras: a trained network as a .keras file of built-in layers, which loads without any object of xpnet's.

Keras multiplies matrices in float32, whatever their dtype, unless its user changes floatx; so the layers are float32.
Only what is subtracted from the input may be float64, where its digits need that.
"""

import importlib.util
import io
import json
import math
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import required
from xpnet.errors import ConfigError, MissingPackageError, ModelError
from xpnet.export.layers import Layers, described, description
from xpnet.files import read_whole
from xpnet.model import Ensemble, Model

__all__ = ["DESCRIPTION", "content", "library"]

BACKENDS = ("torch", "jax", "tensorflow")
DESCRIPTION = "xpnet.json"  # in the archive, where Keras looks for nothing
MAX_BYTES = 1 << 32


def library() -> Any:
    """Keras, on the backend that the user has chosen (KERAS_BACKEND) or, if that is not installed, on one that is.

    Raises MissingPackageError without Keras or any backend.
    """
    if "keras" in sys.modules or os.environ.get("KERAS_BACKEND") or _is_installed("tensorflow"):
        return required("keras", "A .keras file", "keras")
    found = [name for name in BACKENDS if _is_installed(name)]
    if _is_installed("keras") and not found:
        raise MissingPackageError(
            f"A .keras file needs a backend of Keras, one of {', '.join(BACKENDS)}, and none is installed: "
            'pip install "xpnet[torch]"'
        )
    os.environ["KERAS_BACKEND"] = found[0] if found else ""
    try:
        return required("keras", "A .keras file", "keras")
    finally:
        del os.environ["KERAS_BACKEND"]


def content(model: Model | Ensemble, *, about: Mapping[str, Any] | None = None) -> bytes:
    """The .keras file of a model, or of several whose outputs are averaged.

    It takes (n, *image_shape) or (n, n_in) numbers, pixels from 0 to their largest value, and gives the outputs.

    about : further entries of its description, which is xpnet.json in the archive.
    Raises MissingPackageError without Keras; ModelError for weights that are not finite; ConfigError for features that
    are scaled in float64, where Keras computes with JAX.
    """
    keras, members = library(), described(model)
    text = json.dumps(description(members, {"activation": members[0].activation, **(about or {})}))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which are between Keras and its backend
        _built(keras, members).save(Path(folder) / "model.keras")
        file = io.BytesIO(read_whole(Path(folder) / "model.keras", MAX_BYTES))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(DESCRIPTION), text)
    return file.getvalue()


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _built(keras: Any, members: tuple[Layers, ...]) -> Any:
    """The Keras model of some networks."""
    first = members[0]
    dtype = max((_scaled_in(each) for each in members), key=lambda dtype: dtype.itemsize)
    if dtype == np.float64 and keras.backend.backend() == "jax":
        raise ConfigError("the model's input is float64, which Keras on JAX has not: set KERAS_BACKEND=torch")
    given = keras.Input(first.input_shape, dtype=dtype.name, name="input")
    flat = keras.layers.Flatten(name="flatten")(given) if len(first.input_shape) > 1 else given
    outputs = [
        _Network(keras, each, f"member_{i}_" if len(members) > 1 else "").outputs(flat)
        for i, each in enumerate(members)
    ]
    y = keras.layers.Average(name="mean")(outputs) if len(outputs) > 1 else outputs[0]
    return keras.Model(given, y, name="xpnet")


def _scaled_in(layers: Layers) -> np.dtype[Any]:
    """The precision that the shift is subtracted in."""
    return np.dtype(np.float32) if layers.shift is None else layers.shift.dtype


class _Network:
    """Adds the layers of one network.   prefix : of their names, which are those that Keras itself would give."""

    def __init__(self, keras: Any, layers: Layers, prefix: str) -> None:
        self._keras, self._layers, self._prefix = keras, layers, prefix
        self._named: dict[str, int] = {}

    def outputs(self, x: Any) -> Any:
        """The final outputs, from the flat input."""
        layers, h = self._layers, self._scaled(x)
        first, *rest = layers.weights
        if isinstance(layers.scale, np.ndarray):
            first = first / np.asarray(layers.scale, np.float64)[:, None]
        *hidden, (W, b) = zip((first, *rest), layers.biases, strict=True)
        for pair in hidden:
            h = self._activated(self._dense(h, *pair))
        if layers.output == "identity":
            return self._dense(h, *self._unscaled(W / layers.temperature, b / layers.temperature))
        h = self._dense(h, W, b)
        if layers.temperature != 1.0:
            h = self._add("Rescaling", h, scale=1.0 / layers.temperature)
        h = self._add("Activation", h, activation=layers.output)
        if layers.target_scale is None and layers.target_shift is None:
            return h
        return self._dense(h, *self._unscaled(np.eye(len(b)), np.zeros(len(b))))

    def _add(self, kind: str, x: Any, dtype: str = "float32", **arguments: Any) -> Any:
        """Add a layer of Keras."""
        number = self._named[kind] = self._named.get(kind, -1) + 1
        name = self._prefix + kind.lower() + (f"_{number}" if number else "")
        layer = getattr(self._keras.layers, kind)
        return layer(name=name, dtype=dtype, **arguments)(x)

    def _dense(self, x: Any, W: NDArray[Any], b: NDArray[Any]) -> Any:
        with np.errstate(over="ignore"):
            W, b = W.astype(np.float32), b.astype(np.float32)
        if not (np.isfinite(W).all() and np.isfinite(b).all()):
            raise ModelError("the model cannot be written for Keras: its weights are not finite float32 numbers")
        y = self._add("Dense", x, units=W.shape[1])
        y._keras_history.operation.set_weights([W, b])
        return y

    def _scaled(self, x: Any) -> Any:
        """The input without its shift, divided by its scale where that is a number: others are for the weights.

        Keras's Normalization could divide too, but by no less than 1e-7.
        """
        layers = self._layers
        if layers.shift is not None:
            x = self._add("Normalization", x, layers.shift.dtype.name)
            layer = x._keras_history.operation
            layer.set_weights([layers.shift, np.ones_like(layers.shift), np.asarray(1)])
            layer.finalize_state()
        if layers.scale is not None and not isinstance(layers.scale, np.ndarray):
            x = self._add("Rescaling", x, scale=1.0 / layers.scale)
        return x

    def _unscaled(self, W: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """A layer with the scaling of the targets behind it."""
        layers = self._layers
        wide, bias = np.asarray(W, np.float64), np.asarray(b, np.float64)
        if layers.target_scale is not None:
            wide, bias = wide * layers.target_scale, bias * layers.target_scale
        if layers.target_shift is not None:
            bias = bias + layers.target_shift
        return wide, bias

    def _activated(self, z: Any) -> Any:
        """An activation, by layers that Keras has."""
        match self._layers.activation:
            case "identity":
                return z
            case "leaky-relu":
                return self._add("LeakyReLU", z, negative_slope=0.01)
            case "scaled-tanh":
                t = self._add("Activation", self._add("Rescaling", z, scale=2.0 / 3.0), activation="tanh")
                return self._add("Rescaling", t, scale=1.7159)
            case "gelu":  # Keras's own is by erf; (1 + tanh u) / 2 = sigmoid(2 u)
                twice = 2.0 * math.sqrt(2.0 / math.pi)
                cube = self._add("Rescaling", self._add("Multiply", [z, z, z]), scale=0.044715 * twice)
                u = self._add("Add", [self._add("Rescaling", z, scale=twice), cube])
                return self._add("Multiply", [z, self._add("Activation", u, activation="sigmoid")])
        return self._add("Activation", z, activation=self._layers.activation)
