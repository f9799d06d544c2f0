"""Epochs, one after another: each is trained, measured, kept, and rolled back if its numbers are not finite."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.distributed import agree
from xpnet.errors import NonFiniteError
from xpnet.files import sha256_of
from xpnet.model import scores_of
from xpnet.training.callbacks import Callback
from xpnet.training.checkpoint import compose, restore
from xpnet.training.evaluate import make_evaluate
from xpnet.training.history import Epoch
from xpnet.training.loader import Examples, Loader
from xpnet.training.loop import STEPS_PER_CALL, Loop
from xpnet.training.run import Run

__all__ = ["checkpointers", "train"]

MOST_ROLLBACKS = 3
READ_EVERY = 0.2  # seconds of steps between two readings of the figures within an epoch
NOTICED = 0.5  # seconds of compiling from which they are told

logger = logging.getLogger("xpnet")


class _Stopwatch:
    """Seconds that a device has trained, without evaluation and checkpoints."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.seconds = backend, 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._backend.synchronize()
        start = time.perf_counter()
        yield
        self._backend.synchronize()
        self.seconds += time.perf_counter() - start


class _Readings:
    """Says when the figures within an epoch are due to be read again, which waits for the device."""

    def __init__(self, done: int) -> None:
        self._done, self._at, self._pace = done, time.monotonic(), math.inf

    def due(self, done: int) -> bool:
        # JAX takes all steps of an epoch at once, however long they will take: then their pace tells the time.
        return max(time.monotonic() - self._at, self._pace * (done - self._done)) >= READ_EVERY

    def taken(self, done: int) -> None:
        before, self._at = self._at, time.monotonic()
        self._pace, self._done = (self._at - before) / (done - self._done), done


def train(run: Run, splits: dict[str, Examples], observers: list[Callback]) -> None:
    """Train epoch after epoch, from wherever the run is, to its end or until it is stopped.

    The test split is measured once, at the end, with the parameters that the run ends with, unless the settings ask for
    it after each epoch.
    """
    loop = Loop(run, splits["train"])
    team = run.team if run.shards > 1 else None
    evaluate = make_evaluate(run.network, run.backend, run.schema.on(run.backend.to_device), team)
    held_out = {name: Loader(examples, run.backend) for name, examples in splits.items() if name != "train"}
    at_end = None if run.config.test_each_epoch else held_out.pop("test", None)
    keepers = checkpointers(run, observers)
    rolls_back = run.config.on_nonfinite == "rollback"
    # As the first process has it: all make a checkpoint or none, since it may find numbers that are not finite.
    keeps = run.team.told(bool(keepers)) or rolls_back
    keep = partial(_keep, run, loop, keepers) if keeps else None
    if run.checkpoint is not None:
        restore(run, loop, run.checkpoint)
    elif rolls_back:
        run.checkpoint = compose(run, loop, 0, 0.0)
    agreed = _agree(run)
    compiled = run.backend.compiling_seconds
    while len(run.history) < run.epochs and not agreed.stop:
        try:
            done, seconds, agreed = _train_epoch(run, loop, observers, keep, splits["train"].spread)
            ended = done == run.n_steps
            if ended:
                run.history.append(_measured(run, loop, seconds, evaluate, held_out, splits["train"].spread))
                run.done, done, seconds = 0, 0, 0.0
                run.note_best()
                compiled = _tell_compiling(run, compiled)
            if keep is not None:  # before a callback can fail
                keep(done, seconds)
            if ended:
                for observer in observers:
                    observer.on_epoch(run)
        except NonFiniteError as error:
            run.team.together(partial(_roll_back, run, loop, error))  # all have found it
        agreed = _agree(run)
    # From here on a signal comes too late, on whichever process.
    run.over = True
    run.at_once = agreed.at_once
    run.restore_best()
    if at_end is not None and run.model_epoch and run.finished:
        params, running = ([run.backend.to_device(a) for a in arrays] for arrays in (run.params, run.running))
        figures = _figures({"test": evaluate(params, running, at_end)})
        run.history[run.model_epoch - 1] = dataclasses.replace(run.history[run.model_epoch - 1], **figures)


def checkpointers(run: Run, observers: list[Callback]) -> list[Callback]:
    """The callbacks that want checkpoints."""
    return [observer for observer in observers if observer.wants_state(run)]


def _tell_compiling(run: Run, before: float | None) -> float | None:
    """Say what compiling has taken of an epoch, whose time may contain much of it; returns what it has taken so far."""
    so_far = run.backend.compiling_seconds
    if before is not None and so_far is not None and so_far - before >= NOTICED:
        logger.info("compiling took %.1f s of epoch %d", so_far - before, len(run.history))
    return so_far


def _train_epoch(
    run: Run,
    loop: Loop,
    observers: list[Callback],
    keep: Callable[[int, float], None] | None,
    spread: NDArray[np.float64] | None,
) -> tuple[int, float, "_Agreed"]:
    """Train to the end of an epoch, or until the run is stopped at once.

    keep : makes a checkpoint within the epoch, when one is due.   spread : of the training targets, as in scores_of.
    Returns the steps done of it, the seconds, and what the processes have agreed on.
    """
    done, seconds = 0, 0.0
    if run.checkpoint is not None and len(run.checkpoint.history) == len(run.history):
        done, seconds = run.checkpoint.done, run.checkpoint.seconds
    issued, run.so_far = done, None
    readings, saved_at = _Readings(done), time.monotonic()
    every_steps, every_seconds = run.config.checkpoint_interval()
    steps = loop.epoch(run.epoch, done)
    watch = _Stopwatch(run.backend)
    watch.seconds = seconds
    agreed = _agree(run)
    while done < run.n_steps and not agreed.at_once:
        with watch.running():
            for done in steps:
                if done - issued >= STEPS_PER_CALL or done == run.n_steps:
                    run.done = issued = done
                    if observers and done < run.n_steps and readings.due(done):
                        run.so_far = _so_far(run, loop, spread)
                        readings.taken(done)
                    for observer in observers:
                        observer.on_steps(run)
                agreed = _agree(run, done % every_steps == 0 or time.monotonic() - saved_at >= every_seconds)
                if agreed.at_once or (keep is not None and agreed.due and done < run.n_steps):
                    break
        if keep is not None and done < run.n_steps and not agreed.at_once:
            keep(done, watch.seconds)
            saved_at = time.monotonic()
    return done, watch.seconds, agreed


class _Agreed(NamedTuple):
    """What all processes do next: stop after this epoch, or at once; make a checkpoint. A signal reaches only some."""

    stop: bool
    at_once: bool
    due: bool


def _agree(run: Run, due: bool = False) -> _Agreed:
    """Stop all processes if one is to stop; due is decided by the first one's clock."""
    at_once = run.at_once  # read first, since a signal sets it last
    asked = run.team.gather((run.stop_reason, at_once, due))
    for reason, at_once, _ in asked:
        if reason is not None:
            run.stop(reason, at_once=at_once)
    return _Agreed(any(reason is not None for reason, _, _ in asked), any(now for _, now, _ in asked), asked[0][2])


def _so_far(run: Run, loop: Loop, spread: NDArray[np.float64] | None) -> Any:
    """The training figures of the epoch's steps that are done."""
    n = run.done * run.batch_size
    loss, hits = map(run.backend.to_host, (loop.state.loss, loop.state.hits))
    return scores_of(float(loss[0]), hits, n, None if spread is None else spread * (n / run.n_examples))


def _measured(
    run: Run,
    loop: Loop,
    seconds: float,
    evaluate: Callable[..., Any],
    held_out: dict[str, Loader],
    spread: NDArray[np.float64] | None,
) -> Epoch:
    """The figures of the epoch that has been trained, which leaves its parameters in run.   Raises NonFiniteError."""
    backend, n, number = run.backend, run.n_examples, run.epoch
    state = loop.state
    params, running = loop.model_on_host()
    if run.team.size > 1:  # before anything else is computed with them
        found = {f"network after epoch {number}": sha256_of([*params, *running])[:16]}
        agree(run.team, found, remedy="one of them computes wrongly: continue the run without it (--resume)")
    loss, hits, healthy = map(backend.to_host, (state.loss, state.hits, state.healthy))
    found = {"train": scores_of(float(loss[0]), hits, n, spread)}
    found |= {name: evaluate(*loop.model, loader) for name, loader in held_out.items()}
    figures = _figures(found)
    run.check_finite(run.n_steps, int(healthy[0]), params, [*running, *figures.values()])
    run.params, run.running, run.model_epoch = params, running, number
    return Epoch(
        epoch=number,
        learning_rate=float(run.rates[number * run.n_steps - 1]),
        seconds=seconds,
        samples_per_second=n / seconds,
        **figures,
    )


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    """The scores of splits as an Epoch has them: test_loss, test_accuracy, ..."""
    return {
        f"{split}_{name}": value
        for split, scores in found.items()
        for name, value in scores._asdict().items()
        if value is not None
    }


def _keep(run: Run, loop: Loop, keepers: list[Callback], done: int, seconds: float) -> None:
    """Make a checkpoint.   Raises NonFiniteError if the state is not finite."""
    first = run.checkpoint is None
    run.checkpoint = compose(run, loop, done, seconds)
    if first:
        agree(run.team, {"data set": run.fingerprint()})
    for observer in keepers:
        observer.on_checkpoint(run)


def _roll_back(run: Run, loop: Loop, error: NonFiniteError) -> None:
    """Return to the newest checkpoint with half the learning rate.

    Raises the error if the settings do not ask for that, or it has been done often enough.
    """
    if run.config.on_nonfinite != "rollback" or run.checkpoint is None:
        raise error
    if len(run.rollbacks) == MOST_ROLLBACKS:
        raise NonFiniteError(f"{error}; {MOST_ROLLBACKS} rollbacks did not help") from None
    restore(run, loop, run.checkpoint)
    run.halve_rates(run.checkpoint.step)
    loop.set_rates()
    logger.warning(
        "%s; returning to %s with half the learning rate (rollback %d of at most %d)",
        *(error, run.checkpoint.where, len(run.rollbacks), MOST_ROLLBACKS),
    )
