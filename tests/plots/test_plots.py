"""The pictures: what is drawn, where its texts lie, how it is written, and xpnet plot."""

import dataclasses
import itertools
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet import plots
from xpnet.cli import main
from xpnet.data import SETS
from xpnet.errors import ConfigError, MissingPackageError, ModelError
from xpnet.plots import lines as plots_lines
from xpnet.plots import style
from xpnet.training.history import Epoch, read_history, write_history

matplotlib = pytest.importorskip("matplotlib", reason="the pictures are matplotlib's: pip install '.[plot]'")

DIGITS = list("0123456789")
FASHION = list(SETS["fashion-mnist"].classes)
QUICK = ["--device", "cpu", "--epochs", "2", "--hidden", "none", "--lr", "0.02", "--batch-size", "110", "--quiet"]


def history(n: int, seed: int = 0, *, validation: bool = True, test: bool = True, **first: Any) -> list[Epoch]:
    """A history of n epochs that looks like one; of the first epoch some figures can be given."""
    rng = np.random.default_rng(seed)
    epochs = []
    for i in range(1, n + 1):
        figures: dict[str, Any] = {}
        for split, there, floor in (("train", True, 0.0), ("validation", validation, 0.06), ("test", test, 0.05)):
            loss, accuracy = 2.3 / i + floor + 0.01 * rng.random(), 1.0 - 0.1 / i - floor / 5 - 0.002 * rng.random()
            figures |= {f"{split}_loss": loss if there else None, f"{split}_accuracy": accuracy if there else None}
        epochs.append(Epoch(epoch=i, learning_rate=0.1, seconds=1.0, samples_per_second=1.0, **figures))
    return [dataclasses.replace(epochs[0], **first), *epochs[1:]]


def drawn(axes: Any) -> list[Any]:
    """The lines of data, without those that lead to the labels."""
    return [line for line in axes.lines if line.get_transform().contains_branch(axes.transData)]


def labels(axes: Any) -> list[str]:
    """The labels of the curves, from above."""
    return [text.get_text() for text in sorted(axes.texts, key=lambda text: -text.get_position()[1])]


def texts(figure: Any) -> Iterator[tuple[Any, Any]]:
    """Every text that the figure shows, and its box in pixels of the written picture."""
    figure.set_dpi(style.DPI)
    figure.draw_without_rendering()
    found = list(figure.texts)
    for axes in figure.axes:
        found += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for place, text in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True):
                if low - 1e-9 <= place <= high + 1e-9:
                    found.append(text)
    return ((text, text.get_window_extent()) for text in found if text.get_text() and text.get_visible())


def assert_legible(figure: Any) -> None:
    """No text leaves the figure, and none touches another; texts at an angle are left out, since boxes are upright."""
    boxes = list(texts(figure))
    width, height = figure.get_size_inches() * style.DPI
    for text, box in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, f"{text.get_text()!r} is cut off"
    upright = [(text.get_text(), box.extents) for text, box in boxes if text.get_rotation() % 90 == 0]
    x0, y0, x1, y1 = np.array([box for _, box in upright]).T
    # Two pixels of height are the room for descenders, which most lines have not.
    touch = (x0 < x1[:, None]) & (x0[:, None] < x1) & (y0 + 2 < y1[:, None]) & (y0[:, None] + 2 < y1)
    for i, j in np.argwhere(np.triu(touch, 1)):
        pytest.fail(f"{upright[i][0]!r} and {upright[j][0]!r} overlap")


def assert_beside_images(figure: Any, beside: list[Any]) -> None:
    """None of some texts lies over an image."""
    for axes in figure.axes:
        frame = axes.get_window_extent() if axes.images else None
        for text in beside:
            box = text.get_window_extent()
            over = frame and box.x0 < frame.x1 and frame.x0 < box.x1 and box.y0 < frame.y1 and frame.y0 < box.y1
            assert not over, f"{text.get_text()!r} lies over an image"


# --- curves ----------------------------------------------------------------------------------------------------------


def test_curves_of_one_run_are_its_history() -> None:
    run = history(5)
    figure = plots.curves({"mine": run}, loss="cross-entropy")
    loss, accuracy = figure.axes
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss (nats per example)")
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy (%)")
    assert [text.get_text() for text in figure.texts] == ["mine"]
    for axes, quantity, scale in ((loss, "loss", 1.0), (accuracy, "accuracy", 100.0)):
        for line, split in zip(drawn(axes), ("train", "validation", "test"), strict=True):
            assert list(line.get_xdata()) == [1, 2, 3, 4, 5]
            np.testing.assert_allclose(line.get_ydata(), [scale * getattr(e, f"{split}_{quantity}") for e in run])
            last = line.get_ydata()[-1]
            shown = f"{split}  {last:.4f}" if axes is loss else f"{split}  {last:.2f} %"
            (label,) = [text for text in axes.texts if text.get_text() == shown]
            assert label.get_color() == line.get_color()
        assert len({line.get_color() for line in drawn(axes)}) == 3


def test_curves_without_a_finite_figure_still_have_their_epochs() -> None:
    lost = [dataclasses.replace(epoch, train_loss=math.nan) for epoch in history(3, validation=False, test=False)]
    low, high = plots.curves({"lost": lost}).axes[0].get_xlim()
    assert 0 < low < 1
    assert 3 < high < 4


def test_curves_draw_the_splits_that_are_there_and_a_unit_where_it_is_known() -> None:
    figure = plots.curves({"": history(3, validation=False, test=False)}, loss="mse")
    assert [len(drawn(axes)) for axes in figure.axes] == [1, 1]
    assert figure.axes[0].get_ylabel() == "loss"


def test_a_test_split_that_was_measured_once_is_a_point() -> None:
    epochs = [dataclasses.replace(epoch, test_loss=None, test_accuracy=None) for epoch in history(30)]
    epochs[1] = dataclasses.replace(epochs[1], test_loss=0.5, test_accuracy=0.9)
    figure = plots.curves({"run": epochs})
    for axes in figure.axes:
        (point,) = (line for line in axes.lines if np.size(line.get_xdata()) == 1)
        assert (np.asarray(point.get_xdata()).tolist(), point.get_marker()) == ([2], "o")
        assert axes.get_xscale() == "linear"
    assert "test  90.00 %" in {text.get_text() for text in figure.axes[1].texts}


def test_loss_has_a_logarithmic_scale_where_it_falls_far() -> None:
    steep, flat = history(50), history(2)
    assert [axes.get_yscale() for axes in plots.curves({"steep": steep}).axes] == ["log", "linear"]
    assert [axes.get_yscale() for axes in plots.curves({"flat": flat}).axes] == ["linear", "linear"]
    below = [*steep[:-1], dataclasses.replace(steep[-1], train_loss=-0.5)]
    assert [axes.get_yscale() for axes in plots.curves({"below 0": below}).axes] == ["linear", "linear"]


@pytest.mark.parametrize(
    ("without", "split"),
    [([{}, {}], "test"), ([{}, {"test": False}], "validation"), ([{"test": False}, {"validation": False}], "train")],
)
def test_curves_of_several_runs_compare_a_split_that_all_have(without: list[dict[str, bool]], split: str) -> None:
    runs = {name: history(4, seed, **options) for seed, (name, options) in enumerate(zip("ab", without, strict=True))}
    figure = plots.curves(runs, loss="cross-entropy")
    assert [a.get_ylabel() for a in figure.axes] == [f"{split} loss (nats per example)", f"{split} accuracy (%)"]
    for axes, quantity, scale in zip(figure.axes, ("loss", "accuracy"), (1.0, 100.0), strict=True):
        for line, run in zip(drawn(axes), runs.values(), strict=True):
            np.testing.assert_allclose(line.get_ydata(), [scale * getattr(e, f"{split}_{quantity}") for e in run])


def test_labels_of_runs_stand_in_the_order_of_their_final_values() -> None:
    runs = {f"run {seed}": history(3, seed) for seed in range(10)}
    figure = plots.curves(runs)
    for axes, form in zip(figure.axes, ("{:.4f}", "{:.2f} %"), strict=True):
        final = sorted(
            ((line.get_ydata()[-1], name) for line, name in zip(drawn(axes), runs, strict=True)), reverse=True
        )
        assert labels(axes) == [f"{name}  {form.format(value)}" for value, name in final]
        assert len({line.get_color() for line in drawn(axes)}) == 10
        heights = [text.get_window_extent().y0 for text in axes.texts]
        assert np.diff(sorted(heights)).min() >= 1.25 * style.FONT / 72 * figure.dpi


@pytest.mark.parametrize(
    "runs",
    [
        *({"run": history(n)} for n in (1, 2, 5, 100, 500)),
        {"20261121-045841-a-very-long-name-of-a-run-that-nobody-would-type-by-hand": history(3)},
        {"huge": history(4, train_loss=1e30, test_loss=1e25)},
        {"negative": history(3, train_loss=-12345.678)},
        {"the same": [dataclasses.replace(e, train_loss=2.3, test_loss=2.3, validation_loss=2.3) for e in history(5)]},
        {"zero": [*history(3), dataclasses.replace(history(4)[-1], train_loss=0.0, train_accuracy=1.0)]},
        {"nan": [*history(3), dataclasses.replace(history(4)[-1], train_loss=math.nan, test_loss=math.inf)]},
        {"nothing": history(1, train_loss=math.nan, test_loss=math.nan, validation_loss=math.nan)},
        *({f"20261121-04584{i}-fashion-mnist": history(5 + i, i) for i in range(n)} for n in (2, 5, 10, 30)),
        {f"run {i}": history(1, 7) for i in range(10)},
    ],
    ids=lambda runs: f"{len(runs)} runs, {next(iter(runs))[:9]}, {len(next(iter(runs.values())))} epochs",
)
def test_curves_are_legible(runs: dict[str, list[Epoch]]) -> None:
    assert_legible(plots.curves(runs))


@pytest.mark.parametrize("n", [1, 2, 3, 12, 100])
def test_epochs_are_whole_numbers(n: int) -> None:
    for axes in plots.curves({"": history(n)}).axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == int(tick) for tick in ticks)


def test_a_single_epoch_and_few_are_points() -> None:
    assert {line.get_marker() for axes in plots.curves({"": history(1)}).axes for line in drawn(axes)} == {"o"}
    assert {line.get_marker() for axes in plots.curves({"": history(50)}).axes for line in drawn(axes)} == {""}


def test_names_are_shown_as_they_are_or_legibly(tmp_path: Path) -> None:
    figure = plots.curves({"$x$": history(1), "a\nb\udcff漢": history(1, 1)})
    assert {label.rpartition("  ")[0] for label in labels(figure.axes[0])} == {"$x$", "a?b?漢"}
    assert not any(text.get_parse_math() for text in [*figure.axes[0].texts, *figure.texts])
    plots.save(figure, tmp_path / "without-a-warning-of-missing-letters.png")


def test_curves_need_an_epoch() -> None:
    with pytest.raises(ModelError, match=r"^late has no finished epoch: there is nothing to plot$"):
        plots.curves({"done": history(1), "late": []})
    with pytest.raises(ConfigError, match="no run"):
        plots.curves({})


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=10))
def test_spread_places_keep_their_order_and_distance(wanted: list[float]) -> None:
    places = plots_lines._spread(wanted, 0.1, 0.0, 1.0)
    order = np.argsort(wanted, kind="stable")
    assert np.all(np.diff(places[order]) >= 0.1 - 1e-9)
    assert places.min() >= -1e-9
    assert places.max() <= 1.0 + 1e-9
    if np.all(np.diff(np.sort(wanted)) >= 0.1):
        np.testing.assert_allclose(places, wanted, atol=1e-9)


def test_spread_moves_as_little_as_it_can() -> None:
    np.testing.assert_allclose(plots_lines._spread([0.5, 0.1, 0.5], 0.1, 0.0, 1.0), [0.45, 0.1, 0.55])


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
EYES = {
    "all colours": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> np.ndarray:
    c = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    t = TO_XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("its", [style.LIGHT, style.DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("kind", "least"), [("runs", 3.0), ("splits", 3.0), ("classes", 1.7)])
def test_colours_stand_out_from_the_ground_and_from_each_other(its: style.Colours, kind: str, least: float) -> None:
    colors = list(its.splits.values()) if kind == "splits" else list(getattr(its, kind))
    assert len(colors) == (3 if kind == "splits" else 10)
    for color in colors:
        assert contrast(color, its.ground) >= least, color
    for eyes, matrix in EYES.items():
        for one, other in itertools.combinations(colors, 2):
            distance = np.linalg.norm(cielab(matrix @ linear(one)) - cielab(matrix @ linear(other)))
            assert distance >= 16, f"{one} and {other} look alike to who sees {eyes}"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    low, high = sorted(0.05 + TO_XYZ[1] @ linear(color) for color in (one, other))
    return float(high / low)


def test_dark_pictures_have_the_contrasts_of_light_ones() -> None:
    light, dark = style.LIGHT, style.DARK
    for name in ("ink", "grey", "pale"):
        ratio = contrast(getattr(dark, name), dark.ground) / contrast(getattr(light, name), light.ground)
        assert 0.9 < ratio < 1.15, name
    for its in (light, dark):
        assert min(contrast(its.negative, its.ground), contrast(its.positive, its.ground)) >= 4.5
        steps = [contrast(color, its.ground) for color in its.mistakes]
        assert steps == sorted(steps)
    middle = len(dark.signed) // 2
    assert dark.signed[middle] == dark.mistakes[0] == dark.ground
    strong, weak = (contrast(dark.signed[i], dark.ground) / contrast(dark.signed[-1 - i], dark.ground) for i in (0, 1))
    assert 0.8 < strong < 1.25
    assert 0.8 < weak < 1.25


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_dark_picture_is_dark_wherever_it_is_saved(tmp_path: Path, suffix: str) -> None:
    from matplotlib.colors import to_hex

    with plots.dark():
        for i, figure in enumerate(all_pictures()):
            plots.save(figure, tmp_path / f"{i}{suffix}")
    with plots.dark():
        again = all_pictures()
    light = all_pictures()
    for i, (figure, other) in enumerate(zip(again, light, strict=True)):
        plots.save(figure, path := tmp_path / f"again{suffix}")
        assert path.read_bytes() == (tmp_path / f"{i}{suffix}").read_bytes(), "a tick has the light ground's colours"
        plots.save(other, path)
        assert path.read_bytes() != (tmp_path / f"{i}{suffix}").read_bytes()
        assert_legible(figure)
        assert to_hex(figure.get_facecolor()) == style.DARK.ground.lower()
        in_cells = list(cells(figure, 10).values()) if i == CONFUSION else []
        for text, _ in texts(figure):
            if text not in in_cells:
                assert contrast(to_hex(text.get_color()), style.DARK.ground) >= 3, text.get_text()


def test_dark_ends_with_its_block_and_can_be_off() -> None:
    def ground() -> Any:
        return plots.curves(history(2)).get_facecolor()

    light = ground()
    with plots.dark():
        dark = ground()
        with plots.dark(False):
            assert ground() == dark
    with plots.dark(False):
        assert ground() == light
    with pytest.raises(ConfigError), plots.dark():
        plots.curves({})
    assert ground() == light != dark


def test_counts_stand_out_from_their_cells() -> None:
    from matplotlib.colors import to_hex

    for its in (style.LIGHT, style.DARK):
        with plots.dark(its is style.DARK):
            figure = plots.confusion(counts_of(10, 100), DIGITS)
        (image,) = figure.axes[0].images
        shares: Any = image.get_array()
        colors = image.to_rgba(shares)
        for (row, column), text in cells(figure, 10).items():
            shade = to_hex(colors[int(row), int(column)])
            assert contrast(to_hex(text.get_color()), shade) >= 2.5, (row, column, shade)


# --- the range test --------------------------------------------------------------------------------------------------


def test_learning_rates() -> None:
    rates = np.geomspace(1e-4, 10, 60)
    smoothed = np.concatenate([np.linspace(2.3, 0.3, 50), [1e3, 1e6, 1e12, 1e30, *([np.inf] * 6)]])
    losses = smoothed + np.random.default_rng(0).normal(size=60)
    figure = plots.learning_rates(rates, losses, smoothed, 0.125)
    (axes,) = figure.axes
    raw, smooth, mark = axes.lines
    np.testing.assert_array_equal(raw.get_xdata(), rates)
    np.testing.assert_array_equal(raw.get_ydata(), losses)
    np.testing.assert_array_equal(smooth.get_ydata(), smoothed)
    np.testing.assert_array_equal(mark.get_xdata(), [0.125, 0.125])
    assert [text.get_text() for text in axes.texts] == ["suggested: 0.12"]
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "learning rate")
    low, high = axes.get_ylim()
    assert low < 0.3
    assert 2.3 < high < 5.0
    assert_legible(figure)


@pytest.mark.parametrize("suggestion", [1e-4, 0.03, 10.0, None])
@pytest.mark.parametrize("smoothed", [[2.0] * 20, np.linspace(1, 5, 20), [np.nan] * 20, np.linspace(5e4, 1, 20)])
def test_learning_rates_are_legible(smoothed: np.ndarray | list[float], suggestion: float | None) -> None:
    assert_legible(plots.learning_rates(np.geomspace(1e-4, 10, 20), smoothed, smoothed, suggestion))


# --- confusion -------------------------------------------------------------------------------------------------------


def counts_of(n: int, per_class: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = rng.poisson(0.3, (n, n)) * rng.integers(1, 200, (n, n))
    np.fill_diagonal(matrix, rng.integers(per_class // 2, per_class, n))
    return matrix


def cells(figure: Any, n: int) -> dict[tuple[int, int], Any]:
    """The texts in the cells, by row and column."""
    found = {}
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        if column < n - 0.5 and row > -0.5:
            found[row, column] = text
    return found


def test_confusion_prints_the_counts_and_colours_the_mistakes() -> None:
    matrix = np.array([[990, 10, 0], [3, 7, 0], [0, 0, 0]])
    figure = plots.confusion(matrix, ["cat", "dog", "emu"])
    axes, bar = figure.axes
    assert {place: text.get_text() for place, text in cells(figure, 3).items()} == {
        (0, 0): "990",
        (0, 1): "10",
        (1, 0): "3",
        (1, 1): "7",
    }
    shares: Any = axes.images[0].get_array()
    assert shares.mask.tolist() == np.eye(3, dtype=bool).tolist()
    np.testing.assert_allclose(shares.filled(0), [[0.0, 0.01, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert axes.images[0].get_clim() == (0.0, pytest.approx(0.3))
    assert axes.images[0].cmap(0.0) == (1.0, 1.0, 1.0, 1.0)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "dog", "emu"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["cat", "dog", "emu"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("label", "prediction")
    assert bar.get_ylabel() == "share of the label's examples"
    assert [text.get_text() for text in axes.texts if text.get_position()[0] > 2.5] == [
        "right",
        "99.0 %",
        "70.0 %",
        "-",
    ]
    assert figure.texts[0].get_text() == "13 of 1,010 examples (1.29 %) misclassified"


def test_confusion_without_mistakes_says_so() -> None:
    figure = plots.confusion(np.diag([1000, 234]), ["0", "1"])
    assert figure.texts[0].get_text() == "all 1,234 examples classified correctly"
    assert len(figure.axes) == 1
    assert_legible(figure)


@pytest.mark.parametrize(
    ("names", "per_class"),
    [
        (["0"], 5),
        (["yes", "a very long name of a class"], 50),
        (DIGITS, 1200),
        (DIGITS, 8_000_000),
        (FASHION, 1000),
        (list(SETS["emnist-letters"].classes), 900),
        (list(SETS["emnist-balanced"].classes), 400),
        (list(SETS["emnist-byclass"].classes), 60_000),
    ],
    ids=lambda value: str(len(value)) if isinstance(value, list) else str(value),
)
def test_confusion_is_legible(names: list[str], per_class: int) -> None:
    figure = plots.confusion(counts_of(len(names), per_class), names)
    assert_legible(figure)
    axes = figure.axes[0]
    assert_beside_images(figure, [*axes.get_xticklabels(), *axes.get_yticklabels()])
    for (row, column), text in cells(figure, len(names)).items():
        (x0, y1), (x1, y0) = axes.transData.transform([(column - 0.5, row - 0.5), (column + 0.5, row + 0.5)])
        box = text.get_window_extent()
        inside = x0 <= box.x0 and box.x1 <= x1 and y0 <= box.y0 and box.y1 <= y1
        assert inside, f"{text.get_text()} leaves its cell"
    assert min(float(text.get_fontsize()) for text in axes.texts) >= 4.5


def test_confusion_of_very_many_classes_has_colours_alone() -> None:
    figure = plots.confusion(counts_of(300, 40), [str(i) for i in range(300)])
    assert not figure.axes[0].texts
    assert_legible(figure)
    assert figure.get_size_inches().max() < 32


def test_a_title_stands_above_what_was_found_and_long_names_are_shortened() -> None:
    names = ["a" * 1600, "$x$\n\u202e"]
    hostile = f"{'run' * 40}\n$\\alpha$ on data, test split"
    for figure in (
        plots.confusion(np.eye(2, dtype=int), names, title=hostile),
        plots.mistakes(np.zeros((2, 4, 4)), [1, 0], np.eye(2), names, title=hostile),
        plots.weights(np.ones((16, 2)), (4, 4), title=hostile),
    ):
        title, found = (text.get_text() for text in figure.texts)
        assert title.startswith("runrunrun")
        assert title.endswith("run?$\\alpha$ on data, test split")
        assert len(title) <= 72
        assert found.startswith(("all 2 examples classified", "2 of 2 images", "first-layer"))
        assert figure.get_size_inches().max() < 16
        assert not any(text.get_parse_math() for text in figure.texts)
        assert_legible(figure)


# --- mistakes --------------------------------------------------------------------------------------------------------


def captions(figure: Any) -> list[str]:
    return [axes.texts[0].get_text() for axes in figure.axes]


def test_mistakes_are_the_surest_ones_first() -> None:
    images = np.arange(6 * 12, dtype=np.uint8).reshape(6, 3, 4)
    outputs = np.array(
        [[0.9, 0.05, 0.05], [0.4, 0.5, 0.1], [0.0, 0.05, 0.95], [0.8, 0.2, 0.0], [0.15, 0.85, 0.0], [0.2, 0.3, 0.5]]
    )
    figure = plots.mistakes(images, np.array([0, 0, 1, 2, 0, 2], np.int32), outputs, ["cat", "dog", "emu"])
    assert captions(figure) == [
        "image 2\nlabel dog: 5.0 %\npredicted emu: 95.0 %",
        "image 4\nlabel cat: 15.0 %\npredicted dog: 85.0 %",
        "image 3\nlabel emu: 0.0 %\npredicted cat: 80.0 %",
        "image 1\nlabel cat: 40.0 %\npredicted dog: 50.0 %",
    ]
    for axes, i in zip(figure.axes, (2, 4, 3, 1), strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), images[i])
        assert (image.get_clim(), image.get_cmap().name) == ((0, 255), "gray_r")
    assert figure.texts[0].get_text() == "4 of 6 images (66.67 %) misclassified"
    assert_legible(figure)
    few = plots.mistakes(images, [0, 0, 1, 2, 0, 2], outputs, ["cat", "dog", "emu"], count=2)
    assert captions(few) == captions(figure)[:2]
    assert few.texts[0].get_text().endswith("; the 2 most confident")


def test_mistakes_of_outputs_that_are_no_probabilities() -> None:
    figure = plots.mistakes(np.full((1, 2, 2), 0.5), [0], np.array([[-0.25, 1.25]]), ["a", "b"])
    assert captions(figure) == ["image 0\nlabel a: -0.25\npredicted b: 1.25"]
    assert figure.axes[0].images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_mistakes_of_a_network_that_ran_away(bad: float) -> None:
    figure = plots.mistakes(np.zeros((3, 2, 2), np.uint8), [1, 2, 1], np.full((3, 3), bad), ["a", "b", "c"])
    assert len(captions(figure)) == 3


def test_no_mistakes_is_a_picture_that_says_so() -> None:
    figure = plots.mistakes(np.zeros((3, 2, 2), np.uint8), [0, 1, 2], np.eye(3), DIGITS)
    assert figure.texts[0].get_text() == "all 3 images classified correctly"
    assert not figure.axes
    assert_legible(figure)


@pytest.mark.parametrize("names", [DIGITS, FASHION, ["a class with a name of some forty letters"] * 10])
@pytest.mark.parametrize("shape", [(28, 28), (6, 60), (60, 6), (1, 1)])
def test_mistakes_are_legible(shape: tuple[int, int], names: list[str]) -> None:
    rng = np.random.default_rng(0)
    outputs = rng.dirichlet(np.ones(10), 40)
    figure = plots.mistakes(rng.random((40, *shape)), rng.integers(0, 10, 40), outputs, names, 20)
    assert_legible(figure)
    assert_beside_images(figure, [text for axes in figure.axes for text in axes.texts])


# --- weights ---------------------------------------------------------------------------------------------------------


def test_weights_are_the_units_of_the_largest_norm_on_one_symmetric_scale() -> None:
    W = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32) * np.array([1, 5, 2, 4, 3], np.float32)
    figure = plots.weights(W, (3, 4), count=3)
    *tiles, bar = figure.axes
    assert [axes.texts[0].get_text() for axes in tiles] == ["unit 1", "unit 3", "unit 4"]
    for axes, unit in zip(tiles, (1, 3, 4), strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), W[:, unit].reshape(3, 4))
        low, high = image.get_clim()
        assert low == -high
        assert high == pytest.approx(np.abs(W[:, [1, 3, 4]]).max(), rel=0.1)
    assert bar.get_ylabel() == "weight"
    assert figure.texts[0].get_text() == "first-layer weights of 3 of 5 units, largest norm first"
    assert_legible(figure)


def test_a_weight_that_stands_out_does_not_pale_the_others() -> None:
    W = np.random.default_rng(0).uniform(-1, 1, (784, 20))
    W[5, 7] = 1e6
    figure = plots.weights(W, (28, 28))
    assert figure.axes[0].images[0].get_clim()[1] <= 1.0
    assert figure.axes[0].texts[0].get_text() == "unit 7"
    assert figure.axes[0].images[0].colorbar is None
    bar = figure.axes[19].images[0].colorbar
    assert bar is not None
    assert bar.extend == "both"


@pytest.mark.parametrize("W", [np.zeros((36, 3)), np.full((36, 2), np.nan), np.ones((36, 1)), np.eye(36)])
def test_weights_are_legible(W: np.ndarray) -> None:
    figure = plots.weights(W, (6, 6))
    assert_legible(figure)
    assert_beside_images(figure, [text for axes in figure.axes for text in axes.texts])


def test_rows_of_features_cannot_be_drawn() -> None:
    for draw in (
        lambda: plots.weights(np.ones((36, 2)), (36,)),
        lambda: plots.mistakes(np.zeros((1, 36)), [0], np.array([[0.0, 1.0]]), DIGITS),
    ):
        with pytest.raises(ConfigError, match="rows of features, not of height and width: they cannot be drawn"):
            draw()


@pytest.mark.parametrize("count", [0, -1, 501])
def test_counts_out_of_range(count: int) -> None:
    with pytest.raises(ConfigError, match=rf"count must be in \[1, 500\], not {count}"):
        plots.weights(np.ones((4, 2)), (2, 2), count)
    with pytest.raises(ConfigError, match=rf"count must be in \[1, 500\], not {count}"):
        plots.mistakes(np.zeros((1, 2, 2)), [0], np.array([[0.0, 1.0]]), DIGITS, count)


# --- writing ---------------------------------------------------------------------------------------------------------


CONFUSION = 3  # its place among them


def all_pictures() -> list[Any]:
    rng = np.random.default_rng(0)
    outputs = rng.dirichlet(np.ones(10), 30)
    return [
        plots.curves({"run": history(5)}),
        plots.curves({"a": history(5), "b": history(4, 1)}),
        plots.learning_rates([0.1, 1.0, 10.0], [3, 1, 9], [3, 2, 5], 0.5),
        plots.confusion(counts_of(10, 100), FASHION),
        plots.mistakes(rng.random((30, 5, 5)), rng.integers(0, 10, 30), outputs, DIGITS, 5),
        plots.weights(rng.normal(size=(25, 4)), (5, 5)),
    ]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_figures_give_the_same_bytes_whatever_the_user_s_settings(tmp_path: Path, suffix: str) -> None:
    for i, figure in enumerate(all_pictures()):
        plots.save(figure, tmp_path / f"{i}{suffix}")
    mine = {
        "lines.linewidth": 9,
        "font.size": 30,
        "savefig.facecolor": "red",
        "savefig.bbox": "tight",
        "svg.hashsalt": "x",
    }
    with matplotlib.rc_context(mine):
        before = dict(matplotlib.rcParams)
        for i, figure in enumerate(all_pictures()):
            plots.save(figure, tmp_path / f"again{i}{suffix}")
            assert (tmp_path / f"{i}{suffix}").read_bytes() == (tmp_path / f"again{i}{suffix}").read_bytes()
        assert dict(matplotlib.rcParams) == before
    assert matplotlib.__version__.encode() not in (tmp_path / f"0{suffix}").read_bytes()


def test_a_png_has_150_dots_per_inch_and_a_white_ground(tmp_path: Path) -> None:
    from PIL import Image

    figure = plots.curves({"run": history(5)})
    plots.save(figure, tmp_path / "CURVES.PNG")
    with Image.open(tmp_path / "CURVES.PNG") as picture:
        assert picture.size == tuple(int(150 * inches) for inches in figure.get_size_inches())
        assert set(picture.info) == {"dpi"}
        assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["curves.bmp", "curves", "png", "curves.png.gz"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(name)}: pictures are written as \.png, \.svg or \.pdf"):
        plots.save(plots.curves({"run": history(1)}), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_picture_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    figure = plots.curves({"run": history(1)})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(xpnet.ConfigError, match=r"cannot write .*: No space left"):
            plots.save(figure, path)
    assert path.read_bytes() == b"old"
    plots.save(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_pyplot_and_displays_play_no_part(tmp_path: Path) -> None:
    code = f"""
import sys
import numpy as np
import xpnet.plots as plots
assert "matplotlib" not in sys.modules
plots.save(plots.confusion(np.eye(3, dtype=int), list("abc")), {str(tmp_path / "c.png")!r})
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {"MPLBACKEND": "TkAgg", "PYTHONPATH": str(Path(xpnet.__file__).parents[1]), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c.png").exists()


def test_without_matplotlib_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r'a plot needs matplotlib, which is not installed: pip install "xpnet\[plot\]"'
    with pytest.raises(MissingPackageError, match=message):
        plots.curves({"run": history(1)})


# --- xpnet plot ------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(patterns: str, capsys: pytest.CaptureFixture[str]) -> xpnet.Model:
    """The model in the run directory run, trained so little that it reads some images wrongly."""
    assert main(["train", "--data", patterns, *QUICK, "--out", "run"]) == 0
    Path("run/curves.png").unlink(missing_ok=True)
    capsys.readouterr()
    return xpnet.load("run", "cpu")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """What each drawing function was called with, the last time."""
    calls: dict[str, tuple[Any, ...]] = {}

    def spy(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            calls[name] = (*arguments, *options.items())
            return function(*arguments, **options)

        return called

    for name in ("curves", "confusion", "mistakes", "weights"):
        monkeypatch.setattr(plots, name, spy(name, getattr(plots, name)))
    return calls


def made(directory: str = ".") -> set[str]:
    """The pictures in a directory."""
    return {path.name for path in Path(directory).iterdir() if path.suffix in (".png", ".svg", ".pdf")}


def add_run(path: str, epochs: list[Epoch]) -> None:
    Path(path).mkdir(parents=True)
    write_history(Path(path, "history.csv"), epochs)


def test_plot_draws_the_curves_of_a_run(
    trained: xpnet.Model, seen: dict[str, tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/curves.png").write_bytes(b"an older one")
    assert main(["plot", "run"]) == 0
    assert capsys.readouterr() == (f"saved {Path('run/curves.png')}\n", "")
    assert seen["curves"] == ({"run": read_history("run")}, ("loss", "cross-entropy"))
    plots.save(plots.curves({"run": read_history("run")}, loss="cross-entropy"), "same.png")
    assert Path("run/curves.png").read_bytes() == Path("same.png").read_bytes()


def test_plot_compares_runs_by_the_ends_of_their_paths(
    own_directory: None,
    seen: dict[str, tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for i, path in enumerate(("x/a", "y/a", "y/b", "x/deep/b")):
        add_run(path, history(2, i))
    assert main(["plot", "x/a", "y/a/", "y/../y/b", "x/deep/b"]) == 0
    assert capsys.readouterr() == ("saved curves.png\n", "")
    compared, loss = seen["curves"]
    assert list(compared) == [str(Path(name)) for name in ("x/a", "y/a", "y/b", "deep/b")]
    assert compared[str(Path("y/b"))] == history(2, 2)
    assert loss == ("loss", "")
    monkeypatch.chdir("x/a")
    assert main(["plot", "."]) == 0
    assert list(seen["curves"][0]) == ["a"]
    monkeypatch.chdir("../..")
    assert "curves.png" in made("x/a")
    capsys.readouterr()
    assert main(["plot", "x/a", "y/b", "--out", "two.svg"]) == 0
    assert list(seen["curves"][0]) == ["a", "b"]
    assert made() == {"curves.png", "two.svg"}


def test_plot_knows_the_loss_where_all_runs_have_the_same(
    own_directory: None, seen: dict[str, tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, loss in (
        ("a", 'loss = "mse"'),
        ("b", 'loss = "mse"'),
        ("c", 'loss = "cross-entropy"'),
        ("d", "loss ="),
        ("e", "loss = [1]"),
        ("f", f"loss = {'[' * 5000}"),
        ("g", ""),
    ):
        add_run(name, history(1))
        Path(name, "config.toml").write_text(loss, encoding="utf-8")
    if hasattr(os, "mkfifo"):  # which nobody writes to
        Path("g", "config.toml").unlink()
        os.mkfifo("g/config.toml")
    known_losses = (("ab", "mse"), ("ac", None), ("cd", ""), ("e", "[1]"), ("c", "cross-entropy"), ("f", ""), ("g", ""))
    for runs, known in known_losses:
        assert main(["plot", *runs]) == 0
        assert seen["curves"][1] == ("loss", known)


def test_runs_of_different_losses_are_compared_by_accuracy_alone() -> None:
    figure = plots.curves({"a": history(2), "b": history(3)}, loss=None)
    assert [axes.get_ylabel() for axes in figure.axes] == ["test accuracy (%)"]
    assert_legible(figure)


def test_short_runs_are_seen_beside_long_ones() -> None:
    figure = plots.curves({"short": history(3), "long": history(100)})
    for axes in figure.axes:
        assert axes.get_xscale() == "log"
        low, high = axes.get_xlim()
        assert low < 1
        assert high > 100
    assert_legible(figure)
    assert all(axes.get_xscale() == "linear" for axes in plots.curves({"a": history(11), "b": history(100)}).axes)


def test_a_poor_first_epoch_does_not_press_the_ends_together() -> None:
    poor = [
        dataclasses.replace(epoch, test_accuracy=share)
        for epoch, share in zip(history(3), (0.1, 0.5, 0.93), strict=True)
    ]
    good = [
        dataclasses.replace(epoch, test_accuracy=share)
        for epoch, share in zip(history(3), (0.95, 0.96, 0.97), strict=True)
    ]
    figure = plots.curves({"poor": poor, "good": good})
    assert figure.axes[1].get_ylim()[0] == pytest.approx(93 - 1.5 * 4)
    assert_legible(figure)
    assert plots.curves({"poor": poor}).axes[1].get_ylim()[0] < 10, "one run is shown whole"
    lower = plots.curves({"a": good, "b": good}).axes[1].get_ylim()[0]
    assert 94 < lower < 95, "nothing needs to be cut off"


def test_wrong_shapes_and_nothing_at_all() -> None:
    with pytest.raises(xpnet.ConfigError, match="the weights need 24 pixels, but images of 5x5 have 25"):
        plots.weights(np.zeros((24, 3)), (5, 5))
    figure = plots.mistakes(np.empty((0, 4, 4)), [], np.empty((0, 3)), ["a", "b", "c"])
    assert figure.texts[0].get_text() == "all 0 images classified correctly"
    for i in (0, 1):
        one = plots.mistakes(np.zeros((2, 4, 4)), [1, 1], np.eye(3)[[0, 0]], ["a", "b", "c"], count=1 + i)
        assert one.texts[0].get_text().endswith(("; the most confident one", "misclassified")[i])


def test_plot_draws_what_is_asked_for(
    trained: xpnet.Model,
    small_data: xpnet.Dataset,
    seen: dict[str, tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["plot", "run", "--confusion", "--mistakes", "--weights", "--device", "cpu"]
    assert main(arguments) == 0
    names = ("confusion.png", "mistakes.png", "weights.png")
    assert capsys.readouterr().out == "".join(f"saved {Path('run', name)}\n" for name in names)
    assert made("run") == set(names)
    assert set(seen) == {"confusion", "mistakes", "weights"}
    assert small_data.test is not None
    images, truth = small_data.test
    outputs = trained.outputs(images)
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (truth, outputs.argmax(axis=1)), 1)
    np.testing.assert_array_equal(seen["confusion"][0], matrix)
    title = "title", "run on patterns.npz, test split"
    assert seen["confusion"][1:] == (["0", "1", "2"], title)
    *passed, its_title = seen["mistakes"]
    assert its_title == title
    for each, expected in zip(passed, (images, truth, outputs, ["0", "1", "2"]), strict=True):
        np.testing.assert_array_equal(each, expected)
    np.testing.assert_array_equal(seen["weights"][0], trained.params[0])
    assert seen["weights"][1:] == ((6, 6), ("title", "run"))


def test_plot_on_a_dark_ground(trained: xpnet.Model) -> None:
    from PIL import Image

    for flags in ([], ["--confusion"], ["--mistakes"], ["--weights"]):
        for dark in (False, True):
            assert main(["plot", "run", *flags, "--out", "x.png", *["--dark"] * dark]) == 0
            with Image.open("x.png") as picture:
                assert picture.convert("RGB").getpixel((2, 2)) == ((21, 24, 28) if dark else (255, 255, 255))


def test_plot_of_another_split_and_count(
    trained: xpnet.Model, small_data: xpnet.Dataset, seen: dict[str, tuple[Any, ...]]
) -> None:
    assert main(["plot", "run", "--confusion", "--mistakes", "--weights", "--split", "train", "--count", "2"]) == 0
    assert seen["confusion"][0].sum() == 330
    np.testing.assert_array_equal(seen["mistakes"][1], small_data.train.labels)
    assert seen["mistakes"][-1] == seen["weights"][-1] == ("count", 2)


def test_plot_of_a_model_file_and_of_several(trained: xpnet.Model, capsys: pytest.CaptureFixture[str]) -> None:
    trained.save("alone.safetensors")
    assert main(["plot", "alone.safetensors", "--confusion"]) == 0
    assert main(["plot", "run", "alone.safetensors", "--weights"]) == 0
    assert main(["plot", "run", "--mistakes", "--out", "worst.pdf"]) == 0
    saved = ["alone-confusion.png", str(Path("run/weights.png")), "alone-weights.png", "worst.pdf"]
    assert capsys.readouterr().out == "".join(f"saved {name}\n" for name in saved)
    assert made() == {"alone-confusion.png", "alone-weights.png", "worst.pdf"}
    assert made("run") == {"weights.png"}


def test_plot_of_rows_of_features(
    fails: Callable[..., str], small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    images, truth = small_data.train
    rows = images.reshape(-1, 36)[:, :30]
    np.savez("rows.npz", x_train=rows, y_train=truth, x_test=rows, y_test=truth)
    assert main(["train", "--data", "rows.npz", *QUICK, "--out", "rows"]) == 0
    before = made("rows")
    capsys.readouterr()
    for flags in (["--weights"], ["--mistakes"], ["--confusion", "--weights"]):
        assert "rows of features, not of height and width" in fails(2, "plot", "rows", *flags)
    assert made("rows") == before
    assert main(["plot", "rows", "--confusion"]) == 0


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (1, ["nothere"], "nothere: no such run directory"),
        (1, ["nothere", "--weights"], "nothere: no such file; a model is a run directory or a .safetensors file"),
        (1, ["empty"], "history.csv: no such file; name a run directory"),
        (1, ["late"], "late has no finished epoch: there is nothing to plot"),
        (1, ["good", "late"], "late has no finished epoch: there is nothing to plot"),
        (1, ["damaged"], "history.csv is damaged: "),
        (1, ["good", "--confusion"], "good holds no model.safetensors"),
        (2, ["good/history.csv"], "is a file, but curves are drawn from a run directory: name one"),
        (2, ["good", "late/../good"], "good is named twice: name each run once"),
        (2, ["nothere", "--out", "x.bmp"], "x.bmp: pictures are written as .png, .svg or .pdf"),
        (2, ["good", "--out", "no/x.png"], "cannot write no/x.png: No such file or directory; name another file"),
        (2, ["good", "--out", "folder.png"], "cannot write folder.png: Is a directory; name another file"),
        (
            2,
            ["good", "--confusion", "--weights", "--out", "x.png"],
            "--out names one file, but these flags draw 2 pictures",
        ),
        (2, ["good", "empty", "--weights", "--out", "x.png"], "--out names one file, but these flags draw 2 pictures"),
        (2, ["good", "--mistakes", "--count", "0"], "--count must be in [1, 500], not 0"),
        (2, ["good", "--mistakes", "--count", "few"], "--count"),
        (2, ["good", "--confuson"], "Did you mean --confusion?"),
    ],
)
def test_wrong_use_is_one_line(fails: Callable[..., str], code: int, arguments: list[str], message: str) -> None:
    add_run("good", history(1))
    add_run("late", [])
    add_run("damaged", history(1))
    text = Path("damaged/history.csv").read_text(encoding="utf-8")
    Path("damaged/history.csv").write_text(text.replace(",0.1,", ",what,"), encoding="utf-8")
    for folder in ("empty", "folder.png"):
        Path(folder).mkdir()
    assert message.replace("no/x.png", str(Path("no/x.png"))) in fails(code, "plot", *arguments)


def test_plot_without_matplotlib(fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    add_run("good", history(1))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = 'xpnet plot needs matplotlib, which is not installed: pip install "xpnet[plot]"'
    assert fails(1, "plot", "good") == fails(1, "plot", "good", "--weights") == message


def test_pictures_of_mnist(mnist: xpnet.Dataset) -> None:
    """The pictures of a real run are legible, and the mistakes shown are mistakes."""
    network = xpnet.MLP((mnist.n_features, 16, 10))
    few = xpnet.Dataset("mnist", xpnet.Split(mnist.train.images[:2000], mnist.train.labels[:2000]), mnist.test)
    result = xpnet.fit(network, few, epochs=2, device="cpu", progress=False)
    assert mnist.test is not None
    images, truth = mnist.test
    outputs = result.model.outputs(images)
    predictions = outputs.argmax(axis=1)
    figure = plots.mistakes(images, truth, outputs, DIGITS)
    for axes in figure.axes:
        i, label, read = map(
            int, re.findall(r"image (\d+)\nlabel (\d): .*\npredicted (\d): ", axes.texts[0].get_text())[0]
        )
        assert (truth[i], predictions[i]) == (label, read)
        assert label != read
        np.testing.assert_array_equal(axes.images[0].get_array(), images[i])
    matrix = np.bincount(truth * 10 + predictions, minlength=100).reshape(10, 10)
    for drawn_figure in (
        figure,
        plots.curves({"mnist": result.history}, loss="cross-entropy"),
        plots.confusion(matrix, DIGITS),
        plots.weights(result.model.backend.to_host(result.model.params[0]), (28, 28)),
    ):
        assert_legible(drawn_figure)
