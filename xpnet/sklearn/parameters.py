"""The parameters of the estimators: scikit-learn's names, defaults and meanings, and what xpnet adds."""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, Options, StrOptions

from xpnet.numerics.augment import Distortion
from xpnet.numerics.functional import ACTIVATIONS
from xpnet.numerics.network import MLP
from xpnet.optim import SCHEDULES

__all__ = ["NAMES", "Parameters", "warn"]

# scikit-learn's name for what xpnet calls otherwise.
NAMES = {"sigmoid": "logistic"}

# What has no meaning where all examples take part in each step.
ADDED = ("dropout", "input_dropout", "batch_norm", "schedule", "augment", "average", "clip_norm", "callbacks")


@dataclass(eq=False, repr=False, kw_only=True)
class Parameters(BaseEstimator):  # type: ignore[misc]
    """The parameters of a multilayer perceptron with scikit-learn's interface.

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
    state, and with the draws where random_state is an int; partial_fit may be combined with early_stopping.
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
        "momentum": [Interval(Real, 0, 1, closed="left")],
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

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = [sizes] if not hasattr(sizes, "__iter__") else list(sizes)
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [index(size) for size in sizes]

    def _refuse(self, *, continuing: bool) -> None:
        """Raise ValueError for settings that exclude each other."""
        if continuing and "_wrapped" in self.__dict__:
            raise ValueError(
                "this estimator wraps a model: continue its training with xpnet.fit(model, data), or fit it anew with "
                "warm_start=False"
            )
        self.__dict__.pop("_wrapped", None)
        if self.solver == "lbfgs":
            for name in ADDED:
                if getattr(self, name):
                    raise ValueError(f"{name} needs solver='adam' or 'sgd': lbfgs takes all examples in each step")
        if self.schedule is not None and self.solver == "sgd" and self.learning_rate != "constant":
            raise ValueError("schedule takes the place of learning_rate: leave that at 'constant'")

    def _rule(self) -> str:
        """xpnet's name of the update rule."""
        if self.solver != "sgd":
            return "adam"
        return "sgd" if not self.momentum else "nesterov" if self.nesterovs_momentum else "momentum"

    def _loss(self) -> str:
        """The name of the network's loss, which out_activation_ decides."""
        raise NotImplementedError

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

    def _batch_size(self, n: int) -> int:
        """Examples per step: as asked for, but within 1 to n, and without a last batch of one that is normalised."""
        if self.batch_size == "auto":
            size = min(200, n)
        else:
            if self.batch_size > n:
                warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
            size = int(np.clip(self.batch_size, 1, n))
        if not self.batch_norm or (n - 1) % size:
            return size
        return next((fewer for fewer in range(size - 1, 1, -1) if (n - 1) % fewer), n)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as scikit-learn's own module does, by whose name scripts choose what they want to see."""
    frame, registry = sys._getframe(1), globals().setdefault("__warningregistry__", {})
    module = "sklearn.neural_network._multilayer_perceptron"
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, module, registry)
