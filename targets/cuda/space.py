"""A layer on a GPU, and what may be chosen about it: the pixels, warps and stages that the hardware can hold."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from lhcc.encodings import tiles
from lhcc.encodings.tiles import Tiles
from lhcc.ir.layer import ConvLayer
from lhcc.targets.base import Options
from lhcc.targets.cuda import cost
from lhcc.targets.cuda.arch import BLOCK, INTEGERS, Machine
from lhcc.targets.cuda.choice import Choice
from lhcc.targets.cuda.plan import phases, shared_bytes
from lhcc.targets.cuda.spec import ConvSpec, Integers

LANES = (16, 32)
WARPS = ((8, 1), (4, 2), (2, 4), (1, 8), (4, 1), (2, 2), (1, 4), (2, 1), (1, 2), (1, 1))  # over pixels, output blocks
SPLITS = (1, 2, 4, 8)
STAGES = ((4, 1), (3, 2), (2, 4), (3, 1), (2, 2), (2, 1))  # in flight, input blocks of each
MOST_COPIES = 12  # of a thread per input block: each of them is a register
MOST_REGISTERS = 215


class Space:
    """One layer on one GPU."""

    def __init__(self, layer: ConvLayer, machine: Machine, options: Options, integers: Integers | None = None) -> None:
        self.layer, self.machine, self.options, self.integers = layer, machine, options, integers
        self.arithmetic = INTEGERS[integers.source] if integers else machine.arithmetic
        assert layer.weight is not None and layer.bias is not None
        self.weight, self.bias = tiles.ungroup(layer.weight, layer.groups), layer.bias
        (images, channels, height, width), (_, outputs, rows, columns) = layer.image, layer.result
        if layer.kernel == layer.strides == (1, 1) and not any(layer.padding) and (rows, columns) == (height, width):
            height, width, rows, columns = 1, height * width, 1, rows * columns  # an image is one row of pixels
        self.image = (images, -(-channels // BLOCK), height, width)
        self.result = (images, -(-outputs // BLOCK), rows, columns)
        self.phases, self.reach, self.origin = phases(
            layer.kernel, layer.dilation, layer.strides, (layer.padding[0], layer.padding[1]), layer.transposed
        )
        self.stride = (1, 1) if layer.transposed else layer.strides
        self.step = layer.strides if layer.transposed else (1, 1)
        self._encoded: dict[tuple[int, bool], Tiles] = {}

    def encoded(self, lanes: int, dense: bool) -> Tiles:
        key = (lanes, dense)
        if key not in self._encoded:
            self._encoded[key] = tiles.from_dense(self.weight, lanes, BLOCK, keep_all=dense)
        return self._encoded[key]

    def out_blocks(self, lanes: int) -> int:
        """Blocks of `lanes` outputs, those included that only complete the last block of the map."""
        return self.result[1] * BLOCK // lanes

    # ---- what may be chosen
    @cached_property
    def pixels(self) -> tuple[int, int, int]:
        """Images, rows and columns of a phase."""
        return self.result[0], -(-self.result[2] // self.step[0]), -(-self.result[3] // self.step[1])

    def tiles(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Tiles of at most `size` output pixels: whole images, whole rows, or parts of rows."""
        images, rows, columns = self.pixels
        found = set()
        for width in {
            min(columns, size),
            min(columns, 16, size),
            min(columns, 8, size),
            _even(columns, min(columns, size)),
        }:
            height = _even(rows, min(rows, max(1, size // width)))
            whole = height == rows and width == columns
            found.add((min(images, size // (height * width)) if whole else 1, height, width))
        yield from sorted(found)

    def patch(self, tile: tuple[int, int, int]) -> tuple[int, int]:
        return tuple((tile[axis + 1] - 1) * self.stride[axis] + self.reach[axis] for axis in range(2))  # type: ignore[return-value]

    def choices(self) -> Iterator[Choice]:
        dense = self.options.encoding == "dense"
        outputs, blocks = self.layer.result[1], self.image[1]
        for lanes in LANES:
            if lanes > max(16, -(-outputs // 16) * 16):
                continue
            for across, columns in WARPS:
                if columns > -(-outputs // lanes):
                    continue
                for pixels in (1, 2, 4) if lanes == 32 else (1, 2, 4, 8):
                    if 16 * pixels * across > 4 * int(np.prod(self.pixels)) and pixels * across > 1:
                        continue
                    for splits in SPLITS:
                        if across * columns * splits > 8:
                            continue
                        for tile in self.tiles(16 * pixels * across):
                            for stages, stage_blocks in STAGES:
                                if stage_blocks > blocks:
                                    continue
                                yield Choice(dense, lanes, pixels, across, columns, splits, *tile, stage_blocks, stages)

    def spec(self, choice: Choice, groups: int) -> ConvSpec:
        tile = (choice.images, choice.height, choice.width)
        return ConvSpec(
            self.machine.arch.number, self.machine.precision, choice.lanes, choice.pixels,
            (choice.across, choice.columns, choice.splits), tile, self.patch(tile), self.image, self.result,
            self.stride, self.step, self.origin, groups, choice.stage_blocks, choice.stages,
            self.layer.activation, self.layer.residual, self.integers,
        )  # fmt: skip

    def fits(self, choice: Choice) -> bool:
        """Whether the hardware can hold it."""
        spec = self.spec(choice, 1)
        chunks = BLOCK * self.arithmetic.size // 16
        copies = -(-spec.patch_pixels * chunks // spec.threads)
        return (
            copies <= MOST_COPIES
            and self.registers(choice) <= MOST_REGISTERS
            and shared_bytes(spec, self.arithmetic.size) <= self.machine.arch.shared
        )

    def registers(self, choice: Choice) -> int:
        spec = self.spec(choice, 1)
        copies = -(-spec.patch_pixels * BLOCK * self.arithmetic.size // 16 // spec.threads)
        return cost.registers(choice.pixels, choice.lanes, copies, self.arithmetic)


def _even(extent: int, most: int) -> int:
    """The part length, at most `most`, that divides `extent` most evenly."""
    return -(-extent // -(-extent // most))
