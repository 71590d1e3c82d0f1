"""One layer's weights as (filters, inputs, taps), and what each set of dyadic numbers makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lhcc.approximation.optimise import best_free, best_shift
from lhcc.approximation.sets import DyadicSet
from lhcc.encodings.dyadic import digit_count
from lhcc.errors import LhccError

WIDEST = 24  # bits: what a float32, in which weights are stored, holds of an integer
Filters = NDArray[np.float64]
Scale = Literal["shift", "folded"]
Per = Literal["kernel", "filter", "layer"]


@dataclass(frozen=True)
class Candidate:
    """One set tried on one layer: the new filters, the squared error, and the additions per output position."""

    chosen: DyadicSet
    filters: Filters
    error: float
    norm: float
    additions: int
    digits: int
    weight_bits: int

    @property
    def relative_error(self) -> float:
        return float(np.sqrt(self.error / self.norm)) if self.norm > 0 else 0.0


def check_bits(what: str, bits: int) -> None:
    if not 2 <= bits <= WIDEST:
        raise LhccError(f"{what} need at least 2 bits, and have at most {WIDEST}, not {bits}")


def candidate(filters: Filters, chosen: DyadicSet, scale: Scale, per: Per, weight_bits: int) -> Candidate:
    """The exact optimum for every group of weights; groups that are all zero stay so, whatever the set holds."""
    outputs = len(filters)
    check_bits("weights", weight_bits)
    if not np.isfinite(filters).all():
        raise LhccError("the weights hold Inf or NaN", "check how the model was exported")
    rows = filters.reshape(-1, _group(filters, per))
    live = rows.any(axis=1)
    approximated, integers = np.zeros_like(rows), np.zeros(rows.shape, dtype=np.int64)
    if scale == "shift" and per == "kernel":
        filter_of = np.repeat(np.arange(outputs), filters.shape[1])[live]
        approximated[live], integers[live] = _within_bits(rows[live], chosen, filter_of, outputs, weight_bits)
    else:
        result = (best_free if scale == "folded" else best_shift)(rows[live], chosen)
        approximated[live] = result.dense()
        integers[live] = np.rint(result.levels / chosen.unit)
    error = float(((rows - approximated) ** 2).sum())
    per_filter = digit_count(integers).reshape(outputs, -1).sum(axis=1)
    return Candidate(
        chosen,
        approximated.reshape(filters.shape),
        error,
        float((rows**2).sum()),
        int(np.maximum(per_filter - 1, 0).sum()),
        int(per_filter.sum()),
        int(np.abs(integers).max(initial=0)).bit_length() + 1,
    )


def nearest_power_of_two(filters: Filters) -> Filters:
    """Every weight rounded, on its own scale, to the nearest power of two: the rule that the optimum has to beat."""
    sizes = np.abs(filters)
    low = np.exp2(np.floor(np.log2(np.where(sizes > 0, sizes, 1.0))))
    return np.copysign(np.where(sizes > 0, np.where(sizes - low < 2 * low - sizes, low, 2 * low), 0.0), filters)


def _group(filters: Filters, per: Per) -> int:
    sizes: dict[Per, int] = {"kernel": filters.shape[2], "filter": filters[0].size, "layer": filters.size}
    return sizes[per]


def _within_bits(
    rows: Filters, chosen: DyadicSet, filter_of: NDArray[np.int64], outputs: int, weight_bits: int
) -> tuple[Filters, NDArray[np.int64]]:
    """Powers of two per kernel, none so small that the integers of its filter would outgrow `weight_bits`."""
    dense, integers = np.zeros_like(rows), np.zeros(rows.shape, dtype=np.int64)
    largest = np.zeros(outputs)
    np.maximum.at(largest, filter_of, np.abs(rows).max(axis=1, initial=0))
    bit = np.ceil(np.log2(np.where(largest > 0, largest, 1.0))).astype(np.int64) - (weight_bits - 1)
    redo = np.arange(len(rows))
    while len(redo):
        lowest = bit[filter_of[redo]] - int(np.log2(chosen.unit))
        dense[redo] = best_shift(rows[redo], chosen, lowest).dense()
        integers[redo] = np.rint(np.ldexp(dense[redo], -bit[filter_of[redo], None]))
        wide = np.zeros(outputs, dtype=bool)  # rounded up to a power of two that needs one bit more
        wide[filter_of[(np.abs(integers) >= 1 << weight_bits - 1).any(axis=1)]] = True
        bit[wide] += 1
        redo = np.flatnonzero(wide[filter_of])
    return dense, integers
