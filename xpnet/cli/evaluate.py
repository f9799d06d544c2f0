"""xpnet evaluate."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from xpnet.cli.datasets import DataDir, DataName, DeviceName, LibraryName, ModelPath, SplitName, data_for, part_of
from xpnet.cli.terminal import class_names, result_console
from xpnet.data import Dataset
from xpnet.model import Model, Scores, confusion_matrix, load

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["evaluate"]


def evaluate(
    model: ModelPath,
    /,
    *,
    data: DataName = None,
    split: SplitName = "test",
    device: DeviceName = "auto",
    library: LibraryName = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
) -> None:
    """Measure a trained model: loss, accuracy, accuracy by class, confusion matrix."""
    trained = load(model, device, library)
    dataset = data_for(trained, data, data_dir)
    images, labels = part_of(dataset, split)
    scores = trained.evaluate(images, labels)
    confusion = confusion_matrix(labels, trained.predict(images), trained.network.sizes[-1])
    if as_json:
        print(json.dumps(_as_dict(model, trained, dataset, split, scores, confusion), indent=2))
    else:
        _print(model, trained, dataset, split, scores, confusion)


def _as_dict(
    path: Path, model: Model, data: Dataset, split: str, scores: Scores, confusion: NDArray[np.intp]
) -> dict[str, Any]:
    n, hits = confusion.sum(axis=1), np.diagonal(confusion)
    return {
        "model": str(path),
        "network": str(model.network),
        "device": model.backend.device,
        "library": model.backend.name,
        "data": data.name,
        "source": data.source,
        "split": split,
        "images": int(n.sum()),
        "loss": scores.loss,
        "accuracy": scores.accuracy,
        "classes": [
            {"class": name, "images": int(count), "accuracy": int(hit) / int(count) if count else None}
            for name, count, hit in zip(class_names(data, len(n)), n, hits, strict=True)
        ],
        "confusion": confusion.tolist(),
    }


def _print(path: Path, model: Model, data: Dataset, split: str, scores: Scores, confusion: NDArray[np.intp]) -> None:
    console, backend = result_console(), model.backend
    print(f"model     {path}: {model.network}, on {backend.device} with {backend.name}")
    print(f"data      {data.name}, {confusion.sum():,} {split} images ({data.source})")
    print(f"accuracy  {100 * scores.accuracy:.2f} %")
    print(f"loss      {scores.loss:.4f}\n")
    names = class_names(data, len(confusion))
    table = _table(names, confusion, whole=True)
    unbounded = console.options.update(max_width=sys.maxsize)
    if console.measure(table, options=unbounded).maximum <= console.width:
        print("a row for each label, a column for each class that the model read")
        console.print(table)
        return
    console.print(_table(names, confusion, whole=False))
    wrong = confusion - np.diag(np.diagonal(confusion))
    print("\nthe most frequent mistakes (--json has the whole confusion matrix)")
    for cell in np.argsort(wrong, axis=None, kind="stable")[::-1][:10]:
        label, read = np.unravel_index(cell, wrong.shape)
        if wrong[label, read]:
            print(f"{wrong[label, read]:7,} times {names[label]} read as {names[read]}")


def _table(names: list[str], confusion: NDArray[np.intp], *, whole: bool) -> "Table":
    """A row for each class: its images, its accuracy, and with whole, its row of the confusion matrix."""
    from rich.table import Table
    from rich.text import Text

    short = all(len(name) <= 2 for name in names)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("label", "images", "accuracy"):
        table.add_column(heading, justify="left" if heading == "label" else "right", no_wrap=True)
    width = len(str(confusion.max()))
    for i, name in enumerate(names if whole else ()):
        table.add_column(name if short else str(i), justify="right", no_wrap=True, min_width=width)
    for i, row in enumerate(confusion):
        n = row.sum()
        cells = [
            Text(f"{count}" if count else ".", style="bold" if i == j else "" if count else "dim")
            for j, count in enumerate(row)
        ]
        accuracy = f"{100 * row[i] / n:.2f} %" if n else "-"
        table.add_row(names[i] if short else f"{i} {names[i]}", f"{n:,}", accuracy, *(cells if whole else ()))
    return table
