"""The loop that repeats the training step on a device."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.numerics.network import MLP
from xpnet.numerics.shards import bounds, sum_of_processes
from xpnet.numerics.streams import ORDER
from xpnet.optim import OPTIMIZERS, Update, init_state
from xpnet.training.adversarial import Adversarial
from xpnet.training.distillation import Distillation
from xpnet.training.evaluate import no_hits
from xpnet.training.initializers import generator
from xpnet.training.loader import Examples, Loader
from xpnet.training.run import Run
from xpnet.training.step import Cut, Objective, Sharing, State, make_step

__all__ = ["STEPS_PER_CALL", "Loop", "computing", "fewest_calls", "largest_product"]

Array = Any
Arrays = list[Any]

# The most steps that the device is given at a time, and after which the callbacks' on_steps is called.
STEPS_PER_CALL = 32


class Loop:
    """A network and its training examples on a device, and the steps that train the one on the other.

    run : the run.   train : the examples.   steps_per_call : the most steps issued at a time.
    objective, update, counting : as in make_step.   loader : of the examples; None for a Loader.
    state : as the newest step left it.
    """

    def __init__(
        self,
        run: Run,
        train: Examples,
        steps_per_call: int = STEPS_PER_CALL,
        *,
        objective: Objective | None = None,
        update: Update | None = None,
        counting: bool = True,
        loader: Loader | None = None,
    ) -> None:
        network, config, backend, n_steps = run.network, run.config, run.backend, run.n_steps
        self._run = run
        streamed = run.checkpoint.streamed if run.checkpoint else None
        self._loader = loader or Loader(train, backend, run.batch_size, streamed, shards=run.shards, own=run.own_shards)
        params, running = ([backend.to_device(a) for a in arrays] for arrays in (run.params, run.running))
        slots = init_state(config.optimizer, params, xp=backend.xp)
        average = [backend.to_device(a) for a in run.params + run.running] if config.average else []
        self.state = State(params, running, slots, average, backend.to_device(np.zeros(1, np.int64)), *self._zeros())
        window = self._loader.steps if self._loader.steps < n_steps else None
        if run.teachers:
            objective = objective or Distillation(network, run.teachers, run.schema, config)
        elif config.adversarial:
            objective = objective or Adversarial(network, config.adversarial)
        update = backend.blockwise(update or OPTIMIZERS[config.optimizer].update)
        step = make_step(
            network,
            config,
            xp=backend.xp,
            batch_size=run.batch_size,
            n_steps=n_steps,
            window=window,
            schema=run.schema.on(backend.to_device),
            objective=objective,
            update=update,
            counting=counting,
            sharing=self._sharing(),
        )
        # The steps of a call are alike: an epoch's last, where it has fewer examples, has one of its own.
        self._n_alike = run.n_examples // run.batch_size
        self._interval = int(min(n_steps, config.checkpoint_interval()[0]))
        alike = min(self._loader.steps, self._n_alike, self._interval)
        self._steps_per_call = fewest_calls(alike, steps_per_call)
        make = backend.compile if run.shards == 1 else backend.repeat
        self._step, self._steps = make(step, 1), make(step, self._steps_per_call)
        self.set_rates()
        self._offsets = self._offsets_of(run.batch_size)
        self._last_offsets = self._offsets_of(run.n_examples - (n_steps - 1) * run.batch_size)

    def epoch(self, number: int, done: int = 0) -> Iterator[int]:
        """Issue an epoch's steps, in an order that its number decides; yield their number, now and then.

        done : the steps of it that were done before the current state.
        """
        run, n_steps = self._run, self._run.n_steps
        if not done:
            loss, hits, healthy = self._zeros()
            self.state = self.state._replace(loss=loss, hits=hits, healthy=healthy)
        skipped = done // self._loader.steps
        end = skipped * self._loader.steps
        draws = generator(run.config.seed, ORDER, number) if self._loader.drawn else None
        for images, targets, weights, order, starts in self._loader.shuffled(draws, skipped):
            taken = order if run.shards == 1 else self._orders(order, starts)
            end = min(end + self._loader.steps, n_steps)
            while done < end:
                # And a checkpoint is between two calls.
                due = done - done % self._interval + self._interval
                together = done + self._steps_per_call <= min(end, due, self._n_alike)
                step, steps = (self._steps, self._steps_per_call) if together else (self._step, 1)
                done += steps
                offsets = self._offsets if done <= self._n_alike else self._last_offsets
                self.state = step(self.state, images, targets, taken, self._rates, offsets, weights)
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
        """Host copies of everything that a step changes, by name."""
        return {name: self._run.backend.to_host(array) for name, array in _named(self.state)}

    def resume(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the state whose host copies are among these.   Raises ValueError if they do not fit."""
        moved = {}
        for name, array in self.arrays().items():
            found = arrays.get(name)
            if found is None or (found.shape, found.dtype) != (array.shape, array.dtype):
                raise ValueError(f"its array {name} does not fit this run")
            moved[name] = self._run.backend.to_device(found)
        self.state = State(
            *(
                [moved[f"{field}.{i}"] for i in range(len(part))] if isinstance(part, list) else moved[field]
                for field, part in zip(State._fields, self.state, strict=True)
            )
        )

    def set_rates(self, rates: NDArray[np.float64] | None = None) -> None:
        """Use other learning rates from the next step on: some in one of make_step's forms, or the run's."""
        rates = self._run.rates if rates is None else rates
        self._rates = self._run.backend.to_device(rates.astype(self._run.config.dtype))

    @property
    def streamed(self) -> bool:
        """Whether the examples come to the device window by window."""
        return self._loader.streamed

    @property
    def nodes_per_step(self) -> float | None:
        """Nodes of the captured graph for each step; None where there is no graph."""
        nodes = getattr(self._steps, "nodes", None)
        return None if nodes is None else nodes / self._steps_per_call

    def _sharing(self) -> Sharing | None:
        """How the batches are cut; None for one shard."""
        run = self._run
        if run.shards == 1:
            return None
        total = None
        if run.exchange is not None:
            rank, size, exchange = run.team.rank, run.team.size, run.exchange
            total = functools.partial(sum_of_processes, rank=rank, size=size, exchange=exchange, xp=run.backend.xp)
        return Sharing(run.shards, run.own_shards, self._loader.strides, run.backend.apart, total, run.team.size)

    def _offsets_of(self, n: int) -> Any:
        """The offsets of a batch of n examples, as make_step takes them."""
        run, to_device = self._run, self._run.backend.to_device
        if run.shards == 1:
            return to_device(np.arange(n))
        rows = [np.arange(*bounds(n, run.shards, i)) for i in run.own_shards]
        # A stream is cut beforehand.
        return Cut(n, [to_device(np.arange(len(each)) if self.streamed else each) for each in rows])

    def _orders(self, order: Array, starts: Sequence[int]) -> list[Array]:
        """The order of the examples of each own shard."""
        return [order[start:] if self.streamed else order for start in starts]

    def _zeros(self) -> tuple[Array, Array, Array]:
        """State's loss, hits and healthy at the start of an epoch."""
        dtype = self._run.config.dtype
        zeros = np.zeros(1, dtype), no_hits(self._run.network, dtype), np.zeros(1, np.int64)
        loss, hits, healthy = map(self._run.backend.to_device, zeros)
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
    # The number of threads changes the rounding of a product, and so do the processes that share the machine.
    largest = largest_product(run.network, run.batch_size) if run.shards == 1 else 0
    backend = run.backend
    # A diverging loss is reported by NonFiniteError, in one line; NumPy would warn of it in several.
    quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
    with backend.active(), backend.threads_for(largest), quiet:
        yield


def fewest_calls(steps: int, most: int = STEPS_PER_CALL) -> int:
    """How many of some steps a call does, at most, where those left over take one each: of 116 not 32, but 29."""
    return min(range(max(1, min(steps, most)), 0, -1), key=lambda each: steps // each + steps % each)


def largest_product(network: MLP, batch_size: int) -> int:
    """Floating-point operations of a step's largest matrix product: 2 batch_size n_in n_out of its widest layer."""
    return 2 * batch_size * max(n_in * n_out for n_in, n_out in pairwise(network.sizes))
