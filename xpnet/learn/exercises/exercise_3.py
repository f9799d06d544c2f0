"""Lesson 3: a dense layer, forward and back.

Fill in each ... below. Then check it:  python -m xpnet.learn 3
"""

import numpy as np


def dense(x, W, b):
    """A layer of n_out neurons, for n examples at once: y = x W + b, and the way back.

    x is (n, n_in), W (n_in, n_out), and b (n_out,). y and dy are (n, n_out).
    """
    y = ...

    def vjp(dy):
        """From dy, the gradient of the loss with respect to y, to those with respect to x, W and b."""
        dx = ...
        dW = ...
        db = ...
        return dx, dW, db

    return y, vjp
