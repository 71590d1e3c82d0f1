"""Hypotheses about a pattern of zeros, each with its price in bits.

A hypothesis says which weights may be non-zero (its cover) in fewer bits than a list of all the non-zeros would take.
A random pattern is shortened by b bits with a probability of at most 2**-b, so a price that is lower by a margin is
evidence, not chance.  Zeros inside the cover are listed as well: accidental ones make a hypothesis dearer, no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lhcc.inspection.channel_classes import (
    Kept,
    Labels,
    choice_bits,
    class_count,
    class_order,
    components,
    identical,
    label_bits,
    merge_classes,
    usual_size,
)
from lhcc.inspection.shapes import RIGID_CODES, count_shapes, shape_codes, tile_to_channels
from lhcc.inspection.structure import Kind, Order


@dataclass(frozen=True)
class Hypothesis:
    """One explanation of the zeros.  `bits` is the price of describing `cover`."""

    kind: Kind
    bits: float
    cover: Kept
    block: tuple[int, int]
    rows: Order
    cols: Order
    description: str
    groups: int = 1
    period: int = 1

    def stray_zeros(self, kept: Kept) -> int:
        return int(self.cover.sum() - kept.sum())

    def price(self, kept: Kept) -> float:
        return self.bits + choice_bits(int(self.cover.sum()), self.stray_zeros(kept))


def _identity(kept: Kept) -> tuple[Order, Order]:
    return np.arange(kept.shape[0]), np.arange(kept.shape[1])


# ---------------------------------------------------------------- blocks of adjacent channels (LHC as it is trained)


def adjacent_blocks(kept: Kept) -> Hypothesis | None:
    """Blocks of adjacent channels that share a kernel shape; the last block of each side may be cropped."""
    outputs, inputs = kept.shape[:2]
    group_out = _best_block(kept, axis=0)
    group_in = _best_block(_merge(kept, group_out, axis=0), axis=1)
    if group_out == 1 and group_in == 1:
        return None
    blocks = _merge(_merge(kept, group_out, axis=0), group_in, axis=1)
    cover = tile_to_channels(blocks, group_in, group_out, inputs, outputs)
    bits = choice_bits(blocks.size, int(blocks.sum())) + math.log2(outputs) + math.log2(inputs)
    return _shaped(blocks, bits, cover, (min(group_in, inputs), min(group_out, outputs)), *_identity(kept))


def _merge(kept: Kept, size: int, axis: int) -> Kept:
    """Blocks of `size` adjacent channels as one channel, which keeps what any of them keeps."""
    return np.asarray(np.logical_or.reduceat(kept, np.arange(0, kept.shape[axis], size), axis=axis))


def _best_block(kept: Kept, axis: int) -> int:
    """The number of adjacent channels, along one axis, that are cheapest described together."""
    length, total = kept.shape[axis], int(kept.sum())
    others = tuple(other for other in range(kept.ndim) if other != axis)
    best, lowest = 1, math.inf
    for size, merged in _mergers(kept, axis):
        lengths = np.diff(np.append(np.arange(0, length, size), length))
        cover = int(merged.sum(axis=others) @ lengths)
        price = choice_bits(merged.size, int(merged.sum())) + choice_bits(cover, cover - total)
        if price < lowest:
            best, lowest = size, price
    return best


def _mergers(kept: Kept, axis: int) -> Iterator[tuple[int, Kept]]:
    """Sizes of blocks worth a try, each with the channels merged: powers of two, and the largest exact fit."""
    length = kept.shape[axis]
    merged = kept
    for power in range(8):
        if 1 << power > length:
            break
        yield 1 << power, merged
        merged = _merge(merged, 2, axis)
    exact = math.gcd(*(int(change) + 1 for change in np.flatnonzero(np.diff(identical(kept, axis)))))
    for size in {exact, length} - {0}:
        yield size, _merge(kept, size, axis)


def _shaped(blocks: Kept, bits: float, cover: Kept, block: tuple[int, int], rows: Order, cols: Order) -> Hypothesis:
    """LHC: rigid when every shape is one of the 15 rigid ones, else free."""
    codes = count_shapes(blocks)[0]
    rigid = blocks.shape[2:] == (3, 3) and RIGID_CODES.issuperset(codes)
    shapes = f"{len(codes)} kernel shape{'s' if len(codes) > 1 else ''}"
    if blocks.shape[2:] == (1, 1):
        shapes = "whole blocks kept or empty"
    description = f"blocks of {block[0]} x {block[1]} channels (in x out), {shapes}"
    return Hypothesis(Kind.LHC_RIGID if rigid else Kind.LHC_FREE, bits, cover, block, rows, cols, description)


# ---------------------------------------------------------------- the same under a permutation


def hidden_blocks(kept: Kept, row_labels: Labels, col_labels: Labels) -> Hypothesis | None:
    """Channels of one class, wherever they stand, are one block."""
    if class_count(row_labels) == len(row_labels) and class_count(col_labels) == len(col_labels):
        return None
    blocks = merge_classes(merge_classes(kept, row_labels, axis=0), col_labels, axis=1)
    cover = blocks[row_labels][:, col_labels]
    bits = choice_bits(blocks.size, int(blocks.sum())) + label_bits(row_labels) + label_bits(col_labels)
    block = (usual_size(col_labels), usual_size(row_labels))
    return _shaped(blocks, bits, cover, block, class_order(row_labels), class_order(col_labels))


# ---------------------------------------------------------------- HetConv


def het_conv(kept: Kept) -> Hypothesis | None:
    """Whole kernels at every P-th input, from an offset that is one of P per output; elsewhere the centre tap only."""
    outputs, inputs, height, width = kept.shape
    if height * width == 1:
        return None
    codes = shape_codes(kept)
    full, centre = (1 << height * width) - 1, 1 << (height // 2 * width + width // 2)
    whole = np.asarray(codes == full)
    if not np.all(whole | (codes == centre)) or not whole[0].any():
        return None
    row_labels, col_labels = identical(kept, 0), identical(kept, 1)
    period = round(inputs / int(whole[0].sum()))
    moving = (np.arange(inputs)[None, :] - np.arange(outputs)[:, None]) % max(period, 1) == 0
    if period > 1 and np.array_equal(whole, moving):
        bits = 2 * math.log2(inputs)
        row_labels, col_labels = np.arange(outputs) % period, np.arange(inputs) % period
    else:
        match = np.asarray(merge_classes(merge_classes(kept, row_labels, axis=0), col_labels, axis=1).all(axis=(2, 3)))
        period = len(match)
        if period < 2 or match.shape != (period, period) or not _is_permutation(match):
            return None
        if not all(_is_even(labels) for labels in (row_labels, col_labels)):
            return None
        bits = label_bits(row_labels) + label_bits(col_labels) + period * math.log2(period)
    block = (usual_size(col_labels), usual_size(row_labels))
    description = f"HetConv, P = {period}: {height} x {width} at one input of {period}, 1 x 1 at the others"
    rows, cols = class_order(row_labels), class_order(col_labels)
    return Hypothesis(Kind.HETCONV, bits, kept, block, rows, cols, description, period=period)


def _is_permutation(match: Kept) -> bool:
    return bool(np.all(match.sum(axis=0) == 1) and np.all(match.sum(axis=1) == 1))


def _is_even(labels: Labels) -> bool:
    sizes = np.bincount(labels)
    return bool(sizes.max() - sizes.min() <= 1)


# ---------------------------------------------------------------- groups that are stored dense


def block_diagonal(kept: Kept) -> Hypothesis | None:
    """Outputs and inputs that fall into separate sets: a grouped or depthwise convolution, perhaps shuffled."""
    support = np.asarray(kept.any(axis=(2, 3)))
    row_labels, col_labels = components(support)
    groups = class_count(row_labels)
    if groups < 2 or not (row_labels.size and col_labels.size):
        return None
    cover = np.broadcast_to((row_labels[:, None] == col_labels[None, :])[:, :, None, None], kept.shape)
    rows, cols = class_order(row_labels), class_order(col_labels)
    outputs, inputs = kept.shape[:2]
    # The size of a group is one of the common divisors, so naming it costs next to nothing.
    equal = outputs % groups == 0 and inputs % groups == 0
    in_order = equal and all(
        np.array_equal(labels, np.arange(len(labels)) // (len(labels) // groups)) for labels in (row_labels, col_labels)
    )
    bits = math.log2(inputs) if in_order else label_bits(row_labels) + label_bits(col_labels)
    block = (usual_size(col_labels), usual_size(row_labels))
    single = bool(np.all(np.bincount(col_labels) == 1))
    if in_order:
        kind = Kind.DEPTHWISE if single else Kind.GROUPED
        description = f"{kind} convolution of {groups} groups, stored dense"
    else:
        kind = Kind.BLOCK_DIAGONAL
        sizes = f"{block[0]} x {block[1]} channels" if equal else "different sizes"
        description = f"{groups} separate groups of {sizes}, behind a permutation"
        if np.array_equal(rows, np.arange(outputs)) and np.array_equal(cols, np.arange(inputs)):
            description = f"{groups} separate groups of {sizes}"
    return Hypothesis(kind, bits, np.asarray(cover), block, rows, cols, description, groups=groups)


# ---------------------------------------------------------------- few kernel patterns, pruned channels


def kernel_patterns(kept: Kept) -> Hypothesis | None:
    """Every kernel has one of a few shapes, without order among the channels."""
    taps = kept.shape[2] * kept.shape[3]
    if taps == 1:
        return None
    patterns, counts = count_shapes(kept)
    shares = np.array(counts) / sum(counts)
    bits = len(patterns) * taps - sum(counts) * float(shares @ np.log2(shares))
    used = [code for code in patterns if code != 0]
    sizes = sorted({code.bit_count() for code in used})
    description = f"{len(used)} kernel pattern{'s' if len(used) > 1 else ''} of {_listed(sizes)} of {taps} taps"
    if len(used) < len(patterns):
        description += ", some kernels empty"
    return Hypothesis(Kind.PATTERN, bits, kept, (1, 1), *_identity(kept), description)


def _listed(sizes: list[int]) -> str:
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def pruned_channels(kept: Kept, live_rows: Kept, live_cols: Kept) -> Hypothesis | None:
    """Whole outputs or inputs are gone, the rest is dense."""
    outputs, inputs = len(live_rows), len(live_cols)
    dead_rows, dead_cols = int((~live_rows).sum()), int((~live_cols).sum())
    if dead_rows + dead_cols == 0:
        return None
    cover = np.broadcast_to((live_rows[:, None] & live_cols[None, :])[:, :, None, None], kept.shape)
    bits = choice_bits(outputs, dead_rows) + choice_bits(inputs, dead_cols)
    kind = Kind.FILTERS if dead_rows / outputs >= dead_cols / inputs else Kind.CHANNELS
    gone = [f"{n} of {total} {what}" for n, total, what in _gone(dead_rows, outputs, dead_cols, inputs) if n]
    rows, cols = (np.argsort(~live, kind="stable") for live in (live_rows, live_cols))
    block = (inputs - dead_cols, outputs - dead_rows)
    return Hypothesis(kind, bits, np.asarray(cover), block, rows, cols, f"{' and '.join(gone)} empty, the rest dense")


def _gone(dead_rows: int, outputs: int, dead_cols: int, inputs: int) -> Iterator[tuple[int, int, str]]:
    yield dead_rows, outputs, "filters"
    yield dead_cols, inputs, "input channels"
