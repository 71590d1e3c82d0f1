"""Shifts and additions as code: every addition of a layer's adder graphs is one line of it.

Sixteen outputs at a time share what they have in common (`lhcc.encodings.adders`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.encodings.adders import AdderGraph, solve
from lhcc.integer import Conv, Dense, TensorType
from lhcc.ir.tir import Expr, Stmt, integer, var
from lhcc.ir.vector import const, typed
from lhcc.targets.cpu.int_shift_layer import Finish, Place, Shape, ShiftLayer
from lhcc.targets.cpu.int_storage import BLOCK

READ = 256  # inputs that share their additions: for many more, finding what they share takes minutes


@dataclass(frozen=True)
class Part:
    """What some inputs, as rows of (channel, row, column of the kernel), add to a block of outputs."""

    block: int
    first: bool  # of its block
    inputs: NDArray[np.int64]
    graph: AdderGraph


@dataclass(frozen=True)
class Additions:
    """A layer as additions that share what they can."""

    layer: ShiftLayer
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, step: Conv | Dense, x: TensorType) -> Additions:
        layer = ShiftLayer.of(step)
        parts = []
        for first in range(0, len(layer.weight), BLOCK):
            block = layer.weight[first : first + BLOCK]
            every = np.argwhere(block.any(axis=0))
            for start in range(0, max(1, len(every)), READ):
                read = every[start : start + READ]
                graph = solve(block[:, read[:, 0], read[:, 1], read[:, 2]].T, seconds=0, peers=False)
                _check(layer, graph, x, read[:, 0])
                parts.append(Part(first // BLOCK, start == 0, read, graph))
        return cls(layer, tuple(parts))

    @property
    def count(self) -> int:
        joined = sum(out.node >= 0 for part in self.parts if not part.first for out in part.graph.outputs)
        return joined + sum(part.graph.adders for part in self.parts)

    def __str__(self) -> str:
        depth = max((part.graph.depth for part in self.parts), default=0)
        return f"{self.count:,} additions as code, {self.layer.before_sharing:,} before sharing, {depth} deep"

    def table(self, shape: Shape) -> None:
        """Its code says everything."""

    def code(self, place: Place, table: Expr, blocks: int, finish: Finish) -> list[Stmt]:
        code: list[Stmt] = []
        for block in range(blocks):
            for part in (part for part in self.parts if part.block == block):
                code += _part(part, self.layer.offsets(part.inputs, place.shape).tolist(), self.layer, place)
            code += finish(integer(block))
        return code


def _check(layer: ShiftLayer, graph: AdderGraph, x: TensorType, channels: NDArray[np.int64]) -> None:
    """A border may stand for any input, so every interval holds 0; what is shared may be larger than any output."""
    low, high = graph.ranges(np.minimum(x.low[channels], 0), np.maximum(x.high[channels], 0))
    if graph.operations:
        layer.check(low.min(), high.max())


def _part(part: Part, offsets: Sequence[int], layer: ShiftLayer, place: Place) -> list[Stmt]:
    """Adds to the sums of a block of outputs at some pixels of a row."""
    code: list[Stmt] = []
    lanes = place.lanes
    kind, nodes = typed("int32", lanes), list[Expr]()

    def bind(value: Expr) -> None:
        nodes.append(var(f"n{part.block}_{len(nodes)}", kind))
        code.append(T.Bind(nodes[-1], value))

    for offset in offsets:
        at = place.base + integer(offset)
        bind(T.BufferLoad(place.x, [at if lanes == 1 else T.Ramp(at, layer.stride[1], lanes)]))
    for adder in part.graph.operations:
        left = _shift(nodes[adder.left], adder.left_shift, lanes)
        right = _shift(nodes[adder.right], adder.right_shift, lanes)
        bind(left - right if adder.subtract else left + right)
    outputs = part.graph.outputs
    for lane in range(BLOCK):
        to = integer(lane) if lanes == 1 else T.Ramp(integer(lane), BLOCK, lanes)
        value = const(0, lanes, "int32") if part.first else T.BufferLoad(place.sums, [to])
        if lane < len(outputs) and outputs[lane].node >= 0:
            node = _shift(nodes[outputs[lane].node], outputs[lane].shift, lanes)
            value = value - node if outputs[lane].negative else value + node
        code.append(T.BufferStore(place.sums, value, [to]))
    return code


def _shift(value: Expr, amount: int, lanes: int) -> Expr:
    """value * 2^amount, which is a whole number even where the amount is negative."""
    if amount < 0:
        return value >> const(-amount, lanes, "int32")
    return value << const(amount, lanes, "int32") if amount else value
