"""The convolution kernel with integers: the loops of the float kernel around exact sums of narrow products."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as T

from lhcc.ir.int_steps import INT32, apply
from lhcc.ir.tir import Expr, Stmt, flat, get, integer, loop, prefetch, put, tensor, var
from lhcc.ir.vector import const
from lhcc.targets.cpu.conv import ConvKernel
from lhcc.targets.cpu.conv import Sums as Registers
from lhcc.targets.cpu.geometry import Rect
from lhcc.targets.cpu.int_storage import ELEMENTS, PER_WORD, wide
from lhcc.targets.cpu.int_sums import Sums
from lhcc.targets.cpu.machine import LINE
from lhcc.targets.cpu.plan import ConvSpec, Shape

MADD_BYTES = {16: "avx512.pmaddubs.w.512", 8: "avx2.pmadd.ub.sw", 4: "ssse3.pmadd.ub.sw.128"}
MADD_HALVES = {16: "avx512.pmaddw.d.512", 8: "avx2.pmadd.wd", 4: "sse2.pmadd.wd"}
DOT = {16: "avx512.vpdpbusd.512", 8: "avx512.vpdpbusd.256"}
UNROLL = 4  # words per turn of the innermost loop


@dataclass(frozen=True)
class IntForm:
    """How the operands of an integer kernel are stored, how it sums, and what happens before its result is stored."""

    source: str
    target: str
    residual: str
    steps: tuple[str, ...]
    residual_steps: tuple[str, ...]
    sums: Sums


class IntConvKernel(ConvKernel):
    element = "int32"

    def __init__(self, spec: ConvSpec, form: IntForm, source_rank: int, target_rank: int) -> None:
        super().__init__(spec, source_rank, target_rank)
        self.form = form
        self.table = tensor("table", [var("table_size")], "int32")
        self.by_words = not spec.lanewise
        self.x, see_x = flat(self.source, "x", "int32" if self.by_words else ELEMENTS[form.source])
        self.y, see_y = flat(self.target, "y", ELEMENTS[form.target])
        self.views = [see_x, see_y]
        if form.sums.slim:
            self.slim_weights, see_weights = flat(self.weights, "slim_weights", "int8")
            self.views.append(see_weights)
        if spec.residual:
            self.r, see_r = flat(self.residual, "r", ELEMENTS[form.residual])
            self.views.append(see_r)

    def extra_arguments(self) -> list[Expr]:
        return [self.table, *super().extra_arguments()]

    def least(self) -> Expr:
        return const(INT32[0], self.spec.lanes, "int32")

    def load_lanes(self, x: Expr, position: Expr) -> Expr:
        return wide(get(x, position, self.spec.lanes), self.spec.lanes)

    def _tile(self, shape: Shape) -> Stmt:
        """The lines of the result and of the residual are asked for before the sums: every block of outputs is a stream
        of its own, and processors follow few by themselves."""
        maps = [(self.y, self.form.target, True)] + [(self.r, self.form.residual, False)] * bool(self.spec.residual)
        code = []
        for buffer, storage, written in maps:
            line = LINE * PER_WORD[storage] // 4
            for row in range(shape.height):
                start = row * self.spec.target_row
                for at in range(start, start + shape.width * self.spec.target_pixel, line):
                    code.append(prefetch(buffer, self.spot + integer(at), written))
        return T.SeqStmt([*code, super()._tile(shape)])

    # ---- the arithmetic
    def _products(self, shape: Shape, rect: Rect, sums: Registers, position: Expr, weight: Expr) -> list[Stmt]:
        spec = self.spec
        if not self.by_words or self.form.sums.kind == "words":
            return super()._products(shape, rect, sums, position, weight)
        assert spec.merged == 1
        top, bottom, left, right = rect
        pixels = [(y, x) for y in range(top, bottom) for x in range(left, right)]
        chunk = min(self.form.sums.chunk, spec.depth)
        words = max(u for u in (UNROLL, chunk) if spec.depth % u == 0 and u % chunk == 0)
        turn = var("turn")
        if words < spec.depth:
            position, weight = position + turn * integer(words), weight + turn * integer(words * spec.block)
        code = []
        for first in range(0, words, chunk):
            code += self._chunk(shape, pixels, sums, position + integer(first), weight + first * spec.block, first)
        return [loop(turn, spec.depth // words, code)] if words < spec.depth else code

    def _chunk(
        self, shape: Shape, pixels: list[tuple[int, int]], sums: Registers, position: Expr, weight: Expr, first: int
    ) -> list[Stmt]:
        """The weights of a few words, then for every pixel its inputs, and a step of its sums."""
        spec = self.spec
        chunk = min(self.form.sums.chunk, spec.depth)
        code: list[Stmt] = []
        weights = []
        for word in range(chunk):
            row = []
            for v in range(spec.vectors):
                value = var(f"w{first + word}_{v}", f"int32x{spec.lanes}")
                at = weight + integer((word * spec.vectors + v) * spec.lanes)
                code.append(T.Bind(value, self._weights(at)))
                row.append(value)
            weights.append(row)
            code += self._ask_ahead(weight + integer(word * spec.block))
        row_step, column_step = spec.stride[0] * spec.source.row, spec.stride[1] * spec.source.pixel
        for y, x in pixels:
            inputs = []
            for word in range(chunk):
                value = var(f"x{y}_{x}_{first + word}", f"int32x{spec.lanes}")
                at = position + integer(y * row_step + x * column_step + word)
                code.append(T.Bind(value, T.Broadcast(get(self.x, at), spec.lanes)))
                inputs.append(value)
            for v in range(spec.vectors):
                into = sums[y * shape.width + x][v][(first // chunk) % shape.splits]
                code.append(put(into, self._step(get(into), inputs, [row[v] for row in weights])))
        return code

    def _weights(self, at: Expr) -> Expr:
        lanes = self.spec.lanes
        if not self.form.sums.slim:
            return get(self.weights, at, lanes)
        halves = T.Cast(f"int16x{2 * lanes}", get(self.slim_weights, at * integer(2), 2 * lanes))
        return T.reinterpret(f"int32x{lanes}", halves)

    def _ask_ahead(self, at: Expr) -> list[Stmt]:
        spec = self.spec
        if not spec.prefetch:
            return []
        where = T.truncdiv(at, integer(2)) if self.form.sums.slim else at
        return [T.Evaluate(self._prefetch(where + integer(spec.prefetch)))]

    def _step(self, total: Expr, inputs: list[Expr], weights: list[Expr]) -> Expr:
        """`total` plus all products of the words of a chunk."""
        lanes, kind = self.spec.lanes, self.form.sums.kind
        as_bytes, as_halves, as_words = f"int8x{lanes * 4}", f"int16x{lanes * 2}", f"int32x{lanes}"

        def call(dtype: str, name: str, *operands: Expr) -> Expr:
            return T.call_llvm_pure_intrin(dtype, f"llvm.x86.{name}", *operands)

        if kind == "dot":
            for x, w in zip(inputs, weights, strict=True):
                total = call(as_words, DOT[lanes], total, T.reinterpret(as_bytes, x), T.reinterpret(as_bytes, w))
            return total
        if kind == "halves":
            for x, w in zip(inputs, weights, strict=True):
                pair = T.reinterpret(as_halves, x), T.reinterpret(as_halves, w)
                total = total + call(as_words, MADD_HALVES[lanes], *pair)
            return total
        halves = None
        for x, w in zip(inputs, weights, strict=True):
            product = call(as_halves, MADD_BYTES[lanes], T.reinterpret(as_bytes, x), T.reinterpret(as_bytes, w))
            halves = product if halves is None else halves + product
        return total + call(as_words, MADD_HALVES[lanes], halves, const(1, 2 * lanes, "int16"))

    def store(self, value: Expr, position: Expr, lanes: int, vector: int) -> Stmt:
        spec = self.spec
        channel = self.out * integer(spec.block) + integer(vector * spec.lanes)
        padded = self.at(integer(0)) * integer(spec.block)
        other = None
        if spec.residual:
            other = wide(get(self.r, position, lanes), lanes)
            other = apply(other, self.form.residual_steps, lanes, self.table, channel, padded, None)
        result = apply(value, self.form.steps, lanes, self.table, channel, padded, other)
        if self.form.target != "words":
            result = T.Cast(f"{ELEMENTS[self.form.target]}x{lanes}", result)
        return put(self.y, result, position, lanes)
