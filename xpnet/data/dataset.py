"""The result of every reader: images and labels in splits, checked once, when they are put together."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from xpnet.backend.arrays import namespace_of
from xpnet.checks import check_one_of
from xpnet.data.arrays import (
    classes_of,
    columns_of,
    features_of,
    in_order,
    named,
    positions_of,
    refuse_alike,
    targets_of,
)
from xpnet.data.mapped import Parts, rows_of
from xpnet.data.schema import SCALES, form_of
from xpnet.display import html_table
from xpnet.errors import DataError

__all__ = ["Dataset", "Split"]


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Examples and their labels; `images, labels = split` takes them apart.

    images : (n, height, width) pictures or (n, k) rows of features: in a Dataset uint8, float32 or float64, an
        np.memmap if they are too large for the memory, or Parts (both to be read by rows_of), or an array on a GPU.
        Before they are put into a Dataset they may be anything that features_of takes.
    labels : as the user calls them, (n,) or (n, k); before, anything that targets_of takes; None if there are none.
    targets : in a Dataset the labels in the form that training takes: classification (n,) int32, the position of each
        label in Dataset.classes; multilabel and regression (n, k) floats. Those beside Parts are Parts.
    """

    images: Any
    labels: Any
    targets: Any = field(default=None, kw_only=True)
    where: str = field(default="", kw_only=True)
    """The beginning of an error message; "" for the name of the split."""
    labels_where: str = field(default="", kw_only=True)
    """The same for the labels, where they lie in a file of their own."""
    entry: Callable[[int], str] = field(default="row {}".format, kw_only=True)
    """Names an example in an error message, by its index."""
    ids: Any = field(default=None, kw_only=True)
    """What the examples are called where they come from, (n,); None for nothing."""
    columns: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of the features of a table, where they have some."""
    is_table: bool = field(default=False, kw_only=True)
    """Whether rows are features of a table, and no pictures even if they could be."""
    checked: bool = field(default=False, kw_only=True)
    """Whether a Dataset has brought them into its form."""

    def __iter__(self) -> Iterator[Any]:
        yield self.images
        yield self.labels

    def __len__(self) -> int:
        return int(self.images.shape[0]) if hasattr(self.images, "shape") else len(self.images)

    def __getitem__(self, rows: Any) -> Any:
        """Some examples, by a slice or by indices: a Split; one, by its index: (image, label)."""
        images = rows_of(self.images, rows) if isinstance(rows, np.ndarray) else self.images[rows, ...]
        labels = None if self.labels is None else self.labels[rows]
        if isinstance(rows, int | np.integer):
            return images, labels
        same = self.targets is self.labels or self.targets is None
        ids = None if self.ids is None else self.ids[rows]
        return replace(self, images=images, labels=labels, targets=labels if same else self.targets[rows], ids=ids)

    def _repr_html_(self) -> str:
        rows = {"images": _described(self.images)}
        rows |= {} if self.labels is None else {"labels": _described(self.labels)}
        return html_table(f"Split of {len(self):,}", rows)

    def __repr__(self) -> str:
        labels = "" if self.labels is None else f", labels {_described(self.labels)}"
        return f"<Split of {len(self):,}: images {_described(self.images)}{labels}>"


def _described(array: Any) -> str:
    shape = getattr(array, "shape", None)
    return type(array).__name__ if shape is None else f"{array.dtype} {tuple(shape)}"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples with their labels, in splits, checked and brought into one form when they are put together.

    name : of the set in headers, configurations and model files.
    train, test, validation : the splits, as Split or as a pair (X, y); test and validation may be absent (None).
    n_classes : of classes 0, 1, ...; 0 to find them.   source : the path it was read from, or another origin.
    classes : what each label stands for, of any hashable kind; () for those that occur in the training split. Whole
        numbers are positions among classes that have other names.
    scale : how the features are to be scaled, one of SCALES; see TrainConfig.scale.
    task : "classification", "multilabel" or "regression"; "auto" decides by the labels (see targets_of); "unlabelled"
        where there are none.
    form : the form of its pictures, as read_picture takes it; "" to recognise it.
    columns : names of the features, where they have some.
    Raises DataError, naming the split, if a split is empty, features and labels differ in number, shapes differ between
    splits, a feature is not a finite number, a label is not a class, all labels are the same, or they are so many that
    they are hardly classes.
    """

    name: str
    train: Split
    test: Split | None = None
    validation: Split | None = None
    n_classes: int = 0
    source: str = "memory"
    classes: tuple[Hashable, ...] = ()
    scale: str = "auto"
    task: str = "auto"
    form: str = ""
    columns: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        y: Any,
        *,
        test: Any = None,
        validation: Any = None,
        classes: Sequence[Hashable] = (),
        name: str = "arrays",
        scale: str | None = "auto",
        task: str = "auto",
    ) -> Self:
        """A data set of arrays.

        X : features, as in features_of: NumPy, torch, JAX or CuPy arrays, lists, DataFrames.
        y : labels, as in targets_of.
        test, validation : pairs (X, y), or None.   classes, name, scale, task : as in Dataset; scale None is "none".
        Raises DataError.
        """
        scale = "none" if scale is None else scale
        return cls(name, Split(X, y), test, validation, classes=tuple(classes), scale=scale, task=task)

    def __post_init__(self) -> None:
        check_one_of("scale", self.scale, SCALES)
        splits = {part: _as_split(split, part) for part, split in self._splits().items()}
        if self.task == "auto" or not all(split.checked for split in splits.values()):
            splits = self._checked(splits)
        for part, split in splits.items():
            object.__setattr__(self, part, split)
        if not self.n_classes:
            object.__setattr__(self, "n_classes", len(self.classes))
        for part, split in splits.items():
            if tuple(split.images.shape[1:]) != self.image_shape:
                raise DataError(
                    f"{self._where(part)}: examples of shape {tuple(split.images.shape[1:])}, but those of the "
                    f"train split are {self.image_shape}"
                )

    def _where(self, part: str) -> str:
        """The beginning of an error message about a split."""
        return f"{part} split" if self.source == "memory" else f"{self.source}: {part} split"

    def _splits(self) -> dict[str, Any]:
        splits = {"train": self.train, "test": self.test, "validation": self.validation}
        return {part: split for part, split in splits.items() if split is not None}

    def _checked(self, splits: dict[str, Split]) -> dict[str, Split]:
        """The splits in the form of a Dataset; sets task, classes and columns."""
        if columns := splits["train"].columns or columns_of(splits["train"].images):
            object.__setattr__(self, "columns", tuple(columns))
        found: dict[str, Split] = {}
        anew = self.task == "auto"  # a split of another set says nothing of the task, nor of the classes
        for part, split in splits.items():
            where = split.where or self._where(part)
            if split.checked and not anew:
                found[part] = split
                continue
            images = in_order(split.images, self.columns, where)
            images = features_of(images, where, split.entry, split.columns, is_table=split.is_table)
            labels, targets = self._labels(split, split.labels_where or where)
            if (labels is None) != (splits["train"].labels is None):
                raise DataError(f"{where}: some splits have labels, others have none")
            if labels is not None and len(labels) != images.shape[0]:
                raise DataError(
                    f"{where}: {images.shape[0]} examples but {len(labels)} labels; they must come in pairs"
                )
            found[part] = replace(
                split, images=images, labels=labels, targets=targets, where="", entry="row {}".format, checked=True
            )
        return _alike(found)

    def _labels(self, split: Split, where: str) -> tuple[Any, Any]:
        """The labels and the targets of a split; the train split comes first and decides the task and the classes."""
        if split.labels is None:
            object.__setattr__(self, "task", "unlabelled")
            return None, None
        found = targets_of(split.labels, where, self.task, split.entry)
        decided = self.task == "auto"
        if decided:
            object.__setattr__(self, "task", found.task)
        if self.task != "classification":
            if not self.classes and found.names:
                object.__setattr__(self, "classes", found.names)
            return found.values if found.values.shape[1] > 1 else found.values[:, 0], found.values
        classes = self.classes or found.names or tuple(range(self.n_classes))
        if not classes:
            classes = classes_of(found.values)
            if len(classes) == 1 and decided:  # for a model, whose task is known, there may be one
                raise DataError(f"{where}: every label is {classes[0]!r}; at least two classes are needed")
            k, n = len(classes), len(found.values)
            # Numbers of which hardly one comes twice are measurements, unless they number classes without many gaps.
            numbers = decided and found.values.dtype.kind in "iu" and k > 20 and n < 3 * k
            if k > max(100, n // 2) or (numbers and int(np.ptp(found.values)) > 1.3 * k):
                raise DataError(
                    f"{where}: {k} different labels for {n} rows are hardly classes; to predict numbers, the task is "
                    "regression; if they are classes, it is classification; a column of identifiers is no label"
                )
        refuse_alike(classes, where)
        object.__setattr__(self, "classes", classes)
        targets = positions_of(found, classes, where, split.entry)
        return named(targets, classes), targets

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example: (height, width), or (n_features,) for a row of features."""
        return tuple(self.train.images.shape[1:])

    @property
    def picture_form(self) -> str:
        """The form of its pictures: as given, or recognised."""
        return self.form or form_of(self.train.images)

    @property
    def n_features(self) -> int:
        """Number of pixels or features of one example: the network's input size."""
        return math.prod(self.image_shape)

    @property
    def n_outputs(self) -> int:
        """Number of outputs of a network for this set: its classes, or its columns of targets."""
        if self.train.targets is None or self.task == "classification":
            return self.n_classes
        return int(self.train.targets.shape[1])

    def take(self, n: int) -> "Dataset":
        """The same set with the first n training examples only.   Raises DataError if there are not as many."""
        if not 1 <= n <= len(self):
            raise DataError(f"{self.name} has {len(self)} training examples; take 1 to {len(self)} of them")
        return replace(self, train=self.train[:n])

    def __len__(self) -> int:
        return len(self.train)

    def _repr_html_(self) -> str:
        rows: dict[str, Any] = {part: f"{len(split):,} examples" for part, split in self._splits().items()}
        rows["features"] = f"{'x'.join(map(str, self.image_shape))} {self.train.images.dtype}"
        if self.task == "classification":
            rows["classes"] = ", ".join(map(str, self.classes[:12])) + (" ..." if len(self.classes) > 12 else "")
        return html_table(f"Dataset {self.name}", {**rows, "task": self.task, "source": self.source})

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(split):,} {part}" for part, split in self._splits().items())
        kind = f"{self.n_classes} classes" if self.task == "classification" else self.task
        shape = "x".join(map(str, self.image_shape))
        return f"<Dataset {self.name}: {counts}; {shape} {self.train.images.dtype}, {kind}>"


def _as_split(given: Any, part: str) -> Split:
    if isinstance(given, Split):
        return given
    if isinstance(given, tuple | list) and len(given) == 2:
        return Split(*given)
    kind = type(given).__name__ + (f" of {len(given)}" if isinstance(given, tuple | list) else "")
    raise DataError(f"{part} must be a pair (X, y) of features and labels, not {kind}")


def _alike(splits: dict[str, Split]) -> dict[str, Split]:
    """The splits with features of one type and one shape.

    One split's numbers may all be whole, or look like pixels, where the others' do not.
    """
    images = {part: split.images for part, split in splits.items()}
    if len({(str(a.dtype), a.ndim) for a in images.values()}) == 1:
        return splits
    for part, array in images.items():
        if isinstance(array, Parts):
            raise DataError(f"the {part} split is in parts and stays as it is: images of bytes, unlike other splits")
    xp = namespace_of(images["train"])
    if {a.ndim for a in images.values()} == {2, 3} and len({math.prod(a.shape[1:]) for a in images.values()}) == 1:
        images = {part: xp.reshape(a, (a.shape[0], -1)) for part, a in images.items()}
    kinds = {str(a.dtype).rpartition(".")[2] for a in images.values()}
    if len(kinds) > 1:
        dtype = xp.float64 if "float64" in kinds else xp.float32
        images = {part: xp.astype(a, dtype, copy=False) for part, a in images.items()}
    return {part: replace(split, images=images[part]) for part, split in splits.items()}
