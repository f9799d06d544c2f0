"""The estimators on CUDA: CuPy where there is a GPU, its stand-in elsewhere."""

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra sklearn")

from sklearn import config_context
from sklearn.datasets import load_iris

from tests.conftest import relative_error
from xpnet.backend import select
from xpnet.backend.arrays import home_of, to_numpy
from xpnet.sklearn import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SETTINGS: list[dict[str, Any]] = [
    {},
    {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    {"schedule": "cosine", "dropout": 0.2, "clip_norm": 1.0, "average": 0.9},
    {"early_stopping": True, "batch_norm": True},
    {"class_weight": "balanced", "shuffle": False},
    {"solver": "lbfgs"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_same_network_as_on_the_cpu(settings: dict[str, Any]) -> None:
    """Trained on the GPU, with NumPy's arrays in and out: the CPU's parameters apart from rounding."""
    X, y = load_iris(return_X_y=True)
    common = {"max_iter": 8, "batch_size": 32, "random_state": 0, **settings}
    ours = MLPClassifier(device="cuda", **common).fit(X, y)
    host = MLPClassifier(**common).fit(X, y)
    for a, b in zip(ours.coefs_ + ours.intercepts_, host.coefs_ + host.intercepts_, strict=True):
        assert type(a) is np.ndarray
        assert relative_error(a, b) < 1e-9
    assert relative_error(ours.predict_proba(X), host.predict_proba(X)) < 1e-9
    assert ours.n_iter_ == host.n_iter_


def test_training_continues_there() -> None:
    """partial_fit after pickle, with another number of examples than before."""
    X, y = load_iris(return_X_y=True)
    estimators = [MLPRegressor(device=device, batch_size=20, random_state=0) for device in ("cuda", "cpu")]
    for part in (slice(0, 150, 2), slice(1, 90), slice(1, 90)):
        estimators = [pickle.loads(pickle.dumps(e.partial_fit(X[part], y[part]))) for e in estimators]
    ours, host = (e.predict(X) for e in estimators)
    assert relative_error(ours, host) < 1e-9


def test_arrays_on_the_gpu_stay_there() -> None:
    """Everything follows X: the parameters, the probabilities and the classes are CuPy's, with the CPU's values."""
    X, y = load_iris(return_X_y=True)
    to_device = select("cuda").to_device
    host = MLPClassifier(max_iter=8, random_state=0).fit(X, y)
    with config_context(array_api_dispatch=True):
        ours = MLPClassifier(max_iter=8, random_state=0).fit(to_device(X), to_device(y))
        found = [*ours.coefs_, ours.predict_proba(to_device(X)), ours.predict(to_device(X))]
    for a, b in zip(found, [*host.coefs_, host.predict_proba(X), host.predict(X)], strict=True):
        assert home_of(a) == ("cupy", "cuda:0")
        assert relative_error(to_numpy(a), b) < 1e-9
    with config_context(array_api_dispatch=True), pytest.raises(ValueError, match="must use the same namespace"):
        ours.predict(X)
