"""Small Relax modules for the tests of passes, and what is in them afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.graph import array_of, attributes, calls, constant, op_name, shape_of
from lhcc.ir.log import Log
from lhcc.ir.verify import same_numbers
from lhcc.passes.fold_constants import FoldConstants
from lhcc.passes.fuse_epilogue import FuseEpilogue
from lhcc.passes.lower_pooling import LowerPooling
from lhcc.passes.lower_to_dialect import LowerToDialect
from lhcc.passes.recognise_activations import RecogniseActivations

Expr = Any
Array = NDArray[np.float32]


class Graph:
    """`g = Graph(x=(1, 3, 8, 8)); y = g("conv", relax.op...(g.x, ...)); g.returns(y)` is a module."""

    def __init__(self, dtype: str = "float32", **shapes: Sequence[int]) -> None:
        self.inputs = {name: relax.Var(name, relax.TensorType(shape, dtype)) for name, shape in shapes.items()}
        self.builder = relax.BlockBuilder()
        self.bindings: list[Any] = []

    def __getattr__(self, name: str) -> Expr:
        return self.__dict__["inputs"][name]

    def __call__(self, name: str, expr: Expr) -> Expr:
        value = self.builder.normalize(expr)
        var = relax.DataflowVar(name, value.ty)
        self.bindings.append(relax.VarBinding(var, value))
        return var

    def returns(self, *outputs: Expr) -> tvm.IRModule:
        output = outputs[0] if len(outputs) == 1 else self.builder.normalize(relax.Tuple(list(outputs)))
        result = relax.Var("output", output.ty)
        block = relax.DataflowBlock([*self.bindings, relax.VarBinding(result, output)])
        body = self.builder.normalize(relax.SeqExpr([block], result))
        main = relax.Function(list(self.inputs.values()), body, output.ty).with_attr("global_symbol", "main")
        return tvm.IRModule({"main": main})


def const(values: Any) -> Expr:
    return constant(np.asarray(values, np.float32))


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv(
    x: Expr,
    weight: Array,
    bias: Array | None = None,
    residual: Sequence[Expr] = (),
    where: str = "before",
    **attrs: Any,
) -> Expr:
    """A dialect convolution; strides, padding, dilation are those given, or 1, 0, 1; `where` the residual is added."""
    whole: dict[str, Any] = {
        "strides": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1, "transposed": 0,
        "activation": "", "residual": where if residual else "", **attrs,
    }  # fmt: skip
    images, _, *image = shape_of(x)
    out = []
    for axis in range(2):
        before, after = whole["padding"][axis], whole["padding"][axis + 2]
        stride, dilation, kernel = whole["strides"][axis], whole["dilation"][axis], weight.shape[2 + axis]
        reach = dilation * (kernel - 1)
        if whole["transposed"]:
            out.append((image[axis] - 1) * stride - before - after + reach + 1)
        else:
            out.append((image[axis] + before + after - reach - 1) // stride + 1)
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    operands = [x, const(weight), const(bias), *residual]
    return dialect.call("conv2d", operands, (images, len(weight), *out), **whole)


def dense(x: Expr, weight: Array, bias: Array | None = None, residual: Sequence[Expr] = (), **attrs: Any) -> Expr:
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    whole = {"activation": "", "residual": "before" if residual else "", **attrs}
    shape = (shape_of(x)[0], len(weight))
    return dialect.call("dense", [x, const(weight), const(bias), *residual], shape, **whole)


def activation(x: Expr, name: str) -> Expr:
    return dialect.call("activation", [x], shape_of(x), activation=name)


def shuffled(x: Expr, rng: np.random.Generator) -> Expr:
    """The channels of `x` in a random order."""
    order = constant(rng.permutation(shape_of(x)[1]).astype(np.int32))
    return dialect.call("reorder", [x, order], shape_of(x))


def run(item: Any, mod: tvm.IRModule) -> tuple[tvm.IRModule, list[str]]:
    """The module after the pass, checked for its form and its numbers, and the reasons that the pass gave."""
    log = Log()
    after = item.run(mod, log)
    relax.analysis.well_formed(after)
    same_numbers(mod, after, item.name)
    return after, [f"{reason.layer}: {reason.text}" for reason in log.reasons]


def dialect_form(mod: tvm.IRModule) -> tvm.IRModule:
    """The module with its layers in the dialect and fused, as the later passes see it."""
    for item in (FoldConstants(), LowerToDialect(), LowerPooling(), RecogniseActivations(), FuseEpilogue()):
        mod = item.run(mod, Log())
    return mod


def operators(mod: tvm.IRModule) -> list[str]:
    return [op_name(value) for _, value in calls(mod) if op_name(value)]


def layer(mod: tvm.IRModule, name: str) -> Expr:
    """The call that is bound to `name`; what reorders its channels bears the same name."""
    found = [value for bound, value in calls(mod) if bound == name and op_name(value) not in ("", "lhcc.reorder")]
    assert len(found) == 1, f"{len(found)} calls are named {name} in {[bound for bound, _ in calls(mod)]}"
    return found[0]


def weight_of(mod: tvm.IRModule, name: str) -> Array:
    values = array_of(layer(mod, name).args[1])
    assert values is not None
    return values


def bias_of(mod: tvm.IRModule, name: str) -> Array:
    values = array_of(layer(mod, name).args[2])
    assert values is not None
    return values


def attrs_of(mod: tvm.IRModule, name: str) -> dict[str, Any]:
    return attributes(layer(mod, name))
