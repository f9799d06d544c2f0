"""A batch in shards, and the one order in which what they yield is added.

A batch of n rows is cut into S shards, S a power of two; what is summed over the batch is summed over a binary tree of
the shards:

    sum(i, j) = sum(i, m) + sum(m, j),  m = (i + j) / 2 ;   sum(i, i + 1) = leaf(i)

Floating-point addition is not associative, so it is this tree, and not how many processes share it, that decides the
bits. Each process sums the subtree of its own shards; from there on the processes exchange and add, the nearest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from array_api_compat import array_namespace, device

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["bounds", "flat", "parted", "sum_of_processes", "tree_sum"]

Array = Any
T = TypeVar("T")

# Elements up to which half as many messages are worth more data and more additions.
FEW = 1 << 17


def bounds(n: int, shards: int, i: int) -> tuple[int, int]:
    """The first row of shard i of n rows, and the one after its last; their numbers of rows differ by 1 at most."""
    return i * n // shards, (i + 1) * n // shards


def tree_sum(first: int, last: int, leaf: Callable[[int], T], add: Callable[[T, T], T]) -> T:
    """The sum over the shards first to last - 1, a subtree: their number is a power of two that divides first.

    leaf : the value of a shard, computed when it is needed, so that log2(shards) values are there at a time.
    add : adds two values, the left one first.
    """
    if last - first == 1:
        return leaf(first)
    middle = (first + last) // 2
    left = tree_sum(first, middle, leaf, add)
    return add(left, tree_sum(middle, last, leaf, add))


def flat(arrays: Sequence[Array], multiple: int = 1, *, xp: Any = None) -> Float[Array, " n"]:
    """The elements of some arrays of one dtype in one row, with zeros at its end for a length that is a multiple."""
    xp = array_namespace(*arrays) if xp is None else xp
    rows = [xp.reshape(array, (-1,)) for array in arrays]
    over = -sum(row.shape[0] for row in rows) % multiple
    if over:
        rows = [*rows, xp.zeros(over, dtype=rows[0].dtype, device=device(rows[0]))]
    return xp.concat(rows)


def parted(row: Float[Array, " n"], shapes: Sequence[tuple[int, ...]], *, xp: Any = None) -> list[Array]:
    """The arrays of which flat made one row, by their shapes."""
    xp = array_namespace(row) if xp is None else xp
    arrays, start = [], 0
    for shape in shapes:
        size = 1
        for length in shape:
            size *= length
        arrays.append(xp.reshape(row[start : start + size], shape))
        start += size
    return arrays


def sum_of_processes(
    x: Float[Array, " n"], rank: int, size: int, exchange: Callable[..., Array], *, xp: Any = None
) -> Float[Array, " n"]:
    """The sum of what all processes hold, in the order of the tree, with the same bits on each of them.

        few elements (recursive doubling):  x <- x_low + x_high  for the pairs of ranks that differ in bit 0, 1, 2, ...
        many (recursive halving):  the same, but each of a pair adds only its half, and passes it back at the end

    Many are sent 2 n (size - 1) / size elements, few n log2(size), in half as many messages.

    x : n a multiple of size.   rank, size : this process's number and how many there are, a power of two.
    exchange : exchange(array, rank, both=False) sends an array to a rank, and returns the one of the same shape that
        it sends, or both as one, the lower rank's in front.
    Source: Thakur, Rabenseifner and Gropp 2005, section 4.5, with the nearest processes first.
    """
    xp = array_namespace(x) if xp is None else xp

    def doubled(x: Array) -> Array:
        for bit in range(size.bit_length() - 1):
            peer = rank ^ 1 << bit
            theirs = exchange(x, peer)
            x = x + theirs if rank < peer else theirs + x
        return x

    def halved(x: Array, distance: int) -> Array:
        if distance == size:
            return x
        peer, half = rank ^ distance, x.shape[0] // 2
        lower, upper = x[:half], x[half:]
        own = lower + exchange(upper, peer) if rank < peer else exchange(lower, peer) + upper
        return exchange(halved(own, 2 * distance), peer, both=True)

    return doubled(x) if x.shape[0] <= FEW else halved(x, 1)
