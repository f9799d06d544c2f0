"""A trained network on a device: its outputs, its scores, and the file that holds it."""

from .explaining import Explanation, Layer, Neighbours
from .model import UNSURE, Ensemble, Measured, Model, calibration_error, confusion_matrix, load
from .scoring import RegressionScores, Scores, features_on, hits_of, scores_of, spread_of, targets_on
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
    "calibration_error",
    "confusion_matrix",
    "features_on",
    "hits_of",
    "load",
    "save",
    "scores_of",
    "spread_of",
    "targets_on",
]
