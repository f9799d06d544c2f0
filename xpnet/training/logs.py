"""Callbacks that write the figures of each epoch in formats that other programs read, or send them there."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xpnet.checks import required
from xpnet.errors import ConfigError
from xpnet.training.callbacks import Callback
from xpnet.training.history import Epoch, write_history
from xpnet.training.run import Run

__all__ = ["CSVLog", "MLflowLog", "TensorBoardLog", "WandbLog", "Writer"]

logger = logging.getLogger(__name__)


class Writer(Callback):
    """Base of the callbacks that write files: a failing disk does not end the run.

    path : of the file or directory that is written.
    """

    path: Path
    _reported = False

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which a failure to write is noted, and reported if it is the first."""
        try:
            yield
        except OSError as error:
            self.fault = f"{error.filename or self.path}: {error.strerror or error}"
            if not self._reported:
                self._reported = True
                logger.warning(
                    "cannot write %s; training continues, and the files written before are intact", self.fault
                )
        else:
            self.fault = None


class CSVLog(Writer):
    """Writes the history as CSV, again after each epoch.

    path : of the file; its directory is created.   Raises ConfigError, before any training, where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_start(self, run: Run) -> None:
        """Write the header of the table."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_history(self.path, run.history)
        except OSError as error:
            raise ConfigError(f"cannot write the log {self.path}: {error.strerror or error}") from None

    def on_epoch(self, run: Run) -> None:
        """Write a line for each epoch so far."""
        with self.writing():
            write_history(self.path, run.history)

    def on_end(self, run: Run) -> None:
        """Write the file a last time, with the figures of the test split."""
        if run.history:
            self.on_epoch(run)


class TensorBoardLog(Writer):
    """Writes the figures of each epoch as TensorBoard's scalars: loss, accuracy, learning_rate, ...

    Each split has a directory of its own, train, validation and test, so that all of them are lines of one chart.

    path : a directory, as TensorBoard calls a run.
    Raises MissingPackageError where tensorboardX is not installed, ConfigError where the directory cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._library = required("tensorboardX", "the TensorBoard log", "tensorboard")
        self._events: dict[str, Any] = {}

    def on_start(self, run: Run) -> None:
        """Open the event file of the training split."""
        try:
            self._of("train")
        except OSError as error:
            raise ConfigError(f"cannot write the log {self.path}: {error.strerror or error}") from None

    def on_epoch(self, run: Run) -> None:
        """Write the epoch's figures, so that a watching TensorBoard sees them."""
        self._write(run.history[-1])

    def on_end(self, run: Run) -> None:
        """Write the figures of the test split, if it was measured only now, and close the files."""
        if run.model_epoch and "test" not in self._events:
            self._write(run.history[run.model_epoch - 1], only="test")
        for events in self._events.values():
            events.close()

    def _write(self, epoch: Epoch, only: str | None = None) -> None:
        by_split: dict[str, dict[str, float]] = {}
        for name, value in _figures(epoch).items():
            quantity, _, split = name.partition("/")
            if only in (None, split):
                by_split.setdefault(split or "train", {})[quantity] = value
        with self.writing():
            for split, figures in by_split.items():
                event = self._library.proto.event_pb2.Event(step=epoch.epoch, wall_time=time.time())
                for tag, value in figures.items():
                    event.summary.value.add(tag=tag, simple_value=value)
                self._of(split).write_event(event)
                self._of(split).flush()

    def _of(self, split: str) -> Any:
        """The event file of a split, opened when it is first needed.   Raises OSError."""
        if split not in self._events:
            (self.path / split).mkdir(parents=True, exist_ok=True)
            # The writer beneath SummaryWriter, which writes from a thread whose queue its flush() doesn't wait for.
            self._events[split] = self._library.event_file_writer.EventsWriter(str(self.path / split / "events"))
        return self._events[split]


class Tracker(Callback):
    """Base of the callbacks that send figures to a program that keeps runs, whose failures do not end the training.

    The figures are named loss/train, accuracy/validation, learning_rate, ..., so that the splits share a section.
    """

    title = ""
    _reported = False

    def on_start(self, run: Run) -> None:
        """Begin a run there, with the settings of this one.   Raises ConfigError where that program refuses."""
        settings = {name: value for name, value in dataclasses.asdict(run.config).items() if value is not None}
        try:
            self._begin({"network": str(run.network), **settings})
        except Exception as error:  # whatever its package raises
            reason = " ".join(str(error).split())
            raise ConfigError(f"{self.title} cannot begin: {reason or type(error).__name__}") from error

    def on_epoch(self, run: Run) -> None:
        """Send the epoch's figures."""
        self._try(self._send, run.history[-1].epoch, _figures(run.history[-1]))

    def on_end(self, run: Run) -> None:
        """Send the figures of the test split, if it was measured only now, and end the run."""
        if run.model_epoch and not run.config.test_each_epoch:
            figures = _figures(run.history[run.model_epoch - 1])
            if test := {name: value for name, value in figures.items() if name.endswith("/test")}:
                self._try(self._send_once, run.model_epoch, test)
        self._try(self._finish, run.failure is not None)

    def _begin(self, settings: dict[str, Any]) -> None:
        raise NotImplementedError

    def _send(self, epoch: int, figures: dict[str, float]) -> None:
        raise NotImplementedError

    def _send_once(self, epoch: int, figures: dict[str, float]) -> None:
        self._send(epoch, figures)

    def _finish(self, failed: bool) -> None:
        raise NotImplementedError

    def _try(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception as error:
            if not self._reported:
                self._reported = True
                logger.warning("%s has a fault, and training continues: %s", self.title, " ".join(str(error).split()))


class WandbLog(Tracker):
    """Sends settings and figures to Weights & Biases, or keeps them in a directory where WANDB_MODE is offline.

    name : of the run there; None has one made up.   project : that it belongs to.   path : of its local files.
    Raises MissingPackageError where wandb is not installed.
    """

    title = "the W&B log"

    def __init__(self, name: str | None = None, *, project: str = "xpnet", path: str | Path | None = None) -> None:
        self._library = required("wandb", self.title, "wandb")
        self._options = {"name": name, "project": project, "dir": None if path is None else str(path)}

    def _begin(self, settings: dict[str, Any]) -> None:
        self._run = self._library.init(config=settings, reinit="create_new", **self._options)

    def _send(self, epoch: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=epoch)

    def _send_once(self, epoch: int, figures: dict[str, float]) -> None:
        self._run.summary.update({**figures, "epoch": epoch})  # an earlier epoch's step would be dropped

    def _finish(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class MLflowLog(Tracker):
    """Sends settings and figures to MLflow: to where MLFLOW_TRACKING_URI points, or to MLflow's own default.

    name : of the run there; None has one made up.   experiment : that it belongs to, created if it is missing.
    uri : of the tracking server or store, such as sqlite:///mlflow.db, in place of the variable.
    Raises MissingPackageError where MLflow is not installed.
    """

    title = "the MLflow log"

    def __init__(self, name: str | None = None, *, experiment: str = "xpnet", uri: str | None = None) -> None:
        self._library = required("mlflow", self.title, "mlflow")
        self._name, self._experiment, self._uri = name, experiment, uri

    def _begin(self, settings: dict[str, Any]) -> None:
        self._client = self._library.MlflowClient(tracking_uri=self._uri)
        known = self._client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known else self._client.create_experiment(self._experiment)
        self._run = self._client.create_run(experiment, run_name=self._name).info.run_id
        for name, value in settings.items():
            self._client.log_param(self._run, name, value)

    def _send(self, epoch: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def _finish(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _figures(epoch: Epoch) -> dict[str, float]:
    """The figures of an epoch by the names loss/train, accuracy/test, learning_rate, ..."""
    found = {}
    for name, value in dataclasses.asdict(epoch).items():
        split, _, quantity = name.rpartition("_")
        if value is not None and name != "epoch":
            found[f"{quantity}/{split}" if quantity in ("loss", "accuracy", "r2") else name] = float(value)
    return found
