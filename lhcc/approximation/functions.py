"""Smooth activation functions as continuous piecewise-linear ones with dyadic breakpoints, slopes and values.

Each segment is made as long as a slope of few signed digits allows: the slopes that keep within the tolerance at all
points so far form an interval, and the segment ends where the interval holds no such slope any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lhcc.approximation.sets import signed_digit_set
from lhcc.errors import LhccError

Doubles = NDArray[np.float64]
_SAMPLES_PER_UNIT = 1 << 10
_BREAKPOINT_BITS = 4
_SLOPE_BITS = 6
_CURVATURE = 2.0
"""No function below has a second derivative beyond this, so between samples the error grows by at most h^2 * 2 / 8."""


@dataclass(frozen=True)
class Smooth:
    """A function with a straight line on either side: `left` towards -inf, right[0] * x + right[1] towards +inf."""

    compute: Callable[[Doubles], Doubles]
    left: float
    right: tuple[float, float]
    reach: int


def _gelu(x: Doubles) -> Doubles:
    return np.asarray(x * 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2))))


FUNCTIONS: dict[str, Smooth] = {
    "tanh": Smooth(np.tanh, -1.0, (0.0, 1.0), 12),
    "sigmoid": Smooth(lambda x: 1 / (1 + np.exp(-x)), 0.0, (0.0, 1.0), 20),
    "silu": Smooth(lambda x: x / (1 + np.exp(-x)), 0.0, (1.0, 0.0), 24),
    "gelu": Smooth(_gelu, 0.0, (1.0, 0.0), 12),
    "hardswish": Smooth(lambda x: x * np.clip(x + 3, 0, 6) / 6, 0.0, (1.0, 0.0), 4),
    "hardsigmoid": Smooth(lambda x: np.clip(x + 3, 0, 6) / 6, 0.0, (0.0, 1.0), 4),
}


@dataclass(frozen=True)
class PiecewiseLinear:
    """Constant `start` up to breakpoints[0]; slopes[k] from breakpoints[k] to the next one, the last for ever."""

    breakpoints: tuple[float, ...]
    slopes: tuple[float, ...]
    start: float
    max_error: float

    @property
    def values(self) -> tuple[float, ...]:
        """The function at the breakpoints."""
        values = [self.start]
        for k in range(1, len(self.breakpoints)):
            values.append(values[-1] + self.slopes[k - 1] * (self.breakpoints[k] - self.breakpoints[k - 1]))
        return tuple(values)

    def integers(self, unit: float) -> tuple[Doubles, Doubles, Doubles, int]:
        """For an input in units of `unit`: breakpoints in these, slopes in units of a power of two, offsets in units of
        the product of both, all whole numbers, and the fractional bits of the slopes."""
        slopes = np.array([0.0, *self.slopes])
        fraction = next(f for f in range(32) if np.array_equal(slopes * 2.0**f, np.rint(slopes * 2.0**f)))
        breaks = np.ceil(np.array(self.breakpoints) / unit)
        offsets = np.array(
            [self.start, *(v - s * b for v, s, b in zip(self.values, self.slopes, self.breakpoints, strict=True))]
        )
        keep = np.concatenate([np.diff(breaks) > 0, [True]])  # breakpoints that fall together leave the last segment
        index = np.concatenate([[0], 1 + np.flatnonzero(keep)])
        whole = np.floor(offsets / (unit * 2.0**-fraction) + 0.5)
        return breaks[keep], np.rint(slopes * 2.0**fraction)[index], whole[index], fraction

    def __call__(self, x: ArrayLike) -> Doubles:
        points = np.asarray(x, dtype=np.float64)
        k = np.searchsorted(self.breakpoints, points, side="right") - 1
        inner = np.maximum(k, 0)
        line = np.array(self.values)[inner] + np.array(self.slopes)[inner] * (
            points - np.array(self.breakpoints)[inner]
        )
        return np.where(k < 0, self.start, line)


def check_error(max_error: float) -> None:
    if not 2.0**-10 <= max_error < 0.5:
        raise LhccError(f"an activation's error must lie in [2^-10, 0.5), not {max_error}")


def piecewise_linear(name: str, max_error: float = 1 / 64, digits: int = 2) -> PiecewiseLinear:
    """The named function with at most `max_error` of error anywhere, and slopes of at most `digits` signed digits."""
    if name not in FUNCTIONS:
        raise LhccError(f"no activation is called '{name}'", f"known: {', '.join(FUNCTIONS)}")
    check_error(max_error)
    function = FUNCTIONS[name]
    step = 1 / _SAMPLES_PER_UNIT
    between = step * step * _CURVATURE / 8
    count = function.reach * _SAMPLES_PER_UNIT
    x: Doubles = np.arange(-count, count + 1, dtype=np.float64) * step
    y = function.compute(x)
    start = round(function.left * 2**10) / 2**10
    tolerance = max_error - between
    bits = max(_SLOPE_BITS, math.ceil(-math.log2(max_error)) + 1)
    slopes = np.array(signed_digit_set(digits, bits + 1).levels) / 2**bits
    grid = _SAMPLES_PER_UNIT >> max(_BREAKPOINT_BITS, bits - 2)
    at = int(np.flatnonzero(np.abs(y - start) > tolerance * 0.75)[0]) // grid * grid
    breakpoints, chosen, value = [float(x[at])], [], start
    while not _fits_tail(function, x[at:], y[at:], value, tolerance):
        end, slope = _longest(x[at:], y[at:], value, tolerance, slopes, grid)
        if end == 0:
            raise LhccError(f"no dyadic piecewise-linear {name} within {max_error}", "allow a larger error")
        chosen.append(slope)
        value += slope * float(x[at + end] - x[at])
        at += end
        breakpoints.append(float(x[at]))
    chosen.append(function.right[0])
    result = PiecewiseLinear(tuple(breakpoints), tuple(chosen), start, 0.0)
    tail = abs(result(x[-1:])[0] - (function.right[0] * x[-1] + function.right[1]))
    worst = max(float(np.abs(result(x) - y).max()), float(tail)) + between
    return PiecewiseLinear(result.breakpoints, result.slopes, start, worst)


def _fits_tail(function: Smooth, x: Doubles, y: Doubles, value: float, tolerance: float) -> bool:
    line = value + function.right[0] * (x - x[0])
    limit = function.right[0] * x[-1] + function.right[1]
    return bool(np.abs(line - y).max() <= tolerance and abs(line[-1] - limit) <= tolerance)


def _longest(x: Doubles, y: Doubles, value: float, tolerance: float, slopes: Doubles, grid: int) -> tuple[int, float]:
    """The farthest grid point that one allowed slope reaches within the tolerance, and the slope that ends best."""
    run = x[1:] - x[0]
    low = np.maximum.accumulate((y[1:] - tolerance - value) / run)
    high = np.minimum.accumulate((y[1:] + tolerance - value) / run)
    ends = np.arange(grid, len(x), grid)
    first = np.searchsorted(slopes, low[ends - 1])
    reachable = (first < len(slopes)) & (slopes[np.minimum(first, len(slopes) - 1)] <= high[ends - 1])
    if not reachable.any():
        return 0, 0.0
    end = int(ends[np.flatnonzero(reachable)[-1]])
    allowed = slopes[(slopes >= low[end - 1]) & (slopes <= high[end - 1])]
    ideal = (y[end] - value) / run[end - 1]
    return end, float(allowed[np.argmin(np.abs(allowed - ideal))])
