"""Cuts a netlist into pipeline steps: a delay model says when each node is ready, registers follow from that."""

from __future__ import annotations

from dataclasses import dataclass

from lhcc.targets.fpga.netlist import Netlist, Node

REGISTER = 0.8
"""ns for clock-to-output, set-up and the first wire of a path"""


def delay(node: Node) -> float:
    """ns through one node and the wire behind it, on an Artix-7 of speed grade 1 (a model, not a measurement)."""
    match node.kind:
        case "sum" | "difference":
            return 1.3 + 0.03 * node.bits
        case "clip" | "max":
            return 1.9 + 0.03 * node.bits
        case "reaches":
            return 1.3 + 0.015 * node.bits
        case "select":
            return 1.0
        case _:
            return 0.0


@dataclass(frozen=True)
class Schedule:
    """`step[k]` is the pipeline step in which node k is computed; a value used in a later step crosses registers."""

    step: dict[int, int]
    steps: int
    """number of steps; the outputs leave the last one through a register"""
    last_use: dict[int, int]
    """the latest step in which a node's value is read; outputs are read in the last step"""

    def crossing_bits(self, net: Netlist) -> int:
        """of registers between steps"""
        return sum(
            net.nodes[k].bits * (self.last_use[k] - s) for k, s in self.step.items() if net.nodes[k].kind != "const"
        )

    def register_bits(self, net: Netlist) -> int:
        """with those behind the last step, one for each output"""
        return self.crossing_bits(net) + sum(net.nodes[k].bits for k in net.outputs)


def schedule(net: Netlist, period: float) -> Schedule:
    """As soon as possible: a node goes to the next step when its path would no longer fit the clock period."""
    step: dict[int, int] = {}
    ready: dict[int, float] = {}
    live = net.live()
    for k in live:
        node = net.nodes[k]
        start = max((step[a] for a in node.args), default=0)
        arrival = max((ready[a] for a in node.args if step[a] == start), default=REGISTER)
        cost = delay(node)
        if cost and arrival + cost > period and arrival > REGISTER:
            start, arrival = start + 1, REGISTER
        step[k], ready[k] = start, arrival + cost
    steps = 1 + max((step[k] for k in live), default=0)
    last_use = dict(step)
    for k in live:
        for a in net.nodes[k].args:
            last_use[a] = max(last_use[a], step[k])
    for k in net.outputs:
        last_use[k] = steps - 1
    return Schedule(step, steps, last_use)
