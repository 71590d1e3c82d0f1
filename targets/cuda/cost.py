"""Estimates cycles of a convolution's kernel, to rank choices.

The parts of a kernel's time add up: on an H200, sums of the parts below came within 17 % (root mean square) of the
times of 3,220 kernels of 57 layers in fp16, where the largest part alone misses by 28 % and more.  Of the choices that
were measured for a layer, the one with the least estimate took 1.08 to 1.13 of the best one's time, on average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lhcc.targets.cuda.arch import Arch, Arithmetic
from lhcc.targets.cuda.spec import ConvSpec

LAUNCH = 5900.0  # cycles of a kernel that does nothing
STAGE = 700.0  # in which warps meet, find their tiles, and begin copies
FIRST = 0.05  # a byte that a thread block waits for before it can multiply
SHARED = 1.32 / 128  # a byte that a multiprocessor reads from shared memory
L2, STORED = 0.037, 0.088  # a byte that it copies from the L2 cache; of results and residuals
FEW_ROUNDS = 3  # of thread blocks: the last one of them counts whole
REGISTERS = 1 << 16
FREE, SQUEEZED = 120, 160  # registers that fit into 128 without a word, and with some care of the compiler


@dataclass(frozen=True)
class Shape:
    """What the estimate looks at."""

    pixels: int  # of a warp, in 16s
    lanes: int
    across: int  # warps that use the same weights
    threads: int
    blocks: int  # thread blocks of the whole layer
    shared: int  # bytes of a thread block
    first: float  # bytes of its first stage
    staged: float  # bytes of pixels that it copies, on average
    entries: float  # weight tiles that it copies
    stages: float
    stored: float  # bytes of results and residuals, of the whole layer


def instruction(arch: Arch, arithmetic: Arithmetic) -> float:
    """Cycles of a quarter of a multiprocessor for 16 pixels x 8 outputs x 32 bytes of depth."""
    if not arithmetic.preload:
        return 32.0 if arithmetic.sum == "float32" else 64.0
    once = 16.0 if arch.number < 80 else 8.0 if arch.number < 90 else 6.3
    return once * (3 if arithmetic.name == "f32" else 1)


def registers(spec: ConvSpec) -> int:
    """About how many a thread needs; those of warps that only copy are fewer than those of the others."""
    arithmetic, copies = spec.arithmetic, 0 if spec.copiers else spec.copies
    weights = spec.lanes // 8 * arithmetic.b * (2 * arithmetic.steps if arithmetic.preload else 1)
    rows = spec.pixels * (1 if arithmetic.preload else 2)
    return spec.pixels * spec.lanes // 2 + weights + arithmetic.a + rows + 2 * copies + 45


def held(spec: ConvSpec, shared: int) -> int:
    """Thread blocks that a multiprocessor is asked to hold at a time, which limits registers.

    Two blocks of 8 warps instead of one are worth a few registers: on an H200 such kernels took 0.68 to 0.80 of their
    time.  What spills all the same is compiled again without the limit.
    """
    arch, count = Arch(spec.arch), registers(spec)
    if count <= FREE:
        return max(1, min(16, 512 // spec.threads))
    two = spec.threads == 256 and count <= SQUEEZED and spec.thread_blocks > arch.processors
    if two and 2 * (shared + 1024) <= arch.shared + 1024:
        return 2
    return max(1, min(16, 256 // spec.threads))


def resident(threads: int, register_count: int, shared: int, arch: Arch) -> int:
    """Thread blocks that a multiprocessor holds at a time."""
    by_registers = REGISTERS // (threads * min(255, register_count))
    return max(1, min(by_registers, (arch.shared + 1024) // (shared + 1024), 16))


def cycles(shape: Shape, arch: Arch, arithmetic: Arithmetic, register_count: int) -> tuple[float, str]:
    """Cycles, and what most of them are spent on."""
    held = resident(shape.threads, register_count, shape.shared, arch)
    rounds, each = shape.blocks / (arch.processors * held), shape.blocks / arch.processors
    rounds = math.ceil(rounds) if rounds <= FEW_ROUNDS else rounds
    weights, tiles = 32 * shape.lanes * arithmetic.size, each * shape.entries * shape.across
    products = shape.pixels * shape.lanes // 8 * arithmetic.steps * instruction(arch, arithmetic)  # of a tile
    multiplied = tiles * products / 4
    read = tiles * (shape.pixels * arithmetic.steps * 512 + weights) * SHARED
    parts = {
        "launch": LAUNCH,
        "first copies": rounds * shape.first * FIRST,
        "stages": rounds * shape.stages * STAGE,
        "matrix instructions" if multiplied > read else "shared memory": max(multiplied, read),
        "weights and pixels from L2": each * (shape.entries * weights + shape.staged) * L2,
        "results": shape.stored / arch.processors * STORED,
    }
    return sum(parts.values()), max(parts, key=lambda part: parts[part])
