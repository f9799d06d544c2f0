"""Lesson 2: the gradient of a neuron, by hand and by finite differences."""

from collections.abc import Iterator

import numpy as np

from xpnet.learn.exercise import Exercise, ExerciseError, Finding, Host, fixed
from xpnet.learn.lessons.neuron import sigmoid
from xpnet.studies.gradcheck import central_differences

__all__ = ["check_differences", "check_gradient"]


def check_gradient(exercise: Exercise) -> Iterator[Finding]:
    """The gradients of the loss by w and b."""
    rng = np.random.default_rng(3)
    n = 5
    x, w, b = fixed(rng.normal(size=(n, 3))), fixed(rng.normal(size=3)), 0.4
    t = fixed([0.0, 1.0, 1.0, 0.0, 1.0])
    dw, db = exercise.call("gradient", x, w, b, t, n=2)
    z = x @ w + b
    y = sigmoid(z)
    e, slope = y - t, y * (1 - y)
    wrong_dz = [
        ("the sigmoid's slope, y (1 - y), is missing between dy and dz", 2 * e / n),
        ("the slope is z (1 - z): it takes the value y, not z", 2 * e * z * (1 - z) / n),
        (
            "the slope is y (1 - y), and the y in it has been through the sigmoid twice",
            2 * e * sigmoid(y) * (1 - sigmoid(y)) / n,
        ),
        ("that is tanh's slope, 1 - y^2: the sigmoid's is y (1 - y)", 2 * e * (1 - y * y) / n),
        ("the slope is only y: it is y (1 - y)", 2 * e * y / n),
        ("the slope is only 1 - y: it is y (1 - y)", 2 * e * (1 - y) / n),
        ("dy is still squared: the slope of (y - t)^2 is 2 (y - t)", 2 * e * e * slope / n),
        ("dy is still squared: the slope of (y - t)^2 is 2 (y - t)", e * e * slope / n),
        ("y - t is missing: the chain begins with dy = 2 (y - t) / n", slope / n),
    ]
    factors = [
        ("the 2 is missing: the slope of e^2 is 2 e", 0.5),
        ("1/n is missing: the loss is a mean", float(n)),
        ("1/n is there twice: dz has it already, so add up the examples instead of taking their mean", 1 / n),
        ("neither the 2 nor the 1/n of the mean is there: dy = 2 (y - t) / n", n / 2),
    ]

    def loss(inputs: list[Host]) -> float:
        return float(np.mean((sigmoid(x @ inputs[0] + inputs[1][0]) - t) ** 2))

    want_w, want_b = central_differences(loss, [w, np.array([b])])
    dz = 2 * e * slope / n
    mistakes = [(text, x.T @ d) for text, d in wrong_dz]
    mistakes += [
        ("the examples are not added up: dw is the sum over them of x dz", x * dz[:, None]),
        ("the x is missing: z changes by x_j when w_j does by 1", np.full(3, dz.sum())),
        ("that is db: dw is the sum over the examples of x dz", dz.sum()),
        ("that multiplies by w: z changes by x_j, not by w_j, when w_j changes by 1", w * dz.sum()),
    ]
    says = "finite differences say"
    yield exercise.compare("gradient", "dw", dw, want_w, mistakes, factors, says)
    mistakes = [(text, d.sum()) for text, d in wrong_dz]
    mistakes += [
        ("db is not summed over the examples: b is one number, and each example has its part in its gradient", dz),
        ("that is dz times b: z changes by 1, not by b, when b changes by 1", b * dz.sum()),
    ]
    yield exercise.compare("gradient", "db", db, want_b[0], mistakes, factors, says)


def check_differences(exercise: Exercise) -> Iterator[Finding]:
    """Central differences, of a function on which each other kind gives other numbers."""
    start, h = np.array([0.8, -0.5, 1.3]), 0.1

    def f(p: Host) -> float:
        p = np.asarray(p, dtype=np.float64)
        if p.shape != (3,):
            raise ExerciseError(
                exercise.line_of("differences", "d"), f"f takes an array of the shape (3,), not {p.shape}"
            )
        return float(p[0] ** 3 + p[0] * p[1] - np.exp(p[1]) * p[2] + p[2] ** 2)

    def slopes(up: float, down: float, width: float, among: Host) -> Host:
        return np.array([(f(start + up * e) - f(start - down * e)) / width for e in among])

    one = np.eye(3)
    given = start.copy()
    d = exercise.call("differences", f, given, h)
    mistakes = [
        ("that is the forward difference: move p to both sides, whose errors nearly cancel", slopes(h, 0, h, one)),
        ("that is the backward difference: move p to both sides, whose errors nearly cancel", slopes(0, h, h, one)),
        ("p moves to one side only, and the width is 2h", slopes(h, 0, 2 * h, one)),
        ("all elements of p move at once: move only element i", slopes(h, h, 2 * h, np.ones((3, 3)))),
        ("it is not divided by 2h", slopes(h, h, 1, one)),
        ("it is divided by 2, and then multiplied by h: write / (2 * h)", slopes(h, h, 2 / h, one)),
    ]
    factors = [("it is divided by h: from p - h to p + h, the width is 2h", 2.0)]
    finding = exercise.compare("differences", "d", d, slopes(h, h, 2 * h, one), mistakes, factors)
    if not np.allclose(given, start):
        line = exercise.line_of("differences", "d")
        finding = Finding("d", "p is not the same afterwards: move a copy of it, made anew for each element", line)
    yield finding
