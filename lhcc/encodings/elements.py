"""The *elements* encoding: every non-zero weight on its own, for zeros that no block describes (magnitude pruning).

Elements are sorted by group of input channels, then output, then input and tap: a kernel keeps the inputs of one group
close while it runs over all outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Elements:
    """`values[j]` is the weight of output, input, tap = `index[j]`."""

    shape: tuple[int, int, int, int]
    group: int  # input channels per group
    index: NDArray[np.int32]
    values: NDArray[np.float32]

    @property
    def groups(self) -> int:
        return -(-self.shape[1] // self.group)

    @property
    def density(self) -> float:
        return len(self.values) / max(1, int(np.prod(self.shape)))

    def macs(self) -> int:
        """Multiply-adds per output pixel."""
        return len(self.values)

    def to_dense(self) -> NDArray[np.float32]:
        outputs, inputs, height, width = self.shape
        dense = np.zeros((outputs, inputs, height * width), self.values.dtype)
        dense[tuple(self.index.T)] = self.values
        return dense.reshape(self.shape)

    def starts(self) -> NDArray[np.int32]:
        """`starts[g, o]` .. `starts[g, o + 1]`: the elements of output `o` in group `g`."""
        outputs = self.shape[0]
        key = self.index[:, 1].astype(np.int64) // self.group * outputs + self.index[:, 0]
        ends = np.bincount(key, minlength=self.groups * outputs).cumsum().reshape(self.groups, outputs)
        before = np.concatenate([[0], ends[:-1, -1]])[:, None]
        return np.concatenate([before, ends], axis=1).astype(np.int32)


def from_dense(weight: NDArray[np.float32], group: int) -> Elements:
    outputs, inputs, height, width = weight.shape
    flat = weight.reshape(outputs, inputs, height * width)
    index = np.argwhere(flat != 0)
    order = np.lexsort((index[:, 2], index[:, 1], index[:, 0], index[:, 1] // group))
    index = index[order]
    return Elements((outputs, inputs, height, width), group, index.astype(np.int32), flat[tuple(index.T)])
