"""The linear instructions: convolution, dense, addition and sum pooling; all exact, none rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lhcc.integer.core import Floats, Instruction, Ints, Pair, Sides, TensorType, Window, typed

_FLOAT_EXACT = 2.0**53


def _matmul(x: Ints, weight: Ints) -> Ints:
    """x @ weight over int64; through float64 where every partial sum is below 2**53, which is exact and 30x faster."""
    bound = float(np.abs(x).max(initial=0)) * float(np.abs(weight).sum(axis=-2).max(initial=0))
    if bound < _FLOAT_EXACT:
        return (x.astype(np.float64) @ weight.astype(np.float64)).astype(np.int64)
    return x @ weight


def _interval(weight: Ints, low: Ints, high: Ints, bias: Ints) -> tuple[Ints, Ints]:
    """Per output, the least and greatest sum of weight[i, o] * x[i] + bias[o] with x[i] in [low[i], high[i]]."""
    positive, negative = np.maximum(weight, 0), np.minimum(weight, 0)
    size = float(np.abs(weight).sum(axis=0).max(initial=0)) * float(max(np.abs(low).max(), np.abs(high).max()))
    if size >= 2.0**62:  # beyond int64: slow, unbounded, and about to be refused by name
        positive, negative, low, high = (a.astype(object) for a in (positive, negative, low, high))
    return low @ positive + high @ negative + bias, high @ positive + low @ negative + bias


@dataclass(frozen=True, eq=False)
class Conv(Instruction):
    """y[h,w,o] = bias[o] + sum over kh, kw, i of weight[kh,kw,i,o] * x[h*s+kh*d-p, w*s+kw*d-p, i]; zero outside."""

    weight: Ints
    """(kh, kw, channels in / groups, channels out), in units of weight_scale"""
    bias: Ints
    """(channels out,), in units of the result's scale"""
    weight_scale: Floats
    """a scalar, or one per output channel"""
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def window(self) -> Window:
        return Window((self.weight.shape[0], self.weight.shape[1]), self.stride, self.padding, self.dilation)

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        kh, kw, per_group, outputs = self.weight.shape
        self.expect(len(x.shape) == 3, f"the input must be an image, not {x.shape}")
        self.expect(x.channels == per_group * self.groups, f"{per_group} x {self.groups} inputs, not {x.channels}")
        self.expect(outputs % self.groups == 0, f"{outputs} outputs do not split into {self.groups} groups")
        self.expect(self.bias.shape == (outputs,), f"{outputs} outputs need {outputs} biases, not {self.bias.shape}")
        self.expect(x.scale.ndim == 0, "the input needs one scale for all channels")
        rows, columns = self.window.output(x.shape[0], x.shape[1])
        self.expect(rows > 0 and columns > 0, f"a {kh}x{kw} kernel does not fit into {x.shape[0]}x{x.shape[1]}")
        low, high = x.low, x.high
        if any(self.padding):  # a tap may meet a zero instead of a pixel
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        lows, highs, step = [], [], outputs // self.groups
        for g in range(self.groups):
            inside, outside = slice(g * per_group, (g + 1) * per_group), slice(g * step, (g + 1) * step)
            flat = self.weight[..., outside].reshape(kh * kw * per_group, step)
            ends = _interval(flat, np.tile(low[inside], kh * kw), np.tile(high[inside], kh * kw), self.bias[outside])
            lows.append(ends[0])
            highs.append(ends[1])
        scale = x.scale * np.asarray(self.weight_scale)
        return typed(self.name, (rows, columns, outputs), scale, np.concatenate(lows), np.concatenate(highs))

    def run(self, *arrays: Ints) -> Ints:
        (x,) = arrays
        per_group, outputs = self.weight.shape[2:]
        rows, columns = self.window.output(x.shape[1], x.shape[2])
        total: Ints = np.broadcast_to(self.bias, (x.shape[0], rows, columns, outputs)).copy()
        for i, j, seen in self.window.taps(x):
            weight = self.weight[i, j]
            if not weight.any():
                continue
            if self.groups == 1:
                total += _matmul(seen, weight)
                continue
            blocks = weight.reshape(per_group, self.groups, -1).transpose(1, 0, 2)
            grouped = seen.reshape(*seen.shape[:3], self.groups, 1, per_group)
            products = grouped * blocks if per_group == 1 else grouped @ blocks
            total += products.reshape(total.shape)
        return total


@dataclass(frozen=True, eq=False)
class Dense(Instruction):
    """y[o] = bias[o] + sum over i of weight[i,o] * x[i]."""

    weight: Ints
    bias: Ints
    weight_scale: Floats

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        self.expect(x.shape == (self.weight.shape[0],), f"{self.weight.shape[0]} inputs expected, not {x.shape}")
        self.expect(self.bias.shape == (self.weight.shape[1],), "one bias per output is needed")
        self.expect(x.scale.ndim == 0, "the input needs one scale for all channels")
        low, high = _interval(self.weight, x.low, x.high, self.bias)
        return typed(self.name, (self.weight.shape[1],), x.scale * np.asarray(self.weight_scale), low, high)

    def run(self, *arrays: Ints) -> Ints:
        return _matmul(arrays[0], self.weight) + self.bias


@dataclass(frozen=True, eq=False)
class Add(Instruction):
    """y = (a << shifts[0]) + (b << shifts[1]), shifts that bring both to one scale."""

    shifts: Pair = (0, 0)

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        self.expect(a.shape == b.shape, f"shapes differ: {a.shape} and {b.shape}")
        self.expect(min(self.shifts) >= 0, f"shifts are never negative, not {self.shifts}")
        scales = [t.scale * 2.0**-s for t, s in zip(types, self.shifts, strict=True)]
        same = bool(np.all(scales[0] == scales[1]))
        self.expect(same, f"scales differ after the shifts: {scales[0]} and {scales[1]}")
        low = (a.low.astype(object) << self.shifts[0]) + (b.low.astype(object) << self.shifts[1])
        high = (a.high.astype(object) << self.shifts[0]) + (b.high.astype(object) << self.shifts[1])
        return typed(self.name, a.shape, scales[0], low, high)

    def run(self, *arrays: Ints) -> Ints:
        return (arrays[0] << self.shifts[0]) + (arrays[1] << self.shifts[1])


@dataclass(frozen=True, eq=False)
class SumPool(Instruction):
    """The sum over a window (zero outside); its scale is divided by the window's area, so it stands for the average."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)

    @property
    def window(self) -> Window:
        return Window(self.kernel, self.stride, self.padding)

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        self.expect(len(x.shape) == 3, f"the input must be an image, not {x.shape}")
        rows, columns = self.window.output(x.shape[0], x.shape[1])
        self.expect(rows > 0 and columns > 0, f"a {self.kernel} window does not fit into {x.shape[:2]}")
        low, high = (np.minimum(x.low, 0), np.maximum(x.high, 0)) if any(self.padding) else (x.low, x.high)
        area = self.kernel[0] * self.kernel[1]
        shape = (rows, columns, x.channels)
        return typed(self.name, shape, x.scale / area, low.astype(object) * area, high.astype(object) * area)

    def run(self, *arrays: Ints) -> Ints:
        (x,) = arrays
        rows, columns = self.window.output(x.shape[1], x.shape[2])
        total = np.zeros((x.shape[0], rows, columns, x.shape[3]), np.int64)
        for _, _, seen in self.window.taps(x):
            total += seen
        return total
