"""A window that slides over a stream: the counters that say where it is, the line memories and registers it sees."""

from __future__ import annotations

from lhcc.targets.fpga.stages import SlidingStage
from lhcc.targets.fpga.verilog_logic import literal
from lhcc.targets.fpga.verilog_text import counter_bits, ranges


def control(stage: SlidingStage) -> list[str]:
    g = stage.geometry
    nx, ny = counter_bits(g.width), counter_bits(g.height)
    (last_y, last_x), (sy, sx) = g.last, g.stride
    lines = [
        f"  // x, y: the pixel that enters next; ox, oy: the window that it completes, {g.lag} pixels behind it",
        f"  reg [{nx - 1}:0] x, ox;",
        f"  reg [{ny - 1}:0] y, oy;",
    ]
    filling = "1'b0"
    if g.lag:
        nf = counter_bits(g.lag + 1)
        lines.append(f"  reg [{nf - 1}:0] fill;  // pixels until the first window is complete")
        filling = "fill != 0"
    if g.flush:
        nd = counter_bits(g.flush)
        lines += [
            "  // between images: the next image pushes the last windows out; if it is not there, empty pixels do",
            "  reg draining;",
            f"  reg [{nd - 1}:0] drained;",
            f"  wire between = x == 0 & y == 0 & fill != {g.lag};",
            "  wire empty = draining | (between & !in_valid);",
            f"  wire done = empty & drained == {nd}'d{g.flush - 1};",
            "  assign in_ready = advance & !draining;",
            "  wire tick = advance & (in_valid | empty);",
        ]
    else:
        lines += ["  assign in_ready = advance;", "  wire tick = advance & in_valid;"]
    conditions = [f"!({filling})"] if g.lag else []
    phases = []
    for size, last, stride, name in ((g.height, last_y, sy, "oy"), (g.width, last_x, sx, "ox")):
        if last < size - 1:
            conditions.append(f"{name} <= {last}")
        if stride > 1:
            phases.append((name, stride, counter_bits(stride)))
            lines.append(f"  reg [{counter_bits(stride) - 1}:0] {name}_phase;")
            conditions.append(f"{name}_phase == 0")
    lines.append(f"  wire complete = {' & '.join(conditions) or chr(49) + chr(39) + 'b1'};")
    reset = ["x <= 0; y <= 0; ox <= 0; oy <= 0;"] + [f"{n}_phase <= 0;" for n, _, _ in phases]
    reset += [f"fill <= {g.lag};"] if g.lag else []
    reset += ["draining <= 0; drained <= 0;"] if g.flush else []
    restart = "rst | (tick & done)" if g.flush else "rst"
    lines += [
        f"  always @(posedge clk) if ({restart}) begin",
        *(f"    {r}" for r in reset),
        "  end else if (tick) begin",
    ]
    lines += _count("x", "y", g.width, g.height, {}, "    ")
    named = {n: (s, b) for n, s, b in phases}
    if g.lag:
        lines.append("    if (fill != 0) fill <= fill - 1'b1; else begin")
        lines += _count("ox", "oy", g.width, g.height, named, "      ")
        lines.append("    end")
    else:
        lines += _count("ox", "oy", g.width, g.height, named, "    ")
    if g.flush:
        lines.append("    if (empty) begin draining <= 1; drained <= drained + 1'b1; end")
    return [*lines, "  end"]


def _count(x: str, y: str, width: int, height: int, phases: dict[str, tuple[int, int]], pad: str) -> list[str]:
    """x runs over a row, y over the rows; phases count along with them, modulo the stride."""

    def step(name: str) -> str:
        if name not in phases:
            return ""
        stride, _ = phases[name]
        return f" {name}_phase <= {name}_phase == {stride - 1} ? 0 : {name}_phase + 1'b1;"

    def zero(name: str) -> str:
        return f" {name}_phase <= 0;" if name in phases else ""

    return [
        f"{pad}if ({x} == {width - 1}) begin",
        f"{pad}  {x} <= 0;{zero(x)}",
        f"{pad}  if ({y} == {height - 1}) begin {y} <= 0;{zero(y)} end",
        f"{pad}  else begin {y} <= {y} + 1'b1;{step(y)} end",
        f"{pad}end else begin {x} <= {x} + 1'b1;{step(x)} end",
    ]


def buffer(stage: SlidingStage) -> tuple[dict[tuple[int, int], tuple[str, list[int]]], list[str]]:
    """Line memories and window registers; only channels and positions that some tap reads are kept."""
    g, (x,) = stage.buffered, stage.inputs
    used: dict[int, dict[int, set[int]]] = {}
    for w in stage.wires:
        used.setdefault(w.row, {}).setdefault(w.column, set()).add(w.channel)
    lines: list[str] = []
    taps: dict[tuple[int, int], tuple[str, list[int]]] = {}
    previous, kept = "in_data", list(range(x.type.channels))
    for row in range(g.kernel[0] - 1, min(used, default=g.kernel[0]) - 1, -1):
        needed = sorted({c for r in used if r <= row for s in used[r].values() for c in s})
        parts = [f"{previous}[{kept.index(c) * x.bits}+:{x.bits}]" for c in reversed(needed)]
        selected = previous if needed == kept else "{" + ", ".join(parts) + "}"
        word = len(needed) * x.bits
        if row == g.kernel[0] - 1:
            lines.append(f"  wire [{word - 1}:0] row{row} = {selected};")
        else:
            lines += _line(row, word, g.width, selected)
        if row in used:
            lines += _registers(stage, row, word, needed, used[row], taps)
        previous, kept = f"row{row}", needed
    return taps, lines


def _line(row: int, word: int, length: int, source: str) -> list[str]:
    """A delay of one image row."""
    if length == 1:
        return [f"  reg [{word - 1}:0] row{row};", f"  always @(posedge clk) if (tick) row{row} <= {source};"]
    bits = counter_bits(length)
    return [
        f"  reg [{word - 1}:0] line{row} [0:{length - 1}];",
        f"  reg [{word - 1}:0] row{row};",
        f"  reg [{bits - 1}:0] line{row}_at;",
        f"  wire [{bits - 1}:0] line{row}_next = line{row}_at == {length - 1} ? {bits}'d0 : line{row}_at + 1'b1;",
        f"  always @(posedge clk) if (rst) line{row}_at <= 0; else if (tick) line{row}_at <= line{row}_next;",
        "  always @(posedge clk) if (tick) begin",
        f"    line{row}[line{row}_at] <= {source};",
        f"    row{row} <= line{row}[line{row}_next];",
        "  end",
    ]


def _registers(
    stage: SlidingStage,
    row: int,
    word: int,
    channels: list[int],
    used: dict[int, set[int]],
    taps: dict[tuple[int, int], tuple[str, list[int]]],
) -> list[str]:
    """One row of the window: pixels enter at the right and move left; taps that leave the image read `outside`."""
    g, bits = stage.buffered, stage.inputs[0].bits
    outside = literal(sum((stage.outside & ((1 << bits) - 1)) << (bits * k) for k in range(len(channels))), word)
    rows = g.rows_outside(row)
    lines = list[str]()
    moves: dict[str, list[tuple[str, str]]] = {}  # condition under which `outside` is read -> (register, source)
    source = f"row{row}"
    for column in range(g.kernel[1] - 1, min(used) - 1, -1):
        columns = g.columns_outside(column)
        entering = [ranges("y", rows, g.height)] if rows and column == g.kernel[1] - 1 else []
        masked = entering + ([ranges("x", columns, g.width)] if columns else [])
        chain = f"win{row}_{column}"
        needs_chain = column > min(used)
        if column > g.left and columns and column in used:  # later taps still need the pixel itself
            taps[row, column] = (f"edge{row}_{column}", channels)
            lines.append(f"  reg [{word - 1}:0] edge{row}_{column};")
            moves.setdefault(" | ".join(masked), []).append((f"edge{row}_{column}", source))
        elif column in used:
            taps[row, column] = (chain, channels)
            needs_chain = True
        if needs_chain:
            lines.append(f"  reg [{word - 1}:0] {chain};")
            condition = " | ".join(masked if column < g.left else entering)
            moves.setdefault(condition, []).append((chain, source))
        source = chain
    for number, (condition, registers) in enumerate(moves.items()):
        moved = [f"    {name} <= {source};" for name, source in registers]
        if condition:  # made of `tick` outside the registers: one LUT for all bits, not one each
            lines.append(f"  wire off{row}_{number} = tick & ({condition});")
            lines.append(f"  always @(posedge clk) if (off{row}_{number}) begin")
            lines += [f"    {name} <= {outside};" for name, _ in registers]
            lines += ["  end else if (tick) begin", *moved, "  end"]
        else:
            lines += ["  always @(posedge clk) if (tick) begin", *moved, "  end"]
    return lines
