"""Lesson 5: softmax and cross-entropy.

Fill in each ... below. Then check it:  python -m xpnet.learn 5
"""

import numpy as np


def softmax_cross_entropy(logits, labels):
    """The mean over n examples of -log p(label), where p = softmax(logits), and the way back.

    p_ij = e^z_ij / sum over j of e^z_ij,  z the logits

    logits is (n, k), and labels (n,), integers in 0 to k - 1. loss is one number.
    """
    n = len(labels)
    log_p = ...  # (n, k); logits of 1000 are no reason to overflow
    loss = ...

    def vjp(dloss=1.0):
        """From dloss, one number, to the logits' gradient."""
        dlogits = ...
        return dlogits

    return loss, vjp
