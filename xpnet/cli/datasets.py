"""Shared by the commands that use a trained model: their flags, runs, the data, and a part of it."""

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from xpnet.cli.terminal import fill, loading
from xpnet.data import SETS, Dataset, Parts, Split, is_mapped, load_data
from xpnet.data.packed import expanded
from xpnet.errors import ConfigError, ModelError, XpnetError
from xpnet.files import parse_toml, read_text
from xpnet.model import Ensemble, Model
from xpnet.training.checkpoint import newest_checkpoint
from xpnet.training.config import TrainConfig
from xpnet.training.prepare import held_out

__all__ = [
    "DataDir",
    "DataName",
    "DeviceName",
    "LibraryName",
    "ModelPath",
    "SplitName",
    "check_named",
    "check_writable",
    "data_for",
    "figure",
    "form_of",
    "in_words",
    "labelled",
    "labels_of",
    "metric_of",
    "new_run",
    "newest_run",
    "part_of",
    "settings_of",
    "test_split",
    "together",
    "written",
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


def check_named(directory: Path) -> None:
    """Raise ConfigError for the current directory, whose name is also that of an empty variable of the shell."""
    if str(directory) in ("", "."):
        raise ConfigError("--out must name a directory of its own, not the current one")


def check_writable(directory: Path, what: str) -> None:
    """Raise ConfigError, before any work, for a directory that can be neither written nor made; makes nothing.

    what : its name in the message.
    """
    place = next(path for path in (directory.absolute(), *directory.absolute().parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise ConfigError(
            f"cannot write {what} {directory}: {error.strerror or error}; name another directory"
        ) from None


def newest_run() -> Path:
    """The run in ./runs whose model was saved last; says so on stderr.   Raises ConfigError if there is none."""
    saved = [(path.stat().st_mtime_ns, path.parent) for path in Path("runs").glob("*/model.safetensors")]
    if not saved:
        raise ConfigError("no run is named and there is none in runs: name one, or train one with xpnet train")
    _, run = max(saved)
    print(fill(f"using {run}"), file=sys.stderr)
    return run


def new_run(name: str) -> Path:
    """A path in runs/ that does not exist yet."""
    stem = time.strftime("%Y%m%d-%H%M%S-") + re.sub(r"[^\w.-]+", "-", name)
    path, number = Path("runs") / stem, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{stem}-{number}"
    return path


def data_for(
    model: Model, data: str | None, data_dir: Path | None, run: Path | None = None, *, download: bool = True
) -> Dataset:
    """The data to use a model on: the set of a name or path; None for the one it was trained on.

    run : the model's, whose settings tell how its data is read.   download : whether a named set may be downloaded.

    Raises ConfigError if none is named and the model's own cannot be found again, ModelError if the set does not fit.
    """
    name = data or model.data
    if data is None and name not in SETS and not (name and expanded(Path(name)).exists()):
        raise ConfigError(f"the model was trained on {name!r}, which was not found: choose the data with --data")
    config = None if run is None else settings_of(run)
    how = {} if config is None else config.reading
    if data is not None:  # the run's other files are of its own data
        how = {name: value for name, value in how.items() if name not in ("test", "validation")}
    if name not in SETS:
        how["features"] = model.schema.columns or model.network.sizes[0]
        how["task"] = model.task
    n_in, n_classes = model.network.sizes[0], len(model.classes)
    with loading() as bar:
        found = load_data(name, data_dir=data_dir, download=download, progress=bar, **how)
    if found.n_features != n_in:
        raise ModelError(f"the model takes {n_in} features, but {found.name} has {found.n_features}")
    if model.task != "classification" or found.task != "classification":
        return found
    # A file's classes are counted by its labels, and a part of a set may lack the last ones.
    if found.n_classes > n_classes or (found.name in SETS and found.n_classes != n_classes):
        raise ModelError(f"the model has {n_classes} classes, but {found.name} has {found.n_classes}")
    return found


def form_of(data: Dataset) -> str:
    """The kind of examples, such as "images of 28x28" or "rows of 6 features", and whether they stay in their file."""
    shape = "x".join(map(str, data.image_shape))
    form = f"images of {shape}" if len(data.image_shape) > 1 else f"rows of {shape} features"
    files = "files" if isinstance(data.train.images, Parts) else "file"
    return f"{form} streamed from the {files}" if is_mapped(data.train.images) else form


def part_of(data: Dataset, name: str, runs: Sequence[Path] = (), *, flag: str = "") -> Split:
    """A split by its name: train, validation or test. Of a set without labels, test is all there is.

    runs : whose models use it. Where they held images out of data's training split, validation means those, and train
        the others, which is said on stderr.
    flag : with which another one is chosen, if there is any.
    Raises ConfigError if there is none, naming those that exist, or if runs did not hold out the same images.
    """
    if name == "test" and data.test is None and data.train.targets is None:
        return data.train
    if name != "test" and (rows := _drawn(data, name, runs)) is not None:
        does = "held out" if name == "validation" else "trained on"
        whose = "the run" if len(runs) == 1 else "the runs"
        what = f"the {len(rows):,} of {len(data.train):,} training examples that {whose} {does}"
        print(fill(f"{name}: {what}; an index counts among these"), file=sys.stderr)
        part: Split = data.train[rows]
        return part
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    found = parts[name]
    if found is None:
        there = [key for key, part in parts.items() if part is not None]
        remedy = f"; use {flag} {there[0]}" if flag else ""
        raise ConfigError(f"{data.name} has no {name} split, only {' and '.join(there)}{remedy}")
    return found


def labelled(split: Split, data: Dataset) -> Split:
    """A split, if it has labels.   Raises ConfigError."""
    if split.labels is None:
        raise ConfigError(f"{data.name} has no labels to compare with; xpnet predict classifies it")
    return split


def together(members: list[Model], runs: Sequence[Path]) -> Model | Ensemble:
    """One model, or several as an ensemble."""
    return Ensemble(members, list(map(str, runs))) if len(members) > 1 else members[0]


def test_split(
    model: Model, runs: Sequence[Path], data: str | None, data_dir: Path | None, *, or_train: bool
) -> tuple[Split | None, str]:
    """The examples to measure a model on; None, and the reason, where its own data is not to be had on this disk.

    or_train : give those that it was trained on, and the reason, rather than None.
    """
    found = None
    try:
        found = data_for(model, data, data_dir, runs[0], download=False)
        return labelled(part_of(found, "test", runs), found), ""
    except XpnetError as error:
        if data is not None:
            raise
        missing = str(error)
    trained_on = None
    if or_train and found is not None:
        with contextlib.suppress(XpnetError):
            trained_on = part_of(found, "train", runs)
    return trained_on, missing


def figure(scores: Any) -> dict[str, float]:
    """The figure that a model is judged by, and its name, for the description of what is written; {} without scores."""
    return {} if scores is None else {"test_r2" if hasattr(scores, "r2") else "test_accuracy": scores[1]}


def labels_of(data: Dataset) -> str:
    """The labels in words: 10 classes, or as many labels or numbers for each example."""
    if data.task == "classification":
        return f"{data.n_classes} classes"
    several = "s"[: data.n_outputs > 1]
    return f"{data.n_outputs} {'label' if data.task == 'multilabel' else 'number'}{several} each"


def metric_of(task: str) -> str:
    """What a model is judged by: "accuracy" or "R2"."""
    return "R2" if task == "regression" else "accuracy"


def written(score: float | None, task: str) -> str:
    """A score, such as "98.00 %" or "0.9312"; None is "failed"."""
    if score is None:
        return "failed"
    return f"{score:.4f}" if task == "regression" else f"{100 * score:.2f} %"


def in_words(scores: Any) -> str:
    """The figure that a model is judged by, such as "accuracy 98.00 %"."""
    task = "regression" if hasattr(scores, "r2") else "classification"
    return f"{metric_of(task)} {written(scores[1], task)}"


def _drawn(data: Dataset, name: str, runs: Sequence[Path]) -> NDArray[np.intp] | None:
    """The rows of data's training split that runs trained on, or held out; None if they held none out of it."""
    settings = {run: settings_of(run) for run in runs}
    holding = {run: config for run, config in settings.items() if config is not None and config.held}
    own = {run: config for run, config in holding.items() if config.data in (data.name, data.source)}
    if name == "validation" and data.validation is None and (others := holding.keys() - own.keys()):
        run = min(others)
        raise ConfigError(
            f"{run} held its validation images out of {holding[run].data!r}, and {data.name} has no validation split: "
            "choose another --split, or leave out --data"
        )
    if not own:
        return None
    if len({(config.held, config.seed) for config in own.values()}) > 1 or len(own) < len(settings):
        raise ConfigError(f"the runs did not hold out the same images of {data.name}: use them one by one")
    run, config = own.popitem()
    trained_on, held = held_out(len(data.train), config)
    checkpoint, _ = newest_checkpoint((run if run.is_dir() else run.parent) / "checkpoints")
    if checkpoint is not None and checkpoint.data["examples"] != len(trained_on):
        raise ConfigError(
            f"{run} was trained on {checkpoint.data['examples']:,} images, but without those held out {data.name} now "
            f"has {len(trained_on):,}: it is no longer known which they were"
        )
    return held if name == "validation" else trained_on


def settings_of(run: Path) -> TrainConfig | None:
    """The settings of a model in a run directory; None of one that lies elsewhere.   Raises ConfigError."""
    path = (run if run.is_dir() else run.parent) / "config.toml"
    if not (run.is_dir() or run.name == "model.safetensors") or not path.is_file():
        return None
    return TrainConfig().replace(**parse_toml(read_text(path, "settings"), str(path)))
