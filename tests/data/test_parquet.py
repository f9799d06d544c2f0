"""Parquet, Arrow and Feather: labels as in any table, the hub's pictures and class names, lists of numbers."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xpnet.data import DataError, Dataset, read, read_table
from xpnet.errors import MissingPackageError

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xpnet[tables]'")
feather = pytest.importorskip("pyarrow.feather", reason="needs pyarrow: pip install 'xpnet[tables]'")
ipc = pytest.importorskip("pyarrow.ipc", reason="needs pyarrow: pip install 'xpnet[tables]'")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'xpnet[tables]'")


def write_stream(table: Any, path: Path) -> None:
    with ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "x.parquet": parquet.write_table,
    "x.feather": feather.write_feather,
    "stream.arrow": write_stream,
}


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        Dataset("", read_table(path, **options).split)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def hub(pictures: np.ndarray, labels: list[int], names: list[str] | None = None) -> Any:
    """A table as the hub has them: a structure of a picture's bytes and path, and class names in the metadata."""
    rows = [{"bytes": png(picture), "path": f"{i}.png"} for i, picture in enumerate(pictures)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind), "label": pa.array(labels, pa.int64())})
    if names is None:
        return table
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


PICTURES = np.random.default_rng(0).integers(0, 256, (12, 9, 7), dtype=np.uint8)


@pytest.mark.parametrize("name", WRITERS)
def test_pictures_of_the_hub(tmp_path: Path, name: str) -> None:
    labels = [2, 0, 1] * 4
    for names, classes in (
        (None, (0, 1, 2)),
        (["0", "1", "2", "3"], (0, 1, 2, 3)),
        (["shirt", "bag", "boot", "none"], ("shirt", "bag", "boot", "none")),
    ):
        WRITERS[name](hub(PICTURES, labels, names), tmp_path / name)
        data = read(tmp_path / name)
        assert data.train.images.tolist() == PICTURES.tolist()
        assert data.train.images.dtype == np.uint8
        assert data.classes == classes
        assert data.train.labels.tolist() == [classes[i] for i in labels]


def test_colours_become_grey(tmp_path: Path) -> None:
    colours = np.stack([PICTURES] * 3, axis=-1)
    parquet.write_table(hub(colours, [0, 1] * 6), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").train.images.tolist() == PICTURES.tolist()


def test_labels_of_minus_one_are_none(tmp_path: Path) -> None:
    parquet.write_table(hub(PICTURES, [-1] * 12, ["a", "b"]), tmp_path / "x.parquet")
    split = read_table(tmp_path / "x.parquet").split
    assert split.labels is None
    assert len(split) == 12


def test_parts_and_the_test_set_beside(tmp_path: Path) -> None:
    names = ["cat", "dog"]
    for i, part in enumerate((slice(0, 5), slice(5, 12))):
        n = len(PICTURES[part])
        parquet.write_table(hub(PICTURES[part], [i] * n, names), tmp_path / f"train-0000{i}-of-00002.parquet")
    data = read(tmp_path / "train-00000-of-00002.parquet")
    assert data.train.images.tolist() == PICTURES.tolist()
    assert data.train.labels.tolist() == ["cat"] * 5 + ["dog"] * 7
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet: No such file"):
        read(tmp_path / "train-00000-of-00002.parquet")
    for split, n in (("train", 12), ("test", 4)):
        parquet.write_table(hub(PICTURES[:n], [0, 1] * (n // 2), names), tmp_path / f"{split}-00000-of-00001.parquet")
    test = read(tmp_path / "train-00000-of-00001.parquet").test
    assert test is not None
    assert test.labels.tolist() == ["cat", "dog"] * 2


@pytest.mark.parametrize(("brightest", "warned"), [(65535, False), (4095, True)])
def test_pictures_that_are_not_equally_bright(
    tmp_path: Path, brightest: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = [png(np.array([[0, white]], np.uint16)) for white in (65535, brightest)]
    parquet.write_table(pa.table({"image": pictures, "label": [0, 1]}), tmp_path / "set.parquet")
    assert read(tmp_path / "set.parquet").train.images[:, 0, 1].tolist() == [255, 255]
    assert any("white is 4095 in one and 65535 in another" in message for message in caplog.messages) == warned


NUMBERS = ["int8", "uint8", "int64", "float32", "float64", "bool_", "float16", "decimal"]
CLASSES = ["int64", "uint8", "string", "large_string", "dictionary"]


@given(
    size=st.sampled_from(NUMBERS),
    label=st.sampled_from(CLASSES),
    n=st.integers(4, 30),
    name=st.sampled_from(sorted(WRITERS)),
    index=st.booleans(),
    first=st.booleans(),
)
def test_table_of_any_types_round_trip(
    tmp_path: Path, size: str, label: str, n: int, name: str, index: bool, first: bool
) -> None:
    types = {"decimal": pa.decimal128(25, 3), "dictionary": pa.dictionary(pa.int8(), pa.string())}
    kind, number = (types.get(given) or getattr(pa, given)() for given in (label, size))
    wanted = [i % 3 if label in ("int64", "uint8") else f"kind {i % 3}" for i in range(n)]
    sizes = [i % 2 for i in range(n)]
    column = pa.array(np.array(sizes, np.float16)) if size == "float16" else pa.array(sizes).cast(number)
    columns = {"size": column, "weight": pa.array(np.arange(n) / 4), "target": pa.array(wanted).cast(kind)}
    if first:
        columns = dict(reversed(columns.items()))
    if index:
        columns = {"__index_level_0__": pa.array(range(n)), **columns}
    WRITERS[name](pa.table(columns), tmp_path / name)
    data = read(tmp_path / name)
    assert data.train.labels.tolist() == wanted
    order = ["weight", "size"] if first else ["size", "weight"]
    assert data.columns == tuple(order)
    assert data.train.images.tolist() == [[i / 4, i % 2] if first else [i % 2, i / 4] for i in range(n)]


@pytest.mark.parametrize("name", ["id", "customerId"])
@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_identifiers_keep_all_digits(tmp_path: Path, name: str, kind: str) -> None:
    """As float64, neighbours above 2^53 are equal, and so would be no identifiers."""
    ids = [2**53 + i for i in range(6000)]
    columns = {name: pa.array(ids, getattr(pa, kind)()), "a": pa.array([0.5, 1.5] * 3000)}
    parquet.write_table(pa.table(columns), tmp_path / "new.parquet")
    split = read_table(tmp_path / "new.parquet", features=("a",)).split
    assert split.ids.tolist() == ids
    assert split.columns == ("a",)
    for first in (1, 2**53 + 1):
        given = pa.array([first, first + 1, None, first + 2, None], getattr(pa, kind)())
        table = pa.table({name: given, "a": pa.array([0.5] * 5)})
        parquet.write_table(table, tmp_path / "missing.parquet", row_group_size=2)  # the first has them all
        split = read_table(tmp_path / "missing.parquet", features=("a",)).split
        assert split.images.tolist() == [[0.5]] * 5
        assert split.ids[[0, 1, 3]].tolist() == [first, first + 1, first + 2]
        assert np.isnan(split.ids[[2, 4]].astype(float)).all()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.uint8()),
        pa.list_(pa.float64()),
        pa.large_list(pa.int64()),
        pa.list_(pa.float32(), 25),
        pa.list_(pa.list_(pa.uint8())),
    ],
    ids=str,
)
def test_lists_of_numbers_are_features(tmp_path: Path, kind: Any) -> None:
    given = np.random.default_rng(1).integers(2, 256, (8, 5, 5))
    rows = given.tolist() if pa.types.is_list(kind.value_type) else given.reshape(8, 25).tolist()
    parquet.write_table(pa.table({"pixels": pa.array(rows, kind), "y": [0, 1] * 4}), tmp_path / "x.parquet")
    data = read(tmp_path / "x.parquet")
    assert data.train.images.tolist() == given.tolist()
    assert data.train.labels.tolist() == [0, 1] * 4


def test_wide_table_of_pixels(tmp_path: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (40, 64))
    labels = np.arange(40) % 10
    table = pa.table({"label": labels, **{f"pixel{i}": images[:, i] for i in range(64)}})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=7)
    data = read(tmp_path / "x.parquet")
    assert data.image_shape == (8, 8)
    assert data.train.images.reshape(40, 64).tolist() == images.tolist()


def test_label_among_others_beside_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = hub(PICTURES, [0, 1] * 6).append_column("writer", pa.array(["a", "b", "c"] * 4)).drop(["label"])
    table = table.append_column("digit_seen", pa.array([3, 4] * 6))
    parquet.write_table(table, tmp_path / "x.parquet")
    assert "which column is the label? Name it, as in --label 'writer'" in refused(tmp_path / "x.parquet")
    with caplog.at_level(logging.INFO, "xpnet"):
        assert read_table(tmp_path / "x.parquet", "digit_seen").split.labels.tolist() == [3, 4] * 6
    assert "left out: column 'writer'" in caplog.text
    parquet.write_table(table.drop(["writer", "digit_seen"]), tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").split.labels is None


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"a": [1.5, None], "label": [0, 1]}, "nan at row 1, column 'a'; fill it in"),
        ({"a": [1, 2], "label": ["x", None]}, "the label of row 1 is missing"),
        ({"a": ["u", "v"], "label": [0, 1]}, "column 'a' holds text, such as 'u'"),
        ({"a": [{"b": 1}, {"b": 2}], "label": [0, 1]}, "column 'a' holds text, such as 'struct<b: int64>'"),
        ({"a": [[1, 2], [3]], "label": [0, 1]}, "column 'a': not all have one size"),
        ({"a": [[1, 2], None], "label": [0, 1]}, "column 'a': not all have one size"),
        ({"a": [[1], [2]], "b": [[1], [2]], "label": [0, 1]}, "several columns of pictures or lists ('a', 'b')"),
        ({"a": [b"no", b"picture"], "label": [0, 1]}, "row 0, column 'a': not a PNG, JPEG"),
        (
            {"a": [png(PICTURES[0]), png(PICTURES[0][1:])], "label": [0, 1]},
            "column 'a': not all have one size, near row 1",
        ),
        ({"a": [png(PICTURES[0]), None], "label": [0, 1]}, "row 1, column 'a': no picture"),
        ({"a": [], "label": []}, "it has no rows"),
        ({}, "it has no columns"),
    ],
)
def test_what_is_refused(tmp_path: Path, columns: dict[str, list[Any]], says: str) -> None:
    for name, write in WRITERS.items():
        if columns or name == "x.parquet":
            write(pa.table(columns), tmp_path / name)
            assert says in refused(tmp_path / name)


def test_old_feather_and_damage(tmp_path: Path) -> None:
    (tmp_path / "x.feather").write_bytes(b"FEA1" + bytes(40))
    assert "Feather of version 1" in refused(tmp_path / "x.feather")
    for name, write in WRITERS.items():
        write(hub(PICTURES, [0, 1] * 6), tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert "damaged" in refused(tmp_path / name)


def test_offsets_beyond_the_text_are_noticed(tmp_path: Path) -> None:
    write_stream(pa.table({"label": ["x", "yy"], "a": [0.5, 1.5]}), tmp_path / "x.arrow")
    content = (tmp_path / "x.arrow").read_bytes()
    offsets = np.array([0, 1, 3], "<i4").tobytes()
    assert content.count(offsets) == 1
    for last in (1000, -5):
        (tmp_path / "x.arrow").write_bytes(content.replace(offsets, np.array([0, 1, last], "<i4").tobytes()))
        assert "damaged (ArrowInvalid" in refused(tmp_path / "x.arrow")


def test_bomb(tmp_path: Path) -> None:
    parquet.write_table(
        pa.table({"a": np.zeros(9_000_000), "label": np.zeros(9_000_000, np.int8)}), tmp_path / "x.parquet"
    )
    assert "as a decompression bomb does" in refused(tmp_path / "x.parquet")


def test_without_pyarrow_a_line_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(pa.table({"a": [1, 2], "label": [0, 1]}), tmp_path / "x.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r'needs pyarrow.*: pip install "xpnet\[tables\]"'):
        read(tmp_path / "x.parquet")


@given(data=st.data())
def test_damaged_files_give_data_errors_only(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(WRITERS)))
    table = hub(PICTURES[:4], [0, 1] * 2, ["a", "b"]).append_column("text", pa.array(["x", "y", "x", None]))
    WRITERS[name](table, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    content = data.draw(st.binary(min_size=1, max_size=6))
    (tmp_path / name).write_bytes(whole[:at] + content + whole[at + len(content) :])
    try:
        read(tmp_path / name)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
