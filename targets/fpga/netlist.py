"""A combinational function as a graph of small integer operations with exact intervals; widths follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from lhcc.integer.core import width


@dataclass(frozen=True)
class Node:
    """`kind` is one of KINDS; `args` are earlier nodes; `data` holds the constants that the kind needs."""

    kind: str
    args: tuple[int, ...]
    data: tuple[int, ...]
    low: int
    high: int

    @property
    def bits(self) -> int:
        return width(self.low, self.high)

    @property
    def signed(self) -> bool:
        return self.low < 0


def limited(value: int, low: int | None, high: int | None) -> int:
    """min(max(value, low), high), where a missing bound does nothing."""
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


KINDS = {
    "input": "wire number data[0] of the function",
    "const": "the integer low == high",
    "sum": "(a << data[0]) + (b << data[1])",
    "difference": "(a << data[0]) - (b << data[1])",
    "shift": "a >> data[0], arithmetic",
    "clip": "a limited to [low, high]",
    "max": "the larger of a and b",
    "reaches": "1 where a >= data[0], else 0",
    "select": "b where a is 1, else c",
}


@dataclass(frozen=True)
class Term:
    """sign * (node << shift): how a value may be referred to without spending any logic."""

    node: int
    shift: int = 0
    sign: int = 1


@dataclass
class Netlist:
    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    _known: dict[tuple[object, ...], int] = field(default_factory=dict)
    _forms: list[dict[int, int]] = field(default_factory=list)
    """per node its value as a sum of coefficient * node over nodes that are no sums; key -1 holds the constant"""

    def _add(self, kind: str, args: tuple[int, ...], data: tuple[int, ...], low: int, high: int) -> int:
        key = (kind, args, data, low, high)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self._forms.append({-1: low} if kind == "const" else {len(self.nodes): 1})
            self.nodes.append(Node(kind, args, data, low, high))
        return self._known[key]

    def _combine(self, kind: str, a: int, b: int, shift_a: int, shift_b: int) -> int:
        """A sum or difference; its interval is exact, because it is that of the whole linear form, not of a and b."""
        key = (kind, a, b, shift_a, shift_b)
        if key in self._known:
            return self._known[key]
        sign = 1 if kind == "sum" else -1
        form = {k: c << shift_a for k, c in self._forms[a].items()}
        for k, c in self._forms[b].items():
            form[k] = form.get(k, 0) + sign * (c << shift_b)
        low = high = form.get(-1, 0)
        for k, c in form.items():
            if k >= 0 and c:
                ends = (c * self.nodes[k].low, c * self.nodes[k].high)
                low, high = low + min(ends), high + max(ends)
        self._known[key] = len(self.nodes)
        self._forms.append(form)
        self.nodes.append(Node(kind, (a, b), (shift_a, shift_b), low, high))
        return self._known[key]

    def input(self, index: int, low: int, high: int) -> int:
        return self._add("input", (), (index,), low, high)

    def const(self, value: int) -> int:
        return self._add("const", (), (), value, value)

    def sum(self, a: Term, b: Term) -> Term:
        """a + b as one adder; common shifts and common signs are carried outside, where they cost nothing."""
        common = min(a.shift, b.shift)
        if a.sign == b.sign:
            first, second = sorted((a, b), key=lambda t: (t.node, t.shift))
            node = self._combine("sum", first.node, second.node, first.shift - common, second.shift - common)
            return Term(node, common, a.sign)
        plus, minus = (a, b) if a.sign > 0 else (b, a)
        node = self._combine("difference", plus.node, minus.node, plus.shift - common, minus.shift - common)
        return Term(node, common)

    def total(self, terms: Sequence[Term]) -> Term:
        """The sum of all terms as a tree that joins the shallowest, then narrowest, pair first."""
        if not terms:
            return Term(self.const(0))
        heap = [(0, self.nodes[t.node].bits + t.shift, i, t) for i, t in enumerate(terms)]
        heapify(heap)
        count = len(heap)
        while len(heap) > 1:
            (d0, _, _, a), (d1, _, _, b) = heappop(heap), heappop(heap)
            joined = self.sum(a, b)
            heappush(heap, (max(d0, d1) + 1, self.nodes[joined.node].bits + joined.shift, count, joined))
            count += 1
        return heap[0][3]

    def value(self, term: Term) -> int:
        """The node that holds the term itself: shift and sign applied."""
        if term.shift < 0:  # a graph of shared sums may hold twice what is wanted: its low bits are zeros
            return self.value(Term(self.shift(term.node, -term.shift), 0, term.sign))
        if term.sign > 0 and term.shift == 0:
            return term.node
        node = self.nodes[term.node]
        if node.kind == "const":
            return self.const(term.sign * (node.low << term.shift))
        return self._combine("sum" if term.sign > 0 else "difference", self.const(0), term.node, 0, term.shift)

    def shift(self, a: int, by: int) -> int:
        """a >> by, rounding down."""
        node = self.nodes[a]
        if node.kind == "const":
            return self.const(node.low >> by)
        return a if by == 0 else self._add("shift", (a,), (by,), node.low >> by, node.high >> by)

    def clip(self, a: int, low: int | None, high: int | None) -> int:
        node = self.nodes[a]
        lowest, highest = limited(node.low, low, high), limited(node.high, low, high)
        if lowest == highest:
            return self.const(lowest)
        if (lowest, highest) == (node.low, node.high):
            return a
        return self._add("clip", (a,), (), lowest, highest)

    def max(self, a: int, b: int) -> int:
        x, y = self.nodes[a], self.nodes[b]
        if a == b or x.low >= y.high:
            return a
        if y.low >= x.high:
            return b
        return self._add("max", (min(a, b), max(a, b)), (), max(x.low, y.low), max(x.high, y.high))

    def reaches(self, a: int, bound: int) -> int:
        return self._add("reaches", (a,), (bound,), 0, 1)

    def select(self, condition: int, then: int, other: int) -> int:
        x, y = self.nodes[then], self.nodes[other]
        return self._add("select", (condition, then, other), (), min(x.low, y.low), max(x.high, y.high))

    def evaluate(self, inputs: Sequence[int]) -> list[int]:
        """The outputs for given inputs, in Python integers; checks every interval on the way."""
        values: list[int] = []
        for n in self.nodes:
            a = [values[k] for k in n.args]
            match n.kind:
                case "input":
                    v = inputs[n.data[0]]
                case "const":
                    v = n.low
                case "sum":
                    v = (a[0] << n.data[0]) + (a[1] << n.data[1])
                case "difference":
                    v = (a[0] << n.data[0]) - (a[1] << n.data[1])
                case "shift":
                    v = a[0] >> n.data[0]
                case "clip":
                    v = min(max(a[0], n.low), n.high)
                case "max":
                    v = max(a)
                case "reaches":
                    v = int(a[0] >= n.data[0])
                case _:
                    v = a[1] if a[0] else a[2]
            assert n.low <= v <= n.high, (n, v)
            values.append(v)
        return [values[k] for k in self.outputs]

    def live(self) -> list[int]:
        """The nodes that some output needs, in order."""
        needed = set(self.outputs)
        for k in range(len(self.nodes) - 1, -1, -1):
            if k in needed:
                needed.update(self.nodes[k].args)
        return sorted(needed)

    def adders(self) -> int:
        """Additions and subtractions of the live part; a mere shift or sign of one value counts as wiring or one."""
        return sum(self.is_adder(k) for k in self.live())

    def is_adder(self, k: int) -> bool:
        node = self.nodes[k]
        if node.kind == "difference":
            return True
        return node.kind == "sum" and not (
            self.nodes[node.args[0]].kind == "const" and self.nodes[node.args[0]].low == 0
        )

    def full_adder_bits(self) -> int:
        """Bits of all adders that really add: those below the higher shift pass through."""
        bits = 0
        for k in self.live():
            if self.is_adder(k):
                node = self.nodes[k]
                passed = node.data[1] if node.kind == "difference" else max(node.data)
                bits += max(node.bits - passed, 1)
        return bits
