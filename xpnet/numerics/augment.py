"""Distortions of the training images, which are rotated, scaled, sheared, shifted and bent, differently at every use.

An affine map and an elastic field give each pixel of a distorted image a position in the original, from which its value
is interpolated. All draws come from counter_rng, so they are the same on every library and device. Nothing is read
back, and only the settings come from the host, so a compiled or captured step may contain a distortion.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

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
        d = alpha G (u_x, u_y) G^T,   u independent in (-1, 1) for every pixel,   G the unit-sum Gaussian of sd sigma

    Beyond the image's edge lies more of its edge; the field's noise ends there, so that it is weaker at the edges. For
    sigma 4 and alpha 34 the displacement in the middle has a standard deviation of alpha / (2 sigma sqrt(3 pi)) = 1.38.

    images : the pixels of an image row by row.   shape : (height, width).
    step : >= 0, on the images' device, which selects the draws.   seed : likewise.
    first : the place of the first image in the batch; parts of a batch share no draws.
    Returns an array of the images' dtype.   Raises ConfigError if shape is not that of flat images.
    Source: Simard, Steinkraus and Platt 2003; Cireşan et al. 2010.
    """
    xp = array_namespace(images) if xp is None else xp
    check_shape(shape)
    (height, width), n, dtype = shape, images.shape[0], images.dtype
    place = _Place(step, seed, first)
    across, down = _affine(n, height, width, distortion, place, dtype, xp)
    if distortion.alpha:
        field = _field(n, height, width, distortion, place, dtype, xp)
        across, down = across + field[0, ...], down + field[1, ...]
    left, right = _cell(across, width, xp)
    top, bottom = _cell(down, height, xp)
    # As a float of the image's own size the index is exact, and is converted once.
    first = xp.reshape(xp.arange(n, device=device(images)), (n, 1, 1)) * (height * width)
    index = xp.reshape(first + xp.astype(top * width + left, first.dtype), (-1,))
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


class _Place(NamedTuple):
    """Where in the sequence of draws those of some images are; see distort."""

    step: Array
    seed: int
    first: int | Array


def _affine(
    n: int, height: int, width: int, distortion: Distortion, place: _Place, dtype: Any, xp: Any
) -> tuple[Array, Array]:
    """The place in the original of each pixel, without the elastic field: x and y, (n, height, width) each."""
    step, seed, first = place
    draws = 2.0 * uniform((6, n, 1), step, seed=seed, stream=AFFINE, dtype=dtype, start=6 * first, xp=xp) - 1.0
    turn, slant, wide, high, x_shift, y_shift = (draws[i, ...] for i in range(6))
    angle = turn * math.radians(distortion.rotation)
    cos, sin = xp.cos(angle), xp.sin(angle)
    tan = xp.tan(slant * math.radians(distortion.shear))
    x = _places(width, step, dtype, xp) / (1.0 + distortion.scaling * wide)
    y = _places(height, step, dtype, xp) / (1.0 + distortion.scaling * high)
    x_shift = (width - 1) / 2 + distortion.shift * x_shift
    y_shift = (height - 1) / 2 + distortion.shift * y_shift
    across = (cos * x)[:, None, :] + ((cos * tan - sin) * y + x_shift)[:, :, None]
    down = (sin * x)[:, None, :] + ((sin * tan + cos) * y + y_shift)[:, :, None]
    return across, down


def _places(n: int, step: Array, dtype: Any, xp: Any) -> Array:
    """The pixels of a line, counted from its middle: (1, n)."""
    return xp.reshape(xp.astype(xp.arange(n, device=device(step)), dtype) - (n - 1) / 2, (1, n))


def _field(n: int, height: int, width: int, distortion: Distortion, place: _Place, dtype: Any, xp: Any) -> Array:
    """The elastic displacements: (2, n, height, width), those of x first."""
    step, seed, first = place
    size = 2 * n * height * width
    start = first * math.ceil(height * width / 2)
    words = bits(math.ceil(size / 4), step, seed=seed, stream=ELASTIC, start=start, xp=xp)
    # Four numbers from the bytes of each word: smoothed over a hundred pixels, 256 levels are as good as any.
    bytes_ = xp.reshape(xp.stack([(words >> shift) & 255 for shift in (0, 8, 16, 24)]), (-1,))[:size]
    noise = xp.astype(bytes_, dtype) - 127.5
    # Each product takes away the axis in front and brings it back smoothed as the last one: two of them leave both
    # axes smoothed, in order, without a transposed copy.
    noise = xp.reshape(noise, (height, width * 2 * n))
    noise = xp.matmul(xp.matrix_transpose(noise), _gaussian(height, distortion.sigma, 1 / 128, step, dtype, xp))
    noise = xp.reshape(noise, (width, 2 * n * height))
    noise = xp.matmul(xp.matrix_transpose(noise), _gaussian(width, distortion.sigma, distortion.alpha, step, dtype, xp))
    return xp.reshape(noise, (2, n, height, width))


def _gaussian(n: int, sigma: float, factor: float, step: Array, dtype: Any, xp: Any) -> Array:
    """The symmetric matrix (n, n) that smooths a line of n pixels, times a factor; beyond the line's ends lies 0."""
    reach = math.ceil(8 * sigma)
    total = sum(math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1))
    places = _places(n, step, dtype, xp)
    distances = (places - xp.matrix_transpose(places)) / sigma
    return xp.exp(-0.5 * distances * distances) * (factor / total)


def _cell(places: Array, n: int, xp: Any) -> tuple[Array, Array]:
    """The pixel before each place on a line of n, at most the last but one, and how far on it is, in [0, 1]."""
    places = xp.minimum(xp.maximum(places, 0.0), n - 1.0)
    pixel = xp.minimum(xp.floor(places), n - 2.0)
    return pixel, places - pixel
