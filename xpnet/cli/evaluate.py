"""xpnet evaluate."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from xpnet.cli.datasets import (
    DataDir,
    DataName,
    DeviceName,
    LibraryName,
    SplitName,
    data_for,
    labelled,
    newest_run,
    part_of,
)
from xpnet.cli.terminal import result_console
from xpnet.data import Dataset, class_names
from xpnet.errors import ConfigError
from xpnet.model import Ensemble, Measured, Model, calibration_error, confusion_matrix, load
from xpnet.numerics.functional import LOSSES, softmax

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
    """Measure a trained model, or several as one: loss, accuracy, accuracy by class, confusion matrix.

    Where the outputs are probabilities, the expected calibration error says
    how far they are from the shares that are right. Of a regression, R2 and
    the mean absolute error take the place of all that.
    """
    models = models or [newest_run()]
    members = [load(path, device, library) for path in models]
    trained = Ensemble(members, list(map(str, models))) if len(members) > 1 else members[0]
    if data is None and len(sets := dict.fromkeys(member.data for member in members)) > 1:
        raise ConfigError(
            f"the models were trained on different data, {', '.join(map(repr, sets))}: choose the data with --data"
        )
    dataset = data_for(members[0], data, data_dir, models[0])
    images, labels = labelled(part_of(dataset, split, models), dataset)
    measured = trained.measure(images, labels)
    found = _as_dict(models, members, dataset, split, measured)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found, members, dataset, measured)


def _as_dict(paths: list[Path], models: list[Model], data: Dataset, split: str, measured: Measured) -> dict[str, Any]:
    names, networks = [str(path) for path in paths], [str(model.network) for model in models]
    several, first = bool(measured.members), models[0]
    found = {
        "model": names if several else names[0],
        "network": networks if several else networks[0],
        "device": first.backend.device,
        "library": first.backend.name,
        "data": data.name,
        "source": data.source,
        "split": split,
        "images": len(measured.outputs),
        **measured.scores._asdict(),
    }
    if first.task == "classification":
        found |= _by_class(measured, class_names(data.name, first.classes))
    elif first.task == "multilabel":
        right = ((measured.outputs > 0.5) == (measured.targets > 0.5)).mean(axis=0)
        found["classes"] = [
            {"class": str(name), "images": int(count), "accuracy": float(share)}
            for name, count, share in zip(first.classes, measured.targets.sum(axis=0), right, strict=True)
        ]
    if LOSSES[first.network.loss].output is softmax:
        error = calibration_error(measured.outputs, measured.targets)
        found["calibration_error"] = error if math.isfinite(error) else None
    if several:
        found["members"] = [
            {"path": name, "network": network, **scores._asdict()}
            for name, network, scores in zip(names, networks, measured.members, strict=True)
        ]
    return found


def _by_class(measured: Measured, names: list[str]) -> dict[str, Any]:
    confusion = confusion_matrix(measured.targets, measured.outputs.argmax(axis=1), len(names))
    classes = [
        {"class": name, "images": int(count), "accuracy": int(hit) / int(count) if count else None}
        for name, count, hit in zip(names, confusion.sum(axis=1), np.diagonal(confusion), strict=True)
    ]
    return {"classes": classes, "confusion": confusion.tolist()}


def _print(found: dict[str, Any], models: list[Model], data: Dataset, measured: Measured) -> None:
    networks = ", ".join(dict.fromkeys(str(model.network) for model in models))
    members = found.get("members", [])
    name = f"ensemble of {len(models)}" if members else found["model"]
    print(f"model     {name}: {networks}, on {found['device']} with {found['library']}")
    print(f"data      {data.name}, {found['images']:,} {found['split']} images ({data.source})")
    regression = models[0].task == "regression"
    for its in members:
        score = f"R2 {its['r2']:.4f}" if regression else f"{100 * its['accuracy']:.2f} %"
        print(f"member    {score}, {its['path']}: {its['network']}")
    if regression:
        print(f"R2        {found['r2']:.4f}")
        print(f"error     {found['mae']:.5g} (mean, absolute)")
    else:
        print(f"accuracy  {100 * found['accuracy']:.2f} %")
    print(f"loss      {found['loss']:.4f}")
    if found.get("calibration_error") is not None:
        print(f"ECE       {found['calibration_error']:.4f} (expected calibration error)")
    if "confusion" in found:
        print()
        _print_confusion([row["class"] for row in found["classes"]], np.array(found["confusion"]))
    elif "classes" in found:
        print("\nfor each label, the images that have it, and how often whether they have it is right")
        width = max(len(row["class"]) for row in found["classes"])
        for row in found["classes"]:
            print(f"{row['class']:<{width}}  {row['images']:,}  {100 * row['accuracy']:.2f} %")


def _print_confusion(names: list[str], confusion: NDArray[np.intp]) -> None:
    console = result_console()
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
