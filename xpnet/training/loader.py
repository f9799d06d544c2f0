"""The examples of a split on the device: all of them at once, or window by window.

Images that are mapped from a file (data.formats maps those that would take too much memory) are never read all at once,
and images that do not fit on a GPU are never moved all at once. An epoch cuts them into chunks of neighbouring images,
takes the chunks in random order, about a hundred at a time, and shuffles the images of such a window among themselves.
So a file is read in pieces that a disk handles quickly, and yet a batch has examples from all over it. While the device
trains on one window, a thread reads the next one and begins to move it.
"""

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.backend.arrays import is_on_host, namespace_of, to_numpy
from xpnet.data import DataError, is_mapped, rows_of

__all__ = ["Examples", "Loader", "Window", "bytes_of_row"]

Array = Any

# The share of a GPU's free memory that the images may take; steps need some of it as well.
MOST_OF_MEMORY = 0.75

CHUNK_BYTES = 1 << 18
WINDOW_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class Examples:
    """Some of a split's examples, on the host.

    images : (n_all, ...), uint8 or float; an np.memmap stays in its file, an array on a GPU there.
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
        return rows_of(self.images, rows), self.targets[rows], weights


class Window(NamedTuple):
    """Examples on the device, those of some consecutive steps.

    images (n, n_features), targets (n,) or (n, k), weights (n,) or None.
    order : (n,) int64, in which they are taken, or None.
    """

    images: Array
    targets: Array
    weights: Array | None
    order: Array | None


class Loader:
    """Moves examples to a device.

    examples : which.   backend : where to.   batch_size : of the steps; every window but an epoch's last is a multiple.
    streamed : whether window by window; None to decide by the file and the device's memory.
    steps : steps of a full window; those of the complete epoch if the examples fit at once.
    drawn : whether the order of an epoch is the generator's; of a subclass it may be its own.
    """

    drawn = True

    def __init__(self, examples: Examples, backend: Backend, batch_size: int = 1, streamed: bool | None = None) -> None:
        self._examples = examples
        n, image_bytes = examples.n, bytes_of_row(examples.images)
        self.spread = examples.spread
        self._feed = backend.feed()
        self._whole = None
        self.steps = math.ceil(n / batch_size)
        self._file = examples.images.filename if is_mapped(examples.images) else None
        free = backend.free_memory()
        if streamed is None:
            moves = free is not None and is_on_host(examples.images)
            streamed = self._file is not None or (moves and n * image_bytes > MOST_OF_MEMORY * (free or 0))
        self.streamed = streamed
        if not streamed:
            images, targets, weights = examples.take(None)
            self._whole = Window(
                backend.adopt(namespace_of(images).reshape(images, (n, -1))),
                backend.to_device(targets),
                None if weights is None else backend.to_device(weights),
                None,
            )
            return
        if self._file is None:
            logging.getLogger("xpnet").info(
                "streaming %s of images to %s, which has %s free",
                f"{n * image_bytes / 1e9:.1f} GB",
                backend.device,
                f"{(free or 0) / 1e9:.1f} GB",
            )
        self._stamp = _stamp(self._file)
        batch_bytes = batch_size * image_bytes
        steps_per_chunk = math.ceil(CHUNK_BYTES / batch_bytes)
        self._chunk = steps_per_chunk * batch_size
        self._chunks_per_window = max(1, WINDOW_BYTES // (steps_per_chunk * batch_bytes))
        self.steps = steps_per_chunk * self._chunks_per_window

    def shuffled(self, generator: np.random.Generator | None, skip: int = 0) -> Iterator[Window]:
        """An epoch's windows in an order that the generator draws, without the first few."""
        n = self._examples.n
        assert generator is not None
        if self._whole is not None:
            self._feed.push(generator.permutation(n))
            (order,) = self._feed.pull()
            yield self._whole._replace(order=order)
            return
        # The chunks begin elsewhere in every epoch, so that it is not always the same images that are neighbours, nor
        # the same ones that are left over for the short chunk at the end.
        first = int(generator.integers(n))
        chunks = generator.permutation(n // self._chunk)
        if n % self._chunk:
            chunks = np.append(chunks, len(chunks))
        yield from self._windows(chunks, first, generator, skip)

    def __iter__(self) -> Iterator[Window]:
        """The windows as they come in the file, not shuffled."""
        if self._whole is not None:
            yield self._whole
            return
        yield from self._windows(np.arange(math.ceil(self._examples.n / self._chunk)), 0, None)

    def _windows(
        self, chunks: NDArray[np.intp], first: int, generator: np.random.Generator | None, skip: int = 0
    ) -> Iterator[Window]:
        """Windows made of chunks, each read in a thread while its predecessor is used; shuffled by the generator."""
        from concurrent.futures import ThreadPoolExecutor  # only streaming needs it

        n, starts, step = self._examples.n, chunks * self._chunk, self._chunks_per_window

        def positions(i: int) -> NDArray[np.intp]:
            found = starts[i : i + step, None] + np.arange(self._chunk)
            return (found[found < n] + first) % n

        def push(i: int) -> None:
            images, targets, weights = self._examples.take(positions(i))
            self._check_unchanged()
            order = None if generator is None else generator.permutation(len(targets))
            self._feed.push(images.reshape(len(targets), -1), targets, weights, order)

        for i in range(0, skip * step, step):  # those that are not read have been drawn all the same
            if generator is not None:
                generator.permutation(len(positions(i)))
        with ThreadPoolExecutor(1, "xpnet-reader") as reader:
            coming = reader.submit(push, skip * step)
            for i in range(skip * step, len(starts), step):
                coming.result()
                # Moved, then let go, then the next is read: three windows are the most that there are at a time.
                window = Window(*self._feed.pull())
                if i + step < len(starts):
                    coming = reader.submit(push, i + step)
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
