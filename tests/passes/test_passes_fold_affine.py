"""Multiplications and additions by per-channel constants disappear into the layer before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from lhcc.passes.fold_affine import FoldAffine
from tests.passes.modules import Graph, bias_of, const, conv, dense, normal, operators, run, weight_of

PASS = FoldAffine()
SCALE = np.abs(normal(6, seed=3)) + 0.5
OPERATORS = [relax.op.add, relax.op.subtract, relax.op.multiply, relax.op.divide]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 6, 1, 1), (1, 1, 1, 1)])
def test_into_a_convolution(operator: Callable[..., Any], shape: tuple[int, ...]) -> None:
    g = Graph(x=(2, 3, 5, 5))
    y = g("y", conv(g.x, normal(6, 3, 3, 3), normal(6)))
    after, notes = run(PASS, g.returns(g("z", operator(y, const(np.resize(SCALE, shape))))))
    assert operators(after) == ["lhcc.conv2d"] and not notes


@pytest.mark.parametrize("attrs", [{"groups": 3}, {"transposed": 1, "strides": (2, 2)}])
def test_into_grouped_and_transposed_convolutions(attrs: dict[str, Any]) -> None:
    g = Graph(x=(2, 3, 5, 5))
    y = g("y", conv(g.x, normal(6, 3 // attrs.get("groups", 1), 3, 3), normal(6), **attrs))
    scaled = g("scaled", relax.op.multiply(y, const(SCALE.reshape(6, 1, 1))))
    after, _ = run(PASS, g.returns(g("z", relax.op.add(scaled, const(SCALE.reshape(6, 1, 1))))))
    assert operators(after) == ["lhcc.conv2d"]
    np.testing.assert_allclose(bias_of(after, "y"), normal(6) * SCALE + SCALE, rtol=1e-6)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("shape", [(), (6,), (1, 6), (1, 1)])
def test_into_a_matrix_product(operator: Callable[..., Any], shape: tuple[int, ...]) -> None:
    g = Graph(x=(4, 5))
    after, _ = run(PASS, g.returns(g("z", operator(g("y", dense(g.x, normal(6, 5))), const(np.resize(SCALE, shape))))))
    assert operators(after) == ["lhcc.dense"]


def test_a_constant_on_the_left() -> None:
    for operator, left in ((relax.op.add, 1), (relax.op.multiply, 1), (relax.op.subtract, 2), (relax.op.divide, 2)):
        g = Graph(x=(1, 3, 4, 4))
        y = g("y", conv(g.x, normal(6, 3, 1, 1), normal(6) + 5))
        after, _ = run(PASS, g.returns(g("z", operator(const(SCALE.reshape(6, 1, 1)), y))))
        assert len(operators(after)) == left, operator  # c - y and c / y are something else


def test_weights_are_rounded_once() -> None:
    g = Graph(x=(1, 2, 4, 4))
    weight, scale = normal(6, 2, 1, 1), SCALE.reshape(6, 1, 1)
    after, _ = run(PASS, g.returns(g("z", relax.op.divide(g("y", conv(g.x, weight)), const(scale)))))
    exact = weight.astype(np.float64) / scale.astype(np.float64)[..., None]
    np.testing.assert_array_max_ulp(weight_of(after, "y"), exact.astype(np.float32), 1)


def declined(build: Callable[[Graph, Any], Any], outputs: int = 6, **attrs: Any) -> tuple[list[str], list[str]]:
    g = Graph(x=(2, 3, 4, 4))
    y = g("y", conv(g.x, normal(outputs, 3, 1, 1), **attrs))
    after, notes = run(PASS, g.returns(*build(g, y)))
    return operators(after), notes


def test_what_varies_within_a_channel_stays() -> None:
    for shape in ((4,), (4, 4), (1, 6, 4, 4), (2, 1, 1, 1)):
        values = const(normal(*shape))
        found, notes = declined(lambda g, y: [g("z", relax.op.add(y, values))])  # noqa: B023  called at once
        assert found == ["lhcc.conv2d", "relax.add"]
        assert notes == ["y: relax.add by a constant that differs within a channel"]


def test_one_channel_spread_over_several_stays() -> None:
    found, _ = declined(lambda g, y: [g("z", relax.op.add(y, const(normal(6, 1, 1))))], outputs=1)
    assert found == ["lhcc.conv2d", "relax.add"]
    found, _ = declined(lambda g, y: [g("z", relax.op.multiply(y, const(normal(1, 1, 6, 1, 1))))])
    assert found == ["lhcc.conv2d", "relax.multiply"]


def test_a_value_with_other_users_stays() -> None:
    found, _ = declined(lambda g, y: [y, g("z", relax.op.add(y, const(1.0)))])
    assert found == ["lhcc.conv2d", "relax.add"]
    found, _ = declined(lambda g, y: [g("z", relax.op.add(y, const(1.0))), g("v", relax.op.add(y, const(2.0)))])
    assert found == ["lhcc.conv2d", "relax.add", "relax.add"]


def test_what_follows_an_activation_stays() -> None:
    found, notes = declined(lambda g, y: [g("z", relax.op.multiply(y, const(2.0)))], activation="relu")
    assert found == ["lhcc.conv2d", "relax.multiply"]
    assert notes == ["y: relax.multiply follows its activation or residual"]


def test_division_by_zero_stays() -> None:
    for operator, values in ((relax.op.divide, [1, 0, 1, 1, 1, 1]), (relax.op.multiply, [np.inf, 1, 1, 1, 1, 1])):
        constants = const(np.reshape(values, (6, 1, 1)))
        found, notes = declined(lambda g, y: [g("z", operator(y, constants))])  # noqa: B023  called at once
        assert len(found) == 2 and notes[0].endswith("by zero or infinity")
