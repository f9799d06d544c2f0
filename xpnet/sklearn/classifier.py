"""MLPClassifier: classes, and several labels at once."""

from collections.abc import Hashable
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

from xpnet.backend import select_for
from xpnet.backend.arrays import home_of, to_numpy
from xpnet.model import Model
from xpnet.numerics.functional import LOSSES, sigmoid, softmax
from xpnet.numerics.network import MLP
from xpnet.sklearn.base import BaseMLP, partial_fit_available

__all__ = ["MLPClassifier"]

Array = Any
Arrays = list[Any]


@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron that classifies, in place of sklearn.neural_network.MLPClassifier.

    Parameters and fitted attributes are scikit-learn's, with the same defaults and meaning: from the same random_state
    it takes the same steps, apart from rounding. Parameters describes what xpnet adds, and besides

    class_weight : "balanced", or a dict of the weight of each class, by which its examples' weights are multiplied.
    label_smoothing : share of the target spread evenly over the classes, in [0, 1).
    """

    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"
    _: KW_ONLY
    class_weight: Any = None
    label_smoothing: float = 0.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    @partial_fit_available  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one iteration over some examples, from where the last call left off.

        X, y, sample_weight : as in fit.   classes : of all calls; needed in the first, where y may lack some.
        """
        known = getattr(self, "classes_", None)
        if known is None and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is not None:
            found = unique_labels(to_numpy(classes) if home_of(classes) else classes)
            if known is None:
                y_host = to_numpy(y) if home_of(y) else y
                self._label_binarizer = LabelBinarizer()
                self._label_binarizer.fit(y_host if type_of_target(y_host).startswith("multilabel") else found)
                self.classes_ = found
            elif not np.array_equal(to_numpy(known), found):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}"
                )
        return self._fit(X, y, sample_weight, None, incremental=True)

    def _targets(self, y: NDArray[Any], given: Any, *, like: Any, dtype: str, partial: bool) -> NDArray[Any]:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or partial):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            if home_of(given) not in (None, ("numpy", "cpu")):
                self.classes_ = select_for(like).to_device(self.classes_) if home_of(like) else self.classes_
        else:
            self._check_classes(y, partial=partial)
        return self._encoded(y, dtype)

    def _check_classes(self, y: NDArray[Any], *, partial: bool) -> None:
        """Raise ValueError for targets that training cannot continue with."""
        found, known = unique_labels(y), to_numpy(self.classes_)
        if type_of_target(y).startswith("multilabel") != self._multilabel():
            raise ValueError(
                "`y` has one class for each example, but the network is for several labels."
                if self._multilabel()
                else "`y` has several labels for each example, but the network is for one class."
            )
        if not partial and set(found) != set(known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {known}, `y` has {found}"
            )
        if len(np.setdiff1d(found, known, assume_unique=True)):
            raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {known}. 'y' has {found}.")

    def _encoded(self, y: NDArray[Any], dtype: str) -> NDArray[Any]:
        binarizer = self._label_binarizer
        self.out_activation_ = "softmax" if binarizer.y_type_ == "multiclass" else "logistic"
        if binarizer.y_type_ == "multiclass":
            return np.searchsorted(binarizer.classes_, y).astype(np.int32)
        targets: NDArray[Any] = binarizer.transform(y).astype(dtype)
        return targets * (1.0 - self.label_smoothing) + self.label_smoothing / 2 if self.label_smoothing else targets

    def _outputs_for(self, targets: NDArray[Any]) -> int:
        return len(self._label_binarizer.classes_) if targets.ndim == 1 else targets.shape[1]

    def _names_of_outputs(self) -> tuple[Hashable, ...]:
        return tuple(to_numpy(self.classes_).tolist())

    def _loss(self) -> str:
        return "cross-entropy" if self.out_activation_ == "softmax" else "binary-cross-entropy"

    def predict(self, X: Any) -> Any:
        """The most probable class of each example, (n,); of several labels, (n, k) zeros and ones."""
        outputs, xp = self._outputs(X, "predict")
        if self._multilabel():
            if getattr(self._label_binarizer, "sparse_input_", False):
                return self._label_binarizer.inverse_transform(to_numpy(outputs))
            return xp.astype(outputs > 0.5, xp.int64)
        if outputs.shape[1] == 1:
            several = len(self._label_binarizer.classes_) > 1
            chosen = xp.astype((outputs[:, 0] > 0.5) & several, xp.int64)
        else:
            chosen = xp.argmax(outputs, axis=1)
        if home_of(self.classes_) == home_of(chosen):
            return xp.take(self.classes_, chosen, axis=0)
        classes = to_numpy(self.classes_)
        if home_of(chosen) == ("numpy", "cpu") or classes.dtype.kind not in "biuf":  # only NumPy has strings
            return classes[to_numpy(chosen)]
        return xp.take(select_for(chosen).to_device(classes), chosen, axis=0)

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, or label: (n, n_classes), in X's library."""
        outputs, xp = self._outputs(X, "predict_proba")
        return xp.concat([1.0 - outputs, outputs], axis=1) if self._paired() else outputs

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of predict_proba; where that is 0, of the number that is too small to be told from it."""
        logits, xp = self._logits(X, "predict_log_proba")
        p, _ = LOSSES[self._network.loss].output(logits, xp=xp)
        if self._paired():
            p, logits = xp.concat([1.0 - p, p], axis=1), xp.concat([-logits, logits], axis=1)
        elif self.out_activation_ == "softmax":
            logits = logits - xp.max(logits, axis=1, keepdims=True)
            logits = logits - xp.log(xp.sum(xp.exp(logits), axis=1, keepdims=True))
        positive = p > 0.0
        return xp.where(positive, xp.log(xp.where(positive, p, 1.0)), logits)

    def _multilabel(self) -> bool:
        return bool(self._label_binarizer.y_type_.startswith("multilabel"))

    def _paired(self) -> bool:
        """Whether a single output is the probability of the second of two classes."""
        return self.out_activation_ == "logistic" and not self._multilabel()

    def _as_model(self, network: MLP, params: Arrays, xp: Any) -> tuple[MLP, Arrays]:
        """One logistic output becomes two of a softmax, p = softmax(0, z); of a single class, its only one."""
        if not self._paired():
            return network, params
        if len(self._label_binarizer.classes_) == 1:
            return replace(network, loss="cross-entropy"), params
        *hidden, W, b = params
        two = [xp.concat([xp.zeros_like(W), W], axis=1), xp.concat([xp.zeros_like(b), b])]
        return replace(network, sizes=(*network.sizes[:-1], 2), loss="cross-entropy"), [*hidden, *two]

    def _wrap(self, model: Model) -> None:
        if model.task == "regression":
            raise ValueError("the model was trained for regression: wrap it with MLPRegressor.from_model")
        if LOSSES[model.network.loss].output not in (softmax, sigmoid):
            raise ValueError(f"the outputs of a model trained with the loss {model.network.loss} are no probabilities")
        self.classes_ = np.array(model.classes)
        self._label_binarizer = LabelBinarizer().fit(self.classes_)
        if model.task == "multilabel":
            self._label_binarizer.y_type_ = "multilabel-indicator"
        self.out_activation_ = "softmax" if model.task == "classification" else "logistic"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
