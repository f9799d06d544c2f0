"""Distortions of the training images, which are rotated, scaled, sheared, shifted and bent, differently at every use.

An affine map and an elastic field give each pixel of a distorted image a position in the original, from which its value
is interpolated. All draws come from counter_rng, so they are the same on every library and device. Nothing is read
back, and only the settings come from the host, so a compiled or captured step may contain a distortion.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace, device

from xpnet.checks import check_range, typed
from xpnet.errors import ConfigError
from xpnet.numerics.counter_rng import bits, uniform
from xpnet.numerics.streams import AFFINE, ELASTIC

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["STANDARD", "Distortion", "distort"]

Array = Any


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """How far images are distorted; each amount is drawn uniformly, anew for each image, and 0 disables it.

    rotation : degrees, the largest angle either way, in [0, 180].
    scaling : the largest share by which height and width, each by itself, grow or shrink, in [0, 1).
    shear : degrees, the largest slant of upright lines either way, in [0, 90).
    shift : pixels, the largest move up or down and left or right, in [0, 1000].
    alpha : strength of the elastic bending, in [0, 10000].   sigma : pixels over which it is smoothed, in [0.1, 100].
    Raises ConfigError for a value out of range.
    """

    rotation: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    alpha: float = 0.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            amount = typed(f"augment.{field.name}", getattr(self, field.name), str(field.type))
            object.__setattr__(self, field.name, amount)
        check_range("augment.rotation", self.rotation, 0.0, 180.0, high_open=False)
        check_range("augment.scaling", self.scaling, 0.0, 1.0)
        check_range("augment.shear", self.shear, 0.0, 90.0)
        check_range("augment.shift", self.shift, 0.0, 1000.0, high_open=False)
        check_range("augment.alpha", self.alpha, 0.0, 10000.0, high_open=False)
        check_range("augment.sigma", self.sigma, 0.1, 100.0, high_open=False)

    def __str__(self) -> str:
        amounts = dataclasses.asdict(self)
        if not self.alpha:
            del amounts["sigma"]  # which then means nothing
        return " ".join(f"{name}={value:g}" for name, value in amounts.items() if value) or "none"


# What --augment takes by itself; chosen on held-out training images of MNIST.
STANDARD = Distortion(rotation=15.0, scaling=0.15, alpha=34.0, sigma=6.0)


def distort(
    images: Float[Array, "n pixels"],
    shape: tuple[int, ...],
    distortion: Distortion,
    step: Int[Array, " 1"],
    *,
    seed: int = 0,
    first: int | Array = 0,
    xp: Any = None,
) -> Float[Array, "n pixels"]:
    """Distorted copies of images.

        out(p) = in(c + A (p - c) + t + d(p)),   p = (x, y),   c the centre,   in() interpolated linearly
        A = rotation(angle) [[1, tan shear], [0, 1]] diag(1 / scale_x, 1 / scale_y),   t the shift
        d = alpha G_y (u_x, u_y) G_x^T,   u independent in (-1, 1) at the nodes of a grid,   G the unit-sum Gaussian of
        sd sigma from the nodes of a line to its pixels, times sqrt(h);   h, from node to node, is at most sigma

    Smoothed that much, noise at the nodes is as good as noise at every pixel, whose variance and correlation it has to
    2 in 10,000. Beyond the image's edge lies more of its edge; the noise ends there, so that it is weaker at the edges.
    For sigma 4 and alpha 34 the displacement in the middle has a standard deviation of alpha / (2 sigma sqrt(3 pi)) =
    1.38.

    images : the pixels of an image row by row.   shape : (height, width).
    step : >= 0, on the images' device, which selects the draws.   seed : likewise.
    first : the place of the first image in the batch; parts of a batch share no draws.
    Returns an array of the images' dtype.   Raises ConfigError if shape is not that of flat images.
    Source: Simard, Steinkraus and Platt 2003; Cireşan et al. 2010.
    """
    xp = array_namespace(images) if xp is None else xp
    check_shape(shape)
    (height, width), n = shape, images.shape[0]
    places = _places(n, shape, distortion, step, seed, first, images.dtype, xp)
    left, right = _cell(places[0, ...], width, xp)
    top, bottom = _cell(places[1, ...], height, xp)
    # As a float of the image's own size the index is exact, and is converted once.
    start = xp.reshape(xp.arange(n, device=device(images)), (n, 1, 1)) * (height * width)
    index = xp.reshape(start + xp.astype(top * width + left, start.dtype), (-1,))
    flat = xp.reshape(images, (-1,))
    corners = [xp.take(flat[offset:], index, axis=0) for offset in (0, 1, width, width + 1)]
    a, b, c, d = (xp.reshape(corner, (n, height, width)) for corner in corners)
    upper = a + right * (b - a)
    lower = c + right * (d - c)
    return xp.reshape(upper + bottom * (lower - upper), images.shape)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless a shape is that of images that can be distorted: two-dimensional ones."""
    if len(shape) != 2 or min(shape) < 2:
        raise ConfigError(
            f"augment needs two-dimensional images, at least 2 by 2, not of shape {shape}", setting="augment"
        )


def _places(
    n: int,
    shape: tuple[int, ...],
    distortion: Distortion,
    step: Array,
    seed: int,
    first: int | Array,
    dtype: Any,
    xp: Any,
) -> Array:
    """The place in the original of each pixel: (2, n, height, width), x before y.

        B_y M B_x^T,  B the pixels of a line, ones, and the Gaussians of its nodes;  M the map's coefficients, and noise

    All the terms of a place are added within two small products.
    """
    counts = [min(length, math.ceil(length / distortion.sigma)) if distortion.alpha else 0 for length in shape]
    draws = 2.0 * uniform((6, n), step, seed=seed, stream=AFFINE, dtype=dtype, start=6 * first, xp=xp) - 1.0
    coefficients = _coefficients(draws, shape, distortion, xp)
    if distortion.alpha:
        noise = _noise((*counts, 2 * n), step, seed, first, dtype, xp)
        zeros = (xp.zeros_like(coefficients[:, :1, :]), xp.zeros_like(noise[:, :1, :]))
        coefficients = xp.concat([coefficients, *[zeros[0]] * counts[1]], axis=1)
        coefficients = xp.concat([coefficients, xp.concat([zeros[1], zeros[1], noise], axis=1)])
    down, across = (_line(n_pixels, k, distortion, step, dtype, xp) for n_pixels, k in zip(shape, counts, strict=True))
    # Each product takes away the axis in front and brings it back as the last one: two of them leave both axes in
    # order, without a transposed copy.
    places = xp.reshape(coefficients, (2 + counts[0], -1))
    places = xp.reshape(xp.matmul(xp.matrix_transpose(places), down), (2 + counts[1], -1))
    return xp.reshape(xp.matmul(xp.matrix_transpose(places), across), (2, n, *shape))


def _coefficients(draws: Array, shape: tuple[int, ...], distortion: Distortion, xp: Any) -> Array:
    """The affine map of each image, (2, 2, 2 n): the factors of y x, y, x, 1 in the place's x and, behind, in its y."""
    turn, slant, wide, high, x_shift, y_shift = (draws[i, :] for i in range(6))
    angle = turn * math.radians(distortion.rotation)
    cos, sin = xp.cos(angle), xp.sin(angle)
    tan = xp.tan(slant * math.radians(distortion.shear))
    wide, high = 1.0 + distortion.scaling * wide, 1.0 + distortion.scaling * high
    x_shift = (shape[1] - 1) / 2 + distortion.shift * x_shift
    y_shift = (shape[0] - 1) / 2 + distortion.shift * y_shift
    none = xp.zeros_like(cos)
    factors = [none, none, (cos * tan - sin) / high, (sin * tan + cos) / high, cos / wide, sin / wide, x_shift, y_shift]
    return xp.reshape(xp.concat(factors), (2, 2, -1))


def _noise(shape: tuple[int, ...], step: Array, seed: int, first: int | Array, dtype: Any, xp: Any) -> Array:
    """Independent numbers in (-1, 1) for each node of each image, those of x before those of y."""
    size = math.prod(shape)
    start = first * math.ceil(shape[0] * shape[1] / 2)
    words = bits(math.ceil(size / 4), step, seed=seed, stream=ELASTIC, start=start, xp=xp)
    # Four numbers from the bytes of each word: added up by the dozen, 256 levels are as good as any.
    bytes_ = xp.reshape(xp.stack([(words >> shift) & 255 for shift in (0, 8, 16, 24)]), (-1,))[:size]
    return xp.reshape((xp.astype(bytes_, dtype) - 127.5) * (1 / 128), shape)


def _line(n: int, nodes: int, distortion: Distortion, step: Array, dtype: Any, xp: Any) -> Array:
    """What a place on a line of n pixels is made of, (2 + nodes, n): the pixels, ones, the Gaussians of the nodes."""
    pixels = _middled(n, 1.0, step, dtype, xp)
    rows = [pixels, xp.ones_like(pixels)]
    if nodes:
        h, sigma = n / nodes, distortion.sigma
        reach = math.ceil(8 * sigma)
        total = sum(math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1))
        distances = (pixels - xp.matrix_transpose(_middled(nodes, h, step, dtype, xp))) / sigma
        rows.append(xp.exp(-0.5 * distances * distances) * (math.sqrt(distortion.alpha * h) / total))
    return xp.concat(rows)


def _middled(n: int, h: float, step: Array, dtype: Any, xp: Any) -> Array:
    """Points that are h apart on a line, counted from its middle: (1, n)."""
    return xp.reshape(xp.astype(xp.arange(n, device=device(step)), dtype) * h - (n - 1) * h / 2, (1, n))


def _cell(places: Array, n: int, xp: Any) -> tuple[Array, Array]:
    """The pixel before each place on a line of n, at most the last but one, and how far on it is, in [0, 1]."""
    pixel = xp.clip(xp.floor(places), 0.0, n - 2.0)
    return pixel, xp.clip(places - pixel, 0.0, 1.0)
