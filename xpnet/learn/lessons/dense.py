"""Lesson 3: a dense layer, forward and back."""

from collections.abc import Iterator

import numpy as np

from xpnet.learn.exercise import Exercise, ExerciseError, Finding, Host, fixed
from xpnet.studies.gradcheck import central_differences

__all__ = ["check"]


def check(exercise: Exercise) -> Iterator[Finding]:
    """A layer of three different lengths; if its shapes do not fit, a square one tells what fits by chance."""
    try:
        yield from list(_compare(exercise, 5, 4, 3))
    except ExerciseError as fault:
        try:
            found = [f._replace(line=fault.line) for f in _compare(exercise, 4, 4, 4) if f.fault]
        except ExerciseError:
            raise fault from None
        if not found:
            raise
        fits = f"{found[0].fault} (which fits only where all lengths are equal; otherwise, {fault})"
        yield found[0]._replace(fault=fits)


def _compare(exercise: Exercise, n: int, n_in: int, n_out: int) -> Iterator[Finding]:
    rng = np.random.default_rng(n)
    x, W, b = fixed(rng.normal(size=(n, n_in))), fixed(rng.normal(size=(n_in, n_out))), fixed(rng.normal(size=n_out))
    dy = fixed(rng.normal(size=(n, n_out)))
    square = n == n_in == n_out
    y, vjp = exercise.call("dense", x, W, b, n=2)
    mistakes = [
        ("the b is missing: y = x W + b", x @ W),
        ("b is taken away: y = x W + b", x @ W - b),
        ("that is x W + b through an activation: a dense layer has none", np.maximum(x @ W + b, 0)),
    ]
    if square:
        mistakes += [
            ("W is transposed: it is (n_in, n_out), and x W needs no transpose", x @ W.T + b),
            ("the order is wrong: x W, not W x", W @ x + b),
            ("that multiplies element by element: x @ W is the matrix product", x * W + b),
        ]
    yield exercise.compare("dense", "y", y, x @ W + b, mistakes)

    dx, dW, db = exercise.returned(vjp, "vjp", dy, n=3)

    def through(inputs: list[Host]) -> float:
        return float(np.sum(dy * (inputs[0] @ inputs[1] + inputs[2])))

    want_x, want_W, want_b = central_differences(through, [x, W, b])
    other = "that is {}: the vjp returns dx, dW, db, in this order"
    says = "finite differences say"
    factors = [
        ("it is divided by n: the mean is the loss's business, and its 1/n is in dy already", 1 / n),
        ("it is multiplied by n: what comes back is the sum over the examples", float(n)),
    ]
    mistakes = [(other.format("dW"), want_W), (other.format("db"), want_b)]
    if square:
        mistakes += [
            ("W's transpose is missing: dx = dy W^T", dy @ W),
            ("the order is wrong: dx = dy W^T, with dy in front", W.T @ dy),
            ("the order is wrong, and W's transpose is missing: dx = dy W^T", W @ dy),
            ("that multiplies element by element: @ is the matrix product", dy * W),
        ]
    yield exercise.compare("dense/vjp", "dx", dx, want_x, mistakes, factors, says)
    mistakes = [
        (other.format("dx"), want_x),
        (other.format("db"), want_b),
        ("your dW is the right one transposed: that is dy^T x, and dW = x^T dy has the shape of W", want_W.T),
    ]
    if square:
        mistakes += [
            ("x's transpose is missing: dW = x^T dy", x @ dy),
            ("the order is wrong: dW = x^T dy", dy @ x),
            ("the transpose is on the wrong side: dW = x^T dy", x @ dy.T),
            ("that multiplies element by element: @ is the matrix product", x * dy),
        ]
    yield exercise.compare("dense/vjp", "dW", dW, want_W, mistakes, factors, says)
    mistakes = [
        (other.format("dx"), want_x),
        (other.format("dW"), want_W),
        ("db is not summed over the batch: every example uses the same b, so their gradients add up", dy),
        ("that sums over the outputs: sum over the examples, axis 0", dy.sum(axis=1)),
        ("that sums over everything: sum over the examples alone, axis 0", dy.sum()),
        ("db is multiplied by b: y changes by 1, not by b, when b changes by 1", b * dy.sum(axis=0)),
        ("that is the number of examples: db is the sum over the examples of dy", np.full(n_out, float(n))),
        ("that keeps the axis of the examples: db has the shape of b", dy.sum(axis=0, keepdims=True)),
    ]
    yield exercise.compare("dense/vjp", "db", db, want_b, mistakes, factors, says)
