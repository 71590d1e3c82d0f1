"""What the generated code of a layer depends on, as data: layers of equal specifications share one kernel."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from lhcc.targets.cuda.arch import BLOCK, INTEGERS, Arch, Arithmetic
from lhcc.targets.cuda.planar import PIXEL
from lhcc.targets.cuda.schedule import arrivals_of

MANY_BLOCKS = 1000  # thread blocks: several rounds of them on every card


@dataclass(frozen=True)
class Integers:
    """What a kernel of an integer program reads, adds and writes, and the steps (`lhcc.ir.int_steps`) to its result."""

    source: str  # elements of maps
    target: str
    steps: tuple[str, ...] = ()
    added: str = ""
    first: tuple[str, ...] = ()  # what becomes of an added integer before


@dataclass(frozen=True)
class ConvSpec:
    """Everything that the generated code of a convolution depends on; equal specs share one kernel."""

    arch: int
    precision: str
    lanes: int  # output channels per warp
    pixels: int  # per warp, in 16s
    warps: tuple[int, int, int]  # over pixels, output blocks and weight tiles
    copiers: int  # warps that only copy; 0: all warps do both
    tile: tuple[int, int, int]  # images, rows, columns of output pixels per thread block
    patch: tuple[int, int]  # rows and columns of input under them that are staged
    gap: tuple[int, int]  # input pixels from one of these to the next: more than 1 where a stride leaves out the others
    image: tuple[int, int, int, int]  # input: images, blocks of channels, rows, columns
    result: tuple[int, int, int, int]  # output, likewise
    stride: tuple[int, int]  # input pixels from one output of a tile to the next, a multiple of the gap
    step: tuple[int, int]  # output pixels between them: more than 1 for transposed convolutions
    origin: tuple[int, int]  # input position under output position 0 of the tile at 0
    groups: int
    places: int  # for input blocks in shared memory
    stages: int  # whose copies are under way, the one in work included
    depth: int  # weight tiles of a warp in a stage, at most
    most_stages: int
    activation: str
    residual: str
    integers: Integers | None = None
    planes: int = 0  # of the planar map that is read: see planar.py; 0: the map lies in blocks of channels
    pooled: int = 0  # of windows of so many rows and columns, two apart, the largest output is stored; 3: from -1 on

    @property
    def merged(self) -> int:
        """Outputs along an axis that become one."""
        return 2 if self.pooled else 1

    @property
    def arithmetic(self) -> Arithmetic:
        return INTEGERS[self.integers.source] if self.integers else Arch(self.arch).arithmetic(self.precision)

    @property
    def target_element(self) -> str:
        return self.integers.target if self.integers else self.arithmetic.element

    @property
    def residual_element(self) -> str:
        return (self.integers.added if self.integers else "") or self.arithmetic.element

    @property
    def multipliers(self) -> int:
        """Threads that multiply."""
        return 32 * self.warps[0] * self.warps[1] * self.warps[2]

    @property
    def threads(self) -> int:
        return self.multipliers + 32 * self.copiers

    @property
    def copying(self) -> int:
        """Threads that copy."""
        return 32 * self.copiers or self.threads

    @property
    def arrivals(self) -> int:
        return arrivals_of(self.places)

    @property
    def copies(self) -> int:
        """Copies of 16 bytes that a thread begins for an input block."""
        return -(-self.patch_pixels * self.pixel_channels * self.arithmetic.size // (16 * self.copying))

    @property
    def overlap(self) -> int:
        """Rows and columns that neighbouring tiles share, and by which the first ones begin outside the map."""
        return max(0, self.pooled - 2)

    @property
    def tiles(self) -> tuple[int, int, int]:
        """Tiles along images, rows and columns."""
        (images, *extents), (count, _, *outputs) = self.tile, self.result
        if self.overlap:  # of windows, whose first rows are two apart
            down, across = (_ceil(_ceil(n, 2), extent // 2) for n, extent in zip(outputs, extents, strict=True))
        else:
            apart = zip(outputs, self.step, extents, strict=True)
            down, across = (_ceil(_ceil(n, step), extent) for n, step, extent in apart)
        return _ceil(count, images), down, across

    @property
    def tile_pixels(self) -> int:
        return math.prod(self.tile)

    @property
    def tile_count(self) -> int:
        return math.prod(self.tiles)

    @property
    def thread_blocks(self) -> int:
        return self.tile_count * self.groups

    @property
    def pixels_first(self) -> bool:
        """Whether thread blocks run through all groups at a tile of pixels, which they then read from the L2 cache.

        Where few rounds of thread blocks do the whole layer, groups come first, those with most work before others.
        """
        return self.thread_blocks > MANY_BLOCKS

    @property
    def pixel_channels(self) -> int:
        """What lies together in a map: a block of channels, or the part of it that one pixel of a planar map makes."""
        return PIXEL if self.planes else BLOCK

    @property
    def walk(self) -> tuple[int, int]:
        """Staged pixels from one output of a tile to the next."""
        return self.stride[0] // self.gap[0], self.stride[1] // self.gap[1]

    @property
    def slots(self) -> tuple[int, int]:
        """Rows and columns of the patch, completed to as many for every output."""
        down, across = (_ceil(extent, walk) * walk for extent, walk in zip(self.patch, self.walk, strict=True))
        return down, across

    @property
    def patch_pixels(self) -> int:
        return self.tile[0] * self.slots[0] * self.slots[1]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ConvSpec:
        fields: dict[str, Any] = json.loads(text)
        return cls(**{name: as_field(value) for name, value in fields.items()})


@dataclass(frozen=True)
class WindowSpec:
    """The same of a depthwise convolution or a maximum pooling."""

    element: str
    combine: str  # "multiply" by weights and add, or "max"
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    image: tuple[int, int, int, int]  # images, blocks, rows, columns
    result: tuple[int, int]
    activation: str
    residual: str
    integers: Integers | None = None

    @property
    def sum(self) -> str:
        return "int32" if self.integers else "float32"

    @property
    def target_element(self) -> str:
        return self.integers.target if self.integers else self.element

    @property
    def residual_element(self) -> str:
        return (self.integers.added if self.integers else "") or self.element

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WindowSpec:
        fields: dict[str, Any] = json.loads(text)
        return cls(**{name: as_field(value) for name, value in fields.items()})


def as_field(value: Any) -> Any:
    """A field of a specification, as it was before it was stored."""
    if isinstance(value, dict):
        return Integers(**{name: as_field(part) for name, part in value.items()})
    return tuple(value) if isinstance(value, list) else value


def _ceil(number: int, by: int) -> int:
    return -(-number // by)
