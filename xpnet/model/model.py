"""A trained network on a device, or several used as one: predict, evaluate, save, load."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend, select
from xpnet.data import rows_of
from xpnet.errors import DeviceError, ModelError
from xpnet.model.storage import Stored, read, save
from xpnet.numerics.functional import LOSSES, mean_squared_error, scale_features
from xpnet.numerics.network import MLP

__all__ = ["Ensemble", "Measured", "Model", "Scores", "batches", "confusion_matrix", "load"]

logger = logging.getLogger("xpnet")

Array = Any
Arrays = list[Any]

# Rows per call when nothing is trained: enough to fill a GPU, few enough to stay in a CPU's cache.
BATCH_SIZE = 1000


class Scores(NamedTuple):
    """How well a network does on a set of images: mean loss per example and share classified correctly, in [0, 1]."""

    loss: float
    accuracy: float


class Measured(NamedTuple):
    """The results of a model or an ensemble on labelled images.

    scores : its loss and accuracy.   outputs : (n, n_classes), on the host.
    members : the Scores of each of an ensemble's members; () for a single model.
    """

    scores: Scores
    outputs: NDArray[Any]
    members: tuple[Scores, ...] = ()


def confusion_matrix(labels: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int) -> NDArray[np.intp]:
    """How often each class was classified as each: (n_classes, n_classes) counts, a row for each label.

    labels, predictions : (n,) integers in 0..n_classes-1.
    """
    cells = labels * n_classes + predictions
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network with its parameters, ready to use.

    network : its description.   params, running : its arrays, on the backend's device.
    data : name of the set it was trained on.   image_shape : of one image there.
    """

    network: MLP
    params: Arrays
    running: Arrays
    backend: Backend
    data: str = ""
    image_shape: tuple[int, ...] = ()

    def outputs(self, images: NDArray[Any]) -> NDArray[Any]:
        """Class probabilities, or the outputs that the network's loss defines.

        images : host array (n, height, width) or (n, n_features), uint8 or float in [0, 1].
        Returns a host array (n, n_classes).   Raises ModelError if the images have another number of pixels.
        """
        outputs, _ = self._read(self._flat(images), None)
        return outputs

    def predict(self, images: NDArray[Any]) -> NDArray[np.intp]:
        """The most probable class of each image: (n,) integers on the host; images and errors as in outputs."""
        classes: NDArray[np.intp] = np.argmax(self.outputs(images), axis=1)
        return classes

    def evaluate(self, images: NDArray[Any], labels: NDArray[np.integer]) -> Scores:
        """Mean loss, without label smoothing, and accuracy; images, labels and errors as in measure."""
        return self.measure(images, labels).scores

    def measure(self, images: NDArray[Any], labels: NDArray[np.integer]) -> Measured:
        """Scores and outputs, by one pass over the images.

        images : as in outputs, at least one.   labels : (n,) integers on the host.
        Raises ModelError if the images have another number of pixels, images and labels differ in number, or a label is
        not a class of the network.
        """
        flat, labels = self._flat(images), np.asarray(labels)
        if labels.shape != (len(flat),) or labels.dtype.kind not in "iu" or not len(flat):
            raise ModelError(
                f"{len(flat)} images need as many whole-number labels, at least one; "
                f"these are {labels.dtype} of shape {labels.shape}"
            )
        outside = np.flatnonzero((labels < 0) | (labels >= self.network.sizes[-1]))
        if outside.size:
            i = outside[0]
            raise ModelError(f"label {labels[i]} at index {i}: the model has {self.network.sizes[-1]} classes, from 0")
        outputs, loss = self._read(flat, labels.astype(np.int32))
        return Measured(Scores(loss, _accuracy(outputs, labels)), outputs)

    def save(self, path: str | Path) -> None:
        """Write the model to a file, completely or not at all.   Raises OSError where the file cannot be written."""
        save(path, self._stored())

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy, pickle and joblib: host arrays and the description; the backend is selected again."""
        own = self.backend
        return _unpickled, (self._stored(), own.device, own.name, own.tf32, own.graph)

    def _stored(self) -> Stored:
        params, running = ([self.backend.to_host(a) for a in arrays] for arrays in (self.params, self.running))
        return Stored(self.network, params, running, self.data, self.image_shape)

    def _read(self, flat: NDArray[Any], labels: NDArray[np.int32] | None) -> tuple[NDArray[Any], float]:
        """Outputs and, where there are labels, the mean loss, which takes the logits: a probability may round to 0."""
        xp, loss = self.backend.xp, LOSSES[self.network.loss]
        parts = []
        # Parameters that ran away show in the result, without NumPy's warnings.
        with self.backend.active(), np.errstate(over="ignore", invalid="ignore"):
            total = xp.zeros_like(self.params[-1][:1])
            for rows in batches(len(flat)):
                batch = rows_of(flat, np.arange(rows.start, rows.stop))
                scale = 255.0 if batch.dtype == np.uint8 else None
                x = scale_features(self.backend.to_device(batch), self.params[0].dtype, scale=scale, xp=xp)
                logits, _, _ = self.network.forward(self.params, x, running=self.running, xp=xp)
                parts.append(self.backend.to_host(loss.output(logits, xp=xp)[0]))
                if labels is not None:
                    of_batch, _ = loss.function(logits, self.backend.to_device(labels[rows]), xp=xp)
                    total = total + of_batch * len(batch)
            outputs = np.concatenate(parts) if parts else np.empty((0, self.network.sizes[-1]))
            return outputs, float(self.backend.to_host(total)[0]) / max(len(flat), 1)

    def _flat(self, images: NDArray[Any]) -> NDArray[Any]:
        images = np.asanyarray(images)  # a mapped file stays one
        pixels, n_in = int(np.prod(images.shape[1:])), self.network.sizes[0]
        if images.ndim < 2 or pixels != n_in:
            hint = "; pass a single image as image[None]" if images.size == n_in else ""
            raise ModelError(
                f"the model takes images of {n_in} pixels, but these have {pixels} (shape {images.shape}){hint}"
            )
        if images.dtype != np.uint8 and (images.dtype.kind != "f" or not np.all((images >= 0.0) & (images <= 1.0))):
            beyond = " outside of it" if images.dtype.kind == "f" else ""
            raise ModelError(f"pixels must be uint8, or floats in [0, 1]; these are {images.dtype}{beyond}")
        return images.reshape(len(images), n_in)


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Several models that classify as one: their outputs are averaged.

        y = 1/m sum over the members of y_i

    members : at least one Model. They agree in their numbers of inputs and classes and in their loss, which defines the
        outputs and their cost; everything else may differ: layers, activation, data, device, library, dtype.
    names : one for each, for error messages; by default "member 1", "member 2", ...
    Raises ModelError if there is no member, or one does not agree with the first.
    Source: Lakshminarayanan, Pritzel and Blundell 2017, section 2.4.
    """

    members: Sequence[Model]
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        object.__setattr__(self, "names", tuple(self.names or (f"member {i + 1}" for i in range(len(self.members)))))
        if not self.members:
            raise ModelError("an ensemble needs at least one member")
        traits = [
            (f"{net.sizes[0]} inputs", f"{net.sizes[-1]} classes", f"the loss {net.loss}")
            for net in (member.network for member in self.members)
        ]
        for name, its in zip(self.names, traits, strict=True):
            for trait, expected in zip(its, traits[0], strict=True):
                if trait != expected:
                    raise ModelError(
                        f"{name} has {trait}, but {self.names[0]} {expected}: members of an ensemble must agree"
                    )

    def outputs(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """The mean of the members' outputs, taken in float64; images, shape and errors as in Model.outputs."""
        return _mean([member.outputs(images) for member in self.members])

    def predict(self, images: NDArray[Any]) -> NDArray[np.intp]:
        """The most probable class of each image: (n,) integers on the host; images and errors as in outputs."""
        classes: NDArray[np.intp] = np.argmax(self.outputs(images), axis=1)
        return classes

    def evaluate(self, images: NDArray[Any], labels: NDArray[np.integer]) -> Scores:
        """Mean loss and accuracy; images, labels and errors as in Model.measure, the loss as in measure."""
        return self.measure(images, labels).scores

    def measure(self, images: NDArray[Any], labels: NDArray[np.integer]) -> Measured:
        """Scores and outputs of the ensemble, and the scores of its members, by one pass of each over the images.

            loss = -1/n sum_i log y_i,label                  for members of cross-entropy
            loss = 1/(n k) sum_ik (y_ik - [label_i = k])^2   for those of a squared error

        A probability counts as no less than 1.2e-38, the least normal float32, which limits the cost of an example.
        images, labels and errors as in Model.measure.
        """
        found, labels = [member.measure(images, labels) for member in self.members], np.asarray(labels)
        outputs = _mean([each.outputs for each in found])
        if self.members[0].network.loss == "cross-entropy":
            of_labels = np.maximum(outputs[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
            loss = -np.log(of_labels).mean()
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                loss, _ = mean_squared_error(outputs, labels)
        scores = Scores(float(loss), _accuracy(outputs, labels))
        return Measured(scores, outputs, tuple(each.scores for each in found))


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
    return Model(stored.network, params, running, backend, stored.data, stored.image_shape)


def _unpickled(stored: Stored, device: str, library: str, tf32: bool, graph: bool) -> Model:
    """A model that was copied or pickled, on the device that it had, or on the CPU where that is not available."""
    try:
        backend = select(device, library, tf32=tf32, graph=graph)
    except DeviceError as error:
        backend = select("cpu")
        logger.warning("the model was on %s with %s (%s); it is now on the CPU with numpy", device, library, error.what)
    return _on(backend, stored)


def _mean(outputs: list[NDArray[Any]]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean: NDArray[np.float64] = np.mean(outputs, axis=0, dtype=np.float64)
    return mean


def _accuracy(outputs: NDArray[Any], labels: NDArray[np.integer]) -> float:
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


def batches(n: int) -> Iterator[slice]:
    """The rows of each call when n examples are not trained on."""
    return (slice(start, min(start + BATCH_SIZE, n)) for start in range(0, n, BATCH_SIZE))
