"""A slow, obviously right executor of `main`: operators in float64 numpy, generated kernels as compiled.

Values have the shapes that the IR gives them.  In a blocked map that a dialect operator makes, lanes that hold no
channel are NaN, so that a result which depends on them shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import GenericConst

from lhcc.ir import tir_pipeline
from lhcc.ir.graph import attributes, is_tensor, op_name, shape_of
from lhcc.ir.reference_ops import DIALECT, RELAX

Array = NDArray[Any]
Generator = Callable[[str, dict[str, Any], list[tuple[int, ...]]], Any]


class Reference:
    """Runs `main` of modules at any stage of compilation.  `generate` makes the kernel of an encoded call, which
    nothing but its kernel defines."""

    def __init__(self, generate: Generator | None = None) -> None:
        self.generate = generate
        self.mod: tvm.IRModule = None
        self.values: dict[Any, Any] = {}
        self.kernels: dict[int, Any] = {}  # compiled, by structural hash
        self.machines: dict[str, Any] = {}  # of single operators, by their text

    def run(self, mod: tvm.IRModule, inputs: Sequence[Array]) -> list[Array]:
        self.mod, main = mod, mod["main"]
        self.values = {param: _wide(x) for param, x in zip(main.params, inputs, strict=True)}
        with np.errstate(all="ignore"):
            for block in main.body.blocks:
                for binding in block.bindings:
                    self.values[binding.var] = self._value(binding.value)
            result = self._value(main.body.body)
        return list(result) if isinstance(result, tuple) else [result]

    def _value(self, expr: Any) -> Any:
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, GenericConst):
            return _wide(expr.value.numpy())
        if isinstance(expr, relax.Tuple):
            return tuple(self._value(field) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self._value(expr.tuple_value)[expr.index]
        return self._call(expr)

    def _call(self, call: Any) -> Any:
        operator = op_name(call)
        if operator == "relax.call_tir":
            return self._kernel(self.mod[call.args[0].name_hint], call.args[1].fields, call.ty)
        if operator in DIALECT:
            return DIALECT[operator](attributes(call), *map(self._value, call.args))
        if operator.startswith("lhcc."):
            if self.generate is None:
                raise ValueError(f"{operator} cannot be evaluated without the generator of its kernel")
            kernel = self.generate(operator, attributes(call), [shape_of(arg) for arg in call.args])
            return self._kernel(kernel, call.args, call.ty)
        result = None
        if operator in RELAX:
            result = RELAX[operator](call, *[self._value(arg) for arg in call.args if _has_value(arg)])
        return self._through_tvm(call) if result is None else result

    def _operand(self, expr: Any) -> Any:
        """The value in the element type that the IR gives it."""
        return tvm.runtime.tensor(np.array(self._value(expr), dtype=str(expr.ty.dtype), order="C"))

    def _kernel(self, function: tirx.PrimFunc, operands: Sequence[Any], result: Any) -> Any:
        several = isinstance(result, relax.TupleType)
        types = result.fields if several else [result]
        outputs = [tvm.runtime.empty(tuple(int(n) for n in ty.shape.values), str(ty.dtype)) for ty in types]
        key = int(tvm_ffi.structural_hash(function))
        if key not in self.kernels:
            module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
            with tvm.transform.PassContext(opt_level=3):
                self.kernels[key] = tirx.build(module, _host(), pipeline=tir_pipeline.NAME)
        self.kernels[key]["main"](*map(self._operand, operands), *outputs)
        arrays = tuple(_wide(output.numpy()) for output in outputs)
        return arrays if several else arrays[0]

    def _through_tvm(self, call: Any) -> Any:
        """Operators that no pass of ours touches: by TVM's own legalisation."""
        leaves: list[tuple[Any, Any]] = []

        def parameter(expr: Any) -> Any:
            if isinstance(expr, relax.Tuple):
                return relax.Tuple([parameter(field) for field in expr.fields])
            if not _has_value(expr):
                return expr
            leaves.append((relax.Var(f"x{len(leaves)}", expr.ty), self._operand(expr)))
            return leaves[-1][0]

        builder = relax.BlockBuilder()
        new = relax.Call(call.op, [parameter(arg) for arg in call.args], call.attrs, call.ty_args)
        with builder.function("main", [var for var, _ in leaves]):
            builder.emit_func_output(builder.emit(new))
        mod = builder.get()
        text = mod.script(show_meta=True)
        if text not in self.machines:
            self.machines[text] = relax.VirtualMachine(tvm.compile(mod, _host()), tvm.cpu())["main"]
        return _arrays(self.machines[text](*[value for _, value in leaves]))


@lru_cache(maxsize=1)
def _host() -> Any:
    from tvm.target.codegen import llvm_get_system_cpu

    return tvm.target.Target({"kind": "llvm", "mcpu": str(llvm_get_system_cpu())})


def _has_value(expr: Any) -> bool:
    return is_tensor(expr) or isinstance(expr.ty, relax.TupleType)


def _wide(array: Array) -> Array:
    """Floats in double precision; integers and booleans as they are."""
    return array if array.dtype.kind in "iub" else array.astype(np.float64)


def _arrays(result: Any) -> Any:
    return _wide(result.numpy()) if hasattr(result, "numpy") else tuple(map(_arrays, result))
