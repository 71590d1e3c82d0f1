"""Names the structure in the zeros of a weight, without being told what to look for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import ModelError
from lhcc.inspection.channel_classes import Kept, alike, choice_bits, identical
from lhcc.inspection.hypotheses import (
    Hypothesis,
    adjacent_blocks,
    block_diagonal,
    het_conv,
    hidden_blocks,
    kernel_patterns,
    pruned_channels,
)
from lhcc.inspection.shapes import count_shapes
from lhcc.inspection.structure import Kind, Structure

EVIDENCE_BITS = 24  # a structure must save this much: one random pattern in 16 million does by chance
STRAY_SHARE = 0.1  # of the kept weights that may happen to be zero


def recognise(weight: NDArray[np.generic], groups: int = 1) -> Structure:
    """The structure of a convolution's weight (outputs, inputs / groups, kh, kw) or a matmul's (outputs, inputs)."""
    if weight.ndim not in (2, 4) or 0 in weight.shape:
        hint = "expected (outputs, inputs) or (outputs, inputs, kh, kw), none of them 0"
        raise ModelError(f"a weight of shape {tuple(weight.shape)}", hint)
    kept = np.asarray(weight != 0)
    if kept.ndim == 2:
        kept = kept[:, :, None, None]
    live_rows, live_cols = np.asarray(kept.any(axis=(1, 2, 3))), np.asarray(kept.any(axis=(0, 2, 3)))
    found = _simplest(kept, groups) or _explain(kept, live_rows, live_cols) or _unexplained(kept)
    return Structure(
        kind=found.kind,
        block=found.block,
        shapes=Counter(dict(zip(*count_shapes(found.cover), strict=True))),
        density=float(kept.mean()),
        description=found.description,
        rows=found.rows,
        cols=found.cols,
        kernel=(kept.shape[2], kept.shape[3]),
        groups=groups if groups > 1 else found.groups,
        period=found.period,
        constant_outputs=int((~live_rows).sum()),
        unused_inputs=int((~live_cols).sum()),
        stray_zeros=found.stray_zeros(kept),
    )


def _simplest(kept: Kept, groups: int) -> Hypothesis | None:
    """All kept or nothing kept: there is nothing to explain."""
    outputs, inputs = kept.shape[:2]
    if not kept.any():
        return _whole(Kind.EMPTY, kept, "all weights are zero", (inputs, outputs))
    if not kept.all():
        return None
    if groups > 1:
        kind = Kind.DEPTHWISE if inputs == 1 else Kind.GROUPED
        return _whole(kind, kept, f"{kind} convolution of {groups} groups", (inputs, outputs // groups))
    return _whole(Kind.DENSE, kept, "no zeros", (inputs, outputs))


def _explain(kept: Kept, live_rows: Kept, live_cols: Kept) -> Hypothesis | None:
    """The cheapest explanation, if it is clearly cheaper than a list of the non-zeros."""
    unstructured = choice_bits(kept.size, int(kept.sum()))
    plausible = [
        (hypothesis.price(kept), hypothesis)
        for hypothesis in _hypotheses(kept, live_rows, live_cols)
        if hypothesis.stray_zeros(kept) <= STRAY_SHARE * hypothesis.cover.sum()
    ]
    if not plausible:
        return None
    price, best = min(plausible, key=lambda pair: pair[0])
    return best if price + EVIDENCE_BITS <= unstructured else None


def _hypotheses(kept: Kept, live_rows: Kept, live_cols: Kept) -> Iterator[Hypothesis]:
    for hypothesis in (adjacent_blocks(kept), kernel_patterns(kept), het_conv(kept)):
        if hypothesis is not None:
            yield hypothesis
    pruned = pruned_channels(kept, live_rows, live_cols)
    if pruned is not None:
        yield pruned
    living = kept[live_rows][:, live_cols]
    for hypothesis in _hidden(living):
        if hypothesis is not None:
            yield hypothesis if pruned is None else _with_dead_channels(hypothesis, pruned, kept, live_rows, live_cols)


def _hidden(living: Kept) -> Iterator[Hypothesis | None]:
    rows, cols = identical(living, 0), identical(living, 1)
    yield hidden_blocks(living, rows, cols)
    yield block_diagonal(living)
    if max(rows.max(), cols.max()) < max(living.shape[:2]) // 2:
        return  # enough channels are identical: no accidental zeros part them
    similar_rows, similar_cols = alike(living, 0), alike(living, 1)
    if similar_rows is not None and similar_cols is not None:
        yield hidden_blocks(living, similar_rows, similar_cols)


def _with_dead_channels(
    living: Hypothesis, pruned: Hypothesis, kept: Kept, live_rows: Kept, live_cols: Kept
) -> Hypothesis:
    """A hypothesis about the living channels, told of the whole weight: dead channels move to the end."""
    cover = np.zeros_like(kept)
    cover[np.ix_(live_rows, live_cols)] = living.cover
    orders = []
    for live, order in ((live_rows, living.rows), (live_cols, living.cols)):
        orders.append(np.concatenate([np.flatnonzero(live)[order], np.flatnonzero(~live)]))
    description = f"{living.description}; {pruned.description.removesuffix(', the rest dense')}"
    bits = living.bits + pruned.bits
    return replace(living, cover=cover, bits=bits, rows=orders[0], cols=orders[1], description=description)


def _unexplained(kept: Kept) -> Hypothesis:
    zeros = int(kept.size - kept.sum())
    if zeros <= STRAY_SHARE * kept.size:
        outputs, inputs = kept.shape[:2]
        return _whole(Kind.DENSE, kept, f"{zeros} stray zeros, no structure", (inputs, outputs))
    return _whole(Kind.UNSTRUCTURED, kept, "zeros without a structure", (1, 1))


def _whole(kind: Kind, kept: Kept, description: str, block: tuple[int, int]) -> Hypothesis:
    rows, cols = np.arange(kept.shape[0]), np.arange(kept.shape[1])
    return Hypothesis(kind, math.inf, kept, block, rows, cols, description)
