"""Why a model gives an example its output: what speaks for it, what against it, and what the network finds similar."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.arrays import to_numpy
from xpnet.checks import check_range, typed
from xpnet.data import Split, rows_of, shown_names
from xpnet.display import plain
from xpnet.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from xpnet.model.model import Ensemble, Model

__all__ = ["Explanation", "Layer", "Neighbours", "explain", "neighbours"]


class Layer(NamedTuple):
    """A hidden layer's part in a value.

        contribution_j = h_j dvalue/dh_j

    activations h, contributions : (n_units,) floats. The contributions of the last hidden layer and the bias of the
        output add up to the value.
    """

    activations: NDArray[np.float64]
    contributions: NDArray[np.float64]


class Neighbours(NamedTuple):
    """The examples that the network finds most similar to another one, the nearest first.

        distance = |h - h'|,  h the activations of the last hidden layer, or the scaled features where there is none

    The outputs are linear in h: what is near there has similar outputs, wherever its pixels lie.

    indices : (k,) integers.   distances : (k,) floats.   images : (k, height, width) or (k, n_features).
    targets : (k,) positions of the classes, or (k, n_outputs) numbers; None if the examples have no labels.
    labels : the same in words; () for None.
    """

    indices: NDArray[np.intp]
    distances: NDArray[np.float64]
    images: NDArray[Any]
    targets: NDArray[Any] | None
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What speaks for and against an output of a network, for one example.

        value = sum of contributions + rest,   contribution_i = x_i dvalue/dx_i,   x : the scaled features

    In a network of rectifiers, or without activations, the rest is the part of the biases; otherwise it is also that of
    all that is not linear. A feature that is 0 when scaled, such as a black pixel or the mean of a column, contributes
    nothing; its gradient is what it would contribute if it were 1.

    image : the example, (height, width) or (n_features,).   columns : names of the features, if they have some.
    outputs : (n_outputs,), as Model.outputs returns them.   prediction : as Model.predict returns it.
    of, against : positions of the output that is explained, and of the one that it is compared with, or None.
    runner_up : position of the class that is second in probability; None without classes.
    value : of classes the logit of `of`, less that of `against`; of a regression the output in its own unit, or, with
        the loss poisson, its logarithm.   what : it is, and terms : the parts of it are, in words.
    gradient, contributions : floats of the image's shape.
    layers : the hidden ones; () for an ensemble.   neighbours : None if no examples were given.
    Source: Simonyan, Vedaldi and Zisserman 2014, for the gradient; Shrikumar et al. 2016, for its product with x.
    """

    image: NDArray[Any]
    columns: tuple[str, ...]
    outputs: NDArray[Any]
    prediction: Any
    of: int
    against: int | None
    runner_up: int | None
    what: str
    terms: tuple[str, str, str]
    value: float
    gradient: NDArray[np.float64]
    contributions: NDArray[np.float64]
    layers: tuple[Layer, ...] = ()
    neighbours: Neighbours | None = None

    @property
    def sums(self) -> tuple[float, float, float]:
        """What is for the value, what is against it, at most 0, and the rest: together the value."""
        positive = self.contributions > 0
        above = float(self.contributions[positive].sum())
        below = float(self.contributions[~positive].sum())
        return above, below, self.value - above - below

    @property
    def equation(self) -> str:
        """The value as the sum of its parts, as in "logit of 5: 6.17 = 12.18 for - 6.21 against + 0.19 biases"."""
        above, below, rest = self.sums
        signs, sizes = ("", "- ", "- " if rest < 0 else "+ "), (above, abs(below), abs(rest))
        parts = zip(signs, sizes, self.terms, strict=True)
        written = " ".join(f"{sign}{size:.{self.decimals}f} {term}" for sign, size, term in parts)
        return f"{self.what}: {self.value:.{self.decimals}f} = {written}"

    @property
    def decimals(self) -> int:
        """With how many decimals its numbers are shown: four digits of the largest sum."""
        largest = max(map(abs, self.sums))
        return min(max(3 - math.floor(math.log10(largest)), 0), 9) if 0.0 < largest < math.inf else 2


def explain(model: "Model | Ensemble", X: Any, of: Any, against: Any) -> list[Explanation]:
    """The explanations of a model, or the mean of those of an ensemble's members; arguments as in Model.explain."""
    members: Sequence[Any] = getattr(model, "members", (model,))
    first, outputs = members[0], model.outputs(X)
    n, k = outputs.shape
    if not n:
        return []
    classified = first.task == "classification"
    second = np.argsort(-outputs, axis=1, kind="stable")[:, min(1, k - 1)]
    other = None if against is None else _position(first, against, "against")
    if of is not None:
        chosen = np.full(n, _position(first, of, "of"))
    else:
        chosen = np.zeros(n, np.intp) if first.task == "regression" else outputs.argmax(axis=1)
    direction = np.eye(k)[chosen]
    if other is not None:
        if not classified:
            raise ConfigError(f"against compares classes, but the model was trained for {first.task}: leave it out")
        if (same := np.flatnonzero(chosen == other)).size:
            where = f" in example {same[0]}" if n > 1 else ""
            raise ConfigError(f"against: {against!r} is itself what is explained{where}: choose another class")
        direction[:, other] = -1.0
    parts = [_parts(member, X, direction) for member in members]
    values, gradients, contributions = (np.mean([part[i] for part in parts], axis=0) for i in range(3))
    layers = parts[0].layers if len(members) == 1 else []
    images, predictions, shape = to_numpy(first._flat(X)), first._predicted(outputs), _shape(first)
    rest = "biases" if all(member.network.is_piecewise_linear for member in members) else "rest"
    return [
        Explanation(
            image=images[i].reshape(shape),
            columns=first.schema.columns,
            outputs=outputs[i],
            prediction=predictions[i],
            of=int(chosen[i]),
            against=other,
            runner_up=int(second[i]) if classified and k > 1 else None,
            what=_what(first, int(chosen[i]), other),
            terms=(*(("up", "down") if first.task == "regression" else ("for", "against")), rest),
            value=float(values[i]),
            gradient=gradients[i].reshape(shape),
            contributions=contributions[i].reshape(shape),
            layers=tuple(Layer(h[i], product[i]) for h, product in layers),
        )
        for i in range(n)
    ]


def neighbours(model: "Model", X: Any, examples: Any, count: int) -> list[Neighbours]:
    """For each row of X the examples that are nearest to it; arguments as in Model.explain."""
    count = typed("nearest", count, "int")
    check_range("nearest", count, 1)
    if not (isinstance(examples, Split) or (isinstance(examples, tuple | list) and len(examples) == 2)):
        raise ConfigError(f"examples must be a Split or a pair (X, y), not {type(examples).__name__}")
    images, labels = examples
    flat, shape = model._flat(images), _shape(model)
    if labels is not None and len(labels) != flat.shape[0]:
        raise ModelError(f"{flat.shape[0]} examples need as many labels; these are {len(labels)}")

    if not flat.shape[0]:
        raise ConfigError("there are no examples to find similar ones among")
    queries = model.hidden(X)

    def nearest_of_batch(x: Any, rows: slice) -> tuple[NDArray[Any], NDArray[np.intp]]:
        h = model._last_hidden(x)
        squares = np.stack([np.square(h - query).sum(axis=1) for query in queries])
        nearest = np.argpartition(squares, min(count, len(h)) - 1, axis=1)[:, :count]
        return np.take_along_axis(squares, nearest, axis=1), nearest + rows.start

    batches = zip(*model._by_batches(flat, nearest_of_batch), strict=True)
    squares, indices = (np.concatenate(parts, axis=1) for parts in batches)
    found = []
    for i, order in enumerate(np.lexsort((indices, squares))[:, :count]):
        rows = indices[i, order]
        nearest, distances = to_numpy(rows_of(flat, rows)), np.sqrt(squares[i, order].astype(np.float64))
        targets = None if labels is None else model.targets(to_numpy(labels)[rows])
        words = () if targets is None else tuple(_label(model, target) for target in targets)
        found.append(Neighbours(rows, distances, nearest.reshape(-1, *shape), targets, words))
    return found


class _Parts(NamedTuple):
    """Of n examples: (n,) values, (n, n_in) gradients and contributions, (n, n_units) both of each hidden layer."""

    values: NDArray[np.float64]
    gradients: NDArray[np.float64]
    contributions: NDArray[np.float64]
    layers: list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def _parts(model: "Model", X: Any, direction: NDArray[np.float64]) -> _Parts:
    """Forward through the layers and back.   direction : (n, n_outputs), the gradient of the values by the outputs."""
    backend, network, scaling = model.backend, model.network, model.schema.targets
    # The unit of a regression's target comes last, in float64: the network's dtype may not have it.
    unit = 1.0 if scaling.scale is None else (direction * np.asarray(scaling.scale, np.float64)).sum(1, keepdims=True)
    shift = 0.0 if scaling.shift is None else direction @ np.asarray(scaling.shift, np.float64)

    def of_batch(x: Any, rows: slice) -> list[NDArray[np.float64]]:
        layers, vjp = network.layers(model.params, x, running=model.running, xp=backend.xp)
        dtype = backend.to_host(model.params[-1]).dtype
        grads = vjp(backend.to_device(direction[rows].astype(dtype)))
        return [backend.to_host(a).astype(np.float64) for a in (*layers, *grads)]

    batches = zip(*model._by_batches(model._flat(X), of_batch), strict=True)
    found = [np.concatenate(parts) for parts in batches]
    layers, logits, grads = found[: network.n_layers], found[network.n_layers], found[network.n_layers + 1 :]
    with np.errstate(over="ignore", invalid="ignore"):
        grads = [d * unit for d in grads]
        values = (np.where(direction == 0.0, 0.0, direction * logits) * unit).sum(axis=1) + shift
        products = [h * d for h, d in zip(layers, grads, strict=True)]
    return _Parts(values, grads[0], products[0], list(zip(layers[1:], products[1:], strict=True)))


def _names(model: "Model") -> tuple[str, ...]:
    return tuple(shown_names(model.data, model.classes))


def _label(model: "Model", target: Any) -> str:
    """A target in words."""
    if model.task == "regression":
        return ", ".join(map(plain, target))
    names = _names(model)
    return names[target] if model.task == "classification" else ", ".join(np.array(names)[target > 0.5]) or "none"


def _what(model: "Model", of: int, against: int | None) -> str:
    """What is explained, in words."""
    k = model.network.sizes[-1]
    names = _names(model) or (tuple(f"output {i}" for i in range(k)) if k > 1 else ("output",))
    if model.task == "regression":
        return f"logarithm of {names[of]}" if model.network.loss == "poisson" else names[of]
    return f"logit of {names[of]}" + ("" if against is None else f" less that of {names[against]}")


def _shape(model: "Model") -> tuple[int, ...]:
    """The shape in which an example is shown."""
    n_in = model.network.sizes[0]
    return model.image_shape if math.prod(model.image_shape) == n_in else (n_in,)


def _position(model: "Model", name: Any, argument: str) -> int:
    """The position of an output that is named as its class, or by number where it has no name.   Raises ConfigError."""
    known = model.classes or tuple(range(model.network.sizes[-1]))
    if name in known:
        return known.index(name)
    choices = ", ".join(map(str, known[:12])) + ", ..." * (len(known) > 12)
    raise ConfigError(f"{argument} must be an output of the model, not {name!r}; the choices are {choices}")
