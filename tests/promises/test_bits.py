"""A run that was stopped continues to the same bits."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.promises.resuming import SETTINGS, Train, arrays, assert_same
from xpnet.training.checkpoint import newest_checkpoint
from xpnet.training.history import read_history
from xpnet.training.loader import Loader


@pytest.mark.parametrize(
    ("settings", "library"),
    [
        *((settings, "numpy") for settings in SETTINGS),
        *(pytest.param(settings, name, marks=pytest.mark.slow) for settings in SETTINGS for name in ("jax", "torch")),
        *(pytest.param(each, "cupy", marks=[pytest.mark.cuda, pytest.mark.slow]) for each in SETTINGS[:2]),
        pytest.param(SETTINGS[2], "cupy", marks=pytest.mark.cuda),
    ],
    ids=lambda value: value if isinstance(value, str) else value["optimizer"],
)
def test_same_bits_as_without_a_stop(train: Train, tmp_path: Path, settings: dict[str, Any], library: str) -> None:
    """After epochs, within epochs, and once more in the same epoch; with a model of the last finished one meanwhile."""
    pytest.importorskip("array_api_compat" if library == "numpy" else library) if library != "cupy" else None
    where = settings | {"library": library, "device": "cuda" if library == "cupy" else "cpu"}
    whole = train(**where)
    assert len(whole.history) >= 3
    stops: list[int | tuple[int, int]] = [1, (2, 4), (2, 9), (3, 1)]
    for stop in stops:
        part = train(tmp_path, stop, **where)
        epochs = stop if isinstance(stop, int) else stop[0] - 1
        assert len(part.history) == epochs
        model = xpnet.load(tmp_path, device="cpu")
        assert all(np.array_equal(a, b) for a, b in zip(model.params, arrays(part), strict=False))
    assert_same(train(tmp_path, **where), whole)
    assert [epoch.epoch for epoch in read_history(tmp_path)] == [epoch.epoch for epoch in whole.history]


def test_a_finished_run_does_nothing_more(train: Train, tmp_path: Path) -> None:
    whole = train(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    again = train(tmp_path)
    assert again.history == whole.history
    assert_same(again, whole)
    assert {path: path.read_bytes() for path in before} == before


def test_early_stopping_is_not_trained_past(train: Train, tmp_path: Path, small_data: xpnet.Dataset) -> None:
    noise = xpnet.Split(small_data.train.images, np.random.default_rng(0).integers(0, 3, 330).astype(np.int32))
    settings = {
        "data": dataclasses.replace(small_data, train=noise),
        "validation": 0.3,
        "early_stopping": 2,
        "epochs": 200,
        "optimizer": "adam",
        "lr": 0.02,
    }
    whole = train(**settings)
    assert whole.model_epoch < len(whole.history) < 200
    train(tmp_path, whole.model_epoch + 1, **settings)  # the best epoch is behind, and its parameters with it
    assert_same(train(tmp_path, **settings), whole)
    assert_same(train(tmp_path, **settings), whole)  # once more, at its end


def test_early_stopping_among_the_callbacks_goes_on_too(train: Train, tmp_path: Path) -> None:
    def settings() -> dict[str, Any]:
        return {"validation": 0.2, "epochs": 6, "lr": 0.3, "callbacks": [xpnet.EarlyStopping(2)]}

    whole = train(**settings())
    for stop in range(1, 6):
        train(tmp_path, stop, **settings())
    assert_same(train(tmp_path, **settings()), whole)


def test_early_stopping_added_later_brings_back_the_best_epoch_of_all(
    train: Train, tmp_path: Path, small_data: xpnet.Dataset
) -> None:
    noise = xpnet.Split(small_data.train.images, np.random.default_rng(0).integers(0, 3, 330).astype(np.int32))
    settings = {
        "data": dataclasses.replace(small_data, train=noise),
        "validation": 0.3,
        "epochs": 12,
        "optimizer": "adam",
        "lr": 0.02,
        "schedule": "constant",
    }
    alone = train(**settings)
    losses = [epoch.validation_loss or 0.0 for epoch in alone.history]
    best = int(np.argmin(losses)) + 1
    assert best < 10
    train(tmp_path, best + 1, **settings)
    stopped = train(tmp_path, callbacks=[xpnet.EarlyStopping(12)], **settings)
    assert len(stopped.history) == 12
    assert stopped.model_epoch == best
    assert_same(stopped._replace(stop_reason=None), train(callbacks=[xpnet.EarlyStopping(12)], **settings))


def test_a_directory_among_the_callbacks_is_one_like_out(
    train: Train, tmp_path: Path, small_data: xpnet.Dataset
) -> None:
    def settings() -> dict[str, Any]:
        directory = xpnet.RunDirectory(tmp_path, resume=True)
        return {"validation": 0.2, "early_stopping": 2, "lr": 0.3, "callbacks": [directory]}

    whole = train(**settings() | {"callbacks": []})
    train(None, 2, **settings())
    assert_same(train(None, **settings()), whole)
    assert np.array_equal(xpnet.load(tmp_path, device="cpu").params[0], arrays(whole)[0])
    fewer = dataclasses.replace(small_data, train=xpnet.Split(*(part[:200] for part in small_data.train)))
    with pytest.raises(xpnet.ConfigError, match="other data"):
        train(None, data=fewer, **settings())


def test_epochs_may_grow(train: Train, tmp_path: Path) -> None:
    whole = train(epochs=6, schedule="constant")
    train(tmp_path, schedule="constant")
    assert_same(train(tmp_path, epochs=6, schedule="constant"), whole)
    with pytest.raises(xpnet.ConfigError, match="epochs must be at least 6, the number already finished"):
        train(tmp_path, epochs=5, schedule="constant")


def test_on_another_library_it_goes_on_within_rounding(train: Train, tmp_path: Path) -> None:
    settings = SETTINGS[1] | {"dtype": "float64"}
    whole = train(**settings)
    train(tmp_path, (3, 5), **settings)
    rest = train(tmp_path, library="array-api-strict", **settings)
    assert all(np.allclose(a, b, rtol=1e-9) for a, b in zip(arrays(rest), arrays(whole), strict=True))


def test_streamed_images_go_on_within_a_window(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that were trained on are skipped, and drawn all the same; memory that is free by then changes nothing."""
    monkeypatch.setattr("xpnet.training.loader.CHUNK_BYTES", 36 * 20)
    monkeypatch.setattr("xpnet.training.loader.WINDOW_BYTES", 36 * 80)
    monkeypatch.setattr("xpnet.backend._numpy.NumpyBackend.free_memory", lambda _: 0)
    whole = train(checkpoint_every=1)
    for stop in ((1, 3), (1, 4), (2, 9), (2, 14), 3):
        train(tmp_path, stop, checkpoint_every=1)
    newest, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.streamed
    monkeypatch.undo()
    monkeypatch.setattr("xpnet.training.loader.CHUNK_BYTES", 36 * 20)
    monkeypatch.setattr("xpnet.training.loader.WINDOW_BYTES", 36 * 80)
    assert_same(train(tmp_path, checkpoint_every=1), whole)


def test_windows_are_skipped_unread(small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnet.training.loader.CHUNK_BYTES", 36 * 20)
    monkeypatch.setattr("xpnet.training.loader.WINDOW_BYTES", 36 * 80)
    from xpnet.training.loader import Examples

    loader = Loader(Examples(*small_data.train), xpnet.select("cpu"), 20, streamed=True)
    windows = list(loader.shuffled(np.random.default_rng(0)))
    assert len(windows) == 5
    rest = list(loader.shuffled(np.random.default_rng(0), skip=3))
    assert len(rest) == 2
    for window, same in zip(windows[3:], rest, strict=True):
        assert np.array_equal(window.images, same.images)
        assert window.order is not None
        assert same.order is not None
        assert np.array_equal(window.order, same.order)
