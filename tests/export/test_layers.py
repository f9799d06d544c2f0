"""What every target is written from gives the network's own outputs."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.export.models import KINDS, made, rows_for
from xpnet.errors import ConfigError
from xpnet.export.layers import described, folded, int8_of, rounded
from xpnet.numerics.functional import ACTIVATIONS, exponential, identity, sigmoid, softmax

OUTPUTS = {"softmax": softmax, "sigmoid": sigmoid, "identity": identity, "exponential": exponential}


def computed(layers: xpnet.export.Layers, u: np.ndarray) -> Any:
    """The equations of Layers, in NumPy."""
    h = u.astype(layers.dtype) if u.dtype == np.uint8 else u
    h = h if layers.shift is None else h - layers.shift
    h = (h if layers.scale is None else h / layers.scale).astype(layers.dtype)
    for W, b in zip(layers.weights[:-1], layers.biases[:-1], strict=True):
        h, _ = ACTIVATIONS[layers.activation](np.matmul(h, W) + b)
    z = (np.matmul(h, layers.weights[-1]) + layers.biases[-1]) / layers.temperature
    y, _ = OUTPUTS[layers.output](z)
    y = y if layers.target_scale is None else y * layers.target_scale
    return y if layers.target_shift is None else y + layers.target_shift


@pytest.mark.parametrize(("activation", "loss", "batch_norm", "dtype"), KINDS)
def test_the_layers_compute_what_the_model_does(activation: str, loss: str, batch_norm: bool, dtype: str) -> None:
    model = made(activation, loss, batch_norm, dtype)
    u = rows_for(model, 7)
    (layers,) = described(model)
    expected, found = model.outputs(u), computed(layers, u)
    assert found.dtype == expected.dtype
    tolerance = 2e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(folded(model).outputs(u), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("unit", [1e45, 1e-46])
def test_targets_beyond_the_files_numbers_are_refused(unit: float) -> None:
    """What they are divided by would be infinite, or 0."""
    targets = xpnet.data.Scaling("standard", np.full(3, unit), np.full(3, unit))
    with pytest.raises(ConfigError, match="are beyond float32: train it on others, or in float64"):
        described(made("relu", "squared-error", False, "float32", targets=targets))


def test_pixels_are_divided_by_their_own_white() -> None:
    for white in (None, 255.0, 16.0):
        features = dataclasses.replace(xpnet.data.Scaling("pixels"), scale=white)
        model = made(features=features)
        (layers,) = described(model)
        assert layers.white == (white or 255.0)
        u = rows_for(model, 7)
        np.testing.assert_allclose(computed(layers, u), model.outputs(u), rtol=0, atol=2e-6)


def test_a_constant_column_has_no_say() -> None:
    (layers,) = described(made())
    assert np.isfinite(layers.scale).all()  # type: ignore[arg-type]
    assert not layers.weights[0][1].any()
    assert layers.weights[0].dtype == layers.dtype


def test_a_byte_keeps_a_weight_to_half_a_step() -> None:
    W = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) * np.logspace(-8, 8, 8).astype(np.float32)
    W[:, 3] = 0.0
    q, scale = int8_of(W)
    assert q.dtype == np.int8
    assert scale.dtype == np.float32
    assert (np.abs(q).max(axis=0)[[0, 7]] == 127).all()
    assert (np.abs(q * scale - W) <= 0.5001 * scale).all()
    u = rows_for(made(), 20)
    np.testing.assert_allclose(rounded(made()).outputs(u), made().outputs(u), atol=0.05)


def test_the_members_of_an_ensemble_are_described_each() -> None:
    both = xpnet.Ensemble([made(seed=1), made("tanh", seed=2)])
    assert [layers.activation for layers in described(both)] == ["relu", "tanh"]
