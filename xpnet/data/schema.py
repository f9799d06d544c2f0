"""What a trained model knows of the data that it was trained on."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.arrays import to_numpy
from xpnet.data.mapped import rows_of

__all__ = ["FORMS", "SCALES", "Scaling", "Schema", "form_of"]

FORMS = ("mnist", "emnist", "as-is")

_LOOKED_AT = 500  # pictures whose form stands for all

SCALES = ("auto", "pixels", "standard", "minmax", "none")


@dataclass(frozen=True, eq=False)
class Scaling:
    """How numbers are scaled before a network sees them.

        x = (u - shift) / scale

    kind : one of SCALES, but not auto.   shift : (k,) or None for 0.   scale : (k,), a number, or None for 1.
    """

    kind: str = "none"
    shift: Any = None
    scale: Any = None

    def on(self, move: Callable[[NDArray[Any]], Any]) -> Self:
        """The same with its arrays on a device, to which move copies them."""
        moved = {name: move(a) for name, a in vars(self).items() if isinstance(a, np.ndarray)}
        return replace(self, **moved)

    def back(self, x: NDArray[Any]) -> NDArray[Any]:
        """The numbers before they were scaled, u = x scale + shift, with the digits that scale and shift have."""
        u = x if self.scale is None else x * self.scale
        return u if self.shift is None else u + self.shift


PIXELS = Scaling("pixels", None, 255.0)

ROUNDED = 1.001
"""A pixel of [0, 1] that a resampling filter, or float16, has rounded up."""


@dataclass(frozen=True, eq=False)
class Schema:
    """The data of a model: what goes in, and what its outputs stand for.

    data : name of the set.   image_shape : of one example, (height, width) or (k,); () if it is not known.
    classes : what predict returns for each output; () for 0, 1, ...   targets : the scaling of a regression's targets.
    features : the scaling of its input.   form : the form of its pictures, as read_picture takes it.
    columns : names of the features, where they have some.
    temperature : what the logits are divided by before they become probabilities, > 0.
    """

    data: str = ""
    image_shape: tuple[int, ...] = ()
    classes: tuple[Hashable, ...] = ()
    features: Scaling = field(default=PIXELS)
    targets: Scaling = field(default_factory=Scaling)
    form: str = "mnist"
    columns: tuple[str, ...] = ()
    temperature: float = 1.0

    def on(self, move: Callable[[NDArray[Any]], Any]) -> Self:
        """The same with its arrays on a device, to which move copies them."""
        return replace(self, features=self.features.on(move), targets=self.targets.on(move))


def form_of(images: Any) -> str:
    """The form of a set's pictures, as read_picture takes it: "mnist", "emnist" or "as-is".

    In MNIST's form the ink is light on black, its longest side is 20 of 28 pixels, and its centre of mass is in the
    middle; in EMNIST's the ink fills 24 of 28 pixels. At least nine in ten pictures must be so.

    images : (n, height, width) or (n, k) numbers.
    """
    if len(images.shape) != 3 or images.shape[1] != images.shape[2]:
        return "as-is"
    side, n = images.shape[1], images.shape[0]
    every = max(1, n // _LOOKED_AT)
    sample = to_numpy(rows_of(images, np.arange(0, min(n, every * _LOOKED_AT), every))).astype(np.float64)
    sample /= max(float(sample.max()), 1e-9)
    ink = sample > 0.25
    seen = sample[ink.any(axis=(1, 2))]
    if len(seen) < 0.9 * len(sample) or float(np.median(seen)) > 0.1:
        return "as-is"
    rows, columns = seen.max(axis=2) > 0.25, seen.max(axis=1) > 0.25
    ends = [(a.argmax(axis=1), side - a[:, ::-1].argmax(axis=1)) for a in (rows, columns)]
    longest = np.maximum(*(stop - start for start, stop in ends)) * 28 / side
    weights = seen.sum(axis=(1, 2))
    centres = [(seen.sum(axis=axis) @ (np.arange(side) + 0.5)) / weights for axis in (2, 1)]
    off = np.maximum(*(np.abs(centre - side / 2) for centre in centres)) * 28 / side
    if np.mean((np.abs(longest - 20) <= 2) & (off <= 1.5)) >= 0.9:
        return "mnist"
    middles = np.maximum(*(np.abs((start + stop) / 2 - side / 2) for start, stop in ends)) * 28 / side
    return "emnist" if np.mean((np.abs(longest - 24) <= 2) & (middles <= 1.5)) >= 0.9 else "as-is"
