"""Orders channels so that those with like patterns of zeros stand in the same groups of adjacent ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]  # (channels, positions): where each channel has non-zeros
SAMPLE = 1024  # positions looked at: of larger patterns a fixed random choice tells channels apart as well


def alike_order(features: Sequence[tuple[Bits, float]], size: int) -> NDArray[np.int64]:
    """An order of the channels in groups of `size`: each starts with the fullest channel left and takes the one of
    whose non-zeros its members share most, on average.  Every feature has the price of one of its positions."""
    shared = _shared(features)  # by every two channels
    full = np.maximum(shared.diagonal(), 1e-9)
    count = len(full)
    left = np.ones(count, bool)
    order: list[int] = []
    while len(order) < count:
        together = np.zeros(count)
        for place in range(min(size, count - len(order))):
            liking = together / full + 1e-9 * together if place else full
            best = int(np.where(left, liking, -1.0).argmax())
            left[best] = False
            order.append(best)
            together += shared[best]
    return np.array(order, np.int64)


def _shared(features: Sequence[tuple[Bits, float]]) -> NDArray[np.float64]:
    total = np.zeros((len(features[0][0]),) * 2)
    for bits, price in features:
        sampled = _sampled(bits).astype(np.float32)
        total += price * (sampled @ sampled.T)
    return total


def _sampled(bits: Bits) -> Bits:
    """The positions that tell channels apart, or some of them."""
    varied = bits[:, bits.any(axis=0) & ~bits.all(axis=0)]
    if varied.shape[1] <= SAMPLE:
        return varied
    return varied[:, np.random.default_rng(0).permutation(varied.shape[1])[:SAMPLE]]
