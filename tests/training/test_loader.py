"""The loader: whole in memory or window by window out of a file, every example comes once, with what belongs to it."""

import dataclasses
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests import fake_cupy
from tests.conftest import open_backend, relative_error
from xpnet.backend import Backend, select
from xpnet.backend.cupy.backend import CupyBackend
from xpnet.data import DataError, is_mapped, read, read_idx, rows_of, write_idx
from xpnet.data.formats import idx
from xpnet.numerics.shards import bounds
from xpnet.numerics.streams import ORDER
from xpnet.training import loader
from xpnet.training.fit import fit
from xpnet.training.initializers import generator
from xpnet.training.loader import Examples, Loader, Window
from xpnet.training.loop import Loop, computing
from xpnet.training.prepare import prepare

N = 1003  # a prime, so that nothing comes out even


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of two batches of eight and windows of five chunks, at 36 pixels."""
    monkeypatch.setattr(loader, "CHUNK_BYTES", 36 * 16)
    monkeypatch.setattr(loader, "WINDOW_BYTES", 36 * 80)


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> xpnet.Dataset:
    """A set of 6x6 images in a mapped file; the first pixels tell an image's number, whose remainder is the label."""
    monkeypatch.setattr(idx, "MAPPED_SHARE", 0.0)
    images = np.random.default_rng(0).integers(0, 256, (N, 6, 6), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(N) // 256, np.arange(N) % 256
    images[:, 3:, :] = 80 * (np.arange(N) % 3)[:, None, None]
    write_idx(tmp_path / "some-images.idx", images)
    write_idx(tmp_path / "some-labels.idx", (np.arange(N) % 3).astype(np.uint8))
    data = read(tmp_path / "some-images.idx")
    assert isinstance(data.train.images, np.memmap)
    return data


def numbers(window: Window) -> np.ndarray:
    found: np.ndarray = window.images[:, 0].astype(int) * 256 + window.images[:, 1]
    return found


def in_memory(data: xpnet.Dataset) -> xpnet.Dataset:
    return dataclasses.replace(data, train=xpnet.Split(np.array(data.train.images), data.train.labels))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("subset", [False, True])
def test_an_epoch_has_every_example_once(mapped: xpnet.Dataset, whole: bool, subset: bool) -> None:
    images, labels = (in_memory(mapped) if whole else mapped).train
    rows = np.arange(2, N, 3) if subset else None
    weights = np.arange(N)[2::3] / 7 if subset else None
    examples = Examples(images, labels, rows, weights)
    found = Loader(examples, open_backend("numpy"), 8)
    orders = []
    for epoch in (1, 2):
        windows = list(found.shuffled(generator(0, epoch)))
        assert len(windows) == (1 if whole else -(-examples.n // 80))
        assert all(len(window.targets) == found.steps * 8 for window in windows[:-1])
        for window in windows:
            assert window.order is not None
            assert sorted(window.order) == list(range(len(window.targets)))
            assert np.array_equal(window.targets, numbers(window) % 3)
            if subset:
                assert window.weights == pytest.approx(numbers(window) / 7)
        orders.append(np.concatenate([numbers(window)[window.order] for window in windows]))
        assert sorted(orders[-1]) == list(range(N) if rows is None else rows)
    assert not np.array_equal(orders[0], orders[1])
    again = [numbers(window)[window.order] for window in found.shuffled(generator(0, 1))]
    assert np.array_equal(np.concatenate(again), orders[0]), "the generator decides"
    in_order = np.concatenate([numbers(window) for _, window in found.windows()])
    assert np.array_equal(in_order, np.arange(N) if rows is None else rows)


def test_a_window_has_chunks_from_all_over_the_file(mapped: xpnet.Dataset) -> None:
    """Five chunks of 16 neighbours each, which begin elsewhere in another epoch, and no batch is a chunk."""
    found = Loader(Examples(*mapped.train), open_backend("numpy"), 8)
    beginnings = []
    for epoch in (1, 2):
        window = next(iter(found.shuffled(generator(0, epoch))))
        read = numbers(window)
        starts = read[::16]
        assert np.array_equal(read, ((starts[:, None] + np.arange(16)) % N).ravel())
        assert np.ptp(starts) > N / 3
        beginnings.append(set(starts % 16))
        assert any(np.ptp(batch) > N / 3 for batch in read[window.order].reshape(-1, 8))
    assert beginnings[0] != beginnings[1]


@pytest.mark.parametrize("n", [80, 160, 64, 8, 5, 1])
def test_sets_that_come_out_even_or_fill_no_window(mapped: xpnet.Dataset, n: int) -> None:
    found = Loader(Examples(mapped.train.images, mapped.train.labels, rows=np.arange(n)), open_backend("numpy"), 8)
    for windows in ([window for _, window in found.windows()], list(found.shuffled(generator(0)))):
        assert sorted(np.concatenate([numbers(window) for window in windows])) == list(range(n))
        assert all(len(window.targets) for window in windows)


@pytest.mark.parametrize(
    ("library", "device"),
    [
        ("numpy", "cpu"),
        ("array-api-strict", "device1"),
        ("torch", "cpu"),
        ("jax", "cpu"),
        pytest.param("cupy", "cuda", marks=pytest.mark.cuda),
    ],
)
@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_training_from_a_file_is_training_in_that_order(
    mapped: xpnet.Dataset, library: str, device: str, steps_per_call: int
) -> None:
    """The weights are those of an epoch in memory whose order is the windows', on every backend."""
    network = xpnet.MLP((36, 7, 3), dropout=0.2)
    config = xpnet.TrainConfig(batch_size=8, epochs=1, dtype="float64", class_weight="balanced", seed=3)
    run, splits = prepare(network, mapped, config, open_backend(library, device))
    with computing(run):
        loop = Loop(run, splits["train"], steps_per_call)
        done = list(loop.epoch(1))
    assert done[-1] == run.n_steps == 126
    assert steps_per_call == 1 or done[:4] == [4, 8, 9, 10], "a window has ten steps"

    windows = Loader(splits["train"], open_backend("numpy"), 8).shuffled(generator(3, ORDER, 1))
    order = np.concatenate([numbers(window)[window.order] for window in windows])
    images, labels = mapped.train
    sorted_data = dataclasses.replace(mapped, train=xpnet.Split(np.array(images[order]), labels[order]))
    plain, splits = prepare(network, sorted_data, config, open_backend("numpy"))
    with computing(plain):
        expected = Loop(plain, splits["train"])
        expected._loader.shuffled = lambda generator, skip: [  # type: ignore[method-assign,assignment,misc]
            expected._loader._whole._replace(order=np.arange(N))  # type: ignore[union-attr]
        ]
        for _ in expected.epoch(1):
            pass
    for mine, other in zip(loop.state.params, expected.state.params, strict=True):
        assert relative_error(run.backend.to_host(mine), other) < 1e-12


def test_fit_and_evaluate_from_a_file(mapped: xpnet.Dataset) -> None:
    """All splits may stay in the file; the figures are those of the same examples in memory."""
    mapped = dataclasses.replace(mapped, test=mapped.train)
    options: dict[str, Any] = {"batch_size": 8, "epochs": 2, "validation": 200, "callbacks": []}
    network = xpnet.MLP((36, 7, 3))
    streamed = fit(network, mapped, **options)
    accuracy = streamed.history[-1].test_accuracy
    assert accuracy is not None
    assert accuracy > 0.95
    still = {"lr": 1e-30, "schedule": "constant", "dtype": "float64", "test_each_epoch": True, **options}
    a, b = (fit(network, data, **still).history[0] for data in (mapped, in_memory(mapped)))
    for name in ("train_loss", "train_accuracy", "validation_loss", "test_loss", "test_accuracy"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-12)
    whole = in_memory(mapped).train
    assert np.array_equal(streamed.model.predict(mapped.train.images), streamed.model.predict(whole.images))
    assert streamed.model.evaluate(*mapped.train).accuracy == streamed.model.evaluate(*whole).accuracy


@pytest.mark.parametrize("rows", [None, np.arange(0, 2000, 2)])
def test_nobody_else_s_array_is_used_and_no_copy_copied(rows: np.ndarray | None) -> None:
    images = np.ones((2000, 10, 100), np.uint8)
    tracemalloc.start()
    whole = Loader(Examples(images, np.zeros(2000, np.int32), rows), xpnet.select("cpu"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    ((_, window),) = whole.windows()
    assert not np.shares_memory(window.images, images)
    assert peak < 1.2 * window.images.nbytes


def test_rows_are_read_without_keeping_the_file_in_memory(mapped: xpnet.Dataset) -> None:
    images = mapped.train.images
    read = rows_of(images, np.array([5, 900, 5]))
    assert np.array_equal(read[:, 0, 1], np.array([5, 900, 5]) % 256)
    assert type(read) is np.ndarray
    assert read.base is None, "no view of the mapping"


def test_parts_of_a_mapping_are_read_from_where_they_are(tmp_path: Path) -> None:
    """As np.load maps them, sliced, reshaped, strided or changed in memory alone."""
    array = np.random.default_rng(0).random((50, 6, 6))
    np.save(tmp_path / "images.npy", array)
    rows = np.array([3, 0, 9])
    for mode in ("r", "r+", "c"):
        images = np.load(tmp_path / "images.npy", mmap_mode=mode)
        if mode == "c":
            images[:] = array = 1.0 - array
        for part in (np.s_[:], np.s_[20:40], np.s_[::2], np.s_[10:, 2:4]):
            assert isinstance(images[part], np.memmap)
            assert np.array_equal(rows_of(images[part], rows), array[part][rows])
        assert np.array_equal(rows_of(images[20:].reshape(30, 36), rows), array[20:].reshape(30, 36)[rows])


def test_copies_of_a_mapping_are_arrays_like_others(mapped: xpnet.Dataset) -> None:
    """NumPy calls them np.memmap as well, but they have no file."""
    images, labels = mapped.train
    rows = np.array([5, 6, 900])
    for copy in (pickle.loads(pickle.dumps(images)), images.copy(), images.astype(np.float32)):
        assert isinstance(copy, np.memmap)
        assert not is_mapped(copy)
        assert np.array_equal(rows_of(copy, rows), np.asarray(copy)[rows])
    data = dataclasses.replace(mapped, train=xpnet.Split(pickle.loads(pickle.dumps(images)), labels))
    fit(xpnet.MLP((36, 7, 3)), data, epochs=1, progress=False)


@pytest.mark.parametrize("rows", [[], [7], [0, 1, 2], [1002, 0], [3, 5, 7, 8, 9, 2, 1], range(N)])
def test_rows_of_a_file_are_those_of_the_array(mapped: xpnet.Dataset, rows: Sequence[int]) -> None:
    wanted = np.array(rows, dtype=np.intp)
    assert np.array_equal(rows_of(mapped.train.images, wanted), np.asarray(mapped.train.images)[wanted])


def test_the_next_window_is_read_meanwhile(mapped: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = [threading.Event() for _ in range(20)]
    calls = iter(begun)
    take = Examples.take

    def announced(self: Examples, positions: np.ndarray | None) -> tuple[Any, ...]:
        next(calls).set()
        return take(self, positions)

    monkeypatch.setattr(Examples, "take", announced)
    windows = Loader(Examples(*mapped.train), open_backend("numpy"), 8).shuffled(generator(0))
    next(windows)
    assert begun[1].wait(60), "the second window is asked for while the first is in use"
    assert not begun[2].is_set()
    windows.close()  # type: ignore[attr-defined]


MEMORY = """
import resource, numpy as np, xpnet
from xpnet.training import loader
from xpnet.data import read_idx
from xpnet.data.formats import idx
idx.MAPPED_SHARE, loader.WINDOW_BYTES, loader.CHUNK_BYTES = 0, 2**20, 2**15
images, n = read_idx("large.idx"), 100_000
rows = np.arange(0, n, 7)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for chosen in (None, rows):
    found = loader.Loader(loader.Examples(images, np.zeros(n, np.int32), chosen), xpnet.select("cpu"), 64)
    before = peak() if chosen is None else before
    for windows in (found.windows(), found.shuffled(np.random.default_rng(0))):
        for _ in windows: pass
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_the_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """78 MB go through windows of 1 MB, whole and every seventh image: the process keeps a few of them."""
    with (tmp_path / "large.idx").open("wb") as file:
        file.write(bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (100_000, 28, 28)))
        file.truncate(16 + 100_000 * 784)
    grown = float(subprocess.check_output([sys.executable, "-c", MEMORY], cwd=tmp_path, text=True))
    assert grown < 20


def test_a_batch_that_no_window_holds(mapped: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    network, backend = xpnet.MLP((36, 7, 3)), open_backend("numpy")
    monkeypatch.setattr("xpnet.training.prepare.WINDOW_BYTES", 36 * 500)
    for size in ("full", 501):
        with pytest.raises(xpnet.ConfigError, match=f"batch_size {size} needs 0 MB at once of .* choose at most 500"):
            prepare(network, mapped, xpnet.TrainConfig(batch_size=size), backend)
        prepare(network, in_memory(mapped), xpnet.TrainConfig(batch_size=size), backend)
    prepare(network, mapped, xpnet.TrainConfig(batch_size=500), backend)


def test_a_file_that_is_written_to_is_told(mapped: xpnet.Dataset) -> None:
    path = Path(str(mapped.train.images.filename))
    found = Loader(Examples(*mapped.train), open_backend("numpy"), 8)
    assert len(list(found.windows())) == 13
    write_idx(path, np.zeros((N, 6, 6), np.uint8))
    with pytest.raises(DataError, match=r"some-images\.idx: changed while in use \(it was written to\)"):
        list(found.windows())


def test_a_file_that_shrinks_is_told(mapped: xpnet.Dataset) -> None:
    path = Path(str(mapped.train.images.filename))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"some-images\.idx: changed while in use"):
        fit(xpnet.MLP((36, 7, 3)), mapped, progress=False, epochs=1)
    path.unlink()
    with pytest.raises(DataError, match="changed while in use"):
        rows_of(mapped.train.images, np.arange(3))


def test_no_reader_is_left_behind(mapped: xpnet.Dataset) -> None:
    windows = Loader(Examples(*mapped.train), open_backend("numpy"), 8).shuffled(generator(0))
    next(windows)
    windows.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("xpnet-reader")]


# Batches in shards ------------------------------------------------------------------------------------------------

Rows = list[list[int]]


@pytest.fixture
def read_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions of all examples that loaders take."""
    read: list[int] = []
    take = Examples.take

    def counted(self: Examples, positions: np.ndarray | None) -> tuple[Any, ...]:
        assert positions is not None
        read.extend(positions)
        return take(self, positions)

    monkeypatch.setattr(Examples, "take", counted)
    return read


def sharded(data: xpnet.Dataset, n: int, batch_size: int, shards: int, size: int, **options: Any) -> dict[int, Rows]:
    """The rows that each shard trains on at each step of an epoch, in order, dealt out to some processes."""
    found: dict[int, Rows] = {i: [] for i in range(shards)}
    for rank in range(size):
        own = range(rank * shards // size, (rank + 1) * shards // size)
        examples = Examples(data.train.images, data.train.labels, rows=np.arange(n), weights=np.arange(n) / 7)
        loader = Loader(examples, open_backend("numpy"), batch_size, shards=shards, own=own)
        done = loader.steps * options.get("skip", 0)
        for window in loader.shuffled(generator(5, 1), **options):
            assert window.order is not None
            assert sorted(window.order) == list(range(len(window.targets)))
            assert np.array_equal(window.targets, numbers(window) % 3)
            assert window.weights == pytest.approx(numbers(window) / 7)
            for step in range(min(loader.steps, -(-n // batch_size) - done)):
                rest = min(batch_size, n - done * batch_size)
                done += 1
                for i, start, stride in zip(own, window.starts, loader.strides, strict=True):
                    first, last = bounds(rest, shards, i)
                    at = window.order[start + step * stride + np.arange(last - first)]
                    found[i].append(numbers(window)[at].tolist())
        assert done == -(-n // batch_size)
    return found


@pytest.mark.parametrize(
    ("n", "batch_size", "shards"),
    [
        (N, 8, 4),
        (N, 8, 1),
        (962, 8, 4),  # a last batch with fewer examples than shards
        (961, 8, 8),  # which is a window of its own
        (960, 6, 4),  # shards of one row and of two
        (998, 5, 8),  # shards that are empty in a batch of five, and not in one of three
        (3, 8, 8),
    ],
)
def test_the_rows_of_a_shard_do_not_depend_on_the_processes(
    mapped: xpnet.Dataset, read_rows: list[int], n: int, batch_size: int, shards: int
) -> None:
    """Every row comes once, each shard has its part of each batch, and a process reads its own shards' rows alone."""
    expected = sharded(mapped, n, batch_size, shards, 1)
    assert sorted(row for steps in expected.values() for rows in steps for row in rows) == list(range(n))
    for size in (2, 4, 8):
        if size <= shards:
            read_rows.clear()
            assert sharded(mapped, n, batch_size, shards, size) == expected
            assert sorted(read_rows) == list(range(n)), "none is read by two processes"
    if n > 80:
        steps = Loader(Examples(*mapped.train), open_backend("numpy"), batch_size).steps
        rest = {i: rows[3 * steps :] for i, rows in expected.items()}
        assert sharded(mapped, n, batch_size, shards, shards, skip=3) == rest


def test_a_shard_is_a_stretch_of_the_chunks(mapped: xpnet.Dataset) -> None:
    """Neighbours in the file are read by one process: its 250 rows or so are of 17 or 18 of the 63 chunks."""
    for steps in sharded(mapped, N, 8, 4, 1).values():
        rows = np.sort([row for step in steps for row in step])
        assert len(rows) in (250, 251, 252)
        assert np.count_nonzero(np.diff(rows) != 1) < 19


def test_the_draws_of_shards_differ(mapped: xpnet.Dataset) -> None:
    """Each shard shuffles its window in an order of its own."""
    orders = []
    for i in range(4):
        examples = Examples(*mapped.train)
        window = next(iter(Loader(examples, open_backend("numpy"), 8, shards=4, own=[i]).shuffled(generator(5, 1))))
        assert window.order is not None
        orders.append(tuple(window.order))
    assert len(set(orders)) == 4


@pytest.mark.parametrize("n", [N, 960, 80, 7])
@pytest.mark.parametrize("batch_size", [8, 5, 100])
def test_one_shard_has_the_order_that_there_was_before_shards(mapped: xpnet.Dataset, n: int, batch_size: int) -> None:
    """Chunk after chunk in the order drawn, and a window's rows by a permutation drawn when it is read."""
    draws, expected = generator(5, 1), []
    chunk = -(-36 * 16 // (36 * batch_size)) * batch_size
    per_window = max(1, 36 * 80 // (36 * chunk))
    first = int(draws.integers(n))
    chunks = draws.permutation(n // chunk).tolist() + ([n // chunk] if n % chunk else [])
    for i in range(0, len(chunks), per_window):
        rows = np.concatenate([np.arange(c * chunk, min((c + 1) * chunk, n)) for c in chunks[i : i + per_window]])
        expected.append(((rows + first) % n)[draws.permutation(len(rows))].tolist())
    examples = Examples(mapped.train.images, mapped.train.labels, rows=np.arange(n))
    found = Loader(examples, open_backend("numpy"), batch_size).shuffled(generator(5, 1))
    assert [numbers(window)[window.order].tolist() for window in found] == expected


def test_shards_of_examples_on_the_device(mapped: xpnet.Dataset) -> None:
    """Every process has them all, and each shard its part of each batch of the epoch's permutation."""
    whole = Loader(Examples(*in_memory(mapped).train), open_backend("numpy"), 10, shards=4, own=range(2, 4))
    (window,) = whole.shuffled(generator(5, 1))
    assert len(window.images) == N
    assert np.array_equal(window.order, generator(5, 1).permutation(N))  # type: ignore[arg-type]
    assert (window.starts, whole.strides) == ((5, 7), (10, 10))
    assert [number for number, _ in whole.windows(1, 2)] == [0]


def test_windows_are_dealt_out_for_evaluation(mapped: xpnet.Dataset, read_rows: list[int]) -> None:
    found = Loader(Examples(*mapped.train), open_backend("numpy"), 8)
    expected = [numbers(window).tolist() for _, window in found.windows()]
    assert len(expected) == 13
    for size in (1, 2, 4, 16):
        read_rows.clear()
        dealt = [[(number, numbers(w).tolist()) for number, w in found.windows(rank, size)] for rank in range(size)]
        assert all(number % size == rank for rank, part in enumerate(dealt) for number, _ in part)
        assert [rows for _, rows in sorted(each for part in dealt for each in part)] == expected
        assert sorted(read_rows) == list(range(N))


# Which files are mapped ------------------------------------------------------------------------------------------


def test_only_large_raw_images_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((10, 6, 6), np.uint8)
    for name, array in (
        ("a", images),
        ("a.gz", images),
        ("floats", images.astype(np.float32)),
        ("row", images[:, 0, 0]),
    ):
        write_idx(tmp_path / name, array)
    monkeypatch.setattr(idx, "_memory", lambda: 8.0 * 359)
    assert isinstance(read_idx(tmp_path / "a"), np.memmap)
    for name in ("a.gz", "floats", "row"):
        assert not isinstance(read_idx(tmp_path / name), np.memmap)
    monkeypatch.setattr(idx, "_memory", lambda: 8.0 * 360)
    assert not isinstance(read_idx(tmp_path / "a"), np.memmap)
    monkeypatch.setattr(idx, "MAX_BYTES", 359)
    assert isinstance(read_idx(tmp_path / "a"), np.memmap)
    with pytest.raises(DataError, match="the cap is 359 for a packed file, so unpack it"):
        read_idx(tmp_path / "a.gz")
    whole = (tmp_path / "a").read_bytes()
    for content, message in ((whole[:-1], "but it holds only 359;"), (whole + b"x", "but it holds more;")):
        (tmp_path / "b").write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_idx(tmp_path / "b")


def test_the_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(idx, "MEMORY_LIMITS", (str(limit),))
    machine = idx._memory()
    assert 2**28 < machine < 2**50
    limit.write_text("max\n")
    assert idx._memory() == machine
    limit.write_text("268435456\n")
    assert idx._memory() == 2**28


# Images that a GPU has no room for


def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "free_memory", lambda self: N * 36)
    monkeypatch.setattr(CupyBackend, "free_memory", lambda self: N * 36)


@pytest.mark.cuda
def test_images_beyond_the_free_memory_are_streamed(
    mapped: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every example once and with its label, in the windows and the order that a file's would have."""
    caplog.set_level("INFO", "xpnet")
    cuda, numpy = select("cuda"), select("cpu")
    from_file = [numbers(w)[w.order] for w in Loader(Examples(*mapped.train), numpy, 8).shuffled(generator(0))]
    crowded(monkeypatch)
    images, labels = in_memory(mapped).train
    moved = Loader(Examples(images, labels), cuda, 8)
    addresses = set()
    for window, expected in zip(moved.shuffled(generator(0)), from_file, strict=True):
        images, targets, order = map(cuda.to_host, (window.images, window.targets, window.order))
        host = window._replace(images=images, targets=targets, order=order)
        assert np.array_equal(numbers(host)[host.order], expected)
        assert np.array_equal(host.targets, numbers(host) % 3)
        addresses.add(window.images.data.ptr)
    assert len(addresses) == 1, "captured graphs read where the first window lay"
    assert caplog.messages == ["streaming 0.0 GB of images to cuda:0, which has 0.0 GB free"]


@pytest.mark.cuda
def test_training_on_streamed_images_is_the_same_on_every_device(
    mapped: xpnet.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows overtake each other nowhere: the weights are those of the CPU, with graphs and without."""
    crowded(monkeypatch)
    data, network = in_memory(mapped), xpnet.MLP((36, 7, 3), dropout=0.2)
    options: dict[str, Any] = {"batch_size": 8, "epochs": 2, "dtype": "float64", "callbacks": [], "validation": 0.2}
    expected = fit(network, data, backend=select("cpu"), **options)
    for graph in (True, False):
        cuda = select("cuda", graph=graph)
        found = fit(network, data, backend=cuda, class_weight=None, **options)
        for mine, other in zip(found.model.params, expected.model.params, strict=True):
            assert relative_error(cuda.to_host(mine), other) < 1e-12
        assert found.history[-1].validation_accuracy == expected.history[-1].validation_accuracy


def test_copies_that_run_late_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffers of a feed are not refilled before the device has read them."""
    fake = fake_cupy.install(monkeypatch)
    fake.lazy_null = True
    cuda = select("cuda")
    feed = cuda.feed()
    seen = []
    for number in range(8):
        width = 9 if number == 4 else 7 - number // 3  # to make room for more is to wait
        feed.push(np.full((4, width), number), None, np.array([number], np.int32))
        block, nothing, row = feed.pull()
        assert nothing is None
        seen.append((block + 0, row * 2))
    for number, (block, row) in enumerate(seen):
        assert cuda.to_host(block).tolist() == [[number] * block.shape[1]] * 4
        assert cuda.to_host(row).tolist() == [2 * number]
    assert fake.is_pinned(feed._pinned[0][0])  # type: ignore[attr-defined]
