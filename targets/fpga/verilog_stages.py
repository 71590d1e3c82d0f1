"""Verilog for one stage: its window buffer, its control, its pipelined logic; one readable module each."""

from __future__ import annotations

from lhcc.targets.fpga.folded_input import Images
from lhcc.targets.fpga.folded_verilog import write_array
from lhcc.targets.fpga.netlist import Netlist
from lhcc.targets.fpga.stages import (
    AccumulateStage,
    AnyStage,
    ArrayStage,
    FifoStage,
    JoinStage,
    SlidingStage,
    Stage,
    Stream,
    WindowStage,
)
from lhcc.targets.fpga.transposed import TransposedStage
from lhcc.targets.fpga.verilog_logic import LogicWriter
from lhcc.targets.fpga.verilog_text import counter_bits, identifier
from lhcc.targets.fpga.verilog_transposed import chain
from lhcc.targets.fpga.verilog_window import buffer, control


def write_stage(stage: AnyStage) -> str:
    if isinstance(stage, WindowStage):
        return "\n".join(_window(stage))
    if isinstance(stage, TransposedStage):
        return "\n".join(_transposed(stage))
    if isinstance(stage, JoinStage):
        return "\n".join(_join(stage))
    if isinstance(stage, AccumulateStage):
        return "\n".join(_accumulate(stage))
    if isinstance(stage, ArrayStage):
        (x,), y = stage.inputs, stage.output
        whole = 0 if y.lanes else y.type.channels
        images = Images(x.bits, x.lanes or x.type.channels, x.transfers, x.type.signed)
        return write_array(identifier(stage.name), stage.code, images, whole)
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
        f"// {stage.adders} adders in {stage.steps} pipeline steps",
        f"module {identifier(stage.name)} (",
        "  " + ",\n  ".join(ports),
        ");",
    ]


def _pipeline(stage: Stage, sources: dict[int, str], first_valid: str) -> list[str]:
    """The last netlist, and the valid bits that travel with it from its first registers on."""
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
    return lines + _pipeline(stage, _fit(stage.logic, sources), "take")


def _slice(name: str, channel: int, stream: Stream, stage: Stage) -> str:
    return f"{name}[{channel * stream.bits}+:{stream.bits}]"


def _fit(net: Netlist, sources: dict[int, str]) -> dict[int, str]:
    """Channel slices cut to the width of the netlist's inputs, which know each channel's own interval."""
    cut = dict(sources)
    for node in net.nodes:
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


def _sliding(stage: SlidingStage) -> tuple[list[str], dict[int, str]]:
    """The control and the window buffer; and what each wire of the first netlist reads."""
    g, (x,) = stage.geometry, stage.inputs
    lines = ["  wire advance = !out_valid | out_ready;"]
    if g.kernel == g.stride == (1, 1):  # a pixel is its own window
        lines += ["  assign in_ready = advance;", "  wire tick = advance & in_valid;", "  wire complete = 1'b1;"]
    else:
        lines += control(stage)
    taps, buffered = buffer(stage)
    sources = {}
    for index, wire in enumerate(stage.wires):
        name, channels = taps[wire.row, wire.column]
        sources[index] = f"{name}[{channels.index(wire.channel) * x.bits}+:{x.bits}]"
    return lines + buffered, sources


def _window(stage: WindowStage) -> list[str]:
    lines, sources = _sliding(stage)
    return [*_head(stage), *lines, *_pipeline(stage, _fit(stage.logic, sources), "tick & complete")]


def _transposed(stage: TransposedStage) -> list[str]:
    lines, sources = _sliding(stage)
    linked, sums, finished = chain(stage, _fit(stage.products, sources))
    return [*_head(stage), *lines, *linked, *_pipeline(stage, sums, finished)]


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
