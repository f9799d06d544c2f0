"""Arrays, lists and tables as people have them, brought into the form that a Dataset keeps, or refused with the reason.

Arrays that lie on a GPU are examined there and stay there.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.arrays import is_on_host, namespace_of, to_numpy
from xpnet.data.mapped import Parts
from xpnet.errors import DataError

__all__ = [
    "TASKS",
    "Targets",
    "classes_of",
    "columns_of",
    "features_of",
    "in_order",
    "kept",
    "named",
    "positions_of",
    "refuse_alike",
    "targets_of",
]

Array = Any
Entry = Callable[[int], str]

TASKS = ("classification", "multilabel", "regression")

_SQUARE = 5
"""Rows of pixels, without a shape, become square pictures from this side on: 16 whole numbers are rather a table."""

_AT_ONCE = 1 << 20


class Targets(NamedTuple):
    """The targets of a split.

    task : one of TASKS.   values : classification, (n,) the class of each row, as integers or objects; otherwise
    (n, k) floats, for multilabel 0 or 1.   names : of the k columns, or of the classes that one-hot columns stood for.
    """

    task: str
    values: NDArray[Any]
    names: tuple[Hashable, ...] = ()


# --- features --------------------------------------------------------------------------------------------------------


def features_of(
    given: Any,
    where: str,
    entry: Entry = "row {}".format,
    columns: Sequence[str] = (),
    *,
    is_table: bool = False,
) -> Array:
    """Features in the form that a Dataset keeps.

    given : (n, k), (n, height, width), (n, height, width, 1) or (n, 1, height, width) real numbers: an array of any
        library, lists, or a DataFrame.   where : the beginning of an error message.   entry : names a row in it.
    columns : names of the features; those of a DataFrame are known.   is_table : whether rows stay rows of numbers.
    Returns (n, height, width) or (n, k): uint8 where they are whole numbers in 0..255, else float32 or, where that
        would lose digits, float64. Rows of a square number of pixels, at least 5 x 5, become pictures. An array on a
        GPU stays there.
    Parts, which are so already, stay in their files.
    Raises DataError, naming the first row and column that cannot be used.
    """
    if isinstance(given, Parts):
        return given
    names = columns_of(given) or list(columns) or None
    array = given if not is_on_host(given) else _numbers(given, where, "features", names, entry)
    xp = namespace_of(array)
    if not is_on_host(array):
        array = _real(array, xp, where)
    array = _reshaped(array, where)
    if array.shape[0] == 0 or math.prod(array.shape[1:]) == 0:
        raise DataError(f"{where}: no examples, or none with features (shape {tuple(array.shape)})")
    if array.dtype == xp.uint8 and not is_table:
        return _squared(array)
    floating = xp.isdtype(array.dtype, "real floating")
    if floating and not bool(xp.all(fine := xp.isfinite(array))):
        at = np.argwhere(~to_numpy(fine))[0]
        place = _place(at, names, entry)
        raise DataError(f"{where}: {to_numpy(array)[tuple(at)]} at {place}; fill in or leave out such values")
    low, high = float(xp.min(array)), float(xp.max(array))
    fits = low >= 0 and high <= 255
    whole = not floating or (fits and high > 1 and bool(xp.all(xp.round(array) == array)))
    if whole and fits and (array.ndim == 3 or (_side(array.shape[1]) and not is_table)):
        return _squared(xp.astype(array, xp.uint8))
    if not floating:
        array = xp.astype(array, xp.float32 if max(-low, high) <= 2**24 else xp.float64)
    elif array.dtype != xp.float64:
        array = xp.astype(array, xp.float32, copy=False)
    return _squared(array) if low >= 0 and high <= 1 and not is_table else array


def in_order(given: Any, columns: Sequence[str], where: str) -> Any:
    """A table's columns in the order of those that were trained on; anything else, and without names, as it is.

    Raises DataError if a column is missing.
    """
    names = columns_of(given)
    keys = getattr(given, "columns", names)
    if not columns or names is None or names == list(columns) or not isinstance(keys, Iterable):
        return given
    own = dict(zip(names, keys, strict=True))
    if missing := [name for name in columns if name not in own]:
        raise DataError(f"{where}: the column {missing[0]!r} is missing; those that were trained on are needed")
    return given[[own[name] for name in columns]]


def columns_of(given: Any) -> list[str] | None:
    """The names of the columns of a DataFrame or a structured array; None for anything else."""
    if isinstance(given, np.ndarray) and given.dtype.names:
        return list(given.dtype.names)
    columns = getattr(given, "columns", None)
    return None if columns is None or callable(columns) else [str(name) for name in columns]


def _side(k: int) -> int:
    """The side of the square picture whose pixels a row of k numbers may be; 0 for none."""
    side = math.isqrt(k)
    return side if side * side == k and side >= _SQUARE else 0


def _squared(array: Array) -> Array:
    if array.ndim == 2 and (side := _side(array.shape[1])):
        xp = namespace_of(array)
        return xp.reshape(array, (array.shape[0], side, side))
    return array


def _reshaped(array: Array, where: str) -> Array:
    """(n, k) or (n, height, width), the one channel of grey pictures left out."""
    xp, shape = namespace_of(array), tuple(array.shape)
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        return xp.reshape(array, shape[:3] if shape[3] == 1 else (shape[0], *shape[2:]))
    if len(shape) == 4 and {3, 4} & {shape[1], shape[3]}:
        raise DataError(f"{where}: pictures in colour, of shape {shape}; make them grey, as X.mean(axis=-1) does")
    if len(shape) == 1:
        raise DataError(f"{where}: features must be (n, k), not {shape}; X[:, None] is one column")
    if len(shape) not in (2, 3):
        raise DataError(f"{where}: features must be (n, k) or (n, height, width), not of shape {shape}")
    return array


def _real(array: Array, xp: Any, where: str) -> Array:
    if xp.isdtype(array.dtype, "bool"):
        return xp.astype(array, xp.uint8)
    if not xp.isdtype(array.dtype, ("integral", "real floating")):
        raise DataError(f"{where}: features must be real numbers, not {array.dtype}")
    return array


def _numbers(given: Any, where: str, what: str, columns: list[str] | None, entry: Entry) -> NDArray[Any]:
    """Real numbers as a NumPy array in native byte order; booleans become 0 and 1."""
    array = _as_array(given, where, what)
    if array.dtype.kind == "O" or array.dtype.kind in "US":
        array = _parsed(array, where, what, columns, entry)
    if array.dtype.kind not in "buif":
        raise DataError(f"{where}: {what} must be real numbers, not {array.dtype}")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype == np.float16 or array.dtype.itemsize > 8:
        return array.astype(np.float32 if array.dtype.itemsize < 8 else np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _as_array(given: Any, where: str, what: str) -> NDArray[Any]:
    if hasattr(given, "toarray") and hasattr(given, "nnz"):
        raise DataError(f"{where}: {what} in a sparse matrix; pass .toarray() of it")
    if getattr(given, "is_sparse", False) is True:
        raise DataError(f"{where}: {what} in a sparse tensor; pass .to_dense() of it")
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise DataError(f"{where}: {what} of which some are masked; fill them in, as .filled() does")
    if isinstance(given, np.ndarray) and given.dtype.names:
        from numpy.lib.recfunctions import structured_to_unstructured

        given = structured_to_unstructured(np.asarray(given))
    try:
        found = to_numpy(given)
    except (ValueError, TypeError) as error:
        if isinstance(error, ValueError) and "inhomogeneous" in str(error):
            raise DataError(f"{where}: {what} in rows of different lengths; all must have as many") from None
        raise DataError(f"{where}: {what} that NumPy cannot read ({error})") from None
    if found.ndim == 0:
        raise DataError(f"{where}: {what} must be an array, a list or a table, not {type(given).__name__}")
    return found


def _parsed(array: NDArray[Any], where: str, what: str, columns: list[str] | None, entry: Entry) -> NDArray[Any]:
    """Objects, such as those of a table with columns of several types, as float64."""
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    for at, value in np.ndenumerate(array):
        try:
            float(value)
        except (TypeError, ValueError):
            place = _place(np.array(at), columns, entry)
            shown = repr(str(value)) if isinstance(value, str) else str(value)
            missing = value is None or type(value).__name__ in ("NAType", "NaTType")
            advice = "fill it in" if missing else "encode it as a number, or leave the column out"
            if what == "targets" and not missing:
                advice = "the loss is for numbers, not for classes"
            raise DataError(f"{where}: {shown[:60]} at {place} is not a number; {advice}") from None
    raise DataError(f"{where}: {what} must be numbers, not {array.dtype}")


def _place(at: NDArray[np.intp], columns: list[str] | None, entry: Entry) -> str:
    """The place of a value in words."""
    if len(at) == 1:
        return entry(int(at[0]))
    if len(at) == 2:
        name = int(at[1]) if columns is None or at[1] >= len(columns) else repr(columns[at[1]])
        return f"{entry(int(at[0]))}, column {name}"
    return f"{entry(int(at[0]))}, pixel {tuple(map(int, at[1:]))}"


# --- targets ---------------------------------------------------------------------------------------------------------


def targets_of(given: Any, where: str, task: str = "auto", entry: Entry = "row {}".format) -> Targets:
    """The targets of a split, and what is to be learned from them.

    given : class labels (n,) or (n, 1) of any hashable kind, one-hot rows (n, k), or, for the other tasks, numbers
        (n,) or (n, k): an array of any library, a list, a Series or a DataFrame.
    task : one of TASKS, or "auto": rows of 0 and 1 are one-hot where each has a single 1, else multilabel; fractions,
        and columns of other numbers, are regression; all else is classification.
    Raises DataError, naming the first row that cannot be used.
    """
    columns = columns_of(given)
    names = () if columns is None else tuple(columns)
    array = _as_array(given, where, "labels")
    if array.ndim == 1 and array.dtype.kind in "US" and isinstance(given, list | tuple):  # NumPy makes text of numbers
        array = np.array([*given, None], object)[:-1]
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 0 or array.ndim > 2 or array.size == 0:
        raise DataError(f"{where}: labels must be (n,) or (n, k), not of shape {array.shape}")
    if array.ndim == 2:
        return _columns_of_targets(array, where, task, names, entry)
    if task in ("multilabel", "regression"):
        values = _finite(array[:, None], where, names, entry)
        return Targets(task, _binary(values, where, entry) if task == "multilabel" else values, names)
    values = _values(array, where, entry)
    if values.dtype.kind == "f":
        if task == "auto":
            return Targets("regression", values[:, None], names)
        fractions = np.flatnonzero(np.rint(values) != values)
        if not len(fractions):
            raise DataError(f"{where}: labels up to {np.abs(values).max():g} are too large to tell apart")
        i = int(fractions[0])
        raise DataError(
            f"{where}: label {values[i]:g} of {entry(i)} is a fraction; to predict numbers, choose the loss "
            "squared-error"
        )
    return Targets("classification", values, ())


def classes_of(values: NDArray[Any]) -> tuple[Hashable, ...]:
    """The classes that occur in the targets of a classification, in order: numbers by size, text by the alphabet."""
    if values.dtype.kind != "O":
        return tuple(np.unique(values).tolist())
    found = set(values.tolist())
    try:
        return tuple(sorted(found))
    except TypeError:
        return tuple(sorted(found, key=lambda value: (type(value).__name__, str(value))))


def kept(classes: Sequence[Hashable]) -> list[str | int | float]:
    """The classes as files keep them: what JSON lacks becomes text."""
    return [name if isinstance(name, str | int | float) else str(name) for name in classes]


def refuse_alike(classes: Sequence[Hashable], where: str) -> None:
    """Raise DataError for two classes that are one, or would be in a file."""
    known: dict[str | int | float, Hashable] = {}
    for name, text in zip(classes, kept(classes), strict=True):
        if text in known and name == known[text]:
            raise DataError(f"{where}: the class {name!r} is given twice")
        if text in known:
            raise DataError(
                f"{where}: the labels {known[text]!r} and {name!r} would both be {text!r} in a model file: give all "
                "labels one type, or one of these another name"
            )
        known[text] = name


def positions_of(
    targets: Targets, classes: Sequence[Hashable], where: str, entry: Entry = "row {}".format, whose: str = ""
) -> NDArray[np.int32]:
    """The position of each label of a classification among the classes: (n,) int32.

    Whole numbers are positions themselves among classes that are not whole numbers, and so are one-hot columns.
    whose : the classes, in the message for a label that is not one of them; by default those of the training split.
    Raises DataError for such a label.
    """
    values = targets.values
    whole = all(isinstance(name, int) and not isinstance(name, bool) for name in classes)
    if targets.names or (values.dtype.kind in "iu" and not whole):
        classes = range(len(classes))
    positions = {value: i for i, value in enumerate(classes)}
    if values.dtype.kind == "O":
        found = np.array([positions.get(value, -1) for value in values.tolist()], np.int32)
    else:
        found = np.empty(len(values), np.int32)
        for start in range(0, len(values), _AT_ONCE):  # in parts, since their order takes eight bytes for each label
            unique, inverse = np.unique(values[start : start + _AT_ONCE], return_inverse=True)
            there = np.array([positions.get(value, -1) for value in unique.tolist()], np.int32)
            found[start : start + _AT_ONCE] = there[inverse]
    bad = np.flatnonzero(found < 0)
    if bad.size:
        value = values[bad[0]] if values.dtype.kind == "O" else values[bad[0]].item()
        shown = ", ".join(map(repr, classes[:12])) + (" ..." if len(classes) > 12 else "")
        raise DataError(
            f"{where}: label {value!r} of {entry(int(bad[0]))} is not a class of {whose or 'the training split'}; "
            f"the classes are {shown}"
        )
    return found


def named(positions: NDArray[np.integer], classes: Sequence[Hashable]) -> NDArray[Any]:
    """The classes at some positions, as an array; the positions themselves where classes are numbered from 0."""
    kinds = {type(name) for name in classes}
    if tuple(classes) == tuple(range(len(classes))) and bool not in kinds:
        return positions
    names = np.empty(len(classes), object)
    names[:] = classes
    if len(kinds) == 1 and kinds <= {bool, int, float, str}:
        names = np.array(list(classes))
    found: NDArray[Any] = names[positions]
    return found


def _values(array: NDArray[Any], where: str, entry: Entry) -> NDArray[Any]:
    """Class labels as integers where they are whole numbers, as floats where one is a fraction, else as objects."""
    if array.dtype.kind == "f":
        if not (fine := np.isfinite(array)).all():
            raise DataError(f"{where}: the label of {entry(int(np.flatnonzero(~fine)[0]))} is missing")
        whole = bool((np.rint(array) == array).all()) and float(np.abs(array).max()) < 2**53
        return array.astype(np.int64) if whole else array.astype(np.float64)
    if array.dtype.kind in "iu":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    objects = np.empty(len(array), object)
    objects[:] = array.tolist()
    for i, value in enumerate(objects):
        if value is None or type(value).__name__ in ("NAType", "NaTType") or (value != value) is True:  # noqa: PLR0124
            raise DataError(f"{where}: the label of {entry(i)} is missing")
        if not isinstance(value, Hashable):
            raise DataError(f"{where}: the label of {entry(i)} is {type(value).__name__}, which cannot be a class")
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in objects)
    return _values(objects.astype(np.float64), where, entry) if numbers else objects


def _columns_of_targets(
    array: NDArray[Any], where: str, task: str, names: tuple[Hashable, ...], entry: Entry
) -> Targets:
    values = _finite(array, where, names, entry)
    binary = bool(((values == 0) | (values == 1)).all())
    if binary and task in ("auto", "classification") and bool((values.sum(axis=1) == 1).all()):
        return Targets("classification", np.argmax(values, axis=1), names or tuple(range(values.shape[1])))
    if task == "classification":
        raise DataError(
            f"{where}: labels of shape {array.shape}, but not one-hot, which is a single 1 in each row; for several "
            "labels a row the loss is binary-cross-entropy, for numbers squared-error"
        )
    if task == "multilabel" or (task == "auto" and binary):
        return Targets("multilabel", _binary(values, where, entry), names or tuple(range(values.shape[1])))
    return Targets("regression", values, names)


def _finite(array: NDArray[Any], where: str, names: tuple[Hashable, ...], entry: Entry) -> NDArray[Any]:
    columns = [str(name) for name in names] or None
    numbers = _numbers(array, where, "targets", columns, entry)
    numbers = numbers if numbers.dtype == np.float32 else numbers.astype(np.float64)
    if not (fine := np.isfinite(numbers)).all():
        at = np.argwhere(~fine)[0]
        raise DataError(f"{where}: target {numbers[tuple(at)]} at {_place(at, columns, entry)}; leave out such rows")
    return numbers


def _binary(values: NDArray[Any], where: str, entry: Entry) -> NDArray[Any]:
    bad = np.argwhere((values != 0) & (values != 1))
    if bad.size:
        i, j = bad[0]
        raise DataError(f"{where}: {values[i, j]:g} at {entry(int(i))}, column {j}; multilabel targets are 0 or 1")
    return values
