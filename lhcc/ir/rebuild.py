"""Builds a module anew with other channels in its maps: fewer of them, or in another order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.channels import ELEMENTWISE, RESHAPING, Array, Ids, is_depthwise
from lhcc.ir.graph import Rewriter, array_of, attributes, constant, op_name, shape_of, values_of
from lhcc.ir.log import Log


def rebuild(
    mod: tvm.IRModule, log: Log, pass_name: str, takes: Mapping[Any, Ids], weights: Mapping[Any, tuple[Array, Array]]
) -> tvm.IRModule:
    """The module with the channels `takes[value]` of every value only, in that order; `weights` replaces the weight and
    bias of layers, in the old order."""
    rewriter = Rewriter(mod, log, pass_name)

    def intact(var: Any) -> bool:
        take = takes.get(var)
        return take is None or (len(take) == shape_of(var)[1] and bool((take == np.arange(len(take))).all()))

    def visit(name: str, call: Any) -> Any:
        var, old, operator = rewriter.variable, rewriter.original, op_name(rewriter.original)
        if operator == "lhcc.reorder" and var in takes:
            return _reordered(call, takes[old.args[0]], takes[var], shape_of(old))
        if not operator or (var not in weights and all(map(intact, [var, *old.args[:1]]))):
            return None
        take = takes[var]
        shape = (shape_of(old)[0], len(take), *shape_of(old)[2:])
        if operator in ("lhcc.conv2d", "lhcc.dense"):
            attrs = {**attributes(old), "shape": shape}
            weight, bias = weights.get(var) or (values_of(old.args[1]), values_of(old.args[2]))
            if is_depthwise(old):
                attrs["groups"] = len(take)
                weight = weight[take]
            else:
                weight = weight[take][:, takes[old.args[0]]]
            operands = [call.args[0], constant(weight), constant(bias[take]), *call.args[3:]]
            return dialect.call(operator.removeprefix("lhcc."), operands, attrs.pop("shape"), **attrs)
        if operator.startswith("lhcc."):
            attrs = attributes(old)
            attrs.pop("shape")
            return dialect.call(operator.removeprefix("lhcc."), list(call.args), shape, **attrs)
        if operator in RESHAPING:
            return relax.op.reshape(call.args[0], shape)
        if operator in ELEMENTWISE:
            return relax.Call(call.op, [_sliced(arg, take, shape_of(old)) for arg in call.args], call.attrs)
        return None

    return rewriter.run(visit, typed=False)


def _sliced(operand: Any, take: Ids, shape: tuple[int, ...]) -> Any:
    """A constant operand of an elementwise operator, with the channels `take` if it has channels."""
    values = array_of(operand)
    axis = 0 if values is None else values.ndim - len(shape) + 1
    if values is None or axis < 0 or values.shape[axis] == 1:
        return operand
    return constant(np.take(values, take, axis))


def _reordered(call: Any, source: Ids, take: Ids, shape: tuple[int, ...]) -> Any:
    """A seam between maps in their new orders; none where it would leave every channel in its place."""
    order = np.argsort(source)[values_of(call.args[1])[take]].astype(np.int32)
    if (order == np.arange(len(source))).all():
        return call.args[0]
    return dialect.call("reorder", [call.args[0], constant(order)], shape)
