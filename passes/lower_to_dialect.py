"""Turns convolutions and matrix products with constant weights into the lhcc dialect.

y = relax.nn.conv2d(x, W)             ->  y = lhcc.conv2d(x, W, bias=0)
y = relax.nn.conv2d_transpose(x, W)   ->  y = lhcc.conv2d(x, W', bias=0, transposed=1)   W' is (O, I/groups, kh, kw)
y = relax.matmul(x, W)                ->  y = lhcc.dense(x, W.T, bias=0)                 leading axes of x flattened
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, array_of, constant, dtype_of, op_name, plain, shape_of
from lhcc.ir.log import Log


@dataclass(frozen=True)
class LowerToDialect:
    name = "lower_to_dialect"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)
        rules = {
            "relax.nn.conv2d": _conv2d,
            "relax.nn.conv2d_transpose": _conv2d_transpose,
            "relax.matmul": _matmul,
        }

        def visit(name: str, value: Any) -> Any:
            rule = rules.get(op_name(value))
            return rule(rewriter, name, value) if rule else None

        return rewriter.run(visit)


def _weight(rewriter: Rewriter, name: str, call: Any) -> Any:
    weight = array_of(call.args[1])
    if weight is None:
        return rewriter.decline(name, "its weight is computed at run time")
    if dtype_of(call.args[0]) != "float32" or weight.dtype != np.float32:
        return rewriter.decline(name, f"its element type is {dtype_of(call.args[0])}, not float32")
    return weight


def _conv2d(rewriter: Rewriter, name: str, call: Any) -> Any:
    weight, attrs = _weight(rewriter, name, call), call.attrs
    if weight is None:
        return None
    if (attrs.data_layout, attrs.kernel_layout) != ("NCHW", "OIHW"):
        return rewriter.decline(name, f"its layout is {attrs.data_layout}, not NCHW")
    return _conv(call, weight, transposed=0)


def _conv2d_transpose(rewriter: Rewriter, name: str, call: Any) -> Any:
    weight, attrs = _weight(rewriter, name, call), call.attrs
    if weight is None:
        return None
    if (attrs.data_layout, attrs.kernel_layout) != ("NCHW", "IOHW"):
        return rewriter.decline(name, f"its layout is {attrs.data_layout}, not NCHW")
    groups = int(attrs.groups)
    inputs, outputs, height, width = weight.shape
    split = weight.reshape(groups, inputs // groups, outputs, height, width)
    turned = split.transpose(0, 2, 1, 3, 4).reshape(groups * outputs, inputs // groups, height, width)
    return _conv(call, np.ascontiguousarray(turned), transposed=1)


def _conv(call: Any, weight: Any, transposed: int) -> Any:
    attrs = call.attrs
    return dialect.call(
        "conv2d",
        [call.args[0], constant(weight), constant(np.zeros(weight.shape[0], np.float32))],
        shape_of(call),
        strides=plain(attrs.strides),
        padding=plain(attrs.padding),
        dilation=plain(attrs.dilation),
        groups=int(attrs.groups),
        transposed=transposed,
        activation="",
        residual="",
    )


def _matmul(rewriter: Rewriter, name: str, call: Any) -> Any:
    if array_of(call.args[1]) is None:
        return rewriter.decline(name, "both factors are computed at run time")
    weight = _weight(rewriter, name, call)
    if weight is None:
        return None
    source = shape_of(call.args[0])
    if weight.ndim != 2 or not source or 0 in shape_of(call):
        return rewriter.decline(name, f"its constant factor has {weight.ndim} axes, not 2")
    rows, result = int(np.prod(source[:-1])), shape_of(call)
    x = call.args[0] if len(source) == 2 else rewriter.emit(relax.op.reshape(call.args[0], (rows, source[-1])), name)
    columns = weight.shape[1]
    operands = [x, constant(np.ascontiguousarray(weight.T)), constant(np.zeros(columns, np.float32))]
    dense = dialect.call("dense", operands, (rows, columns), activation="", residual="")
    return dense if result == (rows, columns) else relax.op.reshape(rewriter.emit(dense, name), result)
