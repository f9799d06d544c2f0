"""Images in tiles: mistakes, and the weights of the first layer."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.checks import check_range
from xpnet.errors import ConfigError
from xpnet.plots.style import (
    MOST_TILES,
    SMALL,
    add_axes,
    add_title,
    colours,
    head_of,
    house_style,
    mistakes_of,
    new_figure,
    shortened,
    signed_map,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@house_style()
def mistakes(
    images: NDArray[np.generic],
    labels: ArrayLike,
    outputs: ArrayLike,
    names: Sequence[str],
    count: int = 24,
    *,
    title: str = "",
) -> "Figure":
    """The images that are misclassified with the most confidence: index, label, prediction, and the outputs of both.

        confidence = output of the predicted class

    images : (n, height, width), uint8 or float in [0, 1].   labels : (n,) whole numbers.
    outputs : (n, n_classes) floats, shown in % where they are probabilities.   names : of the classes.
    count : the most images, 1 to 500.   title : above the share of mistakes, such as the run and the data.
    Returns the Figure, at whose head stands if there is no mistake.
    Raises ConfigError for rows of features or a bad count.
    """
    check_range("count", count, 1, MOST_TILES, high_open=False)
    _check_images(images.shape[1:])
    labels, outputs = np.asarray(labels), np.asarray(outputs)
    predictions = outputs.argmax(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-outputs[wrong, predictions[wrong]], kind="stable")][:count]
    found, names = mistakes_of(len(wrong), len(labels), "images"), list(map(shortened, names))
    if len(worst) < len(wrong):
        found += f"; the {len(worst)} most confident" if len(worst) > 1 else "; the most confident one"
    probable = bool(outputs.min(initial=0) >= 0 and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-3))

    def shown(i: int, k: int) -> str:
        return f"{names[k]}: {100 * outputs[i, k]:.1f} %" if probable else f"{names[k]}: {outputs[i, k]:.2f}"

    captions = [f"image {i}\nlabel {shown(i, labels[i])}\npredicted {shown(i, predictions[i])}" for i in worst]
    largest = 255 if images.dtype.kind == "u" else 1.0
    shade = colours().image
    figure, _ = _tiles(images[worst], captions, title, found, columns=6, side=1.1, cmap=shade, vmin=0, vmax=largest)
    return figure


@house_style()
def weights(W: NDArray[np.floating], image_shape: Sequence[int], count: int = 60, *, title: str = "") -> "Figure":
    """The first layer's weights, an image for each unit, the units of the largest norm first.

    W : (n_in, n_out) floats.   image_shape : (height, width), whose product is n_in.
    count : the most units, 1 to 500.   title : such as the run.
    Returns the Figure: red is positive, blue negative, on one scale for all units, symmetric about 0.
    Raises ConfigError for rows of features, another number of pixels or a bad count.
    """
    check_range("count", count, 1, MOST_TILES, high_open=False)
    _check_images(image_shape)
    if math.prod(image_shape) != len(W):
        shape = "x".join(map(str, image_shape))
        raise ConfigError(f"the weights need {len(W)} pixels, but images of {shape} have {math.prod(image_shape)}")
    units = np.argsort(-np.linalg.norm(W, axis=0), kind="stable")[:count]
    filters = W.T[units].reshape(len(units), *image_shape)
    sizes = np.abs(filters[np.isfinite(filters)])
    # A few weights that stand out would pale all others: they are cut off, and the bar's ends are pointed.
    largest = float(np.quantile(sizes, 0.998)) or 1.0 if sizes.size else 1.0
    which = f"{len(units)} of {W.shape[1]}" if len(units) < W.shape[1] else f"all {len(units)}"
    figure, picture = _tiles(
        filters,
        [f"unit {i}" for i in units],
        title,
        f"first-layer weights of {which} units, largest norm first",
        columns=10,
        side=0.75,
        margin=1.0,
        cmap=signed_map(),
        vmin=-largest,
        vmax=largest,
    )
    width, height = figure.get_size_inches()
    bar_height = min(height - 0.8, 3.0)
    bar = add_axes(figure, width - 0.8, (height - 0.3 - bar_height) / 2, 0.12, bar_height)
    figure.colorbar(picture, bar, label="weight", extend="both" if sizes.max(initial=0.0) > largest else "neither")
    bar.spines[:].set_visible(False)
    return figure


def _tiles(
    images: NDArray[np.generic],
    captions: list[str],
    title: str,
    found: str,
    *,
    columns: int,
    side: float,
    margin: float = 0.2,
    **shown: Any,
) -> "tuple[Figure, Any]":
    """Images in rows, each above its caption, wider than side inches where a caption is; margin is left at the right.

    Returns the figure and the last of the images.
    """
    figure, picture = new_figure(), None
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    side = max(side, text_width(figure, captions, SMALL))
    high, wide = images.shape[1:]
    height = side * min(max(high / wide, 0.1), 3.0)
    across, down = side + 0.18, height + 0.16 * (captions[0].count("\n") + 1) + 0.18 if captions else 0.0
    title, below, needed, lower = head_of(figure, title, found)
    size = max(0.2 + columns * across - 0.18 + margin, 0.4 + needed), 0.5 + lower + rows * down
    figure.set_size_inches(size)
    add_title(figure, 0.2, title, below)
    for k, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(k, columns)
        axes = add_axes(figure, 0.2 + column * across, size[1] - 0.45 - lower - row * down - height, side, height)
        picture = axes.imshow(image, **shown)
        axes.set(xticks=[], yticks=[], anchor="NW")
        axes.spines[:].set(visible=True, color=colours().pale)
        axes.text(0.0, -0.04 / height, caption, size=SMALL, va="top", transform=axes.transAxes)
    return figure, picture


def _check_images(shape: Sequence[int]) -> None:
    if len(shape) != 2:
        raise ConfigError("the images are rows of features, not of height and width: they cannot be drawn")
