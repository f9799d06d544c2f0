"""The errors a user can cause and mend, each one line, and the two checks that raise most of them.

The data room has DataError and the backend room DeviceError, since those rooms import nothing of xpnet.
"""

import difflib
import math
from collections.abc import Iterable

__all__ = ["ConfigError", "ModelError", "NonFiniteError", "check_one_of", "check_range"]


class ConfigError(ValueError):
    """A setting that is unknown, out of range, or at odds with another one or with the data."""


class ModelError(ValueError):
    """A model file or run directory that cannot be read, or a model that does not fit the data."""


class NonFiniteError(ArithmeticError):
    """A training run whose loss or parameters stopped being finite."""


def check_one_of(setting: str, value: object, known: Iterable[str]) -> None:
    """Raise ConfigError, naming the nearest known value, unless value is one of the known ones."""
    known = list(known)
    if value in known:
        return
    near = difflib.get_close_matches(str(value).lower(), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"{setting}: unknown value {value!r}; {hint}known are {', '.join(known)}")


def check_range(
    setting: str, value: float, low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = True
) -> None:
    """Raise ConfigError unless value is a finite number between low and high; NaN never is."""
    above = value > low if low_open else value >= low
    below = value < high if high_open else value <= high
    if not (above and below and math.isfinite(value)):
        if math.isinf(high):
            wanted = f"more than {low:g}" if low_open else f"at least {low:g}"
        else:
            wanted = f"in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise ConfigError(f"{setting} must be {wanted}, not {value:g}")
