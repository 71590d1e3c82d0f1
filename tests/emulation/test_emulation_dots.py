"""Integer layers by 64-bit ARM's dot products of bytes, under QEMU: numpy's integers, and what the code consists of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhcc.integer import Builder, Program
from lhcc.runtime.build import build
from lhcc.targets import base
from lhcc.targets.base import Options
from lhcc.targets.cpu import integers
from tests.emulation.test_emulation_boards import innermost_loops
from tests.targets_cpu.test_cpu_integers import machine, network

pytestmark = pytest.mark.qemu
SIGNED, MIXED, WITHOUT = "raspberry-pi-5", "aarch64:mcpu=neoverse-v1", "raspberry-pi-4"


@pytest.fixture(autouse=True)
def tools() -> None:
    for tool, package in (("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"), ("qemu-aarch64", "qemu-user")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: apt-get install {package}")


def compiled(program: Program, target: str, images: int = 1) -> Any:
    return build(integers.lower(program, machine(target), Options(), images), base.parse(target))


def layer(rng: np.random.Generator, size: tuple[int, int], channels: tuple[int, int], kernel: int, **more: Any) -> Any:
    """One convolution and its requantisation; the input has `bits`, and weights have any value of a byte."""
    bits, density, stride = more.get("bits", 8), more.get("density", 1.0), more.get("stride", 1)
    b = Builder()
    weight = rng.integers(-128, 128, (kernel, kernel, *channels))
    weight *= rng.random(weight.shape) < density
    x = b.input("x", (*size, channels[0]), bits=bits)
    y = b.conv(
        "y", x, weight, rng.integers(-1000, 1000, channels[1]), stride=(stride, stride), padding=(kernel // 2,) * 4
    )
    return b.build(b.requantise("q", y, 9, low=0, high=255))


def images_of(program: Program, rng: np.random.Generator, count: int = 1) -> Any:
    height, width, channels = program.inputs[0].shape
    kind = program.types[program.inputs[0].name]
    values = rng.integers(kind.low.min(), kind.high.max() + 1, (count, channels, height, width))
    return (values * float(kind.scale)).astype(np.float32)


@pytest.mark.parametrize("target", [SIGNED, MIXED])
@pytest.mark.parametrize("seed", range(6))
def test_random_layers_are_exact(seed: int, target: str) -> None:
    rng = np.random.default_rng(seed)
    size, channels = rng.integers(2, 14, 2), rng.integers(1, 70, 2)
    program = layer(
        rng, (int(size[0]), int(size[1])), (int(channels[0]), int(channels[1])), int(rng.choice([1, 3, 5])),
        bits=7 + seed % 2, density=rng.choice([0.05, 0.3, 1.0]), stride=int(rng.choice([1, 2])),
    )  # fmt: skip
    x = images_of(program, rng)
    np.testing.assert_array_equal(compiled(program, target).emulate(x).outputs[0], program(x))


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("kernel, size", [(3, (1, 1)), (5, (2, 3)), (1, (4, 4)), (3, (7, 1))])
def test_extremes_are_exact(kernel: int, size: tuple[int, int], bits: int) -> None:
    """The greatest inputs and the least weights, where most of the kernel, or nothing, lies beyond the border."""
    b = Builder()
    x = b.input("x", (*size, 32), bits=bits)
    weight = np.full((kernel, kernel, 32, 16), -128)
    weight[..., 8:] = 127
    program = b.build(b.conv("y", x, weight, np.arange(16), padding=(kernel // 2,) * 4))
    data = np.full((1, 32, *size), 2.0**bits - 1, np.float32)
    np.testing.assert_array_equal(compiled(program, SIGNED).emulate(data).outputs[0], program(data))


@pytest.mark.parametrize("target", [SIGNED, MIXED])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_networks_are_exact(seed: int, target: str) -> None:
    """With residuals, depthwise layers and pooling between, and two images at a time."""
    rng = np.random.default_rng(seed)
    program = network(rng)
    x = images_of(program, rng, 2)
    np.testing.assert_array_equal(compiled(program, target, 2).emulate(x).outputs[0], program(x))


@pytest.mark.parametrize("target, name", [(SIGNED, "sdot"), (MIXED, "usdot")])
def test_inner_loops_are_dot_products_by_element(target: str, name: str, tmp_path: Path) -> None:
    """Nothing is spilled, and no word of the input is spread over a vector."""
    objdump = shutil.which("aarch64-linux-gnu-objdump")
    assert objdump, "comes with the cross compiler's binutils"
    program = layer(np.random.default_rng(0), (12, 12), (32, 32), 3)
    (tmp_path / "kernels.so").write_bytes(compiled(program, target).program.code)
    listing = subprocess.run(
        [objdump, "-d", tmp_path / "kernels.so"], capture_output=True, text=True, check=True
    ).stdout
    loops = [loop for loop in innermost_loops(listing) if "dot\t" in loop]
    best = max(loops, key=lambda loop: loop.count("dot\t") / len(loop.splitlines()))
    dots = best.count(f"\t{name}\t") + best.count("\tsudot\t") * (name == "usdot")
    assert dots >= 64 and dots / len(best.splitlines()) > 0.75, best
    assert "[sp" not in best and "dup" not in best, best


@pytest.mark.parametrize("bits", [7, 8])
def test_they_take_a_quarter_of_the_instructions(bits: int) -> None:
    program = layer(np.random.default_rng(0), (16, 16), (64, 64), 3, bits=bits)
    with_dots, without = (compiled(program, target).emulate().instructions for target in (SIGNED, WITHOUT))
    assert max(with_dots) <= 0.25 * max(without), (with_dots, without)
