"""The *tiles* encoding: a convolution's weight as the list of its non-zero blocks; dense is when all are kept.

A block ("tile") is `depth` input channels x `lanes` output channels at one tap of the kernel.  Tiles are sorted by
output block, then tap, then input block, which is the order in which a kernel consumes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tiles:
    """`values[j]` holds the (depth, lanes) block at tap, input block, output block = `index[j]`."""

    shape: tuple[int, int, int, int]  # outputs, inputs (all groups together), kernel height, kernel width
    lanes: int
    depth: int
    index: NDArray[np.int32]
    values: NDArray[np.float32]

    @property
    def taps(self) -> int:
        return self.shape[2] * self.shape[3]

    @property
    def out_blocks(self) -> int:
        return -(-self.shape[0] // self.lanes)

    @property
    def in_blocks(self) -> int:
        return -(-self.shape[1] // self.depth)

    @property
    def density(self) -> float:
        """Kept blocks over all blocks: the share of a dense kernel's work that is left."""
        return len(self.index) / max(1, self.taps * self.out_blocks * self.in_blocks)

    def macs(self) -> int:
        """Multiply-adds per output pixel, padding of the blocks included."""
        return len(self.index) * self.lanes * self.depth

    def to_dense(self) -> NDArray[np.float32]:
        outputs, inputs, height, width = self.shape
        blocks = np.zeros((self.out_blocks, self.taps, self.in_blocks, self.depth, self.lanes), self.values.dtype)
        tap, inp, out = self.index.T
        blocks[out, tap, inp] = self.values
        flat = blocks.transpose(0, 4, 2, 3, 1).reshape(self.out_blocks * self.lanes, self.in_blocks * self.depth, -1)
        return np.ascontiguousarray(flat[:outputs, :inputs]).reshape(outputs, inputs, height, width)

    def starts(self) -> NDArray[np.int32]:
        """`starts[o, t]` .. `starts[o, t+1]`: the tiles of output block `o` at tap `t`."""
        key = self.index[:, 2].astype(np.int64) * self.taps + self.index[:, 0]
        counts = np.bincount(key, minlength=self.out_blocks * self.taps).reshape(self.out_blocks, self.taps)
        ends = counts.cumsum().reshape(counts.shape)
        return np.concatenate([(ends - counts)[:, :1], ends], axis=1).astype(np.int32)


def ungroup(weight: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """A grouped weight (O, I/groups, kh, kw) as the block-diagonal dense weight (O, I, kh, kw) that it stands for."""
    if groups == 1:
        return weight
    outputs, per_group, height, width = weight.shape
    full = np.zeros((outputs, per_group * groups, height, width), weight.dtype)
    each = outputs // groups
    for group in range(groups):
        rows = slice(group * each, (group + 1) * each)
        full[rows, group * per_group : (group + 1) * per_group] = weight[rows]
    return full


def _blocks(weight: NDArray[np.float32], lanes: int, depth: int) -> NDArray[np.float32]:
    """(O, I, kh, kw) -> (output block, tap, input block, depth, lanes), zero-padded to whole blocks."""
    outputs, inputs, height, width = weight.shape
    pad = ((0, -outputs % lanes), (0, -inputs % depth), (0, 0))
    padded = np.pad(weight.reshape(outputs, inputs, height * width), pad)
    split = padded.reshape(padded.shape[0] // lanes, lanes, padded.shape[1] // depth, depth, height * width)
    blocks: NDArray[np.float32] = split.transpose(0, 4, 2, 3, 1)
    return blocks


def from_dense(weight: NDArray[np.float32], lanes: int, depth: int, keep_all: bool = False) -> Tiles:
    """Keeps the blocks that hold a non-zero (NaN counts as one); `keep_all` keeps every block."""
    blocks = _blocks(weight, lanes, depth)
    kept = np.ones(blocks.shape[:3], bool) if keep_all else blocks.astype(bool).any(axis=(3, 4))
    out, tap, inp = np.nonzero(kept)
    index = np.stack([tap, inp, out], axis=1).astype(np.int32)
    outputs, inputs, height, width = weight.shape
    return Tiles((outputs, inputs, height, width), lanes, depth, index, np.ascontiguousarray(blocks[kept]))


def counts(weight: NDArray[np.float32], lanes: int, depth: int) -> NDArray[np.int64]:
    """How many blocks of this size hold a non-zero, per tap: the cost of the encoding, without building it."""
    kept: NDArray[np.int64] = _blocks(weight, lanes, depth).astype(bool).any(axis=(3, 4)).sum(axis=(0, 2))
    return kept
