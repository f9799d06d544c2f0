"""Arrays that have names, or an order, made into the splits that they are: x_train and y_train, images and labels."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.errors import DataError

__all__ = ["Role", "listed", "role_of", "roles_in", "splits_in_order", "splits_of", "texts"]

Shape = tuple[int, ...]

_PARTS = {"train": "train|training|tr", "test": "test|testing|t10k|te", "validation": "validation|valid|val|dev"}
_KINDS = {
    "features": "xs?|data|dataset|images?|imgs?|pictures?|samples?|features?|fea|inputs?|pixels?",
    "labels": "ys?|t|labels?|lbls?|targets?|class|classes|categor(?:y|ies)|outputs?|gnd",
}
_PART, _KIND = ("|".join(words.values()) for words in (_PARTS, _KINDS))
_NAMES = [re.compile(rf"(?P<part>{_PART})?(set)?(?P<kind>{_KIND})?"), re.compile(f"(?P<kind>{_KIND})(?P<part>{_PART})")]

_MAX_TEXTS = 10_000
"""Different labels; each becomes an object, which takes many times its bytes in the file."""

_MAX_ROWS_OF_TEXT = 1 << 21
_SHOWN = 12
logger = logging.getLogger("xpnet")


class Role(NamedTuple):
    """What an array is by its name.

    part : a key of _PARTS.   kind : features or labels.   prefix : what stands before them, such as "kmnist".
    clear : whether the name has both the part and the kind; a kind alone, as in X and y, is of the train part, and a
        part alone, as in train and train_labels, its features.
    """

    part: str
    kind: str
    prefix: str
    clear: bool


def role_of(name: str) -> Role | None:
    """What an array of this name is, whatever the case, the underscores and the plural; None for any other name."""
    words = re.findall(r"[a-z]+\d*|\d+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:200]).lower())
    for start in range(len(words)):
        for pattern in _NAMES:
            if match := pattern.fullmatch("".join(words[start:])):
                part, kind = _among(_PARTS, match["part"]), _among(_KINDS, match["kind"])
                if part or kind:
                    prefix = "-".join(words[:start])
                    return Role(part or "train", kind or "features", prefix, None not in (part, kind))
    return None


def _among(words: Mapping[str, str], word: str | None) -> str | None:
    return next((key for key, pattern in words.items() if word and re.fullmatch(pattern, word)), None)


def roles_in(shapes: Mapping[str, Shape], where: str) -> dict[str, tuple[str, str]]:
    """The names of each part's features and labels among arrays of some names and shapes.

    where : the beginning of an error message.
    Returns part -> (features, labels); train is among the parts.
    Raises DataError, listing the arrays, if they hold no pair, or more than one for a part.
    """
    sets: dict[str, dict[tuple[str, str], list[tuple[bool, str]]]] = {}
    for name in shapes:
        if role := role_of(name):
            found = sets.setdefault(role.prefix, {})
            found.setdefault((role.part, role.kind), []).append((role.clear, name))
    pairs = _pairs_in(sets, shapes, where)
    if not pairs:  # such as images and digit_labels
        together: dict[tuple[str, str], list[tuple[bool, str]]] = {}
        for found in sets.values():
            for kind, names in found.items():
                together.setdefault(kind, []).extend(names)
        pairs = _pairs_in(sets := {"": together}, shapes, where)
    if not pairs:
        raise DataError(f"{where}: holds {listed(shapes)}: name a pair x, y or x_train, y_train")
    if len(pairs) > 1:
        several = ", ".join(features for parts in pairs.values() for features, _ in parts.values())
        raise DataError(f"{where}: holds several sets ({several[:200]}); keep one of them")
    ((prefix, parts),) = pairs.items()
    if "train" not in parts:
        raise DataError(f"{where}: holds {listed(shapes)}, but no part to train on: name a pair x_train, y_train")
    for part in _PARTS:
        if part not in parts and (part, "features") in sets[prefix]:
            logger.warning("%s: %s has no labels; continuing without", where, sets[prefix][part, "features"][0][1])
    return parts


def _pairs_in(
    sets: Mapping[str, Mapping[tuple[str, str], list[tuple[bool, str]]]], shapes: Mapping[str, Shape], where: str
) -> dict[str, dict[str, tuple[str, str]]]:
    pairs = {
        prefix: {
            part: _pair(found[part, "features"], found[part, "labels"], shapes, where)
            for part in _PARTS
            if (part, "features") in found and (part, "labels") in found
        }
        for prefix, found in sets.items()
    }
    return {prefix: parts for prefix, parts in pairs.items() if parts}


def _pair(
    features: list[tuple[bool, str]], labels: list[tuple[bool, str]], shapes: Mapping[str, Shape], where: str
) -> tuple[str, str]:
    """The features and labels among the candidates for them, each with whether its name is clear.

    Features that are there twice, as in scikit-learn's digits, are read as the pictures, not as their rows.
    """
    xs, ys = ([name for clear, name in found if clear == max(found)[0]] for found in (features, labels))
    if len(ys) > 1:  # such as the classes' names beside them
        ys = [y for y in ys if shapes[y][:1] == shapes[xs[0]][:1]] or ys
    xs.sort(key=lambda x: -len(shapes[x]))
    if (
        len(ys) > 1
        or len({(shapes[x][:1], math.prod(shapes[x])) for x in xs}) > 1
        or len({*map(len, map(shapes.__getitem__, xs))}) < len(xs)
    ):
        either = xs if len(ys) == 1 else ys
        kind = "images" if either is xs else "labels"
        raise DataError(f"{where}: {' and '.join(either)[:200]} could both be its {kind}; keep one of them")
    return xs[0], ys[0]


def listed(shapes: Mapping[str, Shape]) -> str:
    """Arrays in words, such as "the arrays a (10, 3), b (10,)"."""
    if not shapes:
        return "no arrays"
    shown = ", ".join(f"{name[:40]} {str(tuple(shape))[:60]}" for name, shape in list(shapes.items())[:_SHOWN])
    return f"the arrays {shown}" + (f" and {len(shapes) - _SHOWN} more" if len(shapes) > _SHOWN else "")


def splits_of(arrays: Mapping[str, NDArray[Any]], where: str, by_columns: bool = False) -> dict[str, Split]:
    """The splits that named arrays are.

    arrays : numbers or text.   where : the beginning of an error message, the path.
    by_columns : whether the examples may be columns, as MATLAB's users keep them: the labels, which are as many, tell.
        Elsewhere only labels of the shape (1, n) do.
    Returns train and, where they are there, test and validation, as they are in the file.
    Raises DataError as roles_in does, and if features and labels differ in number.
    """
    parts = roles_in({name: array.shape for name, array in arrays.items()}, where)
    return {
        part: _split(arrays[features], arrays[labels], f"{where}: {part} split", (features, labels), by_columns)
        for part, (features, labels) in parts.items()
    }


def splits_in_order(arrays: Sequence[Any], where: str) -> dict[str, Split]:
    """The splits that arrays without names are, by their order and shapes.

    arrays : two or three pairs (X, y) of train, (validation,) test; a pair alone; or X_train, X_test, y_train, y_test
        or X_train, y_train, X_test, y_test, one behind the other.   where : as in splits_of.
    Raises DataError if they are none of these.
    """
    pairs = list(arrays)
    if all(isinstance(array, np.ndarray) for array in pairs):
        pairs = _pairs(pairs)
    if not 1 <= len(pairs) <= 3 or not all(
        isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(array, np.ndarray) for array in pair)
        for pair in pairs
    ):
        raise DataError(f"{where}: must hold one to three (images, labels) pairs of arrays: train, validation, test")
    parts = (("train",), ("train", "test"), ("train", "validation", "test"))[len(pairs) - 1]
    return {
        part: _split(*_labels_last(*pair), f"{where}: {part} split", ("images", "labels"))
        for part, pair in zip(parts, pairs, strict=True)
    }


def _pairs(arrays: list[NDArray[Any]]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """The pairs that 2, 4 or 6 arrays are: labels behind each features, or behind all of them."""
    half = len(arrays) // 2
    alternate = list(zip(arrays[::2], arrays[1::2], strict=False))
    behind = list(zip(arrays[:half], arrays[half:], strict=False))
    fits = [
        pairs
        for pairs in (alternate, behind)
        if all(x.ndim and y.ndim and len(x) == len(y) and _width(x) > _width(y) for x, y in pairs)
    ]
    return fits[0] if fits and len(arrays) % 2 == 0 else (alternate if len(arrays) == 2 else [])


def _width(array: NDArray[Any]) -> tuple[int, int]:
    return math.prod(array.shape[1:]), array.ndim


def _labels_last(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return (y, x) if x.ndim == 1 and y.ndim > 1 else (x, y)


def _split(x: NDArray[Any], y: NDArray[Any], where: str, names: tuple[str, str], by_columns: bool = False) -> Split:
    shape, shapes = x.shape, listed(dict(zip(names, (x.shape, y.shape), strict=True)))
    if x.ndim == 0 or y.ndim == 0:
        raise DataError(f"{where}: {shapes} are no images and labels")
    if y.ndim == 2 and 1 == y.shape[0] < x.shape[0]:
        y, by_columns = y[0], True
    if by_columns and x.ndim > 1 and x.shape[0] != y.shape[0]:
        if x.shape[-1] == y.shape[0]:
            x = _columns(x)
        elif x.shape[-1] == y.shape[-1]:
            x, y = _columns(x), _columns(y)
    if x.shape != shape:
        logger.info("%s: the examples are the columns", where)
    if len(x) != len(y):
        raise DataError(f"{where}: {len(x)} examples but {len(y)} labels ({shapes}); they must come in pairs")
    if x.dtype.kind in "USO":
        raise DataError(f"{where}: {names[0]} holds text; numbers are needed")
    x = np.ascontiguousarray(x)
    return Split(x, texts(y, where) if y.dtype.kind in "USO" else y, where=where, entry="image {}".format)


def _columns(array: NDArray[Any]) -> NDArray[Any]:
    """The array with its last axis, along which the examples lie, as the first."""
    return np.moveaxis(array, -1, 0)


def texts(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Text of a file as an array of objects, equal ones of which are the same.   Raises DataError if it is no text."""
    if array.size > _MAX_ROWS_OF_TEXT:
        raise DataError(f"{where}: {array.size} labels of text; the cap is {_MAX_ROWS_OF_TEXT}, so number the classes")
    unique, inverse = np.unique(array, return_inverse=True)
    if len(unique) > _MAX_TEXTS:
        raise DataError(f"{where}: {len(unique)} different texts are no classes; a column of names is no label")
    try:
        found = [word.decode() if isinstance(word, bytes) else word for word in unique.tolist()]
        for word in found:
            word.encode()
    except (ValueError, SystemError):  # half a character, or a number beyond all characters
        raise DataError(f"{where}: labels that are not Unicode text; save them as UTF-8") from None
    objects = np.empty(len(found), object)
    objects[:] = found
    return objects[inverse].reshape(array.shape)
