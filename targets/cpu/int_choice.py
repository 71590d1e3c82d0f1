"""Chooses the register tiles and the weight tiles of a sum of narrow products, by estimated cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings import tiles
from lhcc.encodings.tiles import Tiles
from lhcc.targets.cpu.cost import LARGE, shared
from lhcc.targets.cpu.int_storage import BLOCK
from lhcc.targets.cpu.int_sums import Sums, prove, words_of
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.tiling import Axes, Divisions, divisions

Floats = NDArray[np.float64]

ENTRY, STORE, TILE, RUN = LARGE.entry, LARGE.store, LARGE.tile, LARGE.run  # of the processor that this was fitted on


@dataclass(frozen=True)
class SumChoice:
    """One way to compute a layer: its weight tiles, and the largest register tile of outputs."""

    sums: Sums
    encoded: Tiles
    vectors: int
    height: int
    width: int
    tile_outer: bool
    threads: int
    cycles: float

    def __str__(self) -> str:
        order = "tiles" if self.tile_outer else "outputs"
        size = f"{self.height}x{self.width} px x {self.encoded.lanes} lanes, depth {self.encoded.depth} words"
        return f"{self.sums}: {size}, {order} outer: {self.cycles / 1e3:,.0f} kcycles"


def forms_of(machine: Machine, storage: str) -> list[Sums]:
    """The ways in which the machine sums products of a map stored so."""
    if storage == "bytes":
        return [Sums("dot")] if machine.dot else [Sums("bytes", 2), Sums("bytes", 1)]
    return [Sums(storage)]


def choose(
    weight: NDArray[np.int64],
    axes: Axes,
    machine: Machine,
    forms: list[Sums],
    highest: int,
    lanewise: bool,
    block_words: int,
    source_bytes: int,
    images: int,
    threads: int,
    keep_all: bool,
) -> SumChoice:
    """The cheapest choice for `weight` (O, I, kh, kw); `block_words` are those of an input block at one pixel.
    `lanewise`: an output sums over its own channel alone, and the weight is (O, 1, kh, kw)."""
    found: list[SumChoice] = []
    for sums in forms:
        words = weight.astype(np.int32) if lanewise else words_of(weight, sums.storage)
        for vectors in _widths(machine, 1 if lanewise else len(weight)):
            lanes = machine.lanes * vectors
            for depth in [1] if lanewise else _depths(words.shape[1], block_words):
                encoded = tiles.from_dense(words, lanes, depth, keep_all=keep_all)  # type: ignore[arg-type]
                encoded = prove(encoded, sums, highest)
                divided = divisions(axes, pixels(machine, sums, vectors))
                work = cycles(divided, encoded, sums, machine, vectors)
                orders = {
                    False: sweep(source_bytes, 0 * divided.tiles + encoded.out_blocks, machine),
                    True: sweep(encoded.values.nbytes, divided.tiles, machine),
                }
                for outer, memory in orders.items():
                    for count in sorted({1, threads}):
                        total = shared((work + memory) * images, count)
                        best = int(total.argmin())
                        size = int(divided.heights[best]), int(divided.widths[best])
                        found.append(SumChoice(sums, encoded, vectors, *size, outer, count, float(total[best])))
    return min(found, key=lambda choice: choice.cycles)


def _widths(machine: Machine, outputs: int) -> list[int]:
    least = BLOCK // machine.lanes
    twice = machine.registers == 32 and machine.lanes == BLOCK and outputs % (2 * BLOCK) == 0
    return [least, 2 * least] if twice else [least]


def _depths(words: int, block_words: int) -> Iterator[int]:
    """Words of an input block per weight tile: the deepest, and those that divide it."""
    deepest = block_words if words >= block_words else words
    return (depth for depth in range(deepest, 0, -1) if deepest % depth == 0)


def pixels(machine: Machine, sums: Sums, vectors: int) -> int:
    """Outputs of a register tile: as many as leave registers for the weights of a chunk, an input and passing sums
    (LLVM adds the products of halves to each other before it adds them to the sum, and needs more of these)."""
    spare = {"bytes": 4, "halves": 6, "dot": 1}.get(sums.kind, 2)
    return max(1, (machine.registers - sums.chunk * vectors - spare) // vectors)


def cycles(divided: Divisions, encoded: Tiles, sums: Sums, machine: Machine, vectors: int) -> Floats:
    """Cycles of arithmetic for one image, per division, on a core with two multipliers and two loads a cycle."""
    kept = np.bincount(encoded.index[:, 0], minlength=encoded.taps).astype(np.float64)
    area = divided.area.astype(np.float64)
    multiplications = {"bytes": 1 + 1 / sums.chunk, "words": 2.0}.get(sums.kind, 1.0)
    additions = {"dot": 0.0}.get(sums.kind, 1.0)
    loads = area + vectors
    operations = area * vectors * (multiplications + additions) + loads
    per_word = np.maximum(np.maximum(area * vectors * multiplications, loads) / 2, operations / 5) + 0.2
    per_tile = ((encoded.depth * per_word + ENTRY) * (area > 0)) @ kept
    per_tile += encoded.out_blocks * (divided.pixels * vectors * 2 * STORE + divided.runs * RUN + TILE)
    total: Floats = (divided.many * per_tile).sum(axis=1) * (1 + 0.002 * divided.shapes + 0.002 * divided.heights)
    return total


def sweep(swept: int, times: NDArray[np.int64], machine: Machine) -> Floats:
    """Cycles of reading `swept` bytes `times` over, beyond what the innermost loop hides."""
    rate = LARGE.near if swept <= machine.l2 else LARGE.far
    return np.asarray(times * np.float64(0.0 if swept <= LARGE.weights * machine.l1 else swept * rate))
