"""Adversarial training: the objective, what comes of it, and what is refused."""

from typing import Any

import numpy as np
import pytest

import xpnet
from tests.team_of_threads import on_threads
from xpnet.training.adversarial import Adversarial

SETTINGS: dict[str, Any] = {"epochs": 2, "device": "cpu", "batch_size": 30, "validation": 0.0, "progress": False}


def random_batch(network: xpnet.MLP) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Parameters, examples, labels and weights, in float64."""
    rng = np.random.default_rng(0)
    params = [rng.normal(size=shape) for shape in network.param_shapes().values()]
    return params, rng.random((8, network.sizes[0])), rng.integers(0, network.sizes[-1], 8), rng.random(8)


@pytest.mark.parametrize(
    "network",
    [
        xpnet.MLP((12, 9, 5, 3), activation="tanh", label_smoothing=0.1),
        xpnet.MLP((12, 9, 3), activation="gelu", input_dropout=0.3, dropout=0.2),
        xpnet.MLP((12, 9, 3), activation="tanh", batch_norm=True),
        xpnet.MLP((12, 3)),
    ],
)
def test_the_equation_and_its_gradient(network: xpnet.MLP) -> None:
    """Against finite differences: first of the loss by x, for r, and then of J by the parameters with this r."""
    params, x, labels, weights = random_batch(network)
    running = [np.ones(shape) for shape in network.running_shapes().values()]
    rest: dict[str, Any] = {"weights": weights, "running": running, "step": np.array([3]), "seed": 1, "xp": np}

    def loss_at(params: list[np.ndarray], x: np.ndarray) -> float:
        return float(network.loss_and_grads(params, x, labels, **rest)[0])

    slope = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        h = np.zeros_like(x)
        h[place] = 1e-5
        slope[place] = (loss_at(params, x + h) - loss_at(params, x - h)) / 2e-5
    moved = x + 0.7 * slope / np.linalg.norm(slope, axis=1, keepdims=True)

    def value(params: list[np.ndarray]) -> float:
        return 0.5 * (loss_at(params, x) + loss_at(params, moved))

    loss, grads, logits, _ = Adversarial(network, 0.7)(params, x, labels, **rest)
    assert loss == pytest.approx(value(params), rel=1e-7)
    assert loss_at(params, moved) > loss_at(params, x)
    assert np.array_equal(logits, network.loss_and_grads(params, x, labels, **rest)[2])
    rng = np.random.default_rng(1)
    for i, gradient in enumerate(grads):
        direction = rng.normal(size=gradient.shape)
        ahead, behind = ([*params[:i], params[i] + h * direction, *params[i + 1 :]] for h in (1e-5, -1e-5))
        assert (value(ahead) - value(behind)) / 2e-5 == pytest.approx((gradient * direction).sum(), rel=1e-5)


def test_batch_normalisation_keeps_the_statistics_of_the_examples() -> None:
    network = xpnet.MLP((12, 9, 3), batch_norm=True)
    params, x, labels, _ = random_batch(network)
    rest: dict[str, Any] = {"weights": None, "running": [np.zeros(9), np.ones(9)], "xp": np}
    loss, grads, _, running = Adversarial(network, 0.5)(params, x, labels, **rest)
    plain, _, _, own = network.loss_and_grads(params, x, labels, **rest)
    assert all(np.array_equal(a, b) for a, b in zip(running, own, strict=True))
    assert loss > plain
    assert len(grads) == len(params)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_every_example_moves_by_the_distance(size: float) -> None:
    """However small its gradient is, unless it is 0, as where a weight is."""
    network = xpnet.MLP((12, 3))
    dx = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32) * np.float32(size)
    dx[2] = 0.0
    moves = Adversarial(network, 2.5)._move(dx, np)
    assert np.linalg.norm(moves, axis=1) == pytest.approx([2.5, 2.5, 0.0, 2.5], rel=1e-6)
    assert np.allclose(np.sum(moves * dx / np.float32(size), axis=1)[[0, 1, 3]] > 0, True)


def test_a_network_withstands_what_it_trained_against(small_data: xpnet.Dataset) -> None:
    """Test images that are moved against it raise its loss less, and the others are recognised as before."""
    assert small_data.test is not None
    images, labels = small_data.test
    x = images.reshape(len(images), -1).astype(np.float32) / 255
    losses = []
    for distance in (0.0, 1.0):
        model = xpnet.fit(xpnet.MLP((36, 16, 3)), small_data, **{**SETTINGS, "epochs": 20}, adversarial=distance).model
        rest: dict[str, Any] = {"weights": None, "running": [], "xp": np}
        both = Adversarial(model.network, 1.0)(model.params, x, labels, **rest)[0]
        losses.append(2.0 * both - model.network.loss_and_grads(model.params, x, labels)[0])
        assert model.evaluate(images, labels).accuracy > 0.95
    assert losses[1] < 0.95 * losses[0]


def test_processes_learn_the_same_bits(small_data: xpnet.Dataset) -> None:
    def learn(team: Any) -> list[np.ndarray]:
        network = xpnet.MLP((36, 8, 3), dropout=0.2)
        params: list[np.ndarray] = xpnet.fit(
            network, small_data, shards=4, adversarial=0.5, team=team, **SETTINGS
        ).model.params
        return params

    alone = learn(None)
    for params in on_threads(2, learn):
        assert all(np.array_equal(a, b) for a, b in zip(alone, params, strict=True))


def test_shards_are_a_batch_in_parts(small_data: xpnet.Dataset) -> None:
    """Within rounding: an example's direction does not depend on the others."""
    network = xpnet.MLP((36, 8, 3), activation="tanh")
    one, four = (
        xpnet.fit(network, small_data, shards=shards, dtype="float64", adversarial=0.5, **SETTINGS).model.params
        for shards in (1, 4)
    )
    for a, b in zip(one, four, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-10)


def test_a_regression_is_moved_too() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    model = xpnet.fit(xpnet.MLP((3, 8, 1), loss="squared-error"), (x, x[:, 0]), adversarial=0.1, **SETTINGS).model
    assert np.isfinite(model.logits(x)).all()


def test_what_is_refused(small_data: xpnet.Dataset) -> None:
    with pytest.raises(xpnet.ConfigError, match=r"adversarial must be .*, not -1"):
        xpnet.TrainConfig(adversarial=-1.0)
    with pytest.raises(xpnet.ConfigError, match="teacher and adversarial are two objectives: leave one out"):
        xpnet.fit(xpnet.MLP((36, 3)), small_data, teacher=("run",), adversarial=1.0, **SETTINGS)
