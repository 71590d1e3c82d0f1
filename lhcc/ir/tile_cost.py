"""What a layer's zeros leave to do, whatever the target: the price of its kept tiles at the best of a few depths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings import tiles

LANES = 16
DEPTHS = (16, 4, 1)
PER_TILE = 0.25  # finding a tile costs about as much as a quarter of one of its input channels


def tile_cost(pattern: NDArray[Any]) -> float:
    """Multiply-adds per output pixel of the kept tiles; `pattern` (O, I[, kh, kw]) is non-zero where weights are."""
    pattern = pattern.reshape(*pattern.shape[:2], 1, -1)
    return LANES * min(float(tiles.counts(pattern, LANES, depth).sum()) * (depth + PER_TILE) for depth in DEPTHS)


def least_cost(pattern: NDArray[Any]) -> float:
    """What no order of the channels can beat: all tiles full."""
    return float(np.count_nonzero(pattern)) * (1 + PER_TILE / max(DEPTHS))
