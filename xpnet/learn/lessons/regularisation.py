"""Lesson 8: dropout, and an honest choice."""

from collections.abc import Iterator

import numpy as np

from xpnet.learn.exercise import Exercise, Finding, Host, fixed

__all__ = ["check_choose", "check_dropout", "check_split"]


def check_dropout(exercise: Exercise) -> Iterator[Finding]:
    """Both ways while training, and in use."""
    rng = np.random.default_rng(15)
    rate = 0.3
    x, uniforms, dy = fixed(rng.normal(size=(6, 5))), fixed(rng.random((6, 5))), fixed(rng.normal(size=(6, 5)))
    kept = (uniforms >= rate) * 1.0
    mask = kept / (1 - rate)
    above, below = x * (uniforms > 1 - rate), x * (uniforms <= 1 - rate)
    y, vjp = exercise.call("dropout", x, uniforms, rate, True, n=2)
    unscaled = "1 / (1 - rate) is missing: without it, in use, all sums are larger than the next layer is used to"
    mistakes = [
        (unscaled, x * kept),
        ("the mask has the wrong side: what is below rate is dropped", x * (1 - kept) / (1 - rate)),
        ("the mask has the wrong side, and is scaled to fit: drop what is below rate", x * (1 - kept) / rate),
        ("the mask has the wrong side, and 1 / (1 - rate) is missing", x * (1 - kept)),
        ("that scales by 1 / rate: the share that stays is 1 - rate", x * kept / rate),
        ("rate is the share that goes, not the one that stays: keep where uniforms >= rate", above / rate),
        ("keep where uniforms >= rate: the share is right, but other elements are dropped", below / (1 - rate)),
        ("that scales by 1 - rate: divide by it, so that the mean stays", x * kept * (1 - rate)),
        ("nothing is dropped, although training is True", x),
        ("that is the mask alone: y = x m", mask),
    ]  # fmt: skip
    first = exercise.compare("dropout", "y", y, x * mask, mistakes)
    if first.fault and not any(first.fault == text for text, _ in mistakes) and isinstance(y, np.ndarray):
        other, _ = exercise.call("dropout", x, uniforms, rate, True, n=2)
        if isinstance(other, np.ndarray) and other.shape == y.shape and (other != y).any():
            first = first._replace(
                fault="it draws numbers of its own: take the uniforms, so that a run can be repeated"
            )
    yield first

    dx = exercise.returned(vjp, "vjp", dy)
    mistakes = [
        ("the mask is missing on the way back: what was dropped gets no gradient", dy),
        ("the mask is missing on the way back: what was dropped gets no gradient", dy / (1 - rate)),
        ("1 / (1 - rate) is missing on the way back: dx = dy m, with the same m", dy * kept),
        ("the mask has the wrong side on the way back: dx = dy m, with the same m", dy * (1 - kept) / (1 - rate)),
        ("the mask has the wrong side on the way back: dx = dy m, with the same m", dy * (1 - kept)),
        ("that is the mask alone: dx = dy m", mask),
        ("that has y in it: dx = dy m", dy * x * mask),
        ("that has x in it: dx = dy m", dy * x),
    ]
    second = exercise.compare("dropout/vjp", "dx", dx, dy * mask, mistakes)
    same = np.shape(dx) == np.shape(y) and np.array_equal(np.asarray(dx) == 0, np.asarray(y) == 0)
    if (
        second.fault
        and not any(second.fault == text for text, _ in mistakes)
        and isinstance(dx, np.ndarray)
        and not same
    ):
        second = second._replace(
            fault="the way back has another mask than the way forward: draw nothing there, use the same m"
        )
    yield second

    y, vjp = exercise.call("dropout", x, uniforms, rate, False, n=2)
    mistakes = [
        ("it drops in use as well: where training is False, y = x", x * mask),
        ("it drops in use as well: where training is False, y = x", x * kept),
        ("it scales in use as well: 1 / (1 - rate) while training has done that already, so y = x", x * (1 - rate)),
        ("it scales in use as well: where training is False, y = x", x / (1 - rate)),
        ("in use everything is dropped: where training is False, y = x", 0 * x),
    ]
    used = exercise.compare("dropout", "y", y, x, mistakes)._replace(what="y in use")
    yield used
    if not used.fault:
        back = exercise.compare(
            "dropout/vjp",
            "dx",
            exercise.returned(vjp, "vjp", dy),
            dy,
            [("the mask is there on the way back, although nothing was dropped: dx = dy", dy * mask)],
        )
        yield back._replace(what="dx in use")


def check_split(exercise: Exercise) -> Iterator[Finding]:
    """A division of a hundred examples."""
    n, n_validation = 100, 20
    train, validation = exercise.call("split", n, n_validation, np.random.default_rng(16), n=2)
    for name, value in (("train", train), ("validation", validation)):
        if (
            value is Ellipsis
            or value is None
            or np.asarray(value).ndim != 1
            or np.asarray(value).dtype.kind not in "iu"
        ):
            size = n_validation if name == "validation" else n - n_validation
            text = (
                f"{name} is not filled in yet"
                if value is Ellipsis
                else f"{name} must be an array of {size} example numbers"
            )
            yield Finding(name, text, exercise.line_of("split", name))
    if any(value is Ellipsis or np.asarray(value).ndim != 1 for value in (train, validation)):
        return
    again, _ = exercise.call("split", n, n_validation, np.random.default_rng(16), n=2)
    fault = next(_faults(np.asarray(train), np.asarray(validation), np.asarray(again), n, n_validation), "")
    yield Finding("split", fault, exercise.line_of("split", "validation"))


def _faults(train: Host, validation: Host, again: Host, n: int, n_validation: int) -> Iterator[str]:
    """What is wrong with a division of n examples; only the first is known to be true."""
    both = np.intersect1d(train, validation)
    if len(validation) == n - n_validation and len(train) == n_validation:
        yield f"the two are exchanged: {n_validation} examples are for validation"
    if len(both):
        yield f"{len(both)} examples are in both: a network that has seen them in training is no judge of itself"
    if len(validation) != n_validation:
        yield f"validation has {len(validation)} examples, and must have {n_validation}"
    missing = np.setdiff1d(np.arange(n), np.concatenate([train, validation]))
    if len(missing):
        yield f"{len(missing)} examples are in neither, such as {missing[0]}"
    if len(train) != n - n_validation:
        yield f"train has {len(train)} examples, and must have {n - n_validation}"
    if len(np.unique(np.diff(np.sort(validation)))) == 1:
        yield "validation is a stretch of neighbours: files are often sorted, so take it from rng.permutation(n)"
    if not np.array_equal(train, again):
        yield "the same rng gives another split each time: draw from rng, or no run can be repeated"


def check_choose(exercise: Exercise) -> Iterator[Finding]:
    """Of four networks, another one is best on each set."""
    validation, test = fixed([97.1, 98.4, 98.2, 97.9]), fixed([97.3, 98.0, 98.6, 97.5])
    best, report = exercise.call("choose", validation, test, n=2)
    seen = (
        "the test set has chosen: once it has, its accuracy flatters; choose by validation, and look at the test once"
    )
    mistakes = [
        (seen, 2),
        ("that is the worst one: take the highest accuracy", 0),
        ("that is the worst one: take the highest accuracy", int(test.argmin())),
        ("that is the accuracy: best is the number of the network, np.argmax", 98.4),
        (seen, int((validation + test).argmax())),
    ]
    yield exercise.compare("choose", "best", best, 1, mistakes)
    # The report belongs to whatever network was chosen.
    taken = int(best) if np.ndim(best) == 0 and best in (0, 1, 2, 3) else 1
    mistakes = [
        (
            "that is the validation's accuracy: it has chosen, and flatters by that; report the test's",
            validation[taken],
        ),
        ("that is the best of the test's accuracies: report that of the network which validation has chosen", 98.6),
        ("that is the mean of the two: report the test's accuracy", (validation[taken] + test[taken]) / 2),
        ("that is the mean over all networks: report the test's accuracy of the one that is chosen", test.mean()),
    ]
    yield exercise.compare("choose", "report", report, test[taken], mistakes)
