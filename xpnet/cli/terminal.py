"""The terminal, for all commands: consoles, the bar while data are loaded, images and bars, a prompt for a line."""

import io
import math
import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from xpnet.display import duration
from xpnet.platforms import line_editor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.text import Text

    from xpnet.backend import Backend

__all__ = [
    "SIGNS",
    "Bar",
    "ask_line",
    "cut",
    "device_line",
    "draw",
    "draw_bars",
    "draw_map",
    "edit_lines",
    "fill",
    "in_colour",
    "loading",
    "prepare_streams",
    "print_beside",
    "print_flow",
    "print_header",
    "print_table",
    "result_console",
    "say",
    "table_width",
    "working",
]

SHADES = " .:-=+*#%@"
# Strongly against, against, neither, for, strongly for.
SIGNS = "=- +#"
EIGHTHS = ("", *"▏▎▍▌▋▊▉")
# What is for and what is against, as in xpnet.plots.
FOR, AGAINST = (240, 80, 60), (80, 150, 255)
# Columns that bars need beside an image, and those between two blocks.
BESIDE, GAP = 32, 2
# Seconds of loading data after which the bar appears on a terminal, and elsewhere each further line.
PATIENCE, EVERY = 2.0, 10.0


def device_line(backend: "Backend") -> str:
    """The device in a header: "cpu, numpy 2.4.6, 2 CPU threads (as asked)"."""
    return f"{backend.device}, {backend.name} {backend.version}, {backend.description} ({backend.reason})"


def fill(text: str, indent: int = 0) -> str:
    """A text for stderr in lines as wide as the terminal, the later ones indented; as it is where there is none."""
    if not (sys.stderr and sys.stderr.isatty()):
        return text
    columns = shutil.get_terminal_size().columns  # of stdout, or as COLUMNS says
    if "COLUMNS" not in os.environ:
        with suppress(OSError, ValueError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
    return _in_lines(text, columns or 80, indent)


def _in_lines(text: str, width: int, indent: int) -> str:
    """Lines of so many columns, the later ones indented; blanks that do not break are \\xa0, or before a %."""
    # Whole words only, so that a path can be copied; one that is longer than a line with its indent has none.
    wrap = textwrap.TextWrapper(width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    lines = chain.from_iterable(wrap.wrap(line) or [""] for line in text.replace(" %", "\xa0%").splitlines())
    return "\n".join(line if len(line) <= width else line.lstrip() for line in lines).replace("\xa0", " ")


def print_header(rows: dict[str, str]) -> None:
    """Print a run's header on stderr, a row for each text that is not empty, as wide as the terminal."""
    for name, text in rows.items():
        if text:
            print(fill(f"{name:<9}{text}", 9), file=sys.stderr)


class _WithoutTrailingBlanks:
    """A text stream that drops the blanks with which rich fills lines up, which a terminal does not show."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(r" +(?=\n)", "", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def result_console() -> "Console":
    """A console on stdout that colours nothing by itself."""
    from rich.console import Console

    file: Any = sys.stdout if sys.stdout.isatty() else _WithoutTrailingBlanks(sys.stdout)
    return Console(file=file, highlight=False, markup=False, emoji=False)


def draw(
    image: "NDArray[Any]", console: "Console", marks: Mapping[tuple[int, int], tuple[str, str]] | None = None
) -> "Text":
    """An image as text, two rows of pixels to a line: half blocks in grey on a terminal with colours, shades elsewhere.

    image : (height, width), uint8 or float in [0, 1]; one that is wider than the console is thinned out.
    marks : characters and their styles that take the place of pixels, by line and column.
    """
    grey = image if image.dtype.kind == "u" else (255 * image.clip(0, 1)).astype("uint8")
    stride = -(-grey.shape[1] // console.width)
    grey = grey[::stride, ::stride].astype(int)
    shades = _halves(grey).sum(axis=1) * len(SHADES) // 512
    return _drawn(grey[..., None].repeat(3, axis=2), shades, SHADES, console, marks or {})


def draw_map(image: "NDArray[Any]", contributions: "NDArray[Any]", console: "Console") -> "Text":
    """What the pixels are for and against: red and blue on the dimmed image, or SIGNS where there are no colours.

    image : (height, width) numbers.   contributions : (height, width) floats.
    """
    import numpy as np

    stride = -(-image.shape[1] // console.width)
    image, contributions = image[::stride, ::stride], contributions[::stride, ::stride]
    contributions = np.nan_to_num(contributions, posinf=0.0, neginf=0.0)
    share = contributions / (abs(contributions).max() or 1.0)
    grey = 70.0 * (image - image.min()) / (np.ptp(image) or 1.0)
    strength = np.sqrt(abs(share))[..., None]  # the eye sees the weak ones, too
    colour = np.where(share[..., None] > 0, FOR, AGAINST)
    both = _halves(share).sum(axis=1)
    signs = 2 + np.sign(both) * (1.0 * (abs(both) > 0.1) + (abs(both) > 0.6))
    return _drawn((grey[..., None] * (1 - strength) + colour * strength).astype(int), signs.astype(int), SIGNS, console)


def in_colour(console: "Console") -> bool:
    """Whether pictures are drawn in half blocks with colours there."""
    coloured = console.color_system in ("256", "truecolor") and not console.no_color
    return coloured and console.encoding.startswith("utf")


def _halves(rows: "NDArray[Any]") -> "NDArray[Any]":
    """(height, width) as (lines, 2, width): the upper and the lower pixels of each line of text."""
    import numpy as np

    return np.pad(rows, ((0, len(rows) % 2), (0, 0))).reshape(-1, 2, rows.shape[1])


def _drawn(
    colours: "NDArray[Any]",
    shades: "NDArray[Any]",
    characters: str,
    console: "Console",
    marks: Mapping[tuple[int, int], tuple[str, str]] = MappingProxyType({}),
) -> "Text":
    """Pixels as text.   colours : (height, width, 3) in 0..255.   shades : (lines, width) indices of the characters."""
    from rich.style import Style
    from rich.text import Text

    coloured = in_colour(console)
    channels = [_halves(colours[..., i]) for i in range(3)]
    text = Text(no_wrap=True)
    for y, line in enumerate(shades):
        for x, shade in enumerate(line):
            if (y, x) in marks:
                text.append(*marks[y, x])
            elif coloured:
                upper, lower = (",".join(str(channel[y, half, x]) for channel in channels) for half in (0, 1))
                text.append("▀", Style(color=f"rgb({upper})", bgcolor=f"rgb({lower})"))
            else:
                text.append(characters[shade])
        text.append("\n")
    text.right_crop(1)
    return text


class Bar(NamedTuple):
    """A bar and its words.

    name : before it.   share : its length, in [0, 1]; one beyond is clipped, one that is not a number is empty.
    text : behind it.   style : of all that, in rich's words.   marked : whether a mark stands before it.
    """

    name: str
    share: float
    text: str
    style: str = ""
    marked: bool = False


def draw_bars(bars: Sequence[Bar], console: "Console", width: int) -> "Text":
    """Bars as text, a line each, to an eighth of a column where the console shows blocks, in # elsewhere.

    bars : at least one.   width : columns of a line; those of a bar are 4 to 40, and names are cut for them.
    """
    from rich.cells import cell_len
    from rich.text import Text

    blocks = console.encoding.startswith("utf") and not console.is_dumb_terminal
    texts = max(len(bar.text) for bar in bars)
    room = max(width - texts - 8, 12)
    shown = [cut(bar.name, room, "…" if blocks else "~") for bar in bars]
    names = max(map(cell_len, shown))
    length = min(max(width - names - texts - 4, 4), 40)
    lines = []
    for bar, name in zip(bars, shown, strict=True):
        share = 0.0 if math.isnan(bar.share) else min(max(bar.share, 0.0), 1.0)
        whole, eighths = divmod(round(8 * length * share), 8)
        drawn = "█" * whole + EIGHTHS[eighths] if blocks else "#" * round(length * share)
        mark = (">", "▸")[blocks] if bar.marked else " "
        lines.append(
            Text(f"{mark} {' ' * (names - cell_len(name))}{name} {drawn:<{length}} {bar.text:>{texts}}", bar.style)
        )
    return Text("\n", no_wrap=True).join(lines)


def cut(text: str, cells: int = 28, end: str = "…") -> str:
    """A text that takes no more cells of the terminal; one that is cut has an end of one cell instead."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1) + end


def print_flow(blocks: Sequence["Text"], console: "Console") -> None:
    """Print blocks of text beside each other, as many as fit, and the others below."""
    from rich.table import Table

    rows: list[list[Text]] = []
    room = 0
    for block in blocks:
        across = max(line.cell_len for line in block.split("\n"))
        if across > room:
            rows.append([])
            room = console.width
        rows[-1].append(block)
        room -= across + GAP
    for row in rows:
        grid = Table.grid(padding=(0, GAP, 0, 0))
        for _ in row:
            grid.add_column(no_wrap=True)
        grid.add_row(*row)
        console.print(grid)


def print_beside(picture: "Text", bars: Sequence[Bar], console: "Console") -> None:
    """Print a drawn image with bars at its side, or below it where the console is too narrow."""
    from rich.table import Table

    across = max(map(len, picture.plain.split("\n")))
    room = console.width - across - GAP
    if room < BESIDE:
        console.print(picture)
        console.print(draw_bars(bars, console, console.width))
        return
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(width=across, no_wrap=True)
    grid.add_column(no_wrap=True, vertical="middle")
    grid.add_row(picture, draw_bars(bars, console, room))
    console.print(grid)


def prepare_streams() -> None:
    """Set up the standard streams so that no command fails for lack of one, or for a name that its encoding lacks.

    A process without a console, such as a service, may have no stdout and no stderr: what it prints goes nowhere. Names
    that the locale cannot hold are escaped on the way out; stdin reads them as Python's file names are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            # Never closed, as Python's own: it may take the place of descriptor 1 or 2, which no other file must have.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(nowhere, "w", encoding="utf-8", closefd=False))
    inward, outward = "surrogateescape", "backslashreplace"
    for stream, errors in ((sys.stdin, inward), (sys.stdout, outward), (sys.stderr, outward)):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != errors:
            with suppress(ValueError):  # one that was read from can no longer be changed
                stream.reconfigure(errors=errors)


def edit_lines() -> None:
    """Give the lines that ask_line asks for an editor, a history, and completion of file names, where there is one."""
    if editor := line_editor():
        editor.set_completer_delims(" \t\n\"'")
        editor.parse_and_bind("bind ^I rl_complete" if "libedit" in (editor.__doc__ or "") else "tab: complete")


def ask_line(prompt: str) -> str:
    """A line from stdin; the prompt is shown on a terminal, and is never part of what stdout sends elsewhere.

    Raises EOFError at the end, and where stdin is closed.
    """
    if not sys.stdin:
        raise EOFError
    if not sys.stdin.isatty():
        prompt = ""
    elif not sys.stdout.isatty():
        print(prompt, end="", file=sys.stderr, flush=True)
        prompt = ""
    return input(prompt)


def print_table(
    rows: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    console: "Console",
    *,
    right: Collection[str] = (),
    less: Sequence[str] = (),
    styles: Sequence[str] = (),
    headings: bool = True,
) -> None:
    """Print a line for each row, below one of headings, without ever breaking a cell.

    rows : cells by column; a column whose cells are all empty is left out.   right : the columns that are flush right.
    less : those that a terminal does without, in this order, if it is too narrow. One that is too narrow for the others
        shows the first column's cell on a line of its own. Elsewhere than on a terminal a line has any length.
    styles : of each row, in rich's words; by default plain.   headings : whether there are any.
    """
    from rich.cells import cell_len
    from rich.text import Text

    room = console.width if console.is_terminal else sys.maxsize
    shown = [name for name in columns if any(row[name] for row in rows)]
    for name in (None, *less):
        shown = [each for each in shown if each != name]
        if fits := table_width(rows, shown) <= room:
            break
    widths = {name: max(map(cell_len, (name * headings, *(row[name] for row in rows)))) for name in shown}
    apart = not fits and len(shown) > 1

    def line(cells: Mapping[str, str], style: str) -> None:
        if apart:
            console.print(Text(cells[shown[0]], style), soft_wrap=True)
            below = [cells[name].strip().replace(" ", "\xa0") for name in shown[1:] if cells[name]]
            say(" " * GAP + ", ".join(below), console, GAP, style)
            return
        padded = []
        for name in shown:
            blanks = " " * (widths[name] - cell_len(cells[name]))
            padded.append(blanks + cells[name] if name in right else cells[name] + blanks)
        console.print(Text((" " * GAP).join(padded).rstrip(), style), soft_wrap=True)

    if headings:
        line({name: name for name in columns}, "bold")
    for row, style in zip(rows, styles or [""] * len(rows), strict=True):
        line(row, style)


def table_width(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> int:
    """The columns of a terminal that print_table takes for all these columns of a table."""
    from rich.cells import cell_len

    shown = [name for name in columns if any(row[name] for row in rows)]
    return sum(max(map(cell_len, (name, *(row[name] for row in rows)))) + GAP for name in shown) - GAP


def say(text: str, console: "Console", indent: int = 0, style: str = "") -> None:
    """Print a text, on a terminal in lines of whole words, the later ones indented; blanks that do not break may be
    \\xa0.
    """
    from rich.text import Text

    # Not by rich, which breaks the words that are longer than a line.
    text = _in_lines(text, console.width, indent) if console.is_terminal else text.replace("\xa0", " ")
    console.print(Text(text, style), soft_wrap=True)


def loading() -> AbstractContextManager[Callable[[str, int, int | None], None]]:
    """What stderr shows while data are loaded, downloaded or drawn, as the callback of load_data and download."""
    return working("loading the data", in_bytes=True)


@contextmanager
def working(first: str, *, in_bytes: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """What stderr shows during some work, as a function of what is done, how much of it, and of how much.

    On a terminal a bar, which appears with the first call, so that what needs no work shows none, and after two seconds
    in any case; elsewhere a line of plain text every ten seconds.

    first : what is done before the first call.   in_bytes : whether it is counted in bytes.
    """
    on_terminal, over = sys.stderr.isatty(), threading.Event()
    newest: tuple[str, int, int | None] = first, 0, None
    if on_terminal:
        from rich import progress
        from rich.console import Console

        counts = (
            [progress.DownloadColumn(), progress.TransferSpeedColumn()] if in_bytes else [progress.MofNCompleteColumn()]
        )
        columns = progress.TextColumn("{task.description}"), progress.BarColumn(), *counts
        bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        tasks: dict[str, progress.TaskID] = {}

    def show(name: str, done: int, total: int | None) -> None:
        nonlocal newest
        newest = name, done, total
        if on_terminal:
            if not tasks:
                bar.start()
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

    def remind() -> None:
        began = time.monotonic()
        if on_terminal:
            if not over.wait(PATIENCE) and not tasks:
                show(*newest)
            return
        while not over.wait(EVERY):
            name, done, total = newest
            share = f", {100 * done / total:.0f} %" if total else ""
            print(f"{name}{share}, {duration(time.monotonic() - began)}", file=sys.stderr, flush=True)

    reminding = threading.Thread(target=remind, daemon=True, name="xpnet-loading")
    reminding.start()
    try:
        yield show
    finally:
        over.set()
        reminding.join()
        if on_terminal:
            bar.stop()
