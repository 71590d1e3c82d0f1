"""What approximation begins with: models of every kind become ONNX, with their open dimensions bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

import lhcc
from lhcc.approximation import approximate
from lhcc.approximation.as_onnx import to_onnx
from lhcc.errors import InputError, ModelError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )  # fmt: skip


def program() -> Any:
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(network().eval(), (torch.rand(2, 3, 6, 5),), dynamic_shapes=({0: batch},))


def shape(proto: Any) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in proto.graph.input[0].type.tensor_type.shape.dim]


def test_a_module_is_exported_for_inference_and_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    module = network().train()
    for inputs in (np.zeros((2, 3, 6, 5), np.float32), [torch.zeros(2, 3, 6, 5)], {"input": torch.zeros(2, 3, 6, 5)}):
        assert shape(to_onnx(module, inputs)) == [2, 3, 6, 5]
    assert shape(to_onnx(module, None, {"input": (1, 3, 7, 7)})) == [1, 3, 7, 7]
    assert module.training and all(layer.training for layer in module)
    assert capfd.readouterr() == ("", "")


def test_masks_are_folded_into_the_weights() -> None:
    from lhcc.nn import LHConv2d

    torch.manual_seed(0)
    layer = LHConv2d(4, 4, 3, group_in=2, group_out=2, bias=False)
    assert 0 < layer.density() < 1
    answer = approximate(torch.nn.Sequential(layer), torch.zeros(1, 4, 5, 5))
    (weight,) = (numpy_helper.to_array(tensor) for tensor in answer.model.graph.initializer if len(tensor.dims) == 4)
    assert weight.any() and not weight[layer.mask().detach().numpy() == 0].any()


def test_programs_and_their_files(tmp_path: Path) -> None:
    torch.export.save(program(), tmp_path / "model.pt2")
    for model in (program(), tmp_path / "model.pt2"):
        name = to_onnx(model).graph.input[0].name
        assert shape(to_onnx(model))[1:] == [3, 6, 5] and isinstance(shape(to_onnx(model))[0], str)
        assert shape(to_onnx(model, None, {name: (4, 3, 6, 5)})) == [4, 3, 6, 5]
        assert shape(to_onnx(model, np.zeros((3, 3, 6, 5)))) == [3, 3, 6, 5]
    (tmp_path / "broken.pt2").write_text("hello")
    with pytest.raises(ModelError, match="broken.pt2' is no program saved by torch.export"):
        to_onnx(tmp_path / "broken.pt2")


def test_integers_of_images_whose_size_is_given_late() -> None:
    torch.manual_seed(1)
    size = torch.export.Dim("size", min=4, max=64)
    images = torch.export.export(network().eval(), (torch.rand(2, 3, 6, 5),), dynamic_shapes=({2: size},))
    approximated = approximate(images)
    name = approximated.model.graph.input[0].name
    with pytest.raises(InputError, match=f"dimension 2 .* of input '{name}' has no fixed size"):
        lhcc.compile(approximated, precision="int8")
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 5)).astype(np.float32)
    exact = lhcc.compile(approximated.bound(x, None), precision="int8")(x)
    for bound in ({"inputs": x}, {"input_shapes": {name: x.shape}}):
        np.testing.assert_array_equal(lhcc.compile(approximated, precision="int8", **bound)(x), exact)
        np.testing.assert_array_equal(lhcc.compile(approximated.model, precision="int8", **bound)(x), exact)
    reference = lhcc.compile(approximated, input_shapes={name: x.shape})(x)
    np.testing.assert_allclose(exact, reference, atol=0.05)
