"""What the classifier and the regressor share: fitting, and the way from features to outputs."""

import contextlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from itertools import pairwise
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import _fit_context
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from xpnet.backend import Backend, select, select_for
from xpnet.backend.arrays import home_of, to_numpy
from xpnet.data import Scaling, Schema
from xpnet.model import Model
from xpnet.numerics.functional import LOSSES
from xpnet.numerics.network import MLP
from xpnet.sklearn.examples import SparseExamples, logits_of
from xpnet.sklearn.lbfgs import minimize
from xpnet.sklearn.objective import Objective, Problem
from xpnet.sklearn.parameters import NAMES, Parameters
from xpnet.sklearn.stochastic import OptimizerState, Training
from xpnet.training.loader import Examples

try:  # since scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin as Callbacks
except ImportError:

    class Callbacks:  # type: ignore[no-redef]
        """Stands for what scikit-learn does not have yet."""


__all__ = ["BaseMLP"]

Array = Any
Arrays = list[Any]
Tell = Callable[[], bool]

_JUDGED = ("validation_scores_", "validation_loss_curve_", "best_validation_score_")


class BaseMLP(Callbacks, Parameters):  # type: ignore[misc]
    """Fitting, and the way from features to outputs, with scikit-learn's interface."""

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> Self:
        """Fit the network to features and targets.

        X : (n, n_features), an array, a table or a sparse matrix.   y : (n,) or (n, n_outputs).
        sample_weight : (n,), >= 0.   validation_data : instead of the parameter.
        """
        return self._fit(X, y, sample_weight, validation_data, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_data: Any, *, incremental: bool) -> Self:
        sizes = self._hidden_sizes()
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        self._refuse(continuing=not first)
        X, y = self._validated(X, y, reset=first)
        y_host = to_numpy(y) if home_of(y) else y
        targets = self._targets(y_host, y, like=X, dtype=_dtype_of(X), partial=incremental)
        weights = self._weights(sample_weight, y_host, X, partial=incremental)
        self.n_outputs_ = self._outputs_for(targets)
        network = self._describe((X.shape[1], *sizes, self.n_outputs_))
        if first:
            self._begin(network, _dtype_of(X))
        elif [tuple(W.shape) for W in self.coefs_] != list(pairwise(network.sizes)):
            raise ValueError(
                f"training continues with {len(self.coefs_)} weight matrices of {[tuple(W.shape) for W in self.coefs_]}"
                f", which do not fit layers of {network.sizes}: leave hidden_layer_sizes as it was, or fit anew"
            )
        elif len(self._params()) != len(network.param_shapes()):
            raise ValueError("training continues with another batch_norm: leave it as it was, or fit anew")
        self._optimizer_for_next()
        params = [to_numpy(a) for a in self._params()]
        data = _kind_of(X)(X, targets, None, weights)
        held = self._held(validation_data if validation_data is not None else self.validation_data, X)
        if self.solver != "lbfgs":
            data, held = self._split(data, held)
            self._begin_curves(held is not None)
        backend = self._backend_for(X)
        running = [to_numpy(a) for a in self.__dict__.get("_running", ())]
        objective, given = Objective(network, self.alpha), (X, y, sample_weight)
        problem = Problem(network, objective, backend, data, held, params, running, given)
        with backend.active():
            if self.solver == "lbfgs":
                found = minimize(self, problem)
            else:
                found = Training(self, problem, once=incremental).run()
        self._network = network
        self._install(*found, home=X)
        if not all(np.isfinite(a).all() for a in found[0]):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be"
                " preprocessed."
            )
        return self

    # Before the first step -------------------------------------------------------------------------------------------

    def _validated(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        return validate_data(  # type: ignore[no-any-return]
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=_floats_for(X),
            reset=reset,
            **self._checks(),
        )

    def _checks(self) -> dict[str, Any]:
        return {}

    def _targets(self, y: NDArray[Any], given: Any, *, like: Any, dtype: str, partial: bool) -> NDArray[Any]:
        """The targets as the loss takes them: (n,) integers or (n, k) floats.

        y : a host copy of what was given.   like : X.   partial : whether there are further examples than these.
        """
        raise NotImplementedError

    def _outputs_for(self, targets: NDArray[Any]) -> int:
        return int(targets.shape[1])

    def _names_of_outputs(self) -> tuple[Hashable, ...]:
        return ()

    def _weights(self, sample_weight: Any, y: NDArray[Any], X: Any, *, partial: bool) -> NDArray[Any] | None:
        """The weight of each example, (n,) on the host, in X's dtype; None for 1."""
        if sample_weight is None and self.class_weight is None:
            return None
        if partial and isinstance(self.class_weight, str):
            raise ValueError("class_weight='balanced' needs all examples, which partial_fit does not have: pass a dict")
        dtype = np.dtype(_dtype_of(X))
        given = to_numpy(sample_weight) if home_of(sample_weight) else sample_weight
        weights: NDArray[Any] = _check_sample_weight(given, np.empty((X.shape[0], 1), dtype), dtype=dtype)
        if self.class_weight is not None:
            weights = np.asarray(weights * compute_sample_weight(self.class_weight, y), dtype)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError("sample_weight and class_weight must be finite and >= 0.")
        if not np.any(weights):
            raise ValueError("sample_weight and class_weight leave no example with a weight above 0.")
        return weights

    def _begin(self, network: MLP, dtype: str) -> None:
        """Draw the first parameters, the same as scikit-learn from the same random_state.

            W, b ~ U(-r, r),   r = sqrt(6 / (n_in + n_out)), with 2 instead of 6 for the logistic function

        Source: Glorot and Bengio 2010; scikit-learn, which draws b likewise.
        """
        rng, params = check_random_state(self.random_state), []
        for i, (n_in, n_out) in enumerate(pairwise(network.sizes)):
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_in + n_out))
            W, b = rng.uniform(-bound, bound, (n_in, n_out)), rng.uniform(-bound, bound, n_out)
            normalized = network.batch_norm and i < network.n_layers - 1
            params += [W, np.ones(n_out), np.zeros(n_out)] if normalized else [W, b]
        means = [np.full(shape, float(name.endswith("var"))) for name, shape in network.running_shapes().items()]
        self._network = network
        self._install([a.astype(dtype) for a in params], [a.astype(dtype) for a in means])
        self.t_ = 0
        self.n_layers_ = len(network.sizes)
        self._optimizer = self._new_optimizer(rng)
        for name in ("loss_curve_", "best_loss_", "converged_", "_no_improvement_count", *_JUDGED):
            self.__dict__.pop(name, None)

    def _new_optimizer(self, rng: np.random.RandomState) -> OptimizerState:
        """The state with which an optimizer begins, whose draws are taken from a generator."""
        seed = self.random_state
        if not isinstance(seed, Integral):
            draws = self.dropout or self.input_dropout or self.augment is not None
            seed = rng.randint(np.iinfo(np.int32).max) if draws else 0
        # Only an int begins the same stream each time; the others continue by themselves.
        kept = rng if isinstance(self.random_state, Integral) else None
        rate = self.learning_rate_init
        return OptimizerState(self._rule(), rate, rate, int(seed), rng=kept)

    def _optimizer_for_next(self) -> OptimizerState:
        """The optimizer's state, anew where another solver or rate is asked for than before."""
        state: OptimizerState = self.__dict__.get("_optimizer") or self._new_optimizer(
            check_random_state(self.random_state)
        )
        if state.name != self._rule():
            state = replace(state, name=self._rule(), arrays={}, rate=None)
        if state.learning_rate_init != self.learning_rate_init:
            state = replace(state, learning_rate_init=self.learning_rate_init, learning_rate=self.learning_rate_init)
        self._optimizer = state
        self.n_iter_ = 0
        return state

    def _draws(self) -> np.random.RandomState:
        """What the validation split and the order of the examples are drawn from."""
        kept = self._optimizer.rng
        return check_random_state(self.random_state) if kept is None else kept

    def _begin_curves(self, judged: bool) -> None:
        """The attributes that grow with each iteration, where they are not there yet."""
        own = self.__dict__
        own.setdefault("loss_curve_", [])
        own.setdefault("_no_improvement_count", 0)
        own.setdefault("converged_", False)
        for name, value in zip(_JUDGED, ([], [], -np.inf), strict=True):
            if own.get(name) is None:
                own[name] = value if judged else None
        if own.get("best_loss_") is None:
            self.best_loss_ = None if self.early_stopping else np.inf

    def _held(self, validation_data: Any, X: Any) -> Examples | None:
        """The user's own examples to judge by."""
        if validation_data is None:
            return None
        if self.solver == "lbfgs":
            raise ValueError("validation_data needs solver='adam' or 'sgd', which it judges after each iteration")
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError("validation_data must be a pair (X, y)")
        try:
            X_held, y_held = self._validated(*validation_data, reset=False)
            y_host = to_numpy(y_held) if home_of(y_held) else y_held
            targets = self._targets(y_host, y_held, like=X_held, dtype=_dtype_of(X), partial=True)
            if (k := self._outputs_for(targets)) != self.n_outputs_:
                raise ValueError(f"`y` has {k} outputs, not {self.n_outputs_}.")
        except ValueError as error:
            raise ValueError(f"validation_data: {error}") from None
        return _kind_of(X_held)(X_held, targets)

    def _split(self, data: Examples, held: Examples | None) -> tuple[Examples, Examples | None]:
        """The examples to train on and those that are held out for early stopping."""
        if not self.early_stopping or held is not None:
            return data, held
        binary = LOSSES[self._loss()].task == "multilabel" and data.targets.shape[1] == 1
        rows, kept = train_test_split(
            np.arange(data.n),
            random_state=self._draws(),
            test_size=self.validation_fraction,
            stratify=data.targets > 0.5 if binary else None,
        )
        if len(kept) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        weights = (None, None) if data.weights is None else (data.weights[rows], data.weights[kept])
        if not all(w is None or np.any(w) for w in weights):
            raise ValueError(
                "The examples to train on, or those held out for early stopping, all have a weight of 0: pass "
                "validation_data, or leave them out."
            )
        return replace(data, rows=rows, weights=weights[0]), replace(data, rows=kept, weights=weights[1])

    # Where it is computed --------------------------------------------------------------------------------------------

    def _backend_for(self, X: Any) -> Backend:
        """The library and device that were asked for, or those of X."""
        if self.device is not None or self.library is not None:
            return select(self.device or "auto", self.library)
        return select("cpu") if home_of(X) is None else select_for(X)

    def _params(self) -> Arrays:
        """The parameters as a flat list, in forward order."""
        scales = iter(self.__dict__.get("_scales", ()))
        hidden = len(self.coefs_) - 1
        flat: Arrays = []
        for i, (W, b) in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
            flat += [W, next(scales), b] if self.__dict__.get("_scales") and i < hidden else [W, b]
        return flat

    def _install(self, params: Arrays, running: Arrays, home: Any = None) -> None:
        """Take over parameters and running statistics from the host, as arrays where X lies."""
        if home is not None and home_of(home) not in (None, ("numpy", "cpu")):
            there = select_for(home)
            params, running = ([there.to_device(a) for a in arrays] for arrays in (params, running))
        self.coefs_ = [p for p in params if p.ndim == 2]
        rest = [p for p in params if p.ndim == 1]
        hidden = len(self.coefs_) - 1
        normalized = len(rest) > len(self.coefs_)
        self._scales = rest[: 2 * hidden : 2] if normalized else []
        self.intercepts_ = [*rest[1 : 2 * hidden : 2], rest[-1]] if normalized else rest
        self._running = running

    def _logits(self, X: Any, method: str) -> tuple[Array, Any]:
        """The outputs before their activation, (n, k) where X lies, and their namespace."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        home = home_of(X) or ("numpy", "cpu")
        if "_wrapped" in self.__dict__:
            found = self._wrapped.logits(X.toarray() if issparse(X) else X) / self._wrapped.schema.temperature
            there = select("cpu") if home[0] == "numpy" else select_for(X)
            return (found if home[0] == "numpy" else there.to_device(found)), there.xp
        backend = self._backend_for(X)
        params, running = self._params(), self.__dict__.get("_running", [])
        if (own := home_of(params[0])) != (backend.name, backend.device):
            if self.device is None and self.library is None:
                raise ValueError(
                    f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same device"
                    f" as those passed to fit(), {' on '.join(own or ('unknown',))}, not {' on '.join(home)}."
                )
            params, running = ([backend.adopt(a) for a in arrays] for arrays in (params, running))
        with backend.active():
            logits = logits_of(self._network, params, running, X, backend)
        if home == (backend.name, backend.device):
            return logits, backend.xp
        there = select("cpu") if home[0] == "numpy" else select_for(X)
        return there.to_device(backend.to_host(logits)), there.xp

    def _outputs(self, X: Any, method: str) -> tuple[Array, Any]:
        """The network's outputs, (n, k) where X lies, and their namespace."""
        logits, xp = self._logits(X, method)
        with np.errstate(over="ignore", invalid="ignore"):
            outputs, _ = LOSSES[self._network.loss].output(logits, xp=xp)
        return outputs, xp

    # What comes of it ------------------------------------------------------------------------------------------------

    @property
    def model_(self) -> Model:
        """The fitted network as an xpnet.Model: to save, to export, to use without scikit-learn."""
        check_is_fitted(self)
        if "_wrapped" in self.__dict__:
            wrapped: Model = self._wrapped
            return wrapped
        backend = self._backend_for(self.coefs_[0])
        params = [backend.adopt(a) for a in self._params()]
        running = [backend.adopt(a) for a in self._running]
        network, params = self._as_model(self._network, params, backend.xp)
        names = tuple(map(str, getattr(self, "feature_names_in_", ())))
        classes = self._names_of_outputs()
        schema = Schema("", (network.sizes[0],), classes, Scaling(), Scaling(), "as-is", names)
        return Model(network, params, running, backend, schema)

    def _as_model(self, network: MLP, params: Arrays, xp: Any) -> tuple[MLP, Arrays]:
        """Network and parameters as a Model has them."""
        return network, params

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """A fitted estimator that predicts what a model does.   Raises ValueError for a model of another task."""
        network = model.network
        estimator = cls(
            hidden_layer_sizes=network.sizes[1:-1],
            activation=NAMES.get(network.activation, network.activation),
            batch_norm=network.batch_norm,
            dropout=network.dropout,
            input_dropout=network.input_dropout,
        )
        estimator._wrap(model)
        estimator._network, estimator._wrapped = network, model
        estimator._install(*([model.backend.to_host(a) for a in arrays] for arrays in (model.params, model.running)))
        estimator.n_features_in_, estimator.n_outputs_ = network.sizes[0], network.sizes[-1]
        estimator.n_layers_, estimator.n_iter_, estimator.t_ = len(network.sizes), 0, 0
        if model.schema.columns:
            estimator.feature_names_in_ = np.array(model.schema.columns, dtype=object)
        return estimator

    def _wrap(self, model: Model) -> None:
        """Check a model, and take over what its outputs stand for."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _told(self, problem: Problem, epochs: int, model: Callable[[], tuple[Arrays, Arrays]]) -> Iterator[Tell]:
        """A function that reports an epoch to scikit-learn's callbacks; it returns whether one of them says stop.

        model : returns the parameters and the running statistics as they are, on the host.
        """
        if not getattr(self, "_skl_callbacks", None):
            yield lambda: False
            return
        X, y, sample_weight = problem.given
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        told = {"estimator": self, "X": X, "y": y, "metadata": metadata}

        def fitted() -> dict[str, Any]:
            copy = type(self)()
            copy._install(*model(), home=X)
            names = ("coefs_", "intercepts_", "_scales", "_running")
            return {name: getattr(copy, name) for name in names} | {"_network": problem.network}

        def tell() -> bool:
            epoch = context.subcontext(task_name="epoch")
            epoch.call_on_fit_task_begin(**told)
            return bool(epoch.call_on_fit_task_end(**told, reconstruction_attributes=fitted))

        context = self._init_callback_context(max_subtasks=epochs)
        context.call_on_fit_task_begin(**told)
        yield tell
        context.call_on_fit_task_end(**told, reconstruction_attributes=fitted)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags


def _kind_of(X: Any) -> type[Examples]:
    return SparseExamples if issparse(X) else Examples


def _dtype_of(X: Any) -> str:
    """float32 or float64, that of some features."""
    return str(X.dtype).rpartition(".")[2]


def _floats_for(X: Any) -> list[Any]:
    """The precisions that features may have, as dtypes of their own library, if that is dispatched to."""
    from sklearn.utils._array_api import get_namespace

    xp, dispatched = get_namespace(X)
    return [xp.float64, xp.float32] if dispatched else [np.float64, np.float32]


partial_fit_available = available_if(BaseMLP._check_solver)
