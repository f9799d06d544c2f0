"""Lesson 7: initial weights, momentum and Adam."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpnet.learn.exercise import Exercise, Finding, Host
from xpnet.learn.lessons import network
from xpnet.numerics import functional as F

__all__ = ["check_adam", "check_init", "check_momentum", "reward"]

Step = Callable[..., tuple[Any, ...]]


def check_init(exercise: Exercise) -> Iterator[Finding]:
    """Of so many draws that their spread says which formula they are from."""
    n_in, n_out = 400, 300
    W = exercise.call("init", np.random.default_rng(10), n_in, n_out)
    if not isinstance(W, np.ndarray) or W.shape != (n_in, n_out) or W.dtype.kind != "f":
        mistakes = [("W has the shape (n_out, n_in): it is (n_in, n_out), since the layer is x W", W)]
        flipped = isinstance(W, np.ndarray) and W.shape == (n_out, n_in)
        yield exercise.compare("init", "W", W, np.zeros((n_in, n_out)), mistakes * flipped)
        return
    again = exercise.call("init", np.random.default_rng(10), n_in, n_out)
    other = exercise.call("init", np.random.default_rng(11), n_in, n_out)
    yield Finding("W", next(_faults(W, again, other, n_in, n_out), ""), exercise.line_of("init", "W"))


def _faults(W: Host, again: Host, other: Host, n_in: int, n_out: int) -> Iterator[str]:
    """What is wrong with first weights; only the first is known to be true."""
    alike = "so all units compute the same, get the same gradients, and stay alike forever: draw each weight"
    if not W.any():
        yield f"all weights are 0, {alike}"
    if np.ptp(W) == 0:
        yield f"all weights are equal, {alike}"
    if not np.ptp(W, axis=1).any():
        yield f"the weights of all units are equal, {alike}"
    if not np.ptp(W, axis=0).any():
        yield "a unit's weights to all inputs are equal: draw each one"
    if not np.array_equal(W, again):
        yield "the same rng gives other numbers each time: draw from rng, or no run can be repeated"
    if np.array_equal(W, other):
        yield "every rng gives the same numbers: draw from rng itself, not from a generator made anew"
    std, mean, right = float(W.std()), float(W.mean()), math.sqrt(2 / n_in)
    if abs(mean) > 0.1 * std:
        yield f"the mean is {mean:.3g}, and it must be 0: weights of one sign make all units alike"
    known = [
        (2 / n_in, "2 / n_in is the variance, and rng.normal takes the standard deviation: its square root"),
        (1.0, "the weights are not scaled: a variance of 1 makes each layer's sums far too large"),
        (math.sqrt(1 / n_in), "the variance is 1 / n_in: ReLU lets half of it through, so it must be 2 / n_in"),
        (1 / n_in, "the standard deviation is 1 / n_in, and it must be the square root of 2 / n_in"),
        (math.sqrt(2 / n_out), "the variance is 2 / n_out: a unit's sum has n_in terms, so it must be 2 / n_in"),
        (
            math.sqrt(2 / (n_in + n_out)),
            "that is Glorot's, 2 / (n_in + n_out): ReLU needs 2 / n_in",
        ),
        (math.sqrt(2 * n_in), "the variance is multiplied by n_in, not divided: it must be 2 / n_in"),
        (math.sqrt(2), "n_in is missing: the variance is 2, and it must be 2 / n_in"),
    ]
    if abs(std / right - 1) > 0.02:
        yield from (text for size, text in known if abs(std / size - 1) < 0.02)
        yield f"the standard deviation is {std:.4g}, and it must be sqrt(2 / n_in), which is {right:.4g} here"


def check_momentum(exercise: Exercise) -> Iterator[Finding]:
    """Three steps with a rate that falls, since otherwise lr inside v and outside it are the same."""
    v, minus = "v <- momentum v + g", lambda v, g, mu: mu * v - g
    wrong = [
        ("lr is inside v, which remembers the old rate when lr changes: p - lr v", _momentum(scale=_one, inside=True)),
        (
            "lr and the minus are inside v, as Keras has it: p - lr v",
            _momentum(minus, scale=lambda lr: -1, inside=True),
        ),
        ("lr is applied twice, in v and in p: only p takes it", _momentum(inside=True)),
        (f"g is multiplied by 1 - momentum, as in an average: {v}", _momentum(lambda v, g, mu: mu * v + (1 - mu) * g)),
        (f"the velocity is forgotten from step to step: {v}", _momentum(lambda v, g, mu: g)),
        (f"the velocity never slows down: {v}", _momentum(lambda v, g, mu: v + g)),
        (f"momentum multiplies both: {v}", _momentum(lambda v, g, mu: mu * (v + g))),
        (f"momentum multiplies the gradient: {v}", _momentum(lambda v, g, mu: v + mu * g)),
        (f"you climb, since v has the gradient with a minus: {v}", _momentum(minus)),
        (f"v has the gradient with a minus, and p adds it: {v}", _momentum(minus, scale=_minus)),
        ("you climb: p - lr v", _momentum(scale=_minus)),
        ("p takes the old velocity: first v, then p", _momentum(moves=lambda old, v, g, mu: old)),
        ("that is Nesterov's step, g + momentum v: here, p - lr v", _momentum(moves=lambda old, v, g, mu: g + mu * v)),
        ("p takes the gradient and not the velocity: p - lr v", _momentum(moves=lambda old, v, g, mu: g)),
        ("lr is missing: p - lr v", _momentum(scale=_one)),
        ("lr is squared: p - lr v", _momentum(scale=_squared)),
    ]
    yield from _race(exercise, "momentum", "vp", _momentum(), wrong, [(0.1, 0.9), (0.1, 0.9), (0.02, 0.9)])


def check_adam(exercise: Exercise) -> Iterator[Finding]:
    """Three steps, with an eps large enough to be seen."""
    step, timeless = "p - lr M / (sqrt(V) + eps)", lambda b, t: 1 - b
    times, early, late = (lambda b, t: 1 - b * t), (lambda b, t: 1 - b ** (t - 1)), (lambda b, t: 1 - b ** (t + 1))
    wrong = [
        ("the bias correction is missing: m and v begin at 0, so divide by 1 - beta^t", _adam(c1=_one, c2=_one)),
        ("m is not corrected: M = m / (1 - beta1^t)", _adam(c1=_one)),
        ("v is not corrected: V = v / (1 - beta2^t)", _adam(c2=_one)),
        ("the correction has no t in it: 1 - beta^t, not 1 - beta", _adam(c1=timeless, c2=timeless)),
        ("the correction has beta times t in it: ** is the power, 1 - beta**t", _adam(c1=times, c2=times)),
        ("the steps are counted from 0: t is 1 at the first, leave it as it is", _adam(c1=early, c2=early)),
        ("t is counted once too often: it is 1 at the first step, leave it as it is", _adam(c1=late, c2=late)),
        ("eps is inside the square root: sqrt(V) + eps", _adam(root=lambda V, eps: np.sqrt(V + eps))),
        ("the square root is missing: sqrt(V) + eps", _adam(root=lambda V, eps: V + eps)),
        ("eps is missing: it keeps the division by a small V harmless", _adam(root=lambda V, eps: np.sqrt(V))),
        ("v takes g and not its square: (1 - beta2) g^2", _adam(square=lambda g: g)),
        ("v takes |g| and not its square: (1 - beta2) g^2", _adam(square=np.abs)),
        ("the betas are exchanged: beta1 is m's, beta2 is v's", _adam(exchanged=True)),
        ("1 - beta1 is missing: m <- beta1 m + (1 - beta1) g", _adam(w1=1.0)),
        ("1 - beta2 is missing: v <- beta2 v + (1 - beta2) g^2", _adam(w2=1.0)),
        ("1 - beta1 and 1 - beta2 are missing: m and v are averages", _adam(w1=1.0, w2=1.0)),
        (f"you climb: {step}", _adam(scale=_minus)),
        (f"lr is missing: {step}", _adam(scale=_one)),
        (f"lr is squared: {step}", _adam(scale=_squared)),
        (f"p takes g and not its average: {step}", _adam(direct=True)),
        ("the corrected m and v are kept: return m and v as they are, without the correction", _adam(kept=True)),
    ]
    yield from _race(exercise, "adam", "mvp", _adam(), wrong, [(t, 0.1, 0.3, 0.25, 0.05) for t in (1, 2, 3)])


def _one(*_: Any) -> float:
    return 1.0


def _minus(lr: float) -> float:
    return -lr


def _squared(lr: float) -> float:
    return lr * lr


def _race(
    exercise: Exercise, name: str, states: str, right: Step, wrong: list[tuple[str, Step]], settings: list[Any]
) -> Iterator[Finding]:
    """The learner's steps compared with the right ones, and with those of each mistake.

    states : the names of what a step returns, in the order in which it computes them, p last; it returns p first.
    settings : what each step takes after the gradient.
    """
    rng = np.random.default_rng(12)
    start, grads = rng.normal(size=4), rng.normal(size=(len(settings), 4))

    def run(step: Step) -> tuple[Any, ...]:
        p, *rest = start.copy(), *(np.zeros(4) for _ in states[1:])
        for g, setting in zip(grads, settings, strict=True):
            p, *rest = step(p, *rest, g.copy(), *setting)
            if not all(isinstance(value, np.ndarray) and value.shape == (4,) for value in (p, *rest)):
                break
        return *rest, p

    got, want = run(lambda *args: exercise.call(name, *args, n=len(states))), run(right)
    with np.errstate(all="ignore"):
        made = [(text, run(step)) for text, step in wrong]
    findings = [
        exercise.compare(name, state, g, w, [(text, values[i]) for text, values in made if _differ(values[i], w)])
        for i, (state, g, w) in enumerate(zip(states, got, want, strict=True))
    ]
    # A mistake shows in all that is computed after it: the one that explains everything is reported, and once.
    for text, values in made:
        if not any(_differ(g, value) for g, value in zip(got, values, strict=True)):
            faulty = [i for i, finding in enumerate(findings) if finding.fault]
            for i in faulty:
                follows = f"it is wrong because {states[faulty[0]]} is"
                findings[i] = findings[i]._replace(fault=text if i == faulty[0] else follows)
            break
    yield from findings


def _differ(a: Any, b: Host) -> bool:
    return not (isinstance(a, np.ndarray) and a.shape == b.shape and np.allclose(a, b, rtol=1e-6, equal_nan=True))


def _momentum(
    velocity: Callable[..., Host] = lambda v, g, mu: mu * v + g,
    moves: Callable[..., Host] = lambda old, v, g, mu: v,
    scale: Callable[[float], float] = lambda lr: lr,
    inside: bool = False,
) -> Step:
    """A step with momentum, right unless told otherwise."""

    def step(p: Host, old: Host, g: Host, lr: float, mu: float) -> tuple[Host, Host]:
        v = velocity(old, lr * g if inside else g, mu)
        return p - scale(lr) * moves(old, v, g, mu), v

    return step


def _adam(
    c1: Callable[[float, int], float] = lambda b, t: 1 - b**t,
    c2: Callable[[float, int], float] = lambda b, t: 1 - b**t,
    root: Callable[[Host, float], Host] = lambda V, eps: np.sqrt(V) + eps,
    square: Callable[[Host], Host] = np.square,
    w1: float | None = None,
    w2: float | None = None,
    scale: Callable[[float], float] = lambda lr: lr,
    exchanged: bool = False,
    direct: bool = False,
    kept: bool = False,
) -> Step:
    """A step of Adam, right unless told otherwise."""

    def step(
        p: Host, m: Host, v: Host, g: Host, t: int, lr: float, beta1: float, beta2: float, eps: float
    ) -> tuple[Host, Host, Host]:
        if exchanged:
            beta1, beta2 = beta2, beta1
        m = beta1 * m + (1 - beta1 if w1 is None else w1) * g
        v = beta2 * v + (1 - beta2 if w2 is None else w2) * square(g)
        M, V = m / np.float64(c1(beta1, t)), v / np.float64(c2(beta2, t))
        p = p - scale(lr) * (g if direct else M) / root(V, eps)
        return (p, M, V) if kept else (p, m, v)

    return step


def reward(exercise: Exercise) -> str:
    """A race of three optimizers, from the learner's first weights."""
    train, test = network.drawn()
    found = {}
    for name in ("plain SGD", "momentum", "Adam"):
        rng = np.random.default_rng(14)
        W0, W1 = exercise.call("init", rng, 784, 64), exercise.call("init", rng, 64, 10)
        params = [W0, np.zeros(64), W1, np.zeros(10)]
        first, second = ([np.zeros_like(p) for p in params] for _ in range(2))
        order = rng.permutation(len(train[0]))
        for t, start in enumerate(range(0, len(order), 32), 1):
            grads = _grads(params, *(part[order[start : start + 32]] for part in train))
            for i, g in enumerate(grads):
                if name == "Adam":
                    stepped = exercise.call("adam", params[i], first[i], second[i], g, t, 0.003, 0.9, 0.999, 1e-8, n=3)
                    params[i], first[i], second[i] = stepped
                else:
                    mu = 0.9 if name == "momentum" else 0.0
                    params[i], first[i] = exercise.call("momentum", params[i], first[i], g, 0.02, mu, n=2)
        found[name] = network.accuracy(params, *test)
    race = ", ".join(f"{name} {score:.1f} %" for name, score in found.items())
    return f"After one epoch of {len(order):,} drawn digits, your steps read, of {len(test[0]):,} others: {race}."


def _grads(params: list[Host], x: Host, labels: Host) -> list[Host]:
    """The gradients of a network with one hidden layer."""
    W0, b0, W1, b1 = params
    z, vjp0 = F.dense(x, W0, b0, need_dx=False)
    h, relu_vjp = F.relu(z)
    logits, vjp1 = F.dense(h, W1, b1)
    dh, dW1, db1 = vjp1(F.softmax_cross_entropy(logits, labels)[1]())
    _, dW0, db0 = vjp0(relu_vjp(dh))
    return [dW0, db0, dW1, db1]
