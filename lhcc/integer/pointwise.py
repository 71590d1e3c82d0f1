"""Instructions that treat every integer by itself: input, clip, requantise and piecewise-linear activation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lhcc.errors import InputError
from lhcc.integer.core import Floats, Instruction, Ints, TensorType, typed


@dataclass(frozen=True, eq=False)
class Input(Instruction):
    """A tensor that comes from outside: integers within [low, high] that stand for q * scale."""

    shape: tuple[int, ...]
    scale: Floats
    low: Ints
    high: Ints

    def infer(self, *types: TensorType) -> TensorType:
        return typed(self.name, self.shape, self.scale, self.low, self.high)

    def run(self, *arrays: Ints) -> Ints:
        (x,) = arrays
        t = self.infer()
        if x.shape[1:] != t.shape:
            raise InputError(f"input '{self.name}' has shape {t.shape} after the batch axis, not {x.shape[1:]}")
        if (x < t.low).any() or (x > t.high).any():
            raise InputError(f"input '{self.name}' leaves its interval [{t.low.min()}, {t.high.max()}]")
        return x.astype(np.int64)

    def quantise(self, x: np.ndarray) -> Ints:
        """floor(x / scale + 1/2) in float64, clipped to the interval."""
        if not np.isfinite(x).all():
            raise InputError(f"input '{self.name}' holds NaN or infinity")
        t = self.infer()
        rounded = np.floor(x.astype(np.float64) / t.scale + 0.5)
        return np.clip(rounded, t.low.astype(np.float64), t.high.astype(np.float64)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Clip(Instruction):
    """y = min(max(x, low), high); a missing bound does nothing.  ReLU is Clip(low=0)."""

    low: int | None = None
    high: int | None = None

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        self.expect(self.low is None or self.high is None or self.low <= self.high, "low is above high")
        return typed(self.name, x.shape, x.scale, self.run(x.low), self.run(x.high))

    def run(self, *arrays: Ints) -> Ints:
        y = arrays[0]
        y = y if self.low is None else np.maximum(y, self.low)
        return y if self.high is None else np.minimum(y, self.high)


@dataclass(frozen=True, eq=False)
class Requantise(Instruction):
    """y = (x * multiplier + 2**(shift-1)) >> shift, then clipped where bounds are given: the only rounding there is.

    A shift of 0 adds nothing; a negative shift multiplies by 2**-shift.  The multiplier is 1 in a dyadic program."""

    shift: Ints
    """a scalar, or one per channel"""
    multiplier: Ints
    """a scalar, or one per channel; positive, below 2**31"""
    scale: Floats | None = None
    """what the result stands for; None derives it as x.scale * 2**shift / multiplier"""
    low: int | None = None
    high: int | None = None

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        shift, multiplier = np.asarray(self.shift), np.asarray(self.multiplier)
        self.expect(bool((multiplier > 0).all()) and bool((multiplier < 2**31).all()), "multipliers are 1 .. 2**31 - 1")
        self.expect(bool((shift >= -31).all()) and bool((shift <= 62).all()), "shifts are -31 .. 62")
        if self.scale is None:
            scale = x.scale * 2.0 ** shift.astype(np.float64) / multiplier
        else:
            scale = np.asarray(self.scale, dtype=np.float64)
        half = np.where(shift > 0, 2 ** np.maximum(shift - 1, 0), 0).astype(object)
        gain = multiplier.astype(object) * np.where(shift < 0, 2 ** np.maximum(-shift, 0), 1).astype(object)
        # the product and its rounding constant must fit as well, not only the result
        inner = typed(self.name, x.shape, scale, x.low.astype(object) * gain, x.high.astype(object) * gain + half)
        del inner
        result = typed(self.name, x.shape, scale, self._round(x.low), self._round(x.high))
        return typed(self.name, x.shape, scale, self._clip(result.low), self._clip(result.high))

    def _round(self, x: Ints) -> Ints:
        right, left = np.maximum(self.shift, 0), np.maximum(-np.asarray(self.shift), 0)
        half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
        return np.asarray((((x * self.multiplier) << left) + half) >> right)

    def _clip(self, x: Ints) -> Ints:
        y = x if self.low is None else np.maximum(x, self.low)
        return y if self.high is None else np.minimum(y, self.high)

    def run(self, *arrays: Ints) -> Ints:
        return self._clip(self._round(arrays[0]))


@dataclass(frozen=True, eq=False)
class Piecewise(Instruction):
    """y = slopes[k] * x + offsets[k], where k counts the breakpoints that are <= x; exact, so the scale shrinks."""

    breakpoints: Ints
    """n ascending integers, in units of x"""
    slopes: Ints
    """n + 1 integers, in units of slope_scale"""
    offsets: Ints
    """n + 1 integers, in units of the result's scale"""
    slope_scale: float

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        n = len(self.breakpoints)
        self.expect(bool((np.diff(self.breakpoints) > 0).all()), "breakpoints must ascend")
        self.expect(len(self.slopes) == len(self.offsets) == n + 1, f"{n} breakpoints need {n + 1} segments")
        self.expect(x.scale.ndim == 0, "the input needs one scale for all channels")
        lows, highs = [], []
        for low, high in zip(x.low.tolist(), x.high.tolist(), strict=True):
            inner = [b for b in self.breakpoints.tolist() if low < b <= high]
            ends = sorted({low, high, *inner, *(b - 1 for b in inner)})  # a segment is monotonic: its ends suffice
            values = [self._at(v) for v in ends]
            lows.append(min(values))
            highs.append(max(values))
        return typed(self.name, x.shape, x.scale * self.slope_scale, lows, highs)

    def _at(self, x: int) -> int:
        k = int(np.searchsorted(self.breakpoints, x, side="right"))
        return int(self.slopes[k]) * x + int(self.offsets[k])

    def run(self, *arrays: Ints) -> Ints:
        k = np.searchsorted(self.breakpoints, arrays[0], side="right")
        return self.slopes[k] * arrays[0] + self.offsets[k]
