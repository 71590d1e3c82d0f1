"""Verilog of the folded array's input: a memory that takes images whole, while earlier ones are computed from it."""

from __future__ import annotations

from dataclasses import dataclass

from lhcc.targets.fpga.folded_code import Code
from lhcc.targets.fpga.folded_jobs import INPUTS, OUTPUTS


@dataclass(frozen=True)
class Images:
    """How images arrive: `lanes` channels of `bits` in a transfer, `transfers` of them."""

    bits: int
    lanes: int
    transfers: int
    signed: bool


def image(c: Code, x: Images) -> str:
    """Words of 32 channels; a pixel brings all its words, a transfer of another array half of one."""
    return "\n".join([_memory(c, x), _banks(c), _halves(c, x) if c.input_lanes else _pixels(c), _FULL])


_FULL = """  always @(posedge clk) if (rst) full <= 0;
    else begin
      if (store & image_end) full[bank_in] <= 1;
      if (image_released & go) full[bank_out] <= 0;
    end
"""


def _address_bits(c: Code) -> int:
    return (c.banks * c.input_words).bit_length()


def _memory(c: Code, x: Images) -> str:
    """The memory, and what a transfer brings at the array's own width."""
    lanes = OUTPUTS if c.input_lanes else c.input_blocks * INPUTS
    kept, fill = min(x.bits, c.activation_bits), max(c.activation_bits - x.bits, 0)
    lane = f"in_data[i * {x.bits} +: {kept}]"
    if fill:
        sign = f"in_data[i * {x.bits} + {x.bits - 1}]" if x.signed else "1'b0"
        lane = f"{{{{{fill}{{{sign}}}}}, {lane}}}"
    if x.lanes < lanes:
        lane = f"i < {x.lanes} ? {lane} : 0"
    return f"""  // ---- images come in: room for {c.banks}, each held until its last reader is done
  reg [{INPUTS * c.activation_bits - 1}:0] image [0:{c.banks * c.input_words - 1}];
  reg [{_address_bits(c) - 1}:0] image_at;
  reg [{c.banks - 1}:0] full;
  wire image_released, image_end;
  wire [{lanes * c.activation_bits - 1}:0] spread;
  genvar i;
  generate for (i = 0; i < {lanes}; i = i + 1) begin : channel
    assign spread[i * {c.activation_bits} +: {c.activation_bits}] = {lane};
  end endgenerate"""


def _banks(c: Code) -> str:
    store = "  wire store = in_valid & !full[bank_in];"
    if c.banks == 1:
        only = "  wire bank_in = 1'b0, bank_out = 1'b0;"
        return f"{only}\n  wire [{_address_bits(c) - 1}:0] image_write = image_at;\n{store}"
    return f"""  reg bank_in, bank_out;
  wire [{_address_bits(c) - 1}:0] image_write = bank_in ? {c.input_words} + image_at : image_at;
{store}
  always @(posedge clk) if (rst) begin bank_in <= 0; bank_out <= 0; end
    else begin
      if (store & image_end) bank_in <= !bank_in;
      if (image_released & go) bank_out <= !bank_out;
    end"""


def _pixels(c: Code) -> str:
    """A pixel is taken with the last of its words."""
    word = INPUTS * c.activation_bits
    return f"""  reg [{max(1, c.input_blocks.bit_length()) - 1}:0] image_block;
  wire last_block = image_block == {c.input_blocks - 1};
  assign image_end = image_at == {c.input_words - 1};
  assign in_ready = !full[bank_in] & last_block;
  always @(posedge clk) begin
    if (store) image[image_write] <= spread[image_block * {word} +: {word}];
    if (rst) begin image_at <= 0; image_block <= 0; end
    else if (store) begin
      image_block <= last_block ? 0 : image_block + 1'b1;
      image_at <= image_end ? 0 : image_at + 1'b1;
    end
  end"""


def _halves(c: Code, x: Images) -> str:
    """All pixels of the first 16 channels, then all of the next 16."""
    half, pixels = OUTPUTS * c.activation_bits, c.input_words // c.input_blocks
    blocks = x.transfers // pixels
    return f"""  reg [{blocks.bit_length() - 1}:0] image_block;
  reg [{pixels.bit_length() - 1}:0] image_pixel;
  wire last_pixel = image_pixel == {pixels - 1};
  wire [{blocks.bit_length() - 1}:0] next_block = image_block + 1'b1;
  assign image_end = last_pixel & image_block == {blocks - 1};
  assign in_ready = !full[bank_in];
  always @(posedge clk) begin
    if (store & !image_block[0]) image[image_write][0 +: {half}] <= spread;
    if (store & image_block[0]) image[image_write][{half} +: {half}] <= spread;
    if (rst) begin image_at <= 0; image_block <= 0; image_pixel <= 0; end
    else if (store) begin
      image_pixel <= last_pixel ? 0 : image_pixel + 1'b1;
      if (last_pixel) image_block <= image_end ? 0 : next_block;
      image_at <= image_end ? 0 : last_pixel ? next_block >> 1 : image_at + {c.input_blocks};
    end
  end"""
