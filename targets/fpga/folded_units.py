"""Verilog of the folded array's arithmetic: 32 inputs times their weights, by shifts and additions.

Every two bits of a weight, with the bit below them, say which of 0, +-x and +-2x its input adds at their place (Booth's
recoding), whatever the weight. So nothing is shifted by a variable amount, and a bit of such an addition depends on six
others: two of the input, three of the weight, one of the sum so far: a LUT with its carry, and no LUT before it.
"""

from __future__ import annotations

from lhcc.integer.core import width
from lhcc.targets.fpga.folded_code import Code
from lhcc.targets.fpga.folded_jobs import INPUTS

QUARTERS = 4
ROW = INPUTS // QUARTERS
"""inputs that are added one after the other in one cycle"""


def places(weight_bits: int) -> int:
    return -(-weight_bits // 2)


def row_bits(activation_bits: int, accumulator_bits: int) -> int:
    """of a row's sum: up to twice each input, either sign"""
    largest = ROW * 2 * ((1 << activation_bits) - 1)
    return min(width(-largest, largest), accumulator_bits)


def write_units(name: str, c: Code) -> str:
    """Three cycles from operands and weights to the total: rows of eight inputs, then two levels of additions twice."""
    count = places(c.weight_bits)
    x, part = c.activation_bits + 1, row_bits(c.activation_bits, c.accumulator_bits)
    term = min(x + 1, part)
    extend = f"{{{part - term}{{term[{term - 1}]}}}}, " if part > term else ""
    placed = [f"(place[{p}].rows <<< {2 * p})" for p in range(count)]
    while len(placed) > 1:
        pairs = [placed[k : k + 2] for k in range(0, len(placed), 2)]
        placed = [f"({' + '.join(pair)})" for pair in pairs]
    sign = "1'b0" if not c.activations_signed else f"operands[(g * {ROW} + n + 1) * {c.activation_bits} - 1]"
    return f"""// the sum of {INPUTS} inputs times weights, every two bits of which add 0, x or 2x of either sign
module {name} (
  input wire clk, input wire go,
  input wire [{INPUTS * c.activation_bits - 1}:0] operands, input wire [{INPUTS * c.weight_bits - 1}:0] weights,
  output reg signed [{c.accumulator_bits - 1}:0] total
);
  genvar p, g;
  generate for (p = 0; p < {count}; p = p + 1) begin : place
    wire [{QUARTERS * part - 1}:0] parts;
    for (g = 0; g < {QUARTERS}; g = g + 1) begin : quarter
      reg [{part - 1}:0] partial, running;
      reg [{x - 1}:0] x;
      reg [{term - 1}:0] term;
      reg signed [{c.weight_bits}:0] weight;
      reg [2:0] key;
      reg [{part}:0] carried;
      integer n;
      // a subtracted term is inverted, and the one that is missing then enters the addition as its carry
      always @* begin
        running = 0;
        for (n = 0; n < {ROW}; n = n + 1) begin
          weight = {{weights[(g * {ROW} + n) * {c.weight_bits} +: {c.weight_bits}], 1'b0}};
          key = weight >>> 2 * p;
          x = {{{sign}, operands[(g * {ROW} + n) * {c.activation_bits} +: {c.activation_bits}]}};
          term = key[1] ^ key[0] ? {{x[{x - 1}], x}} : key[2] ^ key[1] ? {{x, 1'b0}} : 0;
          term = term ^ {{{term}{{key[2]}}}};
          carried = {{running, key[2]}} + {{{extend}term, key[2]}};
          running = carried[{part}:1];
        end
      end
      always @(posedge clk) if (go) partial <= running;
      assign parts[g * {part} +: {part}] = partial;
    end
    wire signed [{part - 1}:0] a = parts[0 +: {part}], b = parts[{part} +: {part}];
    wire signed [{part - 1}:0] c = parts[{2 * part} +: {part}], d = parts[{3 * part} +: {part}];
    wire signed [{part}:0] lower = a + b, higher = c + d;
    reg signed [{part + 1}:0] rows;
    always @(posedge clk) if (go) rows <= lower + higher;
  end endgenerate
  always @(posedge clk) if (go) total <= {placed[0]};
endmodule
"""
