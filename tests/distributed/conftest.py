"""What the tests of faults share."""

from pathlib import Path
from typing import Any

import pytest

from tests.promises.resuming import result
from xpnet.cli import main

from .runs import RUN, SHARDS


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnet.training.directory.RunDirectory._draw", lambda *_: None)


@pytest.fixture
def whole(patterns: str, no_picture: None) -> dict[str, Any]:
    """What the run comes to if nothing happens to it, here in one process."""
    assert main(["train", *RUN, *SHARDS, "--out", "whole"]) == 0
    return result(Path("whole"))
