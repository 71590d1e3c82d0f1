"""Convolution by single weights: each is broadcast to all pixels of a register tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.encodings import elements
from lhcc.encodings.elements import Elements
from lhcc.ir.layer import ConvLayer
from lhcc.ir.tir import Expr, Stmt, get, integer, loop, opaque, put, register, var
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.wide import TileClass, WideKernel, WideSpec, geometry

NEAR = 9 / 8  # of the first-level cache, for widened input: what does not stay comes from the next one in time
OVERHEAD = 22.0  # cycles to begin one output of one group: sums in and out, one branch guessed wrong


def make_spec(layer: ConvLayer, machine: Machine, threads: int) -> WideSpec | None:
    seen = geometry(layer)
    if seen is None:
        return None
    image, result = seen
    most = machine.registers - 4
    across = -(-result[3] // machine.lanes)
    vectors = min(across, most)
    rows = max(1, min(result[2], most // vectors))
    rows = -(-result[2] // -(-result[2] // rows))
    under = (rows - 1) * layer.strides[0] + (layer.kernel[0] - 1) * layer.dilation[0] + 1
    per_channel = layer.kernel[1] * under * vectors * machine.lanes * 4
    near = max(1, min(image[1], int(NEAR * machine.l1) // per_channel))
    return WideSpec(
        "elements", machine.lanes, image, result, layer.kernel, layer.strides, layer.padding[:2], layer.dilation,
        rows, vectors, near, (), layer.activation, layer.residual, threads,
    )  # fmt: skip


def estimate(weight: NDArray[np.float32], spec: WideSpec, machine: Machine) -> float:
    """Cycles of one image."""
    kept = int(np.count_nonzero(weight))
    groups = -(-spec.image[1] // spec.near)
    sums = [tile.rows * tile.vectors for tile, _, _ in spec.tiles()]
    least = machine.fma * machine.latency  # sums that hide the latency
    return sum(kept * (max(s, least) + 1) / machine.fma + groups * spec.result[1] * (OVERHEAD + s) for s in sums)


def encode(weight: NDArray[np.float32], spec: WideSpec) -> Elements:
    return elements.from_dense(weight, spec.near)


def tables(encoded: Elements, spec: WideSpec) -> NDArray[np.int32]:
    """Starts by group and output, then an input position per element."""
    _, channel, tap = encoded.index.T.astype(np.int64)
    _, _, columns, rows, width = spec.wide
    row, column = tap // spec.kernel[1], tap % spec.kernel[1]
    position = ((channel * columns + column) * rows + row * spec.dilation[0]) * width
    return np.concatenate([encoded.starts().reshape(-1), position]).astype(np.int32)


class ElementsKernel(WideKernel):
    def accumulate(self, tile: TileClass, base: Expr, waiting: Expr) -> Stmt:
        spec = self.spec
        lanes, outputs, width = spec.lanes, spec.result[1], spec.wide[4]
        groups = -(-spec.image[1] // spec.near)
        entries_at = self.tables_at + groups * (outputs + 1)
        group, entry, begin, end, position = (var(n) for n in ("group", "entry", "begin", "end", "position"))
        value = var("value", f"float32x{lanes}")
        sums = [register(f"sum{s}", f"float32x{lanes}") for s in range(tile.rows * tile.vectors)]
        place = self.out * integer(len(sums) * lanes)
        products: list[Stmt] = [
            T.Bind(position, base + self.at(integer(entries_at) + entry)),
            T.Bind(value, T.Broadcast(get(self.values, entry), lanes)),
        ]
        x, near = self.x, position
        if lanes == 16:
            x, code = opaque(self.x, position, self.at(integer(0)), "near")  # the class of the first tile is 0
            near = integer(0)
            products += code
        for s, into in enumerate(sums):
            row, vector = divmod(s, tile.vectors)
            offset = row * spec.strides[0] * width + vector * lanes
            products.append(put(into, get(into) + value * get(x, near + integer(offset), lanes)))
        at = integer(self.tables_at) + group * integer(outputs + 1) + self.out
        per_output = [
            *[T.AllocBuffer(s) for s in sums],
            *[put(into, get(waiting, place + integer(s * lanes), lanes)) for s, into in enumerate(sums)],
            T.Bind(begin, self.at(at)),
            T.Bind(end, self.at(at + integer(1))),
            T.For(entry, begin, end - begin, T.stmt.ForKind.SERIAL, T.SeqStmt(products)),
            *[put(waiting, get(into), place + integer(s * lanes), lanes) for s, into in enumerate(sums)],
        ]
        return loop(group, groups, [loop(self.out, outputs, per_output)])
