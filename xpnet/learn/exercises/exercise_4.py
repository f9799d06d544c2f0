"""Lesson 4: activations and their masks.

Fill in each ... below. Then check it:  python -m xpnet.learn 4
"""

import numpy as np


def relu(z):
    """y = z where z is positive, and 0 elsewhere. z may have any shape."""
    y = ...

    def vjp(dy):
        """The way back. At the kink, where z = 0, dz is 0."""
        dz = ...
        return dz

    return y, vjp


def tanh(z):
    """y = tanh z, whose slope is 1 - y^2."""
    y = ...

    def vjp(dy):
        dz = ...
        return dz

    return y, vjp
