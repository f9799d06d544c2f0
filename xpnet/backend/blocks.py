"""An update rule in blocks: its operations are elementwise, and are done where the caches still hold what they read.

A rule passes over its arrays four to a dozen times. Those of millions of parameters come from memory again in each
pass; those of a block stay in a core's cache. However the arrays are cut, each element is computed as before, so the
bits are the same.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpnet.optim import Update

__all__ = ["in_blocks"]

Arrays = list[Any]

BLOCK, ENOUGH = 1 << 17, 1 << 21
"""Elements of a block, and those from which on blocks pay.

Measured on a core with a megabyte of cache, in whole steps of batch 256: at 12 million parameters and momentum 0.90 of
the time, at 4 million and AdamW 0.97, and below that nothing. A quarter or twice of a block's size is no better. Blocks
on a second thread are slower, although it is idle: there, BLAS threads keep looking for the next product.
"""

Stretch = tuple[int, slice]
"""A part of an array: the array's place in its list, and the elements."""


def in_blocks(update: "Update") -> "Update":
    """The same update rule of NumPy arrays, block by block where there are many parameters.

    update : as optim.Update; elementwise but for the count of the updates, which may be the state's last array.
    """

    def updated(params: Arrays, state: Arrays, grads: Arrays, **options: Any) -> tuple[Arrays, Arrays]:
        sizes = tuple(p.size for p in params)
        if sum(sizes) < ENOUGH:
            return update(params, state, grads, **options)
        n_slots, n_counts = divmod(len(state), len(params))
        slots = [state[i * len(params) : (i + 1) * len(params)] for i in range(n_slots)]
        counts = state[len(state) - n_counts :]
        blocks = _blocks(sizes)
        # Each block counts for itself, from the same number; the last one has the array that is kept.
        counting = [[count.copy() for count in counts] for _ in blocks[1:]] + [counts]
        for block, own_counts in zip(blocks, counting, strict=True):
            own, *own_slots, own_grads = (_cut(arrays, block) for arrays in (params, *slots, grads))
            update(own, [*itertools.chain(*own_slots), *own_counts], own_grads, **options)
        return params, state

    return updated


@functools.cache
def _blocks(sizes: tuple[int, ...]) -> list[list[Stretch]]:
    """Stretches of arrays of these sizes, grouped to at most BLOCK elements each."""
    blocks: list[list[Stretch]] = []
    room = 0
    for i, size in enumerate(sizes):
        count = math.ceil(size / BLOCK)
        for k in range(count):
            start, end = size * k // count, size * (k + 1) // count
            if end - start > room:
                blocks.append([])
                room = BLOCK
            blocks[-1].append((i, slice(start, end)))
            room -= end - start
    return blocks


def _cut(arrays: Sequence[Any], block: list[Stretch]) -> Arrays:
    """Views of the arrays' stretches.   Raises ValueError where an array is not contiguous."""
    return [arrays[i].reshape(-1, copy=False)[elements] for i, elements in block]
