"""Integer programs on the emulated GPU give the integers of the numpy reference, bit for bit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import lhcc
from lhcc.errors import TargetError
from lhcc.integer import Builder, Program
from lhcc.integer.tails import tails
from lhcc.targets import base
from lhcc.targets.base import Options
from lhcc.targets.cuda import integers, nvcc
from tests.approximation.test_approximation_quantise import qdq
from tests.targets_cpu.test_cpu_integers import network
from tests.targets_cuda.emulation import compile_without_gpu, emulated_gpu

# target, seed of the network, options: matrix instructions of two generations, and integers at the border
CASES = [
    ("cuda:arch=sm_75", 0, {}),
    ("cuda:arch=sm_80", 1, {}),
    ("cuda:arch=sm_90", 2, {"io": "integer"}),
    ("cuda:arch=sm_90", 3, {"encoding": "dense"}),
]


def wide() -> Program:
    """Weights of more than a byte, maps of more than a byte, signed bytes."""
    rng, b = np.random.default_rng(7), Builder()
    x = b.input("x", (7, 6, 40), bits=8, fraction=4, signed=True)
    left = b.requantise("a.q", b.conv("a", x, rng.integers(-300, 300, (3, 3, 40, 20)), padding=(1, 1, 1, 1)), shift=6)
    right = b.requantise("b.q", b.conv("b", x, rng.integers(-100, 100, (1, 1, 40, 20))), shift=6)
    z = b.requantise("s.q", b.add("s", left, right), shift=4, low=-128, high=127)
    return b.build(b.dense("head", b.flatten("flat", z), rng.integers(-40, 40, (7 * 6 * 20, 9))))


@functools.cache
def _compiled() -> list[Any]:
    """All networks in one compilation."""
    calls: list[Any] = [(network(np.random.default_rng(seed)), target, opts) for target, seed, opts in CASES]
    calls += [(wide(), "cuda", {}), (wide(), "cuda:arch=sm_75", {})]
    calls += [(qdq(np.random.default_rng(1), False, 9), "cuda:precision=int8", {})]
    return compile_without_gpu(*calls)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_networks_equal_the_reference(number: int) -> None:
    _, seed, options = CASES[number]
    program, executable = network(np.random.default_rng(seed)), _compiled()[number]
    step = program.inputs[0]
    q = np.random.default_rng(seed).integers(int(step.low.min()), int(step.high.max()) + 1, (1, *step.shape))
    (expected,) = program.run(q)
    with emulated_gpu():
        if "io" in options:
            got = executable(np.moveaxis(q, -1, 1).astype(executable.inputs[0].dtype))
            assert np.array_equal(got, expected)
        else:
            got = executable((np.moveaxis(q, -1, 1) * step.scale).astype(np.float32))
            assert np.array_equal(got, program.dequantise(expected)[0])
    assert {layer.op for layer in executable.layers} >= {"int_conv2d", "int_dense", "int_max_pool2d", "int_concat"}


@pytest.mark.parametrize("number", [4, 5])
def test_what_fits_no_byte_equals_the_reference(number: int) -> None:
    program, executable = wide(), _compiled()[number]
    x = np.random.default_rng(3).standard_normal((1, 40, 7, 6)).astype(np.float32) * 4
    with emulated_gpu():
        assert np.array_equal(executable(x), program(x))


def test_a_qdq_model_equals_the_processor() -> None:
    model, executable = qdq(np.random.default_rng(1), False, 9), _compiled()[6]
    x = np.random.default_rng(3).standard_normal(executable.inputs[0].shape).astype(np.float32)
    with emulated_gpu():
        assert np.array_equal(executable(x), lhcc.compile(model, precision="int8")(x))


def test_an_addition_joins_the_sum_that_comes_last() -> None:
    b = Builder()
    x = b.input("x", (4, 4, 8), bits=8, fraction=4)
    one = np.ones((1, 1, 8, 8), np.int64)
    first, second = b.conv("first", x, one), b.conv("second", x, one)
    total = b.relu("relu", b.add("total", first, b.requantise("second.q", second, shift=0)))
    found = tails(b.build(b.max_pool("pool", total, (2, 2), (2, 2))))
    assert {name: (tail.last, tail.other) for name, tail in found.items()} == {
        "first": ("first", None), "second": ("relu", "first"), "pool": ("pool", None)
    }  # fmt: skip


def test_a_layer_of_more_than_32_bits_is_told() -> None:
    b = Builder()
    x = b.input("x", (4, 4, 8), bits=16, fraction=4)
    program = b.build(b.conv("heavy", x, np.full((3, 3, 8, 8), 1 << 14)))
    with pytest.raises(TargetError, match="'heavy' needs 3. bits"):
        base.parse("cuda").compile_program(program, Options(), 1)


@pytest.mark.skipif(nvcc.find() is None, reason=f"nvcc is not installed: {nvcc.INSTALL}")
@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_integer_kernels_compile_and_nothing_spills(arch: str) -> None:
    from lhcc.targets.cuda.build import compile_kernels, sources

    target: Any = base.parse(f"cuda:arch={arch}")
    lowered = integers.lower(network(np.random.default_rng(4)), target.machine, Options())
    _, usage = compile_kernels(sources(lowered, target.machine), arch)
    assert usage and not any(use.spills or use.stack for use in usage)
