"""The bits of a run do not depend on how many processes train it.

Most of it is asked of teams of threads: what processes add to that, beside their exchange, is in test_faults.py.
"""

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import xpnet
from tests.conftest import open_backend
from tests.promises.resuming import StopAt, assert_same, result
from tests.team_of_threads import ThreadTeam, on_threads
from xpnet.cli import main
from xpnet.data import read, write_idx
from xpnet.data.formats import idx
from xpnet.optim import OPTIMIZERS, SCHEDULES
from xpnet.training import loader
from xpnet.training.checkpoint import newest_checkpoint
from xpnet.training.evaluate import make_evaluate
from xpnet.training.history import Epoch
from xpnet.training.loader import Loader
from xpnet.training.prepare import prepare
from xpnet.training.run import Run

from .launching import launch, needs_mpi, training

EVERYTHING: dict[str, Any] = {
    "hidden": (12, 7),
    "batch_size": 45,  # 264 examples: shards of five or six rows, and a last batch of 39
    "shards": 8,
    "epochs": 3,
    "optimizer": "adamw",
    "batch_norm": True,
    "dropout": 0.2,
    "input_dropout": 0.1,
    "augment": {"rotation": 10, "alpha": 5},
    "clip_norm": 0.5,
    "max_norm": 1.0,
    "average": 0.9,
    "class_weight": "balanced",
    "label_smoothing": 0.1,
    "schedule": "one-cycle",
    "validation": 0.2,
    "early_stopping": 2,
    "checkpoint_every": 4,
}
# A last batch of 10.
EMPTY_SHARDS: dict[str, Any] = {"hidden": (9,), "batch_size": 64, "shards": 16, "dropout": 0.3, "epochs": 2}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One BLAS thread, whichever thread of the team is done first; and no picture, which takes longer than the rest."""
    monkeypatch.setattr("xpnet.training.directory.RunDirectory._draw", lambda *_: None)
    with threadpool_limits(1):
        yield


def trained(
    out: Path,
    size: int,
    data: xpnet.Dataset,
    settings: dict[str, Any],
    callbacks: Callable[[int], list[xpnet.Callback]] = lambda rank: [],
    **options: Any,
) -> tuple[dict[str, Any], xpnet.Result]:
    """What a team of threads writes, and what fit returns to all of them.   callbacks : of a rank; options : of fit."""
    config = xpnet.TrainConfig(**{"device": "cpu"} | settings)
    network = config.network(data.n_features, data.n_outputs, data.task)

    def train(team: ThreadTeam) -> xpnet.Result:
        mine = callbacks(team.rank)
        return xpnet.fit(network, data, config, out=out, team=team, progress=False, callbacks=mine, **options)

    results = on_threads(size, train)
    for other in results[1:]:
        assert_same(other, results[0])
    return result(out), results[0]


def assert_same_bits(
    tmp_path: Path, data: xpnet.Dataset, settings: dict[str, Any], sizes: Sequence[int] = (1, 2, 4, 8), **options: Any
) -> xpnet.Result:
    """A run is the same, file by file and array by array, for each number of processes; returns its result."""
    wanted, one = trained(tmp_path / f"of-{sizes[0]}", sizes[0], data, settings, **options)
    for size in sizes[1:]:
        found, _ = trained(tmp_path / f"of-{size}", size, data, settings, **options)
        assert found == wanted, f"{size} processes"
    return one


# --- the bits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["numpy", "array-api-strict", "torch"])
@pytest.mark.parametrize("settings", [EVERYTHING, EMPTY_SHARDS], ids=["everything", "empty shards"])
def test_everything_at_once(tmp_path: Path, small_data: xpnet.Dataset, library: str, settings: dict[str, Any]) -> None:
    open_backend(library)
    weights = np.random.default_rng(1).random(330)
    sizes = (1, 2, 4, 8) if library == "numpy" else (1, 4)
    assert_same_bits(tmp_path, small_data, settings | {"library": library}, sizes, sample_weight=weights)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"hidden": (5,), "batch_size": "full", "shards": 2, "epochs": 2, "dropout": 0.2}, (1, 2)),
        pytest.param(EVERYTHING | {"epochs": 1, "shards": 4}, (1, 4), marks=pytest.mark.slow),
        pytest.param(EMPTY_SHARDS | {"epochs": 1}, (1, 4), marks=pytest.mark.slow),
    ],
    ids=["little", "everything", "empty shards"],
)
def test_everything_at_once_with_jax(
    tmp_path: Path, small_data: xpnet.Dataset, settings: dict[str, Any], sizes: Sequence[int]
) -> None:
    """It compiles the shards, their sum and the change of the state apart, and so the same for all processes."""
    open_backend("jax")
    assert_same_bits(tmp_path, small_data, settings | {"library": "jax"}, sizes)


@pytest.mark.parametrize("task", ["regression", "multilabel", "mse-softmax"])
def test_each_task(tmp_path: Path, task: str) -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(210, 5))
    y = np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 2])], axis=1)
    if task == "multilabel":
        y = (y > 0).astype(np.float64)
    labels = (y > 0).sum(axis=1) if task == "mse-softmax" else y
    data = xpnet.Dataset.from_arrays(X[:150], labels[:150], test=(X[150:], labels[150:]))
    settings: dict[str, Any] = {"hidden": (8,), "batch_size": 40, "shards": 8, "epochs": 3, "dtype": "float64"}
    settings["loss"] = task if task == "mse-softmax" else None
    assert_same_bits(tmp_path, data, settings | {"test_each_epoch": True, "average": 0.5})


def test_more_examples_than_are_evaluated_at_once(tmp_path: Path) -> None:
    """The slices are dealt out, and added in their order: the figures have the bits of one process without shards."""
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(14300, 4)), rng.integers(0, 3, 14300)
    data = xpnet.Dataset.from_arrays(X[:200], y[:200], test=(X[200:], y[200:]), validation=(X[200:2700], y[200:2700]))
    settings: dict[str, Any] = {"hidden": (6,), "batch_size": 50, "shards": 8, "epochs": 2, "test_each_epoch": True}
    result = assert_same_bits(tmp_path, data, settings)
    network, test = result.model.network, result.history[-1].test_loss
    run, splits = prepare(network, data, result.config, xpnet.select("cpu"))
    alone = make_evaluate(network, run.backend, run.schema.on(np.asarray))
    held_out = Loader(splits["test"], run.backend)
    assert alone(result.model.params, result.model.running, held_out).loss == test


@pytest.mark.parametrize("batch_norm", [False, True])
def test_data_that_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_norm: bool) -> None:
    """Each shard reads its own stretch of the file, window by window."""
    monkeypatch.setattr(loader, "CHUNK_BYTES", 36 * 16)
    monkeypatch.setattr(loader, "WINDOW_BYTES", 36 * 160)
    monkeypatch.setattr(idx, "MAPPED_SHARE", 0.0)
    rng = np.random.default_rng(0)
    write_idx(tmp_path / "some-images.idx", rng.integers(0, 256, (503, 6, 6), dtype=np.uint8))
    write_idx(tmp_path / "some-labels.idx", rng.integers(0, 3, 503).astype(np.uint8))
    data = read(tmp_path / "some-images.idx")
    assert isinstance(data.train.images, np.memmap)
    settings: dict[str, Any] = {"hidden": (7,), "batch_size": 36, "shards": 8, "epochs": 2, "validation": 0.3}
    settings |= {"batch_norm": batch_norm, "class_weight": "balanced", "augment": {"shift": 1}}
    weights = rng.random(503)
    if batch_norm:
        settings["shards"] = 2
        assert_same_bits(tmp_path, data, settings, (1, 2), sample_weight=weights)
    else:
        assert_same_bits(tmp_path, data, settings | {"checkpoint_every": 3}, sample_weight=weights)


@pytest.mark.parametrize("number", [*range(5), *(pytest.param(n, marks=pytest.mark.slow) for n in range(5, 24))])
def test_settings_at_random(tmp_path: Path, small_data: xpnet.Dataset, number: int) -> None:
    rng = random.Random(number)
    shards = rng.choice([2, 4, 8, 16])
    settings: dict[str, Any] = {
        "hidden": tuple(rng.randrange(1, 30) for _ in range(rng.randrange(4))),
        "activation": rng.choice(["relu", "tanh", "gelu", "sigmoid"]),
        "batch_size": rng.choice(["full", rng.randrange(shards, 331)]),
        "shards": shards,
        "epochs": rng.randrange(1, 4),
        "seed": rng.randrange(1 << 32),
        "dtype": rng.choice(["float32", "float64"]),
        "optimizer": (optimizer := rng.choice(list(OPTIMIZERS))),
        "lr": OPTIMIZERS[optimizer].lr * rng.choice([0.1, 0.5, 1]),
        "schedule": rng.choice(list(SCHEDULES)),
        "loss": rng.choice(["cross-entropy", "mse-sigmoid", "mse"]),
        "on_nonfinite": "rollback",
    }
    choices: dict[str, list[Any]] = {
        "batch_norm": [True],
        "dropout": [0.1, 0.5],
        "input_dropout": [0.2],
        "class_weight": ["balanced"],
        "clip_norm": [0.1, 1.0],
        "max_norm": [0.5, 2.0],
        "average": [0.5, 0.99],
        "weight_decay": [0.0, 0.1],
        "augment": [{"rotation": 20}, {"alpha": 4, "shift": 1}],
        "validation": [0.1, 0.5],
        "early_stopping": [1],
        "test_each_epoch": [True],
        "checkpoint_every": [1, 3, "0.001s"],
        "keep": [1, 9],
    }
    settings |= {name: rng.choice(values) for name, values in choices.items() if rng.random() < 0.4}
    if "batch_norm" in settings:  # which cannot use a shard of one row, as a last batch may have
        settings["batch_size"] = "full"
    assert_same_bits(tmp_path, small_data, settings, [size for size in (1, 2, 4, 8, 16) if size <= shards])


# --- what happens within a run ---------------------------------------------------------------------------------------


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks are called after each step."""
    monkeypatch.setattr("xpnet.training.epochs.STEPS_PER_CALL", 1)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=pytest.mark.slow)])
def test_resumed_with_another_number(tmp_path: Path, small_data: xpnet.Dataset, library: str) -> None:
    """Stopped between epochs and within them; one rank asks for it, and all stop after the same step."""
    open_backend(library)
    settings = EVERYTHING | {"library": library, "early_stopping": 9}
    whole, _ = trained(tmp_path / "whole", 2, small_data, settings)
    out = tmp_path / "run"
    # Of 6 steps an epoch, 4 are one call, since then a checkpoint is due.
    for size, stop, step in ((4, (1, 3), 4), (1, (1, 5), 5), (8, (2,), 12), (2, (3, 2), 16), (1, (3, 5), 17)):

        def stopping(rank: int, size: int = size, stop: tuple[int, ...] = stop) -> list[xpnet.Callback]:
            return [StopAt(*stop)] if rank == size - 1 else []

        _, part = trained(out, size, small_data, settings, stopping, resume=True)
        assert part.stop_reason == "as the test wants it"
        newest, _ = newest_checkpoint(out / "checkpoints")
        assert newest is not None
        assert newest.step == step
    found, _ = trained(out, 4, small_data, settings, resume=True)
    assert found == whole


def test_continued_without_shards_it_is_another_run(tmp_path: Path, small_data: xpnet.Dataset) -> None:
    """Left to the number of processes, shards would be another number: it is named, and the run left as it is."""
    settings = {key: value for key, value in EMPTY_SHARDS.items() if key != "shards"}
    before, _ = trained(tmp_path, 4, small_data, settings)
    with pytest.raises(xpnet.ConfigError, match="this one has shards 4, not 2; start a new run"):
        trained(tmp_path, 2, small_data, settings, resume=True)
    assert result(tmp_path) == before
    assert before["config"].count("shards = 4") == 1


def test_shards_need_no_team(tmp_path: Path, small_data: xpnet.Dataset) -> None:
    """And one shard is no other run than there was before there were any."""
    assert_same_bits(tmp_path, small_data, EMPTY_SHARDS, (1, 2))
    config = xpnet.TrainConfig(device="cpu", **EMPTY_SHARDS)
    xpnet.fit(config.network(36, 3), small_data, config, out=tmp_path / "alone", progress=False)
    assert result(tmp_path / "alone") == result(tmp_path / "of-2")
    plain = {key: value for key, value in EMPTY_SHARDS.items() if key != "shards"}
    one, _ = trained(tmp_path / "one", 1, small_data, plain | {"shards": 1})
    unset, _ = trained(tmp_path / "unset", 1, small_data, plain)
    assert one == unset
    assert one["model"] != result(tmp_path / "alone")["model"]


def test_all_roll_back(tmp_path: Path, small_data: xpnet.Dataset) -> None:
    settings: dict[str, Any] = {"hidden": (9,), "batch_size": 32, "shards": 4, "epochs": 3, "lr": 0.6}
    settings |= {"loss": "mse", "activation": "identity", "schedule": "constant", "on_nonfinite": "rollback"}
    settings["clip_norm"] = 1e30
    one = assert_same_bits(tmp_path, small_data, settings, (1, 2, 4))
    assert one.history[-1].learning_rate < 0.6
    with pytest.raises(xpnet.NonFiniteError, match="3 rollbacks did not help"):
        trained(tmp_path / "hopeless", 2, small_data, settings | {"lr": 1e30})


class Recorder(xpnet.Callback):
    """Notes what it is called for."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_start(self, run: Run) -> None:
        self.calls.append("start")

    def on_steps(self, run: Run) -> None:
        self.calls.append(run.done)

    def on_epoch(self, run: Run) -> None:
        self.calls.append(dataclasses.replace(run.history[-1], seconds=0.0, samples_per_second=0.0))

    def on_checkpoint(self, run: Run) -> None:
        assert run.checkpoint is not None
        self.calls.append({name: array.tobytes() for name, array in run.checkpoint.arrays.items()})

    def on_end(self, run: Run) -> None:
        self.calls.append("end")


@pytest.mark.usefixtures("every_step")
def test_callbacks_are_called_on_every_process(tmp_path: Path, small_data: xpnet.Dataset) -> None:
    """And have the same to see, the state in a checkpoint included."""
    recorders = [Recorder() for _ in range(4)]
    trained(tmp_path, 4, small_data, EVERYTHING, lambda rank: [recorders[rank]])
    assert [call for call in recorders[0].calls if not isinstance(call, dict | Epoch)] == [
        "start",
        *[4, 5, 6] * 3,
        "end",
    ]
    assert len([call for call in recorders[0].calls if isinstance(call, dict)]) == 6
    assert all(other.calls == recorders[0].calls for other in recorders[1:])


def test_early_stopping_among_the_callbacks(tmp_path: Path, small_data: xpnet.Dataset) -> None:
    noise = xpnet.Split(small_data.train.images, np.random.default_rng(0).integers(0, 3, 330).astype(np.int32))
    data = dataclasses.replace(small_data, train=noise)
    settings: dict[str, Any] = {"validation": 0.3, "epochs": 50, "optimizer": "adam", "lr": 0.02, "shards": 4}
    one = assert_same_bits(tmp_path, data, settings, (1, 4), callbacks=lambda _: [xpnet.EarlyStopping(2)])
    assert one.model_epoch < len(one.history) < 50


def test_the_first_clock_decides_on_checkpoints(
    tmp_path: Path, small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is due at every step by the clock of the others, and none by the first one's."""
    first: list[int] = []

    def clock() -> float:
        if threading.get_ident() in first:
            return 0.0
        return time.perf_counter() * 1e6

    class First(xpnet.Callback):
        def on_start(self, run: Run) -> None:
            if run.team.rank == 0:
                first.append(threading.get_ident())

    monkeypatch.setattr("xpnet.training.epochs.time.monotonic", clock)
    recorders = [Recorder() for _ in range(2)]
    settings = EMPTY_SHARDS | {"checkpoint_every": "10s"}
    trained(tmp_path, 2, small_data, settings, lambda rank: [First(), recorders[rank]])
    for recorder in recorders:
        assert len([call for call in recorder.calls if isinstance(call, dict)]) == 2, "after each epoch"


# --- processes -------------------------------------------------------------------------------------------------------


@needs_mpi
@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize(
    ("sizes", "library"),
    [
        ((1, 2, 4), "numpy"),
        *(pytest.param((1, 2), name, marks=pytest.mark.slow) for name in ("array-api-strict", "torch", "jax")),
    ],
)
def test_processes_have_the_bits_of_one(patterns: str, sizes: Sequence[int], library: str) -> None:
    """As a user starts them. Two seeds, a teacher, and a log for TensorBoard, which the first process alone writes."""
    open_backend(library)
    pytest.importorskip("tensorboardX", reason="tensorboardX, of the extra [tensorboard], is not installed")
    arguments = ["--data", patterns, "--device", "cpu", "--library", library, "--quiet", "--hidden", "12", "7"]
    arguments += ["--batch-size", "45", "--shards", "4", "--epochs", "2", "--optimizer", "adamw", "--batch-norm"]
    arguments += ["--dropout", "0.2", "--input-dropout", "0.1", "--augment", "rotation=10", "--clip-norm", "0.5"]
    arguments += ["--max-norm", "1", "--average", "0.9", "--class-weight", "balanced", "--validation", "0.2"]
    arguments += ["--early-stopping", "2", "--checkpoint-every", "4"]
    several = ["--seeds", "2", "--log", "tensorboard", "--teacher", "teacher"] if library == "numpy" else []
    assert main(["train", "--data", patterns, "--device", "cpu", "--epochs", "1", "--out", "teacher", "--quiet"]) == 0
    said, found = {}, {}
    for size in sizes:
        out = f"of-{size}"
        status, text, err = launch(size, training(*arguments, *several, "--out", out))
        assert (status, err) == (0, ""), err
        said[size] = text.replace(out, "...")
        folders = [Path(out, f"seed-{seed}") for seed in (0, 1)] if several else [Path(out)]
        found[size] = [result(folder) for folder in folders]
        if several:
            assert all(len(list(folder.glob("train/events.out.tfevents.*"))) == 1 for folder in folders)
    assert all(each == said[1] for each in said.values()), said
    assert all(each == found[1] for each in found.values())
