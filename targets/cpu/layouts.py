"""Kernels that change the layout of a feature map, planar to blocked and back.

They go through squares of as many channels as pixels, which are read and written in whole vectors and transposed in
registers: 64 channels of 56x56 pixels then take as long as to copy them, element by element four times that.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import Expr, Renamed, Stmt, flat, function, get, integer, loop, put, sequence, shared, tensor, var
from lhcc.ir.vector import const

Kernel = Any
WIDEST = 8  # lanes of a square: one of 16 would need all registers of a processor with so many lanes


def to_blocked(shape: tuple[int, ...], block: int, lanes: int, threads: int, ordered: bool = False) -> Kernel:
    """(N, C, H, W) -> (N, C/block, H, W, block); channels that do not exist are written as zeros.  `ordered`: from
    which channel each is read is a table."""
    return _Conversion(shape, block, lanes, threads, ordered, to_planar=False).kernel()


def from_blocked(shape: tuple[int, ...], block: int, lanes: int, threads: int, ordered: bool = False) -> Kernel:
    """(N, C/block, H, W, block) -> `shape` = (N, C, H, W).  `ordered`: where each channel goes is a table."""
    return _Conversion(shape, block, lanes, threads, ordered, to_planar=True).kernel()


class _Conversion:
    def __init__(
        self, shape: tuple[int, ...], block: int, lanes: int, threads: int, ordered: bool, to_planar: bool
    ) -> None:
        self.images, self.channels, height, width = shape
        self.pixels, self.blocks, self.block = height * width, -(-self.channels // block), block
        self.side = min(lanes, WIDEST, block)
        self.threads, self.to_planar = threads, to_planar
        self.planar = tensor("planar", list(shape))
        self.blocked = tensor("blocked", [self.images, self.blocks, height, width, block])
        self.p, self.see_p = flat(self.planar, "p")
        self.b, self.see_b = flat(self.blocked, "b")
        self.place = Renamed(self.channels, ordered)

    def kernel(self) -> Kernel:
        unit, image, number = var("unit"), var("image"), var("number")
        bind = [
            T.Bind(image, T.truncdiv(unit, integer(self.blocks))),
            T.Bind(number, T.truncmod(unit, integer(self.blocks))),
        ]
        code = self._block(unit, image, number, self.block)
        if self.channels % self.block:
            last = self._block(unit, image, number, self.channels % self.block)
            code = [T.IfThenElse(T.EQ(number, integer(self.blocks - 1)), sequence(last), sequence(code))]
        body = shared(unit, self.images * self.blocks, self.threads, [*bind, *code])
        maps = [self.blocked, self.planar] if self.to_planar else [self.planar, self.blocked]
        parameters = [maps[0], *self.place.tables, maps[1]]
        return function(parameters, [self.see_p, self.see_b, *self.place.views, body])

    def _block(self, unit: Expr, image: Expr, number: Expr, channels: int) -> list[Stmt]:
        """One block of one image, `channels` of which exist."""
        code: list[Stmt] = []
        for first in range(0, self.block, self.side):
            base = unit * integer(self.pixels * self.block) + integer(first)
            count = max(0, min(self.side, channels - first))
            planes = [var("plane") for _ in range(count)]
            for lane, plane in enumerate(planes):
                channel = self.place[number * integer(self.block) + integer(first + lane)]
                code.append(T.Bind(plane, (image * integer(self.channels) + channel) * integer(self.pixels)))
            code += self._squares(base, planes) if self.pixels >= self.side else self._single(base, planes)
        return code

    def _squares(self, base: Expr, planes: list[Expr]) -> list[Stmt]:
        """Channels that are neighbours in a block, `side` pixels at a time; the last ones may be done twice."""
        step, pixel, side = var("step"), var("pixel"), self.side
        code = [T.Bind(pixel, T.Min(step * integer(side), integer(self.pixels - side)))]
        at = [base + (pixel + integer(row)) * integer(self.block) for row in range(side)]
        if self.to_planar:
            columns = transpose([get(self.b, position, side) for position in at], code)
            code += [put(self.p, c, plane + pixel, side) for c, plane in zip(columns, planes, strict=False)]
        elif not planes:
            code += [put(self.b, const(0.0, side), position, side) for position in at]
        else:
            rows = [get(self.p, plane + pixel, side) for plane in planes]
            rows += [const(0.0, side)] * (side - len(planes))
            code += [put(self.b, c, position, side) for c, position in zip(transpose(rows, code), at, strict=True)]
        return [loop(step, -(-self.pixels // side), code)]

    def _single(self, base: Expr, planes: list[Expr]) -> list[Stmt]:
        """Images of fewer pixels than lanes, element by element."""
        pixel = var("pixel")
        into = base + pixel * integer(self.block)
        if self.to_planar:
            code = [put(self.p, get(self.b, into + integer(lane)), plane + pixel) for lane, plane in enumerate(planes)]
        else:
            values = [get(self.p, plane + pixel) for plane in planes]
            values += [const(0.0, 1)] * (self.side - len(planes))
            code = [put(self.b, value, into + integer(lane)) for lane, value in enumerate(values)]
        return [loop(pixel, self.pixels, code)] if code else []


def transpose(rows: list[Expr], code: list[Stmt]) -> list[Expr]:
    """The columns of a square of vectors, by statements added to `code`.

    Quarters of every square within it change places: first of single elements, then of squares of two, of four, ...
    """
    side = len(rows)
    rows = [_bound(row, side, code) for row in rows]
    half = 1
    while half < side:
        for a in range(side):
            if not a & half:
                upper, lower = rows[a], rows[a + half]
                firsts = [i + side - half if i & half else i for i in range(side)]
                seconds = [i + side if i & half else i + half for i in range(side)]
                rows[a] = _bound(_shuffled(upper, lower, firsts), side, code)
                rows[a + half] = _bound(_shuffled(upper, lower, seconds), side, code)
        half *= 2
    return rows


def _shuffled(a: Expr, b: Expr, lanes: list[int]) -> Expr:
    return T.Shuffle([a, b], [integer(lane) for lane in lanes])


def _bound(value: Expr, lanes: int, code: list[Stmt]) -> Expr:
    name = var("vector", f"float32x{lanes}")
    code.append(T.Bind(name, value))
    return name
