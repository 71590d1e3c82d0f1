"""Turns every dialect call into a call of a generated kernel, and records what each kernel call stands for.

    y = lhcc.tiles(x, weights, bias, plan, spec=...)    ->  y = relax.call_tir(conv2d_3, (x, weights, bias, plan))

Layers of equal geometry share one kernel: only the tables differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import tvm
from tvm import relax

from lhcc.ir.graph import Rewriter, attributes, is_tensor, op_name, shape_of
from lhcc.ir.log import LayerRecord, Log

# (operator, attributes, shapes of the operands) -> PrimFunc
TOLD = {"op", "encoding", "density", "macs", "macs_kept", "schedule"}  # about a layer, to people

Generator = Callable[[str, dict[str, Any], list[tuple[int, ...]]], Any]


@dataclass(frozen=True)
class LowerKernels:
    generate: Generator
    elsewhere: bool = False  # the kernels do not run on this processor;
    plain: Generator | None = None  # what computes the same on it, if there is such a thing,
    tolerance: float = 1e-5  # so closely
    layers: list[LayerRecord] = field(default_factory=list)
    name = "lower_kernels"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)
        kept = {gv: function for gv, function in mod.functions.items() if gv.name_hint != "main"}
        taken = {gv.name_hint for gv in kept}
        known: dict[tuple[Any, ...], relax.GlobalVar] = {}

        def visit(name: str, call: Any) -> Any:
            operator = op_name(call)
            if operator == "relax.call_tir":
                kernel = call.args[0].name_hint
                self.layers.append(LayerRecord(name, kernel.rstrip("0123456789_"), kernel, bytes_moved=_traffic(call)))
                return None
            if not operator.startswith("lhcc."):
                return None
            attrs = attributes(call)
            shapes = [shape_of(arg) for arg in call.args]
            key = (operator, *_signature(operator, attrs, shapes))
            if key not in known:
                label = _unused(attrs.get("op", operator.removeprefix("lhcc.")), taken)
                known[key] = rewriter.builder.add_func(self.generate(operator, attrs, shapes), label)
            gv = known[key]
            self.layers.append(_record(name, operator, attrs, gv.name_hint, _traffic(call)))
            return relax.call_tir(gv, relax.Tuple(list(call.args)), call.ty)

        main = rewriter.run(visit)["main"]
        return tvm.IRModule({relax.GlobalVar("main"): main, **kept, **rewriter.builder.get().functions})


def _signature(operator: str, attrs: dict[str, Any], shapes: list[tuple[int, ...]]) -> tuple[Any, ...]:
    """Calls of equal signature can share a kernel: one that reads tables is open in its channel counts."""
    if operator == "lhcc.tiles":
        return attrs["spec"], len(attrs["shape"]), len(shapes)
    return *((key, attrs[key]) for key in sorted(attrs.keys() - TOLD)), *shapes


def _unused(label: str, taken: set[str]) -> str:
    number = 0
    while f"{label}_{number}" in taken:
        number += 1
    taken.add(f"{label}_{number}")
    return f"{label}_{number}"


def _record(name: str, operator: str, attrs: dict[str, Any], kernel: str, traffic: int) -> LayerRecord:
    return LayerRecord(
        name,
        attrs.get("op", operator.removeprefix("lhcc.")),
        kernel,
        attrs.get("encoding", ""),
        attrs.get("density", 1.0),
        attrs.get("macs", 0),
        attrs.get("macs_kept", 0),
        0,
        traffic,
        attrs.get("schedule", ""),
    )


def _bytes(expr: Any) -> int:
    if isinstance(expr, relax.Tuple):
        return sum(map(_bytes, expr.fields))
    return prod(shape_of(expr)) * np.dtype(str(expr.ty.dtype)).itemsize if is_tensor(expr) else 0


def _traffic(call: Any) -> int:
    """Bytes that the call must move at least: every operand read and every result written once."""
    operands = call.args[1:] if op_name(call) == "relax.call_tir" else call.args
    types = call.ty.fields if isinstance(call.ty, relax.TupleType) else [call.ty]
    results = sum(prod(int(n) for n in t.shape.values) * np.dtype(str(t.dtype)).itemsize for t in types)
    return results + sum(map(_bytes, operands))
