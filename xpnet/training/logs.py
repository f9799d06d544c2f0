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
from xpnet.training.history import write_history
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


class TensorBoardLog(Writer):
    """Writes the figures of each epoch as TensorBoard's scalars: loss/train, accuracy/test, learning_rate, ...

    path : a directory, as TensorBoard calls a run.
    Raises MissingPackageError where tensorboardX is not installed, ConfigError where the directory cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._library = required("tensorboardX", "the TensorBoard log", "tensorboard")
        self._events: Any = None

    def on_start(self, run: Run) -> None:
        """Open an event file."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # The writer beneath SummaryWriter, which writes from a thread whose queue its flush() doesn't wait for.
            self._events = self._library.event_file_writer.EventsWriter(str(self.path / "events"))
        except OSError as error:
            raise ConfigError(f"cannot write the log {self.path}: {error.strerror or error}") from None

    def on_epoch(self, run: Run) -> None:
        """Write the epoch's figures, so that a watching TensorBoard sees them."""
        figures = dataclasses.asdict(run.history[-1])
        event = self._library.proto.event_pb2.Event(step=figures.pop("epoch"), wall_time=time.time())
        for name, value in figures.items():
            split, _, quantity = name.rpartition("_")
            tag = f"{quantity}/{split}" if quantity in ("loss", "accuracy", "r2") else name
            if value is not None:
                event.summary.value.add(tag=tag, simple_value=value)
        with self.writing():
            self._events.write_event(event)
            self._events.flush()

    def on_end(self, run: Run) -> None:
        """Close the file."""
        if self._events is not None:
            self._events.close()
