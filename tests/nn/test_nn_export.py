"""Swapping convolutions in and out, and the ONNX files that come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lhcc.errors import ModelError  # noqa: E402
from lhcc.nn import HetConv2d, LHConv2d, MaskedConv2d, ShapeSchedule, export_onnx, fold_masks, to_lhc  # noqa: E402

pytestmark = pytest.mark.torch


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 6, 1)),
    )


def test_to_lhc_keeps_the_first_and_the_grouped_convolutions() -> None:
    model = to_lhc(small_network(), group_in=4, group_out=4)
    kinds = {name: type(layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    assert kinds == {"0": nn.Conv2d, "2": LHConv2d, "4.0": nn.Conv2d, "4.1": LHConv2d}


def test_to_lhc_gives_rigid_shapes_to_three_by_three_kernels_only() -> None:
    model = to_lhc(small_network(), shapes="rigid")
    assert model.get_submodule("2").shapes == "rigid"
    assert model.get_submodule("4.1").shapes == "free"


def test_to_lhc_starts_from_the_function_of_the_dense_network() -> None:
    dense = small_network().eval()
    x = torch.randn(2, 3, 8, 8)
    expected = dense(x)
    model = to_lhc(dense, group_in=4, group_out=4)
    ShapeSchedule(model, target=0.3)  # the first epoch runs without masks
    torch.testing.assert_close(model(x), expected)


def test_a_convolution_in_two_places_stays_one() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1)
    network = to_lhc(nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.ReLU(), shared), group_in=4, group_out=4)
    assert isinstance(network, nn.Sequential) and isinstance(network[1], LHConv2d) and network[3] is network[1]
    folded = fold_masks(network)
    assert isinstance(folded, nn.Sequential) and type(folded[1]) is nn.Conv2d and folded[3] is folded[1]
    x = torch.randn(1, 3, 5, 6)
    assert torch.allclose(folded(x), network(x), atol=1e-6)
    dense = to_lhc(nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.ReLU(), shared), keep_dense={"3"})
    assert isinstance(dense, nn.Sequential) and isinstance(dense[0], LHConv2d) and dense[1] is dense[3] is shared


def test_to_lhc_refuses_unknown_names() -> None:
    with pytest.raises(ModelError, match="keep_dense names no convolution: nine"):
        to_lhc(small_network(), keep_dense=["0", "nine"])
    with pytest.raises(ModelError, match="no convolution to swap"):
        to_lhc(nn.Sequential(nn.Linear(1, 1)))


def test_fold_masks_keeps_the_function_and_leaves_the_model_alone() -> None:
    model = to_lhc(small_network(), group_in=4, group_out=4).eval()
    x = torch.randn(2, 3, 9, 7)
    folded = fold_masks(model)
    torch.testing.assert_close(folded(x), model(x))
    assert not any(isinstance(layer, MaskedConv2d) for layer in folded.modules())
    assert any(isinstance(layer, LHConv2d) for layer in model.modules())
    single = fold_masks(LHConv2d(4, 4, 3))
    assert type(single) is nn.Conv2d


def test_export_folds_masks_into_exact_zeros(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = to_lhc(small_network(), group_in=4, group_out=4).eval()
    with torch.no_grad():  # a batch norm that folds into negative scales, which must not leave -0 behind
        model[3].weight.copy_(torch.linspace(-2, 2, 12))
        model[3].running_mean.uniform_(-1, 1)
    x = torch.randn(1, 3, 8, 8)
    path = tmp_path / "model.onnx"
    export_onnx(model, x, path)
    session = onnxruntime.InferenceSession(str(path))
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(y, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)

    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    for name in ("2", "4.1"):
        mask = model.get_submodule(name).mask().detach().numpy()
        weight = stored[f"{name}.weight"]
        assert 0 < mask.mean() < 1
        assert np.array_equal(weight != 0, mask != 0)
        assert not np.signbit(weight[mask == 0]).any()


def test_what_cannot_be_exported_is_one_sentence() -> None:
    class Choosing(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ModelError, match="torch.onnx.export cannot write this Choosing: "):
        export_onnx(Choosing(), torch.ones(2, 3))


def test_one_tensor_may_be_the_example_of_two_inputs() -> None:
    class Difference(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a - 2 * b

    x = torch.ones(2, 3)
    node = export_onnx(Difference(), (x, x)).graph.node[-1]
    assert {"a", "b"} & set(node.input) == {"a"} and node.op_type == "Sub"


def test_export_names_layers_and_forgets_the_machine(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = nn.Sequential()
    model.add_module("first", nn.Conv2d(3, 4, 3))
    model.add_module("het", HetConv2d(4, 4, 3, p=2))
    path = tmp_path / "model.onnx"
    proto = export_onnx(model, torch.zeros(1, 3, 8, 8), path)
    assert [node.name for node in proto.graph.node] == ["first", "het"]
    assert str(Path(__file__).parent).encode() not in path.read_bytes()
    assert b".py" not in path.read_bytes()
