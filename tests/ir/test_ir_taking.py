"""Elements by index: negative indices count from the end, and none leads out of the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc


def gathering(axis: int, index: np.ndarray[Any, Any] | None) -> Any:
    """Gather of a map of 2x5x3 along an axis, by a constant, or by a second input of four indices."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5, 3])]
    constants = [] if index is None else [numpy_helper.from_array(index, "i")]
    if index is None:
        inputs.append(helper.make_tensor_value_info("i", TensorProto.INT64, [4]))
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=axis)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "taking", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


X = np.arange(30, dtype=np.float32).reshape(2, 5, 3)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements_along_an_axis(axis: int) -> None:
    size = X.shape[axis]
    index = np.array([0, -1, size - 1, -size])
    wanted = np.take(X, index, axis)
    np.testing.assert_array_equal(lhcc.compile(gathering(axis, None))(X, index), wanted)
    np.testing.assert_array_equal(lhcc.compile(gathering(axis, index))(X), wanted)
    table = np.array([[1, 0], [-1, 1]])
    np.testing.assert_array_equal(lhcc.compile(gathering(axis, table))(X), np.take(X, table, axis))


def test_an_index_that_leads_out_of_the_map_takes_its_end() -> None:
    found = lhcc.compile(gathering(1, None))(X, np.array([10**12, 5, 4, -(10**12)]))
    np.testing.assert_array_equal(found, X[:, [4, 4, 4, 0]])
