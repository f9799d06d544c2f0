"""Distortions: an independent reference, what each amount does and how far it goes, and the same draws everywhere."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import pytest

from tests.conftest import ArrayLibrary, relative_error
from xpnet.backend import select
from xpnet.errors import ConfigError
from xpnet.numerics import streams
from xpnet.numerics.augment import STANDARD, Distortion, distort
from xpnet.numerics.counter_rng import bits, uniform

AFFINE = Distortion(rotation=25.0, scaling=0.3, shear=15.0, shift=1.5)
ELASTIC = Distortion(alpha=9.0, sigma=1.5)
BOTH = dataclasses.replace(AFFINE, alpha=5.0, sigma=2.0)


def drawn(n: int, height: int, width: int) -> np.ndarray:
    """Images of random pixels in [0, 1)."""
    return np.random.default_rng(n).random((n, height, width))


def distorted(images: np.ndarray, distortion: Distortion, step: int = 0, seed: int = 0) -> np.ndarray:
    """On NumPy, with images in and out."""
    shape = images.shape[1:]
    flat: np.ndarray = distort(images.reshape(len(images), -1), shape, distortion, np.array([step]), seed=seed)
    return flat.reshape(images.shape)


# Against a reference -------------------------------------------------------------------------------------------------


def reference(images: np.ndarray, distortion: Distortion, step: int, seed: int) -> np.ndarray:
    """The docstring's equations for one pixel after the other, with sums over all pixels in place of all cleverness."""
    n, height, width = images.shape
    affine = 2 * uniform((6, n), np.array([step]), seed=seed, stream=streams.AFFINE, dtype=np.float64) - 1
    rows, columns = (min(length, math.ceil(length / distortion.sigma)) for length in (height, width))
    size = 2 * n * rows * columns
    words = bits(-(-size // 4), np.array([step]), seed=seed, stream=streams.ELASTIC).tolist()
    noise = [((words[k % len(words)] >> 8 * (k // len(words)) & 255) - 127.5) / 128 for k in range(size)]
    u = np.array(noise).reshape(rows, columns, 2, n)
    total = sum(math.exp(-((k / distortion.sigma) ** 2) / 2) for k in range(-50, 51))
    h = height / rows, width / columns

    def g(distance: float, h: float) -> float:
        return math.sqrt(h) * math.exp(-((distance / distortion.sigma) ** 2) / 2) / total

    pixels = [(y, x) for y in range(height) for x in range(width)]
    result = np.zeros_like(images)
    for i in range(n):
        turn, slant, wide, high, right, down = affine[:, i]
        angle, tan = math.radians(distortion.rotation * turn), math.tan(math.radians(distortion.shear * slant))
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shrinking = np.diag([1 / (1 + distortion.scaling * wide), 1 / (1 + distortion.scaling * high)])
        A = rotation @ np.array([[1, tan], [0, 1]]) @ shrinking
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        for y, x in pixels:
            place = centre + A @ (np.array([x, y]) - centre) + distortion.shift * np.array([right, down])
            for row, column in np.ndindex(rows, columns):
                from_node = (
                    y - centre[1] - (row - (rows - 1) / 2) * h[0],
                    x - centre[0] - (column - (columns - 1) / 2) * h[1],
                )
                place += distortion.alpha * g(from_node[0], h[0]) * g(from_node[1], h[1]) * u[row, column, :, i]
            px, py = min(max(place[0], 0), width - 1), min(max(place[1], 0), height - 1)
            for qy, qx in pixels:
                result[i, y, x] += max(0, 1 - abs(px - qx)) * max(0, 1 - abs(py - qy)) * images[i, qy, qx]
    return result


@pytest.mark.parametrize(
    ("distortion", "shape"),
    [(AFFINE, (3, 5, 8)), (ELASTIC, (1, 7, 5)), (BOTH, (1, 2, 2))],
    ids=["affine", "elastic", "the smallest"],
)
def test_the_equations_pixel_by_pixel(distortion: Distortion, shape: tuple[int, int, int]) -> None:
    """Odd and oblong images, and one alone."""
    images = drawn(*shape)
    assert relative_error(distorted(images, distortion, 7, 3), reference(images, distortion, 7, 3)) < 1e-12


@functools.cache
def expected() -> np.ndarray:
    return reference(drawn(3, 7, 5), BOTH, 7, 3)


def test_libraries_agree(xp: ArrayLibrary) -> None:
    """The same draws on every library, to its precision."""
    images, step = xp(drawn(3, 7, 5).reshape(3, -1)), xp(np.array([7]))
    actual = xp.run(lambda x, s: distort(x, (7, 5), BOTH, s, seed=3, xp=xp.xp), images, step)
    xp.assert_close(actual, expected().reshape(3, -1), 10 * xp.tolerance)


def test_golden_values() -> None:
    """A change of these numbers changes every distortion ever drawn: raise the major version with it."""
    assert np.allclose(distorted(np.arange(9.0).reshape(1, 3, 3), BOTH, step=3, seed=1).ravel(), GOLDEN, atol=1e-6)
    assert len({streams.AFFINE, streams.ELASTIC, streams.INPUT}) == 3
    assert max(streams.AFFINE, streams.ELASTIC, streams.INPUT) < 0, "hidden layers have the streams from 0 on"


GOLDEN = [1.326583, 2.0, 2.0, 1.226246, 2.657494, 3.420318, 3.812728, 5.29581, 6.543855]


def test_the_namespace_is_looked_up() -> None:
    strict = select("device1", "array-api-strict")
    images, step = (strict.to_device(a) for a in (drawn(1, 4, 4).reshape(1, -1), np.array([0])))
    assert distort(images, (4, 4), BOTH, step).device == images.device


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_an_amount_nothing_changes(dtype: str) -> None:
    """To the last bit: of multiples of 1/256 no difference is rounded."""
    images = (np.floor(256 * drawn(3, 6, 7)) / 256).astype(dtype)
    assert np.array_equal(distorted(images, Distortion()), images)


def test_float32_is_float64_rounded() -> None:
    images = drawn(8, 28, 28)
    single = distorted(images.astype(np.float32), STANDARD)
    assert single.dtype == np.float32
    assert np.abs(single - distorted(images, STANDARD)).max() < 1e-4


def test_values_stay_within_those_of_the_image() -> None:
    images = 0.25 + 0.5 * drawn(20, 9, 12)
    wild = Distortion(rotation=180.0, scaling=0.9, shear=80.0, shift=20.0, alpha=200.0, sigma=1.0)
    found = distorted(images, wild)
    low, high = (function(images, axis=(1, 2), keepdims=True) for function in (np.min, np.max))
    assert (found >= low - 1e-15).all()
    assert (found <= high + 1e-15).all()


@pytest.mark.parametrize(
    ("name", "largest"),
    [("rotation", 180.0), ("shift", 1000.0), ("alpha", 10000.0), ("scaling", 0.9999999), ("shear", 89.9)],
)
@pytest.mark.parametrize("sigma", [0.1, 100.0])
def test_the_largest_amounts_are_finite(name: str, largest: float, sigma: float) -> None:
    for dtype in (np.float32, np.float64):
        found = distorted(drawn(50, 5, 6).astype(dtype), Distortion(**{name: largest, "sigma": sigma}))
        assert ((found >= 0) & (found <= 1)).all()


# What the amounts mean -----------------------------------------------------------------------------------------------


def maps(distortion: Distortion, n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """The matrices A (n, 2, 2) and shifts t (n, 2) of an affine map, told by what it makes of slopes in x and in y."""
    y, x = np.mgrid[0:9, 0:9] - 4.0
    slopes = np.array([distorted(np.broadcast_to(slope, (n, 9, 9)).copy(), distortion) for slope in (x, y)])
    middle, right, below = (slopes[:, :, i, j] for i, j in ((4, 4), (4, 5), (5, 4)))
    return np.moveaxis(np.array([right - middle, below - middle]), 0, -1).swapaxes(0, 1), middle.T


def assert_even(draws: np.ndarray, low: float, high: float) -> None:
    """Draws, a row for each kind, fill a range evenly and each by itself."""
    for row in draws:
        assert low <= row.min() < low + 0.01 * (high - low)
        assert high >= row.max() > high - 0.01 * (high - low)
        assert row.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
        assert row.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.05)
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.12


def test_rotation_is_by_up_to_so_many_degrees_either_way() -> None:
    A, t = maps(Distortion(rotation=30.0))
    assert_even(np.degrees(np.arctan2(A[:, 1, 0], A[:, 0, 0]))[None], -30.0, 30.0)
    assert np.allclose(A @ A.swapaxes(1, 2), np.eye(2))
    assert np.allclose(np.linalg.det(A), 1.0)
    assert np.allclose(t, 0.0)


def test_scaling_is_by_up_to_such_a_share_in_each_direction() -> None:
    A, t = maps(Distortion(scaling=0.4))
    assert_even(1 / np.array([A[:, 0, 0], A[:, 1, 1]]), 0.6, 1.4)
    assert np.allclose(A[:, [0, 1], [1, 0]], 0.0)
    assert np.allclose(t, 0.0)


def test_shear_slants_upright_lines_by_up_to_so_many_degrees() -> None:
    A, t = maps(Distortion(shear=20.0))
    assert_even(np.degrees(np.arctan(A[:, 0, 1]))[None], -20.0, 20.0)
    assert np.allclose(A[:, [0, 1, 1], [0, 0, 1]], [1.0, 0.0, 1.0])
    assert np.allclose(t, 0.0)


def test_shift_is_by_up_to_so_many_pixels_in_each_direction() -> None:
    A, t = maps(Distortion(shift=2.5))
    assert_even(t.T, -2.5, 2.5)
    assert np.allclose(A, np.eye(2))


def test_all_amounts_are_drawn_by_themselves() -> None:
    A, t = maps(AFFINE, 20_000)
    angle = np.arctan2(A[:, 1, 0], A[:, 0, 0])
    wide, high = np.hypot(A[:, 0, 0], A[:, 1, 0]), np.linalg.det(A)
    found = np.array([angle, wide, high / wide, (A[:, :, 0] * A[:, :, 1]).sum(1) / high, *t.T])
    assert np.abs(np.corrcoef(found) - np.eye(6)).max() < 5 / math.sqrt(20_000)


PICTURE = np.arange(25.0).reshape(1, 5, 5)
FOLLOWING, PRECEDING, DOUBLE = [1, 2, 3, 4, 4], [0, 0, 1, 2, 3], [0, 0, 2, 4, 4]
ROWS = np.arange(5)[:, None]


@pytest.mark.parametrize(
    ("amount", "draw", "desired"),
    [
        ({"rotation": 90.0}, 1, np.rot90(PICTURE[0])),
        ({"rotation": 90.0}, -1, np.rot90(PICTURE[0], -1)),
        ({"shift": 1.0}, 1, PICTURE[0][FOLLOWING][:, FOLLOWING]),
        ({"shift": 1.0}, -1, PICTURE[0][PRECEDING][:, PRECEDING]),
        ({"scaling": 0.5}, -1, PICTURE[0][DOUBLE][:, DOUBLE]),
        ({"scaling": 0.5}, 1, 12 + (PICTURE[0] - 12) / 1.5),
        ({"shear": 45.0}, 1, PICTURE[0][ROWS, np.clip(ROWS.T + (ROWS - 2), 0, 4)]),
        ({"shear": 45.0}, -1, PICTURE[0][ROWS, np.clip(ROWS.T - (ROWS - 2), 0, 4)]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict | int) else "",
)
def test_a_picture_by_hand(
    monkeypatch: pytest.MonkeyPatch, amount: dict[str, float], draw: int, desired: np.ndarray
) -> None:
    """The whole amount, one way and the other; beyond the edge lies more of it."""

    def uniform(shape: tuple[int, ...], *_: Any, dtype: Any, **__: Any) -> np.ndarray:
        return np.full(shape, (draw + 1) / 2, dtype)

    monkeypatch.setattr("xpnet.numerics.augment.uniform", uniform)
    assert np.allclose(distorted(PICTURE, Distortion(**amount))[0], desired)


def test_elastic_displacements_are_as_large_as_documented() -> None:
    """Alpha 34 and sigma 4 displace by 1.38 pixels, in x and in y alike, and by no more one way than the other."""
    n, middle = 1500, np.s_[:, 9:20:10, 9:20:10]
    simard = Distortion(alpha=34.0, sigma=4.0)
    y, x = np.mgrid[0:29, 0:29].astype(np.float32)
    found = []
    for slope in (x, y):
        displaced = distorted(np.broadcast_to(slope, (n, 29, 29)).copy(), simard) - slope
        found.append(displaced[middle].ravel())
        assert displaced[:, 14, 0].std() < 0.9 * found[-1].std(), "the noise ends at the edge"
    for displacement in found:
        assert displacement.std() == pytest.approx(34.0 / (2 * 4.0 * math.sqrt(3 * math.pi)), rel=0.04)
        assert abs(displacement.mean()) < 5 * 1.38 / math.sqrt(n)
    assert abs(np.corrcoef(found)[0, 1]) < 5 / math.sqrt(n)


def test_elastic_displacements_are_smooth() -> None:
    """Those of pixels d apart go together as exp(-(d / 2 sigma)^2), and those of two images do not."""
    n, sigma = 1500, 2.0
    slope = np.broadcast_to(np.mgrid[0:21, 0:21][1].astype(np.float32), (n, 21, 21)).copy()
    field = distorted(slope, Distortion(alpha=10.0, sigma=sigma)) - slope
    for other, distance in ((field[:, 10, 12], 2), (field[:, 14, 10], 4), (np.roll(field[:, 10, 10], 1), math.inf)):
        correlation = np.corrcoef(field[:, 10, 10], other)[0, 1]
        assert correlation == pytest.approx(math.exp(-((distance / (2 * sigma)) ** 2)), abs=5 / math.sqrt(n))


@pytest.mark.parametrize("distortion", [AFFINE, ELASTIC], ids=["affine", "elastic"])
def test_draws_differ_by_image_step_and_seed_and_repeat(distortion: Distortion) -> None:
    images = np.broadcast_to(drawn(1, 8, 8), (4, 8, 8)).copy()
    base = distorted(images, distortion, step=5)
    assert np.array_equal(base, distorted(images, distortion, step=5))
    others = [distorted(images, distortion, step=6), distorted(images, distortion, step=5, seed=1), np.roll(base, 1, 0)]
    for other in others:
        assert (np.abs(base - other).mean(axis=(1, 2)) > 0.01).all()


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ({"rotation": 181.0}, "augment.rotation must be in [0, 180], not 181"),
        ({"rotation": -1.0}, "augment.rotation must be in [0, 180], not -1"),
        ({"scaling": 1.0}, "augment.scaling must be in [0, 1), not 1"),
        ({"shear": 90}, "augment.shear must be in [0, 90), not 90"),
        ({"shift": -0.5}, "augment.shift must be in [0, 1000], not -0.5"),
        ({"shift": math.inf}, "augment.shift must be in [0, 1000], not inf"),
        ({"alpha": math.nan}, "augment.alpha must be in [0, 10000], not nan"),
        ({"alpha": 1e39}, "augment.alpha must be in [0, 10000], not 1e+39"),
        ({"sigma": 0.0}, "augment.sigma must be in [0.1, 100], not 0"),
        ({"sigma": 1e9}, "augment.sigma must be in [0.1, 100], not 1e+09"),
        ({"rotation": "15"}, "augment.rotation must be a number, not '15'"),
        ({"shift": True}, "augment.shift must be a number, not True"),
        ({"alpha": None}, "augment.alpha must be a number, not None"),
    ],
)
def test_bad_amounts(amounts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Distortion(**amounts)
    assert str(error.value) == message


@pytest.mark.parametrize("shape", [(), (36,), (1, 36), (36, 1), (3, 4, 3)])
def test_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="augment needs two-dimensional images, at least 2 by 2, not of shape"):
        distort(np.zeros((1, 36)), shape, STANDARD, np.array([0]))


def test_numpy_numbers_do_not_promote_float32() -> None:
    amounts = Distortion(rotation=np.float64(10.0), alpha=np.float32(3.0), shift=2)  # type: ignore[arg-type]
    assert {type(value) for value in dataclasses.asdict(amounts).values()} == {float}
    assert distorted(drawn(2, 4, 4).astype(np.float32), amounts).dtype == np.float32


def test_distortions_in_words() -> None:
    assert str(Distortion()) == "none"
    assert str(Distortion(sigma=6.0)) == "none"
    assert str(Distortion(rotation=7.5, alpha=34)) == "rotation=7.5 alpha=34 sigma=4"
