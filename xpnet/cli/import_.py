"""xpnet import."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from xpnet.cli.datasets import DataDir, in_words, new_run, test_split
from xpnet.cli.terminal import result_console
from xpnet.data import SETS, Split
from xpnet.data.packed import expanded
from xpnet.data.schema import form_of
from xpnet.errors import ConfigError, XpnetError
from xpnet.export import read
from xpnet.export.reader import READERS
from xpnet.model import Model

__all__ = ["import_"]

_LOGITS = "those of a classifier need --loss cross-entropy"


def import_(
    file: Annotated[Path, Parameter(help=f"What another program wrote, or xpnet export: {', '.join(READERS)}.")],
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Run directory to write; by default runs/<time>-<name>.", metavar="DIR")
    ] = None,
    loss: Annotated[
        str | None,
        Parameter(help="What the outputs are, where the file does not say it: cross-entropy for logits of classes."),
    ] = None,
    activation: Annotated[
        str | None, Parameter(help="Activation of the hidden layers, where the file does not say it: of a state_dict.")
    ] = None,
    white: Annotated[
        float | None,
        Parameter(help="Largest value of a pixel in the data, such as 255, where the network takes pixels in [0, 1]."),
    ] = None,
    mean: Annotated[float | None, Parameter(help="What was subtracted from them after that, such as 0.1307.")] = None,
    std: Annotated[float | None, Parameter(help="What they were divided by in the end, such as 0.3081.")] = None,
    data: Annotated[
        str | None, Parameter(help="Name or path of the data set that it was trained on, to measure it by.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a model of xpnet from a file of ONNX, PyTorch, Keras, .npz or .json.

    It must be a plain MLP; anything else is refused, and the layer at fault is
    named. Nothing in the file is executed. A run directory is written that
    evaluate, predict and export take, with the file's own outputs. Where the
    data is on disk, the accuracy on its test split shows whether the pixels and
    the loss are those that the network was trained with.
    """
    model = read(file, loss=loss, activation=activation, white=white, mean=mean, std=std, data=_in_full(data))
    out = out or new_run(file.stem)
    if os.path.lexists(out / "model.safetensors"):
        raise ConfigError(f"{out} already holds a model, which is left unchanged: name another directory")
    split, _ = test_split(model, [out], data, data_dir, or_train=False) if model.data else (None, "")
    if split is not None and data is not None:  # which the file may not know
        seen = {"image_shape": split.images.shape[1:], "form": form_of(split.images)}
        model = dataclasses.replace(model, schema=dataclasses.replace(model.schema, **seen))
    measured = "" if split is None else f"test {in_words(_scores(model, split))} on {len(split):,} examples"
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model.safetensors")
    classes = f", {len(model.classes)} classes" if model.task == "classification" else ""
    print(f"{file}: {model.network}, {model.network.loss}{classes}, {model.summary().parameters:,} parameters")
    if measured:
        print(measured)
    elif model.network.loss == "squared-error" and loss is None and not model.data:
        print(f"its outputs are taken for numbers; {_LOGITS}")
    result_console().print(f"saved in {out}", style="dim", soft_wrap=True)


def _in_full(data: str | None) -> str | None:
    """The name of a data set, or its path from the root, so that it is found from anywhere."""
    return data if data is None or data in SETS else str(expanded(Path(data)).absolute())


def _scores(model: Model, split: Split) -> Any:
    """How well the model does; a hint with the error where logits were taken for numbers."""
    try:
        return model.evaluate(*split)
    except XpnetError as error:
        raise ConfigError(f"{error}" + (f"; {_LOGITS}" if model.task == "regression" else "")) from None
