"""A page: a trained network in one HTML file, which asks nobody for anything; one draws on it, or moves sliders.

Its JavaScript lies beside this file: forms.js brings ink into the form of the model's pictures with the arithmetic of
data/pictures/forms.py, network.js is forward pass and gradient; answer.js, drawing.js and table.js are what is seen.
The model is JSON in a script that no browser executes, and its texts are shown as text alone.
"""

import base64
import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xpnet._version import __version__
from xpnet.data import Split
from xpnet.errors import ConfigError, one_line
from xpnet.export.layers import Layers, described, integers_of, public_name, rounded
from xpnet.files import package_text
from xpnet.model import UNSURE, Ensemble, Model

from .examples import first_of_each_class, pictures, ranges, rows

__all__ = ["content"]

logger = logging.getLogger("xpnet")

SCRIPTS = ("forms.js", "network.js", "answer.js", "drawing.js", "table.js")
PICTURE = (28, 28)
BITS = 14
"""Of a weight, with a scale for each unit: less than float16 takes, and nearer to float32."""
BLOCK = 1 << 16
"""Weights that are packed at a time: a multiple of 8, so that each block ends with a byte."""
SMALL = 16_384
"""As many weights are kept in float32."""
TIES = 1_000
"""One in so many answers may change with 14 bits: those between two classes that are alike to rounding."""
LOOKED_AT = 10_000
"""Examples, at most, that decide how many bits are enough, and the ranges of features."""
MOST_FEATURES = 200
"""As many have a slider."""


def content(
    model: Model | Ensemble,
    *,
    quantize: Literal["int8"] | None = None,
    examples: Split | None = None,
    examples_of: Literal["test", "train"] = "test",
    about: Mapping[str, Any] | None = None,
) -> bytes:
    """The page of a model, or of several whose outputs are averaged: for pictures a paper, for features sliders.

    quantize : "int8" keeps the weights in a byte each. By default they are so if that changes no answer of the
        examples, else they have 14 bits if that changes at most one in a thousand; those of small networks are float32.
    examples : of the model's data: the page begins with some of them, and takes the features' ranges from them.
    examples_of : the split that they are, which the page says.
    about : what else the page says of the model.
    Raises ConfigError for a network of more features than a form has room for.
    """
    members = model.members if isinstance(model, Ensemble) else (model,)
    layers = described(model)
    first = layers[0]
    picture = _picture(members[0])
    if picture is None and first.sizes[0] > MOST_FEATURES:
        raise ConfigError(
            f"a page needs pictures, or at most {MOST_FEATURES} features to choose; the model takes {first.sizes[0]}"
        )
    bits = _bits(model, quantize, examples)
    found: dict[str, Any] = {
        "task": first.task,
        "n_outputs": first.sizes[-1],
        "classes": list(map(one_line, first.classes)),
        "percent": first.output == "softmax" or first.task == "multilabel",
        "unsure": UNSURE if first.output == "softmax" else None,
        "picture": None if picture is None else {"form": picture[0], "height": picture[1], "width": picture[2]},
        "features": None if picture is not None else ranges(first, examples and examples[:LOOKED_AT]),
        "members": [_member(each, bits) for each in layers],
        "split": "Training" if examples_of == "train" else "Test",
        "examples": None if examples is None else _examples(members[0], first, examples, picture is not None),
    }
    found |= _texts(layers, found, bits, about or {})
    return _filled(found)


def _picture(model: Model) -> tuple[str, int, int] | None:
    """The form, height and width of a model's pictures, as xpnet predict takes them; None for one of features."""
    shape, schema = model.image_shape, model.schema
    if len(shape) != 2:
        if schema.features.kind != "pixels" or model.network.sizes[0] != PICTURE[0] * PICTURE[1]:
            return None
        shape = PICTURE
    return schema.form, shape[0], shape[1]


def _bits(model: Model | Ensemble, quantize: str | None, examples: Split | None) -> int:
    """How many bits of a weight are enough, or asked for; 32 means float32."""
    members = model.members if isinstance(model, Ensemble) else (model,)
    weights = [each.backend.to_host(W) for each in members for W in each.params if W.ndim == 2]
    if not all(np.isfinite(W).all() for W in weights):
        return 32
    if quantize:
        return 8
    if sum(W.size for W in weights) <= SMALL:
        return 32
    if examples is None or members[0].task == "regression":
        return BITS
    images = examples[:LOOKED_AT].images
    expected = model.predict(images)
    for bits, most in ((8, 0), (BITS, len(expected) // TIES)):
        few = [rounded(each, bits) for each in members]
        changed = np.count_nonzero((Ensemble(few) if len(few) > 1 else few[0]).predict(images) != expected)
        if changed:
            logger.info("weights of %d bits change %d of %d answers", bits, changed, len(expected))
        if changed <= most:
            return bits
    return 32


def _member(layers: Layers, bits: int) -> dict[str, Any]:
    """One network, as network.js unpacks it."""
    back = {"target_shift": layers.target_shift, "target_scale": layers.target_scale}
    scaling = {} if layers.white is not None else {"shift": layers.shift, "scale": layers.scale}
    arrays = {
        name: _base64(np.broadcast_to(a, n).astype("<f8"))
        for parts, n in ((scaling, layers.sizes[0]), (back, layers.sizes[-1]))
        for name, a in parts.items()
        if a is not None
    }
    return {
        "activation": layers.activation,
        "output": layers.output,
        "temperature": layers.temperature,
        "white": layers.white,
        "layers": [_layer(W, b, bits) for W, b in zip(layers.weights, layers.biases, strict=True)],
        **arrays,
    }


def _layer(W: NDArray[Any], b: NDArray[Any], bits: int) -> dict[str, Any]:
    with np.errstate(over="ignore"):
        W, bias = W.astype("<f4"), _base64(b.astype("<f4"))
    if bits == 32:
        return {"bits": bits, "weights": _base64(W), "bias": bias}
    whole, units = integers_of(W, bits)
    return {
        "bits": bits,
        "weights": _base64(_packed(whole.ravel(), bits)),
        "units": _base64(units.astype("<f4")),
        "bias": bias,
    }


def _packed(whole: NDArray[np.int16], bits: int) -> NDArray[np.uint8]:
    """Whole numbers of so many bits, one after the other, the highest bit first."""
    places = np.arange(bits - 1, -1, -1, dtype=np.int16)
    parts = (whole[i : i + BLOCK, None] >> places & 1 for i in range(0, len(whole), BLOCK))
    return np.concatenate([np.packbits(part.astype(np.uint8)) for part in parts])


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _examples(model: Model, layers: Layers, split: Split, drawn: bool) -> dict[str, Any] | None:
    """Some examples to begin with, with their labels."""
    targets = None if split.labels is None else model.targets(split[:LOOKED_AT].labels)
    indices = first_of_each_class(targets, min(len(split), LOOKED_AT), layers.task)
    images = model.backend.to_host(split[indices].images)
    found = pictures(images, layers.white) if drawn else rows(images)
    if found is None:
        return None
    n = found["n"]
    logger.info("%d examples are in the page", n)
    found["indices"] = indices[:n].tolist()
    if targets is not None and layers.task == "classification":
        found["labels"] = [one_line(layers.classes[k]) for k in targets[indices[:n]].tolist()]
    elif targets is not None and layers.task == "regression":
        found["labels"] = [", ".join(map(_plain, row)) for row in targets[indices[:n]].tolist()]
    return found


def _plain(value: float) -> str:
    """A number as answer.js writes it: to JavaScript a half is to be rounded up."""
    if not math.isfinite(value):
        return "not a number"
    size = abs(value)
    with localcontext(rounding=ROUND_HALF_UP):
        if size and (size < 1e-3 or size >= 1e9):
            return f"{Decimal(value):.2e}"
        if size >= 1e4:
            return str(math.floor(value + 0.5))
        return f"{float(f'{Decimal(value + 0.0):.4g}'):.6g}"  # -0.0 is 0


def _texts(layers: tuple[Layers, ...], found: dict[str, Any], bits: int, about: Mapping[str, Any]) -> dict[str, str]:
    """The words around the network."""
    first = layers[0]
    networks = ", ".join(dict.fromkeys(each.name for each in layers))
    what = f"{len(layers)} networks, {networks}" if len(layers) > 1 else networks
    data = public_name(first.schema.data)
    trained = f", trained on {data}" if data else ""
    single = all(len(name) == 1 for name in first.classes)
    of = [kind for kind, is_so in (("digit", str.isdecimal), ("letter", str.isalpha)) if all(map(is_so, first.classes))]
    kind = of[0] if single and of else "picture"
    parts = [_figure(key, value) for key, value in about.items()]
    parts += [f"{bits}-bit weights", f"written by xpnet {__version__}", "works offline: nothing leaves this page"]
    return {
        "title": f"Draw a {kind}" if found["picture"] else "Ask the network",
        "about": one_line(what + trained),
        "colophon": one_line(" · ".join(parts)),
        "example": f"{found['split']} {kind if found['picture'] else 'example'}",
    }


def _figure(key: str, value: Any) -> str:
    """An entry of about in words; scores are as the commands write them."""
    name = key.replace("_", " ")
    if not isinstance(value, float):
        return f"{name} {value}"
    if key == "test_r2":
        return f"test R2 {value:.4f}"
    return f"{name} {100 * value:.2f} %" if key.endswith("accuracy") else f"{name} {value:.4g}"


def _filled(model: dict[str, Any]) -> bytes:
    """The page's file. Its policy allows the one script and the one style that are in it, by their hashes."""

    def text(name: str) -> str:
        return package_text("xpnet.export.page", name)

    script, style = "\n".join(map(text, SCRIPTS)), text("style.css")
    policy = [
        "default-src 'none'",
        f"script-src '{_hash(script)}'",
        f"style-src '{_hash(style)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    parts = {
        "policy": "; ".join(policy),
        "style": style,
        "script": script,
        # No text of the model can end the element that it is in.
        "model": json.dumps(model, separators=(",", ":")).replace("<", "\\u003c"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text("page.html"))
    return page.encode()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
