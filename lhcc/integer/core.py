"""What every instruction shares: the fixed-point tensor type with its exact interval, and sliding windows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import ModelError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Pair = tuple[int, int]
Sides = tuple[int, int, int, int]

WIDEST = 63
"""A tensor may need at most this many bits, sign included, so that int64 can hold it and a rounding constant too."""


class WidthError(ModelError):
    """A tensor would need more bits than the place that has to hold it."""


def width(low: int, high: int) -> int:
    """The fewest bits that hold every integer of [low, high]; two's complement as soon as low is negative."""
    if low >= 0:
        return max(1, int(high).bit_length())
    return 1 + max(int(-low - 1).bit_length(), max(int(high), 0).bit_length())


@dataclass(frozen=True, eq=False)
class TensorType:
    """An image (H, W, C) or a vector (C,) of integers q standing for q * scale; channel c lies in [low[c], high[c]]."""

    shape: tuple[int, ...]
    scale: Floats
    low: Ints
    high: Ints

    @property
    def channels(self) -> int:
        return self.shape[-1]

    @property
    def signed(self) -> bool:
        return bool((self.low < 0).any())

    @property
    def bits(self) -> int:
        return width(int(self.low.min()), int(self.high.max()))

    def channel_bits(self, channel: int) -> int:
        return width(int(self.low[channel]), int(self.high[channel]))

    @property
    def fraction(self) -> int | None:
        """f with scale == 2**-f, or None where the scale is no power of two or differs between channels."""
        if self.scale.ndim != 0 and not (self.scale == self.scale.flat[0]).all():
            return None
        mantissa, exponent = math.frexp(float(self.scale.flat[0]))
        return 1 - exponent if mantissa == 0.5 else None

    def __str__(self) -> str:
        dims = "x".join(map(str, self.shape))
        fraction = self.fraction
        unit = f"2^{-fraction}" if fraction is not None else f"{float(self.scale.flat[0]):.4g}.."
        kind = "s" if self.signed else "u"
        return f"{dims} {kind}{self.bits} [{int(self.low.min())}, {int(self.high.max())}] * {unit}"


def typed(name: str, shape: tuple[int, ...], scale: Floats, low: object, high: object) -> TensorType:
    """A TensorType from bounds that may still be Python integers; refuses what 63 bits cannot hold."""
    lows, highs = np.asarray(low, dtype=object).ravel(), np.asarray(high, dtype=object).ravel()
    need = width(int(min(lows)), int(max(highs)))
    if need > WIDEST:
        raise WidthError(f"'{name}' needs {need} bits, and {WIDEST} is the most", "use fewer weight or activation bits")
    channels = shape[-1]
    return TensorType(
        tuple(int(d) for d in shape),
        np.asarray(scale, dtype=np.float64),
        np.broadcast_to(lows.astype(np.int64), (channels,)).copy(),
        np.broadcast_to(highs.astype(np.int64), (channels,)).copy(),
    )


@dataclass(frozen=True, eq=False)
class Instruction:
    """One operation: it defines the tensor `name` from earlier tensors `inputs`."""

    name: str
    inputs: tuple[str, ...]

    def infer(self, *types: TensorType) -> TensorType:
        """The type of the result: shape, scale and the interval that no legal input can leave."""
        raise NotImplementedError

    def run(self, *arrays: Ints) -> Ints:
        """The result itself, batch first: (N, H, W, C) or (N, C), int64."""
        raise NotImplementedError

    def expect(self, holds: bool, message: str) -> None:
        if not holds:
            raise ModelError(f"{type(self).__name__} '{self.name}': {message}")


@dataclass(frozen=True)
class Window:
    """A sliding window over the two image axes."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    """top, left, bottom, right"""
    dilation: Pair = (1, 1)

    def output(self, height: int, width_: int) -> Pair:
        top, left, bottom, right = self.padding
        rows = height + top + bottom - (self.kernel[0] - 1) * self.dilation[0] - 1
        columns = width_ + left + right - (self.kernel[1] - 1) * self.dilation[1] - 1
        return rows // self.stride[0] + 1, columns // self.stride[1] + 1

    def taps(self, x: Ints, fill: int = 0) -> Iterator[tuple[int, int, Ints]]:
        """(row, column, the inputs that this tap meets at all output positions), for x of shape (N, H, W, C)."""
        top, left, bottom, right = self.padding
        rows, columns = self.output(x.shape[1], x.shape[2])
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                y0, x0 = i * self.dilation[0], j * self.dilation[1]
                y1, x1 = y0 + (rows - 1) * self.stride[0] + 1, x0 + (columns - 1) * self.stride[1] + 1
                yield i, j, padded[:, y0 : y1 : self.stride[0], x0 : x1 : self.stride[1]]
