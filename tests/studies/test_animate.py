"""Films of runs: the run is trained again to the same bits, and looked at where the film says."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.data import load_data
from xpnet.errors import ConfigError, DataError, DeviceError, ModelError
from xpnet.studies import animate as study
from xpnet.studies.animate import animate

pytest.importorskip("matplotlib", reason="the pictures are matplotlib's: pip install '.[plot]'")
image = pytest.importorskip("PIL.Image")


@pytest.fixture
def data(small_data: xpnet.Dataset) -> xpnet.Dataset:
    """Images with an odd name of a class."""
    return dataclasses.replace(small_data, classes=("a", "b\n\x1b", "c"), task="auto")


def trained(data: xpnet.Dataset, out: Path, hidden: tuple[int, ...] = (8,), **settings: Any) -> xpnet.Model:
    about = {name: settings.pop(name) for name in ("batch_norm", "dropout", "loss") if name in settings}
    network = xpnet.MLP((data.n_features, *hidden, data.n_outputs), **about)
    settings = {"epochs": 3, "batch_size": 100, "device": "cpu", "progress": False, **settings}
    return xpnet.fit(network, data, out=out, **settings).model


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films of one small picture, for tests of what they show."""
    monkeypatch.setattr(study, "film", lambda scenes: iter([np.zeros((4, 4, 3), np.uint8)] * 2))


@given(last=st.integers(1, 10**6), frames=st.integers(2, 300))
def test_steps_rise_from_the_first_to_the_last(last: int, frames: int) -> None:
    steps = study._steps(last, frames)
    assert (steps[0], steps[-1], len(steps)) == (0, last, min(frames, last + 1))
    assert (np.diff(steps) > 0).all()
    if last > 10 * frames > 100:
        assert np.diff(steps)[-1] > 10 * np.diff(steps)[0], "the early steps are not shown more closely"


def test_a_film_of_a_run(data: xpnet.Dataset, tmp_path: Path) -> None:
    model = trained(data, tmp_path / "run")
    calls: list[tuple[str, int, int | None]] = []
    made = animate(tmp_path / "run", tmp_path / "x.gif", data=data, frames=6, report=lambda *call: calls.append(call))
    assert made.difference == 0.0
    scenes = made.scenes
    assert scenes.steps.tolist() == [0, 1, 2, 3, 6, 12]
    assert scenes.n_steps == 4
    assert list(scenes.losses) == list(scenes.scores) == ["train", "test"]
    assert data.test is not None
    scores = model.evaluate(*data.test)
    assert (scenes.losses["test"][-1], scenes.scores["test"][-1]) == tuple(scores)
    assert scenes.losses["train"][0] > scenes.losses["train"][-1]
    assert scenes.filters is not None
    assert scenes.filters.shape == (6, 8, 6, 6)
    W = model.backend.to_host(model.params[0])
    largest = np.linalg.norm(W, axis=0).argmax()
    assert np.array_equal(scenes.filters[-1, 0], W[:, largest].reshape(6, 6))
    assert not np.array_equal(scenes.filters[0], scenes.filters[-1])
    assert (scenes.plane, scenes.layer) == (None, "last hidden layer, test data")
    assert list(scenes.names) == ["a", "b\n\x1b", "c"]
    assert np.array_equal(scenes.targets, data.test.targets)
    with image.open(tmp_path / "x.gif") as film:
        assert film.n_frames == 6
    assert calls[0] == ("training", 0, 12)
    assert ("training", 12, 12) in calls
    assert calls[-1] == ("drawing", 6, 6)


def test_the_projection_is_the_last_epochs_principal_components(
    data: xpnet.Dataset, tmp_path: Path, quick: None
) -> None:
    model = trained(data, tmp_path / "run", (9, 7))
    made = animate(tmp_path / "run", tmp_path / "x.gif", data=data, frames=4)
    points = made.scenes.projection
    assert points is not None
    assert data.test is not None
    W0, b0, W1, b1, *_ = map(model.backend.to_host, model.params)
    x = data.test.images.reshape(-1, 36) / np.float32(255)
    hidden = np.maximum(np.maximum(x @ W0 + b0, 0) @ W1 + b1, 0).astype(np.float64)
    centred = hidden - hidden.mean(axis=0)
    _, sizes, components = np.linalg.svd(centred)
    expected = centred @ components[:2].T
    signs = np.sign((expected * points[-1]).sum(axis=0))
    np.testing.assert_allclose(points[-1], expected * signs, atol=1e-4)
    assert np.linalg.norm(points[-1], axis=0) == pytest.approx(sizes[:2], rel=1e-4)
    assert not np.allclose(points[0], points[-1])


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_norm": True, "dropout": 0.3, "average": 0.9, "optimizer": "adam", "schedule": "step"},
        {"augment": xpnet.Distortion(shift=1.0), "class_weight": "balanced", "dtype": "float64"},
        {"validation": 0.2, "early_stopping": 1, "epochs": 30, "lr": 3.0},
        {"hidden": (), "validation": 50, "loss": "mse", "test_each_epoch": True},
        {"hidden": (1,), "batch_size": "full", "max_norm": 1.0, "clip_norm": 0.5},
    ],
    ids=["normalised", "distorted", "stopped", "linear", "narrow"],
)
def test_every_run_is_repeated_bit_for_bit(
    data: xpnet.Dataset, tmp_path: Path, quick: None, settings: dict[str, Any]
) -> None:
    model = trained(data, tmp_path / "run", **settings)
    made = animate(tmp_path / "run", tmp_path / "x.gif", data=data, frames=5)
    assert made.difference == 0.0
    assert data.test is not None
    shown = ["train", *["validation"] * ("validation" in settings)]
    if "validation" not in settings or "test_each_epoch" in settings:
        shown.append("test")
        assert made.scenes.scores["test"][-1] == model.evaluate(*data.test).accuracy
    assert list(made.scenes.scores) == list(made.scenes.losses) == shown, "the test split is read for nothing"
    assert made.scenes.projection is not None
    assert made.scenes.projection.shape[1:] == (60 if "test" in shown else 66, 2)


def test_a_run_that_went_other_ways_says_how_far_it_is(data: xpnet.Dataset, tmp_path: Path, quick: None) -> None:
    trained(data, tmp_path / "run", epochs=1)
    network = xpnet.load(tmp_path / "run").network
    xpnet.fit(network, data, out=tmp_path / "run", resume=True, epochs=2, batch_size=100, device="cpu", progress=False)
    made = animate(tmp_path / "run", tmp_path / "x.gif", data=data, frames=3)
    assert 0 < made.difference < 1, "the first epoch's rates fell to 0 when it was the only one"
    with pytest.raises(ConfigError, match=r"x\.gif exists"):
        animate(tmp_path / "run", tmp_path / "x.gif", data=data, frames=3)
    other = animate(tmp_path / "run", tmp_path / "x.gif", data=data, frames=3, library="array-api-strict", force=True)
    assert other.difference == pytest.approx(made.difference, rel=0.01)


@pytest.mark.cuda
def test_a_run_is_repeated_on_a_gpu(data: xpnet.Dataset, tmp_path: Path, quick: None) -> None:
    trained(data, tmp_path / "run", device="cuda", validation=0.2)
    assert animate(tmp_path / "run", tmp_path / "x.gif", data=data, frames=4).difference == 0.0
    moved = animate(tmp_path / "run", tmp_path / "y.gif", data=data, frames=4, device="cpu")
    assert moved.difference < 1e-3


def test_a_run_that_started_from_a_model(small_data: xpnet.Dataset, tmp_path: Path, quick: None) -> None:
    start, path = trained(small_data, tmp_path / "start"), str(tmp_path / "start")
    settings: dict[str, Any] = {"epochs": 2, "device": "cpu", "progress": False}
    xpnet.fit(start, small_data, xpnet.TrainConfig(start=path), out=tmp_path / "run", **settings)
    made = animate(tmp_path / "run", tmp_path / "x.gif", data=small_data, frames=3)
    assert made.difference == 0.0
    assert made.scenes.losses["train"][0] < 0.9, "it does not start from the model"


def test_points_of_two_features(tmp_path: Path) -> None:
    toy = load_data("moons")
    model = trained(toy, tmp_path / "run", epochs=2)
    made = animate(tmp_path / "run", tmp_path / "x.webp", frames=4, seconds=2)
    assert made.difference == 0.0
    plane = made.scenes.plane
    assert plane is not None
    assert made.scenes.filters is None
    assert plane.columns == ("x1", "x2")
    assert list(made.scenes.names) == ["upper", "lower"]
    assert len(plane.points) == 1000
    x0, x1, y0, y1 = plane.extent
    corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], np.float32)
    shown = plane.outputs[-1][[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(shown, model.outputs(corners), atol=2e-3)
    with image.open(tmp_path / "x.webp") as film:
        assert film.n_frames == 4
        first = np.asarray(film.convert("RGB"))
        film.seek(3)
        assert not np.array_equal(first, np.asarray(film.convert("RGB")))


def test_numbers_are_learned_in_films_too(tmp_path: Path, quick: None) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 2))
    pair = (X, 1e6 + 1e5 * X[:, 0] * X[:, 1])
    network = xpnet.MLP((2, 8, 1), loss="squared-error")
    xpnet.fit(network, pair, out=tmp_path / "run", epochs=2, device="cpu", progress=False)
    made = animate(tmp_path / "run", tmp_path / "x.gif", data=pair, frames=3)
    assert (made.difference, made.scenes.metric, list(made.scenes.names)) == (0.0, "r2", [])
    assert made.scenes.plane is not None
    assert np.isfinite(made.scenes.plane.outputs).all()
    assert made.scenes.targets.tolist() == pair[1].tolist()
    two = (X, np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int))
    network = xpnet.MLP((2, 8, 2), loss="binary-cross-entropy")
    xpnet.fit(network, two, out=tmp_path / "several", epochs=2, device="cpu", progress=False)
    made = animate(tmp_path / "several", tmp_path / "y.gif", data=two, frames=3)
    assert (made.difference, made.scenes.plane) == (0.0, None)
    assert made.scenes.names == ["none", "1", "0", "0, 1"]
    drawn = np.array(made.scenes.names)[made.scenes.targets].tolist()
    both = [", ".join(str(k) for k in range(2) if row[k]) or "none" for row in two[1]]
    assert drawn == [both[i] for i in np.linspace(0, 299, len(drawn)).astype(int)]


def test_what_there_is_not(data: xpnet.Dataset, tmp_path: Path, quick: None) -> None:
    run = tmp_path / "run"
    trained(data, run)
    for what, message in (
        ("boundary", "a film of its boundary needs data of two features, but its examples have 36"),
        (["projection", "bondary"], r"what: unknown value 'bondary'; did you mean 'boundary'\?"),
    ):
        with pytest.raises(ConfigError, match=message):
            animate(run, tmp_path / "x.gif", what=what, data=data)
    made = animate(run, tmp_path / "x.gif", what="projection", data=data, frames=2)
    assert (made.scenes.filters is None, made.scenes.projection is None) == (True, False)
    trained(load_data("xor"), tmp_path / "toy", epochs=1)
    with pytest.raises(ConfigError, match="filters needs images, but its examples are rows"):
        animate(tmp_path / "toy", tmp_path / "y.gif", what="filters")


def test_what_cannot_be_filmed(data: xpnet.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, out = tmp_path / "run", tmp_path / "x.gif"
    trained(data, run)
    for bad, message in (
        ({"frames": 1}, r"frames must be in \[2, 300\]"),
        ({"frames": 301}, "frames must be"),
        ({"seconds": 0}, "seconds must be"),
        ({"file": tmp_path / "x.mp4"}, r"x\.mp4: a film's file ends in one of \.gif, \.webp"),
        ({"run": run / "model.safetensors"}, "is a file: a film trains again"),
    ):
        with pytest.raises(ConfigError, match=message):
            animate(**{"run": run, "file": out, "data": data, **bad})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"run needs the data that it was trained on: unknown data 'patterns'.*--data"):
        animate(run, out)
    with pytest.raises(ModelError, match="nowhere: no such file"):
        animate(tmp_path / "nowhere", out)
    with pytest.raises(DeviceError):
        animate(run, out, device="cuda:77", data=data)
    (run / "history.csv").write_text((run / "history.csv").read_text(encoding="utf-8").split("\n")[0] + "\n")
    with pytest.raises(ModelError, match="no finished epoch"):
        animate(run, out, data=data)
    (run / "config.toml").unlink()
    with pytest.raises(ModelError, match=r"run holds no config\.toml, so there are no settings"):
        animate(run, out, data=data)
    assert not out.exists()
    assert "training" not in caplog.text


def test_large_pictures_are_thinned_out(tmp_path: Path, quick: None) -> None:
    rng = np.random.default_rng(0)
    pair = (rng.integers(0, 256, (60, 70, 130)).astype(np.uint8), np.arange(60) % 2)
    xpnet.fit(xpnet.MLP((70 * 130, 4, 2)), pair, out=tmp_path / "run", epochs=1, device="cpu", progress=False)
    made = animate(tmp_path / "run", tmp_path / "x.gif", data=pair, frames=2)
    assert made.scenes.filters is not None
    assert made.scenes.filters.shape == (2, 4, 24, 44)


def test_how_long_it_takes_is_said(
    data: xpnet.Dataset, tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    trained(data, tmp_path / "run")
    with caplog.at_level(logging.INFO, "xpnet"):
        animate(tmp_path / "run", tmp_path / "x.gif", data=data, frames=2)
    assert f"training {tmp_path / 'run'} again: 3 epochs, which took 0.0" in caplog.text
