"""The tree of sums: who adds what in which order, and that several processes get the bits of one."""

import operator
from typing import Any

import numpy as np
import pytest

from tests.conftest import ArrayLibrary
from tests.team_of_threads import ThreadTeam, on_threads
from xpnet.numerics import shards
from xpnet.numerics.shards import bounds, flat, parted, sum_of_processes, tree_sum


@pytest.mark.parametrize("n", [0, 1, 5, 16, 64, 1000])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_the_shards_are_all_the_rows_in_equal_parts(n: int, count: int) -> None:
    parts = [bounds(n, count, i) for i in range(count)]
    assert [row for low, high in parts for row in range(low, high)] == list(range(n))
    sizes = [high - low for low, high in parts]
    assert max(sizes) - min(sizes) <= 1


def test_the_tree() -> None:
    def add(left: str, right: str) -> str:
        return f"({left}{right})"

    assert tree_sum(0, 8, str, add) == "(((01)(23))((45)(67)))"
    assert tree_sum(4, 8, str, add) == "((45)(67))"
    assert tree_sum(3, 4, str, add) == "3"


def test_at_most_log2_values_are_there_at_a_time() -> None:
    alive, most = 0, 0

    class Value:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    tree_sum(0, 32, lambda _: Value(), lambda left, right: left)
    assert most <= 6


def test_flat_and_parted(xp: ArrayLibrary) -> None:
    arrays = [xp(np.arange(float(n)).reshape(shape)) for n, shape in ((6, (2, 3)), (1, (1,)), (4, (4,)))]
    row = xp.numpy(flat(arrays, 4, xp=xp.xp))
    assert row.tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 1, 2, 3, 0]
    assert flat(arrays, xp=xp.xp).shape == (11,)
    back = parted(xp(row), [array.shape for array in arrays], xp=xp.xp)
    assert all((xp.numpy(a) == xp.numpy(b)).all() and a.shape == b.shape for a, b in zip(back, arrays, strict=True))


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("few", [0, 1 << 17])
def test_all_processes_have_the_bits_of_the_tree(size: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FEW", few)
    draws = np.random.default_rng(size)
    held = draws.standard_normal((size, 16 * size)).astype(np.float32) * 10.0 ** draws.integers(-6, 6, (size, 1))
    held = held.astype(np.float32)
    held[:, 0], held[:, 1], held[0, 2] = -0.0, np.nan, np.inf
    expected = tree_sum(0, size, lambda i: held[i], operator.add)
    totals = on_threads(size, lambda team: sum_of_processes(held[team.rank], team.rank, size, team.exchange, xp=np))
    for total in totals:
        assert total.tobytes() == expected.tobytes()
    if size >= 4:  # what is compared depends on the order
        assert held[:, 3:].sum(axis=0).tobytes() != expected[3:].tobytes()


@pytest.mark.parametrize("size", [2, 8])
def test_few_elements_are_sent(size: int) -> None:
    """2 n (size - 1) / size of many, and n log2(size) of few."""
    for n, expected in ((1 << 18, 2 * (1 << 18) * (size - 1) // size), (64, 64 * (size.bit_length() - 1))):
        sent = [0] * size

        def total(team: ThreadTeam, n: int = n, sent: list[int] = sent) -> Any:
            def counted(array: Any, peer: int, both: bool = False) -> Any:
                sent[team.rank] += array.size
                return team.exchange(array, peer, both)

            return sum_of_processes(np.ones(n, np.float32), team.rank, size, counted, xp=np)

        on_threads(size, total)
        assert sent == [expected] * size
