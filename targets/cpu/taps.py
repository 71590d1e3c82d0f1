"""The order in which a tile visits the taps of a kernel: those that meet the same outputs are best neighbours.

At the left and right edge of an image all taps of a kernel column meet the same outputs, at its top and bottom all taps
of a kernel row.  Every stretch of such taps is one loop, and leaving a loop costs.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings.tiles import Tiles
from lhcc.targets.cpu.geometry import Rect, Tile

Rects = tuple[Rect | None, ...]


def runs(rects: Rects, wanted: tuple[Rect, ...]) -> list[list[tuple[int, int]]]:
    """For each wanted sub-rectangle the ranges of consecutive taps that use it."""
    found: list[list[tuple[int, int]]] = [[] for _ in wanted]
    start = 0
    for tap in range(1, len(rects) + 1):
        if tap == len(rects) or rects[tap] != rects[start]:
            rect = rects[start]
            if rect is not None:
                found[wanted.index(rect)].append((start, tap))
            start = tap
    return found


def best_order(cover: tuple[Tile, ...], height: int, width: int) -> list[int]:
    """The taps of a `height` x `width` kernel row by row, or column by column if that makes fewer runs."""
    by_rows = np.arange(height * width).reshape(height, width)
    orders = [by_rows.ravel().tolist(), by_rows.T.ravel().tolist()]
    tiles = Counter(tile.rects for tile in cover)
    return min(orders, key=lambda order: sum(many * _count(rects, order) for rects, many in tiles.items()))


def _count(rects: Rects, order: list[int]) -> int:
    ordered = [rects[tap] for tap in order]
    return sum(rect is not None and (not i or rect != ordered[i - 1]) for i, rect in enumerate(ordered))


def sort_tiles(encoded: Tiles, order: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Index, starts and values of the weight tiles with the taps visited in `order`."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    tap, inputs, outputs = encoded.index.T
    by = np.lexsort((inputs, place[tap], outputs))
    counts = np.diff(encoded.starts(), axis=1)[:, order]
    ends = counts.cumsum().reshape(counts.shape)
    starts = np.concatenate([(ends - counts)[:, :1], ends], axis=1).astype(np.int32)
    return encoded.index[by].astype(np.int64), starts, encoded.values[by]
