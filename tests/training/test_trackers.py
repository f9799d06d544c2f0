"""Runs that are sent to W&B and MLflow: the packages themselves, without a network."""

import re
from pathlib import Path
from typing import Any

import pytest

import xpnet
from xpnet.training.logs import Tracker

SETTINGS: dict[str, Any] = {"epochs": 3, "validation": 0.1, "lr": 0.05, "batch_size": 32, "device": "cpu"}


def fit(data: xpnet.Dataset, *callbacks: xpnet.Callback, **settings: Any) -> xpnet.Result:
    network = xpnet.MLP((36, 5, 3))
    return xpnet.fit(network, data, callbacks=list(callbacks), progress=False, **{**SETTINGS, **settings})


class Recorder(Tracker):
    """A tracker of lists, which fails on demand."""

    title = "the record"

    def __init__(self, broken: str = "") -> None:
        self.broken, self.calls = broken, list[tuple[Any, ...]]()

    def _note(self, what: str, *arguments: Any) -> None:
        self.calls.append((what, *arguments))
        if what == self.broken:
            raise RuntimeError("no\nconnection")

    def _begin(self, settings: dict[str, Any]) -> None:
        self._note("begin", settings)

    def _send(self, epoch: int, figures: dict[str, float]) -> None:
        self._note("send", epoch, figures)

    def _finish(self, failed: bool) -> None:
        self._note("finish", failed)


def test_what_is_sent(small_data: xpnet.Dataset) -> None:
    tracker = Recorder()
    result = fit(small_data, tracker)
    assert [call[0] for call in tracker.calls] == ["begin", "send", "send", "send", "send", "finish"]
    settings, first, test = tracker.calls[0][1], tracker.calls[1], tracker.calls[4]
    assert (settings["network"], settings["lr"]) == ("36-5-3 relu", 0.05)
    names = {f"{figure}/{split}" for figure in ("loss", "accuracy") for split in ("train", "validation")}
    assert set(first[2]) == names | {"learning_rate", "seconds", "samples_per_second"}
    assert (first[1], first[2]["loss/train"]) == (1, result.history[0].train_loss)
    last = result.history[-1]
    assert test == ("send", 3, {"loss/test": last.test_loss, "accuracy/test": last.test_accuracy})
    assert tracker.calls[-1] == ("finish", False)


def test_the_test_split_is_sent_once(small_data: xpnet.Dataset) -> None:
    tracker = Recorder()
    fit(small_data, tracker, test_each_epoch=True)
    sent = [call[2] for call in tracker.calls if call[0] == "send"]
    assert len(sent) == 3
    assert all("loss/test" in figures for figures in sent)


@pytest.mark.parametrize("broken", ["send", "finish"])
def test_a_fault_is_reported_once_and_training_continues(
    broken: str, small_data: xpnet.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(fit(small_data, Recorder(broken)).history) == 3
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "the record has a fault, and training continues: no connection"
    ]


def test_a_tracker_that_cannot_begin_ends_the_run_before_any_work(small_data: xpnet.Dataset) -> None:
    with pytest.raises(xpnet.ConfigError, match=r"^the record cannot begin: no connection$"):
        fit(small_data, Recorder("begin"))


def test_a_run_that_fails_is_said_to_have_failed(small_data: xpnet.Dataset) -> None:
    tracker = Recorder()
    with pytest.raises(xpnet.NonFiniteError):
        fit(small_data, tracker, lr=1e30, optimizer="sgd", schedule="constant")
    assert tracker.calls[-1] == ("finish", True)


def test_wandb_offline(small_data: xpnet.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    result = fit(small_data, xpnet.WandbLog("mine", path=tmp_path))
    wandb.teardown()  # as at the end of the process, which waits until its file is complete
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    for text in ("mine", "xpnet", "36-5-3 relu", "loss/train", "accuracy/validation", "accuracy/test"):
        assert text.encode() in content
    for epoch in result.history:
        assert re.search(re.escape(repr(epoch.validation_loss)).encode(), content)


@pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy
def test_mlflow_in_a_file(small_data: xpnet.Dataset, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    results = [fit(small_data, xpnet.MLflowLog(name, uri=uri)) for name in ("first", "second")]
    client = mlflow.MlflowClient(tracking_uri=uri)
    (experiment,) = (each for each in client.search_experiments() if each.name == "xpnet")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"first", "second"}
    run = runs["first"]
    assert (run.info.status, run.data.params["network"], run.data.params["lr"]) == ("FINISHED", "36-5-3 relu", "0.05")
    found = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss/validation")]
    assert found == [(epoch.epoch, epoch.validation_loss) for epoch in results[0].history]
    assert run.data.metrics["accuracy/test"] == results[0].history[-1].test_accuracy


@pytest.mark.parametrize(("package", "log"), [("wandb", "WandbLog"), ("mlflow", "MLflowLog")])
def test_a_missing_package_is_named(package: str, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(xpnet.MissingPackageError, match=rf'needs {package}.*pip install "xpnet\[{package}\]"'):
        getattr(xpnet, log)()
