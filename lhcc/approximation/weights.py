"""One layer's weights as (filters, inputs, taps), and what each set of dyadic numbers makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lhcc.approximation.optimise import Approximation, best_free, best_shift
from lhcc.approximation.sets import DyadicSet
from lhcc.encodings.dyadic import digit_count
from lhcc.errors import LhccError

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


def candidate(filters: Filters, chosen: DyadicSet, scale: Scale, per: Per, weight_bits: int) -> Candidate:
    """The exact optimum for every group of weights; groups that are all zero stay so, whatever the set holds."""
    outputs = len(filters)
    if not np.isfinite(filters).all():
        raise LhccError("the weights hold Inf or NaN", "check how the model was exported")
    rows = filters.reshape(-1, _group(filters, per))
    live = rows.any(axis=1)
    result = _solve(rows[live], chosen, scale, per, weight_bits, _filter_of(filters, per)[live], outputs)
    approximated = np.zeros_like(rows)
    approximated[live] = result.dense()
    integers = np.zeros(rows.shape, dtype=np.int64)
    units = _units(result, chosen, scale, per, _filter_of(filters, per)[live], outputs)
    integers[live] = np.rint(result.levels * units[:, None])
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


def _filter_of(filters: Filters, per: Per) -> NDArray[np.int64]:
    """The filter that each group of weights belongs to."""
    if per == "layer":
        return np.zeros(1, dtype=np.int64)
    return np.repeat(np.arange(len(filters)), filters.shape[1] if per == "kernel" else 1)


def _solve(
    rows: Filters,
    chosen: DyadicSet,
    scale: Scale,
    per: Per,
    weight_bits: int,
    filter_of: NDArray[np.int64],
    outputs: int,
) -> Approximation:
    """With powers of two per kernel, the exponents of one filter stay so close that its integers fit `weight_bits`."""
    if scale == "folded":
        return best_free(rows, chosen)
    result = best_shift(rows, chosen)
    if per != "kernel" or not len(rows):
        return result
    room = weight_bits - 1 - int(max(abs(level) for level in chosen.levels) / chosen.unit).bit_length()
    exponent = np.rint(np.log2(result.alpha)).astype(np.int64)
    top = np.full(outputs, np.iinfo(np.int64).min)
    np.maximum.at(top, filter_of, exponent)
    lowest = top[filter_of] - max(room, 0)
    far = exponent < lowest
    if far.any():
        again = best_shift(rows[far], chosen, lowest[far])
        result.alpha[far], result.levels[far], result.error[far] = again.alpha, again.levels, again.error
    return result


def _units(
    result: Approximation,
    chosen: DyadicSet,
    scale: Scale,
    per: Per,
    filter_of: NDArray[np.int64],
    outputs: int,
) -> NDArray[np.float64]:
    """What turns each group's levels into integers on the one scale of its filter."""
    if scale == "folded" or per != "kernel":
        return np.full(len(result.alpha), 1 / chosen.unit)
    least = np.full(outputs, np.inf)
    np.minimum.at(least, filter_of, result.alpha)
    return np.asarray(result.alpha / least[filter_of] / chosen.unit)
