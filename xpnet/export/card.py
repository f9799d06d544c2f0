"""A model card: the README.md beside an exported file, with a head of YAML, as model hubs read it.

Every text that may come from a file, such as the name of a class, is one line; in Markdown all that could be markup is
a character reference, and in YAML it is a string of JSON.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._version import __version__
from xpnet.data import SETS
from xpnet.errors import ConfigError, one_line
from xpnet.export.layers import Layers, described, input_dtype, public_name
from xpnet.model import (
    Ensemble,
    Measured,
    Model,
    by_class,
    calibration_error,
    confusion_matrix,
    interval,
    most_confused,
    root_mean_square,
)

__all__ = ["Evidence", "card"]

MOST_ROWS = 50  # of a table of classes or columns
MOST_MISTAKES = 10
_LIBRARIES = {".onnx": "onnx", ".pt": "pytorch", ".keras": "keras"}
_FORMS = {
    "mnist": "light ink on black, its longest side 20 of 28 pixels, its centre of mass in the middle",
    "emnist": "light ink on black, its longest side 24 of 28 pixels, centred",
}
# All but letters, digits and harmless signs; underlines within words and colons after them are harmless too.
_MARKUP = re.compile(r"[^\w\s.,%/+=;():-]|:(?!\s|$)|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.", re.IGNORECASE)


class Evidence(NamedTuple):
    """What a model was measured by.

    measured : as Model.measure finds it, or None where it was not.   why : the reason for that, a clause.
    data : the name of the set, whose test split it was.
    """

    measured: Measured | None = None
    why: str = "no test split was at hand"
    data: str = ""


def card(
    model: Model | Ensemble,
    file: str,
    *,
    use: str,
    what: str = "",
    evidence: Evidence | None = None,
    settings: Mapping[str, Any] | None = None,
    license: str | None = None,
    unsure: float = 0.0,
    input: Literal["uint8", "float32"] | None = None,
) -> str:
    """The text of a model card.

    file : the name of the exported file.   use : a line that shows how to use it.   what : its format, in some words.
    evidence : what the model was measured by.   settings : those that it was trained with, by their names.
    license : an identifier as hubs know it, such as "mit"; None if none was chosen, which the card says.
    unsure : the probability below which predictions are called unsure; 0 for none.
    input : what the file takes, as in export.
    Raises ConfigError for a license that is no identifier.
    """
    if license is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", license):
        raise ConfigError(f"--license must be an identifier such as mit or apache-2.0, not {license!r}")
    members, evidence = described(model), evidence or Evidence()
    parts = [
        f"# {_text(Path(file).stem)}\n\n" + _introduction(members, file, what),
        "## Data\n\n" + _data(members[0]),
        "## Settings\n\n" + _settings(settings),
        "## Accuracy\n\n" + _accuracy(members[0], evidence),
        "## Calibration\n\n" + _calibration(members, evidence, unsure),
        "## Classes\n\n" + _classes(members[0], evidence),
        "## Use\n\n" + f"    {one_line(use)}\n\n" + _input(members, file, input),
        "## Limits\n\n" + _limits(members[0], evidence),
        "## Licence\n\n" + _licence(members[0], license),
    ]
    head = _head(members[0], file, evidence, license)
    return (
        "---\n" + "\n".join(_yaml(head)) + "\n---\n\n" + "\n\n".join(part for part in parts if part[-1:].strip()) + "\n"
    )


# The head -------------------------------------------------------------------------------------------------------------


def _head(layers: Layers, file: str, evidence: Evidence, license: str | None) -> dict[str, Any]:
    known = layers.schema.data in SETS
    kind = "image" if layers.white is not None else "tabular"
    task = f"{kind}-{'regression' if layers.task == 'regression' else 'classification'}"
    head: dict[str, Any] = {} if license is None else {"license": license.lower()}
    head["library_name"] = _LIBRARIES.get(Path(file).suffix.lower(), "xpnet")
    if task != "image-regression":  # which hubs do not know
        head["pipeline_tag"] = task
    head["tags"] = ["xpnet", "mlp", *([layers.schema.data] if known else [])]
    if known:
        head["datasets"] = [layers.schema.data]
    if evidence.measured is not None:
        set_name = public_name(evidence.data)
        scores = evidence.measured.scores
        figures = {"r_squared": "r2", "mae": "mae"} if layers.task == "regression" else {"accuracy": "accuracy"}
        metrics = [{"type": kind, "value": float(getattr(scores, name))} for kind, name in figures.items()]
        head["metrics"] = list(figures)
        result = {
            "task": {"type": task},
            "dataset": {"type": set_name, "name": set_name, "split": "test"},
            "metrics": metrics,
        }
        head["model-index"] = [{"name": Path(file).stem, "results": [result]}]
    return head


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """A dictionary or list as lines of YAML; texts are strings of JSON, which YAML reads alike."""
    entries = value.items() if isinstance(value, dict) else (("-", entry) for entry in value)
    for key, entry in entries:
        lead = indent + (key if key == "-" else f"{key}:")
        if isinstance(entry, dict | list):
            yield lead
            yield from _yaml(entry, indent + "  ")
        else:
            yield f"{lead} {_scalar(entry)}"


def _scalar(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' * (value < 0)}.inf"
    return json.dumps(one_line(value) if isinstance(value, str) else value, ensure_ascii=False)


# The text -------------------------------------------------------------------------------------------------------------


def _introduction(members: Sequence[Layers], file: str, what: str) -> str:
    first = members[0]
    n_params = sum(each.n_params for each in members)
    networks = ", ".join(dict.fromkeys(each.name for each in members))
    kind = "A multilayer perceptron" if len(members) == 1 else f"An ensemble of {len(members)} multilayer perceptrons"
    shape = " x ".join(map(str, first.schema.image_shape))
    examples = f"pictures of {shape} pixels" if first.white is not None else f"rows of {first.sizes[0]} features"
    k = first.sizes[-1]
    does = {
        "classification": f"sorts {examples} into {k} classes",
        "multilabel": f"finds which of {k} labels {examples} have",
        "regression": f"predicts {'a number' if k == 1 else f'{k} numbers'} from {examples}",
    }[first.task]
    return (
        f"{kind} ({_text(networks)}; {n_params:,} parameters), which {does}. It was trained with xpnet and written "
        f"by xpnet {__version__} as `{_code(file)}`{f': {_text(what)}' if what else ''}."
    )


def _data(layers: Layers) -> str:
    schema = layers.schema
    if not schema.data:
        return "The model's file does not say what it was trained on."
    rows = [("trained on", _text(public_name(schema.data)))]
    if info := SETS.get(schema.data):
        rows = [("trained on", _text(f"{schema.data}, {info.title}"))]
        rows += [("examples", f"{info.n_train:,} to train, {info.n_test:,} to test"), ("licence", _text(info.licence))]
    shape = " x ".join(map(str, schema.image_shape))
    if layers.white is None:
        rows.append(("input", f"{layers.sizes[0]} features"))
        if columns := ", ".join(schema.columns[:MOST_ROWS]):
            rows.append(("columns", _text(columns) + (", ..." if len(schema.columns) > MOST_ROWS else "")))
    else:
        rows.append(("input", f"{shape} pixels, from 0 to {layers.white:g}"))
        if schema.form in _FORMS:
            rows.append(("form", _FORMS[schema.form]))
    return _table(("", ""), rows)


def _settings(settings: Mapping[str, Any] | None) -> str:
    if not settings:
        return "The settings of the training are not known: the model lies in no run directory."
    return _table(("setting", "value"), [(_text(name), _text(value)) for name, value in settings.items()])


def _accuracy(layers: Layers, evidence: Evidence) -> str:
    measured = evidence.measured
    if measured is None:
        return f"It was not measured: {_text(evidence.why)}."
    n, scores, where = len(measured.outputs), measured.scores, _text(public_name(evidence.data))
    if layers.task == "regression":
        rmse = root_mean_square(measured.outputs, measured.targets)
        rows = [("R2", f"{scores.r2:.4f}"), ("RMSE", f"{rmse:.5g}"), ("mean absolute error", f"{scores.mae:.5g}")]
        return f"On the {n:,} examples of the test split of {where}:\n\n" + _table(("", ""), rows)
    right = round(scores.accuracy * n)
    all_labels = "have all labels right" if layers.task == "multilabel" else "are classified correctly"
    low, high = interval(right, n)
    return (
        f"Of the {n:,} examples of the test split of {where}, **{100 * scores.accuracy:.2f} %** {all_labels} "
        f"(95 % interval, Wilson: {100 * low:.2f} % to {100 * high:.2f} %). The loss is {scores.loss:.4f}."
    )


def _calibration(members: Sequence[Layers], evidence: Evidence, unsure: float) -> str:
    if members[0].output != "softmax":
        return "The outputs are no probabilities of classes that exclude each other."
    temperatures = sorted({each.temperature for each in members})
    divided = " and ".join(f"{each:.3g}" for each in temperatures)
    text = (
        f"The logits are divided by {divided}, chosen by examples that were held out (temperature scaling)."
        if temperatures != [1.0]
        else "The probabilities are the network's own; no temperature was chosen."
    )
    if evidence.measured is None:
        return f"{text} How often they are right was not measured."
    outputs, labels = evidence.measured.outputs, evidence.measured.targets
    top, right = outputs.max(axis=1), outputs.argmax(axis=1) == labels
    bounds = sorted({0.5, 0.9, 0.99} | ({unsure} - {0.0}))
    rows = [(f"at least {100 * p:g} %", _share(top >= p), _share(right[top >= p])) for p in bounds]
    return (
        f"{text} The expected calibration error on the test split is {calibration_error(outputs, labels):.4f} "
        "(15 bins).\n\n" + _table(("probability of the answer", "of the examples", "right"), rows)
    )


def _classes(layers: Layers, evidence: Evidence) -> str:
    if layers.task == "regression" and not layers.classes:
        return "None: the outputs are numbers."
    names, measured = layers.classes, evidence.measured
    if measured is None or layers.task == "regression":
        return _table(("output", "stands for"), [(str(i), _text(name)) for i, name in enumerate(names[:MOST_ROWS])])
    figures = list(zip(names, by_class(measured.targets, measured.outputs), strict=True))
    kind = "label" if layers.task == "multilabel" else "class"
    table = _table(
        (kind, "test examples", "found (recall)", "right where said (precision)"),
        [(_text(name), f"{its.n:,}", _part(its.recall), _part(its.precision)) for name, its in figures[:MOST_ROWS]],
    )
    left = f"\n\nand {len(names) - MOST_ROWS} more." if len(names) > MOST_ROWS else ""
    return table + left + ("" if kind == "label" else "\n\n" + _mistakes(names, measured))


def _mistakes(names: Sequence[str], measured: Measured) -> str:
    matrix = confusion_matrix(measured.targets, measured.outputs.argmax(axis=1), len(names))
    rows = [(_text(names[i]), _text(names[j]), f"{times:,}") for i, j, times in most_confused(matrix, MOST_MISTAKES)]
    if not rows:
        return "No example was confused."
    return "The most frequent mistakes:\n\n" + _table(("is", "was classified as", "times"), rows)


def _input(members: Sequence[Layers], file: str, input: str | None) -> str:
    """What the file takes; arrays of some formats have a shape, and one a dtype, that must be met."""
    first, suffix = members[0], Path(file).suffix.lower()
    n, shape = first.sizes[0], ", ".join(map(str, first.input_shape))
    takes = {
        ".onnx": f"an array of {input_dtype(members, input)} of shape (n, {shape})",
        ".pt": f"a tensor of any dtype, of shape (n, {shape})",
        ".keras": f"an array of shape (n, {shape})",
    }
    if first.white is None:
        what = "features as they were in the data"
        given = f"{takes[suffix]}, n rows of {what}" if suffix in takes else f"rows of {n} {what}"
    else:
        what = f"from 0 to {first.white:g}, as they come"
        given = f"{takes[suffix]}, pixels {what}" if suffix in takes else f"{n} pixels, row by row, {what}"
    return f"It takes {given}; they are scaled inside."


def _limits(layers: Layers, evidence: Evidence) -> str:
    pictures = layers.white is not None
    points = []
    if layers.task == "classification":
        points.append(
            f"It knows {len(layers.classes)} classes and names one of them for every input, also for one that shows "
            "none of them, and often with a high probability."
        )
    if pictures and layers.schema.form in _FORMS:
        points.append(f"Pictures must have the form of its data: {_FORMS[layers.schema.form]}.")
    if pictures:
        points.append("It looks at each pixel in its place: shifted, turned or inverted pictures are others to it.")
    else:
        points.append("Features must have the meaning, the unit and the order of its data; far from these it guesses.")
    if evidence.measured is not None:
        points.append("The figures hold for examples drawn as the test split was, and say little of others.")
    points.append("Nobody has examined it for uses in which a mistake can harm somebody.")
    return "\n".join(f"- {point}" for point in points)


def _licence(layers: Layers, license: str | None) -> str:
    own = "None was chosen for this model: whoever publishes it must choose one." if license is None else f"{license}."
    info = SETS.get(layers.schema.data)
    return own + ("" if info is None else f" That of the data: {_text(info.licence)}.")


# Its parts ------------------------------------------------------------------------------------------------------------


def _share(right: NDArray[np.bool_]) -> str:
    return _part(float(right.mean()) if len(right) else None)


def _part(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _text(text: Any) -> str:
    """A text in Markdown that is shown as it is: no markup, HTML or link begins in it."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", one_line(str(text)))


def _code(text: str) -> str:
    """A name in backticks, which know no escape."""
    return one_line(text).replace("`", "'").replace("|", "/")
