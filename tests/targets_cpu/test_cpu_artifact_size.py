"""An artifact holds the kept weights, and little else: their 4 bytes each, 3 % and 100 KB are the most it may take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import lhcc  # noqa: E402
from benchmarks import masks  # noqa: E402
from benchmarks.models import LayerShape, network_file, stack, write  # noqa: E402


def most_bytes(model: Path) -> float:
    initializers = onnx.load(str(model)).graph.initializer
    kept = sum(int(np.count_nonzero(onnx.numpy_helper.to_array(each))) for each in initializers)
    return 1.03 * 4 * kept + 100_000


def saved_bytes(model: Path, folder: Path) -> int:
    lhcc.compile(str(model)).save(folder / "model.lhcc")
    return (folder / "model.lhcc").stat().st_size


def test_layers_with_learned_shapes(tmp_path: Path) -> None:
    shape, rng = LayerShape(256, 256, 3, 8), np.random.default_rng(0)
    drawn = [masks.lhc(rng, shape.weight_shape, 0.1) for _ in range(2)]
    model = write(stack(shape, drawn), tmp_path / "stack.onnx")
    assert saved_bytes(model, tmp_path) <= most_bytes(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16-cifar", "resnet18-cifar", "resnet34", "resnet50"])
def test_whole_networks(name: str, tmp_path: Path) -> None:
    model = network_file(name, 0.1, folder=tmp_path)
    assert saved_bytes(model, tmp_path) <= most_bytes(model)
