"""Models in half precision compute in float32, as the same model with wide numbers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc
from lhcc.cli import main
from lhcc.errors import UnsupportedOperator
from lhcc.frontend import backend, import_model
from lhcc.frontend.half import Widened


def half_onnx(size: int = 8) -> Any:
    """Half weights and input, a constant of half type, one branch that was in float32 all along."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((4, 3, 3, 3)), "b": rng.standard_normal(4), "low": np.array(-0.5)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Max", ["c", "low"], ["m"], name="floor"),
        helper.make_node("Cast", ["m"], ["wide"], name="up", to=TensorProto.FLOAT),
        helper.make_node("Softmax", ["wide"], ["s"], name="softmax", axis=1),
        helper.make_node("Cast", ["s"], ["narrow"], name="down", to=TensorProto.FLOAT16),
        helper.make_node("Add", ["narrow", "m"], ["y"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes, "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 4, size, size])],
        [numpy_helper.from_array(value.astype("float16"), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_onnx() -> None:
    model, x = half_onnx(), np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype("float32")
    with pytest.warns(Widened, match="the model is in float16, at least in part: it is compiled in float32"):
        exe = lhcc.compile(model)
    assert [str(spec) for spec in (*exe.inputs, *exe.outputs)] == [
        "x: float32[1, 3, 8, 8]", "y: float32[1, 4, 8, 8]",
    ]  # fmt: skip
    y = exe(x)
    w, b = (numpy_helper.to_array(t).astype("float64") for t in model.graph.initializer[:2])
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]).astype("float64")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    m = np.maximum(np.einsum("nihwkl,oikl->nohw", windows, w) + b[:, None, None], -0.5)
    expected = m + np.exp(m) / np.exp(m).sum(axis=1, keepdims=True)
    assert np.linalg.norm(y - expected) <= 1e-6 * np.linalg.norm(expected)


def test_layers_keep_their_names() -> None:
    with pytest.warns(Widened):
        module = import_model(half_onnx())
    (block,) = module["main"].body.blocks
    assert [b.var.name for b in block.bindings] == ["stem", "stem", "floor", "softmax", "sum", "output"]


def test_a_model_in_float32_is_not_touched(recwarn: pytest.WarningsRecorder) -> None:
    model = half_onnx()
    del model.graph.node[4:]
    model.graph.node.add().CopyFrom(helper.make_node("Identity", ["s"], ["y"]))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    import_model(model)
    assert not [w for w in recwarn if issubclass(w.category, Widened)]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_pytorch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.Hardswish(), torch.nn.MaxPool2d(2),
        torch.nn.Upsample(scale_factor=2, mode="bilinear"), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5),
        torch.nn.Softmax(dim=1),
    ).eval().to(getattr(torch, dtype))  # fmt: skip
    x = torch.randn(2, 3, 6, 6)
    with pytest.warns(Widened, match=dtype):
        exe = lhcc.compile(model, inputs=x.to(getattr(torch, dtype)))
    with torch.no_grad():
        expected = model.float()(x)
    assert torch.linalg.norm(exe(x) - expected) <= 1e-5 * torch.linalg.norm(expected)


def test_the_command_line_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(half_onnx(), tmp_path / "half.onnx")
    assert main(["compile", str(tmp_path / "half.onnx"), "-o", str(tmp_path / "half.lhcc")]) == 0
    complaint = capsys.readouterr().err
    assert complaint.startswith("warning: the model is in float16") and complaint.count("\n") == 1


def test_a_backend_does_not_widen() -> None:
    x = np.zeros((1, 3, 8, 8), np.float16)
    with pytest.raises(UnsupportedOperator, match="float16"):
        backend.run_model(half_onnx(), [x])
