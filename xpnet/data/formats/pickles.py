"""Pickles of arrays in tuples, lists and dictionaries, read without executing anything in them."""

import math
import os
import pickle  # nosec B403
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Split
from xpnet.data.packed import Location, located, unpacked
from xpnet.errors import DataError
from xpnet.files import read_up_to

from .named import role_of, splits_in_order, splits_of
from .npz import TEXT
from .shared import MAX_BYTES, NUMBERS, shaped

__all__ = ["read_pickle"]


class _PickledDType:
    """Stands in for numpy.dtype while unpickling, since the real one can be driven into reading foreign memory."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not (NUMBERS.fullmatch(code) or TEXT.fullmatch(code) or code == "O8"):
            named = code[:40] if isinstance(code, str) else type(code).__name__
            raise pickle.UnpicklingError(f"an array of {named} is not an array of numbers or text")
        self.plain = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in (">", "<"):
            self.plain = self.plain.newbyteorder(state[1])


class _Latin1:
    """Stands in for the bytes that Python 3 pickles as text; they are made once they are known to be needed."""

    def __init__(self, text: str, _encoding: object = None) -> None:
        self.text = text


def _bytes_of(content: Any) -> Any:
    content = content.text if isinstance(content, _Latin1) else content
    return content.encode("latin1") if isinstance(content, str) else content


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
        content = _bytes_of(self.content)
        if len(content) != self.nbytes:
            raise pickle.UnpicklingError(f"an array of shape {self.shape} and {self.dtype} has {len(content)} bytes")
        return shaped(content, self.dtype, self.shape, "F" if self.order == "F" else "C")


def _from_buffer(content: Any, dtype: _PickledDType, shape: Any, order: Any, *_: object) -> _PickledArray:
    return _PickledArray().fill(content, dtype, shape, order)


def _scalar(dtype: _PickledDType, content: Any = b"") -> Any:
    content = _bytes_of(content)
    if dtype.plain.kind == "O" or len(content) != dtype.plain.itemsize:
        raise pickle.UnpicklingError(f"{len(content)} bytes are no number or text of {dtype.plain}")
    return np.frombuffer(content, dtype.plain)[0].item()


def _ordered() -> dict[str, Any]:
    return {}


_PICKLED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDType,
    ("_codecs", "encode"): _Latin1,
    ("collections", "OrderedDict"): _ordered,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _PickledArray),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


_OPCODES = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BYTEARRAY8 GLOBAL STACK_GLOBAL REDUCE "
    "BUILD EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS PUT "
    "BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET"
)
"""What arrays and numbers within tuples, lists and dictionaries take in protocols 0 to 5."""

_DONE_BY: dict[int, Any] = {
    opcode: pickle._Unpickler.dispatch[opcode] for opcode in (getattr(pickle, name)[0] for name in _OPCODES.split())
}

MAX_OPCODES = 600_000
"""Six arrays take about two hundred; a list of 70,000 labels one for each, or eight where they are NumPy's numbers."""

_FREE_OPCODES = 20_000
"""A packed file may have as many, and four for each of its bytes."""

_MAX_DEPTH = 4
_MAX_IN_ORDER = 6  # arrays, or pairs of them, one behind the other; what is longer holds an example in each entry
_MAX_TEXT = 200


class _Opcodes(dict[int, Any]):
    """What does each opcode, so many times in all."""

    left = 0

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if opcode not in self or self.left < 0:
            wrong = "is too long" if opcode in self else f"has the opcode 0x{opcode:02x}"
            raise pickle.UnpicklingError(f"it {wrong}, but only NumPy arrays are allowed")
        return super().__getitem__(opcode)


# Python's own implementation: the one in C can be made to allocate its memo table at any size.
class _ArraysOnly(pickle._Unpickler):
    """Unpickles NumPy arrays within tuples, lists and dictionaries; any other global is refused before its import."""

    read: Callable[[int], bytes]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]
    stack: list[Any]

    def __init__(self, content: bytearray, limit: int) -> None:
        super().__init__(BytesIO(content), encoding="latin1")
        own = {opcode[0]: vars(_ArraysOnly)[name] for opcode, name in _DONE_HERE.items()}
        self.dispatch = _Opcodes(_DONE_BY | own)  # type: ignore[misc]
        self.dispatch.left = limit

    def load_bytearray8(self) -> None:
        """Python's own would allocate whatever size is declared."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(min(size, MAX_BYTES))))

    def load_build(self) -> None:
        """Python's own would set the attributes of whatever it finds, our classes among them."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _PickledArray | _PickledDType):
            raise pickle.UnpicklingError(f"it changes a {type(self.stack[-1]).__name__}, but only arrays have a state")
        self.stack[-1].__setstate__(state)

    def load_dict(self) -> None:
        items = self.pop_mark()  # which also renews append
        self.append(self._filled({}, items))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._filled(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._filled(self.stack[-1], items)

    def _filled(self, found: Any, items: list[Any]) -> dict[str, Any]:
        """The dictionary with keys of text alone, whose hashes no file can foresee and so make equal."""
        if type(found) is not dict:
            raise pickle.UnpicklingError(f"it puts keys into a {type(found).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = key.text if isinstance(key, _Latin1) else key.decode("latin1") if isinstance(key, bytes) else key
            if type(name) is not str:
                raise pickle.UnpicklingError(f"a dictionary has a key of type {type(key).__name__}; text is needed")
            found[name] = value
        return found

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, but only NumPy arrays are allowed; save them by np.savez(path, X=X, y=y)"
            )
        return _PICKLED[module, name]


_DONE_HERE = {
    pickle.BYTEARRAY8: "load_bytearray8",
    pickle.BUILD: "load_build",
    pickle.DICT: "load_dict",
    pickle.SETITEM: "load_setitem",
    pickle.SETITEMS: "load_setitems",
}


def read_pickle(path: str | os.PathLike[str] | Location) -> dict[str, Split]:
    """Read a pickle of arrays: pairs (X, y), as theano's and Nielsen's mnist.pkl.gz has three, or a dictionary of them.

    Nothing in the file is executed: it can build arrays, numbers and text within tuples, lists and dictionaries, and
    nothing else. Lists of numbers or of text are arrays too, and so are arrays of one shape in a list.

    path : the file, gzip-compressed or not, of any protocol, Python 2's included.
    Returns train and, where they are there, test and validation, as they are in the file.
    Raises DataError if it is damaged, holds no pair (its arrays are listed), or asks for any other global (named).
    """
    path = located(path)
    with unpacked(path) as stream:
        content = read_up_to(stream, MAX_BYTES + 1)
    size = len(content)
    if size > MAX_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_BYTES} bytes, the cap")
    packed = path.stat().st_size if isinstance(path, Path) else size
    limit = min(MAX_OPCODES, _FREE_OPCODES + 4 * packed)
    try:
        unpickler = _ArraysOnly(content, limit)
        del content  # the unpickler has its own copy
        found = _Arrays(size, limit).within(unpickler.load())
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: this pickle is refused: {error}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can make the unpickler raise nearly anything
        raise DataError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from None
    del unpickler
    return splits_of(found, str(path)) if isinstance(found, dict) else splits_in_order(found, str(path))


class _Arrays:
    """Makes arrays of what was unpickled, and nothing twice.

    size : bytes of the file. What is there once may be referred to a thousand times, so all that is made is counted.
    limit : numbers in lists of lists.
    """

    def __init__(self, size: int, limit: int) -> None:
        self._claimed = self._stacked = size
        self._listed = limit
        self._made: dict[int, NDArray[Any] | None] = {}
        self._seen: set[int] = set()

    def within(self, value: Any) -> dict[str, NDArray[Any]] | list[Any]:
        """The arrays by name, those of nested dictionaries as "train_x"; or the arrays, or pairs of them, in order."""
        if isinstance(value, dict):
            return dict(self._named(value, ""))
        if not isinstance(value, tuple | list):
            return []
        if len(value) <= _MAX_IN_ORDER:
            return [self._array(entry) if self._array(entry) is not None else self._pair(entry) for entry in value]
        if all(isinstance(entry, tuple | list) and len(entry) == 2 for entry in value):  # a pair for each example
            return [self._of_list([entry[i] for entry in value]) for i in (0, 1)]
        return []

    def _pair(self, value: Any) -> list[NDArray[Any] | None]:
        isa = isinstance(value, tuple | list) and len(value) == 2
        return [self._array(entry) for entry in value] if isa else []

    def _named(self, value: dict[str, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, NDArray[Any]]]:
        if id(value) in self._seen or depth > _MAX_DEPTH:
            return
        self._seen.add(id(value))
        for key, entry in value.items():
            name = f"{prefix}_{key}" if prefix else key
            if isinstance(entry, dict):
                yield from self._named(entry, name, depth + 1)
            elif (array := self._array(entry)) is not None:
                yield name, array
            elif (role := role_of(f"{name}_x")) and role.clear and len(pair := self._pair(entry)) == 2:
                yield from (
                    (f"{name}_{kind}", array) for kind, array in zip("xy", pair, strict=True) if array is not None
                )

    def _array(self, value: Any) -> NDArray[Any] | None:
        """The array that a value is; None if it is none."""
        if isinstance(value, _PickledArray | tuple | list) and id(value) not in self._made:
            self._made[id(value)] = self._unpacked(value) if isinstance(value, _PickledArray) else self._of_list(value)
        return self._made.get(id(value))

    def _unpacked(self, value: _PickledArray) -> NDArray[Any] | None:
        if value.dtype.kind == "O":  # text, in a list
            found = self._of_list(value.content) if isinstance(value.content, list) else None
            return found if found is None or found.shape != (math.prod(value.shape),) else found.reshape(value.shape)
        self._claimed -= value.nbytes
        if self._claimed < 0:
            raise pickle.UnpicklingError("its arrays claim more bytes than it has")
        return value.array()

    def _of_list(self, value: Sequence[Any]) -> NDArray[Any] | None:
        entries, shape = list(value), [len(value)]
        while entries and isinstance(entries[0], tuple | list) and len(shape) < _MAX_DEPTH:
            width = len(entries[0])
            self._listed -= len(entries) * width
            if self._listed < 0:
                raise pickle.UnpicklingError("its lists hold too many numbers; arrays of them are needed")
            if not all(isinstance(entry, tuple | list) and len(entry) == width for entry in entries):
                return None
            entries, shape = [number for entry in entries for number in entry], [*shape, width]
        kinds = set(map(type, entries))
        if kinds == {_PickledArray} and entries[0].dtype.kind != "O" and len(entries) > 2:  # two are a pair
            return self._of_arrays(entries, shape)
        if kinds == {str} and max(map(len, entries)) <= _MAX_TEXT:
            texts = np.empty(len(entries), object)
            texts[:] = entries
            return texts.reshape(shape)
        if not kinds or not kinds <= {int, float, bool}:
            return None
        numbers = np.array(entries)
        return numbers.reshape(shape) if numbers.dtype.kind in "buif" else None

    def _of_arrays(self, entries: list[_PickledArray], shape: list[int]) -> NDArray[Any] | None:
        if len({(entry.shape, entry.dtype) for entry in entries}) > 1:
            return None
        self._stacked -= len(entries) * entries[0].nbytes
        if self._stacked < 0:
            raise pickle.UnpicklingError("its lists of arrays claim more bytes than it has")
        arrays = [self._array(entry) for entry in entries]
        return np.stack(arrays).reshape(*shape, *entries[0].shape)  # type: ignore[arg-type]
