"""fit: one run, from network, data and settings to its result."""

import contextlib
import functools
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from xpnet.backend import Backend
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.model import Model
from xpnet.numerics.network import MLP
from xpnet.training.callbacks import Callback, EarlyStopping
from xpnet.training.config import TrainConfig
from xpnet.training.directory import RunDirectory
from xpnet.training.epochs import checkpointers, train
from xpnet.training.history import Epoch
from xpnet.training.loop import computing
from xpnet.training.prepare import DESCRIBED, check_arguments, fingerprint, prepare
from xpnet.training.progress import Progress

__all__ = ["Result", "fit"]


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


def fit(
    network: MLP,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    backend: Backend | None = None,
    callbacks: Iterable[Callback] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    sample_weight: ArrayLike | None = None,
    **settings: Any,
) -> Result:
    """Train a network on a data set.

    network : the network to train; its sizes must fit the data's pixels and classes.
    data : host arrays, which are copied to the device; those of a mapped file are streamed.
    config : the settings; those of the network, the data and the device are overridden by the arguments.
    backend : where to compute; None takes config.backend().
    callbacks : see callbacks.py; None shows progress on stderr, [] is silent.
    out : a directory for the run's files (config.toml, history.csv, model.safetensors, curves.png, and checkpoints of
        its state); None writes none.
    resume : whether to continue the run in out, if there is one, from its newest intact checkpoint. It ends with the
        same bits as one that never stopped on the same device, and within rounding on another one. Only epochs and
        on_nonfinite may differ from before.
    sample_weight : (n,), >= 0, the weight of each example of data.train in the training loss, times its class weight;
        scaled to a mean of 1, so that the learning rate keeps its meaning.
    settings : single settings of TrainConfig by name, over those of config.
    Returns a Result.
    Raises ConfigError for settings that do not fit the network, the data or the run in out, before any training;
    ModelError if that run was trained but has no intact checkpoint; NonFiniteError when the loss or a parameter stops
    being finite. However a run ends, KeyboardInterrupt included, the files of out hold the parameters as of the last
    finished epoch, or of the best one with early stopping. A disk that fails is reported, and training continues: see
    Result.unsaved.
    """
    check_arguments(network, data, config, backend)
    for name in settings.keys() & DESCRIBED:
        raise ConfigError(f"{name} describes the network: pass it to MLP", setting=name)
    if resume and out is None:
        raise ConfigError("resume continues the run in a directory: name it with out")
    config = (config or TrainConfig()).replace(**settings)
    backend = backend or config.backend()
    run, splits = prepare(network, data, config, backend, sample_weight)
    observers: list[Callback] = [Progress()] if callbacks is None else list(callbacks)
    if wrong := [observer for observer in observers if not isinstance(observer, Callback)]:
        raise TypeError(f"callbacks must be instances of Callback, such as xpnet.Progress(), not {wrong[0]!r}")
    if config.early_stopping is not None:
        observers.insert(0, EarlyStopping(config.early_stopping))
    if out is not None:
        observers.append(RunDirectory(out, resume=resume))
    observers.sort(key=lambda observer: observer.order)
    run.fingerprint = functools.partial(fingerprint, data, sample_weight)
    with contextlib.ExitStack() as ending:  # calls every on_end, the last observer's first, even if one raises
        if checkpointers(run, observers) or config.on_nonfinite == "rollback":
            over = threading.Event()
            hashing = ending.enter_context(ThreadPoolExecutor(1, "xpnet-fingerprint"))
            ending.callback(over.set)
            run.fingerprint = hashing.submit(fingerprint, data, sample_weight, over).result
        for observer in observers:
            observer.on_start(run)
            ending.callback(observer.on_end, run)
        ending.enter_context(computing(run))
        train(run, splits, observers)
    unsaved = next((observer.fault for observer in observers if observer.fault), None)
    return Result(run.model(), run.history, run.config, run.model_epoch, run.stop_reason, unsaved)
