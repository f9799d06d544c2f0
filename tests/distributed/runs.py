"""The runs that the tests of faults train, and what is asked of them afterwards."""

import platform
import re
from pathlib import Path
from typing import Any

from tests.promises.resuming import result
from xpnet.cli import main

from .launching import Finished

__all__ = ["RUN", "SCRIPT", "SHARDS", "assert_goes_on", "assert_line"]

# 11 steps an epoch, of shards of eight rows.
RUN = ["--data", "patterns.npz", "--hidden", "8", "--batch-size", "32", "--epochs", "3", "--device", "cpu", "--quiet"]
SHARDS = ["--shards", "4"]

# A program of a user: what its callback does after the second epoch is to be filled in.
SCRIPT = """
import os, pathlib, sys, time
import numpy as np
import xpnet

team = xpnet.distributed.started()

class Happens(xpnet.Callback):
    def on_epoch(self, run):
        if len(run.history) == 2:
            {}

X = np.random.default_rng(0).random((400, 5))
y = (X[:, 0] > X[:, 1]).astype(int)
result = xpnet.fit(xpnet.MLP((5, 8, 2)), (X, y), epochs=4, batch_size=40, device="cpu", callbacks=[Happens()],
                   out="run", progress=False, team=team)
print(result.history[-1].train_loss)
"""


def assert_line(found: Finished, status: int, line: str) -> None:
    """A launch ended with an exit code and one line, a pattern, in which HOST is the name of this machine."""
    assert found.status == status, found.err
    assert found.err.endswith("\n")
    assert re.fullmatch(line.replace("HOST", re.escape(platform.node())), found.err[:-1]), found.err


def assert_goes_on(whole: dict[str, Any]) -> None:
    """The run in the directory run continues to its end, in one process, with the bits of the whole one."""
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert not [path for path in Path("run").rglob("*") if path.name.endswith(".tmp")]
    assert result(Path("run")) == whole
