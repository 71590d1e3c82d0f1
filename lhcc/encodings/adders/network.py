"""A network of n-ary sums of signed, shifted terms: what the search edits, before it becomes two-operand adders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Term = tuple[int, int, int]
"""(source node, left shift, 1 if subtracted); nodes 0 .. inputs - 1 are the inputs, the sums follow."""


def signed_digits(value: int) -> list[tuple[int, int]]:
    """Canonical signed digits of an integer as (shift, negative): the fewest powers of two, no two adjacent."""
    digits = []
    flip = int(value < 0)
    value, shift = abs(value), 0
    while value:
        if value & 1:
            minus = int(value & 3 == 3)
            digits.append((shift, minus ^ flip))
            value += 1 if minus else -1
        value >>= 1
        shift += 1
    return digits


@dataclass(frozen=True)
class SumNetwork:
    """`sums[k]` defines node `inputs + k`; the first `outputs` sums are the outputs. Sums may stand in any order."""

    inputs: int
    outputs: int
    sums: list[list[Term]]

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.int64]) -> SumNetwork:
        """Every output as the plain sum of the signed digits of its column: nothing shared yet."""
        columns = [
            [(i, shift, neg) for i in np.flatnonzero(column).tolist() for shift, neg in signed_digits(int(column[i]))]
            for column in matrix.T
        ]
        return cls(matrix.shape[0], matrix.shape[1], columns)

    @property
    def adders(self) -> int:
        return sum(max(len(terms) - 1, 0) for terms in self.sums)

    @property
    def pairs(self) -> int:
        """Pairs of terms within sums: what a search over this network has to count."""
        return sum(len(terms) * (len(terms) - 1) // 2 for terms in self.sums)

    @classmethod
    def joined(cls, parts: list[SumNetwork]) -> SumNetwork:
        """Networks over consecutive inputs with the same outputs, added up: the rows of their matrices stacked."""
        inputs, outputs = sum(part.inputs for part in parts), parts[0].outputs
        sums: list[list[Term]] = [[] for _ in range(outputs)]
        first = 0
        for part in parts:
            inner = inputs + len(sums)
            moved: list[list[Term]] = []
            for terms in part.sums:
                renamed = []
                for src, shift, neg in terms:
                    if src < part.inputs:
                        renamed.append((first + src, shift, neg))
                    else:
                        renamed.append((inner + src - part.inputs, shift, neg))
                moved.append(renamed)
            sums.extend(moved)
            for o in range(outputs):
                sums[o].append((inner + o, 0, 0))
            first += part.inputs
        return cls(inputs, outputs, sums)

    def order(self) -> list[int]:
        """Indices of the sums, each after the sums that it reads."""
        done: set[int] = set()
        order: list[int] = []
        stack = [(k, False) for k in reversed(range(len(self.sums)))]
        while stack:
            k, ready = stack.pop()
            if ready:
                order.append(k)
            elif k not in done:
                done.add(k)
                stack.append((k, True))
                stack.extend((src - self.inputs, False) for src, _, _ in self.sums[k] if src >= self.inputs)
        return order

    def levels(self) -> list[int]:
        """Adder levels of every node when each sum becomes the flattest possible tree."""
        level = [0] * (self.inputs + len(self.sums))
        for k in self.order():
            load = sum(1 << level[src] for src, _, _ in self.sums[k])
            level[self.inputs + k] = max(load - 1, 0).bit_length()
        return level

    @property
    def depth(self) -> int:
        return max(self.levels()[self.inputs : self.inputs + self.outputs], default=0)

    def transposed(self) -> SumNetwork:
        """The network of the transposed matrix: every edge reversed; it needs adders + inputs - outputs additions."""
        new_inputs, new_outputs = self.outputs, self.inputs
        sums: list[list[Term]] = [[] for _ in range(new_outputs + len(self.sums))]

        def renamed(node: int) -> int:
            return node if node < self.inputs else node - self.inputs + new_outputs

        for k, terms in enumerate(self.sums):
            for src, shift, neg in terms:
                sums[renamed(src)].append((new_inputs + new_outputs + k, shift, neg))
        for k in range(self.outputs):
            sums[new_outputs + k].append((k, 0, 0))
        return SumNetwork(new_inputs, new_outputs, sums)

    def packed(self) -> NDArray[np.int32]:
        """(length, then source, shift, negative per term) per sum: the form in which networks cross into C."""
        flat: list[int] = []
        for terms in self.sums:
            flat.append(len(terms))
            for term in terms:
                flat.extend(term)
        return np.array(flat, dtype=np.int32)

    @classmethod
    def unpacked(cls, inputs: int, outputs: int, flat: NDArray[np.int32]) -> SumNetwork:
        values = flat.tolist()
        sums: list[list[Term]] = []
        at = 0
        while at < len(values):
            end = at + 1 + 3 * values[at]
            sums.append([(values[i], values[i + 1], values[i + 2]) for i in range(at + 1, end, 3)])
            at = end
        return cls(inputs, outputs, sums)
