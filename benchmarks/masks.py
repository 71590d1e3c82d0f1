"""Zero patterns that structured compression leaves in a convolution's weights: 0/1 arrays, (out, in, kh, kw)."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.float32]
Shape = tuple[int, int, int, int]


def dense(shape: Shape) -> Mask:
    """Nothing is zero."""
    return np.ones(shape, np.float32)


def lhc(rng: np.random.Generator, shape: Shape, density: float, group_in: int = 32, group_out: int = 16) -> Mask:
    """Learned kernel shapes: every (tap, input block, output block) cell is kept or dropped as a whole.

    Exactly round(density * cells) cells survive, at least one, drawn uniformly; blocks at the edge are cropped.
    """
    out, inputs, kernel_h, kernel_w = shape
    blocks_out, blocks_in = -(-out // group_out), -(-inputs // group_in)
    cells = blocks_out * blocks_in * kernel_h * kernel_w
    kept = np.zeros(cells, np.float32)
    kept[rng.permutation(cells)[: max(1, round(density * cells))]] = 1
    blocks = kept.reshape(blocks_out, blocks_in, kernel_h, kernel_w)
    return blocks.repeat(group_out, axis=0).repeat(group_in, axis=1)[:out, :inputs]


def hetconv(shape: Shape, period: int) -> Mask:
    """HetConv: of every `period` input channels one keeps the whole kernel, the others its centre.

    Which one keeps it moves on with the output channel.
    """
    out, inputs, kernel_h, kernel_w = shape
    mask = np.zeros(shape, np.float32)
    mask[:, :, kernel_h // 2, kernel_w // 2] = 1
    mask[np.arange(out)[:, None] % period == np.arange(inputs)[None, :] % period] = 1
    return mask


def patterns(
    rng: np.random.Generator, shape: Shape, count: int = 8, taps: int = 4, per: Literal["kernel", "filter"] = "kernel"
) -> Mask:
    """Pattern pruning: every 3x3 kernel keeps its centre and `taps - 1` neighbours, out of `count` patterns in all.

    The pattern is drawn for each kernel on its own, or once for all kernels of an output filter.
    """
    out, inputs, kernel_h, kernel_w = shape
    centre = (kernel_h * kernel_w) // 2
    others = [tap for tap in range(kernel_h * kernel_w) if tap != centre]
    choices = list(combinations(others, taps - 1))
    table = np.zeros((count, kernel_h * kernel_w), np.float32)
    table[:, centre] = 1
    for row, choice in enumerate(rng.choice(len(choices), count, replace=False)):
        table[row, list(choices[choice])] = 1
    drawn = rng.integers(count, size=(out, inputs if per == "kernel" else 1))
    mask: Mask = np.broadcast_to(table[drawn], (out, inputs, kernel_h * kernel_w)).reshape(shape).copy()
    return mask


def unstructured(rng: np.random.Generator, shape: Shape, density: float) -> Mask:
    """Magnitude pruning's picture: exactly round(density * weights) survive, anywhere."""
    size = int(np.prod(shape))
    mask = np.zeros(size, np.float32)
    mask[rng.permutation(size)[: round(density * size)]] = 1
    return mask.reshape(shape)
