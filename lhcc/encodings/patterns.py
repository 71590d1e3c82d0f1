"""The *patterns* encoding: every k x k kernel keeps one of a few sets of taps (pattern pruning), whichever it is.

Kernels are sorted by part, input and pattern, so that code made for one pattern runs over all its kernels.  The parts
are blocks of outputs; or, with `equal` runs, the kernels of an input and a pattern are dealt out in order of their
outputs, the same number to every part but the last: a processor foresees the end of a loop that is always as long.
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
    taps: tuple[tuple[int, ...], ...]
    parts: int
    part: NDArray[np.int32]  # of every kernel
    index: NDArray[np.int32]
    values: NDArray[np.float32]

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
        """First kernel and first value of every (part, input, pattern), with the end of all at the end."""
        count = len(self.taps)
        key = (self.part.astype(np.int64) * self.shape[1] + self.index[:, 1]) * count
        kernels = np.bincount(key + self.index[:, 2], minlength=self.parts * self.shape[1] * count)
        values = kernels.reshape(-1, count) * np.array([len(taps) for taps in self.taps])
        return _before(kernels), _before(values.reshape(-1))


def _before(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.concatenate([[0], counts.cumsum()]).astype(np.int32)


def _masks(weight: NDArray[np.float32]) -> NDArray[np.int64]:
    """Per kernel, one bit per non-zero tap."""
    flat = weight.reshape(*weight.shape[:2], -1) != 0
    masks: NDArray[np.int64] = flat @ (1 << np.arange(flat.shape[2]))
    return masks


def census(weight: NDArray[np.float32]) -> dict[tuple[int, ...], int] | None:
    """How many kernels keep which taps, without those that keep none.  None if no kernel has a pattern, there are more
    than MOST, or more taps than a mask has bits."""
    size = weight.shape[2] * weight.shape[3]
    if size > 62:
        return None
    masks, many = np.unique(_masks(weight), return_counts=True)
    found = {tuple(tap for tap in range(size) if mask >> tap & 1): int(n) for mask, n in zip(masks, many, strict=True)}
    found.pop((), None)
    return found if 0 < len(found) <= MOST else None


def from_dense(weight: NDArray[np.float32], block: int, equal: bool = False) -> Patterns | None:
    """In parts of about `block` outputs.  None if there is no `census`."""
    outputs, inputs, height, width = weight.shape
    found = census(weight)
    if found is None:
        return None
    masks, taps, parts = _masks(weight), tuple(found), -(-outputs // block)
    known = [sum(1 << tap for tap in kept) for kept in taps]
    output, inp = np.nonzero(masks)
    pattern = np.searchsorted(known, masks[output, inp])
    part = _dealt(output, inp * len(known) + pattern, pattern, inputs, parts) if equal else output // block
    order = np.lexsort((output, pattern, inp, part))
    index = np.stack([output, inp, pattern], axis=1)[order]
    flat = weight.reshape(outputs, inputs, -1)
    kernels = flat[index[:, 0], index[:, 1]]
    values = kernels[kernels != 0]
    return Patterns(
        (outputs, inputs, height, width), taps, parts, part[order].astype(np.int32), index.astype(np.int32), values
    )


def _dealt(
    output: NDArray[np.int64], run: NDArray[np.int64], pattern: NDArray[np.int64], inputs: int, parts: int
) -> NDArray[np.int64]:
    """The part of every kernel: those of a run, as many as the pattern has in the mean, one after the other."""
    length = np.maximum(1, np.round(np.bincount(pattern) / (inputs * parts))).astype(np.int64)
    order = np.lexsort((output, run))
    starts = np.searchsorted(run[order], run[order])
    part = np.empty_like(output)
    part[order] = np.minimum((np.arange(len(order)) - starts) // length[pattern[order]], parts - 1)
    return part
