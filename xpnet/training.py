"""fit: what goes together, is trained, epoch after epoch, and measured."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.augment import check_shape
from xpnet.backend import Backend
from xpnet.callbacks import Callback, EarlyStopping, Progress, Run, RunDirectory
from xpnet.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from xpnet.config import TrainConfig
from xpnet.data import SETS, Dataset, is_mapped
from xpnet.errors import ConfigError, ModelError, NonFiniteError
from xpnet.history import Epoch
from xpnet.loader import WINDOW_BYTES, Examples, Loader
from xpnet.loop import STEPS_PER_CALL, Loop, computing, generator
from xpnet.model import Model, make_evaluate
from xpnet.network import MLP
from xpnet.optim import OPTIMIZERS
from xpnet.schedules import SCHEDULES

__all__ = ["Result", "check_arguments", "fit", "prepare"]

# What the seed decides apart from weights, masks and batch order: who is held out for validation.
SPLIT_STREAM = 1

# Settings that an MLP has, which fit therefore takes from there.
_DESCRIBED = {"hidden"} | {field.name for field in dataclasses.fields(MLP)} - {"sizes"}


class Result(NamedTuple):
    """What fit returns.

    model : the trained network.   history : one Epoch for each epoch.   config : the resolved settings.
    model_epoch : the epoch whose parameters the model has.   stop_reason : why training ended early, or None.
    """

    model: Model
    history: list[Epoch]
    config: TrainConfig
    model_epoch: int
    stop_reason: str | None


def prepare(
    network: MLP,
    data: Dataset,
    config: TrainConfig,
    backend: Backend,
    sample_weight: ArrayLike | None = None,
) -> tuple[Run, dict[str, Examples]]:
    """Check that network, data and settings go together, and resolve what they leave open.

    Returns the run before its first step, and the examples of each split: train, the weights of which have a mean of 1,
    and validation and test where there are any.   Arguments and errors as in fit.
    """
    splits = _splits(data, config)
    weights = _weights(splits["train"], config, sample_weight)
    if weights is not None:
        splits["train"] = dataclasses.replace(splits["train"], weights=weights.astype(config.dtype))
    config = _resolve(config, network, data, backend)
    n = splits["train"].n
    batch_size = n if config.batch_size == "full" else min(config.batch_size, n)
    if config.augment is not None:
        check_shape(data.image_shape)
    if network.batch_norm and (n - 1) % batch_size == 0:
        raise ConfigError(
            f"batch_size {batch_size} leaves a last batch of one of the {n} examples, which batch normalisation cannot "
            "use: choose another batch size"
        )
    image_bytes = data.train.images.nbytes // len(data.train.images)
    if is_mapped(data.train.images) and batch_size * image_bytes > WINDOW_BYTES:
        raise ConfigError(
            f"batch_size {config.batch_size} needs {batch_size * image_bytes / 1e6:,.0f} MB at once of {data.name}, "
            f"which is streamed from its file for its size: choose at most {WINDOW_BYTES // image_bytes:,}"
        )
    run = Run(
        network,
        config,
        backend,
        data.image_shape,
        n,
        batch_size,
        _rates(config, math.ceil(n / batch_size)),
        network.init_params(config.seed, config.dtype),
        network.init_running(config.dtype),
    )
    return run, splits


def fit(
    network: MLP,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    backend: Backend | None = None,
    callbacks: Iterable[Callback] | None = None,
    out: str | Path | None = None,
    sample_weight: ArrayLike | None = None,
    checkpoint: str | Path | None = None,
    **settings: Any,
) -> Result:
    """Train a network on a data set.

    network : what to train; its sizes must fit the data's pixels and classes.
    data : host arrays, which move to the device whole; those of a mapped file are streamed.
    config : the settings; what it says of the network, the data and the device gives way to those passed in.
    backend : where to compute; None takes config.backend().
    callbacks : see callbacks.py; None shows the progress on stderr, [] is silent.
    out : a directory for the run's files (config.toml, history.csv, model.safetensors, curves.png); None writes none.
    sample_weight : (n,), >= 0, what each example of data.train counts in the training loss, times its class weight;
        scaled to a mean of 1, so that the learning rate keeps its meaning.
    checkpoint : a file that keeps the run's state after each epoch; where it exists, the run goes on from it, and ends
        with the same bits as one that never stopped, on the same device, with the same data and sample_weight.
    settings : single settings of TrainConfig by name, over those of config.
    Returns a Result.
    Raises ConfigError for settings that do not fit the network, the data or the checkpoint, before any training;
    ModelError for a damaged checkpoint; NonFiniteError when the loss or a parameter stops being finite. However a run
    ends, KeyboardInterrupt included, the files of out hold the parameters as of the last finished epoch, or of the best
    one with early stopping.
    """
    check_arguments(network, data, config, backend)
    for name in settings.keys() & _DESCRIBED:
        raise ConfigError(f"{name} describes the network: give it to MLP")
    config = (config or TrainConfig()).replace(**settings)
    backend = backend or config.backend()
    run, splits = prepare(network, data, config, backend, sample_weight)
    kept = _kept(Path(checkpoint), run) if checkpoint is not None else None
    observers: list[Callback] = [Progress()] if callbacks is None else list(callbacks)
    if wrong := [observer for observer in observers if not isinstance(observer, Callback)]:
        raise TypeError(f"callbacks must be instances of Callback, such as xpnet.Progress(), not {wrong[0]!r}")
    if config.early_stopping is not None:
        observers.insert(0, EarlyStopping(config.early_stopping))
    if out is not None:
        observers.insert(0, RunDirectory(out))
    if kept is not None:
        run.history += kept.history  # before on_start, which may write it down
    with contextlib.ExitStack() as ending:  # calls every on_end, the last observer's first, even if one raises
        for observer in observers:
            observer.on_start(run)
            ending.callback(observer.on_end, run)
        ending.enter_context(computing(run))
        loop = Loop(run, splits["train"])
        if kept is not None:
            try:
                loop.resume(kept.arrays)
            except ValueError as error:
                raise ModelError(f"the checkpoint {checkpoint} is damaged: {error}") from None
            run.params, run.running = loop.model_on_host()
            run.model_epoch = len(run.history)
        for epoch in _epochs(run, loop, splits, observers):
            run.history.append(epoch)
            if checkpoint is not None:
                deciding = run.config.deciding().to_toml()
                write_checkpoint(Path(checkpoint), Checkpoint(deciding, run.n_examples, run.history, loop.arrays()))
            for observer in observers:
                observer.on_epoch(run)
            if run.stop_reason is not None:
                break
    return Result(run.model(), run.history, run.config, run.model_epoch, run.stop_reason)


def _kept(path: Path, run: Run) -> Checkpoint | None:
    """The checkpoint from which a run goes on; None where there is none yet.   Raises ConfigError, ModelError."""
    if run.config.early_stopping is not None:
        raise ConfigError("early_stopping cannot go on from a checkpoint, which does not hold the best epoch")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write the checkpoint {path}: there is no directory {path.parent}")
    if not path.exists():
        return None
    kept = read_checkpoint(path)
    if kept.n_examples != run.n_examples:
        raise ConfigError(
            f"the checkpoint {path} is of a run on {kept.n_examples} training examples, and these are {run.n_examples}"
        )
    if differences := kept.differences(run.config.deciding().to_toml()):
        raise ConfigError(
            f"the checkpoint {path} is of a run with another {', '.join(differences)}; name another file, or delete it"
        )
    return kept


def _epochs(run: Run, loop: Loop, splits: dict[str, Examples], observers: list[Callback]) -> Iterator[Epoch]:
    """Train epoch after epoch, leaving each one's parameters in run, and yield its figures."""
    backend, n, n_steps = run.backend, run.n_examples, run.n_steps
    evaluate = make_evaluate(run.network, backend)
    held_out = {name: Loader(examples, backend) for name, examples in splits.items() if name != "train"}
    for number in range(len(run.history) + 1, run.config.epochs + 1):
        backend.synchronize()
        start = time.perf_counter()
        told = 0
        for done in loop.epoch(number):
            if done - told >= STEPS_PER_CALL or done == n_steps:
                told = done
                for observer in observers:
                    observer.on_steps(run, number, done)
        backend.synchronize()
        seconds = time.perf_counter() - start
        state = loop.state
        params, running = loop.model_on_host()
        loss, hits, healthy = (backend.to_host(a)[0] for a in (state.loss, state.hits, state.healthy))
        figures: dict[str, Any] = {"train_loss": float(loss) / n, "train_accuracy": int(hits) / n}
        for name, loader in held_out.items():
            scores = evaluate(*loop.model, loader)
            figures |= {f"{name}_loss": scores.loss, f"{name}_accuracy": scores.accuracy}
        _check_finite(run, number, int(healthy), [*params, *running, *figures.values()])
        run.params, run.running, run.model_epoch = params, running, number
        yield Epoch(
            epoch=number,
            learning_rate=float(run.rates[number * n_steps - 1]),
            seconds=seconds,
            samples_per_second=n / seconds,
            **figures,
        )


def _check_finite(run: Run, epoch: int, healthy: int, values: list[Any]) -> None:
    """Raise NonFiniteError unless all steps of an epoch were healthy and what it left behind is finite."""
    if healthy == run.n_steps and all(np.isfinite(a).all() for a in values):
        return
    step = min(healthy, run.n_steps - 1)
    what = "the loss" if healthy < run.n_steps else "a parameter or a split's loss"
    raise NonFiniteError(
        f"{what} stopped being finite in epoch {epoch} at step {step + 1} of {run.n_steps}, learning rate "
        f"{run.rates[(epoch - 1) * run.n_steps + step]:.3g}; a smaller rate or a clip norm may help"
    )


def check_arguments(network: object, data: object, config: object, backend: object) -> None:
    """Raise TypeError for what a caller may easily take for the right thing; None is left to its default."""
    wanted = (
        (network, MLP, "network must be an MLP, such as xpnet.MLP((784, 128, 10))"),
        (data, Dataset, "data must be a Dataset, as xpnet.load_data returns it"),
        (config, TrainConfig, "config must be a TrainConfig; single settings are passed by name"),
        (backend, Backend, "backend must be a Backend, as xpnet.select returns it"),
    )
    for value, kind, message in wanted:
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{message}, not {type(value).__name__}")


def _splits(data: Dataset, config: TrainConfig) -> dict[str, Examples]:
    """The examples of each split: train, and validation and test where there are any.

    config.validation examples are held out of the training split at random; 0 takes the data's own validation split.
    Raises ConfigError if nothing would be held out, or nothing left to train on.
    """
    train = Examples(*data.train)
    validation, test = (None if split is None else Examples(*split) for split in (data.validation, data.test))
    if config.validation:
        n = train.n
        held = round(config.validation * n) if config.validation < 1.0 else int(config.validation)
        if not 0 < held < n:
            raise ConfigError(f"validation {config.validation:g} would hold out {held} of {n} training examples")
        order = generator(config.seed, SPLIT_STREAM).permutation(n)
        validation = Examples(*data.train, rows=np.sort(order[:held]))
        train = Examples(*data.train, rows=np.sort(order[held:]))
    if config.early_stopping is not None and validation is None:
        raise ConfigError("early_stopping needs a validation split: set validation, to 0.1 for example")
    splits = {"train": train, "validation": validation, "test": test}
    return {name: examples for name, examples in splits.items() if examples is not None}


def _weights(train: Examples, config: TrainConfig, sample_weight: ArrayLike | None) -> NDArray[np.float64] | None:
    """What each example counts: its sample weight times its class's weight, scaled to a mean of 1."""
    if sample_weight is None and config.class_weight is None:
        return None
    labels, rows = train.labels, slice(None) if train.rows is None else train.rows
    weights = np.ones(train.n)
    if sample_weight is not None:
        try:
            given = np.asarray(sample_weight)
        except ValueError:
            raise ConfigError("sample_weight must be numbers in one row; these are rows of several lengths") from None
        if given.shape != labels.shape or given.dtype.kind not in "biuf":
            raise ConfigError(
                f"sample_weight must be a number for each of the {len(labels)} training examples, not {given.dtype} of "
                f"shape {given.shape}"
            )
        if not (np.isfinite(given).all() and (given >= 0).all()):
            raise ConfigError("sample_weight must be finite and at least 0 throughout")
        weights = given[rows].astype(np.float64)
        weights /= weights.max() or 1.0  # so that no sum overflows
    if config.class_weight == "balanced":
        # By what its examples weigh, so that sample weights do not undo the balance.
        per_class = np.bincount(labels[rows], weights)
        weights /= np.where(per_class > 0, per_class, 1.0)[labels[rows]]
    if not weights.any():
        raise ConfigError("sample_weight leaves no training example with a weight above 0")
    scaled: NDArray[np.float64] = weights / weights.mean()
    return scaled


def _resolve(config: TrainConfig, network: MLP, data: Dataset, backend: Backend) -> TrainConfig:
    """The settings with every default and choice filled in, as config.toml shall hold them."""
    if network.sizes[0] != data.n_features:
        raise ConfigError(
            f"the network takes {network.sizes[0]} inputs, but the images of {data.name} have {data.n_features} pixels"
        )
    if network.sizes[-1] < data.n_classes:
        raise ConfigError(f"the network has {network.sizes[-1]} outputs, but {data.name} has {data.n_classes} classes")
    return config.replace(
        **{name: getattr(network, name) for name in _DESCRIBED if name != "hidden"},
        hidden=network.sizes[1:-1],
        data=data.name if data.name in SETS or not Path(data.source).is_absolute() else data.source,
        device=backend.device,
        library=backend.name,
        tf32=backend.tf32,
        graph=backend.graph,
        lr=config.lr or OPTIMIZERS[config.optimizer].lr,
    )


def _rates(config: TrainConfig, n_steps: int) -> NDArray[np.float64]:
    """The learning rate of every step of the run."""
    assert config.lr is not None
    total = n_steps * config.epochs
    options: dict[str, Any] = {}
    if config.warmup is not None:
        options["warmup"] = round(config.warmup * total)
    if config.schedule == "step":
        options.update(decay_steps=config.decay_every * n_steps, decay=config.decay)
    return SCHEDULES[config.schedule](np.arange(total), lr=config.lr, n_steps=total, **options)
