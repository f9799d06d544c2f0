"""Lesson 2: the gradient, by hand and by finite differences.

Fill in each ... below. Then check it:  python -m xpnet.learn 2
"""

import numpy as np


def gradient(x, w, b, t):
    """The gradient of lesson 1's loss with respect to w and b.

    loss = mean of (y - t)^2,  y = sigmoid(z),  z = x w + b

    x is (n, k), w (k,), b one number, and t (n,). dw has the shape of w, and db is one number.
    """
    z = x @ w + b
    y = 1 / (1 + np.exp(-z))
    n = len(t)
    dy = ...  # by how much the loss changes with each y: (n,)
    dz = ...  # and with each z: (n,)
    dw = ...
    db = ...
    return dw, db


def differences(f, p, h):
    """The gradient of f at p, without any calculus.

    For each element i:  (f(p with p_i + h) - f(p with p_i - h)) / 2h

    f maps an array (k,) to a number; p is (k,). d has the shape of p, and p is the same afterwards.
    """
    d = np.zeros(len(p))
    for i in range(len(p)):
        d[i] = ...
    return d
