"""Trains recipes over several seeds, and measures each finished network on the test set, once.

A run is identified by its settings, its library and its kind of device: it continues where it was stopped, and recipes
with the same settings share their runs. Its directory is named after recipe and seed.

Any number of processes, on any number of machines, may share a folder of runs: each trains what no other one trains, by
the locks of the directories. They need no launcher, and none knows of the others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import Backend
from xpnet.checks import check_range
from xpnet.data import Dataset
from xpnet.errors import ConfigError, InUseError, ModelError, NonFiniteError
from xpnet.files import parse_toml, read_text, remove
from xpnet.model import Ensemble, load
from xpnet.recipes import Recipe, read_recipe, recipe_names
from xpnet.studies.records import Record, read_records, same_data, settings_of, write_records
from xpnet.training.callbacks import Callback
from xpnet.training.config import EPOCHS, TrainConfig
from xpnet.training.directory import RunDirectory, claim, holds_run
from xpnet.training.estimate import estimate
from xpnet.training.fit import fit
from xpnet.training.prepare import fingerprint, prepare
from xpnet.training.run import Run

__all__ = ["Planned", "milestones", "plan", "recipes_of", "reproduce"]

logger = logging.getLogger(__name__)

SPENT = "the budget is spent"
MEASURED = 0.2  # seconds of steps from which a plan infers the rest
PAUSE = 1.0  # seconds between two looks at what other processes train


class Planned(NamedTuple):
    """What is still to be trained of a recipe.

    recipe : its name.   network : in words.   epochs : of each run.   runs : to be trained.   finished : others.
    seconds : that those to be trained are going to take.
    """

    recipe: str
    network: str
    epochs: int
    runs: int
    finished: int
    seconds: float


def milestones() -> list[str]:
    """Names of the recipes meant to be reproduced, the least arithmetic first."""
    recipes = {name: read_recipe(name) for name in recipe_names()}
    return sorted((name for name, recipe in recipes.items() if recipe.seeds), key=lambda name: _work(recipes[name]))


def recipes_of(names: Iterable[str]) -> dict[str, Recipe]:
    """Recipes by the names under which their runs are kept, a file's without its ending.

    names : of recipes, or paths of their files.
    Raises ConfigError for a recipe that is unknown, cannot be read or has another one's name.
    """
    recipes: dict[str, Recipe] = {}
    for path in names:
        name, recipe = Path(path).stem, read_recipe(path)
        known = recipes.get(name) or (read_recipe(name) if name in recipe_names() else recipe)
        if recipe != known:
            raise ConfigError(f"recipe {path}: there is another recipe named {name}; rename the file")
        recipes[name] = recipe
    return recipes


def reproduce(
    recipes: Mapping[str, Recipe],
    data: Dataset,
    backend: Backend,
    folder: Path,
    *,
    seeds: int | None = None,
    minutes: float | None = None,
    callbacks: Sequence[Callback] = (),
) -> Iterator[Record]:
    """Train recipes, or continue their runs, and yield a Record of each run that finishes.

    What another process trains in the same folder is waited for: its record is yielded too, and if that process ends
    before, its run is continued here.

    recipes : as recipes_of returns them.   data : must have a test split, which training does not see.
    backend : where to compute.   folder : holds a directory for each run; it is created.
    seeds : runs of each recipe, from its own seed on; None takes each recipe's own number. A committee has as many
        networks as its recipe says.
    minutes : after which no new epoch is started; None for no limit.   callbacks : see callbacks.py.
    Raises ConfigError, before any training, for a recipe that does not fit the data or a folder on a file system
    without locks, and during it for a finished run of data that have changed since; ModelError for a damaged file of a
    run.
    """
    if minutes is not None:
        check_range("budget", minutes, 0.0, low_open=True)
    runs = _runs(recipes, data, backend, seeds)
    deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
    trainer = _Trainer(data, backend, _Places(folder, data, backend), deadline)

    def records() -> Iterator[Record]:
        finished: dict[str, list[Record]] = {name: [] for name in runs}
        missing = [(name, config) for name, configs in runs.items() for config in configs]
        told = ""
        while missing:
            elsewhere, waiting = [], ""
            for name, config in missing:
                try:
                    record = trainer.run(name, recipes[name], config, callbacks)
                except InUseError as holder:
                    elsewhere.append((name, config))
                    waiting = waiting or f"waiting for {holder}, which trains {name}, seed {config.seed}"
                    continue
                if record is None:
                    logger.info("the budget is spent; the same command continues")
                    return
                yield record
                finished[name].append(record)
                if len(finished[name]) == recipes[name].members:
                    yield from trainer.committee(name, runs[name], finished[name])
            if elsewhere == missing:
                if waiting != told:
                    logger.info("%s", waiting)
                told = waiting
                time.sleep(PAUSE)
            missing = elsewhere

    return records()


def plan(
    recipes: Mapping[str, Recipe],
    data: Dataset,
    backend: Backend,
    folder: Path,
    *,
    seeds: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> list[Planned]:
    """What reproduce would train, and how long it would take here, by some steps of each network.

    recipes, data, backend, folder, seeds, errors : as in reproduce.
    report : called before the steps of a recipe, with its number, from 0, and the number of recipes.
    """
    runs = _runs(recipes, data, backend, seeds)
    places, trained_on = _Places(folder, data, backend), dataclasses.replace(data, test=None)
    planned = []
    for i, (name, configs) in enumerate(runs.items()):
        network = configs[0].network(data.n_features, data.n_outputs, data.task)
        run, splits = prepare(network, trained_on, configs[0], backend)
        missing = sum(not (places.of(name, config) / "result.json").exists() for config in configs)
        seconds = 0.0
        if missing:
            if report:
                report(i, len(runs))
            seconds = missing * estimate(run, splits, seconds=MEASURED).seconds
        planned.append(Planned(name, str(network), run.epochs, missing, len(configs) - missing, seconds))
    return planned


class _Places:
    """Where the runs lie, in one folder, on one kind of device.

    A run lies in RECIPE-seedN, or in RECIPE-seedN-DIGEST where that is another run's: of other data or another device,
    or of a recipe that has changed since. What earlier versions called LIBRARY-DEVICE/WIDTHS-DIGEST-seedN stays there.
    """

    def __init__(self, folder: Path, data: Dataset, backend: Backend) -> None:
        self.folder, self.data, self.backend = folder, data, backend
        self.kind = backend.device.partition(":")[0]
        self._resolved: dict[str, TrainConfig] = {}  # the settings by recipe, as config.toml holds them

    def of(self, name: str, config: TrainConfig) -> Path:
        """The directory of a run, whether there is one or not, by its recipe's name and its settings."""
        widths = "-".join(map(str, (self.data.n_features, *config.hidden, self.data.n_classes)))
        digest = hashlib.sha256(json.dumps(settings_of(config), sort_keys=True).encode()).hexdigest()[:8]
        place = f"{self.backend.name}-{self.kind}"
        earlier = self.folder / place / f"{widths}-{digest}-seed{config.seed}"
        if earlier.exists():
            return earlier
        usual = self.folder / f"{name}-seed{config.seed}"
        beside = self.folder / f"{usual.name}-{hashlib.sha256(f'{digest} {place}'.encode()).hexdigest()[:8]}"
        # Another recipe of the same settings may have brought it about.
        for path in (usual, beside, *sorted(self.folder.glob(f"*-seed{config.seed}*"))):
            try:
                if self._holds(path, name, config):
                    return path
            except ModelError:
                if path == usual:  # whoever uses it reports the damage
                    return path
        return beside if holds_run(usual) else usual

    def _holds(self, path: Path, name: str, config: TrainConfig) -> bool:
        """Whether a directory holds the run of these settings, finished or not.   Raises ModelError if damaged."""
        own = self.backend.name, self.kind
        for record in read_records(path / "result.json"):
            return (record.library, record.device.partition(":")[0]) == own and record.settings == settings_of(config)
        try:
            stored = TrainConfig().replace(**parse_toml(read_text(path / "config.toml", "settings"), "its settings"))
        except ConfigError:
            return False
        if (stored.library, stored.device.partition(":")[0]) != own:
            return False
        if name not in self._resolved:
            network = config.network(self.data.n_features, self.data.n_outputs, self.data.task)
            run, _ = prepare(network, dataclasses.replace(self.data, test=None), config, self.backend)
            self._resolved[name] = run.config
        return stored.deciding() == self._resolved[name].replace(seed=config.seed).deciding()


class _Trainer:
    """Trains and measures, on one device, up to a deadline (of time.monotonic)."""

    def __init__(self, data: Dataset, backend: Backend, places: _Places, deadline: float) -> None:
        assert data.test is not None
        self.images, self.labels = data.test
        self.sha256 = fingerprint(data)
        self.data = dataclasses.replace(data, test=None)
        self.backend, self.places, self.deadline = backend, places, deadline

    def run(self, name: str, recipe: Recipe, config: TrainConfig, callbacks: Sequence[Callback]) -> Record | None:
        """The record of one run, trained to its end; None where the deadline comes first.

        Raises InUseError, with the description of a process, if that one trains it.
        """
        while True:
            directory = self.places.of(name, config)
            if (directory / "result.json").exists():
                return self._finished(name, recipe, config, directory)
            if time.monotonic() >= self.deadline:
                return None
            with claim(directory):
                # Before it was held, another process may have finished this run, or begun another one in its place.
                if self.places.of(name, config) == directory and not (directory / "result.json").exists():
                    return self._train(name, recipe, config, callbacks, directory)

    def _finished(self, name: str, recipe: Recipe, config: TrainConfig, directory: Path) -> Record:
        """The record of a run that is finished."""
        remove(directory / "checkpoints")  # if the run was killed between the two
        # Without its checkpoints, a run is not continued but trained again.
        path, remedy = directory / "result.json", f"delete {directory} to train it again"
        known = read_records(path, remedy)
        if len(known) != 1 or known[0].settings != settings_of(config):
            raise ModelError(f"{path} is not the result of the run in its directory; {remedy}")
        if not same_data(known[0].sha256, self.sha256, self.data.name):
            changed = "has changed" if known[0].sha256 else "may have changed"
            raise ConfigError(
                f"{self.data.name} {changed} since the run in {directory}: {remedy}, or name another folder"
            )
        # Another recipe with the same settings may have brought it about.
        return dataclasses.replace(known[0], **_about(name, recipe))

    def _train(
        self, name: str, recipe: Recipe, config: TrainConfig, callbacks: Sequence[Callback], directory: Path
    ) -> Record | None:
        """The record of a run that is trained to its end in a directory that is held; None as in run."""
        network = config.network(self.data.n_features, self.data.n_outputs, self.data.task)
        logger.info("%s, seed %d: %s, in %s", name, config.seed, network, directory)
        limit, files = _Deadline(self.deadline), RunDirectory(directory, resume=True, claimed=True)
        try:
            result = fit(
                network,
                self.data,
                config,
                backend=self.backend,
                callbacks=[limit, *callbacks, files],
                progress=False,
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
        write_records(directory / "result.json", [record])
        remove(directory / "checkpoints")
        return record

    def committee(self, name: str, configs: Sequence[TrainConfig], members: Sequence[Record]) -> Iterator[Record]:
        """The record of networks that differ in their seeds, and whose outputs are averaged; none if one failed.

        members : the records of the runs, in any order. Whichever process makes it, it is the same.
        """
        if failed := sum(record.failure is not None for record in members):
            logger.warning("%s: no committee, since %d of its %d networks failed", name, failed, len(members))
            return
        members = sorted(members, key=lambda record: record.seeds)
        seeds = [config.seed for config in configs]
        directories = [self.places.of(name, config) for config in configs]
        models = [load(d / "model.safetensors", self.backend.device, self.backend.name) for d in directories]
        wrong = np.flatnonzero(Ensemble(models).predict(self.images) != self.labels)
        yield dataclasses.replace(
            members[0],
            seeds=seeds,
            network=f"{len(seeds)} x {members[0].network}",
            wrong=wrong.tolist(),
            seconds=round(sum(member.seconds for member in members), 1),
            # Where they were trained, which need not be here.
            machine=" and ".join(dict.fromkeys(member.machine for member in members)),
        )

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
            settings=settings_of(config),
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
            sha256=self.sha256,
        )


class _Deadline(Callback):
    """Ends a run after the epoch in which the deadline falls."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def on_epoch(self, run: Run) -> None:
        if time.monotonic() >= self.deadline:
            run.stop(SPENT)


def _runs(
    recipes: Mapping[str, Recipe], data: Dataset, backend: Backend, seeds: int | None
) -> dict[str, list[TrainConfig]]:
    """The settings of each run, by recipe.   Raises ConfigError unless they fit the data."""
    if data.test is None:
        raise ConfigError(f"{data.name} has no test split to measure the finished networks on")
    if data.task != "classification":
        raise ConfigError(f"recipes are judged by what they misclassify, but {data.name} is for {data.task}")
    if seeds is not None:
        check_range("seeds", seeds, 1)
    found = {}
    for name, recipe in recipes.items():
        config, count = _fitting(name, recipe, data, backend), recipe.members or seeds or recipe.seeds or 1
        found[name] = [config.replace(seed=seed) for seed in range(config.seed, config.seed + count)]
    return found


def _fitting(name: str, recipe: Recipe, data: Dataset, backend: Backend) -> TrainConfig:
    """The settings of a recipe on a data set.   Raises ConfigError, which names the recipe, unless they fit it."""
    try:
        config = TrainConfig(validation=0.0).replace(**recipe.settings)
        run, _ = prepare(config.network(data.n_features, data.n_outputs, data.task), data, config, backend)
    except ConfigError as error:
        raise ConfigError(f"recipe {name}: {error}") from None
    # Files of the same name in two folders are two data sets.
    return config.replace(data=run.config.data)


def _about(name: str, recipe: Recipe) -> dict[str, Any]:
    """What a record says of its recipe."""
    published = None if recipe.reported is None else round(100.0 - recipe.reported, 4)
    return {
        "recipe": name,
        "source": recipe.source.removesuffix("."),
        "published": published,
        "members": recipe.members,
    }


def _work(recipe: Recipe) -> float:
    """The multiplications of a recipe's runs on images of MNIST's size, in arbitrary units."""
    config = TrainConfig().replace(**recipe.settings)
    weights = sum(n_in * n_out for n_in, n_out in pairwise((784, *config.hidden, 10)))
    return weights * (config.epochs or EPOCHS) * (recipe.members or recipe.seeds or 1)
