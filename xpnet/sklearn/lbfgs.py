"""L-BFGS: scipy's, over the gradients of all examples at once, which are computed on the device."""

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from sklearn.utils.optimize import _check_optimize_result

from xpnet.optim import accumulate
from xpnet.sklearn.examples import Rows
from xpnet.sklearn.objective import Problem

if TYPE_CHECKING:
    from xpnet.sklearn.base import BaseMLP

__all__ = ["minimize"]

Arrays = list[Any]


def minimize(estimator: "BaseMLP", problem: Problem) -> tuple[Arrays, Arrays]:
    """Minimise with scipy's L-BFGS-B over the gradients of all examples, computed on the device.

    Returns host copies of the parameters, and no running statistics.
    """
    backend, objective, train = problem.backend, problem.objective, problem.train
    xp, dtype, shapes = backend.xp, problem.params[0].dtype, [p.shape for p in problem.params]
    ends = np.cumsum([p.size for p in problem.params])[:-1]
    examples = Rows(train, backend, train.n)
    total = train.n if train.weights is None else float(train.weights.sum(dtype=np.float64))
    shown = 0.0

    def unpacked(packed: NDArray[np.float64]) -> Arrays:
        return [a.reshape(shape).astype(dtype) for a, shape in zip(np.split(packed, ends), shapes, strict=True)]

    def value(packed: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal shown
        params = [backend.to_device(a) for a in unpacked(packed)]
        loss, grads = 0.0, None
        for _, (x, targets, weights, _, _) in examples.windows():
            part, found, _, _ = objective.loss_and_grads(params, x, targets, weights=weights, total=total, xp=xp)
            loss = loss + part
            grads = found if grads is None else accumulate(grads, found)
        penalty, grads = objective.penalized(params, grads or [], total, xp=xp)
        shown = float(loss * objective.reported + penalty)
        return float(loss + penalty), np.concatenate([backend.to_host(g).ravel() for g in grads]).astype(np.float64)

    iterations, newest = 0, problem.params

    def after(packed: NDArray[np.float64]) -> None:
        nonlocal iterations, newest
        iterations, newest = iterations + 1, unpacked(packed)
        if estimator.verbose:
            print(f"Iteration {iterations}, loss = {shown:.8f}")
        if tell():
            raise StopIteration

    start = np.concatenate([p.ravel() for p in problem.params]).astype(np.float64)
    options = {"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol}
    with (
        backend.active(),
        np.errstate(over="ignore", invalid="ignore"),
        estimator._told(problem, estimator.max_iter, lambda: (newest, [])) as tell,
    ):
        found = scipy.optimize.minimize(value, start, method="L-BFGS-B", jac=True, options=options, callback=after)
        value(found.x)
    estimator.n_iter_ = _check_optimize_result("lbfgs", found, estimator.max_iter)
    estimator.loss_, estimator.converged_ = np.float64(shown), bool(found.success)
    return unpacked(found.x), []
