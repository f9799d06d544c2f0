"""xpnet plot."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from xpnet import plots
from xpnet.checks import check_range, required
from xpnet.cli.datasets import (
    DataDir,
    DataName,
    DeviceName,
    LibraryName,
    SplitName,
    data_for,
    labelled,
    newest_run,
    part_of,
)
from xpnet.cli.settings import Dark, whole_numbers
from xpnet.data import shown_names
from xpnet.errors import ConfigError, ModelError
from xpnet.files import parse_toml, read_text
from xpnet.model import confusion_matrix, load
from xpnet.training.history import Epoch, read_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]


def plot(
    runs: Annotated[
        list[Path] | None,
        Parameter(
            help="Run directories, or .safetensors files for anything but curves; by default the newest run in runs.",
            metavar="RUN...",
            negative="",
        ),
    ] = None,
    /,
    *,
    confusion: Annotated[bool, Parameter(negative="", help="Draw the confusion matrix.", show_default=False)] = False,
    mistakes: Annotated[
        bool, Parameter(negative="", help="Draw misclassified images, the most confident first.", show_default=False)
    ] = False,
    weights: Annotated[
        bool, Parameter(negative="", help="Draw the first layer's weights as images.", show_default=False)
    ] = False,
    count: Annotated[
        int | None,
        Parameter(converter=whole_numbers, help="Most mistakes (by default 24) or units (60) to draw.", metavar="N"),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="Picture file: .png, .svg or .pdf; by default beside the model, or curves.png if runs are compared.",
            metavar="FILE",
        ),
    ] = None,
    dark: Dark = False,
    data: DataName = None,
    split: SplitName = "test",
    device: DeviceName = "auto",
    library: LibraryName = None,
    data_dir: DataDir = None,
) -> None:
    """Draw a run's curves, those of several runs for comparison, or the pictures that the first flags select."""
    required("matplotlib", "xpnet plot", "plot")
    runs = runs or [newest_run()]
    names = _names(runs)
    n_pictures = (confusion + mistakes + weights) * len(runs)
    if count is not None:
        check_range("--count", count, 1, plots.MOST_TILES, high_open=False)
    if out is not None:
        plots.format_of(out)
        if n_pictures > 1:
            raise ConfigError(f"--out names one file, but these flags draw {n_pictures} pictures: leave it out")
    if not n_pictures:
        if count is not None:
            raise ConfigError("--count needs --mistakes or --weights")
        with plots.dark(dark):
            curves = plots.curves(dict(zip(names, map(_history, runs), strict=True)), loss=_loss(runs))
        _save(curves, out or (runs[0] if len(runs) == 1 else Path()) / "curves.png")
        return
    many: dict[str, Any] = {} if count is None else {"count": count}
    for run, name in zip(runs, names, strict=True):
        model, figures = load(run, device, library), {}
        if confusion or mistakes:
            if model.task != "classification":
                raise ConfigError(f"--confusion and --mistakes need classes, but {run} was trained for {model.task}")
            dataset = data_for(model, data, data_dir, run)
            images, labels = labelled(part_of(dataset, split, [run], flag="--split"), dataset)
            found = model.measure(images, labels)
            classes = shown_names(dataset.name, model.classes)
            title = f"{name} on {dataset.name}, {split} split"
        with plots.dark(dark):
            if confusion:
                matrix = confusion_matrix(found.targets, found.outputs.argmax(axis=1), len(classes))
                figures["confusion"] = plots.confusion(matrix, classes, title=title)
            if mistakes:
                arrays = images, found.targets, found.outputs
                figures["mistakes"] = plots.mistakes(*arrays, classes, title=title, **many)
            if weights:
                W = model.backend.to_host(model.params[0])
                figures["weights"] = plots.weights(W, model.image_shape, title=name, **many)
        for kind, figure in figures.items():
            beside = run / f"{kind}.png" if run.is_dir() else run.with_name(f"{run.stem}-{kind}.png")
            _save(figure, out or beside)


def _names(runs: Sequence[Path]) -> list[str]:
    """A name for each run: the end of its path, as long as it takes to distinguish it from the others."""
    paths = [Path(os.path.abspath(run)).parts for run in runs]
    names = []
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise ConfigError(f"{run} is named twice: name each run once")
        length = next(k for k in range(1, len(path) + 1) if [other[-k:] for other in paths].count(path[-k:]) == 1)
        names.append(str(Path(*path[-length:])))
    return names


def _history(run: Path) -> list[Epoch]:
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run} is a file, but curves are drawn from a run directory: name one")
    if not run.exists():
        raise ModelError(f"{run}: no such run directory")
    return read_history(run)


def _loss(runs: Sequence[Path]) -> str | None:
    """The loss that the runs were trained with; "" where it is not known, None where they have several."""
    losses = set()
    for run in runs:
        try:
            settings = parse_toml(read_text(run / "config.toml", "settings"), "config.toml")
            losses.add(str(settings.get("loss", "")))
        except ConfigError:  # an axis without its unit is better than no curves
            return ""
    return losses.pop() if len(losses) == 1 else None


def _save(figure: "Figure", path: Path) -> None:
    plots.save(figure, path)
    print(f"saved {path}")
