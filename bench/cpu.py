"""Seconds of training per epoch on two CPUs: xpnet, its peers, and the matrix products alone.

The systems take turns, epoch by epoch and in a different order each round, so that other work on the machine affects
them equally; only the ratios of the medians count. Two checks show that they do the same work: on a single batch, where
the order of the images does not matter, the losses of the first steps agree within rounding; and in the timed epochs,
for which each system shuffles the images itself, the mean losses agree as closely as two such orders do.
"""

import argparse
import contextlib
import dataclasses
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xpnet
from bench import _peers
from bench._common import (
    Panel,
    Parser,
    Spread,
    apart,
    draw,
    first,
    machine,
    network_of,
    parse,
    print_machine,
    spread,
    two_cpus,
    write_json,
)
from bench._log import note
from bench._peers import installed
from bench._workers import SETTLE, PeerError, Worker
from xpnet.backend._base import THREAD_SETTINGS
from xpnet.data import Dataset

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

SYSTEMS = (
    *("products", "products, 1 CPU", "xpnet", "PyTorch", "PyTorch compile", "scikit-learn", "JAX"),
    *("xpnet on torch", "xpnet on JAX"),
)

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
        return spread(self.seconds)

    @property
    def loss(self) -> float | None:
        """The mean of all epochs' losses."""
        known = [loss for loss in self.losses if loss is not None]
        return statistics.mean(known) if known else None


def main(argv: list[str] | None = None) -> int:
    """Measure row by row, print a table for each, and write what --json and --chart name."""
    options = _options(argv)
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
            for system, result in row.results.items():
                against = f"{row.name}: products" if system != "products" else ""
                note(f"{row.name}: {system}", result.seconds, "s", against=against)
    if options.json is not None:
        write_json(options.json, about | {"rows": _as_json(rows)})
    if options.chart is not None:
        _chart(rows, about, options.chart)
    return 1 if any(row.faults for row in rows) else 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench cpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, help="use only this many training images, the first ones")
    parser.add_argument("--seed", type=int, default=0)
    options = parse(parser, argv, systems=SYSTEMS, rows=ROWS, rounds=7)
    for name in options.rows:
        if options.images is not None and options.images < int(name.partition("@")[2]):
            parser.error(f"--images {options.images} is less than a batch of {name}")
    if options.seed < 0:
        parser.error(f"--seed must be at least 0, not {options.seed}")
    return options


def _row(name: str, data: Dataset, options: argparse.Namespace) -> Row:
    network, batch_size = network_of(name, data)
    lr, images = ROWS.get(name, (LEARNING_RATE, None))
    config = xpnet.TrainConfig(
        hidden=network.sizes[1:-1],
        optimizer="momentum",
        lr=lr,
        weight_decay=0.0,
        schedule="constant",
        batch_size=batch_size,
        epochs=options.rounds + 1,
        device="cpu",
        seed=options.seed,
        validation=0.0,
    )
    return Row(name, network, config, min(options.images or images or len(data.train.labels), len(data.train.labels)))


# Measuring ------------------------------------------------------------------------------------------------------------


def _measure(row: Row, data: Dataset, systems: list[str], rounds: int) -> None:
    """Train the systems in turn, and compare their losses."""
    assert isinstance(row.config.batch_size, int)
    train, batch = first(data, row.images), first(data, row.config.batch_size)
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


def _compare(row: Row) -> None:
    """Note the systems whose losses are not xpnet's."""
    if "xpnet" not in row.results:
        return
    own = row.results["xpnet"]
    for system, result in row.results.items():
        if system in (*FLOORS, "xpnet"):
            continue
        if (difference := apart(result.batch_losses, own.batch_losses)) > SAME_BATCH:
            row.faults[system] = (
                f"trains differently: its losses in {STEPS} steps on one batch differ by {difference:.2g} from xpnet's"
            )
        elif (difference := apart([result.loss], [own.loss])) > SAME_EPOCHS:
            row.faults[system] = f"trains differently: its mean loss differs by {100 * difference:.1f} % from xpnet's"


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
    where = (
        f"CPUs {' and '.join(map(str, about['cpus']))}"
        if about["cpus"]
        else "all CPUs, since they can't be limited here"
    )
    print_machine(about)
    print(f"{about['data']}, each system on {where}")
    for name, value in about["environment"].items():
        print(f"{name}={value} is set, and determines the number of threads of some systems")
    for system in about["missing"]:
        print(f"missing: {system}, which needs {_peers.SYSTEMS[system].package}: pip install --group peers")


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


def _chart(rows: list[Row], about: dict[str, Any], path: Path) -> None:
    """Draw the rows: seconds per epoch, and a line where the matrix products alone end."""
    panels = []
    for row in rows:
        took = {system: result.spread for system, result in row.results.items()}
        floor = min((took.pop(system).median for system in FLOORS if system in took), default=None)
        title = f"{'-'.join(map(str, row.network.sizes))}, batches of {row.config.batch_size}, {row.images:,} images"
        panels.append(Panel(title, took, floor, "the matrix products alone"))
    cpus = f"{len(about['cpus'])} CPUs" if about["cpus"] else "all CPUs"
    rounds = f"medians of {about['rounds']} rounds; black: the middle half" if about["rounds"] > 1 else "one round"
    draw(
        path,
        f"Training on {cpus}: seconds per epoch, less is better",
        f"{about['data']}, {about['cpu']}, float32, SGD with momentum; {rounds}",
        panels,
        own="xpnet",
        unit="s",
        per="epoch",
    )
