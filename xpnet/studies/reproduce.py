"""Trains recipes over several seeds, and measures each finished network on the test set, once.

A run is identified by its settings: its directory is named after them, so that it continues where it was stopped, and
recipes with the same settings share their runs (the members of a committee are the networks of another recipe).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
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
from xpnet.checks import check_range, typed
from xpnet.data import Dataset
from xpnet.errors import ConfigError, ModelError, NonFiniteError
from xpnet.files import locked, read_whole, remove, write_atomically
from xpnet.model import Ensemble, load
from xpnet.numerics.augment import Distortion
from xpnet.recipes import Recipe, read_recipe, recipe_names
from xpnet.training.callbacks import Callback
from xpnet.training.config import EPOCHS, TrainConfig
from xpnet.training.fit import fit
from xpnet.training.prepare import prepare
from xpnet.training.run import Run

__all__ = ["Record", "Row", "milestones", "read_records", "reproduce", "tabulate", "write_records"]

logger = logging.getLogger(__name__)

SPENT = "the budget is spent"
MAX_BYTES = 1 << 22  # of the file of records: some three thousand


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished run, or a committee of several.

    recipe : its name.   source : where it comes from.   published : the error reported there, in %, or None.
    settings : those of TrainConfig that decide the numbers and are not the default, but for the seed.
    members : networks that the recipe averages; 0 for a recipe of single networks.
    seeds : the run's, or those of all members of a committee.   data : name of the set.   network : in words.
    wrong : indices of the test images that it misclassifies.   n_test : of all of them.
    epochs : of each network.   seconds : of training, all members' together.
    device, library, machine : where it was trained; machine is the device in words.
    failure : why the run did not finish, or None.
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
        """The share of the test images that are misclassified, in %; infinite for a run that failed."""
        return math.inf if self.failure else 100.0 * len(self.wrong) / self.n_test


class Row(NamedTuple):
    """The published and the reached error, in %: a line of the table.

    errors : of each seed's network, or of each committee.   seconds : of training, in the mean.
    """

    recipe: str
    data: str
    network: str
    source: str
    published: float | None
    errors: list[float]
    seconds: float
    machine: str

    def cells(self) -> dict[str, str]:
        """The row as text, by the names of the columns."""
        errors = [error for error in self.errors if error < math.inf]
        spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        found = [f"{statistics.mean(errors):.2f}{spread} %"] if errors else []
        failed = len(self.errors) - len(errors)
        found += [f"{failed} failed"] if failed else []
        return {
            "recipe": self.recipe if self.data == "mnist" else f"{self.recipe} ({self.data})",
            "network": self.network,
            "source": self.source.partition(",")[0],
            "published error": f"{self.published:.2f} %" if self.published is not None else "",
            "error here": ", ".join(found),
            "runs": str(len(self.errors)),
            "training": f"{self.seconds / 60:.1f} min" if self.seconds >= 60 else f"{self.seconds:.1f} s",
            "on": self.machine,
        }


def milestones() -> list[str]:
    """Names of the recipes meant to be reproduced, the least arithmetic first."""
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
    """Train recipes, or continue their runs, and yield a Record of each run that finishes.

    names : of recipes, or paths of their files.   data : must have a test split, which training does not see.
    backend : where to compute.   folder : holds a directory for each run; it is created.
    seeds : runs of each recipe, from its own seed on; None takes each recipe's own number. A committee has as many
        networks as its recipe says.
    minutes : after which no new epoch is started; None for no limit.   callbacks : see callbacks.py.
    Raises ConfigError, before any training, for a recipe that is unknown, has another one's name or does not fit the
    data; ModelError for a damaged file of a run.
    """
    if data.test is None:
        raise ConfigError(f"{data.name} has no test split to measure the finished networks on")
    if seeds is not None:
        check_range("seeds", seeds, 1)
    if minutes is not None:
        check_range("budget", minutes, 0.0, low_open=True)
    recipes = _recipes(names)
    configs = {name: _fitting(name, recipe, data, backend) for name, recipe in recipes.items()}
    trainer = _Trainer(data, backend, folder, math.inf if minutes is None else time.monotonic() + 60.0 * minutes)

    def records() -> Iterator[Record]:
        for name, recipe in recipes.items():
            first, count = configs[name].seed, recipe.members or seeds or recipe.seeds or 1
            members = []
            for seed in range(first, first + count):
                record = trainer.run(name, recipe, configs[name].replace(seed=seed), callbacks)
                if record is None:
                    logger.info("the budget is spent; the same command continues")
                    return
                members.append(record)
                yield record
            if not recipe.members:
                continue
            if failed := sum(record.failure is not None for record in members):
                logger.warning("%s: no committee, since %d of its %d networks failed", name, failed, count)
            else:
                yield trainer.committee(members, configs[name])

    return records()


def read_records(path: Path, remedy: str = "repair it or delete it") -> list[Record]:
    """Read the records of write_records; none if there is no file.

    remedy : for a damaged file, at the end of the message.   Raises ModelError if it is damaged.
    """
    if not os.path.lexists(path):
        return []
    try:
        return [_record(values) for values in json.loads(read_whole(path, MAX_BYTES).decode())["runs"]]
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        wrong = f"{path} is damaged or not a file of xpnet reproduce ({error}); {remedy}"
        raise ModelError(wrong) from None


def _record(values: Any) -> Record:
    """A record from JSON.   Raises TypeError or ValueError for one that write_records would not have written."""
    record = Record(**values)
    for field in dataclasses.fields(Record):
        kind, value = str(field.type), getattr(record, field.name)
        if kind == "list[int]":
            fine = isinstance(value, list) and all(type(i) is int and 0 <= i < 2**63 for i in value)
        elif kind == "dict[str, Any]":
            fine = isinstance(value, dict)
        else:
            fine = typed(field.name, value, kind) == value and (not isinstance(value, str) or value.isprintable())
        if not fine:
            raise ValueError(f"{field.name} has an invalid value")
    if record.failure is None and max(record.wrong, default=0) >= record.n_test:
        raise ValueError("more images are misclassified than there are")
    return record


def write_records(path: Path, records: Iterable[Record]) -> list[Record]:
    """Add records to a file, in the place of those of the same runs; several processes may add to one.

    Returns all its records.   Raises OSError; ModelError if the file is damaged.
    """

    def waiting(holder: str) -> None:
        logger.info("waiting for %s, which is writing to %s", holder, path)

    with locked(path.with_name(f".{path.name}.lock"), waiting):
        known = {_key(record): record for record in (*read_records(path), *records)}
        kept = [known[key] for key in sorted(known)]
        lines = [json.dumps(dataclasses.asdict(record)) for record in kept]
        write_atomically(path, ('{"runs": [\n' + ",\n".join(lines) + "\n]}\n").encode())
    return kept


def tabulate(records: Iterable[Record]) -> list[Row]:
    """A row for each recipe, its settings, the data and the machine, the largest error first.

    Runs of a recipe that has changed since are left out, and so are the members of a committee.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        recipe = read_recipe(record.recipe) if record.recipe in recipe_names() else None
        data = {"data": record.settings.get("data")}
        current = recipe is None or record.settings == _settings(TrainConfig().replace(**recipe.settings)) | data
        if current and len(record.seeds) >= record.members:
            groups.setdefault(_group(record), []).append(record)
    rows = [
        Row(
            group[0].recipe,
            group[0].data,
            group[0].network,
            group[0].source,
            group[0].published,
            [record.error for record in group],
            statistics.mean([record.seconds for record in group if not record.failure] or [0.0]),
            group[0].machine,
        )
        for group in groups.values()
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
        network = config.network(self.data.n_features, self.data.n_outputs, self.data.task)
        directory = self._directory(config)
        finished, checkpoints = directory / "result.json", directory / "checkpoints"
        if finished.exists():
            remove(checkpoints)  # if the run was killed between the two
            # Without its checkpoints, a run is not continued but trained again.
            remedy = f"delete {directory} to train it again"
            known = read_records(finished, remedy)
            if len(known) != 1 or known[0].settings != _settings(config):
                raise ModelError(f"{finished} is not the result of the run in its directory; {remedy}")
            # Another recipe with the same settings may have brought it about.
            return dataclasses.replace(known[0], **_about(name, recipe))
        if time.monotonic() >= self.deadline:
            return None
        logger.info("%s, seed %d: %s, in %s", name, config.seed, network, directory)
        limit = _Deadline(self.deadline)
        try:
            result = fit(
                network,
                self.data,
                config,
                backend=self.backend,
                callbacks=[limit, *callbacks],
                progress=False,
                out=directory,
                resume=True,
                keep=1,
            )
        except NonFiniteError as error:
            logger.warning("%s, seed %d failed: %s", name, config.seed, error)
            record = self._record(name, recipe, config, np.empty(0, np.int64), 0, 0.0, str(error))
        else:
            if len(result.history) != result.config.epochs and result.stop_reason == SPENT:
                return None
            if result.unsaved:
                raise ModelError(f"cannot write {result.unsaved}")
            wrong = np.flatnonzero(result.model.predict(self.images) != self.labels)
            seconds = sum(epoch.seconds for epoch in result.history)
            record = self._record(name, recipe, config, wrong, len(result.history), seconds)
        write_records(finished, [record])
        remove(checkpoints)
        return record

    def committee(self, members: Sequence[Record], config: TrainConfig) -> Record:
        """The record of the networks of several runs, which differ in their seeds, and whose outputs are averaged."""
        seeds = [seed for member in members for seed in member.seeds]
        directories = [self._directory(config.replace(seed=seed)) for seed in seeds]
        models = [load(d / "model.safetensors", self.backend.device, self.backend.name) for d in directories]
        wrong = np.flatnonzero(Ensemble(models).predict(self.images) != self.labels)
        return dataclasses.replace(
            members[0],
            seeds=seeds,
            network=f"{len(seeds)} x {members[0].network}",
            wrong=wrong.tolist(),
            seconds=round(sum(member.seconds for member in members), 1),
            # Where they were trained, which need not be here.
            machine=" and ".join(dict.fromkeys(member.machine for member in members)),
        )

    def _directory(self, config: TrainConfig) -> Path:
        widths = "-".join(map(str, (self.data.n_features, *config.hidden, self.data.n_classes)))
        digest = hashlib.sha256(json.dumps(_settings(config), sort_keys=True).encode()).hexdigest()[:8]
        place = f"{self.backend.name}-{self.backend.device.partition(':')[0]}"
        return self.folder / place / f"{widths}-{digest}-seed{config.seed}"

    def _record(
        self,
        name: str,
        recipe: Recipe,
        config: TrainConfig,
        wrong: np.ndarray,
        epochs: int,
        seconds: float,
        failure: str | None = None,
    ) -> Record:
        return Record(
            **_about(name, recipe),
            settings=_settings(config),
            seeds=[config.seed],
            data=self.data.name,
            network=str(config.network(self.data.n_features, self.data.n_outputs, self.data.task)),
            wrong=wrong.tolist(),
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


def _recipes(names: Iterable[str]) -> dict[str, Recipe]:
    """Recipes by the names under which their runs are kept, a file's without its ending.   Raises ConfigError."""
    recipes: dict[str, Recipe] = {}
    for path in names:
        name, recipe = Path(path).stem, read_recipe(path)
        known = recipes.get(name) or (read_recipe(name) if name in recipe_names() else recipe)
        if recipe != known:
            raise ConfigError(f"recipe {path}: there is another recipe named {name}; rename the file")
        recipes[name] = recipe
    return recipes


def _fitting(name: str, recipe: Recipe, data: Dataset, backend: Backend) -> TrainConfig:
    """The settings of a recipe on a data set.   Raises ConfigError, which names the recipe, unless they fit it."""
    try:
        config = TrainConfig(validation=0.0).replace(**recipe.settings)
        run, _ = prepare(config.network(data.n_features, data.n_outputs, data.task), data, config, backend)
    except ConfigError as error:
        raise ConfigError(f"recipe {name}: {error}") from None
    # Files of the same name in two folders are two data sets.
    return config.replace(data=run.config.data)


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What decides a run, but for its seed and what is as ever: a setting that xpnet learns later changes no run."""
    usual = TrainConfig(validation=0.0, augment=Distortion() if config.augment else None)
    return _changes(*(tomllib.loads(c.to_toml()) for c in (config.deciding().replace(seed=0), usual)))


def _changes(settings: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The settings that are not as usual, and those within tables."""
    return {
        name: _changes(value, usual[name]) if isinstance(value, dict) else value
        for name, value in settings.items()
        if value != usual.get(name)
    }


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
    """The values that distinguish a run from all others."""
    return *_group(record), *record.seeds


def _group(record: Record) -> tuple[Any, ...]:
    """The values that are shared by runs that differ in their seeds alone."""
    return record.recipe, record.machine, json.dumps(record.settings, sort_keys=True)


def _work(recipe: Recipe) -> float:
    """The multiplications of a recipe's runs on images of MNIST's size, in arbitrary units."""
    config = TrainConfig().replace(**recipe.settings)
    weights = sum(n_in * n_out for n_in, n_out in pairwise((784, *config.hidden, 10)))
    return weights * (config.epochs or EPOCHS) * (recipe.members or recipe.seeds or 1)
