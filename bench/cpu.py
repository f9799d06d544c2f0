"""Seconds of training per epoch on two CPUs: xpnet, its peers, and the matrix products alone.

The systems take turns, epoch by epoch and each round in another order, so that other work on the machine hits them
alike; the ratios of the medians are what counts. That they do the same work is checked in two ways: on a single batch,
where no order of the images matters, the losses of the first steps agree but for rounding; and in the epochs that are
timed, whose batches each system draws by itself, the mean losses agree as well as such orders do.
"""

import argparse
import contextlib
import dataclasses
import math
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import xpnet
from bench._common import Parser, machine, print_machine, two_cpus, write_json
from bench._peers import SETTLE, SYSTEMS, PeerError, Worker, installed
from xpnet.backend._numpy import THREAD_SETTINGS
from xpnet.checks import required
from xpnet.data import Dataset, Split
from xpnet.plots import GREY, INK, SPLITS, STYLE, format_of, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The network and batch size of a row: its learning rate, and how many images it reads where not all.
ROWS: dict[str, tuple[float, int | None]] = {
    "784-128-10@64": (0.05, None),
    "784-128-10@256": (0.1, None),
    "784-512-10@128": (0.05, None),
    "784-1024-10@512": (0.1, None),
    "784-2500-2000-1500-1000-500-10@256": (0.01, 7680),
}
LEARNING_RATE = 0.05  # of other rows

# Measured: two orders of the batches are up to 4 % apart in the mean loss of some epochs; a momentum of 0.8 in place of
# 0.9 is 10 % off or more, but a bias left out cannot be told from another order. On one batch the systems differ by
# rounding alone, by less than 1e-4; a bias left out is 3e-3 to 1e-2 off, a momentum of 0.89 1e-2 or more.
STEPS, SAME_BATCH, SAME_EPOCHS = 10, 1e-3, 0.06

# On two threads and on one: where a second one is late, two are the slower.
FLOORS = ("products", "products, 1 CPU")


@dataclasses.dataclass
class Row:
    """A network and its training, and what each system made of it.

    name : such as 784-128-10@64.   results, by system : a Result.   faults : by system, one line each.
    """

    name: str
    network: xpnet.MLP
    config: xpnet.TrainConfig
    images: int
    results: dict[str, "Result"] = dataclasses.field(default_factory=dict)
    faults: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def n_steps(self) -> int:
        """Steps per epoch."""
        assert isinstance(self.config.batch_size, int)
        return -(-self.images // self.config.batch_size)

    def ratio(self, system: str) -> float | None:
        """xpnet's median seconds to a system's."""
        if "xpnet" not in self.results or system not in self.results:
            return None
        return self.results["xpnet"].spread.median / self.results[system].spread.median


class Spread(NamedTuple):
    """The median of some numbers and the ends of their middle half."""

    low: float
    median: float
    high: float


@dataclasses.dataclass
class Result:
    """A system's epochs, the warm-up first: seconds and losses; of the first steps on one batch: batch_losses."""

    threads: int = 0
    warm_up: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)
    losses: list[float | None] = dataclasses.field(default_factory=list)
    batch_losses: list[float | None] = dataclasses.field(default_factory=list)

    @property
    def spread(self) -> Spread:
        """Of the seconds per epoch."""
        if len(self.seconds) < 2:
            return Spread(*3 * self.seconds)
        return Spread(*statistics.quantiles(self.seconds, n=4, method="inclusive"))

    @property
    def loss(self) -> float | None:
        """The mean of all epochs' losses."""
        known = [loss for loss in self.losses if loss is not None]
        return statistics.mean(known) if known else None


def main(argv: list[str] | None = None) -> int:
    """Measure row by row, print a table for each, and write what --json and --chart name."""
    options = _options(argv)
    if options.chart is not None:
        format_of(options.chart)
        try:
            required("matplotlib", "--chart", "plot")
        except xpnet.MissingPackageError as error:
            print(f"bench: error: {error}", file=sys.stderr)
            return 1
    data = xpnet.load_data(options.data)
    rows = [_row(name, data, options) for name in options.rows]
    missing = [system for system in options.systems if not installed(system)]
    systems = [system for system in options.systems if system not in missing]
    with two_cpus() as cpus:
        about = _about(data, cpus, missing, options)
        _print_about(about)
        for row in rows:
            _measure(row, data, systems, options.rounds)
            _print_row(row, systems)
    if options.json is not None:
        write_json(options.json, about | {"rows": _as_json(rows)})
    if options.chart is not None:
        _chart(rows, about, options.chart)
    return 1 if any(row.faults for row in rows) else 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench cpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help="such as 784-128-10@64")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), metavar="SYSTEM", help=", ".join(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=7, help="epochs that count, after one that does not")
    parser.add_argument("--images", type=int, help="read the first so many training images only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw it, as .png, .svg or .pdf")
    options = parser.parse_args(argv)
    for name in options.systems:
        if name not in SYSTEMS:
            parser.error(f"unknown system {name!r}; known are {', '.join(SYSTEMS)}")
    for name in options.rows:
        if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)+@[1-9]\d*", name):
            parser.error(f"a row is widths@batch size, such as 784-128-10@64, not {name!r}")
        if options.images is not None and options.images < int(name.partition("@")[2]):
            parser.error(f"--images {options.images} is less than a batch of {name}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    if options.seed < 0:
        parser.error(f"--seed must be at least 0, not {options.seed}")
    for path in (options.json, options.chart):
        if path is not None and not path.parent.is_dir():
            parser.error(f"{path}: there is no folder {path.parent}")
    return options


def _row(name: str, data: Dataset, options: argparse.Namespace) -> Row:
    widths, _, batch = name.partition("@")
    lr, images = ROWS.get(name, (LEARNING_RATE, None))
    network = xpnet.MLP(tuple(map(int, widths.split("-"))))
    if network.sizes[0] != data.n_features or network.sizes[-1] < data.n_classes:
        raise xpnet.ConfigError(f"{name} does not fit {data.name}: {data.n_features} pixels, {data.n_classes} classes")
    config = xpnet.TrainConfig(
        hidden=network.sizes[1:-1],
        optimizer="momentum",
        lr=lr,
        weight_decay=0.0,
        schedule="constant",
        batch_size=int(batch),
        epochs=options.rounds + 1,
        seed=options.seed,
    )
    return Row(name, network, config, min(options.images or images or len(data.train.labels), len(data.train.labels)))


# Measuring ------------------------------------------------------------------------------------------------------------


def _measure(row: Row, data: Dataset, systems: list[str], rounds: int) -> None:
    """Train the systems in turn, and compare their losses."""
    assert isinstance(row.config.batch_size, int)
    train, batch = _first(data, row.images), _first(data, row.config.batch_size)
    order, workers = list(systems), {system: Worker(system) for system in systems}
    try:
        for system in systems:
            with _telling(row, system, workers):
                worker, result = workers[system], Result()
                if system not in FLOORS:
                    worker.start(batch, row.network, row.config.replace(epochs=STEPS))
                    result.batch_losses = [worker.epoch()[1] for _ in range(STEPS)]
                worker.start(train, row.network, row.config)
                row.results[system] = result
        for round_ in range(rounds + 1):
            random.Random(round_).shuffle(order)
            for system in order:
                if system in workers:
                    with _telling(row, system, workers):
                        seconds, loss = workers[system].epoch()
                        result = row.results[system]
                        result.losses.append(loss)
                        if round_ > 0:
                            result.seconds.append(seconds)
                        else:
                            result.warm_up, result.threads = seconds, workers[system].threads()
                    time.sleep(SETTLE)
            _show_progress(row, round_, rounds)
    finally:
        for worker in workers.values():
            worker.close()
    _compare(row)


@contextlib.contextmanager
def _telling(row: Row, system: str, workers: dict[str, Worker]) -> Iterator[None]:
    """A context that notes a system's failure and leaves the system out from then on."""
    try:
        yield
    except PeerError as error:
        row.faults[system] = f"failed: {error}"
        row.results.pop(system, None)
        workers.pop(system).close()


def _first(data: Dataset, n: int) -> Dataset:
    """The first n training images and nothing else."""
    images, labels = data.train
    return Dataset(data.name, Split(images[:n], labels[:n]), n_classes=data.n_classes, source=data.source)


def _compare(row: Row) -> None:
    """Note the systems whose losses are not xpnet's."""
    if "xpnet" not in row.results:
        return
    own = row.results["xpnet"]
    for system, result in row.results.items():
        if system in (*FLOORS, "xpnet"):
            continue
        if (apart := _apart(result.batch_losses, own.batch_losses)) > SAME_BATCH:
            row.faults[system] = (
                f"trains otherwise: {apart:.2g} apart from xpnet's losses in {STEPS} steps on one batch"
            )
        elif (apart := _apart([result.loss], [own.loss])) > SAME_EPOCHS:
            row.faults[system] = f"trains otherwise: its mean loss is {100 * apart:.1f} % apart from xpnet's"


def _apart(losses: list[float | None], others: list[float | None]) -> float:
    """The largest relative difference; infinite where a loss is not a number."""
    pairs = zip(losses, others, strict=True)
    apart = [abs(a / b - 1) if a is not None and b else math.inf for a, b in pairs]
    return math.inf if any(map(math.isnan, apart)) else max(apart)


# Telling --------------------------------------------------------------------------------------------------------------


def _about(data: Dataset, cpus: list[int], missing: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Where and with what the measurement is made."""
    return machine() | {
        "cpus": cpus,
        "environment": {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ},
        "data": data.name,
        "rounds": options.rounds,
        "seed": options.seed,
        "missing": missing,
        "tolerances": {"steps": STEPS, "same_batch": SAME_BATCH, "same_epochs": SAME_EPOCHS},
    }


def _print_about(about: dict[str, Any]) -> None:
    where = f"CPUs {' and '.join(map(str, about['cpus']))}" if about["cpus"] else "all CPUs, which can't be limited"
    print_machine(about)
    print(f"{about['data']}, each system on {where}")
    for name, value in about["environment"].items():
        print(f"{name}={value} is set and decides the threads of some of the systems")
    for system in about["missing"]:
        print(f'missing: {system}, which needs {SYSTEMS[system].package}: pip install "xpnet[peers]"')


def _show_progress(row: Row, round_: int, rounds: int) -> None:
    if sys.stderr.isatty():
        end = "\r" if round_ < rounds else "\r\033[K"
        print(f"{row.name}: round {round_} of {rounds}", end=end, file=sys.stderr, flush=True)


def _print_row(row: Row, systems: list[str]) -> None:
    config = row.config
    print(
        f"\n{row.network}, batches of {config.batch_size}, {row.images:,} images, {row.n_steps:,} steps an epoch, "
        f"learning rate {config.lr:g}"
    )
    print("                  s/epoch    middle half      us/step  xpnet/it  threads  mean loss")
    for system in systems:
        if system in row.results:
            result = row.results[system]
            low, median, high = result.spread
            ratio, loss = row.ratio(system), result.loss
            print(
                f"  {system:15} {median:8.4f} {low:8.4f} to {high:7.4f} {1e6 * median / row.n_steps:9.0f}"
                f" {'-' if ratio is None else f'{ratio:.2f}':>9} {result.threads:8}"
                f" {'-' if loss is None else f'{loss:.4f}':>10}"
            )
    for system, fault in row.faults.items():
        print(f"  {system} {fault}")
    sys.stdout.flush()


def _as_json(rows: list[Row]) -> list[dict[str, Any]]:
    return [
        {
            "name": row.name,
            "sizes": row.network.sizes,
            "batch_size": row.config.batch_size,
            "lr": row.config.lr,
            "momentum": row.config.momentum,
            "dtype": row.config.dtype,
            "images": row.images,
            "steps": row.n_steps,
            "faults": row.faults,
            "systems": {
                system: dataclasses.asdict(result)
                | {"spread": result.spread._asdict(), "loss": result.loss}
                | {"us_per_step": 1e6 * result.spread.median / row.n_steps, "xpnet_ratio": row.ratio(system)}
                for system, result in row.results.items()
            },
        }
        for row in rows
    ]


# Drawing --------------------------------------------------------------------------------------------------------------

OWN, OTHER_LIBRARY, PEER, FLOOR = SPLITS["test"], "#8CBEDD", "#A3ADB8", SPLITS["validation"]
SMALL = 8.0


def _chart(rows: list[Row], about: dict[str, Any], path: Path) -> None:
    """A panel for each row: bars of seconds per epoch, the fastest first, and a line where the products alone end."""
    import matplotlib
    from matplotlib.figure import Figure

    # In inches.
    width, left, across, bar, above, below, header = 7.6, 1.35, 4.35, 0.235, 0.5, 0.56, 0.55
    systems = [sorted(set(row.results) - set(FLOORS), key=lambda s: _median(row, s)) for row in rows]
    heights = [bar * max(1, len(shown)) for shown in systems]
    height = header + sum(above + panel + below for panel in heights)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"axes.grid.axis": "x"})
        figure = Figure(figsize=(width, height), facecolor="white")
        cpus = f"{len(about['cpus'])} CPUs" if about["cpus"] else "all CPUs"
        title = f"Training on {cpus}: seconds per epoch, less is better"
        figure.text(0.2 / width, 1 - 0.13 / height, title, size=11, weight="bold", va="top")
        rounds = f"medians of {about['rounds']} rounds; black: the middle half" if about["rounds"] > 1 else "one round"
        caption = f"{about['data']}, {about['cpu']}, float32, SGD with momentum; {rounds}"
        figure.text(0.2 / width, 1 - 0.36 / height, caption, size=SMALL, color=GREY, va="top")
        top = height - header
        for row, shown, panel in zip(rows, systems, heights, strict=True):
            top -= above + panel
            axes = figure.add_axes((left / width, top / height, across / width, panel / height))
            _draw_row(axes, row, shown)
            name = f"{'-'.join(map(str, row.network.sizes))}, batches of {row.config.batch_size}, {row.images:,} images"
            figure.text(0.2 / width, (top + panel + 0.22) / height, name, size=9.5, weight="bold", va="bottom")
            top -= below
        save(figure, path)


def _median(row: Row, system: str) -> float:
    return row.results[system].spread.median


def _draw_row(axes: "Axes", row: Row, systems: list[str]) -> None:
    beside: dict[str, Any] = {"textcoords": "offset points", "size": SMALL, "annotation_clip": False}
    for i, system in enumerate(systems):
        low, median, high = row.results[system].spread
        own = system == "xpnet"
        axes.barh(i, median, 0.72, color=OWN if own else OTHER_LIBRARY if system.startswith("xpnet") else PEER)
        axes.plot([low, high], [i, i], color=INK, lw=1.0, solid_capstyle="butt")
        ratio = row.ratio(system)
        label = f"{median:#.3g} s" + ("" if own or ratio is None else f", {1 / ratio:.2f} times xpnet")
        weight = "bold" if own else "normal"
        axes.annotate(label, (max(high, median), i), xytext=(4, 0), va="center", weight=weight, **beside)
    axes.set_yticks(range(len(systems)), systems)
    for text, system in zip(axes.get_yticklabels(), systems, strict=True):
        if system == "xpnet":
            text.set(weight="bold", color=OWN)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if floors := [_median(row, name) for name in FLOORS if name in row.results]:
        floor = min(floors)
        axes.axvline(floor, color=FLOOR, lw=1.2)
        label = f"the matrix products alone: {floor:#.3g} s"
        axes.annotate(label, (floor, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), color=FLOOR, **beside)
    longest = max((row.results[system].spread.high for system in row.results), default=1.0)
    axes.set(xlim=(0.0, 1.02 * longest), ylim=(max(1, len(systems)) - 0.5, -0.5), xlabel="seconds per epoch")
