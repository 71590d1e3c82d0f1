"""A convolution as tables: which input blocks a thread block stages, which weight tiles each warp multiplies.

A thread block computes a tile of output pixels for a *group* of output blocks, one per column of warps.  It stages the
patch of input pixels under its tile, a few input blocks at a time, in shared memory; every warp then runs through the
kept weight tiles of its output block that read these input blocks, whatever their taps: a tap is a constant distance in
the patch.  Zero tiles cost nothing, not even the staging where no warp of the group needs an input block.  Groups are
made of output blocks with similar work, and the ones with most work start first.  Plain numpy: no TVM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cuda.arch import BLOCK
from lhcc.targets.cuda.spec import ConvSpec

PAD = 16  # bytes after each pixel of the patch: matrices are then read from shared memory without bank conflicts
HEADER = 3  # positions of: output blocks by group and warp, first entries, entries
GROUP_FIELDS = 5  # first output row and column, number of stages, positions of its stages and of its bounds


@dataclass(frozen=True)
class Phase:
    """Outputs that share their taps: all of them, or those of a transposed convolution at one offset of its stride."""

    row: int  # the first output
    column: int
    taps: tuple[tuple[int, int, int], ...]  # tap of the kernel, and where it reads in the patch: row, column


@dataclass(frozen=True)
class Work:
    """The kept tiles of one output block in one phase: input block, position in the patch, number of the tile."""

    out: int
    phase: Phase
    tiles: NDArray[np.int64]  # (n, 3): input block, patch position, index into the encoded values

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
class Plan:
    table: NDArray[np.int32]
    order: NDArray[np.int64]  # tiles of the encoding in the order in which warps consume them
    entries: int  # per pixel tile, over all warps
    steps: int  # weight tiles of the busiest warps, summed over groups: what the time is made of


def works(index: NDArray[np.int32], out_blocks: int, found: Sequence[Phase], patch_columns: int) -> list[Work]:
    """The work of every output block in every phase; `index` is that of the tiles encoding."""
    result = []
    for phase in found:
        position = {tap: row * patch_columns + column for tap, row, column in phase.taps}
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


def plan_conv(groups: Sequence[Sequence[Work]], stage_blocks: int, columns: int, splits: int, pixel_bytes: int,
              patch_pixels: int) -> Plan:  # fmt: skip
    """The tables for `groups`; each output block's tiles of a stage are dealt to `splits` warps in turn."""
    stages: list[int] = []
    bounds: list[int] = []
    group_rows: list[list[int]] = []
    outs: list[int] = []
    firsts: list[int] = []
    entries: list[int] = []
    order: list[int] = []
    steps = 0
    for group in groups:
        needed = sorted({int(block) for item in group for block in item.blocks})
        chunks = [needed[start : start + stage_blocks] for start in range(0, len(needed), stage_blocks)]
        counts = np.zeros((len(chunks) + 1, columns * splits), np.int64)
        stages_at, bounds_at = len(stages), len(bounds)
        for chunk in chunks:
            stages += chunk + [-1] * (stage_blocks - len(chunk))
        slot = {block: (number // stage_blocks, number % stage_blocks) for number, block in enumerate(needed)}
        for column in range(columns):
            item = group[column] if column < len(group) else None
            outs.append(item.out if item else -1)
            dealt: list[list[tuple[int, int]]] = [[] for _ in range(splits)]
            for turn, (block, position, tile) in enumerate(item.tiles.tolist() if item else []):
                stage, place = slot[block]
                dealt[turn % splits].append(((place * patch_pixels + position) * pixel_bytes, tile))
                counts[stage + 1, column * splits + turn % splits] += 1
            for part in dealt:
                firsts.append(len(entries))
                entries += [offset for offset, _ in part]
                order += [tile for _, tile in part]
        bounds += counts.cumsum(axis=0).reshape(-1).tolist()
        steps += int(counts.max(axis=1).sum())
        phase = group[0].phase
        group_rows.append([phase.row, phase.column, len(chunks), stages_at, bounds_at])
    outs_at = HEADER + GROUP_FIELDS * len(groups)
    firsts_at = outs_at + len(outs)
    stages_at = firsts_at + len(firsts)
    bounds_at = stages_at + len(stages)
    entries_at = bounds_at + len(bounds)
    for row in group_rows:
        row[3] += stages_at
        row[4] += bounds_at
    table = [outs_at, firsts_at, entries_at, *(field for row in group_rows for field in row), *outs, *firsts, *stages,
             *bounds, *entries, 0]  # fmt: skip
    return Plan(np.array(table, np.int32), np.array(order, np.int64), len(entries), steps)


def pixel_bytes(element_size: int) -> int:
    """From one pixel of the patch to the next."""
    return BLOCK * element_size + PAD


def shared_bytes(spec: ConvSpec, element_size: int) -> int:
    """Shared memory of a thread block: its stages, or, after them, the sums that warps add up."""
    staged = spec.stages * spec.stage_blocks * spec.patch_pixels * pixel_bytes(element_size)
    across, columns, splits = spec.warps
    return max(staged, (splits - 1) * across * columns * 64 * spec.pixels * spec.lanes)
