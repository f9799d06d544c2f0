"""Films: what their pictures show, and how they are written."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.promises.faults import Faults
from xpnet import plots
from xpnet.errors import ConfigError
from xpnet.plots import films

matplotlib = pytest.importorskip("matplotlib", reason="the pictures are matplotlib's: pip install '.[plot]'")
image = pytest.importorskip("PIL.Image")

WHITE = (255, 255, 255)


def scenes(f: int = 3, *, names: tuple[str, ...] = ("yes", "no"), **given: Any) -> plots.Scenes:
    """Scenes of two features, at steps 0, 1, 4, 9, ..., in which everything moves."""
    rng = np.random.default_rng(0)
    k = max(1, len(names))
    extent, places = films.plane_around(rng.standard_normal((50, 2)))
    share = 1 / (1 + np.exp(-places[None, ..., 0] * np.arange(f)[:, None, None]))
    plane = plots.Plane(
        outputs=np.stack([share, 1 - share, *[0 * share] * (k - 2)][:k], axis=-1),
        extent=extent,
        points=rng.standard_normal((50, 2)),
        columns=("x1", "x2"),
    )
    about: dict[str, Any] = {
        "title": "toy: 2-3-2 relu",
        "steps": np.arange(f) ** 2,
        "n_steps": 2,
        "losses": {"train": np.linspace(1, 0.1, f), "test": np.linspace(1, 0.2, f)},
        "scores": {"train": np.linspace(0.5, 1, f), "test": np.linspace(0.5, 0.9, f)},
        "metric": "accuracy",
        "targets": rng.integers(0, k, 50) if names else rng.standard_normal(50),
        "names": names,
        "projection": rng.standard_normal((f, 50, 2)),
        "layer": "last hidden layer, validation data",
        "plane": plane,
    }
    return plots.Scenes(**{**about, **given})


def differ(one: np.ndarray, other: np.ndarray, top: float, bottom: float, left: float, right: float) -> bool:
    """Whether two pictures differ in a part of them, whose ends are in inches from the left and the bottom."""
    rows, columns = (
        slice(round(540 - 120 * top), round(540 - 120 * bottom)),
        slice(round(120 * left), round(120 * right)),
    )
    return not np.array_equal(one[rows, columns], other[rows, columns])


PLANE, BESIDE, CURVE = (3.6, 0.5, 0.8, 4.7), (3.6, 1.9, 5.4, 7.8), (1.3, 0.5, 5.4, 7.8)


def test_each_picture_shows_its_frame() -> None:
    pictures = list(plots.film(scenes(4)))
    assert [(picture.shape, picture.dtype) for picture in pictures] == [((540, 960, 3), np.uint8)] * 4
    for one, other in itertools.pairwise(pictures):
        for part in (PLANE, BESIDE, CURVE, (4.5, 4.15, 5.4, 8.0)):
            assert differ(one, other, *part)
        assert not differ(one, other, 4.5, 3.8, 0.0, 4.5), "the title moves"
        assert not differ(one, other, 4.0, 0.0, 0.0, 0.65), "the axis moves"


def test_a_picture_does_not_depend_on_those_before() -> None:
    whole, last = scenes(4), scenes(4)
    for name in ("steps", "projection"):
        object.__setattr__(last, name, getattr(whole, name)[[3]])
    for name in ("losses", "scores"):
        object.__setattr__(last, name, {split: values[[3]] for split, values in getattr(whole, name).items()})
    assert whole.plane is not None
    outputs = whole.plane.outputs[[3]]
    plane = plots.Plane(outputs=outputs, **{n: getattr(whole.plane, n) for n in ("extent", "points", "columns")})
    object.__setattr__(last, "plane", plane)
    *_, end = plots.film(whole)
    (alone,) = plots.film(last)
    assert not differ(end, alone, *PLANE)


def test_the_field_is_tinted_by_the_probabilities() -> None:
    first, *_, last = plots.film(scenes(6))
    sides = [last[300, 100].astype(int), last[300, 560].astype(int)]
    assert sides[0][0] > sides[0][2] + 40, "the left side is not vermilion, the colour of the second class"
    assert sides[1][2] > sides[1][0] + 40, "the right side is not blue"
    assert np.abs(first[300, 100].astype(int) - first[300, 560]).max() == 0, "equal probabilities have other colours"


@pytest.mark.parametrize("panel", ["filters", "plane", "projection"])
def test_a_single_panel_leaves_room_for_the_loss(panel: str) -> None:
    rng = np.random.default_rng(1)
    given: dict[str, Any] = {name: None for name in ("plane", "projection") if name != panel}
    if panel == "filters":
        given |= {"filters": rng.standard_normal((3, 30, 5, 8)), "units": 64}
    first, *_, last = plots.film(scenes(**given))
    assert differ(first, last, *PLANE)
    assert differ(first, last, *CURVE)
    assert differ(first, last, 3.6, 2.3, 5.4, 7.8)


def test_filters_are_on_one_scale() -> None:
    filters = np.zeros((2, 1, 2, 2))
    filters[0, 0, 0, 0], filters[1, 0, 0, 0], filters[:, 0, 1, 1] = 0.5, 1.0, -1.0
    first, last = plots.film(scenes(2, plane=None, projection=None, filters=filters, units=1))
    upper, lower = (slice(120, 180), slice(200, 260)), (slice(420, 480), slice(420, 480))
    assert np.array_equal(first[lower], last[lower])
    assert last[upper].astype(int).mean() < first[upper].astype(int).mean() - 30


def test_a_regression_has_a_scale_of_numbers() -> None:
    first, *_, last = plots.film(scenes(names=(), metric="r2"))
    assert differ(first, last, *PLANE)
    bar = first[55:60, 60:200].reshape(-1, 3).astype(int)
    assert {"blue", "yellow"} <= {"blue" if b > r + 40 else "yellow" if r > b + 40 else "" for r, _, b in bar}


def test_names_of_any_kind_stay_in_the_picture() -> None:
    names = (r"$\frac{1}$", "two\nlines\x1b[31m", "n" * 300, "日本", "é" * 30)
    plane = scenes().plane
    assert plane is not None
    hostile = plots.Plane(**{**vars(plane), "columns": ("$x_{", "very long " * 30)})
    first, *_ = plots.film(scenes(names=names[:2], plane=hostile, title="t$^" * 100))
    for one in (first, *plots.film(scenes(names=names, title="t$^" * 100))):
        assert (one[:45, 640:660] == 255).all(), "the title runs into the epoch"
    assert (first[:, -8:] == 255).all(), "something is cut off at the right"
    assert (first[:, :8] == 255).all()
    assert (first[-4:] == 255).all()


def test_more_classes_than_colours() -> None:
    names = tuple(f"class {i}" for i in range(23))
    pictures = list(plots.film(scenes(names=names)))
    assert differ(pictures[0], pictures[-1], *PLANE)


def test_what_is_not_a_number_is_left_out() -> None:
    bad = {"train": np.array([np.nan, np.inf, 1.0]), "test": np.array([np.nan] * 3)}
    assert len(list(plots.film(scenes(losses=bad, scores=bad, plane=None)))) == 3


def test_the_users_settings_are_theirs_between_two_pictures() -> None:
    with matplotlib.rc_context({"lines.linewidth": 7.5}):
        before = dict(matplotlib.rcParams)
        for _ in plots.film(scenes()):
            assert dict(matplotlib.rcParams) == before


def test_a_film_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs something to show"):
        next(plots.film(scenes(plane=None, projection=None)))


@pytest.mark.parametrize("kind", ["gif", "webp", "GIF"])
def test_a_written_film_is_played_as_it_should_be(tmp_path: Path, kind: str) -> None:
    path, pictures = tmp_path / f"toy.{kind}", list(plots.film(scenes(5)))
    plots.save_film(pictures, path, seconds=1.0)
    with image.open(path) as written:
        assert (written.format, written.n_frames, written.size) == (kind.upper(), 5, (960, 540))
        assert written.info["loop"] == 0
        read, durations = [], []
        for i in range(5):
            written.seek(i)
            read.append(np.asarray(written.convert("RGB")))
            durations.append(written.info["duration"])
    assert durations == [250] * 4 + [2500]
    for picture, own in zip(read, pictures, strict=True):
        assert tuple(picture[2, 2]) == WHITE
        assert np.abs(picture.astype(int) - own).mean() < 2
        assert np.array_equal(picture[:75, :400], read[0][:75, :400]), "what stands still flickers"
    assert os.listdir(tmp_path) == [path.name]


def test_a_film_is_small(tmp_path: Path) -> None:
    plots.save_film(plots.film(scenes(10)), tmp_path / "toy.gif")
    assert (tmp_path / "toy.gif").stat().st_size < 500_000


def test_the_least_time_of_a_picture(tmp_path: Path) -> None:
    plots.save_film(list(plots.film(scenes(3))), tmp_path / "toy.gif", seconds=0.001)
    with image.open(tmp_path / "toy.gif") as written:
        assert written.info["duration"] == 20


def test_where_a_film_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [np.zeros((4, 4, 3), np.uint8)]
    with pytest.raises(ConfigError, match=r"x\.mp4: a film's file ends in one of \.gif, \.webp"):
        plots.save_film(pictures, tmp_path / "x.mp4")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        plots.save_film(pictures, tmp_path / "folder.gif")
    with pytest.raises(ConfigError, match=r"x\.gif: no such folder .*missing; create it"):
        plots.save_film(pictures, tmp_path / "missing" / "x.gif")
    with Faults(monkeypatch).failing(1, "ENOSPC"), pytest.raises(ConfigError, match=r"cannot write .*: No space left"):
        plots.save_film(pictures, tmp_path / "x.gif")
    assert os.listdir(tmp_path) == ["folder.gif"]


def test_the_plane_has_one_unit_unless_the_axes_have_different_ones() -> None:
    (x0, x1, y0, y1), places = films.plane_around(np.array([[0.0, 0.0], [1.0, 2.0]]))
    assert (x1 - x0) / (y1 - y0) == pytest.approx(films.MAIN[2] / films.MAIN[3])
    assert (x0, x1, y0, y1) == pytest.approx((places[0, 0, 0], places[0, -1, 0], places[0, 0, 1], places[-1, 0, 1]))
    assert max(x0, y0) < 0
    assert min(x1, y1 - 1) > 1
    (x0, x1, y0, y1), _ = films.plane_around(np.array([[0.0, 0.0], [1.0, 2000.0]]))
    assert (x1 - x0, y1 - y0) == pytest.approx((1.12, 2240.0))
    (x0, x1, _, _), _ = films.plane_around(np.ones((3, 2)))
    assert x0 < 1 < x1


def test_a_dark_film_keeps_its_colours_where_it_is_drawn_and_saved_elsewhere(tmp_path: Path) -> None:
    with plots.dark():
        pictures = plots.film(scenes())
    frames = list(pictures)
    ground = np.array([21, 24, 28])
    assert all((frame[0, 0] == ground).all() for frame in frames)
    assert all((frame == ground).all(axis=2).mean() > 0.3 for frame in frames)
    assert not any((frame == 255).all(axis=2).any() for frame in frames)
    plots.save_film(frames, tmp_path / "film.gif", seconds=0.5)
    with image.open(tmp_path / "film.gif") as film:
        assert film.convert("RGB").getpixel((0, 0)) == (21, 24, 28)
