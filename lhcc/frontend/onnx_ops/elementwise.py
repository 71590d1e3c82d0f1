"""Element by element: activations in the form that targets fuse, and arithmetic that TVM's converters get wrong."""

from __future__ import annotations

import functools
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


@converter("Max", "Min", "Sum", "Mean")
def pairwise(node: Node) -> Any:
    """Of any number of operands, two by two: so the passes see the residuals and bounds that are written this way."""
    op = {"Max": relax.op.maximum, "Min": relax.op.minimum}.get(node.op, relax.op.add)
    out = functools.reduce(op, (node.expr(i) for i in range(len(node.inputs))))
    return relax.op.divide(out, scalar(node, len(node.inputs))) if node.op == "Mean" else out


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


@converter("Pow")
def power(node: Node) -> Any:
    """The result has the type of the base; powers of integers are computed in float64."""
    dtype = node.dtype()
    wide = dtype if dtype.startswith("float") else "float64"
    operands = [node.expr(i) if node.dtype(i) == wide else relax.op.astype(node.expr(i), wide) for i in (0, 1)]
    out = relax.op.power(*operands)
    return out if wide == dtype else relax.op.astype(out, dtype)


@converter("Mod")
def modulo(node: Node) -> Any:
    """With fmod the sign is that of the dividend, else that of the divisor."""
    truncated = bool(node.attr("fmod", 0))
    if node.dtype().startswith("float") and not truncated:
        raise NotImplementedError("the remainder of floats with the sign of the divisor")
    return (relax.op.mod if truncated else relax.op.floor_mod)(node.expr(0), node.expr(1))


@converter("IsInf")
def is_infinite(node: Node) -> Any:
    negative, positive = bool(node.attr("detect_negative", 1)), bool(node.attr("detect_positive", 1))
    if negative and positive:
        return relax.op.isinf(node.expr(0))
    if not negative and not positive:
        return np.zeros(node.shape(), bool)
    return relax.op.equal(node.expr(0), scalar(node, -np.inf if negative else np.inf))
