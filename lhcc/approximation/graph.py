"""Reads and edits the ONNX graph: layers with constant weights, batch norms, constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from lhcc.errors import ModelError

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Layer:
    """One node with a constant weight; `positions` counts the outputs that each filter makes per input."""

    name: str
    op: str
    node: Any
    weight: str
    bias: str | None
    outputs_last: bool
    positions: int


class Graph:
    """A model under edit: constants by name, the layers that have weights, and the reasons for those left alone."""

    def __init__(self, model: Any) -> None:
        self.source = model
        self.nodes = [_copy(node) for node in model.graph.node]
        self.outputs = [value.name for value in model.graph.output]
        self.constants = {t.name: np.asarray(numpy_helper.to_array(t)) for t in model.graph.initializer}
        self.exact: dict[str, NDArray[np.float64]] = {}
        self.reasons: list[tuple[str, str]] = []
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = np.asarray(numpy_helper.to_array(node.attribute[0].t))
        self.nodes = [node for node in self.nodes if node.op_type != "Constant" or node.output[0] not in self.constants]
        self.fold_batch_norms()
        self.shapes = self._shapes()

    def set_array(self, name: str, value: NDArray[Any]) -> None:
        self.constants[name] = np.ascontiguousarray(value, dtype=self.constants[name].dtype)

    def new_constant(self, hint: str, value: NDArray[Any]) -> str:
        name, k = hint, 0
        while name in self.constants:
            name, k = f"{hint}_{k}", k + 1
        self.constants[name] = value
        return name

    def users(self, tensor: str) -> list[Any]:
        return [node for node in self.nodes if tensor in node.input]

    def only_user(self, tensor: str) -> Any | None:
        """The node that alone reads a tensor which is no output of the model."""
        users = self.users(tensor)
        return users[0] if len(users) == 1 and tensor not in self.outputs else None

    def _shapes(self) -> dict[str, list[int]]:
        try:
            inferred = shape_inference.infer_shapes(self.finished())
        except shape_inference.InferenceError as error:
            raise ModelError(f"the shapes of the model cannot be inferred: {error}") from None
        except onnx.checker.ValidationError as error:
            fault = str(error).partition("\n")[0]
            raise ModelError(f"the model is not valid ONNX: {fault}", "export it again") from None
        values = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
        return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    # --- layers

    def layers(self) -> list[Layer]:
        """Every node whose weight is a constant, in graph order; a weight shared by several nodes counts once."""
        found: list[Layer] = []
        for k, node in enumerate(self.nodes):
            if node.op_type not in _WEIGHTED:
                continue
            name = node.name or f"{node.op_type}_{k}"
            reason = self._refusal(node)
            if reason is None and any(layer.weight == node.input[1] for layer in found):
                reason = "its weight is shared with an earlier layer, and follows it"
            if reason is not None:
                self.reasons.append((name, reason))
                continue
            bias = node.input[2] if len(node.input) > 2 and node.input[2] in self.constants else None
            shape = self.shapes.get(node.output[0], [])
            spatial = shape[2:] if node.op_type.startswith("Conv") else shape[1:-1]
            positions = math.prod(max(d, 1) for d in spatial)
            found.append(Layer(name, node.op_type, node, node.input[1], bias, filter_axis(node) == 1, positions))
        return found

    def _refusal(self, node: Any) -> str | None:
        if node.input[1] not in self.constants:
            return "its weight is not a constant"
        if node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1:
            return "grouped transposed convolutions are left alone"
        if node.op_type == "Gemm" and (attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1):
            return "a Gemm with alpha or beta other than 1 is left alone"
        if node.op_type == "MatMul" and self.constants[node.input[1]].ndim != 2:
            return "only matrices are approximated in a MatMul"
        return None

    def filters(self, layer: Layer) -> NDArray[np.float64]:
        """The weight as (filters, inputs, taps); as it was last set, before rounding to the model's type."""
        exact = self.exact.get(layer.weight)
        if exact is not None:
            return exact
        weight = self.constants[layer.weight].astype(np.float64)
        if layer.outputs_last or layer.op == "ConvTranspose":
            weight = weight.swapaxes(0, 1)
        return weight.reshape(weight.shape[0], weight.shape[1], -1)

    def set_filters(self, layer: Layer, filters: NDArray[np.float64]) -> None:
        shape = list(self.constants[layer.weight].shape)
        self.exact[layer.weight] = filters
        swapped = layer.outputs_last or layer.op == "ConvTranspose"
        if swapped:
            shape[0], shape[1] = shape[1], shape[0]
        weight = filters.reshape(shape)
        self.set_array(layer.weight, weight.swapaxes(0, 1) if swapped else weight)

    def bias_of(self, layer: Layer) -> str:
        """The name of the layer's bias, made if there is none (a MatMul has no place for one and raises)."""
        if layer.bias is not None:
            return layer.bias
        if layer.op == "MatMul":
            raise ModelError(f"'{layer.name}' is a MatMul and has no bias to correct")
        outputs = self.filters(layer).shape[0]
        name = self.new_constant(f"{layer.weight}_bias", np.zeros(outputs, self.constants[layer.weight].dtype))
        while len(layer.node.input) < 3:
            layer.node.input.append("")
        layer.node.input[2] = name
        return name

    # --- batch norm

    def fold_batch_norms(self) -> None:
        """conv -> batch norm becomes one conv where nobody else reads the conv; others stay, with a reason."""
        for norm in [n for n in self.nodes if n.op_type == "BatchNormalization"]:
            conv = next((n for n in self.nodes if norm.input[0] in n.output and n.op_type == "Conv"), None)
            known = all(name in self.constants for name in norm.input[1:5])
            if conv is None or conv.input[1] not in self.constants or not known or not self._sole(conv, norm):
                self.reasons.append(
                    (norm.name, "this batch norm follows no convolution of its own, so it keeps its scale")
                )
                continue
            gamma, beta, mean, variance = (self.constants[name].astype(np.float64) for name in norm.input[1:5])
            gain = gamma / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
            weight = self.constants[conv.input[1]].astype(np.float64)
            had = conv.input[2] if len(conv.input) > 2 and conv.input[2] else None
            bias = self.constants[had].astype(np.float64) if had else np.zeros(len(gain))
            shaped = gain.reshape(-1, *([1] * (weight.ndim - 1)))
            dtype = self.constants[conv.input[1]].dtype
            folded = self.new_constant(f"{conv.input[1]}_folded", (weight * shaped).astype(dtype))
            moved = self.new_constant(f"{conv.input[1]}_folded_bias", ((bias - mean) * gain + beta).astype(dtype))
            data, output = conv.input[0], norm.output[0]
            del conv.input[:]
            conv.input.extend([data, folded, moved])
            conv.output[0] = output
            self.nodes.remove(norm)

    def _sole(self, conv: Any, norm: Any) -> bool:
        return self.only_user(conv.output[0]) is norm

    # --- the model as edited

    def substitute(self, node: Any, by: list[Any]) -> None:
        at = self.nodes.index(node)
        self.nodes[at : at + 1] = by

    def _needed(self) -> list[Any]:
        """The nodes that the outputs depend on; the sigmoid of a replaced silu is not among them."""
        wanted, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        return kept[::-1]

    def finished(self, extra_outputs: list[str] | None = None) -> Any:
        """The model as edited, without constants that nothing reads, checked; `extra_outputs` are shown as well."""
        model = onnx.ModelProto()
        model.CopyFrom(self.source)
        graph = model.graph
        for part in (graph.node, graph.initializer, graph.value_info):
            del part[:]
        graph.node.extend(self._needed())
        read = {name for node in graph.node for name in node.input} | set(self.outputs)
        graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in self.constants.items() if n in read)
        inputs = [value for value in graph.input if value.name not in self.constants]
        del graph.input[:]
        graph.input.extend(inputs)
        onnx.checker.check_model(model)
        for name in extra_outputs or []:
            graph.output.append(onnx.ValueInfoProto(name=name))  # of whatever type it is
        return model

    def part(self, nodes: list[Any], inputs: Mapping[str, Any], outputs: list[str]) -> Any:
        """A model of some nodes; `inputs` are the tensors that they read from elsewhere, with their element types."""
        read = {name for node in nodes for name in node.input}
        constants = [numpy_helper.from_array(self.constants[n], n) for n in sorted(read) if n in self.constants]
        given = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)
            for n, kind in inputs.items()
        ]
        made = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(nodes, "part", given, made, constants)
        model = helper.make_model(graph, opset_imports=self.source.opset_import, ir_version=self.source.ir_version)
        model.functions.extend(self.source.functions)
        return model


def _copy(node: Any) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def filter_axis(node: Any) -> int:
    """The axis of a layer's weight that counts its outputs."""
    return int(node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)))


def attribute(node: Any, name: str, default: Any) -> Any:
    """The value of a node's attribute, or what it is by default."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default
