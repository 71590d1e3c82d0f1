"""Finds the weights in a Relax module: every convolution and matrix product with a constant one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lhcc.inspection.recognise import recognise
from lhcc.inspection.report import LayerReport, Report

if TYPE_CHECKING:
    import tvm


def inspect_module(mod: tvm.IRModule) -> Report:
    """The structure of every layer of `main` whose weight is known, in order."""
    from lhcc.ir.graph import array_of, attributes, calls, op_name, shape_of

    layers = []
    known: dict[str, NDArray[Any]] = {}  # transposed weights that are still an operation of their own
    for name, value in calls(mod):
        op = op_name(value)
        if op == "relax.permute_dims" and value.args[0].ty.ndim == 2:
            source = array_of(value.args[0])
            if source is not None:
                known[name] = source.T
            continue
        if op not in _WEIGHTS:
            continue
        position, layout = _WEIGHTS[op]
        operand = value.args[position]
        weight = array_of(operand)
        if weight is None:
            weight = known.get(getattr(operand, "name", ""))
        if weight is None:
            continue
        # Operators of the dialect keep their attributes in a dictionary, TVM's own in fields.
        groups = int(attributes(value).get("groups", getattr(value.attrs, "groups", 1)))
        arranged = layout(weight, groups)
        if arranged is None:
            continue
        # Every element of the result of a convolution or product is one dot product; a transposed convolution
        # instead sends every element of its input through one.
        pixels = math.prod(shape_of(value.args[0] if op in _TRANSPOSED else value)) // _channels(arranged, groups, op)
        shape = arranged.shape if arranged.ndim == 4 else (*arranged.shape, 1, 1)
        macs = pixels * math.prod(shape)
        layers.append(LayerReport(name, op.rpartition(".")[2], shape, recognise(arranged, groups), macs))
    return Report(layers)


def _channels(weight: NDArray[Any], groups: int, op: str) -> int:
    """Channels of the tensor whose elements are counted."""
    return int(weight.shape[1] * groups if op in _TRANSPOSED else weight.shape[0])


def _as_stored(weight: NDArray[Any], groups: int) -> NDArray[Any] | None:
    if weight.ndim == 5:  # 3-D convolution: depth and height make one axis of taps
        return weight.reshape(*weight.shape[:2], -1, weight.shape[-1])
    return weight


def _turned(weight: NDArray[Any], groups: int) -> NDArray[Any] | None:
    """(inputs, outputs / groups, kh, kw) of a transposed convolution -> (outputs, inputs / groups, kh, kw)."""
    inputs, outputs, height, width = weight.shape
    split = weight.reshape(groups, inputs // groups, outputs, height, width).swapaxes(1, 2)
    return np.asarray(split.reshape(groups * outputs, inputs // groups, height, width))


def _right_operand(weight: NDArray[Any], groups: int) -> NDArray[Any] | None:
    """(inputs, outputs) of x @ weight -> (outputs, inputs); stacks of matrices are no layer's weight."""
    return np.ascontiguousarray(weight.T) if weight.ndim == 2 else None


_TRANSPOSED = ("relax.nn.conv2d_transpose",)
_WEIGHTS: dict[str, Any] = {  # operator -> position of the weight, and how to arrange it
    "relax.nn.conv2d": (1, _as_stored),
    "relax.nn.conv3d": (1, _as_stored),
    "relax.nn.conv2d_transpose": (1, _turned),
    "relax.matmul": (1, _right_operand),
    "lhcc.conv2d": (1, _as_stored),
    "lhcc.dense": (1, _as_stored),
}
