"""xpnet train."""

import dataclasses
import logging
import math
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from xpnet.backend import Backend
from xpnet.callbacks import Callback, Progress, Run, TensorBoardLog
from xpnet.cli.datasets import form_of
from xpnet.cli.settings import RUN, DataDir, NoDownload, RecipeName, chosen, opened, shown, takes_settings
from xpnet.cli.terminal import device_line, print_header
from xpnet.config import TrainConfig
from xpnet.data import Dataset
from xpnet.errors import ConfigError, NonFiniteError
from xpnet.network import MLP
from xpnet.optim import OPTIMIZERS
from xpnet.training import Result, fit

__all__ = ["train"]

# Settings that have a place of their own in the header; the others are named where they are not the default.
IN_HEADER = {
    *("data", "device", "library", "hidden", "activation", "loss", "optimizer", "lr", "schedule", "batch_size"),
    *("epochs", "dtype", "tf32", "seed"),
}


@takes_settings
def train(
    *,
    data_dir: DataDir = None,
    no_download: NoDownload = False,
    recipe: RecipeName = None,
    out: Annotated[
        Path | None, Parameter(group=RUN, help="Run directory; by default runs/<time>-<name>.", metavar="DIR")
    ] = None,
    log: Annotated[
        Literal["tensorboard"] | None,
        Parameter(group=RUN, help="Write a log of each epoch's figures for another program into the run directory."),
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
    config = chosen(recipe, settings)
    backend, data, network = opened(config, data_dir, download=not no_download)
    out = out or _new_directory(Path(recipe).stem if recipe else data.name)
    interruption = _Interruption()
    callbacks: list[Callback] = [interruption]
    if log == "tensorboard":
        callbacks.append(TensorBoardLog(out))
    if not quiet:
        _print_header(config, data, backend, network, out)
        callbacks.append(Progress())
    try:
        result = fit(network, data, config, backend=backend, callbacks=callbacks, out=out)
        if not interruption.asked:
            _print_result(result, data, out)
            return 0
    except KeyboardInterrupt:
        pass
    except NonFiniteError as error:
        raise NonFiniteError(f"{error}; {interruption.kept(out)}") from None
    print(f"xpnet: interrupted; {interruption.kept(out)}", file=sys.stderr)
    return 130


class _Interruption(Callback):
    """The first Ctrl-C ends the run after the epoch that it is in, the second one at once."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.asked = self.said = False

    def on_start(self, run: Run) -> None:
        self.run = run
        # A signal that is ignored, as in a shell's background, or is somebody else's stays so.
        here = threading.current_thread() is threading.main_thread()
        self.mine = here and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.mine:
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, *_: object) -> None:
        # Only a note: a handler that prints may find itself in the middle of another print.
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_steps(self, run: Run, epoch: int, done: int) -> None:
        if self.asked and not self.said:
            self.said = True
            print(f"interrupted: epoch {epoch} will be finished and saved; Ctrl-C again ends at once", file=sys.stderr)

    def on_epoch(self, run: Run) -> None:
        if self.asked:
            run.stop("interrupted")

    def on_end(self, run: Run) -> None:
        if self.mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def kept(self, out: Path) -> str:
        """What of the run is left."""
        if self.run is None:
            return "nothing was trained yet"
        epoch = self.run.model_epoch
        what = f"the parameters of epoch {epoch}" if epoch else "no epoch was finished, the first parameters"
        return f"{what} are saved in {out}"


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
    n_params = sum(map(math.prod, network.param_shapes().values()))
    drawn = config.data == "auto" and data.name != "mnist"
    lr = config.lr or OPTIMIZERS[config.optimizer].lr
    batch = "the whole set" if config.batch_size == "full" else f"batches of {config.batch_size}"
    tf32 = " with products in TF32" if backend.tf32 else ", not TF32, which needs CUDA" if config.tf32 else ""
    extras = [
        f"{field.name.replace('_', ' ')} {shown(getattr(config, field.name))}"
        for field in dataclasses.fields(config)
        if field.name not in IN_HEADER and getattr(config, field.name) != field.default
    ]
    rows = {
        "data": f"{data.name}{' IN PLACE OF MNIST' if drawn else ''} ({data.source}): "
        f"{', '.join(counts)} {form_of(data)}, {data.n_classes} classes",
        "device": device_line(backend),
        "network": f"{network}, {n_params:,} parameters, {config.loss}",
        "training": f"{config.optimizer}, learning rate {lr:g} {config.schedule}, {batch}, "
        f"{config.epochs} epoch{'s'[: config.epochs > 1]}, {config.dtype}{tf32}, seed {config.seed}",
        "also": ", ".join(extras),
        "run": str(out),
    }
    print_header(rows)


def _print_result(result: Result, data: Dataset, out: Path) -> None:
    best = result.history[result.model_epoch - 1]
    for split in ("test", "validation", "train"):
        loss, accuracy = getattr(best, f"{split}_loss"), getattr(best, f"{split}_accuracy")
        if loss is not None:
            break
    stopped = f"; stopped: {result.stop_reason}" if result.stop_reason else ""
    print(f"{split} accuracy {100 * accuracy:.2f} %, loss {loss:.4f} on {data.name}, epoch {best.epoch}{stopped}")
    print(f"saved in {out}")
