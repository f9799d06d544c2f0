"""scikit-learn: a fitted MLP, alone or behind a scaler in a pipeline, as a model. Its own package is not imported."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.arrays import to_numpy
from xpnet.data import Scaling
from xpnet.errors import ModelError
from xpnet.export.models import model_of
from xpnet.model import Model
from xpnet.numerics.network import MLP

__all__ = ["from_sklearn"]

_ACTIVATIONS = {"logistic": "sigmoid", "identity": "identity", "relu": "relu", "tanh": "tanh"}
_LOSSES = {
    "softmax": "cross-entropy",
    "logistic": "binary-cross-entropy",
    "identity": "squared-error",
    "exp": "poisson",
}


def from_sklearn(estimator: Any, *, data: str = "") -> Model:
    """A fitted estimator of scikit-learn as a model with the same outputs, on the CPU with NumPy.

    estimator : an MLPClassifier or MLPRegressor, of xpnet.sklearn too, or a Pipeline of StandardScaler or MinMaxScaler
        and such. One of two classes, which has one output p, gets two: 1 - p and p.
    data : the name of the set that it was trained on.
    Raises ModelError for any other estimator, or one that is not fitted.
    """
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    *scalers, mlp = [step for step in steps if step not in (None, "passthrough")] or [None]
    if hasattr(type(mlp), "model_") and not scalers:
        own: Model = mlp.model_
        return own
    for name in ("coefs_", "intercepts_", "out_activation_"):
        if not hasattr(mlp, name):
            fitted = "not fitted" if hasattr(mlp, "hidden_layer_sizes") else "no MLPClassifier or MLPRegressor"
            raise ModelError(f"{type(mlp).__name__} is {fitted}")
    if len(scalers) > 1:
        raise ModelError("a pipeline must have one scaler before the MLP: a network of xpnet scales its input once")
    coefs, intercepts = ([np.array(to_numpy(a)) for a in arrays] for arrays in (mlp.coefs_, mlp.intercepts_))
    if mlp.activation not in _ACTIVATIONS or mlp.out_activation_ not in _LOSSES:
        raise ModelError(
            f"a network of xpnet has no activation {mlp.activation!r} with {mlp.out_activation_!r} behind it"
        )
    loss, classes = _LOSSES[mlp.out_activation_], [*to_numpy(getattr(mlp, "classes_", np.empty(0))).tolist()]
    if loss == "binary-cross-entropy" and len(classes) == 2 and coefs[-1].shape[1] == 1:
        loss = "cross-entropy"  # p = 1 / (1 + e^-z), which is softmax's for -z/2 and z/2
        coefs[-1] = np.concatenate([-coefs[-1] / 2, coefs[-1] / 2], axis=1)
        intercepts[-1] = np.concatenate([-intercepts[-1] / 2, intercepts[-1] / 2])
    sizes = (coefs[0].shape[0], *(W.shape[1] for W in coefs))
    network = MLP(sizes, _ACTIVATIONS[mlp.activation], loss)
    first = scalers[0] if scalers else mlp
    numbered = classes == list(range(len(classes)))
    text = {
        "data": data,
        "labels": [] if numbered or network.loss != "cross-entropy" else classes,
        "columns": list(map(str, getattr(first, "feature_names_in_", ()))),
    }
    params = [a for pair in zip(coefs, intercepts, strict=True) for a in pair]
    return model_of(network, params, features=_scaling(scalers[0]) if scalers else None, text=text)


def _scaling(scaler: Any) -> Scaling:
    """What a scaler does, as x = (u - shift) / scale."""
    kind = type(scaler).__name__
    if kind == "StandardScaler" and hasattr(scaler, "scale_"):
        return Scaling("standard", _floats(scaler.mean_), _floats(scaler.scale_))
    if kind == "MinMaxScaler" and hasattr(scaler, "min_") and not scaler.clip:
        return Scaling("minmax", _floats(-scaler.min_ / scaler.scale_), _floats(1.0 / scaler.scale_))
    if kind == "MaxAbsScaler" and hasattr(scaler, "scale_"):
        return Scaling("minmax", None, _floats(scaler.scale_))
    raise ModelError(f"a pipeline's {kind} is no fitted StandardScaler, MinMaxScaler (without clip) or MaxAbsScaler")


def _floats(array: Any) -> NDArray[np.float64] | None:
    return None if array is None else np.array(array, np.float64)
