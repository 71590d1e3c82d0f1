"""Where every intermediate tensor lives: one arena, planned at compile time, so that a run allocates nothing."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64  # a cache line and the widest vector: generated code loads and stores whole aligned vectors
HUGE_PAGE = 2 << 20


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `size` bytes that is written first in step `first` and read last in step `last`."""

    size: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        return self.first <= other.last and other.first <= self.last


def align(size: int) -> int:
    """`size` rounded up to whole cache lines."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan(buffers: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets such that buffers alive at the same time never overlap, and the size of the arena that holds them.

    Large buffers are placed first, each in the lowest gap that it fits in.
    """
    offsets = [0] * len(buffers)
    placed: list[int] = []
    arena = 0
    for index in sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first, i)):
        buffer = buffers[index]
        offset = 0
        for other in sorted((i for i in placed if buffer.overlaps(buffers[i])), key=lambda i: offsets[i]):
            if offset + align(buffer.size) <= offsets[other]:
                break
            offset = max(offset, offsets[other] + align(buffers[other].size))
        offsets[index] = offset
        placed.append(index)
        arena = max(arena, offset + align(buffer.size))
    return offsets, arena


def allocate(size: int) -> NDArray[np.uint8]:
    """Zeroed bytes at an aligned address; large buffers ask for huge pages, which saves misses of the address cache."""
    if size >= HUGE_PAGE:
        region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                region.madvise(mmap.MADV_HUGEPAGE)
            except OSError:  # a kernel built without huge pages
                pass
        return np.frombuffer(region, dtype=np.uint8)
    raw = np.zeros(size + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]
