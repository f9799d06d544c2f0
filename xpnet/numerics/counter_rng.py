"""Uniform random numbers as a pure function of (seed, stream, step, index): the same bits on every library and device.

A stateful generator would have to be saved, moved and kept in step; a counter needs nothing of the kind. The draws are
a hash of the element's index under keys made from the seed, the stream (which layer, which use) and the step.

The arithmetic is on int32, which wraps around in every array library; uint32 would read better, but not every library
can add, shift and compare it. A right shift of a negative int32 drags its sign along, hence the masks. (A compiler may
assume that signed overflow never happens; that could only matter if a product were compared with its factors, and none
is.)
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace, device

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Int32

__all__ = ["bits", "uniform"]

Array = Any


def uniform(
    shape: tuple[int, ...],
    step: Int[Array, " 1"],
    *,
    seed: int,
    stream: int,
    dtype: Any,
    start: int | Array = 0,
    xp: Any = None,
) -> Float[Array, " ..."]:
    """Independent uniform draws in [0, 1), multiples of 2^-24, so that float32 and float64 hold the same numbers.

        u = (x >> 8) / 2^24,  x the bits

    shape : of the result.   dtype : a real floating dtype of xp.   step, seed, stream, start : as in bits.
    Returns an array of the given shape and dtype on step's device.
    """
    xp = array_namespace(step) if xp is None else xp
    words = bits(math.prod(shape), step, seed=seed, stream=stream, start=start, xp=xp)
    return xp.reshape(xp.astype((words >> 8) & 0xFFFFFF, dtype) * 2.0**-24, shape)


def bits(
    n: int, step: Int[Array, " 1"], *, seed: int, stream: int, start: int | Array = 0, xp: Any = None
) -> Int32[Array, " {n}"]:
    """Independent draws of 32 bits, all equally likely.

        x = mix(mix(golden i + k0) ^ k1),  i = start, start + 1, ...
        k0 = mix(step ^ a),  k1 = mix(mix(step + b) ^ a),  (a, b) = blake2(seed, stream)

    n : how many.   step : on the wanted device, >= 0; it may vary inside a compiled step.
    seed, stream : any integers; different pairs give independent draws.
    start : the index of the first element (one long sequence drawn in pieces), a number or an integer array of no axes.
    Returns an array on step's device.
    Source: the mixing function is lowbias32, Wellons 2018 (github.com/skeeto/hash-prospector).
    """
    xp = array_namespace(step) if xp is None else xp
    digest = hashlib.blake2s(f"{seed} {stream}".encode(), digest_size=8).digest()
    a = int.from_bytes(digest[:4], "little", signed=True)
    b = int.from_bytes(digest[4:], "little", signed=True)
    step = xp.astype(step, xp.int32)
    key0 = _mix(step ^ a)
    key1 = _mix(_mix(step + b) ^ a)
    first = start if isinstance(start, int) else 0
    index = xp.arange(first, first + n, dtype=xp.int32, device=device(step))
    if not isinstance(start, int):
        index = index + xp.astype(start, xp.int32)
    return _mix(_mix(index * -1640531527 + key0) ^ key1)


def _mix(x: Array) -> Array:
    """A bijection of the 32-bit integers in which every input bit flips every output bit about half of the time."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)
