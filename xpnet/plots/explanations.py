"""What speaks for and against an answer, the hidden units that fire most, and the most similar examples."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.display import plain
from xpnet.plots.style import (
    LINE,
    SMALL,
    TITLE,
    add_axes,
    add_title,
    colours,
    house_style,
    new_figure,
    shortened,
    signed_map,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_FEATURES, MOST_UNITS, MOST_SIMILAR = 12, 10, 24
# Inches: an image, one that is similar, bars; between panels, at the edge, the head.
SIDE, TILE, BARS = 2.3, 1.0, 2.0
GAP, EDGE, HEAD = 0.3, 0.2, 0.65
SIMILAR = "most similar training examples"


class _Panel(NamedTuple):
    """A part of the picture, in inches; draw(left, top) draws it when the figure has its size."""

    width: float
    height: float
    draw: Callable[[float, float], None]


@house_style()
def explanation(explained: Any, title: str = "") -> "Figure":
    """What speaks for and against an answer: pixels or features, hidden units, and the most similar examples.

    explained : an Explanation, one of those that Model.explain returns.   title : by default what is explained.
    Returns the Figure: red is for the answer and blue against it, on scales symmetric about 0. Besides what each pixel
    contributes, an image shows the gradient, which is what ink there would contribute.
    """
    figure, near = new_figure(), explained.neighbours
    pictures = explained.image.ndim == 2
    panels = [_pixels(figure, explained) if pictures else _features(figure, explained)]
    if explained.layers:
        panels.append(_units(figure, explained))
    similar = None if near is None else _tiles(figure, near) if pictures else _rows(figure, near)
    title, equation = shortened(title or explained.what, 96), shortened(explained.equation, 96)
    width = max(
        sum(panel.width + GAP for panel in panels) - GAP,
        0.0 if similar is None else similar.width,
        text_width(figure, [title], TITLE),
        text_width(figure, [equation]),
    )
    below = 0.0 if similar is None else similar.height + EDGE
    size = width + 2 * EDGE, HEAD + max(panel.height for panel in panels) + below + EDGE
    figure.set_size_inches(size)
    add_title(figure, EDGE, title, equation)
    left = EDGE
    for panel in panels:
        panel.draw(left, size[1] - HEAD)
        left += panel.width + GAP
    if similar is not None:
        similar.draw(EDGE, EDGE + similar.height)
    return figure


def _pixels(figure: "Figure", explained: Any) -> _Panel:
    """The image, what its pixels contribute, and the gradient by them."""
    image = explained.image.astype(np.float64)
    (high, wide), (above, against, _) = image.shape, explained.terms
    height = SIDE * min(max(high / wide, 0.3), 2.0)
    ink = (image - image.min()) / (np.ptp(image) or 1.0)
    maps = {
        "what the pixels contribute": explained.contributions,
        "what ink would contribute: the gradient": explained.gradient,
    }

    def draw(left: float, top: float) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize, to_rgb

        shade = np.array(to_rgb(colours().ink))
        bottom = top - LINE - height
        axes = [add_axes(figure, left + i * (SIDE + GAP), bottom, SIDE, height) for i in range(3)]
        axes[0].imshow(ink, cmap=colours().image, vmin=0.0, vmax=1.0)
        for i, values in enumerate(maps.values(), 1):
            sizes = abs(values[np.isfinite(values) & (values != 0.0)])
            # A few pixels that stand out would pale all others.
            largest = float(np.quantile(sizes, 0.98)) if sizes.size else 1.0
            scale = ScalarMappable(Normalize(-largest, largest), signed_map())
            shown = scale.to_rgba(np.nan_to_num(values))[..., :3]
            axes[i].imshow(shown + 0.25 * ink[..., None] * (shade - shown))  # the image shines through
            below = add_axes(figure, left + i * (SIDE + GAP), bottom - 0.12, SIDE, 0.06)
            figure.colorbar(scale, below, orientation="horizontal", ticks=[-largest, 0.0, largest])
            texts = below.set_xticklabels([f"{against} {-largest:.2g}", "0", f"{above} {largest:+.2g}"], size=SMALL)
            texts[0].set_horizontalalignment("left")
            texts[-1].set_horizontalalignment("right")
            below.spines[:].set_visible(False)
            below.tick_params(length=0)
        for each, caption in zip(axes, ["the image", *maps], strict=True):
            each.set(xticks=[], yticks=[])
            each.grid(False)
            each.spines[:].set(visible=True, color=colours().pale)
            each.set_title(caption, loc="left", size=SMALL, pad=4)

    return _Panel(3 * SIDE + 2 * GAP, LINE + height + 0.35, draw)


def _features(figure: "Figure", explained: Any) -> _Panel:
    """A bar for each of the features that contribute most."""
    parts = explained.contributions.reshape(-1)
    order = np.argsort(-abs(parts), kind="stable")[:MOST_FEATURES]
    names = explained.columns or [f"feature {i}" for i in range(len(parts))]
    values = explained.image.reshape(-1)
    texts = [f"{shortened(names[i], 28)} = {plain(values[i])}" for i in order]
    title = "what the features contribute" + f", {len(order)} of {len(parts)}" * (len(order) < len(parts))
    return _bars(figure, title, texts, parts[order], parts[order], explained.decimals)


def _units(figure: "Figure", explained: Any) -> _Panel:
    """A bar for each of the units of the last hidden layer that fire most."""
    activations, parts = explained.layers[-1]
    order = np.argsort(-abs(activations), kind="stable")[:MOST_UNITS]
    title = f"activation and contribution of hidden units, {len(order)} of {len(parts)}"
    return _bars(figure, title, [f"unit {i}" for i in order], activations[order], parts[order], explained.decimals)


def _bars(
    figure: "Figure", title: str, names: Sequence[str], lengths: NDArray[Any], parts: NDArray[Any], decimals: int
) -> _Panel:
    """A bar of its length for each name, coloured by what it contributes, which is written at its right."""
    texts = [f"{part:+.{decimals}f}" for part in parts]
    before, behind = text_width(figure, names) + 0.1, text_width(figure, texts) + 0.1
    width = max(before + BARS + behind, text_width(figure, [title], SMALL))

    def draw(left: float, top: float) -> None:
        axes = add_axes(figure, left + before, top - LINE - height, BARS, height)
        finite = np.nan_to_num(lengths, posinf=0.0, neginf=0.0)
        its = colours()
        of_parts = [its.positive if part > 0 else its.negative if part < 0 else its.grey for part in parts]
        axes.barh(range(len(names)), finite, color=of_parts, height=0.7)
        axes.axvline(0.0, color=its.grey, lw=0.8)
        axes.set(xlim=(min(finite.min(), 0.0), max(finite.max(), 0.0) or 1.0), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        for i, (text, colour) in enumerate(zip(texts, of_parts, strict=True)):
            place, across = 1.0 + behind / BARS, axes.get_yaxis_transform()
            axes.text(place, i, text, color=colour, ha="right", va="center_baseline", transform=across)
        axes.text(-before / BARS, 1.0 + 4 / 72 / height, title, size=SMALL, transform=axes.transAxes)

    height = SIDE if len(names) > 6 else 0.25 * len(names)
    return _Panel(width, LINE + height, draw)


def _tiles(figure: "Figure", near: Any) -> _Panel:
    """The similar images, with the label, the distance and the index below each."""
    captions = [f"{label}\ndistance {distance:.2f}\nexample {i}" for label, distance, i in _similar(near, 16)]
    across, down = max(TILE, text_width(figure, captions, SMALL)) + GAP, TILE + 3 * LINE + EDGE
    columns = max(int(4 * SIDE / across), 1)
    count, width = -(-len(captions) // columns), min(len(captions), columns) * across - GAP

    def draw(left: float, top: float) -> None:
        _caption(figure, left, top, SIMILAR)
        for i, (image, caption) in enumerate(zip(near.images, captions, strict=False)):
            row, column = divmod(i, columns)
            axes = add_axes(figure, left + column * across, top - LINE - row * down - TILE, TILE, TILE)
            axes.imshow(image, cmap=colours().image)
            axes.set(xticks=[], yticks=[], anchor="NW")
            axes.grid(False)
            axes.spines[:].set(visible=True, color=colours().pale)
            axes.text(0.0, -0.04 / TILE, caption, size=SMALL, va="top", transform=axes.transAxes)

    return _Panel(max(width, text_width(figure, [SIMILAR], SMALL)), LINE + count * down - EDGE, draw)


def _rows(figure: "Figure", near: Any) -> _Panel:
    """A line for each similar example."""
    lines = [f"{label}, distance {distance:.2f}, example {i}" for label, distance, i in _similar(near, 48)]
    text = "\n".join([SIMILAR, *lines])
    height = LINE * (len(lines) + 1)
    return _Panel(text_width(figure, [text], SMALL), height, lambda left, top: _caption(figure, left, top, text))


def _similar(near: Any, length: int) -> list[tuple[str, float, int]]:
    """The label, the distance and the index of the similar examples, at most MOST_SIMILAR."""
    labels = near.labels or ["no label"] * len(near.indices)
    found = zip((shortened(label, length) for label in labels), near.distances, near.indices, strict=True)
    return list(found)[:MOST_SIMILAR]


def _caption(figure: "Figure", left: float, top: float, text: str) -> None:
    across, down = figure.get_size_inches()
    figure.text(left / across, top / down, text, size=SMALL, va="top", linespacing=1.4)
