"""Distillation: a network learns from what trained ones make of the same examples, and not from the labels alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.data import Scaling, Schema
from xpnet.errors import ConfigError
from xpnet.model import Model, load
from xpnet.numerics.functional import LOSSES, soft_cross_entropy, softmax
from xpnet.numerics.network import MLP
from xpnet.training.config import TrainConfig
from xpnet.training.start import in_order_of

__all__ = ["Distillation", "teachers_of"]

Array = Any
Arrays = list[Any]


class Distillation:
    """The objective of a network that has teachers, in the form of MLP.loss_and_grads.

        J = (1 - s) loss(z, labels) + s T^2 H(q, softmax(z / T)),  q = mean over the teachers of softmax(z_teacher / T)

    z are the logits of the network while it is trained, z_teacher those of trained ones on the same, distorted
    examples; H is the cross-entropy. T^2 keeps the gradient of the second term at the size of the first's.

    network : the learner.   teachers : models on the learner's device, as teachers_of returns them.
    schema : of the learner's data.   config : share s and temperature T.
    Source: Hinton, Vinyals and Dean 2015, section 2.
    """

    def __init__(self, network: MLP, teachers: Sequence[Model], schema: Schema, config: TrainConfig) -> None:
        self.network, self.share, self.temperature = network, config.teaching_share, config.teaching_temperature
        self._teachers = [_Teacher(model, schema.features, config.dtype) for model in teachers]

    def __call__(
        self,
        params: Arrays,
        x: Array,
        targets: Array,
        *,
        weights: Array | None,
        running: Arrays,
        xp: Any,
        share: float | Array = 1.0,
        **options: Any,
    ) -> tuple[Array, Arrays, Array, Arrays]:
        """Loss, gradients, logits and running statistics; arguments as in MLP.loss_and_grads."""
        network, T, s = self.network, self.temperature, self.share
        logits, vjp, running = network.forward(params, x, running=running, training=True, xp=xp, **options)
        loss, loss_vjp = network.loss_of(logits, targets, weights=weights, xp=xp)
        q = self._teachers[0].probabilities(x, T, xp)
        for teacher in self._teachers[1:]:
            q = q + teacher.probabilities(x, T, xp)
        taught, taught_vjp = soft_cross_entropy(logits / T, q / len(self._teachers), weights=weights, xp=xp)
        dlogits = loss_vjp((1.0 - s) * share) + taught_vjp(s * T * share)
        return (1.0 - s) * loss + (s * T * T) * taught, vjp(dlogits), logits, running


class _Teacher:
    """A trained network, and how it comes from the learner's features to its own."""

    def __init__(self, model: Model, features: Scaling, dtype: str) -> None:
        def moved(array: Array) -> Array:
            return model.backend.to_device(model.backend.to_host(array).astype(dtype))

        self._network = model.network
        self._params, self._running = ([moved(a) for a in arrays] for arrays in (model.params, model.running))
        factor, offset = _bridge(features, model.schema.features)
        self._factor = None if factor is None else model.backend.to_device(factor.astype(dtype))
        self._offset = None if offset is None else model.backend.to_device(offset.astype(dtype))

    def probabilities(self, x: Array, temperature: float, xp: Any) -> Array:
        x = x if self._factor is None else x * self._factor
        x = x if self._offset is None else x + self._offset
        logits, _, _ = self._network.forward(self._params, x, running=self._running, xp=xp)
        return softmax(logits / temperature, xp=xp)[0]


def teachers_of(config: TrainConfig, network: MLP, schema: Schema, backend: Backend) -> list[Model]:
    """The models that the settings name as teachers, on the backend's device.

    network, schema : of the learner, in the order of whose columns they take theirs.
    Raises ConfigError unless they answer the same question by the same columns; ModelError or OSError where one cannot
    be read.
    """
    if config.teacher and LOSSES[network.loss].task != "classification":
        raise ConfigError("teacher is for classes, and these labels are not: leave it out", setting="teacher")
    classes, models = schema.classes, []
    for path in config.teacher:
        model = load(path, backend.device, backend.name)
        theirs, ours = ((n.sizes[0], n.sizes[-1]) for n in (model.network, network))
        if model.task != "classification" or theirs != ours or (classes and model.classes != classes):
            raise ConfigError(
                f"teacher {path} answers another question: it takes {theirs[0]} features and knows {theirs[1]} classes "
                f"({_listed(model.classes)}); the data has {ours[0]} and {ours[1]} ({_listed(classes)})",
                setting="teacher",
            )
        models.append(in_order_of(model, schema.columns, (), f"teacher {path}"))
    return models


def _listed(classes: tuple[Any, ...]) -> str:
    return ", ".join(map(str, classes[:12])) or "without names"


def _bridge(ours: Scaling, theirs: Scaling) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Factor and offset by which features that are scaled in one way are scaled in another; None for 1 and 0.

    (u - shift) / scale = x s / scale + (m - shift) / scale,  x = (u - m) / s

    A column that was constant in the learner's training is m, that of a teacher 0, whatever comes. Pixels in [0, 1] and
    from 0 to 255 are the same to a model, and so to a teacher.
    """
    if ours.kind == theirs.kind == "pixels" and None in (ours.scale, theirs.scale):
        return None, None
    own, other = (
        [np.asarray(default if value is None else value, np.float64) for value, default in ((s.shift, 0), (s.scale, 1))]
        for s in (ours, theirs)
    )
    factor = np.where(np.isinf(own[1]), 0.0, own[1]) / other[1]
    offset = (own[0] - other[0]) / other[1]
    return None if np.all(factor == 1) else factor, None if np.all(offset == 0) else offset
