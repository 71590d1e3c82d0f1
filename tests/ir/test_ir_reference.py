"""The reference agrees with TVM's own legalisation, operator by operator; layouts and epilogues with definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.activations import ACTIVATIONS, activate
from lhcc.ir.graph import constant
from lhcc.ir.reference import Reference
from lhcc.ir.reference_ops import RELAX, from_blocked, to_blocked
from tests.passes.modules import Graph, const, conv, dense, normal

X = normal(2, 4, 7, 6)
POSITIVE = np.abs(X) + 0.1


def resize(x: Any) -> Any:
    return relax.op.image.resize2d(x, relax.ShapeExpr([14, 12]), layout="NCHW", method="linear")


CASES: list[tuple[np.ndarray[Any, Any], Callable[[Any], Any]]] = [
    (X, lambda x: relax.op.add(x, const(normal(4, 1, 1)))),
    (X, lambda x: relax.op.subtract(const(2.0), x)),
    (X, lambda x: relax.op.multiply(x, x)),
    (X, lambda x: relax.op.divide(x, const(POSITIVE))),
    (X, lambda x: relax.op.maximum(x, const(0.25))),
    (X, lambda x: relax.op.minimum(x, const(0.25))),
    (X, relax.op.negative),
    (X, relax.op.abs),
    (X, relax.op.exp),
    (POSITIVE, relax.op.sqrt),
    (POSITIVE, relax.op.rsqrt),
    (X, lambda x: relax.op.matmul(x, const(normal(6, 5)))),
    (X, relax.op.nn.relu),
    (X, lambda x: relax.op.nn.leakyrelu(x, 0.1)),
    (X, relax.op.nn.silu),
    (X, relax.op.nn.gelu),
    (X, relax.op.sigmoid),
    (X, relax.op.tanh),
    (X, lambda x: relax.op.clip(x, -0.5, 1)),
    (X, lambda x: relax.op.reshape(x, (2, 168))),
    (X, relax.op.flatten),
    (X[:, :1], lambda x: relax.op.squeeze(x, [1])),
    (X, lambda x: relax.op.expand_dims(x, [0, 2])),
    (X[:, :1], lambda x: relax.op.broadcast_to(x, (2, 3, 7, 6))),
    (X, lambda x: relax.op.permute_dims(x, [0, 2, 3, 1])),
    (X, lambda x: relax.op.concat([x, x], axis=-1)),
    (4 * X, lambda x: relax.op.astype(x, "int32")),
    (X, lambda x: relax.op.mean(x, [1, 3], keepdims=True)),
    (X, lambda x: relax.op.nn.softmax(x, axis=1)),
    (X, lambda x: relax.op.nn.conv2d(x, const(normal(6, 2, 3, 2)), (2, 1), (1, 0, 2, 1), (1, 2), groups=2)),
    (X, lambda x: relax.op.nn.conv2d_transpose(x, const(normal(4, 3, 3, 2)), (2, 1), (1, 0, 0, 1), (1, 0), groups=2)),
    (X, lambda x: relax.op.nn.max_pool2d(x, (3, 2), (2, 2), (1, 0, 1, 1))),
    (X, lambda x: relax.op.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1))),
    (X, lambda x: relax.op.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1), count_include_pad=True)),
    (X, lambda x: relax.op.nn.adaptive_avg_pool2d(x, (1, 1))),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_operators_agree_with_tvm(number: int) -> None:
    x, operator = CASES[number]
    g = Graph(x=x.shape)
    call = g("y", operator(g.x))
    reference = Reference()
    (found,) = reference.run(g.returns(call), [x])
    expected = reference._through_tvm(g.bindings[-1].value)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_every_operator_has_a_case() -> None:
    g = Graph(x=X.shape)
    covered = {operator(g.x).op.name for _, operator in CASES}
    assert set(RELAX) <= covered


def test_other_operators_run_through_tvm_and_tuples_and_integers_pass() -> None:
    g = Graph(x=(2, 4, 7, 6))
    parts = g("parts", relax.op.split(g.x, 2, axis=1))
    first = g("first", relax.TupleGetItem(parts, 1))
    index = g("index", relax.op.argmax(g.x, axis=1))
    found = Reference().run(g.returns(first, g("big", resize(g.x)), index), [X])
    np.testing.assert_allclose(found[0], X[:, 2:])
    assert found[1].shape == (2, 4, 14, 12)
    np.testing.assert_array_equal(found[2], X.argmax(axis=1))
    g = Graph(dtype="int32", a=(3,))
    quotient = g("q", relax.op.floor_divide(g.a, constant(np.full(3, 2, np.int32))))
    (found_int,) = Reference().run(g.returns(quotient), [np.array([5, 4, -3], np.int32)])
    assert found_int.tolist() == [2, 2, -2]


def test_activations_by_definition() -> None:
    x = np.array([-1e4, -4.0, -1.0, -0.1, 0.0, 0.5, 3.5, 1e4])
    sigmoid = np.array([0.0 if v < -700 else 1 / (1 + math.exp(-v)) for v in x])
    np.testing.assert_allclose(activate(x, "sigmoid"), sigmoid, rtol=1e-14)
    np.testing.assert_allclose(activate(x, "silu"), x * sigmoid, rtol=1e-14)
    np.testing.assert_allclose(activate(x, "gelu"), [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
    np.testing.assert_array_equal(activate(x, "clip -1 3"), np.clip(x, -1, 3))
    np.testing.assert_array_equal(activate(x, "leaky 0.5"), [v if v > 0 else v / 2 for v in x])
    np.testing.assert_allclose(activate(x, "hard_sigmoid 0.2 0.5"), np.clip(x / 5 + 0.5, 0, 1))
    np.testing.assert_allclose(activate(x, "hard_swish"), x * np.clip(x + 3, 0, 6) / 6)
    np.testing.assert_array_equal(activate(x, ""), x)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_pass_nan_on(name: str) -> None:
    numbers = {"clip": " 0 1", "leaky": " 0.1", "hard_sigmoid": " 1 0"}.get(name, "")
    assert np.isnan(activate(np.array([np.nan]), name + numbers))


@pytest.mark.parametrize("channels", [1, 16, 17])
def test_layouts_round_trip(channels: int) -> None:
    x = normal(2, channels, 3, 4).astype(np.float64)
    blocked = to_blocked(x, 16, np.nan)
    assert blocked.shape == (2, -(-channels // 16), 3, 4, 16)
    assert np.isnan(blocked).sum() == 2 * 12 * (-channels % 16)
    np.testing.assert_array_equal(from_blocked(blocked, channels), x)


@pytest.mark.parametrize("residual", ["", "before", "after"])
def test_epilogues(residual: str) -> None:
    r = normal(2, 5, 3, 3, seed=9)
    g = Graph(x=(2, 3, 3, 3), r=r.shape)
    weight, bias = normal(5, 3, 1, 1), normal(5, seed=5)
    extra = [g.r] if residual else []
    layer = g("y", conv(g.x, weight, bias, extra, residual, activation="relu"))
    x = normal(2, 3, 3, 3, seed=2)
    (found,) = Reference().run(g.returns(layer), [x, r])
    plain = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0].astype(np.float64), x) + bias[:, None, None]
    relu = {"": np.maximum(plain, 0), "before": np.maximum(plain + r, 0), "after": np.maximum(plain, 0) + r}
    np.testing.assert_allclose(found, relu[residual], rtol=1e-12)


def test_matrix_product() -> None:
    g = Graph(x=(4, 3), r=(4, 5))
    layer = g("y", dense(g.x, normal(5, 3), normal(5), [g.r], activation="tanh"))
    x, r = normal(4, 3, seed=2), normal(4, 5, seed=3)
    (found,) = Reference().run(g.returns(layer), [x, r])
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64) @ normal(5, 3).T + normal(5) + r), rtol=1e-6)


def test_an_encoded_call_needs_its_generator() -> None:
    g = Graph(x=(4, 4))
    mod = g.returns(g("y", dialect.call("tiles", [g.x], (4, 4), spec="{}")))
    with pytest.raises(ValueError, match="lhcc.tiles cannot be evaluated without the generator"):
        Reference().run(mod, [normal(4, 4)])
