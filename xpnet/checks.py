"""The checks of settings: of their types, names and ranges, each ending in a ConfigError of one line."""

import difflib
import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

from xpnet.errors import ConfigError

__all__ = ["check_one_of", "check_range", "nearest", "typed"]

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a word",
    "bool": "true or false",
    "tuple[int, ...]": "a list of whole numbers",
}


def typed(name: str, value: Any, annotation: str) -> Any:
    """A setting's value as the Python type that its annotation names.

    value : of that type, or exactly convertible to it: NumPy's numbers and whole floats are.
    annotation : such as "int", "float | None", "tuple[int, ...]" or "int | Literal['full']".
    Returns the value, so that no NumPy scalar is left to promote arrays.   Raises ConfigError.
    """
    kinds = annotation.replace("Literal['full']", "full").split(" | ")
    if value is None and "None" in kinds:
        return None
    if isinstance(value, (list, tuple)) and "tuple[int, ...]" in kinds:
        return tuple(typed(f"{name}[{i}]", v, "int") for i, v in enumerate(value))
    number, whole = isinstance(value, Real), "int" in kinds
    if number and whole and math.isfinite(value) and abs(value) >= 2**63:
        raise ConfigError(f"{name} must be below 2^63, not {value:.3g}")
    if isinstance(value, bool):
        if "bool" in kinds:
            return value
    elif number:
        if whole and math.isfinite(value) and value == int(value):
            return int(value)
        if "float" in kinds:
            return float(value)
    elif isinstance(value, str) and ("str" in kinds or value in kinds):
        return value
    wanted = " or ".join(_WORDS.get(kind, kind) for kind in kinds if kind != "None")
    raise ConfigError(f"{name} must be {wanted}, not {value!r}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most like another: "did you mean 'relu'? ", or "" where none is."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def check_one_of(setting: str, value: str, known: Iterable[str]) -> None:
    """Raise ConfigError, naming the nearest known value, unless value is one of the known ones."""
    known = list(known)
    if value not in known:
        hint = nearest(str(value), known)
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
