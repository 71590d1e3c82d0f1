"""Verilog of a transposed layer: products of the entering pixel join partial sums, which wait in line memories."""

from __future__ import annotations

from lhcc.integer.core import width
from lhcc.targets.fpga.stages import Link, TransposedStage
from lhcc.targets.fpga.verilog_logic import LogicWriter, extend, literal
from lhcc.targets.fpga.verilog_text import counter_bits, ranges


def chain(stage: TransposedStage, sources: dict[int, str]) -> tuple[list[str], dict[int, str], str]:
    """Its text; the register of each finished sum, by output channel; and the condition under which they are valid."""
    net, plan = stage.products, stage.product_schedule
    writer = LogicWriter(net, plan, sources, "p")
    lines = ["  // products of the pixels at hand with every tap that they meet", *writer.body()]
    moves = []
    for k in dict.fromkeys(net.outputs):
        node = net.nodes[k]
        if node.kind != "const":
            lines.append(f"  reg [{node.bits - 1}:0] product{k};")
            moves.append(f"    product{k} <= {writer.reference(k, plan.steps - 1, node.bits)};")
    lines += ["  always @(posedge clk) if (advance) begin", *moves, "  end"] if moves else []
    lines += _companions(stage)
    sums: dict[int, str] = {}
    for number, link in enumerate(stage.links):
        lines += _link(stage, number, link, sums)
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
        lines += [
            f"  reg [{steps}:0] {name};  // the product at this tap belongs to no pixel of the output",
            f"  always @(posedge clk) if (advance) {name} <= {{{name}[{steps - 1}:0], {condition}}};",
        ]
    return lines


def _clears(stage: TransposedStage) -> bool:
    return stage.geometry.flush > 0


def _masks(stage: TransposedStage) -> dict[str, str]:
    """One condition on the entering pixel per row and per column of the transposed axes that can leave the image.

    Only padded layers need them: without padding no complete window has a tap outside."""
    g, found = stage.geometry, dict[str, str]()
    if not padded(stage):
        return found
    if stage.columns:
        for column in sorted({link.column for link in stage.links}):
            if columns := [x for x in range(g.width) if not 0 <= x - column + g.left < g.width]:
                found[f"left_by_column{column}"] = ranges("x", columns, g.width)
    if stage.rows:
        behind = 0 if stage.columns else g.behind[1]  # the window at hand may still lie in the row before
        for row in sorted({link.row for link in stage.links}):
            rows = [y for y in range(g.height) if not 0 <= y - row + g.top < g.height]
            if not rows:
                continue
            condition = ranges("y", rows, g.height)
            if behind:
                later = ranges("y", [(y + 1) % g.height for y in rows], g.height)
                early = ranges("x", list(range(behind)), g.width)
                condition = f"({early}) ? ({later}) : ({condition})"
            found[f"left_by_row{row}"] = condition
    return found


def padded(stage: TransposedStage) -> bool:
    g = stage.geometry
    return max(g.top, g.left) > 0 or g.last[0] + g.behind[0] >= g.height or g.last[1] + g.behind[1] >= g.width


def _link(stage: TransposedStage, number: int, link: Link, sums: dict[int, str]) -> list[str]:
    """The additions at one tap, and the delay until the next; `sums` names each sum before and after."""
    net, masks = stage.products, _masks(stage)
    known = {f"left_by_row{link.row}", f"left_by_column{link.column}"} & set(masks)
    outside = " | ".join(f"{name}[{stage.product_schedule.steps}]" for name in sorted(known))
    lines = [f"  // tap at row {link.row}, column {link.column} of the transposed axes"]
    before = stage.links[number - 1].sums if number else {}
    for o, ends in link.sums.items():
        bits = width(*ends)
        old = extend(sums[o], width(*before[o]), before[o][0] < 0, bits) if o in before else ""
        if o in link.products:
            node = net.nodes[net.outputs[link.products[o]]]
            name = f"product{net.outputs[link.products[o]]}"
            fresh = literal(node.low, bits) if node.kind == "const" else extend(name, node.bits, node.signed, bits)
            rest = literal(0 if old else stage.start[o], bits)
            fresh = f"({outside} ? {rest} : {fresh})" if outside else fresh
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
