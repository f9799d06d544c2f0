"""Optimizers, in order of increasing complexity, each with its equation, which is always torch's.

This is the only module that writes into arrays, by augmented assignment on the slots of lists (``params[i] -= ...``):
in place on NumPy, CuPy and torch, so that addresses stay; a rebinding of the slot on JAX. An optimizer therefore
consumes its ``params`` and ``state``; a caller who needs the old values copies them first. Gradients are only read.
What is added to a slot is first an array of its own, ``change``, written into likewise, because an expression would
make a new array for each of its operations.

``params`` and ``grads`` are lists of float arrays of equal shapes pairwise. ``state`` is a flat list, made by
``init_state``. ``lr`` is a Python float, or an array of one element of the params' dtype (a rate that changes inside a
compiled step must be an array). ``weight_decay`` >= 0 adds weight_decay * p to the gradient (L2), except in adamw,
which shrinks the weights separately from the gradient (decoupled). Optimizers return (params, state).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import array_namespace

__all__ = [
    "OPTIMIZERS",
    "Update",
    "accumulate",
    "adam",
    "adam_eps_hat",
    "adamw",
    "init_state",
    "limit_norms",
    "momentum_sgd",
    "moving_average",
    "nesterov_sgd",
    "rescale_velocity",
    "rmsprop",
    "sgd",
]

Array = Any
Arrays = list[Any]


def sgd(
    params: Arrays, state: Arrays, grads: Arrays, *, lr: Any, weight_decay: float = 0.0, xp: Any = None
) -> tuple[Arrays, Arrays]:
    """Stochastic gradient descent; consumes params.

        p <- p - lr g

    params, grads : lists of float arrays, equal shapes pairwise.   lr : step size > 0, float or array of one element.
    weight_decay : >= 0, adds weight_decay p to the gradient.
    state : [].   Returns (params, state).   Raises ValueError if the lists' lengths do not fit.
    Source: Robbins and Monro 1951.
    """
    _check(params, state, grads, 0)
    for i, g in enumerate(_with_l2(grads, params, weight_decay)):
        params[i] -= lr * g
    return params, state


def momentum_sgd(
    params: Arrays,
    velocity: Arrays,
    grads: Arrays,
    *,
    lr: Any,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    xp: Any = None,
) -> tuple[Arrays, Arrays]:
    """Heavy-ball SGD; consumes params and velocity.

        v <- momentum v + g ;   p <- p - lr v        (torch's convention: lr outside v)

    params, grads : lists of float arrays, equal shapes pairwise.   lr : step size > 0, float or array of one element.
    weight_decay : >= 0, adds weight_decay p to the gradient.
    velocity : one array per parameter.   momentum : in [0, 1).
    Returns (params, velocity).   Raises ValueError if the lists' lengths do not fit.
    Source: Polyak 1964; Sutskever et al. 2013, section 2.
    """
    _check(params, velocity, grads, 1)
    for i, g in enumerate(_with_l2(grads, params, weight_decay)):
        velocity[i] *= momentum
        velocity[i] += g
        params[i] -= lr * velocity[i]
    return params, velocity


def nesterov_sgd(
    params: Arrays,
    velocity: Arrays,
    grads: Arrays,
    *,
    lr: Any,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    xp: Any = None,
) -> tuple[Arrays, Arrays]:
    """SGD with Nesterov momentum; consumes params and velocity.

        v <- momentum v + g ;   p <- p - lr (g + momentum v)        (torch's nesterov=True)

    params, grads : lists of float arrays, equal shapes pairwise.   lr : step size > 0, float or array of one element.
    weight_decay : >= 0, adds weight_decay p to the gradient.
    velocity : one array per parameter.   momentum : in [0, 1).
    Returns (params, velocity).   Raises ValueError if the lists' lengths do not fit.
    Source: Nesterov 1983; Sutskever et al. 2013, section 2.
    """
    _check(params, velocity, grads, 1)
    for i, g in enumerate(_with_l2(grads, params, weight_decay)):
        velocity[i] *= momentum
        velocity[i] += g
        change = momentum * velocity[i]
        change += g
        change *= lr
        params[i] -= change
    return params, velocity


def rmsprop(
    params: Arrays,
    state: Arrays,
    grads: Arrays,
    *,
    lr: Any,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    xp: Any = None,
) -> tuple[Arrays, Arrays]:
    """RMSprop; consumes params and state.

        s <- alpha s + (1 - alpha) g^2 ;   p <- p - lr g / (sqrt(s) + eps)

    params, grads : lists of float arrays, equal shapes pairwise.   lr : step size > 0, float or array of one element.
    weight_decay : >= 0, adds weight_decay p to the gradient.
    state : [s, ...], one array per parameter.   alpha : in [0, 1).   eps : > 0.
    Returns (params, state).   Raises ValueError if the lists' lengths do not fit.
    Source: Tieleman and Hinton 2012, lecture 6.5.
    """
    _check(params, state, grads, 1)
    xp = array_namespace(*params) if xp is None else xp
    for i, g in enumerate(_with_l2(grads, params, weight_decay)):
        change = g * g
        change *= 1.0 - alpha
        state[i] *= alpha
        state[i] += change
        change = xp.sqrt(state[i])
        change += eps
        change = g / change
        change *= lr
        params[i] -= change
    return params, state


def adam(
    params: Arrays,
    state: Arrays,
    grads: Arrays,
    *,
    lr: Any,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    xp: Any = None,
) -> tuple[Arrays, Arrays]:
    """Adam; consumes params and state.

        t <- t + 1 ;   m <- beta1 m + (1 - beta1) g ;   v <- beta2 v + (1 - beta2) g^2
        p <- p - lr m^ / (sqrt(v^) + eps),   m^ = m / (1 - beta1^t),   v^ = v / (1 - beta2^t)

    params, grads : lists of float arrays, equal shapes pairwise.   lr : step size > 0, float or array of one element.
    weight_decay : >= 0, adds weight_decay p to the gradient.
    state : [m, ..., v, ..., t], t an array of one element.   beta1, beta2 : in [0, 1).   eps : > 0.
    Returns (params, state).   Raises ValueError if the lists' lengths do not fit.
    Source: Kingma and Ba 2015.
    """
    _check(params, state[:-1], grads, 2)
    return _adam(params, state, _with_l2(grads, params, weight_decay), lr, beta1, beta2, eps, xp)


def adam_eps_hat(
    params: Arrays,
    state: Arrays,
    grads: Arrays,
    *,
    lr: Any,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    xp: Any = None,
) -> tuple[Arrays, Arrays]:
    """Adam whose eps is not corrected, as TensorFlow and scikit-learn have it; consumes params and state.

        p <- p - lr m^ sqrt(1 - beta2^t) / (sqrt(v) + eps),   otherwise as adam

    Arguments, results and errors as in adam.
    Source: Kingma and Ba 2015, the end of section 2.
    """
    _check(params, state[:-1], grads, 2)
    return _adam(params, state, _with_l2(grads, params, weight_decay), lr, beta1, beta2, eps, xp, hat=True)


def adamw(
    params: Arrays,
    state: Arrays,
    grads: Arrays,
    *,
    lr: Any,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    xp: Any = None,
) -> tuple[Arrays, Arrays]:
    """Adam with decoupled weight decay; consumes params and state.

        p <- p - lr weight_decay p, then as adam with weight_decay = 0

    params, grads : lists of float arrays, equal shapes pairwise.   lr : step size > 0, float or array of one element.
    weight_decay : >= 0, the decoupled shrinkage, per unit of lr.
    state : [m, ..., v, ..., t], t an array of one element.   beta1, beta2 : in [0, 1).   eps : > 0.
    Returns (params, state).   Raises ValueError if the lists' lengths do not fit.
    Source: Loshchilov and Hutter 2019.
    """
    _check(params, state[:-1], grads, 2)
    if weight_decay:
        for i in range(len(params)):
            params[i] *= 1.0 - lr * weight_decay
    return _adam(params, state, grads, lr, beta1, beta2, eps, xp)


def _adam(
    params: Arrays,
    state: Arrays,
    grads: Arrays,
    lr: Any,
    beta1: float,
    beta2: float,
    eps: float,
    xp: Any,
    *,
    hat: bool = False,
) -> tuple[Arrays, Arrays]:
    xp = array_namespace(*params) if xp is None else xp
    n = len(params)
    state[-1] += 1.0
    # 1 - beta^t by expm1: written as it reads, float32 would keep four digits of 1 - 0.999.
    correction1 = -xp.expm1(state[-1] * math.log(beta1)) if beta1 else 1.0
    correction2 = xp.sqrt(-xp.expm1(state[-1] * math.log(beta2))) if beta2 else 1.0
    # m^ / (sqrt(v^) + eps) with both corrections in the numbers, which saves a pass over the array.
    rate, eps = lr * correction2 / correction1, eps if hat else eps * correction2
    for i, g in enumerate(grads):
        change = (1.0 - beta1) * g
        state[i] *= beta1
        state[i] += change
        change *= g  # on the way to (1 - beta2) g^2
        change *= (1.0 - beta2) / (1.0 - beta1)
        state[n + i] *= beta2
        state[n + i] += change
        change = xp.sqrt(state[n + i])
        change += eps
        change = state[i] / change
        change *= rate
        params[i] -= change
    return params, state


def limit_norms(params: Arrays, limit: float, *, xp: Any = None) -> Arrays:
    """Scale down the weights into each hidden unit until their norm is within a limit (max-norm); consumes params.

        W_j <- W_j min(1, limit / |W_j|),   W_j the column of unit j

    params : the flat list of a network, whose matrices but the last lead to hidden units.   limit : > 0.
    Returns params.
    Source: Srebro and Shraibman 2005; Srivastava et al. 2014, section 5.1.
    """
    xp = array_namespace(*params) if xp is None else xp
    for i in [i for i, p in enumerate(params) if p.ndim == 2][:-1]:
        norms = xp.sqrt(xp.sum(params[i] * params[i], axis=0))
        params[i] *= limit / xp.maximum(norms, limit)
    return params


def accumulate(sums: Arrays, terms: Arrays) -> Arrays:
    """Add arrays to others; consumes sums.

        s <- s + t

    sums, terms : lists of float arrays, equal shapes pairwise.   Returns sums.
    """
    for i, term in enumerate(terms):
        sums[i] += term
    return sums


def rescale_velocity(velocity: Arrays, factor: float) -> Arrays:
    """The velocity that takes the same path at another learning rate, from which torch's convention leaves it apart.

        v <- v factor,   factor = old lr / new lr

    velocity : arrays of momentum_sgd or nesterov_sgd, consumed.   factor : > 0.
    Returns velocity.
    """
    for i in range(len(velocity)):
        velocity[i] *= factor
    return velocity


def moving_average(average: Arrays, values: Arrays, step: Array, *, decay: float, xp: Any = None) -> Arrays:
    """The exponential moving average of arrays that training changes; consumes average.

        a <- a + (1 - d) (v - a),   d = min(decay, (1 + step) / (10 + step))

    The decay begins small, so that the average does not remember the start for longer than the training has lasted.

    average, values : lists of float arrays, equal shapes pairwise.
    step : (1,) integer array, the steps done before.   decay : in [0, 1).
    Returns average.   Raises ValueError if the lists' lengths differ.
    Source: Polyak and Juditsky 1992; the start is TensorFlow's ExponentialMovingAverage(num_updates).
    """
    xp = array_namespace(*values) if xp is None else xp
    if len(average) != len(values):
        raise ValueError(f"{len(values)} arrays but {len(average)} averages: the lists must match")
    t = xp.astype(step, values[0].dtype)
    share = 1.0 - xp.minimum((1.0 + t) / (10.0 + t), decay)
    for i, value in enumerate(values):
        change = value - average[i]
        change *= share
        average[i] += change
    return average


def _with_l2(grads: Arrays, params: Arrays, weight_decay: float) -> Arrays:
    if not weight_decay:
        return grads
    return accumulate([weight_decay * p for p in params], grads)


def _check(params: Arrays, state: Arrays, grads: Arrays, slots: int) -> None:
    if len(grads) != len(params):
        raise ValueError(f"{len(params)} parameters but {len(grads)} gradients: the lists must match")
    if len(state) != slots * len(params):
        raise ValueError(
            f"the optimizer's state holds {len(state)} arrays, not {slots * len(params)}: make it with init_state"
        )


Update = Callable[..., tuple[Arrays, Arrays]]
"""update(params, state, grads, *, lr, ...) -> (params, state), which consumes its first two arguments."""


class Optimizer(NamedTuple):
    """An update rule, what its state is made of, and its default rate."""

    update: Update
    slots: int  # arrays of state per parameter
    counts: bool  # whether the state ends with a count of the updates
    lr: float  # for a network of MNIST's size


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(sgd, 0, False, 0.5),
    "momentum": Optimizer(momentum_sgd, 1, False, 0.1),
    "nesterov": Optimizer(nesterov_sgd, 1, False, 0.15),
    "rmsprop": Optimizer(rmsprop, 1, False, 0.001),
    "adam": Optimizer(adam, 2, True, 0.001),
    "adamw": Optimizer(adamw, 2, True, 0.001),
}


def init_state(name: str, params: Arrays, *, xp: Any = None) -> Arrays:
    """The state with which an optimizer starts: zeros, none to two per parameter, and a count of 0 where it counts.

    name : a key of OPTIMIZERS.   params : list of float arrays.
    Returns a flat list of arrays on the params' device.   Raises KeyError for an unknown name.
    """
    optimizer = OPTIMIZERS[name]
    xp = array_namespace(*params) if xp is None else xp
    state = [xp.zeros_like(p) for _ in range(optimizer.slots) for p in params]
    if optimizer.counts:
        state.append(xp.zeros_like(xp.reshape(params[-1], (-1,))[:1]))
    return state
