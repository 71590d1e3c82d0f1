"""A small trained-looking ONNX model, its input, and what ONNX's reference evaluator makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Measured peaks are remembered, but not among the user's files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((8, 3, 3, 3)) / 5,
        "b1": rng.standard_normal(8),
        "w2": rng.standard_normal((16, 8, 3, 3)) / 8,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["h"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w2"], ["y"], name="second", pads=[1, 1, 1, 1], strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 4, 4])],
        [numpy_helper.from_array(value.astype("float32"), name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="session")
def small_input() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype("float32")


@pytest.fixture(scope="session")
def expected(small_onnx: Path, small_input: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from onnx.reference import ReferenceEvaluator

    result: np.ndarray[Any, Any] = ReferenceEvaluator(str(small_onnx)).run(None, {"x": small_input})[0]
    return result


@pytest.fixture(scope="session")
def big_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One convolution with more than a megabyte of weights, and some more to compile."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(2)
    nodes: list[Any] = []
    weights: list[Any] = []
    tensor = "x"
    for number, outputs in enumerate((128, 256, 64, 32, 48)):
        inputs = 128 if number == 0 else weights[-1].dims[0]
        value = rng.standard_normal((outputs, inputs, 3, 3)).astype("float32")
        weights.append(numpy_helper.from_array(value, f"w{number}"))
        nodes.append(helper.make_node("Conv", [tensor, f"w{number}"], [f"t{number}"], pads=[1, 1, 1, 1]))
        tensor = f"t{number}"
    graph = helper.make_graph(
        nodes,
        "big",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 128, 8, 8])],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, 48, 8, 8])],
        weights,
    )
    path = tmp_path_factory.mktemp("onnx") / "big.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path
