"""What follows an integer sum before it is stored: clips, requantisations and additions, exactly as the program says.

Steps are text, so that they can be part of a kernel's specification: "clip 0 255", "clip 0 -" (no upper bound),
"shift 5" (halves round up), "shifts 2 0" (each channel's own shift from table 2, to the left where it is negative;
1: in 64 bits), "high 2 0 34" (times the multiplier from table 2, shifted to the right by 34, for which the upper half
of the product is enough; before that shifted to the left by 0, so that the shift is at least 33), "requant 2 1"
(multiplier from table 2 and shift from the next one; 1: in 64 bits), "scale 2" (the same with multiplier / 2^shift as
float32 in table 2, computed in float64 where that is exact: processors have no fast product of 64-bit integers),
"add 0 3" (the sum << 0 plus the other operand << 3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import tirx as T

from lhcc.encodings.adders import signed_digits
from lhcc.integer import Clip, Requantise, TensorType
from lhcc.integer.core import Ints
from lhcc.ir.tir import Expr, get, integer
from lhcc.ir.vector import const, typed

INT32 = (-(1 << 31), (1 << 31) - 1)
FLOAT_EXACT = 1 << 53  # below this every integer is a float64
WIDER = 8  # lanes of vectors of more than 128 bits
DEEP, DEEPEST = 33, 62  # shifts of a product whose lower 32 bits decide nothing, the bit that rounds being above them


def fits(low: Any, high: Any) -> bool:
    return int(np.min(low)) >= INT32[0] and int(np.max(high)) <= INT32[1]


def clip_step(low: int | None, high: int | None) -> str:
    return f"clip {'-' if low is None else low} {'-' if high is None else high}"


@dataclass(frozen=True)
class Upper:
    """A requantisation of which the upper 32 bits of 64-bit products tell all: (x << left) * multiplier >> right."""

    multiplier: Ints
    left: int
    right: int

    @classmethod
    def of(cls, multiplier: Ints, shift: Ints, x: TensorType) -> Upper | None:
        """Multipliers grow until all channels shift alike, and by what is then left over, up to `DEEP`."""
        bits = np.array([int(m).bit_length() for m in multiplier])
        least, most = int(shift.max()), int((shift + 31 - bits).min())
        common = max(least, min(most, DEEP))
        left = max(0, DEEP - common)
        low, high = (int(v) << left for v in (x.low.min(), x.high.max()))
        if least > most or common + left > DEEPEST or not fits(low, high):
            return None
        return cls(multiplier << (common - shift), left, common + left)


class StepWriter:
    """Turns instructions into steps, and gathers the tables that they need."""

    def __init__(self, channels: int, block: int, floats: bool = True) -> None:
        """`floats`: whether float64 is faster than a product of 64-bit integers."""
        self.floats = floats
        self.channels, self.padded = channels, -(-channels // block) * block
        self.steps: list[str] = []
        self.tables: list[np.ndarray] = []

    def write(self, step: Clip | Requantise, x: TensorType) -> None:
        """One more step, for `x`.  Bounds that lie outside of its interval are not written."""
        if isinstance(step, Requantise):
            self._requantise(step, x)
            x = replace(step, low=None, high=None).infer(x)
        low = step.low if step.low is not None and step.low > x.low.min() else None
        high = step.high if step.high is not None and step.high < x.high.max() else None
        if low is not None or high is not None:
            self.steps.append(clip_step(low, high))

    def _requantise(self, step: Requantise, x: TensorType) -> None:
        shift, multiplier = (np.broadcast_to(np.asarray(v), (self.channels,)) for v in (step.shift, step.multiplier))
        if (shift == shift[0]).all() and (multiplier == 1).all() and shift[0] >= 0:
            if shift[0]:
                self.steps.append(f"shift {int(shift[0])}")
        else:
            gain = multiplier.astype(object) << np.maximum(-shift, 0).astype(object)
            half = np.array([1 << int(s) - 1 if s > 0 else 0 for s in shift], object)
            low, high = x.low.astype(object) * gain, x.high.astype(object) * gain + half
            wide = not fits(min(low), max(high)) or int(shift.max()) > 31
            pad = (0, self.padded - self.channels)
            factor = np.ldexp(multiplier.astype(np.float32), -shift)
            exact = np.ldexp(factor.astype(np.float64), shift) == multiplier
            upper = Upper.of(multiplier, shift, x)
            if (multiplier == 1).all():
                self.steps.append(f"shifts {len(self.tables)} {int(wide)}")
                self.tables.append(np.pad(shift, pad))
            elif upper is not None:
                self.steps.append(f"high {len(self.tables)} {upper.left} {upper.right}")
                self.tables.append(np.pad(upper.multiplier, pad))
            elif self.floats and wide and exact.all() and max(-min(low), max(high)) < FLOAT_EXACT:
                self.steps.append(f"scale {len(self.tables)}")
                self.tables.append(np.pad(factor, pad).view(np.int32))
            else:
                self.steps.append(f"requant {len(self.tables)} {int(wide)}")
                self.tables += [np.pad(multiplier, pad, constant_values=1), np.pad(shift, pad)]

    def table(self, length: int = 0) -> np.ndarray:
        """All tables, each of them `length` long where they are shorter."""
        grown = [np.pad(table, (0, max(0, length - len(table)))) for table in self.tables]
        return np.concatenate(grown).astype(np.int32) if grown else np.zeros(1, np.int32)


def apply(
    value: Expr, steps: tuple[str, ...], lanes: int, table: Expr, channel: Expr, padded: Expr, other: Expr
) -> Expr:
    """`value` after all steps.  `channel` is that of lane 0, `padded` a table's length, `other` what is added."""
    for step in steps:
        name, *words = step.split()
        if name == "clip":
            low, high = words
            value = value if low == "-" else T.Max(value, const(int(low), lanes, "int32"))
            value = value if high == "-" else T.Min(value, const(int(high), lanes, "int32"))
        elif name == "shift":
            amount = int(words[0])
            value = (value + const(1 << (amount - 1), lanes, "int32")) >> const(amount, lanes, "int32")
        elif name == "add":
            left, right = map(int, words)
            value = (value << const(left, lanes, "int32")) + (other << const(right, lanes, "int32"))
        elif name == "high":
            number, left, right = map(int, words)
            factor = get(table, integer(number) * padded + channel, lanes)
            value = value << const(left, lanes, "int32") if left else value
            upper = _upper_half(value, factor, lanes)
            value = (upper + const(1 << (right - DEEP), lanes, "int32")) >> const(right - DEEP + 1, lanes, "int32")
        elif name == "scale":
            factor = T.reinterpret(
                typed("float32", lanes), get(table, integer(int(words[0])) * padded + channel, lanes)
            )
            real = T.Cast(typed("float64", lanes), value) * T.Cast(typed("float64", lanes), factor)
            value = T.Cast(typed("int32", lanes), T.floor(real + const(0.5, lanes, "float64")))
        else:
            number, in64 = map(int, words)
            dtype = "int64" if in64 else "int32"
            kind = typed(dtype, lanes)
            value = T.Cast(kind, value)
            if name == "requant":
                value = value * T.Cast(kind, get(table, integer(number) * padded + channel, lanes))
                number += 1
            value = _shifted(value, T.Cast(kind, get(table, integer(number) * padded + channel, lanes)), lanes, dtype)
    return value


def _upper_half(value: Expr, factor: Expr, lanes: int) -> Expr:
    """The upper 32 bits of the 64-bit products; `factor` is not negative.  Vectors wider than 128 bits have an
    instruction that multiplies the even lanes, where they are; to widen all lanes, in order, moves each between the
    halves of the vector, and back."""
    if lanes < WIDER:
        wide = typed("int64", lanes)
        product = T.Cast(wide, value) * T.Cast(wide, factor)
        return T.Cast(typed("int32", lanes), product >> const(32, lanes, "int64"))
    pairs = lanes // 2
    half, positive = const(32, pairs, "int64"), const(INT32[1], pairs, "int64")
    value, factor = (T.reinterpret(typed("int64", pairs), operand) for operand in (value, factor))
    # masked, not shifted to and fro: LLVM then sees that 32 bits hold the factor, wherever it is kept for many pixels
    products = [((value << half) >> half) * (factor & positive), (value >> half) * ((factor >> half) & positive)]
    even, odd = (T.reinterpret(typed("int32", lanes), product) for product in products)
    return T.Shuffle([even, odd], [integer(place) for k in range(1, lanes, 2) for place in (k, lanes + k)])


def _shifted(wide: Expr, shift: Expr, lanes: int, dtype: str) -> Expr:
    """Every lane shifted by its own amount, halves rounded up, as 32 bits."""
    zero, one = const(0, lanes, dtype), const(1, lanes, dtype)
    right, left = T.Max(shift, zero), T.Max(zero - shift, zero)
    half = (one << right) >> one  # 0 where nothing is shifted out
    shifted = ((wide << left) + half) >> right
    return T.Cast(typed("int32", lanes), shifted)


def times(value: Expr, factor: int, lanes: int, dtype: str = "int32") -> Expr:
    """`value * factor` without a product."""
    total = const(0, lanes, dtype)
    for shift, negative in signed_digits(factor):
        term = value << const(shift, lanes, dtype) if shift else value
        total = total - term if negative else total + term
    return total


def narrow(values: Ints) -> np.ndarray:
    return np.ascontiguousarray(values).astype(np.int32)
