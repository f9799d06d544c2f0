"""Where models go, and come from: a trained network as a file for other programs, chosen by its suffix, and back.

    import xpnet

    xpnet.export.export(xpnet.load("runs/mnist"), "mnist.onnx")
    model = xpnet.export.read("mnist.onnx")

Nothing in a file that is read is executed.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from xpnet.checks import check_one_of, nearest
from xpnet.data import Split
from xpnet.errors import ConfigError
from xpnet.export.card import Evidence, card
from xpnet.export.layers import Layers, described
from xpnet.export.onnx_reader import from_onnx
from xpnet.export.reader import read
from xpnet.export.sklearn import from_sklearn
from xpnet.export.torch import from_torch, to_torch
from xpnet.files import write_atomically
from xpnet.model import Ensemble, Model

__all__ = [
    "FORMATS",
    "Evidence",
    "Format",
    "Layers",
    "card",
    "described",
    "export",
    "format_of",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "read",
    "to_torch",
]


class Format(NamedTuple):
    """A format that models are written in.

    module : the module of this room whose function content(model, **options) returns the file's bytes.
    what : what such a file is, in some words.   use : how to use one, a line in which {file} stands for its name.
    options : those of export that content takes, all of them keywords; "name", the file's without the suffix; "suffix".
    """

    module: str
    what: str
    use: str
    options: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    ".onnx": Format(
        "onnx",
        "ONNX, for onnxruntime and most other engines (extra onnx)",
        "onnxruntime.InferenceSession({file!r}).run(None, {{'input': rows}})",
        ("input", "quantize", "about"),
    ),
    ".pt": Format(
        "torch",
        "PyTorch, a state_dict and the lines that construct its network (extra torch)",
        "print(torch.load({file!r}, weights_only=True)['construction'])",
        ("about",),
    ),
    ".keras": Format(
        "keras",
        "Keras, a model of built-in layers (extra keras)",
        "keras.saving.load_model({file!r}).predict(rows)",
        ("about",),
    ),
    ".npz": Format(
        "arrays",
        "NumPy's arrays and what they are for",
        "print(*json.loads(numpy.load({file!r})['description'].tobytes())['about'], sep='\\n')",
        ("about", "suffix"),
    ),
    ".json": Format(
        "arrays",
        "JSON, with the formula in it",
        "print(*json.loads(pathlib.Path({file!r}).read_text())['about'], sep='\\n')",
        ("about", "suffix"),
    ),
    ".html": Format(
        "page",
        "one page that draws, asks and answers, without a server",
        "open {file} in a browser, here or on a phone",
        ("quantize", "about", "examples", "examples_of"),
    ),
    ".h": Format(
        "header",
        "C99, one header for microcontrollers",
        '#include "{file}"',
        ("input", "quantize", "about", "name"),
    ),
}


def format_of(path: Path, *, force: bool = False, **options: Any) -> Format:
    """The format that a path's suffix names.

    force, options : as in export; what is None is not asked for.
    Raises ConfigError for a suffix that is unknown, naming those that are known, a file that exists or has no folder,
    or an option that the format has not.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        hint = nearest(path.suffix, FORMATS) if path.suffix else ""
        raise ConfigError(f"{path}: a model's file ends in one of {', '.join(FORMATS)}; {hint}name it so")
    for name, known in (("input", ("uint8", "float32")), ("quantize", ("int8",))):
        if options.get(name) is None:
            continue
        check_one_of(name, str(options[name]), known)
        if name not in found.options:
            raise ConfigError(f"{name} is not for {path.suffix} files: leave it out")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: no such directory {path.parent}; create it, or name another file")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists: choose another name, or replace it with force (--force)")
    return found


def export(
    model: Model | Ensemble,
    path: str | Path,
    *,
    input: Literal["uint8", "float32"] | None = None,
    quantize: Literal["int8"] | None = None,
    force: bool = False,
    about: Mapping[str, Any] | None = None,
    examples: Split | None = None,
    examples_of: Literal["test", "train"] = "test",
) -> None:
    """Write a model, or several whose outputs are averaged, for other programs; scaling and output are in the file.

    path : its suffix is one of FORMATS.
    input : what the file takes. By default uint8 for a model of pixels, from 0 to its white, and float32 for others.
    quantize : "int8" keeps the weights in a byte each, with a scale for each unit.
    force : replace a file that exists.
    about : further entries for the file's own description, such as {"accuracy": 0.98}, where the format has one.
    examples : of the model's data, for a page: those that it begins with, and what its weights are rounded by.
    examples_of : the split that they are.
    Raises ConfigError for a suffix, an option or a model that does not fit, or a file that exists;
    MissingPackageError where a package is missing; OSError where the file cannot be written.
    """
    path = Path(path)
    options: dict[str, Any] = {"input": input, "quantize": quantize, "about": about, "examples": examples}
    format = format_of(path, force=force, **options)
    options |= {"name": path.stem, "suffix": path.suffix.lower(), "examples_of": examples_of}
    taken = {name: value for name, value in options.items() if name in format.options and value is not None}
    write_atomically(path, import_module(f"xpnet.export.{format.module}").content(model, **taken))
