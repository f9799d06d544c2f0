"""fit(checkpoint=...): a run that was stopped and goes on ends with the same bits as one that never stopped."""

import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.checkpoint import read_checkpoint, write_checkpoint
from xpnet.history import read_history

SETTINGS: list[dict[str, Any]] = [
    {"optimizer": "sgd"},
    {"optimizer": "nesterov", "dropout": 0.2, "input_dropout": 0.1, "schedule": "one-cycle"},
    {"optimizer": "adam", "batch_norm": True, "average": 0.9, "augment": {"rotation": 10, "alpha": 5}, "max_norm": 1.0},
]


class StopAt(xpnet.Callback):
    """Ends the run after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, run: Any) -> None:
        if run.history[-1].epoch == self.epoch:
            run.stop("as the test wants it")


@pytest.fixture
def train(small_data: xpnet.Dataset) -> Callable[..., xpnet.Result]:
    def run(stop: int = 0, data: xpnet.Dataset = small_data, **settings: Any) -> xpnet.Result:
        names = {field.name for field in dataclasses.fields(xpnet.TrainConfig)}
        config = xpnet.TrainConfig(
            **{"hidden": (7,), "epochs": 4, "batch_size": 50, "device": "cpu"}
            | {name: value for name, value in settings.items() if name in names}
        )
        options = {name: value for name, value in settings.items() if name not in names}
        return xpnet.fit(config.network(36, 3), data, config, callbacks=[StopAt(stop)], **options)

    return run


def arrays(result: xpnet.Result) -> list[np.ndarray]:
    return [result.model.backend.to_host(a) for a in (*result.model.params, *result.model.running)]


def figures(result: xpnet.Result) -> list[Any]:
    return [dataclasses.replace(epoch, seconds=0.0, samples_per_second=0.0) for epoch in result.history]


@pytest.mark.parametrize("library", ["numpy", pytest.param("cupy", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings["optimizer"])
def test_same_bits_as_without_a_stop(
    train: Callable[..., xpnet.Result], tmp_path: Path, settings: dict[str, Any], library: str
) -> None:
    where = {"library": library, "device": "cuda" if library == "cupy" else "cpu"}
    whole = train(**settings, **where)
    path = tmp_path / "checkpoint"
    for stop in (1, 3):
        assert len(train(stop, checkpoint=path, **settings, **where).history) == stop
    rest = train(checkpoint=path, **settings, **where)
    assert figures(rest) == figures(whole)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(rest), arrays(whole), strict=True))


def test_the_first_run_writes_it_and_a_finished_one_does_nothing_more(
    train: Callable[..., xpnet.Result], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    whole = train(checkpoint=path)
    content = path.read_bytes()
    again = train(checkpoint=path)
    assert path.read_bytes() == content
    assert again.history == whole.history
    assert again.model_epoch == 4
    assert all(np.array_equal(a, b) for a, b in zip(arrays(again), arrays(whole), strict=True))


def test_on_another_library_it_goes_on_within_rounding(train: Callable[..., xpnet.Result], tmp_path: Path) -> None:
    settings = SETTINGS[1] | {"dtype": "float64"}
    whole = train(**settings)
    path = tmp_path / "checkpoint"
    train(2, checkpoint=path, **settings)
    rest = train(checkpoint=path, library="array-api-strict", **settings)
    assert all(np.allclose(a, b, rtol=1e-9) for a, b in zip(arrays(rest), arrays(whole), strict=True))


def test_another_run_is_refused_and_the_difference_named(train: Callable[..., xpnet.Result], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    train(1, checkpoint=path)
    content = path.read_bytes()
    with pytest.raises(xpnet.ConfigError, match=r"is of a run with another batch_size, lr;"):
        train(checkpoint=path, lr=0.01, batch_size=20)
    with pytest.raises(xpnet.ConfigError, match="early_stopping cannot go on"):
        train(checkpoint=path, early_stopping=1, validation=0.1)
    with pytest.raises(xpnet.ConfigError, match="there is no directory"):
        train(checkpoint=tmp_path / "missing" / "checkpoint")
    assert path.read_bytes() == content


def test_another_number_of_examples_is_refused(
    train: Callable[..., xpnet.Result], small_data: xpnet.Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    train(1, checkpoint=path)
    fewer = dataclasses.replace(small_data, train=xpnet.Split(*(part[:200] for part in small_data.train)))
    with pytest.raises(xpnet.ConfigError, match=r"330 training examples.*200"):
        train(checkpoint=path, data=fewer)


def test_a_model_is_not_taken_for_a_checkpoint_to_be_deleted(
    train: Callable[..., xpnet.Result], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    train().model.save(path)
    with pytest.raises(xpnet.ModelError) as error:
        train(checkpoint=path)
    assert str(error.value) == f"{path} is no checkpoint of this xpnet; name another file"


def test_the_log_and_the_progress_of_a_run_that_goes_on(
    small_data: xpnet.Dataset, tmp_path: Path, train: Callable[..., xpnet.Result]
) -> None:
    """Epochs before the stop are in the log from the start, and the table on the screen has its head."""
    train(2, checkpoint=tmp_path / "checkpoint")
    log, screen = tmp_path / "history.csv", io.StringIO()
    config = xpnet.TrainConfig(hidden=(7,), epochs=4, batch_size=50, device="cpu")
    seen: list[int] = []

    class Look(xpnet.Callback):
        def on_start(self, run: Any) -> None:
            seen.append(len(read_history(log)))

    callbacks = [xpnet.CSVLog(log), Look(), xpnet.Progress(screen)]
    network = config.network(36, 3)
    xpnet.fit(network, small_data, config, callbacks=callbacks, checkpoint=tmp_path / "checkpoint")
    assert seen == [2]
    head, *lines = screen.getvalue().splitlines()
    assert head.split()[0] == "epoch"
    assert [line.split()[0] for line in lines] == ["3/4", "4/4"]


@pytest.mark.parametrize("damage", ["half", "other format", "no history", "no arrays", "other arrays", "directory"])
def test_a_damaged_one_is_told_in_one_line(train: Callable[..., xpnet.Result], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoint"
    train(1, checkpoint=path)
    kept = read_checkpoint(path)
    match damage:
        case "half":
            path.write_bytes(path.read_bytes()[:-9])
        case "other format":
            path.write_bytes(path.read_bytes().replace(b"xpnet checkpoint 1", b"xpnet checkpoint 9"))
        case "no history":
            path.write_bytes(path.read_bytes().replace(b"history", b"hystory"))
        case "no arrays":
            write_checkpoint(path, kept._replace(arrays={}))
        case "other arrays":
            write_checkpoint(path, kept._replace(arrays={**kept.arrays, "params.0": np.zeros((2, 2))}))
        case "directory":
            path.unlink()
            path.mkdir()
    with pytest.raises(xpnet.ModelError, match=re.escape(str(path))) as error:
        train(checkpoint=path)
    assert "\n" not in str(error.value)
