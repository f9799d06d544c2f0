"""Exchanges between GPUs: over NCCL, through the host where that cannot be, and NCCL's traps on its stand-in.

Threads stand for processes here, each with a CuPy of its own; tests/distributed runs real ones.
"""

import importlib
import logging
import operator
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pytest

from tests import fake_cupy
from tests.fake_cupy import nccl
from tests.team_of_threads import ThreadTeam, on_threads
from xpnet.backend import Backend, DeviceError, select
from xpnet.backend.cupy.nccl import chosen, linked
from xpnet.distributed import Team
from xpnet.numerics import shards
from xpnet.numerics.shards import sum_of_processes, tree_sum

T = TypeVar("T")


class OfThread(ModuleType):
    """cupy.cuda.nccl: that of the process for which a thread stands."""

    here = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.here.fake.modules["cupy.cuda.nccl"], name)


class Processes:
    """Processes with a GPU each, or those that are named; fakes : their CuPys."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gpus: list[int]) -> None:
        self.fakes, self.backends = [], []
        for gpu in gpus:
            fake = fake_cupy.install(monkeypatch)
            fake.devices, fake.lazy_null = max(gpus) + 1, True
            self.fakes.append(fake)
            self.backends.append(select(f"cuda:{gpu}"))
        monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", OfThread("cupy.cuda.nccl"))

    def run(self, what: Callable[[ThreadTeam, Backend], T]) -> list[T]:
        def process(team: ThreadTeam) -> T:
            OfThread.here.fake = self.fakes[team.rank]
            with self.backends[team.rank].active():
                return what(team, self.backends[team.rank])

        return on_threads(len(self.fakes), process)

    def module(self, rank: int) -> Any:
        return self.fakes[rank].modules["cupy.cuda.nccl"]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Processes]:
    return lambda *gpus: Processes(monkeypatch, list(gpus))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nccl, "PATIENCE", 20.0)


def swapped(team: ThreadTeam, backend: Backend) -> list[float]:
    """What a process gets from its neighbour, which sends its rank."""
    with backend.link(team) as exchange:
        theirs = exchange(backend.to_device(np.full(3, team.rank, np.float32)), team.rank ^ 1)
        return list(backend.to_host(theirs))


# The sum


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("few", [0, 1 << 14])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_processes_have_the_bits_of_the_tree(
    processes: Callable[..., Processes], size: int, few: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "FEW", few)
    draws = np.random.default_rng(size)
    held = (draws.standard_normal((size, 16 * size)) * 10.0 ** draws.integers(-6, 6, (size, 1))).astype(dtype)
    held[:, 0], held[:, 1], held[0, 2] = -0.0, np.nan, np.inf
    expected = tree_sum(0, size, lambda i: held[i], operator.add)

    def total(team: ThreadTeam, backend: Backend) -> np.ndarray:
        with backend.link(team) as exchange:
            for _ in range(3):  # what was exchanged is freed, and its memory used again
                x = backend.to_device(held[team.rank])
                x = sum_of_processes(x, team.rank, team.size, exchange, xp=backend.xp)
            return backend.to_host(x)

    machines = processes(*range(size))
    for found in machines.run(total):
        assert found.tobytes() == expected.tobytes()
    for fake in machines.fakes:
        assert fake.count["nccl"] >= 4 * (size.bit_length() - 1), "it did not go over NCCL"
        assert fake.count["ncclCommDestroy"] == 1
        assert not fake.count["ncclCommAbort"]


def test_an_exchange_waits_for_nothing(processes: Callable[..., Processes]) -> None:
    """Neither the host for the device, nor what comes after on the stream for the host."""

    def twice(team: ThreadTeam, backend: Backend) -> list[float]:
        fake = machines.fakes[team.rank]
        with backend.link(team) as exchange:
            before = fake.count["synchronize"]
            x = backend.to_device(np.full((2, 2), team.rank + 1.0)) * 3
            theirs = exchange(backend.xp.permute_dims(x, (1, 0)), team.rank ^ 1) + exchange(x, team.rank ^ 1)
            assert fake.count["synchronize"] == before
            found: list[float] = backend.to_host(theirs).ravel().tolist()
            return found

    machines = processes(0, 1)
    assert machines.run(twice) == [[12.0] * 4, [6.0] * 4]


def test_it_goes_by_the_current_stream_of_its_device(processes: Callable[..., Processes]) -> None:
    def beside(team: ThreadTeam, backend: Backend) -> list[float]:
        stream = machines.fakes[team.rank].cupy.cuda.Stream(non_blocking=True)
        with backend.link(team) as exchange, stream:
            x = backend.to_device(np.full(3, team.rank + 1.0)) * 2
            machines.fakes[team.rank].local.device = 0  # as another library may leave it
            theirs = exchange(x, team.rank ^ 1)
            machines.fakes[team.rank].local.device = team.rank
            return list(backend.to_host(theirs + 1))

    machines = processes(0, 1)
    assert machines.run(beside) == [[5.0] * 3, [3.0] * 3]


@pytest.mark.cuda
def test_a_process_sends_to_itself() -> None:
    """On the GPU where there is one, and one is enough for this."""
    backend = select("cuda")
    cupy = importlib.import_module("cupy")
    module = chosen(cupy.cuda.Device(), "nvidia-nccl-cu13", Team())
    if module is None:
        pytest.skip("CuPy finds no NCCL: pip install nvidia-nccl-cu13")
    with backend.active(), linked(cupy, module, Team(), backend.active) as exchange:
        x = backend.to_device(np.linspace(-1, 1, 1 << 20)) * 3
        for part in (x, x[5:8], x.reshape(1 << 10, -1).T, x.astype(np.float32)):
            theirs = exchange(part, 0)
            assert (theirs.shape, theirs.dtype) == (part.shape, part.dtype)
            assert backend.to_host(theirs).tobytes() == backend.to_host(part).tobytes()


# Through the host


def test_one_gpu_for_two_processes(processes: Callable[..., Processes], caplog: pytest.LogCaptureFixture) -> None:
    machines = processes(0, 1, 1, 0)
    assert machines.run(swapped) == [[1.0] * 3, [0.0] * 3, [3.0] * 3, [2.0] * 3]
    assert not any(fake.count["ncclCommInitRank"] for fake in machines.fakes)
    (line,) = caplog.messages
    assert line.startswith("sums go through the computer's memory instead of over NCCL: the processes 1 and 2 share")
    assert "GPU 0000:01:00.0 of" in line


@pytest.mark.parametrize("rank", [0, 1])
def test_no_nccl_on_one_process(
    processes: Callable[..., Processes], rank: int, caplog: pytest.LogCaptureFixture
) -> None:
    machines = processes(0, 1)
    machines.module(rank).available = False
    assert machines.run(swapped) == [[1.0] * 3, [0.0] * 3]
    assert not any(fake.count["ncclCommInitRank"] for fake in machines.fakes)
    (line,) = caplog.messages
    assert f": on process {rank}, on " in line
    assert line.endswith("CuPy finds no NCCL: pip install nvidia-nccl-cu13")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import warnings; warnings.warn('nccl library could not be loaded.\\n\\nReason: ImportError (libnccl.so.2: "
            "no such file)\\n\\nYou can install it by:\\n $ pip install ...'); available = False",
            "CuPy finds no NCCL (ImportError (libnccl.so.2: no such file))",
        ),
        ("raise OSError('invalid ELF header')", "CuPy's NCCL cannot be imported (OSError: invalid ELF header)"),
    ],
)
def test_what_cupy_says_of_a_missing_library_is_quoted(
    code: str, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Twins(Team):
        size = 2

        def gather(self, value: Any) -> list[Any]:
            return [value, value]

    fake = fake_cupy.install(monkeypatch)
    fake.cupy.cuda.__path__ = [str(tmp_path)]
    monkeypatch.delitem(sys.modules, "cupy.cuda.nccl")
    (tmp_path / "nccl.py").write_text(code)
    with select("cuda").link(Twins()):
        pass
    assert f", {said}: pip install nvidia-nccl-cu13" in caplog.text
    monkeypatch.delitem(sys.modules, "cupy.cuda.nccl", raising=False)


def test_other_versions(processes: Callable[..., Processes], caplog: pytest.LogCaptureFixture) -> None:
    machines = processes(0, 1)
    machines.module(1).get_version = lambda: 22707
    assert machines.run(swapped) == [[1.0] * 3, [0.0] * 3]
    assert "has NCCL 2.27.7, process 0 has 2.32.3" in caplog.text


def test_alone_nobody_is_asked(processes: Callable[..., Processes], caplog: pytest.LogCaptureFixture) -> None:
    machines = processes(0)

    def alone(team: ThreadTeam, backend: Backend) -> None:
        with backend.link(team):
            pass

    with caplog.at_level(logging.INFO):
        machines.run(alone)
    assert not machines.fakes[0].count["ncclGetUniqueId"]
    assert not caplog.messages


# Errors


def errors_of(machines: Processes, what: Callable[[ThreadTeam, Backend], object]) -> list[str]:
    """The message with which each process ends."""

    def process(team: ThreadTeam, backend: Backend) -> str:
        with pytest.raises(DeviceError) as caught:
            what(team, backend)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return machines.run(process)


def test_all_processes_learn_that_the_first_cannot_start(processes: Callable[..., Processes]) -> None:
    machines = processes(0, 1)
    machines.fakes[0].fail["ncclGetUniqueId"] = nccl.NcclError(2)
    message = (
        "NCCL fails to start (NcclError: NCCL_ERROR_SYSTEM_ERROR: unhandled system error "
        "(run with NCCL_DEBUG=INFO for details))"
    )
    assert errors_of(machines, swapped) == [message, message]


def test_a_communicator_that_fails(processes: Callable[..., Processes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that it fails on says so; the other one waits until its process is ended."""
    monkeypatch.setattr(nccl, "PATIENCE", 0.2)
    machines = processes(0, 1)
    machines.fakes[1].fail["ncclCommInitRank"] = nccl.NcclError(1)

    def process(team: ThreadTeam, backend: Backend) -> str:
        with pytest.raises((DeviceError, TimeoutError)) as caught:
            swapped(team, backend)
        return str(caught.value)

    waiting, failing = machines.run(process)
    assert waiting == "rank 0 waits for the greeting of rank 1, as a GPU would for ever"
    assert failing.startswith("NCCL fails to start (NcclError: NCCL_ERROR_UNHANDLED_CUDA_ERROR: ")


@pytest.mark.parametrize("operation", ["ncclSend", "ncclRecv"])
def test_an_exchange_that_fails(processes: Callable[..., Processes], operation: str) -> None:
    """Its group is closed, and its communicator is broken off: to end it properly, it would wait for the other one."""
    machines = processes(0, 1)

    def process(team: ThreadTeam, backend: Backend) -> None:
        fake = machines.fakes[team.rank]
        with backend.link(team) as exchange:
            fake.fail[operation] = nccl.NcclError(5)
            try:
                exchange(backend.to_device(np.ones(3)), team.rank ^ 1)
            finally:
                assert not fake.group.depth

    for rank, message in enumerate(errors_of(machines, process)):
        assert message.startswith(f"NCCL fails between the processes {rank} and {1 - rank} (NcclError: NCCL_ERROR_INVA")
    assert [fake.count["ncclCommAbort"] for fake in machines.fakes] == [1, 1]
    assert [fake.count["ncclCommDestroy"] for fake in machines.fakes] == [0, 0]


def test_what_ends_the_training_breaks_off_the_connections(processes: Callable[..., Processes]) -> None:
    machines = processes(0, 1)

    def process(team: ThreadTeam, backend: Backend) -> None:
        with backend.link(team):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machines.run(process)
    assert [fake.count["ncclCommAbort"] for fake in machines.fakes] == [1, 1]


def test_gpus_that_do_not_get_what_is_sent(
    processes: Callable[..., Processes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Garbling(nccl.Mail):
        def put(self, name: bytes, source: int, target: int, tag: str, message: Any) -> None:
            super().put(name, source, target, tag, message * 0 if tag == "message" else message)

    machines, garbling = processes(0, 1), Garbling()
    for fake in machines.fakes:
        fake.wire = garbling
    message = "the GPU of process 0 gets something else from that of process 1 than this one sends"
    assert errors_of(machines, swapped) == [f"{message}: try with NCCL_P2P_DISABLE=1"] * 2


# The stand-in's traps


class Pair:
    """Two ranks' communicators, and what each can do with them."""

    def __init__(self, team: ThreadTeam, fake: fake_cupy.Fake) -> None:
        self.cupy, self.nccl = fake.cupy, fake.modules["cupy.cuda.nccl"]
        self.rank, self.peer = team.rank, 1 - team.rank
        module: Any = self.nccl
        self.communicator = module.NcclCommunicator(
            2, team.told(module.get_unique_id() if team.rank == 0 else None), team.rank
        )

    def exchange(
        self, count: int = 3, dtype: str = "FLOAT32", grouped: bool = True, stream: int = 0, receives: bool = True
    ) -> Any:
        own, theirs = self.cupy.full(4, self.rank + 1.0, "float32"), self.cupy.empty(4, "float32")
        kind, module = nccl.CONSTANTS[f"NCCL_{dtype}"], self.nccl
        if grouped:
            module.groupStart()
        self.communicator.send(own.data.ptr, count, kind, self.peer, stream)
        if receives:
            self.communicator.recv(theirs.data.ptr, count, kind, self.peer, stream)
        if grouped:
            module.groupEnd()
        return theirs


def outcome(machines: Processes, what: Callable[[Pair], Any]) -> list[Any]:
    """What each rank's function returns, or its error's message."""

    def process(team: ThreadTeam, backend: Backend) -> Any:
        pair = None
        try:
            pair = Pair(team, machines.fakes[team.rank])
            return what(pair)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            if pair is not None:
                pair.communicator.abort()

    return machines.run(process)


def test_a_group_passes_both_ways(processes: Callable[..., Processes]) -> None:
    assert outcome(processes(0, 1), lambda pair: pair.exchange().get()[:3].tolist()) == [[2.0] * 3, [1.0] * 3]


def test_without_a_group_both_wait_for_ever(
    processes: Callable[..., Processes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nccl, "PATIENCE", 0.2)
    first, _ = outcome(processes(0, 1), lambda pair: pair.exchange(grouped=False).get())
    assert first == "TimeoutError: rank 0 waits for the receipt of rank 1, as a GPU would for ever"


def test_a_peer_that_never_comes(processes: Callable[..., Processes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nccl, "PATIENCE", 0.2)
    first, second = outcome(processes(0, 1), lambda pair: pair.exchange().get() if pair.rank == 0 else None)
    assert first == "TimeoutError: rank 0 waits for the message of rank 1, as a GPU would for ever"
    assert second is None


def test_other_counts_and_dtypes(processes: Callable[..., Processes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nccl, "PATIENCE", 0.2)
    first, _ = outcome(processes(0, 1), lambda pair: pair.exchange(count=3 + pair.rank).get())
    assert first == "RuntimeError: rank 1 sends 4 float32, rank 0 expects 3 float32"
    first, _ = outcome(processes(0, 1), lambda pair: pair.exchange(dtype=("FLOAT32", "INT32")[pair.rank]).get())
    assert first == "RuntimeError: rank 1 sends 3 int32, rank 0 expects 3 float32"


def test_the_first_exchange_cannot_be_captured_and_the_second_can(processes: Callable[..., Processes]) -> None:
    def captured(pair: Pair) -> Any:
        with pair.cupy.cuda.Stream(non_blocking=True) as stream:
            if connected:
                pair.exchange(stream=stream.ptr)
            stream.begin_capture()
            theirs = pair.exchange(stream=stream.ptr)
            graph = stream.end_capture()
            graph.launch()
            return theirs.get()[:3].tolist()

    connected = True
    assert outcome(processes(0, 1), captured) == [[2.0] * 3, [1.0] * 3]
    connected = False
    refusal = "NcclError: NCCL_ERROR_UNHANDLED_CUDA_ERROR: unhandled cuda error (run with NCCL_DEBUG=INFO for details)"
    assert outcome(processes(0, 1), captured) == [refusal, refusal]


def test_on_another_stream_it_reads_what_is_not_there_yet(processes: Callable[..., Processes]) -> None:
    def crossed(pair: Pair) -> Any:
        computing, other = (pair.cupy.cuda.Stream(non_blocking=True) for _ in range(2))
        with computing:
            pair.cupy.asarray(np.ones(4, np.float32))  # a copy, for which all that follows waits
            theirs = pair.exchange(stream=other.ptr)
            computing.synchronize()
            return theirs.get().tolist()

    assert outcome(processes(0, 1), crossed) != [[2.0] * 4, [1.0] * 4]


def test_a_group_that_is_not_closed_sends_nothing(processes: Callable[..., Processes]) -> None:
    def opened(pair: Pair) -> None:
        module: Any = pair.nccl
        module.groupStart()
        pair.exchange().get()

    machines = processes(0, 1)
    assert outcome(machines, opened) == [None, None]
    assert not any(fake.count["nccl"] for fake in machines.fakes)


def test_no_group_is_closed_twice_and_no_communicator_is_used_after_its_end(
    processes: Callable[..., Processes],
) -> None:
    def ended(pair: Pair) -> Any:
        module: Any = pair.nccl
        with pytest.raises(nccl.NcclError, match="INVALID_USAGE"):
            module.groupEnd()
        pair.communicator.destroy()
        with pytest.raises(nccl.NcclError, match="INVALID_ARGUMENT"):
            pair.exchange(grouped=False)

    assert outcome(processes(0, 1), ended) == [None, None]


def test_two_ranks_on_one_gpu_are_refused(processes: Callable[..., Processes]) -> None:
    for message in outcome(processes(1, 1), lambda pair: None):
        assert message.startswith("NcclError: NCCL_ERROR_INVALID_USAGE")
