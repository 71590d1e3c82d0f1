"""Encodes convolutions whose zeros follow no block as patterns of kernels or single elements, where that is faster.

y = lhcc.conv2d(x, W, b)      ->  y = lhcc.wide_conv2d(lhcc.widen(x), non-zeros, b, table)     both maps planar
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, constant, op_name, shape_of
from lhcc.ir.layer import ConvLayer, logical_layer
from lhcc.ir.log import Log


@dataclass(frozen=True)
class Widened:
    """A layer in the elements encoding: shape of the widened input, and the rest as in `Packed`."""

    wide: tuple[int, ...]
    spec: str
    constants: tuple[Any, ...]
    encoding: str
    density: float
    macs: int
    macs_kept: int
    schedule: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncodeElements:
    encode: Callable[[ConvLayer], Widened | str]  # or the reason why not
    name = "encode_elements"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def visit(name: str, value: Any) -> Any:
            if op_name(value) != "lhcc.conv2d":
                return None
            layer = logical_layer(name, value)
            found = self.encode(layer)
            if isinstance(found, str):
                return rewriter.decline(name, found) if found else None
            for reason in found.why:
                rewriter.note(name, reason)
            wide = rewriter.emit(dialect.call("widen", [value.args[0]], found.wide, spec=found.spec), name)
            return dialect.call(
                "wide_conv2d",
                [wide, *map(constant, found.constants), *value.args[3:]],
                shape_of(value),
                op="conv2d",
                encoding=found.encoding,
                density=found.density,
                macs=found.macs,
                macs_kept=found.macs_kept,
                schedule=found.schedule,
                spec=found.spec,
            )

        return rewriter.run(visit)
