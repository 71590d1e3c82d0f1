"""Converters of elementwise ATen operators that TVM's importer takes for simpler ones, and of any and all."""

from __future__ import annotations

from typing import Any

from tvm import relax

from lhcc.frontend import layers
from lhcc.frontend.torch_ops import arguments, converter


@converter("elu.default")
def elu(node: Any, importer: Any) -> Any:
    """scale * x for positive x, else scale * alpha * (exp(input_scale * x) - 1); selu is one, too."""
    x, alpha, scale, input_scale = arguments(node, importer)
    dtype = layers.dtype_of(x)

    def number(value: float) -> Any:
        return relax.const(float(value), dtype)

    exponent = relax.op.multiply(relax.op.minimum(x, number(0)), number(input_scale))
    low = relax.op.multiply(number(scale * alpha), relax.op.subtract(relax.op.exp(exponent), number(1)))
    return relax.op.where(relax.op.greater(x, number(0)), relax.op.multiply(x, number(scale)), low)


@converter("div.Tensor", "div.Scalar")
def divide(node: Any, importer: Any) -> Any:
    """True division: of integers the result is a float."""
    left, right = arguments(node, importer)
    dtype = str(node.meta["val"].dtype).removeprefix("torch.")
    if all(not isinstance(v, relax.Expr) or layers.dtype_of(v) == dtype for v in (left, right)):
        return importer.convert_map[node.target.__name__](node)
    left, right = (
        relax.op.astype(v, dtype) if isinstance(v, relax.Expr) else relax.const(float(v), dtype) for v in (left, right)
    )
    return relax.op.divide(left, right)


@converter("mul.Tensor")
def multiply(node: Any, importer: Any) -> Any:
    left, right = arguments(node, importer)
    if str(node.meta["val"].dtype) == "torch.bool":
        return relax.op.logical_and(left, right)
    return importer.convert_map["mul.Tensor"](node)


@converter("eq.Scalar", "ne.Scalar")
def compare(node: Any, importer: Any) -> Any:
    data, value = arguments(node, importer)
    if layers.dtype_of(data) != "bool":
        return importer.convert_map[node.target.__name__](node)
    op = relax.op.equal if node.target.__name__ == "eq.Scalar" else relax.op.not_equal
    return op(relax.op.astype(data, "float32"), relax.const(float(value), "float32"))


@converter("any.default", "any.dim", "any.dims", "all.default", "all.dim", "all.dims")
def any_or_all(node: Any, importer: Any) -> Any:
    data, axes, keep = [*arguments(node, importer), None, False][:3]
    if layers.dtype_of(data) != "bool":
        data = relax.op.not_equal(data, relax.const(0, layers.dtype_of(data)))
    op = relax.op.max if node.target.__name__.startswith("any") else relax.op.min
    return relax.op.astype(op(relax.op.astype(data, "int8"), axis=axes, keepdims=keep), "bool")
