"""Figures of what was measured, on the host: of classes, outputs, confusions and probabilities, with an interval."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data import Schema
from xpnet.model.scoring import r2_of, spread_of

__all__ = [
    "Confusion",
    "OfClass",
    "OfOutput",
    "by_class",
    "by_output",
    "calibration_error",
    "confusion_matrix",
    "interval",
    "macro_f1",
    "most_confused",
    "root_mean_square",
    "top_accuracy",
    "top_k",
]


class OfClass(NamedTuple):
    """How well a class, or one of several labels, is told from the others; a share of nothing is None.

    n : the examples that have it.   precision : share of those predicted to have it that do have it.
    recall : share of those that have it that are predicted to.   f1 : 2 hits / (n + predicted), the harmonic mean.
    """

    n: int
    precision: float | None
    recall: float | None
    f1: float | None


class OfOutput(NamedTuple):
    """How well one of a regression's outputs is predicted: R2, and the mean absolute and the root mean square error."""

    r2: float
    mae: float
    rmse: float


class Confusion(NamedTuple):
    """How many times the examples of a class, label, were classified as another, predicted: positions."""

    label: int
    predicted: int
    times: int


def confusion_matrix(labels: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int) -> NDArray[np.intp]:
    """How often each class was classified as each: (n_classes, n_classes) counts, a row for each label.

    labels, predictions : (n,) integers in 0..n_classes-1.
    """
    cells = labels.astype(np.intp) * n_classes + predictions
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def most_confused(matrix: NDArray[np.integer], most: int) -> list[Confusion]:
    """The most frequent mistakes of a confusion matrix, at most so many of them; of equal ones the first come first."""
    wrong = matrix - np.diag(np.diagonal(matrix))
    cells = np.argsort(-wrong, axis=None, kind="stable")[:most]
    places = (divmod(int(cell), len(matrix)) for cell in cells if wrong.flat[cell])
    return [Confusion(label, predicted, int(wrong[label, predicted])) for label, predicted in places]


def by_class(targets: NDArray[Any], outputs: NDArray[Any]) -> list[OfClass]:
    """The figures of each class, or of each of several labels.

    targets : (n,) integers in 0..k-1, or (n, k) of which those above 0.5 are there.   outputs : (n, k); the class with
        the largest is predicted, or every label above 0.5.
    Source: van Rijsbergen 1979, chapter 7.
    """
    if targets.ndim == 1:
        matrix = confusion_matrix(targets, outputs.argmax(axis=1), outputs.shape[1])
        hits, given, said = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    else:
        there, predicted = targets > 0.5, outputs > 0.5
        hits, given, said = ((there & predicted).sum(axis=0), there.sum(axis=0), predicted.sum(axis=0))
    counts = zip(hits.tolist(), given.tolist(), said.tolist(), strict=True)
    return [OfClass(n, _share(hit, of), _share(hit, n), _share(2 * hit, n + of)) for hit, n, of in counts]


def macro_f1(classes: Iterable[OfClass]) -> float | None:
    """The mean F1 of the classes that occur or are predicted; None if no class does."""
    known = [each.f1 for each in classes if each.f1 is not None]
    return sum(known) / len(known) if known else None


def top_k(n_classes: int) -> int | None:
    """How many of the likeliest classes are looked at besides the likeliest: 5, of fewer than ten classes 3.

    None of fewer than four classes, where three are nearly all.
    """
    return 5 if n_classes >= 10 else 3 if n_classes > 3 else None


def top_accuracy(outputs: NDArray[Any], labels: NDArray[np.integer], k: int) -> float:
    """The share of examples whose class is among the k with the largest outputs; of equal ones the first count.

    outputs : (n, n_classes).   labels : (n,) integers in 0..n_classes-1.
    """
    best = np.argsort(-outputs, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def calibration_error(outputs: NDArray[Any], labels: NDArray[np.integer], bins: int = 15) -> float:
    """The expected calibration error: how far the top probabilities are from how often these predictions are right.

        ECE = sum_b n_b/n |mean top probability of bin b - share of its predictions that are right|

    outputs : (n, n_classes) probabilities.   labels : (n,) integers in 0..n_classes-1.
    bins : number of bins of equal width, by the top probability.   Returns nan if an output is not a number.
    Source: Guo, Pleiss, Sun and Weinberger 2017, section 2.
    """
    top, right = outputs.max(axis=1).astype(np.float64), outputs.argmax(axis=1) == labels
    if not np.isfinite(top).all():
        return math.nan
    gaps = np.bincount(np.minimum((top * bins).astype(np.intp), bins - 1), weights=top - right)
    return float(np.abs(gaps).sum()) / len(top)


def interval(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share of which n draws are known.

        (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n),  p = right/n

    right : in 0..n.   n : at least 1.   z : the normal quantile, by default of 95 %.
    Returns both ends, in [0, 1].
    Source: Wilson 1927.
    """
    p, spread = right / n, z * z / n
    half = z * math.sqrt(p * (1 - p) / n + spread / (4 * n))
    low, high = ((p + spread / 2 + side) / (1 + spread) for side in (-half, half))
    return max(low, 0.0), min(high, 1.0)


def root_mean_square(outputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """The root of the mean squared error of a regression's outputs, over all of them, in the targets' unit."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(_roots(np.ravel(outputs.astype(np.float64) - targets)))


def by_output(targets: NDArray[Any], outputs: NDArray[Any]) -> list[OfOutput]:
    """The figures of each of a regression's outputs.   targets, outputs : (n, k), in the targets' unit."""
    targets = targets.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        errors, span = outputs - targets, np.ptp(targets, axis=0)
        unit = np.where((span > 0.0) & np.isfinite(span), span, 1.0)
        r2 = r2_of(np.square(errors / unit).sum(axis=0), spread_of(targets / unit, Schema()))
        figures = r2, np.abs(errors).mean(axis=0), _roots(errors)
    return [OfOutput(*each) for each in zip(*(figure.tolist() for figure in figures), strict=True)]


def _roots(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The root mean squares over the first axis, of errors whose squares may be infinite, or 0."""
    largest = np.abs(errors).max(axis=0)
    unit = np.where((largest > 0.0) & np.isfinite(largest), largest, 1.0)
    found: NDArray[np.float64] = np.sqrt(np.square(errors / unit).mean(axis=0)) * unit
    return found


def _share(count: int, of: int) -> float | None:
    return count / of if of else None
