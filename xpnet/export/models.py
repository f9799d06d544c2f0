"""What every import ends with: arrays and a description, checked, as a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import select
from xpnet.data import Scaling
from xpnet.errors import ModelError
from xpnet.model import Model
from xpnet.model.storage import FORMAT, schema_of
from xpnet.numerics.network import MLP

__all__ = ["model_of"]


def model_of(
    network: MLP,
    params: Sequence[NDArray[Any]],
    running: Sequence[NDArray[Any]] = (),
    *,
    features: Scaling | None = None,
    targets: Scaling | None = None,
    temperature: float = 1.0,
    text: Mapping[str, Any] | None = None,
) -> Model:
    """A model on the CPU, with NumPy.

    text : what its file says of itself, as layers.description has it; what it lacks is not known.
    Raises ModelError if the arrays are not those of the network, or text says what cannot be.
    """
    shapes = [*network.param_shapes().values(), *network.running_shapes().values()]
    if [a.shape for a in (*params, *running)] != shapes:
        raise ModelError(f"its arrays are not those of a {network} network")
    dtypes = {a.dtype.name for a in (*params, *running)}
    if len(dtypes) > 1 or not dtypes <= {"float32", "float64"}:
        raise ModelError(f"all parameters must be float32, or all float64, not {' and '.join(sorted(dtypes))}")
    text = {} if text is None else text
    parts = {"features": features or Scaling(), "targets": targets or Scaling()}
    arrays = {
        f"{name}.{key}": a
        for name, scaling in parts.items()
        for key, a in vars(scaling).items()
        if isinstance(a, np.ndarray)
    }
    described = {
        "format": FORMAT,
        "data": text.get("data", ""),
        "image_shape": text.get("image_shape", [network.sizes[0]]),
        "classes": text.get("labels", []),
        "columns": text.get("columns", []),
        "form": text.get("form", "as-is"),
        "temperature": temperature,
        **{
            name: {"kind": scaling.kind, "scale": None if isinstance(scaling.scale, np.ndarray) else scaling.scale}
            for name, scaling in parts.items()
        },
    }
    try:
        schema = schema_of(described, network, arrays)
    except Exception as error:  # the texts may be any JSON
        raise ModelError(f"its description cannot be one of a {network} network ({error})") from None
    return Model(network, list(params), list(running), select("cpu", "numpy"), schema)
