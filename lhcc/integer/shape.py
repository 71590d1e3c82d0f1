"""Instructions that move or select integers and compute none: maximum pooling, concatenation, flattening."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lhcc.integer.core import Instruction, Ints, Pair, Sides, TensorType, Window, typed


@dataclass(frozen=True, eq=False)
class MaxPool(Instruction):
    """The maximum over a window; positions outside the image never win."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)

    @property
    def window(self) -> Window:
        return Window(self.kernel, self.stride, self.padding)

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        self.expect(len(x.shape) == 3, f"the input must be an image, not {x.shape}")
        top, left, bottom, right = self.padding
        inside = max(top, bottom) < self.kernel[0] and max(left, right) < self.kernel[1]
        self.expect(inside, "padding exceeds the window")
        rows, columns = self.window.output(x.shape[0], x.shape[1])
        self.expect(rows > 0 and columns > 0, f"a {self.kernel} window does not fit into {x.shape[:2]}")
        return typed(self.name, (rows, columns, x.channels), x.scale, x.low, x.high)

    def run(self, *arrays: Ints) -> Ints:
        (x,) = arrays
        best: Ints | None = None
        for _, _, seen in self.window.taps(x, fill=np.iinfo(np.int64).min):
            best = np.asarray(seen) if best is None else np.maximum(best, seen)
        assert best is not None
        return best


@dataclass(frozen=True, eq=False)
class Concat(Instruction):
    """Channels of all inputs side by side, in order; all have one scale."""

    def infer(self, *types: TensorType) -> TensorType:
        first = types[0]
        self.expect(all(t.shape[:-1] == first.shape[:-1] for t in types), "image sizes differ")
        self.expect(all(t.scale.ndim == 0 and t.scale == first.scale for t in types), "scales differ")
        shape = (*first.shape[:-1], sum(t.channels for t in types))
        lows, highs = [t.low for t in types], [t.high for t in types]
        return typed(self.name, shape, first.scale, np.concatenate(lows), np.concatenate(highs))

    def run(self, *arrays: Ints) -> Ints:
        return np.concatenate(arrays, axis=-1)


@dataclass(frozen=True, eq=False)
class Flatten(Instruction):
    """An image as a vector in stream order: row by row, pixel by pixel, channel by channel."""

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        self.expect(x.scale.ndim == 0, "the input needs one scale for all channels")
        repeat = math.prod(x.shape[:-1])
        return typed(self.name, (math.prod(x.shape),), x.scale, np.tile(x.low, repeat), np.tile(x.high, repeat))

    def run(self, *arrays: Ints) -> Ints:
        return arrays[0].reshape(arrays[0].shape[0], -1)
