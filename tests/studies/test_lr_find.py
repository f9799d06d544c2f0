"""The learning-rate range test, as a function; its command is tested with the others."""

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.conftest import open_backend
from xpnet.errors import ConfigError
from xpnet.studies.lr_find import RateRange, find_lr
from xpnet.training.initializers import init_params


def search(data: xpnet.Dataset, library: str = "numpy", **settings: Any) -> RateRange:
    limits = {name: settings.pop(name) for name in ("low", "high", "steps") if name in settings}
    config = xpnet.TrainConfig(**{"hidden": (16,), "batch_size": 50, **settings})
    network = config.network(data.n_features, data.n_classes)
    return find_lr(network, data, config, backend=open_backend(library), **limits)


def test_the_losses_are_those_of_the_batches(small_data: xpnet.Dataset) -> None:
    """With rates that change nothing, an epoch's losses, each times its batch's size, make the loss on the whole set.

    330 examples in batches of 50: the last one has 30. The test begins with that of the third epoch.
    """
    config = xpnet.TrainConfig(hidden=(16,), batch_size=50, dtype="float64")
    network = config.network(36, 3)
    reported: list[int] = []
    with pytest.raises(ConfigError, match=r"hardly fell .* raise high"):
        find_lr(network, small_data, config, low=1e-30, high=2e-30, steps=21, report=reported.append)
    assert reported == list(range(1, 22))
    found = find_lr(network, small_data, config, low=1e-12, high=1.0, steps=200)
    sizes = np.array([50, 50, 50, 50, 50, 50, 30])
    model = xpnet.Model(network, init_params(network, 0, "float64"), [], open_backend("numpy"))
    assert (found.losses[1:8] * sizes).sum() / 330 == pytest.approx(model.evaluate(*small_data.train).loss, rel=1e-6)


@pytest.mark.parametrize("library", ["array-api-strict", "torch", "jax"])
def test_every_library_finds_the_same(small_data: xpnet.Dataset, library: str) -> None:
    options: dict[str, Any] = {"class_weight": "balanced", "dtype": "float64", "high": 1.0, "steps": 60}
    ours, theirs = search(small_data, **options), search(small_data, library, **options)
    assert theirs.suggestion == ours.suggestion
    assert theirs.losses == pytest.approx(ours.losses, rel=1e-10)


def test_class_weights_count(small_data: xpnet.Dataset) -> None:
    few = (small_data.train.labels != 2) | (np.cumsum(small_data.train.labels == 2) <= 5)
    data = dataclasses.replace(small_data, train=xpnet.Split(*(a[few] for a in small_data.train)))
    plain, balanced = (search(data, class_weight=weight, high=1.0, steps=60) for weight in (None, "balanced"))
    assert plain.losses[0] != pytest.approx(balanced.losses[0], rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_test(small_data: xpnet.Dataset) -> None:
    found = search(small_data, low=1e-3, high=1e38, steps=400, hidden=(), loss="mse")
    assert len(found.losses) < 400
    assert np.isfinite(found.losses).all()
    assert np.isfinite(found.smoothed).all()
    assert found.suggestion == found.rates[found.smoothed.argmin()] / 2


@pytest.mark.parametrize("mean", [0.5, 50])
def test_counts_however_far_below_0_their_loss_is(mean: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 3))
    data = xpnet.Dataset.from_arrays(X, rng.poisson(mean * np.exp(0.5 * X[:, 0])) / 1.0, task="regression")
    network, config = xpnet.MLP((3, 8, 1), loss="poisson"), xpnet.TrainConfig(batch_size=32, dtype="float64")
    found = find_lr(network, data, config, steps=200)
    assert found.losses.min() >= 0
    assert 0.005 < found.suggestion < 2
    first = xpnet.fit(network, data, config.replace(batch_size="full", lr=1e-12, epochs=1), progress=False)
    counts = data.train.targets
    least = (counts - counts * np.log(np.maximum(counts, 1))).mean()
    assert found.losses[:10].mean() == pytest.approx(first.history[0].train_loss - least, rel=0.3)


@pytest.mark.parametrize("seed", range(4))
def test_a_loss_that_is_all_noise_suggests_nothing(seed: int) -> None:
    """Of classes that are drawn by chance, in batches of one example."""
    rng = np.random.default_rng(seed)
    data = xpnet.Dataset.from_arrays(rng.normal(size=(500, 3)), rng.integers(0, 2, 500))
    message = r"batch_size 1 is too small: the loss differs so much from batch to batch that it cannot be seen to fall"
    with pytest.raises(ConfigError, match=message):
        search(data, batch_size=1, seed=seed)


def test_the_first_losses_decide_nothing() -> None:
    """By chance, that of a batch of one example may be lower than all that follow."""
    for seed in (3, 4, 5):
        with contextlib.suppress(ConfigError):
            assert search(xpnet.load_data("moons"), batch_size=1, seed=seed).suggestion > 4e-3


def test_what_plays_no_part(small_data: xpnet.Dataset) -> None:
    plain = search(small_data, high=1.0, steps=60)
    other = search(small_data, high=1.0, steps=60, epochs=1, lr=7.0, schedule="step", early_stopping=2)
    assert np.array_equal(plain.losses, other.losses)


def test_what_is_easily_taken_for_the_right_thing(small_data: xpnet.Dataset) -> None:
    with pytest.raises(TypeError, match="data must be a Dataset"):
        find_lr(xpnet.MLP((36, 3)), small_data.train)  # type: ignore[arg-type]
    model = xpnet.fit(xpnet.MLP((36, 3)), small_data, epochs=1, device="cpu", progress=False).model
    with pytest.raises(TypeError, match="network must be an MLP: a Model is for fit"):
        find_lr(model, small_data)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config must be a TrainConfig"):
        find_lr(xpnet.MLP((36, 3)), small_data, {"lr": 1.0})  # type: ignore[arg-type]
