"""The *dyadic* encoding: every weight is scale[o] * n, n a small integer, so a layer needs only additions and shifts.

Recognition is exact: a filter counts as dyadic only if one scale reproduces all its weights bit for bit after rounding
to their type. Trained files store float(alpha * n); the alphas that round to a weight form an interval, and that of
the filter must lie in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lhcc.errors import LhccError

Floats = NDArray[np.floating]


class NotDyadic(LhccError):
    """Weights that no scale per filter turns into small integers."""


@dataclass(frozen=True)
class Cost:
    """What one output position of the layer costs before subexpressions are shared."""

    nonzeros: int
    digits: int
    additions: int
    weight_bits: int

    @property
    def digits_per_weight(self) -> float:
        return self.digits / max(self.nonzeros, 1)


@dataclass(frozen=True, eq=False)
class Dyadic:
    """weight[o] == scale[o] * integers[o], rounded to `dtype`; filters lie along axis 0."""

    integers: NDArray[np.int32]
    scale: NDArray[np.float64]
    dtype: np.dtype[np.floating]

    @cached_property
    def exponents(self) -> NDArray[np.int64] | None:
        """log2 of the scales if every one is a power of two, so that the whole layer is shifts and additions."""
        mantissa, exponent = np.frexp(self.scale)
        return exponent.astype(np.int64) - 1 if np.all(mantissa == 0.5) else None

    @property
    def bits(self) -> int:
        """Bits of the widest integer, sign included."""
        return int(np.abs(self.integers).max(initial=0)).bit_length() + 1

    def to_dense(self) -> Floats:
        return _products(self.integers, self.scale, self.dtype)

    def cost(self) -> Cost:
        per_filter = digit_count(self.integers).reshape(len(self.integers), -1).sum(axis=1)
        additions = int(np.maximum(per_filter - 1, 0).sum())
        return Cost(int(np.count_nonzero(self.integers)), int(per_filter.sum()), additions, self.bits)


def digit_count(integers: ArrayLike) -> NDArray[np.int64]:
    """Powers of two that each integer needs at least, added or subtracted: the non-zero canonical signed digits."""
    size = np.abs(np.asarray(integers, dtype=np.int64))
    return np.asarray(np.bitwise_count(size ^ (3 * size)), dtype=np.int64)


def digit_masks(integers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The canonical signed digits of every integer, as bits: those that are added and those that are subtracted."""
    size = np.abs(integers)
    more, less = (3 * size & ~size) >> 1, (size & ~(3 * size)) >> 1
    return np.where(integers < 0, less, more), np.where(integers < 0, more, less)


def from_dense(weight: ArrayLike, max_bits: int = 8) -> Dyadic:
    """The encoding of a weight with filters along axis 0, |n| < 2^max_bits; raises NotDyadic, naming the filter."""
    values = np.asarray(weight)
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    integers = np.zeros(values.shape, dtype=np.int32)
    scale = np.ones(values.shape[:1], dtype=np.float64)
    for o, filter_ in enumerate(values):
        if not np.isfinite(filter_).all():
            raise NotDyadic(f"filter {o} holds Inf or NaN", "check how the weights were exported")
        found = _scale_of(np.abs(filter_), max_bits)
        if found is None:
            raise NotDyadic(
                f"filter {o} is not a scale times integers of {max_bits + 1} bits, sign included, and takes "
                f"{_bits_of_powers(np.abs(filter_))} bits with a power of two as its scale",
                f"run: lhcc approximate MODEL -o dyadic.onnx, with --weight-bits {max_bits + 1} at most",
            )
        scale[o] = found
        integers[o] = np.rint(filter_ / found)
    return Dyadic(integers, scale, values.dtype)


def recognise(weight: ArrayLike, max_bits: int = 8) -> Dyadic | None:
    """`from_dense`, or None where the weight is not dyadic."""
    try:
        return from_dense(weight, max_bits)
    except NotDyadic:
        return None


def _products(integers: NDArray[np.int32], scale: NDArray[np.float64], dtype: np.dtype[np.floating]) -> Floats:
    shaped = scale.reshape((-1,) + (1,) * (integers.ndim - 1))
    return np.asarray(integers * shaped).astype(dtype)


def _scale_of(sizes: Floats, max_bits: int) -> float | None:
    """The scale of one filter's magnitudes, a power of two where possible; None if there is none."""
    levels = np.unique(sizes[sizes > 0])
    limit = 1 << max_bits
    if len(levels) == 0:
        return 1.0
    if len(levels) >= limit:
        return None
    exact = levels.astype(np.float64)
    unit = _largest_unit(exact)
    if exact[-1] / unit < limit:
        return unit
    return _free_scale(levels, exact, limit)


def _largest_unit(levels: NDArray[np.float64]) -> float:
    """The largest power of two of which all levels are multiples."""
    mantissa, exponent = np.frexp(levels)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return float(np.ldexp(1.0, int((exponent - 53 + trailing).min())))


def _bits_of_powers(sizes: Floats) -> int:
    """Bits, sign included, of one filter's integers if its scale is to be a power of two."""
    levels = sizes[sizes > 0].astype(np.float64)
    return int(np.frexp(levels.max())[1] - np.frexp(_largest_unit(levels))[1]) + 2


def _free_scale(levels: Floats, exact: NDArray[np.float64], limit: int) -> float | None:
    """The scale for which the smallest level is k times it, for the smallest k that fits all levels."""
    half = np.spacing(levels).astype(np.float64) / 2
    k = np.arange(1, limit, dtype=np.float64)[:, None]
    n = np.rint(exact * k / exact[0])
    low, high = ((exact - half) / n).max(axis=1), ((exact + half) / n).min(axis=1)
    slack = 1 + 4 * np.finfo(np.float64).eps  # the bounds themselves are rounded
    for row in np.flatnonzero((low <= high * slack) & (n[:, -1] < limit)):
        for scale in _candidates((low[row] + high[row]) / 2):
            if scale > 0 and np.array_equal((n[row] * scale).astype(levels.dtype), levels):
                return scale
    return None


def _candidates(middle: float) -> list[float]:
    """Scales at the middle of the interval: first a float32, then the doubles next to it for double weights."""
    step = float(np.spacing(middle))
    return [float(np.float32(middle)), middle, *(middle + k * step for k in (-1, 1, -2, 2, -3, 3))]
