"""Pooling over windows and over whole planes."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lhcc.frontend import layers
from lhcc.frontend.onnx_ops.convolution import paddings
from lhcc.frontend.onnx_ops.registry import Node, converter


def _pool(node: Node, kind: str, data: Any, count_padding: bool) -> Any:
    window = list(node.attr("kernel_shape"))
    rank = len(window)
    if not 1 <= rank <= 3:
        raise NotImplementedError(f"pooling over {rank} dimensions")
    strides, dilation = list(node.attr("strides", [1] * rank)), list(node.attr("dilations", [1] * rank))
    before, after = paddings(node, node.shape()[2:], window, strides, dilation)
    ceil = bool(node.attr("ceil_mode", 0))
    return layers.pool(kind, data, window, strides, before, after, dilation, ceil, count_padding)


@converter("MaxPool")
def max_pool(node: Node) -> Any:
    if node.wants(1):
        raise NotImplementedError("the indices of the maxima")
    return _pool(node, "max", node.value(0), False)


@converter("AveragePool")
def average_pool(node: Node) -> Any:
    return _pool(node, "avg", node.value(0), bool(node.attr("count_include_pad", 0)))


@converter("LpPool")
def lp_pool(node: Node) -> Any:
    """(sum |x|^p)^(1/p): an average that counts the padding, times the number of taps."""
    p = node.attr("p", 2)
    taps = float(np.prod(node.attr("kernel_shape")))
    if node.attr("ceil_mode", 0):
        raise NotImplementedError("ceil_mode")
    powers = node.emit(_power(relax.op.abs(node.expr(0)), p, node.dtype()))
    average = _pool(node, "avg", powers, True)
    total = node.emit(relax.op.multiply(average, relax.const(taps, node.dtype())))
    return _power(total, 1 / p, node.dtype())


@converter("GlobalLpPool")
def global_lp_pool(node: Node) -> Any:
    p = node.attr("p", 2)
    powers = _power(relax.op.abs(node.expr(0)), p, node.dtype())
    return _power(relax.op.sum(powers, axis=_spatial(node), keepdims=True), 1 / p, node.dtype())


def _power(data: Any, exponent: float, dtype: str) -> Any:
    if exponent == 2:
        return relax.op.multiply(data, data)
    if exponent == 0.5:
        return relax.op.sqrt(data)
    return data if exponent == 1 else relax.op.power(data, relax.const(exponent, dtype))


def _spatial(node: Node) -> list[int]:
    return list(range(2, len(node.shape())))


@converter("GlobalAveragePool")
def global_average_pool(node: Node) -> Any:
    return relax.op.mean(node.expr(0), axis=_spatial(node), keepdims=True)


@converter("GlobalMaxPool")
def global_max_pool(node: Node) -> Any:
    return relax.op.max(node.expr(0), axis=_spatial(node), keepdims=True)
