"""What is found in the zeros of a weight: the kind of structure, its blocks and kernel shapes, its channel order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Order = NDArray[np.int64]


class Kind(str, Enum):
    """Classes of structure.  The value is the word that users read."""

    DENSE = "dense"
    EMPTY = "empty"
    LHC_FREE = "lhc-free"
    LHC_RIGID = "lhc-rigid"
    HETCONV = "hetconv"
    PATTERN = "pattern-pruned"
    FILTERS = "filter-pruned"
    CHANNELS = "channel-pruned"
    GROUPED = "grouped"
    DEPTHWISE = "depthwise"
    BLOCK_DIAGONAL = "block-diagonal"
    UNSTRUCTURED = "unstructured"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, eq=False)  # it holds arrays
class Structure:
    """The structure of one weight (outputs, inputs, kh, kw).

    `weight[rows][:, cols]` has its blocks of `block` = (inputs, outputs) channels side by side; both orders are the
    identity when nothing is hidden.  `shapes` counts the kernel shapes, as integer codes, over all outputs x inputs.
    `stray_zeros` are zeros among the weights that the structure keeps.
    """

    kind: Kind
    block: tuple[int, int]
    shapes: Counter[int]
    density: float
    description: str
    rows: Order
    cols: Order
    kernel: tuple[int, int] = (1, 1)
    groups: int = 1
    period: int = 1
    constant_outputs: int = 0
    unused_inputs: int = 0
    stray_zeros: int = 0

    @property
    def permuted(self) -> bool:
        """Whether channels must move before the structure shows."""
        return any(bool(np.any(order != np.arange(len(order)))) for order in (self.rows, self.cols))

    def json(self) -> dict[str, Any]:
        """All but the orders, which are as long as the channels."""
        return {
            "kind": self.kind.value,
            "block": list(self.block),
            "density": self.density,
            "description": self.description,
            "kernel": list(self.kernel),
            "groups": self.groups,
            "period": self.period,
            "permuted": self.permuted,
            "constant_outputs": self.constant_outputs,
            "unused_inputs": self.unused_inputs,
            "stray_zeros": self.stray_zeros,
            "shapes": {str(code): count for code, count in self.shapes.most_common()},
        }
