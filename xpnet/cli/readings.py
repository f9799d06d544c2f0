"""Images as a trained model classifies them, and how the results are printed."""

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.cli.datasets import data_for, part_of
from xpnet.cli.terminal import Bar, class_names, draw, draw_bars, print_beside, result_console
from xpnet.data import Dataset, Split, read_picture, rows_of
from xpnet.errors import ConfigError, DataError, XpnetError
from xpnet.model import Model
from xpnet.numerics.functional import LOSSES, softmax

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Reader", "Reading", "as_json", "print_csv", "print_reading", "short"]

PICTURE = (28, 28)
# Images that are read and shown to the network at a time.
BLOCK = 1000
# As many classes have a bar; of more, the most probable ones.
MOST_BARS = 10


class Reading(NamedTuple):
    """An image and the network's outputs for it.

    source : {"split": name, "index": i} or {"file": path}.   outputs : (n_classes,).   label : None for a file's.
    """

    source: dict[str, Any]
    image: NDArray[Any]
    outputs: NDArray[Any]
    label: int | None = None

    @property
    def prediction(self) -> int:
        """The class of the largest output."""
        return int(np.argmax(self.outputs))


class Reader:
    """A model and the data that it reads from, which is loaded when it is first needed.

    data, data_dir : as in data_for.   run : the path of the model.
    failed : whether it reported an error.   error_prefix : the beginning of its messages.
    """

    def __init__(self, model: Model, data: str | None, data_dir: Path | None, run: Path) -> None:
        self.model, self.data_name, self.data_dir, self.run = model, data, data_dir, run
        self.parts: dict[str, Split] = {}
        self.names = class_names(data or model.data, model.network.sizes[-1])
        self.has_probabilities = LOSSES[model.network.loss].output is softmax
        self.error_prefix, self.failed = "xpnet: error: ", False

    @cached_property
    def data(self) -> Dataset:
        """The data set.   Raises as data_for does, and tries again when it is next needed."""
        return data_for(self.model, self.data_name, self.data_dir)

    def part(self, split: str) -> Split:
        """A split of the data.   Raises as data does, and ConfigError if there is none."""
        if split not in self.parts:
            self.parts[split] = part_of(self.data, split, [self.run])
        return self.parts[split]

    def range_of(self, split: str) -> str | None:
        """The indices of a split in words; None while the data is not loaded."""
        return f"0 to {len(self.part(split).labels) - 1}" if "data" in vars(self) else None

    def at(self, split: str, spans: Sequence[range]) -> Iterator[Reading]:
        """Images of a split, by index.   Raises ConfigError, at once, for an index out of range."""
        if not spans:
            return iter(())
        images, labels = self.part(split)
        if outside := [i for span in spans for i in (span[0], span[-1]) if not 0 <= i < len(labels)]:
            index, there = short(str(outside[0])), f"{self.data.name} has images {self.range_of(split)}"
            raise ConfigError(f"index {index} is out of range: the {split} split of {there}")
        rows = np.concatenate(list(map(np.asarray, spans)))
        blocks = (rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK))
        return chain.from_iterable(self._block(split, images, labels, block) for block in blocks)

    def _block(
        self, split: str, images: NDArray[Any], labels: NDArray[np.int32], rows: NDArray[np.intp]
    ) -> Iterator[Reading]:
        taken = rows_of(images, rows)
        sources = ({"split": split, "index": i} for i in rows.tolist())
        return map(Reading, sources, taken, self.model.outputs(taken), labels[rows].tolist())

    def in_files(self, paths: Iterable[str | Path]) -> Iterator[Reading]:
        """The images in picture files, without those that cannot be read, each of which is a line on stderr.

        Raises ConfigError if the model does not take such images.
        """
        n_in, shape = self.model.network.sizes[0], self.model.image_shape
        for path in paths:
            if n_in != math.prod(PICTURE) or (len(shape) > 1 and shape != PICTURE):
                takes = "x".join(map(str, shape)) or f"{n_in} pixels"
                raise ConfigError(f"pictures become images of 28x28, but the model takes {takes}: use --index")
            try:
                image = read_picture(path)
            except DataError as error:
                self.complain(error)
            else:
                yield Reading({"file": str(path)}, image, self.model.outputs(image[None])[0])

    def misclassified(self, split: str) -> NDArray[np.intp]:
        """Indices of a split's misclassified images, in order."""
        images, labels = self.part(split)
        return np.flatnonzero(self.model.predict(images) != labels)

    def complain(self, error: XpnetError) -> None:
        """Report an error on stderr."""
        self.failed = True
        print(f"{self.error_prefix}{error}", file=sys.stderr)


def as_json(reader: Reader, reading: Reading) -> str:
    """A reading as a JSON object, on one line; an output that is not a number is null."""
    found = {
        "source": reading.source,
        "label": reading.label,
        "prediction": reading.prediction,
        "class": reader.names[reading.prediction],
        "probabilities" if reader.has_probabilities else "outputs": [
            float(y) if math.isfinite(y) else None for y in reading.outputs
        ],
    }
    return json.dumps(found)


def print_csv(reader: Reader, readings: Iterator[Reading]) -> None:
    """Print readings as CSV: an index or a file, the label, if known, and the predicted class, by number."""
    begun = list(islice(readings, 1))  # may raise what leaves nothing to print
    writer = csv.writer(sys.stdout, lineterminator="\n")
    value = "probability" if reader.has_probabilities else "output"
    writer.writerow(["index", "label", "prediction", value, "right", "file"])
    for reading in chain(begun, readings):
        source, label, k = reading.source, reading.label, reading.prediction
        right = None if label is None else str(label == k).lower()
        writer.writerow([source.get("index"), label, k, f"{reading.outputs[k]:.6g}", right, source.get("file")])


def print_reading(reader: Reader, reading: Reading, *, show: bool) -> None:
    """Print a prediction, a bar for each class, and an empty line; draw the image of an index, a file's with show."""
    console, bars = result_console(), _bars(reader, reading)
    console.print(_heading(reader, reading), soft_wrap=True)
    if reading.image.ndim == 2 and (show or reading.label is not None):
        print_beside(draw(reading.image, console), bars, console)
    else:
        console.print(draw_bars(bars, console, console.width))
    console.print()


def short(text: str) -> str:
    """A user's text, short enough to be quoted in an answer of one line."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def _heading(reader: Reader, reading: Reading) -> "Text":
    from rich.text import Text

    k, label = reading.prediction, reading.label
    source = " ".join(map(str, reading.source.values()))
    value = ("" if reader.has_probabilities else "output ") + _value(reader, reading.outputs[k]).strip()
    heading = Text.assemble(f"{source}: ", (reader.names[k], "bold"), f" ({value})")
    if label == k:
        heading.append(", ").append("right", "green")
    elif label is not None:
        heading.append(", ").append(f"WRONG: it is {reader.names[label]}", "bold red")
    return heading


def _bars(reader: Reader, reading: Reading) -> list[Bar]:
    outputs, k, label = reading.outputs, reading.prediction, reading.label
    many = len(outputs) > MOST_BARS
    order = np.argsort(-outputs, kind="stable")[:MOST_BARS] if many else np.arange(len(outputs))
    colours = {label: "green", k: "cyan" if label is None else "green" if label == k else "red"}
    return [
        Bar(reader.names[i], float(outputs[i]), _value(reader, outputs[i]), colours.get(i, ""), marked=i == k)
        for i in order.tolist()
    ]


def _value(reader: Reader, output: float) -> str:
    if reader.has_probabilities:
        return f"{100 * output:.1f} %"
    return f"{output:.3f}" if abs(output) < 1000 else f"{output:.2e}"
