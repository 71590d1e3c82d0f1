"""Jobs of the block array: kept (tap, input block, output block) pairs, activations, memory addresses."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lhcc.integer import TensorType
from lhcc.integer.core import Ints, Pair, width

INPUTS, OUTPUTS = 32, 16
"""the array takes 32 channels and makes 16: one block of kernels that share a shape"""
GAP = 6
"""idle cycles between two jobs, so that the last result is in memory before it is read"""


@dataclass(frozen=True)
class Source:
    """One term of a job: matrix.T @ tensor at (row * stride + dy, column * stride + dx), zero outside the image."""

    tensor: str
    dy: int
    dx: int
    matrix: Ints
    """(channels in, channels out)"""


@dataclass(frozen=True)
class BlockPair:
    """One pass of the array over all pixels: 32 inputs of one tap onto 16 outputs."""

    source: Source
    input_block: int
    output_block: int
    weights: Ints
    """(32, 16)"""


@dataclass
class Job:
    """One layer on the array: sources summed, bias, shift, limits, perhaps the maximum over 2x2 squares."""

    name: str
    layers: list[str]
    output: str
    sources: list[Source]
    bias: Ints
    rows: int
    columns: int
    stride: int
    shift: int = 0
    low: int | None = None
    high: int | None = None
    pool: bool = False
    pairs: list[BlockPair] = field(default_factory=list)
    dummies: int = 0
    """passes of output blocks that no pair reaches: they only bring the bias"""

    @property
    def pixels(self) -> int:
        """that the array visits; with pooling an odd last row or column is not needed"""
        return self.walked[0] * self.walked[1]

    @property
    def walked(self) -> Pair:
        return (self.rows & ~1, self.columns & ~1) if self.pool else (self.rows, self.columns)

    @property
    def blocks(self) -> int:
        return -(-len(self.bias) // OUTPUTS)

    @property
    def cycles(self) -> int:
        return len(self.pairs) * self.pixels

    def pair(self) -> None:
        """Cuts the sources into pairs, sorted by output block; only those with a weight in them are kept."""
        for block in range(self.blocks):
            found = [
                pair
                for source in self.sources
                for k in range(-(-source.matrix.shape[0] // INPUTS))
                if (pair := _block(source, k, block)).weights.any()
            ]
            if not found:
                found = [_block(self.sources[0], 0, block)]
                self.dummies += 1
            self.pairs += found


@dataclass(frozen=True)
class Folding:
    """All jobs of a program, in order, and the types of the tensors that they read and write."""

    jobs: tuple[Job, ...]
    input: str
    types: dict[str, TensorType]

    @property
    def work(self) -> int:
        """cycles in which the array is needed: kept pairs times pixels, summed over the layers"""
        return sum((len(j.pairs) - j.dummies) * j.pixels for j in self.jobs)

    @property
    def period(self) -> int:
        """cycles that one image occupies the array, gaps between jobs included"""
        return sum(j.cycles + GAP for j in self.jobs)

    @cached_property
    def weight_bits(self) -> int:
        """in two's complement, of the widest weight"""
        weights = [p.weights for j in self.jobs for p in j.pairs]
        return width(min(-1, *(int(w.min()) for w in weights)), max(0, *(int(w.max()) for w in weights)))


def _block(source: Source, input_block: int, output_block: int) -> BlockPair:
    weights = np.zeros((INPUTS, OUTPUTS), np.int64)
    part = source.matrix[
        input_block * INPUTS : (input_block + 1) * INPUTS, output_block * OUTPUTS : (output_block + 1) * OUTPUTS
    ]
    weights[: part.shape[0], : part.shape[1]] = part
    return BlockPair(source, input_block, output_block, weights)


def allocate(folding: Folding, blocks: dict[str, int]) -> tuple[dict[str, int], int]:
    """A base address per stored tensor (`blocks` words each), reusing what no later job reads; and the words needed."""
    last_read = {s.tensor: k for k, job in enumerate(folding.jobs) for s in job.sources}
    base: dict[str, int] = {}
    alive: list[tuple[int, int, int]] = []  # start, end, last reader
    size = 1
    for k, job in enumerate(folding.jobs):
        alive = [a for a in alive if a[2] >= k]
        if job.output not in blocks:
            continue
        start = 0
        for a in sorted(alive):
            if start + blocks[job.output] <= a[0]:
                break
            start = max(start, a[1])
        base[job.output] = start
        alive.append((start, start + blocks[job.output], last_read.get(job.output, k)))
        size = max(size, start + blocks[job.output])
    return base, size
