"""Calibration: probabilities that are as often right as they say, by one number for the entire network."""

import contextlib
import dataclasses

import numpy as np
from numpy.typing import NDArray

from xpnet.data import rows_of
from xpnet.numerics.functional import LOSSES, softmax
from xpnet.training.callbacks import Callback
from xpnet.training.loader import Examples
from xpnet.training.loop import computing
from xpnet.training.run import Run

__all__ = ["Calibration", "temperature_of"]

MOST_EXAMPLES = 20_000  # enough for one number
PRIOR = 20  # examples; python -m bench calibration compares others


def temperature_of(logits: NDArray[np.floating], labels: NDArray[np.integer], prior: float = PRIOR) -> float:
    """The temperature by which logits are divided so that the labels become most probable.

        T = argmin - sum_i log softmax(z_i / T)_label - m/n sum_ik softmax(z_i)_k log softmax(z_i / T)_k

    The second sum is the prior: m more examples, whose labels are as probable as the network says. Without it, few
    examples that are all classified correctly would make the network as good as certain. The derivative in 1/T rises,
    and T is found by its bisection.

    logits : (n, k), finite.   labels : (n,), in 0..k-1.   prior : m, at least 0.
    Returns T in [1/20, 20].
    Source: Guo et al. 2017, section 4.2, but for the prior.
    """
    z, n = logits.astype(np.float64), len(logits)
    own, _ = softmax(z, xp=np)
    of_label = (z[np.arange(n), labels].sum() + prior * (own * z).sum(axis=1).mean()) / (n + prior)
    low, high = 1 / 20, 20.0  # of 1/T
    for _ in range(60):
        inverse = (low + high) / 2
        p, _ = softmax(inverse * z, xp=np)
        if (p * z).sum(axis=1).mean() < of_label:
            low = inverse
        else:
            high = inverse
    return float(2 / (low + high))


class Calibration(Callback):
    """Sets the temperature of the model by the examples that were held out, when a run has ended.

    examples : held out of the training.
    """

    order = -1  # begun after the directory, and so ended before it writes the model

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def on_end(self, run: Run) -> None:
        """Find the temperature for the parameters that the run ends with."""
        if run.at_once or not run.history or LOSSES[run.network.loss].output is not softmax or run.failure:
            return
        # From all over them, since they may be in order of their classes.
        n = min(self.examples.n, MOST_EXAMPLES)
        rows = np.arange(n) * self.examples.n // n
        rows = rows if self.examples.rows is None else self.examples.rows[rows]
        # In shards with the threads of the training, which may be bound to fewer cores in a team than alone.
        with computing(run) if run.shards > 1 else contextlib.nullcontext():
            logits = run.model().logits(rows_of(self.examples.images, rows))
        temperature = temperature_of(logits, self.examples.targets[rows])
        run.schema = dataclasses.replace(run.schema, temperature=temperature)
