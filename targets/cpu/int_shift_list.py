"""Shifts and additions from a list: short loops over a table of what is added and what is subtracted.

An output is the sum of the signed digits of its weights times its inputs.  The digits come highest first: what has
been summed is doubled, then the inputs whose weights have a digit there are added or subtracted.  Nothing is shared,
but the code is as short for a million additions as for ten.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.encodings.dyadic import digit_masks
from lhcc.integer import Conv, Dense, TensorType
from lhcc.ir.tir import Expr, Stmt, get, integer, loop, put, register, var
from lhcc.ir.vector import const, typed
from lhcc.targets.cpu.int_shift_layer import Finish, Place, Shape, ShiftLayer
from lhcc.targets.cpu.int_storage import BLOCK

SIGNS = 2  # of a digit: the inputs that are added come before those that are subtracted


@dataclass(frozen=True)
class Listed:
    """A layer as additions that share nothing.  `digits`: (outputs, places, SIGNS, inputs, rows, columns), the highest
    place first."""

    layer: ShiftLayer
    digits: NDArray[np.bool_]

    @classmethod
    def of(cls, step: Conv | Dense, x: TensorType) -> Listed:
        layer = ShiftLayer.of(step)
        added, subtracted = digit_masks(layer.weight)
        # no sum on the way is larger than that of all digits, times their inputs, whatever their signs
        largest = np.maximum(np.abs(x.low), np.abs(x.high)).astype(np.int64)
        reach = int(((added + subtracted).sum(axis=(2, 3)) @ largest).max(initial=0))
        layer.check(-reach, reach)
        places = int((added | subtracted).max(initial=1)).bit_length()
        both = np.stack([added, subtracted], axis=1)[:, None]
        return cls(layer, (both >> np.arange(places)[::-1].reshape(-1, 1, 1, 1, 1)) & 1 == 1)

    @property
    def count(self) -> int:
        return self.layer.before_sharing

    def __str__(self) -> str:
        return f"{self.count:,} additions from a list, nothing shared"

    def table(self, shape: Shape) -> NDArray[np.int32]:
        """Where the list of each output, place and sign begins and the last one ends; then the lists, of offsets."""
        found = np.argwhere(self.digits)
        lists = self.digits.reshape(-1, *self.layer.weight.shape[1:]).sum(axis=(1, 2, 3))
        missing = -len(self.digits) % BLOCK * (lists.size // max(1, len(self.digits)))
        ends = np.cumsum(np.pad(lists, (1, missing)))
        return np.concatenate([ends + len(ends), self.layer.offsets(found[:, 3:], shape)]).astype(np.int32)

    def code(self, place: Place, table: Expr, blocks: int, finish: Finish) -> list[Stmt]:
        lanes, places = place.lanes, self.digits.shape[1]
        total = register("total", typed("int32", lanes))
        block, lane, digit = var("block"), var("lane"), var("digit")
        number = (((block * integer(BLOCK) + lane) * integer(places)) + digit) * integer(SIGNS)

        def some(sign: int) -> Stmt:
            entry, begin = var(f"entry{sign}"), get(table, number + integer(sign))
            at = place.base + get(table, begin + entry)
            at = at if lanes == 1 else T.Ramp(at, self.layer.stride[1], lanes)
            value = T.BufferLoad(place.x, [at])
            changed = get(total) - value if sign else get(total) + value
            return loop(entry, get(table, number + integer(sign + 1)) - begin, [put(total, changed)])

        to = lane if lanes == 1 else T.Ramp(lane, BLOCK, lanes)
        output = [
            T.AllocBuffer(total),
            put(total, const(0, lanes, "int32")),
            loop(digit, places, [put(total, get(total) << const(1, lanes, "int32")), *map(some, range(SIGNS))]),
            T.BufferStore(place.sums, get(total), [to]),
        ]
        return [loop(block, blocks, [loop(lane, BLOCK, output), *finish(block)])]
