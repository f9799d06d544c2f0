"""Starting from a trained model: its parameters are trained further, on other data."""

import dataclasses
import logging
from typing import Any

import numpy as np

from xpnet.data import Dataset, Scaling
from xpnet.errors import ConfigError
from xpnet.model import Model, reordered
from xpnet.numerics.functional import LOSSES
from xpnet.numerics.network import MLP

__all__ = [
    "answers_alike",
    "in_order_of",
    "network_for",
    "start_from",
    "warn_of_units",
    "with_classes_of",
]

FAR = 10.0  # in deviations of the targets

logger = logging.getLogger("xpnet")

Arrays = list[Any]


def with_classes_of(start: MLP | Model, data: Dataset) -> Dataset:
    """The data with all classes of a model, or of a network's outputs, where its own are some of them.

    A set of one's own may lack some classes, as the 3s, 5s and 7s of ten digits do; a network numbers its outputs.
    """
    if data.task != "classification":
        return data
    if isinstance(start, Model):
        known = start.classes
    else:
        known = tuple(range(start.sizes[-1]))
        numbers = data.n_classes > 1 and all(type(name) is int for name in data.classes)
        if data.classes == known[: data.n_classes] or not numbers:
            return data
    if data.classes == known or not set(data.classes) <= set(known):
        return data
    splits: dict[str, Any] = {
        part: None if split is None else dataclasses.replace(split, checked=False)
        for part, split in (("train", data.train), ("test", data.test), ("validation", data.validation))
    }
    return dataclasses.replace(data, **splits, classes=known, n_classes=len(known))


def in_order_of(model: Model, columns: tuple[str, ...], outputs: tuple[Any, ...], whose: str) -> Model:
    """The model with its features and its outputs in another order, for data whose names are in that one.

    columns : names of the data's features, () if they have none, or the model's are to stay as they are; a model whose
        features have no names stays so, too.   outputs : likewise, of a regression or of several labels.
    whose : the model in the error message.
    Raises ConfigError if the data lacks a column of the model.
    """
    if columns and (missing := [name for name in model.schema.columns if name not in columns]):
        raise ConfigError(f"{whose} was trained on a column {missing[0]!r}, which the data lacks")
    return reordered(model, columns, outputs)


def answers_alike(model: Model, data: Dataset) -> bool:
    """Whether a model's outputs stand for what the data's labels do, as far as names tell."""
    if data.task == "classification":
        return model.classes == data.classes
    n, known, needed = data.n_outputs, model.schema.classes, data.classes
    unnamed = (), tuple(range(n))
    return model.network.sizes[-1] == n and (known == needed or known in unnamed or needed in unnamed)


def warn_of_units(found: Scaling, known: Scaling, name: str) -> None:
    """Warn of a regression's targets that lie far from those that a model was trained on, by whose scale it continues.

    found, known : the scalings of both.   name : of the data.
    """
    if known.shift is None or found.shift is None:
        return
    far = (abs(found.shift - known.shift) > FAR * known.scale) | (found.scale > FAR * known.scale)
    if far.any():
        i = int(far.argmax())
        logger.warning(
            "%s: the targets lie around %.3g, but the model was trained on some around %.3g, whose scale it keeps; a "
            "new network may learn them better",
            *(name, found.shift[i], known.shift[i]),
        )


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
    if not answers_alike(model, data):
        taken[n - 2 : n] = params[-2:]
        logger.warning(
            "starting from a model of %s, but with a new last layer, since the outputs stand for other things: %s",
            model.data or "other data",
            ", ".join(map(str, data.classes[:12])) or f"{data.n_outputs} numbers",
        )
    return [np.array(a) for a in taken[:n]], [np.array(a) for a in taken[n:]]
