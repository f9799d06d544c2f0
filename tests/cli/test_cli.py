"""The command line: what it prints, writes and returns, as a user meets it."""

import csv
import importlib.util
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
import xpnet.training.checkpoint
import xpnet.training.history
from tests.conftest import write_npz
from xpnet.cli import main
from xpnet.cli.settings import flag_name
from xpnet.data import Scaling, Schema, write_idx
from xpnet.model import calibration_error
from xpnet.numerics.augment import STANDARD, Distortion
from xpnet.numerics.streams import SPLIT
from xpnet.recipes import read_recipe, recipe_names
from xpnet.studies.gradcheck import Comparison
from xpnet.training.config import TrainConfig
from xpnet.training.initializers import generator, init_params
from xpnet.training.run import Run

HAS_PLOTS = importlib.util.find_spec("matplotlib") is not None  # of the extra "plot"
QUICK = ["--device", "cpu", "--epochs", "2", "--hidden", "16", "--lr", "0.05", "--batch-size", "64"]


pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.fixture
def trained(patterns: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The run directory of a network trained on patterns."""
    assert main(["train", "--data", patterns, *QUICK, "--out", "run"]) == 0
    capsys.readouterr()
    return "run"


def config_of(run: str) -> TrainConfig:
    return TrainConfig(**tomllib.loads(Path(run, "config.toml").read_text(encoding="utf-8")))


# --- train -----------------------------------------------------------------------------------------------------------


def test_train_writes_a_run_and_says_what_it_did(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", patterns, *QUICK, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"test accuracy \d+\.\d\d %, loss \d+\.\d{4} on patterns.npz, epoch 2\nsaved in run\n", out), (
        out
    )
    for said in (
        f"patterns.npz ({Path('patterns.npz').resolve()}): 330 training, 60 test images of 6x6, 3 classes",
        "cpu, numpy",
        "(as asked)",
        "36-16-3 relu, 643 parameters, cross-entropy",
        "nesterov, learning rate 0.05 linear, batches of 64, 2 epochs, float32, seed 0",
        "  2/2  ",
    ):
        assert said in err
    files = {"config.toml", "history.csv", "model.safetensors", "checkpoints"}
    assert {p.name for p in Path("run").iterdir()} - {"curves.png"} == files
    with open("run/history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert f"test accuracy {100 * float(rows[-1]['test_accuracy']):.2f} %" in out
    assert config_of("run").hidden == (16,)
    assert xpnet.load("run", "cpu").network.sizes == (36, 16, 3)


def test_device_auto_says_what_was_chosen_and_why(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", patterns, "--epochs", "1", "--out", "run"]) == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("device"))
    assert "(auto: " in line


def test_rows_of_features_are_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (40, 6))
    lines = [",".join(map(str, [i % 2, *row])) for i, row in enumerate(rows)]
    Path("table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["train", "--data", "table.csv", *QUICK, "--out", "run"]) == 0
    assert "training rows of 6 features, 2 classes" in capsys.readouterr().err


def test_images_that_are_too_many_for_the_memory_are_streamed(
    small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, array in zip(("images", "labels"), small_data.train, strict=True):
        write_idx(f"my-{kind}.idx", array.astype(np.uint8))
    results = []
    for share in (1.0, 0.0):
        monkeypatch.setattr("xpnet.data.formats.idx.MAPPED_SHARE", share)
        assert main(["train", "--data", "my-images.idx", *QUICK, "--validation", "0.1", "--out", f"run{share}"]) == 0
        out, err = capsys.readouterr()
        assert ("streamed from the file" in " ".join(err.split())) == (share == 0.0)
        assert main(["evaluate", f"run{share}", "--split", "train", "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out)["accuracy"])
        assert "my-images.idx" in out
    assert results[1] == pytest.approx(results[0], abs=0.1)


def test_quiet_prints_the_result_alone(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", patterns, *QUICK, "--out", "run", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert not err


def test_default_run_directories_are_named_and_unique(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda form, *_: "20260102-030405-")
    Path("mine.toml").write_text("epochs = 1\n", encoding="utf-8")
    for extra in ([], [], ["--recipe", "mine.toml"]):
        assert main(["train", "--data", patterns, *QUICK, "--quiet", *extra]) == 0
    runs = {p.name for p in Path("runs").iterdir()}
    stem = "20260102-030405-patterns.npz"
    assert runs == {stem, f"{stem}-2", "20260102-030405-mine"}
    assert f"saved in {Path('runs') / stem}\n" in capsys.readouterr().out


def test_every_setting_is_a_flag_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help-all"]) == 0
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for field in fields(TrainConfig):
        assert f"{flag_name(field.name)} " in shown
    assert "Dropout rate of the hidden units, in [0, 1). [default: 0]" in shown
    assert "One of relu, leaky-relu" in shown


def test_flags_override_the_recipe_which_overrides_the_defaults(
    patterns: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = 'epochs = 1\nhidden = [9, 8]\nlr = 0.125\nbatch_norm = true\noptimizer = "sgd"\nseed = 5\n'
    Path("mine.toml").write_text(text, encoding="utf-8")
    arguments = ["train", "--data", patterns, "--recipe", "mine.toml", "--device", "cpu", "--out", "run"]
    # Each of these flags is given its default value, which must still win over the recipe.
    assert main([*arguments, "--seed", "0", "--no-batch-norm", "--optimizer", "nesterov"]) == 0
    config = config_of("run")
    assert (config.hidden, config.lr, config.epochs) == ((9, 8), 0.125, 1)
    assert (config.seed, config.batch_norm, config.optimizer) == (0, False, "nesterov")
    assert config.momentum == TrainConfig().momentum


@pytest.mark.parametrize(
    ("words", "hidden"),
    [(["12", "7"], (12, 7)), (["12,7"], (12, 7)), (["none"], ()), (["5"], (5,))],
)
def test_hidden_layers(
    patterns: str, words: list[str], hidden: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--hidden", *words, "--data", patterns, "--epochs", "1", "--out", "run", "--quiet"]) == 0
    assert config_of("run").hidden == hidden


def test_values_of_every_kind_reach_the_run(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--batch-size", "full", "--batch-norm", "--validation", "30", "--early-stopping", "1", "--lr=1e-2"]
    arguments += ["--clip-norm", "5", "--warmup", "none", "--dtype", "float64", "--epochs", "3", "--dropout", "0.1"]
    assert main(["train", "--data", patterns, "--device", "cpu", "--out", "run", *arguments]) == 0
    config = config_of("run")
    assert (config.batch_size, config.batch_norm, config.validation) == ("full", True, 30.0)
    assert (config.early_stopping, config.lr, config.clip_norm, config.warmup) == (1, 0.01, 5.0, None)
    err = capsys.readouterr().err
    assert "full batch" in err
    assert (
        "also     batch norm yes, dropout 0.1, weight decay 0.017, clip norm 5, validation 30, early stopping 1\n"
        in err
    )


def test_a_flag_without_effect_is_reported_and_not_in_the_header(
    patterns: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", patterns, *QUICK, "--out", "run", "--alpha", "0.5", "--momentum", "0.8"]) == 0
    err = capsys.readouterr().err
    assert err.count("alpha") == 1
    assert "warning: --alpha has no effect without the optimizer rmsprop\n" in err
    assert "momentum 0.8" in err


@pytest.mark.parametrize(
    ("words", "desired"),
    [
        ([], STANDARD),
        (["rotation=7.5", "alpha=3", "sigma=2"], Distortion(rotation=7.5, alpha=3.0, sigma=2.0)),
        (["None"], None),
    ],
    ids=["alone", "amounts", "none"],
)
def test_augment(
    patterns: str, words: list[str], desired: Distortion | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is typed takes the place of the recipe's, amount by amount."""
    Path("mine.toml").write_text("epochs = 1\n[augment]\nshear = 3.0\n", encoding="utf-8")
    arguments = ["--recipe", "mine.toml", "--data", patterns, "--device", "cpu", "--out", "run", "--augment"]
    assert main(["train", *arguments, *words]) == 0
    assert config_of("run").augment == desired
    assert (f"augment {desired}" in " ".join(capsys.readouterr().err.split())) == (desired is not None)


def test_data_that_replaces_mnist_is_loud(
    small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = xpnet.Dataset("digits", small_data.train, small_data.test, n_classes=3, source="drawn by xpnet")
    monkeypatch.setattr("xpnet.data.search._drawn", lambda *_: drawn)
    assert main(["train", "--no-download", *QUICK, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert "warning: MNIST is not available: " in err
    assert "data     digits IN PLACE OF MNIST" in err
    assert "on digits" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "abc"], "--lr must be a number, not 'abc'"),
        (["--lr", "nan"], "--lr must be more than 0, not nan"),
        (["--lr", "-1"], "--lr must be more than 0, not -1"),
        (["--epochs", "2.5"], "--epochs must be a whole number, not 2.5"),
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--batch-size", "ful"], "a whole number or full"),
        (["--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["--weight-decay", "inf"], "--weight-decay must be finite and at least 0, not inf"),
        (["--dropout", "1"], "--dropout must be in [0, 1), not 1"),
        (["--hidden", "4", "0"], "--hidden must be at least 1, not 0"),
        (["--hidden", "4", "x"], "must be a whole number, not 'x'"),
        (["--hidden"], "--hidden requires at least 1 element"),
        (["--augment", "15"], "Invalid value for --augment: '15' is not an amount of distortion, such as rotation=15"),
        (["--augment", "none", "shear=3"], "'none' is not an amount of distortion, such as rotation=15"),
        (["--augment", "rotate=15"], "--augment: unknown amount 'rotate'; did you mean 'rotation'?"),
        (["--augment", "rotation=far"], "--augment rotation must be a number, not 'far'"),
        (["--augment", "rotation="], "--augment rotation must be a number, not ''"),
        (["--augment", "rotation=200"], "--augment rotation must be in [0, 180], not 200"),
        (["--max-norm", "0"], "--max-norm must be more than 0, not 0"),
        (["--average", "1"], "--average must be in [0, 1), not 1"),
        (["--validation", "1.5"], "--validation must be a share below 1 or a whole number, not 1.5"),
        (["--activation", "rleu"], "--activation: unknown value 'rleu'; did you mean 'relu'?"),
        (["--optimizer", "adma"], "did you mean 'adam'?"),
        (["--schedule", "cosin"], "did you mean 'cosine'?"),
        (["--loss", "mes"], "did you mean 'mse'?"),
        (["--dtype", "float16"], "--dtype: unknown value 'float16'"),
        (["--seed", "9" * 30], "--seed must be below 2^63"),
        (["--recipe", "relu-sofmax"], "unknown recipe 'relu-sofmax'; did you mean 'relu-softmax'?"),
        (["--recipe", "nothere.toml"], "cannot read the recipe nothere.toml: No such file"),
        (["--lrr", "1"], "Unknown option: --lrr. Did you mean --lr?"),
        (["--learning-rate", "1"], "Unknown option: --learning-rate. Did you mean --lr?"),
        (["--l2=1"], "Unknown option: --l2. Did you mean --weight-decay?"),
        (["--random-state", "1"], "Unknown option: --random-state. Did you mean --seed?"),
        (["--bs", "1"], "Unknown option: --bs. Did you mean --batch-size?"),
        (["--verbose"], "Unknown option: --verbose; see --help"),
        (["--device", "gpu"], "unknown device 'gpu': did you mean 'cuda'?"),
        (["--device", "cuda:x"], "unknown device 'cuda:x': did you mean 'cuda'?"),
        (["--lr"], "--lr requires an argument"),
        (["--batch-norm=maybe"], "--batch-norm"),
        (["extra"], "unexpected argument 'extra'"),
    ],
)
def test_wrong_use_is_one_line_before_any_work(fails: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in fails(2, "train", *arguments)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bach_size = 3", "did you mean 'batch_size'?"),
        ("lr = -1", "recipe mine.toml: lr must be more than 0, not -1"),
        ("lr = ", "recipe mine.toml is not valid TOML"),
    ],
)
def test_wrong_recipe(fails: Callable[..., str], text: str, message: str) -> None:
    Path("mine.toml").write_text(text, encoding="utf-8")
    assert message in fails(2, "train", "--recipe", "mine.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnits"], "did you mean 'mnist'?"),
        (["--data", "nothere.npz"], "nothere.npz"),
        (["--data", "mnist", "--no-download"], "downloading is switched off"),
        (["--device", "cuda", "--library", "numpy"], "NumPy has no device 'cuda'"),
    ],
)
def test_data_and_devices_that_cannot_be_had(fails: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in fails(1, "train", *arguments)
    assert not Path("runs").exists()


def test_an_error_names_the_flag_and_what_fits(fails: Callable[..., str], patterns: str) -> None:
    assert "--library: unknown value 'cuppy'; did you mean 'cupy'?" in fails(2, "train", "--library", "cuppy")
    assert "--early-stopping needs a validation split" in fails(
        2, "train", "--data", "nothere", "--early-stopping", "2", "--validation", "0"
    )
    assert "--validation 330 would hold out 330 of 330" in fails(2, "train", "--data", patterns, "--validation", "330")


def test_a_data_set_that_is_called_like_a_setting_is_not_a_flag(
    fails: Callable[..., str], small_data: xpnet.Dataset, trained: str
) -> None:
    for name in ("data", "validation"):
        Path(name).mkdir()
        for kind, array in zip(("images", "labels"), small_data.train, strict=True):
            write_idx(f"{name}/train-{kind}-idx{array.ndim}-ubyte", array.astype(np.uint8))
        message = fails(2, "evaluate", trained, "--data", f"./{name}")
        assert message == f"{name} has no test split, only train; use --split train"


def test_a_run_directory_that_cannot_be_written(fails: Callable[..., str], patterns: str, trained: str) -> None:
    assert "cannot write the run directory" in fails(2, "train", "--data", patterns, "--out", f"{patterns}/run")
    before = Path(trained, "model.safetensors").read_bytes()
    assert "already holds a run" in fails(2, "train", "--data", patterns, *QUICK, "--out", trained)
    assert Path(trained, "model.safetensors").read_bytes() == before


def test_a_loss_that_runs_away_keeps_the_last_good_parameters(fails: Callable[..., str], patterns: str) -> None:
    message = fails(1, "train", "--data", patterns, "--lr", "1e30", "--device", "cpu", "--out", "run")
    assert re.search(
        r"epoch 1 at step \d+ of \d+, learning rate .*; no epoch was finished; the initial parameters are saved in "
        "run$",
        message,
    )
    assert all(np.isfinite(p).all() for p in xpnet.load("run", "cpu").params)


def test_log_for_tensorboard(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboardX", reason="needs tensorboardX: pip install 'xpnet[tensorboard]'")
    assert main(["train", "--data", patterns, *QUICK, "--out", "run", "--log", "tensorboard"]) == 0
    assert list(Path("run").glob("*/events.out.tfevents.*"))


def test_log_without_its_library(patterns: str, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    message = fails(1, "train", "--data", patterns, *QUICK, "--out", "run", "--log", "tensorboard")
    assert message.startswith("the TensorBoard log needs tensorboardX")
    assert message.endswith('pip install "xpnet[tensorboard]"')
    assert not Path("run").exists()


# --- recipes, summary, lr-find ---------------------------------------------------------------------------------------


def test_recipes_are_listed_in_groups_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    *groups, last = capsys.readouterr().out.split("\n\n")
    assert last.startswith("Accuracies are on MNIST's test images")
    listed: dict[str, list[str]] = {}
    for group in groups:
        title, *lines = group.splitlines()
        assert max(map(len, lines)) <= 80
        listed |= {line.split()[0]: [title, *re.split(" {2,}", line)[1:]] for line in lines}
    assert set(listed) == set(recipe_names())
    for name, cells in listed.items():
        recipe = read_recipe(name)
        title = "the five that xpnet grew from" if not recipe.seeds else "published networks"
        figures = [f"{x:.2f} %" for x in (recipe.measured, recipe.reported) if x]
        assert cells == ["xpnet's own" if recipe.source == "xpnet's own." else title, recipe.short, *figures]
    assert main(["recipes", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(recipe_names())


def test_a_recipe_is_printed_to_be_changed(
    patterns: str, capsys: pytest.CaptureFixture[str], fails: Callable[..., str]
) -> None:
    assert main(["recipes", "tunable"]) == 0
    Path("mine.toml").write_text(capsys.readouterr().out + "", encoding="utf-8")
    assert read_recipe("mine.toml") == read_recipe("tunable")
    assert main(["train", "--recipe", "mine.toml", "--data", patterns, "--epochs", "1", "--out", "run"]) == 0
    assert config_of("run").hidden == (256, 128)
    capsys.readouterr()
    assert "did you mean 'tunable'" in fails(2, "recipes", "tuneable")


def test_summary(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--hidden", "16", "8", "--batch-norm", "--dropout", "0.1", "--epochs", "1", "--out", "run", "--quiet"]
    assert main(["train", "--data", patterns, *arguments]) == 0
    capsys.readouterr()
    assert main(["summary", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == (36 * 16 + 2 * 16) + (16 * 8 + 2 * 8) + (8 * 3 + 3)
    assert found["flops"] == 2 * (36 * 16 + 16 * 8 + 8 * 3)
    assert found["bytes"] == 4 * (found["parameters"] + 2 * 16 + 2 * 8)
    assert [layer["shapes"] for layer in found["layers"]] == [
        {"weight": [36, 16], "scale": [16], "shift": [16]},
        {"weight": [16, 8], "scale": [8], "shift": [8]},
        {"weight": [8, 3], "bias": [3]},
    ]
    assert main(["summary", "run"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "run: 36-16-8-3 relu, float32, trained on" in out
    assert "dense, cross-entropy weight 8x3, bias 3 27 48" in out
    assert "total 3,308 bytes 779 1,456" in out


def test_lr_find_suggests_a_rate_that_trains(small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert small_data.test is not None
    images, labels = small_data.train
    guesses = np.random.default_rng(0).integers(0, 3, len(labels))
    noisy = np.where(np.arange(len(labels)) % 3 == 0, guesses, labels)  # or the loss would vanish at any rate
    np.savez("noisy.npz", x_train=images, y_train=noisy, x_test=small_data.test.images, y_test=small_data.test.labels)
    arguments = ["--data", "noisy.npz", "--device", "cpu", "--hidden", "16", "--batch-size", "32"]
    assert main(["lr-find", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    lowest = min(range(len(found["rates"])), key=found["smoothed"].__getitem__)
    assert found["suggestion"] == found["rates"][lowest] / 2
    assert found["rates"][0] == pytest.approx(1e-4)
    for i, before in enumerate(found["smoothed"][:-1], 1):
        assert found["smoothed"][i] == pytest.approx(0.95 * before + 0.05 * found["losses"][i])
    assert main(["lr-find", *arguments, "--dark"]) == 0
    out, err = capsys.readouterr()
    rate = re.match(r"suggested: --lr (\S+)\n", out)
    assert rate, out
    assert float(rate[1]) == pytest.approx(found["suggestion"], rel=0.05)
    assert ("saved lr-find.png" in out) == Path("lr-find.png").exists() == ("lr-find.png was not drawn" not in err)
    assert "still falling" not in err
    assert main(["train", *arguments, "--lr", rate[1], "--epochs", "10", "--out", "run"]) == 0
    assert xpnet.training.history.read_history("run")[-1].test_accuracy > 0.95  # type: ignore[operator]


def test_lr_find_ends_where_the_loss_runs_away(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["lr-find", "--data", patterns, "--device", "cpu", "--activation", "identity", "--json"]
    assert main([*arguments, "--loss", "mse", "--high", "1e6"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["losses"]) < 400
    assert found["smoothed"][-1] > 4 * min(found["smoothed"]) >= found["smoothed"][-2]
    assert main([*arguments, "--high", "0.1", "--weight-decay", "1e-4"]) == 0
    assert "the loss was still falling at the last rate, 0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--low", "0"], "--low must be more than 0, not 0"),
        (["--low", "1", "--high", "0.5"], "--high must be more than 1, not 0.5"),
        (["--steps", "2"], "--steps must be at least 20, not 2"),
        (["--steps", "20.5"], "--steps: '20.5' is not a whole number; see --help"),
        (["--out", "nowhere/x.png"], "--out nowhere/x.png: no such directory nowhere; create it, or name another file"),
        (["--out", "x.bmp"], "x.bmp: pictures are written as .png, .svg or .pdf: name such a file"),
        (["--low", "1e-9", "--high", "1e-8"], "fell while the learning rate rose from 1e-09 to 1e-08: raise high"),
        (
            ["--low", "100", "--high", "1e6"],
            "the loss hardly fell while the learning rate rose from 100 to 102: lower low",
        ),
    ],
)
def test_lr_find_with_bad_limits(patterns: str, arguments: list[str], message: str, fails: Callable[..., str]) -> None:
    assert fails(2, "lr-find", "--data", patterns, "--device", "cpu", *arguments).endswith(message)


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_agrees_with_the_history(trained: str, patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open("run/history.csv", encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert main(["evaluate", trained, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == float(last["test_accuracy"])
    assert found["loss"] == pytest.approx(float(last["test_loss"]), rel=1e-6)
    assert (found["data"], found["split"], found["images"]) == ("patterns.npz", "test", 60)
    confusion = np.array(found["confusion"])
    assert confusion.sum() == 60
    assert np.diagonal(confusion).sum() / 60 == found["accuracy"]
    test, model = xpnet.load_data(patterns).test, xpnet.load(trained, "cpu")
    assert test is not None
    images, labels = test
    assert found["calibration_error"] == pytest.approx(calibration_error(model.outputs(images), labels))
    for i, each in enumerate(found["classes"]):
        recall, precision = (confusion[i, i] / confusion.sum(axis=axis)[i] for axis in (1, 0))
        f1 = pytest.approx(2 * precision * recall / (precision + recall))
        assert each == {
            "class": str(i),
            "images": confusion[i].sum(),
            "accuracy": recall,
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }


def test_confusion_has_a_row_for_each_label(
    trained: str, small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = small_data.train
    # Some wrong labels, so that the matrix is not its own transpose.
    labels = np.where(np.arange(len(labels)) % 4 == 0, (labels + 1) % 3, labels)
    np.savez("wrong.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert main(["evaluate", trained, "--data", "wrong.npz", "--split", "train", "--json"]) == 0
    confusion = json.loads(capsys.readouterr().out)["confusion"]
    read = xpnet.load(trained, "cpu").predict(images)
    for label in range(3):
        for guess in range(3):
            assert confusion[label][guess] == np.sum((labels == label) & (read == guess))
    assert confusion != np.transpose(confusion).tolist()


def test_evaluate_other_tasks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.arange(8.0).reshape(4, 2)
    numbers, several = np.array([0.0, 2.0, 5.0, 6.0]), np.array([[1, 0], [1, 1], [0, 0], [1, 1]])
    data = {}
    for task, y in (("regression", numbers), ("multilabel", several), ("unlabelled", None)):
        data[task] = xpnet.Dataset.from_arrays(X, y, test=(X, y), name=task, scale=None)
    monkeypatch.setattr("xpnet.cli.datasets.load_data", lambda name, **_: data[name])
    weights = {"regression": np.array([[1.0], [0.0]]), "multilabel": np.array([[1.0, 0.0], [0.0, 1.0]])}
    losses = {"regression": "squared-error", "multilabel": "binary-cross-entropy"}
    for task, weight in weights.items():
        W, b = weight.astype(np.float32), np.full(weight.shape[1], -1.5, np.float32) * (task == "multilabel")
        schema = Schema("digits", (2,), features=Scaling(), classes=("red", "ripe") if task == "multilabel" else ())
        network = xpnet.MLP(W.shape, loss=losses[task])
        xpnet.Model(network, [W, b], [], xpnet.select("cpu"), schema).save(f"{task}.safetensors")

    def evaluated(task: str) -> tuple[str, dict[str, Any]]:
        use = ["evaluate", f"{task}.safetensors", "--data", task, "--device", "cpu"]
        assert main(use) == 0
        out = capsys.readouterr().out
        assert main([*use, "--json"]) == 0
        return out, json.loads(capsys.readouterr().out)

    out, found = evaluated("regression")
    errors = X[:, 0] - numbers
    assert found["mae"] == pytest.approx(np.abs(errors).mean())
    assert found["r2"] == pytest.approx(1 - (errors**2).sum() / ((numbers - numbers.mean()) ** 2).sum())
    assert f"R2        {found['r2']:.4f}\nMAE       0.25 (mean absolute error, in the unit of the target)\nRMSE " in out
    assert "accuracy" not in out
    out, found = evaluated("multilabel")
    assert found["accuracy"] == 0.5
    assert [(row["class"], row["images"], row["accuracy"]) for row in found["classes"]] == [
        ("red", 3, 0.5),
        ("ripe", 2, 0.75),
    ]
    assert "label  n    right  precision    recall       F1\n" in out
    assert "red    3  50.00 %  " in out
    assert "ripe   2  75.00 %  " in out
    pytest.importorskip("matplotlib", reason="needs the extra: pip install 'xpnet[plot]'")
    for use in (["plot", "regression.safetensors", "--mistakes"], ["plot", "multilabel.safetensors", "--confusion"]):
        assert main([*use, "--data", "multilabel"]) == 2
        assert "--confusion and --mistakes need classes, but" in capsys.readouterr().err
    assert main(["evaluate", "regression.safetensors", "--data", "unlabelled"]) == 2
    assert "unlabelled has no labels to compare with" in capsys.readouterr().err


def test_evaluate_prints_a_table_that_fits(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"{trained}/model.safetensors", "--data", "patterns.npz"]) == 0
    out, err = capsys.readouterr()
    lines = [line.rstrip() for line in out.splitlines()]
    assert max(len(line) for line in lines if not line.startswith("data ")) <= 80  # a path is as long as it is
    assert "\x1b" not in out + err
    assert re.search(r"^accuracy +\d+\.\d\d % \(95 % interval: \d+\.\d\d to \d+\.\d\d %\)$", out, re.MULTILINE)
    (at,) = (i for i, line in enumerate(lines) if line.startswith("class "))
    assert lines[at].split() == ["class", "n", "precision", "recall", "F1"]
    assert all(len(line.replace(" %", "").split()) == 5 for line in lines[at + 1 : at + 4])
    assert lines[at + 5] == "confusion matrix: a row for each class, a column for each prediction"
    assert lines[at + 6].split() == ["0", "1", "2"]
    assert all(len(line.split()) == 4 for line in lines[at + 7 : at + 10])


def test_many_classes_show_the_commonest_mistakes_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.repeat(np.arange(40), 3)
    images = np.zeros((120, 4, 4), np.uint8)
    np.savez(tmp_path / "many.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert main(["train", "--data", "many.npz", *QUICK, "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 0
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines() if not line.startswith("data ")) <= 80
    assert len(re.findall(r"^\d+ taken for \d+: 3 times$", out, re.MULTILINE)) == 10


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothere"], 1, "nothere: no such file"),
        (["."], 1, "holds no model.safetensors"),
        (["patterns.npz"], 1, "damaged or not a safetensors file"),
        (["run", "--split", "validation"], 2, "has no validation split, only train and test"),
        (["run", "--split", "tset"], 2, '"tset" for --split'),
        (["run", "--device", "cuda", "--library", "numpy"], 1, "NumPy has no device 'cuda'"),
        (["run", "--data", "wide.npz"], 1, "the model takes 36 features, but wide.npz has 49"),
        (["run", "--data", "more.npz"], 1, "label 4 of row 2 is not a class of the model; the classes are 0, 1, 2"),
        (["run", "nothere"], 1, "nothere: no such file"),
        (["run", "patterns.npz"], 1, "patterns.npz is damaged or not a safetensors file"),
        (
            ["run", "other"],
            1,
            "other has the loss mse, but run the loss cross-entropy: members of an ensemble must agree",
        ),
        (["run", "run", "--data", "wide.npz"], 1, "the model takes 36 features, but wide.npz has 49"),
    ],
)
def test_evaluate_what_does_not_fit(
    fails: Callable[..., str], trained: str, arguments: list[str], code: int, message: str
) -> None:
    labels = np.array([0, 1, 4])
    np.savez(
        "wide.npz",
        x_train=np.ones((3, 7, 7), np.uint8),
        y_train=labels,
        x_test=np.ones((3, 7, 7), np.uint8),
        y_test=labels,
    )
    np.savez(
        "more.npz",
        x_train=np.ones((3, 6, 6), np.uint8),
        y_train=labels,
        x_test=np.ones((3, 6, 6), np.uint8),
        y_test=labels,
    )
    xpnet.Model(xpnet.MLP((36, 3), loss="mse"), init_params(xpnet.MLP((36, 3))), [], xpnet.select("cpu")).save("other")
    assert message in fails(code, "evaluate", *arguments)


@pytest.fixture
def three(trained: str, patterns: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The paths of three networks trained on patterns, which differ, and so do their readings."""
    quick = ["--device", "cpu", "--epochs", "1", "--lr", "0.03", "--data", patterns]
    for name, hidden, activation in (("tanh", "16", "tanh"), ("small", "4", "relu")):
        assert main(["train", *quick, "--hidden", hidden, "--activation", activation, "--out", name]) == 0
    capsys.readouterr()
    return ["small/model.safetensors", "tanh", trained]


def test_evaluate_averages_several_models(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    test = xpnet.load_data("patterns.npz").test
    assert test is not None
    images, labels = test
    models = [xpnet.load(path, "cpu") for path in three]
    scores = xpnet.Ensemble(models).evaluate(images, labels)
    alone = []
    for path in three:
        assert main(["evaluate", path, "--device", "cpu", "--json"]) == 0
        alone.append(json.loads(capsys.readouterr().out))
    assert main(["evaluate", *three, "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {*alone[0], "members"}
    assert (found["model"], found["network"]) == (three, [each["network"] for each in alone])
    assert (found["loss"], found["accuracy"]) == scores
    assert found["members"] == [
        {"path": each["model"], "network": each["network"], "accuracy": each["accuracy"], "loss": each["loss"]}
        for each in alone
    ]
    read = np.mean([model.outputs(images) for model in models], axis=0).argmax(axis=1)
    assert found["confusion"] == [[np.sum(read[labels == i] == j) for j in range(3)] for i in range(3)]
    assert all(each["confusion"] != found["confusion"] for each in alone[:2])


def test_evaluate_prints_each_member_and_the_ensemble(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *three, "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(["evaluate", *three, "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert lines[0] == "model     ensemble of 3: 36-4-3 relu, 36-16-3 tanh, 36-16-3 relu, on cpu with numpy"
    assert lines[2:5] == [
        f"member    {100 * m['accuracy']:.2f} %, {m['path']}: {m['network']}" for m in found["members"]
    ]
    assert lines[5].startswith(f"accuracy  {100 * found['accuracy']:.2f} % (")
    assert f"loss      {found['loss']:.4f}" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("confusion matrix"))
    table = [line.split() for line in lines[at + 2 : at + 5]]
    assert [row[1:] for row in table] == [[str(n or ".") for n in row] for row in found["confusion"]]
    assert main(["evaluate", three[0], three[0], "--device", "cpu"]) == 0
    assert "ensemble of 2: 36-4-3 relu, on" in capsys.readouterr().out


def test_evaluate_asks_for_data_where_the_members_had_other(
    trained: str, small_data: xpnet.Dataset, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_npz("others.npz", small_data)
    assert main(["train", "--data", "others.npz", *QUICK, "--out", "others"]) == 0
    capsys.readouterr()
    message = fails(2, "evaluate", trained, "others")
    assert message.startswith("the models were trained on different data, ")
    assert message.index("patterns.npz'") < message.index("others.npz'")
    assert message.endswith(": choose the data with --data")
    assert main(["evaluate", trained, "others", "--data", "others.npz"]) == 0


def test_evaluate_finds_a_path_s_data_from_any_folder(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", f"../{trained}", "--device", "cpu"]) == 0
    again = ["train", "--recipe", f"../{trained}/config.toml", "--out", "again"]
    assert main(again) == 0
    same = [Path(run, "model.safetensors").read_bytes() for run in (f"../{trained}", "again")]
    assert same[0] == same[1]


def test_evaluate_asks_for_data_that_is_gone(fails: Callable[..., str], trained: str) -> None:
    Path("patterns.npz").unlink()
    assert "patterns.npz', which was not found" in (message := fails(2, "evaluate", trained))
    assert "--data" in message


# --- the images that a run held out ----------------------------------------------------------------------------------


@pytest.fixture
def held(patterns: str, small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]) -> dict[str, list[int]]:
    """The rows of each part of the training split of the run "run", which held out a tenth."""
    arguments = [*QUICK, "--validation", "0.1", "--seed", "3", "--out", "run"]
    assert main(["train", "--data", patterns, *arguments]) == 0
    capsys.readouterr()
    order = generator(3, SPLIT).permutation(330)
    return {"validation": sorted(order[:33].tolist()), "train": sorted(order[33:].tolist())}


def test_the_validation_split_of_a_run_is_what_it_held_out(
    held: dict[str, list[int]], small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    model = xpnet.load("run", "cpu")
    last = xpnet.training.history.read_history(Path("run"))[-1]
    for part, rows in held.items():
        does = "held out" if part == "validation" else "trained on"
        note = f"{part}: the {len(rows)} of 330 training examples that the run {does}; an index counts among these"
        assert main(["evaluate", "run", "--split", part, "--json"]) == 0
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert note in err.splitlines()
        assert found["images"] == len(rows)
        if part == "validation":
            assert found["loss"] == pytest.approx(last.validation_loss, rel=1e-5)
            assert found["accuracy"] == pytest.approx(last.validation_accuracy)
        assert main(["predict", "run", "--split", part, "--csv"]) == 0
        out, err = capsys.readouterr()
        assert err.count(note) == 1
        rows_of_csv = list(csv.DictReader(out.splitlines()))
        assert [int(row["index"]) for row in rows_of_csv] == list(range(len(rows)))
        images, labels = small_data.train
        assert [int(row["label"]) for row in rows_of_csv] == labels[rows].tolist()
        assert [int(row["prediction"]) for row in rows_of_csv] == model.predict(images[rows]).tolist()
        if HAS_PLOTS:
            assert main(["plot", "run", "--split", part, "--confusion"]) == 0
            assert note in capsys.readouterr().err
    assert main(["evaluate", "run/model.safetensors", "--split", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 33


def test_several_runs_must_have_held_out_the_same_images(
    held: dict[str, list[int]], patterns: str, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("same", "3"), ("other", "4")):
        assert main(["train", "--data", patterns, *QUICK, "--validation", "0.1", "--seed", seed, "--out", name]) == 0
    assert main(["train", "--data", patterns, *QUICK, "--out", "none"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "same", "--split", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 33
    for other in ("other", "none"):
        message = fails(2, "evaluate", "run", other, "--split", "validation")
        assert message == "the runs did not hold out the same images of patterns.npz: use them one by one"


def test_data_from_which_a_run_held_nothing_out(
    held: dict[str, list[int]], small_data: xpnet.Dataset, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_npz("other.npz", small_data)
    for command in ("evaluate", "predict", *["plot"] * HAS_PLOTS):
        extra = {"predict": ["--csv"], "plot": ["--mistakes"]}.get(command, [])
        message = fails(2, command, "run", "--data", "other.npz", "--split", "validation", *extra)
        assert re.fullmatch(
            r"run held its validation images out of '.*patterns.npz', and other.npz has no validation split: choose "
            "another --split, or leave out --data",
            message,
        )
    assert main(["evaluate", "run", "--data", "other.npz", "--split", "train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 330
    assert small_data.test is not None
    train, test = tuple(small_data.train), tuple(small_data.test)
    Path("other.pkl").write_bytes(pickle.dumps((train, (test[0][:7], test[1][:7]), test)))
    assert main(["evaluate", "run", "--data", "other.pkl", "--split", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 7


def test_data_that_has_grown_since_the_run(
    held: dict[str, list[int]], small_data: xpnet.Dataset, fails: Callable[..., str]
) -> None:
    write_npz("patterns.npz", replace(small_data, train=small_data.train[:300]))
    assert fails(2, "evaluate", "run", "--split", "validation") == (
        "run was trained on 297 images, but without those held out patterns.npz now has 270: it is no longer known "
        "which they were"
    )


# --- gradcheck -------------------------------------------------------------------------------------------------------


def test_gradcheck_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", "--libraries", "numpy"]) == 0
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines() if not line.startswith("data ")) <= 80
    assert re.search(r"^dense +\d\.\de-\d\d +- +\d\.\de-\d\d *$", out, re.MULTILINE)
    assert "all on numpy cpu" in out
    assert re.search(r"^all \d+ comparisons are within bounds", out, re.MULTILINE)


def test_gradcheck_fails_and_names_what_is_out_of_bounds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_: object) -> list[Comparison]:
        where = "numpy", "cpu"
        return [
            Comparison("dense", *where, "float64", "finite differences", 1e-9, 1e-6),
            Comparison("relu", *where, "float64", "finite differences", 3e-2, 1e-6),
            Comparison("tanh", *where, "float32", "numpy cpu float64", float("inf"), 1e-5),
        ]

    monkeypatch.setattr("xpnet.cli.gradcheck.check", check)
    assert main(["gradcheck", "--libraries", "numpy"]) == 1
    out, err = capsys.readouterr()
    assert "2 of 3 comparisons are out of bounds" in out
    assert re.search(r"^relu +3\.0e-02 bad", out, re.MULTILINE)
    assert "relu on numpy cpu, float64 against finite differences: relative error 3.0e-02, bound 1e-06" in err
    assert main(["gradcheck", "--libraries", "numpy", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert [row["ok"] for row in found["comparisons"]] == [True, False, False]


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (2, ["--libraries", "numpy", "tensroflow"], "unknown library 'tensroflow'"),
        (2, ["--devices", "cpu", "gpu"], "unknown device 'gpu'"),
        (1, ["--devices", "cuda", "--libraries", "numpy"], "NumPy has no device 'cuda'"),
    ],
)
def test_gradcheck_with_what_cannot_be_used(
    fails: Callable[..., str], status: int, arguments: list[str], message: str
) -> None:
    assert message in fails(status, "gradcheck", *arguments)


# --- data and info ---------------------------------------------------------------------------------------------------


def test_data_list(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("data", "kmnist")
    folder.mkdir(parents=True)
    for part, n in (("train", 2), ("t10k", 1)):
        xpnet.data.write_idx(folder / f"{part}-images-idx3-ubyte", np.zeros((n, 28, 28), np.uint8))
        xpnet.data.write_idx(folder / f"{part}-labels-idx1-ubyte", np.zeros(n, np.uint8))
    assert main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines() if not line.startswith("data ")) <= 80
    words = " ".join(out.split())
    for name, info in xpnet.data.SETS.items():
        assert f"{name} {info.title} {info.n_train:,} training and {info.n_test:,} test {info.examples}" in words
        assert info.licence in words
    assert f"in {folder}" in words
    assert "not on disk: xpnet data download mnist" in words


def test_data_download_of_what_there_is_nothing_to_download(fails: Callable[..., str]) -> None:
    assert "did you mean 'mnist'?" in fails(1, "data", "download", "mnits")
    assert "drawn by xpnet itself" in fails(1, "data", "download", "digits")


def test_data_show_draws_in_shades_where_there_is_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    images = np.zeros((3, 4, 6), np.uint8)
    images[1, :2, 2:4] = 255
    images[1, 3, 5] = 255
    labels = np.array([4, 7, 2])
    np.savez("few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert main(["data", "show", "few.npz", "--index", "1"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["1: 7", "  @@", "     ="]
    assert main(["data", "show", "few.npz", "--split", "test", "--count", "2"]) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == ["0:", "4", "1:", "7"]
    assert main(["data", "show", "few.npz", "--index", "1-2,0"]) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == ["1:", "7", "2:", "2", "0:", "4"]


@pytest.mark.parametrize(("columns", "copies", "across"), [("44", 4, 5), ("25", 2, 3), ("11", 1, 1)])
def test_data_show_draws_distortions_beside_each_image(
    patterns: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    copies: int,
    across: int,
) -> None:
    """As many as fit, at least one, which stands below where the terminal is too narrow."""
    monkeypatch.setenv("COLUMNS", columns)
    shown = ["data", "show", patterns, "--index", "8", "3"]
    assert main([*shown, "--augment", "shift=3", "alpha=20"]) == 0
    distorted = capsys.readouterr().out
    assert main([*shown, "--augment", "shift=3", "alpha=20"]) == 0
    assert capsys.readouterr().out == distorted
    assert main(shown) == 0
    plain = capsys.readouterr().out.splitlines()
    lines = distorted.splitlines()
    assert len(lines) == 2 * 4 * (1 if across > 1 else 2), "a title and three lines of a picture each"
    for i, index in enumerate((8, 3)):
        title, *picture = lines[i * len(lines) // 2 :]
        assert re.fullmatch(rf"{index}: \d", title)
        drawn = [[line[k : k + 6].rstrip() for line in picture[:3]] for k in range(0, 8 * across, 8)]
        if across == 1:
            drawn.append([line.rstrip() for line in picture[4:7]])
        assert len(drawn) == copies + 1
        assert all(drawn.count(each) == 1 for each in drawn), "each differs"
        begin = 8 * i if across > 1 else 0
        own = plain[1:4] if across > 1 else plain[4 * i + 1 : 4 * i + 4]
        assert drawn[0] == [line[begin : begin + 6].rstrip() for line in own]


def test_data_show_with_distortions_that_cannot_be(fails: Callable[..., str], patterns: str) -> None:
    assert "--augment shift must be in [0, 1000], not -1" in fails(2, "data", "show", patterns, "--augment", "shift=-1")
    images = np.zeros((2, 1, 5), np.uint8)
    np.savez("lines.npz", x_train=images, y_train=[0, 1], x_test=images, y_test=[0, 1])
    assert "--augment needs two-dimensional images" in fails(2, "data", "show", "lines.npz", "--augment")


def test_data_show_draws_half_blocks_in_grey_on_a_terminal() -> None:
    from io import StringIO

    from rich.console import Console

    from xpnet.cli.terminal import draw

    class Utf8(StringIO):
        encoding = "utf-8"

    image = np.array([[0, 255], [128, 64], [10, 20]], np.uint8)
    console = Console(file=Utf8(), force_terminal=True, color_system="truecolor", width=80, _environ={})
    console.print(draw(image, console))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert drawn.count("▀") == 4
    assert "38;2;255;255;255;48;2;64;64;64m▀" in drawn
    assert "38;2;20;20;20;48;2;0;0;0m▀" in drawn
    no_color = {"NO_COLOR": "1", "TERM": "xterm-256color"}
    plain = Console(file=Utf8(), force_terminal=True, color_system="truecolor", width=80, _environ=no_color)
    assert "▀" not in draw(image, plain).plain


def test_images_wider_than_the_terminal_are_thinned_out() -> None:
    from io import StringIO

    from rich.console import Console

    from xpnet.cli.terminal import draw

    lines = draw(np.full((100, 100), 1.0), Console(file=StringIO(), width=30)).plain.splitlines()
    assert lines == ["@" * 25] * 12 + ["=" * 25]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "60"], "--index 60 is out of range: the test split of patterns.npz has indices 0 to 59"),
        (["--index", "-1"], "--index -1 is out of range"),
        (["--index", "3-60"], "--index 60 is out of range"),
        (["--count", "0"], "--count must be at least 1, not 0"),
    ],
)
def test_data_show_what_is_not_there(
    fails: Callable[..., str], patterns: str, arguments: list[str], message: str
) -> None:
    assert message in fails(2, "data", "show", patterns, "--split", "test", *arguments)


def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        xpnet.backend.Availability("numpy", np.__version__, "cpu", True, "2 CPU threads"),
        xpnet.backend.Availability("cupy", None, "cuda", False, "CuPy is not installed: " + "a long story " * 9),
    ]
    monkeypatch.setattr("xpnet.cli.info.available", lambda: rows)
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["xpnet"] == xpnet.__version__
    assert found["numpy"] == np.__version__
    assert found["devices"][1] == rows[1]._asdict()
    assert str(Path("data").absolute()) in found["data"]
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines() if not line.startswith("data ")) <= 80
    assert re.search(r"^cupy +- +cuda +no +CuPy is not", out, re.MULTILINE)


# --- the program -----------------------------------------------------------------------------------------------------


def program(*arguments: str, **options: object) -> subprocess.Popen[str]:
    """python -m xpnet in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parent.parent)}
    environment.pop("PYTHONUNBUFFERED", None)  # as users run it
    command = [sys.executable, "-m", "xpnet", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, **options)  # type: ignore[call-overload,no-any-return]


def test_help_and_version_and_unknown_commands(fails: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"xpnet {xpnet.__version__}\n"
    assert main([]) == 0
    assert "gradcheck" in capsys.readouterr().out
    assert "did you mean 'train'?" in fails(2, "trian")
    assert fails(2, "nothing") == "unknown command 'nothing'; xpnet --help lists them"
    assert "list" in fails(2, "data", "lsit")


def test_help_imports_no_array_library() -> None:
    code = "import sys; from xpnet.cli import main; main(['--help']); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert "cyclopts" in loaded
    assert not {"numpy", "torch", "jax", "cupy", "array_api_strict", "matplotlib"} & set(loaded)


def test_what_is_left_at_the_end_is_not_searched_for_garbage() -> None:
    code = "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count())); sys.argv[1:] = ['--version']"
    code += "; from xpnet.__main__ import main; print(gc.get_freeze_count()); main()"
    environment = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    before, _, after = done.stdout.splitlines()
    assert int(before) == 0 < int(after)


EVERYTHING = """
import importlib.util, sys
from xpnet.cli import main
streams, data, run, *quick = sys.argv[1:]
commands = [["train", "--data", data, "--out", run, *quick], ["evaluate", run, "--data", data], ["summary", run]]
commands += [["predict", run, "--data", data, "--index", "3"], ["recipes"], ["train", "--resume", run, "--data", data]]
commands += [["plot", run]] if importlib.util.find_spec("matplotlib") else []
codes = []
for words in [*commands, ["evaluate", "nothere"]]:
    if streams == "none":
        sys.stdout = sys.stderr = None
    elif streams == "closed":
        sys.stdout.close(), sys.stderr.close()
    codes.append(main(words))
sys.exit(codes != [0] * len(commands) + [1])
"""

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX and its file names")


@pytest.mark.parametrize(
    ("streams", "name"),
    [
        ("none", "run"),
        ("closed", "run"),
        pytest.param("without descriptors", "run", marks=POSIX),
        ("cp1252", "\u03a9"),
        pytest.param("pipes", "\udcff", marks=pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode")),
    ],
)
def test_no_command_fails_for_a_stream_or_a_name(patterns: str, streams: str, name: str) -> None:
    """As in a service, which has no streams, and where the locale lacks a letter or a name is not UTF-8."""
    Path(name).mkdir()
    data = Path(patterns).rename(Path(name, patterns))
    command = [sys.executable, "-c", EVERYTHING, streams, str(data), str(Path(name, "run")), *QUICK]
    environment = {**os.environ, "PYTHONPATH": str(Path(xpnet.__file__).parent.parent)}
    if streams == "cp1252":
        environment["PYTHONIOENCODING"] = "cp1252"
    if streams == "without descriptors":
        command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert xpnet.load(Path(name, "run"), "cpu").network.sizes == (36, 16, 3)
    if streams in ("cp1252", "pipes"):
        escaped = name.encode("ascii", "backslashreplace")
        assert b"saved in " + escaped in done.stdout
        assert b"xpnet: error: nothere: no such file" in done.stderr
    else:
        assert not done.stdout + done.stderr


def test_training_without_a_stream_for_its_progress(
    small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    xpnet.fit(xpnet.MLP((36, 4, 3)), small_data, epochs=1, device="cpu", callbacks=[xpnet.Progress()])
    assert not capsys.readouterr().out


def test_debug_shows_the_traceback_and_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "mnits", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("xpnet: error: unknown data 'mnits'")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory"),
        (OSError(28, "No space left on device", "run/history.csv"), "run/history.csv: No space left on device"),
    ],
)
def test_the_machine_runs_out(
    fails: Callable[..., str], patterns: str, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("xpnet.cli.train.fit", fail)
    assert fails(1, "train", "--data", patterns) == line


def test_interrupt_before_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], patterns: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xpnet.cli.settings.load_data", interrupt)
    assert main(["train", "--data", patterns]) == 130
    assert capsys.readouterr().err == "xpnet: interrupted; nothing was trained yet\n"


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch, patterns: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("xpnet.cli.train.fit", fail)
    with pytest.raises(ZeroDivisionError):
        main(["train", "--data", patterns])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
def test_interrupt_saves_and_exits_130(patterns: str) -> None:
    process = program("train", "--data", patterns, "--epochs", "1000000", "--device", "cpu", "--out", "run")
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        if line.lstrip().startswith("1/1000000") and not seen:
            seen = line
            process.send_signal(signal.SIGINT)
        last = line
    assert process.wait() == 130
    process.stdout.close()  # type: ignore[union-attr]
    process.stderr.close()
    match = re.fullmatch(
        r"xpnet: interrupted; the parameters of epoch (\d+) are saved in run; xpnet train --resume run continues after "
        r"epoch \d+(, step \d+)?\n",
        last,
    )
    assert match, last
    assert int(match[1]) >= 1
    with open("run/history.csv") as history:
        assert [int(row["epoch"]) for row in csv.DictReader(history)] == list(range(1, int(match[1]) + 1))
    assert xpnet.load("run", "cpu").network.sizes[0] == 36


TRAIN = ["train", "--device", "cpu", "--batch-size", "5", "--epochs", "3"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize(("number", "status", "what"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_saves_the_state_within_the_epoch_and_a_second_one_waits_for_no_step(
    patterns: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    number: str,
    status: int,
    what: str,
) -> None:
    class Impatient(xpnet.Callback):
        def on_steps(self, run: xpnet.Run) -> None:
            for _ in range(times if run.epoch == 2 and run.done < 64 else 0):
                signal.raise_signal(getattr(signal, number))

    handler = signal.getsignal(getattr(signal, number))
    with monkeypatch.context() as patched:
        patched.setattr("xpnet.training.fit.Progress", Impatient)
        assert main([*TRAIN, "--data", patterns, "--out", "run"]) == status
    out, err = capsys.readouterr()
    assert not out
    where = "epoch 2, step 44" if times == 1 else "epoch 1"
    line = f"the parameters of epoch 1 are saved in run; xpnet train --resume run continues after {where}"
    assert err.endswith(f"\nxpnet: {what}; {line}\n")
    assert len(xpnet.training.history.read_history("run")) == 1
    assert not os.path.exists("run/curves.png"), "somebody waits"
    assert signal.getsignal(getattr(signal, number)) is handler
    assert main([*TRAIN, "--data", patterns, "--out", "whole"]) == 0
    whole = capsys.readouterr().out.splitlines()[0]
    assert main(["train", "--resume", "run"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{whole}\nsaved in run\n"
    assert f"continuing run after {where}\n" in err
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_terminated_before_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], patterns: str
) -> None:
    monkeypatch.setattr("xpnet.cli.settings.load_data", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert main(["train", "--data", patterns]) == 143
    assert capsys.readouterr().err == "xpnet: terminated; nothing was trained yet\n"


def test_an_interruption_without_a_signal(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a handler that is somebody else's."""

    class Interrupt(xpnet.Callback):
        def on_epoch(self, run: Run) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("xpnet.training.fit.Progress", Interrupt)
    assert main([*TRAIN, "--data", patterns, "--out", "run"]) == 130
    assert capsys.readouterr().err.endswith(" are saved in run; xpnet train --resume run continues after epoch 1\n")


def test_a_state_that_could_not_be_written_is_not_promised(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupt(xpnet.Callback):
        def on_epoch(self, run: Run) -> None:
            signal.raise_signal(signal.SIGINT)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "run/checkpoints")

    monkeypatch.setattr("xpnet.training.fit.Progress", Interrupt)
    monkeypatch.setattr("xpnet.training.directory.write_checkpoint", full)
    assert main([*TRAIN, "--data", patterns, "--out", "run"]) == 130
    err = capsys.readouterr().err
    assert "cannot write run/checkpoints: No space left on device" in err
    assert err.endswith("\nxpnet: interrupted; the parameters of epoch 1 are saved in run\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_after_the_last_step_interrupts_no_more_than_the_picture(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra: pip install 'xpnet[plot]'")
    curves = xpnet.plots.curves

    def slowly(*arguments: Any, **options: Any) -> Any:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return curves(*arguments, **options)

    monkeypatch.setattr("xpnet.plots.curves", slowly)
    assert main([*TRAIN, "--data", patterns, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"test accuracy [\d.]+ %, loss [\d.]+ on patterns.npz, epoch 3\nsaved in run\n", out)
    assert "interrupted;" not in err
    assert os.path.exists("run/curves.png") == (times == 1)
    assert ("curves.png was not drawn: interrupted" in err) == (times == 2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_signal_in_the_last_step_of_all_finds_the_run_finished(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(xpnet.Callback):
        def on_steps(self, run: xpnet.Run) -> None:
            if run.epoch == run.config.epochs and run.done == run.n_steps:
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("xpnet.training.fit.Progress", Late)
    assert main([*TRAIN, "--data", patterns, "--out", "run"]) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[0].endswith("on patterns.npz, epoch 3")


SLOW_DISK = """
import os, sys, time
import xpnet.cli
flush = os.fsync
def slowly(descriptor):
    print("flushing", flush=True)
    time.sleep(0.5)
    flush(descriptor)
os.fsync = slowly
sys.exit(xpnet.cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_signals_while_files_are_written_leave_them_whole(patterns: str) -> None:
    """The first saves, the second ends at once: but for the file in hand."""
    arguments = [*TRAIN[:-1], "100000", "--data", patterns, "--out", "run"]
    process = subprocess.Popen([sys.executable, "-c", SLOW_DISK, *arguments], stdout=-1, stderr=-1, text=True)
    assert process.stdout is not None
    for _ in range(12):  # into the second checkpoint
        assert process.stdout.readline() == "flushing\n"
    process.send_signal(signal.SIGTERM)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143, err
    assert out.count("flushing") <= 10, "no more than the checkpoint in hand, the history and the model"
    assert "Traceback" not in err
    assert "xpnet: terminated; the parameters of epoch" in err
    assert not [*Path("run").rglob("*.tmp"), *Path("run").rglob(".lock")]
    newest, faults = xpnet.training.checkpoint.newest_checkpoint(Path("run/checkpoints"))
    assert newest is not None
    assert not faults
    assert xpnet.load("run", "cpu").network.sizes[0] == 36


# --- resuming --------------------------------------------------------------------------------------------------------


def test_a_finished_run_says_so_and_epochs_may_grow(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--data", patterns, "--out", "run"]) == 0
    result = capsys.readouterr().out
    assert main(["train", "--resume", "run"]) == 0
    out, err = capsys.readouterr()
    assert out == result
    assert err.endswith("run is finished; add --epochs to extend it\n")
    assert main(["train", "--resume", "run", "--epochs", "5"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("epoch 5")
    assert len(xpnet.training.history.read_history("run")) == 5


@pytest.mark.parametrize("where", ["the newest checkpoint of run", "recipe run/config.toml"])
def test_a_setting_of_another_version_is_reported_with_its_place(
    patterns: str, fails: Callable[..., str], capsys: pytest.CaptureFixture[str], where: str
) -> None:
    assert main([*TRAIN, "--data", patterns, "--out", "run"]) == 0
    capsys.readouterr()
    newest, _ = xpnet.training.checkpoint.newest_checkpoint(Path("run/checkpoints"))
    assert newest is not None
    if "toml" in where:
        shutil.rmtree("run/checkpoints")
        Path("run/config.toml").write_text("cunning = 3\n")
    else:
        xpnet.training.checkpoint.write_checkpoint(Path("run/checkpoints"), newest._replace(settings="cunning = 3\n"))
    assert fails(2, "train", "--resume", "run").startswith(f"{where}: unknown setting 'cunning'; the choices are ")


def test_a_run_without_a_checkpoint_yet_begins_with_its_settings(
    patterns: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "--data", patterns, "--out", "run", "--seed", "3"]) == 0
    expected = Path("run/model.safetensors").read_bytes()
    for path in Path("run").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink() if path.name != "config.toml" else None
    assert main(["train", "--resume", "run"]) == 0
    assert Path("run/model.safetensors").read_bytes() == expected


@pytest.mark.parametrize(
    ("code", "arguments", "line"),
    [
        (2, ["--recipe", ""], "unknown recipe ''; the choices are "),
        (2, ["--out", ""], "--out must name a directory of its own, not the current one"),
        (
            1,
            ["--resume", "nowhere"],
            "nowhere holds no run to continue: it has neither checkpoints nor a config.toml; start one with --out",
        ),
        (
            2,
            ["--resume", "run", "--out", "b"],
            "--resume continues in run with that run's settings: leave out --out",
        ),
        (
            2,
            ["--resume", "run", "--recipe", "fast"],
            "--resume continues in run with that run's settings: leave out --rec",
        ),
        (
            2,
            ["--resume", "run", "--lr", "9"],
            "resumed runs keep their settings, and this one has lr 0.15, not 9.0; start a new run",
        ),
        (
            2,
            ["--resume", "run", "--hidden", "9"],
            "resumed runs keep their settings, and this one has hidden [128], not [9]",
        ),
        (
            2,
            ["--resume", "run", "--batch-size", "9"],
            "resumed runs keep their settings, and this one has batch_size 5, not 9",
        ),
        (2, ["--resume", "run", "--epochs", "2"], "--epochs must be at least 3, the number already finished"),
        (2, ["--resume", "run", "--data", "other.npz"], "the run was trained on other data: "),
        (
            2,
            ["--resume", "run", "--checkpoint-every", "5m"],
            "--checkpoint-every must be a number of steps, or of seconds",
        ),
        (2, ["--resume", "run", "--keep", "-1"], "--keep must be at least 0, not -1"),
        (2, ["--resume", "run", "--on-nonfinite", "stp"], "--on-nonfinite: unknown value 'stp'; did you mean 'stop'?"),
    ],
)
def test_what_does_not_go_on(
    fails: Callable[..., str],
    patterns: str,
    small_data: xpnet.Dataset,
    capsys: pytest.CaptureFixture[str],
    code: int,
    arguments: list[str],
    line: str,
) -> None:
    write_npz("other.npz", replace(small_data, test=small_data.train))
    assert main([*TRAIN, "--data", patterns, "--out", "run"]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in Path("run").rglob("*.*") if path.is_file()}
    assert fails(code, "train", *arguments).startswith(line)
    assert {path: path.read_bytes() for path in before} == before


def test_other_data_are_too_few_to_hold_out_as_many(
    fails: Callable[..., str], patterns: str, small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("few.npz", x_train=small_data.train.images[:50], y_train=small_data.train.targets[:50])
    assert main([*TRAIN, "--data", patterns, "--validation", "100", "--out", "run"]) == 0
    capsys.readouterr()
    resume = "train", "--resume", "run", "--data", "few.npz"
    assert fails(2, *resume) == (
        "run was trained on other data, of which 100 examples were held out: few.npz has only 50; resume with the same "
        "data"
    )
    assert fails(2, *resume, "--validation", "60").startswith("--validation 60 would hold out 60 of 50")


def test_a_second_process_is_refused(fails: Callable[..., str], patterns: str) -> None:
    process = program("train", "--data", patterns, "--epochs", "1000000", "--device", "cpu", "--out", "run")
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.lstrip().startswith("1/1000000"):
                break
        for arguments in (["--resume", "run"], ["--data", patterns, "--out", "run"]):
            line = fails(2, "train", *arguments)
            assert line.startswith(f"run is in use: process {process.pid} on ")
            assert line.endswith(" is training there; name another directory")
    finally:
        process.kill()
        process.communicate()
    assert fails(2, "train", "--resume", "run", "--lr", "9").startswith("resumed runs keep"), "the lock went with it"


def test_a_signal_that_is_ignored_stays_ignored(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a program that a script has started in the background."""

    class Sender(xpnet.Callback):
        def on_steps(self, run: object) -> None:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("xpnet.training.fit.Progress", Sender)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["train", "--data", patterns, *QUICK, "--out", "run"]) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)


def test_training_in_a_thread(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no signal can be taken over."""
    with ThreadPoolExecutor() as pool:
        assert pool.submit(main, ["train", "--data", patterns, *QUICK, "--out", "run"]).result() == 0


def test_interrupt_before_the_first_step(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xpnet.training.fit.prepare", interrupt)
    assert main(["train", "--data", patterns, *QUICK, "--out", "run"]) == 130
    assert capsys.readouterr().err.endswith("xpnet: interrupted; nothing was trained yet\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no broken pipes")
@pytest.mark.parametrize("arguments", [["data", "list"], ["evaluate", "run", "--json", "--device", "cpu"]])
def test_a_reader_that_goes_away_is_met_in_silence(trained: str, arguments: list[str]) -> None:
    process = program(*arguments)
    process.stdout.close()  # type: ignore[union-attr]
    assert process.stderr is not None
    assert re.fullmatch(r"(reading .*\n)?", process.stderr.read())
    process.stderr.close()
    assert process.wait() == 1


def test_module_runs_and_returns_the_exit_code() -> None:
    out, err = (process := program("train", "--epochs", "-1")).communicate()
    assert (process.returncode, out) == (2, "")
    assert err == "xpnet: error: --epochs must be at least 1, not -1\n"
