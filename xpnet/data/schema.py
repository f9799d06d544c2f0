"""What a trained model knows of the data that it was trained on."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCALES", "Scaling", "Schema"]

SCALES = ("auto", "pixels", "standard", "minmax", "none")


@dataclass(frozen=True, eq=False)
class Scaling:
    """How numbers are scaled before a network sees them.

        x = (u - shift) / scale

    kind : one of SCALES, but not auto.   shift : (k,) or None for 0.   scale : (k,), a number, or None for 1.
    """

    kind: str = "none"
    shift: NDArray[Any] | None = None
    scale: NDArray[Any] | float | None = None

    def back(self, x: NDArray[Any]) -> NDArray[Any]:
        """The numbers before they were scaled: u = x scale + shift."""
        u = x if self.scale is None else x * np.asarray(self.scale, x.dtype)
        return u if self.shift is None else u + self.shift.astype(x.dtype)


PIXELS = Scaling("pixels", None, 255.0)


@dataclass(frozen=True, eq=False)
class Schema:
    """The data of a model: what goes in, and what its outputs stand for.

    data : name of the set.   image_shape : of one example, (height, width) or (k,); () if it is not known.
    classes : what predict returns for each output; () for 0, 1, ...   targets : the scaling of a regression's targets.
    features : the scaling of its input.   form : the form of its pictures, as read_picture takes it.
    temperature : what the logits are divided by before they become probabilities, > 0.
    """

    data: str = ""
    image_shape: tuple[int, ...] = ()
    classes: tuple[Hashable, ...] = ()
    features: Scaling = field(default=PIXELS)
    targets: Scaling = field(default_factory=Scaling)
    form: str = "mnist"
    temperature: float = 1.0
