"""A disk that fails ends no run, and loses nothing."""

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import xpnet
from tests.promises.faults import Faults
from tests.promises.resuming import Train, arrays, assert_same
from xpnet.training.history import read_history
from xpnet.training.run import Run


@pytest.mark.slow
@pytest.mark.usefixtures("every_epoch")
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


@pytest.mark.usefixtures("every_epoch")
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
