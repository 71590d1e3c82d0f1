"""The lhcc dialect of Relax: the operators that carry an encoding, a layout and a fused epilogue as attributes.

Every dialect call states the shape of its result in the attribute `shape`; the passes that make the calls know it, so
one type rule serves all of them; `dtype` is there when it is not float32.

| operator | operands | meaning |
|---|---|---|
| lhcc.conv2d | x, weight (O, I/groups, kh, kw), bias (O)[, residual] | convolution with fused epilogue |
| lhcc.dense | x (M, K), weight (N, K), bias (N)[, residual] | matrix product with fused epilogue |
| lhcc.activation | x | an activation function, by name |
| lhcc.pool2d | x | maximum over windows |
| lhcc.global_average | x | mean over height and width |
| lhcc.unfold | x | what a convolution reads at each of its outputs, as channels (channel, kernel row, kernel column) |
| lhcc.elementwise | x, y | a function of two maps, by the name of the Relax operator |
| lhcc.reorder | x, order (C) | channel c of the result is channel order[c] of x |
| lhcc.to_blocked | x[, order (C)] | (N, C, H, W) as (N, C/b, H, W, b), padded with zeros, perhaps reordered |
| lhcc.from_blocked | x[, place (C)] | (N, C/b, H, W, b) as (N, C, H, W); where each channel goes, if it does not stay |
| lhcc.widen | x | copies of a planar map, padded and shifted, as a convolution reads them |
| lhcc.wide_conv2d | widened x, values, bias, table[, residual] | a convolution by single weights or patterns |
| lhcc.tiles | x, weights, bias, plan[, residual] | one of the above, encoded for a kernel |
"""

from __future__ import annotations

from functools import cache
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Op

OPERATORS = (
    "conv2d",
    "dense",
    "activation",
    "pool2d",
    "global_average",
    "unfold",
    "elementwise",
    "reorder",
    "to_blocked",
    "from_blocked",
    "widen",
    "wide_conv2d",
    "tiles",
)


def _infer(call: Any, builder: Any) -> Any:
    dtype = str(call.attrs["dtype"]) if "dtype" in call.attrs else "float32"
    return relax.TensorType([int(extent) for extent in call.attrs["shape"]], dtype)


@cache
def _operator(name: str) -> Any:
    full = f"lhcc.{name}"
    if name not in OPERATORS:
        raise KeyError(full)
    tvm.ir._ffi_api.RegisterOp(full, "see lhcc.ir.dialect")
    operator = Op.get(full)
    operator.set_attr("FInferType", _infer)
    operator.set_attr("FPurity", True)
    return operator


def call(name: str, operands: list[Any], shape: tuple[int, ...], **attrs: Any) -> Any:
    """A dialect call; attributes are strings, numbers and tuples of them."""
    if attrs.get("dtype") == "float32":
        del attrs["dtype"]
    node = tvm.ir.make_node("ir.DictAttrs", shape=list(shape), **{k: _attr(v) for k, v in attrs.items()})
    return relax.Call(_operator(name), operands, node)


def _attr(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
