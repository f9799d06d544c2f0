"""What starting costs: importing xpnet and asking for help, against importing NumPy."""

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "import numpy": ["-c", "import numpy"],
    "import xpnet": ["-c", "import xpnet"],
    "xpnet --help": ["-m", "xpnet", "--help"],
}


def main(argv: list[str] | None = None) -> int:
    """Run each program in turn, each in a process of its own, and print the medians of the whole processes."""
    parser = argparse.ArgumentParser(prog="python -m bench startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(argv)
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for round_ in range(options.rounds + 1):
        for name, arguments in PROGRAMS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            if round_ > 0:
                times[name].append(time.perf_counter() - start)
    reference = statistics.median(times["import numpy"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:13} {1000 * median:5.0f} ms, {median / reference:.2f} times import numpy")
    return 0
