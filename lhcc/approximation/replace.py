"""Replaces what is not dyadic beside the weights: averages over odd areas, and smooth activations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import helper

from lhcc.approximation.functions import PiecewiseLinear, piecewise_linear
from lhcc.approximation.graph import Graph, attribute

_SMOOTH = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Gelu": "gelu", "HardSwish": "hardswish"}


def approximate_pools(graph: Graph, coefficient: Any) -> Iterator[tuple[str, float, float]]:
    """Global averages over an area that is no power of two: a sum and a dyadic coefficient; (name, exact, new)."""
    for node in list(graph.nodes):
        shape = graph.shapes.get(node.input[0], []) if node.input else []
        if node.op_type not in ("GlobalAveragePool", "AveragePool") or len(shape) != 4:
            continue
        window = shape[2:] if node.op_type == "GlobalAveragePool" else list(attribute(node, "kernel_shape", []))
        area = math.prod(window)
        if area < 1 or area & (area - 1) == 0:
            continue
        padded = any(attribute(node, "pads", [0])) and not attribute(node, "count_include_pad", 0)
        if padded or attribute(node, "ceil_mode", 0):
            graph.reasons.append((node.name, "an average over a changing number of pixels keeps its coefficient"))
            continue
        new = float(coefficient(1 / area))
        _replace_pool(graph, node, shape[1], window, new)
        yield node.name, 1 / area, new


def _replace_pool(graph: Graph, node: Any, channels: int, window: list[int], coefficient: float) -> None:
    weight = np.full((channels, 1, *window), coefficient, np.float32)
    name = graph.new_constant(f"{node.output[0]}_coefficient", weight)
    attributes: dict[str, Any] = {"kernel_shape": window, "group": channels}
    for key in ("strides", "pads", "auto_pad"):
        value = attribute(node, key, None)
        if value is not None and node.op_type == "AveragePool":
            attributes[key] = value
    conv = helper.make_node("Conv", [node.input[0], name], list(node.output), name=node.name, **attributes)
    graph.substitute(node, [conv])


def approximate_activations(graph: Graph, max_error: float) -> Iterator[tuple[str, str, PiecewiseLinear]]:
    """Replaces smooth activations by clips, shifts and additions: (node, function, what it became)."""
    made: dict[str, PiecewiseLinear] = {}
    for node in list(graph.nodes):
        kind = activation(graph, node)
        if kind is None:
            continue
        function, source = kind
        line = made.setdefault(function, piecewise_linear(function, max_error))
        graph.substitute(node, _lines(graph, line, source, node.output[0]))
        yield node.name, function, line


def activation(graph: Graph, node: Any) -> tuple[str, str] | None:
    """(function, its input) if the node is a smooth activation, or the Mul that ends one."""
    if node.op_type in _SMOOTH:
        reader = graph.only_user(node.output[0])
        if (
            node.op_type == "Sigmoid"
            and reader is not None
            and reader.op_type == "Mul"
            and node.input[0] in reader.input
        ):
            return None  # half of a silu; its Mul comes later
        return _SMOOTH[node.op_type], node.input[0]
    if node.op_type == "HardSigmoid" and abs(attribute(node, "alpha", 0.2) - 1 / 6) < 1e-6:
        return "hardsigmoid", node.input[0]
    if node.op_type == "Mul":
        for gate, x in (node.input, reversed(node.input)):
            maker = next((n for n in graph.nodes if gate in n.output), None)
            if maker is not None and maker.op_type == "Sigmoid" and maker.input[0] == x:
                return "silu", x
    return None


def _lines(graph: Graph, line: PiecewiseLinear, x: str, out: str) -> list[Any]:
    """start + sum over k of slope[k] * (clip(x, from, to) - from): only dyadic constants."""

    def constant(hint: str, value: float) -> str:
        return graph.new_constant(f"{out}_{hint}", np.array(value, np.float32))

    nodes, total = [], constant("start", line.start)
    ends: list[float | None] = [*line.breakpoints[1:], None]
    pieces = [(a, b, s) for a, b, s in zip(line.breakpoints, ends, line.slopes, strict=True) if s]
    for k, (low, high, slope) in enumerate(pieces):
        names = [f"{out}_{part}{k}" for part in ("clipped", "moved", "scaled", "sum")]
        bounds = [constant("low", low)] + ([] if high is None else [constant("high", high)])
        nodes.append(helper.make_node("Clip", [x, *bounds], [names[0]]))
        nodes.append(helper.make_node("Sub", [names[0], bounds[0]], [names[1]]))
        nodes.append(helper.make_node("Mul", [names[1], constant("slope", slope)], [names[2]]))
        last = out if k == len(pieces) - 1 else names[3]
        nodes.append(helper.make_node("Add", [names[2], total], [last]))
        total = last
    for node in nodes:
        node.name = node.output[0]
    return nodes
