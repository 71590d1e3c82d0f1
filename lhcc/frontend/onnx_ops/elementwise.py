"""Element by element: activations in the form that targets fuse, and arithmetic that TVM's converters get wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lhcc.frontend import layers
from lhcc.frontend.onnx_ops.registry import Node, converter


def scalar(node: Node, number: float) -> Any:
    return relax.const(number, node.dtype())


@converter("Clip")
def clip(node: Node) -> Any:
    if node.opset < 11:
        low, high = node.attr("min"), node.attr("max")
    else:
        bounds = node.optional(1), node.optional(2)
        if not all(b is None or isinstance(b, np.ndarray) for b in bounds):
            return _clip_to_values(node, *bounds)
        low, high = (None if b is None else b.item() for b in bounds)
    data = node.expr(0)
    if low is not None and high is not None:
        # The upper bound wins where they cross; relax.clip leaves that open.
        return relax.op.clip(data, min(low, high), high)
    if low is not None:
        return relax.op.maximum(data, scalar(node, low))
    return data if high is None else relax.op.minimum(data, scalar(node, high))


def _clip_to_values(node: Node, low: Any, high: Any) -> Any:
    data = node.expr(0)
    if low is not None:
        data = relax.op.maximum(data, layers.expr(low))
    return data if high is None else relax.op.minimum(data, layers.expr(high))


@converter("PRelu")
def prelu(node: Node) -> Any:
    slope, rank = node.value(1), len(node.shape())
    if node.opset < 7 and node.shape(1) != (1,):
        slope = layers.per_channel(slope, rank)  # one slope per channel, before broadcasting was unified
    data = node.expr(0)
    scaled = relax.op.multiply(data, layers.expr(slope))
    return relax.op.where(relax.op.less(data, scalar(node, 0)), scaled, data)


@converter("BitShift")
def bit_shift(node: Node) -> Any:
    """As in NumPy: a shift by the width or more, or by a negative number, moves every bit out."""
    data, by, dtype = node.expr(0), node.expr(1), node.dtype()
    left, width = node.attr("direction") == "LEFT", np.iinfo(dtype).bits
    inside = relax.op.less(by, relax.const(width, dtype))
    rest: Any = relax.const(0, dtype)
    if not dtype.startswith("u"):
        inside = relax.op.logical_and(inside, relax.op.greater_equal(by, relax.const(0, dtype)))
        if not left:  # the sign fills what comes in
            rest = relax.op.where(relax.op.less(data, rest), relax.const(-1, dtype), rest)
    safe = relax.op.where(inside, by, relax.const(0, dtype))
    shift = relax.op.left_shift if left else relax.op.right_shift
    return relax.op.where(inside, shift(data, safe), rest)
