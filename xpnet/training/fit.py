"""fit: what goes together, is trained, epoch after epoch, and measured."""

import contextlib
import dataclasses
import functools
import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.backend import Backend
from xpnet.data import SETS, Dataset, is_mapped, rows_of
from xpnet.errors import ConfigError, ModelError, NonFiniteError
from xpnet.model import Model, Scores
from xpnet.numerics.augment import check_shape
from xpnet.numerics.network import MLP
from xpnet.optim import OPTIMIZERS, SCHEDULES
from xpnet.training.callbacks import Callback, EarlyStopping, Progress, Run, RunDirectory
from xpnet.training.checkpoint import Checkpoint, versions
from xpnet.training.config import TrainConfig
from xpnet.training.evaluate import make_evaluate
from xpnet.training.history import Epoch
from xpnet.training.initializers import init_params, init_running
from xpnet.training.loader import WINDOW_BYTES, Examples, Loader
from xpnet.training.loop import STEPS_PER_CALL, Loop, computing, generator

__all__ = ["Result", "check_arguments", "fit", "prepare"]

Arrays = list[Any]

# What is read of the data at a time to compute its fingerprint.
BLOCK_BYTES = 1 << 24

MOST_ROLLBACKS = 3

logger = logging.getLogger("xpnet")

# What the seed decides apart from weights, masks and batch order: who is held out for validation.
SPLIT_STREAM = 1

# Settings that an MLP has, which fit therefore takes from there.
_DESCRIBED = {"hidden"} | {field.name for field in dataclasses.fields(MLP)} - {"sizes"}


class Result(NamedTuple):
    """What fit returns.

    model : the trained network.   history : one Epoch for each epoch.   config : the resolved settings.
    model_epoch : the epoch whose parameters the model has.   stop_reason : why training ended early, or None.
    unsaved : a file that could not be written in the end, and why, or None.
    """

    model: Model
    history: list[Epoch]
    config: TrainConfig
    model_epoch: int
    stop_reason: str | None
    unsaved: str | None = None


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
            "use: choose another batch size",
            setting="batch_size",
        )
    image_bytes = data.train.images.nbytes // len(data.train.images)
    if is_mapped(data.train.images) and batch_size * image_bytes > WINDOW_BYTES:
        raise ConfigError(
            f"batch_size {config.batch_size} needs {batch_size * image_bytes / 1e6:,.0f} MB at once of {data.name}, "
            f"which is streamed from its file for its size: choose at most {WINDOW_BYTES // image_bytes:,}",
            setting="batch_size",
        )
    run = Run(
        network,
        config,
        backend,
        data.image_shape,
        n,
        batch_size,
        _rates(config, math.ceil(n / batch_size)),
        init_params(network, config.seed, config.dtype),
        init_running(network, config.dtype),
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
    resume: bool = False,
    sample_weight: ArrayLike | None = None,
    **settings: Any,
) -> Result:
    """Train a network on a data set.

    network : what to train; its sizes must fit the data's pixels and classes.
    data : host arrays, which move to the device whole; those of a mapped file are streamed.
    config : the settings; what it says of the network, the data and the device gives way to those passed in.
    backend : where to compute; None takes config.backend().
    callbacks : see callbacks.py; None shows the progress on stderr, [] is silent.
    out : a directory for the run's files (config.toml, history.csv, model.safetensors, curves.png, and checkpoints of
        its state); None writes none.
    resume : whether to go on with the run that out holds, if it holds one, from its newest checkpoint that is whole. It
        ends with the same bits as one that never stopped, on the same device; on another one within rounding. Only
        epochs and on_nonfinite may be other ones than before.
    sample_weight : (n,), >= 0, what each example of data.train counts in the training loss, times its class weight;
        scaled to a mean of 1, so that the learning rate keeps its meaning.
    settings : single settings of TrainConfig by name, over those of config.
    Returns a Result.
    Raises ConfigError for settings that do not fit the network, the data or the run in out, before any training;
    ModelError if that run has checkpoints and none is whole; NonFiniteError when the loss or a parameter stops being
    finite. However a run ends, KeyboardInterrupt included, the files of out hold the parameters as of the last finished
    epoch, or of the best one with early stopping. A disk that fails is told, and ends nothing: see Result.unsaved.
    """
    check_arguments(network, data, config, backend)
    for name in settings.keys() & _DESCRIBED:
        raise ConfigError(f"{name} describes the network: give it to MLP", setting=name)
    if resume and out is None:
        raise ConfigError("resume goes on with the run in a directory: name it as out")
    config = (config or TrainConfig()).replace(**settings)
    backend = backend or config.backend()
    run, splits = prepare(network, data, config, backend, sample_weight)
    observers: list[Callback] = [Progress()] if callbacks is None else list(callbacks)
    if wrong := [observer for observer in observers if not isinstance(observer, Callback)]:
        raise TypeError(f"callbacks must be instances of Callback, such as xpnet.Progress(), not {wrong[0]!r}")
    if config.early_stopping is not None:
        observers.insert(0, EarlyStopping(config.early_stopping))
    if out is not None:
        observers.append(RunDirectory(out, resume=resume))
    observers.sort(key=lambda observer: observer.order)
    run.fingerprint = functools.partial(fingerprint, data, sample_weight)
    with contextlib.ExitStack() as ending:  # calls every on_end, the last observer's first, even if one raises
        if _keepers(run, observers) or config.on_nonfinite == "rollback":
            over = threading.Event()
            hashing = ending.enter_context(ThreadPoolExecutor(1, "xpnet-fingerprint"))
            ending.callback(over.set)
            run.fingerprint = hashing.submit(fingerprint, data, sample_weight, over).result
        for observer in observers:
            observer.on_start(run)
            ending.callback(observer.on_end, run)
        ending.enter_context(computing(run))
        _train(run, splits, observers)
    unsaved = next((observer.fault for observer in observers if observer.fault), None)
    return Result(run.model(), run.history, run.config, run.model_epoch, run.stop_reason, unsaved)


def fingerprint(data: Dataset, sample_weight: ArrayLike | None = None, over: threading.Event | None = None) -> str:
    """The SHA-256 of all that a run gets to see of its data: every split's images and labels, and the weights.

    over : set as soon as nobody wants to know any longer.
    """
    digest = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        for array in split or ():
            digest.update(f"{array.dtype.str} {array.shape} ".encode())
            rows = max(1, BLOCK_BYTES * len(array) // array.nbytes)
            for start in range(0, len(array), rows):
                if over is not None and over.is_set():
                    return ""
                digest.update(
                    np.ascontiguousarray(rows_of(array, np.arange(start, min(start + rows, len(array))))).data
                )
        digest.update(b"|")
    if sample_weight is not None:
        digest.update(np.asarray(sample_weight, np.float64).tobytes())
    return digest.hexdigest()


# --- training --------------------------------------------------------------------------------------------------------


class _Stopwatch:
    """Seconds that a device has trained: what is not training, evaluation and checkpoints, is left out."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.seconds = backend, 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._backend.synchronize()
        start = time.perf_counter()
        yield
        self._backend.synchronize()
        self.seconds += time.perf_counter() - start


def _train(run: Run, splits: dict[str, Examples], observers: list[Callback]) -> None:
    """Train epoch after epoch, from wherever the run is, to its end or until it is told to stop."""
    loop = Loop(run, splits["train"])
    evaluate = make_evaluate(run.network, run.backend)
    held_out = {name: Loader(examples, run.backend) for name, examples in splits.items() if name != "train"}
    keepers = _keepers(run, observers)
    rolls_back = run.config.on_nonfinite == "rollback"
    keep = functools.partial(_keep, run, loop, keepers) if keepers or rolls_back else None
    if run.checkpoint is not None:
        _go_back(run, loop, run.checkpoint)
    elif rolls_back:
        run.checkpoint = _checkpoint(run, loop, 0, 0.0)
    while len(run.history) < run.config.epochs and run.stop_reason is None:
        try:
            done, seconds = _train_epoch(run, loop, observers, keep)
            ended = done == run.n_steps
            if ended:
                run.history.append(_measured(run, loop, seconds, evaluate, held_out))
                run.done, done, seconds = 0, 0, 0.0
                run.note_best()
            if keep is not None:  # before a callback can fail
                keep(done, seconds)
            if ended:
                for observer in observers:
                    observer.on_epoch(run)
        except NonFiniteError as error:
            _roll_back(run, loop, error)
    run.over = True


def _keepers(run: Run, observers: list[Callback]) -> list[Callback]:
    """Those that want checkpoints."""
    return [observer for observer in observers if observer.wants_state(run)]


def _train_epoch(
    run: Run, loop: Loop, observers: list[Callback], keep: Callable[[int, float], None] | None
) -> tuple[int, float]:
    """Train to the end of an epoch, or until the run is told to stop at once.

    keep : makes a checkpoint within the epoch, when one is due.   Returns the steps done of it, and the seconds.
    """
    done, seconds = 0, 0.0
    if run.checkpoint is not None and len(run.checkpoint.history) == len(run.history):
        done, seconds = run.checkpoint.done, run.checkpoint.seconds
    told = done
    saved_at = time.monotonic()
    every_steps, every_seconds = run.config.checkpoint_interval()
    steps = loop.epoch(run.epoch, done)
    watch = _Stopwatch(run.backend)
    watch.seconds = seconds
    while done < run.n_steps and not run.at_once:
        with watch.running():
            for done in steps:
                if done - told >= STEPS_PER_CALL or done == run.n_steps:
                    run.done = told = done
                    for observer in observers:
                        observer.on_steps(run)
                due = done % every_steps == 0 or time.monotonic() - saved_at >= every_seconds
                if run.at_once or (keep is not None and due and done < run.n_steps):
                    break
        if keep is not None and done < run.n_steps and not run.at_once:
            keep(done, watch.seconds)
            saved_at = time.monotonic()
    return done, watch.seconds


def _measured(
    run: Run,
    loop: Loop,
    seconds: float,
    evaluate: Callable[..., Scores],
    held_out: dict[str, Loader],
) -> Epoch:
    """The figures of the epoch that has been trained, which leaves its parameters in run.   Raises NonFiniteError."""
    backend, n, number = run.backend, run.n_examples, len(run.history) + 1
    state = loop.state
    params, running = loop.model_on_host()
    loss, hits, healthy = (backend.to_host(a)[0] for a in (state.loss, state.hits, state.healthy))
    figures: dict[str, Any] = {"train_loss": float(loss) / n, "train_accuracy": int(hits) / n}
    for name, loader in held_out.items():
        scores = evaluate(*loop.model, loader)
        figures |= {f"{name}_loss": scores.loss, f"{name}_accuracy": scores.accuracy}
    _check_finite(run, run.n_steps, int(healthy), params, [*running, *figures.values()])
    run.params, run.running, run.model_epoch = params, running, number
    return Epoch(
        epoch=number,
        learning_rate=float(run.rates[number * run.n_steps - 1]),
        seconds=seconds,
        samples_per_second=n / seconds,
        **figures,
    )


def _check_finite(run: Run, done: int, healthy: int, params: Arrays, others: list[Any]) -> None:
    """Raise NonFiniteError unless all steps of an epoch so far were healthy and what they left behind is finite."""
    if healthy == done and all(np.isfinite(a).all() for a in (*params, *others)):
        return
    step = min(healthy, done - 1)
    what = "the loss" if healthy < done else "a parameter or a split's loss"
    before, now = (
        math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays)) for arrays in (run.params, params)
    )
    since = f"after epoch {run.model_epoch}" if run.model_epoch else "at the start"
    raise NonFiniteError(
        f"{what} stopped being finite in epoch {len(run.history) + 1} at step {step + 1} of {run.n_steps}, learning "
        f"rate {run.rates[len(run.history) * run.n_steps + step]:.3g}; the parameters' norm was {before:.3g} {since} "
        f"and is {now:.3g}; a smaller rate or a clip norm may help"
    )


# --- checkpoints -----------------------------------------------------------------------------------------------------

# What a checkpoint holds besides the state of the loop: the best epoch's model, with early stopping, and the newest
# finished epoch's, within an epoch.
BEST, FINISHED = "best", "finished"


def _keep(run: Run, loop: Loop, keepers: list[Callback], done: int, seconds: float) -> None:
    """Make a checkpoint.   Raises NonFiniteError where the state is none to come back to."""
    run.checkpoint = _checkpoint(run, loop, done, seconds)
    for observer in keepers:
        observer.on_checkpoint(run)


def _checkpoint(run: Run, loop: Loop, done: int, seconds: float) -> Checkpoint:
    """The state of a run after some steps of an epoch, which took so many seconds."""
    arrays = loop.arrays()
    if done:
        params, others = (
            [a for name, a in arrays.items() if name.partition(".")[0] in names]
            for names in (("params",), ("running", "average"))
        )
        _check_finite(run, done, int(arrays["healthy"][0]), params, others)
        arrays |= _named(FINISHED, [*run.params, *run.running])
    if run.best is not None:
        arrays |= _named(BEST, [*run.best[0], *run.best[1]])
    return Checkpoint(
        settings=run.config.to_toml(),
        data={"name": run.config.data, "sha256": run.fingerprint(), "examples": run.n_examples},
        streamed=loop.streamed,
        history=list(run.history),
        done=done,
        seconds=seconds,
        rollbacks=list(run.rollbacks),
        arrays=arrays,
        versions=versions(run.backend.name, run.backend.version),
    )


def _named(name: str, arrays: list[Any]) -> dict[str, Any]:
    return {f"{name}.{i}": array for i, array in enumerate(arrays)}


def _go_back(run: Run, loop: Loop, checkpoint: Checkpoint) -> None:
    """Bring a run to where a checkpoint of it was made.   Raises ModelError if it is none of it."""

    def model(name: str) -> tuple[Arrays, Arrays] | None:
        if f"{name}.0" not in checkpoint.arrays:
            return None
        arrays = [checkpoint.arrays[each] for each in _named(name, own)]
        if [a.shape for a in arrays] != [a.shape for a in own]:
            raise ValueError(f"its arrays {name} are not those of this run")
        return arrays[: len(run.params)], arrays[len(run.params) :]

    own = [*run.params, *run.running]
    try:
        loop.resume(checkpoint.arrays)
        run.params, run.running = model(FINISHED) or loop.model_on_host()
        best = model(BEST)
    except (KeyError, ValueError) as error:
        raise ModelError(f"the checkpoint of {checkpoint.where} is damaged: {error}") from None
    del run.history[len(checkpoint.history) :]
    run.model_epoch, run.done = len(run.history), checkpoint.done
    run.best = None if best is None or run.best_epoch is None else (*best, run.best_epoch)


def _roll_back(run: Run, loop: Loop, error: NonFiniteError) -> None:
    """Go back to the newest checkpoint with half the learning rate; raises the error where that is not wanted, or has
    been done often enough.
    """
    if run.config.on_nonfinite != "rollback" or run.checkpoint is None:
        raise error
    if len(run.rollbacks) == MOST_ROLLBACKS:
        raise NonFiniteError(f"{error}; {MOST_ROLLBACKS} rollbacks did not") from None
    _go_back(run, loop, run.checkpoint)
    run.halve_rates(run.checkpoint.step)
    loop.set_rates()
    logger.warning(
        "%s; back to %s, with half the learning rate (rollback %d of at most %d)",
        *(error, run.checkpoint.where, len(run.rollbacks), MOST_ROLLBACKS),
    )


# --- what goes together ----------------------------------------------------------------------------------------------


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
            message = f"validation {config.validation:g} would hold out {held} of {n} training examples"
            raise ConfigError(message, setting="validation")
        order = generator(config.seed, SPLIT_STREAM).permutation(n)
        validation = Examples(*data.train, rows=np.sort(order[:held]))
        train = Examples(*data.train, rows=np.sort(order[held:]))
    if config.early_stopping is not None and validation is None:
        message = "early_stopping needs a validation split: set validation, to 0.1 for example"
        raise ConfigError(message, setting="early_stopping")
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
    rates: NDArray[np.float64] = SCHEDULES[config.schedule](np.arange(total), lr=config.lr, n_steps=total, **options)
    return rates
