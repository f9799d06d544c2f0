"""What the commands share of the terminal: consoles, the bar of a download, images."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.text import Text

    from xpnet.data import Dataset

__all__ = ["class_names", "download_bar", "draw", "result_console"]

SHADES = " .:-=+*#%@"


def result_console() -> "Console":
    """A console on stdout that colours nothing by itself."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def class_names(data: "Dataset", n: int) -> list[str]:
    """Names of the classes 0 to n - 1, where the set is one that is known by name; their numbers otherwise."""
    from xpnet.data import SETS

    known = SETS[data.name].classes if data.name in SETS else ()
    return list(known) if len(known) == n else [str(i) for i in range(n)]


def draw(image: "NDArray[Any]", console: "Console") -> "Text":
    """An image as text, two rows of pixels to a line: half blocks in grey on a terminal with colours, shades elsewhere.

    image : (height, width), uint8 or float in [0, 1]; one that is wider than the console is thinned out.
    """
    from rich.style import Style
    from rich.text import Text

    grey = image if image.dtype.kind == "u" else (255 * image.clip(0, 1)).astype("uint8")
    stride = -(-grey.shape[1] // console.width)
    grey = grey[::stride, ::stride].astype(int)
    coloured = console.color_system in ("256", "truecolor") and not console.no_color
    text = Text(no_wrap=True)
    for y in range(0, len(grey), 2):
        upper = grey[y]
        lower = grey[y + 1] if y + 1 < len(grey) else 0 * upper
        for u, v in zip(upper, lower, strict=True):
            if coloured and console.encoding.startswith("utf"):
                text.append("▀", Style(color=f"rgb({u},{u},{u})", bgcolor=f"rgb({v},{v},{v})"))
            else:
                text.append(SHADES[(u + v) * len(SHADES) // 512])
        text.append("\n")
    text.right_crop(1)
    return text


@contextmanager
def download_bar() -> Iterator[Callable[[str, int, int | None], None] | None]:
    """A bar on stderr for the time of a download, as the callback of load_data and download; None off a terminal.

    It appears with the first byte, so that a set that is on disk shows none.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int | None) -> None:
        if not tasks:
            bar.start()
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=total)
        bar.update(tasks[name], completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()
