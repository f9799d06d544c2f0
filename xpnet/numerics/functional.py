"""The differentiable functions of a multilayer perceptron, forward and backward on one screen.

Every function returns ``(value, vjp)``. The closure ``vjp`` (vector-Jacobian product) maps the gradient of a scalar
loss with respect to the value to the gradients with respect to the inputs; it stores nothing and writes into nothing,
so it may be called any number of times. ``dx`` always means: gradient of the loss with respect to x, in x's shape.

The code is pure Array API: it names no array library. ``xp`` is the arrays' namespace; None looks it up.
Signatures state shapes by axes, as in ``Float[Array, "n n_in"]``: equal names in one signature are equal lengths.
Hyperparameters are Python numbers, because a float64 scalar would promote float32 arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from array_api_compat import array_namespace, device

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Integer

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "batch_norm",
    "binary_cross_entropy",
    "clip_by_global_norm",
    "dense",
    "dropout",
    "exponential",
    "gelu",
    "huber",
    "identity",
    "l2_penalty",
    "leaky_relu",
    "mean_squared_error",
    "normalize",
    "one_hot",
    "poisson",
    "relu",
    "scale_features",
    "scaled_tanh",
    "sigmoid",
    "soft_cross_entropy",
    "softmax",
    "softmax_cross_entropy",
    "squared_error",
    "tanh",
]

Array = Any
Vjp = Callable[..., Any]


# Features -----------------------------------------------------------------------------------------------------------


def scale_features(
    features: Integer[Array, "n k"] | Float[Array, "n k"],
    dtype: Any,
    *,
    shift: Float[Array, " k"] | None = None,
    scale: Float[Array, " k"] | float | None = None,
    xp: Any = None,
) -> Float[Array, "n k"]:
    """The network's input: features brought to the range that it was made for.

        x = (u - shift) / scale

    Integers are cast to dtype first; floats are scaled in their own dtype and cast last, because a column far from 0
    in float64 has digits that only the difference keeps.

    features u : integers or floats.   dtype : of x, a real floating dtype of xp.
    shift, scale : by column, of the dtype that is scaled in; scale may be one number for all, such as 255.0, and not 0.
        None for 0 and 1.
    """
    xp = array_namespace(features) if xp is None else xp
    x = features if xp.isdtype(features.dtype, "real floating") else xp.astype(features, dtype)
    if shift is not None:
        x = x - shift
    if scale is not None:
        x = x / scale
    return xp.astype(x, dtype, copy=False)


# Layers --------------------------------------------------------------------------------------------------------------


def dense(
    x: Float[Array, "n n_in"],
    W: Float[Array, "n_in n_out"],
    b: Float[Array, " n_out"] | None = None,
    *,
    need_dx: bool = True,
    xp: Any = None,
) -> tuple[Float[Array, "n n_out"], Vjp]:
    """Affine map of every row.

        y = x W + b ;   dx = dy W^T,  dW = x^T dy,  db = sum over rows of dy

    b : None for a layer without a bias.
    need_dx : False skips dx (the first layer's input needs no gradient, and dx is a large share of its arithmetic).
    Returns y and vjp(dy) -> (dx, dW, db), with None for gradients not requested.
    """
    xp = array_namespace(x, W) if xp is None else xp
    y = xp.matmul(x, W)
    if b is not None:
        y = y + b

    def vjp(dy: Array) -> tuple[Array | None, Array, Array | None]:
        dx = xp.matmul(dy, W.T) if need_dx else None
        return dx, xp.matmul(x.T, dy), None if b is None else xp.sum(dy, axis=0)

    return y, vjp


def dropout(
    x: Float[Array, "*shape"], uniforms: Float[Array, "*shape"], rate: float, *, xp: Any = None
) -> tuple[Float[Array, "*shape"], Vjp]:
    """Inverted dropout: zero each element with probability rate and scale up the rest, so that the mean stays.

        y = x m,  m = [u >= rate] / (1 - rate) ;   dx = dy m

    uniforms : of x's dtype, in [0, 1), as counter_rng.uniform draws them.
    rate : the share that is dropped, in [0, 1).
    Returns y and vjp(dy) -> dx.
    Source: Srivastava et al. 2014.
    """
    xp = array_namespace(x) if xp is None else xp
    # The draws are multiples of 2^-24: this threshold is one too, and so the same in float32 as in float64.
    threshold = math.ceil(rate * 2**24) / 2**24
    mask = xp.astype(uniforms >= threshold, x.dtype) * (1.0 / (1.0 - rate))
    return x * mask, lambda dy: dy * mask


def batch_norm(
    x: Float[Array, "n k"], scale: Float[Array, " k"], shift: Float[Array, " k"], *, eps: float = 1e-5, xp: Any = None
) -> tuple[tuple[Float[Array, "n k"], Float[Array, " k"], Float[Array, " k"]], Vjp]:
    """Batch normalisation with the statistics of the batch itself (training).

        y = scale x^ + shift,  x^ = (x - mean) r,  r = 1 / sqrt(var + eps)
        dx = scale r (dy - mean(dy) - x^ mean(dy x^)),  dscale = sum dy x^,  dshift = sum dy

    eps : > 0.   var is the biased variance (divided by n).
    Returns (y, mean, var) and vjp(dy) -> (dx, dscale, dshift).
    Source: Ioffe and Szegedy 2015.
    """
    xp = array_namespace(x) if xp is None else xp
    mean = xp.mean(x, axis=0)
    centred = x - mean
    var = xp.mean(centred * centred, axis=0)
    r = 1.0 / xp.sqrt(var + eps)
    x_hat = centred * r

    def vjp(dy: Array) -> tuple[Array, Array, Array]:
        dscale = xp.sum(dy * x_hat, axis=0)
        dshift = xp.sum(dy, axis=0)
        n = x.shape[0]
        dx = (scale * r) * (dy - dshift / n - x_hat * (dscale / n))
        return dx, dscale, dshift

    return (x_hat * scale + shift, mean, var), vjp


def normalize(
    x: Float[Array, "n k"],
    scale: Float[Array, " k"],
    shift: Float[Array, " k"],
    mean: Float[Array, " k"],
    var: Float[Array, " k"],
    *,
    eps: float = 1e-5,
    xp: Any = None,
) -> tuple[Float[Array, "n k"], Vjp]:
    """Batch normalisation with given statistics (inference).

        y = scale x^ + shift,  x^ = (x - mean) / sqrt(var + eps)

    eps : > 0.
    Returns y and vjp(dy) -> (dx, dscale, dshift); mean and var are constants.
    """
    xp = array_namespace(x) if xp is None else xp
    r = 1.0 / xp.sqrt(var + eps)
    x_hat = (x - mean) * r

    def vjp(dy: Array) -> tuple[Array, Array, Array]:
        return dy * (scale * r), xp.sum(dy * x_hat, axis=0), xp.sum(dy, axis=0)

    return x_hat * scale + shift, vjp


# Activations: arrays of any shape, element by element ----------------------------------------------------------------


def identity(z: Float[Array, "*shape"], *, xp: Any = None) -> tuple[Float[Array, "*shape"], Vjp]:
    """The linear unit.

        y = z ;   dz = dy

    Returns y, of z's dtype, and vjp(dy) -> dz.
    """
    return z, lambda dy: dy


def relu(z: Float[Array, "*shape"], *, xp: Any = None) -> tuple[Float[Array, "*shape"], Vjp]:
    """Rectified linear unit.

        y = max(z, 0) ;   dz = dy [z > 0], so 0 at the kink

    Returns y, of z's dtype, and vjp(dy) -> dz.
    Source: Nair and Hinton 2010.
    """
    xp = array_namespace(z) if xp is None else xp
    # A row of zeros, because NumPy's maximum takes twice as long with a number.
    y = xp.maximum(z, xp.zeros(z.shape[-1:], dtype=z.dtype, device=device(z)))
    return y, lambda dy: dy * xp.astype(y > 0.0, dy.dtype)  # where() would make the whole step 5 % longer


def leaky_relu(z: Float[Array, "*shape"], slope: float = 0.01, *, xp: Any = None) -> tuple[Float[Array, "*shape"], Vjp]:
    """Leaky rectified linear unit.

        y = z where z > 0, else slope z ;   dz = dy where z > 0, else slope dy

    slope : in [0, 1).
    Returns y, of z's dtype, and vjp(dy) -> dz.
    Source: Maas, Hannun and Ng 2013.
    """
    xp = array_namespace(z) if xp is None else xp
    positive = z > 0.0
    return xp.where(positive, z, slope * z), lambda dy: xp.where(positive, dy, slope * dy)


def sigmoid(z: Float[Array, "*shape"], *, xp: Any = None) -> tuple[Float[Array, "*shape"], Vjp]:
    """Logistic function, without overflow and without loss of digits on either side.

        y = 1 / (1 + e^-z) ;   dz = dy y (1 - y) = dy e / (1 + e)^2,  e = e^-|z|

    Returns y, of z's dtype, and vjp(dy) -> dz.
    """
    xp = array_namespace(z) if xp is None else xp
    e = xp.exp(-xp.abs(z))
    d = 1.0 + e
    return xp.where(z >= 0.0, 1.0, e) / d, lambda dy: dy * (e / (d * d))


def tanh(z: Float[Array, "*shape"], *, xp: Any = None) -> tuple[Float[Array, "*shape"], Vjp]:
    """Hyperbolic tangent.

        y = tanh z ;   dz = dy (1 - y^2)

    Returns y, of z's dtype, and vjp(dy) -> dz.
    """
    xp = array_namespace(z) if xp is None else xp
    y = xp.tanh(z)
    return y, lambda dy: dy * (1.0 - y * y)


def scaled_tanh(z: Float[Array, "*shape"], *, xp: Any = None) -> tuple[Float[Array, "*shape"], Vjp]:
    """LeCun's hyperbolic tangent, which has its greatest curvature at 1 and -1 and maps them to themselves, nearly.

        y = 1.7159 tanh(2 z / 3) ;   dz = dy 2/3 (1.7159 - y^2 / 1.7159)

    Returns y, of z's dtype, and vjp(dy) -> dz.
    Source: LeCun et al. 1998, "Efficient BackProp", section 4.4.
    """
    xp = array_namespace(z) if xp is None else xp
    y = 1.7159 * xp.tanh(z * (2.0 / 3.0))
    return y, lambda dy: dy * ((1.7159 - y * y * (1.0 / 1.7159)) * (2.0 / 3.0))


def gelu(z: Float[Array, "*shape"], *, xp: Any = None) -> tuple[Float[Array, "*shape"], Vjp]:
    """Gaussian error linear unit, by its tanh form, since the Array API has no erf.

        y = z h,   h = (1 + tanh u) / 2,   u = c (z + k z^3),   c = sqrt(2/pi),   k = 0.044715
        dz = dy (h + 2 y (1 - h) du/dz)

    Returns y, of z's dtype, and vjp(dy) -> dz.
    It differs from the erf form by less than 5e-4.
    Source: Hendrycks and Gimpel 2016.
    """
    xp = array_namespace(z) if xp is None else xp
    c, k = math.sqrt(2.0 / math.pi), 0.044715
    square = z * z
    h = 0.5 + 0.5 * xp.tanh(z * (c + c * k * square))
    y = z * h

    def vjp(dy: Array) -> Array:
        # Numbers are multiplied with one another first: each pass over the array costs a quarter of tanh.
        return dy * (h + y * (1.0 - h) * (2.0 * c + 6.0 * c * k * square))

    return y, vjp


def softmax(z: Float[Array, "n k"], *, xp: Any = None) -> tuple[Float[Array, "n k"], Vjp]:
    """Probabilities from logits, row by row; not a hidden layer: the losses take logits.

        p_i = e^{z_i} / sum_j e^{z_j} ;   dz = p (dp - sum_j dp_j p_j)

    Returns p, rows summing to 1, and vjp(dp) -> dz.
    """
    xp = array_namespace(z) if xp is None else xp
    e = xp.exp(z - xp.max(z, axis=1, keepdims=True))
    p = e / xp.sum(e, axis=1, keepdims=True)
    return p, lambda dp: p * (dp - xp.sum(dp * p, axis=1, keepdims=True))


def exponential(z: Float[Array, "*shape"], *, xp: Any = None) -> tuple[Float[Array, "*shape"], Vjp]:
    """Positive numbers from logits, the rates of the Poisson loss; not a hidden layer.

        y = e^z ;   dz = dy y

    Returns y, of z's dtype, and vjp(dy) -> dz.
    """
    xp = array_namespace(z) if xp is None else xp
    y = xp.exp(z)
    return y, lambda dy: dy * y


ACTIVATIONS: dict[str, Callable[..., tuple[Array, Vjp]]] = {
    "relu": relu,
    "leaky-relu": leaky_relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "scaled-tanh": scaled_tanh,
    "gelu": gelu,
    "identity": identity,
}


# Losses on class labels ----------------------------------------------------------------------------------------------


def one_hot(labels: Int[Array, " n"], n_classes: int, *, dtype: Any, xp: Any = None) -> Float[Array, "n {n_classes}"]:
    """Rows of zeros with a one at the label: t_ik = [labels_i = k].

    labels : in 0..n_classes-1.   dtype : of the result, a real floating dtype of xp.
    """
    xp = array_namespace(labels) if xp is None else xp
    classes = xp.arange(n_classes, dtype=labels.dtype, device=device(labels))
    return xp.astype(labels[:, None] == classes, dtype)


def softmax_cross_entropy(
    logits: Float[Array, "n k"],
    labels: Int[Array, " n"],
    *,
    weights: Float[Array, " n"] | None = None,
    label_smoothing: float = 0.0,
    xp: Any = None,
) -> tuple[Float[Array, ""], Vjp]:
    """Mean cross-entropy, in nats, between the labels and the softmax of the logits.

        loss = -1/n sum_ik w_i t_ik log p_ik,  p = softmax(logits),  t = (1 - s) one_hot(labels) + s/k
        dlogits = dloss w (p - t) / n

    labels : in 0..k-1.   label_smoothing s : in [0, 1).
    weights w : of the logits' dtype, >= 0, the weight of each example; None for 1.
    Returns the loss and vjp(dloss=1.0) -> dlogits.
    Source: Szegedy et al. 2016, section 7, for the smoothing.
    """
    xp = array_namespace(logits, labels) if xp is None else xp
    k = logits.shape[1]
    target = one_hot(labels, k, dtype=logits.dtype, xp=xp)
    if label_smoothing:
        target = target * (1.0 - label_smoothing) + label_smoothing / k
    return soft_cross_entropy(logits, target, weights=weights, xp=xp)


def soft_cross_entropy(
    logits: Float[Array, "n k"],
    targets: Float[Array, "n k"],
    *,
    weights: Float[Array, " n"] | None = None,
    xp: Any = None,
) -> tuple[Float[Array, ""], Vjp]:
    """Mean cross-entropy, in nats, between given probabilities and the softmax of the logits.

        loss = -1/n sum_ik w_i t_ik log p_ik,  p = softmax(logits)
        dlogits = dloss w (p - t) / n

    targets t : of the logits' dtype, >= 0, each row with a sum of 1.
    weights w : of the logits' dtype, >= 0, the weight of each example; None for 1.
    Returns the loss and vjp(dloss=1.0) -> dlogits.
    Source: Bridle 1990.
    """
    xp = array_namespace(logits, targets) if xp is None else xp
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    e = xp.exp(shifted)
    total = xp.sum(e, axis=1, keepdims=True)
    return _mean(targets * (xp.log(total) - shifted), lambda: e / total - targets, logits.shape[0], weights, xp)


def mean_squared_error(
    logits: Float[Array, "n k"],
    labels: Int[Array, " n"],
    *,
    output: Callable[..., tuple[Array, Vjp]] = identity,
    weights: Float[Array, " n"] | None = None,
    label_smoothing: float = 0.0,
    xp: Any = None,
) -> tuple[Float[Array, ""], Vjp]:
    """Mean squared error between the network's outputs and the one-hot labels, over examples and classes.

        loss = 1/(n k) sum_ik w_i (y_ik - t_ik)^2,  y = output(logits),  t = (1 - s) one_hot(labels) + s/k
        dlogits = dloss 2 w (y - t) / (n k), through the output's vjp

    labels : in 0..k-1.   label_smoothing s : in [0, 1).
    weights w : of the logits' dtype, >= 0, the weight of each example; None for 1.
    output : the output activation (identity, sigmoid or softmax), which the loss applies itself.
    Returns the loss and vjp(dloss=1.0) -> dlogits.
    """
    xp = array_namespace(logits, labels) if xp is None else xp
    k = logits.shape[1]
    y, output_vjp = output(logits, xp=xp)
    target = one_hot(labels, k, dtype=logits.dtype, xp=xp)
    if label_smoothing:
        target = target * (1.0 - label_smoothing) + label_smoothing / k
    loss, vjp = squared_error(y, target, weights=weights, xp=xp)
    return loss, lambda dloss=1.0: output_vjp(vjp(dloss))


# Losses on numbers: means over examples and outputs ------------------------------------------------------------------


def binary_cross_entropy(
    logits: Float[Array, "n k"],
    targets: Float[Array, "n k"],
    *,
    weights: Float[Array, " n"] | None = None,
    xp: Any = None,
) -> tuple[Float[Array, ""], Vjp]:
    """Mean cross-entropy, in nats, of k independent yes-or-no questions about every example.

        loss = -1/(n k) sum_ik w_i (t_ik log p_ik + (1 - t_ik) log(1 - p_ik)),  p = sigmoid(z) of the logits z
             = 1/(n k) sum_ik w_i (max(z_ik, 0) - z_ik t_ik + log(1 + e^-|z_ik|)), finite for every z
        dlogits = dloss w (p - t) / (n k)                                                (torch's BCEWithLogitsLoss)

    targets t : in [0, 1], of the logits' dtype.
    weights w : of the logits' dtype, >= 0, the weight of each example; None for 1.
    Returns the loss and vjp(dloss=1.0) -> dlogits.
    Source: Bishop 2006, section 4.3.2.
    """
    xp = array_namespace(logits, targets) if xp is None else xp
    losses = xp.maximum(logits, 0.0) - logits * targets + xp.log1p(xp.exp(-xp.abs(logits)))
    return _mean(losses, lambda: sigmoid(logits, xp=xp)[0] - targets, math.prod(logits.shape), weights, xp)


def squared_error(
    logits: Float[Array, "n k"],
    targets: Float[Array, "n k"],
    *,
    weights: Float[Array, " n"] | None = None,
    xp: Any = None,
) -> tuple[Float[Array, ""], Vjp]:
    """Mean squared error between the logits themselves and real-valued targets.

        loss = 1/(n k) sum_ik w_i (z_ik - t_ik)^2,  z the logits
        dlogits = dloss 2 w (z - t) / (n k)                                              (torch's MSELoss)

    targets t : of the logits' dtype.
    weights w : of the logits' dtype, >= 0, the weight of each example; None for 1.
    Returns the loss and vjp(dloss=1.0) -> dlogits.
    Source: Bishop 2006, section 3.1.1.
    """
    xp = array_namespace(logits, targets) if xp is None else xp
    error = logits - targets
    return _mean(error * error, lambda: 2.0 * error, math.prod(logits.shape), weights, xp)


def huber(
    logits: Float[Array, "n k"],
    targets: Float[Array, "n k"],
    delta: float = 1.0,
    *,
    weights: Float[Array, " n"] | None = None,
    xp: Any = None,
) -> tuple[Float[Array, ""], Vjp]:
    """Mean of a loss that is quadratic for small errors and linear for large ones, to which outliers matter less.

        loss = 1/(n k) sum_ik w_i c_ik (e_ik - c_ik / 2),  e = z - t of the logits z,  c = min(max(e, -delta), delta)
               (e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2))
        dlogits = dloss w c / (n k)                                                      (torch's HuberLoss)

    targets t : of the logits' dtype.   delta : > 0, in the targets' unit.
    weights w : of the logits' dtype, >= 0, the weight of each example; None for 1.
    Returns the loss and vjp(dloss=1.0) -> dlogits.
    Source: Huber 1964.
    """
    xp = array_namespace(logits, targets) if xp is None else xp
    error = logits - targets
    clipped = xp.maximum(xp.minimum(error, delta), -delta)
    return _mean(clipped * (error - 0.5 * clipped), lambda: clipped, math.prod(logits.shape), weights, xp)


def poisson(
    logits: Float[Array, "n k"],
    targets: Float[Array, "n k"],
    *,
    weights: Float[Array, " n"] | None = None,
    xp: Any = None,
) -> tuple[Float[Array, ""], Vjp]:
    """Mean negative log-likelihood, in nats, of counts of which the logits are the log rates.

        loss = 1/(n k) sum_ik w_i (e^{z_ik} - t_ik z_ik),  z the logits; without log t!, which no parameter changes
        dlogits = dloss w (e^z - t) / (n k)                                              (torch's PoissonNLLLoss)

    It grows as e^z does, and is infinite where that overflows.
    targets t : counts, >= 0, of the logits' dtype.
    weights w : of the logits' dtype, >= 0, the weight of each example; None for 1.
    Returns the loss and vjp(dloss=1.0) -> dlogits.
    Source: Nelder and Wedderburn 1972.
    """
    xp = array_namespace(logits, targets) if xp is None else xp
    rates = xp.exp(logits)
    return _mean(rates - targets * logits, lambda: rates - targets, math.prod(logits.shape), weights, xp)


def _mean(losses: Array, slopes: Callable[[], Array], count: int, weights: Array | None, xp: Any) -> tuple[Array, Vjp]:
    """The weighted sum of losses (n, k) by count, and the way back to the logits: slopes() are dlosses/dlogits."""
    if weights is not None:
        losses = losses * weights[:, None]

    def vjp(dloss: Array | float = 1.0) -> Array:
        dlogits = slopes() * (dloss / count)
        return dlogits if weights is None else dlogits * weights[:, None]

    return xp.sum(losses) / count, vjp


class Loss(NamedTuple):
    """A loss on logits.

    function : function(logits, targets, weights=None, xp=None) -> (loss, vjp).
    output : the activation that turns the same logits into the network's outputs.
    task : what the targets are: "classification" labels (n,), or numbers (n, k), in [0, 1] for "multilabel".
    """

    function: Callable[..., tuple[Array, Vjp]]
    output: Callable[..., tuple[Array, Vjp]]
    task: Literal["classification", "multilabel", "regression"]


def _squared_error_on(output: Callable[..., tuple[Array, Vjp]]) -> Loss:
    def loss(logits: Array, labels: Array, **options: Any) -> tuple[Array, Vjp]:
        return mean_squared_error(logits, labels, output=output, **options)

    return Loss(loss, output, "classification")


# The squared errors that are called mse are those of one-hot labels.
LOSSES: dict[str, Loss] = {
    "cross-entropy": Loss(softmax_cross_entropy, softmax, "classification"),
    "mse": _squared_error_on(identity),
    "mse-sigmoid": _squared_error_on(sigmoid),
    "mse-softmax": _squared_error_on(softmax),
    "binary-cross-entropy": Loss(binary_cross_entropy, sigmoid, "multilabel"),
    "squared-error": Loss(squared_error, identity, "regression"),
    "huber": Loss(huber, identity, "regression"),
    "poisson": Loss(poisson, exponential, "regression"),
}


# Gradients -----------------------------------------------------------------------------------------------------------


def clip_by_global_norm(grads: list[Array], max_norm: float, *, xp: Any = None) -> tuple[list[Array], Float[Array, ""]]:
    """Scale all gradients by one factor, so that their joint Euclidean norm is at most max_norm.

        g <- g min(1, max_norm / (norm + 1e-6)),  norm = sqrt(sum of all g^2)        (torch's clip_grad_norm_)

    grads : float arrays.   max_norm : > 0.
    Returns the new gradients and the norm before clipping.
    Source: Pascanu, Mikolov and Bengio 2013.
    """
    xp = array_namespace(*grads) if xp is None else xp
    square = xp.sum(grads[0] * grads[0])
    for g in grads[1:]:
        square = square + xp.sum(g * g)
    norm = xp.sqrt(square)
    factor = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    return [g * factor for g in grads], norm


def l2_penalty(
    weights: list[Array], strength: Float[Array, ""] | float, *, xp: Any = None
) -> tuple[Float[Array, ""], Callable[..., list[Array]]]:
    """The penalty that keeps weights small, the negative logarithm of a Gaussian prior.

        y = strength/2 sum of all W^2 ;   dW = dy strength W

    weights : float arrays, those of a network's parameters that are to be penalised.   strength : >= 0.
    Returns y, and vjp(dy=1.0) -> [dW, ...].
    Source: Hoerl and Kennard 1970, ridge regression.
    """
    xp = array_namespace(*weights) if xp is None else xp
    flat = [xp.reshape(W, (-1,)) for W in weights]
    square = sum((xp.matmul(w, w) for w in flat[1:]), xp.matmul(flat[0], flat[0]))
    return (0.5 * strength) * square, lambda dy=1.0: [(dy * strength) * W for W in weights]
