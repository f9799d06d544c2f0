"""A program that uses xpnet as other packages do: mypy --strict checks it against the package that is installed.

The types are asserted, since a package without py.typed, or a name that is loaded at first use, could be Any.
"""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import xpnet
from xpnet import functional, optim


class Losses(xpnet.Callback):
    """Notes the loss of every epoch, and ends the run after two."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_epoch(self, run: xpnet.Run) -> None:
        epoch = run.history[-1]
        assert_type(epoch, xpnet.Epoch)
        self.losses.append(epoch.train_loss)
        if epoch.epoch == 2:
            run.stop("two are enough")


def trained(X: NDArray[np.float64], y: NDArray[np.int64]) -> xpnet.Model:
    """A model of these examples, stopped by the callback."""
    losses = Losses()
    network = xpnet.MLP((X.shape[1], 8, 2), activation="tanh")
    result = xpnet.fit(network, (X, y), callbacks=[losses], epochs=5, device="cpu", progress=False)
    assert_type(result, xpnet.Result)
    assert_type(result.stop_reason, str | None)
    assert len(result.history) == len(losses.losses) == 2
    return result.model


def by_hand(X: NDArray[np.float64]) -> float:
    """A step of gradient descent on a single layer; the loss after it, less the loss before."""
    y = np.zeros(len(X), np.int64)
    W, b = np.full((X.shape[1], 2), 0.1), np.zeros(2)
    losses = []
    for _ in range(2):
        logits, layer_vjp = functional.dense(X, W, b)
        loss, loss_vjp = functional.softmax_cross_entropy(logits, y)
        assert_type(layer_vjp, functional.Vjp)
        _, dW, db = layer_vjp(loss_vjp())
        optim.sgd([W, b], [], [dW, db], lr=0.1)
        losses.append(float(loss))
    return losses[1] - losses[0]


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 3)), np.arange(64) % 2
    model = trained(X, y)
    assert_type(model, xpnet.Model)
    print(f"{model.predict(X).shape} answers; a step by hand makes the loss lower: {by_hand(X) < 0}")
