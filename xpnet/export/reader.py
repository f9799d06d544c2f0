"""The way back: a model from a file of another program, or of xpnet's own exports; its suffix says which."""

import dataclasses
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.checks import check_range, nearest
from xpnet.data import Scaling
from xpnet.errors import ConfigError, ModelError
from xpnet.export import arrays, keras_reader, onnx_reader, torch_reader
from xpnet.model import Model

__all__ = ["READERS", "read"]

# The function that reads each kind of file, and those of read's settings that it takes.
READERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    ".onnx": (onnx_reader.from_onnx, ("loss",)),
    ".pt": (torch_reader.read, ("activation", "loss")),
    ".pth": (torch_reader.read, ("activation", "loss")),
    ".keras": (keras_reader.read, ("loss",)),
    ".npz": (arrays.read, ()),
    ".json": (arrays.read, ()),
}
_PICKLES = (".pkl", ".pickle", ".joblib", ".sav")


def read(
    path: str | Path,
    *,
    loss: str | None = None,
    activation: str | None = None,
    white: float | None = None,
    mean: float | None = None,
    std: float | None = None,
    data: str | None = None,
    classes: Sequence[Hashable] = (),
) -> Model:
    """The model of a file, on the CPU with NumPy. Nothing in the file is executed, and no other file is read.

    path : its suffix is one of READERS.
    loss : where the file does not say what its outputs are, such as logits: a key of functional.LOSSES.
    activation : of the hidden layers, where the file does not say it: a key of functional.ACTIVATIONS.
    white, mean, std : how the data u was scaled before the network saw it, where the file does not do so:
        (u / white - mean) / std, which is done inside then. The white of pixels that it takes in [0, 1] is mostly 255.
    data : the name of the set that it was trained on.   classes : the names of its outputs.
    Raises ConfigError for a suffix or setting that does not fit; ModelError for a file that is missing or damaged, or a
    network that is no plain MLP, naming what it has; MissingPackageError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise ConfigError(
            f"{path}: a pickle executes code when it is loaded, which only you can allow: in Python, estimator = "
            f"joblib.load({str(path)!r}); xpnet.export.from_sklearn(estimator).save('model.safetensors')"
        )
    if suffix == ".safetensors":
        raise ConfigError(f"{path} is a model already: every command takes it as it is")
    if suffix in (".h", ".html"):
        raise ConfigError(f"{path}: {suffix} files cannot be read back, only {', '.join(READERS)}")
    if suffix not in READERS:
        hint = nearest(suffix, READERS) if suffix else ""
        raise ConfigError(f"{path}: what can be imported ends in one of {', '.join(READERS)}; {hint}name it so")
    reader, takes = READERS[suffix]
    given = {name: value for name, value in (("loss", loss), ("activation", activation)) if value is not None}
    for name in given:
        if name not in takes:
            raise ConfigError(f"{name} is not for {suffix} files, which say it themselves: leave it out")
    try:
        model: Model = reader(path, **given)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    changes: dict[str, Any] = {} if data is None else {"data": data}
    if not (white is mean is std is None):
        changes["features"] = _scaled(model.schema.features, white, mean, std, model.network.sizes[0])
    if classes:
        if len(classes) != model.network.sizes[-1] or len(set(classes)) != len(classes):
            raise ConfigError(f"classes: {len(classes)} names for {model.network.sizes[-1]} outputs, or one twice")
        changes["classes"] = tuple(classes)
    return dataclasses.replace(model, schema=dataclasses.replace(model.schema, **changes))


def _scaled(features: Scaling, white: float | None, mean: float | None, std: float | None, n: int) -> Scaling:
    """The scaling of a file, and before it that of read's arguments.

    ((u / white - mean) / std - shift) / scale = (u - white (mean + std shift)) / (white std scale)
    """
    for name, value in (("white", white), ("std", std)):
        if value is not None:
            check_range(name, value, 0.0, low_open=True)
    if features.kind == "pixels":
        raise ModelError(
            f"the file itself says that its pixels are divided by {features.scale:g}: leave out the scaling"
        )
    if mean is std is features.shift is features.scale is None:
        return Scaling("pixels", None, white)
    white, mean, std = white or 1.0, mean or 0.0, std or 1.0
    shift = np.broadcast_to(white * (mean + np.multiply(std, 0.0 if features.shift is None else features.shift)), n)
    return Scaling("standard", shift.copy(), white * std * (1.0 if features.scale is None else features.scale))
