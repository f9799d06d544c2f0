"""xpnet and its peers, each in a process of its own, which trains an epoch when it is told to.

Every system is a generator that gets ready, and trains one epoch each time it is asked for the next value; it starts
from the weights that xpnet starts from, and reads the same images. The peers are written as their own documentation
advises.
"""

import contextlib
import functools
import importlib.util
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

import xpnet
from bench.step import products
from xpnet.backend._base import first_line
from xpnet.data import Dataset
from xpnet.loop import Loop, computing
from xpnet.training import prepare

# After a parallel loop a library's threads spin for up to 100 ms before they sleep; the next system must not meet them.
SETTLE = 0.15


class PeerError(RuntimeError):
    """A system that failed, in one line."""


class Trained(NamedTuple):
    """An epoch's mean training loss, None where nothing is trained; and the way to the test accuracy after it."""

    loss: float | None = None
    test_accuracy: Callable[[], float] | None = None


Epochs = Generator[Trained, None, None]


class System(NamedTuple):
    """A system: the package it needs, and epochs(data, network, config), whose first next() gets it ready."""

    package: str
    epochs: Callable[[Dataset, xpnet.MLP, xpnet.TrainConfig], Epochs]


# The systems ----------------------------------------------------------------------------------------------------------


def _products_epochs(
    data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig, *, threads: int | None = None
) -> Epochs:
    """The matrix products of an epoch's steps and nothing else, their operands always in the caches."""
    n, batch_size = len(data.train.labels), _batch_size(config)
    full, last = products(network.sizes, batch_size), products(network.sizes, n % batch_size or batch_size)
    with threadpool_limits(threads, user_api="blas"):
        yield Trained()
        while True:
            for _ in range(math.ceil(n / batch_size) - 1):
                full()
            last()
            yield Trained()


def _xpnet_epochs(
    data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig, *, library: str | None = None
) -> Epochs:
    """The epochs of fit."""
    backend = xpnet.select("cpu", library)
    run, splits = prepare(network, data, config, backend)
    with computing(run):
        loop = Loop(run, splits["train"])
        yield Trained()
        for number in range(1, config.epochs + 1):
            for _ in loop.epoch(number):
                pass
            backend.synchronize()
            yield Trained(float(backend.to_host(loop.state.loss)[0]) / run.n_examples)


def _torch_epochs(data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig, *, compiled: bool = False) -> Epochs:
    """PyTorch with fused SGD; with compiled, the forward pass and the loss by torch.compile, and so their gradients.

    Measured: compiling the whole step, optimizer included, is slower on small networks and no faster on large ones.
    """
    if compiled:
        # Else compiling leaves a pool of processes behind.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch
    from torch import nn

    torch.manual_seed(config.seed)
    layers: list[Any] = []
    for n_in, n_out in pairwise(network.sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), network.init_params(config.seed), strict=True):
            parameter.copy_(torch.from_numpy(array.T))
    loss_of = nn.CrossEntropyLoss()
    momentum = config.momentum if config.optimizer in ("momentum", "nesterov") else 0.0
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr or xpnet.optim.OPTIMIZERS[config.optimizer].lr,
        momentum=momentum,
        nesterov=config.optimizer == "nesterov",
        weight_decay=config.weight_decay,
        fused=True,
    )
    batch_size, n = _batch_size(config), len(data.train.labels)
    n_steps = math.ceil(n / batch_size) * config.epochs
    schedule = (
        torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, n_steps).step if config.schedule == "linear" else None
    )
    x, y = torch.from_numpy(_scaled(data.train.images)), torch.from_numpy(data.train.labels.astype(np.int64))

    def loss_on(rows: Any) -> Any:
        return loss_of(model(x[rows]), y[rows])

    def test_accuracy() -> float:
        assert data.test is not None
        images, labels = torch.from_numpy(_scaled(data.test.images)), torch.from_numpy(data.test.labels)
        model.eval()
        with torch.inference_mode():
            hits = sum(
                int((model(a).argmax(1) == b).sum())
                for a, b in zip(images.split(1000), labels.split(1000), strict=True)
            )
        model.train()
        return hits / len(labels)

    if compiled:
        loss_on = torch.compile(loss_on, dynamic=False)
    yield Trained()
    while True:
        total = torch.zeros(())
        for rows in torch.randperm(n).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_on(rows)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            if schedule is not None:
                schedule()
        yield Trained(total.item() / n, test_accuracy)


def _sklearn_epochs(data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> Epochs:
    """scikit-learn: an epoch is a call of partial_fit, without a search for numbers that are not finite."""
    import sklearn
    from sklearn.neural_network import MLPClassifier

    sklearn.set_config(assume_finite=True)

    x, y = _scaled(data.train.images), data.train.labels
    model = MLPClassifier(
        network.sizes[1:-1],
        solver="sgd",
        alpha=0.0,
        batch_size=_batch_size(config),
        learning_rate_init=config.lr,
        momentum=config.momentum,
        nesterovs_momentum=False,
        random_state=np.random.RandomState(config.seed),  # a number would repeat the order of the batches
    )
    # The weights can be set after a first call only; the optimizer that this call made has a velocity by then.
    with np.errstate(all="ignore"):
        model.partial_fit(x[: _batch_size(config)], y[: _batch_size(config)], classes=np.arange(network.sizes[-1]))
    params = network.init_params(config.seed)
    for own, given in zip([*model.coefs_, *model.intercepts_], [*params[::2], *params[1::2]], strict=True):
        own[...] = given
    del model._optimizer
    yield Trained()
    while True:
        model.partial_fit(x, y)
        yield Trained(float(model.loss_))


def _jax_epochs(data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> Epochs:
    """JAX: a whole epoch is one compiled call, a scan over its batches; the rest of the images is a last step."""
    import jax
    import jax.numpy as jnp

    n, batch_size = len(data.train.labels), _batch_size(config)
    n_full = n // batch_size * batch_size
    lr, momentum = config.lr, config.momentum

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        *hidden, (W, b) = params
        for V, c in hidden:
            x = jax.nn.relu(x @ V + c)
        return -jnp.take_along_axis(jax.nn.log_softmax(x @ W + b), y[:, None], axis=1).mean()

    def epoch(params: Any, velocity: Any, order: Any, x: Any, y: Any) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            params, velocity, total = carry
            loss, grads = jax.value_and_grad(loss_of)(params, x[rows], y[rows])
            velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, grads)
            params = jax.tree.map(lambda p, v: p - lr * v, params, velocity)
            return (params, velocity, total + loss * len(rows)), None

        carry = params, velocity, jnp.zeros(())
        carry, _ = jax.lax.scan(step, carry, order[:n_full].reshape(-1, batch_size))
        if n_full < n:
            carry, _ = step(carry, order[n_full:])
        return carry

    compiled = jax.jit(epoch, donate_argnums=(0, 1))
    arrays = [jax.device_put(array) for array in network.init_params(config.seed)]
    params = list(zip(arrays[::2], arrays[1::2], strict=True))
    velocity = jax.tree.map(jnp.zeros_like, params)
    x, y = jax.device_put(_scaled(data.train.images)), jax.device_put(data.train.labels)
    rng = np.random.default_rng(config.seed)
    yield Trained()
    while True:
        # NumPy's order: JAX's own permutation sorts.
        order = jax.device_put(rng.permutation(n).astype(np.int32))
        params, velocity, total = compiled(params, velocity, order, x, y)
        yield Trained(float(total) / n)


SYSTEMS = {
    "products": System("numpy", _products_epochs),
    "products, 1 CPU": System("numpy", functools.partial(_products_epochs, threads=1)),
    "xpnet": System("numpy", _xpnet_epochs),
    "PyTorch": System("torch", _torch_epochs),
    "PyTorch compile": System("torch", functools.partial(_torch_epochs, compiled=True)),
    "scikit-learn": System("sklearn", _sklearn_epochs),
    "JAX": System("jax", _jax_epochs),
    "xpnet on torch": System("torch", functools.partial(_xpnet_epochs, library="torch")),
    "xpnet on JAX": System("jax", functools.partial(_xpnet_epochs, library="jax")),
}


def installed(system: str, systems: Mapping[str, Any] = SYSTEMS) -> bool:
    """Whether the package that a system needs is there."""
    return importlib.util.find_spec(systems[system].package) is not None


def _batch_size(config: xpnet.TrainConfig) -> int:
    assert isinstance(config.batch_size, int)
    return config.batch_size


def _scaled(images: NDArray[Any]) -> NDArray[np.float32]:
    x = images.reshape(len(images), -1).astype(np.float32)
    return x / np.float32(255) if images.dtype == np.uint8 else x


# Their processes ------------------------------------------------------------------------------------------------------


class Worker:
    """A system's process; it sleeps between two calls and ends with its parent.

    system : its name.   server : what answers in the process, made from that name there; by default for SYSTEMS.
    """

    def __init__(self, system: str, server: Callable[[str], object] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(server or _Server, system, there), daemon=True)
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

    def run(self, data: Dataset | None, config: xpnet.TrainConfig, device: str) -> list[tuple[float, float]]:
        """Train as config says, on the newest data; returns each epoch's seconds of training and test accuracy."""
        epochs: list[tuple[float, float]] = self._ask("run", data, config, device)
        return epochs

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
        self._busy = True
        try:
            self._connection.send((method, arguments))
            answer, error = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise PeerError(f"its process ended with exit code {self._process.exitcode}") from None
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


class _Server:
    """What a worker answers with."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._epochs: Epochs | None = None
        self._data: Dataset | None = None

    def start(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        if self._epochs is not None:
            self._epochs.close()  # takes back what it has set in the process
        self._epochs = SYSTEMS[self._system].epochs(data, network, config)
        next(self._epochs)

    def epoch(self) -> tuple[float, float | None]:
        trained, seconds = self._next()
        return seconds, trained.loss

    def run(self, data: Dataset | None, config: xpnet.TrainConfig, device: str) -> list[tuple[float, float]]:
        self._data = data = data or self._data
        assert data is not None
        network = config.network(data.n_features, data.n_classes)
        if self._system == "xpnet":
            history = xpnet.fit(network, data, config, backend=xpnet.select(device), callbacks=[]).history
            return [(epoch.seconds, float(epoch.test_accuracy or 0.0)) for epoch in history]
        self.start(data, network, config)
        epochs = []
        for _ in range(config.epochs):
            trained, seconds = self._next()
            assert trained.test_accuracy is not None
            epochs.append((seconds, trained.test_accuracy()))
        return epochs

    def _next(self) -> tuple[Trained, float]:
        assert self._epochs is not None
        start = time.perf_counter()
        return next(self._epochs), time.perf_counter() - start

    def threads(self) -> int:
        if "torch" in sys.modules:
            return int(sys.modules["torch"].get_num_threads())
        if "jax" in sys.modules:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(int(library["num_threads"]) for library in threadpool_info() if library["user_api"] == "blas")
