"""Activations get one form, however the exporter spelled them; look-alikes do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from lhcc.ir.graph import attributes, calls, constant
from lhcc.passes.recognise_activations import RecogniseActivations
from tests.passes.modules import Graph, const, operators, run

PASS = RecogniseActivations()
SIXTH = repr(1 / 6)


def found(build: Callable[[Graph], Any], shape: tuple[int, ...] = (2, 3, 4, 4)) -> list[str]:
    """The operators after the pass, activations by their names."""
    g = Graph(x=shape)
    after, _ = run(PASS, g.returns(build(g)))
    return [
        attributes(value)["activation"] if name == "lhcc.activation" else name
        for name, value in zip(operators(after), [v for _, v in calls(after) if isinstance(v, relax.Call)], strict=True)
    ]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (relax.op.nn.relu, "relu"),
        (relax.op.nn.relu6, "clip 0.0 6.0"),
        (lambda x: relax.op.clip(x, -1, 0.5), "clip -1.0 0.5"),
        (lambda x: relax.op.nn.leakyrelu(x, 0.125), "leaky 0.125"),
        (relax.op.sigmoid, "sigmoid"),
        (relax.op.nn.silu, "silu"),
        (relax.op.tanh, "tanh"),
        (relax.op.nn.gelu, "gelu"),
    ],
)
def test_functions_with_a_name(function: Callable[[Any], Any], name: str) -> None:
    assert found(lambda g: g("y", function(g.x))) == [name]


def relu6_of_three_more(g: Graph, x: Any) -> Any:
    return g("six", relax.op.clip(g("three", relax.op.add(x, const(3.0))), 0, 6))


def test_hard_swish_and_hard_sigmoid_spelled_out() -> None:
    assert found(lambda g: g("y", relax.op.divide(relu6_of_three_more(g, g.x), const(6.0)))) == [
        f"hard_sigmoid {SIXTH} 0.5"
    ]

    def late(g: Graph, swap: bool) -> Any:
        gate = relu6_of_three_more(g, g.x)
        product = g("product", relax.op.multiply(gate, g.x) if swap else relax.op.multiply(g.x, gate))
        return g("y", relax.op.divide(product, const(6.0)))

    def early(g: Graph) -> Any:
        gate = g("gate", relax.op.divide(relu6_of_three_more(g, g.x), const(6.0)))
        return g("y", relax.op.multiply(gate, g.x))

    assert found(lambda g: late(g, False)) == found(lambda g: late(g, True)) == found(early) == ["hard_swish"]


def test_silu_spelled_out() -> None:
    assert found(lambda g: g("y", relax.op.multiply(g.x, g("s", relax.op.sigmoid(g.x))))) == ["silu"]
    assert found(lambda g: g("y", relax.op.multiply(g("s", relax.op.sigmoid(g.x)), g.x))) == ["silu"]


def test_look_alikes_stay() -> None:
    def gate_of_another(g: Graph) -> Any:
        other = g("other", relax.op.negative(g.x))
        return g("y", relax.op.multiply(g.x, g("s", relax.op.sigmoid(other))))

    assert found(gate_of_another) == ["relax.negative", "sigmoid", "relax.multiply"]
    by_five = found(lambda g: g("y", relax.op.divide(relu6_of_three_more(g, g.x), const(5.0))))
    assert by_five == ["relax.add", "clip 0.0 6.0", "relax.divide"]
    spread = found(lambda g: g("y", relax.op.divide(relu6_of_three_more(g, g.x), const(np.full((1,) * 5, 6.0)))))
    assert spread == ["relax.add", "clip 0.0 6.0", "relax.divide"]


def test_clips_merge_where_their_intervals_meet() -> None:
    def twice(first: tuple[float, float], second: tuple[float, float]) -> list[str]:
        return found(lambda g: g("y", relax.op.clip(g("c", relax.op.clip(g.x, *first)), *second)))

    assert twice((0, np.inf), (-np.inf, 6)) == ["clip 0.0 6.0"]
    assert twice((-1, 1), (0, 3)) == ["clip 0.0 1.0"]
    assert twice((-2, -1), (0, 3)) == ["clip -2.0 -1.0", "clip 0.0 3.0"]


def test_a_clip_that_others_read_is_kept_for_them() -> None:
    g = Graph(x=(2, 3))
    inner = g("inner", relax.op.clip(g.x, 0, 4))
    after, _ = run(PASS, g.returns(g("outer", relax.op.clip(inner, 1, 9)), inner))
    assert operators(after) == ["lhcc.activation", "lhcc.activation"]


def test_integers_stay() -> None:
    g = Graph(dtype="int32", x=(2, 3))
    after, _ = run(PASS, g.returns(g("y", relax.op.nn.relu(g.x)), g("z", relax.op.multiply(g.x, g.x))))
    assert operators(after) == ["relax.nn.relu", "relax.multiply"]
    g = Graph(dtype="int32", x=(2, 3))
    after, _ = run(PASS, g.returns(g("y", relax.op.divide(g.x, constant(np.full(1, 6, np.int32))))))
    assert operators(after) == ["relax.divide"]
