"""xpnet train --from: a model is trained further."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.cli import main

QUICK = ["--device", "cpu", "--epochs", "1", "--quiet"]


@pytest.fixture
def first(patterns: str) -> str:
    """A run on the patterns, of three classes."""
    assert main(["train", "--data", patterns, "--hidden", "7", "--activation", "tanh", *QUICK, "--out", "first"]) == 0
    return "first"


def test_paths_hold_in_every_folder(
    own_directory: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name, n in (("train", 60), ("test", 30), ("held", 20)):
        lines = [f"{a:.4f},{b:.4f},{'hot' if a > 0 else 'cold'}" for a, b in rng.normal(size=(n, 2))]
        Path(f"{name}.csv").write_text("\n".join(["a,b,label", *lines]))
    started = ["train", "--data", "train.csv", *QUICK]
    further = [*started, "--test", "test.csv", "--validation", "held.csv", "--teacher", "first", "--from", "first"]
    assert main([*started, "--out", "first"]) == 0
    assert main([*further, "--out", "second"]) == 0
    with monkeypatch.context() as patch:  # as an older xpnet had it
        patch.setattr(xpnet.TrainConfig, "located", lambda self: self)
        assert main([*further, "--out", "old"]) == 0
    assert main(["train", "--resume", "old", "--epochs", "2", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "second"]) == 0
    expected = capsys.readouterr().out.splitlines()[1:]
    home = Path.cwd()
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    Path("test.csv").write_text("a,b,label\n0,0,hot\n1,0,cold")
    assert main(["evaluate", "../second"]) == 0
    found = capsys.readouterr().out.splitlines()[1:]
    assert [line for line in found if "second" not in line] == [line for line in expected if "second" not in line]
    assert main(["train", "--resume", "../second", "--epochs", "2", "--quiet"]) == 0


def test_parameters_are_taken_over(first: str, patterns: str) -> None:
    arguments = ["train", "--from", first, "--data", patterns, "--lr", "1e-9", *QUICK]
    assert main([*arguments, "--out", "second"]) == 0
    before, after = xpnet.load(first, "cpu"), xpnet.load("second", "cpu")
    assert str(after.network) == "36-7-3 tanh"
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(before.params, after.params, strict=True))
    assert f'start = "{Path("first").absolute()}"' in Path("second/config.toml").read_text()


def test_a_run_from_a_model_resumes(first: str, patterns: str) -> None:
    arguments = ["train", "--from", first, "--data", patterns, "--device", "cpu", "--schedule", "constant", "--quiet"]
    assert main([*arguments, "--epochs", "3", "--out", "whole"]) == 0
    assert main([*arguments, "--epochs", "1", "--out", "parts"]) == 0
    assert main(["train", "--resume", "parts", "--epochs", "3", "--quiet"]) == 0
    whole, parts = xpnet.load("whole", "cpu"), xpnet.load("parts", "cpu")
    assert all(np.array_equal(a, b) for a, b in zip(whole.params, parts.params, strict=True))


def test_other_classes(first: str, patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = xpnet.load_data(patterns)
    np.savez("two.npz", x_train=data.train.images, y_train=data.train.targets % 2 + 5)
    assert main(["train", "--from", first, "--data", "two.npz", *QUICK, "--out", "second"]) == 0
    assert "with a new last layer, since the outputs stand for other things" in capsys.readouterr().err
    assert xpnet.load("second", "cpu").network.sizes == (36, 7, 2)


def test_refused(first: str, patterns: str, fails: Callable[..., str]) -> None:
    train = ["train", "--from", first, "--data", patterns, *QUICK]
    assert "the network is that of first: leave out --hidden, or --from" in fails(2, *train, "--hidden", "5")
    np.savez("wide.npz", x_train=np.zeros((6, 7, 7), np.uint8), y_train=np.arange(6) % 2)
    assert "the model takes 36 features, but wide.npz has 49" in fails(2, *train[:3], "--data", "wide.npz", *QUICK)
    assert "no such file" in fails(1, "train", "--from", "gone", "--data", patterns, *QUICK)
    assert "--from is for xpnet train" in fails(2, "lr-find", "--from", first, "--data", patterns)


def test_data_without_labels(fails: Callable[..., str]) -> None:
    Path("test.csv").write_text("\n".join([",".join(f"pixel{i}" for i in range(36)), *[",".join("7" * 36)] * 5]) + "\n")
    assert "the data have no labels to learn from" in fails(2, "train", "--data", "test.csv", *QUICK)
