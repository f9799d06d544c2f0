"""Shared by all pictures: colours, type, the figure and its axes, and saving it to a file."""

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.checks import required
from xpnet.errors import ConfigError
from xpnet.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Colours:
    """The colours of all pictures on one ground.

    ink : of texts.   grey : of axes.   pale : of grids and frames.   faint : of what lies behind a line.
    splits, runs, classes : of lines, and of areas and dots.   mistakes : from none to most.
    image : a map for images, whose ink looks like ink on that ground.   signed : one from negative to positive, or its
        colours.   negative, positive : of texts and bars.   least : the place on cividis of the least number.
    """

    ground: str
    ink: str
    grey: str
    pale: str
    faint: str
    splits: Mapping[str, str]
    runs: Sequence[str]
    classes: Sequence[str]
    mistakes: Sequence[str]
    image: str
    signed: str | Sequence[str]
    negative: str
    positive: str
    least: float


# Ten colours for runs, the first three Okabe's and Ito's: each with a contrast to the ground of 3 or more, and every
# two at least 16 apart in CIELAB, for those who see all colours and for those who don't see red, green or blue. Areas
# and dots on white have brighter ones, with a contrast of 1.7 or more, and as far apart: no text has their colour.
LIGHT = Colours(
    ground="#FFFFFF",
    ink="#222222",
    grey="#767676",
    pale="#E4E8EC",
    faint="#BFCBD6",
    splits={"train": "#767676", "validation": "#D55E00", "test": "#0072B2"},
    runs=["#0072B2", "#D55E00", "#009E73", "#8C1464", "#140050", "#A078A0", "#DC0050", "#3C3C14", "#003CDC", "#3C0028"],
    classes=[
        "#0072B2",
        "#D55E00",
        "#009E73",
        "#FFAA00",
        "#9900FF",
        "#773311",
        "#FF55FF",
        "#99CC77",
        "#444455",
        "#DDBBDD",
    ],
    mistakes=["#FFFFFF", "#F7BE90", "#D55E00", "#7A2600"],
    image="gray_r",
    signed="RdBu_r",
    negative="#2166AC",
    positive="#B2182B",
    least=0.0,
)
_DARK = ["#56B4E9", "#E69F00", "#009E73", "#B4C864", "#F0F0B4", "#8C78F0", "#F028B4", "#A0C8B4", "#A014F0", "#B45050"]
DARK = Colours(
    ground="#15181C",
    ink="#F0F0F0",
    grey="#838383",
    pale="#2C3137",
    faint="#4A5561",
    splits={"train": "#838383", "validation": "#E69F00", "test": "#56B4E9"},
    runs=_DARK,
    classes=_DARK,
    mistakes=["#15181C", "#6B3208", "#E07020", "#FFDDB8"],
    image="gray",
    signed=["#C4E2FF", "#62AAF2", "#2A5A90", "#15181C", "#8F3A2E", "#F27A66", "#FFD3C9"],
    negative="#62AAF2",
    positive="#F27A66",
    least=0.35,
)
_current = ContextVar("colours", default=LIGHT)

FONT, SMALL, TITLE = 9.0, 8.0, 10.0
LINE = 0.17  # inches from one line of text to the next

DPI = 150
# How each format is written: with no metadata that differ from one day or one version to the next, and at zlib's level
# 4, by which curves.png is as small as by default and takes a tenth less time.
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 4}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
MOST_TILES = 500


def colours() -> Colours:
    """The colours in which pictures are drawn here: LIGHT, or within dark() DARK."""
    return _current.get()


@contextmanager
def dark(on: bool = True) -> Iterator[None]:
    """Within it, pictures are drawn on a dark ground, with the same contrasts: with plots.dark(): plots.curves(...).

    on : False leaves them as they are.   A figure keeps its colours when it is saved or shown elsewhere.
    """
    token = _current.set(DARK if on else _current.get())
    try:
        yield
    finally:
        _current.reset(token)


def settings() -> dict[str, Any]:
    """Our style, as matplotlib's rcParams have it."""
    its = colours()
    return {
        "axes.edgecolor": its.grey,
        "axes.facecolor": its.ground,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": its.ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.axisbelow": True,
        "font.size": FONT,
        "axes.labelsize": FONT,
        "xtick.labelsize": FONT,
        "ytick.labelsize": FONT,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.0,
        "grid.color": its.pale,
        "svg.hashsalt": "xpnet",
        "text.color": its.ink,
        "text.parse_math": False,
        "xtick.color": its.grey,
        "xtick.labelcolor": its.ink,
        "ytick.color": its.grey,
        "ytick.labelcolor": its.ink,
    }


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults and our style, whatever the user's settings are, which come back afterwards."""
    matplotlib = required("matplotlib", "a plot", "plot")
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings())
        # A letter of a run's name that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def signed_map() -> Any:
    """The map of colours for numbers of either sign, on a scale symmetric about 0."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    signed = colours().signed
    return colormaps[signed] if isinstance(signed, str) else LinearSegmentedColormap.from_list("signed", signed)


def format_of(path: str | Path) -> str:
    """The format that a picture's path asks for by its suffix: png, svg or pdf.   Raises ConfigError for another."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ConfigError(f"{path}: pictures are written as .png, .svg or .pdf: name such a file")
    return kind


@house_style()
def save(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a file, completely or not at all; the same figure gives the same bytes.

    path : its suffix, .png, .svg or .pdf, decides the format; a PNG has 150 dots per inch.
    Raises ConfigError for another suffix, or where the file cannot be written.
    """
    kind, content = format_of(path), io.BytesIO()
    figure.savefig(content, format=kind, dpi=DPI, **FORMATS[kind])
    try:
        write_atomically(Path(path), content.getvalue())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; name another file") from None


def new_figure() -> "Figure":
    from matplotlib.figure import Figure

    return Figure(facecolor=colours().ground)


def add_axes(figure: "Figure", left: float, bottom: float, width: float, height: float) -> "Axes":
    """Axes at a place in a figure whose size is settled."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / down, width / across, height / down))


def add_title(figure: "Figure", left: float, title: str, below: str = "") -> None:
    """A title, and in plain letters what is to be read below it."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1.0 - 0.13 / down, title, size=TITLE, weight="bold", va="top")
    if below:
        figure.text(left / across, 1.0 - 0.36 / down, below, va="top")


def head_of(figure: "Figure", title: str, found: str) -> tuple[str, str, float, float]:
    """The title, what is below it, and the width and the height that the two need: what was found, below a title."""
    first, below = (shortened(title, 72), found) if title else (found, "")
    return first, below, max(text_width(figure, [first], TITLE), text_width(figure, [below])), 0.23 * bool(below)


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


def mistakes_of(wrong: int, n: int, what: str) -> str:
    if not wrong:
        return f"all {n:,} {what} classified correctly"
    return f"{wrong:,} of {n:,} {what} ({100 * wrong / n:.2f} %) misclassified"
