"""A trained network on a device, or several as one: predict, evaluate, save, load.

A model file is one safetensors file: the arrays, by MLP.param_shapes' and running_shapes' names, and one JSON text
that describes the network, what it was trained on, and the SHA-256 of all that and of the arrays. It holds host arrays,
so a model trained on any device loads on any other. Nothing in it is executed.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as deserialize
from safetensors.numpy import save as serialize

from xpnet.backend import Backend, select
from xpnet.data import rows_of
from xpnet.errors import ModelError, one_line
from xpnet.files import read_whole, sha256_of, write_atomically
from xpnet.functional import LOSSES, mean_squared_error
from xpnet.loader import Loader
from xpnet.network import MLP

__all__ = [
    "Ensemble",
    "Measured",
    "Model",
    "Scores",
    "confusion_matrix",
    "load",
    "make_evaluate",
    "save",
    "scale_pixels",
]

Array = Any
Arrays = list[Any]

# Rows per call when nothing is trained: enough to fill a GPU, few enough to stay in a CPU's cache.
BATCH_SIZE = 1000
FORMAT = "xpnet model 1"
MAX_BYTES = 1 << 31  # of a model file: half a billion parameters
MAX_HEADER = 1 << 20  # of its JSON: some five thousand layers


class Scores(NamedTuple):
    """How well a network does on a set of images: mean loss per example and share of hits, in [0, 1]."""

    loss: float
    accuracy: float


class Measured(NamedTuple):
    """What a model or an ensemble makes of labelled images.

    scores : its loss and accuracy.   outputs : (n, n_classes), on the host.
    members : the Scores of each of an ensemble's members; () for a single model.
    """

    scores: Scores
    outputs: NDArray[Any]
    members: tuple[Scores, ...] = ()


def confusion_matrix(labels: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int) -> NDArray[np.intp]:
    """How often each class was read as which: (n_classes, n_classes) counts, a row for each label.

    labels, predictions : (n,) integers in 0..n_classes-1.
    """
    cells = labels * n_classes + predictions
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def scale_pixels(images: Array, dtype: Any, *, xp: Any) -> Array:
    """The network's input: uint8 pixels divided by 255, floating-point ones (already in [0, 1]) as they are."""
    x = xp.astype(images, dtype)
    return x / 255.0 if images.dtype == xp.uint8 else x


def make_evaluate(network: MLP, backend: Backend) -> Callable[[Arrays, Arrays, Loader], Scores]:
    """A function evaluate(params, running, loader) -> Scores, over all examples of a loader of the same backend.

    The loss is the network's without label smoothing. Sums gather on the device and are read once, at the end.
    """
    xp = backend.xp
    loss_of = LOSSES[network.loss].function

    def add_batch(
        totals: tuple[Array, Array], params: Arrays, running: Arrays, images: Array, labels: Array
    ) -> tuple[Array, Array]:
        x = scale_pixels(images, params[0].dtype, xp=xp)
        logits, _, _ = network.forward(params, x, running=running, xp=xp)
        loss, _ = loss_of(logits, labels, xp=xp)
        hits = xp.count_nonzero(xp.argmax(logits, axis=1) == labels)
        return totals[0] + loss * labels.shape[0], totals[1] + hits

    step = backend.compile(add_batch)

    def evaluate(params: Arrays, running: Arrays, loader: Loader) -> Scores:
        totals = xp.zeros_like(params[-1][:1]), backend.to_device(np.zeros(1, np.int64))
        n = 0
        for window in loader:
            for rows in _slices(window.labels.shape[0]):
                totals = step(totals, params, running, window.images[rows, :], window.labels[rows])
            n += window.labels.shape[0]
        loss, hits = (float(backend.to_host(total)[0]) for total in totals)
        return Scores(loss / n, hits / n)

    return evaluate


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
        """Class probabilities, or what the network's loss makes of its logits.

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
        no class of the network.
        """
        flat, labels = self._flat(images), np.asarray(labels)
        if labels.shape != (len(flat),) or labels.dtype.kind not in "iu" or not len(flat):
            raise ModelError(
                f"{len(flat)} images need as many labels, whole numbers, and at least one; "
                f"these are {labels.dtype} of shape {labels.shape}"
            )
        outside = np.flatnonzero((labels < 0) | (labels >= self.network.sizes[-1]))
        if outside.size:
            i = outside[0]
            raise ModelError(
                f"label {labels[i]} at index {i}: the model knows {self.network.sizes[-1]} classes, from 0"
            )
        outputs, loss = self._read(flat, labels.astype(np.int32))
        return Measured(Scores(loss, _accuracy(outputs, labels)), outputs)

    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all.   Raises OSError where the file cannot be written."""
        params, running = ([self.backend.to_host(a) for a in arrays] for arrays in (self.params, self.running))
        save(path, self.network, params, running, self.data, self.image_shape)

    def _read(self, flat: NDArray[Any], labels: NDArray[np.int32] | None) -> tuple[NDArray[Any], float]:
        """Outputs and, where there are labels, the mean loss, which takes the logits: a probability may round to 0."""
        xp, loss = self.backend.xp, LOSSES[self.network.loss]
        parts = []
        # Parameters that ran away show in the result, without NumPy's warnings.
        with self.backend.active(), np.errstate(over="ignore", invalid="ignore"):
            total = xp.zeros_like(self.params[-1][:1])
            for rows in _slices(len(flat)):
                batch = rows_of(flat, np.arange(rows.start, rows.stop))
                x = scale_pixels(self.backend.to_device(batch), self.params[0].dtype, xp=xp)
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
            hint = "; a single image is passed as image[None]" if images.size == n_in else ""
            raise ModelError(
                f"the model takes images of {n_in} pixels, but these have {pixels} (shape {images.shape}){hint}"
            )
        if images.dtype != np.uint8 and (images.dtype.kind != "f" or not np.all((images >= 0.0) & (images <= 1.0))):
            raise ModelError(f"pixels must be uint8, or floats in [0, 1]; these are {images.dtype}, or beyond")
        return images.reshape(len(images), n_in)


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Several models that read as one: their outputs are averaged.

        y = 1/m sum over the members of y_i

    members : at least one Model. They agree in their number of inputs, of classes, and in their loss, which says what
        outputs are and what they cost; all else may differ: layers, activation, data, device, library, dtype.
    names : one for each, by which errors call it; by default "member 1", "member 2", ...
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
            for trait, wanted in zip(its, traits[0], strict=True):
                if trait != wanted:
                    raise ModelError(f"{name} has {trait}, but {self.names[0]} {wanted}: members of an ensemble agree")

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

        A probability counts as no less than 1.2e-38, the least normal float32: so much can an example cost at most.
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


def save(
    path: str | Path,
    network: MLP,
    params: Arrays,
    running: Arrays,
    data: str = "",
    image_shape: tuple[int, ...] = (),
) -> None:
    """Write a model file, whole or not at all, from host arrays; what they are, see Model.   Raises OSError."""
    arrays = [np.ascontiguousarray(a) for a in (*params, *running)]
    description = {
        "format": FORMAT,
        "network": dataclasses.asdict(network),
        "data": data,
        "image_shape": list(image_shape),
    }
    # One key only: safetensors writes several in an order that changes from run to run.
    metadata = {"xpnet": json.dumps({**description, "sha256": _digest(description, arrays)})}
    names = [*network.param_shapes(), *network.running_shapes()]
    write_atomically(Path(path), serialize(dict(zip(names, arrays, strict=True)), metadata))


def load(path: str | Path, device: str = "auto", library: str | None = None) -> Model:
    """Read a model onto a device, whatever it was trained on.

    path : a .safetensors file, or a run directory.   device, library : as in select.
    Returns the Model.
    Raises ModelError, one line, for a file that is missing, damaged or no model of xpnet; DeviceError as select does.
    """
    path = Path(path)
    if os.path.isdir(path):
        path = path / "model.safetensors"
        if not os.path.lexists(path):
            raise ModelError(f"{path.parent} holds no model.safetensors: is it a run directory, and did the run end?")
    try:
        network, host, data, image_shape = _parsed(read_whole(path, MAX_BYTES))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model is a run directory or a .safetensors file") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except ModelError as error:
        raise ModelError(f"{path} is {error}") from None
    backend = select(device, library)
    moved = [backend.to_device(a) for a in host]
    n_params = len(network.param_shapes())
    return Model(network, moved[:n_params], moved[n_params:], backend, data, image_shape)


def _parsed(content: bytes) -> tuple[MLP, Arrays, str, tuple[int, ...]]:
    """The network, the arrays, the data's name and the image's shape of a model file.   Raises ModelError."""
    try:
        size = int.from_bytes(content[:8], "little")
        if size > MAX_HEADER:
            raise ValueError(f"its header takes {size} bytes; the cap is {MAX_HEADER}")
        header = json.loads(content[8 : 8 + size].decode())
        metadata, n_arrays = header.get("__metadata__") or {}, len(header)
        arrays = deserialize(content)
    except Exception as error:  # among others, of safetensors, and of a dtype that NumPy lacks
        raise ModelError(f"damaged or not a safetensors file: {error}") from None
    if "xpnet" not in metadata:
        raise ModelError("a safetensors file, but not a model of xpnet")
    try:
        description = json.loads(metadata["xpnet"])
        if description["format"] != FORMAT:
            raise ModelError(f"in the format {description['format']!r}; this xpnet reads {FORMAT!r}")
        # Before anything is made for each layer.
        if len(description["network"]["sizes"]) > n_arrays:
            raise ValueError("more layers than arrays")
        network = MLP(**description["network"])
        data, image_shape = description["data"], tuple(int(n) for n in description["image_shape"])
        # Few and small, since their product is taken.
        if not isinstance(data, str) or len(image_shape) > 4 or not all(0 < n < 2**63 for n in image_shape):
            raise ValueError("odd names or shapes")
        expected = description.pop("sha256")
        shapes = network.param_shapes() | network.running_shapes()
        if {name: a.shape for name, a in arrays.items()} != shapes:
            raise ModelError(f"damaged: its arrays are not those of a {network} network")
        host = [arrays[name] for name in shapes]
        if (
            len({a.dtype for a in host}) > 1
            or host[0].dtype not in (np.float32, np.float64)
            or _digest(description, host) != expected
        ):
            raise ModelError("damaged: its checksum is wrong")
    except ModelError:
        raise
    except Exception as error:  # the description may be any JSON
        raise ModelError(f"damaged: its description of the network does not read ({error})") from None
    return network, host, one_line(data), image_shape


def _mean(outputs: list[NDArray[Any]]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean: NDArray[np.float64] = np.mean(outputs, axis=0, dtype=np.float64)
    return mean


def _accuracy(outputs: NDArray[Any], labels: NDArray[np.integer]) -> float:
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH_SIZE, n)) for start in range(0, n, BATCH_SIZE))


def _digest(description: dict[str, Any], arrays: list[NDArray[Any]]) -> str:
    return sha256_of(arrays, json.dumps(description, sort_keys=True).encode())
