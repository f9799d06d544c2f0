"""Arrays in an HDF5 file, as h5py writes it for Keras. A damaged file can crash HDF5's own library.

This reader knows groups of symbol tables, and arrays of floats that lie there in one piece. Every address and size is
compared with what is there before it is used, and nothing is copied.

Source: HDF5 File Format Specification 3.0, superblock version 0.
"""

import math
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ModelError

__all__ = ["read_hdf5"]

MAX_NODES = 20_000  # messages, names and nodes of tables
MAX_PATH = 1000

_BEGINNING = b"\x89HDF\r\n\x1a\n\0"
_DATASPACE, _DATATYPE, _EXTERNAL, _LAYOUT, _FILTERS, _CONTINUATION, _TABLE = 0x1, 0x3, 0x7, 0x8, 0xB, 0x10, 0x11
_LINK = 2  # the kind of an entry that is but the name of another one

# The messages of the floats that IEEE 754 and NumPy have, from the bits to the bias of the exponent.
_FLOATS = {
    bytes.fromhex(text): np.dtype(name)
    for text, name in (
        ("11200f00 02000000 00001000 0a05000a 0f000000", "<f2"),
        ("11201f00 04000000 00002000 17080017 7f000000", "<f4"),
        ("11203f00 08000000 00004000 340b0034 ff030000", "<f8"),
    )
}


def read_hdf5(content: bytes) -> dict[str, NDArray[np.floating]]:
    """The arrays of floats in a file, by their paths, such as "layers/dense/vars/0"; they are not writable.

    Raises ModelError for a file that is damaged, has links, or keeps an array of floats packed or elsewhere.
    """
    try:
        return dict(_File(content).arrays())
    except ModelError:
        raise
    except (struct.error, ValueError, LookupError, OverflowError, MemoryError):
        raise ModelError("its weights are damaged, or not in an HDF5 file as Keras writes it") from None


class _File:
    def __init__(self, content: bytes) -> None:
        self._content, self._left = content, MAX_NODES
        # Version 0, with addresses and sizes of 8 bytes, from the beginning of the file.
        if content[:9] != _BEGINNING or content[13:15] != b"\x08\x08" or self._numbers("<Q", 24) != (0,):
            raise ValueError

    def arrays(self) -> Iterator[tuple[str, NDArray[np.floating]]]:
        """Paths and arrays, in any order."""
        (root,) = self._numbers("<Q", 64)
        waiting = [("", root)]
        while waiting:
            path, address = waiting.pop()
            if len(path) > MAX_PATH:
                raise ValueError
            messages = dict(self._messages(address))
            if _TABLE in messages:
                tree, heap = struct.unpack_from("<QQ", messages[_TABLE])
                for name, child in self._entries(tree, heap):
                    waiting.append((f"{path}/{name}" if path else name, child))
            elif _LAYOUT in messages and (array := self._array(messages, path)) is not None:
                yield path, array

    def _numbers(self, kinds: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(kinds, self._content, at)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ModelError("its weights are in more pieces than any plain MLP has")

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """The kind and content of each message in an object's header."""
        version, _, _, _, size = self._numbers("<BBHII", address)
        if version != 1:
            raise ValueError
        blocks = [(address + 16, size)]
        while blocks:
            at, size = blocks.pop()
            end = at + size
            while at + 8 <= end:
                self._count()
                kind, length = self._numbers("<HH", at)
                content = self._content[at + 8 : at + 8 + length]
                if len(content) != length:
                    raise ValueError
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack_from("<QQ", content))
                yield kind, content
                at += 8 + length

    def _entries(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """The names in a group, and the addresses of what has them."""
        (names,) = self._numbers("<Q", heap + 24)
        nodes = [tree]
        while nodes:
            node = nodes.pop()
            self._count()
            kind = self._content[node : node + 4]
            if kind == b"TREE":
                (used,) = self._numbers("<H", node + 6)
                nodes += [self._numbers("<Q", node + 32 + 16 * i)[0] for i in range(used)]
            elif kind == b"SNOD":
                (used,) = self._numbers("<H", node + 6)
                for at in range(node + 8, node + 8 + 40 * used, 40):
                    self._count()
                    offset, address, link = self._numbers("<QQI", at)
                    name = self._content[names + offset : self._content.index(b"\0", names + offset)].decode()
                    if link == _LINK:
                        raise ModelError(f"its weights refer to another place by {name!r}")
                    yield name, address
            else:
                raise ValueError

    def _array(self, messages: dict[int, bytes], path: str) -> NDArray[np.floating] | None:
        """The array that some messages describe; None of anything but floats."""
        dtype = _FLOATS.get(messages.get(_DATATYPE, b"")[:20])
        if dtype is None:
            return None
        space, layout = messages[_DATASPACE], messages[_LAYOUT]
        if messages.keys() & {_EXTERNAL, _FILTERS} or layout[:2] != b"\3\1":
            raise ModelError(f"its weights {path!r} are packed, or do not lie in the file itself")
        rank, first = space[1], {1: 8, 2: 4}[space[0]]
        shape = struct.unpack_from(f"<{rank}Q", space, first)
        address, size = struct.unpack_from("<QQ", layout, 2)
        if size != math.prod(shape) * dtype.itemsize:
            raise ValueError
        return np.frombuffer(self._content, dtype, math.prod(shape), address).reshape(shape)
