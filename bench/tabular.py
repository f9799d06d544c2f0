"""xpnet against scikit-learn's networks and linear models on tables, five-fold, each with its default settings.

All networks have one hidden layer of 100 units, and all systems the same folds and one thread; they take turns, fit by
fit, and the seconds are those of the CPU, of which other work on the machine takes nothing. Before scikit-learn's
models stands a StandardScaler, as their users do it; xpnet scales by itself. In a regression xpnet scales the targets
too, which MLPRegressor leaves to its user: so it takes part as it is, and once more behind a TransformedTargetRegressor
as "MLP scaled".
"""

import argparse
import logging
import math
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import xpnet
from bench._common import Parser, machine, print_machine, three, write_json
from bench._log import note
from xpnet.checks import required

HIDDEN = 100
# From as many rows on xpnet is to take at most this share of the seconds of scikit-learn's network.
ROWS, SHARE = 1000, 0.5

CLASSES = ("digits", "iris", "wine", "breast cancer", "moons 1,000", "moons 10,000", "classification 1,000")
NUMBERS = ("diabetes", "regression 1,000", "regression 10,000")
SETS = CLASSES + NUMBERS
OWN, MLP, SCALED, LINEAR = SYSTEMS = ("xpnet", "MLP", "MLP scaled", "linear")


class Table(NamedTuple):
    """Features (n, k), and labels or numbers (n,)."""

    X: NDArray[np.float64]
    y: NDArray[Any]

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted."""
        return self.y.dtype.kind == "f"


# Fits itself with a seed, and returns what predicts.
System = Callable[[Table, int], Callable[[Any], Any]]


class Measured(NamedTuple):
    """What a system reached on a set, fold by fold: accuracies or R2, and the CPU's seconds of each fit."""

    scores: list[float]
    seconds: list[float]


def main(argv: list[str] | None = None) -> int:
    """Fit every system on every set and fold, and print scores and seconds.

    Returns 1 if xpnet's mean score is below that of scikit-learn's networks, or a fit takes longer than it may, else 0.
    """
    options = _options(argv)
    logger, level = logging.getLogger("xpnet"), logging.getLogger("xpnet").level
    logger.setLevel(logging.ERROR)  # that the largest pixel of digits is 16
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="sklearn")  # that 200 iterations were not enough
            return _run(options)
    finally:
        logger.setLevel(level)


def _run(options: argparse.Namespace) -> int:
    about = machine()
    print_machine(about)
    print("accuracy or R2 in %, with the standard error of the mean over folds; CPU seconds per fit, median")
    print(f"{'':22}{'rows':>7}{'':3}" + "".join(f"{name:>17}" for name in SYSTEMS) + f"{'xpnet / MLP':>13}")
    found: dict[str, dict[str, Measured]] = {}
    sizes: dict[str, int] = {}
    with threadpool_limits(1):
        for name in options.sets:
            table = load(name)
            sizes[name] = len(table.y)
            found[name] = measure(table, _systems(table.regression), options.folds, options.seeds)
            _print_set(name, table, found[name])
            for system, measured in found[name].items():
                note(f"{name}, {system}: errors", [100 - 100 * score for score in measured.scores], "%")
                note(f"{name}, {system}: a fit", measured.seconds, "s")
    reached = _print_summary(found, sizes)
    if options.json is not None:
        sets = {
            name: {"rows": sizes[name], "systems": {system: m._asdict() for system, m in systems.items()}}
            for name, systems in found.items()
        }
        write_json(options.json, about | {"folds": options.folds, "seeds": options.seeds, "sets": sets})
    return 0 if reached else 1


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench tabular", description=__doc__)
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET", help=", ".join(SETS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3, help="divisions into folds; %(default)s by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    options = parser.parse_args(argv)
    for name in options.sets:
        if name not in SETS:
            parser.error(f"unknown set {name!r}; the choices are {', '.join(SETS)}")
    if options.folds < 2 or options.seeds < 1:
        parser.error("--folds must be at least 2, and --seeds at least 1")
    required("sklearn", "bench tabular", "test")
    return options


def load(name: str) -> Table:
    """A set that scikit-learn ships or draws."""
    from sklearn import datasets

    kind, _, count = name.partition(" ")
    n = int(count.replace(",", "")) if count.replace(",", "").isdigit() else 0
    if kind == "moons":
        return Table(*datasets.make_moons(n, noise=0.3, random_state=0))
    if kind == "classification":
        return Table(*datasets.make_classification(n, random_state=0))
    if kind == "regression":
        return Table(*datasets.make_regression(n, random_state=0))
    return Table(*getattr(datasets, f"load_{name.replace(' ', '_')}")(return_X_y=True))


def measure(table: Table, systems: dict[str, System], folds: int, seeds: int) -> dict[str, Measured]:
    """Fit each system on each fold, in turns, after one fit of each that does not count."""
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import KFold, StratifiedKFold

    divide, score = (KFold, r2_score) if table.regression else (StratifiedKFold, accuracy_score)
    found = {name: Measured([], []) for name in systems}
    for fit in systems.values():
        fit(Table(table.X[:: len(table.y) // 50], table.y[:: len(table.y) // 50]), 0)
    for seed in range(seeds):
        for i, (rows, others) in enumerate(divide(folds, shuffle=True, random_state=seed).split(*table)):
            train = Table(table.X[rows], table.y[rows])
            for name in random.Random(f"{seed} {i}").sample(list(systems), len(systems)):
                start = time.process_time()
                predict = systems[name](train, seed)
                found[name].seconds.append(time.process_time() - start)
                found[name].scores.append(float(score(table.y[others], predict(table.X[others]))))
    return found


def _systems(regression: bool) -> dict[str, System]:
    """The systems that take part."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def own(table: Table, seed: int) -> Callable[[Any], Any]:
        data = xpnet.Dataset.from_arrays(*table, task="regression" if table.regression else "auto")
        config = xpnet.TrainConfig(hidden=(HIDDEN,), seed=seed)
        network = config.network(data.n_features, data.n_outputs, data.task)
        return xpnet.fit(network, data, config, progress=False).model.predict

    def behind_a_scaler(model: Callable[[int], Any]) -> System:
        return lambda table, seed: make_pipeline(StandardScaler(), model(seed)).fit(*table).predict

    if not regression:
        models: dict[str, Callable[[int], Any]] = {
            MLP: lambda seed: MLPClassifier(random_state=seed),
            LINEAR: lambda seed: LogisticRegression(),
        }
    else:
        models = {
            MLP: lambda seed: MLPRegressor(random_state=seed),
            SCALED: lambda seed: TransformedTargetRegressor(
                MLPRegressor(random_state=seed), transformer=StandardScaler()
            ),
            LINEAR: lambda seed: Ridge(),
        }
    return {OWN: own} | {name: behind_a_scaler(model) for name, model in models.items()}


def _print_set(name: str, table: Table, found: dict[str, Measured]) -> None:
    scores, seconds = "", ""
    for system in SYSTEMS:
        if system in found:
            reached = [100 * score for score in found[system].scores]
            scores += f"{statistics.mean(reached):11.2f} +- {standard_error(reached):.2f}"
            seconds += f"{three(statistics.median(found[system].seconds)):>15} s"
        else:
            scores, seconds = f"{scores}{'':17}", f"{seconds}{'':17}"
    metric = "R2" if table.regression else "acc"
    print(f"{name:22}{len(table.y):>7,} {metric:>3}{scores}")
    print(f"{'':33}{seconds}{_ratio(found):13.2f}", flush=True)


def _print_summary(found: dict[str, dict[str, Measured]], sizes: dict[str, int]) -> bool:
    """The means over the sets; whether they are what they are to be."""
    reached = True
    for metric, names in (("accuracy", CLASSES), ("R2", NUMBERS)):
        for other in (MLP, SCALED, LINEAR):
            differences = [
                100 * (statistics.mean(found[name][OWN].scores) - statistics.mean(found[name][other].scores))
                for name in names
                if other in found.get(name, ())
            ]
            if differences:
                mean, sets = statistics.mean(differences), f"{len(differences)} sets"
                print(f"{metric}, xpnet - {other}: {mean:+.2f} points +- {standard_error(differences):.2f} over {sets}")
                reached &= other == LINEAR or mean >= 0
    large = {name: _ratio(found[name]) for name, rows in sizes.items() if rows >= ROWS}
    if large:
        slowest = max(large, key=large.__getitem__)
        print(f"seconds, xpnet / MLP, from {ROWS:,} rows on: at most {large[slowest]:.2f} ({slowest})")
        reached &= large[slowest] <= SHARE
    print(f"as accurate as MLP, and {SHARE:g} of its seconds: {'reached' if reached else 'NOT REACHED'}")
    return reached


def _ratio(found: dict[str, Measured]) -> float:
    """Median seconds of xpnet to those of scikit-learn's network."""
    return statistics.median(found[OWN].seconds) / statistics.median(found[MLP].seconds)


def standard_error(numbers: list[float]) -> float:
    """The standard error of the mean."""
    return statistics.stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
