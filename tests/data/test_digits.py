"""The generated digits: the same for one seed whatever the threads, in MNIST's form, various, cached, and readable."""

import logging
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.promises.faults import Faults
from xpnet.data import digits
from xpnet.files import package_text

Drawn = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return digits.draw(4000, seed=0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Splits of 70 and 30 digits, quick to draw; the list returned counts the drawings."""
    drawings: list[int] = []
    draw = digits.draw

    def counted(n: int, *, seed: int = 0, **_: object) -> Drawn:
        drawings.append(n)
        return draw(n, seed=seed)

    monkeypatch.setattr(digits, "_COUNTS", (70, 30))
    monkeypatch.setattr(digits, "draw", counted)
    return drawings


def same(left: Sequence[Drawn], right: Sequence[Drawn]) -> bool:
    return all(
        np.array_equal(a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_shapes_dtypes_and_balance(drawn: Drawn) -> None:
    images, labels = drawn
    assert (images.shape, images.dtype) == ((4000, 28, 28), np.uint8)
    assert (labels.shape, labels.dtype) == ((4000,), np.int32)
    for block in labels.reshape(-1, 1000):
        assert np.bincount(block, minlength=10).tolist() == [100] * 10
    assert np.count_nonzero(labels[1:] == labels[:-1]) == pytest.approx(400, abs=80), "the order is not random"


@pytest.mark.parametrize("n", [0, 1, 999, 1000, 1001, 2500])
def test_a_shorter_drawing_is_the_beginning_of_a_longer_one(drawn: Drawn, n: int) -> None:
    assert same([digits.draw(n, seed=0)], [(drawn[0][:n], drawn[1][:n])])


@pytest.mark.parametrize("threads", [1, 7])
def test_the_number_of_threads_does_not_matter(drawn: Drawn, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    assert same([digits.draw(2000, seed=0)], [(drawn[0][:2000], drawn[1][:2000])])


def test_another_seed_draws_other_digits(drawn: Drawn) -> None:
    images, labels = digits.draw(1000, seed=1)
    assert not np.array_equal(labels, drawn[1][:1000])
    both = np.concatenate([images, drawn[0]]).reshape(5000, -1)
    assert len(np.unique(both, axis=0)) == 5000, "two images are equal"


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (1, -1)])
def test_negative_numbers_are_refused(n: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        digits.draw(n, seed=seed)


def test_images_have_mnists_form(drawn: Drawn) -> None:
    ink = drawn[0].astype(np.float64)
    sides: list[Any] = [ink.any(2), ink.any(1)]
    extents = np.stack([28 - side.argmax(1) - side[:, ::-1].argmax(1) for side in sides])
    assert extents.max() <= 20
    assert np.mean(extents.max(0) == 20) > 0.98, "digits do not fill the box"
    axis = np.arange(28)
    centre = np.stack([(ink.sum(2) * axis).sum(1), (ink.sum(1) * axis).sum(1)]) / ink.sum((1, 2))
    assert np.quantile(np.abs(centre - 14), 0.999) < 0.51, "digits are not centred by mass"
    assert ink.mean() / 255 == pytest.approx(0.13, abs=0.02)
    assert (ink.max((1, 2)) > 200).all(), "a digit is pale"


def test_each_digit_varies_in_width_slant_and_ink(drawn: Drawn) -> None:
    images, labels = drawn
    axis = np.arange(28) - 14
    for digit in range(10):
        ink = images[labels == digit] / 255
        mass = ink.sum((1, 2))
        slant = np.einsum("nyx,y,x->n", ink, axis, axis) / np.einsum("nyx,y->n", ink, axis**2)
        assert np.std(mass) > 0.2 * np.mean(mass)
        assert np.std(slant) > 0.2
        assert np.std(ink.any(1).sum(1)) > 1.5


def test_variants_of_a_form_can_be_mixed() -> None:
    forms = tomllib.loads(package_text("xpnet.data", "strokes.toml"))["form"]
    for form in forms:
        assert form["share"] > 0
        assert form["width"] > 0
        variants = form["variants"].splitlines()
        assert len({tuple("!/".find(c) for c in v if c in "!/ ") for v in variants}) == 1, form
    assert {form["digit"] for form in forms} == set(range(10))


def test_splits_are_drawn_once_and_kept(tmp_path: Path, small: list[int]) -> None:
    splits = digits.load_splits(tmp_path / "made" / "here")
    assert small == [70, 30]
    assert [len(labels) for _, labels in splits] == [70, 30]
    assert not np.array_equal(splits[0][0][:30], splits[1][0]), "training and test digits are the same"
    assert same(digits.load_splits(tmp_path / "made" / "here"), splits)
    assert small == [70, 30], "the cached file was not used"
    assert [path.suffix for path in (tmp_path / "made" / "here").iterdir()] == [".npz"]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def other_arrays(path: Path) -> None:
    np.savez(path, train_images=np.zeros(3))


def other_shapes(path: Path) -> None:
    arrays: dict[str, Any] = {name: np.zeros((3, 28, 28), np.uint8) for name in digits._ARRAYS}
    np.savez(path, **arrays)


def pickled(path: Path) -> None:
    arrays: dict[str, Any] = {name: np.array([None]) for name in digits._ARRAYS}
    np.savez(path, **arrays)


@pytest.mark.parametrize("damage", [truncated, flipped, emptied, other_arrays, other_shapes, pickled])
def test_a_damaged_file_is_drawn_again(
    tmp_path: Path, small: list[int], caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    splits = digits.load_splits(tmp_path)
    (path,) = tmp_path.iterdir()
    damage(path)
    with caplog.at_level(logging.WARNING, "xpnet"):
        assert same(digits.load_splits(tmp_path), splits)
    assert str(path) in caplog.text
    assert small == [70, 30] * 2
    caplog.clear()
    assert same(digits.load_splits(tmp_path), splits)
    assert small == [70, 30] * 2, "the file was not mended"
    assert not caplog.text


def test_a_folder_that_cannot_be_written_costs_a_warning(
    tmp_path: Path, small: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, "xpnet"):
        splits = digits.load_splits(tmp_path / "file" / "cache")
    assert [len(labels) for _, labels in splits] == [70, 30]
    assert "cannot be saved" in caplog.text


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, small: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(monkeypatch)
    with faults.failing(2, "ENOSPC"):
        digits.load_splits(tmp_path)
    assert faults.calls[:3] == ["mkdir", "open", "write"]
    assert "No space left" in caplog.text
    assert not list(tmp_path.iterdir())


def test_the_drawing_needs_numpy_alone() -> None:
    code = "import sys; from xpnet.data import digits; print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("array_api_compat", "cupy", "torch", "jax", "matplotlib", "rich", "platformdirs"):
        assert f"'{heavy}'" not in modules


def test_ten_thousand_digits_teach_a_small_network_to_read_mnist(mnist: xpnet.Dataset) -> None:
    assert mnist.test is not None
    images, labels = digits.draw(10_000)
    reads = train(images, labels)
    accuracy = np.mean(reads(mnist.test.images) == mnist.test.labels)
    assert accuracy > 0.9


def train(
    images: np.ndarray,
    labels: np.ndarray,
    n_hidden: int = 64,
    batch_size: int = 50,
    epochs: int = 4,
    lr: float = 0.1,
    momentum: float = 0.9,
) -> Callable[[np.ndarray], np.ndarray]:
    """A ReLU network in plain NumPy, kept apart from xpnet's own; returns the function that reads images."""
    rng = np.random.default_rng(0)
    x, y = _flat(images), np.eye(10, dtype=np.float32)[labels]
    params = [
        rng.normal(0, np.sqrt(2 / x.shape[1]), (x.shape[1], n_hidden)).astype(np.float32),
        np.zeros(n_hidden, np.float32),
        rng.normal(0, np.sqrt(1 / n_hidden), (n_hidden, 10)).astype(np.float32),
        np.zeros(10, np.float32),
    ]
    velocity = [np.zeros_like(p) for p in params]
    batches = [rows for _ in range(epochs) for rows in rng.permutation(len(x)).reshape(-1, batch_size)]
    for step, rows in enumerate(batches):
        W0, b0, W1, b1 = params
        hidden = np.maximum(x[rows] @ W0 + b0, 0)
        logits = hidden @ W1 + b1
        p = np.exp(logits - logits.max(1, keepdims=True))
        dlogits = (p / p.sum(1, keepdims=True) - y[rows]) / len(rows)
        dhidden = (dlogits @ W1.T) * (hidden > 0)
        grads = [x[rows].T @ dhidden, dhidden.sum(0), hidden.T @ dlogits, dlogits.sum(0)]
        for param, v, grad in zip(params, velocity, grads, strict=True):
            v[...] = momentum * v + grad
            param[...] -= lr * (1 - step / len(batches)) * v

    def reads(images: np.ndarray) -> np.ndarray:
        classes: np.ndarray = (np.maximum(_flat(images) @ params[0] + params[1], 0) @ params[2] + params[3]).argmax(1)
        return classes

    return reads


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255
