"""xpnet runs."""

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from xpnet.cli.terminal import fill, print_table, result_console, say
from xpnet.display import duration
from xpnet.errors import one_line
from xpnet.platforms import quoted
from xpnet.studies.runs import RunInfo, best_of, read_runs

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["as_dict", "runs", "score_of", "time_of"]

COLUMNS = ("run", "date", "data", "network", "epochs", "score", "time", "state")
RIGHT = {"epochs", "score", "time"}
# What a terminal that is too narrow for all does without, in this order; the names that xpnet gives hold the date.
LESS = ("date", "network", "epochs", "data", "time", "state")
STYLES = {"running": "green", "failed": "red", "unreadable": "red"}
SHORT = {"test": "", "validation": "val", "train": "train"}
MOST = 40  # characters of a cell, beyond which it is shortened

ORDERS: dict[str, Any] = {
    "date": lambda run: run.began,
    "name": lambda run: run.path.name,
    "data": lambda run: run.data,
    "network": lambda run: run.network,
    "epochs": lambda run: run.epochs,
    "accuracy": lambda run: (run.accuracy is not None, -math.inf if run.score is None else run.score),
    "time": lambda run: run.seconds or 0.0,
    "state": lambda run: run.state,
}


def runs(
    folder: Annotated[Path, Parameter(help="Folder of run directories.")] = Path("runs"),
    /,
    *,
    sort: Annotated[
        Literal["date", "name", "data", "network", "epochs", "accuracy", "time", "state"],
        Parameter(help="Order of the lines; the newest, the best or the longest comes last."),
    ] = "date",
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
) -> None:
    """List the runs in a folder: date, data, network, epochs, score, time, state.

    The score is the test accuracy, or that of validation (val) or training,
    where the run has no other; R2 of a regression. A star marks the best of
    several runs that can be compared: those of the same data and split.
    """
    # Before the first run, its default folder is not there, which is no fault.
    found = [] if folder == Path("runs") and not folder.exists() else read_runs(folder)
    found.sort(key=lambda run: (ORDERS[sort](run), run.began, str(run.path)))
    best = best_of(found)
    if as_json:
        print(json.dumps([as_dict(run) | {"best": run.path in best} for run in found], indent=2))
    elif not found:
        print(f"no runs in {one_line(str(folder))}; xpnet train makes one")
    else:
        _print(folder, found, best, result_console())


def as_dict(run: RunInfo) -> dict[str, Any]:
    """A run for JSON."""
    names = ("network", "data", "epochs", "planned", "seconds", "split", "accuracy", "r2", "loss", "state", "reason")
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(run.began))
    return {"path": str(run.path), "began": began, **{name: getattr(run, name) for name in names}}


def score_of(run: RunInfo) -> str:
    """A run's score in words, with its split if that is not test: "val 96.67 %", "R2 0.4685"; "" if there is none."""
    if run.score is None:
        return ""
    r2 = f"{run.score:.4f}" if run.score > -100 else f"{run.score:.3g}"
    score = f"R2 {r2}" if run.accuracy is None else f"{100 * run.accuracy:.2f} %"
    return f"{SHORT[run.split]} {score}".strip()


def time_of(seconds: float) -> str:
    """A time of training in words, to two digits where it is short."""
    return f"{seconds:.{1 + (seconds < 1)}f} s" if seconds < 10 else duration(seconds)


def _print(folder: Path, found: Sequence[RunInfo], best: set[Path], console: "Console") -> None:
    rows = [_cells(folder, run, " *" if run.path in best else "  " * bool(best)) for run in found]
    styles = ["bold" if run.path in best else STYLES.get(run.state, "") for run in found]
    print_table(rows, COLUMNS, console, right=RIGHT, less=LESS, styles=styles)
    for run in found:
        if run.state in ("failed", "unreadable"):
            print(fill(f"{one_line(str(run.path))}: {run.reason}"), file=sys.stderr)
    if console.is_terminal and (following := _next(found, best)):
        say(f"{'* best of its data and split; ' * bool(best)}next: {following}", console, style="dim")


def _cells(folder: Path, run: RunInfo, mark: str) -> dict[str, str]:
    planned = "" if run.planned in (None, run.epochs) else f"/{run.planned}"
    return {
        "run": one_line(str(run.path if run.path == folder else run.path.relative_to(folder))),
        "date": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.began)),
        "data": _short(os.path.basename(run.data.rstrip("/\\")) or run.data),
        "network": _short(_grouped(run.network)),
        "epochs": f"{run.epochs}{planned}" if run.history or run.planned else "",
        "score": score_of(run) and score_of(run) + mark,
        "time": "" if run.seconds is None else time_of(run.seconds),
        "state": run.state,
    }


def _grouped(network: str) -> str:
    """A network in words, with three or more equal widths in a row counted: 784-9x1000-10."""
    sizes, blank, rest = network.partition(" ")
    rows = (list(same) for _, same in groupby(sizes.split("-")))
    return "-".join(f"{len(row)}x{row[0]}" if len(row) > 2 else "-".join(row) for row in rows) + blank + rest


def _short(text: str) -> str:
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."


def _next(found: Sequence[RunInfo], best: set[Path]) -> str:
    """A command that one may want now."""
    for run in reversed(found):
        if run.state == "interrupted" and not run.reason:
            return f"xpnet train --resume {quoted(run.path)}"
    if not best or len(found) < 2:
        return ""
    first = next(run for run in found if run.path in best)
    others = [run for run in found if run is not first and (run.data, run.split) == (first.data, first.split)]
    other = max(others, key=lambda run: run.began)
    return f"xpnet compare {quoted(first.path)} {quoted(other.path)}"
