"""Shared by all pictures: colours, type, the figure and its axes, and saving it to a file."""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet.checks import required
from xpnet.errors import ConfigError
from xpnet.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, PALE = "#222222", "#767676", "#E4E8EC"
SPLITS = {"train": GREY, "validation": "#D55E00", "test": "#0072B2"}
# Ten colours, the first three Okabe's and Ito's: each with a contrast to white of 3 or more, and every two at least
# 16 apart in CIELAB, for those who see all colours and for those who don't see red, green or blue.
RUNS = ["#0072B2", "#D55E00", "#009E73", "#8C1464", "#140050", "#A078A0", "#DC0050", "#3C3C14", "#003CDC", "#3C0028"]
# Ten for areas and dots, where texts have none: brighter ones, with a contrast of 1.7 or more, and as far apart.
CLASSES = ["#0072B2", "#D55E00", "#009E73", "#FFAA00", "#9900FF", "#773311", "#FF55FF", "#99CC77", "#444455", "#DDBBDD"]
MISTAKES = ["#FFFFFF", "#F7BE90", "#D55E00", "#7A2600"]

FONT, SMALL, TITLE = 9.0, 8.0, 10.0
LINE = 0.17  # inches from one line of text to the next

STYLE = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "font.size": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "grid.color": PALE,
    "svg.hashsalt": "xpnet",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
}
DPI = 150
# Nothing that differs from one day or one version to the next.
METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
MOST_TILES = 500


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults and our style, whatever the user's settings are, which come back afterwards."""
    matplotlib = required("matplotlib", "a plot", "plot")
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        # A letter of a run's name that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def format_of(path: str | Path) -> str:
    """The format that a picture's path asks for by its suffix: png, svg or pdf.   Raises ConfigError for another."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in METADATA:
        raise ConfigError(f"{path}: pictures are written as .png, .svg or .pdf: name such a file")
    return kind


@house_style()
def save(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a file, completely or not at all; the same figure gives the same bytes.

    path : its suffix, .png, .svg or .pdf, decides the format; a PNG has 150 dots per inch.
    Raises ConfigError for another suffix, or where the file cannot be written.
    """
    kind, content = format_of(path), io.BytesIO()
    figure.savefig(content, format=kind, dpi=DPI, metadata=METADATA[kind])
    try:
        write_atomically(Path(path), content.getvalue())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; name another file") from None


def new_figure() -> "Figure":
    from matplotlib.figure import Figure

    return Figure(facecolor="white")


def add_axes(figure: "Figure", left: float, bottom: float, width: float, height: float) -> "Axes":
    """Axes at a place in a figure whose size is settled."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / down, width / across, height / down))


def add_title(figure: "Figure", left: float, title: str) -> None:
    across, down = figure.get_size_inches()
    figure.text(left / across, 1.0 - 0.13 / down, title, size=TITLE, weight="bold", va="top")


def text_width(figure: "Figure", texts: Iterable[str], size: float = FONT) -> float:
    """Width of the widest of some texts."""
    drawn = figure.text(0.0, 0.0, "\n".join(texts), size=size, weight="bold" if size == TITLE else "normal")
    width = float(drawn.get_window_extent().width) / figure.dpi
    drawn.remove()
    return width


def shortened(name: str, length: int = 48) -> str:
    """A name as it can stand in a picture: without line breaks and their like, and if it is long its middle."""
    name = "".join(sign if sign.isprintable() else "?" for sign in name)
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"


def mistakes_of(wrong: int, images: int) -> str:
    if not wrong:
        return f"all {images:,} images classified correctly"
    return f"{wrong:,} of {images:,} images ({100 * wrong / images:.2f} %) misclassified"
