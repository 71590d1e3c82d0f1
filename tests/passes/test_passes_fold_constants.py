"""What depends on constants only becomes a constant of the same shape, type and value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from lhcc.ir.graph import array_of, calls, constant, shape_of
from lhcc.ir.log import Log
from lhcc.passes.fold_constants import FoldConstants
from tests.passes.modules import Graph, const, layer, normal, operators, run

PASS = FoldConstants()
A = np.abs(normal(2, 3)) + 0.5


@pytest.mark.parametrize(
    "expression",
    [
        lambda: relax.op.sqrt(const(A)),
        lambda: relax.op.rsqrt(const(A)),
        lambda: relax.op.negative(const(A)),
        lambda: relax.op.exp(const(A)),
        lambda: relax.op.abs(const(-A)),
        lambda: relax.op.add(const(A), const(normal(3))),
        lambda: relax.op.subtract(const(A), const(2.0)),
        lambda: relax.op.multiply(const(A), const(A)),
        lambda: relax.op.divide(const(A), const(normal(2, 1))),
        lambda: relax.op.maximum(const(A), const(1.0)),
        lambda: relax.op.minimum(const(A), const(1.0)),
        lambda: relax.op.reshape(const(A), (3, 2, 1)),
        lambda: relax.op.permute_dims(const(A)),
        lambda: relax.op.permute_dims(const(A), [1, 0]),
        lambda: relax.op.expand_dims(const(A), 0),
        lambda: relax.op.squeeze(const(A[:, :1])),
        lambda: relax.op.broadcast_to(const(A), (4, 2, 3)),
        lambda: relax.op.astype(const(4 * A), "int32"),
        lambda: relax.op.concat([const(A), const(A)], axis=1),
        lambda: relax.op.reshape(const(A[:1, :1]), ()),
    ],
)
def test_every_foldable_operator(expression: Callable[[], Any]) -> None:
    g = Graph(x=(2, 3))
    value = g("value", expression())
    mod = g.returns(g("pair", relax.Tuple([g.x, value])))
    after, _ = run(PASS, mod)
    assert operators(after) == []
    folded = next(field for _, bound in calls(after) if isinstance(bound, relax.Tuple) for field in bound.fields[1:])
    assert shape_of(folded) == shape_of(value) and str(folded.ty.dtype) == str(value.ty.dtype)


def test_chains_fold_to_the_end() -> None:
    g = Graph(x=(1, 3, 4, 4))
    scale = g("scale", relax.op.rsqrt(g("moved", relax.op.add(const(np.abs(normal(3))), const(1e-5)))))
    scale = g("shaped", relax.op.reshape(scale, (1, 3, 1, 1)))
    after, _ = run(PASS, g.returns(g("y", relax.op.multiply(g.x, scale))))
    assert operators(after) == ["relax.multiply"]


def test_a_scalar_keeps_rank_zero() -> None:
    g = Graph(x=())
    after, _ = run(PASS, g.returns(g("y", relax.op.add(g.x, g("two", relax.op.multiply(const(1.5), const(1.5)))))))
    assert shape_of(layer(after, "y")) == ()


def test_what_depends_on_an_input_stays() -> None:
    g = Graph(x=(2, 3))
    mod = g.returns(g("y", relax.op.concat([g.x, g("s", relax.op.sqrt(g.x)), const(A)], axis=0)))
    after, _ = run(PASS, mod)
    assert operators(after) == ["relax.sqrt", "relax.concat"]


def test_integers_wrap_and_do_not_divide() -> None:
    big = constant(np.array([2**31 - 1], np.int32))
    g = Graph(x=(1,))
    total = g("total", relax.op.add(big, big))
    mod = g.returns(g("quotient", relax.op.divide(total, constant(np.array([2], np.int32)))))
    after, _ = run(PASS, mod)
    assert operators(after) == ["relax.divide"]
    assert array_of(layer(after, "quotient").args[0]) == [-2]


def test_large_results_are_computed_at_run_time() -> None:
    g = Graph(x=(1,))
    mod = g.returns(g("y", relax.op.broadcast_to(const(1.0), (8, 8))))
    assert operators(FoldConstants(limit=63).run(mod, Log())) == ["relax.broadcast_to"]
    assert operators(FoldConstants(limit=64).run(mod, Log())) == []
