"""The loss and accuracy of a network on a split, measured on the device between two epochs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.model import Scores
from xpnet.model.model import batches
from xpnet.numerics.functional import LOSSES, scale_features
from xpnet.numerics.network import MLP
from xpnet.training.loader import Loader

__all__ = ["make_evaluate"]

Array = Any
Arrays = list[Any]


def make_evaluate(network: MLP, backend: Backend) -> Callable[[Arrays, Arrays, Loader], Scores]:
    """A function evaluate(params, running, loader) -> Scores, over all examples of a loader of the same backend.

    The loss is the network's without label smoothing. Sums gather on the device and are read once, at the end.
    """
    xp = backend.xp
    loss_of = LOSSES[network.loss].function

    def add_batch(
        totals: tuple[Array, Array], params: Arrays, running: Arrays, images: Array, labels: Array
    ) -> tuple[Array, Array]:
        scale = 255.0 if images.dtype == xp.uint8 else None
        x = scale_features(images, params[0].dtype, scale=scale, xp=xp)
        logits, _, _ = network.forward(params, x, running=running, xp=xp)
        loss, _ = loss_of(logits, labels, xp=xp)
        hits = xp.count_nonzero(xp.argmax(logits, axis=1) == labels)
        return totals[0] + loss * labels.shape[0], totals[1] + hits

    step = backend.compile(add_batch)

    def evaluate(params: Arrays, running: Arrays, loader: Loader) -> Scores:
        totals = xp.zeros_like(params[-1][:1]), backend.to_device(np.zeros(1, np.int64))
        n = 0
        for window in loader:
            for rows in batches(window.labels.shape[0]):
                totals = step(totals, params, running, window.images[rows, :], window.labels[rows])
            n += window.labels.shape[0]
        loss, hits = (float(backend.to_host(total)[0]) for total in totals)
        return Scores(loss / n, hits / n)

    return evaluate
