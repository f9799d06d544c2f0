"""What scikit-learn's users rely on: kinds of data, continuing a fit, randomness, and the tools around an estimator."""

import copy
import inspect
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra sklearn")

import joblib
import sklearn
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, make_multilabel_classification, make_regression
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_html_repr

import xpnet
from xpnet.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = load_iris()
X, Y = (IRIS.data - IRIS.data.mean(axis=0)) / IRIS.data.std(axis=0), IRIS.target
X_LABELS, Y_LABELS = make_multilabel_classification(80, 6, n_classes=3, random_state=0)
X_NUMBERS, Y_NUMBERS = make_regression(80, 5, n_targets=3, noise=1.0, random_state=0)
Y_NUMBERS = Y_NUMBERS / 100
QUICK: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 12, "random_state": 0, "learning_rate_init": 0.02}


def weights(estimator: Any) -> list[np.ndarray]:
    return [np.asarray(array) for array in [*estimator.coefs_, *estimator.intercepts_]]


def same_bits(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def assert_close(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


# Kinds of data.


@pytest.mark.parametrize(
    "names",
    [
        np.array(["setosa", "versicolor", "virginica"]),
        np.array(["a", "bb", "ccc"], dtype=object),
        np.array([-7, 0, 5]),
        np.array([2.0, 4.0, 8.0]),
        np.array([0, 200, 255], dtype=np.uint8),
    ],
    ids=["str", "object", "negative", "float", "uint8"],
)
def test_classes_keep_their_names(names: np.ndarray) -> None:
    fitted = MLPClassifier(**QUICK | {"max_iter": 60}).fit(X, names[Y])
    yours = theirs.MLPClassifier(max_iter=1).fit(X, names[Y])
    assert fitted.classes_.dtype == yours.classes_.dtype
    assert fitted.classes_.tolist() == names.tolist()
    predicted = fitted.predict(X)
    assert predicted.dtype == yours.predict(X).dtype
    assert predicted.tolist() == names[fitted.predict_proba(X).argmax(axis=1)].tolist()
    assert fitted.score(X, names[Y]) > 0.9
    assert fitted.coefs_[-1].shape == (8, 3)
    assert (fitted.out_activation_, fitted.n_outputs_, fitted.n_layers_, fitted.n_features_in_) == ("softmax", 3, 3, 4)


@pytest.mark.parametrize("names", [[False, True], ["no", "yes"], [-1, 1]], ids=str)
def test_two_classes_have_one_output(names: list[Any]) -> None:
    y = np.array(names)[(Y > 0).astype(int)]
    fitted = MLPClassifier(**QUICK | {"max_iter": 60}).fit(X, y)
    assert fitted.coefs_[-1].shape == (8, 1)
    assert (fitted.out_activation_, fitted.n_outputs_) == ("logistic", 1)
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (150, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(fitted.predict_log_proba(X), np.log(probabilities))
    assert fitted.predict(X).tolist() == y.tolist()


def test_several_labels_at_once() -> None:
    fitted = MLPClassifier(**QUICK | {"max_iter": 200, "hidden_layer_sizes": (30, 10)}).fit(X_LABELS, Y_LABELS)
    assert [array.shape for array in fitted.coefs_] == [(6, 30), (30, 10), (10, 3)]
    assert [array.shape for array in fitted.intercepts_] == [(30,), (10,), (3,)]
    assert (fitted.out_activation_, fitted.n_outputs_, fitted.classes_.tolist()) == ("logistic", 3, [0, 1, 2])
    assert np.array_equal(fitted.predict(X_LABELS), (fitted.predict_proba(X_LABELS) > 0.5).astype(int))
    assert fitted.score(X_LABELS, Y_LABELS) > 0.7


@pytest.mark.parametrize("outputs", [1, 3])
def test_numbers(outputs: int) -> None:
    y = Y_NUMBERS[:, 0] if outputs == 1 else Y_NUMBERS
    fitted = MLPRegressor(**QUICK | {"solver": "lbfgs", "max_iter": 200}).fit(X_NUMBERS, y)
    assert fitted.predict(X_NUMBERS).shape == y.shape
    assert fitted.coefs_[-1].shape == (8, outputs)
    assert (fitted.out_activation_, fitted.n_outputs_) == ("identity", outputs)
    assert fitted.score(X_NUMBERS, y) > 0.95


def test_counts() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 2))
    counts = rng.poisson(np.exp(0.5 * features[:, 0] + 1))
    fitted = MLPRegressor("poisson", **QUICK | {"solver": "lbfgs", "max_iter": 100}).fit(features, counts)
    assert fitted.out_activation_ == "exp"
    assert fitted.predict(features).min() > 0
    assert np.corrcoef(fitted.predict(features), np.exp(0.5 * features[:, 0] + 1))[0, 1] > 0.9


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse_features_are_as_dense_ones(kind: Any, solver: str) -> None:
    rows = np.where(np.abs(X) > 0.8, X, 0)
    settings = QUICK | {"solver": solver, "batch_size": 40}
    dense, thin = MLPClassifier(**settings).fit(rows, Y), MLPClassifier(**settings).fit(kind(rows), Y)
    assert_close(dense, thin)
    np.testing.assert_allclose(dense.predict_proba(kind(rows)), thin.predict_proba(rows), rtol=1e-9)
    assert np.array_equal(dense.predict(kind(rows)), thin.predict(rows))
    if solver != "lbfgs":
        for _ in range(2):
            dense.partial_fit(rows[:70], Y[:70])
            thin.partial_fit(kind(rows[:70]), Y[:70])
        assert_close(dense, thin)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_the_precision_of_the_data_is_kept(solver: str, dtype: Any) -> None:
    rows = X.astype(dtype)
    classifier = MLPClassifier(**QUICK, solver=solver).fit(rows, Y)
    assert {array.dtype for array in weights(classifier)} == {np.dtype(dtype)}
    assert classifier.predict_proba(rows).dtype == classifier.predict_log_proba(rows).dtype == dtype
    regressor = MLPRegressor(**QUICK, solver=solver).fit(rows, X[:, 0])
    assert {array.dtype for array in weights(regressor)} == {np.dtype(dtype)}
    assert regressor.predict(rows).dtype == dtype
    if solver != "lbfgs":
        classifier.partial_fit(rows, Y)
        assert {array.dtype for array in weights(classifier)} == {np.dtype(dtype)}


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64, np.float16, bool])
def test_other_numbers_become_float64(kind: Any) -> None:
    rows = (10 * np.abs(X)).astype(kind)
    fitted = MLPClassifier(**QUICK).fit(rows, Y)
    assert {array.dtype for array in weights(fitted)} == {np.dtype(np.float64)}
    assert same_bits(fitted, MLPClassifier(**QUICK).fit(rows.astype(np.float64), Y))


def test_lists_orders_and_read_only_rows_are_the_same_data() -> None:
    locked = X.copy()
    locked.flags.writeable = False
    reference = MLPClassifier(**QUICK).fit(X, Y)
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    for rows, y in ((X.tolist(), Y.tolist()), (np.asfortranarray(X), Y.astype(np.int8)), (locked, Y), (strided, Y)):
        assert same_bits(reference, MLPClassifier(**QUICK).fit(rows, y))
    assert np.array_equal(locked, X)


def test_names_of_features_are_kept() -> None:
    pandas = pytest.importorskip("pandas", reason="names of features are a DataFrame's")
    frame = pandas.DataFrame(X, columns=IRIS.feature_names)
    fitted = MLPClassifier(**QUICK, early_stopping=True).fit(frame, pandas.Series(Y))
    assert fitted.feature_names_in_.tolist() == IRIS.feature_names
    fitted.predict(frame)
    with pytest.warns(UserWarning, match="does not have valid feature names, but MLPClassifier was fitted with"):
        fitted.predict(X)
    assert not hasattr(MLPClassifier(**QUICK).fit(X, Y), "feature_names_in_")


# Weights of rows and of classes.


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_weight_of_zero_leaves_a_row_out(solver: str) -> None:
    kept = np.arange(150) % 3 > 0
    settings = QUICK | {"solver": solver, "batch_size": 150, "shuffle": False, "hidden_layer_sizes": (5,)}
    settings |= {"activation": "tanh", "alpha": 0.1}
    whole = MLPClassifier(**settings).fit(X, Y, sample_weight=2.0 * kept)
    part = MLPClassifier(**settings | {"batch_size": 100}).fit(X[kept], Y[kept], sample_weight=np.full(100, 2.0))
    assert_close(whole, part, 1e-7)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_weight_of_two_is_the_row_twice(solver: str) -> None:
    twice = np.arange(80) < 30
    settings = QUICK | {"solver": solver, "batch_size": 80, "shuffle": False, "activation": "tanh", "alpha": 0.1}
    rows, y = (np.concatenate([array, array[twice]]) for array in (X_NUMBERS, Y_NUMBERS))
    weighted = MLPRegressor(**settings).fit(X_NUMBERS, Y_NUMBERS, sample_weight=1.0 + twice)
    assert_close(weighted, MLPRegressor(**settings | {"batch_size": 110}).fit(rows, y), 1e-7)


@pytest.mark.parametrize("class_weight", [{0: 1.0, 1: 5.0, 2: 0.5}, "balanced"], ids=["dict", "balanced"])
def test_class_weight_is_the_weight_of_each_of_its_rows(class_weight: Any) -> None:
    rows, y = X[10:120], Y[10:120]
    of_rows = sklearn.utils.class_weight.compute_sample_weight(class_weight, y)
    by_class = MLPClassifier(**QUICK, class_weight=class_weight).fit(rows, y)
    assert_close(by_class, MLPClassifier(**QUICK).fit(rows, y, sample_weight=of_rows), 1e-9)
    both = MLPClassifier(**QUICK, class_weight=class_weight).fit(rows, y, sample_weight=1.0 + (rows[:, 0] > 0))
    by_rows = MLPClassifier(**QUICK).fit(rows, y, sample_weight=of_rows * (1.0 + (rows[:, 0] > 0)))
    assert_close(both, by_rows, 1e-9)


def test_class_weight_knows_classes_by_their_names() -> None:
    names = IRIS.target_names[Y]
    by_class = MLPClassifier(**QUICK, class_weight={"setosa": 3.0}).fit(X, names)
    assert_close(by_class, MLPClassifier(**QUICK).fit(X, names, sample_weight=np.where(Y == 0, 3.0, 1.0)))


def test_the_score_is_weighted() -> None:
    fitted = MLPClassifier(**QUICK).fit(X, Y)
    right = fitted.predict(X) == Y
    assert fitted.score(X, Y, sample_weight=right.astype(float)) == 1.0


# When a fit ends.


def test_early_stopping_keeps_the_best_weights() -> None:
    held = X[::3], Y[::3]
    settings = QUICK | {"max_iter": 60, "learning_rate_init": 0.3, "n_iter_no_change": 5, "early_stopping": True}
    fitted = MLPClassifier(**settings, validation_data=held).fit(X, Y)
    scores = fitted.validation_scores_
    assert fitted.best_validation_score_ == max(scores) == fitted.score(*held)
    assert len(scores) == fitted.n_iter_ == len(fitted.loss_curve_)
    assert fitted.best_loss_ is None
    regressor = MLPRegressor(**settings, validation_data=(X_NUMBERS[:20], Y_NUMBERS[:20])).fit(X_NUMBERS, Y_NUMBERS)
    found = regressor.score(X_NUMBERS[:20], Y_NUMBERS[:20])
    assert found == pytest.approx(max(regressor.validation_scores_), abs=1e-12)


def test_without_early_stopping_there_are_no_scores() -> None:
    fitted = MLPClassifier(**QUICK).fit(X, Y)
    assert (fitted.validation_scores_, fitted.best_validation_score_) == (None, None)
    assert fitted.best_loss_ == min(fitted.loss_curve_)
    assert fitted.loss_ == fitted.loss_curve_[-1]
    assert (fitted.n_iter_, fitted.t_) == (12, 12 * 150)


@pytest.mark.parametrize("patience", [1, 4])
def test_a_fit_ends_after_iterations_without_change(patience: int) -> None:
    fitted = MLPClassifier(**QUICK | {"max_iter": 500}, tol=10.0, n_iter_no_change=patience).fit(X, Y)
    assert fitted.n_iter_ == patience + 2  # the first is better than none


@pytest.mark.filterwarnings("error")
def test_a_fit_that_does_not_converge_says_so() -> None:
    with pytest.warns(ConvergenceWarning, match=r"^Stochastic Optimizer: Maximum iterations \(12\) reached and the "):
        MLPClassifier(**QUICK).fit(X, Y)
    fitted = MLPClassifier(**QUICK | {"max_iter": 500}, tol=10.0).fit(X, Y)
    assert fitted.converged_ is True
    fitted.partial_fit(X, Y)  # one iteration, of which nobody expects that


def test_whether_a_fit_converged() -> None:
    assert MLPClassifier(**QUICK).fit(X, Y).converged_ is False
    assert MLPClassifier(**QUICK | {"max_iter": 2}, solver="lbfgs").fit(X, Y).converged_ is False
    assert MLPClassifier(**QUICK | {"max_iter": 500}, solver="lbfgs", alpha=1.0).fit(X, Y).converged_ is True


# Going on.


def test_classes_may_come_later() -> None:
    later = MLPClassifier(**QUICK)
    later.partial_fit(X[Y < 2], IRIS.target_names[Y[Y < 2]], classes=IRIS.target_names)
    assert later.classes_.tolist() == IRIS.target_names.tolist()
    assert later.coefs_[-1].shape == (8, 3)
    for _ in range(60):
        later.partial_fit(X[Y > 0], IRIS.target_names[Y[Y > 0]])
    assert later.score(X[Y == 2], IRIS.target_names[Y[Y == 2]]) > 0.5
    assert later.n_iter_ == 1
    assert len(later.loss_curve_) == 61


def test_classes_and_several_labels_do_not_follow_each_other() -> None:
    labels = np.eye(3, dtype=int)[Y]
    several, one = "`y` has several labels for each example", "`y` has one class for each example"
    for first, then, message in ((Y, labels, several), (labels, Y, one)):
        with pytest.raises(ValueError, match=message):
            MLPClassifier(**QUICK, warm_start=True).fit(X, first).fit(X, then)
        with pytest.raises(ValueError, match=message):
            MLPClassifier(**QUICK).partial_fit(X, first, classes=[0, 1, 2]).partial_fit(X, then)


@pytest.mark.parametrize("normalized", [False, True])
def test_batch_norm_stays_as_it_was(normalized: bool) -> None:
    fitted = MLPClassifier(**QUICK, warm_start=True, batch_norm=normalized).fit(X, Y)
    with pytest.raises(ValueError, match=r"^training continues with another batch_norm: leave it as it was"):
        fitted.set_params(batch_norm=not normalized).fit(X, Y)


def test_early_stopping_in_part() -> None:
    """Which scikit-learn refuses: each call holds rows out, and the weights stay those of the last."""
    fitted = MLPClassifier(**QUICK, early_stopping=True)
    for _ in range(3):
        fitted.partial_fit(X, Y, classes=[0, 1, 2])
    assert len(fitted.validation_scores_) == 3
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    held = MLPClassifier(**QUICK, early_stopping=True, validation_data=(X[:30], Y[:30]))
    for i in range(3):
        held.partial_fit(X[30:], Y[30:], classes=[0, 1, 2])
        assert len(held.validation_scores_) == i + 1


def through_pickle(estimator: Any) -> Any:
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


TWINS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda e: e,
    "pickle": through_pickle,
    "joblib": through_joblib,
    "copy": copy.deepcopy,
}


@pytest.mark.parametrize("settings", [{"solver": "adam"}, {"solver": "sgd"}, {"dropout": 0.3}, {"batch_norm": True}])
@pytest.mark.parametrize("twin", TWINS)
def test_five_iterations_and_five_are_ten(twin: str, settings: dict[str, Any]) -> None:
    """Bit for bit, with a seed and a constant rate: weights, optimizer and the order of rows go on."""
    settings = QUICK | {"batch_size": 32} | settings
    whole = MLPClassifier(**settings | {"max_iter": 10}).fit(X, Y)
    half = MLPClassifier(**settings | {"max_iter": 5}, warm_start=True).fit(X, Y)
    whole_of_two = TWINS[twin](half).fit(X, Y)
    assert same_bits(whole, whole_of_two)
    assert whole_of_two.loss_curve_ == whole.loss_curve_
    assert np.array_equal(whole.predict_proba(X), whole_of_two.predict_proba(X))


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("settings", [{"solver": "adam"}, {"solver": "sgd", "early_stopping": True}])
def test_partial_fits_go_on_through_files(twin: str, settings: dict[str, Any]) -> None:
    settings = QUICK | {"batch_size": 32} | settings
    whole, part = (MLPClassifier(**settings).partial_fit(X, Y, classes=[0, 1, 2]) for _ in range(2))
    for _ in range(4):
        whole.partial_fit(X, Y)
        part = TWINS[twin](part).partial_fit(X, Y)
    assert same_bits(whole, part)
    assert whole.loss_curve_ == part.loss_curve_


def test_without_warm_start_a_fit_begins_anew() -> None:
    fitted = MLPClassifier(**QUICK).fit(X, Y)
    first = copy.deepcopy(fitted)
    assert same_bits(first, fitted.fit(X, Y))
    assert fitted.loss_curve_ == first.loss_curve_
    fitted.fit(X_LABELS, Y_LABELS)
    assert (fitted.n_features_in_, fitted.n_outputs_) == (6, 3)


# Randomness.


@pytest.mark.parametrize("seed", [0, 7, np.int64(3)], ids=str)
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_seed_gives_the_same_bits(solver: str, seed: Any) -> None:
    settings = QUICK | {"solver": solver, "random_state": seed, "batch_size": 20}
    first, second = (MLPClassifier(**settings).fit(X, Y) for _ in range(2))
    assert same_bits(first, second)
    other = MLPClassifier(**settings | {"random_state": seed + 1}).fit(X, Y)
    assert not same_bits(first, other)


def test_a_generator_is_used_up() -> None:
    generator = np.random.RandomState(4)
    first, second = (MLPClassifier(**QUICK | {"random_state": generator}).fit(X, Y) for _ in range(2))
    assert not same_bits(first, second)
    again = MLPClassifier(**QUICK | {"random_state": np.random.RandomState(4)}).fit(X, Y)
    assert same_bits(first, again)


def test_without_a_seed_numpy_s_is_used() -> None:
    found = []
    for _ in range(2):
        np.random.seed(11)  # noqa: NPY002 - what scikit-learn draws from
        found += [MLPClassifier(**QUICK | {"random_state": None}).fit(X, Y) for _ in range(2)]
    assert same_bits(found[0], found[2])
    assert same_bits(found[1], found[3])
    assert not same_bits(found[0], found[1])


@pytest.mark.parametrize(("activation", "factor"), [("relu", 6), ("tanh", 6), ("logistic", 2), ("identity", 6)])
def test_weights_begin_as_scikit_learn_s(activation: str, factor: int) -> None:
    """Glorot's, uniform, for weights and intercepts alike."""
    settings = {"hidden_layer_sizes": (60, 40), "activation": activation, "max_iter": 1, "learning_rate_init": 1e-12}
    fitted = MLPClassifier(**QUICK | settings).fit(X, Y)
    for W, b in zip(fitted.coefs_, fitted.intercepts_, strict=True):
        bound = np.sqrt(factor / sum(W.shape))
        assert 0.9 * bound < np.abs(W).max() <= bound + 1e-9
        assert 0 < np.abs(b).max() <= bound + 1e-9
        assert W.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)


# The tools around an estimator.


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_parameters(kind: Any) -> None:
    yours = getattr(theirs, kind.__name__)().get_params()
    mine = kind().get_params()
    assert {name: mine[name] for name in yours} == yours
    added = set(mine) - set(yours) - {"loss"}  # which scikit-learn has since 1.7
    assert all(inspect.signature(kind).parameters[name].kind == inspect.Parameter.KEYWORD_ONLY for name in added)
    changed = kind(dropout=0.5, alpha=1.0)
    assert clone(changed).get_params() == changed.get_params()
    assert changed.set_params(dropout=0.1).get_params()["dropout"] == 0.1
    assert repr(changed) == f"{kind.__name__}(alpha=1.0, dropout=0.1)"
    assert kind.__name__ in estimator_html_repr(changed.fit(X, Y))


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("method", ["__init__", "fit", "partial_fit", "predict", "score"])
def test_arguments_come_in_the_same_order(kind: Any, method: str) -> None:
    def positional(of: Any) -> list[str]:
        parameters = inspect.signature(getattr(of, method)).parameters.values()
        return [each.name for each in parameters if each.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD]

    yours = positional(getattr(theirs, kind.__name__))
    mine = positional(kind)
    if "loss" in mine and "loss" not in yours:  # before scikit-learn 1.7
        mine.remove("loss")
    assert [name for name in mine if name in yours] == yours
    assert len(mine) - len(yours) == ("sample_weight" in mine and "sample_weight" not in yours)


def test_a_copy_is_not_fitted() -> None:
    with pytest.raises(sklearn.exceptions.NotFittedError):
        clone(MLPClassifier(**QUICK).fit(X, Y)).predict(X)


def test_a_grid_in_two_processes() -> None:
    grid = {"alpha": [1e-4, 10.0], "hidden_layer_sizes": [(4,), (8,)]}
    search = GridSearchCV(MLPClassifier(**QUICK), grid, cv=2, n_jobs=2).fit(X, Y)
    here = GridSearchCV(MLPClassifier(**QUICK), grid, cv=2).fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"])
    assert search.best_params_ == here.best_params_


def test_cross_validation_scores_and_threads() -> None:
    one = cross_validate(MLPClassifier(**QUICK), X, Y, cv=3, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"])
    with joblib.parallel_backend("threading", n_jobs=2):
        two = cross_validate(MLPClassifier(**QUICK), X, Y, cv=3, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"])
    for name in ("test_accuracy", "test_neg_log_loss", "test_roc_auc_ovr"):
        np.testing.assert_array_equal(one[name], two[name])


def test_a_pipeline_of_columns_with_names() -> None:
    pandas = pytest.importorskip("pandas", reason="columns of several kinds are a DataFrame's")
    frame = pandas.DataFrame(X[:, :2], columns=["length", "width"]).assign(colour=np.array(["red", "blue"])[Y % 2])
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["length", "width"]), ("words", OneHotEncoder(sparse_output=False), ["colour"])]
    ).set_output(transform="pandas")
    fitted = make_pipeline(columns, MLPClassifier(**QUICK)).fit(frame, Y)
    assert fitted[-1].feature_names_in_.tolist() == columns.get_feature_names_out().tolist()
    assert fitted.score(frame, Y) > 0.6


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: CalibratedClassifierCV(e, cv=2),
        lambda e: VotingClassifier([("a", e), ("b", GaussianNB())], voting="soft"),
        lambda e: StackingClassifier([("a", e)], final_estimator=GaussianNB(), cv=2),
        OneVsRestClassifier,
        lambda e: BaggingClassifier(e, n_estimators=2, random_state=0),
    ],
    ids=["calibrated", "voting", "stacking", "one against the rest", "bagging"],
)
def test_ensembles(wrap: Callable[[Any], Any]) -> None:
    fitted = wrap(MLPClassifier(**QUICK | {"max_iter": 40})).fit(X, Y)
    assert fitted.score(X, Y) > 0.85
    assert fitted.predict_proba(X).shape == (150, 3)


def test_an_output_for_each_of_several_targets() -> None:
    targets = np.stack([Y, Y % 2], axis=1)
    fitted = MultiOutputClassifier(MLPClassifier(**QUICK | {"max_iter": 40})).fit(X, targets)
    assert fitted.predict(X).shape == targets.shape
    averaged = VotingRegressor([("a", MLPRegressor(**QUICK)), ("b", MLPRegressor(**QUICK))]).fit(X, X[:, 0])
    assert averaged.predict(X).shape == (150,)


def test_inspection() -> None:
    fitted = MLPClassifier(**QUICK | {"max_iter": 60}).fit(X, Y)
    importance = permutation_importance(fitted, X, Y, n_repeats=3, random_state=0).importances_mean
    assert importance.argmax() in (2, 3)  # the petals
    assert partial_dependence(fitted, X, [2], grid_resolution=5)["average"].shape == (3, 5)


def test_weights_of_rows_are_routed() -> None:
    of_rows = 1.0 + (Y == 0)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, MLPClassifier(**QUICK).set_fit_request(sample_weight=True))
        routed.fit(X, Y, sample_weight=of_rows)
    plain = MLPClassifier(**QUICK).fit(StandardScaler().fit_transform(X), Y, sample_weight=of_rows)
    assert same_bits(routed[-1], plain)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_xpnet_does_not_import_scikit_learn() -> None:
    code = "import sys, xpnet; print([name for name in ('sklearn', 'scipy', 'joblib') if name in sys.modules])"
    assert run(code) == "[]\n"


def test_without_scikit_learn_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["sklearn"] = None
try:
    from xpnet.sklearn import MLPClassifier
except ImportError as error:
    print(type(error).__name__, error)
"""
    message = run(code)
    assert message.startswith("MissingPackageError ")
    assert 'pip install "xpnet[sklearn]"' in message
    assert len(message.splitlines()) == 1


def test_the_model_is_xpnet_s(tmp_path: Path) -> None:
    fitted = MLPClassifier(**QUICK).fit(X, Y)
    assert isinstance(fitted.model_, xpnet.Model)
    fitted.model_.save(tmp_path / "iris.safetensors")
    wrapped = MLPClassifier.from_model(xpnet.load(tmp_path / "iris.safetensors"))
    np.testing.assert_allclose(wrapped.predict_proba(X), fitted.predict_proba(X), rtol=1e-6, atol=1e-6)
    assert wrapped.classes_.tolist() == [0, 1, 2]
