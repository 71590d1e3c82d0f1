"""Pooling in the dialect computes what Relax says it does, at every border."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tvm import relax

from lhcc.passes.lower_pooling import LowerPooling
from tests.passes.modules import Graph, attrs_of, operators, run

PASS = LowerPooling()


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (1, 0, 0, 1)])
def test_maximum(padding: tuple[int, ...], ceil_mode: bool) -> None:
    g = Graph(x=(2, 3, 8, 9))
    pooled = relax.op.nn.max_pool2d(g.x, (3, 2), (2, 2), padding, ceil_mode=ceil_mode)
    after, _ = run(PASS, g.returns(g("y", pooled)))
    assert operators(after) == ["lhcc.pool2d"] and attrs_of(after, "y")["window"] == (3, 2)


@pytest.mark.parametrize(
    ("padding", "ceil_mode", "counted"),
    list(itertools.product([(0, 0), (1, 1), (1, 0, 0, 1)], [False, True], [False, True])),
)
def test_average_counts_what_it_is_told_to(padding: tuple[int, ...], ceil_mode: bool, counted: bool) -> None:
    g = Graph(x=(2, 3, 8, 9))
    options: dict[str, Any] = {"ceil_mode": ceil_mode, "count_include_pad": counted}
    after, _ = run(PASS, g.returns(g("y", relax.op.nn.avg_pool2d(g.x, (3, 3), (2, 2), padding, **options))))
    assert operators(after)[0] == "lhcc.conv2d"


def test_an_average_without_a_border_needs_no_correction() -> None:
    g = Graph(x=(1, 3, 8, 8))
    after, _ = run(PASS, g.returns(g("y", relax.op.nn.avg_pool2d(g.x, (2, 2), (2, 2)))))
    assert operators(after) == ["lhcc.conv2d"] and attrs_of(after, "y")["groups"] == 3


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]])
def test_mean_over_the_image(axes: list[int], keepdims: bool) -> None:
    g = Graph(x=(2, 3, 5, 4))
    after, _ = run(PASS, g.returns(g("y", relax.op.mean(g.x, axes, keepdims=keepdims))))
    assert operators(after) == ["lhcc.global_average"] + ["relax.reshape"] * (not keepdims)


@pytest.mark.parametrize("axes", [[1], [1, 2, 3], None])
def test_other_means_stay(axes: list[int] | None) -> None:
    g = Graph(x=(2, 3, 5, 4))
    after, _ = run(PASS, g.returns(g("y", relax.op.mean(g.x, axes))))
    assert operators(after) == ["relax.mean"]


def test_adaptive_pooling() -> None:
    g = Graph(x=(2, 3, 6, 4))
    after, _ = run(PASS, g.returns(g("y", relax.op.nn.adaptive_avg_pool2d(g.x, (1, 1)))))
    assert operators(after) == ["lhcc.global_average"]
    g = Graph(x=(2, 3, 6, 4))
    after, notes = run(PASS, g.returns(g("y", relax.op.nn.adaptive_avg_pool2d(g.x, (3, 2)))))
    assert operators(after) == ["relax.nn.adaptive_avg_pool2d"] and notes == ["y: its output is (3, 2), not 1x1"]


def test_other_layouts_and_types_stay() -> None:
    g = Graph(x=(1, 6, 6, 3))
    pooled = relax.op.nn.max_pool2d(g.x, (2, 2), (2, 2), layout="NHWC")
    after, notes = run(PASS, g.returns(g("y", pooled)))
    assert operators(after) == ["relax.nn.max_pool2d"] and notes == ["y: its layout is NHWC, not NCHW"]
    g = Graph(dtype="int32", x=(1, 3, 6, 6))
    after, _ = run(PASS, g.returns(g("y", relax.op.nn.max_pool2d(g.x, (2, 2), (2, 2)))))
    assert operators(after) == ["relax.nn.max_pool2d"]
