"""TrainConfig: the flags of `xpnet train`, a TOML file and the settings of `fit` are one and the same.

Each setting is described once, where TrainConfig defines it. The table SETTINGS is made from these descriptions, and
everything else that needs to know about a setting reads the table: the checks, the flags and their help, the header of
a run, the search space.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
import os
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import tomli_w

from xpnet.backend import LIBRARIES, Backend, select
from xpnet.checks import check_range, nearest
from xpnet.data import SCALES, TASKS
from xpnet.errors import ConfigError
from xpnet.numerics.augment import Distortion
from xpnet.numerics.functional import ACTIVATIONS, LOSSES, exponential, identity
from xpnet.numerics.network import INITIALIZERS, MLP
from xpnet.optim import OPTIMIZERS, SCHEDULES
from xpnet.training.setting import (
    NETWORK,
    POSITIVE,
    RUN,
    SHARE,
    SHARE_CLOSED,
    SOURCE,
    SYNONYMS,
    TRAINING,
    Setting,
    described,
)

__all__ = ["EPOCHS", "LOCATED", "SETTINGS", "SMALL", "Settings", "TrainConfig"]

logger = logging.getLogger("xpnet")

# What the settings are by default that depend on the data; chosen on sets that bench tabular does not measure.
EPOCHS, EXAMPLES, MOST_EPOCHS = 6, 25_000, 100
WEIGHT_DECAY, SMALL, MOST_DECAY = 1e-4, 50_000, 0.3
LARGE, HELD_OUT, FOR_STOPPING = 50_000, 5_000, 0.1  # training examples, and those of them that are held out
CLIP_NORM = 0.3  # squared errors of outputs without bounds diverge at rates that suit cross-entropy
TRAINED_RATE = 0.1

LOCATED = ("test", "validation", "start")  # settings that may be paths


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a training run; checked when it is created, so that a bad value fails before any work.

    Raises ConfigError for a value that is unknown, of the wrong type or out of range.
    """

    data: str = described(
        *("auto", "Name of a data set, or path of a file or directory; auto is mnist, or digits without it", SOURCE),
        fixed=True,
        in_header=True,
        common=True,
    )
    label: str | None = described(
        None,
        "Column of the labels in a table, by name or by number, from 0, or from -1 at the end; by default recognised",
        SOURCE,
        fixed=True,
        common=True,
    )
    test: str | None = described(
        None, "File of test examples; by default the data's own test split, if it has one", SOURCE, fixed=True
    )
    size: int | None = described(
        None,
        "Height and width to which pictures in folders are brought; by default their own or, if they differ, 28",
        SOURCE,
        low=1,
        fixed=True,
    )
    task: str = described(
        "auto",
        "Kind of labels; auto: numbers with fractions are regression, rows of 0 and 1 multilabel",
        SOURCE,
        known=("auto", *TASKS),
        fixed=True,
    )
    scale: str = described(
        "auto",
        "Scaling of the features, by the training examples: pixels to [0, 1], standard to mean 0 and deviation 1, "
        "minmax to [0, 1] by column; auto is pixels for pictures and standard for tables",
        SOURCE,
        known=SCALES,
        fixed=True,
    )
    device: str = described(
        *("auto", "Where to compute: cpu, cuda, cuda:N or auto", SOURCE),
        decides=False,
        fixed=True,
        in_header=True,
        common=True,
    )
    library: str | None = described(
        *(None, "Array library; by default numpy on the CPU and cupy on CUDA", SOURCE),
        known=LIBRARIES,
        decides=False,
        fixed=True,
        in_header=True,
    )
    tf32: bool = described(
        *(False, "On CUDA, multiply float32 matrices faster, with factors rounded to 10 bits of mantissa"),
        *(SOURCE,),
        decides=False,
        fixed=True,
        in_header=True,
    )
    graph: bool = described(
        True,
        "With CuPy, run the training steps as captured CUDA graphs, which is faster and gives the same results",
        SOURCE,
        decides=False,
        fixed=True,
    )
    start: str | None = described(
        None,
        "Model to train further, a run directory or a .safetensors file, instead of starting from random parameters",
        SOURCE,
        fixed=True,
        common=True,
    )
    hidden: tuple[int, ...] = described(
        (128,), "Widths of the hidden layers; none for a linear classifier", NETWORK, low=1, in_header=True, common=True
    )
    activation: str = described(
        "relu", "Activation of the hidden layers", NETWORK, known=tuple(ACTIVATIONS), in_header=True, common=True
    )
    initializer: str = described(
        "auto", "Distribution of the initial weights; auto chooses by the activation", NETWORK, known=INITIALIZERS
    )
    batch_norm: bool = described(False, "Batch normalisation of the hidden layers", NETWORK)
    dropout: float = described(0.0, "Dropout rate of the hidden units", NETWORK, **SHARE, common=True)
    input_dropout: float = described(0.0, "Dropout rate of the pixels", NETWORK, **SHARE)
    loss: str | None = described(
        None,
        "Loss, with its output activation; by default that of the task: cross-entropy, binary-cross-entropy or "
        "squared-error",
        NETWORK,
        known=tuple(LOSSES),
        in_header=True,
    )
    label_smoothing: float = described(0.0, "Share of the target spread evenly over all classes", NETWORK, **SHARE)
    class_weight: str | None = described(
        None,
        "balanced: give every class the same total weight. By default every example has the same weight",
        TRAINING,
        known=("balanced",),
    )
    teacher: tuple[str, ...] = described(
        (),
        "Models whose averaged probabilities are learned besides the labels, on the same distorted images: run "
        "directories or .safetensors files",
        TRAINING,
        fixed=True,
    )
    teaching_share: float = described(
        0.9, "Share of the loss that is the teachers'; the rest is that of the labels", TRAINING, **SHARE_CLOSED
    )
    teaching_temperature: float = described(
        2.0,
        "What the logits of teachers and learner are divided by, so that small probabilities count",
        TRAINING,
        **POSITIVE,
    )
    adversarial: float = described(
        0.0,
        "Adversarial training: learn from each example also as moved this far in the direction in which its loss rises "
        "fastest; in scaled features, where a pixel is 0 to 1. 0 turns it off",
        TRAINING,
        low=0.0,
    )
    optimizer: str = described(
        "nesterov", "Update rule", TRAINING, known=tuple(OPTIMIZERS), in_header=True, common=True
    )
    lr: float | None = described(
        None,
        "Learning rate; by default the optimizer's own, "
        f"{', '.join(f'{rule.lr:g} for {name}' for name, rule in OPTIMIZERS.items())}; a tenth of it from a model on",
        TRAINING,
        in_header=True,
        **POSITIVE,
        common=True,
    )
    momentum: float = described(0.9, "Momentum", TRAINING, **SHARE)
    alpha: float = described(0.99, "Decay of the average squared gradient", TRAINING, **SHARE)
    beta1: float = described(0.9, "Decay of the average gradient", TRAINING, **SHARE)
    beta2: float = described(0.999, "Decay of the average squared gradient", TRAINING, **SHARE)
    eps: float = described(1e-8, "Term added to the denominator, for stability", TRAINING, **POSITIVE)
    weight_decay: float | None = described(
        None,
        f"Weight decay, as an L2 term of the gradient; decoupled in adamw. By default {WEIGHT_DECAY:g}, or on fewer "
        f"than {SMALL:,} examples proportionally more",
        TRAINING,
        low=0.0,
    )
    clip_norm: float | None = described(
        None,
        f"Largest global norm of the gradient; by default not clipped, or {CLIP_NORM:g} in a regression "
        "and with mse, whose outputs have no bounds",
        TRAINING,
        **POSITIVE,
    )
    max_norm: float | None = described(
        None, "Largest norm of the weights into a hidden unit; by default not limited", TRAINING, **POSITIVE
    )
    average: float = described(
        0.0,
        "Decay of a moving average of the parameters; the average becomes the model. 0 turns it off",
        TRAINING,
        **SHARE,
    )
    schedule: str = described("linear", "Learning-rate schedule", TRAINING, known=tuple(SCHEDULES), in_header=True)
    warmup: float | None = described(
        None, "Share of the steps in which the rate rises; by default 0, or 0.3 for one-cycle", TRAINING, **SHARE
    )
    decay_every: int = described(10, "Epochs between two drops of the step schedule", TRAINING, low=1)
    decay: float = described(
        *(0.1, "Factor of each drop of the step schedule", TRAINING),
        low=0.0,
        low_open=True,
        high=1.0,
        high_open=False,
    )
    batch_size: int | Literal["full"] = described(
        64, "Examples per step; full takes the entire training set", TRAINING, low=1, in_header=True, common=True
    )
    shards: int | None = described(
        None,
        "Parts of a batch that are computed apart, a power of two, which the processes of a team share out; by default "
        "as many as there are processes. The result depends on it, but not on the number of processes",
        TRAINING,
        low=1,
    )
    epochs: int | None = described(
        None,
        f"Passes over the training set; by default {EPOCHS}, or on small sets as many as take {EXAMPLES:,} examples, "
        f"but at most {MOST_EPOCHS}",
        TRAINING,
        low=1,
        in_header=True,
        common=True,
    )
    seed: int = described(
        *(0, "Seed of the initial weights, batch order, dropout, distortions and validation split", TRAINING),
        low=0,
        fixed=True,
        in_header=True,
        common=True,
    )
    dtype: str = described(
        "float32", "Floating-point precision", TRAINING, known=("float32", "float64"), in_header=True
    )
    validation: float | str | None = described(
        None,
        "Training examples to hold out for validation: a share below 1, or a number, or 0 for none; or a file. By "
        f"default the data's own validation split or, of at least {LARGE:,} examples, {HELD_OUT:,}; of fewer none, or "
        "a tenth for early stopping",
        TRAINING,
        low=0.0,
        fixed=True,
        common=True,
    )
    test_each_epoch: bool = described(
        False,
        "Measure the test split after each epoch, as publications used to; otherwise once, at the end, so that nothing "
        "is chosen by it",
        TRAINING,
        decides=False,
        fixed=True,
    )
    early_stopping: int | None = described(
        None,
        "Epochs to wait for a better validation loss before stopping; the best parameters are restored",
        TRAINING,
        low=1,
        common=True,
    )
    augment: Distortion | None = described(
        None, "Distort the training images, anew in each epoch", TRAINING, common=True
    )
    on_nonfinite: str = described(
        "stop",
        "If the loss or a parameter is not finite: stop, or rollback to the newest checkpoint with half the learning "
        "rate, at most three times",
        TRAINING,
        known=("stop", "rollback"),
    )
    checkpoint_every: int | str | None = described(
        None,
        "Also save a checkpoint within an epoch, every N steps, or about every so many seconds, such as 30s",
        RUN,
        decides=False,
    )
    keep: int = described(
        2,
        "Number of newest checkpoints to keep, besides that of the best validation epoch; 0 keeps none",
        RUN,
        low=0,
        decides=False,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", _distortion(self.augment))
        for name, setting in SETTINGS.items():
            if name != "augment":
                object.__setattr__(self, name, setting.checked(getattr(self, name)))
        if self.shards is not None and self.shards & self.shards - 1:
            raise ConfigError(f"shards must be a power of two, not {self.shards}", setting="shards")
        if self.tf32 and self.dtype != "float32":
            raise ConfigError(f"tf32 needs dtype float32, not {self.dtype}", setting="tf32")
        if self.teacher and self.adversarial:
            raise ConfigError("teacher and adversarial are two objectives: leave one out", setting="adversarial")
        if isinstance(self.validation, float) and self.validation >= 1.0 and self.validation != int(self.validation):
            message = f"validation must be a share below 1 or a whole number, not {self.validation:g}"
            raise ConfigError(message, setting="validation")
        self.checkpoint_interval()

    @property
    def rate(self) -> float:
        """The learning rate: lr, or the optimizer's own."""
        return OPTIMIZERS[self.optimizer].lr if self.lr is None else self.lr

    @property
    def learned(self) -> str:
        """The task, one of TASKS, as far as the settings decide it; else "auto"."""
        return LOSSES[self.loss].task if self.task == "auto" and self.loss else self.task

    @property
    def reading(self) -> dict[str, Any]:
        """How load_data is to read the data: its keyword arguments, without those that are left to the data."""
        validation = self.validation if isinstance(self.validation, str) else None
        given = {"label": self.label, "test": self.test, "validation": validation, "size": self.size}
        chosen = {"task": self.learned, "scale": self.scale}
        return {
            **{name: value for name, value in given.items() if value is not None},
            **{name: value for name, value in chosen.items() if value not in ("auto", "classification")},
        }

    def resolved(self, n: int, loss: str, *, trained: bool = False) -> TrainConfig:
        """A copy with the defaults that depend on the data filled in.

            epochs = min(100, max(6, 25000 / n)) ;   weight_decay = min(0.3, max(1, 50000 / n) 1e-4)

        A prior on the weights counts as much as some examples do: its share of a mean is larger in small sets. What a
        network has learned is kept: it has the weight decay of large sets, and a tenth of the rate.

        n : training examples.   loss : the network's.   trained : whether the training starts from a model.
        """
        decay = WEIGHT_DECAY if trained else min(MOST_DECAY, float(f"{max(1.0, SMALL / n) * WEIGHT_DECAY:.2g}"))
        clips = LOSSES[loss].output in (identity, exponential)
        return self.replace(
            epochs=self.epochs or min(MOST_EPOCHS, max(EPOCHS, math.ceil(EXAMPLES / n))),
            lr=self.rate * TRAINED_RATE if self.lr is None and trained else self.lr,
            weight_decay=decay if self.weight_decay is None else self.weight_decay,
            clip_norm=CLIP_NORM if self.clip_norm is None and clips else self.clip_norm,
        )

    @property
    def held(self) -> float:
        """Training examples to hold out: a share below 1, or a number; 0 where the validation split is another."""
        return 0.0 if self.validation is None or isinstance(self.validation, str) else self.validation

    def holding_out(self, n: int, *, validated: bool) -> TrainConfig:
        """A copy in which it is decided how many of n training examples are held out.

        validated : whether the data has a validation split of its own.
        """
        if self.validation is not None or validated:
            return self
        if n >= LARGE:
            return self.replace(validation=float(HELD_OUT))
        return self if self.early_stopping is None else self.replace(validation=FOR_STOPPING)

    @property
    def hyperparameters(self) -> dict[str, float]:
        """The settings that the optimizer takes, besides the rate, which varies."""
        return {name: getattr(self, name) for name in _taken_by(self.optimizer)}

    def network(self, n_in: int, n_outputs: int, task: str = "classification") -> MLP:
        """The network that these settings describe, for n_in features and n_outputs classes or other outputs."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(MLP) if f.name != "sizes"}
        if task not in TASKS:
            raise ConfigError(
                "the data have no labels to learn from; with a trained model, their classes can be predicted"
            )
        settings["loss"] = self.loss or next(name for name, loss in LOSSES.items() if loss.task == task)
        return MLP((n_in, *self.hidden, n_outputs), **settings)

    def backend(self, local_rank: int = 0) -> Backend:
        """The array library on the device that these settings name.   Raises DeviceError where it cannot be used.

        local_rank : as in xpnet.select.
        """
        return select(self.device, self.library, tf32=self.tf32, graph=self.graph, local_rank=local_rank)

    def lacking(self, name: str, varied: Container[str] = ()) -> str:
        """What a setting needs to have an effect, which the other settings do not name; "" if it has one.

        varied : settings that have other values, too.
        """
        takers = SETTINGS[name].optimizers
        if takers and self.optimizer not in takers and "optimizer" not in varied:
            return f"the optimizer {' or '.join(takers)}"
        if name in ("decay", "decay_every") and self.schedule != "step" and "schedule" not in varied:
            return "the schedule step"
        return "a teacher" if name in ("teaching_share", "teaching_temperature") and not self.teacher else ""

    def warn_of_idle(
        self, given: Iterable[str], called: Callable[[str], str] = str, varied: Container[str] = ()
    ) -> None:
        """Warn of those of the settings that were given that have no effect, by what the user calls them.

        varied : as in lacking.
        """
        for name in given:
            if need := self.lacking(name, varied):
                logger.warning("%s has no effect without %s", called(name), need)

    def checkpoint_interval(self) -> tuple[float, float]:
        """Steps and seconds after which a checkpoint is due, infinite if none is requested."""
        every = self.checkpoint_every
        if every is None:
            return math.inf, math.inf
        if isinstance(every, int):
            check_range("checkpoint_every", every, 1)
            return every, math.inf
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?s", every) or float(every[:-1]) == 0.0:
            raise ConfigError(
                f"checkpoint_every must be a number of steps, or of seconds above 0 such as 30s, not {every!r}",
                setting="checkpoint_every",
            )
        return math.inf, float(every[:-1])

    def located(self) -> TrainConfig:
        """A copy whose further files, the models it starts from and its teachers have paths that hold in any folder."""
        paths = {name: _absolute(path) for name in LOCATED if isinstance(path := getattr(self, name), str)}
        return self.replace(**paths, teacher=tuple(map(_absolute, self.teacher)))

    def deciding(self) -> TrainConfig:
        """A copy with the defaults of all settings that decide only where to compute, and so the rounding, and which
        checkpoints to keep.
        """
        usual = {name: setting.default for name, setting in SETTINGS.items() if not setting.decides}
        return self.replace(**usual, shards=self.shards or 1)

    def replace(self, /, **settings: Any) -> TrainConfig:
        """A copy with some settings changed, checked anew.   Raises ConfigError for an unknown name or a bad value."""
        for name in settings:
            if name not in SETTINGS:
                known = SYNONYMS.get(name.lower().strip("_"))
                hint = f"did you mean {known!r}? " if known else nearest(name, SETTINGS)
                raise ConfigError(f"unknown setting {name!r}; {hint}the choices are {', '.join(SETTINGS)}")
        return dataclasses.replace(self, **settings)

    def to_toml(self) -> str:
        """The settings as TOML, in the order of their definition; a setting that is None is left out."""
        return tomli_w.dumps({k: _as_toml(v) for k, v in dataclasses.asdict(self).items() if v is not None})


def _as_toml(value: Any) -> Any:
    """A setting's value as TOML has it, which is UTF-8: a path that is not is written escaped."""
    if isinstance(value, tuple):
        return list(map(_as_toml, value))
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _absolute(path: str) -> str:
    return os.path.abspath(path) if os.path.lexists(path) else path


class Settings(TypedDict, total=False):
    """The settings of TrainConfig as keyword arguments, so that an editor completes them."""

    label: str | None
    size: int | None
    task: str
    scale: str
    device: str
    library: str | None
    tf32: bool
    graph: bool
    start: str | None
    hidden: tuple[int, ...]
    activation: str
    initializer: str
    batch_norm: bool
    dropout: float
    input_dropout: float
    loss: str | None
    label_smoothing: float
    class_weight: str | None
    teacher: tuple[str, ...]
    teaching_share: float
    teaching_temperature: float
    adversarial: float
    optimizer: str
    lr: float | None
    momentum: float
    alpha: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float | None
    clip_norm: float | None
    max_norm: float | None
    average: float
    schedule: str
    warmup: float | None
    decay_every: int
    decay: float
    batch_size: int | Literal["full"]
    shards: int | None
    epochs: int | None
    seed: int
    dtype: str
    test_each_epoch: bool
    early_stopping: int | None
    augment: Distortion | None
    on_nonfinite: str
    checkpoint_every: int | str | None
    keep: int


def _distortion(value: Any) -> Distortion | None:
    """The setting augment, which in TOML is a table."""
    if value is None or isinstance(value, Distortion):
        return value
    if not isinstance(value, dict):
        raise ConfigError(f"augment must be a table of amounts such as rotation = 15, not {value!r}", setting="augment")
    known = [field.name for field in dataclasses.fields(Distortion)]
    for name in value:
        if name not in known:
            message = f"augment: unknown amount {name!r}; {nearest(name, known)}the choices are {', '.join(known)}"
            raise ConfigError(message, setting="augment")
    return Distortion(**value)


def _taken_by(optimizer: str) -> list[str]:
    """The settings that an optimizer takes, by the parameters of its rule, without the rate."""
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
"""The description of each setting, by its name, in the order of TrainConfig."""
