"""Small seeded ONNX networks for the tests of the approximation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network(seed: int = 0, activation: str = "Relu", head: str = "Gemm", batch_norm: bool = True) -> onnx.ModelProto:
    """conv (+ batch norm) -> activation -> depthwise conv -> activation -> global average over 7 x 5 -> classifier."""
    rng = np.random.default_rng(seed)
    constants = {
        "w1": rng.normal(size=(8, 3, 3, 3)) * 0.3,
        "gamma": rng.uniform(0.5, 2, 8),
        "beta": rng.normal(size=8) * 0.1,
        "mean": rng.normal(size=8) * 0.1,
        "variance": rng.uniform(0.5, 2, 8),
        "w2": rng.normal(size=(8, 1, 3, 3)) * 0.5,
        "b2": rng.normal(size=8) * 0.1,
        "w3": rng.normal(size=(4, 8) if head == "Gemm" else (8, 4)),
    }
    nodes = [helper.make_node("Conv", ["x", "w1"], ["c1"], "first", pads=[1, 1, 1, 1], kernel_shape=[3, 3])]
    last = "c1"
    if batch_norm:
        nodes.append(
            helper.make_node("BatchNormalization", ["c1", "gamma", "beta", "mean", "variance"], ["n1"], "norm")
        )
        last = "n1"
    nodes += _activation(activation, last, "a1")
    nodes.append(helper.make_node("Conv", ["a1", "w2", "b2"], ["c2"], "second", pads=[1, 1, 1, 1], group=8))
    nodes += _activation(activation, "c2", "a2")
    nodes.append(helper.make_node("GlobalAveragePool", ["a2"], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flat"))
    attributes = {"transB": 1} if head == "Gemm" else {}
    nodes.append(helper.make_node(head, ["flat", "w3"], ["y"], "head", **attributes))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 7, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in constants.items() if key in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _activation(kind: str, x: str, y: str) -> list[Any]:
    if kind == "Silu":
        return [helper.make_node("Sigmoid", [x], [y + "s"], y + "s"), helper.make_node("Mul", [x, y + "s"], [y], y)]
    return [helper.make_node(kind, [x], [y], y)]


def images(seed: int, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, 3, 7, 5)).astype(np.float32)
