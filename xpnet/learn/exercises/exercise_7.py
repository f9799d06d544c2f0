"""Lesson 7: where to start, and how to step.

Fill in each ... below. Then check it:  python -m xpnet.learn 7
"""

import numpy as np


def init(rng, n_in, n_out):
    """The first weights of a layer with ReLU: normal draws of mean 0 and variance 2 / n_in.

    rng is a numpy.random.Generator, which has rng.normal(mean, standard deviation, shape). W is (n_in, n_out).
    """
    W = ...
    return W


def momentum(p, v, g, lr, momentum):
    """One step with momentum, for a parameter p with the gradient g: v <- momentum v + g;  p <- p - lr v."""
    v = ...
    p = ...
    return p, v


def adam(p, m, v, g, t, lr, beta1, beta2, eps):
    """One step of Adam; t counts the steps from 1.

    m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2
    p <- p - lr M / (sqrt(V) + eps),  where M = m / (1 - beta1^t) and V = v / (1 - beta2^t)
    """
    m = ...
    v = ...
    p = ...
    return p, m, v
