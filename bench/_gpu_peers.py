"""xpnet and its peers on a GPU, each in a process of its own, which is ended when it takes too long.

All do the same work. The images lie on the device as bytes; a step gathers a shuffled batch by an array of indices,
divides it by 255, goes forward and backward through the network and cross-entropy, and updates by SGD with Nesterov
momentum, all in float32 without TF32. The peers are written as their own documentation advises. On the CPU, where
nothing is captured, they are the same in everything else, so that tests can compare them.
"""

import contextlib
import functools
import importlib.util
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import xpnet
from bench._peers import PeerError, Worker, _batch_size, _end_with_parent
from xpnet.data import Dataset
from xpnet.loader import Loader
from xpnet.model import make_evaluate
from xpnet.schedules import SCHEDULES
from xpnet.training import STEPS_PER_CALL, Loop, computing, prepare

# Steps before a capture; PyTorch's documentation has three.
WARM_UP = 3

# Of the products and copies that the floor goes by: rows and columns of a matrix, and float32 numbers.
LARGEST = {"cpu": (256, 1 << 20), "cuda": (8192, 1 << 27)}


class LateError(PeerError):
    """A system that was ended because it took too long."""


class Race(NamedTuple):
    """A run to an accuracy: seconds and steps of training up to the first check that reached it, None if none did.

    lost : whether a later check was below it.   accuracy : at the end.   total : seconds of training in all.
    """

    seconds: float | None
    steps: int | None
    lost: bool
    accuracy: float
    total: float


class Trainer:
    """A system, ready to train; n_steps is the number of steps of an epoch."""

    n_steps: int

    def steps(self) -> Iterator[int]:
        """Issue an epoch's steps; yield how many have been, now and then."""
        raise NotImplementedError

    def loss(self) -> float:
        """The mean training loss of the newest epoch; waits until the device has done it."""
        raise NotImplementedError

    def accuracy(self) -> float:
        """On the test images."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until the device has done all steps."""
        raise NotImplementedError

    def restart(self) -> None:
        """Go back to the first weights, keeping what was compiled or captured."""
        raise NotImplementedError

    def nodes_per_step(self) -> float | None:
        """Nodes of the graph for each step; None where there is no graph, or where it doesn't tell."""
        return None

    def close(self) -> None:
        """Take back what was set in the process."""


class System(NamedTuple):
    """A system: the package it needs on a GPU, and trainer(data, network, config), on config.device.

    The number of training images is a multiple of the batch size.
    """

    package: str
    trainer: Callable[[Dataset, xpnet.MLP, xpnet.TrainConfig], Trainer]


# The systems ----------------------------------------------------------------------------------------------------------


class _Xpnet(Trainer):
    """What fit repeats."""

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig, *, graph: bool) -> None:
        self._backend = backend = xpnet.select(config.device, tf32=False, graph=graph)
        self._run, splits = prepare(network, data, config, backend)
        self.n_steps, self._number = self._run.n_steps, 0
        self._context = contextlib.ExitStack()
        self._context.enter_context(computing(self._run))
        self._loop = Loop(self._run, splits["train"])
        self._test = Loader(splits["test"], backend) if "test" in splits else None
        self._evaluate = make_evaluate(network, backend)

    def steps(self) -> Iterator[int]:
        self._number += 1
        return self._loop.epoch(self._number)

    def loss(self) -> float:
        self._backend.synchronize()
        return float(self._backend.to_host(self._loop.state.loss)[0]) / self._run.n_examples

    def accuracy(self) -> float:
        assert self._test is not None
        return self._evaluate(self._loop.state.params, self._loop.state.running, self._test).accuracy

    def synchronize(self) -> None:
        self._backend.synchronize()

    def restart(self) -> None:
        to_device, state = self._backend.to_device, self._loop.state
        # An epoch replaces loss, hits and healthy itself.
        self._loop.state = state._replace(
            params=[to_device(array) for array in self._run.params],
            running=[to_device(array) for array in self._run.running],
            optimizer=[to_device(np.zeros_like(self._backend.to_host(array))) for array in state.optimizer],
            step=to_device(np.zeros(1, np.int64)),
        )
        self._number = 0
        self._backend.synchronize()

    def nodes_per_step(self) -> float | None:
        nodes: float | None = getattr(self._loop, "nodes_per_step", None)
        return nodes

    def close(self) -> None:
        self._context.close()


class _Torch(Trainer):
    """PyTorch with fused SGD; with compiled, the forward pass and the loss by torch.compile, and so their gradients."""

    def __init__(
        self,
        data: Dataset,
        network: xpnet.MLP,
        config: xpnet.TrainConfig,
        *,
        compiled: bool = False,
        lr_on_device: bool = False,
    ) -> None:
        if compiled:
            # Else compiling leaves a pool of processes behind.
            os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        import torch
        from torch import nn

        torch.set_float32_matmul_precision("highest")
        torch.manual_seed(config.seed)
        self._torch, self._data = torch, data
        self._device = device = torch.device(config.device)
        layers: list[Any] = []
        for n_in, n_out in pairwise(network.sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self._model = nn.Sequential(*layers[:-1]).to(device)
        self._first = [torch.from_numpy(a.T.copy()).to(device) for a in network.init_params(config.seed)]
        assert config.lr is not None
        self._lr: Any = torch.tensor(config.lr, device=device) if lr_on_device else config.lr
        self._optimizer = torch.optim.SGD(
            self._model.parameters(), lr=self._lr, momentum=config.momentum, nesterov=True, fused=True
        )
        self._images, self._labels = self._moved(data.train)
        self._batch_size = _batch_size(config)
        self.n_steps = len(self._labels) // self._batch_size
        self._total = torch.zeros((), device=device)
        loss_of = nn.CrossEntropyLoss()

        def loss_on(rows: Any) -> Any:
            x = self._images.index_select(0, rows).float() / 255
            return loss_of(self._model(x), self._labels.index_select(0, rows))

        self._loss_on = torch.compile(loss_on, dynamic=False) if compiled else loss_on
        self.restart()

    def _moved(self, split: xpnet.Split) -> tuple[Any, Any]:
        images = self._torch.from_numpy(np.array(split.images).reshape(len(split.labels), -1))
        return images.to(self._device), self._torch.from_numpy(split.labels.astype(np.int64)).to(self._device)

    def _step_on(self, rows: Any) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss_on(rows)
        loss.backward()
        self._optimizer.step()
        self._total += loss.detach()

    def _shuffled(self) -> Any:
        return self._torch.randperm(len(self._labels), device=self._device)

    def steps(self) -> Iterator[int]:
        self._total.zero_()
        for done, rows in enumerate(self._shuffled().split(self._batch_size), 1):
            self._step_on(rows)
            if done % STEPS_PER_CALL == 0 or done == self.n_steps:
                yield done

    def loss(self) -> float:
        return float(self._total.item()) / self.n_steps

    def accuracy(self) -> float:
        assert self._data.test is not None
        images, labels = self._moved(self._data.test)
        with self._torch.inference_mode():
            hits = sum(
                int((self._model(a.float() / 255).argmax(1) == b).sum())
                for a, b in zip(images.split(1000), labels.split(1000), strict=True)
            )
        return hits / len(labels)

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()

    def restart(self) -> None:
        with self._torch.no_grad():
            for parameter, first in zip(self._model.parameters(), self._first, strict=True):
                parameter.copy_(first)
            for state in self._optimizer.state.values():
                state["momentum_buffer"].zero_()
        self.synchronize()


class _TorchGraph(_Torch):
    """PyTorch with the whole step in a CUDA graph, and about as many steps together as xpnet has.

    The step's number is on the device, and with it the batch's indices and the learning rate.
    """

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        super().__init__(data, network, config, lr_on_device=True)
        torch, device = self._torch, self._device
        n = self.n_steps * config.epochs
        options = {} if config.warmup is None else {"warmup": round(config.warmup * n)}
        assert config.lr is not None
        rates = SCHEDULES[config.schedule](np.arange(n), lr=config.lr, n_steps=n, **options)
        # The steps before the capture may be more than those of the run.
        rates = np.pad(rates, (0, WARM_UP), mode="edge")
        self._rates = torch.from_numpy(rates.astype(np.float32)).to(device)
        self._order = torch.arange(len(self._labels), device=device)
        self._offsets = torch.arange(self._batch_size, device=device)
        self._number = torch.zeros(1, dtype=torch.int64, device=device)
        if device.type == "cuda":
            self._stream = torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._warm_up()
            torch.cuda.current_stream().wait_stream(self._stream)
        else:
            self._warm_up()
        # As many as leave few steps over.
        self._together = self.n_steps // math.ceil(self.n_steps / STEPS_PER_CALL)
        self._many, self._one = self._captured(self._together), self._captured(1)
        self.restart()

    def _step(self) -> None:
        self._lr.copy_(self._rates.index_select(0, self._number).squeeze(0))
        positions = self._number % self.n_steps * self._batch_size + self._offsets
        self._step_on(self._order.index_select(0, positions))
        self._number += 1

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            self._step()

    def _captured(self, times: int) -> Callable[[], None]:
        def steps() -> None:
            for _ in range(times):
                self._step()

        if self._device.type != "cuda":
            return steps
        self._optimizer.zero_grad(set_to_none=True)
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph, stream=self._stream):
            steps()
        replay: Callable[[], None] = graph.replay
        return replay

    def steps(self) -> Iterator[int]:
        self._total.zero_()
        self._order.copy_(self._shuffled())
        done = 0
        while done < self.n_steps:
            together = done + self._together <= self.n_steps
            (self._many if together else self._one)()
            done += self._together if together else 1
            yield done

    def restart(self) -> None:
        if hasattr(self, "_number"):
            self._number.zero_()
        super().restart()


class _Jax(Trainer):
    """JAX: a whole epoch, its order included, is one compiled call, a scan over its batches."""

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        # The other systems need memory too.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_default_matmul_precision", "highest")
        batch_size, lr, momentum = _batch_size(config), config.lr, config.momentum
        n = len(data.train.labels)
        self.n_steps = n_steps = n // batch_size

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

            order = jax.random.permutation(key, n).reshape(n_steps, batch_size)
            carry, _ = jax.lax.scan(step, (params, velocity, jnp.zeros(())), order)
            return carry

        device = jax.devices("gpu" if config.device.startswith("cuda") else config.device)[0]
        put = functools.partial(jax.device_put, device=device)
        self._epoch = jax.jit(epoch, donate_argnums=(0, 1))
        arrays = [put(array) for array in network.init_params(config.seed)]
        self._params = list(zip(arrays[::2], arrays[1::2], strict=True))
        self._velocity = jax.tree.map(lambda array: put(np.zeros(array.shape, array.dtype)), self._params)
        self._images, self._labels = put(data.train.images.reshape(n, -1)), put(data.train.labels)
        self._keys = iter([put(key) for key in jax.random.split(jax.random.key(config.seed), config.epochs)])
        self._total: Any = None

    def steps(self) -> Iterator[int]:
        self._params, self._velocity, self._total = self._epoch(
            self._params, self._velocity, next(self._keys), self._images, self._labels
        )
        yield self.n_steps

    def loss(self) -> float:
        return float(self._total) / self.n_steps


OWN = "xpnet graph"
# What takes long to get ready comes last.
SYSTEMS = {
    OWN: System("cupy", functools.partial(_Xpnet, graph=True)),
    "xpnet eager": System("cupy", functools.partial(_Xpnet, graph=False)),
    "PyTorch": System("torch", _Torch),
    "PyTorch CUDA graph": System("torch", _TorchGraph),
    "JAX": System("jax", _Jax),
    "PyTorch compile": System("torch", functools.partial(_Torch, compiled=True)),
}


def installed(system: str, device: str) -> bool:
    """Whether the package that a system needs is there; on the CPU xpnet needs none."""
    return (device == "cpu" and system.startswith("xpnet")) or importlib.util.find_spec(
        SYSTEMS[system].package
    ) is not None


# What the device can do -----------------------------------------------------------------------------------------------


def floor(device: str) -> dict[str, Any]:
    """What the device can do at best: rates of products and copies, and what launching costs.

    Returns gemm and gemm_tf32, in floating-point operations per second; bandwidth, in bytes read and written per
    second; launch and node, in seconds: of a single small operation, by itself and in a graph. What could not be
    measured is None, and said in faults.
    """
    on_cpu = device == "cpu"
    size, copied = LARGEST["cpu" if on_cpu else "cuda"]
    measured: dict[str, Any] = {}
    faults: dict[str, str] = {}
    parts: dict[str, tuple[Callable[[xpnet.Backend], float], bool]] = {
        "gemm": (lambda backend: 2 * size**3 / _product(backend, size), False),
        "bandwidth": (lambda backend: 8 * copied / _copy(backend, copied), False),
        "launch": (_launch, False),
        "node": (_node, False),
        "gemm_tf32": (lambda backend: 2 * size**3 / _product(backend, size), True),
    }
    for name, (measure, tf32) in parts.items():
        measured[name] = None
        if on_cpu and name in ("gemm_tf32", "node"):
            continue
        try:
            backend = xpnet.select(device, tf32=tf32)
            with backend.active():
                measured[name] = measure(backend)
        except Exception as error:
            faults[name] = _in_a_line(error)
    return measured | {"faults": faults}


def _product(backend: xpnet.Backend, size: int) -> float:
    """Seconds of a product of two square matrices."""
    rng = np.random.default_rng(0)
    a, b = (backend.to_device(rng.random((size, size), np.float32)) for _ in range(2))
    return _fastest(lambda: backend.xp.matmul(a, b), backend, 5)


def _copy(backend: xpnet.Backend, n: int) -> float:
    """Seconds of copying n float32 numbers."""
    source, destination = (backend.xp.zeros(n, dtype=backend.xp.float32) for _ in range(2))

    def run() -> None:
        destination[...] = source

    return _fastest(run, backend, 5)


def _launch(backend: xpnet.Backend) -> float:
    """Seconds of adding a number to another one."""
    x, one = (backend.to_device(np.ones(1, np.float32)) for _ in range(2))

    def run() -> None:
        nonlocal x
        x += one

    return _fastest(run, backend, 1000)


def _node(backend: xpnet.Backend, times: int = 100) -> float:
    """The same within a graph of many such operations."""
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


class GpuWorker(Worker):
    """A system's process; a call that takes longer than limit seconds ends it."""

    def __init__(self, system: str, limit: float, serve: Callable[[str, Any], None] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=serve or _serve, args=(system, there), daemon=True)
        self._process.start()
        self._busy = False
        there.close()
        self.limit = limit

    def nodes_per_step(self) -> float | None:
        """Nodes of the graph for each step, as the system tells; raises PeerError, as all methods do."""
        nodes: float | None = self._ask("nodes_per_step")
        return nodes

    def race(self, epochs: int, target: float, every: int) -> Race:
        """Train anew for some epochs; see Race.

        target : accuracy in [0, 1].   every : steps after which it is checked, besides at the end of an epoch.
        """
        return Race(*self._ask("race", epochs, target, every))

    def floor(self, device: str) -> dict[str, Any]:
        """What floor measures."""
        measured: dict[str, Any] = self._ask("floor", device)
        return measured

    def finish(self) -> None:
        """Let the process end by itself if it is idle, so that closing needs no waiting."""
        self._connection.close()

    def _ask(self, method: str, *arguments: Any) -> Any:
        if self.limit <= 0:
            raise PeerError("no time was left for it")
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(self.limit, end)
        timer.start()
        try:
            return super()._ask(method, *arguments)
        except PeerError:
            if late.is_set():
                raise LateError(f"cut off after {self.limit:.3g} s") from None
            raise
        finally:
            timer.cancel()


def _serve(system: str, connection: Any) -> None:
    # Ctrl-C reaches all processes of the terminal: the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = _Server(system)
    with contextlib.suppress(EOFError, OSError):
        while True:
            method, arguments = connection.recv()
            try:
                answer = getattr(server, method)(*arguments), ""
            except Exception as error:
                answer = None, _in_a_line(error)
            connection.send(answer)


def _in_a_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])


class _Server:
    """What a worker answers with."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._trainer: Trainer | None = None

    def start(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        if self._trainer is not None:
            self._trainer.close()
        self._trainer = SYSTEMS[self._system].trainer(data, network, config)

    def epoch(self) -> tuple[float, float]:
        trainer = self._started()
        start = time.perf_counter()
        for _ in trainer.steps():
            pass
        loss = trainer.loss()
        return time.perf_counter() - start, loss

    def nodes_per_step(self) -> float | None:
        return self._started().nodes_per_step()

    def race(self, epochs: int, target: float, every: int) -> Race:
        return race(self._started(), epochs, target, every)

    def floor(self, device: str) -> dict[str, Any]:
        return floor(device)

    def _started(self) -> Trainer:
        assert self._trainer is not None
        return self._trainer


def race(trainer: Trainer, epochs: int, target: float, every: int) -> Race:
    """Train anew for some epochs, timing the steps and nothing else; arguments as in GpuWorker.race."""
    trainer.accuracy()  # whatever it compiles
    trainer.restart()
    total, steps, accuracy, lost = 0.0, 0, 0.0, False
    reached: tuple[float, int] | None = None
    for _ in range(epochs):
        checked = 0
        start = time.perf_counter()
        for done in trainer.steps():
            if done - checked < every and done < trainer.n_steps:
                continue
            trainer.synchronize()
            total += time.perf_counter() - start
            steps, checked = steps + done - checked, done
            accuracy = trainer.accuracy()
            if round(accuracy, 8) >= target:
                reached = reached or (total, steps)
            elif reached:
                lost = True
            start = time.perf_counter()
    seconds, at = reached or (None, None)
    return Race(seconds, at, lost, accuracy, total)


def whole_batches(data: Dataset, images: int | None, batch_size: int, *, test: bool = False) -> Dataset:
    """The first images of a set, or all of them, but for those that do not fill a batch; and the test images."""
    total = len(data.train.labels)
    n = min(images or total, total) // batch_size * batch_size
    if n == 0:
        raise xpnet.ConfigError(f"{data.name} has {total} training images, less than a batch of {batch_size}")
    train = xpnet.Split(data.train.images[:n], data.train.labels[:n])
    return Dataset(data.name, train, test=data.test if test else None, n_classes=data.n_classes, source=data.source)
