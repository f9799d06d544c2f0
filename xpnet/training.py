"""The training step, and fit, which repeats it.

A step is a function of arrays on the device, the first of which, its state, it consumes. Whatever changes from one
step to the next (the step's number, the learning rate, the batch's indices, the dropout masks) is an array, and
nothing is read back inside a step, so that a backend may compile it or capture it as a graph. The loss, the hits and
the count of healthy steps gather on the device and are read once per epoch.
"""

import contextlib
import dataclasses
import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.augment import check_shape, distort
from xpnet.backend import Backend
from xpnet.callbacks import Callback, EarlyStopping, Progress, Run, RunDirectory
from xpnet.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from xpnet.config import TrainConfig
from xpnet.data import SETS, Dataset, is_mapped
from xpnet.errors import ConfigError, ModelError, NonFiniteError
from xpnet.functional import clip_by_global_norm
from xpnet.history import Epoch
from xpnet.loader import WINDOW_BYTES, Examples, Loader
from xpnet.model import Model, make_evaluate, scale_pixels
from xpnet.network import MLP
from xpnet.optim import OPTIMIZERS, init_state, limit_norms, moving_average
from xpnet.schedules import SCHEDULES

__all__ = [
    "Loop",
    "Result",
    "State",
    "check_arguments",
    "computing",
    "fit",
    "hyperparameters",
    "largest_product",
    "make_step",
    "prepare",
]

Array = Any
Arrays = list[Any]

# What else the seed decides, apart from the weights and the masks: streams of their own for host generators.
SPLIT_STREAM, ORDER_STREAM = 1, 2

# The most steps that the device is given at a time, and after which the callbacks' on_steps is called.
STEPS_PER_CALL = 32

# Settings that are passed on to the optimizers that take them.
HYPERPARAMETERS = ("momentum", "beta1", "beta2", "weight_decay")

# Settings that an MLP has, which fit therefore takes from there.
_DESCRIBED = {"hidden"} | {field.name for field in dataclasses.fields(MLP)} - {"sizes"}


class State(NamedTuple):
    """All that a step changes; the step consumes it and returns the next.

    params, running, optimizer : flat lists of arrays.   average : of params and running, or [].
    step : (1,) int64, steps done since the start of the run. One element rather than none at all, because operations
        on NumPy's 0-d arrays return scalars, and scalars of a fixed type promote and warn where arrays do not.
    loss : (1,) sum of the losses of all examples in this epoch.   hits : (1,) int64, examples classified correctly.
    healthy : (1,) int64, steps of this epoch up to the first whose loss was not finite.
    """

    params: Arrays
    running: Arrays
    optimizer: Arrays
    average: Arrays
    step: Array
    loss: Array
    hits: Array
    healthy: Array


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


def make_step(
    network: MLP,
    config: TrainConfig,
    *,
    xp: Any,
    batch_size: int,
    n_steps: int,
    window: int | None = None,
    image_shape: tuple[int, ...] = (),
) -> Callable[..., State]:
    """The function that trains on one batch.

    network, config : what to train and how.   xp : the backend's namespace.
    batch_size : examples per step, but for the epoch's last, which has the rest.   n_steps : steps per epoch.
    window : steps after which other examples are on the device; None for all of the epoch's.
    image_shape : (height, width), where the images are distorted.
    Returns step(state, images, labels, order, rates, offsets, weights=None) -> state, with all arrays on one device:
        images (n, n_in) uint8 or float; labels (n,) integers; order (n,) int64, in which the examples are taken;
        rates (all steps of the run,), the schedule's table in the params' dtype; offsets (the batch's size,) int64,
        0, 1, ...: the batch is order[i * batch_size + offsets], i being the step's number in the window;
        weights (n,), in the params' dtype, what each example counts, or None.
    """
    optimizer = OPTIMIZERS[config.optimizer]
    options = hyperparameters(config)

    def step(
        state: State,
        images: Array,
        labels: Array,
        order: Array,
        rates: Array,
        offsets: Array,
        weights: Array | None = None,
    ) -> State:
        params = state.params
        i = state.step % n_steps
        if window is not None:
            i = i % window
        rows = xp.take(order, i * batch_size + offsets, axis=0)
        x = scale_pixels(xp.take(images, rows, axis=0), params[0].dtype, xp=xp)
        if config.augment is not None:
            x = distort(x, image_shape, config.augment, state.step, seed=config.seed, xp=xp)
        y = xp.take(labels, rows, axis=0)
        w = None if weights is None else xp.take(weights, rows, axis=0)
        loss, grads, logits, running = network.loss_and_grads(
            params, x, y, weights=w, running=state.running, step=state.step, seed=config.seed, xp=xp
        )
        if config.clip_norm is not None:
            grads, _ = clip_by_global_norm(grads, config.clip_norm, xp=xp)
        lr = xp.take(rates, state.step, axis=0)
        params, slots = optimizer.update(params, state.optimizer, grads, lr=lr, xp=xp, **options)
        if config.max_norm is not None:
            params = limit_norms(params, config.max_norm, xp=xp)
        average = state.average
        if config.average:
            average = moving_average(average, params + running, state.step, decay=config.average, xp=xp)
        loss_sum = state.loss + loss * offsets.shape[0]
        hits = state.hits + xp.count_nonzero(xp.argmax(logits, axis=1) == y)
        # A sum that once stopped being finite stays so: this counts the steps before the first bad one.
        healthy = state.healthy + xp.astype(xp.isfinite(loss_sum), state.healthy.dtype)
        return State(params, running, slots, average, state.step + 1, loss_sum, hits, healthy)

    return step


class Loop:
    """A network and its training examples on a device, and the steps that train the one on the other.

    run : what is trained and how.   train : the examples.   steps_per_call : how many are issued at a time, at most.
    state : as the newest step left it.
    """

    def __init__(self, run: Run, train: Examples, steps_per_call: int = STEPS_PER_CALL) -> None:
        network, config, backend, n_steps = run.network, run.config, run.backend, run.n_steps
        self._run = run
        self._loader = Loader(train, backend, run.batch_size)
        params, running = ([backend.to_device(a) for a in arrays] for arrays in (run.params, run.running))
        slots = init_state(config.optimizer, params, xp=backend.xp)
        average = [backend.to_device(a) for a in run.params + run.running] if config.average else []
        self.state = State(params, running, slots, average, backend.to_device(np.zeros(1, np.int64)), *self._zeros())
        window = self._loader.steps if self._loader.steps < n_steps else None
        step = make_step(
            network,
            config,
            xp=backend.xp,
            batch_size=run.batch_size,
            n_steps=n_steps,
            window=window,
            image_shape=run.image_shape,
        )
        # As many as leave few steps over, which take a call each: of 116 not 32, but 29.
        alike = min(self._loader.steps, n_steps - 1)
        self._steps_per_call = max(1, alike // max(1, math.ceil(alike / steps_per_call)))
        self._step, self._steps = backend.compile(step), backend.compile(step, self._steps_per_call)
        self._rates = backend.to_device(run.rates.astype(config.dtype))
        self._offsets = backend.to_device(np.arange(run.batch_size))
        self._last_offsets = backend.to_device(np.arange(run.n_examples - (n_steps - 1) * run.batch_size))

    def epoch(self, number: int) -> Iterator[int]:
        """Issue an epoch's steps, in an order that its number decides; yield how many have been, now and then."""
        run, n_steps = self._run, self._run.n_steps
        loss, hits, healthy = self._zeros()
        self.state = self.state._replace(loss=loss, hits=hits, healthy=healthy)
        done = 0
        for images, labels, weights, order in self._loader.shuffled(_generator(run.config.seed, ORDER_STREAM, number)):
            # The steps of a call are alike: the epoch's last, which may have fewer examples, has one of its own.
            end = done + math.ceil(labels.shape[0] / run.batch_size)
            while done < end:
                together = done + self._steps_per_call <= min(end, n_steps - 1)
                step, steps = (self._steps, self._steps_per_call) if together else (self._step, 1)
                done += steps
                offsets = self._offsets if done < n_steps else self._last_offsets
                self.state = step(self.state, images, labels, order, self._rates, offsets, weights)
                yield done

    @property
    def model(self) -> tuple[Arrays, Arrays]:
        """The parameters and running statistics that are the trained network: their averages, where there are any."""
        params, running, average = self.state.params, self.state.running, self.state.average
        return (average[: len(params)], average[len(params) :]) if average else (params, running)

    def model_on_host(self) -> tuple[Arrays, Arrays]:
        """Host copies of the model."""
        params, running = ([self._run.backend.to_host(a) for a in arrays] for arrays in self.model)
        return params, running

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Host copies of all that a step changes, by name."""
        return {name: self._run.backend.to_host(array) for name, array in _named(self.state)}

    def resume(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from the state whose host copies these are.   Raises ValueError if they are not such a state's."""
        backend, wanted = self._run.backend, dict(_named(self.state))
        there, own = ({name: tuple(a.shape) for name, a in named.items()} for named in (arrays, wanted))
        if there != own:
            raise ValueError("its arrays are not those of this run")
        moved = {name: backend.to_device(arrays[name]) for name in wanted}
        self.state = State(
            *(
                [moved[f"{field}.{i}"] for i in range(len(part))] if isinstance(part, list) else moved[field]
                for field, part in zip(State._fields, self.state, strict=True)
            )
        )

    @property
    def nodes_per_step(self) -> float | None:
        """Nodes of the captured graph for each step; None where there is no graph."""
        nodes = getattr(self._steps, "nodes", None)
        return None if nodes is None else nodes / self._steps_per_call

    def _zeros(self) -> tuple[Array, Array, Array]:
        """State's loss, hits and healthy at the start of an epoch."""
        dtypes = self._run.config.dtype, np.int64, np.int64
        loss, hits, healthy = (self._run.backend.to_device(np.zeros(1, dtype)) for dtype in dtypes)
        return loss, hits, healthy


def _named(state: State) -> Iterator[tuple[str, Array]]:
    """The arrays of a state, each with its name: params.0, params.1, ..., step, loss, ..."""
    for field, part in zip(State._fields, state, strict=True):
        if isinstance(part, list):
            yield from ((f"{field}.{i}", array) for i, array in enumerate(part))
        else:
            yield field, part


@contextlib.contextmanager
def computing(run: Run) -> Iterator[None]:
    """The context in which a run's arrays are made and its steps are done."""
    backend, largest = run.backend, largest_product(run.network, run.batch_size)
    # A loss that runs away is told by NonFiniteError, in one line; NumPy would warn of it in several.
    quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
    with backend.active(), backend.threads_for(largest), quiet:
        yield


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
        order = _generator(config.seed, SPLIT_STREAM).permutation(n)
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


def largest_product(network: MLP, batch_size: int) -> int:
    """Floating-point operations of a step's largest matrix product: 2 batch_size n_in n_out of its widest layer."""
    return 2 * batch_size * max(n_in * n_out for n_in, n_out in pairwise(network.sizes))


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


def hyperparameters(config: TrainConfig) -> dict[str, float]:
    """Those settings that the optimizer takes."""
    parameters = inspect.signature(OPTIMIZERS[config.optimizer].update).parameters
    return {name: getattr(config, name) for name in HYPERPARAMETERS if name in parameters}


def _generator(seed: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, *stream]))
