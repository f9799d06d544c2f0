"""What the classifier and the regressor share: their parameters, fitting, and the way from features to outputs."""

import contextlib
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, _fit_context
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from xpnet.backend import Backend, select, select_for
from xpnet.backend.arrays import home_of, to_numpy
from xpnet.data import Scaling, Schema
from xpnet.model import Model
from xpnet.numerics.augment import Distortion
from xpnet.numerics.functional import ACTIVATIONS, LOSSES
from xpnet.numerics.network import MLP
from xpnet.optim import SCHEDULES
from xpnet.sklearn.examples import SparseExamples, logits_of
from xpnet.sklearn.lbfgs import minimize
from xpnet.sklearn.objective import Objective, Problem
from xpnet.sklearn.stochastic import OptimizerState, Training
from xpnet.training.loader import Examples

try:  # scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin as Callbacks
except ImportError:

    class Callbacks:  # type: ignore[no-redef]
        """Stands for what scikit-learn does not have yet."""


__all__ = ["BaseMLP"]

Array = Any
Arrays = list[Any]

# scikit-learn's name for what xpnet calls otherwise.
NAMES = {"sigmoid": "logistic"}

_JUDGED = ("validation_scores_", "validation_loss_curve_", "best_validation_score_")
_ADDED = ("dropout", "input_dropout", "batch_norm", "schedule", "augment", "average", "clip_norm", "callbacks")


@dataclass(eq=False, repr=False, kw_only=True)
class BaseMLP(Callbacks, BaseEstimator):  # type: ignore[misc]
    """A multilayer perceptron with scikit-learn's interface.

    What scikit-learn's estimators have keeps its name, default and meaning there. What xpnet adds:

    device, library : where to compute, as in xpnet.select. By default where X lies, if array_api_dispatch is on, else
        with NumPy on the CPU. Results come back as arrays of X's library.
    dropout, input_dropout : drop rates of the hidden units and of the features while training, in [0, 1).
    batch_norm : whether hidden layers are normalised over the batch.
    schedule : of the learning rate over max_iter iterations: constant, step, linear, cosine or one-cycle.
    augment : an xpnet.Distortion, or a dict of its amounts, for features that are square images.
    average : decay of a moving average of the parameters, which becomes the model; 0 turns it off.
    clip_norm : largest global norm of the gradient, > 0; None does not clip.
    validation_data : (X, y), judged by after each iteration; early_stopping then holds out nothing.
    callbacks : instances of xpnet.Callback.

    activation also takes leaky-relu, scaled-tanh and gelu. partial_fit and warm_start continue with the optimizer's
    state, and partial_fit may be combined with early_stopping.
    """

    solver: str = "adam"
    alpha: float = 0.0001
    batch_size: Any = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: Any = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000
    device: str | None = None
    library: str | None = None
    dropout: float = 0.0
    input_dropout: float = 0.0
    batch_norm: bool = False
    schedule: str | None = None
    augment: Any = None
    average: float = 0.0
    clip_norm: float | None = None
    validation_data: Any = None
    callbacks: Any = ()

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({NAMES.get(name, name) for name in ACTIVATIONS})],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "device": [str, None],
        "library": [str, None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "batch_norm": ["boolean"],
        "schedule": [StrOptions(set(SCHEDULES)), None],
        "augment": [Distortion, dict, None],
        "average": [Interval(Real, 0, 1, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "validation_data": [tuple, list, None],
        "callbacks": [tuple, list, None],
    }

    if TYPE_CHECKING:  # fields of the subclasses, in the order that scikit-learn's have
        hidden_layer_sizes: Any = (100,)
        activation: str = "relu"
        class_weight: Any = None
        label_smoothing: float = 0.0
    else:
        class_weight, label_smoothing = None, 0.0

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> Self:
        """Fit the network to features and targets.

        X : (n, n_features), an array, a table or a sparse matrix.   y : (n,) or (n, n_outputs).
        sample_weight : (n,), >= 0.   validation_data : instead of the parameter.
        """
        return self._fit(X, y, sample_weight, validation_data, incremental=False)

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_data: Any, *, incremental: bool) -> Self:
        sizes = self._hidden_sizes()
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        self._refuse(continuing=not first)
        X, y = self._validated(X, y, reset=first)
        y_host = to_numpy(y) if home_of(y) else y
        targets = self._targets(y_host, y, like=X, dtype=_dtype_of(X), first=first, incremental=incremental)
        weights = self._weights(sample_weight, y_host, X)
        self.n_outputs_ = self._outputs_for(targets)
        network = self._describe((X.shape[1], *sizes, self.n_outputs_))
        if first:
            self._begin(network, _dtype_of(X))
        self._optimizer_for_next()
        params = [to_numpy(a) for a in self._params()]
        data = _kind_of(X)(X, targets, None, weights)
        held = self._held(validation_data if validation_data is not None else self.validation_data, X)
        if self.solver != "lbfgs":
            data, held = self._split(data, held)
            self._begin_curves(held is not None)
        backend = self._backend_for(X)
        running = [to_numpy(a) for a in self.__dict__.get("_running", ())]
        problem = Problem(network, Objective(network, self.alpha), backend, data, held, params, running)
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

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = [sizes] if not hasattr(sizes, "__iter__") else list(sizes)
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _refuse(self, *, continuing: bool) -> None:
        """Raise ValueError for settings that exclude each other."""
        if continuing and "_wrapped" in self.__dict__:
            raise ValueError(
                "this estimator wraps a model: continue its training with xpnet.fit(model, data), or fit it anew with "
                "warm_start=False"
            )
        self.__dict__.pop("_wrapped", None)
        if self.solver == "lbfgs":
            for name in _ADDED:
                if getattr(self, name):
                    raise ValueError(f"{name} needs solver='adam' or 'sgd': lbfgs takes all examples in each step")
        if self.schedule is not None and self.solver == "sgd" and self.learning_rate != "constant":
            raise ValueError("schedule takes the place of learning_rate: leave that at 'constant'")

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

    def _targets(
        self, y: NDArray[Any], given: Any, *, like: Any, dtype: str, first: bool, incremental: bool
    ) -> NDArray[Any]:
        """The targets as the loss takes them: (n,) integers or (n, k) floats.   y : host copy of what was given."""
        raise NotImplementedError

    def _outputs_for(self, targets: NDArray[Any]) -> int:
        return int(targets.shape[1])

    def _names_of_outputs(self) -> tuple[Hashable, ...]:
        return ()

    def _weights(self, sample_weight: Any, y: NDArray[Any], X: Any) -> NDArray[Any] | None:
        """The weight of each example, (n,) on the host, in X's dtype; None for 1."""
        if sample_weight is None and self.class_weight is None:
            return None
        dtype = np.dtype(_dtype_of(X))
        given = to_numpy(sample_weight) if home_of(sample_weight) else sample_weight
        weights = _check_sample_weight(given, np.empty((X.shape[0], 1), dtype), dtype=dtype)
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, y)
        return np.asarray(weights, dtype)

    def _describe(self, sizes: Sequence[int]) -> MLP:
        """The network with these widths."""
        own = {ours: theirs for theirs, ours in NAMES.items()}
        return MLP(
            tuple(sizes),
            activation=own.get(self.activation, self.activation),
            loss=self._loss(),
            label_smoothing=self.label_smoothing if self._loss() == "cross-entropy" else 0.0,
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            batch_norm=self.batch_norm,
        )

    def _loss(self) -> str:
        """The name of the network's loss, which out_activation_ decides."""
        raise NotImplementedError

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
        return OptimizerState(self._rule(), self.learning_rate_init, self.learning_rate_init, int(seed), kept)

    def _rule(self) -> str:
        """xpnet's name of the update rule."""
        if self.solver != "sgd":
            return "adam"
        return "sgd" if not self.momentum else "nesterov" if self.nesterovs_momentum else "momentum"

    def _optimizer_for_next(self) -> OptimizerState:
        """The optimizer's state, anew where another solver or rate is asked for than before."""
        state: OptimizerState = self.__dict__.get("_optimizer") or self._new_optimizer(
            check_random_state(self.random_state)
        )
        if state.name != self._rule():
            state = replace(state, name=self._rule(), arrays={})
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
        if validation_data is None or self.solver == "lbfgs":
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError("validation_data must be a pair (X, y)")
        X_held, y_held = self._validated(*validation_data, reset=False)
        y_host = to_numpy(y_held) if home_of(y_held) else y_held
        targets = self._targets(y_host, y_held, like=X_held, dtype=_dtype_of(X), first=False, incremental=True)
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
        return replace(data, rows=rows, weights=weights[0]), replace(data, rows=kept, weights=weights[1])

    def _batch_size(self, n: int) -> int:
        """Examples per step: as asked for, but within 1 to n, and without a last batch of one that is normalised."""
        if self.batch_size == "auto":
            size = min(200, n)
        else:
            if self.batch_size > n:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
                )
            size = int(np.clip(self.batch_size, 1, n))
        if not self.batch_norm or (n - 1) % size:
            return size
        return next((fewer for fewer in range(size - 1, 1, -1) if (n - 1) % fewer), n)

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

    def _raw(self, X: Any, method: str) -> tuple[Array, Any]:
        """The network's outputs, (n, k) where X lies, and their namespace."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        home = home_of(X) or ("numpy", "cpu")
        if "_wrapped" in self.__dict__:
            found = self._wrapped.outputs(X.toarray() if issparse(X) else X)
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
        output = LOSSES[self._network.loss].output
        with backend.active(), np.errstate(over="ignore", invalid="ignore"):
            outputs, _ = output(logits_of(self._network, params, running, X, backend), xp=backend.xp)
        if home == (backend.name, backend.device):
            return outputs, backend.xp
        there = select("cpu") if home[0] == "numpy" else select_for(X)
        return there.to_device(backend.to_host(outputs)), there.xp

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
    def _told(self, epochs: int) -> Iterator[Callable[[Any], bool]]:
        """A function that reports an epoch to scikit-learn's callbacks; it returns whether one of them says stop."""
        if not getattr(self, "_skl_callbacks", None):
            yield lambda loop: False
            return
        context = self._init_callback_context(max_subtasks=epochs)
        context.call_on_fit_task_begin(estimator=self)

        def tell(loop: Any) -> bool:
            def fitted() -> dict[str, Any]:
                copy = type(self)()
                copy._install(*loop.model_on_host())
                names = ("coefs_", "intercepts_", "_scales", "_running")
                return {name: getattr(copy, name) for name in names} | {"_network": self._network}

            epoch = context.subcontext(task_name="epoch")
            epoch.call_on_fit_task_begin(estimator=self)
            return bool(epoch.call_on_fit_task_end(estimator=self, reconstruction_attributes=fitted))

        yield tell
        context.call_on_fit_task_end(estimator=self)

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
