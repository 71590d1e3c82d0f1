"""Convolutions whose lanes are neighbouring pixels, for weights that share no block: what their two forms share.

Planar maps hold neighbouring pixels together, but a tap one pixel to the side would read unaligned vectors, two cache
lines each.  So the input is first *widened*: copied once per kernel column, shifted, strided and padded; every load
after that is an aligned vector.  Sums wait in a buffer of the thread while inputs that fit the first-level cache are
multiplied with the weights of all outputs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.ir.layer import ConvLayer
from lhcc.ir.tir import Expr, Stmt, flat, function, get, integer, loop, put, sequence, shared, tensor, var
from lhcc.ir.vector import const, epilogue

TILE_FIELDS = 4  # class, first row, first vector, position in the widened input


@dataclass(frozen=True)
class TileClass:
    """Register tiles that share code."""

    rows: int
    vectors: int
    cut: int  # lanes of the last vector of a row that are pixels
    whole_rows: bool  # the tile holds rows from end to end
    above: int  # input rows at its top and bottom that are padding
    below: int


@dataclass(frozen=True)
class WideSpec:
    form: str  # "elements" or "patterns"
    lanes: int
    image: tuple[int, ...]
    result: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    rows: int  # of a register tile, largest
    vectors: int  # per row of a register tile
    near: int  # inputs (elements) or outputs (patterns) that are taken together
    taps: tuple[tuple[int, ...], ...]  # patterns
    activation: str
    residual: str
    threads: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WideSpec:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
        fields["taps"] = tuple(map(tuple, fields["taps"]))
        return cls(**fields)

    @property
    def row_vectors(self) -> int:
        return -(-self.result[3] // self.lanes)

    @property
    def wide_rows(self) -> int:
        """Rows of the widened input: all that any output reads."""
        return (self.result[2] - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilation[0] + 1

    @property
    def wide(self) -> tuple[int, int, int, int, int]:
        images, channels = self.image[:2]
        return images, channels, self.kernel[1], self.wide_rows, self.row_vectors * self.lanes

    def tile_rows(self, rows: int) -> int:
        """Input rows under a tile."""
        return (rows - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilation[0] + 1

    def tiles(self) -> list[tuple[TileClass, int, int]]:
        """Class, first row and first vector of every tile."""
        height = self.result[2]
        parts = -(-height // self.rows)
        found = []
        for part in range(parts):
            start, stop = height * part // parts, height * (part + 1) // parts
            first = start * self.strides[0] - self.padding[0]
            last = first + self.tile_rows(stop - start)
            for v in range(0, self.row_vectors, self.vectors):
                vectors = min(self.vectors, self.row_vectors - v)
                cut = min(self.lanes, self.result[3] - (v + vectors - 1) * self.lanes)
                whole = vectors == self.row_vectors
                above, below = max(0, -first), max(0, last - self.image[2])
                found.append((TileClass(stop - start, vectors, cut, whole, above, below), start, v))
        return found

    def classes(self) -> list[TileClass]:
        return list(dict.fromkeys(tile for tile, _, _ in self.tiles()))

    def tile_table(self) -> NDArray[np.int32]:
        classes, width = self.classes(), self.wide[4]
        rows = [
            (classes.index(tile), y, v, y * self.strides[0] * width + v * self.lanes) for tile, y, v in self.tiles()
        ]
        return np.array(rows, np.int32)


def geometry(layer: ConvLayer) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Image and result as these kernels see them (a 1x1 convolution sees one row); None for other layers."""
    if layer.transposed or layer.depthwise or layer.target == "rows":
        return None
    image, result = layer.image, layer.result
    if layer.kernel == (1, 1) and layer.strides == (1, 1) and not any(layer.padding) and image[2:] == result[2:]:
        return (*image[:2], 1, image[2] * image[3]), (*result[:2], 1, result[2] * result[3])
    return image, result


def widen(spec: WideSpec, source_shape: tuple[int, ...]) -> Any:
    """(N, C, H, W) -> (N, C, kernel columns, rows, padded width): one copy per kernel column."""
    images, channels, height, width = spec.image
    _, _, columns, rows, wide = spec.wide
    source, target = tensor("source", list(source_shape)), tensor("target", list(spec.wide))
    (x, see_x), (y, see_y) = flat(source, "x"), flat(target, "y")
    unit, row = var("unit"), var("row")
    copies: list[Stmt] = []
    blanks: list[Stmt] = []
    from_row = row - integer(spec.padding[0])
    base_x = (unit * integer(height) + from_row) * integer(width)
    for column in range(columns):
        base_y = ((unit * integer(columns) + integer(column)) * integer(rows) + row) * integer(wide)
        for first in range(0, wide, spec.lanes):
            outputs = range(first, first + spec.lanes)
            reads = [out * spec.strides[1] + column * spec.dilation[1] - spec.padding[1] for out in outputs]
            inside = [0 <= read < width and out < spec.result[3] for out, read in zip(outputs, reads, strict=True)]
            into = base_y + integer(first)
            blanks.append(put(y, const(0.0, spec.lanes), into, spec.lanes))
            if all(inside) and spec.strides[1] == 1:
                copies.append(put(y, get(x, base_x + integer(reads[0]), spec.lanes), into, spec.lanes))
                continue
            for lane, read in enumerate(reads):
                value = get(x, base_x + integer(read)) if inside[lane] else T.FloatImm("float32", 0.0)
                copies.append(put(y, value, into + integer(lane)))
    within = T.all(from_row >= integer(0), from_row < integer(height))
    body = [loop(row, rows, [T.IfThenElse(within, sequence(copies), sequence(blanks))])]
    return function([source, target], [see_x, see_y, shared(unit, images * channels, spec.threads, body)])


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

    def accumulate(self, tile: TileClass, base: Expr, waiting: Expr) -> Stmt:
        """All products of a tile, added to the waiting sums; `base` is its position in the widened input."""
        raise NotImplementedError

    def build(self) -> Any:
        spec = self.spec
        count, size = len(spec.tiles()), int(np.prod(spec.wide[1:]))
        unit, image, row, base, y, v = (var(n) for n in ("unit", "image", "row", "base", "y", "v"))
        bind = [
            T.Bind(image, T.floordiv(unit, integer(count))),
            T.Bind(row, T.floormod(unit, integer(count)) * integer(TILE_FIELDS)),
            T.Bind(base, image * integer(size) + self.at(row + integer(3))),
            T.Bind(y, self.at(row + integer(1))),
            T.Bind(v, self.at(row + integer(2))),
        ]
        code: Stmt | None = None
        for number, tile in reversed(list(enumerate(spec.classes()))):
            body = self._tile(tile, image, base, y, v)
            code = body if code is None else T.IfThenElse(T.EQ(self.at(row), integer(number)), body, code)
        whole = shared(unit, spec.image[0] * count, spec.threads, [*bind, code])
        arguments = [self.source, self.values, self.bias, self.table] + ([self.residual] if spec.residual else [])
        return function([*arguments, self.target], [*self.views, whole])

    def _tile(self, tile: TileClass, image: Expr, base: Expr, y: Expr, v: Expr) -> Stmt:
        spec = self.spec
        lanes, outputs, sums = spec.lanes, spec.result[1], tile.rows * tile.vectors
        waiting = T.decl_buffer((integer(outputs * sums * lanes),), "float32", "waiting", data_alignment=64)
        place = self.out * integer(sums * lanes)
        bias = T.Broadcast(get(self.bias, self.out), lanes)
        start = [put(waiting, bias, place + integer(s * lanes), lanes) for s in range(sums)]
        return T.SeqStmt(
            [
                T.AllocBuffer(waiting),
                loop(self.out, outputs, start),
                self.accumulate(tile, base, waiting),
                loop(self.out, outputs, self._finish(tile, image, y, v, waiting, place)),
            ]
        )

    def _finish(self, tile: TileClass, image: Expr, y: Expr, v: Expr, waiting: Expr, place: Expr) -> list[Stmt]:
        """Epilogue and stores.  A row that ends within a vector may run into the rows of the tile that are written
        after it; what would run beyond them is cut exactly."""
        spec = self.spec
        lanes = spec.lanes
        _, outputs, height, width = spec.result
        plane = (image * integer(outputs) + self.out) * integer(height * width)
        code = []
        for row in range(tile.rows):
            for vector in range(tile.vectors):
                at = place + integer((row * tile.vectors + vector) * lanes)
                to = plane + (y + integer(row)) * integer(width) + (v + integer(vector)) * integer(lanes)
                rest = (tile.rows - row) * width - vector * lanes  # elements of the tile from here on
                last = vector == tile.vectors - 1
                if not last or tile.cut == lanes or (tile.whole_rows and rest >= lanes):
                    code.append(put(self.y, self._epilogue(get(waiting, at, lanes), to, lanes), to, lanes))
                    continue
                for lane in range(tile.cut):
                    one = get(waiting, at + integer(lane))
                    code.append(put(self.y, self._epilogue(one, to + integer(lane), 1), to + integer(lane)))
        return code

    def _epilogue(self, value: Expr, position: Expr, lanes: int) -> Expr:
        spec = self.spec
        added = get(self.r, position, lanes) if spec.residual else None
        return epilogue(value, added, spec.residual, spec.activation)
