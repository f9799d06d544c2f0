"""Are the gradients right? Finite differences, and the array libraries compared with each other.

A case is a function with its inputs, drawn once from a fixed seed and away from the kinks of the rectifiers. Its
gradients are those of <u, value>, where u is a fixed random array, so that a single comparison covers every output.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.numerics import functional as F
from xpnet.numerics.network import MLP
from xpnet.training.initializers import init_params, init_running

__all__ = [
    "BOUNDS",
    "Case",
    "Comparison",
    "cases",
    "central_differences",
    "check",
    "finite_differences",
    "gradients",
    "relative_error",
]

Host = NDArray[Any]

BOUNDS = {"finite differences": 1e-6, "float64": 1e-12, "float32": 1e-5}
"""Largest relative error: of float64 gradients against finite differences, and between libraries by precision."""


class Case(NamedTuple):
    """A function to check.

    function : function(*inputs, *constants, xp=xp) -> (value, vjp), vjp(u) -> a gradient for each input, in a list.
    inputs : float64 host arrays to differentiate by.   constants : integer or float host arrays.
    """

    name: str
    function: Callable[..., tuple[Any, Callable[[Any], list[Any]]]]
    inputs: list[Host]
    constants: list[Host]


class Comparison(NamedTuple):
    """One line of the check: the relative error of a case's gradients on one backend, against what, and its bound."""

    case: str
    library: str
    device: str
    dtype: str
    against: str
    error: float
    bound: float

    @property
    def ok(self) -> bool:
        """Whether the error is within the bound; NaN never is."""
        return self.error <= self.bound


def relative_error(actual: list[Host], desired: list[Host]) -> float:
    """Norm of the difference over the norm of desired, over all arrays together; infinite if anything is not finite."""
    a, d = (np.concatenate([np.ravel(x).astype(np.float64) for x in arrays]) for arrays in (actual, desired))
    if a.shape != d.shape or not (np.isfinite(a).all() and np.isfinite(d).all()):
        return float("inf")
    return float(np.linalg.norm(a - d) / max(np.linalg.norm(d), np.finfo(np.float64).tiny))


def gradients(case: Case, backend: Backend, dtype: str = "float64") -> list[Host]:
    """The gradients of <u, value> by the case's inputs, computed on a backend in the given precision, on the host."""
    with backend.active():
        value, vjp = _call(case, case.inputs, backend, dtype)
        u = backend.to_device(_cotangent(tuple(value.shape)).astype(dtype))
        return [backend.to_host(g) for g in vjp(u)]


def finite_differences(case: Case, backend: Backend, h: float = 1e-6) -> list[Host]:
    """The same gradients by central differences, in float64."""

    def objective(inputs: list[Host]) -> float:
        with backend.active():
            value = backend.to_host(_call(case, inputs, backend, "float64")[0])
        return float(np.sum(_cotangent(value.shape) * value))

    return central_differences(objective, case.inputs, h)


def central_differences(objective: Callable[[list[Host]], float], inputs: list[Host], h: float = 1e-6) -> list[Host]:
    """The gradients of a function of arrays whose value is one number, entry by entry.

        df/dx_i = (f(x + h e_i) - f(x - h e_i)) / 2h,  to an error of the order h^2

    inputs : float64 host arrays.   h : > 0.   Returns an array for each input.
    """
    grads = [np.zeros_like(x) for x in inputs]
    for which, x in enumerate(inputs):
        for entry in np.ndindex(x.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [y.copy() for y in inputs]
                moved[which][entry] += sign * h
                ends.append(objective(moved))
            grads[which][entry] = (ends[0] - ends[1]) / (2.0 * h)
    return grads


def check(backends: list[Backend]) -> Iterator[Comparison]:
    """Compare every case on every backend: with finite differences, and, in both precisions, with the first backend."""
    first = backends[0]
    for case in cases():
        reference = gradients(case, first)
        for backend in backends:
            where = case.name, backend.name, backend.device
            grads = gradients(case, backend)
            numeric = finite_differences(case, backend)
            against = "finite differences"
            yield Comparison(*where, "float64", against, relative_error(grads, numeric), BOUNDS[against])
            if backend is not first:
                against = f"{first.name} {first.device}"
                yield Comparison(*where, "float64", against, relative_error(grads, reference), BOUNDS["float64"])
            # float32 against the first backend's float64: each library's rounding, and no chance agreement of errors
            single = relative_error(gradients(case, backend, "float32"), reference)
            yield Comparison(*where, "float32", f"{first.name} {first.device} float64", single, BOUNDS["float32"])


def cases() -> list[Case]:
    """Every differentiable function, and networks that together use every activation, loss and kind of layer."""
    rng = np.random.default_rng(20)
    n, n_in, k = 6, 5, 4

    def normal(*shape: int) -> Host:
        return rng.normal(size=shape)

    def off_kink(*shape: int) -> Host:
        z = normal(*shape)
        return z + 0.05 * np.sign(z)

    labels, numbers = rng.integers(0, k, n).astype(np.int32), rng.random((n, k))
    targets = {name: labels if loss.task == "classification" else numbers for name, loss in F.LOSSES.items()}
    found = [
        _case("dense", F.dense, [normal(n, n_in), normal(n_in, k), normal(k)]),
        _case("dropout", lambda x, u, xp: F.dropout(x, u, 0.3, xp=xp), [normal(n, k)], [rng.random((n, k))]),
        _case("batch_norm", _batch_norm, [normal(n, k), normal(k), normal(k)]),
        _case("normalize", F.normalize, [normal(n, k), normal(k), normal(k)], [normal(k), 0.5 + rng.random(k)]),
        _case("softmax", F.softmax, [normal(n, k)]),
        _case("exponential", F.exponential, [normal(n, k)]),
    ]
    found += [_case(name, function, [off_kink(n, k)]) for name, function in F.ACTIVATIONS.items()]
    for name, loss in F.LOSSES.items():
        found.append(_case(name, loss.function, [2.0 * normal(n, k)], [targets[name]]))
        if loss.task == "classification":
            found.append(_case(f"{name}, smoothed", _smoothed(loss.function), [2.0 * normal(n, k)], [labels]))
        found.append(
            _case(f"{name}, weighted", _weighted(loss.function), [2.0 * normal(n, k)], [targets[name], rng.random(n)])
        )
    shares = numbers / numbers.sum(axis=1, keepdims=True)
    found.append(_case("soft cross-entropy", F.soft_cross_entropy, [2.0 * normal(n, k)], [shares]))
    x, step = normal(n, n_in), np.array([3])
    networks = [MLP((n_in, 7, 6, k), activation=activation) for activation in F.ACTIVATIONS]
    networks += [MLP((n_in, 7, k), activation="tanh", loss=loss) for loss in F.LOSSES if loss != "cross-entropy"]
    networks += [
        MLP((n_in, k)),
        MLP((n_in, 7, k), input_dropout=0.2),
        MLP((n_in, 7, 6, k), dropout=0.4, label_smoothing=0.1),
        MLP((n_in, 7, 6, k), activation="gelu", batch_norm=True, dropout=0.2),
    ]
    found.append(Case("l2_penalty", _penalty, [normal(n_in, 7), normal(7, k)], []))
    for network in networks:
        params = [p + 0.1 * normal(*p.shape) for p in init_params(network, dtype="float64")]
        running = init_running(network, "float64")
        found.append(Case(_title(network), _whole(network), params, [x, targets[network.loss], step, *running]))
    inputs = [MLP((n_in, 7, 6, k), activation=activation) for activation in F.ACTIVATIONS]
    for network in [*inputs, MLP((n_in, k)), MLP((n_in, 7, 6, k), activation="gelu", batch_norm=True, dropout=0.2)]:
        params = [p + 0.1 * normal(*p.shape) for p in init_params(network, dtype="float64")]
        running = [0.5 + rng.random(a.shape) for a in init_running(network, "float64")]
        found.append(Case(_title(network, "input"), _of_input(network), [x], [*params, *running]))
    return found


def _call(case: Case, inputs: list[Host], backend: Backend, dtype: str) -> tuple[Any, Callable[[Any], list[Any]]]:
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in (*inputs, *case.constants)]
    return case.function(*map(backend.to_device, arrays), xp=backend.xp)


def _cotangent(shape: tuple[int, ...]) -> Host:
    return np.random.default_rng(21).normal(size=shape)


def _case(name: str, function: Callable[..., Any], inputs: list[Host], constants: list[Host] | None = None) -> Case:
    def as_list(*arrays: Any, xp: Any) -> tuple[Any, Callable[[Any], list[Any]]]:
        value, vjp = function(*arrays, xp=xp)

        def listed(u: Any) -> list[Any]:
            grads = vjp(u)
            return list(grads) if isinstance(grads, tuple) else [grads]

        return value, listed

    return Case(name, as_list, inputs, constants or [])


def _batch_norm(x: Any, scale: Any, shift: Any, *, xp: Any) -> tuple[Any, Callable[[Any], Any]]:
    (y, _, _), vjp = F.batch_norm(x, scale, shift, xp=xp)
    return y, vjp


def _penalty(*weights: Any, xp: Any) -> tuple[Any, Callable[[Any], list[Any]]]:
    return F.l2_penalty(list(weights), 0.3, xp=xp)


def _smoothed(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda logits, labels, xp: loss(logits, labels, label_smoothing=0.1, xp=xp)


def _weighted(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda logits, targets, weights, xp: loss(logits, targets, weights=weights, xp=xp)


def _whole(network: MLP) -> Callable[..., tuple[Any, Callable[[Any], list[Any]]]]:
    def function(*arrays: Any, xp: Any) -> tuple[Any, Callable[[Any], list[Any]]]:
        n = len(network.param_shapes())
        params, (x, targets, step, *running) = list(arrays[:n]), arrays[n:]
        loss, grads, _, _ = network.loss_and_grads(params, x, targets, running=running, step=step, seed=1, xp=xp)
        return loss, lambda u: [g * u for g in grads]

    return function


def _of_input(network: MLP) -> Callable[..., tuple[Any, Callable[[Any], list[Any]]]]:
    """A trained network's logits as a function of its input."""

    def function(x: Any, *arrays: Any, xp: Any) -> tuple[Any, Callable[[Any], list[Any]]]:
        n = len(network.param_shapes())
        values, vjp = network.layers(list(arrays[:n]), x, running=list(arrays[n:]), xp=xp)
        return values[-1], lambda u: vjp(u)[:1]

    return function


def _title(network: MLP, what: str = "network") -> str:
    extras = [network.loss] if network.loss != "cross-entropy" else []
    extras += [name for name in ("dropout", "input_dropout", "label_smoothing", "batch_norm") if getattr(network, name)]
    return " ".join([f"{what} {network}", *extras])
