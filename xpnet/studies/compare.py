"""Two models on the same examples: does the difference between their scores mean anything?"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ModelError
from xpnet.model import Measured

__all__ = ["Disagreement", "ErrorDifference", "compare_errors", "compare_right", "mcnemar"]

DEVIATIONS = 1.959964  # of a normal distribution, on both sides, hold 95 % of it


class Disagreement(NamedTuple):
    """On how many of the same examples two models are right, and what the difference means.

    examples : of all.   both, neither : of which both are right, or neither is.   only_first, only_second : one alone.
    p : the probability of a difference at least as large, if both were equally good.
    """

    examples: int
    both: int
    neither: int
    only_first: int
    only_second: int
    p: float


class ErrorDifference(NamedTuple):
    """How much larger the second model's absolute errors are in the mean, in the target's unit.

    examples : of all.   first, second : the mean absolute errors.   difference : the second less the first.
    low, high : its interval of 95 %.
    """

    examples: int
    first: float
    second: float
    difference: float
    low: float
    high: float


def compare_right(first: Measured, second: Measured) -> Disagreement:
    """Compare two classifiers by the examples that they get right; with several labels, all must be.

    first, second : measured on the same examples.   Raises ModelError if their labels differ.
    """
    _check_same(first, second)
    one, two = _right(first), _right(second)
    both, neither, only_one, only_two = (int(np.sum(each)) for each in (one & two, ~one & ~two, one & ~two, ~one & two))
    return Disagreement(len(one), both, neither, only_one, only_two, mcnemar(only_one, only_two))


def compare_errors(first: Measured, second: Measured) -> ErrorDifference:
    """Compare two regressions by their absolute errors, of several targets the mean.

        d_i = |y2_i - t_i| - |y1_i - t_i| ;   mean(d) +- 1.96 s(d) / sqrt(n)

    first, second : measured on the same examples.   Raises ModelError if their targets differ.
    """
    _check_same(first, second)
    one, two = (np.abs(each.outputs - each.targets).mean(axis=1, dtype=np.float64) for each in (first, second))
    d = two - one
    mean, half = float(d.mean()), DEVIATIONS * float(d.std(ddof=1)) / math.sqrt(len(d)) if len(d) > 1 else math.inf
    return ErrorDifference(len(d), float(one.mean()), float(two.mean()), mean, mean - half, mean + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """The p-value of McNemar's exact test: of n = b + c disagreements, each is as likely to favour either model.

        p = min(1, 2 sum_{k <= min(b, c)} (n over k) / 2^n)

    only_first, only_second : b and c, the examples that one model alone gets right.
    Source: McNemar 1947; the exact binomial form.
    """
    n, k = only_first + only_second, min(only_first, only_second)
    i = np.arange(1, k + 1, dtype=np.float64)
    # Logarithms, since 2^n has no float from n = 1024 on.
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - i + 1) / i))]) - n * math.log(2.0)
    return min(1.0, 2.0 * float(np.exp(logs).sum()))


def _check_same(first: Measured, second: Measured) -> None:
    if first.targets.shape != second.targets.shape or not np.array_equal(first.targets, second.targets):
        raise ModelError("the models were not measured on the same examples")
    if not len(first.targets):
        raise ModelError("there are no examples to compare the models on")


def _right(measured: Measured) -> NDArray[np.bool_]:
    """(n,) whether each example is classified correctly."""
    outputs, targets = measured.outputs, measured.targets
    right: NDArray[np.bool_]
    if targets.ndim == 1:
        right = outputs.argmax(axis=1) == targets
        return right
    right = np.all((outputs > 0.5) == (targets > 0.5), axis=1)
    return right
