"""MLPRegressor: numbers, one or several at once."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import column_or_1d

from xpnet.backend.arrays import home_of, to_numpy
from xpnet.model import Model
from xpnet.sklearn.base import BaseMLP, partial_fit_available

__all__ = ["MLPRegressor"]

_LOSSES = {"squared_error": "squared-error", "poisson": "poisson"}


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron that predicts numbers, in place of sklearn.neural_network.MLPRegressor.

    Parameters and fitted attributes are scikit-learn's, with the same defaults and meaning: from the same random_state
    it takes the same steps, apart from rounding. Only lbfgs differs for several outputs, where scikit-learn follows the
    gradient of another function than the one whose value it compares. Parameters describes what xpnet adds.
    """

    loss: str = "squared_error"
    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"
    _: KW_ONLY

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(_LOSSES))],
    }

    @partial_fit_available  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one iteration over some examples, from where the last call left off; arguments as in fit."""
        return self._fit(X, y, sample_weight, None, incremental=True)

    def _checks(self) -> dict[str, Any]:
        return {"y_numeric": True}

    def _targets(self, y: NDArray[Any], given: Any, *, like: Any, dtype: str, partial: bool) -> NDArray[Any]:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and np.min(y) < 0:
            raise ValueError("Some value(s) of y are out of the valid range of the loss 'poisson': y must be >= 0.")
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        return y.reshape(len(y), -1).astype(dtype)

    def _loss(self) -> str:
        return _LOSSES[self.loss]

    def predict(self, X: Any) -> Any:
        """The predicted numbers, (n,) or (n, n_outputs), in X's library."""
        outputs, xp = self._outputs(X, "predict")
        if "_wrapped" in self.__dict__:
            outputs = self._wrapped.schema.targets.on(xp.asarray).back(outputs)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination of the predictions, computed on the host: JAX's arrays cannot be written."""
        y, predicted, weights = (
            to_numpy(a) if home_of(a) is not None else a for a in (y, self.predict(X), sample_weight)
        )
        return float(r2_score(y, predicted, sample_weight=weights))

    def _wrap(self, model: Model) -> None:
        if model.task != "regression":
            raise ValueError(f"the model was trained for {model.task}: wrap it with MLPClassifier.from_model")
        if model.network.loss == "poisson":
            self.loss = "poisson"
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
