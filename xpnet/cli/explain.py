"""xpnet explain: what speaks for and against an answer, which hidden units fire, and what it resembles."""

import dataclasses
import json
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from xpnet import plots
from xpnet.checks import check_range, required
from xpnet.checks import nearest as nearest_to
from xpnet.cli.datasets import DataDir, DataName, DeviceName, LibraryName, SplitName, data_for, part_of
from xpnet.cli.explanations import print_explanation, title_of
from xpnet.cli.predict import told_apart
from xpnet.cli.readings import Reader, Reading, as_dict, finite, short
from xpnet.cli.settings import Dark, Indices, Pictures, Unsure, whole_numbers
from xpnet.cli.terminal import fill
from xpnet.data import Split
from xpnet.errors import ConfigError, XpnetError
from xpnet.model import UNSURE, Explanation, Neighbours, load

__all__ = ["explain"]


def explain(
    *names: Pictures,
    index: Indices = None,
    of: Annotated[
        str | None,
        Parameter(help="Explain this class or output, by default what is predicted.", metavar="CLASS"),
    ] = None,
    against: Annotated[
        str | None,
        Parameter(help="Explain why it is that class rather than this one.", metavar="CLASS"),
    ] = None,
    nearest: Annotated[
        int,
        Parameter(converter=whole_numbers, help="Show the most similar training examples; 0 for none.", metavar="K"),
    ] = 5,
    out: Annotated[
        Path | None, Parameter(help="Draw all that as a picture, too: .png, .svg or .pdf.", metavar="FILE")
    ] = None,
    dark: Dark = False,
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
    split: SplitName = "test",
    data: DataName = None,
    unsure: Unsure = UNSURE,
    device: DeviceName = "auto",
    library: LibraryName = None,
    data_dir: DataDir = None,
) -> int:
    """Show what speaks for a model's answer and against it, and what it finds similar.

    A pixel's or a feature's contribution is its value times the gradient of
    the answer's logit by it: red is for the answer, blue against it. The
    similar examples are the training examples nearest in the last hidden layer.
    """
    check_range("--unsure", unsure, 0.0, 1.0, high_open=False)
    check_range("--nearest", nearest, 0, 1000)
    if out is not None:
        required("matplotlib", "--out", "plot")
        plots.format_of(out)
    run, pictures = told_apart(names)
    if not (pictures or index):
        raise ConfigError("name what is to be explained: a picture, or --index N")
    reader = Reader(load(run, device, library), data, data_dir, run, unsure)
    output, other = (_output(reader, flag, text) for flag, text in (("--of", of), ("--against", against)))
    groups = [list(reader.at(split, index or ())), list(chain.from_iterable(reader.in_files(pictures)))]
    if out is not None and (n := sum(map(len, groups))) > 1:
        remedy = "cut one out of the picture" if len(pictures) == 1 and not index else "name one"
        raise ConfigError(f"--out draws one example, and these are {n}: {remedy}")
    examples = _trained_on(reader) if nearest and any(groups) else None
    found: list[tuple[Reading, Explanation]] = []
    for readings, from_file in zip(groups, (False, True), strict=True):
        if readings:
            X = reader.features([reading.image for reading in readings], from_file=from_file)
            # One more, since an example that was trained on is the most similar to itself.
            explained = reader.model.explain(X, output, against=other, examples=examples, nearest=nearest + 1)
            found += [(each, _others(each, its, nearest)) for each, its in zip(readings, explained, strict=True)]
    if out is not None and found:
        ((reading, explanation),) = found
        with plots.dark(dark):
            plots.save(plots.explanation(explanation, title=title_of(reader, reading, explanation).plain), out)
        print(fill(f"saved {out}"), file=sys.stderr)
    if as_json:
        print("[" + ",".join(f"\n  {_as_json(reader, *each)}" for each in found) + "\n]")
    else:
        for reading, explanation in found:
            print_explanation(reader, reading, explanation)
    return int(reader.failed)


def _output(reader: Reader, flag: str, text: str | None) -> Any:
    """The class that a word names, or the number of an output without a name; None for None.   Raises ConfigError."""
    if text is None:
        return None
    known = reader.model.classes or range(reader.model.network.sizes[-1])
    called = reader.names or list(map(str, known))
    named = {str(each): each for each in known} | dict(zip(called, known, strict=True))
    if text not in named:
        choices = ", ".join(called[:12]) + ", ..." * (len(called) > 12)
        hint = nearest_to(text, called)
        raise ConfigError(f"{flag}: the model has no output {short(text)!r}; {hint}the choices are {choices}")
    return named[text]


def _trained_on(reader: Reader) -> Split | None:
    """The examples that the model was trained on or, if they are lost, those of the data that is named instead.

    None, and a line on stderr, if neither is on this disk.
    """
    try:
        if reader.data_name is None and "data" in vars(reader):
            return reader.part("train")
        own = data_for(reader.model, None, reader.data_dir, reader.run, download=False)
        return part_of(own, "train", [reader.run])
    except XpnetError as error:
        if reader.data_name is not None and reader.data.train.labels is not None:
            return reader.part("train")
        print(fill(f"similar training examples are left out: {error}"), file=sys.stderr)
        return None


def _others(reading: Reading, explanation: Explanation, nearest: int) -> Explanation:
    """An explanation with as many neighbours, none of which is the example itself."""
    near = explanation.neighbours
    if near is None:
        return explanation
    itself = reading.source.get("split") == "train"
    kept = [
        i
        for i, (index, image) in enumerate(zip(near.indices.tolist(), near.images, strict=True))
        if not (itself and index == reading.source["index"] and np.array_equal(image, reading.image))
    ][:nearest]
    targets, labels = near.targets, tuple(near.labels[i] for i in kept if near.labels)
    fewer = Neighbours(
        near.indices[kept], near.distances[kept], near.images[kept], None if targets is None else targets[kept], labels
    )
    return dataclasses.replace(explanation, neighbours=fewer)


def _as_json(reader: Reader, reading: Reading, explanation: Explanation) -> str:
    """An explanation as a JSON object, on one line; a number that is not finite is null."""
    above, below, rest = explanation.sums
    found = as_dict(reader, reading) | {
        "explained": explanation.what,
        "value": finite(explanation.value),
        "for": finite(above),
        "against": finite(below),
        "rest": finite(rest),
        "contributions": _listed(explanation.contributions),
        "layers": [{name: _listed(a) for name, a in layer._asdict().items()} for layer in explanation.layers],
    }
    near = explanation.neighbours
    if near is not None:
        rows = zip(
            near.indices.tolist(), near.distances.tolist(), near.labels or [None] * len(near.indices), strict=True
        )
        found["nearest"] = [{"index": i, "distance": finite(d), "label": label} for i, d, label in rows]
    return json.dumps(found)


def _listed(numbers: NDArray[Any]) -> list[Any]:
    return list(map(finite, numbers.tolist())) if numbers.ndim == 1 else list(map(_listed, numbers))
