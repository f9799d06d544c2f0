"""A run as a film: it is trained again, as its settings say, and looked at while it learns.

A run directory keeps the last state of a run, not the way to it; but the same settings give the same parameters, bit
for bit, on the same machine. So the way is gone once more, without new files in every run, and compared at its end.
"""

import dataclasses
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.backend.arrays import to_numpy
from xpnet.checks import check_one_of, check_range, required
from xpnet.data import Dataset, Split, class_names, load_data
from xpnet.display import duration
from xpnet.errors import ConfigError, DataError, ModelError, NonFiniteError
from xpnet.files import parse_toml, read_text
from xpnet.model import Model, load
from xpnet.plots.films import PANELS, Plane, Scenes, check_film, film, plane_around, save_film
from xpnet.training.config import TrainConfig
from xpnet.training.history import Epoch, read_history
from xpnet.training.loader import Examples
from xpnet.training.loop import Loop, computing
from xpnet.training.prepare import as_dataset, prepare
from xpnet.training.run import Run
from xpnet.training.start import with_classes_of

__all__ = ["Film", "animate"]

logger = logging.getLogger("xpnet")

Arrays = list[Any]
Report = Callable[[str, int, int | None], None]

MOST_FRAMES = 300  # which take half a gigabyte while they are drawn
MEASURED = 10_000  # examples of a split, at each frame
DRAWN = 1_000
UNITS, PIXELS = 30, 64  # filters, and the most pixels of their side


class Film(NamedTuple):
    """What animate made.

    scenes : what the film shows, in arrays.   difference : of its last parameters from the run's, relative to their
        norm; 0.0 if they are equal bit for bit.
    """

    scenes: Scenes
    difference: float


def animate(
    run: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    what: Sequence[str] | str | None = None,
    frames: int = 100,
    seconds: float = 10.0,
    data: Any = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    device: str | None = None,
    library: str | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Film:
    """Train a run again and film it: first-layer weights, the last hidden layer, the decision boundary, the curves.

        step of frame i = max(i, floor(T (i / (frames - 1))^3)),  T steps in all

    Its examples are those of the validation split, where there is one, and else of the test split.

    run : a run directory.   file : of the film, .gif or .webp.
    what : of "filters" (images only), "boundary" (data of two features) and "projection"; by default all that there is.
    frames : number of pictures, 2 to 300, fewer where the run has fewer steps.   seconds : that they take, > 0.
    data : that the run was trained on, its name or path, or anything that fit takes; by default as the run's settings
        say.   data_dir, download : as in load_data.
    device, library : where to compute; by default where the run did.   force : replace a file that exists.
    report : called now and then with what is done, such as "training", how much of it, and how much in all.
    Returns a Film.
    Raises ConfigError, before any training, for a file or a panel that cannot be; ModelError for a folder that holds no
    run; DataError and DeviceError where its data or its device cannot be had; NonFiniteError if it diverges.
    """
    run, file = Path(run), Path(file)
    check_range("frames", frames, 2, MOST_FRAMES, high_open=False)
    check_range("seconds", seconds, 0.0, 600.0, low_open=True, high_open=False)
    required("matplotlib", "a film", "plot")
    final, config, history = _opened(run)
    check_film(file, force=force)
    if device is not None:
        config = config.replace(device=device, library=library)
    elif library is not None:
        config = config.replace(library=library)
    panels = _panels(final, what, run)
    backend = config.backend()
    data = _data(run, config, data, final.network.loss, data_dir, download, report)
    start = None
    if config.start is not None:
        start = load(config.start, backend.device, backend.name)
    data = with_classes_of(start or final.network, data)
    took = sum(epoch.seconds for epoch in history)
    shown = f"{took:.2f} s" if took < 10 else duration(took)
    epochs = f"{len(history)} epoch{'s'[: len(history) != 1]}"
    logger.info("training %s again: %s, which took %s", run, epochs, shown)
    begun, splits = prepare(final.network, data, config, backend, None, start)
    steps = _steps(len(history) * begun.n_steps, frames)
    # The classes as the data calls them, which a model file may have to spell differently.
    final = dataclasses.replace(final, schema=dataclasses.replace(begun.schema, temperature=final.schema.temperature))
    filmed = _filmed(begun, data, splits, final, steps, panels, report)
    pictures = film(filmed.scenes)
    if report:
        pictures = _reported(pictures, len(steps), report)
    save_film(pictures, file, seconds=seconds)
    return filmed


def _opened(run: Path) -> tuple[Model, TrainConfig, list[Epoch]]:
    """The model of a run, on the host, its settings, and its history up to the epoch whose parameters the model has."""
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run} is a file: a film trains again, as the settings of a run directory say; name one")
    final = load(run, "cpu")
    path = run / "config.toml"
    if not path.is_file():
        raise ModelError(f"{run} holds no config.toml, so there are no settings to train it again with")
    config = TrainConfig().replace(**parse_toml(read_text(path, "settings"), str(path)))
    history = read_history(run)
    if not history:
        raise ModelError(f"{run} has no finished epoch: there is nothing to film")
    losses = [epoch.validation_loss for epoch in history if epoch.validation_loss is not None]
    restored = config.early_stopping is not None and losses
    return final, config, history[: losses.index(min(losses)) + 1] if restored else history


def _panels(final: Model, what: Sequence[str] | str | None, run: Path) -> list[str]:
    """The panels that are asked for, or all that there can be.   Raises ConfigError for one that cannot be."""
    k, task, scaling = final.network.sizes[-1], final.task, final.schema.features.kind
    lacks = dict.fromkeys(PANELS, "")
    if len(final.image_shape) != 2:
        lacks["filters"] = "images, but its examples are rows of features"
    if final.network.sizes[0] != 2 or scaling == "pixels":
        lacks["boundary"] = f"data of two features, but its examples have {final.network.sizes[0]}"
    elif task == "multilabel" or (task == "regression" and k > 1):
        lacks["boundary"] = f"classes or one number, but it was trained for {task} of {k} outputs"
    asked = [what] if isinstance(what, str) else list(what or [])
    for name in asked:
        check_one_of("what", name, PANELS)
        if lacks[name]:
            raise ConfigError(f"{run}: a film of its {name} needs {lacks[name]}")
    return asked or [name for name in PANELS if not lacks[name]]


def _data(
    run: Path,
    config: TrainConfig,
    data: Any,
    loss: str,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    report: Report | None,
) -> Dataset:
    if data is not None and not isinstance(data, str | os.PathLike):
        return as_dataset(data, None, None, loss)
    try:
        name = config.data if data is None else data
        return load_data(name, data_dir=data_dir, download=download, progress=report, **config.reading)
    except DataError as error:
        if data is not None:
            raise
        raise DataError(f"{run} needs the data that it was trained on: {error}; name it (--data, data=)") from None


def _steps(last: int, frames: int) -> NDArray[np.intp]:
    """The steps at which a film looks, from 0 to the last: the first ones apart, since they change most."""
    k = np.arange(min(frames, last + 1))
    steps: NDArray[np.intp] = np.maximum(k, (last * (k / k[-1]) ** 3 + 1e-9).astype(np.intp))
    return steps


def _states(run: Run, train: Examples, steps: NDArray[np.intp]) -> Iterator[tuple[Arrays, Arrays]]:
    """Train, and yield parameters and running statistics at some steps, the first of which is 0."""
    yield run.params, run.running
    wanted = set(steps.tolist())
    loop = Loop(run, train, steps_per_call=1)
    for epoch in itertools.count(1):
        for done in loop.epoch(epoch):
            if (step := (epoch - 1) * run.n_steps + done) in wanted:
                yield loop.model_on_host()
                if step == steps[-1]:
                    return


def _colours(drawn: Split, data: Dataset, final: Model) -> tuple[list[str], NDArray[Any]]:
    """The names and the targets of the examples that are drawn, as Scenes has them.

    Of several labels, each set of them that occurs has a name, and so a colour.
    """
    if final.task == "regression":
        return [], drawn.targets[:, 0]
    names = class_names(data.name, final.classes)
    if final.task == "classification":
        return names, drawn.targets
    sets, which = np.unique(drawn.targets, axis=0, return_inverse=True)
    called = [", ".join(name for name, has in zip(names, row, strict=True) if has > 0.5) or "none" for row in sets]
    return called, which.reshape(-1)


def _filmed(
    run: Run,
    data: Dataset,
    splits: dict[str, Examples],
    final: Model,
    steps: NDArray[np.intp],
    panels: list[str],
    report: Report | None,
) -> Film:
    """Train, and keep what the film shows."""
    judged = [name for name in ("train", "validation", "test") if name in splits]
    if "validation" in judged and "test" in judged and not run.config.test_each_epoch:
        judged.remove("test")  # as in training, so that nothing is chosen by it
    measured = {name: _some(data, splits, name, MEASURED) for name in judged}
    chosen = [*measured][-1]
    drawn = _some(data, splits, chosen, DRAWN)
    project = _projection(_with(run.backend, final, final.params, final.running), drawn.images)
    units = np.argsort(-np.linalg.norm(final.params[0], axis=0), kind="stable")[:UNITS]
    extent, places = (0.0, 0.0, 0.0, 0.0), np.empty(0)
    if "boundary" in panels:
        extent, places = plane_around(to_numpy(measured["train"].images).reshape(-1, 2))
    names, targets = _colours(drawn, data, final)
    losses, scores, filters, points, outputs = [], [], [], [], []
    with computing(run):
        for step, (params, running) in zip(steps, _states(run, splits["train"], steps), strict=True):
            if not all(np.isfinite(a).all() for a in params):
                raise NonFiniteError(f"a parameter is not finite after step {step}: the run cannot be filmed")
            model = _with(run.backend, final, params, running)
            found = [model.evaluate(part.images, part.labels) for part in measured.values()]
            losses.append([each[0] for each in found])
            scores.append([each[1] for each in found])
            if "filters" in panels:
                filters.append(_tiles(params[0][:, units], final.image_shape))
            if "projection" in panels:
                points.append(project(model, drawn.images))
            if "boundary" in panels:
                field = model.outputs(places.reshape(-1, 2)).reshape(*places.shape[:2], -1)
                outputs.append(field.astype(np.float32 if final.task == "regression" else np.float16))
            if report:
                report("training", int(step), int(steps[-1]))
    layer = "last hidden layer" if final.network.n_layers > 1 else "outputs"
    scenes = Scenes(
        title=f"{Path(data.name).name}: {final.network}",
        steps=steps,
        n_steps=run.n_steps,
        losses=dict(zip(measured, np.array(losses).T, strict=True)),
        scores=dict(zip(measured, np.array(scores).T, strict=True)),
        metric="r2" if final.task == "regression" else "accuracy",
        targets=targets,
        names=names,
        filters=np.stack(filters) if filters else None,
        units=final.network.sizes[1],
        projection=np.stack(points) if points else None,
        layer=f"{layer}, {chosen} data",
        plane=Plane(
            outputs=np.stack(outputs),
            extent=extent,
            points=to_numpy(drawn.images).reshape(-1, 2),
            columns=data.columns if len(data.columns) == 2 else ("feature 0", "feature 1"),
        )
        if outputs
        else None,
    )
    return Film(scenes, _difference([*params, *running], [*final.params, *final.running]))


def _some(data: Dataset, splits: dict[str, Examples], name: str, most: int) -> Split:
    """At most so many of a split's examples, evenly from all of it."""
    rows = splits[name].rows
    own = {"train": data.train, "validation": data.validation, "test": data.test}[name]
    split = data.train if rows is not None or own is None else own
    rows = np.arange(splits[name].n) if rows is None else rows
    chosen: Split = split[rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.intp)]]
    return chosen


def _with(backend: Backend, model: Model, params: Arrays, running: Arrays) -> Model:
    """A model with other parameters and running statistics, which lie on the host, on a device."""
    params, running = ([backend.to_device(a) for a in arrays] for arrays in (params, running))
    return dataclasses.replace(model, params=params, running=running, backend=backend)


def _projection(final: Model, images: Any) -> Callable[[Model, Any], NDArray[np.float32]]:
    """The function that projects a model's last hidden layer on the final one's two principal components.

    The components are the same at every step, so that points move because the network changes, not the view.
    """
    hidden = _hidden(final, images)
    mean = hidden.mean(axis=0)
    _, _, components = np.linalg.svd(hidden - mean, full_matrices=False)
    basis = np.zeros((hidden.shape[1], 2))
    basis[:, : len(components[:2])] = components[:2].T
    basis *= np.where(basis[np.abs(basis).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)

    def project(model: Model, images: Any) -> NDArray[np.float32]:
        points: NDArray[np.float32] = (_hidden(model, images) - mean).dot(basis).astype(np.float32)
        return points

    return project


def _hidden(model: Model, images: Any) -> NDArray[np.float64]:
    """The last hidden layer, or the outputs where there is none, (n, width)."""
    return (model.hidden(images) if model.network.n_layers > 1 else model.logits(images)).astype(np.float64)


def _tiles(W: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights (n_in, units) as pictures (units, height, width), thinned out where these are large."""
    every = -(-max(shape) // PIXELS)
    return W.T.reshape(-1, *shape)[:, ::every, ::every].astype(np.float32)


def _difference(own: Arrays, others: Arrays) -> float:
    """The largest relative difference of two lists of arrays; 0.0 if they are equal bit for bit."""
    distances = [
        0.0 if np.array_equal(a, b) else float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))
        for a, b in zip(own, others, strict=True)
    ]
    return max(distances)


def _reported(pictures: Iterator[Any], total: int, report: Report) -> Iterator[Any]:
    for done, picture in enumerate(pictures, 1):
        report("drawing", done, total)
        yield picture
