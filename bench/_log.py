"""What a run of a measurement leaves behind: a line of JSON, by which runs are compared, and drawn over time.

The lines go to bench/results/log.jsonl, which git ignores, or to the file that XPNET_BENCH_LOG names; an empty name
keeps none. Lines that are to last are moved by hand to bench/results/history.jsonl.
"""

import json
import math
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import xpnet
from bench._common import machine
from xpnet.files import read_whole
from xpnet.platforms import open_descriptor

RESULTS = Path(__file__).parent / "results"
LOG, HISTORY = RESULTS / "log.jsonl", RESULTS / "history.jsonl"
ENVIRONMENT = "XPNET_BENCH_LOG"
LARGEST = 1 << 26  # bytes of a log


class Figure(NamedTuple):
    """What was measured in each round; less is better.

    rounds : the numbers, in the order of the rounds, such as microseconds.   unit : of them.
    against : the figure that was measured in turns with this one, so that the ratio by rounds leaves out what else the
        machine did, or "".
    """

    rounds: list[float]
    unit: str
    against: str = ""


class Entry(NamedTuple):
    """A run of a measurement.

    measurement : its name.   arguments : of its command.   time : when it ended, in UTC.   commit : of the xpnet that
    was measured, "" if it is not known.   changed : whether xpnet differs from that commit.   machine : as machine()
    says.   seconds : that the command took.   status : its exit code.   figures : what was measured, by name.
    """

    measurement: str
    arguments: list[str]
    time: str
    commit: str
    changed: bool
    machine: dict[str, Any]
    seconds: float
    status: int
    figures: dict[str, Figure]


_noted: dict[str, Figure] = {}


def note(name: str, rounds: Iterable[float], unit: str, *, against: str = "") -> None:
    """Have a figure in this run's line; one that could not be measured, without a round, is left out."""
    numbers = [float(f"{each:.5g}") for each in rounds if math.isfinite(each)]
    if numbers:
        _noted[name] = Figure(numbers, unit, against)


def begin() -> float:
    """Forget the figures of earlier runs; returns the time, for write_line."""
    _noted.clear()
    return time.perf_counter()


def write_line(measurement: str, arguments: Sequence[str], start: float, status: int) -> Path | None:
    """Add the line of this run, if it has a figure, to the log.   start : of the run, as begin returned it.

    Returns the log; None if nothing was written.   Raises OSError.
    """
    path = os.environ.get(ENVIRONMENT, str(LOG))
    figures = {name: figure._asdict() for name, figure in _noted.items()}
    if not figures or not path:
        return None
    commit, changed = _commit()
    seconds, now = round(time.perf_counter() - start, 1), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry = Entry(measurement, list(arguments), now, commit, changed, machine(), seconds, status, {})
    line = json.dumps(entry._asdict() | {"figures": figures}, separators=(",", ":")) + "\n"
    # In one piece, so that two runs cannot mix their lines.
    descriptor = open_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
    return Path(path)


def read_log(path: Path) -> list[Entry]:
    """The runs in a log, in its order.   Raises DataError for a file that is none."""
    try:
        text = read_whole(path, LARGEST).decode()
        return [_entry(json.loads(line)) for line in text.splitlines() if line]
    except OSError as error:
        raise xpnet.DataError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise xpnet.DataError(f"{path} is not a log of bench ({type(error).__name__}: {error})") from None


def _entry(fields: dict[str, Any]) -> Entry:
    figures = {name: Figure(**figure) for name, figure in fields.pop("figures").items()}
    for figure in figures.values():
        if not figure.rounds or not all(isinstance(each, int | float) for each in figure.rounds):
            raise ValueError("a figure without numbers")
    return Entry(**fields, figures=figures)


def _commit() -> tuple[str, bool]:
    """The commit of the xpnet that is imported, and whether its files differ from it."""
    package = Path(xpnet.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError):
        return "", False
