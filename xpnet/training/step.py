"""The training step.

A step is a function of arrays on the device; it consumes the first of them, its state. Everything that changes from one
step to the next (the step's number, the learning rate, the batch's indices, the dropout masks) is an array, and nothing
is read back inside a step, so that a backend may compile it or capture it as a graph. The loss, the hits and the number
of healthy steps accumulate on the device and are read once per epoch.

A step has two parts: what is summed over a batch, and the change of the state that follows from the sum. A batch may
be cut into shards (numerics/shards.py), whose sums are added in one fixed order, so that it makes no difference to the
bits which process computed which.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from xpnet.data import Schema
from xpnet.model import features_on, hits_of, targets_on
from xpnet.numerics.augment import distort
from xpnet.numerics.functional import clip_by_global_norm
from xpnet.numerics.network import MLP
from xpnet.numerics.shards import bounds, flat, parted, tree_sum
from xpnet.optim import Update, limit_norms, moving_average
from xpnet.training.config import TrainConfig

__all__ = ["Cut", "Sharing", "State", "make_step"]

Array = Any
Arrays = list[Any]
Objective = Callable[..., tuple[Array, Arrays, Array, Arrays]]


class State(NamedTuple):
    """Everything that a step changes; the step consumes it and returns the next.

    params, running, optimizer : flat lists of arrays.   average : of params and running, or [].
    step : (1,) int64, steps done since the start of the run. One element rather than none at all, because operations
        on NumPy's 0-d arrays return scalars, and scalars of a fixed type promote and warn where arrays do not.
    loss : (1,) sum of the losses of all examples in this epoch.
    hits : (1,) int64, examples classified correctly; in a regression (k,) in the params' dtype, see hits_of.
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


class Cut(NamedTuple):
    """A batch as one process has it: its size, and 0, 1, ... for the rows of each shard that it computes."""

    n: int
    offsets: Sequence[Array]


class Sharing(NamedTuple):
    """How batches are cut into shards, and whose they are.

    shards : of a batch, a power of two.   own : those that this process computes.
    strides : for each of these, the examples of its order that a step takes.
    apart : Backend.apart.
    total : the sum over the processes of what each has in a row of a length that is a multiple of their number, size;
        None where there is only one.
    """

    shards: int
    own: range
    strides: Sequence[int]
    apart: Callable[..., Any]
    total: Callable[[Array], Array] | None = None
    size: int = 1


def make_step(
    network: MLP,
    config: TrainConfig,
    *,
    xp: Any,
    batch_size: int,
    n_steps: int,
    window: int | None = None,
    schema: Schema,
    objective: Objective | None = None,
    update: Update,
    counting: bool = True,
    sharing: Sharing | None = None,
) -> Callable[..., State]:
    """The function that trains on one batch.

    network, config : the network and the settings.   xp : the backend's namespace.
    batch_size : examples per step, but for the epoch's last, which has the rest.   n_steps : steps per epoch.
    window : steps after which other examples are on the device; None for all of the epoch's.
    schema : of the data; its scalings are arrays on the device.
    objective : what is minimised, with the arguments and results of network.loss_and_grads, which None takes.
    update : the update rule, a function of optim.
    counting : whether the hits are counted.
    sharing : how batches are cut into shards; None for batches that are not cut.
    Returns step(state, images, targets, order, rates, offsets, weights=None) -> state, with all arrays on one device:
        images (n, n_in) uint8 or float; targets (n,) integers or (n, k) floats; order (n,) int64, in which the
        examples are taken; rates, the learning rates in the params' dtype: (1,), the same at every step, or (n_steps,),
        those of every epoch, or (all steps of the run,); offsets (the batch's size,) int64, 0, 1, ...: the batch is
        order[i * batch_size + offsets], i being the step's number in the window; weights (n,), in the params' dtype, of
        the examples, or None. Of a batch in shards, order is a list, with the order of each own shard's examples, and
        offsets a Cut: the shard is order[k][i * strides[k] + offsets[k]].
    """
    objective = objective or network.loss_and_grads
    options = config.hyperparameters

    def part(
        params: Arrays,
        running: Arrays,
        step: Array,
        images: Array,
        targets: Array,
        weights: Array | None,
        order: Array,
        offsets: Array,
        stride: int,
        first: int = 0,
        share: float = 1.0,
    ) -> tuple[Array, Arrays, Array | None, Arrays]:
        """The loss of some rows of the batch, its gradients times their share of it, the hits, the statistics."""
        i = step % n_steps
        i = i if window is None else i % window
        rows = xp.take(order, i * stride + offsets, axis=0)
        x = features_on(xp.take(images, rows, axis=0), params[0].dtype, schema, xp=xp)
        if config.augment is not None:
            x = distort(x, schema.image_shape, config.augment, step, seed=config.seed, first=first, xp=xp)
        y = targets_on(xp.take(targets, rows, axis=0), params[0].dtype, schema, xp=xp)
        w = None if weights is None else xp.take(weights, rows, axis=0)
        placed = {} if sharing is None else {"first": first, "share": share}
        loss, grads, logits, running = objective(
            params, x, y, weights=w, running=running, step=step, seed=config.seed, xp=xp, **placed
        )
        return loss, grads, hits_of(network.loss, logits, y, xp=xp) if counting else None, running

    def change(
        state: State, rates: Array, n: int, loss: Array, grads: Arrays, hits: Array | None, running: Arrays
    ) -> State:
        """The state after a batch of n examples."""
        if config.clip_norm is not None:
            grads, _ = clip_by_global_norm(grads, config.clip_norm, xp=xp)
        lr = rates
        if rates.shape[0] > 1:
            lr = xp.take(rates, state.step % n_steps if rates.shape[0] == n_steps else state.step, axis=0)
        params, slots = update(state.params, state.optimizer, grads, lr=lr, xp=xp, **options)
        if config.max_norm is not None:
            params = limit_norms(params, config.max_norm, xp=xp)
        average = state.average
        if config.average:
            average = moving_average(average, params + running, state.step, decay=config.average, xp=xp)
        loss_sum = state.loss + loss * n
        hits = state.hits if hits is None else state.hits + hits
        # A sum that once stopped being finite stays so: this counts the steps before the first bad one.
        healthy = state.healthy + xp.astype(xp.isfinite(loss_sum), state.healthy.dtype)
        return State(params, running, slots, average, state.step + 1, loss_sum, hits, healthy)

    def step(
        state: State,
        images: Array,
        targets: Array,
        order: Array,
        rates: Array,
        offsets: Array,
        weights: Array | None = None,
    ) -> State:
        found = part(state.params, state.running, state.step, images, targets, weights, order, offsets, batch_size)
        return change(state, rates, offsets.shape[0], *found)

    return step if sharing is None else _in_shards(part, change, sharing, counting, xp)


def _in_shards(
    part: Callable[..., Any], change: Callable[..., State], sharing: Sharing, counting: bool, xp: Any
) -> Callable[..., State]:
    """The step on batches that are cut into shards: the parts of make_step are of one shard each."""

    def sums_of_shard(params: Arrays, running: Arrays, *place: Any) -> Arrays:
        loss, grads, hits, running = part(params, running, *place)
        share = place[-1]
        # A count is a number of Python before NumPy 2.2.
        counted = [] if hits is None else [xp.reshape(xp.astype(xp.asarray(hits), loss.dtype), (-1,))]
        return [*grads, *(moment * share for moment in running), xp.reshape(loss * share, (1,)), *counted]

    def sums_of_none(state: State) -> Arrays:
        """Those of an empty shard, added like any other: 0 + -0 is not -0."""
        counted = [xp.astype(state.hits, state.loss.dtype)] if counting else []
        return [xp.zeros_like(array) for array in (*state.params, *state.running, state.loss, *counted)]

    def added(left: Arrays, right: Arrays) -> Arrays:
        return [a + b for a, b in zip(left, right, strict=True)]

    def changed(state: State, rates: Array, n: int, sums: Arrays) -> State:
        arrays = iter(sums)
        grads, running = [next(arrays) for _ in state.params], [next(arrays) for _ in state.running]
        loss, hits = next(arrays), next(arrays, None)
        hits = None if hits is None else xp.astype(hits, state.hits.dtype)
        return change(state, rates, n, loss, grads, hits, running)

    compute, add = sharing.apart(sums_of_shard), sharing.apart(added)
    conclude = sharing.apart(changed, consumes=True)

    def step(
        state: State,
        images: Array,
        targets: Array,
        order: Sequence[Array],
        rates: Array,
        cut: Cut,
        weights: Array | None = None,
    ) -> State:
        def leaf(i: int) -> Arrays:
            first, end = bounds(cut.n, sharing.shards, i)
            if first == end:
                return sums_of_none(state)
            k, share = i - sharing.own.start, (end - first) / cut.n
            place = weights, order[k], cut.offsets[k], sharing.strides[k], first, share
            sums: Arrays = compute(state.params, state.running, state.step, images, targets, *place)
            return sums

        sums = tree_sum(sharing.own.start, sharing.own.stop, leaf, add)
        if sharing.total is not None:
            shapes = [array.shape for array in sums]
            sums = parted(sharing.total(flat(sums, sharing.size, xp=xp)), shapes, xp=xp)
        after: State = conclude(state, rates, cut.n, sums)
        return after

    return step
