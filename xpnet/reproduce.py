"""Train recipes over several seeds, and measure each finished network on the test set, once.

A run is known by its settings: its directory is named after them, so that it goes on where it was stopped, and recipes
that have the same settings share their runs (the members of a committee are the networks of another recipe).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import statistics
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import Backend
from xpnet.callbacks import Callback, CSVLog, Run
from xpnet.checks import check_range
from xpnet.config import Recipe, TrainConfig, read_recipe, recipe_names
from xpnet.data import Dataset
from xpnet.errors import ConfigError, ModelError, NonFiniteError
from xpnet.files import write_atomically
from xpnet.model import Ensemble, load
from xpnet.training import fit

__all__ = ["Record", "Row", "milestones", "read_records", "reproduce", "tabulate", "write_records"]

logger = logging.getLogger(__name__)

SPENT = "the budget is spent"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished run, or a committee of several.

    recipe : its name.   source : where it comes from.   published : the error reported there, in %, or None.
    settings : those of TrainConfig that decide the numbers and are not the default, but for the seed.
    members : networks that the recipe averages; 0 for a recipe of single networks.
    seeds : the run's, or those of all members of a committee.   data : name of the set.   network : in words.
    wrong : indices of the test images that it reads wrong.   n_test : of all of them.
    epochs : of each network.   seconds : of training, all members' together.
    device, library, machine : what it was trained on; machine is the device in words.
    failure : why the run came to no end, or None.
    """

    recipe: str
    source: str
    published: float | None
    members: int
    settings: dict[str, Any]
    seeds: list[int]
    data: str
    network: str
    wrong: list[int]
    n_test: int
    epochs: int
    seconds: float
    device: str
    library: str
    machine: str
    failure: str | None = None

    @property
    def error(self) -> float:
        """The share of the test images that are read wrong, in %; infinite for a run that failed."""
        return math.inf if self.failure else 100.0 * len(self.wrong) / self.n_test


class Row(NamedTuple):
    """What was published and what was reached, in %: a line of the table.

    errors : of each seed's network, or of each committee.   seconds : of training, in the mean.
    """

    recipe: str
    network: str
    source: str
    published: float | None
    errors: list[float]
    seconds: float
    machine: str

    def cells(self) -> dict[str, str]:
        """The row as text, by the names of the columns."""
        mean = statistics.mean(self.errors)
        spread = f" ± {statistics.stdev(self.errors):.2f}" if len(self.errors) > 1 and mean < math.inf else ""
        return {
            "recipe": self.recipe,
            "network": self.network,
            "source": self.source.partition(",")[0],
            "published error": f"{self.published:.2f} %" if self.published is not None else "",
            "error here": f"{mean:.2f}{spread} %" if mean < math.inf else "failed",
            "runs": str(len(self.errors)),
            "training": f"{self.seconds / 60:.1f} min" if self.seconds >= 60 else f"{self.seconds:.1f} s",
            "on": self.machine,
        }


def milestones() -> list[str]:
    """Names of the recipes that are there to be reproduced, the least arithmetic first."""
    recipes = {name: read_recipe(name) for name in recipe_names()}
    return sorted((name for name, recipe in recipes.items() if recipe.seeds), key=lambda name: _work(recipes[name]))


def reproduce(
    names: Iterable[str],
    data: Dataset,
    backend: Backend,
    folder: Path,
    *,
    seeds: int | None = None,
    minutes: float | None = None,
    callbacks: Sequence[Callback] = (),
) -> Iterator[Record]:
    """Train recipes, or go on with what is there of them, and yield a Record of each run that has come to its end.

    names : of recipes, or paths of their files.   data : which needs a test split; training does not see it.
    backend : where to compute.   folder : holds a directory for each run, and is made.
    seeds : runs of each recipe, from its own seed on; None takes each recipe's own number. A committee has as many
        networks as its recipe says.
    minutes : after which no further epoch is begun; None for no limit.   callbacks : see callbacks.py.
    Raises ConfigError for an unknown recipe, or settings that do not fit the data, before any training of that recipe.
    """
    if data.test is None:
        raise ConfigError(f"{data.name} has no test split, on which the finished networks are measured")
    if seeds is not None:
        check_range("seeds", seeds, 1)
    if minutes is not None:
        check_range("budget", minutes, 0.0, low_open=True)
    recipes = {Path(name).stem: read_recipe(name) for name in names}
    trainer = _Trainer(data, backend, folder, math.inf if minutes is None else time.monotonic() + 60.0 * minutes)
    for name, recipe in recipes.items():
        config = TrainConfig(**recipe.settings)
        config = config.replace(data=data.name)
        count = recipe.members or seeds or recipe.seeds or 1
        records = []
        for seed in range(config.seed, config.seed + count):
            record = trainer.run(name, recipe, config.replace(seed=seed), callbacks)
            if record is None:
                logger.info("the budget is spent; the same command goes on")
                return
            records.append(record)
            yield record
        if recipe.members and not any(record.failure for record in records):
            yield trainer.committee(name, recipe, records)


def read_records(path: Path) -> list[Record]:
    """Read what write_records wrote; no records where there is no file.   Raises ModelError if it is damaged."""
    if not path.exists():
        return []
    try:
        return [Record(**record) for record in json.loads(path.read_text(encoding="utf-8"))["runs"]]
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged or not a file of xpnet reproduce ({error})") from None


def write_records(path: Path, records: Iterable[Record]) -> list[Record]:
    """Add records to a file, in the place of those of the same runs.   Returns all that it holds.   Raises OSError."""
    known = {_key(record): record for record in (*read_records(path), *records)}
    kept = [known[key] for key in sorted(known)]
    lines = [json.dumps(dataclasses.asdict(record)) for record in kept]
    write_atomically(path, ('{"runs": [\n' + ",\n".join(lines) + "\n]}\n").encode())
    return kept


def tabulate(records: Iterable[Record]) -> list[Row]:
    """A row for each recipe and machine, the largest error first.

    Runs of a recipe that has changed since are left out, and so are the members of a committee.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        recipe = read_recipe(record.recipe) if record.recipe in recipe_names() else None
        current = recipe is None or record.settings == _settings(TrainConfig(**recipe.settings, data=record.data))
        if current and len(record.seeds) >= record.members:
            groups.setdefault((record.recipe, record.machine), []).append(record)
    rows = [
        Row(
            name,
            group[0].network,
            group[0].source,
            group[0].published,
            [record.error for record in group],
            statistics.mean(record.seconds for record in group),
            machine,
        )
        for (name, machine), group in groups.items()
    ]
    return sorted(rows, key=lambda row: (-statistics.mean(row.errors), row.recipe))


class _Trainer:
    """Trains and measures, on one device, up to a deadline (of time.monotonic)."""

    def __init__(self, data: Dataset, backend: Backend, folder: Path, deadline: float) -> None:
        assert data.test is not None
        self.images, self.labels = data.test
        self.data = dataclasses.replace(data, test=None)
        self.backend, self.folder, self.deadline = backend, folder, deadline

    def run(self, name: str, recipe: Recipe, config: TrainConfig, callbacks: Sequence[Callback]) -> Record | None:
        """The record of one run, trained to its end; None where the deadline comes first."""
        network = config.network(self.data.n_features, self.data.n_classes)
        directory = self._directory(config)
        finished = directory / "result.json"
        if finished.exists():
            # Another recipe with the same settings may have brought it about.
            (record,) = read_records(finished)
            return dataclasses.replace(record, **_about(name, recipe))
        if time.monotonic() >= self.deadline:
            return None
        logger.info("%s, seed %d: %s, in %s", name, config.seed, network, directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / "config.toml", config.to_toml().encode())
        checkpoint = directory / "checkpoint.safetensors"
        limit = _Deadline(self.deadline)
        log = CSVLog(directory / "history.csv")
        try:
            result = fit(
                network,
                self.data,
                config,
                backend=self.backend,
                callbacks=[log, limit, *callbacks],
                checkpoint=checkpoint,
            )
        except NonFiniteError as error:
            nothing = np.empty(0, np.int64)
            record = self._record(name, recipe, config, [config.seed], nothing, 0, 0.0, str(error))
        else:
            if len(result.history) < config.epochs and result.stop_reason == SPENT:
                return None
            result.model.save(directory / "model.safetensors")
            wrong = np.flatnonzero(result.model.predict(self.images) != self.labels)
            seconds = sum(epoch.seconds for epoch in result.history)
            record = self._record(name, recipe, config, [config.seed], wrong, len(result.history), seconds)
        write_records(finished, [record])
        checkpoint.unlink(missing_ok=True)
        return record

    def committee(self, name: str, recipe: Recipe, members: Sequence[Record]) -> Record:
        """The record of the networks of several runs, whose outputs are averaged."""
        configs = [TrainConfig(**m.settings, seed=m.seeds[0]) for m in members]
        models = [
            load(self._directory(config) / "model.safetensors", self.backend.device, self.backend.name)
            for config in configs
        ]
        wrong = np.flatnonzero(Ensemble(models).predict(self.images) != self.labels)
        seeds, seconds = [config.seed for config in configs], sum(member.seconds for member in members)
        return self._record(name, recipe, configs[0], seeds, wrong, members[0].epochs, seconds)

    def _directory(self, config: TrainConfig) -> Path:
        widths = "-".join(map(str, (self.data.n_features, *config.hidden, self.data.n_classes)))
        digest = hashlib.sha256(json.dumps(_settings(config), sort_keys=True).encode()).hexdigest()[:8]
        return self.folder / self.backend.name / f"{widths}-{digest}-seed{config.seed}"

    def _record(
        self,
        name: str,
        recipe: Recipe,
        config: TrainConfig,
        seeds: list[int],
        wrong: np.ndarray,
        epochs: int,
        seconds: float,
        failure: str | None = None,
    ) -> Record:
        network = str(config.network(self.data.n_features, self.data.n_classes))
        return Record(
            **_about(name, recipe),
            settings=_settings(config),
            seeds=seeds,
            data=self.data.name,
            network=f"{len(seeds)} x {network}" if len(seeds) > 1 else network,
            wrong=[int(i) for i in wrong],
            n_test=len(self.labels),
            epochs=epochs,
            seconds=round(seconds, 1),
            device=self.backend.device,
            library=self.backend.name,
            machine=f"{self.backend.description}, {self.backend.title}",
            failure=failure,
        )


class _Deadline(Callback):
    """Ends a run after the epoch in which the deadline falls."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def on_epoch(self, run: Run) -> None:
        if time.monotonic() >= self.deadline:
            run.stop(SPENT)


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What decides a run, but for its seed and what is as ever: a setting that xpnet learns later changes no run."""
    settings, usual = (tomllib.loads(c.to_toml()) for c in (config.deciding().replace(seed=0), TrainConfig()))
    return {name: value for name, value in settings.items() if value != usual.get(name)}


def _about(name: str, recipe: Recipe) -> dict[str, Any]:
    """What a record says of its recipe."""
    published = None if recipe.reported is None else round(100.0 - recipe.reported, 4)
    return {
        "recipe": name,
        "source": recipe.source.removesuffix("."),
        "published": published,
        "members": recipe.members,
    }


def _key(record: Record) -> tuple[Any, ...]:
    """What tells a run from all others."""
    return record.recipe, record.machine, json.dumps(record.settings, sort_keys=True), *record.seeds


def _work(recipe: Recipe) -> float:
    """The multiplications of a recipe's runs on images of MNIST's size, in arbitrary units."""
    config = TrainConfig(**recipe.settings)
    weights = sum(n_in * n_out for n_in, n_out in pairwise((784, *config.hidden, 10)))
    return weights * config.epochs * (recipe.members or recipe.seeds or 1)
