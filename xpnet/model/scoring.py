"""What a network is given and what it is judged by, on the device: shared by training and by what comes after it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data import Schema
from xpnet.errors import ModelError
from xpnet.numerics.functional import LOSSES, scale_features

__all__ = [
    "RegressionScores",
    "Scores",
    "features_on",
    "hits_of",
    "r2_of",
    "refuse_nan",
    "scores_of",
    "spread_of",
    "targets_on",
]

Array = Any


class Scores(NamedTuple):
    """How well a network classifies examples.

    loss : mean per example.   accuracy : share classified correctly, in [0, 1]; of several labels, all must be right.
    """

    loss: float
    accuracy: float


class RegressionScores(NamedTuple):
    """How well a network predicts numbers.

    loss : mean per example, of scaled targets.   r2 : coefficient of determination, the mean over the outputs.
    mae : mean absolute error, in the targets' unit; None while training.
    """

    loss: float
    r2: float
    mae: float | None = None


def features_on(features: Array, dtype: Any, schema: Schema, *, xp: Any) -> Array:
    """The network's input: (n, n_in) features on the device, scaled as the schema says, whose arrays are there too."""
    return scale_features(features, dtype, shift=schema.features.shift, scale=schema.features.scale, xp=xp)


def targets_on(targets: Array, dtype: Any, schema: Schema, *, xp: Any) -> Array:
    """The targets as a loss takes them: class labels as they are, numbers scaled as the schema says."""
    if not xp.isdtype(targets.dtype, "real floating"):
        return targets
    return scale_features(targets, dtype, shift=schema.targets.shift, scale=schema.targets.scale, xp=xp)


def hits_of(loss: str, logits: Array, targets: Array, *, xp: Any) -> Array:
    """What is counted of a batch to judge it by, besides the loss.

    classification: examples whose largest logit is that of their class; multilabel: examples all of whose labels are
    right; regression: of each output the sum of the squared errors, (k,).
    """
    task = LOSSES[loss].task
    if task == "classification":
        return xp.count_nonzero(xp.argmax(logits, axis=1) == targets)
    if task == "multilabel":
        wrong = xp.astype((logits > 0.0) != (targets > 0.5), logits.dtype)
        return xp.count_nonzero(xp.sum(wrong, axis=1) == 0.0)
    error = LOSSES[loss].output(logits, xp=xp)[0] - targets
    return xp.sum(error * error, axis=0)


def spread_of(targets: NDArray[Any], schema: Schema) -> NDArray[np.float64]:
    """The sum of the squared deviations of a regression's scaled targets from their mean: (k,), from (n, k)."""
    scale = 1.0 if schema.targets.scale is None else np.asarray(schema.targets.scale, np.float64)
    targets = targets.astype(np.float64) / scale
    targets = targets - targets[:1]  # so that those of a constant are all 0, and their mean is exact
    spread: NDArray[np.float64] = np.square(targets - targets.mean(axis=0)).sum(axis=0)
    return spread


def scores_of(loss: float, hits: NDArray[Any], n: int, spread: NDArray[np.float64] | None) -> Any:
    """The Scores or RegressionScores from the sums over n examples.

        R^2 = mean over the outputs of 1 - hits / spread

    loss : the sum of the losses.   hits : as hits_of counts.   spread : as spread_of finds; None unless a regression.
    """
    if spread is None:
        return Scores(loss / n, int(hits[0]) / n)
    return RegressionScores(loss / n, float(r2_of(np.asarray(hits, np.float64), spread).mean()))


def r2_of(errors: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """The coefficient of determination of each output, 1 - errors / spread, of sums of squares (k,).

    An output that never varies counts as 1 if it is met exactly, else as 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 1.0 - errors / spread, np.where(errors > 0, 0.0, 1.0))


def refuse_nan(outputs: NDArray[Any], rows: Sequence[int] | NDArray[np.intp] | None = None) -> None:
    """Raise ModelError for outputs (n, k) that are not numbers, from which no class follows.   rows : their numbers."""
    wrong = np.flatnonzero(np.isnan(outputs).any(axis=1))
    if wrong.size:
        row = wrong[0] if rows is None else rows[wrong[0]]
        raise ModelError(
            f"the network's outputs for row {row} are not numbers: its features are too large, or the parameters are "
            "not finite"
        )
