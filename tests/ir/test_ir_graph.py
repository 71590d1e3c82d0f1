"""The one walk that all passes use: operands renewed, users counted, what is dead dropped, names kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax

from lhcc.ir.graph import Rewriter, array_of, calls, constant, plain
from lhcc.ir.log import Log
from tests.passes.modules import Graph, const, operators


def rewrite(mod: tvm.IRModule, visit: Any) -> tvm.IRModule:
    after = Rewriter(mod, Log(), "test").run(visit)
    relax.analysis.well_formed(after)
    return after


def test_nothing_visited_is_the_same_function() -> None:
    g = Graph(x=(2, 3))
    mod = g.returns(g("b", relax.op.add(g("a", relax.op.exp(g.x)), const(1.0))))
    assert tvm_ffi.structural_equal(rewrite(mod, lambda name, value: None), mod)


def test_what_nobody_uses_is_dropped_and_names_stay() -> None:
    g = Graph(x=(2, 3))
    a = g("a", relax.op.exp(g.x))
    g("dead", relax.op.sqrt(a))
    after = rewrite(g.returns(g("b", relax.op.abs(a))), lambda name, value: None)
    assert [name for name, _ in calls(after)] == ["a", "b", "output"]


def test_a_replacement_reaches_every_user_and_can_be_seen_by_them() -> None:
    g = Graph(x=(2, 3))
    a = g("a", relax.op.exp(g.x))
    mod = g.returns(g("b", relax.op.add(a, a)))
    rewriter = Rewriter(mod, Log(), "test")
    seen: list[Any] = []

    def visit(name: str, value: Any) -> Any:
        if name == "a":
            return relax.op.sqrt(value.args[0])
        if name == "b":
            seen.extend([rewriter.value(value.args[0]).op.name, rewriter.used_once(value.args[0])])
            seen.extend([rewriter.original.args[0].name, rewriter.variable.name])
        return None

    after = rewriter.run(visit)
    assert operators(after) == ["relax.sqrt", "relax.add"] and seen == ["relax.sqrt", False, "a", "b"]


def test_a_value_can_be_replaced_by_an_input_or_a_constant() -> None:
    g = Graph(x=(2, 3))
    mod = g.returns(g("b", relax.op.abs(g("a", relax.op.exp(g.x)))))
    assert operators(rewrite(mod, lambda name, value: value.args[0] if name == "a" else None)) == ["relax.abs"]
    ones = constant(np.ones((2, 3), np.float32))
    after = rewrite(mod, lambda name, value: ones if name == "b" else None)
    assert operators(after) == [] and array_of(calls(after)[-1][1]) is not None


def test_tuples_are_seen_through() -> None:
    g = Graph(x=(4, 3))
    pair = g("pair", relax.Tuple([g.x, const(np.ones((4, 3)))]))
    first = g("first", relax.TupleGetItem(pair, 0))
    parts = g("parts", relax.op.split(first, 2, axis=0))
    mod = g.returns(g("low", relax.TupleGetItem(parts, 0)), g("high", relax.TupleGetItem(parts, 1)))
    after = rewrite(mod, lambda name, value: None)
    assert operators(after) == ["relax.split"]
    assert [str(field) for field in after["main"].body.body.ty.fields] == ['R.Tensor((2, 3), dtype="float32")'] * 2


def test_other_functions_are_kept() -> None:
    g = Graph(x=(2, 3))
    mod = g.returns(g("a", relax.op.exp(g.x)))
    other = Graph(x=(2, 3))
    mod["helper"] = other.returns(other("a", relax.op.exp(other.x)))["main"].with_attr("global_symbol", "helper")
    assert {gv.name_hint for gv in rewrite(mod, lambda name, value: None).functions} == {"main", "helper"}


@pytest.mark.parametrize("value", [np.float32(3), np.zeros((0, 2), np.float32), np.arange(6).reshape(2, 3).T])
def test_constants_keep_shape_type_and_values(value: Any) -> None:
    found = array_of(constant(np.asarray(value)))
    assert found is not None and found.shape == np.shape(value) and found.dtype == np.asarray(value).dtype
    np.testing.assert_array_equal(found, value)


def test_containers_become_pythons_own() -> None:
    assert plain(tvm.runtime.convert([1, (2, 3)])) == (1, (2, 3))
    assert plain(tvm.tirx.IntImm("int32", 4)) == 4 and plain("text") == "text" and plain(None) is None
