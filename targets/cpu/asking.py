"""Asks for weights together with each weight tile, see `ahead`: the code that a convolution kernel has for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import integer, sequence, var
from lhcc.targets.cpu.ahead import LINE_WEIGHTS, share_starts
from lhcc.targets.cpu.plan import ConvSpec

Expr = Any
Stmt = Any


class Asking:
    """`prefetch` makes the instruction that asks for the line of a weight."""

    def __init__(self, spec: ConvSpec, prefetch: Callable[[Expr], Expr]) -> None:
        self.spec, self.prefetch = spec, prefetch
        self.share, self.any_left = var("share"), var("any_left", "bool")

    def find_share(self, number: Expr, begin: Expr, end: Expr) -> list[Stmt]:
        """Where the part begins that the `number`-th register tile asks for, while it goes through the weight tiles
        from `begin` to `end`."""
        spec = self.spec
        if not spec.asked or spec.prefetch:
            return []
        lines = spec.depth * spec.block // LINE_WEIGHTS
        start = share_starts(number, begin, end, lines, spec.asked)
        shares = -(-lines // spec.asked)
        return [T.Bind(self.share, start * integer(LINE_WEIGHTS)), T.Bind(self.any_left, number < integer(shares))]

    def ask(self, entry: Expr, weight: Expr) -> list[Stmt]:
        """The lines asked for before the products of the weight tile `entry`, whose weights are at `weight`."""
        spec = self.spec
        if not spec.asked:
            return []
        own = self.share + entry * integer(spec.asked * LINE_WEIGHTS)
        base = weight + integer(spec.prefetch) if spec.prefetch else own
        lines = sequence([T.Evaluate(self.prefetch(base + integer(line * LINE_WEIGHTS))) for line in range(spec.asked)])
        return [lines if spec.prefetch else T.IfThenElse(self.any_left, lines, None)]
