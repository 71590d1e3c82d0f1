"""The sums of a warp: 16-pixel fragments from shared memory times weight tiles, which are fetched one tile ahead."""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import get, integer, loop, put, var
from lhcc.ir.vector import const
from lhcc.targets.cuda.arch import STEP
from lhcc.targets.cuda.frame import Frame
from lhcc.targets.cuda.tir import address, call, divided, unrolled, value, when

Expr = Any
Stmt = Any


class Products:
    def __init__(self, frame: Frame) -> None:
        self.frame, self.spec, self.arithmetic = frame, frame.spec, frame.arithmetic
        self.size = self.spec.pixels * frame.count * 4  # sums of a lane

    def clear(self) -> list[Stmt]:
        index = var("index")
        return [unrolled(index, self.size, put(self.frame.sums, const(0, 1, self.arithmetic.sum), index))]

    def rows(self) -> list[Stmt]:
        """Where this lane's rows of the fragments start in a staged patch."""
        frame, spec, code = self.frame, self.spec, []
        if self.arithmetic.preload:
            own = [(T.floormod(frame.lane, integer(16)), T.floordiv(frame.lane, integer(16)) * 16)]
        else:
            own = [(T.floordiv(frame.lane, integer(4)) + 8 * half, integer(0)) for half in range(2)]
        for half, (row, chunk) in enumerate(own):
            for fragment in range(spec.pixels):
                position = frame.position(fragment, row)
                image, y, x = divided(position, *spec.tile[1:])
                pixel = (image * spec.patch[0] + y * spec.stride[0]) * spec.patch[1] + x * spec.stride[1]
                inside = T.Select(position < integer(spec.tile_pixels), pixel, integer(0))
                code.append(put(frame.rows, inside * frame.pixel + chunk, integer(half * spec.pixels + fragment)))
        return code

    def prepare(self) -> list[Stmt]:
        """Before the first tile."""
        return self._fetch(self.frame.first) if self.arithmetic.preload else []

    def tile(self, entry: Expr, slot: Expr) -> list[Stmt]:
        """One weight tile times all fragments of pixels, which `slot` of the shared memory holds."""
        frame, base = self.frame, var("base")
        if not self.arithmetic.preload:
            return [T.Bind(base, slot + frame.at(frame.entries + entry)), *self._without_matrices(entry, base)]
        code: list[Stmt] = [T.Bind(base, slot + get(frame.offset))]
        code += [put(frame.b, get(frame.ahead, integer(i)), integer(i)) for i in range(frame.words // 32)]
        code += self._fetch(entry + 1)
        for step in range(self.arithmetic.steps):
            for fragment in range(self.spec.pixels):
                row = get(frame.rows, integer(fragment))
                code.append(call("load_matrix", address(frame.a), base + row + step * STEP))
                code += self._multiply(fragment, step * frame.count)
        return code

    def _fetch(self, entry: Expr) -> list[Stmt]:
        """Begins to load the weight tile `entry`; the list ends with a tile that nobody uses."""
        frame = self.frame
        code = [put(frame.offset, frame.at(frame.entries + entry))]
        for vector in range(frame.words // 128):
            position = entry * frame.words + frame.lane * 4 + vector * 128
            code.append(call("load16", address(frame.ahead, vector * 4), address(frame.weights, position)))
        return code

    def _without_matrices(self, entry: Expr, base: Expr) -> list[Stmt]:
        frame, code = self.frame, []
        per_lane = frame.count * 16
        for step in range(self.arithmetic.steps):
            start = entry * frame.words + T.floormod(frame.lane, integer(4)) * per_lane + step * 4 * per_lane
            for vector in range(per_lane // 4):
                code.append(call("load16", address(frame.b, vector * 4), address(frame.weights, start + vector * 4)))
            for fragment in range(self.spec.pixels):
                halves = [get(frame.rows, integer(half * self.spec.pixels + fragment)) for half in range(2)]
                code.append(call("load_words", address(frame.a), *(base + row + step * STEP for row in halves)))
                code += self._multiply(fragment, 0)
        return code

    def _multiply(self, fragment: int, first: int) -> list[Stmt]:
        frame = self.frame
        return [
            call(
                f"multiply_{self.arithmetic.name}",
                address(frame.sums, (fragment * frame.count + j) * 4),
                address(frame.a),
                address(frame.b, (first + j) * self.arithmetic.b),
            )
            for j in range(frame.count)
        ]

    def add_up(self) -> list[Stmt]:
        """Warps that shared the tiles of an output block add their sums, through shared memory."""
        frame = self.frame
        across, columns, splits = self.spec.warps
        if splits == 1:
            return []
        give, take, other = var("give"), var("take"), var("other")
        team = frame.warp_column * across + frame.warp_pixel
        kind = {"float32": "float", "int32": "int"}[self.arithmetic.sum]

        def place(split: Expr, index: Expr) -> Expr:
            return frame.memory + ((split * (across * columns) + team) * (self.size * 32) + index * 32 + frame.lane) * 4

        given = call("put_shared", place(frame.split - 1, give), get(frame.sums, give))
        theirs = value(self.arithmetic.sum, f"get_shared<{kind}>", place(other, take))
        taken = put(frame.sums, get(frame.sums, take) + theirs, take)
        return [
            call("wait_copies<0>"),
            call("__syncthreads"),
            when(frame.split > integer(0), [unrolled(give, self.size, given)]),
            call("__syncthreads"),
            when(T.EQ(frame.split, integer(0)), [loop(other, splits - 1, [unrolled(take, self.size, taken)])]),
        ]
