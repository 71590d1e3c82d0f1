"""The integer program as calls of Relax operators, and back, without loss: what external code generation hands over.

    c = lhcc.int.Conv(x, weight, bias, weight_scale, scale of x, low of x, high of x, instruction="{...}")

One operator per instruction, `lhcc.int.<name of its class>`.  Tensors come first, then constants: the instruction's
arrays, and the scale and interval of every tensor that it reads, so that any part of a graph is a program by itself.
The attribute `instruction` is the instruction as JSON in which {"array": k} stands for the k-th constant.  `Input`
takes the user's floats, and `lhcc.int.Output` gives them back; in between are int64 tensors in the layout of the user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst, Op

from lhcc.integer import Input, Instruction, Program, TensorType
from lhcc.integer.ported import Port, Ported, batch_shape
from lhcc.integer.storage import KINDS, from_fields, to_fields
from lhcc.ir.graph import attributes, calls, constant, op_name, shape_of, values_of

PREFIX = "lhcc.int."
PACKED = "relax.call_dps_packed"  # of what external code generation made of them
OPERATORS = (*KINDS, "Output")


@cache
def operator(name: str) -> Any:
    full = PREFIX + name
    if name not in OPERATORS:
        raise KeyError(full)
    tvm.ir._ffi_api.RegisterOp(full, "see lhcc.ir.int_calls")
    found = Op.get(full)
    found.set_attr("FInferType", lambda call, builder: relax.TensorType(list(call.attrs["shape"]), call.attrs["dtype"]))
    found.set_attr("FPurity", True)
    return found


# ---- a program as calls


def write(program: Program, parameters: Sequence[Any], emit: Callable[[Any, str], Any], images: int = 1) -> list[Any]:
    """The program's outputs, computed from `parameters`, floats; `emit` binds a call to a variable of that name."""
    given = dict(zip((step.name for step in program.inputs), parameters, strict=True))
    values: dict[str, Any] = {}
    for step in program.instructions:
        tensors = [given[step.name]] if isinstance(step, Input) else [values[name] for name in step.inputs]
        values[step.name] = emit(_instruction(program, step, tensors, images), step.name)
    return [emit(_output(program, name, values[name], images), name) for name in program.outputs]


def _instruction(program: Program, step: Instruction, tensors: list[Any], images: int) -> Any:
    constants = _Constants()
    data = to_fields(step, constants.keep)
    data["types"] = [_type(program.types[name], constants) for name in step.inputs]
    shape = batch_shape(program.types[step.name].shape, program.layout, images)
    return _call(type(step).__name__, tensors, constants, data, program.layout, shape, "int64")


def _output(program: Program, name: str, tensor: Any, images: int) -> Any:
    constants = _Constants()
    data = {"inputs": [name], "types": [_type(program.types[name], constants)]}
    shape = batch_shape(program.types[name].shape, program.layout, images)
    return _call("Output", [tensor], constants, data, program.layout, shape, "float32")


@dataclass
class _Constants:
    arrays: list[Any] = field(default_factory=list)

    def keep(self, array: np.ndarray) -> str:
        self.arrays.append(constant(array))
        return str(len(self.arrays) - 1)


def _type(kind: TensorType, constants: _Constants) -> dict[str, Any]:
    arrays = {"scale": kind.scale, "low": kind.low, "high": kind.high}
    return {"shape": kind.shape, **{key: {"array": constants.keep(array)} for key, array in arrays.items()}}


def _call(
    name: str, tensors: list[Any], constants: _Constants, data: Any, layout: str, shape: Sequence[int], dtype: str
) -> Any:
    attrs = tvm.ir.make_node(
        "ir.DictAttrs",
        instruction=json.dumps(data),
        layout=layout,
        shape=list(shape),
        dtype=dtype,
        tensors=len(tensors),
    )
    return relax.Call(operator(name), [*tensors, *constants.arrays], attrs)


# ---- calls as a program


def is_instruction(value: Any) -> bool:
    return op_name(value).startswith(PREFIX)


def is_known(mod: tvm.IRModule) -> bool:
    """Whether all that the module computes is defined by operators of floats, which can be checked one by one."""
    return not any(is_instruction(value) or op_name(value) == PACKED for _, value in calls(mod))


def name_of(call: Any) -> str:
    """The tensor that a call defines; an output's is the one that it gives."""
    data = json.loads(attributes(call)["instruction"])
    return str(data["name"] if "name" in data else data["inputs"][0])


def read(function: Any) -> Ported:
    """The program of a function that holds such calls only, in composite functions or not."""
    return _Reader(function).ported()


class _Reader:
    def __init__(self, function: Any) -> None:
        self.values: dict[Any, Any] = {p: p for p in function.params}  # what a variable is: see `_value`
        self.instructions: list[Instruction] = []
        self.entered: dict[Any, Port] = {}  # parameter -> port
        self.layout = "NCHW"
        result = self._body(function.body)
        self.results: list[Port] = list(result) if isinstance(result, tuple) else [result]
        self.params = [self.entered[p] for p in function.params]

    def ported(self) -> Ported:
        entries = {step.name: step for step in self.instructions if isinstance(step, Input)}
        steps = [step for step in self.instructions if not isinstance(step, Input)]
        leaving = dict.fromkeys(port.name for port in self.results if port.name not in entries)
        program = Program([*(entries[port.name] for port in self.params), *steps], tuple(leaving), self.layout)
        return Ported(program, tuple(self.params), tuple(self.results))

    def _body(self, body: Any) -> Any:
        if not isinstance(body, relax.SeqExpr):
            return self._value(body)
        for block in body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = self._value(binding.value)
        return self._value(body.body)

    def _value(self, expr: Any) -> Any:
        """A Port for a tensor of the program, a tuple of them, a parameter, or a function."""
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, relax.Tuple):
            return tuple(self._value(item) for item in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self._value(expr.tuple_value)[expr.index]
        if isinstance(expr, (relax.Function, GenericConst)):
            return expr
        if isinstance(expr.op, Op):
            return self._instruction(expr)
        composite = self._value(expr.op)
        self.values.update(zip(composite.params, map(self._value, expr.args), strict=True))
        return self._body(composite.body)

    def _instruction(self, call: Any) -> Port:
        attrs = attributes(call)
        data, count = json.loads(attrs["instruction"]), attrs["tensors"]
        self.layout = attrs["layout"]
        tensors = [self._value(arg) for arg in call.args[:count]]
        arrays = {str(k): values_of(self._value(arg)) for k, arg in enumerate(call.args[count:])}
        for tensor, name, kind in zip(tensors, data["inputs"], data["types"], strict=False):
            if isinstance(tensor, relax.Var) and tensor not in self.entered:
                values = {key: arrays[kind[key]["array"]] for key in ("scale", "low", "high")}
                self.instructions.append(Input(name, (), tuple(kind["shape"]), **values))
                self.entered[tensor] = Port(name, integer=True)
        if op_name(call) == f"{PREFIX}Output":
            return Port(data["inputs"][0], integer=False)
        step = from_fields(data, arrays)
        self.instructions.append(step)
        if isinstance(step, Input):
            self.entered[tensors[0]] = Port(step.name, integer=False)
        return Port(step.name, integer=True)


def images_of(function: Any) -> int:
    """How many images a function takes at a time."""
    return shape_of(function.params[0])[0]
