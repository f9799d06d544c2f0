"""Test accuracy on MNIST with no setting changed, or with a recipe, over five seeds; and the time to 98 %.

PyTorch takes turns with xpnet, seed by seed, each in its own process on the same two CPUs, with the same network,
initial weights and settings. The time to an accuracy counts the training steps, without evaluation, to the end of the
first epoch that reaches it. Recipes with settings that our PyTorch script lacks, and other devices, are measured with
xpnet only.
"""

import argparse
import contextlib
import math
import statistics
import time

import xpnet
from bench._common import Parser, seconds_to, two_cpus
from bench._log import note
from bench._peers import installed
from bench._workers import SETTLE, PeerError, Worker
from xpnet.data import Dataset
from xpnet.recipes import read_recipe

# Settings that the PyTorch script follows; a recipe that changes others is not for it.
FOLLOWED = (
    *(
        "hidden",
        "lr",
        "momentum",
        "weight_decay",
        "batch_size",
        "epochs",
        "seed",
        "optimizer",
        "schedule",
        "validation",
    ),
    "device",  # of which there is a reason of its own
)

Epochs = list[tuple[float, float]]


def main(argv: list[str] | None = None) -> int:
    """Train once for each seed and print the accuracies and times, their means or medians and their spread."""
    options = _options(argv)
    data = xpnet.load_data(options.data)
    if data.test is None:
        raise xpnet.ConfigError(f"{options.data} has no test images")
    config = xpnet.TrainConfig().replace(**(read_recipe(options.recipe).settings if options.recipe else {}))
    backend = xpnet.select(options.device)
    config = config.replace(device=backend.device, test_each_epoch=True)
    print(f"{options.recipe or 'no setting changed'}, {data.name}, {backend!r}")
    systems = _systems(config, backend.device)
    limits: contextlib.AbstractContextManager[list[int]] = contextlib.nullcontext([])
    if backend.device == "cpu":
        limits = two_cpus()
    with limits as cpus:
        if cpus:
            print(f"each system on CPUs {' and '.join(map(str, cpus))}")
        runs = _train(data, config, systems, options)
    for system, trained in runs.items():
        if trained:
            _print_system(system, trained, options.target)
            note(f"{data.name}, {system}: test errors", [100 - 100 * epochs[-1][1] for epochs in trained], "%")
            note(f"{data.name}, {system}: training", [sum(seconds for seconds, _ in epochs) for epochs in trained], "s")
    if len(runs) == 2 and all(runs.values()):
        _print_ratios(runs["xpnet"], runs["PyTorch"], options.target)
    return int(any(len(trained) < options.seeds for trained in runs.values()))


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench accuracy", description=__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", help="name or file of a recipe")
    parser.add_argument("--target", type=float, default=98.0, help="accuracy in %% to measure the time to")
    options = parser.parse_args(argv)
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, not {options.seeds}")
    if not 0 < options.target <= 100:
        parser.error(f"--target must be in (0, 100], not {options.target:g}")
    return options


def _train(
    data: Dataset, config: xpnet.TrainConfig, systems: list[str], options: argparse.Namespace
) -> dict[str, list[Epochs]]:
    """The runs of each system, which take turns; a system that fails is left out from then on."""
    runs: dict[str, list[Epochs]] = {system: [] for system in systems}
    workers = {system: Worker(system) for system in systems}
    try:
        for seed in range(options.seeds):
            # Now the one goes first, now the other.
            for system in list(workers)[:: -1 if seed % 2 else 1]:
                try:
                    sent = data if seed == 0 else None
                    epochs = workers[system].run(sent, config.replace(seed=seed))
                except PeerError as error:
                    print(f"{system} failed: {error}", flush=True)
                    workers.pop(system).close()
                    continue
                runs[system].append(epochs)
                _print_run(system, seed, epochs, options.target)
                time.sleep(SETTLE)
    finally:
        for worker in workers.values():
            worker.close()
    return runs


def _systems(config: xpnet.TrainConfig, device: str) -> list[str]:
    """xpnet, and PyTorch where it can do the same; if not, why not is printed."""
    default = xpnet.TrainConfig(test_each_epoch=True)
    same = config.replace(**{name: getattr(default, name) for name in FOLLOWED}) == default
    reasons = {
        "devices other than the CPU are measured with xpnet only": device != "cpu",
        "the recipe has settings that the PyTorch script does not follow": not same
        or config.optimizer not in ("sgd", "momentum", "nesterov")
        or config.schedule not in ("constant", "linear")
        or config.batch_size == "full",
        "missing: it needs torch: pip install --group peers": not installed("PyTorch"),
    }
    for reason, holds in reasons.items():
        if holds:
            print(f"PyTorch: {reason}")
            return ["xpnet"]
    return ["xpnet", "PyTorch"]


def _print_run(system: str, seed: int, epochs: Epochs, target: float) -> None:
    seconds = seconds_to(epochs, target)
    what = f"never {target:g} %" if seconds == math.inf else f"{target:g} % after {seconds:.2f} s"
    total = sum(seconds for seconds, _ in epochs)
    last = f"{100 * epochs[-1][1]:.2f} % after {len(epochs)} epochs"
    print(f"{system:7} seed {seed}: {last}, {total:.2f} s of training; {what}", flush=True)


def _print_system(system: str, runs: list[Epochs], target: float) -> None:
    accuracies = [100 * run[-1][1] for run in runs]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    totals = [sum(seconds for seconds, _ in run) for run in runs]
    print(
        f"{system}: mean {statistics.mean(accuracies):.3f} %, standard deviation {spread:.3f}; training "
        f"{_spread(totals)}"
    )
    # A seed that never gets there is infinitely slow.
    to_target = [seconds_to(run, target) for run in runs]
    reached = sum(map(math.isfinite, to_target))
    print(f"  {target:g} %: {reached} of {len(runs)} seeds{', ' + _spread(to_target) if reached else ''}")


def _print_ratios(own: list[Epochs], other: list[Epochs], target: float) -> None:
    """xpnet's medians to PyTorch's."""
    totals = [statistics.median(sum(seconds for seconds, _ in run) for run in runs) for runs in (own, other)]
    to_target = [statistics.median(seconds_to(run, target) for run in runs) for runs in (own, other)]
    ratios = f"{totals[0] / totals[1]:.2f} in seconds of training"
    if all(map(math.isfinite, to_target)):
        ratios += f", {to_target[0] / to_target[1]:.2f} in seconds to {target:g} %"
    print(f"xpnet / PyTorch, medians: {ratios}")


def _spread(seconds: list[float]) -> str:
    median, low, high = (
        "never" if s == math.inf else f"{s:.2f} s" for s in (statistics.median(seconds), min(seconds), max(seconds))
    )
    return f"{median} in the median, {low} to {high}"
