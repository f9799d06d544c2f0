"""The measurements in bench: that each runs, says what is missing, and finds a system that trains differently."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from bench import __main__, _common, accuracy, calibration, checkpoint, cpu, finetune, scale, startup, step, tabular
from bench._common import apart, first, seconds_to, three, two_cpus
from bench._peers import SYSTEMS, Trainer, installed
from bench._workers import PeerError, Server, Worker
from xpnet import optim
from xpnet.training.initializers import init_params

ROOT = Path(__file__).parents[2]
ROW = "36-8-3@32"
NETWORK = xpnet.MLP((36, 8, 3))
EPOCHS = 10
CONFIG = xpnet.TrainConfig(
    hidden=(8,),
    optimizer="momentum",
    lr=0.1,
    weight_decay=0.0,
    schedule="constant",
    batch_size=32,
    epochs=10,
    device="cpu",
)


def lines(text: str) -> dict[str, str]:
    """A row's lines by system."""
    return {name: line for line in text.splitlines() for name in cpu.SYSTEMS if line.startswith(f"  {name:15} ")}


def losses(system: str, data: xpnet.Dataset, config: xpnet.TrainConfig) -> list[float | None]:
    """A system's losses on one batch, in this process."""
    trainer = SYSTEMS[system](first(data, 32), NETWORK, config)
    return [trainer.epoch() for _ in range(config.epochs or 0)]


def faults(own: Sequence[float | None], other: Sequence[float | None], *, batch: bool) -> str | None:
    """What is said of a system with some losses, beside xpnet with others, on one batch or in whole epochs."""
    results = {
        name: cpu.Result(seconds=[1.0], losses=[1.0] if batch else list(x), batch_losses=list(x) if batch else [1.0])
        for name, x in (("xpnet", own), ("PyTorch", other))
    }
    row = cpu.Row(ROW, NETWORK, CONFIG, 330, results)
    cpu._compare(row)
    return row.faults.get("PyTorch")


def test_a_row_on_what_is_installed(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["products", "products, 1 CPU", "xpnet", "PyTorch", "JAX"]
    there = [name for name in wanted if installed(name)]
    arguments = ["--data", patterns, "--rows", ROW, "--rounds", "3", "--images", "300", "--json", "cpu.json"]
    assert cpu.main([*arguments, "--systems", *wanted]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert set(lines(out)) == set(there)
    assert max(map(len, lines(out).values())) <= 100
    for name in set(wanted) - set(there):
        assert f"missing: {name}, " in out
    measured = json.loads(Path("cpu.json").read_text())
    assert {"cpu", "cores", "cpus", "system", "python", "versions", "blas", "rounds", "data", "missing"} <= set(
        measured
    )
    assert measured["versions"]["numpy"] == np.__version__
    (row,) = measured["rows"]
    assert (row["name"], row["images"], row["steps"], row["lr"], row["faults"]) == (ROW, 300, 10, 0.05, {})
    assert list(row["systems"]) == there
    for name, result in row["systems"].items():
        assert len(result["seconds"]) == 3
        assert len(result["losses"]) == 4
        assert min(result["seconds"]) > 0
        assert result["us_per_step"] == pytest.approx(1e5 * result["spread"]["median"])
        xpnet_median = row["systems"]["xpnet"]["spread"]["median"]
        assert result["xpnet_ratio"] == pytest.approx(xpnet_median / result["spread"]["median"])
        assert (result["loss"] is None) == (name in cpu.FLOORS)
        assert 1 <= result["threads"] <= 2


@pytest.mark.slow
def test_a_row_on_all_systems(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cpu.main(["--data", patterns, "--rows", ROW, "--rounds", "2"]) == 0
    out = capsys.readouterr().out
    assert set(lines(out)) == {name for name in cpu.SYSTEMS if installed(name)}


def test_a_missing_peer_is_named(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    arguments = ["--data", patterns, "--rows", ROW, "--rounds", "1", "--systems", "xpnet", "PyTorch"]
    assert cpu.main(arguments) == 0
    out = capsys.readouterr().out
    assert "missing: PyTorch, which needs torch: pip install --group peers" in out
    assert set(lines(out)) == {"xpnet"}


class Otherwise(Worker):
    """xpnet in the place of a peer, with settings that settings names."""

    settings: dict[str, Any]

    def __init__(self, system: str) -> None:
        super().__init__("xpnet")
        self.system = system

    def start(self, data: xpnet.Dataset, network: xpnet.MLP, config: xpnet.TrainConfig) -> None:
        super().start(data, network, config if self.system == "xpnet" else config.replace(**self.settings))


@pytest.mark.parametrize(("settings", "code"), [({}, 0), ({"momentum": 0.8}, 1), ({"lr": 0.06}, 1)])
def test_a_peer_that_trains_differently(
    patterns: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    code: int,
) -> None:
    monkeypatch.setattr(cpu, "Worker", type("Other", (Otherwise,), {"settings": settings}))
    monkeypatch.setattr(cpu, "installed", lambda _: True)
    arguments = ["--data", patterns, "--rows", ROW, "--rounds", "1", "--systems", "xpnet", "PyTorch"]
    assert cpu.main(arguments) == code
    assert ("PyTorch trains differently" in capsys.readouterr().out) == bool(code)


def test_one_batch_tells_every_difference(small_data: xpnet.Dataset) -> None:
    own = losses("xpnet", small_data, CONFIG)
    assert faults(own, losses("xpnet", small_data, CONFIG), batch=True) is None
    for settings in ({"momentum": 0.89}, {"lr": 0.101}, {"optimizer": "nesterov"}, {"weight_decay": 1e-2}, {"seed": 1}):
        wrong = losses("xpnet", small_data, CONFIG.replace(**settings))
        assert "on one batch" in str(faults(own, wrong, batch=True)), settings
    assert faults(own, by_hand(small_data), batch=True) is None
    assert "on one batch" in str(faults(own, by_hand(small_data, bias=False), batch=True))


def by_hand(data: xpnet.Dataset, *, bias: bool = True) -> list[float | None]:
    """The losses on one batch with, or without, the biases."""
    x, y = data.train.images[:32].reshape(32, -1).astype(np.float32) / 255, data.train.labels[:32]
    params = init_params(NETWORK, 0)
    state = optim.init_state("momentum", params)
    trained: list[float | None] = []
    for _ in range(EPOCHS):
        loss, grads, _, _ = NETWORK.loss_and_grads(params, x, y)
        grads = [g if bias or g.ndim == 2 else 0 * g for g in grads]
        params, state = optim.momentum_sgd(params, state, grads, lr=np.float32(0.1))
        trained.append(float(loss))
    return trained


def test_whole_epochs_tell_a_large_difference() -> None:
    assert faults([0.3, 0.1], [0.31, 0.1], batch=False) is None
    assert faults([0.3, 0.1], [0.35, 0.12], batch=False) is not None
    assert faults([0.3, 0.1], [0.3, math.nan], batch=False) is not None


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd"}, {"schedule": "constant", "weight_decay": 0.0}])
def test_pytorch_follows_the_recipe(small_data: xpnet.Dataset, settings: dict[str, Any]) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    start = xpnet.TrainConfig(hidden=(8,), batch_size=32, epochs=8, lr=0.1, weight_decay=1e-4, device="cpu")
    config = start.replace(**settings)
    own, other = losses("xpnet", small_data, config), losses("PyTorch", small_data, config)
    assert apart(other, own) < cpu.SAME_BATCH


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "784-128-10"], "a row is widths@batch size, such as 784-128-10@64, not '784-128-10'"),
        (
            ["--systems", "TensorFlow"],
            "unknown system 'TensorFlow'; the choices are products, products, 1 CPU, xpnet, ",
        ),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--rounds", "many"], "argument --rounds: invalid int value: 'many'"),
        (["--images", "100"], "--images 100 is less than a batch of 784-128-10@256"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--json", "nowhere/cpu.json"], "nowhere/cpu.json: there is no folder nowhere"),
    ],
)
def test_wrong_options(
    own_directory: None, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as error:
        cpu.main(arguments)
    err = capsys.readouterr().err
    assert error.value.code == 2
    assert err.startswith(f"python -m bench cpu: error: {said}")
    assert err.count("\n") == 1


def test_a_row_that_does_not_fit(patterns: str) -> None:
    with pytest.raises(xpnet.ConfigError, match="784-128-10@64 does not fit"):
        cpu.main(["--data", patterns, "--rows", "784-128-10@64"])


def test_the_chart(patterns: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra [plot], is not installed")
    arguments = ["--data", patterns, "--rows", ROW, "--rounds", "2", "--systems", "products", "xpnet"]
    assert cpu.main([*arguments, "--chart", "cpu.png"]) == 0
    assert Path("cpu.png").read_bytes().startswith(b"\x89PNG")


def test_a_chart_without_matplotlib(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(sys, "argv", ["bench", "cpu", "--data", patterns, "--rows", ROW, "--chart", "cpu.png"])
    assert __main__.main() == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("bench: error: --chart needs matplotlib")
    assert err.count("\n") == 1


def test_a_worker_that_fails_says_so_in_a_line(small_data: xpnet.Dataset) -> None:
    worker = Worker("xpnet")
    with pytest.raises(PeerError, match=r"^ConfigError: the network takes 35 inputs, but patterns has 36 features$"):
        worker.start(small_data, xpnet.MLP((35, 3)), CONFIG)
    worker.start(small_data, NETWORK, CONFIG)
    worker.epoch()
    worker._process.kill()
    with pytest.raises(PeerError, match=f"^its process ended with exit code -{int(signal.SIGKILL)}$"):
        worker.epoch()
    worker.close()


BUSY = """
import numpy as np, xpnet
from bench._workers import Worker
if __name__ == "__main__":
    data = xpnet.Dataset("zeros", xpnet.Split(np.zeros((60000, 4), np.uint8), np.arange(60000) % 10))
    worker = Worker("products")
    worker.start(data, xpnet.MLP((4, 2000, 2000, 2000, 10)), xpnet.TrainConfig(batch_size=64, device="cpu"))
    print("started", flush=True)
    worker.epoch()
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_busy_worker_ends_with_its_parent(tmp_path: Path, name: str) -> None:
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        parent.send_signal(getattr(signal, name))
        # The worker has the other end of this pipe too: it is at its end when both are gone.
        assert parent.communicate(timeout=60)[0] == b""


@pytest.mark.parametrize("kind", [xpnet.ConfigError, xpnet.ModelError, xpnet.NonFiniteError])
def test_an_error_ends_in_one_line(
    kind: type[xpnet.XpnetError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise kind("no")

    monkeypatch.setattr(cpu, "main", fail)
    monkeypatch.setattr(sys, "argv", ["bench", "cpu"])
    assert __main__.main() == 1
    assert capsys.readouterr().err == "bench: error: no\n"


def test_ctrl_c_ends_in_one_line(patterns: str) -> None:
    arguments = ["--data", patterns, "--rows", "36-3000-3000-3000-3@32", "--systems", "products", "--rounds", "99999"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "cpu", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            while not process.stdout.readline().startswith(b"patterns"):
                pass
            os.killpg(process.pid, signal.SIGINT)
            assert process.communicate(timeout=60)[1] == b"interrupted\n"
            assert process.returncode == 130
        finally:
            process.kill()  # else a failure leaves it behind


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no CPU affinity")
def test_two_cpus() -> None:
    before = os.sched_getaffinity(0)
    with two_cpus() as cpus:
        assert 1 <= len(cpus) <= 2
        assert os.sched_getaffinity(0) == set(cpus)
    assert os.sched_getaffinity(0) == before
    assert _common._numbers("0-2,64\n") == {0, 1, 2, 64}


def test_accuracy(patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert accuracy.main(["--data", patterns, "--seeds", "2", "--target", "50"]) == 0
    out = capsys.readouterr().out
    assert "PyTorch: missing" in out
    assert "xpnet   seed 1: " in out
    assert "50 %: 2 of 2 seeds, " in out


def test_accuracy_against_pytorch(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    assert accuracy.main(["--data", patterns, "--seeds", "1", "--target", "50"]) == 0
    out = capsys.readouterr().out
    assert "PyTorch seed 0: " in out
    assert "xpnet / PyTorch, medians: " in out


def test_accuracy_of_a_recipe(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.toml").write_text('activation = "gelu"\nepochs = 1\nlr = 1e-6\n')
    assert accuracy.main(["--data", patterns, "--seeds", "1", "--recipe", "own.toml", "--target", "100"]) == 0
    out = capsys.readouterr().out
    assert "PyTorch: the recipe has settings that the PyTorch script does not follow" in out
    assert "never 100 %" in out
    assert "100 %: 0 of 1 seeds\n" in out


def test_getting_ready_is_not_timed(small_data: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a system does before its first epoch belongs to start, and what it does after one to none."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Scripted(Trainer):
        def __init__(self, *_: Any) -> None:
            clock[0] += 100.0

        def epoch(self) -> float:
            clock[0] += 1.0
            return 0.5

        def accuracy(self) -> float:
            clock[0] += 100.0
            return 0.9

        def restart(self) -> None:
            clock[0] += 100.0

    monkeypatch.setitem(SYSTEMS, "PyTorch", Scripted)
    server = Server("PyTorch")
    assert server.run(small_data, CONFIG.replace(epochs=3)) == [(1.0, 0.9)] * 3


def test_seconds_to_a_target() -> None:
    epochs = [(1.0, 0.97), (2.0, 0.98), (3.0, 0.97)]
    assert seconds_to(epochs, 98.0) == 3.0
    assert seconds_to(epochs, 98.1) == math.inf


@pytest.mark.parametrize(("number", "said"), [(0.01234, "0.0123"), (4.5, "4.50"), (45.67, "45.7"), (1234.5, "1,234")])
def test_numbers_of_the_charts(number: float, said: str) -> None:
    assert three(number) == said


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--target", "0"], ["--target", "nan"], ["--seeds", "x"]])
def test_wrong_options_of_accuracy(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        accuracy.main(arguments)
    assert error.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_startup(patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    seconds, training, _, memory, _ = _common.train(["--data", patterns])
    assert seconds > training > 0
    assert 10 < memory < 10_000 or math.isnan(memory)
    startup.main(["--rounds", "1", "--data", "mnist"])
    out = capsys.readouterr().out
    assert "xpnet train: not measured: mnist is in none of " in out
    assert "than 2.5 times" in out
    assert re.search(r"an epoch of 150 rows besides its steps, with a directory: 0\.\d+ ms", out)
    assert re.search(r"xpnet train on 150 rows: \d+\.\d\d s in all, -?\d+\.\d\d s for curves.png", out)
    for wall, memory, code in ((1.7, 349.0, 0), (1.8, 349.0, 1), (1.7, 351.0, 1)):
        assert startup._judge("mnist", _common.TrainRun(wall, 0.5, 1e5, memory, "")) == code
        assert ("NOT LESS" in capsys.readouterr().out) == bool(code)


@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize(("share", "code"), [(1e9, 0), (0.0, 1)])
def test_tabular(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, share: float, code: int) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(tabular, "SHARE", share)
    monkeypatch.setattr(tabular, "ROWS", 150)
    arguments = ["--sets", "wine", "diabetes", "--folds", "2", "--seeds", "1", "--json", "tabular.json"]
    assert tabular.main(arguments) == code
    out = capsys.readouterr().out
    assert ("NOT REACHED" in out) == bool(code)
    assert "R2, xpnet - MLP scaled: " in out
    sets = json.loads(Path("tabular.json").read_text())["sets"]
    assert {name: found["rows"] for name, found in sets.items()} == {"wine": 178, "diabetes": 442}
    assert list(sets["wine"]["systems"]) == ["xpnet", "MLP", "linear"]
    for found in sets.values():
        for system in found["systems"].values():
            assert len(system["scores"]) == len(system["seconds"]) == 2
    assert min(sets["wine"]["systems"]["xpnet"]["scores"]) > 0.9
    assert min(sets["diabetes"]["systems"]["xpnet"]["scores"]) > 0.3


def test_tabular_of_an_unknown_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        tabular.main(["--sets", "rhubarb"])
    assert "unknown set 'rhubarb'; the choices are digits, iris" in capsys.readouterr().err


@pytest.mark.usefixtures("own_directory")
def test_finetune(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the set of one's own is of the same drawings, and three examples of each class are few."""
    digits = xpnet.load_data("digits")
    assert digits.test is not None
    own = xpnet.Dataset("own", digits.train[50_000:], digits.test[:1000], classes=digits.classes)
    monkeypatch.setattr(xpnet, "load_data", lambda name: digits if name == "digits" else own)
    arguments = ["--data", "own", "--images", "30", "--drawn", "2000", "--seeds", "1", "--json", "finetune.json"]
    assert finetune.main(arguments) == 0
    assert "means on the 1,000 test images of own, with 30 of its training images" in capsys.readouterr().out
    assert list(json.loads(Path("finetune.json").read_text())["accuracies"]) == list(finetune.SYSTEMS)


@pytest.mark.parametrize("prior", [0, 20])
def test_calibration(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, prior: int) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")
    monkeypatch.setattr(calibration, "PRIOR", prior)
    assert calibration.main(["--seeds", "1", "--draws", "5"]) == (prior == 0)
    out = capsys.readouterr().out
    for name in ("clouds", "digits", "chance"):
        assert f"\n{name}: " in out
    assert out.count("in use") == 3


@pytest.mark.parametrize(("goal", "code"), [(1e9, 0), (0.0, 1)])
def test_checkpoint(
    patterns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, goal: float, code: int
) -> None:
    monkeypatch.setattr(checkpoint, "GOAL", goal)
    arguments = ["--data", patterns, "--rounds", "1", "--epochs", "3", "--hidden", "5", "--json", "checkpoint.json"]
    assert checkpoint.main(arguments) == code
    out = capsys.readouterr().out
    assert "36-5-3 relu on patterns.npz, cpu; medians of 2 epochs each" in out
    assert ("NOT LESS" in out) == (code == 1)
    report = json.loads(Path("checkpoint.json").read_text())
    assert report["save_percent"] == 100 * report["save_ms"]["median"] / report["without_ms"]["median"]
    left = {path.name for path in Path.cwd().iterdir()} - {"cache"}  # matplotlib's, where it is imported here first
    assert left == {"patterns.npz", "checkpoint.json"}


@pytest.mark.parametrize("augment", [False, True])
def test_step(capsys: pytest.CaptureFixture[str], augment: bool) -> None:
    arguments = ["--hidden", "8", "--activation", "gelu", "--batch-size", "16", "--rounds", "2"]
    assert step.main([*arguments, *(["--augment"] if augment else ["--parts"])]) == 0
    out = capsys.readouterr().out
    assert out.startswith("784-8-10 gelu, batch 16, momentum, ")
    medians = {name: int(us) for name, us in re.findall(r"^  (\w.*?) +(\d+) us median", out, re.MULTILINE)}
    ratios = re.findall(r"^  (\w.*) / (\w.*) = (\d+\.\d\d)$", out, re.MULTILINE)
    extra = {"step, augmented", "distortion"} if augment else set()
    assert set(medians) == {"step", "products", "products, all threads"} | extra
    assert {upper for upper, _, _ in ratios} == {"step"} | extra
    for upper, lower, ratio in ratios:
        assert (medians[upper] - 1) / (medians[lower] + 1) - 0.01 < float(ratio)
        assert float(ratio) < (medians[upper] + 1) / max(medians[lower] - 1, 0.1) + 0.01
    assert ("where the time goes" in out) == (not augment)


def test_scale(patterns: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--images", "100", "200", "--widths", "8", "--depths", "2", "--data", patterns, "--rounds", "1"]
    assert scale.main([*arguments, "--dir", "drawn", "--json", "scale.json"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^ +(?:100|200|8|2) +[\d,]+ ", out, re.MULTILINE)) == 4
    images, labels = (xpnet.data.read_idx(Path("drawn") / f"digits200-{kind}.idx") for kind in ("images", "labels"))
    assert (images.shape, len(np.unique(labels))) == ((200, 28, 28), 10)
    measured = json.loads(Path("scale.json").read_text())
    assert [row["size"] for row in measured["images"]] == [100, 200]
    (deep,) = measured["depth"]
    assert deep["gflops"] == pytest.approx(deep["rate"] * (4 * 36 * 256 + 6 * (256 * 256 + 256 * 3)) / 1e9)


def test_what_streaming_promises(capsys: pytest.CaptureFixture[str]) -> None:
    memory = scale.Measured(1, [100.0], [900.0], "images of 28x28, 10 classes")
    streamed = "images of 28x28 streamed from the file, 10 classes"
    for rate, peak, code in ((81.0, 599.0, 0), (79.0, 599.0, 1), (81.0, 601.0, 1)):
        assert scale._judge([memory, scale.Measured(8, [rate], [peak], streamed)]) == code
        assert ("NOT AS promised" in capsys.readouterr().out) == bool(code)
    assert scale._judge([memory]) == 0
