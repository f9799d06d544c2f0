"""The scores of a network on a split, measured on the device between two epochs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.data import Schema
from xpnet.distributed import Team
from xpnet.model import features_on, hits_of, scores_of, targets_on
from xpnet.model.model import batches
from xpnet.numerics.functional import LOSSES
from xpnet.numerics.network import MLP
from xpnet.training.loader import Loader, Window

__all__ = ["make_evaluate", "no_hits"]

Array = Any
Arrays = list[Any]


def no_hits(network: MLP, dtype: str) -> np.ndarray:
    """What hits_of counts, before any example."""
    regression = LOSSES[network.loss].task == "regression"
    return np.zeros(network.sizes[-1], dtype) if regression else np.zeros(1, np.int64)


def make_evaluate(
    network: MLP, backend: Backend, schema: Schema, team: Team | None = None
) -> Callable[[Arrays, Arrays, Loader], Any]:
    """A function evaluate(params, running, loader) -> scores, over all examples of a loader of the same backend.

    schema : of the data; its scalings are arrays on the device.
    team : the processes that share out the batches, and add their sums in the order of the batches; None for this one,
        the sums of which gather on the device and are read once, at the end.
    The loss is the network's without label smoothing.
    """
    xp = backend.xp
    loss_of = LOSSES[network.loss].function

    def add_batch(
        totals: tuple[Array, Array], params: Arrays, running: Arrays, images: Array, targets: Array
    ) -> tuple[Array, Array]:
        x = features_on(images, params[0].dtype, schema, xp=xp)
        y = targets_on(targets, params[0].dtype, schema, xp=xp)
        logits, _, _ = network.forward(params, x, running=running, xp=xp)
        loss, _ = loss_of(logits, y, xp=xp)
        return totals[0] + loss * targets.shape[0], totals[1] + hits_of(network.loss, logits, y, xp=xp)

    step = backend.compile(add_batch)

    def nothing_yet(params: Arrays) -> Callable[[], tuple[Array, Array]]:
        """Makes sums of nothing, new ones at each call, since a step consumes them."""
        dtype = backend.to_host(params[-1]).dtype
        loss, hits = np.zeros(1, dtype), no_hits(network, dtype.name)
        return lambda: (backend.to_device(loss), backend.to_device(hits))

    def evaluate(params: Arrays, running: Arrays, loader: Loader) -> Any:
        totals, n = nothing_yet(params)(), 0
        for _, window in loader.windows():
            for rows in batches(window.targets.shape[0]):
                totals = step(totals, params, running, *_batch(window, rows))
            n += window.targets.shape[0]
        loss, hits = map(backend.to_host, totals)
        return scores_of(float(loss[0]), hits, n, loader.spread)

    def evaluate_together(params: Arrays, running: Arrays, loader: Loader) -> Any:
        assert team is not None
        own, nothing = {}, nothing_yet(params)
        for number, window in loader.windows(team.rank, team.size):
            for i, rows in enumerate(batches(window.targets.shape[0])):
                # Of what comes window by window, each process reads its own ones.
                if loader.streamed or i % team.size == team.rank:
                    loss, hits = step(nothing(), params, running, *_batch(window, rows))
                    own[number, i] = backend.to_host(loss), backend.to_host(hits), rows.stop - rows.start
        found = {place: sums for part in team.gather(own) for place, sums in part.items()}
        loss, hits, n = (sum(parts) for parts in zip(*(found[place] for place in sorted(found)), strict=True))
        return scores_of(float(loss[0]), hits, n, loader.spread)

    return evaluate if team is None else evaluate_together


def _batch(window: Window, rows: slice) -> tuple[Array, Array]:
    """Images and targets of some rows of a window."""
    targets = window.targets[rows] if window.targets.ndim == 1 else window.targets[rows, :]
    return window.images[rows, :], targets
