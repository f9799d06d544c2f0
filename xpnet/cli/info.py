"""xpnet info."""

import json
import platform
import sys
from importlib import metadata
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

import xpnet
from xpnet.backend import available
from xpnet.cli.terminal import result_console
from xpnet.data.search import places

__all__ = ["info"]

# Those of the run-time needs and extras whose version is worth knowing; the array libraries come with their devices.
PACKAGES = (
    *("array-api-compat", "safetensors", "cyclopts", "rich", "platformdirs", "tomli-w", "pillow"),
    *("matplotlib", "optuna", "tensorboardX"),
)


def info(
    *, as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False
) -> None:
    """Show versions, the libraries and devices (and why some are not usable), and the folders searched for data."""
    found = {
        "xpnet": xpnet.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "numpy": np.__version__,
        "blas": _blas(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": [row._asdict() for row in available()],
        "data": [str(place.absolute()) for place in places()],
    }
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    console = result_console()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name in ("xpnet", "python", "platform", "numpy"):
        table.add_row(name, found[name])
    table.add_row("BLAS", found["blas"] or "unknown")
    table.add_row("packages", ", ".join(f"{name} {number or 'missing'}" for name, number in found["packages"].items()))
    for i, place in enumerate(found["data"]):
        table.add_row("data in" if i == 0 else "", place)
    console.print(table)
    devices = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("library", "version", "device", "usable"):
        devices.add_column(name, no_wrap=True)
    devices.add_column("description, or reason", overflow="fold")
    for row in found["devices"]:
        usable = "yes" if row["usable"] else "no"
        devices.add_row(row["library"], row["version"] or "-", row["device"], usable, row["detail"])
    console.print()
    console.print(devices)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> str | None:
    """The BLAS that NumPy was built with, as far as NumPy knows."""
    config = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {}) if isinstance(config, dict) else {}
    return " ".join(str(blas[key]) for key in ("name", "version") if blas.get(key)) or None
