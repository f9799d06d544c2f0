"""Small data to be written into files, and how a reader must refuse what it cannot read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.data import DataError, write_idx

Pair = tuple[np.ndarray, np.ndarray]


def refused(call: Callable[[Path], object], path: Path) -> str:
    """Call a reader on a path that it must refuse; returns what it says, which must be one line that names the path."""
    with pytest.raises(DataError) as caught:
        call(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def small(n: int = 6, shape: tuple[int, ...] = (4, 4), seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), (np.arange(n) % 3).astype(np.uint8)


def keras_arrays(n: int = 6) -> dict[str, Any]:
    (x_train, y_train), (x_test, y_test) = small(n, seed=1), small(n, seed=2)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def write_quartet(
    folder: Path, names: str = "{}-{}-idx{}-ubyte", test_part: str = "t10k", prefix: str = "", n: int = 6
) -> None:
    for part, seed in (("train", 1), (test_part, 2)):
        images, labels = small(n, seed=seed)
        write_idx(folder / (prefix + names.format(part, "images", 3)), images)
        write_idx(folder / (prefix + names.format(part, "labels", 1)), labels)
