"""xpnet import."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from xpnet.cli.datasets import new_run
from xpnet.cli.terminal import result_console
from xpnet.errors import ConfigError
from xpnet.export import read
from xpnet.export.reader import READERS

__all__ = ["import_"]


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
    data: Annotated[
        str | None, Parameter(help="Name of the data set that it was trained on, to measure it by.")
    ] = None,
) -> None:
    """Make a model of xpnet from a file of ONNX, PyTorch, Keras, .npz or .json.

    It must be a plain MLP; what is none is refused by the name of the layer
    that is not. Nothing in the file is executed. A run directory is written
    that evaluate, predict and export take, with the file's own outputs.
    """
    model = read(file, loss=loss, activation=activation, white=white, data=data)
    out = out or new_run(file.stem)
    if os.path.lexists(out / "model.safetensors"):
        raise ConfigError(f"{out} already holds a model, which is left unchanged: name another directory")
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model.safetensors")
    classes = f", {len(model.classes)} classes" if model.task == "classification" else ""
    print(f"{file}: {model.network}, {model.network.loss}{classes}, {model.summary().parameters:,} parameters")
    if model.network.loss == "squared-error" and loss is None and not model.data:
        print("its outputs are taken for numbers; those of a classifier need --loss cross-entropy")
    result_console().print(f"saved in {out}", style="dim", soft_wrap=True)
