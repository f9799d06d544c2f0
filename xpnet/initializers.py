"""Initial parameters, drawn on the host in float64, so that every device, library and precision starts the same.

Every initializer returns W of shape (n_in, n_out). The names say the variance: he 2/n_in, lecun 1/n_in,
glorot 2/(n_in + n_out); ``_normal`` draws from a normal, ``_uniform`` from a uniform distribution of that variance.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

__all__ = [
    "INITIALIZERS",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "init_params",
    "init_running",
    "lecun_normal",
    "lecun_uniform",
    "zeros",
]

Weights = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def he_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Normal draws for rectifiers.

        W ~ N(0, 2/n_in)

    rng : draws the numbers.   n_in, n_out : widths, >= 1.   Returns W (n_in, n_out) float64.
    Source: He et al. 2015.
    """
    return _normal(rng, n_in, n_out, 2.0 / n_in)


def he_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Uniform draws for rectifiers.

        W ~ U(-r, r), r = sqrt(6/n_in)

    rng : draws the numbers.   n_in, n_out : widths, >= 1.   Returns W (n_in, n_out) float64.
    Source: He et al. 2015.
    """
    return _uniform(rng, n_in, n_out, 2.0 / n_in)


def glorot_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Normal draws for sigmoid and tanh.

        W ~ N(0, 2/(n_in + n_out))

    rng : draws the numbers.   n_in, n_out : widths, >= 1.   Returns W (n_in, n_out) float64.
    Source: Glorot and Bengio 2010.
    """
    return _normal(rng, n_in, n_out, 2.0 / (n_in + n_out))


def glorot_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Uniform draws for sigmoid and tanh.

        W ~ U(-r, r), r = sqrt(6/(n_in + n_out))

    rng : draws the numbers.   n_in, n_out : widths, >= 1.   Returns W (n_in, n_out) float64.
    Source: Glorot and Bengio 2010.
    """
    return _uniform(rng, n_in, n_out, 2.0 / (n_in + n_out))


def lecun_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Normal draws that keep the variance of a linear layer's input.

        W ~ N(0, 1/n_in)

    rng : draws the numbers.   n_in, n_out : widths, >= 1.   Returns W (n_in, n_out) float64.
    Source: LeCun et al. 1998 ("Efficient BackProp").
    """
    return _normal(rng, n_in, n_out, 1.0 / n_in)


def lecun_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """Uniform draws that keep the variance of a linear layer's input.

        W ~ U(-r, r), r = sqrt(3/n_in)

    rng : draws the numbers.   n_in, n_out : widths, >= 1.   Returns W (n_in, n_out) float64.
    Source: LeCun et al. 1998, "Efficient BackProp".
    """
    return _uniform(rng, n_in, n_out, 1.0 / n_in)


def zeros(rng: np.random.Generator, n_in: int, n_out: int) -> Weights:
    """W = 0, which hidden units cannot leave, being all alike: for a network without hidden layers, or to see why.

    rng : not used.   n_in, n_out : widths, >= 1.   Returns W (n_in, n_out) float64.
    """
    return np.zeros((n_in, n_out))


def _normal(rng: np.random.Generator, n_in: int, n_out: int, variance: float) -> Weights:
    return rng.normal(0.0, math.sqrt(variance), (n_in, n_out))


def _uniform(rng: np.random.Generator, n_in: int, n_out: int, variance: float) -> Weights:
    limit = math.sqrt(3.0 * variance)
    return rng.uniform(-limit, limit, (n_in, n_out))


INITIALIZERS: dict[str, Callable[[np.random.Generator, int, int], Weights]] = {
    "he-normal": he_normal,
    "he-uniform": he_uniform,
    "glorot-normal": glorot_normal,
    "glorot-uniform": glorot_uniform,
    "lecun-normal": lecun_normal,
    "lecun-uniform": lecun_uniform,
    "zeros": zeros,
}


def init_params(
    sizes: Sequence[int], initializer: str, *, seed: int, normalized: bool = False, dtype: str = "float32"
) -> list[np.ndarray]:
    """All parameters of a network in forward order: W and b of each layer, b zero.

    sizes : widths of the layers, n_in first.   initializer : a key of INITIALIZERS.   seed : >= 0.
    normalized : hidden layers have W, scale (ones) and shift (zeros) in place of W and b.   dtype : float32 or float64.
    Returns host arrays; the draws are the same for every dtype but for their rounding.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    params: list[np.ndarray] = []
    for layer, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        params.append(INITIALIZERS[initializer](rng, n_in, n_out))
        if normalized and layer < len(sizes) - 1:
            params.append(np.ones(n_out))
        params.append(np.zeros(n_out))
    return [p.astype(dtype) for p in params]


def init_running(sizes: Sequence[int], *, dtype: str = "float32") -> list[np.ndarray]:
    """Running statistics with which a normalised network starts: mean 0 and variance 1 of each hidden layer."""
    return [fill(n, dtype=dtype) for n in sizes[1:-1] for fill in (np.zeros, np.ones)]
