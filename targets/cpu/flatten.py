"""Widens a planar input for results cut into rectangles: copies of what each rectangle reads, without gaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lhcc.ir.tir import Expr, Stmt, flat, function, get, integer, loop, put, shared, tensor, var
from lhcc.ir.vector import const
from lhcc.targets.cpu.regions import Copy, FlatSpec


def flatten(spec: FlatSpec, source_shape: tuple[int, ...]) -> Any:
    """(N, C, H, W) -> `spec.wide`."""
    images, channels, height, width = spec.image
    source, target = tensor("source", list(source_shape)), tensor("target", list(spec.wide))
    (x, see_x), (y, see_y) = flat(source, "x"), flat(target, "y")
    unit = var("unit")
    body: list[Stmt] = []
    for copy in spec.copies:
        real = range(*copy.inside(0, height))
        parts = [(real, True)]
        if copy.padded:
            parts += [(range(real.start), False), (range(real.stop, copy.rows), False)]
        for rows, inside in parts:
            row = var("row")
            number = row + integer(rows.start)
            to = unit * integer(spec.channel_step) + integer(copy.at) + number * integer(copy.width)
            down = integer(copy.start[0]) + number * integer(copy.steps[0])
            pixels = copy.inside(1, width) if inside else (0, 0)
            code = _row(copy, pixels, spec.lanes, x, (unit * integer(height) + down) * integer(width), y, to)
            if rows:
                body.append(loop(row, len(rows), code))
    return function([source, target], [see_x, see_y, shared(unit, images * channels, spec.threads, body)])


def _row(copy: Copy, pixels: tuple[int, int], lanes: int, x: Expr, base_x: Expr, y: Expr, to: Expr) -> list[Stmt]:
    """One row: the pixels from the first to before the second, and zeros around them."""
    first, last = pixels
    code = []
    for at, size in chunks(first, last - first, lanes if copy.steps[1] == 1 else 1):
        read = base_x + integer(copy.start[1] + at * copy.steps[1])
        code.append(put(y, get(x, read, size), to + integer(at), size))
    for begin, end in ((0, first), (last, copy.width)):
        code += [put(y, const(0.0, size), to + integer(at), size) for at, size in chunks(begin, end - begin, lanes)]
    return code


def chunks(at: int, count: int, lanes: int) -> Iterator[tuple[int, int]]:
    """Vectors that are as long as a place has room for: where they begin, and their lanes."""
    while count > 0:
        size = min(lanes, 1 << count.bit_length() - 1)
        yield at, size
        at, count = at + size, count - size
