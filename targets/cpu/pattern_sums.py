"""Convolution by kernels of few patterns on few registers: the sums of one output wait in registers while code made for
one pattern runs over all inputs whose kernel has that pattern.  A vector that is loaded meets all taps of its column,
so that there are fewer loads than multiply-adds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.encodings import patterns
from lhcc.encodings.patterns import Patterns
from lhcc.ir.layer import ConvLayer
from lhcc.ir.tir import Expr, Stmt, get, integer, loop, put, var
from lhcc.targets.cpu.machine import LINE, Machine
from lhcc.targets.cpu.wide import TileClass, WideSpec, geometry, pieces, shifted
from lhcc.targets.cpu.wide_sums import SumsKernel

TOGETHER = 3  # taps of a column that share their loads: each holds a weight in a register
NEAR = 7 / 8  # of the first-level cache, for widened input: fewer groups, though some of it comes from the next cache
OVERHEAD = 20.0  # cycles to begin one output of one group of inputs: sums in and out, one branch guessed wrong
VISIT = 4.0  # to begin one of its patterns
BEGIN = 0.5  # to begin one kernel
MARGIN = 1.15  # what it must promise over blocks of weights


def most_sums(machine: Machine) -> int:
    return machine.registers - TOGETHER - 2  # and one input; with one more register LLVM keeps all in place


def make_spec(layer: ConvLayer, machine: Machine, threads: int) -> WideSpec | None:
    seen = geometry(layer)
    if seen is None or layer.weight is None:
        return None
    image, result = seen
    spec = WideSpec(
        "pattern sums", machine.lanes, image, result, layer.kernel, layer.strides, layer.padding[:2], layer.dilation,
        1, 1, 1, (), layer.activation, layer.residual, threads, shifted(layer, machine),
    )  # fmt: skip
    across = len(spec.row_starts)
    shapes = [(r, v) for r in pieces(result[2]) for v in pieces(across) if r * v <= most_sums(machine)]
    return min(
        (_fitted(spec, rows, vectors, machine) for rows, vectors in shapes), key=lambda s: _per_kernel(s, machine)
    )


def _fitted(spec: WideSpec, rows: int, vectors: int, machine: Machine) -> WideSpec:
    """With as many inputs together as the first-level cache holds."""
    spec = replace(spec, rows=rows, vectors=vectors)
    return replace(spec, near=max(1, min(spec.image[1], int(NEAR * machine.l1 / spec.tile_bytes()))))


def _per_kernel(spec: WideSpec, machine: Machine) -> float:
    """Cycles of one kernel with half of its taps, for choosing a tile before patterns are known."""
    taps = tuple(range(0, spec.kernel[0] * spec.kernel[1], 2))
    return sum(_kernel(tile, taps, spec, machine) + OVERHEAD / spec.near for tile, _, _ in spec.tiles())


def _kernel(tile: TileClass, taps: tuple[int, ...], spec: WideSpec, machine: Machine) -> float:
    """Cycles of one kernel: its multiply-adds, or its loads, or waiting for its own sums."""
    loads, products = float(len(taps)), 0
    for column, _, vector, uses in reads(tile, taps, spec):
        products += len(uses)
        start = tile.starts[vector] + spec.tap_at(0, column)
        crosses = not spec.shifted and start * 4 % LINE + spec.lanes * 4 > LINE
        loads += 1 + crosses
    work = products / machine.fma
    return max(work, loads / machine.loads, len(taps) * machine.latency + work / 6) + BEGIN


def reads(
    tile: TileClass, taps: tuple[int, ...], spec: WideSpec
) -> Iterator[tuple[int, int, int, list[tuple[int, int]]]]:
    """Column, row and vector of every load of a kernel, and the (tap, row of sums) that it meets: taps of a column
    that share loads in turn.  Every sum takes its taps in the same order, whatever the tile."""
    columns: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for tap in taps:
        y, x = divmod(tap, spec.kernel[1])
        columns[x].append((tap, y * spec.dilation[0]))
    bottom = spec.tile_rows(tile.rows) - tile.below
    for column, both in sorted(columns.items()):
        for first in range(0, len(both), TOGETHER):
            meets: dict[int, list[tuple[int, int]]] = defaultdict(list)
            for tap, down in both[first : first + TOGETHER]:
                for row in range(tile.rows):
                    meets[row * spec.strides[0] + down].append((tap, row))
            for row in sorted(meets):
                if tile.above <= row < bottom:  # else it is padding
                    for vector in range(tile.vectors):
                        yield column, row, vector, meets[row]


def estimate(encoded: Patterns, spec: WideSpec, machine: Machine) -> float:
    """Cycles of one image."""
    many = np.bincount(encoded.index[:, 2], minlength=len(encoded.taps))
    begun = encoded.parts * spec.result[1] * (OVERHEAD + VISIT * len(encoded.taps))
    costs = {
        tile: sum(int(n) * _kernel(tile, taps, spec, machine) for n, taps in zip(many, encoded.taps, strict=True))
        for tile in spec.classes()
    }
    return sum(costs[tile] + begun for tile, _, _ in spec.tiles())


def encode(weight: NDArray[np.float32], spec: WideSpec) -> Patterns | None:
    """Outputs and inputs change places: kernels are sorted by group of inputs, output and pattern."""
    return patterns.from_dense(weight.transpose(1, 0, 2, 3), spec.near)


def tables(encoded: Patterns, spec: WideSpec) -> NDArray[np.int32]:
    """Starts of kernels, starts of values, then the input position of every kernel."""
    kernels, values = encoded.starts()
    return np.concatenate([kernels, values, encoded.index[:, 0] * spec.channel_step]).astype(np.int32)


class PatternSumsKernel(SumsKernel):
    def products(self, tile: TileClass, base: Expr, group: Expr, sums: list[Expr]) -> list[Stmt]:
        patterns = len(self.spec.taps)
        number = (group * integer(self.spec.result[1]) + self.out) * integer(patterns)
        return [self._pattern(tile, p, number + integer(p), base, sums) for p in range(patterns)]

    def _pattern(self, tile: TileClass, pattern: int, number: Expr, base: Expr, sums: list[Expr]) -> Stmt:
        """All kernels of one pattern of one output."""
        spec = self.spec
        lanes, taps = spec.lanes, spec.taps[pattern]
        count = self.groups * spec.result[1] * len(spec.taps) + 1
        begin, end, first, kernel, position = (var(n) for n in ("begin", "end", "first", "kernel", "position"))
        code: list[Stmt] = [T.Bind(position, base + self.at(integer(self.tables_at + 2 * count) + begin + kernel))]
        weights = {}
        for order, tap in enumerate(taps):
            weights[tap] = var(f"w{tap}", f"float32x{lanes}")
            at = first + kernel * integer(len(taps)) + integer(order)
            code.append(T.Bind(weights[tap], T.Broadcast(get(self.values, at), lanes)))
        for number_of, (column, row, vector, uses) in enumerate(reads(tile, taps, spec)):
            value = var(f"x{number_of}", f"float32x{lanes}")
            offset = row * spec.row_step + spec.tap_at(0, column) + tile.starts[vector]
            code.append(T.Bind(value, get(self.x, position + integer(offset), lanes)))
            for tap, sum_row in uses:
                into = sums[sum_row * tile.vectors + vector]
                code.append(put(into, get(into) + weights[tap] * value))
        return T.SeqStmt(
            [
                T.Bind(begin, self.at(integer(self.tables_at) + number)),
                T.Bind(end, self.at(integer(self.tables_at + 1) + number)),
                T.Bind(first, self.at(integer(self.tables_at + count) + number)),
                loop(kernel, end - begin, code),
            ]
        )


GROUPED = "inputs"  # what is taken together
SPEC = WideSpec
KERNEL = PatternSumsKernel
