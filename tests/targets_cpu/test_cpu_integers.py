"""Integer programs on the CPU give the integers of the numpy reference, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lhcc.errors import TargetError
from lhcc.integer import Builder, Concat, Input, Program, Requantise
from lhcc.runtime.build import build
from lhcc.runtime.machine import mismatch
from lhcc.targets import base
from lhcc.targets.base import Options
from lhcc.targets.cpu import integers
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.target import CpuTarget

# Each adds differently: AVX-512 VNNI's dot products, pairs in registers of 512, 256 and 128 bits, and words.
TARGETS = (
    "cpu",
    "cpu:mcpu=cascadelake",
    "cpu:mcpu=skylake-avx512",
    "cpu:mcpu=haswell",
    "cpu:mcpu=nehalem",
    "cpu:mcpu=x86-64",
)


def machine(target: str = "cpu") -> Machine:
    parsed = base.parse(target)
    assert isinstance(parsed, CpuTarget)
    return parsed.machine


def compiled(program: Program, target: str = "cpu", threads: int = 1, images: int = 1) -> Any:
    """The executable; the test is skipped where this processor lacks what the target has."""
    parsed = base.parse(target)
    executable = build(
        integers.lower(program, machine(target), Options(threads=threads), images), parsed, threads=threads
    )
    if why := mismatch(executable.program.machine):
        pytest.skip(f"compiled for {target}, not run: {why}")
    return executable


def network(rng: np.random.Generator) -> Program:
    """A small network with a residual, a concatenation, depthwise and pooling layers, each kind of requantisation."""
    b = Builder()
    inputs, outputs = int(rng.choice([1, 3, 16, 24])), int(rng.choice([8, 16, 20, 40]))
    height, width = (int(n) for n in rng.integers(6, 14, 2))
    x = b.input("x", (height, width, inputs), bits=8, fraction=4, signed=bool(rng.integers(2)))
    kernel, stride = int(rng.choice([1, 3, 5])), int(rng.choice([1, 2]))

    def weights(*shape: int, top: int = 127) -> Any:
        return rng.integers(-top, top + 1, shape) * (rng.random(shape) < rng.choice([0.3, 1.0]))

    first = b.conv(
        "first", x, weights(kernel, kernel, inputs, outputs), rng.integers(-1000, 1000, outputs), fraction=3,
        stride=(stride, stride), padding=(kernel // 2,) * 4,
    )  # fmt: skip
    y = b.requantise("first.q", first, shift=9, low=0, high=255)
    z = b.conv("second", y, weights(3, 3, outputs, 32), rng.integers(-100, 100, 32), fraction=3, padding=(1, 1, 1, 1))
    shifts, multipliers = rng.integers(20, 40, 32), rng.integers(1, 2 ** int(rng.choice([10, 24])), 32)
    z = b.append(Requantise("second.q", (z,), shifts, multipliers, np.asarray(1 / 16), 0, 255))
    deep = b.conv("depth", z, rng.integers(-7, 8, (3, 3, 1, 32)), padding=(1, 1, 1, 1), groups=32)
    deep = b.append(Requantise("depth.q", (deep,), np.asarray(3), np.asarray(1), np.asarray(1 / 16), -300, 300))
    z = b.add("sum", deep, z)
    z = b.append(
        Requantise("sum.q", (b.relu("sum.relu", z),), np.asarray(1), np.asarray(1), np.asarray(1 / 16), 0, 255)
    )
    z = b.append(Concat("both", (z, b.max_pool("same", z, (3, 3), (1, 1), (1, 1, 1, 1)))))
    z = b.conv("last", z, weights(1, 1, 64, 17, top=3), fraction=2)
    z = b.requantise("last.q", b.relu("last.relu", z), shift=4, low=0, high=255)
    z = b.flatten("flat", b.global_sum("average", z))
    return b.build(b.dense("head", z, weights(17, 10, top=20), rng.integers(-5, 5, 10)))


@pytest.mark.parametrize("seed, target", [*((0, target) for target in TARGETS), (1, "cpu"), (2, "cpu")])
def test_random_network_is_exact(seed: int, target: str) -> None:
    rng = np.random.default_rng(seed)
    program = network(rng)
    executable = compiled(program, target, threads=1 + seed % 2, images=2)
    height, width, channels = program.inputs[0].shape
    x = (rng.integers(-140, 300, (2, channels, height, width)) / 16).astype(np.float32)
    np.testing.assert_array_equal(executable(x), program(x))


@pytest.mark.parametrize("target", TARGETS)
def test_requantisation_by_multipliers_is_exact(target: str) -> None:
    """Sums, and what is added to them, scaled by multipliers of 24 bits, as quantised models are; halves included."""
    rng = np.random.default_rng(7)
    b = Builder()
    x = b.input("x", (6, 7, 24), bits=8)
    y = b.conv("y", x, rng.integers(-127, 128, (1, 1, 24, 20)), rng.integers(-9999, 9999, 20))
    multipliers, shifts = rng.integers(1 << 23, 1 << 24, 20), rng.integers(30, 34, 20)
    y = b.append(Requantise("y.q", (y,), shifts, multipliers, np.asarray(1.0), -100, 155))
    z = b.conv("z", x, rng.integers(-3, 4, (3, 3, 24, 20)), padding=(1, 1, 1, 1))
    z = b.append(Requantise("z.q", (z,), np.asarray(33), np.asarray(5 << 26), np.asarray(1.0), -128, 127))
    other = b.append(Requantise("o.q", (y,), np.asarray(24), np.asarray(3 << 22), np.asarray(1.0), None, None))
    total = b.relu("relu", b.add("sum", z, other))
    program = b.build(b.append(Requantise("q", (total,), np.asarray(1), np.asarray(1), np.asarray(1.0), 0, 100)))
    data = rng.integers(0, 256, (1, 24, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(compiled(program, target)(data), program(data))


def test_piecewise_activation_is_exact() -> None:
    b = Builder()
    x = b.input("x", (4, 5, 20), bits=8, fraction=4, signed=True)
    breakpoints, slopes, offsets = np.array([-40, 0, 33]), np.array([1, 2, 5, -3]), np.array([7, -4, 0, 100])
    program = b.build(b.piecewise("f", x, breakpoints, slopes, offsets, 2))
    executable = compiled(program)
    data = (np.random.default_rng(0).integers(-140, 140, (1, 20, 4, 5)) / 16).astype(np.float32)
    np.testing.assert_array_equal(executable(data), program(data))


def test_more_than_32_bits_are_refused_with_layer_and_width() -> None:
    b = Builder()
    x = b.input("x", (4, 4, 8), bits=16)
    y = b.conv("wide", x, np.full((3, 3, 8, 4), 30000))
    program = b.build(y)
    with pytest.raises(TargetError, match="layer 'wide' needs 3[0-9] bits"):
        integers.lower(program, machine(), Options())


@pytest.mark.parametrize("extreme, target", [*((127, target) for target in TARGETS), (-128, "cpu"), (64, "cpu")])
def test_the_largest_weights_and_inputs_do_not_overflow(extreme: int, target: str) -> None:
    """Every product as large as it can be, all of one sign: where 16-bit sums would overflow, or saturate."""
    b = Builder()
    x = b.input("x", (5, 4, 48), bits=8)
    y = b.conv("y", x, np.full((3, 3, 48, 20), extreme), padding=(1, 1, 1, 1))
    y = b.conv("z", b.clip("y.clip", b.requantise("y.q", y, 9), 0, 255), np.full((1, 1, 20, 7), extreme))
    program = b.build(y)
    data = np.full((1, 48, 5, 4), 255, np.float32)
    np.testing.assert_array_equal(compiled(program, target)(data), program(data))


@pytest.mark.parametrize("low", [-(1 << 15), -3000, 0])
def test_inputs_of_sixteen_bits(low: int) -> None:
    b = Builder()
    bounds = np.asarray(low, np.int64), np.asarray((1 << 15) - 1, np.int64)
    x = b.append(Input("x", (), (6, 7, 5), np.asarray(1.0), *bounds))
    program = b.build(b.conv("y", x, np.random.default_rng(0).integers(-300, 300, (3, 3, 5, 9)), padding=(1, 1, 1, 1)))
    data = np.random.default_rng(1).integers(-40000, 40000, (1, 5, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(compiled(program)(data), program(data))
