"""scikit-learn's MLP and, with the import changed, xpnet's: the same settings, data and CPUs.

The two take turns. A fit of the large set has a process of its own, once with its threads left to themselves, where the
wall time counts, and once on one BLAS thread, where the CPU time does; a fit of the small one, and a prediction, is
repeated in a process that is warm. The time is that of fit or predict alone. No fit ends before its last iteration, but
for those of lbfgs. The scores of five folds are those of the default settings behind a StandardScaler, and only here
may a fit end early; diabetes is measured twice, the second time with its targets scaled too.
"""

import argparse
import contextlib
import os
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

import xpnet
from bench._common import Parser, machine, print_machine, spread, three, two_cpus, write_json
from bench._log import note
from bench._workers import SETTLE, PeerError, Worker
from bench.tabular import System, Table, load, measure, standard_error
from xpnet.backend._base import THREAD_SETTINGS
from xpnet.checks import required

OWN, PEER = "xpnet", "scikit-learn"
MODULES = {OWN: "xpnet.sklearn", PEER: "sklearn.neural_network"}

SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"solver": "sgd", "momentum": 0.9},
    "lbfgs": {"solver": "lbfgs"},
}
LARGE, DTYPES = ("adam", "sgd"), ("float32", "float64")
SMALL = "iris", 200  # and its iterations
CALLS = {10_000: 2, 1: 50}  # of predict in a round, by the number of rows
SHORT = 8  # times as many rounds of what takes milliseconds
SETS = ("digits", "wine", "breast cancer", "moons 1,000", "diabetes", "diabetes, scaled")
PARTS = ("fit", "small", "predict", "scores")

# xpnet / scikit-learn, at most; and xpnet - scikit-learn in points, at least.
WALL, CPU, SMALL_FIT, PREDICT = 0.6, 0.75, 1.0, {10_000: 1.0, 1: 1.5}
ACCURACY, SCORE = -0.2, -0.5


class Fit(NamedTuple):
    """What a fit took and reached: wall and CPU seconds, accuracy on the test examples in [0, 1], and iterations."""

    wall: float
    cpu: float
    accuracy: float
    iterations: int


@dataclass
class Row:
    """A line of the table.

    unit : "s" and "ms" are compared by the ratio of the medians, "%" by the difference of the means.
    goal : for it, or None.   numbers, by system : as they were measured, in turns.
    """

    name: str
    unit: str
    goal: float | None
    numbers: dict[str, list[float]] = field(default_factory=lambda: {OWN: [], PEER: []})

    def middle(self, system: str) -> float:
        """The mean of scores, the median of times."""
        return (statistics.mean if self.unit == "%" else statistics.median)(self.numbers[system])

    @property
    def compared(self) -> float:
        """The difference in points or the ratio."""
        own, peer = self.middle(OWN), self.middle(PEER)
        return own - peer if self.unit == "%" else own / peer

    @property
    def reached(self) -> bool:
        """Whether this is what it is to be."""
        if self.goal is None:
            return True
        return self.compared >= self.goal if self.unit == "%" else self.compared <= self.goal


class Server:
    """What a worker answers with."""

    def __init__(self, system: str) -> None:
        from sklearn.exceptions import ConvergenceWarning

        warnings.simplefilter("ignore", ConvergenceWarning)
        self._estimator = import_module(MODULES[system]).MLPClassifier

    def load(self, name: str, dtype: str, threads: int | None) -> None:
        if threads is not None:
            threadpool_limits(threads)
        if name == SMALL[0]:
            self._train = self._test = load(name)
        else:
            data = xpnet.load_data(name)
            assert data.test is not None
            self._train, self._test = (
                Table(part.images.reshape(len(part), -1) / np.asarray(255, dtype), part.labels)
                for part in (data.train, data.test)
            )

    def fit(self, settings: dict[str, Any]) -> Fit:
        estimator = self._estimator(**settings)
        cpu, wall = time.process_time(), time.perf_counter()
        estimator.fit(*self._train)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self._fitted = estimator
        return Fit(wall, cpu, float(estimator.score(*self._test)), int(estimator.n_iter_))

    def predict(self, rows: int, calls: int) -> list[float]:
        X, seconds = self._test.X[:rows], []
        for _ in range(calls + 1):
            start = time.perf_counter()
            self._fitted.predict(X)
            seconds.append(time.perf_counter() - start)
        return seconds[1:]  # the first one wakes the process up


class Estimator(Worker):
    """A process in which a system's MLPClassifier fits and predicts."""

    def __init__(self, system: str, name: str, dtype: str, threads: int | None = None) -> None:
        super().__init__(system, server=Server)
        self._ask("load", name, dtype, threads)

    def fit(self, settings: dict[str, Any]) -> Fit:
        """Train on the training examples."""
        fit: Fit = self._ask("fit", settings)
        return fit

    def predict(self, rows: int, calls: int) -> list[float]:
        """Seconds of each call, on the first rows of the test examples."""
        seconds: list[float] = self._ask("predict", rows, calls)
        return seconds


def main(argv: list[str] | None = None) -> int:
    """Measure part by part, print a line for each row, and write what --json names.

    Returns 1 if a goal is missed or something failed, else 0.
    """
    options = _options(argv)
    with two_cpus() as cpus:
        about = machine() | {
            "cpus": cpus,
            "environment": {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ},
            "data": options.data,
            **{name: getattr(options, name) for name in ("iterations", "rounds", "seeds", "device")},
        }
        _print_about(about)
        rows, faults = [], []
        for part in options.parts:
            try:
                for row in MEASURES[part](options):
                    _print_row(row)
                    _note_row(row)
                    rows.append(row)
            except PeerError as error:
                faults.append(f"{part} failed: {error}")
                print(faults[-1])
    if options.json is not None:
        found = [asdict(row) | {"compared": row.compared, "reached": row.reached} for row in rows]
        write_json(options.json, about | {"rows": found, "faults": faults})
    missed = [row.name for row in rows if not row.reached]
    print(f"NOT REACHED: {'; '.join(missed)}" if missed else "all goals reached")
    return 1 if missed or faults else 0


def _note_row(row: Row) -> None:
    """For the log: times in times of the peer's, and errors for scores."""
    if row.unit == "%":
        note(row.name, [100 - score for score in row.numbers[OWN]], "%")
    else:
        for system, numbers in row.numbers.items():
            note(f"{row.name}: {system}", numbers, row.unit, against=f"{row.name}: {PEER}" if system == OWN else "")


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench sklearn", description=__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--data", default="mnist", help="the large set; %(default)s by default")
    parser.add_argument("--iterations", type=int, default=20, help="of a fit of it; %(default)s by default")
    parser.add_argument("--rounds", type=int, default=5, help="that count; %(default)s by default")
    parser.add_argument(
        "--sets", nargs="+", default=list(SETS), metavar="SET", help=f"of the scores: {', '.join(SETS)}"
    )
    parser.add_argument("--seeds", type=int, default=5, help="divisions into five folds; %(default)s by default")
    parser.add_argument("--device", default="cpu", help="such as cuda: xpnet fits the large set there too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    options = parser.parse_args(argv)
    for name, given, choices in (("part", options.parts, PARTS), ("set", options.sets, SETS)):
        for each in given:
            if each not in choices:
                parser.error(f"unknown {name} {each!r}; the choices are {', '.join(choices)}")
    for name in ("iterations", "rounds", "seeds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(options, name)}")
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"{options.json}: there is no folder {options.json.parent}")
    required("sklearn", "bench sklearn", "sklearn")
    if xpnet.load_data(options.data).test is None:
        parser.error(f"{options.data} has no test images")
    return options


# Measuring ------------------------------------------------------------------------------------------------------------


def _fit(options: argparse.Namespace) -> Iterator[Row]:
    """Fits of the large set by each solver, in each dtype."""
    for solver, dtype in ((solver, dtype) for solver in LARGE for dtype in DTYPES):
        name = f"fit {options.data}, {solver}, {dtype}"
        fits = _large(options, solver, dtype)
        yield Row(f"{name}: wall", "s", WALL, {system: [fit.wall for fit in fits[system]] for system in MODULES})
        limited = _large(options, solver, dtype, threads=1)
        took = {system: [fit.cpu for fit in limited[system]] for system in MODULES}
        yield Row(f"{name}, 1 thread: CPU", "s", CPU, took)
        both = {system: [100 * fit.accuracy for fit in fits[system] + limited[system]] for system in MODULES}
        yield Row(f"{name}: accuracy", "%", ACCURACY, both)
        if options.device != "cpu":
            fits = _large(options, solver, dtype, own={"device": options.device})
            took = {system: [fit.wall for fit in fits[system]] for system in MODULES}
            yield Row(f"{name}, {options.device}: wall", "s", None, took)


def _large(
    options: argparse.Namespace, solver: str, dtype: str, threads: int | None = None, own: dict[str, Any] | None = None
) -> dict[str, list[Fit]]:
    """Fits of the large set, in turns.   own : settings of xpnet alone."""
    fits: dict[str, list[Fit]] = {system: [] for system in MODULES}
    for round_, system in _in_turns(options.rounds):
        settings = _settings(solver, options.iterations, round_) | (own or {} if system == OWN else {})
        with contextlib.closing(Estimator(system, options.data, dtype, threads)) as estimator:
            fits[system].append(estimator.fit(settings))
    return fits


def _small(options: argparse.Namespace) -> Iterator[Row]:
    """Fits of a small set by each solver, three in a call, so that most find the process awake."""
    name, iterations = SMALL
    with _estimators(name, "float64") as estimators:
        for solver in SOLVERS:
            row = Row(f"fit {name}, {solver}", "ms", SMALL_FIT)
            steps = Row(f"fit {name}, {solver}: iterations", "", None)
            for round_, system in _in_turns(SHORT * options.rounds + 1):
                for i in range(3):
                    fit = estimators[system].fit(_settings(solver, iterations, 3 * round_ + i))
                    if round_ > 0:
                        row.numbers[system].append(1000 * fit.wall)
                        steps.numbers[system].append(fit.iterations)
                time.sleep(SETTLE)
            yield row
            if solver == "lbfgs":
                yield steps


def _predict(options: argparse.Namespace) -> Iterator[Row]:
    """Predictions of many rows and of one."""
    test = xpnet.load_data(options.data).test
    assert test is not None
    for dtype in DTYPES:
        with _estimators(options.data, dtype) as estimators:
            for estimator in estimators.values():
                estimator.fit(_settings("adam", 1, 0))
            for most, calls in CALLS.items():
                rows = min(most, len(test))
                row = Row(f"predict {rows:,} of {options.data}, {dtype}", "ms", PREDICT[most])
                for round_, system in _in_turns(SHORT * options.rounds + 1):
                    seconds = estimators[system].predict(rows, calls)
                    if round_ > 0:
                        row.numbers[system] += [1000 * each for each in seconds]
                    time.sleep(SETTLE)
                yield row


def _scores(options: argparse.Namespace) -> Iterator[Row]:
    """Scores of five folds with the default settings."""
    from sklearn.exceptions import ConvergenceWarning

    for name in options.sets:
        table, scaled = load(name.removesuffix(", scaled")), name.endswith(", scaled")
        systems = {system: _behind_a_scaler(system, regression=table.regression, scaled=scaled) for system in MODULES}
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = measure(table, systems, 5, options.seeds)
        scores = {system: [100 * score for score in found[system].scores] for system in MODULES}
        yield Row(f"{name}: {'R2' if table.regression else 'accuracy'}", "%", SCORE, scores)


MEASURES: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "fit": _fit,
    "small": _small,
    "predict": _predict,
    "scores": _scores,
}


def _settings(solver: str, iterations: int, seed: int) -> dict[str, Any]:
    """Of an estimator that doesn't end before its last iteration, unless by lbfgs."""
    return SOLVERS[solver] | {"max_iter": iterations, "n_iter_no_change": iterations, "random_state": seed}


def _in_turns(rounds: int) -> Iterator[tuple[int, str]]:
    """The number of each round with each system, in another order each round."""
    for round_ in range(rounds):
        for system in random.Random(round_).sample(list(MODULES), len(MODULES)):
            yield round_, system


@contextlib.contextmanager
def _estimators(name: str, dtype: str) -> Iterator[dict[str, Estimator]]:
    """A context with a worker of each system, which has the data."""
    with contextlib.ExitStack() as stack:
        yield {system: stack.enter_context(contextlib.closing(Estimator(system, name, dtype))) for system in MODULES}


def _behind_a_scaler(system: str, *, regression: bool, scaled: bool) -> System:
    """A system's network, with its default settings.

    scaled : whether the targets are scaled too.
    """
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    estimator = getattr(import_module(MODULES[system]), "MLPRegressor" if regression else "MLPClassifier")

    def fit(table: Table, seed: int) -> Callable[[Any], Any]:
        model = make_pipeline(StandardScaler(), estimator(random_state=seed))
        if scaled:
            model = TransformedTargetRegressor(model, transformer=StandardScaler())
        predict: Callable[[Any], Any] = model.fit(*table).predict
        return predict

    return fit


# Telling --------------------------------------------------------------------------------------------------------------


def _print_about(about: dict[str, Any]) -> None:
    print_machine(about)
    where = (
        f"CPUs {' and '.join(map(str, about['cpus']))}" if about["cpus"] else "all CPUs, as they can't be limited here"
    )
    print(
        f"{about['data']}, {about['iterations']} iterations, {about['rounds']} rounds; {about['seeds']} seeds; {where}"
    )
    for name, value in about["environment"].items():
        print(f"{name}={value} is set, and determines the number of threads")
    print(f"{'':44}{OWN:>12}{PEER:>15}  ratio of medians (middle half of the turns'), or difference of means")


def _print_row(row: Row) -> None:
    own, peer = row.numbers[OWN], row.numbers[PEER]
    if row.unit == "%":
        shown = [f"{row.middle(system):.2f} %" for system in MODULES]
        error = standard_error([a - b for a, b in zip(own, peer, strict=True)])
        compared, goal = f"{row.compared:+.2f} +- {error:.2f} points", f">= {row.goal}"
    else:
        shown = [f"{three(row.middle(system))} {row.unit}" for system in MODULES]
        low, _, high = spread([a / b for a, b in zip(own, peer, strict=True)])
        compared, goal = f"{row.compared:.2f} ({low:.2f} to {high:.2f})", f"<= {row.goal}"
    wanted = "" if row.goal is None else f"goal {goal}{'' if row.reached else ' NOT REACHED'}"
    print(f"{row.name:44}{shown[0]:>12}{shown[1]:>15}  {compared:24} {wanted}".rstrip(), flush=True)
