"""Weight tiles in the order in which the lanes of a warp hold them for matrix instructions.  Plain numpy.

A matrix instruction multiplies 16 pixels by 8 outputs over one step of depth (32 bytes).  Lane 4g + q holds, of the
weights, the 4-byte words q and q + 4 of output g; of the sums, outputs 2q and 2q + 1.  Which channel an output stands
for is free: it is chosen so that the sums of one lane are neighbouring channels, and are stored together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cuda.arch import BLOCK, STEP, Arithmetic

WARP = 32


def channels(lanes: int) -> NDArray[np.int64]:
    """`channels(lanes)[j, n]`: the channel, within a block of `lanes`, that is output `n` of instruction `j`."""
    count = lanes // 8
    j, n = np.meshgrid(np.arange(count), np.arange(8), indexing="ij")
    q, i = n // 2, n % 2
    return q * 2 * count + 2 * j + i


def elements(values: NDArray[Any], element: str) -> NDArray[np.generic]:
    """The values in a map's element type; bfloat16 as its 16 bits, which numpy has no type for."""
    if element != "bfloat16":
        return values.astype(element)
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest, ties to even
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def tile_words(lanes: int, arithmetic: Arithmetic) -> int:
    """32-bit words of one weight tile."""
    return BLOCK * lanes * arithmetic.size // 4


def pack(values: NDArray[Any], arithmetic: Arithmetic) -> NDArray[np.int32]:
    """(tiles, BLOCK, lanes) -> (tiles, words): what the lanes of a warp load, 16 bytes at a time."""
    tiles, depth, lanes = values.shape
    assert depth == BLOCK
    count, size = lanes // 8, tile_words(lanes, arithmetic)
    typed = elements(values, arithmetic.weight)
    by_output = typed[:, :, channels(lanes)].transpose(0, 2, 3, 1)  # tile, instruction j, output n, depth
    if not arithmetic.preload:
        # lane q multiplies 8 of the depth at a time with its outputs 2q, 2q + 1 of every instruction
        split = by_output.reshape(tiles, count, 4, 2, arithmetic.steps, 8)  # tile, j, q, i, step, k
        ordered = split.transpose(0, 4, 2, 1, 5, 3)  # tile, step, q, j, k, i
        return np.ascontiguousarray(ordered).view(np.int32).reshape(tiles, size)
    words = np.ascontiguousarray(by_output).view(np.int32)  # tile, j, g, words of depth
    split = words.reshape(tiles, count, 8, arithmetic.steps, 2, STEP // 8)  # tile, j, g, step, r, q
    per_lane = split.transpose(0, 2, 5, 3, 1, 4).reshape(
        tiles, WARP, size // 128, 4
    )  # tile, lane 4g + q, (step, j, r) by four
    return np.ascontiguousarray(per_lane.transpose(0, 2, 1, 3)).reshape(tiles, size)
