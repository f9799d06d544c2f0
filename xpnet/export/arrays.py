"""NumPy's .npz and JSON: the plain arrays of a network and the formula that they belong in, and back.

A .npz file holds the arrays under plain names, and "description", the bytes of a JSON text; a .json file is that text
with the arrays inside. Either says in "about" what is to be computed, which ten lines of any language can do.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data import Scaling
from xpnet.data.formats.npz import read_npz_arrays
from xpnet.errors import DataError, ModelError, XpnetError
from xpnet.export.layers import Layers, described, description, output_of
from xpnet.export.models import model_of
from xpnet.files import read_whole
from xpnet.model import Ensemble, Model
from xpnet.numerics.network import MLP

__all__ = ["content", "read"]

NAME = "xpnet network 1"
MAX_BYTES = 1 << 30  # of a .json file

_FORMULAS = {
    "relu": "max(0, z)",
    "leaky-relu": "z if z > 0, else 0.01 z",
    "sigmoid": "1 / (1 + exp(-z))",
    "tanh": "tanh(z)",
    "scaled-tanh": "1.7159 tanh(2/3 z)",
    "gelu": "z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))",
    "identity": "z",
    "softmax": "exp(z_k) / sum_j exp(z_j), of the unit k",
    "exponential": "exp(z)",
}
_SCALINGS = {"shift": 0.0, "scale": 1.0, "target_shift": 0.0, "target_scale": 1.0}  # and what stands for none


def content(model: Model | Ensemble, *, suffix: str, about: Mapping[str, Any] | None = None) -> bytes:
    """The .npz or .json file of a model, or of several whose outputs are averaged.

    suffix : ".npz" or ".json".   about : further entries of the description.
    Raises ModelError for a .json file of parameters that are not finite, since JSON has no such numbers.
    """
    members = described(model)
    text = {"format": NAME, "about": _about(members), **description(members, about)}
    if suffix == ".json":
        return _json(text | {"members": [_scalars(each) | _lists(each) for each in members]})
    text["members"] = list(map(_scalars, members))
    arrays = {"description": np.frombuffer(json.dumps(text).encode(), np.uint8)}
    for i, each in enumerate(members):
        prefix = f"member_{i}_" if len(members) > 1 else ""
        arrays |= {prefix + name: array for name, array in _arrays(each).items()}
    return _npz(arrays)


def read(path: Path) -> Model:
    """A model from a .npz or .json file that content made, on the CPU; nothing in it is executed.

    Raises ModelError for any other file, or one of several models; OSError where it cannot be read.
    """
    try:
        if path.suffix.lower() == ".json":
            text = json.loads(read_whole(path, MAX_BYTES).decode())
            return _model(text, _of_lists(_only_member(text)))
        (found,) = read_npz_arrays(path, ["description"])
        text = json.loads(found.tobytes().decode())
        names = _names(len(_only_member(text)["sizes"]) - 1)
        return _model(text, dict(zip(names, read_npz_arrays(path, names), strict=True)))
    except DataError as error:
        raise ModelError(str(error)) from None
    except XpnetError as error:
        raise ModelError(f"{path}: {error}") from None
    except (ArithmeticError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"no entry {error}" if isinstance(error, KeyError) else error
        raise ModelError(f"{path}: damaged, or not a network that xpnet wrote ({what})") from None


def _about(members: tuple[Layers, ...]) -> list[str]:
    """What the file's numbers are for, line by line."""
    first = members[0]
    white = "" if first.white is None else f", pixels from 0 to {first.white:g}, row by row"
    used = dict.fromkeys([*(each.activation for each in members), first.output])
    return [
        f"A neural network. Each of its members computes y from u, an input of {first.sizes[0]} numbers{white}:",
        "  x = (u - shift) / scale",
        "  h = x, then of each layer i but the last in turn: h = activation(h weights_i + biases_i)",
        "  z = (h weights_last + biases_last) / temperature",
        "  y = output(z) target_scale + target_shift",
        *(f"where {name}(z) = {_FORMULAS[name]}" for name in used),
        "A shift or scale is a number for all, or one for each. weights_i[j][k] leads from unit j to unit k.",
        "In JSON weights_i is weights[i] of a member; in .npz the arrays of several begin with member_0_, ...",
        "The outputs are the mean over the members.",
    ]


def _scalars(layers: Layers) -> dict[str, Any]:
    """A member without its arrays."""
    scaled_in = [a.dtype for a in (layers.shift, layers.scale) if isinstance(a, np.ndarray)] or [layers.dtype]
    return {
        "sizes": list(layers.sizes),
        "activation": layers.activation,
        "output": layers.output,
        "temperature": layers.temperature,
        "dtype": layers.dtype.name,
        "input_dtype": scaled_in[0].name,
    }


def _names(n_layers: int) -> list[str]:
    return [*_SCALINGS, *(f"{kind}_{i}" for i in range(n_layers) for kind in ("weights", "biases"))]


def _arrays(layers: Layers) -> dict[str, NDArray[Any]]:
    """The arrays of a member by their names."""
    scalings = [getattr(layers, name) for name in _SCALINGS]
    filled = [none if part is None else part for part, none in zip(scalings, _SCALINGS.values(), strict=True)]
    own = [a for pair in zip(layers.weights, layers.biases, strict=True) for a in pair]
    return dict(zip(_names(len(layers.weights)), map(np.asarray, (*filled, *own)), strict=True))


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """What np.savez makes of some arrays, but without the time of day: the same bytes each time."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())
    return file.getvalue()


def _json(text: Mapping[str, Any]) -> bytes:
    """A line for each entry."""
    try:
        lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in text.items()]
    except ValueError:
        raise ModelError("the model cannot be written as JSON: it has numbers that are not finite") from None
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def _lists(layers: Layers) -> dict[str, Any]:
    """The arrays of a member as lists, weights and biases as lists of those."""
    # The fewest digits that make the same float32 again: as a double it has twice as many.
    found = {name: a.astype(str).astype(np.float64).tolist() for name, a in _arrays(layers).items()}
    n = len(layers.weights)
    stacked = {kind: [found.pop(f"{kind}_{i}") for i in range(n)] for kind in ("weights", "biases")}
    return found | stacked


def _of_lists(member: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays that _lists took apart.   Raises any exception for what are none."""
    given = {name: member[name] for name in _SCALINGS}
    for i, pair in enumerate(zip(member["weights"], member["biases"], strict=True)):
        given |= {f"weights_{i}": pair[0], f"biases_{i}": pair[1]}
    dtypes = {"shift": member["input_dtype"], "scale": member["input_dtype"]}
    dtypes |= {"target_shift": "float64", "target_scale": "float64"}
    found = {}
    for name, value in given.items():
        dtype = dtypes.get(name, member["dtype"])
        array = np.array(value)
        if array.dtype.kind not in "if" or dtype not in ("float32", "float64"):
            raise ValueError(f"{name} are not numbers of float32 or float64")
        with np.errstate(over="ignore"):
            found[name] = array.astype(dtype)
    return found


def _only_member(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """The member of a file of one model."""
    if text["format"] != NAME:
        raise ModelError(f"in the format {text['format']!r}; this xpnet reads {NAME!r}")
    if (n := len(text["members"])) != 1:
        raise ModelError(f"it holds {n} models whose outputs are averaged: export and import them one by one")
    member: Mapping[str, Any] = text["members"][0]
    return member


def _model(text: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Model:
    """The model of a description and its arrays.   Raises any exception where they contradict each other."""
    member = _only_member(text)
    network = MLP(member["sizes"], member["activation"], text["loss"])
    if member["output"] != (output := output_of(network.loss)):
        raise ModelError(f"it ends with {member['output']!r}, but the loss {network.loss} with {output!r}")
    params = [arrays[name] for name in _names(network.n_layers)[len(_SCALINGS) :]]
    parts = [arrays[name] for name in _SCALINGS]
    shift, scale, target_shift, target_scale = (
        None if a.ndim == 0 and a == none else float(a) if a.ndim == 0 else a
        for a, none in zip(parts, _SCALINGS.values(), strict=True)
    )
    white = text["white"]
    features = Scaling("none" if shift is None and scale is None else "standard", shift, scale)
    return model_of(
        network,
        params,
        features=features if white is None else Scaling("pixels", None, float(white)),
        targets=Scaling("standard", target_shift, target_scale),
        temperature=member["temperature"],
        text=text,
    )
