"""xpnet data list, download, show and split."""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import App, Parameter

from xpnet.backend import select
from xpnet.backend.arrays import to_numpy
from xpnet.cli.datasets import DataDir, part_of
from xpnet.cli.settings import AMOUNTS, Amounts, chosen, indices, whole_numbers
from xpnet.cli.terminal import draw, loading, result_console, working
from xpnet.data import SETS, Split, download, load_data, locate, rows_of, shown_names, write_parts
from xpnet.data.sets import SetInfo
from xpnet.display import plain
from xpnet.errors import ConfigError, one_line
from xpnet.numerics.augment import Distortion, distort
from xpnet.numerics.functional import scale_features
from xpnet.numerics.shards import bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

__all__ = ["app"]

app = App(name="data", help="List, download, view and split data sets.")


@app.command(name="list")
def list_sets(*, data_dir: DataDir = None) -> None:
    """List the named data sets, and where they are on disk."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for info in SETS.values():
        counts = f"{info.n_train:,} training and {info.n_test:,} test {info.examples}, {info.n_classes} classes"
        for name, line in (
            (info.name, info.title),
            ("", counts),
            ("", f"licence: {info.licence}"),
            ("", _whereabouts(info, data_dir)),
        ):
            table.add_row(name, line)
        table.add_section()
    result_console().print(table)


@app.command(name="download")
def download_set(name: Annotated[str, Parameter(help="Name of a data set.")], /, *, data_dir: DataDir = None) -> None:
    """Download a data set, or its missing files, and verify the checksums."""
    with loading() as bar:
        place = download(name, data_dir=data_dir, progress=bar)
    print(f"{name} is in {place}")


@app.command
def show(
    name: Annotated[str, Parameter(help="Name or path of a data set.")] = "auto",
    /,
    *,
    split: Annotated[Literal["train", "test", "validation"], Parameter(help="Split to show.")] = "train",
    index: Annotated[
        list[range] | None,
        Parameter(
            converter=indices,
            help="Images to show, by index: 3 5, or 0-9,20; by default the first ones.",
            consume_multiple=(1, None),
            negative="",
            metavar="N...",
        ),
    ] = None,
    count: Annotated[
        int, Parameter(converter=whole_numbers, help="Number of images, if no --index is given.", metavar="N")
    ] = 10,
    augment: Annotated[Amounts, Parameter(help=f"Draw distorted copies beside each image. {AMOUNTS}")] = None,
    data_dir: DataDir = None,
) -> None:
    """Draw images in the terminal, each with its index and label.

    Of a table, its rows are printed; points of two features are drawn.
    """
    distortion = chosen(None, {"augment": augment}).augment
    with loading() as bar:
        data = load_data(name, data_dir=data_dir, progress=bar)
    part = part_of(data, split, flag="--split")
    are_pictures = len(data.image_shape) == 2
    if distortion is not None and not are_pictures:
        raise ConfigError(f"the examples of {data.name} are rows of features, which --augment cannot distort")
    if count < 1:
        raise ConfigError(f"--count must be at least 1, not {count}")
    n = len(part)
    spans = index or [range(min(count, n))]
    if outside := [i for span in spans for i in (span[0], span[-1]) if not 0 <= i < n]:
        raise ConfigError(
            f"--index {outside[0]} is out of range: the {split} split of {data.name} has indices 0 to {n - 1}"
        )
    from rich.table import Table

    console = result_console()
    names = shown_names(data.name, data.classes)

    def label_of(i: int) -> str:
        if part.labels is None:
            return ""
        return names[part.targets[i]] if data.task == "classification" else one_line(str(part.labels[i]))

    if not are_pictures:
        if data.n_features == 2 and data.task == "classification":
            _print_points(part, names, console)
        _print_rows(part, [*chain.from_iterable(spans)], data.columns, label_of, console)
        return
    width = data.image_shape[1]
    across = max(1, (console.width + 2) // (width + 2))
    pictures: list[tuple[str, NDArray[Any]]] = []
    for i in chain.from_iterable(spans):
        label = label_of(i)
        pictures.append((f"{i}: {label}" if label else str(i), part.images[i]))
        if distortion is not None:  # as many as complete the line, or one below the image
            pictures += [("", copy) for copy in _distorted(part.images[i], distortion, i, max(across - 1, 1))]
    for start in range(0, len(pictures), across):
        group = pictures[start : start + across]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for title, _ in group:
            table.add_column(title, width=min(width, console.width), no_wrap=True)
        table.add_row(*(draw(image, console) for _, image in group))
        console.print(table)


@app.command(name="split")
def split_set(
    name: Annotated[str, Parameter(help="Name or path of a data set of images.")],
    folder: Annotated[Path, Parameter(help="Folder to write, which --data then takes.")],
    /,
    *,
    parts: Annotated[
        int,
        Parameter(converter=whole_numbers, help="Parts of the training split; others are as long.", metavar="N"),
    ] = 16,
    data_dir: DataDir = None,
) -> None:
    """Write a data set in parts, which stay on the disk while it is used.

    Each part is a pair of IDX files, and a manifest has their SHA-256 sums:
    each is checked when it is first read. For sets of any size, and to be
    trained on by many processes, each of which reads its own examples only.
    """
    with loading() as bar:
        data = load_data(name, data_dir=data_dir, progress=bar)
    if data.task != "classification":
        raise ConfigError(f"{data.name} is for {data.task}: only sets of images and their classes are written in parts")
    found = {"train": data.train, "test": data.test, "validation": data.validation}
    splits = {part: split for part, split in found.items() if split is not None}
    if not 1 <= parts <= len(data):
        raise ConfigError(f"--parts must be 1 to {len(data)}, not {parts}")
    length = math.ceil(len(data) / parts)
    counts = {part: parts if part == "train" else math.ceil(len(split) / length) for part, split in splits.items()}

    def examples(part: str, i: int) -> "tuple[NDArray[Any], NDArray[Any]]":
        rows = np.arange(*bounds(len(splits[part]), counts[part], i))
        return to_numpy(rows_of(splits[part].images, rows)), rows_of(splits[part].targets, rows)

    numbered = data.classes == tuple(range(data.n_classes))
    with working("writing") as bar:
        write_parts(
            folder, examples, **counts, classes=data.n_classes if numbered else [*map(str, data.classes)], progress=bar
        )
    shown = " and ".join(f"{count} part{'s'[: count > 1]} of {part}" for part, count in counts.items())
    print(f"{data.name} is in {folder}: {shown}")


def _print_points(part: Split, names: Sequence[str], console: "Console") -> None:
    """Draw points of two features (n, 2) as the number of the class that most of a place's points have."""
    from rich.text import Text

    across, down = min(console.width, 72), 24
    points = np.asarray(part.images, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = ((points - low) / np.where(high > low, high - low, 1.0) * (across - 1, down - 1)).round().astype(np.intp).T
    counts = np.zeros((down, across, len(names)), np.intp)
    np.add.at(counts, (down - 1 - y, x, part.targets), 1)
    text = Text(no_wrap=True)
    for line in counts:
        for place in line:
            i = int(place.argmax())
            text.append(str(i % 10), f"color({i % 6 + 1})") if place.any() else text.append(" ")
        text.append("\n")
    text.append(", ".join(f"{i} {name}" if name != str(i) else name for i, name in enumerate(names)) + "\n")
    console.print(text, soft_wrap=True)


def _print_rows(
    part: Split, rows: Sequence[int], columns: Sequence[str], label_of: Callable[[int], str], console: "Console"
) -> None:
    """Print rows of features, each with its index and label, and as many columns as are legible."""
    from rich.table import Table

    k = part.images.shape[1]
    shown = min(k, max(1, (console.width - 30) // 14))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("index", *(map(one_line, columns[:shown]) if columns else map(str, range(shown)))):
        table.add_column(heading, justify="right", no_wrap=True, max_width=12)
    table.add_column("" if shown == k else f"... {k - shown} more", no_wrap=True)
    table.add_column("" if part.labels is None else "label")
    for i in rows:
        table.add_row(str(i), *map(plain, part.images[i][:shown]), "", label_of(i))
    console.print(table)


def _distorted(image: "NDArray[Any]", distortion: Distortion, step: int, n: int) -> "NDArray[Any]":
    """n distorted copies of an image (height, width): (n, height, width) float32."""
    xp = select("cpu").xp
    scale = 255.0 if image.dtype == np.uint8 else None
    pixels = scale_features(np.broadcast_to(image.reshape(1, -1), (n, image.size)), np.float32, scale=scale, xp=xp)
    copies = distort(pixels, image.shape, distortion, np.array([step]), xp=xp)
    return copies.reshape(n, *image.shape)  # type: ignore[no-any-return]


def _whereabouts(info: SetInfo, data_dir: Path | None) -> str:
    if not info.files:
        return "drawn by xpnet when it is used"
    place = locate(info.name, data_dir)
    return f"in {place}" if place else f"not on disk: xpnet data download {info.name}"
