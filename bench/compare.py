"""What became slower from A to B, each a commit or a file of logged runs, with the noise.

A figure that was measured in turns with another is compared by their ratio, round by round, which leaves out what else
the machine did; any other by itself. The interval is a bootstrap's, of 99 %: runs are drawn with replacement, then
blocks of neighbouring rounds, since what disturbs a round disturbs the next ones too. A figure became slower if the
whole interval says so, by more than --least, and both sides have three runs or more: the rounds of a single run cannot
show how much whole runs differ. Measure A and B in turns.
"""

import argparse
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import xpnet
from bench._common import Parser
from bench._log import HISTORY, LOG, Entry, Figure, read_log

DRAWS, SURE = 2000, 0.99
RUNS = 3  # of each side, before a change is believed


class Change(NamedTuple):
    """How a figure of B compares with A's.

    name : of the figure.   ratio : of the medians, B / A; above 1 is worse.   low, high : the ends of its interval.
    rounds : of A and of B.   runs : likewise.   unit : of the figure.
    """

    name: str
    ratio: float
    low: float
    high: float
    rounds: tuple[int, int]
    runs: tuple[int, int]
    unit: str

    def verdict(self, least: float) -> str:
        """What can be told.   least : the share from which on a change counts."""
        told = ""
        if self.low > 1 and self.ratio > 1 + least:
            told = self.worse.upper()
        elif self.high < 1 and self.ratio < 1 / (1 + least):
            told = "faster" if self.worse == "slower" else "better"
        if told:
            return told if min(self.runs) >= RUNS else f"perhaps {told.lower()}"
        return "as before" if max(self.high, 1 / self.low) <= 1 + 2 * least else "cannot be told"

    @property
    def worse(self) -> str:
        """What more of it is."""
        return "slower" if self.unit in ("s", "ms", "us") else "worse"


def main(argv: list[str] | None = None) -> int:
    """Print a line for each figure that both have; returns 1 if any became slower."""
    parser = Parser(prog="python -m bench compare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("a", metavar="A", help="a commit, as git names it, or a .jsonl file")
    parser.add_argument("b", metavar="B", help="likewise")
    parser.add_argument("--least", type=float, default=3.0, help="percent that count; %(default)g by default")
    options = parser.parse_args(argv)
    if not 0 <= options.least <= 100:
        parser.error(f"--least must be from 0 to 100, not {options.least:g}")
    a, b = runs_of(options.a), runs_of(options.b)
    for difference in differences(a, b):
        print(difference)
    changes = compare(a, b)
    if not changes:
        raise xpnet.DataError(f"{options.a} and {options.b} have no figure in common")
    width = max(len(change.name) for change in changes)
    print(f"{'':{width}}  B / A  99 % interval    rounds")
    for change in changes:
        counts = " and ".join(f"{n} in {k}" for n, k in zip(change.rounds, change.runs, strict=True))
        interval = f"{change.low:.3f} to {change.high:.3f}"
        print(f"{change.name:{width}}  {change.ratio:.3f}  {interval}  {counts}: {change.verdict(options.least / 100)}")
    if any(min(change.runs) < RUNS for change in changes):
        print(f"fewer than {RUNS} runs of a side: two runs of the same code may differ by more than the interval says")
    return int(any(change.verdict(options.least / 100).isupper() for change in changes))


def runs_of(name: str) -> list[Entry]:
    """The runs that a commit or a file names.   Raises DataError if there are none."""
    if name.endswith(".jsonl"):
        found = read_log(Path(name))
    else:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        commit = asked or (name if re.fullmatch("[0-9a-f]{7,40}", name) else None)
        logged = [entry for path in (HISTORY, LOG) if path.exists() for entry in read_log(path)]
        found = [entry for entry in logged if commit and entry.commit.startswith(commit) and not entry.changed]
    if not found:
        raise xpnet.DataError(f"no run of {name} is logged: run python -m bench step, or another one, on it first")
    return found


def differences(a: Sequence[Entry], b: Sequence[Entry]) -> list[str]:
    """What the two were measured on that differs, in a line each."""

    def facts(entries: Sequence[Entry]) -> dict[str, str]:
        about: dict[str, set[str]] = {}
        for entry in entries:
            machine: dict[str, Any] = dict(entry.machine)
            versions = machine.pop("versions", {})
            for name, value in (machine | versions).items():
                if name != "xpnet":
                    about.setdefault(name, set()).add(str(value))
        return {name: " and ".join(sorted(values)) for name, values in about.items()}

    ours, theirs = facts(a), facts(b)
    names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    return [f"{name} differs: {ours.get(name, 'none')}, then {theirs.get(name, 'none')}" for name in names]


def compare(a: Sequence[Entry], b: Sequence[Entry]) -> list[Change]:
    """The changes of all figures that both have."""
    before, after = figures_of(a), figures_of(b)
    return [_change(name, before[name].runs, after[name].runs, after[name].unit) for name in before if name in after]


class Runs(NamedTuple):
    """A figure's rounds, run by run."""

    unit: str
    runs: list[NDArray[np.float64]]


def figures_of(entries: Sequence[Entry]) -> dict[str, Runs]:
    """The rounds of each figure; of those that took turns with another, in times of that one's."""
    found: dict[str, Runs] = {}
    for entry in entries:
        references = {figure.against for figure in entry.figures.values()}
        for name, figure in entry.figures.items():
            if name not in references:
                label, rounds = relative(name, figure, entry.figures)
                found.setdefault(f"{entry.measurement}: {label}", Runs(figure.unit, [])).runs.append(rounds)
    return found


def relative(name: str, figure: Figure, figures: dict[str, Figure]) -> tuple[str, NDArray[np.float64]]:
    """A figure's rounds in times of the figure that it took turns with, if there is one, and what to call them."""
    rounds = np.array(figure.rounds)
    other = figures.get(figure.against)
    if other is not None and len(other.rounds) == len(rounds):
        row, _, _ = name.rpartition(": ")
        name, rounds = f"{name} / {figure.against.removeprefix(f'{row}: ')}", rounds / np.array(other.rounds)
    return name, rounds


def drawn_medians(runs: Sequence[NDArray[np.float64]], rng: np.random.Generator) -> NDArray[np.float64]:
    """(DRAWS,) medians of rounds in blocks, of runs, all drawn with replacement; a short run is drawn as long as any.

    Source: Künsch 1989, for blocks; Politis and Romano 1992, for those that continue at the beginning.
    """
    sizes = np.array([len(run) for run in runs])
    first, longest = np.cumsum(sizes) - sizes, int(sizes.max())
    block = round(longest**0.5)
    which = rng.integers(len(runs), size=(DRAWS, len(runs), 1))
    starts = rng.integers(1 << 30, size=(DRAWS, len(runs), -(-longest // block), 1))
    places = (starts + np.arange(block)).reshape(DRAWS, len(runs), -1)[..., :longest] % sizes[which]
    medians: NDArray[np.float64] = np.median(np.concatenate(runs)[first[which] + places], axis=(1, 2))
    return medians


def interval(medians: NDArray[np.float64]) -> tuple[float, float]:
    """The ends of the middle 99 % of drawn medians, or of their ratios."""
    low, high = np.quantile(medians, ((1 - SURE) / 2, (1 + SURE) / 2))
    return float(low), float(high)


def _change(name: str, before: list[NDArray[np.float64]], after: list[NDArray[np.float64]], unit: str) -> Change:
    rng = np.random.default_rng(0)
    drawn, drawn_after = (drawn_medians(runs, rng) for runs in (before, after))
    ratio = float(np.median(np.concatenate(after)) / np.median(np.concatenate(before)))
    rounds = sum(map(len, before)), sum(map(len, after))
    return Change(name, ratio, *interval(drawn_after / drawn), rounds, (len(before), len(after)), unit)
