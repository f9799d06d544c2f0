"""Shared by the measurements: the command line, the machine, figures, xpnet train as a user runs it, and a chart."""

import argparse
import contextlib
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import xpnet
from xpnet.checks import required
from xpnet.data import Dataset, Split
from xpnet.distributed.about import computes_with
from xpnet.files import write_atomically
from xpnet.plots import format_of, save
from xpnet.plots.style import LIGHT, settings
from xpnet.training.history import read_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PACKAGES = ("numpy", "torch", "scikit-learn", "scipy", "jax", "jaxlib", "threadpoolctl")


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


class Spread(NamedTuple):
    """The median of some numbers and the ends of their middle half."""

    low: float
    median: float
    high: float


class Panel(NamedTuple):
    """A part of a chart: what each system took, and, if known, the least that any could take, and what sets it."""

    title: str
    systems: dict[str, Spread]
    floor: float | None
    floor_is: str


class TrainRun(NamedTuple):
    """A run of xpnet train: seconds in all and of training, images per second, peak memory in MB, and its header."""

    seconds: float
    training: float
    rate: float
    memory: float
    header: str


def parse(
    parser: Parser,
    argv: list[str] | None,
    *,
    systems: Collection[str],
    rows: Collection[str],
    rounds: int,
    data: str = "mnist",
) -> argparse.Namespace:
    """Parse the command line of a comparison of systems, whose parser gets the options that all of them have.

    systems, rows, rounds, data : what is measured by default.
    Raises ConfigError or MissingPackageError if the chart cannot be drawn.
    """
    parser.add_argument("--data", default=data, help="name or path of a data set; %(default)s by default")
    parser.add_argument("--rows", nargs="+", default=list(rows), metavar="ROW", help="such as 784-128-10@64")
    parser.add_argument("--systems", nargs="+", default=list(systems), metavar="SYSTEM", help=", ".join(systems))
    parser.add_argument("--rounds", type=int, default=rounds, help="epochs that count; %(default)s by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw a chart, as .png, .svg or .pdf")
    options = parser.parse_args(argv)
    for name in options.systems:
        if name not in systems:
            parser.error(f"unknown system {name!r}; the choices are {', '.join(systems)}")
    for name in options.rows:
        if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)+@[1-9]\d*", name):
            parser.error(f"a row is widths@batch size, such as 784-128-10@64, not {name!r}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    for path in (options.json, options.chart):
        if path is not None and not path.parent.is_dir():
            parser.error(f"{path}: there is no folder {path.parent}")
    if options.chart is not None:
        format_of(options.chart)
        required("matplotlib", "--chart", "plot")
    return options


def network_of(row: str, data: Dataset) -> tuple[xpnet.MLP, int]:
    """The network and the batch size of a row; raises ConfigError if it does not fit the data."""
    widths, _, batch_size = row.partition("@")
    network = xpnet.MLP(tuple(map(int, widths.split("-"))))
    if network.sizes[0] != data.n_features or network.sizes[-1] < data.n_classes:
        raise xpnet.ConfigError(f"{row} does not fit {data.name}: {data.n_features} pixels, {data.n_classes} classes")
    return network, int(batch_size)


def first(data: Dataset, n: int, *, test: bool = False) -> Dataset:
    """The first n training images, and the test images if wanted, but nothing else."""
    train, tested = Split(data.train.images[:n], data.train.labels[:n]), data.test if test else None
    return Dataset(data.name, train, tested, n_classes=data.n_classes, source=data.source)


def spread(numbers: list[float]) -> Spread:
    """Of one number or more."""
    if len(numbers) < 2:
        return Spread(*3 * numbers)
    return Spread(*statistics.quantiles(numbers, n=4, method="inclusive"))


def apart(losses: Sequence[float | None], others: Sequence[float | None]) -> float:
    """The largest relative difference; infinite where a loss is not a number."""
    pairs = zip(losses, others, strict=True)
    found = [abs(a / b - 1) if a is not None and b else math.inf for a, b in pairs]
    return math.inf if any(map(math.isnan, found)) else max(found)


def seconds_to(epochs: Sequence[tuple[float, float]], target: float) -> float:
    """Seconds of training to the end of the first epoch that reaches an accuracy; infinite if none does.

    epochs : of each its seconds and its accuracy in [0, 1].   target : in percent.
    """
    total = 0.0
    for seconds, accuracy in epochs:
        total += seconds
        if round(100 * accuracy, 6) >= target:
            return total
    return math.inf


def three(number: float) -> str:
    """A number above 0 with three digits or more, and never a power of ten."""
    return f"{number:,.{max(0, 2 - math.floor(math.log10(number)))}f}"


def machine() -> dict[str, Any]:
    """Where and with what a measurement is made."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {"xpnet": xpnet.__version__} | versions,
        "blas": _blas(),
    }


def _blas() -> str:
    """NumPy's BLAS and its kernel; one that is not this CPU's, forced by OPENBLAS_CORETYPE, may take twice as long."""
    found = computes_with()
    forced = ", as OPENBLAS_CORETYPE demands" if os.environ.get("OPENBLAS_CORETYPE") else ""
    return f"{found['BLAS']}, its kernel for {found['BLAS kernel']}{forced}"


def print_machine(about: dict[str, Any]) -> None:
    """Print it in three lines."""
    print(f"{about['cpu']}, {about['cores']} CPUs, {about['system']}")
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    print(f"Python {about['python']}, {versions}")
    print(f"NumPy multiplies with {about['blas']}")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write what was measured, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


@contextlib.contextmanager
def two_cpus() -> Iterator[list[int]]:
    """A context whose child processes run on two CPUs, from two cores where there are; gives those, or [] if it can't.

    Before a library is imported, so that it sizes its pool of threads by them.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows have no affinity
        yield []
        return
    first, *others = sorted(allowed)
    topology = Path(f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    siblings = _numbers(topology.read_text()) if topology.exists() else set()
    second = [cpu for cpu in others if cpu not in siblings] or others
    chosen = [first, *second[:1]]
    os.sched_setaffinity(0, chosen)
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)


def _numbers(text: str) -> set[int]:
    """The CPUs of a list as Linux writes it: 0,64 or 0-1."""
    ranges = [[int(end) for end in part.split("-")] for part in text.strip().split(",")]
    return {cpu for ends in ranges for cpu in range(ends[0], ends[-1] + 1)}


def train(arguments: list[str]) -> TrainRun:
    """Run xpnet train for one epoch, in a process of its own.

    The memory is not a number where the system doesn't tell. This process must stay small: Linux counts the memory of
    the one that started a process in the peak of that process.   Raises DataError with what xpnet says if it fails.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        out = Path(folder) / "run"
        command = ["-m", "xpnet", "train", *arguments, "--no-download", "--epochs", "1", "--out", str(out)]
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=errors)
        memory = float("nan")
        try:
            if hasattr(os, "wait4"):  # of this one process: getrusage would tell the largest of all
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                memory = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
            code, seconds = process.wait(), time.perf_counter() - start
        finally:
            process.kill()  # on Ctrl-C it would finish its epoch
        errors.seek(0)
        said = errors.read()
        if code:
            *_, last = said.strip().splitlines() or [f"exit code {code}"]
            raise xpnet.DataError(last.removeprefix("xpnet: error: "))
        (epoch,) = read_history(out)
        return TrainRun(seconds, epoch.seconds, epoch.samples_per_second, memory, said)


def peak_memory() -> float:
    """This process's largest resident set so far, in MB; not a number where the system doesn't tell."""
    try:
        import resource
    except ModuleNotFoundError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


# Drawing --------------------------------------------------------------------------------------------------------------

OWN, OTHER_LIBRARY, PEER, FLOOR = LIGHT.splits["test"], "#8CBEDD", "#A3ADB8", LIGHT.splits["validation"]
SMALL = 8.0


def draw(path: Path, title: str, caption: str, panels: list[Panel], *, own: str, unit: str, per: str) -> None:
    """Draw a panel for each row: bars, the shortest first, and a line at the floor.

    own : the system that the others are compared with.   unit, per : of the numbers, such as "s" per "epoch".
    """
    import matplotlib
    from matplotlib.figure import Figure

    # In inches.
    width, left, across, bar, above, below, header = 7.6, 1.6, 3.9, 0.235, 0.5, 0.56, 0.55
    heights = [bar * max(1, len(panel.systems)) for panel in panels]
    height = header + sum(above + each + below for each in heights)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings() | {"axes.grid.axis": "x"})
        figure = Figure(figsize=(width, height), facecolor="white")
        figure.text(0.2 / width, 1 - 0.13 / height, title, size=11, weight="bold", va="top")
        figure.text(0.2 / width, 1 - 0.36 / height, caption, size=SMALL, color=LIGHT.grey, va="top")
        top = height - header
        for panel, each in zip(panels, heights, strict=True):
            top -= above + each
            axes = figure.add_axes((left / width, top / height, across / width, each / height))
            _draw_panel(axes, panel, own, unit)
            axes.set_xlabel(f"{unit} per {per}")
            figure.text(0.2 / width, (top + each + 0.22) / height, panel.title, size=9.5, weight="bold", va="bottom")
            top -= below
        save(figure, path)


def _draw_panel(axes: "Axes", panel: Panel, own: str, unit: str) -> None:
    beside: dict[str, Any] = {"textcoords": "offset points", "size": SMALL, "annotation_clip": False}
    systems = sorted(panel.systems, key=lambda system: panel.systems[system].median)
    for i, system in enumerate(systems):
        low, median, high = panel.systems[system]
        color = OWN if system == own else OTHER_LIBRARY if system.startswith("xpnet") else PEER
        axes.barh(i, median, 0.72, color=color)
        axes.plot([low, high], [i, i], color=LIGHT.ink, lw=1.0, solid_capstyle="butt")
        label = f"{three(median)} {unit}"
        if system != own and own in systems:
            label += f", {median / panel.systems[own].median:.2f} times {own}"
        weight = "bold" if system == own else "normal"
        axes.annotate(label, (max(high, median), i), xytext=(4, 0), va="center", weight=weight, **beside)
    axes.set_yticks(range(len(systems)), systems)
    for text, system in zip(axes.get_yticklabels(), systems, strict=True):
        if system == own:
            text.set(weight="bold", color=OWN)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if panel.floor is not None:
        axes.axvline(panel.floor, color=FLOOR, lw=1.2)
        label = f"{panel.floor_is}: {three(panel.floor)} {unit}"
        axes.annotate(label, (panel.floor, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), color=FLOOR, **beside)
    longest = max((spread.high for spread in panel.systems.values()), default=1.0)
    axes.set(xlim=(0.0, 1.02 * longest), ylim=(max(1, len(systems)) - 0.5, -0.5))
