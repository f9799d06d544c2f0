"""Lesson 5: softmax and cross-entropy."""

import math
from collections.abc import Iterator

import numpy as np

from xpnet.learn.exercise import Exercise, Finding, Host, fixed
from xpnet.numerics import functional as F
from xpnet.studies.gradcheck import central_differences

__all__ = ["check"]

_NAME = "softmax_cross_entropy"


def check(exercise: Exercise) -> Iterator[Finding]:
    """The loss and its gradient, at moderate logits; then the gradient again, and the loss at large ones."""
    rng = np.random.default_rng(6)
    n, k = 5, 4
    z, labels = fixed(rng.normal(size=(n, k))), fixed([2, 0, 2, 3, 2])
    loss, vjp = exercise.call(_NAME, z, labels, n=2)
    p, t = F.softmax(z)[0], np.eye(k)[labels]
    shifted = z - z.max(axis=1, keepdims=True)
    down, shifted_down = (np.exp(a) / np.exp(a).sum(axis=0) for a in (z, shifted))
    whole = np.exp(z) / np.exp(z).sum()
    rows = np.arange(n)
    want = F.softmax_cross_entropy(z, labels)[0]
    base_2 = np.mean(np.log2(np.exp(shifted).sum(axis=1)) - shifted[rows, labels])
    over_examples = "the softmax is over the examples, axis 0: it is over the classes, axis 1"
    mistakes = [
        ("1/n is missing: that is the sum over the examples, and the loss is their mean", want * n),
        ("it is divided by the number of classes, too: the mean is over the examples alone", want / k),
        ("the mean is missing: the loss is one number, not one for each example", -np.log(p[rows, labels])),
        (over_examples, -np.log(down[rows, labels]).mean()),
        (over_examples, -np.log(shifted_down[rows, labels]).mean()),
        ("the log of the sum is to the base 2: np.log is the natural one", base_2),
        ("the softmax is over the entire batch: each row has its own sum, axis 1", -np.log(whole[rows, labels]).mean()),
        ("the logarithm is missing: that is the mean of p at the label", p[rows, labels].mean()),
        ("the logarithm is missing: that is minus the mean of p at the label", -p[rows, labels].mean()),
        ("that is the mean of 1 - p at the label: take -log p", 1 - p[rows, labels].mean()),
        ("all classes count: only the label's -log p does", -np.log(p).sum() / n),
        ("all classes count: only the label's -log p does", -np.log(p).mean()),
        ("the log of the sum is missing: -log p = log(sum of e^z) - z at the label", -z[rows, labels].mean()),
        ("p[:, labels] has all labels' columns for every row: p[np.arange(n), labels]", -np.log(p[:, labels]).mean()),
        ("p[labels] has whole rows: p[np.arange(n), labels] has each row's own label", -np.log(p[labels]).mean()),
        ("that is the predicted class's -log p: it is the label's that counts", -np.log(p.max(1)).mean()),
    ]  # fmt: skip
    factors = [
        ("the logarithm is to the base 2: np.log is the natural one", 1 / math.log(2)),
        ("the logarithm is to the base 10: np.log is the natural one", 1 / math.log(10)),
    ]
    yield exercise.compare(_NAME, "loss", loss, want, mistakes, factors)

    dlogits = exercise.returned(vjp, "vjp")

    def value(inputs: list[Host]) -> float:
        return float(F.softmax_cross_entropy(inputs[0], labels)[0])

    right = central_differences(value, [z])[0]
    columns = p.copy()
    columns[:, labels] -= 1
    mistakes = [
        ("the -1 at the label is missing: the gradient is (p - t) / n, t being 1 at the label", p / n),
        ("p is missing: the gradient is (p - t) / n", -t / n),
        ("that is the gradient with respect to p: the softmax's own way back is still to go", -t / p / n),
        ("p[:, labels] has the columns of all labels for every row: p[np.arange(n), labels] -= 1", columns / n),
        (over_examples, (down - t) / n),
        (over_examples, (shifted_down - t) / n),
        ("that has log p where p belongs: p = e^(log p)", (np.log(p) - t) / n),
        ("that has the logits where p belongs: the gradient is (p - t) / n", (z - t) / n),
        ("that has the shifted logits where p belongs: the gradient is (p - t) / n", (shifted - t) / n),
        ("that has e^z where p belongs: it is not divided by its sum", (np.exp(z) - t) / n),
        ("that has e^(z - max) where p belongs: it is not divided by its sum", (np.exp(shifted) - t) / n),
        ("that is p (1 - p), a softmax's slope for itself alone: the gradient is (p - t) / n", p * (1 - p) / n),
        ("the error is multiplied by p (1 - p), too: the gradient is only (p - t) / n", (p - t) * p * (1 - p) / n),
    ]
    factors = [
        ("1/n is missing: the loss is a mean", float(n)),
        ("1/n is there twice", 1 / n),
        ("it is divided by the number of classes instead of the examples", n / k),
        ("it is divided by the number of classes, too: the mean is over the examples alone", 1 / k),
    ]
    says = "finite differences say"
    first = exercise.compare(f"{_NAME}/vjp", "dlogits", dlogits, right, mistakes, factors, says)
    if first.fault:
        yield first
        return
    mistakes = [
        ("the vjp ignores dloss: the gradient is dloss times that of the loss", right),
        ("a second call of the vjp gives another result: it changes p, so change a copy of it", 3 * right - 3 * t / n),
        ("dloss is added: the gradient is dloss times that of the loss", right + 3),
    ]  # fmt: skip
    yield exercise.compare(
        f"{_NAME}/vjp", "dlogits", exercise.returned(vjp, "vjp", 3.0), right * 3, mistakes, source=says
    )
    if not _same_loss(loss, want):
        return
    yield _large(exercise)


def _same_loss(loss: object, want: float) -> bool:
    return isinstance(loss, float | np.ndarray | np.generic) and bool(np.allclose(loss, want))


def _large(exercise: Exercise) -> Finding:
    """The loss where e^z is too large or too small for a float, each time for another reason."""
    trials = [
        (
            [[1000.0, 1001.0, 999.0]],
            [0],
            "the logits' maximum is not taken away before exp, and e^1000 overflows: p is the same without it",
        ),
        (
            [[1000.0, 1001.0, 999.0], [-1000.0, -1001.0, -999.0]],
            [0, 1],
            "the maximum is that of all logits: each row needs its own, max(axis=1, keepdims=True)",
        ),
        (
            [[0.0, 1000.0, 0.0]],
            [0],
            "a p too small for a float becomes 0, and log 0 is not finite: log p = z - max - log(sum of e^(z - max))",
        ),
    ]
    name = "large logits"
    line = exercise.line_of(_NAME, "log_p")
    for logits, labels, fault in trials:
        z, y = fixed(logits), fixed(labels)
        loss, vjp = exercise.call(_NAME, z, y, n=2)
        want, want_vjp = F.softmax_cross_entropy(z, y)
        gradient = exercise.returned(vjp, "vjp")
        if not (np.isfinite(loss).all() and np.isfinite(gradient).all()):
            return Finding(name, fault, line)
        capped = "a number is added inside the logarithm, and caps the loss: log p = z - max - log(sum of e^(z - max))"
        if not np.allclose(loss, want):
            return Finding(name, capped if loss < want else f"the loss is {loss:.6g}, and it must be {want:.6g}", line)
        if not np.allclose(gradient, want_vjp()):
            return Finding(name, "dlogits is wrong there, although it is right for small logits", line)
    return Finding(name)
