"""The loops of a kernel in the form that the printer reads: flat buffers, scalars, libm where C has no operator.

Kernels of our own generators have this form from the beginning.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx

from lhcc.ir.tir import is_lowered


def loops(name: str, function: Any) -> Any:
    if is_lowered(function):
        return function
    target = tvm.target.Target({"kind": "c"})
    module = tvm.IRModule({name: function.with_attr("global_symbol", name).with_attr("target", target)})
    with tvm.transform.PassContext(opt_level=3, config={"tirx.disable_assert": True}):
        (lowered,) = _passes()(module).functions.values()
    return lowered


def _passes() -> Any:
    """TVM's own order, without what vectors and accelerators need: the C compiler makes vectors of plain loops."""
    t, s = tirx.transform, s_tir.transform
    return tvm.ir.transform.Sequential(
        [
            s.CanonicalizeLoop(),
            s.LowerInitBlock(),
            s.PlanAndUpdateBufferAllocationLocation(),
            s.ConvertBlocksToOpaque(),
            s.CompactBufferAllocation(),
            s.LowerMatchBuffer(),
            s.StmtSimplify(),
            s.LowerOpaqueBlock(),
            t.FlattenBuffer(),
            t.NarrowDataType(32),
            s.LoopPartition(),
            t.VectorizeLoop(False),
            t.StorageRewrite(),
            t.UnrollLoop(),
            t.StmtSimplify(),
            t.RemoveNoOp(),
            s.RewriteUnsafeSelect(),
            t.LowerIntrin(),
        ]
    )
