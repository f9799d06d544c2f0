"""The cost of starting: importing xpnet and asking for help, compared with importing NumPy; and one epoch of MNIST.

And of what comes around the steps of a small run: an epoch of 150 rows, by fit alone and as the command line trains it,
with a run directory and its progress; and a whole xpnet train on these, with curves.png and without.
"""

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import xpnet
from bench._common import Parser, TrainRun, train
from bench._log import note
from xpnet.backend import Backend

PROGRAMS = {
    "import numpy": ["-c", "import numpy"],
    "import xpnet": ["-c", "import xpnet"],
    "xpnet --help": ["-m", "xpnet", "--help"],
}

# xpnet as its users start it, but "without" drawing curves.png.
XPNET = """
import sys
if sys.argv.pop(1) == "without":
    sys.modules["matplotlib"] = None
from xpnet.__main__ import main
sys.exit(main())
"""

# What asking for help may take, in times of importing NumPy; and a run of one epoch: 1.5 times its training and a
# second, and 350 MB. Milliseconds of an epoch of 150 rows besides its steps, and seconds of curves.png.
HELP, FACTOR, EXTRA, MEMORY = 2.5, 1.5, 1.0, 350
EPOCH, PICTURE = 0.5, 0.3


def main(argv: list[str] | None = None) -> int:
    """Run each program in turn, each in a process of its own, and print the medians of the whole processes."""
    parser = Parser(prog="python -m bench startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--data", default="mnist", help="the set that the epoch is trained on; %(default)s by default")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for round_ in range(options.rounds + 1):
        for name, arguments in PROGRAMS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            if round_ > 0:
                times[name].append(time.perf_counter() - start)
    reference = statistics.median(times["import numpy"])
    for name, seconds in times.items():
        note(name, seconds, "s", against="import numpy" if name != "import numpy" else "")
        median = statistics.median(seconds)
        print(f"{name:13} {1000 * median:5.0f} ms, {median / reference:.2f} times import numpy")
    quick = statistics.median(times["xpnet --help"]) < HELP * reference
    print(f"  xpnet --help is {'less' if quick else 'NOT LESS'} than {HELP:g} times")
    return max(_print_small(options.rounds), _print_train(options.data), 0 if quick else 1)


def _print_small(rounds: int) -> int:
    """What a small run takes besides its steps."""
    around: dict[str, list[float]] = {"fit": [], "with a directory": []}
    whole: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        table = Path(folder) / "rows.csv"
        X, y = _table()
        table.write_text("".join(f"{','.join(map(str, row))},{label}\n" for row, label in zip(X, y, strict=True)))
        for round_ in range(rounds):
            for name, milliseconds in around.items():
                milliseconds.append(1000 * around_steps(directory=name != "fit"))
            for name, seconds in whole.items():
                out = Path(folder) / f"{name}-{round_}"
                start = time.perf_counter()
                command = [sys.executable, "-c", XPNET, name, "train", "--data", str(table), "--out", str(out)]
                subprocess.run(command, check=True, capture_output=True)
                seconds.append(time.perf_counter() - start)
    for name, milliseconds in around.items():
        note(f"an epoch of 150 rows, {name}", milliseconds, "ms")
        print(f"an epoch of 150 rows besides its steps, {name}: {statistics.median(milliseconds):.3f} ms")
    for name, seconds in whole.items():
        against = "train 150 rows, without curves.png" if name == "with" else ""
        note(f"train 150 rows, {name} curves.png", seconds, "s", against=against)
    complete, picture = (
        statistics.median(whole["with"]),
        statistics.median(np.subtract(whole["with"], whole["without"])),
    )
    print(f"xpnet train on 150 rows: {complete:.2f} s in all, {picture:.2f} s for curves.png")
    short, soon = statistics.median(around["with a directory"]) < EPOCH, picture < PICTURE
    print(f"  the epoch is {'less' if short else 'NOT LESS'} than {EPOCH:g} ms")
    print(f"  curves.png takes {'less' if soon else 'NOT LESS'} than {PICTURE:g} s")
    return 0 if short and soon else 1


def _table() -> tuple[np.ndarray, np.ndarray]:
    """Of the size of Fisher's irises: (150, 4) features, (150,) labels."""
    return np.random.default_rng(0).normal(size=(150, 4)), np.arange(150) % 3


def around_steps(*, directory: bool, epochs: int = 200) -> float:
    """Seconds of an epoch of 150 rows, a fifth of them held out, besides those of its steps: the median of a run's.

    directory : whether with a run directory, and progress in plain lines.
    """
    data = xpnet.Dataset.from_arrays(*_table())
    marks = _Marks()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, marks.watching():
        xpnet.fit(
            xpnet.MLP((4, 100, 3)),
            data,
            epochs=epochs,
            validation=0.2,
            batch_size=64,
            device="cpu",
            callbacks=[marks, *([xpnet.Progress(io.StringIO())] if directory else [])],
            progress=False,
            out=Path(folder) / "run" if directory else None,
        )
    return statistics.median(b - a for a, b in pairwise(marks.ends))


class _Marks(xpnet.Callback):
    """Notes when epochs end, by a clock that stands still within steps, of training or evaluation."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self._within = 0.0

    def on_epoch(self, run: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter() - self._within)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A context in which the CPU's backends compile steps that stop the clock."""

        def compiled(backend: Backend, step: Callable[..., Any], steps: int = 1) -> Callable[..., Any]:
            compute = compile_(backend, step, steps)

            def watched(*arguments: Any) -> Any:
                start = time.perf_counter()
                found = compute(*arguments)
                self._within += time.perf_counter() - start
                return found

            return watched

        backend = type(xpnet.select("cpu"))
        compile_ = backend.compile
        with patch.object(backend, "compile", compiled):
            yield


def _print_train(data: str) -> int:
    """A whole run of one epoch, the median of three by its wall time."""
    try:
        runs = sorted(train(["--data", data]) for _ in range(3))
        note(f"train {data}: seconds", [run.seconds for run in runs], "s")
        note(f"train {data}: memory", [run.memory for run in runs], "MB")
    except xpnet.DataError as error:
        print(f"xpnet train: not measured: {error}")
        return 0
    return _judge(data, runs[1])


def _judge(data: str, run: TrainRun) -> int:
    wall, training, _, memory, _ = run
    print(
        f"xpnet train --data {data} --epochs 1: {wall:.2f} s in all, {training:.2f} s of training, "
        f"{wall / training:.2f} times; peak memory {memory:.0f} MB"
    )
    allowed = FACTOR * training + EXTRA
    quick, small = wall < allowed, not memory >= MEMORY
    allowance = f"{FACTOR:g} x {training:.2f} + {EXTRA:g} = {allowed:.2f} s"
    print(f"  {wall:.2f} s is {'less' if quick else 'NOT LESS'} than {allowance}")
    print(f"  {memory:.0f} MB is {'less' if small else 'NOT LESS'} than {MEMORY} MB")
    return 0 if quick and small else 1
