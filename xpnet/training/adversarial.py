"""Adversarial training: a network learns from examples that are moved against it, besides the examples themselves."""

from typing import Any

from xpnet.numerics.network import MLP

__all__ = ["Adversarial"]

Array = Any
Arrays = list[Any]


class Adversarial:
    """The objective of adversarial training, in the form of MLP.loss_and_grads.

        J = (L(x) + L(x + r)) / 2,  r = distance dL/dx / |dL/dx|

    Each example is moved on its own, by the same distance, in the direction in which its loss rises fastest; r is a
    constant in the gradient of J. Either term has the statistics of its own examples in batch normalisation; the
    running statistics and the logits are those of x.

    network : the network.   distance : > 0, the Euclidean length of r, in features as the network gets them.
    Source: Goodfellow, Shlens and Szegedy 2015, section 6, with the direction of Miyato et al. 2016.
    """

    def __init__(self, network: MLP, distance: float) -> None:
        self.network, self.distance = network, distance

    def __call__(
        self,
        params: Arrays,
        x: Array,
        targets: Array,
        *,
        weights: Array | None,
        running: Arrays,
        xp: Any,
        share: float | Array = 1.0,
        **options: Any,
    ) -> tuple[Array, Arrays, Array, Arrays]:
        """Loss, gradients, logits and running statistics; arguments as in MLP.loss_and_grads."""
        options |= {"training": True, "xp": xp}
        logits, vjp, moments = self.network.forward(params, x, running=running, need_dx=True, **options)
        loss, loss_vjp = self.network.loss_of(logits, targets, weights=weights, xp=xp)
        *grads, dx = vjp(loss_vjp(0.5 * share))
        moved = x + self._move(dx, xp)
        moved_logits, moved_vjp, _ = self.network.forward(params, moved, running=running, **options)
        moved_loss, moved_loss_vjp = self.network.loss_of(moved_logits, targets, weights=weights, xp=xp)
        moved_grads = moved_vjp(moved_loss_vjp(0.5 * share))
        return 0.5 * (loss + moved_loss), [g + h for g, h in zip(grads, moved_grads, strict=True)], logits, moments

    def _move(self, dx: Array, xp: Any) -> Array:
        """r; gradients are scaled before they are squared, since those of examples that are learned are tiny."""
        largest = xp.max(xp.abs(dx), axis=1, keepdims=True)
        direction = dx / xp.maximum(largest, float(xp.finfo(dx.dtype).smallest_normal))
        length = xp.sqrt(xp.sum(direction * direction, axis=1, keepdims=True))
        return direction * (self.distance / xp.maximum(length, 1.0))  # where the loss is flat, 0
