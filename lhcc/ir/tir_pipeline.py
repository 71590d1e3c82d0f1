"""How PrimFuncs become machine code: those that our generators wrote need very little, the rest TVM's whole pipeline.

Skipping the passes that have nothing to do makes compiling three times faster; StorageRewrite would also merge the
registers of a kernel into one buffer, which LLVM then keeps in memory.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir.pipeline import default_s_tir_pipeline, finalize_device_passes, finalize_host_passes

from lhcc.ir.tir import is_lowered

NAME = "lhcc"


def _short() -> Any:
    return tvm.ir.transform.Sequential(
        [
            tirx.transform.FlattenBuffer(),
            tirx.transform.StmtSimplify(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
        ]
    )


def _factory() -> Any:
    whole = default_s_tir_pipeline()[0]

    @tvm.transform.module_pass(opt_level=0)
    def pipeline(mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        lowered = {gv: f for gv, f in mod.functions.items() if is_lowered(f)}
        rest = {gv: f for gv, f in mod.functions.items() if not is_lowered(f)}
        functions: dict[Any, Any] = {}
        if lowered:
            functions.update(_short()(tvm.IRModule(lowered, attrs=mod.attrs)).functions)
        if rest:
            functions.update(whole(tvm.IRModule(rest, attrs=mod.attrs)).functions)
        return tvm.IRModule(functions, attrs=mod.attrs)

    return pipeline, finalize_host_passes, finalize_device_passes


tirx.register_tir_pipeline(NAME, _factory)
