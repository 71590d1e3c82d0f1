"""Networks to be written as C, and what builds and runs a folder of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhcc.runtime.library import import_tvm

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"
STRICT = "WARNINGS=-Wall -Wextra -Werror -Wno-psabi"
SANITIZED = "CFLAGS=-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
Models = dict[str, Any]


@pytest.fixture(scope="session")
def models() -> Models:
    """Trained digits, LeNet-5 with its tanh, and blocks with depthwise layers, a residual, softmax and two outputs,
    and a layer whose input and output are reordered."""
    import onnx
    from onnx import helper, numpy_helper

    import_tvm()
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {}

    def draw(name: str, *shape: int) -> str:
        fan = int(np.prod(shape[1:])) or 1
        weights[name] = (rng.standard_normal(shape) * (1.5 / fan) ** 0.5).astype(np.float32)
        return name

    def model(nodes: list[Any], shape: tuple[int, ...], outputs: dict[str, tuple[int, ...]]) -> Any:
        floats = onnx.TensorProto.FLOAT
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes, "net", [helper.make_tensor_value_info("x", floats, shape)],
            [helper.make_tensor_value_info(name, floats, s) for name, s in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in weights.items() if name in used],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    node = helper.make_node
    lenet = model(
        [
            node("Conv", ["x", draw("l1", 6, 1, 5, 5), draw("l1b", 6)], ["a"], pads=[2, 2, 2, 2]),
            node("Tanh", ["a"], ["b"]),
            node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["c", draw("l2", 16, 6, 5, 5), draw("l2b", 16)], ["d"]),
            node("Tanh", ["d"], ["e"]),
            node("AveragePool", ["e"], ["f"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", ["f"], ["g"]),
            node("Gemm", ["g", draw("l3", 400, 120), draw("l3b", 120)], ["h"]),
            node("Tanh", ["h"], ["i"]),
            node("Gemm", ["i", draw("l4", 120, 84), draw("l4b", 84)], ["j"]),
            node("Tanh", ["j"], ["k"]),
            node("Gemm", ["k", draw("l5", 84, 10), draw("l5b", 10)], ["y"]),
        ],
        (1, 1, 28, 28), {"y": (1, 10)},
    )  # fmt: skip
    weights["low"], weights["high"] = np.float32(0), np.float32(6)
    block = model(
        [
            node("Conv", ["x", draw("b0", 16, 3, 3, 3), draw("b0b", 16)], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Clip", ["a", "low", "high"], ["b"]),
            node("Conv", ["b", draw("b1", 96, 16, 1, 1), draw("b1b", 96)], ["c"]),
            node("Clip", ["c", "low", "high"], ["d"]),
            node("Conv", ["d", draw("b2", 96, 1, 3, 3), draw("b2b", 96)], ["e"], pads=[1, 1, 1, 1], group=96),
            node("Clip", ["e", "low", "high"], ["f"]),
            node("Conv", ["f", draw("b3", 16, 96, 1, 1), draw("b3b", 16)], ["g"]),
            node("Add", ["g", "b"], ["features"]),
            node("GlobalAveragePool", ["features"], ["h"]),
            node("Flatten", ["h"], ["i"]),
            node("Gemm", ["i", draw("b4", 16, 11), draw("b4b", 11)], ["j"]),
            node("Softmax", ["j"], ["classes"], axis=1),
        ],
        (1, 3, 21, 21), {"classes": (1, 11), "features": (1, 16, 11, 11)},
    )  # fmt: skip
    alike = np.arange(36)[:, None] % 4 == np.arange(36) % 4  # found by reordering what comes in and what goes out
    scattered_layer = ["x", draw("s0", 36, 36, 3, 3), draw("s0b", 36)]
    weights["s0"] *= alike[:, :, None, None]
    scattered = model([node("Conv", scattered_layer, ["y"])], (2, 36, 5, 6), {"y": (2, 36, 3, 4)})
    return {"digits": str(DIGITS / "vgg_lhc_free.onnx"), "lenet": lenet, "block": block, "scattered": scattered}


@pytest.fixture(scope="session")
def integers() -> Any:
    """The digits network with dyadic weights."""
    import lhcc

    return lhcc.approximate(str(DIGITS / "vgg_lhc_free.onnx"))


@pytest.fixture(scope="session")
def written(models: Models, integers: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a network as C, written once per set of options; the caller must not write to it."""
    import lhcc

    known: dict[str, Path] = {}

    def write(model: str, target: str = "cpu", **how: Any) -> Path:
        key = f"{model} {target} {how}"
        if key not in known:
            known[key] = tmp_path_factory.mktemp("c") / "net"
            chosen = integers if model == "integers" else models[model]
            if model == "integers":
                how["precision"] = "int8"
            lhcc.emit(chosen, known[key], target, name="net", **how)
        return known[key]

    return write


def need(*commands: str) -> None:
    """Skips a test where a command is missing."""
    for command in commands:
        if shutil.which(command) is None and shutil.which(f"{command}-static") is None:
            pytest.skip(f"{command} is not installed")


def make(folder: Path, scratch: Path, *arguments: str) -> str:
    """`make test` on a copy of the folder; what the test program printed."""
    copy = scratch / "build"
    shutil.copytree(folder, copy)
    done = subprocess.run(["make", "-s", STRICT, *arguments, "test"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout and "warning" not in done.stderr, done.stderr
    return done.stdout
