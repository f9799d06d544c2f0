"""CSV: text in columns, with or without a header, parted by commas, semicolons, tabs, bars or spaces."""

import csv
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO, TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.packed import FREE_BYTES, Gunzip, unpacked
from xpnet.errors import DataError
from xpnet.files import open_regular, read_up_to

from .columns import Columns, column_named, is_id, may_be_id
from .shared import MAX_BYTES

if TYPE_CHECKING:
    from xpnet.data.packed import Location

__all__ = ["read_csv_columns"]

logger = logging.getLogger("xpnet")

_MAX_LINE = 1 << 20
"""Characters in a line: a quarter of a million pixels."""

_SAMPLE = 50
"""Lines from which the layout is told."""

_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-", "."))
_PER_TEXT = 128
"""Bytes that a text takes which occurs for the first time."""


def read_csv_columns(path: "Location", label: str | None = None) -> Columns:
    """The columns of a CSV file, of which those with text are told by its first lines.

    path : the file, or one in a zip, packed by gzip or not.
    label : the name or index of the label's column, if it is known: text in it is no fault, wherever it begins.
    Raises DataError, naming the line, if a row has another number of columns or a value is missing or no number.
    """
    file = _File(path)
    layout = _layout(file)
    known = None if label is None else column_named(layout.names, layout.width, label)
    numbers: NDArray[Any] | None = None
    while numbers is None:
        try:
            numbers = _numbers(file, layout)
        except DataError:
            raise
        except ValueError as error:
            message, column = _fault(file, layout) or (f"{path}: {error}", None)
            if column is None or column != known:
                raise DataError(message) from None
            layout = replace(layout, texts=tuple(sorted((*layout.texts, column))))
    if layout.texts and not _is_even(file, layout) and (fault := _fault(file, layout)):
        raise DataError(fault[0])
    texts = _texts(file, layout)
    if any(len(column) != len(numbers) for column in texts.values()):
        raise DataError((_fault(file, layout) or (f"{path}: it changed while being read",))[0])
    names, width = layout.names, layout.width
    if layout.unused is not None:
        for i, value in enumerate(texts.pop(layout.unused).tolist()):
            if value:
                raise DataError(f"{path}: {_Rows(file, layout)(i)} has more than {width - 1} columns")
        names, width = names[:-1], width - 1
    return Columns(str(path), names, width, numbers, layout.numeric, texts, _Rows(file, layout))


# --- the text --------------------------------------------------------------------------------------------------------


class _File:
    """A file of text that is read several times; packed content is unpacked once."""

    def __init__(self, path: "Location") -> None:
        self.path, self._content = path, b""
        with unpacked(path) as stream:
            if not isinstance(path, Path) or isinstance(stream, Gunzip):
                self._content = bytes(read_up_to(stream, MAX_BYTES + 1))
        self._packed, self._encoding = bool(self._content), "utf-8-sig"
        with self._open() as file:
            self.size = file.seek(0, os.SEEK_END)
            if self.size > MAX_BYTES:
                raise DataError(f"{path}: it holds more than {MAX_BYTES} bytes, the cap")
            file.seek(0)
            block = file.read(_MAX_LINE)
            if block.startswith((b"\xff\xfe", b"\xfe\xff")):
                self._encoding = "utf-16"
            while len(block) == _MAX_LINE:
                if b"\n" not in block and b"\r" not in block:
                    raise DataError(f"{path}: a line has more than {_MAX_LINE} characters")
                block = file.read(_MAX_LINE)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            if self._packed or not isinstance(self.path, Path):
                yield BytesIO(self._content)
            else:
                with open_regular(self.path) as file:
                    yield file
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from None

    @contextmanager
    def text(self) -> Iterator[TextIOWrapper]:
        """Open it for reading from the beginning."""
        try:
            with self._open() as file:
                yield TextIOWrapper(file, encoding=self._encoding)
        except UnicodeError:
            raise DataError(f"{self.path}: not UTF-8 text; save it as UTF-8") from None


def _fields(lines: Iterable[str], delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """The number and the fields of each line that is not empty.   delimiter : None for spaces."""
    if delimiter is None:
        lines = (line.strip().replace("\t", " ") + "\n" for line in lines)
    rows = csv.reader(lines, delimiter=delimiter or " ", skipinitialspace=True)
    number = 1
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"line {rows.line_num}: {error}") from None
        if row:
            yield number, row
        number = rows.line_num + 1


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # Which Python's numbers may hold, and loadtxt's may not.
    return "_" not in text and text.isascii()


def _is_missing(text: str) -> bool:
    return text.strip().lower() in _MISSING


# --- the layout ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """How a file is laid out.

    delimiter : None for spaces.   names : of the header, () if there is none.   width : number of columns.
    first : the number of the first line behind the header.   texts : columns that hold text.   whole : whether the
    sample holds whole numbers only.   decimal_comma : whether 0,5 is a half.   row : of numbers that pandas took for
    a header, and gave endings where they occurred before.   unused : a last column without name and content.
    spaced : whether there are spaces before quotes, behind which loadtxt does not know them for what they are.
    """

    delimiter: str | None
    names: tuple[str, ...]
    width: int
    first: int
    texts: tuple[int, ...]
    whole: bool
    decimal_comma: bool
    row: tuple[str, ...] = ()
    unused: int | None = None
    spaced: bool = False

    @property
    def numeric(self) -> tuple[int, ...]:
        return tuple(column for column in range(self.width) if column not in self.texts)

    def number(self, text: str) -> str:
        """A field as Python writes numbers."""
        return text.replace(",", ".") if self.decimal_comma else text


def _layout(file: _File) -> _Layout:
    skipped, size = 0, 0
    lines: list[str] = []
    with file.text() as text:
        for line in text:
            if not lines and not line.strip():
                skipped += 1
                continue
            lines.append(line)
            size += len(line)
            if len(lines) > 2 and (size > _MAX_LINE or len(lines) > _SAMPLE):
                break
    if not lines:
        raise DataError(f"{file.path}: the file is empty")
    if named := re.fullmatch(r"sep=([,;|\t])\s*", lines[0].lower()):  # Excel's own first line
        lines, skipped = lines[1:], skipped + 1
    filled = [line for line in lines if line.strip() and not line.startswith("#")]
    delimiter = named[1] if named else _delimiter(filled or lines)
    try:
        rows = [(number + skipped, row) for number, row in _fields(lines, delimiter)]
    except DataError as error:
        raise DataError(f"{file.path}: {error}") from None
    rows = [(number, row) for number, row in rows if any(field.strip() for field in row)]
    names: tuple[str, ...] = ()
    while rows and rows[0][1][0].startswith("#"):  # of which the last one may be a header
        names = tuple(_header(rows.pop(0)[1]))
    if not rows:
        raise DataError(f"{file.path}: the file is empty")
    if len(names) != len(rows[0][1]):
        names = ()
    comma = delimiter in (";", "\t", None) and _has_decimal_commas(file.path, (row for _, row in rows))
    spaced = delimiter is not None and any(re.search(rf"(^|{re.escape(delimiter)}) +\"", line) for line in lines)
    layout = _Layout(delimiter, names, len(rows[0][1]), rows[0][0], (), True, comma, spaced=spaced)
    if not names:
        layout, rows = _with_header(file, layout, rows)
    return _with_kinds(layout, [row for _, row in rows])


def _delimiter(lines: list[str]) -> str | None:
    """What parts the fields: that of which each line has as many; None for spaces."""
    found: list[tuple[int, str | None]] = []
    for delimiter in ("\t", ";", "|", ",", None):
        try:
            counts = {len(row) for _, row in _fields(lines[:20], delimiter)}
        except DataError:
            continue
        if len(counts) == 1 and max(counts) > 1:
            return delimiter
        found.append((min(counts, default=0), delimiter))
    best, delimiter = max(found[:-1], key=lambda pair: pair[0], default=(0, ","))
    return None if best < 2 and found and found[-1] > (1, None) else delimiter


def _header(row: list[str]) -> list[str]:
    return [name.strip(" \"'#") if i == 0 else name.strip(" \"'") for i, name in enumerate(row)]


def _has_decimal_commas(path: "Location", rows: Iterable[list[str]]) -> bool:
    fields = [field.strip() for row in rows for field in row]
    found = [field for field in fields if re.fullmatch(r"[-+]?\d+,\d+([eE][-+]?\d+)?", field)]
    if not found or any(re.match(r"[-+]?\d+\.\d+", field) for field in fields):
        return False
    if all(re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", field) for field in found):
        as_read = found[0].replace(",", ".")
        logger.warning("%s: %s is read as %s; if its commas separate thousands, remove them", path, found[0], as_read)
    return True


def _with_header(
    file: _File, layout: _Layout, rows: list[tuple[int, list[str]]]
) -> tuple[_Layout, list[tuple[int, list[str]]]]:
    """The layout with the names of the first row if it is a header, and the rows behind it."""
    (_, head), rest = rows[0], rows[1:]
    below = [row for _, row in rest]
    if rest and len(rest[0][1]) == len(head) + 1 and layout.delimiter is None:  # as R writes names of rows
        head = ["", *head]
    if not _is_header(layout, head, below):
        if (row := _resaved(layout, head, below)) is None:
            return layout, rows
        first = rest[0][0]
        return replace(layout, row=tuple(row), first=first), rest
    if not rest:
        raise DataError(f"{file.path}: line {rows[0][0]} holds no numbers, and nothing follows it")
    return replace(layout, names=tuple(_header(head)), width=len(head), first=rest[0][0]), rest


def _is_header(layout: _Layout, head: list[str], below: list[list[str]]) -> bool:
    if _resaved(layout, head, below) is not None:
        return False
    numbers = [_is_number(layout.number(field)) for field in head]
    if all(numbers) or (not head[0].strip() and all(numbers[1:])):
        start = head if numbers[0] else head[1:]
        counted = [[str(i + base) for i in range(len(start))] for base in (0, 1)]
        return len(start) > 2 and [field.strip() for field in start] in counted and head not in below
    if not below:
        return not any(numbers)
    for column, field in enumerate(head):
        if not numbers[column] and not _is_missing(field):
            values = [row[column] for row in below if column < len(row)]
            if all(_is_number(layout.number(value)) or _is_missing(value) for value in values):
                return True
    return not any(numbers)


def _resaved(layout: _Layout, head: list[str], below: list[list[str]]) -> list[str] | None:
    """The numbers of a first row that pandas took for a header, and wrote as 0, 0.1, 0.2; None if it is another row."""
    counts: dict[str, int] = {}
    row, endings = [], []
    for column, field in enumerate(map(str.strip, head)):
        base, _, ending = field.rpartition(".")
        if base in counts and ending == str(counts[base]):
            counts[base] += 1
            endings.append(column)
            row.append(base)
        elif _is_number(field):
            counts[field] = 1
            row.append(field)
        elif not field and not column:
            row.append("-1")  # before 0, the first row that pandas numbered
        else:
            return None
    values = [(line[column], row[column]) for line in below for column in endings if column < len(line)]
    return row if len(endings) > 2 and values and all(("." in a) == ("." in b) for a, b in values) else None


def _with_kinds(layout: _Layout, rows: list[list[str]]) -> _Layout:
    texts, whole = [], True
    for column in range(layout.width):
        fields = [row[column].strip() for row in rows if column < len(row)]
        if all(_is_missing(field) or _is_number(layout.number(field)) for field in fields):
            name = layout.names[column] if layout.names else ""
            lost = r"0\d|\d{16}" if is_id(name) else r"\d{16}"
            if may_be_id(name) and any(re.match(lost, field) for field in fields):
                texts.append(column)  # as numbers they would lose digits
                continue
            whole = whole and all(re.fullmatch(r"[-+]?\d+", field) for field in fields)
        else:
            texts.append(column)
    last = layout.width - 1
    unused = None
    nameless = not layout.names or re.fullmatch(r"(Unnamed: \d+)?", layout.names[last])
    if last and nameless and not any("".join(row[last:]).strip() for row in rows):
        unused = last
        texts = sorted({*texts, last})
    return replace(layout, texts=tuple(texts), whole=whole, unused=unused)


# --- the content -----------------------------------------------------------------------------------------------------


def _numbers(file: _File, layout: _Layout) -> NDArray[Any]:
    """The columns of numbers, (n, k): int16 where they fit, else float64.   Raises ValueError."""
    if not layout.numeric:
        column = _texts(file, layout)[0]
        return np.empty((len(column), 0), np.float32)
    if layout.whole:
        try:
            return _loaded(file, layout, np.int16, layout.numeric)
        except DataError:
            raise
        except (ValueError, DeprecationWarning):
            pass
    return _loaded(file, layout, np.float64, layout.numeric)


def _loaded(file: _File, layout: _Layout, dtype: Any, columns: tuple[int, ...], **options: Any) -> NDArray[Any]:
    with file.text() as text, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.3 cuts 0.5 to the integer 0 and only warns
        lines: Iterable[str] = text
        skipped = layout.first - 1
        if layout.spaced:
            lines, skipped = _quoted(_rows(file, layout), layout.delimiter or " "), 0
        if layout.decimal_comma and dtype is not object:
            lines = (line.replace(",", ".") for line in lines)
        if layout.row:
            for _ in range(skipped):
                next(text)
            lines, skipped = chain([(layout.delimiter or " ").join(layout.row) + "\n"], lines), 0
        table = np.loadtxt(
            lines,
            dtype,
            comments=None,
            delimiter=layout.delimiter,
            skiprows=skipped,
            # All of them are not named, so that a line with too many is noticed.
            usecols=None if len(columns) == layout.width else columns,
            quotechar='"',
            ndmin=2,
            **options,
        )
    if table.shape[1] != len(columns):
        raise ValueError(f"{table.shape[1]} columns where {len(columns)} are expected")
    return table


def _quoted(rows: Iterable[tuple[int, list[str]]], delimiter: str) -> Iterator[str]:
    """Rows as lines, with each field in quotes."""
    for _, row in rows:
        yield delimiter.join('"' + field.replace('"', '""') + '"' for field in row) + "\n"


def _texts(file: _File, layout: _Layout) -> dict[int, NDArray[np.object_]]:
    """The columns of text, each text kept once however often it occurs."""
    if not layout.texts:
        return {}
    kept: dict[str, str] = {}
    room = (FREE_BYTES + 4 * file.size) // _PER_TEXT

    def keep(text: str) -> str:
        text = text.strip()
        if (known := kept.get(text)) is not None:
            return known
        if len(kept) >= room:
            raise DataError(f"{file.path}: more than {room} different texts; leave out their columns")
        return kept.setdefault(text, text)

    try:
        found = _loaded(file, layout, object, layout.texts, converters=keep)
    except DataError:
        raise
    except ValueError as error:
        raise DataError((_fault(file, layout) or (f"{file.path}: {error}",))[0]) from None
    return {column: found[:, i] for i, column in enumerate(layout.texts)}


def _is_even(file: _File, layout: _Layout) -> bool:
    """Whether all lines have as many fields, which loadtxt does not check where it takes some of the columns.

    False where it cannot be told by counting.
    """
    with file.text() as text:
        for line in islice(text, layout.first - 1, None):
            n = len(line.split()) if layout.delimiter is None else line.count(layout.delimiter) + 1
            if '"' in line or (n != layout.width and line.strip()):
                return False
    return True


# --- faults ----------------------------------------------------------------------------------------------------------


def _rows(file: _File, layout: _Layout) -> Iterator[tuple[int, list[str]]]:
    """The number and the fields of each row of data."""
    with file.text() as text:
        try:
            for number, row in _fields(text, layout.delimiter):
                if number >= layout.first:
                    yield number, row
        except DataError as error:
            raise DataError(f"{file.path}: {error}") from None


@dataclass(frozen=True)
class _Rows:
    """Names a row by its line."""

    file: _File
    layout: _Layout

    def __call__(self, row: int) -> str:
        if self.layout.row:
            if row == 0:
                return "line 1"
            row -= 1
        for i, (number, _) in enumerate(_rows(self.file, self.layout)):
            if i == row:
                return f"line {number}"
        return f"row {row}"


def _fault(file: _File, layout: _Layout) -> tuple[str, int | None] | None:
    """What is wrong with the first row that cannot be read, and the column of a text that is no number."""
    for number, row in _rows(file, layout):
        where = f"{file.path}: line {number}"
        if len(row) != layout.width:
            return f"{where} has {len(row)} column{'s'[: len(row) != 1]}, but {layout.width} are expected", None
        for column in layout.numeric:
            field = row[column].strip()
            name = repr(layout.names[column]) if layout.names and layout.names[column] else str(column + 1)
            if _is_missing(field) and not _is_number(field):
                shown = f"{field!r} stands for no value" if field else "no value"
                return f"{where}, column {name}: {shown}; fill it in, or leave out such rows", None
            if not _is_number(layout.number(field)):
                return f"{where}, column {name}: {field[:40]!r} is not a number", column
    return None
