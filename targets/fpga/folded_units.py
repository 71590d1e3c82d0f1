"""Verilog of the folded array's arithmetic: 32 shift-add units and the sum of their products, one module an output."""

from __future__ import annotations

from lhcc.targets.fpga.folded_code import Code
from lhcc.targets.fpga.folded_jobs import INPUTS

_QUARTERS = 4


def unit_bits(c: Code) -> int:
    """of a weight: per digit whether it is used, whether it is subtracted, and its shift"""
    return c.digits * (c.shift_bits + 2)


def write_units(name: str, c: Code) -> str:
    """Three cycles from operands and weights to the total: eight units in a row, then two levels of additions."""
    digit, unit = c.shift_bits + 2, unit_bits(c)
    widen = "" if c.activations_signed else "1'b0, "
    product = c.activation_bits + (not c.activations_signed) + c.largest_shift + (c.digits - 1).bit_length() + 1
    part = min(c.accumulator_bits, product + 3)
    product = min(product, part)
    sign = f"{{{part - product}{{product[{product - 1}]}}}}, " if part > product else ""
    row = INPUTS // _QUARTERS
    return f"""// {INPUTS} units: operands shifted and added as their weights' digits say
module {name} (
  input wire clk, input wire go,
  input wire [{INPUTS * c.activation_bits - 1}:0] operands, input wire [{INPUTS * unit - 1}:0] weights,
  output reg signed [{c.accumulator_bits - 1}:0] total
);
  wire [{_QUARTERS * part - 1}:0] parts;
  genvar g;
  generate for (g = 0; g < {_QUARTERS}; g = g + 1) begin : quarter
    reg signed [{part - 1}:0] partial, running;
    reg signed [{product - 1}:0] moved, term, product;
    reg [{unit - 1}:0] code;
    reg [{digit - 1}:0] key;
    reg [{part}:0] carried;
    integer n, d, s;
    // a subtracted digit is inverted, and the one that is missing then enters an addition as its carry
    always @* begin
      running = 0;
      for (n = 0; n < {row}; n = n + 1) begin
        code = weights[(g * {row} + n) * {unit} +: {unit}];
        for (d = 0; d < {c.digits}; d = d + 1) begin
          key = code[d * {digit} +: {digit}];
          moved = $signed({{{widen}operands[(g * {row} + n) * {c.activation_bits} +: {c.activation_bits}]}});
          for (s = 0; s < {c.shift_bits}; s = s + 1) if (key[2 + s]) moved = moved <<< (1 << s);
          term = (key[0] ? moved : 0) ^ {{{product}{{key[1]}}}};
          if (d == 0) product = term;
          else begin
            carried = {{product, 1'b1}} + {{term, key[1]}};
            product = carried[{product}:1];
          end
        end
        carried = {{running, 1'b1}} + {{{sign}product, code[1]}};
        running = carried[{part}:1];
      end
    end
    always @(posedge clk) if (go) partial <= running;
    assign parts[g * {part} +: {part}] = partial;
  end endgenerate
  wire signed [{part - 1}:0] a = parts[0 +: {part}], b = parts[{part} +: {part}];
  wire signed [{part - 1}:0] c = parts[{2 * part} +: {part}], d = parts[{3 * part} +: {part}];
  reg signed [{c.accumulator_bits - 1}:0] lower, higher;
  always @(posedge clk) if (go) begin lower <= a + b; higher <= c + d; total <= lower + higher; end
endmodule
"""
