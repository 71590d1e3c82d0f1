"""Convolutions whose lanes are neighbouring pixels, for weights that share no block: what their forms share.

Planar maps hold neighbouring pixels together, but have no padding, and a tap one pixel to the side reads vectors that
are not aligned.  So the input is first *widened*, see `Layout`.  Sums wait in a buffer of the thread while inputs that
fit the first-level cache are multiplied with the weights of all outputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.ir.layer import ConvLayer
from lhcc.ir.tir import Expr, Stmt, flat, function, get, integer, put, sequence, shared, tensor, var
from lhcc.ir.vector import epilogue
from lhcc.targets.cpu.machine import LINE, Machine

TILE_FIELDS = 4  # class, first row, first column, position in the widened input
SETS = 64  # of a first-level cache
GOLDEN = 25  # of these, odd, and near to the golden section


@dataclass(frozen=True)
class TileClass:
    """Register tiles that share code."""

    lanes: int
    rows: int
    starts: tuple[int, ...]  # of the vectors of a row, from the first one
    cut: int  # lanes of the last vector of a row that are pixels
    whole_rows: bool  # the tile holds rows from end to end
    above: int  # input rows at its top and bottom that are padding
    below: int

    @property
    def vectors(self) -> int:
        return len(self.starts)

    @property
    def sums(self) -> int:
        return self.rows * self.vectors

    def cuts(self, number: int, width: int) -> bool:
        """Whether a sum must not be stored as a whole vector, in results of that width."""
        row, vector = divmod(number, self.vectors)
        rest = (self.rows - row) * width - self.starts[vector]  # elements of the tile from here on
        ends = vector == self.vectors - 1 and self.cut < self.lanes
        return ends and not (self.whole_rows and rest >= self.lanes)


@dataclass(frozen=True)
class WideSpec:
    form: str  # "elements", "patterns" or "pattern sums"
    lanes: int
    image: tuple[int, ...]
    result: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    rows: int  # of a register tile, largest
    vectors: int  # per row of a register tile
    near: int  # inputs, or outputs ("patterns"), that are taken together
    taps: tuple[tuple[int, ...], ...]  # patterns
    activation: str
    residual: str
    threads: int
    shifted: bool  # the widened input holds a copy per kernel column

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WideSpec:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
        fields["taps"] = tuple(map(tuple, fields["taps"]))
        return cls(**fields)

    @property
    def row_starts(self) -> list[int]:
        """First pixels of the vectors of a row.  Where loads need not be aligned the last vector ends with the row."""
        width = self.result[3]
        last = width if self.shifted else max(0, width - self.lanes)
        return [min(start, last) for start in range(0, width, self.lanes)]

    @property
    def layout(self) -> tuple[Any, ...]:
        """What decides where the widened input holds what."""
        return self.wide, self.shifted

    @property
    def most(self) -> tuple[int, int]:
        """Rows and vectors of the largest register tile."""
        return self.result[2], len(self.row_starts)

    @property
    def padded_rows(self) -> int:
        """Of a channel of the widened input: all that any output reads."""
        return self.tile_rows(self.result[2])

    @property
    def padded_width(self) -> int:
        last = self.row_starts[-1] + self.lanes
        if self.shifted:
            return last
        line = LINE // 4
        return -(-(last + (self.kernel[1] - 1) * self.dilation[1]) // line) * line

    @property
    def wide(self) -> tuple[int, ...]:
        """Shape of the widened input: (N, C, copies, rows, width) if shifted, else (N, rows, C rows of that number).

        A tile reads some rows of many channels, which should fill all sets of the cache evenly.  Shifted, the rows of a
        channel are odd in number, else the same rows of all channels would crowd into a few sets.  Else neighbouring
        channels are neighbours in memory, which is what the processor fetches ahead, and from row to row the sets move
        on by a golden section, so that any number of rows spreads evenly.
        """
        images, channels = self.image[:2]
        if self.shifted:
            return images, channels, self.kernel[1], self.padded_rows | 1, self.padded_width
        lines = channels * self.padded_width * 4 // LINE
        return images, self.padded_rows, (lines + (GOLDEN - lines) % SETS) * LINE // 4

    @property
    def written(self) -> int:
        """Elements of the widened input that something is written to."""
        images, channels = self.image[:2]
        return images * channels * (self.kernel[1] if self.shifted else 1) * self.padded_rows * self.padded_width

    @property
    def channel_step(self) -> int:
        """From a channel of the widened input to the next."""
        return int(np.prod(self.wide[2:])) if self.shifted else self.padded_width

    @property
    def copy_step(self) -> int:
        """From a copy, if shifted, to the next."""
        return int(np.prod(self.wide[3:]))

    @property
    def row_step(self) -> int:
        return self.wide[-1]

    def tap_at(self, row: Any, column: Any) -> Any:
        """Position in the widened input of what a tap reads, from that of the output pixel."""
        across = column * (self.copy_step if self.shifted else self.dilation[1])
        return row * self.dilation[0] * self.row_step + across

    def tile_rows(self, rows: int) -> int:
        """Input rows under a tile."""
        return (rows - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilation[0] + 1

    def tile_bytes(self) -> int:
        """Of the cache lines of one channel of the widened input that the largest tile reads."""
        lines = max(int(-(-(tile.starts[-1] + self.lanes) * 4 // LINE)) for tile in self.classes())
        copies = self.kernel[1] if self.shifted else 1
        return copies * self.tile_rows(self.rows) * lines * LINE

    def tiles(self) -> list[tuple[Any, int, int]]:
        """Class, first row and first column of every tile."""
        height = self.result[2]
        parts = -(-height // self.rows)
        found = []
        for part in range(parts):
            start, stop = round(height * part / parts), round(height * (part + 1) / parts)
            first = start * self.strides[0] - self.padding[0]
            last = first + self.tile_rows(stop - start)
            for v in range(0, len(self.row_starts), self.vectors):
                starts = self.row_starts[v : v + self.vectors]
                cut = min(self.lanes, self.result[3] - starts[-1])
                whole = len(starts) == len(self.row_starts)
                above, below = max(0, -first), max(0, last - self.image[2])
                across = tuple(x - starts[0] for x in starts)
                tile = TileClass(self.lanes, stop - start, across, cut, whole, above, below)
                found.append((tile, start, starts[0]))
        return found

    def classes(self) -> list[Any]:
        return list(dict.fromkeys(tile for tile, _, _ in self.tiles()))

    def tile_table(self) -> NDArray[np.int32]:
        classes, step = self.classes(), self.row_step
        rows = [(classes.index(tile), y, x, y * self.strides[0] * step + x) for tile, y, x in self.tiles()]
        return np.array(rows, np.int32)


def pieces(count: int) -> list[int]:
    """The longest piece of each number of even pieces."""
    return sorted({-(-count // parts) for parts in range(1, count + 1)})


def shifted(layer: ConvLayer, machine: Machine) -> bool:
    """Whether the input is copied for every kernel column.  Where several vectors fit a cache line, few loads that are
    not aligned reach into the next one, and one copy leaves the first-level cache room for more channels."""
    return layer.strides[1] > 1 or 2 * machine.lanes * 4 > LINE


def geometry(layer: ConvLayer) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Image and result as these kernels see them (a 1x1 convolution sees one row); None for other layers."""
    if layer.transposed or layer.depthwise or layer.target == "rows":
        return None
    image, result = layer.image, layer.result
    if layer.kernel == (1, 1) and layer.strides == (1, 1) and not any(layer.padding) and image[2:] == result[2:]:
        return (*image[:2], 1, image[2] * image[3]), (*result[:2], 1, result[2] * result[3])
    return image, result


Finish = Callable[[Sequence[Expr], Callable[[int, int], Expr]], list[Stmt]]  # from sums, and one lane of a sum


class WideKernel:
    """(widened input, values, bias, table[, residual]) -> planar output.  A form says how one tile accumulates."""

    def __init__(self, spec: WideSpec, target_shape: tuple[int, ...]) -> None:
        self.spec = spec
        self.source = tensor("source", list(spec.wide))
        self.target, self.residual = tensor("target", list(target_shape)), tensor("residual", list(target_shape))
        self.x, see_x = flat(self.source, "x")
        self.y, see_y = flat(self.target, "y")
        self.r, see_r = flat(self.residual, "r")
        self.views = [see_x, see_y] + ([see_r] if spec.residual else [])
        self.values = tensor("values", [var("values_size")])
        self.bias = tensor("bias", [integer(spec.result[1])])
        self.table = tensor("table", [var("table_size")], "int32")
        self.tables_at = len(spec.tiles()) * TILE_FIELDS  # the form's own tables follow those of the tiles
        self.out = var("out")

    def at(self, position: Expr) -> Expr:
        return get(self.table, position)

    def unit_code(self, tile: Any, base: Expr, image: Expr, y: Expr, x: Expr) -> list[Stmt]:
        """All results of a tile at `base` of the widened input, at `y` and `x` of the result."""
        raise NotImplementedError

    def build(self) -> Any:
        spec = self.spec
        count, size = len(spec.tiles()), int(np.prod(spec.wide[1:]))
        unit, image, row, base, y, x = (var(n) for n in ("unit", "image", "row", "base", "y", "x"))
        bind = [
            T.Bind(image, T.floordiv(unit, integer(count))),
            T.Bind(row, T.floormod(unit, integer(count)) * integer(TILE_FIELDS)),
            T.Bind(base, image * integer(size) + self.at(row + integer(3))),
            T.Bind(y, self.at(row + integer(1))),
            T.Bind(x, self.at(row + integer(2))),
        ]
        code: Stmt | None = None
        for number, tile in reversed(list(enumerate(spec.classes()))):
            body = sequence(self.unit_code(tile, base, image, y, x))
            code = body if code is None else T.IfThenElse(T.EQ(self.at(row), integer(number)), body, code)
        whole = shared(unit, spec.image[0] * count, spec.threads, [*bind, code])
        arguments = [self.source, self.values, self.bias, self.table] + ([self.residual] if spec.residual else [])
        return function([*arguments, self.target], [*self.views, whole])

    def tile_code(self, tile: TileClass, base: Expr, finish: Finish) -> list[Stmt]:
        """All sums of a tile at `base` of the widened input, for all outputs; `finish` makes results of them."""
        raise NotImplementedError

    def waiting(self, sums: int) -> Expr:
        """Room for so many sums of a tile, for all outputs."""
        size = integer(self.spec.result[1] * sums * self.spec.lanes)
        return T.decl_buffer((size,), "float32", "waiting", data_alignment=64)

    def started(self) -> Expr:
        """What a sum of the current output starts with."""
        return T.Broadcast(get(self.bias, self.out), self.spec.lanes)

    def _finish(
        self, tile: TileClass, image: Expr, y: Expr, x: Expr, sums: Sequence[Expr], lane: Callable[[int, int], Expr]
    ) -> list[Stmt]:
        """Epilogue and stores of the current output, of whose sums `lane` reads one element.  A row that ends within a
        vector may run into the rows of the tile that are written after it; what would run beyond them is cut."""
        spec = self.spec
        lanes = spec.lanes
        _, outputs, height, width = spec.result
        plane = (image * integer(outputs) + self.out) * integer(height * width)
        code = []
        for number, value in enumerate(sums):
            row, vector = divmod(number, tile.vectors)
            start = tile.starts[vector]
            to = plane + (y + integer(row)) * integer(width) + x + integer(start)
            if not tile.cuts(number, width):
                code.append(put(self.y, self._epilogue(value, to, lanes), to, lanes))
                continue
            for place in range(tile.cut):
                one = lane(number, place)
                code.append(put(self.y, self._epilogue(one, to + integer(place), 1), to + integer(place)))
        return code

    def _epilogue(self, value: Expr, position: Expr, lanes: int) -> Expr:
        spec = self.spec
        added = get(self.r, position, lanes) if spec.residual else None
        return epilogue(value, added, spec.residual, spec.activation)
