"""Masks and gradients of the masked convolutions against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lhcc.errors import ModelError  # noqa: E402
from lhcc.inspection.shapes import RIGID_SHAPES, free_mask, rigid_mask  # noqa: E402
from lhcc.nn import HetConv2d, LHConv2d  # noqa: E402
from lhcc.nn.steps import free_step, rigid_step  # noqa: E402

pytestmark = pytest.mark.torch

ROW, COLUMN, FULL = 2, 4, 14  # indices into the 15 rigid shapes


def test_free_step_and_its_slopes() -> None:
    effects = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    step = free_step(effects)
    assert step.tolist() == [0, 0, 0, 0, 1, 1, 1]
    step.backward(torch.full((7,), 10.0))
    assert effects.grad.tolist() == [1, 1, 10, 10, 10, 1, 1]


def test_rigid_step_takes_the_largest_and_its_slopes_follow_the_mean() -> None:
    # Columns: near their mean 0.3; far from their mean 1 (a distance of exactly 1 is far).
    effects = torch.tensor([[0.0, 0.0], [0.9, 3.0], [0.0, 0.0]], requires_grad=True)
    step = rigid_step(effects)
    assert step.tolist() == [[0, 0], [1, 1], [0, 0]]
    step.backward(torch.full((3, 2), 10.0))
    assert effects.grad.tolist() == [[10, 1], [10, 1], [10, 1]]


def test_rigid_step_selects_every_tied_shape() -> None:
    assert rigid_step(torch.tensor([2.0, 2.0, -1.0])).tolist() == [1, 1, 0]


def test_a_mask_is_tiled_and_cropped() -> None:
    layer = LHConv2d(3, 5, 1, group_in=2, group_out=2)
    with torch.no_grad():
        layer.effects.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])[:, :, None, None])
    assert layer.mask()[:, :, 0, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 1, 1]]
    assert layer.density() == pytest.approx(9 / 15)


def test_free_gradients_reach_weights_and_effects() -> None:
    layer = LHConv2d(2, 2, 1, bias=False, group_in=2, group_out=1)
    with torch.no_grad():
        layer.effects.copy_(torch.tensor([0.5, -3.0]).reshape(2, 1, 1, 1))
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1))
    y = layer(torch.tensor([10.0, 20.0]).reshape(1, 2, 1, 1))
    assert y.flatten().tolist() == [50, 0]
    y.sum().backward()
    assert layer.weight.grad.flatten().tolist() == [10, 20, 0, 0]  # a masked weight does not learn
    # Slope of a mask is weight * input: 10 + 40 for the first block, (30 + 80) * 0.1 for the far one.
    assert layer.effects.grad.flatten().tolist() == pytest.approx([50, 11])


def rigid_layer(effects: dict[int, float]) -> LHConv2d:
    layer = LHConv2d(1, 1, 3, bias=False, shapes="rigid")
    with torch.no_grad():
        layer.effects.zero_()
        for index, value in effects.items():
            layer.effects[index] = value
        layer.weight.copy_(torch.arange(1.0, 10.0).reshape(1, 1, 3, 3))
    return layer


def test_a_rigid_tie_adds_the_shapes_up() -> None:
    assert rigid_layer({ROW: 1, COLUMN: 1}).mask()[0, 0].tolist() == [[0, 1, 0], [1, 2, 1], [0, 1, 0]]


def test_all_fifteen_shapes_tied() -> None:
    assert np.array_equal(rigid_layer({}).mask()[0, 0].detach().numpy(), RIGID_SHAPES.sum(axis=0))


@pytest.mark.parametrize(("value", "slope"), [(0.75, 1.0), (15.0, 0.1)])  # nearest mean distance 0.05, 1
def test_rigid_gradients_sum_the_taps_of_each_shape(value: float, slope: float) -> None:
    layer = rigid_layer({FULL: value})
    y = layer(torch.ones(1, 1, 3, 3))
    assert y.item() == 45
    y.backward()
    gradient = layer.effects.grad.flatten() / slope
    expected = [0, 5, 15, 15, 15, 15, 16, 12, 24, 28, 21, 27, 39, 33, 45]
    assert gradient.tolist() == pytest.approx(expected)


def test_disabled_channels_are_dense() -> None:
    layer = LHConv2d(2, 3, 1, group_in=2, group_out=3)
    with torch.no_grad():
        layer.effects.fill_(-1)
    layer.enabled.copy_(torch.tensor([True, False, True]))
    assert layer.mask()[:, :, 0, 0].tolist() == [[0, 0], [1, 1], [0, 0]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shapes", ["free", "rigid"])
def test_torch_and_numpy_masks_agree(seed: int, shapes: str) -> None:
    random = np.random.default_rng(seed)
    inputs, outputs, group_in, group_out = (int(n) for n in random.integers(1, 40, 4))
    layer = LHConv2d(inputs, outputs, 3, shapes=shapes, group_in=group_in, group_out=group_out)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.effects.copy_((layer.effects * 4).round())  # so that ties occur
    rule = free_mask if shapes == "free" else rigid_mask
    expected = rule(layer.effects.detach().numpy(), group_in, group_out, inputs, outputs)
    assert np.array_equal(layer.mask().detach().numpy(), expected)


def test_het_conv_moves_its_whole_kernels_with_the_output() -> None:
    layer = HetConv2d(4, 3, 3, padding=1, p=2)
    taps = layer.mask().sum(dim=(2, 3)).tolist()
    assert taps == [[9, 1, 9, 1], [1, 9, 1, 9], [9, 1, 9, 1]]
    assert layer.mask()[0, 1].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_het_conv_computes_a_sum_of_whole_and_pointwise_convolutions() -> None:
    torch.manual_seed(0)
    layer = HetConv2d(6, 1, 3, padding=1, p=3, bias=False).double()
    x = torch.randn(1, 6, 5, 5, dtype=torch.float64)
    whole = nn.functional.conv2d(x[:, ::3], layer.weight[:, ::3], padding=1)
    rest = [1, 2, 4, 5]
    pointwise = nn.functional.conv2d(x[:, rest], layer.weight[:, rest, 1:2, 1:2])
    torch.testing.assert_close(layer(x), whole + pointwise)


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 1, "padding_mode": "reflect"}, {"groups": 2}])
def test_every_convolution_option_still_works(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = LHConv2d(4, 6, 3, group_in=2, group_out=2, **options)
    plain = nn.Conv2d(4, 6, 3, **options)
    plain.load_state_dict({"weight": layer.masked_weight(), "bias": layer.bias})
    x = torch.randn(2, 4, 7, 7)
    torch.testing.assert_close(layer(x), plain(x))


def test_masks_survive_the_state_dict() -> None:
    torch.manual_seed(0)
    first, second = (LHConv2d(8, 8, 3, group_in=2, group_out=2) for _ in range(2))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.mask(), second.mask())


def test_rigid_shapes_need_three_by_three_kernels() -> None:
    with pytest.raises(ModelError, match="rigid shapes are 3 x 3, the kernel is 5 x 5"):
        LHConv2d(1, 1, 5, shapes="rigid")


@pytest.mark.parametrize("arguments", [{"shapes": "loose"}, {"group_in": 0}])
def test_mistakes_are_named(arguments: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        LHConv2d(1, 1, 3, **arguments)  # type: ignore[arg-type]
