"""A trained network on a device: its outputs, its scores, and the file that holds it."""

from .model import Ensemble, Measured, Model, Scores, confusion_matrix, load
from .storage import Stored, save

__all__ = ["Ensemble", "Measured", "Model", "Scores", "Stored", "confusion_matrix", "load", "save"]
