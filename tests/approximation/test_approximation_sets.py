"""Sets of dyadic numbers, and the piecewise-linear activations built from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lhcc.approximation import SetError, named_set, piecewise_linear
from lhcc.approximation.functions import FUNCTIONS
from lhcc.encodings.dyadic import digit_count
from lhcc.errors import LhccError


def test_named_sets() -> None:
    assert named_set("ternary").levels == (-1, 0, 1)
    assert named_set("half").levels == (-2, -1, -0.5, 0, 0.5, 1, 2)
    assert named_set("half").unit == 0.5
    assert named_set("digits:1:3").levels == (-4, -2, -1, 0, 1, 2, 4)
    assert named_set("digits:2:5").digits == 2
    assert named_set("0, 1, -1, 3").levels == (-1, 0, 1, 3)
    assert not named_set("0,1").symmetric
    assert named_set([1, 0, -1]).symmetric


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ([], "no number but 0"),
        ([0.0], "no number but 0"),
        ("", "no number but 0"),
        ([0, 0.1], "0.1 is not dyadic"),
        ([0, math.inf], "inf is not dyadic"),
        ("octal", "no set of weights is called 'octal'"),
        ("digits:2", "no set of weights is called 'digits:2'"),
        ("digits:0:4", "digits >= 1"),
    ],
)
def test_mistakes_in_sets(which: str | list[float], says: str) -> None:
    with pytest.raises(SetError, match=says):
        named_set(which)


@pytest.mark.parametrize("tolerance", [1 / 16, 1 / 64, 1 / 300])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_activations_keep_their_stated_error(name: str, tolerance: float) -> None:
    line = piecewise_linear(name, tolerance)
    assert line.max_error <= tolerance
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-9, 9, 40_000), rng.uniform(-1e4, 1e4, 1000), np.array(line.breakpoints)])
    with np.errstate(over="ignore"):
        assert np.abs(line(x) - FUNCTIONS[name].compute(x)).max() <= line.max_error


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_activations_are_dyadic_and_continuous(name: str) -> None:
    line = piecewise_linear(name)
    for value in (*line.breakpoints, *line.slopes, *line.values):
        assert (value * 2**16) % 1 == 0
    assert digit_count([round(abs(s) * 2**16) for s in line.slopes]).max() <= 2
    edges = np.array(line.breakpoints)
    np.testing.assert_allclose(line(edges - 1e-9), line(edges), atol=1e-8)


def test_mistakes_in_activations() -> None:
    with pytest.raises(LhccError, match="no activation is called 'swoosh'"):
        piecewise_linear("swoosh")
    with pytest.raises(LhccError, match="must lie in"):
        piecewise_linear("tanh", 1e-9)
