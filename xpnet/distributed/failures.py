"""Errors that travel from one process to the others, pickled: what is read was written by the same program."""

import contextlib
import pickle  # nosec B403
import traceback
from typing import NamedTuple

__all__ = ["Failure"]


class Failure(NamedTuple):
    """An error of one process, which can be pickled whatever the error is.

    twins : the error, pickled, and what stands in for it where that cannot be read.   trace : its traceback.
    """

    twins: list[bytes]
    trace: str

    @classmethod
    def of(cls, error: BaseException, where: str = "") -> "Failure":
        """An error as the other processes shall raise it; where : the place that its message begins with there."""
        twins = [twin for kind in type(error).__mro__[:-1] if (twin := _twin(error, kind, where))]
        return cls(twins, "".join(traceback.format_exception(error)))

    def error(self) -> BaseException:
        """An equal error of the same type; if that cannot be had, one of the nearest of its bases that can."""
        for twin in self.twins:
            with contextlib.suppress(Exception):  # a type that this process does not have
                error: BaseException = pickle.loads(twin)  # nosec B301
                error.add_note(f"On the process where it was raised:\n{self.trace}")
                return error
        raise AssertionError("a BaseException can always be read")


def _twin(error: BaseException, kind: type[BaseException], where: str) -> bytes | None:
    """An equal error of one of its types, pickled, with the place before its message; None if it cannot be had."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    placed = bool(where) and not isinstance(error, KeyboardInterrupt | SystemExit)
    mark = f"{where}: " if placed else ""
    try:
        if kind is not type(error):
            twin = kind(f"{mark}{type(error).__name__}: {text}")
        elif placed and isinstance(error, OSError):
            twin = kind(mark + text)
        else:
            twin = pickle.loads(pickle.dumps(error))  # nosec B301
            twin.args = (mark + text,) if placed else twin.args
        pickled = pickle.dumps(twin)
        return pickled if mark in str(pickle.loads(pickled)) else None  # nosec B301
    except Exception:
        return None
