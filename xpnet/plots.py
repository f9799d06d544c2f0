"""The pictures of a run: curves, confusion matrix, mistakes, first-layer weights, learning-rate range test.

Each function takes host arrays and returns a matplotlib Figure, which save writes and a notebook shows (in Jupyter,
after %matplotlib inline). None needs a display, imports pyplot, or reads or changes the user's matplotlib settings.
"""

import io
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.checks import check_range, required
from xpnet.errors import ConfigError, ModelError
from xpnet.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["confusion", "curves", "format_of", "learning_rates", "mistakes", "save", "weights"]

INK, GREY, PALE = "#222222", "#767676", "#E4E8EC"
SPLITS = {"train": GREY, "validation": "#D55E00", "test": "#0072B2"}
# Ten colours, the first three Okabe's and Ito's: each with a contrast to white of 3 or more, and every two at least
# 16 apart in CIELAB, for those who see all colours and for those who don't see red, green or blue.
RUNS = ["#0072B2", "#D55E00", "#009E73", "#8C1464", "#140050", "#A078A0", "#DC0050", "#3C3C14", "#003CDC", "#3C0028"]
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
def _house_style() -> Iterator[None]:
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
        raise ConfigError(f"{path}: a picture is written as .png, .svg or .pdf: name such a file")
    return kind


@_house_style()
def save(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a file, whole or not at all; the same figure gives the same bytes.

    path : its suffix, .png, .svg or .pdf, decides the format; a PNG has 150 dots per inch.
    Raises ConfigError for another suffix, or where the file cannot be written.
    """
    kind, content = format_of(path), io.BytesIO()
    figure.savefig(content, format=kind, dpi=DPI, metadata=METADATA[kind])
    try:
        write_atomically(Path(path), content.getvalue())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; name another file") from None


# Curves --------------------------------------------------------------------------------------------------------------


class Figures(Protocol):
    """The figures of an epoch, as history.csv names them: epoch, train_loss, train_accuracy, test_loss, ..."""

    @property
    def epoch(self) -> int:
        """Its number, from 1."""


class _Line(NamedTuple):
    """A line of a panel, and what stands at its end."""

    label: str
    color: str
    epochs: list[int]
    values: NDArray[np.float64]


@_house_style()
def curves(histories: Mapping[str, Sequence[Figures]], *, loss: str | None = "") -> "Figure":
    """Loss and accuracy over the epochs: of one run all its splits, of several runs one split.

    histories : for each run its name and its epochs, at least one.
    loss : its name, which tells its unit; None where the runs have different ones, which no axis can compare.
    Of several runs it is the test split, or validation, or training, whichever all of them have.
    Returns the Figure.   Raises ConfigError if there is no run, ModelError if one has no epoch.
    """
    for name, history in histories.items():
        if not history:
            raise ModelError(f"{name} has no finished epoch: there is nothing to plot")
    if not histories:
        raise ConfigError("there is no run to plot: name at least one")
    single = len(histories) == 1
    if single:
        ((title, history),) = histories.items()
        chosen = [(split, history, split, color) for split, color in SPLITS.items() if _has(history, split)]
        of = ""
    else:
        split = next(s for s in ("test", "validation", "train") if all(_has(h, s) for h in histories.values()))
        chosen = [(n, h, split, color) for (n, h), color in zip(histories.items(), itertools.cycle(RUNS), strict=False)]
        of = f"{split} "
    unit = " (nats per example)" if loss == "cross-entropy" else ""
    labels = (
        {"accuracy": f"{of}accuracy (%)"}
        if loss is None
        else {"loss": f"{of}loss{unit}", "accuracy": f"{of}accuracy (%)"}
    )
    panels = {quantity: [_line(*choice, quantity) for choice in chosen] for quantity in labels}

    # Side by side for one run; names are long, so the panels of several runs stand one above the other.
    figure = _figure()
    left, bottom, head = 0.8, 0.5, 0.45 if single else 0.2
    width, height = 3.5 if single else 5.0, max(2.7, LINE * len(chosen))
    across = left + width + 0.4 + _width(figure, [line.label for lines in panels.values() for line in lines])
    down = bottom + height + head
    n = len(panels)
    figure.set_size_inches((n * across, down) if single else (across, n * down))
    for i, (quantity, lines) in enumerate(panels.items()):
        x, y = (left + i * across, bottom) if single else (left, bottom + (n - 1 - i) * down)
        axes = _axes(figure, x, y, width, height)
        axes.set(xlabel="epoch", ylabel=labels[quantity])
        _draw_lines(axes, lines, log=quantity == "loss")
        if quantity == "accuracy" and not single:
            _look_at_ends(axes, lines)
        _label_ends(axes, lines, width, height)
    if single:
        _title(figure, left, _shortened(title))
    return figure


def _has(history: Sequence[Figures], split: str) -> bool:
    return all(getattr(epoch, f"{split}_loss") is not None for epoch in history)


def _line(name: str, history: Sequence[Figures], split: str, color: str, quantity: str) -> _Line:
    values = np.array([getattr(epoch, f"{split}_{quantity}") for epoch in history], np.float64)
    if quantity == "accuracy":
        values = 100 * values
        last = f"{values[-1]:.2f} %"
    else:
        last = f"{values[-1]:.4f}" if 1e-3 <= values[-1] < 10 else _short(values[-1], 4)
    return _Line(f"{_shortened(name)}  {last}", color, [epoch.epoch for epoch in history], values)


def _short(value: float, digits: int = 1) -> str:
    """A number in few signs: 0.05, 200, and with so many digits 3e4."""
    if not np.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _shortened(name: str, length: int = 48) -> str:
    """A name as it can stand beside a curve: without line breaks and their like, and if it is long its middle."""
    name = "".join(sign if sign.isprintable() else "?" for sign in name)
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"


def _draw_lines(axes: "Axes", lines: list[_Line], *, log: bool) -> None:
    """Draw lines over the epochs; with log, on a logarithmic scale where that shows more.

    Of runs of very different lengths the short ones would vanish on a linear axis of epochs.
    """
    from matplotlib.ticker import MaxNLocator

    few = max(len(line.epochs) for line in lines) <= 20
    for line in lines:
        axes.plot(line.epochs, line.values, color=line.color, marker="o" if few else "")
    first, last = min(line.epochs[0] for line in lines), max(line.epochs[-1] for line in lines)
    if last >= 10 * min(line.epochs[-1] for line in lines):
        axes.set_xscale("log")
        _mark_decades(axes.xaxis, last / first)
        axes.set_xlim(0.9 * first, 1.1 * last)
    else:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        around = 0.04 * (last - first) or 0.5
        axes.set_xlim(first - around, last + around)
    values = np.concatenate([line.values for line in lines])
    positive = values[np.isfinite(values) & (values > 0)]
    span = positive.max() / positive.min() if len(positive) else 1.0
    if log and span >= 4:
        axes.set_yscale("log")
        _mark_decades(axes.yaxis, span)
    axes.autoscale_view()


def _look_at_ends(axes: "Axes", lines: list[_Line]) -> None:
    """Cut off what lies far under the lines' ends, as poor first epochs do, where it would take half of the panel."""
    ends = [line.values[-1] for line in lines if np.isfinite(line.values[-1])]
    if ends:
        low = min(ends) - 1.5 * max(max(ends) - min(ends), 1.0)
        shown = max(ends) - low
        if axes.get_ylim()[0] < low - shown:
            axes.set_ylim(low, max(max(line.values) for line in lines) + 0.05 * shown)


def _mark_decades(axis: "Axis", span: float) -> None:
    """Ticks of a logarithmic axis over a span: at 1, 2 and 5 of each decade, or at the decades where these are many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 1e3 else (1,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_locator(NullLocator())


def _label_ends(axes: "Axes", lines: list[_Line], width: float, height: float) -> None:
    """Write each line's label beside its end, moved up or down where labels would overlap, and lead the eye there."""
    from matplotlib.lines import Line2D

    to_axes = axes.transScale + axes.transLimits
    ends = []
    for line in lines:
        finite = np.flatnonzero(np.isfinite(line.values))
        i = finite[-1] if len(finite) else -1
        x, y = to_axes.transform((line.epochs[i], line.values[i]))
        ends.append((x, np.clip(y, 0.0, 1.0) if len(finite) else 0.5))
    places = _spread([y for _, y in ends], LINE / height, 0.0, 1.0)
    for line, (x, y), place in zip(lines, ends, places, strict=True):
        bend, end = 1.0 + 0.04 / width, 1.0 + 0.2 / width
        axes.add_artist(
            Line2D(
                [x, bend, end], [y, y, place], color=line.color, lw=0.7, ls=":", clip_on=False, transform=axes.transAxes
            )
        )
        axes.text(
            end + 0.04 / width, place, line.label, color=line.color, va="center_baseline", transform=axes.transAxes
        )


def _spread(wanted: Sequence[float], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """The places between low and high that lie nearest to the wanted ones, in their order and a gap apart.

    Nearest in the least squares, by pooling adjacent violators.
    """
    order = np.argsort(wanted, kind="stable")
    blocks: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        mean, size = wanted[i] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, n = blocks.pop()
            mean, size = (before * n + mean * size) / (n + size), n + size
        blocks.append((mean, size))
    places = np.empty(len(order))
    pooled = np.repeat([mean for mean, _ in blocks], [size for _, size in blocks])
    places[order] = np.clip(pooled, low, high - (len(order) - 1) * gap) + gap * np.arange(len(order))
    return places


@_house_style()
def learning_rates(
    rates: ArrayLike, losses: ArrayLike, smoothed: ArrayLike, suggestion: float | None = None
) -> "Figure":
    """The loss over the learning rate in a range test, of each step and smoothed, and the rate that it suggests.

    rates : (n,) floats > 0, rising.   losses, smoothed : (n,) floats; huge ones at the end are cut off.
    suggestion : the learning rate to mark, or None.
    Returns the Figure.
    """
    rates, smooth = np.asarray(rates, np.float64), np.asarray(smoothed, np.float64)
    figure = _figure()
    figure.set_size_inches(6.4, 3.6)
    axes = _axes(figure, 0.7, 0.5, 5.5, 2.8)
    axes.plot(rates, losses, color="#BFCBD6", lw=0.8)
    axes.plot(rates, smooth, color=SPLITS["test"])
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (pale: of each step; dark: smoothed)")
    shown = np.append(rates, rates[0] if suggestion is None else suggestion)
    axes.set_xlim(shown.min() / 1.3, 1.3 * shown.max())
    _mark_decades(axes.xaxis, shown.max() / shown.min())
    finite = smooth[np.isfinite(smooth)]
    if len(finite):
        low, start = finite.min(), finite[0]
        high = min(finite.max(), start + 0.5 * (start - low)) if start > low else finite.max()
        margin = 0.08 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + margin)
    if suggestion is not None:
        right = np.log(suggestion) > np.log(rates).mean()
        axes.axvline(suggestion, color=SPLITS["validation"], lw=1.2)
        axes.annotate(
            f"suggested: {suggestion:.2g}",
            (suggestion, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if right else 5, 2),
            textcoords="offset points",
            ha="right" if right else "left",
            color=SPLITS["validation"],
        )
    return figure


# Classes and images --------------------------------------------------------------------------------------------------


@_house_style()
def confusion(matrix: ArrayLike, names: Sequence[str]) -> "Figure":
    """A confusion matrix: the counts, each mistake coloured by its share of the label's images.

    matrix : (n_classes, n_classes) whole numbers, a row for each label, a column for each prediction.
    names : of the classes.
    Returns the Figure.   The hits on the diagonal are left uncoloured: they would drown the mistakes.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.ticker import FuncFormatter

    counts, n = np.asarray(matrix), len(names)
    totals, hits = counts.sum(axis=1), np.diagonal(counts)
    shares = np.ma.array(counts / np.maximum(totals, 1)[:, None], mask=np.eye(n, dtype=bool))
    worst = float(shares.max()) if n > 1 else 0.0
    title = _how_many(totals.sum() - hits.sum(), totals.sum())

    # The cell shrinks with the number of classes; from some 100 classes on it is too small for a number.
    cell = min(max(6.0 / n, 0.26), max(2.0 / n, 0.5), 26.0 / n)
    side, legible = n * cell, cell >= 0.2
    figure = _figure()
    upright = all(len(name) <= 2 for name in names)
    widest = _width(figure, names)
    left, bottom, top = 0.45 + widest, 0.45 + (LINE if upright else 0.75 * widest), 0.7
    right = 2.0 if worst else 0.9
    figure.set_size_inches(max(left + side + right, 0.4 + _width(figure, [title], TITLE)), bottom + side + top)
    _title(figure, 0.2, title)

    axes = _axes(figure, left, bottom, side, side)
    colors = LinearSegmentedColormap.from_list("mistakes", MISTAKES).with_extremes(bad=PALE)
    # The root, since one pair of classes that look alike would pale all others.
    picture = axes.imshow(shares, cmap=colors, norm=PowerNorm(0.5, 0.0, worst or 1.0))
    axes.set(xlabel="prediction", ylabel="label")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    ticks = range(n) if legible else range(0, n, 10)
    axes.set_yticks(ticks, [names[i] for i in ticks])
    turned: dict[str, Any] = {} if upright else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, [names[i] for i in ticks], **turned)
    axes.grid(False)
    if legible:
        _write_counts(axes, counts, shares.filled(0.0) > 0.3 * worst, cell)
    if worst:
        length = min(side, 4.0)
        bar = _axes(figure, left + side + 1.0, bottom + side - length, 0.12, length)
        figure.colorbar(picture, bar, format=FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))
        bar.set_ylabel("share of the label's images")
        bar.spines[:].set_visible(False)
    return figure


def _write_counts(axes: "Axes", counts: NDArray[np.integer], dark: NDArray[np.bool_], cell: float) -> None:
    """Write each count into its cell, of cell inches and dark or not, and each row's share of hits at its right."""
    n = len(counts)
    for edges in (axes.hlines, axes.vlines):
        edges(np.arange(n + 1) - 0.5, -0.5, n - 0.5, colors=PALE, linewidths=0.6)
    size = min(FONT, 72 * cell / (0.8 * len(str(counts.max()))))
    for i, j in np.argwhere(counts):
        color = "white" if dark[i, j] else INK
        axes.text(j, i, counts[i, j], ha="center", va="center_baseline", size=size, color=color)
    beside = n - 0.5 + 0.7 / cell
    axes.text(beside, -0.5 - 0.08 / cell, "right", ha="right", va="bottom")
    for i, total in enumerate(counts.sum(axis=1)):
        right = f"{100 * counts[i, i] / total:.1f} %" if total else "-"
        axes.text(beside, i, right, ha="right", va="center_baseline", size=min(FONT, 60 * cell))


@_house_style()
def mistakes(
    images: NDArray[np.generic], labels: ArrayLike, outputs: ArrayLike, names: Sequence[str], count: int = 24
) -> "Figure":
    """The images that are read wrongly with the most confidence: index, label, prediction, and the outputs of both.

        confidence = output of the predicted class

    images : (n, height, width), uint8 or float in [0, 1].   labels : (n,) whole numbers.
    outputs : (n, n_classes) floats, shown in % where they are probabilities.   names : of the classes.
    count : how many at most, 1 to 500.
    Returns the Figure, which says so where there is no mistake.
    Raises ConfigError for rows of features or a bad count.
    """
    check_range("count", count, 1, MOST_TILES, high_open=False)
    _check_images(images.shape[1:])
    labels, outputs = np.asarray(labels), np.asarray(outputs)
    predictions = outputs.argmax(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-outputs[wrong, predictions[wrong]], kind="stable")][:count]
    title = _how_many(len(wrong), len(labels))
    if len(worst) < len(wrong):
        title += f"; the {len(worst)} of them" * (len(worst) > 1) + "; the one" * (len(worst) == 1)
        title += " that the network was surest of"
    probable = bool(outputs.min(initial=0) >= 0 and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-3))

    def shown(i: int, k: int) -> str:
        return f"{names[k]}: {100 * outputs[i, k]:.1f} %" if probable else f"{names[k]}: {outputs[i, k]:.2f}"

    captions = [f"image {i}\nlabel {shown(i, labels[i])}\nread as {shown(i, predictions[i])}" for i in worst]
    largest = 255 if images.dtype.kind == "u" else 1.0
    figure, _ = _tiles(images[worst], captions, title, columns=6, side=1.1, cmap="gray_r", vmin=0, vmax=largest)
    return figure


@_house_style()
def weights(W: NDArray[np.floating], image_shape: Sequence[int], count: int = 60) -> "Figure":
    """The first layer's weights, an image for each unit, the units of the largest norm first.

    W : (n_in, n_out) floats.   image_shape : (height, width), whose product is n_in.
    count : how many units at most, 1 to 500.
    Returns the Figure: red is positive, blue negative, on one scale for all units, symmetric about 0.
    Raises ConfigError for rows of features, another number of pixels or a bad count.
    """
    check_range("count", count, 1, MOST_TILES, high_open=False)
    _check_images(image_shape)
    if math.prod(image_shape) != len(W):
        raise ConfigError(f"images of {'x'.join(map(str, image_shape))} have no {len(W)} pixels, as the weights need")
    units = np.argsort(-np.linalg.norm(W, axis=0), kind="stable")[:count]
    filters = W.T[units].reshape(len(units), *image_shape)
    sizes = np.abs(filters[np.isfinite(filters)])
    # A few weights that stand out would pale all others: they are cut off, and the bar's ends are pointed.
    largest = float(np.quantile(sizes, 0.998)) or 1.0 if sizes.size else 1.0
    which = f"{len(units)} of {W.shape[1]}" if len(units) < W.shape[1] else f"all {len(units)}"
    figure, picture = _tiles(
        filters,
        [f"unit {i}" for i in units],
        f"first-layer weights of {which} units, largest norm first",
        columns=10,
        side=0.75,
        margin=1.0,
        cmap="RdBu_r",
        vmin=-largest,
        vmax=largest,
    )
    width, height = figure.get_size_inches()
    bar_height = min(height - 0.8, 3.0)
    bar = _axes(figure, width - 0.8, (height - 0.3 - bar_height) / 2, 0.12, bar_height)
    figure.colorbar(picture, bar, label="weight", extend="both" if sizes.max(initial=0.0) > largest else "neither")
    bar.spines[:].set_visible(False)
    return figure


def _tiles(
    images: NDArray[np.generic],
    captions: list[str],
    title: str,
    *,
    columns: int,
    side: float,
    margin: float = 0.2,
    **shown: Any,
) -> "tuple[Figure, Any]":
    """Images in rows, each above its caption, wider than side inches where a caption is; margin is left at the right.

    Returns the figure and the last of the images.
    """
    figure, picture = _figure(), None
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    side = max(side, _width(figure, captions, SMALL))
    high, wide = images.shape[1:]
    height = side * min(max(high / wide, 0.1), 3.0)
    across, down = side + 0.18, height + 0.16 * (captions[0].count("\n") + 1) + 0.18 if captions else 0.0
    size = max(0.2 + columns * across - 0.18 + margin, 0.4 + _width(figure, [title], TITLE)), 0.5 + rows * down
    figure.set_size_inches(size)
    _title(figure, 0.2, title)
    for k, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(k, columns)
        axes = _axes(figure, 0.2 + column * across, size[1] - 0.45 - row * down - height, side, height)
        picture = axes.imshow(image, **shown)
        axes.set(xticks=[], yticks=[], anchor="NW")
        axes.spines[:].set(visible=True, color=PALE)
        axes.text(0.0, -0.04 / height, caption, size=SMALL, va="top", transform=axes.transAxes)
    return figure, picture


def _check_images(shape: Sequence[int]) -> None:
    if len(shape) != 2:
        raise ConfigError("the images are rows of features, not of height and width: there is nothing to draw")


def _how_many(wrong: int, images: int) -> str:
    if not wrong:
        return f"all {images:,} images read rightly"
    return f"{wrong:,} of {images:,} images ({100 * wrong / images:.2f} %) read wrongly"


# Layout, in inches ---------------------------------------------------------------------------------------------------


def _figure() -> "Figure":
    from matplotlib.figure import Figure

    return Figure(facecolor="white")


def _axes(figure: "Figure", left: float, bottom: float, width: float, height: float) -> "Axes":
    """Axes at a place in a figure whose size is settled."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / down, width / across, height / down))


def _title(figure: "Figure", left: float, title: str) -> None:
    across, down = figure.get_size_inches()
    figure.text(left / across, 1.0 - 0.13 / down, title, size=TITLE, weight="bold", va="top")


def _width(figure: "Figure", texts: Iterable[str], size: float = FONT) -> float:
    """Width of the widest of some texts."""
    drawn = figure.text(0.0, 0.0, "\n".join(texts), size=size, weight="bold" if size == TITLE else "normal")
    width = float(drawn.get_window_extent().width) / figure.dpi
    drawn.remove()
    return width
