"""A module written call by call: kernels in the order in which they run, equal ones once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import tvm
from tvm import relax

from lhcc.ir.log import LayerRecord, Lowered, Reason


class KernelCalls:
    def __init__(self) -> None:
        self.layers: list[LayerRecord] = []
        self.reasons: list[Reason] = []
        self._builder = relax.BlockBuilder()
        self._kernels: dict[Hashable, Any] = {}
        self._bindings: list[Any] = []

    def call(
        self,
        name: str,
        label: str,
        key: Hashable,
        make: Callable[[], Any],
        operands: Sequence[Any],
        shape: Sequence[int],
        dtype: str,
        **cost: Any,
    ) -> Any:
        """A call of the kernel that `make` builds, or of that of an earlier call with this key."""
        if key not in self._kernels:
            self._kernels[key] = self._builder.add_func(make(), f"{label}_{len(self._kernels)}")
        kernel = self._kernels[key]
        call = relax.call_tir(kernel, relax.Tuple(list(operands)), relax.TensorType(list(shape), dtype))
        value = self._builder.normalize(call)
        var = relax.DataflowVar(name, value.ty)
        self._bindings.append(relax.VarBinding(var, value))
        self.layers.append(LayerRecord(name, label, kernel.name_hint, **cost))
        return var

    def lowered(self, parameters: Sequence[Any], outputs: Sequence[Any]) -> Lowered:
        """The module whose `main` makes the calls."""
        result = outputs[0] if len(outputs) == 1 else self._builder.normalize(relax.Tuple(list(outputs)))
        final = relax.Var("output", result.ty)
        block = relax.DataflowBlock([*self._bindings, relax.VarBinding(final, result)])
        body = self._builder.normalize(relax.SeqExpr([block], final))
        main = relax.Function(list(parameters), body, result.ty).with_attr("global_symbol", "main")
        mod = tvm.IRModule({relax.GlobalVar("main"): main, **self._builder.get().functions})
        return Lowered(mod, self.layers, self.reasons)
