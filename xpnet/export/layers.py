"""What every target is written from: a trained network as a plain list of affine layers, with its data's scaling."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._version import __version__
from xpnet.backend import select
from xpnet.data import Schema, class_names
from xpnet.data.arrays import kept
from xpnet.errors import ConfigError
from xpnet.model import Ensemble, Model
from xpnet.numerics.functional import LOSSES, exponential, identity, sigmoid, softmax

__all__ = [
    "Layers",
    "described",
    "description",
    "folded",
    "input_dtype",
    "int8_of",
    "integers_of",
    "output_of",
    "public_name",
    "rounded",
]

Array = NDArray[Any]

# What the losses turn logits into.
_OUTPUTS = {softmax: "softmax", sigmoid: "sigmoid", identity: "identity", exponential: "exponential"}


@dataclasses.dataclass(frozen=True, eq=False)
class Layers:
    """A trained network without batch normalisation and without a device, from its raw input to its final output.

        x = (u - shift) / scale ;   h_0 = x,  h_i = activation(h_{i-1} W_i + b_i)
        z = (h_{m-1} W_m + b_m) / temperature ;   y = output(z)
        of a regression y = output(z) target_scale + target_shift

    name : such as "784-128-10 relu".   sizes : widths, the input's first.
    weights : m arrays (n_in, n_out), biases : m arrays (n_out,), all of dtype, which is float32 or float64.
    activation : of the hidden layers, a key of functional.ACTIVATIONS.
    output : "softmax", "sigmoid", "exponential" or "identity".   loss : a key of functional.LOSSES.
    task : "classification", "multilabel" or "regression".
    white : of a network of pixels, the input's largest value, such as 255.0; None for one of rows of features.
    shift : (n_in,) or None for 0.   scale : (n_in,), a number, or None for 1; finite and > 0. Arrays have the dtype
        that is scaled in, from which x is cast to dtype. A column that was constant in training has first weights of 0.
    temperature : > 0.   target_scale, target_shift : (n_out,) of float64, or None for 1 and 0: of a Unix time, float32
        would keep minutes alone. They are not beyond dtype, to which a format without float64 rounds them.
    classes : names of the outputs as people know them, () for those of a regression without names. They come from the
        model's file, and may be hostile.
    schema : the model's own, whose texts (data, columns) may be hostile too.
    """

    name: str
    sizes: tuple[int, ...]
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: str
    output: str
    loss: str
    task: str
    dtype: np.dtype[Any]
    white: float | None
    shift: Array | None
    scale: Array | float | None
    temperature: float
    target_scale: Array | None
    target_shift: Array | None
    classes: tuple[str, ...]
    schema: Schema

    @property
    def n_params(self) -> int:
        """Number of weights and biases."""
        return sum(a.size for a in (*self.weights, *self.biases))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example, where a file's input has a shape: that of a picture, or the number of features."""
        shape = self.schema.image_shape
        return shape if math.prod(shape) == self.sizes[0] else (self.sizes[0],)


def public_name(data: str) -> str:
    """What a set is called in files that are given away: of a path the last part, since the rest is somebody's disk."""
    return re.split(r"[/\\]", data.rstrip("/\\"))[-1]


def described(model: Model | Ensemble) -> tuple[Layers, ...]:
    """The layers of a model, or of each member of an ensemble, whose outputs are to be averaged.

    Raises ModelError for members that take different columns.
    """
    if isinstance(model, Ensemble):
        model.check_columns()
    return tuple(map(_described, model.members if isinstance(model, Ensemble) else (model,)))


def output_of(loss: str) -> str:
    """What turns logits into the outputs that a loss defines: "softmax", "sigmoid", "exponential" or "identity"."""
    return _OUTPUTS[LOSSES[loss].output]


def description(members: Sequence[Layers], about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a file says of itself: texts, numbers and lists that JSON has, from which from_description makes a schema.

    about : further entries.
    """
    first, schema = members[0], members[0].schema
    return {
        "xpnet": __version__,
        "network": ", ".join(dict.fromkeys(each.name for each in members)),
        "task": first.task,
        "loss": first.loss,
        "data": schema.data,
        "image_shape": list(schema.image_shape),
        "classes": list(first.classes),
        # The names that predict returns, which need not be those that people use; none where they are 0, 1, ...
        "labels": kept(schema.classes),
        "columns": list(schema.columns),
        "form": schema.form,
        "white": first.white,
        "models": len(members),
        **(about or {}),
    }


def input_dtype(members: Sequence[Layers], asked: str | None) -> str:
    """The dtype of a file's input: as asked, or bytes where the model's input can be any, else float32.

    Raises ConfigError for bytes where it cannot.
    """
    first = members[0]
    bytes_fit = all(each.white is not None and each.white <= 255 for each in members)
    if asked == "uint8" and not bytes_fit:
        why = "takes features that need not be bytes" if first.white is None else f"has pixels up to {first.white:g}"
        raise ConfigError(f"input: the model {why}, which uint8 cannot hold: choose float32")
    return asked or ("uint8" if bytes_fit else "float32")


def folded(model: Model) -> Model:
    """The same network without batch normalisation, on the CPU: equal outputs but for rounding.

        W' = W r,  b' = shift - mean r,  r = scale / sqrt(var + 1e-5), in float64

    A column that was constant in training, and so is 0 for ever, has first weights of 0.
    """
    host = [model.backend.to_host(a) for a in model.params]
    params, running = iter(host), iter([model.backend.to_host(a).astype(np.float64) for a in model.running])
    plain: list[Array] = []
    for layer in range(model.network.n_layers):
        W, b = next(params), next(params)
        if model.network.batch_norm and layer < model.network.n_layers - 1:
            scale, shift, mean, var = b.astype(np.float64), next(params), next(running), next(running)
            r = scale / np.sqrt(var + 1e-5)
            W, b = (W * r).astype(W.dtype), (shift - mean * r).astype(W.dtype)
        plain += [W, b]
    scaling = model.schema.features.scale
    constant = np.isinf(np.broadcast_to(1.0 if scaling is None else scaling, len(plain[0])))
    plain[0] = np.where(constant[:, None], 0, plain[0])
    network = dataclasses.replace(model.network, batch_norm=False)
    return Model(network, plain, [], select("cpu"), model.schema)


def integers_of(W: Array, bits: int) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Weights as whole numbers of some bits, with a scale for each unit.

        q_ij = round(W_ij / s_j),  s_j = max_i |W_ij| / m,  m = 2^(bits-1) - 1 ;   W_ij is about q_ij s_j

    W : (n_in, n_out).   bits : 2 to 16.
    Returns q, (n_in, n_out) in -m..m, and s, (n_out,), which is 1 for a unit without weights.
    """
    most = 2 ** (bits - 1) - 1
    largest = np.abs(W).max(axis=0)
    scale = np.where(largest > 0, largest / most, 1.0).astype(np.float32)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    return np.clip(np.rint(W / scale), -most, most).astype(np.int16), scale


def int8_of(W: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights in a byte each, -127 to 127, with a scale for each unit: integers_of with 8 bits."""
    whole, scale = integers_of(W, 8)
    return whole.astype(np.int8), scale


def rounded(model: Model, bits: int = 8) -> Model:
    """The model with its weights as integers_of keeps them, in float32: what such a file computes, to measure it by."""
    plain = folded(model)
    params = [a.astype(np.float32) for a in plain.params]
    for i in range(0, len(params), 2):
        q, scale = integers_of(params[i], bits)
        params[i] = q * scale
    return dataclasses.replace(plain, params=params)


def _described(model: Model) -> Layers:
    plain, schema = folded(model), model.schema
    dtype, features, targets = plain.params[0].dtype, schema.features, schema.targets
    white = (features.scale or 255.0) if features.kind == "pixels" else None
    scale = features.scale if white is None else white
    if isinstance(scale, np.ndarray):
        scale = np.where(np.isinf(scale), 1, scale)  # finite numbers alone, which every format and engine has
    k = model.network.sizes[-1]
    back = {
        name: None if part is None or model.task != "regression" else np.broadcast_to(_held(part, dtype), k)
        for name, part in (("target_scale", targets.scale), ("target_shift", targets.shift))
    }
    return Layers(
        name=str(model.network),
        sizes=model.network.sizes,
        weights=tuple(plain.params[::2]),
        biases=tuple(plain.params[1::2]),
        activation=model.network.activation,
        output=output_of(model.network.loss),
        loss=model.network.loss,
        task=model.task,
        dtype=dtype,
        white=white,
        shift=features.shift,
        scale=scale,
        temperature=schema.temperature,
        classes=tuple(class_names(schema.data, model.classes)),
        schema=schema,
        **back,
    )


def _held(part: Any, dtype: np.dtype[Any]) -> Array:
    """A scaling of targets, in float64.   Raises ConfigError where the dtype of a file has no such numbers."""
    with np.errstate(over="ignore"):
        found = np.asarray(part, dtype)
    if not np.isfinite(found).all() or (found[np.asarray(part) != 0] == 0).any():
        largest = float(np.abs(part).max())
        raise ConfigError(
            f"its targets, in units of {largest:.2g}, are beyond {dtype}: train it on others, or in float64"
        )
    return np.asarray(part, np.float64)
