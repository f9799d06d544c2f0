"""scikit-learn's own checks of an estimator, none of which is expected to fail."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra sklearn")

import sklearn
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.fixes import parse_version

from tests.conftest import open_backend
from xpnet.sklearn import MLPClassifier, MLPRegressor

VERSION = parse_version(sklearn.__version__)
# With dispatch, scikit-learn takes lists since 1.9, and 1.6 sets array-api-strict to the standard of 2023.
LISTS, NEW_ARRAYS = parse_version("1.9"), parse_version("1.7")
needs_new_arrays = pytest.mark.skipif(VERSION < NEW_ARRAYS, reason="scikit-learn dispatches to new standards since 1.7")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATORS = [MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)]

# As scikit-learn checks its own, see sklearn.utils._test_common.instance_generator: weighting a row is the same as
# repeating it where each step sees all rows; in batches it is not, in theirs neither.
SETTINGS: dict[tuple[type, str], dict[str, Any]] = {
    (MLPClassifier, "check_sample_weight_equivalence_on_dense_data"): {"solver": "lbfgs"},
    (MLPRegressor, "check_sample_weight_equivalence_on_dense_data"): {"solver": "sgd", "tol": 1e-2, "random_state": 42},
}
# With dispatch, scikit-learn's own validation refuses what is neither an array nor a list.
REFUSED = {f"check_{name}_not_an_array" for name in ("sample_weights", "classifier_data", "regressor_data")}


def shown(value: Any) -> str:
    """A check with its arguments, or an estimator, in the name of a test."""
    if not isinstance(value, partial):
        return type(value).__name__
    arguments = ", ".join(f"{name}={value}" for name, value in value.keywords.items())
    return f"{value.func.__name__}({arguments})"


CHECKS = [
    (estimator, check)
    for each in ESTIMATORS
    for estimator, check in estimator_checks.estimator_checks_generator(each)
    if VERSION >= NEW_ARRAYS or "array_api" not in shown(check)
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=shown)
@pytest.mark.parametrize("dispatch", [False, True] if VERSION >= LISTS else [False])
def test_checks(estimator: Any, check: Any, dispatch: bool) -> None:
    name = check.func.__name__
    estimator = clone(estimator).set_params(**SETTINGS.get((type(estimator), name), {}))
    with config_context(array_api_dispatch=dispatch):
        if dispatch and name in REFUSED:
            with pytest.raises(TypeError, match="is not a supported array type"):
                check(estimator)
        else:
            check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=shown)
@pytest.mark.parametrize(
    "check", [estimator_checks.check_param_validation, estimator_checks.check_dataframe_column_names_consistency]
)
def test_what_scikit_learn_asks_of_its_own_alone(estimator: Any, check: Callable[[str, Any], None]) -> None:
    check(type(estimator).__name__, clone(estimator))


@needs_new_arrays
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=shown)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", ["array-api-strict", "torch"])
def test_every_library_gives_the_same_values(estimator: Any, library: str, dtype: str) -> None:
    open_backend(library)
    estimator, namespace = clone(estimator).set_params(random_state=0), library.replace("-", "_")
    if library == "torch" and dtype == "float64":  # where scikit-learn's own accuracy of tensors is a float32
        estimator_checks.check_array_api_input("", estimator, namespace, None, dtype)
    else:
        estimator_checks.check_array_api_input_and_values("", estimator, namespace, None, dtype)


X = np.random.default_rng(0).standard_normal((60, 4))
Y = (X[:, 0] > X[:, 1]).astype(np.int64)
WEIGHTS = np.random.default_rng(1).uniform(0.5, 2, 60)


@needs_new_arrays
@pytest.mark.parametrize("of_targets", ["numpy", "array-api-strict", "torch"])
@pytest.mark.parametrize("of_features", ["numpy", "array-api-strict", "torch", "jax"])
def test_targets_and_weights_of_another_library(of_features: str, of_targets: str) -> None:
    """Everything follows X: its parameters, and what is predicted."""
    features, targets = open_backend(of_features), open_backend(of_targets)
    expected = MLPClassifier(max_iter=20, random_state=0).fit(X, Y, sample_weight=WEIGHTS)
    X_there = features.to_device(X.astype(np.float32))
    with config_context(array_api_dispatch=True):
        fitted = MLPClassifier(max_iter=20, random_state=0)
        fitted.fit(X_there, targets.to_device(Y), sample_weight=targets.to_device(WEIGHTS))
        probabilities = fitted.predict_proba(X_there)
        predicted = fitted.predict(X_there)
    assert {type(array) for array in (*fitted.coefs_, *fitted.intercepts_, probabilities)} == {type(X_there)}
    np.testing.assert_allclose(features.to_host(probabilities), expected.predict_proba(X), rtol=1e-4, atol=1e-4)
    assert np.mean(np.asarray(features.to_host(predicted)) == expected.predict(X)) > 0.95


@needs_new_arrays
def test_another_device_to_predict_on() -> None:
    fitted, strict = MLPClassifier(max_iter=20), open_backend("array-api-strict", "device1")
    with config_context(array_api_dispatch=True):
        fitted.fit(strict.to_device(X), strict.to_device(Y))
        with pytest.raises(
            ValueError, match=r"^Inputs passed to MLPClassifier.predict\(\) must use the same namespace"
        ) as e:
            fitted.predict(open_backend("array-api-strict").to_device(X))
    assert len(str(e.value).splitlines()) == 1
