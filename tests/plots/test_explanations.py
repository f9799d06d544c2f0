"""The picture of an explanation: what is drawn, in which colours, and where its texts lie."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.export.models import made, rows_for
from tests.plots.test_plots import assert_beside_images, assert_legible
from xpnet import plots
from xpnet.data import Scaling
from xpnet.model import Explanation

pytest.importorskip("matplotlib", reason="the pictures are matplotlib's: pip install '.[plot]'")

RED, BLUE = "#B2182B", "#2166AC"
PIXELS = Scaling("pixels", None, 255.0)


def of_image(height: int = 9, width: int = 9, hidden: tuple[int, ...] = (14,), nearest: int = 5) -> Explanation:
    """Of an image of noise."""
    n_in = height * width
    model = made(sizes=(n_in, *hidden, 3), image_shape=(height, width), features=PIXELS)
    X = rows_for(model, 20)
    (each,) = model.explain(X[:1], examples=(X, np.arange(20) % 3), nearest=nearest)
    return each


def of_row(n: int = 20, **description: Any) -> Explanation:
    """Of a row of features."""
    model = made(sizes=(n, 14, 3), columns=tuple(f"column {i}" for i in range(n)), **description)
    X = rows_for(model, 20)
    y = np.arange(60.0).reshape(20, 3) if model.task == "regression" else np.arange(20) % 3
    (each,) = model.explain(X[:1], examples=(X, y))
    return each


def bars(axes: Any) -> list[tuple[str, float, str, str]]:
    """The name, the length, the colour and the text of each bar."""
    from matplotlib.colors import to_hex

    names = [label.get_text() for label in axes.get_yticklabels()]
    texts = [text.get_text() for text in axes.texts[: len(names)]]
    colours = [to_hex(bar.get_facecolor()).upper() for bar in axes.patches]
    return list(zip(names, (bar.get_width() for bar in axes.patches), colours, texts, strict=True))


def test_an_image_is_drawn_with_what_its_pixels_contribute_and_the_gradient() -> None:
    each = of_image()
    figure = plots.explanation(each, "test 8: 5")
    assert_legible(figure)
    assert_beside_images(figure, list(figure.texts))
    similar = "most similar training examples"
    assert [text.get_text() for text in figure.texts] == ["test 8: 5", each.equation, similar]
    image, contributions, gradient, *rest = figure.axes
    drawn = np.asarray(image.images[0].get_array())
    assert np.allclose(drawn, (each.image - each.image.min()) / np.ptp(each.image))
    for axes, values in ((contributions, each.contributions), (gradient, each.gradient)):
        red, _, blue = np.moveaxis(np.asarray(axes.images[0].get_array()), 2, 0)
        strong = abs(values) > 0.3 * abs(values).max()
        assert np.array_equal((red > blue)[strong], (values > 0)[strong])
    scales = [axes for axes in rest if len(axes.get_xticklabels()) == 3]
    for axes in scales:
        low, zero, high = axes.get_xticks()
        assert (low, zero) == (-high, 0.0)
        assert [label.get_text().split()[0] for label in axes.get_xticklabels()] == ["against", "0", "for"]
    assert len(scales) == 2


def test_units_have_the_length_of_their_activation_and_the_colour_of_their_contribution() -> None:
    each = of_image()
    figure = plots.explanation(each)
    (axes,) = (axes for axes in figure.axes if axes.patches)
    activations, contributions = each.layers[-1]
    found = bars(axes)
    assert len(found) == 10
    order = np.argsort(-abs(activations), kind="stable")
    for (name, length, colour, text), i in zip(found, order, strict=False):
        assert name == f"unit {i}"
        assert length == pytest.approx(activations[i])
        assert colour == (RED if contributions[i] > 0 else BLUE if contributions[i] < 0 else "#767676")
        assert float(text) == pytest.approx(contributions[i], abs=0.51 * 10.0**-each.decimals)


def test_similar_examples_have_their_label_distance_and_index() -> None:
    each = of_image()
    near = each.neighbours
    assert near is not None
    tiles = plots.explanation(each).axes[-5:]
    for axes, label, distance, i, image in zip(
        tiles, near.labels, near.distances, near.indices, near.images, strict=True
    ):
        assert axes.texts[0].get_text() == f"{label}\ndistance {distance:.2f}\nexample {i}"
        assert np.array_equal(np.asarray(axes.images[0].get_array()), image)


def test_a_table_has_a_bar_for_each_of_its_strongest_features() -> None:
    each = of_row()
    figure = plots.explanation(each)
    assert_legible(figure)
    features, units = figure.axes
    found = bars(features)
    order = np.argsort(-abs(each.contributions))
    assert len(found) == 12
    assert features.texts[-1].get_text() == "what the features contribute, 12 of 20"
    for (name, length, colour, _), i in zip(found, order, strict=False):
        assert name == f"column {i} = {each.image[i]:.5g}"
        assert length == pytest.approx(each.contributions[i])
        assert colour == (RED if length > 0 else BLUE)
    assert units.texts[-1].get_text() == "activation and contribution of hidden units, 10 of 14"
    near = each.neighbours
    assert near is not None
    assert figure.texts[-1].get_text().count("distance") == len(near.indices) == 5
    assert f"{near.labels[0]}, distance 0.00, example 0" in figure.texts[-1].get_text()


def test_values_of_features_are_written_in_full() -> None:
    each = of_row(3)
    each = dataclasses.replace(each, image=np.array([4_911_085, 0.5, 1.25e9]))
    names = {name for name, *_ in bars(plots.explanation(each).axes[0])}
    assert names == {"column 0 = 4911085", "column 1 = 0.5", "column 2 = 1.25e+09"}


@pytest.mark.parametrize(
    "each",
    [
        of_image(hidden=()),
        of_image(4, 30),
        of_image(30, 4, nearest=1),
        of_image(nearest=20),
        of_row(2),
        of_row(loss="huber", activation="tanh"),
        dataclasses.replace(of_image(), neighbours=None),
        dataclasses.replace(of_image(), layers=()),
        dataclasses.replace(
            of_row(), what="a name\n\x1b[2J $\\frac{1}{2}$ " + 200 * "x", columns=("$x_{ü}$" * 30,) * 20
        ),
        dataclasses.replace(of_image(), contributions=np.full((9, 9), np.nan), gradient=np.zeros((9, 9))),
        dataclasses.replace(of_row(), contributions=np.full(20, np.nan)),
    ],
)
def test_whatever_is_explained_is_legible(each: Explanation, tmp_path: Any) -> None:
    figure = plots.explanation(each)
    assert_legible(figure)
    plots.save(figure, tmp_path / "why.png")


def test_an_ensemble_s_reasons_are_drawn() -> None:
    members = [made(seed=seed) for seed in range(2)]
    (each,) = xpnet.Ensemble(members).explain(rows_for(members[0], 1))
    figure = plots.explanation(each)
    assert len(figure.axes) == 1
    assert_legible(figure)


def test_an_explanation_on_a_dark_ground_is_legible_and_has_the_same_signs() -> None:
    from matplotlib.colors import to_hex

    each = of_image()
    with plots.dark():
        figure = plots.explanation(each)
    assert_legible(figure)
    assert to_hex(figure.get_facecolor()) == "#15181c"
    for axes, values in zip(figure.axes[1:3], (each.contributions, each.gradient), strict=True):
        red, _, blue = np.moveaxis(np.asarray(axes.images[0].get_array()), 2, 0)
        strong = abs(values) > 0.3 * abs(values).max()
        assert np.array_equal((red > blue)[strong], (values > 0)[strong])
    (axes,) = (axes for axes in figure.axes if axes.patches)
    assert {colour for _, _, colour, _ in bars(axes)} <= {"#62AAF2", "#F27A66", "#838383"}
