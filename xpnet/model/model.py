"""A trained network on a device, or several used as one: predict, evaluate, save, load."""

import dataclasses
import logging
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend, select
from xpnet.backend.arrays import namespace_of
from xpnet.data import Scaling, Schema, is_mapped, rows_of
from xpnet.data.arrays import columns_of, features_of, in_order, named, positions_of, targets_of
from xpnet.data.schema import ROUNDED
from xpnet.display import html_table
from xpnet.errors import DeviceError, ModelError
from xpnet.model.explaining import Explanation, explain, neighbours
from xpnet.model.metrics import confusion_matrix
from xpnet.model.ordering import reordered
from xpnet.model.scoring import Scores, features_on, hits_of, refuse_nan, scores_of, spread_of, targets_on
from xpnet.model.storage import Stored, read, save
from xpnet.model.summary import Summary, layers_of
from xpnet.numerics.functional import LOSSES, mean_squared_error
from xpnet.numerics.network import MLP

__all__ = ["UNSURE", "Ensemble", "Measured", "Model", "batches", "load"]

logger = logging.getLogger("xpnet")

Array = Any
Arrays = list[Any]

# The probability below which a prediction is called unsure: 1 % of MNIST's test images are, by the default network.
UNSURE = 0.58

# Rows per call when nothing is trained: enough to fill a GPU, few enough to stay in a CPU's cache.
BATCH_SIZE = 1000


class Measured(NamedTuple):
    """The results of a model or an ensemble on labelled examples.

    scores : Scores, or RegressionScores.   outputs : (n, n_outputs), on the host.
    targets : the labels as (n,) positions of the classes, or (n, k) floats.
    members : the scores of each of an ensemble's members; () for a single model.
    """

    scores: Any
    outputs: NDArray[Any]
    targets: NDArray[Any]
    members: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network with its parameters, ready to use.

    network : its description.   params, running : its arrays, on the backend's device.   schema : of its data.
    """

    network: MLP
    params: Arrays
    running: Arrays
    backend: Backend
    schema: Schema = dataclasses.field(default_factory=Schema)

    @property
    def data(self) -> str:
        """Name of the set it was trained on."""
        return self.schema.data

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example there: (height, width) or (n_features,); () if it is not known."""
        return self.schema.image_shape

    @property
    def task(self) -> str:
        """What it was trained for: classification, multilabel or regression."""
        return LOSSES[self.network.loss].task

    @property
    def classes(self) -> tuple[Hashable, ...]:
        """What each output stands for; () for the outputs of a regression without names."""
        numbered = () if self.task == "regression" else tuple(range(self.network.sizes[-1]))
        return self.schema.classes or numbered

    def outputs(self, X: Any) -> NDArray[Any]:
        """Class probabilities, of a regression its predictions, or the outputs that the network's loss defines.

        X : features, anything that features_of takes, in the range that the model was trained on. For a model of
            pixels that are bytes, or numbers from 0 to 255, or in [0, 1].
        Returns a host array (n, n_outputs).
        Raises ModelError if the examples have another number of features, DataError if one is not a number.
        """
        return self._outputs(self.logits(X))

    def logits(self, X: Any) -> NDArray[Any]:
        """What the network computes before the output activation, (n, n_outputs) on the host; X, errors as in outputs.

        A classifier's outputs are those of logits / schema.temperature, which calibrates them.
        """

        def of_batch(x: Array, rows: slice) -> NDArray[Any]:
            logits, _, _ = self.network.forward(self.params, x, running=self.running, xp=self.backend.xp)
            return self.backend.to_host(logits)

        parts = self._by_batches(self._flat(X), of_batch)
        if parts:
            return np.concatenate(parts)
        return np.empty((0, self.network.sizes[-1]), self.backend.to_host(self.params[-1]).dtype)

    def hidden(self, X: Any) -> NDArray[Any]:
        """The last hidden layer's activations, or the scaled features where there is no hidden layer.

        X, errors : as in outputs.   Returns a host array (n, n_units).
        """
        if parts := self._by_batches(self._flat(X), lambda x, _: self._last_hidden(x)):
            return np.concatenate(parts)
        return np.empty((0, self.network.sizes[-2]), self.backend.to_host(self.params[-1]).dtype)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each example, as the labels were called in training.

        Multilabel: (n, k) of 0 and 1. Regression: (n,) or (n, k) numbers.   X : as in outputs.
        Returns a host array (n,).
        Raises as outputs, and ModelError where the outputs that are to tell classes are not numbers.
        """
        outputs = self.outputs(X)
        if self.task != "regression":
            refuse_nan(outputs)
        return self._predicted(outputs)

    def evaluate(self, X: Any, y: Any) -> Any:
        """Scores: the loss, without label smoothing, and the accuracy; or RegressionScores; arguments as in measure."""
        return self.measure(X, y).scores

    def measure(self, X: Any, y: Any) -> Measured:
        """Scores and outputs, by one pass over the examples; the loss is that of the logits, without calibration.

        X : as in outputs, at least one example.   y : labels as in training, anything that targets_of takes.
        Raises ModelError if the examples have another number of features, or X and y differ in length; DataError if a
        label is not a class of the model.
        """
        if _shape_of(X)[:1] == (0,):
            raise ModelError("there are no examples to measure: at least one is needed")
        targets, logits, loss = self.targets(y), self.logits(X), LOSSES[self.network.loss]
        n = len(logits)
        if targets.shape[:1] != (n,):
            raise ModelError(f"{n} examples need as many labels; these are of shape {targets.shape}")
        xp, scaled = np, targets
        with np.errstate(over="ignore", invalid="ignore"):
            if targets.dtype.kind == "f":
                scaled = targets_on(targets, logits.dtype, self.schema, xp=xp)
            losses, hits = [], []
            for rows in batches(n):
                of_batch, _ = loss.function(logits[rows], scaled[rows], xp=xp)
                losses.append(float(of_batch) * (min(rows.stop, n) - rows.start))
                hits.append(hits_of(self.network.loss, logits[rows], scaled[rows], xp=xp))
            outputs = self._outputs(logits)
            spread = spread_of(targets, self.schema) if self.task == "regression" else None
            scores = scores_of(sum(losses), np.atleast_1d(sum(hits)), n, spread)
            if self.task == "regression":
                scores = scores._replace(mae=float(np.abs(outputs - targets).mean()))
        return Measured(scores, outputs, targets)

    def confusion_matrix(self, X: Any, y: Any) -> NDArray[np.intp]:
        """How often each class was classified as each: (n_classes, n_classes) counts; arguments as in measure."""
        if self.task != "classification":
            raise ModelError(f"a confusion matrix needs classes, but the model was trained for {self.task}")
        found = self.measure(X, y)
        return confusion_matrix(found.targets, np.argmax(found.outputs, axis=1), self.network.sizes[-1])

    def explain(
        self, X: Any, of: Hashable = None, *, against: Hashable = None, examples: Any = None, nearest: int = 5
    ) -> list[Explanation]:
        """What speaks for and against an output, what the hidden layers say, and which examples are similar.

        X : as in outputs.   of : the class to explain, as in training, or the name or number of another output; by
            default the predicted class, the likeliest label, the first number.
        against : another class, to explain why it is not that one.
        examples : those that it was trained on, a Split or a pair (X, y), y None if they have no labels; by default
            none are looked for.   nearest : as many of them are found, at least 1.
        Returns an Explanation of each example, which xpnet.plots.explanation draws.
        Raises ConfigError for an unknown output, and otherwise as measure.
        """
        found = explain(self, X, of, against)
        if examples is None or not found:
            return found
        near = neighbours(self, X, examples, nearest)
        return [dataclasses.replace(each, neighbours=its) for each, its in zip(found, near, strict=True)]

    def summary(self) -> Summary:
        """Its layers, with their shapes, parameters and arithmetic; printed, a table."""
        arrays, own = (*self.params, *self.running), self.network
        size = sum(self.backend.to_host(a).nbytes for a in arrays)
        dtype = self.backend.to_host(self.params[0]).dtype.name
        return Summary(str(own), self.data, list(self.image_shape), dtype, own.loss, layers_of(own), size)

    def to(self, device: str, library: str | None = None) -> "Model":
        """The same model on another device, or with another library; arguments and errors as in select."""
        return _on(select(device, library), self._stored())

    def save(self, path: str | Path) -> None:
        """Write the model to a file, completely or not at all.   Raises OSError where the file cannot be written."""
        save(path, self._stored())

    def __repr__(self) -> str:
        data = f", trained on {self.data}" if self.data else ""
        return f"<Model {self.network}, {self.network.loss}{data}, on {self.backend.device} with {self.backend.name}>"

    def _repr_html_(self) -> str:
        rows = {"data": self.data, "classes": ", ".join(map(str, self.classes[:12])), "loss": self.network.loss}
        return html_table(f"Model {self.network}", {**rows, "device": f"{self.backend.device}, {self.backend.name}"})

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy, pickle and joblib: host arrays and the description; the backend is selected again."""
        own = self.backend
        return _unpickled, (self._stored(), own.device, own.name, own.tf32, own.graph)

    def _stored(self) -> Stored:
        params, running = ([self.backend.to_host(a) for a in arrays] for arrays in (self.params, self.running))
        return Stored(self.network, params, running, self.schema)

    def _by_batches(self, flat: Any, function: Callable[[Array, slice], Any]) -> list[Any]:
        """The results of function(x, rows), x the network's input for some rows of features, as _flat returns them."""
        features, parts = self._scaling(flat), []
        # Parameters that ran away show in the result, without NumPy's warnings.
        with self.backend.active(), np.errstate(over="ignore", invalid="ignore"):
            schema = dataclasses.replace(self.schema, features=features).on(self.backend.to_device)
            for rows in batches(flat.shape[0]):
                batch = rows_of(flat, np.arange(rows.start, rows.stop)) if is_mapped(flat) else flat[rows, :]
                x = features_on(self.backend.adopt(batch), self.params[0].dtype, schema, xp=self.backend.xp)
                parts.append(function(x, rows))
        return parts

    def _last_hidden(self, x: Array) -> NDArray[Any]:
        """The last hidden layer for the network's input."""
        layers, _ = self.network.layers(self.params, x, running=self.running, xp=self.backend.xp)
        return self.backend.to_host(layers[-2])

    def _scaling(self, flat: Any) -> Scaling:
        """How some features are to be scaled: pixels by what they are, everything else as in training.

        Raises ModelError for pixels that cannot be any.
        """
        trained = self.schema.features
        if trained.kind != "pixels":
            return trained
        xp = namespace_of(flat)
        white = trained.scale or 255.0
        if flat.dtype == xp.uint8 or not flat.shape[0]:
            return dataclasses.replace(trained, scale=white)
        low, high = float(xp.min(flat)), float(xp.max(flat))
        if 1 < high <= ROUNDED:
            high = 1.0
        # A little more than 1 is neither: divided by 255, such pictures would be black.
        if low < 0 or 1 < high < 2 or high > max(255.0, white):
            raise ModelError(
                f"pixels must be in [0, 1], or from 0 to {max(255.0, white):g}; these are from {low:g} to {high:g}"
            )
        return dataclasses.replace(trained, scale=white if high > 1 else None)

    def _outputs(self, logits: NDArray[Any]) -> NDArray[Any]:
        """The network's outputs, calibrated, and of a regression in the targets' own unit."""
        output = LOSSES[self.network.loss].output
        with np.errstate(over="ignore", invalid="ignore"):
            temperature = self.schema.temperature
            outputs, _ = output(logits if temperature == 1.0 else logits / temperature, xp=np)
            return self.schema.targets.back(outputs) if self.task == "regression" else outputs

    def _predicted(self, outputs: NDArray[Any]) -> NDArray[Any]:
        if self.task == "regression":
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        if self.task == "multilabel":
            return (outputs > 0.5).astype(np.intp)
        return named(np.argmax(outputs, axis=1), self.classes)

    def targets(self, y: Any) -> NDArray[Any]:
        """Labels in the form that the loss takes: (n,) positions among the classes, or (n, k) floats.

        y, errors : as in measure.
        """
        if self.task != "classification" and self.classes != tuple(range(self.network.sizes[-1])):
            y = in_order(y, tuple(map(str, self.classes)), "labels")
        found = targets_of(y, "labels", self.task)
        if self.task == "classification":
            return positions_of(found, self.classes, "labels", whose="the model")
        if found.values.shape[1] != self.network.sizes[-1]:
            raise ModelError(f"labels of {found.values.shape[1]} columns, but the model has {self.network.sizes[-1]}")
        return found.values

    def _flat(self, X: Any) -> Any:
        """Features as rows of the network's width."""
        n_in, given = self.network.sizes[0], _shape_of(X)
        if given and given[0] == 0:
            return np.empty((0, n_in), np.float32)
        if given == (n_in,):
            raise ModelError(f"one example of {n_in} features, of shape {given}; pass it as x[None]")
        features = features_of(in_order(X, self.schema.columns, "features"), "features")
        shape = tuple(features.shape)
        if math.prod(shape[1:]) != n_in:
            hint = "; pass one example as x[None]" if math.prod(shape) == n_in else ""
            raise ModelError(
                f"the model takes {n_in} features, but these have {math.prod(shape[1:])} (shape {shape}){hint}"
            )
        xp, shift = namespace_of(features), self.schema.features.shift
        flat = xp.reshape(features, (shape[0], n_in))
        if shift is None or not np.issubdtype(shift.dtype, np.float64):
            return flat
        return xp.astype(flat, xp.float64)  # digits that the training data had


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Several models that classify as one: their outputs are averaged.

        y = 1/m sum over the members of y_i

    members : at least one Model. They agree in their numbers of inputs and classes and in their loss, which defines the
        outputs and their cost; everything else may differ: layers, activation, data, device, library, dtype. Those that
        were trained on the same columns in another order are kept with the first one's.
    names : one for each, for error messages; by default "member 1", "member 2", ...
    Raises ModelError if there is no member, or one does not agree with the first.
    Source: Lakshminarayanan, Pritzel and Blundell 2017, section 2.4.
    """

    members: Sequence[Model]
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        members = () if isinstance(self.members, Model) else tuple(self.members)
        if isinstance(self.members, Model) or not all(isinstance(member, Model) for member in members):
            raise TypeError("members must be Models, in a list, as xpnet.load returns them")
        columns = next((member.schema.columns for member in members if member.schema.columns), ())
        object.__setattr__(self, "members", tuple(reordered(member, columns) for member in members))
        object.__setattr__(self, "names", tuple(self.names or (f"member {i + 1}" for i in range(len(self.members)))))
        if not self.members:
            raise ModelError("an ensemble needs at least one member")
        if len(self.names) != len(self.members):
            raise ModelError(f"{len(self.members)} members need as many names, not {len(self.names)}")
        first = self.members[0]
        for name, member in zip(self.names, self.members, strict=True):
            for has, expected in zip(_traits(member, first), _traits(first, member), strict=True):
                if has != expected:
                    raise ModelError(
                        f"{name} has {has}, but {self.names[0]} {expected}: members of an ensemble must agree"
                    )

    def check_columns(self, X: Any = None) -> None:
        """Raise ModelError where members take other columns than others, unless the names of X tell which."""
        if len({member.schema.columns for member in self.members} - {()}) > 1 and columns_of(X) is None:
            raise ModelError(
                "the members take different columns: pass a table with the columns' names, or put members together "
                "that were trained on the same columns"
            )

    def outputs(self, X: Any) -> NDArray[np.float64]:
        """The mean of the members' outputs, taken in float64; X, shape and errors as in Model.outputs."""
        self.check_columns(X)
        return _mean([member.outputs(X) for member in self.members])

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class, or what Model.predict returns for other tasks; X and errors as there."""
        outputs = self.outputs(X)
        if self.members[0].task != "regression":
            refuse_nan(outputs)
        return self.members[0]._predicted(outputs)

    def explain(self, X: Any, of: Hashable = None, *, against: Hashable = None) -> list[Explanation]:
        """The mean of the members' values, gradients and contributions; X, of, against and errors as in Model.explain.

        Of classes that is the mean logit, which need not be highest where the mean probability is. Hidden layers and
        similar examples are each member's own.
        """
        self.check_columns()
        return explain(self, X, of, against)

    def evaluate(self, X: Any, y: Any) -> Any:
        """Mean loss and accuracy; X, y and errors as in Model.measure, the loss as in measure."""
        return self.measure(X, y).scores

    def measure(self, X: Any, y: Any) -> Measured:
        """Scores and outputs of the ensemble, and the scores of its members, by one pass of each over the images.

            loss = -1/n sum_i log y_i,label                  for members of cross-entropy
            loss = 1/(n k) sum_ik (y_ik - [label_i = k])^2   for those of a squared error on classes
            loss = the mean of the members' losses           for other tasks

        A probability counts as no less than 1.2e-38, the least normal float32, which limits the cost of an example.
        X, y and errors as in Model.measure.
        """
        self.check_columns(X)
        first = self.members[0]
        found = [member.measure(X, y) for member in self.members]
        outputs, targets = _mean([each.outputs for each in found]), found[0].targets
        loss: Any = np.mean([each.scores.loss for each in found])
        with np.errstate(over="ignore", invalid="ignore"):
            if first.task == "regression":
                # Scaled as the first member's targets are, whose squares are neither infinite nor 0.
                scale = 1.0 if first.schema.targets.scale is None else first.schema.targets.scale
                errors = np.square((outputs - targets) / scale).sum(axis=0)
                scores: Any = scores_of(loss, errors, 1, spread_of(targets, first.schema))
                scores = scores._replace(mae=float(np.abs(outputs - targets).mean()))
            elif first.task == "multilabel":
                scores = Scores(float(loss), float(np.mean(((outputs > 0.5) == (targets > 0.5)).all(axis=1))))
            else:
                if first.network.loss == "cross-entropy":
                    of_labels = np.maximum(outputs[np.arange(len(targets)), targets], np.finfo(np.float32).tiny)
                    loss = -np.log(of_labels).mean()
                else:
                    loss, _ = mean_squared_error(outputs, targets)
                scores = Scores(float(loss), float(np.mean(np.argmax(outputs, axis=1) == targets)))
        return Measured(scores, outputs, targets, tuple(each.scores for each in found))


def load(path: str | Path, device: str = "auto", library: str | None = None) -> Model:
    """Read a model onto a device, whichever it was trained on.

    path : a .safetensors file, or a run directory.   device, library : as in select.
    Returns the Model.
    Raises ModelError for a file that is missing, damaged or not a model of xpnet; DeviceError as select does.
    """
    return _on(select(device, library), read(path))


def _on(backend: Backend, stored: Stored) -> Model:
    """The model of some host arrays, on a device."""
    params, running = ([backend.to_device(a) for a in arrays] for arrays in (stored.params, stored.running))
    return Model(stored.network, params, running, backend, stored.schema)


def _unpickled(stored: Stored, device: str, library: str, tf32: bool, graph: bool) -> Model:
    """A model that was copied or pickled, on the device that it had, or on the CPU where that is not available."""
    try:
        backend = select(device, library, tf32=tf32, graph=graph)
    except DeviceError as error:
        backend = select("cpu")
        logger.warning("the model was on %s with %s (%s); it is now on the CPU with numpy", device, library, error.what)
    return _on(backend, stored)


def _traits(model: Model, other: Model) -> tuple[str, ...]:
    """What must be equal in the members of an ensemble, in words; of the classes those from the first difference on."""
    pairs = enumerate(zip(model.classes, other.classes, strict=False))
    first = next((i for i, (own, its) in pairs if own != its), None)
    return (
        f"{model.network.sizes[0]} inputs",
        f"{model.network.sizes[-1]} classes",
        f"the loss {model.network.loss}",
        "" if first is None else f"the classes {', '.join(map(repr, model.classes[first : first + 12]))}",
    )


def _shape_of(X: Any) -> tuple[int, ...]:
    """The shape of an array or of lists; () for what has none, such as rows of different lengths."""
    try:
        return np.shape(X) if isinstance(X, list | tuple) else tuple(getattr(X, "shape", ()))
    except ValueError:
        return ()


def _mean(outputs: list[NDArray[Any]]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean: NDArray[np.float64] = np.mean(outputs, axis=0, dtype=np.float64)
    return mean


def batches(n: int) -> Iterator[slice]:
    """The rows of each call when n examples are not trained on."""
    return (slice(start, min(start + BATCH_SIZE, n)) for start in range(0, n, BATCH_SIZE))
