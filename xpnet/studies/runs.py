"""What the directories of runs tell, read in brief: no model is loaded, and whatever a folder holds costs no more than
its own line.
"""

import math
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from xpnet.errors import ConfigError, ModelError, one_line
from xpnet.files import holder_of, parse_toml, read_text
from xpnet.model.storage import network_of
from xpnet.studies.records import read_records
from xpnet.training.checkpoint import checkpoints
from xpnet.training.config import TrainConfig
from xpnet.training.history import Epoch, read_history

__all__ = ["RunInfo", "best_of", "read_run", "read_runs"]

# Any of these makes a folder the directory of a run.
FILES = ("config.toml", "history.csv", "model.safetensors", "checkpoints")
MOST_SECONDS = 1e11  # three thousand years: more is damage


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run, as far as its directory tells.

    path : of the directory.   began : seconds since 1970, from its name or its oldest file.
    config : its settings, or None.   network, data : in words, "" if unknown.
    epochs : finished ones.   planned : of the settings, or None.   seconds : of training.
    history : an Epoch for each finished one.   model_epoch : the number of that whose parameters the run ended with.
    split : the one that the score is of: test, or validation or train where that was not measured; "" without a score.
    accuracy, r2 : the score, one of them at most.   loss : of that split.
    state : finished, running, interrupted, failed, unreadable, or imported: a model without a history.
    reason : what failed or cannot be read, or who is training.
    """

    path: Path
    began: float
    config: TrainConfig | None = None
    network: str = ""
    data: str = ""
    epochs: int = 0
    planned: int | None = None
    seconds: float | None = None
    history: Sequence[Epoch] = ()
    model_epoch: int = 0
    split: str = ""
    accuracy: float | None = None
    r2: float | None = None
    loss: float | None = None
    state: str = "finished"
    reason: str = ""

    @property
    def score(self) -> float | None:
        """The accuracy or, of a regression, R2: the higher, the better."""
        return self.r2 if self.accuracy is None else self.accuracy


def read_runs(folder: Path) -> list[RunInfo]:
    """The runs in a folder and in the folders in it, such as those of several seeds, or the run that it is.

    Raises ConfigError where the folder cannot be read.
    """
    if _is_run(folder):
        return [read_run(folder)]
    try:
        folders = [path for path in folder.iterdir() if path.is_dir()]
    except OSError as error:
        raise ConfigError(f"cannot read the folder {folder}: {error.strerror or error}") from None
    found = [path for path in folders if _is_run(path)]
    for path in set(folders) - set(found):
        with suppress(OSError):
            found += [inner for inner in path.iterdir() if inner.is_dir() and _is_run(inner)]
    return [read_run(path) for path in found]


def read_run(path: Path) -> RunInfo:
    """What the directory of a run tells."""
    info = RunInfo(path=path, began=_began(path))
    try:
        info = _settings(info)
        info = _described(info)
        info = _figures(info)
        return _state(info)
    except (ConfigError, ModelError) as error:
        return replace(info, state="unreadable", reason=str(error).replace(f"{one_line(str(path))}{os.sep}", ""))
    except OSError as error:
        return replace(info, state="unreadable", reason=one_line(error.strerror or str(error)))


def best_of(runs: Iterable[RunInfo]) -> set[Path]:
    """The paths of the runs with the highest score among those of the same data, split and task, if there are any."""
    found: set[Path] = set()
    scored = [run for run in runs if run.score is not None and run.state != "unreadable"]
    for _, group in groupby(sorted(scored, key=_comparable), _comparable):
        comparable = list(group)
        if len(comparable) > 1:
            best = max(run.score for run in comparable if run.score is not None)
            found |= {run.path for run in comparable if run.score == best}
    return found


def _comparable(run: RunInfo) -> tuple[str, str, bool]:
    return run.data, run.split, run.accuracy is None


def _is_run(path: Path) -> bool:
    """Whether a folder is a run's, or cannot be looked into."""
    return any(os.path.lexists(path / name) for name in FILES) or (path.is_dir() and not os.access(path, os.X_OK))


def _began(path: Path) -> float:
    """When a run began, in seconds since 1970: by its name or, at the latest, by the oldest of its files."""
    if named := re.match(r"\d{8}-\d{6}(?!\d)", path.name):
        with suppress(ValueError, OverflowError):
            return time.mktime(time.strptime(named[0], "%Y%m%d-%H%M%S"))
    times = []
    for name in FILES:
        with suppress(OSError):
            times.append(os.lstat(path / name).st_mtime)
    return min(times, default=0.0)


def _settings(info: RunInfo) -> RunInfo:
    """With the settings, if there are any.   Raises ConfigError if they cannot be read."""
    path = info.path / "config.toml"
    if not os.path.lexists(path):
        return info
    config = TrainConfig().replace(**parse_toml(read_text(path, "settings"), path.name))
    network = f"{'-'.join(map(str, config.hidden)) or 'linear'} {config.activation if config.hidden else ''}".strip()
    return replace(info, config=config, data=one_line(config.data), planned=config.epochs, network=network)


def _described(info: RunInfo) -> RunInfo:
    """With the network of the model file, if there is one.   Raises ModelError."""
    path = info.path / "model.safetensors"
    if not os.path.lexists(path):
        return info
    network, data = network_of(path)
    return replace(info, network=str(network), data=info.data or data)


def _figures(info: RunInfo) -> RunInfo:
    """With what the history says, if there is one.   Raises ModelError."""
    if not os.path.lexists(info.path / "history.csv"):
        return info
    history = read_history(info.path)
    seconds = sum(epoch.seconds for epoch in history)
    if not 0.0 <= seconds <= MOST_SECONDS:
        raise ModelError("history.csv is damaged: it has impossible lengths of time")
    info = replace(info, epochs=len(history), seconds=seconds, history=history)
    if not history:
        return info
    last = _last(history, info.config)
    split = next((name for name in ("test", "validation") if getattr(last, f"{name}_loss") is not None), "train")
    loss, accuracy, r2 = (getattr(last, f"{split}_{figure}") for figure in ("loss", "accuracy", "r2"))
    if accuracy is not None and not 0.0 <= accuracy <= 1.0:
        raise ModelError("history.csv is damaged: it has an impossible accuracy")
    return replace(info, model_epoch=last.epoch, split=split, accuracy=accuracy, loss=_finite(loss), r2=_finite(r2))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _last(history: Sequence[Epoch], config: TrainConfig | None) -> Epoch:
    """The epoch whose parameters a run has: that with the test's figures, the best of early stopping, or the last."""
    tested = [epoch for epoch in history if epoch.test_loss is not None]
    if len(tested) == 1:
        return tested[0]
    if config is not None and config.early_stopping is not None and history[0].validation_loss is not None:
        return min(history, key=lambda epoch: math.inf if epoch.validation_loss is None else epoch.validation_loss)
    return history[-1]


def _state(info: RunInfo) -> RunInfo:
    """With its state, and the score that xpnet reproduce found.   Raises ModelError and OSError."""
    if holder := holder_of(info.path / ".lock"):
        return replace(info, state="running", reason=one_line(holder))
    results = read_records(info.path / "result.json")
    if len(results) == 1:
        if results[0].failure:
            return replace(info, state="failed", reason=results[0].failure)
        return replace(info, split="test", accuracy=1.0 - results[0].error / 100.0, loss=None)
    if not info.history and info.config is None and os.path.lexists(info.path / "model.safetensors"):
        return replace(info, state="imported")
    config, done = info.config, info.epochs
    patience = config.early_stopping if config is not None else None
    measured = info.split == "test" and not (config is not None and config.test_each_epoch)
    if done and (done >= (info.planned or 1) or measured or done - info.model_epoch == patience):
        return info
    kept = bool(checkpoints(info.path / "checkpoints"))
    return replace(
        info, state="interrupted", reason="" if kept or not done else "it keeps no checkpoint to continue from"
    )
