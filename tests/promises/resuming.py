"""Runs that are stopped and resumed: how they are stopped, and how they are compared to the last bit."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet.training.checkpoint import newest_checkpoint
from xpnet.training.history import Epoch, read_history
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


def arrays(result: xpnet.Result) -> list[np.ndarray]:
    return [result.model.backend.to_host(a) for a in (*result.model.params, *result.model.running)]


def figures(result: xpnet.Result) -> list[Epoch]:
    return [dataclasses.replace(epoch, seconds=0.0, samples_per_second=0.0) for epoch in result.history]


def assert_same(one: xpnet.Result, other: xpnet.Result) -> None:
    assert figures(one) == figures(other)
    assert (one.model_epoch, one.stop_reason) == (other.model_epoch, other.stop_reason)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


def result(run: Path) -> dict[str, Any]:
    """All that a run has come to, but for the time it took."""
    newest, faults = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert not faults
    figures = [{n: v for n, v in vars(epoch).items() if "second" not in n} for epoch in read_history(run)]
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp") or path.name == ".lock"]
    return {
        "model": (run / "model.safetensors").read_bytes(),
        "history": figures,
        "config": (run / "config.toml").read_text(),
        "step": newest.step,
        **{name: array.tobytes() for name, array in newest.arrays.items()},
    }
