"""xpnet export."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from xpnet import export as formats
from xpnet.cli.datasets import DataDir, DataName, data_for, labelled, newest_run, part_of
from xpnet.cli.terminal import result_console
from xpnet.data import Split
from xpnet.errors import XpnetError
from xpnet.export.layers import rounded
from xpnet.model import Ensemble, Model, load

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
    force: Annotated[bool, Parameter(negative="", help="Replace a file that exists.", show_default=False)] = False,
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
    runs = runs or [newest_run()]
    members = [load(path, "cpu") for path in runs]
    model = _together(members, runs)
    split, missing = _test_split(members[0], runs, data, data_dir)
    scores = None if split is None else model.measure(*split).scores
    before = ""
    if quantize and split is not None:
        before = f", {_shown(scores)} with the weights as they were"
        scores = _together([rounded(member) for member in members], runs).measure(*split).scores
    about = {} if scores is None else {"test_r2" if hasattr(scores, "r2") else "test_accuracy": scores[1]}
    formats.export(model, file, input=input, quantize=quantize, force=force, about=about)
    networks = ", ".join(dict.fromkeys(str(member.network) for member in members))
    print(f"{file}: {networks}, {file.stat().st_size:,} bytes, {format.what}")
    if split is not None:
        print(f"test {_shown(scores)} on {len(split):,} examples{before}")
    elif quantize:
        print(f"what {quantize} costs was not measured: {missing}")
    result_console().print(format.use.format(file=str(file)), style="dim", soft_wrap=True)


def _together(members: list[Model], runs: list[Path]) -> Any:
    """One model, or several as an ensemble."""
    return Ensemble(members, list(map(str, runs))) if len(members) > 1 else members[0]


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
