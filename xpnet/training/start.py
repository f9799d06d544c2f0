"""Starting from a trained model: its parameters are trained further, on other data."""

import dataclasses
import logging
from typing import Any

import numpy as np

from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.model import Model
from xpnet.numerics.functional import LOSSES
from xpnet.numerics.network import MLP

__all__ = ["network_for", "start_from", "with_classes_of"]

logger = logging.getLogger("xpnet")

Arrays = list[Any]


def with_classes_of(model: Model, data: Dataset) -> Dataset:
    """The data with the model's classes, where it has no others: a set of one's own may lack some of them."""
    if data.task != "classification" or data.classes == model.classes or not set(data.classes) <= set(model.classes):
        return data
    splits: dict[str, Any] = {
        part: None if split is None else dataclasses.replace(split, checked=False)
        for part, split in (("train", data.train), ("test", data.test), ("validation", data.validation))
    }
    return dataclasses.replace(data, **splits, classes=model.classes, n_classes=len(model.classes))


def network_for(start: MLP | Model, data: Dataset) -> MLP:
    """The network that is to be trained on the data: as given, or a model's with as many outputs as the data needs.

    Raises ConfigError if a model takes another number of features, or was trained for another task.
    """
    if isinstance(start, MLP):
        return start
    network = start.network
    if network.sizes[0] != data.n_features:
        raise ConfigError(
            f"the model takes {network.sizes[0]} features, but {data.name} has {data.n_features}: the examples must "
            "have the form that the model was trained on"
        )
    if LOSSES[network.loss].task != data.task:
        raise ConfigError(f"the model was trained for {start.task}, but {data.name} is for {data.task}")
    return dataclasses.replace(network, sizes=(*network.sizes[:-1], data.n_outputs))


def start_from(model: Model, network: MLP, data: Dataset, params: Arrays, running: Arrays) -> tuple[Arrays, Arrays]:
    """The parameters and running statistics with which the training of a network starts, taken from a model.

    params, running : as newly drawn, on the host; the last layer's are kept where the outputs stand for other things.
    """
    stored = [model.backend.to_host(a) for a in (*model.params, *model.running)]
    n = len(model.params)
    taken = [
        a.astype(own.dtype) if a.shape == own.shape else own for a, own in zip(stored, [*params, *running], strict=True)
    ]
    same = model.classes == data.classes if data.task == "classification" else model.network.sizes == network.sizes
    if not same:
        taken[n - 2 : n] = params[-2:]
        logger.warning(
            "starting from a model of %s, but with a new last layer, since the outputs stand for other things: %s",
            model.data or "other data",
            ", ".join(map(str, data.classes[:12])) or f"{data.n_outputs} numbers",
        )
    return [np.array(a) for a in taken[:n]], [np.array(a) for a in taken[n:]]
