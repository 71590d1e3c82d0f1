"""Changes of layout: every element in its place, for images and channels that fill no square, in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from lhcc.ir import reference_ops, tir_pipeline
from lhcc.targets.cpu import layouts
from lhcc.targets.cpu import machine as machines

CASES = [  # shape, block, lanes, threads, reordered
    ((1, 16, 4, 4), 16, 8, 1, False),
    ((1, 64, 7, 9), 16, 16, 2, True),
    ((3, 37, 5, 3), 16, 8, 1, True),
    ((3, 37, 5, 3), 8, 4, 2, False),
    ((2, 5, 11, 1), 16, 4, 1, False),
    ((1, 40, 3, 3), 16, 8, 1, True),
    ((2, 21, 1, 2), 16, 8, 1, False),
]


def converted(kernel: Any, *operands: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    function = kernel.with_attr("global_symbol", "main")
    target = machines.create({}).tvm_target()
    module = tvm.tirx.build(tvm.IRModule({"main": function}), target, pipeline=tir_pipeline.NAME)
    out = tvm.runtime.tensor(np.full(shape, np.nan, np.float32))  # poison: what is not written shows
    module["main"](*map(tvm.runtime.tensor, operands), out)
    return np.asarray(out.numpy())


@pytest.mark.parametrize(("shape", "block", "lanes", "threads", "ordered"), CASES, ids=str)
def test_there_and_back(shape: tuple[int, ...], block: int, lanes: int, threads: int, ordered: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    order = rng.permutation(shape[1]).astype(np.int32)
    orders = [order] * ordered
    expected = reference_ops.to_blocked(x[:, order] if ordered else x, block, 0.0)
    kernel = layouts.to_blocked(shape, block, lanes, threads, ordered)
    blocked = converted(kernel, x, *orders, shape=expected.shape)
    np.testing.assert_array_equal(blocked, expected)
    kernel = layouts.from_blocked(shape, block, lanes, threads, ordered)
    np.testing.assert_array_equal(converted(kernel, blocked, *orders, shape=shape), x)
