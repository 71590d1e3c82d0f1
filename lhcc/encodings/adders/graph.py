"""The adder graph: two-operand shift-and-add nodes whose exact coefficients, ranges, widths and depth are all known."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lhcc.encodings.adders.network import SumNetwork

_LARGEST = 1 << 62


@dataclass(frozen=True)
class Adder:
    """(left << left_shift) + (right << right_shift), or minus; one of the shifts is 0."""

    left: int
    right: int
    left_shift: int
    right_shift: int
    subtract: bool


@dataclass(frozen=True)
class Output:
    """A node times 2^shift, negated where told; node -1 is the constant 0."""

    node: int
    shift: int
    negative: bool


@dataclass(frozen=True)
class AdderGraph:
    """Nodes 0 .. inputs - 1 are the inputs; node inputs + k is `operations[k]`, which reads earlier nodes only."""

    inputs: int
    operations: tuple[Adder, ...]
    outputs: tuple[Output, ...]

    @classmethod
    def from_network(cls, network: SumNetwork, exponent: int = 0) -> AdderGraph:
        """Every sum as a tree that is as flat as its terms allow; the outputs are scaled by 2^exponent."""
        builder = _Builder(network.inputs)
        for k in network.order():
            builder.place(network.inputs + k, network.sums[k])
        outputs = []
        for k in range(network.outputs):
            node, shift, neg = builder.where[network.inputs + k]
            outputs.append(Output(node, shift + exponent if node >= 0 else 0, bool(neg)))
        return cls(network.inputs, tuple(builder.operations), tuple(outputs))

    @property
    def adders(self) -> int:
        """Additions and subtractions. Shifts are wires; a negated output is left to whoever reads it."""
        return len(self.operations)

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        level = np.zeros(self.inputs + len(self.operations), dtype=np.int64)
        for k, op in enumerate(self.operations):
            level[self.inputs + k] = 1 + max(level[op.left], level[op.right])
        return level

    @property
    def depth(self) -> int:
        return max((int(self.levels[out.node]) for out in self.outputs if out.node >= 0), default=0)

    @cached_property
    def vectors(self) -> NDArray[np.int64]:
        """The exact integer coefficients of every node, one row per node."""
        rows = np.zeros((self.inputs + len(self.operations), self.inputs), dtype=np.int64)
        rows[: self.inputs] = np.eye(self.inputs, dtype=np.int64)
        reach = [1] * self.inputs
        for k, op in enumerate(self.operations):
            reach.append((reach[op.left] << op.left_shift) + (reach[op.right] << op.right_shift))
            if reach[-1] >= _LARGEST:
                raise OverflowError(f"node {self.inputs + k} may reach {reach[-1]}, beyond 62 bits")
            right = rows[op.right] << op.right_shift
            rows[self.inputs + k] = (rows[op.left] << op.left_shift) + (-right if op.subtract else right)
        return rows

    def coefficients(self) -> NDArray[np.int64] | NDArray[np.float64]:
        """The matrix (inputs, outputs) that the graph computes: int64, or exact float64 where outputs are fractions."""
        lowest = min((out.shift for out in self.outputs), default=0)
        columns = np.zeros((self.inputs, len(self.outputs)), dtype=np.int64)
        for o, out in enumerate(self.outputs):
            if out.node >= 0:
                column = self.vectors[out.node] << (out.shift - min(lowest, 0))
                columns[:, o] = -column if out.negative else column
        return np.ldexp(columns.astype(np.float64), lowest) if lowest < 0 else columns

    def computes(self, matrix: ArrayLike) -> bool:
        """Whether the graph computes exactly this matrix: algebra, not sampling."""
        return np.array_equal(self.coefficients(), np.asarray(matrix))

    def __call__(self, x: ArrayLike) -> NDArray[np.int64] | NDArray[np.float64]:
        """Runs every adder on integers of shape (..., inputs): (..., outputs), exact."""
        values = np.asarray(x, dtype=np.int64)
        nodes = [values[..., i] for i in range(self.inputs)]
        for op in self.operations:
            left, right = nodes[op.left] << op.left_shift, nodes[op.right] << op.right_shift
            nodes.append(left - right if op.subtract else left + right)
        lowest = min(min((out.shift for out in self.outputs), default=0), 0)
        result = np.zeros((*values.shape[:-1], len(self.outputs)), dtype=np.int64)
        for o, out in enumerate(self.outputs):
            if out.node >= 0:
                value = nodes[out.node] << (out.shift - lowest)
                result[..., o] = -value if out.negative else value
        return np.ldexp(result.astype(np.float64), lowest) if lowest < 0 else result

    def ranges(self, low: ArrayLike = -128, high: ArrayLike = 127) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The exact smallest and largest value of every node, for inputs anywhere in [low, high] (per input or all)."""
        lows = np.broadcast_to(np.asarray(low, dtype=np.int64), (self.inputs,))
        highs = np.broadcast_to(np.asarray(high, dtype=np.int64), (self.inputs,))
        above, below = np.maximum(self.vectors, 0), np.minimum(self.vectors, 0)
        least = np.asarray(above @ lows + below @ highs, dtype=np.int64)
        most = np.asarray(above @ highs + below @ lows, dtype=np.int64)
        return least, most

    def widths(self, low: ArrayLike = -128, high: ArrayLike = 127) -> NDArray[np.int64]:
        """Bits of every node: two's complement where it can be negative, unsigned where it cannot."""
        pairs = zip(*self.ranges(low, high), strict=True)
        return np.array([width(int(a), int(b)) for a, b in pairs], dtype=np.int64)

    def full_adder_bits_for(self, low: ArrayLike = -128, high: ArrayLike = 127) -> int:
        """Full-adder cells: the width of every result, less the low bits that pass through unchanged."""
        bits = self.widths(low, high)
        total = 0
        for k, op in enumerate(self.operations):
            passed = op.right_shift if op.subtract else max(op.left_shift, op.right_shift)
            total += max(int(bits[self.inputs + k]) - passed, 0)
        return total

    @property
    def full_adder_bits(self) -> int:
        """Full-adder cells for signed 8-bit inputs."""
        return self.full_adder_bits_for()

    def __str__(self) -> str:
        return (
            f"{self.inputs} -> {len(self.outputs)}: {self.adders} adders, depth {self.depth}, "
            f"{self.full_adder_bits} full-adder bits for int8"
        )


def width(low: int, high: int) -> int:
    """Bits that hold every integer of [low, high]."""
    return high.bit_length() if low >= 0 else max((-low - 1).bit_length(), high.bit_length()) + 1


class _Builder:
    """Turns sums into adders one by one; remembers where each node of the network ended up."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.operations: list[Adder] = []
        self.known: dict[Adder, int] = {}
        self.level = [0] * inputs
        self.where = {i: (i, 0, 0) for i in range(inputs)}

    def place(self, name: int, terms: list[tuple[int, int, int]]) -> None:
        """Adds the two shallowest terms until one is left: no tree of these terms is flatter."""
        heap = []
        for src, shift, neg in terms:
            node, extra, flip = self.where[src]
            if node >= 0:
                heap.append((self.level[node], shift + extra, node, neg ^ flip))
        heapq.heapify(heap)
        while len(heap) > 1:
            heapq.heappush(heap, self.add(heapq.heappop(heap), heapq.heappop(heap)))
        self.where[name] = (heap[0][2], heap[0][1], heap[0][3]) if heap else (-1, 0, 0)

    def add(self, a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        (_, shift_a, node_a, neg_a), (_, shift_b, node_b, neg_b) = a, b
        if (neg_a and not neg_b) or (neg_a == neg_b and node_b < node_a):
            shift_a, node_a, shift_b, node_b = shift_b, node_b, shift_a, node_a
        subtract, base = neg_a != neg_b, min(shift_a, shift_b)
        adder = Adder(node_a, node_b, shift_a - base, shift_b - base, subtract)
        node = self.known.get(adder)
        if node is None:
            node = self.known[adder] = self.inputs + len(self.operations)
            self.operations.append(adder)
            self.level.append(1 + max(self.level[node_a], self.level[node_b]))
        return self.level[node], base, node, int(neg_a and neg_b)
