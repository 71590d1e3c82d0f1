"""A planar map on its way to shared memory: numbers of several channels and columns are put down as a pixel."""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import get, integer, put, var
from lhcc.ir.vector import const
from lhcc.targets.cuda.ending import ELEMENT
from lhcc.targets.cuda.planar import PIXEL
from lhcc.targets.cuda.staging import Staging
from lhcc.targets.cuda.tir import address, call, local, unrolled, when

Expr = Any
Stmt = Any
TOGETHER = 4  # pixels that a thread loads before it puts any down


class PlanarStaging(Staging):
    """There is one input block, which comes with the first stage."""

    def reads(self) -> list[Stmt]:
        return []

    def blocks(self, stage: Expr) -> list[Stmt]:
        if not isinstance(stage, T.IntImm) or int(stage) > 0:
            return []
        count, code = self.spec.copies, []
        element = ELEMENT[self.frame.arithmetic.element]
        for first in range(0, count, TOGETHER):
            numbers, clear = range(first, min(count, first + TOGETHER)), var("clear")
            values = local("values", PIXEL * len(numbers))
            code += [T.AllocBuffer(values), unrolled(clear, PIXEL * len(numbers), put(values, const(0, 1), clear))]
            code += [self._load(number, values, (number - first) * PIXEL) for number in numbers]
            for number in numbers:
                into, mine = self.frame.memory + self._pixel(number)[-1], address(values, (number - first) * PIXEL)
                code.append(self._if_any(number, call(f"put_channels<{PIXEL}, {element}>", into, mine)))
        return code

    def _pixel(self, number: int) -> tuple[Expr, ...]:
        return self.pixel(self.frame.copier + integer(number * self.spec.copying))

    def _if_any(self, number: int, code: Stmt) -> Stmt:
        """Where this thread has so many pixels to put down."""
        first, pixels = number * self.spec.copying, self.spec.patch_pixels
        left = self.frame.copier + first < integer(pixels)
        return when(left, [code]) if first + self.spec.copying > pixels else code

    def _load(self, number: int, values: Expr, first: int) -> Stmt:
        frame, spec = self.frame, self.spec
        (height, width), each = spec.image[2:], spec.gap[1]
        image, y, x, inside, _ = self._pixel(number)
        row, column = var("row"), var("column")
        code: list[Stmt] = [T.Bind(row, (image * (spec.planes * height) + y) * width), T.Bind(column, x)]
        for aside in range(each):
            at = column + aside
            loads = [
                put(values, get(frame.x, row + plane * (height * width) + at), integer(first + plane * each + aside))
                for plane in range(spec.planes)
            ]
            code.append(when(T.Cast("uint32", at) < T.IntImm("uint32", width), loads))
        return self._if_any(number, when(inside, code))
