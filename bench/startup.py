"""The cost of starting: importing xpnet and asking for help, compared with importing NumPy; and one epoch of MNIST."""

import statistics
import subprocess
import sys
import time

import xpnet
from bench._common import Parser, TrainRun, train
from bench._log import note

PROGRAMS = {
    "import numpy": ["-c", "import numpy"],
    "import xpnet": ["-c", "import xpnet"],
    "xpnet --help": ["-m", "xpnet", "--help"],
}

# What asking for help may take, in times of importing NumPy; and a run of one epoch: 1.5 times its training and a
# second, and 350 MB.
HELP, FACTOR, EXTRA, MEMORY = 2.5, 1.5, 1.0, 350


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
    return max(_print_train(options.data), 0 if quick else 1)


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
