"""Keeps the user's layer names: records for which layer each binding was made, and names the variables so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from lhcc.frontend.checks import Unsupported


class LayerBuilder:
    """A BlockBuilder that remembers which layer (`layer`, set by the frontend) each binding was emitted for."""

    def __init__(self) -> None:
        self.block = relax.BlockBuilder()
        self.layer = ""
        self.layer_of: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)

    def emit(self, expr: Any, name_hint: str = "") -> Any:
        return self._remember(self.block.emit(expr, name_hint))

    def emit_te(self, *args: Any, **kwargs: Any) -> Any:
        return self._remember(self.block.emit_te(*args, **kwargs))

    def match_cast(self, *args: Any, **kwargs: Any) -> Any:
        return self._remember(self.block.match_cast(*args, **kwargs))

    def _remember(self, var: Any) -> Any:
        self.layer_of[var.name] = self.layer
        return var

    def main(self, parameters: Sequence[Any], body: Callable[[], list[Any]]) -> int:
        """Makes the function `main` of what `body` emits and returns, and tells how many outputs it has."""
        failure: BaseException | None = None
        with self.block.function("main", list(parameters)):
            with self.block.dataflow():
                try:
                    outputs = body()
                except BaseException as error:  # the blocks are closed first, or TVM complains on stderr
                    failure, outputs = error, [relax.const(0)]
                result = self.block.emit_output(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
            self.block.emit_func_output(result)
        if failure is not None:
            raise failure
        return len(outputs)

    def finish(self, **attributes: Any) -> tvm.IRModule:
        """The module built, with every variable of `main` renamed to its layer.

        A nested expression is bound by the normaliser before the binding that was asked for: it belongs to the layer
        of the next recorded binding.  An output that is only an alias takes the name of what it stands for.  Operators
        that TVM can express but not lower (sorting, scans) are refused here.
        """
        module = self.block.get()
        main = module["main"]
        names: dict[str, str] = {}
        waiting: list[tuple[str, Any]] = []
        unsupported = Unsupported()
        for block in main.body.blocks:
            for binding in block.bindings:
                operator = getattr(binding.value, "op", None)
                own = binding.var.name
                if isinstance(binding.value, relax.Var):
                    layer = names.get(binding.value.name)
                else:
                    layer = self.layer_of.get(own)
                waiting.append((own, operator))
                if layer is None:
                    continue
                for name, called in waiting:
                    names[name] = layer
                    if isinstance(called, tvm.ir.Op) and not _lowers(called):
                        unsupported.note(called.name.removeprefix("relax."), layer)
                waiting.clear()
        unsupported.raise_if_any()
        renamed = _Renamer(names).visit_expr(main).with_attrs({**attributes, "global_symbol": "main"})
        module.update_func(module.get_global_var("main"), renamed)
        return module


# What needs no lowering: all shapes are static, so nothing asks for one at run time.
CALLS = [tvm.ir.Op.get("relax.call_tir"), tvm.ir.Op.get("relax.shape_of")]


def _lowers(operator: Any) -> bool:
    """Whether the operator can be compiled: those of our dialects always can."""
    if operator in CALLS or operator.name.startswith("lhcc."):
        return True
    return operator.get_attr("FLegalize") is not None


@mutator
class _Renamer(PyExprMutator):
    """Variables are told apart by identity, so several may bear one name."""

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__()
        self.names = names

    def visit_var_def_(self, var: Any) -> Any:
        return relax.Var(self.names[var.name], var.ty) if var.name in self.names else var

    def visit_dataflow_var_def_(self, var: Any) -> Any:
        return relax.DataflowVar(self.names[var.name], var.ty) if var.name in self.names else var
