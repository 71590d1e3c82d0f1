"""Verilog for one stage: its window buffer, its control, its pipelined logic; one readable module each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lhcc.targets.fpga.folded_verilog import write_array
from lhcc.targets.fpga.stages import (
    AccumulateStage,
    AnyStage,
    ArrayStage,
    FifoStage,
    JoinStage,
    Stage,
    Stream,
    WindowStage,
)
from lhcc.targets.fpga.verilog_logic import LogicWriter, literal

_RESERVED = frozenset(
    """accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind
    bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clk clocking cmos
    config const constraint context continue cover covergroup coverpoint cross deassign default defparam
    design disable dist do edge else end endcase endclass endfunction endmodule endtask enum event eventually
    expect export extends extern final first_match for force foreach forever fork forkjoin function generate
    genvar global highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir
    include initial inout input inside instance int integer interconnect interface intersect join join_any
    join_none large let liblist library local localparam logic longint macromodule matches medium modport
    module nand negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1 null or output package
    packed parameter pmos posedge primitive priority program property protected pull0 pull1 pulldown pullup
    pure rand randc randcase randsequence rcmos real realtime ref reg reject_on release repeat restrict return
    rnmos rpmos rst rtran s_always s_eventually s_nexttime s_until scalared sequence shortint shortreal
    showcancelled signed small soft solve specify specparam static string strong strong0 strong1 struct super
    supply0 supply1 sync_accept_on table tagged task this throughout time timeprecision timeunit tran tri tri0
    tri1 triand trior trireg type typedef union unique unsigned until untyped use uwire var vectored virtual
    void wait wand weak weak0 weak1 while wildcard wire with within wor xnor xor""".split()
)
"""keywords of Verilog and SystemVerilog, and our own ports"""


def identifier(name: str) -> str:
    """A user's layer name as a Verilog identifier; `layer1.0/conv` becomes layer1_0_conv."""
    text = re.sub(r"\W", "_", name)
    return f"l_{text}" if not text or text[0].isdigit() or text in _RESERVED else text


def counter_bits(values: int) -> int:
    return max(1, (values - 1).bit_length())


def ranges(variable: str, values: Sequence[int], count: int) -> str:
    """A condition that holds for just these values of a counter that runs over range(count)."""
    bits, parts, k = counter_bits(count), list[str](), 0
    ordered = sorted(values)
    while k < len(ordered):
        first = k
        while k + 1 < len(ordered) and ordered[k + 1] == ordered[k] + 1:
            k += 1
        low, high = ordered[first], ordered[k]
        if low == high:
            parts.append(f"{variable} == {bits}'d{low}")
        elif low == 0 and high == count - 1:
            return "1'b1"
        elif low == 0:
            parts.append(f"{variable} <= {bits}'d{high}")
        elif high == count - 1:
            parts.append(f"{variable} >= {bits}'d{low}")
        else:
            parts.append(f"({variable} >= {bits}'d{low} & {variable} <= {bits}'d{high})")
        k += 1
    return " | ".join(parts) or "1'b0"


def write_stage(stage: AnyStage) -> str:
    if isinstance(stage, WindowStage):
        return "\n".join(_window(stage))
    if isinstance(stage, JoinStage):
        return "\n".join(_join(stage))
    if isinstance(stage, AccumulateStage):
        return "\n".join(_accumulate(stage))
    if isinstance(stage, ArrayStage):
        (x,), y = stage.inputs, stage.output
        whole = 0 if y.lanes else y.type.channels
        return write_array(identifier(stage.name), stage.code, x.bits, x.type.channels, x.type.signed, whole)
    raise AssertionError("FIFOs are instances of lhcc_fifo")


def _head(stage: Stage) -> list[str]:
    ports = ["input wire clk", "input wire rst"]
    for k, s in enumerate(stage.inputs):
        suffix = str(k) if len(stage.inputs) > 1 else ""
        ports += [
            f"input wire [{s.word - 1}:0] in{suffix}_data",
            f"input wire in{suffix}_valid",
            f"output wire in{suffix}_ready",
        ]
    ports += [f"output reg [{stage.output.word - 1}:0] out_data", "output wire out_valid", "input wire out_ready"]
    shapes = " and ".join("x".join(map(str, s.type.shape)) for s in stage.inputs)
    return [
        f"// {' -> '.join(stage.layers)}: {shapes} in, {'x'.join(map(str, stage.output.type.shape))} out,",
        f"// {stage.logic.adders()} adders in {stage.schedule.steps} pipeline steps",
        f"module {identifier(stage.name)} (",
        "  " + ",\n  ".join(ports),
        ");",
    ]


def _pipeline(stage: Stage, sources: dict[int, str], first_valid: str) -> list[str]:
    """The logic behind the first registers, and the valid bits that travel with it."""
    writer, steps = LogicWriter(stage.logic, stage.schedule, sources), stage.schedule.steps
    shifted = f"{{valid[{steps - 1}:0], {first_valid}}}"
    return [
        *writer.body(),
        f"  reg [{steps}:0] valid;",
        f"  assign out_valid = valid[{steps}];",
        "  always @(posedge clk) if (rst) valid <= 0;",
        f"    else if (advance) valid <= {shifted};",
        "  always @(posedge clk) if (advance)",
        f"    out_data <= {writer.outputs(stage.output.bits)};",
        "endmodule",
    ]


def _join(stage: JoinStage) -> list[str]:
    count = len(stage.inputs)
    lines = [*_head(stage), "  wire advance = !out_valid | out_ready;"]
    sources: dict[int, str] = {}
    together = " & ".join(f"in{k}_valid" for k in range(count))
    lines.append(f"  wire take = advance & {together};")
    for k, s in enumerate(stage.inputs):
        lines += [
            f"  assign in{k}_ready = take;",
            f"  reg [{s.word - 1}:0] held{k};",
            f"  always @(posedge clk) if (take) held{k} <= in{k}_data;",
        ]
        for c in range(s.type.channels):
            sources[len(sources)] = _slice(f"held{k}", c, s, stage)
    return lines + _pipeline(stage, _fit(stage, sources), "take")


def _slice(name: str, channel: int, stream: Stream, stage: Stage) -> str:
    return f"{name}[{channel * stream.bits}+:{stream.bits}]"


def _fit(stage: Stage, sources: dict[int, str]) -> dict[int, str]:
    """Channel slices cut to the width of the netlist's inputs, which know each channel's own interval."""
    cut = dict(sources)
    for node in stage.logic.nodes:
        if node.kind == "input":
            base, _, rest = sources[node.data[0]].partition("[")
            start, _, _ = rest.partition("+:")
            cut[node.data[0]] = f"{base}[{start}+:{node.bits}]"
    return cut


def _accumulate(stage: AccumulateStage) -> list[str]:
    (x,), net = stage.inputs, stage.logic
    count = counter_bits(x.pixels)
    nodes = {node.data[0]: node for node in net.nodes if node.kind == "input"}
    lines = [
        *_head(stage),
        "  wire advance = !out_valid | out_ready;",
        "  assign in_ready = advance;",
        "  wire take = advance & in_valid;",
        f"  reg [{count - 1}:0] pixel;",
        f"  wire last = pixel == {count}'d{x.pixels - 1};",
        "  always @(posedge clk) if (rst) pixel <= 0;",
        f"    else if (take) pixel <= last ? {count}'d0 : pixel + 1'b1;",
    ]
    sources = {}
    for c, node in sorted(nodes.items()):
        part = f"in_data[{c * x.bits}+:{x.bits}]"
        fill = node.bits - x.bits
        negative = int(x.type.low[c]) < 0
        top = f"in_data[{(c + 1) * x.bits - 1}]"
        if fill < 0:
            wide = f"in_data[{c * x.bits}+:{node.bits}]"
        elif fill == 0:
            wide = part
        else:
            wide = f"{{{{{fill}{{{top}}}}}, {part}}}" if negative else f"{{{fill}'d0, {part}}}"
        lines += [
            f"  reg [{node.bits - 1}:0] sum{c};",
            f"  always @(posedge clk) if (take) sum{c} <= pixel == 0 ? {wide} : sum{c} + {wide};",
        ]
        sources[c] = f"sum{c}"
    return lines + _pipeline(stage, sources, "take & last")


def _window(stage: WindowStage) -> list[str]:
    g, (x,) = stage.geometry, stage.inputs
    lines = [*_head(stage), "  wire advance = !out_valid | out_ready;"]
    if g.lag == 0 and g.stride == (1, 1):  # a pixel is its own window
        lines += ["  assign in_ready = advance;", "  wire tick = advance & in_valid;", "  wire complete = 1'b1;"]
    else:
        lines += _control(stage)
    taps, buffer = _buffer(stage)
    sources = {}
    for index, wire in enumerate(stage.wires):
        name, channels = taps[wire.row, wire.column]
        sources[index] = f"{name}[{channels.index(wire.channel) * x.bits}+:{x.bits}]"
    return lines + buffer + _pipeline(stage, _fit(stage, sources), "tick & complete")


def _control(stage: WindowStage) -> list[str]:
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


def _buffer(stage: WindowStage) -> tuple[dict[tuple[int, int], tuple[str, list[int]]], list[str]]:
    """Line memories and window registers; only channels and positions that some tap reads are kept."""
    g, (x,) = stage.geometry, stage.inputs
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
    stage: WindowStage,
    row: int,
    word: int,
    channels: list[int],
    used: dict[int, set[int]],
    taps: dict[tuple[int, int], tuple[str, list[int]]],
) -> list[str]:
    """One row of the window: pixels enter at the right and move left; taps that leave the image read `outside`."""
    g, bits = stage.geometry, stage.inputs[0].bits
    outside = literal(sum((stage.outside & ((1 << bits) - 1)) << (bits * k) for k in range(len(channels))), word)
    rows = g.rows_outside(row)
    lines, moves = [], list[str]()
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
            moves.append(_move(f"edge{row}_{column}", source, masked, outside))
        elif column in used:
            taps[row, column] = (chain, channels)
            needs_chain = True
        if needs_chain:
            lines.append(f"  reg [{word - 1}:0] {chain};")
            moves.append(_move(chain, source, masked if column < g.left else entering, outside))
        source = chain
    return [*lines, "  always @(posedge clk) if (tick) begin", *moves, "  end"]


def _move(name: str, source: str, masked: list[str], outside: str) -> str:
    condition = " | ".join(masked)
    return f"    {name} <= ({condition}) ? {outside} : {source};" if masked else f"    {name} <= {source};"


def fifo_instance(stage: FifoStage) -> str:
    return f"lhcc_fifo #(.WIDTH({stage.output.word}), .DEPTH({stage.depth}))"


FIFO = """// holds up to DEPTH words; a word is visible one cycle after it was written
module lhcc_fifo #(parameter WIDTH = 8, parameter DEPTH = 2) (
  input wire clk, input wire rst,
  input wire [WIDTH-1:0] in_data, input wire in_valid, output wire in_ready,
  output wire [WIDTH-1:0] out_data, output wire out_valid, input wire out_ready
);
  localparam A = DEPTH > 1 ? $clog2(DEPTH) : 1;
  reg [WIDTH-1:0] words [0:DEPTH-1];
  reg [A-1:0] head, tail;
  reg [A:0] count;
  assign in_ready = count != DEPTH;
  assign out_valid = count != 0;
  assign out_data = words[head];
  wire push = in_valid & in_ready;
  wire pop = out_valid & out_ready;
  always @(posedge clk) if (rst) begin
    head <= 0; tail <= 0; count <= 0;
  end else begin
    if (push) tail <= tail == DEPTH - 1 ? 0 : tail + 1'b1;
    if (pop) head <= head == DEPTH - 1 ? 0 : head + 1'b1;
    count <= count + push - pop;
  end
  always @(posedge clk) if (push) words[tail] <= in_data;
endmodule
"""
