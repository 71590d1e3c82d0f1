"""Verilog of a transposed layer: products of the entering pixel join partial sums, which wait in line memories."""

from __future__ import annotations

from collections.abc import Mapping

from lhcc.integer.core import width
from lhcc.targets.fpga.transposed import Link, Register, TransposedStage
from lhcc.targets.fpga.verilog_logic import LogicWriter, extend, literal
from lhcc.targets.fpga.verilog_text import counter_bits, ranges


def chain(stage: TransposedStage, sources: dict[int, str]) -> tuple[list[str], dict[int, str], str]:
    """Its text; the register of each finished sum, by output channel; and the condition under which they are valid."""
    net, plan = stage.products, stage.product_schedule
    writer = LogicWriter(net, plan, sources, "p")
    lines = ["  // products of the pixels at hand with every tap that they meet", *writer.body()]
    lines += _companions(stage)
    products, registers = _registers(stage, writer)
    lines += registers
    sums: dict[int, str] = {}
    for number, link in enumerate(stage.links):
        lines += _link(stage, number, link, sums, products)
    finals = stage.links[-1].sums
    lines += ["  // finished sums"]
    lines += [f"  reg [{width(*ends) - 1}:0] total{o};" for o, ends in finals.items()]
    lines.append("  always @(posedge clk) if (advance) begin")
    lines += [f"    total{o} <= {sums[o]};" for o in finals]
    return [*lines, "  end"], {o: f"total{o}" for o in finals}, f"passed[{plan.steps}] & windows[{plan.steps}]"


def _companions(stage: TransposedStage) -> list[str]:
    """What must reach the sums together with the products: that a pixel entered, where it was, that a stream ended."""
    steps, masks = stage.product_schedule.steps, _masks(stage)
    ends = "tick & done" if _clears(stage) else "1'b0"
    lines = [
        f"  reg [{steps}:0] passed, windows, ended;",
        "  always @(posedge clk) if (rst) begin passed <= 0; windows <= 0; ended <= 0; end",
        "    else if (advance) begin",
        f"      passed <= {{passed[{steps - 1}:0], tick}};",
        f"      windows <= {{windows[{steps - 1}:0], complete}};",
        f"      ended <= {{ended[{steps - 1}:0], {ends}}};",
        "    end",
        f"  wire step = advance & passed[{steps}];",
        f"  wire clear = rst | (advance & ended[{steps}]);  // no sum goes on into the next stream of images",
    ]
    for name, condition in masks.items():
        moved = f"{{{name}[{steps - 2}:0], {condition}}}" if steps > 1 else condition
        lines += [
            f"  reg [{steps - 1}:0] {name};  // the product at this tap belongs to no pixel of the output",
            f"  always @(posedge clk) if (advance) {name} <= {moved};",
        ]
    return lines


def _registers(stage: TransposedStage, writer: LogicWriter) -> tuple[dict[Register, str], list[str]]:
    """The names of the products' registers, and their text."""
    nodes, late = stage.products.nodes, stage.product_schedule.steps - 1
    names, alike = dict[Register, str](), dict[str, list[Register]]()
    times: dict[int, int] = {}
    for r in dict.fromkeys(stage.registers.values()):
        times[r.node] = times.get(r.node, 0) + 1
        names[r] = f"product{r.node}" if times[r.node] == 1 else f"product{r.node}_{times[r.node]}"
        taps = {f"left_by_row{r.row}": r.row, f"left_by_column{r.column}": r.column}
        masks = [f"{name}[{late}]" for name, tap in taps.items() if tap is not None]
        alike.setdefault(" | ".join(masks), []).append(r)
    lines = list[str]()
    for number, (outside, registers) in enumerate(alike.items()):
        lines += [f"  reg [{nodes[r.node].bits - 1}:0] {names[r]};" for r in registers]
        moves = [f"    {names[r]} <= {writer.reference(r.node, late, nodes[r.node].bits)};" for r in registers]
        if outside:
            lines += [f"  wire off{number} = advance & ({outside});",
                      f"  always @(posedge clk) if (off{number}) begin",
                      *(f"    {names[r]} <= {literal(r.rest, nodes[r.node].bits)};" for r in registers),
                      "  end else if (advance) begin", *moves, "  end"]  # fmt: skip
        else:
            lines += ["  always @(posedge clk) if (advance) begin", *moves, "  end"]
    return names, lines


def _clears(stage: TransposedStage) -> bool:
    return stage.geometry.flush > 0


def _masks(stage: TransposedStage) -> dict[str, str]:
    """One condition on the entering pixel per row and per column of the transposed axes that can leave the image."""
    g, found = stage.geometry, dict[str, str]()
    behind = 0 if stage.columns else g.behind[1]  # the window at hand may still lie in the row before
    for link in stage.links:
        rows, columns = stage.left_out(link)
        if columns:
            found[f"left_by_column{link.column}"] = ranges("x", columns, g.width)
        if rows:
            condition = ranges("y", rows, g.height)
            if behind:
                later = ranges("y", [(y + 1) % g.height for y in rows], g.height)
                early = ranges("x", list(range(behind)), g.width)
                condition = f"({early}) ? ({later}) : ({condition})"
            found[f"left_by_row{link.row}"] = condition
    return found


def _link(
    stage: TransposedStage, number: int, link: Link, sums: dict[int, str], products: Mapping[Register, str]
) -> list[str]:
    """The additions at one tap, and the delay until the next; `sums` names each sum before and after."""
    net = stage.products
    lines = [f"  // tap at row {link.row}, column {link.column} of the transposed axes"]
    before = stage.links[number - 1].sums if number else {}
    for o, ends in link.sums.items():
        bits = width(*ends)
        old = extend(sums[o], width(*before[o]), before[o][0] < 0, bits) if o in before else ""
        if o in link.products:
            node = net.nodes[net.outputs[link.products[o]]]
            register = stage.registers.get((number, o))
            fresh = literal(node.low, bits)
            if register is not None:
                fresh = extend(products[register], node.bits, node.signed, bits)
            old = f"{old} + {fresh}" if old else fresh
        lines.append(f"  wire [{bits - 1}:0] sum{number}_{o} = {old};")
        sums[o] = f"sum{number}_{o}"
    if link.delay:
        lines += _delay(stage, number, link)
        at = 0
        for o, ends in link.sums.items():
            bits = width(*ends)
            sums[o] = f"later{number}_{o}"
            lines.append(f"  wire [{bits - 1}:0] later{number}_{o} = later{number}[{at}+:{bits}];")
            at += bits
    return lines


def _delay(stage: TransposedStage, number: int, link: Link) -> list[str]:
    """All sums wait for `delay` pixels; what has not been written since the last clear counts as not begun."""
    if not link.sums:
        return []
    word = "{" + ", ".join(f"sum{number}_{o}" for o in reversed(link.sums)) + "}"
    start = "{" + ", ".join(literal(stage.start[o], width(*e)) for o, e in reversed(link.sums.items())) + "}"
    kept = f"  reg [{link.word - 1}:0] later{number};"
    if link.delay == 1:
        return [kept, "  always @(posedge clk)",
                f"    if (clear) later{number} <= {start}; else if (step) later{number} <= {word};"]  # fmt: skip
    last, bits = link.delay - 1, counter_bits(link.delay)
    line, at = f"wait{number}", f"wait{number}_at"
    return [
        kept,
        f"  reg [{link.word - 1}:0] {line} [0:{last}];",
        f"  reg [{bits - 1}:0] {at};",
        f"  reg {line}_full;",
        f"  wire [{bits - 1}:0] {line}_next = {at} == {last} ? {bits}'d0 : {at} + 1'b1;",
        f"  always @(posedge clk) if (clear) begin {at} <= 0; {line}_full <= 0; end",
        f"    else if (step) begin {at} <= {line}_next; if ({at} == {last}) {line}_full <= 1; end",
        f"  always @(posedge clk) if (step) {line}[{at}] <= {word};",
        f"  wire {line}_begins = clear | (step & !({line}_full | {at} == {last}));",
        f"  always @(posedge clk) if ({line}_begins) later{number} <= {start};",
        f"    else if (step) later{number} <= {line}[{line}_next];",
    ]
