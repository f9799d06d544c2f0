"""Training on a GPU: xpnet, PyTorch and JAX, and how near xpnet comes to what the device can do; within 8 minutes.

In this order: the tests marked cuda; microseconds per step of each system, which take turns, epoch by epoch and each
round in another order; seconds of training to an accuracy; the device's measured rates, and the floor that they set to
a step; which goals are reached. All data lies on the device, and TF32 is off everywhere. That the systems do the same
work is checked on a single batch, on which the losses of the first steps must agree. What fails, hangs, or finds no
time left is said, and the rest goes on.
"""

import argparse
import contextlib
import dataclasses
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import xpnet
from bench import cpu
from bench._common import Parser, machine, print_machine, write_json
from bench._gpu_peers import OWN, SYSTEMS, GpuWorker, LateError, Race, installed, whole_batches
from bench._peers import PeerError
from xpnet.checks import required
from xpnet.data import Dataset, Split
from xpnet.plots import GREY, INK, STYLE, format_of, save
from xpnet.schedules import SCHEDULES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]

SMALL, LARGE = "784-128-10@64", "784-2500-2000-1500-1000-500-10@512"
ROWS = {SMALL: 0.05, "784-512-10@512": 0.1, LARGE: 0.01}
LEARNING_RATE = 0.05  # of other rows
EAGER, TORCH, TORCH_GRAPH, JAX = "xpnet eager", "PyTorch", "PyTorch CUDA graph", "JAX"
RACERS = (OWN, TORCH_GRAPH)

# In seconds: of all the time, what is kept for closing; of a row's, for each system that still has to get ready, and
# for the rounds and the check, but no more than fair shares.
CLOSING, READY, ROUNDS = 15.0, 6.0, 8.0


class Budget:
    """Seconds that are left, by a clock."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds

    def left(self) -> float:
        """How many they are now; 0 when they are over."""
        return max(0.0, self._end - self._clock())

    def part(self, share: float) -> "Budget":
        """A share of what is left."""
        return Budget(share * self.left(), self._clock)


@dataclasses.dataclass
class Result(cpu.Result):
    """A system's epochs; cold_start: seconds from the start of its process to the end of its first epoch."""

    cold_start: float = 0.0
    nodes_per_step: float | None = None


@dataclasses.dataclass
class Row(cpu.Row):
    """A network and its training, and what each system made of it; its images are whole batches."""

    results: dict[str, Result] = dataclasses.field(default_factory=dict)  # type: ignore[assignment]

    @property
    def flops(self) -> int:
        """Floating-point operations of a step's matrix products."""
        return flops_per_step(self.network.sizes, self.batch_size)

    @property
    def bytes(self) -> int:
        """What a step must read and write."""
        return bytes_per_step(self.network.sizes, self.batch_size)

    @property
    def batch_size(self) -> int:
        """Examples of each step."""
        return self.images // self.n_steps

    @property
    def timed(self) -> list[str]:
        """The systems that have done at least one epoch that counts."""
        return [system for system, result in self.results.items() if result.seconds]

    def us_per_step(self, system: str) -> float | None:
        """A system's median; None where it was not timed."""
        return 1e6 * self.results[system].spread.median / self.n_steps if system in self.timed else None

    def ratio(self, system: str) -> float | None:
        """Of the medians, xpnet graph's to a system's."""
        if OWN not in self.timed or system not in self.timed:
            return None
        return self.results[OWN].spread.median / self.results[system].spread.median

    def rate(self, system: str) -> float | None:
        """A system's floating-point operations per second."""
        us = self.us_per_step(system)
        return None if us is None else 1e6 * self.flops / us

    def floor_us(self, floor: dict[str, Any]) -> float | None:
        """Microseconds that the device needs for a step at least, as its measured rates have it."""
        if not floor.get("gemm") or not floor.get("bandwidth"):
            return None
        return 1e6 * max(self.flops / float(floor["gemm"]), self.bytes / float(floor["bandwidth"]))


class Goal(NamedTuple):
    """What is wanted, and what was measured, None where nothing was."""

    what: str
    limit: float
    value: float | None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """reached, missed, or not measured."""
        if self.value is None:
            return "not measured"
        return "reached" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "missed"


@dataclasses.dataclass
class Report:
    """All that was measured, as far as it has come.

    tests : see _run_tests.   races, by system : cold_start, and runs, a Race for each seed.   floor : see
    bench._gpu_peers.   faults : what failed or found no time, a line each; those of a row's systems are the row's.
    """

    about: dict[str, Any]
    rows: list[Row]
    tests: dict[str, Any] | None = None
    races: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    floor: dict[str, Any] = dataclasses.field(default_factory=dict)
    goals: list[Goal] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)


def flops_per_step(sizes: tuple[int, ...], batch_size: int) -> int:
    """Of forward x W, weight gradient x^T dy, and input gradient dy W^T, the first layer's excepted."""
    products = [n_in * n_out for n_in, n_out in pairwise(sizes)]
    return 2 * batch_size * (3 * sum(products) - products[0])


def bytes_per_step(sizes: tuple[int, ...], batch_size: int) -> int:
    """What no step can do without, however it keeps the rest in caches.

    Parameters and velocity in float32, read and written once; the batch's bytes, read; each layer's output in float32,
    written and read.
    """
    parameters = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    return 16 * parameters + batch_size * (sizes[0] + 8 * sum(sizes[1:]))


def main(argv: list[str] | None = None) -> int:
    """Measure part by part, print each when it is done, and write what --json and --chart name.

    Returns 1 if anything failed or found no time, else 0, whatever goals are missed.   Raises DeviceError where there
    is no GPU that can be used.
    """
    options = _options(argv)
    if options.chart is not None:
        format_of(options.chart)
        try:
            required("matplotlib", "--chart", "plot")
        except xpnet.MissingPackageError as error:
            print(f"bench: error: {error}", file=sys.stderr)
            return 1
    watchdog = threading.Timer(60 * options.minutes, _give_up, [options.minutes])
    watchdog.daemon = True
    watchdog.start()
    try:
        report = _measure_all(options, Budget(max(0.8 * 60 * options.minutes, 60 * options.minutes - CLOSING)))
    finally:
        watchdog.cancel()
    failed = report.faults or any(row.faults for row in report.rows)
    return 1 if failed or (report.tests and report.tests["failed"]) else 0


def _give_up(minutes: float) -> None:
    """End, for a process that not even a signal can end, such as one that waits for the driver."""
    print(f"cut off: {minutes:g} minutes are over, and something does not end", flush=True)
    os._exit(1)


def _measure_all(options: argparse.Namespace, budget: Budget) -> Report:
    """Everything in its order; each part has a share of the time that is left, so that none takes another's."""
    backend = xpnet.select(options.device, tf32=False)
    data = _load(options.data)
    rows = [_row(name, data, options) for name in options.rows]
    report = Report(_about(backend, data, options), rows)
    systems = [system for system in options.systems if system not in report.about["missing"]]
    _print_about(report.about)
    if options.tests:
        _test(report, ROOT / "tests", budget.part(0.4))
        _write(report, options)
    hung: dict[str, str] = {}  # by system, why it is not tried again
    rows_budget = budget.part(0.75)
    for i, row in enumerate(rows):
        _measure(row, data, systems, options, rows_budget.part(1 / (len(rows) - i)), hung)
        _print_row(row, options)
        _write(report, options)
    if options.target:
        _race(report, data, systems, options, budget.part(0.7))
        _write(report, options)
    _measure_floor(report, options, budget)
    _print_floor(report)
    if report.about["gpu"]:
        report.goals = _goals(report)
        _print_goals(report)
    _write(report, options)
    if options.chart is not None and any(row.timed for row in rows):
        _chart(rows, report, options.chart)
    return report


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="what all may take")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a system may take for anything")
    parser.add_argument("--data", help="default: mnist where it is on disk, else random images")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help="such as 784-128-10@64")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), metavar="SYSTEM", help=", ".join(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=11, help="epochs that count, after two that do not")
    parser.add_argument("--images", type=int, help="read the first so many training images only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-tests", dest="tests", action="store_false", help="leave the tests marked cuda out")
    parser.add_argument("--target", type=float, default=98.0, help="accuracy in %% whose time is told; 0 leaves it out")
    parser.add_argument("--target-seeds", type=int, default=5, help="the first so many, from 0")
    # Chosen on NumPy, on seeds 10 to 14, which all reach 98 % within three of the four epochs.
    parser.add_argument("--target-hidden", type=int, nargs="+", default=[512], metavar="WIDTH")
    parser.add_argument("--target-batch-size", type=int, default=512)
    parser.add_argument("--target-epochs", type=int, default=4)
    parser.add_argument("--target-lr", type=float, default=0.7)
    parser.add_argument("--target-schedule", choices=sorted({*SCHEDULES} - {"step"}), default="one-cycle")
    parser.add_argument("--target-warmup", type=float, default=0.2, help="share of the steps in which the rate climbs")
    parser.add_argument("--check-every", type=int, default=32, help="steps, besides the end of an epoch")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try this command itself")
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
    at_least_one = ("rounds", "target_seeds", "target_batch_size", "target_epochs", "check_every")
    for name, least in {**dict.fromkeys(at_least_one, 1), "seed": 0}.items():
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(options, name)}")
    for name in ("minutes", "limit"):
        if not 0 < getattr(options, name) < math.inf:
            parser.error(f"--{name} must be more than 0, not {getattr(options, name):g}")
    if not 0 <= options.target <= 100:
        parser.error(f"--target must be in [0, 100], not {options.target:g}")
    for path in (options.json, options.chart):
        if path is not None and not path.parent.is_dir():
            parser.error(f"{path}: there is no folder {path.parent}")
    return options


def _load(name: str | None) -> Dataset:
    """A set by its name or path; MNIST without one, or random images of its shape where it is not on disk."""
    if name is not None:
        return xpnet.load_data(name)
    try:
        return xpnet.load_data("mnist", download=False)
    except xpnet.DataError as error:
        print(f"random images, on which no accuracy can be reached, in place of MNIST: {error}")
    rng = np.random.default_rng(0)
    train, test = (
        Split(rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n).astype(np.int32))
        for n in (60_000, 10_000)
    )
    return Dataset("random images", train, test=test, n_classes=10, source="drawn at random")


def _row(name: str, data: Dataset, options: argparse.Namespace) -> Row:
    widths, _, batch = name.partition("@")
    network = xpnet.MLP(tuple(map(int, widths.split("-"))))
    if network.sizes[0] != data.n_features or network.sizes[-1] < data.n_classes:
        raise xpnet.ConfigError(f"{name} does not fit {data.name}: {data.n_features} pixels, {data.n_classes} classes")
    config = _config(network, options, lr=ROWS.get(name, LEARNING_RATE), batch_size=int(batch), schedule="constant")
    train = whole_batches(data, options.images, int(batch)).train
    return Row(name, network, config.replace(epochs=options.rounds + 2, seed=options.seed), len(train.labels))


def _config(network: xpnet.MLP, options: argparse.Namespace, **settings: Any) -> xpnet.TrainConfig:
    """The settings that are the same in all that is measured, and others."""
    same = xpnet.TrainConfig(optimizer="nesterov", weight_decay=0.0, hidden=network.sizes[1:-1], device=options.device)
    return same.replace(**settings)


# The tests ------------------------------------------------------------------------------------------------------------


def _test(report: Report, folder: Path, budget: Budget) -> None:
    """Run the tests marked cuda, and tell how they end."""
    if not folder.is_dir():
        print("tests marked cuda: not run, since there is no folder tests here")
        return
    report.tests = tests = _run_tests(folder, budget.left(), report.about.get("gpu") is not None)
    print(f"tests marked cuda: {tests['summary']}")
    for line in tests["failures"][:20]:
        print(f"  {line}")
    if tests["fault"]:
        report.faults.append(f"tests marked cuda: {tests['fault']}")
        print(f"  {tests['fault']}")
    sys.stdout.flush()


def _run_tests(folder: Path, limit: float, gpu: bool) -> dict[str, Any]:
    """Run pytest -m cuda, on the GPU or, if there is none, on what stands in for one.

    Returns passed, failed (with errors) and skipped; summary, pytest's last line; failures, its lines on them; seconds;
    fault, a line on what kept it from its end, or "".
    """
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider", folder.name]
    # A library that is named has to be there: nothing stands in for the GPU unseen.
    environment = {"XPNET_TEST_LIBRARIES": "numpy cupy"} | os.environ if gpu else None
    start, fault = time.monotonic(), ""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        # A session of its own, whose every process can be ended.
        process = subprocess.Popen(
            command,
            cwd=folder.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if process.wait(limit) not in (0, 1, 5):
                fault = f"pytest ended with exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            fault = f"cut off after {limit:.3g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
                process.wait()
        output.seek(0)
        said = output.read().strip().splitlines()
    counts: Counter[str] = Counter()
    summary = said[-1].strip("= ") if said else "pytest said nothing"
    for number, what in re.findall(r"(\d+) (passed|failed|skipped|error)", summary):
        counts["failed" if what == "error" else what] += int(number)
    if fault and not counts:  # what it shows while it runs
        for letter in "".join(re.findall(r"^([.FEsxX]+)(?: +\[ *\d+%\])?$", "\n".join(said), re.MULTILINE)):
            counts[{"F": "failed", "E": "failed", "s": "skipped"}.get(letter, "passed")] += 1
        summary = f"{', '.join(f'{counts[what]} {what}' for what in ('passed', 'failed', 'skipped'))} so far"
    return {
        **{what: counts[what] for what in ("passed", "failed", "skipped")},
        "summary": summary,
        "failures": [line for line in said if line.startswith(("FAILED", "ERROR"))],
        "seconds": time.monotonic() - start,
        "fault": fault,
    }


# Measuring ------------------------------------------------------------------------------------------------------------


def _measure(
    row: Row, data: Dataset, systems: list[str], options: argparse.Namespace, budget: Budget, hung: dict[str, str]
) -> None:
    """Train the systems in turn, and compare their losses; hung has those not to be tried any more, and gets more."""
    workers: dict[str, GpuWorker] = {}
    try:
        _get_ready(row, data, systems, workers, options, budget, hung)
        _take_turns(row, workers, options, budget)
        _train_on_one_batch(row, data, workers, options, budget)
    finally:
        for worker in workers.values():
            worker.finish()
        for worker in workers.values():
            worker.close()
    _compare(row)


def _get_ready(
    row: Row,
    data: Dataset,
    systems: list[str],
    workers: dict[str, GpuWorker],
    options: argparse.Namespace,
    budget: Budget,
    hung: dict[str, str],
) -> None:
    """Start the systems' processes, one after the other, and train the first epoch, which compiles and captures."""
    train = whole_batches(data, row.images, row.batch_size)
    for i, system in enumerate(systems):
        if system in hung:
            row.faults[system] = f"not tried again: {hung[system]}"
            continue
        with _telling(row, system, workers):
            start, waiting = time.perf_counter(), len(systems) - i - 1
            fair = budget.left() / (waiting + 2)
            kept = waiting * min(READY, fair) + min(ROUNDS, fair)
            workers[system] = worker = GpuWorker(system, options.limit)
            try:
                _limited(worker, options, budget, kept).start(train, row.network, row.config)
                _, loss = _limited(worker, options, budget, kept).epoch()
            except LateError as error:
                if worker.limit > options.limit / 2:  # it had its time
                    hung[system] = str(error)
                raise
            row.results[system] = Result(cold_start=time.perf_counter() - start, losses=[loss])


def _take_turns(row: Row, workers: dict[str, GpuWorker], options: argparse.Namespace, budget: Budget) -> None:
    """Train the epochs that count, after one that does not; those that fail are left out from then on."""
    order, took, kept = list(workers), 0.0, min(ROUNDS, budget.left()) / 4
    for round_ in range(options.rounds + 1):
        start = budget.left()
        if start < kept + took:
            for system in workers:
                row.faults[system] = f"cut off: {max(0, round_ - 1)} of {options.rounds} rounds in the time there was"
            return
        random.Random(round_).shuffle(order)
        for system in order:
            if system in workers:
                with _telling(row, system, workers):
                    seconds, loss = _limited(workers[system], options, budget).epoch()
                    row.results[system].losses.append(loss)
                    if round_ > 0:
                        row.results[system].seconds.append(seconds)
        took = start - budget.left()


def _train_on_one_batch(
    row: Row, data: Dataset, workers: dict[str, GpuWorker], options: argparse.Namespace, budget: Budget
) -> None:
    """The first steps once more, on a single batch, whose order does not matter."""
    batch = whole_batches(data, row.batch_size, row.batch_size)
    for system in list(workers):
        with _telling(row, system, workers):
            worker, result = workers[system], row.results[system]
            result.nodes_per_step = _limited(worker, options, budget).nodes_per_step()
            if system == OWN and result.nodes_per_step is None and options.device != "cpu":
                row.faults[system] = "no graph was captured: its steps ran operation by operation"
            _limited(worker, options, budget).start(batch, row.network, row.config.replace(epochs=cpu.STEPS))
            result.batch_losses = [_limited(worker, options, budget).epoch()[1] for _ in range(cpu.STEPS)]


def _limited(worker: GpuWorker, options: argparse.Namespace, budget: Budget, kept: float = 0.0) -> GpuWorker:
    """The worker, whose next call may take what is left but for some seconds that are kept for others."""
    worker.limit = min(options.limit, budget.left() - kept)
    return worker


@contextlib.contextmanager
def _telling(row: Row, system: str, workers: dict[str, GpuWorker]) -> Iterator[None]:
    """A context that notes a system's failure and leaves the system out from then on; what it has done stays."""
    try:
        yield
    except PeerError as error:
        row.faults[system] = "; ".join([*([row.faults[system]] if system in row.faults else []), f"failed: {error}"])
        workers.pop(system).close()


def _compare(row: Row) -> None:
    """Note the systems whose losses on the one batch are not xpnet's, or are not known."""
    own = next((system for system in (OWN, EAGER) if system in row.results and row.results[system].batch_losses), None)
    for system in row.timed:
        losses = row.results[system].batch_losses
        if own is None or not losses:
            whose = "its" if own else "xpnet's"
            row.faults.setdefault(system, f"not compared: {whose} losses on one batch are missing")
        elif (apart := cpu._apart(losses, row.results[own].batch_losses)) > cpu.SAME_BATCH:
            steps = f"{cpu.STEPS} steps on one batch"
            row.faults[system] = f"trains otherwise: {apart:.2g} apart from {own}'s losses in {steps}"


def _race(report: Report, data: Dataset, systems: list[str], options: argparse.Namespace, budget: Budget) -> None:
    """Train to the target, seed by seed, each run after two epochs that are thrown away; and tell."""
    network = xpnet.MLP((data.n_features, *options.target_hidden, data.n_classes))
    config = _config(
        network,
        options,
        lr=options.target_lr,
        schedule=options.target_schedule,
        warmup=options.target_warmup,
        batch_size=options.target_batch_size,
        epochs=options.target_epochs,
    )
    print(
        f"\n{options.target:g} % test accuracy: {network}, batches of {config.batch_size}, {config.epochs} epochs, "
        f"learning rate {config.lr:g}, {config.schedule} with a warm-up of {config.warmup:g};\n"
        "  training only; the first time a check reaches it counts, also where a later check is below"
    )
    if data.test is None or data.name == "random images":
        report.faults.append(f"{options.target:g} %: not measured, since {data.name} has no test images to go by")
        print(f"  {report.faults[-1]}")
        return
    train = whole_batches(data, options.images, options.target_batch_size, test=True)
    racers = [system for system in RACERS if system in systems]
    for i, system in enumerate(racers):
        part = budget.part(1 / (len(racers) - i))
        start, runs = time.perf_counter(), list[Race]()
        race: dict[str, Any] = {"cold_start": None, "runs": runs}
        report.races[system] = race
        worker = GpuWorker(system, options.limit)
        try:
            for seed in range(options.target_seeds):
                _limited(worker, options, part).start(train, network, config.replace(seed=seed))
                _limited(worker, options, part).epoch()
                race["cold_start"] = race["cold_start"] or time.perf_counter() - start
                _limited(worker, options, part).epoch()  # what lies elsewhere in a second epoch is captured anew
                run = _limited(worker, options, part).race(config.epochs, options.target / 100, options.check_every)
                runs.append(run)
        except PeerError as error:
            report.faults.append(f"{options.target:g} %: {system} failed at seed {len(runs)}: {error}")
            print(f"  {report.faults[-1]}")
        finally:
            worker.close()
        if runs:
            _print_race(system, race)


def _median(runs: list[Race]) -> float:
    """Seconds of training; a run that never gets there is infinitely slow."""
    return statistics.median(math.inf if run.seconds is None else run.seconds for run in runs)


def _measure_floor(report: Report, options: argparse.Namespace, budget: Budget) -> None:
    worker = GpuWorker(OWN, min(options.limit, budget.left()))
    try:
        report.floor = worker.floor(options.device)
    except PeerError as error:
        report.floor = {"faults": {"floor": str(error)}}
    finally:
        worker.close()
    report.faults += [f"the floor: {what} failed: {error}" for what, error in report.floor["faults"].items()]


def _goals(report: Report) -> list[Goal]:
    rows = {row.name: row for row in report.rows}
    small, large = rows.get(SMALL), rows.get(LARGE)

    def ratio(system: str) -> float | None:
        return None if small is None else small.ratio(system)

    runs = report.races.get(OWN, {}).get("runs")
    milliseconds = 1000 * _median(runs) if runs else None
    rate, gemm = (None if large is None else large.rate(OWN)), report.floor.get("gemm")
    accuracy = f"{report.about['target']:g} % test accuracy, ms of training, median of {len(runs or [])} seeds"
    return [
        *(Goal(f"{SMALL}: {OWN} / {system}", 0.25, ratio(system)) for system in (EAGER, TORCH)),
        *(Goal(f"{SMALL}: {OWN} / {system}", 1.0, ratio(system)) for system in (TORCH_GRAPH, JAX)),
        Goal(accuracy, 100.0, milliseconds),
        Goal(f"{accuracy}: the aim", 30.0, milliseconds),
        Goal(f"{LARGE}: % of the float32 GEMM rate", 70.0, 100 * rate / gemm if rate and gemm else None, True),
    ]


# Telling --------------------------------------------------------------------------------------------------------------


def _about(backend: xpnet.Backend, data: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Where and with what the measurement is made."""
    about = machine()
    if backend.name == "cupy":
        about["versions"]["cupy"] = backend.version
    return about | {
        "gpu": None if options.device == "cpu" else backend.description,
        "driver": None if options.device == "cpu" else _driver(),
        "cuda": None if options.device == "cpu" else _cuda(),
        "tf32": False,
        "data": data.name,
        "minutes": options.minutes,
        "limit": options.limit,
        "rounds": options.rounds,
        "seed": options.seed,
        **{name: value for name, value in vars(options).items() if name.startswith(("target", "check"))},
        "missing": [system for system in options.systems if not installed(system, options.device)],
        "tolerances": {"steps": cpu.STEPS, "same_batch": cpu.SAME_BATCH},
    }


def _driver() -> str | None:
    """The NVIDIA driver's version."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return said.split()[0] if said.split() else None
    with contextlib.suppress(OSError):
        found = re.search(r"\s(\d{3}\.[\d.]+)\s", Path("/proc/driver/nvidia/version").read_text())
        return found[1] if found else None
    return None


def _cuda() -> dict[str, str]:
    """CUDA's versions, as 13.0: of the runtime that CuPy uses, and the newest that the driver knows."""
    from cupy.cuda import runtime

    versions = {"runtime": runtime.runtimeGetVersion(), "driver": runtime.driverGetVersion()}
    return {name: f"{number // 1000}.{number % 1000 // 10}" for name, number in versions.items()}


def _print_about(about: dict[str, Any]) -> None:
    if about["gpu"]:
        cuda = f"CUDA {about['cuda']['runtime']} (the driver knows {about['cuda']['driver']})"
        print(f"{about['gpu']}, driver {about['driver'] or 'unknown'}, {cuda}")
    else:
        print("on the CPU, which only tries this command: nothing is captured as a graph")
    print_machine(about)
    print(f"{about['data']}; float32, TF32 off everywhere; at most {about['minutes']:g} minutes")
    print("cold start: from the start of a system's process to the end of its first epoch")
    for system in about["missing"]:
        print(f"missing: {system}, which needs {SYSTEMS[system].package}")
    sys.stdout.flush()


def _print_row(row: Row, options: argparse.Namespace) -> None:
    print(
        f"\n{row.network}, batches of {row.batch_size}, {row.images:,} images, {row.n_steps:,} steps an "
        f"epoch, learning rate {row.config.lr:g}; medians of {options.rounds} rounds"
    )
    print(
        "                        us/step     middle half   xpnet/it  TFLOP/s  cold start, s  nodes  us/node  mean loss"
    )
    for system in row.timed:
        result = row.results[system]
        low, median, high = (1e6 * seconds / row.n_steps for seconds in result.spread)
        ratio, nodes, loss = row.ratio(system), result.nodes_per_step, result.loss
        cells = [
            f"  {system:20}{median:9.1f}{low:9.1f} to {high:7.1f}",
            "-" if ratio is None else f"{ratio:.2f}",
            f"{row.flops / median / 1e6:.2f}",
            f"{result.cold_start:.1f}",
            f"{nodes:.1f}" if nodes else "-",
            f"{median / nodes:.2f}" if nodes else "-",
            "-" if loss is None else f"{loss:.4f}",
        ]
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, (49, 9, 9, 15, 7, 9, 11), strict=True)))
    for system, fault in row.faults.items():
        print(f"  {system} {fault}")
    sys.stdout.flush()


def _print_race(system: str, race: dict[str, Any]) -> None:
    runs: list[Race] = race["runs"]
    median = _median(runs)
    times = ", ".join("never" if run.seconds is None else f"{1000 * run.seconds:.1f}" for run in runs)
    steps = ", ".join("-" if run.steps is None else f"{run.steps}" for run in runs)
    print(
        f"  {system}: {'never' if median == math.inf else f'{1000 * median:.1f} ms'} in the median of seeds 0 to "
        f"{len(runs) - 1}: {times} ms, after {steps} steps\n"
        f"    lost again by {sum(run.lost for run in runs)} of {len(runs)}; at the end "
        f"{', '.join(f'{100 * run.accuracy:.2f}' for run in runs)} %, after "
        f"{1000 * statistics.median(run.total for run in runs):.1f} ms in the median; cold start "
        f"{race['cold_start']:.1f} s",
        flush=True,
    )


def _print_floor(report: Report) -> None:
    floor = report.floor
    units = {
        "gemm": ("float32 products", 1e-12, "TFLOP/s"),
        "gemm_tf32": ("with TF32", 1e-12, "TFLOP/s"),
        "bandwidth": ("copies", 1e-9, "GB/s read and written"),
        "launch": ("a small operation by itself", 1e6, "us"),
        "node": ("in a graph", 1e6, "us"),
    }
    parts = [f"{what} {floor[k] * scale:.3g} {unit}" for k, (what, scale, unit) in units.items() if floor.get(k)]
    print(f"\nThe floor, of the fastest rounds: {', '.join(parts) or 'not measured'}")
    for row in report.rows:
        least, own = row.floor_us(floor), row.us_per_step(OWN)
        line = f"  {row.name}: {row.flops / 1e9:.3g} GFLOP and {row.bytes / 1e6:.3g} MB a step"
        if least is not None:
            line += f", {_three(least)} us at least"
            if own is not None:
                share = 100 * 1e6 * row.flops / own / floor["gemm"]
                line += f"; {OWN} takes {own / least:.1f} times that, at {share:.3g} % of the GEMM rate"
        print(line)
    for fault in report.floor["faults"].items():
        print(f"  {fault[0]} failed: {fault[1]}")
    sys.stdout.flush()


def _print_goals(report: Report) -> None:
    print("\nGoals, which are for one H200")
    for goal in report.goals:
        value = "" if goal.value is None else f", measured {goal.value:.3g}"
        wanted = f"{'at least' if goal.at_least else 'at most'} {goal.limit:g}"
        print(f"  {goal.verdict:12} {goal.what}: {wanted}{value}")
    sys.stdout.flush()


def _write(report: Report, options: argparse.Namespace) -> None:
    """Write what there is: after each part, so that an end before the last one loses nothing."""
    if options.json is not None:
        write_json(options.json, _as_json(report))


def _as_json(report: Report) -> dict[str, Any]:
    return report.about | {
        "tests": report.tests,
        "rows": [_row_as_json(row, report.floor) for row in report.rows],
        "races": {
            system: {"cold_start": race["cold_start"], "runs": [run._asdict() for run in race["runs"]]}
            for system, race in report.races.items()
        },
        "floor": report.floor,
        "goals": [
            # JSON has no infinity.
            goal._asdict() | {"value": None if goal.value == math.inf else goal.value, "verdict": goal.verdict}
            for goal in report.goals
        ],
        "faults": report.faults,
    }


def _row_as_json(row: Row, floor: dict[str, Any]) -> dict[str, Any]:
    gemm = floor.get("gemm")
    return {
        "name": row.name,
        "sizes": row.network.sizes,
        "batch_size": row.batch_size,
        "lr": row.config.lr,
        "momentum": row.config.momentum,
        "images": row.images,
        "steps": row.n_steps,
        "flops": row.flops,
        "bytes": row.bytes,
        "floor_us": row.floor_us(floor),
        "faults": row.faults,
        "systems": {
            system: dataclasses.asdict(row.results[system])
            | {"spread": row.results[system].spread._asdict(), "us_per_step": row.us_per_step(system)}
            | {"xpnet_ratio": row.ratio(system), "gemm_share": (row.rate(system) or 0.0) / gemm if gemm else None}
            for system in row.timed
        },
    }


# Drawing --------------------------------------------------------------------------------------------------------------


def _chart(rows: list[Row], report: Report, path: Path) -> None:
    """A panel for each row: bars of microseconds per step, the fastest first, and a line at the floor."""
    import matplotlib
    from matplotlib.figure import Figure

    # In inches.
    width, left, across, bar, above, below, header = 7.6, 1.6, 3.8, 0.235, 0.5, 0.56, 0.55
    rows = [row for row in rows if row.timed]
    heights = [bar * len(row.timed) for row in rows]
    height = header + sum(above + panel + below for panel in heights)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"axes.grid.axis": "x"})
        figure = Figure(figsize=(width, height), facecolor="white")
        title = "Training on a GPU: microseconds per step, less is better"
        figure.text(0.2 / width, 1 - 0.13 / height, title, size=11, weight="bold", va="top")
        about = report.about
        where = about["gpu"] or "the CPU, which only tries this command"
        rounds = f"medians of {about['rounds']} rounds; black: the middle half"
        caption = f"{about['data']}, {where}, float32 without TF32, Nesterov; {rounds}"
        figure.text(0.2 / width, 1 - 0.36 / height, caption, size=cpu.SMALL, color=GREY, va="top")
        top = height - header
        for row, panel in zip(rows, heights, strict=True):
            top -= above + panel
            axes = figure.add_axes((left / width, top / height, across / width, panel / height))
            _draw_row(axes, row, report.floor)
            name = f"{'-'.join(map(str, row.network.sizes))}, batches of {row.batch_size}"
            figure.text(0.2 / width, (top + panel + 0.22) / height, name, size=9.5, weight="bold", va="bottom")
            top -= below
        save(figure, path)


def _three(us: float) -> str:
    """A number with three digits or more, and never a power of ten."""
    return f"{us:,.{max(0, 2 - math.floor(math.log10(us)))}f}"


def _draw_row(axes: "Axes", row: Row, floor: dict[str, Any]) -> None:
    beside: dict[str, Any] = {"textcoords": "offset points", "size": cpu.SMALL, "annotation_clip": False}
    systems = sorted(row.timed, key=lambda system: row.results[system].spread.median)
    longest = 0.0
    for i, system in enumerate(systems):
        low, median, high = (1e6 * seconds / row.n_steps for seconds in row.results[system].spread)
        own, longest = system == OWN, max(longest, high)
        color = cpu.OWN if own else cpu.OTHER_LIBRARY if system.startswith("xpnet") else cpu.PEER
        axes.barh(i, median, 0.72, color=color)
        axes.plot([low, high], [i, i], color=INK, lw=1.0, solid_capstyle="butt")
        ratio = row.ratio(system)
        label = f"{_three(median)} us" + ("" if own or ratio is None else f", {1 / ratio:.2f} times {OWN}")
        axes.annotate(label, (high, i), xytext=(4, 0), va="center", weight="bold" if own else "normal", **beside)
    axes.set_yticks(range(len(systems)), systems)
    for text, system in zip(axes.get_yticklabels(), systems, strict=True):
        if system == OWN:
            text.set(weight="bold", color=cpu.OWN)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if (least := row.floor_us(floor)) is not None:
        axes.axvline(least, color=cpu.FLOOR, lw=1.2)
        label = f"the floor: {_three(least)} us"
        axes.annotate(label, (least, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), color=cpu.FLOOR, **beside)
    axes.set(xlim=(0.0, 1.02 * longest), ylim=(len(systems) - 0.5, -0.5), xlabel="microseconds per step")
