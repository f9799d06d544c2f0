"""CSV: each line has a label and its pixels."""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.errors import DataError
from xpnet.files import open_regular

from .shared import MAX_BYTES

__all__ = ["read_csv", "read_csv_test"]

_MAX_LINE = 1 << 20
"""Characters in a line: a quarter of a million pixels."""

_LABEL_NAMES = ("label", "class", "digit", "target", "y")
logger = logging.getLogger("xpnet")


def read_csv(path: str | os.PathLike[str]) -> Split:
    """Read comma-separated rows of a label and its pixels, with or without a header line (recognised by content).

    path : the file, uncompressed.
    Returns the Split; pixels are 0..255 (uint8) or floats in [0, 1] (float32), as square images if their number allows.
    Raises DataError, naming the line, if a row has another number of columns or a value that cannot be used.
    """
    path = Path(path)
    names, first, columns = _head(path)
    if names and not _is_labelled(names):
        raise DataError(f"{path}: its first column is {names[0]!r}; it must be the label")
    if columns < 2:
        raise DataError(f"{path}: line {first} has {columns} column; a label and pixels, comma-separated, are needed")
    try:
        try:
            table = _table(path, np.int16, first)
        except DataError:
            raise
        except (ValueError, DeprecationWarning):
            table = _table(path, np.float32, first)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(_fault(path, first, columns) or f"{path}: {error}") from None
    if table.shape[1] != columns:
        raise DataError(_fault(path, first, columns) or f"{path}: it changed while being read")
    return Split(
        np.ascontiguousarray(table[:, 1:]),
        table[:, 0],
        where=str(path),
        entry=lambda row: f"line {_line_of(path, first, row)}",
    )


def read_csv_test(path: Path) -> Split | None:
    """The test set beside a CSV file whose name says that it is the training set; None if there is no such file."""
    sibling = path.with_name(path.name.replace("train", "test").replace("Train", "Test"))
    if sibling == path or not sibling.is_file():
        return None
    if not _is_labelled(_head(sibling)[0] or ["label"]):
        logger.warning("%s has no label column; continuing without a test split", sibling)
        return None
    return read_csv(sibling)


@contextmanager
def _text(path: Path) -> Iterator[TextIOWrapper]:
    """Open a file for reading as text, once its lines are known to be short enough to be split."""
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
                raise DataError(f"{path}: it holds {size} bytes; the cap is {MAX_BYTES}")
            block = file.read(_MAX_LINE)
            if block.startswith(b"\x1f\x8b"):
                raise DataError(f"{path}: gzip-compressed CSV; unpack it first")
            while len(block) == _MAX_LINE:
                if b"\n" not in block and b"\r" not in block:
                    raise DataError(f"{path}: a line has more than {_MAX_LINE} characters")
                block = file.read(_MAX_LINE)
            file.seek(0)
            yield TextIOWrapper(file, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _table(path: Path, dtype: type[np.generic], first: int) -> NDArray[Any]:
    with _text(path) as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.3 cuts 0.5 to the integer 0 and only warns
        return np.loadtxt(lines, dtype, comments=None, delimiter=",", skiprows=first - 1, ndmin=2)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the fields of each line that is not blank."""
    with _text(path) as lines:
        for number, line in enumerate(lines, 1):
            if row := line.strip(" \t\r\n"):
                yield number, row.split(",")


def _head(path: Path) -> tuple[list[str], int, int]:
    """The header's names (none if there is no header), the line number of the first data row, the number of columns."""
    rows = _rows(path)
    number, fields = next(rows, (0, []))
    if not fields:
        raise DataError(f"{path}: the file is empty")
    if all(map(_is_number, fields)):
        return [], number, len(fields)
    names = [field.strip(" \"'") for field in fields]
    if any(map(_is_number, names)) and names[0].lower() not in _LABEL_NAMES:
        return [], number, len(fields)
    number, fields = next(rows, (0, []))
    if not fields:
        raise DataError(f"{path}: line 1 holds no numbers, and nothing follows it")
    return names, number, len(names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python's numbers may hold, and loadtxt's may not


def _is_labelled(names: list[str]) -> bool:
    return re.fullmatch(r"pixel_?\d+|\d+x\d+", names[0].lower()) is None


def _fault(path: Path, first: int, columns: int) -> str | None:
    for number, fields in _rows(path):
        if number < first:
            continue
        if len(fields) != columns:
            return f"{path}: line {number} has {len(fields)} columns, but {columns} are expected"
        for column, field in enumerate(fields, 1):
            if not _is_number(field):
                return f"{path}: line {number}, column {column}: {field[:40]!r} is not a number"
    return None


def _line_of(path: Path, first: int, row: int) -> int:
    numbers = (number for number, _ in _rows(path) if number >= first)
    return next(number for index, number in enumerate(numbers) if index == row)
