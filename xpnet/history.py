"""The figures of a run, an Epoch for each epoch, and history.csv, the file that holds them."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xpnet.errors import ModelError
from xpnet.files import write_atomically

__all__ = ["Epoch", "read_history", "write_history"]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of the history. Losses are means per example, accuracies in [0, 1]; None where there is no such split.

    The training figures are those of the batches as they were trained on: before each update, with dropout and
    distortion, and with label smoothing and the examples' weights in the loss, which the other splits' losses are
    without; learning_rate is that of the last step; seconds are training alone, without the evaluation.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    learning_rate: float
    seconds: float
    samples_per_second: float


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write history.csv, a line for each epoch, whole or not at all.   Raises OSError."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns())
    writer.writerows(dataclasses.astuple(epoch) for epoch in history)
    write_atomically(path, text.getvalue().encode())


def read_history(path: str | Path) -> list[Epoch]:
    """Read the history of a run.

    path : a run directory, or its history.csv.
    Returns an Epoch for each line.   Raises ModelError, one line, for a file that is missing or no history.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "history.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a run directory holds one") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not rows or rows[0] != _columns():
        raise ModelError(f"{path} is not the history of a run: its first line must be {','.join(_columns())}")
    history = []
    for number, row in enumerate(rows[1:], 2):
        try:
            history.append(_parse(row))
        except ValueError:
            raise ModelError(f"{path} is damaged: line {number} does not hold the figures of an epoch") from None
    return history


def _parse(row: list[str]) -> Epoch:
    """An epoch from its line.   Raises ValueError."""
    texts = dict(zip(_columns(), row, strict=True))
    needed = [f.name for f in dataclasses.fields(Epoch) if f.default is dataclasses.MISSING]
    values = {name: float(text) if text or name in needed else None for name, text in texts.items() if name != "epoch"}
    return Epoch(epoch=int(texts["epoch"]), **values)  # type: ignore[arg-type]


def _columns() -> list[str]:
    return [field.name for field in dataclasses.fields(Epoch)]
