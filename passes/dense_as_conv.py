"""Makes every matrix product a convolution of one pixel per row, for targets with one kernel generator for both.

    y = lhcc.dense(x, W, b)     ->  y = reshape(lhcc.conv2d(reshape(x, (M, K, 1, 1)), W, b), (M, N))

A map of one pixel that was flattened for the product is taken as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, array_of, attributes, constant, op_name, shape_of
from lhcc.ir.log import Log

RENAMES = {"relax.reshape", "relax.flatten", "relax.squeeze"}


@dataclass(frozen=True)
class DenseAsConv:
    name = "dense_as_conv"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def pixels(expr: Any) -> Any:
            """A matrix as a map (rows, columns, 1, 1)."""
            shape = (*shape_of(expr), 1, 1)
            source = rewriter.value(expr)
            if op_name(source) in RENAMES and shape_of(source.args[0]) == shape:
                return source.args[0]
            return rewriter.emit(relax.op.reshape(expr, shape), rewriter.name(expr) or "rows")

        def visit(name: str, value: Any) -> Any:
            if op_name(value) != "lhcc.dense":
                return None
            x, weight, bias, *residual = value.args
            attrs = attributes(value)
            matrix = array_of(weight)
            assert matrix is not None
            shape = attrs["shape"]
            operands = [pixels(x), constant(matrix[:, :, None, None]), bias, *map(pixels, residual)]
            conv = dialect.call(
                "conv2d", operands, (*shape, 1, 1), strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1,
                transposed=0, activation=attrs["activation"], residual=attrs["residual"],
            )  # fmt: skip
            return relax.op.reshape(rewriter.emit(conv, name), shape)

        return rewriter.run(visit)
