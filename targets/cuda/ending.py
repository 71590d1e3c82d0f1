"""What becomes of a warp's sums: bias, residual and activation, or the steps of an integer program; then the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx as T

from lhcc.ir.int_steps import apply
from lhcc.ir.tir import get, integer, put, var
from lhcc.ir.vector import epilogue
from lhcc.targets.cuda.arch import BLOCK, size_of
from lhcc.targets.cuda.frame import Frame
from lhcc.targets.cuda.pooling import Pooling
from lhcc.targets.cuda.spec import ConvSpec, Integers, WindowSpec
from lhcc.targets.cuda.tir import address, both, call, divided, local, unrolled, when

Expr = Any
Stmt = Any
ELEMENT = {"float16": "half", "bfloat16": "nv_bfloat16", "float32": "float"}  # of a map, in device code
HELD = 32  # registers of residuals at a time


@dataclass(frozen=True)
class Part:
    """The channels of one pixel that a lane holds: a fragment has two such pixels for every lane."""

    where: list[Stmt]
    inside: Expr
    target: Expr


def _part(frame: Frame, part: Expr, channel: Expr) -> Part:
    spec = frame.spec
    fragment, half = T.floordiv(part, integer(2)), T.floormod(part, integer(2))
    position = frame.position(fragment, T.floordiv(frame.lane, integer(4)) + half * 8)
    image, y, x = divided(position, *spec.tile[1:])
    row, column, number, target = var("row"), var("column"), var("image"), var("target")
    images, blocks, *extents = spec.result
    height, columns = (extent // spec.merged for extent in extents)
    plane = number * blocks + T.floordiv(frame.out, integer(BLOCK // spec.lanes))
    where = [
        T.Bind(number, frame.image0 + image),
        T.Bind(row, T.floordiv((frame.row0 + y) * spec.step[0] + frame.phase_row, integer(spec.merged))),
        T.Bind(column, T.floordiv((frame.column0 + x) * spec.step[1] + frame.phase_column, integer(spec.merged))),
        T.Bind(target, ((plane * height + row) * columns + column) * BLOCK + channel),
    ]
    inside = both(
        position < integer(spec.tile_pixels), number < integer(images), row < integer(height), column < integer(columns)
    )
    return Part(where, inside, target)


def _channel(frame: Frame) -> Expr:
    """The first of the lane's channels in the block of the map."""
    return T.floormod(frame.out, integer(BLOCK // frame.spec.lanes)) * frame.spec.lanes + frame.quarter


def ask(frame: Frame) -> list[Stmt]:
    """Asks for the residual, which the end will add, while products are formed."""
    if not frame.spec.residual:
        return []
    part, channel = var("part"), var("channel")
    lines = _part(frame, part, channel)
    asked = [*lines.where, when(lines.inside, [call("prefetch", address(frame.r, lines.target))])]
    every = unrolled(part, frame.spec.pixels * 2, T.SeqStmt(asked))
    return [when(frame.own, [T.Bind(channel, _channel(frame)), every])]


def finish(frame: Frame) -> Stmt:
    """A lane holds, of two pixels of a fragment, `width` neighbouring channels, which it loads and stores at once."""
    spec, kind, width = frame.spec, frame.arithmetic.sum, 2 * frame.count
    parts, words, pooling = spec.pixels * 2, width * size_of(spec.residual_element) // 4, Pooling(spec)
    # residuals of several parts are loaded before any part is stored: one by one, each would wait for memory
    together = min(parts, HELD // words) if spec.residual else parts
    results, added = local("results", width, kind), local("added", width, kind)
    held = local("held", together * words, "int32")
    channel = var("channel")
    code: list[Stmt] = [T.AllocBuffer(b) for b in (results, *([added, held] if spec.residual else []))]
    code.append(T.Bind(channel, _channel(frame)))

    def fetch(first: int, part: Expr) -> list[Stmt]:
        here = _part(frame, part + first, channel)
        into = address(held, part * words)
        return [*here.where, when(here.inside, [call(f"fetch<{width}>", into, address(frame.r, here.target))])]

    def sums(part: Expr, into: Callable[[Expr, Expr], Stmt]) -> Stmt:
        c, total = var("c"), var("total", kind)
        plus, padded = get(added, c) if spec.residual else None, spec.result[1] * BLOCK
        result = result_of(spec, total, plus, frame.table, frame.out * spec.lanes + frame.quarter + c, padded)
        return unrolled(c, width, T.SeqStmt([T.Bind(total, get(frame.sums, frame.sum_of(part, c))), into(result, c)]))

    def store(first: int, part: Expr) -> list[Stmt]:
        here = _part(frame, part + first, channel)
        end = [sums(part + first, lambda result, c: put(results, result, c))]
        end.append(call(f"store_channels<{width}>", address(frame.y, here.target), address(results)))
        if spec.residual:
            fetched = call(f"fetched<{width}>", address(added), address(held, part * words), address(frame.r))
            end.insert(0, fetched)
        return [*here.where, when(here.inside, end)]

    def store_largest(part: Expr) -> list[Stmt]:
        upper, below = pooling.parts(part)
        here = _part(frame, upper, channel)
        largest = [sums(upper, lambda result, c: put(results, result, c))]
        if below is not None:
            largest.append(sums(below, lambda result, c: put(results, T.Max(get(results, c), result), c)))
        largest += [call(f"max_lanes<{width}>", address(results), distance) for distance in pooling.lanes]
        put_all = call(f"store_channels<{width}>", address(frame.y, here.target), address(results))
        return [*largest, *here.where, when(both(here.inside, pooling.stores(frame.lane)), [put_all])]

    if spec.pooled:
        part = var("part")
        code.append(unrolled(part, pooling.count, T.SeqStmt(store_largest(part))))
        return when(frame.own, code)

    for first in range(0, parts, together):
        for step in (fetch, store) if spec.residual else (store,):
            part = var("part")
            code.append(unrolled(part, min(together, parts - first), T.SeqStmt(step(first, part))))
    return when(frame.own, code)


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
