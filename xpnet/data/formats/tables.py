"""Reading tables, CSV, Parquet or Arrow, and what lies beside them."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from xpnet.data.dataset import Split
from xpnet.errors import DataError

from .columns import Columns, Table, places_of, table_of
from .csvs import read_csv_columns
from .parquet import is_arrow, read_arrow_columns

if TYPE_CHECKING:
    from xpnet.data.packed import Location

__all__ = ["Table", "ordered", "read_beside", "read_table"]

logger = logging.getLogger("xpnet")


def read_table(path: "Location", label: str | None = None, *, features: Sequence[str] | int | None = None) -> Table:
    """Read a table: CSV, Parquet, Arrow or Feather.

    path : the file, or one in a zip; CSV may be packed by gzip.
    label : the name or the index (from 0, negative from the end) of the label's column; None to find it, by its name
        or, where that says nothing, by the values, and to say so.
    features : of the model that the rows are for, where known, their names or their number: they tell rows without a
        label.
    Returns the Table. Columns that are called pixels, or a square number of pixels in columns without other names, are
    pictures; all others are features of a table.
    Raises DataError, naming line and column, if the label cannot be found, or a value cannot be used; and
    MissingPackageError where pyarrow is needed and not installed.
    """
    return _upright(path, table_of(_columns(path, label), label, features))


def read_beside(path: "Location", train: Table, *, optional: bool = False) -> Table | None:
    """Read a table whose columns are those of a training set.

    optional : whether one without a label is passed over, with a warning.
    Returns the Table, its features in the order of the training set; None if it was passed over.
    Raises DataError as read_table does, and if a feature of the training set is missing.
    """
    columns, k = train.split.columns, _n_features(train)
    given = _columns(path)
    names = [name.lower() for name in given.names]
    named = train.label.lower() in names if columns and names else len(given.names or range(given.width)) > k
    table = table_of(given, train.label if train.label and named else None, k)
    if table.split.labels is None and train.split.labels is not None and optional:
        logger.warning("%s has no label column; continuing without a test split", path)
        return None
    split = ordered(table.split, columns, path)
    if split is not table.split and not train.split.is_table:
        raise DataError(f"{path}: its pixels come in another order than those of the training split")
    return _upright(path, replace(table, split=replace(split, is_table=train.split.is_table)))


def ordered(split: Split, columns: tuple[str, ...], path: "Location") -> Split:
    """A split with its features in the order of a training set's columns, where both have names.

    Raises DataError, naming the path, if one is missing.
    """
    if not columns or split.columns in ((), columns):
        return split
    if missing := [name for name in columns if name not in split.columns]:
        raise DataError(f"{path}: no column {missing[0]!r}, which the training split has")
    order = places_of(split.columns, columns)
    return replace(split, images=split.images[:, order], columns=columns)


def _columns(path: "Location", label: str | None = None) -> Columns:
    return read_arrow_columns(path) if is_arrow(path) else read_csv_columns(path, label)


def _n_features(table: Table) -> int:
    return int(np.prod(table.split.images.shape[1:]))


def _upright(path: "Location", table: Table) -> Table:
    """EMNIST's own CSVs have their pictures on their side."""
    images = table.split.images
    if not re.match(r"emnist-.*\.csv", path.name.lower()) or images.shape[1:] != (28, 28):
        return table
    return replace(table, split=replace(table.split, images=np.ascontiguousarray(images.swapaxes(1, 2))))
