"""Steps captured as CUDA graphs, and what a graph freezes, on a GPU or its stand-in; and the fusing of operations."""

import gc
import importlib
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests import fake_cupy
from xpnet.backend import Backend, select
from xpnet.numerics.counter_rng import uniform
from xpnet.training.loop import Loop, computing
from xpnet.training.prepare import prepare

pytestmark = pytest.mark.cuda

NETWORKS: list[dict[str, Any]] = [
    {},
    {"hidden": (40, 9, 8), "dropout": 0.2, "batch_norm": True, "dtype": "float64", "optimizer": "adam"},
]
# Every technique at once.
TECHNIQUES: dict[str, Any] = {
    "augment": xpnet.Distortion(rotation=10.0, scaling=0.1, shear=5.0, shift=0.5, alpha=3.0, sigma=2.0),
    "input_dropout": 0.1,
    "dropout": 0.2,
    "max_norm": 1.5,
    "batch_norm": True,
    "average": 0.9,
}
MORE_NETWORKS: list[dict[str, Any]] = [
    *({"optimizer": name} for name in xpnet.optim.OPTIMIZERS if name != "nesterov"),
    *({"activation": name} for name in xpnet.functional.ACTIVATIONS if name not in ("relu", "identity")),
    *(
        {"loss": name}
        for name, loss in xpnet.functional.LOSSES.items()
        if name != "cross-entropy" and loss.task == "classification"
    ),
    {"dropout": 0.3},
    {"batch_norm": True},
    {"clip_norm": 0.1, "label_smoothing": 0.1, "class_weight": "balanced"},
    {"hidden": (40, 8), "adversarial": 0.5, "batch_norm": True, "input_dropout": 0.1},
    {"hidden": (), "batch_size": "full", "epochs": 30},
]


QUIET: Any = {"progress": False}
SHORT: Any = {"lr": 1e-3, "epochs": 2}


def trained(
    data: xpnet.Dataset, *, graph: bool, disturb: Callable[[Backend], None] | None = None, **settings: Any
) -> Any:
    """All that a few epochs of training leave on the device, as host arrays, and the loop."""
    config = xpnet.TrainConfig(**{"hidden": (7,), "batch_size": 16, "epochs": 5, "graph": graph, **settings})
    backend = select("cuda", graph=graph)
    run, splits = prepare(config.network(data.n_features, data.n_outputs, data.task), data, config, backend)
    with computing(run):
        loop = Loop(run, splits["train"], 4)
        for epoch in range(1, run.epochs + 1):
            for _ in loop.epoch(epoch):
                if disturb is not None:
                    disturb(backend)
        state = loop.state
        leaves = [*state.params, *state.running, *state.optimizer, *state.average]
        leaves += [state.step, state.loss, state.hits, state.healthy]
        return [backend.to_host(leaf) for leaf in leaves], loop


def junk(backend: Backend) -> None:
    """What other work does to the memory between two steps."""
    arrays = [backend.to_device(np.full(n, 7.0, np.float32)) for n in (1, 7, 16 * 7, 16 * 36, 4096)]
    del arrays[::2]
    backend._cupy.get_default_memory_pool().free_all_blocks()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "settings",
    [*NETWORKS, TECHNIQUES, *(pytest.param(each, marks=pytest.mark.slow) for each in MORE_NETWORKS)],
    ids=str,
)
def test_replayed_steps_are_the_steps(
    small_data: xpnet.Dataset, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred steps and more, to the last bit, whatever other work does to the memory in between."""
    eager, loop = trained(small_data, graph=False, **settings)
    assert loop.nodes_per_step is None
    replayed, loop = trained(small_data, graph=True, disturb=junk, **settings)
    assert not caplog.records
    steps = replayed[-4][0]
    assert steps >= 30 if settings.get("batch_size") == "full" else steps == 105
    for one, other in zip(eager, replayed, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "loss", [name for name, each in xpnet.functional.LOSSES.items() if each.task != "classification"]
)
@pytest.mark.parametrize("scale", ["standard", "pixels"])
def test_replayed_steps_of_other_tasks_are_the_steps(
    small_data: xpnet.Dataset, loss: str, scale: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers and several labels an example, with features that are scaled by column."""
    images = small_data.train.images.reshape(len(small_data.train), -1)
    task = xpnet.functional.LOSSES[loss].task
    numbers = images[:, :4].astype(np.float64) / 9
    y = images[:, :4] > 99 if task == "multilabel" else np.floor(numbers) if loss == "poisson" else 7 + 3 * numbers
    data = xpnet.Dataset.from_arrays(images, y, task=task, scale=scale)
    settings: dict[str, Any] = {"loss": loss, "lr": 1e-3, "epochs": 2}
    eager, _ = trained(data, graph=False, **settings)
    replayed, loop = trained(data, graph=True, disturb=junk, **settings)
    assert loop.nodes_per_step is not None
    assert not caplog.records
    for one, other in zip(eager, replayed, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)
    on_cpu = xpnet.fit(xpnet.MLP((36, 7, 4), loss=loss), data, backend=select("cpu"), batch_size=16, **QUIET, **SHORT)
    on_gpu = xpnet.fit(xpnet.MLP((36, 7, 4), loss=loss), data, backend=select("cuda"), batch_size=16, **QUIET, **SHORT)
    assert np.allclose(on_cpu.model.outputs(images), on_gpu.model.outputs(images), rtol=1e-3, atol=1e-4)
    assert on_gpu.history[-1].train_loss == pytest.approx(on_cpu.history[-1].train_loss, rel=1e-4)


@pytest.mark.parametrize("scale", ["pixels", "standard"])
def test_features_that_lie_on_the_gpu_are_trained_on_there(small_data: xpnet.Dataset, scale: str) -> None:
    backend, (images, labels) = select("cuda"), small_data.train
    X = backend.to_device(images)
    data = xpnet.Dataset.from_arrays(X, labels, scale=scale)
    assert data.train.images.data.ptr == X.data.ptr
    network = xpnet.MLP((36, 7, 3))
    there = xpnet.fit(network, data, backend=backend, validation=0.2, **QUIET, **SHORT)
    moved = xpnet.fit(network, (images, labels), backend=backend, validation=0.2, scale=scale, **QUIET, **SHORT)
    assert np.array_equal(there.model.outputs(X), moved.model.outputs(images))


@pytest.mark.parametrize(("settings", "nodes"), [({}, 20), (TECHNIQUES, 57)], ids=["plain", "techniques"])
def test_a_step_is_few_nodes(small_data: xpnet.Dataset, settings: dict[str, Any], nodes: int) -> None:
    """Gather, two layers of three nodes forward and back, the loss, the update, the books; and what techniques add."""
    _, loop = trained(small_data, graph=True, epochs=1, **settings)
    assert loop.nodes_per_step is not None
    assert loop.nodes_per_step <= nodes


def test_training_by_graph_is_training_on_the_cpu(small_data: xpnet.Dataset) -> None:
    network = xpnet.MLP((36, 16, 3), dropout=0.2)
    options: dict[str, Any] = {"batch_size": 16, "epochs": 3, "dtype": "float64", "callbacks": [], "clip_norm": 1.0}
    options["test_each_epoch"] = True
    on_cpu = xpnet.fit(network, small_data, backend=select("cpu"), **options)
    on_gpu = xpnet.fit(network, small_data, backend=select("cuda"), **options)
    for mine, other in zip(on_gpu.model.params, on_cpu.model.params, strict=True):
        np.testing.assert_allclose(on_gpu.model.backend.to_host(mine), other, rtol=1e-10, atol=1e-12)
    for row, reference in zip(on_gpu.history, on_cpu.history, strict=True):
        assert row.test_loss == pytest.approx(reference.test_loss, rel=1e-10)
        assert row.test_accuracy == reference.test_accuracy


@pytest.mark.parametrize(("there", "here"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_model_of_one_device_is_one_of_the_other(
    small_data: xpnet.Dataset, tmp_path: Path, there: str, here: str
) -> None:
    assert small_data.test is not None
    network = xpnet.MLP((36, 16, 3), batch_norm=True)
    result = xpnet.fit(network, small_data, backend=select(there), epochs=2, out=tmp_path, progress=False)
    scores = xpnet.load(tmp_path, device=here).evaluate(*small_data.test)
    assert scores.accuracy == result.history[-1].test_accuracy
    assert scores.loss == pytest.approx(result.history[-1].test_loss, rel=1e-5)


# What a graph must not freeze


def descend(state: list[Any], rates: Any, step_of: Any) -> list[Any]:
    (p, i) = state
    p -= 0.5 * p * rates[:1] + step_of
    return [p, i + 1]


def test_arrays_that_change_in_place_are_read_anew() -> None:
    cuda = select("cuda")
    p, i = cuda.to_device(np.full(3, 8.0)), cuda.to_device(np.zeros(1, np.int64))
    rates, shift = cuda.to_device(np.array([1.0])), cuda.to_device(np.zeros(3))
    compiled = cuda.compile(descend)
    for rate, expected in ((1.0, 4.0), (0.0, 4.0), (2.0, 0.0)):
        rates[...] = rate
        p, i = compiled([p, i], rates, shift)
        np.testing.assert_array_equal(cuda.to_host(p), np.full(3, expected))
    shift[...] = -1.0
    p, i = compiled([p, i], rates, shift)
    np.testing.assert_array_equal(cuda.to_host(p), np.ones(3))
    assert cuda.to_host(i)[0] == 4


def test_other_arrays_take_effect() -> None:
    """New arrays at every call: read where they lie at first, copied from the second call on."""
    cuda = select("cuda")
    state = [cuda.to_device(np.full(3, 64.0)), cuda.to_device(np.zeros(1, np.int64))]
    compiled = cuda.compile(descend)
    kept = []
    for rate, expected in ((1.0, 32.0), (0.0, 32.0), (1.0, 16.0), (2.0, 0.0)):
        rates = cuda.to_device(np.array([rate]))
        kept.append(rates)
        state = compiled(state, rates, cuda.to_device(np.zeros(3)))
        np.testing.assert_array_equal(cuda.to_host(state[0]), np.full(3, expected))
    assert [float(cuda.to_host(rates)[0]) for rates in kept] == [1.0, 0.0, 1.0, 2.0], "the caller's were written into"


def test_another_state_is_taken_over() -> None:
    cuda = select("cuda")
    shift, rates = cuda.to_device(np.zeros(3)), cuda.to_device(np.array([1.0]))
    compiled = cuda.compile(descend)
    compiled([cuda.to_device(np.full(3, 8.0)), cuda.to_device(np.zeros(1, np.int64))], rates, shift)
    p, i = compiled([cuda.to_device(np.full(3, 6.0)), cuda.to_device(np.full(1, 5))], rates, shift)
    np.testing.assert_array_equal(cuda.to_host(p), np.full(3, 3.0))
    assert cuda.to_host(i)[0] == 6


def test_the_state_stays_where_it_is() -> None:
    cuda = select("cuda")
    p, i = cuda.to_device(np.full(3, 8.0)), cuda.to_device(np.zeros(1, np.int64))
    shift, rates = cuda.to_device(np.zeros(3)), cuda.to_device(np.array([1.0]))
    compiled = cuda.compile(descend, 3)
    places = [p.data.ptr, i.data.ptr]
    for _ in range(3):
        p, i = compiled([p, i], rates, shift)
        assert [p.data.ptr, i.data.ptr] == places
    np.testing.assert_array_equal(cuda.to_host(p), np.full(3, 8.0 / 2**9))


def test_numbers_shapes_and_dtypes_have_graphs_of_their_own() -> None:
    cuda = select("cuda")

    def step(total: Any, x: Any, factor: float) -> Any:
        return total + factor * xpnet_sum(x)

    def xpnet_sum(x: Any) -> Any:
        return cuda.xp.sum(cuda.xp.astype(x, cuda.xp.float64))

    compiled = cuda.compile(step)
    total = cuda.to_device(np.zeros(()))
    expected = 0.0
    rng = np.random.default_rng(0)
    for factor in (1.0, 2.0, 1.0):
        for x in (rng.random(3), rng.random(40), rng.random((3, 1)), rng.random(3).astype(np.float32)):
            total = compiled(total, cuda.to_device(x), factor)
            expected += factor * float(x.astype(np.float64).sum())
    assert float(cuda.to_host(total)) == pytest.approx(expected, rel=1e-12)


def test_dropout_differs_from_step_to_step() -> None:
    cuda = select("cuda")

    def step(state: tuple[Any, Any], rows: Any) -> tuple[Any, Any]:
        i, _ = state
        return i + 1, uniform((3, 5), i, seed=1, stream=2, dtype=np.float32, xp=cuda.xp) + 0.0 * rows

    compiled = cuda.compile(step)
    state = cuda.to_device(np.zeros(1, np.int64)), cuda.to_device(np.zeros((3, 5), np.float32))
    rows = cuda.to_device(np.zeros((3, 5), np.float32))
    for i in range(3):
        state = compiled(state, rows)
        expected = uniform((3, 5), np.array([i]), seed=1, stream=2, dtype=np.float32)
        np.testing.assert_array_equal(cuda.to_host(state[1]), expected)


def test_a_batch_order_takes_effect(small_data: xpnet.Dataset) -> None:
    """Each epoch trains on its own order: the weights are those of the same orders without a graph."""
    by_graph, _ = trained(small_data, graph=True, epochs=3, seed=5)
    eager, _ = trained(small_data, graph=False, epochs=3, seed=5)
    other, _ = trained(small_data, graph=True, epochs=3, seed=6)
    np.testing.assert_array_equal(by_graph[0], eager[0])
    assert not np.array_equal(by_graph[0], other[0])


# What cannot be captured


def reads(state: list[Any]) -> list[Any]:
    (x,) = state
    scale = 1.0 if float(x[0]) > 2 else 3.0
    return [x * scale]


def branches(state: list[Any]) -> list[Any]:
    (x,) = state
    return [x * 3.0 if x[0] <= 2.0 else x]


def counts(state: list[Any]) -> list[Any]:
    (x,) = state
    (where,) = x.nonzero()
    return [x * (3.0 if where.shape[0] == 2 else 1.0)]


def grows(state: list[Any]) -> list[Any]:
    (x,) = state
    return [x[:, None] * 3.0] if x.ndim == 1 else [x * 3.0]


def assigns(state: list[Any]) -> list[Any]:
    (x,) = state
    x[:1] = 3.0
    return [x * 3.0]


@pytest.mark.parametrize(
    ("step", "line", "results"),
    [
        (reads, "scale = 1.0 if float(x[0]) > 2 else 3.0", [[3.0, 3.0], [3.0, 3.0]]),
        (branches, "return [x * 3.0 if x[0] <= 2.0 else x]", [[3.0, 3.0], [3.0, 3.0]]),
        (counts, "(where,) = x.nonzero()", [[3.0, 3.0], [9.0, 9.0]]),
        (grows, "the step as a whole", [[[3.0], [3.0]], [[9.0], [9.0]]]),
        (assigns, "x[:1] = 3.0", [[9.0, 3.0], [9.0, 9.0]]),
    ],
)
def test_what_cannot_be_captured_is_run_as_it_is(
    step: Callable[..., Any], line: str, results: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One line names the operation; the results are those of the step itself."""
    cuda = select("cuda")
    compiled = cuda.compile(step)
    state = [cuda.to_device(np.ones(2))]
    for expected in results:
        state = compiled(state)
        np.testing.assert_array_equal(cuda.to_host(state[0]), np.array(expected))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("the step is not captured as a CUDA graph, but run operation by operation")
    assert line in message
    assert "\n" not in message
    assert step is grows or "test_graph.py" in message
    junk(cuda)
    ones = cuda.compile(lambda state: [state[0] + 1.0])([cuda.to_device(np.ones(2))])  # the stream is usable
    np.testing.assert_array_equal(cuda.to_host(ones[0]), np.full(2, 2.0))


def test_a_step_in_a_folder_named_cupy_is_still_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "steps.py").write_text("def step(state):\n    return [state[0] + float(state[0][0])]\n")
    monkeypatch.syspath_prepend(tmp_path / "cupy")
    cuda = select("cuda")
    cuda.compile(importlib.import_module("steps").step)([cuda.to_device(np.ones(2))])
    monkeypatch.delitem(sys.modules, "steps")
    assert "return [state[0] + float(state[0][0])]' in steps.py, line 2: " in caplog.text


def test_a_fault_of_the_step_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    cuda = select("cuda")

    def step(state: list[Any]) -> list[Any]:
        raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError, match="a fault"):
        cuda.compile(step)([cuda.to_device(np.ones(2))])
    assert not caplog.records


def test_without_a_graph_nothing_is_captured(caplog: pytest.LogCaptureFixture) -> None:
    cuda = select("cuda", graph=False)
    state = [cuda.to_device(np.ones(2))]
    for expected in ([27.0, 27.0], [27.0, 27.0]):
        state = cuda.compile(reads, 3)(state) if expected[0] != state else state
    assert not caplog.records
    np.testing.assert_array_equal(cuda.to_host(state[0]), [3.0, 3.0])


# What the stand-in alone can show


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> fake_cupy.Fake:
    return fake_cupy.install(monkeypatch)


def test_calls_of_the_device_in_a_replayed_epoch(fake: fake_cupy.Fake, small_data: xpnet.Dataset) -> None:
    """An epoch is its launches: no kernel, no allocation and no waiting between the first of them and the last."""
    config = xpnet.TrainConfig(hidden=(7,), batch_size=16)
    run, splits = prepare(config.network(36, 3), small_data, config, select("cuda"))
    with computing(run):
        loop = Loop(run, splits["train"], 4)
        for _ in loop.epoch(1):
            pass
        steps = loop.epoch(2)
        next(steps)
        before = fake.count.copy()
        for _ in steps:
            pass
    assert set(fake.count - before) == {"graph_launch"}
    assert fake.count["graph_launch"] - before["graph_launch"] == 5  # 20 steps by fours, 1 of which is done; the last


def test_warm_up_leaves_no_trace(fake: fake_cupy.Fake) -> None:
    """Warm-up runs the step on the capture's stream with the capture's memory, and the state is put back."""
    cuda = select("cuda")
    seen: list[tuple[int, bool]] = []

    def step(state: list[Any], x: Any) -> list[Any]:
        stream = fake.cupy.cuda.get_current_stream()
        seen.append((stream.ptr, stream.is_capturing()))
        assert gc.isenabled() is not stream.is_capturing(), "what is collected may free memory, and end the capture"
        state[0] += cuda.xp.sum(x)
        return state

    state, x = [cuda.to_device(np.zeros(()))], cuda.to_device(np.ones(1000))
    cuda.synchronize()
    pool = fake.cupy.get_default_memory_pool()
    compiled = cuda.compile(step, 2)
    state = compiled(state, x)
    assert float(cuda.to_host(state[0])) == 2000.0
    assert [capturing for _, capturing in seen] == [False, False, True, True]
    assert len({stream for stream, _ in seen}) == 1
    assert 0 not in {stream for stream, _ in seen}
    used = pool.used_bytes()
    for _ in range(3):
        state = compiled(state, x)
    assert float(cuda.to_host(state[0])) == 8000.0
    assert pool.used_bytes() == used
    assert len(seen) == 4


def test_what_is_under_way_is_waited_for(fake: fake_cupy.Fake) -> None:
    """Arrays that are still being moved when their step is captured, on another stream."""
    fake.lazy_null = True
    cuda = select("cuda")
    state = [cuda.to_device(np.full(3, 64.0)), cuda.to_device(np.zeros(1, np.int64))]
    compiled = cuda.compile(descend)
    for expected in (32.0, 16.0):
        state = compiled(state, cuda.to_device(np.ones(1)), cuda.to_device(np.zeros(3)))
        np.testing.assert_array_equal(cuda.to_host(state[0]), np.full(3, expected))


def test_a_step_leaves_no_garbage(fake: fake_cupy.Fake, small_data: xpnet.Dataset) -> None:
    """Values in between are freed as they are no longer needed, without the garbage collector, which capture stops."""
    config = xpnet.TrainConfig(hidden=(7,), batch_size=16, dropout=0.2, batch_norm=True, clip_norm=1.0)
    run, splits = prepare(config.network(36, 3), small_data, config, select("cuda"))
    gc.collect()
    gc.disable()
    try:
        with computing(run):
            loop = Loop(run, splits["train"], 4)
            for _ in loop.epoch(1):
                pass
        graphs = [*loop._steps._graphs.values(), *loop._step._graphs.values()]  # type: ignore[attr-defined]
        assert len(graphs) == 2
        assert [graph.pool.used_bytes() for graph in graphs] == [0, 0]
    finally:
        gc.enable()


def test_the_memory_of_a_graph_goes_with_it(fake: fake_cupy.Fake) -> None:
    cuda = select("cuda")
    x = cuda.to_device(np.ones(100_000))
    compiled = cuda.compile(lambda state, x: [state[0] + cuda.xp.sum(cuda.xp.sqrt(x * x))])
    compiled([cuda.to_device(np.zeros(()))], x)
    held = fake.allocated
    del compiled
    gc.collect()
    fake.cupy.get_default_memory_pool().free_all_blocks()
    assert fake.allocated < held - 100_000 * 8
    assert fake.count["illegal_address"] == 0


def test_ever_other_shapes_do_not_fill_the_memory(fake: fake_cupy.Fake) -> None:
    cuda = select("cuda")
    compiled: Any = cuda.compile(lambda state, x: [state[0] + cuda.xp.sum(x * x)])
    state = [cuda.to_device(np.zeros(()))]
    for n in range(1, 25):
        state = compiled(state, cuda.to_device(np.ones(n)))
    assert float(cuda.to_host(state[0])) == sum(range(1, 25))
    assert len(compiled._graphs) == 8


def test_failing_to_end_a_capture_is_survived(fake: fake_cupy.Fake, caplog: pytest.LogCaptureFixture) -> None:
    """A step that waits for its own stream breaks the capture itself."""
    cuda = select("cuda")

    def step(state: list[Any]) -> list[Any]:
        fake.cupy.cuda.get_current_stream().synchronize()
        return [state[0] + 1.0]

    state = [cuda.to_device(np.zeros(2))]
    compiled = cuda.compile(step)
    for expected in (1.0, 2.0):
        state = compiled(state)
        np.testing.assert_array_equal(cuda.to_host(state[0]), np.full(2, expected))
    assert len(caplog.records) == 1
    assert "fake.cupy.cuda.get_current_stream().synchronize()" in caplog.text


def test_out_of_memory_says_what_was_asked_and_what_was_free(fake: fake_cupy.Fake) -> None:
    cuda = select("cuda")
    fake.total_memory = fake.allocated + 2**30
    message = (
        r"^cuda:0 cannot allocate 2\.0 GiB more, with 1\.0 GiB of its \d+\.\d GiB free: choose a smaller batch or "
        "network, or see what else is running there$"
    )
    with pytest.raises(MemoryError, match=message):
        cuda.to_device(np.empty(2**31, np.uint8))
    x = cuda.to_device(np.ones(2))
    state = [cuda.to_device(np.zeros(()))]

    def step(state: list[Any], x: Any) -> list[Any]:
        return [state[0] + cuda.xp.sum(fake.cupy.empty(2**31, np.uint8))]

    with cuda.active(), pytest.raises(MemoryError, match="Out of memory allocating 2,147,483,648 bytes"):
        cuda.compile(step)(state, x)


def test_logged_once(fake: fake_cupy.Fake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    compiled = select("cuda").compile(lambda state, x: [state[0] + float(x[0])])
    state: Any = [select("cuda").to_device(np.zeros(2))]
    for n in (1, 2, 3):
        state = compiled(state, select("cuda").to_device(np.ones(n)))
    assert len(caplog.records) == 1
    assert re.search(r"float\(x\[0\]\).* in test_graph\.py, line \d+: RuntimeError: ", caplog.text)


def test_equal_numbers_of_other_types_have_graphs_of_their_own() -> None:
    """1, 1.0 and True are one key of a dictionary, and another result each."""
    cuda = select("cuda")
    compiled = cuda.compile(lambda state, x, factor: [state[0] + cuda.xp.astype(x * factor / 2, cuda.xp.float64)])
    x = cuda.to_device(np.full(1, 2**24 + 1, np.int32))
    state = [cuda.to_device(np.zeros(1))]
    for factor in (1, 1.0, 1):
        state = compiled(state, x, factor)
    assert len(compiled._graphs) == 2  # type: ignore[attr-defined]
    assert float(cuda.to_host(state[0])[0]) == 3 * (2**24 + 1) / 2


def test_a_compiled_step_goes_without_the_collector(fake: fake_cupy.Fake) -> None:
    """As one training after the other needs it, in one process: a collection may come late."""
    cuda = select("cuda")
    x = cuda.to_device(np.ones(100_000))
    gc.collect()
    gc.disable()
    try:
        compiled = cuda.compile(lambda state, x: [state[0] + cuda.xp.sum(cuda.xp.sqrt(x * x))])
        compiled([cuda.to_device(np.zeros(()))], x)
        held = fake.allocated
        del compiled
        assert fake.allocated < held - 100_000 * 8
    finally:
        gc.enable()


def test_the_memory_of_a_graph_is_freed_where_it_lies(fake: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool has memory on several devices, and frees that of the current one."""
    cuda = select("cuda:1")
    freed_on: list[int] = []
    free = fake.cupy.cuda.MemoryPool.free_all_blocks

    def free_all_blocks(self: Any, stream: Any = None) -> None:
        freed_on.append(fake.local.device)
        free(self, stream)

    monkeypatch.setattr(fake.cupy.cuda.MemoryPool, "free_all_blocks", free_all_blocks)
    compiled = cuda.compile(lambda state: [state[0] + 1.0])
    compiled([cuda.to_device(np.zeros(2))])
    select("cuda:0")
    del compiled
    gc.collect()
    assert freed_on == [1]


def test_a_feed_moves_while_a_step_is_captured(fake: fake_cupy.Fake) -> None:
    """The reader's thread makes its second buffer while the first step is captured: it may not wait for the device."""
    cuda = select("cuda")
    feed = cuda.feed()
    feed.push(np.ones(4))
    feed.pull()
    stream = fake.cupy.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    feed.push(np.full(4000, 2.0))
    stream.end_capture()
    (pulled,) = feed.pull()
    np.testing.assert_array_equal(cuda.to_host(pulled), np.full(4000, 2.0))


def test_what_is_still_moving_does_not_move_into_other_arrays(fake: fake_cupy.Fake) -> None:
    """An epoch that is broken off leaves a window that was pushed and never pulled."""
    cuda = select("cuda")
    feed = cuda.feed()
    feed.push(np.ones(1000))
    del feed
    other = cuda.to_device(np.zeros(1000))
    for stream in fake.streams.values():
        stream.drain()
    np.testing.assert_array_equal(cuda.to_host(other), np.zeros(1000))


def test_a_feed_waits_for_what_used_its_memory(fake: fake_cupy.Fake) -> None:
    """A buffer may be what the steps have just freed, and have not finished with."""
    cuda = select("cuda")
    fake.lazy_null = True
    feed = cuda.feed()
    cuda.to_device(np.full(1000, 7.0))  # freed at once, and on its way there
    feed.push(np.ones(1000))
    for stream in [*fake.streams.values()][::-1]:
        stream.drain()
    (pulled,) = feed.pull()
    np.testing.assert_array_equal(cuda.to_host(pulled), np.ones(1000))
