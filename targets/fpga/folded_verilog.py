"""Verilog of the folded array: 32 x 16 shift-add units, fed pass by pass from memories."""

from __future__ import annotations

from collections.abc import Sequence

from lhcc.targets.fpga.folded_code import Code, Field
from lhcc.targets.fpga.folded_input import Images, image
from lhcc.targets.fpga.folded_jobs import GAP, INPUTS, OUTPUTS
from lhcc.targets.fpga.folded_units import write_units


def _fields(fields: Sequence[Field], word: str) -> str:
    lines, position = [], 0
    for f in fields:
        kind = "wire signed" if f.signed else "wire"
        shape = f" [{f.bits - 1}:0]" if f.bits > 1 or f.signed else ""
        lines.append(f"  {kind}{shape} {word}_{f.name} = {word}[{position}+:{f.bits}];")
        position += f.bits
    return "\n".join(lines)


def _bits(fields: Sequence[Field]) -> int:
    return sum(f.bits for f in fields)


def write_array(name: str, code: Code, x: Images, channels: int) -> str:
    """`channels` results leave side by side when the last job makes one pixel; else 16 at a time, block by block."""
    c = code
    unit = c.weight_bits
    pixel_bits = max(1, c.pixels.bit_length())
    passes, jobs = len(c.passes), len(c.jobs)
    pass_at, job_at = max(1, passes.bit_length()), max(1, jobs.bit_length())
    groups = len(c.biases)
    group_at = max(1, groups.bit_length())
    coordinate = max(f.bits for f in c.pass_fields if f.name in ("dy", "dx")) + 2
    whole = INPUTS * c.activation_bits
    half = OUTPUTS * c.activation_bits
    image_address = f"bank_out ? {c.input_words} + address : address" if c.banks > 1 else "address"

    def top(word: str) -> str:
        """one more bit in front, so that signed comparison is right for both kinds of results"""
        return f"{word}[(o + 1) * {c.result_bits} - 1]" if c.results_signed else "1'b0"

    out_words = f"{channels}" if channels else f"{OUTPUTS}"
    return f"""{write_units(f"{name}_units", c)}
// {passes} passes in {jobs} jobs over an array of {INPUTS} x {OUTPUTS} shift-add units
module {name} (
  input wire clk, input wire rst,
  input wire [{x.bits * x.lanes - 1}:0] in_data, input wire in_valid, output wire in_ready,
  output reg [{int(out_words) * c.result_bits - 1}:0] out_data, output reg out_valid, input wire out_ready
);
  // everything stands still while a result waits to be taken
  wire go = !out_valid | out_ready;

  // ---- constants
  reg [{_bits(c.job_fields) - 1}:0] jobs [0:{jobs - 1}];
  reg [{_bits(c.pass_fields) - 1}:0] passes [0:{passes - 1}];
  reg [{INPUTS * OUTPUTS * unit - 1}:0] weights [0:{passes - 1}];
  reg [{OUTPUTS * c.accumulator_bits - 1}:0] biases [0:{groups - 1}];
  initial begin
    $readmemh("{name}_jobs.mem", jobs);
    $readmemh("{name}_passes.mem", passes);
    $readmemh("{name}_weights.mem", weights);
    $readmemh("{name}_biases.mem", biases);
  end

{image(c, x)}
  // ---- the sequencer: pass by pass, pixel by pixel; with pooling the pixels of a square follow each other
  reg [{pass_at - 1}:0] pass;
  reg [{job_at - 1}:0] job;
  reg [{group_at - 1}:0] group;
  reg [{_bits(c.pass_fields) - 1}:0] p;
  reg [{_bits(c.job_fields) - 1}:0] j;
{_fields(c.pass_fields, "p")}
{_fields(c.job_fields, "j")}
  reg [2:0] idle;  // cycles left until stored results may be read
  reg loaded;      // p and j hold the constants of `pass` and `job`
  reg [{pixel_bits - 1}:0] pixel;
  reg [1:0] square;
  reg [{c.job_fields[0].bits - 1}:0] row, column;
  reg signed [{coordinate - 1}:0] y, x;
  reg signed [{c.address_bits - 1}:0] offset;
  reg [{c.address_bits - 1}:0] out_offset;
  wire issue = loaded & idle == 0 & (full[bank_out] | !j_waits);
  wire square_done = !j_pool | square == 3;
  wire row_done = square_done & column == j_columns;
  wire pass_done = row_done & row == j_rows;
  wire job_done = pass_done & p_end_of_job;
  wire image_done = job_done & pass == {passes - 1};
  wire [{pass_at - 1}:0] next_pass = !loaded | image_done ? 0 : pass + 1'b1;
  wire [{job_at - 1}:0] next_job = !loaded | image_done ? 0 : job + 1'b1;
  always @(posedge clk) begin  // apart from all else, so that these memories have one port, and registers behind it
    if (go & (!loaded | (issue & pass_done))) p <= passes[next_pass];
    if (go & (!loaded | (issue & job_done))) j <= jobs[next_job];
  end
  assign image_released = issue & job_done & j_releases;
  wire signed [{coordinate - 1}:0] stride = j_stride;
  always @(posedge clk) if (rst) begin
    pass <= 0; job <= 0; group <= 0; idle <= 0; loaded <= 0; pixel <= 0; square <= 0; row <= 0; column <= 0;
    y <= 0; x <= 0; offset <= 0; out_offset <= 0;
  end else if (go) begin
    if (!loaded) loaded <= 1;
    else if (idle != 0) idle <= idle - 1'b1;
    else if (issue) begin
      square <= j_pool ? square + 1'b1 : 0;
      if (pass_done) begin
        pixel <= 0; row <= 0; column <= 0; y <= 0; x <= 0; offset <= 0; out_offset <= 0;
        pass <= next_pass;
        if (p_last) group <= image_done ? 0 : group + 1'b1;
        if (job_done) begin
          job <= next_job;
          idle <= {GAP};
        end
      end else begin
        pixel <= pixel + 1'b1;
        if (square_done) out_offset <= out_offset + j_out_step;
        if (row_done) begin
          row <= row + 1'b1; column <= 0; y <= y + stride; x <= 0; offset <= offset + j_next_row;
        end else if (j_pool & square == 1) begin
          row <= row + 1'b1; column <= column - 1'b1; y <= y + stride; x <= x - stride; offset <= offset + j_down;
        end else if (j_pool & square == 3) begin
          row <= row - 1'b1; column <= column + 1'b1; y <= y - stride; x <= x + stride;
          offset <= offset + j_next_square;
        end else begin
          column <= column + 1'b1; x <= x + stride; offset <= offset + j_step;
        end
      end
    end
  end

  // ---- step 1: read operands and weights
  reg [{whole - 1}:0] store_words [0:{c.words - 1}];
  wire signed [{coordinate - 1}:0] tap_y = y + p_dy, tap_x = x + p_dx;
  wire hit = tap_y >= 0 & tap_y < $signed({{1'b0, j_height}}) & tap_x >= 0 & tap_x < $signed({{1'b0, j_width}});
  wire [{c.address_bits - 1}:0] address = hit ? p_source + offset : 0;
  reg [{whole - 1}:0] from_store, from_image;
  reg [{INPUTS * OUTPUTS * unit - 1}:0] w;
  reg inside1, image1, issue1, issue2, issue3, issue4, issue5, issue6;
  reg first1, first2, first3, first4, last1, last2, last3, last4, last5, last6;
  reg done1, done2, done3, done4, done5, done6;
  reg [{pixel_bits - 1}:0] pixel1, pixel2, pixel3, pixel4;
  reg [{group_at - 1}:0] group1, group2, group3;
  reg [1:0] square1, square2, square3, square4, square5, square6;
  reg [{c.address_bits - 1}:0] target1, target2, target3, target4, target5, target6;
  reg upper1, upper2, upper3, upper4, upper5, upper6, pool1, pool2, pool3, pool4, pool5, pool6;
  reg to1, to2, to3, to4, to5, to6;
  reg [5:0] shift1, shift2, shift3, shift4, shift5;
  reg signed [{c.accumulator_bits - 1}:0] low1, low2, low3, low4, low5, high1, high2, high3, high4, high5;
  always @(posedge clk) if (go) begin
    from_store <= store_words[address];
    from_image <= image[{image_address}];
    w <= weights[pass];
    inside1 <= hit; image1 <= p_from_input;
    first1 <= p_first; last1 <= p_last; pixel1 <= pixel; group1 <= group; square1 <= square;
    done1 <= pass_done; target1 <= p_target + out_offset; upper1 <= p_upper; pool1 <= j_pool; to1 <= j_to_output;
    shift1 <= j_shift; low1 <= j_low; high1 <= j_high;
    first2 <= first1; last2 <= last1; pixel2 <= pixel1; group2 <= group1; square2 <= square1; done2 <= done1;
    target2 <= target1; upper2 <= upper1; pool2 <= pool1; to2 <= to1; shift2 <= shift1; low2 <= low1; high2 <= high1;
    first3 <= first2; last3 <= last2; pixel3 <= pixel2; group3 <= group2; square3 <= square2; done3 <= done2;
    target3 <= target2; upper3 <= upper2; pool3 <= pool2; to3 <= to2; shift3 <= shift2; low3 <= low2; high3 <= high2;
    first4 <= first3; last4 <= last3; pixel4 <= pixel3; square4 <= square3; done4 <= done3;
    target4 <= target3; upper4 <= upper3; pool4 <= pool3; to4 <= to3; shift4 <= shift3; low4 <= low3; high4 <= high3;
    last5 <= last4; square5 <= square4; done5 <= done4; target5 <= target4; upper5 <= upper4; pool5 <= pool4;
    to5 <= to4; shift5 <= shift4; low5 <= low4; high5 <= high4;
    last6 <= last5; square6 <= square5; done6 <= done5; target6 <= target5; upper6 <= upper5; pool6 <= pool5;
    to6 <= to5;
  end
  always @(posedge clk) if (rst) {{issue1, issue2, issue3, issue4, issue5, issue6}} <= 0;
    else if (go) {{issue1, issue2, issue3, issue4, issue5, issue6}} <=
      {{issue, issue1, issue2, issue3, issue4, issue5}};

  // ---- steps 2 to 6, one lane per output channel
  wire [{whole - 1}:0] operands = !inside1 ? 0 : image1 ? from_image : from_store;
  reg [{OUTPUTS * c.accumulator_bits - 1}:0] sums [0:{c.pixels - 1}];
  reg [{OUTPUTS * c.accumulator_bits - 1}:0] old, bias;
  reg [{pixel_bits - 1}:0] pixel5;
  always @(posedge clk) if (go) begin
    old <= sums[pixel3];
    bias <= biases[group3];
    pixel5 <= pixel4;
  end
  wire [{OUTPUTS * c.accumulator_bits - 1}:0] added;
  reg [{OUTPUTS * c.accumulator_bits - 1}:0] fresh;
  wire again = issue5 & pixel5 == pixel4;  // the sum was made one cycle ago and is not in memory yet
  always @(posedge clk) if (go) begin
    fresh <= added;
    if (issue4) sums[pixel4] <= added;
  end
  wire [{OUTPUTS * c.result_bits - 1}:0] result, pooled;
  reg [{OUTPUTS * c.result_bits - 1}:0] result6, best;
  genvar o;
  generate for (o = 0; o < {OUTPUTS}; o = o + 1) begin : lane
    wire signed [{c.accumulator_bits - 1}:0] total;
    {name}_units units (.clk(clk), .go(go), .operands(operands),
      .weights(w[o * {INPUTS * unit} +: {INPUTS * unit}]), .total(total));
    wire [{c.accumulator_bits - 1}:0] earlier = first4 ? bias[o * {c.accumulator_bits} +: {c.accumulator_bits}]
      : again ? fresh[o * {c.accumulator_bits} +: {c.accumulator_bits}]
      : old[o * {c.accumulator_bits} +: {c.accumulator_bits}];
    assign added[o * {c.accumulator_bits} +: {c.accumulator_bits}] = earlier + total;
    wire signed [{c.accumulator_bits - 1}:0] finished = fresh[o * {c.accumulator_bits} +: {c.accumulator_bits}];
    wire signed [{c.accumulator_bits - 1}:0] shifted = finished >>> shift5;
    wire signed [{c.accumulator_bits - 1}:0] limited = shifted < low5 ? low5 : shifted > high5 ? high5 : shifted;
    assign result[o * {c.result_bits} +: {c.result_bits}] = limited;
    wire signed [{c.result_bits}:0] mine =
      {{{top("result6")}, result6[o * {c.result_bits} +: {c.result_bits}]}};
    wire signed [{c.result_bits}:0] theirs =
      {{{top("best")}, best[o * {c.result_bits} +: {c.result_bits}]}};
    assign pooled[o * {c.result_bits} +: {c.result_bits}] = !pool6 | square6 == 0 | mine > theirs
      ? result6[o * {c.result_bits} +: {c.result_bits}] : best[o * {c.result_bits} +: {c.result_bits}];
  end endgenerate

  // ---- the result: into memory, or out
  wire write = issue6 & last6 & (!pool6 | square6 == 3);
  wire [{half - 1}:0] narrow;
  generate for (o = 0; o < {OUTPUTS}; o = o + 1) begin : keep
    assign narrow[o * {c.activation_bits} +: {c.activation_bits}] = pooled[o * {c.result_bits} +: {c.activation_bits}];
  end endgenerate
  always @(posedge clk) if (go) begin
    result6 <= result;
    best <= pooled;
    if (write & !to6 & !upper6) store_words[target6][0 +: {half}] <= narrow;
    if (write & !to6 & upper6) store_words[target6][{half} +: {half}] <= narrow;
  end
{_output(code, channels)}
endmodule
"""


def _output(c: Code, channels: int) -> str:
    """One pixel is collected whole; several leave block by block."""
    if not channels:
        return """  always @(posedge clk) if (rst) out_valid <= 0;
    else if (go) begin
      out_valid <= write & to6;
      if (write & to6) out_data <= pooled;
    end"""
    blocks = -(-channels // OUTPUTS)
    lines = [
        f"  reg [{max(1, blocks.bit_length()) - 1}:0] block;",
        "  always @(posedge clk) if (rst) begin out_valid <= 0; block <= 0; end",
        "    else if (go) begin",
        f"      out_valid <= write & to6 & block == {blocks - 1};",
        f"      if (write & to6) block <= block == {blocks - 1} ? 0 : block + 1'b1;",
    ]
    for b in range(blocks):
        first, count = b * OUTPUTS, min(OUTPUTS, channels - b * OUTPUTS)
        lines.append(
            f"      if (write & to6 & block == {b}) out_data[{first * c.result_bits} +: {count * c.result_bits}]"
            f" <= pooled[0 +: {count * c.result_bits}];"
        )
    return "\n".join([*lines, "    end"])
