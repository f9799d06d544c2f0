"""xpnet export."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from xpnet import export as formats
from xpnet.cli.datasets import DataDir, DataName, figure, in_words, newest_run, settings_of, test_split, together
from xpnet.cli.settings import shown
from xpnet.cli.terminal import result_console
from xpnet.errors import ConfigError
from xpnet.export.layers import rounded
from xpnet.files import parse_toml, write_atomically
from xpnet.model import UNSURE, load
from xpnet.training.config import SETTINGS
from xpnet.training.setting import NETWORK, TRAINING

__all__ = ["export"]


def export(
    paths: Annotated[
        list[Path],
        Parameter(
            help="Run directories or .safetensors files, whose outputs are averaged, by default the newest in runs; "
            f"and last the file to write: {', '.join(formats.FORMATS)}.",
            metavar="[MODEL...] FILE",
            negative="",
        ),
    ],
    /,
    *,
    input: Annotated[
        Literal["uint8", "float32"] | None,
        Parameter(help="What the file takes; by default bytes for a model of pixels, which it scales itself."),
    ] = None,
    quantize: Annotated[
        Literal["int8"] | None,
        Parameter(help="Keep the weights in a byte each, and measure what that costs on the test split."),
    ] = None,
    card: Annotated[
        bool,
        Parameter(negative="", help="Write README.md beside it, a model card as hubs read it.", show_default=False),
    ] = False,
    license: Annotated[
        str | None, Parameter(help="Licence of the model, for its card: an identifier such as mit.", metavar="NAME")
    ] = None,
    force: Annotated[bool, Parameter(negative="", help="Replace files that exist.", show_default=False)] = False,
    data: DataName = None,
    data_dir: DataDir = None,
) -> None:
    """Write a trained model, or several as one, as a file for other programs; its suffix says for which.

    The file takes pixels or features as they come, since scaling is inside.
    Where the model's data is on disk, the accuracy on its test split is
    measured, and stands in the file.
    """
    *runs, file = paths
    format = formats.format_of(file, force=force, input=input, quantize=quantize)
    readme = file.with_name("README.md")
    if card and readme.exists() and not force:
        raise ConfigError(f"{readme} exists: move it away, leave out --card, or replace it with --force")
    if license is not None and not card:
        raise ConfigError("--license stands in the model card: add --card")
    runs = runs or [newest_run()]
    members = [load(path, "cpu") for path in runs]
    model = together(members, runs)
    examples, missing = test_split(members[0], runs, data, data_dir, or_train="examples" in format.options)
    split = None if missing else examples
    measured = None if split is None else model.measure(*split)
    scores = None if measured is None else measured.scores
    before = ""
    if quantize and split is not None:
        before = f", {in_words(scores)} with the weights as they were"
        measured = together([rounded(member) for member in members], runs).measure(*split)
        scores = measured.scores
    use = format.use.format(file=str(file))
    text = formats.card(
        model,
        file.name,
        use=format.use.format(file=file.name),
        what=format.what.partition(" (extra")[0] + (f"; weights in {quantize}" if quantize else ""),
        evidence=formats.Evidence(measured, missing, data or members[0].data),
        settings=_settings(runs),
        license=license,
        unsure=UNSURE,
        input=input,
    )
    of: Literal["test", "train"] = "train" if missing else "test"
    formats.export(
        model,
        file,
        input=input,
        quantize=quantize,
        force=force,
        about=figure(scores),
        examples=examples,
        examples_of=of,
    )
    if card:
        write_atomically(readme, text.encode())
    networks = ", ".join(dict.fromkeys(str(member.network) for member in members))
    print(f"{file}: {networks}, {file.stat().st_size:,} bytes, {format.what}")
    if split is not None:
        print(f"test {in_words(scores)} on {len(split):,} examples{before}")
    elif quantize:
        print(f"what {quantize} costs was not measured: {missing}")
    if card:
        print(f"{readme}: its model card{'' if license else ', without a licence: --license names one'}")
    result_console().print(use, style="dim", soft_wrap=True)


def _settings(runs: list[Path]) -> dict[str, str]:
    """What the networks were trained with, where that is known, and those settings that they do not leave off."""
    found: dict[str, dict[str, None]] = {}
    for config in filter(None, map(settings_of, runs)):
        for name, value in parse_toml(config.to_toml(), "config.toml").items():
            setting = SETTINGS[name]
            off = value in (False, 0.0, []) and name not in ("seed", "hidden")
            if setting.group in (NETWORK, TRAINING) and not off and not config.lacking(name):
                found.setdefault(name, {})[_typed(value)] = None
    return {name: "; ".join(values) for name, values in found.items()}


def _typed(value: Any) -> str:
    """A setting's value of a TOML file in words; augment is a table."""
    if isinstance(value, dict):
        return " ".join(f"{name}={shown(amount)}" for name, amount in value.items() if amount)
    return shown(tuple(value) if isinstance(value, list) else value)
