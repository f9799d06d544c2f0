"""xpnet data list, download and show."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import App, Parameter

from xpnet.backend import select
from xpnet.cli.datasets import DataDir, part_of
from xpnet.cli.settings import AMOUNTS, Amounts, chosen, indices, whole_numbers
from xpnet.cli.terminal import download_bar, draw, result_console
from xpnet.data import SETS, class_names, download, load_data, locate
from xpnet.data.sets import SetInfo
from xpnet.errors import ConfigError
from xpnet.numerics.augment import Distortion, distort
from xpnet.numerics.functional import scale_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["app"]

app = App(name="data", help="List, download and view data sets.")


@app.command(name="list")
def list_sets(*, data_dir: DataDir = None) -> None:
    """List the named data sets, and where they are on disk."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for info in SETS.values():
        counts = f"{info.n_train:,} training and {info.n_test:,} test images, {info.n_classes} classes"
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
    with download_bar() as bar:
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
    """Draw images in the terminal, each with its index and label."""
    distortion = chosen(None, {"augment": augment}).augment
    with download_bar() as bar:
        data = load_data(name, data_dir=data_dir, progress=bar)
    part = part_of(data, split)
    if part.images.ndim != 3:
        raise ConfigError(
            f"the images of {data.name} are rows of {data.n_features} values, not pictures: they cannot be drawn"
        )
    if count < 1:
        raise ConfigError(f"--count must be at least 1, not {count}")
    n = len(part)
    spans = index or [range(min(count, n))]
    if outside := [i for span in spans for i in (span[0], span[-1]) if not 0 <= i < n]:
        raise ConfigError(
            f"--index {outside[0]} is out of range: the {split} split of {data.name} has images 0 to {n - 1}"
        )
    from rich.table import Table

    console = result_console()
    names = class_names(data.name, data.classes)
    width = data.image_shape[1]
    across = max(1, (console.width + 2) // (width + 2))
    pictures: list[tuple[str, NDArray[Any]]] = []
    for i in chain.from_iterable(spans):
        label = (
            "" if part.labels is None else names[part.targets[i]] if data.task == "classification" else part.labels[i]
        )
        pictures.append((f"{i}: {label}" if label != "" else str(i), part.images[i]))
        if distortion is not None:  # as many as complete the line, or one below the image
            pictures += [("", copy) for copy in _distorted(part.images[i], distortion, i, max(across - 1, 1))]
    for start in range(0, len(pictures), across):
        group = pictures[start : start + across]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for title, _ in group:
            table.add_column(title, width=min(width, console.width), no_wrap=True)
        table.add_row(*(draw(image, console) for _, image in group))
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
        return "drawn on first use"
    place = locate(info.name, data_dir)
    return f"in {place}" if place else f"not on disk: xpnet data download {info.name}"
