"""Brings tensors of an integer program to other scales and widths: by shifts where scales are powers of two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lhcc.approximation.quantised import Grid
from lhcc.approximation.ranges import Seen, best_fraction
from lhcc.integer import Builder

_MULTIPLIER_BITS = 24


@dataclass(frozen=True)
class Rounding:
    """`bits` are those of an activation; `seen` is what tensors of the model hold, where that is known."""

    builder: Builder
    bits: int
    seen: Seen

    def fraction(self, tensor: str, low: int, high: int) -> int | None:
        values = self.seen.get(tensor)
        return None if values is None else best_fraction(values, low, high)

    def free_name(self, name: str) -> str:
        while name in self.builder.types:
            name += "_"
        return name

    def to_grid(self, name: str, x: str, grid: Grid) -> str:
        """x on the grid: by shifts alone where all scales are powers of two, else by a fixed-point multiplier."""
        kind = self.builder.types[x]
        ratio = np.asarray(kind.scale, dtype=np.float64) / grid.scale
        if np.all(ratio == 1) and kind.low.min() >= grid.low and kind.high.max() <= grid.high and kind.scale.ndim == 0:
            return x
        mantissa, exponent = np.frexp(ratio)
        name = self.free_name(name)
        if np.all(mantissa == 0.5):
            return self.builder.requantise(name, x, 1 - exponent, grid.low, grid.high, 1, grid.scale)
        width = min(_MULTIPLIER_BITS, 61 - kind.bits)
        multiplier = np.rint(np.ldexp(mantissa, width)).astype(np.int64)
        return self.builder.requantise(name, x, width - exponent, grid.low, grid.high, multiplier, grid.scale)

    def align(self, name: str, x: str) -> str:
        """x on one scale for all channels, exactly: every channel is shifted left to the finest."""
        kind = self.builder.types[x]
        if kind.scale.ndim == 0:
            return x
        mantissa, exponent = np.frexp(kind.scale)
        if np.all(mantissa == 0.5):
            finest = np.asarray(2.0 ** (int(exponent.min()) - 1))
            return self.builder.requantise(self.free_name(name), x, exponent.min() - exponent, None, None, 1, finest)
        return self.to_bits(name, x, 2 * self.bits, None)

    def to_bits(self, name: str, x: str, bits: int, tensor: str | None, top: float | None = None) -> str:
        """x at so many bits, unsigned if it is never negative, its scale from the data or else from its interval."""
        kind = self.builder.types[x]
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind.signed else (0, (1 << bits) - 1)
        fraction = None if tensor is None else self.fraction(tensor, low, high)
        if fraction is None:
            reach = float(np.maximum(np.abs(kind.low * kind.scale), np.abs(kind.high * kind.scale)).max())
            fraction = math.floor(math.log2(high / reach)) if reach > 0 else 0
        if top is not None:
            high = min(high, round(top * 2.0**fraction))
        return self.to_grid(name, x, Grid(np.asarray(2.0**-fraction), low, high))
