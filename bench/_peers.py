"""xpnet and its peers: systems that train the same network on the same data, on the CPU or on a GPU.

All start from the same weights as xpnet, and do the same steps in float32 without TF32: gather a shuffled batch by an
array of indices, go forward and backward through the network and cross-entropy, and update by SGD. On a GPU, the images
are bytes, which a step divides by 255; on the CPU, the peers get images that were divided beforehand, which is faster
there. They are written as their own documentation recommends.
"""

import functools
import importlib.util
import itertools
import math
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import xpnet
from bench.step import products
from xpnet.data import Dataset
from xpnet.training.evaluate import make_evaluate
from xpnet.training.initializers import init_params
from xpnet.training.loader import Loader
from xpnet.training.loop import Loop, computing, fewest_calls
from xpnet.training.prepare import prepare


class Trainer:
    """A system, ready to train a network as config says, on config.device.

    package : what it needs besides what xpnet needs on that device.
    """

    package = "numpy"

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None: ...

    def epoch(self) -> float | None:
        """Train an epoch, and wait until the device has done it; returns the mean loss, or None of none."""
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


def on_gpu(config: xpnet.TrainConfig) -> bool:
    """Whether images lie on the device as bytes and are shuffled there."""
    return config.device != "cpu"


class _Products(Trainer):
    """The matrix products of an epoch's steps and nothing else, their operands always in the caches."""

    threads: int | None = None

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        n, batch_size = len(data.train.labels), _batch_size(config)
        self._full, self._last = (products(network.sizes, size) for size in (batch_size, n % batch_size or batch_size))
        self._n_full = math.ceil(n / batch_size) - 1

    def epoch(self) -> None:
        with threadpool_limits(self.threads, user_api="blas"):
            for _ in range(self._n_full):
                self._full()
            self._last()


class _ProductsOnOneThread(_Products):
    threads = 1


class _Xpnet(Trainer):
    """What fit repeats."""

    library: str | None = None
    graph = True

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        self._backend = xpnet.select(config.device, self.library, graph=self.graph)
        self._run, self._splits = prepare(network, data, config, self._backend)
        self._number = 0
        with computing(self._run):
            self._loop = Loop(self._run, self._splits["train"])
            self._evaluate = make_evaluate(network, self._backend, self._run.schema)

    def epoch(self) -> float:
        self._number += 1
        with computing(self._run):
            for _ in self._loop.epoch(self._number):
                pass
            return float(self._backend.to_host(self._loop.state.loss)[0]) / self._run.n_examples

    def accuracy(self) -> float:
        with computing(self._run):
            test, state = Loader(self._splits["test"], self._backend), self._loop.state
            return float(self._evaluate(state.params, state.running, test).accuracy)

    def restart(self) -> None:
        self._number = 0
        with computing(self._run):
            self._loop.state = Loop(self._run, self._splits["train"]).state

    def nodes_per_step(self) -> float | None:
        return self._loop.nodes_per_step


class _XpnetEager(_Xpnet):
    """The same, operation by operation."""

    graph = False


class _XpnetOnTorch(_Xpnet):
    package = library = "torch"


class _XpnetOnJax(_Xpnet):
    package = library = "jax"


class _Torch(Trainer):
    """PyTorch with fused SGD."""

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
            model.parameters(),
            lr=float(self._run.rates[0]),
            momentum=_momentum(config),
            nesterov=config.optimizer == "nesterov",
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._scheduled = config.schedule != "constant"
        self._total = torch.zeros((), device=self._device)
        images, labels = self._moved(_images(data.train, config)), self._moved(data.train.labels).long()
        loss_of = nn.CrossEntropyLoss()

        def loss_on(rows: Any) -> Any:
            return loss_of(model(self._floats(images.index_select(0, rows))), labels.index_select(0, rows))

        self._loss_on = loss_on
        self.restart()

    def epoch(self) -> float:
        self._total.zero_()
        self._train(self._torch.randperm(self._run.n_examples, device=self._device))
        return float(self._total.item()) / self._run.n_examples

    def accuracy(self) -> float:
        images, labels = self._moved(_flat(self._test.images)), self._moved(self._test.labels)
        with self._torch.inference_mode():
            return int((self._model(self._floats(images)).argmax(1) == labels).sum()) / len(labels)

    def restart(self) -> None:
        self._done = 0
        with self._torch.no_grad():
            for parameter, first in zip(self._model.parameters(), self._first, strict=True):
                parameter.copy_(first)
            for state in self._optimizer.state.values():
                if state["momentum_buffer"] is not None:
                    state["momentum_buffer"].zero_()

    def _moved(self, array: NDArray[Any]) -> Any:
        return self._torch.from_numpy(np.array(array)).to(self._device)

    def _floats(self, images: Any) -> Any:
        return images if images.is_floating_point() else images.float() / 255

    def _train(self, order: Any) -> None:
        """Issue the steps of an epoch; order are the indices of its images."""
        for rows in order.split(self._run.batch_size):
            if self._scheduled:
                self._optimizer.param_groups[0]["lr"] = float(self._run.rates[self._done])
            self._step(rows)
            self._done += 1

    def _step(self, rows: Any) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss_on(rows)
        loss.backward()
        self._optimizer.step()
        self._total.add_(loss.detach(), alpha=len(rows))


class _TorchCompiled(_Torch):
    """PyTorch with the forward pass and the loss by torch.compile, and so their gradients.

    Measured on the CPU: compiling the whole step, optimizer included, is slower on small networks and no faster on
    large ones.
    """

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        # Else compiling leaves a pool of processes behind; it is read when the compiler is imported.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        super().__init__(data, network, config)
        self._loss_on = self._torch.compile(self._loss_on, dynamic=False)


class _TorchGraph(_Torch):
    """PyTorch with several whole steps in a CUDA graph, as many as xpnet has; for whole batches.

    Before a replay, the indices of their images and their learning rates are copied to where the graph reads them.
    """

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        super().__init__(data, network, config)
        torch, n_steps, batch_size = self._torch, self._run.n_steps, self._run.batch_size
        self._together = fewest_calls(n_steps)
        self._rows = torch.arange(self._together * batch_size, device=self._device).view(-1, batch_size)
        self._rates = torch.from_numpy(self._run.rates.astype(np.float32)).to(self._device)
        self._next_rates, self._lr = self._rates[: self._together].clone(), self._rates[0].clone()
        if self._scheduled:
            self._optimizer.param_groups[0]["lr"] = self._lr
        self._stream = torch.cuda.Stream() if self._device.type == "cuda" else None
        self._lr.item()  # waits: what the other stream uses must be there
        with torch.cuda.stream(self._stream):
            for _ in range(3):  # as PyTorch's documentation has it
                self._steps(1)
        self._many, self._one = self._captured(self._together), self._captured(1)
        self.restart()

    def _train(self, order: Any) -> None:
        batches = order.view(self._run.n_steps, self._run.batch_size)
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


class _Sklearn(Trainer):
    """scikit-learn: an epoch is a call of partial_fit, without a search for numbers that are not finite."""

    package = "sklearn"

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        import sklearn
        from sklearn.neural_network import MLPClassifier

        sklearn.set_config(assume_finite=True)

        self._x, self._y = x, y = _scaled(data.train.images), data.train.labels
        self._model = model = MLPClassifier(
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
        params = init_params(network, config.seed)
        for own, given in zip([*model.coefs_, *model.intercepts_], [*params[::2], *params[1::2]], strict=True):
            own[...] = given
        del model._optimizer

    def epoch(self) -> float:
        self._model.partial_fit(self._x, self._y)
        return float(self._model.loss_)


class _Jax(Trainer):
    """JAX: a whole epoch is one compiled call, a scan over its batches; the rest of the images is a last step.

    On a GPU the call draws the order as well. On the CPU that is NumPy's: JAX's own permutation sorts.
    """

    package = "jax"

    def __init__(self, data: Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        # The other systems need memory too; it is read when the device is first asked for.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_default_matmul_precision", "highest")
        self._n, batch_size = len(data.train.labels), _batch_size(config)
        n, n_full = self._n, self._n // batch_size * batch_size
        lr, momentum = config.lr, _momentum(config)
        draws, nesterov = on_gpu(config), config.optimizer == "nesterov"

        def loss_of(params: Any, x: Any, y: Any) -> Any:
            *hidden, (W, b) = params
            for V, c in hidden:
                x = jax.nn.relu(x @ V + c)
            return -jnp.take_along_axis(jax.nn.log_softmax(x @ W + b), y[:, None], axis=1).mean()

        def epoch(params: Any, velocity: Any, shuffle: Any, images: Any, labels: Any) -> Any:
            def step(carry: Any, rows: Any) -> Any:
                params, velocity, total = carry
                x = images[rows]
                x = x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x
                loss, grads = jax.value_and_grad(loss_of)(params, x, labels[rows])
                velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, grads)
                update = jax.tree.map(lambda g, v: g + momentum * v, grads, velocity) if nesterov else velocity
                params = jax.tree.map(lambda p, u: p - lr * u, params, update)
                return (params, velocity, total + loss * len(rows)), None

            order = jax.random.permutation(shuffle, n) if draws else shuffle
            carry = params, velocity, jnp.zeros(())
            carry, _ = jax.lax.scan(step, carry, order[:n_full].reshape(-1, batch_size))
            if n_full < n:
                carry, _ = step(carry, order[n_full:])
            return carry

        put = functools.partial(jax.device_put, device=jax.devices("cpu" if config.device == "cpu" else "gpu")[0])
        self._epoch = jax.jit(epoch, donate_argnums=(0, 1))
        arrays = [put(array) for array in init_params(network, config.seed)]
        self._params = list(zip(arrays[::2], arrays[1::2], strict=True))
        self._velocity = jax.tree.map(lambda array: put(np.zeros(array.shape, array.dtype)), self._params)
        self._images, self._labels = put(_images(data.train, config)), put(data.train.labels)
        self._shuffles: Iterator[Any]
        if draws:
            self._shuffles = iter([put(key) for key in jax.random.split(jax.random.key(config.seed), config.epochs)])
        else:
            rng = np.random.default_rng(config.seed)
            self._shuffles = (put(rng.permutation(n).astype(np.int32)) for _ in itertools.count())

    def epoch(self) -> float:
        self._params, self._velocity, total = self._epoch(
            self._params, self._velocity, next(self._shuffles), self._images, self._labels
        )
        return float(total) / self._n


SYSTEMS: dict[str, type[Trainer]] = {
    "products": _Products,
    "products, 1 CPU": _ProductsOnOneThread,
    "xpnet": _Xpnet,
    "xpnet on torch": _XpnetOnTorch,
    "xpnet on JAX": _XpnetOnJax,
    "xpnet graph": _Xpnet,
    "xpnet eager": _XpnetEager,
    "PyTorch": _Torch,
    "PyTorch compile": _TorchCompiled,
    "PyTorch CUDA graph": _TorchGraph,
    "scikit-learn": _Sklearn,
    "JAX": _Jax,
}
"""Each measurement has its own choice of them; the xpnet of a CPU is called xpnet graph on a GPU."""


def installed(system: str) -> bool:
    """Whether the package that a system needs is there."""
    return importlib.util.find_spec(SYSTEMS[system].package) is not None


def _batch_size(config: xpnet.TrainConfig) -> int:
    assert isinstance(config.batch_size, int)
    return config.batch_size


def _momentum(config: xpnet.TrainConfig) -> float:
    return config.momentum if config.optimizer in ("momentum", "nesterov") else 0.0


def _images(split: xpnet.Split, config: xpnet.TrainConfig) -> NDArray[Any]:
    """As a step takes them."""
    return _flat(split.images) if on_gpu(config) else _scaled(split.images)


def _flat(images: NDArray[Any]) -> NDArray[Any]:
    return images.reshape(len(images), -1)


def _scaled(images: NDArray[Any]) -> NDArray[np.float32]:
    x = _flat(images).astype(np.float32)
    return x / np.float32(255) if images.dtype == np.uint8 else x
