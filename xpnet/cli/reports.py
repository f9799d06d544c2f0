"""What xpnet train prints around a run: its header, its plan, its results."""

import math
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from xpnet.backend import Backend
from xpnet.cli.datasets import form_of, in_words, labels_of, metric_of, written
from xpnet.cli.settings import shown
from xpnet.cli.terminal import device_line, print_header, result_console, say
from xpnet.data import Dataset
from xpnet.display import duration
from xpnet.distributed import Team
from xpnet.errors import ModelError
from xpnet.model import Ensemble, Model
from xpnet.numerics.network import MLP
from xpnet.platforms import quoted
from xpnet.training.config import SETTINGS, SMALL, TrainConfig
from xpnet.training.estimate import estimate
from xpnet.training.fit import Result
from xpnet.training.prepare import n_trained_on, prepare
from xpnet.training.start import network_for

__all__ = ["print_plan", "print_result", "print_run_header", "print_seeds"]


def print_run_header(
    config: TrainConfig, data: Dataset, backend: Backend, start: MLP | Model, out: Path, team: Team
) -> None:
    """Print what is trained on what, where, and how, on stderr."""
    trained_on = n_trained_on(data, config)
    counts = {"training": trained_on, "validation": len(data) - trained_on or len(data.validation or ())}
    counts["test"] = len(data.test or ())
    network, usual = network_for(start, data), TrainConfig().resolved(SMALL, "cross-entropy")
    config = config.resolved(trained_on, network.loss, trained=isinstance(start, Model))
    n_params = sum(map(math.prod, network.param_shapes().values()))
    drawn = config.data == "auto" and data.name != "mnist"
    batch = "full batch" if config.batch_size == "full" else f"batches of {config.batch_size}"
    tf32 = " with products in TF32" if backend.tf32 else ", not TF32, which needs CUDA" if config.tf32 else ""
    extras = [
        f"{name.replace('_', ' ')} {shown(getattr(config, name))}"
        for name, setting in SETTINGS.items()
        if not setting.in_header and getattr(config, name) != getattr(usual, name) and not config.lacking(name)
    ]
    rows = {
        "data": f"{data.name}{' IN PLACE OF MNIST' if drawn else ''} ({data.source}): "
        f"{', '.join(f'{n:,} {name}' for name, n in counts.items() if n)} {form_of(data)}, {labels_of(data)}",
        "device": device_line(backend),
        "network": f"{network}, {n_params:,} parameters, {network.loss}",
        "training": f"{config.optimizer}, learning rate {config.rate:g} {config.schedule}, {batch}, "
        f"{config.epochs} epoch{'s'[: config.epochs != 1]}, {config.dtype}{tf32}, seed {config.seed}",
        "also": ", ".join(extras),
        "team": f"{team.size} processes, {team.library}" if team.size > 1 else "",
        "run": str(out),
    }
    print_header(rows)


def print_plan(config: TrainConfig, data: Dataset, backend: Backend, start: MLP | Model, runs: int, team: Team) -> None:
    """Print the resolved settings as TOML, and on stderr what so many runs with them are expected to take.

    Of a team only the first process does, by its own speed.
    """
    if team.rank:
        return
    network, config = network_for(start, data), config.replace(shards=config.shards or team.size)
    run, splits = prepare(network, data, config, backend, start=start if isinstance(start, Model) else None)
    steps, seconds, size = estimate(run, splits)
    times = f" for each of {runs} seeds" if runs > 1 else ""
    rows = {
        "steps": f"{run.n_steps:,} an epoch, {steps:,} in all{times}",
        "memory": f"about {size / 1e6:,.0f} MB of data, parameters and activations on {backend.device}",
        "time": f"about {duration(seconds * runs)}{' on one process' * (team.size > 1)}, by the speed of some steps "
        "just now",
    }
    print_header(rows)
    print(run.config.to_toml(), end="")


def print_result(result: Result, data: Dataset, out: Path) -> None:
    """Print what came of a run, and on a terminal what to do next.   Raises ModelError if it could not be saved."""
    best = result.history[result.model_epoch - 1]
    split, score, loss = _score(result)
    early = result.stop_reason is not None and len(result.history) != result.config.epochs
    stopped = f"; stopped: {result.stop_reason}" if early else ""
    _print(f"{split} {score}, loss {loss:.4f} on {data.name}, epoch {best.epoch}{stopped}", "bold")
    if result.unsaved is not None:
        raise ModelError(f"the model was trained, but could not be saved: {result.unsaved}")
    _print(f"saved in {out}")
    if sys.stdout.isatty():
        run = quoted(out)
        _print(f"next: xpnet predict {run}, or xpnet draw {run}", "dim")


def print_seeds(results: Mapping[int, Result], data: Dataset, out: Path) -> None:
    """Print what came of several runs that differ in their seeds: each, their mean and spread, and their ensemble.

    Raises ModelError if one could not be saved.
    """
    figures = []
    for seed, result in results.items():
        split, score, loss = _score(result)
        figures.append(result.history[result.model_epoch - 1].score(split))
        print(f"seed {seed}: {split} {score}, loss {loss:.4f}")
    mean, spread = statistics.mean(figures), statistics.stdev(figures)
    metric = metric_of(data.task)
    words = f"{100 * mean:.2f} +- {100 * spread:.2f} %" if metric == "accuracy" else f"{mean:.4f} +- {spread:.4f}"
    _print(f"{split} {metric} {words} on {data.name}: mean and standard deviation of {len(results)} seeds", "bold")
    if split == "test" and data.test is not None:
        scores = Ensemble([result.model for result in results.values()]).evaluate(*data.test)
        _print(f"test {in_words(scores)} with the outputs of all of them averaged", "bold")
    for seed, result in results.items():
        if result.unsaved is not None:
            raise ModelError(f"seed {seed} was trained, but could not be saved: {result.unsaved}")
    _print(f"saved in {out}")
    if sys.stdout.isatty():
        runs = " ".join(quoted(out / f"seed-{seed}") for seed in results)
        _print(f"next: xpnet evaluate {runs}", "dim")


def _score(result: Result) -> tuple[str, str, float]:
    """The split that a run is judged by, its score in words, and its loss."""
    best = result.history[result.model_epoch - 1]
    split = best.judged_by
    task = result.model.task
    return split, f"{metric_of(task)} {written(best.score(split), task)}", getattr(best, f"{split}_loss")


def _print(line: str, style: str = "") -> None:
    say(line, result_console(), style=style)
