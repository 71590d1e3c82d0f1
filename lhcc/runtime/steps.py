"""Reads a lowered `main` as a list of kernel calls on buffers: who writes what, who reads it, and for how long.

A lowered `main` holds `call_tir`, `call_dps_packed`, reshapes (which only rename memory), tuples and constants; all
shapes are static.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Call, GenericConst, GlobalVar

from lhcc.runtime.memory import Lifetime, Sized
from lhcc.runtime.program import TensorSpec

CALLS = {"relax.call_tir", "relax.call_dps_packed"}  # of a function of the module, of one outside
RESHAPES = {"relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims"}


@dataclass(frozen=True)
class Buffer:
    """Memory of one kind: an `input` or `constant` by number, or a `temporary` that kernels write."""

    kind: str
    index: int


@dataclass(frozen=True)
class Ref(Sized):
    """A whole buffer, seen with this shape and element type; `arena.place` makes an Operand, with an address, of it."""

    buffer: Buffer
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Step:
    """One kernel call: reads and writes `args`, in the kernel's order; `name` is the layer's."""

    kernel: str
    args: tuple[Ref, ...]
    name: str


@dataclass
class Steps:
    """A whole `main`."""

    inputs: list[TensorSpec] = field(default_factory=list)
    constants: list[NDArray[Any]] = field(default_factory=list)
    temporaries: list[Lifetime] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)


def read(main: relax.Function) -> Steps:
    """The steps of `main`; anything that the lowering should have removed is an error of ours, not of the user's."""
    return _Reader(main).result


class _Reader:
    def __init__(self, main: relax.Function) -> None:
        self.result = Steps()
        self.values: dict[Any, Any] = {}  # variable -> Ref, or a tuple of these
        self.constant_refs: dict[Any, Ref] = {}
        for index, param in enumerate(main.params):
            shape, dtype = _tensor_type(param.ty)
            self.result.inputs.append(TensorSpec(param.name, shape, dtype))
            self.values[param] = Ref(Buffer("input", index), shape, dtype)
        for block in main.body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = self.value(binding.value, binding.var.name)
        returned = self.value(main.body.body, "")
        self.result.outputs = list(returned) if isinstance(returned, tuple) else [returned]
        for ref in self.result.outputs:
            if not isinstance(ref, Ref):
                raise TypeError("main returns nested tuples, which no frontend makes")
            self._touch(ref, len(self.result.steps))

    def value(self, expr: Any, name: str) -> Any:
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, GenericConst):
            return self._constant(expr)
        if isinstance(expr, relax.Tuple):
            return tuple(self.value(item, name) for item in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self.value(expr.tuple_value, name)[expr.index]
        if isinstance(expr, Call) and hasattr(expr.op, "name"):
            if expr.op.name in CALLS:
                return self._kernel_call(expr, name)
            if expr.op.name in RESHAPES:
                shape, dtype = _tensor_type(expr.ty)
                return replace(self.value(expr.args[0], name), shape=shape, dtype=dtype)
        raise TypeError(f"'{name}' was not lowered to a kernel call: {str(expr).splitlines()[0][:200]}")

    def _constant(self, expr: GenericConst) -> Ref:
        if expr not in self.constant_refs:
            array = np.from_dlpack(expr.value)
            buffer = Buffer("constant", len(self.result.constants))
            self.result.constants.append(array)
            self.constant_refs[expr] = Ref(buffer, tuple(array.shape), str(array.dtype))
        return self.constant_refs[expr]

    def _kernel_call(self, call: Call, name: str) -> Any:
        callee, args = call.args
        kernel = callee.name_hint if isinstance(callee, GlobalVar) else str(callee.global_symbol)
        fields = args.fields if isinstance(args, relax.Tuple) else [args]
        reads = [self.value(arg, name) for arg in fields]
        out_types = call.ty_args[0].fields if hasattr(call.ty_args[0], "fields") else [call.ty_args[0]]
        now = len(self.result.steps)
        writes = []
        for out_type in out_types:
            shape, dtype = _tensor_type(out_type)
            ref = Ref(Buffer("temporary", len(self.result.temporaries)), shape, dtype)
            self.result.temporaries.append(Lifetime(ref.nbytes, now, now))
            writes.append(ref)
        for ref in reads:
            self._touch(ref, now)
        self.result.steps.append(Step(kernel, (*reads, *writes), name))
        return writes[0] if len(writes) == 1 and not hasattr(call.ty_args[0], "fields") else tuple(writes)

    def _touch(self, ref: Ref, step: int) -> None:
        if ref.buffer.kind == "temporary":
            lifetime = self.result.temporaries[ref.buffer.index]
            self.result.temporaries[ref.buffer.index] = replace(lifetime, last=step)


def _tensor_type(ty: Any) -> tuple[tuple[int, ...], str]:
    if ty.shape is None:
        raise TypeError("a tensor without a static shape reached code generation")
    return tuple(int(extent) for extent in ty.shape), str(ty.dtype)
