"""What becomes of each kind of node: one function each, which adds the node's steps to the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from lhcc.approximation import quantised
from lhcc.approximation.functions import piecewise_linear
from lhcc.approximation.graph import attribute, filter_axis
from lhcc.approximation.order import is_the_models, order_of
from lhcc.approximation.quantised import Grid
from lhcc.approximation.replace import activation
from lhcc.approximation.state import SMOOTH, State, bounds
from lhcc.approximation.windows import padding_of
from lhcc.errors import UnsupportedOperator
from lhcc.integer import Conv, Dense

# --- linear layers


def conv(state: State, node: Any) -> None:
    weight, scale = quantised.weight_of(state.graph, state.known, node.input[1], 0, node.name)
    bias = node.input[2] if len(node.input) > 2 else ""
    state.finish(node, _convolve(state, node, state.at[node.input[0]], weight, scale, bias))


def _convolve(state: State, node: Any, x: str, weight: NDArray[np.int64], scale: NDArray[np.float64], bias: str) -> str:
    kind = state.builder.types[x]
    strides, dilations = (attribute(node, key, [1, 1]) for key in ("strides", "dilations"))
    scale = _merged(scale)
    step = Conv(
        state.name_for(node),
        (x,),
        weight.transpose(2, 3, 1, 0),
        _bias(state, bias, kind.scale * scale, len(weight)),
        scale,
        (strides[0], strides[1]),
        padding_of(node, weight.shape[2:], strides, dilations, kind.shape),
        (dilations[0], dilations[1]),
        attribute(node, "group", 1),
    )
    return state.builder.append(step)


def _bias(state: State, name: str, scale: NDArray[np.float64], outputs: int) -> NDArray[np.int64]:
    if not name:
        return np.zeros(outputs, dtype=np.int64)
    value = quantised.float_constant(state.graph, state.known, name).ravel()
    return np.broadcast_to(np.floor(value / scale + 0.5), (outputs,)).astype(np.int64)


def dense(state: State, node: Any) -> None:
    weight, scale = quantised.weight_of(state.graph, state.known, node.input[1], filter_axis(node), node.name)
    x = state.at[node.input[0]]
    order = order_of(state.builder, x)
    if order is not None:
        weight = weight[:, order]
    scale = _merged(scale)
    name = node.input[2] if len(node.input) > 2 else ""
    bias = _bias(state, name, state.builder.types[x].scale * scale, len(weight))
    step = Dense(state.name_for(node), (x,), weight.T, bias, scale)
    state.finish(node, state.builder.append(step))


def qlinear_conv(state: State, node: Any) -> None:
    """x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias: integers in, integers out."""
    constants = state.graph.constants
    weight = constants[node.input[3]].astype(np.int64)
    weight = weight - constants[node.input[5]].astype(np.int64).reshape(-1, 1, 1, 1)
    scale = np.broadcast_to(constants[node.input[4]].astype(np.float64).ravel(), (len(weight),))
    x = state.at[node.input[0]]
    bias = node.input[8] if len(node.input) > 8 else ""
    if bias:  # int32 in units of x_scale * w_scale
        state.graph.constants[bias + ".real"] = constants[bias] * state.builder.types[x].scale * scale
        bias += ".real"
    total = _convolve(state, node, x, weight, scale, bias)
    told = onnx.NodeProto(input=["", node.input[6], node.input[7]])
    name = f"{node.name or node.output[0]}.round"
    state.at[node.output[0]] = state.rounding.to_grid(name, total, quantised.quantize_linear_grid(state.graph, told))


def _merged(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """One scale where all filters agree, else one per filter."""
    return np.asarray(scale[0]) if np.all(scale == scale[0]) else np.asarray(scale)


# --- pointwise


def grid_of(state: State, node: Any) -> Grid:
    of = quantised.quant_grid if node.op_type == "Quant" else quantised.quantize_linear_grid
    return of(state.graph, node)


def requantise_as_told(state: State, node: Any) -> None:
    name, x, grid = node.name or node.output[0], state.at[node.input[0]], grid_of(state, node)
    if grid.scale.ndim and not is_the_models(state.builder, x):
        raise UnsupportedOperator(f"'{name}' has a scale for each element of a flattened image")
    state.at[node.output[0]] = state.rounding.to_grid(name, x, grid)


def same(state: State, node: Any) -> None:
    state.at[node.output[0]] = state.at[node.input[0]]


def relu(state: State, node: Any) -> None:
    name = state.name_for(node)
    state.at[node.output[0]] = state.builder.relu(name, state.at[node.input[0]])


def clip(state: State, node: Any) -> None:
    x = state.at[node.input[0]]
    scale = state.builder.types[x].scale
    low, high = (None if end is None else round(end / float(scale)) for end in bounds(state.graph, node))
    state.at[node.output[0]] = state.builder.clip(state.name_for(node), x, low, high)


def add(state: State, node: Any) -> None:
    a, b = (state.rounding.align(f"{state.at[name]}.align", state.at[name]) for name in node.input)
    name = state.name_for(node)
    types = [state.builder.types[x] for x in (a, b)]
    if any(kind.fraction is None for kind in types):
        finer = min(float(kind.scale) for kind in types)
        grid = Grid(np.asarray(finer), -(1 << 2 * state.bits), 1 << 2 * state.bits)
        a, b = (state.rounding.to_grid(f"{name}.{side}", x, grid) for side, x in (("a", a), ("b", b)))
    state.finish(node, state.builder.add(name, a, b))


def silu(state: State, node: Any) -> None:
    found = activation(state.graph, node)
    if found is None:
        raise UnsupportedOperator(
            f"'{node.name}' multiplies two activations", "only x * sigmoid(x) has an integer form"
        )
    _piecewise(state, node, found[0], found[1])


def smooth(state: State, node: Any) -> None:
    reader = state.graph.only_user(node.output[0])
    if reader is not None and reader.op_type == "Mul" and node.op_type == "Sigmoid" and activation(state.graph, reader):
        return
    _piecewise(state, node, SMOOTH[node.op_type], node.input[0])


def _piecewise(state: State, node: Any, function: str, source: str) -> None:
    x = state.at[source]
    line = piecewise_linear(function, state.activation_error)
    name = state.name_for(node)
    state.finish(node, state.builder.piecewise(name, x, *line.integers(float(state.builder.types[x].scale))))


# --- shape and pools


def concat(state: State, node: Any) -> None:
    names = [state.at[name] for name in node.input]
    finest = min(float(state.builder.types[x].scale.min()) for x in names)
    grid = Grid(np.asarray(finest), -(1 << 30), 1 << 30)
    aligned = [
        x if float(state.builder.types[x].scale.max()) == finest else state.rounding.to_grid(f"{x}.align", x, grid)
        for x in names
    ]
    state.at[node.output[0]] = state.builder.concat(state.name_for(node), *aligned)


def max_pool(state: State, node: Any) -> None:
    if attribute(node, "ceil_mode", 0) or any(d != 1 for d in attribute(node, "dilations", [1])):
        raise UnsupportedOperator(f"'{node.name}': max pooling with ceil_mode or dilations has no integer form")
    state.at[node.output[0]] = state.builder.max_pool(
        state.name_for(node), state.at[node.input[0]], *_window(state, node)
    )


def _window(state: State, node: Any) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    kernel, strides = attribute(node, "kernel_shape", [1, 1]), attribute(node, "strides", [1, 1])
    shape = state.builder.types[state.at[node.input[0]]].shape
    return (kernel[0], kernel[1]), (strides[0], strides[1]), padding_of(node, kernel, strides, [1, 1], shape)


def average_pool(state: State, node: Any) -> None:
    kernel, stride, padding = _window(state, node)
    if any(padding) and not attribute(node, "count_include_pad", 0):
        raise UnsupportedOperator(f"'{node.name}' averages over a changing number of pixels")
    summed = state.builder.sum_pool(state.name_for(node), state.at[node.input[0]], kernel, stride, padding)
    state.finish(node, summed)


def global_average(state: State, node: Any) -> None:
    x, name = state.at[node.input[0]], node.name or node.output[0]
    total = state.builder.global_sum(state.rounding.free_name(name), x)
    if node.op_type == "ReduceMean":
        axes = attribute(node, "axes", None) or state.graph.constants[node.input[1]].tolist()
        rank = len(state.builder.types[x].shape) + 1
        if sorted(a % rank for a in axes) != [2, 3]:
            raise UnsupportedOperator(f"'{name}' averages over axes {axes}, not over the image")
        if not attribute(node, "keepdims", 1):
            total = state.rounding.align(f"{name}.align", total)
            total = state.builder.flatten(state.rounding.free_name(f"{name}.flat"), total)
    state.finish(node, total)


def vector(state: State, node: Any) -> None:
    x = state.at[node.input[0]]
    shape = state.builder.types[x].shape
    if len(shape) == 1:
        return same(state, node)
    made = [0, 0] if node.op_type == "Flatten" else state.graph.shapes.get(node.output[0], [])
    if len(made) != 2 or attribute(node, "axis", 1) != 1:
        raise UnsupportedOperator(f"'{node.name}' reshapes an image to {made}, not to a vector")
    x = state.rounding.align(f"{x}.align", x)
    state.at[node.output[0]] = state.builder.flatten(state.name_for(node), x)
    return None


HANDLERS: dict[str, Callable[[State, Any], None]] = {
    "Conv": conv,
    "Gemm": dense,
    "MatMul": dense,
    "QLinearConv": qlinear_conv,
    "Relu": relu,
    "Clip": clip,
    "Add": add,
    "Concat": concat,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "ReduceMean": global_average,
    "QuantizeLinear": requantise_as_told,
    "Quant": requantise_as_told,
    "Mul": silu,
    **dict.fromkeys(("Identity", "Dropout", "Cast", "DequantizeLinear"), same),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze"), vector),
    **dict.fromkeys(SMOOTH, smooth),
}
