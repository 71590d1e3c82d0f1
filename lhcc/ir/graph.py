"""A dataflow `main` read and rewritten binding by binding: the one way in which passes change the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GenericConst, Op

from lhcc.ir.log import Log

Expr = Any
Var = Any
Visit = Callable[[str, Expr], Expr | None]


def op_name(expr: Expr) -> str:
    """The operator that a call calls; "" for anything else."""
    return str(expr.op.name) if isinstance(expr, relax.Call) and isinstance(expr.op, Op) else ""


def shape_of(expr: Expr) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expr.ty.shape.values)


def dtype_of(expr: Expr) -> str:
    return str(expr.ty.dtype)


def is_tensor(expr: Expr) -> bool:
    return isinstance(expr.ty, relax.TensorType)


def array_of(expr: Expr) -> NDArray[Any] | None:
    """The values of a constant; None for anything else."""
    return expr.value.numpy() if isinstance(expr, GenericConst) else None


def values_of(expr: Expr) -> NDArray[Any]:
    """The values of what must be a constant."""
    values = array_of(expr)
    assert values is not None, f"{expr} is not constant"
    return values


def constant(array: NDArray[Any]) -> Expr:
    return relax.const(np.asarray(array, order="C"), str(array.dtype))


def attributes(call: Expr) -> dict[str, Any]:
    """A call's attributes as plain Python values."""
    attrs = call.attrs if isinstance(call, relax.Call) else None
    if attrs is None:
        return {}
    keys = attrs.keys() if hasattr(attrs, "keys") else []
    return {str(key): plain(attrs[key]) for key in keys}


def plain(value: Any) -> Any:
    """TVM containers and numbers as Python's own."""
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, (tvm.tirx.IntImm, tvm.tirx.FloatImm)):
        return value.value
    if isinstance(value, (tvm.ir.Array, list, tuple)):
        return tuple(plain(item) for item in value)
    if isinstance(value, (tvm.ir.Map, dict)):
        return {str(key): plain(item) for key, item in value.items()}
    return str(value)


class Rewriter:
    """Walks `main` once, in order.  `visit(name, value)` sees every binding with its operands already rewritten and
    returns its replacement, or None to keep it; what nobody uses afterwards is dropped."""

    def __init__(self, mod: tvm.IRModule, log: Log, pass_name: str) -> None:
        self.mod = mod
        self.log = log
        self.pass_name = pass_name
        self.builder = relax.BlockBuilder()
        self.bindings: list[Any] = []
        self.definitions: dict[Var, Expr] = {}
        self.remap: dict[Var, Expr] = {}
        self.users: dict[Var, int] = {}
        self.original: Expr = None  # of the binding that is visited: its value and variable as they were
        self.variable: Var = None
        self.positions: dict[Var, int] = {}
        self.params = list(mod["main"].params)  # a pass may replace them, before it runs

    # ---- what a pass may ask
    def value(self, expr: Expr) -> Expr:
        """What `expr` was bound to, if it is a variable of the rewritten program."""
        return self.definitions.get(expr, expr) if isinstance(expr, relax.Var) else expr

    def name(self, expr: Expr) -> str:
        return str(expr.name) if isinstance(expr, relax.Var) else ""

    def used_once(self, expr: Expr) -> bool:
        return self.users.get(expr, 0) == 1

    def position(self, expr: Expr) -> int:
        """Where a variable stands in the rewritten program; inputs come before everything."""
        return self.positions.get(expr, -1)

    def emit(self, expr: Expr, name: str) -> Var:
        value = self.builder.normalize(expr)
        if isinstance(value, (relax.Var, GenericConst)):
            return value
        var = relax.DataflowVar(name, value.ty)
        self.bindings.append(relax.VarBinding(var, value))
        self.positions[var] = len(self.positions)
        self.definitions[var] = value
        return var

    def note(self, layer: str, text: str) -> None:
        self.log.add(layer, self.pass_name, text)

    def decline(self, layer: str, reason: str) -> None:
        """Says why a layer stays as it is, and returns None: unchanged."""
        self.note(layer, reason)

    # ---- the walk
    def run(self, visit: Visit, finish: Callable[[Expr], Expr] | None = None, typed: bool = True) -> tvm.IRModule:
        """`finish` sees the rewritten output (a variable or a tuple of them) before it is returned.  A pass that
        changes types under its visitor says `typed=False`: types are then inferred only for what it emits."""
        main = self.mod["main"]
        counts = _count_uses(main)
        for block in main.body.blocks:
            for binding in block.bindings:
                self.original, self.variable = binding.value, binding.var
                value = self._substituted(binding.value) if typed else self._substitute(binding.value)
                replacement = visit(binding.var.name, value)
                new = value if replacement is None else replacement
                if not isinstance(new, (relax.Var, GenericConst)):
                    new = self.emit(new, binding.var.name)
                self.remap[binding.var] = new
                self.users[new] = self.users.get(new, 0) + counts.get(binding.var, 0)
        output = self._substitute(main.body.body)
        output = self._resolve_tuple(output)
        if finish is not None:
            output = finish(output)
        return _assemble(self.mod, self.params, self.bindings, output)

    def _resolve_tuple(self, output: Expr) -> Expr:
        value = self.value(output)
        return value if isinstance(value, relax.Tuple) else output

    def _substituted(self, expr: Expr) -> Expr:
        new = self._substitute(expr)
        return new if new is expr or isinstance(new, relax.Var) else self.builder.normalize(new)

    def _substitute(self, expr: Expr) -> Expr:
        if isinstance(expr, relax.Var):
            return self.remap.get(expr, expr)
        if isinstance(expr, relax.Call):
            args = [self._substitute(arg) for arg in expr.args]
            same = all(new is old for new, old in zip(args, expr.args, strict=True))
            return expr if same else relax.Call(expr.op, args, expr.attrs, expr.ty_args)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._substitute(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            source = self._substitute(expr.tuple_value)
            known = self.value(source)
            if isinstance(known, relax.Tuple):
                return known.fields[expr.index]
            return relax.TupleGetItem(source, expr.index)
        return expr


def _operands(expr: Expr) -> list[Expr]:
    if isinstance(expr, relax.Call):
        return [leaf for arg in expr.args for leaf in _operands(arg)]
    if isinstance(expr, relax.Tuple):
        return [leaf for field in expr.fields for leaf in _operands(field)]
    if isinstance(expr, relax.TupleGetItem):
        return _operands(expr.tuple_value)
    return [expr] if isinstance(expr, relax.Var) else []


def _count_uses(main: relax.Function) -> dict[Var, int]:
    counts: dict[Var, int] = {}
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    for expr in [*values, main.body.body]:
        for var in _operands(expr):
            counts[var] = counts.get(var, 0) + 1
    return counts


def _assemble(mod: tvm.IRModule, params: Sequence[Var], bindings: Sequence[Any], output: Expr) -> tvm.IRModule:
    """A module with the live ones of `bindings` as `main`; other functions are kept."""
    live: list[Any] = []
    needed = set(_operands(output))
    for binding in reversed(bindings):
        if binding.var in needed:
            live.append(binding)
            needed.update(_operands(binding.value))
    builder = relax.BlockBuilder()
    live.reverse()
    output = builder.normalize(output) if isinstance(output, relax.Tuple) else output
    result = relax.Var("output", output.ty)
    exported = [*live, relax.VarBinding(result, output)]
    body = builder.normalize(relax.SeqExpr([relax.DataflowBlock(exported)], result))
    attrs = mod["main"].attrs
    function = relax.Function(params, body, output.ty, attrs=attrs).with_attr("global_symbol", "main")
    functions = {gv: func for gv, func in mod.functions.items() if gv.name_hint != "main"}
    return tvm.IRModule({relax.GlobalVar("main"): function, **functions})


def calls(mod: tvm.IRModule) -> list[tuple[str, Expr]]:
    """Name and value of every binding of `main`, in order."""
    return [(str(b.var.name), b.value) for block in mod["main"].body.blocks for b in block.bindings]
