"""What of a graph has become part of an integer program so far, and how a step that was just made ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lhcc.approximation import calibrate as calibration
from lhcc.approximation import quantised
from lhcc.approximation.graph import Graph, attribute
from lhcc.approximation.ranges import observe
from lhcc.approximation.rounding import Rounding
from lhcc.integer import Builder

LAYERS = ("Conv", "Gemm", "MatMul")
SMOOTH = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Gelu": "gelu", "HardSwish": "hardswish"}


class State:
    """`at` says which tensor of the program stands for a tensor of the graph."""

    def __init__(self, graph: Graph, data: calibration.Calibration | None, bits: int, activation_error: float) -> None:
        self.graph, self.bits, self.activation_error = graph, bits, activation_error
        self.known = quantised.constants_of(graph)
        self.builder = Builder("NCHW")
        self.rounding = Rounding(self.builder, bits, observe(graph, self.known, data))
        self.at: dict[str, str] = {}
        self.done: set[str] = set()
        """nodes, by their first output, that became part of an earlier one's step"""

    def name_for(self, node: Any) -> str:
        """of the step that a node becomes"""
        return self.rounding.free_name(node.name or node.output[0])

    def finish(self, node: Any, x: str) -> None:
        """Takes in a ReLU that follows alone; rounds to `bits` unless the next step wants the full precision."""
        tensor, name, top = node.output[0], node.name or node.output[0], None
        follower = self.graph.only_user(tensor)
        if follower is not None and follower.op_type in ("Relu", "Clip") and bounds(self.graph, follower)[0] == 0.0:
            x = self.builder.relu(self.name_for(follower), x)
            top = bounds(self.graph, follower)[1]
            tensor = follower.output[0]
            self.done.add(tensor)
            follower = self.graph.only_user(tensor)
        if follower is not None and follower.op_type in ("QuantizeLinear", "Quant"):
            self.at[tensor] = x
        elif tensor in self.graph.outputs:
            self.at[tensor] = x
        elif follower is not None and follower.op_type == "Add" and top is None and not self._stored(follower, node):
            self.at[tensor] = self.rounding.align(f"{name}.align", x)
        else:
            wide = follower is not None and follower.op_type in (*SMOOTH, "Mul")
            self.at[tensor] = self.rounding.to_bits(
                f"{name}.round", x, 2 * self.bits if wide else self.bits, tensor, top
            )

    def _stored(self, add: Any, node: Any) -> bool:
        """Of two layers that are added up, only one can hand over its sums unrounded; the other one's are stored, so
        they are rounded: those of the smaller kernel, a residual block's shortcut, or else of the earlier layer."""
        others = [name for name in add.input if name not in node.output]
        maker = next((n for n in self.graph.nodes if others and others[0] in n.output), None)
        if maker is None or maker.op_type not in LAYERS or node.op_type not in LAYERS:
            return False
        mine, theirs = (self._taps(n) for n in (node, maker))
        return mine < theirs or (mine == theirs and others[0] not in self.at)

    def _taps(self, node: Any) -> int:
        """of one kernel of a layer"""
        return math.prod(attribute(node, "kernel_shape", None) or self.graph.shapes.get(node.input[1], [])[2:])


def bounds(graph: Graph, node: Any) -> tuple[float | None, float | None]:
    """between which a Relu or a Clip keeps what passes"""
    if node.op_type == "Relu":
        return 0.0, None
    ends = [graph.constants.get(name) for name in node.input[1:3]]
    low, high = (None if e is None else float(np.ravel(e)[0]) for e in (*ends, None, None)[:2])
    return low, high
