"""Callbacks: the methods that fit calls between steps and epochs, and the callbacks that write no files.

A callback is any subclass of Callback that overrides the methods it needs. It sees the run, and may end it:

    class StopAt98(xpnet.Callback):
        def on_epoch(self, run):
            if run.history[-1].validation_accuracy > 0.98: run.stop("98 % reached")
"""

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import check_range, typed
from xpnet.errors import ConfigError
from xpnet.training.run import Run

__all__ = ["Callback", "EarlyStopping", "LearningRates"]


class Callback:
    """Does nothing on any occasion; subclasses override the methods they need.

    order : callbacks are started in the order of this number, those of one number as they were given, and ended in the
        reverse; a directory comes first, since it may hold the state from which the run continues.
    fault : the newest failure to write, "PATH: reason", or None; Result.unsaved reports it.
    """

    order: int = 0
    fault: str | None = None

    def wants_state(self, run: Run) -> bool:
        """Whether the run is to make checkpoints for on_checkpoint; by default, if that method is overridden."""
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
    """Stops when the validation loss has not improved for some epochs, and restores the best epoch's parameters.

    patience : epochs to wait, >= 1.
    Raises ConfigError for another number.
    """

    def __init__(self, patience: int) -> None:
        self.patience = typed("patience", patience, "int")
        check_range("patience", self.patience, 1)

    def on_start(self, run: Run) -> None:
        """Have the best epoch restored; stop a run that resumes where it had already ended."""
        run.restores_best = True
        self._judge(run)

    def on_epoch(self, run: Run) -> None:
        """Stop if none of the last patience epochs was the best."""
        if run.history[-1].validation_loss is None:
            raise ConfigError("early stopping needs a validation split: set validation to a share or a number")
        self._judge(run)

    def on_end(self, run: Run) -> None:
        """Restore the parameters of the best epoch, in a run that failed, too."""
        run.restore_best()

    def _judge(self, run: Run) -> None:
        best = run.best_epoch
        if best is not None and len(run.history) - best >= self.patience:
            run.stop(f"no validation loss below epoch {best}'s in {self.patience} epoch{'s'[: self.patience > 1]}")


class LearningRates(Callback):
    """Records the learning rate of every step of the finished epochs.

    rates : (steps,) float64.
    """

    def __init__(self) -> None:
        self.rates: NDArray[np.float64] = np.empty(0)

    def on_epoch(self, run: Run) -> None:
        """Add the epoch's rates."""
        self.rates = run.rates[: run.history[-1].epoch * run.n_steps]
