"""Estimates cycles of a convolution's kernel, to rank choices.

The parts of a kernel's time add up: on an H200, sums of the parts below came within 17 % (root mean square) of the
times of 3,220 kernels of 57 layers in fp16, where the largest part alone misses by 28 % and more.  Of the choices that
were measured for a layer, the one with the least estimate took 1.08 to 1.13 of the best one's time, on average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lhcc.targets.cuda.arch import Arch, Arithmetic
from lhcc.targets.cuda.patch import Patch
from lhcc.targets.cuda.spec import ConvSpec

LAUNCH = 5900.0  # cycles of a kernel that does nothing
STAGE = 700.0  # in which warps meet, find their tiles, and begin copies
FIRST = 0.05  # a byte that a thread block waits for before it can multiply
SHARED = 1.32 / 128  # a byte that a multiprocessor reads from shared memory
L2, STORED = 0.037, 0.088  # a byte that it copies from the L2 cache; of results and residuals
FEW_ROUNDS = 3  # of thread blocks: the last one of them counts whole
REGISTERS = 1 << 16
# registers that fit into 128 without a word, as far as is known, and with some care of the compiler
FREE, SURE, SQUEEZED = 120, 138, 160
ADDING = 6  # more of them, for a residual


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
    arithmetic, copies = spec.arithmetic, 0 if spec.copiers or spec.planes else spec.copies
    weights = spec.lanes // 8 * arithmetic.b * (2 * arithmetic.steps if arithmetic.preload else 1)
    rows = spec.pixels * (1 if arithmetic.preload else 2)
    each = 2 if Patch(spec).even else 3  # of a copy: from where, for how long, and where to
    return spec.pixels * spec.lanes // 2 + weights + arithmetic.a + rows + each * copies + 45


def most(threads: int) -> int:
    """Registers that a thread may need by `registers`, which does not know them exactly."""
    each = REGISTERS // threads
    return SQUEEZED if each == 128 else min(215, each - 10)


def sure(spec: ConvSpec) -> bool:
    """Whether the compiler will do without spilling: 16 warps in one thread block cannot be given more registers."""
    return REGISTERS // spec.threads != 128 or registers(spec) + (ADDING if spec.residual else 0) <= SURE


def held(spec: ConvSpec, shared: int) -> int:
    """Thread blocks that a multiprocessor is asked to hold at a time, which limits registers.

    16 warps instead of 8 are worth a few registers: on an H200 such kernels took 0.68 to 0.80 of their time.  What
    spills all the same is compiled again without the limit.
    """
    arch, count = Arch(spec.arch), registers(spec)
    few, many = (max(1, min(16, warps * 32 // spec.threads)) for warps in (8, 16))
    room = count <= SQUEEZED and many * (shared + 1024) <= arch.shared + 1024
    return many if count <= FREE or (room and spec.thread_blocks > few * arch.processors) else few


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
