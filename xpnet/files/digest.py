"""Digests of arrays, which identify them by their content."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["sha256_of"]


def sha256_of(arrays: Iterable[NDArray[Any]], about: bytes = b"") -> str:
    """The SHA-256, in hexadecimal, of some arrays: of each its dtype, its shape and its content in C order.

    arrays : of any shapes and dtypes, in the order in which they count.   about : what counts before them.
    """
    found = hashlib.sha256(about)
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
