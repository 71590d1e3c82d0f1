"""What a model already says about integers: constants behind DequantizeLinear or Quant, and grids of activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.approximation.graph import Graph, attribute
from lhcc.encodings import dyadic
from lhcc.errors import ModelError, TargetError


@dataclass(frozen=True)
class Constant:
    """integers * scale; the scale is a scalar, or one per entry of `axis`."""

    integers: NDArray[np.int64]
    scale: NDArray[np.float64]
    axis: int

    def dense(self) -> NDArray[np.float64]:
        return np.asarray(self.integers * _along(self.scale, self.axis, self.integers.ndim))


@dataclass(frozen=True)
class Grid:
    """Real values k * scale with integer k in [low, high]."""

    scale: NDArray[np.float64]
    low: int
    high: int


def _along(scale: NDArray[np.float64], axis: int, dims: int) -> NDArray[np.float64]:
    if scale.size == 1:
        return scale.reshape(())
    shape = [1] * dims
    shape[axis] = scale.size
    return scale.reshape(shape)


def constants_of(graph: Graph) -> dict[str, Constant]:
    """Tensors that are integers times a scale because a DequantizeLinear or Quant node of constants makes them."""
    found: dict[str, Constant] = {}
    for node in graph.nodes:
        if node.op_type not in ("DequantizeLinear", "Quant") or node.input[0] not in graph.constants:
            continue
        value = graph.constants[node.input[0]]
        if node.op_type == "DequantizeLinear":
            scale = graph.constants[node.input[1]].astype(np.float64)
            axis = attribute(node, "axis", 1) % max(value.ndim, 1) if value.ndim else 0
            zero = _zero_point(graph, node)
            integers = value.astype(np.int64) - _along(zero.astype(np.float64), axis, value.ndim).astype(np.int64)
            found[node.output[0]] = Constant(integers, scale.ravel(), axis)
        else:
            grid, zero_point = quant_grid(graph, node), int(np.ravel(graph.constants[node.input[2]])[0])
            scale = graph.constants[node.input[1]].astype(np.float64)
            integers = np.rint(value.astype(np.float64) / scale) + zero_point
            integers = np.clip(integers, grid.low + zero_point, grid.high + zero_point) - zero_point
            axis = int(np.argmax(scale.shape)) if scale.size > 1 else 0
            found[node.output[0]] = Constant(integers.astype(np.int64), scale.ravel(), axis)
    return found


def _zero_point(graph: Graph, node: Any) -> NDArray[np.int64]:
    name = node.input[2] if len(node.input) > 2 else ""
    return graph.constants[name].astype(np.int64).ravel() if name else np.zeros(1, dtype=np.int64)


def quantize_linear_grid(graph: Graph, node: Any) -> Grid:
    """The grid of a QuantizeLinear: its range follows from the zero point's type, centred on the zero point."""
    name = node.input[2] if len(node.input) > 2 else ""
    kind = graph.constants[name].dtype if name else np.dtype(np.uint8)
    zero = _zero_point(graph, node)
    scale = graph.constants[node.input[1]].astype(np.float64)
    if scale.size != 1 or zero.size != 1:
        raise ModelError(
            f"'{node.name or node.output[0]}' quantises activations per channel", "use one scale per tensor"
        )
    limits = np.iinfo(kind)
    return Grid(scale.reshape(()), int(limits.min) - int(zero[0]), int(limits.max) - int(zero[0]))


def quant_grid(graph: Graph, node: Any) -> Grid:
    """The grid of a QONNX Quant node: bit width, sign and narrowness given."""
    scale, zero, width = (graph.constants[name].astype(np.float64) for name in node.input[1:4])
    bits = int(np.ravel(width)[0])
    signed, narrow = attribute(node, "signed", 1), attribute(node, "narrow", 0)
    low = -(1 << bits - 1) + int(narrow) if signed else 0
    high = (1 << bits - 1) - 1 if signed else (1 << bits) - 1 - int(narrow)
    shift = int(np.ravel(zero)[0])
    return Grid(scale.reshape(()) if scale.size == 1 else scale.ravel(), low - shift, high - shift)


def weight_of(
    graph: Graph, known: Mapping[str, Constant], name: str, filter_axis: int, layer: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A weight as integers with filters along axis 0, and a scale per filter; float weights must be dyadic."""
    if name in known:
        constant = known[name]
        scale = np.broadcast_to(constant.scale, (constant.integers.shape[filter_axis],))
        if constant.scale.size > 1 and constant.axis != filter_axis:
            raise ModelError(f"layer '{layer}' scales its weights along axis {constant.axis}, not per filter")
        return np.moveaxis(constant.integers, filter_axis, 0), scale.astype(np.float64)
    if name not in graph.constants:
        raise ModelError(f"layer '{layer}' has a weight that is not a constant")
    try:
        encoded = dyadic.from_dense(np.moveaxis(graph.constants[name], filter_axis, 0), max_bits=12)
    except dyadic.NotDyadic as error:
        raise TargetError(f"layer '{layer}' has weights that are not dyadic: {error.message}", error.hint) from None
    integers = encoded.integers.astype(np.int64)
    # A filter of zeros has no scale of its own, yet its bias needs a fine one: its neighbours', or 2^-8.
    empty = ~integers.reshape(len(integers), -1).any(axis=1)
    fallback = encoded.scale[~empty].min() if (~empty).any() else 2.0**-8
    return integers, np.where(empty, fallback, encoded.scale)


def float_constant(graph: Graph, known: Mapping[str, Constant], name: str) -> NDArray[np.float64]:
    if name in known:
        return known[name].dense()
    return graph.constants[name].astype(np.float64)
