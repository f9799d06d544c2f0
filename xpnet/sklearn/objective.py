"""What scikit-learn's multilayer perceptrons minimise, in terms of the network's own loss, and with which examples."""

from dataclasses import dataclass
from typing import Any

from xpnet.backend import Backend
from xpnet.numerics.functional import LOSSES, l2_penalty
from xpnet.numerics.network import MLP
from xpnet.optim import accumulate
from xpnet.training.loader import Examples

__all__ = ["Objective", "Problem"]

Array = Any
Arrays = list[Any]


@dataclass(frozen=True)
class Objective:
    """The weighted mean of a loss over a batch, and a penalty on the weights that shrinks with the batch.

        J = 1/w sum_i w_i l_i + alpha/(2 w) sum W^2,   w = sum_i w_i, the number of examples where they have no weights
        l = -log p of the label;  for outputs k: sum_k of binary cross-entropies, (z_k - t_k)^2 / 2, or half of the
        Poisson deviance, e^{z_k} - t_k z_k + t_k log t_k - t_k

    The squared error is reported as a mean over k, though its gradient is that of the sum, as scikit-learn has it.

    network : whose loss is cross-entropy, binary-cross-entropy, squared-error or poisson.   alpha : >= 0.
    Source: scikit-learn, sklearn.neural_network.
    """

    network: MLP
    alpha: float

    @property
    def _factor(self) -> float:
        """l, summed over k, in units of the network's loss, which is a mean over k."""
        k = self.network.sizes[-1]
        return {"cross-entropy": 1.0, "squared-error": 0.5 * k}.get(self.network.loss, float(k))

    @property
    def reported(self) -> float:
        """What l is multiplied by where it is shown."""
        return 1.0 / self.network.sizes[-1] if self.network.loss == "squared-error" else 1.0

    def __call__(
        self, params: Arrays, x: Array, targets: Array, *, weights: Array | None = None, xp: Any, **state: Any
    ) -> tuple[Array, Arrays, Array, Arrays]:
        """The loss that is reported, the gradients of J, the logits, the running statistics.

        Arguments as in MLP.loss_and_grads.
        """
        total = x.shape[0] if weights is None else xp.sum(weights)
        loss, grads, logits, running = self.loss_and_grads(
            params, x, targets, weights=weights, total=total, xp=xp, **state
        )
        penalty, grads = self.penalized(params, grads, total, xp=xp)
        return loss * self.reported + penalty, grads, logits, running

    def loss_and_grads(
        self, params: Arrays, x: Array, targets: Array, *, weights: Array | None, total: Any, xp: Any, **state: Any
    ) -> tuple[Array, Arrays, Array, Arrays]:
        """The first term of J, its gradients, the logits, the running statistics.

        total : the sum of the weights of all examples, of which these may be some.
        """
        n = x.shape[0]
        if weights is not None:
            weights = weights * (_share(total, xp) * (n * self._factor))
        elif (scale := n / total * self._factor) != 1.0:
            weights = xp.full_like(x[:, 0], scale)
        loss, grads, logits, running = self.network.loss_and_grads(params, x, targets, weights=weights, xp=xp, **state)
        return loss + self._offset(targets, weights, xp), grads, logits, running

    def penalized(self, params: Arrays, grads: Arrays, total: Any, *, xp: Any) -> tuple[Array | float, Arrays]:
        """The second term of J, and the gradients with its own added."""
        if not self.alpha:
            return 0.0, grads
        matrices = [i for i, p in enumerate(params) if p.ndim == 2]
        penalty, vjp = l2_penalty([params[i] for i in matrices], self.alpha * _share(total, xp), xp=xp)
        slopes = iter(accumulate(vjp(), [grads[i] for i in matrices]))
        return penalty, [next(slopes) if i in matrices else g for i, g in enumerate(grads)]

    def loss(self, logits: Array, targets: Array, weights: Array | None, *, xp: Any) -> float:
        """The loss of some examples as it is reported, without the penalty."""
        total = logits.shape[0] if weights is None else float(xp.sum(weights))
        scale = self._factor * self.reported * logits.shape[0] / total
        weights = xp.full_like(logits[:, 0], scale) if weights is None else weights * scale
        value, _ = LOSSES[self.network.loss].function(logits, targets, weights=weights, xp=xp)
        return float(value + self._offset(targets, weights, xp))

    def _offset(self, targets: Array, weights: Array | None, xp: Any) -> Array | float:
        """What makes a deviance of the Poisson loss: t log t - t, by which only the value differs, not its gradient."""
        if self.network.loss != "poisson":
            return 0.0
        n, k = targets.shape
        entropies = targets * xp.log(xp.where(targets > 0.0, targets, 1.0)) - targets
        weighted = entropies if weights is None else entropies * weights[:, None]
        return xp.sum(weighted) / (n * k)


def _share(total: Any, xp: Any) -> Any:
    """1 / total; of a batch whose weights are all zero, 0: it has no say."""
    if type(total) in (int, float):  # of which NumPy's float64 is a kind
        return 1.0 / total
    return xp.where(total > 0.0, 1.0 / xp.where(total > 0.0, total, 1.0), 0.0 * total)


@dataclass
class Problem:
    """What is to be minimised, with which examples, where.

    network, objective : of the parameters.   backend : where to compute.
    train : the examples; sparse features stay so.   held : those to judge by, or None.
    params, running : on the host, where the way begins.   given : X, y and sample_weight, as the user has them.
    """

    network: MLP
    objective: Objective
    backend: Backend
    train: Examples
    held: Examples | None
    params: Arrays
    running: Arrays
    given: tuple[Any, Any, Any]
