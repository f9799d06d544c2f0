"""The processes in which the systems of bench/_peers.py train on command."""

import contextlib
import dataclasses
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from threadpoolctl import threadpool_info

import xpnet
from bench._peers import SYSTEMS, Trainer
from bench._rates import Rates, rates
from xpnet.backend._base import first_line
from xpnet.data import Dataset
from xpnet.platforms import usable_cpus
from xpnet.training.prepare import held_out

# After a parallel loop a library's threads spin for up to 100 ms before they sleep; the next system must not meet them.
SETTLE = 0.15


class PeerError(RuntimeError):
    """A system that failed, in one line."""


class Server:
    """What a worker answers with."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._data: Dataset | None = None
        self._trainer: Trainer
        with contextlib.suppress(ImportError):  # of which start tells
            import_module(SYSTEMS[system].package)  # while others are still getting ready

    def start(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        self._trainer = SYSTEMS[self._system](data, network, config)

    def epoch(self) -> tuple[float, float | None]:
        start = time.perf_counter()
        loss = self._trainer.epoch()
        return time.perf_counter() - start, loss

    def race(self, epochs: int) -> list[tuple[float, float]]:
        self._trainer.restart()
        self._trainer.accuracy()  # which waits until the first weights are there
        return [(self.epoch()[0], self._trainer.accuracy()) for _ in range(epochs)]

    def run(self, data: Dataset | None, config: xpnet.TrainConfig) -> list[tuple[float, float]]:
        self._data = data = data or self._data
        assert data is not None
        network = config.network(data.n_features, data.n_outputs, data.task)
        if self._system == "xpnet":
            history = xpnet.fit(network, data, config, backend=xpnet.select(config.device), progress=False).history
            return [(epoch.seconds, float(epoch.test_accuracy or 0.0)) for epoch in history]
        config = config.holding_out(len(data), validated=data.validation is not None)
        if config.held:
            data = dataclasses.replace(data, train=data.train[held_out(len(data), config)[0]])
        config = config.resolved(len(data), network.loss)
        self.start(data, network, config)
        return self.race(config.epochs or 0)

    def nodes_per_step(self) -> float | None:
        return self._trainer.nodes_per_step()

    def rates(self, device: str) -> tuple[Rates, list[str]]:
        return rates(device)

    def threads(self) -> int:
        if "torch" in sys.modules:
            return int(sys.modules["torch"].get_num_threads())
        if "jax" in sys.modules:
            return usable_cpus()
        return max(int(library["num_threads"]) for library in threadpool_info() if library["user_api"] == "blas")


class Budget:
    """Seconds that are left, by a clock."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds

    def left(self) -> float:
        """How many they are now; 0 when they are over."""
        return max(0.0, self._end - self._clock())

    def part(self, share: float, *, all_but: float = math.inf) -> "Budget":
        """What is left but for some seconds, and at least a share of it."""
        return Budget(max(share * self.left(), self.left() - all_but), self._clock)


class Worker:
    """A system's process; it sleeps between two calls and ends with its parent.

    system : its name.   budget : a call that is not answered as it is over ends the process.   server : what answers in
    the process, made from the name there.
    """

    def __init__(self, system: str, budget: Budget | None = None, server: Callable[[str], object] = Server) -> None:
        self.budget = budget or Budget(math.inf)
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(server, system, there), daemon=True)
        self._process.start()
        self._busy = False
        there.close()

    def start(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        """Get ready to train from the first weights on.   Raises PeerError, as all methods do."""
        self._ask("start", data, network, config)

    def epoch(self) -> tuple[float, float | None]:
        """Train an epoch; returns its seconds and its mean loss."""
        seconds, loss = self._ask("epoch")
        return seconds, loss

    def run(self, data: Dataset | None, config: xpnet.TrainConfig) -> list[tuple[float, float]]:
        """Train as config says, on the newest data; returns each epoch's seconds of training and test accuracy."""
        epochs: list[tuple[float, float]] = self._ask("run", data, config)
        return epochs

    def race(self, epochs: int) -> list[tuple[float, float]]:
        """Train anew from the first weights; returns each epoch's seconds of training and test accuracy."""
        found: list[tuple[float, float]] = self._ask("race", epochs)
        return found

    def nodes_per_step(self) -> float | None:
        """Nodes of the graph for each step, as the system tells."""
        nodes: float | None = self._ask("nodes_per_step")
        return nodes

    def rates(self, device: str) -> tuple[Rates, list[str]]:
        """What bench._rates.rates measures."""
        found: tuple[Rates, list[str]] = self._ask("rates", device)
        return found

    def threads(self) -> int:
        """The number of threads that the system's library computes on."""
        return int(self._ask("threads"))

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()
        if not self._busy:
            self._process.join(10)
        self._process.kill()
        self._process.join()
        self._process.close()

    def _ask(self, method: str, *arguments: Any) -> Any:
        limit, late = self.budget.left(), threading.Event()
        if limit == 0:
            raise PeerError("no time was left for it")

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(min(limit, threading.TIMEOUT_MAX), end)
        timer.daemon = True
        timer.start()
        self._busy = True
        try:
            self._connection.send((method, arguments))
            answer, error = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            why = f"cut off after {limit:.3g} s" if late.is_set() else None
            raise PeerError(why or f"its process ended with exit code {self._process.exitcode}") from None
        finally:
            timer.cancel()
        self._busy = False
        if error:
            raise PeerError(error)
        return answer


def _serve(server_of: Callable[[str], object], system: str, connection: Any) -> None:
    # Ctrl-C reaches all processes of the terminal: the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = server_of(system)
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = getattr(server, method)(*arguments), ""
        except Exception as error:
            answer = None, first_line(error)
        with contextlib.suppress(OSError):
            connection.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
