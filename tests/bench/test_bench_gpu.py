"""bench gpu, as far as it can be tested without a GPU: that all systems do the same work, and what is made of results.

The systems are the same on the CPU, but for that nothing is captured there.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from bench import _peers, _rates, _workers, gpu
from bench._common import first
from bench._peers import Trainer, installed
from bench._rates import Rates
from bench._workers import Budget, PeerError, Worker
from bench.gpu import OWN, SYSTEMS

ROOT = Path(__file__).parents[2]
ROW = "36-8-3@32"
NETWORK = xpnet.MLP((36, 8, 3))
EPOCHS = 10
CONFIG = xpnet.TrainConfig(
    hidden=(8,),
    optimizer="nesterov",
    lr=0.1,
    weight_decay=0.0,
    schedule="constant",
    batch_size=32,
    epochs=10,
    device="cpu",
)
QUICK = [system for system in SYSTEMS if system != "PyTorch compile"]
RACERS = [OWN, "PyTorch CUDA graph"]
COMMAND = ["--device", "cpu", "--no-tests", "--rows", ROW, "--rounds", "2"]


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """PyTorch on one thread: a second one that waits in a loop makes small steps slow where other work goes on."""
    # What is marked cuda does without PyTorch, which cannot be imported beside a stand-in for CuPy.
    if importlib.util.find_spec("torch") is None or request.node.get_closest_marker("cuda") is not None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are bytes, and shuffled on the device."""
    monkeypatch.setattr(_peers, "on_gpu", lambda _: True)


@pytest.fixture
def small_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """A race that ends in a moment."""
    race = CONFIG.replace(schedule="one-cycle", warmup=0.2, epochs=4, lr=0.5)
    for name, value in {"RACE": race, "SEEDS": range(2), "TARGET": 50.0}.items():
        monkeypatch.setattr(gpu, name, value)


def trainer(system: str, data: xpnet.Dataset, config: xpnet.TrainConfig = CONFIG) -> Trainer:
    """Ready to train on the whole batches of a set."""
    if not installed(system):
        pytest.skip(f"{_peers.SYSTEMS[system].package} is not installed")
    assert isinstance(config.batch_size, int)
    n = len(data.train.labels) // config.batch_size * config.batch_size
    return _peers.SYSTEMS[system](first(data, n, test=True), NETWORK, config)


def on_one_batch(system: str, data: xpnet.Dataset, config: xpnet.TrainConfig = CONFIG) -> list[float | None]:
    trained = trainer(system, first(data, 32), config)
    return [trained.epoch() for _ in range(config.epochs or 0)]


def by_hand(data: xpnet.Dataset) -> list[float]:
    """The losses on one batch, written out in float64."""
    x, y = data.train.images[:32].reshape(32, 36) / 255, data.train.labels[:32]
    params = [array.astype(np.float64) for array in xpnet.init_params(NETWORK, CONFIG.seed)]
    velocity = [np.zeros_like(array) for array in params]
    losses = []
    for _ in range(EPOCHS):
        W, b, V, c = params
        h = np.maximum(x @ W + b, 0)
        z = h @ V + c
        q = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        losses.append(float(-np.log(q[np.arange(32), y]).mean()))
        dz = (q - np.eye(3)[y]) / 32
        dh = dz @ V.T * (h > 0)
        for p, v, g in zip(params, velocity, [x.T @ dh, dh.sum(0), h.T @ dz, dz.sum(0)], strict=True):
            v[...] = 0.9 * v + g
            p[...] -= 0.1 * (g + 0.9 * v)
    return losses


# The same work --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", QUICK)
def test_all_systems_do_the_same_steps(small_data: xpnet.Dataset, system: str) -> None:
    assert on_one_batch(system, small_data) == pytest.approx(by_hand(small_data), rel=1e-5)


@pytest.mark.slow
def test_what_is_compiled_does_the_same_steps(small_data: xpnet.Dataset) -> None:
    """In a process of its own, where the compiler's warnings are no errors."""
    if not installed("PyTorch compile"):
        pytest.skip("torch is not installed")
    worker = Worker("PyTorch compile", Budget(500))
    worker.start(first(small_data, 32), NETWORK, CONFIG)
    losses = [worker.epoch()[1] for _ in range(EPOCHS)]
    worker.close()
    assert losses == pytest.approx(by_hand(small_data), rel=1e-5)


@pytest.mark.parametrize("system", QUICK)
def test_an_epoch_has_every_image_once(small_data: xpnet.Dataset, system: str) -> None:
    """At a rate of nearly 0 an epoch's mean loss does not depend on the order; 82 steps are 3 times 27 and one."""
    config = CONFIG.replace(lr=1e-12, batch_size=4, epochs=2)
    trained = trainer(system, small_data, config)
    expected = trainer(OWN, first(small_data, 328), config.replace(batch_size=328, epochs=1)).epoch()
    assert [trained.epoch(), trained.epoch()] == pytest.approx([expected] * 2, rel=1e-5)


@pytest.mark.parametrize("system", [*RACERS, "PyTorch"])
def test_a_restart_is_from_the_first_weights(small_data: xpnet.Dataset, system: str) -> None:
    schedule = "constant" if system == "PyTorch" else "linear"
    trained = trainer(system, first(small_data, 32), CONFIG.replace(schedule=schedule))
    losses = [trained.epoch() for _ in range(5)]
    trained.restart()
    assert [trained.epoch() for _ in range(5)] == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("settings", [{"schedule": "linear"}, {"schedule": "one-cycle", "warmup": 0.4}])
def test_the_graph_follows_a_schedule(small_data: xpnet.Dataset, settings: dict[str, Any]) -> None:
    config = CONFIG.replace(**settings)
    own = on_one_batch(OWN, small_data, config)
    assert on_one_batch("PyTorch CUDA graph", small_data, config) == pytest.approx(own, rel=1e-5)
    assert own != pytest.approx(on_one_batch(OWN, small_data), rel=1e-3)


def test_the_graph_follows_a_schedule_within_an_epoch(small_data: xpnet.Dataset) -> None:
    """On copies of one image, whose order does not matter: 83 steps, of which a call has 27 or one."""
    images, labels = np.repeat(small_data.train.images[:1], 332, 0), np.repeat(small_data.train.labels[:1], 332)
    data = xpnet.Dataset("copies", xpnet.Split(images, labels), n_classes=3)
    config = CONFIG.replace(schedule="linear", batch_size=4, epochs=2, lr=1e-3)
    own, graph = (trainer(system, data, config) for system in RACERS)
    for _ in range(2):
        assert graph.epoch() == pytest.approx(own.epoch(), rel=1e-5)


@pytest.mark.parametrize("system", RACERS)
def test_a_race(small_data: xpnet.Dataset, system: str) -> None:
    """It starts from the first weights and the first rate, and tells each epoch's accuracy on the test images."""
    if system != OWN:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    assert small_data.test is not None
    server = _workers.Server(system)
    server._trainer = trainer(system, small_data, CONFIG.replace(schedule="linear"))
    first_accuracy = server._trainer.accuracy()
    model = xpnet.Model(NETWORK, xpnet.init_params(NETWORK, CONFIG.seed), [], xpnet.select("cpu"))
    assert first_accuracy == pytest.approx(model.evaluate(*small_data.test).accuracy, abs=0.02)
    runs = [server.race(10), server.race(10)]
    for run in runs:
        assert len(run) == 10
        assert min(seconds for seconds, _ in run) > 0
        assert run[-1][1] > max(0.9, first_accuracy)
    if system == OWN:  # which draws the same order again
        assert [accuracy for _, accuracy in runs[0]] == [accuracy for _, accuracy in runs[1]]


class Scripted(Trainer):
    """Its epochs take a second; everything else takes a hundred."""

    def __init__(self, clock: list[float]) -> None:
        self._clock, self._done = clock, -1

    def epoch(self) -> float:
        self._clock[0] += 1.0
        self._done += 1
        return 0.5

    def accuracy(self) -> float:
        self._clock[0] += 100.0
        return self._done / 10

    def restart(self) -> None:
        self._clock[0] += 100.0
        self._done = 0


def test_a_race_times_the_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    server = _workers.Server(OWN)
    server._trainer = Scripted(clock)
    assert server.race(3) == [(1.0, 0.1), (1.0, 0.2), (1.0, 0.3)]


# On a GPU, or on what stands in for one -------------------------------------------------------------------------------


@pytest.fixture
def cuda() -> None:
    try:
        xpnet.select("cuda")
    except xpnet.DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.cuda
@pytest.mark.parametrize("system", [OWN, "xpnet eager"])
def test_xpnet_on_cuda(small_data: xpnet.Dataset, cuda: None, system: str) -> None:
    config = CONFIG.replace(device="cuda")
    losses = on_one_batch(system, small_data, config)
    assert losses == pytest.approx(by_hand(small_data), rel=1e-4)
    server = _workers.Server(system)
    server._trainer = trained = trainer(system, small_data, config.replace(epochs=3))
    trained.epoch()
    trained.epoch()
    assert (trained.nodes_per_step() is None) == (system != OWN)
    on_cpu = _workers.Server(OWN)
    on_cpu._trainer = trainer(OWN, small_data, CONFIG.replace(epochs=3))
    for (_, accuracy), (_, expected) in zip(server.race(3), on_cpu.race(3), strict=True):
        assert accuracy == pytest.approx(expected, abs=0.02)


@pytest.mark.cuda
def test_what_a_cuda_device_can_do(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_rates.SIZES, "cuda", {"gemm": 64, "bandwidth": 1 << 10, "node": 100})
    measured, faults = _rates.rates("cuda")
    assert faults == []
    assert set(measured) == {"gemm", "bandwidth", "node"}
    assert all(rate is not None and rate > 0 for rate in measured.values())


# What a step costs at least -------------------------------------------------------------------------------------------


def fake_row(results: dict[str, gpu.Result], sizes: tuple[int, ...] = NETWORK.sizes, name: str = ROW) -> gpu.Row:
    return gpu.Row(name, xpnet.MLP(sizes), 32, 10, results)


def test_flops_and_bytes_by_hand() -> None:
    row = gpu.Row("", xpnet.MLP((3, 4, 2)), 5, 10)
    # Forward 5x3 by 3x4 and 5x4 by 4x2; as much for the weights' gradients; and 5x2 by 2x4 for the hidden layer's.
    assert row.flops == 2 * (5 * 3 * 4 + 5 * 4 * 2) * 2 + 2 * 5 * 2 * 4
    # 26 parameters and their velocity, each read and written; 15 bytes of images; 6 outputs, written and read.
    assert row.bytes == 26 * 4 * 4 + 15 + 5 * 6 * 4 * 2
    sizes = (784, 2500, 2000, 1500, 1000, 500, 10)
    products = sum(a * b for a, b in pairwise(sizes))
    assert gpu.Row("", xpnet.MLP(sizes), 512, 117).flops == 6 * products * 512 - 2 * 784 * 2500 * 512


def test_the_floors_of_a_step() -> None:
    row = fake_row({OWN: gpu.Result(seconds=[1.0], nodes_per_step=17.0)})
    rates: Rates = {"gemm": 1e12, "bandwidth": 1e9, "node": 2e-6}
    assert row.floors(rates) == pytest.approx({"products": row.flops / 1e6, "bytes": row.bytes / 1e3, "nodes": 34.0})
    assert set(row.floors({"gemm": None, "bandwidth": 1e9})) == {"bytes"}
    assert fake_row({}).floors({"node": 2e-6}) == {}
    assert row.us[OWN].median == pytest.approx(1e5)


def test_what_the_device_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, faults = _rates.rates("cpu")
    assert faults == []
    assert set(measured) == {"gemm", "bandwidth"}
    assert all(rate is not None and rate > 0 for rate in measured.values())

    def fail(*_: Any) -> float:
        raise MemoryError("none is left\nat all")

    monkeypatch.setattr(_rates, "_bandwidth", fail)
    measured, faults = _rates.rates("cpu")
    assert measured["gemm"]
    assert (measured["bandwidth"], faults) == (None, ["bandwidth: MemoryError: none is left"])


def test_rates_have_the_right_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million products and sums, and 8 bytes for each number, in half a second."""
    monkeypatch.setattr(_rates, "_fastest", lambda *_: 0.5)
    monkeypatch.setitem(_rates.SIZES, "cpu", {"gemm": 100, "bandwidth": 1000})
    assert _rates.rates("cpu")[0] == {"gemm": 4e6, "bandwidth": 16e3}


def test_the_fastest_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def run() -> None:
        round_ = next(calls) // 5
        clock[0] += 0.1 if round_ == 0 else 3.0 if round_ == 4 else 7.0

    assert _rates._fastest(run, xpnet.select("cpu"), 5) == pytest.approx(3.0)


# Workers and their time -----------------------------------------------------------------------------------------------


def hang(_system: str) -> object:
    """What reads nothing, and answers nothing."""
    time.sleep(600)
    return None


def test_a_worker_that_hangs_is_ended(small_data: xpnet.Dataset) -> None:
    config = CONFIG.replace(hidden=(8,) * 100_000)  # more than a pipe takes without a reader
    worker = Worker(OWN, Budget(60), hang)
    worker.budget = Budget(0.5)
    with pytest.raises(PeerError, match=r"^cut off after 0.[45]\d* s$"):
        worker.start(small_data, NETWORK, config)
    worker.close()


def test_a_worker_that_fails_says_so_in_a_line(small_data: xpnet.Dataset) -> None:
    worker = Worker(OWN, Budget(300))
    with pytest.raises(PeerError, match=r"^ConfigError: the network takes 35 inputs, but .* has 36 features$"):
        worker.start(small_data, xpnet.MLP((35, 3)), CONFIG)
    worker.start(first(small_data, 32), NETWORK, CONFIG)
    seconds, loss = worker.epoch()
    assert seconds > 0
    assert loss == pytest.approx(by_hand(small_data)[0], rel=1e-5)
    assert worker.nodes_per_step() is None
    worker.budget = Budget(0.0)
    with pytest.raises(PeerError, match=r"^no time was left for it$"):
        worker.epoch()
    worker.close()


def test_a_budget() -> None:
    clock = [100.0]
    budget = Budget(60, lambda: clock[0])
    part = budget.part(0.5)
    assert (budget.left(), part.left()) == (60, 30)
    assert [budget.part(0.5, all_but=kept).left() for kept in (10, 50)] == [50, 30]
    clock[0] += 40
    assert (budget.left(), part.left(), budget.part(0.25).left()) == (20, 0, 5)


class Fake:
    """A worker whose epoch takes 2 seconds of a clock that is not real; some fail, and some take all the time."""

    clock = 0.0
    wrong: dict[str, str] = {}  # noqa: RUF012  (set by monkeypatch)
    started: list[str] = []  # noqa: RUF012

    def __init__(self, system: str, budget: Budget) -> None:
        self.system, self.budget, self.closed = system, budget, False

    def _at(self, occasion: str) -> None:
        if self.budget.left() <= 0:
            raise PeerError("no time was left for it")
        kind = Fake.wrong.get(f"{self.system} {occasion}")
        if kind == "hangs":
            limit = self.budget.left()
            Fake.clock += limit
            raise PeerError(f"cut off after {limit:.3g} s")
        if kind:
            raise PeerError(kind)

    def start(self, data: xpnet.Dataset, *_: Any) -> None:
        Fake.started.append(self.system)
        self._batch = len(data.train.labels) == 32
        self._at("start")

    def epoch(self) -> tuple[float, float]:
        self._at("check" if self._batch else "epoch")
        Fake.clock += 0.0 if self._batch else 2.0
        return 2.0, 0.6 if self.system == Fake.wrong.get("otherwise") else 0.5

    def nodes_per_step(self) -> None:
        return None

    def race(self, epochs: int) -> list[tuple[float, float]]:
        self._at("race")
        return [(0.005, 0.9 + 0.025 * i) for i in range(epochs)]

    def rates(self, _device: str) -> tuple[Rates, list[str]]:
        self._at("rates")
        return {"gemm": 5e13, "bandwidth": 4e12, "node": 1e-6}, []

    def close(self) -> None:
        assert not self.closed
        self.closed = True


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setattr(Fake, "clock", 0.0)
    monkeypatch.setattr(Fake, "wrong", {})
    monkeypatch.setattr(Fake, "started", [])
    monkeypatch.setattr(gpu, "Worker", Fake)
    return Fake


def measured(data: xpnet.Dataset, seconds: float) -> tuple[gpu.Row, list[str]]:
    """A row of fakes, in so many seconds; and its faults."""
    row, faults = fake_row({}), gpu.Faults()
    options = argparse.Namespace(rounds=3, device="cpu")
    gpu._measure(row, data, list(SYSTEMS), options, Budget(seconds, lambda: Fake.clock), faults)
    return row, faults


def test_a_system_that_fails_does_not_stop_the_rest(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    fakes.wrong = {"JAX start": "RuntimeError: no", "PyTorch epoch": "it ended", "xpnet eager check": "late"}
    row, faults = measured(small_data, 1000)
    said = {"PyTorch": "it ended", "JAX": "RuntimeError: no", "xpnet eager": "late"}
    assert faults == [f"{ROW}: {system} failed: {what}" for system, what in said.items()]
    assert list(row.us) == [OWN, "xpnet eager", "PyTorch CUDA graph", "PyTorch compile"]
    assert all(row.results[system].seconds == [2.0] * 3 for system in row.us)


def test_a_system_that_hangs_leaves_time_for_the_rest(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    fakes.wrong = {f"{OWN} start": "hangs"}
    row, faults = measured(small_data, 120)
    assert faults[0] == f"{ROW}: {OWN} failed: cut off after 85 s"
    assert len(row.us) == 5
    fakes.clock, fakes.wrong = 0.0, {f"{system} start": "hangs" for system in SYSTEMS}
    row, faults = measured(small_data, 100)
    assert len(faults) == len(SYSTEMS)
    assert (row.us, fakes.clock <= 100) == ({}, True)


def test_little_time_is_shared(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    row, faults = measured(small_data, 20)
    assert set(row.results) == set(SYSTEMS)
    assert fakes.started[: len(SYSTEMS)] == list(SYSTEMS)
    assert faults
    assert fakes.clock <= 22


def test_rounds_end_with_the_time(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    """6 first epochs and 12 of 24 others are 36 s; another round would leave nothing for the check."""
    row, faults = measured(small_data, 40)
    assert faults == [f"{ROW}: time for only 1 of 3 rounds"]
    assert all(result.seconds == [2.0] for result in row.results.values())
    assert fakes.clock == 36
    assert fakes.started.count(OWN) == 2


def test_a_graph_that_is_missing_is_a_fault(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    row, faults = fake_row({}), gpu.Faults()
    options = argparse.Namespace(rounds=1, device="cuda")
    gpu._measure(row, small_data, [OWN, "xpnet eager"], options, Budget(1000, lambda: Fake.clock), faults)
    assert faults == [f"{ROW}: {OWN} captured no graph: its steps ran operation by operation"]


def test_one_batch_tells_every_difference(small_data: xpnet.Dataset) -> None:
    own = on_one_batch(OWN, small_data)
    for settings in ({"momentum": 0.89}, {"lr": 0.101}, {"optimizer": "momentum"}, {"weight_decay": 1e-2}, {"seed": 1}):
        other, faults = on_one_batch(OWN, small_data, CONFIG.replace(**settings)), gpu.Faults()
        gpu._compare(fake_row({OWN: gpu.Result(batch_losses=own), "PyTorch": gpu.Result(batch_losses=other)}), faults)
        assert [fault.split(":")[1] for fault in faults] == [" PyTorch trains differently"], settings
    faults = gpu.Faults()
    # One without losses has failed, which is said when it does.
    results = {OWN: gpu.Result(), "PyTorch": gpu.Result(batch_losses=own), "JAX": gpu.Result(batch_losses=list(own))}
    gpu._compare(fake_row(results), faults)
    assert faults == []


# The command ----------------------------------------------------------------------------------------------------------


def test_the_whole_command_on_the_cpu(
    patterns: str, small_race: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra [plot], is not installed")
    wanted = [OWN, "PyTorch CUDA graph", "JAX"]
    there = [system for system in wanted if installed(system)]
    arguments = [*COMMAND, "--data", patterns, "--systems", *wanted, "--json", "gpu.json", "--chart", "gpu.png"]
    assert gpu.main(arguments) == 0
    out, err = capsys.readouterr()
    assert not err
    assert "on the CPU, which only tries this command" in out
    assert "TF32 off everywhere" in out
    assert max(map(len, out.splitlines())) <= 160
    written = json.loads(Path("gpu.json").read_text())
    assert (written["faults"], written["goals"], written["gpu"]) == ([], [], None)
    assert {"numpy", "torch", "jax", "xpnet"} <= set(written["versions"])
    (row,) = written["rows"]
    assert (row["name"], row["batch_size"], row["steps"], row["lr"]) == (ROW, 32, 10, 0.05)
    assert list(row["systems"]) == there
    for system, result in row["systems"].items():
        assert f"  {system:20}" in out
        assert len(result["seconds"]) == 2
        assert result["us_per_step"]["median"] == pytest.approx(1e5 * sum(result["seconds"]) / 2)
        assert result["batch_losses"] == pytest.approx(row["systems"][OWN]["batch_losses"], rel=1e-4)
    assert row["floor_us"]["products"] == pytest.approx(1e6 * row["flops"] / written["rates"]["gemm"])
    assert set(written["races"]) == set(RACERS) & set(there)
    for race in written["races"].values():
        assert [len(run) for run in race["runs"]] == [4, 4]
        assert race["cold_start"] > max(seconds for run in race["runs"] for seconds, _ in run)
    assert Path("gpu.png").read_bytes().startswith(b"\x89PNG")


def test_all_that_is_told_of_a_gpu(
    patterns: str,
    small_race: None,
    fakes: type[Fake],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it would be with one, but for the systems, which are not real; the goals are of these rows."""
    monkeypatch.setattr(gpu, "SMALL", ROW)
    monkeypatch.setattr(gpu, "TARGET", 97.5)
    monkeypatch.setattr(gpu, "installed", lambda *_: True)
    card = {"name": "NVIDIA H200, 139.8 GiB", "driver": "580.65", "cuda": "13.2", "newest_cuda": "13.0"}
    monkeypatch.setattr(gpu, "_gpu", lambda _: card)
    select = xpnet.select
    monkeypatch.setattr(xpnet, "select", lambda _: select("cpu"), raising=False)
    fakes.wrong = {"PyTorch CUDA graph race": "it ended", "otherwise": "JAX"}
    assert gpu.main(["--no-tests", "--rows", ROW, "--rounds", "2", "--data", patterns, "--json", "gpu.json"]) == 1
    out = capsys.readouterr().out
    assert "NVIDIA H200, 139.8 GiB, driver 580.65, CUDA 13.2 (the driver knows 13.0)" in out
    assert f"{OWN}: 20.0 ms in the median of 2 seeds: 20.0 ms, 20.0 ms" in out
    assert "the device at its best: gemm 50.0 TFLOP/s, bandwidth 4,000 GB/s read and written, node 1.00 us" in out
    written = json.loads(Path("gpu.json").read_text())
    assert written["faults"] == [
        f"{ROW}: {OWN} captured no graph: its steps ran operation by operation",
        f"{ROW}: JAX trains differently: its losses in 10 steps on one batch differ by 0.2 from those of {OWN}",
        "97.5 %: PyTorch CUDA graph failed: it ended",
    ]
    assert all(fault in out for fault in written["faults"])
    # No set but MNIST has a goal.
    verdicts = [goal["verdict"] for goal in written["goals"]]
    assert verdicts == ["missed"] * 2 + ["reached"] * 2 + ["not measured"] * 3
    assert f"  missed       {ROW}: {OWN} / xpnet eager: at most 0.25, measured 1\n" in out


def test_goals() -> None:
    took = {OWN: 1.0, "xpnet eager": 4.1, "PyTorch": 3.9, "PyTorch CUDA graph": 1.0, "JAX": 0.9}
    row = fake_row({system: gpu.Result(seconds=[seconds]) for system, seconds in took.items()})
    large = fake_row({OWN: gpu.Result(seconds=[1e-3])})
    rows: dict[str, gpu.Row] = {gpu.SMALL: row, gpu.LARGE: large}
    rates: Rates = {"gemm": large.flops / 1e-4 / 0.71}
    runs: gpu.Runs = [[(0.01, 0.97), (seconds - 0.01, 0.98)] for seconds in (0.02, 0.05)] + [[(1.0, 0.97)]]
    goals = gpu._goals(rows, runs, "mnist", rates)
    verdicts = ["reached", "missed", "reached", "missed", "reached", "missed", "reached"]
    assert [goal.verdict for goal in goals] == verdicts
    assert goals[4].value == pytest.approx(50)
    assert goals[6].value == pytest.approx(71)
    never = gpu._goals(rows, [*runs, [(1.0, 0.97)], [(1.0, 0.97)]], "mnist", rates)
    assert (never[4].value, never[4].verdict) == (math.inf, "missed")
    assert {goal.verdict for goal in gpu._goals({}, [], "mnist", {})} == {"not measured"}


def test_the_chart_has_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra [plot], is not installed")
    results = {"JAX": gpu.Result(seconds=[1e-3, 2e-3]), OWN: gpu.Result(seconds=[1e-7])}
    rows = [fake_row({OWN: gpu.Result(seconds=[1.0])}), fake_row(results)]
    choices: list[Rates] = [{}, {"gemm": 1e12, "bandwidth": 1e12}]
    for rates in choices:
        report = {"data": "mnist", "gpu": None, "rounds": 2, "rates": rates}
        gpu._chart(rows, report, tmp_path / "gpu.png")
        assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")


def test_no_gpu_is_one_line(own_directory: None) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "gpu"], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bench: error: ")
    assert done.stderr.count("\n") == 1


def test_a_missing_package_is_named(
    patterns: str, small_race: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu.main([*COMMAND, "--data", patterns, "--systems", "xpnet eager", "PyTorch"]) == 0
    out = capsys.readouterr().out
    assert "missing: PyTorch, which needs torch\n" in out
    assert "  PyTorch" not in out


def test_time_that_runs_out_is_said(
    patterns: str, small_race: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process can even start in a thousandth of a second, and yet all ends well."""
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra [plot], is not installed")
    monkeypatch.setattr(gpu, "Budget", lambda _: Budget(0.01))
    arguments = [*COMMAND, "--data", patterns, "--systems", OWN, "--json", "gpu.json", "--chart", "gpu.png"]
    assert gpu.main(arguments) == 1
    written = json.loads(Path("gpu.json").read_text())
    assert written["rows"][0]["systems"] == {}
    out = capsys.readouterr().out
    for fault, what in zip(written["faults"], ("the device's rates", ROW, ROW, "50 %"), strict=True):
        assert fault.startswith(what)
        assert f"{fault}\n" in out
    assert not Path("gpu.png").exists()


def test_what_does_not_even_end_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    gpu._give_up(8.0)
    assert codes == [1]
    assert capsys.readouterr().out == "cut off: 8 minutes are over, and something does not end\n"


def test_the_rows_of_the_issue() -> None:
    options = gpu._options([])
    assert (options.minutes, gpu.TARGET, list(gpu.SEEDS)) == (8, 98, [0, 1, 2, 3, 4])
    assert options.rows == ["784-128-10@64", "784-512-10@512", "784-2500-2000-1500-1000-500-10@512"]
    images, labels = np.zeros((1030, 28, 28), np.uint8), np.arange(1030, dtype=np.int32) % 10
    data = xpnet.Dataset("zeros", xpnet.Split(images, labels))
    assert [gpu._row(name, data).n_steps for name in options.rows] == [16, 2, 2]
    with pytest.raises(xpnet.ConfigError, match="1030 training images, less than a batch of 1031"):
        gpu._row("784-10@1031", data)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "784-128-10"], "a row is widths@batch size, such as 784-128-10@64, not '784-128-10'"),
        (
            ["--systems", "TensorFlow"],
            "unknown system 'TensorFlow'; the choices are xpnet graph, xpnet eager, PyTorch, ",
        ),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--minutes", "0"], "--minutes must be more than 0, and at most 1000, not 0"),
        (["--minutes", "nan"], "--minutes must be more than 0, and at most 1000, not nan"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu' (choose from "),
        (["--json", "nowhere/gpu.json"], "nowhere/gpu.json: there is no folder nowhere"),
    ],
)
def test_wrong_options(
    own_directory: None, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as error:
        gpu.main(arguments)
    err = capsys.readouterr().err
    assert error.value.code == 2
    assert err.startswith(f"python -m bench gpu: error: {said}")
    assert err.count("\n") == 1


# The tests that it runs -----------------------------------------------------------------------------------------------

INNER = """
import os, pathlib, pytest, time
pathlib.Path("demanded.txt").write_text(os.environ.get("XPNET_TEST_LIBRARIES", ""))
@pytest.mark.cuda
def test_good(): pass
@pytest.mark.cuda
@pytest.mark.parametrize("x", ["of two words"])
def test_bad(x): assert 1 == 2
@pytest.mark.cuda
def test_left_out(): pytest.skip("no reason")
def test_other(): raise RuntimeError
@pytest.mark.{mark}
def test_slow(): time.sleep(600)
"""


def inner(folder: Path, marks: str) -> Path:
    tests = folder / "tests"
    tests.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    cuda: x\n    slow: x\n")
    (tests / "test_inner.py").write_text(INNER.format(mark=marks))
    (tests / "room").mkdir()
    (tests / "room" / "test_graph.py").write_text("import pytest\n@pytest.mark.cuda\ndef test_first(): pass\n")
    return tests


@pytest.mark.parametrize("on_gpu", [True, False])
def test_the_cuda_tests_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, on_gpu: bool
) -> None:
    monkeypatch.delenv("XPNET_TEST_LIBRARIES", raising=False)
    faults = gpu.Faults()
    tests = gpu._test(inner(tmp_path, "cuda\n@pytest.mark.slow"), 500, on_gpu, faults)
    assert tests is not None
    assert [tests[what] for what in ("passed", "failed", "skipped")] == [2, 1, 1]
    assert faults == ["tests marked cuda: 1 failed"]
    out = capsys.readouterr().out
    assert out.startswith("tests marked cuda: 2 passed, 1 failed, 1 skipped in ")
    assert "  FAILED tests/test_inner.py::test_bad[of two words] - assert 1 == 2" in out
    assert (tmp_path / "demanded.txt").read_text() == ("numpy cupy" if on_gpu else "")


def test_the_cuda_tests_are_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What has passed and failed by then is told; a slow machine may not even have begun."""
    faults = gpu.Faults()
    tests = gpu._test(inner(tmp_path, "cuda"), 8.0, False, faults)
    assert faults == ["tests marked cuda: cut off after 8 s"]
    assert tests is not None
    assert tests["passed"] in (0, 1, 2)
    assert len(tests["failures"]) == tests["failed"] <= 1
    assert faults[0] in capsys.readouterr().out


def test_no_tests_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = gpu.Faults()
    assert gpu._test(tmp_path / "tests", 1.0, False, faults) is None
    assert faults == []
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_none.py").write_text("")
    assert gpu._test(tmp_path / "tests", 500, False, faults) is not None
    assert faults == ["tests marked cuda: pytest ended with exit code 5"]


def test_what_comes_first_is_there() -> None:
    assert {f"test_{name}" for name in gpu.TESTS_FIRST} <= {path.stem for path in gpu.TESTS.rglob("test_*.py")}
