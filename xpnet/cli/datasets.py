"""Shared by the commands that use a trained model: their flags, the newest run, the data, and a part of it."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from xpnet.cli.terminal import download_bar
from xpnet.data import SETS, Dataset, Split, is_mapped, load_data
from xpnet.errors import ConfigError, ModelError
from xpnet.model import Model

__all__ = [
    "DataDir",
    "DataName",
    "DeviceName",
    "LibraryName",
    "ModelPath",
    "SplitName",
    "data_for",
    "form_of",
    "newest_run",
    "part_of",
]

ModelPath = Annotated[
    Path | None, Parameter(help="A run directory or a .safetensors file; by default the newest run in runs.")
]
DataName = Annotated[
    str | None, Parameter(help="Name or path of a data set; by default the one the model was trained on.")
]
SplitName = Annotated[Literal["test", "train", "validation"], Parameter(help="Split of the data to use.")]
DeviceName = Annotated[str, Parameter(help="Where to compute: cpu, cuda, cuda:N or auto.")]
LibraryName = Annotated[str | None, Parameter(help="Array library; by default numpy on the CPU and cupy on CUDA.")]
DataDir = Annotated[Path | None, Parameter(help="Folder to search first for data sets.")]


def newest_run() -> Path:
    """The run in ./runs whose model was saved last; says so on stderr.   Raises ConfigError if there is none."""
    saved = [(path.stat().st_mtime_ns, path.parent) for path in Path("runs").glob("*/model.safetensors")]
    if not saved:
        raise ConfigError("no run is named and there is none in runs: name one, or train one with xpnet train")
    _, run = max(saved)
    print(f"using {run}", file=sys.stderr)
    return run


def data_for(model: Model, data: str | None, data_dir: Path | None) -> Dataset:
    """The data to use a model on: the set of a name or path; None for the one it was trained on.

    Raises ConfigError if none is named and the model's own cannot be found again, ModelError if the set does not fit.
    """
    name = data or model.data
    if data is None and name not in SETS and not (name and Path(name).exists()):
        raise ConfigError(f"the model was trained on {name!r}, which was not found: choose the data with --data")
    with download_bar() as bar:
        found = load_data(name, data_dir=data_dir, progress=bar)
    n_in, n_classes = model.network.sizes[0], model.network.sizes[-1]
    if found.n_features != n_in:
        raise ModelError(f"the model takes {n_in} pixels, but the images of {found.name} have {found.n_features}")
    # A file's classes are counted by its labels, and a part of a set may lack the last ones.
    if found.n_classes > n_classes or (found.name in SETS and found.n_classes != n_classes):
        raise ModelError(f"the model has {n_classes} classes, but {found.name} has {found.n_classes}")
    return found


def form_of(data: Dataset) -> str:
    """The kind of examples, such as "images of 28x28" or "rows of 6 features", and whether they stay in their file."""
    shape = "x".join(map(str, data.image_shape))
    form = f"images of {shape}" if len(data.image_shape) > 1 else f"rows of {shape} features"
    return f"{form} streamed from the file" if is_mapped(data.train.images) else form


def part_of(data: Dataset, name: str) -> Split:
    """A split by its name: train, validation or test.   Raises ConfigError, naming those that exist."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    found = parts[name]
    if found is None:
        there = " and ".join(key for key, part in parts.items() if part is not None)
        raise ConfigError(f"{data.name} has no {name} split, only {there}")
    return found
