"""Lesson 1: a neuron and its loss."""

from collections.abc import Iterator

import numpy as np

from xpnet.learn.exercise import Exercise, Finding, Host, fixed
from xpnet.numerics import functional as F

__all__ = ["check_loss", "check_neuron", "sigmoid"]


def sigmoid(z: Host) -> Host:
    """As the package has it, on the host."""
    y: Host = F.sigmoid(np.asarray(z))[0]
    return y


def check_neuron(exercise: Exercise) -> Iterator[Finding]:
    """The neuron's answers."""
    rng = np.random.default_rng(1)
    x, w, b = fixed(rng.normal(size=(6, 3))), fixed(rng.normal(size=3)), 0.7
    z = x @ w + b
    mistakes = [
        ("the sigmoid is missing: this is z itself", z),
        ("the b is missing in z: z = x w + b", sigmoid(z - b)),
        ("b is added to each product, and so k times: it belongs outside the sum", sigmoid(z + 2 * b)),
        ("the exponent has the wrong sign: e^-z, not e^z, so that a large z means yes", sigmoid(-z)),
        ("the products x_j w_j are not added up: y has a number for each feature", sigmoid(x * w + b)),
        ("all examples are added up, too: the sum is over the features alone, axis 1 of x", sigmoid((x * w).sum() + b)),
        ("the sum is over the examples: it is over the features, axis 1 of x", sigmoid((x * w).sum(0) + b)),
        ("that is a mean over the features where z has their sum", sigmoid((x * w).mean(1) + b)),
        ("that is tanh, which lies between -1 and 1: the sigmoid is 1 / (1 + e^-z)", np.tanh(z)),
        ("the 1 + is missing in the sigmoid's denominator", np.exp(z)),
    ]
    yield exercise.compare("neuron", "y", exercise.call("neuron", x, w, b), sigmoid(z), mistakes)


def check_loss(exercise: Exercise) -> Iterator[Finding]:
    """The mean squared error."""
    rng = np.random.default_rng(2)
    y, t = fixed(rng.random(6)), fixed([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    e = y - t
    mistakes = [
        ("1/n is missing: that is the sum of the squares, and the loss is their mean", (e * e).sum()),
        ("the mean is missing: the loss is one number, not one for each example", e * e),
        ("the square is missing: errors of opposite signs cancel each other", e.mean()),
        ("the square is missing: errors of opposite signs cancel each other", (-e).mean()),
        ("that is the mean of |y - t|: square the errors instead", np.abs(e).mean()),
        ("the square is taken of the mean: square first, then take the mean", e.mean() ** 2),
        ("that is the root of the loss: leave the square root out", np.sqrt((e * e).mean())),
        ("that is the cross-entropy, which lesson 5 is about", -np.log(np.abs(1 - t - y)).mean()),
    ]
    factors = [("a half is in front of it, which some books have, but not this one", 0.5)]
    yield exercise.compare("loss", "loss", exercise.call("loss", y, t), (e * e).mean(), mistakes, factors)
