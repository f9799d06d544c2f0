"""Recipes: settings with a story, as TOML files. Those that come with xpnet are next to this file.

A recipe of xpnet is known by its name; your own is given by the path of its file.
"""

import os
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from xpnet.checks import check_range, nearest, typed
from xpnet.errors import ConfigError
from xpnet.files import package_text, parse_toml, read_text
from xpnet.training.config import TrainConfig

__all__ = ["Recipe", "read_recipe", "recipe_names", "recipe_text"]


class Recipe(NamedTuple):
    """Settings with a source: a TOML file of settings of TrainConfig and, optionally, a table [about].

    settings : by name, for TrainConfig.replace.
    short : the recipe in a phrase, what : in a sentence.   source : where it comes from.
    reported, measured : accuracy on MNIST's test set in %, as the source reports it and as xpnet reaches it, or None.
    changed : the differences from the source.
    seeds : number of runs of xpnet reproduce; 0 for none unless it is named.
    members : networks, of consecutive seeds, in a committee; 0 for a recipe of single networks.
    """

    settings: dict[str, Any]
    short: str = ""
    what: str = ""
    source: str = ""
    reported: float | None = None
    measured: float | None = None
    changed: str = ""
    seeds: int = 0
    members: int = 0


def recipe_names() -> list[str]:
    """Names of the recipes that come with xpnet."""
    files = resources.files("xpnet.recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def recipe_text(name_or_path: str | Path) -> str:
    """The TOML of a recipe, by the name of one that comes with xpnet or the path of a file.

    Raises ConfigError for an unknown recipe or a file that cannot be read.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or os.path.isfile(path):
        return read_text(path, "recipe")
    known = recipe_names()
    if name_or_path not in known:
        hint = nearest(str(name_or_path), known)
        raise ConfigError(
            f"unknown recipe {str(name_or_path)!r}; {hint}the choices are {', '.join(known)}, and .toml files"
        )
    return package_text("xpnet.recipes", f"{name_or_path}.toml")


def read_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by the name of one that comes with xpnet, or by the path of a TOML file.

    Raises ConfigError for an unknown recipe, a file that is not TOML, a bad value, or an unknown key, naming the
    nearest known one.
    """
    settings = parse_toml(recipe_text(name_or_path), f"recipe {name_or_path}")
    try:
        about = _about(settings.pop("about", {}))
        TrainConfig().replace(**settings)
    except ValueError as error:  # a whole number of thousands of digits is none that an error can quote
        raise ConfigError(f"recipe {name_or_path}: {error}") from None
    return Recipe(settings, **about)


def _about(table: Any) -> dict[str, Any]:
    """The table [about] of a recipe, checked."""
    kinds = {
        **dict.fromkeys(("short", "what", "source", "changed"), "str"),
        **dict.fromkeys(("reported", "measured"), "float"),
        **dict.fromkeys(("seeds", "members"), "int"),
    }
    if not isinstance(table, dict):
        raise ConfigError(f"about must be a table, not {table!r}")
    for key in table:
        if key not in kinds:
            raise ConfigError(
                f"unknown key {key!r} in [about]; {nearest(key, kinds)}the choices are {', '.join(kinds)}"
            )
    about = {key: typed(key, value, kinds[key]) for key, value in table.items()}
    for key in about.keys() & {"seeds", "members"}:
        check_range(key, about[key], 0)
    for key in about.keys() & {"reported", "measured"}:
        check_range(key, about[key], 0.0, 100.0, high_open=False)
    return about
