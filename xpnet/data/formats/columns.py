"""Tables: which column is the label, which ones only number the rows, and whether the others are pixels or features.

What a header says counts first; without one, the values decide, and it is said.
"""

import logging
import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import nearest
from xpnet.data.dataset import Split
from xpnet.errors import DataError

__all__ = ["Columns", "Table", "column_named", "is_id", "may_be_id", "places_of", "table_of"]

logger = logging.getLogger("xpnet")

_LABELS = (
    *("label", "labels", "target", "targets", "class", "classes", "class_label", "classlabel", "digit", "digits"),
    *("species", "variety", "category", "diagnosis", "letter"),
)
"""Names of a label, wherever its column stands, the surest first."""

_LABELS_AT_AN_END = (
    *("y", "number", "output", "outcome", "result", "response", "quality", "survived", "price", "saleprice", "medv"),
    *("type", "rating", "score", "value", "character"),
)
"""Names that are a label's in the first or the last column; elsewhere they may be a feature's."""

_IDS = re.compile(
    r"(?i:index|idx|id|image_?id|row_?(id|number|names?)?|unnamed: ?\d+(\.\d+)?|level_0|__index_level_\d__)?"
)
_ID_ENDINGS = re.compile(r".*([a-z]Id|[a-z]ID|[_ ](id|Id|ID))")
_PIXELS = re.compile(r"(pixel|pix|px)[ _]?\d+([ _x]\d+)?|\d+x\d+", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?)(\d+)")

_NO_LABEL = ("", "?", "NA", "N/A", "NaN", "nan")

_SIDE = 5
"""The least side of a picture whose columns are not called pixels: 16 whole numbers are rather a table."""

_DAMAGED = 1000
"""One in so many values that is no pixel makes the file damaged; more make it a table of other numbers.

Columns that are called pixels are damaged by one in ten.
"""


@dataclass(frozen=True)
class Columns:
    """The columns of a file, before it is known what they are.

    where : the beginning of an error message.   names : of the columns, "" for one without; () without a header.
    width : number of columns.   numbers : (n, k).   places : the columns of the file that these k are.
    texts : the other columns, (n,) strings each.   entry : names a row in an error message.
    block : the features, (n, ...), where one column holds them all.   block_place : that column.
    classes : what the whole numbers of a column stand for, by its place.   exact : columns that may be identifiers, of
        numbers that a float64 does not hold, by their places.
    """

    where: str
    names: tuple[str, ...]
    width: int
    numbers: NDArray[Any]
    places: tuple[int, ...]
    texts: dict[int, NDArray[np.object_]]
    entry: Callable[[int], str]
    block: NDArray[Any] | None = None
    block_place: int | None = None
    classes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    exact: dict[int, NDArray[Any]] = field(default_factory=dict)

    def __getitem__(self, column: int) -> NDArray[Any]:
        """(n,) numbers or strings."""
        return self.texts[column] if column in self.texts else self.numbers[:, self.places.index(column)]

    def exactly(self, column: int) -> NDArray[Any]:
        """The same, with all digits of identifiers."""
        return self.exact[column] if column in self.exact else self[column]

    def called(self, column: int) -> str:
        """The column in an error message."""
        if self.names and self.names[column]:
            return f"column {self.names[column]!r}"
        return "the last column" if column == self.width - 1 else f"column {column + 1}"

    def select(self, columns: Sequence[int]) -> NDArray[Any]:
        """(n, len(columns)) numbers; a view where they are neighbours."""
        at = [self.places.index(column) for column in columns]
        if at == list(range(at[0], at[0] + len(at))):
            return self.numbers[:, at[0] : at[-1] + 1]
        return self.numbers[:, at]


@dataclass(frozen=True)
class Table:
    """A file's examples, and which column their labels stood in.

    split : not yet checked.   label : the name or, without a header, the index of the column; "" for none or several.
    classes : what the labels stand for, as in Dataset; () for themselves.
    """

    split: Split
    label: str = ""
    classes: tuple[Hashable, ...] = ()


def table_of(given: Columns, label: str | None = None, expected: Sequence[str] | int | None = None) -> Table:
    """The examples that some columns are.

    label : the name or index (from 0, negative from the end) of the label's column; None to find it.
    expected : the features of the model or the training split that the rows are for, where known, their names or their
        number: they tell what is left for a label, and rows without one.
    Returns the Table; its labels are as they are in the file, None if there are none.
    Raises DataError if the label cannot be found, a feature is missing or is no number.
    """
    n_features = expected if isinstance(expected, int) else None
    known = () if expected is None or isinstance(expected, int) or not given.names else tuple(expected)
    ids = _ids(given)
    found = None if label is None else column_named(given.names, given.width, label)
    # An index alone may be that of the training file, which has one column more.
    is_name = label is not None and label.lower() in (name.lower() for name in given.names)
    if known:
        ids, labels = _beside(given, known, label)
    elif found is not None and (is_name or given.width - len(ids) != n_features):
        labels = [found]
        ids = [column for column in ids if column != found]
    elif label is not None and given.width - len(ids) != n_features:
        raise _unknown(given, label)
    else:
        rest = [column for column in range(given.width) if column not in ids and column != given.block_place]
        labels = _find(given, rest, n_features) if given.block is None else _find_beside_block(given, rest)
    features = [column for column in range(given.width) if column not in ids and column not in labels]
    features = places_of(given.names, known) or features
    columns: tuple[str, ...] = ()
    if not features:
        raise DataError(f"{given.where}: no column is left for the features")
    if given.block is not None and given.block_place in features:
        if unused := [given.called(column) for column in features if column != given.block_place]:
            logger.info("%s: left out: %s", given.where, ", ".join(unused[:12]) + " ..."[: 4 * (len(unused) > 12)])
        images, is_table = given.block, False
    else:
        given = _with_truths(given, [*features, *(labels if len(labels) > 1 else ())])
        columns = tuple(given.names[column] for column in features) if given.names else ()
        images, is_table = _features(given, features, columns)
    values, classes = _values(given, labels), _classes_named(given, labels)
    if classes and (values == -1).all():  # as the hub marks what has no label
        labels, values = [], None
    split = Split(
        images,
        values,
        where=given.where,
        entry=given.entry,
        columns=columns,
        ids=_identifiers(given.exactly(ids[0])) if ids and not labels else None,
        is_table=is_table,
    )
    name = "" if len(labels) != 1 else given.names[labels[0]] if given.names else str(labels[0])
    return Table(split, name, classes)


def column_named(names: Sequence[str], width: int, label: str) -> int | None:
    """The column that a user calls by its name or its index; None if there is none."""
    for known in (list(names), [name.lower() for name in names]):
        for name in (label, label.lower()):
            if name in known:
                return known.index(name)
    is_index = re.fullmatch(r"[-+]?\d{1,9}", label) and -width <= int(label) < width
    return int(label) % width if is_index else None


def _unknown(given: Columns, label: str) -> DataError:
    last = given.width - 1
    if re.fullmatch(r"[-+]?\d+", label):
        return DataError(f"{given.where}: no column {label}; there are {given.width}, from 0 to {last}")
    if not given.names:
        return DataError(f"{given.where}: no header names its columns; give the label's as an index from 0 to {last}")
    hint = nearest(label, given.names)
    return DataError(f"{given.where}: no column {label!r}; {hint}the columns are {_listed(given.names)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name or "(no name)" for name in names[:12]) + (" ..." if len(names) > 12 else "")


# --- what a column is ------------------------------------------------------------------------------------------------


def _ids(given: Columns) -> list[int]:
    """Columns that only number or name the rows."""
    if not given.names:
        first = given[0] if given.width > 2 and 0 in given.places else np.empty(0)
        # Five rows may be numbered by chance.
        if len(first) > 5 and first[0] in (-1, 0, 1) and (np.diff(first) == 1).all():
            logger.info("%s: its first column counts the rows; it is left out", given.where)
            return [0]
        return []
    found = [column for column, name in enumerate(given.names) if is_id(name)]
    for column, name in enumerate(given.names):
        if column not in found and may_be_id(name) and _is_distinct(given.exactly(column)):
            found.append(column)
    return sorted(found)


def is_id(name: str) -> bool:
    """Whether a column of that name only numbers or names the rows."""
    return _IDS.fullmatch(name) is not None


def may_be_id(name: str) -> bool:
    """Whether a column of that name only names the rows, if all of its values are different."""
    return is_id(name) or _ID_ENDINGS.fullmatch(name) is not None


def places_of(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where some names stand among others; the second of equal ones is the second there."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return [places[name].pop(0) if len(places[name]) > 1 else places[name][0] for name in wanted]


def _identifiers(column: NDArray[Any]) -> NDArray[Any]:
    whole = column.dtype.kind == "f" and (np.rint(column) == column).all()
    return column.astype(np.int64) if whole else column


def _is_distinct(column: NDArray[Any]) -> bool:
    return len(set(column.tolist())) == len(column)


def _beside(given: Columns, known: tuple[str, ...], label: str | None) -> tuple[list[int], list[int]]:
    """The columns of ids and of the label beside features with known names.   Raises DataError if one is missing."""
    if missing := [name for name in known if name not in given.names]:
        raise DataError(f"{given.where}: no column {missing[0]!r}, on which the model was trained")
    others = [column for column, name in enumerate(given.names) if name not in known]
    ids = [column for column in _ids(given) if column in others]
    rest = [column for column in others if column not in ids]
    lower = [given.names[column].lower() for column in rest]
    for name in [label.lower()] if label is not None else _LABELS:
        if name in lower:
            return ids, [rest[lower.index(name)]]
    return ids, rest if len(rest) == 1 else []


def _find(given: Columns, rest: list[int], n_features: int | None) -> list[int]:
    """The label's column, several if they are one-hot, or none; what is only guessed is said."""
    lower = [name.lower() for name in given.names]
    for name in _LABELS:
        if name in lower and lower.index(name) in rest:
            return [lower.index(name)]
    one_hot = [column for column in rest if lower and _one_hot_prefix(lower[column])]
    if len(one_hot) > 1 and _is_one_hot(given, one_hot):
        return one_hot
    if len(rest) == n_features:
        return []
    for column in (rest[-1], rest[0]) if lower and rest else ():
        if lower[column] in _LABELS_AT_AN_END:
            return _said(given, column, "by its name")
    texts = [column for column in rest if column in given.texts]
    if texts:
        column = texts[0] if len(texts) == 1 or texts[-1] != rest[-1] else texts[-1]
        n_classes = len(set(given[column].tolist()))
        return _said(given, column, f"which holds text ({n_classes} classes)")
    return _by_names(given, rest) if lower else _by_values(given, rest, _is_pixel_count(given, rest))


def _find_beside_block(given: Columns, rest: list[int]) -> list[int]:
    """The label of features that lie in another column."""
    lower = [given.names[column].lower() for column in rest]
    if named := [rest[lower.index(name)] for name in (*_LABELS, *_LABELS_AT_AN_END) if name in lower]:
        return named[:1]
    if column := next((column for column in rest if column in given.classes), None):
        return _said(given, column, f"which has {len(given.classes[column])} named classes")
    if len(rest) < 2:
        return rest
    names = [given.names[column] for column in rest]
    example = f"--label {names[0]!r}; the columns are {_listed(names)}"
    raise DataError(f"{given.where}: which column is the label? Name it, as in {example}")


def _classes_named(given: Columns, labels: list[int]) -> tuple[Hashable, ...]:
    """What whole numbers in the label's column stand for; () for themselves."""
    names = given.classes.get(labels[0], ()) if len(labels) == 1 else ()
    if names == tuple(map(str, range(len(names)))):
        return tuple(range(len(names)))
    return names


def _said(given: Columns, column: int, why: str) -> list[int]:
    place = given.called(column)
    logger.info("%s: the labels are taken from %s, %s; --label names another", given.where, place, why)
    return [column]


def _by_names(given: Columns, rest: list[int]) -> list[int]:
    pixels = [column for column in rest if _PIXELS.fullmatch(given.names[column])]
    numbered = pixels if len(pixels) > 1 else _numbered(given, rest)
    others = [column for column in rest if column not in numbered]
    if numbered and len(others) == 1 and len(numbered) > 1:
        return _said(given, others[0], "the only one that is not numbered")
    if pixels and not others:
        return []
    return _by_values(given, rest, _is_pixel_count(given, rest) and not others)


def _numbered(given: Columns, columns: list[int]) -> list[int]:
    """The columns whose names end in consecutive numbers behind the same word."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for column in columns:
        if match := _NUMBERED.fullmatch(given.names[column]):
            groups.setdefault(match[1], []).append((int(match[2][:9]), column))
    largest = max(groups.values(), key=len, default=[])
    numbers = [number for number, _ in largest]
    consecutive = numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False
    return [column for _, column in largest] if consecutive else []


def _one_hot_prefix(name: str) -> str:
    return next((label for label in _LABELS if re.fullmatch(rf"{label}([_ .:=-].+|\d+)", name)), "")


def _is_pixel_count(given: Columns, columns: list[int]) -> bool:
    return _side(len(columns)) >= _SIDE and len(given.numbers) > 0 and _range_of(given.select(columns)) != ""


def _by_values(given: Columns, rest: list[int], may_be_unlabelled: bool) -> list[int]:
    """The label's column, first or last, by its values."""
    if len(rest) < 2:
        raise DataError(f"{given.where}: a label and at least one feature are needed, but it has {len(rest)} column")
    first, last = (_classes(given[column]) for column in (rest[0], rest[-1]))
    block = _one_hot_block(given, rest)
    if block and (len(block) > 9 or not (last if block[0] == rest[0] else first)):
        start = given.called(block[0])
        logger.info("%s: %d one-hot columns, from %s on, are the labels", given.where, len(block), start)
        return block
    unlike = {column: _unlike_others(given, rest, column) for column in (rest[0], rest[-1])}
    column = _likelier(given, rest, first, last, unlike)
    if may_be_unlabelled and (column is None or unlike[column] < 0.5):
        return []
    if column is None:
        example = f"--label {given.names[rest[-1]]!r}" if given.names else "--label 0 or --label -1"
        columns = f"; the columns are {_listed(given.names)}" if given.names else ""
        raise DataError(f"{given.where}: which column is the label? Name it, as in {example}{columns}")
    return _said(given, column, f"which looks like {first if column == rest[0] else last} classes")


def _likelier(given: Columns, rest: list[int], first: int, last: int, unlike: dict[int, float]) -> int | None:
    """The first or the last column, or None if it cannot be told.   first, last : their classes, 0 for none."""
    if not first and not last:
        return None
    if not first:
        return rest[-1]
    if not last:
        # The numbers of rooms may come first, and the price last: the label must be the only column of its kind.
        named = given.names and not _numbered(given, rest)
        lonely = _range_of(given.select(rest)) or not any(_classes(given[column]) for column in rest[1:65])
        return rest[0] if lonely and not named and unlike[rest[0]] >= 0.3 else None
    a, b = unlike[rest[0]], unlike[rest[-1]]
    if max(a, b) > 1.5 * min(a, b) + 0.05:
        return rest[0] if a > b else rest[-1]
    if max(first, last) >= 3 * min(first, last):
        return rest[0] if first < last else rest[-1]
    return None


def _classes(column: NDArray[Any]) -> int:
    """How many classes a column may be labels of: 0 for a constant, fractions, or as many values as rows."""
    if not len(column) or not np.isfinite(column).all() or (np.rint(column) != column).any():
        return 0
    values = np.unique(column)
    n, low, high = len(values), float(values[0]), float(values[-1])
    if not 2 <= n <= min(1000, max(2, len(column) // 2)):
        return 0
    return n if n <= 10 or (low in (0, 1) and n >= (high - low + 1) / 2) else 0


def _unlike_others(given: Columns, rest: list[int], column: int) -> float:
    """How far a column's distribution is from the nearest one of another: total variation, 0 to 1."""
    others = [other for other in rest if other not in (rest[0], rest[-1])]
    near = sorted(others, key=lambda other: abs(other - column))[:32]
    chosen = sorted({*near, *others[:: 1 + len(others) // 64]})
    if not chosen:
        return 1.0
    rows = slice(None, None, 1 + len(given.numbers) // 2000)
    own, beside = given[column][rows], given.select(chosen)[rows]
    values, counts = np.unique(own, return_counts=True)
    distance, inside = np.zeros(len(chosen)), np.zeros(len(chosen))
    for value, share in zip(values[:256], counts[:256] / len(own), strict=True):
        found = (beside == value).mean(axis=0)
        distance += np.abs(found - share)
        inside += found
    return float((distance + 1 - inside).min() / 2)


def _one_hot_block(given: Columns, rest: list[int]) -> list[int]:
    """The first or the last columns, at least three, of which each row has a single 1 among zeros."""
    n = len(rest)
    for step in (-1, 1):
        order = rest[::step]
        total = np.zeros(len(given.numbers), np.int64)
        sizes = []
        for size in range(1, n):
            column = given[order[size - 1]]
            if ((column != 0) & (column != 1)).any():
                break
            total += column.astype(np.int64)
            if (total > 1).any():
                break
            if size > 2 and (total == 1).all():
                sizes.append(size)
        if sizes:
            # Columns of zeros beside the block, such as a picture's border, could belong to it.
            best = next((size for size in sizes if _side(n - size) >= _SIDE), 10 if 10 in sizes else sizes[0])
            return sorted(order[:best])
    return []


def _is_one_hot(given: Columns, columns: list[int]) -> bool:
    if not all(column in given.places or _is_truth(given[column]) for column in columns):
        return False
    block = _with_truths(given, columns).select(columns)
    return bool(((block == 0) | (block == 1)).all() and (block.sum(axis=1) == 1).all())


def _values(given: Columns, labels: list[int]) -> Any:
    """The labels as they are in the file: numbers or strings; of one-hot columns (n, k), or the columns' names."""
    if not labels:
        return None
    if len(labels) == 1:
        if labels[0] == given.block_place:
            return given.block
        column = given[labels[0]]
        if labels[0] not in given.texts:
            return np.ascontiguousarray(column)
        for i, value in enumerate(column.tolist()):
            if value in _NO_LABEL:
                raise DataError(f"{given.where}: the label of {given.entry(i)} is missing; leave out such rows")
        return column
    block = given.select(labels)
    names = [given.names[column] for column in labels] if given.names else []
    prefix = _one_hot_prefix(names[0].lower()) if names else ""
    if not prefix or not all(name.lower().startswith(prefix) for name in names):
        return block.astype(np.uint8)
    rests = [name[len(prefix) :].lstrip("_ .:=-") for name in names]
    whole = all(re.fullmatch(r"\d{1,9}", rest) for rest in rests)
    return np.array([int(rest) if whole else rest for rest in rests])[np.argmax(block, axis=1)]


# --- features --------------------------------------------------------------------------------------------------------


def _is_truth(column: NDArray[Any]) -> bool:
    return column.dtype == object and all(value.lower() in ("true", "false") for value in set(column.tolist()))


def _with_truths(given: Columns, wanted: list[int]) -> Columns:
    """The columns with those of True and False as numbers.   Raises DataError for other text in the wanted ones."""
    texts = [column for column in wanted if column in given.texts]
    if not texts:
        return given
    for column in texts:
        if not _is_truth(given[column]):
            value = given[column][0]
            raise DataError(
                f"{given.where}: {given.called(column)} holds text, such as {value[:40]!r}; encode it as numbers, "
                "leave it out, or, if it is the label, name it with --label"
            )
    added = np.stack([[value.lower() == "true" for value in given.texts[column].tolist()] for column in texts], axis=1)
    return replace(
        given,
        numbers=np.concatenate([given.numbers, added.astype(given.numbers.dtype)], axis=1),
        places=(*given.places, *texts),
        texts={column: text for column, text in given.texts.items() if column not in texts},
    )


def _features(given: Columns, features: list[int], columns: tuple[str, ...]) -> tuple[NDArray[Any], bool]:
    """The features, as pictures if they are pixels, and whether they are a table of anything else."""
    array = given.select(features)
    side, named = _side(len(features)), bool(columns) and all(map(_PIXELS.fullmatch, columns))
    numbered = not columns or len(_numbered(given, features)) == len(features)
    start = 0
    for part in _parts(array):
        if not (fine := np.isfinite(part)).all():
            row, at = np.argwhere(~fine)[0]
            place = f"{given.entry(start + int(row))}, {given.called(features[at])}"
            raise DataError(f"{given.where}: {part[row, at]} at {place}; fill it in, or leave out such rows")
        start += len(part)
    pixels = _range_of(array)
    others = 0 if pixels else sum(int(_is_other(part).sum()) for part in _parts(array))
    if named and array.size >= _DAMAGED and 10 * others > array.size:
        said = f"{float(array.min()):g} to {float(array.max()):g}"
        logger.info("%s: its pixels are numbers from %s, and read as any features are", given.where, said)
        named = numbered = False
    if pixels == "" and (named or (numbered and side >= _SIDE and 0 < others * _DAMAGED <= array.size)):
        row, column = _first_other(array)
        raise DataError(
            f"{given.where}: {array[row, column]:g} at {given.entry(row)}, {given.called(features[column])}, is no "
            "pixel; pixels are whole numbers in 0..255 or fractions in [0, 1]"
        )
    if named or (pixels and numbered and side >= _SIDE):
        array = array.astype(np.uint8 if pixels == "whole" else np.float32, order="C")
        return (array.reshape(len(array), side, side) if side > 1 else array), False
    large = array.dtype.kind == "f" and array.size > 0 and max(-float(array.min()), float(array.max())) > 2**24
    return array.astype(np.float64 if large else np.float32, order="C"), True


def _side(k: int) -> int:
    """The side of a square of k pixels; 0 if they form none."""
    side = math.isqrt(k)
    return side if side * side == k else 0


def _range_of(array: NDArray[Any]) -> str:
    """ "whole" for numbers in 0..255, "fraction" for numbers in [0, 1], "" for others: what pixels can be."""
    if not array.size or not (float(array.min()) >= 0 and float(array.max()) <= 255):
        return ""
    if array.dtype.kind != "f" or (array.max() > 1 and all((np.rint(part) == part).all() for part in _parts(array))):
        return "whole"
    return "fraction" if array.max() <= 1 else ""


def _is_other(part: NDArray[Any]) -> Any:
    return ~((part >= 0) & (part <= 255) & (np.rint(part) == part))


def _first_other(array: NDArray[Any]) -> tuple[int, int]:
    """The place of the first number that is no pixel."""
    fractions = bool(np.nanmax(array) <= 1)
    for start in range(0, len(array), 1000):
        part = array[start : start + 1000]
        found = np.argwhere(~((part >= 0) & (part <= 1)) if fractions else _is_other(part))
        if len(found):
            return start + int(found[0, 0]), int(found[0, 1])
    return 0, 0


def _parts(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Parts of some rows: the temporary arrays of a whole file would take as much as it."""
    return np.array_split(array, 1 + array.size // (1 << 20))
