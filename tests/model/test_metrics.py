"""What is counted of a measured model, compared with scikit-learn's figures and scipy's."""

from typing import Any

import numpy as np
import pytest

from xpnet.model import (
    by_class,
    by_output,
    confusion_matrix,
    interval,
    macro_f1,
    most_confused,
    root_mean_square,
    top_accuracy,
)
from xpnet.model.metrics import OfClass, top_k


@pytest.fixture
def sklearn() -> Any:
    return pytest.importorskip("sklearn.metrics", reason="needs the extra sklearn: pip install 'xpnet[sklearn]'")


def readings(n: int, k: int, occur: int, predicted: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the first classes alone, and outputs whose largest is among the last ones alone."""
    rng = np.random.default_rng(seed)
    labels, outputs = rng.integers(0, occur, n), rng.dirichlet(np.ones(k), n)
    outputs[np.arange(n), labels] += 0.3 * rng.random(n)
    outputs[:, : k - predicted] *= 0.01
    return labels, outputs


@pytest.mark.parametrize(("occur", "predicted"), [(7, 7), (5, 7), (7, 4), (3, 3), (1, 7)])
def test_figures_by_class_are_scikit_learn_s(sklearn: Any, occur: int, predicted: int) -> None:
    labels, outputs = readings(400, 7, occur, predicted)
    read = outputs.argmax(axis=1)
    found = by_class(labels, outputs)
    kept: dict[str, Any] = {"labels": np.arange(7), "average": None, "zero_division": np.nan}
    precision, recall, f1, n = sklearn.precision_recall_fscore_support(labels, read, **kept)
    assert [each.n for each in found] == n.tolist()
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        ours = np.array([getattr(each, name) for each in found], np.float64)  # None becomes nan
        np.testing.assert_allclose(ours, expected, rtol=1e-12, err_msg=name)
    assert macro_f1(found) == pytest.approx(sklearn.f1_score(labels, read, average="macro"), rel=1e-12)
    np.testing.assert_array_equal(
        confusion_matrix(labels, read, 7), sklearn.confusion_matrix(labels, read, labels=np.arange(7))
    )


@pytest.mark.parametrize("kind", ["u1", "i1", "i4"])
def test_a_confusion_of_small_integers(kind: str) -> None:
    matrix = confusion_matrix(np.array([30, 0], kind), np.array([30, 29], kind), 31)
    assert np.argwhere(matrix).tolist() == [[0, 29], [30, 30]]


def test_a_share_of_nothing_is_none() -> None:
    outputs = np.eye(4)[[0, 0, 1, 1]]
    found = by_class(np.array([0, 0, 1, 2]), outputs)
    never, unread, both = found[3], found[2], found[0]
    assert never == OfClass(0, None, None, None)
    assert unread == OfClass(1, None, 0.0, 0.0)
    assert both == OfClass(2, 1.0, 1.0, 1.0)
    assert macro_f1([never]) is None
    assert macro_f1([never, unread, both]) == 0.5


def test_figures_of_several_labels_are_scikit_learn_s(sklearn: Any) -> None:
    rng = np.random.default_rng(1)
    targets, outputs = (rng.random((300, 5)) < 0.4).astype(np.float32), rng.random((300, 5))
    targets[:, 3], outputs[:, 4] = 0.0, 0.1  # a label that never occurs, and one that is never predicted
    found = by_class(targets, outputs)
    kept: dict[str, Any] = {"average": None, "zero_division": np.nan}
    precision, recall, f1, n = sklearn.precision_recall_fscore_support(targets, outputs > 0.5, **kept)
    assert [each.n for each in found] == n.tolist()
    assert found[3].recall is None
    assert found[4].precision is None
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        ours = np.array([getattr(each, name) for each in found], np.float64)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, err_msg=name)
    assert macro_f1(found) == pytest.approx(np.nanmean(f1), rel=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_top_accuracy_is_scikit_learn_s(sklearn: Any, k: int) -> None:
    labels, outputs = readings(500, 12, 12, 12)
    expected = sklearn.top_k_accuracy_score(labels, outputs, k=k, labels=np.arange(12))
    assert top_accuracy(outputs, labels, k) == pytest.approx(expected, rel=1e-12)
    assert top_accuracy(outputs, labels, 1) == np.mean(outputs.argmax(axis=1) == labels)


def test_equal_outputs_are_taken_in_the_order_of_the_classes() -> None:
    outputs = np.full((4, 4), 0.25)
    assert top_accuracy(outputs, np.arange(4), 1) == np.mean(outputs.argmax(axis=1) == np.arange(4)) == 0.25
    assert top_accuracy(outputs, np.arange(4), 3) == 0.75
    assert [top_k(n) for n in (2, 3, 4, 9, 10, 100)] == [None, None, 3, 3, 5, 5]


@pytest.mark.parametrize("k", [1, 3])
def test_the_errors_of_numbers_are_scikit_learn_s(sklearn: Any, k: int) -> None:
    rng = np.random.default_rng(2)
    targets = rng.normal(size=(200, k)) * 30 + 100
    outputs = (targets + rng.normal(size=(200, k)) * np.arange(5, 5 + k)).astype(np.float32)
    raw: dict[str, Any] = {"multioutput": "raw_values"}
    found = by_output(targets, outputs)
    np.testing.assert_allclose([each.r2 for each in found], sklearn.r2_score(targets, outputs, **raw), rtol=1e-10)
    np.testing.assert_allclose(
        [each.mae for each in found], sklearn.mean_absolute_error(targets, outputs, **raw), rtol=1e-10
    )
    squares = sklearn.mean_squared_error(targets, outputs, **raw)
    np.testing.assert_allclose([each.rmse for each in found], np.sqrt(squares), rtol=1e-10)
    assert root_mean_square(outputs, targets) == pytest.approx(np.sqrt(squares.mean()), rel=1e-10)
    for unit in (1e200, 1e-200):  # whose square is infinite, or 0
        for each, moved in zip(found, by_output(unit * targets, unit * outputs.astype(float)), strict=True):
            assert moved == pytest.approx((each.r2, unit * each.mae, unit * each.rmse), rel=1e-6, abs=0)
        whole = root_mean_square(unit * outputs.astype(float), unit * targets)
        assert whole == pytest.approx(unit * np.sqrt(squares.mean()), rel=1e-6, abs=0)


def test_errors_at_the_ends_of_float64() -> None:
    ends = np.array([[1.7e308], [-1.7e308]])
    (found,) = by_output(ends, -ends)
    assert (found.r2 <= 0.0, found.mae, found.rmse) == (True, np.inf, np.inf)
    assert root_mean_square(-ends, ends) == np.inf
    (far,) = by_output(np.array([[0.0], [1e-300]]), np.full((2, 1), 1e100))
    assert (far.mae, far.rmse) == (pytest.approx(1e100), pytest.approx(1e100))


@pytest.mark.parametrize("value", [1.0, 0.1, 5.3, 1e9 / 3])
def test_an_output_that_never_varies(value: float) -> None:
    """Whatever rounding its mean needs."""
    targets = np.full((5, 2), value)
    met, missed = by_output(targets, targets + np.array([0.0, 1.0]))
    assert (met.r2, missed.r2, missed.mae, missed.rmse) == (1.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("right", "n", "expected"),
    [(8, 10, (0.4902, 0.9433)), (0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (9711, 10_000, (0.96763, 0.97421))],
)
def test_wilson_s_interval(right: int, n: int, expected: tuple[float, float]) -> None:
    assert interval(right, n) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (3, 7), (59, 60), (9698, 10_000)])
def test_wilson_s_interval_is_scipy_s(right: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs scipy, which comes with the extra sklearn")
    ends = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert interval(right, n) == pytest.approx((ends.low, ends.high), abs=1e-7)


def test_an_interval_covers_the_share_that_it_was_drawn_by() -> None:
    drawn = np.random.default_rng(0).binomial(300, 0.95, 4000)
    covered = np.mean([low <= 0.95 <= high for low, high in (interval(int(k), 300) for k in drawn)])
    assert 0.935 <= covered <= 0.97


def test_the_most_frequent_confusions_come_first_and_equal_ones_in_order() -> None:
    matrix = np.array([[50, 3, 0], [4, 60, 3], [0, 7, 0]])
    assert most_confused(matrix, 3) == [(2, 1, 7), (1, 0, 4), (0, 1, 3)]
    assert len(most_confused(matrix, 10)) == 4
    assert most_confused(np.diag([1, 2]), 10) == []
