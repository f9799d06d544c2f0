"""Scripts that were written for scikit-learn's, run with both: the same numbers come out."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra sklearn")

from scipy import sparse
from scipy.stats import loguniform
from sklearn import config_context, model_selection, multioutput
from sklearn import neural_network as theirs
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_iris, make_moons
from sklearn.ensemble import AdaBoostRegressor, BaggingClassifier
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.inspection import DecisionBoundaryDisplay, permutation_importance
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.validation import has_fit_parameter

from xpnet import sklearn as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
FEATURES, TARGETS = load_diabetes(return_X_y=True)
FEATURES, TARGETS = 10 * FEATURES[:120], TARGETS[:120] / 100
MOONS = make_moons(100, noise=0.2, random_state=0)
QUICK: dict[str, Any] = {"hidden_layer_sizes": (7,), "max_iter": 15, "random_state": 1, "learning_rate_init": 0.02}


def classifier(module: Any, **settings: Any) -> Any:
    return module.MLPClassifier(**QUICK | settings)


def regressor(module: Any, **settings: Any) -> Any:
    return module.MLPRegressor(**QUICK | settings)


def parameters(estimator: Any) -> list[Any]:
    return [*estimator.coefs_, *estimator.intercepts_, estimator.loss_]


def frame(**kinds: str) -> Any:
    pandas = pytest.importorskip("pandas", reason="the table is pandas'")
    return pandas.DataFrame(X.round(1), columns=list("abcd")).astype(kinds)


def a_learning_rate_for_each(module: Any) -> list[Any]:
    """As in scikit-learn's example of training curves."""
    curves = []
    for settings in (
        {"learning_rate": "constant", "momentum": 0.0, "learning_rate_init": 0.2},
        {"learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": False, "learning_rate_init": 0.2},
        {"learning_rate": "invscaling", "momentum": 0.9, "nesterovs_momentum": True, "learning_rate_init": 0.2},
    ):
        curves.append(classifier(module, solver="sgd", **settings).fit(*MOONS).loss_curve_)
    return curves


def a_step_at_a_time(module: Any) -> list[Any]:
    network = classifier(module, warm_start=True, max_iter=1, solver="sgd", momentum=0.0, nesterovs_momentum=False)
    network.set_params(shuffle=False)
    scores = [network.fit(X, Y).score(X, Y) for _ in range(6)]
    return [scores, network.n_iter_, network.t_, network.loss_curve_, *parameters(network)]


def other_settings_later(module: Any) -> list[Any]:
    network = classifier(module, warm_start=True, shuffle=False, solver="sgd", momentum=0.0, nesterovs_momentum=False)
    network.fit(X, Y).set_params(learning_rate_init=0.1, alpha=0.1).fit(X, Y)
    return parameters(network)


def minibatches(module: Any) -> list[Any]:
    network = classifier(module, shuffle=False)
    for epoch in range(3):
        for start in range(0, 150, 40):
            rows = slice(start, start + 40)
            network.partial_fit(X[rows], Y[rows], classes=np.unique(Y) if epoch == 0 else None)
    return [network.predict_proba(X), network.loss_curve_, network.t_, network.n_iter_, network.best_loss_]


def weights_set_by_hand(module: Any) -> list[Any]:
    network = classifier(module).fit(X, Y)
    network.coefs_[0][:] = 0
    network.intercepts_ = [np.ones_like(b) for b in network.intercepts_]
    return [network.predict_proba(X), network.predict(X)]


def diverging(module: Any) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            regressor(module, solver="sgd", learning_rate_init=50.0, activation="identity").fit(FEATURES, TARGETS)
        except ValueError as error:
            return [str(error)]
    return []


def without_checks(module: Any) -> list[Any]:
    with config_context(assume_finite=True):
        return parameters(classifier(module).fit(X, Y))


SCRIPTS: dict[str, Callable[[Any], Any]] = {
    "learning curves": a_learning_rate_for_each,
    "a step at a time": a_step_at_a_time,
    "other settings later": other_settings_later,
    "minibatches": minibatches,
    "weights set by hand": weights_set_by_hand,
    "a loss that grows": diverging,
    "no checks of the input": without_checks,
    "no hidden layer": lambda m: parameters(classifier(m, hidden_layer_sizes=()).fit(X, Y)),
    "hidden layers in a list": lambda m: parameters(classifier(m, hidden_layer_sizes=[6, 5, 4]).fit(X, Y)),
    "hidden layers in an array": lambda m: parameters(regressor(m, hidden_layer_sizes=np.array([6, 5])).fit(X, Y)),
    "a hidden layer as a number": lambda m: parameters(regressor(m, hidden_layer_sizes=6).fit(X, Y)),
    "defaults": lambda m: parameters(m.MLPClassifier(random_state=3, max_iter=5).fit(X, Y)),
    "one row": lambda m: parameters(regressor(m).fit(X[:1], [2.0])),
    "one class": lambda m: [classifier(m).fit(X, np.ones(150)).predict_proba(X)],
    "batches of one": lambda m: parameters(classifier(m, batch_size=1, max_iter=2).fit(X, Y)),
    "batches that do not divide": lambda m: parameters(classifier(m, batch_size=37).fit(X, Y)),
    "targets in float32": lambda m: parameters(regressor(m).fit(FEATURES, TARGETS.astype(np.float32))),
    "targets that are whole": lambda m: parameters(regressor(m).fit(FEATURES, TARGETS.astype(int))),
    "more rows than a block": lambda m: [classifier(m).fit(X, Y).predict_proba(np.tile(X, (20, 1)))],
    "float32 read by float64": lambda m: [
        classifier(m).fit(X, Y).predict_proba(X.astype(np.float32)),
        str(classifier(m).fit(X, Y).predict_proba(X.astype(np.float32)).dtype),
    ],
    "COO": lambda m: parameters(classifier(m).fit(sparse.coo_matrix(X), Y)),
    "sparse and held out": lambda m: parameters(classifier(m, early_stopping=True).fit(sparse.csr_matrix(X), Y)),
    "sparse, with wide indices": lambda m: [
        classifier(m).fit(sparse.csr_matrix(X.round()), Y).predict_proba(sparse.csc_matrix(X))
    ],
    "a table": lambda m: parameters(classifier(m).fit(frame(), Y)),
    "a table of float32": lambda m: parameters(classifier(m).fit(frame(**dict.fromkeys("abcd", "float32")), Y))[-1:],
    "a table with nullable columns": lambda m: parameters(classifier(m).fit(frame(a="Float64", b="Float64"), Y)),
    "labels in a series": lambda m: classifier(m).fit(X, frame().a > 0).predict(X[:20]),
    "labels in categories": lambda m: [
        str(v) for v in classifier(m).fit(X, frame().a.gt(0).map({True: "u", False: "v"}).astype("category")).predict(X)
    ],
    "labels in words": lambda m: [str(v) for v in classifier(m).fit(X, ["abc"[y] for y in Y]).predict(X)],
    "cross-validated probabilities": lambda m: model_selection.cross_val_predict(
        classifier(m), X, Y, cv=3, method="predict_proba"
    ),
    "learning curve": lambda m: model_selection.learning_curve(classifier(m), X, Y, cv=2, train_sizes=[0.3, 1.0])[1],
    "validation curve": lambda m: model_selection.validation_curve(
        regressor(m), FEATURES, TARGETS, cv=2, param_name="alpha", param_range=[1e-4, 1.0]
    )[1],
    "random search": lambda m: (
        model_selection.RandomizedSearchCV(
            make_pipeline(StandardScaler(), classifier(m)),
            {"mlpclassifier__alpha": loguniform(1e-5, 1e1), "mlpclassifier__activation": ["tanh", "relu"]},
            n_iter=3,
            cv=2,
            random_state=0,
        )
        .fit(X, Y)
        .cv_results_["mean_test_score"]
    ),
    "a threshold that is tuned": lambda m: [
        model_selection.TunedThresholdClassifierCV(classifier(m), cv=2).fit(*MOONS).best_threshold_
    ],
    "features chosen": lambda m: (
        SequentialFeatureSelector(classifier(m, max_iter=4), n_features_to_select=1, cv=2).fit(X, Y).get_support()
    ),
    "importance": lambda m: (
        permutation_importance(classifier(m).fit(X, Y), X, Y, n_repeats=2, random_state=0).importances
    ),
    "calibrated": lambda m: (
        CalibratedClassifierCV(classifier(m), cv=2, method="isotonic").fit(X, Y).predict_proba(X).round(5)
    ),
    "bagging": lambda m: BaggingClassifier(classifier(m), 2, random_state=0).fit(X, Y).predict_proba(X),
    "one against the rest": lambda m: OneVsRestClassifier(classifier(m)).fit(X, Y).predict_proba(X),
    "one against one": lambda m: OneVsOneClassifier(classifier(m)).fit(X, Y).predict(X),
    "chains": lambda m: (
        multioutput.ClassifierChain(classifier(m), order=[1, 0]).fit(X, np.stack([Y > 0, Y > 1], axis=1)).predict(X)
    ),
    "chains of numbers": lambda m: multioutput.RegressorChain(regressor(m)).fit(X, X[:, :2]).predict(X),
    "half of the labels": lambda m: (
        SelfTrainingClassifier(classifier(m), max_iter=2).fit(X, np.where(np.arange(150) % 2, Y, -1)).predict(X)
    ),
    "a target that is scaled": lambda m: (
        TransformedTargetRegressor(regressor(m), transformer=StandardScaler()).fit(FEATURES, TARGETS).predict(FEATURES)
    ),
    "a root first": lambda m: (
        make_pipeline(FunctionTransformer(np.cbrt), StandardScaler(), classifier(m)).fit(X, Y).predict_proba(X)
    ),
    "a copy": lambda m: parameters(copy.deepcopy(classifier(m).fit(X, Y)).partial_fit(X, Y)),
}
if has_fit_parameter(theirs.MLPRegressor, "sample_weight"):  # since scikit-learn 1.7
    SCRIPTS |= {
        "boosting": lambda m: AdaBoostRegressor(regressor(m), n_estimators=2, random_state=0).fit(X, Y).predict(X),
        "weights of whole numbers": lambda m: parameters(classifier(m).fit(X, Y, sample_weight=1 + Y)),
        "weights in a list": lambda m: parameters(regressor(m).fit(X, Y, sample_weight=[1.0, 2.0, 3.0] * 50)),
        "weights and held-out rows": lambda m: parameters(
            classifier(m, early_stopping=True).fit(X, Y, sample_weight=1.0 + X[:, 0] ** 2)
        ),
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_same_numbers(script: str) -> None:
    mine, yours = (SCRIPTS[script](module) for module in (ours, theirs))
    assert len(mine) == len(yours) > 0
    for a, b in zip(mine, yours, strict=True):
        if isinstance(b, str):
            assert a == b
        else:
            np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=1e-7, atol=1e-8)


def test_the_boundary_is_drawn() -> None:
    pytest.importorskip("matplotlib", reason="the picture is matplotlib's: pip install '.[plot]'").use("Agg")
    drawn = [
        DecisionBoundaryDisplay.from_estimator(classifier(module).fit(*MOONS), MOONS[0], grid_resolution=10).response
        for module in (ours, theirs)
    ]
    np.testing.assert_allclose(drawn[0], drawn[1], atol=1e-8)
