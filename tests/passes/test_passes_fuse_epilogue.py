"""Residuals and activations join the layer before them, in the order in which they are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tvm
from tvm import relax

from lhcc.passes.fuse_epilogue import FuseEpilogue
from tests.passes.modules import Graph, activation, attrs_of, const, conv, dense, layer, normal, operators, run

PASS = FuseEpilogue()


def fused(build: Callable[[Graph, Any], Any]) -> tuple[tvm.IRModule, list[str]]:
    """The module after the pass; `build` continues after the convolution `y` of 3 into 3 channels."""
    g = Graph(x=(2, 3, 4, 4))
    outputs = build(g, g("y", conv(g.x, normal(3, 3, 1, 1), normal(3))))
    return run(PASS, g.returns(*outputs if isinstance(outputs, tuple) else [outputs]))


def epilogue(mod: tvm.IRModule, name: str) -> tuple[str, str]:
    attrs = attrs_of(mod, name)
    return attrs["residual"], attrs["activation"]


def test_an_activation() -> None:
    after, _ = fused(lambda g, y: g("z", activation(y, "relu")))
    assert operators(after) == ["lhcc.conv2d"] and epilogue(after, "y") == ("", "relu")


@pytest.mark.parametrize("swap", [False, True])
def test_a_residual_then_an_activation(swap: bool) -> None:
    after, _ = fused(
        lambda g, y: g("z", activation(g("s", relax.op.add(*((g.x, y) if swap else (y, g.x)))), "silu"))
    )
    assert operators(after) == ["lhcc.conv2d"] and epilogue(after, "y") == ("before", "silu")
    assert layer(after, "y").args[3].name == "x"


def test_an_activation_then_a_residual() -> None:
    after, _ = fused(lambda g, y: g("z", relax.op.add(g("a", activation(y, "relu")), g.x)))
    assert operators(after) == ["lhcc.conv2d"] and epilogue(after, "y") == ("after", "relu")


def test_a_second_activation_stays_outside() -> None:
    after, notes = fused(lambda g, y: g("b", activation(g("a", activation(y, "relu")), "tanh")))
    assert operators(after) == ["lhcc.conv2d", "lhcc.activation"]
    assert notes == ["y: tanh: it already ends in relu"]

    def joined(g: Graph, y: Any) -> Any:
        return g("b", activation(g("s", relax.op.add(g("a", activation(y, "relu")), g.x)), "tanh"))

    after, notes = fused(joined)
    assert operators(after) == ["lhcc.conv2d", "lhcc.activation"] and epilogue(after, "y") == ("after", "relu")


def test_a_second_residual_stays_outside() -> None:
    after, notes = fused(lambda g, y: g("t", relax.op.add(g("s", relax.op.add(y, g.x)), g.x)))
    assert operators(after) == ["lhcc.conv2d", "relax.add"]
    assert notes == ["y: a second residual follows the first"]


def test_of_two_layers_the_one_without_activation_takes_the_other() -> None:
    g = Graph(x=(1, 3, 4, 4))
    plain = g("plain", conv(g.x, normal(3, 3, 1, 1)))
    active = g("active", activation(g("layer", conv(g.x, normal(3, 3, 1, 1))), "relu"))
    after, _ = run(PASS, g.returns(g("z", activation(g("s", relax.op.add(plain, active)), "relu"))))
    assert epilogue(after, "plain") == ("before", "relu") and epilogue(after, "layer") == ("", "relu")


def test_a_value_that_others_read_stays() -> None:
    after, notes = fused(lambda g, y: (g("z", activation(y, "relu")), y))
    assert operators(after) == ["lhcc.conv2d", "lhcc.activation"]
    assert notes == ["y: relu: the value before it has other users"]
    after, _ = fused(lambda g, y: (g("z", relax.op.add(y, g.x)), y))
    assert operators(after) == ["lhcc.conv2d", "relax.add"]
    after, _ = fused(lambda g, y: g("z", relax.op.add(y, y)))
    assert operators(after) == ["lhcc.conv2d", "relax.add"]


def test_broadcast_and_constant_operands_are_no_residuals() -> None:
    g = Graph(x=(2, 3, 4, 4), row=(1, 3, 1, 1))
    y = g("y", conv(g.x, normal(3, 3, 1, 1)))
    after, _ = run(PASS, g.returns(g("z", relax.op.add(y, g.row))))
    assert operators(after) == ["lhcc.conv2d", "relax.add"]
    after, _ = fused(lambda g, y: g("z", relax.op.add(y, const(normal(2, 3, 4, 4)))))
    assert operators(after) == ["lhcc.conv2d", "relax.add"]


def test_a_residual_that_is_computed_later_is_waited_for() -> None:
    def build(g: Graph, y: Any) -> Any:
        late = g("late", relax.op.nn.softmax(g("neg", relax.op.negative(g.x))))
        return g("z", relax.op.add(y, late))

    after, _ = fused(build)
    assert operators(after) == ["relax.negative", "relax.nn.softmax", "lhcc.conv2d"]


def test_a_layer_does_not_wait_for_itself() -> None:
    """The other operand is computed from the layer: adding it inside would be a circle."""
    after, _ = fused(lambda g, y: g("z", relax.op.add(y, g("n", relax.op.negative(y)))))
    assert operators(after) == ["lhcc.conv2d", "relax.negative", "relax.add"]


def test_matrix_products() -> None:
    g = Graph(x=(4, 5), r=(4, 6))
    y = g("y", dense(g.x, normal(6, 5)))
    after, _ = run(PASS, g.returns(g("z", activation(g("s", relax.op.add(g.r, y)), "gelu"))))
    assert operators(after) == ["lhcc.dense"] and epilogue(after, "y") == ("before", "gelu")
