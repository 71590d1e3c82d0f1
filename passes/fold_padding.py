"""Makes a border of zeros, which exporters like to spell out, part of the convolution that reads it.

y = lhcc.conv2d(relax.nn.pad(x, zeros around the image), W, b)   ->  y = lhcc.conv2d(x, W, b, padding larger by it)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, attributes, op_name, plain, shape_of
from lhcc.ir.log import Log


@dataclass(frozen=True)
class FoldPadding:
    name = "fold_padding"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        if "relax.nn.pad" not in {op_name(b.value) for block in mod["main"].body.blocks for b in block.bindings}:
            return mod
        rewriter = Rewriter(mod, log, self.name)
        return rewriter.run(lambda name, value: _fold(rewriter, name, value))


def _fold(rewriter: Rewriter, name: str, call: Any) -> Any:
    if op_name(call) != "lhcc.conv2d":
        return None
    pad, attrs = rewriter.value(call.args[0]), attributes(call)
    if op_name(pad) != "relax.nn.pad":
        return None
    widths = plain(pad.attrs.pad_width)
    if pad.attrs.pad_mode != "constant" or float(pad.attrs.pad_value) != 0.0:
        return rewriter.decline(name, f"its border is not of zeros ({pad.attrs.pad_mode})")
    if len(shape_of(pad)) != 4 or any(widths[:4]) or min(widths) < 0:
        return rewriter.decline(name, f"its border {widths} is not around the image")
    if attrs["transposed"]:
        return rewriter.decline(name, "a transposed convolution crops by its padding")
    top, bottom, left, right = widths[4:]
    added = (top, left, bottom, right)
    attrs["padding"] = tuple(old + new for old, new in zip(attrs["padding"], added, strict=True))
    return dialect.call("conv2d", [pad.args[0], *call.args[1:]], attrs.pop("shape"), **attrs)
