"""fit: it learns, repeats bit by bit, agrees across libraries, and ends well however it ends."""

import csv
import dataclasses
import io
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.callbacks import Callback, EarlyStopping, Progress, Run
from xpnet.config import TrainConfig
from xpnet.errors import ConfigError, NonFiniteError
from xpnet.training import fit, make_step

from .conftest import ArrayLibrary, open_backend, relative_error

# Every part of a step at once.
EVERYTHING = {"batch_norm": True, "dropout": 0.2, "label_smoothing": 0.05}


def small_fit(data: xpnet.Dataset, library: str = "numpy", device: str = "cpu", **settings: Any) -> Any:
    description = {k: settings.pop(k) for k in list(settings) if k in EVERYTHING or k == "activation"}
    network = xpnet.MLP((data.n_features, 16, data.n_classes), **description)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 32, "lr": 0.05, "weight_decay": 0.0, **settings}
    callbacks = options.pop("callbacks", [])
    return fit(network, data, backend=open_backend(library, device), callbacks=callbacks, **options)


def test_it_learns(small_data: xpnet.Dataset) -> None:
    result = small_fit(small_data, epochs=8)
    assert [epoch.epoch for epoch in result.history] == list(range(1, 9))
    assert result.history[-1].train_loss < result.history[0].train_loss / 4
    assert result.history[-1].test_accuracy > 0.95
    scores = result.model.evaluate(*small_data.test)
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


@pytest.mark.parametrize("settings", [{}, EVERYTHING, {"optimizer": "adam", "clip_norm": 0.5}], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("library", "device"),
    [
        ("array-api-strict", "device1"),
        ("torch", "cpu"),
        ("jax", "cpu"),
        pytest.param("cupy", "cuda", marks=pytest.mark.cuda),
    ],
)
def test_weights_after_20_steps(
    small_data: xpnet.Dataset, library: str, device: str, dtype: str, settings: dict[str, Any]
) -> None:
    """Two epochs of 11 steps, the last of which is smaller, from the same draws on every library."""
    options = {"epochs": 2, "dtype": dtype, "activation": "tanh", **settings}
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
    small_fit(small_data, "jax", epochs=1, **EVERYTHING, clip_norm=1.0, optimizer="adamw", weight_decay=0.1)


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
    assert sorted(path.name for path in out.iterdir()) == ["config.toml", "history.csv", "model.safetensors"]
    model = xpnet.load(out, device="cpu")
    assert np.array_equal(model.outputs(small_data.test.images), result.model.outputs(small_data.test.images))


def test_a_run_is_never_overwritten(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    small_fit(small_data, out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="already holds a run"):
        small_fit(small_data, out=tmp_path, seed=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_unwritable_directory_is_said_before_training(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the run directory"):
        small_fit(small_data, out=tmp_path / "file" / "run", callbacks=[_Forbidden()])


class _Forbidden(Callback):
    def on_steps(self, run: Run, epoch: int, done: int) -> None:
        raise AssertionError("training started")


def test_batches_are_those_promised(small_data: xpnet.Dataset) -> None:
    """Two epochs equal plain SGD written out: a new order each epoch, every example once, the last batch smaller."""
    steps: list[int] = []

    class Count(Callback):
        def on_steps(self, run: Run, epoch: int, done: int) -> None:
            steps.append(done)

    options = {"optimizer": "sgd", "schedule": "linear", "dtype": "float64", "lr": 0.5, "seed": 3}
    result = small_fit(small_data, batch_size=100, epochs=2, callbacks=[Count()], **options)
    assert steps == [4, 4]
    assert result.history[0].samples_per_second * result.history[0].seconds == pytest.approx(330)
    network = result.model.network
    params = network.init_params(3, "float64")
    images, labels = small_data.train.images.reshape(330, -1) / 255.0, small_data.train.labels
    for epoch in (1, 2):
        order = np.random.Generator(np.random.PCG64([3, 2, epoch])).permutation(330)
        for i in range(4):
            rows, lr = order[100 * i : 100 * (i + 1)], 0.5 * (1 - (4 * (epoch - 1) + i) / 8)
            _, grads, _, _ = network.loss_and_grads(params, images[rows], labels[rows])
            params = [p - lr * g for p, g in zip(params, grads, strict=True)]
    for actual, desired in zip(result.model.params, params, strict=True):
        assert relative_error(actual, desired) < 1e-12


def test_full_batch_is_gradient_descent(small_data: xpnet.Dataset) -> None:
    """Three epochs of full-batch SGD equal three updates written out."""
    result = small_fit(
        small_data, batch_size="full", optimizer="sgd", schedule="constant", dtype="float64", lr=0.5, seed=3
    )
    network = result.model.network
    params = network.init_params(3, "float64")
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
    losses = [epoch.validation_loss for epoch in result.history]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 4 < 200
    assert result.stop_reason == f"no validation loss below epoch {best}'s in 4 epochs"
    assert result.model_epoch == best
    assert result.model.evaluate(*data.test).loss == pytest.approx(result.history[best - 1].test_loss, rel=1e-6)
    saved = xpnet.load(tmp_path, device="cpu")
    assert np.array_equal(saved.params[0], result.model.params[0])
    with pytest.raises(ConfigError, match="needs a validation split"):
        small_fit(data, early_stopping=4)


def test_early_stopping_on_paper() -> None:
    run = Run.__new__(Run)
    run.history, run.stop_reason, run.params, run.running = [], None, [], []
    stopping = EarlyStopping(2)
    for epoch, loss in enumerate([3.0, 2.0, 2.5, 1.0, 1.0, 1.5], start=1):
        run.model_epoch, run.params = epoch, [epoch]
        run.history.append(_epoch(epoch, loss))
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
    settings = {"optimizer": "sgd", "lr": 1e30, "epochs": 3, "schedule": "constant", "loss": "cross-entropy"}
    with pytest.raises(NonFiniteError, match=r"in epoch 1 at step [12345] of 11, learning rate 1e\+30"):
        small_fit(small_data, library, out=tmp_path / "at once", **settings)
    model = xpnet.load(tmp_path / "at once", device="cpu")
    assert np.array_equal(model.params[0], model.network.init_params(0)[0])


def test_non_finite_later(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    kept: list[np.ndarray] = []

    class Keep(Callback):
        def on_epoch(self, run: Run) -> None:
            kept.append(run.params[0].copy())

    def poisoned(step: np.ndarray, **options: Any) -> np.ndarray:
        return np.where(np.asarray(step) == 25, 1e38, 0.05)

    from xpnet.schedules import SCHEDULES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCHEDULES, "constant", poisoned)
        with pytest.raises(NonFiniteError, match=r"epoch 3 at step [45] of 11.*the parameters of epoch 2 are kept"):
            small_fit(small_data, schedule="constant", epochs=5, callbacks=[Keep()], out=tmp_path)
    assert len(kept) == 2
    assert np.array_equal(xpnet.load(tmp_path, device="cpu").params[0], kept[-1])
    assert len(_rows(tmp_path / "history.csv")) == 2


def test_interruption_keeps_the_last_finished_epoch(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_steps(self, run: Run, epoch: int, done: int) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_fit(small_data, callbacks=[Interrupt()], out=tmp_path)
    one = small_fit(small_data, epochs=3, callbacks=[_StopAfterOne()])
    assert one.stop_reason == "enough"
    assert np.array_equal(xpnet.load(tmp_path, device="cpu").params[0], one.model.params[0])


class _StopAfterOne(Callback):
    def on_epoch(self, run: Run) -> None:
        run.stop("enough")


def test_progress_is_plain_lines_off_a_terminal(small_data: xpnet.Dataset) -> None:
    text = io.StringIO()
    small_fit(small_data, callbacks=[Progress(text)], validation=0.1)
    lines = text.getvalue().splitlines()
    assert lines[0].split()[-1] == "seconds"
    assert "validation loss" in lines[0]
    assert [line.split()[0] for line in lines] == ["epoch", "1/3", "2/3", "3/3"]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) < 80
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize(
    ("sizes", "message"), [((35, 3), "takes 35 inputs, but.*have 36 pixels"), ((36, 2), "2 outputs, but.*3 classes")]
)
def test_network_that_does_not_fit_the_data(small_data: xpnet.Dataset, sizes: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(xpnet.MLP(sizes), small_data, callbacks=[], device="cpu")


def test_step_reads_nothing_it_should_not(xp: ArrayLibrary) -> None:
    """One step from arrays of each variant: it takes rate, indices and masks from device arrays, and consumes state."""
    if xp.variant.mode == "readonly":
        pytest.skip("a step consumes its state")
    from xpnet.optim import init_state
    from xpnet.training import State

    network = MLP_EVERYTHING
    config = TrainConfig(optimizer="adam", clip_norm=1.0, dtype=xp.dtype)
    step = make_step(network, config, xp=xp.xp, batch_size=4, n_steps=3)
    params = [xp(p) for p in network.init_params(dtype="float64")]

    def one(dtype: str) -> Any:
        return xp(np.zeros(1), dtype)

    def fresh(number: int) -> State:
        copies = [xp(p) for p in network.init_params(dtype="float64")]
        running = [xp(a) for a in network.init_running("float64")]
        slots = init_state("adam", copies, xp=xp.xp)
        return State(copies, running, slots, one("int64") + number, one(xp.dtype), one("int64"), one("int64"))

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
