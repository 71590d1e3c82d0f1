"""Results cut into rectangles, each of which is one long row of pixels: few lanes of its vectors stay empty, and where
all pixels of a vector read padding at a tap, it is left out.

Of a small image the rows and columns at the border may be rectangles of their own.  The widened input holds copies of
what each rectangle reads, without gaps between rows, so that every vector is one load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cpu.machine import LINE
from lhcc.targets.cpu.wide import WideSpec

Pixels = NDArray[np.int64]
Vector = tuple[tuple[int, ...], Pixels]  # by tap, where it is read; and its positions in the result
NOTHING = -1  # where a vector of pixels reads padding only
FEW = 24  # vectors of an image that may have code of their own


@dataclass(frozen=True)
class Region:
    """A rectangle of result pixels."""

    y: int
    x: int
    height: int
    width: int

    def pixels(self, lanes: int) -> list[tuple[Pixels, Pixels]]:
        """Rows and columns of the pixels of every vector."""
        every = np.arange(self.height * self.width)
        parts = [every[first : first + lanes] for first in range(0, len(every), lanes)]
        return [(self.y + part // self.width, self.x + part % self.width) for part in parts]


@dataclass(frozen=True)
class Copy:
    """Pixels of the input that lie together in the widened one: `rows` rows of `width`; outside the image are zeros."""

    at: int  # position in a channel of the widened input
    start: tuple[int, int]  # first row and column in the input ...
    steps: tuple[int, int]  # ... and from each to the next
    rows: int
    width: int
    padded: bool  # rows outside the image are read, too

    def inside(self, axis: int, size: int) -> tuple[int, int]:
        """First of the rows (axis 0) or columns that lie in an image of that size, and first after them."""
        count, start, step = (self.rows, self.width)[axis], self.start[axis], self.steps[axis]
        first = min(count, max(0, -(start // step)))
        return first, max(first, min(count, (size - 1 - start) // step + 1))


@dataclass(frozen=True)
class FlatTile:
    """Vectors whose sums are found together; tiles that share code are equal."""

    reads: tuple[tuple[int, ...], ...]  # by vector and tap: position from the tile's own, or NOTHING
    pieces: tuple[tuple[int, int, int], ...]  # first lane of the tile, lanes, position in the result from the tile's

    @property
    def sums(self) -> int:
        return len(self.reads)

    def inputs(self, taps: Sequence[int]) -> int:
        """Vectors of the input that a kernel of these taps reads."""
        return sum(read[tap] != NOTHING for read in self.reads for tap in taps)


@dataclass(frozen=True)
class FlatSpec(WideSpec):
    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The division whose vectors have the fewest multiply-adds, if every tap is as frequent."""
        height, width = self.result[2:]
        if -(-height * width // self.lanes) > FEW:
            return (Region(0, 0, height, width),)
        top, left = self.padding
        bottom, right = (
            (n - 1) * s + (k - 1) * d + 1 - p - size > 0
            for n, s, k, d, p, size in zip(
                self.result[2:], self.strides, self.kernel, self.dilation, self.padding, self.image[2:], strict=True
            )
        )
        sides = [[0, 1] if here else [0] for here in (top, bottom, left, right)]
        cuts = [cut for cut in product(*sides) if cut[0] + cut[1] < height and cut[2] + cut[3] < width]
        divided = [_around(height, width, *cut) for cut in cuts]
        return min(divided, key=lambda regions: (self._products(regions), len(regions)))

    def _products(self, regions: Sequence[Region]) -> int:
        return sum(int(self._live(*pixels).sum()) for region in regions for pixels in region.pixels(self.lanes))

    @cached_property
    def _inside(self) -> list[NDArray[np.bool_]]:
        """Rows, and columns: by kernel position and result pixel, whether the image is read."""
        found = []
        for axis in (0, 1):
            at = np.arange(self.result[2 + axis]) * self.strides[axis] - self.padding[axis]
            at = at + np.arange(self.kernel[axis])[:, None] * self.dilation[axis]
            found.append((at >= 0) & (at < self.image[2 + axis]))
        return found

    def _live(self, ys: Pixels, xs: Pixels) -> NDArray[np.bool_]:
        """By tap, whether any of the pixels reads the image."""
        rows, columns = self._inside
        live: NDArray[np.bool_] = np.any(rows[:, None, ys] & columns[None, :, xs], axis=2)
        return live.reshape(-1)

    @cached_property
    def _layout(self) -> tuple[tuple[Copy, ...], tuple[tuple[int, ...], ...], int]:
        """Copies; by region, where each tap reads for the region's first pixel; and the elements of a channel."""
        copies: dict[tuple[int, ...], Copy] = {}
        starts, size = [], 0
        for number, region in enumerate(self.regions):
            live = np.logical_or.reduce([self._live(*pixels) for pixels in region.pixels(self.lanes)])
            taps = []
            for tap, (row, column) in enumerate(product(range(self.kernel[0]), range(self.kernel[1]))):
                if not live[tap]:
                    taps.append(NOTHING)
                    continue
                key, copy, first = self._copy(region, row, column, size)
                named = (number, *key)
                if named not in copies:
                    copies[named] = copy
                    size += -(-copy.rows * copy.width // 4) * 4
                taps.append(copies[named].at + first)
            starts.append(tuple(taps))
        return tuple(copies.values()), tuple(starts), size

    def _copy(self, region: Region, row: int, column: int, at: int) -> tuple[tuple[int, ...], Copy, int]:
        """What tells the copy that a tap reads from others of the region, that copy at `at`, and where it is read."""
        down, across = row * self.dilation[0], column * self.dilation[1]
        under, beside = (k * d - d for k, d in zip(self.kernel, self.dilation, strict=True))  # beyond a pixel
        y = region.y * self.strides[0] - self.padding[0]
        x = region.x * self.strides[1] - self.padding[1]
        if region.height == 1 and self.strides[1] == 1:  # one row, which columns may be read from as they are
            width = region.width + beside
            return (), Copy(at, (y, x), (1, 1), 1 + under, width, False), down * width + across
        if region.height == 1 or self.strides[0] == 1:
            steps, rows = (1, self.strides[1]), region.height + under
            return (
                (column,),
                Copy(at, (y, x + across), steps, rows, region.width, region.height > 1),
                down * region.width,
            )
        start = y + down, x + across
        return (row, column), Copy(at, start, (self.strides[0], self.strides[1]), region.height, region.width, True), 0

    @property
    def copies(self) -> tuple[Copy, ...]:
        return self._layout[0]

    @property
    def wide(self) -> tuple[int, ...]:
        """Shape of the widened input; the last vector of a channel may read what follows.  Channels begin in different
        sets of the cache."""
        line = LINE // 4
        return *self.image[:2], (-(-(self._layout[2] + self.lanes) // line) | 1) * line

    @property
    def written(self) -> int:
        """Elements of the widened input that something is written to."""
        return self.image[0] * self.image[1] * self._layout[2]

    @property
    def layout(self) -> tuple[Any, ...]:
        return self.wide, self.copies

    @property
    def most(self) -> tuple[int, int]:
        return 1, sum(-(-region.height * region.width // self.lanes) for region in self.regions)

    @property
    def channel_step(self) -> int:
        return self.wide[2]

    @cached_property
    def _tiles(self) -> list[tuple[FlatTile, int, int]]:
        per_region: list[list[Vector]] = []
        for region, starts in zip(self.regions, self._layout[1], strict=True):
            vectors = []
            for number, (ys, xs) in enumerate(region.pixels(self.lanes)):
                live = self._live(ys, xs)
                reads = tuple(
                    start + number * self.lanes if on else NOTHING for start, on in zip(starts, live, strict=True)
                )
                vectors.append((reads, ys * self.result[3] + xs))
            per_region.append(vectors)
        return [self._tile(vectors) for vectors in _dealt(per_region, self.vectors)]

    def _tile(self, vectors: Sequence[Vector]) -> tuple[FlatTile, int, int]:
        base = min((at for reads, _ in vectors for at in reads if at != NOTHING), default=0)
        first = min(int(to[0]) for _, to in vectors)
        reads = tuple(tuple(at - base if at != NOTHING else at for at in reads) for reads, _ in vectors)
        lane = np.concatenate([np.arange(len(to)) + n * self.lanes for n, (_, to) in enumerate(vectors)])
        position = np.concatenate([to for _, to in vectors]) - first
        cuts = np.flatnonzero((np.diff(lane) != 1) | (np.diff(position) != 1)) + 1
        pieces = tuple(
            (int(lane[a]), int(b - a), int(position[a])) for a, b in zip([0, *cuts], [*cuts, len(lane)], strict=True)
        )
        return FlatTile(reads, pieces), first, base

    def tiles(self) -> list[tuple[Any, int, int]]:
        """Every tile, its first pixel of the result and its position in the widened input."""
        return self._tiles

    def tile_table(self) -> NDArray[np.int32]:
        classes = self.classes()
        return np.array([(classes.index(t), to, 0, base) for t, to, base in self.tiles()], np.int32)


def _around(height: int, width: int, top: int, bottom: int, left: int, right: int) -> tuple[Region, ...]:
    """The image without the sides that are cut off, and those."""
    high, wide = height - top - bottom, width - left - right
    regions = [
        Region(top, left, high, wide),
        Region(0, 0, top, width),
        Region(height - bottom, 0, bottom, width),
        Region(top, 0, high, left),
        Region(top, width - right, high, right),
    ]
    return tuple(region for region in regions if min(region.height, region.width) > 0)


def _dealt(per_region: Sequence[Sequence[Vector]], most: int) -> list[list[Vector]]:
    """Tiles of as even a number of vectors as possible, `most` at most: those of the first region follow each other,
    the others are dealt out."""
    first, others = per_region[0], [vector for vectors in per_region[1:] for vector in vectors]
    total = len(first) + len(others)
    count = -(-total // most)
    tiles, taken = [], 0
    for number in range(count):
        hand = others[number::count]
        own = total * (number + 1) // count - total * number // count - len(hand)
        last = number == count - 1
        stop = len(first) if last else min(len(first), taken + max(0, own))
        tiles.append([*first[taken:stop], *hand])
        taken = stop
    return [tile for tile in tiles if tile]
