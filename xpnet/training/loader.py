"""The examples of a split on the device: all of them at once, or window by window.

Images that are mapped from a file (data.formats maps those that would take too much memory) are never read all at once,
and images that do not fit on a GPU are never moved all at once. An epoch cuts them into chunks of neighbouring images,
takes the chunks in random order, about a hundred at a time, and shuffles the images of such a window among themselves.
So a file is read in pieces that a disk handles quickly, and yet a batch has examples from all over it. While the device
trains on one window, a thread reads the next one and begins to move it.

Of a batch in shards each shard has a stretch of its own of an epoch's chunks, as long as all its rows, and shuffles
windows of that. So a process reads no more than the rows that it trains on, and how many processes there are changes
none of them.
"""

import itertools
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.backend.arrays import is_on_host, namespace_of, to_numpy
from xpnet.data import DataError, is_mapped, rows_of
from xpnet.numerics.shards import bounds

__all__ = ["Examples", "Loader", "Window", "bytes_of_row"]

Array = Any

# The share of a GPU's free memory that the images may take; steps need some of it as well.
MOST_OF_MEMORY = 0.75

CHUNK_BYTES = 1 << 18
WINDOW_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class Examples:
    """Some of a split's examples, on the host.

    images : (n_all, ...), uint8 or float; an np.memmap or Parts stay on the disk, an array on a GPU there.
    targets : (n_all,) int32, or (n_all, k) floats.   spread : of these targets in a regression, see spread_of, or None.
    rows : (n,) which of them; None for all.   weights : (n,) of these examples; None if all weigh the same.
    """

    images: Any
    targets: NDArray[Any]
    rows: NDArray[np.intp] | None = None
    weights: NDArray[Any] | None = None
    spread: NDArray[np.float64] | None = None

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.targets if self.rows is None else self.rows)

    @property
    def chosen_targets(self) -> NDArray[Any]:
        """The targets of these examples: (n,) or (n, k)."""
        return self.targets if self.rows is None else self.targets[self.rows]

    def take(self, positions: NDArray[np.intp] | None) -> tuple[Any, NDArray[Any], NDArray[Any] | None]:
        """The images, targets and weights at some positions, or at all: new arrays, except those taken completely.

        positions : (k,) in 0..n-1, or None for all.
        """
        rows = self.rows if self.rows is None or positions is None else self.rows[positions]
        rows = positions if rows is None else rows
        weights = self.weights if self.weights is None or positions is None else self.weights[positions]
        if rows is None:
            return self.images, self.targets, weights
        return rows_of(self.images, rows), rows_of(self.targets, rows), weights


class Window(NamedTuple):
    """Examples on the device, those of some consecutive steps.

    images (n, n_features), targets (n,) or (n, k), weights (n,) or None.
    order : (n,) int64, in which they are taken, or None.
    starts : where in the order each own shard's rows of the window's first step begin; see Loader.strides.
    """

    images: Array
    targets: Array
    weights: Array | None
    order: Array | None
    starts: tuple[int, ...] = (0,)


class _Plan(NamedTuple):
    """What is to be read for a window: which examples, and its order and starts."""

    positions: NDArray[np.intp]
    order: NDArray[np.intp] | None
    starts: tuple[int, ...]


class Loader:
    """Moves examples to a device.

    examples : which.   backend : where to.   batch_size : of the steps; every window but an epoch's last is a multiple.
    streamed : whether window by window; None to decide by the file and the device's memory.
    shards : of a batch.   own : those that this process trains, neighbours; streamed, it reads their rows alone.
    steps : steps of a full window; those of the complete epoch if the examples fit at once.
    strides : how far each own shard's rows move in a window's order from a step to the next: the m rows of own shard k
        are order[starts[k] + step * strides[k] + arange(m)] at a window's steps 0, 1, ...; but not those of a last
        batch that has fewer examples, which begin elsewhere unless they are streamed.
    drawn : whether the order of an epoch is the generator's; of a subclass it may be its own.
    """

    drawn = True

    def __init__(
        self,
        examples: Examples,
        backend: Backend,
        batch_size: int = 1,
        streamed: bool | None = None,
        *,
        shards: int = 1,
        own: Sequence[int] = range(1),
    ) -> None:
        self._examples, self._shards, self._own = examples, shards, own
        n, image_bytes = examples.n, bytes_of_row(examples.images)
        self.spread = examples.spread
        self._feed = backend.feed()
        self._whole = None
        self.steps = math.ceil(n / batch_size)
        on_disk = is_mapped(examples.images)
        self._file = getattr(examples.images, "filename", None) if on_disk else None  # Parts watch their files
        free = backend.free_memory()
        if streamed is None:
            moves = free is not None and is_on_host(examples.images)
            streamed = on_disk or (moves and n * image_bytes > MOST_OF_MEMORY * (free or 0))
        self.streamed = streamed
        of_batch = [bounds(batch_size, shards, i) for i in own]
        self.strides = tuple(end - start if streamed else batch_size for start, end in of_batch)
        if not streamed:
            images, targets, weights = examples.take(None)
            self._whole = Window(
                backend.adopt(namespace_of(images).reshape(images, (n, -1)), fresh=examples.rows is not None),
                backend.to_device(targets),
                None if weights is None else backend.to_device(weights),
                None,
                tuple(start for start, _ in of_batch),
            )
            return
        if not on_disk:
            logging.getLogger("xpnet").info(
                "streaming %s of images to %s, which has %s free",
                f"{n * image_bytes / 1e9:.1f} GB",
                backend.device,
                f"{(free or 0) / 1e9:.1f} GB",
            )
        self._stamp = _stamp(self._file)
        batch_bytes = batch_size * image_bytes
        steps_per_chunk = math.ceil(CHUNK_BYTES / batch_bytes)
        self._batch_size, self._chunk = batch_size, steps_per_chunk * batch_size
        self.steps = steps_per_chunk * max(1, WINDOW_BYTES // (steps_per_chunk * batch_bytes))
        self._window = self.steps * batch_size

    def shuffled(self, generator: np.random.Generator | None, skip: int = 0) -> Iterator[Window]:
        """An epoch's windows in an order that the generator draws, without the first few."""
        n = self._examples.n
        assert generator is not None
        if self._whole is not None:
            self._feed.push(generator.permutation(n))
            (order,) = self._feed.pull()
            yield self._whole._replace(order=order)
            return
        yield from self._read(self._plans(generator, skip))

    def windows(self, rank: int = 0, size: int = 1) -> Iterator[tuple[int, Window]]:
        """The windows as they come in the file, not shuffled, each with its number.

        rank, size : of this process, and of the team: streamed, it reads every size-th window only. Examples that are
            on the device all at once are one window, which each process has.
        """
        if self._whole is not None:
            yield 0, self._whole
            return
        n = self._examples.n
        starts = range(rank * self._window, n, size * self._window)
        plans = (_Plan(np.arange(start, min(start + self._window, n)), None, (0,)) for start in starts)
        yield from zip(itertools.count(rank, size), self._read(plans), strict=False)

    def _plans(self, generator: np.random.Generator, skip: int) -> Iterator[_Plan]:
        """What is read for each window of an epoch, without the first few."""
        n, batch_size, shards = self._examples.n, self._batch_size, self._shards
        # The chunks begin elsewhere in every epoch, so that it is not always the same images that are neighbours, nor
        # the same ones that are left over for the short chunk at the end.
        first = int(generator.integers(n))
        chunks = generator.permutation(n // self._chunk)
        if n % self._chunk:
            chunks = np.append(chunks, len(chunks))
        # A shard's draws are its own, whichever process it belongs to.
        draws = [generator, *generator.spawn(shards - 1)]
        batches, rest = divmod(n, batch_size)

        def stretch(i: int) -> int:
            """Where the stretch of shard i begins: before it lie the earlier shards' rows of all batches."""
            return batches * bounds(batch_size, shards, i)[0] + bounds(rest, shards, i)[0]

        for number in range(n_windows := math.ceil(n / self._window)):
            taken, orders, starts = [], [], [0]
            for i, stride in zip(self._own, self.strides, strict=True):
                start = stretch(i) + number * self.steps * stride
                end = start + self.steps * stride if number < n_windows - 1 else stretch(i + 1)
                # Those that are skipped are drawn all the same.
                orders.append(starts[-1] + draws[i].permutation(end - start))
                taken.append(np.arange(start, end))
                starts.append(starts[-1] + end - start)
            if number >= skip:
                places = np.concatenate(taken)
                positions = (chunks[places // self._chunk] * self._chunk + places % self._chunk + first) % n
                yield _Plan(positions, np.concatenate(orders), tuple(starts[:-1]))

    def _read(self, plans: Iterator[_Plan]) -> Iterator[Window]:
        """The windows that are planned, each read in a thread while its predecessor is used."""
        from concurrent.futures import ThreadPoolExecutor  # only streaming needs it

        def push() -> tuple[int, ...] | None:
            for positions, order, starts in plans:
                images, targets, weights = self._examples.take(positions)
                self._check_unchanged()
                n_features = math.prod(images.shape[1:])  # a shard may have no rows
                self._feed.push(images.reshape(len(targets), n_features), targets, weights, order)
                return starts
            return None

        with ThreadPoolExecutor(1, "xpnet-reader") as reader:
            coming = reader.submit(push)
            while (starts := coming.result()) is not None:
                # Moved, then let go, then the next is read: three windows are the most that there are at a time.
                window = Window(*self._feed.pull())._replace(starts=starts)
                coming = reader.submit(push)
                yield window
                del window

    def _check_unchanged(self) -> None:
        if _stamp(self._file) != self._stamp:
            raise DataError(f"{self._file}: changed while in use (it was written to); leave it unchanged")


def bytes_of_row(features: Any) -> int:
    """Bytes of one example's features."""
    size: int = to_numpy(features[:1, ...]).nbytes
    return size


def _stamp(path: str | os.PathLike[str] | None) -> tuple[int, int, int] | None:
    """A stamp that changes when a file does; None if there is no file (rows_of reports why)."""
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
