"""A run that was stopped goes on to the same bits, from its newest checkpoint that is whole."""

import dataclasses
import hashlib
import io
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.promises.faults import Faults
from xpnet.training import checkpoint
from xpnet.training.checkpoint import checkpoints, newest_checkpoint, read_checkpoint, write_checkpoint
from xpnet.training.history import Epoch, read_history
from xpnet.training.loader import Loader
from xpnet.training.prepare import fingerprint
from xpnet.training.run import Run

SETTINGS: list[dict[str, Any]] = [
    {"optimizer": "sgd", "checkpoint_every": 1},
    {"optimizer": "nesterov", "dropout": 0.2, "input_dropout": 0.1, "schedule": "one-cycle", "checkpoint_every": 3},
    {
        "optimizer": "adam",
        "batch_norm": True,
        "average": 0.9,
        "augment": {"rotation": 10, "alpha": 5},
        "max_norm": 1.0,
        "validation": 0.2,
        "early_stopping": 3,
        "checkpoint_every": 2,
    },
]


class StopAt(xpnet.Callback):
    """Ends the run after an epoch, or within it, as soon as so many of its steps are done."""

    def __init__(self, epoch: int, steps: int = 0) -> None:
        self.epoch, self.steps = epoch, steps

    def on_steps(self, run: Run) -> None:
        if self.steps and run.epoch == self.epoch and run.done >= self.steps:
            run.stop("as the test wants it", at_once=True)

    def on_epoch(self, run: Run) -> None:
        if not self.steps and run.history[-1].epoch == self.epoch:
            run.stop("as the test wants it")


Train = Callable[..., xpnet.Result]


@pytest.fixture
def train(small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train in a directory, going on with what it holds; stop : an epoch, or an epoch and steps of it."""
    monkeypatch.setattr("xpnet.training.epochs.STEPS_PER_CALL", 1)
    # It takes longer than all the rest.
    monkeypatch.setattr("xpnet.training.directory.RunDirectory._draw", lambda *_: None)

    def run(
        out: Path | None = None, stop: int | tuple[int, int] = 0, data: xpnet.Dataset = small_data, **settings: Any
    ) -> xpnet.Result:
        names = {field.name for field in dataclasses.fields(xpnet.TrainConfig)}
        described: dict[str, Any] = {"hidden": (7,), "epochs": 4, "batch_size": 20, "device": "cpu"}
        described |= {name: value for name, value in settings.items() if name in names}
        config = xpnet.TrainConfig(**described)
        options = {"callbacks": []} | {name: value for name, value in settings.items() if name not in names}
        options["callbacks"] = [*options["callbacks"], StopAt(*stop) if isinstance(stop, tuple) else StopAt(stop)]
        return xpnet.fit(config.network(36, 3), data, config, out=out, resume=out is not None, **options)

    return run


def arrays(result: xpnet.Result) -> list[np.ndarray]:
    return [result.model.backend.to_host(a) for a in (*result.model.params, *result.model.running)]


def figures(result: xpnet.Result) -> list[Epoch]:
    return [dataclasses.replace(epoch, seconds=0.0, samples_per_second=0.0) for epoch in result.history]


def assert_same(one: xpnet.Result, other: xpnet.Result) -> None:
    assert figures(one) == figures(other)
    assert (one.model_epoch, one.stop_reason) == (other.model_epoch, other.stop_reason)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


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


# --- what is refused -------------------------------------------------------------------------------------------------


def test_another_run_is_refused_and_the_difference_named(train: Train, tmp_path: Path) -> None:
    train(tmp_path, 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    with pytest.raises(
        xpnet.ConfigError, match=r"this one has batch_size 20, not 30, and lr 0\.15, not 0\.01; start a new run"
    ):
        train(tmp_path, lr=0.01, batch_size=30)
    with pytest.raises(xpnet.ConfigError, match=r"this one has hidden \[7\], not \[8\]"):
        train(tmp_path, hidden=(8,))
    assert {path: path.read_bytes() for path in before} == before


def test_other_data_is_refused(train: Train, tmp_path: Path, small_data: xpnet.Dataset) -> None:
    train(tmp_path, 1)
    fewer = dataclasses.replace(small_data, train=xpnet.Split(*(part[:200] for part in small_data.train)))
    with pytest.raises(xpnet.ConfigError, match=r"other data: patterns, 330 training examples.*this is.*200 examples"):
        train(tmp_path, data=fewer)
    assert small_data.test is not None
    images = small_data.test.images.copy()
    images[-1, -1, -1] ^= 1
    touched = dataclasses.replace(small_data, test=xpnet.Split(images, small_data.test.labels))
    with pytest.raises(xpnet.ConfigError, match="other data"):
        train(tmp_path, data=touched)
    with pytest.raises(xpnet.ConfigError, match="other data"):
        train(tmp_path, sample_weight=np.ones(330))
    renamed = dataclasses.replace(small_data, name="moved", source="elsewhere")
    assert len(train(tmp_path, data=renamed).history) == 4


def test_a_fingerprint_knows_every_part(small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    test = small_data.test
    sets = [
        small_data,
        dataclasses.replace(small_data, test=None),
        dataclasses.replace(small_data, test=None, validation=test),
        dataclasses.replace(
            small_data, train=xpnet.Split(small_data.train.images, small_data.train.labels[::-1].copy())
        ),
    ]
    found = [fingerprint(data) for data in sets] + [fingerprint(small_data, np.ones(330))]
    assert len(set(found)) == len(found)
    monkeypatch.setattr("xpnet.training.prepare.BLOCK_BYTES", 1000)
    assert fingerprint(small_data) == found[0]


def test_a_run_is_neither_overwritten_nor_resumed_from_nowhere(train: Train, tmp_path: Path) -> None:
    train(tmp_path, 1)
    with pytest.raises(xpnet.ConfigError, match="already holds a run, which is left unchanged"):
        xpnet.fit(xpnet.MLP((36, 3)), small(), out=tmp_path, device="cpu", callbacks=[])
    with pytest.raises(xpnet.ConfigError, match="name it with out"):
        xpnet.fit(xpnet.MLP((36, 3)), small(), resume=True, device="cpu", callbacks=[])


@pytest.mark.parametrize("lost", ["never kept", "removed", "history too"])
def test_a_trained_run_without_a_checkpoint_is_refused_and_left_as_it_is(
    train: Train, tmp_path: Path, lost: str
) -> None:
    train(tmp_path, keep=0 if lost == "never kept" else 2)
    shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
    if lost == "history too":
        (tmp_path / "history.csv").unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for epochs in (4, 6):
        with pytest.raises(xpnet.ModelError, match="holds a trained run, but no checkpoint to continue it from"):
            train(tmp_path, epochs=epochs)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["config.toml", "history.csv", "model.safetensors", "checkpoints"])
def test_files_of_somebody_else_s_are_left_as_they_are(train: Train, tmp_path: Path, name: str) -> None:
    """Whether a run is to be begun there or continued."""
    (tmp_path / name).write_text("theirs = true")
    with pytest.raises(xpnet.ConfigError, match="already holds a run, which is left unchanged"):
        xpnet.fit(xpnet.MLP((36, 3)), small(), out=tmp_path, device="cpu", callbacks=[])
    if name != "checkpoints":
        with pytest.raises(xpnet.ModelError, match=r"holds no run to continue|holds a trained run|is not the history"):
            train(tmp_path)
    assert (tmp_path / name).read_text() == "theirs = true"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_that_ended_before_its_first_epoch_starts_again(train: Train, tmp_path: Path) -> None:
    """Its history is empty, and its model has the first parameters: nothing can be lost."""

    class Fail(xpnet.Callback):
        def on_steps(self, run: Run) -> None:
            raise RuntimeError("as the test wants it")

    with pytest.raises(RuntimeError):
        train(tmp_path, callbacks=[Fail()])
    assert (tmp_path / "model.safetensors").exists()
    assert_same(train(tmp_path), train())


def small() -> xpnet.Dataset:
    images = np.zeros((20, 6, 6), np.uint8)
    return xpnet.Dataset("blank", xpnet.Split(images, (np.arange(20) % 3).astype(np.int32)), n_classes=3)


def test_the_log_and_the_progress_of_a_run_that_goes_on(train: Train, tmp_path: Path) -> None:
    """Epochs before the stop are in the log from the start, and the table on the screen has its head."""
    train(tmp_path / "run", 2)
    log, screen = tmp_path / "history.csv", io.StringIO()
    seen: list[int] = []

    class Look(xpnet.Callback):
        def on_start(self, run: Run) -> None:
            seen.append(len(read_history(log)))

    train(tmp_path / "run", callbacks=[xpnet.CSVLog(log), Look(), xpnet.Progress(screen)])
    assert seen == [2]
    head, *lines = screen.getvalue().splitlines()
    assert head.split()[0] == "epoch"
    assert [line.split()[0] for line in lines] == ["3/4", "4/4"]


# --- which are kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "kept"), [(0, []), (1, [68]), (2, [51, 68]), (9, [17, 34, 51, 68])])
def test_the_newest_are_kept(train: Train, tmp_path: Path, keep: int, kept: list[int]) -> None:
    train(tmp_path, keep=keep)
    assert sorted(checkpoints(tmp_path / "checkpoints")) == kept


def test_the_best_is_kept_too(train: Train, tmp_path: Path, small_data: xpnet.Dataset) -> None:
    noise = xpnet.Split(small_data.train.images, np.random.default_rng(0).integers(0, 3, 330).astype(np.int32))
    data = dataclasses.replace(small_data, train=noise, validation=small_data.test)
    result = train(tmp_path, data=data, epochs=20, optimizer="adam", lr=0.03, keep=1, checkpoint_every=5)
    losses = [epoch.validation_loss or 0.0 for epoch in result.history]
    best = int(np.argmin(losses)) + 1
    assert best < 20
    assert sorted(checkpoints(tmp_path / "checkpoints")) == [17 * best, 17 * 20]


def test_no_state_is_composed_where_nobody_wants_it(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither copied from the device nor hashed: that is what keep = 0 saves."""
    composed: list[Any] = []
    monkeypatch.setattr("xpnet.training.epochs.compose", lambda *arguments: composed.append(arguments))
    monkeypatch.setattr("xpnet.training.fit.fingerprint", lambda *arguments: composed.append(arguments))
    train(tmp_path, keep=0, checkpoint_every=5)
    assert composed == []


def test_a_directory_writer_of_one_s_own_is_served_like_ours(train: Train, tmp_path: Path) -> None:
    """It is started first, is given the state, and what it could not write is reported."""
    events: list[str] = []

    class Archive(xpnet.Callback):
        order = -1

        def wants_state(self, run: Run) -> bool:
            return run.config.keep == 1

        def on_start(self, run: Run) -> None:
            events.append("archive")

        def on_checkpoint(self, run: Run) -> None:
            assert run.checkpoint is not None
            events.append(f"{run.checkpoint.step}")
            self.fault = "archive: full"

    class Late(xpnet.Callback):
        def on_start(self, run: Run) -> None:
            events.append("late")

    assert train(callbacks=[Late(), Archive()], keep=1, epochs=2).unsaved == "archive: full"
    assert events == ["archive", "late", "17", "34"]
    assert train(callbacks=[Late(), Archive()], keep=2, epochs=2).unsaved is None
    assert events[4:] == ["archive", "late"]


def test_they_are_made_every_so_many_steps_or_seconds(train: Train, tmp_path: Path) -> None:
    class Look(xpnet.Callback):
        def __init__(self) -> None:
            self.steps: list[int] = []

        def on_checkpoint(self, run: Run) -> None:
            assert run.checkpoint is not None
            self.steps.append(run.checkpoint.step)

    for every, steps in ((None, [17, 34]), (5, [5, 10, 15, 17, 22, 27, 32, 34]), (100, [17, 34])):
        look = Look()
        train(epochs=2, checkpoint_every=every, callbacks=[look])
        assert look.steps == steps
    often, seldom = Look(), Look()
    train(batch_size=2, epochs=2, checkpoint_every="0.000001s", callbacks=[often])
    train(batch_size=2, epochs=2, checkpoint_every="1000s", callbacks=[seldom])
    assert len(often.steps) > 10
    assert seldom.steps == [165, 330]


@pytest.mark.parametrize("every", [0, -1, 1.5, "", "s", "0s", "-1s", "1e3s", "5", "5m", "nans"])
def test_intervals_that_are_none(every: Any) -> None:
    with pytest.raises(xpnet.ConfigError, match=r"^checkpoint_every must be "):
        xpnet.TrainConfig(checkpoint_every=every)


# --- damage ----------------------------------------------------------------------------------------------------------


def newest(path: Path) -> Path:
    found = checkpoints(path / "checkpoints")
    return found[max(found)]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what state.json says, with a manifest that agrees."""
    state = json.loads((folder / "state.json").read_bytes())
    change(state)
    content = json.dumps(state).encode()
    (folder / "state.json").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["state.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def become_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def hold_a_folder(folder: Path) -> None:
    (folder / "state.json").unlink()
    (folder / "state.json").mkdir()


def replaced(folder: Path, **changes: Any) -> None:
    write_checkpoint(folder.parent, read_checkpoint(folder)._replace(**changes))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "no arrays": lambda folder: (folder / "arrays.safetensors").unlink(),
    "half": lambda folder: (folder / "arrays.safetensors").write_bytes(b"half"),
    "empty": lambda folder: (folder / "state.json").write_bytes(b""),
    "a bit of the arrays": lambda folder: flip(folder / "arrays.safetensors"),
    "a bit of the state": lambda folder: flip(folder / "state.json", 100),
    "a bit of the manifest": lambda folder: flip(folder / "manifest.json", 100),
    "manifest of another format": lambda folder: (folder / "manifest.json").write_text(
        '{"format": "xpnet checkpoint 9"}'
    ),
    "manifest is a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest is deep": lambda folder: (folder / "manifest.json").write_text("[" * 4000),
    "manifest is huge": lambda folder: (folder / "manifest.json").write_text(" " * 5000),
    "manifest names other files": lambda folder: (folder / "manifest.json").write_text(
        '{"format": "xpnet checkpoint 2", "files": {"../../model.safetensors": {}}}'
    ),
    "file": become_a_file,
    "folder": hold_a_folder,
    "another place": lambda folder: shutil.copytree(folder, folder.with_name("step-000000999")),
    "other history": lambda folder: rewrite(folder, lambda state: state["history"].pop(0)),
    "words in the history": lambda folder: rewrite(folder, lambda state: state["history"][0].update(seconds="1")),
    "unknown figures": lambda folder: rewrite(folder, lambda state: state["history"][0].update(more=1)),
    "another step": lambda folder: rewrite(folder, lambda state: state.update(step=5)),
    "done of another epoch": lambda folder: rewrite(folder, lambda state: state.update(done=3)),
    "no seconds": lambda folder: rewrite(folder, lambda state: state.update(seconds=float("nan"))),
    "no number": lambda folder: rewrite(folder, lambda state: state.update(done=True)),
    "settings that are no TOML": lambda folder: rewrite(folder, lambda state: state.update(settings="= 3")),
    "deep settings": lambda folder: rewrite(folder, lambda state: state.update(settings="a = " + "[" * 9000)),
    "long settings": lambda folder: rewrite(folder, lambda state: state.update(settings="#" * (1 << 20))),
    "no arrays in it": lambda folder: replaced(folder, arrays={"step": np.array([34])}),
    "arrays of another shape": lambda folder: replaced(
        folder, arrays={**read_checkpoint(folder).arrays, "params.0": np.zeros((2, 2))}
    ),
    "arrays of another type": lambda folder: replaced(
        folder, arrays={**read_checkpoint(folder).arrays, "params.1": np.zeros(7, np.float64)}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_told_and_the_one_before_taken(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    whole = train()
    train(tmp_path, 2)
    DAMAGES[damage](newest(tmp_path))
    late = damage in ("done of another epoch", "no arrays in it", "arrays of another shape", "arrays of another type")
    if late:  # the checkpoint itself is whole, but none of this run
        with pytest.raises(xpnet.ModelError) as error:
            train(tmp_path)
        assert "\n" not in str(error.value)
        assert "damaged" in str(error.value)
        return
    with caplog.at_level(logging.INFO):
        rest = train(tmp_path)
    told = [record.getMessage() for record in caplog.records]
    faults = [line for line in told if "checkpoints/step-000000034" in line or "step-000000999" in line]
    assert len(faults) == 1, told
    assert "\n" not in faults[0]
    step = 34 if damage == "another place" else 17
    assert f"continuing {tmp_path} after epoch {step // 17}" in told
    assert_same(rest, whole)
    beyond = damage == "another place"  # where the run never gets
    assert len(newest_checkpoint(tmp_path / "checkpoints")[1]) == beyond


def test_where_none_is_whole_nothing_is_overwritten(train: Train, tmp_path: Path) -> None:
    train(tmp_path, 2)
    for folder in checkpoints(tmp_path / "checkpoints").values():
        flip(folder / "arrays.safetensors")
    before = (tmp_path / "history.csv").read_bytes()
    with pytest.raises(xpnet.ModelError, match=r"no checkpoint of .* is intact; name another directory"):
        train(tmp_path)
    assert (tmp_path / "history.csv").read_bytes() == before


def test_a_checkpoint_is_read_as_it_was_written(train: Train, tmp_path: Path) -> None:
    train(tmp_path, (3, 5), **SETTINGS[2])
    folder = newest(tmp_path)
    found = read_checkpoint(folder)
    assert found.where == "epoch 3, step 6"
    assert found.step == 2 * 14 + 6
    assert {name.partition(".")[0] for name in found.arrays} == {
        *("params", "running", "optimizer", "average", "step", "loss", "hits", "healthy", "best", "finished")
    }
    assert {"xpnet", "python", "numpy", "safetensors"} <= set(found.versions)
    write_checkpoint(tmp_path / "copy", found)
    for name in (checkpoint.ARRAYS, checkpoint.STATE, checkpoint.MANIFEST):
        assert (tmp_path / "copy" / folder.name / name).read_bytes() == (folder / name).read_bytes()


# --- disks that fail -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("code", ["ENOSPC", "EIO"])
def test_each_call_that_fails_in_turn_ends_nothing(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """Every open, write, fsync, rename and removal of a run: it trains on, says so once, and can be resumed."""
    settings = {"epochs": 3, "checkpoint_every": 9, "schedule": "constant", "keep": 1}
    whole, longer = train(**settings), train(**{**settings, "epochs": 4})
    faults = Faults(monkeypatch, flush=False)
    train(tmp_path / "start", 0, **{**settings, "epochs": 1})
    shutil.rmtree(tmp_path / "start")
    with faults.counting() as calls:
        train(tmp_path / "whole", **settings)
    assert calls.count("write") > 25
    refused: list[str] = []
    for number in range(len(calls)):
        caplog.clear()
        path = tmp_path / str(number)
        with faults.failing(number, code):
            try:
                assert_same(train(path, **settings), whole)
            except xpnet.ConfigError as error:  # before any training
                refused.append(str(error))
        assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 1
        assert_same(train(path, **{**settings, "epochs": 4}), longer)
        assert not list(path.rglob("*.tmp"))
    assert 5 < len(refused) < 30
    assert all("cannot write the run directory" in line for line in refused)


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EIO"])
@pytest.mark.parametrize("since", [40, 80, 120])
def test_a_disk_that_fails_for_good_is_told_once_and_what_is_there_stays_whole(
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    since: int,
    code: str,
) -> None:
    whole = train()
    faults = Faults(monkeypatch, flush=False)
    with faults.failing(since, code, times=10**9):
        result = train(tmp_path)
    assert_same(result, whole)
    assert result.unsaved is not None
    assert result.unsaved.startswith(str(tmp_path))
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 1
    assert re.fullmatch(
        rf"cannot write {re.escape(str(tmp_path))}/.*; training continues, and the files written before are intact",
        told[0],
    )
    assert_same(train(tmp_path), whole)


def test_a_directory_that_is_lost_is_made_anew(train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Lose(xpnet.Callback):
        def on_epoch(self, run: Run) -> None:
            if run.model_epoch == 2:
                (tmp_path / "run").rename(tmp_path / "away")

    whole = train()
    assert_same(train(tmp_path / "run", callbacks=[Lose()]), whole)
    assert [r.getMessage() for r in caplog.records if "has disappeared" in r.getMessage()]
    assert len(read_history(tmp_path / "run")) == 4
    assert np.array_equal(xpnet.load(tmp_path / "run", device="cpu").params[0], arrays(whole)[0])
    assert_same(train(tmp_path / "away"), whole)


# --- numbers that are none -------------------------------------------------------------------------------------------

WILD = {"optimizer": "sgd", "schedule": "constant", "dtype": "float32"}


class Burst(xpnet.Callback):
    """Makes the learning rate explode for one step of the run, as long as rates are above a limit."""

    def __init__(self, step: int, above: float = 0.0) -> None:
        self.step, self.above = step, above

    def on_start(self, run: Run) -> None:
        run.rates[self.step] = 1e38


def test_the_error_names_epoch_step_rate_and_norms(train: Train, tmp_path: Path) -> None:
    with pytest.raises(xpnet.NonFiniteError) as error:
        train(tmp_path, callbacks=[Burst(20)], **WILD)
    pattern = (
        r"the loss stopped being finite in epoch 2 at step [456] of 17, learning rate [\d.e+]+; the parameters' norm "
        r"was [\d.]+ after epoch 1 and is (nan|inf|[\d.e+]+); a smaller learning rate or a clip_norm may help"
    )
    assert re.fullmatch(pattern, str(error.value)), str(error.value)
    assert sorted(checkpoints(tmp_path / "checkpoints")) == [17]


def test_no_checkpoint_holds_numbers_that_are_none(train: Train, tmp_path: Path) -> None:
    """Within an epoch a run ends at the first checkpoint that would, not at the epoch's end."""
    with pytest.raises(xpnet.NonFiniteError, match="in epoch 1 at step"):
        train(tmp_path, checkpoint_every=4, keep=9, callbacks=[Burst(9)], **WILD)
    found = checkpoints(tmp_path / "checkpoints")
    assert sorted(found) == [4, 8]
    for folder in found.values():
        assert all(np.isfinite(a).all() for a in read_checkpoint(folder).arrays.values())


@pytest.mark.parametrize("directory", [True, False])
def test_rollback_halves_the_rate_and_goes_on(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture, directory: bool
) -> None:
    """A rate of 1e38 / 8 still bursts, but not where it comes only once: so the burst is made of the rate itself."""
    settings = WILD | {"lr": 0.6, "on_nonfinite": "rollback", "epochs": 3, "loss": "mse", "activation": "identity"}
    out = tmp_path if directory else None
    with pytest.raises(xpnet.NonFiniteError):
        train(None, **{**settings, "on_nonfinite": "stop"})
    result = train(out, **settings)
    told = [r.getMessage() for r in caplog.records if "rollback" in r.getMessage()]
    assert 1 <= len(told) <= 3
    assert all("returning to the start with half the learning rate" in line for line in told)
    assert f"(rollback {len(told)} of at most 3)" in told[-1]
    assert [epoch.learning_rate for epoch in result.history] == [0.6 * 0.5 ** len(told)] * 3
    if directory:
        newest, _ = newest_checkpoint(tmp_path / "checkpoints")
        assert newest is not None
        assert newest.rollbacks == [0] * len(told)


def test_three_rollbacks_are_enough(train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(xpnet.NonFiniteError, match=r"may help; 3 rollbacks did not help$"):
        train(tmp_path, lr=1e30, on_nonfinite="rollback", **WILD)
    assert len([r for r in caplog.records if "rollback" in r.getMessage()]) == 3


def test_a_run_that_rolled_back_goes_on_to_the_same_bits(train: Train, tmp_path: Path) -> None:
    """Also one that ended for want of a rollback, and is told to roll back from now on."""
    settings = WILD | {"lr": 0.6, "epochs": 4, "loss": "mse", "activation": "identity"}
    whole = train(**settings, on_nonfinite="rollback")
    train(tmp_path / "a", (3, 5), **settings, on_nonfinite="rollback")
    assert_same(train(tmp_path / "a", **settings, on_nonfinite="rollback"), whole)
    with pytest.raises(xpnet.NonFiniteError):
        train(tmp_path / "b", **settings)
    assert_same(train(tmp_path / "b", **settings, on_nonfinite="rollback"), whole)
