"""Chooses the register tiles and the weight tiles of a sum of narrow products, by estimated cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings import tiles
from lhcc.encodings.tiles import Tiles
from lhcc.targets.choice import spent
from lhcc.targets.cpu.cost import LARGE, shared
from lhcc.targets.cpu.int_storage import BLOCK
from lhcc.targets.cpu.int_sums import Sums, holds, prove, words_of
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.tiling import Axes, Divisions, divisions

# Bytes a cycle from the second-level cache, and from beyond: of many short rows, and of one long one.
SCATTERED, STREAMED = (16.0, 6.0), (16.0, 8.0)
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
    group: int  # register tiles that go through all outputs together
    threads: int
    cycles: float

    def __str__(self) -> str:
        size = f"{self.height}x{self.width} px x {self.encoded.lanes} lanes, depth {self.encoded.depth} words"
        return f"{self.sums}: {size}, {self.group} tiles at a time: {spent(self.cycles)}"


def forms_of(machine: Machine, storage: str, weight: NDArray[np.int64], highest: int) -> list[Sums]:
    """The ways in which the machine sums products of a map stored so, whose greatest element is `highest`."""
    if storage == "bytes" and machine.dot:
        return [Sums("dot", dot=machine.dot, less=128 if machine.dot == "sdot" and highest > 127 else 0)]
    if storage == "bytes":
        return [Sums("bytes", 2), Sums("bytes", 1)]
    return [Sums(storage, slim=storage == "halves" and holds(weight, "bytes"))]


def ranked(
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
) -> list[SumChoice]:
    """The choices for `weight` (O, I, kh, kw), cheapest first; `block_words` are those of an input block at one pixel.
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
                weight_bytes = encoded.values.nbytes // (2 if sums.slim else 1)
                groups, memory = grouped(divided.tiles, source_bytes, weight_bytes, encoded.out_blocks, machine)
                for count in sorted({1, threads}):
                    total = shared((work + memory) * images, count)
                    best = int(total.argmin())
                    size = int(divided.heights[best]), int(divided.widths[best])
                    found.append(SumChoice(sums, encoded, vectors, *size, int(groups[best]), count, float(total[best])))
    return sorted(found, key=lambda choice: choice.cycles)


def grouped(
    tiles_of: NDArray[np.int64], source_bytes: int, weight_bytes: int, blocks: int, machine: Machine
) -> tuple[NDArray[np.int64], Floats]:
    """Per division how many register tiles go through all outputs together, and the cycles of moving what is read.

    Many tiles at a time read the weights seldom, but their part of the input for every block of outputs again.
    """
    candidates = [np.ones_like(tiles_of), tiles_of]
    for cache in (machine.l1, machine.l2):  # as many tiles as half of the cache holds the input of
        fits = cache // 2 * tiles_of // max(1, source_bytes)
        candidates.append(np.clip(fits, 1, tiles_of))
    groups = np.stack(candidates)
    turns = -(-tiles_of // groups)
    part = source_bytes * groups / tiles_of
    moved = turns * blocks * _brought(part, machine, SCATTERED)
    moved = moved + turns * _brought(np.float64(weight_bytes), machine, STREAMED)
    best = moved.argmin(axis=0), np.arange(len(tiles_of))
    return groups[best], moved[best]


def _brought(size: Any, machine: Machine, rates: tuple[float, float]) -> Any:
    """Cycles of bringing `size` bytes from the cache that holds them; nothing for those of the first level."""
    return np.where(size <= machine.l1 * 3 / 4, 0.0, np.where(size <= machine.l2, size / rates[0], size / rates[1]))


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
    if sums.less:  # what lies beyond the border is multiplied too
        area = np.ones_like(area) * np.where(divided.many > 0, divided.pixels, 0)[..., None].astype(np.float64)
    multiplications = {"bytes": 1 + 1 / sums.chunk, "words": 2.0}.get(sums.kind, 1.0)
    additions = {"dot": 0.0}.get(sums.kind, 1.0)
    inputs = area / sums.together(encoded.depth)
    loads = inputs + vectors
    operations = area * vectors * (multiplications + additions) + loads + inputs * bool(sums.less)
    per_word = np.maximum(np.maximum(area * vectors * multiplications, loads) / 2, operations / 5) + 0.2
    per_tile = ((encoded.depth * per_word + ENTRY) * (area > 0)) @ kept
    per_tile += encoded.out_blocks * (divided.pixels * vectors * 2 * STORE + divided.runs * RUN + TILE)
    total: Floats = (divided.many * per_tile).sum(axis=1) * (1 + 0.002 * divided.shapes + 0.002 * divided.heights)
    return total
