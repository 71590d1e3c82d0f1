"""Requantisations that read the upper half of a product, and bounds that nothing can pass."""

from __future__ import annotations

import numpy as np
import pytest

from lhcc.integer import Clip, Requantise, TensorType
from lhcc.integer.core import typed
from lhcc.ir.int_steps import StepWriter, Upper, fits


def kind(low: int, high: int, channels: int = 6) -> TensorType:
    return typed("x", (4, 4, channels), np.asarray(1.0), np.full(channels, low), np.full(channels, high))


def requantised(x: int, multiplier: int, shift: int) -> int:
    """In whole numbers of any size."""
    grown = x * multiplier << max(0, -shift)
    right = max(shift, 0)
    return (grown + (1 << right >> 1)) >> right


def upper_half(x: int, upper: Upper, channel: int) -> int:
    """What the code computes, each intermediate in 32 bits."""
    moved = x << upper.left
    assert fits(moved, moved) and fits(1, int(upper.multiplier[channel]))
    upper_bits = (moved * int(upper.multiplier[channel])) >> 32
    rounded = upper_bits + (1 << (upper.right - 33))
    assert fits(upper_bits, rounded)
    return rounded >> (upper.right - 32)


@pytest.mark.parametrize("seed", range(60))
def test_the_upper_half_rounds_as_the_program_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(1, 31))
    low, high = (0 if seed % 3 == 0 else -(1 << bits)), (1 << bits) - 1
    width = int(rng.integers(2, 32))
    multiplier = rng.integers(1 << (width - 2), 1 << (width - 1), 6)
    shift = int(rng.integers(-2, 50)) + rng.integers(0, 4, 6) * (seed % 2)
    upper = Upper.of(multiplier, shift, kind(low, high))
    if upper is None:
        return
    for channel in range(6):
        m, s = int(multiplier[channel]), int(shift[channel])
        ties = [((2 * k + 1) << max(s, 0)) // (2 * m) + d for k in range(-3, 4) for d in (-1, 0, 1)]
        xs = [low, low + 1, -1, 0, 1, high - 1, high, *ties, *rng.integers(low, high + 1, 30).tolist()]
        for x in (x for x in xs if low <= x <= high):
            assert upper_half(x, upper, channel) == requantised(x, m, s), (x, m, s, upper)


def test_when_the_upper_half_tells_all() -> None:
    ones = np.ones(6, np.int64)
    usual = Upper.of(ones * (3 << 22), ones * 34 - np.arange(6), kind(-(1 << 22), 1 << 22))
    assert usual is not None and (usual.left, usual.right) == (0, 34), "all channels shift alike"
    assert usual.multiplier.tolist() == [3 << 22 + k for k in range(6)]
    small = Upper.of(ones * (3 << 22), ones * 24, kind(0, 255))
    assert small is not None and small.left + 24 + 7 == 33, "what multipliers cannot grow by, small inputs can"
    assert Upper.of(ones * (3 << 22), ones * 24, kind(0, 1 << 30)) is None, "neither can grow enough"
    assert Upper.of(ones * (3 << 22), np.arange(6) * 4 + 20, kind(0, 255)) is None, "shifts too far apart"


def test_only_bounds_that_something_passes_are_written() -> None:
    writer = StepWriter(6, 16)
    writer.write(Clip("c", ("x",), -5, 300), kind(0, 255))
    assert writer.steps == []
    writer.write(Clip("c", ("x",), 0, 300), kind(-1, 255))
    writer.write(Requantise("r", ("x",), np.asarray(2), np.asarray(1), None, 0, 63), kind(-2, 255))
    assert writer.steps == ["clip 0 -", "shift 2", "clip - 63"]
