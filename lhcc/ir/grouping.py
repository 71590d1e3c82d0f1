"""Orders channels so that those with like patterns of zeros stand in the same groups of adjacent ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]  # (channels, positions): where each channel has non-zeros
SAMPLE = 1024  # positions looked at: of larger patterns a fixed random choice tells channels apart as well


def alike_order(features: Sequence[tuple[Bits, float]], size: int) -> NDArray[np.int64]:
    """An order of the channels in groups of `size`: each starts with the fullest channel left and takes the one that
    adds least to what the group's channels have together.  Every feature has the price of one of its positions."""
    packed = [(np.packbits(_sampled(bits), axis=1), price) for bits, price in features]
    left = np.arange(len(features[0][0]))
    order: list[int] = []
    while len(left):
        together = [np.zeros(bits.shape[1], np.uint8) for bits, _ in packed]
        for _ in range(min(size, len(left))):
            added, shared = np.zeros(len(left)), np.zeros(len(left))
            for (bits, price), union in zip(packed, together, strict=True):
                candidates = bits[left]
                added += price * _count(candidates & ~union)
                shared += price * _count(candidates & union)
            best = int(np.lexsort((-shared, added if len(order) % size else -added))[0])
            for (bits, _), union in zip(packed, together, strict=True):
                union |= bits[left[best]]
            order.append(int(left[best]))
            left = np.delete(left, best)
    return np.array(order, np.int64)


def _count(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.asarray(np.bitwise_count(packed).sum(axis=1, dtype=np.int64))


def _sampled(bits: Bits) -> Bits:
    varied = bits[:, bits.any(axis=0) & ~bits.all(axis=0)]
    if varied.shape[1] <= SAMPLE:
        return varied
    return varied[:, np.random.default_rng(0).permutation(varied.shape[1])[:SAMPLE]]
