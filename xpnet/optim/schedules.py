"""Learning rates as functions of the step: the trainer tabulates a schedule once, on the host, and moves the table.

``step`` counts from 0, as an integer array or, if ``xp`` is given, an int; ``n_steps`` is the number of steps of the
entire run. The first ``warmup`` steps climb linearly, lr (step + 1) / (warmup + 1), and the schedule covers the rest;
``one_cycle``, which has a climb of its own, takes its length from ``warmup``. All return float64 in the shape of step.
"""

import math
from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

__all__ = ["SCHEDULES", "constant", "cosine", "linear", "one_cycle", "step_decay"]

Array = Any


def constant(step: Array | int, *, lr: float, n_steps: int, warmup: int = 0, xp: Any = None) -> Array:
    """The same rate at every step.

        lr

    step : integer array >= 0.   lr : > 0.   n_steps : >= 1, of the run.   warmup : steps, 0 to n_steps.
    Returns float64 in step's shape.
    """
    return _warmed_up(step, lr, n_steps, warmup, lambda t, n, xp: xp.ones_like(t), xp)


def step_decay(
    step: Array | int, *, lr: float, n_steps: int, warmup: int = 0, decay_steps: int, decay: float = 0.1, xp: Any = None
) -> Array:
    """A staircase (torch's StepLR).

        lr decay^floor(t / decay_steps),  t counted from the end of the warm-up

    step : integer array >= 0.   lr : > 0.   n_steps : >= 1, of the run.   warmup : steps, 0 to n_steps.
    decay_steps : length of a stair, >= 1.   decay : factor from stair to stair, in (0, 1].
    Returns float64 in step's shape.
    """
    return _warmed_up(step, lr, n_steps, warmup, lambda t, n, xp: decay ** xp.floor(t / decay_steps), xp)


def linear(step: Array | int, *, lr: float, n_steps: int, warmup: int = 0, xp: Any = None) -> Array:
    """A straight line to zero, which it would reach one step after the last.

        lr (1 - t/n),  n = n_steps - warmup,  t counted from the end of the warm-up

    step : integer array >= 0.   lr : > 0.   n_steps : >= 1, of the run.   warmup : steps, 0 to n_steps.
    Returns float64 in step's shape.
    """
    return _warmed_up(step, lr, n_steps, warmup, lambda t, n, xp: 1.0 - t / n, xp)


def cosine(step: Array | int, *, lr: float, n_steps: int, warmup: int = 0, xp: Any = None) -> Array:
    """Half a cosine to zero.

        lr (1 + cos(pi t/n)) / 2,  n = n_steps - warmup,  t counted from the end of the warm-up

    step : integer array >= 0.   lr : > 0.   n_steps : >= 1, of the run.   warmup : steps, 0 to n_steps.
    Returns float64 in step's shape.
    Source: Loshchilov and Hutter 2017.
    """
    return _warmed_up(step, lr, n_steps, warmup, lambda t, n, xp: 0.5 * (1.0 + xp.cos(math.pi * t / n)), xp)


def one_cycle(step: Array | int, *, lr: float, n_steps: int, warmup: int | None = None, xp: Any = None) -> Array:
    """Half a cosine up from lr/25 to lr, then half a cosine down to lr/250000 (torch's OneCycleLR).

    step : integer array >= 0.   lr : > 0, the peak.   n_steps : >= 1, of the run.
    warmup : steps of the climb, whose last has the peak; None: 30 % of all.
    Returns float64 in step's shape.
    Source: Smith and Topin 2019.
    """
    t, xp = _as_float(step, xp)
    peak = (0.3 * n_steps if warmup is None else warmup) - 1.0
    low, last = lr / 25.0, lr / 25.0 / 1e4
    up = _half_cosine(low, lr, t / max(peak, 1.0), xp)
    down = _half_cosine(lr, last, (t - peak) / max(n_steps - 1.0 - peak, 1.0), xp)
    return xp.where(t <= peak, up, down)


def _half_cosine(start: float, end: float, progress: Array, xp: Any) -> Array:
    return end + (start - end) * 0.5 * (1.0 + xp.cos(math.pi * xp.clip(progress, 0.0, 1.0)))


def _warmed_up(
    step: Array | int, lr: float, n_steps: int, warmup: int, factor: Callable[[Array, int, Any], Array], xp: Any
) -> Array:
    t, xp = _as_float(step, xp)
    after = factor(xp.clip(t - warmup, min=0.0), max(n_steps - warmup, 1), xp)
    return lr * xp.where(t < warmup, (t + 1.0) / (warmup + 1.0), after)


def _as_float(step: Array | int, xp: Any) -> tuple[Array, Any]:
    xp = array_namespace(step) if xp is None else xp
    return xp.asarray(step, dtype=xp.float64), xp


SCHEDULES: dict[str, Callable[..., Array]] = {
    "constant": constant,
    "step": step_decay,
    "linear": linear,
    "cosine": cosine,
    "one-cycle": one_cycle,
}
