"""Gives every activation function one form, also those that exporters spell out.

relax.nn.relu(x), relax.clip(x, 0, 6), ...          ->  lhcc.activation(x, "relu"), lhcc.activation(x, "clip 0 6")
x * relax.sigmoid(x)                                ->  lhcc.activation(x, "silu")
x * clip(x + 3, 0, 6) / 6                           ->  lhcc.activation(x, "hard_swish")
clip(x + 3, 0, 6) / 6                               ->  lhcc.activation(x, "hard_sigmoid 1/6 0.5")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from lhcc.ir import dialect
from lhcc.ir.graph import Rewriter, array_of, attributes, dtype_of, op_name, shape_of
from lhcc.ir.log import Log


def _clip(call: Any) -> str:
    return f"clip {_number(call.args[1])!r} {_number(call.args[2])!r}"


SIMPLE: dict[str, Callable[[Any], str]] = {
    "relax.nn.relu": lambda call: "relu",
    "relax.clip": _clip,
    "relax.nn.leakyrelu": lambda call: f"leaky {float(call.attrs.alpha)!r}",
    "relax.sigmoid": lambda call: "sigmoid",
    "relax.nn.silu": lambda call: "silu",
    "relax.tanh": lambda call: "tanh",
    "relax.nn.gelu": lambda call: "gelu",
}


def _number(expr: Any) -> float:
    return float(getattr(expr, "value", expr))


@dataclass(frozen=True)
class RecogniseActivations:
    name = "recognise_activations"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def visit(name: str, value: Any) -> Any:
            operator = op_name(value)
            if not operator or not hasattr(value.ty, "dtype") or dtype_of(value) != "float32":
                return None
            if operator in SIMPLE:
                return _merge_clips(rewriter, value.args[0], SIMPLE[operator](value))
            if operator == "relax.multiply":
                return _product(rewriter, value)
            if operator == "relax.divide":
                return _quotient(rewriter, value)
            return None

        return rewriter.run(visit)


def _activation(x: Any, activation: str) -> Any:
    return dialect.call("activation", [x], shape_of(x), activation=activation)


def _definition(rewriter: Rewriter, expr: Any) -> tuple[str, Any]:
    """The activation that `expr` is the result of, and its input; ("", None) for anything else."""
    value = rewriter.value(expr)
    if op_name(value) != "lhcc.activation":
        return "", None
    return attributes(value)["activation"], value.args[0]


def _merge_clips(rewriter: Rewriter, x: Any, activation: str) -> Any:
    """clip(clip(x, 0, inf), -inf, 6) is one clip when the intervals overlap."""
    inner, source = _definition(rewriter, x)
    if not (activation.startswith("clip") and inner.startswith("clip")):
        return _activation(x, activation)
    low, high = map(float, activation.split()[1:])
    inner_low, inner_high = map(float, inner.split()[1:])
    if max(low, inner_low) > min(high, inner_high):
        return _activation(x, activation)
    return _activation(source, f"clip {max(low, inner_low)!r} {min(high, inner_high)!r}")


def _scalar(expr: Any) -> float | None:
    array = array_of(expr)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _relu6_of_three_more(rewriter: Rewriter, expr: Any) -> Any:
    """x, where `expr` is clip(x + 3, 0, 6)."""
    activation, source = _definition(rewriter, expr)
    if not activation.startswith("clip") or [float(n) for n in activation.split()[1:]] != [0.0, 6.0]:
        return None
    inner = rewriter.value(source)
    if op_name(inner) != "relax.add" or _scalar(inner.args[1]) != 3.0 or shape_of(inner) != shape_of(inner.args[0]):
        return None
    return inner.args[0]


def _product(rewriter: Rewriter, call: Any) -> Any:
    for x, gate in (call.args, reversed(call.args)):
        activation, source = _definition(rewriter, gate)
        if source is None or source != x or shape_of(x) != shape_of(call):
            continue
        if activation == "sigmoid":
            return _activation(x, "silu")
        if activation.startswith("hard_sigmoid"):
            slope, offset = map(float, activation.split()[1:])
            if np.isclose(slope, 1 / 6) and offset == 0.5:
                return _activation(x, "hard_swish")
    return None


def _quotient(rewriter: Rewriter, call: Any) -> Any:
    if _scalar(call.args[1]) != 6.0 or shape_of(call.args[0]) != shape_of(call):
        return None
    x = _relu6_of_three_more(rewriter, call.args[0])
    if x is not None:
        return _activation(x, f"hard_sigmoid {1 / 6!r} 0.5")
    product = rewriter.value(call.args[0])
    if op_name(product) == "relax.multiply":
        for x, gate in (product.args, reversed(product.args)):
            if _relu6_of_three_more(rewriter, gate) == x:
                return _activation(x, "hard_swish")
    return None
