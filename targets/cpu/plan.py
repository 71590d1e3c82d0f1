"""The work of one convolution as tables: which pixels each register tile covers, and which weight tiles it multiplies.

The generated code is a fixed set of loops over these tables, so layers of equal geometry share their code whatever
their weights and channel counts are.  Plain numpy: no TVM.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings.tiles import Tiles
from lhcc.targets.cpu.ahead import lines_asked
from lhcc.targets.cpu.geometry import Rect, Tile, area, splits
from lhcc.targets.cpu.taps import Rects, best_order, runs, sort_tiles

TILE_FIELDS = 4  # input position, output position, shape, first run of its class
# output blocks, position of the entries, elements between output blocks, position of the starts, register tiles that
# go through all output blocks together, register tiles of all images
HEADER = 6


@dataclass(frozen=True)
class View:
    """How a feature map lies in memory, in elements: `block` consecutive channels are `channel` apart."""

    block: int
    channel: int
    plane: int  # from one block of channels to the next
    row: int
    pixel: int
    image: int


def blocked_view(channels: int, height: int, width: int, block: int) -> View:
    return View(block, 1, height * width * block, width * block, block, -(-channels // block) * height * width * block)


def planar_view(channels: int, height: int, width: int) -> View:
    return View(channels, height * width, 0, width, 1, channels * height * width)


def rows_view(channels: int, count: int) -> View:
    """A matrix (count, channels): each row is one pixel."""
    return View(channels, 1, 0, 0, channels, count * channels)


@dataclass(frozen=True)
class Shape:
    """A register tile of the generated code: its pixels, partial sums per pixel, and the sub-rectangles that occur."""

    height: int
    width: int
    splits: int
    rects: tuple[Rect, ...]


@dataclass(frozen=True)
class ConvSpec:
    """Everything that the generated code of a convolution depends on; equal specs share one kernel."""

    lanes: int
    vectors: int
    depth: int
    lanewise: bool  # depthwise: lanes of the input meet the same lanes of the output
    shapes: tuple[Shape, ...]
    taps: int
    tiles: int  # per image
    batch: int
    source: View
    stride: tuple[int, int]  # input rows and columns from one output of a tile to the next
    target_row: int
    target_pixel: int
    target_image: int
    vector_at: tuple[int, ...]  # output positions of the vectors of one block
    tail: int  # lanes that exist in the last output block; 0: all of them, or the buffer is padded to whole blocks
    activation: str
    residual: str  # "", "before" or "after" the activation
    threads: int
    tiles_at: int  # positions of the tables in the plan
    runs_at: int
    bounds_at: int
    combine: str = "multiply"  # or "max" and "add": pooling, which has no weights
    unroll: int = 4
    merged: int = 1  # kernel columns that one step runs through, `merged_step` input elements apart
    merged_step: int = 0
    prefetch: int = 0  # how many weights ahead are asked for, one cache line per line consumed
    asked: int = 0  # cache lines asked for with each weight tile; without `prefetch` of the next output block's weights
    effort: int = 3  # of LLVM

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ConvSpec:
        fields = json.loads(text)
        fields["shapes"] = tuple(
            Shape(s["height"], s["width"], s["splits"], tuple(map(tuple, s["rects"]))) for s in fields["shapes"]
        )
        fields["source"] = View(**fields["source"])
        for name in ("stride", "vector_at"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    @property
    def block(self) -> int:
        """Output channels per unit of work."""
        return self.lanes * self.vectors


@dataclass(frozen=True)
class Plan:
    spec: ConvSpec
    table: NDArray[np.int32]
    weights: NDArray[np.float32]
    macs: int  # multiply-adds that the kernel executes on real input, padding of blocks included


def merge_columns(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(O, I, kh, kw) -> (O, kw * I, kh, 1): one step of the kernel then runs through a whole row of taps."""
    outputs, inputs, height, width = weight.shape
    return np.ascontiguousarray(weight.transpose(0, 3, 1, 2).reshape(outputs, width * inputs, height, 1))


def plan_conv(
    encoded: Tiles,
    lanes: int,
    vectors: int,
    cover: tuple[Tile, ...],
    source: View,
    target: View,
    *,
    batch: int = 1,
    lanewise: bool = False,
    activation: str = "",
    residual: str = "",
    threads: int = 1,
    group: int = 0,
    prefetch: int = 0,
    accumulators: int = 28,
    padded_output: bool = True,
    combine: str = "multiply",
    unroll: int = 4,
    merged: bool = False,
    effort: int = 3,
) -> Plan:
    """Lays out tables and weights for `encoded` (whose lanes are the spec's lanes x vectors) over the tiles of `cover`.

    `group` register tiles go through all output blocks before the next ones do; 0: all of them.
    `merged`: the weight's inputs are (kernel column, channel) pairs, see `merge_columns`, and `cover` was made so too.
    """
    block = lanes * vectors
    assert encoded.lanes == block
    taps = encoded.taps
    kernel_height, kernel_width = encoded.shape[2:]
    columns = cover[0].column.deltas
    if merged:
        kernel_width = 1
    order = best_order(cover, kernel_height, kernel_width)
    index, starts, values = sort_tiles(encoded, order)
    met: list[Rects] = [tuple(tile.rects[tap] for tap in order) for tile in cover]

    shapes: list[tuple[int, int]] = []
    rects: list[list[Rect]] = []
    for tile, tile_rects in zip(cover, met, strict=True):
        size = (tile.height, tile.width)
        if size not in shapes:
            shapes.append(size)
            rects.append([])
        known = rects[shapes.index(size)]
        known += [rect for rect in dict.fromkeys(tile_rects) if rect is not None and rect not in known]
    # rectangles stay in the order of the taps that need them, which is the order of the weights in memory

    # per class of tiles, per sub-rectangle: how many runs, then (first tap, last tap) pairs
    ranges: list[int] = []
    class_at: dict[tuple[int, Rects], int] = {}
    table: list[list[int]] = []
    for tile, tile_rects in zip(cover, met, strict=True):
        shape = shapes.index((tile.height, tile.width))
        key = (shape, tile_rects)
        if key not in class_at:
            class_at[key] = len(ranges)
            per_rect = runs(tile_rects, tuple(rects[shape]))
            at = len(ranges) + len(per_rect) + 1
            for pairs in per_rect:
                ranges.append(at)
                at += 2 * len(pairs)
            ranges.append(at)
            ranges += [tap for pairs in per_rect for pair in pairs for tap in pair]
        table.append([_input_position(tile, source), _output_position(tile, target), shape, class_at[key]])

    tap_of, in_block, out_block = index.T
    assert source.block % encoded.depth == 0 or encoded.in_blocks == 1, "a tile straddles blocks of the input"
    row_delta, column_delta = _deltas(cover, kernel_height, kernel_width)
    tap_offset = row_delta[tap_of // kernel_width] * source.row + column_delta[tap_of % kernel_width] * source.pixel
    channel = in_block * encoded.depth
    entries = channel // source.block * source.plane + channel % source.block * source.channel + tap_offset
    if merged:
        assert encoded.in_blocks == 1
        entries = tap_offset
    if lanewise:  # the index names the output block; its input block is the same
        assert block == source.block
        entries = out_block * source.plane + tap_offset

    counts = np.diff(starts, axis=1)  # output block x tap
    alike = {each: number for number, each in enumerate(dict.fromkeys(met))}  # few: tiles differ at the borders only
    pixels_of = np.array([[area(rect) for rect in each] for each in alike], np.int64)
    work = (pixels_of @ counts.T)[[alike[each] for each in met]]  # tile x output block
    macs = int(work.sum()) * encoded.depth * block * batch // (len(columns) if merged else 1)
    pixels = np.array([[tile.height * tile.width] for tile in cover], np.int64)
    cost = work * encoded.depth + 24 * pixels + 60
    units = np.repeat(cost[None], batch, axis=0)  # image, tile, output block
    places = units.reshape(-1, units.shape[2])
    group = min(group or len(places), len(places))
    turns = [places[start : start + group].T.reshape(-1) for start in range(0, len(places), group)]
    bounds = _balance(np.concatenate(turns), threads)
    asked, prefetch = lines_asked(prefetch, encoded.depth * block, group)

    tiles_at = HEADER
    runs_at = tiles_at + len(table) * TILE_FIELDS
    bounds_at = runs_at + len(ranges)
    starts_at = bounds_at + len(bounds)
    entries_at = starts_at + starts.size
    header = [encoded.out_blocks, entries_at, _channel_position(block, target), starts_at, group, len(places)]
    flat = np.concatenate([header, np.ravel(table), ranges, bounds, starts.reshape(-1), entries]).astype(np.int32)

    first = cover[0]
    tail = 0 if padded_output else encoded.shape[0] % block
    spec = ConvSpec(
        lanes=lanes,
        vectors=vectors,
        depth=encoded.depth,
        lanewise=lanewise,
        shapes=tuple(
            Shape(h, w, splits(h * w, vectors, encoded.depth, accumulators), tuple(known))
            for (h, w), known in zip(shapes, rects, strict=True)
        ),
        taps=taps,
        tiles=len(cover),
        batch=batch,
        source=replace(source, plane=0, image=source.image if batch > 1 else 0),
        stride=(first.row.stride, first.column.stride),
        target_row=first.row.step * target.row,
        target_pixel=first.column.step * target.pixel,
        target_image=target.image if batch > 1 else 0,
        vector_at=tuple(_channel_position(v * lanes, target) for v in range(vectors)),
        tail=tail,
        activation=activation,
        residual=residual,
        threads=threads,
        tiles_at=tiles_at,
        runs_at=runs_at,
        bounds_at=bounds_at,
        combine=combine,
        unroll=unroll,
        merged=len(columns) if merged else 1,
        merged_step=((columns[1] or 0) - (columns[0] or 0)) * source.pixel if merged and len(columns) > 1 else 0,
        prefetch=prefetch,
        asked=asked,
        effort=effort,
    )
    return Plan(spec, flat, np.ascontiguousarray(values).reshape(-1), macs)


def _deltas(
    cover: tuple[Tile, ...], kernel_height: int, kernel_width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Input displacement per kernel row and column.  The phases of a transposed convolution use disjoint taps, so that
    one table serves all of them."""
    rows, columns = np.zeros(kernel_height, np.int64), np.zeros(kernel_width, np.int64)
    for tile in cover:
        for deltas, into in ((tile.row.deltas, rows), (tile.column.deltas, columns)):
            for tap, delta in enumerate(deltas[: len(into)]):
                if delta is not None:
                    into[tap] = delta
    return rows, columns


def _input_position(tile: Tile, source: View) -> int:
    return tile.y * tile.row.stride * source.row + tile.x * tile.column.stride * source.pixel


def _output_position(tile: Tile, target: View) -> int:
    y = tile.row.first + tile.y * tile.row.step
    x = tile.column.first + tile.x * tile.column.step
    return y * target.row + x * target.pixel


def _channel_position(channel: int, view: View) -> int:
    return channel // view.block * view.plane + channel % view.block * view.channel


def _balance(cost: NDArray[np.int64], threads: int) -> list[int]:
    """Cuts the units, in order, into `threads` ranges of nearly equal cost."""
    ends = cost.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    cuts = [int(np.searchsorted(ends - cost / 2, total * part / threads)) for part in range(1, threads)]
    return [0, *cuts, len(cost)]
