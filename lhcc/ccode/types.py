"""Element types as C has them: names, vector names, literals."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from lhcc.errors import TargetError

C_NAMES = {
    "float32": "float", "float64": "double", "bool": "uint8_t",
    "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t",
}  # fmt: skip


@dataclass(frozen=True)
class Type:
    """A number, or a vector of `lanes` numbers."""

    element: str
    lanes: int = 1

    @property
    def short(self) -> str:
        """f32, i32x8: the prefix of the helper functions, and the name of a vector."""
        letter = {"f": "f", "i": "i", "u": "u", "b": "u"}[self.element[0]]
        bits = re.sub(r"\D", "", self.element) or "8"
        return f"{letter}{bits}" + (f"x{self.lanes}" if self.lanes > 1 else "")

    @property
    def c(self) -> str:
        return self.short if self.lanes > 1 else C_NAMES[self.element]

    @property
    def size(self) -> int:
        return np.dtype(self.element).itemsize

    @property
    def mask(self) -> Type:
        """What comparing two vectors gives: all bits of a lane set, or none."""
        return Type(f"int{8 * self.size}", self.lanes)

    @property
    def unsigned(self) -> Type:
        return Type(f"uint{8 * self.size}", self.lanes)

    @property
    def scalar(self) -> Type:
        return Type(self.element)

    @property
    def is_float(self) -> bool:
        return self.element.startswith("float")


def parse(dtype: object) -> Type:
    """TVM's `float32x8`."""
    element, _, lanes = str(dtype).partition("x")
    if element not in C_NAMES:
        raise TargetError(f"numbers of type {element} cannot be written as C")
    return Type(element, int(lanes or 1))


def literal(value: float, kind: Type) -> str:
    """A constant that C reads back as the same number."""
    if not kind.is_float:
        whole = int(value)
        if kind.element == "int32" and whole == -(1 << 31):
            return "(-2147483647 - 1)"
        if kind.element == "int64":
            return f"INT64_C({whole})" if whole > -(1 << 63) else "INT64_MIN"
        return f"{whole}u" if kind.element.startswith("u") else str(whole)
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    single = kind.element == "float32"
    text = str(np.float32(value) if single else np.float64(value))
    if not any(mark in text for mark in ".en"):
        text += ".0"
    return text + ("f" if single else "")
