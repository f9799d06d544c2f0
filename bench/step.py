"""The training step on NumPy, compared with its matrix products alone.

Both are timed in turn, in one process, on random data of MNIST's shape and on the BLAS threads that fit would use, so
that other work on the machine affects both equally; only the ratio of the medians counts. The products alone on all
threads are timed too: their operands stay in the caches, which no step can achieve. --parts shows where a step's time
goes, by performing one by hand with the package's own functions.
"""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import xpnet
from bench._common import Parser
from bench._log import note
from xpnet.data import Schema
from xpnet.numerics.augment import STANDARD, distort
from xpnet.numerics.functional import ACTIVATIONS, LOSSES, scale_features
from xpnet.optim import OPTIMIZERS, init_state
from xpnet.training.config import TrainConfig
from xpnet.training.initializers import init_params
from xpnet.training.loop import largest_product
from xpnet.training.step import State, make_step


def main(argv: list[str] | None = None) -> int:
    """Print the medians and their ratio."""
    parser = Parser(prog="python -m bench step", description=__doc__)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--activation", default="relu", choices=ACTIVATIONS)
    parser.add_argument("--optimizer", default="momentum")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=200, help="rounds of 10 steps each")
    parser.add_argument("--augment", action="store_true", help=f"time the distortion of a batch too: {STANDARD}")
    parser.add_argument("--parts", action="store_true", help="show where the time of a step goes")
    options = parser.parse_args(argv)
    sizes, batch_size = (784, *options.hidden, 10), options.batch_size
    network = xpnet.MLP(sizes, activation=options.activation)
    config = TrainConfig(optimizer=options.optimizer, weight_decay=options.weight_decay)
    backend = xpnet.select("cpu")
    floor = products(sizes, batch_size)
    measured = {"step": _step(network, batch_size, config), "products": floor}
    if options.augment:
        measured["step, augmented"] = _step(network, batch_size, config.replace(augment=STANDARD))
        measured["distortion"] = _distortion(batch_size)
    times: dict[str, list[float]] = {name: [] for name in (*measured, "products, all threads")}
    for round_ in range(options.rounds + 5):
        with backend.threads_for(largest_product(network, batch_size)):
            threads = _blas_threads()
            seconds = {name: _time(run) for name, run in measured.items()}
        seconds["products, all threads"] = _time(floor)
        if round_ >= 5:
            for name, each in seconds.items():
                times[name].append(1e6 * each)
    unusual = "" if network.activation == "relu" else f" {network.activation}"
    row = f"{'-'.join(map(str, sizes))}{unusual}@{batch_size} {config.optimizer}"
    print(
        f"{'-'.join(map(str, sizes))} {network.activation}, batch {batch_size}, {config.optimizer}, "
        f"weight decay {config.weight_decay:g}, float32, NumPy {np.__version__}, "
        f"{threads} of {_blas_threads()} BLAS threads"
    )
    for name in measured:
        note(f"{row}: {name}", times[name], "us", against=f"{row}: products" if name != "products" else "")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        low, _, high = statistics.quantiles(values, n=4)
        print(f"  {name:21} {medians[name]:8.0f} us median; the middle half of the rounds {low:.0f} to {high:.0f} us")
    for name in ("products", "products, all threads"):
        print(f"  step / {name} = {medians['step'] / medians[name]:.2f}")
    if options.augment:
        for name in ("distortion", "step, augmented"):
            print(f"  {name} / step = {medians[name] / medians['step']:.2f}")
    if options.parts:
        with backend.threads_for(largest_product(network, batch_size)):
            _print_parts(network, batch_size, config, options.rounds)
    return 0


def _print_parts(network: xpnet.MLP, batch_size: int, config: TrainConfig, rounds: int) -> None:
    """The medians of a step's parts, one after the other as the step does them."""
    backend, sizes, rng = xpnet.select("cpu"), network.sizes, np.random.default_rng(0)
    xp, update = backend.xp, backend.blockwise(OPTIMIZERS[config.optimizer].update)
    images = rng.integers(0, 256, (60_000, sizes[0]), dtype=np.uint8)
    labels, order = rng.integers(0, sizes[-1], 60_000).astype(np.int32), rng.permutation(60_000)
    options = config.hyperparameters
    params, lr = init_params(network), np.full(1, 1e-4, np.float32)
    slots = init_state(config.optimizer, params)
    loss_of, layers = LOSSES[network.loss].function, _layers(sizes, batch_size)
    times: dict[str, list[float]] = {}
    start = 0.0

    def lap(part: str) -> None:
        nonlocal start
        end = time.perf_counter()
        times.setdefault(part, []).append(1e6 * (end - start))
        start = time.perf_counter()

    for i in range(10 * rounds):
        start = time.perf_counter()
        rows = xp.take(order, np.full(1, i) % (60_000 // batch_size) * batch_size + np.arange(batch_size), axis=0)
        u, y = xp.take(images, rows, axis=0), xp.take(labels, rows, axis=0)
        lap("gather the batch")
        x = scale_features(u, np.float32, scale=255.0, xp=xp)
        lap("bytes to floats in [0, 1]")
        logits, vjp, _ = network.forward(params, x, training=True, xp=xp)
        lap("forward")
        loss, loss_vjp = loss_of(logits, y, xp=xp)
        dlogits = loss_vjp()
        lap("loss and its gradient")
        grads = vjp(dlogits)
        lap("backward")
        params, slots = update(params, slots, grads, lr=lr, xp=xp, **options)
        lap("update of the parameters")
        xp.count_nonzero(xp.argmax(logits, axis=1) == y)
        xp.isfinite(loss)
        lap("hits and checks")
        for x_, W, _ in layers:
            xp.matmul(x_, W)
        lap("of forward, the products alone")
        for i_layer, (x_, W, dy) in enumerate(layers):
            xp.matmul(x_.T, dy)
            if i_layer:
                xp.matmul(dy, W.T)
        lap("of backward, the products alone")
    print("  where the time goes, in us")
    for part, values in times.items():
        print(f"    {part:32} {statistics.median(values[len(values) // 10 :]):8.1f}")


def _time(run: Callable[[], None]) -> float:
    """Seconds of one call, over ten calls after one that brings threads and caches into play."""
    run()
    start = time.perf_counter()
    for _ in range(10):
        run()
    return (time.perf_counter() - start) / 10


def _blas_threads() -> int:
    threads: int = max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
    return threads


def _step(network: xpnet.MLP, batch_size: int, config: TrainConfig) -> Callable[[], None]:
    """The step that fit repeats, on 60,000 random images."""
    rng = np.random.default_rng(0)
    n = 60_000
    backend = xpnet.select("cpu")
    images = rng.integers(0, 256, (n, network.sizes[0]), dtype=np.uint8)
    labels = rng.integers(0, network.sizes[-1], n).astype(np.int32)
    n_steps = n // batch_size
    step = make_step(
        network,
        config,
        xp=backend.xp,
        batch_size=batch_size,
        n_steps=n_steps,
        schema=Schema(image_shape=(28, 28)),
        update=backend.blockwise(OPTIMIZERS[config.optimizer].update),
    )
    order, offsets, rates = rng.permutation(n), np.arange(batch_size), np.full(1_000_000, 1e-4, np.float32)
    params = init_params(network)
    zeros: list[Any] = [np.zeros(1, dtype) for dtype in (np.int64, np.float32, np.int64, np.int64)]
    state = State(params, [], init_state(config.optimizer, params), [], *zeros)

    def run() -> None:
        nonlocal state
        state = step(state, images, labels, order, rates, offsets)

    return run


def _distortion(batch_size: int) -> Callable[[], None]:
    """The distortion of a batch of random images, with other draws every time."""
    xp, step = xpnet.select("cpu").xp, np.zeros(1, np.int64)
    images = np.random.default_rng(0).random((batch_size, 784), dtype=np.float32)

    def run() -> None:
        nonlocal step
        distort(images, (28, 28), STANDARD, step, xp=xp)
        step = step + 1

    return run


def _layers(sizes: tuple[int, ...], batch_size: int) -> list[list[Any]]:
    """Random x, W and dy of each layer."""
    rng = np.random.default_rng(0)
    layers = []
    for n_in, n_out in pairwise(sizes):
        shapes = ((batch_size, n_in), (n_in, n_out), (batch_size, n_out))
        layers.append([rng.random(shape, dtype=np.float32) for shape in shapes])
    return layers


def products(sizes: tuple[int, ...], batch_size: int) -> Callable[[], None]:
    """Forward x W, weight gradient x^T dy, and input gradient dy W^T of each layer, the first layer's excepted."""
    layers = _layers(sizes, batch_size)

    def run() -> None:
        for i, (x, W, dy) in enumerate(layers):
            np.matmul(x, W)
            np.matmul(x.T, dy)
            if i:
                np.matmul(dy, W.T)

    return run
