"""The figures of a run, one Epoch for each epoch, and history.csv, the file that holds them."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnet.errors import ModelError
from xpnet.files import read_whole, write_atomically

__all__ = ["Epoch", "read_history", "write_history"]

MAX_BYTES = 1 << 23  # of a history
MAX_EPOCHS = 100_000


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of the history: losses are means per example, accuracies in [0, 1]; None if there is no such split.

    The test split is measured once, and has its figures in the line of the epoch whose parameters the run ends with,
    unless the settings have it measured after each epoch.

    A regression has the coefficient of determination, r2, instead of the accuracy; its losses are of scaled targets.

    The training figures are those of the batches as they were trained on: before each update, with dropout and
    distortion, and with label smoothing and the examples' weights in the loss, which the other splits' losses do
    without; learning_rate is that of the last step; seconds are of training only, without evaluation.
    """

    epoch: int
    train_loss: float
    train_accuracy: Any = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    train_r2: float | None = None
    validation_r2: float | None = None
    test_r2: float | None = None
    learning_rate: float
    seconds: float
    samples_per_second: float

    @property
    def judged_by(self) -> str:
        """The split whose figures count: test, or if it was not measured validation, or train."""
        return next(split for split in ("test", "validation", "train") if getattr(self, f"{split}_loss") is not None)

    def score(self, split: str) -> Any:
        """What a split is judged by: its accuracy or, of a regression, R2; None if it was not measured."""
        r2 = getattr(self, f"{split}_r2")
        return getattr(self, f"{split}_accuracy") if r2 is None else r2


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write history.csv, a line for each epoch, completely or not at all.   Raises OSError."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns("r2" if history and history[0].train_r2 is not None else "accuracy")
    writer.writerow(columns)
    writer.writerows([getattr(epoch, column) for column in columns] for epoch in history)
    write_atomically(path, text.getvalue().encode())


def read_history(path: str | Path) -> list[Epoch]:
    """Read the history of a run.

    path : a run directory, or its history.csv.
    Returns an Epoch for each line.   Raises ModelError for a file that is missing or not a history.
    """
    path = Path(path)
    if os.path.isdir(path):
        if (path / "model.safetensors").exists() and not (path / "history.csv").exists():
            raise ModelError(f"{path} holds a model without the history of its training, such as one that was imported")
        path = path / "history.csv"
    try:
        text = read_whole(path, MAX_BYTES).decode()
        return _parse(csv.reader(io.StringIO(text, newline="")))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; name a run directory") from None
    except ModelError as error:
        raise ModelError(f"{path} is {error}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _parse(rows: Iterator[list[str]]) -> list[Epoch]:
    """The epochs from the lines of a history.   Raises ModelError, and csv.Error."""
    head = next(rows, None)
    columns = next((names for names in map(_columns, ("accuracy", "r2")) if names == head), None)
    if columns is None:
        raise ModelError(f"not the history of a run: its first line must be {','.join(_columns('accuracy'))}")
    may_lack = {field.name: field.default is None for field in dataclasses.fields(Epoch)}
    optional = [may_lack[name] and not name.startswith("train") for name in columns]
    history: list[Epoch] = []
    for number, row in enumerate(rows, 2):
        if len(history) == MAX_EPOCHS:
            raise ModelError(f"too long: it has more than {MAX_EPOCHS} epochs")
        try:
            values = [None if may and not text else float(text) for text, may in zip(row, optional, strict=True)]
            history.append(Epoch(**dict(zip(columns, values, strict=True)) | {"epoch": int(row[0])}))  # type: ignore[arg-type]
        except ValueError:
            raise ModelError(f"damaged: line {number} does not hold the figures of an epoch") from None
    return history


def _columns(metric: str) -> list[str]:
    """The names of the columns, where a split is judged by a metric besides its loss."""
    splits = (f"{split}_{figure}" for split in ("train", "validation", "test") for figure in ("loss", metric))
    return ["epoch", *splits, "learning_rate", "seconds", "samples_per_second"]
