"""What a run is going to take, by some of its first steps on the device itself."""

import itertools
import statistics
import time
from typing import NamedTuple

from xpnet.training.loader import WINDOW_BYTES, Examples, bytes_of_row
from xpnet.training.loop import STEPS_PER_CALL, Loop, computing
from xpnet.training.run import Run

__all__ = ["Estimate", "estimate"]

LONG_ENOUGH = 0.5  # seconds of steps
FORWARD = 1 / 3  # of a step's arithmetic: to measure an example takes neither gradient, of inputs or weights


class Estimate(NamedTuple):
    """What a run is going to take.

    steps : of the run.   seconds : of these, and of measuring the other splits.   bytes : on the device at once.
    """

    steps: int
    seconds: float
    bytes: int


def estimate(run: Run, splits: dict[str, Examples], *, seconds: float = LONG_ENOUGH) -> Estimate:
    """Measure some steps of a run, which it does not take part in: they begin with copies.

    run, splits : as prepare returns them, with at least one step.   seconds : to measure for, at least.
    """
    train, batch = splits["train"], run.batch_size
    with computing(run):
        # Only on a device that captures or compiles them are several steps together faster.
        loop = Loop(run, train, 1 if run.backend.device == "cpu" else STEPS_PER_CALL)
        loop.set_rates(run.rates[:1])  # there may be more steps than the run has
        per_step = _seconds_per_step(run, loop, seconds)
        state = sum(array.nbytes for array in loop.arrays().values())
    measured = {name: examples.n for name, examples in splits.items() if name != "train"}
    once = 0 if run.config.test_each_epoch else measured.pop("test", 0)
    steps = run.n_steps * run.epochs
    measuring = FORWARD * per_step * (once + run.epochs * sum(measured.values())) / batch
    size = run.params[0].dtype.itemsize
    gradient = size * sum(p.size for p in run.params)
    # Of each layer its input, its output and the gradient of that.
    passing = size * batch * (run.network.sizes[0] + 3 * sum(run.network.sizes[1:]))
    row = bytes_of_row(train.images)
    examples = 2 * WINDOW_BYTES if loop.streamed else row * sum(examples.n for examples in splits.values())
    return Estimate(steps, steps * per_step + measuring, state + gradient + passing + examples)


def _seconds_per_step(run: Run, loop: Loop, seconds: float) -> float:
    """The median over all steps but the first call's, which may be compiled, for so many seconds or a single call."""
    found: list[float] = []
    began = last = steps = 0.0
    for epoch in itertools.count():
        for done in loop.epoch(epoch + 1):
            run.backend.synchronize()
            now, before = time.perf_counter(), steps
            steps = epoch * run.n_steps + done
            if not before:
                began = now
            else:
                # Not the mean: where others compute too, a single step may be held up longer than all the rest take.
                found += [(now - last) / (steps - before)] * int(steps - before)
                if now - began >= seconds:
                    return statistics.median(found)
            last = now
    raise AssertionError
