"""What a design costs on a chip, by our own model: LUTs, flip-flops and block memories, before any synthesis."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from itertools import pairwise

from lhcc.integer import Conv, Dense, Program
from lhcc.integer.core import width
from lhcc.targets.fpga.arithmetic import signed_digits
from lhcc.targets.fpga.folded_code import Demands
from lhcc.targets.fpga.folded_jobs import INPUTS, OUTPUTS
from lhcc.targets.fpga.folded_units import QUARTERS, ROW, places, row_bits
from lhcc.targets.fpga.netlist import Netlist, Node
from lhcc.targets.fpga.stages import AnyStage, ArrayStage, FifoStage, SlidingStage, TransposedStage
from lhcc.targets.fpga.timing import Schedule

DEVICES = {  # LUTs, 36-kbit block memories: the vendor's product tables
    "xc7a35t": (20_800, 50),
    "xc7a100t": (63_400, 135),
    "xc7a200t": (134_600, 365),
    "xc7k325t": (203_800, 445),
    "xc7vx690t": (433_200, 1_470),
}


_DEPTHS = {36: 512, 18: 1024, 9: 2048, 4: 4096, 2: 8192, 1: 16_384}
"""bits of a word: words of a block memory of 18 kbit"""

_CONTROL = 24
"""LUTs of the counters and handshakes of a stage that looks at more than the pixel at hand"""

DEEPEST = 64
"""pixels up to which a line is kept in LUTs: four of them hold 6 bits of 32 pixels"""


@dataclass(frozen=True)
class Area:
    luts: int = 0
    flip_flops: int = 0
    memory_bits: int = 0
    half_memories: int = 0
    """block memories of 18 kbit, of which two make one of 36 kbit"""

    def __add__(self, other: Area) -> Area:
        return Area(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def weight(self) -> float:
        """one figure to compare designs by: a LUT comes with two flip-flops, a block memory is worth some 180 LUTs"""
        return self.luts + self.flip_flops / 2 + self.memory_bits / 200

    @property
    def block_memories(self) -> int:
        return -(-self.half_memories // 2)


def memory(bits: int, depth: int) -> Area:
    """A memory with a read and a write port, in the shape of block memories that takes the fewest."""
    halves = min(-(-bits // lanes) * -(-depth // _DEPTHS[lanes]) for lanes in _DEPTHS)
    return Area(memory_bits=bits * depth, half_memories=halves)


def logic_luts(net: Netlist) -> int:
    """Sums on carry chains, two comparisons' worth per clip or maximum."""
    total = 0
    for k in net.live():
        node = net.nodes[k]
        if net.is_adder(k):
            total += _adder_luts(net, node)
        elif node.kind == "max":
            total += node.bits * 7 // 4  # a comparison on a carry chain, and a choice
        elif node.kind == "clip":
            total += node.bits + 2
        elif node.kind == "reaches":
            total += -(-net.nodes[node.args[0]].bits // 2)
        elif node.kind == "select":
            total += node.bits
    return total


def _adder_luts(net: Netlist, node: Node) -> int:
    """One per bit in which both operands vary; where one is constant, the carry chain needs but an inverter."""

    def varies(a: Node, shift: int) -> range:
        return range(0) if a.kind == "const" else range(shift, node.bits if a.signed else shift + a.bits)

    first, second = (varies(net.nodes[a], s) for a, s in zip(node.args, node.data, strict=True))
    return max(0, min(first.stop, second.stop, node.bits) - max(first.start, second.start))


def _shifted(net: Netlist, plan: Schedule) -> int:
    """Values that wait three steps or longer without being read do so in LUTs, one a bit, and not in registers."""
    read: dict[int, set[int]] = {k: {plan.step[k]} for k in plan.step}
    for k in plan.step:
        for a in net.nodes[k].args:
            read[a].add(plan.step[k])
    for k in net.outputs:
        read[k].add(plan.steps)  # the register behind the last step
    waits = {k: sum(b - a >= 3 for a, b in pairwise(sorted(steps))) for k, steps in read.items()}
    return sum(n * net.nodes[k].bits for k, n in waits.items() if net.nodes[k].kind != "const")


def area(stage: AnyStage) -> Area:
    if isinstance(stage, FifoStage):
        return Area(stage.output.word * -(-stage.depth // 32) + 12, 12)
    if isinstance(stage, ArrayStage):
        c = stage.code
        words = [(4 * len(lines[0]), len(lines)) for lines in (c.jobs, c.passes, c.weights, c.biases)]
        words += [(INPUTS * c.activation_bits, n) for n in (c.words, c.banks * c.input_words)]
        memories = [memory(bits, depth) for bits, depth in [*words, (OUTPUTS * c.accumulator_bits, c.pixels)]]
        return sum(memories, _array_logic(c.activation_bits, c.weight_bits, c.accumulator_bits))
    registers = stage.schedule.register_bits(stage.logic) + stage.steps
    luts, lines = logic_luts(stage.logic) + _shifted(stage.logic, stage.schedule), Area()
    if isinstance(stage, TransposedStage):
        registers += stage.product_schedule.register_bits(stage.products)
        registers += sum(width(*ends) for ends in stage.links[-1].sums.values())
        luts += logic_luts(stage.products) + _shifted(stage.products, stage.product_schedule)
        luts += sum(width(*ends) for ends in stage.joins)
        if stage.geometry.flush:  # padded: the first product of a sum may be masked
            luts += sum(width(*ends) for ends in stage.begins)
    if not (isinstance(stage, SlidingStage) and stage.geometry.kernel == stage.geometry.stride == (1, 1)):
        luts += _CONTROL
    for bits, pixels in stage.delays:
        if pixels == 1:
            registers += bits
        elif pixels <= DEEPEST:
            luts += -(-bits // 6) * 4 * -(-pixels // 32) + 2 * pixels.bit_length()
            registers += bits
        else:
            lines += memory(bits, pixels)
    return Area(luts, registers) + lines


def array_area(d: Demands) -> Area:
    """Of an array that has not been laid out yet."""
    weights = memory(INPUTS * OUTPUTS * d.weight_bits, d.pairs)
    maps = memory(INPUTS * d.activation_bits, d.words) + memory(OUTPUTS * d.accumulator_bits, d.pixels)
    return _array_logic(d.activation_bits, d.weight_bits, d.accumulator_bits) + weights + maps


def units_luts(activation_bits: int, weight_bits: int, accumulator_bits: int) -> int:
    """Of one output: a LUT per bit of every addition, where the sum so far grows with every input, and one an input
    and place for what its three bits of the weight say."""
    part = row_bits(activation_bits, accumulator_bits)
    rows = sum(min(activation_bits + 2 + (k - 1).bit_length(), part) for k in range(1, ROW + 1))
    count = places(weight_bits)
    return count * (QUARTERS * rows + INPUTS + 3 * part + 4) + (count - 1) * (part + 4)


def _array_logic(activation_bits: int, weight_bits: int, accumulator_bits: int) -> Area:
    units = units_luts(activation_bits, weight_bits, accumulator_bits)
    kept = places(weight_bits) * (5 * row_bits(activation_bits, accumulator_bits) + 2) + accumulator_bits
    luts = OUTPUTS * (units + 8 * accumulator_bits + 24) + 600
    return Area(luts, OUTPUTS * (kept + 4 * accumulator_bits) + 200)


def unrolled_estimate(program: Program) -> int:
    """LUTs of the unrolled form, from the signed digits alone: cheap enough to ask before building anything."""
    total = 0
    for step in program.instructions:
        if isinstance(step, Conv | Dense):
            bits = program.types[step.inputs[0]].bits
            digits = sum(len(signed_digits(w)) * n for w, n in _counted(step))
            total += int(digits * (bits + 0.5 * math.log2(digits + 2)))
    return total


def _counted(step: Conv | Dense) -> list[tuple[int, int]]:
    import numpy as np

    values, counts = np.unique(step.weight, return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))
