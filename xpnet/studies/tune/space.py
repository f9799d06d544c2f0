"""The search space: read from TOML, checked, and converted to values that Optuna can propose."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xpnet.checks import check_range, nearest, typed
from xpnet.errors import ConfigError
from xpnet.files import package_text, parse_toml, read_text
from xpnet.training.config import SETTINGS, SMALL, TrainConfig

__all__ = ["Choices", "Dimension", "Layers", "Range", "default_space", "parse", "read_space"]

MAX_LAYERS = 1000
MAX_CHOICES = 200  # of a setting, each of which is tried on TrainConfig


def read_space(path: str | Path | None = None) -> dict[str, Any]:
    """Read the settings to search for.

    path : of a TOML file; None for xpnet/studies/tune/space.toml, which describes the format.
    Returns its table, for tune.   Raises ConfigError for a file that cannot be read or is not TOML.
    """
    if path is None:
        return tomllib.loads(package_text("xpnet.studies.tune", "space.toml"))
    return parse_toml(read_text(Path(path), "search space"), f"the search space {path}")


def default_space(config: TrainConfig) -> dict[str, Any]:
    """The space of xpnet/studies/tune/space.toml, without the settings that have no effect beside config's."""
    return {name: form for name, form in read_space().items() if not config.lacking(name)}


class Range(NamedTuple):
    """Numbers between two, on a linear or a logarithmic scale."""

    low: float
    high: float
    log: bool
    whole: bool

    def suggest(self, trial: Any, name: str) -> Any:
        suggest = trial.suggest_int if self.whole else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)

    def params(self, name: str, value: Any) -> dict[str, Any] | None:
        """Optuna's parameters for which suggest gives the value; None where it never does."""
        inside = isinstance(value, int | float) and self.low <= value <= self.high
        return {name: value} if inside else None

    def ends(self) -> list[Any]:
        """Values that are in order only if all are."""
        return [self.low, self.high]


class Choices(NamedTuple):
    """One of some values."""

    values: list[Any]

    def suggest(self, trial: Any, name: str) -> Any:
        keys = self._keys()
        return self.values[keys.index(trial.suggest_categorical(name, keys))]

    def params(self, name: str, value: Any) -> dict[str, Any] | None:
        return {name: self._keys()[self.values.index(value)]} if value in self.values else None

    def ends(self) -> list[Any]:
        return self.values

    def _keys(self) -> list[Any]:
        """The values as Optuna takes them, which knows no lists."""
        return [str(value) if isinstance(value, list) else value for value in self.values]


class Layers(NamedTuple):
    """Some hidden layers of the same width.

    Widths of their own would be parameters that only some trials have, and be learnt from those trials alone.
    """

    layers: Range | Choices
    width: Range | Choices

    def suggest(self, trial: Any, name: str) -> Any:
        return [self.width.suggest(trial, f"{name}.width")] * self.layers.suggest(trial, f"{name}.layers")

    def params(self, name: str, value: Any) -> dict[str, Any] | None:
        layers = self.layers.params(f"{name}.layers", len(value))
        width = self.width.params(f"{name}.width", value[0]) if len(set(value)) == 1 else None
        return None if layers is None or width is None else layers | width

    def ends(self) -> list[Any]:
        return [[width] for width in self.width.ends()]


Dimension = Range | Choices | Layers


def parse(space: Mapping[str, Any], config: TrainConfig) -> dict[str, Dimension]:
    """The dimensions of a space in the form of space.toml, checked.   Raises ConfigError."""
    config = config.resolved(SMALL, "cross-entropy")  # what the data have not decided
    try:
        if not space:
            raise ConfigError("there is no setting to search for")
        if "optimizer" in space and isinstance(space.get("lr"), Mapping) and space["lr"].get("relative"):
            raise ConfigError("lr cannot be relative while the optimizer, and so its own rate, is searched for")
        for name in space:
            if name in SETTINGS and (need := config.lacking(name, space)):
                raise ConfigError(f"{name} has no effect without {need}: leave it out")
        return {name: _dimension(name, form, config) for name, form in space.items()}
    except ValueError as error:  # as in read_recipe
        raise ConfigError(f"search space: {error}") from None


def _dimension(name: str, form: Any, config: TrainConfig) -> Dimension:
    """A setting's values, each of which TrainConfig takes."""
    searchable = {key: setting.type for key, setting in SETTINGS.items() if not setting.fixed}
    if name in SETTINGS and name not in searchable:
        raise ConfigError(f"{name} cannot be searched for: trials can only be compared if they share it")
    if name not in searchable:
        hint = nearest(name, searchable)
        raise ConfigError(f"unknown setting {name!r}; {hint}the choices are {', '.join(searchable)}")
    dimension: Dimension
    if name == "hidden" and isinstance(form, Mapping) and "choices" not in form:
        _check_keys(name, form, ["layers", "width"], ["layers", "width"])
        dimension = Layers(*(_values(f"hidden.{key}", form[key], "int", None) for key in ("layers", "width")))
        for count in dimension.layers.ends():
            check_range("hidden.layers", typed("hidden.layers", count, "int"), 0, MAX_LAYERS, high_open=False)
    else:
        start = config.rate if name == "lr" else getattr(config, name)
        dimension = _values(name, form, searchable[name], start)
    for value in dimension.ends():
        config.replace(**{name: value})
    return dimension


def _values(name: str, form: Any, annotation: str, start: Any) -> Range | Choices:
    """A range or choices of values of one type; start is what a relative range counts in."""
    if not isinstance(form, Mapping):
        raise ConfigError(f"{name} must be {{ low = ..., high = ... }} or {{ choices = [...] }}, not {form!r}")
    if "choices" in form:
        _check_keys(name, form, ["choices"], ["choices"])
        if not isinstance(form["choices"], list | tuple) or not form["choices"]:
            raise ConfigError(f"{name}: choices must be a list of at least one value, not {form['choices']!r}")
        if len(form["choices"]) > MAX_CHOICES:
            raise ConfigError(f"{name}: {len(form['choices'])} choices are too many; the cap is {MAX_CHOICES}")
        return Choices([list(value) if isinstance(value, tuple) else value for value in form["choices"]])
    _check_keys(name, form, ["low", "high", "log", "relative"], ["low", "high"])
    kinds = annotation.split(" | ")
    if "int" not in kinds and "float" not in kinds:
        raise ConfigError(f"{name} is not a number: list its values, {{ choices = [...] }}")
    relative, log = (typed(f"{name}.{key}", form.get(key, False), "bool") for key in ("relative", "log"))
    whole = "int" in kinds and not relative
    low, high = (typed(f"{name}.{key}", form[key], "int" if whole else "float") for key in ("low", "high"))
    if relative:
        if "int" in kinds or not isinstance(start, float):
            raise ConfigError(f"{name} cannot be relative to {start!r}, with which the search starts")
        low, high = low * start, high * start
    if not low < high:
        raise ConfigError(f"{name}: low must be less than high, but {low:g} is not less than {high:g}")
    if log and low <= 0:
        raise ConfigError(f"{name}: low must be more than 0 on a logarithmic scale, not {low:g}")
    return Range(low, high, log, whole)


def _check_keys(name: str, form: Mapping[str, Any], known: list[str], needed: list[str]) -> None:
    for key in form:
        if key not in known:
            raise ConfigError(f"{name}: unknown key {key!r}; {nearest(key, known)}the choices are {', '.join(known)}")
    for key in needed:
        if key not in form:
            raise ConfigError(f"{name} lacks {key!r}")
