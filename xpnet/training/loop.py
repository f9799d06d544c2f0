"""The training step, and the loop that repeats it on a device.

A step is a function of arrays on the device, the first of which, its state, it consumes. Whatever changes from one
step to the next (the step's number, the learning rate, the batch's indices, the dropout masks) is an array, and
nothing is read back inside a step, so that a backend may compile it or capture it as a graph. The loss, the hits and
the count of healthy steps gather on the device and are read once per epoch.
"""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.numerics.augment import distort
from xpnet.numerics.functional import clip_by_global_norm, scale_pixels
from xpnet.numerics.network import MLP
from xpnet.optim import OPTIMIZERS, init_state, limit_norms, moving_average
from xpnet.training.callbacks import Run
from xpnet.training.config import TrainConfig
from xpnet.training.loader import Examples, Loader

__all__ = [
    "HYPERPARAMETERS",
    "ORDER_STREAM",
    "STEPS_PER_CALL",
    "Loop",
    "State",
    "computing",
    "generator",
    "hyperparameters",
    "largest_product",
    "make_step",
]

Array = Any
Arrays = list[Any]

# What else the seed decides, apart from the weights and the masks, draws from generators of the host, each with its
# stream: the validation split has the first.
ORDER_STREAM = 2

# The most steps that the device is given at a time, and after which the callbacks' on_steps is called.
STEPS_PER_CALL = 32

# Settings that are passed on to the optimizers that take them.
HYPERPARAMETERS = ("momentum", "beta1", "beta2", "weight_decay")


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
        self._loader = Loader(train, backend, run.batch_size, run.checkpoint.streamed if run.checkpoint else None)
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
        self._interval = int(min(n_steps, config.checkpoint_interval()[0]))
        alike = min(self._loader.steps, n_steps - 1, self._interval)
        self._steps_per_call = max(1, alike // max(1, math.ceil(alike / steps_per_call)))
        self._step, self._steps = backend.compile(step), backend.compile(step, self._steps_per_call)
        self.set_rates()
        self._offsets = backend.to_device(np.arange(run.batch_size))
        self._last_offsets = backend.to_device(np.arange(run.n_examples - (n_steps - 1) * run.batch_size))

    def epoch(self, number: int, done: int = 0) -> Iterator[int]:
        """Issue an epoch's steps, in an order that its number decides; yield how many have been, now and then.

        done : those of its steps that have been done before, after which the state is.
        """
        run, n_steps = self._run, self._run.n_steps
        if not done:
            loss, hits, healthy = self._zeros()
            self.state = self.state._replace(loss=loss, hits=hits, healthy=healthy)
        skipped = done // self._loader.steps
        end = skipped * self._loader.steps
        draws = generator(run.config.seed, ORDER_STREAM, number)
        for images, labels, weights, order in self._loader.shuffled(draws, skipped):
            # The steps of a call are alike: the epoch's last, which may have fewer examples, has one of its own.
            end += math.ceil(labels.shape[0] / run.batch_size)
            while done < end:
                # And a checkpoint is between two calls.
                due = done - done % self._interval + self._interval
                together = done + self._steps_per_call <= min(end, due, n_steps - 1)
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
        """Go on from the state whose host copies are among these.   Raises ValueError if a state's are not."""
        moved = {}
        for name, array in self.arrays().items():
            found = arrays.get(name)
            if found is None or (found.shape, found.dtype) != (array.shape, array.dtype):
                raise ValueError(f"its array {name} is not that of this run")
            moved[name] = self._run.backend.to_device(found)
        self.state = State(
            *(
                [moved[f"{field}.{i}"] for i in range(len(part))] if isinstance(part, list) else moved[field]
                for field, part in zip(State._fields, self.state, strict=True)
            )
        )

    def set_rates(self) -> None:
        """Go by the run's learning rates from the next step on."""
        self._rates = self._run.backend.to_device(self._run.rates.astype(self._run.config.dtype))

    @property
    def streamed(self) -> bool:
        """Whether the examples come to the device window by window."""
        return self._loader.streamed

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


def largest_product(network: MLP, batch_size: int) -> int:
    """Floating-point operations of a step's largest matrix product: 2 batch_size n_in n_out of its widest layer."""
    return 2 * batch_size * max(n_in * n_out for n_in, n_out in pairwise(network.sizes))


def hyperparameters(config: TrainConfig) -> dict[str, float]:
    """Those settings that the optimizer takes."""
    parameters = inspect.signature(OPTIMIZERS[config.optimizer].update).parameters
    return {name: getattr(config, name) for name in HYPERPARAMETERS if name in parameters}


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The host's generator of one of a run's streams."""
    return np.random.Generator(np.random.PCG64([seed, *stream]))
