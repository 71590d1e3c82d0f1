"""Integer convolutions whose instruction takes one word of a vector as the input of all of its sums: 64-bit ARM's.

One load brings the words of a whole weight tile at one pixel.  Every vector of weights then meets all pixels before the
next one is loaded: sums and inputs fill the registers, and a vector of weights or two is all that fits beside them.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import Expr, Stmt, get, integer, put, var
from lhcc.ir.vector import const
from lhcc.targets.cpu.conv import Sums as Registers
from lhcc.targets.cpu.geometry import Rect
from lhcc.targets.cpu.int_conv import IntConvKernel, IntForm
from lhcc.targets.cpu.int_sums import BY_ELEMENT
from lhcc.targets.cpu.plan import ConvSpec, Shape

Pixel = tuple[int, int]
TURNED = -0x7F7F7F80  # the highest bits of four bytes: zeros less 128


class DotKernel(IntConvKernel):
    def _products(self, shape: Shape, rect: Rect, sums: Registers, position: Expr, weight: Expr) -> list[Stmt]:
        """A pixel for which the weights lie beyond the border reads zeros where the bias counts on it."""
        spec, form = self.spec, self.form.sums
        top, bottom, left, right = rect
        every = [(y, x) for y in range(shape.height) for x in range(shape.width)]
        inside = [(y, x) for y, x in every if top <= y < bottom and left <= x < right]
        together = form.together(spec.depth)
        code: list[Stmt] = []
        for first in range(0, spec.depth, together):
            words = dict.fromkeys(every if form.less else inside, [const(TURNED, spec.lanes, "int32")] * together)
            for y, x in inside:
                at = position + (y * spec.stride[0] * spec.source.row + x * spec.stride[1] * spec.source.pixel + first)
                lanes = together if together > 1 else spec.lanes
                read = get(self.x, at, together)
                read = read if together > 1 else T.Broadcast(read, lanes)
                value = var(f"x{y}_{x}_{first}", f"int32x{lanes}")
                code.append(T.Bind(value, read ^ const(TURNED, lanes, "int32") if form.less else read))
                words[y, x] = [self._element(value, number) for number in range(together)] if together > 1 else [value]
            for word in range(together):
                code += self._word(shape, words, sums, weight, first + word, word)
        return code

    def _element(self, value: Expr, number: int) -> Expr:
        return T.Broadcast(T.Shuffle([value], [integer(number)]), self.spec.lanes)

    def _word(
        self, shape: Shape, words: dict[Pixel, list[Expr]], sums: Registers, weight: Expr, number: int, word: int
    ) -> list[Stmt]:
        """The products of one word of the weight tile, which is `word` of what was loaded of every pixel."""
        spec = self.spec
        code: list[Stmt] = []
        for v in range(spec.vectors):
            value = var(f"w{number}_{v}", f"int32x{spec.lanes}")
            at = weight + integer((number * spec.vectors + v) * spec.lanes)
            code.append(T.Bind(value, get(self.weights, at, spec.lanes)))
            for (y, x), inputs in words.items():
                into = sums[y * shape.width + x][v][number % shape.splits]
                code.append(put(into, self._dot(get(into), inputs[word], value)))
        return code + self._ask_ahead(weight + integer(number * spec.block))

    def _dot(self, total: Expr, inputs: Expr, weights: Expr) -> Expr:
        lanes = self.spec.lanes
        name = f"llvm.aarch64.neon.{self.form.sums.dot}.v{lanes}i32.v{4 * lanes}i8"
        # the operand that LLVM can take one word of: the second one of "sdot", the unsigned one of "usdot"
        operands = (weights, inputs) if self.form.sums.dot == "sdot" else (inputs, weights)
        as_bytes = [T.reinterpret(f"int8x{4 * lanes}", operand) for operand in operands]
        return T.call_llvm_pure_intrin(f"int32x{lanes}", name, total, *as_bytes)


def int_conv_kernel(spec: ConvSpec, form: IntForm, source_rank: int = 5, target_rank: int = 5) -> Any:
    """(source, weights, bias, plan, table[, residual]) -> target; pooling by maximum takes (source, plan, table)."""
    kernel = DotKernel if form.sums.dot in BY_ELEMENT else IntConvKernel
    return kernel(spec, form, source_rank, target_rank).build()
