"""PyTorch's .pt files read back: those of xpnet, and plain state_dicts of Linear layers.

torch.load reads them with weights_only=True, so that nothing in them is executed. A state_dict does not say what stands
between its layers: a file of xpnet does, and for any other the caller must. Where the layers are those of a Sequential,
their numbers show at least whether something can stand there. Those of a ModuleList, which look alike, show nothing.
"""

import io
import json
import logging
import warnings
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from xpnet.checks import check_one_of, required
from xpnet.errors import ConfigError, ModelError, XpnetError
from xpnet.export.models import model_of
from xpnet.export.torch import from_torch, module_of
from xpnet.files import read_whole
from xpnet.model import Model
from xpnet.numerics.functional import ACTIVATIONS
from xpnet.numerics.network import MLP

__all__ = ["from_state_dict", "read"]

MAX_BYTES = 1 << 32

_STATES = ("state_dict", "model_state_dict", "model")
"""Where programs that save more than a state_dict keep it."""

logger = logging.getLogger("xpnet")


def read(path: Path, *, activation: str | None = None, loss: str | None = None) -> Model:
    """The model of a .pt file, on the CPU with NumPy.

    activation, loss : as in from_state_dict; a file of xpnet says them itself.
    Raises ModelError for a file that holds no state_dict of a plain MLP; ConfigError where the activation is not known;
    MissingPackageError without torch; OSError where the file cannot be read.
    """
    torch = required("torch", "A .pt file", "torch")
    content = read_whole(path, MAX_BYTES)
    try:
        found = _loaded(torch, content)
        text = json.loads(found["description"]) if isinstance(found.get("description"), str) else {}
        state = next((found[name] for name in _STATES if isinstance(found.get(name), Mapping)), found)
        activation, loss = activation or text.get("activation"), loss or text.get("loss")
        model = from_state_dict(state, activation=activation, loss=loss, most=len(content))
        if not text and len(model.network.sizes) > 2:
            _tell(path, model.network)
        schema = model.schema
        return model_of(
            *(model.network, model.params, model.running),
            features=schema.features,
            targets=schema.targets,
            temperature=schema.temperature,
            text=text,
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except XpnetError as error:
        raise ModelError(f"{path}: {error}") from None
    except (AttributeError, TypeError, ValueError, RecursionError) as error:  # the description may be any JSON
        raise ModelError(f"{path}: damaged, or not a network that xpnet wrote ({error})") from None


def from_state_dict(
    state: Mapping[str, Any], *, activation: str | None = None, loss: str | None = None, most: int = MAX_BYTES
) -> Model:
    """The model of a state_dict of Linear layers and BatchNorm1d, in their order.

    activation : what stands behind each hidden layer, a key of functional.ACTIVATIONS; needed where there is any.
    loss : as in from_torch.   most : bytes that a tensor may take.
    Raises ModelError for a tensor of any other layer, naming it, and for layers of a Sequential whose numbers leave no
    room for the activation where xpnet has it, behind BatchNorm1d, or where it may stand before that; ConfigError where
    the activation is not known.
    """
    nn = required("torch", "A .pt file", "torch").nn
    groups: dict[str, dict[str, Any]] = {}
    for name, tensor in state.items():
        layer, _, part = str(name).rpartition(".")
        if part != "num_batches_tracked":
            groups.setdefault(layer, {})[part] = _checked(str(name), tensor, most)
    modules: list[Any] = []
    # Those whose numbers have gaps; bare numbers are those of a network that is itself a Sequential.
    sequentials = {"", *(name.rpartition(".")[0] for before, name in pairwise(groups) if _apart(before, name))}
    behind_a_layer, before, kind_before = False, "", ""
    for name, parts in groups.items():
        kind, arguments = _kind(name, parts)
        if kind == "BatchNorm1d" and activation is not None and _apart(before, name):
            raise ModelError(
                f"something stands between {before!r} and the BatchNorm1d {name!r}, perhaps the activation, which "
                "xpnet has behind it; if it is Dropout, give xpnet.export.from_torch(network) the Sequential without it"
            )
        if kind == "Linear" and behind_a_layer:
            if activation is None:
                raise ConfigError(
                    "a state_dict does not say what stands between its layers: name it, as activation='relu' or "
                    "--activation relu"
                )
            if _apart(before, name) is False:
                if kind_before != "Linear" or name.rpartition(".")[0] in sequentials:
                    raise ModelError(f"no activation stands between {before!r} and {name!r}")
                logger.warning(
                    "%r and %r are taken for those of a ModuleList, between which the network has %s: in a Sequential "
                    "there would be nothing between them",
                    *(before, name, activation),
                )
            check_one_of("activation", activation, ACTIVATIONS)
            modules.append(module_of(activation))
        behind_a_layer, before, kind_before = behind_a_layer or kind == "Linear", name, kind
        modules.append(module_of(kind, **arguments).to(next(iter(parts.values())).dtype))
        try:
            modules[-1].load_state_dict(parts, strict=False)
        except RuntimeError:
            raise ModelError(f"the tensors of {name!r} do not fit together") from None
    return from_torch(nn.Sequential(*modules), loss=loss)


def _apart(before: str, name: str) -> bool | None:
    """Whether a module stands between two of a Sequential, by their numbers there; None for those of other names."""
    (own, _, first), (other, _, second) = before.rpartition("."), name.rpartition(".")
    if own != other or not (first.isdecimal() and second.isdecimal()):
        return None
    return int(second) > int(first) + 1


def _tell(path: Path, network: MLP) -> None:
    """Say what was assumed of a file that does not say it."""
    norm = "BatchNorm1d and " if network.batch_norm else ""
    form = ", in its tanh form, which torch calls GELU(approximate='tanh')" if network.activation == "gelu" else ""
    logger.info("%s: taken as if each hidden layer were followed by %s%s%s", path, norm, network.activation, form)


def _loaded(torch: Any, content: bytes) -> Any:
    """What torch.load makes of a file that is as large as what it holds."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise ModelError("damaged, or not what torch.save writes since torch 1.6") from None
    if size > len(content):
        raise ModelError("it is compressed, as torch.save never does")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated storages
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, of C++ and of much between
        raise ModelError(
            "it holds more than tensors, or is damaged; load a network that you trust with torch, and give "
            f"xpnet.export.from_torch(network) a Sequential ({type(error).__name__})"
        ) from None
    if not isinstance(found, Mapping):
        raise ModelError(f"it holds a {type(found).__name__}, not a state_dict")
    return found


def _checked(name: str, tensor: Any, most: int) -> Any:
    """A tensor, if it is a plain one that is no larger than the file."""
    torch = required("torch", "A .pt file", "torch")
    plain = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized or tensor.numel() * tensor.element_size() > most:
        raise ModelError(f"{name!r} is no plain tensor of a state_dict")
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _kind(name: str, parts: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The module that has such tensors, and the arguments that construct it."""
    names, shapes = set(parts), {part: tuple(tensor.shape) for part, tensor in parts.items()}
    if {"weight"} <= names <= {"weight", "bias"} and len(shapes["weight"]) == 2:
        n_out, n_in = shapes["weight"]
        return "Linear", {"in_features": n_in, "out_features": n_out, "bias": "bias" in names}
    if {"running_mean", "running_var"} <= names <= {"running_mean", "running_var", "weight", "bias"}:
        return "BatchNorm1d", {"num_features": shapes["running_mean"][0], "affine": "weight" in names}
    if names == {"shift", "scale"} and len(shapes["scale"]) == 1:  # of xpnet
        return "Unscale" if name.endswith("unscale") else "Scale", {"n": shapes["scale"][0]}
    shown = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
    raise ModelError(f"{name!r} is neither a Linear nor a BatchNorm1d: its tensors are {shown}")
