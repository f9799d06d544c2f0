"""Ours beside scikit-learn's: from the same weights, the same steps; the same printed lines, warnings and errors."""

import copy
import re
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra sklearn")

from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.datasets import load_digits, make_multilabel_classification, make_regression
from sklearn.utils.validation import has_fit_parameter

from xpnet import sklearn as ours

# Said of scikit-learn 1.6 on a SciPy that is newer than it.
OLDER = "scipy.optimize: The `disp` and `iprint` options"
pytestmark = pytest.mark.filterwarnings(f"ignore:{OLDER.replace(':', '.')}:DeprecationWarning")

# Since 1.7, scikit-learn's has weights of rows and the Poisson loss.
WEIGHTED = has_fit_parameter(theirs.MLPRegressor, "sample_weight")
SETTINGS: dict[str, dict[str, Any]] = {
    "nesterov": {"solver": "sgd"},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "plain": {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False, "batch_size": 17},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.1},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
    "adam": {"solver": "adam", "alpha": 0.1},
    "adam of other rates": {"solver": "adam", "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-4, "alpha": 0.0},
}
SIZES = (7, 5)
WEIGHTS = [False, True] if WEIGHTED else [False]


def digits(n_class: int) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(n_class=n_class, return_X_y=True)
    return X[:60, ::4] / 16, y[:60]


def numbers(n_targets: int) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_regression(60, 6, n_targets=n_targets, random_state=3)
    return X, y / 100


def labels() -> tuple[np.ndarray, np.ndarray]:
    X, y = make_multilabel_classification(60, 8, n_classes=3, random_state=3)
    return X / 10, y


def counts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60, 4))
    return X, rng.poisson(np.exp(X[:, 0] / 2))


# Each task: the class, its settings, the data, the outputs and their activation.
Task = tuple[str, dict[str, Any], tuple[np.ndarray, np.ndarray], int, str]
TASKS: dict[str, Task] = {
    "binary": ("MLPClassifier", {}, digits(2), 1, "logistic"),
    "multiclass": ("MLPClassifier", {}, digits(4), 4, "softmax"),
    "multilabel": ("MLPClassifier", {}, labels(), 3, "logistic"),
    "one number": ("MLPRegressor", {}, numbers(1), 1, "identity"),
    "three numbers": ("MLPRegressor", {}, numbers(3), 3, "identity"),
}
if WEIGHTED:
    TASKS["poisson"] = ("MLPRegressor", {"loss": "poisson"}, counts(), 1, "exp")


def begun(module: Any, task: Task, **settings: Any) -> Any:
    """An estimator that begins with the same weights in both modules, those of scikit-learn's test_fit among them."""
    name, defaults, (X, _), outputs, activation = task
    estimator = getattr(module, name)(**{"hidden_layer_sizes": SIZES, **defaults, **settings})
    rng = np.random.default_rng(5)
    sizes = (X.shape[1], *SIZES, outputs)
    estimator.coefs_ = [rng.normal(0, a**-0.5, (a, b)) for a, b in pairwise(sizes)]
    estimator.intercepts_ = [rng.normal(0, 0.1, b) for b in sizes[1:]]
    estimator.n_features_in_, estimator.n_outputs_, estimator.n_layers_ = X.shape[1], outputs, len(sizes)
    estimator.out_activation_, estimator.best_loss_, estimator.loss_curve_ = activation, np.inf, []
    estimator.t_ = estimator.n_iter_ = estimator._no_improvement_count = 0
    estimator.validation_scores_, estimator.best_validation_score_ = None, None
    return estimator


def assert_same(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    for mine, yours in zip([*a.coefs_, *a.intercepts_], [*b.coefs_, *b.intercepts_], strict=True):
        np.testing.assert_allclose(mine, yours, rtol=tolerance, atol=tolerance)
    assert a.loss_ == pytest.approx(b.loss_, rel=tolerance, abs=tolerance)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("weighted", WEIGHTS)
@pytest.mark.parametrize("solver", SETTINGS)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", TASKS)
def test_the_same_steps(task: str, activation: str, solver: str, weighted: bool) -> None:
    settings = {"learning_rate_init": 0.05, "alpha": 0.01, "batch_size": 16, "max_iter": 7, **SETTINGS[solver]}
    settings |= {"activation": activation, "shuffle": False, "warm_start": True, "random_state": 0}
    X, y = TASKS[task][2]
    weights = {"sample_weight": np.random.default_rng(1).uniform(0.1, 3, len(X))} if weighted else {}
    mine, yours = (begun(module, TASKS[task], **settings).fit(X, y, **weights) for module in (ours, theirs))
    assert_same(mine, yours)
    np.testing.assert_allclose(mine.loss_curve_, yours.loss_curve_, rtol=1e-9)
    assert (mine.n_iter_, mine.t_) == (yours.n_iter_, yours.t_)
    assert mine.best_loss_ == pytest.approx(yours.best_loss_, rel=1e-9)
    np.testing.assert_allclose(mine.predict(X), yours.predict(X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver", SETTINGS)
@pytest.mark.parametrize("task", ["binary", "multilabel", "three numbers"])
def test_the_same_partial_fits(task: str, solver: str) -> None:
    """One pass each, over other rows each time; what the optimizer has in memory goes on."""
    settings = {"learning_rate_init": 0.05, "alpha": 0.01, "batch_size": 16, **SETTINGS[solver]}
    (name, _, (X, y), *_), pair = TASKS[task], []
    for module in (ours, theirs):
        estimator = begun(module, TASKS[task], **settings, shuffle=False)
        for i in range(8):
            rows = slice(0, 60 - 7 * (i % 3))
            classes = {"classes": [0, 1, 2] if y.ndim == 2 else [0, 1]} if "Classifier" in name and i == 0 else {}
            estimator.partial_fit(X[rows], y[rows], **classes)
        pair.append(estimator)
    mine, yours = pair
    assert_same(mine, yours)
    np.testing.assert_allclose(mine.loss_curve_, yours.loss_curve_, rtol=1e-9)
    assert (mine.n_iter_, mine.t_) == (yours.n_iter_, yours.t_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("stopping", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("solver", SETTINGS)
@pytest.mark.parametrize("task", TASKS)
def test_the_same_draws(task: str, solver: str, stopping: bool) -> None:
    """First weights, rows held out and order of the rows are drawn from random_state as there."""
    name, defaults, (X, y), *_ = TASKS[task]
    settings = {"learning_rate_init": 0.02, "batch_size": 16, "max_iter": 6, "activation": "tanh", **SETTINGS[solver]}
    settings |= {"early_stopping": stopping, "validation_fraction": 0.2, "hidden_layer_sizes": SIZES, **defaults}
    for seed in (3, np.random.RandomState(3)):
        mine, yours = (
            getattr(module, name)(random_state=copy.deepcopy(seed), **settings).fit(X, y) for module in (ours, theirs)
        )
        assert_same(mine, yours)
        np.testing.assert_allclose(mine.loss_curve_, yours.loss_curve_, rtol=1e-9)
        assert mine.n_iter_ == yours.n_iter_
        if stopping:
            np.testing.assert_allclose(mine.validation_scores_, yours.validation_scores_, rtol=1e-9)
            assert mine.best_validation_score_ == pytest.approx(yours.best_validation_score_, rel=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("weighted", WEIGHTS)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh"])
@pytest.mark.parametrize("task", [task for task in TASKS if task != "three numbers"])
def test_the_same_steps_of_lbfgs(task: str, activation: str, weighted: bool) -> None:
    """A few, since each multiplies what rounding differs by: without the kinks of relu, by which a search is torn.

    For several numbers, scikit-learn's gradient is not that of its loss, but as many times larger.
    """
    settings = {"solver": "lbfgs", "activation": activation, "alpha": 0.3, "max_iter": 6, "warm_start": True}
    X, y = TASKS[task][2]
    weights = {"sample_weight": np.random.default_rng(1).uniform(0.1, 3, len(X))} if weighted else {}
    mine, yours = (begun(module, TASKS[task], **settings).fit(X, y, **weights) for module in (ours, theirs))
    assert_same(mine, yours, 1e-7)
    assert mine.n_iter_ == yours.n_iter_ == 6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("task", "alpha"),
    [("one number", 0.3), ("one number", 1.0)]
    + [(task, alpha) for task in TASKS if "number" not in task for alpha in (1e-3, 0.03, 1.0)],
)
def test_the_same_minimum(task: str, alpha: float) -> None:
    """From weights of one's own: with the identity as activation, every minimum is as low as the lowest.

    Where scikit-learn's own, from eight starts, agree with each other.
    """
    name, defaults, (X, y), *_ = TASKS[task]
    settings = {"solver": "lbfgs", "activation": "identity", "hidden_layer_sizes": 8, "tol": 1e-6, "max_iter": 1000}
    losses = [
        getattr(module, name)(alpha=alpha, random_state=seed, **settings, **defaults).fit(X, y).loss_
        for seed, module in enumerate((ours, theirs))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=3e-3)


def lines(capsys: pytest.CaptureFixture[str], module: Any, task: str, **settings: Any) -> str:
    begun(module, TASKS[task], shuffle=False, random_state=0, verbose=True, **settings).fit(*TASKS[task][2])
    return capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("task", "settings", "last"),
    [
        ("binary", {"max_iter": 3}, "Iteration 3, loss = "),
        ("three numbers", {"max_iter": 3, "solver": "sgd"}, "Iteration 3, loss = "),
        ("binary", {"tol": 0.3, "n_iter_no_change": 2}, "for 2 consecutive epochs. Stopping."),
        (
            "binary",
            {"tol": 0.3, "n_iter_no_change": 1, "solver": "sgd", "learning_rate": "adaptive", "max_iter": 40},
            "Learning rate too small. Stopping.",
        ),
    ],
)
def test_the_same_lines_are_printed(
    capsys: pytest.CaptureFixture[str], task: str, settings: dict[str, Any], last: str
) -> None:
    mine, yours = (lines(capsys, module, task, warm_start=True, **settings) for module in (ours, theirs))
    assert mine == yours
    assert last in mine.splitlines()[-1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("module", [ours, theirs], ids=["ours", "theirs"])
def test_the_lines_of_early_stopping(capsys: pytest.CaptureFixture[str], module: Any) -> None:
    X, y = TASKS["binary"][2]
    fitted = module.MLPClassifier(
        early_stopping=True, verbose=True, tol=0.3, n_iter_no_change=2, random_state=0, max_iter=90
    ).fit(X, y)
    expected = [
        line
        for i, (loss, score) in enumerate(zip(fitted.loss_curve_, fitted.validation_scores_, strict=True))
        for line in (f"Iteration {i + 1}, loss = {loss:.8f}", f"Validation score: {score:f}")
    ]
    end = "Validation score did not improve more than tol=0.300000 for 2 consecutive epochs. Stopping."
    assert capsys.readouterr().out.splitlines() == [*expected, end]


def told(module: Any, call: Callable[[Any], Any]) -> list[tuple[type, str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(module)
    found = [(warning.category, str(warning.message)) for warning in caught]
    return [(category, message) for category, message in found if not message.startswith(OLDER)]


X, Y = TASKS["binary"][2]
WARNINGS: dict[str, Callable[[Any], Any]] = {
    "did not converge": lambda m: begun(m, TASKS["binary"], max_iter=3, warm_start=True).fit(X, Y),
    "lbfgs did not converge": lambda m: begun(
        m, TASKS["binary"], solver="lbfgs", max_iter=3, warm_start=True, tol=1e-9
    ).fit(X, Y),
    "lbfgs evaluated too often": lambda m: begun(
        m, TASKS["binary"], solver="lbfgs", max_fun=3, warm_start=True, tol=1e-9
    ).fit(X, Y),
    "a batch larger than the data": lambda m: m.MLPClassifier(batch_size=999, tol=1, n_iter_no_change=1).fit(X, Y),
    "a column of labels": lambda m: m.MLPClassifier(tol=1, n_iter_no_change=1).fit(X, Y[:, None]),
    "a column of numbers": lambda m: m.MLPRegressor(tol=1, n_iter_no_change=1).fit(X, Y[:, None]),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_the_same_warnings(case: str) -> None:
    mine, yours = (told(module, WARNINGS[case]) for module in (ours, theirs))
    assert mine == yours
    assert len(mine) == 1


def frame(*columns: str) -> Any:
    pandas = pytest.importorskip("pandas", reason="names of features are a DataFrame's")
    return pandas.DataFrame(X[:, : len(columns)], columns=list(columns))


def fitted(module: Any, **settings: Any) -> Any:
    return module.MLPClassifier(**{"tol": 1, "n_iter_no_change": 1, **settings}).fit(X, Y)


def began(module: Any, **settings: Any) -> Any:
    return module.MLPClassifier(**settings).partial_fit(X, Y, classes=[0, 1])


def built(module: Any, name: str, **settings: Any) -> Any:
    return getattr(module, name)(**settings).fit(X, Y)


CONSTRUCTED: list[tuple[str, dict[str, Any]]] = [
    ("MLPClassifier", settings)
    for settings in (
        {"hidden_layer_sizes": -1},
        {"hidden_layer_sizes": (3, 0)},
        {"hidden_layer_sizes": 2.5},
        {"hidden_layer_sizes": "many"},
        {"solver": "rmsprop"},
        {"alpha": -1.0},
        {"alpha": "1"},
        {"alpha": np.nan},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"batch_size": "all"},
        {"learning_rate": "cosine"},
        {"learning_rate_init": 0},
        {"power_t": -0.5},
        {"max_iter": 0},
        {"max_iter": 10.0},
        {"shuffle": "yes"},
        {"random_state": "x"},
        {"random_state": -1},
        {"tol": -1},
        {"verbose": "loud"},
        {"warm_start": 2},
        {"momentum": 1.5},
        {"nesterovs_momentum": None},
        {"early_stopping": "auto"},
        {"validation_fraction": 1.0},
        {"beta_1": 1.0},
        {"beta_2": -0.1},
        {"epsilon": 0.0},
        {"n_iter_no_change": 0},
        {"n_iter_no_change": 2.5},
        {"max_fun": 0},
    )
]
if WEIGHTED:
    CONSTRUCTED += [("MLPRegressor", {"loss": "huber"})]
FAULTS: dict[str, Callable[[Any], Any]] = {
    "NaN": lambda m: m.MLPClassifier().fit(np.where(X > 0.5, np.nan, X), Y),
    "infinity": lambda m: m.MLPRegressor().fit(np.where(X > 0.5, np.inf, X), Y),
    "one dimension": lambda m: m.MLPClassifier().fit(X[:, 0], Y),
    "three dimensions": lambda m: m.MLPClassifier().fit(X[None], Y),
    "no rows": lambda m: m.MLPClassifier().fit(X[:0], Y[:0]),
    "no columns": lambda m: m.MLPClassifier().fit(X[:, :0], Y),
    "complex": lambda m: m.MLPClassifier().fit(X + 1j, Y),
    "words": lambda m: m.MLPClassifier().fit([["a", "b"], ["c", "d"]], [0, 1]),
    "rows of several lengths": lambda m: m.MLPClassifier().fit([[1, 2], [3]], [0, 1]),
    "too few labels": lambda m: m.MLPClassifier().fit(X, Y[:-1]),
    "no labels": lambda m: m.MLPClassifier().fit(X, None),
    "labels of three dimensions": lambda m: m.MLPClassifier().fit(X, np.zeros((60, 2, 2))),
    "NaN among labels": lambda m: m.MLPClassifier().fit(X, np.where(Y, np.nan, 1.0)),
    "classes between numbers": lambda m: m.MLPClassifier().fit(X, X[:, 5]),
    "several classes a row": lambda m: m.MLPClassifier().fit(X, np.stack([Y, 2 * Y + 1], axis=1)),
    "NaN among targets": lambda m: m.MLPRegressor().fit(X, np.where(Y, np.nan, 1.0)),
    "not fitted": lambda m: m.MLPClassifier().predict(X),
    "not fitted, probabilities": lambda m: m.MLPClassifier().predict_proba(X),
    "not fitted, log": lambda m: m.MLPClassifier().predict_log_proba(X),
    "not fitted, regressor": lambda m: m.MLPRegressor().predict(X),
    "not fitted, score": lambda m: m.MLPRegressor().score(X, Y),
    "other features": lambda m: fitted(m).predict(X[:, :3]),
    "other features, sparse": lambda m: fitted(m).predict(sparse.csr_matrix(X[:, :3])),
    "NaN to predict": lambda m: fitted(m).predict_proba(np.full_like(X, np.nan)),
    "names in another order": lambda m: (
        m.MLPClassifier(tol=1, n_iter_no_change=1).fit(frame("a", "b"), Y).predict(frame("b", "a"))
    ),
    "other names": lambda m: (
        m.MLPClassifier(tol=1, n_iter_no_change=1).fit(frame("a", "b"), Y).predict(frame("a", "c"))
    ),
    "names of two kinds": lambda m: m.MLPClassifier().fit(frame("a", "b").rename(columns={"b": 1}), Y),
    "no classes at first": lambda m: m.MLPClassifier().partial_fit(X, Y),
    "other classes": lambda m: began(m).partial_fit(X, Y, classes=[1, 2]),
    "a class that is not there": lambda m: began(m).partial_fit(X, Y + 1),
    "too few classes": lambda m: m.MLPClassifier().partial_fit(X, Y, classes=[0]),
    "too few classes of labels": lambda m: m.MLPClassifier().partial_fit(X, np.eye(3, dtype=int)[Y], classes=[0, 1]),
    "other features later": lambda m: began(m).partial_fit(X[:, :3], Y),
    "lbfgs in part": lambda m: m.MLPClassifier(solver="lbfgs").partial_fit(X, Y, classes=[0, 1]),
    "other classes at a warm start": lambda m: fitted(m, warm_start=True).fit(X, 2 * Y),
    "a class of one row": lambda m: m.MLPClassifier(early_stopping=True).fit(X[:4], [0, 0, 0, 1]),
    "half a unit": lambda m: m.MLPRegressor(hidden_layer_sizes=(4.5,)).fit(X, Y),
    "numbers too large": lambda m: m.MLPRegressor().fit(np.where(X > 0.5, 1e308, X), Y),
    **{f"{name} {settings}": partial(built, name=name, **settings) for name, settings in CONSTRUCTED},
}
if WEIGHTED:
    FAULTS |= {
        "one row to validate": lambda m: m.MLPRegressor(early_stopping=True).fit(X[:4], Y[:4]),
        "too few weights": lambda m: m.MLPClassifier().fit(X, Y, sample_weight=[1.0, 2.0]),
        "weights in a table": lambda m: m.MLPClassifier().fit(X, Y, sample_weight=np.ones((60, 2))),
        "NaN among weights": lambda m: m.MLPClassifier().fit(X, Y, sample_weight=np.where(Y, np.nan, 1.0)),
    }


def refusal(module: Any, call: Callable[[Any], Any]) -> Exception:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call(module)
        except Exception as error:
            return error
    raise AssertionError(f"{module.__name__} raised nothing")


@pytest.mark.parametrize("case", FAULTS)
def test_the_same_errors(case: str) -> None:
    """Of the same type, with the same words; where scikit-learn lists choices, in any order."""
    mine, yours = (refusal(module, FAULTS[case]) for module in (ours, theirs))
    assert type(mine) is type(yours), f"{mine!r} for {yours!r}"
    assert sorted(re.findall(r"\w+", str(mine))) == sorted(re.findall(r"\w+", str(yours)))


def test_errors_that_say_more() -> None:
    """There are more parameters and activations to choose from; words are refused before the first step."""
    calls: list[Callable[[Any], Any]] = [
        lambda m: m.MLPClassifier(activation="sigmoid").fit(X, Y),
        lambda m: m.MLPClassifier().set_params(optimizer="adam"),
    ]
    for call in calls:
        mine, yours = (refusal(module, call) for module in (ours, theirs))
        assert type(mine) is type(yours)
        assert set(re.findall(r"\w+", str(yours))) <= set(re.findall(r"\w+", str(mine)))
        assert len(str(mine).splitlines()) == 1
    with pytest.raises(ValueError, match="could not convert string to float"):
        ours.MLPRegressor().fit(X, np.where(Y, "a", "b"))
