"""Callbacks that write the figures of each epoch in formats that other programs read."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xpnet.checks import required
from xpnet.errors import ConfigError
from xpnet.training.callbacks import Callback
from xpnet.training.history import Epoch, write_history
from xpnet.training.run import Run

__all__ = ["CSVLog", "TensorBoardLog", "Writer"]

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
        for name, value in dataclasses.asdict(epoch).items():
            split, _, quantity = name.rpartition("_")
            if quantity not in ("loss", "accuracy", "r2"):
                split, quantity = "train", name
            if value is not None and name != "epoch" and only in (None, split):
                by_split.setdefault(split, {})[quantity] = value
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
