"""Where every intermediate tensor lives: one arena, planned at compile time, so that a run allocates nothing."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

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


class Sized:
    """What has a shape and an element type, and no gaps between its elements."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize


def plan(buffers: Sequence[Lifetime], roomy: int = 0) -> tuple[list[int], int]:
    """Offsets such that buffers alive at the same time never overlap, and the size of the arena that holds them.

    If `roomy` bytes suffice for it, buffers of different sizes share nothing: cores that share out the pixels of maps
    of one size alike then write where they wrote before, not where the caches of another core hold the lines.
    Otherwise buffers are placed one by one, each in the lowest gap that it fits in; of a few orders the one that needs
    the least counts.  Largest first is usually within a few percent of what is alive at once: no plan needs less.
    """
    if roomy and (apart := _plan_apart(buffers))[1] <= roomy:
        return apart
    indices = range(len(buffers))
    least = most_alive(buffers)
    best: tuple[list[int], int] = [0] * len(buffers), -1
    for key in (
        lambda i: (-buffers[i].size, buffers[i].first, i),
        lambda i: (buffers[i].first, -buffers[i].size, i),
        lambda i: (-buffers[i].size * (1 + buffers[i].last - buffers[i].first), i),
    ):
        offsets, arena = _place(buffers, sorted(indices, key=key))
        if best[1] < 0 or arena < best[1]:
            best = offsets, arena
        if best[1] == least:
            break
    return best


def _plan_apart(buffers: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Every size of buffers in memory of its own."""
    offsets, end = [0] * len(buffers), 0
    for size in sorted({buffer.size for buffer in buffers}):
        same = [i for i, buffer in enumerate(buffers) if buffer.size == size]
        inside, needed = plan([buffers[i] for i in same])
        for i, offset in zip(same, inside, strict=True):
            offsets[i] = end + offset
        end += needed
    return offsets, end


def most_alive(buffers: Sequence[Lifetime]) -> int:
    """The most bytes that are alive at once, in whole cache lines."""
    starts = {buffer.first for buffer in buffers}
    return max((alive_at(buffers, step) for step in starts), default=0)


def alive_at(buffers: Sequence[Lifetime], step: int) -> int:
    """The bytes that are alive in a step, in whole cache lines."""
    return sum(align(buffer.size) for buffer in buffers if buffer.first <= step <= buffer.last)


def _place(buffers: Sequence[Lifetime], order: Sequence[int]) -> tuple[list[int], int]:
    offsets = [0] * len(buffers)
    placed: list[int] = []
    arena = 0
    for index in order:
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
