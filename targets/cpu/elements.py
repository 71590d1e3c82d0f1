"""Convolution by single weights: each is broadcast to all pixels of a register tile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.encodings import elements
from lhcc.encodings.elements import Elements
from lhcc.ir.layer import ConvLayer
from lhcc.ir.tir import Expr, Stmt, get, integer, opaque, put, var
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.wide import TileClass, WideSpec, geometry, shifted
from lhcc.targets.cpu.wide_sums import SumsKernel

NEAR = 1 / 2  # of the first-level cache, for widened input
NEAR_SHIFTED = 9 / 8  # where every load is aligned, what does not stay comes from the next cache in time
BESIDE = 3.0  # what a weight costs beside its multiply-adds, in multiply-adds
BESIDE_SHIFTED = 1.0
MARGIN = 1.15  # what it must promise over blocks of weights
OVERHEAD = 22.0  # cycles to begin one output of one group: sums in and out, one branch guessed wrong


def most_sums(machine: Machine) -> int:
    return machine.registers - 4


def make_spec(layer: ConvLayer, machine: Machine, threads: int) -> WideSpec | None:
    seen = geometry(layer)
    if seen is None:
        return None
    image, result = seen
    most = most_sums(machine)
    across = -(-result[3] // machine.lanes)
    vectors = min(across, most)
    rows = max(1, min(result[2], most // vectors))
    rows = -(-result[2] // -(-result[2] // rows))
    spec = WideSpec(
        "elements", machine.lanes, image, result, layer.kernel, layer.strides, layer.padding[:2], layer.dilation,
        rows, vectors, 1, (), layer.activation, layer.residual, threads, shifted(layer, machine),
    )  # fmt: skip
    share = NEAR_SHIFTED if spec.shifted else NEAR
    return replace(spec, near=max(1, min(image[1], int(share * machine.l1) // spec.tile_bytes())))


def estimate(weight: NDArray[np.float32], spec: WideSpec, machine: Machine) -> float:
    """Cycles of one image."""
    kept = int(np.count_nonzero(weight))
    groups = -(-spec.image[1] // spec.near)
    sums = [tile.rows * tile.vectors for tile, _, _ in spec.tiles()]
    least = machine.fma * machine.latency  # sums that hide the latency
    beside = BESIDE_SHIFTED if spec.shifted else BESIDE
    begun = groups * spec.result[1]
    return float(sum(kept * (max(s, least) + beside) / machine.fma + begun * (OVERHEAD + s) for s in sums))


def encode(weight: NDArray[np.float32], spec: WideSpec) -> Elements:
    return elements.from_dense(weight, spec.near)


def tables(encoded: Elements, spec: WideSpec) -> NDArray[np.int32]:
    """Starts by group and output, then an input position per element."""
    _, channel, tap = encoded.index.T.astype(np.int64)
    position = channel * spec.channel_step + spec.tap_at(*np.divmod(tap, spec.kernel[1]))
    return np.concatenate([encoded.starts().reshape(-1), position]).astype(np.int32)


class ElementsKernel(SumsKernel):
    def products(self, tile: TileClass, base: Expr, group: Expr, sums: list[Expr]) -> list[Stmt]:
        spec = self.spec
        lanes, outputs = spec.lanes, spec.result[1]
        entries_at = self.tables_at + self.groups * (outputs + 1)
        entry, begin, end, position = (var(n) for n in ("entry", "begin", "end", "position"))
        value = var("value", f"float32x{lanes}")
        code: list[Stmt] = [
            T.Bind(position, base + self.at(integer(entries_at) + entry)),
            T.Bind(value, T.Broadcast(get(self.values, entry), lanes)),
        ]
        x, near = self.x, position
        if lanes == 16:
            x, hidden = opaque(self.x, position, self.at(integer(0)), "near")  # the class of the first tile is 0
            near = integer(0)
            code += hidden
        for s, into in enumerate(sums):
            row, vector = divmod(s, tile.vectors)
            offset = row * spec.strides[0] * spec.row_step + tile.starts[vector]
            code.append(put(into, get(into) + value * get(x, near + integer(offset), lanes)))
        at = integer(self.tables_at) + group * integer(outputs + 1) + self.out
        return [
            T.Bind(begin, self.at(at)),
            T.Bind(end, self.at(at + integer(1))),
            T.For(entry, begin, end - begin, T.stmt.ForKind.SERIAL, T.SeqStmt(code)),
        ]


GROUPED = "inputs"  # what is taken together
SPEC = WideSpec
KERNEL = ElementsKernel
