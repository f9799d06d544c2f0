"""scikit-learn's fitted MLPs as models with the same outputs."""

import warnings
from typing import Any

import numpy as np
import pytest

from xpnet.errors import ModelError
from xpnet.export import from_sklearn

pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 5)) * 7 + 3
TARGETS: dict[str, Any] = {
    "two": RNG.choice(["no", "yes"], 120),
    "numbers": RNG.choice([3, 5, 9], 120),
    "numbered": RNG.integers(0, 4, 120),
    "labels": RNG.integers(0, 2, (120, 4)),
    "number": RNG.normal(size=120) * 50,
    "pair": RNG.normal(size=(120, 2)),
}


def fitted(estimator: Any, y: Any, x: Any = X) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge
        return estimator.fit(x, y)


def mlp(targets: str, library: str = "sklearn.neural_network", **options: Any) -> Any:
    module = pytest.importorskip(library)
    kind = module.MLPRegressor if targets in ("number", "pair") else module.MLPClassifier
    return kind(hidden_layer_sizes=(8, 4), max_iter=15, random_state=0, **options)


def expected(estimator: Any, x: Any = X) -> Any:
    found = estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)
    return np.asarray(found).reshape(len(x), -1)


@pytest.mark.parametrize("library", ["sklearn.neural_network", "xpnet.sklearn"])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_the_outputs_are_the_estimator_s(activation: str, targets: str, library: str) -> None:
    estimator = fitted(mlp(targets, library, activation=activation), TARGETS[targets])
    model = from_sklearn(estimator)
    outputs = expected(estimator)
    np.testing.assert_allclose(model.outputs(X), outputs, rtol=0, atol=1e-12 * np.abs(outputs).max())
    assert np.array_equal(model.predict(X), estimator.predict(X)) or targets in ("number", "pair")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["StandardScaler", "MinMaxScaler", "MaxAbsScaler"])
def test_the_scaler_of_a_pipeline_comes_along(name: str, dtype: str) -> None:
    from sklearn import preprocessing
    from sklearn.pipeline import make_pipeline

    x = X.astype(dtype)
    estimator = fitted(make_pipeline(getattr(preprocessing, name)(), "passthrough", mlp("two")), TARGETS["two"], x)
    model = from_sklearn(estimator, data="mine")
    np.testing.assert_allclose(
        model.outputs(x), expected(estimator, x), rtol=0, atol=2e-6 if dtype == "float32" else 1e-12
    )
    assert (model.data, list(model.classes)) == ("mine", ["no", "yes"])
    assert list(model.predict(x)) == list(estimator.predict(x))


def test_names_of_columns_come_along() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcde"))
    model = from_sklearn(fitted(mlp("numbers"), TARGETS["numbers"], table))
    assert model.schema.columns == tuple("abcde")
    assert list(model.predict(table[list("edcba")])) == list(model.predict(X))


def test_a_poisson_regressor() -> None:
    import sklearn

    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
        pytest.skip("scikit-learn 1.6 has no such loss")
    estimator = fitted(mlp("pair", loss="poisson"), RNG.poisson(2.0, (120, 2)))
    np.testing.assert_allclose(from_sklearn(estimator).outputs(X), expected(estimator), rtol=1e-12)


def test_what_is_no_fitted_mlp_is_refused() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

    two = TARGETS["two"]
    for estimator, message in (
        (None, "NoneType is no MLPClassifier or MLPRegressor"),
        (LogisticRegression(), "LogisticRegression is no MLPClassifier"),
        (mlp("two"), "MLPClassifier is not fitted"),
        (fitted(make_pipeline(PolynomialFeatures(), mlp("two")), two), "PolynomialFeatures is no fitted"),
        (
            fitted(make_pipeline(MinMaxScaler(clip=True), mlp("two")), two),
            "MinMaxScaler is no .*without clip",
        ),
        (fitted(make_pipeline(StandardScaler(), MinMaxScaler(), mlp("two")), two), "must have one scaler"),
    ):
        with pytest.raises(ModelError, match=message):
            from_sklearn(estimator)
