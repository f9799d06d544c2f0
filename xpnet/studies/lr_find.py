"""The learning-rate range test: train while the rate climbs from far too small to far too large, and watch the loss."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.checks import check_range
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.numerics.network import MLP
from xpnet.training.config import TrainConfig
from xpnet.training.loop import Loop, computing
from xpnet.training.prepare import as_dataset, check_arguments, prepare
from xpnet.training.run import Run
from xpnet.training.start import with_classes_of

__all__ = ["RateRange", "find_lr"]

# Weight of the past in the smoothed loss: a mean over some 20 steps.
DECAY = 0.95
# Steps at a rate of 0, which tell the loss before the test and how much it differs from batch to batch.
BEFORE = 20
# The test is over when the smoothed loss is so many times its smallest value.
DIVERGED = 4.0
# A loss whose smallest mean is a larger share of its first says nothing of a good rate.
FELL = 0.95
# One that fell by fewer standard deviations may have fallen by chance.
SURE = 3.0
# The rate that is suggested, in units of the one at which the smoothed loss is smallest.
SHARE = 1 / 2


class _Deviance(MLP):
    """A network of counts whose loss is never below 0, so that losses can be compared by their ratio.

    loss' = loss - 1/(n k) sum_ik (t_ik - t_ik log t_ik), the least loss that there can be
    """

    def loss_of(
        self, logits: Any, targets: Any, *, weights: Any = None, xp: Any = None
    ) -> tuple[Any, Callable[..., Any]]:
        assert weights is None, "numbers have no class weights, and a range test no others"
        loss, vjp = super().loss_of(logits, targets, xp=xp)
        least = targets - targets * xp.log(xp.where(targets > 0, targets, xp.ones_like(targets)))
        return loss - xp.mean(least), vjp


class RateRange(NamedTuple):
    """The result of a range test.

    rates : (n,) learning rates of the steps that were done.   losses : (n,) loss of each step's batch; of counts, what
        it is above the least that it can be.
    smoothed : (n,) exponential mean of the losses.   suggestion : a rate to train with.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    suggestion: float


def find_lr(
    network: MLP,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    backend: Backend | None = None,
    low: float = 1e-4,
    high: float = 10.0,
    steps: int = 400,
    report: Callable[[int], None] | None = None,
) -> RateRange:
    """Train for some steps with a rate that rises exponentially, until the loss diverges.

        lr_i = low (high / low)^(i / (steps - 1)),  i = 0, ..., steps - 1
        smoothed_i = d smoothed_{i-1} + (1 - d) loss_i,  d = 0.95

    smoothed_{-1} is the mean loss of 20 steps before, at a rate of 0.

    network, data, config, backend : as in fit, but no Model; the rate, the schedule, the epochs and the early stopping
        of config are not used.
    low, high : first and last rate, 0 < low < high.   steps : >= 20, over as many epochs as it takes.
    report : called with the number of steps done, after each.
    Returns a RateRange, which suggests half the rate at which the smoothed loss was smallest.
    Raises ConfigError as fit does, or if the loss hardly fell, or no more than by chance.
    Source: Smith 2017, section 3.3; the smoothing, but for its beginning, and the end are those of Gugger 2018.
    """
    check_range("low", low, 0.0, low_open=True)
    check_range("high", high, low, low_open=True)
    check_range("steps", steps, 20)
    check_arguments(config, backend, network)
    if not isinstance(network, MLP):
        raise TypeError("network must be an MLP: a Model is for fit, and the range test starts from random parameters")
    data = with_classes_of(network, as_dataset(data, None, None, network.loss))
    config = (config or TrainConfig()).replace(early_stopping=None)
    run, splits = prepare(network, data, config, backend or config.backend())
    if network.loss == "poisson":
        network = _Deviance(**asdict(network))
    rates = np.geomspace(low, high, steps)
    run = replace(run, network=network, rates=np.concatenate([np.zeros(BEFORE), rates]))
    losses: list[float] = []
    smoothed: list[float] = []
    with computing(run):
        trained = _losses(run, Loop(run, splits["train"], steps_per_call=1))
        before = list(itertools.islice(trained, BEFORE))
        mean = start = float(np.mean(before))
        for loss in itertools.islice(trained, steps):
            if not math.isfinite(loss):
                break
            losses.append(loss)
            mean = DECAY * mean + (1.0 - DECAY) * loss
            smoothed.append(mean)
            if report:
                report(len(losses))
            if smoothed[-1] > DIVERGED * min(smoothed):
                break
    rates = rates[: len(losses)]
    best = int(np.argmin(smoothed)) if smoothed else 0
    rose = f"while the learning rate rose from {low:g} to {rates[-1] if losses else low:.3g}"
    # The standard deviation of the difference of the two means.
    noise = float(np.std(before)) * math.sqrt(1 / BEFORE + (1 - DECAY) / (1 + DECAY))
    # One that runs away at once is not noise.
    if len(losses) > BEFORE and start - smoothed[best] < SURE * noise > (1.0 - FELL) * start:
        raise ConfigError(
            f"batch_size {run.config.batch_size} is too small: the loss differs so much from batch to batch that it "
            f"cannot be seen to fall {rose}",
            setting="batch_size",
        )
    if not smoothed or smoothed[best] > FELL * start:
        raise ConfigError(f"the loss hardly fell {rose}: {'raise high' if len(losses) == steps else 'lower low'}")
    return RateRange(rates, np.array(losses), np.array(smoothed), SHARE * float(rates[best]))


def _losses(run: Run, loop: Loop) -> Iterator[float]:
    """Train, and yield the loss of each batch: the growth of the epoch's sum over the examples."""
    for epoch in itertools.count(1):
        before = 0.0
        for done in loop.epoch(epoch):
            total = float(run.backend.to_host(loop.state.loss)[0])
            examples = min(run.batch_size, run.n_examples - (done - 1) * run.batch_size)
            yield (total - before) / examples
            before = total
