"""Kernel shapes of heterogeneous convolutions: the fixed set of rigid shapes, and the masks that effects stand for.

A kernel shape is the 0/1 pattern of one k x k kernel.  As an integer code, bit (row * k + column) is set where the tap
is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _rigid_shapes() -> NDArray[np.float32]:
    """The 15 shapes in the order of the authors' checkpoints, where an effect's index selects its shape."""
    empty, centre, row, diagonal, corner, half = (np.zeros((3, 3), np.float32) for _ in range(6))
    centre[1, 1] = 1
    row[1, :] = 1
    diagonal[[0, 1, 2], [2, 1, 0]] = 1  # from the top right to the bottom left
    corner[:2, 1:] = 1  # top right
    half[:2, :] = 1  # top
    turned = [np.rot90(shape, turns) for shape in (corner, half) for turns in range(4)]  # counter-clockwise
    lines = [row, diagonal, np.rot90(row), np.rot90(diagonal)]
    return np.stack([empty, centre, *lines, *turned, np.ones_like(empty)])


RIGID_SHAPES = _rigid_shapes()


def tile_to_channels(blocks: Array, group_in: int, group_out: int, inputs: int, outputs: int) -> Array:
    """(output blocks, input blocks, ...) -> (outputs, inputs, ...), cropped where a block does not fit."""
    full = np.repeat(np.repeat(blocks, group_out, axis=0), group_in, axis=1)
    return full[:outputs, :inputs]


def free_mask(effects: Array, group_in: int, group_out: int, inputs: int, outputs: int) -> NDArray[np.float32]:
    """Mask (outputs, inputs, kh, kw) of effects (output blocks, input blocks, kh, kw): 1 where effects > 0."""
    kept = np.asarray(effects > 0, np.float32)
    return tile_to_channels(kept, group_in, group_out, inputs, outputs)


def rigid_mask(effects: Array, group_in: int, group_out: int, inputs: int, outputs: int) -> NDArray[np.float32]:
    """Mask (outputs, inputs, 3, 3) of effects (15, output blocks, input blocks): the shape of the largest effect.

    An exact tie selects every tied shape and adds them up, so a mask can exceed 1.
    """
    chosen = (effects >= effects.max(axis=0, keepdims=True)).astype(np.float32)
    blocks = np.einsum("soi,shw->oihw", chosen, RIGID_SHAPES)
    return tile_to_channels(blocks, group_in, group_out, inputs, outputs)


def shape_codes(kept: NDArray[np.bool_]) -> Array:
    """Integer code per kernel of a kept pattern (..., kh, kw): bit (row * kw + column) is set where the tap is kept."""
    taps = kept.shape[-2] * kept.shape[-1]
    flat = kept.reshape(*kept.shape[:-2], taps)
    if taps <= 62:
        return np.asarray(flat.astype(np.int64) @ (np.int64(1) << np.arange(taps, dtype=np.int64)))
    weights = np.array([1 << tap for tap in range(taps)], dtype=object)  # 11 x 11 kernels do not fit 64 bits
    return np.asarray((flat.astype(object) * weights).sum(axis=-1))


def count_shapes(kept: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """The codes that occur in a kept pattern (..., kh, kw), ascending, and how often each of them does."""
    codes = shape_codes(kept).reshape(-1)
    if kept.shape[-2] * kept.shape[-1] <= 16:  # counting beats sorting
        counts = np.bincount(codes)
        found = np.flatnonzero(counts)
        return found.tolist(), counts[found].tolist()
    found, counts = np.unique(codes, return_counts=True)
    return found.tolist(), counts.tolist()


def shape_of_code(code: int, height: int, width: int) -> NDArray[np.bool_]:
    """The kernel shape (height, width) that a code stands for."""
    return np.array([bool(code >> tap & 1) for tap in range(height * width)]).reshape(height, width)


RIGID_CODES = frozenset(int(code) for code in shape_codes(RIGID_SHAPES > 0))
