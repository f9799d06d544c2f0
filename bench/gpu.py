"""Training on a GPU: xpnet, PyTorch and JAX, and how near xpnet comes to what the device can do; within 8 minutes.

In this order: the tests marked cuda; the device's measured rates; microseconds per step of each system, which take
turns, epoch by epoch and in a different order each round; seconds of training to 98 % test accuracy; the goals that are
reached or missed. All data is on the device, and TF32 is off everywhere. To check that the systems do the same work,
their losses in the first steps on a single batch must agree. A part that fails, hangs, or runs out of time is reported,
and the rest continues; results are written after each part.
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

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
    seconds_to,
    spread,
    three,
    write_json,
)
from bench._log import note
from bench._peers import installed
from bench._rates import Rates
from bench._workers import Budget, PeerError, Worker
from bench.cpu import SAME_BATCH, STEPS
from xpnet.data import Dataset

TESTS = Path(__file__).parents[1] / "tests"
# What is most about the GPU comes first, in case there is no time for all.
TESTS_FIRST = ("graph", "cublas", "gradients", "rules", "model", "training", "loader", "fusion")

# The learning rate of each row.
SMALL, LARGE = "784-128-10@64", "784-2500-2000-1500-1000-500-10@512"
ROWS = {SMALL: 0.05, "784-512-10@512": 0.1, LARGE: 0.01}
LEARNING_RATE = 0.05  # of other rows
OWN, EAGER, TORCH, TORCH_GRAPH, JAX = "xpnet graph", "xpnet eager", "PyTorch", "PyTorch CUDA graph", "JAX"
# What takes long to get ready comes last.
SYSTEMS = (OWN, EAGER, TORCH, TORCH_GRAPH, JAX, "PyTorch compile")

# The race to the target, in percent. Chosen on NumPy, on seeds 10 to 14, all of which end at 98.1 % or more.
TARGET, SEEDS, RACERS = 98.0, range(5), (OWN, TORCH_GRAPH)
RACE = xpnet.TrainConfig(
    hidden=(512,),
    batch_size=512,
    epochs=4,
    optimizer="nesterov",
    lr=0.7,
    schedule="one-cycle",
    warmup=0.2,
    weight_decay=0.0,
    validation=0.0,
    test_each_epoch=True,
)

# Seconds of a row's time that are kept for each system that is not ready yet, for the rounds, and for the last check.
READY, ROUNDS, CHECK = 4.0, 15.0, 4.0

Runs = list[list[tuple[float, float]]]


class Faults(list[str]):
    """What failed or found no time, each told in a line when it happens."""

    def add(self, fault: str) -> None:
        """Note and print it."""
        self.append(fault)
        print(fault, flush=True)


@dataclasses.dataclass
class Result:
    """A system's epochs: seconds of those that count, mean losses of all; and the losses of steps on one batch."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    losses: list[float | None] = dataclasses.field(default_factory=list)
    batch_losses: list[float | None] = dataclasses.field(default_factory=list)
    nodes_per_step: float | None = None


@dataclasses.dataclass
class Row:
    """A network and its training on whole batches, and what each system made of it.

    name : such as 784-128-10@64.   n_steps : of an epoch.   results, by system : a Result.
    """

    name: str
    network: xpnet.MLP
    batch_size: int
    n_steps: int
    results: dict[str, Result] = dataclasses.field(default_factory=dict)

    @property
    def us(self) -> dict[str, Spread]:
        """Microseconds per step, of the systems that have done an epoch that counts."""
        took = {system: result.seconds for system, result in self.results.items() if result.seconds}
        return {system: spread([1e6 * s / self.n_steps for s in seconds]) for system, seconds in took.items()}

    def ratio(self, system: str) -> float | None:
        """Of the medians, xpnet graph's to a system's."""
        us = self.us
        return us[OWN].median / us[system].median if OWN in us and system in us else None

    @property
    def flops(self) -> int:
        """Floating-point operations of a step's matrix products.

        Forward x W, weight gradient x^T dy, and input gradient dy W^T, the first layer's excepted.
        """
        products = [n_in * n_out for n_in, n_out in pairwise(self.network.sizes)]
        return 2 * self.batch_size * (3 * sum(products) - products[0])

    @property
    def bytes(self) -> int:
        """What a step must read and write, however it keeps the rest in caches.

        Parameters and velocity in float32, read and written once; the batch's bytes, read; each layer's output in
        float32, written and read.
        """
        sizes = self.network.sizes
        parameters = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        return 16 * parameters + self.batch_size * (sizes[0] + 8 * sum(sizes[1:]))

    def floors(self, rates: Rates) -> dict[str, float]:
        """Microseconds that the device needs for a step's products, bytes and nodes, each by itself, as far as known.

        rates : see bench._rates.rates.
        """
        gemm, bandwidth, node = (rates.get(name) for name in ("gemm", "bandwidth", "node"))
        nodes = self.results[OWN].nodes_per_step if OWN in self.results else None
        found = {
            "products": self.flops / gemm if gemm else None,
            "bytes": self.bytes / bandwidth if bandwidth else None,
            "nodes": nodes * node if nodes and node else None,
        }
        return {name: 1e6 * seconds for name, seconds in found.items() if seconds is not None}


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


def main(argv: list[str] | None = None) -> int:
    """Measure part by part, print each when it is done, and write what --json and --chart name.

    Returns 1 if anything failed or found no time, else 0, whatever goals are missed.   Raises DeviceError where there
    is no GPU that can be used.
    """
    options = _options(argv)
    watchdog = threading.Timer(60 * options.minutes, _give_up, [options.minutes])
    watchdog.daemon = True
    watchdog.start()
    try:
        # The rest is for what does not end at once when it is told to.
        return _measure_all(options, Budget(0.95 * 60 * options.minutes))
    finally:
        watchdog.cancel()


def _give_up(minutes: float) -> None:
    """End, also while a process does not end that not even a signal can end: one that waits for the driver."""
    print(f"cut off: {minutes:g} minutes are over, and something does not end", flush=True)
    os._exit(1)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit for everything; %(default)g by default")
    parser.add_argument("--no-tests", dest="tests", action="store_false", help="leave out the tests marked cuda")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: only to try out this command")
    options = parse(parser, argv, systems=SYSTEMS, rows=ROWS, rounds=11, data="auto")
    if not 0 < options.minutes <= 1000:
        parser.error(f"--minutes must be more than 0, and at most 1000, not {options.minutes:g}")
    return options


def _measure_all(options: argparse.Namespace, budget: Budget) -> int:
    """Everything in its order; each part has a share of the time that is left, so that none takes another's."""
    backend = xpnet.select(options.device)
    data = xpnet.load_data(options.data)
    rows, faults = [_row(name, data) for name in options.rows], Faults()
    report = _about(backend, data, options) | {"faults": faults, "rows": [], "goals": []}
    _print_about(report)
    systems = [system for system in options.systems if system not in report["missing"]]
    if options.tests:
        report["tests"] = _test(TESTS, 3 / 8 * budget.left(), options.device == "cuda", faults)
        _write(report, options)
    rates = report["rates"] = _rates(options.device, budget.part(0.2), faults)
    rows_budget = budget.part(0.8)
    for i, row in enumerate(rows):
        _measure(row, data, systems, options, rows_budget.part(1 / (len(rows) - i)), faults)
        _print_row(row, options, rates)
        for system, result in row.results.items():
            took = [1e6 * seconds / row.n_steps for seconds in result.seconds]
            against = f"{row.name}: {TORCH_GRAPH}" if system != TORCH_GRAPH else ""
            note(f"{row.name}: {system}", took, "us", against=against)
        report["rows"].append(_as_json(row, rates))
        _write(report, options)
    report["races"] = races = _race(data, systems, options.device, budget, faults)
    goals = _goals({row.name: row for row in rows}, races.get(OWN, {}).get("runs", []), data.name, rates)
    if options.device == "cuda":
        _print_goals(goals)
        # JSON has no infinity.
        for goal in goals:
            value = None if goal.value == math.inf else goal.value
            report["goals"].append(goal._asdict() | {"value": value, "verdict": goal.verdict})
    _write(report, options)
    if options.chart is not None and any(row.us for row in rows):
        _chart([row for row in rows if row.us], report, options.chart)
    return 1 if faults else 0


def _write(report: dict[str, Any], options: argparse.Namespace) -> None:
    """Write what there is: after each part, so that an end before the last one loses nothing."""
    if options.json is not None:
        write_json(options.json, report)


def _row(name: str, data: Dataset) -> Row:
    network, batch_size = network_of(name, data)
    return Row(name, network, batch_size, _whole_batches(data, batch_size))


def _whole_batches(data: Dataset, batch_size: int) -> int:
    """How many there are in the training images."""
    n = len(data.train.labels)
    if n < batch_size:
        raise xpnet.ConfigError(f"{data.name} has {n} training images, less than a batch of {batch_size}")
    return n // batch_size


# The tests ------------------------------------------------------------------------------------------------------------


def _test(folder: Path, limit: float, gpu: bool, faults: Faults) -> dict[str, Any] | None:
    """Run pytest on the tests marked cuda, on the GPU or, if there is none, on what stands in for one.

    Returns passed, failed (with errors) and skipped; failures, pytest's lines on them; seconds; None without tests.
    """
    first = {f"test_{name}": i for i, name in enumerate(TESTS_FIRST)}
    files = sorted(folder.rglob("test_*.py"), key=lambda path: (first.get(path.stem, len(first)), path))
    if not files:
        print("tests marked cuda: none found")
        return None
    options = ["-v", "-n", "0", "-m", "cuda and not slow", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *(str(path.relative_to(folder.parent)) for path in files)]
    # A library that is named has to be there: nothing stands in for the GPU unseen.
    environment = os.environ | {"XPNET_TEST_LIBRARIES": "numpy cupy"} if gpu else None
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(command, cwd=folder.parent, env=environment, stdout=output, stderr=subprocess.STDOUT)
        fault = _ended(process, limit)
        output.seek(0)
        said = output.read()
    seconds = time.monotonic() - start
    counts = Counter(re.findall(r"^\S+::.+? (PASSED|FAILED|ERROR|SKIPPED) .*\[ *\d+%\]$", said, re.MULTILINE))
    passed, failed, skipped = counts["PASSED"], counts["FAILED"] + counts["ERROR"], counts["SKIPPED"]
    print(f"tests marked cuda: {passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s")
    failures = re.findall(r"^(?:FAILED|ERROR) \S.*", said, re.MULTILINE)
    for line in failures[:20]:
        print(f"  {line}")
    if fault or failed or not passed:
        faults.add(f"tests marked cuda: {fault or (f'{failed} failed' if failed else 'none passed')}")
    return {"passed": passed, "failed": failed, "skipped": skipped, "failures": failures, "seconds": seconds}


def _ended(process: subprocess.Popen[bytes], limit: float) -> str:
    """Wait for pytest, and end it when its time is over; returns what kept it from its end, or ""."""
    try:
        code = process.wait(limit)
        return "" if code in (0, 1) else f"pytest ended with exit code {code}"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # at which it tells what it has
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        return f"cut off after {limit:.3g} s"
    finally:
        process.kill()
        process.wait()


# Measuring ------------------------------------------------------------------------------------------------------------


def _rates(device: str, budget: Budget, faults: Faults) -> Rates:
    """What the device can do at best; printed."""
    rates: Rates = {}
    with contextlib.closing(Worker(OWN, budget)) as worker, _noting(faults, "the device's rates failed"):
        rates, failed = worker.rates(device)
        for each in failed:
            faults.add(f"the device's rates: {each}")
    units = {"gemm": (1e-12, "TFLOP/s"), "bandwidth": (1e-9, "GB/s read and written"), "node": (1e6, "us")}
    told = [f"{name} {three(rate * units[name][0])} {units[name][1]}" for name, rate in rates.items() if rate]
    print(f"the device at its best: {', '.join(told) or 'not measured'}", flush=True)
    return rates


@contextlib.contextmanager
def _noting(faults: Faults, what: str) -> Iterator[None]:
    """A context that notes the failure of a system."""
    try:
        yield
    except PeerError as error:
        faults.add(f"{what}: {error}")


def _measure(
    row: Row, data: Dataset, systems: list[str], options: argparse.Namespace, budget: Budget, faults: Faults
) -> None:
    """Train the systems in turn, and compare their losses; one that fails is left out, but what it has done stays."""
    config = xpnet.TrainConfig(
        hidden=row.network.sizes[1:-1],
        optimizer="nesterov",
        lr=ROWS.get(row.name, LEARNING_RATE),
        weight_decay=0.0,
        schedule="constant",
        batch_size=row.batch_size,
        epochs=options.rounds + 2,
        device=options.device,
        validation=0.0,
    )
    train, batch = first(data, row.n_steps * row.batch_size), first(data, row.batch_size)
    workers = {system: Worker(system, budget) for system in systems}
    row.results = {system: Result() for system in systems}

    @contextlib.contextmanager
    def asking(system: str, part: Budget) -> Iterator[tuple[Worker, Result]]:
        worker = workers[system]
        worker.budget = part
        try:
            yield worker, row.results[system]
        except PeerError as error:
            faults.add(f"{row.name}: {system} failed: {error}")
            workers.pop(system).close()

    try:
        # One after the other they get ready and train the first epoch, which compiles and captures.
        for waiting, system in zip(reversed(range(len(systems))), systems, strict=True):
            part = budget.part(1 / (waiting + 2), all_but=waiting * READY + ROUNDS)
            with asking(system, part) as (worker, result):
                worker.start(train, row.network, config)
                result.losses.append(worker.epoch()[1])
        # The rounds, the first of which does not count; one that hangs leaves time for the others.
        order, took = list(workers), 0.0
        for round_ in range(options.rounds + 1):
            begin = budget.left()
            if begin < took + CHECK:
                faults.add(f"{row.name}: time for only {max(0, round_ - 1)} of {options.rounds} rounds")
                break
            random.Random(round_).shuffle(order)
            for system in filter(workers.__contains__, order):
                with asking(system, budget.part(0.5)) as (worker, result):
                    seconds, loss = worker.epoch()
                    result.losses.append(loss)
                    if round_ > 0:
                        result.seconds.append(seconds)
            took = begin - budget.left()
        # The first steps once more, on a single batch, whose order does not matter.
        for system in list(workers):
            with asking(system, budget) as (worker, result):
                result.nodes_per_step = worker.nodes_per_step()
                if system == OWN and result.nodes_per_step is None and config.device == "cuda":
                    faults.add(f"{row.name}: {system} captured no graph: its steps ran operation by operation")
                worker.start(batch, row.network, config.replace(epochs=STEPS))
                result.batch_losses = [worker.epoch()[1] for _ in range(STEPS)]
    finally:
        with ThreadPoolExecutor() as pool:  # an orderly end takes its time
            list(pool.map(Worker.close, workers.values()))
    _compare(row, faults)


def _compare(row: Row, faults: Faults) -> None:
    """Note the systems whose losses on the one batch are not those of the first one, xpnet as a rule."""
    known = {system: result.batch_losses for system, result in row.results.items() if result.batch_losses}
    for system, losses in known.items():
        whose = next(iter(known))
        if (difference := apart(losses, known[whose])) > SAME_BATCH:
            faults.add(
                f"{row.name}: {system} trains differently: its losses in {STEPS} steps on one batch differ by "
                f"{difference:.2g} from those of {whose}"
            )


def _race(data: Dataset, systems: list[str], device: str, budget: Budget, faults: Faults) -> dict[str, dict[str, Any]]:
    """Train to the target, seed by seed, each run after two epochs that are thrown away; and tell.

    Returns by system cold_start, seconds from the start of its process to the end of its first epoch, and runs, for
    each seed the seconds and the test accuracy of each epoch.
    """
    batch_size = RACE.batch_size
    assert isinstance(batch_size, int)
    assert RACE.hidden is not None
    network = xpnet.MLP((data.n_features, *RACE.hidden, data.n_classes))
    print(
        f"\n{TARGET:g} % test accuracy on {data.name}: {network}, batches of {batch_size}, {RACE.epochs} epochs, "
        f"learning rate {RACE.lr:g}, {RACE.schedule} with a warm-up of {RACE.warmup:g};\n"
        "  training only, to the end of the first epoch that reaches it; cold start: from no process to an epoch's end"
    )
    races: dict[str, dict[str, Any]] = {}
    if data.test is None:
        faults.add(f"{TARGET:g} %: {data.name} has no test images")
        return races
    train = first(data, _whole_batches(data, batch_size) * batch_size, test=True)
    racers = [system for system in RACERS if system in systems]
    for i, system in enumerate(racers):
        start, runs = time.perf_counter(), Runs()
        worker = Worker(system, budget.part(1 / (len(racers) - i)))
        with contextlib.closing(worker), _noting(faults, f"{TARGET:g} %: {system} failed"):
            for seed in SEEDS:
                worker.start(train, network, RACE.replace(seed=seed, device=device))
                worker.epoch()
                if not runs:
                    races[system] = {"cold_start": time.perf_counter() - start, "runs": runs}
                worker.epoch()  # what lies elsewhere in a second epoch is captured anew
                runs.append(worker.race(RACE.epochs or 0))
        if runs:
            _print_race(system, **races[system])
    return races


def _goals(rows: dict[str, Row], runs: Runs, data: str, rates: Rates) -> list[Goal]:
    """The goals for one H200, from the rows by name and xpnet's runs to the target."""

    def ratio(system: str) -> float | None:
        return rows[SMALL].ratio(system) if SMALL in rows else None

    share = None
    if LARGE in rows and OWN in (us := rows[LARGE].us) and "products" in (floors := rows[LARGE].floors(rates)):
        share = 100 * floors["products"] / us[OWN].median
    milliseconds = 1000 * _median(runs) if runs and data == "mnist" else None
    race = f"{TARGET:g} % test accuracy on MNIST, ms of training, median of {len(runs)} seeds"
    return [
        *(Goal(f"{SMALL}: {OWN} / {system}", 0.25, ratio(system)) for system in (EAGER, TORCH)),
        *(Goal(f"{SMALL}: {OWN} / {system}", 1.0, ratio(system)) for system in (TORCH_GRAPH, JAX)),
        Goal(race, 100.0, milliseconds),
        Goal(f"{race}: the aim", 30.0, milliseconds),
        Goal(f"{LARGE}: % of the float32 GEMM rate", 70.0, share, at_least=True),
    ]


def _median(runs: Runs) -> float:
    """Seconds of training to the target; a run that never gets there is infinitely slow."""
    return statistics.median(seconds_to(run, TARGET) for run in runs)


# Telling --------------------------------------------------------------------------------------------------------------


def _about(backend: xpnet.Backend, data: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Where and with what the measurement is made."""
    about = machine()
    if backend.name == "cupy":
        about["versions"]["cupy"] = backend.version
    return about | {
        "gpu": _gpu(backend) if options.device == "cuda" else None,
        "data": data.name,
        "minutes": options.minutes,
        "rounds": options.rounds,
        "tolerances": {"steps": STEPS, "same_batch": SAME_BATCH},
        "missing": [system for system in options.systems if not installed(system)],
    }


def _gpu(backend: xpnet.Backend) -> dict[str, str]:
    """The GPU, NVIDIA's driver, and CUDA's versions: the runtime that CuPy uses, and the newest the driver knows."""
    from cupy.cuda import runtime

    driver = "unknown"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        driver = said.partition("\n")[0].strip()
    versions = runtime.runtimeGetVersion(), runtime.driverGetVersion()
    cuda, newest = (f"{number // 1000}.{number % 1000 // 10}" for number in versions)
    return {"name": backend.description, "driver": driver, "cuda": cuda, "newest_cuda": newest}


def _print_about(about: dict[str, Any]) -> None:
    if gpu := about["gpu"]:
        print(f"{gpu['name']}, driver {gpu['driver']}, CUDA {gpu['cuda']} (the driver knows {gpu['newest_cuda']})")
    else:
        print("on the CPU, which only tries this command out: nothing is captured as a graph")
    print_machine(about)
    print(f"{about['data']}; float32, TF32 off everywhere; at most {about['minutes']:g} minutes")
    for system in about["missing"]:
        print(f"missing: {system}, which needs {_peers.SYSTEMS[system].package}")
    sys.stdout.flush()


def _print_row(row: Row, options: argparse.Namespace, rates: Rates) -> None:
    print(
        f"\n{row.network}, batches of {row.batch_size}, {row.n_steps:,} steps an epoch, learning rate "
        f"{ROWS.get(row.name, LEARNING_RATE):g}; medians of {options.rounds} rounds\n"
        "                        us/step     middle half   xpnet/it  TFLOP/s  nodes/step  mean loss"
    )
    for system, (low, median, high) in row.us.items():
        ratio, nodes = row.ratio(system), row.results[system].nodes_per_step
        losses = [loss for loss in row.results[system].losses if loss is not None]
        print(
            f"  {system:20}{median:9.1f}{low:9.1f} to {high:7.1f}{'-' if ratio is None else f'{ratio:.2f}':>9}"
            f"{row.flops / median / 1e6:9.2f}{'-' if nodes is None else f'{nodes:.1f}':>12}"
            f"{statistics.mean(losses):11.4f}"
        )
    floors = row.floors(rates)
    whats = {"products": f"{row.flops / 1e9:.3g} GFLOP", "bytes": f"{row.bytes / 1e6:.3g} MB", "nodes": "the nodes"}
    told = [f"{whats[name]} {three(us)} us" for name, us in floors.items()]
    print(f"  the floor: {', '.join(told) or 'not measured'}", end="")
    if OWN in row.us and "products" in floors:
        print(f"; {OWN} is at {100 * floors['products'] / row.us[OWN].median:.3g} % of the GEMM rate", end="")
    print(flush=True)


def _print_race(system: str, cold_start: float, runs: Runs) -> None:
    took = [1000 * seconds_to(run, TARGET) for run in runs]
    median, *each = ("never" if ms == math.inf else f"{ms:.1f} ms" for ms in (1000 * _median(runs), *took))
    print(
        f"  {system}: {median} in the median of {len(runs)} seeds: {', '.join(each)}\n"
        f"    {', '.join(f'{100 * run[-1][1]:.2f}' for run in runs)} % at the end; cold start {cold_start:.1f} s",
        flush=True,
    )


def _print_goals(goals: list[Goal]) -> None:
    print("\nGoals for one H200")
    for goal in goals:
        value = "" if goal.value is None else f", measured {goal.value:.3g}"
        wanted = f"{'at least' if goal.at_least else 'at most'} {goal.limit:g}"
        print(f"  {goal.verdict:12} {goal.what}: {wanted}{value}")
    sys.stdout.flush()


def _as_json(row: Row, rates: Rates) -> dict[str, Any]:
    return {
        "name": row.name,
        "sizes": row.network.sizes,
        "batch_size": row.batch_size,
        "lr": ROWS.get(row.name, LEARNING_RATE),
        "steps": row.n_steps,
        "flops": row.flops,
        "bytes": row.bytes,
        "floor_us": row.floors(rates),
        "systems": {
            system: dataclasses.asdict(row.results[system])
            | {"us_per_step": us._asdict(), "xpnet_ratio": row.ratio(system)}
            for system, us in row.us.items()
        },
    }


def _chart(rows: list[Row], report: dict[str, Any], path: Path) -> None:
    """Draw the rows: microseconds per step, and a line at the floor of products and bytes."""
    panels = []
    for row in rows:
        floors = row.floors(report["rates"])
        floor = max((floors[name] for name in ("products", "bytes") if name in floors), default=None)
        title = f"{'-'.join(map(str, row.network.sizes))}, batches of {row.batch_size}"
        panels.append(Panel(title, row.us, floor, "products or memory alone"))
    where = report["gpu"]["name"] if report["gpu"] else "the CPU, which only tries this command out"
    rounds = f"medians of {report['rounds']} rounds; black: the middle half"
    draw(
        path,
        "Training on a GPU: microseconds per step, less is better",
        f"{report['data']}, {where}, float32 without TF32, Nesterov; {rounds}",
        panels,
        own=OWN,
        unit="us",
        per="step",
    )
