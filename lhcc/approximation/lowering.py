"""The nodes of a dyadic, QDQ, QLinear or QONNX model become instructions of an integer program, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from lhcc.approximation import calibrate as calibration
from lhcc.approximation import quantised
from lhcc.approximation.functions import piecewise_linear
from lhcc.approximation.graph import Graph, attribute
from lhcc.approximation.quantised import Grid
from lhcc.approximation.ranges import observe
from lhcc.approximation.rounding import Rounding
from lhcc.approximation.windows import padding_of
from lhcc.errors import LhccError, UnsupportedOperator
from lhcc.integer import Builder, Program

_SAME = ("Identity", "Dropout", "Cast", "DequantizeLinear")
_LAYERS = ("Conv", "Gemm", "MatMul")
_VECTOR = ("Flatten", "Reshape", "Squeeze")
_SMOOTH = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Gelu": "gelu", "HardSwish": "hardswish"}


@dataclass(frozen=True)
class Reach:
    """What of a graph an integer program can hold; nodes and tensors by name, a node's being its first output."""

    nodes: set[str]
    tensors: set[str]
    """those that it can give as results"""
    refused: dict[str, str]
    """for every other node, why"""


class Lowering:
    """Walks the nodes in order; `at` says which tensor of the program stands for a tensor of the graph."""

    def __init__(
        self, graph: Graph, source: Any, data: calibration.Calibration | None, bits: int, activation_error: float
    ) -> None:
        self.graph, self.bits, self.activation_error = graph, bits, activation_error
        self.known = quantised.constants_of(graph)
        self.builder = Builder("NCHW")
        self.rounding = Rounding(self.builder, bits, observe(graph, self.known, data))
        self.at: dict[str, str] = {}
        self.flattened: dict[str, tuple[int, ...]] = {}
        self.done: set[str] = set()
        self.source = source
        self.handlers: dict[str, Callable[[Any], None]] = {
            "Conv": self.conv,
            "Gemm": self.dense,
            "MatMul": self.dense,
            "QLinearConv": self.qlinear_conv,
            "Relu": self.relu,
            "Clip": self.clip,
            "Add": self.add,
            "Concat": self.concat,
            "MaxPool": self.max_pool,
            "AveragePool": self.average_pool,
            "GlobalAveragePool": self.global_average,
            "ReduceMean": self.global_average,
            "QuantizeLinear": self.requantise_as_told,
            "Quant": self.requantise_as_told,
            "Mul": self.silu,
            **dict.fromkeys(_SAME, self.same),
            **dict.fromkeys(_VECTOR, self.vector),
            **dict.fromkeys(_SMOOTH, self.smooth),
        }

    def program(self) -> Program:
        nodes = [node for node in self.graph.nodes if node.output[0] not in self.known]
        unknown = sorted({node.op_type for node in nodes} - set(self.handlers))
        if unknown:
            raise UnsupportedOperator(
                f"the integer program has no {', '.join(unknown)}", "compile for the CPU in fp32 instead"
            )
        self._input()
        for node in nodes:
            if node.output[0] not in self.done:
                self.handlers[node.op_type](node)
        return self.builder.build(*(self.at[name] for name in self.graph.outputs))

    def reach(self) -> Reach:
        held, refused = set[str](), dict[str, str]()
        self._input()
        for node in self.graph.nodes:
            result = node.output[0]
            if result in self.known:
                continue
            missing = [n for n in node.input if n and n not in self.at and n not in held and not self._constant(n)]
            if result in self.done:
                held.add(result)
            elif node.op_type not in self.handlers:
                refused[result] = f"{node.op_type} has no integer form"
            elif missing:
                refused[result] = f"it reads '{missing[0]}', which is outside"
            else:
                try:
                    self.handlers[node.op_type](node)
                    held.add(result)
                except LhccError as error:
                    refused[result] = error.message
                except (KeyError, IndexError, TypeError, ValueError) as error:
                    refused[result] = f"{node.op_type} of this form has no integer form ({error})"
        return Reach(held, set(self.at) - set(self.flattened), refused)

    def _constant(self, name: str) -> bool:
        return name in self.graph.constants or name in self.known

    def _input(self) -> None:
        shape = [d.dim_value for d in self.source.type.tensor_type.shape.dim][1:]
        values = self.rounding.seen.get("")
        signed = values is None or bool((values < 0).any())
        low, high = (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if signed else (0, (1 << self.bits) - 1)
        fraction = self.rounding.fraction("", low, high)
        fraction = self.bits - 1 if fraction is None else fraction
        order = (shape[1], shape[2], shape[0]) if len(shape) == 3 else tuple(shape)
        reader = next((n for n in self.graph.nodes if self.source.name in n.input), None)
        grid = self._grid(reader) if reader is not None and reader.op_type in ("QuantizeLinear", "Quant") else None
        if grid is None or reader is None:
            self.at[self.source.name] = self.builder.input(self.source.name, order, self.bits, fraction, signed)
            return
        from lhcc.integer import Input

        low_, high_ = np.asarray(grid.low, dtype=np.int64), np.asarray(grid.high, dtype=np.int64)
        step = Input(self.source.name, (), order, grid.scale.reshape(()), low_, high_)
        self.at[self.source.name] = self.builder.append(step)
        self.at[reader.output[0]] = self.at[self.source.name]
        self.done.add(reader.output[0])

    def _finish(self, node: Any, x: str) -> None:
        """Takes in a ReLU that follows alone; rounds to `bits` unless the next step wants the full precision."""
        tensor, name, top = node.output[0], node.name or node.output[0], None
        follower = self.graph.only_user(tensor)
        if follower is not None and follower.op_type in ("Relu", "Clip") and self._is_relu(follower):
            x = self.builder.relu(self.rounding.free_name(follower.name or follower.output[0]), x)
            top = self._bounds(follower)[1]
            tensor = follower.output[0]
            self.done.add(tensor)
            follower = self.graph.only_user(tensor)
        if follower is not None and follower.op_type in ("QuantizeLinear", "Quant"):
            self.at[tensor] = x
        elif tensor in self.graph.outputs:
            self.at[tensor] = x
        elif follower is not None and follower.op_type == "Add" and top is None and not self._stored(follower, node):
            self.at[tensor] = self.rounding.align(f"{name}.align", x)
        else:
            wide = follower is not None and follower.op_type in (*_SMOOTH, "Mul")
            self.at[tensor] = self.rounding.to_bits(
                f"{name}.round", x, 2 * self.bits if wide else self.bits, tensor, top
            )

    def _stored(self, add: Any, node: Any) -> bool:
        """Of two layers that are added up, only one can hand over its sums unrounded; the other one's are stored, so
        they are rounded: those of the smaller kernel, a residual block's shortcut, or else of the earlier layer."""
        others = [name for name in add.input if name not in node.output]
        maker = next((n for n in self.graph.nodes if others and others[0] in n.output), None)
        if maker is None or maker.op_type not in _LAYERS or node.op_type not in _LAYERS:
            return False
        mine, theirs = (self._taps(n) for n in (node, maker))
        return mine < theirs or (mine == theirs and others[0] not in self.at)

    def _taps(self, node: Any) -> int:
        """of one kernel of a layer"""
        return math.prod(attribute(node, "kernel_shape", None) or self.graph.shapes.get(node.input[1], [])[2:])

    def _bounds(self, node: Any) -> tuple[float | None, float | None]:
        if node.op_type == "Relu":
            return 0.0, None
        ends = [self.graph.constants.get(name) for name in node.input[1:3]]
        low, high = (None if e is None else float(np.ravel(e)[0]) for e in (*ends, None, None)[:2])
        return low, high

    def _is_relu(self, node: Any) -> bool:
        return self._bounds(node)[0] == 0.0

    # --- linear layers

    def conv(self, node: Any) -> None:
        weight, scale = quantised.weight_of(self.graph, self.known, node.input[1], 0, node.name)
        bias = node.input[2] if len(node.input) > 2 else ""
        self._finish(node, self._convolve(node, self.at[node.input[0]], weight, scale, bias))

    def _convolve(self, node: Any, x: str, weight: NDArray[np.int64], scale: NDArray[np.float64], bias: str) -> str:
        from lhcc.integer import Conv

        kind = self.builder.types[x]
        strides, dilations = (attribute(node, key, [1, 1]) for key in ("strides", "dilations"))
        scale = _merged(scale)
        step = Conv(
            self.rounding.free_name(node.name or node.output[0]),
            (x,),
            weight.transpose(2, 3, 1, 0),
            self._bias(bias, kind.scale * scale, len(weight)),
            scale,
            (strides[0], strides[1]),
            padding_of(node, weight.shape[2:], strides, dilations, kind.shape),
            (dilations[0], dilations[1]),
            attribute(node, "group", 1),
        )
        return self.builder.append(step)

    def _bias(self, name: str, scale: NDArray[np.float64], outputs: int) -> NDArray[np.int64]:
        if not name:
            return np.zeros(outputs, dtype=np.int64)
        value = quantised.float_constant(self.graph, self.known, name).ravel()
        return np.broadcast_to(np.floor(value / scale + 0.5), (outputs,)).astype(np.int64)

    def dense(self, node: Any) -> None:
        from lhcc.integer import Dense

        axis = 0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 1
        weight, scale = quantised.weight_of(self.graph, self.known, node.input[1], axis, node.name)
        x = self.at[node.input[0]]
        image = self.flattened.get(node.input[0])
        if image is not None:  # the model flattens channels first, the program channels last
            weight = weight.reshape(len(weight), *image).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        scale = _merged(scale)
        name = node.input[2] if len(node.input) > 2 else ""
        bias = self._bias(name, self.builder.types[x].scale * scale, len(weight))
        step = Dense(self.rounding.free_name(node.name or node.output[0]), (x,), weight.T, bias, scale)
        self._finish(node, self.builder.append(step))

    def qlinear_conv(self, node: Any) -> None:
        """x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias: integers in, integers out."""
        constants = self.graph.constants
        weight = constants[node.input[3]].astype(np.int64)
        weight = weight - constants[node.input[5]].astype(np.int64).reshape(-1, 1, 1, 1)
        scale = np.broadcast_to(constants[node.input[4]].astype(np.float64).ravel(), (len(weight),))
        x = self.at[node.input[0]]
        bias = node.input[8] if len(node.input) > 8 else ""
        if bias:  # int32 in units of x_scale * w_scale
            self.graph.constants[bias + ".real"] = constants[bias] * self.builder.types[x].scale * scale
            bias += ".real"
        total = self._convolve(node, x, weight, scale, bias)
        told = onnx.NodeProto(input=["", node.input[6], node.input[7]])
        name = f"{node.name or node.output[0]}.round"
        self.at[node.output[0]] = self.rounding.to_grid(name, total, quantised.quantize_linear_grid(self.graph, told))

    # --- pointwise

    def _grid(self, node: Any) -> Grid:
        of = quantised.quant_grid if node.op_type == "Quant" else quantised.quantize_linear_grid
        return of(self.graph, node)

    def requantise_as_told(self, node: Any) -> None:
        name = node.name or node.output[0]
        self.at[node.output[0]] = self.rounding.to_grid(name, self.at[node.input[0]], self._grid(node))

    def same(self, node: Any) -> None:
        self.at[node.output[0]] = self.at[node.input[0]]
        if node.input[0] in self.flattened:
            self.flattened[node.output[0]] = self.flattened[node.input[0]]

    def relu(self, node: Any) -> None:
        name = self.rounding.free_name(node.name or node.output[0])
        self.at[node.output[0]] = self.builder.relu(name, self.at[node.input[0]])
        self._keep_order(node)

    def clip(self, node: Any) -> None:
        x = self.at[node.input[0]]
        scale = self.builder.types[x].scale
        low, high = (None if end is None else round(end / float(scale)) for end in self._bounds(node))
        self.at[node.output[0]] = self.builder.clip(self.rounding.free_name(node.name or node.output[0]), x, low, high)
        self._keep_order(node)

    def _keep_order(self, node: Any) -> None:
        if node.input[0] in self.flattened:
            self.flattened[node.output[0]] = self.flattened[node.input[0]]

    def add(self, node: Any) -> None:
        a, b = (self.rounding.align(f"{self.at[name]}.align", self.at[name]) for name in node.input)
        name = self.rounding.free_name(node.name or node.output[0])
        types = [self.builder.types[x] for x in (a, b)]
        if any(kind.fraction is None for kind in types):
            finer = min(float(kind.scale) for kind in types)
            grid = Grid(np.asarray(finer), -(1 << 2 * self.bits), 1 << 2 * self.bits)
            a, b = (self.rounding.to_grid(f"{name}.{side}", x, grid) for side, x in (("a", a), ("b", b)))
        self._finish(node, self.builder.add(name, a, b))

    def silu(self, node: Any) -> None:
        found = self.graph.activation(node)
        if found is None:
            raise UnsupportedOperator(
                f"'{node.name}' multiplies two activations", "only x * sigmoid(x) has an integer form"
            )
        self._piecewise(node, found[0], found[1])

    def smooth(self, node: Any) -> None:
        reader = self.graph.only_user(node.output[0])
        if (
            reader is not None
            and reader.op_type == "Mul"
            and node.op_type == "Sigmoid"
            and self.graph.activation(reader)
        ):
            return
        self._piecewise(node, _SMOOTH[node.op_type], node.input[0])

    def _piecewise(self, node: Any, function: str, source: str) -> None:
        x = self.at[source]
        line = piecewise_linear(function, self.activation_error)
        name = self.rounding.free_name(node.name or node.output[0])
        self._finish(node, self.builder.piecewise(name, x, *line.integers(float(self.builder.types[x].scale))))

    # --- shape and pools

    def concat(self, node: Any) -> None:
        names = [self.at[name] for name in node.input]
        finest = min(float(self.builder.types[x].scale.min()) for x in names)
        grid = Grid(np.asarray(finest), -(1 << 30), 1 << 30)
        aligned = [
            x if float(self.builder.types[x].scale.max()) == finest else self.rounding.to_grid(f"{x}.align", x, grid)
            for x in names
        ]
        self.at[node.output[0]] = self.builder.concat(self.rounding.free_name(node.name or node.output[0]), *aligned)

    def max_pool(self, node: Any) -> None:
        if attribute(node, "ceil_mode", 0) or any(d != 1 for d in attribute(node, "dilations", [1])):
            raise UnsupportedOperator(f"'{node.name}': max pooling with ceil_mode or dilations has no integer form")
        self.at[node.output[0]] = self.builder.max_pool(
            self.rounding.free_name(node.name), self.at[node.input[0]], *self._window(node)
        )

    def _window(self, node: Any) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
        kernel, strides = attribute(node, "kernel_shape", [1, 1]), attribute(node, "strides", [1, 1])
        shape = self.builder.types[self.at[node.input[0]]].shape
        return (kernel[0], kernel[1]), (strides[0], strides[1]), padding_of(node, kernel, strides, [1, 1], shape)

    def average_pool(self, node: Any) -> None:
        kernel, stride, padding = self._window(node)
        if any(padding) and not attribute(node, "count_include_pad", 0):
            raise UnsupportedOperator(f"'{node.name}' averages over a changing number of pixels")
        summed = self.builder.sum_pool(
            self.rounding.free_name(node.name), self.at[node.input[0]], kernel, stride, padding
        )
        self._finish(node, summed)

    def global_average(self, node: Any) -> None:
        x, name = self.at[node.input[0]], node.name or node.output[0]
        total = self.builder.global_sum(self.rounding.free_name(name), x)
        if node.op_type == "ReduceMean":
            axes = attribute(node, "axes", None) or self.graph.constants[node.input[1]].tolist()
            rank = len(self.builder.types[x].shape) + 1
            if sorted(a % rank for a in axes) != [2, 3]:
                raise UnsupportedOperator(f"'{name}' averages over axes {axes}, not over the image")
            if not attribute(node, "keepdims", 1):
                total = self.builder.flatten(self.rounding.free_name(f"{name}.flat"), total)
        self._finish(node, total)

    def vector(self, node: Any) -> None:
        x = self.at[node.input[0]]
        shape = self.builder.types[x].shape
        if len(shape) == 1:
            return self.same(node)
        made = [0, 0] if node.op_type == "Flatten" else self.graph.shapes.get(node.output[0], [])
        if len(made) != 2 or attribute(node, "axis", 1) != 1:
            raise UnsupportedOperator(f"'{node.name}' reshapes an image to {made}, not to a vector")
        self.at[node.output[0]] = self.builder.flatten(self.rounding.free_name(node.name or node.output[0]), x)
        if shape[0] * shape[1] > 1:
            self.flattened[node.output[0]] = (shape[2], shape[0], shape[1])
        return None


def _merged(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """One scale where all filters agree, else one per filter."""
    return np.asarray(scale[0]) if np.all(scale == scale[0]) else np.asarray(scale)
