"""Pictures of a run: curves, confusion matrix, mistakes, first-layer weights, learning-rate range test; and films.

Each function takes host arrays and returns a matplotlib Figure, which can be saved with save or shown by a notebook (in
Jupyter, after %matplotlib inline); film yields pictures for save_film. Within dark() all are drawn on a dark ground.
None of them needs a display, imports pyplot, or reads or changes the user's matplotlib settings.
"""

from .explanations import explanation
from .films import Plane, Scenes, film, save_film
from .lines import curves, learning_rates
from .matrix import confusion
from .style import MOST_TILES, dark, format_of, save
from .tiles import mistakes, weights

__all__ = [
    "MOST_TILES",
    "Plane",
    "Scenes",
    "confusion",
    "curves",
    "dark",
    "explanation",
    "film",
    "format_of",
    "learning_rates",
    "mistakes",
    "save",
    "save_film",
    "weights",
]
