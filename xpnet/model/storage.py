"""The file of a model.

It is a single safetensors file that holds the arrays, under the names of MLP.param_shapes and running_shapes, with
those of the scalings, and one JSON text that describes the network, its data, and the SHA-256 of all that and of the
arrays. The arrays come from the host, so that a model trained on any device loads on any other. Nothing in the file is
executed.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as deserialize
from safetensors.numpy import save as serialize

from xpnet.checks import nearest
from xpnet.data.arrays import kept
from xpnet.data.schema import FORMS, SCALES, Scaling, Schema
from xpnet.errors import ModelError, one_line
from xpnet.files import open_regular, read_whole, sha256_of, write_atomically
from xpnet.numerics.functional import ACTIVATIONS, LOSSES
from xpnet.numerics.network import MLP

__all__ = ["FORMAT", "Stored", "network_of", "read", "save", "schema_of"]

Arrays = list[NDArray[Any]]

FORMAT = "xpnet model 2"
OLD_FORMAT = "xpnet model 1"  # of images only, whose classes are 0, 1, ...
MAX_BYTES = 1 << 31  # of a model file: half a billion parameters
MAX_HEADER = 1 << 20  # of its JSON: some five thousand layers


class Stored(NamedTuple):
    """A model without a device.

    network : its description.   params, running : its arrays, on the host.   schema : of its data.
    """

    network: MLP
    params: Arrays
    running: Arrays
    schema: Schema = Schema()


def save(path: str | Path, stored: Stored) -> None:
    """Write a model file, completely or not at all.   Raises OSError."""
    network, schema = stored.network, stored.schema
    scalings = {"features": schema.features, "targets": schema.targets}
    arrays = dict(zip(_shapes(network), (*stored.params, *stored.running), strict=True))
    for name, scaling in scalings.items():
        parts = {"shift": scaling.shift, "scale": scaling.scale}
        arrays |= {f"{name}.{part}": a for part, a in parts.items() if isinstance(a, np.ndarray)}
    arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    description = {
        "format": FORMAT,
        "network": dataclasses.asdict(network),
        "data": schema.data,
        "image_shape": list(schema.image_shape),
        "classes": kept(schema.classes),
        **{
            name: {"kind": scaling.kind, "scale": None if isinstance(scaling.scale, np.ndarray) else scaling.scale}
            for name, scaling in scalings.items()
        },
        "form": schema.form,
        "columns": list(schema.columns),
        "temperature": schema.temperature,
    }
    # One key only: safetensors writes several in an order that changes from run to run.
    metadata = {"xpnet": json.dumps({**description, "sha256": _digest(description, list(arrays.values()))})}
    write_atomically(Path(path), serialize(arrays, metadata))


def read(path: str | Path) -> Stored:
    """Read a model file.

    path : a .safetensors file, or a run directory, which holds one.
    Raises ModelError for a file that is missing, damaged or not a model of xpnet.
    """
    path = Path(path)
    if os.path.isdir(path):
        path = path / "model.safetensors"
        if not os.path.lexists(path):
            raise ModelError(f"{path.parent} holds no model.safetensors: is it a run directory, and did the run end?")
    try:
        return _parsed(read_whole(path, MAX_BYTES))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model is a run directory or a .safetensors file") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except ModelError as error:
        raise ModelError(f"{path} is {error}") from None


def network_of(path: Path) -> tuple[MLP, str]:
    """The network in a model file, and the name of its data, from the description alone: the arrays are not read.

    path : a .safetensors file.
    Raises ModelError for a file that cannot be read or has no such description.
    """
    try:
        with open_regular(path) as file:
            size = int.from_bytes(file.read(8), "little")
            content = b"" if size > MAX_HEADER else file.read(size)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        header = json.loads(content.decode())
        description = json.loads(header["__metadata__"]["xpnet"])
        if len(description["network"]["sizes"]) > len(header):
            raise ValueError("more layers than arrays")
        return _network(description), one_line(str(description["data"]))
    except ModelError as error:
        raise ModelError(f"{path} is {error}") from None
    except Exception as error:  # the description may be any JSON
        raise ModelError(f"{path} is damaged or not a model of xpnet ({error})") from None


def _parsed(content: bytes) -> Stored:
    """A model from the content of its file.   Raises ModelError."""
    try:
        size = int.from_bytes(content[:8], "little")
        if size > MAX_HEADER:
            raise ValueError(f"its header takes {size} bytes; the cap is {MAX_HEADER}")
        header = json.loads(content[8 : 8 + size].decode())
        metadata, n_arrays = header.get("__metadata__") or {}, len(header)
        arrays = deserialize(content)
    except Exception as error:  # among others, of safetensors, and of a dtype that NumPy lacks
        raise ModelError(f"damaged or not a safetensors file: {error}") from None
    if "xpnet" not in metadata:
        raise ModelError("a safetensors file, but not a model of xpnet")
    try:
        description = json.loads(metadata["xpnet"])
        if description["format"] not in (FORMAT, OLD_FORMAT):
            raise ModelError(f"in the format {description['format']!r}; this xpnet reads {FORMAT!r}")
        # Before anything is made for each layer.
        if len(description["network"]["sizes"]) > n_arrays:
            raise ValueError("more layers than arrays")
        network = _network(description)
        schema = schema_of(description, network, arrays)
        expected = description.pop("sha256")
        names = [*_shapes(network), *(name for name in _SCALINGS if name in arrays)]
        shapes = _shapes(network) | {name: a.shape for name, a in arrays.items() if name in _SCALINGS}
        if {name: a.shape for name, a in arrays.items()} != shapes:
            raise ModelError(f"damaged: its arrays are not those of a {network} network")
        host = [arrays[name] for name in names]
        own = host[: len(_shapes(network))]
        if (
            len({a.dtype for a in own}) > 1
            or any(a.dtype not in (np.float32, np.float64) for a in host)
            or _digest(description, host) != expected
        ):
            raise ModelError("damaged: its checksum is wrong")
    except ModelError:
        raise
    except Exception as error:  # the description may be any JSON
        raise ModelError(f"damaged: its description of the network cannot be read ({error})") from None
    n_params = len(network.param_shapes())
    return Stored(network, own[:n_params], own[n_params:], schema)


_SCALINGS = tuple(f"{name}.{part}" for name in ("features", "targets") for part in ("shift", "scale"))


def _network(description: dict[str, Any]) -> MLP:
    """The network of a description.   Raises ModelError for a function that this process lacks; else as schema_of."""
    about = description["network"]
    functions = ("activation", "ACTIVATIONS", ACTIVATIONS), ("loss", "LOSSES", LOSSES)
    for what, table, known in functions:
        name = about.get(what)
        if isinstance(name, str) and name not in known:
            raise ModelError(
                f"a model with the {what} {name!r}, which is not registered in this process: {nearest(name, known)}"
                f"one of your own must be put into xpnet.functional.{table} before its model is loaded"
            )
    return MLP(**about)


def _shapes(network: MLP) -> dict[str, tuple[int, ...]]:
    return network.param_shapes() | network.running_shapes()


def schema_of(description: dict[str, Any], network: MLP, arrays: Mapping[str, NDArray[Any]]) -> Schema:
    """The schema of a description.   Raises any exception if it cannot be one."""
    data, image_shape = description["data"], tuple(int(n) for n in description["image_shape"])
    # Few and small, since their product is taken.
    if not isinstance(data, str) or len(image_shape) > 4 or not all(0 < n < 2**63 for n in image_shape):
        raise ValueError("unexpected names or shapes")
    known = Schema(one_line(data), image_shape)
    if description["format"] == OLD_FORMAT:
        return known
    classes, temperature, columns = (description[name] for name in ("classes", "temperature", "columns"))
    fine = (
        len(classes) in (0, network.sizes[-1])
        and all(isinstance(name, str | int | float) for name in classes)
        and len(set(classes)) == len(classes)
        and isinstance(temperature, float)
        and 0 < temperature < math.inf
        and description["form"] in FORMS
        and len(columns) in (0, network.sizes[0])
        and all(isinstance(name, str) for name in columns)
    )
    if not fine:
        raise ValueError("unexpected classes, form, columns or temperature")
    return dataclasses.replace(
        known,
        classes=tuple(classes),
        features=_scaling("features", description, network.sizes[0], arrays),
        targets=_scaling("targets", description, network.sizes[-1], arrays),
        form=description["form"],
        columns=tuple(columns),
        temperature=temperature,
    )


def _scaling(name: str, description: dict[str, Any], n: int, arrays: Mapping[str, NDArray[Any]]) -> Scaling:
    kind, number = description[name]["kind"], description[name]["scale"]
    shift, scale = arrays.get(f"{name}.shift"), arrays.get(f"{name}.scale", number)
    fine = (
        kind in SCALES[1:]
        and (number is None or (isinstance(number, float) and number > 0))
        and all(a.shape == (n,) for a in (shift, scale) if isinstance(a, np.ndarray))
        and not (isinstance(scale, np.ndarray) and not (scale > 0).all())
    )
    if not fine:
        raise ValueError(f"an unexpected scaling of its {name}")
    return Scaling(kind, shift, scale)


def _digest(description: dict[str, Any], arrays: list[NDArray[Any]]) -> str:
    return sha256_of(arrays, json.dumps(description, sort_keys=True).encode())
