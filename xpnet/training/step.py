"""The training step.

A step is a function of arrays on the device; it consumes the first of them, its state. Everything that changes from one
step to the next (the step's number, the learning rate, the batch's indices, the dropout masks) is an array, and nothing
is read back inside a step, so that a backend may compile it or capture it as a graph. The loss, the hits and the number
of healthy steps accumulate on the device and are read once per epoch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from xpnet.data import Schema
from xpnet.model import features_on, hits_of, targets_on
from xpnet.numerics.augment import distort
from xpnet.numerics.functional import clip_by_global_norm
from xpnet.numerics.network import MLP
from xpnet.optim import OPTIMIZERS, Update, limit_norms, moving_average
from xpnet.training.config import TrainConfig

__all__ = ["State", "make_step"]

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
    update: Update | None = None,
    counting: bool = True,
) -> Callable[..., State]:
    """The function that trains on one batch.

    network, config : the network and the settings.   xp : the backend's namespace.
    batch_size : examples per step, but for the epoch's last, which has the rest.   n_steps : steps per epoch.
    window : steps after which other examples are on the device; None for all of the epoch's.
    schema : of the data; its scalings are arrays on the device.
    objective : what is minimised, with the arguments and results of network.loss_and_grads, which None takes.
    update : the update rule, a function of optim; None takes that of the settings.
    counting : whether the hits are counted.
    Returns step(state, images, targets, order, rates, offsets, weights=None) -> state, with all arrays on one device:
        images (n, n_in) uint8 or float; targets (n,) integers or (n, k) floats; order (n,) int64, in which the
        examples are taken; rates, the learning rates in the params' dtype: (1,), the same at every step, or (n_steps,),
        those of every epoch, or (all steps of the run,); offsets (the batch's size,) int64, 0, 1, ...: the batch is
        order[i * batch_size + offsets], i being the step's number in the window; weights (n,), in the params' dtype, of
        the examples, or None.
    """
    objective = objective or network.loss_and_grads
    update = update or OPTIMIZERS[config.optimizer].update
    options = config.hyperparameters

    def step(
        state: State,
        images: Array,
        targets: Array,
        order: Array,
        rates: Array,
        offsets: Array,
        weights: Array | None = None,
    ) -> State:
        params = state.params
        in_epoch = state.step % n_steps
        i = in_epoch if window is None else in_epoch % window
        rows = xp.take(order, i * batch_size + offsets, axis=0)
        x = features_on(xp.take(images, rows, axis=0), params[0].dtype, schema, xp=xp)
        if config.augment is not None:
            x = distort(x, schema.image_shape, config.augment, state.step, seed=config.seed, xp=xp)
        y = targets_on(xp.take(targets, rows, axis=0), params[0].dtype, schema, xp=xp)
        w = None if weights is None else xp.take(weights, rows, axis=0)
        loss, grads, logits, running = objective(
            params, x, y, weights=w, running=state.running, step=state.step, seed=config.seed, xp=xp
        )
        if config.clip_norm is not None:
            grads, _ = clip_by_global_norm(grads, config.clip_norm, xp=xp)
        lr = rates
        if rates.shape[0] > 1:
            lr = xp.take(rates, in_epoch if rates.shape[0] == n_steps else state.step, axis=0)
        params, slots = update(params, state.optimizer, grads, lr=lr, xp=xp, **options)
        if config.max_norm is not None:
            params = limit_norms(params, config.max_norm, xp=xp)
        average = state.average
        if config.average:
            average = moving_average(average, params + running, state.step, decay=config.average, xp=xp)
        loss_sum = state.loss + loss * offsets.shape[0]
        hits = state.hits + hits_of(network.loss, logits, y, xp=xp) if counting else state.hits
        # A sum that once stopped being finite stays so: this counts the steps before the first bad one.
        healthy = state.healthy + xp.astype(xp.isfinite(loss_sum), state.healthy.dtype)
        return State(params, running, slots, average, state.step + 1, loss_sum, hits, healthy)

    return step
