"""The programs that JAX compiles: how long that takes, and where they are kept for the processes to come.

JAX keeps them itself once it has a folder. Here that is one for each kind of machine, since a program is made for the
CPUs on which it was compiled: their number, by which it divides its loops, is not in JAX's own keys.
"""

import contextlib
import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.platforms import usable_cpus, user_cache

__all__ = ["count", "keep", "seconds"]

MOST_BYTES = 1 << 27
"""In a folder; the programs of a run take some 0.2 MB."""

_durations: list[float] = []


@functools.cache
def count(jax: Any) -> None:
    """Begin to count the seconds of compiling, once."""

    def note(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            _durations.append(duration)

    jax.monitoring.register_event_duration_secs_listener(note)


def seconds() -> float:
    """What this process has spent on compiling since count; taking a program from the folder counts as well."""
    return sum(_durations)


def keep(jax: Any) -> None:
    """Let JAX keep its programs in the user's cache, unless the user has said where it shall, or that it shall not.

    Where that cannot be written, every process compiles for itself.
    """
    if jax.config.jax_compilation_cache_dir is not None or not jax.config.jax_enable_compilation_cache:
        return
    folder = user_cache() / "jax" / _machine()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
                jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _machine() -> str:
    about = np.show_config(mode="dicts")["SIMD Extensions"], os.environ.get("NPROC")  # XLA's own number of threads
    return f"{usable_cpus()}-cpus-{hashlib.sha256(repr(about).encode()).hexdigest()[:8]}"


def _make_room(folder: Path) -> None:
    """Remove the older half of too much, and the empty files that processes leave which are killed as they write.

    JAX can keep to a limit as well, with a package more and a lock around every program.
    """
    kept = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process does the same
            about = entry.stat()
            if about.st_size > 0:
                kept.append((about.st_mtime, about.st_size, entry))
            else:
                entry.unlink()
    if sum(size for _, size, _ in kept) > MOST_BYTES:
        for _, _, entry in sorted(kept)[: -(-len(kept) // 2)]:
            entry.unlink(missing_ok=True)
