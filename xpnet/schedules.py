"""Learning rates as functions of the step, on the host: the trainer tabulates a schedule once and moves the table.

``step`` counts from 0 and may be an int or an integer array; ``n_steps`` is the number of steps of the whole run. The
first ``warmup`` steps climb linearly, lr (step + 1) / (warmup + 1), and the schedule runs over the rest; ``one_cycle``,
which has a climb of its own, takes its length from ``warmup``. All return float64 in the shape of step.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SCHEDULES", "constant", "cosine", "linear", "one_cycle", "step_decay"]

Rates = NDArray[np.float64]


def constant(step: ArrayLike, *, lr: float, n_steps: int, warmup: int = 0) -> Rates:
    """The same rate at every step.

        lr

    step : int or integer array >= 0.   lr : > 0.   n_steps : >= 1, of the run.   warmup : steps, 0 to n_steps.
    Returns float64 in step's shape.
    """
    return _warmed_up(step, lr, n_steps, warmup, lambda t, n: np.ones_like(t))


def step_decay(
    step: ArrayLike, *, lr: float, n_steps: int, warmup: int = 0, decay_steps: int, decay: float = 0.1
) -> Rates:
    """A staircase (torch's StepLR).

        lr decay^floor(t / decay_steps),  t counted from the end of the warm-up

    step : int or integer array >= 0.   lr : > 0.   n_steps : >= 1, of the run.   warmup : steps, 0 to n_steps.
    decay_steps : length of a stair, >= 1.   decay : factor from stair to stair, in (0, 1].
    Returns float64 in step's shape.
    """
    return _warmed_up(step, lr, n_steps, warmup, lambda t, n: decay ** np.floor(t / decay_steps))


def linear(step: ArrayLike, *, lr: float, n_steps: int, warmup: int = 0) -> Rates:
    """A straight line to zero, which it would reach one step after the last.

        lr (1 - t/n),  n = n_steps - warmup,  t counted from the end of the warm-up

    step : int or integer array >= 0.   lr : > 0.   n_steps : >= 1, of the run.   warmup : steps, 0 to n_steps.
    Returns float64 in step's shape.
    """
    return _warmed_up(step, lr, n_steps, warmup, lambda t, n: 1.0 - t / n)


def cosine(step: ArrayLike, *, lr: float, n_steps: int, warmup: int = 0) -> Rates:
    """Half a cosine to zero.

        lr (1 + cos(pi t/n)) / 2,  n = n_steps - warmup,  t counted from the end of the warm-up

    step : int or integer array >= 0.   lr : > 0.   n_steps : >= 1, of the run.   warmup : steps, 0 to n_steps.
    Returns float64 in step's shape.
    Source: Loshchilov and Hutter 2017.
    """
    return _warmed_up(step, lr, n_steps, warmup, lambda t, n: 0.5 * (1.0 + np.cos(np.pi * t / n)))


def one_cycle(step: ArrayLike, *, lr: float, n_steps: int, warmup: int | None = None) -> Rates:
    """Half a cosine up from lr/25 to lr, then half a cosine down to lr/250000 (torch's OneCycleLR).

    step : int or integer array >= 0.   lr : > 0, the peak.   n_steps : >= 1, of the run.
    warmup : steps of the climb, whose last has the peak; None: 30 % of all.
    Returns float64 in step's shape.
    Source: Smith and Topin 2019.
    """
    t = np.asarray(step, dtype=np.float64)
    peak = (0.3 * n_steps if warmup is None else warmup) - 1.0
    low, last = lr / 25.0, lr / 25.0 / 1e4
    up = _half_cosine(low, lr, t / max(peak, 1.0))
    down = _half_cosine(lr, last, (t - peak) / max(n_steps - 1.0 - peak, 1.0))
    return np.where(t <= peak, up, down)


def _half_cosine(start: float, end: float, progress: Rates) -> Rates:
    return end + (start - end) * 0.5 * (1.0 + np.cos(np.pi * np.clip(progress, 0.0, 1.0)))


def _warmed_up(step: ArrayLike, lr: float, n_steps: int, warmup: int, factor: Callable[[Rates, float], Any]) -> Rates:
    t = np.asarray(step, dtype=np.float64)
    after = factor(np.maximum(t - warmup, 0.0), max(float(n_steps - warmup), 1.0))
    return lr * np.where(t < warmup, (t + 1.0) / (warmup + 1.0), after)


SCHEDULES: dict[str, Callable[..., Rates]] = {
    "constant": constant,
    "step": step_decay,
    "linear": linear,
    "cosine": cosine,
    "one-cycle": one_cycle,
}
