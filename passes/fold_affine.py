"""Folds multiplications and additions by per-channel constants (bias, batch norm) into the layer that feeds them.

y = lhcc.conv2d(x, W, b) * s + t      ->  y = lhcc.conv2d(x, W * s, b * s + t)
y = lhcc.conv2d(x, W, b) - t, / s     ->  likewise
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, array_of, attributes, constant, op_name, shape_of
from lhcc.ir.log import Log

OPERATORS = {"relax.add", "relax.subtract", "relax.multiply", "relax.divide"}


@dataclass(frozen=True)
class FoldAffine:
    name = "fold_affine"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)
        return rewriter.run(lambda name, value: _fold(rewriter, value) if op_name(value) in OPERATORS else None)


def _fold(rewriter: Rewriter, call: Any) -> Any:
    operator = op_name(call)
    left, right = call.args
    if array_of(left) is not None and operator in ("relax.add", "relax.multiply"):
        left, right = right, left
    factor, layer = array_of(right), rewriter.value(left)
    if factor is None or op_name(layer) not in ("lhcc.conv2d", "lhcc.dense") or not rewriter.used_once(left):
        return None
    attrs = attributes(layer)
    if attrs["activation"] or attrs["residual"]:
        return rewriter.decline(rewriter.name(left), f"{operator} follows its activation or residual")
    values = per_channel(factor, shape_of(layer), channel_axis=1)
    if values is None or values.dtype != np.float32:
        return rewriter.decline(rewriter.name(left), f"{operator} by a constant that differs within a channel")
    x, weight, bias = layer.args
    scaled, shifted = array_of(weight), array_of(bias)
    assert scaled is not None and shifted is not None
    # float64 between: one rounding per weight, as when the framework itself folds
    wide = values.astype(np.float64)
    if operator in ("relax.multiply", "relax.divide"):
        with np.errstate(divide="ignore"):
            scale = wide if operator == "relax.multiply" else 1.0 / wide
        if not np.isfinite(scale).all():
            return rewriter.decline(rewriter.name(left), f"{operator} by zero or infinity")
        scaled = (scaled * scale.reshape(-1, *[1] * (scaled.ndim - 1))).astype(np.float32)
        shifted = (shifted * scale).astype(np.float32)
    else:
        shifted = (shifted + (wide if operator == "relax.add" else -wide)).astype(np.float32)
    shape = attrs.pop("shape")
    name = rewriter.name(left)
    operands = [x, constant(scaled), constant(shifted)]
    return rewriter.emit(dialect.call(op_name(layer).removeprefix("lhcc."), operands, shape, **attrs), name)


def per_channel(values: NDArray[Any], shape: tuple[int, ...], channel_axis: int) -> NDArray[Any] | None:
    """`values`, which broadcasts to `shape`, as one number per channel; None if it varies along another axis."""
    aligned = (1,) * (len(shape) - values.ndim) + values.shape
    if len(aligned) != len(shape) or any(n != 1 for axis, n in enumerate(aligned) if axis != channel_axis):
        return None
    if aligned[channel_axis] not in (1, shape[channel_axis]):
        return None  # one channel, spread over several
    return np.broadcast_to(values.reshape(-1), shape[channel_axis : channel_axis + 1])
