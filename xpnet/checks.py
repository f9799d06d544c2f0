"""Checks of settings: of their types, names and ranges, each raising a ConfigError of one line.

Also the check for packages that only some uses need.
"""

import difflib
import math
from collections.abc import Iterable
from importlib import import_module
from numbers import Real
from typing import Any

from xpnet.errors import ConfigError, MissingPackageError

__all__ = ["check_one_of", "check_range", "interval", "nearest", "required", "typed"]

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a word",
    "bool": "true or false",
    "tuple[int, ...]": "a list of whole numbers",
    "tuple[str, ...]": "a list of words",
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
    if isinstance(value, (list, tuple)):
        for kind in ("int", "str"):
            if f"tuple[{kind}, ...]" in kinds:
                return tuple(typed(f"{name}[{i}]", v, kind) for i, v in enumerate(value))
    setting = _setting(name)
    number, whole = isinstance(value, Real), "int" in kinds
    if isinstance(value, int) and value.bit_length() > 1000:  # beyond what a float holds, and what text may say
        raise ConfigError(f"{name} must be below 2^63, not a number of {value.bit_length()} bits", setting=setting)
    if number and whole and math.isfinite(value) and abs(value) >= 2**63:
        raise ConfigError(f"{name} must be below 2^63, not {value:.3g}", setting=setting)
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
    expected = " or ".join(_WORDS.get(kind, kind) for kind in kinds if kind != "None")
    raise ConfigError(f"{name} must be {expected}, not {value!r}", setting=setting)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name most like another: "did you mean 'relu'? ", or "" where none is."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def check_one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raise ConfigError, naming the nearest known value, unless value is one of the known ones."""
    known = list(known)
    if value not in known:
        hint = nearest(str(value), known)
        message = f"{name}: unknown value {value!r}; {hint}the choices are {', '.join(known)}"
        raise ConfigError(message, setting=_setting(name))


def check_range(
    name: str, value: float, low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = True
) -> None:
    """Raise ConfigError unless value is a finite number between low and high; NaN never is."""
    above = value > low if low_open else value >= low
    below = value < high if high_open else value <= high
    if not (above and below and abs(value) < math.inf):
        expected = interval(low, high, low_open=low_open, high_open=high_open)
        if value == high == math.inf:
            expected = f"finite and {expected}"
        raise ConfigError(f"{name} must be {expected}, not {value:g}", setting=_setting(name))


def interval(low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = True) -> str:
    """A range of numbers in words: "at least 1", "more than 0", "in [0, 1)"."""
    if math.isinf(high):
        return f"more than {low:g}" if low_open else f"at least {low:g}"
    return f"in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"


def _setting(name: str) -> str:
    """The setting of which a name is a part: hidden of "hidden[0]", augment of "augment.rotation"."""
    return name.partition("[")[0].partition(".")[0]


def required(module: str, purpose: str, extra: str) -> Any:
    """Import a module of a package that only some uses need.

    module : its full name.   purpose : what needs it, the beginning of a sentence.   extra : the extra that brings it.
    Returns the module.   Raises MissingPackageError where the package is not installed or cannot be imported.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        why = "which is not installed" if missing else f"which cannot be imported ({error})"
        raise MissingPackageError(f'{purpose} needs {package}, {why}: pip install "xpnet[{extra}]"') from None
