"""scikit-learn's bundled 8x8 digits: 1,437 images to train on and the same 360 held out for every network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
HELD_OUT = HERE / "held_out.npz"
HELD_OUT_COUNT = 360
SPLIT_SEED = 2021

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def split() -> tuple[Images, Labels, Images, Labels]:
    """Train images and labels, then held-out images and labels; images are (N, 1, 8, 8) in 0..1."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    held_out, train = order[:HELD_OUT_COUNT], order[HELD_OUT_COUNT:]
    return images[train], labels[train], images[held_out], labels[held_out]


def write_held_out() -> None:
    """Stores the held-out images beside the networks, so that checking them needs numpy only."""
    _, _, images, labels = split()
    pixels = np.rint(images[:, 0] * 16.0).astype(np.uint8)  # the data set's own 17 grey levels
    np.savez_compressed(HELD_OUT, pixels=pixels, labels=labels.astype(np.uint8))


def held_out() -> tuple[Images, Labels]:
    """The held-out images and labels, read from `held_out.npz`."""
    with np.load(HELD_OUT) as stored:
        return stored["pixels"].astype(np.float32)[:, None] / np.float32(16.0), stored["labels"].astype(np.int64)
