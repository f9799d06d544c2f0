"""A setting as TrainConfig describes it: what it is for, its values and range, and what other libraries call it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from xpnet.checks import check_one_of, check_range, interval, typed

__all__ = [
    "GROUPS",
    "NETWORK",
    "POSITIVE",
    "RUN",
    "SHARE",
    "SHARE_CLOSED",
    "SOURCE",
    "SYNONYMS",
    "TRAINING",
    "Setting",
    "described",
]

GROUPS = SOURCE, NETWORK, TRAINING, RUN = "Data and device", "Network", "Training", "Run"
"""The groups of settings in --help, in their order."""


class Setting(NamedTuple):
    """A setting, without its value.

    help : a phrase; the range is added before its first semicolon.   group : one of GROUPS.
    known : its possible values; () for any.
    low, high : the range of its numbers, if they have one; low_open, high_open : whether an end is outside.
    decides : whether the result of a run depends on it, beyond rounding.
    fixed : whether trials of a search can be compared only if they have it in common.
    in_header : whether the header of a run has a place for it; others are listed where they are not the default.
    common : whether --help shows it, and not only --help-all.
    name, type, default : as TrainConfig defines it.   optimizers : those that take it, if not all do.
    """

    help: str
    group: str
    known: tuple[str, ...] = ()
    low: float | None = None
    high: float = math.inf
    low_open: bool = False
    high_open: bool = True
    decides: bool = True
    fixed: bool = False
    in_header: bool = False
    common: bool = False
    name: str = ""
    type: str = ""
    default: Any = None
    optimizers: tuple[str, ...] = ()

    def checked(self, value: Any) -> Any:
        """The value as the setting's type.   Raises ConfigError if it is of another type, or out of range."""
        value = typed(self.name, value, self.type)
        if self.low is not None:
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float):
                    check_range(
                        self.name, number, self.low, self.high, low_open=self.low_open, high_open=self.high_open
                    )
        if self.known and value is not None:
            check_one_of(self.name, value, self.known)
        return value

    def explained(self) -> str:
        """The setting in a sentence or two, with its range, the optimizers that take it, and the values it may have."""
        limit = ""
        if self.low is not None and (math.isfinite(self.high) or self.low_open or self.low > 0):
            limit = ", " + interval(self.low, self.high, low_open=self.low_open, high_open=self.high_open)
        subject, semicolon, rest = self.help.partition(";")
        text = f"{subject}{limit}{semicolon}{rest}."
        if self.optimizers:
            text += f" Only with {', '.join(self.optimizers)}."
        return f"{text} One of {', '.join(self.known)}." if len(self.known) > 1 else text


def described(default: Any, help: str, group: str, **about: Any) -> Any:
    """A field of TrainConfig, with its default and its description: the fields of Setting."""
    return dataclasses.field(default=default, metadata={"setting": Setting(help, group, **about)})


# The usual ranges.
SHARE = {"low": 0.0, "high": 1.0}
SHARE_CLOSED = {"low": 0.0, "high": 1.0, "high_open": False}
POSITIVE = {"low": 0.0, "low_open": True}

SYNONYMS = {
    **dict.fromkeys(("learning_rate", "learning_rate_init", "eta", "step_size", "eta0"), "lr"),
    **dict.fromkeys(("n_epochs", "num_epochs", "nb_epoch", "max_iter", "iterations", "n_iter"), "epochs"),
    **dict.fromkeys(("minibatch_size", "mini_batch_size", "minibatch", "batchsize", "bs"), "batch_size"),
    **dict.fromkeys(("l2", "lmbda", "lambda", "reg", "alpha_l2", "l2_regularization", "weightdecay"), "weight_decay"),
    **dict.fromkeys(("hidden_layer_sizes", "layers", "units", "hidden_sizes", "hidden_size", "n_hidden"), "hidden"),
    **dict.fromkeys(("random_state", "rng", "random_seed"), "seed"),
    **dict.fromkeys(("validation_split", "validation_fraction", "val", "val_split", "validation_data"), "validation"),
    **dict.fromkeys(("patience", "n_iter_no_change", "early_stop"), "early_stopping"),
    **dict.fromkeys(("solver", "opt", "optim", "algorithm"), "optimizer"),
    **dict.fromkeys(("gradient_clipping", "max_grad_norm", "clipnorm", "grad_clip"), "clip_norm"),
    **dict.fromkeys(("dropout_rate", "drop", "p_drop"), "dropout"),
    **dict.fromkeys(("criterion", "cost", "objective", "loss_function"), "loss"),
    **dict.fromkeys(("verbose", "quiet", "show_progress"), "progress"),
    **dict.fromkeys(("scheduler", "lr_schedule", "learning_rate_schedule"), "schedule"),
    **dict.fromkeys(("activation_function", "nonlinearity"), "activation"),
    **dict.fromkeys(("normalize", "standardize", "scaler"), "scale"),
    **dict.fromkeys(("precision", "float_type"), "dtype"),
    **dict.fromkeys(("class_weights",), "class_weight"),
    **dict.fromkeys(("beta_1",), "beta1"),
    **dict.fromkeys(("beta_2",), "beta2"),
    **dict.fromkeys(("epsilon",), "eps"),
    **dict.fromkeys(("rho", "decay_rate"), "alpha"),
}
"""What other libraries call the settings."""
