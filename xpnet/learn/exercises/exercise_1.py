"""Lesson 1: a neuron and its loss.

Fill in each ... below. Then check it:  python -m xpnet.learn 1
"""

import numpy as np


def neuron(x, w, b):
    """The answers y of one neuron to n examples, each between 0 and 1.

    y = sigmoid(z),  z = sum of x_j w_j, plus b;  sigmoid(z) = 1 / (1 + e^-z)

    x is (n, k): n examples with k features each; w is (k,), and b one number. y is (n,).
    """
    z = ...
    y = ...
    return y


def loss(y, t):
    """How wrong the answers y are where t is right: the mean over all examples of (y - t)^2, one number."""
    loss = ...
    return loss
