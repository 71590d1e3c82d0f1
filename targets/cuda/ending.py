"""What becomes of a warp's sums: bias, residual and activation, or the steps of an integer program; then the store."""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.int_steps import apply
from lhcc.ir.tir import get, integer, put, var
from lhcc.ir.vector import epilogue
from lhcc.targets.cuda.arch import BLOCK
from lhcc.targets.cuda.frame import Frame
from lhcc.targets.cuda.spec import ConvSpec, Integers, WindowSpec
from lhcc.targets.cuda.tir import address, both, call, divided, local, unrolled, when

Expr = Any
Stmt = Any


def finish(frame: Frame) -> Stmt:
    """A lane holds, of two pixels of a fragment, `width` neighbouring channels, which it loads and stores at once."""
    spec, kind = frame.spec, frame.arithmetic.sum
    width, per_block = 2 * frame.count, BLOCK // spec.lanes
    results, added, bias = local("results", width, kind), local("added", width, kind), local("bias_here", width, kind)
    channel, quarter = var("channel"), T.floormod(frame.lane, integer(4)) * width
    code: list[Stmt] = [T.AllocBuffer(b) for b in (results, bias, *([added] if spec.residual else []))]
    code += [put(bias, get(frame.bias, frame.out * spec.lanes + quarter + c), integer(c)) for c in range(width)]
    code.append(T.Bind(channel, T.floormod(frame.out, integer(per_block)) * spec.lanes + quarter))
    images, blocks, height, columns = spec.result
    part, c = var("part"), var("c")
    fragment, half = T.floordiv(part, integer(2)), T.floormod(part, integer(2))
    position = frame.position(fragment, T.floordiv(frame.lane, integer(4)) + half * 8)
    image, y, x = divided(position, *spec.tile[1:])
    row, column, number, target, total = var("row"), var("column"), var("image"), var("target"), var("total", kind)
    padded = blocks * BLOCK
    plane = number * blocks + T.floordiv(frame.out, integer(per_block))
    inside = both(
        position < integer(spec.tile_pixels), number < integer(images), row < integer(height), column < integer(columns)
    )
    place = (fragment * frame.count + T.floordiv(c, integer(2))) * 4 + half * 2 + T.floormod(c, integer(2))
    plus = get(added, c) if spec.residual else None
    result = [
        T.Bind(total, get(frame.sums, place) + get(bias, c)),
        put(results, result_of(spec, total, plus, frame.table, frame.out * spec.lanes + quarter + c, padded), c),
    ]
    store = [
        unrolled(c, width, T.SeqStmt(result)),
        call(f"store_channels<{width}>", address(frame.y, target), address(results)),
    ]
    if spec.residual:
        store.insert(0, call(f"load_channels<{width}>", address(added), address(frame.r, target)))
    body = [
        T.Bind(number, frame.image0 + image),
        T.Bind(row, (frame.row0 + y) * spec.step[0] + frame.phase_row),
        T.Bind(column, (frame.column0 + x) * spec.step[1] + frame.phase_column),
        T.Bind(target, ((plane * height + row) * columns + column) * BLOCK + channel),
        when(inside, store),
    ]
    code.append(unrolled(part, spec.pixels * 2, T.SeqStmt(body)))
    return when(both(T.EQ(frame.split, integer(0)), frame.out >= integer(0)), code)


def result_of(
    spec: ConvSpec | WindowSpec, total: Expr, plus: Expr | None, table: Expr, channel: Expr, padded: int
) -> Expr:
    """What is stored for a sum; the table of integer steps holds `padded` entries for every step that needs them."""
    if spec.integers is None:
        return epilogue(total, plus, spec.residual, spec.activation)
    return after(spec.integers, total, plus, table, channel, padded)


def after(integers: Integers, total: Expr, plus: Expr | None, table: Expr, channel: Expr, padded: int) -> Expr:
    """An integer after the steps of its tail."""
    if plus is not None:
        plus = apply(plus, integers.first, 1, table, channel, integer(padded), None)
    return apply(total, integers.steps, 1, table, channel, integer(padded), plus)
