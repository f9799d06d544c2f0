"""Lines over epochs or learning rates: the curves of one run or several, and the range test."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.errors import ConfigError, ModelError
from xpnet.plots.style import LINE, add_axes, add_title, colours, house_style, new_figure, shortened, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


FEW = 2  # epochs, both of which are shown, however poor the first one is


class Figures(Protocol):
    """The figures of an epoch, as history.csv names them: epoch, train_loss, train_accuracy, test_loss, ..."""

    @property
    def epoch(self) -> int:
        """Its number, from 1."""


class HasHistory(Protocol):
    """What has a history, as the result of fit does."""

    @property
    def history(self) -> Sequence[Figures]:
        """Its epochs."""


class _Line(NamedTuple):
    """A line of a panel, and what stands at its end."""

    label: str
    color: str
    epochs: list[int]
    values: NDArray[np.float64]


@house_style()
def curves(
    histories: Mapping[str, Sequence[Figures]] | Sequence[Figures] | HasHistory, *, loss: str | None = ""
) -> "Figure":
    """Loss and accuracy over the epochs: all splits of one run, or one split of several runs.

    histories : for each run its name and its epochs, at least one; or one run's epochs, or what fit returned.
    loss : its name, which gives its unit; None if the runs have different ones, which no axis can compare.
    Several runs are compared on the test split, or validation, or training, the first that all of them have after each
    epoch.
    Returns the Figure.   Raises ConfigError if there is no run, ModelError if one has no epoch.
    """
    if not isinstance(histories, Mapping):
        run: Any = histories
        histories = {"training": getattr(run, "history", run)}
    for name, history in histories.items():
        if not history:
            raise ModelError(f"{name} has no finished epoch: there is nothing to plot")
    if not histories:
        raise ConfigError("there is no run to plot: name at least one")
    single = len(histories) == 1
    if single:
        ((title, history),) = histories.items()
        chosen = [(split, history, split, color) for split, color in colours().splits.items() if _has(history, split)]
        of = ""
    else:
        split = next(s for s in ("test", "validation", "train") if all(_has(h, s, all) for h in histories.values()))
        chosen = [
            (n, h, split, color)
            for (n, h), color in zip(histories.items(), itertools.cycle(colours().runs), strict=False)
        ]
        of = f"{split} "
    unit = " (nats per example)" if loss == "cross-entropy" else ""
    regression = all(getattr(epoch, "train_r2", None) is not None for _, h, _, _ in chosen for epoch in h)
    labels = {"r2": f"{of}R²"} if regression else {"accuracy": f"{of}accuracy (%)"}
    if loss is not None:
        labels = {"loss": f"{of}loss{unit}", **labels}
    panels = {quantity: [_line(*choice, quantity) for choice in chosen] for quantity in labels}

    # Side by side for one run; names are long, so the panels of several runs stand one above the other.
    figure = new_figure()
    left, bottom, head = 0.8, 0.5, 0.45 if single else 0.2
    width, height = 3.5 if single else 5.0, max(2.7, LINE * len(chosen))
    across = left + width + 0.4 + text_width(figure, [line.label for lines in panels.values() for line in lines])
    down = bottom + height + head
    n = len(panels)
    figure.set_size_inches((n * across, down) if single else (across, n * down))
    for i, (quantity, lines) in enumerate(panels.items()):
        x, y = (left + i * across, bottom) if single else (left, bottom + (n - 1 - i) * down)
        axes = add_axes(figure, x, y, width, height)
        axes.set(xlabel="epoch", ylabel=labels[quantity])
        _draw_lines(axes, lines, log=quantity == "loss")
        many = max(len(line.epochs) for line in lines) > FEW
        if quantity == "accuracy" and not single and many:
            _look_at_ends(axes, lines)
        if quantity == "r2":
            low, _ = axes.get_ylim()
            if many:  # the first epochs may lie far below 0
                ends = [float(line.values[-1]) for line in lines if np.isfinite(line.values[-1])]
                low = max(low, min([0.0, *ends]) - 0.1)
            axes.set_ylim(low, 1.0)
        _label_ends(axes, lines, width, height)
    if single:
        add_title(figure, left, shortened(title))
    return figure


def _has(history: Sequence[Figures], split: str, each: Callable[[Iterable[bool]], bool] = any) -> bool:
    """Whether a split was measured after any epoch, as the test split is once, or after all of them."""
    return each(getattr(epoch, f"{split}_loss") is not None for epoch in history)


def _line(name: str, history: Sequence[Figures], split: str, color: str, quantity: str) -> _Line:
    history = [epoch for epoch in history if getattr(epoch, f"{split}_loss") is not None]
    values = np.array([getattr(epoch, f"{split}_{quantity}") for epoch in history], np.float64)
    if quantity == "r2":
        last = f"{values[-1]:.4f}"
    elif quantity == "accuracy":
        values = 100 * values
        last = f"{values[-1]:.2f} %"
    else:
        last = f"{values[-1]:.4f}" if 1e-3 <= values[-1] < 10 else _short(values[-1], 4)
    return _Line(f"{shortened(name)}  {last}", color, [epoch.epoch for epoch in history], values)


def _short(value: float, digits: int = 1) -> str:
    """A number in few signs: 0.05, 200, and with so many digits 3e4."""
    if not np.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _draw_lines(axes: "Axes", lines: list[_Line], *, log: bool) -> None:
    """Draw lines over the epochs; with log, on a logarithmic scale where that shows more.

    Of runs of very different lengths the short ones would vanish on a linear axis of epochs.
    """
    from matplotlib.ticker import MaxNLocator

    few = max(len(line.epochs) for line in lines) <= 20
    for line in lines:
        axes.plot(line.epochs, line.values, color=line.color, marker="o" if few or len(line.epochs) == 1 else "")
    first, last = min(line.epochs[0] for line in lines), max(line.epochs[-1] for line in lines)
    if last >= 10 * min((line.epochs[-1] for line in lines if len(line.epochs) > 1), default=last):
        axes.set_xscale("log")
        _mark_decades(axes.xaxis, last / first)
        axes.set_xlim(0.9 * first, 1.1 * last)
    else:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        around = 0.04 * (last - first) or 0.5
        axes.set_xlim(first - around, last + around)
    values = np.concatenate([line.values for line in lines])
    finite = values[np.isfinite(values)]
    span = finite.max() / finite.min() if len(finite) and finite.min() > 0 else 1.0
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


def _spread(targets: Sequence[float], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """The places between low and high that lie nearest to the targets ones, in their order and a gap apart.

    Nearest in the least squares, by pooling adjacent violators.
    """
    order = np.argsort(targets, kind="stable")
    blocks: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        mean, size = targets[i] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, n = blocks.pop()
            mean, size = (before * n + mean * size) / (n + size), n + size
        blocks.append((mean, size))
    places = np.empty(len(order))
    pooled = np.repeat([mean for mean, _ in blocks], [size for _, size in blocks])
    places[order] = np.clip(pooled, low, high - (len(order) - 1) * gap) + gap * np.arange(len(order))
    return places


@house_style()
def learning_rates(
    rates: ArrayLike, losses: ArrayLike, smoothed: ArrayLike, suggestion: float | None = None
) -> "Figure":
    """The loss over the learning rate in a range test, of each step and smoothed, and the rate that it suggests.

    rates : (n,) floats > 0, rising.   losses, smoothed : (n,) floats; huge ones at the end are cut off.
    suggestion : the learning rate to mark, or None.
    Returns the Figure.
    """
    rates, smooth, its = np.asarray(rates, np.float64), np.asarray(smoothed, np.float64), colours()
    figure = new_figure()
    figure.set_size_inches(6.4, 3.6)
    axes = add_axes(figure, 0.7, 0.5, 5.5, 2.8)
    axes.plot(rates, losses, color=its.faint, lw=0.8)
    axes.plot(rates, smooth, color=its.splits["test"])
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (pale: each step; strong: smoothed)")
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
        axes.axvline(suggestion, color=its.splits["validation"], lw=1.2)
        axes.annotate(
            f"suggested: {suggestion:.2g}",
            (suggestion, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if right else 5, 2),
            textcoords="offset points",
            ha="right" if right else "left",
            color=its.splits["validation"],
        )
    return figure
