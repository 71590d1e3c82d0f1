"""The check of numbers finds what a faulty pass would do, and lets rounding pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from lhcc.ir.verify import NumbersChanged, difference, random_inputs, same_numbers
from tests.passes.modules import Array, Graph, const, conv, normal


def module(weight: Array, bias: Array, **attrs: Any) -> Any:
    g = Graph(x=(2, 3, 5, 5))
    return g.returns(g("y", conv(g.x, weight, bias, **attrs)))


W, B = normal(4, 3, 3, 3), normal(4)
RIGHT = module(W, B, padding=(1, 1, 1, 1), activation="relu")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: module(W * np.float32(1.001), B, padding=(1, 1, 1, 1), activation="relu"),
        lambda: module(W, B + np.float32(0.001), padding=(1, 1, 1, 1), activation="relu"),
        lambda: module(W[:, ::-1], B, padding=(1, 1, 1, 1), activation="relu"),
        lambda: module(W.swapaxes(2, 3), B, padding=(1, 1, 1, 1), activation="relu"),
        lambda: module(W, B, padding=(2, 1, 0, 1), activation="relu"),
        lambda: module(W, B, padding=(1, 1, 1, 1), activation="clip 0 6"),
        lambda: module(W, B, padding=(1, 1, 1, 1)),
        lambda: module(np.where(np.arange(27).reshape(3, 3, 3) == 0, np.nan, W), B, padding=(1, 1, 1, 1)),
    ],
)
def test_faults_are_found(wrong: Callable[[], Any]) -> None:
    with pytest.raises(NumbersChanged, match="pass faulty changed output 0: "):
        same_numbers(RIGHT, wrong(), "faulty")


def test_rounding_passes() -> None:
    same_numbers(RIGHT, RIGHT, "nothing")
    same_numbers(RIGHT, module(np.nextafter(W, np.float32(9)), B, padding=(1, 1, 1, 1), activation="relu"), "rounding")


def test_differences_in_words() -> None:
    a = np.ones((2, 2))
    assert difference(a, a) == ""
    assert difference(a, np.ones(4)) == "its shape is (4,), it was (2, 2)"
    assert difference(a, a + 0.5) == "relative error 5.0e-01"
    assert difference(a, np.full((2, 2), np.nan)) == "4 of its elements are NaN, 0 were"
    assert difference(np.full(2, np.inf), np.full(2, -np.inf)) == "its infinite elements differ"
    assert difference(np.array([1, 2]), np.array([1, 3])) == "1 of its 2 elements differ"
    assert difference(np.zeros(3), np.zeros(3)) == ""
    assert difference(np.zeros(3), np.full(3, 0.1)) == "error 1.7e-01 where it was zero"


def test_inputs_fit_their_types() -> None:
    g = Graph(x=(3, 4))
    (x,) = random_inputs(g.returns(g("y", relax.op.add(g.x, const(1.0)))), 0)
    assert x.dtype == np.float32 and x.shape == (3, 4)
    g = Graph(dtype="int64", i=(5,))
    (i,) = random_inputs(g.returns(g("y", relax.op.add(g.i, g.i))), 0)
    assert i.dtype == np.int64 and 0 <= i.min() and i.max() < 5
