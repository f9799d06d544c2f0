"""Uniform random numbers as a pure function of (seed, stream, step, index): the same bits on every library and device.

A generator with a state would have to be saved, moved and kept in step; a counter needs none of it. The draws are a
hash of the element's index under keys made from the seed, the stream (which layer, which use) and the step.

The arithmetic is on int32, which wraps around in every array library; uint32 would read better, but not every library
can add, shift and compare it. A right shift of a negative int32 drags its sign along, hence the masks. (A compiler may
take signed overflow for impossible; nothing here compares a product with its factors, which is where that would show.)
"""

import hashlib
import math
from typing import Any

from array_api_compat import array_namespace, device

__all__ = ["uniform"]

Array = Any


def uniform(
    shape: tuple[int, ...], step: Array, *, seed: int, stream: int, dtype: Any, start: int = 0, xp: Any = None
) -> Array:
    """Independent uniform draws in [0, 1), multiples of 2^-24, so that float32 and float64 hold the same numbers.

        x = mix(mix(golden i + k0) ^ k1) >> 8,  i = start, start + 1, ... ;   u = x / 2^24
        k0 = mix(step ^ a),  k1 = mix(mix(step + b) ^ a),  (a, b) = blake2(seed, stream)

    shape : of the result.   step : (1,) integer array on the wanted device, >= 0; it may vary inside a compiled step.
    seed, stream : any integers; different pairs give independent draws.   dtype : a real floating dtype of xp.
    start : the index of the first element (one long sequence drawn in pieces).
    Returns an array of the given shape and dtype on step's device.
    Source: the mixing function is lowbias32, Wellons 2018 (github.com/skeeto/hash-prospector).
    """
    xp = array_namespace(step) if xp is None else xp
    digest = hashlib.blake2s(f"{seed} {stream}".encode(), digest_size=8).digest()
    a = int.from_bytes(digest[:4], "little", signed=True)
    b = int.from_bytes(digest[4:], "little", signed=True)
    step = xp.astype(step, xp.int32)
    key0 = _mix(step ^ a)
    key1 = _mix(_mix(step + b) ^ a)
    index = xp.arange(start, start + math.prod(shape), dtype=xp.int32, device=device(step))
    bits = _mix(_mix(index * -1640531527 + key0) ^ key1)
    return xp.reshape(xp.astype((bits >> 8) & 0xFFFFFF, dtype) * 2.0**-24, shape)


def _mix(x: Array) -> Array:
    """A bijection of the 32-bit integers in which every input bit flips every output bit about half of the time."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)
