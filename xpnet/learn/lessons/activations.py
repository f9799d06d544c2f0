"""Lesson 4: activations and their masks."""

from collections.abc import Iterator

import numpy as np

from xpnet.learn.exercise import Exercise, Finding, fixed
from xpnet.numerics import functional as F
from xpnet.studies.gradcheck import central_differences

__all__ = ["check_relu", "check_tanh"]


def check_relu(exercise: Exercise) -> Iterator[Finding]:
    """With elements on both sides of the kink, and on it."""
    rng = np.random.default_rng(4)
    z, dy = rng.normal(size=(4, 3)), fixed(rng.normal(size=(4, 3)))
    z += 0.1 * np.sign(z)
    z[1, 1] = z[3, 0] = 0.0
    z = fixed(z)
    y, vjp = exercise.call("relu", z, n=2)
    mistakes = [
        ("that is min(z, 0), the wrong side", np.minimum(z, 0)),
        ("that is |z|: where z is negative, y is 0", np.abs(z)),
        ("that is z itself: where z is negative, y is 0", z),
        ("that is the mask: where z is positive, y is z, not 1", z > 0),
        ("that is the largest of all elements: np.maximum(z, 0) compares each with 0", z.max()),
        ("only the positive elements are left: y has the shape of z", z[z > 0]),
        ("that is a leaky ReLU: where z is negative, y is 0", np.where(z > 0, z, 0.01 * z)),
    ]
    yield exercise.compare("relu", "y", y, np.maximum(z, 0), mistakes)
    dz = exercise.returned(vjp, "vjp", dy)
    # On the kink itself, where differences say 1/2, the convention is 0.
    want = central_differences(lambda p: float(np.sum(dy * F.relu(p[0])[0])), [z])[0] * (z != 0)
    mistakes = [
        ("the mask is forgotten: where z is not positive, y stays 0, and dz is 0", dy),
        ("the mask has the wrong side: dy passes where z > 0", dy * (z < 0)),
        ("the mask has the wrong side: dy passes where z > 0", dy * (z <= 0)),
        ("the mask is z >= 0: at the kink itself, where z = 0, dz is 0, so z > 0", dy * (z >= 0)),
        ("the mask is of dy instead of z: it remembers which inputs were positive", np.maximum(dy, 0)),
        ("that is the mask alone: dz is dy times it", z > 0),
        ("the dy is multiplied by the values of z: by 1 where z is positive, and by 0 elsewhere", dy * z),
        ("the dy is multiplied by y: by 1 where z is positive, and by 0 elsewhere", dy * np.maximum(z, 0)),
        ("only the elements that pass are left: dz has the shape of z", dy[z > 0]),
        ("that is y, the value: dz is dy where z is positive, and 0 elsewhere", np.maximum(z, 0)),
    ]
    yield exercise.compare("relu/vjp", "dz", dz, want, mistakes, source="it must be")


def check_tanh(exercise: Exercise) -> Iterator[Finding]:
    """A slope that is computed from the value."""
    rng = np.random.default_rng(5)
    z, dy = fixed(rng.normal(size=(4, 3))), fixed(rng.normal(size=(4, 3)))
    y, vjp = exercise.call("tanh", z, n=2)
    right = np.tanh(z)
    mistakes = [
        ("that is the tangent, np.tan: the hyperbolic one is np.tanh", np.tan(z)),
        ("that is the sigmoid: tanh lies between -1 and 1", F.sigmoid(z)[0]),
        ("the exponents are too small by a factor of 2: tanh z = (e^z - e^-z) / (e^z + e^-z)", np.tanh(z / 2)),
    ]
    yield exercise.compare("tanh", "y", y, right, mistakes)
    dz = exercise.returned(vjp, "vjp", dy)
    want = central_differences(lambda p: float(np.sum(dy * np.tanh(p[0]))), [z])[0]
    mistakes = [
        ("the slope takes y, and that is 1 - z^2: y = tanh z", dy * (1 - z * z)),
        ("tanh is applied twice: y is tanh z already, so the slope is 1 - y^2", dy * (1 - np.tanh(right) ** 2)),
        ("the dy is missing: dz is dy times the slope", 1 - right * right),
        ("the slope is forgotten: dz = dy (1 - y^2)", dy),
        ("the square is missing: the slope is 1 - y^2", dy * (1 - right)),
        ("that is the sigmoid's slope, y (1 - y): tanh's is 1 - y^2", dy * right * (1 - right)),
        ("the dy is squared with y: the slope is 1 - y^2", 1 - (dy * right) ** 2),
        ("that is 1 - y^2 of dy: y is the value, which the way forward has computed", dy * (1 - dy * dy)),
    ]
    yield exercise.compare("tanh/vjp", "dz", dz, want, mistakes, source="finite differences say")
