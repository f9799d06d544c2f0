"""The examples of a split on the device: all of them at once, or window by window where they stay in a file.

Images that are mapped from a file (data.formats maps what would take too much of the memory) are never read whole. An
epoch cuts the file into chunks of neighbouring images, takes the chunks in random order, some dozens at a time, and
shuffles the images of such a window among themselves. So the file is read in pieces that a disk is fast at, and yet a
batch has examples from all over it. While the device trains on one window, a thread reads the next one.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.data import rows_of

__all__ = ["Examples", "Loader", "Window"]

Array = Any

CHUNK_BYTES = 1 << 18
WINDOW_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class Examples:
    """Some of a split's examples, on the host.

    images : (n_all, ...), uint8 or float in [0, 1]; an np.memmap stays in its file.   labels : (n_all,) int32.
    rows : (n,) which of them; None for all.   weights : (n,) what each of these counts; None where all count alike.
    """

    images: NDArray[Any]
    labels: NDArray[np.int32]
    rows: NDArray[np.intp] | None = None
    weights: NDArray[Any] | None = None

    @property
    def n(self) -> int:
        """How many they are."""
        return len(self.labels if self.rows is None else self.rows)

    def take(self, positions: NDArray[np.intp] | None) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[Any] | None]:
        """The images, labels and weights at some positions, or at all: new arrays, but for those that are taken whole.

        positions : (k,) in 0..n-1, or None for all.
        """
        rows = self.rows if self.rows is None or positions is None else self.rows[positions]
        rows = positions if rows is None else rows
        weights = self.weights if self.weights is None or positions is None else self.weights[positions]
        if rows is None:
            return self.images, self.labels, weights
        return rows_of(self.images, rows), self.labels[rows], weights


class Window(NamedTuple):
    """Examples on the device, those of some consecutive steps.

    images (n, n_features), labels (n,), weights (n,) or None.   order : (n,) int64, in which they are taken, or None.
    """

    images: Array
    labels: Array
    weights: Array | None
    order: Array | None


class Loader:
    """Moves examples to a device.

    examples : which.   backend : where to.   batch_size : of the steps; every window but an epoch's last is a multiple.
    steps : steps of a full window; the whole epoch's where the examples fit at once.
    """

    def __init__(self, examples: Examples, backend: Backend, batch_size: int = 1) -> None:
        self._examples, self._backend = examples, backend
        n = examples.n
        self._whole = None
        self.steps = math.ceil(n / batch_size)
        if not isinstance(examples.images, np.memmap):
            self._whole = self._moved(*examples.take(None), None)
            return
        batch_bytes = batch_size * (examples.images.nbytes // len(examples.images))
        steps_per_chunk = math.ceil(CHUNK_BYTES / batch_bytes)
        self._chunk = steps_per_chunk * batch_size
        self._chunks_per_window = max(1, WINDOW_BYTES // (steps_per_chunk * batch_bytes))
        self.steps = steps_per_chunk * self._chunks_per_window

    def shuffled(self, generator: np.random.Generator) -> Iterator[Window]:
        """An epoch's windows in an order that the generator draws."""
        n = self._examples.n
        if self._whole is not None:
            yield self._whole._replace(order=self._backend.to_device(generator.permutation(n)))
            return
        # The chunks begin elsewhere in every epoch, so that it is not always the same images that are neighbours, nor
        # the same ones that are left over for the short chunk at the end.
        first = int(generator.integers(n))
        chunks = np.append(generator.permutation(n // self._chunk), n // self._chunk)
        for window in self._windows(chunks, first):
            order = generator.permutation(len(window[1]))
            yield self._moved(*window, order)

    def __iter__(self) -> Iterator[Window]:
        """The windows as they come in the file, not shuffled."""
        if self._whole is not None:
            yield self._whole
            return
        for window in self._windows(np.arange(math.ceil(self._examples.n / self._chunk)), 0):
            yield self._moved(*window, None)

    def _windows(self, chunks: NDArray[np.intp], first: int) -> Iterator[tuple[Any, Any, Any]]:
        """Read windows made of chunks, each in a thread while its predecessor is used."""
        n, starts = self._examples.n, chunks * self._chunk

        def read(i: int) -> tuple[Any, Any, Any]:
            window = starts[i : i + self._chunks_per_window, None] + np.arange(self._chunk)
            return self._examples.take((window[window < n] + first) % n)

        with ThreadPoolExecutor(1, "xpnet-reader") as reader:
            coming = reader.submit(read, 0)
            for following in range(self._chunks_per_window, len(starts), self._chunks_per_window):
                window = coming.result()
                coming = reader.submit(read, following)
                yield window
            window = coming.result()
            if len(window[1]):
                yield window

    def _moved(self, images: Any, labels: Any, weights: Any, order: Any) -> Window:
        to_device = self._backend.to_device
        return Window(
            to_device(images.reshape(len(labels), -1)),
            to_device(labels),
            None if weights is None else to_device(weights),
            None if order is None else to_device(order),
        )
