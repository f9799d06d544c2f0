"""xpnet train."""

import dataclasses
import logging
import math
import re
import shutil
import sys
import textwrap
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from xpnet.backend import Backend, select
from xpnet.callbacks import Callback, Progress, Run
from xpnet.cli.settings import RUN, SOURCE, shown, takes_settings
from xpnet.cli.terminal import download_bar
from xpnet.config import TrainConfig, read_recipe
from xpnet.data import Dataset, load_data
from xpnet.errors import ConfigError, NonFiniteError
from xpnet.network import MLP
from xpnet.optim import OPTIMIZERS
from xpnet.training import Result, fit

__all__ = ["train"]

# Settings that have a place of their own in the header; the others are named where they are not the default.
IN_HEADER = {
    *("data", "device", "library", "hidden", "activation", "loss", "optimizer", "lr", "schedule", "batch_size"),
    *("epochs", "dtype", "seed"),
}


@takes_settings
def train(
    *,
    data_dir: Annotated[Path | None, Parameter(group=SOURCE, help="Folder searched for data sets first.")] = None,
    no_download: Annotated[
        bool, Parameter(group=SOURCE, negative="", help="Download nothing.", show_default=False)
    ] = False,
    recipe: Annotated[
        str | None, Parameter(group=RUN, help="Settings by the name of a recipe, or from a TOML file; flags override.")
    ] = None,
    out: Annotated[
        Path | None, Parameter(group=RUN, help="Run directory; by default runs/<time>-<name>.", metavar="DIR")
    ] = None,
    quiet: Annotated[
        bool, Parameter(group=RUN, negative="", help="Print the result and warnings only.", show_default=False)
    ] = False,
    **settings: Any,
) -> int:
    """Train a network and save it in a run directory."""
    if quiet:
        logging.getLogger("xpnet").setLevel(logging.WARNING)
    if out is not None and str(out) in ("", "."):
        raise ConfigError("--out must name a directory of its own, not the current one")
    config = TrainConfig(**{**(read_recipe(recipe) if recipe else {}), **settings})
    backend = select(config.device, config.library)
    with download_bar() as bar:
        data = load_data(config.data, data_dir=data_dir, download=not no_download, progress=bar)
    network = config.network(data.n_features, data.n_classes)
    out = out or _new_directory(Path(recipe).stem if recipe else data.name)
    watch = _Watch()
    callbacks: list[Callback] = [watch]
    if not quiet:
        _print_header(config, data, backend, network, out)
        callbacks.append(Progress())
    try:
        result = fit(network, data, config, backend=backend, callbacks=callbacks, out=out)
    except KeyboardInterrupt:
        print(f"xpnet: interrupted; {watch.kept()} saved in {out}", file=sys.stderr)
        return 130
    except NonFiniteError as error:
        raise NonFiniteError(f"{error}; {watch.kept()} saved in {out}") from None
    _print_result(result, data, out)
    return 0


class _Watch(Callback):
    """Remembers the run, to say after an interruption what is left of it."""

    def __init__(self) -> None:
        self.run: Run | None = None

    def on_start(self, run: Run) -> None:
        self.run = run

    def kept(self) -> str:
        """What the run directory's model holds."""
        if self.run is None or self.run.model_epoch == 0:
            return "no epoch was finished, the first parameters are"
        return f"the parameters of epoch {self.run.model_epoch} are"


def _new_directory(name: str) -> Path:
    """A path in runs/ that does not exist yet."""
    stem = time.strftime("%Y%m%d-%H%M%S-") + re.sub(r"[^\w.-]+", "-", name)
    path, number = Path("runs") / stem, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{stem}-{number}"
    return path


def _print_header(config: TrainConfig, data: Dataset, backend: Backend, network: MLP, out: Path) -> None:
    counts = [f"{len(data.train.labels):,} training"]
    counts += [
        f"{len(split.labels):,} {name}"
        for name, split in (("validation", data.validation), ("test", data.test))
        if split is not None
    ]
    shape = "x".join(map(str, data.image_shape))
    n_params = sum(map(math.prod, network.param_shapes().values()))
    drawn = config.data == "auto" and data.name != "mnist"
    lr = config.lr or OPTIMIZERS[config.optimizer].lr
    batch = "the whole set" if config.batch_size == "full" else f"batches of {config.batch_size}"
    extras = [
        f"{field.name.replace('_', ' ')} {shown(getattr(config, field.name))}"
        for field in dataclasses.fields(config)
        if field.name not in IN_HEADER and getattr(config, field.name) != field.default
    ]
    rows = {
        "data": f"{data.name}{' IN PLACE OF MNIST' if drawn else ''} ({data.source}): "
        f"{', '.join(counts)} images of {shape}, {data.n_classes} classes",
        "device": f"{backend.device}, {backend.name} {backend.version}, {backend.description} ({backend.reason})",
        "network": f"{network}, {n_params:,} parameters, {config.loss}",
        "training": f"{config.optimizer}, learning rate {lr:g} {config.schedule}, {batch}, "
        f"{config.epochs} epoch{'s'[: config.epochs > 1]}, {config.dtype}, seed {config.seed}",
        "also": ", ".join(extras),
        "run": str(out),
    }
    # Whole words only, so that a path can be copied.
    lines = textwrap.TextWrapper(subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False)
    lines.width = shutil.get_terminal_size().columns if sys.stderr.isatty() else sys.maxsize
    for name, text in rows.items():
        if text:
            print(lines.fill(f"{name:<9}{text}"), file=sys.stderr)


def _print_result(result: Result, data: Dataset, out: Path) -> None:
    best = result.history[result.model_epoch - 1]
    for split in ("test", "validation", "train"):
        loss, accuracy = getattr(best, f"{split}_loss"), getattr(best, f"{split}_accuracy")
        if loss is not None:
            break
    stopped = f"; stopped: {result.stop_reason}" if result.stop_reason else ""
    print(f"{split} accuracy {100 * accuracy:.2f} %, loss {loss:.4f} on {data.name}, epoch {best.epoch}{stopped}")
    print(f"saved in {out}")
