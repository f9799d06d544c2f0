"""xpnet train."""

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cyclopts import Parameter

from xpnet.checks import check_range
from xpnet.cli.datasets import check_named, new_run
from xpnet.cli.reports import print_plan, print_result, print_run_header, print_seeds
from xpnet.cli.settings import (
    RUN,
    DataDir,
    NoDownload,
    RecipeName,
    chosen,
    flag_name,
    opened,
    takes_settings,
    whole_numbers,
)
from xpnet.cli.teams import ended_by, joined
from xpnet.cli.terminal import fill
from xpnet.data import Dataset
from xpnet.distributed import Team, agree
from xpnet.errors import ConfigError, NonFiniteError
from xpnet.platforms import ending_signals, quoted
from xpnet.training.callbacks import Callback
from xpnet.training.checkpoint import newest_checkpoint
from xpnet.training.config import TrainConfig
from xpnet.training.directory import refuse_run
from xpnet.training.fit import Result, fit
from xpnet.training.logs import MLflowLog, TensorBoardLog, WandbLog
from xpnet.training.run import Run

__all__ = ["train"]

# Settings that each process of a team takes from its own flags, since they depend on the machine that it is on.
_OWN = {"data", "device"}


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
        Literal["tensorboard", "wandb", "mlflow"] | None,
        Parameter(
            group=RUN,
            help="Also log each epoch's figures: for TensorBoard in the run directory, to W&B or MLflow, "
            "wherever those are configured to log.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        Parameter(
            group=RUN,
            converter=whole_numbers,
            help="Train so many times, with seeds from --seed on; print mean, spread and what the ensemble reaches.",
            metavar="N",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(
            group=RUN,
            negative="",
            help="Train nothing: print the resolved settings as a recipe, and the steps, memory and time to expect.",
            show_default=False,
        ),
    ] = False,
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
    results: dict[int, Result] = {}
    with joined() as team, _Interruption() as interruption:
        first = team.rank == 0
        try:
            team.together(lambda: _check(out, resume, recipe, seeds) if first else None)
            config = team.told(team.together(lambda: _config(recipe, settings, resume, seeds) if first else None))
            here = {name: settings.pop(name) for name in _OWN & settings.keys()}
            typed = {"recipe": recipe, "out": out, "resume": resume, "log": log, "seeds": seeds, "dry_run": dry_run}
            facts = {flag_name(name): value for name, value in (typed | settings).items()}
            agree(team, facts, remedy="start all processes with the same flags")
            backend, data, network = team.together(
                lambda: opened(config.replace(**here), data_dir, download=not no_download, local_rank=team.local_rank)
            )
            if resume is not None and "validation" not in settings:
                team.together(lambda: _check_held(config, data, resume))
            out = resume or out or new_run(Path(recipe).stem if recipe else data.name)
            if not quiet:
                print_run_header(config, data, backend, network, out, team)
            if dry_run:
                print_plan(config, data, backend, network, seeds or 1, team)
                return 0
            for seed, folder in _folders(out, config.seed, seeds).items():
                if seeds and not quiet:
                    print(f"seed {seed}", file=sys.stderr)
                result = fit(
                    network,
                    data,
                    config.replace(seed=seed),
                    backend=backend,
                    callbacks=[interruption.of(folder, out, seeds), *_logs(log, folder, out, team)],
                    progress=not quiet,
                    out=folder,
                    resume=resume is not None,
                    team=team,
                )
                if not interruption.share(team) or interruption.finished:
                    results[seed] = result
                if interruption.signal is not None:
                    break
        except KeyboardInterrupt as error:
            if not team.shared(error):
                raise
            interruption.share(team)
        except NonFiniteError as error:
            error.args = (f"{error}; {interruption.kept}",)
            raise
        if len(results) < (seeds or 1):
            print(fill(f"xpnet: {interruption.what}; {interruption.kept}"), file=sys.stderr)
            return interruption.status
        assert out is not None
        _print_results(results, data, out, seeds, interruption.begun_after)
        return 0


def _print_results(results: dict[int, Result], data: Dataset, out: Path, seeds: int | None, begun_after: int) -> None:
    if seeds:
        print_seeds(results, data, out)
        return
    (result,) = results.values()
    if result.history and len(result.history) == begun_after:
        print(fill(f"{out} is finished; add --epochs to extend it"), file=sys.stderr)
    print_result(result, data, out)


def _config(recipe: str | None, settings: dict[str, Any], resume: Path | None, seeds: int | None) -> TrainConfig:
    """The settings of the run, or of the first one of those that --seeds continues."""
    config = chosen(recipe, settings, _first_seed(resume) if seeds and resume else resume)
    config.warn_of_idle(settings, flag_name)
    return config


def _check_held(config: TrainConfig, data: Dataset, run: Path) -> None:
    """Raise ConfigError for data that cannot be those of a run, since it holds out more: no flag has said so."""
    if config.held >= len(data):
        raise ConfigError(
            f"{run} was trained on other data, of which {config.held:.0f} examples were held out: {data.name} has only "
            f"{len(data)}; resume with the same data"
        )


def _check(out: Path | None, resume: Path | None, recipe: str | None, seeds: int | None) -> None:
    """Raise ConfigError for flags that do not fit together, before anything is read."""
    if seeds is not None:
        check_range("--seeds", seeds, 2)
    for flag, value in (("--out", out), ("--recipe", recipe)):
        if resume is not None and value is not None:
            raise ConfigError(f"--resume continues in {resume} with that run's settings: leave out {flag}")
    if out is not None:
        check_named(out)
        refuse_run(out)
        if seeds and any(out.glob("seed-*")):
            raise ConfigError(f"{out} already holds runs: name another directory, or continue them (--resume)")


def _logs(log: str | None, folder: Path, out: Path, team: Team) -> list[Callback]:
    """The callbacks that --log asks for, for the run in a directory, which is out or in it; one process writes."""
    if team.rank:
        return []
    name = out.name if folder == out else f"{out.name}/{folder.name}"
    if log == "tensorboard":
        return [TensorBoardLog(folder)]
    if log == "wandb":
        return [WandbLog(name, path=folder)]
    return [MLflowLog(name)] if log == "mlflow" else []


def _folders(out: Path, first: int, seeds: int | None) -> dict[int, Path]:
    """The directory of each seed's run: a run by itself is in out."""
    return {first: out} if seeds is None else {seed: out / f"seed-{seed}" for seed in range(first, first + seeds)}


def _first_seed(folder: Path) -> Path:
    """The run of the lowest seed among those in a directory.   Raises ConfigError if there is none."""
    found = {int(path.name.removeprefix("seed-")): path for path in folder.glob("seed-*") if path.name[5:].isdecimal()}
    if not found:
        raise ConfigError(f"{folder} holds no runs of several seeds to continue: leave out --seeds, or --resume")
    return found[min(found)]


class _Interruption(Callback):
    """The first Ctrl-C or SIGTERM ends the run after the step that it is in, the second one at once.

    run : once it has begun.   begun_after : the epochs it had behind it then.   signal : the first one, or None.
    """

    def __init__(self) -> None:
        self.run: Run | None = None
        self.folder, self.again = Path(), ""
        self.begun_after = 0
        self.signal: int | None = None
        self._replaced: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # A signal that is ignored, as in a shell's background, or is somebody else's stays so.
        if threading.current_thread() is threading.main_thread():
            for number, usual in ending_signals().items():
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
            raise KeyboardInterrupt(number)
        if not self.run.finished:
            self.run.stop(self.what, at_once=True)

    def of(self, folder: Path, out: Path, seeds: int | None) -> Self:
        """This callback, for the run in a directory, which is one of several in out if there are seeds."""
        self.run, self.folder = None, folder
        self.again = f"xpnet train --resume {quoted(out)}" + (f" --seeds {seeds}" if seeds else "")
        return self

    def on_start(self, run: Run) -> None:
        self.run, self.begun_after = run, len(run.history)

    def share(self, team: Team) -> bool:
        """Have all processes know of a signal that some of them received; whether there was one."""
        self.signal = next(filter(None, team.gather(self.signal)), None)
        return self.signal is not None

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
        return ended_by(self.signal or signal.SIGINT)

    @property
    def kept(self) -> str:
        """A clause on what the run has saved, and how to continue it."""
        if self.run is None:
            return "nothing was trained yet"
        epoch = self.run.model_epoch
        parameters = f"the parameters of epoch {epoch}" if epoch else "no epoch was finished; the initial parameters"
        saved = f"{parameters} are saved in {self.folder}"
        # Look on the disk: the newest state may not have been written, for lack of time or space.
        checkpoint, _ = newest_checkpoint(self.folder / "checkpoints")
        if checkpoint is None:
            return saved
        return f"{saved}; {self.again} continues after {checkpoint.where}"
