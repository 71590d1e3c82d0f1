"""Blocks, patterns or single weights: what is chosen for layers on which the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import masks
from lhcc.ir.layer import ConvLayer
from lhcc.passes.encode_elements import Widened
from lhcc.targets import base
from lhcc.targets.base import Options
from lhcc.targets.cpu.encode import encode


def layer(mask: Any, size: int, residual: str = "") -> ConvLayer:
    outputs, inputs, kernel, _ = mask.shape
    weight = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32) * mask
    return ConvLayer(
        "conv", "conv2d", weight, np.zeros(outputs, np.float32), (kernel, kernel), 1, (1, inputs, size, size),
        (1, outputs, size, size), (1, 1), (kernel // 2,) * 4, (1, 1), False, "blocked", "blocked", "relu", residual,
    )  # fmt: skip


def chosen(mask: Any, size: int, residual: str = "") -> Widened | str:
    target: Any = base.parse("cpu:mcpu=x86-64-v3")
    return encode(layer(mask, size, residual), target.machine, Options())


@pytest.mark.parametrize("residual", ["", "before"])
def test_large_maps_are_not_turned_over_for_little_work(residual: str) -> None:
    """An expanding layer of ResNet-50, 3 of 18 blocks kept: 0.18 ms in blocks on Zen 3, by patterns 0.29 ms and 0.14 ms
    for the changes of layout."""
    found = chosen(masks.lhc(np.random.default_rng(0), (144, 64, 1, 1), 1 / 6), 56, residual)
    assert isinstance(found, str) and found.startswith("blocks are cheaper")


def test_scattered_weights_are_still_taken_one_by_one() -> None:
    mask = masks.unstructured(np.random.default_rng(0), (256, 256, 3, 3), 0.1)
    assert isinstance(chosen(mask, 14), Widened)
    assert isinstance(chosen(masks.patterns(np.random.default_rng(0), mask.shape), 14), Widened)
