"""Maximum pooling of 2 x 2 outputs by the convolution that makes them: a quarter is stored, and a kernel less is run.

    y = max_pool2d(lhcc.tiles(x, ...))    ->  y = lhcc.tiles(x, ..., pooled)

Where a lane holds its sums depends on the columns of the tile: a pixel's right neighbour is the next row of a fragment,
four lanes on; the pixel below it is further rows of the same fragment, its other half, or the next fragment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import tirx as T

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, attributes, op_name
from lhcc.ir.log import Log
from lhcc.ir.tir import integer
from lhcc.targets.cuda.spec import ConvSpec, WindowSpec

Expr = Any
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
    _, height, width = spec.tile
    if (window.combine, window.integers, window.activation, window.residual) != ("max", None, "", ""):
        return "what follows is no pooling by maximum alone"
    if (window.kernel, window.strides, window.padding, window.dilation) != ((2, 2), (2, 2), (0, 0), (1, 1)):
        return "its windows are not 2 x 2, one beside the other"
    if spec.residual or spec.integers or spec.step != (1, 1) or spec.result[2:] != window.image[2:]:
        return "the convolution adds a residual, is transposed, or sees an image as one row of pixels"
    if height % 2 or width not in (*BELOW, 8, 16) or (width == 16 and spec.pixels % 2):
        return f"tiles of {height} x {width} pixels keep the four of a window apart"
    return None


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
            reason = declined(spec, WindowSpec.from_json(attributes(call)["spec"]))
            if reason is not None:
                return rewriter.decline(name, reason)
            attrs |= {"shape": attributes(call)["shape"], "spec": replace(spec, pooled=True).to_json()}
            pooled = dialect.call("tiles", list(conv.args), attrs.pop("shape"), **attrs)
            rewriter.note(rewriter.name(source), f"takes in {name}: of 2 x 2 outputs the largest is stored")
            return rewriter.emit(pooled, rewriter.name(source))

        return rewriter.run(visit)
