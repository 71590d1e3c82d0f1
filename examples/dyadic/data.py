"""Small pictures for a detector: a bright plus sign somewhere in noise and clutter, or none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE, ARM = 16, 3


def pictures(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(count, 1, 16, 16) in 0..1, and whether each holds a plus sign; every other one does."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 1, SIZE, SIZE)) * 0.6
    labels = np.arange(count) % 2
    for image, label in zip(x[:, 0], labels, strict=True):
        bright = rng.uniform(0.6, 0.9)
        for _ in range(2):  # clutter: one bar, horizontal or vertical, as bright as the arms of a plus sign
            row, column = rng.integers(ARM, SIZE - ARM, 2)
            if rng.integers(2):
                image[row, column - ARM : column + ARM + 1] += bright / 2
            else:
                image[row - ARM : row + ARM + 1, column] += bright / 2
        if label:
            row, column = rng.integers(ARM, SIZE - ARM, 2)
            image[row, column - ARM : column + ARM + 1] += bright
            image[row - ARM : row + ARM + 1, column] += bright
    return np.clip(x, 0, 1).astype(np.float32), labels.astype(np.int64)
