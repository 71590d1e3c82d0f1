"""The convolution kernel with integers: bytes four at a time through the processor's dot product, or 32-bit products.

A *packed* map holds sixteen unsigned bytes, the channels of a block at one pixel, as four 32-bit words; any other map
holds one 32-bit word per channel.  Sums are exact: the program has proved that they fit.  Where they fit into 24 bits,
products of words are taken in floating point, which is four times as fast and exact as well: the words are then the
bits of float32 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import Expr, Stmt, get, integer, put, tensor, var
from lhcc.ir.vector import const
from lhcc.targets.cpu.conv import ConvKernel
from lhcc.targets.cpu.int_steps import INT32, apply
from lhcc.targets.cpu.plan import ConvSpec

QUAD = 4  # bytes per word


@dataclass(frozen=True)
class IntForm:
    """How the operands of an integer kernel are stored, and what happens before its result is."""

    packed_source: bool
    packed_target: bool
    packed_residual: bool
    steps: tuple[str, ...]
    dot: bool  # the processor has the instruction
    real: bool = False  # words of the source, weights and bias are float32 bits


def unpack(words: Expr, lanes: int) -> Expr:
    """Four words to sixteen 32-bit integers."""
    return T.Cast(f"int32x{lanes}", T.reinterpret(f"uint8x{lanes}", words))


def pack_bytes(value: Expr, lanes: int) -> Expr:
    return T.reinterpret(f"int32x{lanes // QUAD}", T.Cast(f"uint8x{lanes}", value))


class IntConvKernel(ConvKernel):
    element = "int32"

    def __init__(self, spec: ConvSpec, form: IntForm, source_rank: int, target_rank: int) -> None:
        super().__init__(spec, source_rank, target_rank)
        self.form = form
        self.table = tensor("table", [var("table_size")], "int32")

    def extra_arguments(self) -> list[Expr]:
        return [self.table, *super().extra_arguments()]

    def least(self) -> Expr:
        return const(INT32[0], self.spec.lanes, "int32")

    def load_lanes(self, x: Expr, position: Expr) -> Expr:
        lanes = self.spec.lanes
        return unpack(get(x, position, lanes // QUAD), lanes) if self.form.packed_source else get(x, position, lanes)

    def product(self, total: Expr, value: Expr, weight: Expr) -> Expr:
        spec = self.spec
        if self.form.real:
            return self._bits(self._real(total) + self._real(value) * self._real(weight))
        if not self.form.packed_source or spec.lanewise:
            return total + value * weight
        if self.form.dot and spec.lanes == 16:
            as_bytes = f"int8x{spec.lanes * QUAD}"
            operands = T.reinterpret(as_bytes, value), T.reinterpret(as_bytes, weight)
            return T.call_llvm_pure_intrin("int32x16", "llvm.x86.avx512.vpdpbusd.512", total, *operands)
        for byte in range(QUAD):
            x = (value >> const(8 * byte, spec.lanes, "int32")) & const(255, spec.lanes, "int32")
            w = (weight << const(24 - 8 * byte, spec.lanes, "int32")) >> const(24, spec.lanes, "int32")
            total = total + x * w
        return total

    def _real(self, value: Expr) -> Expr:
        return T.reinterpret(f"float32x{self.spec.lanes}", value)

    def _bits(self, value: Expr) -> Expr:
        return T.reinterpret(f"int32x{self.spec.lanes}", value)

    def plus(self, left: Expr, right: Expr) -> Expr:
        return self._bits(self._real(left) + self._real(right)) if self.form.real else left + right

    def store(self, value: Expr, position: Expr, lanes: int, vector: int) -> Stmt:
        spec = self.spec
        channel = self.out * integer(spec.block) + integer(vector * spec.lanes)
        if self.form.real:
            value = T.Cast(f"int32x{lanes}", self._real(value))
        other = None
        if spec.residual:
            words = lanes // QUAD if self.form.packed_residual else lanes
            at = self._residual_position(position)
            other = unpack(get(self.r, at, words), lanes) if self.form.packed_residual else get(self.r, at, lanes)
        padded = self.at(integer(0)) * integer(spec.block)
        result = apply(value, self.form.steps, lanes, self.table, channel, padded, other)
        if self.form.packed_target:
            return put(self.y, pack_bytes(result, lanes), position, lanes // QUAD)
        return put(self.y, result, position, lanes)

    def _residual_position(self, position: Expr) -> Expr:
        """Both maps have the same pixels in the same order; only the words per block differ."""
        target, residual = (QUAD if p else 16 for p in (self.form.packed_target, self.form.packed_residual))
        if target == residual:
            return position
        if target < residual:
            return position * integer(residual // target)
        return T.floordiv(position, integer(target // residual))


def int_conv_kernel(spec: ConvSpec, form: IntForm, source_rank: int = 5, target_rank: int = 5) -> Any:
    """(source, weights, bias, plan, table[, residual]) -> target; pooling by maximum takes (source, plan, table)."""
    return IntConvKernel(spec, form, source_rank, target_rank).build()
