"""Brings pooling into the dialect, so that it runs on the same kernels and layouts as convolutions.

relax.nn.max_pool2d(x)              ->  lhcc.pool2d(x)
relax.nn.avg_pool2d(x)              ->  lhcc.conv2d(x, depthwise weights 1/k)[ * what the borders lack]
relax.mean(x, axis=[2, 3])          ->  lhcc.global_average(x)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, constant, dtype_of, is_tensor, op_name, plain, shape_of
from lhcc.ir.log import Log


@dataclass(frozen=True)
class LowerPooling:
    name = "lower_pooling"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)
        rules = {
            "relax.nn.max_pool2d": _max_pool,
            "relax.nn.avg_pool2d": _average_pool,
            "relax.nn.adaptive_avg_pool2d": _adaptive,
            "relax.mean": _mean,
        }

        def visit(name: str, value: Any) -> Any:
            rule = rules.get(op_name(value))
            if rule is None or not is_tensor(value) or dtype_of(value.args[0]) != "float32":
                return None
            return rule(rewriter, name, value)

        return rewriter.run(visit)


def _windows(rewriter: Rewriter, name: str, call: Any) -> bool:
    if str(call.attrs.layout) == "NCHW":
        return True
    rewriter.decline(name, f"its layout is {call.attrs.layout}, not NCHW")
    return False


def _max_pool(rewriter: Rewriter, name: str, call: Any) -> Any:
    attrs = call.attrs
    if not _windows(rewriter, name, call):
        return None
    return dialect.call(
        "pool2d",
        [call.args[0]],
        shape_of(call),
        window=plain(attrs.pool_size),
        strides=plain(attrs.strides),
        padding=plain(attrs.padding),
        dilation=plain(attrs.dilation),
    )


def _covered(out: int, window: int, stride: int, before: int, dilation: int, low: int, high: int) -> NDArray[np.int64]:
    """How many taps of each output's window lie in low .. high of an axis."""
    positions = np.arange(out)[:, None] * stride - before + np.arange(window) * dilation
    return np.asarray(((positions >= low) & (positions < high)).sum(axis=1))


def _average_pool(rewriter: Rewriter, name: str, call: Any) -> Any:
    attrs = call.attrs
    if not _windows(rewriter, name, call):
        return None
    (_, channels, *image), shape = shape_of(call.args[0]), shape_of(call)
    window, strides, dilation = plain(attrs.pool_size), plain(attrs.strides), plain(attrs.dilation)
    padding = plain(attrs.padding)
    counts = []
    for axis in range(2):
        before, after = padding[axis], padding[axis + 2]
        low, high = (-before, image[axis] + after) if attrs.count_include_pad else (0, image[axis])
        counts.append(_covered(shape[2 + axis], window[axis], strides[axis], before, dilation[axis], low, high))
    divisor = np.outer(counts[0], counts[1]).astype(np.float64)
    if (divisor == 0).any():
        return rewriter.decline(name, "some of its windows hold padding only")
    most = divisor.max()
    weight = np.full((channels, 1, *window), 1 / most, np.float32)
    result = dialect.call(
        "conv2d",
        [call.args[0], constant(weight), constant(np.zeros(channels, np.float32))],
        shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=channels,
        transposed=0,
        activation="",
        residual="",
    )
    if (divisor == most).all():
        return result
    return relax.op.multiply(rewriter.emit(result, name), constant((most / divisor).astype(np.float32)[None, None]))


def _adaptive(rewriter: Rewriter, name: str, call: Any) -> Any:
    if shape_of(call)[2:] != (1, 1) or not _windows(rewriter, name, call):
        return rewriter.decline(name, f"its output is {shape_of(call)[2:]}, not 1x1")
    return dialect.call("global_average", [call.args[0]], shape_of(call))


def _mean(rewriter: Rewriter, name: str, call: Any) -> Any:
    source, axes = shape_of(call.args[0]), plain(call.attrs.axis)
    if len(source) != 4 or axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        return None
    average = dialect.call("global_average", [call.args[0]], (*source[:2], 1, 1))
    return average if call.attrs.keepdims else relax.op.reshape(rewriter.emit(average, name), source[:2])
