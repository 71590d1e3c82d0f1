"""Lowers the operators that have no kernel of ours through TVM: legalised, fused, loops made parallel and vector.

y = relax.nn.softmax(x)     ->  y = relax.call_tir(softmax, (x,))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx

from lhcc.ir import extrema, taking
from lhcc.ir.graph import Rewriter, calls, op_name
from lhcc.ir.log import Log


@dataclass(frozen=True)
class LowerGeneric:
    schedule: Callable[[Any], Any]  # PrimFunc -> PrimFunc
    name = "lower_generic"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        if all(op_name(value).startswith(("lhcc.", "relax.reshape")) or not op_name(value) for _, value in calls(mod)):
            return mod
        legal = tvm.transform.Sequential(
            [
                relax.transform.DecomposeOpsForInference(),
                relax.transform.LegalizeOps({**extrema.RULES, **taking.RULES}),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
                relax.transform.DeadCodeElimination(),
            ]
        )
        with tvm.transform.PassContext(opt_level=3):
            lowered = legal(mod)
        for gv, function in lowered.functions.items():
            if isinstance(function, tirx.PrimFunc):
                lowered[gv] = self.schedule(function)
        # one walk of our own brings `main` back to the one form that the other passes read
        return Rewriter(lowered, log, self.name).run(lambda name, value: None)
