"""Sorts the channels of a pattern of zeros into classes: identical, alike, or connected; and prices such a sorting."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lhcc.inspection.structure import Order

Kept = NDArray[np.bool_]  # (outputs, inputs, kh, kw), or of fewer channels
Labels = NDArray[np.int64]  # the class of every output or input, numbered from 0 in order of appearance

ALIKE = 0.75  # Jaccard similarity of channels that are taken for one class in spite of accidental zeros
LARGEST_COMPARISON = 4_000_000_000  # multiply-adds; comparing all channels of larger weights takes too long


def choice_bits(total: int, chosen: int) -> float:
    """Bits that say which `chosen` of `total` things are meant."""
    logarithm = math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
    return logarithm / math.log(2)


def label_bits(labels: Labels) -> float:
    """Bits that say which class every channel belongs to; few when the classes are runs of equal length."""
    if np.array_equal(labels, np.arange(len(labels)) // int(np.sum(labels == labels[0]))):
        return math.log2(len(labels) + 1)
    return 2 * math.log2(len(labels) + 1) + len(labels) * math.log2(class_count(labels))


def class_count(labels: Labels) -> int:
    return int(labels.max()) + 1 if len(labels) else 0


def identical(kept: Kept, axis: int) -> Labels:
    """Label of every output (axis 0) or input (axis 1), the same for identical zeros; numbered as they appear."""
    lines = np.packbits(np.moveaxis(kept, axis, 0).reshape(kept.shape[axis], -1), axis=1)
    _, first, inverse = np.unique(lines, axis=0, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)]


def class_order(labels: Labels) -> Order:
    return np.argsort(labels, kind="stable")


def usual_size(labels: Labels) -> int:
    """The most frequent size of a class: others are cropped, or several blocks that happen to be equal."""
    sizes, counts = np.unique(np.bincount(labels), return_counts=True)
    if counts.max() == 1:  # at most one class is cropped, so a single smaller one says nothing
        return int(sizes[-1])
    return int(sizes[np.argmax(counts)])


def components(support: Kept) -> tuple[Labels, Labels]:
    """Connected components of the graph that joins an output with the inputs it uses; every channel is used."""
    row_labels = np.full(support.shape[0], -1, np.int64)
    col_labels = np.full(support.shape[1], -1, np.int64)
    found = 0
    for start in range(len(row_labels)):
        if row_labels[start] >= 0:
            continue
        rows = np.zeros(len(row_labels), bool)
        rows[start] = True
        while True:
            cols = support[rows].any(axis=0)
            grown = support[:, cols].any(axis=1) | rows
            if np.array_equal(grown, rows):
                break
            rows = grown
        row_labels[rows], col_labels[cols] = found, found
        found += 1
    return row_labels, col_labels


def alike(kept: Kept, axis: int) -> Labels | None:
    """As `identical`, but a few accidental zeros do not part a class.  None where that would take too long."""
    length = kept.shape[axis]
    if length * kept.size > LARGEST_COMPARISON:
        return None
    lines = np.moveaxis(kept, axis, 0).reshape(length, -1).astype(np.float32)
    common = lines @ lines.T
    sizes = np.diagonal(common)
    similar = common >= ALIKE * (sizes[:, None] + sizes[None, :] - common)
    labels = np.full(length, -1, np.int64)
    found = 0
    for leader in range(length):
        if labels[leader] < 0:
            labels[similar[leader] & (labels < 0)] = found
            found += 1
    return labels


def merge_classes(kept: Kept, labels: Labels, axis: int) -> Kept:
    """Every class as one channel, which keeps what any of its members keeps."""
    starts = np.searchsorted(np.sort(labels), np.arange(class_count(labels)))
    together = np.take(kept, class_order(labels), axis=axis)
    return np.asarray(np.logical_or.reduceat(together, starts, axis=axis))
