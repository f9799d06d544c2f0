"""xpnet predict: images by index or from files, all at once or one by one at a prompt."""

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from xpnet.checks import check_range
from xpnet.cli.datasets import DataDir, DataName, DeviceName, LibraryName, SplitName, newest_run
from xpnet.cli.pages import check_format, save_page
from xpnet.cli.readings import (
    Reader,
    Reading,
    as_json,
    marked,
    print_csv,
    print_page,
    print_submission,
    short,
)
from xpnet.cli.settings import Indices, Pictures, Unsure, span_of
from xpnet.cli.terminal import ask_line, edit_lines, fill
from xpnet.errors import ConfigError, ModelError, XpnetError
from xpnet.model import UNSURE, load
from xpnet.platforms import split_line

__all__ = ["predict", "told_apart"]

SUBMISSION = "ImageId,Label"

HELP = """\
  17         image 17 of the split; 3 4 5 or 3-5 for several
  train 17   image 17 of another split, which stays selected
  7.png      the digit in a picture file, or all of several
  (nothing)  the next image
  r          a random image
  w          the next misclassified image
  h          this help
  q          quit"""


def predict(
    *names: Pictures,
    index: Indices = None,
    split: SplitName = "test",
    data: DataName = None,
    unsure: Unsure = UNSURE,
    show: Annotated[
        bool, Parameter(negative="", help="Draw each picture as the network sees it.", show_default=False)
    ] = False,
    json: Annotated[
        bool, Parameter(negative="", help="Print JSON; at the prompt, a line per image.", show_default=False)
    ] = False,
    csv: Annotated[
        bool,
        Parameter(negative="", help="Print CSV, for the complete split if no image is named.", show_default=False),
    ] = False,
    out: Annotated[
        Path | None,
        Parameter(help="Save the picture with a box around all that was found in it, as PNG.", metavar="FILE"),
    ] = None,
    header: Annotated[
        str | None,
        Parameter(
            help="Print CSV of these columns only, the image's id and its prediction, as competitions take it; by "
            f"default {SUBMISSION} for data without labels.",
            metavar="ID,LABEL",
        ),
    ] = None,
    device: DeviceName = "auto",
    library: LibraryName = None,
    data_dir: DataDir = None,
) -> int:
    """Classify images with a trained model; if none is named, ask for them.

    A photograph works best if the sheet with the digits fills it. The lines
    that the prompt takes can also be piped in; the exit code is 1 if one of
    them could not be answered.
    """
    csv = csv or header is not None
    if show + json + csv > 1:
        raise ConfigError("--show, --json and --csv exclude one another: choose one")
    check_range("--unsure", unsure, 0.0, 1.0, high_open=False)
    run, pictures = told_apart(names)
    if out is not None:
        check_format(out)
        if len(pictures) != 1 or index:
            raise ConfigError("--out draws on one picture: name one, and no --index")
    reader = Reader(load(run, device, library), data, data_dir, run, unsure)
    if not (pictures or index or csv):
        return _prompt(reader, split, json=json, show=show)
    whole = () if pictures or index else [range(len(reader.part(split)))]
    readings, pages = reader.at(split, index or whole), reader.in_files(pictures)
    if out is not None:
        pages = iter(found := list(pages))
        for page in found:  # none if it cannot be read
            save_page(out, *marked(reader, page))
            print(fill(f"saved {out}"), file=sys.stderr)
    every = chain(readings, chain.from_iterable(pages))
    if json:
        print("[" + ",".join(f"\n  {as_json(reader, reading)}" for reading in every) + "\n]")
    elif csv:
        columns = _columns(reader, header, whole=bool(whole))
        if columns:
            print_submission(reader, every, columns)
        else:
            print_csv(reader, every)
    else:
        for page in chain(([reading] for reading in readings), pages):
            print_page(reader, page, show=show)
    return int(reader.failed)


def _columns(reader: Reader, header: str | None, *, whole: bool) -> list[str]:
    """The columns of a submission; none for a CSV of everything that is known.   Raises ConfigError."""
    n = reader.model.network.sizes[-1] if reader.model.task == "regression" else 1
    if header is None:
        unlabelled = whole and reader.data.train.targets is None and n == 1
        return SUBMISSION.split(",") if unlabelled else []
    names = [name.strip() for name in header.split(",")]
    if len(names) != n + 1 or not all(names):
        example = SUBMISSION if n == 1 else ",".join(["Id", *(f"y{i}" for i in range(1, n + 1))])
        raise ConfigError(f"--header must name {n + 1} columns, such as {example}, not {short(header)!r}")
    return names


def told_apart(names: Sequence[Path]) -> tuple[Path, Sequence[Path]]:
    """The model and the pictures that were named.   Raises ConfigError or ModelError for what is neither."""
    for name in map(str, names):
        if not os.path.exists(name) and span_of(name):
            raise ConfigError(f"there is no file {short(name)}: did you mean --index {short(name)}?")
    if not names:
        return newest_run(), ()
    if names[0].is_dir() or names[0].suffix == ".safetensors":
        return names[0], names[1:]
    if not names[0].exists():
        raise ModelError(f"{names[0]}: no such file; name a run directory, a .safetensors file or a picture")
    return newest_run(), names


def _prompt(reader: Reader, split: str, *, json: bool, show: bool) -> int:
    """Answer each line of stdin; on a terminal prompt for it, and after Ctrl-C prompt again, as shells do."""
    questions = _Questions(reader, split)
    reader.split_flag = ""
    asking = bool(sys.stdin) and sys.stdin.isatty()
    if asking:
        _welcome(reader, split)
    while True:
        try:
            line = ask_line(f"{questions.choice()}, or q: ")
            if line.strip().lower() in ("q", "quit", "exit"):
                break
            for page in questions.answers(line.strip()):
                if json:
                    print(*(as_json(reader, reading) for reading in page), sep="\n")
                else:
                    print_page(reader, page, show=show or (asking and len(page) == 1))
        except XpnetError as error:
            reader.complain(error)
        except KeyboardInterrupt:
            if not asking:
                raise
            print(file=sys.stderr)
        except EOFError:
            if asking:
                print(file=sys.stderr)
            break
    return 0 if asking else int(reader.failed)


def _welcome(reader: Reader, split: str) -> None:
    """Prepare to prompt a person: the prompt names the indices, so the data is needed first."""
    reader.error_prefix = ""  # a dialogue needs no signature
    edit_lines()
    try:
        _ = reader.data
    except XpnetError as error:
        reader.complain(error)  # files can still be read
    else:
        reader.part(split)
    print(fill("type h for help; an empty line shows the next image"), file=sys.stderr)


class _Questions:
    """The lines of a prompt, and what one leaves to the next: the split, and the index of the last image."""

    def __init__(self, reader: Reader, split: str) -> None:
        self.reader, self.split, self.last = reader, split, -1
        self.wrong: dict[str, NDArray[np.intp]] = {}

    def choice(self) -> str:
        """The possible answers, without loading the data for them."""
        there = self.reader.range_of(self.split)
        return f"{self.split} {there}, a file" if there else "a file"

    def answers(self, line: str) -> Iterator[list[Reading]]:
        """The answers to a line, without blanks at its ends: what is found at each index or in each file.

        Raises ConfigError for a line that makes no sense.
        """
        first, _, rest = line.partition(" ")
        if first.lower() in ("test", "train", "validation"):
            self.reader.part(first.lower())
            self.split, self.last, line = first.lower(), -1, rest.strip()
            if not line:
                return
        if line.lower() in ("h", "?", "help"):
            print(HELP, file=sys.stderr)
        elif line.lower() in ("", "r", "w"):
            yield from self._at(range(i := self._index(line.lower()), i + 1))
        else:
            for word in _words(line):
                if span := span_of(word):
                    yield from self._at(span)
                elif path := _there(word):
                    yield from self.reader.in_files([path])
                else:
                    there = self.reader.range_of(self.split)
                    hint = f"type {there}, or h for help" if there else "type h for help"
                    raise ConfigError(f"{short(word)!r} is neither an index nor a file; {hint}")

    def _at(self, span: range) -> Iterator[list[Reading]]:
        readings = self.reader.at(self.split, [span])
        self.last = span[-1]
        return ([reading] for reading in readings)

    def _index(self, wish: str) -> int:
        """The next index, a random one, or that of the next misclassified image; after the last comes the first."""
        n = len(self.reader.part(self.split))
        if wish == "r":
            return int(np.random.default_rng().integers(n))
        if not wish:
            return (self.last + 1) % n
        if self.split not in self.wrong:
            self.wrong[self.split] = self.reader.misclassified(self.split)
        wrong = self.wrong[self.split]
        if not wrong.size:
            raise ConfigError(f"every image of the {self.split} split is classified correctly")
        return int(wrong[np.searchsorted(wrong, self.last, side="right") % wrong.size])


def _words(line: str) -> list[str]:
    """Indices and paths, at blanks and commas; a path may hold some, as it is, in quotes or behind backslashes."""
    if _there(line):
        return [line]
    try:
        words = split_line(line)
    except ValueError:  # an odd quote
        words = line.split()
    apart = ([word] if _there(word) else word.split(",") for word in words)
    return [word for part in apart for word in part if word] or [line]


def _there(word: str) -> str | None:
    """The path that a word names, if there is something; ~ is the user's folder."""
    try:
        path = os.path.expanduser(word)
        return path if os.path.exists(path) else None
    except ValueError:  # a null byte
        return None
