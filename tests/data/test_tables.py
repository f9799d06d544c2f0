"""Tables: the label is found wherever it stands, and what cannot be read is refused with its line and column."""

import gzip
import logging
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.data import DataError, Dataset, read, read_table
from xpnet.data.formats import read_beside
from xpnet.data.packed import open_archive

RNG = np.random.default_rng(0)
SIDE = 8
PIXELS = SIDE * SIDE


def refused(path: Path, **options: Any) -> str:
    """What is said of a file that must be refused, in one line that begins with its path."""
    with pytest.raises(DataError) as caught:
        Dataset("", read_table(path, **options).split)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def write(path: Path, rows: Iterable[Iterable[object]], header: str | None = None, separator: str = ",") -> Path:
    lines = [separator.join(map(str, row)) for row in rows]
    path.write_text("\n".join([*([] if header is None else [header]), *lines]) + "\n", encoding="utf-8")
    return path


def drawn(n: int = 60, top: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 8x8 pixels with a border of zeros, mostly, and a label that the values of no pixel resemble."""
    labels = np.random.default_rng(1).permutation(np.arange(n) % 10)
    images = np.zeros((n, SIDE, SIDE), np.int64)
    images[:, 1:-1, 1:-1] = np.random.default_rng(2).integers(top // 2, top + 1, (n, 6, 6)) * (
        np.random.default_rng(3).random((n, 6, 6)) < 0.5
    )
    images[: n // 10, 0, 0] = images[: n // 10, -1, -1] = top  # ink in two corners, sometimes
    return images, labels


def rows_of(images: np.ndarray, labels: np.ndarray, last: bool = False) -> np.ndarray:
    flat = images.reshape(len(images), -1)
    return np.column_stack([flat, labels] if last else [labels, flat])


# --- where the label stands ------------------------------------------------------------------------------------------

HEADERS = {
    "label first": ["label", *(f"pixel{i}" for i in range(PIXELS))],
    "labels, and numbers": ["labels", *map(str, range(PIXELS))],
    "number": ["number", *map(str, range(PIXELS))],
    "pixels by row and column": ["Label", *(f"{i}x{j}" for i in range(1, 9) for j in range(1, 9))],
    "pandas' numbers": list(map(str, range(PIXELS + 1))),
    "numbers from 1 on": list(map(str, range(1, PIXELS + 2))),
    "an odd name": ["what it is", *(f"pixel{i}" for i in range(PIXELS))],
    "words with numbers": ["CLASS", *(f"Block {i}" for i in range(PIXELS))],
    "quoted": ['"target"', *(f'"px_{i}"' for i in range(PIXELS))],
    "none": None,
}


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_label_first_or_last_under_any_header(tmp_path: Path, header: list[str] | None, last: bool) -> None:
    images, labels = drawn()
    if header is not None and last and not header[0].isdigit():
        header = [*header[1:], header[0]]
    path = write(tmp_path / "x.csv", rows_of(images, labels, last), None if header is None else ",".join(header))
    data = read(path)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.tolist() == images.tolist()
    assert data.train.labels.tolist() == labels.tolist()
    assert data.task == "classification"


@pytest.mark.parametrize("top", [1, 16, 255])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_label_without_header_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, top: int, last: bool) -> None:
    images, labels = drawn(200, top)
    with caplog.at_level(logging.INFO, "xpnet"):
        split = read_table(write(tmp_path / "x.csv", rows_of(images, labels, last))).split
    assert split.labels.tolist() == labels.tolist()
    assert f"the labels are taken from {'the last column' if last else 'column 1'}, which looks like 10" in caplog.text


@pytest.mark.parametrize("index", ["", "id", "Id", "ImageId", "index", "Unnamed: 0", "PassengerId", "row_id"])
@pytest.mark.parametrize("name", ["label", "Digit", "y"])
def test_index_is_neither_label_nor_pixel(tmp_path: Path, index: str, name: str) -> None:
    images, labels = drawn()
    rows = np.column_stack([np.arange(60) + 100, rows_of(images, labels)])
    header = ",".join([index, name, *(f"pixel{i}" for i in range(PIXELS))])
    table = read_table(write(tmp_path / "x.csv", rows, header))
    assert table.split.images.tolist() == images.tolist()
    assert table.split.labels.tolist() == labels.tolist()
    assert table.label == name


def test_column_that_counts_rows_needs_no_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, labels = drawn()
    rows = np.column_stack([np.arange(60), rows_of(images, labels)])
    with caplog.at_level(logging.INFO, "xpnet"):
        split = read_table(write(tmp_path / "x.csv", rows)).split
    assert split.images.tolist() == images.tolist()
    assert split.labels.tolist() == labels.tolist()
    assert "its first column counts the rows" in caplog.text


@pytest.mark.parametrize("index", [False, True])
def test_first_row_that_pandas_took_for_a_header(tmp_path: Path, index: bool) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas writes the file")
    images, labels = drawn()
    write(tmp_path / "x.csv", rows_of(images, labels))
    pandas.read_csv(tmp_path / "x.csv").to_csv(tmp_path / "again.csv", index=index)
    split = read_table(tmp_path / "again.csv").split
    assert split.images.tolist() == images.tolist()
    assert split.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(
    "names",
    [None, [f"class_{i}" for i in range(10)], [f"label{i}" for i in range(10)]],
    ids=["none", "class_", "label"],
)
def test_one_hot_columns_are_classes(tmp_path: Path, last: bool, names: list[str] | None) -> None:
    images, labels = drawn()
    one_hot = np.eye(10, dtype=int)[labels]
    blocks = [one_hot, images.reshape(60, -1)]
    header = None
    if names is not None:
        columns = [names, [f"pixel{i}" for i in range(PIXELS)]]
        header = ",".join(",".join(part) for part in (columns[::-1] if last else columns))
    path = write(tmp_path / "x.csv", np.column_stack(blocks[::-1] if last else blocks), header)
    data = read(path)
    assert data.train.images.tolist() == images.tolist()
    assert data.train.labels.tolist() == labels.tolist()
    assert data.classes == tuple(range(10))


def test_one_hot_columns_of_truths_are_named_classes(tmp_path: Path) -> None:
    rows = [(0.5 * i, i % 2 == 0, i % 2 == 1) for i in range(8)]
    data = read(write(tmp_path / "x.csv", rows, "size,species_cat,species_dog"))
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == ["cat", "dog"] * 4
    assert data.columns == ("size",)


LABELS = st.one_of(
    st.lists(st.integers(0, 3), min_size=12, max_size=40),
    st.lists(st.sampled_from(["ant", "bee", "a wasp", "x;y", "5 mm"]), min_size=12, max_size=40),
).filter(lambda labels: len(set(labels)) > 1)


@given(
    labels=LABELS,
    at=st.integers(0, 3),
    name=st.sampled_from(["label", "Class", "TARGET", "species"]),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    quoted=st.booleans(),
    index=st.sampled_from([None, "", "id"]),
    mark=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    seed=st.integers(0, 99),
)
def test_table_of_any_layout_round_trip(
    tmp_path: Path, labels: list[int] | list[str], at: int, name: str, separator: str, quoted: bool,
    index: str | None, mark: bool, end: str, seed: int,
) -> None:  # fmt: skip
    features = np.random.default_rng(seed).normal(size=(len(labels), 3)).astype(np.float32) * 100

    def field(value: object) -> str:
        quote = '"' if quoted or separator in str(value) else ""
        return f"{quote}{value}{quote}"

    lines = []
    for i in range(-1, len(labels)):
        row: list[object] = ["a", "b", "c"] if i < 0 else features[i].tolist()
        row.insert(at, name if i < 0 else labels[i])
        if index is not None:
            row.insert(0, index if i < 0 else i + 7)
        lines.append(separator.join(map(field, row)) + end)
    (tmp_path / "x.csv").write_bytes((b"\xef\xbb\xbf" if mark else b"") + "".join(lines).encode())
    data = read(tmp_path / "x.csv")
    assert data.train.labels.tolist() == [labels[i] for i in range(len(labels))]
    assert data.train.images.tolist() == features.tolist()
    assert data.columns == ("a", "b", "c")
    assert set(data.classes) == set(labels)


@given(
    n=st.integers(30, 60),
    last=st.booleans(),
    top=st.sampled_from([16, 255]),
    header=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pixels_of_any_layout_round_trip(tmp_path: Path, n: int, last: bool, top: int, header: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, labels = drawn(n, top)
    labels = rng.permutation(labels)
    names = ",".join(map(str, range(PIXELS + 1))) if header else None
    split = read_table(write(tmp_path / "x.csv", rows_of(images, labels, last), names)).split
    assert split.labels.tolist() == labels.tolist()
    assert split.images.tolist() == images.tolist()


# --- tables as people have them --------------------------------------------------------------------------------------


def features(n: int = 40, k: int = 4) -> np.ndarray:
    return np.round(np.random.default_rng(4).normal(10, 3, (n, k)), 2)


KINDS = np.array(["setosa", "versicolor", "virginica"])[np.arange(40) % 3]


def test_iris_as_it_is_downloaded(tmp_path: Path) -> None:
    rows = [(i + 1, *row, f"Iris-{kind}") for i, (row, kind) in enumerate(zip(features(), KINDS, strict=True))]
    data = read(write(tmp_path / "Iris.csv", rows, "Id,SepalLengthCm,SepalWidthCm,PetalLengthCm,PetalWidthCm,Species"))
    assert data.columns == ("SepalLengthCm", "SepalWidthCm", "PetalLengthCm", "PetalWidthCm")
    assert data.classes == ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    bare = read(write(tmp_path / "iris.data.csv", [row[1:] for row in rows]))
    assert bare.classes == data.classes
    assert bare.train.images.tolist() == data.train.images.tolist()


@pytest.mark.parametrize("comma", [False, True])
def test_semicolons_and_decimal_commas(tmp_path: Path, comma: bool) -> None:
    rows = [[*map(str, row), str(5 + i % 4)] for i, row in enumerate(features())]
    if comma:
        rows = [[field.replace(".", ",") for field in row] for row in rows]
    data = read(write(tmp_path / "wine.csv", rows, '"fixed acidity";"acid";"pH";"alcohol";"quality"', ";"))
    assert np.allclose(data.train.images, features())
    assert data.classes == (5, 6, 7, 8)


@pytest.mark.parametrize(("large", "small", "warned"), [("1,004", "12,500", True), ("1,004", "0,5", False)])
def test_commas_that_may_separate_thousands(
    tmp_path: Path, large: str, small: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "prices.tsv", [[large, "a"], [small, "b"]] * 3, "price\tlabel", "\t")
    assert read_table(path).split.images[0].tolist() == [np.float32(1.004)]
    message = f"{path}: 1,004 is read as 1.004; if its commas separate thousands, remove them"
    assert (message in caplog.messages) == warned


def test_column_of_whole_numbers_that_resembles_another_is_no_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    hands = np.column_stack([rng.integers(1, high, 400) for high in (5, 14) * 5])
    labels = rng.choice(4, 400, p=[0.6, 0.3, 0.07, 0.03])
    table = read_table(write(tmp_path / "poker.csv", np.column_stack([hands, labels])))
    assert (table.label, table.split.labels.tolist()) == ("10", labels.tolist())
    assert table.split.is_table


def test_the_fewer_values_are_the_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    rows = [
        (int(a), f"{b:.1f}", c)
        for a, b, c in zip(rng.poisson(4, 300), rng.normal(size=300), rng.integers(0, 2, 300), strict=True)
    ]
    assert read_table(write(tmp_path / "pima.csv", rows)).label == "2"


def test_a_label_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    costs = [
        (a, b, f"{c:.3f}")
        for a, b, c in zip(rng.integers(1, 6, 60), rng.integers(1, 5, 60), rng.random(60), strict=True)
    ]
    for header, example in (("beds,baths,cost", "--label 'cost'"), (None, "--label 0 or --label -1")):
        path = write(tmp_path / "x.csv", costs, header)
        assert f"which column is the label? Name it, as in {example}" in refused(path)
    twins = np.repeat(rng.integers(0, 3, (60, 1)), 3, axis=1)
    assert "which column is the label?" in refused(write(tmp_path / "x.csv", twins))
    assert read_table(tmp_path / "x.csv", "-1").label == "2"


def test_first_column_of_several_like_it_is_no_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows = [
        (a, b, f"{c:.3f}")
        for a, b, c in zip(rng.integers(1, 9, 200), rng.integers(1, 3, 200), rng.random(200), strict=True)
    ]
    assert "which column is the label?" in refused(write(tmp_path / "x.csv", rows))
    split = read_table(write(tmp_path / "y.csv", [(a, f"{c}5", c) for a, _, c in rows])).split
    assert split.labels.tolist() == [a for a, _, _ in rows]


def test_first_row_that_counts_is_no_header_if_it_comes_again(tmp_path: Path) -> None:
    rows = [(1, 2, 3), (0, 7, 9), (1, 2, 3), (0, 8, 8)]
    assert read_table(write(tmp_path / "x.csv", rows), "0").split.labels.tolist() == [1, 0, 1, 0]
    assert read_table(write(tmp_path / "y.csv", [(1, 2, 3), *rows[1:2], *rows[3:]]), "0").split.labels.tolist() == [
        0,
        0,
    ]


def test_label_by_name_or_index(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [(i, i % 3, 0.5 * i) for i in range(9)], "width,kind,label")
    assert read_table(path).label == "label"
    for label in ("kind", "KIND", "1", "-2"):
        table = read_table(path, label)
        assert table.label == "kind"
        assert table.split.labels.tolist() == [0, 1, 2] * 3
        assert table.split.columns == ("width", "label")
    assert "no column 'knid'; did you mean 'kind'?" in refused(path, label="knid")
    assert "no column 3; there are 3, from 0 to 2" in refused(path, label="3")
    bare = write(tmp_path / "y.csv", [(1, 5, 3)] * 3)
    assert "no header names its columns; give the label's as an index" in refused(bare, label="kind")


def test_targets_of_a_regression_stay_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [(i % 5, 0.25 + i, i / 3) for i in range(30)], "rooms,price,age")
    split = read_table(path, "price").split
    assert split.labels.dtype == np.float64
    assert split.labels.tolist() == [0.25 + i for i in range(30)]
    assert Dataset("", split).task == "regression"


def test_names_of_numbers_and_words_are_a_table(tmp_path: Path) -> None:
    rows = RNG.integers(0, 256, (30, 25))
    path = write(
        tmp_path / "x.csv",
        np.column_stack([rows, np.arange(30) % 3]),
        ",".join("abcdefghijklmnopqrstuvwxy") + ",target",
    )
    data = read(path)
    assert data.image_shape == (25,)
    assert data.train.images.dtype == np.float32
    path = write(
        tmp_path / "y.csv",
        np.column_stack([np.arange(30) % 3, rows * 1.5]),
        "target," + ",".join(f"V{i}" for i in range(25)),
    )
    assert read(path).image_shape == (25,)


def test_truths_are_numbers(tmp_path: Path) -> None:
    data = read(write(tmp_path / "x.csv", [(0.5, "True", "a"), (1.5, "FALSE", "b")], "size,is_old,class"))
    assert data.train.images.tolist() == [[0.5, 1], [1.5, 0]]


@pytest.mark.parametrize(
    "content",
    [
        "a\tb\tclass\n1\t2\tx\n3\t4\ty\n".encode("utf-16"),
        b"sep=;\na;b;class\n1;2;x\n3;4;y\n",
        b"a,b,class,\n1,2,x,\n3,4,y,\n",
        b"# written by hand\n# a,b,class\n1,2,x\n3,4,y\n",
        b"\n\na  b class\n  1  2 x\n\n  3\t4  y\n",
        b'"a" "b" "class"\n"17" 1 2 "x"\n"18" 3 4 "y"\n',
        b'a,b,class\r\n"1","2","x"\r\n"3","4","y"\r\n',
        b"a,b,class\r1,2,x\r3,4,y",
        b"a|b|class\n1|2|x\n3|4|y\n",
        b'a, b, "class"\n1, "2", "x"\n\n"3", 4, "y"\n',
        gzip.compress(b"a,b,class\n1,2,x\n3,4,y\n"),
    ],
    ids=[
        "UTF-16",
        "sep=",
        "trailing comma",
        "comment",
        "spaces",
        "R",
        "quoted",
        "old Mac",
        "bars",
        "spaces before quotes",
        "gzip",
    ],
)
def test_dialects(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    split = read_table(tmp_path / "x.csv").split
    assert split.images.tolist() == [[1, 2], [3, 4]]
    assert split.labels.tolist() == ["x", "y"]
    assert split.columns == ("a", "b")


def test_what_lies_within_quotes_behind_spaces_is_one_field(tmp_path: Path) -> None:
    rows = [f'0.{i}, "Doe{i}, 3, 0, x", {100 + i}, "x, {"one" if i % 2 else "two"}"' for i in range(9)]
    (tmp_path / "x.csv").write_text("\n".join(["a, name_id, b, label", *rows]))
    split = read_table(tmp_path / "x.csv").split
    assert split.columns == ("a", "b")
    assert np.allclose(split.images, [(i / 10, 100 + i) for i in range(9)])
    assert split.labels.tolist() == ["x, one" if i % 2 else "x, two" for i in range(9)]


def test_member_of_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/x.csv", "a,class\n1,x\n\n2,y\n")
    with open_archive(tmp_path / "x.zip") as root:
        split = read_table(root / "in/x.csv").split
    assert split.labels.tolist() == ["x", "y"]
    assert split.entry(1) == "line 4"


def test_emnist_is_turned_upright(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (20, 28, 28))
    rows = rows_of(images.swapaxes(1, 2), np.arange(20) % 10)
    for name, turned in (("emnist-letters-train.csv", True), ("mnist_train.csv", False)):
        found = read_table(write(tmp_path / name, rows)).split.images
        assert (found.tolist() == images.tolist()) == turned


# --- without labels, and what lies beside ----------------------------------------------------------------------------


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("index", [True, False])
def test_pixels_without_a_label(tmp_path: Path, header: bool, index: bool) -> None:
    images, _ = drawn()
    flat = images.reshape(60, -1)
    names = [*(["ImageId"] if index else []), *(f"pixel{i}" for i in range(PIXELS))]
    rows: Any = [(f"{i:05}", *row) for i, row in enumerate(flat)] if index and header else flat
    split = read_table(write(tmp_path / "test.csv", rows, ",".join(names[-len(rows[0]) :]) if header else None)).split
    assert split.labels is None
    assert split.images.tolist() == images.tolist()
    if index and header:
        assert split.ids.tolist()[:2] == ["00000", "00001"]
        assert Dataset("", split).train[:2].ids.tolist() == ["00000", "00001"]
        assert Dataset("", split).task == "unlabelled"


def test_the_features_of_a_model_tell_the_label_and_the_order(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [(7 + i, i % 2, 0.5 * i, i) for i in range(9)], "id,Art,b,a")
    table = read_table(path, features=("a", "b"))
    assert (table.label, table.split.columns) == ("Art", ("a", "b"))
    assert np.array_equal(table.split.images, [(i, 0.5 * i) for i in range(9)])
    alone = read_table(write(tmp_path / "y.csv", [(7, 1.5, 2), (8, 0.5, 3)], "id,b,a"), features=("a", "b")).split
    assert alone.labels is None
    assert (alone.images.tolist(), alone.ids.tolist()) == ([[2, 1.5], [3, 0.5]], [7, 8])
    twice = write(tmp_path / "z.csv", [(1, 2, 3, i % 2) for i in range(9)], "a,a,b,Art")
    assert read_table(twice, features=("a", "a", "b")).split.images[0].tolist() == [1, 2, 3]
    assert read_table(twice, features=("b", "a", "a")).split.images[0].tolist() == [3, 1, 2]
    with pytest.raises(DataError, match="no column 'c', on which the model was trained"):
        read_table(path, features=("a", "c"))


def test_as_many_columns_as_the_model_has_features_are_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [(i, 0.5 * i, i % 3) for i in range(9)], "a,b,c")
    assert read_table(path, features=2).label == "c"
    split = read_table(path, features=3).split
    assert split.labels is None
    assert split.images.shape == (9, 3)


def test_label_that_is_named_may_be_missing_where_a_model_needs_none(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [(i, 0.5 * i, i % 3) for i in range(9)], "Id,size,rooms")
    assert "no column 'price'; the columns are Id, size, rooms" in refused(path, label="price")
    split = read_table(path, "price", features=2).split
    assert split.labels is None
    assert split.images.shape == (9, 2)


@pytest.mark.parametrize("name", ["id", "customer_id", "PatientID"])
def test_long_numbers_that_name_rows_keep_their_digits(tmp_path: Path, name: str) -> None:
    rows = [(1234567890123456789 + i, i / 2) for i in range(9)]
    (tmp_path / "x.csv").write_text("\n".join([f"{name},a", *(f"{row[0]},{row[1]}" for row in rows)]))
    split = read_table(tmp_path / "x.csv", features=("a",)).split
    assert (split.columns, split.ids.tolist()) == (("a",), [str(row[0]) for row in rows])


def test_test_sibling(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, labels = drawn()
    for train, test in (("mnist_train.csv", "mnist_test.csv"), ("Train.csv", "Test.csv")):
        write(tmp_path / train, rows_of(images, labels))
        assert read(tmp_path / train).test is None
        # A single class, which says nothing of where the labels are.
        write(tmp_path / test, rows_of(images, labels)[labels == 3])
        data = read(tmp_path / train)
        assert data.test is not None
        assert data.test.labels.tolist() == [3] * 6
        assert "unlike" not in caplog.text
        write(tmp_path / test, images.reshape(60, -1))
        assert read(tmp_path / train).test is None
        assert f"{test} has no label column; continuing without a test split" in caplog.text


def test_sibling_of_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(i, 0.5 * i, i % 3, i % 2) for i in range(30)]
    write(tmp_path / "train.csv", rows, "Id,size,stars,Survived")
    write(tmp_path / "test.csv", [(i, stars, size, alive) for i, size, stars, alive in rows], "Id,stars,size,Survived")
    data = read(tmp_path / "train.csv")
    assert data.test is not None
    assert data.test.images.tolist() == data.train.images.tolist()
    assert data.test.labels.tolist() == data.train.labels.tolist()
    write(tmp_path / "test.csv", [row[:3] for row in rows], "Id,size,stars")
    assert read(tmp_path / "train.csv").test is None
    assert "test.csv has no label column" in caplog.text
    table = read_beside(tmp_path / "test.csv", read_table(tmp_path / "train.csv"))
    assert table is not None
    assert table.split.ids.tolist() == list(range(30))
    write(tmp_path / "test.csv", [row[1:] for row in rows], "size,moons,Survived")
    with pytest.raises(DataError, match=r"test\.csv: no column 'stars', which the training split has"):
        read(tmp_path / "train.csv")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("label,a,b\n", "line 1 holds no numbers"),
        ("7,2,3\n1,2\n", "line 2 has 2 columns, but 3 are expected"),
        ("label,a,b\n1,2,3\n\n1,2,3,4\n", "line 4 has 4 columns, but 3 are expected"),
        ("label,a,b\n1,2,3,4\n", "line 2 has 4 columns, but 3 are expected"),
        ("7,2,3\n" * 60 + "1,x,3\n", "line 61, column 2: 'x' is not a number"),
        ("7,2,3\n" * 60 + "1,1_0,3\n", "line 61, column 2: '1_0' is not a number"),
        ("a,b,class\n1,2,x\n3,4,5,y\n", "line 3 has 4 columns, but 3 are expected"),
        ('a,b,class\n1,"2",x\n3,4,5,y\n', "line 3 has 4 columns, but 3 are expected"),
        ("a b class\n1 2 x\n3 4 5 y\n", "line 3 has 4 columns, but 3 are expected"),
        ("label,a,b\n1,,3\n", "line 2, column 'a': no value; fill it in"),
        ("a,b,class\n1,2,x\n\n3,NA,y\n", "line 4, column 'b': 'NA' stands for no value; fill it in"),
        ("a,b,class\n1,2,x\n3,4,\n", "the label of line 3 is missing"),
        ("label,a,b\n0,1,2\n\n1,nan,4\n", "nan at line 4, column 'a'; fill it in"),
        ("label,a,b\n0,1,2\n\n1,3,inf\n", "inf at line 4, column 'b'; fill it in"),
        ("label,a\n3,1\n3,2\n", "every label is 3"),
        ("label,pixel0,pixel1\n0,1,2\n\n1,256,4\n", "256 at line 4, column 'pixel0', is no pixel"),
        ("label,pixel0,pixel1\n0,0.5,1\n1,1.5,0\n", "0.5 at line 2, column 'pixel0', is no pixel"),
        ("Name,Age,Survived\nDoe,3,1\nRoe,4,0\n", "column 'Name' holds text, such as 'Doe'; encode it"),
        ("1\n2\n", "a label and at least one feature are needed"),
        ("label\n1\n2\n", "no column is left for the features"),
        ("label,id\n1,5\n2,6\n", "no column is left for the features"),
        ("\0\0\0", "holds no numbers"),
    ],
)
def test_bad_table_names_the_place(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    assert says in refused(tmp_path / "bad.csv")


@pytest.mark.parametrize("header", [True, False])
def test_value_that_is_no_pixel_among_thousands_is_damage(tmp_path: Path, header: bool) -> None:
    images, labels = drawn()
    rows = rows_of(images, labels)
    rows[7, 12] = 300
    path = write(tmp_path / "x.csv", rows, ",".join(map(str, range(PIXELS + 1))) if header else None)
    column = "'12'" if header else "13"
    assert f"300 at line {8 + header}, column {column}, is no pixel" in refused(path)


def test_pixels_that_were_scaled_before_are_features(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, labels = drawn()
    rows = rows_of(images / 127.5 - 1, labels)
    path = write(tmp_path / "x.csv", rows, ",".join(["label", *(f"pixel{i}" for i in range(PIXELS))]))
    with caplog.at_level(logging.INFO, "xpnet"):
        split = read_table(path).split
    assert split.is_table
    assert np.allclose(split.images, images.reshape(60, -1) / 127.5 - 1, atol=1e-6)
    assert "its pixels are numbers from -1 to 1, and read as any features are" in caplog.text


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("étiquette,pixel\n1,2\n".encode("latin1"))
    assert "save it as UTF-8" in refused(tmp_path / "latin.csv")


def test_text_that_begins_late_in_the_label_named_by_the_user(tmp_path: Path) -> None:
    rows: Sequence[tuple[object, ...]] = [*((0.5 * i, i % 10) for i in range(99)), (1, "A"), (2, "B")]
    path = write(tmp_path / "x.csv", rows, "a,sign")
    assert "line 101, column 'sign': 'A' is not a number" in refused(path)
    assert read_table(path, "sign").split.labels.tolist() == [*map(str, [i % 10 for i in range(99)]), "A", "B"]


@given(text=st.text(alphabet='0123456789.,;-+einfa\t\n\r "#_\0é', max_size=60), content=st.binary(max_size=40))
def test_random_tables_give_data_errors_only(tmp_path: Path, text: str, content: bytes) -> None:
    for damaged in (text.encode(), content):
        (tmp_path / "x.csv").write_bytes(damaged)
        try:
            read(tmp_path / "x.csv")
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
