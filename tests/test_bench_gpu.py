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
from bench import _gpu_peers, gpu
from bench._gpu_peers import OWN, SYSTEMS, GpuWorker, LateError, Race, Trainer, installed, whole_batches
from bench._peers import PeerError

ROOT = Path(__file__).parents[1]
ROW = "36-8-3@32"
NETWORK = xpnet.MLP((36, 8, 3))
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
RESTARTED = [OWN, "PyTorch", "PyTorch CUDA graph"]
COMMAND = ["--device", "cpu", "--no-tests", "--rows", ROW, "--rounds", "2"]
TARGET = ["--target-hidden", "8", "--target-batch-size", "32", "--target-seeds", "2"]


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


def trainer(system: str, data: xpnet.Dataset, config: xpnet.TrainConfig = CONFIG) -> Trainer:
    if not installed(system, "cpu"):
        pytest.skip(f"{SYSTEMS[system].package} is not installed")
    assert isinstance(config.batch_size, int)
    return SYSTEMS[system].trainer(whole_batches(data, None, config.batch_size, test=True), NETWORK, config)


def epochs(trained: Trainer, n: int) -> list[float | None]:
    """The losses of some epochs."""
    losses: list[float | None] = []
    for _ in range(n):
        assert list(trained.steps())[-1] == trained.n_steps
        losses.append(trained.loss())
    return losses


def on_one_batch(system: str, data: xpnet.Dataset, config: xpnet.TrainConfig = CONFIG) -> list[float | None]:
    trained = trainer(system, whole_batches(data, 32, 32), config)
    assert trained.n_steps == 1
    losses = epochs(trained, config.epochs)
    trained.close()
    return losses


def by_hand(data: xpnet.Dataset) -> list[float]:
    """The losses on one batch, written out in float64."""
    x, y = data.train.images[:32].reshape(32, 36) / 255, data.train.labels[:32]
    params = [array.astype(np.float64) for array in NETWORK.init_params(CONFIG.seed)]
    velocity = [np.zeros_like(array) for array in params]
    losses = []
    for _ in range(CONFIG.epochs):
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
    if not installed("PyTorch compile", "cpu"):
        pytest.skip("torch is not installed")
    worker = GpuWorker("PyTorch compile", 500)
    worker.start(whole_batches(small_data, 32, 32), NETWORK, CONFIG)
    losses = [worker.epoch()[1] for _ in range(CONFIG.epochs)]
    worker.close()
    assert losses == pytest.approx(by_hand(small_data), rel=1e-5)


@pytest.mark.parametrize("system", QUICK)
def test_an_epoch_has_every_image_once(small_data: xpnet.Dataset, system: str) -> None:
    """At a rate of nearly 0 an epoch's mean loss does not depend on the order; 82 steps are 3 times 27 and one."""
    config = CONFIG.replace(lr=1e-12, batch_size=4, epochs=2)
    trained = trainer(system, small_data, config)
    model = trainer(OWN, whole_batches(small_data, 328, 328), config.replace(batch_size=328, epochs=1))
    (expected,) = epochs(model, 1)
    assert epochs(trained, 2) == pytest.approx([expected] * 2, rel=1e-5)
    assert trained.n_steps == 82


@pytest.mark.parametrize("system", RESTARTED)
def test_a_restart_is_from_the_first_weights(small_data: xpnet.Dataset, system: str) -> None:
    trained = trainer(system, whole_batches(small_data, 32, 32), CONFIG.replace(schedule="linear"))
    losses = epochs(trained, 5)
    trained.restart()
    assert epochs(trained, 5) == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("settings", [{"schedule": "linear"}, {"schedule": "one-cycle", "warmup": 0.4}])
def test_the_graph_follows_a_schedule(small_data: xpnet.Dataset, settings: dict[str, Any]) -> None:
    config = CONFIG.replace(**settings)
    own = on_one_batch(OWN, small_data, config)
    assert on_one_batch("PyTorch CUDA graph", small_data, config) == pytest.approx(own, rel=1e-5)
    assert own != pytest.approx(on_one_batch(OWN, small_data), rel=1e-3)


@pytest.mark.parametrize("system", RESTARTED)
def test_accuracy_on_the_test_images(small_data: xpnet.Dataset, system: str) -> None:
    assert small_data.test is not None
    trained = trainer(system, small_data)
    before = trained.accuracy()
    model = xpnet.Model(NETWORK, NETWORK.init_params(CONFIG.seed), [], xpnet.select("cpu"))
    assert before == pytest.approx(model.evaluate(*small_data.test).accuracy, abs=0.02)
    epochs(trained, 10)
    assert trained.accuracy() > max(0.9, before)


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
    batch = trainer(system, whole_batches(small_data, 32, 32, test=True), config)
    losses = epochs(batch, 3)
    assert losses == pytest.approx(by_hand(small_data)[:3], rel=1e-4)
    batch.restart()
    assert epochs(batch, 3) == pytest.approx(losses, rel=1e-6)
    batch.close()
    trained = trainer(system, small_data, config.replace(epochs=3))
    epochs(trained, 2)
    assert (trained.nodes_per_step() is None) == (system != OWN)
    on_cpu = _gpu_peers.race(trainer(OWN, small_data, CONFIG.replace(epochs=3)), 3, 0.9, 4)
    on_cuda = _gpu_peers.race(trained, 3, 0.9, 4)
    assert on_cuda.steps == on_cpu.steps
    assert on_cuda.accuracy == pytest.approx(on_cpu.accuracy, abs=0.02)
    trained.close()


@pytest.mark.cuda
def test_what_a_cuda_device_can_do(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_gpu_peers.LARGEST, "cuda", (64, 1 << 10))
    measured = _gpu_peers.floor("cuda")
    assert measured.pop("faults") == {}
    assert min(measured.values()) > 0


def fake_row(losses: dict[str, list[float | None]], seconds: dict[str, list[float]] | None = None) -> gpu.Row:
    results = {
        system: gpu.Result(seconds=(seconds or {}).get(system, [1.0]), losses=[0.5], batch_losses=batch_losses)
        for system, batch_losses in losses.items()
    }
    return gpu.Row(ROW, NETWORK, CONFIG, 320, results)


def test_one_batch_tells_every_difference(small_data: xpnet.Dataset) -> None:
    own = on_one_batch(OWN, small_data)
    for settings in ({"momentum": 0.89}, {"lr": 0.101}, {"optimizer": "momentum"}, {"weight_decay": 1e-2}, {"seed": 1}):
        row = fake_row({OWN: own, "PyTorch": on_one_batch(OWN, small_data, CONFIG.replace(**settings))})
        gpu._compare(row)
        assert row.faults["PyTorch"].startswith("trains otherwise: "), settings
        assert OWN not in row.faults
    row = fake_row({OWN: own, "JAX": list(own), "PyTorch": []})
    gpu._compare(row)
    assert row.faults == {"PyTorch": "not compared: its losses on one batch are missing"}
    row = fake_row({"JAX": own})
    gpu._compare(row)
    assert row.faults == {"JAX": "not compared: xpnet's losses on one batch are missing"}


def test_whole_batches(small_data: xpnet.Dataset) -> None:
    assert len(whole_batches(small_data, None, 32).train.labels) == 320
    assert len(whole_batches(small_data, 100, 32).train.labels) == 96
    assert whole_batches(small_data, 100, 32).test is None
    with pytest.raises(xpnet.ConfigError, match="330 training images, less than a batch of 331"):
        whole_batches(small_data, None, 331)


# The time to an accuracy ----------------------------------------------------------------------------------------------


class Scripted(Trainer):
    """Its accuracies are given; a group of 10 steps takes a second, and everything else a hundred."""

    n_steps = 25

    def __init__(self, accuracies: list[float], clock: list[float]) -> None:
        self._accuracies, self._clock = iter([0.0, *accuracies]), clock

    def steps(self) -> Iterator[int]:
        for done in (10, 20, 25):
            self._clock[0] += 1.0
            yield done

    def accuracy(self) -> float:
        self._clock[0] += 100.0
        return next(self._accuracies)

    def restart(self) -> None:
        self._clock[0] += 100.0

    def synchronize(self) -> None:
        self._clock[0] += 0.25


@pytest.mark.parametrize(
    ("every", "accuracies", "expected"),
    [
        (1, [0.1, 0.97, 0.98, 0.97, 0.98, 0.99], Race(3.75, 25, True, 0.99, 7.5)),
        (1, [0.1, 0.2, 0.3, 0.4, 0.98, 0.98], Race(6.25, 45, False, 0.98, 7.5)),
        (20, [0.97, 0.979, 0.98, 0.979], Race(5.75, 45, True, 0.979, 7.0)),
        (99, [0.97, 0.97], Race(None, None, False, 0.97, 6.5)),
    ],
)
def test_a_race_times_the_steps_alone(
    monkeypatch: pytest.MonkeyPatch, every: int, accuracies: list[float], expected: Race
) -> None:
    clock = [0.0]
    monkeypatch.setattr(_gpu_peers.time, "perf_counter", lambda: clock[0])
    assert _gpu_peers.race(Scripted(accuracies, clock), 2, 0.98, every) == expected


@pytest.mark.parametrize("system", RESTARTED)
def test_a_race(small_data: xpnet.Dataset, system: str) -> None:
    trained = trainer(system, small_data, CONFIG.replace(schedule="linear"))
    epochs(trained, 1)
    run = _gpu_peers.race(trained, 10, 0.9, 4)
    assert run.seconds is not None
    assert run.steps is not None
    assert 0 < run.seconds <= run.total
    assert 4 <= run.steps <= 100
    assert run.accuracy > 0.9 or run.lost
    again = _gpu_peers.race(trained, 10, 0.9, 4)
    if system == OWN:  # which draws the same order again
        assert (run.steps, run.accuracy) == (again.steps, again.accuracy)


# What a step costs at least -------------------------------------------------------------------------------------------


def test_flops_and_bytes_by_hand() -> None:
    # Forward 5x3 by 3x4 and 5x4 by 4x2; as much for the weights' gradients; and 5x2 by 2x4 for the hidden layer's.
    assert gpu.flops_per_step((3, 4, 2), 5) == 2 * (5 * 3 * 4 + 5 * 4 * 2) * 2 + 2 * 5 * 2 * 4
    # 26 parameters and their velocity, each read and written; 15 bytes of images; 6 outputs, written and read.
    assert gpu.bytes_per_step((3, 4, 2), 5) == 26 * 4 * 4 + 15 + 5 * 6 * 4 * 2
    sizes, batch = (784, 2500, 2000, 1500, 1000, 500, 10), 512
    products = sum(a * b for a, b in pairwise(sizes))
    assert gpu.flops_per_step(sizes, batch) == 6 * products * batch - 2 * 784 * 2500 * batch


def test_the_floor_is_the_slower_of_products_and_memory() -> None:
    row = fake_row({OWN: []})
    assert (row.flops, row.bytes, row.batch_size, row.n_steps) == (
        2 * 32 * (3 * 312 - 288),
        16 * 323 + 32 * 124,
        32,
        10,
    )
    assert row.floor_us({"gemm": 1e6, "bandwidth": 1e12}) == pytest.approx(row.flops)
    assert row.floor_us({"gemm": 1e12, "bandwidth": 1e6}) == pytest.approx(row.bytes)
    assert row.floor_us({"gemm": None, "bandwidth": 1e6}) is None
    assert row.floor_us({}) is None
    assert row.rate(OWN) == pytest.approx(row.flops / 0.1)


def test_what_the_device_can_do() -> None:
    measured = _gpu_peers.floor("cpu")
    assert measured["faults"] == {}
    assert min(measured["gemm"], measured["bandwidth"], measured["launch"]) > 0
    assert measured["gemm_tf32"] is measured["node"] is None


def test_what_cannot_be_measured_of_the_device_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> float:
        raise MemoryError("none is left\nat all")

    monkeypatch.setattr(_gpu_peers, "_copy", fail)
    measured = _gpu_peers.floor("cpu")
    assert measured["gemm"] > 0
    assert (measured["bandwidth"], measured["faults"]) == (None, {"bandwidth": "MemoryError: none is left"})


# Workers and their time -----------------------------------------------------------------------------------------------


def hang(_system: str, connection: Any) -> None:
    """A worker's process that reads nothing, and answers nothing."""
    time.sleep(600)
    connection.close()


def test_a_worker_that_hangs_is_ended(small_data: xpnet.Dataset) -> None:
    worker = GpuWorker(OWN, 0.2, hang)
    with pytest.raises(LateError, match=r"^cut off after 0.2 s$"):
        # More than a pipe takes without a reader.
        worker.start(whole_batches(small_data, None, 1), NETWORK, CONFIG.replace(hidden=(8,) * 100_000))
    worker.close()


def test_a_worker_that_fails_says_so_in_a_line(small_data: xpnet.Dataset) -> None:
    worker = GpuWorker(OWN, 300)
    with pytest.raises(PeerError, match=r"^ConfigError: the network takes 35 inputs, but .* have 36 pixels$"):
        worker.start(small_data, xpnet.MLP((35, 3)), CONFIG)
    worker.start(whole_batches(small_data, 32, 32), NETWORK, CONFIG)
    seconds, loss = worker.epoch()
    assert seconds > 0
    assert loss == pytest.approx(by_hand(small_data)[0], rel=1e-5)
    assert worker.nodes_per_step() is None
    worker.limit = 0.0
    with pytest.raises(PeerError, match=r"^no time was left for it$"):
        worker.epoch()
    worker.close()


def test_a_budget() -> None:
    clock = [100.0]
    budget = gpu.Budget(60, lambda: clock[0])
    part = budget.part(0.5)
    assert (budget.left(), part.left()) == (60, 30)
    clock[0] += 40
    assert (budget.left(), part.left(), budget.part(0.25).left()) == (20, 0, 5)


class Fake:
    """A worker whose epoch takes 2 seconds of a clock that is not real; some fail, and some take all the time."""

    clock = 0.0
    wrong: dict[str, str] = {}  # noqa: RUF012  (set by monkeypatch)
    started: list[str] = []  # noqa: RUF012

    def __init__(self, system: str, limit: float) -> None:
        self.system, self.limit, self.closed = system, limit, False

    def _at(self, occasion: str) -> None:
        if self.limit <= 0:
            raise PeerError("no time was left for it")
        kind = Fake.wrong.get(f"{self.system} {occasion}")
        if kind == "hangs":
            Fake.clock += self.limit
            raise LateError(f"cut off after {self.limit:.3g} s")
        if kind:
            raise PeerError(kind)

    def start(self, data: xpnet.Dataset, *_: Any) -> None:
        Fake.started.append(self.system)
        self._batch = len(data.train.labels) == 32
        self._at("start")

    def epoch(self) -> tuple[float, float]:
        self._at("check" if self._batch else "epoch")
        Fake.clock += 0.0 if self._batch else 2.0
        return 2.0, 0.5

    def nodes_per_step(self) -> None:
        return None

    def race(self, *_: Any) -> Race:
        self._at("race")
        return Race(0.02, 300, False, 0.981, 0.03)

    def floor(self, _device: str) -> dict[str, Any]:
        self._at("floor")
        return {"gemm": 5e13, "gemm_tf32": 3e14, "bandwidth": 4e12, "launch": 8e-6, "node": 1e-6, "faults": {}}

    def finish(self) -> None:
        pass

    def close(self) -> None:
        assert not self.closed
        self.closed = True


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setattr(Fake, "clock", 0.0)
    monkeypatch.setattr(Fake, "wrong", {})
    monkeypatch.setattr(Fake, "started", [])
    monkeypatch.setattr(gpu, "GpuWorker", Fake)
    return Fake


def measured(data: xpnet.Dataset, seconds: float, hung: dict[str, str] | None = None, limit: float = 60) -> gpu.Row:
    row = gpu.Row(ROW, NETWORK, CONFIG, 320)
    options = argparse.Namespace(rounds=3, limit=limit, device="cpu")
    budget = gpu.Budget(seconds, lambda: Fake.clock)
    gpu._measure(row, data, list(SYSTEMS), options, budget, {} if hung is None else hung)
    return row


def test_a_system_that_fails_does_not_stop_the_rest(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    fakes.wrong = {"JAX start": "RuntimeError: no", "PyTorch epoch": "it ended", "xpnet eager check": "late"}
    row = measured(small_data, 1000)
    assert row.faults == {
        "JAX": "failed: RuntimeError: no",
        "PyTorch": "failed: it ended",
        "xpnet eager": "failed: late",
    }
    assert row.timed == [OWN, "xpnet eager", "PyTorch CUDA graph", "PyTorch compile"]
    assert all(row.results[system].seconds == [2.0] * 3 for system in row.timed)


def test_a_system_that_hangs_is_not_tried_again(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    fakes.wrong = {"PyTorch compile epoch": "hangs", "JAX start": "hangs"}
    hung: dict[str, str] = {}
    row = measured(small_data, 1000, hung)
    assert row.faults == dict.fromkeys(("JAX", "PyTorch compile"), "failed: cut off after 60 s")
    assert len(row.timed) == 4
    started = len(fakes.started)
    again = measured(small_data, 1000, hung)
    assert again.faults == dict.fromkeys(("JAX", "PyTorch compile"), "not tried again: cut off after 60 s")
    assert not {"JAX", "PyTorch compile"} & set(fakes.started[started:])


def test_a_row_keeps_its_time(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    """Even if everything hangs: what comes later has time of its own, and nothing goes on after the end."""
    fakes.wrong = {f"{system} start": "hangs" for system in SYSTEMS}
    hung: dict[str, str] = {}
    row = measured(small_data, 100, hung)
    assert set(row.faults) == set(SYSTEMS)
    assert fakes.clock <= 100
    # Only the first has had most of its limit.
    assert set(hung) == {OWN}
    fakes.clock, fakes.wrong = 0.0, {f"{OWN} start": "hangs"}
    row = measured(small_data, 120)
    assert list(row.faults) == [OWN]


def test_little_time_is_shared(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    row = measured(small_data, 20)
    assert set(row.results) == set(SYSTEMS)
    assert set(row.faults) == set(SYSTEMS)
    assert fakes.clock <= 22


def test_rounds_end_with_the_time(small_data: xpnet.Dataset, fakes: type[Fake]) -> None:
    """6 first epochs and 12 of 24 others are 36 s; another round would leave nothing for the check."""
    row = measured(small_data, 40)
    assert set(row.faults.values()) == {"cut off: 1 of 3 rounds in the time there was"}
    assert all(result.seconds == [2.0] for result in row.results.values())
    assert fakes.clock == 36
    assert fakes.started.count(OWN) == 2


# The command ----------------------------------------------------------------------------------------------------------


def test_the_whole_command_on_the_cpu(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra [plot], is not installed")
    wanted = [OWN, "PyTorch CUDA graph", "JAX"]
    arguments = [*COMMAND, *TARGET, "--data", patterns, "--target", "50", "--systems", *wanted]
    there = [system for system in wanted if installed(system, "cpu")]
    assert gpu.main([*arguments, "--json", "gpu.json", "--chart", "gpu.png"]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert "on the CPU, which only tries this command" in out
    assert "TF32 off everywhere" in out
    assert f"{OWN}: " in out
    assert max(map(len, out.splitlines())) <= 160
    written = json.loads(Path("gpu.json").read_text())
    assert (written["faults"], written["tests"], written["tf32"], written["gpu"]) == ([], None, False, None)
    assert {"numpy", "torch", "jax", "xpnet"} <= set(written["versions"])
    (row,) = written["rows"]
    assert (row["name"], row["images"], row["steps"], row["lr"], row["faults"]) == (ROW, 320, 10, 0.05, {})
    assert list(row["systems"]) == there
    for result in row["systems"].values():
        assert len(result["seconds"]) == 2
        assert result["cold_start"] > max(result["seconds"])
        assert result["us_per_step"] == pytest.approx(1e5 * result["spread"]["median"])
        assert result["batch_losses"] == pytest.approx(row["systems"][OWN]["batch_losses"], rel=1e-4)
    assert set(written["races"]) == {OWN, "PyTorch CUDA graph"} & set(there)
    for race in written["races"].values():
        assert [run["seconds"] > 0 for run in race["runs"]] == [True, True]
    assert row["floor_us"] > 0
    assert Path("gpu.png").read_bytes().startswith(b"\x89PNG")


def test_all_that_is_told_of_a_gpu(
    patterns: str, fakes: type[Fake], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it would be with one, but for the systems, which are not real; the goals are of these rows."""
    monkeypatch.setattr(gpu, "SMALL", ROW)
    monkeypatch.setattr(gpu, "installed", lambda *_: True)
    about = {"gpu": "NVIDIA H200, 139.8 GiB", "driver": "580.65", "cuda": {"runtime": "13.2", "driver": "13.0"}}
    honest = gpu._about
    monkeypatch.setattr(gpu, "_about", lambda *arguments: honest(*arguments) | about)
    fakes.wrong = {"PyTorch CUDA graph race": "it ended"}
    arguments = [*COMMAND, *TARGET, "--data", patterns, "--json", "gpu.json"]
    assert gpu.main(arguments) == 1
    out = capsys.readouterr().out
    assert "NVIDIA H200, 139.8 GiB, driver 580.65, CUDA 13.2 (the driver knows 13.0)" in out
    assert f"{OWN}: 20.0 ms in the median of seeds 0 to 1: 20.0, 20.0 ms, after 300, 300 steps" in out
    assert "98 %: PyTorch CUDA graph failed at seed 0: it ended" in out
    assert "float32 products 50 TFLOP/s, with TF32 300 TFLOP/s, copies 4e+03 GB/s" in out
    verdicts = {goal["what"]: goal["verdict"] for goal in json.loads(Path("gpu.json").read_text())["goals"]}
    assert list(verdicts.values()) == ["missed"] * 2 + ["reached"] * 4 + ["not measured"]
    assert f"  missed       {ROW}: {OWN} / xpnet eager: at most 0.25, measured 1\n" in out


def test_goals() -> None:
    fast = {OWN: [1.0], "xpnet eager": [4.1], "PyTorch": [3.9], "PyTorch CUDA graph": [1.0], "JAX": [0.9]}
    row = fake_row({system: [] for system in fast}, fast)
    row.name = gpu.SMALL
    large = fake_row({OWN: []}, {OWN: [1e-3]})
    large.name = gpu.LARGE
    report = gpu.Report({"target": 98.0}, [row, large], floor={"gemm": large.flops / 1e-4 / 0.71, "faults": {}})
    report.races[OWN] = {"cold_start": 1.0, "runs": [Race(s, 1, False, 0.98, 1.0) for s in (0.02, 0.05, None)]}
    goals = gpu._goals(report)
    assert [goal.verdict for goal in goals] == [
        "reached",
        "missed",
        "reached",
        "missed",
        "reached",
        "missed",
        "reached",
    ]
    assert goals[4].value == pytest.approx(50)
    assert goals[6].value == pytest.approx(71)
    report.races[OWN]["runs"].append(Race(None, None, False, 0.9, 1.0))
    report.races[OWN]["runs"].append(Race(None, None, False, 0.9, 1.0))
    assert gpu._goals(report)[4].value == math.inf
    assert gpu._goals(report)[4].verdict == "missed"
    report.goals = gpu._goals(report)
    assert "Infinity" not in json.dumps(gpu._as_json(report))
    assert {goal.verdict for goal in gpu._goals(gpu.Report({"target": 98.0}, []))} == {"not measured"}


def test_the_chart_has_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra [plot], is not installed")
    rows = [fake_row({OWN: []}), fake_row({}), fake_row({"JAX": [], OWN: []}, {"JAX": [1e-3, 2e-3], OWN: [1e-7]})]
    report = gpu.Report({"data": "mnist", "gpu": None, "rounds": 2}, rows, floor={"faults": {}})
    for floor in ({"faults": {}}, {"gemm": 1e12, "bandwidth": 1e12, "faults": {}}):
        report.floor = floor
        gpu._chart(rows, report, tmp_path / "gpu.png")
        assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("us", "said"), [(0.01234, "0.0123"), (4.5, "4.50"), (45.67, "45.7"), (1234.5, "1,234")])
def test_numbers_of_the_chart(us: float, said: str) -> None:
    assert gpu._three(us) == said


def test_a_chart_without_matplotlib(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert gpu.main([*COMMAND, "--data", patterns, "--chart", "gpu.png"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("bench: error: --chart needs matplotlib")
    assert err.count("\n") == 1


def test_no_gpu_is_one_line(own_directory: None) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "gpu"], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bench: error: ")
    assert done.stderr.count("\n") == 1


def test_a_missing_package_is_named(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    arguments = [*COMMAND, "--data", patterns, "--target", "0", "--systems", OWN, "PyTorch"]
    assert gpu.main(arguments) == 0
    out = capsys.readouterr().out
    assert "missing: PyTorch, which needs torch\n" in out
    assert "  PyTorch" not in out


def test_time_that_runs_out_is_said(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No process can even start in a thousandth of a second, and yet all ends well."""
    arguments = [*COMMAND, *TARGET, "--data", patterns, "--systems", OWN, "--json", "gpu.json", "--limit", "0.001"]
    assert gpu.main(arguments) == 1
    out = capsys.readouterr().out
    assert f"{OWN} failed: cut off after 0.001 s" in out
    assert f"98 %: {OWN} failed at seed 0: cut off after 0.001 s" in out
    assert "floor failed: cut off after 0.001 s" in out
    written = json.loads(Path("gpu.json").read_text())
    assert written["rows"][0]["systems"] == {}
    assert len(written["faults"]) == 2


def test_what_does_not_even_end_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(gpu.os, "_exit", codes.append)
    gpu._give_up(8.0)
    assert codes == [1]
    assert capsys.readouterr().out == "cut off: 8 minutes are over, and something does not end\n"


def test_random_images_in_place_of_mnist(own_directory: None, capsys: pytest.CaptureFixture[str]) -> None:
    data = gpu._load(None)
    assert "random images, on which no accuracy can be reached, in place of MNIST: mnist is in none of" in (
        capsys.readouterr().out
    )
    assert data.train.images.shape == (60_000, 28, 28)
    options = gpu._options(["--device", "cpu"])
    report = gpu.Report({}, [])
    gpu._race(report, data, [OWN], options, gpu.Budget(60))
    assert report.faults == ["98 %: not measured, since random images has no test images to go by"]
    assert not report.races
    with pytest.raises(xpnet.DataError):
        gpu._load("nowhere.npz")


def test_the_rows_of_the_issue() -> None:
    options = gpu._options([])
    assert (options.minutes, options.target, options.target_seeds) == (8, 98, 5)
    assert options.rows == ["784-128-10@64", "784-512-10@512", "784-2500-2000-1500-1000-500-10@512"]
    images, labels = np.zeros((1024, 28, 28), np.uint8), np.arange(1024, dtype=np.int32) % 10
    data = xpnet.Dataset("zeros", xpnet.Split(images, labels))
    for name in options.rows:
        row = gpu._row(name, data, options)
        assert (row.config.optimizer, row.config.momentum, row.config.weight_decay) == ("nesterov", 0.9, 0.0)
        assert row.config.schedule == "constant"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "784-128-10"], "a row is widths@batch size, such as 784-128-10@64, not '784-128-10'"),
        (["--systems", "TensorFlow"], "unknown system 'TensorFlow'; known are xpnet graph, xpnet eager, PyTorch, "),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--images", "10"], "--images 10 is less than a batch of 784-128-10@64"),
        (["--minutes", "0"], "--minutes must be more than 0, not 0"),
        (["--limit", "nan"], "--limit must be more than 0, not nan"),
        (["--target", "101"], "--target must be in [0, 100], not 101"),
        (["--target-seeds", "0"], "--target-seeds must be at least 1, not 0"),
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
def test_bad(): assert 1 == 2
@pytest.mark.cuda
def test_left_out(): pytest.skip("no reason")
def test_other(): raise RuntimeError
@pytest.mark.{mark}
def test_slow(): time.sleep(600)
"""


def inner(folder: Path, mark: str) -> Path:
    tests = folder / "tests"
    tests.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    cuda: x\n    other: x\n")
    (tests / "test_inner.py").write_text(INNER.format(mark=mark))
    return tests


@pytest.mark.parametrize("device", ["a GPU", None])
def test_the_cuda_tests_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, device: str | None
) -> None:
    monkeypatch.delenv("XPNET_TEST_LIBRARIES", raising=False)
    report = gpu.Report({"gpu": device}, [])
    gpu._test(report, inner(tmp_path, "other"), gpu.Budget(500))
    assert report.tests is not None
    assert [report.tests[what] for what in ("passed", "failed", "skipped", "fault")] == [1, 1, 1, ""]
    assert not report.faults
    out = capsys.readouterr().out
    assert out.startswith("tests marked cuda: 1 failed, 1 passed, 1 skipped, 2 deselected in ")
    assert "FAILED tests/test_inner.py::test_bad" in out
    assert (tmp_path / "demanded.txt").read_text() == ("numpy cupy" if device else "")


def test_the_cuda_tests_are_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = gpu.Report({}, [])
    gpu._test(report, inner(tmp_path, "cuda"), gpu.Budget(5.0))
    (fault,) = report.faults
    assert fault.startswith("tests marked cuda: cut off after ")
    out = capsys.readouterr().out
    assert " so far\n" in out
    assert fault.removeprefix("tests marked cuda: ") in out
    assert report.tests is not None
    # As far as it had come by then: a slow machine may not even have begun.
    assert max(report.tests[what] for what in ("passed", "failed", "skipped")) <= 1


def test_no_tests_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = gpu.Report({}, [])
    gpu._test(report, tmp_path / "tests", gpu.Budget(1.0))
    assert report.tests is None
    assert "not run, since there is no folder tests here" in capsys.readouterr().out
    (tmp_path / "tests").mkdir()
    found = gpu._run_tests(tmp_path / "tests", 500, False)
    assert (found["passed"], found["failed"], found["fault"]) == (0, 0, "")
    assert "no tests ran" in found["summary"]


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for nvidia-smi is a shell script")
def test_the_drivers_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 580.65.06\necho 580.65.06\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpu._driver() == "580.65.06"
