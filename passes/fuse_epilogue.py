"""Fuses residual additions and activations into the convolution or matrix product that feeds them.

y = act(lhcc.conv2d(x, W, b))        ->  y = lhcc.conv2d(x, W, b, activation=act)
y = lhcc.conv2d(x, W, b) + r         ->  y = lhcc.conv2d(x, W, b, r, residual="before")
y = act(lhcc.conv2d(x, W, b)) + r    ->  y = lhcc.conv2d(x, W, b, r, residual="after", activation=act)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, array_of, attributes, op_name, shape_of
from lhcc.ir.log import Log

LAYERS = ("lhcc.conv2d", "lhcc.dense")


@dataclass(frozen=True)
class FuseEpilogue:
    name = "fuse_epilogue"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)
        rules = {"lhcc.activation": _activation, "relax.add": _residual}

        def visit(name: str, value: Any) -> Any:
            rule = rules.get(op_name(value))
            return rule(rewriter, name, value) if rule else None

        return rewriter.run(visit)


def _again(rewriter: Rewriter, layer: Any, var: Any, extra: list[Any], **changes: Any) -> Any:
    """The same layer with a larger epilogue, under its own name."""
    attrs = {**attributes(layer), **changes}
    call = dialect.call(op_name(layer).removeprefix("lhcc."), [*layer.args, *extra], attrs.pop("shape"), **attrs)
    return rewriter.emit(call, rewriter.name(var))


def _activation(rewriter: Rewriter, name: str, call: Any) -> Any:
    source, activation = call.args[0], attributes(call)["activation"]
    layer = rewriter.value(source)
    if op_name(layer) not in LAYERS:
        return None
    layer_name, attrs = rewriter.name(source), attributes(layer)
    if not rewriter.used_once(source):
        return rewriter.decline(layer_name, f"{activation}: the value before it has other users")
    if attrs["activation"] or attrs["residual"] == "after":
        return rewriter.decline(layer_name, f"{activation}: it already ends in {attrs['activation']}")
    return _again(rewriter, layer, source, [], activation=activation)


def _residual(rewriter: Rewriter, name: str, call: Any) -> Any:
    left, right = call.args
    if array_of(left) is not None or array_of(right) is not None:
        return None
    if shape_of(left) != shape_of(right):
        return None
    # of two layers the one without an activation: its own can still follow the addition
    for layer_var, other in sorted(((left, right), (right, left)), key=lambda pair: _rank(rewriter, pair[0])):
        layer = rewriter.value(layer_var)
        if op_name(layer) not in LAYERS or not rewriter.used_once(layer_var) or layer_var == other:
            continue
        attrs = attributes(layer)
        if attrs["residual"]:
            rewriter.decline(rewriter.name(layer_var), "a second residual follows the first")
            continue
        where = "after" if attrs["activation"] else "before"
        return _again(rewriter, layer, layer_var, [other], residual=where)
    return None


def _rank(rewriter: Rewriter, var: Any) -> tuple[bool, int]:
    layer = rewriter.value(var)
    busy = op_name(layer) in LAYERS and bool(attributes(layer)["activation"])
    return busy, -rewriter.position(var)
