"""xpnet evaluate."""

import json
import math
from collections.abc import Sequence
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
from xpnet.cli.readings import finite
from xpnet.cli.terminal import print_table, result_console, say, working
from xpnet.data import Dataset, shown_names
from xpnet.display import plain
from xpnet.errors import ConfigError, one_line
from xpnet.model import (
    Ensemble,
    Measured,
    Model,
    by_class,
    by_output,
    calibration_error,
    confusion_matrix,
    interval,
    load,
    macro_f1,
    most_confused,
    root_mean_square,
    top_accuracy,
    top_k,
)
from xpnet.numerics.functional import LOSSES, softmax

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["evaluate"]

MOST_CONFUSIONS = 10


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
    """Measure a trained model, or several as one.

    Of classes: accuracy with its 95 % interval (Wilson), how often the class
    is among the 5 likeliest (of few classes 3), F1 averaged over the classes,
    loss, and the expected calibration error, by which probabilities differ
    from the shares that are right; by class n, precision, recall and F1; the
    confusion matrix and the most frequent confusions. Of several labels, the
    accuracy counts examples all of whose labels are right. Of numbers: R2,
    mean absolute and root mean square error. --json has all of it. The loss of
    one model is that of its training, of several that of their mean output.
    """
    models = models or [newest_run()]
    members = [load(path, device, library) for path in models]
    trained = Ensemble(members, list(map(str, models))) if len(members) > 1 else members[0]
    if data is None and len(sets := dict.fromkeys(member.data for member in members)) > 1:
        raise ConfigError(
            f"the models were trained on different data, {', '.join(map(repr, sets))}: choose the data with --data"
        )
    dataset = data_for(members[0], data, data_dir, models[0])
    images, labels = labelled(part_of(dataset, split, models, flag="--split"), dataset)
    with working("measuring"):
        measured = trained.measure(images, labels)
    found = _as_dict(models, members, dataset, split, measured)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found, members, dataset)


def _as_dict(paths: list[Path], models: list[Model], data: Dataset, split: str, measured: Measured) -> dict[str, Any]:
    names, networks = [str(path) for path in paths], [str(model.network) for model in models]
    several, first = bool(measured.members), models[0]
    found: dict[str, Any] = {
        "model": names if several else names[0],
        "network": networks if several else networks[0],
        "device": first.backend.device,
        "library": first.backend.name,
        "data": data.name,
        "source": data.source,
        "split": split,
        "images": len(measured.outputs),
        **_scores(measured.scores),
    }
    found |= _of_numbers(measured, data, first) if first.task == "regression" else _of_classes(measured, data, first)
    if LOSSES[first.network.loss].output is softmax:
        found["calibration_error"] = finite(calibration_error(measured.outputs, measured.targets))
    if several:
        found["members"] = [
            {"path": name, "network": network, **_scores(scores)}
            for name, network, scores in zip(names, networks, measured.members, strict=True)
        ]
    return found


def _scores(scores: Any) -> dict[str, float | None]:
    return {name: finite(score) for name, score in scores._asdict().items()}


def _of_numbers(measured: Measured, data: Dataset, model: Model) -> dict[str, Any]:
    figures = by_output(measured.targets, measured.outputs)
    names: Sequence[str | None] = shown_names(data.name, model.classes) or [None] * len(figures)
    return {
        "rmse": finite(root_mean_square(measured.outputs, measured.targets)),
        "outputs": [{"output": name, **_scores(its)} for name, its in zip(names, figures, strict=True)],
    }


def _of_classes(measured: Measured, data: Dataset, model: Model) -> dict[str, Any]:
    """The figures by class, or by label of several, and what is counted of them all."""
    targets, outputs, n = measured.targets, measured.outputs, len(measured.outputs)
    names = shown_names(data.name, model.classes)
    figures = by_class(targets, outputs)
    several = model.task == "multilabel"
    decided = [its.recall for its in figures]
    if several:
        decided = ((outputs > 0.5) == (targets > 0.5)).mean(axis=0).tolist()
    found: dict[str, Any] = {
        "accuracy_interval": interval(round(measured.scores.accuracy * n), n),
        "macro_f1": macro_f1(figures),
        "classes": [
            {
                "class": name,
                "images": its.n,
                "accuracy": share,
                "precision": its.precision,
                "recall": its.recall,
                "f1": its.f1,
            }
            for name, its, share in zip(names, figures, decided, strict=True)
        ],
    }
    if several:
        return found
    k, confusion = top_k(len(names)), confusion_matrix(targets, outputs.argmax(axis=1), len(names))
    return found | {
        "top_k": k,
        "top_k_accuracy": top_accuracy(outputs, targets, k) if k else None,
        "confusion": confusion.tolist(),
        "confusions": [
            {"label": names[i], "predicted": names[j], "times": times}
            for i, j, times in most_confused(confusion, MOST_CONFUSIONS)
        ],
    }


def _print(found: dict[str, Any], models: list[Model], data: Dataset) -> None:
    networks = ", ".join(dict.fromkeys(str(model.network) for model in models))
    members, task = found.get("members", []), models[0].task
    name = f"ensemble of {len(models)}" if members else found["model"]
    kind = "images" if len(data.image_shape) > 1 else "rows"
    lines = [
        ("model", f"{name}: {networks}, on {found['device']} with {found['library']}"),
        ("data", f"{data.name}, {found['images']:,} {found['split']} {kind} ({data.source})"),
    ]
    for its in members:
        score = f"R2 {_number(its['r2'])}" if task == "regression" else _percent(its["accuracy"])
        lines.append(("member", f"{score}, {its['path']}: {its['network']}"))
    lines += _errors(found) if task == "regression" else _shares(found, task)
    console = result_console()
    for name, text in lines:
        say(f"{name:<10}{one_line(text)}", console, 10)
    if task != "regression":
        _print_classes(found, "label" if task == "multilabel" else "class", console)
    elif len(found["outputs"]) > 1:
        figures = ("R2", "MAE", "RMSE")
        rows = [
            {"output": its["output"] or f"output {i}", "R2": _number(its["r2"])}
            | {head: _plain(its[head.lower()]) for head in figures[1:]}
            for i, its in enumerate(found["outputs"])
        ]
        print()
        print_table(rows, ("output", *figures), console, right=figures)


def _shares(found: dict[str, Any], task: str) -> list[tuple[str, str]]:
    low, high = (100 * end for end in found["accuracy_interval"])
    of = "all labels right; " if task == "multilabel" else ""
    lines = [("accuracy", f"{_percent(found['accuracy'])} ({of}95 % interval: {low:.2f} to {high:.2f} %)")]
    if found.get("top_k"):
        lines.append((f"top-{found['top_k']}", _percent(found["top_k_accuracy"])))
    lines += [("macro F1", _percent(found["macro_f1"])), ("loss", _number(found["loss"]))]
    if found.get("calibration_error") is not None:
        lines.append(("ECE", f"{found['calibration_error']:.4f} (expected calibration error)"))
    return lines


def _errors(found: dict[str, Any]) -> list[tuple[str, str]]:
    outputs = found["outputs"]
    of = f" of {outputs[0]['output']}" if outputs[0]["output"] else ", in the unit of the target"
    if len(outputs) > 1:
        of = f" over {len(outputs)} outputs"
    return [
        ("R2", _number(found["r2"])),
        ("MAE", f"{_plain(found['mae'])} (mean absolute error{of})"),
        ("RMSE", f"{_plain(found['rmse'])} (root mean square error{of})"),
        ("loss", _number(found["loss"])),
    ]


def _print_classes(found: dict[str, Any], kind: str, console: "Console") -> None:
    """The figures by class, the confusion matrix where there is room for it, and the most frequent confusions."""
    figures = {"precision": "precision", "recall": "recall", "F1": "f1"}
    if kind == "label":  # of a class, the accuracy is the recall
        figures = {"right": "accuracy", **figures}
    rows = [
        {kind: its["class"], "n": f"{its['images']:,}"} | {head: _percent(its[key]) for head, key in figures.items()}
        for its in found["classes"]
    ]
    print()
    print_table(rows, list(rows[0]), console, right=("n", *figures), less=("n", "right"))
    if "confusion" not in found:
        return
    complete = _print_confusion([its["class"] for its in found["classes"]], np.array(found["confusion"]), console)
    hint = "" if complete else " (--json prints the complete confusion matrix)"
    print()
    say(f"the most frequent confusions{hint}" if found["confusions"] else "no confusion", console)
    for its in found["confusions"]:
        times = f"{its['times']:,} times" if its["times"] > 1 else "once"
        say(f"{its['label']} taken for {its['predicted']}: {times}", console, 2)


def _print_confusion(names: list[str], confusion: NDArray[np.intp], console: "Console") -> bool:
    """Print the confusion matrix if a line has room for it; returns whether it has."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    short = all(len(name) <= 2 for name in names)
    heads = names if short else list(map(str, range(len(names))))
    labels = names if short else [f"{i} {name}" for i, name in enumerate(names)]
    width = max(len(str(confusion.max())), *map(cell_len, heads))
    if max(map(cell_len, labels)) + len(names) * (1 + width) > console.width:
        return False
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True, min_width=width)
    for i, row in enumerate(confusion):
        styles = ["bold" if i == j else "" if count else "dim" for j, count in enumerate(row)]
        table.add_row(labels[i], *(Text(f"{count or '.'}", style) for count, style in zip(row, styles, strict=True)))
    print()
    say("confusion matrix: a row for each class, a column for each prediction", console)
    console.print(table)
    return True


def _number(number: float | None) -> str:
    return "nan" if number is None else f"{number:.4f}"


def _plain(number: float | None) -> str:
    return plain(math.nan if number is None else number)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
