"""The *patterns* encoding: every k x k kernel keeps one of a few sets of taps (pattern pruning), whichever it is.

Kernels are sorted by block of outputs, input and pattern, so that code made for one pattern runs over all its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 16  # patterns: each is code of its own


@dataclass(frozen=True)
class Patterns:
    """Kernel `j` has output, input, pattern = `index[j]`; its weights are the next `len(taps[pattern])` values."""

    shape: tuple[int, int, int, int]
    block: int  # outputs per block
    taps: tuple[tuple[int, ...], ...]
    index: NDArray[np.int32]
    values: NDArray[np.float32]

    @property
    def blocks(self) -> int:
        return -(-self.shape[0] // self.block)

    @property
    def density(self) -> float:
        return len(self.values) / max(1, int(np.prod(self.shape)))

    def macs(self) -> int:
        """Multiply-adds per output pixel."""
        return len(self.values)

    def to_dense(self) -> NDArray[np.float32]:
        outputs, inputs, height, width = self.shape
        dense = np.zeros((outputs, inputs, height * width), self.values.dtype)
        at = 0
        for output, inp, pattern in self.index:
            taps = list(self.taps[pattern])
            dense[output, inp, taps] = self.values[at : at + len(taps)]
            at += len(taps)
        return dense.reshape(self.shape)

    def starts(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """First kernel and first value of every (block of outputs, input, pattern), with the end of all at the end."""
        count = len(self.taps)
        key = (self.index[:, 0].astype(np.int64) // self.block * self.shape[1] + self.index[:, 1]) * count
        kernels = np.bincount(key + self.index[:, 2], minlength=self.blocks * self.shape[1] * count)
        values = kernels.reshape(-1, count) * np.array([len(taps) for taps in self.taps])
        return _before(kernels), _before(values.reshape(-1))


def _before(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.concatenate([[0], counts.cumsum()]).astype(np.int32)


def _masks(weight: NDArray[np.float32]) -> NDArray[np.int64]:
    """Per kernel, one bit per non-zero tap."""
    flat = weight.reshape(*weight.shape[:2], -1) != 0
    masks: NDArray[np.int64] = flat @ (1 << np.arange(flat.shape[2]))
    return masks


def from_dense(weight: NDArray[np.float32], block: int) -> Patterns | None:
    """None if the kernels have no pattern, more than MOST, or more taps than a mask has bits."""
    outputs, inputs, height, width = weight.shape
    if height * width > 62:
        return None
    masks = _masks(weight)
    known = [int(mask) for mask in np.unique(masks) if mask]
    if not 0 < len(known) <= MOST:
        return None
    taps = tuple(tuple(tap for tap in range(height * width) if mask >> tap & 1) for mask in known)
    output, inp = np.nonzero(masks)
    pattern = np.searchsorted(known, masks[output, inp])
    order = np.lexsort((output, pattern, inp, output // block))
    index = np.stack([output, inp, pattern], axis=1)[order]
    flat = weight.reshape(outputs, inputs, -1)
    kernels = flat[index[:, 0], index[:, 1]]
    values = kernels[kernels != 0]
    return Patterns((outputs, inputs, height, width), block, taps, index.astype(np.int32), values)
