"""Reductions for which TVM's converters are not used."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lhcc.frontend.onnx_ops.registry import Node, converter


@converter("ReduceMax", "ReduceMin")
def extremum(node: Node) -> Any:
    """Also of booleans, as the extremum of 0 and 1."""
    axes = node.constant(1) if node.opset >= 18 else None
    axes = node.attr("axes") if axes is None else axes
    if (axes is None or not len(axes)) and node.attr("noop_with_empty_axes", 0):
        return node.value(0)
    over = None if axes is None or not len(axes) else [int(a) for a in np.atleast_1d(axes)]
    op, keep = {"ReduceMax": relax.op.max, "ReduceMin": relax.op.min}[node.op], bool(node.attr("keepdims", 1))
    if node.dtype() == "bool":
        return relax.op.astype(op(relax.op.astype(node.expr(0), "int8"), over, keep), "bool")
    return op(node.expr(0), over, keep)


@converter("LpNormalization")
def lp_normalization(node: Node) -> Any:
    """Divided by the norm along one axis; zeros stay where the norm is zero."""
    data, axis, zero = node.expr(0), [node.attr("axis", -1)], relax.const(0, node.dtype())
    if node.attr("p", 2) == 1:
        norm = node.emit(relax.op.sum(relax.op.abs(data), axis, keepdims=True))
    else:
        norm = node.emit(relax.op.sqrt(relax.op.sum(relax.op.multiply(data, data), axis, keepdims=True)))
    divisor = relax.op.where(relax.op.equal(norm, zero), relax.const(1, node.dtype()), norm)
    return relax.op.divide(data, divisor)


@converter("Einsum")
def einsum(node: Node) -> Any:
    operands = [node.expr(i) for i in range(len(node.inputs))]
    return relax.op.einsum(tuple(operands), node.attr("equation"))
