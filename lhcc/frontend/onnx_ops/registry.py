"""The table of converters, and what a converter sees of a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from lhcc.frontend import layers
from lhcc.frontend.layers import Value
from lhcc.frontend.naming import LayerBuilder

CONVERTERS: dict[str, Callable[[Node], Any]] = {}

# Operands whose values, not only their shapes, decide what the operator computes or how large its result is.
VALUE_OPERANDS: dict[str, tuple[int, ...]] = {
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "OneHot": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "CumSum": (1,),
    "EyeLike": (),
    "Dropout": (2,),
    "CenterCropPad": (1,),
    "ReverseSequence": (1,),
    "Split": (1,),
    "Tile": (1,),
    "Expand": (1,),
    "Reshape": (1,),
    "Pad": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "HannWindow": (0,),
    "HammingWindow": (0,),
    "DFT": (1, 2),
    "STFT": (1, 3),
    "Col2Im": (1, 2),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "MaxUnpool": (2,),
    "ReduceSum": (1,),
    "ReduceMean": (1,),
    "ReduceMax": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceSumSquare": (1,),
}


class ValueNeeded(Exception):
    """An operand must be known at compile time."""

    def __init__(self, operand: int) -> None:
        super().__init__(operand)
        self.operand = operand


class Node:
    """One ONNX node with its operands in place."""

    def __init__(self, proto: Any, inputs: list[Value | None], opset: int, builder: LayerBuilder) -> None:
        self.op = str(proto.op_type)
        self.inputs = inputs
        self.outputs = [bool(output) for output in proto.output]
        self.opset = opset
        self.builder = builder
        self._attributes = {a.name: a for a in proto.attribute}

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute; strings decoded, lists as lists."""
        if name not in self._attributes:
            return default
        value = helper.get_attribute_value(self._attributes[name])
        return value.decode() if isinstance(value, bytes) else value

    def value(self, i: int) -> Value:
        """An operand; it must be there."""
        return self.inputs[i]

    def optional(self, i: int) -> Value | None:
        return self.inputs[i] if i < len(self.inputs) else None

    def expr(self, i: int) -> Any:
        return layers.expr(self.inputs[i])

    def constant(self, i: int) -> NDArray[Any] | None:
        """The numbers of an operand, None when it is absent."""
        value = self.optional(i)
        if value is None or isinstance(value, np.ndarray):
            return value
        raise ValueNeeded(i)

    def required(self, i: int) -> NDArray[Any]:
        """The numbers of an operand that must be there."""
        numbers = self.constant(i)
        if numbers is None:
            raise NotImplementedError(f"operand {i} is missing")
        return numbers

    def shape(self, i: int = 0) -> tuple[int, ...]:
        return layers.shape_of(self.inputs[i])

    def dtype(self, i: int = 0) -> str:
        return layers.dtype_of(self.inputs[i])

    def wants(self, output: int) -> bool:
        """Whether anyone reads that output."""
        return output < len(self.outputs) and self.outputs[output]

    def emit(self, expr: Any) -> Any:
        """Binds an intermediate result, so that its type can be asked for and it is computed once."""
        return self.builder.emit(expr)


def converter(*operators: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        CONVERTERS.update(dict.fromkeys(operators, function))
        return function

    return register
