"""Maxima, minima and their positions against numpy, where everything may be infinite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc

REFERENCES: dict[str, Callable[..., Any]] = {
    "ReduceMax": np.max, "ReduceMin": np.min, "ArgMax": np.argmax, "ArgMin": np.argmin,
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64"])
@pytest.mark.parametrize("keep", [0, 1])
def test_extrema(dtype: str, keep: int) -> None:
    rng = np.random.default_rng(len(dtype) + keep)
    x = rng.integers(-3, 4, (2, 3, 5, 4)).astype(dtype)  # so few numbers that many are equal
    limits = np.finfo(dtype) if x.dtype.kind == "f" else np.iinfo(dtype)
    lowest, greatest = (-np.inf, np.inf) if x.dtype.kind == "f" else (limits.min, limits.max)
    x[0, 0], x[1, :, 2], x[:, 1, 3:, 2] = lowest, greatest, lowest
    x[1, 1, 0] = limits.min
    nodes: list[Any] = []
    expected: list[Any] = []
    for op, reference in REFERENCES.items():
        for axes in [(1,), (-1,), (2, 3), (0, 2), None]:
            if op.startswith("Arg"):
                if axes is None or len(axes) > 1:
                    continue
                nodes.append(helper.make_node(op, ["x"], [f"y{len(nodes)}"], axis=axes[0], keepdims=keep))
                expected.append(reference(x, axis=axes[0], keepdims=bool(keep)))
            else:
                given = [f"axes{axes}"] if axes else []
                nodes.append(helper.make_node(op, ["x", *given], [f"y{len(nodes)}"], keepdims=keep))
                expected.append(reference(x, axis=axes, keepdims=bool(keep)))
    graph = helper.make_graph(
        nodes, "extrema",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None) for node in nodes],
        [numpy_helper.from_array(np.array(axes), f"axes{axes}") for axes in [(1,), (-1,), (2, 3), (0, 2)]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for node, found, wanted in zip(nodes, lhcc.compile(model)(x), expected, strict=True):
        np.testing.assert_array_equal(found, wanted, err_msg=str(node))


def test_a_global_maximum_of_nothing_but_infinity() -> None:
    graph = helper.make_graph(
        [helper.make_node("GlobalMaxPool", ["x"], ["y"])], "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 17, 3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    x = np.full((1, 17, 3, 5), -np.inf, np.float32)
    x[0, 3, 2, 4] = -1e30
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    np.testing.assert_array_equal(lhcc.compile(model)(x), x.max(axis=(2, 3), keepdims=True))
