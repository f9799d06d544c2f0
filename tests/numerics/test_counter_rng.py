"""The counter-based generator: the same bits everywhere, and bits that look random."""

import numpy as np
import pytest

from tests.conftest import ArrayLibrary
from xpnet.numerics.counter_rng import bits, uniform


def draw(n: int, step: int = 0, seed: int = 0, stream: int = 0) -> np.ndarray:
    drawn: np.ndarray = uniform((n,), np.array([step]), seed=seed, stream=stream, dtype=np.float64)
    return drawn


def test_same_bits_on_every_library(xp: ArrayLibrary) -> None:
    dtype = getattr(xp.xp, xp.dtype)
    for step in (0, 1, 2**31 - 1):
        desired = uniform((13, 7), np.array([step]), seed=5, stream=2, dtype=np.float64)
        actual = xp.run(lambda s: uniform((13, 7), s, seed=5, stream=2, dtype=dtype, xp=xp.xp), xp(np.array([step])))
        assert xp.numpy(actual).dtype == xp.dtype
        assert np.array_equal(xp.numpy(actual).astype(np.float64), desired)


def test_golden_values() -> None:
    """A change of these numbers changes every dropout mask ever drawn: raise the major version with it."""
    bits = (draw(4, step=3, seed=1, stream=2) * 2**24).astype(int)
    assert bits.tolist() == GOLDEN


GOLDEN = [16446657, 16585937, 8257380, 1887580]


def test_draws_in_pieces() -> None:
    whole = draw(100, step=9)
    pieces = [uniform((50,), np.array([9]), seed=0, stream=0, dtype=np.float64, start=s) for s in (0, 50)]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_uniform_in_distribution() -> None:
    u = draw(1 << 20)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    counts, _ = np.histogram(u, bins=256, range=(0, 1))
    chi2 = float(np.sum((counts - counts.mean()) ** 2) / counts.mean())
    assert 255 - 5 * np.sqrt(2 * 255) < chi2 < 255 + 5 * np.sqrt(2 * 255)


def test_low_bits_are_random_too() -> None:
    bits = (draw(1 << 18) * 2**24).astype(np.int64)
    for k in range(24):
        share = np.mean(bits >> k & 1)
        assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(len(bits)), f"bit {k} is set in {share:.4f} of the draws"


def test_every_byte_is_even() -> None:
    words = bits(1 << 18, np.array([0]), seed=0, stream=-3)
    assert words.dtype == np.int32
    for shift in (0, 8, 16, 24):
        counts = np.bincount(words >> shift & 255, minlength=256)
        chi2 = float(np.sum((counts - counts.mean()) ** 2) / counts.mean())
        assert 255 - 5 * np.sqrt(2 * 255) < chi2 < 255 + 5 * np.sqrt(2 * 255), f"byte {shift // 8}"


def test_bytes_are_not_correlated() -> None:
    """With one another, with those of the words that follow, and with the draws of other streams."""
    words = bits(1 << 18, np.array([0]), seed=0, stream=-3)
    draws = [(words >> shift & 255) - 127.5 for shift in (0, 8, 16, 24)]
    draws += [np.roll(byte, -lag) for byte in draws for lag in (1, 28)]
    draws += [draw(1 << 18, stream=stream) for stream in (-2, -1, 0)]
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 5 / np.sqrt(len(words))


def test_uniform_draws_are_the_upper_bits() -> None:
    words = bits(1000, np.array([9]), seed=4, stream=2, start=3)
    draws = uniform((1000,), np.array([9]), seed=4, stream=2, start=3, dtype=np.float64)
    assert np.array_equal(draws * 2**24, words.view(np.uint32) >> 8)


@pytest.mark.parametrize("lag", [1, 2, 28, 128, 784])
def test_no_correlation_within_a_draw(lag: int) -> None:
    u = draw(1 << 18) - 0.5
    assert abs(np.mean(u[lag:] * u[:-lag]) * 12) < 5 / np.sqrt(len(u))


@pytest.mark.parametrize("other", [{"step": 1}, {"stream": 1}, {"seed": 1}, {"step": 1 << 20}, {"seed": 2**64}])
def test_no_correlation_between_draws(other: dict[str, int]) -> None:
    u, v = draw(1 << 18) - 0.5, draw(1 << 18, **other) - 0.5
    assert abs(np.mean(u * v) * 12) < 5 / np.sqrt(len(u))


def test_steps_do_not_share_a_window() -> None:
    """No draw is a shifted or permuted copy of another step's: the sets of values hardly meet."""
    n = 1 << 14
    first = np.unique(draw(n, step=0))
    for step in (1, 2, 3, 64, 4096):
        common = len(np.intersect1d(first, draw(n, step=step)))
        expected = n * n / 2**24
        assert common < expected + 6 * np.sqrt(expected) + 1
