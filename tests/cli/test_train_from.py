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


def test_parameters_are_taken_over(first: str, patterns: str) -> None:
    arguments = ["train", "--from", first, "--data", patterns, "--lr", "1e-9", *QUICK]
    assert main([*arguments, "--out", "second"]) == 0
    before, after = xpnet.load(first, "cpu"), xpnet.load("second", "cpu")
    assert str(after.network) == "36-7-3 tanh"
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(before.params, after.params, strict=True))
    assert 'start = "first"' in Path("second/config.toml").read_text()


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
