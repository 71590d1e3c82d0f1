"""Makes a convolution of a few input channels one of many: what it reads around an output becomes channels.

    y = lhcc.conv2d(x, W, b)    ->  y = lhcc.conv2d(lhcc.unfold(x), W', b)      W' is 1 x 1, or kh x 1

A 3 x 3 convolution of 3 channels then has 27 of them, where blocks of channels would be filled to a tenth.  Of a large
window only the rows are unfolded, where that makes the smaller map: 7 x 7 with stride 2 reads 147 values at an output,
five blocks of 32, but 21 in each of its rows, and outputs share rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, array_of, attributes, constant, op_name, shape_of
from lhcc.ir.log import Log


@dataclass(frozen=True)
class UnfoldFewChannels:
    block: int
    reads_planar: Callable[[int, Mapping[str, Any]], bool] = lambda channels, attrs: False  # of a map as it is
    name = "unfold_few_channels"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def visit(name: str, value: Any) -> Any:
            if op_name(value) != "lhcc.conv2d":
                return None
            x, weight, *others = value.args
            attrs, (outputs, inputs, *kernel) = attributes(value), shape_of(weight)
            if attrs["transposed"] or attrs["groups"] > 1 or kernel == [1, 1] or inputs > self.block // 4:
                return None
            if self.reads_planar(inputs, attrs):
                return rewriter.decline(name, f"its kernel reads {inputs} channels as they are")
            images, _, height, width = attrs["shape"]
            in_rows = shape_of(x)[2]

            def size(rows: int, extent: int) -> int:
                """Of a map of `extent` rows into which so many rows of the window are unfolded."""
                return -(-inputs * rows * kernel[1] // self.block) * extent

            whole = size(kernel[0], height) <= size(1, in_rows)
            rows = kernel[0] if whole else 1  # of the window that become channels
            channels, left = inputs * rows * kernel[1], kernel[0] // rows
            if -(-channels // self.block) * left >= kernel[0] * kernel[1]:
                return rewriter.decline(name, f"unfolding its {inputs} channels fills no fewer blocks of {self.block}")
            (down, across), padding, dilation = attrs["strides"], attrs["padding"], attrs["dilation"]
            if whole:
                geometry = {"strides": (down, across), "padding": padding, "dilation": dilation}
                attrs.update(strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1))
            else:
                beside = (0, padding[1], 0, padding[3])
                geometry = {"strides": (1, across), "padding": beside, "dilation": (1, dilation[1])}
                attrs.update(strides=(down, 1), padding=(padding[0], 0, padding[2], 0), dilation=(dilation[0], 1))
            size_of_map = images, channels, height if whole else in_rows, width
            wide = dialect.call("unfold", [x], size_of_map, kernel=(rows, kernel[1]), **geometry)
            matrix = array_of(weight)
            assert matrix is not None
            flat = matrix.reshape(outputs, inputs, left, rows * kernel[1]).transpose(0, 1, 3, 2)
            flat = constant(np.ascontiguousarray(flat.reshape(outputs, channels, left, 1)))
            shape = attrs.pop("shape")
            return dialect.call("conv2d", [rewriter.emit(wide, name), flat, *others], shape, **attrs)

        return rewriter.run(visit)
