"""Convolution by kernels of few patterns on many registers: code made for one pattern holds what its taps read of one
input in registers, and runs over the outputs whose kernel of that input has that pattern.  Their sums stay near.

What costs beside multiply-adds is the end of a run, which the processor guesses wrong, and loading the next inputs.
So the runs of all parts but the last are equally long, and neighbouring patterns keep the inputs that they share.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.encodings import patterns
from lhcc.encodings.patterns import Patterns
from lhcc.ir.layer import ConvLayer
from lhcc.ir.tir import Expr, Stmt, flat, get, integer, loop, opaque, put, var
from lhcc.targets.cpu.flatten import chunks
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.regions import NOTHING, FlatSpec, FlatTile
from lhcc.targets.cpu.wide import WideKernel, geometry, pieces

NEAR = 5 / 4  # of the first-level cache, for the sums of a part: longer runs, though some come from the next cache
OVERHEAD = 4.0  # cycles to begin one run
VISIT = 0.2  # to begin one kernel
BESIDE = 4  # registers beside inputs and weights
AGAIN = 0.3  # for an input that finds no register
MARGIN = 1.03  # what it must promise over blocks of weights: its cycles are foreseen within a few percent
STEP = 3  # of what counts kernels: LLVM does not unroll a loop whose turns take a division to count


def make_spec(layer: ConvLayer, machine: Machine, threads: int) -> FlatSpec | None:
    seen = geometry(layer)
    found = None if layer.weight is None else patterns.census(layer.weight)
    if seen is None or found is None:
        return None
    image, result = seen
    spec = FlatSpec(
        "patterns", machine.lanes, image, result, layer.kernel, layer.strides, layer.padding[:2], layer.dilation,
        1, 1, 1, (), layer.activation, layer.residual, threads, True,
    )  # fmt: skip
    shapes = [vectors for vectors in pieces(spec.most[1]) if vectors <= most_sums(machine)]
    return min((_fitted(spec, v, machine) for v in shapes), key=lambda s: _cycles(found, s, machine))


def most_sums(machine: Machine) -> int:
    return machine.registers // 4


def _fitted(spec: FlatSpec, vectors: int, machine: Machine) -> FlatSpec:
    """With as many outputs together as the first-level cache holds sums of."""
    outputs = spec.result[1]
    near = max(1, min(outputs, int(NEAR * machine.l1 / (vectors * spec.lanes * 4))))
    return replace(spec, vectors=vectors, near=-(-outputs // -(-outputs // near)))


def estimate(encoded: Patterns, spec: FlatSpec, machine: Machine) -> float:
    """Cycles of one image."""
    many = np.bincount(encoded.index[:, 2], minlength=len(encoded.taps))
    return _cycles(dict(zip(encoded.taps, map(int, many), strict=True)), spec, machine)


def _cycles(found: dict[tuple[int, ...], int], spec: FlatSpec, machine: Machine) -> float:
    """The same, for so many kernels of each pattern.  Threads that have no tile wait for the others."""
    runs, total = _parts(spec) * spec.image[1] * len(found), 0.0
    costs: dict[FlatTile, float] = {}
    for tile, _, _ in spec.tiles():
        if tile not in costs:
            costs[tile] = runs * OVERHEAD + sum(n * _kernel(tile, taps, machine) for taps, n in found.items())
        total += costs[tile]
    units = len(spec.tiles()) * spec.image[0]
    return total * -(-units // spec.threads) * spec.threads / units


def _kernel(tile: FlatTile, taps: tuple[int, ...], machine: Machine) -> float:
    """Cycles of one kernel.  What finds no register is loaded again for every kernel."""
    products = tile.inputs(taps)
    again = max(0, products + len(taps) + BESIDE - machine.registers)
    loads = (1 + len(taps) + tile.sums + again) / machine.loads
    return max(products / machine.fma, loads, tile.sums) + VISIT + again * AGAIN


def _parts(spec: FlatSpec) -> int:
    return -(-spec.result[1] // spec.near)


def encode(weight: NDArray[np.float32], spec: FlatSpec) -> Patterns | None:
    return patterns.from_dense(weight, spec.near, equal=True)


def _entry(spec: FlatSpec) -> str:
    """The type that numbers of outputs are stored as: few bytes, as they are read with the weights of every tile."""
    outputs = spec.result[1]
    return "uint8" if outputs <= 1 << 8 else "uint16" if outputs <= 1 << 16 else "int32"


def tables(encoded: Patterns, spec: FlatSpec) -> NDArray[np.int32]:
    """Starts of kernels, starts of values, then the output of every kernel."""
    kernels, values = encoded.starts()
    outputs = np.zeros(-(-len(encoded.index) // 4) * 4, _entry(spec))
    outputs[: len(encoded.index)] = encoded.index[:, 0]
    return np.concatenate([kernels, values, outputs.view(np.int32)])


class PatternsKernel(WideKernel):
    spec: FlatSpec

    def __init__(self, spec: FlatSpec, target_shape: tuple[int, ...]) -> None:
        super().__init__(spec, target_shape)
        self.outputs, see = flat(self.table, "outputs", _entry(spec))
        self.views.append(see)
        self.runs = _parts(spec) * spec.image[1] * len(spec.taps)
        self.outputs_at = (self.tables_at + 2 * (self.runs + 1)) * (4 // np.dtype(_entry(spec)).itemsize)

    def unit_code(self, tile: FlatTile, base: Expr, image: Expr, y: Expr, x: Expr) -> list[Stmt]:
        spec = self.spec
        outputs, inputs, size = spec.result[1], spec.image[1], tile.sums * spec.lanes
        waiting = self.waiting(tile.sums)
        sums = self.out * integer(size)
        start = [put(waiting, self.started(), sums + integer(s), spec.lanes) for s in range(0, size, spec.lanes)]
        part, channel, position = var("part_of"), var("channel"), var("position")
        number = (part * integer(inputs) + channel) * integer(len(spec.taps))
        each = [self._run(tile, p, number + integer(p), position, waiting) for p in range(len(spec.taps))]
        at = T.Bind(position, base + channel * integer(spec.channel_step))
        plane = (image * integer(outputs) + self.out) * integer(spec.result[2] * spec.result[3]) + y + x
        return [
            T.AllocBuffer(waiting),
            loop(self.out, outputs, start),
            loop(part, _parts(spec), [loop(channel, inputs, [at, *each])]),
            loop(self.out, outputs, self._results(tile, waiting, sums, plane)),
        ]

    def _run(self, tile: FlatTile, pattern: int, number: Expr, position: Expr, waiting: Expr) -> Stmt:
        """All kernels of one pattern of one input and part."""
        spec = self.spec
        lanes, taps = spec.lanes, spec.taps[pattern]
        begin, end, place = var("begin"), var("end"), var("place", "int64")
        zero = self.at(integer(self.tables_at))  # where the first kernel begins
        x, held = opaque(self.x, position, zero, "near")
        read = {}
        for s, reads in enumerate(tile.reads):
            for tap in taps:
                if reads[tap] != NOTHING:
                    read[s, tap] = var(f"x{s}_{tap}", f"float32x{lanes}")
                    held.append(T.Bind(read[s, tap], get(x, integer(reads[tap]), lanes)))
        kernel, value, turn = (T.decl_buffer((1,), "int32", n, scope="global") for n in ("kernel", "value", "turn"))
        output = T.Cast("int64", get(self.outputs, integer(self.outputs_at) + get(kernel)))
        code: list[Stmt] = [T.Bind(place, output * T.IntImm("int64", tile.sums * lanes))]
        weights = {}
        for order, tap in enumerate(taps):
            weights[tap] = var(f"w{tap}", f"float32x{lanes}")
            code.append(T.Bind(weights[tap], T.Broadcast(get(self.values, get(value) + integer(order)), lanes)))
        for s in range(tile.sums):
            at = place + T.IntImm("int64", s * lanes)
            total = get(waiting, at, lanes)
            for tap in taps:
                if (s, tap) in read:  # else it is padding
                    total = total + weights[tap] * read[s, tap]
            code.append(put(waiting, total, at, lanes))
        steps = ((kernel, 1), (value, len(taps)), (turn, STEP))
        turns = var("turns")
        return T.SeqStmt(
            [
                T.Bind(begin, self.at(integer(self.tables_at) + number)),
                T.Bind(end, self.at(integer(self.tables_at + 1) + number)),
                *held,
                *[T.AllocBuffer(counter) for counter, _ in steps],
                put(kernel, begin),
                put(value, self._first_value(number, begin)),
                put(turn, integer(0)),
                T.Bind(turns, (end - begin) * integer(STEP) + zero),
                T.While(
                    T.LT(get(turn), turns),
                    T.SeqStmt([*code, *[put(counter, get(counter) + integer(step)) for counter, step in steps]]),
                ),
            ]
        )

    def _first_value(self, number: Expr, kernel: Expr) -> Expr:
        """Where the weights of a run begin."""
        lengths = set(map(len, self.spec.taps))
        if len(lengths) == 1:
            return kernel * integer(lengths.pop())
        return self.at(integer(self.tables_at + self.runs + 1) + number)

    def _results(self, tile: FlatTile, waiting: Expr, sums: Expr, plane: Expr) -> list[Stmt]:
        """Epilogue and stores of one output, in vectors as long as the result has room for."""
        code = []
        for lane, count, position in tile.pieces:
            for at, size in chunks(0, count, self.spec.lanes):
                to = plane + integer(position + at)
                value = get(waiting, sums + integer(lane + at), size)
                code.append(put(self.y, self._epilogue(value, to, size), to, size))
        return code


GROUPED = "outputs"  # what is taken together
SPEC = FlatSpec
KERNEL = PatternsKernel
