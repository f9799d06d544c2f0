"""xpnet summary."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from xpnet.cli.datasets import ModelPath, newest_run
from xpnet.cli.terminal import result_console
from xpnet.model import Model, load
from xpnet.numerics.network import MLP

__all__ = ["summary"]


def summary(
    model: ModelPath = None,
    /,
    *,
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
) -> None:
    """Show a model's layers, shapes and parameters, and the arithmetic per image."""
    model = model or newest_run()
    trained = load(model, "cpu")
    found = _as_dict(model, trained)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


def _as_dict(path: Path, model: Model) -> dict[str, Any]:
    layers = _layers(model.network)
    return {
        "model": str(path),
        "network": str(model.network),
        "data": model.data,
        "image_shape": list(model.image_shape),
        "dtype": str(model.params[0].dtype),
        "loss": model.network.loss,
        "layers": layers,
        "parameters": sum(layer["parameters"] for layer in layers),
        "flops": sum(layer["flops"] for layer in layers),
        "bytes": sum(a.nbytes for a in (*model.params, *model.running)),
    }


def _layers(network: MLP) -> list[dict[str, Any]]:
    """Each dense layer and its cost: two operations per weight, without those of a bias or activation."""
    shapes = network.param_shapes()
    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(network.sizes)):
        own = {name.partition(".")[2]: shape for name, shape in shapes.items() if name.startswith(f"{i}.")}
        hidden = i < network.n_layers - 1
        parts = ["dense"]
        parts += ["batch norm"] if hidden and network.batch_norm else []
        parts += [network.activation if hidden else network.loss]
        parts += [f"dropout {network.dropout:g}"] if hidden and network.dropout else []
        layers.append(
            {
                "layer": ", ".join(parts),
                "inputs": n_in,
                "outputs": n_out,
                "shapes": {name: list(shape) for name, shape in own.items()},
                "parameters": sum(map(math.prod, own.values())),
                "flops": 2 * n_in * n_out,
            }
        )
    return layers


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    trained_on = f", trained on {found['data']}" if found["data"] else ""
    print(f"{found['model']}: {found['network']}, {found['dtype']}{trained_on}\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("shapes", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("FLOPs", justify="right", no_wrap=True)
    for layer in found["layers"]:
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in layer["shapes"].items())
        table.add_row(layer["layer"], shapes, f"{layer['parameters']:,}", f"{layer['flops']:,}")
    table.add_row("total", f"{found['bytes']:,} bytes", f"{found['parameters']:,}", f"{found['flops']:,}", style="bold")
    result_console().print(table)
    print("\nFLOPs count the matrix products for one image, two per weight.")
