"""The networks that benchmarks measure: their size, their zeros and their answers are what the figures claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import masks, models
from benchmarks.models import LayerShape, Recipe

# Multiply-adds in millions and outputs, from the architectures' papers and model zoos.
PUBLISHED = {
    "vgg16-cifar": (313.2, 13, [1, 10]),
    "resnet18-cifar": (555.4, 20, [1, 10]),
    "resnet34": (3663.2, 36, [1, 1000]),
    "resnet50": (4087.1, 53, [1, 1000]),
    "mobilenetv2": (299.5, 52, [1, 1000]),
}


def output_shape(model: object) -> list[int]:
    (output,) = model.graph.output  # type: ignore[attr-defined]
    return [dim.dim_value for dim in output.type.tensor_type.shape.dim]


@pytest.mark.parametrize("name", ["vgg16-cifar", "mobilenetv2"])
def test_network_is_valid_onnx_of_the_published_size(name: str) -> None:
    net = models.NETWORKS[name](Recipe())
    million, convs, shape = PUBLISHED[name]
    assert len(net.convs) == convs
    assert sum(conv.macs for conv in net.convs) / 1e6 == pytest.approx(million, abs=0.05)
    assert output_shape(net.model()) == shape


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18-cifar", "resnet34", "resnet50"])
def test_large_network_is_valid_onnx_of_the_published_size(name: str) -> None:
    net = models.NETWORKS[name](Recipe())
    million, convs, shape = PUBLISHED[name]
    assert len(net.convs) == convs
    assert sum(conv.macs for conv in net.convs) / 1e6 == pytest.approx(million, abs=0.05)
    assert output_shape(net.model()) == shape


def test_every_layer_but_the_first_has_exactly_the_asked_share_of_cells() -> None:
    net = models.vgg16_cifar(Recipe(density=0.1))
    assert net.convs[0].kept == net.convs[0].weights
    for conv in net.convs[1:]:
        cells = 9 * -(-conv.inputs // 32) * -(-conv.outputs // 16)
        assert conv.kept == round(0.1 * cells) * 32 * 16


def test_weights_follow_the_stated_recipe() -> None:
    """Worked out here once more, by hand, for the first two convolutions and the second one's zeros."""
    from onnx import numpy_helper

    model = models.vgg16_cifar(Recipe(density=0.2, seed=5)).model()
    found = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    rng = np.random.default_rng(5)
    first = rng.standard_normal((64, 3, 3, 3)).astype(np.float32) * np.float32(np.sqrt(2 / 27))
    first_bias = (rng.standard_normal(64) * 0.05).astype(np.float32)
    second = rng.standard_normal((64, 64, 3, 3)).astype(np.float32) * np.float32(np.sqrt(2 / (64 * 9 * 0.2)))
    np.testing.assert_array_equal(found["conv1_1.weight"], first)
    np.testing.assert_array_equal(found["conv1_1.bias"], first_bias)
    kept = np.zeros(4 * 2 * 9, bool)
    kept[np.random.default_rng(5).permutation(72)[:14]] = True  # 20 % of 72 cells
    for cell, (block_out, block_in, row, column) in enumerate(np.ndindex(4, 2, 3, 3)):
        out, inputs = slice(16 * block_out, 16 * block_out + 16), slice(32 * block_in, 32 * block_in + 32)
        expected = second[out, inputs, row, column] * kept[cell]
        np.testing.assert_array_equal(found["conv1_2.weight"][out, inputs, row, column], expected)


def test_another_seed_gives_other_weights_and_zeros() -> None:
    from onnx import numpy_helper

    first, second = (
        numpy_helper.to_array(models.vgg16_cifar(Recipe(density=0.5, seed=seed)).model().graph.initializer[2])
        for seed in (0, 1)
    )
    assert np.mean((first != 0) == (second != 0)) < 0.9
    assert first.shape == second.shape == (64, 64, 3, 3)


def test_depthwise_convolutions_stay_dense() -> None:
    net = models.mobilenetv2(Recipe(density=0.1))
    depthwise = [conv for conv in net.convs if conv.groups > 1]
    assert len(depthwise) == 17
    assert all(conv.kept == conv.weights for conv in depthwise)


def test_lhc_mask_crops_blocks_at_the_edges_and_keeps_at_least_one() -> None:
    shape = (40, 70, 3, 3)
    mask = masks.lhc(np.random.default_rng(0), shape, 0.5)
    assert mask.shape == shape
    for block_out in range(3):
        for block_in in range(3):
            block = mask[16 * block_out : 16 * block_out + 16, 32 * block_in : 32 * block_in + 32]
            assert (block == block[:1, :1]).all()
    assert masks.lhc(np.random.default_rng(0), (16, 32, 3, 3), 0.001).sum() == 16 * 32


@pytest.mark.parametrize("period", [2, 4, 8])
def test_hetconv_mask_by_definition(period: int) -> None:
    mask = masks.hetconv((16, 24, 3, 3), period)
    for out, inputs in np.ndindex(16, 24):
        full = (out - inputs) % period == 0
        assert mask[out, inputs].sum() == (9 if full else 1)
        assert mask[out, inputs, 1, 1] == 1
    assert mask.mean() == pytest.approx((1 / period) + (1 - 1 / period) / 9)


@pytest.mark.parametrize("per", ["kernel", "filter"])
def test_pattern_mask_keeps_four_taps_out_of_eight_patterns(per: str) -> None:
    mask = masks.patterns(np.random.default_rng(3), (64, 48, 3, 3), per="kernel" if per == "kernel" else "filter")
    kernels = mask.reshape(64 * 48, 9)
    assert (kernels.sum(axis=1) == 4).all()
    assert (kernels[:, 4] == 1).all()
    assert len(np.unique(kernels, axis=0)) == 8
    same_in_filter = bool((mask == mask[:, :1]).all())
    assert same_in_filter == (per == "filter")


def test_unstructured_mask_has_the_exact_count() -> None:
    mask = masks.unstructured(np.random.default_rng(1), (31, 17, 3, 3), 0.1)
    assert mask.sum() == round(0.1 * 31 * 17 * 9)


def test_single_layer_computes_its_convolution(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    shape = LayerShape(6, 5, 3, 9, stride=2)
    mask = masks.unstructured(np.random.default_rng(1), shape.weight_shape, 0.4)
    path = models.write(models.layer(shape, mask, seed=4), tmp_path / "layer.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["layer.onnx"]
    assert [conv.name for conv in models.stack(LayerShape(6, 6, 3, 9), [None] * 3).convs] == ["conv1", "conv2", "conv3"]
    rng = np.random.default_rng(4)
    scale = np.float32(np.sqrt(2 / (6 * 9 * float(mask.mean()))))
    weight = rng.standard_normal(shape.weight_shape).astype(np.float32) * scale * mask
    bias = (rng.standard_normal(5) * 0.05).astype(np.float32)
    x = np.random.default_rng(0).standard_normal((1, 6, 9, 9)).astype(np.float32)
    padded = np.pad(x[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    expected = np.empty((1, 5, 5, 5))
    for row, column in np.ndindex(5, 5):
        window = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        expected[0, :, row, column] = np.maximum(np.tensordot(weight, window, 3) + bias, 0)
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"input": x})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
