"""Preparing a run: network, data, settings and device are checked and resolved before the first step."""

import dataclasses
import hashlib
import math
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.backend import Backend
from xpnet.backend.arrays import to_numpy
from xpnet.data import SETS, Dataset, Parts, Schema, Split, is_mapped, rows_of
from xpnet.data.formats.named import splits_in_order, splits_of
from xpnet.distributed import Team
from xpnet.errors import ConfigError, DataError
from xpnet.model import Model, spread_of
from xpnet.numerics.augment import check_shape
from xpnet.numerics.functional import LOSSES
from xpnet.numerics.network import MLP
from xpnet.numerics.streams import SPLIT
from xpnet.optim import SCHEDULES
from xpnet.training.config import TrainConfig
from xpnet.training.distillation import teachers_of
from xpnet.training.initializers import generator, init_params, init_running
from xpnet.training.loader import WINDOW_BYTES, Examples, bytes_of_row
from xpnet.training.run import Run
from xpnet.training.scaling import scaling_of_features, scaling_of_targets
from xpnet.training.start import answers_alike, in_order_of, start_from, warn_of_units

__all__ = [
    "DESCRIBED",
    "as_dataset",
    "check_arguments",
    "fingerprint",
    "glimpse",
    "held_out",
    "n_trained_on",
    "prepare",
]

# What is read of the data at a time to compute its fingerprint.
BLOCK_BYTES = 1 << 24
GLIMPSED = 1 << 16  # bytes of each end of an array that are compared before the first step

# Settings that an MLP has, which fit therefore takes from there.
DESCRIBED = {"hidden"} | {field.name for field in dataclasses.fields(MLP)} - {"sizes"}


def as_dataset(data: Any, test: Any, validation: Any, loss: str) -> Dataset:
    """The data that fit was given, as a Dataset: a pair of arrays is put together, further splits are added."""
    if not isinstance(data, Dataset):
        splits = _splits_of(data) | {
            name: split for name, split in (("test", test), ("validation", validation)) if split is not None
        }
        return Dataset("arrays", **splits, task=LOSSES[loss].task)
    further = {name: split for name, split in (("test", test), ("validation", validation)) if split is not None}
    return dataclasses.replace(data, **further) if further else data


def _splits_of(data: Any) -> dict[str, Any]:
    """The splits of arrays that are not a Dataset: a pair, several pairs, or arrays with names.   Raises TypeError."""
    if isinstance(data, tuple | list) and len(data) == 2 and not all(map(_is_pair, data)):
        return {"train": Split(*data)}
    if isinstance(data, tuple | list) and 2 <= len(data) <= 4:
        return dict(splits_in_order(data, "data"))
    if isinstance(data, Mapping):
        return dict(splits_of({str(name): a for name, a in data.items() if hasattr(a, "shape")}, "data"))
    raise TypeError(
        "data must be a Dataset, as xpnet.load_data returns it, or a pair (X, y) of features and labels, not "
        f"{type(data).__name__}"
    )


def _is_pair(data: Any) -> bool:
    return isinstance(data, tuple | list) and len(data) == 2 and hasattr(data[0], "shape")


def check_arguments(config: object, backend: object, *networks: object) -> None:
    """Raise TypeError for arguments that are easily mistaken for the right ones.

    config, backend : None is left to its default.   networks : none where the settings describe it.
    """
    expected = (
        *(
            (it, MLP | Model, "network must be an MLP, such as xpnet.MLP((784, 128, 10)), or a Model")
            for it in networks
        ),
        (config, TrainConfig | None, "config must be a TrainConfig; single settings are passed by name"),
        (backend, Backend | None, "backend must be a Backend, as xpnet.select returns it"),
    )
    for value, kind, message in expected:
        if not isinstance(value, kind):
            raise TypeError(f"{message}, not {type(value).__name__}")


def prepare(
    network: MLP,
    data: Dataset,
    config: TrainConfig,
    backend: Backend,
    sample_weight: ArrayLike | None = None,
    start: Model | None = None,
    team: Team | None = None,
) -> tuple[Run, dict[str, Examples]]:
    """Check that network, data and settings fit together, and resolve what they leave open.

    Returns the run before its first step, and the examples of each split: train, the weights of which have a mean of 1,
    and validation and test if there are any.   Arguments and errors as in fit.
    """
    config = config.holding_out(len(data), validated=data.validation is not None)
    if start is not None:
        start = in_order_of(start, data.columns, data.classes if data.task != "classification" else (), "the model")
    splits = _splits(data, config)
    weights = _weights(splits["train"], config, sample_weight)
    if weights is not None:
        splits["train"] = dataclasses.replace(splits["train"], weights=weights.astype(config.dtype))
    n = splits["train"].n
    team = team or Team()
    config = config.replace(shards=config.shards or team.size)
    config = _resolve(config.resolved(n, network.loss, trained=start is not None), network, data, backend)
    batch_size = n if config.batch_size == "full" else min(config.batch_size, n)
    _check_shards(config, network, n, batch_size, team.size)
    if config.augment is not None:
        check_shape(data.image_shape)
    image_bytes = bytes_of_row(data.train.images)
    if is_mapped(data.train.images) and batch_size * image_bytes > WINDOW_BYTES:
        raise ConfigError(
            f"batch_size {config.batch_size} needs {batch_size * image_bytes / 1e6:,.0f} MB at once of {data.name}, "
            f"whose images stay on the disk: choose at most {WINDOW_BYTES // image_bytes:,}",
            setting="batch_size",
        )
    schema = _schema(splits["train"], data, config, network, start)
    if LOSSES[network.loss].task == "regression":
        splits = {
            name: dataclasses.replace(s, spread=spread_of(s.chosen_targets, schema)) for name, s in splits.items()
        }
    params, running = init_params(network, config.seed, config.dtype), init_running(network, config.dtype)
    if start is not None:
        params, running = start_from(start, network, data, params, running)
    run = Run(
        network,
        config,
        backend,
        schema,
        n,
        batch_size,
        _rates(config, math.ceil(n / batch_size)),
        params,
        running,
        teachers=teachers_of(config, network, schema, backend),
        team=team,
    )
    return run, splits


def _check_shards(config: TrainConfig, network: MLP, n: int, batch_size: int, processes: int) -> None:
    """Raise ConfigError unless the batches of n examples can be cut into the shards, and these be shared out."""
    shards = config.shards or 1
    if processes > shards or shards % processes:
        able = ", ".join(str(1 << i) for i in range(shards.bit_length() - 1))
        raise ConfigError(
            f"shards {shards} cannot be dealt to {processes} processes: start {able}{' or ' * bool(able)}{shards}",
            setting="shards",
        )
    if shards > batch_size:
        raise ConfigError(f"shards must be at most the batch's {batch_size} examples, not {shards}", setting="shards")
    if shards > 1 and config.dtype == "float32" and batch_size > 1 << 24:
        raise ConfigError(
            f"batch_size {batch_size:,} is more than float32 counts in shards: choose at most {1 << 24:,}, or float64",
            setting="batch_size",
        )
    last = n % batch_size or batch_size
    if network.running_shapes() and last // shards < 2:
        few = "only one" if last == 1 else f"{last}"
        shard = f" in {shards} shards" if shards > 1 else ""
        raise ConfigError(
            f"batch_size {batch_size} leaves a last batch of {few} of the {n} examples{shard}, which batch "
            f"normalisation cannot use: choose another batch size{' or fewer shards' * (shards > 1)}",
            setting="batch_size",
        )


def glimpse(data: Dataset) -> str:
    """What is seen of a data set at once: names, shapes, and a digest of the ends of each array; not all of it.

    Of Parts it is the digests in their manifest.
    """
    digest = hashlib.sha256()
    shapes = []
    for split in (data.train, data.validation, data.test):
        for array in () if split is None else (split.images, split.targets):
            shapes.append("x".join(map(str, array.shape)))
            if isinstance(array, Parts):
                digest.update(array.sha256.encode())
                continue
            n = array.shape[0]
            rows = min(n, max(1, GLIMPSED // max(1, to_numpy(array[:1]).nbytes)))
            for start in (0, n - rows):
                digest.update(np.ascontiguousarray(to_numpy(rows_of(array, np.arange(start, start + rows)))).data)
    return f"{data.name} {' '.join(shapes)} {digest.hexdigest()[:12]}"


def fingerprint(
    data: Dataset,
    sample_weight: ArrayLike | None = None,
    over: threading.Event | None = None,
    teachers: Iterable[Model] = (),
) -> str:
    """The SHA-256 of all that a run learns from: every split's images and labels, the weights, the teachers.

    Parts count by the digests in their manifest.
    over : set as soon as the result is no longer needed.
    """
    digest = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        for array in () if split is None else (split.images, split.targets):
            if isinstance(array, Parts):
                digest.update(array.sha256.encode())
                continue
            n, row = array.shape[0], to_numpy(array[:1, ...] if array.ndim > 1 else array[:1])
            digest.update(f"{row.dtype.str} {tuple(array.shape)} ".encode())
            rows = max(1, BLOCK_BYTES // row.nbytes)
            for start in range(0, n, rows):
                if over is not None and over.is_set():
                    return ""
                block = to_numpy(rows_of(array, np.arange(start, min(start + rows, n))))
                digest.update(np.ascontiguousarray(block).data)
        digest.update(b"|")
    if sample_weight is not None:
        digest.update(np.asarray(sample_weight, np.float64).tobytes())
    for model in teachers:
        for array in (*model.params, *model.running):
            digest.update(model.backend.to_host(array).tobytes())
    return digest.hexdigest()


def held_out(n: int, config: TrainConfig) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows of n training examples that a run trains on, and those that config.validation holds out, in order.

    Raises ConfigError if nothing would be held out, or nothing left to train on.
    """
    share = config.held
    held = round(share * n) if share < 1.0 else int(share)
    if not 0 < held < n:
        message = f"validation {share:g} would hold out {held} of {n} training examples: choose 1 to {n - 1}"
        raise ConfigError(message, setting="validation")
    order = generator(config.seed, SPLIT).permutation(n)
    return np.sort(order[held:]), np.sort(order[:held])


def n_trained_on(data: Dataset, config: TrainConfig) -> int:
    """Number of training examples that a run does not hold out.   Raises ConfigError as held_out does."""
    config = config.holding_out(len(data), validated=data.validation is not None)
    return len(held_out(len(data), config)[0]) if config.held else len(data)


def _splits(data: Dataset, config: TrainConfig) -> dict[str, Examples]:
    """The examples of each split: train, and validation and test where there are any.

    config.held examples are held out of the training split at random; 0 takes the data's own validation split.
    Raises ConfigError as held_out does.
    """
    train = _examples(data.train)
    validation, test = (None if split is None else _examples(split) for split in (data.validation, data.test))
    if config.held:
        rows, held = held_out(train.n, config)
        validation, train = dataclasses.replace(train, rows=held), dataclasses.replace(train, rows=rows)
    if config.early_stopping is not None and validation is None:
        message = "early_stopping needs a validation split: set validation to 0.1, for example"
        raise ConfigError(message, setting="early_stopping")
    splits = {"train": train, "validation": validation, "test": test}
    return {name: examples for name, examples in splits.items() if examples is not None}


def _weights(train: Examples, config: TrainConfig, sample_weight: ArrayLike | None) -> NDArray[np.float64] | None:
    """The weight of each example: its sample weight times its class's weight, scaled to a mean of 1."""
    if sample_weight is None and config.class_weight is None:
        return None
    targets, rows = train.targets, slice(None) if train.rows is None else train.rows
    weights = np.ones(train.n)
    if sample_weight is not None:
        try:
            given = np.asarray(sample_weight)
        except ValueError:
            raise ConfigError("sample_weight must be one list of numbers, not rows of different lengths") from None
        if given.shape != targets.shape[:1] or given.dtype.kind not in "biuf":
            raise ConfigError(
                f"sample_weight must be a number for each of the {len(targets)} training examples, not {given.dtype} "
                f"of shape {given.shape}"
            )
        if not (np.isfinite(given).all() and (given >= 0).all()):
            raise ConfigError("sample_weight must be finite and at least 0 throughout")
        weights = given[rows].astype(np.float64)
        weights /= weights.max() or 1.0  # so that no sum overflows
    if config.class_weight == "balanced":
        # By what its examples weigh, so that sample weights do not undo the balance.
        if targets.ndim > 1:
            raise ConfigError("class_weight balanced needs classes, one for each example", setting="class_weight")
        per_class = np.bincount(targets[rows], weights)
        weights /= np.where(per_class > 0, per_class, 1.0)[targets[rows]]
    if not weights.any():
        raise ConfigError("sample_weight leaves no training example with a weight above 0")
    scaled: NDArray[np.float64] = weights / weights.mean()
    return scaled


def _resolve(config: TrainConfig, network: MLP, data: Dataset, backend: Backend) -> TrainConfig:
    """The settings with every default and choice filled in, as config.toml holds them."""
    if network.sizes[0] != data.n_features:
        raise ConfigError(
            f"the network takes {network.sizes[0]} inputs, but {data.name} has {data.n_features} features"
        )
    _check_outputs(network, data)
    return config.replace(
        **{name: getattr(network, name) for name in DESCRIBED if name != "hidden"},
        hidden=network.sizes[1:-1],
        data=data.name if data.name in SETS or not Path(data.source).is_absolute() else data.source,
        device=backend.device,
        library=backend.name,
        tf32=backend.tf32,
        graph=backend.graph,
        lr=config.rate,
    ).located()


def _check_outputs(network: MLP, data: Dataset) -> None:
    """Raise ConfigError unless the outputs and the loss of a network are those that a set's labels need."""
    task, n_outputs = LOSSES[network.loss].task, network.sizes[-1]
    if data.train.targets is None:
        raise ConfigError(
            f"{data.name} has no labels to learn from; with a trained model, its classes can be predicted"
        )
    if task != data.task:
        fitting = ", ".join(name for name, loss in LOSSES.items() if loss.task == data.task)
        raise ConfigError(
            f"the loss {network.loss} is for {task}, but the labels of {data.name} are for {data.task}: choose one of "
            f"{fitting}, or another task for the data",
            setting="loss",
        )
    if task == "classification" and data.n_classes == 1:
        raise DataError(f"{data.name}: every label is {data.classes[0]!r}; at least two classes are needed")
    has = f"{n_outputs} output{'s'[: n_outputs != 1]}"
    wants = f"{data.n_outputs} target{'s'[: data.n_outputs != 1]}"
    spare = n_outputs > data.n_classes and data.classes == tuple(range(data.n_classes))
    if task == "classification" and n_outputs != data.n_classes and not spare:
        raise ConfigError(f"the network has {has}, but {data.name} has {data.n_classes} classes")
    if task != "classification" and n_outputs != data.n_outputs:
        raise ConfigError(f"the network has {has}, but {data.name} has {wants} a row")


def _schema(train: Examples, data: Dataset, config: TrainConfig, network: MLP, start: Model | None) -> Schema:
    """What the model is to know of its data. Columns are scaled as the model that it starts from knows them."""
    scale = data.scale if config.scale == "auto" else config.scale
    known = None if start is None or start.schema.features.kind == "pixels" else start.schema.features
    if known is not None and scale in ("auto", known.kind):
        features = known
    else:
        features = scaling_of_features(train, scale, data.name)
    targets = scaling_of_targets(train, network.loss)
    if start is not None and answers_alike(start, data):
        warn_of_units(targets, start.schema.targets, data.name)
        targets = start.schema.targets
    return Schema(
        config.data,
        data.image_shape,
        data.classes if len(data.classes) == network.sizes[-1] else (),
        features,
        targets,
        data.picture_form,
        data.columns if len(data.image_shape) == 1 and len(data.columns) == network.sizes[0] else (),
    )


def _examples(split: Split) -> Examples:
    return Examples(split.images, split.targets)


def _rates(config: TrainConfig, n_steps: int) -> NDArray[np.float64]:
    """The learning rate of every step of the run."""
    assert config.lr is not None
    assert config.epochs is not None
    total = n_steps * config.epochs
    options: dict[str, Any] = {}
    if config.warmup is not None:
        options["warmup"] = round(config.warmup * total)
    if config.schedule == "step":
        options.update(decay_steps=config.decay_every * n_steps, decay=config.decay)
    rates: NDArray[np.float64] = SCHEDULES[config.schedule](np.arange(total), lr=config.lr, n_steps=total, **options)
    return rates
