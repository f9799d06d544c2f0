"""Images as a trained model classifies them, and how the results are printed."""

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.cli.datasets import data_for, part_of
from xpnet.cli.pages import Box, Mark, draw_page, lines_of
from xpnet.cli.terminal import Bar, draw, draw_bars, fill, print_beside, result_console
from xpnet.data import Dataset, Split, read_page, shown_names
from xpnet.data.pictures.decoding import decode
from xpnet.display import plain
from xpnet.errors import ConfigError, DataError, XpnetError
from xpnet.model import UNSURE, Model, refuse_nan
from xpnet.numerics.functional import LOSSES, softmax

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "Reader",
    "Reading",
    "as_dict",
    "as_json",
    "finite",
    "heading_of",
    "marked",
    "print_csv",
    "print_page",
    "print_submission",
    "short",
    "value_of",
]

PICTURE = (28, 28)
# Images that are read and shown to the network at a time.
BLOCK = 1000
# As many classes have a bar; of more, the most probable ones.
MOST_BARS = 10
WIDE = ", may be more than one"


class Reading(NamedTuple):
    """An image, the network's outputs for it, and what they say.

    source : {"split": name, "index": i} or {"file": path}.   outputs : (n_outputs,).
    prediction, label : a class, the list of those that are so, a number or a list of numbers; label None if not known.
    box : where a file shows it, as in Found.   wide : whether the box may hold more than one.
    """

    source: dict[str, Any]
    image: NDArray[Any]
    outputs: NDArray[Any]
    prediction: Any
    label: Any = None
    box: Box | None = None
    wide: bool = False


class Reader:
    """A model and the data that it reads from, which is loaded when it is first needed.

    data, data_dir : as in data_for.   run : the path of the model.
    unsure : the probability below which a prediction is called so.
    failed : whether it reported an error.   error_prefix : the beginning of its messages.
    split_flag : with which another split is chosen; "" at the prompt, where its name is typed.
    """

    def __init__(
        self, model: Model, data: str | None, data_dir: Path | None, run: Path, unsure: float = UNSURE
    ) -> None:
        self.model, self.data_name, self.data_dir, self.run, self.unsure = model, data, data_dir, run, unsure
        self.parts: dict[str, Split] = {}
        self.names = shown_names(data or model.data, model.classes)
        self.has_probabilities = LOSSES[model.network.loss].output is softmax
        self.error_prefix, self.failed, self.split_flag = "xpnet: error: ", False, "--split"

    @cached_property
    def data(self) -> Dataset:
        """The data set.   Raises as data_for does, and tries again when it is next needed."""
        return data_for(self.model, self.data_name, self.data_dir, self.run)

    def part(self, split: str) -> Split:
        """A split of the data.   Raises as data does, and ConfigError if there is none."""
        if split not in self.parts:
            self.parts[split] = part_of(self.data, split, [self.run], flag=self.split_flag)
        return self.parts[split]

    def range_of(self, split: str) -> str | None:
        """The indices of a split in words; None while the data is not loaded."""
        return f"0 to {len(self.part(split)) - 1}" if "data" in vars(self) else None

    def at(self, split: str, spans: Sequence[range]) -> Iterator[Reading]:
        """Images of a split, by index.   Raises ConfigError, at once, for an index out of range."""
        if not spans:
            return iter(())
        part = self.part(split)
        if outside := [i for span in spans for i in (span[0], span[-1]) if not 0 <= i < len(part)]:
            index, there = short(str(outside[0])), f"{self.data.name} has indices {self.range_of(split)}"
            raise ConfigError(f"index {index} is out of range: the {split} split of {there}")
        rows = np.concatenate(list(map(np.asarray, spans)))
        blocks = (rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK))
        return chain.from_iterable(self._block(split, part[block], block) for block in blocks)

    def _block(self, split: str, part: Split, rows: NDArray[np.intp]) -> Iterator[Reading]:
        images, labels = part
        outputs = self.model.outputs(images)
        if self.model.task != "regression":
            refuse_nan(outputs, rows)
        sources = ({"split": split, "index": i} for i in rows.tolist())
        known = repeat(None) if labels is None else self.meant(self.model.targets(labels))
        return map(Reading, sources, images, outputs, self._predicted(outputs), known)

    def in_files(self, paths: Iterable[str | Path]) -> Iterator[list[Reading]]:
        """What is found in each picture file, in the order of reading; one that cannot be read is a line on stderr.

        Raises ConfigError if the model does not take pictures.
        """
        n_in, known, schema = self.model.network.sizes[0], self.model.image_shape, self.model.schema
        shape = (known[0], known[1]) if len(known) == 2 else PICTURE
        for path in paths:
            if n_in != math.prod(shape):
                raise ConfigError(f"the model takes {n_in} features, not pictures: use --index")
            try:
                found = read_page(path, schema.form, shape)
            except DataError as error:
                self.complain(error)
                continue
            outputs = self.model.outputs(self.features([each.image for each in found], from_file=True))
            rows = zip(found, outputs, self._predicted(outputs), strict=True)
            yield [
                Reading({"file": str(path)}, each.image, row, meant, box=each.box, wide=each.wide)
                for each, row, meant in rows
            ]

    def features(self, images: Sequence[NDArray[Any]], *, from_file: bool) -> NDArray[Any]:
        """Images of one kind as the model takes them."""
        # A file's bytes are white at 255, what the model knows may have been so at 16.
        white = np.float32(255) if from_file and self.model.schema.features.kind == "pixels" else None
        return np.stack(images) if white is None else np.stack(images) / white

    def misclassified(self, split: str) -> NDArray[np.intp]:
        """Indices of a split's misclassified images, in order.   Raises ConfigError where no image can be such."""
        images, labels = self.part(split)
        if labels is None or self.model.task != "classification":
            raise ConfigError(f"no image of the {split} split has a class, so that none is misclassified")
        return np.flatnonzero(self.model.outputs(images).argmax(axis=1) != self.model.targets(labels))

    def id_of(self, reading: Reading) -> Any:
        """What an image is called in a competition: its file, as its data calls it, or its number from 1 on."""
        if "file" in reading.source:
            return reading.source["file"]
        ids, index = self.part(reading.source["split"]).ids, reading.source["index"]
        return index + 1 if ids is None else ids[index]

    def called(self, meant: Any) -> str:
        """A prediction or a label in words."""
        if self.model.task == "classification":
            return self.names[self.model.classes.index(meant)]
        if self.model.task == "multilabel":
            return ", ".join(self.names[self.model.classes.index(each)] for each in meant) or "none"
        several = isinstance(meant, list)
        names = [f"{name} " for name in self.names] or [""] * len(self.model.params[-1])
        numbers = zip(names, meant, strict=True) if several else [("", meant)]
        return ", ".join(f"{name}{plain(math.nan if number is None else number)}" for name, number in numbers)

    def is_right(self, reading: Reading) -> bool | None:
        """Whether the prediction is the label; None where it is not known, and for numbers, which are near or far."""
        known = reading.label is not None and self.model.task != "regression"
        return reading.prediction == reading.label if known else None

    def is_unsure(self, reading: Reading) -> bool:
        """Whether the prediction is less probable than it must be."""
        return self.has_probabilities and not reading.outputs.max() >= self.unsure

    def _predicted(self, outputs: NDArray[Any]) -> list[Any]:
        """What outputs say, one by one, in the form of Reading.prediction."""
        task = self.model.task
        return self.meant(outputs.argmax(axis=1) if task == "classification" else outputs)

    def meant(self, targets: NDArray[Any]) -> list[Any]:
        """What targets, or outputs that are like them, stand for."""
        classes = self.model.classes
        if self.model.task == "classification":
            return [classes[k] for k in targets.tolist()]
        if self.model.task == "multilabel":
            return [[classes[k] for k in np.flatnonzero(row > 0.5).tolist()] for row in targets]
        numbers = [list(map(finite, row)) for row in targets.tolist()]
        return [row[0] if len(row) == 1 else row for row in numbers]

    def complain(self, error: XpnetError) -> None:
        """Report an error on stderr."""
        self.failed = True
        print(fill(f"{self.error_prefix}{error}"), file=sys.stderr)


def as_json(reader: Reader, reading: Reading) -> str:
    """A reading as a JSON object, on one line."""
    return json.dumps(as_dict(reader, reading))


def as_dict(reader: Reader, reading: Reading) -> dict[str, Any]:
    """A reading as JSON has it; an output that is not a number is None."""
    found = {"source": reading.source, "label": reading.label, "prediction": reading.prediction}
    if reader.model.task == "classification":
        found["class"] = reader.called(reading.prediction)
    if reader.has_probabilities:
        found["unsure"] = reader.is_unsure(reading)
    if reader.model.task != "regression":
        probable = reader.has_probabilities or reader.model.task == "multilabel"
        found["probabilities" if probable else "outputs"] = list(map(finite, reading.outputs.tolist()))
    if reading.box is not None:
        sides = zip(("top", "bottom", "left", "right"), reading.box, strict=True)
        found |= {"box": dict(sides), "wide": reading.wide}
    return found


def print_csv(reader: Reader, readings: Iterator[Reading]) -> None:
    """Print readings as CSV: an index or a file, the label, if known, and the prediction; with its probability, if any.

    Several classes are separated by blanks, several numbers have a column each.
    """
    begun = list(islice(readings, 1))  # may raise what leaves nothing to print
    writer = csv.writer(sys.stdout, lineterminator="\n")
    task, n = reader.model.task, reader.model.network.sizes[-1]
    numbered = task == "regression" and n > 1
    ends = [f" {name}" for name in reader.names or range(n)] if numbered else [""]
    extra = []
    if task == "classification":
        extra = ["probability" if reader.has_probabilities else "output"]
    heads = [*(f"label{end}" for end in ends), *(f"prediction{end}" for end in ends), *extra]
    writer.writerow(["index", *heads, "right", "file", *["unsure"][: reader.has_probabilities]])
    for reading in chain(begun, readings):
        cells = [cell for meant in (reading.label, reading.prediction) for cell in _cells(meant, len(ends))]
        if extra:
            cells.append(f"{reading.outputs.max():.6g}")
        right = reader.is_right(reading)
        index, file = reading.source.get("index"), reading.source.get("file")
        unsure = [str(reader.is_unsure(reading)).lower()][: reader.has_probabilities]
        writer.writerow([index, *cells, None if right is None else str(right).lower(), file, *unsure])


def print_submission(reader: Reader, readings: Iterator[Reading], header: Sequence[str]) -> None:
    """Print readings as a CSV for a competition: what each image is called there, and what is predicted.

    header : names of the columns.
    """
    begun = list(islice(readings, 1))
    writer, n = csv.writer(sys.stdout, lineterminator="\n"), len(header) - 1
    writer.writerow(header)
    for reading in chain(begun, readings):
        writer.writerow([reader.id_of(reading), *_cells(reading.prediction, n)])


def _cells(meant: Any, n: int) -> list[Any]:
    """What a reading means, in n cells of a CSV."""
    if not isinstance(meant, list):
        return [meant] * (1 if meant is not None else n)
    return meant if n > 1 else [" ".join(map(str, meant))]


def _print_reading(reader: Reader, reading: Reading, *, show: bool) -> None:
    """Print a prediction, a bar for each class, and an empty line; draw the image of an index, a file's with show."""
    console, bars = result_console(), _bars(reader, reading)
    console.print(heading_of(reader, reading), soft_wrap=True)
    drawn = reading.image.ndim == 2 and (show or "file" not in reading.source)
    if drawn and bars:
        print_beside(draw(reading.image, console), bars, console)
    elif drawn:
        console.print(draw(reading.image, console))
    elif bars:
        console.print(draw_bars(bars, console, console.width))
    console.print()


def print_page(reader: Reader, page: Sequence[Reading], *, show: bool) -> None:
    """Print what was found at an index or in a picture file: one image with its bars, several in their places.

    show : whether the images of a file are drawn as the network sees them.
    """
    if len(page) == 1 or reader.model.task != "classification":
        for reading in page:
            _print_reading(reader, reading, show=show)
        return
    from rich.text import Text

    console, (grey, marks) = result_console(), marked(reader, page)
    lines = " / ".join(" ".join(marks[i].name for i in line) for line in lines_of([mark.box for mark in marks]))
    console.print(Text.assemble(f"{page[0].source['file']}: ", (lines, "bold")), soft_wrap=True)
    console.print(draw_page(grey, marks, console))
    if show:
        console.print()
        for reading in page:
            _print_reading(reader, reading, show=True)
        return
    bars = [
        Bar(mark.name, float(reading.outputs.max()), _comment(reader, reading), "cyan" if mark.sure else "yellow")
        for mark, reading in zip(marks, page, strict=True)
    ]
    console.print(draw_bars(bars, console, console.width))
    console.print()


def marked(reader: Reader, page: Sequence[Reading]) -> tuple[NDArray[np.uint8], list[Mark]]:
    """A picture file in grey, and a mark for each image that was found in it."""
    grey, (height, _), _ = decode(page[0].source["file"], luminance=True)
    scale, marks = grey.shape[0] / height, []
    for reading in page:
        assert reading.box is not None
        top, bottom, left, right = (round(side * scale) for side in reading.box)
        name, sure = reader.called(reading.prediction), not (reading.wide or reader.is_unsure(reading))
        text = f"{name} {100 * reading.outputs.max():.0f} %" if reader.has_probabilities else name
        marks.append(Mark((top, bottom, left, right), name, text, sure))
    return grey, marks


def _comment(reader: Reader, reading: Reading) -> str:
    """How probable a prediction is, and what is to be doubted."""
    unsure = ", unsure" * reader.is_unsure(reading)
    return value_of(reader, reading.outputs.max()).strip() + unsure + WIDE * reading.wide


def short(text: str) -> str:
    """A user's text, short enough to be quoted in an answer of one line."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def heading_of(reader: Reader, reading: Reading) -> "Text":
    """What was read, how sure that is, and whether it is right, in a line."""
    from rich.text import Text

    right, source = reader.is_right(reading), " ".join(map(str, reading.source.values()))
    heading = Text(f"{source}: ")
    if reader.is_unsure(reading):
        heading.append("unsure", "yellow").append(", perhaps ")
    heading.append(reader.called(reading.prediction), "bold")
    if reader.model.task == "classification":
        value = ("" if reader.has_probabilities else "output ") + value_of(reader, reading.outputs.max()).strip()
        heading.append(f" ({value})")
    if right:
        heading.append(", ").append("right", "green")
    elif reading.label is not None:
        wrong = right is not None
        heading.append(", ")
        heading.append(f"{'WRONG: ' * wrong}it is {reader.called(reading.label)}", "bold red" if wrong else "")
    return heading.append(WIDE * reading.wide, "yellow")


def _bars(reader: Reader, reading: Reading) -> list[Bar]:
    """A bar for each class, in the colour of its part; none for numbers."""
    if reader.model.task == "regression":
        return []
    outputs, many = reading.outputs, len(reading.outputs) > MOST_BARS
    order = np.argsort(-outputs, kind="stable")[:MOST_BARS] if many else np.arange(len(outputs))
    bars = []
    for i in order.tolist():
        name = reader.model.classes[i]
        predicted, so = _is_part(name, reading.prediction), _is_part(name, reading.label)
        colour = "green" if so else "" if not predicted else "cyan" if reading.label is None else "red"
        bars.append(Bar(reader.names[i], float(outputs[i]), value_of(reader, outputs[i]), colour, marked=predicted))
    return bars


def _is_part(name: Any, meant: Any) -> bool:
    return name in meant if isinstance(meant, list) else meant is not None and name == meant


def finite(y: float) -> float | None:
    """A number as JSON has it."""
    return y if math.isfinite(y) else None


def value_of(reader: Reader, output: float) -> str:
    """An output of a class in words, in % where it is a probability."""
    if reader.has_probabilities or reader.model.task == "multilabel":
        return f"{100 * output:.1f} %"
    return f"{output:.3f}" if abs(output) < 1000 else f"{output:.2e}"
