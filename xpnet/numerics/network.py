"""The multilayer perceptron: a composition of functional.py, and nothing else.

An MLP is a description; it holds no arrays. Its parameters are a flat list in forward order, ``[W0, b0, W1, b1, ...]``;
a normalised layer has ``W, scale, shift`` instead, since shift takes the place of b. The running statistics of the
normalisation are a second flat list, ``[mean0, var0, ...]``, which the forward pass returns and never hides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace

from xpnet.checks import check_one_of, check_range, typed
from xpnet.errors import ConfigError
from xpnet.numerics.counter_rng import uniform
from xpnet.numerics.functional import ACTIVATIONS, LOSSES, batch_norm, dense, dropout, normalize
from xpnet.numerics.streams import INPUT

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["INITIALIZERS", "MLP"]

Array = Any
Arrays = list[Any]

# How the first parameters are drawn, which happens on the host, in training/initializers.py.
INITIALIZERS = (
    "auto",
    *("he-normal", "he-uniform", "glorot-normal", "glorot-uniform", "lecun-normal", "lecun-uniform", "zeros"),
)


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron: dense layers, each hidden one followed by normalisation, activation and dropout.

    sizes : widths of the layers, the input's first and the number of classes or numbers last, such as (784, 128, 10).
    activation : of the hidden layers, a key of functional.ACTIVATIONS.
    loss : a key of functional.LOSSES; it applies the output's activation itself.
    label_smoothing : share of the target spread evenly over all classes, in [0, 1); for losses on class labels.
    dropout, input_dropout : drop rates of the hidden units and of the inputs while training, in [0, 1).
    batch_norm : whether hidden layers are normalised over the batch.
    initializer : one of INITIALIZERS; "auto" is he-normal for relu, leaky-relu and gelu, glorot-uniform for the rest.
    Raises ConfigError for a value that is unknown or out of range.
    """

    sizes: tuple[int, ...]
    activation: str = "relu"
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    dropout: float = 0.0
    input_dropout: float = 0.0
    batch_norm: bool = False
    initializer: str = "auto"

    MOMENTUM = 0.1  # weight of the newest batch in the running statistics

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, typed(field.name, getattr(self, field.name), str(field.type)))
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ConfigError(f"sizes must be at least two widths of at least 1, not {self.sizes}")
        check_one_of("activation", self.activation, ACTIVATIONS)
        check_one_of("loss", self.loss, LOSSES)
        check_one_of("initializer", self.initializer, INITIALIZERS)
        check_range("dropout", self.dropout, 0.0, 1.0)
        check_range("input_dropout", self.input_dropout, 0.0, 1.0)
        check_range("label_smoothing", self.label_smoothing, 0.0, 1.0)
        if self.label_smoothing and LOSSES[self.loss].task != "classification":
            message = f"label_smoothing is for class labels, and the loss {self.loss} has none: leave it out"
            raise ConfigError(message, setting="label_smoothing")

    def __str__(self) -> str:
        return "-".join(map(str, self.sizes)) + f" {self.activation}"

    @property
    def n_layers(self) -> int:
        """Number of dense layers."""
        return len(self.sizes) - 1

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether the trained network is linear wherever no unit switches, as rectifiers do: logits = x J + b."""
        return self.n_layers == 1 or self.activation in ("relu", "leaky-relu", "identity")

    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter, in their order: "0.weight", "0.bias" (or "0.scale", "0.shift"), ..."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (n_in, n_out) in enumerate(pairwise(self.sizes)):
            normalized = self.batch_norm and i < self.n_layers - 1
            shapes |= {f"{i}.weight": (n_in, n_out)}
            shapes |= {f"{i}.{part}": (n_out,) for part in (("scale", "shift") if normalized else ("bias",))}
        return shapes

    def running_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each running statistic, in their order: "0.mean", "0.var", "1.mean", ..."""
        hidden = self.sizes[1:-1] if self.batch_norm else ()
        return {f"{i}.{part}": (n,) for i, n in enumerate(hidden) for part in ("mean", "var")}

    def forward(
        self,
        params: Arrays,
        x: Float[Array, "n {self.sizes[0]}"],
        *,
        running: Arrays | None = None,
        training: bool = False,
        step: Int[Array, " 1"] | None = None,
        seed: int = 0,
        first: int | Array = 0,
        need_dx: bool = False,
        xp: Any = None,
    ) -> tuple[Float[Array, "n {self.sizes[-1]}"], Callable[[Array], Arrays], Arrays]:
        """The network's logits and the way back from them.

        params : the flat list.   x : of the params' dtype.
        running : the running statistics, where there is normalisation.
        training : normalise by the batch's own statistics, and drop units where the network has dropout.
        step : >= 0, which selects the dropout masks; needed for training with dropout.
        seed : of the dropout masks.   first : the place of x's first row in the batch, whose rows share the masks.
        need_dx : whether the gradient by x is wanted too.
        Raises ValueError if the lists' lengths do not fit, or step is missing.
        Returns logits; vjp(dlogits) -> gradients in the order of params, after them dx where it is wanted; the new
        running statistics.
        """
        if training and (self.dropout or self.input_dropout) and step is None:
            raise ValueError("training with dropout needs step, the (1,) integer array that selects the masks")
        xp = array_namespace(x, *params) if xp is None else xp
        rest, statistics = self._iterators(params, running)
        pullbacks: list[Callable[[Array], tuple[Array, Arrays]]] = []
        new_running: Arrays = []
        if training and self.input_dropout:
            start = first * x.shape[1]
            draws = uniform(x.shape, step, seed=seed, stream=INPUT, dtype=x.dtype, start=start, xp=xp)
            x, input_vjp = dropout(x, draws, self.input_dropout, xp=xp)
        for i in range(self.n_layers - 1):
            x, vjps, moments = self._hidden_layer(
                i, x, rest, statistics, training, step, seed, first, need_dx or i > 0, xp
            )
            pullbacks.append(vjps)
            new_running += moments
        logits, last_vjp = dense(x, next(rest), next(rest), need_dx=need_dx or self.n_layers > 1, xp=xp)

        def vjp(dlogits: Array) -> Arrays:
            d, dW, db = last_vjp(dlogits)
            grads = [dW, db]
            for pullback in reversed(pullbacks):
                d, layer_grads = pullback(d)
                grads = layer_grads + grads
            if need_dx:
                grads.append(input_vjp(d) if training and self.input_dropout else d)
            return grads

        return logits, vjp, new_running

    def layers(
        self,
        params: Arrays,
        x: Float[Array, "n {self.sizes[0]}"],
        *,
        running: Arrays | None = None,
        xp: Any = None,
    ) -> tuple[Arrays, Callable[[Array], Arrays]]:
        """What each layer of the trained network computes of its input, and the way back to each of them.

            h_0 = x,  h_i = layer_i(h_{i-1}),  logits = h_L ;   dh_{L-1} = dlogits W^T, ..., dx = dh_0

        params, x, running : as in forward; no unit is dropped, and the running statistics normalise.
        Raises ValueError if the lists' lengths do not fit.
        Returns [x, h_1, ..., logits]; vjp(dlogits) -> [dx, dh_1, ..., dh_{L-1}], each in its value's shape.
        """
        xp = array_namespace(x, *params) if xp is None else xp
        rest, statistics = self._iterators(params, running)
        values, pullbacks = [x], []
        for i in range(self.n_layers - 1):
            x, vjps, _ = self._hidden_layer(i, x, rest, statistics, False, None, 0, 0, True, xp)
            values.append(x)
            pullbacks.append(vjps)
        logits, last_vjp = dense(x, next(rest), next(rest), xp=xp)

        def vjp(dlogits: Array) -> Arrays:
            d, _, _ = last_vjp(dlogits)
            grads = [d]
            for pullback in reversed(pullbacks):
                d, _ = pullback(d)
                grads = [d, *grads]
            return grads

        return [*values, logits], vjp

    def _iterators(self, params: Arrays, running: Arrays | None) -> tuple[Iterator[Array], Iterator[Array]]:
        """The parameters and the running statistics, one by one.   Raises ValueError if there are not as many."""
        n_normalized = (self.n_layers - 1) * self.batch_norm
        if len(params) != 2 * self.n_layers + n_normalized or len(running or []) != 2 * n_normalized:
            raise ValueError(
                f"{self} has {2 * self.n_layers + n_normalized} parameters and {2 * n_normalized} running statistics, "
                f"not {len(params)} and {len(running or [])}: see param_shapes and running_shapes"
            )
        return iter(params), iter(running or [])

    def _hidden_layer(
        self,
        i: int,
        x: Array,
        params: Iterator[Array],
        running: Iterator[Array],
        training: bool,
        step: Array | None,
        seed: int,
        first: int | Array,
        need_dx: bool,
        xp: Any,
    ) -> tuple[Array, Callable[[Array], tuple[Array, Arrays]], Arrays]:
        """Layer i: dense, normalisation, activation, dropout. Returns its value, its vjp and its running statistics."""
        W = next(params)
        moments: Arrays = []
        if self.batch_norm:
            scale, shift = next(params), next(params)
            mean, var = next(running), next(running)
            z, dense_vjp = dense(x, W, need_dx=need_dx, xp=xp)
            if training:
                (z, batch_mean, batch_var), norm_vjp = batch_norm(z, scale, shift, xp=xp)
                n, m = z.shape[0], self.MOMENTUM
                mean = (1.0 - m) * mean + m * batch_mean
                var = (1.0 - m) * var + (m * n / max(n - 1, 1)) * batch_var
            else:
                z, norm_vjp = normalize(z, scale, shift, mean, var, xp=xp)
            moments = [mean, var]
        else:
            z, dense_vjp = dense(x, W, next(params), need_dx=need_dx, xp=xp)
        y, activation_vjp = ACTIVATIONS[self.activation](z, xp=xp)
        if training and self.dropout:
            draws = uniform(y.shape, step, seed=seed, stream=i, dtype=y.dtype, start=first * y.shape[1], xp=xp)
            y, dropout_vjp = dropout(y, draws, self.dropout, xp=xp)

        def vjp(d: Array) -> tuple[Array, Arrays]:
            if training and self.dropout:
                d = dropout_vjp(d)
            d = activation_vjp(d)
            if self.batch_norm:
                d, dscale, dshift = norm_vjp(d)
                dx, dW, _ = dense_vjp(d)
                return dx, [dW, dscale, dshift]
            dx, dW, db = dense_vjp(d)
            return dx, [dW, db]

        return y, vjp, moments

    def loss_and_grads(
        self,
        params: Arrays,
        x: Float[Array, "n {self.sizes[0]}"],
        targets: Int[Array, " n"] | Float[Array, "n {self.sizes[-1]}"],
        *,
        weights: Float[Array, " n"] | None = None,
        running: Arrays | None = None,
        step: Int[Array, " 1"] | None = None,
        seed: int = 0,
        first: int | Array = 0,
        share: float | Array = 1.0,
        xp: Any = None,
    ) -> tuple[Float[Array, ""], Arrays, Float[Array, "n {self.sizes[-1]}"], Arrays]:
        """One training example or batch forward and back.

        params : the flat list.   x : of the params' dtype.
        targets : labels in 0..sizes[-1]-1, or numbers of the params' dtype, as the loss has it.
        weights : of the params' dtype, >= 0, the weight of each example; None for 1.
        running, step, seed, first : as in forward.
        share : of the batch's rows that x has; the gradients are those of the loss times it.
        Returns the loss, the gradients in the order of params, the logits, the running statistics.
        """
        xp = array_namespace(x, *params) if xp is None else xp
        logits, vjp, running = self.forward(
            params, x, running=running, training=True, step=step, seed=seed, first=first, xp=xp
        )
        loss, loss_vjp = self.loss_of(logits, targets, weights=weights, xp=xp)
        return loss, vjp(loss_vjp(share)), logits, running

    def loss_of(
        self,
        logits: Float[Array, "n {self.sizes[-1]}"],
        targets: Int[Array, " n"] | Float[Array, "n {self.sizes[-1]}"],
        *,
        weights: Float[Array, " n"] | None = None,
        xp: Any = None,
    ) -> tuple[Float[Array, ""], Callable[..., Array]]:
        """The network's loss, with its label smoothing, as a function of its logits.

        targets, weights : as in loss_and_grads.
        Returns the loss; vjp(dloss) -> dlogits.
        """
        smoothing = {"label_smoothing": self.label_smoothing} if self.label_smoothing else {}
        value: tuple[Array, Callable[..., Array]] = LOSSES[self.loss].function(
            logits, targets, weights=weights, xp=xp, **smoothing
        )
        return value
