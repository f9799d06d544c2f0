"""The settings of TrainConfig as flags, made from the table that describes them."""

import dataclasses
import functools
import inspect
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter, Token

from xpnet.backend import Backend
from xpnet.cli.terminal import loading
from xpnet.data import Dataset, load_data
from xpnet.errors import ConfigError, ModelError
from xpnet.model import Model, load
from xpnet.numerics.augment import STANDARD, Distortion
from xpnet.numerics.network import MLP
from xpnet.recipes import read_recipe
from xpnet.training.checkpoint import newest_checkpoint
from xpnet.training.config import SETTINGS, TrainConfig
from xpnet.training.prepare import DESCRIBED
from xpnet.training.setting import GROUPS
from xpnet.training.start import with_classes_of

__all__ = [
    "AMOUNTS",
    "RUN",
    "SOURCE",
    "Amounts",
    "Dark",
    "DataDir",
    "Indices",
    "NoDownload",
    "Pictures",
    "RecipeName",
    "Unsure",
    "chosen",
    "flag_name",
    "indices",
    "opened",
    "shown",
    "span_of",
    "takes_settings",
    "whole_numbers",
]

Function = TypeVar("Function", bound=Callable[..., Any])

_GROUPS = {name: Group(name, sort_key=order) for order, name in enumerate(GROUPS, 1)}
SOURCE, _, _, RUN = _GROUPS.values()

# Flags that are not called as their setting: "from" is a word of Python's.
_FLAGS = {"start": "from"}

# Flags that the commands share that train.
DataDir = Annotated[Path | None, Parameter(group=SOURCE, help="Folder to search first for data sets.")]
Dark = Annotated[bool, Parameter(negative="", help="Draw the picture on a dark ground.", show_default=False)]
NoDownload = Annotated[bool, Parameter(group=SOURCE, negative="", help="Do not download data.", show_default=False)]
RecipeName = Annotated[
    str | None, Parameter(group=RUN, help="Name of a recipe, or a TOML file of settings; flags override it.")
]

# How --augment is explained, wherever it is a flag.
AMOUNTS = f"Amounts by name ({', '.join(f.name for f in dataclasses.fields(Distortion))}); without any, {STANDARD}."


def flag_name(setting: str) -> str:
    """The flag of a setting, as it is typed: --batch-size for batch_size."""
    return "--" + _FLAGS.get(setting, setting).replace("_", "-")


def takes_settings(command: Function) -> Function:
    """Give a command's keyword arguments **settings the flags of TrainConfig; it receives those that were typed."""
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=own + _flags())  # type: ignore[attr-defined]
    return command


def chosen(recipe: str | None, settings: dict[str, Any], run: Path | None = None) -> TrainConfig:
    """The settings of a recipe, or of a run that is to continue, overridden by those given as flags."""
    if run is None and settings.get("start") and (described := sorted(settings.keys() & DESCRIBED)):
        flags = ", ".join(map(flag_name, described))
        raise ConfigError(f"the network is that of {settings['start']}: leave out {flags}, or --from")
    if isinstance(words := settings.get("augment"), tuple):  # an empty one is the flag alone
        settings = {**settings, "augment": _amounts(words) if words else STANDARD}
    if run is None:
        config = TrainConfig().replace(**{**({} if recipe is None else read_recipe(recipe).settings), **settings})
        if config.early_stopping is not None and config.validation == 0.0:  # before the data are read
            raise ConfigError(
                "early_stopping needs a validation split: leave out --validation 0", setting="early_stopping"
            )
        return config
    if "device" in settings:  # whose library the run's need not be
        settings = {"library": None, **settings}
    return _stored(run).replace(**settings)


def opened(
    config: TrainConfig, data_dir: Path | None, *, download: bool, local_rank: int = 0
) -> tuple[Backend, Dataset, MLP | Model]:
    """The device, the data and the network that a command's settings name; a Model where one is trained further.

    local_rank : as in xpnet.select.
    """
    backend = config.backend(local_rank)
    with loading() as bar:
        data = load_data(config.data, data_dir=data_dir, download=download, progress=bar, **config.reading)
    if config.start is None:
        return backend, data, config.network(data.n_features, data.n_outputs, data.task)
    model = load(config.start, backend.device, backend.name)
    return backend, with_classes_of(model, data), model


def _stored(run: Path) -> TrainConfig:
    """The settings of the run in a directory: those of its newest intact checkpoint, or of its config.toml."""
    checkpoint, _ = newest_checkpoint(run / "checkpoints")
    if checkpoint is not None:
        try:
            return TrainConfig().replace(**tomllib.loads(checkpoint.settings))
        except ConfigError as error:
            raise ConfigError(f"the newest checkpoint of {run}: {error}") from None
    if not (run / "config.toml").is_file():
        several = sum(path.is_dir() for path in run.glob("seed-*"))
        if several > 1:
            raise ModelError(f"{run} holds the runs of several seeds: add --seeds {several}")
        raise ModelError(
            f"{run} holds no run to continue: it has neither checkpoints nor a config.toml; start one with --out"
        )
    return TrainConfig().replace(**read_recipe(run / "config.toml").settings)


def _flags() -> list[inspect.Parameter]:
    flags = []
    for name, setting in SETTINGS.items():
        described = functools.partial(
            Parameter,
            name=flag_name(name),
            group=_GROUPS[setting.group],
            help=f"{setting.explained()} {AMOUNTS}" if name == "augment" else setting.explained(),
            show_default=setting.default is not None and shown(setting.default),
        )
        annotation: Any
        if setting.type == "bool":
            annotation = Annotated[bool | None, described()]
        elif "tuple" in setting.type:
            several, what = (_numbers, "N...") if "int" in setting.type else (_words, "RUN...")
            annotation = Annotated[
                tuple[Any, ...] | None,
                described(converter=several, consume_multiple=(1, None), negative=(), metavar=what),
            ]
        elif "Distortion" in setting.type:
            annotation = Annotated[Amounts, described()]
        else:
            converter = None if setting.type in ("str", "str | None") else _number
            annotation = Annotated[
                str | int | float | None, described(converter=converter, metavar=_metavar(setting.type))
            ]
        flags.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return flags


def whole_numbers(kind: Any, tokens: Sequence[Token]) -> int | list[int]:
    """A converter for flags that take whole numbers, which are not rounded; a list where the flag takes several."""
    for token in tokens:
        if not re.fullmatch("[+-]?[0-9]{1,4000}", token.value):
            raise ConfigError(f"{token.value!r} is not a whole number")
    numbers = [int(token.value) for token in tokens]
    return numbers[0] if kind is int else numbers


def indices(_: Any, tokens: Sequence[Token]) -> list[range]:
    """A converter for flags that take indices and ranges of them: 7 9, or 0-9,20."""
    found = []
    for word in (word for token in tokens for word in token.value.split(",") if word):
        if (span := span_of(word)) is None:
            raise ConfigError(f"{word!r} is not a whole number, nor a range such as 0-9")
        found.append(span)
    if not found:
        raise ConfigError("no index is given; write 7, or 0-9,20")
    return found


Pictures = Annotated[
    Path,
    Parameter(
        name="[RUN] [PICTURE...]",
        help="A run directory or a .safetensors file, by default the newest run in runs; then pictures of one or "
        "several digits, before any --index.",
    ),
]
Indices = Annotated[
    list[range] | None,
    Parameter(
        converter=indices,
        help="Examples of the split, by index: 3 5, or 0-9,20.",
        consume_multiple=(1, None),
        negative="",
        metavar="N...",
    ),
]
Unsure = Annotated[float, Parameter(help="Call a prediction unsure that is less probable; 0 for none.", metavar="P")]


def span_of(word: str) -> range | None:
    """The indices that a word stands for, 7 or 0-9, both ends included; None for any other word.

    Raises ConfigError for a range without an index.
    """
    match = re.fullmatch("(-?[0-9]{1,4000})(?:-([0-9]{1,4000}))?", word)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ConfigError(f"{word} is no range: its last index comes first; write {last}-{first}")
    return range(first, last + 1)


def _number(_: Any, tokens: Sequence[Token]) -> int | float | str | None:
    """The typed text as a number if it is one; TrainConfig reports anything else in its own words."""
    text = tokens[0].value
    if text.lower() == "none":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _numbers(_: Any, tokens: Sequence[Token]) -> tuple[Any, ...]:
    """Numbers apart or joined by commas: 512 256, or 512,256, or none."""
    words = [word for token in tokens for word in token.value.split(",") if word]
    if [word.lower() for word in words] == ["none"]:
        return ()
    return tuple(_number(None, [Token(value=word)]) for word in words)


def _words(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Words apart, as they are typed, or none."""
    words = tuple(token.value for token in tokens)
    return () if [word.lower() for word in words] == ["none"] else words


def _words_of_amounts(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Amounts by name, rotation=15 alpha=34, or none, as they are typed."""
    words = tuple(token.value for token in tokens)
    if [word.lower() for word in words] != ["none"]:
        for word in words:
            if "=" not in word:
                raise ConfigError(f"{word!r} is not an amount of distortion, such as rotation=15")
    return words


def _amounts(words: tuple[str, ...]) -> dict[str, Any] | None:
    """What such words stand for."""
    if [word.lower() for word in words] == ["none"]:
        return None
    pairs = (word.split("=", 1) for word in words)
    return {name: _number(None, [Token(value=value)]) for name, value in pairs}


# The type of --augment; alone it is an empty tuple, from which chosen makes STANDARD.
Amounts = Annotated[
    tuple[str, ...] | None,
    Parameter(converter=_words_of_amounts, consume_multiple=True, negative=(), metavar="NAME=X..."),
]


def shown(value: Any) -> str:
    """A setting's value as it would be typed."""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return ("no", "yes")[value] if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _metavar(annotation: str) -> str:
    if "Literal" in annotation:
        return "N|full"
    return {"int": "N", "float": "X", "int | str": "N|SECONDS", "float | str": "X|N|FILE"}.get(
        annotation.removesuffix(" | None"), "NAME"
    )
