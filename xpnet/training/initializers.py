"""Initial parameters, drawn on the host in float64, so that every device, library and precision starts the same.

Every initializer returns W of shape (n_in, n_out). The names state the variance: he 2/n_in, lecun 1/n_in,
glorot 2/(n_in + n_out); ``_normal`` draws from a normal, ``_uniform`` from a uniform distribution of that variance.
"""

import math
from collections.abc import Callable

import numpy as np

from xpnet.numerics.network import MLP

__all__ = [
    "INITIALIZERS",
    "generator",
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

Arrays = list[np.ndarray]
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


def init_params(network: MLP, seed: int = 0, dtype: str = "float32") -> Arrays:
    """The parameters with which the training of a network starts.

    seed : >= 0.   dtype : float32 or float64; the draws are the same for both, apart from rounding.
    Returns host arrays in the order of network.param_shapes(): weights drawn, scales 1, biases and shifts 0.
    """
    name = network.initializer
    if name == "auto":
        name = "he-normal" if network.activation in ("relu", "leaky-relu", "gelu") else "glorot-uniform"
    rng = generator(seed)
    arrays = [
        INITIALIZERS[name](rng, *shape) if part.endswith("weight") else np.full(shape, float(part.endswith("scale")))
        for part, shape in network.param_shapes().items()
    ]
    return [array.astype(dtype) for array in arrays]


def init_running(network: MLP, dtype: str = "float32") -> Arrays:
    """The running statistics with which the training of a network starts.

    dtype : float32 or float64.
    Returns host arrays in the order of network.running_shapes(), means 0 and variances 1; [] without normalisation.
    """
    return [np.full(shape, float(part.endswith("var")), dtype) for part, shape in network.running_shapes().items()]


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The host's generator of one of the streams of a seed, or of the seed alone, which draws the first parameters."""
    return np.random.Generator(np.random.PCG64([seed, *stream] if stream else seed))
