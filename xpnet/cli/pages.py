"""A page of several digits, each in its box: in the terminal, and as a picture."""

import itertools
import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.cli.terminal import draw
from xpnet.errors import ConfigError
from xpnet.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["Box", "Mark", "check_format", "draw_page", "lines_of", "save_page"]

Box = tuple[int, int, int, int]

# The terminal's columns and lines that a page may take.
MOST_COLUMNS, MOST_LINES = 100, 40
SURE, UNSURE = (0, 90, 200), (220, 90, 0)


class Mark(NamedTuple):
    """A part of a page, and what it is.

    box : (top, bottom, left, right) in pixels of the page, bottom and right exclusive.
    name : what it is, text : in more words.   sure : whether that is so.
    """

    box: Box
    name: str
    text: str
    sure: bool = True


def lines_of(boxes: Sequence[Box]) -> Iterator[range]:
    """Which boxes, in the order of reading, stand in one line: a new one begins where the next stands further left."""
    begins = [i for i in range(len(boxes)) if i == 0 or boxes[i][2] < boxes[i - 1][2]]
    return itertools.starmap(range, itertools.pairwise([*begins, len(boxes)]))


def draw_page(page: NDArray[np.uint8], marks: Sequence[Mark], console: "Console") -> "Text":
    """A grey page as text, its ink light on dark, with a frame around each mark that begins with its name."""
    height, width = page.shape
    columns = max(min(console.width - 2, MOST_COLUMNS), 1)
    scale = min(1.0, columns / width, 2 * MOST_LINES / height)
    small = np.pad(_small(page, scale), ((2, 2), (1, 1)))  # room for frames at the edge
    lines = -(-len(small) // 2)
    corners = ("┌", "┐", "└", "┘", "─", "│") if console.encoding.startswith("utf") else ("+",) * 4 + ("-", "|")
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for mark in marks:
        top, bottom, left, right = (side * scale for side in mark.box)
        first, last = math.floor(left), min(math.ceil(right) + 1, small.shape[1] - 1)
        above, below = math.floor(top / 2), min(math.ceil(bottom / 2) + 1, lines - 1)
        style = "cyan" if mark.sure else "yellow"
        for x in range(first + 1, last):
            cells[above, x] = cells[below, x] = (corners[4], style)
        for y in range(above + 1, below):
            cells[y, first] = cells[y, last] = (corners[5], style)
        ends = ((above, first), (above, last), (below, first), (below, last))
        cells |= {end: (corner, style) for end, corner in zip(ends, corners, strict=False)}
        for x, character in zip(range(first + 1, last), mark.name, strict=False):
            cells[above, x] = (character, f"bold {style}")
    return draw(small, console, cells)


def _small(page: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """The page in another size, its paper black and its ink up to white."""
    from PIL import Image

    size = tuple(max(1, round(side * scale)) for side in reversed(page.shape))
    small = np.asarray(Image.fromarray(page).resize(size, Image.Resampling.BOX), np.float64)
    contrast = small - np.median(page)
    ink = np.maximum(contrast if contrast.max() > -contrast.min() else -contrast, 0.0)
    bright: NDArray[np.uint8] = (255 * ink / max(ink.max(), 1.0)).astype(np.uint8)
    return bright


def check_format(path: Path) -> None:
    """Raise ConfigError unless save_page can write a file of that name."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out must name a .png file, not {path.name!r}")


def save_page(path: Path, page: NDArray[np.uint8], marks: Sequence[Mark]) -> None:
    """Write a grey page with a frame and the text of each mark as a PNG picture.   Raises OSError."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(page).convert("RGB")
    pen, longest = ImageDraw.Draw(image), max(page.shape)
    size, line = max(10, longest // 40), max(1, longest // 400)
    font = ImageFont.load_default(size)
    for mark in marks:
        top, bottom, left, right = mark.box
        colour = SURE if mark.sure else UNSURE
        pen.rectangle((left - line, top - line, right + line - 1, bottom + line - 1), outline=colour, width=line)
        # A long text would run into those beside it.
        fits = len(marks) == 1 or pen.textlength(mark.text, font=font) <= 1.2 * (right - left)
        text = mark.text if fits else mark.name if mark.sure else f"{mark.name}?"
        # Above the frame, or in it at the edge of the page.
        pen.text((left, max(top - 2 * line, size)), text, fill=colour, font=font, anchor="lb")
    content = BytesIO()
    image.save(content, "PNG")
    write_atomically(path, content.getvalue())
