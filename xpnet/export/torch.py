"""PyTorch: a trained network as a torch.nn.Sequential, in a .pt file, and back.

The file is what torch.save makes of a dictionary: the state_dict, and as text the lines that construct the network
which takes it. Such tensors load in any torch with weights_only=True, execute nothing, and can be trained further. Each
alternative lacks something: a pickled module executes code and needs its classes, TorchScript is deprecated, and what
torch.export writes is bound to the version that wrote it.
"""

import functools
import inspect
import io
import json
import re
import textwrap
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import select
from xpnet.checks import required
from xpnet.data import Scaling, Schema
from xpnet.errors import ModelError
from xpnet.export.layers import described, description
from xpnet.model import Ensemble, Model
from xpnet.numerics.functional import LOSSES, exponential, identity, sigmoid, softmax
from xpnet.numerics.network import MLP

__all__ = ["construction", "content", "from_torch", "module_of", "to_torch"]

_EPS = 1e-5  # of batch normalisation, there as here

_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("ReLU", {}),
    "leaky-relu": ("LeakyReLU", {"negative_slope": 0.01}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "scaled-tanh": ("ScaledTanh", {}),
    "gelu": ("GELU", {"approximate": "tanh"}),
    "identity": ("Identity", {}),
}
_OUTPUTS: dict[Any, tuple[str, dict[str, Any]]] = {
    softmax: ("Softmax", {"dim": 1}),
    sigmoid: ("Sigmoid", {}),
    exponential: ("Exp", {}),
}
# What a network's output says of its loss, where nobody else does.
_LOSS_OF = {"Softmax": "cross-entropy", "Sigmoid": "binary-cross-entropy", "Exp": "poisson", "": "squared-error"}


class _Part(NamedTuple):
    """A module of the Sequential: its name there, its class, the arguments of that, and its arrays by their names."""

    name: str
    kind: str
    arguments: Mapping[str, Any] = {}
    arrays: Mapping[str, Any] = {}


@functools.cache
def _own() -> dict[str, Any]:
    """The modules that torch lacks. Their source is among the lines that construct a network."""
    torch = required("torch", "A network of PyTorch", "torch")
    nn = torch.nn

    class Scale(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, n):  # type: ignore[no-untyped-def]
            super().__init__()
            self.register_buffer("shift", torch.zeros(n))
            self.register_buffer("scale", torch.ones(n))

        def forward(self, u):  # type: ignore[no-untyped-def]
            return (u.to(self.scale.dtype) - self.shift) / self.scale

    class Unscale(Scale):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return x * self.scale + self.shift

    class ScaledTanh(nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, z):  # type: ignore[no-untyped-def]
            return 1.7159 * torch.tanh(z * (2.0 / 3.0))

    class Exp(nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, z):  # type: ignore[no-untyped-def]
            return torch.exp(z)

    found = {"Scale": Scale, "Unscale": Unscale, "ScaledTanh": ScaledTanh, "Exp": Exp}
    for name, module in found.items():
        module.source = re.sub("  # type: .*", "", textwrap.dedent(inspect.getsource(module)))
        module.__qualname__ = name  # pickle finds it by __getattr__
    return found


def __getattr__(name: str) -> Any:
    if name in ("Scale", "Unscale", "ScaledTanh", "Exp"):
        return _own()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def to_torch(model: Model) -> Any:
    """A model as a torch.nn.Sequential that takes the same input and gives the same outputs.

        Flatten, Scale, Dropout, [Linear, BatchNorm1d, activation, Dropout] ..., Linear, temperature, output, Unscale

    What the model lacks is left out. Batch normalisation and dropout are kept, so that it can be trained further.

    model : not an ensemble.
    Returns it on the CPU, in eval mode, of the model's dtype, or of float64 if the features were scaled in that. It
    takes (n, ...) features of any dtype, as the model did in training, or pixels from 0 to the largest one, mostly 255.
    Raises ModelError for an ensemble; MissingPackageError without torch.
    """
    torch = required("torch", "A network of PyTorch", "torch")
    parts = _parts(model)
    made = [(part.name, module_of(part.kind, **part.arguments)) for part in parts]
    net = torch.nn.Sequential(OrderedDict(made)).to(getattr(torch, _dtype(model).name))
    state = net.state_dict()
    for part in parts:
        for key, array in part.arrays.items():
            tensor = state[f"{part.name}.{key}"]
            tensor.copy_(torch.tensor(np.broadcast_to(array, tuple(tensor.shape))))
    return net.eval()


def content(model: Model | Ensemble, *, about: Mapping[str, Any] | None = None) -> bytes:
    """The .pt file of a model: {"state_dict": tensors, "construction": Python, "description": JSON}.

    about : further entries of the description.   Raises as to_torch does.
    """
    torch = required("torch", "A network of PyTorch", "torch")
    if isinstance(model, Ensemble):
        raise ModelError("a .pt file holds one model: write the members one by one, or all of them as .onnx")
    text = description(described(model), {"activation": model.network.activation, **(about or {})})
    saved = {"state_dict": to_torch(model).state_dict(), "construction": construction(model)}
    file = io.BytesIO()
    torch.save({**saved, "description": json.dumps(text)}, file)
    return file.getvalue()


def module_of(kind: str, **arguments: Any) -> Any:
    """A module of torch, or of those that torch lacks.   kind : its class, or an activation of xpnet."""
    kind, usual = _ACTIVATIONS.get(kind, (kind, {}))
    return (_own().get(kind) or getattr(required("torch", "A network of PyTorch", "torch").nn, kind))(
        **usual, **arguments
    )


def construction(model: Model, file: str = "model.pt") -> str:
    """The lines of Python that load a .pt file with torch alone; no text of the model is among them."""
    parts = _parts(model)
    kinds = {part.kind for part in parts}
    needed = [name for name in _own() if name in kinds or (name == "Scale" and "Unscale" in kinds)]
    rows = []
    for name, kind, arguments, _ in parts:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        rows.append(f"    {name}={'' if kind in _own() else 'nn.'}{kind}({given}),")
    double = ".double()" if _dtype(model) == np.float64 else ""
    return "\n".join(
        [
            "from collections import OrderedDict",
            "import torch",
            "from torch import nn",
            "",
            *(_own()[name].source for name in needed),
            "net = nn.Sequential(OrderedDict(",
            *rows,
            f")){double}",
            f'net.load_state_dict(torch.load({file!r}, weights_only=True)["state_dict"])',
            "net.eval()",
            "",
        ]
    )


def from_torch(sequential: Any, *, loss: str | None = None, data: str = "", classes: Sequence[Hashable] = ()) -> Model:
    """A torch.nn.Sequential as a model with the same outputs, on the CPU with NumPy.

    sequential : Linear layers, all hidden ones followed by the same of BatchNorm1d, an activation (ReLU, LeakyReLU,
        Sigmoid, Tanh, GELU(approximate="tanh"), Identity, or to_torch's ScaledTanh) and Dropout; before them Flatten
        and Dropout, after the last one Softmax, Sigmoid or nothing; or what to_torch returns. It is in eval mode here.
    loss : a key of functional.LOSSES; by default the one that the output belongs to: "cross-entropy" for Softmax,
        "binary-cross-entropy" for Sigmoid, "squared-error" for numbers as they are. A network that ends with logits is
        a classifier with loss="cross-entropy": its outputs then are their softmax.
    data, classes : the name of the set it was trained on, and the names of its outputs.
    Raises ModelError for any other module, naming it; ConfigError for an unknown loss.
    """
    torch = required("torch", "A network of PyTorch", "torch")
    if type(sequential) is not torch.nn.Sequential:
        raise ModelError(f"a network of torch must be a torch.nn.Sequential, not {type(sequential).__name__}")
    rest = _Modules(sequential)
    rest.take("Flatten")
    features = rest.scaling("Scale")
    input_dropout = rest.rate()
    hidden, params, running = [], [], []
    W, b = rest.linear()
    while rest.holds("Linear"):
        norm, activation, dropout = rest.take("BatchNorm1d"), rest.activation(), rest.rate()
        hidden.append((norm is not None, activation, dropout))
        params += [W, b] if norm is None else [W, *_affine(norm)]
        running += [] if norm is None else _statistics(norm, b)
        W, b = rest.linear()
    params += [W, b]
    temperature = rest.scaling("Scale").scale
    output = next((kind for kind in ("Softmax", "Sigmoid", "Exp") if rest.take(kind) is not None), "")
    targets = rest.scaling("Unscale")
    rest.end()
    if len(set(hidden)) > 1:
        raise ModelError("the hidden layers must all have the same BatchNorm1d or none, activation and Dropout")
    batch_norm, activation, dropout = hidden[0] if hidden else (False, "relu", 0.0)
    sizes = (len(params[0]), *(W.shape[1] for W in params if W.ndim == 2))
    network = MLP(sizes, activation, loss or _LOSS_OF[output], 0.0, dropout, input_dropout, batch_norm)
    of_loss, _ = _OUTPUTS.get(LOSSES[network.loss].output, ("", {}))
    if output not in ("", of_loss):
        raise ModelError(f"the network ends with {output}, but the loss {network.loss} with {of_loss or 'nothing'}")
    shapes = [*network.param_shapes().values(), *network.running_shapes().values()]
    if [a.shape for a in (*params, *running)] != shapes:
        raise ModelError(f"the widths of the layers do not fit together: {', '.join(map(str, sizes))}")
    dtypes = {a.dtype.name for a in (*params, *running)}
    if len(dtypes) > 1 or not dtypes <= {"float32", "float64"}:
        raise ModelError(f"all parameters must be float32, or all float64, not {' and '.join(sorted(dtypes))}")
    if len(classes) not in (0, sizes[-1]):
        raise ModelError(f"{len(classes)} classes are named, but the network has {sizes[-1]} outputs")
    schema = Schema(data, (sizes[0],), tuple(classes), features, targets, "as-is", (), float(temperature or 1.0))
    return Model(network, params, running, select("cpu", "numpy"), schema)


def _dtype(model: Model) -> np.dtype[Any]:
    """What the network of torch computes in: columns that were shifted in float64 need its digits."""
    shift = model.schema.features.shift
    own = model.backend.to_host(model.params[0]).dtype
    return own if shift is None else np.result_type(own, shift.dtype)


def _parts(model: Model) -> list[_Part]:
    """The modules of a model, in their order."""
    network, schema = model.network, model.schema
    host = iter([model.backend.to_host(a) for a in model.params])
    statistics = iter([model.backend.to_host(a) for a in model.running])
    shift, scale = schema.features.shift, schema.features.scale
    if schema.features.kind == "pixels":
        scale = scale or 255.0
    parts = [_Part("flatten", "Flatten")]
    if shift is not None or scale is not None:
        parts.append(_scaling("scale", "Scale", shift, scale))
    if network.input_dropout:
        parts.append(_Part("input_dropout", "Dropout", {"p": network.input_dropout}))
    for i, (n_in, n_out) in enumerate(pairwise(network.sizes), 1):
        hidden = i < network.n_layers
        normalized = hidden and network.batch_norm
        weight, bias = {"weight": next(host).T}, next(host)
        arguments = {"in_features": n_in, "out_features": n_out, **({"bias": False} if normalized else {})}
        parts.append(_Part(f"linear{i}", "Linear", arguments, weight if normalized else {**weight, "bias": bias}))
        if normalized:
            arrays = {"weight": bias, "bias": next(host)}
            arrays |= {"running_mean": next(statistics), "running_var": next(statistics)}
            parts.append(_Part(f"norm{i}", "BatchNorm1d", {"num_features": n_out}, arrays))
        if hidden:
            parts.append(_Part(f"activation{i}", *_ACTIVATIONS[network.activation]))
        if hidden and network.dropout:
            parts.append(_Part(f"dropout{i}", "Dropout", {"p": network.dropout}))
    if schema.temperature != 1.0:
        parts.append(_scaling("temperature", "Scale", None, schema.temperature))
    output = LOSSES[network.loss].output
    if output is not identity:
        parts.append(_Part("output", *_OUTPUTS[output]))
    targets = schema.targets
    if model.task == "regression" and (targets.shift is not None or targets.scale is not None):
        parts.append(_scaling("unscale", "Unscale", targets.shift, targets.scale))
    return parts


def _scaling(name: str, kind: str, shift: Any, scale: Any) -> _Part:
    arrays = {"shift": 0.0 if shift is None else shift, "scale": 1.0 if scale is None else scale}
    return _Part(name, kind, {"n": max(np.size(a) for a in arrays.values())}, arrays)


class _Modules:
    """Reads the modules of a Sequential, and of those inside it, one after the other.

    Each method takes what is next, if it is what the method is for.
    """

    def __init__(self, sequential: Any) -> None:
        nn = required("torch", "A network of PyTorch", "torch").nn
        kinds = {kind for kind, _ in (*_ACTIVATIONS.values(), *_OUTPUTS.values())} - _own().keys()
        kinds |= {"Linear", "BatchNorm1d", "Flatten", "Dropout"}
        self._names = {getattr(nn, kind): kind for kind in kinds} | {own: kind for kind, own in _own().items()}
        self._left = list(self._leaves(sequential, nn.Sequential))

    def _leaves(self, sequential: Any, nested: type) -> Iterator[tuple[str, Any]]:
        for module in sequential:
            if type(module) is nested:
                yield from self._leaves(module, nested)
            elif type(module) in self._names:  # a class derived from one may compute something else
                yield self._names[type(module)], module
            else:
                raise ModelError(f"a network of xpnet has no {type(module).__name__}")

    def holds(self, kind: str) -> bool:
        """Whether such a module is still to come."""
        return any(name == kind for name, _ in self._left)

    def take(self, kind: str) -> Any:
        """The next module, if it is of this kind; else None."""
        if not self._left or self._left[0][0] != kind:
            return None
        module = self._left.pop(0)[1]
        expected: dict[str, dict[str, tuple[Any, ...]]] = {
            "Flatten": {"start_dim": (1,), "end_dim": (-1,)},
            "LeakyReLU": {"negative_slope": (0.01,)},
            "GELU": {"approximate": ("tanh",)},
            "Softmax": {"dim": (1, -1)},
            "BatchNorm1d": {"eps": (_EPS,), "track_running_stats": (True,)},
        }
        for name, known in expected.get(kind, {}).items():
            if (value := getattr(module, name)) not in known:
                raise ModelError(f"a {kind} of xpnet has {name}={known[0]!r}, not {value!r}")
        return module

    def linear(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The weights and the bias of a Linear, which must be next."""
        module = self.take("Linear")
        if module is None:
            found = self._left[0][0] if self._left else "the end"
            raise ModelError(f"expected a Linear, but found {found}")
        W = _host(module.weight).T.copy()
        return W, np.zeros(W.shape[1], W.dtype) if module.bias is None else _host(module.bias)

    def activation(self) -> str:
        """The name of an activation, "identity" where there is none."""
        known = {kind: name for name, (kind, _) in _ACTIVATIONS.items()}
        kind = self._left[0][0] if self._left else ""
        return "identity" if kind not in known or self.take(kind) is None else known[kind]

    def rate(self) -> float:
        """The drop rate of a Dropout, 0 where there is none."""
        module = self.take("Dropout")
        return 0.0 if module is None else float(module.p)

    def scaling(self, kind: str) -> Scaling:
        """What a Scale or Unscale does, nothing where there is none."""
        module = self.take(kind)
        if module is None:
            return Scaling()
        shift, scale = _host(module.shift), _host(module.scale)
        if scale.shape == (1,) and not shift.any():
            return Scaling("pixels", None, float(scale[0]))
        return Scaling("standard", shift, scale)

    def end(self) -> None:
        """Raise ModelError if there is more."""
        if self._left:
            raise ModelError(f"after the last Linear a network of xpnet has no {self._left[0][0]}")


def _affine(norm: Any) -> list[NDArray[Any]]:
    """Scale and shift of a BatchNorm1d, which may have none."""
    n = norm.num_features
    dtype = _host(norm.running_mean).dtype
    return [np.full(n, x, dtype) if a is None else _host(a) for a, x in ((norm.weight, 1), (norm.bias, 0))]


def _statistics(norm: Any, b: NDArray[Any]) -> list[NDArray[Any]]:
    """Mean and variance of a BatchNorm1d, before which a bias b was added."""
    return [_host(norm.running_mean) - b, _host(norm.running_var)]


def _host(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy().copy()
    return array
