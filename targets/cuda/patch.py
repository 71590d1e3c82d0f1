"""Where the pixels under a tile of outputs lie in shared memory: eight that are read at once share no bank.

Shared memory has 128 bytes of banks, and a matrix of eight pixels takes 16 bytes of each.  From one output of the tile
to the next, row after row and image after image, the address moves by an odd number of 16 bytes: pixels are padded,
rows and images as well where eight outputs run over their ends, and of a strided convolution the pixels that
neighbouring outputs read at the same tap lie together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lhcc.targets.cuda.spec import ConvSpec

PAD = 16  # bytes after a pixel of 32 channels
BANKS, AT_ONCE = 128, 8


@dataclass(frozen=True)
class Patch:
    """Bytes from one pixel, row and image to the next."""

    spec: ConvSpec

    @property
    def pixel(self) -> int:
        """Pixels of a planar map stay together: windows run over several of them."""
        return self.spec.pixel_channels * self.spec.arithmetic.size + (0 if self.spec.planes else PAD)

    @property
    def row(self) -> int:
        """Outputs one below the other are as far apart as if they were in one row, but for whole turns."""
        _, height, width = self.spec.tile
        natural = self.spec.slots[1] * self.pixel
        return natural if height == 1 or width % AT_ONCE == 0 else _further(natural, width * self.pixel)

    @property
    def image(self) -> int:
        images, height, width = self.spec.tile
        natural = self.spec.slots[0] * self.row
        whole = images == 1 or height * width % AT_ONCE == 0
        return natural if whole else _further(natural, height * width * self.pixel)

    @property
    def size(self) -> int:
        """Of one input block."""
        return self.spec.tile[0] * self.image

    @property
    def even(self) -> bool:
        """Whether every pixel is as far from the one before it."""
        return (self.row, self.image) == (self.spec.slots[1] * self.pixel, self.spec.slots[0] * self.row)

    def place(self, row: int, column: int) -> int:
        """Of a pixel under the first image: where tap 0 reads for output 0 is (0, 0)."""
        return self._slot(row, 0) * self.row + self._slot(column, 1) * self.pixel

    def staged(self, slot: Any, axis: int) -> Any:
        """The row or column of the patch that lies in a slot: the inverse, of numbers and expressions."""
        walk, each = self.spec.walk[axis], self.spec.slots[axis] // self.spec.walk[axis]
        return slot if walk == 1 else slot % each * walk + slot // each

    def _slot(self, at: int, axis: int) -> int:
        walk, slots = self.spec.walk[axis], self.spec.slots[axis]
        return at % walk * (slots // walk) + at // walk


def _further(natural: int, wanted: int) -> int:
    """The least number from `natural` on that is `wanted` but for whole turns."""
    return natural + (wanted - natural) % BANKS
