"""The directory of a run: its settings, its history, its model, its checkpoints, its curves."""

import contextlib
import dataclasses
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from xpnet import plots
from xpnet.errors import ConfigError, InUseError, MissingPackageError, ModelError
from xpnet.files import locked, parse_toml, read_text, sweep, write_atomically
from xpnet.model import Stored, save
from xpnet.platforms import flush_names
from xpnet.training.checkpoint import Checkpoint, continue_from, newest_checkpoint, prune, write_checkpoint
from xpnet.training.config import TrainConfig
from xpnet.training.history import read_history, write_history
from xpnet.training.logs import Writer
from xpnet.training.run import Run

__all__ = ["RunDirectory", "claim", "holds_run", "refuse_run"]

logger = logging.getLogger(__name__)

# Names in a run's directory of what is not overwritten by another run.
KEPT = ("config.toml", "history.csv", "model.safetensors", "checkpoints")

# Seconds from one epoch that is written to the next: a disk takes longer to confirm files than a table's epoch lasts.
WRITE_EVERY = 1.0


def refuse_run(path: Path) -> None:
    """Raise ConfigError for a path that can't become a run's directory: there is a run, in use or not, or a file."""
    _refuse_file(path)
    if path.is_dir():
        with contextlib.suppress(OSError), _lock(path):  # the one in use is named, if it can be
            pass
    _refuse_kept(path)


def holds_run(path: Path) -> bool:
    """Whether there is anything of a run in a directory, intact or not."""
    return any(os.path.lexists(path / name) for name in KEPT)


def _refuse_kept(path: Path) -> None:
    if holds_run(path):
        raise ConfigError(
            f"{path} already holds a run, which is left unchanged: name another directory, or continue the run "
            "(--resume, resume=True)"
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """The context in which no other process trains in a directory.   Raises ConfigError if one does, and OSError."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(path / ".lock"))
        except InUseError as holder:
            message = f"{path} is in use: {holder} is training there; name another directory"
            raise ConfigError(message) from holder
        yield


@contextlib.contextmanager
def claim(path: Path) -> Iterator[None]:
    """Hold a run's directory, which is created, in work that several processes share: no other one trains there.

    Raises InUseError if one does, with its description; ConfigError where the directory cannot be written or locked.
    """
    _refuse_file(path)
    with contextlib.ExitStack() as held:
        try:
            path.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path / ".lock", required=True))
        except OSError as error:
            raise _unwritable(path, error) from None
        yield


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write the run directory {path}: {error.strerror or error}; name another directory")


def _refuse_file(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError(f"cannot write the run directory {path}: it is a file; name another directory")


class RunDirectory(Writer):
    """Writes a run's files: config.toml at the start, history.csv, model.safetensors and a checkpoint after an epoch,
    curves.png at the end.

    Of the epochs that end within a second of one that was written, only the newest is, and that of the best validation
    loss: a run that is killed repeats the others, with the same bits. One that ends otherwise has written its newest.

    path : of the directory, which is created, and in which no other process may train meanwhile.
    resume : whether to continue the run that it holds, from its newest intact checkpoint, or from the start if it was
        stopped before the first one.
    claimed : whether the caller holds the directory already, by claim.
    Raises ConfigError, before any training, where it cannot be written, already holds a run that is not to continue, or
    one that has other settings or data; ModelError if the run cannot be continued: it has checkpoints, but none is
    intact, or it was trained, but has none.

    Files are written in a thread: a disk takes milliseconds to confirm them, in which the training continues.
    """

    order = -1

    def __init__(self, path: str | Path, *, resume: bool = False, claimed: bool = False) -> None:
        if not os.fspath(path):
            raise ConfigError("a run directory needs a name")
        self.path, self.resume, self.claimed = Path(path), resume, claimed
        self.checkpoints = self.path / "checkpoints"
        self._open = contextlib.ExitStack()
        self._thread: ThreadPoolExecutor | None = None
        self._submitted: deque[Future[None]] = deque()
        self._due_at = 0.0
        self._unwritten = False
        self._newest: Checkpoint | None = None
        self._best: Checkpoint | None = None

    def wants_state(self, run: Run) -> bool:
        """Whether any checkpoint is to be kept."""
        return run.config.keep > 0

    def on_start(self, run: Run) -> None:
        """Create the directory, or continue its run, and write config.toml and the header of history.csv."""
        _refuse_file(self.path)
        with contextlib.ExitStack() as opened:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                flush_names(self.path.parent)
                if not self.claimed:
                    opened.enter_context(_lock(self.path))
                if self.resume:
                    self._continue(run)
                else:
                    _refuse_kept(self.path)
                sweep(self.path, "|".join(map(re.escape, (*KEPT, "curves.png", "result.json"))))
                sweep(self.checkpoints, r"step-\d+")
                self._write_config(run)
                write_history(self.path / "history.csv", run.history)
            except OSError as error:
                raise _unwritable(self.path, error) from None
            self._thread = opened.enter_context(ThreadPoolExecutor(1, "xpnet-writer"))
            self._open = opened.pop_all()

    def on_steps(self, run: Run) -> None:
        """Write the newest epoch, if it was too early when it ended."""
        self._write_epoch(run)

    def on_checkpoint(self, run: Run) -> None:
        """Write the checkpoint, at an epoch's end with the epoch, and remove those that are no longer kept."""
        self._newest = run.checkpoint
        assert self._newest is not None
        if self._newest.done:
            self._wait(1)
            self._write_checkpoints(run)
        elif run.best_epoch == run.model_epoch:
            self._best = self._newest

    def on_epoch(self, run: Run) -> None:
        """Write the checkpoint, history.csv and model.safetensors, now or a little later."""
        self._unwritten = True
        self._write_epoch(run)

    def on_end(self, run: Run) -> None:
        """Write history and model a last time: there may be no epoch, or early stopping restored an older one.

        Meanwhile draw curves.png, if matplotlib is installed and the run was not interrupted.
        """
        with self._open:
            if isinstance(run.failure, KeyboardInterrupt):  # then what was not begun to be written is left out
                for written in self._submitted:
                    written.cancel()
            else:
                self._write_checkpoints(run)
            self._submit(self._write_results, run)
            drawn = run.history and (run.finished or not run.at_once) and self.fault is None
            figure = self._draw(run) if drawn else None
            self._wait(0)
            if figure is not None and self.fault is None:
                with self._drawing():
                    plots.save(figure, self.path / "curves.png")

    def _continue(self, run: Run) -> None:
        """Bring the run to the newest intact checkpoint, if there is one."""
        checkpoint, faults = newest_checkpoint(self.checkpoints)
        for fault in faults:
            logger.warning("%s", fault)
        if checkpoint is not None:
            continue_from(run, checkpoint)
            logger.info("continuing %s after %s", self.path, checkpoint.where)
        elif faults:
            raise ModelError(f"no checkpoint of {self.path} is intact; name another directory to start a new run")
        elif self._was_trained():
            raise ModelError(
                f"{self.path} holds a trained run, but no checkpoint to continue it from (its settings keep none, or "
                "they were removed): name another directory to start a new run"
            )
        elif os.path.lexists(config := self.path / "config.toml"):
            try:  # somebody else's file of that name is not overwritten
                TrainConfig().replace(**parse_toml(read_text(config, "settings"), str(config)))
            except ConfigError as error:
                raise ModelError(f"{self.path} holds no run to continue ({error}): name another directory") from None

    def _was_trained(self) -> bool:
        """Whether there is something to lose: finished epochs, or a model without a history."""
        history = self.path / "history.csv"
        if os.path.lexists(history):
            return bool(read_history(history))
        return os.path.lexists(self.path / "model.safetensors")

    def _write_epoch(self, run: Run) -> None:
        """Queue what is not written of the newest epoch, if it is time."""
        if self._unwritten and self._is_due():
            self._wait(1)
            self._due_at = time.monotonic() + WRITE_EVERY
            self._unwritten = False
            self._write_checkpoints(run)
            self._submit(self._write_results, dataclasses.replace(run, history=list(run.history)))

    def _is_due(self) -> bool:
        """Whether it is time to write an epoch: no other is being written, nor has just been."""
        return time.monotonic() >= self._due_at and all(each.done() for each in self._submitted)

    def _write_checkpoints(self, run: Run) -> None:
        """Queue the best epoch's checkpoint and the newest, if they are not written."""
        best = None if run.best_epoch is None else run.best_epoch * run.n_steps
        for checkpoint in (self._best if self._best is not self._newest else None, self._newest):
            if checkpoint is not None:
                self._submit(self._write_checkpoint, run, checkpoint, best)
        self._newest = self._best = None

    def _submit(self, write: Callable[..., None], *arguments: Any) -> None:
        """Queue a write behind those submitted before."""
        assert self._thread is not None
        self._submitted.append(self._thread.submit(write, *arguments))

    def _wait(self, most: int) -> None:
        """Wait until no more than so many of the submitted files are still to be written."""
        while len(self._submitted) > most:
            written = self._submitted.popleft()
            if not written.cancelled():
                with self.writing():
                    written.result()

    def _write_results(self, run: Run) -> None:
        self._find(run)
        write_history(self.path / "history.csv", run.history)
        # From the host's copies: the device may be what failed.
        stored = Stored(run.network, run.params, run.running, run.schema)
        save(self.path / "model.safetensors", stored)

    def _write_checkpoint(self, run: Run, checkpoint: Checkpoint, best: int | None) -> None:
        self._find(run)
        write_checkpoint(self.checkpoints, checkpoint)
        prune(self.checkpoints, checkpoint.step, run.config.keep, best)

    def _find(self, run: Run) -> None:
        """Create the directory again if it was removed."""
        if not (self.path / "config.toml").exists():
            missing = self.path / "config.toml" if self.path.exists() else self.path
            logger.warning("%s has disappeared; creating it again", missing)
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_config(run)

    def _write_config(self, run: Run) -> None:
        write_atomically(self.path / "config.toml", run.config.to_toml().encode())

    def _draw(self, run: Run) -> Any:
        """The curves; None where they cannot be drawn."""
        with self._drawing():
            return plots.curves({self.path.name: run.history}, loss=run.network.loss)

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """A context in which a picture that fails is reported, and ends nothing."""
        path = self.path / "curves.png"
        try:
            yield
        except MissingPackageError as error:
            logger.info(f"{path.name} was not drawn: {error}")
        except KeyboardInterrupt:  # the run is done: only its picture is abandoned
            logger.warning("%s was not drawn: interrupted", path)
        except Exception as error:  # whatever a drawing library finds wrong, the run is done and its files are intact
            logger.warning(f"{path} could not be drawn: {error}")
