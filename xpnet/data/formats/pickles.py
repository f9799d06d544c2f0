"""Pickles, in which theano and Nielsen's book publish MNIST, read without executing anything in them."""

import math
import os
import pickle  # nosec B403
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.data.packed import unpacked
from xpnet.errors import DataError
from xpnet.files import read_up_to

from .shared import MAX_BYTES, NUMBERS, shaped, split_of

__all__ = ["read_pickle"]


class _PickledDType:
    """Stands in for numpy.dtype while unpickling, since the real one can be driven into reading foreign memory."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not NUMBERS.fullmatch(code):
            named = code if isinstance(code, str) else type(code).__name__
            raise pickle.UnpicklingError(f"an array of {named} is not an array of numbers")
        self.plain = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in (">", "<"):
            self.plain = self.plain.newbyteorder(state[1])


class _Latin1:
    """Stands in for the bytes that Python 3 pickles as text; they are made once they are known to be needed."""

    def __init__(self, text: str, _encoding: object = None) -> None:
        self.text = text


class _PickledArray:
    """Stands in for numpy.ndarray while unpickling: keeps what the pickle says of an array until it can be checked."""

    def __init__(self, *_: object) -> None:
        self.fill(b"", _PickledDType("u1"), (0,), "C")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, fortran, content = state
        self.fill(content, dtype, shape, "F" if fortran is True or fortran == 1 else "C")

    def fill(self, content: Any, dtype: _PickledDType, shape: Any, order: Any) -> "_PickledArray":
        self.content, self.dtype, self.shape, self.order = content, dtype.plain, shape, order
        # Few and small, since their product is taken.
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and 0 <= side < 2**63 for side in shape[:5]):
            raise pickle.UnpicklingError("the shape of an array must be whole numbers")
        if len(shape) > 4:
            raise pickle.UnpicklingError(f"an array of {len(shape)} dimensions holds neither images nor labels")
        return self

    @property
    def nbytes(self) -> int:
        size: int = math.prod(self.shape) * self.dtype.itemsize
        return size

    def array(self) -> NDArray[Any]:
        content = self.content.text if isinstance(self.content, _Latin1) else self.content
        content = content.encode("latin1") if isinstance(content, str) else content
        if len(content) != self.nbytes:
            raise pickle.UnpicklingError(f"an array of shape {self.shape} and {self.dtype} has {len(content)} bytes")
        return shaped(content, self.dtype, self.shape, "F" if self.order == "F" else "C")


def _from_buffer(content: Any, dtype: _PickledDType, shape: Any, order: Any, *_: object) -> _PickledArray:
    return _PickledArray().fill(content, dtype, shape, order)


_PICKLED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDType,
    ("_codecs", "encode"): _Latin1,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _PickledArray),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


_OPCODES = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BYTEARRAY8 GLOBAL STACK_GLOBAL REDUCE "
    "BUILD EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS PUT BINPUT LONG_BINPUT MEMOIZE GET "
    "BINGET LONG_BINGET"
)
"""What arrays within tuples and lists take in protocols 0 to 5; not dictionaries, whose keys may be slow to hash."""

_DONE_BY: dict[int, Any] = {
    opcode: pickle._Unpickler.dispatch[opcode] for opcode in (getattr(pickle, name)[0] for name in _OPCODES.split())
}

MAX_OPCODES = 10_000
"""Six arrays take about two hundred."""


class _Opcodes(dict[int, Any]):
    """What does each opcode, so many times in all."""

    left = MAX_OPCODES

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if opcode not in self or self.left < 0:
            wrong = "is too long" if opcode in self else f"has the opcode 0x{opcode:02x}"
            raise pickle.UnpicklingError(f"it {wrong}, but only NumPy arrays are allowed")
        return super().__getitem__(opcode)


# Python's own implementation: the one in C can be made to allocate its memo table at any size.
class _ArraysOnly(pickle._Unpickler):
    """Unpickles NumPy arrays of numbers within tuples and lists; any other global is refused before it is imported."""

    read: Callable[[int], bytes]
    append: Callable[[object], None]

    def __init__(self, content: bytearray) -> None:
        super().__init__(BytesIO(content), encoding="latin1")
        self.dispatch = _Opcodes(_DONE_BY | {pickle.BYTEARRAY8[0]: _ArraysOnly.load_bytearray8})  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        """Python's own would allocate whatever size is declared."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(min(size, MAX_BYTES))))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, but only NumPy arrays are allowed")
        return _PICKLED[module, name]


def read_pickle(path: str | os.PathLike[str]) -> tuple[Split, Split, Split]:
    """Read a pickle of three (images, labels) pairs, as theano's and Nielsen's mnist.pkl.gz is, Python 2's included.

    Nothing in the file is executed: it can build arrays of numbers and nothing else.

    path : the file, gzip-compressed or not.
    Returns (train, validation, test).
    Raises DataError if it is damaged, has another form, or asks for any other global (which is named).
    """
    path = Path(path)
    with unpacked(path) as stream:
        content = read_up_to(stream, MAX_BYTES + 1)
    size = len(content)
    if size > MAX_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_BYTES} bytes, the cap")
    parts = ("train", "validation", "test")
    try:
        unpickler = _ArraysOnly(content)
        del content  # the unpickler has its own copy
        pairs = unpickler.load()
        if not isinstance(pairs, tuple | list) or len(pairs) != 3 or not all(map(_is_pair, pairs)):
            raise DataError(f"{path}: this pickle must hold three (images, labels) pairs of arrays: {', '.join(parts)}")
        entries = {id(entry): entry for pair in pairs for entry in pair}
        if sum(entry.nbytes for entry in entries.values()) > size:
            raise pickle.UnpicklingError("its arrays claim more bytes than it has")
        arrays = {key: entry.array() for key, entry in entries.items()}
        splits = [[arrays[id(entry)] for entry in pair] for pair in pairs]
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: this pickle is refused: {error}") from None
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can make the unpickler raise nearly anything
        raise DataError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from None
    del unpickler, pairs, entries, arrays
    train, validation, test = (
        split_of(images, labels, f"{path}: {part} split") for part, (images, labels) in zip(parts, splits, strict=True)
    )
    return train, validation, test


def _is_pair(pair: object) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(entry, _PickledArray) for entry in pair)
