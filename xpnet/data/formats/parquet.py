"""Parquet and Arrow: columns with types, read by pyarrow, and what the Hugging Face hub keeps in them."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import required
from xpnet.data.packed import FREE_BYTES, refuse_bomb, unpacked
from xpnet.data.pictures.decoding import decode_content, warn_of_whites
from xpnet.errors import DataError, XpnetError
from xpnet.files import open_regular, read_up_to

from .columns import Columns, may_be_id
from .shared import MAX_BYTES

if TYPE_CHECKING:
    from xpnet.data.packed import Location

__all__ = ["is_arrow", "read_arrow_columns"]

_ROWS, _ROWS_OF_BYTES = 4096, 4
"""Rows that are decoded at a time; few where one value may be as large as the file, and be meant by every row."""

_MAX_COLUMNS = 100_000
_PER_TEXT = 128


def is_arrow(path: "Location") -> bool:
    """Whether a file is Parquet, Arrow or Feather, by its name or its first bytes."""
    if re.search(r"\.(parquet|pq|arrow|feather)$", path.name.lower()):
        return True
    with unpacked(path) as stream:
        return stream.read(6).startswith((b"PAR1", b"ARROW1", b"FEA1"))


def read_arrow_columns(path: "Location") -> Columns:
    """The columns of a Parquet, Arrow or Feather file, and of its other parts if it is NAME-00000-of-00002.parquet.

    A column of pictures (bytes of PNG or JPEG, or the hub's structure of them) or of lists of as many numbers each is
    the features; there may be one.
    Raises DataError, MissingPackageError without pyarrow.
    """
    parts = _parts(path)
    columns: _Collected | None = None
    size = 0
    for part in parts:
        with _batches(part) as (schema, batches, n_bytes):
            size += n_bytes
            if columns is None:
                columns = _Collected(path, schema)
            elif schema.names != columns.schema.names:
                raise DataError(f"{part}: other columns than in {parts[0]}")
            columns.size = size
            for batch in batches:
                columns.add(batch)
    assert columns is not None
    return columns.columns()


def _parts(path: "Location") -> list["Location"]:
    match = re.fullmatch(r"(.*-)(\d{5})(-of-)(\d{5})(\..*)", path.name)
    if match is None or not isinstance(path, Path) or int(match[2]) or not 1 < int(match[4]) <= 10_000:
        return [path]
    return [path.with_name(f"{match[1]}{i:05}{match[3]}{match[4]}{match[5]}") for i in range(int(match[4]))]


@contextmanager
def _batches(path: "Location") -> Iterator[tuple[Any, Iterator[Any], int]]:
    """Open a file: its schema, its rows in parts, and its size."""
    pyarrow = required("pyarrow", "reading Parquet and Arrow", "tables")
    try:
        with ExitStack() as stack:
            if isinstance(path, Path):
                file: Any = stack.enter_context(open_regular(path))
            else:
                stream = stack.enter_context(unpacked(path))
                file = BytesIO(bytes(read_up_to(stream, MAX_BYTES + 1)))
            size = file.seek(0, 2)
            file.seek(0)
            if size > MAX_BYTES:
                raise DataError(f"it holds more than {MAX_BYTES} bytes, the cap")
            magic = file.read(6)
            file.seek(0)
            if magic.startswith(b"FEA1"):
                raise DataError("Feather of version 1; save it again, as Feather is now")
            opened = _parquet(file, size) if magic.startswith(b"PAR1") else _ipc(pyarrow, file, magic)
            yield (*opened, size)
    except DataError as error:
        raise error if str(error).startswith(str(path)) else DataError(f"{path}: {error}") from None
    except XpnetError:
        raise
    except OSError as error:
        if error.strerror is None:
            raise DataError(f"{path}: damaged ({error}); save it again") from None
        raise DataError(f"{path}: {error.strerror}") from None
    except Exception as error:  # a damaged file can make pyarrow raise nearly anything
        raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); save it again") from None


def _parquet(file: Any, size: int) -> tuple[Any, Iterator[Any]]:
    parquet = required("pyarrow.parquet", "reading Parquet", "tables")
    limits = {"thrift_string_size_limit": 16 << 20, "thrift_container_size_limit": 1 << 20}
    # Equal texts stay one, however many rows have them.
    reader = parquet.ParquetFile(file, pre_buffer=False, **limits)
    texts = [field.name for field in reader.schema_arrow if _kind(field.type) == "text"]
    about = reader.metadata
    if texts:
        reader = parquet.ParquetFile(file, pre_buffer=False, read_dictionary=texts, metadata=about, **limits)
    if about.num_columns > _MAX_COLUMNS:
        raise DataError(f"{about.num_columns} columns; the cap is {_MAX_COLUMNS}")
    # Not by its columns, whose description ends the process if it is damaged.
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    kinds = [_kind(field.type) for field in reader.schema_arrow]
    width = sum(
        field.type.bit_width // 8 for field, kind in zip(reader.schema_arrow, kinds, strict=True) if kind == "number"
    )
    total = sum(max(group.total_byte_size, group.num_rows * width) for group in groups)
    if total > MAX_BYTES:
        raise DataError(f"it unpacks to more than {MAX_BYTES} bytes, the cap")
    refuse_bomb(total, size)
    rows = _ROWS_OF_BYTES if "picture" in kinds or "list" in kinds else _ROWS
    return reader.schema_arrow, reader.iter_batches(batch_size=rows, use_threads=False)


def _ipc(pyarrow: Any, file: Any, magic: bytes) -> tuple[Any, Iterator[Any]]:
    ipc = required("pyarrow.ipc", "reading Arrow", "tables")
    if magic == b"ARROW1":
        reader = ipc.open_file(file)
        batches: Iterator[Any] = (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        reader = ipc.open_stream(file)
        batches = iter(reader)

    def checked() -> Iterator[Any]:
        total = 0
        for batch in batches:
            # The offsets in it are only believed once they are known to lie within it.
            batch.validate(full=True)
            total += batch.nbytes
            if total > MAX_BYTES:
                raise DataError(f"it unpacks to more than {MAX_BYTES} bytes, the cap")
            yield batch

    return reader.schema, checked()


def _kind(kind: Any) -> str:
    """What a column of some type holds: "number", "text", "picture", "list", or "other"."""
    from pyarrow import types

    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return "picture" if at >= 0 and _kind(kind.field(at).type) == "picture" else "other"
    if types.is_dictionary(kind):
        return "text" if _kind(kind.value_type) == "text" else "other"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list" if _kind(kind.value_type) in ("number", "list") else "other"
    for name, tests in (
        ("number", (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal)),
        ("text", (types.is_string, types.is_large_string)),
        ("picture", (types.is_binary, types.is_large_binary)),
    ):
        if any(test(kind) for test in tests):
            return name
    return "other"


class _Collected:
    """The columns of some batches, in as little memory as their values need."""

    def __init__(self, path: "Location", schema: Any) -> None:
        self.path, self.schema, self.size, self._rows = path, schema, 0, 0
        if not schema.names:
            raise DataError(f"{path}: it has no columns")
        kinds = [_kind(field.type) for field in schema]
        self._places = [i for i, kind in enumerate(kinds) if kind == "number"]
        self._text_places = [i for i, kind in enumerate(kinds) if kind in ("text", "other")]
        blocks = [i for i, kind in enumerate(kinds) if kind in ("picture", "list")]
        if len(blocks) > 1:
            names = ", ".join(repr(schema.names[i]) for i in blocks[:5])
            raise DataError(f"{path}: several columns of pictures or lists ({names}); keep one")
        self._block = (blocks[0], kinds[blocks[0]]) if blocks else None
        self._numbers: list[NDArray[Any]] = []
        self._blocks: list[NDArray[Any]] = []
        self._block_bytes = 0
        self._texts: dict[int, list[NDArray[Any]]] = {i: [] for i in self._text_places}
        self._kept: dict[str, str] = {}
        self._whites: set[float] = set()
        self._exact: dict[int, list[NDArray[Any]]] = {
            i: [] for i, field in enumerate(schema) if may_be_id(field.name) and str(field.type) in ("int64", "uint64")
        }
        self._missing: dict[int, list[NDArray[np.bool_]]] = {i: [] for i in self._exact}

    def add(self, batch: Any) -> None:
        if not len(batch):
            return
        if self._places:
            self._numbers.append(_numbers([batch.column(i) for i in self._places]))
        for i in self._text_places:
            self._texts[i].append(self._text(batch.column(i)))
        for i, parts in self._exact.items():
            parts.append(batch.column(i).fill_null(0).to_numpy(zero_copy_only=False))
            self._missing[i].append(batch.column(i).is_null().to_numpy(zero_copy_only=False))
        if self._block is not None:
            at, kind = self._block
            column = batch.column(at)
            block = self._pictures(column) if kind == "picture" else self._lists(column)
            if self._blocks and block.shape[1:] != self._blocks[0].shape[1:]:
                raise DataError(self._differ(self._rows))
            self._blocks.append(block)
            self._block_bytes += block.nbytes
            if kind == "list":  # the footer does not say how long they are
                refuse_bomb(self._block_bytes, self.size)
            if self._block_bytes > MAX_BYTES:
                raise DataError(f"it unpacks to more than {MAX_BYTES} bytes, the cap")
        self._rows += len(batch)

    def columns(self) -> Columns:
        if not self._rows:
            raise DataError(f"{self.path}: it has no rows")
        warn_of_whites(self.path, self._whites)
        numbers = np.concatenate(self._numbers) if self._numbers else np.empty((self._rows, 0), np.float32)
        return Columns(
            str(self.path),
            tuple(self.schema.names),
            len(self.schema.names),
            numbers,
            tuple(self._places),
            {i: np.concatenate(parts) for i, parts in self._texts.items()},
            "row {}".format,
            np.concatenate(self._blocks) if self._blocks else None,
            self._block[0] if self._block else None,
            _class_names(self.schema),
            {i: found for i in self._exact if (found := self._digits(i)) is not None},
        )

    def _digits(self, column: int) -> NDArray[Any] | None:
        """Identifiers as whole numbers, NaN where one is missing; None where floats hold those as well."""
        found, missing = np.concatenate(self._exact[column]), np.concatenate(self._missing[column])
        if not missing.any():
            return found
        if max(-int(found.min()), int(found.max())) <= 2**53:
            return None
        found = found.astype(object)
        found[missing] = np.full(np.count_nonzero(missing), math.nan)  # each its own: one object would repeat
        return found

    def _text(self, column: Any) -> NDArray[Any]:
        import pyarrow
        from pyarrow import types

        if not types.is_dictionary(column.type):
            if _kind(column.type) == "other":
                try:
                    column = column.cast(pyarrow.string())
                except pyarrow.ArrowException:
                    column = pyarrow.array([str(column.type)]).take(pyarrow.array([0] * len(column)))
            column = column.dictionary_encode()
        values = [self._keep(text or "") for text in column.dictionary.to_pylist()]
        codes = column.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
        known = np.empty(len(values) + 1, object)
        known[:] = [*values, ""]
        found: NDArray[np.object_] = known[codes.astype(np.intp)]
        return found

    def _keep(self, text: str) -> str:
        room = (FREE_BYTES + 4 * self.size) // _PER_TEXT
        if text not in self._kept and len(self._kept) >= room:
            raise DataError(f"more than {room} different texts; leave out their columns")
        return self._kept.setdefault(text, text)

    def _pictures(self, column: Any) -> NDArray[np.uint8]:
        name = self.schema.names[self._block[0]] if self._block else ""
        contents = column.field("bytes") if hasattr(column, "field") else column
        shape = self._blocks[0].shape[1:] if self._blocks else None
        found = []
        for i, content in enumerate(contents):
            where = f"row {self._rows + i}, column {name!r}"
            if (held := content.as_py()) is None:
                raise DataError(f"{where}: no picture")
            try:
                picture, _, white = decode_content(held, luminance=True)
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
            if shape not in (None, picture.shape):
                raise DataError(self._differ(self._rows + i))
            shape = picture.shape
            found.append(picture)
            self._whites.add(white)
        return np.stack(found)

    def _lists(self, column: Any) -> NDArray[Any]:
        from pyarrow import types

        shape = [len(column)]
        while _kind(column.type) == "list":
            if column.null_count:
                raise DataError(self._differ(self._rows))
            if types.is_fixed_size_list(column.type):
                shape.append(column.type.list_size)
            else:
                lengths = set(column.value_lengths().to_pylist())
                if len(lengths) > 1:
                    raise DataError(self._differ(self._rows))
                shape.append(lengths.pop())
            column = column.flatten()
        return _numbers([column])[:, 0].reshape(shape)

    def _differ(self, row: int) -> str:
        name = self.schema.names[self._block[0]] if self._block else ""
        return f"{self.path}: column {name!r}: not all have one size, near row {row}; all must have the same"


def _numbers(columns: list[Any]) -> NDArray[Any]:
    """(n, k) of k columns: int16 where they are whole and fit, else float64; what is missing is NaN."""
    import pyarrow
    from pyarrow import types

    found = []
    for given in columns:
        column = given
        if types.is_boolean(column.type):
            column = column.cast(pyarrow.uint8())
        elif types.is_decimal(column.type) or types.is_float16(column.type):
            column = column.cast(pyarrow.float64())
        found.append(column.to_numpy(zero_copy_only=False))
    table = np.stack(found, axis=1)
    if table.dtype.kind in "iu":
        fits = table.size == 0 or (int(table.min()) >= -(2**15) and int(table.max()) < 2**15)
        return table.astype(np.int16 if fits else np.float64)
    return table.astype(np.float64, copy=False)


def _class_names(schema: Any) -> dict[int, tuple[str, ...]]:
    """The classes that the hub's description names, by their column."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"].decode())["info"]["features"]
        named = {name: tuple(about["names"]) for name, about in features.items() if about.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {
        schema.names.index(name): classes
        for name, classes in named.items()
        if name in schema.names and len(set(classes)) == len(classes) > 1 and all(isinstance(c, str) for c in classes)
    }
