"""The adder graph's own claims: ranges, widths, depth and cost, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lhcc.encodings.adders import Adder, AdderGraph, Output, SumNetwork, signed_digits, solve, width


@pytest.mark.parametrize("value", [*range(-70, 71), 2**40 - 1, -(2**33) - 7])
def test_signed_digits_are_canonical(value: int) -> None:
    digits = signed_digits(value)
    assert sum((-1 if neg else 1) << shift for shift, neg in digits) == value
    shifts = [shift for shift, _ in digits]
    assert all(b - a >= 2 for a, b in itertools.pairwise(shifts))


def test_ranges_are_exact_and_widths_hold_them() -> None:
    rng = np.random.default_rng(0)
    graph = solve(rng.integers(-9, 10, (3, 4)), seconds=0)
    low, high = np.array([-3, 0, 1]), np.array([2, 5, 3])
    every = np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
    values = every @ graph.vectors.T
    lows, highs = graph.ranges(low, high)
    np.testing.assert_array_equal(lows, values.min(axis=0))
    np.testing.assert_array_equal(highs, values.max(axis=0))
    for bits, a, b in zip(graph.widths(low, high), lows, highs, strict=True):
        assert bits == width(int(a), int(b))
        smallest, largest = (0, 2**bits - 1) if a >= 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert smallest <= a <= b <= largest


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 0), (0, 1, 1), (0, 255, 8), (-1, 0, 1), (-128, 127, 8), (-129, 3, 9)]
)
def test_width(low: int, high: int, bits: int) -> None:
    assert width(low, high) == bits


def test_full_adder_bits_leave_out_what_passes_through() -> None:
    add = AdderGraph(2, (Adder(0, 1, 0, 3, False),), (Output(2, 0, False),))
    # 0..15 + 8 * (0..15) = 0..135: 8 bits, of which the low three are the first operand's own
    assert add.full_adder_bits_for(0, 15) == 5
    minus = AdderGraph(2, (Adder(0, 1, 3, 0, True),), (Output(2, 0, False),))
    # 8 a - b: the low bits are not b's, so every bit of -15..120 needs a cell
    assert minus.full_adder_bits_for(0, 15) == 8


def test_negative_and_shifted_outputs() -> None:
    graph = AdderGraph(2, (Adder(0, 1, 0, 1, False),), (Output(2, 2, True), Output(0, -1, False), Output(-1, 0, False)))
    np.testing.assert_array_equal(graph.coefficients(), [[-4, 0.5, 0], [-8, 0, 0]])
    np.testing.assert_array_equal(graph(np.array([[3, 5]])), [[-52, 1.5, 0]])


def test_a_sum_becomes_the_flattest_tree() -> None:
    network = SumNetwork(5, 1, [[(i, 0, 0) for i in range(5)]])
    assert (AdderGraph.from_network(network).depth, network.depth) == (3, 3)


def test_a_node_beyond_62_bits_is_refused() -> None:
    doubling = tuple(Adder(k, k, 0, 40, False) for k in range(1, 3))
    with pytest.raises(OverflowError, match="beyond 62 bits"):
        _ = AdderGraph(1, (Adder(0, 0, 0, 40, False), *doubling), (Output(3, 0, False),)).vectors
