"""What fit calls between epochs: progress on the screen, early stopping, logs, the run directory.

A callback is any subclass of Callback that overrides what it needs. It sees the run, and may end it:

    class StopAt98(xpnet.Callback):
        def on_epoch(self, run):
            if run.history[-1].test_accuracy > 0.98: run.stop("98 % reached")
"""

import dataclasses
import logging
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from xpnet import plots
from xpnet.backend import Backend
from xpnet.checks import required
from xpnet.config import TrainConfig
from xpnet.errors import ConfigError, MissingPackageError
from xpnet.files import write_atomically
from xpnet.history import Epoch, write_history
from xpnet.model import Model, save
from xpnet.network import MLP

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = [
    "CSVLog",
    "Callback",
    "EarlyStopping",
    "LearningRates",
    "Progress",
    "Run",
    "RunDirectory",
    "TensorBoardLog",
]

Arrays = list[Any]

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """A training run as its callbacks see it.

    network, config : what is trained and how, resolved.   backend : where.   image_shape : of one image.
    n_examples : training examples.   batch_size : of them to a step, but for an epoch's last, which has the rest.
    rates : (steps of the run,), the learning rate of each.
    history : one Epoch for each finished epoch.
    params, running : host copies of the network's arrays as of epoch model_epoch, the newest finished one (0: none).
    stop_reason : why the run was told to stop, or None.
    """

    network: MLP
    config: TrainConfig
    backend: Backend
    image_shape: tuple[int, ...]
    n_examples: int
    batch_size: int
    rates: NDArray[np.float64]
    params: Arrays
    running: Arrays
    model_epoch: int = 0
    history: list[Epoch] = field(default_factory=list)
    stop_reason: str | None = None

    @property
    def n_steps(self) -> int:
        """Steps per epoch."""
        return math.ceil(self.n_examples / self.batch_size)

    def stop(self, reason: str) -> None:
        """End the run after this epoch; the reason, a short clause, is reported."""
        self.stop_reason = reason

    def model(self) -> Model:
        """A Model of params and running, on the device."""
        params, running = ([self.backend.to_device(a) for a in arrays] for arrays in (self.params, self.running))
        return Model(self.network, params, running, self.backend, self.config.data, self.image_shape)


class Callback:
    """Does nothing at every occasion; subclasses override what they need."""

    def on_start(self, run: Run) -> None:
        """Before the first step; an exception raised here ends the run before any work is done."""

    def on_steps(self, run: Run, epoch: int, done: int) -> None:
        """Now and then within an epoch, after done of its steps have been issued; must not touch the device."""

    def on_epoch(self, run: Run) -> None:
        """After an epoch, whose figures are run.history[-1]."""

    def on_end(self, run: Run) -> None:
        """After the run, also when it was stopped, was interrupted or failed; the last callback first."""


class EarlyStopping(Callback):
    """Stops when the validation loss has not improved for some epochs, and brings back the best epoch's parameters.

    patience : epochs to wait, >= 1.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_loss = math.inf
        self.best: tuple[Arrays, Arrays, int] | None = None

    def on_start(self, run: Run) -> None:
        """Forget the run before."""
        self.best_loss, self.best = math.inf, None

    def on_epoch(self, run: Run) -> None:
        """Remember the epoch if it is the best yet; stop if the last patience epochs were not."""
        loss = run.history[-1].validation_loss
        if loss is None:
            raise ConfigError("early stopping needs a validation split: set validation to a share or a number")
        if loss < self.best_loss or self.best is None:
            self.best_loss = loss
            self.best = run.params, run.running, run.model_epoch
        elif run.model_epoch - self.best[2] >= self.patience:
            run.stop(
                f"no validation loss below epoch {self.best[2]}'s in {self.patience} epoch{'s'[: self.patience > 1]}"
            )

    def on_end(self, run: Run) -> None:
        """Bring back the parameters of the best epoch."""
        if self.best is not None:
            run.params, run.running, run.model_epoch = self.best


class CSVLog(Callback):
    """Writes the history as CSV, anew after each epoch.

    path : of the file; its directory is made.   Raises ConfigError, before any training, where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_start(self, run: Run) -> None:
        """Write the head of the table."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_history(self.path, run.history)
        except OSError as error:
            raise ConfigError(f"cannot write the log {self.path}: {error.strerror or error}") from None

    def on_epoch(self, run: Run) -> None:
        """Write a line for each epoch so far."""
        write_history(self.path, run.history)


class TensorBoardLog(Callback):
    """Writes the figures of each epoch as TensorBoard's scalars: loss/train, accuracy/test, learning_rate, ...

    path : a directory, as TensorBoard calls a run.
    Raises MissingPackageError where tensorboardX is not installed, ConfigError where the directory cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._library = required("tensorboardX", "the TensorBoard log", "tensorboard")
        self._writer: Any = None

    def on_start(self, run: Run) -> None:
        """Open an event file."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # The writer beneath SummaryWriter, which writes from a thread whose queue its flush() doesn't wait for.
            self._writer = self._library.event_file_writer.EventsWriter(str(self.path / "events"))
        except OSError as error:
            raise ConfigError(f"cannot write the log {self.path}: {error.strerror or error}") from None

    def on_epoch(self, run: Run) -> None:
        """Write the epoch's figures, so that whoever is watching sees them."""
        figures = dataclasses.asdict(run.history[-1])
        event = self._library.proto.event_pb2.Event(step=figures.pop("epoch"), wall_time=time.time())
        for name, value in figures.items():
            split, _, quantity = name.rpartition("_")
            tag = f"{quantity}/{split}" if quantity in ("loss", "accuracy") else name
            if value is not None:
                event.summary.value.add(tag=tag, simple_value=value)
        self._writer.write_event(event)
        self._writer.flush()

    def on_end(self, run: Run) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class LearningRates(Callback):
    """Records the learning rate of every step of the finished epochs.

    rates : (steps,) float64.
    """

    def __init__(self) -> None:
        self.rates: NDArray[np.float64] = np.empty(0)

    def on_epoch(self, run: Run) -> None:
        """Add the epoch's rates."""
        self.rates = run.rates[: run.history[-1].epoch * run.n_steps]


class RunDirectory(Callback):
    """Writes a run's files: config.toml at the start, history.csv and model.safetensors after each epoch, curves.png.

    path : of the directory, which is made.
    Raises ConfigError, before any training, where it cannot be written or already holds a run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._log = CSVLog(self.path / "history.csv")

    def on_start(self, run: Run) -> None:
        """Make the directory and write config.toml and the head of history.csv."""
        if (self.path / "config.toml").exists():
            raise ConfigError(f"{self.path} already holds a run, which is left as it is: name another directory")
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"cannot write the run directory {self.path}: it is a file; name another directory")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "config.toml", run.config.to_toml().encode())
            self._log.on_start(run)
        except OSError as error:
            raise ConfigError(
                f"cannot write the run directory {self.path}: {error.strerror or error}; name another directory"
            ) from None

    def on_epoch(self, run: Run) -> None:
        """Write history.csv and model.safetensors anew."""
        self._log.on_epoch(run)
        self._write_model(run)

    def on_end(self, run: Run) -> None:
        """Write both once more: there may be no epoch, or early stopping may have brought back an older one.

        And draw curves.png, where matplotlib is there.
        """
        self._log.on_epoch(run)
        self._write_model(run)
        if run.history:
            self._draw(run)

    def _write_model(self, run: Run) -> None:
        # From the host's copies: the device may be what failed.
        save(self.path / "model.safetensors", run.network, run.params, run.running, run.config.data, run.image_shape)

    def _draw(self, run: Run) -> None:
        path = self.path / "curves.png"
        try:
            plots.save(plots.curves({self.path.name: run.history}, loss=run.network.loss), path)
        except MissingPackageError as error:
            logger.info(f"no {path.name}: {error}")
        except Exception as error:  # whatever a drawing library finds wrong, the run is done and its files are whole
            logger.warning(f"{path} could not be drawn: {error}")


class Progress(Callback):
    """Prints one line for each epoch, and on a terminal a bar within the epoch.

    file : where to; by default stderr.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file or sys.stderr
        self.bar: RichProgress | None = None
        self.headed = False

    def on_start(self, run: Run) -> None:
        """Show the bar, if this is a terminal."""
        self.headed = False
        if not self.file.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            console=Console(file=self.file),
            transient=True,
        )
        self.task = self.bar.add_task("", total=run.n_steps)
        self.bar.start()

    def on_steps(self, run: Run, epoch: int, done: int) -> None:
        """Move the bar."""
        if self.bar:
            self.bar.update(self.task, description=f"epoch {epoch}/{run.config.epochs}", completed=done)

    def on_epoch(self, run: Run) -> None:
        """Print the epoch's line, and above the first one the table's head."""
        last = run.history[-1]
        count = f"{last.epoch}/{run.config.epochs}"
        width = max(7, 2 * len(str(run.config.epochs)) + 1)
        head, line = f"{'epoch':>{width}}", f"{count:>{width}}"
        for split in ("train", "validation", "test"):
            loss, accuracy = getattr(last, f"{split}_loss"), getattr(last, f"{split}_accuracy")
            if loss is not None:
                width = len(split) + 6
                head += f"{split + ' loss':>{width}}{'accuracy':>9}"
                line += f"{loss:>{width}{'.4f' if loss < 1e4 else '.3g'}}{100 * accuracy:>7.2f} %"
        if not self.headed:  # a run that goes on does not begin with epoch 1
            self.headed = True
            self._print(f"{head}{'seconds':>8}")
        self._print(f"{line}{last.seconds:>8.2f}")

    def _print(self, line: str) -> None:
        if self.bar:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.file, flush=True)

    def on_end(self, run: Run) -> None:
        """Take the bar away."""
        if self.bar:
            self.bar.stop()
