"""Convolution by kernels of few patterns: per input, its shifted rows are held in registers, and code made for one
pattern runs over all outputs whose kernel has that pattern.  Which registers meet is then known when the code is made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.encodings import patterns
from lhcc.encodings.patterns import Patterns
from lhcc.ir.layer import ConvLayer
from lhcc.ir.tir import Expr, Stmt, get, integer, loop, put, var
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.wide import Finish, TileClass, WideKernel, WideSpec, geometry, shifted

OVERHEAD = 12.0  # cycles to begin one pattern of one input


def make_spec(layer: ConvLayer, machine: Machine, threads: int) -> WideSpec | None:
    seen = geometry(layer)
    if seen is None or layer.weight is None or machine.registers < 32:
        return None
    image, result = seen
    kernel, strides, dilation = layer.kernel, layer.strides, layer.dilation
    # rows of one vector: the shifted inputs, the sums of one output and one weight fill the registers
    rows = 0
    for candidate in range(1, result[2] + 1):
        under = (candidate - 1) * strides[0] + (kernel[0] - 1) * dilation[0] + 1
        if kernel[1] * under + candidate + 2 <= machine.registers:
            rows = candidate
    if not rows:
        return None
    rows = -(-result[2] // -(-result[2] // rows))
    near = max(1, min(result[1], machine.l1 // (rows * machine.lanes * 4)))
    near = -(-result[1] // -(-result[1] // near))
    return WideSpec(
        "patterns", machine.lanes, image, result, kernel, strides, layer.padding[:2], dilation,
        rows, 1, near, (), layer.activation, layer.residual, threads, shifted(layer, machine),
    )  # fmt: skip


def estimate(encoded: Patterns, spec: WideSpec, machine: Machine) -> float:
    """Cycles of one image."""
    per_kernel = len(encoded.values) / max(1, len(encoded.index))
    total = 0.0
    for tile, _, _ in spec.tiles():
        loads = 1 + per_kernel + tile.rows
        one = max(per_kernel * tile.rows / machine.fma, loads / machine.loads, tile.rows) + 0.5
        total += len(encoded.index) * one + encoded.blocks * spec.image[1] * len(encoded.taps) * OVERHEAD
    return total


def encode(weight: NDArray[np.float32], spec: WideSpec) -> Patterns | None:
    return patterns.from_dense(weight, spec.near)


def tables(encoded: Patterns, spec: WideSpec) -> NDArray[np.int32]:
    """Starts of kernels, starts of values, then the output of every kernel."""
    kernels, values = encoded.starts()
    return np.concatenate([kernels, values, encoded.index[:, 0]]).astype(np.int32)


class PatternsKernel(WideKernel):
    def tile_code(self, tile: TileClass, base: Expr, finish: Finish) -> list[Stmt]:
        lanes, outputs, waiting = self.spec.lanes, self.spec.result[1], self.waiting(tile)
        places = [self.out * integer(tile.sums * lanes) + integer(s * lanes) for s in range(tile.sums)]
        sums = [get(waiting, place, lanes) for place in places]
        return [
            T.AllocBuffer(waiting),
            loop(self.out, outputs, [put(waiting, self.started(), place, lanes) for place in places]),
            self._accumulate(tile, base, waiting),
            loop(self.out, outputs, finish(sums, lambda s, lane: get(waiting, places[s] + integer(lane)))),
        ]

    def _accumulate(self, tile: TileClass, base: Expr, waiting: Expr) -> Stmt:
        spec = self.spec
        blocks, inputs = -(-spec.result[1] // spec.near), spec.image[1]
        block, channel, position = var("block"), var("channel"), var("position")
        read = {}
        binds: list[Stmt] = [T.Bind(position, base + channel * integer(spec.channel_step))]
        for column in range(spec.kernel[1]):
            for row in range(tile.above, spec.tile_rows(tile.rows) - tile.below):
                value = var(f"x{column}_{row}", f"float32x{spec.lanes}")
                at = position + integer(row * spec.row_step + spec.tap_at(0, column))
                binds.append(T.Bind(value, get(self.x, at, spec.lanes)))
                read[column, row] = value
        number = (block * integer(inputs) + channel) * integer(len(spec.taps))
        each = [
            self._pattern(tile, pattern, number + integer(pattern), read, waiting) for pattern in range(len(spec.taps))
        ]
        return loop(block, blocks, [loop(channel, inputs, [*binds, *each])])

    def _pattern(
        self, tile: TileClass, pattern: int, number: Expr, read: dict[tuple[int, int], Expr], waiting: Expr
    ) -> Stmt:
        """All kernels of one pattern of one input."""
        spec = self.spec
        lanes, taps = spec.lanes, spec.taps[pattern]
        count = -(-spec.result[1] // spec.near) * spec.image[1] * len(spec.taps) + 1
        begin, end, first, kernel, place = (var(n) for n in ("begin", "end", "first", "kernel", "place"))
        outputs_at = self.tables_at + 2 * count
        code: list[Stmt] = [T.Bind(place, self.at(integer(outputs_at) + begin + kernel) * integer(tile.rows * lanes))]
        weights = []
        for order, tap in enumerate(taps):
            weight = var(f"w{tap}", f"float32x{lanes}")
            at = first + kernel * integer(len(taps)) + integer(order)
            code.append(T.Bind(weight, T.Broadcast(get(self.values, at), lanes)))
            weights.append(weight)
        for row in range(tile.rows):
            total = get(waiting, place + integer(row * lanes), lanes)
            for weight, tap in zip(weights, taps, strict=True):
                y, x = divmod(tap, spec.kernel[1])
                value = read.get((x, row * spec.strides[0] + y * spec.dilation[0]))
                if value is not None:  # else it is padding
                    total = total + weight * value
            code.append(put(waiting, total, place + integer(row * lanes), lanes))
        return T.SeqStmt(
            [
                T.Bind(begin, self.at(integer(self.tables_at) + number)),
                T.Bind(end, self.at(integer(self.tables_at + 1) + number)),
                T.Bind(first, self.at(integer(self.tables_at + count) + number)),
                loop(kernel, end - begin, code),
            ]
        )


KERNEL = PatternsKernel
