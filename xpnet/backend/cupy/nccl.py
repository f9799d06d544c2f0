"""Exchanges between the GPUs of several processes, by NCCL.

A send and a receive in one group run on the stream that computes the arrays, and the host waits for neither. How NCCL
adds depends on sizes and wires, so that it is asked for copies alone.
"""

import logging
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

from xpnet.errors import DeviceError

from .._base import Exchange, Peers, first_line

__all__ = ["chosen", "linked"]

logger = logging.getLogger("xpnet")

FIRST = 1 << 16
"""Elements of the first exchange with each peer, enough for NCCL to send them as it sends most."""


def chosen(device: Any, wheel: str, team: Peers) -> Any:
    """CuPy's module of NCCL; None, and why in a line of the log, where not every process of the team can use it.

    device : of this process.   wheel : the distribution that has NCCL for this CuPy.
    Every process gets the same answer.
    """
    nccl, obstacle = _found(wheel)
    version = None if nccl is None else nccl.get_version()
    rows = team.gather((socket.gethostname(), device.pci_bus_id, version, obstacle))
    against = _obstacle(rows)
    if against is None:
        return nccl
    if team.rank == 0:
        logger.warning("sums go through the computer's memory instead of over NCCL: %s", against)
    return None


@contextmanager
def linked(
    cupy: Any, nccl: Any, team: Peers, active: Callable[[], AbstractContextManager[object]]
) -> Iterator[Exchange]:
    """The exchange of Backend.link, over NCCL; closed with its context, or broken off where that ends by an error.

    cupy, nccl : the modules.   active : makes this process's device the current one.
    """

    @contextmanager
    def reporting(what: str) -> Iterator[None]:
        try:
            with active():
                yield
        except nccl.NcclError as error:
            raise DeviceError(f"NCCL fails {what} ({first_line(error)})") from error

    def exchange(array: Any, peer: int, both: bool = False) -> Any:
        with reporting(f"between the processes {team.rank} and {peer}"):
            array = cupy.ascontiguousarray(array)
            theirs = cupy.empty(array.shape, array.dtype)
            size, kind, stream = array.nbytes, nccl.NCCL_UINT8, cupy.cuda.get_current_stream().ptr
            nccl.groupStart()
            try:
                communicator.send(array.data.ptr, size, kind, peer, stream)
                communicator.recv(theirs.data.ptr, size, kind, peer, stream)
            finally:
                nccl.groupEnd()
            pair = (array, theirs) if team.rank < peer else (theirs, array)
            return cupy.concatenate(pair) if both else theirs

    def name() -> Any:
        with reporting("to start"):
            return nccl.get_unique_id() if team.rank == 0 else None

    name_of_team = team.told(team.together(name))
    with reporting("to start"):
        # Not together: where it fails on one process, the others do not return from it.
        communicator = nccl.NcclCommunicator(team.size, name_of_team, team.rank)
    try:
        with active():
            strangers = _greet(cupy, team, exchange)
        team.together(lambda: _check(team, strangers))
        yield exchange
        with active():
            cupy.cuda.get_current_stream().synchronize()
            communicator.destroy()
    except BaseException:
        communicator.abort()
        raise


def _found(wheel: str) -> tuple[Any, str]:
    """The module, or None and why there is none."""
    with warnings.catch_warnings(record=True) as caught:  # CuPy's way of saying that there is none
        warnings.simplefilter("always")
        try:
            nccl = import_module("cupy.cuda.nccl")
        except Exception as error:
            return None, f"CuPy's NCCL cannot be imported ({first_line(error)}): pip install {wheel}"
    if nccl.available:
        return nccl, ""
    said = next((found[1] for found in (re.search(r"Reason: (.*)", str(w.message)) for w in caught) if found), "")
    return None, f"CuPy finds no NCCL{f' ({said})' if said else ''}: pip install {wheel}"


def _obstacle(rows: list[tuple[str, str, int | None, str]]) -> str | None:
    """Why processes with these hosts, GPUs, versions and obstacles cannot use NCCL together."""
    first: dict[tuple[str, str], int] = {}
    for rank, (host, gpu, version, obstacle) in enumerate(rows):
        if obstacle:
            return f"on process {rank}, on {host}, {obstacle}"
        if (other := first.setdefault((host, gpu), rank)) != rank:
            return f"the processes {other} and {rank} share the GPU {gpu} of {host}"
        if version != rows[0][2]:
            return f"process {rank}, on {host}, has NCCL {_words(version)}, process 0 has {_words(rows[0][2])}"
    return None


def _words(version: int | None) -> str:
    return f"{(version or 0) // 10000}.{(version or 0) // 100 % 100}.{(version or 0) % 100}"


def _greet(cupy: Any, team: Peers, exchange: Exchange) -> list[int]:
    """Exchange with each peer of a sum, which opens the connections; the peers of which something else arrived."""
    numbers = cupy.arange(FIRST, dtype="int32")
    peers = [team.rank ^ 1 << bit for bit in range(team.size.bit_length() - 1)]
    arrived = [exchange(numbers + team.rank, peer) for peer in peers]
    return [peer for peer, theirs in zip(peers, arrived, strict=True) if not bool((theirs == numbers + peer).all())]


def _check(team: Peers, strangers: list[int]) -> None:
    for peer in strangers:
        raise DeviceError(
            f"the GPU of process {team.rank} gets something else from that of process {peer} than this one sends",
            "try with NCCL_P2P_DISABLE=1",
        )
