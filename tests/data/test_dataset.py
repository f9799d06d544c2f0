"""What a Dataset promises from its construction on, and what is said when it can't."""

import dataclasses
import datetime
from typing import Any

import array_api_strict
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
def test_the_error_names_the_split_the_row_and_the_value(part: str) -> None:
    splits: dict[str, Any] = {"train": split(), "test": split(), "validation": split()}
    splits[part].labels[2] = 7
    with pytest.raises(DataError, match=rf"{part} split: label 7 of row 2 is not a class of the training split; .* 0"):
        Dataset("bad", **splits, n_classes=5)


def of_value(value: float) -> Split:
    images, labels = split(dtype=np.float32)
    images[1, 2, 0] = value
    return Split(images, labels)


class Sparse:
    """A matrix of scipy.sparse, by its protocol."""

    shape, nnz = (4, 3), 0

    def toarray(self) -> Any:
        raise AssertionError("it must not be made dense unasked")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Split(split(4).images, split(3).labels), "4 examples but 3 labels"),
        (split(0), "no examples, or none with features"),
        (split(4, (3, 0)), "no examples, or none with features"),
        (split(4, (3, 3, 3)), r"in colour, of shape \(4, 3, 3, 3\); make them grey"),
        (split(4, ()), r"\(4,\); X\[:, None\] is one column"),
        (split(dtype=np.complex64), "features must be real numbers, not complex64"),
        (of_value(np.nan), r"nan at row 1, pixel \(2, 0\); fill in or leave out"),
        (of_value(np.inf), r"inf at row 1, pixel \(2, 0\); fill in or leave out"),
        (Split([[1, 2], [np.nan, 4]], [0, 1]), "nan at row 1, column 0; fill in or leave out"),
        (Split([[1, 2], ["x", 4]], [0, 1]), "'x' at row 1, column 0 is not a number"),
        (Split([[1, 2], [3]], [0, 1]), "rows of different lengths"),
        (Split(Sparse(), [0, 1, 0, 1]), r"sparse matrix; pass \.toarray\(\)"),
        (Split(split().images, [3, 3, 3, 3]), "every label is 3; at least two classes"),
        (Split(split().images, ["a", None, "b", "a"]), "label of row 1 is missing"),
        (Split(split().images, [0, 1, np.nan, 0]), "label of row 2 is missing"),
        (Split(split().images, [[0, 1], [1, 1], [np.nan, 0], [0, 0]]), "target nan at row 2, column 0"),
        (Split(np.zeros((300, 2)), np.arange(300)), "300 different labels for 300 rows are hardly classes"),
    ],
)
def test_refused(bad: Split, says: str) -> None:
    with pytest.raises(DataError, match=f"train split: .*{says}") as caught:
        Dataset("bad", bad)
    assert "\n" not in str(caught.value)


def test_splits_of_different_shapes() -> None:
    with pytest.raises(
        DataError, match=r"test split: examples of shape \(2, 2\), but those of the train split are \(3, 3\)"
    ):
        Dataset("bad", split(), split(shape=(2, 2)))


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 784))
LABELS = np.arange(20) % 4


@pytest.mark.parametrize(
    "X",
    [
        PIXELS,
        PIXELS.astype(np.uint8),
        PIXELS.astype(">i2"),
        PIXELS.astype(np.uint64),
        PIXELS * 1.0,
        PIXELS.tolist(),
        PIXELS.astype(object),
        PIXELS.reshape(-1, 28, 28, 1),
        PIXELS.reshape(-1, 1, 28, 28),
    ],
    ids=["int64", "uint8", "big-endian", "uint64", "floats", "lists", "objects", "channel-last", "channel-first"],
)
def test_pixels_in_any_form_are_the_same_pictures(X: Any) -> None:
    data = Dataset.from_arrays(X, LABELS)
    assert (data.image_shape, data.train.images.dtype) == ((28, 28), np.uint8)
    assert np.array_equal(data.train.images.reshape(20, -1), PIXELS)


@pytest.mark.parametrize(
    ("X", "dtype"),
    [
        (PIXELS[:, :13], np.float32),
        (PIXELS[:, :13] - 100, np.float32),
        (PIXELS[:, :13] + 2**40, np.float64),
        ((PIXELS[:, :13] / 7).astype(">f4"), np.float32),
        (PIXELS[:, :13] / 7, np.float64),
        (PIXELS[:, :13] > 100, np.uint8),
        (PIXELS[:, :16], np.float32),  # 16 whole numbers are a table, not a picture of 4x4
    ],
)
def test_rows_of_features_keep_their_numbers(X: Any, dtype: type[np.generic]) -> None:
    data = Dataset.from_arrays(X, LABELS)
    assert data.train.images.dtype == dtype
    assert data.image_shape == (X.shape[1],)
    assert np.array_equal(data.train.images, X)


@pytest.mark.parametrize(
    ("y", "classes", "first"),
    [
        (LABELS, (0, 1, 2, 3), [0, 1, 2, 3]),
        (LABELS + 1.0, (1, 2, 3, 4), [0, 1, 2, 3]),
        (LABELS[:, None].astype(">u2"), (0, 1, 2, 3), [0, 1, 2, 3]),
        (np.where(LABELS == 2, 9, LABELS), (0, 1, 3, 9), [0, 1, 3, 2]),
        (np.array(["owl", "ant", "cat", "bee"])[LABELS], ("ant", "bee", "cat", "owl"), [3, 0, 2, 1]),
        ([["b", 1, None, "a"][k] or 2 for k in LABELS], (1, 2, "a", "b"), [3, 0, 1, 2]),
        (LABELS > 1, (False, True), [0, 0, 1, 1]),
        (np.eye(4)[LABELS], (0, 1, 2, 3), [0, 1, 2, 3]),
        ([(k, k) for k in "abcd"] * 5, None, None),
    ],
    ids=["ints", "floats", "column", "gap", "text", "mixed", "booleans", "one-hot", "pairs"],
)
def test_classes_of_any_kind(y: Any, classes: tuple[Any, ...] | None, first: list[int] | None) -> None:
    if classes is None:
        with pytest.raises(DataError, match="'a' at row 0, column 0 is not a number"):
            Dataset.from_arrays(PIXELS, y)
        return
    data = Dataset.from_arrays(PIXELS, y, test=(PIXELS, y))
    assert (data.task, data.classes, data.n_classes, data.n_outputs) == ("classification", classes, *[len(classes)] * 2)
    assert data.test is not None
    for part in (data.train, data.test):
        assert (part.targets.dtype, part.targets[:4].tolist()) == (np.int32, first)
        found, expected = part.labels[:4].tolist(), [classes[k] for k in first or ()]
        assert (found, list(map(type, found))) == (expected, list(map(type, expected)))
        assert part[2:3].labels.tolist() == [classes[part[2:3].targets[0]]]


def test_labels_too_large_to_tell_apart() -> None:
    with pytest.raises(DataError, match=r"labels up to 2e\+16 are too large to tell apart"):
        Dataset.from_arrays(PIXELS, np.where(LABELS > 1, 1e16, 2e16), task="classification")


def test_labels_that_would_be_one_in_a_file_are_refused() -> None:
    day = datetime.date(2026, 11, 30)
    labels = [[day, "2026-11-30"][k % 2] for k in LABELS]
    with pytest.raises(DataError, match=r"labels datetime\.date\(.*\) and '2026-11-30' would both be '2026-11-30'"):
        Dataset.from_arrays(PIXELS, labels)
    with pytest.raises(DataError, match="the class 'owl' is given twice"):
        Dataset.from_arrays(PIXELS, LABELS, classes=("owl", "ant", "owl", "bee"))
    assert Dataset.from_arrays(PIXELS, [[1, "1"][k % 2] for k in LABELS]).classes == (1, "1")


def test_named_classes_take_positions() -> None:
    data = Dataset.from_arrays(PIXELS, LABELS, classes=("w", "x", "y", "z"))
    assert (data.classes, data.train.targets[:4].tolist()) == (("w", "x", "y", "z"), [0, 1, 2, 3])
    assert data.train.labels[:4].tolist() == ["w", "x", "y", "z"]
    assert dataclasses.replace(data, name="other").train is data.train


def test_numbers_and_several_labels() -> None:
    numbers = Dataset.from_arrays(PIXELS, LABELS / 3)
    assert (numbers.task, numbers.n_outputs, numbers.train.targets.shape) == ("regression", 1, (20, 1))
    whole = Dataset.from_arrays(PIXELS, LABELS, task="regression")
    assert (whole.task, whole.train.labels.dtype) == ("regression", np.float64)
    several = Dataset.from_arrays(PIXELS, PIXELS[:, :3] > 99)
    assert (several.task, several.n_outputs, several.classes) == ("multilabel", 3, (0, 1, 2))


def test_numbers_that_hardly_repeat_are_no_classes_unasked() -> None:
    y = np.repeat(np.arange(25, 346, 10), 2)
    X = np.zeros((len(y), 4))
    with pytest.raises(DataError, match="33 different labels for 66 rows are hardly classes; to predict numbers"):
        Dataset.from_arrays(X, y)
    assert Dataset.from_arrays(X, y, task="classification").n_classes == 33
    assert Dataset.from_arrays(X, np.arange(66) % 33).n_classes == 33
    assert Dataset.from_arrays(X, y, task="regression").n_outputs == 1
    assert Dataset.from_arrays(X, [f"street {k}" for k in y]).n_classes == 33


def test_tables_name_their_columns() -> None:
    pandas = pytest.importorskip("pandas", reason="DataFrames are pandas' and are read by their protocol")
    table = pandas.DataFrame({"age": [30, 40, 50, None], "town": [1, 2, 3, 4]})
    with pytest.raises(DataError, match="nan at row 3, column 'age'"):
        Dataset.from_arrays(table, pandas.Series([0, 1, 0, 1]))
    data = Dataset.from_arrays(table.fillna(60), pandas.Series(list("abab"), dtype="category"))
    assert (data.columns, data.classes) == (("age", "town"), ("a", "b"))
    with pytest.raises(DataError, match="'x' at row 0, column 'town' is not a number; encode it"):
        Dataset.from_arrays(table.assign(town=list("xyzx")).fillna(0), [0, 1, 0, 1])


def test_arrays_of_other_libraries() -> None:
    torch = pytest.importorskip("torch", reason="torch is one of the libraries")
    data = Dataset.from_arrays(torch.tensor(PIXELS), torch.tensor(LABELS))
    assert isinstance(data.train.images, np.ndarray)
    assert np.array_equal(data.train.images.reshape(20, -1), PIXELS)


def test_an_array_on_a_device_stays_there() -> None:
    device = array_api_strict.Device("device1")
    on_device = array_api_strict.asarray(PIXELS, device=device)
    data = Dataset.from_arrays(on_device, LABELS, test=(on_device, LABELS))
    assert data.train.images.device == device
    assert (data.image_shape, data.n_features, data.train[5:8].images.device) == ((28, 28), 784, device)
    with pytest.raises(DataError, match="nan at row 2, column 1"):
        Dataset.from_arrays(
            array_api_strict.asarray(np.where(np.arange(80).reshape(20, 4) == 9, np.nan, 1.0), device=device), LABELS
        )


def test_parts_of_a_set() -> None:
    data = Dataset.from_arrays(PIXELS, LABELS, test=(PIXELS[:6], LABELS[:6]), name="own")
    assert data.test is not None
    assert (len(data), len(data.take(7)), len(data.test), len(data.train[:9])) == (20, 7, 6, 9)
    assert data.take(7).test is data.test
    assert data.train[np.array([3, 1])].labels.tolist() == [3, 1]
    image, label = data.train[5]
    assert (image.shape, label) == ((28, 28), 1)
    assert repr(data) == "<Dataset own: 20 train, 6 test; 28x28 uint8, 4 classes>"
    assert repr(data.train) == "<Split of 20: images uint8 (20, 28, 28), labels int32 (20,)>"
    with pytest.raises(DataError, match="own has 20 training examples; take 1 to 20"):
        data.take(21)
