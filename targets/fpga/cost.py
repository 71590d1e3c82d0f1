"""What a design costs on a chip, by our own model: LUTs, flip-flops and block memories, before any synthesis."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple, dataclass
from itertools import pairwise

from lhcc.integer.core import width
from lhcc.targets.fpga.folded_code import Demands
from lhcc.targets.fpga.folded_jobs import INPUTS, OUTPUTS
from lhcc.targets.fpga.folded_units import QUARTERS, ROW, places, row_bits
from lhcc.targets.fpga.netlist import Netlist, Node
from lhcc.targets.fpga.stages import AnyStage, ArrayStage, FifoStage, JoinStage, SlidingStage
from lhcc.targets.fpga.timing import Schedule
from lhcc.targets.fpga.transposed import TransposedStage

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
    """A memory with a read and a write port, in the shape of block memories that takes the fewest, the deepest of such.
    Where two of them joined are not deep enough, a LUT chooses every bit from up to four such pairs."""
    halves = {lanes: -(-bits // lanes) * -(-depth // deep) for lanes, deep in _DEPTHS.items()}
    best = min(halves, key=lambda lanes: (halves[lanes], lanes))
    pairs = -(-depth // (2 * _DEPTHS[best]))
    return Area(bits * -(-pairs // 4) if pairs > 1 else 0, 0, bits * depth, halves[best])


def logic_luts(net: Netlist) -> int:
    """Sums and comparisons on carry chains, and a LUT for every bit that is chosen."""
    total = 0
    for k in net.live():
        node = net.nodes[k]
        if net.is_adder(k):
            total += _adder_luts(net, node)
        elif node.kind == "max":
            total += node.bits * 7 // 4  # a comparison on a carry chain, and a choice
        elif node.kind == "clip":
            total += _clip_luts(net.nodes[node.args[0]], node)
        elif node.kind == "reaches":
            total += _comparison(net.nodes[node.args[0]])
        elif node.kind == "select":
            total += node.bits
    return total


def _comparison(a: Node) -> int:
    """with a constant: two bits a LUT"""
    return -(-a.bits // 2)


def _clip_luts(source: Node, node: Node) -> int:
    """One a bit of the result, which looks at the sign and at up to four bits above the result by itself."""
    luts = node.bits
    if source.high > node.high:
        above = source.bits - source.signed - node.bits
        shows = node.low >= 0 and node.high == (1 << node.bits) - 1
        luts += _comparison(source) if not shows else -(-above // 6) if above > 4 else 0
    return luts + (_comparison(source) if source.low < node.low != 0 else 0)


def _adder_luts(net: Netlist, node: Node) -> int:
    """One per bit in which both operands vary; where one is constant, the carry chain needs but an inverter."""

    def varies(a: Node, shift: int) -> range:
        return range(0) if a.kind == "const" else range(shift, node.bits if a.signed else shift + a.bits)

    first, second = (varies(net.nodes[a], s) for a, s in zip(node.args, node.data, strict=True))
    return max(0, min(first.stop, second.stop, node.bits) - max(first.start, second.start))


def _waits(net: Netlist, plan: Schedule, reset: Collection[int] = ()) -> list[tuple[int, int]]:
    """(bits, steps) of what waits three steps or longer without being read: it does so in LUTs, one a bit, and not in
    registers.  The last register of those in `reset` stays one."""
    read: dict[int, set[int]] = {k: {plan.step[k]} for k in plan.step}
    for k in plan.step:
        for a in net.nodes[k].args:
            read[a].add(plan.step[k])
    for k in net.outputs:
        read[k].add(plan.steps - (k in reset))  # the register behind the last step
    return [
        (net.nodes[k].bits, b - a)
        for k, steps in read.items() for a, b in pairwise(sorted(steps)) if b - a >= 3 and net.nodes[k].kind != "const"
    ]  # fmt: skip


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
    luts, lines, waits = logic_luts(stage.logic), Area(), _waits(stage.logic, stage.schedule)
    if isinstance(stage, TransposedStage):
        kept, net = set(stage.registers.values()), stage.products
        registers += stage.product_schedule.crossing_bits(net) + sum(net.nodes[r.node].bits for r in kept)
        registers += sum(width(*ends) for ends in stage.links[-1].sums.values())
        luts += logic_luts(net) + sum(width(*ends) for ends in stage.joins)
        waits += _waits(net, stage.product_schedule, {r.node for r in kept if r.resets})
    luts += sum(bits for bits, _ in waits)
    registers -= sum(bits * steps for bits, steps in waits)
    at_hand = isinstance(stage, SlidingStage) and stage.geometry.kernel == stage.geometry.stride == (1, 1)
    if not at_hand and not isinstance(stage, JoinStage):
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
