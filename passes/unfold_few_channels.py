"""Makes a convolution of a few input channels one of many: what it reads at an output becomes that pixel's channels.

    y = lhcc.conv2d(x, W, b)    ->  y = lhcc.conv2d(lhcc.unfold(x), W', b)      W' is 1 x 1

A 7 x 7 convolution of 3 channels then has 147 of them, where blocks of channels would be filled to a tenth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, array_of, attributes, constant, op_name, shape_of
from lhcc.ir.log import Log


@dataclass(frozen=True)
class UnfoldFewChannels:
    block: int
    name = "unfold_few_channels"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def visit(name: str, value: Any) -> Any:
            if op_name(value) != "lhcc.conv2d":
                return None
            x, weight, *others = value.args
            attrs, (outputs, inputs, *kernel) = attributes(value), shape_of(weight)
            taps = kernel[0] * kernel[1]
            if attrs["transposed"] or attrs["groups"] > 1 or taps == 1:
                return None
            unfolded, padded = -(-inputs * taps // self.block), taps * -(-inputs // self.block)
            if inputs > self.block // 4:
                return None
            if unfolded >= padded:
                return rewriter.decline(name, f"unfolding its {inputs} channels fills no fewer blocks of {self.block}")
            images, _, height, width = attrs["shape"]
            geometry = {key: attrs[key] for key in ("strides", "padding", "dilation")}
            wide = dialect.call("unfold", [x], (images, inputs * taps, height, width), kernel=tuple(kernel), **geometry)
            matrix = array_of(weight)
            assert matrix is not None
            attrs.update(strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1))
            shape = attrs.pop("shape")
            flat = constant(matrix.reshape(outputs, inputs * taps, 1, 1))
            return dialect.call("conv2d", [rewriter.emit(wide, name), flat, *others], shape, **attrs)

        return rewriter.run(visit)
