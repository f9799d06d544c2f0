"""The search for settings: its space, its trials, the study that keeps them, and the command."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.conftest import write_npz
from xpnet.cli import main
from xpnet.files import locked
from xpnet.optim import OPTIMIZERS
from xpnet.recipes import read_recipe
from xpnet.studies.tune import Trial, Tuned, default_space, tune
from xpnet.studies.tune.space import parse
from xpnet.training.config import TrainConfig
from xpnet.training.history import read_history

optuna = pytest.importorskip("optuna", reason="needs Optuna, of the extra tune")

RATES = {"lr": {"low": 0.001, "high": 0.3, "log": True}}
START = TrainConfig(device="cpu", hidden=(8,), epochs=3, lr=0.05, validation=0.2)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
QUICK = ["--device", "cpu", "--hidden", "8", "--epochs", "2", "--validation", "0.2"]


pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.fixture
def hard_data() -> xpnet.Dataset:
    """A set that no network reads well: 3 classes of 5x5 images, mostly noise."""
    rng = np.random.default_rng(5)
    patterns = rng.random((3, 5, 5))

    def split(n: int) -> xpnet.Split:
        labels = rng.integers(0, 3, n).astype(np.int32)
        return xpnet.Split((255 * (0.25 * patterns[labels] + 0.75 * rng.random((n, 5, 5)))).astype(np.uint8), labels)

    return xpnet.Dataset("hard", split(300), split(60), n_classes=3, source="drawn by the test")


@pytest.fixture
def hard(own_directory: None, hard_data: xpnet.Dataset) -> str:
    """The path of the hard set in the form of Keras' mnist.npz."""
    return write_npz("hard.npz", hard_data)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[xpnet.Dataset, TrainConfig]]:
    """The data and settings of every run that a study starts, in their order."""
    calls: list[tuple[xpnet.Dataset, TrainConfig]] = []

    def spy(network: xpnet.MLP, data: xpnet.Dataset, config: TrainConfig, **arguments: Any) -> xpnet.Result:
        calls.append((data, config))
        return xpnet.fit(network, data, config, **arguments)

    monkeypatch.setattr("xpnet.studies.tune.study.fit", spy)
    return calls


def search(
    data: xpnet.Dataset, space: Any = RATES, config: TrainConfig = START, **more: Any
) -> tuple[Tuned, list[Trial]]:
    """What tune returns and reports."""
    seen: list[Trial] = []
    return tune(data, space, config, report=seen.append, **more), seen


def opened(storage: str, name: str) -> Any:
    """A study in a journal."""
    journal = optuna.storages.journal
    backend = journal.JournalFileBackend(storage, journal.JournalFileOpenLock(storage))
    return optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name=name)


def states(storage: str, name: str) -> list[str]:
    """The states of its trials."""
    return [trial.state.name for trial in opened(storage, name).trials]


# --- the space -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_default_space_holds_the_default_settings(optimizer: str) -> None:
    config = TrainConfig(optimizer=optimizer).resolved(200, "cross-entropy")
    start = dataclasses.asdict(config) | {"hidden": [128], "lr": OPTIMIZERS[optimizer].lr}
    space = parse(default_space(config), config)
    for name, dimension in space.items():
        assert dimension.params(name, start[name]), name
    assert ("momentum" in space) == (optimizer in ("momentum", "nesterov"))
    assert "weight_decay" in space


def test_every_form_proposes_what_it_says(small_data: xpnet.Dataset) -> None:
    space: dict[str, Any] = {
        "lr": {"low": 0.5, "high": 2, "log": True, "relative": True},
        "batch_size": {"low": 20, "high": 40},
        "hidden": {"layers": {"choices": [1, 3]}, "width": {"low": 4, "high": 9, "log": True}},
        "momentum": {"low": 0, "high": 0.9},
        "activation": {"choices": ["tanh", "gelu"]},
        "batch_norm": {"choices": [True, False]},
        "label_smoothing": {"choices": [0.0, 0.1]},
    }
    _, seen = search(small_data, space, START.replace(epochs=1), trials=25)
    found = [trial.settings for trial in seen[1:]]
    assert seen[0].settings == {}
    assert all(list(settings) == list(space) for settings in found)
    assert all(0.025 <= settings["lr"] <= 0.1 for settings in found)
    assert all(isinstance(settings["batch_size"], int) and 20 <= settings["batch_size"] <= 40 for settings in found)
    assert {len(settings["hidden"]) for settings in found} == {1, 3}
    assert {width for settings in found for width in settings["hidden"]} <= set(range(4, 10))
    assert all(isinstance(settings["momentum"], float) and 0 <= settings["momentum"] <= 0.9 for settings in found)
    for name in ("activation", "batch_norm", "label_smoothing"):
        assert {settings[name] for settings in found} == set(space[name]["choices"])


def test_lists_of_widths_are_choices(small_data: xpnet.Dataset, fits: list[Any]) -> None:
    widths = [[8], [5, 4], []]
    tuned, seen = search(small_data, {"hidden": {"choices": widths}}, START.replace(epochs=1), trials=12)
    assert {tuple(trial.settings["hidden"]) for trial in seen} == {config.hidden for _, config in fits}
    assert {config.hidden for _, config in fits} == {(8,), (5, 4), ()}
    assert tuned.config.hidden == tuple(seen[tuned.number].settings["hidden"])


def test_a_logarithmic_range_is_searched_by_orders_of_magnitude(small_data: xpnet.Dataset) -> None:
    for log in (True, False):
        space = {"weight_decay": {"low": 1e-9, "high": 1e-3, "log": log}}
        _, seen = search(small_data, space, START.replace(epochs=1), trials=6)
        assert any(trial.settings["weight_decay"] < 1e-5 for trial in seen[1:]) == log


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "there is no setting to search for"),
        ({"bach_size": {"choices": [3]}}, "unknown setting 'bach_size'; did you mean 'batch_size'?"),
        ({"lr": {"low": 0.1, "hihg": 1}}, "lr: unknown key 'hihg'; did you mean 'high'?"),
        ({"lr": {"low": 0.1}}, "lr lacks 'high'"),
        ({"lr": 0.1}, "lr must be { low = ..., high = ... } or { choices = [...] }, not 0.1"),
        ({"lr": {"low": 1.0, "high": 0.1}}, "lr: low must be less than high, but 1 is not less than 0.1"),
        ({"lr": {"low": 0.1, "high": float("nan")}}, "low must be less than high"),
        ({"lr": {"low": "a", "high": 1}}, "lr.low must be a number, not 'a'"),
        ({"lr": {"low": 0.1, "high": 1, "log": "yes"}}, "lr.log must be true or false, not 'yes'"),
        ({"lr": {"low": 0, "high": 1}}, "lr must be more than 0, not 0"),
        ({"weight_decay": {"low": 0, "high": 1, "log": True}}, "low must be more than 0 on a logarithmic scale, not 0"),
        ({"momentum": {"low": 0.5, "high": 1}}, "momentum must be in [0, 1), not 1"),
        ({"beta1": {"low": 0.5, "high": 0.9}}, "beta1 has no effect without the optimizer adam or adamw: leave it out"),
        ({"batch_size": {"low": 16, "high": 64.5}}, "batch_size.high must be a whole number, not 64.5"),
        ({"batch_size": {"low": 1, "high": 2, "relative": True}}, "batch_size cannot be relative to 64"),
        ({"clip_norm": {"low": 1, "high": 2, "relative": True}}, "clip_norm cannot be relative to None"),
        ({"activation": {"low": 1, "high": 2}}, "activation is not a number: list its values"),
        ({"activation": {"choices": []}}, "activation: choices must be a list of at least one value, not []"),
        ({"activation": {"choices": "relu"}}, "activation: choices must be a list"),
        ({"activation": {"choices": ["relu", "rleu"]}}, "unknown value 'rleu'; did you mean 'relu'?"),
        ({"activation": {"choices": ["relu"], "log": True}}, "activation: unknown key 'log'"),
        ({"hidden": {"layers": {"low": 1, "high": 2}}}, "hidden lacks 'width'"),
        ({"hidden": {"low": 1, "high": 2}}, "hidden: unknown key 'low'"),
        ({"hidden": {"layers": {"low": 1, "high": 2}, "width": {"low": 0, "high": 2}}}, "hidden must be at least 1"),
        ({"hidden": {"choices": [128]}}, "hidden must be a list of whole numbers, not 128"),
        ({"seed": {"choices": [1, 2]}}, "seed cannot be searched for: trials can only be compared if they share it"),
        ({"optimizer": {"choices": ["adam"]}, "lr": {"low": 1, "high": 2, "relative": True}}, "lr cannot be relative"),
    ],
)
def test_a_bad_space_is_one_line_before_any_trial(
    small_data: xpnet.Dataset, fits: list[Any], space: Any, message: str
) -> None:
    with pytest.raises(xpnet.ConfigError, match=r"^search space: ") as caught:
        tune(small_data, space, storage="new/study.journal")
    assert message in str(caught.value)
    assert not fits
    assert not Path("new").exists()


def test_settings_of_other_optimizers_are_searched_with_the_optimizer_alone(small_data: xpnet.Dataset) -> None:
    config = START.replace(optimizer="adam", epochs=1)
    _, seen = search(small_data, None, config, trials=2)
    assert set(seen[1].settings) == set(default_space(config)) == set(default_space(START)) - {"momentum"}
    space = {"momentum": {"low": 0.8, "high": 0.9}}
    with pytest.raises(xpnet.ConfigError, match="momentum has no effect without the optimizer momentum or nesterov"):
        tune(small_data, space, config)
    both: Any = space | {"optimizer": {"choices": ["adam", "nesterov"]}}
    _, seen = search(small_data, both, config, trials=2)
    assert set(seen[1].settings) == {"momentum", "optimizer"}
    decay = {"low": 0.1, "high": 0.5}
    schedules: Any = {"schedule": {"choices": ["linear", "step"]}}
    _, seen = search(small_data, {"decay": decay} | schedules, config, trials=2)
    assert set(seen[1].settings) == {"decay", "schedule"}
    for other, need in (
        (space | schedules, "momentum has no effect without the optimizer"),
        ({"decay": decay, "optimizer": both["optimizer"]}, "decay has no effect without the schedule"),
        ({"teaching_share": decay} | schedules, "teaching_share has no effect without a teacher"),
    ):
        with pytest.raises(xpnet.ConfigError, match=need):
            tune(small_data, other, config)


def test_spaces_from_files(fails: Callable[..., str], hard: str) -> None:
    Path("space.toml").write_text("lr = ", encoding="utf-8")
    assert "the search space space.toml is not valid TOML" in fails(2, "tune", "--data", hard, "--space", "space.toml")
    assert "cannot read the search space nothere.toml: No such" in fails(
        2, "tune", "--data", hard, "--space", "nothere.toml"
    )
    Path("space.toml").write_text("lr = { low = 2.0, high = 1.0 }", encoding="utf-8")
    assert fails(2, "tune", "--data", hard, "--space", "space.toml").startswith(
        "search space space.toml: lr: low must be less"
    )
    assert "there is no setting to search for" in fails(
        2, "tune", "--data", hard, "--space", "space.toml", "--lr", "0.1"
    )
    assert not Path("runs").exists()


def test_what_is_no_data_set_or_no_config_is_named(small_data: xpnet.Dataset) -> None:
    with pytest.raises(TypeError, match="data must be a Dataset"):
        tune(small_data.train, RATES)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config must be a TrainConfig"):
        tune(small_data, RATES, {"epochs": 3})  # type: ignore[arg-type]


# --- trials ----------------------------------------------------------------------------------------------------------


def test_trials_are_trained_on_one_training_part_without_the_test_split(
    hard_data: xpnet.Dataset, fits: list[Any]
) -> None:
    tuned, seen = search(hard_data, trials=6)
    assert len(fits) == len(seen) == tuned.trials == 6
    for data, config in fits:
        assert data.test is None
        assert data.train is hard_data.train
        assert config.replace(lr=START.lr, weight_decay=None) == START
        assert config.weight_decay == fits[0][1].weight_decay, "that of the start's examples"
    assert [trial.number for trial in seen] == list(range(6))
    assert fits[0][1].lr == START.lr
    assert len({config.lr for _, config in fits}) == 6


def test_the_best_trial_is_found_and_repeated_by_its_settings(hard_data: xpnet.Dataset) -> None:
    tuned, seen = search(hard_data, trials=8)
    done = [trial for trial in seen if trial.state == "done"]
    assert tuned.score == max(trial.score or 0 for trial in done) == seen[-1].best
    assert tuned.score > (tuned.start_score or 1)
    assert tuned.number == next(trial.number for trial in done if trial.score == tuned.score)
    assert tuned.config.lr == seen[tuned.number].settings["lr"]
    network = tuned.config.network(hard_data.n_features, 3)
    history = xpnet.fit(network, hard_data, tuned.config, progress=False).history
    assert history[-1].validation_accuracy == tuned.score
    assert tuned.final == tuned.config.replace(validation=0)


def test_what_is_held_out(small_data: xpnet.Dataset, fits: list[Any]) -> None:
    tune(small_data, RATES, START.replace(validation=0), trials=1)
    own = xpnet.Dataset("own", small_data.train, validation=small_data.test, n_classes=3)
    tuned = tune(own, RATES, START.replace(validation=0), trials=1)
    assert [config.validation for _, config in fits] == [0.1, 0]
    assert tuned.score in {i / 60 for i in range(61)}


def test_a_seed_repeats_a_study_at_once_or_in_parts(hard_data: xpnet.Dataset) -> None:
    _, whole = search(hard_data, trials=9)
    _, first = search(hard_data, trials=4, storage="study.journal")
    _, second = search(hard_data, trials=9, storage="study.journal")
    assert [len(first), len(second)] == [4, 5]
    assert first + second == whole
    _, other = search(hard_data, config=START.replace(seed=1), trials=2)
    assert other[1].settings != whole[1].settings


def test_a_hopeless_trial_ends_early(small_data: xpnet.Dataset) -> None:
    space = {"lr": {"choices": [0.05, 1e-9]}}
    _, seen = search(small_data, space, START.replace(epochs=5), trials=12)
    pruned = [trial for trial in seen if trial.state == "pruned"]
    assert pruned
    assert all(trial.settings["lr"] == 1e-9 and trial.epochs < 5 for trial in pruned)
    assert all(trial.epochs == 5 for trial in seen if trial.state == "done")
    assert all(trial.number >= 4 for trial in pruned)


@pytest.mark.parametrize(
    ("settings", "state"), [({"epochs": 2}, "done"), ({"early_stopping": 1}, "done"), ({"epochs": 3}, "pruned")]
)
def test_a_trial_that_is_over_is_not_pruned(
    hard_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], state: str
) -> None:
    monkeypatch.setattr("optuna.pruners.MedianPruner.prune", lambda _, study, trial: trial.last_step == 2)
    # What learns nothing is stopped as soon as early stopping may.
    space = {"lr": {"choices": [1e-20, 2e-20]}}
    _, seen = search(hard_data, space, START.replace(lr=1e-20, epochs=9).replace(**settings), trials=3)
    assert [(trial.state, trial.epochs) for trial in seen[1:]] == [(state, 2)] * 2


def test_the_first_of_equal_trials_is_the_best(hard_data: xpnet.Dataset) -> None:
    tuned, seen = search(hard_data, {"momentum": {"choices": [0.9]}}, trials=3)
    assert len({trial.score for trial in seen}) == 1
    assert tuned.number == 0


def test_the_start_is_never_pruned(hard_data: xpnet.Dataset) -> None:
    space = {"lr": {"low": 0.05, "high": 0.1}}
    hopeless = START.replace(lr=1e-9, epochs=4)
    tune(hard_data, space, hopeless, trials=6, storage="study.journal")
    study = opened("study.journal", "xpnet")
    # As after a first trial that was killed: the start comes when there is a median to fall below.
    study.enqueue_trial({}, user_attrs={"start": True})
    _, seen = search(hard_data, space, hopeless, trials=7, storage="study.journal")
    assert [(trial.state, trial.epochs) for trial in seen] == [("done", 4)]


def test_trials_that_run_away_count_as_the_worst(hard_data: xpnet.Dataset) -> None:
    tuned, seen = search(hard_data, {"lr": {"choices": [0.05, 1e30]}}, trials=8)
    failed = [trial for trial in seen if trial.state == "failed"]
    assert failed
    assert all("stopped being finite" in (trial.failure or "") and trial.score is None for trial in failed)
    assert all(trial.settings["lr"] == 1e30 for trial in failed)
    assert tuned.config.lr == 0.05
    with pytest.raises(xpnet.NonFiniteError, match="none of the 2 trials succeeded; trial 0 failed: the loss stopped"):
        tune(hard_data, {"lr": {"choices": [1e30]}}, START.replace(lr=1e30), trials=2)


def test_settings_that_cannot_go_together_fail_their_trial_alone(hard_data: xpnet.Dataset) -> None:
    # 239 of 240 examples leave a last batch of only one.
    space = {"batch_size": {"choices": [60, 239]}}
    _, seen = search(hard_data, space, START.replace(batch_norm=True, batch_size=60), trials=6)
    assert {trial.state for trial in seen if trial.settings["batch_size"] == 239} == {"failed"}
    assert all("last batch of only one" in (trial.failure or "") for trial in seen if trial.state == "failed")
    with pytest.raises(xpnet.ConfigError, match="last batch of only one"):
        tune(hard_data, RATES, START.replace(batch_norm=True, batch_size=239))


@pytest.mark.parametrize("error", [MemoryError(), xpnet.DeviceError("lost"), KeyboardInterrupt()])
def test_what_ends_a_study_leaves_it_to_be_continued(
    hard_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fit(*arguments: Any, **more: Any) -> xpnet.Result:
        if len(states("study.journal", "xpnet")) == 3:
            raise error
        return xpnet.fit(*arguments, **more)

    monkeypatch.setattr("xpnet.studies.tune.study.fit", fit)
    with pytest.raises(type(error)):
        tune(hard_data, RATES, START, trials=5, storage="study.journal")
    assert states("study.journal", "xpnet") == ["COMPLETE", "COMPLETE", "FAIL"]
    tuned, seen = search(hard_data, trials=5, storage="study.journal")
    assert [trial.number for trial in seen] == [3, 4, 5]
    assert tuned.trials == 5


def test_early_stopping_judges_by_the_best_epoch(hard_data: xpnet.Dataset) -> None:
    config = START.replace(early_stopping=2, epochs=30, lr=0.3)
    tuned, _ = search(hard_data, {"momentum": {"choices": [0.9]}}, config, trials=1)
    result = xpnet.fit(config.network(hard_data.n_features, 3), hard_data, config, progress=False)
    assert result.model_epoch < len(result.history) < 30
    assert tuned.score == result.history[result.model_epoch - 1].validation_accuracy
    assert tuned.score != result.history[-1].validation_accuracy
    assert tuned.final == tuned.config


# --- the study -------------------------------------------------------------------------------------------------------


def test_trials_that_were_killed_neither_count_nor_block(hard_data: xpnet.Dataset) -> None:
    tune(hard_data, RATES, START, trials=2, storage="study.journal")
    opened("study.journal", "xpnet").ask()
    tuned, seen = search(hard_data, trials=4, storage="study.journal")
    assert [trial.number for trial in seen] == [3, 4]
    assert tuned.trials == 4
    assert states("study.journal", "xpnet")[2] == "RUNNING"


def test_a_start_that_was_killed_is_tried_again(hard_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("xpnet.studies.tune.study.fit", die)
        patch.setattr("optuna.Study.tell", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            tune(hard_data, RATES, START, trials=2, storage="study.journal")
    assert states("study.journal", "xpnet") == ["RUNNING"]
    tuned, seen = search(hard_data, trials=2, storage="study.journal")
    assert [trial.settings["lr"] == START.lr for trial in seen] == [False, False, True]
    assert tuned.start_score == seen[2].score


def test_a_study_on_other_terms_is_refused_and_left_as_it_is(hard_data: xpnet.Dataset, fits: list[Any]) -> None:
    tune(hard_data, RATES, START, trials=1, storage="study.journal")
    before = Path("study.journal").read_bytes()
    labels = np.roll(hard_data.train.labels, 1)
    other = dataclasses.replace(hard_data, train=xpnet.Split(hard_data.train.images, labels))
    wider = {"lr": {"low": 0.001, "high": 0.4, "log": True}}
    for data, space, config, message in (
        (hard_data, wider, START, "search space (lr)"),
        (hard_data, RATES | {"dropout": {"low": 0, "high": 0.2}}, START, "search space (dropout)"),
        (hard_data, RATES, START.replace(epochs=4, seed=1), "settings (epochs, seed)"),
        (other, RATES, START, "data (train)"),
    ):
        with pytest.raises(xpnet.ConfigError) as caught:
            tune(data, space, config, trials=9, storage="study.journal")
        assert f"the study 'xpnet' in study.journal differs in its {message}: " in str(caught.value)
    assert Path("study.journal").read_bytes() == before
    assert len(fits) == 1
    moved = dataclasses.replace(hard_data, name="moved", test=None)
    assert tune(moved, RATES, START, trials=2, storage="study.journal").trials == 2
    assert tune(other, RATES, START, trials=1, storage="study.journal", study="another").trials == 1


def test_a_study_that_is_older_than_a_setting_is_continued(hard_data: xpnet.Dataset) -> None:
    tune(hard_data, RATES, START, trials=1, storage="study.journal")
    begun = opened("study.journal", "xpnet")
    terms = begun.user_attrs["terms"]
    for setting in ("shards", "clip_norm", "warmup"):
        del terms["settings"][setting]
    begun.set_user_attr("terms", terms)
    assert tune(hard_data, RATES, START, trials=2, storage="study.journal").trials == 2
    with pytest.raises(xpnet.ConfigError, match=r"differs in its settings \(shards\)"):
        tune(hard_data, RATES, START.replace(shards=2), trials=2, storage="study.journal")


def test_data_are_told_by_their_numbers_their_shape_and_their_type(hard_data: xpnet.Dataset) -> None:
    labels = hard_data.train.labels

    def blank(shape: tuple[int, ...], dtype: str, held: np.ndarray) -> xpnet.Dataset:
        train, validation = (xpnet.Split(np.zeros((len(y), *shape), dtype), y) for y in (labels, held))
        return xpnet.Dataset("blank", train, None, validation, n_classes=3)

    config = START.replace(epochs=1, validation=0)
    tune(blank((4, 8), "uint8", labels[:60]), RATES, config, trials=1, storage="study.journal")
    for data, message in (
        (blank((4, 8), "uint8", labels[60:120]), "data (validation)"),
        (blank((32,), "uint8", labels[:60]), "data (train, validation)"),
        (blank((2, 4), "float32", labels[:60]), "data (train, validation)"),
    ):
        with pytest.raises(xpnet.ConfigError, match=re.escape(f"differs in its {message}: ")):
            tune(data, RATES, config, trials=1, storage="study.journal")
    tune(blank((4, 8), "uint8", labels[:60]), RATES, config, trials=1, storage="study.journal")


def test_a_study_that_is_not_ours_is_refused(hard_data: xpnet.Dataset) -> None:
    database = optuna.storages.RDBStorage("sqlite:///theirs.db")
    optuna.create_study(storage=database, study_name="xpnet").ask()
    database.engine.dispose()
    with pytest.raises(xpnet.ConfigError, match="differs in its search space"):
        tune(hard_data, RATES, START, storage="sqlite:///theirs.db")


def test_a_database_keeps_a_study_too(hard_data: xpnet.Dataset) -> None:
    for trials in (2, 3):
        assert tune(hard_data, RATES, START, trials=trials, storage="sqlite:///study.db").trials == trials


def test_storage_that_fails_in_between_is_one_line(
    hard: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xpnet.cli.tune._print_trial", lambda *_: Path("study.db").write_bytes(b"no database" * 999))
    assert main(["tune", "--data", hard, *QUICK, "--storage", "sqlite:///study.db", "--study", "mine"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "xpnet: error: cannot continue the study 'mine' in sqlite:///study.db: file is not a database"


@pytest.mark.parametrize("storage", ["file/study.journal", "file", ".", "nosuch://place", "sqlite:///no/such.db"])
def test_storage_that_cannot_be_used_is_one_line(hard_data: xpnet.Dataset, storage: str) -> None:
    Path("file").write_text('{"a": "file of somebody\'s"}\n', encoding="utf-8")
    with pytest.raises(
        xpnet.ConfigError, match=f"^cannot store the study 'xpnet' in {re.escape(storage)} \\(.+\\): name another"
    ):
        tune(hard_data, RATES, START, storage=storage)
    assert Path("file").read_text(encoding="utf-8") == '{"a": "file of somebody\'s"}\n'


def test_optuna_says_nothing_and_keeps_its_voice(hard_data: xpnet.Dataset, hard: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    tune(hard_data, RATES, START, trials=1)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    # In a process of its own, since Optuna's log goes to the stderr that it found when it was imported.
    command = [sys.executable, "-W", "error", "-m", "xpnet", "tune", "--data", hard, *QUICK, "--trials", "2", "--quiet"]
    assert subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT).stderr == b""


def test_optuna_is_asked_for_by_name(fails: Callable[..., str], hard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    message = fails(1, "tune", "--data", hard, *QUICK)
    assert message == 'the search for settings needs optuna, which is not installed: pip install "xpnet[tune]"'


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared-error", "poisson"])
def test_numbers_are_judged_by_r2(loss: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 2))
    y = rng.poisson(np.exp(X[:, 0])) if loss == "poisson" else X @ [1.0, 2.0] + 0.1 * rng.normal(size=160)
    for name, rows in (("train", slice(0, 120)), ("test", slice(120, 160))):
        lines = [f"{a:.4f},{b:.4f},{c:.6g}" for (a, b), c in zip(X[rows], y[rows], strict=True)]
        Path(f"{name}.csv").write_text("\n".join(["a,b,y", *lines]), encoding="utf-8")
    how = ["--data", "train.csv", "--test", "test.csv", "--loss", loss, "--task", "regression"]
    assert main(["tune", *how, *QUICK, "--trials", "3", "--out", "study"]) == 0
    out, err = capsys.readouterr()
    assert "120 training rows of 2 features, 1 number each\n" in err
    assert len(re.findall(r"^  trial \d +-?\d\.\d{4}  best +-?\d\.\d{4}  (?:done|pruned)", err, re.M)) == 3
    found = re.match(r"best of 3 trials: trial (\d), validation R2 (\S+) \((\S+) with the starting settings\)\n", out)
    assert found
    config = TrainConfig(**read_recipe("study/best.toml").settings)
    data = xpnet.load_data("train.csv", test="test.csv", label="y", task="regression")
    again = xpnet.fit(config.network(2, 1, "regression"), data, config, progress=False)
    assert f"{again.history[-1].validation_r2:.4f}" == found[2]
    last = read_history(f"study/best-trial-{found[1]}")[-1]
    assert f"test R2 {last.test_r2:.4f}, loss {last.test_loss:.4f} on train.csv, trained on all 120 training" in out
    assert f"validation R2 {found[2]}.\n" in Path("study/best.toml").read_text()


def test_without_a_test_split_nothing_is_measured_on_it(
    hard_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("train.npz", x_train=hard_data.train.images, y_train=hard_data.train.labels)
    assert main(["tune", "--data", "train.npz", *QUICK, "--trials", "1", "--out", "study"]) == 0
    out, err = capsys.readouterr()
    assert "training once more with the best settings\n" in err
    assert "test" not in out.replace("best", "")


def test_tune_says_what_it_tries_and_what_came_of_it(hard: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--data", hard, *QUICK, "--trials", "7", "--out", "study"]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("  trial ")]
    assert [int(line.split()[1]) for line in lines] == list(range(7))
    assert "study    study in study/study.journal, 7 trials in all\n" in err
    assert "search   lr, batch size, momentum, weight decay, dropout, activation\n" in err
    assert "lr 0.15, batch size 64, momentum 0.9, weight decay 0.021, dropout 0, activation relu" in lines[0]
    assert all(
        re.match(r"  trial \d +\d+\.\d\d %  best +\d+\.\d\d %  (done|pruned, epoch 1) +lr ", line) for line in lines
    )
    found = re.fullmatch(
        r"best of 7 trials: trial (\d), validation accuracy (\d+\.\d\d) % "
        r"\((\d+\.\d\d) % with the starting settings\)\n"
        r"lr .*, activation (relu|gelu)\nsaved in study/best.toml\n"
        r"test accuracy (\d+\.\d\d) %, loss \d\.\d{4} on hard.npz, trained on all 300 training examples\n"
        r"saved in (study/best-trial-\d)\n",
        out,
    )
    assert found, out
    run = Path(found[6])
    assert run.name == f"best-trial-{found[1]}"
    assert f"best  {found[2]} %" in lines[-1]
    assert lines[0].split()[2] == found[3]
    assert {"study.journal", "best.toml", run.name} == {path.name for path in Path("study").iterdir()}
    last = read_history(run)[-1]
    assert (f"{100 * (last.test_accuracy or 0):.2f}", last.validation_accuracy) == (found[5], None)
    assert xpnet.load(run, "cpu").network.sizes == (25, 8, 3)


def test_the_best_recipe_repeats_its_trial(hard: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--data", hard, *QUICK, "--trials", "6", "--out", "study", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert not err
    text = Path("study/best.toml").read_text(encoding="utf-8")
    number, accuracy = re.findall(r"^# .* 'study', trial (\d) of 6: validation accuracy (.*) %\.$", text, re.MULTILINE)[
        0
    ]
    assert f"trial {number}, validation accuracy {accuracy} %" in out
    settings = read_recipe("study/best.toml").settings
    assert settings == tomllib.loads(text)
    assert (settings["epochs"], settings["hidden"], settings["validation"]) == (2, [8], 0.2)
    assert main(["train", "--recipe", "study/best.toml", "--out", "run", "--quiet"]) == 0
    assert f"{100 * (read_history('run')[-1].validation_accuracy or 0):.2f}" == accuracy


def test_the_same_command_continues_until_the_trials_are_there(
    hard: str, fits: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finals: list[TrainConfig] = []

    def fit(network: xpnet.MLP, data: xpnet.Dataset, config: TrainConfig, **arguments: Any) -> xpnet.Result:
        finals.append(config)
        assert data.test is not None
        return xpnet.fit(network, data, config, **arguments)

    monkeypatch.setattr("xpnet.cli.tune.fit", fit)
    # No trial is worse than the start, which learns nothing.
    Path("start.toml").write_text("lr = 1e-9\n", encoding="utf-8")
    Path("space.toml").write_text("lr = { low = 0.05, high = 0.2 }\n", encoding="utf-8")
    command = ["tune", "--data", hard, *QUICK, "--recipe", "start.toml", "--space", "space.toml", "--quiet"]
    outputs = []
    for trials, finished in ((1, 1), (1, 1), (3, 3)):
        assert main([*command, "--trials", str(trials)]) == 0
        assert len(fits) == finished
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    # The test set is read once for each best configuration, and not at all where there is no new one.
    assert len(finals) == 2
    assert finals[0] != finals[1]
    out = Path("runs/tune-hard.npz")
    number = re.findall("saved in .*/best-trial-([12])$", outputs[2], re.MULTILINE)[0]
    assert {path.name for path in out.iterdir()} == {
        "study.journal",
        "best.toml",
        "best-trial-0",
        f"best-trial-{number}",
    }
    for final, trial in zip(finals, (0, number), strict=True):
        text = (out / f"best-trial-{trial}/config.toml").read_text(encoding="utf-8")
        assert TrainConfig(**tomllib.loads(text)) == final


def test_flags_fix_their_settings_and_a_recipe_is_where_the_search_starts(hard: str, fits: list[Any]) -> None:
    Path("mine.toml").write_text("dropout = 0.125\nepochs = 3\nlr = 0.07\nvalidation = 0.2\n", encoding="utf-8")
    arguments = [
        "--recipe",
        "mine.toml",
        "--device",
        "cpu",
        "--epochs",
        "1",
        "--hidden",
        "6",
        "4",
        "--activation",
        "tanh",
    ]
    assert main(["tune", "--data", hard, *arguments, "--trials", "5", "--quiet"]) == 0
    configs = [config for _, config in fits]
    assert {(config.epochs, config.hidden, config.activation) for config in configs} == {(1, (6, 4), "tanh")}
    assert (configs[0].dropout, configs[0].lr) == (0.125, 0.07)
    assert len({config.dropout for config in configs}) == len({config.lr for config in configs}) == 5
    assert all(0.2 * 0.07 <= (config.lr or 0) <= 2 * 0.07 for config in configs)


def test_the_command_searches_for_what_its_optimizer_takes(
    fails: Callable[..., str], hard: str, capsys: pytest.CaptureFixture[str]
) -> None:
    adam = ["tune", "--data", hard, *QUICK, "--trials", "1", "--optimizer", "adam"]
    assert main(adam) == 0
    assert "search   lr, batch size, weight decay, dropout, activation\n" in capsys.readouterr().err
    Path("space.toml").write_text("momentum = { low = 0.8, high = 0.9 }\n", encoding="utf-8")
    message = fails(2, *adam, "--space", "space.toml")
    assert message == (
        "search space space.toml: momentum has no effect without the optimizer momentum or nesterov: leave it out"
    )


def test_ctrl_c_keeps_the_study(hard: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["tune", "--data", hard, *QUICK, "--trials", "4", "--out", "study"]
    with monkeypatch.context() as patch:
        calls = iter(range(9))

        def fit(*arguments: Any, **more: Any) -> xpnet.Result:
            if next(calls) == 2:
                raise KeyboardInterrupt
            return xpnet.fit(*arguments, **more)

        patch.setattr("xpnet.studies.tune.study.fit", fit)
        assert main(command) == 130
    out, err = capsys.readouterr()
    said = "xpnet: interrupted; the study is kept in study/study.journal: the same command continues it\n"
    assert err.endswith(said)
    assert not out
    assert main(command) == 0
    assert "best of 4 trials" in capsys.readouterr().out
    assert states("study/study.journal", "study") == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


# A process that goes on from its first trial only when the other one has finished a trial too.
SHARING = """
import pathlib, sys, time
from xpnet.cli import main, tune

def meet(trial, task):
    pathlib.Path(f"met-{sys.argv[1]}").touch()
    for _ in range(6000):
        if len(list(pathlib.Path().glob("met-*"))) == 2:
            return
        time.sleep(0.01)
    sys.exit("nobody came")

tune._print_trial = meet
sys.exit(main(sys.argv[2:]))
"""


def test_processes_share_a_study(hard: str) -> None:
    command = ["tune", "--data", hard, *QUICK, "--trials", "12", "--out", "study"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SHARING, name, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        for name in "ab"
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert b"Traceback" not in err
        assert re.search(rb"^best of 1[23] trials", out)
        assert (b"test accuracy" in out) != (b" is still searching; the last process to end trains the " in err)
    found = states("study/study.journal", "study")
    assert set(found) <= {"COMPLETE", "PRUNED"}
    assert 12 <= len(found) <= 13
    (run,) = (path for path in Path("study").iterdir() if path.name not in ("study.journal", "best.toml"))
    assert run.name.startswith("best-trial-")
    assert len(read_history(run)) == 2


# The only trial is the start, whose final run these are in the way of.
ONE = ["tune", *QUICK, "--trials", "1", "--out", "study", "--quiet"]


def contents(folder: str) -> dict[str, bytes]:
    """The files under a folder."""
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "theirs",
    [
        *("novel", "run", "file"),
        pytest.param("pipe", marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")),
    ],
)
def test_what_is_in_the_way_of_the_final_run_is_left_as_it_is(
    hard: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    run = Path("study/best-trial-0")
    if theirs == "file":
        run.parent.mkdir()
        run.touch()
    elif theirs == "run":
        assert main(["train", "--data", hard, *QUICK, "--lr", "0.01", "--out", str(run), "--quiet"]) == 0
    else:
        run.mkdir(parents=True)
    if theirs == "novel":
        (run / "novel.txt").write_text("Call me Ishmael.", encoding="utf-8")
    elif theirs == "pipe":  # which would be waited for without end
        os.mkfifo(run / "config.toml")
    before = contents(str(run))
    monkeypatch.setattr("xpnet.cli.tune.fit", lambda *_, **__: pytest.fail("was trained"))
    assert main([*ONE, "--data", hard]) == 2
    assert "xpnet: error: study/best-trial-0 exists and is not a run of trial 0's" in capsys.readouterr().err
    assert contents(str(run)) == before
    assert {path.name for path in Path("study").iterdir()} == {"study.journal", "best.toml", "best-trial-0"}
    run.rename("moved")
    monkeypatch.setattr("xpnet.cli.tune.fit", xpnet.fit)
    assert main([*ONE, "--data", hard]) == 0
    assert len(read_history(run)) == 2


@pytest.mark.parametrize("same", [True, False])
def test_another_process_may_be_quicker(
    hard: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    run = Path("study/best-trial-0")

    def fit(network: xpnet.MLP, data: xpnet.Dataset, config: TrainConfig, **arguments: Any) -> xpnet.Result:
        xpnet.fit(network, data, config if same else config.replace(seed=1), progress=False, out=run)
        return xpnet.fit(network, data, config, **arguments)

    monkeypatch.setattr("xpnet.cli.tune.fit", fit)
    assert main([*ONE, "--data", hard]) == (0 if same else 2)
    out, err = capsys.readouterr()
    assert ("test accuracy" in out) == same
    assert ("this one has seed 1, not 0" in err) == (not same)
    assert f"seed = {int(not same)}\n" in (run / "config.toml").read_text(encoding="utf-8")
    assert {path.name for path in Path("study").iterdir()} == {"study.journal", "best.toml", "best-trial-0"}


def test_a_final_run_that_another_process_trains_is_left_to_it(hard: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("study/best-trial-0")
    run.mkdir(parents=True)
    with locked(run / ".lock"):
        assert main([*ONE, "--data", hard]) == 0
        assert [path.name for path in run.iterdir()] == [".lock"]
    out, err = capsys.readouterr()
    assert out.startswith("best of 1 trial: trial 0, validation accuracy ")
    assert out.endswith("\nsaved in study/best.toml\n")
    assert re.fullmatch(
        rf"{run} is being trained by process {os.getpid()} on .*, since .*; the same command reports its test accuracy "
        r"when it is finished\n",
        err,
    )


# xpnet tune that kills itself at the call of a number among those by which the final run writes its files.
DOOMED = """
import sys
from tests.promises.faults import Faults
from xpnet.cli import main, tune
from xpnet.training.directory import RunDirectory

RunDirectory._is_due = lambda _: True  # every epoch is written
number, fit = int(sys.argv[1]), tune.fit

def doomed(*arguments, **options):
    Faults().kill_at(number)
    return fit(*arguments, **options)

tune.fit = doomed
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    "numbers", [[70], pytest.param([0, 1, 2, 3, 5, 7, 11, 16, 23, 31, 50, 60], marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("more", [["--epochs", "4"], ["--epochs", "9", "--early-stopping", "2", "--lr", "0.3"]])
def test_the_final_run_survives_kills(
    hard: str, capsys: pytest.CaptureFixture[str], numbers: list[int], more: list[str]
) -> None:
    small = ["--device", "cpu", "--hidden", "8", "--validation", "0.2"]
    command = ["tune", "--data", hard, *small, *more, "--trials", "1", "--quiet"]
    assert main([*command, "--out", "whole"]) == 0
    whole = capsys.readouterr().out
    for number in numbers:
        doomed = [sys.executable, "-c", DOOMED, str(number), *command, "--out", "killed"]
        process = subprocess.run(doomed, capture_output=True, check=False, env=ENVIRONMENT)
        assert process.returncode == -signal.SIGKILL, process.stderr
    last = Path("killed/best-trial-0/history.csv").read_text(encoding="utf-8").splitlines()[-1]
    assert last.partition(",")[0].isdigit(), "it was killed when some epochs were done"
    assert main([*command, "--out", "killed"]) == 0
    assert capsys.readouterr().out == whole.replace("whole", "killed")
    for name in ("model.safetensors", "config.toml"):
        killed, expected = (Path(folder, "best-trial-0", name).read_bytes() for folder in ("killed", "whole"))
        assert killed == expected
    assert {path.name for path in Path("killed").iterdir()} == {"study.journal", "best.toml", "best-trial-0"}


def test_with_early_stopping_the_figures_are_those_of_the_best_epoch(
    hard: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("start.toml").write_text("epochs = 30\nlr = 0.3\nearly_stopping = 2\nhidden = [8]\n", encoding="utf-8")
    command = ["tune", "--data", hard, "--device", "cpu", "--recipe", "start.toml", "--trials", "1", "--out", "study"]
    for _ in range(2):  # trained, and found there
        assert main(command) == 0
        history = read_history("study/best-trial-0")
        best = min(history, key=lambda epoch: epoch.validation_loss or 0)
        assert best.epoch == len(history) - 2 < 28
        figures = f"test accuracy {100 * (best.test_accuracy or 0):.2f} %, loss {best.test_loss:.4f} on hard.npz\n"
        assert figures in capsys.readouterr().out
        assert history[-1].test_loss is None


@pytest.mark.parametrize(
    "out",
    [
        "hard.npz",
        "hard.npz/study",
        "link",
        pytest.param(
            "locked", marks=pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write anywhere")
        ),
    ],
)
def test_a_directory_that_cannot_be_written_is_found_before_any_trial(
    fails: Callable[..., str], hard: str, fits: list[Any], out: str
) -> None:
    Path("locked").mkdir(mode=0o500)
    Path("link").symlink_to("nowhere")
    message = fails(2, "tune", "--data", hard, *QUICK, "--quiet", "--out", out, "--storage", "sqlite:///study.db")
    assert re.fullmatch(rf"cannot write the study's directory {out}: .+; name another directory", message)
    assert not fits
    assert not Path("study.db").exists()


def test_a_study_is_not_written_into_a_run(fails: Callable[..., str], hard: str, fits: list[Any]) -> None:
    Path("mine").mkdir()
    Path("mine/config.toml").touch()
    message = fails(2, "tune", "--data", hard, *QUICK, "--quiet", "--out", "mine")
    assert message == "--out: mine already holds a run: name another directory for the study"
    assert [path.name for path in Path("mine").iterdir()] == ["config.toml"]
    assert not fits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "--trials must be at least 1, not 0"),
        (["--trials", "many"], "many"),
        (["--trials", "2.7"], "--trials: '2.7' is not a whole number"),
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--validation", "300"], "--validation 300 would hold out 300 of 300 training examples"),
        (["--recipe", "relu-sofmax"], "did you mean 'relu-softmax'?"),
    ],
)
def test_wrong_use_is_one_line(fails: Callable[..., str], hard: str, arguments: list[str], message: str) -> None:
    assert message in fails(2, "tune", "--data", hard, "--device", "cpu", *arguments)
    assert not Path("runs").exists()


def test_a_wrong_number_of_trials_is_found_before_anything_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--data", "nothere.npz", "--trials", "0"]) == 2
    assert capsys.readouterr().err == "xpnet: error: --trials must be at least 1, not 0\n"


@pytest.mark.parametrize("torn", [1, 20, 200])
def test_a_journal_whose_last_line_is_torn_goes_on(
    hard_data: xpnet.Dataset, tmp_path: Path, torn: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As a killed process or a full disk leaves it; two more processes find it whole."""
    journal = tmp_path / "study.journal"
    search(hard_data, trials=2, storage=journal)
    os.truncate(journal, journal.stat().st_size - torn)
    tuned, _ = search(hard_data, trials=4, storage=journal)
    assert "is incomplete: it is dropped" in caplog.text
    assert tuned.trials == 4
    assert search(hard_data, trials=4, storage=journal) == (tuned, [])


def test_a_file_that_is_no_journal_is_left_as_it_is(hard_data: xpnet.Dataset, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader,\nthis line has no end")
    with pytest.raises(xpnet.ConfigError, match="cannot store the study"):
        search(hard_data, trials=1, storage=tmp_path / "letter.txt")
    assert (tmp_path / "letter.txt").read_text() == "Dear reader,\nthis line has no end"
