"""xpnet tune."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from xpnet.backend import Backend
from xpnet.checks import check_range, required
from xpnet.cli.datasets import check_named, check_writable, form_of, labels_of, metric_of, written
from xpnet.cli.settings import (
    RUN,
    DataDir,
    NoDownload,
    RecipeName,
    chosen,
    flag_name,
    opened,
    shown,
    takes_settings,
    whole_numbers,
)
from xpnet.cli.terminal import device_line, fill, print_header, working
from xpnet.data import Dataset
from xpnet.errors import ConfigError, InUseError, ModelError
from xpnet.files import read_text, write_atomically
from xpnet.studies.tune import Trial, Tuned, check_storage, default_space, masked, parse, read_space, working_in
from xpnet.studies.tune import tune as search
from xpnet.training.directory import holds_run
from xpnet.training.fit import fit
from xpnet.training.history import Epoch, read_history

__all__ = ["tune"]


@takes_settings
def tune(
    *,
    data_dir: DataDir = None,
    no_download: NoDownload = False,
    recipe: RecipeName = None,
    space: Annotated[
        Path | None,
        Parameter(
            group=RUN, help="TOML file of the settings to search; those given as flags are left out.", metavar="FILE"
        ),
    ] = None,
    trials: Annotated[
        int,
        Parameter(
            group=RUN,
            converter=whole_numbers,
            help="Trials in all, including finished ones; each of several processes may finish one more. A trial is "
            "judged on a tenth of the training set, or on --validation.",
            metavar="N",
        ),
    ] = 20,
    out: Annotated[
        Path | None, Parameter(group=RUN, help="Directory of the study; by default runs/tune-<data>.", metavar="DIR")
    ] = None,
    storage: Annotated[
        str | None,
        Parameter(
            group=RUN,
            help="File or URL that holds the study, by default study.journal in its directory. Several processes may "
            "share it: on several machines a file on a shared file system or postgresql://USER@HOST/NAME, but not "
            "sqlite:///FILE, which fails on network file systems.",
            metavar="FILE|URL",
        ),
    ] = None,
    study: Annotated[
        str | None, Parameter(group=RUN, help="Name of the study; by default that of its directory.")
    ] = None,
    quiet: Annotated[
        bool, Parameter(group=RUN, negative="", help="Print only the result and warnings.", show_default=False)
    ] = False,
    **settings: Any,
) -> int:
    """Search for good settings with Optuna, judged by validation accuracy, or R2.

    Every setting of the search space varies, except those given as flags. The
    first trial has the starting settings. The best settings are written to
    best.toml and trained once more, on the held-out examples too unless early
    stopping needs them. Only that run is measured on the test set, once, at its
    end. Repeating the command continues an interrupted study, and with more
    --trials extends a finished one. When several processes share a study (srun,
    mpiexec, ssh), the last of them to end trains the best settings; the others
    report this and exit with code 0. A process that is killed takes nothing from
    them; at most they wait half a minute for a lock file that it left.
    """
    if quiet:
        logging.getLogger("xpnet").setLevel(logging.WARNING)
    check_range("--trials", trials, 1)
    required("optuna", "the search for settings", "tune")
    if out is not None:
        check_named(out)
    config = chosen(recipe, settings)
    if config.start is not None:
        raise ConfigError("--from is for xpnet train: trials start from random parameters")
    own = default_space(config) if space is None else read_space(space)
    searched = {name: form for name, form in own.items() if name not in settings}
    try:
        parse(searched, config)
    except ConfigError as error:
        named = "search space" if space is None else f"search space {space}"
        raise ConfigError(str(error).replace("search space", named, 1)) from None
    config.warn_of_idle(settings, flag_name, searched)
    if storage is not None:
        if out is not None:
            _check_directory(out)
        check_storage(storage)
    backend, data, _ = opened(config, data_dir, download=not no_download)
    out = out or Path("runs") / ("tune-" + re.sub(r"[^\w.-]+", "-", data.name))
    _check_directory(out)
    storage, study = storage or str(out / "study.journal"), study or out.resolve().name
    place = masked(storage)
    try:
        if not quiet:
            _print_header(data, backend, f"{study} in {place}, {trials} trial{'s'[: trials > 1]} in all", searched)
        with working_in(out) as leave:
            with contextlib.nullcontext() if quiet else working("searching") as show:
                tuned = search(
                    *(data, searched, config),
                    trials=trials,
                    storage=storage,
                    study=study,
                    backend=backend,
                    report=None if show is None else _reporting(show, trials, data.task),
                )
            _print_best(tuned, {name: getattr(tuned.config, name) for name in searched}, data.task)
            _write_best(tuned, study, out, data.task)
            other = leave()
        if other is not None:
            ending = f"{other} is still searching; the last process to end trains the best settings, in {out}"
            print(fill(f"{ending}: the same command reports their test {metric_of(data.task)} then"), file=sys.stderr)
            return 0
        run = out / f"best-trial-{tuned.number}"
        best = _finished(run, tuned) or _train_best(run, tuned, data, backend, quiet=quiet)
    except KeyboardInterrupt:
        print(fill(f"xpnet: interrupted; the study is kept in {place}: the same command continues it"), file=sys.stderr)
        return 130
    if best is None:
        return 0
    if best.test_loss is not None:
        trained = "" if tuned.final.validation else f", trained on all {len(data.train.labels):,} training examples"
        score = written(best.score("test"), data.task)
        print(f"test {metric_of(data.task)} {score}, loss {best.test_loss:.4f} on {data.name}{trained}")
    print(f"saved in {run}")
    return 0


def _print_header(data: Dataset, backend: Backend, study: str, space: Mapping[str, Any]) -> None:
    rows = {
        "data": f"{data.name} ({data.source}): {len(data.train.labels):,} training {form_of(data)}, {labels_of(data)}",
        "device": device_line(backend),
        "study": study,
        "search": ", ".join(name.replace("_", " ") for name in space),
    }
    print_header(rows)


def _reporting(show: Callable[[str, int, int], None], trials: int, task: str) -> Callable[[Trial], None]:
    """What is done after each trial: it is printed, and counted."""

    def report(trial: Trial) -> None:
        _print_trial(trial, task)
        show("searching", min(trial.number + 1, trials), trials)

    return report


def _print_trial(trial: Trial, task: str) -> None:
    ended = trial.state if trial.state == "done" else f"{trial.state}, epoch {trial.epochs + (trial.state == 'failed')}"
    score, best = (f"{written(each, task):>8}" for each in (trial.score, trial.best))
    line = f"  trial {trial.number:<3} {score}  best {best}  {ended:<15}  "
    print(fill(f"{line}{_listed(trial.settings) or 'the starting settings'}", 12), file=sys.stderr, flush=True)
    if trial.failure:
        print(fill(f"            {trial.failure}", 12), file=sys.stderr, flush=True)


def _print_best(tuned: Tuned, settings: dict[str, Any], task: str) -> None:
    print(
        f"best of {tuned.trials} trial{'s'[: tuned.trials > 1]}: trial {tuned.number}, validation {metric_of(task)} "
        f"{written(tuned.score, task)} ({written(tuned.start_score, task)} with the starting settings)"
    )
    print(_listed(settings))


def _check_directory(out: Path) -> None:
    """Raise ConfigError for a directory in which no study can be kept, before any trial."""
    check_writable(out, "the study's directory")
    if holds_run(out):
        raise ConfigError(f"--out: {out} already holds a run: name another directory for the study")


def _write_best(tuned: Tuned, study: str, out: Path, task: str) -> None:
    """Write best.toml, a recipe."""
    head = (
        f"# The best settings of the study {study!r}, trial {tuned.number} of {tuned.trials}: validation "
        f"{metric_of(task)} {written(tuned.score, task)}.\n# xpnet train --recipe with this file repeats the trial.\n\n"
    )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "best.toml", (head + tuned.config.to_toml()).encode())
    print(f"saved in {out / 'best.toml'}", flush=True)


def _train_best(run: Path, tuned: Tuned, data: Dataset, backend: Backend, *, quiet: bool) -> Epoch | None:
    """Train with the best settings in a run directory, or continue there.

    Returns the figures of the epoch whose parameters the run has; None, after a line, where another process trains it.
    """
    if not quiet:
        why = "" if data.test is None else ", to measure them on the test set"
        print(fill(f"training once more with the best settings{why}"), file=sys.stderr)
    network = tuned.final.network(data.n_features, data.n_outputs, data.task)
    try:
        result = fit(network, data, tuned.final, backend=backend, progress=not quiet, out=run, resume=True)
    except ConfigError as error:
        if not isinstance(error.__cause__, InUseError):
            raise
        training = f"{run} is being trained by {error.__cause__}"
        print(
            fill(f"{training}; the same command reports its test {metric_of(data.task)} when it is finished"),
            file=sys.stderr,
        )
        return None
    if result.unsaved is not None:
        raise ModelError(f"the best settings were trained, but could not be saved: {result.unsaved}")
    return result.history[result.model_epoch - 1]


def _finished(run: Path, tuned: Tuned) -> Epoch | None:
    """The figures of the epoch whose parameters the final run has; None where it is still to be trained or continued.

    Raises ConfigError for anything else of that name, which is left as it is.
    """
    if not os.path.lexists(run):
        return None
    with contextlib.suppress(OSError):
        if all(path.name.startswith(".") for path in run.iterdir()):  # a run begins with its lock and config.toml
            return None
    final, begun, history = tuned.final, False, []
    with contextlib.suppress(ConfigError, ModelError):
        begun = read_text(run / "config.toml", "settings") == final.to_toml()
        history = read_history(run)
    if not begun:
        raise ConfigError(
            f"{run} exists and is not a run of trial {tuned.number}'s settings: move it, and repeat the command to "
            "continue"
        )
    # A process that was killed leaves its lock, and perhaps a model that is older than the history.
    if not history or (run / ".lock").exists():
        return None
    best = min(history, key=lambda epoch: epoch.validation_loss or 0.0) if final.early_stopping else history[-1]
    ended = len(history) == final.epochs or len(history) - best.epoch == final.early_stopping
    return best if ended else None


def _listed(settings: Mapping[str, Any]) -> str:
    """Settings in a line, numbers to three digits."""
    texts = {
        name: f"{value:.3g}" if isinstance(value, float) else shown(tuple(value) if isinstance(value, list) else value)
        for name, value in settings.items()
    }
    return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in texts.items())
