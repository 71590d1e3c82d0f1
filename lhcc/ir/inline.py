"""Calls of functions that were lowered by themselves become the kernel calls of which these consist.

y = relax.call_dps_packed("integers", (x,))
  ->  a = relax.call_tir(integers_take_0, (x,)); y = relax.call_tir(integers_give_1, (a,))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Op

from lhcc.ir.graph import Rewriter, op_name
from lhcc.ir.int_calls import PACKED
from lhcc.ir.log import LayerRecord, Log, Lowered


def inline(lowered: Lowered, parts: Mapping[str, Lowered], circuits: Mapping[str, str]) -> Lowered:
    """`parts` by symbol; calls of circuits stay, with a layer record under the circuit's name."""
    records, layers = iter(lowered.layers), list[LayerRecord]()
    kernels = {gv: function for gv, function in lowered.mod.functions.items() if gv.name_hint != "main"}
    rewriter = Rewriter(lowered.mod, Log(), "inline")

    def visit(name: str, value: Any) -> Any:
        if op_name(value) == "relax.call_tir":
            layers.append(next(records))
        if op_name(value) != PACKED:
            return None
        symbol = str(value.args[0].global_symbol)
        if symbol in circuits:
            layers.append(LayerRecord(circuits[symbol], "circuit", symbol))
            return None
        inlined = _Inlined(parts[symbol], f"part{len(layers)}", rewriter)
        layers.extend(inlined.layers)
        return inlined.result(value.args[1])

    main = rewriter.run(visit)["main"]
    mod = tvm.IRModule({relax.GlobalVar("main"): main, **kernels, **rewriter.builder.get().functions})
    return replace(lowered, mod=mod, layers=layers)


class _Inlined:
    """The bindings of one part, with its kernels under names that nobody else has."""

    def __init__(self, part: Lowered, label: str, rewriter: Rewriter) -> None:
        self.main, self.rewriter, self.values = part.mod["main"], rewriter, dict[Any, Any]()
        self.renamed = {
            gv.name_hint: rewriter.builder.add_func(function, f"{label}_{gv.name_hint}")
            for gv, function in part.mod.functions.items()
            if gv.name_hint != "main"
        }
        self.layers = [replace(layer, kernel=self.renamed[layer.kernel].name_hint) for layer in part.layers]

    def result(self, operands: Any) -> Any:
        given = operands.fields if isinstance(operands, relax.Tuple) else [operands]
        self.values.update(zip(self.main.params, given, strict=True))
        for block in self.main.body.blocks:
            for binding in block.bindings:
                value = self._value(binding.value)
                if not isinstance(value, (relax.Tuple, relax.Var)):
                    value = self.rewriter.emit(value, binding.var.name)
                self.values[binding.var] = value
        return self._value(self.main.body.body)

    def _value(self, expr: Any) -> Any:
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._value(item) for item in expr.fields])
        if isinstance(expr, relax.Call) and isinstance(expr.op, Op):
            kernel = self.renamed[expr.args[0].name_hint]
            return relax.call_tir(kernel, self._value(expr.args[1]), list(expr.ty_args)[0])
        return expr
