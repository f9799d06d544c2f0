"""Run: a training run as all who take part in it see it."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.data import Schema
from xpnet.distributed import Team
from xpnet.errors import NonFiniteError
from xpnet.model import Model
from xpnet.numerics.network import MLP
from xpnet.training.config import TrainConfig
from xpnet.training.history import Epoch

if TYPE_CHECKING:
    from xpnet.training.checkpoint import Checkpoint

__all__ = ["Run"]

Arrays = list[Any]


@dataclass
class Run:
    """The state of a training run, which callbacks see and may end with stop.

    network : trained.   config : resolved settings.   backend : where.   schema : of the data.
    n_examples : training examples.   batch_size : examples per step; an epoch's last step has the rest.
    rates : (steps of the run,), the learning rate of each.
    history : one Epoch for each finished epoch.   done : steps of the epoch after them that have been issued.
    so_far : the Scores or RegressionScores of these steps, read a few times a second; None before any.
    params, running : host copies of the network's arrays as of epoch model_epoch, the newest finished one (0: none).
    fingerprint : the SHA-256 of the data, which may still be in computation.
    best : params, running and epoch of the lowest validation loss; None without a validation split.
    restores_best : whether the run is to end with these.
    checkpoint : the newest, from which the run continues after a rollback or an interruption; or None.
    rollbacks : the steps from which the learning rate was halved, one for each time.
    stop_reason : why the run was stopped, or None.   at_once : whether within the epoch.
    over : whether the last step has been done.
    teachers : the models that it learns from besides the labels.
    team : the processes that train it, all of which have one of these, with the same arrays.
    exchange : between their devices, see Backend.link, while the run is computing; None where there is one process.
    handled : the exception that the caller of fit was handling, if any; it has nothing to do with the run.
    """

    network: MLP
    config: TrainConfig
    backend: Backend
    schema: Schema
    n_examples: int
    batch_size: int
    rates: NDArray[np.float64]
    params: Arrays
    running: Arrays
    model_epoch: int = 0
    history: list[Epoch] = field(default_factory=list)
    done: int = 0
    so_far: Any = None
    fingerprint: Callable[[], str] = field(default=lambda: "")
    best: tuple[Arrays, Arrays, int] | None = None
    restores_best: bool = False
    checkpoint: "Checkpoint | None" = None
    rollbacks: list[int] = field(default_factory=list)
    stop_reason: str | None = None
    at_once: bool = False
    over: bool = False
    teachers: list[Model] = field(default_factory=list)
    team: Team = field(default_factory=Team)
    exchange: Callable[..., Any] | None = None
    handled: BaseException | None = field(default_factory=sys.exception)

    @property
    def shards(self) -> int:
        """Shards of a batch."""
        return self.config.shards or 1

    @property
    def own_shards(self) -> range:
        """Those that this process computes."""
        each = self.shards // self.team.size
        return range(self.team.rank * each, (self.team.rank + 1) * each)

    @property
    def n_steps(self) -> int:
        """Steps per epoch."""
        return math.ceil(self.n_examples / self.batch_size)

    @property
    def epochs(self) -> int:
        """Epochs of the run, if nothing stops it."""
        assert self.config.epochs is not None
        return self.config.epochs

    @property
    def epoch(self) -> int:
        """Number of the epoch that is being trained, from 1."""
        return len(self.history) + 1

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """End the run after this epoch, or at once, within it; the reason, a short clause, is reported.

        Of several reasons the first one counts, but one to stop at once takes precedence.
        """
        if self.stop_reason is None or (at_once and not self.at_once):
            self.stop_reason = reason
        self.at_once = self.at_once or at_once

    @property
    def failure(self) -> BaseException | None:
        """While the run ends, the exception that ends it, if one does."""
        found = sys.exception()
        return None if found is self.handled else found

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end: it was not interrupted within an epoch, or not before its last one."""
        return len(self.history) >= self.epochs or (self.over and not self.at_once)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the lowest validation loss; None without a validation split, or before any epoch."""
        if self.best is not None:
            return self.best[2]
        losses = [epoch.validation_loss for epoch in self.history if epoch.validation_loss is not None]
        return losses.index(min(losses)) + 1 if losses else None

    def note_best(self) -> None:
        """Remember the newest epoch's parameters if none had a lower validation loss."""
        best, newest = self.best_epoch, self.history[-1].validation_loss
        if best is not None and newest is not None:
            lowest = self.history[best - 1].validation_loss
            if best == self.model_epoch or lowest is None or newest < lowest:
                self.best = self.params, self.running, self.model_epoch

    def restore_best(self) -> None:
        """Return to the best epoch's parameters, if that was asked for and there are any."""
        if self.restores_best and self.best is not None:
            self.params, self.running, self.model_epoch = self.best

    def halve_rates(self, step: int) -> None:
        """Halve the learning rate from a step of the run on."""
        self.rates[step:] *= 0.5
        self.rollbacks.append(step)

    def check_finite(self, done: int, healthy: int, params: Arrays, others: list[Any]) -> None:
        """Raise NonFiniteError unless the state after some steps of the epoch is finite.

        healthy : of these steps, those with a finite loss.   params : as they are then.   others : arrays and numbers.
        """
        if healthy == done and all(np.isfinite(a).all() for a in (*params, *others)):
            return
        step = min(healthy, done - 1)
        what = "the loss" if healthy < done else "a parameter or a split's loss"
        since = f"after epoch {self.model_epoch}" if self.model_epoch else "at the start"
        rate = self.rates[len(self.history) * self.n_steps + step]
        raise NonFiniteError(
            f"{what} stopped being finite in epoch {self.epoch} at step {step + 1} of {self.n_steps}, learning rate "
            f"{rate:.3g}; the parameters' norm was {_norm(self.params):.3g} {since} and is {_norm(params):.3g}; a "
            "smaller learning rate or a clip_norm may help"
        )

    def model(self) -> Model:
        """A Model of params and running, on the device."""
        params, running = ([self.backend.to_device(a) for a in arrays] for arrays in (self.params, self.running))
        return Model(self.network, params, running, self.backend, self.schema)


def _norm(arrays: Arrays) -> float:
    return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))
