"""What both forms of a layer of shifts and additions know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings.dyadic import digit_count
from lhcc.encodings.tiles import ungroup
from lhcc.errors import TargetError
from lhcc.integer import Conv, Dense
from lhcc.integer.core import Pair, Sides
from lhcc.ir.int_steps import fits
from lhcc.ir.tir import Expr, Stmt
from lhcc.targets.cpu.int_plan import weights_of

Shape = tuple[int, ...]  # of the planes: images, channels, height, width
Finish = Callable[[Expr], list[Stmt]]  # what happens to the sums of a block of outputs, by its number


@dataclass(frozen=True)
class ShiftLayer:
    """A convolution without groups, or a dense layer as one; `weight` is (outputs, inputs, rows, columns)."""

    name: str
    weight: NDArray[np.int64]
    bias: NDArray[np.int32]
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    @classmethod
    def of(cls, step: Conv | Dense) -> ShiftLayer:
        weight, bias = weights_of(step), step.bias.astype(np.int32)
        if isinstance(step, Dense):
            return cls(step.name, weight, bias)
        whole: Any = ungroup(weight, step.groups)  # type: ignore[arg-type]
        return cls(step.name, whole, bias, step.stride, step.padding, step.dilation)

    @property
    def before_sharing(self) -> int:
        """Additions when nothing is shared."""
        per_output = digit_count(self.weight).reshape(len(self.weight), -1).sum(axis=1)
        return int(np.maximum(per_output - 1, 0).sum())

    def offsets(self, inputs: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
        """Where inputs, as rows of (channel, row, column of the kernel), lie in planes, seen from an output."""
        channel, row, column = inputs.T
        return np.asarray((channel * shape[2] + row * self.dilation[0]) * shape[3] + column * self.dilation[1])

    def check(self, low: Any, high: Any) -> None:
        if not fits(low, high):
            raise TargetError(
                f"layer '{self.name}' adds up sums that need more than 32 bits", "compile it without arith shift"
            )


@dataclass(frozen=True)
class Place:
    """Where a kernel adds: some pixels of a row, of planes seen as `x` from `base`, into `sums`, an output's pixels a
    block apart."""

    x: Expr
    base: Expr
    shape: Shape
    lanes: int
    sums: Expr
