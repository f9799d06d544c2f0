"""What a Dataset promises from its construction on, and what is said when it can't."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from xpnet.data import DataError, Dataset, Split


def split(n: int = 4, shape: tuple[int, ...] = (3, 3), dtype: type[np.generic] = np.uint8) -> Split:
    return Split(np.zeros((n, *shape), dtype), np.arange(n, dtype=np.int32))


def test_what_it_tells() -> None:
    data = Dataset("small", split(5), split(4), None, 5, "memory")
    assert (data.image_shape, data.n_features, data.n_classes) == ((3, 3), 9, 5)
    images, labels = data.train
    assert images.shape == (5, 3, 3)
    assert labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_flat_features_and_all_pixel_types(dtype: type[np.generic]) -> None:
    data = Dataset("flat", split(3, (7,), dtype))
    assert (data.image_shape, data.n_features, data.test, data.validation) == ((7,), 7, None, None)


def test_frozen() -> None:
    data = Dataset("small", split())
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("part", ["train", "test", "validation"])
def test_the_error_names_the_split_the_index_and_the_value(part: str) -> None:
    splits: dict[str, Any] = {"train": split(), "test": split(), "validation": split()}
    splits[part].labels[2] = 7
    with pytest.raises(DataError, match=rf"{part} split: label 7 at index 2 is not a class; classes are 0\.\.4"):
        Dataset("bad", **splits, n_classes=5)


def with_pixel(value: float) -> Split:
    images, labels = split(dtype=np.float32)
    images[1, 2, 0] = value
    return Split(images, labels)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Split(split(4).images, split(3).labels), "4 images but 3 labels"),
        (Split(split().images, split().labels.astype(np.int64)), "labels must be .* int32, not int64"),
        (Split(split().images, split().labels[:, None]), r"not int32 of shape \(4, 1\)"),
        (split(dtype=np.int16), "not int16"),
        (split(shape=(3, 3, 1)), r"shape \(4, 3, 3, 1\)"),
        (split(0), "its images have no pixels"),
        (split(4, (3, 0)), "its images have no pixels"),
        (Split(split().images, split().labels - 1), "label -1 at index 0"),
        (Split(split().images, split().labels + 7), "label 10 at index 3"),
        (with_pixel(np.nan), r"image 1 has a pixel outside \[0, 1\]"),
        (with_pixel(1.5), r"image 1 has a pixel outside \[0, 1\]"),
        (with_pixel(np.inf), r"image 1 has a pixel outside \[0, 1\]"),
    ],
)
def test_refused(bad: Split, says: str) -> None:
    with pytest.raises(DataError, match=f"train split: .*{says}") as caught:
        Dataset("bad", bad)
    assert "\n" not in str(caught.value)


def test_splits_of_different_shapes() -> None:
    with pytest.raises(
        DataError, match=r"test split: images of shape \(2, 2\), but those of the train split are \(3, 3\)"
    ):
        Dataset("bad", split(), split(shape=(2, 2)))
