"""TrainConfig: the flags of `xpnet train`, a TOML file and the settings of `fit` are one and the same.

Each setting is described once, where TrainConfig defines it. The table SETTINGS is read from there, and all that needs
to know of a setting reads the table: the checks, the flags and their help, the header of a run, the search space.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import tomli_w

from xpnet.backend import LIBRARIES, Backend, select
from xpnet.checks import check_one_of, check_range, interval, nearest, typed
from xpnet.errors import ConfigError
from xpnet.numerics.augment import Distortion
from xpnet.numerics.functional import ACTIVATIONS, LOSSES
from xpnet.numerics.network import INITIALIZERS, MLP
from xpnet.optim import OPTIMIZERS, SCHEDULES

__all__ = ["GROUPS", "SETTINGS", "Setting", "TrainConfig"]

GROUPS = SOURCE, NETWORK, TRAINING, RUN = "Data and device", "Network", "Training", "Run"
"""The groups of settings in --help, in their order."""


class Setting(NamedTuple):
    """A setting, but for its value.

    help : a phrase.   group : one of GROUPS.   known : the values that it may have; any where there are none.
    low, high : the range of its numbers, if they have one; low_open, high_open : whether an end is outside.
    decides : whether the result of a run depends on it, beyond rounding.
    fixed : whether trials of a search can be compared only if they have it in common.
    in_header : whether the header of a run has a place for it; others are listed where they are not the default.
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
        limits = []
        if self.low is not None and (math.isfinite(self.high) or self.low_open or self.low > 0):
            limits.append(interval(self.low, self.high, low_open=self.low_open, high_open=self.high_open))
        if self.optimizers:
            limits.append(f"only with {', '.join(self.optimizers)}")
        text = f"{self.help} ({'; '.join(limits)})." if limits else f"{self.help}."
        return f"{text} One of {', '.join(self.known)}." if len(self.known) > 1 else text


def _setting(default: Any, help: str, group: str, **about: Any) -> Any:
    return dataclasses.field(default=default, metadata={"setting": Setting(help, group, **about)})


_SHARE = {"low": 0.0, "high": 1.0}
_POSITIVE = {"low": 0.0, "low_open": True}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a training run; checked when made, so that a bad value fails before any work.

    Raises ConfigError for a value that is unknown, of the wrong type or out of range.
    """

    data: str = _setting(
        "auto", 'Name of a data set, path of a file or directory, or "auto"', SOURCE, fixed=True, in_header=True
    )
    device: str = _setting("auto", "cpu, cuda, cuda:N, or auto", SOURCE, decides=False, fixed=True, in_header=True)
    library: str | None = _setting(
        *(None, "Array library; by default numpy on cpu and cupy on cuda", SOURCE),
        known=LIBRARIES,
        decides=False,
        fixed=True,
        in_header=True,
    )
    tf32: bool = _setting(
        *(False, "On CUDA, multiply float32 matrices with factors rounded to 10 bits of mantissa, which is faster"),
        *(SOURCE,),
        decides=False,
        fixed=True,
        in_header=True,
    )
    graph: bool = _setting(
        True,
        "With CuPy, run the training steps as captured CUDA graphs; without, operation by operation: the same results",
        SOURCE,
        decides=False,
        fixed=True,
    )
    hidden: tuple[int, ...] = _setting(
        (128,), "Widths of the hidden layers; none for a linear classifier", NETWORK, low=1, in_header=True
    )
    activation: str = _setting(
        "relu", "Activation of the hidden layers", NETWORK, known=tuple(ACTIVATIONS), in_header=True
    )
    initializer: str = _setting(
        "auto", "Distribution of the first weights; auto chooses by the activation", NETWORK, known=INITIALIZERS
    )
    batch_norm: bool = _setting(False, "Normalise hidden layers over the batch", NETWORK)
    dropout: float = _setting(0.0, "Drop rate of hidden units", NETWORK, **_SHARE)
    input_dropout: float = _setting(0.0, "Drop rate of pixels", NETWORK, **_SHARE)
    loss: str = _setting(
        "cross-entropy", "The loss, with its output activation", NETWORK, known=tuple(LOSSES), in_header=True
    )
    label_smoothing: float = _setting(0.0, "Share of the target spread over all classes", NETWORK, **_SHARE)
    class_weight: str | None = _setting(
        None,
        "balanced: give every class the same total weight. By default every example has the same weight",
        TRAINING,
        known=("balanced",),
    )
    optimizer: str = _setting("nesterov", "The update rule", TRAINING, known=tuple(OPTIMIZERS), in_header=True)
    lr: float | None = _setting(
        None, "Learning rate; by default the optimizer's own", TRAINING, in_header=True, **_POSITIVE
    )
    momentum: float = _setting(0.9, "Momentum", TRAINING, **_SHARE)
    alpha: float = _setting(0.99, "Decay of the mean squared gradient", TRAINING, **_SHARE)
    beta1: float = _setting(0.9, "Decay of the mean gradient", TRAINING, **_SHARE)
    beta2: float = _setting(0.999, "Decay of the mean squared gradient", TRAINING, **_SHARE)
    eps: float = _setting(1e-8, "Added to the root of the mean squared gradient", TRAINING, **_POSITIVE)
    weight_decay: float = _setting(1e-4, "L2 term of the gradient; decoupled in adamw", TRAINING, low=0.0)
    clip_norm: float | None = _setting(
        None, "Largest norm of the whole gradient; by default not clipped", TRAINING, **_POSITIVE
    )
    max_norm: float | None = _setting(
        None, "Largest norm of the weights into a hidden unit; by default not limited", TRAINING, **_POSITIVE
    )
    average: float = _setting(
        0.0,
        "Decay of a moving average of the parameters, which then is the model; 0 for none",
        TRAINING,
        **_SHARE,
    )
    schedule: str = _setting(
        "linear", "Course of the learning rate over the run", TRAINING, known=tuple(SCHEDULES), in_header=True
    )
    warmup: float | None = _setting(
        None, "Share of the steps in which the rate climbs; by default 0, and 0.3 for one-cycle", TRAINING, **_SHARE
    )
    decay_every: int = _setting(10, "Epochs between two drops of the schedule step", TRAINING, low=1)
    decay: float = _setting(
        *(0.1, "Factor of each drop of the schedule step", TRAINING),
        low=0.0,
        low_open=True,
        high=1.0,
        high_open=False,
    )
    batch_size: int | Literal["full"] = _setting(
        64, "Examples per step, or full for the whole set", TRAINING, low=1, in_header=True
    )
    epochs: int = _setting(5, "Passes over the training set", TRAINING, low=1, in_header=True)
    seed: int = _setting(
        *(0, "Decides weights, batch order, dropout and the validation split", TRAINING),
        low=0,
        fixed=True,
        in_header=True,
    )
    dtype: str = _setting("float32", "Precision", TRAINING, known=("float32", "float64"), in_header=True)
    validation: float = _setting(
        0.0, "Examples held out of the training set: a share below 1, or a number", TRAINING, low=0.0, fixed=True
    )
    early_stopping: int | None = _setting(
        None,
        "Epochs without a better validation loss after which to stop, with the best parameters restored",
        TRAINING,
        low=1,
    )
    augment: Distortion | None = _setting(None, "Distort the training images, for each epoch anew", TRAINING)
    on_nonfinite: str = _setting(
        "stop",
        "When the loss or a parameter is not finite: stop, or rollback to the newest checkpoint with half the learning "
        "rate, at most three times",
        TRAINING,
        known=("stop", "rollback"),
    )
    checkpoint_every: int | str | None = _setting(
        None,
        "Keep the run's state within an epoch too, every so many steps, or about every so many seconds, such as 30s",
        RUN,
        decides=False,
    )
    keep: int = _setting(
        2,
        "Newest checkpoints that are kept, besides that of the best epoch on held-out images; 0 keeps none",
        RUN,
        low=0,
        decides=False,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", _distortion(self.augment))
        for name, setting in SETTINGS.items():
            if name != "augment":
                object.__setattr__(self, name, setting.checked(getattr(self, name)))
        if self.tf32 and self.dtype != "float32":
            raise ConfigError(f"tf32 is a way to multiply float32 numbers, but dtype is {self.dtype}", setting="tf32")
        if self.validation >= 1.0 and self.validation != int(self.validation):
            message = f"validation must be a share below 1 or a whole number, not {self.validation:g}"
            raise ConfigError(message, setting="validation")
        self.checkpoint_interval()

    @property
    def rate(self) -> float:
        """The learning rate: lr, or the optimizer's own."""
        return OPTIMIZERS[self.optimizer].lr if self.lr is None else self.lr

    @property
    def hyperparameters(self) -> dict[str, float]:
        """The settings that the optimizer takes, besides the rate, which varies."""
        return {name: getattr(self, name) for name in _taken_by(self.optimizer)}

    def network(self, n_in: int, n_classes: int) -> MLP:
        """The network that these settings describe, for images of n_in pixels and n_classes classes."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(MLP) if f.name != "sizes"}
        return MLP((n_in, *self.hidden, n_classes), **settings)

    def backend(self) -> Backend:
        """The array library on the device that these settings name.   Raises DeviceError where it cannot be used."""
        return select(self.device, self.library, tf32=self.tf32, graph=self.graph)

    def checkpoint_interval(self) -> tuple[float, float]:
        """Steps and seconds after which a checkpoint is due, infinite where that is not asked for."""
        every = self.checkpoint_every
        if every is None:
            return math.inf, math.inf
        if isinstance(every, int):
            check_range("checkpoint_every", every, 1)
            return every, math.inf
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?s", every) or float(every[:-1]) == 0.0:
            raise ConfigError(
                f"checkpoint_every must be a number of steps, or of seconds such as 30s, more than 0, not {every!r}",
                setting="checkpoint_every",
            )
        return math.inf, float(every[:-1])

    def deciding(self) -> TrainConfig:
        """A copy in which the settings that decide no more than where to compute, and so the rounding, and what is kept
        of it, are defaults.
        """
        return self.replace(**{name: setting.default for name, setting in SETTINGS.items() if not setting.decides})

    def replace(self, /, **settings: Any) -> TrainConfig:
        """A copy with some settings changed, checked anew.   Raises ConfigError for an unknown name or a bad value."""
        for name in settings:
            if name not in SETTINGS:
                raise ConfigError(f"unknown setting {name!r}; {nearest(name, SETTINGS)}known are {', '.join(SETTINGS)}")
        return dataclasses.replace(self, **settings)

    def to_toml(self) -> str:
        """The settings as TOML, in the order of their definition; a setting that is None is left out."""
        settings = dataclasses.asdict(self)
        # TOML is UTF-8 and cannot hold the path of data that is not: it is written escaped.
        settings["data"] = self.data.encode(errors="backslashreplace").decode()
        return tomli_w.dumps({k: list(v) if isinstance(v, tuple) else v for k, v in settings.items() if v is not None})


def _distortion(value: Any) -> Distortion | None:
    """The setting augment, which in TOML is a table."""
    if value is None or isinstance(value, Distortion):
        return value
    if not isinstance(value, dict):
        raise ConfigError(
            f"augment must be a table of settings such as rotation = 15, not {value!r}", setting="augment"
        )
    known = [field.name for field in dataclasses.fields(Distortion)]
    for name in value:
        if name not in known:
            message = f"augment: unknown setting {name!r}; {nearest(name, known)}known are {', '.join(known)}"
            raise ConfigError(message, setting="augment")
    return Distortion(**value)


def _taken_by(optimizer: str) -> list[str]:
    """The settings that an optimizer takes, by the parameters of its rule, but for the rate."""
    parameters = inspect.signature(OPTIMIZERS[optimizer].update).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("lr", "xp")]


def _settings() -> dict[str, Setting]:
    taken = {optimizer: _taken_by(optimizer) for optimizer in OPTIMIZERS}
    found = {}
    for field in dataclasses.fields(TrainConfig):
        takers = tuple(optimizer for optimizer, names in taken.items() if field.name in names)
        found[field.name] = field.metadata["setting"]._replace(
            name=field.name,
            type=str(field.type),
            default=field.default,
            optimizers=takers if len(takers) < len(taken) else (),
        )
    return found


SETTINGS: dict[str, Setting] = _settings()
"""What is known of each setting, by its name, in the order of TrainConfig."""
