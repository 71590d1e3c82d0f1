"""Estimates cycles of a convolution's kernel: what one multiprocessor can do at most, and how long it waits at least.

The figures are those of the architectures' manuals; nothing here was measured.  They only have to rank choices.
"""

from __future__ import annotations

from dataclasses import dataclass

from lhcc.targets.cuda.arch import Arch, Arithmetic

SHARED_RATE, L2_RATE = 128.0, 48.0  # bytes a cycle and multiprocessor
LATENCY = 700.0  # cycles from asking memory for something to having it
START = 2500.0  # cycles of a launch: to begin, to read tables, to store
STAGE = 60.0  # cycles of meeting at a barrier
ENTRY = 14.0  # cycles of finding a weight tile
REGISTERS = 1 << 16


@dataclass(frozen=True)
class Shape:
    """What the estimate looks at."""

    pixels: int  # of a warp, in 16s
    lanes: int
    threads: int
    blocks: int  # thread blocks of the whole layer
    shared: int  # bytes of a thread block
    staged: float  # bytes that a thread block copies, on average
    entries: float  # weight tiles of all warps of a thread block
    steps: float  # weight tiles of its busiest warps
    stage_count: float


def instruction(arch: Arch, arithmetic: Arithmetic) -> float:
    """Cycles of a quarter of a multiprocessor for 16 pixels x 8 outputs x 32 bytes of depth."""
    if not arithmetic.preload:
        return 32.0 if arithmetic.sum == "float32" else 64.0
    once = 16.0 if arch.number < 80 else 8.0 if arch.number < 90 else 6.3
    return once * (3 if arithmetic.name == "f32" else 1)


def registers(pixels: int, lanes: int, copies: int, arithmetic: Arithmetic) -> int:
    """About how many a thread needs."""
    weights = lanes // 8 * arithmetic.b * (2 * arithmetic.steps if arithmetic.preload else 1)
    rows = pixels * (1 if arithmetic.preload else 2)
    return pixels * lanes // 2 + weights + arithmetic.a + rows + 2 * copies + 45


def resident(threads: int, register_count: int, shared: int, arch: Arch) -> int:
    """Thread blocks that a multiprocessor holds at a time."""
    by_registers = REGISTERS // (threads * min(255, register_count))
    return max(1, min(by_registers, (arch.shared + 1024) // (shared + 1024), 16))


def cycles(shape: Shape, arch: Arch, arithmetic: Arithmetic, register_count: int) -> tuple[float, str]:
    """Cycles, and what they are spent on."""
    held = resident(shape.threads, register_count, shape.shared, arch)
    products = shape.pixels * shape.lanes // 8 * arithmetic.steps * instruction(arch, arithmetic)
    matrices = shape.pixels * arithmetic.steps * 512 / SHARED_RATE
    weights = 32 * shape.lanes * arithmetic.size / L2_RATE
    # all that the blocks of a multiprocessor do, each unit taken for itself
    each = shape.blocks / arch.processors
    units = {
        "matrix instructions": each * shape.entries * products / 4,
        "shared memory": each * shape.entries * matrices,
        "weights and pixels from L2": each * (shape.entries * weights + shape.staged / L2_RATE),
    }
    # what one block waits for: its warps' products, one after another, in lockstep per stage
    warps_per_quarter = max(1.0, shape.threads / 128)
    alone = START + LATENCY + shape.stage_count * STAGE + shape.steps * (products * warps_per_quarter + ENTRY)
    rounds = -(-shape.blocks // (arch.processors * held))
    units["launch and memory latency" if START + LATENCY > alone / 2 else "steps of a thread block"] = rounds * alone
    bound = max(units, key=lambda unit: units[unit])
    return units[bound], bound
