"""A convolution as tables: which input blocks a thread block stages, which weight tiles each warp multiplies.

A thread block computes a tile of output pixels for a *group* of output blocks, one per column of warps.  It stages the
patch of input pixels under its tile, input block after input block, in shared memory, with the weight tiles that read
them; every warp runs through the kept weight tiles of its output block, whatever their taps: a tap is a constant
distance in the patch.  Zero tiles cost nothing, not even the staging where no warp of the group needs an input block.
Groups are made of output blocks with similar work, and the ones with most work start first.  All that a thread block
has to know of its group is one record of numbers, which it copies to shared memory first.  Plain numpy: no TVM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cuda.arch import BLOCK, size_of
from lhcc.targets.cuda.patch import PAD, Patch
from lhcc.targets.cuda.schedule import Tile, schedule
from lhcc.targets.cuda.spec import ConvSpec

OUTS = 3  # where a record's output blocks begin, after the first output row and column and the number of stages
TILE_END = 4  # words after the weights of a tile: where it reads, in bytes from the first patch, and its input block
ARRIVAL = 8  # bytes
STAGES_STEP = 8  # records have room for a multiple of so many stages, so that layers share kernels


@dataclass(frozen=True)
class Phase:
    """Outputs that share their taps: all of them, or those of a transposed convolution at one offset of its stride."""

    row: int  # the first output
    column: int
    taps: tuple[tuple[int, int, int], ...]  # tap of the kernel, and where it reads in the patch: row, column


@dataclass(frozen=True)
class Work:
    """The kept tiles of one output block in one phase."""

    out: int
    phase: Phase
    tiles: NDArray[np.int64]  # (n, 3): input block, bytes into its patch, index into the encoded values

    @property
    def blocks(self) -> NDArray[np.int64]:
        return np.unique(self.tiles[:, 0])


def phases(
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    transposed: bool,
) -> tuple[list[Phase], tuple[int, int], tuple[int, int]]:
    """The phases of a convolution, the extent of their taps, and the input position of tap 0 at output 0.

    A transposed convolution is, for each offset of its stride, an ordinary one over the taps that meet the offset.
    """
    reads = [_axis_reads(*axis, transposed) for axis in zip(kernel, dilation, stride, padding, strict=True)]
    low = [min(offset for phase in axis for _, offset in phase) for axis in reads]
    high = [max(offset for phase in axis for _, offset in phase) for axis in reads]
    found = []
    for row, taps_y in enumerate(reads[0]):
        for column, taps_x in enumerate(reads[1]):
            pairs = [(ty, y, tx, x) for ty, y in taps_y for tx, x in taps_x if min(ty, tx) >= 0]
            taps = tuple((ty * kernel[1] + tx, y - low[0], x - low[1]) for ty, y, tx, x in pairs)
            found.append(Phase(row, column, taps))
    return found, (high[0] - low[0] + 1, high[1] - low[1] + 1), (low[0], low[1])


def _axis_reads(kernel: int, dilation: int, stride: int, pad: int, transposed: bool) -> list[list[tuple[int, int]]]:
    """Per phase along one axis: the taps, and the input position that each reads for the phase's first output."""
    if not transposed:
        return [[(tap, tap * dilation - pad) for tap in range(kernel)]]
    found: list[list[tuple[int, int]]] = []
    for offset in range(stride):
        # output o = i * stride - pad + tap * dilation, for the input i
        reached = [(tap, offset + pad - tap * dilation) for tap in range(kernel)]
        found.append([(tap, at // stride) for tap, at in reached if at % stride == 0])
    if not any(found):
        return [[(0, 0)]] * stride
    some = next(phase for phase in found if phase)[0][1]
    return [phase if phase else [(-1, some)] for phase in found]  # an offset that no tap meets is bias only


@dataclass(frozen=True)
class Record:
    """Where the numbers of a group lie in its record."""

    columns: int
    warps: int  # over output blocks and weight tiles
    arrivals: int
    most_stages: int

    @property
    def arrivals_at(self) -> int:
        """For every stage the input blocks that are copied, -1 where there are fewer, and where to."""
        return OUTS + self.columns

    @property
    def bounds_at(self) -> int:
        """The first weight tile of every warp in every stage, and the one after the stage's last."""
        return self.arrivals_at + 2 * self.most_stages * self.arrivals

    @property
    def size(self) -> int:
        """Whole 16 bytes."""
        return -(-(self.bounds_at + self.most_stages * (self.warps + 1)) // 4) * 4


def record_of(spec: ConvSpec) -> Record:
    _, columns, splits = spec.warps
    return Record(columns, columns * splits, spec.arrivals, spec.most_stages)


@dataclass(frozen=True)
class Plan:
    spec: ConvSpec  # with as many stages as there are
    records: NDArray[np.int32]  # by group
    order: NDArray[np.int64]  # tiles of the encoding in the order in which they are staged
    ends: NDArray[np.int32]  # what follows the weights of each: see TILE_END


def works(index: NDArray[np.int32], out_blocks: int, found: Sequence[Phase], patch: Patch) -> list[Work]:
    """The work of every output block in every phase; `index` is that of the tiles encoding."""
    result = []
    for phase in found:
        position = {tap: patch.place(row, column) for tap, row, column in phase.taps}
        at = np.array([position.get(tap, -1) for tap in range(int(index[:, 0].max(initial=0)) + 1)], np.int64)
        reads = at[index[:, 0]] if len(index) else np.zeros(0, np.int64)
        for out in range(out_blocks):
            mine = np.flatnonzero((index[:, 2] == out) & (reads >= 0))
            tiles = np.stack([index[mine, 1].astype(np.int64), reads[mine], mine], axis=1)
            result.append(Work(out, phase, tiles[np.lexsort((tiles[:, 1], tiles[:, 0]))]))
    return result


def grouped(work: Sequence[Work], columns: int) -> list[list[Work]]:
    """Groups of `columns` output blocks of one phase with similar work, heaviest first."""
    groups: list[list[Work]] = []
    by_phase: dict[tuple[int, int], list[Work]] = {}
    for item in work:
        by_phase.setdefault((item.phase.row, item.phase.column), []).append(item)
    for items in by_phase.values():
        ordered = sorted(items, key=lambda item: -len(item.tiles))
        groups += [ordered[start : start + columns] for start in range(0, len(ordered), columns)]
    return sorted(groups, key=lambda group: -max(len(item.tiles) for item in group))


def dealt(group: Sequence[Work], columns: int, splits: int) -> list[list[Tile]]:
    """The tiles of every warp: those of an output block are dealt to the warps that share it in turn."""
    warps: list[list[Tile]] = []
    for column in range(columns):
        tiles = group[column].tiles.tolist() if column < len(group) else []
        warps += [[(b, p, t) for b, p, t in tiles[split::splits]] for split in range(splits)]
    return warps


def plan_conv(groups: Sequence[Sequence[Work]], spec: ConvSpec) -> Plan:
    """The records of `groups`, and the order of the weight tiles."""
    _, columns, splits = spec.warps
    found = [
        schedule(dealt(group, columns, splits), spec.places, spec.arrivals, spec.depth, spec.stages) for group in groups
    ]
    spec = replace(spec, most_stages=-(-max(map(len, found)) // STAGES_STEP) * STAGES_STEP)
    record, patch = record_of(spec), Patch(spec)
    records = np.full((len(groups), record.size), -1, np.int32)
    order: list[int] = []
    ends: list[tuple[int, int]] = []
    for row, group, stages in zip(records, groups, found, strict=True):
        row[:OUTS] = group[0].phase.row, group[0].phase.column, len(stages)
        row[OUTS : OUTS + len(group)] = [item.out for item in group]
        for number, stage in enumerate(stages):
            at = record.arrivals_at + 2 * number * record.arrivals
            row[at : at + 2 * len(stage.arrivals)] = np.array(stage.arrivals, np.int32).reshape(-1)
            at = record.bounds_at + number * (record.warps + 1)
            row[at : at + record.warps + 1] = np.cumsum([len(order), *map(len, stage.tiles)])
            for place, (block, position, tile) in (item for tiles in stage.tiles for item in tiles):
                order.append(tile)
                ends.append((place * patch.size + position, block))
    numbers = np.array(ends, np.int32).reshape(-1, 2)
    return Plan(spec, records, np.array(order, np.int64), np.pad(numbers, ((0, 0), (0, TILE_END - 2))))


def weight_bytes(spec: ConvSpec) -> int:
    """Room for the weight tiles of a stage."""
    _, columns, splits = spec.warps
    return spec.depth * columns * splits * (BLOCK * spec.lanes * spec.arithmetic.size + 4 * TILE_END)


def arrival_bytes(spec: ConvSpec) -> int:
    """Room for what says that the weights of a stage have arrived: whole 16 bytes."""
    return -(-spec.stages * ARRIVAL // 16) * 16


def result_pixel(spec: ConvSpec) -> int:
    """From one output to the next in shared memory, where they are pooled: padded as input pixels are."""
    return spec.warps[1] * spec.lanes * size_of(spec.target_element) + PAD


def shared_bytes(spec: ConvSpec) -> int:
    """Shared memory of a thread block: its record, arrivals, then patches and weights or, after them, the sums that
    warps add, or the outputs that are pooled."""
    across, columns, splits = spec.warps
    sums = (splits - 1) * across * columns * 64 * spec.pixels * spec.lanes
    results = spec.tile_pixels * result_pixel(spec) if spec.overlap else 0
    told = 4 * record_of(spec).size + arrival_bytes(spec)
    return told + max(spec.places * Patch(spec).size + spec.stages * weight_bytes(spec), sums, results)
