"""Which channels of a module in the dialect are the same number at every place, whatever the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from lhcc.encodings import tiles
from lhcc.ir.activations import activate
from lhcc.ir.channels import ELEMENTWISE, RESHAPING, reads, tap_sums
from lhcc.ir.graph import array_of, attributes, is_tensor, op_name, plain, shape_of

Array = NDArray[Any]

FUNCTIONS = {
    "relax.add": np.add, "relax.subtract": np.subtract, "relax.multiply": np.multiply, "relax.divide": np.divide,
    "relax.maximum": np.maximum, "relax.minimum": np.minimum,
}  # fmt: skip
assert set(FUNCTIONS) == ELEMENTWISE


class ConstantChannels:
    """`values[map]`: one number per channel, NaN for a channel that varies."""

    def __init__(self, mod: tvm.IRModule) -> None:
        self.values: dict[Any, Array] = {}
        main = mod["main"]
        for param in main.params:
            if is_tensor(param):
                self.values[param] = _varying(param)
        with np.errstate(all="ignore"):
            for block in main.body.blocks:
                for binding in block.bindings:
                    value = binding.value
                    if is_tensor(value):
                        found = self._value(value)
                        self.values[binding.var] = _varying(value) if found is None else found

    def _value(self, value: Any) -> Array | None:
        if isinstance(value, relax.Var):
            return self.values[value]
        operator = op_name(value)
        if operator in ("lhcc.conv2d", "lhcc.dense"):
            return self._layer(value)
        if operator in FUNCTIONS:
            return self._elementwise(operator, value)
        if operator == "relax.concat" and isinstance(value.args[0], relax.Tuple):
            return self._concat(value)
        source = self.values.get(value.args[0]) if operator and value.args else None
        if source is None:
            return None
        if operator == "lhcc.activation":
            return activate(source, attributes(value)["activation"])
        if operator == "lhcc.global_average":
            return source
        if operator == "lhcc.pool2d":
            return source if all(inside.any(axis=1).all() for inside in _insides(value)) else None
        if operator in RESHAPING and len(source) and shape_of(value)[0] == shape_of(value.args[0])[0]:
            return _reshaped(value, source)
        return None

    def _layer(self, call: Any) -> Array:
        attrs, source = attributes(call), self.values[call.args[0]]
        weight, bias = array_of(call.args[1]), array_of(call.args[2])
        assert weight is not None and bias is not None
        groups = attrs.get("groups", 1)
        read, total = _ungrouped(reads(weight), groups), _ungrouped(tap_sums(weight), groups)
        known = ~np.isnan(source) & (reads_inside(call) | (source == 0))
        result = bias + total @ np.where(known, source, 0.0)
        result[(read & ~known).any(axis=1)] = np.nan
        residual = self.values[call.args[3]] if attrs["residual"] else 0.0
        if attrs["residual"] == "before":
            return activate(result + residual, attrs["activation"])
        return activate(result, attrs["activation"]) + residual

    def _elementwise(self, operator: str, call: Any) -> Array | None:
        """Zero times anything is zero, as it is in a convolution."""
        shape = shape_of(call)
        if len(shape) < 2:
            return None
        operands = []
        for arg in call.args:
            known = self.values.get(arg) if array_of(arg) is None else _per_channel(arg, shape)
            if known is None or len(shape_of(arg)) > len(shape) or len(known) not in (1, shape[1]):
                return None
            operands.append(known if array_of(arg) is not None or len(shape_of(arg)) == len(shape) else known * np.nan)
        result = FUNCTIONS[operator](*operands)
        if operator == "relax.multiply":
            result = np.where((operands[0] == 0) | (operands[1] == 0), 0.0, result)
        return np.broadcast_to(result, shape[1:2])

    def _concat(self, call: Any) -> Array | None:
        fields = [self.values.get(field) for field in call.args[0].fields]
        if plain(call.attrs.axis) not in (1, 1 - len(shape_of(call))) or any(field is None for field in fields):
            return None
        return np.concatenate(fields)  # type: ignore[arg-type]


def _ungrouped(matrix: Array, groups: int) -> Array:
    return tiles.ungroup(matrix[:, :, None, None], groups)[:, :, 0, 0]


def _varying(value: Any) -> Array:
    shape = shape_of(value)
    return np.full(shape[1] if len(shape) > 1 else 1, np.nan)


def _per_channel(expr: Any, shape: tuple[int, ...]) -> Array | None:
    """A constant as one number per channel, NaN where it differs within the channel; None if it has no channels."""
    values = array_of(expr)
    if values is None or values.ndim > len(shape) or len(shape) < 2 or values.dtype.kind != "f":
        return None
    aligned = np.moveaxis(values.reshape((1,) * (len(shape) - values.ndim) + values.shape), 1, 0)
    rows = aligned.reshape(len(aligned), -1).astype(np.float64)
    return np.where((rows == rows[:, :1]).all(axis=1), rows[:, 0], np.nan)


def _reshaped(call: Any, source: Array) -> Array | None:
    before, after = shape_of(call.args[0]), shape_of(call)
    if len(before) < 2 or len(after) < 2:
        return None
    if before[1] == after[1]:
        return source
    repeats = int(np.prod(before[2:]))
    return np.repeat(source, repeats) if after[1] == before[1] * repeats else None


def _insides(call: Any) -> list[Array]:
    """Per axis (output, tap): whether the tap reads a pixel of the image there."""
    attrs = attributes(call)
    kernel = attrs.get("window") or shape_of(call.args[1])[2:]
    image, out = shape_of(call.args[0])[2:], shape_of(call)[2:]
    insides = []
    for axis in range(2):
        positions = np.arange(out[axis])[:, None] * attrs["strides"][axis] - attrs["padding"][axis]
        positions = positions + np.arange(kernel[axis]) * attrs["dilation"][axis]
        insides.append((positions >= 0) & (positions < image[axis]))
    return insides


def reads_inside(call: Any) -> bool:
    """Whether every tap of a layer reads a pixel of the image at every output: no padding, no phases."""
    if op_name(call) == "lhcc.dense":
        return True
    return not attributes(call)["transposed"] and all(bool(inside.all()) for inside in _insides(call))
