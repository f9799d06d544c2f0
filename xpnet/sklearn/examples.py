"""The examples of an estimator, dense or sparse, wherever they lie, and what a network says of them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from xpnet.backend import Backend
from xpnet.backend.arrays import home_of
from xpnet.numerics.network import MLP
from xpnet.training.loader import Examples, Loader, Window

__all__ = ["Rows", "SparseExamples", "logits_of"]

Array = Any
Arrays = list[Any]

# Rows per call when nothing is trained, as in xpnet.Model.
BLOCK = 1000

# What a window of sparse examples may take once they are dense.
WINDOW_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class SparseExamples(Examples):
    """Examples whose features are a sparse matrix of scipy's; those that are taken become dense."""

    def take(self, positions: NDArray[np.intp] | None) -> tuple[Any, NDArray[Any], NDArray[Any] | None]:
        """The features, targets and weights at some positions, or at all."""
        positions = np.arange(self.n) if positions is None else positions
        rows = positions if self.rows is None else self.rows[positions]
        weights = None if self.weights is None else self.weights[positions]
        return self.images[rows].toarray(), self.targets[rows], weights


class Rows(Loader):
    """The examples of an estimator, in scikit-learn's order; sparse ones, and those too many, window by window.

    rng : draws each epoch's order from the last one's; None takes the examples as they come.
    order : of the last epoch.   Other arguments as in Loader.
    """

    drawn = False

    def __init__(
        self, examples: Examples, backend: Backend, batch_size: int, rng: np.random.RandomState | None = None
    ) -> None:
        self._rng, self.order = rng, np.arange(examples.n)
        sparse = isinstance(examples, SparseExamples)
        there = examples.rows is None and home_of(examples.images) == (backend.name, backend.device)
        if not sparse and not there:
            super().__init__(examples, backend, batch_size)
        else:
            self._examples, self._feed, self._whole, self.streamed = examples, backend.feed(), None, sparse
            self.steps, self.strides = math.ceil(examples.n / batch_size), (batch_size,)
        if there:  # no copy: nothing is written into them
            weights = None if examples.weights is None else backend.to_device(examples.weights)
            self._whole = Window(examples.images, backend.to_device(examples.targets), weights, None)
        if self.streamed:
            row = examples.images.shape[1] * examples.images.dtype.itemsize
            self.steps = min(math.ceil(examples.n / batch_size), max(1, WINDOW_BYTES // (row * batch_size)))
        self._window = self.steps * batch_size

    def shuffled(self, generator: np.random.Generator | None, skip: int = 0) -> Iterator[Window]:
        """An epoch's windows, in an order that rng draws instead of the generator."""
        if self._rng is not None:
            positions = np.arange(len(self.order))
            self._rng.shuffle(positions)
            self.order = self.order[positions]
        if self._whole is not None:
            self._feed.push(self.order)
            (order,) = self._feed.pull()
            yield self._whole._replace(order=order)
        else:
            yield from (window for _, window in self.windows())

    def windows(self, rank: int = 0, size: int = 1) -> Iterator[tuple[int, Window]]:
        """The examples on the device, all at once, or window by window in the current order."""
        if self._whole is not None:
            yield 0, self._whole
            return
        for number in range(rank, math.ceil(len(self.order) / self._window), size):
            start = number * self._window
            images, targets, weights = self._examples.take(self.order[start : start + self._window])
            self._feed.push(images, targets, weights, np.arange(len(targets)))
            yield number, Window(*self._feed.pull())


def logits_of(network: MLP, params: Arrays, running: Arrays, X: Any, backend: Backend) -> Array:
    """The logits of examples, (n, k) on the backend's device, in the params' dtype.

    X : (n, n_in), sparse, or an array of any library that xpnet knows.
    """
    xp, dtype, n = backend.xp, params[0].dtype, X.shape[0]
    there, sparse, parts = home_of(X) == (backend.name, backend.device), issparse(X), []
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, n, BLOCK):
            x = X if n <= BLOCK else X[start : min(start + BLOCK, n)] if sparse else X[start : min(start + BLOCK, n), :]
            if not there:
                x = backend.adopt(x.toarray() if sparse else x)
            if x.dtype != dtype:
                x = xp.astype(x, dtype)
            parts.append(network.forward(params, x, running=running, xp=xp)[0])
        return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
