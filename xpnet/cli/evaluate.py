"""xpnet evaluate."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from xpnet.cli.datasets import DataDir, DataName, DeviceName, LibraryName, SplitName, data_for, newest_run, part_of
from xpnet.cli.terminal import class_names, result_console
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.model import Ensemble, Measured, Model, confusion_matrix, load

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["evaluate"]


def evaluate(
    models: Annotated[
        list[Path] | None,
        Parameter(
            help="Run directories or .safetensors files, whose outputs are averaged; by default the newest in runs.",
            metavar="MODEL...",
            negative="",
        ),
    ] = None,
    /,
    *,
    data: DataName = None,
    split: SplitName = "test",
    device: DeviceName = "auto",
    library: LibraryName = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
) -> None:
    """Measure a trained model, or several as one: loss, accuracy, accuracy by class, confusion matrix."""
    models = models or [newest_run()]
    members = [load(path, device, library) for path in models]
    trained = Ensemble(members, list(map(str, models))) if len(members) > 1 else members[0]
    if data is None and len(sets := dict.fromkeys(member.data for member in members)) > 1:
        raise ConfigError(
            f"the models were trained on different data, {', '.join(map(repr, sets))}: choose the data with --data"
        )
    dataset = data_for(members[0], data, data_dir)
    images, labels = part_of(dataset, split, models)
    measured = trained.measure(images, labels)
    confusion = confusion_matrix(labels, measured.outputs.argmax(axis=1), measured.outputs.shape[1])
    if as_json:
        print(json.dumps(_as_dict(models, members, dataset, split, measured, confusion), indent=2))
    else:
        _print(models, members, dataset, split, measured, confusion)


def _as_dict(
    paths: list[Path], models: list[Model], data: Dataset, split: str, measured: Measured, confusion: NDArray[np.intp]
) -> dict[str, Any]:
    n, hits = confusion.sum(axis=1), np.diagonal(confusion)
    names, networks = [str(path) for path in paths], [str(model.network) for model in models]
    several = bool(measured.members)
    found = {
        "model": names if several else names[0],
        "network": networks if several else networks[0],
        "device": models[0].backend.device,
        "library": models[0].backend.name,
        "data": data.name,
        "source": data.source,
        "split": split,
        "images": int(n.sum()),
        "loss": measured.scores.loss,
        "accuracy": measured.scores.accuracy,
        "classes": [
            {"class": name, "images": int(count), "accuracy": int(hit) / int(count) if count else None}
            for name, count, hit in zip(class_names(data, len(n)), n, hits, strict=True)
        ],
        "confusion": confusion.tolist(),
    }
    if several:
        found["members"] = [
            {"path": name, "network": network, "accuracy": scores.accuracy, "loss": scores.loss}
            for name, network, scores in zip(names, networks, measured.members, strict=True)
        ]
    return found


def _print(
    paths: list[Path], models: list[Model], data: Dataset, split: str, measured: Measured, confusion: NDArray[np.intp]
) -> None:
    console, backend, scores = result_console(), models[0].backend, measured.scores
    networks = ", ".join(dict.fromkeys(str(model.network) for model in models))
    name = f"ensemble of {len(models)}" if measured.members else paths[0]
    print(f"model     {name}: {networks}, on {backend.device} with {backend.name}")
    print(f"data      {data.name}, {confusion.sum():,} {split} images ({data.source})")
    for path, model, its in zip(paths, models, measured.members, strict=False):  # a single model has no members
        print(f"member    {100 * its.accuracy:.2f} %, {path}: {model.network}")
    print(f"accuracy  {100 * scores.accuracy:.2f} %")
    print(f"loss      {scores.loss:.4f}\n")
    names = class_names(data, len(confusion))
    table = _table(names, confusion, complete=True)
    unbounded = console.options.update(max_width=sys.maxsize)
    if console.measure(table, options=unbounded).maximum <= console.width:
        print("confusion matrix: a row for each label, a column for each predicted class")
        console.print(table)
        return
    console.print(_table(names, confusion, complete=False))
    wrong = confusion - np.diag(np.diagonal(confusion))
    print("\nthe most frequent mistakes (--json prints the complete confusion matrix)")
    for cell in np.argsort(wrong, axis=None, kind="stable")[::-1][:10]:
        label, predicted = np.unravel_index(cell, wrong.shape)
        if wrong[label, predicted]:
            print(f"{wrong[label, predicted]:7,} times {names[label]} classified as {names[predicted]}")


def _table(names: list[str], confusion: NDArray[np.intp], *, complete: bool) -> "Table":
    """A row for each class: its images, its accuracy and, if complete, its row of the confusion matrix."""
    from rich.table import Table
    from rich.text import Text

    short = all(len(name) <= 2 for name in names)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("label", "images", "accuracy"):
        table.add_column(heading, justify="left" if heading == "label" else "right", no_wrap=True)
    width = len(str(confusion.max()))
    for i, name in enumerate(names if complete else ()):
        table.add_column(name if short else str(i), justify="right", no_wrap=True, min_width=width)
    for i, row in enumerate(confusion):
        n = row.sum()
        cells = [
            Text(f"{count}" if count else ".", style="bold" if i == j else "" if count else "dim")
            for j, count in enumerate(row)
        ]
        accuracy = f"{100 * row[i] / n:.2f} %" if n else "-"
        table.add_row(names[i] if short else f"{i} {names[i]}", f"{n:,}", accuracy, *(cells if complete else ()))
    return table
