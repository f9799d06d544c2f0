"""xpnet export."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from xpnet import export as formats
from xpnet.cli.datasets import DataDir, DataName, data_for, labelled, newest_run, part_of, settings_of
from xpnet.cli.readings import UNSURE
from xpnet.cli.terminal import result_console
from xpnet.data import Split
from xpnet.errors import ConfigError, XpnetError
from xpnet.export.layers import rounded
from xpnet.files import parse_toml, write_atomically
from xpnet.model import Ensemble, Model, load
from xpnet.training.config import NETWORK, SETTINGS, TRAINING

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
    model = _together(members, runs)
    split, missing = _test_split(members[0], runs, data, data_dir)
    measured = None if split is None else model.measure(*split)
    scores = None if measured is None else measured.scores
    before = ""
    if quantize and split is not None:
        before = f", {_shown(scores)} with the weights as they were"
        measured = _together([rounded(member) for member in members], runs).measure(*split)
        scores = measured.scores
    about = {} if scores is None else {"test_r2" if hasattr(scores, "r2") else "test_accuracy": scores[1]}
    use = format.use.format(file=str(file))
    text = formats.card(
        model,
        file.name,
        use=format.use.format(file=file.name),
        what=format.what + (f"; weights in {quantize}" if quantize else ""),
        evidence=formats.Evidence(measured, missing, data or members[0].data),
        settings=_settings(runs),
        license=license,
        unsure=UNSURE,
    )
    formats.export(model, file, input=input, quantize=quantize, force=force, about=about)
    if card:
        write_atomically(readme, text.encode())
    networks = ", ".join(dict.fromkeys(str(member.network) for member in members))
    print(f"{file}: {networks}, {file.stat().st_size:,} bytes, {format.what}")
    if split is not None:
        print(f"test {_shown(scores)} on {len(split):,} examples{before}")
    elif quantize:
        print(f"what {quantize} costs was not measured: {missing}")
    if card:
        print(f"{readme}: its model card{'' if license else ', without a licence: --license names one'}")
    result_console().print(use, style="dim", soft_wrap=True)


def _together(members: list[Model], runs: list[Path]) -> Any:
    """One model, or several as an ensemble."""
    return Ensemble(members, list(map(str, runs))) if len(members) > 1 else members[0]


def _settings(runs: list[Path]) -> dict[str, str]:
    """What the networks were trained with, where that is known, and those settings that they do not leave off."""
    found: dict[str, dict[str, None]] = {}
    for config in filter(None, map(settings_of, runs)):
        for name, value in parse_toml(config.to_toml(), "config.toml").items():
            setting, plain = SETTINGS[name], value.items() if isinstance(value, dict) else value
            if setting.group not in (NETWORK, TRAINING) or (value in (False, 0.0) and name != "seed"):
                continue
            if not setting.optimizers or config.optimizer in setting.optimizers:
                shown = ", ".join(map(str, plain)) if isinstance(value, list | dict) else str(value)
                found.setdefault(name, {})[shown] = None
    return {name: "; ".join(values) for name, values in found.items()}


def _test_split(model: Model, runs: list[Path], data: str | None, data_dir: Path | None) -> tuple[Split | None, str]:
    """The examples to measure a model on; None, and the reason, where its own data is not to be had on this disk."""
    try:
        dataset = data_for(model, data, data_dir, runs[0], download=False)
        return labelled(part_of(dataset, "test", runs), dataset), ""
    except XpnetError as error:
        if data is not None:
            raise
        return None, str(error)


def _shown(scores: Any) -> str:
    """The figure that a model is judged by, in words."""
    return f"R2 {scores.r2:.4f}" if hasattr(scores, "r2") else f"accuracy {100 * scores.accuracy:.2f} %"
