"""What the processes of a team run on."""

from __future__ import annotations

import platform
from typing import Any

from xpnet.platforms import usable_cpus

from .agreement import differences
from .starting import launcher
from .team import Team

__all__ = ["about", "computes_with"]


def computes_with() -> dict[str, Any]:
    """What decides the last bits of what NumPy computes on this process, besides NumPy itself."""
    import numpy as np
    from threadpoolctl import threadpool_info

    config: Any = np.show_config(mode="dicts")
    extensions = config.get("SIMD Extensions", {})
    features = [*extensions.get("baseline", [])[-1:], *extensions.get("found", [])]
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # NumPy's wheels bring their own, which other packages' stand beside.
    blas: dict[str, Any] = min(found, key=lambda library: "numpy" not in library["filepath"], default={})
    return {
        "type of CPU": " ".join([platform.machine(), *features]),
        "BLAS": f"{blas.get('internal_api', 'unknown')} {blas.get('version') or ''}".strip(),
        "BLAS kernel": blas.get("architecture") or "unknown",
        "number of BLAS threads": blas.get("num_threads", 1),
    }


def about(team: Team, **more: Any) -> dict[str, Any]:
    """What each process of a team runs on; all of them call it.

    more : further facts of this process, such as its GPU.
    Returns the launcher, the library, mpi4py's version, the facts of the processes by rank, and a line for each fact in
        which they differ so that the bits of a result depend on which process computes it.
    """
    from importlib import metadata

    import numpy as np

    computing = {"NumPy": np.__version__, **computes_with(), **more}
    facts = {"rank": team.rank, "host": platform.node(), "cores": usable_cpus(), **computing}
    known = team.gather((facts, team.where, computing))
    return {
        "launcher": launcher(),
        "library": team.library,
        "mpi4py": metadata.version("mpi4py") if team.library else "",
        "processes": [each for each, _, _ in known],
        "warnings": differences([(where, each) for _, where, each in known]),
    }
