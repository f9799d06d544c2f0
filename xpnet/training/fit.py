"""fit: one run, from network, data and settings to its result."""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike

from xpnet.backend import Backend
from xpnet.data import Dataset
from xpnet.display import html_table
from xpnet.distributed import Team, agree
from xpnet.errors import ConfigError
from xpnet.files import sha256_of
from xpnet.model import Model
from xpnet.numerics.network import MLP
from xpnet.training.calibration import Calibration
from xpnet.training.callbacks import Callback, EarlyStopping
from xpnet.training.checkpoint import continue_from, rounding, versions
from xpnet.training.config import LOCATED, Settings, TrainConfig
from xpnet.training.directory import RunDirectory
from xpnet.training.epochs import checkpointers, train
from xpnet.training.history import Epoch
from xpnet.training.loop import computing
from xpnet.training.prepare import DESCRIBED, as_dataset, check_arguments, fingerprint, glimpse, prepare
from xpnet.training.progress import Progress
from xpnet.training.run import Run
from xpnet.training.start import network_for, with_classes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Result", "fit"]

# Settings that fit takes from its arguments, and where they are to be named instead.
_ELSEWHERE = {
    **dict.fromkeys(DESCRIBED, "describes the network: pass it to MLP"),
    **dict.fromkeys(("label", "size"), "says how files are read: pass it to load_data"),
    "task": "says what the labels are: pass it to load_data or Dataset",
    "start": "names the model to train further: pass the Model itself, as network",
}


class Result(NamedTuple):
    """What fit returns.

    model : the trained network.   history : one Epoch for each epoch.   config : the resolved settings.
    model_epoch : the epoch whose parameters the model has.   stop_reason : why training ended early, or None.
    unsaved : a file that could not be written at the end, and the reason, or None.
    """

    model: Model
    history: list[Epoch]
    config: TrainConfig
    model_epoch: int
    stop_reason: str | None
    unsaved: str | None = None

    def plot(self) -> "Figure":
        """The curves of its history, as xpnet.plots.curves draws them."""
        from xpnet import plots

        return plots.curves({self.model.data or "training": self.history}, loss=self.model.network.loss)

    def __repr__(self) -> str:
        n = len(self.history)
        return f"<Result of {n} epoch{'s'[: n != 1]}{_summary(self)}: {self.model!r}>"

    def _repr_html_(self) -> str:
        epoch = dataclasses.asdict(self.history[self.model_epoch - 1]) if self.model_epoch else {}
        figures = {name: value for name, value in epoch.items() if value is not None}
        return html_table("Result", {"model": repr(self.model), "epochs": len(self.history), **figures})


def _summary(result: Result) -> str:
    if not result.history or not result.model_epoch:
        return ""
    epoch = result.history[result.model_epoch - 1]
    metric = "accuracy" if epoch.train_r2 is None else "r2"
    return f", {epoch.judged_by} {metric} {epoch.score(epoch.judged_by):.4f}"


def fit(
    network: MLP | Model,
    data: Any,
    config: TrainConfig | None = None,
    *,
    test: Any = None,
    validation: Any = None,
    backend: Backend | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
    out: str | Path | None = None,
    resume: bool = False,
    sample_weight: ArrayLike | None = None,
    team: Team | None = None,
    **settings: Unpack[Settings],
) -> Result:
    """Train a network on a data set.

    network : the network to train; its sizes must fit the data's features and classes. A Model is trained further, on
        its columns in any order, which stay scaled as it knows them; its last layer is drawn anew where the outputs
        stand for other things.
    data : a Dataset, or a pair (X, y) of arrays, lists or tables (see Dataset.from_arrays), which are copied to the
        device, unless they lie there; those of a mapped file are streamed.
    config : the settings; those of the network, the data and the device are overridden by the arguments.
    test, validation : pairs (X, y), beside those of data; validation may also be a share of the training examples, or
        a number of them, to hold out.
    backend : where to compute; None takes config.backend().
    callbacks : see callbacks.py.   progress : whether to show it, on stderr or in the notebook.
    out : a directory for the run's files (config.toml, history.csv, model.safetensors, curves.png, and checkpoints of
        its state); None writes none.
    resume : whether to continue the run in out, if there is one, from its newest intact checkpoint. It ends with the
        same bits as one that never stopped on the same device, and within rounding on another one. Only epochs,
        on_nonfinite and what decides no result, such as keep or checkpoint_every, may differ from before; more epochs
        stretch the schedule, so that a rate that fell rises again.
    sample_weight : (n,), >= 0, the weight of each example of data.train in the training loss, times its class weight;
        scaled to a mean of 1, so that the learning rate keeps its meaning.
    team : the processes that train together, as xpnet.distributed.started returns them, all of which call fit with the
        same arguments and have the same result; None for this one alone. out is written by the first one, which also
        shows the progress; callbacks are called on each.
    settings : single settings of TrainConfig by name, over those of config; none that the network or the data have.
    Returns a Result.
    Raises ConfigError for settings that do not fit the network, the data or the run in out, before any training;
    DataError for arrays that cannot be used; ModelError if that run was trained but has no intact checkpoint;
    NonFiniteError when the loss or a parameter stops being finite; TeamError where the processes of a team have other
    settings, data or versions; TypeError for a callback that is none. However a run ends, KeyboardInterrupt included,
    the files of out hold the parameters as of the last finished epoch, or of the best one with early stopping. A disk
    that fails is reported, and training continues: see Result.unsaved.
    """
    team = team or Team()
    check_arguments(config, backend, network)
    for name in settings:
        if name in _ELSEWHERE:
            raise ConfigError(f"{name} {_ELSEWHERE[name]}", setting=name)
    if resume and out is None:
        raise ConfigError("resume continues the run in a directory: name it with out")
    config = (config or TrainConfig()).replace(**settings)
    config.warn_of_idle(settings)
    if isinstance(validation, Real):
        config, validation = config.replace(validation=validation), None
    start = network if isinstance(network, Model) else None
    loss = network.network.loss if isinstance(network, Model) else network.loss
    data = with_classes_of(network, as_dataset(data, test, validation, loss))
    network = network_for(network, data)
    backend = backend or config.backend(team.local_rank)
    run, splits = team.together(lambda: prepare(network, data, config, backend, sample_weight, start, team))
    _compare(run, data, sample_weight)
    observers = _checked(callbacks)
    if progress and team.rank == 0 and not any(isinstance(observer, Progress) for observer in observers):
        observers.insert(0, Progress())
    if config.early_stopping is not None:
        observers.insert(0, EarlyStopping(config.early_stopping))
    if out is not None and team.rank == 0:
        observers.append(RunDirectory(out, resume=resume))
    if "validation" in splits:
        observers.append(Calibration(splits["validation"]))
    observers.sort(key=lambda observer: observer.order)
    run.fingerprint = functools.partial(fingerprint, data, sample_weight, teachers=run.teachers)
    with contextlib.ExitStack() as ending:  # calls every on_end, the last observer's first, even if one raises
        if team.told(bool(checkpointers(run, observers))) or config.on_nonfinite == "rollback":
            over = threading.Event()
            hashing = ending.enter_context(ThreadPoolExecutor(1, "xpnet-fingerprint"))
            ending.callback(over.set)
            run.fingerprint = hashing.submit(fingerprint, data, sample_weight, over, run.teachers).result
        _begin(run, observers, ending)
        ending.enter_context(computing(run))
        if team.size > 1:
            run.exchange = ending.enter_context(backend.link(team))
        train(run, splits, observers)
    unsaved = next((observer.fault for observer in observers if observer.fault), None)
    return Result(run.model(), run.history, run.config, run.model_epoch, run.stop_reason, unsaved)


def _checked(callbacks: Iterable[Callback]) -> list[Callback]:
    if isinstance(callbacks, Callback):
        raise TypeError(f"callbacks must be several, in a list: [{type(callbacks).__name__}(...)]")
    observers = list(callbacks)
    if wrong := [observer for observer in observers if not isinstance(observer, Callback)]:
        raise TypeError(f"callbacks must be instances of Callback, such as xpnet.CSVLog, not {wrong[0]!r}")
    return observers


def _begin(run: Run, observers: list[Callback], ending: contextlib.ExitStack) -> None:
    """Start the observers, those of a negative order first: a directory knows where the run continues, on all ranks."""

    def start(some: Iterable[Callback]) -> None:
        for observer in some:
            observer.on_start(run)
            ending.callback(observer.on_end, run)

    run.team.together(lambda: start(observer for observer in observers if observer.order < 0))
    checkpoint = run.team.told(run.checkpoint)
    if checkpoint is not None:
        run.team.together(lambda: continue_from(run, checkpoint) if run.team.rank else None)
    run.team.together(lambda: start(observer for observer in observers if observer.order >= 0))


def _compare(run: Run, data: Dataset, sample_weight: ArrayLike | None) -> None:
    """Raise TeamError unless all processes of the run's team train the same; warn where they round differently."""
    if run.team.size == 1:
        return
    # The first difference is reported: what the defaults of settings depend on comes before these.
    facts: dict[str, Any] = {**versions(run.backend), "data set": glimpse(data)}
    if sample_weight is not None:
        facts["sample_weight"] = sha256_of([np.asarray(sample_weight)])[:16]
    if run.teachers:
        facts["teacher"] = sha256_of([run.backend.to_host(a) for model in run.teachers for a in model.params])[:16]
    facts["early_stopping"] = run.config.early_stopping
    # Of paths, the content counts, which is compared besides.
    own = dataclasses.asdict(run.config).items()
    paths = {name for name, value in own if name in LOCATED and isinstance(value, str)}
    elsewhere = {"data", "device", "teacher"} | paths
    facts |= {name: value for name, value in own if name not in elsewhere}
    facts["initial network"] = sha256_of([*run.params, *run.running])[:16]
    with computing(run):
        agree(run.team, facts, rounding(run.backend))
