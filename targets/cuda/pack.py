"""Chooses how a layer is computed on a GPU, by estimated cycles or as a tuner measured, and packs it for its kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings import tiles
from lhcc.encodings.tiles import Tiles
from lhcc.errors import TargetError
from lhcc.ir.layer import ConvLayer, Packed
from lhcc.targets.base import Options
from lhcc.targets.cuda import cost, fragments
from lhcc.targets.cuda.arch import BLOCK, Machine
from lhcc.targets.cuda.choice import Choice
from lhcc.targets.cuda.plan import ConvSpec, grouped, phases, pixel_bytes, plan_conv, shared_bytes, works
from lhcc.targets.cuda.window import WindowSpec

LANES = (16, 32)
WARPS = ((8, 1), (4, 2), (2, 4), (1, 8), (4, 1), (2, 2), (1, 4), (2, 1), (1, 2), (1, 1))  # over pixels, output blocks
SPLITS = (1, 2, 4, 8)
STAGES = ((4, 1), (3, 2), (2, 4), (3, 1), (2, 2), (2, 1))  # in flight, input blocks of each
MOST_COPIES = 12  # of a thread per input block: each of them is a register
MOST_REGISTERS = 215
LARGEST = 1 << 31  # elements of a map: positions are 32-bit numbers


@dataclass(frozen=True)
class Candidate:
    """A choice and its estimate."""

    choice: Choice
    cycles: float

    def __str__(self) -> str:
        return f"{self.choice}: {self.cycles / 1e3:,.1f} kcycles"


@dataclass(frozen=True)
class Load:
    """The work of a group of output blocks, on average: weight tiles of all warps, of the busiest ones, and staging."""

    groups: int
    entries: float
    steps: float
    staged: float  # input blocks
    stages: float


def pack(layer: ConvLayer, machine: Machine, options: Options, choice: Choice | None = None) -> Packed:
    """`layer` encoded as `choice` says; without it as the estimate prefers."""
    if max(np.prod(layer.image), np.prod(layer.result)) >= LARGEST:
        raise TargetError(
            f"layer '{layer.name}' has a map of more than 2^31 elements", "compile it for a smaller batch"
        )
    if layer.depthwise and not layer.transposed:
        return _pack_window(layer, machine)
    problem = Problem(layer, machine, options)
    if choice is not None:
        return problem.pack(choice, [f"asked for {choice}"])
    best, *others = problem.ranked()
    return problem.pack(best.choice, [f"chosen {best}", *(f"instead of {other}" for other in others[:2])])


def _pack_window(layer: ConvLayer, machine: Machine) -> Packed:
    (images, channels, height, width), (_, _, rows, columns) = layer.image, layer.result
    blocks = -(-channels // BLOCK)
    weight = layer.weight
    spec = WindowSpec(
        machine.arithmetic.element, "max" if weight is None else "multiply", layer.kernel, layer.strides,
        layer.padding[:2], layer.dilation, (images, blocks, height, width), (rows, columns),
        layer.activation, layer.residual,
    )  # fmt: skip
    constants: tuple[NDArray[np.float32], ...] = ()
    if weight is not None:
        assert layer.bias is not None
        by_channel = np.pad(weight.reshape(channels, -1), ((0, -channels % BLOCK), (0, 0)))
        by_tap = by_channel.reshape(blocks, BLOCK, -1).transpose(0, 2, 1)
        constants = np.ascontiguousarray(by_tap, np.float32).reshape(-1), _padded(layer.bias, blocks * BLOCK)
    words = f"{min(4, columns)} neighbouring outputs of 8 channels a thread"
    return Packed(
        spec.to_json(),
        constants,
        "" if weight is None else "depthwise",
        layer.density,
        layer.macs,
        layer.macs,
        words,
        (),
    )


def _padded(bias: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.pad(bias, (0, size - len(bias))).astype(np.float32)


class Problem:
    """One layer on one GPU: its geometry, and what each choice about it costs."""

    def __init__(self, layer: ConvLayer, machine: Machine, options: Options) -> None:
        self.layer, self.machine, self.options = layer, machine, options
        self.arithmetic = machine.arithmetic
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
        self._loads: dict[tuple[int, bool, int, int, int], Load] = {}

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
    def _pixels(self) -> tuple[int, int, int]:
        """Images, rows and columns of a phase."""
        return self.result[0], -(-self.result[2] // self.step[0]), -(-self.result[3] // self.step[1])

    def tiles(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Tiles of at most `size` output pixels: whole images, whole rows, or parts of rows."""
        images, rows, columns = self._pixels
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
                    if 16 * pixels * across > 4 * int(np.prod(self._pixels)) and pixels * across > 1:
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
            self.layer.activation, self.layer.residual,
        )  # fmt: skip

    def fits(self, choice: Choice) -> bool:
        """Whether the hardware can hold it."""
        spec = self.spec(choice, 1)
        chunks = BLOCK * self.arithmetic.size // 16
        copies = -(-spec.patch_pixels * chunks // spec.threads)
        return (
            copies <= MOST_COPIES
            and self._registers(choice) <= MOST_REGISTERS
            and shared_bytes(spec, self.arithmetic.size) <= self.machine.arch.shared
        )

    def _registers(self, choice: Choice) -> int:
        spec = self.spec(choice, 1)
        copies = -(-spec.patch_pixels * BLOCK * self.arithmetic.size // 16 // spec.threads)
        return cost.registers(choice.pixels, choice.lanes, copies, self.arithmetic)

    # ---- what it costs
    def counts(self, lanes: int, dense: bool) -> NDArray[np.int64]:
        """Kept tiles per output block of every phase, heaviest first, and input block."""
        encoded = self.encoded(lanes, dense)
        tables = []
        for phase in self.phases:
            table = np.zeros((self.out_blocks(lanes), self.image[1]), np.int64)
            tap, block, out = encoded.index[np.isin(encoded.index[:, 0], [t for t, *_ in phase.taps])].T
            np.add.at(table, (out, block), 1)
            tables.append(table[np.argsort(-table.sum(axis=1), kind="stable")])
        return np.stack(tables)

    @cached_property
    def _counts(self) -> dict[tuple[int, bool], NDArray[np.int64]]:
        dense = self.options.encoding == "dense"
        return {(lanes, dense): self.counts(lanes, dense) for lanes in LANES}

    def _load(self, lanes: int, dense: bool, columns: int, splits: int, stage_blocks: int) -> Load:
        """What an average group of output blocks has to do."""
        key = (lanes, dense, columns, splits, stage_blocks)
        if key not in self._loads:
            counts = self._counts[lanes, dense]
            found, outs, blocks = counts.shape
            padded = np.pad(counts, ((0, 0), (0, -outs % columns), (0, -blocks % stage_blocks)))
            split = padded.reshape(found, -1, columns, padded.shape[2] // stage_blocks, stage_blocks)
            per_stage = (-(-split.sum(axis=4) // splits)).max(axis=2)  # phase, group, stage
            groups = per_stage.shape[0] * per_stage.shape[1]
            sums = counts.sum(), per_stage.sum(), split.any(axis=2).sum(), np.count_nonzero(per_stage)
            self._loads[key] = Load(groups, *(float(total) / groups for total in sums))
        return self._loads[key]

    def estimate(self, choice: Choice) -> float:
        load = self._load(choice.lanes, choice.dense, choice.columns, choice.splits, choice.stage_blocks)
        spec = self.spec(choice, load.groups)
        shape = cost.Shape(
            choice.pixels, choice.lanes, spec.threads, math.prod(spec.tiles) * load.groups,
            shared_bytes(spec, self.arithmetic.size),
            load.staged * spec.patch_pixels * BLOCK * self.arithmetic.size, load.entries * choice.across, load.steps,
            load.stages,
        )  # fmt: skip
        return cost.cycles(shape, self.machine.arch, self.arithmetic, self._registers(choice))

    def ranked(self) -> list[Candidate]:
        """Every choice, the estimate's favourite first."""
        candidates = [Candidate(choice, self.estimate(choice)) for choice in self.choices() if self.fits(choice)]
        if not candidates:
            raise TargetError(
                f"layer '{self.layer.name}' has a window that does not fit into shared memory", "use target cpu"
            )
        return sorted(candidates, key=lambda candidate: candidate.cycles)

    # ---- packing
    def pack(self, choice: Choice, why: Sequence[str]) -> Packed:
        layer, encoded = self.layer, self.encoded(choice.lanes, choice.dense)
        columns = self.patch((choice.images, choice.height, choice.width))[1]
        groups = grouped(works(encoded.index, self.out_blocks(choice.lanes), self.phases, columns), choice.columns)
        spec = self.spec(choice, len(groups))
        size = pixel_bytes(self.arithmetic.size)
        plan = plan_conv(groups, choice.stage_blocks, choice.columns, choice.splits, size, spec.patch_pixels)
        packed = fragments.pack(encoded.values[plan.order], self.arithmetic)
        weights = np.concatenate(
            [packed.reshape(-1), np.zeros(fragments.tile_words(choice.lanes, self.arithmetic), np.int32)]
        )
        bias = _padded(self.bias, self.result[1] * BLOCK)
        images, rows, columns_ = self._pixels
        return Packed(
            spec.to_json(),
            (weights, bias, plan.table),
            "dense" if encoded.density == 1 else "tiles",
            encoded.density,
            layer.macs,
            plan.entries * BLOCK * choice.lanes * images * rows * columns_,
            str(choice),
            tuple(why),
        )


def _even(extent: int, most: int) -> int:
    """The part length, at most `most`, that divides `extent` most evenly."""
    return -(-extent // -(-extent // most))
