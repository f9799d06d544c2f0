"""TrainConfig: the flags of `xpnet train`, a TOML file and the settings of `fit` are one and the same."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import tomli_w

from xpnet.backend import Backend, select
from xpnet.checks import check_one_of, check_range, nearest, typed
from xpnet.errors import ConfigError
from xpnet.numerics.augment import Distortion
from xpnet.numerics.network import MLP
from xpnet.optim import OPTIMIZERS, SCHEDULES

__all__ = ["TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a training run; checked when made, so that a bad value fails before any work.

    Raises ConfigError, one line, for a value that is unknown, of the wrong type or out of range.
    """

    data: str = "auto"
    """Name of a data set, path of a file or directory, or "auto"."""
    device: str = "auto"
    """cpu, cuda, cuda:N, or auto."""
    library: str | None = None
    """Array library; by default numpy on cpu and cupy on cuda."""
    tf32: bool = False
    """On CUDA, multiply float32 matrices with factors rounded to 10 bits of mantissa, which is faster."""
    graph: bool = True
    """With CuPy, run the training steps as captured CUDA graphs; without, operation by operation: the same results."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the hidden layers; none for a linear classifier."""
    activation: str = "relu"
    """Activation of the hidden layers."""
    initializer: str = "auto"
    """Distribution of the first weights; auto goes by the activation."""
    batch_norm: bool = False
    """Normalise hidden layers over the batch."""
    dropout: float = 0.0
    """Drop rate of hidden units, in [0, 1)."""
    input_dropout: float = 0.0
    """Drop rate of pixels, in [0, 1)."""
    loss: str = "cross-entropy"
    """The loss, with its output activation."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes, in [0, 1)."""
    class_weight: str | None = None
    """balanced: each class counts alike, however many examples it has; by default each example does."""
    optimizer: str = "nesterov"
    """The update rule."""
    lr: float | None = None
    """Learning rate, > 0; by default the optimizer's own."""
    momentum: float = 0.9
    """Momentum of the optimizers momentum and nesterov, in [0, 1)."""
    beta1: float = 0.9
    """Decay of Adam's mean gradient, in [0, 1)."""
    beta2: float = 0.999
    """Decay of Adam's mean squared gradient, in [0, 1)."""
    weight_decay: float = 1e-4
    """L2 term of the gradient, >= 0; decoupled in adamw."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient, > 0; by default not clipped."""
    max_norm: float | None = None
    """Largest norm of the weights into a hidden unit, > 0; by default not limited."""
    average: float = 0.0
    """Decay of a moving average of the parameters, in [0, 1), which then is the model; 0 for none."""
    schedule: str = "linear"
    """Course of the learning rate over the run."""
    warmup: float | None = None
    """Share of the steps in which the rate climbs, in [0, 1); by default 0, and 0.3 for one-cycle."""
    decay_every: int = 10
    """Epochs between two drops of the schedule step."""
    decay: float = 0.1
    """Factor of each drop of the schedule step, in (0, 1]."""
    batch_size: int | Literal["full"] = 64
    """Examples per step, or full for the whole set."""
    epochs: int = 5
    """Passes over the training set."""
    seed: int = 0
    """Decides weights, batch order, dropout and the validation split; >= 0."""
    dtype: str = "float32"
    """float32 or float64."""
    validation: float = 0.0
    """Examples held out of the training set: a share below 1, or a number."""
    early_stopping: int | None = None
    """Epochs without a better validation loss after which to stop, with the best parameters restored."""
    augment: Distortion | None = None
    """Distort the training images, for each epoch anew."""
    on_nonfinite: str = "stop"
    """When loss or parameters are not finite: stop, or rollback to the newest checkpoint with half the rate, thrice."""
    checkpoint_every: int | str | None = None
    """Keep the run's state within an epoch too, every so many steps, or about every so many seconds, such as 30s."""
    keep: int = 2
    """Newest checkpoints that are kept, besides that of the best epoch on held-out images; 0 keeps none at all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", _distortion(self.augment))
        for field in dataclasses.fields(self):
            if field.name != "augment":
                object.__setattr__(self, field.name, typed(field.name, getattr(self, field.name), str(field.type)))
        for width in self.hidden:
            check_range("hidden", width, 1)
        self.network(1, 2)  # checks the settings that describe the network
        check_one_of("optimizer", self.optimizer, OPTIMIZERS)
        check_one_of("schedule", self.schedule, SCHEDULES)
        check_one_of("dtype", self.dtype, ["float32", "float64"])
        if self.tf32 and self.dtype != "float32":
            raise ConfigError(f"tf32 is a way to multiply float32 numbers, but dtype is {self.dtype}", setting="tf32")
        if self.class_weight is not None:
            check_one_of("class_weight", self.class_weight, ["balanced"])
        for name in ("lr", "clip_norm", "max_norm"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 0.0, low_open=True)
        if self.warmup is not None:
            check_range("warmup", self.warmup, 0.0, 1.0)
        for name in ("momentum", "beta1", "beta2", "average"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        check_range("decay", self.decay, 0.0, 1.0, low_open=True, high_open=False)
        check_range("weight_decay", self.weight_decay, 0.0)
        check_range("decay_every", self.decay_every, 1)
        check_range("epochs", self.epochs, 1)
        check_range("seed", self.seed, 0)
        check_range("validation", self.validation, 0.0)
        if self.validation >= 1.0 and self.validation != int(self.validation):
            message = f"validation must be a share below 1 or a whole number, not {self.validation:g}"
            raise ConfigError(message, setting="validation")
        if self.batch_size != "full":
            check_range("batch_size", self.batch_size, 1)
        if self.early_stopping is not None:
            check_range("early_stopping", self.early_stopping, 1)
        check_one_of("on_nonfinite", self.on_nonfinite, ["stop", "rollback"])
        check_range("keep", self.keep, 0)
        self.checkpoint_interval()

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
        return self.replace(device="auto", library=None, tf32=False, graph=True, checkpoint_every=None, keep=2)

    def replace(self, /, **settings: Any) -> TrainConfig:
        """A copy with some settings changed, checked anew.   Raises ConfigError for an unknown name or a bad value."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in settings:
            if name not in known:
                raise ConfigError(f"unknown setting {name!r}; {nearest(name, known)}known are {', '.join(known)}")
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
