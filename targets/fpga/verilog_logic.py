"""Verilog for a scheduled netlist: wires named by node, a register wherever a value crosses a pipeline step."""

from __future__ import annotations

from lhcc.integer.core import width
from lhcc.targets.fpga.netlist import Netlist, Node
from lhcc.targets.fpga.timing import Schedule


def literal(value: int, bits: int) -> str:
    return f"{bits}'h{value & ((1 << bits) - 1):x}"


def extend(name: str, bits: int, signed: bool, to: int) -> str:
    """A vector of `bits` at another width; narrower only where the value is known to fit."""
    if to == bits:
        return name
    if to < bits:
        return f"{name}[{to - 1}:0]"
    fill = to - bits
    return f"{{{{{fill}{{{name}[{bits - 1}]}}}}, {name}}}" if signed else f"{{{fill}'d0, {name}}}"


def _limited(text: str, condition: str, limit: int, bits: int) -> str:
    """The limit where the condition holds, bit by bit."""
    every, ones = f"{{{bits}{{{condition}}}}}", limit & ((1 << bits) - 1)
    if ones == 0:
        return f"({text} & ~{every})"
    if ones == (1 << bits) - 1:
        return f"({text} | {every})"
    return f"({text} & ~{every} | {every} & {literal(limit, bits)})"


class LogicWriter:
    """Text of one netlist.  `sources[i]` is the expression of wire i; `prefix` begins the names of all nodes."""

    def __init__(self, net: Netlist, plan: Schedule, sources: dict[int, str], prefix: str = "n") -> None:
        self.net, self.plan, self.sources, self.prefix = net, plan, sources, prefix
        self.merged = self._merged()

    def _merged(self) -> set[int]:
        """Sums that only one other sum reads, in the same step.  Synthesis would make one carry-save tree of
        both, which takes two LUTs a bit instead of one; a bit more below the lowest keeps each on its own chain."""
        users: dict[int, list[int]] = {}
        for k in self.net.live():
            for a in self.net.nodes[k].args:
                users.setdefault(a, []).append(k)
        outputs = set(self.net.outputs)
        return {
            k for k, by in users.items()
            if self.net.is_adder(k) and k not in outputs and len(by) == 1 and self.net.is_adder(by[0])
            and self.plan.step[by[0]] == self.plan.step[k]
        }  # fmt: skip

    def reference(self, k: int, step: int, bits: int) -> str:
        """Node k as seen in a step, at a width."""
        node = self.net.nodes[k]
        if node.kind == "const":
            return literal(node.low, bits)
        return extend(self._name(k, step), node.bits, node.signed, bits)

    def _name(self, k: int, step: int) -> str:
        late = step - self.plan.step[k]
        return f"{self.prefix}{k}_d{late}" if late else f"{self.prefix}{k}"

    def _upper(self, k: int, step: int, drop: int, bits: int) -> str:
        """Node k shifted right by `drop`, at a width."""
        node = self.net.nodes[k]
        if drop == 0 or node.kind == "const":
            return literal(node.low >> drop, bits) if node.kind == "const" else self.reference(k, step, bits)
        name = self._name(k, step)
        if drop >= node.bits:
            return f"{{{bits}{{{name}[{node.bits - 1}]}}}}" if node.signed else literal(0, bits)
        rest = node.bits - drop
        if bits <= rest:
            return f"{name}[{drop + bits - 1}:{drop}]"
        part = f"{name}[{node.bits - 1}:{drop}]"
        fill = bits - rest
        return f"{{{{{fill}{{{name}[{node.bits - 1}]}}}}, {part}}}" if node.signed else f"{{{fill}'d0, {part}}}"

    def _expression(self, k: int, node: Node) -> str:
        step = self.plan.step[k]
        match node.kind:
            case "input":
                return self.sources[node.data[0]]
            case "shift":
                return self._upper(node.args[0], step, node.data[0], node.bits)
            case "max":
                a, b = node.args
                x, y, bits = self._compared(a, b, step)
                return f"{x} > {y} ? {self.reference(a, step, node.bits)} : {self.reference(b, step, node.bits)}"
            case "reaches":
                return f"!({self._below(node.args[0], node.data[0], step)})"
            case _:
                condition, a, b = node.args
                then, other = self.reference(a, step, node.bits), self.reference(b, step, node.bits)
                return f"{self.reference(condition, step, 1)} ? {then} : {other}"

    def _addition(self, k: int) -> tuple[str, str, str, str]:
        """(left, sign, right, low): the low bits, where there are any, pass by the addition."""
        node, step = self.net.nodes[k], self.plan.step[k]
        (a, b), (shift_a, shift_b), bits = node.args, node.data, node.bits
        sign = "+" if node.kind == "sum" else "-"
        if node.kind == "sum" and shift_a:
            a, b, shift_a, shift_b = b, a, shift_b, shift_a
        if shift_b and shift_b < bits:
            rest = bits - shift_b
            left, right = self._upper(a, step, shift_b, rest), self.reference(b, step, rest)
            zero = self.net.nodes[a].kind == "const" and self.net.nodes[a].low >> shift_b == 0
            return "" if zero and sign == "+" else left, sign, right, self.reference(a, step, shift_b)
        left, right = self.reference(a, step, bits), self.reference(b, step, bits)
        if shift_a:
            left = f"{{{self.reference(a, step, max(bits - shift_a, 1))}, {shift_a}'d0}}"
        return left, sign, right, ""

    def _sum(self, k: int, name: str) -> list[str]:
        """The wire of a sum or difference."""
        left, sign, right, low = self._addition(k)
        bits = self.net.nodes[k].bits
        if not left:
            return [f"  wire [{bits - 1}:0] {name} = {{{right}, {low}}};"]
        if k not in self.merged:
            both = f"{left} {sign} {right}"
            return [f"  wire [{bits - 1}:0] {name} = {f'{{{both}, {low}}}' if low else both};"]
        top = bits - (self.net.nodes[k].data[1] or max(self.net.nodes[k].data) if low else 0)
        high = f"{name}_apart[{top}:1]"
        return [
            f"  wire [{top}:0] {name}_apart = {{{left}, 1'b0}} {sign} {{{right}, 1'b0}};",
            f"  wire [{bits - 1}:0] {name} = {f'{{{high}, {low}}}' if low else high};",
        ]

    def _compared(self, a: int, b: int, step: int) -> tuple[str, str, int]:
        x, y = self.net.nodes[a], self.net.nodes[b]
        bits = width(min(x.low, y.low), max(x.high, y.high))
        texts = [self.reference(k, step, bits) for k in (a, b)]
        if min(x.low, y.low) < 0:
            texts = [f"$signed({t})" for t in texts]
        return texts[0], texts[1], bits

    def _below(self, a: int, bound: int, step: int) -> str:
        """a < bound"""
        node = self.net.nodes[a]
        if bound > node.high:
            return "1'b1"
        if bound <= node.low:
            return "1'b0"
        if bound == 0:
            return f"{self._name(a, step)}[{node.bits - 1}]"
        return f"{self._signed(a, step)} < {self._constant(a, bound)}"

    def _signed(self, a: int, step: int) -> str:
        node = self.net.nodes[a]
        return f"$signed({self._name(a, step)})" if node.signed else self._name(a, step)

    def _constant(self, a: int, value: int) -> str:
        node = self.net.nodes[a]
        text = literal(value, node.bits)
        return f"$signed({text})" if node.signed else text

    def _clip(self, k: int, name: str) -> list[str]:
        """The wire of a limited value.  Limits come in by AND and OR: where a register follows, a choice between the
        value and a constant would become the register's reset, which takes a LUT for every bit beside the bit's own."""
        node, step = self.net.nodes[k], self.plan.step[k]
        a, bits = node.args[0], node.bits
        source = self.net.nodes[a]
        text, lines = self.reference(a, step, bits), list[str]()
        if source.high > node.high:
            if node.low >= 0 and node.high == (1 << bits) - 1:  # overflow shows in the bits above
                top = source.bits - 1 - source.signed
                above = f"|{self._name(a, step)}[{top}:{bits}]"
            else:
                above = f"{self._signed(a, step)} > {self._constant(a, node.high)}"
            lines.append(f"  wire {name}_above = {above};")
            text = _limited(text, f"{name}_above", node.high, bits)
        if source.low < node.low:
            lines.append(f"  wire {name}_below = {self._below(a, node.low, step)};")
            text = _limited(text, f"{name}_below", node.low, bits)
        return [*lines, f"  wire [{bits - 1}:0] {name} = {text};"]

    def body(self, enable: str = "advance") -> list[str]:
        """Declarations and registers of all live nodes; registers move while `enable` is high."""
        lines, moves = [], []
        for k in self.net.live():
            node = self.net.nodes[k]
            if node.kind == "const":
                continue
            name = f"{self.prefix}{k}"
            if node.kind in ("sum", "difference"):
                lines += self._sum(k, name)
            elif node.kind == "clip":
                lines += self._clip(k, name)
            else:
                lines.append(f"  wire [{node.bits - 1}:0] {name} = {self._expression(k, node)};")
            for late in range(1, self.plan.last_use[k] - self.plan.step[k] + 1):
                lines.append(f"  reg [{node.bits - 1}:0] {name}_d{late};")
                moves.append(f"    {name}_d{late} <= {name}{f'_d{late - 1}' if late > 1 else ''};")
        if moves:
            lines += [f"  always @(posedge clk) if ({enable}) begin", *moves, "  end"]
        return lines

    def outputs(self, bits: int) -> str:
        """All outputs side by side, channel 0 lowest, as they stand in the last step."""
        last = self.plan.steps - 1
        return "{" + ", ".join(self.reference(k, last, bits) for k in reversed(self.net.outputs)) + "}"
