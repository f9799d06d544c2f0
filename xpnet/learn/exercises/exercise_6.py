"""Lesson 6: a network learns.

Fill in each ... below. Then check it:  python -m xpnet.learn 6

The parts are those of lessons 3 to 5, as the package has them. Each returns a value and a vjp:
F.dense(x, W, b), F.relu(z), and F.softmax_cross_entropy(logits, labels).
"""

import numpy as np

from xpnet import functional as F


def train_step(params, x, labels, lr):
    """Forward, back, and one step of gradient descent, p - lr dp. Returns the loss, and the new parameters."""
    W0, b0, W1, b1 = params

    z, dense0_vjp = F.dense(x, W0, b0)
    h, relu_vjp = ...
    logits, dense1_vjp = ...
    loss, loss_vjp = ...

    dlogits = loss_vjp()
    # The same way back: each vjp takes what the one after it returned.
    dh, dW1, db1 = ...
    dz = ...
    dx, dW0, db0 = ...

    new_params = ...
    return loss, new_params


def epoch(params, x, labels, lr, batch_size, rng):
    """One pass over all examples in a new order, with a step for each batch. Returns the new parameters."""
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch_size):
        batch = ...  # the numbers of this batch's examples; the last batch may be shorter
        loss, params = ...
    return params
