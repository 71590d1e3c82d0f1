"""The loops of a convolution kernel over its units of work: groups of register tiles that go through all output blocks
together, in each the output blocks, and for each of these the tiles.

Every thread does a range of the units.  Dividing a unit's number to find its tile and block would make it wait for
the quotients: on Zen 3 a tenth of 64 x 64 x 3 x 3 weights at 32x32 pixels then took 1.15 times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import integer, var

Expr = Any
Stmt = Any


def from_to(index: Expr, start: Expr, stop: Expr, body: Stmt) -> Stmt:
    return T.For(index, start, stop - start, T.stmt.ForKind.SERIAL, body)


def each_unit(
    first: Expr, last: Expr, blocks: Expr, group: Expr, places: Expr, body: Callable[[Expr, Expr, Expr], list[Stmt]]
) -> Stmt:
    """The units from `first` to `last` of `places` tiles in groups, of `blocks` of outputs; `body` is given the output
    block, the tile, and its number in the group."""
    turn, begun, size, before, out, at, place = (
        var(name) for name in ("turn", "begun", "size", "before", "out", "at", "place")
    )
    per_turn, zero, one = group * blocks, integer(0), integer(1)
    tiles = from_to(
        place,
        begun + T.Max(first - at, zero),
        begun + T.Min(last - at, size),
        T.SeqStmt(body(out, place, place - begun)),
    )
    outputs = from_to(
        out,
        T.truncdiv(T.Max(first - before, zero), size),
        T.Min(blocks, T.truncdiv(last - before + size - one, size)),
        T.SeqStmt([T.Bind(at, before + out * size), tiles]),
    )
    per_group = [
        T.Bind(begun, turn * group),
        T.Bind(size, T.Min(group, places - begun)),  # the last group may be smaller
        T.Bind(before, begun * blocks),
        outputs,
    ]
    return from_to(turn, T.truncdiv(first, per_turn), T.truncdiv(last + per_turn - one, per_turn), T.SeqStmt(per_group))
