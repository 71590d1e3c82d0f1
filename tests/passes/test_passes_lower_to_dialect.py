"""Convolutions and matrix products with constant weights enter the dialect; the others say why they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from lhcc.ir.graph import constant, shape_of
from lhcc.passes.lower_to_dialect import LowerToDialect
from tests.passes.modules import Graph, attrs_of, bias_of, const, layer, normal, operators, run, weight_of

PASS = LowerToDialect()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution(groups: int) -> None:
    g = Graph(x=(2, 4, 9, 8))
    weight = normal(8, 4 // groups, 3, 2)
    attrs = {"strides": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2), "groups": groups}
    after, _ = run(PASS, g.returns(g("y", relax.op.nn.conv2d(g.x, const(weight), **attrs))))
    np.testing.assert_array_equal(weight_of(after, "y"), weight)
    assert not bias_of(after, "y").any()
    found = attrs_of(after, "y")
    assert {key: found[key] for key in attrs} == attrs and found["transposed"] == 0


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_stores_outputs_first(groups: int) -> None:
    g = Graph(x=(2, 4, 5, 4))
    weight = normal(4, 6 // groups, 3, 2)
    attrs: dict[str, Any] = {"strides": (2, 3), "padding": (1, 0, 0, 1), "output_padding": (1, 0), "groups": groups}
    after, _ = run(PASS, g.returns(g("y", relax.op.nn.conv2d_transpose(g.x, const(weight), **attrs))))
    assert weight_of(after, "y").shape == (6, 4 // groups, 3, 2)
    np.testing.assert_array_equal(weight_of(after, "y")[1, 0], weight[0, 1])
    assert attrs_of(after, "y")["transposed"] == 1


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (2, 1, 4, 7), (7,)])
def test_matrix_product_flattens_leading_axes(shape: tuple[int, ...]) -> None:
    g = Graph(x=shape)
    weight = normal(7, 6)
    after, _ = run(PASS, g.returns(g("y", relax.op.matmul(g.x, const(weight)))))
    dense = [name for name in operators(after) if name == "lhcc.dense"]
    reshapes = [name for name in operators(after) if name == "relax.reshape"]
    assert len(dense) == 1 and len(reshapes) == (0 if len(shape) == 2 else 2)
    assert shape_of(after["main"].body.body) == (*shape[:-1], 6)
    if len(shape) == 2:
        np.testing.assert_array_equal(weight_of(after, "y"), weight.T)


def test_layers_that_stay_say_why() -> None:
    g = Graph(x=(1, 2, 4, 4), w=(3, 2, 3, 3))
    _, notes = run(PASS, g.returns(g("y", relax.op.nn.conv2d(g.x, g.w))))
    assert notes == ["y: its weight is computed at run time"]
    g = Graph(x=(1, 4, 4, 2))
    weight = const(normal(3, 3, 2, 3))
    _, notes = run(PASS, g.returns(g("y", relax.op.nn.conv2d(g.x, weight, data_layout="NHWC", kernel_layout="HWIO"))))
    assert notes == ["y: its layout is NHWC, not NCHW"]
    g = Graph(a=(2, 3), b=(3, 4))
    _, notes = run(PASS, g.returns(g("y", relax.op.matmul(g.a, g.b))))
    assert notes == ["y: both factors are computed at run time"]
    g = Graph(a=(2, 2, 3))
    _, notes = run(PASS, g.returns(g("y", relax.op.matmul(g.a, const(normal(2, 3, 4))))))
    assert notes == ["y: its constant factor has 3 axes, not 2"]


def test_integer_graphs_are_left_to_tvm() -> None:
    g = Graph(dtype="int32", a=(2, 3))
    product = g("y", relax.op.matmul(g.a, constant(np.arange(12, dtype=np.int32).reshape(3, 4))))
    after, notes = run(PASS, g.returns(product))
    assert notes == ["y: its element type is int32, not float32"] and operators(after) == ["relax.matmul"]


def test_a_weight_that_is_the_left_factor_stays() -> None:
    g = Graph(a=(3, 2))
    after, notes = run(PASS, g.returns(g("y", relax.op.matmul(const(normal(4, 3)), g.a))))
    assert notes == ["y: both factors are computed at run time"] and layer(after, "y").op.name == "relax.matmul"
