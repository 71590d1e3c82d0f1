"""Replaces the weights of every laid-out layer by the encoding that the target's cost model prefers.

    y = lhcc.conv2d(x, W, b)    ->  y = lhcc.tiles(x, kept weights, b, plan)     encoding "tiles", "dense", "depthwise"
    y = lhcc.pool2d(x)          ->  y = lhcc.tiles(x, plan)
    y = lhcc.dense(x, W, b)     ->  y = lhcc.tiles(x, kept weights, b, plan)

Lossless: the same products are summed, minus those with a zero weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, attributes, constant, dtype_of
from lhcc.ir.layer import ConvLayer, Packed, conv_layer
from lhcc.ir.log import Log


@dataclass(frozen=True)
class PackTiles:
    pack: Callable[[ConvLayer], Packed]
    name = "pack_tiles"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def visit(name: str, value: Any) -> Any:
            layer = conv_layer(name, value)
            if layer is None:
                return None
            packed = self.pack(layer)
            for reason in packed.why:
                rewriter.note(name, reason)
            residual = value.args[3:]
            return dialect.call(
                "tiles",
                [value.args[0], *map(constant, packed.constants), *residual],
                attributes(value)["shape"],
                dtype=dtype_of(value),
                op=layer.op,
                encoding=packed.encoding,
                density=packed.density,
                macs=packed.macs,
                macs_kept=packed.macs_kept,
                schedule=packed.schedule,
                spec=packed.spec,
            )

        return rewriter.run(visit)
