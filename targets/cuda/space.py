"""A layer on a GPU, and what may be chosen about it: the pixels, warps and stages that the hardware can hold."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings import tiles
from lhcc.encodings.tiles import Tiles
from lhcc.ir.layer import ConvLayer
from lhcc.targets.base import Options
from lhcc.targets.cuda import cost
from lhcc.targets.cuda.arch import BLOCK, INTEGERS, Machine
from lhcc.targets.cuda.choice import Choice
from lhcc.targets.cuda.load import Load, count
from lhcc.targets.cuda.plan import phases, shared_bytes
from lhcc.targets.cuda.planar import BESIDE, regrouped
from lhcc.targets.cuda.spec import ConvSpec, Integers

LANES = (16, 32)
# over pixels, output blocks
WARPS = ((8, 2), (4, 4), (2, 8), (8, 1), (4, 2), (2, 4), (1, 8), (4, 1), (2, 2), (1, 4), (2, 1), (1, 2), (1, 1))
SPLITS = (1, 2, 4, 8)
# stages in flight, weight tiles of a warp in each, places for input blocks
STAGES = (
    (2, 4, 2), (2, 4, 4), (2, 4, 8), (3, 4, 4), (3, 4, 8), (2, 8, 8), (3, 8, 16), (3, 2, 4), (3, 2, 8), (4, 2, 8),
    (2, 2, 2),
)  # fmt: skip
MORE_STAGES = 8  # that a schedule may need beyond those that the estimate counts
COPIERS = (0, 4)
MOST_COPIES, MOST_OF_COPIERS = 12, 32  # of a thread per input block: each of them is a register


class Space:
    """One layer on one GPU."""

    def __init__(self, layer: ConvLayer, machine: Machine, options: Options, integers: Integers | None = None) -> None:
        self.layer, self.machine, self.options, self.integers = layer, machine, options, integers
        self.arithmetic = INTEGERS[integers.source] if integers else machine.arithmetic
        assert layer.weight is not None and layer.bias is not None
        self.weight, self.bias = tiles.ungroup(layer.weight, layer.groups), layer.bias
        self.planes = layer.image[1] if layer.source == "planar" else 0
        (images, channels, height, width), (_, outputs, rows, columns) = layer.image, layer.result
        if layer.kernel == layer.strides == (1, 1) and not any(layer.padding) and (rows, columns) == (height, width):
            height, width, rows, columns = 1, height * width, 1, rows * columns  # an image is one row of pixels
        self.image = (images, -(-channels // BLOCK), height, width)
        self.result = (images, -(-outputs // BLOCK), rows, columns)
        kernel, dilation, padding = layer.kernel, layer.dilation, (layer.padding[0], layer.padding[1])
        if self.planes:
            self.weight = regrouped(self.weight, layer.strides[1])
            kernel, dilation, padding = (kernel[0], self.weight.shape[3]), (dilation[0], BESIDE), (padding[0], 0)
        self.phases, self.reach, self.origin = phases(kernel, dilation, layer.strides, padding, layer.transposed)
        if self.planes:
            self.reach, self.origin = (self.reach[0], self.reach[1] + BESIDE - 1), (self.origin[0], -layer.padding[1])
        self.stride = (1, 1) if layer.transposed else layer.strides
        self.step = layer.strides if layer.transposed else (1, 1)
        # a window of one pixel reads one of so many; a pixel of a planar map has as many columns
        down, across = (stride if reach == 1 else 1 for stride, reach in zip(self.stride, self.reach, strict=True))
        self.gap = (down, self.stride[1] if self.planes else across)
        self._encoded: dict[tuple[int, bool], Tiles] = {}
        self._counts: dict[tuple[int, bool], NDArray[np.int64]] = {}
        self._loads: dict[tuple[int, bool, int, int, int, int], Load] = {}
        self._specs: dict[Choice, ConvSpec] = {}

    def encoded(self, lanes: int, dense: bool) -> Tiles:
        key = (lanes, dense)
        if key not in self._encoded:
            self._encoded[key] = tiles.from_dense(self.weight, lanes, BLOCK, keep_all=dense)
        return self._encoded[key]

    def out_blocks(self, lanes: int) -> int:
        """Blocks of `lanes` outputs, those included that only complete the last block of the map."""
        return self.result[1] * BLOCK // lanes

    def counts(self, lanes: int, dense: bool) -> NDArray[np.int64]:
        """Kept tiles per output block of every phase, heaviest first, and input block."""
        key = (lanes, dense)
        if key not in self._counts:
            encoded = self.encoded(lanes, dense)
            tables = []
            for phase in self.phases:
                table = np.zeros((self.out_blocks(lanes), self.image[1]), np.int64)
                tap, block, out = encoded.index[np.isin(encoded.index[:, 0], [t for t, *_ in phase.taps])].T
                np.add.at(table, (out, block), 1)
                tables.append(table[np.argsort(-table.sum(axis=1), kind="stable")])
            self._counts[key] = np.stack(tables)
        return self._counts[key]

    def load(self, choice: Choice) -> Load:
        """What the groups of a choice have to do."""
        key = (choice.lanes, choice.dense, choice.columns, choice.splits, choice.places, choice.depth)
        if key not in self._loads:
            self._loads[key] = count(self.counts(*key[:2]), *key[2:])
        return self._loads[key]

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
        steps = [stride // gap for stride, gap in zip(self.stride, self.gap, strict=True)]
        return (tile[1] - 1) * steps[0] + self.reach[0], (tile[2] - 1) * steps[1] + self.reach[1]

    def choices(self) -> Iterator[Choice]:
        dense = self.options.encoding == "dense"
        outputs, blocks = self.layer.result[1], self.image[1]
        staged = sorted({(s, d, min(p, blocks)) for s, d, p in STAGES})
        for lanes in LANES:
            if lanes > max(16, -(-outputs // 16) * 16):
                continue
            for across, columns in WARPS:
                if columns > -(-outputs // lanes):
                    continue
                for pixels in (1, 2, 4, 7) if lanes == 32 else (1, 2, 4, 7, 8):  # 7: rows of 14, 28 and 56
                    if 16 * pixels * across > 4 * int(np.prod(self.pixels)) and pixels * across > 1:
                        continue
                    for splits in SPLITS:
                        if across * columns * splits > 16:
                            continue
                        for tile in self.tiles(16 * pixels * across):
                            for stages, depth, places in staged:
                                for copiers in COPIERS:
                                    if not copiers or (stages > 2 and across * columns * splits >= 4):
                                        warps = across, columns, splits
                                        yield Choice(
                                            dense, lanes, pixels, *warps, *tile, places, stages, depth, copiers
                                        )  # fmt: skip

    def spec(self, choice: Choice) -> ConvSpec:
        if choice not in self._specs:
            self._specs[choice] = self._spec(choice)
        return self._specs[choice]

    def _spec(self, choice: Choice) -> ConvSpec:
        load = self.load(choice)
        stages = load.most_stages + MORE_STAGES
        tile = (choice.images, choice.height, choice.width)
        return ConvSpec(
            self.machine.arch.number, self.machine.precision, choice.lanes, choice.pixels,
            (choice.across, choice.columns, choice.splits), choice.copiers, tile, self.patch(tile),
            self.gap, self.image, self.result,
            self.stride, self.step, self.origin, load.groups, choice.places, choice.stages, choice.depth, stages,
            self.layer.activation, self.layer.residual, self.integers, self.planes,
        )  # fmt: skip

    def fits(self, choice: Choice) -> bool:
        """Whether the hardware can hold it."""
        spec = self.spec(choice)
        return cost.registers(spec) <= cost.most(spec.threads) and shared_bytes(spec) <= self.machine.arch.shared

    def usual(self, choice: Choice) -> bool:
        """Whether no thread has much to copy, nor too little room: worth while where it was measured, or alone fits."""
        spec = self.spec(choice)
        return cost.sure(spec) and spec.copies <= (MOST_OF_COPIERS if choice.copiers else MOST_COPIES)


def _even(extent: int, most: int) -> int:
    """The part length, at most `most`, that divides `extent` most evenly."""
    return -(-extent // -(-extent // most))
