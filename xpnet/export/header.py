"""C: a trained network as one C99 header for microcontrollers, without dependencies, double, malloc or recursion.

The hidden layers lie in static memory, so that the linker counts them, and neither a small stack nor a caller's buffer
can be too short; in return the function is not to be called by two threads at a time. Inputs are scaled one by one as
the first layer needs them, so that there is no second copy of them.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xpnet._version import __version__
from xpnet.errors import ModelError, one_line
from xpnet.export.layers import Layers, described, input_dtype, int8_of, public_name
from xpnet.model import Ensemble, Model

__all__ = ["content"]

logger = logging.getLogger("xpnet")

_ACTIVATIONS = {
    "relu": "z > 0.0f ? z : 0.0f",
    "leaky-relu": "z > 0.0f ? z : 0.01f * z",
    "sigmoid": "1.0f / (1.0f + expf(-z))",
    "tanh": "tanhf(z)",
    "scaled-tanh": "1.7159f * tanhf(z * 0.6666667f)",
    "gelu": "0.5f * z * (1.0f + tanhf(0.7978846f * z * (1.0f + 0.044715f * z * z)))",
    "identity": "z",
}
_OUTPUTS = {"sigmoid": _ACTIVATIONS["sigmoid"], "exponential": "expf(z)", "identity": "z"}

_WHAT = {
    "softmax": "the probability of each class",
    "sigmoid": "the probability of each class, or how much speaks for it",
    "exponential": "the expected counts",
    "identity": "the predictions",
}


def content(
    model: Model | Ensemble,
    *,
    name: str = "model",
    input: Literal["uint8", "float32"] | None = None,
    quantize: Literal["int8"] | None = None,
    about: Mapping[str, Any] | None = None,
) -> bytes:
    """The header of a model, with one function: int NAME_predict(const uint8_t or float *x, float *outputs).

    name : what its names begin with, made an identifier.
    input : what x is; by default bytes for a network of pixels up to 255, else floats.
    quantize : "int8" keeps the weights in a byte each, with a scale for each unit, which takes a quarter of the memory.
    about : what else its first comment says.
    Logs how much memory it takes.
    Raises ModelError for an ensemble, and for parameters that are not finite in float32.
    """
    if isinstance(model, Ensemble):
        raise ModelError("a .h file holds one model: write the members one by one")
    (layers,) = described(model)
    given = input_dtype([layers], input)
    name = _identifier(name)
    arrays = _arrays(layers, quantize)
    flash, ram = sum(a.nbytes for a in arrays.values()), 4 * sum(_buffers(layers))
    memory = f"{flash:,} bytes of constants (flash) and {ram:,} bytes of variables (RAM), besides its code"
    logger.info("%s_predict takes %s", name, memory)
    lines = [
        *_comment(layers, name, given, memory, about or {}),
        f"#ifndef XPNET_{name.upper()}_H",
        f"#define XPNET_{name.upper()}_H",
        "",
        *(["#include <math.h>"] if "f(" in _formulas(layers) else []),
        "#include <stdint.h>",
        "",
        f"#define {name.upper()}_INPUTS {layers.sizes[0]}",
        f"#define {name.upper()}_OUTPUTS {layers.sizes[-1]}",
        "",
        *(line for key, array in arrays.items() for line in _constant(f"{name}_{key}", array)),
        "",
        *_function(layers, name, given, arrays),
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines).encode("ascii")


def _formulas(layers: Layers) -> str:
    """All that is computed besides sums."""
    hidden = _ACTIVATIONS[layers.activation] if len(layers.weights) > 1 else ""
    return hidden + _OUTPUTS.get(layers.output, "expf(z)")


def _identifier(name: str) -> str:
    """A C identifier of lower-case letters, digits and single underlines that begins with a letter."""
    words = re.findall("[a-z0-9]+", name.lower())
    found = "_".join(words)[:40].strip("_")
    return found if found[:1].isalpha() else f"model_{found}".strip("_")


def _text(text: Any) -> str:
    """A text that stays within the comment that it is put into, on its line, in ASCII."""
    plain = ascii(one_line(str(text)))[1:-1]
    # Neither end nor begin a comment, nor be a trigraph.
    return re.sub(r"(?<=\*)(?=/)|(?<=/)(?=\*)|(?<=\?)(?=\?)", " ", plain)


def _comment(layers: Layers, name: str, input: str, memory: str, about: Mapping[str, Any]) -> Iterator[str]:
    """The first comment of the header: what it is, how to call it, what it takes."""
    kind = "uint8_t" if input == "uint8" else "float"
    classification = layers.task == "classification"
    data = public_name(layers.schema.data)
    trained = f", trained on {data}" if data else ""
    yield f"/* A neural network, {_text(layers.name + trained)}, written by xpnet {__version__}."
    yield " *"
    yield f" *     static {kind} x[{name.upper()}_INPUTS];"
    yield f" *     static float outputs[{name.upper()}_OUTPUTS];"
    yield f" *     int found = {name}_predict(x, outputs);"
    yield " *"
    if layers.white is None:
        yield f" * x: {layers.sizes[0]} features, as they were in training; scaling is done here."
        yield from (f" *   {i}: {_text(column)}" for i, column in enumerate(layers.schema.columns))
    else:
        shape = " x ".join(map(str, layers.schema.image_shape))
        yield f" * x: {layers.sizes[0]} pixels ({shape}), row by row, from 0 to {layers.white:g}."
    yield f" * outputs: {_WHAT[layers.output]}. Returns {'the position of the largest' if classification else '0'}."
    yield from (f" *   {i}: {_text(text)}" for i, text in enumerate(layers.classes))
    yield from (f" * {_text(key)}: {_text(value)}" for key, value in about.items())
    yield " *"
    yield f" * It takes {memory}."
    yield " * The variables are static: no stack can be too small for them, and only one call may run at a time."
    yield " */"


def _arrays(layers: Layers, quantize: str | None) -> dict[str, NDArray[Any]]:
    """The constants: float32, or weights of int8 with their scales, by their names."""
    found: dict[str, NDArray[Any]] = {}
    for key, part in (("shift", layers.shift), ("scale", layers.scale)):
        if isinstance(part, np.ndarray):
            found[key] = part
    for i, (W, b) in enumerate(zip(layers.weights, layers.biases, strict=True), 1):
        if quantize == "int8" and np.isfinite(W).all():
            found[f"weights{i}"], found[f"units{i}"] = int8_of(W)
        else:
            found[f"weights{i}"] = W
        found[f"bias{i}"] = b
    for key, part in (("target_scale", layers.target_scale), ("target_shift", layers.target_shift)):
        if part is not None:
            found[key] = part
    with np.errstate(over="ignore"):
        found = {key: a if a.dtype == np.int8 else a.astype(np.float32) for key, a in found.items()}
    for key, a in found.items():
        if not np.isfinite(a).all():
            raise ModelError(f"the model cannot be written in C: its {key} are not finite float32 numbers")
    return found


def _buffers(layers: Layers) -> tuple[int, int]:
    """Widths of the two buffers in which the hidden layers lie by turns; 0 where there is none."""
    hidden = layers.sizes[1:-1]
    return max(hidden[::2], default=0), max(hidden[1::2], default=0)


def _constant(name: str, array: NDArray[Any]) -> Iterator[str]:
    """An array's definition, a line for each row of weights, or twelve numbers a line."""
    integers = array.dtype == np.int8
    shape = "".join(f"[{n}]" for n in array.shape)
    yield f"static const {'int8_t' if integers else 'float'} {name}{shape} = {{"
    suffix, ends = ("", ("{", "}")) if integers else ("f", ("{", "}"))
    if array.ndim == 1:
        ends = ("", "")
    rows = array if array.ndim == 2 else [array[i : i + 12] for i in range(0, len(array), 12)]
    for row in rows:
        yield "    " + ends[0] + ", ".join(f"{text}{suffix}" for text in row.astype(str).tolist()) + ends[1] + ","
    yield "};"


def _number(value: float) -> str:
    return f"{np.float32(value)}f"


def _function(layers: Layers, name: str, input: str, arrays: Mapping[str, Any]) -> Iterator[str]:
    """The function, and the activation before it."""
    sizes, last = layers.sizes, len(layers.weights)
    if last > 1:
        yield f"static inline float {name}_activation(float z) {{"
        yield f"    return {_ACTIVATIONS[layers.activation]};"
        yield "}"
        yield ""
    yield f"static inline int {name}_predict(const {'uint8_t' if input == 'uint8' else 'float'} *x, float *outputs) {{"
    for buffer, width in zip("ab", _buffers(layers), strict=True):
        if width:
            yield f"    static float {buffer}[{width}];"
    yield "    int i, j;"
    for layer in range(1, last + 1):
        n_in, n_out = sizes[layer - 1], sizes[layer]
        value = _scaled(layers, name) if layer == 1 else f"{'ab'[layer % 2]}[i]"
        target = "outputs" if layer == last else "ba"[layer % 2]
        weight = f"{name}_weights{layer}[i][j]"
        units = f" * {name}_units{layer}[j]" if f"units{layer}" in arrays else ""
        z = f"{target}[j]{units} + {name}_bias{layer}[j]"
        if layer < last:
            z = f"{name}_activation({z})"
        elif layers.temperature != 1.0:
            z = f"({z}) / {_number(layers.temperature)}"
        yield ""
        yield f"    for (j = 0; j < {n_out}; j++)"
        yield f"        {target}[j] = 0.0f;"
        yield f"    for (i = 0; i < {n_in}; i++) {{"
        yield f"        const float v = {value};"
        yield "        if (v != 0.0f) {"
        yield f"            for (j = 0; j < {n_out}; j++)"
        yield f"                {target}[j] += v * {'(float)' if units else ''}{weight};"
        yield "        }"
        yield "    }"
        yield f"    for (j = 0; j < {n_out}; j++)"
        yield f"        {target}[j] = {z};"
    yield ""
    yield from _output(layers, name)
    yield "}"


def _scaled(layers: Layers, name: str) -> str:
    """An input as the first layer takes it."""
    value = "(float)x[i]"
    if layers.shift is not None:
        value = f"({value} - {name}_shift[i])"
    if isinstance(layers.scale, np.ndarray):
        value += f" / {name}_scale[i]"
    elif layers.scale is not None:
        value += f" / {_number(layers.scale)}"
    return value


def _output(layers: Layers, name: str) -> Iterator[str]:
    """From logits to outputs, and what is returned."""
    n = layers.sizes[-1]
    if layers.output == "softmax":
        yield "    {"
        yield "        float largest = outputs[0], sum = 0.0f;"
        yield f"        for (j = 1; j < {n}; j++)"
        yield "            largest = outputs[j] > largest ? outputs[j] : largest;"
        yield f"        for (j = 0; j < {n}; j++) {{"
        yield "            outputs[j] = expf(outputs[j] - largest);"
        yield "            sum += outputs[j];"
        yield "        }"
        yield f"        for (j = 0; j < {n}; j++)"
        yield "            outputs[j] /= sum;"
        yield "    }"
    elif layers.output != "identity" or layers.target_scale is not None or layers.target_shift is not None:
        value = _OUTPUTS[layers.output]
        value += "" if layers.target_scale is None else f" * {name}_target_scale[j]"
        value += "" if layers.target_shift is None else f" + {name}_target_shift[j]"
        yield f"    for (j = 0; j < {n}; j++) {{"
        yield "        const float z = outputs[j];"
        yield f"        outputs[j] = {value};"
        yield "    }"
    if layers.task != "classification":
        yield "    return 0;"
        return
    yield f"    for (i = 0, j = 1; j < {n}; j++)"
    yield "        i = outputs[j] > outputs[i] ? j : i;"
    yield "    return i;"
