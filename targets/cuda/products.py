"""The sums of a warp: 16-pixel fragments from shared memory times weight tiles, fetched from there one tile ahead."""

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

    def ask_bias(self) -> list[Stmt]:
        """Loads the biases of the lane's channels; zeros where another warp begins with them."""
        frame, index, c = self.frame, var("index"), var("c")
        none = unrolled(index, 2 * frame.count, put(frame.bias_here, const(0, 1, self.arithmetic.sum), index))
        place = frame.out * self.spec.lanes + frame.quarter + c
        return [none, when(frame.own, [unrolled(c, 2 * frame.count, put(frame.bias_here, get(frame.bias, place), c))])]

    def begin(self) -> list[Stmt]:
        """Sums begin with the bias."""
        frame, part, c = self.frame, var("part"), var("c")
        put_one = put(frame.sums, get(frame.bias_here, c), frame.sum_of(part, c))
        return [unrolled(part, 2 * self.spec.pixels, unrolled(c, 2 * frame.count, put_one))]

    def rows(self) -> list[Stmt]:
        """Where this lane's rows of the fragments start in a staged patch."""
        frame, spec, patch, code = self.frame, self.spec, self.frame.patch, []
        if self.arithmetic.preload:
            own = [(T.floormod(frame.lane, integer(16)), T.floordiv(frame.lane, integer(16)) * 16)]
        else:
            own = [(T.floordiv(frame.lane, integer(4)) + 8 * half, integer(0)) for half in range(2)]
        for half, (row, chunk) in enumerate(own):
            for fragment in range(spec.pixels):
                position = frame.position(fragment, row)
                image, y, x = divided(position, *spec.tile[1:])
                pixel = image * patch.image + y * patch.row + x * patch.pixel
                inside = T.Select(position < integer(spec.tile_pixels), pixel, integer(0))
                code.append(put(frame.rows, inside + chunk, integer(half * spec.pixels + fragment)))
        return code

    @property
    def meetings(self) -> int:
        """How often the warps of a thread block meet to add up sums."""
        return 2 if self.spec.warps[2] > 1 else 0

    def stage(self, stage: Expr) -> list[Stmt]:
        """The tiles of this warp among those of a stage, which have arrived in shared memory, times its pixels."""
        frame, spec, weights = self.frame, self.spec, var("weights")
        warp = frame.warp_column * spec.warps[2] + frame.split
        first, begin, end, last, entry = var("first"), var("begin"), var("end"), var("last"), var("entry")
        code = [
            call("await_run", frame.arrival(stage), T.floormod(T.floordiv(stage, integer(spec.stages)), integer(2))),
            T.Bind(weights, frame.weights_of(stage)),
            T.Bind(first, frame.bound(stage, 0)),
            T.Bind(begin, frame.bound(stage, warp) - first),
            T.Bind(end, frame.bound(stage, warp + 1) - first),
        ]
        if not self.arithmetic.preload:
            return [*code, self._tiles(entry, begin, end, self._without_matrices(entry, weights))]
        # what is fetched after the last tile of a stage, or where it has none, is no one's
        code += [T.Bind(last, T.Max(frame.bound(stage, frame.record.warps) - first - 1, integer(0)))]
        code += self._fetch(T.Min(begin, last), weights)
        return [*code, self._tiles(entry, begin, end, self._tile(T.Min(entry + 1, last), weights))]

    def _tiles(self, entry: Expr, begin: Expr, end: Expr, body: list[Stmt]) -> Stmt:
        return T.For(entry, begin, end - begin, T.stmt.ForKind.SERIAL, T.SeqStmt(body))

    def _tile(self, following: Expr, weights: Expr) -> list[Stmt]:
        """The weight tile that was fetched times all fragments of pixels."""
        frame, base = self.frame, var("base")
        code: list[Stmt] = [T.Bind(base, frame.memory + get(frame.offset))]
        code += [put(frame.b, get(frame.ahead, integer(i)), integer(i)) for i in range(frame.words // 32)]
        code += self._fetch(following, weights)
        for step in range(self.arithmetic.steps):
            for fragment in range(self.spec.pixels):
                row = get(frame.rows, integer(fragment))
                code.append(call("load_matrix", address(frame.a), base + row + step * STEP))
                code += self._multiply(fragment, step * frame.count)
        return code

    def _fetch(self, entry: Expr, weights: Expr) -> list[Stmt]:
        frame, tile = self.frame, var("tile")
        code = [T.Bind(tile, weights + entry * frame.tile_bytes), put(frame.offset, self._read(tile))]
        for vector in range(frame.words // 128):
            code.append(call("get_shared16", address(frame.ahead, vector * 4), tile + frame.lane * 16 + vector * 512))
        return code

    def _read(self, tile: Expr) -> Expr:
        """Where a tile reads, from the first patch."""
        return value("int32", "get_shared<int>", tile + 4 * self.frame.words)

    def _without_matrices(self, entry: Expr, weights: Expr) -> list[Stmt]:
        frame, base, tile = self.frame, var("base"), var("tile")
        code: list[Stmt] = [
            T.Bind(tile, weights + entry * frame.tile_bytes),
            T.Bind(base, frame.memory + self._read(tile)),
        ]
        per_lane = frame.count * 16
        for step in range(self.arithmetic.steps):
            start = tile + (T.floormod(frame.lane, integer(4)) * per_lane + step * 4 * per_lane) * 4
            for vector in range(per_lane // 4):
                code.append(call("get_shared16", address(frame.b, vector * 4), start + vector * 16))
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
