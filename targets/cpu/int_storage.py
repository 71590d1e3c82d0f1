"""How integer maps lie in memory: bytes, 16-bit halves or 32-bit words, whichever is the narrowest that fits.

Channels come in blocks of sixteen; those of one block at one pixel are neighbours.  A map of at most four channels that
only convolutions read has blocks of four.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as T

from lhcc.ir.tir import Expr, Stmt, flat, get, integer, put
from lhcc.targets.cpu.plan import View

BLOCK, SMALL_BLOCK = 16, 4
ELEMENTS = {"bytes": "uint8", "halves": "int16", "words": "int32"}
PER_WORD = {"bytes": 4, "halves": 2, "words": 1}


@dataclass(frozen=True)
class Map:
    """An integer map (images, channels, height, width)."""

    images: int
    channels: int
    height: int
    width: int
    storage: str  # a key of ELEMENTS
    block: int = BLOCK

    @property
    def blocks(self) -> int:
        return -(-self.channels // self.block)

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def element(self) -> str:
        return ELEMENTS[self.storage]

    @property
    def words(self) -> int:
        """32-bit words of one block at one pixel."""
        return self.block // PER_WORD[self.storage]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images, self.blocks, self.height, self.width, self.words

    def see(self, buffer: Expr, name: str) -> tuple[Any, Stmt]:
        """A view of the whole map, element by element."""
        return flat(buffer, name, self.element)

    def load(self, view: Expr, position: Expr) -> Expr:
        """The channels of a block at one pixel as 32-bit integers; `position` counts blocks of channels at pixels."""
        return wide(get(view, position * integer(self.block), self.block), self.block)

    def save(self, view: Expr, position: Expr, value: Expr) -> Stmt:
        return put(view, T.Cast(f"{self.element}x{self.block}", value), position * integer(self.block), self.block)

    def view(self, words: bool = False) -> View:
        """Distances in elements, or in words that hold several channels."""
        each = self.words if words else self.block
        plane = self.pixels * each
        return View(each, 1, plane, self.width * each, each, self.blocks * plane)


def narrowest(low: int, high: int) -> str:
    """The narrowest integers that hold an interval."""
    for element in ("uint8", "int8", "int16"):
        limits = np.iinfo(element)
        if limits.min <= low and high <= limits.max:
            return element
    return "int32"


def wide(values: Expr, lanes: int) -> Expr:
    return T.Cast("int32" if lanes == 1 else f"int32x{lanes}", values)
