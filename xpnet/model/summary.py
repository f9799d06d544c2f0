"""The layers of a network, with their shapes, parameters and arithmetic."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from xpnet.display import html_table
from xpnet.numerics.network import MLP

__all__ = ["Layer", "Summary", "layers_of"]


@dataclass(frozen=True)
class Layer:
    """A dense layer and what follows it.

    layer : its operations.   inputs, outputs : widths.   shapes : of its parameters, by name.
    parameters : their number.   flops : of its matrix product for one example, two per weight.
    """

    layer: str
    inputs: int
    outputs: int
    shapes: dict[str, list[int]]
    parameters: int
    flops: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())


@dataclass(frozen=True)
class Summary:
    """A model in numbers; as text, or in a notebook, a table.

    network, dtype, data, loss, image_shape : as of the model.   layers : each one.   bytes : of all parameters.
    """

    network: str
    data: str
    image_shape: list[int]
    dtype: str
    loss: str
    layers: list[Layer]
    bytes: int

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products for one example, two per weight."""
        return sum(layer.flops for layer in self.layers)

    def __str__(self) -> str:
        rows = [("layer", "shapes", "parameters", "FLOPs")]
        rows += [(each.layer, str(each), f"{each.parameters:,}", f"{each.flops:,}") for each in self.layers]
        rows.append(("total", f"{self.bytes:,} bytes", f"{self.parameters:,}", f"{self.flops:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        trained_on = f", trained on {self.data}" if self.data else ""
        lines = [
            "  ".join(text.ljust(width) if i < 2 else text.rjust(width) for i, (text, width) in enumerate(cells))
            for cells in (zip(row, widths, strict=True) for row in rows)
        ]
        return "\n".join([f"{self.network}, {self.dtype}{trained_on}", "", *lines])

    def _repr_html_(self) -> str:
        rows: dict[str, Any] = {f"{i + 1} {each.layer}": each for i, each in enumerate(self.layers)}
        rows |= {"parameters": f"{self.parameters:,}", "bytes": f"{self.bytes:,}", "FLOPs": f"{self.flops:,}"}
        return html_table(f"{self.network}, {self.dtype}", rows)


def layers_of(network: MLP) -> list[Layer]:
    """Each dense layer and its cost: two operations per weight, without those of a bias or activation."""
    shapes = network.param_shapes()
    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(network.sizes)):
        own = {name.partition(".")[2]: list(shape) for name, shape in shapes.items() if name.startswith(f"{i}.")}
        hidden = i < network.n_layers - 1
        parts = ["dense"]
        parts += ["batch norm"] if hidden and network.batch_norm else []
        parts += [network.activation if hidden else network.loss]
        parts += [f"dropout {network.dropout:g}"] if hidden and network.dropout else []
        n_params = sum(map(math.prod, own.values()))
        layers.append(Layer(", ".join(parts), n_in, n_out, own, n_params, 2 * n_in * n_out))
    return layers
