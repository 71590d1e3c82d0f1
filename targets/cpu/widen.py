"""Widens a planar input, so that convolutions whose lanes are neighbouring pixels read whole vectors of it.

Two layouts.  *Shifted*: a copy for every kernel column, shifted, strided and padded, so that every load is an aligned
vector.  Else one copy with padding, its rows made of whole cache lines; those of all channels lie side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as T

from lhcc.ir.tir import Expr, Stmt, flat, function, get, integer, loop, put, sequence, shared, tensor, var
from lhcc.ir.vector import const
from lhcc.targets.cpu.wide import WideSpec


def widen(spec: WideSpec, source_shape: tuple[int, ...]) -> Any:
    """(N, C, H, W) -> `spec.wide`."""
    images, channels, height, width = spec.image
    source, target = tensor("source", list(source_shape)), tensor("target", list(spec.wide))
    (x, see_x), (y, see_y) = flat(source, "x"), flat(target, "y")
    unit, row = var("unit"), var("row")
    from_row = row - integer(spec.padding[0])
    base_x = (unit * integer(height) + from_row) * integer(width)
    size = int(np.prod(spec.wide[1:]))
    image, channel = T.floordiv(unit, integer(channels)), T.floormod(unit, integer(channels))
    base_y = image * integer(size) + channel * integer(spec.channel_step) + row * integer(spec.row_step)
    filled: list[Stmt] = []
    blanks: list[Stmt] = []
    for copy in range(spec.kernel[1] if spec.shifted else 1):
        start = base_y + integer(copy * spec.copy_step)
        blanks += [put(y, const(0.0, spec.lanes), start + integer(first), spec.lanes) for first in _whole(spec)]
        filled += _shifted_row(spec, copy, x, base_x, y, start) if spec.shifted else _row(spec, x, base_x, y, start)
    within = T.all(from_row >= integer(0), from_row < integer(height))
    body = [loop(row, spec.padded_rows, [T.IfThenElse(within, sequence(filled), sequence(blanks))])]
    return function([source, target], [see_x, see_y, shared(unit, images * channels, spec.threads, body)])


def _whole(spec: WideSpec) -> range:
    return range(0, spec.padded_width, spec.lanes)


def _shifted_row(spec: WideSpec, column: int, x: Expr, base_x: Expr, y: Expr, base_y: Expr) -> list[Stmt]:
    """One row as a kernel column reads it: a pixel for every output."""
    code: list[Stmt] = []
    width = spec.image[3]
    for first in _whole(spec):
        outputs = range(first, first + spec.lanes)
        reads = [out * spec.strides[1] + column * spec.dilation[1] - spec.padding[1] for out in outputs]
        inside = [0 <= read < width and out < spec.result[3] for out, read in zip(outputs, reads, strict=True)]
        if all(inside) and spec.strides[1] == 1:
            code.append(put(y, get(x, base_x + integer(reads[0]), spec.lanes), base_y + integer(first), spec.lanes))
            continue
        for lane, read in enumerate(reads):
            value = get(x, base_x + integer(read)) if inside[lane] else T.FloatImm("float32", 0.0)
            code.append(put(y, value, base_y + integer(first + lane)))
    return code


def _row(spec: WideSpec, x: Expr, base_x: Expr, y: Expr, base_y: Expr) -> list[Stmt]:
    """One row between its padding: zeros first, then the pixels, in vectors that may overlap."""
    lanes, left = spec.lanes, spec.padding[1]
    width = min(spec.image[3], spec.padded_width - left)
    edges = [first for first in _whole(spec) if first < left or first + lanes > left + width]
    code = [put(y, const(0.0, lanes), base_y + integer(first), lanes) for first in edges]
    step = lanes if width >= lanes else 1
    for first in range(0, width, step):
        at = integer(min(first, width - step))
        code.append(put(y, get(x, base_x + at, step), base_y + integer(left) + at, step))
    return code
