"""Models in half precision, compiled in float32: every value, constant and attribute of the two half types is widened.

    y: float16 = relax.nn.conv2d(x: float16, W: float16)   ->   the same in float32

Half precision has no kernels of its own here, and what it computes depends on where a library rounds.  Its numbers are
exact in float32, so the wide model is at least as close to the trained one as any half one; a warning says so.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from lhcc.errors import LhccWarning
from lhcc.frontend.checks import HALVES, Unsupported
from lhcc.ir.graph import Rewriter, array_of, constant, dtype_of, is_tensor, op_name, shape_of
from lhcc.ir.log import Log

WIDE = "float32"


class Widened(LhccWarning):
    """A model in half precision becomes one in single precision."""


def widened(mod: tvm.IRModule) -> tvm.IRModule:
    """The module without half types; itself if it has none."""
    found = _halves(mod)
    if not found:
        return mod
    kinds = " and ".join(sorted(found))
    text = f"the model is in {kinds}, at least in part: it is compiled in {WIDE}, with inputs and outputs of {WIDE}"
    warnings.warn(text, Widened, stacklevel=2)
    rewriter, unsupported = Rewriter(mod, Log(), "widen"), Unsupported()
    rewriter.params = [_parameter(param) for param in rewriter.params]
    rewriter.remap.update(zip(mod["main"].params, rewriter.params, strict=True))

    def visit(name: str, value: Any) -> Any:
        if op_name(value) == "relax.call_tir":
            unsupported.note("an operator in half precision", name, "TVM's importer fixes its type")
            unsupported.raise_if_any()
        wide = _wide(value)
        if op_name(wide) == "relax.astype" and str(wide.attrs.dtype) == WIDE == dtype_of(wide.args[0]):
            return wide.args[0]  # it narrowed or widened, and does neither now
        return wide

    return rewriter.run(visit, finish=_wide, typed=False)


def _halves(mod: tvm.IRModule) -> set[str]:
    """The half types of inputs and results."""
    main = mod["main"]
    variables = [*main.params, *(binding.var for block in main.body.blocks for binding in block.bindings)]
    return {str(kind.dtype) for variable in variables for kind in _tensor_types(variable.ty)} & HALVES


def _tensor_types(kind: Any) -> list[Any]:
    if isinstance(kind, relax.TupleType):
        return [leaf for field in kind.fields for leaf in _tensor_types(field)]
    return [kind] if isinstance(kind, relax.TensorType) else []


def _parameter(param: Any) -> Any:
    if is_tensor(param) and dtype_of(param) in HALVES:
        return relax.Var(param.name, relax.TensorType(shape_of(param), WIDE))
    return param


def _wide(expr: Any) -> Any:
    if isinstance(expr, GenericConst):
        return constant(np.asarray(array_of(expr)).astype(WIDE)) if dtype_of(expr) in HALVES else expr
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([_wide(field) for field in expr.fields])
    if isinstance(expr, relax.Call):
        return relax.Call(expr.op, [_wide(arg) for arg in expr.args], _attributes(expr.attrs), expr.ty_args)
    return expr


def _attributes(attrs: Any) -> Any:
    """The attributes with every half type replaced."""
    if attrs is None:
        return None
    kind = type(attrs).__tvm_ffi_type_info__
    fields = {field.name: getattr(attrs, field.name) for field in kind.fields}
    if not any(str(value) in HALVES for value in fields.values()):
        return attrs
    wide = {name: WIDE if str(value) in HALVES else value for name, value in fields.items()}
    return tvm.ir.make_node(kind.type_key, **wide)
