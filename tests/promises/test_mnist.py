"""The promises that name real MNIST; skipped, with the reason, where XPNET_DATA_DIR does not have it."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.conftest import relative_error
from xpnet.recipes import read_recipe, recipe_names


def train(data: xpnet.Dataset, seed: int, **settings: Any) -> xpnet.Result:
    config = xpnet.TrainConfig()
    network = config.network(data.n_features, data.n_classes)
    return xpnet.fit(network, data, config, device="cpu", seed=seed, progress=False, **settings)


@pytest.mark.slow
def test_default_settings_reach_98_percent(mnist: xpnet.Dataset) -> None:
    """Mean test accuracy over seeds 0 to 4 of what `xpnet train --data mnist` trains."""
    results = [train(mnist, seed) for seed in range(5)]
    network = results[0].model.network
    assert (network.sizes, network.activation, len(results[0].history)) == ((784, 128, 10), "relu", 6)
    assert statistics.mean(result.history[-1].test_accuracy or 0.0 for result in results) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipe_names() if read_recipe(name).source.startswith("The from")])
def test_recipes_reach_what_their_sources_report(mnist: xpnet.Dataset, name: str) -> None:
    """And come within a point of what the recipe says of itself; sigmoid-mse, whose source reports nothing, 93 %.

    Those of xpnet reproduce take hours: their results are in bench/results.
    """
    recipe = read_recipe(name)
    config = xpnet.TrainConfig(**recipe.settings)
    result = xpnet.fit(config.network(784, 10), mnist, config, device="cpu", progress=False)
    accuracy = 100 * (result.history[-1].test_accuracy or 0.0)
    assert accuracy >= (recipe.reported or 93.0)
    assert recipe.measured is not None
    assert abs(accuracy - recipe.measured) < 1.0


def test_same_seed_same_bits_at_full_size(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(mnist, 3, epochs=1, out=tmp_path / name)
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b


@pytest.mark.slow
def test_drawn_digits_teach_a_network_to_read_mnist(mnist: xpnet.Dataset) -> None:
    """A 784-128-10 network trained on `digits` alone; MNIST's test set is only read."""
    assert mnist.test is not None
    digits = xpnet.load_data("digits")
    assert len(digits.train.labels) == 60_000
    accuracy = train(digits, 0).model.evaluate(*mnist.test).accuracy
    assert accuracy >= 0.85


@pytest.mark.slow
@pytest.mark.cuda
def test_an_epoch_by_graphs_is_an_epoch_on_the_cpu(mnist: xpnet.Dataset) -> None:
    """In float64: training makes a difference in rounding a million times larger in 938 steps."""
    options: dict[str, Any] = {"epochs": 1, "dtype": "float64", "callbacks": []}
    here, there = (
        xpnet.fit(xpnet.MLP((784, 128, 10)), mnist, backend=xpnet.select(device), **options)
        for device in ("cpu", "cuda")
    )
    for one, other in zip(here.model.params, there.model.params, strict=True):
        assert relative_error(there.model.backend.to_host(other), one) < 1e-6
    assert there.history[0].train_loss == pytest.approx(here.history[0].train_loss, rel=1e-6)
    assert there.history[0].test_accuracy == pytest.approx(here.history[0].test_accuracy, abs=5e-4)


def test_first_pixels_reach_the_network(mnist: xpnet.Dataset) -> None:
    """A network of no hidden layer that copies pixels shows them scaled by 255, in the file's order."""
    W = np.eye(784, dtype=np.float64)
    params = [W, np.zeros(784)]
    network = xpnet.MLP((784, 784), loss="mse")
    model = xpnet.Model(network, params, [], xpnet.select("cpu"))
    outputs = model.outputs(mnist.train.images[:3])
    assert np.array_equal(outputs, mnist.train.images[:3].reshape(3, 784) / 255)
