"""The best rates of a device, which set the floor of a step."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xpnet
from xpnet.backend._base import first_line

# What the floor goes by: rows and columns of a matrix, float32 numbers to copy, nodes of a graph.
SIZES = {"cpu": {"gemm": 256, "bandwidth": 1 << 20}, "cuda": {"gemm": 8192, "bandwidth": 1 << 27, "node": 100}}

Rates = dict[str, float | None]


def rates(device: str) -> tuple[Rates, list[str]]:
    """What the device can do at best, which sets the floor of a step.

    Returns gemm, floating-point operations per second of a large float32 product; bandwidth, bytes read and written per
    second; node, seconds of a small operation in a graph, which the CPU has not; each None where it could not be
    measured; and why not, a line each.
    """
    backend, measured, faults = xpnet.select(device), Rates(), list[str]()
    measures = {"gemm": _gemm, "bandwidth": _bandwidth, "node": _node}
    for name, size in SIZES[device].items():
        measured[name] = None
        try:
            with backend.active():
                measured[name] = measures[name](backend, size)
        except Exception as error:
            faults.append(f"{name}: {first_line(error)}")
    return measured, faults


def _gemm(backend: xpnet.Backend, n: int) -> float:
    rng = np.random.default_rng(0)
    a, b = (backend.to_device(rng.random((n, n), np.float32)) for _ in range(2))
    return 2 * n**3 / _fastest(lambda: backend.xp.matmul(a, b), backend, 5)


def _bandwidth(backend: xpnet.Backend, n: int) -> float:
    source, destination = (backend.xp.zeros(n, dtype=backend.xp.float32) for _ in range(2))
    return 2 * 4 * n / _fastest(lambda: destination.__setitem__(..., source), backend, 5)


def _node(backend: xpnet.Backend, times: int) -> float:
    state, one = [backend.to_device(np.ones(1, np.float32))], backend.to_device(np.ones(1, np.float32))

    def step(state: list[Any], one: Any) -> list[Any]:
        state[0] += one
        return state

    many = backend.compile(step, times)

    def run() -> None:
        nonlocal state
        state = many(state, one)

    seconds = _fastest(run, backend, 20)
    nodes: int | None = getattr(many, "nodes", None)
    if nodes is None:
        raise RuntimeError("no graph was captured")
    return seconds / nodes


def _fastest(run: Callable[[], object], backend: xpnet.Backend, times: int) -> float:
    """Seconds of a call: the least of seven rounds, since a limit is to be found, after one that does not count."""
    best = math.inf
    for round_ in range(8):
        backend.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            run()
        backend.synchronize()
        if round_ > 0:
            best = min(best, (time.perf_counter() - start) / times)
    return best
