"""A picture of the logged runs over time: what took turns with another figure, commit by commit, with the noise.

It shows the lines of bench/results/history.jsonl, or of the files that are named. A dot is the median of all rounds of
a commit on one kind of machine; the bar is its interval of 99 %, as python -m bench compare draws it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import xpnet
from bench._common import SMALL, Parser
from bench._log import HISTORY, Entry, read_log
from bench.compare import Runs, drawn_medians, figures_of, interval
from xpnet.checks import required
from xpnet.plots import format_of, save
from xpnet.plots.style import LIGHT, settings


class Point(NamedTuple):
    """A commit's figure: the median, and the ends of its interval."""

    commit: str
    low: float
    median: float
    high: float


Lines = dict[str, dict[str, list[Point]]]
"""By figure, and by machine: its points in the order of time."""


def main(argv: list[str] | None = None) -> int:
    """Draw the picture."""
    parser = Parser(prog="python -m bench over_time", description=__doc__)
    parser.add_argument("logs", nargs="*", type=Path, default=[HISTORY], metavar="FILE", help="logs; .jsonl")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the picture, .svg, .png or .pdf")
    options = parser.parse_args(argv)
    format_of(options.out)
    required("matplotlib", "python -m bench over_time", "plot")
    entries = [entry for path in options.logs for entry in read_log(path)]
    lines, commits = lines_of(entries)
    if not lines:
        raise xpnet.DataError("nothing to draw: these runs have no figure that took turns with another")
    draw_over_time(options.out, lines, commits)
    return 0


def lines_of(entries: Sequence[Entry]) -> tuple[Lines, dict[str, str]]:
    """The figures that took turns with another, of runs whose commit is known; and the commits' dates, in their order.

    A commit's date is that of its first run.
    """
    entries = sorted((entry for entry in entries if entry.commit and not entry.changed), key=lambda entry: entry.time)
    commits: dict[str, str] = {}
    for entry in entries:
        commits.setdefault(entry.commit, entry.time[:10])
    lines: Lines = {}
    for commit in commits:
        own = [entry for entry in entries if entry.commit == commit]
        for machine in dict.fromkeys(map(_machine, own)):
            for name, figure in figures_of([entry for entry in own if _machine(entry) == machine]).items():
                if " / " in name:
                    lines.setdefault(name, {}).setdefault(machine, []).append(_point(commit, figure))
    return lines, commits


def draw_over_time(path: Path, lines: Lines, commits: dict[str, str]) -> None:
    """Draw a panel for each figure and, in it, a line for each kind of machine."""
    import matplotlib
    from matplotlib.figure import Figure

    machines = list(dict.fromkeys(machine for by_machine in lines.values() for machine in by_machine))
    places = {commit: i for i, commit in enumerate(commits)}
    width, left, across, high, above, below = 7.6, 0.7, 6.6, 1.2, 0.42, 0.2  # in inches
    height = 0.45 + len(lines) * (above + high + below) + 0.5
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings() | {"axes.grid.axis": "y"})
        figure = Figure(figsize=(width, height), facecolor="white")
        figure.text(0.2 / width, 1 - 0.13 / height, "xpnet over time: less is better", size=11, weight="bold", va="top")
        top = height - 0.45
        for name, by_machine in lines.items():
            top -= above + high
            axes = figure.add_axes((left / width, top / height, across / width, high / height))
            for machine, points in by_machine.items():
                x, color = [places[point.commit] for point in points], LIGHT.runs[machines.index(machine) % 10]
                _, lows, medians, highs = zip(*points, strict=True)
                axes.vlines(x, lows, highs, color=color, lw=1.0)
                axes.plot(x, medians, "o-", color=color, ms=4, label=machine)
            axes.set_title(name, size=9, loc="left")
            axes.set(xlim=(-0.5, len(commits) - 0.5))
            axes.set_ylim(bottom=0)
            axes.set_xticks(range(len(commits)), [])
            top -= below
        axes.set_xticks(range(len(commits)), [f"{commit[:7]}\n{date}" for commit, date in commits.items()], size=SMALL)
        axes.legend(loc="lower right", fontsize=SMALL, frameon=False)
        save(figure, path)


def _machine(entry: Entry) -> str:
    facts = [f"{entry.machine['cpu']}, {entry.machine['cores']} CPUs, {entry.machine['system']}"]
    return ", ".join([*facts, *([entry.machine["blas"]] if "blas" in entry.machine else [])])


def _point(commit: str, figure: Runs) -> Point:
    low, high = interval(drawn_medians(figure.runs, np.random.default_rng(0)))
    rounds: NDArray[np.float64] = np.concatenate(figure.runs)
    return Point(commit, low, float(np.median(rounds)), high)
