"""The confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.plots.style import (
    FONT,
    LINE,
    add_axes,
    add_title,
    colours,
    head_of,
    house_style,
    mistakes_of,
    new_figure,
    shortened,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@house_style()
def confusion(matrix: ArrayLike, names: Sequence[str], *, title: str = "") -> "Figure":
    """A confusion matrix: the counts, each mistake coloured by its share of the label's examples.

    matrix : (n_classes, n_classes) whole numbers, a row for each label, a column for each prediction.
    names : of the classes.   title : above the share of mistakes, such as the run and the data.
    Returns the Figure.   The diagonal is left uncoloured: it would drown the mistakes.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.ticker import FuncFormatter

    counts, n, its = np.asarray(matrix), len(names), colours()
    names = list(map(shortened, names))
    totals, hits = counts.sum(axis=1), np.diagonal(counts)
    shares = np.ma.array(counts / np.maximum(totals, 1)[:, None], mask=np.eye(n, dtype=bool))
    worst = float(shares.max()) if n > 1 else 0.0
    # The cell shrinks with the number of classes; from some 100 classes on it is too small for a number.
    cell = min(max(6.0 / n, 0.26), max(2.0 / n, 0.5), 26.0 / n)
    side, legible = n * cell, cell >= 0.2
    figure = new_figure()
    title, below, needed, lower = head_of(
        figure, title, mistakes_of(totals.sum() - hits.sum(), totals.sum(), "examples")
    )
    upright = all(len(name) <= 2 for name in names)
    widest = text_width(figure, names)
    left, bottom, top = 0.45 + widest, 0.45 + (LINE if upright else 0.75 * widest), 0.7 + lower
    right = 2.0 if worst else 0.9
    figure.set_size_inches(max(left + side + right, 0.4 + needed), bottom + side + top)
    add_title(figure, 0.2, title, below)

    axes = add_axes(figure, left, bottom, side, side)
    colors = LinearSegmentedColormap.from_list("mistakes", its.mistakes).with_extremes(bad=its.pale)
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
        bar = add_axes(figure, left + side + 1.0, bottom + side - length, 0.12, length)
        figure.colorbar(picture, bar, format=FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))
        bar.set_ylabel("share of the label's examples")
        bar.spines[:].set_visible(False)
    return figure


def _write_counts(axes: "Axes", counts: NDArray[np.integer], many: NDArray[np.bool_], cell: float) -> None:
    """Write each count into its cell, of cell inches and many or not, and each row's share of hits at its right."""
    n, its = len(counts), colours()
    for edges in (axes.hlines, axes.vlines):
        edges(np.arange(n + 1) - 0.5, -0.5, n - 0.5, colors=its.pale, linewidths=0.6)
    size = min(FONT, 72 * cell / (0.8 * len(str(counts.max()))))
    for i, j in np.argwhere(counts):
        color = its.ground if many[i, j] else its.ink
        axes.text(j, i, counts[i, j], ha="center", va="center_baseline", size=size, color=color)
    beside = n - 0.5 + 0.7 / cell
    axes.text(beside, -0.5 - 0.08 / cell, "right", ha="right", va="bottom")
    for i, total in enumerate(counts.sum(axis=1)):
        right = f"{100 * counts[i, i] / total:.1f} %" if total else "-"
        axes.text(beside, i, right, ha="right", va="center_baseline", size=min(FONT, 60 * cell))
