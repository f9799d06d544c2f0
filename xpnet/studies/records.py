"""The records of finished runs, the file that keeps them, and the table of published and reached errors."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from xpnet.checks import typed
from xpnet.data import SETS
from xpnet.errors import ModelError
from xpnet.files import locked, read_whole, write_atomically
from xpnet.numerics.augment import Distortion
from xpnet.recipes import read_recipe, recipe_names
from xpnet.training.config import TrainConfig

__all__ = ["Record", "Row", "read_records", "same_data", "settings_of", "tabulate", "write_records"]

MAX_BYTES = 1 << 22  # of the file of records: some three thousand


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished run, or a committee of several.

    recipe : its name.   source : where it comes from.   published : the error on MNIST reported there, in %, or None.
    settings : those of TrainConfig that decide the numbers and are not the default, but for the seed.
    members : networks that the recipe averages; 0 for a recipe of single networks.
    seeds : the run's, or those of all members of a committee.   data : name of the set.   network : in words.
    sha256 : the fingerprint of the data, with its test split; None in the records of earlier versions.
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
    sha256: str | None = None

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


def write_records(
    path: Path, records: Iterable[Record], table: Callable[[list[Record]], str] | None = None
) -> list[Record]:
    """Add records to a file, in the place of those of the same runs, and of those of data that have changed since.

    Several processes may add to one.

    table : what is written into a file .md beside it, of all its records.
    Returns all its records.   Raises OSError; ModelError if the file is damaged; ConfigError on a file system without
    locks.
    """
    with locked(path.with_name(f".{path.name}.lock"), lambda _: None, required=True):
        known: dict[tuple[Any, ...], Record] = {}
        for record in (*read_records(path), *records):
            # A mean over several seeds is one over the same data.
            known = {key: other for key, other in known.items() if not _outdated(other, record)}
            known[_key(record)] = record
        kept = [known[key] for key in sorted(known)]
        lines = [json.dumps(dataclasses.asdict(record)) for record in kept]
        write_atomically(path, ('{"runs": [\n' + ",\n".join(lines) + "\n]}\n").encode())
        if table is not None:
            write_atomically(path.with_suffix(".md"), table(kept).encode())
    return kept


def tabulate(records: Iterable[Record]) -> list[Row]:
    """A row for each recipe, its settings, the data and the machine, the largest error first.

    Runs of a recipe that has changed since are left out, and so are the members of a committee.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        recipe = read_recipe(record.recipe) if record.recipe in recipe_names() else None
        data = {"data": record.settings.get("data")}
        current = recipe is None or record.settings == settings_of(TrainConfig().replace(**recipe.settings)) | data
        if current and len(record.seeds) >= record.members:
            groups.setdefault(_group(record), []).append(record)
    rows = [
        Row(
            group[0].recipe,
            group[0].data,
            group[0].network,
            group[0].source,
            group[0].published if group[0].data == "mnist" else None,
            [record.error for record in group],
            statistics.mean([record.seconds for record in group if not record.failure] or [0.0]),
            group[0].machine,
        )
        for group in groups.values()
    ]
    return sorted(rows, key=lambda row: (-statistics.mean(row.errors), row.recipe))


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """What decides a run, but for its seed and what is as ever: a setting that xpnet learns later changes no run."""
    usual = TrainConfig(validation=0.0, augment=Distortion() if config.augment else None)
    return _changes(*(tomllib.loads(c.deciding().to_toml()) for c in (config.replace(seed=0), usual)))


def same_data(one: str | None, other: str | None, name: str) -> bool:
    """Whether two fingerprints are of the same data.

    Where a record of an earlier version has none, a named set is known by its name.
    """
    return one == other or (name in SETS and None in (one, other))


def _changes(settings: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The settings that are not as usual, and those within tables."""
    return {
        name: _changes(value, usual[name]) if isinstance(value, dict) else value
        for name, value in settings.items()
        if value != usual.get(name)
    }


def _outdated(record: Record, newer: Record) -> bool:
    """Whether a record is of what the data of a newer one, of the same recipe, held before."""
    return _group(record) == _group(newer) and not same_data(record.sha256, newer.sha256, newer.data)


def _key(record: Record) -> tuple[Any, ...]:
    """The values that distinguish a run from all others."""
    return *_group(record), *record.seeds


def _group(record: Record) -> tuple[Any, ...]:
    """The values that are shared by runs that differ in their seeds alone."""
    return record.recipe, record.machine, json.dumps(record.settings, sort_keys=True)
