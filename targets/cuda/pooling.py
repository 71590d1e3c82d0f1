"""Maximum pooling by the convolution that makes what is pooled: a quarter is stored, and a kernel less is run.

    y = max_pool2d(lhcc.tiles(x, ...))    ->  y = lhcc.tiles(x, ..., pooled)

Windows of 3 x 3 overlap: see overlapping.py.  For those of 2 x 2, where a lane holds its sums depends on the columns of
the tile: a pixel's right neighbour is the next row of a fragment, four lanes on; the pixel below it is further rows of
the same fragment, its other half, or the next fragment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import tirx as T

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, array_of, attributes, constant, op_name
from lhcc.ir.log import Log
from lhcc.ir.tir import integer
from lhcc.targets.cuda.arch import Arch
from lhcc.targets.cuda.fragments import tile_words
from lhcc.targets.cuda.patch import Patch
from lhcc.targets.cuda.plan import TILE_END, shared_bytes
from lhcc.targets.cuda.spec import ConvSpec, WindowSpec

Expr = Any
MOST_TWICE = 1.5  # outputs that tiles of overlapping windows compute, over those that there are
RIGHT = 4  # from a lane to the one that holds the next row of a fragment
# columns of a tile -> how many lanes on the pixel below is, in the same part
BELOW = {2: 2 * RIGHT, 4: 4 * RIGHT}


@dataclass(frozen=True)
class Pooling:
    """How the sums of 2 x 2 pixels find each other; a part is half a fragment, 8 rows."""

    spec: ConvSpec

    @property
    def columns(self) -> int:
        return self.spec.tile[2]

    @property
    def lanes(self) -> tuple[int, ...]:
        """The distances over which lanes compare their sums."""
        return (RIGHT, BELOW[self.columns]) if self.columns in BELOW else (RIGHT,)

    @property
    def count(self) -> int:
        """Parts, or pairs of them, one below the other."""
        return self.spec.pixels * 2 if self.columns in BELOW else self.spec.pixels

    def parts(self, number: Expr) -> tuple[Expr, Expr | None]:
        if self.columns in BELOW:
            return number, None
        if self.columns == 8:  # the halves of a fragment
            return number * 2, number * 2 + 1
        upper = T.floordiv(number, integer(2)) * 4 + T.floormod(number, integer(2))
        return upper, upper + 2  # the same half of the next fragment

    def stores(self, lane: Expr) -> Expr:
        """Whether a lane holds the upper left pixel of its four."""
        return T.EQ(T.bitwise_and(lane, integer(sum(self.lanes))), integer(0))


def declined(spec: ConvSpec, window: WindowSpec) -> str | None:
    """Why these two layers stay apart; None: they need not."""
    if (window.combine, window.integers, window.activation, window.residual) != ("max", None, "", ""):
        return "what follows is no pooling by maximum alone"
    if side(window) is None:
        return "its windows are not 2 x 2, one beside the other, or 3 x 3, two apart and from -1 on"
    if spec.residual or spec.integers or spec.step != (1, 1) or spec.result[2:] != window.image[2:]:
        return "the convolution adds a residual, is transposed, or sees an image as one row of pixels"
    _, height, width = spec.tile
    apart = height % 2 or width not in (*BELOW, 8, 16) or (width == 16 and spec.pixels % 2)
    if side(window) == 2 and apart:
        return f"tiles of {height} x {width} pixels keep the four of a window apart"
    return None


def side(window: WindowSpec) -> int | None:
    """Of windows that can be taken in."""
    geometry = window.kernel, window.strides, window.padding, window.dilation
    known = {2: ((2, 2), (2, 2), (0, 0), (1, 1)), 3: ((3, 3), (2, 2), (1, 1), (1, 1))}
    return next((side for side, wanted in known.items() if geometry == wanted), None)


def whole_windows(spec: ConvSpec, weights: NDArray[np.int32]) -> tuple[ConvSpec, NDArray[np.int32]]:
    """The same convolution in tiles of whole windows of 3 x 3, as few as the pixels of its warps allow.

    Weight tiles say where they read in the patch, whose rows become longer or shorter.
    """
    most, pooled = 16 * spec.pixels * spec.warps[0], [-(-extent // 2) for extent in spec.result[2:]]

    def cost(size: tuple[int, int]) -> tuple[int, int]:
        down, across = size
        return -(-pooled[0] // down) * -(-pooled[1] // across), down * across

    widest = {down: (most // (2 * down + 1) - 1) // 2 for down in range(1, pooled[0] + 1)}
    down, across = min(((d, min(a, pooled[1])) for d, a in widest.items() if a > 0), key=cost)
    tile, old = (1, 2 * down + 1, 2 * across + 1), spec.tile
    rows, columns = (
        n + (tile[axis] - old[axis]) * walk for axis, n, walk in zip((1, 2), spec.patch, spec.walk, strict=True)
    )
    new = replace(spec, tile=tile, patch=(rows, columns))
    before, after = Patch(spec), Patch(new)
    tiles = weights.reshape(-1, tile_words(spec.lanes, spec.arithmetic) + TILE_END).copy()
    place, read = np.divmod(tiles[:, -TILE_END], before.size)
    slots = zip(read // before.row, read % before.row // before.pixel, strict=True)
    moved = [after.place(int(before.staged(row, 0)), int(before.staged(column, 1))) for row, column in slots]
    tiles[:, -TILE_END] = place * after.size + np.array(moved, np.int32)
    return new, tiles.reshape(-1)


def computed(spec: ConvSpec) -> float:
    """Outputs that are computed, those beyond the tiles and the map included, over those of the map."""
    images, _, height, width = spec.result
    return spec.tile_count * 16 * spec.pixels * spec.warps[0] / (images * height * width)


@dataclass(frozen=True)
class TakeInPooling:
    name = "take_in_pooling"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def visit(name: str, call: Any) -> Any:
            if op_name(call) != "lhcc.tiles" or attributes(call)["op"] != "max_pool2d":
                return None
            source = call.args[0]
            conv = rewriter.value(source)
            if op_name(conv) != "lhcc.tiles" or attributes(conv)["op"] != "conv2d":
                return None
            attrs = attributes(conv)
            if '"lanes"' not in attrs["spec"]:
                return rewriter.decline(name, "the convolution before it is depthwise")
            if not rewriter.used_once(source):
                return rewriter.decline(name, "what it pools has other users")
            spec = ConvSpec.from_json(attrs["spec"])
            window = WindowSpec.from_json(attributes(call)["spec"])
            reason = declined(spec, window)
            if reason is not None:
                return rewriter.decline(name, reason)
            operands, spec = list(conv.args), replace(spec, pooled=side(window) or 0)
            if spec.overlap:
                weights = array_of(operands[1])
                assert weights is not None
                spec, moved = whole_windows(spec, weights)
                if shared_bytes(spec) > Arch(spec.arch).shared:
                    return rewriter.decline(name, "tiles of whole windows do not fit shared memory")
                if computed(spec) > MOST_TWICE:
                    return rewriter.decline(name, "tiles of so few pixels would compute too many outputs twice")
                operands[1] = constant(moved)
            attrs |= {"shape": attributes(call)["shape"], "spec": spec.to_json()}
            pooled = dialect.call("tiles", operands, attrs.pop("shape"), **attrs)
            windows = f"{spec.pooled} x {spec.pooled}"
            rewriter.note(rewriter.name(source), f"takes in {name}: of {windows} outputs the largest is stored")
            return rewriter.emit(pooled, rewriter.name(source))

        return rewriter.run(visit)
