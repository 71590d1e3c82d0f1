"""What a layer's zeros leave to do, whatever the target: the price of its kept tiles at the best of a few depths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 16
DEPTHS = (1, 4, 16)
PER_TILE = 0.25  # finding a tile costs about as much as a quarter of one of its input channels


def kept_tiles(pattern: NDArray[Any]) -> NDArray[np.int64]:
    """For each of DEPTHS how many tiles hold a non-zero; `pattern` (O, I[, kh, kw]) is non-zero where weights are."""
    outputs, inputs = pattern.shape[:2]
    if not pattern.size:
        return np.zeros(len(DEPTHS), np.int64)
    flat = pattern.reshape(outputs, inputs, -1).astype(bool, copy=False)
    kept = np.logical_or.reduceat(flat, np.arange(0, outputs, LANES), axis=0)
    counts = [np.logical_or.reduceat(kept, np.arange(0, inputs, depth), axis=1).sum() for depth in DEPTHS]
    return np.array(counts, np.int64)


def tile_cost(pattern: NDArray[Any]) -> float:
    """Multiply-adds per output pixel of the kept tiles, at the best depth."""
    return LANES * float((kept_tiles(pattern) * (np.array(DEPTHS) + PER_TILE)).min())


def least_cost(pattern: NDArray[Any]) -> float:
    """What no order of the channels can beat: a block of outputs takes as many tiles as the fullest of its outputs."""
    used = pattern.reshape(*pattern.shape[:2], -1).astype(bool, copy=False).sum(axis=1)  # inputs per output and tap
    tiles = [np.sort(-(-used // depth), axis=0)[::-1][::LANES].sum() for depth in DEPTHS]
    return LANES * float((np.array(tiles) * (np.array(DEPTHS) + PER_TILE)).min())
