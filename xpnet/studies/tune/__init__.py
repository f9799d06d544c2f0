"""The search for settings: Optuna proposes the settings of each trial, which is judged by its validation score.

    space = {"lr": {"low": 0.02, "high": 0.5, "log": True}, "hidden": {"choices": [[128], [256], [128, 128]]}}
    tuned = tune(data, space, trials=20)
    result = xpnet.fit(tuned.final.network(data.n_features, data.n_outputs, data.task), data, tuned.final)

The score is the accuracy, or R2 of numbers, rather than the loss, since losses cannot be compared between two loss
functions, nor between two degrees of label smoothing. No trial sees the test split.
"""

from .space import default_space, parse, read_space
from .storage import check_storage, masked
from .study import Trial, Tuned, tune
from .workers import working_in

__all__ = ["Trial", "Tuned", "check_storage", "default_space", "masked", "parse", "read_space", "tune", "working_in"]
