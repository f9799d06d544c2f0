"""A trained network on a device: its outputs, its scores, and the file that holds it."""

from .explaining import Explanation, Layer, Neighbours
from .metrics import (
    by_class,
    by_output,
    calibration_error,
    confusion_matrix,
    interval,
    macro_f1,
    most_confused,
    root_mean_square,
    top_accuracy,
    top_k,
)
from .model import UNSURE, Ensemble, Measured, Model, load
from .ordering import reordered
from .scoring import RegressionScores, Scores, features_on, hits_of, refuse_nan, scores_of, spread_of, targets_on
from .storage import Stored, save

__all__ = [
    "UNSURE",
    "Ensemble",
    "Explanation",
    "Layer",
    "Measured",
    "Model",
    "Neighbours",
    "RegressionScores",
    "Scores",
    "Stored",
    "by_class",
    "by_output",
    "calibration_error",
    "confusion_matrix",
    "features_on",
    "hits_of",
    "interval",
    "load",
    "macro_f1",
    "most_confused",
    "refuse_nan",
    "reordered",
    "root_mean_square",
    "save",
    "scores_of",
    "spread_of",
    "targets_on",
    "top_accuracy",
    "top_k",
]
