"""Convolutions of a few channels read the user's map as it is: eight numbers that lie together make a pixel.

A pixel of 7 x 7 x 3 with stride 2 is what three channels hold at two neighbouring columns; a matrix instruction takes
its depth from 32 channels, which are four neighbouring pixels: eight of the window's columns, the last of them with
weights of zero.  A pixel has 16 bytes, where a matrix may begin, so that the windows of neighbouring outputs overlap in
shared memory, and nothing is unfolded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cuda.arch import BLOCK, size_of

PIXEL = 8  # numbers that lie together
BESIDE = BLOCK // PIXEL  # pixels that are a block of channels


def reads_planar(channels: int, attrs: Mapping[str, Any], element: str) -> bool:
    """Whether a convolution with these attributes does."""
    fits = PIXEL * size_of(element) == 16 and channels * attrs["strides"][1] <= PIXEL
    return fits and not attrs["transposed"] and attrs["dilation"][1] == 1


def regrouped(weight: NDArray[Any], across: int) -> NDArray[Any]:
    """(O, C, kh, kw) -> (O, BLOCK, kh, n): what becomes of `BESIDE` pixels of `across` columns each, at n places."""
    outputs, channels, rows, columns = weight.shape
    padded = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, -columns % (BESIDE * across))))
    split = padded.reshape(outputs, channels, rows, -1, BESIDE, across).transpose(0, 4, 1, 5, 2, 3)
    pixels = split.reshape(outputs, BESIDE, channels * across, rows, -1)
    filled = np.pad(pixels, ((0, 0), (0, 0), (0, PIXEL - channels * across), (0, 0), (0, 0)))
    return filled.reshape(outputs, BLOCK, rows, -1)
