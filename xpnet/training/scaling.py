"""How a run scales its features and its targets, by the statistics of the examples that it trains on."""

import logging
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.arrays import namespace_of, to_numpy
from xpnet.data import is_mapped, rows_of
from xpnet.data.schema import PIXELS, ROUNDED, Scaling
from xpnet.errors import ConfigError
from xpnet.numerics.functional import LOSSES
from xpnet.training.loader import Examples

__all__ = ["scaling_of_features", "scaling_of_targets"]

logger = logging.getLogger("xpnet")

# Features that are examined at a time, in float64.
BLOCK_BYTES = 1 << 25
# Bytes on the disk of which it is said that they are read before the first step.
LARGE = 1 << 30
# A largest pixel above it belongs to a set of pixels from 0 to 255.
HALF_WHITE = 127


class _Moments(NamedTuple):
    """Of each column: its least and largest value, its mean and its standard deviation; (k,) float64."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def scaling_of_features(train: Examples, scale: str, name: str) -> Scaling:
    """The scaling of the features.

    train : the examples that are trained on, and no others.   scale : one of SCALES; "auto" is pixels for bytes and
        pictures without negative values, standard for all else.   name : of the data, for the log.
    """
    images = train.images
    is_bytes = images.dtype == namespace_of(images).uint8
    if scale == "none":
        return Scaling()
    if scale == "pixels" or (scale == "auto" and (is_bytes or images.ndim == 3)):
        low, high = _range(train)
        if low >= 0 or scale == "pixels":
            return _of_pixels(high, is_bytes, name)
    if is_mapped(images) and images.nbytes >= LARGE:
        logger.info("%s: reading its %d rows once, to scale the features", name, train.n)
    found = _moments(train)
    # A column that never varies in training says nothing: it becomes 0, whatever it may be later.
    constant = (found.low == found.high) | (found.deviation == 0)
    if scale == "minmax":
        shift, spread = found.low, found.high - found.low
    else:
        shift, spread = found.mean, found.deviation
    spread = np.where(constant, math.inf, spread)
    dtype = to_numpy(images[:1, ...]).dtype if not is_bytes else np.dtype(np.float32)
    return Scaling("minmax" if scale == "minmax" else "standard", shift.astype(dtype), spread.astype(dtype))


def scaling_of_targets(train: Examples, loss: str) -> Scaling:
    """The scaling of a regression's targets: to mean 0 and deviation 1, except for counts.

    Raises ConfigError for counts below 0.
    """
    if LOSSES[loss].task != "regression":
        return Scaling()
    targets = train.chosen_targets.astype(np.float64)
    if loss == "poisson":
        if targets.min() < 0:
            raise ConfigError(f"the loss poisson is for counts, but a target is {targets.min():g}: use squared-error")
        return Scaling()
    unit = _unit(np.abs(targets).max(axis=0))
    mean, deviation = (targets / unit).mean(axis=0) * unit, (targets / unit).std(axis=0) * unit
    # Of constant targets the deviation may be a rounding error instead of 0.
    constant = (targets.min(axis=0) == targets.max(axis=0)) | (deviation == 0)
    return Scaling("standard", mean, np.where(constant, 1.0, deviation))


def _of_pixels(high: float, is_bytes: bool, name: str) -> Scaling:
    """Pixels by the largest value that they can have, as far as the largest one that there is shows it."""
    if high <= ROUNDED and not is_bytes:
        return Scaling("pixels")
    if HALF_WHITE < high <= 255 or high == 0:
        return PIXELS
    if high == 1:  # of two colours, or truths
        return Scaling("pixels", None, 1.0)
    logger.warning("%s: the largest pixel is %g, so pixels are divided by %g instead of 255", name, high, high)
    return Scaling("pixels", None, float(high))


def _blocks(train: Examples) -> Any:
    """The features, (n, k), some rows at a time."""
    images, n = train.images, train.n
    xp, k = namespace_of(images), math.prod(images.shape[1:])
    step = max(1, BLOCK_BYTES // (8 * k))
    for start in range(0, n, step):
        stop = min(start + step, n)
        if train.rows is None and not is_mapped(images):
            block = images[start:stop, ...]
        else:
            rows = np.arange(start, stop) if train.rows is None else train.rows[start:stop]
            block = rows_of(images, rows)
        yield xp.reshape(block, (stop - start, k))


def _range(train: Examples) -> tuple[float, float]:
    """The least and the largest of all features; of bytes, 0 and one from which on it makes no difference."""
    low, high = math.inf, -math.inf
    for block in _blocks(train):
        xp = namespace_of(block)
        is_bytes = block.dtype == xp.uint8
        low = 0.0 if is_bytes else min(low, float(xp.min(block)))
        high = max(high, float(xp.max(block)))
        if is_bytes and high > HALF_WHITE:
            break
    return low, high


def _moments(train: Examples) -> _Moments:
    """Of each column, read once: blocks are joined as by Chan, Golub and LeVeque 1979."""
    n, k = train.n, math.prod(train.images.shape[1:])
    low, high = np.full(k, math.inf), np.full(k, -math.inf)
    done, mean, squares, unit = 0, np.zeros(k), np.zeros(k), np.zeros(k)
    for block in _blocks(train):
        xp, rows = namespace_of(block), block.shape[0]
        low = np.minimum(low, to_numpy(xp.min(block, axis=0)))
        high = np.maximum(high, to_numpy(xp.max(block, axis=0)))
        before, unit = unit, _unit(np.maximum(np.abs(low), np.abs(high)))
        mean, squares = mean * (before / unit), squares * (before / unit) ** 2
        its_mean, its_squares = _mean_and_squares(block, unit)
        apart, share = its_mean - mean, rows / (done + rows)
        mean += apart * share
        squares += its_squares + apart * apart * (done * share)
        done += rows
    return _Moments(low, high, mean * unit, np.sqrt(squares / n) * unit)


def _unit(largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """A power of two near the largest: in such units no square is more than a float holds, nor does all become 0."""
    unit: NDArray[np.float64] = np.ldexp(0.5, np.frexp(largest)[1])
    return unit


def _mean_and_squares(block: Any, unit: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of x = block / unit over the rows, and the sum of (x - mean)^2, where the block lies."""
    xp = namespace_of(block)
    if isinstance(block, np.ndarray):
        x = block / unit
    else:
        from array_api_compat import device

        x = xp.astype(block, xp.float64) / xp.asarray(unit, device=device(block))
    mean = xp.sum(x, axis=0) / x.shape[0]
    x = x - mean
    return to_numpy(mean), to_numpy(xp.sum(x * x, axis=0))
