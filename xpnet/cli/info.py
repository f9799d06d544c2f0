"""xpnet info."""

import json
import logging
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

import xpnet
from xpnet.backend import Availability, available
from xpnet.cli.teams import joined
from xpnet.cli.terminal import result_console
from xpnet.data.search import places
from xpnet.distributed import Team, about, engine
from xpnet.errors import XpnetError

__all__ = ["info"]

log = logging.getLogger(__name__)

# Those of the run-time needs and extras whose version is worth knowing; the array libraries come with their devices.
PACKAGES = (
    *("array-api-compat", "safetensors", "cyclopts", "rich", "platformdirs", "tomli-w", "pillow"),
    *("matplotlib", "optuna", "tensorboardX", "mpi4py"),
)


def info(
    *, as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False
) -> None:
    """Show versions, the libraries and devices (and why some are not usable), and the folders searched for data.

    Started as several processes, as by mpiexec -n 2 xpnet info, it also shows what each of them computes with.
    """
    with joined() as team:
        devices = available()
        found = {
            "xpnet": xpnet.__version__,
            "python": f"{platform.python_version()} ({sys.executable})",
            "platform": platform.platform(),
            "numpy": np.__version__,
            "blas": _blas(),
            "packages": {name: _version(name) for name in PACKAGES},
            "mpi": _mpi(),
            "team": about(team, GPU=_gpu(devices, team)) if team.size > 1 else None,
            "devices": [row._asdict() for row in devices],
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
    table.add_row("MPI", found["mpi"])
    for i, line in enumerate(_lines(found["team"]) if found["team"] else []):
        table.add_row("team" if i == 0 else "", line)
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
    for warning in found["team"]["warnings"] if found["team"] else []:
        log.warning("%s; the bits of a result depend on which process computes it", warning)


def _lines(team: dict[str, Any]) -> Iterator[str]:
    """What the processes of a team have, in one line for those that have the same."""
    yield f"{len(team['processes'])} processes, started by {team['launcher']}"
    alike: dict[str, list[str]] = {}
    for each in team["processes"]:
        blas = f"{each['BLAS']} ({each['BLAS kernel']} kernel, threads: {each['number of BLAS threads']})"
        gpu = f", {each['GPU']}" if each["GPU"] else ""
        has = f"cores: {each['cores']}, {each['type of CPU']}, NumPy {each['NumPy']}, {blas}{gpu}"
        alike.setdefault(f"on {each['host']}: {has}", []).append(str(each["rank"]))
    for has, ranks in alike.items():
        yield f"{'processes' if len(ranks) > 1 else 'process'} {', '.join(ranks)} {has}"


def _gpu(devices: list[Availability], team: Team) -> str:
    """The GPU that falls to this process, if there is one."""
    found = {row.device: row.detail for row in reversed(devices) if row.usable and row.device.startswith("cuda")}
    return [found[name] for name in sorted(found)][team.local_rank % len(found)] if found else ""


def _mpi() -> str:
    """The library that would connect processes, or what is missing."""
    try:
        return engine()
    except XpnetError as error:
        return str(error)


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
