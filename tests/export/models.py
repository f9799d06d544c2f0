"""Models of every kind, for the tests of each target."""

import itertools
from typing import Any

import numpy as np

import xpnet
from xpnet.data import Scaling, Schema
from xpnet.numerics.functional import ACTIVATIONS, LOSSES

KINDS = list(itertools.product(ACTIVATIONS, LOSSES, (False, True), ("float32", "float64")))


def made(
    activation: str = "relu",
    loss: str = "cross-entropy",
    batch_norm: bool = False,
    dtype: str = "float32",
    sizes: tuple[int, ...] = (6, 8, 5, 3),
    seed: int = 0,
    **schema: Any,
) -> xpnet.Model:
    """A network of random parameters; of rows of features in different ranges, one of them constant, unless told."""
    network = xpnet.MLP(sizes, activation, loss, batch_norm=batch_norm)
    rng = np.random.default_rng(seed)
    shapes = network.param_shapes()
    params = [rng.normal(size=shape) / np.sqrt(shape[0] if len(shape) == 2 else 4) for shape in shapes.values()]
    for i, name in enumerate(shapes):
        if name.endswith(".scale"):
            params[i] += 1.0
    running = [
        rng.normal(size=shape) if name.endswith("mean") else rng.uniform(0.5, 2.0, shape)
        for name, shape in network.running_shapes().items()
    ]
    k, n_in = sizes[-1], sizes[0]
    spread = rng.uniform(0.5, 20.0, n_in)
    spread[1] = np.inf
    described: dict[str, Any] = {
        "data": "drawn by the test",
        "image_shape": (n_in,),
        "features": Scaling("standard", rng.normal(size=n_in).astype(dtype), spread.astype(dtype)),
        "temperature": 1.7 if LOSSES[loss].task == "classification" else 1.0,
    }
    if loss in ("squared-error", "huber"):
        described["targets"] = Scaling("standard", rng.normal(size=k) * 9, rng.uniform(0.5, 30.0, k))
    return xpnet.Model(
        network,
        [a.astype(dtype) for a in params],
        [a.astype(dtype) for a in running],
        xpnet.select("cpu"),
        Schema(**(described | schema)),
    )


def rows_for(model: xpnet.Model, n: int, seed: int = 1) -> Any:
    """Examples for a model: bytes for one of pixels, else float32."""
    rng, k = np.random.default_rng(seed), model.network.sizes[0]
    if model.schema.features.kind == "pixels":
        return rng.integers(0, 256, (n, k)).astype(np.uint8)
    return (10 * rng.normal(size=(n, k))).astype(np.float32)
