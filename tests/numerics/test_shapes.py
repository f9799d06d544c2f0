"""The shapes and dtypes that signatures state are checked while the numerics' tests run, on every library."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError

from tests.conftest import ArrayLibrary
from tests.numerics.conftest import SIGNED, checked
from xpnet.numerics import functional as F
from xpnet.numerics.counter_rng import bits
from xpnet.numerics.network import MLP

X, W, B = np.ones((6, 5)), np.ones((5, 4)), np.ones(4)
LOGITS, LABELS, NUMBERS, STEP = np.ones((6, 4)), np.zeros(6, np.int32), np.zeros((6, 4)), np.array([0])


def cross_entropy(logits: Any, labels: Any, weights: Any, *, xp: Any) -> Any:
    return F.softmax_cross_entropy(logits, labels, weights=weights, xp=xp)[0]


# By table, default and method, since that is how the numerics are called.
CALLS: dict[str, Callable[..., Any]] = {
    "dense": lambda x, W, b, xp: F.dense(x, W, b, xp=xp)[0],
    "relu": lambda z, xp: F.ACTIVATIONS["relu"](z, xp=xp)[0],
    "cross-entropy": cross_entropy,
    "mse": lambda logits, labels, xp: F.LOSSES["mse-softmax"].function(logits, labels, xp=xp)[0],
    "huber": lambda logits, targets, xp: F.LOSSES["huber"].function(logits, targets, xp=xp)[0],
    "scale": lambda u, shift, xp: F.scale_features(u, shift.dtype, shift=shift, xp=xp),
    "bits": lambda step, xp: bits(3, step, seed=0, stream=0, xp=xp),
    "forward": lambda x, W, b, xp: MLP((5, 4)).forward([W, b], x, xp=xp)[0],
}

RIGHT = {
    "dense": (X, W, B),
    "relu": (X,),
    "cross-entropy": (LOGITS, LABELS, np.ones(6)),
    "mse": (LOGITS, LABELS),
    "huber": (LOGITS, NUMBERS),
    "scale": (LABELS[:, None], np.ones(1)),
    "bits": (STEP,),
    "forward": (X, W, B),
}

# Most of these give a result where nothing checks: it is broadcast.
WRONG = {
    "dense, a column for a bias": ("dense", (X, W, np.ones((6, 1)))),
    "dense, a bias of one": ("dense", (X, W, np.ones(1))),
    "dense, integers": ("dense", (X.astype(np.int32), W, B)),
    "relu, integers": ("relu", (X.astype(np.int32),)),
    "cross-entropy, labels in a column": ("cross-entropy", (LOGITS, LABELS[:, None], np.ones(6))),
    "cross-entropy, one label": ("cross-entropy", (LOGITS, LABELS[:1], np.ones(6))),
    "cross-entropy, one weight": ("cross-entropy", (LOGITS, LABELS, np.ones(1))),
    "cross-entropy, labels as floats": ("cross-entropy", (LOGITS, LABELS.astype(float), np.ones(6))),
    "mse, one label": ("mse", (LOGITS, LABELS[:1])),
    "huber, a row of targets": ("huber", (LOGITS, NUMBERS[:1])),
    "huber, a column of targets": ("huber", (LOGITS, NUMBERS[:, :1])),
    "huber, targets as integers": ("huber", (LOGITS, NUMBERS.astype(np.int32))),
    "scale, a shift of one for two columns": ("scale", (X[:, :2], np.ones(1))),
    "scale, a shift by row": ("scale", (X, np.ones((6, 1)))),
    "bits, two steps": ("bits", (np.array([0, 1]),)),
    "bits, a step as a float": ("bits", (np.array([0.0]),)),
    "forward, images of another width": ("forward", (np.ones((6, 3)), np.ones((3, 4)), B)),
    "forward, logits of another width": ("forward", (X, np.ones((5, 3)), np.ones(3))),
}


def call(name: str, arrays: tuple[Any, ...], xp: ArrayLibrary) -> Any:
    return xp.run(lambda *arrays: CALLS[name](*arrays, xp=xp.xp), *map(xp, arrays))


@pytest.mark.parametrize("name", RIGHT)
def test_right_ones_pass(name: str, xp: ArrayLibrary) -> None:
    call(name, RIGHT[name], xp)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_ones_are_refused(case: str, xp: ArrayLibrary) -> None:
    name, arrays = WRONG[case]
    with pytest.raises(TypeCheckError):
        call(name, arrays, xp)


def test_a_wrong_result_is_refused() -> None:
    def total(x: Float[Any, " n"]) -> Float[Any, " n"]:
        return x.sum()

    with pytest.raises(TypeCheckError, match="return value"):
        checked(total)(B)


@pytest.mark.parametrize("function", SIGNED, ids=lambda function: function.__qualname__)
def test_every_public_function_states_its_shapes(function: Any) -> None:
    """No argument or result is merely an array, and whoever asks for the signature sees it as it is written."""
    annotations = [p.annotation for p in inspect.signature(function).parameters.values()]
    assert "Array" not in (*annotations, function.__annotations__["return"])
    assert "xp" in inspect.signature(function).parameters
