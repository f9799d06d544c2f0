"""xpnet evaluate."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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
from xpnet.cli.terminal import fill, result_console, working
from xpnet.data import Dataset, class_names
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

__all__ = ["evaluate"]

MOST_CONFUSIONS = 10
LEAST = 12  # columns that a name is cut to before the table does without another figure


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
    mean absolute and root mean square error. --json has all of it.
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
    found |= _of_numbers(measured, first) if first.task == "regression" else _of_classes(measured, data, first)
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


def _of_numbers(measured: Measured, model: Model) -> dict[str, Any]:
    figures = by_output(measured.targets, measured.outputs)
    names: Sequence[str | None] = [str(name) for name in model.classes] or [None] * len(figures)
    return {
        "rmse": finite(root_mean_square(measured.outputs, measured.targets)),
        "outputs": [{"output": name, **_scores(its)} for name, its in zip(names, figures, strict=True)],
    }


def _of_classes(measured: Measured, data: Dataset, model: Model) -> dict[str, Any]:
    """The figures by class, or by label of several, and what is counted of them all."""
    targets, outputs, n = measured.targets, measured.outputs, len(measured.outputs)
    names = class_names(data.name, model.classes)
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
    _line("model", f"{name}: {networks}, on {found['device']} with {found['library']}")
    _line("data", f"{data.name}, {found['images']:,} {found['split']} {kind} ({data.source})")
    for its in members:
        score = f"R2 {_number(its['r2'])}" if task == "regression" else _percent(its["accuracy"])
        _line("member", f"{score}, {its['path']}: {its['network']}")
    if task == "regression":
        _print_outputs(found)
        return
    low, high = (100 * end for end in found["accuracy_interval"])
    _line("accuracy", f"{_percent(found['accuracy'])} (95 % interval: {low:.2f} to {high:.2f} %)")
    if found.get("top_k"):
        _line(f"top-{found['top_k']}", _percent(found["top_k_accuracy"]))
    _line("macro F1", _percent(found["macro_f1"]))
    _line("loss", _number(found["loss"]))
    if found.get("calibration_error") is not None:
        _line("ECE", f"{found['calibration_error']:.4f} (expected calibration error)")
    _print_classes(found, "label" if task == "multilabel" else "class")


def _print_outputs(found: dict[str, Any]) -> None:
    """A regression's errors, and those of each output if there are several."""
    outputs = found["outputs"]
    names = [its["output"] or f"output {i}" for i, its in enumerate(outputs)]
    several = len(outputs) > 1
    of = f" of {names[0]}" if outputs[0]["output"] else ", in the unit of the target"
    if several:
        of = f" over {len(outputs)} outputs"
    _line("R2", _number(found["r2"]))
    _line("MAE", f"{_number(found['mae'], '.5g')} (mean absolute error{of})")
    _line("RMSE", f"{_number(found['rmse'], '.5g')} (root mean square error{of})")
    _line("loss", _number(found["loss"]))
    if several:
        forms = {"R2": ".4f", "MAE": ".5g", "RMSE": ".5g"}
        columns = [(head, [_number(its[head.lower()], form) for its in outputs]) for head, form in forms.items()]
        print()
        _print_table("output", names, columns, less=("MAE", "R2"))


def _print_classes(found: dict[str, Any], kind: str) -> None:
    """The figures by class, the confusion matrix where there is room for it, and the most frequent confusions."""
    classes = found["classes"]
    names = [its["class"] for its in classes]
    columns = [("n", [f"{its['images']:,}" for its in classes])]
    if kind == "label":  # of a class that is the recall
        columns.append(("right", [_percent(its["accuracy"]) for its in classes]))
    columns += [(head, [_percent(its[head.lower()]) for its in classes]) for head in ("precision", "recall", "F1")]
    print()
    _print_table(kind, names, columns, less=("n", "right", "F1", "precision"))
    if "confusion" not in found:
        return
    complete = _print_confusion(names, np.array(found["confusion"]))
    hint = "" if complete else " (--json prints the complete confusion matrix)"
    print()
    print(fill(f"the most frequent confusions{hint}" if found["confusions"] else "no confusion", 0, sys.stdout))
    for its in found["confusions"]:
        times = f"{its['times']:,} times" if its["times"] > 1 else "once"
        print(fill(f"{its['label']} taken for {its['predicted']}: {times}", 2, sys.stdout))


def _print_confusion(names: list[str], confusion: NDArray[np.intp]) -> bool:
    """Print the confusion matrix if a line has room for it; returns whether it has."""
    from rich.text import Text

    n, room = len(names), result_console().width
    short = all(len(name) <= 2 for name in names)
    heads = names if short else list(map(str, range(n)))
    labels = names if short else [f"{i} {name}" for i, name in enumerate(names)]
    width = max(len(str(confusion.max())), *map(len, heads))
    if room - n * (1 + width) < min(LEAST, max(map(len, labels))):
        return False
    styles = [["bold" if i == j else "" if confusion[i, j] else "dim" for i in range(n)] for j in range(n)]
    columns = [
        (
            f"{head:>{width}}",
            [Text(f"{count or '.'}", style) for count, style in zip(confusion[:, j], styles[j], strict=True)],
        )
        for j, head in enumerate(heads)
    ]
    print(fill("\nconfusion matrix: a row for each class, a column for each prediction", 0, sys.stdout))
    _print_table("", labels, columns, width=room)
    return True


def _print_table(
    heading: str,
    names: list[str],
    columns: Sequence[tuple[str, Sequence[Any]]],
    less: Sequence[str] = (),
    width: int | None = None,
) -> None:
    """Print a row for each name, with as much of it as there is room for.

    less : the columns that a terminal does without if it is too narrow for all, in this order.
    width : of a line; by default a terminal's, and elsewhere without end.
    """
    from rich.cells import cell_len
    from rich.table import Table

    console = result_console()
    width = width or (console.width if console.is_terminal else sys.maxsize)
    longest = max(map(cell_len, (heading, *names)))
    for n in range(len(less) + 1):
        shown = [(head, cells) for head, cells in columns if head not in less[:n]]
        room = width - _width(shown)
        if room >= min(longest, LEAST):
            break
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(heading, no_wrap=True)
    for head, _ in shown:
        table.add_column(head, justify="right", no_wrap=True)
    for name, *cells in zip(names, *(cells for _, cells in shown), strict=True):
        table.add_row(_cut(name, room), *cells)
    console.width = min(width, longest + _width(shown))
    console.print(table)


def _width(columns: Sequence[tuple[str, Sequence[Any]]]) -> int:
    """How much of a line a table's columns take, with the blank before each."""
    from rich.cells import cell_len

    return sum(1 + max(cell_len(str(cell)) for cell in (head, *cells)) for head, cells in columns)


def _cut(name: str, room: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return name if cell_len(name) <= room else f"{set_cell_size(name, max(room - 1, 0))}…"


def _line(name: str, text: str) -> None:
    print(fill(f"{name:<10}{one_line(text)}", 10, sys.stdout))


def _number(number: float | None, form: str = ".4f") -> str:
    return "nan" if number is None else f"{number:{form}}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
