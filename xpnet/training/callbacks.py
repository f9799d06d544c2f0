"""What fit calls between epochs: progress on the screen, early stopping, logs, the run directory.

A callback is any subclass of Callback that overrides what it needs. It sees the run, and may end it:

    class StopAt98(xpnet.Callback):
        def on_epoch(self, run):
            if run.history[-1].test_accuracy > 0.98: run.stop("98 % reached")
"""

import contextlib
import dataclasses
import logging
import math
import os
import sys
import time
import tomllib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from xpnet import plots
from xpnet.backend import Backend
from xpnet.checks import required
from xpnet.errors import ConfigError, InUseError, MissingPackageError, ModelError
from xpnet.files import flush_names, locked, sweep, write_atomically
from xpnet.model import Model, Stored, save
from xpnet.numerics.network import MLP
from xpnet.training.checkpoint import Checkpoint, newest_checkpoint, prune, write_checkpoint
from xpnet.training.config import TrainConfig
from xpnet.training.history import Epoch, read_history, write_history

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
    history : one Epoch for each finished epoch.   done : steps of the epoch after them that have been issued.
    params, running : host copies of the network's arrays as of epoch model_epoch, the newest finished one (0: none).
    fingerprint : the SHA-256 of the data, which may yet be being computed.
    best : params, running and epoch of the least validation loss; None without a validation split.
    checkpoint : the newest, from which the run goes on if it has to go back, or was stopped before; or None.
    rollbacks : for each time that the learning rate was halved, the step from which on.
    stop_reason : why the run was told to stop, or None.   at_once : whether within the epoch.
    over : whether the last step has been done.
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
    done: int = 0
    fingerprint: Callable[[], str] = field(default=lambda: "")
    best: tuple[Arrays, Arrays, int] | None = None
    checkpoint: Checkpoint | None = None
    rollbacks: list[int] = field(default_factory=list)
    stop_reason: str | None = None
    at_once: bool = False
    over: bool = False

    @property
    def n_steps(self) -> int:
        """Steps per epoch."""
        return math.ceil(self.n_examples / self.batch_size)

    @property
    def epoch(self) -> int:
        """Number of the epoch that is being trained, from 1."""
        return len(self.history) + 1

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """End the run after this epoch, or at once, within it; the reason, a short clause, is reported.

        Of several reasons the first one counts, but one to stop at once counts for more than one that can wait.
        """
        if self.stop_reason is None or (at_once and not self.at_once):
            self.stop_reason = reason
        self.at_once = self.at_once or at_once

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end: it was not interrupted within an epoch, or not before its last one."""
        return len(self.history) >= self.config.epochs or (self.over and not self.at_once)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch of the least validation loss; None without a validation split, or before any epoch."""
        losses = [epoch.validation_loss for epoch in self.history if epoch.validation_loss is not None]
        return losses.index(min(losses)) + 1 if losses else None

    def note_best(self) -> None:
        """Remember the newest epoch's parameters if none had a smaller validation loss."""
        if self.best_epoch == self.model_epoch:
            self.best = self.params, self.running, self.model_epoch

    def halve_rates(self, step: int) -> None:
        """Halve the learning rate from a step of the run on."""
        self.rates[step:] *= 0.5
        self.rollbacks.append(step)

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take up a run where a checkpoint was made.   Raises ConfigError if that is of another run, and says why."""
        own, theirs = (
            tomllib.loads(c.deciding().to_toml())
            for c in (self.config, TrainConfig().replace(**tomllib.loads(checkpoint.settings)))
        )
        # Of data, the content counts; more epochs may be added, and what is to be done when they fail.
        different = sorted(
            n for n in {*own, *theirs} - {"data", "epochs", "on_nonfinite"} if own.get(n) != theirs.get(n)
        )
        if different:
            told = ", ".join(
                f"{name} {theirs.get(name, 'unset')} and not {own.get(name, 'unset')}" for name in different
            )
            raise ConfigError(f"the run has {told}: it goes on with its own settings; start another one for others")
        if checkpoint.data["sha256"] != self.fingerprint():
            raise ConfigError(
                f"the run has other data: {checkpoint.data['name']}, {checkpoint.data['examples']} training examples, "
                f"SHA-256 {checkpoint.data['sha256'][:12]}; this is {self.config.data}, {self.n_examples} examples, "
                f"{self.fingerprint()[:12]}"
            )
        if self.config.epochs < len(checkpoint.history):
            message = f"epochs must be at least {len(checkpoint.history)}, as many as the run has behind it"
            raise ConfigError(message, setting="epochs")
        if divmod(checkpoint.step, self.n_steps) != (len(checkpoint.history), checkpoint.done):
            raise ModelError(f"the checkpoint after {checkpoint.step} steps is damaged: it is of no such run")
        self.checkpoint, self.history[:] = checkpoint, checkpoint.history
        for step in checkpoint.rollbacks:
            self.halve_rates(step)

    def model(self) -> Model:
        """A Model of params and running, on the device."""
        params, running = ([self.backend.to_device(a) for a in arrays] for arrays in (self.params, self.running))
        return Model(self.network, params, running, self.backend, self.config.data, self.image_shape)


class Callback:
    """Does nothing at every occasion; subclasses override what they need.

    order : callbacks are started in the order of this number, those of one number as they were given, and ended in the
        reverse; a directory comes first, since it may hold the state from which the run continues.
    fault : the newest failure to write, "PATH: reason", or None; Result.unsaved reports it.
    """

    order: int = 0
    fault: str | None = None

    def wants_state(self, run: Run) -> bool:
        """Whether the run is to make checkpoints for on_checkpoint; by default, where there is such a method."""
        return type(self).on_checkpoint is not Callback.on_checkpoint

    def on_start(self, run: Run) -> None:
        """Before the first step; an exception raised here ends the run before any work is done."""

    def on_steps(self, run: Run) -> None:
        """Now and then within an epoch, after run.done of its steps have been issued; must not touch the device."""

    def on_epoch(self, run: Run) -> None:
        """After an epoch, whose figures are run.history[-1]."""

    def on_checkpoint(self, run: Run) -> None:
        """After run.checkpoint was made, if this callback wants the state."""

    def on_end(self, run: Run) -> None:
        """After the run, also when it was stopped, was interrupted or failed; the last callback first."""


class EarlyStopping(Callback):
    """Stops when the validation loss has not improved for some epochs, and brings back the best epoch's parameters.

    patience : epochs to wait, >= 1.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_start(self, run: Run) -> None:
        """Stop a run that goes on from an end that it has reached before."""
        self._judge(run)

    def on_epoch(self, run: Run) -> None:
        """Stop if none of the last patience epochs was the best."""
        if run.history[-1].validation_loss is None:
            raise ConfigError("early stopping needs a validation split: set validation to a share or a number")
        self._judge(run)

    def on_end(self, run: Run) -> None:
        """Bring back the parameters of the best epoch."""
        if run.best is not None:
            run.params, run.running, run.model_epoch = run.best

    def _judge(self, run: Run) -> None:
        best = run.best_epoch
        if best is not None and len(run.history) - best >= self.patience:
            run.stop(f"no validation loss below epoch {best}'s in {self.patience} epoch{'s'[: self.patience > 1]}")


class _Writer(Callback):
    """Base of the callbacks that write files: a disk that fails ends no run.

    path : of the file or directory that is written.
    """

    path: Path
    _reported = False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
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


class CSVLog(_Writer):
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
        with self._writing():
            write_history(self.path, run.history)


class TensorBoardLog(_Writer):
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
        with self._writing():
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


class RunDirectory(_Writer):
    """Writes a run's files: config.toml at the start, history.csv, model.safetensors and a checkpoint after each epoch,
    curves.png at the end.

    path : of the directory, which is made, and which no other process may train in meanwhile.
    resume : whether to continue the run that it holds, from its newest intact checkpoint, or from the start if it was
        stopped before the first one.
    Raises ConfigError, before any training, where it cannot be written, already holds a run that is not to continue, or
    one that has other settings or data; ModelError if the run cannot be continued: it has checkpoints, but none is
    intact, or it was trained, but has none.

    Files are written in a thread: a disk takes milliseconds to say that it has them, in which the training goes on.
    """

    order = -1

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path, self.resume = Path(path), resume
        self.checkpoints = self.path / "checkpoints"
        self._open = contextlib.ExitStack()
        self._thread: ThreadPoolExecutor | None = None
        self._submitted: deque[Future[None]] = deque()

    def wants_state(self, run: Run) -> bool:
        """Unless no checkpoint is to be kept."""
        return run.config.keep > 0

    def on_start(self, run: Run) -> None:
        """Make the directory, or take up what it holds, and write config.toml and the head of history.csv."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"cannot write the run directory {self.path}: it is a file; name another directory")
        with contextlib.ExitStack() as opened:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                flush_names(self.path.parent)
                opened.enter_context(locked(self.path / ".lock"))
                if self.resume:
                    self._take_up(run)
                elif (self.path / "config.toml").exists():
                    raise ConfigError(
                        f"{self.path} already holds a run, which is left as it is: name another directory, or go on "
                        "with it (--resume, resume=True)"
                    )
                sweep(self.path, r"config\.toml|history\.csv|model\.safetensors|curves\.png|result\.json|checkpoints")
                sweep(self.checkpoints, r"step-\d+")
                self._write_config(run)
                write_history(self.path / "history.csv", run.history)
            except InUseError as holder:
                raise ConfigError(
                    f"{self.path} is in use: {holder} is training there; name another directory"
                ) from holder
            except OSError as error:
                raise ConfigError(
                    f"cannot write the run directory {self.path}: {error.strerror or error}; name another directory"
                ) from None
            self._thread = opened.enter_context(ThreadPoolExecutor(1, "xpnet-writer"))
            self._open = opened.pop_all()

    def on_epoch(self, run: Run) -> None:
        """Write history.csv and model.safetensors anew."""
        self._submit(self._write_results, dataclasses.replace(run, history=list(run.history)))

    def on_checkpoint(self, run: Run) -> None:
        """Write the checkpoint, and remove those that are not kept any longer."""
        assert run.checkpoint is not None
        best = None if run.best_epoch is None else run.best_epoch * run.n_steps
        self._submit(self._write_checkpoint, run, run.checkpoint, best)

    def on_end(self, run: Run) -> None:
        """Write history and model once more: there may be no epoch, or early stopping brought back an older one.

        And draw curves.png, where matplotlib is there and nobody waits.
        """
        with self._open:
            if isinstance(sys.exception(), KeyboardInterrupt):  # then what was not begun to be written is left out
                for written in self._submitted:
                    written.cancel()
            self._wait(0)
            with self._writing():
                self._write_results(run)
            if run.history and (run.finished or not run.at_once) and self.fault is None:
                self._draw(run)

    def _take_up(self, run: Run) -> None:
        checkpoint, faults = newest_checkpoint(self.checkpoints)
        for fault in faults:
            logger.warning("%s", fault)
        if checkpoint is not None:
            run.go_on_from(checkpoint)
            logger.info("going on after %s of %s", checkpoint.where, self.path)
        elif faults:
            raise ModelError(f"no checkpoint of {self.path} is intact; name another directory to train anew")
        elif self._was_trained():
            raise ModelError(
                f"{self.path} holds a trained run, but no checkpoint to continue it from (its settings keep none, or "
                "they were removed): name another directory to train anew"
            )

    def _was_trained(self) -> bool:
        """Whether there is something to lose: finished epochs, or a model of which no history says that it has none."""
        history = self.path / "history.csv"
        if os.path.lexists(history):
            return bool(read_history(history))
        return os.path.lexists(self.path / "model.safetensors")

    def _submit(self, write: Callable[..., None], *arguments: Any) -> None:
        """Have something written, after what was submitted before."""
        assert self._thread is not None
        self._wait(1)
        self._submitted.append(self._thread.submit(write, *arguments))

    def _wait(self, most: int) -> None:
        """Wait until no more than so many of the submitted files are still to be written."""
        while len(self._submitted) > most:
            written = self._submitted.popleft()
            if not written.cancelled():
                with self._writing():
                    written.result()

    def _write_results(self, run: Run) -> None:
        self._find(run)
        write_history(self.path / "history.csv", run.history)
        # From the host's copies: the device may be what failed.
        stored = Stored(run.network, run.params, run.running, run.config.data, run.image_shape)
        save(self.path / "model.safetensors", stored)

    def _write_checkpoint(self, run: Run, checkpoint: Checkpoint, best: int | None) -> None:
        self._find(run)
        write_checkpoint(self.checkpoints, checkpoint)
        prune(self.checkpoints, checkpoint.step, run.config.keep, best)

    def _find(self, run: Run) -> None:
        """Make the directory anew if somebody took it away."""
        if not (self.path / "config.toml").exists():
            missing = self.path / "config.toml" if self.path.exists() else self.path
            logger.warning("%s is gone; it is made anew", missing)
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_config(run)

    def _write_config(self, run: Run) -> None:
        write_atomically(self.path / "config.toml", run.config.to_toml().encode())

    def _draw(self, run: Run) -> None:
        path = self.path / "curves.png"
        try:
            plots.save(plots.curves({self.path.name: run.history}, loss=run.network.loss), path)
        except MissingPackageError as error:
            logger.info(f"no {path.name}: {error}")
        except KeyboardInterrupt:  # the run is done: only its picture is abandoned
            logger.warning("%s was not drawn: interrupted", path)
        except Exception as error:  # whatever a drawing library finds wrong, the run is done and its files are intact
            logger.warning(f"{path} could not be drawn: {error}")


class Progress(Callback):
    """Prints one line for each epoch, and on a terminal a bar within the epoch.

    file : where to; by default stderr, and nowhere in a process without one.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file: TextIO | None = file or sys.stderr
        self.bar: RichProgress | None = None
        self.headed = False

    def on_start(self, run: Run) -> None:
        """Show the bar, if this is a terminal."""
        self.headed = False
        if self.file is None or not self.file.isatty():
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

    def on_steps(self, run: Run) -> None:
        """Move the bar."""
        if self.bar:
            self.bar.update(self.task, description=f"epoch {run.epoch}/{run.config.epochs}", completed=run.done)

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
        elif self.file is not None:
            print(line, file=self.file, flush=True)

    def on_end(self, run: Run) -> None:
        """Take the bar away."""
        if self.bar:
            self.bar.stop()
