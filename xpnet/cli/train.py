"""xpnet train."""

import logging
import math
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cyclopts import Parameter

from xpnet.backend import Backend
from xpnet.cli.datasets import form_of, new_run
from xpnet.cli.settings import RUN, DataDir, NoDownload, RecipeName, chosen, opened, shown, takes_settings
from xpnet.cli.terminal import device_line, print_header, result_console
from xpnet.data import Dataset
from xpnet.errors import ConfigError, ModelError, NonFiniteError
from xpnet.model import Model
from xpnet.numerics.network import MLP
from xpnet.training.callbacks import Callback
from xpnet.training.checkpoint import newest_checkpoint
from xpnet.training.config import SETTINGS, SMALL, TrainConfig
from xpnet.training.directory import refuse_run
from xpnet.training.fit import Result, fit
from xpnet.training.logs import TensorBoardLog
from xpnet.training.prepare import n_trained_on
from xpnet.training.run import Run
from xpnet.training.start import network_for

__all__ = ["train"]


@takes_settings
def train(
    *,
    data_dir: DataDir = None,
    no_download: NoDownload = False,
    recipe: RecipeName = None,
    out: Annotated[
        Path | None, Parameter(group=RUN, help="Run directory; by default runs/<time>-<name>.", metavar="DIR")
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            group=RUN,
            help="Continue the run in this directory from its newest intact checkpoint; add --epochs to extend it.",
            metavar="DIR",
        ),
    ] = None,
    log: Annotated[
        Literal["tensorboard"] | None,
        Parameter(group=RUN, help="Also log each epoch's figures in the run directory, for TensorBoard."),
    ] = None,
    quiet: Annotated[
        bool, Parameter(group=RUN, negative="", help="Print only the result and warnings.", show_default=False)
    ] = False,
    **settings: Any,
) -> int:
    """Train a network and save it in a run directory.

    Ctrl-C and SIGTERM save the run's state and end it with exit codes 130 and
    143; --resume continues from there to the same result.
    """
    if quiet:
        logging.getLogger("xpnet").setLevel(logging.WARNING)
    if out is not None and str(out) in ("", "."):
        raise ConfigError("--out must name a directory of its own, not the current one")
    for flag, value in (("--out", out), ("--recipe", recipe)):
        if resume is not None and value is not None:
            raise ConfigError(f"--resume continues in {resume} with that run's settings: leave out {flag}")
    result: Result | None = None
    with _Interruption() as interruption:
        try:
            config = chosen(recipe, settings, resume)
            if resume is None and out is not None:
                refuse_run(out)  # before the data are read
            backend, data, network = opened(config, data_dir, download=not no_download)
            out = resume or out or new_run(Path(recipe).stem if recipe else data.name)
            callbacks: list[Callback] = [interruption]
            if log == "tensorboard":
                callbacks.append(TensorBoardLog(out))
            if not quiet:
                _print_header(config, data, backend, network, out)
            result = fit(
                network,
                data,
                config,
                backend=backend,
                callbacks=callbacks,
                progress=not quiet,
                out=out,
                resume=resume is not None,
            )
        except KeyboardInterrupt:
            pass
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}; {interruption.kept(out)}") from None
    if result is None or (interruption.signal is not None and not interruption.finished):
        print(f"xpnet: {interruption.what}; {interruption.kept(out)}", file=sys.stderr)
        return interruption.status
    if result.history and len(result.history) == interruption.begun_after:
        print(f"{out} is finished; add --epochs to extend it", file=sys.stderr)
    _print_result(result, data, out)
    return 0


class _Interruption(Callback):
    """The first Ctrl-C or SIGTERM ends the run after the step that it is in, the second one at once.

    run : once it has begun.   begun_after : the epochs it had behind it then.   signal : the first one, or None.
    """

    def __init__(self) -> None:
        self.run: Run | None = None
        self.begun_after = 0
        self.signal: int | None = None
        self._replaced: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # A signal that is ignored, as in a shell's background, or is somebody else's stays so.
        if threading.current_thread() is threading.main_thread():
            for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) is usual:
                    self._replaced[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, usual in self._replaced.items():
            signal.signal(number, usual)

    def _receive(self, number: int, _: object) -> None:
        # Only a note: a handler that prints may find itself in the middle of another print.
        first, self.signal = self.signal is None, self.signal or number
        if self.run is None or not first:
            raise KeyboardInterrupt
        if not self.run.finished:
            self.run.stop(self.what, at_once=True)

    def on_start(self, run: Run) -> None:
        self.run, self.begun_after = run, len(run.history)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end all the same."""
        return self.run is not None and self.run.finished

    @property
    def status(self) -> int:
        """The exit code of a command that a signal ended."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def what(self) -> str:
        """The signal's effect in a word."""
        return "terminated" if self.signal == signal.SIGTERM else "interrupted"

    def kept(self, out: Path | None) -> str:
        """A clause on what the run has saved, and how to continue it."""
        if self.run is None:
            return "nothing was trained yet"
        epoch = self.run.model_epoch
        parameters = f"the parameters of epoch {epoch}" if epoch else "no epoch was finished; the initial parameters"
        saved = f"{parameters} are saved in {out}"
        # Look on the disk: the newest state may not have been written, for lack of time or space.
        checkpoint, _ = newest_checkpoint(Path(out or "") / "checkpoints")
        if checkpoint is None:
            return saved
        return f"{saved}; xpnet train --resume {shlex.quote(str(out))} continues after {checkpoint.where}"


def _print_header(config: TrainConfig, data: Dataset, backend: Backend, start: MLP | Model, out: Path) -> None:
    trained_on = n_trained_on(data, config)
    counts = {"training": trained_on, "validation": len(data) - trained_on or len(data.validation or ())}
    counts["test"] = len(data.test or ())
    network, usual = network_for(start, data), TrainConfig().resolved(SMALL, "cross-entropy")
    config = config.resolved(trained_on, network.loss, trained=isinstance(start, Model))
    n_params = sum(map(math.prod, network.param_shapes().values()))
    drawn = config.data == "auto" and data.name != "mnist"
    batch = "full batch" if config.batch_size == "full" else f"batches of {config.batch_size}"
    tf32 = " with products in TF32" if backend.tf32 else ", not TF32, which needs CUDA" if config.tf32 else ""
    extras = [
        f"{name.replace('_', ' ')} {shown(getattr(config, name))}"
        for name, setting in SETTINGS.items()
        if not setting.in_header and getattr(config, name) != getattr(usual, name)
    ]
    rows = {
        "data": f"{data.name}{' IN PLACE OF MNIST' if drawn else ''} ({data.source}): "
        f"{', '.join(f'{n:,} {name}' for name, n in counts.items() if n)} {form_of(data)}, {_labels_of(data)}",
        "device": device_line(backend),
        "network": f"{network}, {n_params:,} parameters, {network.loss}",
        "training": f"{config.optimizer}, learning rate {config.rate:g} {config.schedule}, {batch}, "
        f"{config.epochs} epoch{'s'[: config.epochs != 1]}, {config.dtype}{tf32}, seed {config.seed}",
        "also": ", ".join(extras),
        "run": str(out),
    }
    print_header(rows)


def _labels_of(data: Dataset) -> str:
    """The labels in words: 10 classes, or as many labels or numbers for each example."""
    if data.task == "classification":
        return f"{data.n_classes} classes"
    several = "s"[: data.n_outputs > 1]
    return f"{data.n_outputs} {'label' if data.task == 'multilabel' else 'number'}{several} each"


def _print_result(result: Result, data: Dataset, out: Path | None) -> None:
    best = result.history[result.model_epoch - 1]
    for split in ("test", "validation", "train"):
        loss, accuracy, r2 = (getattr(best, f"{split}_{figure}") for figure in ("loss", "accuracy", "r2"))
        if loss is not None:
            break
    score = f"accuracy {100 * accuracy:.2f} %" if r2 is None else f"R2 {r2:.4f}"
    early = result.stop_reason is not None and len(result.history) != result.config.epochs
    stopped = f"; stopped: {result.stop_reason}" if early else ""
    console = result_console()
    whole = not console.is_terminal  # elsewhere a line stays one
    line = f"{split} {score}, loss {loss:.4f} on {data.name}, epoch {best.epoch}{stopped}"
    console.print(line, style="bold", soft_wrap=whole)
    if result.unsaved is not None:
        raise ModelError(f"the model was trained, but could not be saved: {result.unsaved}")
    console.print(f"saved in {out}", soft_wrap=whole)
    if console.is_terminal:
        run = shlex.quote(str(out))
        console.print(f"next: xpnet predict {run}", style="dim")
