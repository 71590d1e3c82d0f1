"""Kernels that hold the sums of one output in registers, for a group of inputs that fits the first-level cache.

Between groups the sums wait in a buffer of the thread.  They start as the bias in the first group, and become results
in the last one.
"""

from __future__ import annotations

from functools import partial

from tvm import tirx as T

from lhcc.ir.tir import Expr, Stmt, get, integer, loop, put, register, sequence, var
from lhcc.targets.cpu.wide import Finish, TileClass, WideKernel


class SumsKernel(WideKernel):
    @property
    def groups(self) -> int:
        return -(-self.spec.image[1] // self.spec.near)

    def products(self, tile: TileClass, base: Expr, group: Expr, sums: list[Expr]) -> list[Stmt]:
        """All products of a group of inputs and the current output, added to the sums."""
        raise NotImplementedError

    def unit_code(self, tile: TileClass, base: Expr, image: Expr, y: Expr, x: Expr) -> list[Stmt]:
        return self.tile_code(tile, base, partial(self._finish, tile, image, y, x))

    def tile_code(self, tile: TileClass, base: Expr, finish: Finish) -> list[Stmt]:
        lanes, last = self.spec.lanes, self.groups - 1
        waiting, group = self.waiting(tile.sums), var("group")
        sums = [register(f"sum{s}", f"float32x{lanes}") for s in range(tile.sums)]
        place = self.out * integer(tile.sums * lanes)
        cut = [s for s in range(tile.sums) if tile.cuts(s, self.spec.result[3])]

        def at(number: int, lane: int = 0) -> Expr:
            return place + integer(number * lanes + lane)

        start = [put(into, self.started()) for into in sums]
        resume = [put(into, get(waiting, at(s), lanes)) for s, into in enumerate(sums)]
        leave = [put(waiting, get(into), at(s), lanes) for s, into in enumerate(sums)]
        end = [leave[s] for s in cut] + finish([get(into) for into in sums], lambda s, lane: get(waiting, at(s, lane)))
        per_output = [
            *[T.AllocBuffer(s) for s in sums],
            *_either(group, 0, last, start, resume),
            *self.products(tile, base, group, sums),
            *_either(group, last, last, end, leave),
        ]
        allocated = [T.AllocBuffer(waiting)] if last or cut else []
        return [*allocated, loop(group, self.groups, [loop(self.out, self.spec.result[1], per_output)])]


def _either(group: Expr, one: int, last: int, here: list[Stmt], elsewhere: list[Stmt]) -> list[Stmt]:
    """What is done in group `one`, and in the others if there are any."""
    if not last:
        return here
    return [T.IfThenElse(T.EQ(group, integer(one)), sequence(here), sequence(elsewhere))]
