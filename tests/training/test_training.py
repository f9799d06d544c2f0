"""fit: it learns, repeats bit by bit, agrees across libraries, and ends well however it ends."""

import contextlib
import csv
import dataclasses
import itertools
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.conftest import ArrayLibrary, open_backend, relative_error
from xpnet.data import Schema
from xpnet.errors import ConfigError, NonFiniteError
from xpnet.numerics.augment import Distortion, distort
from xpnet.training.callbacks import Callback, EarlyStopping
from xpnet.training.config import SETTINGS, TrainConfig
from xpnet.training.fit import fit
from xpnet.training.history import read_history
from xpnet.training.initializers import init_params, init_running
from xpnet.training.loop import Loop, computing
from xpnet.training.prepare import _splits, prepare
from xpnet.training.progress import Progress
from xpnet.training.run import Run
from xpnet.training.step import make_step

# Every part of a step at once.
EVERYTHING: dict[str, Any] = {"batch_norm": True, "dropout": 0.2, "input_dropout": 0.1, "label_smoothing": 0.05}
BENT = Distortion(rotation=10.0, scaling=0.1, shear=5.0, shift=0.5, alpha=3.0, sigma=2.0)


def small_fit(data: xpnet.Dataset, library: str = "numpy", device: str = "cpu", **settings: Any) -> xpnet.Result:
    description = {k: settings.pop(k) for k in list(settings) if k in EVERYTHING or k in ("activation", "loss")}
    network = xpnet.MLP((data.n_features, 16, data.n_classes), **description)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 32, "lr": 0.05, "weight_decay": 0.0, **settings}
    callbacks = options.pop("callbacks", [])
    return fit(network, data, backend=open_backend(library, device), callbacks=callbacks, **options)


def test_it_learns(small_data: xpnet.Dataset) -> None:
    result = small_fit(small_data, epochs=8)
    assert [epoch.epoch for epoch in result.history] == list(range(1, 9))
    assert result.history[-1].train_loss < result.history[0].train_loss / 4
    assert small_data.test is not None
    scores = result.model.evaluate(*small_data.test)
    assert scores.accuracy > 0.95
    assert scores.loss == pytest.approx(result.history[-1].test_loss, rel=1e-6)
    assert scores.accuracy == result.history[-1].test_accuracy


def test_the_history_tells_what_happened(small_data: xpnet.Dataset) -> None:
    """With a rate too small to change a weight, the running figures equal those of the first parameters."""
    result = small_fit(small_data, lr=1e-30, dtype="float64", epochs=1, schedule="constant")
    model = result.model
    scores = model.evaluate(*small_data.train)
    assert result.history[0].train_loss == pytest.approx(scores.loss, rel=1e-12)
    assert result.history[0].train_accuracy == scores.accuracy
    assert result.history[0].learning_rate == 1e-30
    outputs = model.outputs(small_data.train.images)
    picked = outputs[np.arange(len(outputs)), small_data.train.labels]
    assert scores.loss == pytest.approx(-np.log(picked).mean(), rel=1e-12)
    assert scores.accuracy == np.mean(np.argmax(outputs, axis=1) == small_data.train.labels)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**EVERYTHING, "augment": BENT, "max_norm": 0.8, "average": 0.9, "adversarial": 0.5},
        {"optimizer": "adam", "clip_norm": 0.5, "class_weight": "balanced"},
    ],
    ids=["plain", "everything", "adam"],
)
@pytest.mark.parametrize(
    ("library", "device", "dtype"),
    [
        *itertools.product(["array-api-strict"], ["device1"], ["float64", "float32"]),
        *itertools.product(["torch", "jax"], ["cpu"], ["float64", "float32"]),
        pytest.param("cupy", "cuda", "float64", marks=[pytest.mark.cuda, pytest.mark.slow]),
        pytest.param("cupy", "cuda", "float32", marks=pytest.mark.cuda),
    ],
)
def test_weights_after_20_steps(
    small_data: xpnet.Dataset, library: str, device: str, dtype: str, settings: dict[str, Any]
) -> None:
    """Two epochs of 11 steps, the last of which is smaller, from the same draws on every library."""
    options: dict[str, Any] = {"epochs": 2, "dtype": dtype, "activation": "tanh", **settings}
    reference, other = small_fit(small_data, **options), small_fit(small_data, library, device, **options)
    bound = {"float64": 1e-12, "float32": 1e-5}[dtype]
    to_host = other.model.backend.to_host
    pairs = [*zip(other.model.params, reference.model.params, strict=True)]
    pairs += zip(other.model.running, reference.model.running, strict=True)
    for actual, _ in pairs:
        assert to_host(actual).dtype == dtype
    actual = np.concatenate([to_host(a).ravel() for a, _ in pairs])
    desired = np.concatenate([d.ravel() for _, d in pairs])
    assert relative_error(actual, desired) < bound
    for a, d in zip(other.history, reference.history, strict=True):
        assert a.train_loss == pytest.approx(d.train_loss, rel=bound)
        assert a.test_accuracy == d.test_accuracy


def test_a_step_is_compilable(small_data: xpnet.Dataset) -> None:
    """jax.jit refuses what a graph capture refuses: reading a value on the host, branching on one, masks."""
    open_backend("jax")
    settings = {**EVERYTHING, "augment": BENT, "max_norm": 1.0, "average": 0.9, "adversarial": 0.5}
    small_fit(small_data, "jax", epochs=1, clip_norm=1.0, optimizer="adamw", weight_decay=0.1, **settings)


@pytest.mark.parametrize(
    ("batch_size", "done"),
    [(9, [18, 36, 37]), (10, [32, 33]), (330, [1]), (200, [1, 2]), (2, [27, 54, 81, 108, 135, 162])],
)
def test_an_epoch_takes_the_fewest_calls(small_data: xpnet.Dataset, batch_size: int, done: list[int]) -> None:
    run, splits = prepare(xpnet.MLP((36, 3)), small_data, xpnet.TrainConfig(batch_size=batch_size), xpnet.select("cpu"))
    with computing(run):
        assert list(Loop(run, splits["train"]).epoch(1))[: len(done)] == done


def test_same_seed_same_bits(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        small_fit(small_data, seed=seed, out=tmp_path / name, validation=0.1, **EVERYTHING)
    model = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert model["a"] == model["b"]
    assert model["a"] != model["c"]
    histories = [_rows(tmp_path / name / "history.csv") for name in "ab"]
    for row in (row for rows in histories for row in rows):
        del row["seconds"], row["samples_per_second"]
    assert histories[0] == histories[1]


def test_run_directory(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    result = small_fit(small_data, out=out)
    config = tomllib.loads((out / "config.toml").read_text())
    assert config["data"] == "patterns"
    assert config["hidden"] == [16]
    assert config["lr"] == 0.05
    assert config["library"] == "numpy"
    assert TrainConfig().replace(**config) == result.config
    rows = _rows(out / "history.csv")
    assert list(rows[0]) == [
        "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss",
        "test_accuracy", "learning_rate", "seconds", "samples_per_second",
    ]  # fmt: skip
    assert len(rows) == 3
    assert rows[0]["validation_loss"] == ""
    assert float(rows[-1]["test_loss"]) == result.history[-1].test_loss
    files = {"config.toml", "history.csv", "model.safetensors", "checkpoints"}
    assert {path.name for path in out.iterdir()} - {"curves.png"} == files
    model = xpnet.load(out, device="cpu")
    assert small_data.test is not None
    assert np.array_equal(model.outputs(small_data.test.images), result.model.outputs(small_data.test.images))


def test_a_run_is_never_overwritten(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    small_fit(small_data, out=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="already holds a run"):
        small_fit(small_data, out=tmp_path, seed=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_unwritable_directory_is_said_before_training(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the run directory"):
        small_fit(small_data, out=tmp_path / "file" / "run", callbacks=[_Forbidden()])


class _Forbidden(Callback):
    def on_steps(self, run: Run) -> None:
        raise AssertionError("training started")


def test_a_run_written_out(small_data: xpnet.Dataset) -> None:
    """Two epochs equal Adam written out: order, rates, warm-up, masks, clipping and hyperparameters as promised."""
    steps: list[int] = []

    class Count(Callback):
        def on_steps(self, run: Run) -> None:
            steps.append(run.done)

    network = xpnet.MLP((36, 16, 3), dropout=0.25)
    result = fit(
        network, small_data, backend=open_backend("numpy"), callbacks=[Count()], batch_size=100, epochs=2, seed=3,
        optimizer="adam", lr=0.01, beta1=0.8, beta2=0.95, weight_decay=0.02, clip_norm=0.8, schedule="cosine",
        warmup=0.25, dtype="float64",
    )  # fmt: skip
    assert steps == [4, 4]
    assert result.history[0].samples_per_second * result.history[0].seconds == pytest.approx(330)
    params = init_params(network, 3, "float64")
    m, v = [0.0 * p for p in params], [0.0 * p for p in params]
    images, labels = small_data.train.images.reshape(330, -1) / 255.0, small_data.train.labels
    rates = [0.01 / 3, 0.01 * 2 / 3, *(0.005 * (1 + np.cos(np.pi * t / 6)) for t in range(6))]
    clipped = 0
    for t, lr in enumerate(rates):
        order = np.random.Generator(np.random.PCG64([3, 2, 1 + t // 4])).permutation(330)
        rows = order[100 * (t % 4) : 100 * (t % 4 + 1)]
        _, grads, _, _ = network.loss_and_grads(params, images[rows], labels[rows], step=np.array([t]), seed=3)
        norm = np.sqrt(sum(np.sum(g * g) for g in grads))
        clipped += norm > 0.8
        for i, g in enumerate(grads):
            g = g * min(1.0, 0.8 / (norm + 1e-6)) + 0.02 * params[i]  # noqa: PLW2901
            m[i], v[i] = 0.8 * m[i] + 0.2 * g, 0.95 * v[i] + 0.05 * g * g
            m_hat, v_hat = m[i] / (1 - 0.8 ** (t + 1)), v[i] / (1 - 0.95 ** (t + 1))
            params[i] = params[i] - lr * m_hat / (np.sqrt(v_hat) + 1e-8)
    assert 0 < clipped < 8, "the bound must bind in some steps and not in others"
    for actual, desired in zip(result.model.params, params, strict=True):
        assert relative_error(actual, desired) < 1e-10
    assert [epoch.learning_rate for epoch in result.history] == pytest.approx([rates[3], rates[7]])


def test_techniques_written_out(small_data: xpnet.Dataset) -> None:
    """Two epochs equal gradient descent written out: distortion and masks by the step, then limit, then average."""
    network = xpnet.MLP((36, 16, 3), input_dropout=0.2, batch_norm=True)
    settings: dict[str, Any] = {
        "batch_size": 110, "epochs": 2, "seed": 3, "optimizer": "sgd", "lr": 0.5, "weight_decay": 0.0,
        "schedule": "constant", "dtype": "float64", "max_norm": 1.45, "average": 0.3, "augment": BENT,
    }  # fmt: skip
    result = fit(network, small_data, backend=open_backend("numpy"), progress=False, **settings)
    params, running = init_params(network, 3, "float64"), init_running(network, "float64")
    average = [np.copy(a) for a in params + running]
    images, labels = small_data.train.images.reshape(330, -1) / 255.0, small_data.train.labels
    losses, scaled = [], 0
    for t in range(6):
        order = np.random.Generator(np.random.PCG64([3, 2, 1 + t // 3])).permutation(330)
        rows, step = order[110 * (t % 3) : 110 * (t % 3 + 1)], np.array([t])
        x = distort(images[rows], (6, 6), BENT, step, seed=3)
        loss, grads, _, running = network.loss_and_grads(params, x, labels[rows], running=running, step=step, seed=3)
        params = [p - 0.5 * g for p, g in zip(params, grads, strict=True)]
        factors = np.minimum(1.0, 1.45 / np.linalg.norm(params[0], axis=0))
        scaled += np.sum(factors < 1.0)
        params[0] = params[0] * factors
        d = min(0.3, (1 + t) / (10 + t))
        average = [d * a + (1 - d) * v for a, v in zip(average, params + running, strict=True)]
        losses.append(float(loss))
    assert 0 < scaled < 6 * 16, "the limit must bind for some units and not for others"
    assert [epoch.train_loss for epoch in result.history] == pytest.approx([np.mean(losses[:3]), np.mean(losses[3:])])
    model = result.model
    for actual, desired in zip([*model.params, *model.running], average, strict=True):
        assert relative_error(actual, desired) < 1e-10
    assert small_data.test is not None
    assert model.evaluate(*small_data.test).loss == pytest.approx(result.history[-1].test_loss, rel=1e-12)
    assert not np.allclose(params[0], average[0])


def test_an_average_changes_nothing_but_the_model(small_data: xpnet.Dataset) -> None:
    plain, averaged = (
        small_fit(small_data, average=average, validation=0.1, test_each_epoch=True) for average in (0.0, 0.9)
    )
    for one, other in zip(plain.history, averaged.history, strict=True):
        assert (one.train_loss, one.train_accuracy) == (other.train_loss, other.train_accuracy)
        assert one.validation_loss != other.validation_loss
        assert one.test_loss != other.test_loss


def test_techniques_are_off_unless_asked_for(small_data: xpnet.Dataset) -> None:
    config = TrainConfig()
    assert (config.input_dropout, config.max_norm, config.average, config.augment) == (0.0, None, 0.0, None)
    run, splits = prepare(config.network(36, 3), small_data, config, xpnet.select("cpu"))
    assert Loop(run, splits["train"]).state.average == []


def test_distortion_of_what_is_no_image() -> None:
    rows = xpnet.Split(np.zeros((20, 6), np.uint8), np.arange(20, dtype=np.int32) % 3)
    with pytest.raises(ConfigError, match=r"^augment needs two-dimensional images, at least 2 by 2, not of shape"):
        small_fit(xpnet.Dataset("rows", rows, n_classes=3), augment=BENT)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [(name, optimizer) for name, setting in SETTINGS.items() for optimizer in setting.optimizers],
)
def test_a_setting_reaches_the_optimizers_that_take_it(small_data: xpnet.Dataset, name: str, optimizer: str) -> None:
    settings: list[dict[str, Any]] = [{name: 0.5}, {name: 0.25}]
    one, other = (small_fit(small_data, optimizer=optimizer, epochs=1, lr=0.01, **setting) for setting in settings)
    assert not np.array_equal(one.model.params[0], other.model.params[0])


def test_step_schedule_drops_every_so_many_epochs(small_data: xpnet.Dataset) -> None:
    result = small_fit(small_data, schedule="step", decay_every=2, decay=0.5, epochs=5, lr=0.08)
    assert [epoch.learning_rate for epoch in result.history] == pytest.approx([0.08, 0.08, 0.04, 0.04, 0.02])


def test_full_batch_is_gradient_descent(small_data: xpnet.Dataset) -> None:
    """Three epochs of full-batch SGD equal three updates written out."""
    result = small_fit(
        small_data, batch_size="full", optimizer="sgd", schedule="constant", dtype="float64", lr=0.5, seed=3
    )
    network = result.model.network
    params = init_params(network, 3, "float64")
    x = small_data.train.images.reshape(330, -1) / 255.0
    for _ in range(3):
        _, grads, _, _ = network.loss_and_grads(params, x, small_data.train.labels)
        params = [p - 0.5 * g for p, g in zip(params, grads, strict=True)]
    for actual, desired in zip(result.model.params, params, strict=True):
        assert relative_error(actual, desired) < 1e-12
    larger = small_fit(
        small_data, batch_size=10**6, optimizer="sgd", schedule="constant", dtype="float64", lr=0.5, seed=3
    )
    assert np.array_equal(larger.model.params[0], result.model.params[0])


@pytest.mark.parametrize("images", ["uint8", "float32", "float64"])
def test_float_images_are_not_scaled_again(small_data: xpnet.Dataset, images: str) -> None:
    def convert(split: xpnet.Split | None) -> xpnet.Split:
        assert split is not None
        pixels = split.images if images == "uint8" else (split.images / 255).astype(images)
        return xpnet.Split(pixels, split.labels)

    data = dataclasses.replace(small_data, train=convert(small_data.train), test=convert(small_data.test))
    loss = small_fit(data, epochs=1).history[0].train_loss
    assert loss == pytest.approx(small_fit(small_data, epochs=1).history[0].train_loss, rel=1e-5)


def test_validation_examples_are_drawn_at_random_and_held_out(small_data: xpnet.Dataset) -> None:
    images = np.arange(330, dtype=np.float64).reshape(330, 1) / 330
    data = xpnet.Dataset("numbered", xpnet.Split(images, np.arange(330, dtype=np.int32) % 3), n_classes=3)
    held = {}
    for seed in (0, 1):
        splits = {
            name: examples.take(None)
            for name, examples in _splits(data, TrainConfig(validation=0.2, seed=seed)).items()
        }
        found = {name: set(np.rint(images[:, 0] * 330).astype(int)) for name, (images, _, _) in splits.items()}
        assert found["train"] | found["validation"] == set(range(330))
        assert not found["train"] & found["validation"]
        assert len(found["validation"]) == 66
        assert all(
            np.array_equal(labels, np.rint(images[:, 0] * 330).astype(int) % 3) for images, labels, _ in splits.values()
        )
        held[seed] = found["validation"]
    assert held[0] != held[1]
    assert held[0] != set(range(66))


def test_weights_of_examples(small_data: xpnet.Dataset) -> None:
    """An example of weight 0 might as well not be there, and a common factor changes nothing, also of held-out sets."""
    n = len(small_data.train.labels)
    options: dict[str, Any] = {"batch_size": "full", "dtype": "float64", "validation": 30}
    heavy = np.random.default_rng(0).integers(1, 4, n)
    results = [small_fit(small_data, sample_weight=w, **options) for w in (None, np.ones(n), 7 * heavy, heavy.tolist())]
    plain, ones, scaled, unscaled = (result.model.params[0] for result in results)
    assert relative_error(ones, plain) < 1e-12
    assert relative_error(scaled, unscaled) < 1e-12
    assert relative_error(scaled, plain) > 1e-4
    keep = np.arange(n) % 3 > 0
    rest = dataclasses.replace(small_data, train=xpnet.Split(*(a[keep] for a in small_data.train)))
    options["validation"] = 0
    masked = small_fit(small_data, sample_weight=keep, **options)
    assert relative_error(masked.model.params[0], small_fit(rest, **options).model.params[0]) < 1e-12
    enormous = small_fit(small_data, sample_weight=np.full(n, 1e308), **options)
    assert relative_error(enormous.model.params[0], small_fit(small_data, **options).model.params[0]) < 1e-12
    # The training loss is that of the examples that count; the accuracy counts all.
    assert masked.history[0].train_loss == pytest.approx(small_fit(rest, **options).history[0].train_loss, rel=1e-12)


def test_sample_weights_follow_their_examples(small_data: xpnet.Dataset) -> None:
    """Shuffled, cut into batches and split, every weight stays with its example: those of class 0 count nothing."""
    weights = small_data.train.labels != 0
    result = small_fit(small_data, epochs=20, sample_weight=weights, validation=0.1)
    assert small_data.test is not None
    assert 0 not in result.model.predict(small_data.test.images)


def test_balanced_classes_count_alike(small_data: xpnet.Dataset) -> None:
    """Each class as a whole has a third of the weight: the same loss as with these weights given by hand."""
    labels = small_data.train.labels
    few = (labels != 2) | (np.cumsum(labels == 2) <= 5)
    data = dataclasses.replace(small_data, train=xpnet.Split(*(a[few] for a in small_data.train)))
    labels = data.train.labels
    by_hand = len(labels) / (3 * np.bincount(labels))[labels]
    options: dict[str, Any] = {"dtype": "float64"}
    balanced = small_fit(data, class_weight="balanced", **options)
    given = small_fit(data, sample_weight=by_hand, **options)
    assert balanced.config.class_weight == "balanced"
    assert relative_error(balanced.model.params[0], given.model.params[0]) < 1e-12
    assert data.test is not None
    images, of_two = data.test.images, data.test.labels == 2
    recall = [np.mean(r.model.predict(images)[of_two] == 2) for r in (balanced, small_fit(data))]
    assert recall[0] > recall[1]
    # The examples that are held out have no part in the balance: the training loss is a mean over weights of mean 1.
    held = small_fit(data, class_weight="balanced", validation=0.5, seed=3, **options)
    rows = _splits(data, TrainConfig(validation=0.5, seed=3))["train"].rows
    assert rows is not None
    weights = np.zeros(len(labels))
    weights[rows] = 1.0 / np.bincount(labels[rows])[labels[rows]]
    assert held.history[0].train_loss == pytest.approx(
        small_fit(data, sample_weight=weights, validation=0.5, seed=3, **options).history[0].train_loss, rel=1e-12
    )
    half = small_fit(data, class_weight="balanced", sample_weight=np.where(labels == 0, 0.5, 1.0), **options)
    assert relative_error(half.model.params[0], balanced.model.params[0]) < 1e-12, "the classes still count alike"
    absent = dataclasses.replace(data, n_classes=5)
    network = xpnet.MLP((36, 4, 5))
    assert np.isfinite(fit(network, absent, class_weight="balanced", epochs=1, progress=False).history[0].train_loss)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(329), "a number for each of the 330 training examples, not float64 of shape"),
        (["x"] * 330, "a number for each of the 330 training examples, not <U1"),
        (np.full(330, -1.0), "finite and at least 0"),
        (np.full(330, np.nan), "finite and at least 0"),
        (np.zeros(330), "no training example with a weight above 0"),
        ([[1.0], [1.0, 2.0]], "must be one list of numbers"),
    ],
    ids=["short", "words", "negative", "nan", "zeros", "ragged"],
)
def test_bad_sample_weights(small_data: xpnet.Dataset, weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_fit(small_data, sample_weight=weights)


def test_validation_split(small_data: xpnet.Dataset) -> None:
    share, number = small_fit(small_data, validation=0.1), small_fit(small_data, validation=33)
    assert share.history[0].train_loss == number.history[0].train_loss
    assert share.history[0].validation_loss is not None
    assert share.history[0].samples_per_second * share.history[0].seconds == pytest.approx(297)
    for impossible in (330, 1000, 0.001):
        with pytest.raises(ConfigError, match="would hold out"):
            small_fit(small_data, validation=impossible)


def test_data_s_own_validation_split(small_data: xpnet.Dataset) -> None:
    data = dataclasses.replace(small_data, validation=small_data.test)
    last = small_fit(data).history[-1]
    assert last.validation_loss == last.test_loss
    assert small_fit(dataclasses.replace(small_data, test=None)).history[-1].test_loss is None


def test_early_stopping_restores_the_best(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = xpnet.Split(small_data.train.images, rng.integers(0, 3, 330).astype(np.int32))
    data = dataclasses.replace(small_data, train=noise)
    result = small_fit(data, validation=0.3, early_stopping=4, epochs=200, out=tmp_path, optimizer="adam", lr=0.02)
    losses = [epoch.validation_loss or 0.0 for epoch in result.history]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 4 < 200
    assert result.stop_reason == f"no validation loss below epoch {best}'s in 4 epochs"
    assert result.model_epoch == best
    assert data.test is not None
    assert result.model.evaluate(*data.test).loss == pytest.approx(result.history[best - 1].test_loss, rel=1e-6)
    saved = xpnet.load(tmp_path, device="cpu")
    assert np.array_equal(saved.params[0], result.model.params[0])
    with pytest.raises(ConfigError, match="needs a validation split"):
        small_fit(data, early_stopping=4, validation=0)


def test_the_test_split_is_measured_once(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    """At the end, with the parameters that the run ends with: nobody can choose by it."""
    seen = []

    class Watch(Callback):
        def on_epoch(self, run: Run) -> None:
            seen.append(run.history[-1].test_loss)

    log = tmp_path / "log.csv"
    settings: dict[str, Any] = {"validation": 0.3, "epochs": 200, "early_stopping": 3, "optimizer": "adam", "lr": 0.02}
    result = small_fit(small_data, callbacks=[Watch(), xpnet.CSVLog(log)], out=tmp_path / "run", **settings)
    assert set(seen) == {None}
    assert small_data.test is not None
    measured = [epoch.epoch for epoch in result.history if epoch.test_loss is not None]
    assert measured == [result.model_epoch] != [len(result.history)]
    own = result.history[result.model_epoch - 1]
    scores = result.model.evaluate(*small_data.test)
    assert (own.test_accuracy, own.test_loss) == (scores.accuracy, pytest.approx(scores.loss, rel=1e-6))
    for path in (log, tmp_path / "run"):
        assert read_history(path if path.is_file() else path / "history.csv") == result.history
    each = small_fit(small_data, test_each_epoch=True)
    assert None not in [epoch.test_loss for epoch in each.history]
    assert each.history[-1].test_loss == small_fit(small_data).history[-1].test_loss


def test_an_interrupted_run_does_not_read_the_test_split(small_data: xpnet.Dataset) -> None:
    class Stop(Callback):
        def on_epoch(self, run: Run) -> None:
            run.stop("interrupted", at_once=True)

    assert small_fit(small_data, callbacks=[Stop()]).history[-1].test_loss is None


@pytest.mark.parametrize(
    ("n", "settings", "validated", "held"),
    [
        (60_000, {}, False, 5_000),
        (50_000, {}, False, 5_000),
        (49_999, {}, False, 0),
        (60_000, {}, True, 0),
        (60_000, {"validation": 0}, False, 0),
        (60_000, {"validation": 0.25}, False, 0.25),
        (330, {"early_stopping": 3}, False, 0.1),
        (330, {"early_stopping": 3}, True, 0),
    ],
)
def test_how_many_are_held_out(n: int, settings: dict[str, Any], validated: bool, held: float) -> None:
    assert TrainConfig(**settings).holding_out(n, validated=validated).held == held


def test_early_stopping_on_paper() -> None:
    run = Run.__new__(Run)
    run.history, run.params, run.running = [], [], []
    stopping = EarlyStopping(2)
    stopping.on_start(run)
    for epoch, loss in enumerate([3.0, 2.0, 2.5, 1.0, 1.0, 1.5], start=1):
        run.model_epoch, run.params = epoch, [epoch]
        run.history.append(_epoch(epoch, loss))
        run.note_best()
        stopping.on_epoch(run)
        assert (run.stop_reason is not None) == (epoch == 6)
    stopping.on_end(run)
    assert (run.model_epoch, run.params) == (4, [4])


def _epoch(epoch: int, validation_loss: float) -> xpnet.Epoch:
    figures = {"train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": validation_loss, "validation_accuracy": 0.5}
    return xpnet.Epoch(epoch=epoch, learning_rate=0.1, seconds=1.0, samples_per_second=100.0, **figures)


@pytest.mark.parametrize("library", ["numpy", "jax"])
def test_non_finite_loss_keeps_the_last_good_parameters(
    small_data: xpnet.Dataset, library: str, tmp_path: Path
) -> None:
    """The rate explodes in the third epoch: the error names the very step, and the second epoch's parameters stay."""
    settings: dict[str, Any] = {"optimizer": "sgd", "lr": 1e30, "epochs": 3, "schedule": "constant"}
    with pytest.raises(NonFiniteError, match=r"in epoch 1 at step [12345] of 11, learning rate 1e\+30"):
        small_fit(small_data, library, out=tmp_path / "at once", **settings)
    model = xpnet.load(tmp_path / "at once", device="cpu")
    assert np.array_equal(model.params[0], init_params(model.network, 0)[0])


def test_non_finite_later(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    kept: list[np.ndarray] = []

    class Keep(Callback):
        def on_epoch(self, run: Run) -> None:
            kept.append(run.params[0].copy())

    def poisoned(step: np.ndarray, **options: Any) -> np.ndarray:
        return np.where(np.asarray(step) == 25, 1e38, 0.05)

    from xpnet.optim import SCHEDULES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCHEDULES, "constant", poisoned)
        with pytest.raises(NonFiniteError, match=r"the loss .* in epoch 3 at step [45] of 11, learning rate"):
            small_fit(small_data, schedule="constant", epochs=5, callbacks=[Keep()], out=tmp_path)
    assert len(kept) == 2
    assert np.array_equal(xpnet.load(tmp_path, device="cpu").params[0], kept[-1])
    assert len(_rows(tmp_path / "history.csv")) == 2


@pytest.mark.parametrize("with_test", [True, False])
def test_harm_of_an_epoch_s_last_update_ends_the_run(
    small_data: xpnet.Dataset, tmp_path: Path, with_test: bool
) -> None:
    """The training loss sees parameters before their update: the last one shows in the test loss or in themselves."""

    def poisoned(step: np.ndarray, **options: Any) -> np.ndarray:
        return np.where(np.asarray(step) == 21, 1e38, 1e-6)

    from xpnet.optim import SCHEDULES

    data = small_data if with_test else dataclasses.replace(small_data, test=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCHEDULES, "constant", poisoned)
        with pytest.raises(NonFiniteError, match="a parameter or a split's loss stopped being finite in epoch 2"):
            small_fit(data, schedule="constant", optimizer="sgd", weight_decay=1e3, epochs=5, out=tmp_path)
    assert len(_rows(tmp_path / "history.csv")) == 1
    assert small_data.test is not None
    scores = xpnet.load(tmp_path, device="cpu").evaluate(*small_data.test)
    assert np.isfinite(scores.loss)


def test_the_model_survives_a_failing_device_and_a_failing_callback(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    class Broken(Callback):
        def on_epoch(self, run: Run) -> None:
            if run.model_epoch == 2:
                run.backend.to_device = None  # type: ignore[assignment,method-assign]
                raise OSError("the device is gone")

        def on_end(self, run: Run) -> None:
            raise ValueError("and so is the callback")

    with pytest.raises(ValueError, match="so is the callback"):
        small_fit(small_data, callbacks=[Broken()], out=tmp_path)
    expected = small_fit(small_data, callbacks=[_StopAfter(2)]).model
    assert np.array_equal(xpnet.load(tmp_path, device="cpu").params[0], expected.params[0])


def test_early_stopping_can_be_used_twice(small_data: xpnet.Dataset) -> None:
    stopping = EarlyStopping(3)
    first, second = (
        small_fit(small_data, validation=0.2, callbacks=[stopping], seed=seed, epochs=epochs)
        for seed, epochs in ((0, 4), (1, 2))
    )
    assert second.model_epoch <= 2
    assert not np.array_equal(first.model.params[0], second.model.params[0])


def test_a_run_directory_has_a_name(small_data: xpnet.Dataset, own_directory: None) -> None:
    with pytest.raises(ConfigError, match="a run directory needs a name"):
        small_fit(small_data, out="")
    assert not any(Path().iterdir())


def test_a_last_batch_of_one_cannot_be_normalised(small_data: xpnet.Dataset) -> None:
    with pytest.raises(ConfigError, match="batch_size 7 leaves a last batch of only one of the 330 examples"):
        small_fit(small_data, batch_size=7, batch_norm=True)
    small_fit(small_data, batch_size=7, epochs=1)
    xpnet.fit(xpnet.MLP((36, 3), batch_norm=True), small_data, batch_size=7, epochs=1, progress=False)


def test_the_backend_s_device_is_current_throughout(small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, inside = open_backend("numpy"), []

    @contextlib.contextmanager
    def active() -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    monkeypatch.setattr(backend, "active", active)
    original = xpnet.MLP.forward

    def forward(*arguments: Any, **options: Any) -> Any:
        assert inside, "the network ran on whatever device is current"
        return original(*arguments, **options)

    monkeypatch.setattr(xpnet.MLP, "forward", forward)
    model = fit(xpnet.MLP((36, 4, 3)), small_data, backend=backend, epochs=1, progress=False).model
    assert small_data.test is not None
    model.outputs(small_data.test.images)
    model.evaluate(*small_data.test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([36, 3], None), "network must be an MLP"),
        ((xpnet.MLP((36, 3)), "mnist"), "data must be a Dataset"),
        ((xpnet.MLP((36, 3)), None, {"epochs": 1}), "config must be a TrainConfig"),
    ],
)
def test_what_is_easily_taken_for_the_right_thing(
    small_data: xpnet.Dataset, arguments: tuple[Any, ...], message: str
) -> None:
    network, data, *rest = arguments
    with pytest.raises(TypeError, match=message):
        fit(network, data or small_data, *rest)
    with pytest.raises(TypeError, match="backend must be a Backend"):
        fit(xpnet.MLP((36, 3)), small_data, backend="cpu")  # type: ignore[arg-type]
    for setting, reason in (
        ({"hidden": (5,)}, "hidden describes the network: pass it to MLP"),
        ({"start": "run"}, "start names the model to train further: pass the Model itself, as network"),
        ({"label": "y"}, "label says how files are read: pass it to load_data"),
        ({"size": 28}, "size says how files are read: pass it to load_data"),
        ({"task": "regression"}, "task says what the labels are: pass it to load_data or Dataset"),
    ):
        with pytest.raises(ConfigError, match=reason) as error:
            fit(xpnet.MLP((36, 3)), small_data, **setting)
        assert [error.value.setting] == list(setting)


def test_interruption_keeps_the_last_finished_epoch(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_steps(self, run: Run) -> None:
            if run.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_fit(small_data, callbacks=[Interrupt()], out=tmp_path)
    one = small_fit(small_data, epochs=3, callbacks=[_StopAfter(1)])
    assert one.stop_reason == "enough"
    assert np.array_equal(xpnet.load(tmp_path, device="cpu").params[0], one.model.params[0])


def test_no_later_reason_undoes_an_interruption(small_data: xpnet.Dataset) -> None:
    class Interrupt(Callback):
        def on_steps(self, run: Run) -> None:
            if run.epoch == 2:
                run.stop("interrupted", at_once=True)
                run.stop("enough")

    result = small_fit(small_data, epochs=3, batch_size=5, callbacks=[Interrupt()])
    assert (len(result.history), result.stop_reason) == (1, "interrupted")

    class Hurry(Callback):
        def on_steps(self, run: Run) -> None:
            if run.epoch == 2:
                run.stop("enough")
                run.stop("enough for others as well")
                run.stop("interrupted", at_once=True)

    result = small_fit(small_data, epochs=3, batch_size=5, callbacks=[Hurry()])
    assert (len(result.history), result.stop_reason) == (1, "interrupted")


class _StopAfter(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, run: Run) -> None:
        if run.model_epoch == self.epoch:
            run.stop("enough")


def test_a_callback_of_one_s_own_in_three_lines(small_data: xpnet.Dataset) -> None:
    class StopAt90(xpnet.Callback):
        def on_epoch(self, run: Run) -> None:
            if run.history[-1].train_accuracy > 0.9:
                run.stop("90 % reached")

    result = small_fit(small_data, epochs=50, callbacks=[StopAt90()])
    assert result.stop_reason == "90 % reached"
    assert [epoch.train_accuracy > 0.9 for epoch in result.history[-2:]] == [False, True]


def test_csv_log_is_the_history(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.csv"
    lines = []

    class Reader(Callback):
        def on_start(self, run: Run) -> None:
            lines.append(len(_rows(path)))

        on_epoch = on_start

    result = small_fit(small_data, callbacks=[xpnet.CSVLog(path), Reader()], validation=0.1)
    assert lines == [0, 1, 2, 3]
    assert read_history(path) == result.history


def test_learning_rates_are_recorded_step_by_step(small_data: xpnet.Dataset) -> None:
    record = xpnet.LearningRates()
    small_fit(small_data, callbacks=[record, _StopAfter(2)], schedule="linear", lr=0.2)
    assert record.rates == pytest.approx(0.2 * (1 - np.arange(22) / 33))


def test_tensorboard_log_is_the_history(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="needs tensorboardX: pip install 'xpnet[tensorboard]'")
    from tensorboardX import proto

    sizes = []

    class Watcher(Callback):
        def on_epoch(self, run: Run) -> None:
            sizes.append(sum(path.stat().st_size for path in tmp_path.glob("*/*")))

    result = small_fit(small_data, callbacks=[xpnet.TensorBoardLog(tmp_path), Watcher()], validation=0.1)
    assert 0 < sizes[0] < sizes[1] < sizes[2], "whoever watches sees each epoch"
    found: dict[str, list[tuple[int, float]]] = {}
    for folder in tmp_path.iterdir():  # one for each line of a chart
        (file,) = folder.iterdir()
        for record in _records(file.read_bytes()):
            event = proto.event_pb2.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(f"{folder.name}/{value.tag}", []).append((event.step, value.simple_value))
    tags = {f"{split}/{quantity}" for quantity in ("loss", "accuracy") for split in ("train", "validation", "test")}
    assert set(found) == tags | {f"train/{name}" for name in ("learning_rate", "seconds", "samples_per_second")}
    expected = [(epoch.epoch, pytest.approx(epoch.validation_loss, rel=1e-6)) for epoch in result.history]
    assert found["validation/loss"] == expected
    assert found["test/accuracy"] == [(3, pytest.approx(result.history[-1].test_accuracy, rel=1e-6))]


def _records(content: bytes) -> Iterator[bytes]:
    """The records of an event file: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    while content:
        length = int.from_bytes(content[:8], "little")
        yield content[12 : 12 + length]
        content = content[16 + length :]


def test_tensorboard_is_missed_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(xpnet.MissingPackageError, match=r'needs tensorboardX.*pip install "xpnet\[tensorboard\]"'):
        xpnet.TensorBoardLog(tmp_path)


@pytest.mark.parametrize("log", ["CSVLog", "TensorBoardLog"])
def test_a_log_that_cannot_be_written_is_said_before_training(
    small_data: xpnet.Dataset, tmp_path: Path, log: str
) -> None:
    if log == "TensorBoardLog":
        pytest.importorskip("tensorboardX", reason="needs tensorboardX: pip install 'xpnet[tensorboard]'")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the log .*file"):
        small_fit(small_data, callbacks=[getattr(xpnet, log)(tmp_path / "file" / "x")])


@pytest.mark.parametrize("wrong", [Progress, print, None])
def test_what_is_no_callback(small_data: xpnet.Dataset, wrong: object) -> None:
    with pytest.raises(TypeError, match="callbacks must be instances of Callback"):
        small_fit(small_data, callbacks=[wrong])


def test_a_run_without_an_epoch_has_no_curves(
    small_data: xpnet.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(NonFiniteError):
        small_fit(small_data, lr=1e30, out=tmp_path)
    assert "curves.png" not in caplog.text
    assert not (tmp_path / "curves.png").exists()


def test_a_picture_that_fails_costs_the_run_nothing(
    small_data: xpnet.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such font")

    monkeypatch.setattr("xpnet.plots.curves", fail)
    small_fit(small_data, out=tmp_path)
    assert "curves.png could not be drawn: no such font" in caplog.text
    assert xpnet.load(tmp_path, device="cpu").network.sizes == (36, 16, 3)


def test_curves_png_or_why_not(
    small_data: xpnet.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    small_fit(small_data, out=tmp_path / "without")
    assert re.search(r'curves.png was not drawn: .* pip install "xpnet\[plot\]"', caplog.text)
    assert not (tmp_path / "without" / "curves.png").exists()
    monkeypatch.undo()
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'xpnet[plot]'")
    small_fit(small_data, out=tmp_path / "with")
    assert (tmp_path / "with" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("sizes", "message"), [((35, 3), "takes 35 inputs, but.*has 36 features"), ((36, 2), "2 outputs, but.*3 classes")]
)
def test_network_that_does_not_fit_the_data(small_data: xpnet.Dataset, sizes: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(xpnet.MLP(sizes), small_data, progress=False, device="cpu")


def test_step_reads_nothing_it_should_not(xp: ArrayLibrary) -> None:
    """One step from arrays of each variant: it takes rate, indices and masks from device arrays, and consumes state."""
    if xp.variant.mode == "readonly":
        pytest.skip("a step consumes its state")
    from xpnet.optim import adam, init_state
    from xpnet.training.step import State

    network = MLP_EVERYTHING
    config = TrainConfig(optimizer="adam", clip_norm=1.0, dtype=xp.dtype)
    step = make_step(network, config, xp=xp.xp, batch_size=4, n_steps=3, schema=Schema(), update=adam)
    params = [xp(p) for p in init_params(network, dtype="float64")]

    def one(dtype: str) -> Any:
        return xp(np.zeros(1), dtype)

    def fresh(number: int) -> State:
        copies = [xp(p) for p in init_params(network, dtype="float64")]
        running = [xp(a) for a in init_running(network, "float64")]
        slots = init_state("adam", copies, xp=xp.xp)
        return State(copies, running, slots, [], one("int64") + number, one(xp.dtype), one("int64"), one("int64"))

    rng = np.random.default_rng(0)
    images, labels = xp(rng.integers(0, 256, (10, 6)).astype(np.uint8)), xp(rng.integers(0, 3, 10).astype(np.int32))
    order, rates, offsets = xp(rng.permutation(10)), xp(np.array([0.0, 0.1, 0.2])), xp(np.arange(4))

    def run(number: int) -> list[np.ndarray]:
        state = xp.run(step, fresh(number), images, labels, order, rates, offsets)
        assert int(xp.numpy(state.step)[0]) == number + 1
        assert int(xp.numpy(state.healthy)[0]) == 1
        return [xp.numpy(p) for p in state.params]

    first, second = run(0), run(1)
    assert all(np.array_equal(p, xp.numpy(q)) for p, q in zip(first, params, strict=True)), "the rate of step 0 is 0"
    assert not np.array_equal(second[0], xp.numpy(params[0]))
    assert all(np.isfinite(p).all() for p in second)


MLP_EVERYTHING = xpnet.MLP((6, 5, 3), dropout=0.3, batch_norm=True, label_smoothing=0.1)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
