"""Writes a program step by step: each method appends one instruction and returns its tensor's name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lhcc.integer.affine import Add, Conv, Dense, SumPool
from lhcc.integer.core import Instruction, Pair, Sides, TensorType
from lhcc.integer.pointwise import Clip, Input, Piecewise, Requantise
from lhcc.integer.program import Program
from lhcc.integer.shape import Concat, Flatten, MaxPool


def _ints(value: object) -> np.ndarray:
    return np.asarray(value, dtype=np.int64)


class Builder:
    """`types` can be asked at any time, so that the next instruction may depend on the widths so far."""

    def __init__(self, layout: str = "NCHW") -> None:
        self.instructions: list[Instruction] = []
        self.types: dict[str, TensorType] = {}
        self.layout = layout

    def append(self, step: Instruction) -> str:
        self.types[step.name] = step.infer(*(self.types[n] for n in step.inputs))
        self.instructions.append(step)
        return step.name

    def input(self, name: str, shape: Sequence[int], bits: int = 8, fraction: int = 0, signed: bool = False) -> str:
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        scale = np.asarray(2.0**-fraction)
        return self.append(Input(name, (), tuple(int(d) for d in shape), scale, _ints(low), _ints(high)))

    def conv(
        self,
        name: str,
        x: str,
        weight: object,
        bias: object = None,
        fraction: int = 0,
        stride: Pair = (1, 1),
        padding: Sides = (0, 0, 0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> str:
        w = _ints(weight)
        b = np.zeros(w.shape[3], np.int64) if bias is None else _ints(bias)
        return self.append(Conv(name, (x,), w, b, np.asarray(2.0**-fraction), stride, padding, dilation, groups))

    def dense(self, name: str, x: str, weight: object, bias: object = None, fraction: int = 0) -> str:
        w = _ints(weight)
        b = np.zeros(w.shape[1], np.int64) if bias is None else _ints(bias)
        return self.append(Dense(name, (x,), w, b, np.asarray(2.0**-fraction)))

    def add(self, name: str, a: str, b: str) -> str:
        """The shifts are chosen here: the coarser operand is moved to the finer scale."""
        fa, fb = self.types[a].fraction, self.types[b].fraction
        shifts = (0, 0) if fa is None or fb is None else (max(fb - fa, 0), max(fa - fb, 0))
        return self.append(Add(name, (a, b), shifts))

    def clip(self, name: str, x: str, low: int | None = None, high: int | None = None) -> str:
        return self.append(Clip(name, (x,), low, high))

    def relu(self, name: str, x: str) -> str:
        return self.clip(name, x, low=0)

    def requantise(
        self,
        name: str,
        x: str,
        shift: object,
        low: int | None = None,
        high: int | None = None,
        multiplier: object = 1,
        scale: object = None,
    ) -> str:
        out = None if scale is None else np.asarray(scale, dtype=np.float64)
        return self.append(Requantise(name, (x,), _ints(shift), _ints(multiplier), out, low, high))

    def piecewise(
        self, name: str, x: str, breakpoints: object, slopes: object, offsets: object, fraction: int = 0
    ) -> str:
        return self.append(Piecewise(name, (x,), _ints(breakpoints), _ints(slopes), _ints(offsets), 2.0**-fraction))

    def max_pool(
        self, name: str, x: str, kernel: Pair, stride: Pair | None = None, padding: Sides = (0, 0, 0, 0)
    ) -> str:
        return self.append(MaxPool(name, (x,), kernel, stride or kernel, padding))

    def sum_pool(
        self, name: str, x: str, kernel: Pair, stride: Pair | None = None, padding: Sides = (0, 0, 0, 0)
    ) -> str:
        return self.append(SumPool(name, (x,), kernel, stride or kernel, padding))

    def global_sum(self, name: str, x: str) -> str:
        height, width = self.types[x].shape[:2]
        return self.sum_pool(name, x, (height, width))

    def concat(self, name: str, *xs: str) -> str:
        return self.append(Concat(name, xs))

    def flatten(self, name: str, x: str) -> str:
        return self.append(Flatten(name, (x,)))

    def build(self, *outputs: str) -> Program:
        return Program(self.instructions, outputs, self.layout)
