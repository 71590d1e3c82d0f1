"""Divides an output image into register tiles, and counts for every division that fits what its tiles look like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cpu.geometry import Line, Rect, Tile


@dataclass(frozen=True)
class Axes:
    """Both axes of an output image; several lines per axis only for transposed convolutions."""

    rows: tuple[Line, ...]
    columns: tuple[Line, ...]


@dataclass(frozen=True)
class Divisions:
    """All divisions of an image into even tiles, side by side: one row of every array per division.

    The tiles of a division fall into few classes: `many` tiles of `pixels` outputs each, for which `area` outputs are
    inside the image at each tap.  Rows with fewer classes than others are filled with `many = 0`.
    """

    heights: NDArray[np.int64]  # of the largest tile
    widths: NDArray[np.int64]
    shapes: NDArray[np.int64]  # different sizes of tiles: each is code of its own
    many: NDArray[np.int64]  # division x class
    pixels: NDArray[np.int64]  # division x class
    area: NDArray[np.int64]  # division x class x tap
    runs: NDArray[np.int64]  # division x class: ranges of taps that meet the same outputs, one loop each

    @property
    def tiles(self) -> NDArray[np.int64]:
        """How many tiles a division has."""
        total: NDArray[np.int64] = self.many.sum(axis=1)
        return total


def cover(axes: Axes, height: int, width: int, merged: bool = False) -> tuple[Tile, ...]:
    """The image in even tiles of at most `height` x `width` outputs; `merged`: one step runs through a kernel row."""
    tiles: list[Tile] = []
    known: dict[tuple[object, ...], tuple[Rect | None, ...]] = {}
    for row in axes.rows:
        ys = [(y, h, _clips(row, y, h)) for y, h in even(row.count, height)]
        for column in axes.columns:
            xs = [(x, w, _clips(column, x, w)) for x, w in even(column.count, width)]
            for y, h, row_clips in ys:
                for x, w, column_clips in xs:
                    key = (row_clips, column_clips)
                    if key not in known:
                        known[key] = _rects(row_clips, column_clips, merged)
                    tiles.append(Tile(row, column, y, x, h, w, known[key]))
    return tuple(tiles)


Clips = tuple[tuple[int, int], ...]


def _rects(rows: Clips, columns: Clips, merged: bool) -> tuple[Rect | None, ...]:
    if merged:
        edges = tuple(edge for clip in columns for edge in clip)
        return tuple((*r, *edges) if r[1] and any(edges) else None for r in rows)
    return tuple((*r, *c) if r[1] and c[1] else None for r in rows for c in columns)


def even(count: int, longest: int) -> list[tuple[int, int]]:
    """`count` items in as few pieces of at most `longest` as possible, of at most two sizes, the larger ones first."""
    parts = -(-count // longest)
    small, extra = divmod(count, parts)
    return [(part * small + min(part, extra), small + (part < extra)) for part in range(parts)]


@cache
def divisions(axes: Axes, most: int, merged: bool = False) -> Divisions:
    """Every division into tiles of at most `most` outputs; `merged`: one step runs through a kernel row."""
    heights, widths = _sizes(axes.rows, most), _sizes(axes.columns, most)
    pairs = [(h, w) for h in heights for w in widths if h * w <= most]
    pairs.sort(key=lambda pair: (max(pair) / min(pair), pair[1]))  # of equals the squarest, then the tallest
    found = [_classes(axes, h, w, merged) for h, w in pairs]
    classes = max(len(many) for many, *_ in found)

    def padded(arrays: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        stacked = np.zeros((len(arrays), classes, *arrays[0].shape[1:]), np.int64)
        for into, array in zip(stacked, arrays, strict=True):
            into[: len(array)] = array
        return stacked

    # taps are visited row by row or column by column, see `best_order`
    many, pixels, area, by_rows, by_columns = (padded([each[field] for each in found]) for field in range(5))
    turn = (many * by_columns).sum(axis=1) < (many * by_rows).sum(axis=1)
    return Divisions(
        np.array([h for h, _ in pairs]),
        np.array([w for _, w in pairs]),
        np.array([_shapes(axes.rows, h) * _shapes(axes.columns, w) for h, w in pairs]),
        many,
        pixels,
        area,
        np.where(turn[:, None], by_columns, by_rows),
    )


def _clips(line: Line, start: int, count: int) -> Clips:
    return tuple(line.clip(start, count, tap) for tap in range(len(line.deltas)))


def _sizes(lines: tuple[Line, ...], most: int) -> list[int]:
    """Sizes of tiles along an axis that differ in effect: the longest piece of each number of pieces."""
    longest = max(line.count for line in lines)
    return sorted({-(-longest // -(-longest // size)) for size in range(1, min(most, longest) + 1)})


def _shapes(lines: tuple[Line, ...], size: int) -> int:
    return len({length for line in lines for length in _profile(line, size).length.tolist()})


@dataclass(frozen=True)
class _Pieces:
    """The pieces of an axis by class."""

    many: NDArray[np.int64]
    length: NDArray[np.int64]
    inside: NDArray[np.int64]  # class x tap: how much of the piece is inside the image
    place: NDArray[np.int64]  # class x tap: a number for where that is; -1: nowhere


@cache
def _profile(line: Line, size: int) -> _Pieces:
    pieces = np.array(even(line.count, size))
    start, count = pieces[:, :1], pieces[:, 1:]
    never = -(1 << 30)  # a tap that meets no output reads far outside
    delta = np.array([never if d is None else d for d in line.deltas])[None]
    low = np.maximum(0, -((delta + start * line.stride) // line.stride))
    high = np.minimum(count, (line.size - 1 - delta - start * line.stride) // line.stride + 1)
    place = np.where(low < high, low * (size + 1) + high, -1)
    classes, many = np.unique(np.concatenate([count, place], axis=1), axis=0, return_counts=True)
    place = classes[:, 1:]
    inside = np.where(place < 0, 0, place % (size + 1) - place // (size + 1))
    return _Pieces(many, classes[:, 0], inside, place)


def _classes(axes: Axes, height: int, width: int, merged: bool) -> tuple[NDArray[np.int64], ...]:
    """Of the tiles of a division, by class: how many, their outputs, the area at each tap, and the runs of taps, row by
    row and column by column."""
    found: list[tuple[NDArray[np.int64], ...]] = []
    for row in axes.rows:
        r = _profile(row, height)
        for column in axes.columns:
            c = _profile(column, width)
            area = r.inside[:, None, :, None] * c.inside[None, :, None, :]
            where = np.where(area > 0, r.place[:, None, :, None] * (width + 1) ** 2 + c.place[None, :, None, :], -1)
            if merged:
                where = where.max(axis=3)
            classes = len(r.many) * len(c.many)
            found.append(
                (
                    np.outer(r.many, c.many).ravel(),
                    np.outer(r.length, c.length).ravel(),
                    area.reshape(classes, -1),
                    _runs(where.reshape(classes, -1)),
                    _runs((where if merged else where.swapaxes(2, 3)).reshape(classes, -1)),
                )
            )
    return tuple(np.concatenate(field) for field in zip(*found, strict=True))


def _runs(where: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many stretches of equal numbers each row has, those of -1 left out."""
    begins = np.diff(where, axis=1, prepend=-2) != 0
    runs: NDArray[np.int64] = (begins & (where >= 0)).sum(axis=1)
    return runs
