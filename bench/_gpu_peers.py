"""xpnet and its peers on a GPU, each in a process of its own, which is ended when it takes too long.

All do the same work. The images lie on the device as bytes; a step gathers a shuffled batch by an array of indices,
divides it by 255, goes forward and backward through the network and cross-entropy, and updates by SGD with Nesterov
momentum, all in float32 without TF32. The peers are written as their own documentation advises. On the CPU, where
nothing is captured, they are the same in everything else, so that tests can compare them.
"""

import functools
import math
import os
import threading
import time
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

import xpnet
from bench._peers import PeerError, Worker
from xpnet.backend._base import first_line
from xpnet.data import Dataset
from xpnet.loader import Loader
from xpnet.loop import STEPS_PER_CALL, Loop, computing
from xpnet.model import make_evaluate
from xpnet.training import prepare

# What the floor goes by: rows and columns of a matrix, float32 numbers to copy, nodes of a graph.
SIZES = {"cpu": {"gemm": 256, "bandwidth": 1 << 20}, "cuda": {"gemm": 8192, "bandwidth": 1 << 27, "node": 100}}

Rates = dict[str, float | None]


class Trainer:
    """A system, ready to train a network on config.device; the training images are whole batches.

    package : what it needs besides what xpnet needs on that device.
    """

    package = "numpy"

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None: ...

    def epoch(self) -> float:
        """Train an epoch, and wait until the device has done it; returns the mean loss."""
        raise NotImplementedError

    def accuracy(self) -> float:
        """On the test images."""
        raise NotImplementedError

    def restart(self) -> None:
        """Go back to the first weights and the first step, keeping what was compiled or captured."""
        raise NotImplementedError

    def nodes_per_step(self) -> float | None:
        """Nodes of the graph for each step; None where there is no graph, or where it doesn't tell."""
        return None


# The systems ----------------------------------------------------------------------------------------------------------


class _Xpnet(Trainer):
    """What fit repeats."""

    graph = True

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        self._backend = xpnet.select(config.device, graph=self.graph)
        self._run, self._splits = prepare(network, data, config, self._backend)
        self._number = 0
        with computing(self._run):
            self._loop = Loop(self._run, self._splits["train"])
            self._evaluate = make_evaluate(network, self._backend)

    def epoch(self) -> float:
        self._number += 1
        with computing(self._run):
            for _ in self._loop.epoch(self._number):
                pass
            return float(self._backend.to_host(self._loop.state.loss)[0]) / self._run.n_examples

    def accuracy(self) -> float:
        with computing(self._run):
            test, state = Loader(self._splits["test"], self._backend), self._loop.state
            return self._evaluate(state.params, state.running, test).accuracy

    def restart(self) -> None:
        self._number = 0
        with computing(self._run):
            self._loop.state = Loop(self._run, self._splits["train"]).state

    def nodes_per_step(self) -> float | None:
        return self._loop.nodes_per_step


class _XpnetEager(_Xpnet):
    """The same, operation by operation."""

    graph = False


class _Torch(Trainer):
    """PyTorch with fused SGD; for constant learning rates."""

    package = "torch"

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        import torch
        from torch import nn

        torch.set_float32_matmul_precision("highest")
        torch.manual_seed(config.seed)
        self._torch, self._device = torch, torch.device(config.device)
        self._test: Any = data.test
        self._run, _ = prepare(network, data, config, xpnet.select("cpu"))
        layers: list[Any] = []
        for n_in, n_out in pairwise(network.sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self._model = model = nn.Sequential(*layers[:-1]).to(self._device)
        self._first = [torch.from_numpy(array.T.copy()).to(self._device) for array in self._run.params]
        self._optimizer = torch.optim.SGD(
            model.parameters(), lr=config.lr or 0.0, momentum=config.momentum, nesterov=True, fused=True
        )
        self._total = torch.zeros((), device=self._device)
        (images, labels), loss_of = self._moved(data.train), nn.CrossEntropyLoss()

        def loss_on(rows: Any) -> Any:
            return loss_of(model(images.index_select(0, rows).float() / 255), labels.index_select(0, rows))

        self._loss_on = loss_on
        self.restart()

    def epoch(self) -> float:
        self._total.zero_()
        order = self._torch.randperm(self._run.n_examples, device=self._device)
        self._train(order.view(self._run.n_steps, self._run.batch_size))
        return float(self._total.item()) / self._run.n_steps

    def accuracy(self) -> float:
        images, labels = self._moved(self._test)
        with self._torch.inference_mode():
            return int((self._model(images.float() / 255).argmax(1) == labels).sum()) / len(labels)

    def restart(self) -> None:
        with self._torch.no_grad():
            for parameter, first in zip(self._model.parameters(), self._first, strict=True):
                parameter.copy_(first)
            for state in self._optimizer.state.values():
                state["momentum_buffer"].zero_()

    def _moved(self, split: xpnet.Split) -> tuple[Any, Any]:
        images = self._torch.from_numpy(np.array(split.images).reshape(len(split.labels), -1))
        return images.to(self._device), self._torch.from_numpy(split.labels.astype(np.int64)).to(self._device)

    def _train(self, batches: Any) -> None:
        """Issue the steps of an epoch; batches are the indices of their images."""
        for rows in batches:
            self._step(rows)

    def _step(self, rows: Any) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss_on(rows)
        loss.backward()
        self._optimizer.step()
        self._total += loss.detach()


class _TorchCompiled(_Torch):
    """PyTorch with the forward pass and the loss by torch.compile, and so their gradients."""

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        # Else compiling leaves a pool of processes behind; it is read when the compiler is imported.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        super().__init__(data, network, config)
        self._loss_on = self._torch.compile(self._loss_on, dynamic=False)


class _TorchGraph(_Torch):
    """PyTorch with several whole steps in a CUDA graph, as many as xpnet has.

    Before a replay, the indices of their images and their learning rates are copied to where the graph reads them.
    """

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        super().__init__(data, network, config)
        torch, n_steps, batch_size = self._torch, self._run.n_steps, self._run.batch_size
        # As many as leave few steps over.
        self._together = n_steps // math.ceil(n_steps / STEPS_PER_CALL)
        self._rows = torch.arange(self._together * batch_size, device=self._device).view(-1, batch_size)
        self._rates = torch.from_numpy(self._run.rates.astype(np.float32)).to(self._device)
        self._next_rates, self._lr = self._rates[: self._together].clone(), self._rates[0].clone()
        self._scheduled = config.schedule != "constant"
        if self._scheduled:
            self._optimizer.param_groups[0]["lr"] = self._lr
        self._stream = torch.cuda.Stream() if self._device.type == "cuda" else None
        self._lr.item()  # waits: what the other stream uses must be there
        with torch.cuda.stream(self._stream):
            for _ in range(3):  # as PyTorch's documentation has it
                self._steps(1)
        self._many, self._one = self._captured(self._together), self._captured(1)
        self.restart()

    def restart(self) -> None:
        self._done = 0
        super().restart()

    def _train(self, batches: Any) -> None:
        while len(batches):
            n = self._together if len(batches) >= self._together else 1
            self._rows[:n].copy_(batches[:n])
            self._next_rates[:n].copy_(self._rates[self._done : self._done + n])
            (self._many if n == self._together else self._one)()
            batches, self._done = batches[n:], self._done + n

    def _steps(self, n: int) -> None:
        for rows, lr in zip(self._rows[:n], self._next_rates[:n], strict=True):
            if self._scheduled:
                self._lr.copy_(lr)
            self._step(rows)

    def _captured(self, n: int) -> Callable[[], None]:
        if self._stream is None:
            return functools.partial(self._steps, n)
        self._optimizer.zero_grad(set_to_none=True)
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph, stream=self._stream):
            self._steps(n)
        return functools.partial(graph.replay)


class _Jax(Trainer):
    """JAX: a whole epoch, its order included, is one compiled call, a scan over its batches."""

    package = "jax"

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        # The other systems need memory too; it is read when the device is first asked for.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_default_matmul_precision", "highest")
        run, _ = prepare(network, data, config, xpnet.select("cpu"))
        self._n_steps, batch_size = run.n_steps, run.batch_size
        lr, momentum = config.lr, config.momentum

        def loss_of(params: Any, x: Any, y: Any) -> Any:
            *hidden, (W, b) = params
            for V, c in hidden:
                x = jax.nn.relu(x @ V + c)
            return -jnp.take_along_axis(jax.nn.log_softmax(x @ W + b), y[:, None], axis=1).mean()

        def epoch(params: Any, velocity: Any, key: Any, images: Any, labels: Any) -> Any:
            def step(carry: Any, rows: Any) -> Any:
                params, velocity, total = carry
                x = images[rows].astype(jnp.float32) / 255
                loss, grads = jax.value_and_grad(loss_of)(params, x, labels[rows])
                velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, grads)
                params = jax.tree.map(lambda p, g, v: p - lr * (g + momentum * v), params, grads, velocity)
                return (params, velocity, total + loss), None

            order = jax.random.permutation(key, len(labels)).reshape(-1, batch_size)
            carry, _ = jax.lax.scan(step, (params, velocity, jnp.zeros(())), order)
            return carry

        put = functools.partial(jax.device_put, device=jax.devices("gpu" if config.device == "cuda" else "cpu")[0])
        self._epoch = jax.jit(epoch, donate_argnums=(0, 1))
        arrays = [put(array) for array in run.params]
        self._params = list(zip(arrays[::2], arrays[1::2], strict=True))
        self._velocity = jax.tree.map(lambda array: put(np.zeros(array.shape, array.dtype)), self._params)
        self._images, self._labels = put(data.train.images.reshape(run.n_examples, -1)), put(data.train.labels)
        self._keys = iter([put(key) for key in jax.random.split(jax.random.key(config.seed), config.epochs)])

    def epoch(self) -> float:
        self._params, self._velocity, total = self._epoch(
            self._params, self._velocity, next(self._keys), self._images, self._labels
        )
        return float(total) / self._n_steps


OWN = "xpnet graph"
# What takes long to get ready comes last.
SYSTEMS: dict[str, type[Trainer]] = {
    OWN: _Xpnet,
    "xpnet eager": _XpnetEager,
    "PyTorch": _Torch,
    "PyTorch CUDA graph": _TorchGraph,
    "JAX": _Jax,
    "PyTorch compile": _TorchCompiled,
}


# What the device can do -----------------------------------------------------------------------------------------------


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


# Their processes ------------------------------------------------------------------------------------------------------


class Server:
    """What a worker answers with."""

    def __init__(self, system: str) -> None:
        self._system = system
        import_module(SYSTEMS[system].package)  # while others are still getting ready

    def start(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        self._trainer = SYSTEMS[self._system](data, network, config)

    def epoch(self) -> tuple[float, float]:
        start = time.perf_counter()
        loss = self._trainer.epoch()
        return time.perf_counter() - start, loss

    def nodes_per_step(self) -> float | None:
        return self._trainer.nodes_per_step()

    def race(self, epochs: int) -> list[tuple[float, float]]:
        self._trainer.restart()
        self._trainer.accuracy()  # which waits until the first weights are there
        return [(self.epoch()[0], self._trainer.accuracy()) for _ in range(epochs)]

    def rates(self, device: str) -> tuple[Rates, list[str]]:
        return rates(device)


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


class GpuWorker(Worker):
    """A system's process, which is ended when it is busy as its budget is over."""

    def __init__(self, system: str, budget: Budget, server: Callable[[str], object] = Server) -> None:
        super().__init__(system, server)
        self.budget = budget

    def nodes_per_step(self) -> float | None:
        """Nodes of the graph for each step, as the system tells."""
        nodes: float | None = self._ask("nodes_per_step")
        return nodes

    def race(self, epochs: int) -> list[tuple[float, float]]:
        """Train anew from the first weights; returns each epoch's seconds of training and test accuracy."""
        found: list[tuple[float, float]] = self._ask("race", epochs)
        return found

    def rates(self, device: str) -> tuple[Rates, list[str]]:
        """What rates measures."""
        found: tuple[Rates, list[str]] = self._ask("rates", device)
        return found

    def _ask(self, method: str, *arguments: Any) -> Any:
        limit, late = self.budget.left(), threading.Event()
        if limit == 0:
            raise PeerError("no time was left for it")

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            return super()._ask(method, *arguments)
        except PeerError:
            if late.is_set():
                raise PeerError(f"cut off after {limit:.3g} s") from None
            raise
        finally:
            timer.cancel()
