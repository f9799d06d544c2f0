"""Lesson 6: a network learns."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnet.data import digits
from xpnet.learn.exercise import Exercise, ExerciseError, Finding, Host, fixed
from xpnet.numerics import functional as F
from xpnet.numerics.network import MLP
from xpnet.studies.gradcheck import central_differences
from xpnet.training.initializers import init_params

__all__ = ["accuracy", "check_epoch", "check_step", "drawn", "reward"]

_SIZES = 784, 64, 10
_TRAIN, _TEST = 8000, 1000
_NAMES = "W0", "b0", "W1", "b1"


def check_step(exercise: Exercise) -> Iterator[Finding]:
    """The loss, and by how much each parameter has moved, which is the gradient times lr."""
    rng = np.random.default_rng(7)
    n, lr = 5, 0.01
    shapes = MLP((4, 6, 3)).param_shapes().values()
    params = [rng.normal(size=shape) for shape in shapes]
    x, labels = fixed(rng.normal(size=(n, 4))), fixed([2, 0, 1, 1, 2])

    def loss_of(p: list[Host]) -> float:
        h = F.relu(F.dense(x, p[0], p[1])[0])[0]
        return float(F.softmax_cross_entropy(F.dense(h, p[2], p[3])[0], labels)[0])

    grads = central_differences(loss_of, params)
    loss, new = exercise.call("train_step", [p.copy() for p in params], x, labels, lr, n=2)
    stepped = loss_of([p - lr * g for p, g in zip(params, grads, strict=True)])
    linear = _by_hand(params, x, labels, forward=False)
    mistakes = [
        ("that is the loss after the step: return that of the way forward", stepped),
        ("the ReLU is missing on the way forward: without it, two layers are no more than one", linear[0]),
        ("1/n is there twice: softmax_cross_entropy has the mean already", loss_of(params) / n),
    ]
    yield exercise.compare("train_step", "loss", loss, loss_of(params), mistakes)

    if new is Ellipsis or not (isinstance(new, list | tuple) and len(new) == 4):
        line = exercise.line_of("train_step", "new_params")
        fault = "not filled in yet" if new is Ellipsis else "not a list of the four new parameters"
        yield Finding("new_params", f"new_params is {fault}", line)
        return
    unmasked = _by_hand(params, x, labels, back=False)
    neither = _by_hand(params, x, labels, forward=False, back=False)
    early = _by_hand(params, x, labels, early=lr)
    variants = [
        ("the ReLU is missing on the way back: relu_vjp belongs between the two layers", unmasked[1]),
        ("the ReLU is missing on the way forward, or h is not what the second layer takes", linear[1]),
        ("the ReLU is missing both ways: without it, two layers are no more than one", neither[1]),
        ("W1 has changed before dh is computed: all gradients first, then the step", early[1]),
    ]
    factors = [
        ("you climb: the step goes against the gradient, p - lr dp", -1.0),
        ("lr is applied twice: p - lr dp", lr),
        ("you climb, and lr is applied twice: p - lr dp", -lr),
        ("lr is missing: p - lr dp", 1 / lr),
        ("1/n is there twice: softmax_cross_entropy has the mean already", 1 / n),
        ("1/n is undone: softmax_cross_entropy has the mean, and no factor n is needed", float(n)),
        ("the parameter has not moved: return the new ones, p - lr dp", 0.0),
    ]
    for i, (name, p, g, after) in enumerate(zip(_NAMES, params, grads, new, strict=True)):
        if not isinstance(after, np.ndarray) or after.shape != p.shape:
            yield exercise.compare("train_step", "new_params", after, p)._replace(what=f"new {name}")
            continue
        wrong = [(text, each[i]) for text, each in variants if not np.allclose(each[i], g)]
        wrong += [
            ("that is only the gradient times lr: the new parameter is p - lr dp", (p - lr * g) / lr),
            ("that is only the gradient times -lr: the new parameter is p - lr dp", (p + lr * g) / lr),
        ]
        says = "by finite differences, it must be"
        yield exercise.compare("train_step", f"d{name}", (p - after) / lr, g, wrong, factors, says)


def _by_hand(
    params: list[Host], x: Host, labels: Host, *, forward: bool = True, back: bool = True, early: float = 0.0
) -> tuple[Any, list[Host]]:
    """The loss and the gradients of a network with a mistake in it; early is the lr by which W1 changes too soon."""
    W0, b0, W1, b1 = params
    z, vjp0 = F.dense(x, W0, b0)
    h, relu_vjp = F.relu(z)
    logits, vjp1 = F.dense(h if forward else z, W1, b1)
    loss, loss_vjp = F.softmax_cross_entropy(logits, labels)
    dlogits = loss_vjp()
    dh, dW1, db1 = vjp1(dlogits)
    if early:
        dh = np.matmul(dlogits, (W1 - early * dW1).T)
    _, dW0, db0 = vjp0(relu_vjp(dh) if back else dh)
    return loss, [dW0, db0, dW1, db1]


def check_epoch(exercise: Exercise) -> Iterator[Finding]:
    """What epoch hands to train_step, for which an observer stands in."""
    n, size = 10, 4
    x, labels = fixed(np.arange(n, dtype=np.float64)[:, None]), fixed(np.arange(n))
    steps: list[tuple[Host, Host, Any, Any]] = []

    def observer(params: Any, x: Any, labels: Any, lr: Any) -> tuple[float, list[int]]:
        steps.append((np.ravel(x), np.ravel(labels), params, lr))
        return 0.5, [len(steps)]

    own = exercise.names.get("train_step")
    exercise.names["train_step"] = observer
    try:
        params = exercise.call("epoch", [0], x, labels, 0.25, size, np.random.default_rng(8))
    finally:
        exercise.names["train_step"] = own
    line = exercise.line_of("epoch", "batch")
    yield Finding("epoch", next(_faults(steps, params, n, size), ""), line)


def _faults(steps: list[tuple[Host, Host, Any, Any]], params: Any, n: int, size: int) -> Iterator[str]:
    """What is wrong with an epoch's steps; only the first is known to be true."""
    if not steps:
        yield "train_step is never called: call it for each batch"
    if any(len(xs) != len(labels) for xs, labels, _, _ in steps):
        yield f"a batch has {len(steps[0][0])} examples and {len(steps[0][1])} labels: take both by the same batch"
    if any((xs != labels).any() for xs, labels, _, _ in steps):
        yield "examples and labels are not in the same order: take both by the same batch, x[batch] and labels[batch]"
    batches = [xs.astype(int) for xs, _, _, _ in steps]
    seen = np.concatenate(batches)
    if len(steps) > 1 and all(len(batch) == n for batch in batches):
        yield "each step has all examples: the batch is order[start : start + batch_size]"
    if len(steps) > 1 and np.array_equal(batches[0], batches[1]):
        yield "each step has the same batch: begin at start, order[start : start + batch_size]"
    if len(np.unique(seen)) == len(seen) == n // size * size:
        yield "the last batch is left out: it is shorter, and its examples count as well"
    if sorted(seen) != list(range(n)):
        missing, twice = n - len(np.unique(seen)), int((np.bincount(seen) > 1).sum())
        yield f"{missing} examples are left out, and {twice} come more than once: order[start : start + batch_size]"
    if (seen == np.arange(n)).all():
        yield "the order is not new: take the batch from order, order[start : start + batch_size]"
    if any(given == [0] for _, _, given, _ in steps[1:]):
        yield "every step begins with the first parameters: give each the ones that the last returned"
    if any(rate != 0.25 for _, _, _, rate in steps):
        yield "train_step is not given lr"
    if params != [len(steps)]:
        yield "the parameters that the last step returned are not what epoch returns"


def drawn() -> tuple[tuple[Host, Host], tuple[Host, Host]]:
    """Digits to learn, and others to be tested with, pixels in [0, 1]."""
    images, labels = digits.draw(_TRAIN + _TEST)
    x = images.reshape(len(images), -1) / 255.0
    return (x[:_TRAIN], labels[:_TRAIN]), (x[_TRAIN:], labels[_TRAIN:])


def first() -> list[Host]:
    """The parameters of a small network for the digits, before it has learned."""
    return init_params(MLP(_SIZES), dtype="float64")


def accuracy(params: list[Host], x: Host, labels: Host) -> float:
    """The share of the examples that a network of one hidden layer classifies correctly, in percent."""
    W0, b0, W1, b1 = params
    logits = F.dense(F.relu(F.dense(x, W0, b0)[0])[0], W1, b1)[0]
    return 100.0 * float(np.mean(np.argmax(logits, axis=1) == labels))


def reward(exercise: Exercise) -> str:
    """The learner's network learns digits."""
    train, test = drawn()
    params, rng, before = first(), np.random.default_rng(9), accuracy(first(), *test)
    for _ in range(5):
        params = exercise.call("epoch", params, *train, 0.3, 32, rng)
    if not all(np.isfinite(p).all() for p in params):
        raise ExerciseError(0, "on real digits, the parameters do not stay finite")
    after = accuracy(params, *test)
    return (
        f"Your network has just learned from {_TRAIN:,} drawn digits, in five epochs. Of {_TEST:,} that "
        f"it had never seen, it read {before:.1f} % before, and {after:.1f} % now."
    )
