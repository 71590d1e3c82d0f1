"""Turns the ONNX operators of `benchmarks.models` into a torch.fx module: PyTorch is measured on the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def to_torch(path: Path) -> Any:
    """An nn.Module that computes the same as the ONNX file, with its weights as parameters."""
    import onnx
    import torch
    from onnx import helper, numpy_helper
    from torch import fx

    graph = onnx.load(str(path)).graph
    constants = {value.name: torch.from_numpy(numpy_helper.to_array(value).copy()) for value in graph.initializer}
    root, result = torch.nn.Module(), fx.Graph()
    values: dict[str, Any] = {value.name: result.placeholder(f"input_{i}") for i, value in enumerate(graph.input)}

    def operand(name: str) -> Any:
        """A node, or a parameter made on first use."""
        if name and name not in values:
            target = f"constant_{len(values)}"
            root.register_parameter(target, torch.nn.Parameter(constants[name], requires_grad=False))
            values[name] = result.get_attr(target)
        return values.get(name)

    functions = torch.nn.functional
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        call: tuple[Any, tuple[Any, ...], dict[str, Any]]
        if node.op_type == "Conv":
            stride, padding = tuple(attributes.get("strides", (1, 1))), _symmetric(attributes.get("pads", [0] * 4))
            settings = {"stride": stride, "padding": padding, "groups": attributes.get("group", 1)}
            call = functions.conv2d, tuple(map(operand, node.input)), settings
        elif node.op_type == "Gemm":
            x, weight, bias = node.input
            if not attributes.get("transB"):
                constants[weight] = constants[weight].t().contiguous()
            call = functions.linear, (operand(x), operand(weight), operand(bias)), {}
        elif node.op_type == "MaxPool":
            settings = {"stride": tuple(attributes["strides"]), "padding": _symmetric(attributes["pads"])}
            call = functions.max_pool2d, (operand(node.input[0]), tuple(attributes["kernel_shape"])), settings
        elif node.op_type == "GlobalAveragePool":
            call = functions.adaptive_avg_pool2d, (operand(node.input[0]), 1), {}
        elif node.op_type == "Flatten":
            call = torch.flatten, (operand(node.input[0]), attributes.get("axis", 1)), {}
        elif node.op_type == "Clip":
            low, high = (float(constants[name]) for name in node.input[1:])
            call = functions.hardtanh, (operand(node.input[0]), low, high), {}
        elif node.op_type in ("Relu", "Add"):
            call = {"Relu": torch.relu, "Add": torch.add}[node.op_type], tuple(map(operand, node.input)), {}
        else:
            raise NotImplementedError(f"benchmark networks have no {node.op_type}")
        values[node.output[0]] = result.call_function(*call)
    result.output(values[graph.output[0].name])
    return fx.GraphModule(root, result)


def _symmetric(pads: list[int]) -> tuple[int, int]:
    if pads[:2] != pads[2:]:
        raise NotImplementedError(f"asymmetric padding {pads}")
    return pads[0], pads[1]
