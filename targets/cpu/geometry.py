"""Where a convolution's output pixels read: axes, register tiles of pixels, and which taps are inside the image for each.

Nothing is ever read outside the input, so no activation carries a border of zeros: a tile at the edge leaves out the
products whose input would be padding.  A transposed convolution is the same thing with one *line* per output phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Line:
    """Equally spaced outputs of one axis: output `first + i * step` reads input `i * stride + deltas[tap]`."""

    first: int
    step: int
    count: int
    stride: int
    deltas: tuple[int | None, ...]  # None: this tap never meets these outputs
    size: int  # extent of the input axis

    def clip(self, start: int, count: int, tap: int) -> tuple[int, int]:
        """The half-open part of outputs start .. start+count (relative to start) whose input is inside the image."""
        delta = self.deltas[tap]
        if delta is None:
            return 0, 0
        low = max(0, -(-(-delta - start * self.stride) // self.stride))
        high = min(count, (self.size - 1 - delta - start * self.stride) // self.stride + 1)
        return (low, high) if low < high else (0, 0)


def conv_lines(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Line]:
    return [Line(0, 1, out, stride, tuple(tap * dilation - pad for tap in range(kernel)), size)]


def transposed_lines(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Line]:
    lines = []
    for phase in range(min(stride, out)):
        shifts = [phase + pad - tap * dilation for tap in range(kernel)]
        deltas = tuple(shift // stride if shift % stride == 0 else None for shift in shifts)
        lines.append(Line(phase, stride, -(-(out - phase) // stride), 1, deltas, size))
    return lines


Rect = tuple[int, int, int, int]  # rows low..high, columns low..high, relative to the tile


@dataclass(frozen=True)
class Tile:
    """A block of output pixels computed in registers; `rects[tap]` are its pixels for which the tap is in the image."""

    row: Line
    column: Line
    y: int
    x: int
    height: int
    width: int
    rects: tuple[Rect | None, ...]


def _even(count: int, parts: int) -> list[tuple[int, int]]:
    """`count` items in `parts` pieces of at most two sizes, the larger ones first."""
    small, extra = divmod(count, parts)
    pieces, start = [], 0
    for part in range(parts):
        length = small + (part < extra)
        pieces.append((start, length))
        start += length
    return pieces


def _tile(row: Line, column: Line, y: int, height: int, x: int, width: int) -> Tile:
    rows = [row.clip(y, height, tap) for tap in range(len(row.deltas))]
    columns = [column.clip(x, width, tap) for tap in range(len(column.deltas))]
    rects = tuple((*r, *c) if r[1] and c[1] else None for r in rows for c in columns)
    return Tile(row, column, y, x, height, width, rects)


def splits(pixels: int, vectors: int, depth: int, accumulators: int) -> int:
    """Independent partial sums per pixel, so that a tile of few pixels still hides the latency of the multiply-add."""
    count = 1
    while pixels * vectors * count * 2 <= min(16, accumulators) and depth % (2 * count) == 0:
        count *= 2
    return count


def rect_cycles(rect: Rect | None, vectors: int, parts: int, broadcast: float = 0.0) -> float:
    """Estimated cycles of one input channel at one tap, on a core with two multiply-adds and two loads a cycle.

    `broadcast` is what bringing one input into a register costs beyond its load, where it cannot be an operand.
    """
    if rect is None:
        return 0.0
    pixels = (rect[1] - rect[0]) * (rect[3] - rect[2])
    return max(pixels * vectors / 2, (pixels + vectors) / 2 + pixels * broadcast, 4 / parts) + 0.15


def tile_cycles(tile: Tile, vectors: int, depth: int, accumulators: int) -> float:
    parts = splits(tile.height * tile.width, vectors, depth, accumulators)
    return sum(rect_cycles(rect, vectors, parts) for rect in tile.rects) + 1.0


@lru_cache(maxsize=None)
def cover(rows: tuple[Line, ...], columns: tuple[Line, ...], vectors: int, depth: int, accumulators: int) -> tuple[Tile, ...]:
    """The cheapest division of the output image into register tiles of at most `accumulators` vectors."""
    tiles: list[Tile] = []
    for row in rows:
        for column in columns:
            tiles += _cover_line(row, column, vectors, depth, accumulators)
    return tuple(tiles)


def _cover_line(row: Line, column: Line, vectors: int, depth: int, accumulators: int) -> list[Tile]:
    limit = max(1, accumulators // vectors)
    tried: set[tuple[int, int]] = set()
    best: tuple[float, list[Tile]] | None = None
    for width in range(1, min(column.count, limit) + 1):
        for height in range(1, min(row.count, limit // width) + 1):
            parts = (-(-row.count // height), -(-column.count // width))
            if parts in tried:
                continue
            tried.add(parts)
            ys, xs = _even(row.count, parts[0]), _even(column.count, parts[1])
            # the interior looks alike everywhere: price at most four rows and columns of tiles, then build the winner
            cost = _price(row, column, ys, xs, vectors, depth, accumulators)
            if best is None or cost < best[0] - 1e-9:
                best = (cost, [])
                winner = (ys, xs)
    assert best is not None, "an output axis is empty"
    return [_tile(row, column, y, h, x, w) for y, h in winner[0] for x, w in winner[1]]


def _price(
    row: Line, column: Line, ys: list[tuple[int, int]], xs: list[tuple[int, int]], vectors: int, depth: int, accumulators: int
) -> float:
    total = 0.0
    shapes = set()
    for y, h, many_y in _representatives(ys):
        for x, w, many_x in _representatives(xs):
            shapes.add((h, w))
            total += many_y * many_x * tile_cycles(_tile(row, column, y, h, x, w), vectors, depth, accumulators)
    return total * (1 + 0.002 * len(shapes))


def _representatives(pieces: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """First, last, and one inner piece of each size with its multiplicity."""
    if len(pieces) <= 4:
        return [(start, length, 1) for start, length in pieces]
    inner: dict[int, list[int]] = {}
    for start, length in pieces[1:-1]:
        inner.setdefault(length, []).append(start)
    middle = [(starts[len(starts) // 2], length, len(starts)) for length, starts in inner.items()]
    return [(*pieces[0], 1), *middle, (*pieces[-1], 1)]
