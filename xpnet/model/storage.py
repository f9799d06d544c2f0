"""The file of a model.

It is a single safetensors file that holds the arrays, under the names of MLP.param_shapes and running_shapes, and one
JSON text that describes the network, its training data, and the SHA-256 of all that and of the arrays. The arrays come
from the host, so that a model trained on any device loads on any other. Nothing in the file is executed.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as deserialize
from safetensors.numpy import save as serialize

from xpnet.errors import ModelError, one_line
from xpnet.files import read_whole, sha256_of, write_atomically
from xpnet.numerics.network import MLP

__all__ = ["Stored", "read", "save"]

Arrays = list[NDArray[Any]]

FORMAT = "xpnet model 1"
MAX_BYTES = 1 << 31  # of a model file: half a billion parameters
MAX_HEADER = 1 << 20  # of its JSON: some five thousand layers


class Stored(NamedTuple):
    """A model without a device.

    network : its description.   params, running : its arrays, on the host.
    data : name of the set it was trained on.   image_shape : of one image there.
    """

    network: MLP
    params: Arrays
    running: Arrays
    data: str = ""
    image_shape: tuple[int, ...] = ()


def save(path: str | Path, stored: Stored) -> None:
    """Write a model file, completely or not at all.   Raises OSError."""
    network = stored.network
    arrays = [np.ascontiguousarray(a) for a in (*stored.params, *stored.running)]
    description = {
        "format": FORMAT,
        "network": dataclasses.asdict(network),
        "data": stored.data,
        "image_shape": list(stored.image_shape),
    }
    # One key only: safetensors writes several in an order that changes from run to run.
    metadata = {"xpnet": json.dumps({**description, "sha256": _digest(description, arrays)})}
    names = [*network.param_shapes(), *network.running_shapes()]
    write_atomically(Path(path), serialize(dict(zip(names, arrays, strict=True)), metadata))


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
        if description["format"] != FORMAT:
            raise ModelError(f"in the format {description['format']!r}; this xpnet reads {FORMAT!r}")
        # Before anything is made for each layer.
        if len(description["network"]["sizes"]) > n_arrays:
            raise ValueError("more layers than arrays")
        network = MLP(**description["network"])
        data, image_shape = description["data"], tuple(int(n) for n in description["image_shape"])
        # Few and small, since their product is taken.
        if not isinstance(data, str) or len(image_shape) > 4 or not all(0 < n < 2**63 for n in image_shape):
            raise ValueError("unexpected names or shapes")
        expected = description.pop("sha256")
        shapes = network.param_shapes() | network.running_shapes()
        if {name: a.shape for name, a in arrays.items()} != shapes:
            raise ModelError(f"damaged: its arrays are not those of a {network} network")
        host = [arrays[name] for name in shapes]
        if (
            len({a.dtype for a in host}) > 1
            or host[0].dtype not in (np.float32, np.float64)
            or _digest(description, host) != expected
        ):
            raise ModelError("damaged: its checksum is wrong")
    except ModelError:
        raise
    except Exception as error:  # the description may be any JSON
        raise ModelError(f"damaged: its description of the network cannot be read ({error})") from None
    n_params = len(network.param_shapes())
    return Stored(network, host[:n_params], host[n_params:], one_line(data), image_shape)


def _digest(description: dict[str, Any], arrays: list[NDArray[Any]]) -> str:
    return sha256_of(arrays, json.dumps(description, sort_keys=True).encode())
