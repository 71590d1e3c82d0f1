from __future__ import annotations

import random

import numpy as np
import pytest

from lhcc.runtime.memory import ALIGNMENT, HUGE_PAGE, Lifetime, allocate, most_alive, plan


@pytest.mark.parametrize("seed", range(30))
def test_no_two_live_buffers_share_a_byte(seed: int) -> None:
    rng = random.Random(seed)
    buffers = []
    for _ in range(rng.randint(1, 40)):
        first = rng.randint(0, 30)
        buffers.append(
            Lifetime(rng.choice([0, 1, 63, 64, 65, rng.randint(1, 10_000)]), first, first + rng.randint(0, 6))
        )
    offsets, arena = plan(buffers)
    for i, a in enumerate(buffers):
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + a.size <= arena
        for j, b in enumerate(buffers[:i]):
            if a.overlaps(b) and a.size and b.size:
                assert offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
    assert most_alive(buffers) <= arena <= 1.3 * most_alive(buffers)


def test_a_chain_needs_its_two_largest_neighbours() -> None:
    sizes = [4096, 8192, 2048, 1024]
    chain = [Lifetime(size, step, step + 1) for step, size in enumerate(sizes)]
    assert plan(chain)[1] == 4096 + 8192


def test_an_order_that_is_not_by_size_where_that_is_better() -> None:
    """Largest first needs 512 bytes here."""
    buffers = [Lifetime(256, 3, 3), Lifetime(128, 1, 3), Lifetime(192, 2, 2), Lifetime(128, 2, 2)]
    assert plan(buffers)[1] == most_alive(buffers) == 448


def test_sizes_share_nothing_where_there_is_room() -> None:
    chain = [Lifetime(size, step, step + 1) for step, size in enumerate([4096, 4096, 2048, 2048, 2048])]
    offsets, arena = plan(chain, roomy=1 << 14)
    assert arena == 2 * 4096 + 2 * 2048
    assert offsets[2] == offsets[4]
    assert min(offsets[:2]) >= max(offsets[2:]) + 2048
    assert plan(chain, roomy=arena - 1) == plan(chain)


def test_nothing_to_place() -> None:
    assert plan([]) == ([], 0)


@pytest.mark.parametrize("size", [0, 1, 64, 100_000, HUGE_PAGE, HUGE_PAGE + 1])
def test_allocated_bytes_are_aligned_zero_and_writable(size: int) -> None:
    memory = allocate(size)
    assert memory.nbytes == size
    assert memory.ctypes.data % ALIGNMENT == 0 or size == 0
    assert not memory.any()
    memory[...] = 7
    assert int(np.sum(memory, dtype=np.int64)) == 7 * size
