"""Checkpoints: which are refused, which are kept, which are damaged, and rolling back to them."""

import dataclasses
import hashlib
import io
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.promises.resuming import SETTINGS, Train, assert_same
from xpnet.training import checkpoint
from xpnet.training.checkpoint import checkpoints, newest_checkpoint, read_checkpoint, write_checkpoint
from xpnet.training.history import read_history
from xpnet.training.prepare import fingerprint
from xpnet.training.run import Run

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
        xpnet.fit(xpnet.MLP((36, 3)), small(), out=tmp_path, device="cpu", progress=False)
    with pytest.raises(xpnet.ConfigError, match="name it with out"):
        xpnet.fit(xpnet.MLP((36, 3)), small(), resume=True, device="cpu", progress=False)


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
        xpnet.fit(xpnet.MLP((36, 3)), small(), out=tmp_path, device="cpu", progress=False)
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


def test_a_squared_error_on_classes_that_was_not_clipped_stays_so(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every such run before it was the default."""

    def resolved(self: xpnet.TrainConfig, *args: Any, **kwargs: Any) -> xpnet.TrainConfig:
        return now(self, *args, **kwargs).replace(clip_norm=self.clip_norm)

    now = xpnet.TrainConfig.resolved
    settings: dict[str, Any] = {"loss": "mse", "lr": 1.0}
    with monkeypatch.context() as then:
        then.setattr(xpnet.TrainConfig, "resolved", resolved)
        complete = train(**settings)
        train(tmp_path, 1, **settings)
    with pytest.raises(xpnet.ConfigError, match=r"this one has clip_norm unset, not 0\.5"):
        train(tmp_path, clip_norm=0.5, **settings)
    train(tmp_path / "other", 1)
    with pytest.raises(xpnet.ConfigError, match=r"this one has clip_norm unset, not 0\.3"):
        train(tmp_path / "other", clip_norm=0.3)
    continued = train(tmp_path, **settings)
    assert_same(continued, complete)
    assert continued.config.clip_norm is None
    assert "clip_norm" not in (tmp_path / "config.toml").read_text()
    assert not np.array_equal(train(**settings).model.params[0], complete.model.params[0])


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


# --- which are written, and which are kept ---------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that a directory reads, which stands still until a test moves it."""
    now = [0.0]
    monkeypatch.setattr("xpnet.training.directory.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def states(path: Path) -> list[int]:
    """The finished epochs of each checkpoint."""
    return sorted(len(read_checkpoint(folder).history) for folder in checkpoints(path / "checkpoints").values())


@pytest.mark.usefixtures("clock")
def test_of_short_epochs_the_first_and_the_newest_are_written(train: Train, tmp_path: Path) -> None:
    result = train(tmp_path, keep=9)
    assert states(tmp_path) == [1, 4]
    assert read_history(tmp_path) == result.history
    assert np.array_equal(xpnet.load(tmp_path, device="cpu").params[0], result.model.params[0])


class Away(xpnet.Callback):
    """Copies a run's directory as it is after epoch 3, when its thread has written what it is to write."""

    def __init__(self, directory: xpnet.RunDirectory, to: Path) -> None:
        self.directory, self.to = directory, to

    def on_epoch(self, run: Run) -> None:
        if run.model_epoch == 3:
            self.directory._wait(0)
            shutil.copytree(self.directory.path, self.to)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("settings", SETTINGS[1:])
def test_a_run_that_dies_before_it_has_written_ends_with_the_same_bits(
    train: Train, tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings = settings | {"checkpoint_every": None}
    directory = xpnet.RunDirectory(tmp_path / "run")
    whole = train(callbacks=[directory, Away(directory, tmp_path / "dead")], **settings)
    assert states(tmp_path / "dead") == [1]
    assert len(read_history(tmp_path / "dead")) == 1
    assert_same(train(tmp_path / "dead", **settings), whole)


def test_an_epoch_is_written_within_the_next_one_once_it_is_time(
    train: Train, tmp_path: Path, clock: list[float]
) -> None:
    directory = xpnet.RunDirectory(tmp_path / "run")

    class Wait(xpnet.Callback):
        def on_epoch(self, run: Run) -> None:
            directory._wait(0)
            clock[0] += 0.4

    class Look(xpnet.Callback):
        def on_steps(self, run: Run) -> None:
            if run.epoch == 4 and not seen:
                directory._wait(0)
                seen.extend([*states(directory.path), len(read_history(directory.path))])

    seen: list[int] = []
    train(callbacks=[directory, Wait(), Look()], keep=9)
    assert seen == [1, 3, 3]
    assert states(directory.path) == [1, 3, 4]


def test_a_callback_that_fails_leaves_the_epoch_before_it_written(train: Train, tmp_path: Path) -> None:
    class Fail(xpnet.Callback):
        def on_epoch(self, run: Run) -> None:
            if run.model_epoch == 3:
                raise RuntimeError("a fault of its own")

    whole = train()
    with pytest.raises(RuntimeError, match="a fault of its own"):
        train(tmp_path, callbacks=[Fail()])
    assert states(tmp_path)[-1] == 3
    assert_same(train(tmp_path), whole)


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize(("keep", "kept"), [(0, []), (1, [68]), (2, [51, 68]), (9, [17, 34, 51, 68])])
def test_the_newest_are_kept(train: Train, tmp_path: Path, keep: int, kept: list[int]) -> None:
    train(tmp_path, keep=keep)
    assert sorted(checkpoints(tmp_path / "checkpoints")) == kept


@pytest.mark.parametrize("every", [5, None])
def test_the_best_is_kept_too(
    train: Train, tmp_path: Path, small_data: xpnet.Dataset, clock: list[float], every: int | None
) -> None:
    noise = xpnet.Split(small_data.train.images, np.random.default_rng(0).integers(0, 3, 330).astype(np.int32))
    data = dataclasses.replace(small_data, train=noise, validation=small_data.test)
    result = train(tmp_path, data=data, epochs=20, optimizer="adam", lr=0.03, keep=1, checkpoint_every=every)
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


# --- numbers that are none -------------------------------------------------------------------------------------------

WILD = {"optimizer": "sgd", "schedule": "constant", "dtype": "float32", "clip_norm": 1e30}


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
